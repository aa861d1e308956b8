//! The records of the log: everything a standby has to know to go on with a connection.
//!
//! ```text
//!  Opened ─► Input* ─► PeerFinished ─► Closed       what a client did, in its order
//!       └─► Pin*        what a service saw outside its input
//!       └─► Tick*       when a session was called for the time's sake
//!       └─► Stood       what the handshake of a connection settled that a session has dialled
//!       └─► Progress*   what the client has acknowledged: lazy, only saves work later
//!  SnapshotBegin ─► Opened{snapshot}* ─► SnapshotEnd      the connections from before the session
//!  Spliced ─► SpliceStage* ─► Unspliced                    two legs that a relay has joined
//!       └─► Leave*                                         its server gets no other request of a session
//!  Backend*, BackendState*                                 what is known, and was said, of a server behind a relay
//! ```
//!
//! A record is its kind (one byte, never given to another record) and fixed fields. Byte runs are
//! borrowed from the frame in decoding: 64 KiB of input cost the same as one byte.

use super::codec::{Fields, address_len, check_offset, put_address, put_run};
use super::{MAX_RECORD, Violation};
use crate::ids::{ConnId, ServiceName, SpliceId};
use crate::wire::{Endpoint, FourTuple};

/// Which service a record speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceRef {
    /// By its place among the configured ports: up to version 3.
    Index(u16),
    /// By its name: from version 4 on.
    Name(ServiceName),
}

/// One record of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// A connection exists from here on.
    Opened {
        /// Its name in every later record.
        conn: ConnId,
        /// Its two ends. Flow label and scope of IPv6 do not travel.
        tuple: FourTuple,
        /// What answers it.
        service: ServiceRef,
        /// Whether it is older than the session, and told as part of the snapshot.
        snapshot: bool,
        /// TCP's part of it, as TCP encodes it.
        hard: &'a [u8],
        /// The service's part, as the service encodes it; empty for a fresh one.
        app: &'a [u8],
    },
    /// A connection that was dialled stands: what its handshake has settled. From version 4 on.
    Stood {
        /// The connection.
        conn: ConnId,
        /// TCP's part of it, as TCP encodes it.
        hard: &'a [u8],
    },
    /// Bytes of the client, in order.
    Input {
        /// The connection.
        conn: ConnId,
        /// Stream offset of the first byte.
        offset: u64,
        /// TS.Recent after them, RFC 7323 §4.3.
        ts_recent: u32,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// The client will send nothing more.
    PeerFinished {
        /// The connection.
        conn: ConnId,
        /// Stream offset of the FIN: how many bytes came before it.
        offset: u64,
    },
    /// The time has come that a session wanted to be called at: late perhaps, early never. From version 4
    /// on.
    Tick {
        /// The connection, or one of the session's.
        conn: ConnId,
    },
    /// What a service saw outside its input, and both sides must go by.
    Pin {
        /// The connection.
        conn: ConnId,
        /// The pin, as the service encodes it.
        bytes: &'a [u8],
    },
    /// How far the client has come. A standby may miss any of these and only do more work.
    Progress {
        /// The connection.
        conn: ConnId,
        /// Output bytes acknowledged.
        acked: u64,
        /// SND.WND, bytes.
        window: u32,
        /// TS.Recent, RFC 7323 §4.3.
        ts_recent: u32,
        /// Our FIN is acknowledged.
        fin_acked: bool,
        /// The three-way handshake is complete.
        handshake_done: bool,
    },
    /// A connection exists no longer.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why, as the engine numbers it.
        cause: u8,
    },
    /// A session starts. The connections from before it follow.
    SnapshotBegin {
        /// How many follow at most; those that close before their turn are left out.
        connections: u32,
    },
    /// All connections from before the session have been told.
    SnapshotEnd,
    /// Two legs are one splice from here on. If its name is known, it goes on to another backend.
    Spliced {
        /// Its name in every later record.
        splice: SpliceId,
        /// The leg to the client.
        client: FourTuple,
        /// The leg to the backend.
        backend: FourTuple,
        /// What is added to the client's sequence numbers on their way to the backend, modulo 2³².
        seq: u32,
        /// What is added to the client's timestamps, modulo 2³².
        ts: u32,
    },
    /// How far a splice has come: at first its ends have not found each other. Lazy: a standby that misses one
    /// keeps the splice for too short or too long.
    SpliceStage {
        /// The splice.
        splice: SpliceId,
        /// Whether both ends have finished, or one has reset it: it is kept for what may still be
        /// acknowledged. Else both are heard.
        over: bool,
    },
    /// A splice exists no longer.
    Unspliced {
        /// The splice.
        splice: SpliceId,
    },
    /// What the owner has found out about a server behind a relay: an heir need not find it out again. From
    /// version 4 on. Lazy, as it may be wrong a moment later.
    Backend {
        /// The relay's port.
        port: u16,
        /// Where the server listens.
        address: Endpoint,
        /// Whether it serves.
        up: bool,
        /// Whether it gets no new clients, having said something else than its twin.
        barred: bool,
        /// When it came up, in the order in which those of its relay did.
        born: u32,
        /// Why a check has failed last.
        failed: Option<BackendFailure>,
    },
    /// What an operator has said of a server behind a relay. From version 4 on. Once it is confirmed no takeover
    /// forgets it.
    BackendState {
        /// The relay's port.
        port: u16,
        /// Where the server listens.
        address: Endpoint,
        /// What it is there for.
        admin: BackendAdmin,
        /// Its share of new clients, in place of the configured one.
        weight: Option<u16>,
        /// Whether what it has is being ended.
        cut: bool,
    },
    /// The server of a session is to get no other request. From version 4 on.
    Leave {
        /// The leg to the server.
        conn: ConnId,
    },
}

