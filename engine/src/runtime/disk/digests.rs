//! What is known of contents: the hash of each version of each file that was read in full.
//!
//! Helpers write, the loop reads. It never waits for them for longer than it takes to move one
//! entry: there are many shards, none of which grows large, and who walks over all of them (to
//! write them down) locks one at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;

use super::stamp::Stamp;

/// Versions remembered, in all. The oldest are forgotten.
pub(super) const DIGESTS_MAX: usize = 1 << 18;
const SHARDS: usize = 256;

/// The hash of a content.
pub(super) type Hash = [u8; 32];

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Digests {
    shards: Vec<RwLock<Shard>>,
    /// Counts what was learnt, so that what was written down already is not written again.
    learnt: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    /// `None`: it cannot be read, or is too large.
    known: FxHashMap<Stamp, Option<Hash>>,
    by_age: VecDeque<Stamp>,
}

impl Default for Digests {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, learnt: AtomicU64::new(0) }
    }
}

impl Digests {
    /// What is known of a version; `Some(None)`: that there will be no hash of it.
    pub(super) fn get(&self, stamp: &Stamp) -> Option<Option<Hash>> {
        self.shard(stamp).read().known.get(stamp).copied()
    }

    /// Remembers a hash, or that there is none to be had.
    pub(super) fn learn(&self, stamp: Stamp, hash: Option<Hash>) {
        let mut shard = self.shard(&stamp).write();
        if shard.known.insert(stamp, hash) == Some(hash) {
            return;
        }
        self.learnt.fetch_add(1, Ordering::Relaxed);
        shard.by_age.push_back(stamp);
        while shard.by_age.len() > DIGESTS_MAX / SHARDS
            && let Some(oldest) = shard.by_age.pop_front()
        {
            shard.known.remove(&oldest);
        }
    }

    /// How often something was learnt.
    pub(super) fn learnt(&self) -> u64 {
        self.learnt.load(Ordering::Relaxed)
    }

    /// Everything that has a hash.
    pub(super) fn all(&self) -> Vec<(Stamp, Hash)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            let hash = |stamp: &Stamp| Some((*stamp, (*shard.known.get(stamp)?)?));
            all.extend(shard.by_age.iter().filter_map(hash));
        }
        all
    }

    fn shard(&self, stamp: &Stamp) -> &RwLock<Shard> {
        // Not the bits that the shard's own table goes by.
        let hash = FxBuildHasher.hash_one(stamp) >> 40;
        &self.shards[hash as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp { device: 1, inode, length: 2, modified: 3, changed: 4 }
    }

    #[test]
    fn what_was_learnt_is_known_until_there_is_too_much_of_it() {
        let digests = Digests::default();
        assert_eq!(digests.get(&stamp(7)), None);
        digests.learn(stamp(7), Some([7; 32]));
        digests.learn(stamp(7), Some([7; 32]));
        digests.learn(stamp(8), None);
        assert_eq!(digests.get(&stamp(7)), Some(Some([7; 32])));
        assert_eq!(digests.get(&stamp(8)), Some(None));
        assert_eq!(digests.get(&Stamp { changed: 5, ..stamp(7) }), None, "another version");
        assert_eq!((digests.learnt(), digests.all()), (2, vec![(stamp(7), [7; 32])]));
        for inode in 0..2 * DIGESTS_MAX as u64 {
            digests.learn(stamp(1000 + inode), Some([1; 32]));
        }
        let count = digests.all().len();
        assert!((DIGESTS_MAX / 2..=DIGESTS_MAX).contains(&count), "{count}");
        assert_eq!(digests.get(&stamp(7)), None, "the oldest went first");
    }
}
