//! The threads that may wait for the disk, so that the loop never does.
//!
//! One opens files and reads ahead, which someone waits for. The other computes hashes, which can
//! take long and which nobody's reply waits for.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;

use super::sys::{self, Effort};
use crate::runtime::clock::Clock;
use crate::time::Duration;

/// Bytes brought into the page cache for one who waits.
const FETCH: u64 = 1 << 20;
/// Bytes that the kernel is asked to begin with beyond that.
const FETCH_AHEAD: u64 = 4 << 20;
/// Bytes read at a time.
const CHUNK: usize = 128 << 10;
/// Jobs waiting for the disk, or for a hash.
const JOBS_MAX: usize = 256;
/// A file written so recently may be written again without its time of modification moving, since
/// kernels stamp files by the tick. Its hash is taken once that has passed.
const SETTLED: Duration = Duration::from_millis(100);

/// One version of one file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    /// In nanoseconds since 1970.
    pub(super) modified: u64,
    pub(super) length: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
        let nanos = u64::try_from(metadata.mtime_nsec()).unwrap_or(0);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
            length: metadata.len(),
        }
    }
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Opened {
    File(File, Identity),
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
            Ok((file, metadata)) if metadata.is_file() => Self::File(file, Identity::of(&metadata)),
            Ok((_, metadata)) if metadata.is_dir() => Self::Directory,
            Ok(_) => Self::Forbidden,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN) => return None,
                Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => Self::NotFound,
                Some(libc::EACCES | libc::EPERM | libc::EXDEV | libc::ELOOP | libc::ENXIO) => {
                    Self::Forbidden
                }
                _ => {
                    log::warn!("a file cannot be opened: {error}");
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
}

impl Root {
    fn open(&self, path: &str) -> Opened {
        // Some file systems answer EAGAIN to a lookup that raced with a rename.
        for _ in 0..8 {
            let result = if self.openat2 {
                sys::open_beneath(&self.directory, path, Effort::Full)
            } else {
                sys::open_walking(&self.directory, path)
            };
            if let Some(opened) = Opened::from_result(result) {
                return opened;
            }
        }
        Opened::Forbidden
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
    pub(super) identity: Identity,
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
    /// `None`: it cannot be read, or it changed meanwhile.
    Hashed {
        identity: Identity,
        hash: Option<[u8; 32]>,
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
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            log::error!("the loop cannot be woken: {error}");
        }
    }
}

impl Helpers {
    pub(super) fn start(bell: &Bell) -> io::Result<Self> {
        let (jobs, job_queue) = bounded(JOBS_MAX);
        let (hash_jobs, hash_queue) = bounded(JOBS_MAX);
        // One more than can be under way at a time, so a helper never waits for the loop.
        let (report, outcomes) = bounded(2 * JOBS_MAX + 2);
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
        let bell = bell.clone();
        let hash = move || {
            serve(&hash_queue, &report, &bell, |HashJob { identity, file }| {
                let hash = hash(&file, identity).unwrap_or_default();
                Outcome::Hashed { identity, hash }
            });
        };
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
                log::warn!("a file cannot be read: {error}");
                return Err(error);
            }
        }
    }
    Ok(())
}

/// The digest of the whole file, unless it is not `identity` before and after.
fn hash(file: &File, identity: Identity) -> io::Result<Option<[u8; 32]>> {
    let age = Clock.wall_nanos().saturating_sub(identity.modified);
    thread::sleep(SETTLED.saturating_sub(Duration::from_nanos(age)));
    if Identity::of(&file.metadata()?) != identity {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < identity.length {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Ok(None),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let same = Identity::of(&file.metadata()?) == identity;
    Ok(same.then(|| *hasher.finalize().as_bytes()))
}