/// Why a check of a server behind a relay has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackendFailure {
    /// What, as relays number it.
    pub what: u8,
    /// What of it.
    pub detail: u16,
    /// How long ago, milliseconds.
    pub ago: u32,
}

/// What a server behind a relay is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BackendAdmin {
    /// It gets clients.
    Ready,
    /// It gets no new ones.
    Drain,
    /// The same, and nobody looks whether it serves.
    Maint,
}

/// The kinds. A number is never reused, also not when its record is gone.
mod kind {
    pub(super) const OPENED: u8 = 1;
    pub(super) const INPUT: u8 = 2;
    pub(super) const PEER_FINISHED: u8 = 3;
    pub(super) const PIN: u8 = 4;
    pub(super) const PROGRESS: u8 = 5;
    pub(super) const CLOSED: u8 = 6;
    pub(super) const SNAPSHOT_BEGIN: u8 = 7;
    pub(super) const SNAPSHOT_END: u8 = 8;
    pub(super) const SPLICED: u8 = 9;
    pub(super) const UNSPLICED: u8 = 10;
    pub(super) const SPLICE_STAGE: u8 = 11;
    /// From version 4 on.
    pub(super) const BACKEND: u8 = 12;
    /// From version 4 on.
    pub(super) const TICK: u8 = 13;
    /// From version 4 on.
    pub(super) const STOOD: u8 = 14;
    /// From version 4 on.
    pub(super) const OPENED_NAMED: u8 = 15;
    /// From version 4 on.
    pub(super) const BACKEND_STATE: u8 = 16;
    /// From version 4 on.
    pub(super) const LEAVE: u8 = 17;
}

const FLAG_SNAPSHOT: u8 = 1;
const FLAG_OVER: u8 = 1;
const FLAG_UP: u8 = 1;
const FLAG_CUT: u8 = 1;
const FLAG_WEIGHT: u8 = 2;
const FLAG_BARRED: u8 = 2;
const FLAG_FAILED: u8 = 4;
const FLAG_FIN_ACKED: u8 = 1;
const FLAG_HANDSHAKE_DONE: u8 = 2;

