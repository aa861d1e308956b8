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
/// The same where it takes a helper to find out, and the loop cannot even ask the descriptor.
pub(super) const BELIEVED_FAR: Duration = Duration::from_secs(1);
/// Names remembered at a time, of each document root.
const NAMES_MAX: usize = 256;

/// Names of files, by document root and path.
#[derive(Debug)]
pub(super) struct Names(Vec<Home>);

/// Those of one root.
#[derive(Debug)]
struct Home {
    known: FxHashMap<Box<str>, ContentId>,
    /// Oldest first, each until when it is believed.
    by_age: VecDeque<(Instant, Box<str>)>,
    believed: Duration,
}

impl Names {
    /// For each document root, whether it is near.
    pub(super) fn new(roots: impl Iterator<Item = bool>) -> Self {
        let home = |near| Home {
            known: FxHashMap::default(),
            by_age: VecDeque::new(),
            believed: if near { BELIEVED } else { BELIEVED_FAR },
        };
        Self(roots.map(home).collect())
    }

    pub(super) fn get(&self, root: u16, path: &str) -> Option<ContentId> {
        self.0.get(usize::from(root))?.known.get(path).copied()
    }

    /// Remembers a name that is not known. The content is held for it.
    pub(super) fn add(&mut self, now: Instant, root: u16, path: &str, content: ContentId) {
        let Some(home) = self.0.get_mut(usize::from(root)) else { return };
        home.known.insert(path.into(), content);
        home.by_age.push_back((now + home.believed, path.into()));
    }

    /// Forgets a name that led astray.
    pub(super) fn remove(&mut self, root: u16, path: &str) {
        if let Some(home) = self.0.get_mut(usize::from(root)) {
            home.known.remove(path);
            home.by_age.retain(|(_, known)| **known != *path);
        }
    }

    /// Forgets a name whose time is over, or that there is no room for, and returns whose hold
    /// that ends.
    pub(super) fn next_stale(&mut self, now: Instant) -> Option<ContentId> {
        self.0.iter_mut().find_map(|home| {
            let (until, _) = home.by_age.front()?;
            if *until > now && home.by_age.len() <= NAMES_MAX {
                return None;
            }
            let (_, path) = home.by_age.pop_front()?;
            home.known.remove(&path)
        })
    }
}
