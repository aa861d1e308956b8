//! The configuration: one file, the same on both nodes.
//!
//! ```toml
//! [pair]
//! key-file = "/etc/standin/key"
//! addresses = ["10.77.0.100", "fd77::100"]
//!
//! [node.a]
//! lan-interface = "eth0"
//! lan-address = "10.77.0.1"
//! replication-address = "10.78.0.1"
//!
//! [node.b]                                  # leave it out for a single engine
//! lan-interface = "eth0"
//! lan-address = "10.77.0.2"
//! replication-address = "10.78.0.2"
//!
//! [[service]]
//! kind = "files"
//! port = 80
//! root = "/srv/www"
//! ```
//!
//! Reading goes in two steps: `raw` takes the text apart and knows where each value stands,
//! `check` gives it meaning. Every complaint names file, line and column, and all are made at
//! once. What must be the same on both nodes is digested by part ([`Config::parts`]), so that a
//! pair that disagrees can say in what.

mod arbiter;
mod check;
mod health;
mod problem;
mod raw;
mod read;
mod service;
#[cfg(test)]
mod service_tests;
mod shared;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod tests;

use core::time::Duration;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ids::Node;
use crate::ids::ServiceName;
use crate::relay::{Backend, Check, OnDeath};
use crate::service::{Masking, MirrorRules, Patience, Rules};

pub use arbiter::{Arbiter, Identity, Login, LostArbiter};
pub use problem::{ConfigError, Problem};

/// A configuration in which every value is in its range and nothing contradicts anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The key file, resolved against the configuration's directory. Always there in a pair; a
    /// single engine without one makes up its secrets at each start.
    pub key_file: Option<PathBuf>,
    /// The service addresses: at least one, none twice.
    pub addresses: Vec<IpAddr>,
    /// What a primary does that cannot know whether its silent peer lives.
    pub lost_peer: LostPeer,
    /// Node `a`, or the only one.
    pub a: NodeConfig,
    /// Node `b`; without it the engine runs alone.
    pub b: Option<NodeConfig>,
    /// Ports of the engines' own traffic.
    pub ports: Ports,
    /// Heartbeats and what follows from their absence.
    pub timing: Timing,
    /// TCP towards the clients.
    pub tcp: Tcp,
    /// How much of the files is hashed ahead.
    pub files: Files,
    /// What clients may take of the host, all together.
    pub limits: Limits,
    /// The third party that grants epochs, if there is one; then there are two nodes.
    pub arbiter: Option<Arbiter>,
    /// What answers, at least one.
    pub services: Vec<Service>,
}

/// Policy for a peer that is neither heard nor proven dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostPeer {
    /// Serve on alone: availability first.
    #[default]
    Continue,
    /// Stay silent until the peer is back: nothing unprotected is ever served.
    Stop,
}

/// One host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeConfig {
    /// The interface on which clients reach the service addresses, at most 15 bytes.
    pub lan_interface: String,
    /// Own addresses towards the peer; always there in a pair.
    pub paths: Option<Paths>,
    /// The control socket, an absolute path.
    pub control_socket: PathBuf,
    /// Where the engine keeps what it must not forget, an absolute path.
    pub state_directory: PathBuf,
    /// The name of the TUN device, at most 15 bytes.
    pub tun: String,
}

/// Own addresses of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paths {
    /// On the service LAN, for heartbeats.
    pub lan: IpAddr,
    /// On the replication network.
    pub replication: IpAddr,
}

/// Ports of the engines' own traffic, on their own addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// TCP, replication address.
    pub replication: u16,
    /// UDP, both addresses.
    pub heartbeat: u16,
}

/// Heartbeats. `detection` is at least three times `heartbeat`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// From one heartbeat to the next, 1 ms to 10 s.
    pub heartbeat: Duration,
    /// Silence on both paths after which the peer counts as gone, up to 60 s.
    pub detection: Duration,
}

