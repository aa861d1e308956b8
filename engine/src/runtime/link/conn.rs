//! One connection of the link: a socket, its cipher, and what waits on either side of it.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use mio::event::Event;
use mio::net::TcpStream;
use socket2::SockRef;

use super::{HANDSHAKE_TIME, LinkSettings};
use crate::runtime::secure::{End, Identity, Incompatible, PLAIN_MAX, Secure};
use crate::runtime::sys::{self, Closes};
use crate::time::{Duration, Instant};

/// Bytes read from one connection in one turn of the loop.
const READ_MAX: usize = 256 << 10;
/// Bytes read from one that has not proved the key: no handshake is longer.
const STRANGER_READ_MAX: usize = 1024;

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// By the peer, its kernel, the network or the clock.
    Closed,
    /// The peer's kernel refused it.
    Refused,
    /// The peer cannot be talked to.
    Incompatible(Incompatible),
}

#[derive(Debug)]
pub(super) struct Conn {
    stream: TcpStream,
    remote: SocketAddr,
    end: End,
    secure: Secure,
    /// When the key must have been proved.
    prove_by: Instant,
    /// When this became the link.
    pub(super) opened_at: Option<Instant>,
    /// The kernel has not yet said how the connect went.
    connecting: bool,
    readable: bool,
    writable: bool,
    /// The poll has told of the stream's end.
    ending: bool,
    /// Received and not yet decrypted; `..filled` of it is live.
    incoming: Vec<u8>,
    /// How much of `incoming` has been read; the rest is room, cleared once and used again.
    filled: usize,
    /// Sealed and not yet written; `written..` of it is live.
    outgoing: Vec<u8>,
    written: usize,
}

impl Conn {
    pub(super) fn accepted(
        stream: TcpStream,
        remote: SocketAddr,
        identity: Identity,
        now: Instant,
    ) -> io::Result<Self> {
        let stream = sys::closes(stream.into(), Closes::Early)?;
        let stream = TcpStream::from_std(stream.into());
        Ok(Self::new(stream, remote, End::Listener, identity, now))
    }

    pub(super) fn dialled(
        stream: OwnedFd,
        remote: SocketAddr,
        identity: Identity,
        now: Instant,
    ) -> io::Result<Self> {
        let stream = TcpStream::from_std(sys::closes(stream, Closes::Early)?.into());
        Ok(Self::new(stream, remote, End::Dialler, identity, now))
    }

    fn new(
        stream: TcpStream,
        remote: SocketAddr,
        end: End,
        identity: Identity,
        now: Instant,
    ) -> Self {
        let mut outgoing = Vec::new();
        let secure = Secure::new(end, identity, &mut outgoing);
        let connecting = end == End::Dialler;
        Self {
            stream,
            remote,
            end,
            secure,
            prove_by: now + HANDSHAKE_TIME,
            opened_at: None,
            connecting,
            readable: !connecting,
            writable: !connecting,
            ending: false,
            incoming: Vec::new(),
            filled: 0,
            outgoing,
            written: 0,
        }
    }

    pub(super) fn tune(&self, settings: &LinkSettings) -> io::Result<()> {
        super::tune(&SockRef::from(&self.stream), settings)
    }

    pub(super) const fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) const fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(super) const fn end(&self) -> End {
        self.end
    }

    pub(super) const fn is_open(&self) -> bool {
        self.secure.is_open()
    }

    pub(super) const fn peer_boot(&self) -> u64 {
        self.secure.peer_boot()
    }

    /// Whether the network has left a connect without an answer for `time`.
    pub(super) fn is_connecting_since(&self, now: Instant, time: Duration) -> bool {
        self.connecting && now + HANDSHAKE_TIME >= self.prove_by + time
    }

    pub(super) const fn backlog(&self) -> usize {
        self.outgoing.len() - self.written
    }

    /// Whether a turn would find something to do.
    pub(super) const fn has_work(&self) -> bool {
        self.readable || (self.writable && self.backlog() > 0)
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        if self.secure.is_open() { None } else { Some(self.prove_by) }
    }

    pub(super) fn on_ready(&mut self, event: &Event) {
        self.ending |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.ending;
        self.writable |= event.is_writable() || event.is_error();
    }

    /// Connects, reads, decrypts onto `plain`, and writes, as far as it goes without waiting.
    pub(super) fn turn(&mut self, plain: &mut Vec<u8>) -> Result<(), Ending> {
        if self.connecting && !self.finish_connect()? {
            return Ok(());
        }
        let read = self.read();
        let arrived = &self.incoming[..self.filled];
        match self.secure.receive(arrived, &mut self.outgoing, plain) {
            Ok(used) => {
                self.incoming.copy_within(used..self.filled, 0);
                self.filled -= used;
            }
            Err(why) => {
                // The reason is on its way out; if it does not fit now, nobody needs it.
                let _ = self.flush();
                return Err(Ending::Incompatible(why));
            }
        }
        self.flush()?;
        read
    }

    /// Seals what fits under `limit` and writes what the kernel takes. Returns how much of `plain`
    /// was taken.
    pub(super) fn send(&mut self, plain: &[u8], limit: usize) -> Result<usize, Ending> {
        let mut taken = 0;
        while taken < plain.len() && self.backlog() < limit {
            let end = plain.len().min(taken + PLAIN_MAX);
            let sealed = self.secure.seal(&plain[taken..end], &mut self.outgoing);
            sealed.map_err(Ending::Incompatible)?;
            taken = end;
        }
        self.flush()?;
        Ok(taken)
    }

    /// Writes what the kernel takes.
    pub(super) fn flush(&mut self) -> Result<(), Ending> {
        while self.writable && self.backlog() > 0 {
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(0) => return Err(Ending::Closed),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.ended(&error)),
            }
        }
        if self.backlog() == 0 {
            self.outgoing.clear();
            self.written = 0;
        } else if self.written > self.outgoing.len() / 2 {
            // Moved only once half is gone, so each byte is moved once on average.
            self.outgoing.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Whether the kernel has decided about the connect, and how.
    fn finish_connect(&mut self) -> Result<bool, Ending> {
        if !self.writable && !self.readable {
            return Ok(false);
        }
        if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
            return Err(self.ended(&error));
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.connecting = false;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                (self.readable, self.writable) = (false, false);
                Ok(false)
            }
            Err(error) => Err(self.ended(&error)),
        }
    }

    /// Reads up to this turn's share. Everything read stays, even if the stream has ended.
    fn read(&mut self) -> Result<(), Ending> {
        let mut share = if self.is_open() { READ_MAX } else { STRANGER_READ_MAX };
        while self.readable && share > 0 {
            let end = self.filled + share;
            if self.incoming.len() < end {
                self.incoming.resize(end, 0);
            }
            match self.stream.read(&mut self.incoming[self.filled..end]) {
                Ok(0) => return Err(Ending::Closed),
                Ok(read) => {
                    // Less than there was room for: the rest will be an event of its own, epoll(7).
                    // An end that was told already is behind these bytes.
                    self.readable = read == share || self.ending;
                    self.filled += read;
                    share -= read;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.ended(&error)),
            }
        }
        Ok(())
    }

    fn ended(&self, error: &io::Error) -> Ending {
        log::debug!("replication connection with {}: {error}", self.remote);
        // Only a refusal of the connect itself is proof; later ones are mere resets.
        match error.kind() {
            io::ErrorKind::ConnectionRefused if self.connecting => Ending::Refused,
            _ => Ending::Closed,
        }
    }
}
