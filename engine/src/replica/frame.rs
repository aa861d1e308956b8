//! Frames: what the replication stream is cut into.
//!
//! ```text
//!  0        4      5
//!  ├─length─┼─kind─┼─ body: `length` bytes ─────────────────────────────┤
//!                  │ Log:  first u64 │ epoch u64 │ clock u64 │ records… │
//! ```
//!
//! Every kind has its own bound on the length, known before a byte of the body is stored.
//!
//! A pair may own several groups of addresses one day, each with a log and an epoch of its own, and
//! several engines may share a group. So from version 4 on a frame other than a hello may say which it
//! is about: 128 is added to its kind, and in front of its body stand `group u16 │ shard u16`. One that
//! does not say is of group 0 and shard 0, and there are no others: none is sent with them.

use core::ops::RangeInclusive;

use super::codec::Fields;
use super::hello::{HELLO_MAX, HELLO_MIN, Hello};
use super::host::{HOST_MAX, HOST_MIN, HostWord};
use super::{MAX_FRAME, Violation};
use crate::ids::{Epoch, Lsn};

/// Length and kind.
pub(super) const HEADER: usize = 4 + 1;
/// What stands before the records of a log frame.
pub(super) const LOG_PREFIX: usize = HEADER + 8 + 8 + 8;
/// The longest text of a refusal, bytes.
const REFUSAL_MAX: usize = 512;
/// Added to the kind of a frame that says which group and shard it is about, and the length of that.
const PLACED: u8 = 0x80;
const PLACE_LEN: usize = 2 + 2;

/// The kinds. A number is never reused.
mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const LOG: u8 = 2;
    pub(super) const CONFIRM: u8 = 3;
    pub(super) const HANDOVER: u8 = 4;
    pub(super) const REFUSE: u8 = 5;
    pub(super) const PING: u8 = 6;
    pub(super) const PONG: u8 = 7;
    /// From version 4 on.
    pub(super) const HOST: u8 = 8;
}

/// Why an engine will not hold a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Version or configuration do not go together: see [`super::Mismatch`].
    Incompatible,
    /// The node that was dialled does not own the address, so it has no log to offer.
    NotPrimary,
    /// There is a session already.
    Busy,
    /// The other side broke the protocol: see [`Violation`].
    Violation,
}

impl Refusal {
    const fn code(self) -> u8 {
        match self {
            Self::Incompatible => 1,
            Self::NotPrimary => 2,
            Self::Busy => 3,
            Self::Violation => 4,
        }
    }

    fn from_code(code: u8) -> Result<Self, Violation> {
        match code {
            1 => Ok(Self::Incompatible),
            2 => Ok(Self::NotPrimary),
            3 => Ok(Self::Busy),
            4 => Ok(Self::Violation),
            _ => Err(Violation::Value {
                what: "the reason of a refusal",
                value: code.into(),
                expected: "1 to 4",
            }),
        }
    }
}

/// One frame of the replication stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// The first frame in each direction: who speaks.
    Hello(Hello),
    /// Records, in order. Read them with [`super::Follower`].
    Log {
        /// Position of the first record.
        first: Lsn,
        /// The ownership that wrote them.
        epoch: Epoch,
        /// The pair's clock when they were sent, nanoseconds.
        clock: u64,
        /// The records, one after the other; never empty.
        records: &'a [u8],
    },
    /// The standby holds everything up to a position.
    Confirm {
        /// The last record it has applied.
        lsn: Lsn,
        /// How many connections it could not go on with, although it knows them (I7).
        unprotected: u32,
    },
    /// The primary fell silent and gives the address away (switchover).
    Handover {
        /// The epoch that the standby is to claim.
        epoch: Epoch,
        /// The last record of the log: a standby that has applied it misses nothing.
        lsn: Lsn,
    },
    /// There will be no session.
    Refuse {
        /// Why.
        reason: Refusal,
        /// The same for a person: at most 512 bytes of printable text.
        text: &'a str,
    },
    /// To be answered with [`Pong`](Self::Pong) and the same token.
    Ping {
        /// Any number, typically the sender's clock.
        token: u64,
    },
    /// The answer to a [`Ping`](Self::Ping).
    Pong {
        /// The token of the ping.
        token: u64,
    },
    /// What the sender's host is like, and what is in its way. Only between two that speak version 4.
    Host(HostWord<'a>),
}

