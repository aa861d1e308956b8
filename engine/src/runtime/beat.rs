//! The heartbeat sockets: one on the replication network, one on the service LAN.
//!
//! Two paths, so that a cut cable is told from a dead host. The LAN socket is bound to its
//! interface: were the LAN down, the routing table would carry its datagrams over some other wire,
//! and the path would look alive that is not.
//!
//! A heartbeat that cannot be sent now is worth nothing later: it is counted and forgotten.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::clock::Clock;
use super::seal::{BEAT_MAX, NotBelieved, PATHS, SEAL_OVERHEAD, Seal, path_index};
use crate::limiter::Limiter;
use crate::role::Path;

/// Datagrams read from one path in one turn of the loop. At 100 beats a second this is plenty; a
/// flood must not keep the loop from its other work.
const BATCH: usize = 32;
/// Class selector 6, network control: the last traffic a congested switch drops.
const TRAFFIC_CLASS: u32 = 48 << 2;

/// Where one path's heartbeats go.
#[derive(Clone, Debug)]
pub struct BeatPath {
    /// Own address and port.
    pub local: SocketAddr,
    /// The peer's.
    pub peer: SocketAddr,
    /// The interface to stay on, if it matters.
    pub interface: Option<String>,
}

/// What became of datagrams; grows only.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BeatCounters {
    /// Handed to the kernel.
    pub sent: u64,
    /// Refused by the kernel: no route, no room, link down.
    pub unsent: u64,
    /// Believed.
    pub heard: u64,
    /// Not believed.
    pub refused: u64,
}

/// Both paths.
#[derive(Debug)]
pub struct Beats {
    paths: [PathSocket; 2],
    seal: Seal,
    sealed: Vec<u8>,
    buffer: [u8; BEAT_MAX + SEAL_OVERHEAD],
}

#[derive(Debug)]
struct PathSocket {
    socket: UdpSocket,
    peer: SocketAddr,
    readable: bool,
    counters: BeatCounters,
    /// Anyone can send a datagram.
    complaints: Limiter<core::mem::Discriminant<NotBelieved>>,
}

impl Beats {
    /// Opens both sockets, in the order of [`PATHS`], and registers them under `tokens`.
    pub fn open(
        seal: Seal,
        paths: &[BeatPath; 2],
        registry: &Registry,
        tokens: [Token; 2],
    ) -> io::Result<Self> {
        let open = |path: Path| {
            let mut socket = PathSocket::open(&paths[path_index(path)])?;
            registry.register(&mut socket.socket, tokens[path_index(path)], Interest::READABLE)?;
            Ok::<_, io::Error>(socket)
        };
        let paths = [open(Path::Replication)?, open(Path::Lan)?];
        Ok(Self { paths, seal, sealed: Vec::new(), buffer: [0; BEAT_MAX + SEAL_OVERHEAD] })
    }

    /// The poll reported the socket of `path`.
    pub fn on_ready(&mut self, path: Path) {
        self.paths[path_index(path)].readable = true;
    }

    /// Ties the LAN path to the interface `name`, which has another number or name than before.
    pub fn follow_lan(&mut self, name: &str) {
        let socket = &self.paths[path_index(Path::Lan)].socket;
        if let Err(error) = SockRef::from(socket).bind_device(Some(name.as_bytes())) {
            log::warn!("heartbeats are not tied to {name}: {error}");
        }
    }

    /// Seals `plain`, for the peer's run `to`, and sends it.
    pub fn send(&mut self, path: Path, to: u64, plain: &[u8]) {
        self.seal.seal(path, to, plain, &mut self.sealed);
        let socket = &mut self.paths[path_index(path)];
        match socket.socket.send_to(&self.sealed, socket.peer) {
            Ok(_) => socket.counters.sent += 1,
            Err(error) => {
                log::trace!("heartbeat not sent on {path}: {error}");
                socket.counters.unsent += 1;
            }
        }
    }

    /// Reads what has come and gives each believed heartbeat to `sink`. Returns whether there may
    /// be more.
    pub fn turn(&mut self, sink: &mut dyn FnMut(Path, &[u8])) -> bool {
        let mut more = false;
        for path in PATHS {
            let socket = &mut self.paths[path_index(path)];
            for _ in 0..BATCH {
                let Some(length) = socket.receive(&mut self.buffer) else { break };
                match self.seal.open(path, &mut self.buffer[..length]) {
                    Ok(plain) => {
                        socket.counters.heard += 1;
                        sink(path, plain);
                    }
                    Err(why) => socket.refuse(path, why),
                }
            }
            more |= socket.readable;
        }
        more
    }

    /// What became of the datagrams of `path`.
    #[must_use]
    pub fn counters(&self, path: Path) -> BeatCounters {
        self.paths[path_index(path)].counters
    }
}

