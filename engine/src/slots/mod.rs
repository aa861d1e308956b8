//! Containers for very many things, none of which ever does its work for all of them at once.
//!
//! A vector that doubles, a map that is hashed anew and a list that is dropped cost nothing on average and
//! hundreds of milliseconds now and then, where a million connections stand in it; a loop that stands still
//! for so long is taken for dead. So these grow and go a piece at a time:
//!
//! ```text
//!   Slots    ▢▢▢▢ ▢▢▢▢ ▢▢··       things by number, in chunks that never move
//!   Places   hash ─► one of many small maps, each of which grows alone
//!   Queue    ▢▢▢▢ ▢▢▢▢ ▢▢         first in, first out, in chunks
//!   Roll     a queue whose entries lapse where they stand; swept a few at a time
//! ```
//!
//! One that is dropped is taken apart with `pop_piece`, a few pieces a turn.

mod places;
mod queue;
mod roll;

pub use places::Places;
pub use queue::Queue;
pub use roll::Roll;

/// Slots in one chunk.
const CHUNK: usize = 512;
const WORDS: usize = CHUNK / 64;

/// Things by number. A number that is free is known at once, and so is the lowest one.
#[derive(Debug)]
pub struct Slots<T> {
    /// Those that nobody has been in are not there.
    chunks: Vec<Option<Box<Chunk<T>>>>,
    /// Which chunks have room, a bit for each.
    roomy: Vec<u64>,
    /// The words of `roomy` before this are zero.
    first_roomy: usize,
    end: usize,
    len: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    taken: [u64; WORDS],
    count: usize,
    slots: [Option<T>; CHUNK],
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), roomy: Vec::new(), first_roomy: 0, end: 0, len: 0 }
    }
}

impl<T> Slots<T> {
    /// How many are taken.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none is taken.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All that ever were taken lie before this one.
    pub const fn end(&self) -> usize {
        self.end
    }

    /// The lowest slot that is free.
    pub fn vacant(&self) -> usize {
        let words = self.roomy.iter().enumerate().skip(self.first_roomy);
        let mut roomy = words.filter(|(_, word)| **word != 0);
        let Some((at, word)) = roomy.next() else { return self.chunks.len() * CHUNK };
        let chunk = at * 64 + word.trailing_zeros() as usize;
        let free = self.chunks[chunk].as_deref().map_or(0, Chunk::vacant);
        chunk * CHUNK + free
    }

    /// Puts `thing` into slot `index`. Gives it back if somebody is there.
    pub fn insert(&mut self, index: usize, thing: T) -> Result<(), T> {
        let (chunk, slot) = (index / CHUNK, index % CHUNK);
        while self.chunks.len() <= chunk {
            let at = self.chunks.len();
            self.chunks.push(None);
            if at.is_multiple_of(64) {
                self.roomy.push(0);
            }
            self.set_roomy(at, true);
        }
        let found = self.chunks[chunk].get_or_insert_with(|| Box::new(Chunk::new()));
        if found.slots[slot].is_some() {
            return Err(thing);
        }
        found.slots[slot] = Some(thing);
        found.taken[slot / 64] |= 1 << (slot % 64);
        found.count += 1;
        if found.count == CHUNK {
            self.set_roomy(chunk, false);
        }
        self.len += 1;
        self.end = self.end.max(index + 1);
        Ok(())
    }

