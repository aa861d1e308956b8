//! What one connection's service side has said, and what it may say next.

use std::fmt;

use super::packet::{Sighting, before, later};

/// Bytes of the service's stream that are kept to compare retransmissions with. A sender cannot
/// go back further than the client's window.
const KEPT: u32 = 8 << 20;
/// A sequence number further than this from what was sent is in no window.
const FAR: u32 = 1 << 30;

/// What a service must hold to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// No RST.
    NoReset,
    /// The acknowledgment field never goes back.
    AckForward,
    /// Nothing is acknowledged that the client has not sent.
    AckSent,
    /// A byte keeps its value when it is sent again.
    SameBytes,
    /// Sequence numbers stay near what was sent before.
    InSequence,
    /// FIN stays where it is, and nothing follows it.
    OneEnd,
    /// TSval never goes back (RFC 7323: PAWS would drop what follows).
    ClockForward,
    /// Once negotiated, timestamps are on every segment.
    KeepsTimestamps,
    /// The right edge of the window never moves to the left (RFC 9293 §3.8.6).
    WindowKept,
}

impl Rule {
    /// Its name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoReset => "reset",
            Self::AckForward => "ack went back",
            Self::AckSent => "ack of nothing",
            Self::SameBytes => "bytes changed",
            Self::InSequence => "out of sequence",
            Self::OneEnd => "end moved",
            Self::ClockForward => "timestamp went back",
            Self::KeepsTimestamps => "timestamp missing",
            Self::WindowKept => "window shrank",
        }
    }
}

/// A broken rule, with the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// Which one.
    pub rule: Rule,
    /// The value that was there before.
    pub before: u32,
    /// The value that came.
    pub came: u32,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} after {}", self.rule.name(), self.came, self.before)
    }
}

/// One connection; sequence numbers are absolute.
#[derive(Debug, Default)]
pub(super) struct Connection {
    client_iss: Option<u32>,
    /// One past the last that the client sent.
    client_end: Option<u32>,
    client_scale: Option<u8>,
    client_timestamps: bool,
    service_scale: Option<u8>,
    /// Both sides offered timestamps.
    timestamps: bool,
    acknowledged: Forward,
    service_end: Option<u32>,
    service_fin: Option<u32>,
    clock: Forward,
    right_edge: Forward,
    stream: Stream,
}

/// A number that does not go back, as far as the network keeps the order of segments.
#[derive(Debug, Default)]
struct Forward {
    high: Option<u32>,
    /// What it was when the last stretch of time began, and when the one before did.
    mark: Option<u32>,
    settled: Option<u32>,
    turned: u64,
}

impl Forward {
    /// Takes the next one, of a segment that was seen at `at` and may have been overtaken within the
    /// last `late` nanoseconds. Returns the one that it must not come before, if it does.
    fn take(&mut self, at: u64, late: u64, value: u32, slack: u32) -> Option<u32> {
        if late == 0 {
            self.settled = self.high;
        } else if at >= self.turned.saturating_add(late) {
            (self.settled, self.mark, self.turned) = (self.mark, self.high, at);
        }
        self.high = Some(self.high.map_or(value, |known| later(known, value)));
        self.settled.filter(|known| before(value.wrapping_add(slack), *known))
    }
}

impl Connection {
    /// Whether a SYN is a repetition of the one that opened this connection.
    pub(super) fn is_same_opening(&self, sighting: &Sighting<'_>) -> bool {
        self.client_iss == Some(sighting.sequence)
    }

    pub(super) fn on_client(&mut self, sighting: &Sighting<'_>) {
        if sighting.is_opening() {
            self.client_iss = Some(sighting.sequence);
            self.client_scale = sighting.window_scale;
            self.client_timestamps = sighting.timestamps.is_some();
        }
        // A client's RST need not carry a number of its stream.
        if !sighting.rst {
            let end = sighting.end();
            self.client_end = Some(self.client_end.map_or(end, |known| later(known, end)));
        }
    }

    /// Checks a segment of the service, seen at `at`. Returns how many of its bytes had been seen before.
    pub(super) fn on_service(
        &mut self,
        (at, late): (u64, u64),
        sighting: &Sighting<'_>,
        findings: &mut Vec<Finding>,
    ) -> u64 {
        let mut broken = |rule, before, came| findings.push(Finding { rule, before, came });
        if sighting.rst {
            broken(Rule::NoReset, self.service_end.unwrap_or(0), sighting.sequence);
            return 0;
        }
        if sighting.syn {
            self.service_scale = sighting.window_scale;
            self.timestamps = self.client_timestamps && sighting.timestamps.is_some();
        }
        let when = (at, late);
        self.check_ack(when, sighting, &mut broken);
        self.check_clock(when, sighting, &mut broken);
        self.check_window(when, sighting, &mut broken);
        self.check_sequence(sighting, &mut broken)
    }

    fn check_ack(
        &mut self,
        (at, late): (u64, u64),
        sighting: &Sighting<'_>,
        broken: &mut impl FnMut(Rule, u32, u32),
    ) {
        let Some(ack) = sighting.acknowledgment else { return };
        if let Some(known) = self.acknowledged.take(at, late, ack, 0) {
            broken(Rule::AckForward, known, ack);
        }
        if let Some(sent) = self.client_end.filter(|sent| before(*sent, ack)) {
            broken(Rule::AckSent, sent, ack);
        }
    }

