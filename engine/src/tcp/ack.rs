//! What an acknowledgment does to the sender: SND.UNA, the window, loss recovery.
//!
//! With SACK, losses are told by time (`rack`); what is out, held and lost is kept in `sent`. In
//! flight (RFC 6675's "pipe") is what is neither held nor lost. Without SACK three duplicate
//! acknowledgments tell the first lost segment, and each partial one the next: RFC 6582.

use super::congestion::{Acked, Limited};
use super::hystart::Growth;
use super::prr::Prr;
use super::rack::{DUPLICATES, Echo};
use super::sent::Look;
use super::tcb::{Phase, WINDOW_MAX};
use super::{State, Tcb};
use crate::time::Instant;
use crate::wire::Segment;
use core::ops::Range;

/// What the SACK blocks of an acknowledgment said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The peer holds more than we knew.
    news: bool,
    /// The peer got these output offsets twice: a D-SACK, RFC 2883.
    pub(super) duplicate: Option<Range<u64>>,
    /// What was sent again first has arrived by its first sending: RFC 3522.
    pub(super) eifel: bool,
    /// Something has arrived that was sent once, before `recover`.
    pub(super) original: bool,
}

impl Tcb {
    /// The largest output offset the peer may acknowledge.
    pub(super) fn ack_limit(&self) -> u64 {
        let exists = self.snd.end + u64::from(self.snd.finish);
        self.snd.nxt.max(self.snd.leap.min(exists))
    }

    /// The largest window that the peer can ever have offered.
    fn peer_window_limit(&self) -> u64 {
        (u64::from(u16::MAX) << self.snd_scale).min(u64::from(WINDOW_MAX))
    }

    /// An acceptable acknowledgment, RFC 9293 §3.10.7.4 fifth check, ESTABLISHED.
    pub(super) fn on_ack(&mut self, now: Instant, segment: &Segment<'_>, ack: i64) {
        let (una, delivered) = (self.snd.una, self.delivered());
        let fresh = u64::try_from(ack).ok().filter(|ack| *ack > una);
        let mut heard = Heard::default();
        if let Some(ack) = fresh {
            self.advance_output(now, segment, ack, &mut heard);
        }
        self.take_sack(now, segment, ack, &mut heard);
        if ack == una.cast_signed() {
            self.count_duplicate(segment, heard.news);
        }
        self.take_window(now, segment, ack, fresh.is_some());
        self.settle_tail(segment, &heard, fresh.is_some());
        self.take_echo(segment, self.snd.nxt - una.min(self.snd.nxt));
        self.judge_reduction(now, &heard, fresh.is_some());
        if fresh.is_some() {
            self.progress_recovery(now, self.snd.una - una);
            self.timers.resend = Instant::NEVER;
            if self.bytes_in_flight() > 0 {
                self.arm_resend(now);
            }
        }
        let worse = self.detect_loss(now);
        self.reduce_in_proportion(delivered, fresh.is_some(), worse);
        self.arm_tail_probe(now);
    }

    /// Takes the SACK blocks. Blocks of what was never sent are lies.
    fn take_sack(&mut self, now: Instant, segment: &Segment<'_>, ack: i64, heard: &mut Heard) {
        if !self.sack {
            return;
        }
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let offsets = |tcb: &Self, block: &crate::wire::SackBlock| {
            let left = u64::try_from(tcb.offset_of(block.left)).ok()?;
            let right = u64::try_from(tcb.offset_of(block.right)).ok()?;
            (left < right && right <= nxt).then_some(left..right)
        };
        let mut blocks = segment.options.sack.iter().map(|block| offsets(self, block));
        let mut blocks: [Option<Range<u64>>; 4] = core::array::from_fn(|_| blocks.next().flatten());
        heard.duplicate = duplicate_of(&blocks, ack);
        // In the order in which they were sent, or it would look as if the path had reordered.
        blocks.sort_unstable_by_key(|block| block.as_ref().map(|block| block.start));
        let Some(flight) = &mut self.snd.flight else { return };
        if heard.duplicate.is_some() {
            flight.rack.note_eager(&mut self.snd.order, una, nxt);
        }
        for block in blocks.into_iter().flatten().filter(|block| block.start > una) {
            heard.news |= flight.sent.hold(block, &mut |run| {
                heard.original |= !run.resent && run.part.end <= self.snd.recover;
                // What lies beyond a gap is not echoed (RFC 7323 §4.3).
                flight.rack.note_delivered(&mut self.snd.order, now, run, None);
            });
        }
    }

