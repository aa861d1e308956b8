//! Files for the `files` service, without ever waiting for the disk.
//!
//! The loop asks for what is in memory: a lookup in the kernel's caches (`RESOLVE_CACHED`), bytes
//! in the page cache (`RWF_NOWAIT`). What is not there is left to a helper thread, the answer is
//! `Pending`, and [`DiskNews`] tells when to ask again. The second time it is in memory.
//!
//! ```text
//!   loop                                   helper
//!   lookup ── cached? ──yes──► Found
//!              └──no──► Pending, job ────► open ──► outcome, wake
//!   read ──── cached? ──yes──► Ready
//!              └──no──► Pending, job ────► read into the page cache ──► outcome, wake
//! ```
//!
//! Paths are resolved beneath the document root by the kernel, so no symbolic link leads out of it,
//! whatever is renamed meanwhile.
//!
//! A path that was opened a moment ago is not opened again (`names`); its descriptor is asked
//! whether it is still that file.
//!
//! What is open is bounded: beyond `FILES_MAX` the least recently used descriptor is closed and
//! opened again when it is wanted. That the file is still the one promised is checked with every
//! read: other bytes than those are never given (I6).

mod helper;
mod names;
mod sys;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use self::helper::{Bell, HashJob, Helpers, Identity, Job, Opened, Outcome, Root};
use self::names::Names;
use self::sys::Effort;
use crate::service::store::Comparison;
use crate::service::{ContentId, Facts, Lookup, Read, Store, Verified};
use crate::time::Instant;

/// Descriptors kept open.
const FILES_MAX: usize = 512;
/// Hashes remembered.
const HASHES_MAX: usize = 16 << 10;
/// Answers of the helper kept for someone to ask again; whoever asks too late asks anew.
const ANSWERS_MAX: usize = 256;
/// After so many fetches that did not help, the file system is one that never has anything in
/// memory, and the loop reads as anybody would.
const FETCHES_MAX: u8 = 3;

/// Whether there is news from the disk: time to tell the engine.
#[derive(Clone, Debug)]
pub struct DiskNews(Arc<AtomicBool>);

impl DiskNews {
    /// Whether something became known since the last time.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Acquire)
    }
}

/// The document roots.
#[derive(Debug)]
pub struct DiskStore {
    roots: Vec<Root>,
    /// Whether lookups can be confined to the kernel's caches.
    cached_lookups: bool,
    helpers: Helpers,
    contents: Slab<Content>,
    by_identity: FxHashMap<Identity, usize>,
    names: Names,
    /// When the loop's turn began.
    now: Instant,
    /// Tells a slot's tenants apart, in the upper half of a [`ContentId`].
    serial: u32,
    open_files: usize,
    files_max: usize,
    /// Where the search for a descriptor to close goes on.
    hand: usize,
    /// Lookups that the helper has.
    asked: Vec<(u16, Box<str>)>,
    /// Lookups that it has answered.
    answers: VecDeque<(u16, Box<str>, Opened)>,
    hashing: FxHashSet<Identity>,
    /// `None`: cannot be read.
    hashes: FxHashMap<Identity, Option<[u8; 32]>>,
    hashes_by_age: VecDeque<Identity>,
}

/// One version of one file that someone holds.
#[derive(Debug)]
struct Content {
    serial: u32,
    holds: u32,
    identity: Identity,
    root: u16,
    path: Box<str>,
    file: Option<Arc<File>>,
    /// When its names were last found to lead to it. Once in a turn of the loop is enough: what is
    /// read is checked again.
    seen_at: Instant,
    /// Read since the hand came by.
    used: bool,
    fetching: bool,
    /// Fetches at `fetched_at` that brought nothing.
    fetches: u8,
    fetched_at: u64,
    /// The file system cannot say what is in memory.
    plain_reads: bool,
    failed: bool,
}

/// What a path led to.
enum Place {
    Content(usize),
    Directory,
    NotFound,
    Forbidden,
    Pending,
}