impl<'a> Frame<'a> {
    /// Appends the frame to `out`. The records of a log must fit ([`MAX_FRAME`]) and are not
    /// looked at; the text of a refusal is shortened and made printable.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => put(out, kind::HELLO, |out| hello.encode(out)),
            Self::Log { first, epoch, clock, records } => {
                let start = begin_log(out, *first);
                out.extend_from_slice(records);
                stamp_log(&mut out[start..], *epoch, *clock);
                finish(out, start);
            }
            Self::Confirm { lsn, unprotected } => put(out, kind::CONFIRM, |out| {
                out.extend_from_slice(&lsn.0.to_le_bytes());
                out.extend_from_slice(&unprotected.to_le_bytes());
            }),
            Self::Handover { epoch, lsn } => put(out, kind::HANDOVER, |out| {
                out.extend_from_slice(&epoch.0.to_le_bytes());
                out.extend_from_slice(&lsn.0.to_le_bytes());
            }),
            Self::Refuse { reason, text } => put(out, kind::REFUSE, |out| {
                out.push(reason.code());
                put_text(out, text, REFUSAL_MAX);
            }),
            Self::Ping { token } => {
                put(out, kind::PING, |out| out.extend_from_slice(&token.to_le_bytes()));
            }
            Self::Pong { token } => {
                put(out, kind::PONG, |out| out.extend_from_slice(&token.to_le_bytes()));
            }
            Self::Host(word) => put(out, kind::HOST, |out| word.encode(out)),
        }
    }

    /// Reads one whole frame, header included.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Violation> {
        let (length, kind) = match frame_len(bytes)? {
            Some(length) => (length, bytes[HEADER - 1]),
            None => (HEADER, 0),
        };
        let mut fields = Fields::new("a frame", bytes);
        let frame = fields.bytes(length)?;
        fields.end()?;

        let mut fields = Fields::new("the body of a frame", &frame[HEADER..]);
        if kind & PLACED != 0 {
            fields.only_zero("the group of a frame")?;
            fields.only_zero("the shard of a frame")?;
        }
        let frame = match kind & !PLACED {
            kind::HELLO => return Hello::decode(fields).map(Self::Hello),
            kind::HOST => return HostWord::decode(fields).map(Self::Host),
            kind::LOG => {
                let (first, epoch, clock) = (fields.lsn()?, Epoch(fields.u64()?), fields.u64()?);
                return Ok(Self::Log { first, epoch, clock, records: fields.rest() });
            }
            kind::REFUSE => return Self::refuse(fields),
            kind::CONFIRM => Self::Confirm { lsn: fields.lsn()?, unprotected: fields.u32()? },
            kind::HANDOVER => Self::Handover { epoch: Epoch(fields.u64()?), lsn: fields.lsn()? },
            kind::PING => Self::Ping { token: fields.u64()? },
            kind::PONG => Self::Pong { token: fields.u64()? },
            unknown => return Err(unknown_kind(unknown)),
        };
        fields.end()?;
        Ok(frame)
    }

    fn refuse(mut fields: Fields<'a>) -> Result<Self, Violation> {
        let reason = Refusal::from_code(fields.u8()?)?;
        Ok(Self::Refuse { reason, text: text(fields.rest(), "the text of a refusal")? })
    }
}

/// Text that can be shown to the operator: it ends up in logs.
pub(super) fn text<'a>(bytes: &'a [u8], what: &'static str) -> Result<&'a str, Violation> {
    let text = str::from_utf8(bytes).ok();
    text.filter(|text| !text.contains(char::is_control)).ok_or(Violation::Text { what })
}

/// How long the frame is that `bytes` start with, header included: `None` until the header is
/// there. What must not be stored is refused here, before its body has arrived.
pub(super) fn frame_len(bytes: &[u8]) -> Result<Option<usize>, Violation> {
    let Some(&[a, b, c, d, kind]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let (what, bounds) = body_bounds(kind)?;
    let length = u32::from_le_bytes([a, b, c, d]);
    match usize::try_from(length) {
        Ok(length) if bounds.contains(&length) => Ok(Some(HEADER + length)),
        _ => Err(Violation::Length {
            what,
            length: length.into(),
            min: *bounds.start() as u64,
            max: *bounds.end() as u64,
        }),
    }
}

/// The name of a kind, and how long its body may be.
fn body_bounds(kind: u8) -> Result<(&'static str, RangeInclusive<usize>), Violation> {
    if kind & PLACED != 0 && kind != PLACED | kind::HELLO {
        let (what, bounds) = body_bounds(kind & !PLACED)?;
        let max = (bounds.end() + PLACE_LEN).min(MAX_FRAME - HEADER);
        return Ok((what, bounds.start() + PLACE_LEN..=max));
    }
    match kind {
        kind::HELLO => Ok(("a hello", HELLO_MIN..=HELLO_MAX)),
        kind::LOG => Ok(("a log frame", LOG_PREFIX - HEADER + 1..=MAX_FRAME - HEADER)),
        kind::CONFIRM => Ok(("a confirmation", 12..=12)),
        kind::HANDOVER => Ok(("a handover", 16..=16)),
        kind::REFUSE => Ok(("a refusal", 1..=1 + REFUSAL_MAX)),
        kind::PING => Ok(("a ping", 8..=8)),
        kind::PONG => Ok(("a pong", 8..=8)),
        kind::HOST => Ok(("what a host is like", HOST_MIN..=HOST_MAX)),
        unknown => Err(unknown_kind(unknown)),
    }
}

fn unknown_kind(kind: u8) -> Violation {
    Violation::Value { what: "the kind of a frame", value: kind.into(), expected: "1 to 8" }
}

fn put(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = begin(out, kind);
    body(out);
    finish(out, start);
}

/// Starts a frame: its length is filled in by [`finish`]. Returns where it starts.
fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    start
}