    fn check_clock(
        &mut self,
        (at, late): (u64, u64),
        sighting: &Sighting<'_>,
        broken: &mut impl FnMut(Rule, u32, u32),
    ) {
        let Some((value, _)) = sighting.timestamps else {
            if self.timestamps {
                broken(Rule::KeepsTimestamps, self.clock.high.unwrap_or(0), 0);
            }
            return;
        };
        if let Some(known) = self.clock.take(at, late, value, 0) {
            broken(Rule::ClockForward, known, value);
        }
    }

    fn check_window(
        &mut self,
        (at, late): (u64, u64),
        sighting: &Sighting<'_>,
        broken: &mut impl FnMut(Rule, u32, u32),
    ) {
        let Some(ack) = sighting.acknowledgment else { return };
        // Scaling holds when both offered it, and never in a SYN (RFC 7323 §2.2). A capture that
        // starts in the middle does not tell, and without the scale no edge can be known.
        let known = sighting.syn || self.service_scale.is_some();
        let both = self.client_scale.and(self.service_scale).unwrap_or(0);
        let scale = if sighting.syn { 0 } else { both };
        if !known && self.client_iss.is_none() {
            return;
        }
        let edge = ack.wrapping_add(u32::from(sighting.window) << scale);
        // What the scale rounds away is no shrinking.
        let slack = (1_u32 << both) - 1;
        if let Some(known) = self.right_edge.take(at, late, edge, slack) {
            broken(Rule::WindowKept, known, edge);
        }
    }

    fn check_sequence(
        &mut self,
        sighting: &Sighting<'_>,
        broken: &mut impl FnMut(Rule, u32, u32),
    ) -> u64 {
        let (start, end) = (sighting.sequence, sighting.end());
        if let Some(known) = self.service_end {
            let distance = start.wrapping_sub(known).min(known.wrapping_sub(start));
            if distance > FAR {
                broken(Rule::InSequence, known, start);
                return 0;
            }
        }
        let fin = end.wrapping_sub(1);
        match self.service_fin {
            Some(known) if sighting.fin && fin != known => broken(Rule::OneEnd, known, fin),
            Some(known) if !sighting.fin && before(known, end.wrapping_sub(1)) => {
                broken(Rule::OneEnd, known, end);
            }
            Some(_) => {}
            None if sighting.fin => self.service_fin = Some(fin),
            None => {}
        }
        self.service_end = Some(self.service_end.map_or(end, |known| later(known, end)));
        let first = start.wrapping_add(u32::from(sighting.syn));
        let (repeated, changed) = self.stream.take(first, sighting.payload);
        if let Some((at, _)) = changed {
            broken(Rule::SameBytes, self.acknowledged.high.unwrap_or(0), at);
        }
        repeated
    }
}

/// The latest part of a stream: a ring of bytes, of which `start..end` is known.
#[derive(Debug, Default)]
struct Stream {
    ring: Vec<u8>,
    /// The first sequence number seen, which has the ring's first place.
    base: u32,
    known: Option<(u32, u32)>,
}

impl Stream {
    /// Compares what is known of `bytes` at `sequence` and keeps the rest. Returns the bytes that
    /// were known, and the first that differs with its old value.
    fn take(&mut self, sequence: u32, bytes: &[u8]) -> (u64, Option<(u32, u8)>) {
        let (mut repeated, mut changed) = (0, None);
        if bytes.is_empty() {
            return (repeated, changed);
        }
        let (start, end) = self.known.unwrap_or_else(|| {
            self.base = sequence;
            (sequence, sequence)
        });
        for (index, byte) in bytes.iter().enumerate() {
            let at = sequence.wrapping_add(index as u32);
            if !before(at, start) && before(at, end) {
                repeated += 1;
                let old = self.ring[self.place(at)];
                changed = changed.or_else(|| (old != *byte).then_some((at, old)));
            } else if !before(at, end) {
                self.put(at, *byte);
            }
        }
        self.learn(sequence, bytes.len() as u32);
        (repeated, changed)
    }

    /// Extends what is known by a piece. A hole (a frame that the capture lost) makes what lies
    /// before it unknown.
    fn learn(&mut self, sequence: u32, length: u32) {
        let piece_end = sequence.wrapping_add(length);
        let (start, end) = self.known.unwrap_or((sequence, sequence));
        if !before(end, piece_end) {
            return;
        }
        let start = if before(end, sequence) { sequence } else { start };
        let oldest = piece_end.wrapping_sub(KEPT);
        // Only with as much behind us as the ring holds does its oldest part fall out.
        let start = if piece_end.wrapping_sub(start) > KEPT { later(start, oldest) } else { start };
        self.known = Some((start, piece_end));
    }

    fn put(&mut self, at: u32, byte: u8) {
        let place = self.place(at);
        if self.ring.len() <= place {
            // Grown with the stream: most connections of a capture are short.
            let size = (place + 1).next_power_of_two().clamp(1 << 12, KEPT as usize);
            self.ring.resize(size, 0);
        }
        self.ring[place] = byte;
    }

    const fn place(&self, at: u32) -> usize {
        (at.wrapping_sub(self.base) % KEPT) as usize
    }
}
