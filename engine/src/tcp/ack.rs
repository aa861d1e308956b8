//! What an acknowledgment does to the sender: SND.UNA, the window, loss recovery.
//!
//! Recovery keeps no list of segments. Three marks and the scoreboard say it all:
//!
//! ```text
//!    una        resent         lost              nxt
//!     |  sent     |   lost, to   |  in flight,     |   not sent
//!     |  again    |   be sent    |  or held        |
//! ```
//!
//! Selectively acknowledged ranges are skipped everywhere. In flight (RFC 6675's "pipe") is what
//! is neither held nor lost and not yet sent again.

use super::congestion::{Acked, Limited};
use super::tcb::{Phase, WINDOW_MAX};
use super::{State, Tcb};
use crate::time::Instant;
use crate::wire::Segment;

impl Tcb {
    /// The largest output offset the peer may acknowledge.
    pub(super) fn ack_limit(&self) -> u64 {
        let exists = self.snd.end + u64::from(self.snd.finish);
        self.snd.nxt.max(self.snd.leap.min(exists))
    }

    /// An acceptable acknowledgment, RFC 9293 §3.10.7.4 fifth check, ESTABLISHED.
    pub(super) fn on_ack(&mut self, now: Instant, segment: &Segment<'_>, ack: i64) {
        let news = self.take_sack(segment);
        let una = self.snd.una;
        let fresh = u64::try_from(ack).ok().filter(|ack| *ack > una);
        if fresh.is_none() && ack == una.cast_signed() {
            self.count_duplicate(segment, news);
        }
        self.take_window(now, segment, ack, fresh.is_some());
        if let Some(ack) = fresh {
            self.advance_output(now, segment, ack);
        }
        self.detect_loss(now);
    }

    /// Adds the SACK blocks to the scoreboard; whether they said anything new. Blocks at or below
    /// SND.UNA are D-SACKs or stale, and blocks of what was never sent are lies.
    fn take_sack(&mut self, segment: &Segment<'_>) -> bool {
        if !self.sack || self.bytes_in_flight() == 0 {
            return false;
        }
        let mut news = false;
        let floor = self.snd.una.max(u64::try_from(self.offset_of(segment.ack)).unwrap_or(0));
        for block in &segment.options.sack {
            let (left, right) = (self.offset_of(block.left), self.offset_of(block.right));
            let (Ok(left), Ok(right)) = (u64::try_from(left), u64::try_from(right)) else {
                continue;
            };
            if floor < left && left < right && right <= self.snd.nxt {
                news |= self.snd.board.get_or_insert_default().add(left..right);
            }
        }
        news
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
        self.snd.backoff = 0;
        self.snd.probe_due = false;
        self.snd.progress_at = now;
        self.timers.resend = Instant::NEVER;
        if self.bytes_in_flight() > 0 && self.snd.phase == Phase::Open {
            self.mark_all_lost();
        }
    }

    /// SND.UNA moves to `ack`.
    fn advance_output(&mut self, now: Instant, segment: &Segment<'_>, ack: u64) {
        let acked = ack - self.snd.una;
        if ack > self.snd.nxt {
            self.leap_to(now, ack);
        }
        if self.snd.leap != 0 {
            // The predecessor's last window may still be on its way to the peer.
            self.snd.leap = ack + u64::from(self.snd.wnd_max);
        }
        self.sample_round_trip(now, segment, ack);
        self.snd.una = ack;
        self.snd.backoff = 0;
        self.snd.probe_due = false;
        self.snd.progress_at = now;
        self.snd.resent = self.snd.resent.max(ack);
        self.snd.lost = self.snd.lost.max(ack);
        self.trim_board();
        self.progress_recovery(now, acked);
        self.timers.resend = if self.bytes_in_flight() == 0 {
            Instant::NEVER
        } else {
            now + self.snd.rtt.timeout(&self.settings, 0)
        };
    }

    /// The peer holds what a predecessor sent and we have not: it need not be sent at all.
    fn leap_to(&mut self, now: Instant, ack: u64) {
        self.snd.nxt = ack;
        self.snd.board = None;
        self.snd.timed = None;
        if self.snd.finish && ack > self.snd.end {
            self.note_fin_sent(now);
        }
    }

    fn trim_board(&mut self) {
        if let Some(board) = &mut self.snd.board {
            board.advance(self.snd.una);
            if board.is_empty() {
                self.snd.board = None;
            }
        }
    }