impl<'a> Record<'a> {
    /// How many bytes [`encode`](Self::encode) appends.
    pub const fn encoded_len(&self) -> usize {
        1 + match self {
            Self::Opened { tuple, service, hard, app, .. } => {
                let name = match service {
                    ServiceRef::Index(_) => 2,
                    ServiceRef::Name(_) => 4,
                };
                8 + tuple_len(tuple) + name + 1 + 4 + hard.len() + 4 + app.len()
            }
            Self::Input { bytes, .. } => 8 + 8 + 4 + 4 + bytes.len(),
            Self::PeerFinished { .. } => 8 + 8,
            Self::Pin { bytes, .. } | Self::Stood { hard: bytes, .. } => 8 + 4 + bytes.len(),
            Self::Progress { .. } => 8 + 8 + 4 + 4 + 1,
            Self::Closed { .. } => 8 + 1,
            Self::SnapshotBegin { .. } => 4,
            Self::SnapshotEnd => 0,
            Self::Spliced { client, backend, .. } => {
                8 + tuple_len(client) + tuple_len(backend) + 4 + 4
            }
            Self::SpliceStage { .. } => 8 + 1,
            Self::Unspliced { .. } | Self::Tick { .. } | Self::Leave { .. } => 8,
            Self::Backend { address, failed, .. } => {
                let failed = if failed.is_some() { 1 + 2 + 4 } else { 0 };
                2 + address_len(*address) + 1 + 4 + failed
            }
            Self::BackendState { address, .. } => 2 + address_len(*address) + 1 + 1 + 2,
        }
    }

