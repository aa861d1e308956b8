//! One direction of a connection: what its sender has sent and what its receiver has said of it.

use std::collections::VecDeque;

use super::event::{Again, Span};
use crate::replay::stream::Unwrap;

/// Segments under way that are remembered one by one.
const FLIGHTS_MAX: usize = 4_096;
/// What a SYN without an MSS option means (RFC 9293 §3.7.1).
const MSS_DEFAULT: i64 = 536;
/// Room for so many stays when all are acknowledged.
const FLIGHTS_KEPT: usize = 64;
/// Ranges that the capture lacks and that are remembered.
const HOLES_MAX: usize = 64;
/// A range that appears this soon behind later data was overtaken, not sent again.
const OVERTAKEN: u64 = 3_000_000;
/// How far a kernel's timer may be off.
const TICK: u64 = 10_000_000;
/// Linux never waits less for a retransmission timeout (RFC 6298 §2.4 says a second).
const TIMEOUT_MIN: u64 = 200_000_000;

/// A segment that was sent and is not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Flight {
    span: Span,
    at: u64,
    again: bool,
}

/// A range that was skipped, and when.
#[derive(Debug, Clone, Copy)]
struct Hole {
    span: Span,
    since: u64,
}

/// What a segment with sequence space is, seen against those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It goes on where the stream stood, or beyond: then `skipped` is not in the capture (yet).
    New { span: Span, skipped: Option<Span> },
    /// It fills what later data had overtaken.
    Reordered(Span),
    /// It was sent before; `new` goes beyond.
    Again { span: Span, why: Again, new: Option<Span> },
}

/// One sender's half.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) stream: Option<Unwrap>,
    /// One past the last position sent; a FIN takes one.
    pub(super) next: i64,
    /// One past what was only shown to a shut window, to see whether it takes it.
    pub(super) probed: i64,
    pub(super) fin: Option<i64>,
    /// The receiver has acknowledged everything below.
    pub(super) acked: i64,
    /// The receiver takes nothing beyond.
    pub(super) edge: Option<i64>,
    /// The most that a segment of this sender holds, as far as the capture tells.
    pub(super) mss: i64,
    /// The receiver's window was last shut.
    pub(super) shut: bool,
    pub(super) duplicate_acks: u32,
    /// SACK has named something beyond `acked` since that last moved.
    pub(super) sacked: bool,
    /// The receiver's SACK news was told since `acked` last moved.
    pub(super) sack_told: i64,
    /// Losses are being repaired up to this offset, and how they were noticed.
    repair: Option<(i64, Again)>,
    flights: VecDeque<Flight>,
    holes: Vec<Hole>,
    /// Smoothed round-trip time as the capture shows it, in nanoseconds.
    pub(super) srtt: Option<u64>,
    pub(super) bytes: u64,
    pub(super) segments: u64,
    pub(super) resent_bytes: u64,
    pub(super) resent_segments: u64,
    /// When the sender last sent, or its receiver last answered.
    pub(super) active_at: u64,
    /// When anything came from this side.
    pub(super) heard_at: Option<u64>,
}

impl Half {
    pub(super) fn new() -> Self {
        Self {
            stream: None,
            next: 0,
            probed: 0,
            fin: None,
            acked: 0,
            edge: None,
            mss: MSS_DEFAULT,
            shut: false,
            duplicate_acks: 0,
            sacked: false,
            sack_told: -1,
            repair: None,
            flights: VecDeque::new(),
            holes: Vec::new(),
            srtt: None,
            bytes: 0,
            segments: 0,
            resent_bytes: 0,
            resent_segments: 0,
            active_at: 0,
            heard_at: None,
        }
    }

    /// The offset of a sequence number; a stream that begins in the middle begins here.
    pub(super) fn offset(&mut self, sequence: u32) -> i64 {
        self.stream.get_or_insert_with(|| Unwrap::new(sequence.wrapping_sub(1))).offset(sequence)
    }

    /// Whether something is under way.
    pub(super) const fn owes_nothing(&self) -> bool {
        self.next <= self.acked
    }

    /// Whether the receiver's window holds the sender back: nobody sends into less room than a
    /// segment needs (RFC 9293 §3.8.6.2.1).
    pub(super) fn is_held(&self) -> bool {
        self.shut || self.edge.is_some_and(|edge| self.next + self.mss > edge)
    }

    /// A segment with sequence space. `after_takeover`: nothing was acknowledged since the address
    /// moved.
    pub(super) fn on_sent(&mut self, at: u64, span: Span, after_takeover: bool) -> Sent {
        self.segments += 1;
        self.bytes += span.length() as u64;
        let sent = if span.start >= self.next {
            self.on_new(at, span)
        } else if let Some(hole) = self.hole_at(span) {
            self.fill(at, span, hole, after_takeover)
        } else {
            self.on_again(at, span, after_takeover)
        };
        let again = !matches!(sent, Sent::New { .. });
        self.remember(Flight { span, at, again });
        self.active_at = at;
        self.next = self.next.max(span.end);
        if let Some(stream) = &mut self.stream {
            stream.reached(self.next);
        }
        sent
    }

