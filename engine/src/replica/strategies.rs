//! Random records, frames and heartbeats for the property tests of this module.

use proptest::prelude::*;

use super::{
    BackendAdmin, BackendFailure, Frame, Heartbeat, Hello, HostFacts, HostWord, MAX_LSN,
    MAX_OFFSET, Part, Record, Refusal, ServiceRef, Versions,
};
use crate::ids::{ConnId, Epoch, Lsn, Node, ServiceName, SpliceId};
use crate::wire::{Endpoint, FourTuple};

/// A [`Record`] that owns its bytes.
#[derive(Clone, Debug)]
pub(super) enum OwnedRecord {
    Opened {
        conn: u64,
        ends: [Endpoint; 2],
        service: ServiceRef,
        snapshot: bool,
        hard: Vec<u8>,
        app: Vec<u8>,
    },
    Input {
        conn: u64,
        offset: u64,
        ts_recent: u32,
        bytes: Vec<u8>,
    },
    PeerFinished {
        conn: u64,
        offset: u64,
    },
    Pin {
        conn: u64,
        bytes: Vec<u8>,
    },
    Progress {
        conn: u64,
        acked: u64,
        window: u32,
        ts_recent: u32,
        fin_acked: bool,
        handshake_done: bool,
    },
    Closed {
        conn: u64,
        cause: u8,
    },
    SnapshotBegin {
        connections: u32,
    },
    SnapshotEnd,
    Spliced {
        splice: u64,
        ends: [Endpoint; 4],
        seq: u32,
        ts: u32,
    },
    SpliceStage {
        splice: u64,
        over: bool,
    },
    Tick {
        conn: u64,
    },
    Stood {
        conn: u64,
        hard: Vec<u8>,
    },
    Unspliced {
        splice: u64,
    },
    Backend {
        port: u16,
        address: Endpoint,
        up: bool,
        barred: bool,
        born: u32,
        failed: Option<BackendFailure>,
    },
    BackendState {
        port: u16,
        address: Endpoint,
        admin: BackendAdmin,
        weight: Option<u16>,
        cut: bool,
    },
    Leave {
        conn: u64,
    },
}

impl OwnedRecord {
    pub(super) fn borrow(&self) -> Record<'_> {
        match *self {
            Self::Opened { conn, ends: [local, remote], service, snapshot, ref hard, ref app } => {
                let tuple = FourTuple { local, remote };
                Record::Opened { conn: ConnId(conn), tuple, service, snapshot, hard, app }
            }
            Self::Input { conn, offset, ts_recent, ref bytes } => {
                Record::Input { conn: ConnId(conn), offset, ts_recent, bytes }
            }
            Self::PeerFinished { conn, offset } => {
                Record::PeerFinished { conn: ConnId(conn), offset }
            }
            Self::Pin { conn, ref bytes } => Record::Pin { conn: ConnId(conn), bytes },
            Self::Progress { conn, acked, window, ts_recent, fin_acked, handshake_done } => {
                let conn = ConnId(conn);
                Record::Progress { conn, acked, window, ts_recent, fin_acked, handshake_done }
            }
            Self::Closed { conn, cause } => Record::Closed { conn: ConnId(conn), cause },
            Self::SnapshotBegin { connections } => Record::SnapshotBegin { connections },
            Self::SnapshotEnd => Record::SnapshotEnd,
            Self::Spliced { splice, ends: [a, b, c, d], seq, ts } => Record::Spliced {
                splice: SpliceId(splice),
                client: FourTuple { local: a, remote: b },
                backend: FourTuple { local: c, remote: d },
                seq,
                ts,
            },
            Self::SpliceStage { splice, over } => {
                Record::SpliceStage { splice: SpliceId(splice), over }
            }
            Self::Tick { conn } => Record::Tick { conn: ConnId(conn) },
            Self::Stood { conn, ref hard } => Record::Stood { conn: ConnId(conn), hard },
            Self::Unspliced { splice } => Record::Unspliced { splice: SpliceId(splice) },
            Self::Backend { port, address, up, barred, born, failed } => {
                Record::Backend { port, address, up, barred, born, failed }
            }
            Self::BackendState { port, address, admin, weight, cut } => {
                Record::BackendState { port, address, admin, weight, cut }
            }
            Self::Leave { conn } => Record::Leave { conn: ConnId(conn) },
        }
    }
}