    /// Appends the record to `out`. It must not be longer than [`MAX_RECORD`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length = self.encoded_len();
        assert!(length <= MAX_RECORD, "a record fits into a frame");
        out.reserve(length);
        match *self {
            Self::Opened { conn, ref tuple, service, snapshot, hard, app } => {
                let kind = match service {
                    ServiceRef::Index(_) => kind::OPENED,
                    ServiceRef::Name(_) => kind::OPENED_NAMED,
                };
                put_head(out, kind, conn);
                put_tuple(out, tuple);
                match service {
                    ServiceRef::Index(index) => out.extend_from_slice(&index.to_le_bytes()),
                    ServiceRef::Name(name) => out.extend_from_slice(&name.0.to_le_bytes()),
                }
                out.push(if snapshot { FLAG_SNAPSHOT } else { 0 });
                put_run(out, hard);
                put_run(out, app);
            }
            Self::Input { conn, offset, ts_recent, bytes } => {
                put_head(out, kind::INPUT, conn);
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(&ts_recent.to_le_bytes());
                put_run(out, bytes);
            }
            Self::PeerFinished { conn, offset } => {
                put_head(out, kind::PEER_FINISHED, conn);
                out.extend_from_slice(&offset.to_le_bytes());
            }
            Self::Tick { conn } => put_head(out, kind::TICK, conn),
            Self::Leave { conn } => put_head(out, kind::LEAVE, conn),
            Self::Stood { conn, hard } => {
                put_head(out, kind::STOOD, conn);
                put_run(out, hard);
            }
            Self::Pin { conn, bytes } => {
                put_head(out, kind::PIN, conn);
                put_run(out, bytes);
            }
            Self::Progress { conn, acked, window, ts_recent, fin_acked, handshake_done } => {
                put_head(out, kind::PROGRESS, conn);
                out.extend_from_slice(&acked.to_le_bytes());
                out.extend_from_slice(&window.to_le_bytes());
                out.extend_from_slice(&ts_recent.to_le_bytes());
                out.push(
                    if fin_acked { FLAG_FIN_ACKED } else { 0 }
                        | if handshake_done { FLAG_HANDSHAKE_DONE } else { 0 },
                );
            }
            Self::Closed { conn, cause } => {
                put_head(out, kind::CLOSED, conn);
                out.push(cause);
            }
            Self::SnapshotBegin { connections } => {
                out.push(kind::SNAPSHOT_BEGIN);
                out.extend_from_slice(&connections.to_le_bytes());
            }
            Self::SnapshotEnd => out.push(kind::SNAPSHOT_END),
            Self::Spliced { splice, ref client, ref backend, seq, ts } => {
                out.push(kind::SPLICED);
                out.extend_from_slice(&splice.0.to_le_bytes());
                put_tuple(out, client);
                put_tuple(out, backend);
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&ts.to_le_bytes());
            }
            Self::SpliceStage { splice, over } => {
                out.push(kind::SPLICE_STAGE);
                out.extend_from_slice(&splice.0.to_le_bytes());
                out.push(if over { FLAG_OVER } else { 0 });
            }
            Self::Unspliced { splice } => {
                out.push(kind::UNSPLICED);
                out.extend_from_slice(&splice.0.to_le_bytes());
            }
            Self::Backend { port, address, up, barred, born, failed } => {
                out.push(kind::BACKEND);
                out.extend_from_slice(&port.to_le_bytes());
                put_address(out, address);
                let barred = if barred { FLAG_BARRED } else { 0 };
                let told = if failed.is_some() { FLAG_FAILED } else { 0 };
                out.push(if up { FLAG_UP } else { 0 } | barred | told);
                out.extend_from_slice(&born.to_le_bytes());
                if let Some(BackendFailure { what, detail, ago }) = failed {
                    out.push(what);
                    out.extend_from_slice(&detail.to_le_bytes());
                    out.extend_from_slice(&ago.to_le_bytes());
                }
            }
            Self::BackendState { port, address, admin, weight, cut } => {
                out.push(kind::BACKEND_STATE);
                out.extend_from_slice(&port.to_le_bytes());
                put_address(out, address);
                out.push(match admin {
                    BackendAdmin::Ready => 0,
                    BackendAdmin::Drain => 1,
                    BackendAdmin::Maint => 2,
                });
                out.push(
                    if cut { FLAG_CUT } else { 0 } | if weight.is_some() { FLAG_WEIGHT } else { 0 },
                );
                out.extend_from_slice(&weight.unwrap_or(0).to_le_bytes());
            }
        }
    }

    /// Reads the first record of `bytes`, and moves `bytes` past it. After a violation `bytes` is
    /// where it was.
    pub fn decode(bytes: &mut &'a [u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new("a record", bytes);
        let record = match fields.u8()? {
            kind @ (kind::OPENED | kind::OPENED_NAMED) => Self::opened(&mut fields, kind)?,
            kind::INPUT => Self::input(&mut fields)?,
            kind::PEER_FINISHED => {
                let conn = ConnId(fields.u64()?);
                Self::PeerFinished { conn, offset: fields.offset("the offset of a FIN")? }
            }
            kind::PIN => Self::Pin { conn: ConnId(fields.u64()?), bytes: fields.run()? },
            kind::PROGRESS => Self::progress(&mut fields)?,
            kind::CLOSED => Self::Closed { conn: ConnId(fields.u64()?), cause: fields.u8()? },
            kind::SNAPSHOT_BEGIN => Self::SnapshotBegin { connections: fields.u32()? },
            kind::SNAPSHOT_END => Self::SnapshotEnd,
            kind::SPLICED => Self::Spliced {
                splice: SpliceId(fields.u64()?),
                client: tuple(&mut fields)?,
                backend: tuple(&mut fields)?,
                seq: fields.u32()?,
                ts: fields.u32()?,
            },
            kind::SPLICE_STAGE => Self::SpliceStage {
                splice: SpliceId(fields.u64()?),
                over: fields.flags("the flags of a splice's stage", FLAG_OVER)? != 0,
            },
            kind::STOOD => Self::Stood { conn: ConnId(fields.u64()?), hard: fields.run()? },
            kind::TICK => Self::Tick { conn: ConnId(fields.u64()?) },
            kind::LEAVE => Self::Leave { conn: ConnId(fields.u64()?) },
            kind::UNSPLICED => Self::Unspliced { splice: SpliceId(fields.u64()?) },
            kind::BACKEND => Self::backend(&mut fields)?,
            kind::BACKEND_STATE => Self::backend_state(&mut fields)?,
            value => {
                let what = "the kind of a record";
                return Err(Violation::Value { what, value: value.into(), expected: "1 to 17" });
            }
        };
        *bytes = fields.rest();
        Ok(record)
    }

    fn opened(fields: &mut Fields<'a>, kind: u8) -> Result<Self, Violation> {
        Ok(Self::Opened {
            conn: ConnId(fields.u64()?),
            tuple: tuple(fields)?,
            service: match kind {
                kind::OPENED => ServiceRef::Index(fields.u16()?),
                _ => ServiceRef::Name(ServiceName(fields.u32()?)),
            },
            snapshot: fields.flags("the flags of an opened record", FLAG_SNAPSHOT)? != 0,
            hard: fields.run()?,
            app: fields.run()?,
        })
    }

    fn backend(fields: &mut Fields<'a>) -> Result<Self, Violation> {
        let (port, address) = (fields.u16()?, fields.address()?);
        let known = FLAG_UP | FLAG_BARRED | FLAG_FAILED;
        let flags = fields.flags("the flags of a backend", known)?;
        let (up, barred, born) = (flags & FLAG_UP != 0, flags & FLAG_BARRED != 0, fields.u32()?);
        let failed = if flags & FLAG_FAILED != 0 {
            let (what, detail, ago) = (fields.u8()?, fields.u16()?, fields.u32()?);
            Some(BackendFailure { what, detail, ago })
        } else {
            None
        };
        Ok(Self::Backend { port, address, up, barred, born, failed })
    }

    fn backend_state(fields: &mut Fields<'a>) -> Result<Self, Violation> {
        let (port, address) = (fields.u16()?, fields.address()?);
        let admin = match fields.u8()? {
            0 => BackendAdmin::Ready,
            1 => BackendAdmin::Drain,
            2 => BackendAdmin::Maint,
            value => {
                let what = "what a backend is there for";
                return Err(Violation::Value { what, value: value.into(), expected: "0 to 2" });
            }
        };
        let flags = fields.flags("the flags of a backend's state", FLAG_CUT | FLAG_WEIGHT)?;
        let weight = fields.u16()?;
        let weight = (flags & FLAG_WEIGHT != 0).then_some(weight);
        Ok(Self::BackendState { port, address, admin, weight, cut: flags & FLAG_CUT != 0 })
    }

    fn input(fields: &mut Fields<'a>) -> Result<Self, Violation> {
        let conn = ConnId(fields.u64()?);
        let offset = fields.offset("the offset of input")?;
        let ts_recent = fields.u32()?;
        let bytes = fields.run()?;
        check_offset("the end of input", offset + bytes.len() as u64)?;
        Ok(Self::Input { conn, offset, ts_recent, bytes })
    }

    fn progress(fields: &mut Fields<'a>) -> Result<Self, Violation> {
        let conn = ConnId(fields.u64()?);
        let acked = fields.offset("the acknowledged offset")?;
        let window = fields.u32()?;
        let ts_recent = fields.u32()?;
        let flags =
            fields.flags("the flags of a progress record", FLAG_FIN_ACKED | FLAG_HANDSHAKE_DONE)?;
        Ok(Self::Progress {
            conn,
            acked,
            window,
            ts_recent,
            fin_acked: flags & FLAG_FIN_ACKED != 0,
            handshake_done: flags & FLAG_HANDSHAKE_DONE != 0,
        })
    }

    /// The connection that the record speaks of.
    pub const fn conn(&self) -> Option<ConnId> {
        match *self {
            Self::Opened { conn, .. }
            | Self::Input { conn, .. }
            | Self::PeerFinished { conn, .. }
            | Self::Pin { conn, .. }
            | Self::Tick { conn }
            | Self::Leave { conn }
            | Self::Stood { conn, .. }
            | Self::Progress { conn, .. }
            | Self::Closed { conn, .. } => Some(conn),
            Self::SnapshotBegin { .. }
            | Self::SnapshotEnd
            | Self::Spliced { .. }
            | Self::SpliceStage { .. }
            | Self::Unspliced { .. }
            | Self::Backend { .. }
            | Self::BackendState { .. } => None,
        }
    }

    /// The record's name, for a person.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Opened { snapshot: false, .. } => "opened",
            Self::Opened { snapshot: true, .. } => "opened (snapshot)",
            Self::Input { .. } => "input",
            Self::PeerFinished { .. } => "peer finished",
            Self::Pin { .. } => "pin",
            Self::Tick { .. } => "tick",
            Self::Stood { .. } => "stood",
            Self::Progress { .. } => "progress",
            Self::Closed { .. } => "closed",
            Self::SnapshotBegin { .. } => "snapshot begin",
            Self::SnapshotEnd => "snapshot end",
            Self::Spliced { .. } => "spliced",
            Self::SpliceStage { over: false, .. } => "splice open",
            Self::SpliceStage { over: true, .. } => "splice over",
            Self::Unspliced { .. } => "unspliced",
            Self::Backend { up: true, .. } => "backend up",
            Self::Backend { up: false, .. } => "backend down",
            Self::BackendState { .. } => "backend state",
            Self::Leave { .. } => "leave",
        }
    }
}

