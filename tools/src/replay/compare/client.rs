//! The recorded client, speaking to another server.
//!
//! A recording cannot adapt. Our server has other sequence numbers and another clock, and now and
//! then has not sent yet what the recorded client acknowledges. So its segments are translated:
//! numbers and echoed time stamps are moved, and an acknowledgment goes no further than what our
//! server has sent. The rest of it follows, a round trip after our server has caught up.

use super::said::Answers;
use crate::capture::packet::Sighting;
use crate::replay::stream::Unwrap;
use standin::time::{Duration, Instant};
use standin::wire::{Flags, SackBlock, SackBlocks, Segment, SeqNum, TcpOptions, Timestamps};

/// The round trip of which a held-back acknowledgment is late, whatever the capture shows.
const TRIP_MIN: Duration = Duration::from_micros(100);
const TRIP_MAX: Duration = Duration::from_millis(200);

/// One recorded client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Unwrap,
    /// One past the last position it sent.
    pub(super) next: i64,
    pub(super) fin: Option<i64>,
    pub(super) reset: bool,
    /// It acknowledged the recorded server up to here.
    pub(super) acked: i64,
    /// And ours was told up to here.
    told: i64,
    window: u16,
    scale: Option<u8>,
    clock: Option<u32>,
    trip: Duration,
    answered_at: Option<Instant>,
    /// When the rest of an acknowledgment is due.
    pub(super) due: Instant,
    /// Segments whose acknowledgment was held back.
    pub(super) held_back: u64,
}

impl Client {
    pub(super) fn new(syn: &Sighting<'_>) -> Self {
        Self {
            stream: Unwrap::new(syn.sequence),
            next: 0,
            fin: None,
            reset: false,
            acked: 0,
            told: 0,
            window: syn.window,
            scale: syn.window_scale,
            clock: None,
            trip: TRIP_MIN,
            answered_at: None,
            due: Instant::NEVER,
            held_back: 0,
        }
    }

    /// The recorded server's SYN-ACK was seen.
    pub(super) fn on_answer(&mut self, now: Instant) {
        self.answered_at.get_or_insert(now);
    }

