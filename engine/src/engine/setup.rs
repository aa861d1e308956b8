//! What an engine is built from, and what it asks of its host.

use core::net::IpAddr;
use std::sync::Arc;

use super::greed::PerSource;
use super::notice::Notice;
use crate::ids::{Node, ServiceName};
use crate::relay;
use crate::role::{Ask, Path, Policy, Timing};
use crate::service::{Kind, Limits};
use crate::tcp::Settings;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

/// One port of the service address and what answers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServicePort {
    /// What it is called on both nodes; no two are called the same.
    pub name: ServiceName,
    /// The TCP port.
    pub port: u16,
    /// What answers.
    pub kind: Kind,
}

impl ServicePort {
    /// One that is called after its port.
    pub const fn at(port: u16, kind: Kind) -> Self {
        Self { name: ServiceName(port as u32), port, kind }
    }
}

/// Everything an engine needs to know that does not change while it runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which node of the pair this is.
    pub node: Node,
    /// A number that no other run of this node has used: it tells a restart from a pause.
    pub boot: u64,
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// The services, at most 65,535.
    pub services: Vec<ServicePort>,
    /// The relays; no port is both a service's and a relay's.
    pub relays: Vec<relay::Settings>,
    /// How TCP behaves.
    pub tcp: Arc<Settings>,
    /// What one connection's application may hold.
    pub limits: Limits,
    /// Heartbeats and detection.
    pub timing: Timing,
    /// What to do when the peer is lost.
    pub policy: Policy,
    /// The secret behind ISNs, timestamp offsets and SYN cookies, shared by the pair (RFC 6528).
    pub isn_key: [u8; 16],
    /// A secret of this run, behind the connection table.
    pub table_key: [u8; 16],
    /// What both nodes must agree on: name and digest of each part of the configuration.
    pub parts: Vec<(String, u64)>,
    /// The same as version 3 of the protocol digests it.
    pub parts_3: Vec<(String, u64)>,
    /// The LAN interface's hardware address, until [`super::Engine::on_lan_mac`] tells of another.
    pub mac: MacAddr,
    /// Whether neighbour advertisements carry the router flag: it follows the host's forwarding.
    pub router: bool,
    /// The LAN's MTU in bytes.
    pub mtu: u16,
    /// Whether the TUN takes super-segments and partial checksums.
    pub offload: bool,
    /// Where this engine's pair clock starts, so that neither ISNs nor timestamps tell its uptime.
    pub clock_origin: Duration,
    /// Half-open connections beyond which SYN cookies answer.
    pub backlog: usize,
    /// Connections beyond which a SYN is not answered; and splices, which are counted apart.
    pub connections_max: usize,
    /// Live connections beyond which those at rest are parked.
    pub live_max: usize,
    /// Bytes of the log that may be unconfirmed before input is dropped for the client to resend.
    pub backlog_bytes_max: usize,
    /// Bytes that clients may make this engine keep for them, all together; see `engine::memory`.
    pub memory_max: u64,
    /// What one client address may have.
    pub per_source: PerSource,
    /// The mistake that this engine makes.
    #[cfg(feature = "defects")]
    pub defect: Option<crate::defects::Defect>,
}

#[cfg(feature = "defects")]
impl Setup {
    /// Whether this engine makes the mistake `defect`.
    pub(super) fn has(&self, defect: crate::defects::Defect) -> bool {
        self.defect == Some(defect)
    }
}

impl Setup {
    /// Without offload nobody below cuts a super-segment to the MTU: TCP must not make one.
    pub(super) fn fit_segments(&mut self) {
        if !self.offload {
            self.tcp = Arc::new(Settings { max_segment: 0, ..(*self.tcp).clone() });
        }
    }
}