const fn tuple_len(tuple: &FourTuple) -> usize {
    address_len(tuple.local) + address_len(tuple.remote)
}

fn put_tuple(out: &mut Vec<u8>, tuple: &FourTuple) {
    put_address(out, tuple.local);
    put_address(out, tuple.remote);
}

fn tuple(fields: &mut Fields<'_>) -> Result<FourTuple, Violation> {
    Ok(FourTuple { local: fields.address()?, remote: fields.address()? })
}

fn put_head(out: &mut Vec<u8>, kind: u8, conn: ConnId) {
    out.push(kind);
    out.extend_from_slice(&conn.0.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replica::MAX_OFFSET;
    use crate::replica::strategies::{OwnedRecord, record};

    proptest! {
        #[test]
        fn every_record_comes_back_as_it_went(record in record(), behind: Vec<u8>) {
            let record = record.borrow();
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), record.encoded_len());
            bytes.extend_from_slice(&behind);

            let mut rest = &bytes[..];
            prop_assert_eq!(Record::decode(&mut rest), Ok(record));
            prop_assert_eq!(rest, &behind[..]);
        }

        #[test]
        fn a_record_cut_anywhere_is_refused(record in record(), cut: prop::sample::Index) {
            let mut bytes = Vec::new();
            record.borrow().encode(&mut bytes);
            let cut = cut.index(bytes.len());
            let mut rest = &bytes[..cut];
            let refused =
                matches!(Record::decode(&mut rest), Err(Violation::Truncated { what: "a record", .. }));
            prop_assert!(refused);
            prop_assert_eq!(rest.len(), cut, "a refusal takes nothing");
        }

        #[test]
        fn any_bytes_are_a_record_or_a_violation(mut bytes: Vec<u8>, kind in 0u8..19) {
            bytes.insert(0, kind);
            let mut rest = &bytes[..];
            while !rest.is_empty() && Record::decode(&mut rest).is_ok() {}
        }

        #[test]
        fn a_flipped_byte_is_a_record_or_a_violation(
            record in record(), at: prop::sample::Index, with: u8,
        ) {
            let mut bytes = Vec::new();
            record.borrow().encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = Record::decode(&mut &bytes[..]);
        }
    }

    #[test]
    fn input_that_would_pass_the_last_offset_is_refused() {
        let fits =
            OwnedRecord::Input { conn: 1, offset: MAX_OFFSET - 2, ts_recent: 0, bytes: vec![7; 2] };
        let passes =
            OwnedRecord::Input { conn: 1, offset: MAX_OFFSET - 1, ts_recent: 0, bytes: vec![7; 2] };
        let decode = |record: &OwnedRecord| {
            let mut bytes = Vec::new();
            record.borrow().encode(&mut bytes);
            Record::decode(&mut &bytes[..]).map(|_| ())
        };
        assert_eq!(decode(&fits), Ok(()));
        assert_eq!(
            decode(&passes),
            Err(Violation::Value {
                what: "the end of input",
                value: MAX_OFFSET + 1,
                expected: "a stream offset of at most 2^62",
            })
        );
    }

    #[test]
    fn a_length_beyond_the_frame_is_refused_and_nothing_is_allocated() {
        let mut bytes = vec![kind::PIN];
        bytes.extend_from_slice(&1u64.to_le_bytes());
        bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            Record::decode(&mut &bytes[..]),
            Err(Violation::Truncated { what: "a record", needs: u32::MAX as usize, has: 0 })
        );
    }

    #[test]
    fn unknown_kinds_and_flags_are_named() {
        assert_eq!(
            Record::decode(&mut &[18u8][..]).map_err(|violation| violation.to_string()),
            Err("the kind of a record is 18, expected 1 to 17".into())
        );
        let progress = OwnedRecord::Progress {
            conn: 1,
            acked: 2,
            window: 3,
            ts_recent: 4,
            fin_acked: true,
            handshake_done: true,
        };
        let mut bytes = Vec::new();
        progress.borrow().encode(&mut bytes);
        *bytes.last_mut().unwrap() |= 0x80;
        assert_eq!(
            Record::decode(&mut &bytes[..]).map_err(|violation| violation.to_string()),
            Err("the flags of a progress record is 131, expected only flags that are known".into())
        );
    }
}
