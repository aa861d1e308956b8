//! A queue of very many, in chunks.

use std::collections::VecDeque;

/// Entries in one chunk.
const CHUNK: usize = 256;

/// First in, first out, or last out. What is in it is never moved to a larger place, beyond one chunk.
#[derive(Debug, Clone)]
pub struct Queue<T> {
    /// None of them is empty, but for one that is alone.
    chunks: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Queue<T> {
    /// An empty one, without memory.
    pub const fn new() -> Self {
        Self { chunks: VecDeque::new(), len: 0 }
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts one behind all others.
    pub fn push_back(&mut self, entry: T) {
        self.len += 1;
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push_back(entry),
            Some(_) | None => self.push_chunk(entry),
        }
    }

    fn push_chunk(&mut self, entry: T) {
        // The first one grows with what there is, and the others are like it.
        let room = if self.chunks.is_empty() { 0 } else { CHUNK };
        let mut chunk = VecDeque::with_capacity(room);
        chunk.push_back(entry);
        self.chunks.push_back(chunk);
    }

    /// The first one.
    pub fn front(&self) -> Option<&T> {
        self.chunks.front()?.front()
    }

    /// The entry that has so many before it.
    pub fn get_mut(&mut self, mut index: usize) -> Option<&mut T> {
        // All but the first one and the last are full.
        let first = self.chunks.front()?.len();
        if index < first {
            return self.chunks.front_mut()?.get_mut(index);
        }
        index -= first;
        self.chunks.get_mut(1 + index / CHUNK)?.get_mut(index % CHUNK)
    }

    /// Takes the first one.
    pub fn pop_front(&mut self) -> Option<T> {
        let entry = self.chunks.front_mut()?.pop_front()?;
        self.len -= 1;
        if self.chunks.len() > 1 && self.chunks.front().is_some_and(VecDeque::is_empty) {
            self.chunks.pop_front();
        }
        Some(entry)
    }

    /// Takes the last one.
    pub fn pop_back(&mut self) -> Option<T> {
        let entry = self.chunks.back_mut()?.pop_back()?;
        self.len -= 1;
        if self.chunks.len() > 1 && self.chunks.back().is_some_and(VecDeque::is_empty) {
            self.chunks.pop_back();
        }
        Some(entry)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Drops a piece of it. `false`: there was none left.
    pub fn pop_piece(&mut self) -> bool {
        let Some(chunk) = self.chunks.pop_back() else { return false };
        self.len -= chunk.len();
        true
    }

    /// Entries that it has room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.chunks.iter().map(VecDeque::capacity).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_crowd_leaves_little_room_behind() {
        let mut queue = Queue::new();
        (0..100_000).for_each(|entry| queue.push_back(entry));
        assert!(core::iter::from_fn(|| queue.pop_front()).eq(0..100_000));
        assert!(queue.capacity() <= CHUNK, "{}", queue.capacity());
        assert!(queue.is_empty());
    }

    #[test]
    fn it_is_taken_apart_a_chunk_at_a_time() {
        let mut queue = Queue::new();
        (0..1000).for_each(|entry| queue.push_back(entry));
        let mut before = queue.len();
        while queue.pop_piece() {
            assert!(before - queue.len() <= CHUNK);
            before = queue.len();
        }
        assert_eq!(queue.len(), 0);
        queue.push_back(1);
        assert_eq!(queue.pop_front(), Some(1), "and can be used again");
    }

    proptest! {
        #[test]
        fn agrees_with_a_deque(steps in prop::collection::vec((0..4, 0usize..400), 0..60)) {
            let (mut queue, mut model) = (Queue::new(), VecDeque::new());
            for (what, count) in steps {
                for entry in 0..count {
                    match what {
                        0 => prop_assert_eq!(queue.pop_front(), model.pop_front()),
                        1 => prop_assert_eq!(queue.pop_back(), model.pop_back()),
                        _ => {
                            queue.push_back(entry);
                            model.push_back(entry);
                        }
                    }
                }
                prop_assert_eq!((queue.len(), queue.front()), (model.len(), model.front()));
                for index in [0, 1, count, model.len().wrapping_sub(1), model.len()] {
                    prop_assert_eq!(queue.get_mut(index), model.get_mut(index));
                }
            }
            prop_assert!(queue.iter().eq(model.iter()));
        }
    }
}
