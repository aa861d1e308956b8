//! The replication link: one encrypted stream to the peer, dialled by either node.
//!
//! The listener is there from the first moment to the last, whatever the role: that it refuses is
//! the peer's proof that this process is gone (rule 6 of `docs/ownership.md`), so it must refuse
//! for no other reason.
//!
//! Anyone can connect to a port. A connection counts for nothing until its handshake has proved the
//! key; until then it is one of a few *strangers* with little time, and the link in use knows
//! nothing of it. One that has proved the key replaces the one before: the peer would not dial if
//! it still held that. The one exception is both nodes dialling at the same moment, where each side
//! would close the other's: then the connection that node `a` dialled stays.
//!
//! ```text
//!   listener ──accept──► stranger ──key proved──┐
//!                                               ├──► the link
//!   dial ────────────────► attempt ──key proved─┘
//! ```
//!
//! Nothing here waits. Each turn of the loop does a bounded amount of work and says whether there
//! is more; output is bounded, and what does not fit stays with the caller.

mod conn;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token, event::Event};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use self::conn::{Conn, Ending};
use super::secure::{End, Identity, Incompatible};
use super::sys::{self, Closes};
use crate::ids::Node;
use crate::limiter::Limiter;
use crate::time::{Duration, Instant};

/// Connections at a time: the link, an attempt, and strangers.
const SLOTS: usize = 8;
/// Poll tokens that a [`Link`] uses, from its base on: the listener, the slots, the knock.
pub const TOKENS: usize = SLOTS + 2;
/// A dial that the network has not answered for so long is begun anew when it is asked for again:
/// TCP itself would repeat its SYN only after a second.
const DIAL_STALE: Duration = Duration::from_millis(300);
/// How long a connection may take to prove the key.
const HANDSHAKE_TIME: Duration = Duration::from_secs(2);
/// Connections accepted in one turn of the loop.
const ACCEPTS: usize = 8;
/// Sealed bytes that may wait for the kernel.
const OUTGOING_MAX: usize = 1 << 20;
/// Two connections opened within this time of one another were dialled at the same moment.
const CROSSING: Duration = Duration::from_secs(1);
/// How long nobody is accepted after that failed for want of something: it fails at once for as long as
/// the want lasts, and the listener stays readable.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the link is and how it behaves.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Own address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// Unacknowledged data older than this ends the connection, RFC 5482.
    pub user_timeout: Duration,
    /// Kernel buffers, bytes each way; the kernel may give less.
    pub buffer: usize,
}

/// What happened on the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEvent<'a> {
    /// A connection has proved the key and is the link now. Anything of one before is void.
    Connected {
        /// Which run of the peer this is.
        boot: u64,
    },
    /// The peer said this; a slice of the stream, cut anywhere.
    Data(&'a [u8]),
    /// The link is gone. A dial that leads nowhere is not told: it is asked for again.
    Closed,
    /// The peer's kernel refused a dial or a knock: no process listens there.
    Refused,
    /// The dialled end cannot be talked to. Not told while there is a link.
    Incompatible {
        /// Why.
        why: Incompatible,
    },
}

