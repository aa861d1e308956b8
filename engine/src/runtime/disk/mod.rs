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
//! That is so where the file system is this kernel's own. Where another host or process serves it, a mere
//! `fstat` may wait: there the loop makes no call at all, and serves what helpers have read (`far`,
//! `blocks`).
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
mod asking;
mod blocks;
mod cache;
mod contents;
mod digests;
mod far;
mod hashing;
mod helper;
mod names;
mod questions;
mod stamp;
mod sys;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mio::Waker;

use self::ahead::Ahead;
use self::asking::{Answer, Place};
use self::blocks::Blocks;
use self::contents::{Content, Contents, Reading};
use self::digests::{Digests, Hash};
use self::helper::{Bell, Helpers, Root};
use self::names::Names;
use self::questions::{About, Helper, Questions};
use self::stamp::Stamp;
use self::sys::Effort;
use crate::service::store::Comparison;
use crate::service::{
    ContentId, Difference, Facts, Lookup, Question, Read, Store, Verified, is_hidden,
};
use crate::time::Instant;

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
    questions: Questions,
    contents: Contents,
    blocks: Blocks,
    names: Names,
    /// When the loop's turn began.
    now: Instant,
    /// Lookups that the helper has answered.
    answers: VecDeque<Answer>,
    /// The same, where there is no file.
    absent: VecDeque<Answer>,
    digests: Arc<Digests>,
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
            let (near, device) = (sys::is_near(&directory), directory.metadata()?.dev());
            if !near {
                log::info!(
                    "{} is not on a local file system: its files are read by helpers, and what is \
                     found there is believed for a second",
                    path.display()
                );
            }
            let directory = Arc::new(directory);
            Ok(Root { directory, openat2, dotfiles: *dotfiles, near, device })
        };
        let roots = roots.iter().map(&mut open).collect::<io::Result<Vec<_>>>()?;
        if !roots.is_empty() {
            recall(hashing, &digests);
            let ahead = Ahead::new(
                roots.clone(),
                hashing.clone(),
                Arc::clone(&digests),
                bell.clone(),
                helpers.report.clone(),
            );
            thread::Builder::new().name("ahead".into()).spawn(move || ahead.run())?;
        }
        let store = Self {
            names: Names::new(roots.iter().map(|root| root.near)),
            now: Instant::ZERO,
            roots,
            cached_lookups,
            helpers,
            questions: Questions::default(),
            contents: Contents::default(),
            blocks: Blocks::default(),
            answers: VecDeque::new(),
            absent: VecDeque::new(),
            digests,
        };
        Ok((store, DiskNews(bell.rung)))
    }

    /// The hash of this version of a content, if it is known or can be had; has it computed otherwise.
    fn want_hash(&mut self, key: usize, stamp: Stamp) -> Option<Option<Hash>> {
        let known = self.digests.get(&stamp);
        if known.is_none() && self.contents[key].file.is_some() {
            let content = (self.contents.id(key), 0);
            if self.questions.ask(Helper::Hash, About::Hash(stamp), content) {
                self.dispatch();
            }
        }
        known
    }

    /// The same of a content that was looked up right now.
    fn want_content_hash(&mut self, key: usize) -> Option<Option<Hash>> {
        let known = self.want_hash(key, self.contents[key].stamp);
        if let Some(hash) = known {
            self.contents[key].hash = hash;
        }
        known
    }

    fn compare(&mut self, key: usize, pinned: &Facts) -> Verified {
        // Also where there is nothing to compare it with yet: that will come.
        let known = self.want_content_hash(key);
        match pinned.compare(&self.contents[key].facts()) {
            Comparison::Same => Verified::Match(self.contents.hold(key)),
            Comparison::Differs(why) => Verified::Differs(why),
            Comparison::Unknown if known.is_some() => Verified::Differs(Difference::Unhashable),
            Comparison::Unknown if self.contents[key].file.is_none() => match self.file(key) {
                Ok(_) => self.compare(key, pinned),
                Err(Read::Pending) => Verified::Pending,
                Err(_) => Verified::Differs(Difference::Changed),
            },
            Comparison::Unknown => Verified::Pending,
        }
    }

    /// Is the open file still the content, after it was read?
    ///
    /// Its time of change moves for other reasons than new bytes. If a name has come or gone, that
    /// is the reason. If not, the hash has to tell: a writer may have put the time of modification
    /// back.
    fn check(&mut self, key: usize, file: &Arc<File>) -> Check {
        let Ok(metadata) = sys::facts(file) else { return Check::Gone };
        self.judge(key, Stamp::of(&metadata), metadata.nlink())
    }

    /// Is a file that looks like this the content?
    fn judge(&mut self, key: usize, now: Stamp, links: u64) -> Check {
        let Content { stamp, links: before, hash, .. } = self.contents[key];
        if now == stamp {
            return Check::Same;
        }
        if !stamp.is_touched(&now) {
            return Check::Gone;
        }
        if links == before {
            let Some(hash) = hash else { return Check::Gone };
            match self.want_hash(key, now) {
                None => return Check::Pending,
                Some(again) if again == Some(hash) => {}
                Some(_) => return Check::Gone,
            }
        }
        self.contents.touch(key, now, links);
        Check::Same
    }
}

