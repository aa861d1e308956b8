//! Captures: what enters and leaves the TUN, and what goes over the replication stream, in a
//! pcapng file that Wireshark, tcpdump and `standin-replay` read.
//!
//! ```text
//!   interface 0  tun          every packet, whole, with its direction; super-segments as they are
//!   interface 1  replication  every frame: its length, its direction, and a line about it
//!   interface 2  standin      marks: roles, takeovers and their times, links
//! ```
//!
//! The loop makes blocks into buffers that it owns (`Tap`), and a thread writes them to the disk
//! (`writer`). The loop never waits for that thread: without an empty buffer a packet is lost, and
//! the loss is counted in the file, beside the next packet and at the end, and in the status. Marks
//! are kept until there is room. While no capture runs nothing is allocated or copied.
//!
//! The exact form is told in `docs/operations.md`, section Captures.

mod files;
mod framing;
mod outline;
mod pcapng;
#[cfg(test)]
mod readback;
mod spec;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrayvec::ArrayString;
use crossbeam_channel::bounded;

use self::files::mark;
use self::framing::Framing;
use self::outline::outline;
use self::pcapng::{Direction, PACKET_OVERHEAD, Packet, Source, put_packet};
use self::writer::{BUFFER, BUFFERS_MAX, Job, Shared, Writer};
use super::clock::Clock;
use super::report::CaptureReport;
use crate::engine::Status;
use crate::ids::Epoch;
use crate::role::Role;
use crate::time::{Duration, Instant};
use crate::wire::VnetHeader;

pub use spec::CaptureSpec;
pub use writer::Reply;

/// Marks that may wait for room; later ones are lost.
const MARKS_MAX: usize = 64;
/// How long a program that ends waits for the rest to be written.
const FAREWELL: Duration = Duration::from_millis(500);

/// Where the loop tells what passes by it.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// The capture that runs, or the last one if it ended by itself.
    capture: Option<Capture>,
    /// What the peer says.
    heard: Framing,
    /// What it is told.
    said: Framing,
    /// How many bytes of the link's output have been looked at already: the front of it.
    looked_at: usize,
    /// The role that the capture was told of.
    noted: Option<(Role, Epoch)>,
    takeover: Option<Takeover>,
}

/// A takeover under way: what has been reached of it.
#[derive(Clone, Copy, Debug)]
struct Takeover {
    begun: Instant,
    announced: bool,
}

impl Tap {
    /// Begins a capture on a node of this `status`; `reply` is told whether that worked, once it is
    /// known.
    pub(super) fn start(&mut self, spec: CaptureSpec, status: &Status, reply: Reply) {
        if let Some(capture) = self.running() {
            let file = capture.spec.file().display();
            let _ = reply.try_send(Err(format!("a capture is running, into {file}")));
            return;
        }
        self.noted = Some((status.role, status.epoch));
        self.takeover = None;
        match Capture::start(spec, describe(status), reply.clone()) {
            Ok(capture) => self.capture = Some(capture),
            Err(error) => {
                let _ = reply.try_send(Err(format!("no thread for the capture: {error}")));
            }
        }
    }

    /// Ends the capture; `reply` is told when all is written.
    pub(super) fn stop(&mut self, reply: Reply) {
        match self.running().is_some().then(|| self.capture.take()).flatten() {
            Some(mut capture) => capture.end(reply),
            None => {
                let _ = reply.try_send(Err("no capture is running".into()));
            }
        }
    }

    /// Whether packets are written now.
    pub(super) fn is_running(&mut self) -> bool {
        self.running().is_some()
    }

    /// What the status says of it.
    pub(super) fn report(&self) -> Option<CaptureReport> {
        self.capture.as_ref().and_then(Capture::report)
    }

    /// A packet was read from the TUN.
    pub(super) fn packet_in(&mut self, header: VnetHeader, packet: &[u8]) {
        if let Some(capture) = self.running() {
            capture.packet(Direction::Inbound, header, packet);
        }
    }

    /// `buffer`, header and packet, was written to the TUN.
    pub(super) fn packet_out(&mut self, clock: Clock, buffer: &[u8]) {
        let Some(capture) = self.running() else { return };
        if let (Some(header), Some(packet)) =
            (VnetHeader::parse(buffer), buffer.get(VnetHeader::LEN..))
        {
            capture.packet(Direction::Outbound, header, packet);
        }
        if let Some(Takeover { begun, .. }) = self.takeover.take() {
            self.mark_step(begun, clock.now(), "first packet");
        }
    }

    /// A replication stream begins or has ended.
    pub(super) fn link(&mut self, news: &str) {
        self.heard.reset();
        self.said.reset();
        self.looked_at = 0;
        self.mark(format_args!("link: {news}"));
    }

