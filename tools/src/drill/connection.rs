//! One connection and what its client does with it.
//!
//! ```text
//!   connecting ──► open ──────────────────────────► closing ──────────► ended
//!                   sends up to its limit,           FIN sent: what is     the peer's FIN came
//!                   checks what comes                still due must come   where it belongs
//! ```
//!
//! The limit is where the services differ. A continuous stream may send up to its end, or without
//! one for ever. A client that asks and waits may send up to the end of its current request; its
//! next request moves the limit when the answer is there and the time for thinking is over.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::failure::Failure;
use super::http::{Expected, Reply};
use super::meter::Meter;
use super::pattern::{Pattern, chargen_difference, chargen_fill};
use super::plan::{Service, Workload};
use crate::sys;

/// Reads and writes of one connection in one turn, before others have theirs.
const TURN: usize = 2;
/// How long a character generator may go on after our FIN before we hang up: RFC 864 lets it
/// ignore a half-close.
const LINGER: Duration = Duration::from_secs(1);

/// How a connection is to be opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) number: u64,
    pub(super) workload: &'a Workload,
    pub(super) target: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) seed: u64,
    pub(super) rate: Option<u64>,
}

/// One client connection.
#[derive(Debug)]
pub(super) struct Connection {
    number: u64,
    stream: TcpStream,
    service: Service,
    content: Content,
    phase: Phase,
    opened: Instant,
    connected: Instant,
    /// Bytes given to the kernel, of those acknowledged by the peer, and bytes taken from it.
    sent: u64,
    acked: u64,
    received: u64,
    /// Bytes to send in all, once that is known. The FIN goes out behind them.
    end: Option<u64>,
    /// Bytes to receive from a download before closing.
    wanted: Option<u64>,
    asking: Option<Asking>,
    early_fin: bool,
    exchanges: u64,
    rate: Option<u64>,
    meter: Meter,
    readable: bool,
    writable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    Closing { since: Instant },
    Ended,
}

/// What is sent, and what is to come back.
#[derive(Debug)]
enum Content {
    Echo(Pattern),
    Discard,
    Chargen,
    Files(Box<Download>),
}

/// A file that is asked for, and the reply so far.
#[derive(Debug)]
struct Download {
    request: Vec<u8>,
    reply: Reply,
    expected: Expected,
}

/// A client that sends a request and waits for its answer.
#[derive(Debug)]
struct Asking {
    size: u64,
    think: Duration,
    limit: u64,
    answered: bool,
    /// When the next request goes out; `None` is never.
    next: Option<Instant>,
}

/// What a turn of a connection says to the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// There is more to do without waiting for the kernel.
    pub(super) more: bool,
    /// The handshake has just completed.
    pub(super) connected: bool,
    /// A wait has just ended; how long it was.
    pub(super) gap: Option<Duration>,
    /// The connection ended in order.
    pub(super) ended: bool,
}