/// TCP towards the clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tcp {
    /// The largest window offered, in bytes, 32 KiB to 16 MiB: a request head has to fit.
    pub receive_buffer: u32,
    /// Output kept for a connection until it is acknowledged, in bytes, 4 KiB to 16 MiB.
    pub send_buffer: u32,
    /// Probing of idle connections; off unless configured, RFC 9293 §3.8.4 (MUST-24).
    pub keepalive: Option<Keepalive>,
    /// How long data may stay unacknowledged, 1 s to a day.
    pub user_timeout: Duration,
    /// Length of TIME-WAIT, 1 s to 4 min.
    pub time_wait: Duration,
    /// Whether no reset ends TIME-WAIT.
    pub rfc1337: bool,
    /// Half-open connections kept before cookies take over, 1 to 1 Mi.
    pub backlog: u32,
    /// Connections at a time, 1 to 16 Mi.
    pub max_connections: u32,
    /// Whether to use segmentation and checksum offload of the TUN device where the kernel has it.
    pub offload: bool,
    /// How connections find out what the path can bear.
    pub congestion: Congestion,
    /// Whether a client that asks for ECN gets it, RFC 3168.
    pub ecn: bool,
}

/// Hashing of what `files` serves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// Bytes read a second to hash ahead; 0: only what is asked for is hashed.
    pub hash_rate: u64,
    /// Longer files are never hashed.
    pub hash_largest: u64,
    /// Where hashes are remembered, an absolute path; otherwise in the node's state directory.
    pub cache_directory: Option<PathBuf>,
}

impl Default for Files {
    fn default() -> Self {
        Self { hash_rate: 128 << 20, hash_largest: u64::MAX, cache_directory: None }
    }
}

/// What clients may take of the host, all together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes that are kept for them, 16 MiB at least: input that nobody has read or that came out of
    /// order, output that is not acknowledged. Whoever makes the engine keep most is reset beyond it.
    pub memory: u64,
    /// Connections and splices that one client address may have; 0 is no limit.
    pub connections_per_source: u32,
    /// How many it may begin in a second; 0 is no limit.
    pub rate_per_source: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 256 << 20, connections_per_source: 0, rate_per_source: 0 }
    }
}

/// Congestion control.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681 and RFC 6582.
    NewReno,
}

/// Probing of idle connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Idle time before the first probe, 1 s to 7 days.
    pub idle: Duration,
    /// From probe to probe, 1 s to 1 h.
    pub interval: Duration,
    /// Unanswered probes that end the connection, 1 to 100.
    pub probes: u32,
}

/// What answers on one port of every service address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The port.
    pub port: u16,
    /// What it is called, on both nodes; no two are called the same.
    pub name: String,
    /// What it does.
    pub kind: ServiceKind,
}

impl Service {
    /// Its name, as records carry it.
    #[must_use]
    pub fn id(&self) -> ServiceName {
        id_of(&self.name)
    }
}

fn id_of(name: &str) -> ServiceName {
    ServiceName((shared::digest(name.as_bytes()) >> 32) as u32)
}

/// The built-in services.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServiceKind {
    /// RFC 862.
    Echo,
    /// RFC 863.
    Discard,
    /// RFC 864.
    Chargen,
    /// Static files over HTTP/1.1.
    Files {
        /// The directory served, an absolute path.
        root: PathBuf,
        /// Whether what begins with a dot is served, too.
        dotfiles: bool,
        /// How long clients are waited for, each from 1 s to a day, without a request to 30 days.
        patience: Patience,
    },
    /// Unmodified servers.
    Relay {
        /// How clients come to them.
        mode: RelayMode,
        /// The servers: at least one, none twice, and not all of weight 0.
        backends: Vec<Backend>,
        /// How they are watched; `timeout` is at most `interval`.
        check: Check,
        /// How long a client and its server may say nothing, 1 s to 30 days.
        idle: Duration,
        /// How many splices the clients of one address may have, 1 to 1,000,000.
        client_max: u32,
        /// What becomes of what a server has when checks find nobody there.
        on_death: OnDeath,
    },
}

/// How clients and servers come together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayMode {
    /// Their packets pass, with other headers.
    Splice,
    /// Both have a connection with the engine.
    Join {
        /// How long a server may take to answer, 100 ms to 1 h.
        connect: Duration,
    },
    /// Requests go to a server, whose death is masked.
    Masked {
        /// How, and which.
        rules: Rules,
        /// How long a server may take to answer a SYN, 100 ms to 1 h.
        connect: Duration,
        /// How long a server may take to begin a reply, 1 s to a day.
        first_byte: Duration,
    },
    /// Two servers get the same input.
    Mirror {
        /// When one of them has failed, and what becomes of two that differ.
        rules: MirrorRules,
        /// How long a server may take to answer a SYN, 100 ms to 1 h.
        connect: Duration,
    },
}