/// A connection, fresh or of the snapshot.
pub(super) fn opened(conn: u64, snapshot: bool) -> OwnedRecord {
    let ends = [Endpoint::from(([10, 77, 0, 100], 7)), Endpoint::from(([10, 77, 0, 10], 4321))];
    OwnedRecord::Opened {
        conn,
        ends,
        service: ServiceRef::Index(0),
        snapshot,
        hard: vec![1, 2],
        app: vec![],
    }
}

fn service() -> impl Strategy<Value = ServiceRef> {
    prop_oneof![
        any::<u16>().prop_map(ServiceRef::Index),
        any::<u32>().prop_map(|name| ServiceRef::Name(ServiceName(name))),
    ]
}

fn address() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(Endpoint::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(Endpoint::from),
    ]
}

/// Any record, with byte runs that may be empty.
pub(super) fn record() -> impl Strategy<Value = OwnedRecord> {
    let conn = any::<u64>;
    let offset = || 0..MAX_OFFSET / 2;
    prop_oneof![
        (conn(), [address(), address()], service(), any::<(bool, Vec<u8>, Vec<u8>)>()).prop_map(
            |(conn, ends, service, (snapshot, hard, app))| OwnedRecord::Opened {
                conn,
                ends,
                service,
                snapshot,
                hard,
                app
            }
        ),
        (conn(), offset(), any::<(u32, Vec<u8>)>()).prop_map(
            |(conn, offset, (ts_recent, bytes))| OwnedRecord::Input {
                conn,
                offset,
                ts_recent,
                bytes
            }
        ),
        (conn(), 0..=MAX_OFFSET)
            .prop_map(|(conn, offset)| OwnedRecord::PeerFinished { conn, offset }),
        any::<(u64, Vec<u8>)>().prop_map(|(conn, bytes)| OwnedRecord::Pin { conn, bytes }),
        (conn(), 0..=MAX_OFFSET, any::<(u32, u32, bool, bool)>()).prop_map(
            |(conn, acked, (window, ts_recent, fin_acked, handshake_done))| {
                OwnedRecord::Progress { conn, acked, window, ts_recent, fin_acked, handshake_done }
            }
        ),
        any::<(u64, u8)>().prop_map(|(conn, cause)| OwnedRecord::Closed { conn, cause }),
        any::<u32>().prop_map(|connections| OwnedRecord::SnapshotBegin { connections }),
        Just(OwnedRecord::SnapshotEnd),
        (any::<(u64, u32, u32)>(), [address(), address(), address(), address()])
            .prop_map(|((splice, seq, ts), ends)| OwnedRecord::Spliced { splice, ends, seq, ts }),
        any::<(u64, bool)>().prop_map(|(splice, over)| OwnedRecord::SpliceStage { splice, over }),
        any::<u64>().prop_map(|splice| OwnedRecord::Unspliced { splice }),
        any::<u64>().prop_map(|conn| OwnedRecord::Tick { conn }),
        any::<u64>().prop_map(|conn| OwnedRecord::Leave { conn }),
        backend_state(),
        (any::<u64>(), prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(conn, hard)| OwnedRecord::Stood { conn, hard }),
        (address(), any::<(u16, bool, bool, u32, Option<(u8, u16, u32)>)>()).prop_map(
            |(address, (port, up, barred, born, failed))| {
                let failed = failed.map(|(what, detail, ago)| BackendFailure { what, detail, ago });
                OwnedRecord::Backend { port, address, up, barred, born, failed }
            }
        ),
    ]
}

fn backend_state() -> impl Strategy<Value = OwnedRecord> {
    let admin = prop_oneof![
        Just(BackendAdmin::Ready),
        Just(BackendAdmin::Drain),
        Just(BackendAdmin::Maint)
    ];
    (address(), admin, any::<(u16, Option<u16>, bool)>()).prop_map(
        |(address, admin, (port, weight, cut))| OwnedRecord::BackendState {
            port,
            address,
            admin,
            weight,
            cut,
        },
    )
}

