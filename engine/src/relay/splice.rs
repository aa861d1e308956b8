//! What a splice is, and what became of it.

use super::doubt::Doubt;
use super::path::Narrow;
use super::track::{Belief, Greeting, Track};
use crate::ids::SpliceId;
use crate::time::Instant;
use crate::wire::{Endpoint, Flags, FourTuple, Rewrite, Segment, SeqNum, TcpOptions, Timestamps};

/// Resets not believed after which no more of them are at their word: each costs two records. From then
/// on the ends are asked.
const DISBELIEVED_MAX: u8 = 8;

/// Two legs that are one connection from end to end. All that a takeover needs to know of it, and
/// nothing in it ever changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Splice {
    /// The leg to the client: the service address and the relay's port, the client.
    pub client: FourTuple,
    /// The leg to the backend: the service address and a port of ours, the backend.
    pub backend: FourTuple,
    /// Added to the client's sequence track on their way to the backend, modulo 2³².
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

    pub(super) const fn other(self) -> Self {
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
    /// The ends that have sent a FIN, real or not: bits of [`Side`].
    pub(super) ended: u8,
    /// What both can have said. `None`: this owner has not seen the beginning.
    pub(super) track: Option<Track>,
    /// The TSval that each side has said last.
    pub(super) stamps: [Option<u32>; 2],
    /// The number behind the last segment of each side's, where `track` is not known.
    pub(super) last: [Option<SeqNum>; 2],
    /// Paths that carry less than the LAN: to the client, and to the backend.
    pub(super) narrow: [Option<Narrow>; 2],
    /// Whether it is over is to be found out.
    pub(super) doubt: Option<Doubt>,
    /// A reset of the backend's has been kept from the client of an inherited handshake.
    pub(super) refused: bool,
    /// Resets that were not believed.
    pub(super) disbelieved: u8,
    /// Whose it is: what its owner has seen counts for nothing to the next.
    pub(super) era: u32,
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
        let (opened_by, fins, ended, track) = (None, [None; 2], 0, None);
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
            ended,
            track,
            stamps: [None; 2],
            last: [None; 2],
            narrow: [None; 2],
            doubt: None,
            refused,
            disbelieved,
            era: 0,
        }
    }

    /// Another owner may have passed on what this one has not seen.
    pub(super) fn inherit(&mut self, now: Instant) {
        self.heard = now;
        (self.fins, self.ended, self.track, self.doubt) = ([None; 2], 0, None, None);
        self.last = [None; 2];
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

    /// The backend has answered the SYN, in `answer`.
    pub(super) fn answered(&mut self, now: Instant, answer: &Segment<'_>) {
        let Phase::Opening(syn) = &self.phase else { return };
        let Syn { seq, window, ref options, .. } = **syn;
        let client = Greeting { seq, window, scale: options.window_scale };
        let scale = answer.options.window_scale;
        let backend = Greeting { seq: answer.seq, window: answer.window, scale };
        self.track = Some(Track::new(client, backend));
        self.stamp(Side::Client, options.timestamps.map(|stamps| stamps.val));
        (self.phase, self.heard) = (Phase::Answered, now);
        self.stamp(Side::Backend, answer.options.timestamps.map(|stamps| stamps.val));
    }

    fn stamp(&mut self, side: Side, value: Option<u32>) {
        let last = &mut self.stamps[side as usize];
        *last = value.or(*last);
    }

    /// What would be in a segment of `from`'s now, as the other end reads it.
    pub(super) fn stamps_from(&self, from: Side) -> Option<Timestamps> {
        let (one, other) = (self.stamps[from as usize]?, self.stamps[from.other() as usize]?);
        let ts = self.splice.ts;
        Some(match from {
            Side::Client => Timestamps { val: one.wrapping_add(ts), ecr: other },
            Side::Backend => Timestamps { val: one, ecr: other.wrapping_sub(ts) },
        })
    }

    /// What `segment` of `side`'s acknowledges, in the other's own track.
    const fn acknowledged(&self, side: Side, segment: &Segment<'_>) -> SeqNum {
        match side {
            Side::Client => segment.ack,
            Side::Backend => segment.ack.sub(self.splice.seq),
        }
    }

    /// Takes note of a segment from `side` that passes. If the splice may be over now, or not be what it
    /// seemed, and what passed does not prove it: whom to ask.
    pub(super) fn note(&mut self, now: Instant, side: Side, segment: &Segment<'_>) -> Option<Side> {
        self.heard = now;
        if segment.flags.contains(Flags::RST) {
            return self.note_reset(side, segment.seq);
        }
        self.stamp(side, segment.options.timestamps.map(|stamps| stamps.val));
        let ack = self.acknowledged(side, segment);
        let track = self.track.as_mut();
        let belief = track.map(|track| track.on_segment(side, segment, ack));
        if belief.is_none() && !segment.payload.is_empty() {
            self.last[side as usize] = Some(segment.seq.add(segment.len()));
        }
        if belief == Some(Belief::Never) && !segment.flags.contains(Flags::FIN) {
            // Nobody can have sent it.
            return None;
        }
        let whole = belief == Some(Belief::Whole);
        let (mut finished, mut ask) = match self.phase {
            Phase::Opening(_) | Phase::Closing => return None,
            Phase::Answered if self.proves_both(side, segment, belief, ack) => (0, None),
            Phase::Answered => return None,
            Phase::Open { finished } => (finished, None),
            // An end that was reset and goes on did not believe it. What was under way looks the same,
            // and draws another reset, which may be lost.
            Phase::Reset { by, finished } if by != side && belief != Some(Belief::Never) => {
                self.disbelieved = self.disbelieved.saturating_add(1);
                (finished, Some(side))
            }
            Phase::Reset { .. } => return None,
        };
        if segment.flags.contains(Flags::FIN) {
            ask = self.note_fin(side, segment, belief).or(ask);
        }
        if whole && self.fins[side.other() as usize] == Some(ack) {
            // A FIN that was only sent may be lost, and needs the splice once more.
            finished |= side.other().bit();
        }
        if finished == BOTH {
            self.phase = Phase::Closing;
            return None;
        }
        self.phase = Phase::Open { finished };
        ask
    }

    /// A reset: real if its number is what the other end expects (RFC 5961 §3); what that does not
    /// believe it contradicts, and so tells us. Else the other end is to be asked.
    fn note_reset(&mut self, side: Side, seq: SeqNum) -> Option<Side> {
        let finished = match self.phase {
            Phase::Opening(_) | Phase::Closing | Phase::Reset { .. } => return None,
            Phase::Answered => 0,
            Phase::Open { finished } => finished,
        };
        let exact = self.track.is_some_and(|track| track.resets(side, seq));
        if !exact || self.disbelieved >= DISBELIEVED_MAX {
            return Some(side.other());
        }
        self.phase = Phase::Reset { by: side, finished };
        None
    }

    /// An end of input, which counts if it is believed where it goes. If both sides have said one, and
    /// not both are believed: whom to ask.
    fn note_fin(
        &mut self,
        side: Side,
        segment: &Segment<'_>,
        belief: Option<Belief>,
    ) -> Option<Side> {
        let first = self.ended & side.bit() == 0;
        self.ended |= side.bit();
        let believed = matches!(belief, Some(Belief::Whole | Belief::Late));
        if believed {
            self.fins[side as usize] = Some(segment.seq.add(segment.len()));
        }
        // The end that closes last remembers least: the other is in TIME-WAIT.
        (self.ended == BOTH && (first || !believed) && self.fins.contains(&None)).then_some(side)
    }

    /// Whether a segment shows that the backend has heard its client's answer, or is that answer: in
    /// [`Phase::Answered`].
    fn proves_both(
        &self,
        side: Side,
        segment: &Segment<'_>,
        belief: Option<Belief>,
        ack: SeqNum,
    ) -> bool {
        let flags = segment.flags;
        let speaks = flags.contains(Flags::ACK) && !flags.contains(Flags::SYN);
        match (side, self.track) {
            (Side::Client, Some(_)) => belief == Some(Belief::Whole),
            (Side::Backend, Some(_)) => {
                let syn = self.opened_by.map(|syn| syn.add(1));
                belief == Some(Belief::Whole) && (!segment.payload.is_empty() || syn != Some(ack))
            }
            (Side::Client, None) => false,
            (Side::Backend, None) => speaks,
        }
    }

    /// `side` has nothing of this connection: it said so when it was asked.
    pub(super) fn disown(&mut self, side: Side) {
        let finished = match self.phase {
            Phase::Open { finished } => finished,
            Phase::Opening(_) | Phase::Answered | Phase::Closing | Phase::Reset { .. } => 0,
        };
        if !self.is_over() {
            self.phase = Phase::Reset { by: side, finished };
        }
    }
}

/// Both bits of [`Side`].
const BOTH: u8 = Side::Client.bit() | Side::Backend.bit();

/// Whether `segment` begins a connection.
pub(super) fn is_syn(segment: &Segment<'_>) -> bool {
    segment.flags.intersection(Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN
}

/// The largest segment that a packet of `mtu` bytes carries to `end`, RFC 9293 §3.7.1.
pub(super) const fn mss_for(mtu: u16, end: &Endpoint) -> u16 {
    mtu.saturating_sub(if end.is_ipv6() { 60 } else { 40 })
}
