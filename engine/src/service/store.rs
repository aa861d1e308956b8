//! Stored content as the core sees it: looked up, verified against a pin, read by offset.
//!
//! A service has no disk. It asks a [`Store`], which may know at once, or say [`Lookup::Pending`]
//! and be asked again later. Whatever the store answers the primary is pinned into the log; the
//! standby never decides by its own store, it only asks whether its copy is the pinned one:
//!
//! ```text
//!   primary   lookup("a.html") ── Found(facts) ──► pin ──► head and body of the reply
//!   standby   pin(facts) ──► the same head; verify("a.html", facts) ──► may it take over? (I7)
//! ```
//!
//! A copy is the pinned one if its content hash is. A file that the primary had not hashed when its
//! reply began is pinned without one; [`Store::hash`] tells it later.
//!
//! The runtime implements this over a directory, [`MemoryStore`] over a map.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::collections::BTreeMap;
use std::hash::Hasher as _;

use crate::time::Instant;

/// What is known of one version of a file; what a reply's pin carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Length in bytes.
    pub length: u64,
    /// Time of last modification, in nanoseconds since 1970; earlier times count as 1970. A client
    /// is told of it, and nothing else follows from it: two copies may agree in it by chance.
    pub modified: u64,
    /// Digest of the content, once it has been computed. Both nodes use the same function.
    pub hash: Option<[u8; 32]>,
}

impl Facts {
    /// Is a copy with the facts `own` the content that was pinned as `self`? The hash alone
    /// decides (I6): copies of one length and one time of modification may hold other bytes.
    #[must_use]
    pub fn compare(&self, own: &Self) -> Comparison {
        match (self.hash, own.hash) {
            _ if self.length != own.length => Comparison::Differs(Difference::Length),
            (None, _) => Comparison::Differs(Difference::Unpinned),
            (Some(pinned), Some(own)) if pinned == own => Comparison::Same,
            (Some(_), Some(_)) => Comparison::Differs(Difference::Content),
            (Some(_), None) => Comparison::Unknown,
        }
    }
}

/// The outcome of [`Facts::compare`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// The same content.
    Same,
    /// Not the same, as far as anybody knows.
    Differs(Difference),
    /// Our own hash has to be computed before anyone can say.
    Unknown,
}

/// Why a copy does not stand in for the pinned content.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Difference {
    /// There is no such file, or it is not to be served.
    #[error("there is no such file here")]
    Missing,
    /// It is longer or shorter.
    #[error("the copy here has another length")]
    Length,
    /// It has other bytes.
    #[error("the copy here has other bytes")]
    Content,
    /// Whoever sends it had not computed the hash when the reply began.
    #[error("its content had not been hashed when the reply began")]
    Unpinned,
    /// It changed while it was being sent.
    #[error("it changed while it was being sent")]
    Changed,
    /// Its hash cannot be had: it cannot be read, or is larger than what is hashed.
    #[error("the copy here cannot be hashed: it is too large (hash-largest), or unreadable")]
    Unhashable,
}

/// A hold on one version of one file, given by [`Store::lookup`] or [`Store::verify`] and ended by
/// exactly one [`Store::release`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ContentId(pub u64);

/// The answer to "what is at this path?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// A regular file. The hold is the caller's to release.
    Found(Facts, ContentId),
    /// A directory.
    Directory,
    /// Nothing.
    NotFound,
    /// Something, but not to be served.
    Forbidden,
    /// Not known yet. Ask again when [`Store::answered`] names the question.
    Pending,
}

/// The answer to "is your copy the pinned one?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verified {
    /// It is. The hold is the caller's to release.
    Match(ContentId),
    /// It is not, or nobody can say that it is.
    Differs(Difference),
    /// Not known yet. Ask again when [`Store::answered`] names the question.
    Pending,
}

/// The answer to "give me these bytes".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// So many bytes were placed; fewer than asked for is no sign of an end.
    Ready(usize),
    /// They have to be fetched first. Ask again when [`Store::answered`] names the question.
    Pending,
    /// They no longer exist: the content changed, or was never the right one.
    Gone,
}

/// What somebody waits for who was not given the answer that he wanted. Many may wait for the same; no
/// number is used for another question later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Question(pub u64);

/// Where files come from. `root` is the number of the port's document root, `path` is relative to
/// it: normal UTF-8 components joined by single slashes, never empty, never `.` or `..`, without
/// NUL or backslash. Symbolic links that lead out of the root are the store's to refuse.
pub trait Store {
    /// What is at `path` now?
    fn lookup(&mut self, root: u16, path: &str) -> Lookup;

    /// Is the file at `path` the content pinned as `pinned` (see [`Facts::compare`])?
    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified;

