//! The engine's status as the control socket gives it.
//!
//! A mirror of [`Status`], so that the core needs no serialisation and a field that is renamed
//! there changes nothing here by accident. Counters keep their names.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::engine::{BackendStatus, Exchanges, PeerStatus, Stats, Status};
use crate::relay::{Counts, State};
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
    /// Why it is not, in words that say what to do.
    pub why: Vec<String>,
    /// Connections, live or held.
    pub connections: usize,
    /// Of those, in the handshake.
    pub half_open: usize,
    /// Living splices, our own or held; they are not among the connections.
    pub splices: usize,
    /// Splices that are over, and kept for what may still be said.
    pub splices_over: usize,
    /// Sessions with two servers on the same input: the death of either would not show.
    pub mirrored: usize,
    /// Sessions that were to have two servers, and have one.
    pub unmirrored: usize,
    /// The relays' backends, in the order of the configuration.
    pub backends: Vec<BackendReport>,
    /// How far a joining standby has been brought up to date.
    pub snapshot: Option<SnapshotReport>,
    /// The replicated log.
    pub log: LogReport,
    /// What is kept for clients.
    pub memory: MemoryReport,
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
    /// What an operator has said that it is there for: `ready`, `drain`, `maint`.
    pub state: &'static str,
    /// Its share of new clients, configured or said.
    pub weight: u16,
    /// Whether it counts as up: a primary checks, and tells its standby.
    pub up: bool,
    /// Whether that is known; else it is hoped for.
    pub known: bool,
    /// How many living splices it has.
    pub splices: u32,
    /// How many connections sessions have to it.
    pub sessions: u32,
    /// How many more are over, and kept for what may still be said.
    pub splices_over: u32,
    /// Whether what it has is being ended.
    pub cut: bool,
    /// Why a check has failed last.
    pub last_failure: Option<String>,
    /// How many milliseconds ago.
    pub last_failure_ms: Option<u64>,
    /// Whether it is no longer in the configuration, and only keeps what it has.
    pub removed: bool,
    /// Whether it gets no new clients, having said something else than its twin.
    pub barred: bool,
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

/// What is kept for clients, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MemoryReport {
    /// Input that is out of order or that nobody has read, output that is not acknowledged.
    pub held: u64,
    /// How much that may be.
    pub budget: u64,
}

/// The other node.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct PeerReport {
    /// What it says it is: `joining`, `standby`, `primary` and so on; none while it is not heard.
    pub state: Option<&'static str>,
    /// Whether it says that it is synchronised.
    pub synced: bool,
    /// The version of the protocol that both speak, while they are linked.
    pub version: Option<u16>,
    /// Its release, if it told.
    pub release: Option<String>,
    /// Its LAN's MTU, if it told.
    pub mtu: Option<u16>,
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
    /// What keeps its host from carrying the service, in its words.
    pub obstacles: Option<String>,
    /// Why it is no partner.
    pub incompatible: Option<String>,
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
        let (appended, confirmed) = status.log;
        Self {
            node: status.node.to_string(),
            role,
            synced,
            epoch: status.epoch.0,
            protected: status.protected,
            why: status.why.clone(),
            connections: status.connections,
            half_open: status.half_open,
            splices: status.splices,
            splices_over: status.lingering,
            mirrored: status.mirrored,
            unmirrored: status.unmirrored,
            backends: status.backends.iter().map(backend).collect(),
            snapshot: status
                .snapshot
                .map(|SnapshotProgress { sent, total }| SnapshotReport { sent, total }),
            log: LogReport { appended, confirmed, backlog_bytes: status.backlog_bytes },
            memory: MemoryReport { held: status.memory, budget: status.memory_max },
            peer: peer(&status.peer),
            arbiter: status.arbiter.as_ref().map(arbiter),
            gated,
            capture,
            counters: counters(&status.stats, &status.relays),
        }
    }
}