    fn echo(&self, segment: &Segment<'_>) -> Option<Echo> {
        let timestamps = segment.options.timestamps.filter(|_| self.timestamps)?;
        Some(Echo { ecr: timestamps.ecr, ts_offset: self.ts_offset })
    }

    /// A duplicate acknowledgment: RFC 5681 §2, or with SACK, RFC 6675 §2.
    fn count_duplicate(&mut self, segment: &Segment<'_>, news: bool) {
        let same_window = u32::from(segment.window) << self.snd_scale == self.snd.wnd;
        let duplicate = if self.sack { news } else { segment.is_empty() && same_window };
        if duplicate && self.bytes_in_flight() > 0 {
            self.snd.duplicates = self.snd.duplicates.saturating_add(1);
        }
    }

    /// SND.WND, if the segment is no older than the last that set it.
    fn take_window(&mut self, now: Instant, segment: &Segment<'_>, ack: i64, fresh: bool) {
        if ack < self.snd.una.cast_signed() {
            return;
        }
        let newer = self.snd.wl1.before(segment.seq)
            || (self.snd.wl1 == segment.seq && self.snd.wl2.at_or_before(segment.ack));
        if !newer && !fresh {
            return;
        }
        let shift =
            if segment.flags.contains(crate::wire::Flags::SYN) { 0 } else { self.snd_scale };
        let was_shut = self.snd.wnd == 0;
        self.snd.wnd = (u32::from(segment.window) << shift).min(WINDOW_MAX);
        self.snd.wnd_max = self.snd.wnd_max.max(self.snd.wnd);
        self.snd.wl1 = segment.seq;
        self.snd.wl2 = segment.ack;
        if was_shut && self.snd.wnd > 0 {
            self.window_opened(now);
        } else if was_shut {
            // A peer that answers probes is alive: RFC 9293 §3.8.6.1 has us wait for ever.
            self.snd.progress_at = now;
        }
    }

    /// The peer's window opened. What went out as probes into the shut window was thrown away.
    fn window_opened(&mut self, now: Instant) {
        (self.snd.backoff, self.snd.repeats) = (0, 0);
        self.snd.probe_due = false;
        self.snd.progress_at = now;
        self.timers.resend = Instant::NEVER;
        if self.bytes_in_flight() > 0 {
            self.mark_all_lost();
            self.arm_resend(now);
        }
    }

    /// SND.UNA moves to `ack`.
    fn advance_output(&mut self, now: Instant, segment: &Segment<'_>, ack: u64, heard: &mut Heard) {
        if ack > self.snd.nxt {
            self.leap_to(now, ack);
        }
        if self.snd.leap != 0 {
            // The predecessor's last window may still be on its way to the peer, and it may have
            // known of a larger one than we do.
            self.snd.leap = ack + self.peer_window_limit();
        }
        self.acknowledge_flight(now, segment, ack, heard);
        assert!(ack > self.snd.una, "RFC 9293 §3.10.7.4: SND.UNA only grows");
        self.snd.una = ack;
        self.check_order();
        self.snd.repeats = 0;
        self.snd.probe_due = false;
        self.snd.progress_at = now;
    }

    /// RFC 9293 §3.4, and the end of the output, behind which there is nothing.
    pub(super) fn check_order(&self) {
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let end = self.snd.end + u64::from(self.snd.finish);
        assert!(una <= nxt && nxt <= end, "SND.UNA =< SND.NXT =< end: {una}, {nxt}, {end}");
    }

