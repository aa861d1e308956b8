//! Losses told by time: RACK, RFC 8985 §6.
//!
//! What was sent a while before something that has arrived, and has not arrived itself, is lost.
//! "A while" is the reordering window: nothing as long as the path keeps the order, and up to a
//! round trip where it does not, widened step by step when a D-SACK shows that we were too eager.
//!
//! ```text
//!     sent      1   2   3   4                      now
//!     |---------|---|---|---|-----------------------|--►
//!               lost?   delivered: 3   round trip + window since 1 was sent: it is lost
//! ```
//!
//! One rule finds lost segments, lost retransmissions and lost tails alike, so the counts of
//! duplicate acknowledgments of RFC 6675 and its NextSeg rules are not needed. A peer without SACK
//! cannot say what arrived; for it `ack` counts, as RFC 6582 does.

use super::Tcb;
use super::hystart::HyStart;
use super::pace::Pacer;
use super::prr::Prr;
use super::sent::{Look, Mark, Run, Sent};
use super::tcb::Phase;
use super::timer::Alarm;
use crate::time::{Duration, Instant};
use core::ops::Range;

/// What there is to know while something is in flight. An idle connection has none.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) sent: Sent,
    pub(super) rack: Rack,
    /// The next round-trip sample is taken when this is acknowledged: one a round trip.
    pub(super) sample_after: u64,
    pub(super) prr: Prr,
    /// When this is acknowledged the peer has heard CWR.
    pub(super) told: u64,
    /// What was sent before this has been paid for by a reduction for a mark.
    pub(super) slowed: u64,
    pub(super) hystart: HyStart,
    pub(super) pacer: Pacer,
}

/// The variables of RFC 8985 §5.2 that concern what is in flight.
#[derive(Debug)]
pub(super) struct Rack {
    /// Of everything delivered what was sent last: RACK.xmit_ts and RACK.end_seq.
    newest: Mark,
    /// The round trip of that: RACK.rtt.
    rtt: Duration,
    /// RACK.fack: the end of the highest delivered.
    highest: u64,
    /// RACK.dsack_round: until this is acknowledged another D-SACK says nothing new. Zero: none.
    eager_until: u64,
}

/// How the path treats the order of segments. It outlives what is in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Order {
    /// RACK.min_RTT in microseconds; zero if unknown.
    rtt_min: u32,
    /// RACK.reo_wnd_mult: the window in quarters of `rtt_min`.
    quarters: u8,
    /// RACK.reo_wnd_persist: recoveries until the window narrows again.
    persist: u8,
    /// RACK.reordering_seen.
    seen: bool,
}

/// What a peer echoes: an answer to what was sent since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Echo {
    /// TSecr.
    pub(super) ecr: u32,
    /// The connection's own offset of TSval.
    pub(super) ts_offset: u32,
}

impl Flight {
    pub(super) fn new(una: u64, srtt: Option<Duration>) -> Box<Self> {
        let rtt = srtt.unwrap_or_default();
        let rack = Rack { newest: Mark::NONE, rtt, highest: una, eager_until: 0 };
        Box::new(Self {
            sent: Sent::default(),
            rack,
            sample_after: una,
            prr: Prr::default(),
            told: 0,
            slowed: 0,
            hystart: HyStart::new(una),
            pacer: Pacer::new(),
        })
    }
}

impl Order {
    pub(super) const fn new() -> Self {
        Self { rtt_min: 0, quarters: 1, persist: 0, seen: false }
    }

    /// Sendings less far apart than this need not be told apart: a quarter of the window's step.
    pub(super) fn close(self) -> Duration {
        Duration::from_micros((self.rtt_min / 16).into())
    }

    fn rtt_min(self) -> Duration {
        Duration::from_micros(self.rtt_min.into())
    }

    fn note_rtt(&mut self, rtt: Duration) {
        let rtt = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.rtt_min = if self.rtt_min == 0 { rtt } else { self.rtt_min.min(rtt) };
    }

    /// A loss that was none has shown that the path reorders.
    ///
    /// Deviation: RFC 8985 §6.2 step 3 sees reordering only in what was never sent again.
    pub(super) const fn note_reordering(&mut self) {
        self.seen = true;
    }

