//! Hashing ahead: what is below the document roots is read before anybody asks for it.
//!
//! A reply is protected once both nodes have hashed its file. So a thread of its own, which runs
//! when nobody else wants to, lists the roots when the engine starts, hashes what it finds, the
//! smallest first, and then follows what changes.
//!
//! ```text
//!   list ──► queue, by length ──► hash, a piece at a time ──► digests ──► cache
//!    ▲          ▲      ▲                  │ changed meanwhile
//!    │          │      └── later, longer each time ◄──┘
//!   new directory, written file (`watch`), and from time to time everything
//! ```
//!
//! How much it reads in a second is configured. What it has found out is written down when it has
//! nothing else to do, and now and then while it has.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError};
use rustc_hash::FxHashMap;

use super::HashSettings;
use super::cache;
use super::digests::{DIGESTS_MAX, Digests};
use super::hashing::{Hashing, PIECE, Step};
use super::helper::{Bell, Found, Opened, Outcome, Root};
use super::stamp::Stamp;
use super::sys;
use super::watch::{Happened, Spot, Watcher, below};
use crate::runtime::clock::Clock;
use crate::service::is_hidden;
use crate::time::{Duration, Instant};

/// What looking at a file costs, in bytes read.
const LOOK: u64 = 4 << 10;
/// What opening one costs.
const OPEN: u64 = 16 << 10;
/// How much may be read at once after a rest.
const BURST: Duration = Duration::from_millis(20);
/// From one look at everything to the next: where changes may be missed, and where not.
const RESCAN_BLIND: Duration = Duration::from_secs(60);
const RESCAN: Duration = Duration::from_secs(3600);
/// And so many times as long as the last look took.
const RESCAN_SHARE: u32 = 20;
/// After more changes than the kernel could keep.
const RESCAN_SOON: Duration = Duration::from_secs(1);
/// Connections that wait for a copy to become right are told this often.
const BELL_INTERVAL: Duration = Duration::from_millis(100);
/// How long what was found out may stay unwritten.
const SAVE_BUSY: Duration = Duration::from_secs(30);
const SAVE_IDLE: Duration = Duration::from_secs(1);
/// A file that changes while it is read is read again after this; then twice that, and so on.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_DOUBLINGS: u32 = 9;
/// Directories and files that wait.
const WAITING_MAX: usize = DIGESTS_MAX;

/// See the module's documentation.
pub(super) struct Ahead {
    roots: Vec<Root>,
    settings: HashSettings,
    digests: Arc<Digests>,
    bell: Bell,
    report: Sender<Outcome>,
    watcher: Watcher,
    /// To be listed.
    directories: Vec<Spot>,
    /// To be hashed, by length.
    queue: BTreeMap<(u64, u64), Task>,
    /// Under way, each less than half as long as the one before.
    under_way: Vec<(Task, Hashing)>,
    /// To be looked at when the time has come.
    later: BTreeMap<(Instant, u64), Task>,
    /// Everything in the three above.
    waiting: FxHashMap<Spot, ()>,
    serial: u64,
    /// When what has been read is paid for.
    paid: Instant,
    listed_at: Instant,
    listing_since: Option<Instant>,
    listing_took: Duration,
    rescan_soon: bool,
    news: bool,
    rang_at: Instant,
    saved: u64,
    saved_at: Instant,
    save_failed: bool,
    told: Option<String>,
    left_out: bool,
}

/// A file to be hashed.
#[derive(Debug)]
struct Task {
    spot: Spot,
    /// How often it changed while it was read.
    changes: u32,
}

impl Ahead {
    pub(super) fn new(
        roots: Vec<Root>,
        settings: HashSettings,
        digests: Arc<Digests>,
        bell: Bell,
        report: Sender<Outcome>,
    ) -> Self {
        let saved = digests.learnt();
        Self {
            roots,
            settings,
            digests,
            bell,
            report,
            watcher: Watcher::new(),
            directories: Vec::new(),
            queue: BTreeMap::new(),
            under_way: Vec::new(),
            later: BTreeMap::new(),
            waiting: FxHashMap::default(),
            serial: 0,
            paid: Instant::ZERO,
            listed_at: Instant::ZERO,
            listing_since: None,
            listing_took: Duration::ZERO,
            rescan_soon: false,
            news: false,
            rang_at: Instant::ZERO,
            saved,
            saved_at: Instant::ZERO,
            save_failed: false,
            told: None,
            left_out: false,
        }
    }

    /// The thread's whole life: until the store is gone.
    pub(super) fn run(mut self) {
        sys::lower_priority();
        let mut buffer = vec![0; PIECE];
        self.list_all(Clock.now());
        // The store holds the bell as well, and what is known.
        while Arc::strong_count(&self.digests) > 1 {
            let wait = self.turn(Clock.now(), &mut buffer);
            if wait > Duration::ZERO {
                self.watcher.wait(wait);
            }
        }
    }

