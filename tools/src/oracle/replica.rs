//! The replication stream, read from outside: which connection's bytes has it carried so far?
//!
//! Written from the description of the format, for the version it has today. What it cannot read
//! it says, because an observer that no longer understands must not look like one that is content.
//!
//! ```text
//!   frame    length u32 │ kind u8 │ body                                      little-endian
//!   log      first u64 │ epoch u64 │ clock u64 │ records…
//!   record   kind u8 │ fields; byte runs are u32 length + bytes
//!   state    65 bytes, big-endian: version, two of flags, ISNs, scales, MSS, timestamps, offsets, RTT
//! ```

use core::net::{IpAddr, SocketAddr};

use super::packet::Pair;
use super::splice::Leg;

/// The state that a connection is told with; what of it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) iss: u32,
    pub(super) irs: u32,
    /// Input received, its FIN counted.
    pub(super) received: u64,
    /// Input that the service has used up.
    pub(super) consumed: u64,
    pub(super) peer_fin: bool,
}

/// One record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Opened {
        conn: u64,
        pair: Pair,
        snapshot: bool,
        state: State,
    },
    Input {
        conn: u64,
        offset: u64,
        bytes: &'a [u8],
    },
    PeerFinished {
        conn: u64,
        offset: u64,
    },
    Pin {
        conn: u64,
    },
    Progress,
    Closed {
        conn: u64,
    },
    SnapshotBegin,
    SnapshotEnd,
    Spliced {
        name: u64,
        pair: Pair,
        leg: Leg,
        seq: u32,
        ts: u32,
    },
    SpliceStage,
    Unspliced {
        name: u64,
    },
    /// What is known of a backend: nothing that a client relies on.
    Backend,
}

/// What the observer takes from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// The peer has said who it is: the first frame of a stream.
    Greeting,
    /// A record of the log.
    Record(Record<'a>),
}

/// The stream is not what the observer was taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// One direction of one stream.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The frame that has not come as a whole yet.
    partial: Vec<u8>,
}

const HEADER: usize = 5;
const HELLO: u8 = 1;
const LOG: u8 = 2;
/// Position, epoch and clock.
const LOG_PREFIX: usize = 24;
/// The longest frame that the format knows.
const FRAME_MAX: usize = 1 << 26;

impl Reader {
    /// Takes the stream's next bytes; calls `each` with every greeting, and every record of every
    /// frame, that is now whole.
    pub(super) fn read(
        &mut self,
        bytes: &[u8],
        each: &mut dyn FnMut(Item<'_>),
    ) -> Result<(), Unreadable> {
        self.partial.extend_from_slice(bytes);
        let mut rest = &self.partial[..];
        while let Some((kind, body, after)) = split_frame(rest)? {
            if kind == HELLO {
                each(Item::Greeting);
            } else if kind == LOG {
                let mut fields = Fields(body);
                fields.take(LOG_PREFIX)?;
                while !fields.0.is_empty() {
                    each(Item::Record(record(&mut fields)?));
                }
            }
            rest = after;
        }
        let done = self.partial.len() - rest.len();
        self.partial.drain(..done);
        Ok(())
    }
}

/// Kind and body of the first frame, and what follows it.
type Frame<'a> = (u8, &'a [u8], &'a [u8]);

fn split_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, Unreadable> {
    let Some((&[a, b, c, d, kind], rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > FRAME_MAX || !(1..=8).contains(&kind) {
        return Err(Unreadable);
    }
    Ok(rest.split_at_checked(length).map(|(body, after)| (kind, body, after)))
}

fn record<'a>(fields: &mut Fields<'a>) -> Result<Record<'a>, Unreadable> {
    let kind = fields.u8()?;
    Ok(match kind {
        1 => opened(fields, 2)?,
        15 => opened(fields, 4)?,
        2 => {
            let (conn, offset, _ts_recent) = (fields.u64()?, fields.u64()?, fields.u32()?);
            Record::Input { conn, offset, bytes: fields.run()? }
        }
        3 => Record::PeerFinished { conn: fields.u64()?, offset: fields.u64()? },
        4 => {
            let conn = fields.u64()?;
            fields.run()?;
            Record::Pin { conn }
        }
        5 => {
            fields.take(8 + 8 + 4 + 4 + 1)?;
            Record::Progress
        }
        6 => {
            let conn = fields.u64()?;
            fields.u8()?;
            Record::Closed { conn }
        }
        7 => {
            fields.u32()?;
            Record::SnapshotBegin
        }
        8 => Record::SnapshotEnd,
        9 => {
            let name = fields.u64()?;
            let (service, client) = (fields.address()?, fields.address()?);
            let pair = Pair { client, service };
            let leg = Leg { service: fields.address()?, backend: fields.address()? };
            Record::Spliced { name, pair, leg, seq: fields.u32()?, ts: fields.u32()? }
        }
        10 => Record::Unspliced { name: fields.u64()? },
        11 => {
            fields.take(8 + 1)?;
            Record::SpliceStage
        }
        12 => {
            fields.take(2)?;
            fields.address()?;
            let flags = fields.u8()?;
            fields.take(4)?;
            if flags & 4 != 0 {
                fields.take(1 + 2 + 4)?;
            }
            Record::Backend
        }
        13 => {
            fields.take(8)?;
            Record::Progress
        }
        16 => {
            fields.take(2)?;
            fields.address()?;
            fields.take(1 + 1 + 2)?;
            Record::Backend
        }
        17 => {
            fields.take(8)?;
            Record::Progress
        }
        14 => {
            fields.take(8)?;
            fields.run()?;
            Record::Progress
        }
        _ => return Err(Unreadable),
    })
}

fn opened<'a>(fields: &mut Fields<'a>, name: usize) -> Result<Record<'a>, Unreadable> {
    let conn = fields.u64()?;
    let (service, client) = (fields.address()?, fields.address()?);
    fields.take(name)?;
    let snapshot = fields.u8()? & 1 != 0;
    let state = state(fields.run()?)?;
    fields.run()?;
    Ok(Record::Opened { conn, pair: Pair { client, service }, snapshot, state })
}

fn state(bytes: &[u8]) -> Result<State, Unreadable> {
    const PEER_FIN: u8 = 1 << 6;
    let bytes: &[u8; 65] = bytes.try_into().map_err(|_| Unreadable)?;
    if bytes[0] != 2 {
        return Err(Unreadable);
    }
    let u32_at = |at: usize| bytes[at..at + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b));
    let u64_at = |at: usize| u64::from(u32_at(at)) << 32 | u64::from(u32_at(at + 4));
    Ok(State {
        iss: u32_at(3),
        irs: u32_at(7),
        received: u64_at(37),
        consumed: u64_at(45),
        peer_fin: bytes[1] & PEER_FIN != 0,
    })
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        self.take(N)?.try_into().map_err(|_| Unreadable)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.array().map(u8::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    fn run(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn address(&mut self) -> Result<SocketAddr, Unreadable> {
        let ip = match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(Unreadable),
        };
        Ok(SocketAddr::new(ip, u16::from_le_bytes(self.array()?)))
    }
}
