//! When slow start has found what the path can carry: HyStart++, RFC 9406.
//!
//! Before a queue overflows it grows, and the round trip with it. If the shortest round trip of
//! one round is clearly longer than that of the round before, growth slows to a quarter
//! (conservative slow start); if that persists for five rounds, slow start is over, and nothing
//! had to be lost for it. If the round trip is short again it was a mistake, and slow start goes on.
//!
//! Only while nothing is known of the path: after the first reduction ssthresh ends slow start.

use super::Tcb;
use crate::time::Duration;

/// The variables of RFC 9406 §4.2. They last as long as something is in flight: whoever sends
/// without a pause is the one whom they concern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HyStart {
    /// windowEnd: the round is over when this is acknowledged.
    round_end: u64,
    /// lastRoundMinRTT.
    before: Duration,
    /// currentRoundMinRTT.
    current: Duration,
    /// rttSampleCount.
    samples: u8,
    /// cssBaselineMinRtt, and how many rounds of conservative slow start there were.
    cautious: Option<(Duration, u8)>,
}

/// How the window grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Growth {
    /// By what was acknowledged.
    Whole,
    /// By a quarter of it: CSS_GROWTH_DIVISOR.
    Quarter,
    /// Slow start is over.
    Done,
}

impl HyStart {
    /// A first round begins. Nothing is known of one before.
    pub(super) const fn new(round_end: u64) -> Self {
        Self {
            round_end,
            before: Duration::MAX,
            current: Duration::MAX,
            samples: 0,
            cautious: None,
        }
    }

    /// An acknowledgment up to `una`, with `nxt` the next to be sent; it took `rtt`.
    fn on_ack(&mut self, una: u64, nxt: u64, rtt: Duration) -> Growth {
        if una >= self.round_end {
            self.next_round(nxt);
        }
        self.current = self.current.min(rtt);
        self.samples = self.samples.saturating_add(1);
        if self.samples < N_RTT_SAMPLE {
            return self.growth();
        }
        match self.cautious {
            None if self.before != Duration::MAX => {
                let threshold = (self.before / 8).clamp(MIN_RTT_THRESH, MAX_RTT_THRESH);
                if self.current >= self.before + threshold {
                    self.cautious = Some((self.current, 0));
                }
            }
            Some((baseline, _)) if self.current < baseline => self.cautious = None,
            None | Some(_) => (),
        }
        self.growth()
    }

    fn next_round(&mut self, nxt: u64) {
        self.round_end = nxt;
        self.before = self.current;
        self.current = Duration::MAX;
        self.samples = 0;
        if let Some((_, rounds)) = &mut self.cautious {
            *rounds += 1;
        }
    }

    const fn growth(&self) -> Growth {
        match self.cautious {
            None => Growth::Whole,
            Some((_, rounds)) if rounds < CSS_ROUNDS => Growth::Quarter,
            Some(_) => Growth::Done,
        }
    }
}

impl Tcb {
    /// How slow start goes on after an acknowledgment, if this is the first slow start.
    pub(super) fn slow_start_growth(&mut self) -> Growth {
        let (una, nxt) = (self.snd.una, self.snd.nxt);
        let searching = self.snd.congestion.searching();
        let Some(flight) = self.snd.flight.as_mut().filter(|_| searching) else {
            return Growth::Whole;
        };
        flight.hystart.on_ack(una, nxt, flight.rack.rtt())
    }
}

/// RFC 9406 §4.3.
const MIN_RTT_THRESH: Duration = Duration::from_millis(4);
const MAX_RTT_THRESH: Duration = Duration::from_millis(16);
const N_RTT_SAMPLE: u8 = 8;
const CSS_ROUNDS: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// A round of ten acknowledgments, all of which took `millis`.
    fn round(hystart: &mut HyStart, number: u64, millis: u64) -> Growth {
        let mut growth = Growth::Whole;
        for ack in 1..=10 {
            let una = number * 10 + ack - 1;
            growth = hystart.on_ack(una, (number + 1) * 10, Duration::from_millis(millis));
        }
        growth
    }

    #[test]
    fn a_longer_round_trip_slows_down_and_after_five_rounds_ends_slow_start() {
        let mut hystart = HyStart::new(0);
        assert_eq!(round(&mut hystart, 0, 40), Growth::Whole);
        assert_eq!(round(&mut hystart, 1, 44), Growth::Whole, "an eighth is 5 ms");
        assert_eq!(round(&mut hystart, 2, 50), Growth::Quarter);
        for number in 3..7 {
            assert_eq!(round(&mut hystart, number, 50), Growth::Quarter, "{number}");
        }
        assert_eq!(round(&mut hystart, 7, 50), Growth::Done);
    }

    #[test]
    fn a_round_trip_that_shrinks_again_was_a_mistake() {
        let mut hystart = HyStart::new(0);
        round(&mut hystart, 0, 40);
        assert_eq!(round(&mut hystart, 1, 50), Growth::Quarter);
        assert_eq!(round(&mut hystart, 2, 45), Growth::Whole);
    }

    #[test]
    fn few_samples_and_short_times_prove_nothing() {
        let mut hystart = HyStart::new(0);
        round(&mut hystart, 0, 40);
        for _ in 0..7 {
            assert_eq!(hystart.on_ack(11, 20, Duration::from_millis(90)), Growth::Whole);
        }
        let mut hystart = HyStart::new(0);
        round(&mut hystart, 0, 1);
        assert_eq!(round(&mut hystart, 1, 4), Growth::Whole, "less than 4 ms more");
    }

    /// Two rounds of eight acknowledgments, in milliseconds; what the second leads to.
    fn second(first: [u64; 8], second: [u64; 8]) -> Growth {
        let mut hystart = HyStart::new(0);
        let mut growth = Growth::Whole;
        for (una, millis) in (0..).zip(first.into_iter().chain(second)) {
            growth =
                hystart.on_ack(una, if una < 8 { 8 } else { 16 }, Duration::from_millis(millis));
        }
        growth
    }

    #[test]
    fn the_shortest_round_trips_of_two_rounds_are_compared() {
        assert_eq!(second([40; 8], [45; 8]), Growth::Quarter, "an eighth more, in eight samples");
        assert_eq!(second([40; 8], [44; 8]), Growth::Whole);
        assert_eq!(second([40; 8], [90, 90, 44, 90, 90, 90, 90, 90]), Growth::Whole);
        assert_eq!(second([90, 90, 40, 90, 90, 90, 90, 90], [45; 8]), Growth::Quarter);
        assert_eq!(second([400; 8], [416; 8]), Growth::Quarter, "16 ms are enough anywhere");
        assert_eq!(second([400; 8], [415; 8]), Growth::Whole);
    }
}