    /// A recovery has ended: §6.2 step 4.
    pub(super) const fn note_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.quarters = 1;
        }
    }
}

impl Echo {
    /// Whether the acknowledgment answers something sent before `at`.
    pub(super) const fn precedes(self, at: Instant) -> bool {
        let then = self.ts_offset.wrapping_add(at.as_millis() as u32);
        self.ecr.wrapping_sub(then).cast_signed() < 0
    }
}

impl Rack {
    /// A run is newly known to have arrived: §6.2 steps 1 to 3. What was sent twice counts only if
    /// it is the later sending that has arrived.
    pub(super) fn note_delivered(
        &mut self,
        order: &mut Order,
        now: Instant,
        run: &Run,
        echo: Option<Echo>,
    ) {
        let rtt = now.since(run.at);
        if !run.resent {
            order.note_rtt(rtt);
            order.seen |= run.part.end < self.highest;
        } else if rtt < order.rtt_min() || echo.is_some_and(|echo| echo.precedes(run.at)) {
            return;
        }
        self.highest = self.highest.max(run.part.end);
        self.rtt = rtt;
        self.newest = self.newest.max(run.mark());
    }

    /// The round trip of what was delivered last.
    pub(super) const fn rtt(&self) -> Duration {
        self.rtt
    }

    /// What seemed to be delivered last was sent again for nothing, and says nothing about what
    /// was sent before it.
    pub(super) const fn forget_newest(&mut self) {
        self.newest = Mark::NONE;
    }

    /// A D-SACK: something was sent again too early. Once a round trip the window widens by a
    /// quarter of the round trip, for 16 recoveries. §6.2 step 4.
    pub(super) fn note_eager(&mut self, order: &mut Order, una: u64, nxt: u64) {
        if una >= self.eager_until {
            self.eager_until = nxt;
            order.quarters = order.quarters.saturating_add(1);
            order.persist = PERSIST;
        }
    }
}

impl Tcb {
    /// RACK_update_reo_wnd, §6.2 step 4.
    fn reordering_window(&self, sent: &Sent) -> Duration {
        let order = self.snd.order;
        let enough = self.snd.duplicates >= DUPLICATES || sent.held() > 2 * self.mss_u64();
        if !order.seen && (enough || self.snd.phase != Phase::Open) {
            return Duration::ZERO;
        }
        let window = order.rtt_min() * u32::from(order.quarters) / 4;
        window.min(self.snd.rtt.smoothed().unwrap_or_default())
    }

    /// RACK_detect_loss, §6.2 step 5: whether anything more is lost. What may still arrive is
    /// looked at again when its time is up.
    pub(super) fn detect_by_time(&mut self, now: Instant) -> bool {
        let Some(mut flight) = self.snd.flight.take() else { return false };
        let Flight { sent, rack, .. } = &mut *flight;
        let patience = rack.rtt + self.reordering_window(sent);
        let mut again = Instant::ZERO;
        let lost = sent.lose(|run| {
            if !run.before(rack.newest) {
                return if run.resent { Look::Flying } else { Look::Rest };
            }
            let due = run.until() + patience;
            if due <= now {
                return Look::Lost;
            }
            again = again.max(due);
            Look::Flying
        });
        self.snd.flight = Some(flight);
        if again > now && again < self.timers.resend {
            self.timers.resend = again;
            self.snd.alarm = Alarm::Reordering;
        } else if again <= now && self.snd.alarm == Alarm::Reordering {
            self.rearm_timeout(now);
        }
        lost
    }

    /// RACK_mark_losses_on_RTO, §6.3: the first segment, and what was sent long enough ago. What
    /// was sent a moment ago may be on its way.
    pub(super) fn lose_by_timeout(&mut self, now: Instant) {
        let first = self.snd.una..self.snd.una + self.mss_u64();
        let Some(mut flight) = self.snd.flight.take() else { return };
        let patience = flight.rack.rtt + self.reordering_window(&flight.sent);
        flight.sent.lose(|run| match run.until() + patience <= now {
            true => Look::Lost,
            false => Look::Flying,
        });
        flight.sent.lose_part(first);
        self.snd.flight = Some(flight);
    }

