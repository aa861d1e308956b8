//! The lost tail: TLP, RFC 8985 §7.
//!
//! When the last segments of a flight are lost nothing comes back that would tell. So about two
//! round trips after the last acknowledgment, long before the retransmission timeout, one segment
//! goes out: new data if there is any, else the last segment again. Its acknowledgment lets RACK
//! see what is missing. If it repaired the loss all by itself, nobody would have slowed down for
//! it; that is noticed, and made up for ([`Tcb::settle_tail`]).

use super::Tcb;
use super::ack::Heard;
use super::send::Fetch;
use super::tcb::Phase;
use super::timer::Alarm;
use super::transmit::Transmit;
use crate::time::{Duration, Instant};
use crate::wire::Segment;

impl Tcb {
    /// TLP_schedule: brings the retransmission timer forward, if a probe would make sense. One
    /// probe at a time, and none where SACK would not tell what it finds out.
    ///
    /// Deviation: RFC 8985 §7.2 probes after a second where no round trip is known. That is so where
    /// timeouts were too short, and then a probe would be one more of what nobody can time (Karn).
    pub(super) fn arm_tail_probe(&mut self, now: Instant) {
        let Some(flight) = &self.snd.flight else { return };
        let quiet = self.snd.phase == Phase::Open && flight.sent.held() == 0;
        let possible = self.sack && self.snd.wnd > 0 && self.snd.tail_end == 0;
        let timed = self.snd.rtt.smoothed().filter(|_| self.snd.backoff == 0);
        let Some(srtt) = timed.filter(|_| quiet && possible && self.snd.alarm == Alarm::Timeout)
        else {
            return;
        };
        // Never later than the timeout, and instead of it rather than with it.
        self.timers.resend = self.timers.resend.min(now + self.tail_timeout(srtt));
        self.snd.alarm = Alarm::Tail;
    }

    /// PTO, §7.2. A single segment may wait for the peer's delayed acknowledgment.
    fn tail_timeout(&self, srtt: Duration) -> Duration {
        let single = self.bytes_in_flight() <= self.mss_u64();
        2 * srtt + if single { DELAYED_ACK_MAX } else { SLACK }
    }

    /// TLP_send_probe, §7.3: whatever the congestion window says. New data within the peer's; what
    /// is sent again had room in it once, and may be told again if it shrank (RFC 9293 MAY-7).
    pub(super) fn tail_probe(&mut self, now: Instant, fetch: Fetch<'_>) -> Option<Transmit> {
        if self.bytes_in_flight() == 0 || self.snd.phase != Phase::Open || self.snd.wnd == 0 {
            return None;
        }
        let nxt = self.snd.nxt;
        let edge = self.snd.una + u64::from(self.snd.wnd);
        let fresh = self.output_limit().min(edge).saturating_sub(nxt).min(self.mss_u64());
        let transmit = if fresh > 0 {
            self.fresh_segment(now, fresh, fetch)?
        } else {
            let start = nxt.saturating_sub(self.mss_u64()).max(self.snd.una);
            let transmit = self.segment(now, start..nxt, fetch)?;
            self.note_sent(now, start, &transmit);
            transmit
        };
        self.snd.tail_end = self.snd.nxt;
        self.snd.tail_resent = fresh == 0;
        self.rearm_timeout(now);
        Some(transmit)
    }

    /// TLP_process_ack, §7.4: the acknowledgment of a probe that was a retransmission. A D-SACK,
    /// or a bare duplicate, says that nothing was lost. One that moves on without them says that
    /// the probe repaired a loss, and the congestion window shrinks for that.
    pub(super) fn settle_tail(&mut self, segment: &Segment<'_>, heard: &Heard, fresh: bool) {
        let end = self.snd.tail_end;
        if end == 0 || self.snd.una < end {
            return;
        }
        let bare = !fresh && segment.is_empty() && segment.options.sack.is_empty();
        let spurious = heard.duplicate.as_ref().is_some_and(|part| part.end == end);
        if !self.snd.tail_resent || spurious || bare {
            self.snd.tail_end = 0;
        } else if self.snd.una > end {
            self.snd.tail_end = 0;
            let (flight, mss) = (self.snd.congestion.window().into(), self.mss_u32());
            self.snd.congestion.control().on_loss(flight, mss);
            self.note_slowed();
        }
    }
}

/// How long a peer may delay an acknowledgment: TLP.max_ack_delay, as RFC 8985 §7.2 proposes.
const DELAYED_ACK_MAX: Duration = Duration::from_millis(200);
/// For the peer's scheduler, and ours: on a LAN two round trips are too few to tell anything.
const SLACK: Duration = Duration::from_millis(5);