/// The receiver of [`LinkEvent`]s.
pub type Sink<'a> = &'a mut dyn FnMut(LinkEvent<'_>);

/// The replication link.
///
/// The order of fields matters: the listener is dropped before the connections, so that a peer that
/// sees the stream end and dials at once is refused.
#[derive(Debug)]
pub struct Link {
    registry: Registry,
    base: usize,
    identity: Identity,
    settings: LinkSettings,
    listener: TcpListener,
    acceptable: bool,
    slots: [Option<Conn>; SLOTS],
    /// The slot of the connection in use.
    current: Option<usize>,
    /// The slot of the attempt.
    dialling: Option<usize>,
    knock: Option<Knock>,
    plain: Vec<u8>,
    /// Strangers can connect, and can be refused, as often as they like.
    complaints: Limiter<Complaint>,
    /// Out of descriptors, say: when to accept again.
    accept_at: Option<Instant>,
}

impl Link {
    /// Binds the listener. Poll tokens `base` to `base + TOKENS - 1` are this link's.
    pub fn open(
        registry: &Registry,
        base: usize,
        identity: Identity,
        settings: LinkSettings,
    ) -> io::Result<Self> {
        let socket = bound(&settings, settings.local)?;
        // The kernel drops what exceeds the backlog and does not refuse it, unless
        // net.ipv4.tcp_abort_on_overflow is set; either way strangers cannot forge the proof.
        socket.listen(64)?;
        let socket = sys::closes(socket.into(), Closes::First)?;
        let mut listener = TcpListener::from_std(socket.into());
        let registry = registry.try_clone()?;
        registry.register(&mut listener, Token(base), Interest::READABLE)?;
        Ok(Self {
            registry,
            base,
            identity,
            settings,
            listener,
            acceptable: true,
            slots: [const { None }; SLOTS],
            current: None,
            dialling: None,
            knock: None,
            plain: Vec::new(),
            complaints: Limiter::default(),
            accept_at: None,
        })
    }

    /// Whether there is a link.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.current.is_some()
    }

    /// Sealed bytes that wait for the kernel.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.current.and_then(|slot| self.slots[slot].as_ref()).map_or(0, Conn::backlog)
    }

    /// The poll reported one of this link's tokens.
    pub fn on_ready(&mut self, event: &Event) {
        let Some(index) = event.token().0.checked_sub(self.base) else { return };
        if index == 0 {
            self.acceptable = true;
        } else if let Some(Some(conn)) = self.slots.get_mut(index - 1) {
            conn.on_ready(event);
        } else if let (SLOTS, Some(knock)) = (index - 1, &mut self.knock) {
            knock.ready = true;
        }
    }

    /// Starts an attempt to reach the peer, unless a fresh one is under way.
    pub fn dial(&mut self, now: Instant, sink: Sink<'_>) {
        if let Some(slot) = self.dialling {
            let stale = |conn: &Conn| conn.is_connecting_since(now, DIAL_STALE);
            if !self.slots[slot].as_ref().is_some_and(stale) {
                return;
            }
            self.drop_slot(slot);
        }
        match self.start_dial(now) {
            Ok(slot) => self.dialling = Some(slot),
            Err(error) => self.tell_if_refused(&error, sink),
        }
    }

    /// Finds out whether the peer's kernel refuses, without becoming a link.
    pub fn knock(&mut self, now: Instant, sink: Sink<'_>) {
        if self.knock.as_ref().is_some_and(|knock| now < knock.until) {
            return;
        }
        self.drop_knock();
        match self.start_knock(now) {
            Ok(knock) => self.knock = Some(knock),
            Err(error) => self.tell_if_refused(&error, sink),
        }
    }

    /// Ends the link and any attempt, without an event. What was sealed is given to the kernel as
    /// far as it takes it.
    pub fn hang_up(&mut self) {
        for slot in [self.current.take(), self.dialling.take()].into_iter().flatten() {
            if let Some(conn) = &mut self.slots[slot] {
                let _ = conn.flush();
            }
            self.drop_slot(slot);
        }
        self.drop_knock();
    }

    /// Takes from the front of `plain` what there is room for, seals and sends it. Without a link,
    /// or if it ends on the way, everything is taken and forgotten: it was for that one alone.
    pub fn send(&mut self, plain: &mut Vec<u8>, sink: Sink<'_>) {
        let Some(slot) = self.current else {
            plain.clear();
            return;
        };
        let Some(conn) = &mut self.slots[slot] else { return };
        match conn.send(plain, OUTGOING_MAX) {
            Ok(taken) => {
                plain.drain(..taken);
            }
            Err(ending) => {
                plain.clear();
                self.end(slot, ending, sink);
            }
        }
    }

    /// Does what can be done now, within bounds. Returns whether there is more to do at once.
    pub fn turn(&mut self, now: Instant, sink: Sink<'_>) -> bool {
        for slot in 0..SLOTS {
            self.turn_slot(now, slot, sink);
        }
        self.turn_knock(sink);
        self.accept(now);
        self.acceptable || self.slots.iter().flatten().any(Conn::has_work)
    }

    /// When [`Link::on_timer`] is to be called next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let proofs = self.slots.iter().flatten().filter_map(Conn::deadline);
        proofs.chain(self.accept_at).min()
    }

    /// Sends away those whose time to prove the key is over.
    pub fn on_timer(&mut self, now: Instant, sink: Sink<'_>) {
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            self.acceptable = true;
        }
        for slot in 0..SLOTS {
            let late = self.slots[slot].as_ref().and_then(Conn::deadline);
            if late.is_some_and(|deadline| deadline <= now) {
                self.end(slot, Ending::Closed, sink);
            }
        }
    }

    fn turn_slot(&mut self, now: Instant, slot: usize, sink: Sink<'_>) {
        let Some(conn) = &mut self.slots[slot] else { return };
        let was_open = conn.is_open();
        self.plain.clear();
        let result = conn.turn(&mut self.plain);
        let (is_open, boot) = (conn.is_open(), conn.peer_boot());
        if is_open && !was_open && !self.adopt(now, slot, boot, sink) {
            return;
        }
        // What came before the end is heard before the end: a last handover may be in it.
        if !self.plain.is_empty() && self.current == Some(slot) {
            sink(LinkEvent::Data(&self.plain));
        }
        if let Err(ending) = result {
            self.complain(now, slot, ending);
            self.end(slot, ending, sink);
        }
    }

    /// `slot` has proved the key: it becomes the link, unless it is the lesser of two that crossed.
    fn adopt(&mut self, now: Instant, slot: usize, boot: u64, sink: Sink<'_>) -> bool {
        let dialled = self.dialling == Some(slot);
        if dialled {
            self.dialling = None;
        }
        if let Some(current) = self.current {
            if self.crossed(now, current, slot) && !self.dialled_by_a(slot) {
                log::debug!("both nodes dialled; keeping the connection of node a");
                self.drop_slot(slot);
                return false;
            }
            self.drop_slot(current);
            sink(LinkEvent::Closed);
        }
        if let Some(conn) = &mut self.slots[slot] {
            conn.opened_at = Some(now);
        }
        self.current = Some(slot);
        sink(LinkEvent::Connected { boot });
        true
    }

    /// Were `current` and `new` dialled towards one another by the same two processes, at about the
    /// same time?
    fn crossed(&self, now: Instant, current: usize, new: usize) -> bool {
        let (Some(current), Some(new)) = (&self.slots[current], &self.slots[new]) else {
            return false;
        };
        let recent = current.opened_at.is_some_and(|opened| now.since(opened) < CROSSING);
        recent && current.end() != new.end() && current.peer_boot() == new.peer_boot()
    }

    fn dialled_by_a(&self, slot: usize) -> bool {
        let dialler = match self.slots[slot].as_ref().map(Conn::end) {
            Some(End::Dialler) => self.identity.node,
            Some(End::Listener) | None => self.identity.node.peer(),
        };
        dialler == Node::A
    }

    fn end(&mut self, slot: usize, ending: Ending, sink: Sink<'_>) {
        let (linked, dialling) = (self.current == Some(slot), self.dialling == Some(slot));
        self.drop_slot(slot);
        match ending {
            _ if linked => sink(LinkEvent::Closed),
            Ending::Refused if dialling => sink(LinkEvent::Refused),
            Ending::Incompatible(why) if dialling && self.current.is_none() => {
                sink(LinkEvent::Incompatible { why });
            }
            // A dial that led nowhere, or a stranger.
            Ending::Refused | Ending::Closed | Ending::Incompatible(_) => {}
        }
    }

    fn drop_slot(&mut self, slot: usize) {
        if let Some(mut conn) = self.slots[slot].take() {
            let _ = self.registry.deregister(conn.source());
        }
        if self.current == Some(slot) {
            self.current = None;
        }
        if self.dialling == Some(slot) {
            self.dialling = None;
        }
    }

    fn tell_if_refused(&self, error: &io::Error, sink: Sink<'_>) {
        log::debug!("connect to {}: {error}", self.settings.peer);
        if error.kind() == io::ErrorKind::ConnectionRefused {
            sink(LinkEvent::Refused);
        }
    }

    /// The kernel has decided about the knock: only a refusal is news. Whoever accepted finds a
    /// connection that ends at once.
    fn turn_knock(&mut self, sink: Sink<'_>) {
        let Some(knock) = self.knock.as_ref().filter(|knock| knock.ready) else { return };
        let error = knock.stream.take_error();
        self.drop_knock();
        if let Ok(Some(error)) | Err(error) = error {
            self.tell_if_refused(&error, sink);
        }
    }

    fn drop_knock(&mut self) {
        if let Some(mut knock) = self.knock.take() {
            let _ = self.registry.deregister(&mut knock.stream);
        }
    }

    /// One line about a connection that failed, now and then: strangers must not fill the log.
    fn complain(&mut self, now: Instant, slot: usize, ending: Ending) {
        let Some(conn) = &self.slots[slot] else { return };
        let Ending::Incompatible(why) = ending else { return };
        let kind = Complaint::Incompatible(core::mem::discriminant(&why));
        if let Some(left_out) = self.complaints.permit(now, kind) {
            log::warn!("replication connection with {}: {why}{left_out}", conn.remote());
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS {
            if !self.acceptable {
                return;
            }
            match self.listener.accept() {
                Ok((stream, remote)) => {
                    if let Some(slot) = self.room_for(remote.ip()) {
                        let conn = Conn::accepted(stream, remote, self.identity.clone(), now);
                        self.install(slot, conn);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.acceptable = false,
                Err(error) if lacks_something(&error) => {
                    self.acceptable = false;
                    self.accept_at = Some(now + ACCEPT_PAUSE);
                    if let Some(left_out) = self.complaints.permit(now, Complaint::Accept) {
                        log::warn!("no replication connection can be accepted: {error}{left_out}");
                    }
                }
                // One that went away while it waited.
                Err(error) => log::debug!("accept: {error}"),
            }
        }
    }

    /// A slot for a newcomer. One stays free for the dial. When all are taken, one from the peer's
    /// own address displaces a stranger that is not.
    fn room_for(&mut self, remote: IpAddr) -> Option<usize> {
        let peer = self.settings.peer.ip();
        let taken = self.slots.iter().flatten().count();
        if taken + usize::from(self.dialling.is_none()) < SLOTS {
            return self.slots.iter().position(Option::is_none);
        }
        let ours = |slot: usize| self.current == Some(slot) || self.dialling == Some(slot);
        let victim = (0..SLOTS).filter(|&slot| !ours(slot)).find(|&slot| {
            remote == peer
                && self.slots[slot].as_ref().is_some_and(|conn| conn.remote().ip() != peer)
        })?;
        self.drop_slot(victim);
        Some(victim)
    }

    fn install(&mut self, slot: usize, conn: io::Result<Conn>) {
        let registered = conn.and_then(|mut conn| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.registry.register(conn.source(), Token(self.base + 1 + slot), interest)?;
            conn.tune(&self.settings)?;
            Ok(conn)
        });
        match registered {
            Ok(conn) => self.slots[slot] = Some(conn),
            Err(error) => log::debug!("replication connection: {error}"),
        }
    }

    fn start_dial(&mut self, now: Instant) -> io::Result<usize> {
        let slot = self.slots.iter().position(Option::is_none);
        let slot = slot.ok_or(io::ErrorKind::ResourceBusy)?;
        let socket = self.start_connect()?;
        let peer = self.settings.peer;
        let mut conn = Conn::dialled(socket.into(), peer, self.identity.clone(), now)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(conn.source(), Token(self.base + 1 + slot), interest)?;
        self.slots[slot] = Some(conn);
        Ok(slot)
    }

    fn start_knock(&mut self, now: Instant) -> io::Result<Knock> {
        let mut stream = TcpStream::from_std(self.start_connect()?.into());
        let token = Token(self.base + 1 + SLOTS);
        self.registry.register(&mut stream, token, Interest::WRITABLE)?;
        Ok(Knock { stream, until: now + DIAL_STALE, ready: false })
    }

    /// A connect under way, from the address that the peer knows, whatever the routing table would
    /// choose.
    fn start_connect(&self) -> io::Result<Socket> {
        let socket = bound(&self.settings, SocketAddr::new(self.settings.local.ip(), 0))?;
        match socket.connect(&self.settings.peer.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            Ok(()) | Err(_) => Ok(socket),
        }
    }
}

/// What is complained of, each for itself: nobody's lines take the place of another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Complaint {
    Incompatible(core::mem::Discriminant<Incompatible>),
    Accept,
}

/// Whether a failed accept will fail again, until something else gives back what is lacking.
fn lacks_something(error: &io::Error) -> bool {
    let lacking = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|error| lacking.contains(&error))
}

/// A connect that only asks whether it is refused.
#[derive(Debug)]
struct Knock {
    stream: TcpStream,
    /// When it may be begun anew.
    until: Instant,
    ready: bool,
}

/// A socket with the link's options, bound. The buffers are set before there is a connection, or
/// the window scale would not allow for them.
fn bound(settings: &LinkSettings, local: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(local);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // The address may come later, as that of a cable does whose other end is switched off.
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    if local.port() != 0 {
        // Connections of a process before this one may still be known to the kernel, which is no
        // reason to fail; whoever listens, it refuses.
        socket.set_reuse_address(true)?;
    }
    socket.set_recv_buffer_size(settings.buffer)?;
    socket.set_send_buffer_size(settings.buffer)?;
    tune(&SockRef::from(&socket), settings)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

/// Options of every connection. A small record waits for nobody; a dead peer is noticed even where
/// heartbeats are not.
fn tune(socket: &SockRef<'_>, settings: &LinkSettings) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(settings.user_timeout))?;
    let second = Duration::from_secs(1);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second))
}