    /// Places bytes from `offset` on at the front of `into`. Must say [`Read::Gone`] once length
    /// or time of modification have moved since the hold was given: those bytes are another
    /// file's. Never `Ready(0)` for a non-empty `into` within the length.
    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read;

    /// Ends a hold.
    fn release(&mut self, content: ContentId);

    /// The digest of a content that was held before it was known, if it is known by now: of the very
    /// bytes that this hold gives.
    fn hash(&mut self, content: ContentId) -> Option<[u8; 32]>;

    /// What the answer given last leaves open, if that was `Pending` or [`Verified::Differs`]: after that
    /// one, whether the copy has become another.
    fn question(&mut self) -> Question;

    /// A question to which there is another answer now, each once; `None`: no other. It may be the same
    /// answer again: that something else has to be waited for is a reason to ask anew, too.
    fn answered(&mut self) -> Option<Question>;

    /// Nobody waits for the answer any more.
    fn forget(&mut self, _question: Question) {}

    /// It is `now`: time to let go of what was kept for a while only.
    fn on_timer(&mut self, _now: Instant) {}
}

/// A [`Store`] in memory, for tests and the simulator. Its switches make it as slow and as
/// treacherous as a disk can be.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    files: BTreeMap<(u16, String), File>,
    holds: BTreeMap<u64, Hold>,
    next_hold: u64,
    open: Open,
    /// While set, nothing is known yet: every question is answered `Pending`.
    pub pending: bool,
    /// While set, no hash is known.
    pub unhashed: bool,
    /// At most so many bytes are given per read; 0 means no such limit.
    pub read_limit: usize,
}

/// The questions that are open: one for whoever waits for the same thing to happen.
#[derive(Clone, Debug, Default)]
struct Open {
    serial: u64,
    last: u64,
    /// Until the disk is not busy any more, until hashes are known, until a file changes.
    pending: Option<u64>,
    unhashed: Option<u64>,
    differs: Option<u64>,
    changed: bool,
}

impl Open {
    fn ask(&mut self, what: fn(&mut Self) -> &mut Option<u64>) {
        let fresh = self.serial + 1;
        self.last = *what(self).get_or_insert(fresh);
        self.serial = self.serial.max(self.last);
    }
}

#[derive(Clone, Debug)]
struct File {
    modified: u64,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Bytes(Vec<u8>, [u8; 32]),
    Forbidden,
}

#[derive(Clone, Debug)]
struct Hold {
    key: (u16, String),
    facts: Facts,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates or replaces a file, modified at `modified` nanoseconds since 1970.
    pub fn put(&mut self, root: u16, path: &str, content: impl Into<Vec<u8>>, modified: u64) {
        let bytes = content.into();
        let hash = digest(&bytes);
        let content = Content::Bytes(bytes, hash);
        self.files.insert((root, path.to_owned()), File { modified, content });
        self.open.changed = true;
    }

    /// Creates a file that exists and is not to be served.
    pub fn forbid(&mut self, root: u16, path: &str) {
        let file = File { modified: 0, content: Content::Forbidden };
        self.files.insert((root, path.to_owned()), file);
    }

    /// Removes a file. Holds on it read `Gone` from now on.
    pub fn remove(&mut self, root: u16, path: &str) {
        self.files.remove(&(root, path.to_owned()));
        self.open.changed = true;
    }

    /// How many holds have been given and not released.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.holds.len()
    }

    fn facts(&self, key: &(u16, String)) -> Option<Facts> {
        let file = self.files.get(key)?;
        let Content::Bytes(bytes, hash) = &file.content else { return None };
        let hash = (!self.unhashed).then_some(*hash);
        Some(Facts { length: bytes.len() as u64, modified: file.modified, hash })
    }

    fn hold(&mut self, key: (u16, String), facts: Facts) -> ContentId {
        self.next_hold += 1;
        self.holds.insert(self.next_hold, Hold { key, facts });
        ContentId(self.next_hold)
    }

    fn is_directory(&self, root: u16, path: &str) -> bool {
        let inside = format!("{path}/");
        self.files
            .range((root, inside.clone())..)
            .next()
            .is_some_and(|((r, p), _)| *r == root && p.starts_with(&inside))
    }
}