    fn on_new(&mut self, at: u64, span: Span) -> Sent {
        let skipped =
            (span.start > self.next).then_some(Span { start: self.next, end: span.start });
        if let Some(span) = skipped
            && self.holes.len() < HOLES_MAX
        {
            self.holes.push(Hole { span, since: at });
        }
        Sent::New { span, skipped }
    }

    fn hole_at(&self, span: Span) -> Option<usize> {
        self.holes.iter().position(|h| h.span.start <= span.start && span.end <= h.span.end)
    }

    /// Takes out of the holes what is there now.
    fn cut_holes(&mut self, span: Span) {
        for hole in core::mem::take(&mut self.holes) {
            let before = Span { start: hole.span.start, end: hole.span.end.min(span.start) };
            let behind = Span { start: hole.span.start.max(span.end), end: hole.span.end };
            let rest = [before, behind].into_iter().filter(|rest| rest.length() > 0);
            self.holes.extend(rest.map(|span| Hole { span, ..hole }));
        }
    }

    /// What was missing comes: overtaken on the way, or sent again.
    fn fill(&mut self, at: u64, span: Span, index: usize, after_takeover: bool) -> Sent {
        let hole = self.holes[index];
        self.cut_holes(span);
        let late = at.saturating_sub(hole.since);
        if late < self.srtt.map_or(OVERTAKEN, |srtt| (srtt / 2).max(OVERTAKEN)) {
            return Sent::Reordered(span);
        }
        self.note_again(span);
        let why = self.why(at, hole.since, after_takeover);
        Sent::Again { span, why, new: None }
    }

    fn on_again(&mut self, at: u64, span: Span, after_takeover: bool) -> Sent {
        let repeated = Span { start: span.start, end: span.end.min(self.next) };
        let new = (span.end > self.next).then_some(Span { start: self.next, end: span.end });
        self.note_again(repeated);
        self.cut_holes(span);
        let sent_at = self.flights.iter().rev().find(|f| f.span.start < span.end).map(|f| f.at);
        let why = if span.end <= self.acked && !after_takeover {
            Again::Needless
        } else {
            self.why(at, sent_at.unwrap_or(at), after_takeover)
        };
        Sent::Again { span: repeated, why, new }
    }

    fn note_again(&mut self, span: Span) {
        self.resent_segments += 1;
        self.resent_bytes += span.length() as u64;
    }

    fn why(&mut self, at: u64, sent_at: u64, after_takeover: bool) -> Again {
        let why = self.first_sign(at, sent_at, after_takeover);
        // Once a loss is known, what else was lost follows as acknowledgments come in.
        let why = match self.repair {
            Some((_, repair)) if why == Again::TailProbe => repair,
            Some(_) | None => why,
        };
        if why != Again::TailProbe {
            self.repair = Some((self.next, why));
        }
        why
    }

    fn first_sign(&self, at: u64, sent_at: u64, after_takeover: bool) -> Again {
        if after_takeover {
            return Again::Takeover;
        }
        // Acknowledgments make the sender act at once. After silence it was the timer, whatever
        // they had told before.
        let quiet = at.saturating_sub(self.active_at);
        if (self.sacked || self.duplicate_acks >= 3) && quiet + TICK < TIMEOUT_MIN {
            return Again::Fast;
        }
        let timeout = self.srtt.unwrap_or(0).max(TIMEOUT_MIN);
        // A timer of the kernel is as exact as its tick.
        if at.saturating_sub(sent_at) + TICK >= timeout { Again::Timeout } else { Again::TailProbe }
    }

    fn remember(&mut self, flight: Flight) {
        if self.flights.len() == FLIGHTS_MAX {
            self.flights.pop_front();
        }
        self.flights.push_back(flight);
    }

    /// An acknowledgment of everything below `offset` that is news. Tells what of it the capture
    /// lacks.
    pub(super) fn on_acked(&mut self, at: u64, offset: i64) -> Vec<Span> {
        let mut missing: Vec<Span> =
            self.holes.iter().map(|hole| hole.span).filter(|span| span.end <= offset).collect();
        let shown = self.next.max(self.probed);
        if offset > shown {
            missing.push(Span { start: shown, end: offset });
        }
        self.acked = offset;
        self.duplicate_acks = 0;
        self.sacked = false;
        self.sack_told = -1;
        self.repair = self.repair.filter(|(until, _)| offset < *until);
        self.holes.retain(|hole| hole.span.end > offset);
        let mut sample = None;
        while let Some(flight) = self.flights.front().filter(|f| f.span.end <= offset) {
            // Karn: what was sent again says nothing about the path (RFC 6298 §3).
            sample = (!flight.again).then(|| at.saturating_sub(flight.at));
            self.flights.pop_front();
        }
        if self.flights.is_empty() && self.flights.capacity() > FLIGHTS_KEPT {
            self.flights = VecDeque::new();
        }
        if let Some(sample) = sample {
            self.srtt = Some(self.srtt.map_or(sample, |srtt| (srtt * 7 + sample) / 8));
        }
        // An acknowledgment of what the capture lacks moves the stream on.
        self.next = self.next.max(offset);
        missing
    }
}
