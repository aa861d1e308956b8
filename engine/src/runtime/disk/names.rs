//! What paths led to a moment ago, so that a file that everybody asks for is not opened for each.
//!
//! A name holds its content, and is forgotten soon, whether it was used or not. It says where to
//! look and not what is there: whoever uses it asks the descriptor whether it is still that file.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::service::ContentId;
use crate::time::{Duration, Instant};

/// How long what a path led to is believed. Longer than a turn of the loop, and too short for
/// anybody who renames a directory to notice.
const BELIEVED: Duration = Duration::from_millis(10);
/// Names remembered at a time.
const NAMES_MAX: usize = 256;

/// Names of files, by document root and path.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: Vec<FxHashMap<Box<str>, ContentId>>,
    /// Oldest first, each until when it is believed.
    by_age: VecDeque<(Instant, u16, Box<str>)>,
}

impl Names {
    pub(super) fn new(roots: usize) -> Self {
        Self { known: vec![FxHashMap::default(); roots], ..Self::default() }
    }

    pub(super) fn get(&self, root: u16, path: &str) -> Option<ContentId> {
        self.known.get(usize::from(root))?.get(path).copied()
    }

    /// Remembers a name that is not known. The content is held for it.
    pub(super) fn add(&mut self, now: Instant, root: u16, path: &str, content: ContentId) {
        let Some(known) = self.known.get_mut(usize::from(root)) else { return };
        known.insert(path.into(), content);
        self.by_age.push_back((now + BELIEVED, root, path.into()));
    }

    /// Forgets a name that led astray.
    pub(super) fn remove(&mut self, root: u16, path: &str) {
        if let Some(known) = self.known.get_mut(usize::from(root)) {
            known.remove(path);
        }
        self.by_age.retain(|(_, r, p)| (*r, &**p) != (root, path));
    }

    /// Forgets a name whose time is over, or that there is no room for, and returns whose hold
    /// that ends.
    pub(super) fn next_stale(&mut self, now: Instant) -> Option<ContentId> {
        let (until, ..) = self.by_age.front()?;
        if *until > now && self.by_age.len() <= NAMES_MAX {
            return None;
        }
        let (_, root, path) = self.by_age.pop_front()?;
        self.known.get_mut(usize::from(root))?.remove(&path)
    }
}
