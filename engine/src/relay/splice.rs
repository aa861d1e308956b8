//! What a splice is, and what became of it.

use crate::ids::SpliceId;
use crate::time::Instant;
use crate::wire::{Endpoint, Flags, FourTuple, Rewrite, Segment, SeqNum, TcpOptions};

/// How far beyond what was sent the number of a reset may lie: what was sent may be lost before us.
pub(super) const RESET_WINDOW: u32 = 1 << 16;

/// The most bytes that a side has under way.
const FLIGHT_MAX: u32 = 1 << 24;

/// Resets not believed after which no more of them are: each costs two records.
const DISBELIEVED_MAX: u8 = 8;

/// Two legs that are one connection from end to end. All that a takeover needs to know of it, and
/// nothing in it ever changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Splice {
    /// The leg to the client: the service address and the relay's port, the client.
    pub client: FourTuple,
    /// The leg to the backend: the service address and a port of ours, the backend.
    pub backend: FourTuple,
    /// Added to the client's sequence numbers on their way to the backend, modulo 2³².
    pub seq: u32,
    /// Added to the client's timestamps, modulo 2³².
    pub ts: u32,
}

/// One of the two ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Client,
    Backend,
}

impl Side {
    /// Its bit in [`Phase::Open`].
    pub(super) const fn bit(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Backend => 2,
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

impl Splice {
    /// The leg on which `side` is.
    pub(super) const fn leg(&self, side: Side) -> FourTuple {
        match side {
            Side::Client => self.client,
            Side::Backend => self.backend,
        }
    }

    /// What becomes of a packet that came from `side`. `mss_max`: what the other leg carries.
    pub(super) const fn rewrite(&self, side: Side, mss_max: u16) -> Rewrite {
        match side {
            Side::Client => Rewrite {
                source: self.backend.local,
                destination: self.backend.remote,
                seq: self.seq,
                ack: 0,
                ts_val: self.ts,
                ts_ecr: 0,
                mss_max,
            },
            Side::Backend => Rewrite {
                source: self.client.local,
                destination: self.client.remote,
                seq: 0,
                ack: self.seq.wrapping_neg(),
                ts_val: 0,
                ts_ecr: self.ts.wrapping_neg(),
                mss_max,
            },
        }
    }
}

/// A client's SYN, kept until its backend has answered: it goes out when the standby knows of the
/// splice, and again if another backend has to be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Syn {
    pub(super) seq: SeqNum,
    pub(super) flags: Flags,
    pub(super) window: u16,
    pub(super) options: TcpOptions,
    /// When it last went to the backend, if it has.
    pub(super) sent: Option<Instant>,
    /// How many backends have been asked.
    pub(super) asked: u8,
}

impl Syn {
    /// What is to be said to the backend too. Options that we do not know are not.
    pub(super) fn of(segment: &Segment<'_>) -> Self {
        Self {
            seq: segment.seq,
            flags: segment.flags.intersection(Flags::SYN | Flags::ECE | Flags::CWR),
            window: segment.window,
            options: TcpOptions { sack: Default::default(), ..segment.options.clone() },
            sent: None,
            asked: 0,
        }
    }
}

/// How far a splice has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The backend has not answered.
    Opening(Box<Syn>),
    /// Packets pass, but the client has not confirmed that it heard the backend. Anybody can send a
    /// SYN under any name.
    Answered,
    /// Packets pass. `finished`: whose FIN the other has acknowledged, a bit for each [`Side`].
    Open { finished: u8 },
    /// Both FINs were acknowledged. If the last of it was lost it is asked for again.
    Closing,
    /// `by` has sent a reset, which the other may not believe (RFC 5961 §3.2). `finished` as above.
    Reset { by: Side, finished: u8 },
}

/// How far a splice has come, as the standby is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Its ends have not found each other.
    HalfOpen,
    /// They have.
    Open,
    /// Nothing more is expected of it.
    Over,
}

/// A splice in the table.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SpliceId,
    pub(super) splice: Splice,
    pub(super) phase: Phase,
    /// Which backend, if it is configured (still): relay and place in its list.
    pub(super) at: Option<(u16, u16)>,
    /// Whether the standby knows, or none has to.
    pub(super) committed: bool,
    /// Whether it is in the list of those that are over.
    pub(super) listed: bool,
    /// When its last packet passed.
    pub(super) heard: Instant,
    /// The number of the SYN that opened it; unknown of a splice that was held.
    pub(super) opened_by: Option<SeqNum>,
    /// What acknowledges each side's FIN, as that side counts; the client's first.
    pub(super) fins: [Option<SeqNum>; 2],
    /// The number that the client, and the backend, has to go on with: as each counts itself, and as
    /// the other has acknowledged last. `None`: not heard yet by this owner.
    pub(super) next: [Option<SeqNum>; 2],
    /// The number behind the last that each side has sent.
    pub(super) sent: [Option<SeqNum>; 2],
    /// A reset of the backend's has been kept from the client of an inherited handshake.
    pub(super) refused: bool,
    /// Resets that were not believed.
    pub(super) disbelieved: u8,
}

impl Entry {
    /// A splice that has just begun.
    pub(super) const fn new(
        now: Instant,
        id: SpliceId,
        splice: Splice,
        phase: Phase,
        at: Option<(u16, u16)>,
    ) -> Self {
        let (committed, listed, heard, refused, disbelieved) = (false, false, now, false, 0);
        let (opened_by, fins, next, sent) = (None, [None; 2], [None; 2], [None; 2]);
        Self {
            id,
            splice,
            phase,
            at,
            committed,
            listed,
            heard,
            opened_by,
            fins,
            next,
            sent,
            refused,
            disbelieved,
        }
    }

