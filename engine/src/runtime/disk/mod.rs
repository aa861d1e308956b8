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
//!
//! Two copies are the same if their hashes are. What has been hashed is remembered by version
//! (`digests`), also across restarts (`cache`); what is there is hashed ahead of the first request
//! for it (`ahead`), and what is asked for before that, at once (`helper`).

mod ahead;
mod cache;
mod digests;
mod hashing;
mod helper;
mod names;
mod stamp;
mod sys;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mio::Waker;
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;

use self::ahead::Ahead;
use self::digests::{Digests, Hash};
use self::helper::{Bell, HashJob, Helpers, Job, Opened, Outcome, Root};
use self::names::Names;
use self::stamp::Stamp;
use self::sys::Effort;
use crate::service::store::Comparison;
use crate::service::{ContentId, Difference, Facts, Lookup, Read, Store, Verified, is_hidden};
use crate::time::{Duration, Instant};

/// Descriptors kept open.
const FILES_MAX: usize = 512;
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

/// One document root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RootSettings {
    /// Where it is.
    pub path: PathBuf,
    /// Whether what begins with a dot is served, too.
    pub dotfiles: bool,
}

/// How much is hashed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashSettings {
    /// Bytes read a second to hash ahead; 0: nothing is hashed ahead.
    pub rate: u64,
    /// Files that are longer are not hashed.
    pub largest: u64,
    /// Where hashes are remembered across restarts.
    pub cache: Option<PathBuf>,
}

/// The document roots.
#[derive(Debug)]
pub struct DiskStore {
    roots: Vec<Root>,
    /// Whether lookups can be confined to the kernel's caches.
    cached_lookups: bool,
    helpers: Helpers,
    contents: Slab<Content>,
    by_stamp: FxHashMap<Stamp, usize>,
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
    /// Versions that the helper hashes.
    hashing: FxHashSet<Stamp>,
    digests: Arc<Digests>,
}