fn peer(status: &PeerStatus) -> PeerReport {
    PeerReport {
        state: status.role.map(|role| role.name()),
        synced: status.synced,
        version: status.version,
        release: status.release.clone(),
        mtu: status.mtu,
        linked: status.linked,
        silent_replication_ms: millis(status.silent_replication),
        silent_lan_ms: millis(status.silent_lan),
        lan_ok: status.lan_ok,
        unprotected: status.unprotected,
        obstacles: Some(&status.obstacles).filter(|text| !text.is_empty()).cloned(),
        incompatible: status.incompatible.clone(),
    }
}

fn backend(status: &BackendStatus) -> BackendReport {
    let BackendStatus {
        port,
        address,
        up,
        known,
        state: State { admin, weight: _, cut },
        weight,
        splices,
        sessions,
        lingering,
        ref failed,
        removed,
        barred,
    } = *status;
    BackendReport {
        port,
        address: address.to_string(),
        state: admin.name(),
        weight,
        up,
        known,
        splices,
        sessions,
        splices_over: lingering,
        cut,
        last_failure: failed.as_ref().map(|(why, _)| why.clone()),
        last_failure_ms: failed.as_ref().map(|(_, ago)| millis(*ago)),
        removed,
        barred,
    }
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
        let Stats { $($name,)* exchanges: _ } = *$stats;
        let mut map = Map::new();
        $(map.insert(stringify!($name).to_owned(), Value::from($name));)*
        map
    }};
}

/// What relays count, by the names that are documented; one that is missing here stops the build.
fn relay_counters(map: &mut Map<String, Value>, counts: &Counts) {
    let Counts { spliced, moved, unspliced, refused, full, greedy, asked } = *counts;
    let named = [
        ("spliced", spliced),
        ("moved", moved),
        ("unspliced", unspliced),
        ("no_backend", refused),
        ("splice_full", full),
        ("client_full", greedy),
        ("asked", asked),
    ];
    map.extend(named.map(|(name, count)| (name.to_owned(), Value::from(count))));
}

fn exchange_counters(map: &mut Map<String, Value>, counts: &Exchanges) {
    let Exchanges { answered, repeated, continued, refused, failed, timed_out, broken } = *counts;
    let named = [
        ("requests_answered", answered),
        ("requests_repeated", repeated),
        ("requests_continued", continued),
        ("requests_refused", refused),
        ("requests_failed", failed),
        ("requests_timed_out", timed_out),
        ("replies_broken", broken),
    ];
    map.extend(named.map(|(name, count)| (name.to_owned(), Value::from(count))));
}

fn counters(stats: &Stats, relays: &Counts) -> Map<String, Value> {
    let mut map = named!(
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
        source_refused,
        opened,
        closed,
        reset_by_peer,
        timed_out,
        aborted,
        not_continued,
        memory_short,
        request_timeouts,
        idle_timeouts,
        reply_timeouts,
        refused,
        cookies_sent,
        cookies_accepted,
        relayed,
        relayed_bytes,
        paths_narrowed,
        takeovers,
        carried,
        twins_lost,
        differences,
    );
    relay_counters(&mut map, relays);
    exchange_counters(&mut map, &stats.exchanges);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_that_is_documented_has_its_name() {
        let relays =
            Counts { spliced: 1, moved: 2, unspliced: 3, refused: 4, full: 5, greedy: 6, asked: 7 };
        let exchanges = Exchanges {
            answered: 9,
            repeated: 10,
            continued: 11,
            refused: 12,
            failed: 13,
            timed_out: 14,
            broken: 15,
        };
        let map = counters(&Stats { paths_narrowed: 8, exchanges, ..Stats::default() }, &relays);
        let names = [
            "spliced",
            "moved",
            "unspliced",
            "no_backend",
            "splice_full",
            "client_full",
            "asked",
            "paths_narrowed",
            "requests_answered",
            "requests_repeated",
            "requests_continued",
            "requests_refused",
            "requests_failed",
            "requests_timed_out",
            "replies_broken",
        ];
        let numbers: Vec<_> = names.map(|name| map[name].as_u64()).into_iter().collect();
        assert_eq!(numbers, (1..=15).map(Some).collect::<Vec<_>>());
    }
}