    /// Does the next thing. Returns how long there is nothing to do.
    fn turn(&mut self, now: Instant, buffer: &mut [u8]) -> Duration {
        self.follow(now);
        self.tell(now);
        let idle =
            self.directories.is_empty() && self.queue.is_empty() && self.under_way.is_empty();
        self.save(now, idle);
        if self.paid > now + BURST {
            return self.paid.since(now + BURST);
        }
        if let Some(directory) = self.directories.pop() {
            self.list(&directory);
            self.end_listing();
        } else if !self.step(now, buffer) {
            return self.rest(now);
        }
        Duration::ZERO
    }

    /// How long to rest if nothing happens.
    fn rest(&self, now: Instant) -> Duration {
        let mut until = now + SAVE_IDLE;
        if let Some(((due, _), _)) = self.later.first_key_value() {
            until = until.min(*due);
        }
        if self.news {
            until = until.min(self.rang_at + BELL_INTERVAL);
        }
        // Never for nothing.
        until.since(now).max(Duration::from_millis(1))
    }

    fn spend(&mut self, now: Instant, bytes: u64) {
        let rate = self.settings.rate.max(1);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.paid = self.paid.max(now) + time;
    }

    /// Takes in what has happened since the last time.
    fn follow(&mut self, now: Instant) {
        if self.settings.rate == 0 {
            return;
        }
        let mut happened = Vec::new();
        self.watcher.read(&mut happened);
        for what in happened {
            match what {
                Happened::Directory(spot) => self.add_directory(spot),
                Happened::File(spot) => self.look_later(now, spot, 0),
                Happened::TooMuch => self.rescan_soon = true,
            }
        }
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let task = entry.remove();
            self.look(now, task);
        }
        let interval = match (self.rescan_soon, self.watcher.blind()) {
            (true, _) => RESCAN_SOON,
            (false, Some(_)) => RESCAN_BLIND,
            (false, None) => RESCAN,
        };
        let interval = interval.max(self.listing_took * RESCAN_SHARE);
        if self.listing_since.is_none() && now.since(self.listed_at) >= interval {
            self.list_all(now);
        }
    }

    fn list_all(&mut self, now: Instant) {
        if self.settings.rate == 0 {
            return;
        }
        (self.listing_since, self.listed_at, self.rescan_soon) = (Some(now), now, false);
        for root in 0..self.roots.len() {
            self.directories.push((root as u16, "".into()));
        }
    }

    /// Everything is listed: from now on only what changes.
    fn end_listing(&mut self) {
        if !self.directories.is_empty() {
            return;
        }
        let Some(since) = self.listing_since.take() else { return };
        let now = Clock.now();
        (self.listed_at, self.listing_took) = (now, now.since(since));
        let blind = self.watcher.blind().map(str::to_owned);
        if blind != self.told {
            if let Some(why) = &blind {
                log::info!(
                    "changes below the document roots may be seen late: {why}; they are looked for \
                     every {} s",
                    RESCAN_BLIND.max(self.listing_took * RESCAN_SHARE).as_secs()
                );
            }
            self.told = blind;
        }
    }

    fn add_directory(&mut self, spot: Spot) {
        if self.is_served(&spot) && self.directories.len() < WAITING_MAX {
            self.directories.push(spot);
        }
    }

    fn is_served(&self, spot: &Spot) -> bool {
        let root = self.roots.get(usize::from(spot.0));
        root.is_some_and(|root| root.dotfiles || spot.1.is_empty() || !is_hidden(&spot.1))
    }

    /// Watches a directory, and looks at what is in it. Symbolic links are passed over: what they
    /// lead to below the root is found by its own name, and nothing else is served.
    fn list(&mut self, spot: &Spot) {
        let Some(directory) = self.open_directory(spot) else { return };
        self.watcher.watch(&directory, spot.clone());
        let Ok(entries) = fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd())) else {
            return;
        };
        for entry in entries.flatten() {
            let Some(found) = below(spot, Some(&entry.file_name())) else { continue };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.add_directory(found),
                Ok(kind) if kind.is_file() && self.is_served(&found) => {
                    let Ok(metadata) = entry.metadata() else { continue };
                    self.spend(Clock.now(), LOOK);
                    self.enqueue(found, Stamp::of(&metadata), 0);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn open_directory(&self, (root, path): &Spot) -> Option<File> {
        let root = self.roots.get(usize::from(*root))?;
        if path.is_empty() {
            // A descriptor of its own: that of the root is read from once.
            return root.directory.try_clone().ok();
        }
        match root.open_any(path) {
            Ok(file) if file.metadata().is_ok_and(|metadata| metadata.is_dir()) => Some(file),
            Ok(_) | Err(_) => None,
        }
    }

    /// Queues a version that is not known.
    fn enqueue(&mut self, spot: Spot, stamp: Stamp, changes: u32) {
        if stamp.length > self.settings.largest || self.digests.get(&stamp).is_some() {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            if !core::mem::replace(&mut self.left_out, true) {
                log::warn!(
                    "more than {WAITING_MAX} files below the document roots: some are hashed when \
                     they are asked for, and not before"
                );
            }
            return;
        }
        if self.waiting.insert(spot.clone(), ()).is_none() {
            self.serial += 1;
            self.queue.insert((stamp.length, self.serial), Task { spot, changes });
        }
    }

    /// A file has changed, and may go on changing.
    fn look_later(&mut self, now: Instant, spot: Spot, changes: u32) {
        if !self.is_served(&spot) || self.waiting.len() >= WAITING_MAX {
            return;
        }
        if self.waiting.insert(spot.clone(), ()).is_none() {
            self.serial += 1;
            let due = now + AGAIN * (1 << changes.min(AGAIN_DOUBLINGS));
            self.later.insert((due, self.serial), Task { spot, changes });
        }
    }

    /// Looks at a file that has changed.
    fn look(&mut self, now: Instant, task: Task) {
        self.waiting.remove(&task.spot);
        let Some((_, stamp)) = self.open(&task.spot) else { return };
        self.spend(now, LOOK);
        self.enqueue(task.spot, stamp, task.changes);
    }

    fn open(&self, (root, path): &Spot) -> Option<(Arc<File>, Stamp)> {
        match self.roots.get(usize::from(*root))?.open(path) {
            Opened::File(Found { file, stamp, .. }) => Some((file, stamp)),
            Opened::Directory | Opened::NotFound | Opened::Forbidden => None,
        }
    }

    /// Reads the next piece of the smallest file. Returns whether there is one.
    fn step(&mut self, now: Instant, buffer: &mut [u8]) -> bool {
        let left = self.under_way.last().map_or(u64::MAX, |(_, hashing)| hashing.left());
        if self.queue.first_key_value().is_some_and(|((length, _), _)| *length <= left / 2) {
            self.begin(now);
            return true;
        }
        let Some((task, mut hashing)) = self.under_way.pop() else { return false };
        // Somebody asked for it meanwhile.
        if self.digests.get(&hashing.stamp).is_some() {
            self.waiting.remove(&task.spot);
            return true;
        }
        let before = hashing.left();
        match hashing.step(buffer) {
            Ok(Step::More(read)) => {
                self.spend(now, read as u64);
                self.under_way.push((task, hashing));
                return true;
            }
            Ok(Step::Done(hash)) => {
                self.spend(now, before);
                self.digests.learn(hashing.stamp, Some(hash));
                self.report(&task.spot);
            }
            Ok(Step::Changed) => {
                self.waiting.remove(&task.spot);
                self.look_later(now, task.spot, task.changes + 1);
                return true;
            }
            Err(error) => {
                log::warn!("{:?} cannot be read: {error}", task.spot.1);
                self.digests.learn(hashing.stamp, None);
            }
        }
        self.waiting.remove(&task.spot);
        true
    }

    /// Opens the smallest file in the queue.
    fn begin(&mut self, now: Instant) {
        let Some((_, task)) = self.queue.pop_first() else { return };
        self.spend(now, OPEN);
        match self.open(&task.spot) {
            Some((file, stamp)) if self.is_wanted(&stamp) => {
                let unsettled = stamp.unsettled();
                if unsettled > Duration::ZERO {
                    self.serial += 1;
                    self.later.insert((now + unsettled, self.serial), task);
                } else {
                    self.under_way.push((task, Hashing::new(stamp, file)));
                }
            }
            Some(_) | None => {
                self.waiting.remove(&task.spot);
            }
        }
    }

    fn is_wanted(&self, stamp: &Stamp) -> bool {
        stamp.length <= self.settings.largest && self.digests.get(stamp).is_none()
    }

    /// The loop is told of what, at once, and rung for now and then.
    fn report(&mut self, spot: &Spot) {
        self.news = true;
        if let Err(TrySendError::Full(outcome)) =
            self.report.try_send(Outcome::Learnt(spot.clone()))
        {
            self.bell.ring();
            // An error is the store's end.
            let _ = self.report.send(outcome);
        }
    }

    /// Connections that wait for a copy to become right look again.
    fn tell(&mut self, now: Instant) {
        if self.news && now.since(self.rang_at) >= BELL_INTERVAL {
            (self.news, self.rang_at) = (false, now);
            self.bell.ring();
        }
    }

    fn save(&mut self, now: Instant, idle: bool) {
        let learnt = self.digests.learnt();
        let wait = if idle { SAVE_IDLE } else { SAVE_BUSY };
        if learnt == self.saved || now.since(self.saved_at) < wait {
            return;
        }
        let Some(path): Option<&PathBuf> = self.settings.cache.as_ref() else { return };
        (self.saved, self.saved_at) = (learnt, now);
        let result = cache::save(path, &self.digests);
        match (&result, self.save_failed) {
            (Err(error), false) => {
                log::warn!("{}: {error}; a restart will hash all files anew", path.display());
            }
            (Ok(()), _) | (Err(_), true) => {}
        }
        self.save_failed = result.is_err();
    }
}