impl Store for MemoryStore {
    fn lookup(&mut self, root: u16, path: &str) -> Lookup {
        let key = (root, path.to_owned());
        if self.pending {
            self.open.ask(|open| &mut open.pending);
            Lookup::Pending
        } else if let Some(facts) = self.facts(&key) {
            Lookup::Found(facts, self.hold(key, facts))
        } else if self.files.contains_key(&key) {
            Lookup::Forbidden
        } else if self.is_directory(root, path) {
            Lookup::Directory
        } else {
            Lookup::NotFound
        }
    }

    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
        let key = (root, path.to_owned());
        if self.pending {
            self.open.ask(|open| &mut open.pending);
            return Verified::Pending;
        }
        let own = self.facts(&key);
        match own.map_or(Comparison::Differs(Difference::Missing), |own| pinned.compare(&own)) {
            Comparison::Same => Verified::Match(self.hold(key, own.unwrap_or_default())),
            Comparison::Differs(why) => {
                self.open.ask(|open| &mut open.differs);
                Verified::Differs(why)
            }
            Comparison::Unknown => {
                self.open.ask(|open| &mut open.unhashed);
                Verified::Pending
            }
        }
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        if self.pending {
            self.open.ask(|open| &mut open.pending);
            return Read::Pending;
        }
        let Some(Hold { key, facts }) = self.holds.get(&content.0) else { return Read::Gone };
        let Some(file) = self.files.get(key) else { return Read::Gone };
        let Content::Bytes(bytes, _) = &file.content else { return Read::Gone };
        if (bytes.len() as u64, file.modified) != (facts.length, facts.modified) {
            return Read::Gone;
        }
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let mut count = into.len().min(bytes.len() - from);
        if self.read_limit > 0 {
            count = count.min(self.read_limit);
        }
        into[..count].copy_from_slice(&bytes[from..from + count]);
        Read::Ready(count)
    }

    fn release(&mut self, content: ContentId) {
        let held = self.holds.remove(&content.0);
        assert!(held.is_some(), "a hold is released once");
    }

    fn hash(&mut self, content: ContentId) -> Option<[u8; 32]> {
        let Hold { key, facts } = self.holds.get(&content.0)?;
        let own = self.facts(key)?;
        let same = (own.length, own.modified) == (facts.length, facts.modified);
        own.hash.filter(|_| same)
    }

    fn question(&mut self) -> Question {
        Question(self.open.last)
    }

    fn answered(&mut self) -> Option<Question> {
        if self.pending {
            return None;
        }
        if let Some(question) = self.open.pending.take() {
            return Some(Question(question));
        }
        if !self.unhashed
            && let Some(question) = self.open.unhashed.take()
        {
            return Some(Question(question));
        }
        let changed = core::mem::take(&mut self.open.changed);
        self.open.differs.take_if(|_| changed).map(Question)
    }
}

/// Tells contents of tests apart; the runtime's store uses a cryptographic hash.
fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    for (key, half) in (0u64..).zip(digest.chunks_exact_mut(16)) {
        let mut hasher = SipHasher24::new_with_keys(key, !key);
        hasher.write(bytes);
        half.copy_from_slice(&hasher.finish128().as_bytes());
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_alone_decides() {
        let pin = Facts { length: 5, modified: 7, hash: None };
        let hashed = Facts { hash: Some([1; 32]), ..pin };
        let touched = Facts { modified: 8, ..hashed };
        let differs = Comparison::Differs;
        assert_eq!(pin.compare(&hashed), differs(Difference::Unpinned));
        assert_eq!(
            pin.compare(&pin),
            differs(Difference::Unpinned),
            "times do not stand in for it"
        );
        assert_eq!(hashed.compare(&touched), Comparison::Same);
        assert_eq!(hashed.compare(&pin), Comparison::Unknown);
        let other = Facts { hash: Some([2; 32]), ..pin };
        assert_eq!(hashed.compare(&other), differs(Difference::Content));
        assert_eq!(hashed.compare(&Facts { length: 6, ..hashed }), differs(Difference::Length));
    }

    #[test]
    fn content_that_changed_under_a_hold_is_gone() {
        let mut store = MemoryStore::new();
        store.put(0, "a", "first", 1);
        let Lookup::Found(_, id) = store.lookup(0, "a") else { panic!("found") };
        let mut buffer = [0; 9];
        assert_eq!(store.read(id, 1, &mut buffer), Read::Ready(4));
        store.put(0, "a", "later", 2);
        assert_eq!(store.read(id, 1, &mut buffer), Read::Gone);
        store.release(id);
        assert_eq!(store.holds(), 0);
    }

    #[test]
    fn a_prefix_of_paths_is_a_directory() {
        let mut store = MemoryStore::new();
        store.put(0, "a/b/c", "x", 1);
        assert_eq!(store.lookup(0, "a/b"), Lookup::Directory);
        assert_eq!(store.lookup(0, "a/bb"), Lookup::NotFound);
        assert_eq!(store.lookup(1, "a"), Lookup::NotFound);
    }
}