impl PathSocket {
    fn open(path: &BeatPath) -> io::Result<Self> {
        let domain = Domain::for_address(path.local);
        let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        // SO_REUSEADDR is left alone: with it, any process on this host could bind the same address and
        // port later, and the kernel would give the beats to that one.
        // The address may come later, as that of a cable does whose other end is switched off.
        match path.local.ip() {
            IpAddr::V4(_) => {
                socket.set_freebind_v4(true)?;
                socket.set_tos_v4(TRAFFIC_CLASS)?;
            }
            IpAddr::V6(_) => {
                socket.set_freebind_v6(true)?;
                socket.set_only_v6(true)?;
                socket.set_tclass_v6(TRAFFIC_CLASS)?;
            }
        }
        if let Some(interface) = &path.interface
            && let Err(error) = socket.bind_device(Some(interface.as_bytes()))
        {
            log::warn!("heartbeats are not tied to {interface}: {error}");
        }
        socket.bind(&path.local.into())?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into()),
            peer: path.peer,
            readable: true,
            counters: BeatCounters::default(),
            complaints: Limiter::default(),
        })
    }

    /// One datagram, or nothing for now. Longer ones than ours are cut and fail to open.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        loop {
            match self.socket.recv_from(buffer) {
                Ok((length, _)) => return Some(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::debug!("heartbeat socket: {error}");
                    }
                    self.readable = false;
                    return None;
                }
            }
        }
    }

    fn refuse(&mut self, path: Path, why: NotBelieved) {
        self.counters.refused += 1;
        let kind = core::mem::discriminant(&why);
        let Some(left_out) = self.complaints.permit(Clock.now(), kind) else { return };
        // Lateness is what networks do; the rest wants a look.
        match why {
            NotBelieved::Late => log::debug!("{path}: {why}{left_out}"),
            NotBelieved::NotStandin
            | NotBelieved::Version(_)
            | NotBelieved::OtherPath
            | NotBelieved::Forged => log::warn!("{path}: {why}, ignored{left_out}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::super::key::PairKey;
    use super::*;
    use crate::ids::Node;

    fn free_ports() -> [SocketAddr; 4] {
        let sockets = [0; 4].map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        sockets.map(|socket| socket.local_addr().unwrap())
    }

    fn open(poll: &Poll, node: Node, local: [SocketAddr; 2], peer: [SocketAddr; 2]) -> Beats {
        let key = PairKey::parse(&[b'3'; 64]).unwrap();
        let path =
            |index: usize| BeatPath { local: local[index], peer: peer[index], interface: None };
        let boot = if node == Node::A { 10 } else { 20 };
        let base = boot as usize;
        Beats::open(
            Seal::new(key, node, boot),
            &[path(0), path(1)],
            poll.registry(),
            [Token(base), Token(base + 1)],
        )
        .unwrap()
    }

    /// Whose process that is does not matter: the kernel gives a port away only if its owner says so.
    #[test]
    fn nobody_can_bind_the_port_of_the_beats_too() {
        let poll = Poll::new().unwrap();
        let [a0, a1, b0, b1] = free_ports();
        let _beats = open(&poll, Node::A, [a0, a1], [b0, b1]);
        for taken in [a0, a1] {
            for any in [taken, SocketAddr::new([0, 0, 0, 0].into(), taken.port())] {
                let thief = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
                thief.set_reuse_address(true).unwrap();
                thief.set_reuse_port(true).unwrap();
                let bound = thief.bind(&any.into());
                let error = bound.expect_err("the beats would be the thief's");
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{any}");
            }
        }
    }

    #[test]
    fn an_address_may_come_after_the_engine() {
        for local in ["192.0.2.1:0", "[2001:db8::1]:0"] {
            let local = local.parse().unwrap();
            PathSocket::open(&BeatPath { local, peer: local, interface: None }).unwrap();
        }
    }

    #[test]
    fn a_beat_arrives_on_the_path_it_was_sent_on() {
        let mut poll = Poll::new().unwrap();
        let [a0, a1, b0, b1] = free_ports();
        let mut a = open(&poll, Node::A, [a0, a1], [b0, b1]);
        let mut b = open(&poll, Node::B, [b0, b1], [a0, a1]);
        assert!(!b.turn(&mut |_, _| panic!("nothing was sent")));

        a.send(Path::Lan, 20, b"tick");
        let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"noise", b1).unwrap();
        let mut heard = Vec::new();
        let mut events = Events::with_capacity(8);
        while b.counters(Path::Lan).heard == 0 || b.counters(Path::Lan).refused == 0 {
            poll.poll(&mut events, Some(Duration::from_secs(5))).unwrap();
            assert!(!events.is_empty(), "the beat never came");
            for event in &events {
                if event.token() == Token(21) {
                    b.on_ready(Path::Lan);
                }
            }
            b.turn(&mut |path, plain| heard.push((path, plain.to_vec())));
        }
        assert_eq!(heard, [(Path::Lan, b"tick".to_vec())]);
        let quiet = BeatCounters::default();
        assert_eq!(a.counters(Path::Lan), BeatCounters { sent: 1, ..quiet });
        assert_eq!(b.counters(Path::Lan), BeatCounters { heard: 1, refused: 1, ..quiet });
        assert_eq!(b.counters(Path::Replication), quiet);
    }
}