impl DiskStore {
    /// Opens the document roots; a root's number is its place in `roots`. `waker` wakes the loop
    /// that asks [`DiskNews`].
    pub fn open(roots: &[PathBuf], waker: Arc<Waker>) -> io::Result<(Self, DiskNews)> {
        let bell = Bell { rung: Arc::new(AtomicBool::new(false)), waker };
        let helpers = Helpers::start(&bell)?;
        let mut cached_lookups = true;
        let mut open = |path: &PathBuf| {
            let directory = File::open(path)?;
            let openat2 = sys::open_beneath(&directory, ".", Effort::Full).is_ok();
            // An old kernel refuses the flag itself; any other answer is one to the question.
            let cached = sys::open_beneath(&directory, ".", Effort::Cached);
            let refused = cached.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL));
            cached_lookups &= openat2 && !refused;
            Ok(Root { directory: Arc::new(directory), openat2 })
        };
        let roots = roots.iter().map(&mut open).collect::<io::Result<Vec<_>>>()?;
        let store = Self {
            names: Names::new(roots.len()),
            now: Instant::ZERO,
            roots,
            cached_lookups,
            helpers,
            contents: Slab::new(),
            by_identity: FxHashMap::default(),
            serial: 0,
            open_files: 0,
            files_max: FILES_MAX,
            hand: 0,
            asked: Vec::new(),
            answers: VecDeque::new(),
            hashing: FxHashSet::default(),
            hashes: FxHashMap::default(),
            hashes_by_age: VecDeque::new(),
        };
        Ok((store, DiskNews(bell.rung)))
    }

    /// Takes in what the helpers found out.
    fn absorb(&mut self) {
        while let Ok(outcome) = self.helpers.outcomes.try_recv() {
            match outcome {
                Outcome::Opened { number, path, opened } => {
                    self.asked.retain(|asked| (asked.0, &asked.1) != (number, &path));
                    if self.answers.len() == ANSWERS_MAX {
                        self.answers.pop_front();
                    }
                    self.answers.push_back((number, path, opened));
                }
                Outcome::Fetched { content, result } => {
                    if let Some(key) = self.key(ContentId(content)) {
                        self.contents[key].fetching = false;
                        self.contents[key].failed |= result.is_err();
                    }
                }
                Outcome::Hashed { identity, hash } => self.remember(identity, hash),
            }
        }
    }

    fn remember(&mut self, identity: Identity, hash: Option<[u8; 32]>) {
        self.hashing.remove(&identity);
        if self.hashes.insert(identity, hash).is_none() {
            self.hashes_by_age.push_back(identity);
        }
        if self.hashes_by_age.len() > HASHES_MAX
            && let Some(oldest) = self.hashes_by_age.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }

    /// Opens a path, from the helper's answer or the kernel's caches; asks the helper otherwise.
    fn open_path(&mut self, root: u16, path: &str) -> Option<Opened> {
        let answer = self.answers.iter().position(|answer| (answer.0, &*answer.1) == (root, path));
        if let Some(at) = answer {
            return self.answers.remove(at).map(|(_, _, opened)| opened);
        }
        let Some(home) = self.roots.get(usize::from(root)) else {
            return Some(Opened::NotFound);
        };
        if self.cached_lookups {
            let result = sys::open_beneath(&home.directory, path, Effort::Cached);
            if let Some(opened) = Opened::from_result(result) {
                return Some(opened);
            }
        }
        if !self.asked.iter().any(|asked| (asked.0, &*asked.1) == (root, path)) {
            let job = Job::Open { root: home.clone(), number: root, path: path.into() };
            // A full queue answers soon, and whoever waits asks again at any answer.
            if self.helpers.jobs.try_send(job).is_ok() {
                self.asked.push((root, path.into()));
            }
        }
        None
    }

    fn find(&mut self, root: u16, path: &str) -> Place {
        self.absorb();
        if let Some(key) = self.recall(root, path) {
            return Place::Content(key);
        }
        match self.open_path(root, path) {
            None => Place::Pending,
            Some(Opened::Directory) => Place::Directory,
            Some(Opened::NotFound) => Place::NotFound,
            Some(Opened::Forbidden) => Place::Forbidden,
            Some(Opened::File(file, identity)) => {
                let key = self.admit(root, path, file, identity);
                let id = self.hold(key);
                self.names.add(self.now, root, path, id);
                self.forget_stale_names();
                Place::Content(key)
            }
        }
    }

    /// What the path led to a moment ago, if its descriptor says that it is that file still, and
    /// that no other has replaced it.
    fn recall(&mut self, root: u16, path: &str) -> Option<usize> {
        let id = self.names.get(root, path)?;
        let key = self.key(id)?;
        let content = &self.contents[key];
        if content.seen_at == self.now {
            return Some(key);
        }
        let is_current = |metadata: Metadata| {
            metadata.nlink() > 0 && Identity::of(&metadata) == content.identity
        };
        if content.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(is_current)) {
            self.contents[key].seen_at = self.now;
            return Some(key);
        }
        self.names.remove(root, path);
        self.release(id);
        None
    }

    fn forget_stale_names(&mut self) {
        while let Some(id) = self.names.next_stale(self.now) {
            self.release(id);
        }
    }

    /// The content of an open file: one that is held already, or a new one that nobody holds yet.
    fn admit(&mut self, root: u16, path: &str, file: File, identity: Identity) -> usize {
        if let Some(&key) = self.by_identity.get(&identity) {
            if self.contents[key].file.is_none() {
                self.give_file(key, file);
            }
            return key;
        }
        self.serial = self.serial.wrapping_add(1);
        let key = self.contents.insert(Content {
            serial: self.serial,
            holds: 0,
            identity,
            root,
            path: path.into(),
            file: None,
            seen_at: self.now,
            used: true,
            fetching: false,
            fetches: 0,
            fetched_at: 0,
            plain_reads: false,
            failed: false,
        });
        self.by_identity.insert(identity, key);
        self.give_file(key, file);
        key
    }

    fn give_file(&mut self, key: usize, file: File) {
        while self.open_files >= self.files_max && self.close_one() {}
        self.contents[key].file = Some(Arc::new(file));
        self.open_files += 1;
    }

    /// Closes the first descriptor that was not used since the hand came by. Returns whether there
    /// was one to close.
    fn close_one(&mut self) -> bool {
        let end = self.contents.capacity();
        // The second time round nothing is marked as used any more.
        for _ in 0..2 * end {
            self.hand = (self.hand + 1) % end;
            let Some(content) = self.contents.get_mut(self.hand) else { continue };
            if content.file.is_some() && !core::mem::take(&mut content.used) {
                content.file = None;
                self.open_files -= 1;
                return true;
            }
        }
        false
    }

    fn hold(&mut self, key: usize) -> ContentId {
        let content = &mut self.contents[key];
        content.holds += 1;
        id(key, content.serial)
    }

    fn key(&self, id: ContentId) -> Option<usize> {
        let key = usize::try_from(id.0 & 0xffff_ffff).ok()?;
        let content = self.contents.get(key)?;
        (u64::from(content.serial) == id.0 >> 32).then_some(key)
    }

    /// Forgets a content that nobody holds.
    fn drop_unheld(&mut self, key: usize) {
        if self.contents[key].holds == 0 {
            let content = self.contents.remove(key);
            self.by_identity.remove(&content.identity);
            self.open_files -= usize::from(content.file.is_some());
        }
    }

    /// Has the hash computed, unless that is done or under way.
    fn want_hash(&mut self, key: usize) {
        let Content { identity, file, .. } = &self.contents[key];
        if self.hashes.contains_key(identity) || self.hashing.contains(identity) {
            return;
        }
        let Some(file) = file else { return };
        let job = HashJob { identity: *identity, file: Arc::clone(file) };
        if self.helpers.hash_jobs.try_send(job).is_ok() {
            self.hashing.insert(*identity);
        }
    }

    fn facts(&self, key: usize) -> Facts {
        let Identity { modified, length, .. } = self.contents[key].identity;
        let hash = self.hashes.get(&self.contents[key].identity).copied().flatten();
        Facts { length, modified, hash }
    }

    /// The content's descriptor, opened again if it was closed meanwhile.
    fn file(&mut self, key: usize) -> Result<Arc<File>, Read> {
        if let Some(file) = &self.contents[key].file {
            return Ok(Arc::clone(file));
        }
        let (root, path) = (self.contents[key].root, self.contents[key].path.clone());
        match self.open_path(root, &path) {
            None => Err(Read::Pending),
            Some(Opened::File(file, identity)) if identity == self.contents[key].identity => {
                self.give_file(key, file);
                self.contents[key].file.clone().ok_or(Read::Pending)
            }
            Some(_) => Err(Read::Gone),
        }
    }

    /// Nothing at `offset` is in memory: have it brought there.
    fn fetch(&mut self, key: usize, file: Arc<File>, offset: u64) -> Read {
        let content = &mut self.contents[key];
        if !content.fetching {
            if content.fetched_at == offset {
                content.fetches += 1;
            } else {
                (content.fetched_at, content.fetches) = (offset, 0);
            }
            content.plain_reads = content.fetches >= FETCHES_MAX;
            let job = Job::Fetch { content: id(key, content.serial).0, file, offset };
            content.fetching = self.helpers.jobs.try_send(job).is_ok();
        }
        Read::Pending
    }
}