impl ServiceKind {
    /// The name in the configuration.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Files { .. } => "files",
            Self::Relay { .. } => "relay",
        }
    }

    /// What both nodes must agree on: the name, or that of a relay's mode.
    const fn answers(&self) -> &'static str {
        match self {
            Self::Relay { mode: RelayMode::Join { .. }, .. } => "join",
            Self::Relay { mode: RelayMode::Masked { rules, .. }, .. } => match rules.masking {
                Masking::Replay => "replay",
                Masking::Journal => "journal",
            },
            Self::Relay { mode: RelayMode::Mirror { .. }, .. } => "mirror",
            other => other.name(),
        }
    }

    /// The servers behind a relay; none behind anything else.
    #[must_use]
    pub fn backends(&self) -> &[Backend] {
        match self {
            Self::Relay { backends, .. } => backends,
            Self::Echo | Self::Discard | Self::Chargen | Self::Files { .. } => &[],
        }
    }
}

impl Config {
    /// Reads a file. Relative paths in it are relative to where it lies.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| ConfigError::whole(&name, error))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        Self::parse(&name, directory, &text)
    }

    /// Reads `text`; `name` stands in front of complaints.
    pub fn parse(name: &str, directory: &Path, text: &str) -> Result<Self, ConfigError> {
        let (file, mut problems) = read::read(text);
        let checked = file.map(|file| check::check(file, directory));
        match checked {
            Some(Ok(config)) if problems.is_empty() => return Ok(config),
            Some(Err(more)) => problems.extend(more),
            Some(Ok(_)) | None => {}
        }
        Err(ConfigError::new(name, text, problems))
    }

    /// The host `node`, if it is configured.
    #[must_use]
    pub const fn node(&self, node: Node) -> Option<&NodeConfig> {
        match node {
            Node::A => Some(&self.a),
            Node::B => self.b.as_ref(),
        }
    }

    /// Whether there are two nodes.
    #[must_use]
    pub const fn is_pair(&self) -> bool {
        self.b.is_some()
    }

    /// Addresses of the replication link: own and the peer's. `None` without a peer.
    #[must_use]
    pub fn replication(&self, node: Node) -> Option<(SocketAddr, SocketAddr)> {
        let (own, peer) = self.both_paths(node)?;
        let at = |address| SocketAddr::new(address, self.ports.replication);
        Some((at(own.replication), at(peer.replication)))
    }

    /// Addresses of the heartbeats, own and the peer's: replication network first, then LAN.
    #[must_use]
    pub fn heartbeats(&self, node: Node) -> Option<[(SocketAddr, SocketAddr); 2]> {
        let (own, peer) = self.both_paths(node)?;
        let at = |address| SocketAddr::new(address, self.ports.heartbeat);
        Some([(at(own.replication), at(peer.replication)), (at(own.lan), at(peer.lan))])
    }

    fn both_paths(&self, node: Node) -> Option<(Paths, Paths)> {
        Some((self.node(node)?.paths?, self.node(node.peer())?.paths?))
    }

    /// What is wrong with the configuration as the host sees it, and stays so: there is no such node,
    /// or a file that it names cannot be used. What a host does not have *yet* is waited for.
    #[must_use]
    pub fn check_host(&self, node: Node) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.node(node).is_none() {
            complaints.push(format!("node {node} is not configured"));
        }
        if let Some(Err(why)) = self.arbiter.as_ref().map(super::arbiter::check) {
            complaints.push(format!("arbiter: {why}"));
        }
        complaints
    }

    /// What is not wrong and yet a danger: secrets that others on this host can read.
    #[must_use]
    pub fn host_warnings(&self) -> Vec<String> {
        let arbiter = self.arbiter.iter();
        let secrets = arbiter.flat_map(|arbiter| {
            let key = arbiter.identity.as_ref().map(|identity| &identity.private_key_file);
            let password = arbiter.login.as_ref().map(|login| &login.password_file);
            [("private-key-file", key), ("password-file", password)]
        });
        let loose = secrets.filter_map(|(name, file)| {
            let mode = fs::metadata(file?).ok()?.permissions().mode() & 0o777;
            let file = file?.display();
            (mode & 0o077 != 0)
                .then(|| format!("{name} {file} has mode {mode:04o}, 0600 is wanted"))
        });
        loose.collect()
    }
}