/// Starts a log frame whose epoch and clock are filled in by [`stamp_log`].
pub(super) fn begin_log(out: &mut Vec<u8>, first: Lsn) -> usize {
    let start = begin(out, kind::LOG);
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&[0; 16]);
    start
}

/// Fills in the length of the frame that starts at `start` and ends where `out` ends.
pub(super) fn finish(out: &mut [u8], start: usize) {
    let body = out.len() - start - HEADER;
    assert!(body <= MAX_FRAME - HEADER, "a frame is at most MAX_FRAME long");
    let length = u32::try_from(body).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Fills in epoch and clock of the log frame that `frame` starts with.
pub(super) fn stamp_log(frame: &mut [u8], epoch: Epoch, clock: u64) {
    frame[HEADER + 8..HEADER + 16].copy_from_slice(&epoch.0.to_le_bytes());
    frame[HEADER + 16..HEADER + 24].copy_from_slice(&clock.to_le_bytes());
}

/// Appends what of `text` is printable and fits into `max` bytes. It may quote a peer, so it is not
/// trusted.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str, max: usize) {
    let end = out.len() + max;
    for letter in text.chars().map(|letter| if letter.is_control() { '?' } else { letter }) {
        if out.len() + letter.len_utf8() > end {
            return;
        }
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replica::strategies::frame;

    fn encoded(frame: &Frame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_as_it_went(frame in frame()) {
            let frame = frame.borrow();
            let bytes = encoded(&frame);
            prop_assert_eq!(frame_len(&bytes), Ok(Some(bytes.len())));
            prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
        }

        #[test]
        fn a_frame_cut_or_stretched_is_refused(frame in frame(), cut: prop::sample::Index) {
            let mut bytes = encoded(&frame.borrow());
            prop_assert!(Frame::decode(&bytes[..cut.index(bytes.len())]).is_err());
            bytes.push(0);
            prop_assert_eq!(
                Frame::decode(&bytes),
                Err(Violation::Trailing { what: "a frame", extra: 1 })
            );
        }

        #[test]
        fn any_bytes_are_a_frame_or_a_violation(kind in 0u8..10, body: Vec<u8>) {
            let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
            bytes.push(kind);
            bytes.extend_from_slice(&body);
            let _ = Frame::decode(&bytes);
            let _ = Frame::decode(&body);
        }
    }

    #[test]
    fn lengths_are_refused_by_the_header_alone() {
        let refused = |length: u32, kind: u8| {
            let mut header = length.to_le_bytes().to_vec();
            header.push(kind);
            frame_len(&header).map_err(|violation| violation.to_string())
        };
        assert_eq!(refused(u32::MAX, 9), Err("the kind of a frame is 9, expected 1 to 8".into()));
        assert_eq!(
            refused(u32::MAX, kind::LOG),
            Err("a log frame of 4294967295 bytes, expected 25 to 67108859".into())
        );
        assert_eq!(
            refused(24, kind::LOG),
            Err("a log frame of 24 bytes, expected 25 to 67108859".into()),
            "a batch is never empty"
        );
        assert_eq!(refused(67_108_859, kind::LOG), Ok(Some(MAX_FRAME)));
        assert_eq!(
            refused(13, kind::CONFIRM),
            Err("a confirmation of 13 bytes, expected 12 to 12".into())
        );
    }

    #[test]
    fn a_refusal_is_made_fit_to_be_shown() {
        let long = format!("no{}", "\u{1b}[2J\u{20ac}".repeat(200));
        let bytes = encoded(&Frame::Refuse { reason: Refusal::Incompatible, text: &long });
        let Ok(Frame::Refuse { text, .. }) = Frame::decode(&bytes) else { panic!("a refusal") };
        assert_eq!(text.len(), 510, "cut between two letters");
        assert!(text.starts_with("no?[2J\u{20ac}?[2J\u{20ac}"));
    }

    #[test]
    fn a_refusal_with_control_characters_is_itself_refused() {
        let mut bytes = encoded(&Frame::Refuse { reason: Refusal::Busy, text: "abc" });
        *bytes.last_mut().unwrap() = 7;
        assert_eq!(Frame::decode(&bytes), Err(Violation::Text { what: "the text of a refusal" }));
    }
}
