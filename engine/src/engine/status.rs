//! What an operator may know of the engine at a moment.

use super::Engine;
use super::replicate::Standby;
use super::stats::Stats;
use crate::ids::{Epoch, Node};
use crate::relay;
use crate::replica::SnapshotProgress;
use crate::role::{ArbiterStatus, BeatRole, Path, Role};
use crate::time::{Duration, Instant};
use crate::wire::Endpoint;

/// What is known of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerStatus {
    /// How long nothing was heard on the replication network.
    pub silent_replication: Duration,
    /// The same for the LAN.
    pub silent_lan: Duration,
    /// Whether the replication stream stands.
    pub linked: bool,
    /// Whether the peer says that its LAN interface works.
    pub lan_ok: bool,
    /// Connections that the peer could not continue byte for byte.
    pub unprotected: u32,
    /// What it says it is; `None` while nothing is heard of it.
    pub role: Option<BeatRole>,
    /// Whether it says that it is synchronised.
    pub synced: bool,
    /// The version of the protocol that both speak, while they are linked.
    pub version: Option<u16>,
    /// Its release, and its LAN's MTU, if it told.
    pub release: Option<String>,
    /// Its LAN's MTU, if it told.
    pub mtu: Option<u16>,
    /// What keeps its host from carrying the service, in its words; empty for nothing.
    pub obstacles: String,
    /// Why it is no partner; `None` if it is one, or nothing is known.
    pub incompatible: Option<String>,
}

/// What is known of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendStatus {
    /// The relay's port.
    pub port: u16,
    /// Where it listens.
    pub address: Endpoint,
    /// Whether it counts as up: an owner finds out, and tells its standby.
    pub up: bool,
    /// Whether that is known; else it is hoped for.
    pub known: bool,
    /// What an operator has said of it.
    pub state: relay::State,
    /// Its share of new clients, configured or said.
    pub weight: u16,
    /// How many living splices it has.
    pub splices: u32,
    /// How many connections sessions have to it.
    pub sessions: u32,
    /// How many more are over, and kept for what may still be said.
    pub lingering: u32,
    /// Why a check has failed last, in words, and how long ago.
    pub failed: Option<(String, Duration)>,
    /// Whether it is no longer in the configuration, and only keeps what it has.
    pub removed: bool,
    /// Whether it gets no new clients, having said something else than its twin.
    pub barred: bool,
}

/// A snapshot of the engine for people and programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which node this is.
    pub node: Node,
    /// Its role.
    pub role: Role,
    /// The ownership that it knows of.
    pub epoch: Epoch,
    /// Whether a failure of the primary right now would lose no connection (I7).
    pub protected: bool,
    /// Why it is not, in words that say what to do; empty if it is.
    pub why: Vec<String>,
    /// Live or held connections.
    pub connections: usize,
    /// Of those, in the handshake.
    pub half_open: usize,
    /// Living splices, our own or held, which are not among the connections.
    pub splices: usize,
    /// Splices that are over, and kept for what may still be said.
    pub lingering: usize,
    /// Sessions with two servers on the same input: the death of either would not show.
    pub mirrored: usize,
    /// Sessions that were to have two servers, and have one.
    pub unmirrored: usize,
    /// What has been counted of them.
    pub relays: relay::Counts,
    /// What is known of each backend, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
    /// Connections and splices that the standby has been sent, and all there are, while it is brought up to
    /// date.
    pub snapshot: Option<SnapshotProgress>,
    /// The log's last position, and the last that the standby confirmed.
    pub log: (u64, u64),
    /// Bytes of the log that are not confirmed.
    pub backlog_bytes: u64,
    /// Bytes kept for clients, and how many may be.
    pub memory: u64,
    /// See `memory`.
    pub memory_max: u64,
    /// What is known of the peer.
    pub peer: PeerStatus,
    /// What is known of the arbiter, if there is one.
    pub arbiter: Option<ArbiterStatus>,
    /// Counters.
    pub stats: Stats,
}

impl Engine {
    /// The present state.
    pub fn status(&self, now: Instant) -> Status {
        let why = self.why(now);
        let (appended, confirmed) = self.log_positions();
        let [mirrored, unmirrored] = self.sessions.mirrored();
        Status {
            node: self.setup.node,
            role: self.roles.role(),
            epoch: self.roles.epoch(),
            protected: why.is_empty(),
            why,
            connections: self.table.len(),
            half_open: self.half_open,
            splices: self.relays.len() - self.relays.lingering(),
            lingering: self.relays.lingering(),
            mirrored,
            unmirrored,
            relays: self.relays.counts(),
            backends: self.backends(now),
            snapshot: self.duty.standby().and_then(Standby::snapshot_progress),
            log: (appended.0, confirmed.0),
            backlog_bytes: self.backlog_bytes(),
            memory: self.memory.held(),
            memory_max: self.setup.memory_max,
            peer: self.peer_status(now),
            arbiter: self.roles.arbiter(now),
            stats: self.stats,
        }
    }

    fn backends(&self, now: Instant) -> Vec<BackendStatus> {
        let mut backends = Vec::with_capacity(self.relays.backends().count());
        backends.extend(self.relays.backends().map(|view| self.backend_status(now, view)));
        backends
    }

    fn backend_status(&self, now: Instant, view: relay::View) -> BackendStatus {
        let relay::View {
            port,
            address,
            up,
            known,
            state,
            weight,
            splices,
            sessions,
            lingering,
            failed,
            removed,
            barred,
            born: _,
        } = view;
        let failed = failed.map(|(why, at)| (self.relays.words(port, why), now.since(at)));
        BackendStatus {
            port,
            address,
            up,
            known,
            state,
            weight,
            splices,
            sessions,
            lingering,
            failed,
            removed,
            barred,
        }
    }

    /// I7: nothing to say only when the death of the primary at this moment would lose nothing.
    fn why(&self, now: Instant) -> Vec<String> {
        #[cfg(feature = "defects")]
        if self.owns() && self.setup.has(crate::defects::Defect::AlwaysProtected) {
            return Vec::new();
        }
        self.why_unprotected(now)
    }

    fn peer_status(&self, now: Instant) -> PeerStatus {
        let known = self.roles.peer().filter(|_| self.roles.is_peer_heard(now));
        let host = self.peer_host.as_ref();
        PeerStatus {
            silent_replication: self.roles.silence(now, Path::Replication),
            silent_lan: self.roles.silence(now, Path::Lan),
            linked: self.link.is_up(),
            lan_ok: self.peer.as_ref().is_some_and(|beat| beat.lan_ok),
            unprotected: self.peer_unprotected(),
            role: known.map(|(role, ..)| role),
            synced: known.is_some_and(|(_, _, synced)| synced),
            version: self.link.is_up().then_some(self.link.version),
            release: host.map(|host| host.release.clone()),
            mtu: host.map(|host| host.facts.mtu),
            obstacles: host.map_or(String::new(), |host| host.obstacles.clone()),
            incompatible: self.incompatible.why.clone(),
        }
    }
}