    /// The peer holds what a predecessor sent and we have not: it need not be sent at all.
    fn leap_to(&mut self, now: Instant, ack: u64) {
        self.snd.nxt = ack;
        self.snd.flight = None;
        if self.snd.finish && ack > self.snd.end {
            self.note_fin_sent(now);
        }
    }

    /// Takes what `ack` covers off the record of what is out, and one round trip from it.
    fn acknowledge_flight(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        ack: u64,
        heard: &mut Heard,
    ) {
        let echo = self.echo(segment);
        heard.eifel = self.answers_original(echo);
        let Some(flight) = &mut self.snd.flight else { return };
        let (mut sent_at, mut again) = (None, false);
        flight.sent.acknowledge(ack, &mut |run| {
            flight.rack.note_delivered(&mut self.snd.order, now, run, echo);
            again |= run.resent;
            sent_at.get_or_insert(run.at);
            heard.original |= !run.resent && run.part.end <= self.snd.recover;
        });
        let sent_at = sent_at.filter(|_| !again);
        let due = ack >= flight.sample_after || self.snd.backoff > 0;
        flight.sample_after = if due { self.snd.nxt } else { flight.sample_after };
        if ack >= self.snd.nxt {
            self.snd.flight = None;
        }
        if due {
            self.sample_round_trip(now, sent_at, echo);
        }
    }

    /// One round trip: from when the oldest of what was acknowledged was sent, if all of it was sent
    /// once (Karn), or from the echoed timestamp (RFC 7323 §4). What was sent again may have filled
    /// a gap, and what waited behind a gap tells nothing; without SACK nobody knows what did.
    fn sample_round_trip(&mut self, now: Instant, sent_at: Option<Instant>, echo: Option<Echo>) {
        let sent_at = sent_at.filter(|_| self.sack || self.snd.phase == Phase::Open);
        let echoed = || self.echo_age(now, echo?.ecr);
        if let Some(sample) = sent_at.map(|at| now.since(at)).or_else(echoed) {
            self.snd.rtt.sample(sample);
            self.snd.backoff = 0;
        }
    }

    /// What new data acknowledged means for recovery and the congestion window.
    fn progress_recovery(&mut self, now: Instant, acked: u64) {
        let whole = self.snd.una >= self.snd.recover;
        match self.snd.phase {
            Phase::Open => {
                self.snd.duplicates = 0;
                if !self.slowed_by_mark() {
                    self.grow_window(now, acked, self.snd.limited);
                }
            }
            Phase::Fast if whole => self.end_recovery(),
            Phase::Fast if self.sack => (),
            Phase::Fast => self.partial_ack(acked),
            Phase::Timeout => {
                self.grow_window(now, acked, Limited::ByCongestion);
                if whole {
                    self.end_recovery();
                }
            }
        }
    }

    fn grow_window(&mut self, now: Instant, bytes: u64, limited: Limited) {
        let srtt = self.snd.rtt.smoothed().unwrap_or_default();
        let growth = match limited {
            Limited::ByCongestion => self.slow_start_growth(),
            Limited::ByOther => Growth::Whole,
        };
        let mss = self.mss_u32();
        let control = self.snd.congestion.control();
        if growth == Growth::Done {
            control.end_search();
        }
        control.on_ack(Acked { now, bytes, mss, srtt, limited, growth });
    }

    fn end_recovery(&mut self) {
        self.snd.phase = Phase::Open;
        self.snd.duplicates = 0;
        self.snd.resend_now = false;
        self.snd.order.note_recovered();
        self.close_undo();
    }

    /// Without SACK, the next hole begins at the new SND.UNA, RFC 6582 §3.2 step 3.
    fn partial_ack(&mut self, acked: u64) {
        let (una, mss) = (self.snd.una, self.mss_u64());
        let segments = u16::try_from(acked / mss).unwrap_or(u16::MAX);
        self.snd.duplicates = self.snd.duplicates.saturating_sub(segments);
        if let Some(flight) = &mut self.snd.flight {
            flight.sent.lose_part(una..una + mss);
            self.snd.resend_now = true;
        }
    }