    /// One round trip, from the segment being timed or from the echoed timestamp.
    fn sample_round_trip(&mut self, now: Instant, segment: &Segment<'_>, ack: u64) {
        let timed = self.snd.timed.filter(|(until, _)| *until <= ack);
        let sample = match (timed, segment.options.timestamps) {
            (Some((_, sent)), _) => Some(now.since(sent)),
            // One echo a round trip is enough: RFC 7323 appendix G.
            (None, Some(ts)) if self.timestamps && self.snd.timed.is_none() => {
                self.echo_age(now, ts.ecr)
            }
            (None, _) => None,
        };
        if timed.is_some() {
            self.snd.timed = None;
        }
        if let Some(sample) = sample {
            self.snd.rtt.sample(sample);
        }
    }

    /// What new data acknowledged means for recovery and the congestion window.
    fn progress_recovery(&mut self, now: Instant, acked: u64) {
        let whole = self.snd.una >= self.snd.recover;
        match self.snd.phase {
            Phase::Open => {
                self.snd.duplicates = 0;
                self.grow_window(now, acked, self.snd.limited);
            }
            Phase::Fast if whole => self.end_recovery(),
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
        let acked = Acked { now, bytes, mss: self.mss_u32(), srtt, limited };
        self.snd.congestion.control().on_ack(acked);
    }

    fn end_recovery(&mut self) {
        self.snd.phase = Phase::Open;
        self.snd.duplicates = 0;
        self.snd.resend_now = false;
        self.snd.lost = self.snd.una;
        self.snd.resent = self.snd.una;
    }

    /// The next hole begins at the new SND.UNA: it is lost too, RFC 6582 §3.2 step 3.
    fn partial_ack(&mut self, acked: u64) {
        let mss = self.mss_u64();
        let segments = u16::try_from(acked / mss).unwrap_or(u16::MAX);
        self.snd.duplicates = self.snd.duplicates.saturating_sub(segments);
        self.snd.lost = self.snd.lost.max(self.snd.una + mss).min(self.snd.nxt);
        self.snd.resend_now = self.snd.resent == self.snd.una;
    }

    /// Enters fast recovery, or finds more lost in it: RFC 6675 §5.
    fn detect_loss(&mut self, now: Instant) {
        if self.bytes_in_flight() == 0 || !self.state.may_send() || self.snd.wnd == 0 {
            return;
        }
        let mss = self.mss_u64();
        let below = self.snd.board.as_ref().and_then(|board| board.lost_below(mss));
        let lost = below.unwrap_or(0).min(self.snd.nxt);
        match self.snd.phase {
            Phase::Open if self.snd.duplicates >= 3 || lost > self.snd.una => {
                self.enter_recovery(now, lost);
            }
            Phase::Fast => self.snd.lost = self.snd.lost.max(lost),
            Phase::Open | Phase::Timeout => (),
        }
    }

    fn enter_recovery(&mut self, now: Instant, lost: u64) {
        // RFC 6582 §3.2: a loss below `recover` belongs to the last recovery.
        if self.snd.una < self.snd.recover {
            return;
        }
        let (flight, mss) = (self.bytes_in_flight(), self.mss_u32());
        self.snd.congestion.control().on_loss(flight, mss);
        self.snd.phase = Phase::Fast;
        self.snd.recover = self.snd.nxt;
        self.snd.resent = self.snd.una;
        self.snd.lost = lost.max(self.snd.una + self.mss_u64()).min(self.snd.nxt);
        self.snd.resend_now = true;
        self.snd.timed = None;
        self.timers.resend = now + self.snd.rtt.timeout(&self.settings, self.snd.backoff);
    }

    /// Everything in flight is taken for lost, and is sent again as the windows allow.
    pub(super) fn mark_all_lost(&mut self) {
        if self.bytes_in_flight() == 0 {
            return;
        }
        self.snd.phase = Phase::Timeout;
        self.snd.recover = self.snd.nxt;
        self.snd.lost = self.snd.nxt;
        self.snd.resent = self.snd.una;
        self.snd.duplicates = 0;
        self.snd.resend_now = true;
        self.snd.timed = None;
    }

    /// RFC 6675's pipe: bytes believed to be in the network.
    pub(super) fn pipe(&self) -> u64 {
        let resent = self.snd.resent.clamp(self.snd.una, self.snd.nxt);
        let lost = self.snd.lost.clamp(resent, self.snd.nxt);
        let parts = [self.snd.una..resent, lost..self.snd.nxt];
        let part = |part: &core::ops::Range<u64>| {
            let held = self.snd.board.as_ref().map_or(0, |board| board.held(part.clone()));
            (part.end - part.start).saturating_sub(held)
        };
        let pipe: u64 = parts.iter().map(part).sum();
        if self.sack {
            return pipe;
        }
        // Each duplicate acknowledgment says that one segment has left the network.
        pipe.saturating_sub(u64::from(self.snd.duplicates) * self.mss_u64())
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