impl Connection {
    /// Starts to connect.
    pub(super) fn open(now: Instant, opening: &Opening<'_>) -> io::Result<Self> {
        let Opening { number, workload, target, source, seed, rate } = *opening;
        let stream = connect(target, source)?;
        let content = content_of(workload, target, Pattern::new(seed, number));
        let asking = asking_of(workload, &content);
        let upload = matches!(workload.service, Service::Echo | Service::Discard);
        let mut meter = Meter::default();
        meter.note(now, false, true);
        Ok(Self {
            number,
            stream,
            service: workload.service,
            content,
            phase: Phase::Connecting,
            opened: now,
            connected: now,
            sent: 0,
            acked: 0,
            received: 0,
            end: workload.bytes.filter(|_| upload && asking.is_none()),
            wanted: workload.bytes.filter(|_| !upload || asking.is_some()),
            asking,
            early_fin: workload.early_fin,
            exchanges: 0,
            rate,
            meter,
            readable: false,
            writable: false,
        })
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn source(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }

    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    pub(super) const fn exchanges(&self) -> u64 {
        self.exchanges
    }

    pub(super) fn connect_time(&self) -> Duration {
        self.connected.saturating_duration_since(self.opened)
    }

    /// The longest wait, counting one that has not ended.
    pub(super) fn longest_gap(&self, now: Instant) -> Duration {
        self.meter.longest().max(self.meter.waited(now))
    }

    /// The kernel says that there may be something to do.
    pub(super) fn on_event(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// Whether a step makes sense although the kernel said nothing: acknowledgements are seen
    /// only by asking, and thinking and rates run by the clock.
    pub(super) fn is_timed(&self) -> bool {
        self.service == Service::Discard
            || self.rate.is_some()
            || self.asking.as_ref().is_some_and(|asking| asking.answered)
            || self.service == Service::Chargen && matches!(self.phase, Phase::Closing { .. })
    }

    /// The drill is over: finish in order.
    pub(super) fn stop(&mut self, now: Instant) {
        match (&mut self.asking, self.service) {
            // A client that asked nothing for a long time makes sure of its connection first.
            (Some(asking), Service::Echo) if asking.answered => {
                asking.next = Some(now);
                self.wanted = Some(self.received + asking.size);
            }
            (Some(_), _) | (None, Service::Chargen | Service::Files) => self.wanted = Some(0),
            (None, Service::Echo | Service::Discard) if self.end.is_none() => {
                self.end = Some(self.sent);
            }
            (None, Service::Echo | Service::Discard) => {}
        }
    }

    /// Does what can be done now.
    pub(super) fn step(&mut self, now: Instant, buffer: &mut [u8]) -> Result<Step, Failure> {
        let mut step = Step { more: false, connected: false, gap: None, ended: false };
        if self.phase == Phase::Connecting {
            step.connected = self.check_connected(now)?;
            if !step.connected {
                return Ok(step);
            }
        }
        let before = self.moved();
        self.ask(now);
        step.more |= self.send(now, buffer)?;
        step.more |= self.receive(now, buffer)?;
        self.look_at_acks()?;
        self.answer(now);
        self.close_when_due(now)?;
        let progress = step.connected || self.moved() != before;
        let gap = self.meter.note(now, progress, self.is_waiting(now));
        // A slow handshake is told as such, not as a gap of a connection that was open.
        step.gap = gap.filter(|_| !step.connected);
        step.ended = self.phase == Phase::Ended;
        Ok(step)
    }

    /// Fails a connection that has waited too long.
    pub(super) fn check_stall(&self, now: Instant, limit: Duration) -> Result<(), Failure> {
        let waited = self.meter.waited(now);
        if waited <= limit {
            return Ok(());
        }
        let state = match self.phase {
            Phase::Connecting => "connecting",
            Phase::Open => "open",
            Phase::Closing { .. } | Phase::Ended => "closing",
        };
        let (sent, received) = (self.sent, self.received);
        Err(Failure::Stalled { seconds: waited.as_secs_f64(), state, sent, received })
    }

    fn check_connected(&mut self, now: Instant) -> Result<bool, Failure> {
        if let Some(error) = self.stream.take_error().map_err(Failure::Connect)? {
            return Err(Failure::Connect(error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.phase = Phase::Open;
                self.connected = now;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(Failure::Connect(error)),
        }
    }

    /// What a client sees move. An echo's own bytes going out are no progress: they may only be
    /// filling a buffer.
    fn moved(&self) -> (u64, bool) {
        let bytes = if self.service == Service::Discard { self.acked } else { self.received };
        (bytes, self.phase == Phase::Ended)
    }

    fn is_waiting(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Connecting => true,
            Phase::Ended => false,
            _ if self.is_throttled(now) => false,
            Phase::Closing { .. } => true,
            Phase::Open => match self.content {
                Content::Echo(_) => self.received < self.sent,
                Content::Discard => self.acked < self.sent,
                Content::Chargen => true,
                Content::Files(_) => self.asking.as_ref().is_some_and(|a| !a.answered),
            },
        }
    }

    /// Whether its own rate keeps a download from reading.
    fn is_throttled(&self, now: Instant) -> bool {
        matches!(self.service, Service::Chargen | Service::Files)
            && self.received >= self.allowed(now)
    }

    /// Bytes that the rate has allowed since the handshake.
    fn allowed(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.connected).as_secs_f64();
        self.rate.map_or(u64::MAX, |rate| (rate as f64 * elapsed) as u64)
    }

    /// Moves the limit for the next request, when it is time.
    fn ask(&mut self, now: Instant) {
        let done = self.is_satisfied();
        let Some(asking) = &mut self.asking else { return };
        let due = asking.next.is_some_and(|at| at <= now);
        if asking.answered && due && self.phase == Phase::Open && !done {
            asking.limit += asking.size;
            asking.answered = false;
            asking.next = None;
            if let Content::Files(download) = &mut self.content {
                download.reply = Reply::new(&download.expected);
            }
        }
    }

    /// Notes that the answer to an echo request is complete. A file's says so itself.
    fn answer(&mut self, now: Instant) {
        let complete = self.service == Service::Echo;
        if let Some(asking) = &mut self.asking
            && complete
            && !asking.answered
            && self.received == asking.limit
        {
            asking.answer(now);
            self.exchanges += 1;
        }
    }

    fn is_satisfied(&self) -> bool {
        self.wanted.is_some_and(|wanted| self.received >= wanted)
    }

    fn send(&mut self, now: Instant, buffer: &mut [u8]) -> Result<bool, Failure> {
        let limit = self.send_limit(now);
        for _ in 0..TURN {
            if !self.writable || self.sent >= limit || self.phase != Phase::Open {
                return Ok(false);
            }
            let count = (limit - self.sent).min(buffer.len() as u64) as usize;
            let piece = &mut buffer[..count];
            self.content.fill(self.sent, piece);
            match self.stream.write(piece) {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
        Ok(true)
    }

    fn send_limit(&self, now: Instant) -> u64 {
        match (&self.asking, self.service) {
            (Some(asking), _) => asking.limit,
            (None, Service::Echo | Service::Discard) => {
                self.end.unwrap_or(u64::MAX).min(self.allowed(now))
            }
            (None, Service::Chargen | Service::Files) => 0,
        }
    }

    fn receive(&mut self, now: Instant, buffer: &mut [u8]) -> Result<bool, Failure> {
        for _ in 0..TURN {
            if !self.readable || self.phase == Phase::Ended || self.is_throttled(now) {
                return Ok(false);
            }
            match self.stream.read(buffer) {
                Ok(0) => return self.on_peer_finished().map(|()| false),
                Ok(count) => self.take(now, &buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
        Ok(true)
    }

    /// Checks what came against what belongs there.
    fn take(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Failure> {
        let at = self.received;
        let wrong = match &mut self.content {
            Content::Echo(_) if at + bytes.len() as u64 > self.sent => {
                return Err(Failure::Excess(self.sent));
            }
            Content::Echo(pattern) => pattern.difference(at, bytes),
            Content::Discard => return Err(Failure::Excess(0)),
            Content::Chargen => chargen_difference(at, bytes),
            Content::Files(download) => {
                let Some(asking) = self.asking.as_mut().filter(|asking| !asking.answered) else {
                    return Err(Failure::Excess(at));
                };
                if download.reply.take(bytes)? {
                    asking.answer(now);
                    self.exchanges += 1;
                }
                None
            }
        };
        if let Some((index, expected)) = wrong {
            let offset = at + index as u64;
            return Err(Failure::WrongByte { offset, expected, found: bytes[index] });
        }
        self.received += bytes.len() as u64;
        Ok(())
    }

    fn look_at_acks(&mut self) -> Result<(), Failure> {
        if self.acked < self.sent && (self.service == Service::Discard || self.is_closing()) {
            let waiting = sys::unacknowledged(self.stream.as_fd()).map_err(|e| self.lost(e))?;
            self.acked = self.acked.max(self.sent.saturating_sub(waiting));
        }
        Ok(())
    }

    /// Sends FIN once everything that was to be said is said.
    fn close_when_due(&mut self, now: Instant) -> Result<(), Failure> {
        match self.phase {
            Phase::Open if self.is_finished() => {
                self.stream.shutdown(Shutdown::Write).map_err(|error| self.lost(error))?;
                self.phase = Phase::Closing { since: now };
            }
            Phase::Closing { since } if self.service == Service::Chargen => {
                if now.saturating_duration_since(since) > LINGER {
                    self.phase = Phase::Ended;
                }
            }
            Phase::Connecting | Phase::Open | Phase::Closing { .. } | Phase::Ended => {}
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        match &self.asking {
            Some(asking) if self.early_fin => self.sent >= asking.limit && asking.limit > 0,
            Some(asking) => asking.answered && self.is_satisfied(),
            None if self.service == Service::Chargen => self.is_satisfied(),
            None => self.end.is_some_and(|end| self.sent >= end),
        }
    }

    fn on_peer_finished(&mut self) -> Result<(), Failure> {
        let missing = match &self.content {
            _ if !self.is_closing() => Some("the peer had no reason to close".to_owned()),
            Content::Echo(_) if self.received < self.sent => {
                Some(format!("{} bytes of echo", self.sent - self.received))
            }
            Content::Files(download) if self.asking.as_ref().is_some_and(|a| !a.answered) => {
                Some(download.reply.missing())
            }
            Content::Echo(_) | Content::Discard | Content::Chargen | Content::Files(_) => None,
        };
        if let Some(missing) = missing {
            return Err(Failure::Short { received: self.received, missing });
        }
        // Its FIN follows our FIN, so everything that we sent has been acknowledged.
        self.acked = self.sent;
        self.phase = Phase::Ended;
        Ok(())
    }

    const fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    const fn lost(&self, error: io::Error) -> Failure {
        Failure::Lost { error, sent: self.sent, received: self.received }
    }
}

impl Content {
    fn fill(&self, offset: u64, into: &mut [u8]) {
        match self {
            Self::Echo(pattern) => pattern.fill(offset, into),
            Self::Discard => chargen_fill(offset, into),
            Self::Chargen => {}
            Self::Files(download) => {
                let request = &download.request;
                let start = (offset % request.len() as u64) as usize;
                for (byte, right) in into.iter_mut().zip(request.iter().cycle().skip(start)) {
                    *byte = *right;
                }
            }
        }
    }
}

impl Asking {
    fn answer(&mut self, now: Instant) {
        self.answered = true;
        self.next = now.checked_add(self.think);
    }
}

fn content_of(workload: &Workload, target: SocketAddr, pattern: Pattern) -> Content {
    match workload.service {
        Service::Echo => Content::Echo(pattern),
        Service::Discard => Content::Discard,
        Service::Chargen => Content::Chargen,
        Service::Files => {
            let expected = workload.file.clone().unwrap_or_default();
            let host = match target.ip() {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(address) => format!("[{address}]"),
            };
            let (request, reply) = (expected.request(&host), Reply::new(&expected));
            Content::Files(Box::new(Download { request, reply, expected }))
        }
    }
}

fn asking_of(workload: &Workload, content: &Content) -> Option<Asking> {
    let (size, think) = match content {
        Content::Files(download) => (download.request.len() as u64, Duration::ZERO),
        Content::Echo(_) => (workload.request.max(1), workload.think?),
        Content::Discard | Content::Chargen => return None,
    };
    Some(Asking { size, think, limit: size, answered: false, next: None })
}

fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen when connecting, so that one address serves many targets.
        sys::choose_port_late(socket.as_fd())?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