/// One version of one file that someone holds.
#[derive(Debug)]
struct Content {
    serial: u32,
    holds: u32,
    stamp: Stamp,
    /// How many names the file has.
    links: u64,
    /// Whether its times had settled when it was first held: whatever was written since has moved
    /// them, and a hash taken later is of what was given out before.
    settled: bool,
    /// The hash, once somebody wanted it.
    hash: Option<Hash>,
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

/// What became of a content that was just read.
enum Check {
    Same,
    /// Its hash has to tell.
    Pending,
    Gone,
}

impl DiskStore {
    /// Opens the document roots; a root's number is its place in `roots`. `waker` wakes the loop
    /// that asks [`DiskNews`].
    pub fn open(
        roots: &[RootSettings],
        hashing: &HashSettings,
        waker: Arc<Waker>,
    ) -> io::Result<(Self, DiskNews)> {
        let bell = Bell { rung: Arc::new(AtomicBool::new(false)), waker };
        let digests = Arc::new(Digests::default());
        let helpers = Helpers::start(&bell, &digests, hashing.largest)?;
        let mut cached_lookups = true;
        let mut open = |RootSettings { path, dotfiles }: &RootSettings| {
            let directory = File::open(path)?;
            let openat2 = sys::open_beneath(&directory, ".", Effort::Full).is_ok();
            // An old kernel refuses the flag itself; any other answer is one to the question.
            let cached = sys::open_beneath(&directory, ".", Effort::Cached);
            let refused = cached.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL));
            cached_lookups &= openat2 && !refused;
            Ok(Root { directory: Arc::new(directory), openat2, dotfiles: *dotfiles })
        };
        let roots = roots.iter().map(&mut open).collect::<io::Result<Vec<_>>>()?;
        if !roots.is_empty() {
            recall(hashing, &digests);
            let ahead =
                Ahead::new(roots.clone(), hashing.clone(), Arc::clone(&digests), bell.clone());
            thread::Builder::new().name("ahead".into()).spawn(move || ahead.run())?;
        }
        let store = Self {
            names: Names::new(roots.len()),
            now: Instant::ZERO,
            roots,
            cached_lookups,
            helpers,
            contents: Slab::new(),
            by_stamp: FxHashMap::default(),
            serial: 0,
            open_files: 0,
            files_max: FILES_MAX,
            hand: 0,
            asked: Vec::new(),
            answers: VecDeque::new(),
            hashing: FxHashSet::default(),
            digests,
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
                Outcome::Hashed { stamp } => {
                    self.hashing.remove(&stamp);
                }
            }
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
            Some(Opened::File(file, stamp, links)) => {
                let key = self.admit(root, path, file, stamp, links);
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
        let is_current =
            |metadata: Metadata| metadata.nlink() > 0 && Stamp::of(&metadata) == content.stamp;
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
    fn admit(&mut self, root: u16, path: &str, file: File, stamp: Stamp, links: u64) -> usize {
        let settled = stamp.unsettled() == Duration::ZERO;
        if let Some(&key) = self.by_stamp.get(&stamp)
            && (self.contents[key].settled || !settled)
        {
            if self.contents[key].file.is_none() {
                self.give_file(key, file);
            }
            return key;
        }
        self.serial = self.serial.wrapping_add(1);
        let key = self.contents.insert(Content {
            serial: self.serial,
            holds: 0,
            stamp,
            links,
            settled,
            hash: None,
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
        self.by_stamp.insert(stamp, key);
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
            if self.by_stamp.get(&content.stamp) == Some(&key) {
                self.by_stamp.remove(&content.stamp);
            }
            self.open_files -= usize::from(content.file.is_some());
        }
    }

    /// The hash of this version, if it is known or can be had; has it computed otherwise.
    fn want_hash(&mut self, stamp: Stamp, file: Option<Arc<File>>) -> Option<Option<Hash>> {
        let known = self.digests.get(&stamp);
        if let (None, Some(file)) = (known, file)
            && !self.hashing.contains(&stamp)
            && self.helpers.hash_jobs.try_send(HashJob { stamp, file }).is_ok()
        {
            self.hashing.insert(stamp);
        }
        known
    }

    /// The same of a content that was looked up right now.
    fn want_content_hash(&mut self, key: usize) -> Option<Option<Hash>> {
        let Content { stamp, file, .. } = &self.contents[key];
        let (stamp, file) = (*stamp, file.clone());
        let known = self.want_hash(stamp, file);
        if let Some(hash) = known {
            self.contents[key].hash = hash;
        }
        known
    }

    fn facts(&self, key: usize) -> Facts {
        let Content { stamp: Stamp { modified, length, .. }, hash, .. } = self.contents[key];
        Facts { length, modified, hash }
    }

    /// Is the open file still the content, after it was read?
    ///
    /// Its time of change moves for other reasons than new bytes. If a name has come or gone, that
    /// is the reason. If not, the hash has to tell: a writer may have put the time of modification
    /// back.
    fn check(&mut self, key: usize, file: &Arc<File>) -> Check {
        let Ok(metadata) = file.metadata() else { return Check::Gone };
        let (now, links) = (Stamp::of(&metadata), metadata.nlink());
        let Content { stamp, links: before, hash, .. } = self.contents[key];
        if now == stamp {
            return Check::Same;
        }
        if !stamp.is_touched(&now) {
            return Check::Gone;
        }
        if links == before {
            let Some(hash) = hash else { return Check::Gone };
            match self.want_hash(now, Some(Arc::clone(file))) {
                None => return Check::Pending,
                Some(again) if again == Some(hash) => {}
                Some(_) => return Check::Gone,
            }
        }
        if self.by_stamp.get(&stamp) == Some(&key) {
            self.by_stamp.remove(&stamp);
        }
        let content = &mut self.contents[key];
        (content.stamp, content.links) = (now, links);
        Check::Same
    }

    /// The content's descriptor, opened again if it was closed meanwhile.
    fn file(&mut self, key: usize) -> Result<Arc<File>, Read> {
        if let Some(file) = &self.contents[key].file {
            return Ok(Arc::clone(file));
        }
        let (root, path) = (self.contents[key].root, self.contents[key].path.clone());
        match self.open_path(root, &path) {
            None => Err(Read::Pending),
            Some(Opened::File(file, stamp, _)) if self.contents[key].stamp.is_version(&stamp) => {
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
        let dotfiles = self.roots.get(usize::from(root)).is_some_and(|root| root.dotfiles);
        if !dotfiles && is_hidden(path) {
            return Lookup::NotFound;
        }
        match self.find(root, path) {
            Place::Content(key) => {
                self.want_content_hash(key);
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
            Place::Directory | Place::NotFound | Place::Forbidden => {
                return Verified::Differs(Difference::Missing);
            }
            Place::Pending => return Verified::Pending,
        };
        // Also where there is nothing to compare it with yet: that will come.
        let known = self.want_content_hash(key);
        let verified = match pinned.compare(&self.facts(key)) {
            Comparison::Same => return Verified::Match(self.hold(key)),
            Comparison::Differs(why) => Verified::Differs(why),
            Comparison::Unknown if known.is_some() => Verified::Differs(Difference::Unhashable),
            Comparison::Unknown => Verified::Pending,
        };
        self.drop_unheld(key);
        verified
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        self.absorb();
        let Some(key) = self.key(content) else { return Read::Gone };
        let left = self.contents[key].stamp.length.saturating_sub(offset);
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
            Ok(0) => Read::Gone,
            // After the read: what was written before it has moved the times by now.
            Ok(read) => match self.check(key, &file) {
                Check::Same => {
                    self.contents[key].fetches = 0;
                    Read::Ready(read)
                }
                Check::Pending => Read::Pending,
                Check::Gone => Read::Gone,
            },
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

    fn hash(&mut self, content: ContentId) -> Option<[u8; 32]> {
        self.absorb();
        let key = self.key(content).filter(|key| self.contents[*key].settled)?;
        self.want_content_hash(key)?
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

/// Reads what an earlier run has hashed.
fn recall(hashing: &HashSettings, digests: &Digests) {
    let Some(path) = &hashing.cache else { return };
    match cache::load(path, digests) {
        Ok(count) => log::debug!("{count} hashes of files are known from {}", path.display()),
        Err(error) => {
            log::warn!("{}: {error}; all files are hashed anew", path.display());
        }
    }
}