    /// Enters fast recovery, or finds more lost in it. Whether anything was found.
    pub(super) fn detect_loss(&mut self, now: Instant) -> bool {
        if self.bytes_in_flight() == 0 || !self.state.may_send() || self.snd.wnd == 0 {
            return false;
        }
        if self.sack {
            let found = self.detect_by_time(now);
            // What an ended recovery left lost was sent after it had begun: a loss of its own.
            if self.snd.phase == Phase::Open && self.any_lost() {
                self.enter_recovery(now);
            }
            return found;
        }
        if self.snd.phase == Phase::Open
            && self.snd.duplicates >= DUPLICATES
            // RFC 6582 §3.2: a loss below `recover` belongs to the last recovery.
            && self.snd.una >= self.snd.recover
        {
            let (una, mss) = (self.snd.una, self.mss_u64());
            if let Some(flight) = &mut self.snd.flight {
                flight.sent.lose_part(una..una + mss);
            }
            self.enter_recovery(now);
            return true;
        }
        false
    }

    fn any_lost(&self) -> bool {
        self.snd.flight.as_ref().is_some_and(|flight| flight.sent.any_lost())
    }

    /// RFC 6675 §5 step 4, RFC 6582 §3.2 step 2.
    fn enter_recovery(&mut self, now: Instant) {
        let (flight, mss) = (self.bytes_in_flight(), self.mss_u32());
        self.remember(false);
        if !self.slowed_by_mark() {
            self.snd.congestion.control().on_loss(flight, mss);
            self.note_slowed();
        }
        if let Some(out) = &mut self.snd.flight {
            out.prr = Prr::begin(flight - out.sent.held(), out.sent.flying());
        }
        self.snd.phase = Phase::Fast;
        self.snd.recover = self.snd.nxt;
        self.snd.resend_now = true;
        self.snd.tail_end = 0;
        self.restart_timeout(now);
    }

    /// Everything in flight is taken for lost, and is sent again as the windows allow.
    pub(super) fn mark_all_lost(&mut self) {
        if let Some(flight) = &mut self.snd.flight {
            flight.sent.lose(|_| Look::Lost);
            self.stop_asking();
            self.repair_from_una();
        }
    }

    /// Repair begins at SND.UNA, as after a timeout.
    pub(super) fn repair_from_una(&mut self) {
        self.snd.phase = Phase::Timeout;
        self.snd.recover = self.snd.nxt;
        self.snd.duplicates = 0;
        self.snd.resend_now = true;
        self.snd.tail_end = 0;
    }

    /// RFC 6675's pipe: bytes believed to be in the network.
    pub(super) fn pipe(&self) -> u64 {
        let flying = self.snd.flight.as_ref().map_or(0, |flight| flight.sent.flying());
        if self.sack {
            return flying;
        }
        // Each duplicate acknowledgment says that one segment has left the network.
        flying.saturating_sub(u64::from(self.snd.duplicates) * self.mss_u64())
    }

    /// Our FIN is (taken to be) on its way.
    pub(super) fn note_fin_sent(&mut self, now: Instant) {
        match self.state {
            State::Established => self.transition(now, State::FinWait1, "FIN sent"),
            State::CloseWait => self.transition(now, State::LastAck, "FIN sent"),
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::FinWait1
            | State::FinWait2
            | State::Closing
            | State::LastAck
            | State::TimeWait => (),
        }
    }
}

/// The D-SACK among the blocks, RFC 2883 §4: the first, if it lies below the acknowledgment that
/// carries it or within the second. Not below SND.UNA: an acknowledgment may come late.
fn duplicate_of(blocks: &[Option<Range<u64>>; 4], ack: i64) -> Option<Range<u64>> {
    let [first, second, ..] = blocks;
    let first = first.as_ref()?;
    let within = |outer: &Range<u64>| outer.start <= first.start && first.end <= outer.end;
    (first.end.cast_signed() <= ack || second.as_ref().is_some_and(within)).then(|| first.clone())
}