/// What happened to the replication link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkInput<'a> {
    /// A stream to the peer stands; both ends proved that they hold the key.
    Connected,
    /// Bytes of it, in order.
    Data(&'a [u8]),
    /// It ended or broke.
    Closed,
    /// A dial was refused: the peer's host lives and nothing listens there.
    Refused,
    /// The other end is not our peer: another key or another version.
    Incompatible(&'a str),
}

/// Why an engine cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExitReason {
    /// Another host answers for a service address.
    #[error("another host holds the service address{}", holder_text(holder))]
    AddressInUse {
        /// Which address, and whose hardware address answered for it.
        holder: Option<(IpAddr, MacAddr)>,
    },
    /// The host refused what the engine cannot do without.
    #[error("{0}")]
    Host(String),
    /// An orderly shutdown is complete.
    #[error("shut down")]
    Shutdown,
}

fn holder_text(holder: &Option<(IpAddr, MacAddr)>) -> String {
    holder.map(|(address, mac)| format!(": {mac} answers for {address}")).unwrap_or_default()
}

/// What the engine asks of its host, in the order in which it must be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Route the service addresses into the TUN.
    InstallRoutes,
    /// Stop doing so.
    RemoveRoutes,
    /// Put an Ethernet frame on the LAN. `claims` tells frames that speak for the service address
    /// (subject to the write gate, I3) from probes.
    SendFrame {
        /// The frame, from the Ethernet header on.
        frame: Vec<u8>,
        /// Whether it speaks for the service address.
        claims: bool,
    },
    /// Send a heartbeat.
    SendBeat {
        /// Over which network.
        path: Path,
        /// The run of the peer that it answers; 0 is none.
        to: u64,
        /// The datagram, before encryption.
        bytes: Vec<u8>,
    },
    /// Connect to the peer's replication address.
    Dial,
    /// Connect only to learn whether the peer's host refuses, and close at once.
    Knock,
    /// End the replication stream, after what [`super::Output::Link`] carries has been handed
    /// to it, and give up a dial under way.
    HangUp,
    /// Put this question to the arbiter, in the place of one that is still open, and bring the answer
    /// to [`super::Engine::on_arbiter`].
    Ask(Ask),
    /// Tell the operator.
    Report(Notice),
    /// Stop running.
    Exit(ExitReason),
}

/// The clock that both nodes share for sequence numbers and timestamps.
///
/// Initial sequence numbers and TCP timestamps must not go back across a takeover (I4), yet each
/// node has its own monotonic clock. The owner stamps what it sends with its pair clock; a standby
/// keeps the largest difference to its own clock that it has seen, which is the true one less the
/// shortest delay of the path, and adds a margin when it takes over.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairClock {
    ahead: u64,
}

impl PairClock {
    /// More than the shortest one-way delay between the nodes can be.
    const MARGIN: Duration = Duration::from_millis(10);

    /// Nine years: more than any host's monotonic clock shows, so that the difference between the
    /// pair's clock and a local one is never negative.
    const FLOOR: u64 = 1 << 58;

    pub(super) fn starting_at(origin: Duration) -> Self {
        let origin = u64::try_from(origin.as_nanos()).unwrap_or(0) % Self::FLOOR;
        Self { ahead: Self::FLOOR + origin }
    }

    /// The pair's time.
    pub(super) fn at(self, now: Instant) -> Instant {
        Instant::from_nanos(now.as_nanos().wrapping_add(self.ahead))
    }

    /// The difference to the local clock in milliseconds, as TCP timestamps count.
    pub(super) fn ahead_millis(self) -> u32 {
        // The timestamp clock is the local one plus this, modulo 2³²; the truncation is meant.
        (self.ahead / 1_000_000) as u32
    }

    /// Takes the owner's clock over, as far as it is ahead of what was known.
    pub(super) fn heard(&mut self, now: Instant, owner: u64, first: bool) {
        let ahead = owner.wrapping_sub(now.as_nanos());
        if first || ahead.wrapping_sub(self.ahead) as i64 > 0 {
            self.ahead = ahead;
        }
    }

    /// Steps over what the last message's delay can have hidden.
    pub(super) fn step_ahead(&mut self) {
        self.ahead = self.ahead.wrapping_add(Self::MARGIN.as_nanos() as u64);
    }
}
