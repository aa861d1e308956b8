//! What was read of files whose file system may keep a reader waiting: the loop serves it from here.
//!
//! A block belongs to the version that its file showed *after* the block was read, so no other bytes than
//! those promised are among them (I6). All of them together are bounded; the one that was not used for
//! longest goes first. A content is held as long as there are blocks of it, so that a file that is asked for
//! now and then is not read each time.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::service::ContentId;

/// Bytes of a block.
pub(super) const BLOCK: u64 = 256 << 10;
/// Bytes of all blocks.
const BYTES_MAX: usize = 16 << 20;
/// And how many, as most files are small.
const BLOCKS_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    all: FxHashMap<(ContentId, u64), Block>,
    by_use: BTreeMap<u64, (ContentId, u64)>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Block {
    bytes: Box<[u8]>,
    used: u64,
}

impl Blocks {
    /// Places bytes from `offset` on at the front of `into`, if they are here.
    pub(super) fn read(&mut self, id: ContentId, offset: u64, into: &mut [u8]) -> Option<usize> {
        let Self { all, by_use, uses, .. } = self;
        let key = (id, offset / BLOCK);
        let block = all.get_mut(&key)?;
        by_use.remove(&block.used);
        *uses += 1;
        block.used = *uses;
        by_use.insert(*uses, key);
        let rest = block.bytes.get(usize::try_from(offset % BLOCK).ok()?..)?;
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Some(count)
    }

    pub(super) fn has(&self, id: ContentId, number: u64) -> bool {
        self.all.contains_key(&(id, number))
    }

    /// Keeps a block, for which its content is held. Returns whether there was none of that number.
    pub(super) fn insert(&mut self, id: ContentId, number: u64, bytes: Box<[u8]>) -> bool {
        if self.has(id, number) {
            return false;
        }
        self.uses += 1;
        self.bytes += bytes.len();
        self.by_use.insert(self.uses, (id, number));
        self.all.insert((id, number), Block { bytes, used: self.uses });
        true
    }

    /// Lets go of a block if there are too many, and returns whose hold that ends.
    pub(super) fn next_surplus(&mut self) -> Option<ContentId> {
        if self.bytes <= BYTES_MAX && self.all.len() <= BLOCKS_MAX {
            return None;
        }
        let (_, key) = self.by_use.pop_first()?;
        self.bytes -= self.all.remove(&key)?.bytes.len();
        Some(key.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_makes_room() {
        let mut blocks = Blocks::default();
        let mut gone = Vec::new();
        let mut byte = [0];
        for n in 0..200 {
            assert!(blocks.insert(ContentId(n), 1, vec![n as u8; BLOCK as usize].into()));
            gone.extend(core::iter::from_fn(|| blocks.next_surplus()));
            assert!(blocks.bytes <= BYTES_MAX);
            assert_eq!(blocks.read(ContentId(0), BLOCK + 7, &mut byte), Some(1));
        }
        assert_eq!(gone, (1..137).map(ContentId).collect::<Vec<_>>());
        assert_eq!((blocks.all.len(), blocks.by_use.len()), (64, 64));
        assert_eq!(blocks.read(ContentId(199), 2 * BLOCK - 1, &mut [0; 9]), Some(1), "its end");
        assert_eq!(blocks.read(ContentId(199), 0, &mut byte), None, "another block");
        assert!(!blocks.insert(ContentId(199), 1, [1].into()), "it is there");
    }

    #[test]
    fn small_ones_are_counted_as_well() {
        let mut blocks = Blocks::default();
        for n in 0..3000 {
            blocks.insert(ContentId(n), 0, [7].into());
            while blocks.next_surplus().is_some() {}
        }
        assert_eq!((blocks.all.len(), blocks.bytes), (BLOCKS_MAX, BLOCKS_MAX));
    }
}
