//! The versions of files that somebody holds, and the descriptors that are open for them.

use std::fs::File;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use slab::Slab;

use super::digests::Hash;
use super::helper::Found;
use super::stamp::Stamp;
use crate::service::{ContentId, Facts};
use crate::time::{Duration, Instant};

/// Descriptors kept open.
const FILES_MAX: usize = 512;

/// How the loop comes by a content's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    /// Those in the page cache, and a helper brings the others there.
    Cached,
    /// As anybody would: the file system is nothing but memory.
    Plain,
    /// From what a helper has read: any other call might wait.
    Blocks,
}

/// One version of one file that someone holds.
#[derive(Debug)]
pub(super) struct Content {
    serial: u32,
    holds: u32,
    pub(super) stamp: Stamp,
    /// How many names the file has.
    pub(super) links: u64,
    /// Whether its times had settled when it was first held: whatever was written since has moved
    /// them, and a hash taken later is of what was given out before.
    pub(super) settled: bool,
    /// The hash, once somebody wanted it.
    pub(super) hash: Option<Hash>,
    pub(super) root: u16,
    pub(super) path: Box<str>,
    pub(super) file: Option<Arc<File>>,
    /// When its names were last found to lead to it. Once in a turn of the loop is enough: what is
    /// read is checked again.
    pub(super) seen_at: Instant,
    /// Read since the hand came by.
    pub(super) used: bool,
    /// Fetches at `fetched_at` that brought nothing.
    pub(super) fetches: u8,
    pub(super) fetched_at: u64,
    /// Whether the loop may ask the descriptor how it is.
    pub(super) near: bool,
    /// How the loop reads.
    pub(super) reading: Reading,
    /// Which version a helper saw last, if its hash has to tell whether it is still this one.
    pub(super) seen: Option<(Stamp, u64)>,
    pub(super) failed: bool,
}

impl Content {
    pub(super) const fn facts(&self) -> Facts {
        let Self { stamp: Stamp { modified, length, .. }, hash, .. } = *self;
        Facts { length, modified, hash }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Contents {
    all: Slab<Content>,
    by_stamp: FxHashMap<Stamp, usize>,
    /// Tells a slot's tenants apart, in the upper half of a [`ContentId`].
    serial: u32,
    pub(super) open_files: usize,
    pub(super) files_max: usize,
    /// Where the search for a descriptor to close goes on.
    hand: usize,
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            all: Slab::new(),
            by_stamp: FxHashMap::default(),
            serial: 0,
            open_files: 0,
            files_max: FILES_MAX,
            hand: 0,
        }
    }
}

impl Index<usize> for Contents {
    type Output = Content;

    fn index(&self, key: usize) -> &Content {
        &self.all[key]
    }
}

impl IndexMut<usize> for Contents {
    fn index_mut(&mut self, key: usize) -> &mut Content {
        &mut self.all[key]
    }
}

impl Contents {
    /// The content of an open file: one that is held already, or a new one that nobody holds yet.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        (root, path): (u16, &str),
        Found { file, stamp, links, near }: Found,
    ) -> usize {
        let settled = stamp.unsettled() == Duration::ZERO;
        if let Some(&key) = self.by_stamp.get(&stamp)
            && (self.all[key].settled || !settled)
        {
            if self.all[key].file.is_none() {
                self.give_file(key, file);
            }
            return key;
        }
        self.serial = self.serial.wrapping_add(1);
        let key = self.all.insert(Content {
            serial: self.serial,
            holds: 0,
            stamp,
            links,
            settled,
            hash: None,
            root,
            path: path.into(),
            file: None,
            seen_at: now,
            used: true,
            fetches: 0,
            fetched_at: 0,
            near,
            reading: if near { Reading::Cached } else { Reading::Blocks },
            seen: None,
            failed: false,
        });
        self.by_stamp.insert(stamp, key);
        self.give_file(key, file);
        key
    }

    pub(super) fn give_file(&mut self, key: usize, file: Arc<File>) {
        while self.open_files >= self.files_max && self.close_one() {}
        self.all[key].file = Some(file);
        self.open_files += 1;
    }

    /// Closes the first descriptor that was not used since the hand came by. Returns whether there
    /// was one to close.
    fn close_one(&mut self) -> bool {
        let end = self.all.capacity();
        // The second time round nothing is marked as used any more.
        for _ in 0..2 * end {
            self.hand = (self.hand + 1) % end;
            let Some(content) = self.all.get_mut(self.hand) else { continue };
            if content.file.is_some() && !core::mem::take(&mut content.used) {
                content.file = None;
                self.open_files -= 1;
                return true;
            }
        }
        false
    }

    /// Another version of the same bytes: something else about the file has changed.
    pub(super) fn touch(&mut self, key: usize, stamp: Stamp, links: u64) {
        self.unlist(key);
        let content = &mut self.all[key];
        (content.stamp, content.links) = (stamp, links);
    }

    pub(super) fn hold(&mut self, key: usize) -> ContentId {
        self.all[key].holds += 1;
        self.id(key)
    }

    /// Ends a hold.
    pub(super) fn release(&mut self, id: ContentId) {
        let key = self.key(id);
        assert!(key.is_some(), "a hold is released once");
        if let Some(key) = key {
            self.all[key].holds -= 1;
            self.drop_unheld(key);
        }
    }

    /// Forgets a content that nobody holds.
    pub(super) fn drop_unheld(&mut self, key: usize) {
        if self.all[key].holds == 0 {
            self.unlist(key);
            let content = self.all.remove(key);
            self.open_files -= usize::from(content.file.is_some());
        }
    }

    fn unlist(&mut self, key: usize) {
        let stamp = self.all[key].stamp;
        if self.by_stamp.get(&stamp) == Some(&key) {
            self.by_stamp.remove(&stamp);
        }
    }

    pub(super) fn id(&self, key: usize) -> ContentId {
        ContentId(u64::from(self.all[key].serial) << 32 | key as u64)
    }

    pub(super) fn key(&self, id: ContentId) -> Option<usize> {
        let key = usize::try_from(id.0 & 0xffff_ffff).ok()?;
        let content = self.all.get(key)?;
        (u64::from(content.serial) == id.0 >> 32).then_some(key)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}
