//! Where things are, by the hash of their name: many small maps instead of one.

use hashbrown::HashTable;

/// Maps; and from which bit of a hash on it says which. Those below choose a bucket in it, those above
/// tell two of one bucket apart.
const SHARDS: usize = 1 << 10;
const SHARD_SHIFT: u32 = 15;
/// Maps that are dropped together.
const SHARDS_A_PIECE: usize = 32;

/// A number for each of very many hashes: a slot, say, in which the name itself is, and need not be here
/// again. The hash is here, so that a map can grow without a look at every name.
#[derive(Debug, Default)]
pub struct Places {
    /// None, or all of them.
    shards: Vec<HashTable<Place>>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    number: u32,
}

/// The hash as a map takes it: its low bits choose a bucket, its high bits tell apart.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

const fn shard_of(hash: u32) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}

impl Places {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number under `hash` that `is_it` knows.
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = self.shards.get(shard_of(hash))?;
        let found = shard.find(spread(hash), |place| place.hash == hash && is_it(place.number))?;
        Some(found.number)
    }

    /// Puts `number` under `hash`, beside others that may be there.
    pub fn insert(&mut self, hash: u32, number: u32) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARDS, HashTable::new);
        }
        let again = |place: &Place| spread(place.hash);
        self.shards[shard_of(hash)].insert_unique(spread(hash), Place { hash, number }, again);
        self.len += 1;
    }

    /// Takes out the number under `hash` that `is_it` knows.
    pub fn remove(&mut self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let shard = self.shards.get_mut(shard_of(hash))?;
        let is_it = |place: &Place| place.hash == hash && is_it(place.number);
        let (place, _) = shard.find_entry(spread(hash), is_it).ok()?.remove();
        self.len -= 1;
        Some(place.number)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.shards.iter().flatten().map(|place| place.number)
    }

    /// Drops a piece of it. `false`: there was none left.
    pub fn pop_piece(&mut self) -> bool {
        let left = self.shards.len().saturating_sub(SHARDS_A_PIECE);
        let was_empty = self.shards.is_empty();
        self.len -= self.shards.drain(left..).map(|shard| shard.len()).sum::<usize>();
        !was_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes as good as any.
    fn hash(number: u32) -> u32 {
        number.wrapping_mul(0x9e37_79b9).rotate_left(7).wrapping_mul(0x85eb_ca6b)
    }

    /// The map that grows is small, whatever all of them have.
    #[test]
    fn one_entry_more_moves_few_others() {
        let mut places = Places::default();
        (0..300_000).for_each(|number| places.insert(hash(number), number));
        let most = places.shards.iter().map(HashTable::len).max();
        assert!(
            most.is_some_and(|most| most < 2 * 300_000 / SHARDS),
            "{most:?} in one of the maps"
        );
        assert_eq!(places.len(), 300_000);
    }

    #[test]
    fn what_is_put_is_found_until_it_is_taken() {
        let mut places = Places::default();
        (0..5000).for_each(|number| places.insert(hash(number / 2), number));
        for number in 0..5000 {
            assert_eq!(places.find(hash(number / 2), |found| found == number), Some(number));
        }
        for number in (0..5000).step_by(2) {
            assert_eq!(places.remove(hash(number / 2), |found| found == number), Some(number));
            assert_eq!(places.remove(hash(number / 2), |found| found == number), None);
        }
        let mut left: Vec<u32> = places.iter().collect();
        left.sort_unstable();
        assert_eq!((left.len(), places.len()), (2500, 2500));
        assert!(left.iter().all(|number| number % 2 == 1));
    }

    #[test]
    fn it_is_taken_apart_a_few_maps_at_a_time() {
        let mut places = Places::default();
        assert!(!places.pop_piece() && places.is_empty(), "an empty one has no pieces");
        (0..50_000).for_each(|number| places.insert(hash(number), number));
        let mut before = places.len();
        while places.pop_piece() {
            assert!(before - places.len() < 2 * 50_000 / SHARDS * SHARDS_A_PIECE);
            before = places.len();
        }
        assert!(places.is_empty());
    }
}
