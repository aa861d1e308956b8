//! The threads that may wait for the disk, so that the loop never does.
//!
//! One opens files and reads ahead, which someone waits for. The other computes the hashes that the
//! loop asks for, the smallest file first: they can take long, and no reply waits for them but one
//! that a takeover left to us. A third hashes ahead (`ahead`).

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use mio::Waker;

use super::super::logging::warn_sparingly;
use super::digests::Digests;
use super::hashing::{Hashing, PIECE, Step};
use super::stamp::Stamp;
use super::sys::{self, Effort};
use crate::time::Duration;

/// Bytes brought into the page cache for one who waits.
const FETCH: u64 = 1 << 20;
/// Bytes that the kernel is asked to begin with beyond that.
const FETCH_AHEAD: u64 = 4 << 20;
/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// Jobs waiting for the disk, or for a hash.
const JOBS_MAX: usize = 256;
/// What is at a path.
#[derive(Debug)]
pub(super) enum Opened {
    /// A file, its version, and how many names it has.
    File(File, Stamp, u64),
    Directory,
    NotFound,
    Forbidden,
}

impl Opened {
    /// Makes sense of an attempt to open. `None` is "the kernel would have to wait".
    pub(super) fn from_result(result: io::Result<File>) -> Option<Self> {
        let opened = result.and_then(|file| {
            let metadata = file.metadata()?;
            Ok((file, metadata))
        });
        Some(match opened {
            Ok((file, metadata)) if metadata.is_file() => {
                Self::File(file, Stamp::of(&metadata), metadata.nlink())
            }
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
}

impl Root {
    pub(super) fn open(&self, path: &str) -> Opened {
        // Some file systems answer EAGAIN to a lookup that raced with a rename.
        for _ in 0..8 {
            if let Some(opened) = Opened::from_result(self.open_any(path)) {
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
    Open { root: Root, number: u16, path: Box<str> },
    Fetch { content: u64, file: Arc<File>, offset: u64 },
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
        number: u16,
        path: Box<str>,
        opened: Opened,
    },
    Fetched {
        content: u64,
        result: Result<(), ()>,
    },
    /// What is known of it is with the others ([`Digests`]).
    Hashed {
        stamp: Stamp,
    },
}

/// The store's end.
#[derive(Debug)]
pub(super) struct Helpers {
    pub(super) jobs: Sender<Job>,
    pub(super) hash_jobs: Sender<HashJob>,
    pub(super) outcomes: Receiver<Outcome>,
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
        let (hash_jobs, hash_queue) = bounded(JOBS_MAX);
        // One more than can be under way at a time, so a helper never waits for the loop.
        let (report, outcomes) = bounded(3 * JOBS_MAX + 2);
        let work = {
            let (report, bell) = (report.clone(), bell.clone());
            move || {
                serve(&job_queue, &report, &bell, |job| match job {
                    Job::Open { root, number, path } => {
                        let opened = root.open(&path);
                        Outcome::Opened { number, path, opened }
                    }
                    Job::Fetch { content, file, offset } => {
                        Outcome::Fetched { content, result: fetch(&file, offset).map_err(drop) }
                    }
                });
            }
        };
        let (bell, digests) = (bell.clone(), Arc::clone(digests));
        let hash = move || hash(&hash_queue, &report, &bell, &digests, largest);
        thread::Builder::new().name("disk".into()).spawn(work)?;
        thread::Builder::new().name("hash".into()).spawn(hash)?;
        Ok(Self { jobs, hash_jobs, outcomes })
    }
}

/// A helper's whole life: until the store is gone.
fn serve<J>(
    jobs: &Receiver<J>,
    report: &Sender<Outcome>,
    bell: &Bell,
    mut work: impl FnMut(J) -> Outcome,
) {
    for job in jobs {
        if report.send(work(job)).is_err() {
            return;
        }
        bell.ring();
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
                // Whoever asks again asks for the version that is there then.
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