    /// How far it has come.
    pub(super) const fn stage(&self) -> Stage {
        match self.phase {
            Phase::Opening(_) | Phase::Answered => Stage::HalfOpen,
            Phase::Open { .. } => Stage::Open,
            Phase::Closing | Phase::Reset { .. } => Stage::Over,
        }
    }

    /// Whether nothing is expected to pass any more, so that its port and its room may be taken.
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.stage(), Stage::Over)
    }

    /// Whether its backend has not answered.
    pub(super) const fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    /// Whether its ends have not found each other.
    pub(super) const fn is_half_open(&self) -> bool {
        matches!(self.stage(), Stage::HalfOpen)
    }

    /// Whether it was taken over before its ends had found each other, as far as is known. The SYN is
    /// not: only its client can repeat it.
    pub(super) const fn is_inherited(&self) -> bool {
        matches!(self.phase, Phase::Answered) && self.opened_by.is_none()
    }

    /// Takes note of a segment from `side` that passes.
    pub(super) fn note(&mut self, now: Instant, side: Side, segment: &Segment<'_>) {
        self.heard = now;
        let flags = segment.flags;
        let is_reset = flags.contains(Flags::RST);
        if is_reset && !self.believes(side, segment.seq) {
            return;
        }
        self.advance(side, segment);
        if flags.contains(Flags::FIN) {
            self.fins[side as usize] = Some(segment.seq.add(segment.len()));
        }
        let finished = match self.phase {
            Phase::Opening(_) | Phase::Closing => return,
            Phase::Answered if is_reset || self.proves_both(side, segment) => 0,
            Phase::Answered => return,
            Phase::Open { finished } => finished,
            // Whoever was reset and goes on did not believe it; what was under way looks the same,
            // and draws another reset.
            Phase::Reset { by, finished } if by != side => {
                self.disbelieved = self.disbelieved.saturating_add(1);
                finished
            }
            Phase::Reset { .. } => return,
        };
        if flags.contains(Flags::ACK) {
            self.expect(side, segment.ack);
        }
        let finished = finished | self.finished_by(side, segment);
        self.phase = if is_reset {
            Phase::Reset { by: side, finished }
        } else if finished == Side::Client.bit() | Side::Backend.bit() {
            Phase::Closing
        } else {
            Phase::Open { finished }
        };
    }

    /// The bit of the other side, if `segment` acknowledges its FIN. A FIN that was only sent may be
    /// lost, and needs the splice once more.
    fn finished_by(&self, side: Side, segment: &Segment<'_>) -> u8 {
        let other = side.other();
        let acked = match other {
            Side::Client => segment.ack.sub(self.splice.seq),
            Side::Backend => segment.ack,
        };
        let acks = segment.flags.contains(Flags::ACK) && self.fins[other as usize] == Some(acked);
        if acks { other.bit() } else { 0 }
    }

    /// `side` acknowledges what the other has said before `ack`.
    pub(super) fn expect(&mut self, side: Side, ack: SeqNum) {
        match side {
            Side::Client => self.next[1] = Some(ack),
            Side::Backend => self.next[0] = Some(ack.sub(self.splice.seq)),
        }
    }

    /// Whether a segment shows that the backend has heard its client's answer, or is that answer: in
    /// [`Phase::Answered`].
    fn proves_both(&self, side: Side, segment: &Segment<'_>) -> bool {
        let flags = segment.flags;
        if !flags.contains(Flags::ACK) || flags.contains(Flags::SYN) {
            return false;
        }
        match side {
            Side::Client => self.next[1] == Some(segment.ack),
            Side::Backend => {
                !segment.payload.is_empty()
                    || self.next[0] != Some(segment.ack.sub(self.splice.seq))
            }
        }
    }

    /// `side` has sent `segment`. One far from all before it is somebody else's, or they were.
    fn advance(&mut self, side: Side, segment: &Segment<'_>) {
        let (last, end) = (&mut self.sent[side as usize], segment.seq.add(segment.len()));
        let back = last.map_or(FLIGHT_MAX, |last| last.since(end));
        if back == 0 || back >= FLIGHT_MAX {
            *last = Some(end);
        }
    }

    /// Whether a reset of `side`'s with this number may be real: it has the number behind the last that
    /// was sent, or near that. Whoever does not see the connection has to guess it (RFC 5961 §3); what
    /// the other end does not believe it contradicts, and so tells us.
    fn believes(&self, side: Side, seq: SeqNum) -> bool {
        let Some(next) = self.next[side as usize] else { return false };
        let ahead = self.sent[side as usize].map_or(0, |sent| sent.since(next));
        let window = if ahead < FLIGHT_MAX { ahead + RESET_WINDOW } else { RESET_WINDOW };
        seq.since(next) < window && self.disbelieved < DISBELIEVED_MAX
    }
}

/// Whether `segment` begins a connection.
pub(super) fn is_syn(segment: &Segment<'_>) -> bool {
    segment.flags.intersection(Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN
}

/// The largest segment that a packet of `mtu` bytes carries to `end`, RFC 9293 §3.7.1.
pub(super) const fn mss_for(mtu: u16, end: &Endpoint) -> u16 {
    mtu.saturating_sub(if end.is_ipv6() { 60 } else { 40 })
}
