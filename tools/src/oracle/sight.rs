//! What an observer of a pair can see, and what it is told beforehand.
//!
//! A [`Sight`] is one thing that a tap on the LAN, a tap on the replication stream or a look at the
//! process table would show. Nothing of it comes from inside an engine but [`Sight::Says`], which
//! is what an operator reads. [`Facts`] is what stands in both nodes' configuration.

use core::net::{IpAddr, SocketAddr};

/// One of the two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u8);

impl NodeId {
    /// Node `a`.
    pub const A: Self = Self(0);
    /// Node `b`.
    pub const B: Self = Self(1);

    /// The other one.
    pub const fn peer(self) -> Self {
        Self(1 - (self.0 & 1))
    }

    /// 0 or 1, for an array with an entry per node.
    pub const fn index(self) -> usize {
        (self.0 & 1) as usize
    }

    /// Its name in configurations and logs.
    pub const fn name(self) -> &'static str {
        if self.index() == 0 { "a" } else { "b" }
    }
}

/// One thing that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight<'a> {
    /// The host's write gate let an IP packet of the service address out on the LAN (before any
    /// loss on the LAN).
    PacketOut {
        /// Whose.
        node: NodeId,
        /// IP header first. A super-segment if [`Facts::offload`]; its checksum may be partial.
        packet: &'a [u8],
    },
    /// An IP packet of a client was handed to the engine through its TUN.
    PacketIn {
        /// Whose.
        node: NodeId,
        /// IP header first; the checksum is a whole one, also where a kernel left it unfinished.
        packet: &'a [u8],
    },
    /// An Ethernet frame (ARP/ND) that a node put on the LAN.
    FrameOut {
        /// Whose.
        node: NodeId,
        /// Ethernet header first.
        frame: &'a [u8],
    },
    /// A replication stream was established at this end.
    LinkUp {
        /// Whose end.
        node: NodeId,
        /// Its number: the same at both ends, and never used again.
        stream: u64,
    },
    /// Plaintext replication bytes that this node wrote into its end of the stream.
    LinkOut {
        /// Whose end.
        node: NodeId,
        /// Which stream.
        stream: u64,
        /// The next bytes of it.
        bytes: &'a [u8],
    },
    /// Plaintext replication bytes that were handed to this node's engine: it holds them.
    LinkIn {
        /// Whose end.
        node: NodeId,
        /// Which stream.
        stream: u64,
        /// The next bytes of it.
        bytes: &'a [u8],
    },
    /// The engine at this end was told that the stream is gone, or hung up.
    LinkDown {
        /// Whose end.
        node: NodeId,
        /// Which stream.
        stream: u64,
    },
    /// The routes of the service addresses into the TUN were put in or taken out.
    Routes {
        /// Whose.
        node: NodeId,
        /// Whether they are there from now on.
        installed: bool,
    },
    /// The engine's process was started, with nothing in memory.
    Started {
        /// Whose.
        node: NodeId,
    },
    /// The engine's process ended: crash, exit or power.
    Ended {
        /// Whose.
        node: NodeId,
    },
    /// The engine's process, or its host, stands still.
    Frozen {
        /// Whose.
        node: NodeId,
    },
    /// It goes on.
    Thawed {
        /// Whose.
        node: NodeId,
    },
    /// What the node says of itself, whenever it changes (`Engine::status`).
    Says {
        /// The node.
        node: NodeId,
        /// Whether it owns the service address.
        owner: bool,
        /// The ownership that it knows of.
        epoch: u64,
        /// Whether it claims that its failure now would lose no connection.
        protected: bool,
    },
    /// The world did something that no pair can survive (both engines died, say): from here on
    /// this connection may be reset, and nothing about it is judged.
    Excused {
        /// The client's address and port.
        client: SocketAddr,
        /// The service's.
        service: SocketAddr,
        /// For the timeline.
        why: &'static str,
    },
    /// What serves this connection from behind the pair has failed it: from here on it may be reset. All else
    /// about it is judged.
    Breakable {
        /// The client's address and port.
        client: SocketAddr,
        /// The service's.
        service: SocketAddr,
    },
}

/// What answers on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 864.
    Chargen,
    /// HTTP/1.1 over [`Facts::files`].
    Files,
    /// What others say, whom somebody else judges.
    Others,
}

/// One port of the service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The TCP port.
    pub port: u16,
    /// What answers there.
    pub kind: Kind,
}

/// One file as a host may have it. Two entries with one path are two versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path in a request, percent-decoded, with the leading `/`.
    pub path: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// What the observer knows before anything happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// The hardware addresses of node `a` and node `b` on the LAN.
    pub macs: [[u8; 6]; 2],
    /// The ports, in the order of the configuration.
    pub services: Vec<Service>,
    /// The ports of relays, and what the servers behind them answer.
    pub relays: Vec<Service>,
    /// Where those servers listen.
    pub backends: Vec<SocketAddr>,
    /// Where servers listen to which the pair has connections of its own.
    pub dialled: Vec<SocketAddr>,
    /// Everything that any host has ever had to serve.
    pub files: Vec<File>,
    /// The LAN's MTU in bytes.
    pub mtu: u16,
    /// Whether packets out may be super-segments, to be cut below the tap.
    pub offload: bool,
    /// The detection time in nanoseconds.
    pub detection: u64,
}

impl Facts {
    /// Whether what listens on this port is behind the pair.
    pub(super) fn is_relay(&self, port: u16) -> bool {
        self.relays.iter().any(|relay| relay.port == port)
    }
}
