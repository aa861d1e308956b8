//! The threads that may wait for the disk, so that the loop never does.
//!
//! Some open files and read ahead, which someone waits for; others do the same where a call may take as
//! long as another host or process likes (`far`). One computes the hashes that the loop asks for, the
//! smallest file first: they can take long, and no reply waits for them but one that a takeover left to
//! us. Another hashes ahead (`ahead`), and one closes what may take long to close.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use mio::Waker;

use super::super::logging::warn_sparingly;
use super::blocks::BLOCK;
use super::digests::Digests;
use super::far;
use super::hashing::{Hashing, PIECE, Step};
use super::questions::{FAR_MAX, Helper, JOBS_MAX};
use super::stamp::Stamp;
use super::sys::{self, Effort};
use super::watch::Spot;
use crate::service::ContentId;
use crate::time::Duration;

/// Bytes brought into the page cache for one who waits.
pub(super) const FETCH: u64 = 1 << 20;
/// Bytes that the kernel is asked to begin with beyond that.
const FETCH_AHEAD: u64 = 4 << 20;
/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// Threads that open and read, of either kind: one file that keeps one of them waiting stops no other.
const HELPERS: usize = 4;
/// How long a file that nobody has any more may stay open.
const CLOSE: Duration = Duration::from_millis(100);
/// News of files that were hashed ahead, and that the loop has not read yet.
const LEARNT_MAX: usize = 1024;
/// A file that was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: Arc<File>,
    pub(super) stamp: Stamp,
    /// How many names it has.
    pub(super) links: u64,
    /// Whether the loop may call for it.
    pub(super) near: bool,
}

/// A piece of a file, and which version it is of.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) bytes: Box<[u8]>,
    pub(super) stamp: Stamp,
    pub(super) links: u64,
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Opened {
    File(Found),
    Directory,
    NotFound,
    Forbidden,
}

impl Opened {
    /// The same once more, unless it is a file.
    pub(super) const fn again(&self) -> Option<Self> {
        match self {
            Self::File(_) => None,
            Self::Directory => Some(Self::Directory),
            Self::NotFound => Some(Self::NotFound),
            Self::Forbidden => Some(Self::Forbidden),
        }
    }

    /// Makes sense of an attempt to open. `None` is "the kernel would have to wait".
    pub(super) fn from_result(root: &Root, result: io::Result<File>) -> Option<Self> {
        let opened = result.and_then(|file| {
            let metadata = sys::facts(&file)?;
            Ok((file, metadata))
        });
        Some(match opened {
            Ok((file, metadata)) if metadata.is_file() => Self::File(Found {
                stamp: Stamp::of(&metadata),
                links: metadata.nlink(),
                near: root.near && (metadata.dev() == root.device || sys::is_near(&file)),
                file: Arc::new(file),
            }),
            Ok((_, metadata)) if metadata.is_dir() => Self::Directory,
            Ok(_) => Self::Forbidden,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return None,
                Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => Self::NotFound,
                Some(libc::EACCES | libc::EPERM | libc::EXDEV | libc::ELOOP | libc::ENXIO) => {
                    Self::Forbidden
                }
                _ => {
                    warn_sparingly("open", format_args!("a file cannot be opened: {error}"));
                    Self::Forbidden
                }
            },
        })
    }
}

/// A document root and how paths below it are opened.
#[derive(Clone, Debug)]
pub(super) struct Root {
    pub(super) directory: Arc<File>,
    pub(super) openat2: bool,
    pub(super) dotfiles: bool,
    /// Whether its file system keeps nobody waiting who asks for what is in memory.
    pub(super) near: bool,
    pub(super) device: u64,
}

impl Root {
    pub(super) fn open(&self, path: &str) -> Opened {
        // Some file systems answer EAGAIN to a lookup that raced with a rename.
        for _ in 0..8 {
            if let Some(opened) = Opened::from_result(self, self.open_any(path)) {
                return opened;
            }
        }
        Opened::Forbidden
    }

    /// Opens whatever is there.
    pub(super) fn open_any(&self, path: &str) -> io::Result<File> {
        if self.openat2 {
            sys::open_beneath(&self.directory, path, Effort::Full)
        } else {
            sys::open_walking(&self.directory, path)
        }
    }
}

/// Work for the thread that someone waits for.
#[derive(Debug)]
pub(super) enum Job {
    Open { root: Root, spot: Spot },
    Fetch { content: ContentId, file: Arc<File>, offset: u64 },
    Block { content: ContentId, file: Arc<File>, offset: u64 },
}

/// Work for the other.
#[derive(Debug)]
pub(super) struct HashJob {
    pub(super) stamp: Stamp,
    pub(super) file: Arc<File>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Opened {
        helper: Helper,
        spot: Spot,
        opened: Opened,
    },
    Block {
        content: ContentId,
        number: u64,
        block: Result<Block, ()>,
    },
    Fetched {
        content: ContentId,
        piece: u64,
        result: Result<(), ()>,
    },
    /// What is known of it is with the others ([`Digests`]).
    Hashed {
        stamp: Stamp,
    },
    /// The hash of what is at a place has become known, though nobody asked for it.
    Learnt(Spot),
}

/// The store's end.
#[derive(Debug)]
pub(super) struct Helpers {
    pub(super) jobs: Sender<Job>,
    pub(super) far_jobs: Sender<Job>,
    pub(super) hash_jobs: Sender<HashJob>,
    pub(super) outcomes: Receiver<Outcome>,
    /// For others that find something out.
    pub(super) report: Sender<Outcome>,
}