    /// `part` has just been sent, for whichever time.
    pub(super) fn note_flight(&mut self, now: Instant, part: Range<u64>) {
        let (una, nxt, recover) = (self.snd.una, self.snd.nxt, self.snd.recover);
        let (close, srtt) = (self.snd.order.close(), self.snd.rtt.smoothed());
        let flight = self.snd.flight.get_or_insert_with(|| Flight::new(una, srtt));
        if part.start < nxt {
            flight.sent.resend(part.start..part.end.min(nxt), now, close);
        }
        if part.end > nxt {
            // Below `recover` a predecessor may have sent the same.
            flight.sent.push(nxt..part.end, now, close, nxt < recover);
            self.snd.nxt = part.end;
            self.check_order();
        }
    }
}

/// DupThresh.
pub(super) const DUPLICATES: u16 = 3;
/// §6.2 step 4.
const PERSIST: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn rack() -> (Rack, Order) {
        let rack = Rack { newest: Mark::NONE, rtt: Duration::ZERO, highest: 0, eager_until: 0 };
        (rack, Order::new())
    }

    /// A part that was sent at `millis`, perhaps not for the first time.
    fn run(part: Range<u64>, millis: u64, resent: bool) -> Run {
        let (mut sent, mut found) = (Sent::default(), None);
        sent.push(part.clone(), at(millis), Duration::ZERO, resent);
        sent.acknowledge(part.end, &mut |run| found = Some(run.clone()));
        found.expect("it was sent")
    }

    #[test]
    fn what_is_behind_what_has_arrived_was_reordered() {
        let (mut rack, mut order) = rack();
        rack.note_delivered(&mut order, at(20), &run(0..100, 10, false), None);
        rack.note_delivered(&mut order, at(21), &run(200..300, 11, false), None);
        assert!(!order.seen);
        // What was sent again says nothing of order, and does not forget what has arrived.
        rack.note_delivered(&mut order, at(25), &run(100..150, 12, true), None);
        assert!(!order.seen);
        rack.note_delivered(&mut order, at(26), &run(150..200, 11, false), None);
        assert!(order.seen);
        let mut order = Order::new();
        order.note_reordering();
        assert!(order.seen, "as does a loss that was none");
    }

    /// RFC 8985 §6.2 step 2.
    #[test]
    fn what_was_sent_again_counts_if_it_is_that_which_has_arrived() {
        let (mut rack, mut order) = rack();
        rack.note_delivered(&mut order, at(20), &run(0..100, 10, false), None);
        assert_eq!((rack.rtt, order.rtt_min()), (Duration::from_millis(10), rack.rtt));
        let newest = rack.newest;
        let again = run(100..200, 15, true);
        rack.note_delivered(&mut order, at(24), &again, None);
        assert_eq!(rack.newest, newest, "sooner than ever: it was the first sending");
        let echo = |millis| Some(Echo { ecr: millis, ts_offset: 0 });
        rack.note_delivered(&mut order, at(26), &again, echo(14));
        assert_eq!(rack.newest, newest, "it says so itself");
        rack.note_delivered(&mut order, at(26), &again, echo(15));
        assert_eq!((rack.newest, rack.rtt), (again.mark(), Duration::from_millis(11)));
        rack.note_delivered(&mut order, at(30), &run(200..300, 12, false), None);
        assert_eq!(rack.newest, again.mark(), "what was sent last, not what arrived last");
        assert_eq!(order.rtt_min(), Duration::from_millis(10));
    }

    /// RFC 8985 §6.2 step 4.
    #[test]
    fn the_window_widens_once_a_round_trip_and_narrows_after_sixteen_recoveries() {
        let (mut rack, mut order) = rack();
        rack.note_eager(&mut order, 100, 200);
        rack.note_eager(&mut order, 199, 300);
        assert_eq!(order.quarters, 2);
        rack.note_eager(&mut order, 200, 300);
        assert_eq!(order.quarters, 3);
        for _ in 1..PERSIST {
            order.note_recovered();
        }
        assert_eq!(order.quarters, 3);
        order.note_recovered();
        assert_eq!(order.quarters, 1);
    }
}