impl Store for DiskStore {
    fn on_timer(&mut self, now: Instant) {
        self.now = now;
        self.forget_stale_names();
        self.forget_old_answers();
    }

    fn lookup(&mut self, root: u16, path: &str) -> Lookup {
        let dotfiles = self.roots.get(usize::from(root)).is_some_and(|root| root.dotfiles);
        if !dotfiles && is_hidden(path) {
            return Lookup::NotFound;
        }
        match self.find(root, path) {
            Place::Content(key) => {
                self.want_content_hash(key);
                Lookup::Found(self.contents[key].facts(), self.contents.hold(key))
            }
            Place::Directory => Lookup::Directory,
            Place::NotFound => Lookup::NotFound,
            Place::Forbidden => Lookup::Forbidden,
            Place::Pending => Lookup::Pending,
        }
    }

    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
        let verified = match self.find(root, path) {
            Place::Content(key) => {
                let verified = self.compare(key, pinned);
                self.contents.drop_unheld(key);
                verified
            }
            Place::Directory | Place::NotFound | Place::Forbidden => {
                Verified::Differs(Difference::Missing)
            }
            Place::Pending => Verified::Pending,
        };
        if matches!(verified, Verified::Differs(_)) {
            self.questions.watch(self.now, (root, path.into()));
        }
        verified
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        self.absorb();
        let Some(key) = self.contents.key(content) else { return Read::Gone };
        let left = self.contents[key].stamp.length.saturating_sub(offset);
        let want = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if want == 0 {
            return Read::Ready(0);
        }
        if self.contents[key].failed {
            return Read::Gone;
        }
        self.contents[key].used = true;
        let (into, reading) = (&mut into[..want], self.contents[key].reading);
        if reading == Reading::Blocks {
            return self.read_block(key, offset, into);
        }
        let file = match self.file(key) {
            Ok(file) => file,
            Err(answer) => return answer,
        };
        let result = match reading {
            Reading::Plain => sys::read_at(&file, into, offset),
            Reading::Cached | Reading::Blocks => sys::read_cached(&file, offset, into),
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
                Some(libc::EAGAIN | libc::EINTR) => self.fetch(key, offset),
                Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL)
                    if reading == Reading::Cached =>
                {
                    let plain = sys::is_memory(&file);
                    self.contents[key].reading =
                        if plain { Reading::Plain } else { Reading::Blocks };
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
        let key = self.contents.key(content).filter(|key| self.contents[*key].settled)?;
        self.want_content_hash(key)?
    }

    fn release(&mut self, content: ContentId) {
        self.contents.release(content);
    }

    fn question(&mut self) -> Question {
        self.questions.last()
    }

    fn answered(&mut self) -> Option<Question> {
        self.absorb();
        self.questions.pop_told(self.now)
    }

    fn forget(&mut self, question: Question) {
        self.questions.forget(question);
    }
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