    /// The peer said this.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        let listen = self.running().is_some();
        let Self { heard, capture, .. } = self;
        heard.follow(bytes, listen, |passed| {
            if let Some(capture) = capture {
                capture.frame(Direction::Inbound, passed);
            }
        });
    }

    /// This is what the peer has not been given yet; a part of it may have been seen here before.
    pub(super) fn saying(&mut self, output: &[u8]) {
        let listen = self.running().is_some();
        let Self { said, capture, looked_at, .. } = self;
        let new = output.get(*looked_at..).unwrap_or_default();
        said.follow(new, listen, |passed| {
            if let Some(capture) = capture {
                capture.frame(Direction::Outbound, passed);
            }
        });
        *looked_at = output.len();
    }

    /// So many bytes of what [`Tap::saying`] saw are left.
    pub(super) fn unsaid(&mut self, left: usize) {
        self.looked_at = left;
    }

    /// This node takes the service addresses.
    pub(super) fn takes_over(&mut self, now: Instant, status: &Status) {
        if self.is_running() {
            self.takeover = Some(Takeover { begun: now, announced: false });
            let Status { epoch, connections, .. } = status;
            self.mark(format_args!(
                "takeover: begins, epoch {}, {connections} connections",
                epoch.0
            ));
        }
    }

    /// The routes lead here.
    pub(super) fn routed(&mut self, now: Instant) {
        if let Some(Takeover { begun, .. }) = self.takeover {
            self.mark_step(begun, now, "routes set");
        }
    }

    /// A frame told the LAN.
    pub(super) fn announced(&mut self, now: Instant) {
        if let Some(Takeover { begun, announced: false }) = self.takeover {
            self.takeover = Some(Takeover { begun, announced: true });
            self.mark_step(begun, now, "announced");
        }
    }

    fn mark_step(&mut self, begun: Instant, now: Instant, step: &str) {
        self.mark(format_args!("takeover: {step} after {} us", now.since(begun).as_micros()));
    }

    /// What the node is now. A change of role or epoch is marked.
    pub(super) fn note(&mut self, status: &Status) {
        let new = (status.role, status.epoch);
        let Some((old, _)) = self.noted.replace(new).filter(|noted| *noted != new) else { return };
        if let Some(capture) = self.running() {
            *capture.shared.state.lock() = describe(status);
            let Status { role, epoch, connections, .. } = status;
            let epoch = epoch.0;
            capture
                .mark(&format!("role: {old} -> {role}, epoch {epoch}, {connections} connections"));
        }
    }

    /// Something happened that whoever reads the capture wants to find.
    pub(super) fn mark(&mut self, text: fmt::Arguments<'_>) {
        if let Some(capture) = self.running() {
            capture.mark(&text.to_string());
        }
    }

    /// The end of a turn: what it saw goes to the disk.
    pub(super) fn flush(&mut self) {
        let Some(capture) = &mut self.capture else { return };
        if capture.is_running() {
            capture.flush();
        } else {
            // It ended by itself: its buffers go, what it says of the end stays.
            (capture.writer, capture.blocks) = (None, Vec::new());
        }
    }

    fn running(&mut self) -> Option<&mut Capture> {
        self.capture.as_mut().filter(|capture| capture.is_running())
    }
}

/// What every file begins with.
fn describe(status: &Status) -> String {
    let Status { node, role, epoch, connections, .. } = status;
    format!("node: {node}, {role}, epoch {}, {connections} connections", epoch.0)
}

/// The loop's end of a capture.
#[derive(Debug)]
struct Capture {
    spec: CaptureSpec,
    shared: Arc<Shared>,
    /// The thread, unless it has ended.
    writer: Option<Writer>,
    /// Blocks that the thread has not been given; of no capacity if there is no buffer.
    blocks: Vec<u8>,
    /// How many buffers there are.
    buffers: usize,
    /// Packets of each source lost since the last that was written.
    lost: [u64; Source::ALL.len()],
    /// Marks that found no room, and their times.
    waiting: Vec<(u64, String)>,
}