/// A [`Frame`] that owns its bytes.
#[derive(Clone, Debug)]
pub(super) enum OwnedFrame {
    Plain(Frame<'static>),
    Log { first: Lsn, epoch: Epoch, clock: u64, records: Vec<u8> },
    Refuse { reason: Refusal, text: String },
    Host { facts: HostFacts, release: String, obstacles: String },
}

impl OwnedFrame {
    pub(super) fn borrow(&self) -> Frame<'_> {
        match self {
            Self::Plain(frame) => frame.clone(),
            &Self::Log { first, epoch, clock, ref records } => {
                Frame::Log { first, epoch, clock, records }
            }
            Self::Refuse { reason, text } => Frame::Refuse { reason: *reason, text },
            Self::Host { facts, release, obstacles } => {
                Frame::Host(HostWord { facts: *facts, release, obstacles })
            }
        }
    }
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![Just(Node::A), Just(Node::B)]
}

fn lsn() -> impl Strategy<Value = Lsn> {
    (0..=MAX_LSN).prop_map(Lsn)
}

fn hello() -> impl Strategy<Value = Hello> {
    let parts = || {
        let parts = prop::collection::btree_map("[!-~]{1,32}", any::<u64>(), 0..=64);
        parts.prop_map(|parts| -> Vec<Part> {
            parts.iter().map(|(name, &digest)| Part::new(name, digest)).collect()
        })
    };
    (node(), any::<(u16, u16, u64, u8, u64)>(), parts(), parts()).prop_map(
        |(node, (one, other, boot, role, epoch), parts, config_3)| {
            let versions = Versions { min: one.min(other), max: one.max(other) };
            // One of version 3 has nothing else to say.
            let config = if versions.max < 4 { Vec::new() } else { parts };
            Hello { versions, node, boot, role, epoch: Epoch(epoch), config, config_3 }
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Incompatible),
        Just(Refusal::NotPrimary),
        Just(Refusal::Busy),
        Just(Refusal::Violation),
    ]
}

/// Any frame.
pub(super) fn frame() -> impl Strategy<Value = OwnedFrame> {
    let records = prop::collection::vec(any::<u8>(), 1..300);
    prop_oneof![
        hello().prop_map(|hello| OwnedFrame::Plain(Frame::Hello(hello))),
        (lsn(), any::<(u64, u64)>(), records).prop_map(|(first, (epoch, clock), records)| {
            OwnedFrame::Log { first, epoch: Epoch(epoch), clock, records }
        }),
        (lsn(), any::<u32>())
            .prop_map(|(lsn, unprotected)| OwnedFrame::Plain(Frame::Confirm { lsn, unprotected })),
        (any::<u64>(), lsn()).prop_map(|(epoch, lsn)| {
            OwnedFrame::Plain(Frame::Handover { epoch: Epoch(epoch), lsn })
        }),
        (refusal(), "[ -~\u{e4}\u{20ac}]{0,100}")
            .prop_map(|(reason, text)| OwnedFrame::Refuse { reason, text }),
        any::<u64>().prop_map(|token| OwnedFrame::Plain(Frame::Ping { token })),
        any::<u64>().prop_map(|token| OwnedFrame::Plain(Frame::Pong { token })),
        (any::<(u16, bool, bool, bool)>(), "[ -~]{0,32}", "[ -~\u{e4}\u{20ac}]{0,600}").prop_map(
            |((mtu, ipv4, ipv6, offload), release, obstacles)| OwnedFrame::Host {
                facts: HostFacts { mtu, ipv4, ipv6, offload },
                release,
                obstacles,
            }
        ),
    ]
}

/// Any heartbeat.
pub(super) fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    (node(), any::<(u8, bool, bool, bool)>(), any::<[u64; 7]>(), lsn(), any::<(u32, bool, bool)>())
        .prop_map(
            |(
                node,
                (role, synced, lan_ok, arbiter_ok),
                numbers,
                applied,
                (unprotected, fit, hears_lan),
            )| {
                let [boot, epoch, sequence, sent, echo, echo_boot, clock] = numbers;
                let epoch = Epoch(epoch);
                Heartbeat {
                    node,
                    role,
                    synced,
                    lan_ok,
                    arbiter_ok,
                    boot,
                    epoch,
                    sequence,
                    sent,
                    echo,
                    echo_boot,
                    applied,
                    clock,
                    unprotected,
                    fit,
                    hears_lan,
                }
            },
        )
}