    /// Takes out whoever is in slot `index`.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        let (chunk, slot) = (index / CHUNK, index % CHUNK);
        let found = self.chunks.get_mut(chunk)?.as_deref_mut()?;
        let thing = found.slots[slot].take()?;
        found.taken[slot / 64] &= !(1 << (slot % 64));
        found.count -= 1;
        self.set_roomy(chunk, true);
        self.len -= 1;
        Some(thing)
    }

    /// The tenant of slot `index`.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.as_deref()?.slots[index % CHUNK].as_ref()
    }

    /// The tenant of slot `index`, to be changed.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index / CHUNK)?.as_deref_mut()?.slots[index % CHUNK].as_mut()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flat_map(|chunk| chunk.slots.iter().flatten())
    }

    /// Those of the last piece. `None`: there is none left.
    pub fn pop_piece(&mut self) -> Option<impl Iterator<Item = T> + use<T>> {
        let piece = self.chunks.pop()?;
        self.len -= piece.as_deref().map_or(0, |chunk| chunk.count);
        let at = self.chunks.len();
        self.roomy[at / 64] &= !(1 << (at % 64));
        self.roomy.truncate(at.div_ceil(64));
        self.first_roomy = self.first_roomy.min(at / 64);
        self.end = self.end.min(at * CHUNK);
        Some(piece.into_iter().flat_map(|chunk| chunk.slots.into_iter().flatten()))
    }

    fn set_roomy(&mut self, chunk: usize, roomy: bool) {
        let word = chunk / 64;
        let bit = 1 << (chunk % 64);
        if roomy {
            self.roomy[word] |= bit;
            self.first_roomy = self.first_roomy.min(word);
            return;
        }
        self.roomy[word] &= !bit;
        if self.roomy[word] == 0 && word == self.first_roomy {
            self.first_roomy += 1;
        }
    }
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Self { taken: [0; WORDS], count: 0, slots: [const { None }; CHUNK] }
    }

    fn vacant(&self) -> usize {
        let word = self.taken.iter().position(|word| *word != u64::MAX).unwrap_or(0);
        word * 64 + self.taken[word].trailing_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A thing has its address for life: whatever comes, it is not copied to a larger place.
    #[test]
    fn what_is_there_never_moves() {
        let mut slots = Slots::default();
        assert!(slots.insert(0, 0usize).is_ok());
        let first = core::ptr::from_ref(slots.get(0).expect("it was put there"));
        (1..100_000)
            .for_each(|at| assert_eq!((slots.vacant(), slots.insert(at, at)), (at, Ok(()))));
        assert!(core::ptr::eq(first, slots.get(0).expect("it is there")));
    }

    #[test]
    fn it_is_taken_apart_a_chunk_at_a_time() {
        let mut slots = Slots::default();
        (0..5000).for_each(|at| assert!(slots.insert(at, at).is_ok()));
        let mut left = 5000;
        while let Some(piece) = slots.pop_piece() {
            let count = piece.count();
            assert!(count <= CHUNK);
            left -= count;
            assert_eq!(slots.len(), left);
        }
        assert_eq!((left, slots.is_empty()), (0, true));
        assert_eq!((slots.vacant(), slots.insert(0, 7), slots.end()), (0, Ok(()), 1));
    }

    #[test]
    fn a_far_slot_costs_one_chunk() {
        let mut slots = Slots::default();
        assert!(slots.insert(1 << 20, 1).is_ok());
        assert_eq!(slots.chunks.iter().flatten().count(), 1);
        assert_eq!((slots.vacant(), slots.end()), (0, (1 << 20) + 1));
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((any::<bool>(), 0usize..3000), 0..4000)) {
            let (mut slots, mut model) = (Slots::default(), BTreeMap::new());
            for (puts, at) in steps {
                // Mostly the lowest, as owners do.
                let at = if puts && at % 4 > 0 { slots.vacant() } else { at };
                if puts {
                    prop_assert_eq!(slots.insert(at, at).is_ok(), model.insert(at, at).is_none());
                } else {
                    prop_assert_eq!(slots.remove(at), model.remove(&at));
                }
                let vacant = (0..).find(|at| !model.contains_key(at));
                prop_assert_eq!((slots.len(), Some(slots.vacant())), (model.len(), vacant));
            }
            prop_assert_eq!(slots.iter().collect::<Vec<_>>(), model.values().collect::<Vec<_>>());
        }
    }
}