impl Capture {
    fn start(spec: CaptureSpec, state: String, reply: Reply) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(state));
        let writer = Writer::start(spec.clone(), Arc::clone(&shared), reply)?;
        Ok(Self {
            spec,
            shared,
            writer: Some(writer),
            blocks: Vec::new(),
            buffers: 0,
            lost: Default::default(),
            waiting: Vec::new(),
        })
    }

    fn packet(&mut self, direction: Direction, header: VnetHeader, bytes: &[u8]) {
        let mut comment = ArrayString::<64>::new();
        if header.is_gso() {
            let VnetHeader { gso_type, gso_size, header_len, .. } = header;
            let kind = match gso_type & !VnetHeader::GSO_ECN {
                VnetHeader::GSO_TCPV4 => "tcpv4",
                VnetHeader::GSO_TCPV6 => "tcpv6",
                _ => "other",
            };
            // Three numbers of five digits fit.
            let _ = write!(comment, "gso {kind} size {gso_size} header {header_len}");
        }
        self.put(Packet {
            source: Source::Tun,
            at: Clock.wall_nanos(),
            bytes,
            length: bytes.len(),
            direction: Some(direction),
            lost: 0,
            comment: &comment,
        });
    }

    fn frame(&mut self, direction: Direction, passed: framing::Passed<'_>) {
        self.put(Packet {
            source: Source::Replication,
            at: Clock.wall_nanos(),
            bytes: &[],
            length: passed.length,
            direction: Some(direction),
            lost: 0,
            comment: &outline(passed),
        });
    }

    fn mark(&mut self, text: &str) {
        let at = Clock.wall_nanos();
        if self.waiting.is_empty() && self.make_room(0) {
            self.put(mark(at, text));
        } else if self.waiting.len() < MARKS_MAX {
            self.waiting.push((at, text.to_owned()));
        } else {
            self.count(Source::Engine);
            self.lose(Source::Engine);
        }
    }

    /// Writes `packet`, or counts it as lost.
    fn put(&mut self, packet: Packet<'_>) {
        let index = packet.source.index();
        self.count(packet.source);
        if !self.make_room(packet.bytes.len()) {
            self.lose(packet.source);
            return;
        }
        let lost = core::mem::take(&mut self.lost[index]);
        put_packet(&mut self.blocks, &Packet { lost, ..packet });
    }

    fn count(&self, source: Source) {
        self.shared.seen[source.index()].fetch_add(1, Ordering::Relaxed);
    }

    fn lose(&mut self, source: Source) {
        self.lost[source.index()] += 1;
        self.shared.lost[source.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Sees to it that a packet of `length` bytes fits into the buffer, if there is one.
    fn make_room(&mut self, length: usize) -> bool {
        let needed = length + PACKET_OVERHEAD;
        if self.blocks.capacity() - self.blocks.len() >= needed {
            return true;
        }
        self.flush();
        self.take_buffer();
        self.blocks.capacity() >= needed
    }

    /// An empty buffer, if there is one or may be one more.
    fn take_buffer(&mut self) {
        let Some(writer) = &self.writer else { return };
        if let Ok(empty) = writer.spare.try_recv() {
            self.blocks = empty;
        } else if self.buffers < BUFFERS_MAX {
            self.buffers += 1;
            self.blocks = Vec::with_capacity(BUFFER);
        }
    }

    /// Gives the thread what there is.
    fn flush(&mut self) {
        if !self.waiting.is_empty() {
            self.put_waiting();
        }
        if self.blocks.is_empty() {
            return;
        }
        let blocks = core::mem::take(&mut self.blocks);
        let sent = self.writer.as_ref().map(|writer| writer.jobs.try_send(Job::Blocks(blocks)));
        if !matches!(sent, Some(Ok(()))) {
            // The thread has ended, and said why.
            self.writer = None;
        }
    }

    /// The marks that waited, as far as they fit.
    fn put_waiting(&mut self) {
        if self.blocks.capacity() == 0 {
            self.take_buffer();
        }
        let room = (self.blocks.capacity() - self.blocks.len()) / PACKET_OVERHEAD;
        let fits = room.min(self.waiting.len());
        for (at, text) in self.waiting.drain(..fits).collect::<Vec<_>>() {
            self.count(Source::Engine);
            let lost = core::mem::take(&mut self.lost[Source::Engine.index()]);
            put_packet(&mut self.blocks, &Packet { lost, ..mark(at, &text) });
        }
    }

    /// Nothing follows; `reply` is told when all is written.
    fn end(&mut self, reply: Reply) {
        self.flush();
        for _ in core::mem::take(&mut self.waiting) {
            self.count(Source::Engine);
            self.lose(Source::Engine);
        }
        if let Some(writer) = self.writer.take() {
            // There is room for this: the channel is larger than the number of buffers. If the
            // thread has ended by itself, `reply` goes with it, and whoever waits is told so.
            let _ = writer.jobs.try_send(Job::End(reply));
        }
    }

    fn is_running(&self) -> bool {
        self.writer.is_some() && !self.shared.over.load(Ordering::Relaxed)
    }

    /// Nothing about one that never began.
    fn report(&self) -> Option<CaptureReport> {
        let (running, ended) = (self.is_running(), self.shared.ended.lock().clone());
        (running || ended.is_some()).then(|| CaptureReport {
            file: self.spec.file().display().to_string(),
            running,
            packets: self.shared.seen_in_all() - self.shared.lost_in_all(),
            lost: self.shared.lost_in_all(),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            ended,
        })
    }
}

impl Drop for Capture {
    /// The program ends: the last packets are often those that matter.
    fn drop(&mut self) {
        if self.writer.is_some() {
            let (reply, done) = bounded(1);
            self.end(reply);
            let _ = done.recv_timeout(FAREWELL);
        }
    }
}