/// Tells the loop that something is known now that was not.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    pub(super) rung: Arc<AtomicBool>,
    pub(super) waker: Arc<Waker>,
}

impl Bell {
    pub(super) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            log::error!("the loop cannot be woken: {error}");
        }
    }
}

impl Helpers {
    pub(super) fn start(bell: &Bell, digests: &Arc<Digests>, largest: u64) -> io::Result<Self> {
        let (jobs, job_queue) = bounded(JOBS_MAX);
        let (far_jobs, far_queue) = bounded(FAR_MAX);
        let (hash_jobs, hash_queue) = bounded(JOBS_MAX);
        // What is under way has room, so that nobody who works for the loop waits for it.
        let (report, outcomes) = bounded(2 * JOBS_MAX + FAR_MAX + LEARNT_MAX);
        let (keep, kept) = unbounded();
        let start = |name: &str, helper, queue: &Receiver<Job>| {
            let (queue, report) = (queue.clone(), report.clone());
            let (bell, keep) = (bell.clone(), keep.clone());
            let work = move || serve(helper, &queue, &report, &bell, &keep);
            thread::Builder::new().name(name.into()).spawn(work).map(drop)
        };
        for _ in 0..HELPERS {
            start("disk", Helper::Disk, &job_queue)?;
            start("far", Helper::Far, &far_queue)?;
        }
        let told = report.clone();
        let (bell, digests) = (bell.clone(), Arc::clone(digests));
        let hash = move || hash(&hash_queue, &report, &bell, &digests, largest);
        thread::Builder::new().name("hash".into()).spawn(hash)?;
        thread::Builder::new().name("close".into()).spawn(move || close(&kept))?;
        Ok(Self { jobs, far_jobs, hash_jobs, outcomes, report: told })
    }
}

/// A helper's whole life: until the store is gone.
fn serve(
    helper: Helper,
    jobs: &Receiver<Job>,
    report: &Sender<Outcome>,
    bell: &Bell,
    keep: &Sender<Arc<File>>,
) {
    for job in jobs {
        if report.send(work(helper, job, keep)).is_err() {
            return;
        }
        bell.ring();
    }
}

fn work(helper: Helper, job: Job, keep: &Sender<Arc<File>>) -> Outcome {
    match job {
        Job::Open { root, spot } => {
            let opened = root.open(&spot.1);
            if let Opened::File(Found { file, near: false, .. }) = &opened {
                // An error is the store's end.
                let _ = keep.send(Arc::clone(file));
            }
            Outcome::Opened { helper, spot, opened }
        }
        Job::Fetch { content, file, offset } => {
            let result = fetch(&file, offset).map_err(drop);
            Outcome::Fetched { content, piece: offset / FETCH, result }
        }
        Job::Block { content, file, offset } => {
            let block = far::read_block(&file, offset).map_err(|error| {
                warn_sparingly("read", format_args!("a file cannot be read: {error}"));
            });
            Outcome::Block { content, number: offset / BLOCK, block }
        }
    }
}

/// Closing takes as long as reading where others serve the file system. So files from there are kept
/// here as well, and whoever else lets go of one closes nothing.
fn close(files: &Receiver<Arc<File>>) {
    let mut kept: Vec<Arc<File>> = Vec::new();
    loop {
        let received = match kept.is_empty() {
            true => files.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => files.recv_timeout(CLOSE),
        };
        match received {
            Ok(file) => kept.push(file),
            Err(RecvTimeoutError::Timeout) => kept.retain(|file| Arc::strong_count(file) > 1),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Brings a range into the page cache, by reading it.
fn fetch(file: &File, offset: u64) -> io::Result<()> {
    sys::read_ahead(file, offset, FETCH_AHEAD);
    let mut buffer = vec![0; CHUNK];
    let mut at = offset;
    while at < offset + FETCH {
        match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                warn_sparingly("read", format_args!("a file cannot be read: {error}"));
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The other helper's whole life. A file that came later and is smaller is done first.
fn hash(
    jobs: &Receiver<HashJob>,
    report: &Sender<Outcome>,
    bell: &Bell,
    digests: &Digests,
    largest: u64,
) {
    let mut files: Vec<Hashing> = Vec::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let wait = files.iter().map(Hashing::unsettled).min();
        if files.len() < JOBS_MAX {
            let received = match wait {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => jobs.recv_timeout(wait),
            };
            match received {
                Ok(HashJob { stamp, file }) => files.push(Hashing::new(stamp, file)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if wait.is_none_or(|wait| wait > Duration::ZERO) {
                continue;
            }
        } else {
            thread::sleep(wait.unwrap_or_default());
        }
        let ready = (0..files.len()).filter(|at| files[*at].unsettled() == Duration::ZERO);
        let Some(at) = ready.min_by_key(|at| files[*at].left()) else { continue };
        let file = &mut files[at];
        let stamp = file.stamp;
        if stamp.length > largest {
            digests.learn(stamp, None);
        } else if digests.get(&stamp).is_none() {
            match file.step(&mut buffer) {
                Ok(Step::More(_)) => continue,
                Ok(Step::Done(hash)) => digests.learn(stamp, Some(hash)),
                // The next question is about the version that is there then.
                Ok(Step::Changed) => {}
                Err(error) => {
                    log::warn!("a file cannot be read: {error}");
                    digests.learn(stamp, None);
                }
            }
        }
        files.swap_remove(at);
        if report.send(Outcome::Hashed { stamp }).is_err() {
            return;
        }
        bell.ring();
    }
}
