//! The thread that writes: blocks in, files out. It alone touches the disk.
//!
//! ```text
//!   loop ──── full buffers ───► thread ───► FILE, FILE.1 …
//!     ▲                            │
//!     └────── empty buffers ───────┘     when none is left, packets are lost and counted
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{io, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::files::{Files, Totals};
use super::pcapng::{Source, Statistics, first_time};
use super::spec::CaptureSpec;
use crate::runtime::clock::Clock;

/// Bytes of one buffer: several of the largest packets.
pub(super) const BUFFER: usize = 256 << 10;
/// Buffers of one capture, made when first needed: 64 MiB, a tenth of a second at 5 Gbit/s.
pub(super) const BUFFERS_MAX: usize = 256;

/// Where the answer to a start or a stop goes. The requester may have gone.
pub type Reply = Sender<Result<String, String>>;

/// Something for the thread to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Whole blocks.
    Blocks(Vec<u8>),
    /// Close the file, and tell.
    End(Reply),
}

/// What both sides know of a capture.
#[derive(Debug)]
pub(super) struct Shared {
    /// When it began, nanoseconds since 1970.
    pub(super) since: u64,
    /// Packets seen of each source, lost ones included.
    pub(super) seen: [AtomicU64; Source::ALL.len()],
    /// Packets lost of each source.
    pub(super) lost: [AtomicU64; Source::ALL.len()],
    /// Bytes written into files.
    pub(super) bytes: AtomicU64,
    /// What this node is: the first mark of every file.
    pub(super) state: Mutex<String>,
    /// Why it ended, if it did so by itself.
    pub(super) ended: Mutex<Option<String>>,
    /// The thread takes nothing more: it could not begin, or has ended.
    pub(super) over: AtomicBool,
}

impl Shared {
    /// A capture that begins now, on a node that is `state`.
    pub(super) fn new(state: String) -> Self {
        Self {
            since: Clock.wall_nanos(),
            seen: Default::default(),
            lost: Default::default(),
            bytes: AtomicU64::new(0),
            state: Mutex::new(state),
            ended: Mutex::new(None),
            over: AtomicBool::new(false),
        }
    }

    fn totals(&self) -> Totals {
        let at = Clock.wall_nanos();
        Source::ALL.map(|source| Statistics {
            source,
            at,
            since: self.since,
            seen: self.seen[source.index()].load(Ordering::Relaxed),
            lost: self.lost[source.index()].load(Ordering::Relaxed),
        })
    }

    /// Packets lost, of all sources.
    pub(super) fn lost_in_all(&self) -> u64 {
        self.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum()
    }

    /// Packets seen, of all sources.
    pub(super) fn seen_in_all(&self) -> u64 {
        self.seen.iter().map(|seen| seen.load(Ordering::Relaxed)).sum()
    }
}

/// The loop's ends of the channels.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) jobs: Sender<Job>,
    pub(super) spare: Receiver<Vec<u8>>,
}

impl Writer {
    /// Starts the thread. It makes the file, and says at `reply` whether it could.
    pub(super) fn start(spec: CaptureSpec, shared: Arc<Shared>, reply: Reply) -> io::Result<Self> {
        // One more than there are buffers: there is always room to say that it is over.
        let (jobs, work) = bounded(BUFFERS_MAX + 1);
        let (back, spare) = bounded(BUFFERS_MAX);
        let run = move || match Files::create(spec.clone()) {
            Ok(files) => {
                let _ = reply.try_send(Ok(format!("captures into {}", spec.file().display())));
                Thread { spec, files, shared, back }.write(&work);
            }
            Err(why) => {
                // Before the answer: whoever has it may ask again at once.
                shared.over.store(true, Ordering::Relaxed);
                let _ = reply.try_send(Err(why));
            }
        };
        thread::Builder::new().name("capture".into()).spawn(run)?;
        Ok(Self { jobs, spare })
    }
}

/// The thread's end.
struct Thread {
    spec: CaptureSpec,
    files: Files,
    shared: Arc<Shared>,
    back: Sender<Vec<u8>>,
}

impl Thread {
    fn write(mut self, work: &Receiver<Job>) {
        let outcome = self.write_until_told(work);
        let closed = self.files.finish(&self.shared.totals());
        match outcome {
            Ok(reply) => {
                let told = closed.map(|()| self.summary()).map_err(|error| self.fault(&error));
                let _ = reply.try_send(told);
            }
            Err(why) => {
                log::warn!("the capture has ended: {why}");
                *self.shared.ended.lock() = Some(why);
                self.shared.over.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Returns whom to tell of the end; the error is why it came by itself.
    fn write_until_told(&mut self, work: &Receiver<Job>) -> Result<Reply, String> {
        self.mark_state(self.shared.since).map_err(|error| self.fault(&error))?;
        for job in work {
            match job {
                Job::Blocks(blocks) => self.write_blocks(blocks)?,
                Job::End(reply) => return Ok(reply),
            }
        }
        Err("the engine is gone".into())
    }

    fn write_blocks(&mut self, mut blocks: Vec<u8>) -> Result<(), String> {
        if blocks.len() as u64 > self.files.room() {
            let rotated = self.files.rotate(&self.shared.totals());
            if !rotated.map_err(|error| self.fault(&error))? {
                return Err(format!("{} has its full size", self.spec.file().display()));
            }
            let at = first_time(&blocks).unwrap_or_else(|| Clock.wall_nanos());
            self.mark_state(at).map_err(|error| self.fault(&error))?;
        }
        self.files.write(&blocks).map_err(|error| self.fault(&error))?;
        self.shared.bytes.fetch_add(blocks.len() as u64, Ordering::Relaxed);
        blocks.clear();
        let _ = self.back.try_send(blocks);
        Ok(())
    }

    /// Every file begins with what the node is, so that it can be read without those before it.
    /// The mark is as old as the file's first packet, which the loop had seen before.
    fn mark_state(&mut self, at: u64) -> io::Result<()> {
        let state = self.shared.state.lock().clone();
        self.files.mark(at, &state)
    }

    fn fault(&self, error: &io::Error) -> String {
        format!("{}: {error}", self.spec.file().display())
    }

    fn summary(&self) -> String {
        format!(
            "{}: {} packets, {} lost",
            self.spec.file().display(),
            self.shared.seen_in_all() - self.shared.lost_in_all(),
            self.shared.lost_in_all(),
        )
    }
}