    /// A recorded segment as our server gets it. `payload` is its text, whole.
    pub(super) fn translate<'a>(
        &mut self,
        now: Instant,
        segment: &Sighting<'_>,
        payload: &'a [u8],
        recorded: &mut Answers,
        ours: &Answers,
    ) -> Segment<'a> {
        self.note(now, segment);
        let mut flags = Flags::empty();
        for (set, flag) in [
            (segment.syn, Flags::SYN),
            (segment.fin, Flags::FIN),
            (segment.rst, Flags::RST),
            (segment.psh, Flags::PSH),
            (segment.acknowledgment.is_some(), Flags::ACK),
        ] {
            flags.set(flag, set);
        }
        let (ack, window) = self.acknowledgment(segment, recorded, ours);
        let options = TcpOptions {
            mss: segment.mss,
            window_scale: segment.window_scale,
            sack_permitted: segment.sack_permitted,
            timestamps: segment
                .timestamps
                .map(|(val, echo)| Timestamps { val, ecr: echoed(echo, recorded, ours) }),
            sack: self.sack(segment, recorded, ours),
        };
        let seq = SeqNum(segment.sequence);
        Segment { seq, ack, flags, window, options, marked: false, payload }
    }

    fn note(&mut self, now: Instant, segment: &Sighting<'_>) {
        self.clock = segment.timestamps.map(|(value, _)| value).or(self.clock);
        self.window = segment.window;
        self.reset |= segment.rst;
        if let Some(answered) = self.answered_at.take().filter(|_| !segment.syn) {
            self.trip = now.since(answered).clamp(TRIP_MIN, TRIP_MAX);
        }
        if segment.rst {
            return;
        }
        let start = self.stream.offset(segment.sequence.wrapping_add(u32::from(segment.syn)));
        let end = start + i64::from(segment.length);
        if segment.fin {
            self.fin.get_or_insert(end);
        }
        self.next = self.next.max(end + i64::from(segment.fin));
        self.stream.reached(self.next);
    }

    /// The acknowledgment, no further than what our server sent, and a window that ends where the
    /// recorded one did.
    fn acknowledgment(
        &mut self,
        segment: &Sighting<'_>,
        recorded: &mut Answers,
        ours: &Answers,
    ) -> (SeqNum, u16) {
        let (Some(ack), Some(own)) = (segment.acknowledgment, ours.stream) else {
            return (SeqNum(segment.acknowledgment.unwrap_or(0)), segment.window);
        };
        // Where the SYN-ACK was not captured, the first acknowledgment tells its number.
        let stream = recorded.stream.get_or_insert_with(|| Unwrap::new(ack.wrapping_sub(1)));
        let offset = stream.offset(ack);
        self.acked = self.acked.max(offset);
        let may = offset.min(ours.next);
        self.held_back += u64::from(may < offset);
        self.told = self.told.max(may);
        (number(own, may), self.widened(offset - may, ours))
    }

    /// The recorded window, and what was held back of the acknowledgment before it.
    fn widened(&self, held_back: i64, ours: &Answers) -> u16 {
        let ours_scales = ours.agreed.is_some_and(|agreed| agreed.scale.is_some());
        let scale = self.scale.filter(|_| ours_scales).unwrap_or(0).min(14);
        let more = u64::try_from(held_back).unwrap_or(0) >> scale;
        self.window.saturating_add(u16::try_from(more).unwrap_or(u16::MAX))
    }

    fn sack(&self, segment: &Sighting<'_>, recorded: &Answers, ours: &Answers) -> SackBlocks {
        let (Some(theirs), Some(own)) = (recorded.stream, ours.stream) else {
            return SackBlocks::new();
        };
        let blocks = segment.sack.iter().flatten().filter_map(|&(left, right)| {
            let (left, right) = (theirs.offset(left), theirs.offset(right).min(ours.next));
            (left < right).then(|| SackBlock { left: number(own, left), right: number(own, right) })
        });
        blocks.take(4).collect()
    }

    /// Our server has sent something: when will the client acknowledge what it already did?
    pub(super) fn on_sent(&mut self, now: Instant, ours: &Answers) {
        if self.acked.min(ours.next) > self.told && self.due == Instant::NEVER && !self.reset {
            self.due = now + self.trip;
        }
    }

    /// The rest of an acknowledgment that was held back.
    pub(super) fn catch_up(&mut self, ours: &Answers) -> Option<Segment<'static>> {
        self.due = Instant::NEVER;
        let own = ours.stream?;
        let may = self.acked.min(ours.next);
        if may <= self.told {
            return None;
        }
        self.told = may;
        let timestamps = self.clock.zip(ours.clock).map(|(val, ecr)| Timestamps { val, ecr });
        Some(Segment {
            seq: number(self.stream, self.next),
            ack: number(own, may),
            flags: Flags::ACK,
            window: self.widened(self.acked - may, ours),
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            marked: false,
            payload: &[],
        })
    }
}

fn number(stream: Unwrap, offset: i64) -> SeqNum {
    SeqNum(stream.iss().wrapping_add(1).wrapping_add(offset as u32))
}

/// TSecr as it would be: as far behind our latest clock as the recorded one was behind its own,
/// and never ahead of it.
fn echoed(echo: u32, recorded: &Answers, ours: &Answers) -> u32 {
    let (Some(theirs), Some(own)) = (recorded.clock_first, ours.clock_first) else { return echo };
    let moved = own.wrapping_add(echo.wrapping_sub(theirs));
    match ours.clock {
        Some(latest) if (latest.wrapping_sub(moved) as i32) < 0 => latest,
        _ => moved,
    }
}