impl Store for DiskStore {
    fn on_timer(&mut self, now: Instant) {
        self.now = now;
        self.forget_stale_names();
    }

    fn lookup(&mut self, root: u16, path: &str) -> Lookup {
        match self.find(root, path) {
            Place::Content(key) => {
                self.want_hash(key);
                Lookup::Found(self.facts(key), self.hold(key))
            }
            Place::Directory => Lookup::Directory,
            Place::NotFound => Lookup::NotFound,
            Place::Forbidden => Lookup::Forbidden,
            Place::Pending => Lookup::Pending,
        }
    }

    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
        let key = match self.find(root, path) {
            Place::Content(key) => key,
            Place::Directory | Place::NotFound | Place::Forbidden => return Verified::Differs,
            Place::Pending => return Verified::Pending,
        };
        let verified = match pinned.compare(&self.facts(key)) {
            Comparison::Same => return Verified::Match(self.hold(key)),
            Comparison::Differs => Verified::Differs,
            Comparison::Unknown if self.hashes.contains_key(&self.contents[key].identity) => {
                // It was tried, and it cannot be read.
                Verified::Differs
            }
            Comparison::Unknown => {
                self.want_hash(key);
                Verified::Pending
            }
        };
        self.drop_unheld(key);
        verified
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        self.absorb();
        let Some(key) = self.key(content) else { return Read::Gone };
        let identity = self.contents[key].identity;
        let left = identity.length.saturating_sub(offset);
        let want = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Read::Ready(0);
        }
        if self.contents[key].failed {
            return Read::Gone;
        }
        let file = match self.file(key) {
            Ok(file) => file,
            Err(answer) => return answer,
        };
        self.contents[key].used = true;
        let into = &mut into[..want];
        let result = if self.contents[key].plain_reads {
            file.read_at(into, offset)
        } else {
            sys::read_cached(&file, offset, into)
        };
        match result {
            // After the read: what was written before it has moved the time by now.
            Ok(read) if read > 0 && is_still(&file, identity) => {
                self.contents[key].fetches = 0;
                Read::Ready(read)
            }
            Ok(_) => Read::Gone,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => self.fetch(key, file, offset),
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
                    if !self.contents[key].plain_reads =>
                {
                    self.contents[key].plain_reads = true;
                    self.read(content, offset, into)
                }
                _ => {
                    log::warn!("{}: {error}", self.contents[key].path);
                    Read::Gone
                }
            },
        }
    }

    fn release(&mut self, content: ContentId) {
        let key = self.key(content);
        assert!(key.is_some(), "a hold is released once");
        if let Some(key) = key {
            self.contents[key].holds -= 1;
            self.drop_unheld(key);
        }
    }
}

fn id(key: usize, serial: u32) -> ContentId {
    ContentId(u64::from(serial) << 32 | key as u64)
}

fn is_still(file: &File, identity: Identity) -> bool {
    file.metadata().is_ok_and(|metadata| Identity::of(&metadata) == identity)
}
