//! The engine's status as the control socket gives it.
//!
//! A mirror of [`Status`], so that the core needs no serialisation and a field that is renamed
//! there changes nothing here by accident. Counters keep their names.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::engine::{BackendStatus, PeerStatus, Stats, Status};
use crate::replica::SnapshotProgress;
use crate::role::{ArbiterStatus, Role};
use crate::time::Duration;

/// What `standin status --json` prints.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// The node, `a` or `b`.
    pub node: String,
    /// `joining`, `standby`, `primary`, or `silent`.
    pub role: &'static str,
    /// Of a primary: whether there is a standby that holds everything. Of a standby: whether it is
    /// that.
    pub synced: bool,
    /// The epoch of ownership.
    pub epoch: u64,
    /// Whether a failure of the primary right now would lose no connection (I7).
    pub protected: bool,
    /// Connections, live or held.
    pub connections: usize,
    /// Of those, in the handshake.
    pub half_open: usize,
    /// Splices, live or held; they are not among the connections.
    pub splices: usize,
    /// The relays' backends, in the order of the configuration.
    pub backends: Vec<BackendReport>,
    /// How far a joining standby has been brought up to date.
    pub snapshot: Option<SnapshotReport>,
    /// The replicated log.
    pub log: LogReport,
    /// The other node.
    pub peer: PeerReport,
    /// The arbiter, if there is one.
    pub arbiter: Option<ArbiterReport>,
    /// Packets that were ready and not sent because the right to speak had run out (I3).
    pub gated: u64,
    /// The capture that runs, or the last one if it ended by itself.
    pub capture: Option<CaptureReport>,
    /// Counters since the start of this run.
    pub counters: Map<String, Value>,
}

/// A backend of a relay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BackendReport {
    /// The relay's port.
    pub port: u16,
    /// Where the backend listens.
    pub address: String,
    /// Whether it gets new splices. Only a primary checks; a standby says `true`.
    pub up: bool,
    /// How many it has.
    pub splices: u32,
}

/// SnapshotProgress of a snapshot, in connections and splices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct SnapshotReport {
    /// Sent.
    pub sent: u32,
    /// Sent and to be sent.
    pub total: u32,
}

/// Positions in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct LogReport {
    /// The last record's.
    pub appended: u64,
    /// The last that the standby confirmed.
    pub confirmed: u64,
    /// Bytes in between.
    pub backlog_bytes: u64,
}

/// The other node.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct PeerReport {
    /// Whether the replication stream stands.
    pub linked: bool,
    /// Milliseconds since a heartbeat on the replication network.
    pub silent_replication_ms: u64,
    /// The same on the LAN.
    pub silent_lan_ms: u64,
    /// Whether it says that its LAN interface works.
    pub lan_ok: bool,
    /// Connections that it could not continue byte for byte.
    pub unprotected: u32,
}

/// The arbiter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ArbiterReport {
    /// Whether it answered the last question.
    pub answers: bool,
    /// Milliseconds since its last answer; none if there was none yet.
    pub answered_ms: Option<u64>,
    /// The node that its record names.
    pub owner: Option<String>,
    /// The epoch that it granted to that node.
    pub epoch: Option<u64>,
    /// How many milliseconds longer this node may speak without a standby; none without a grant,
    /// and in duplex, which needs none.
    pub granted_ms: Option<u64>,
}

/// A capture.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CaptureReport {
    /// The file that is written.
    pub file: String,
    /// Whether it still is.
    pub running: bool,
    /// Packets, frames and marks that were taken, without those that were lost.
    pub packets: u64,
    /// Lost, since the disk was too slow.
    pub lost: u64,
    /// Bytes written, in all files.
    pub bytes: u64,
    /// Why the capture ended by itself.
    pub ended: Option<String>,
}

impl Report {
    /// What `status` says, with what only the runtime counts.
    #[must_use]
    pub fn new(status: &Status, gated: u64, capture: Option<CaptureReport>) -> Self {
        let (role, synced) = match status.role {
            Role::Joining => ("joining", false),
            Role::Standby { synced } => ("standby", synced),
            Role::Primary { duplex } => ("primary", duplex),
            Role::Silent => ("silent", false),
        };
        let PeerStatus { silent_replication, silent_lan, linked, lan_ok, unprotected } =
            status.peer;
        let (appended, confirmed) = status.log;
        Self {
            node: status.node.to_string(),
            role,
            synced,
            epoch: status.epoch.0,
            protected: status.protected,
            connections: status.connections,
            half_open: status.half_open,
            splices: status.splices,
            backends: status.backends.iter().map(backend).collect(),
            snapshot: status
                .snapshot
                .map(|SnapshotProgress { sent, total }| SnapshotReport { sent, total }),
            log: LogReport { appended, confirmed, backlog_bytes: status.backlog_bytes },
            peer: PeerReport {
                linked,
                silent_replication_ms: millis(silent_replication),
                silent_lan_ms: millis(silent_lan),
                lan_ok,
                unprotected,
            },
            arbiter: status.arbiter.as_ref().map(arbiter),
            gated,
            capture,
            counters: counters(&status.stats),
        }
    }
}

fn backend(status: &BackendStatus) -> BackendReport {
    let BackendStatus { port, address, up, splices } = *status;
    BackendReport { port, address: address.to_string(), up, splices }
}

fn arbiter(status: &ArbiterStatus) -> ArbiterReport {
    let ArbiterStatus { answers, answered, record, granted_for } = *status;
    ArbiterReport {
        answers,
        answered_ms: answered.map(millis),
        owner: record.map(|record| record.owner.to_string()),
        epoch: record.map(|record| record.epoch.0),
        granted_ms: granted_for.map(millis),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Names each counter once; one that is missing here stops the build.
macro_rules! named {
    ($stats:expr, $($name:ident),* $(,)?) => {{
        let Stats { $($name),* } = *$stats;
        let mut map = Map::new();
        $(map.insert(stringify!($name).to_owned(), Value::from($name));)*
        map
    }};
}

fn counters(stats: &Stats) -> Map<String, Value> {
    named!(
        stats,
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
        malformed,
        not_for_us,
        not_owner,
        tcp_dropped,
        backlog_dropped,
        table_full,
        opened,
        closed,
        reset_by_peer,
        timed_out,
        aborted,
        not_continued,
        refused,
        cookies_sent,
        cookies_accepted,
        relayed,
        relayed_bytes,
        takeovers,
        carried,
    )
}
