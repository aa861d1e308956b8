//! CUBIC, RFC 9438: in congestion avoidance the window is a cubic function of the *time* since the
//! last reduction, so that a long path recovers as fast as a short one.
//!
//! ```text
//!     cwnd                                    .        W(t) = C·(t − K)³ + W_max
//!      |                                     .
//!      W_max - - - - - . - - . - - - . - -            flat around the window that was too much,
//!      |         .                   :                then searching further
//!      |     .                       :
//!      |  .                          :
//!      | . 0.7·W_max                 :
//!      +-----------------------------:------ t
//!      0                             K
//! ```
//!
//! Beside it runs an estimate of what Reno would have (`w_est`), and the larger of both is used:
//! on short paths CUBIC is never worse. Arithmetic is in integers: bytes, and time in 1/1024 s.

use super::{
    Acked, CongestionControl, Limited, WINDOW_MAX, countable, decayed, flight_size, slow_start,
    still_good,
};
use crate::time::{Duration, Instant};

/// Windows in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Cubic {
    cwnd: u32,
    ssthresh: u32,
    /// Where the curve is flat: the window at the last reduction, less after fast convergence.
    /// Zero: there is none to remember, §4.8 and §4.10.
    w_max: u32,
    /// cwnd just before the last reduction: up to there the estimate grows slower than Reno.
    cwnd_prior: u32,
    /// The time from the epoch to the flat point, in 1/1024 s.
    k: u32,
    /// What Reno would have by now, §4.3.
    w_est: u32,
    /// What the integer division left over of the growth of cwnd, in bytes² below cwnd.
    rest: u32,
    /// The same for `w_est`.
    rest_est: u32,
    /// How long this stage of congestion avoidance has lasted, in microseconds, without the times
    /// in which the window was not used.
    elapsed: u32,
    /// Up to when `elapsed` was counted; [`Instant::NEVER`]: no stage has begun.
    seen: Instant,
}

impl Cubic {
    pub(super) const fn new(initial: u32) -> Self {
        Self::plain(initial, u32::MAX)
    }

    pub(super) const fn plain(cwnd: u32, ssthresh: u32) -> Self {
        Self {
            cwnd,
            ssthresh,
            w_max: 0,
            cwnd_prior: 0,
            k: 0,
            w_est: 0,
            rest: 0,
            rest_est: 0,
            elapsed: 0,
            seen: Instant::NEVER,
        }
    }

    /// A stage of congestion avoidance begins, §4.2. Without a window to return to the curve
    /// begins at its flat point.
    fn begin(&mut self, now: Instant, mss: u32) {
        self.elapsed = 0;
        self.seen = now;
        self.w_max = self.w_max.max(self.cwnd);
        self.k = flat_after(self.w_max - self.cwnd, mss);
        self.w_est = self.cwnd;
    }

    /// §4.2 to §4.5.
    ///
    /// Deviation: where no window is known to return to (after a timeout, or a slow start that no
    /// loss has ended) the curve is flat for seconds. As in Linux the window then grows by a
    /// twentieth a round trip at least.
    fn avoid_congestion(&mut self, now: Instant, acked: u32, mss: u32, srtt: Duration) {
        if self.seen == Instant::NEVER {
            self.begin(now, mss);
        }
        let elapsed = self.count_time(now);
        self.grow_estimate(acked, mss);
        let least = if self.k == 0 { self.cwnd + self.cwnd / BLIND_SHARE } else { self.cwnd };
        let target = if self.curve(elapsed, mss) < self.w_est {
            self.cwnd = self.cwnd.max(self.w_est);
            least
        } else {
            self.curve(elapsed + srtt, mss).clamp(least, self.cwnd + self.cwnd / 2)
        };
        // (target − cwnd) / cwnd per segment acknowledged.
        let growth = u64::from(target.saturating_sub(self.cwnd)) * u64::from(acked);
        let (more, rest) = divide(growth, self.rest, self.cwnd);
        self.rest = rest;
        self.cwnd = self.cwnd.saturating_add(more).min(WINDOW_MAX);
    }

    /// The time since the stage began. What is less than a microsecond counts the next time.
    fn count_time(&mut self, now: Instant) -> Duration {
        let more = u32::try_from(now.since(self.seen).as_micros()).unwrap_or(u32::MAX);
        self.seen = self.seen + Duration::from_micros(more.into());
        self.elapsed = self.elapsed.saturating_add(more);
        Duration::from_micros(self.elapsed.into())
    }

    /// Reno with our decrease of 0.7 needs an increase of α = 3·(1 − β) ÷ (1 + β) = 9/17 to have
    /// the same average; from the old window on it grows as Reno does. §4.3.
    fn grow_estimate(&mut self, acked: u32, mss: u32) {
        let whole = u64::from(acked) * u64::from(mss);
        let growth = if self.w_est < self.cwnd_prior { whole * 9 / 17 } else { whole };
        let (more, rest) = divide(growth, self.rest_est, self.cwnd);
        self.rest_est = rest;
        self.w_est = self.w_est.saturating_add(more).min(WINDOW_MAX);
    }

    /// W_cubic after `elapsed`, equation 1.
    fn curve(&self, elapsed: Duration, mss: u32) -> u32 {
        let (t, k) = (ticks(elapsed), u64::from(self.k));
        let offset = cube(t.abs_diff(k), mss);
        let (flat, grown) = (u64::from(self.w_max), t >= k);
        let window = if grown { flat + offset } else { flat.saturating_sub(offset) };
        u32::try_from(window).unwrap_or(WINDOW_MAX).min(WINDOW_MAX)
    }

    /// §4.6 and §4.7. A window that did not reach the last flat point shares its path with more
    /// than before: leave room for them.
    fn reduce(&mut self, flight: u64, mss: u32) {
        let cwnd = self.cwnd;
        self.w_max = if cwnd < self.w_max { part(cwnd.into(), 85, 100) } else { cwnd };
        self.cwnd_prior = cwnd;
        self.ssthresh = part(flight_size(flight, cwnd), 7, 10).max(2 * mss);
        self.seen = Instant::NEVER;
    }
}

impl CongestionControl for Cubic {
    fn window(&self) -> u32 {
        self.cwnd
    }

    fn threshold(&self) -> u32 {
        self.ssthresh
    }

    /// A window that is not used does not grow, and the time in which it was not used does not
    /// count, §5.8.
    fn on_ack(&mut self, Acked { now, bytes, mss, srtt, limited, growth }: Acked) {
        if limited == Limited::ByOther {
            self.on_pause(now);
        } else if self.cwnd < self.ssthresh {
            self.cwnd = slow_start(self.cwnd, self.ssthresh, countable(bytes), growth);
        } else {
            self.avoid_congestion(now, countable(bytes), mss, srtt);
        }
    }

    fn end_search(&mut self) {
        self.ssthresh = self.cwnd;
    }

    fn on_loss(&mut self, flight: u64, mss: u32) {
        self.reduce(flight, mss);
        self.cwnd = self.ssthresh;
    }

    /// §4.8: from one segment, and the curve that follows begins at its flat point.
    fn on_timeout(&mut self, flight: u64, mss: u32) {
        self.reduce(flight, mss);
        self.w_max = 0;
        self.cwnd = mss;
    }

    fn on_timeout_again(&mut self, mss: u32) {
        self.w_max = 0;
        self.seen = Instant::NEVER;
        self.cwnd = mss;
    }

    fn on_idle(&mut self, halvings: u32, initial: u32) {
        let window = decayed(self.cwnd, halvings, initial);
        if window < self.cwnd {
            self.ssthresh = self.ssthresh.max(still_good(self.cwnd));
            self.cwnd = window;
            self.seen = Instant::NEVER;
        }
    }

    fn on_pause(&mut self, now: Instant) {
        if self.seen != Instant::NEVER {
            self.seen = now;
        }
    }

    /// §4.9: everything is as it was, the place on the curve too.
    fn on_undo(&mut self, now: Instant, window: u32) {
        self.cwnd = self.cwnd.max(window);
        self.on_pause(now);
    }

    fn on_mss(&mut self, mss: u32) {
        self.cwnd = self.cwnd.max(mss);
    }
}

/// What a window grows by in a round trip, at least, while no better one is known.
const BLIND_SHARE: u32 = 20;

/// C·(t − K)³ with C = 0.4 segments/s³, in bytes; `offset` in 1/1024 s. Beyond 256 s it is more
/// than any window.
fn cube(offset: u64, mss: u32) -> u64 {
    let offset = offset.min(1 << 18);
    (((offset * offset * offset) >> 10) * u64::from(mss) * 2 / 5) >> 20
}

/// K: the time in which the curve climbs `gap` bytes to its flat point, equation 2.
fn flat_after(gap: u32, mss: u32) -> u32 {
    let cubed = ((u64::from(gap.min(WINDOW_MAX)) * 5) << 29) / u64::from(mss.max(1));
    cube_root(cubed)
}

/// The integer cube root of a number below 2⁶³, rounded down: bit by bit, from above.
fn cube_root(number: u64) -> u32 {
    (0..21).rev().fold(0, |root: u32, bit| {
        let tried = u64::from(root | 1 << bit);
        if tried * tried * tried <= number { root | 1 << bit } else { root }
    })
}

fn ticks(time: Duration) -> u64 {
    u64::try_from(time.as_micros() * 1024 / 1_000_000).unwrap_or(u64::MAX)
}

/// `bytes` times `numerator` ÷ `denominator`, as a window.
fn part(bytes: u64, numerator: u64, denominator: u64) -> u32 {
    let part = bytes.min(WINDOW_MAX.into()) * numerator / denominator;
    u32::try_from(part).unwrap_or(WINDOW_MAX)
}

/// (`growth` + `rest`) ÷ `by`, and what is left over.
fn divide(growth: u64, rest: u32, by: u32) -> (u32, u32) {
    let (growth, by) = (growth + u64::from(rest), u64::from(by.max(1)));
    let rest = u32::try_from(growth % by).unwrap_or(0);
    (u32::try_from(growth / by).unwrap_or(WINDOW_MAX), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_exact_and_the_curve_is_flat_at_k() {
        for (number, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (1 << 60, 1 << 20)] {
            assert_eq!(cube_root(number), root, "{number}");
        }
        assert_eq!(cube_root((1 << 63) - 1), (1 << 21) - 1);
        // W_max 100 segments, reduced to 70: K = ∛(30 ÷ 0.4) = 4.217 s.
        let k = flat_after(30_000, 1000);
        assert!((4317..=4319).contains(&k), "{k}");
        assert!((29_950..=30_000).contains(&cube(k.into(), 1000)));
    }

    #[test]
    fn moments_of_less_than_a_microsecond_add_up() {
        let start = Instant::from_millis(1);
        let mut cubic = Cubic { seen: start, ..Cubic::plain(1000, 1000) };
        for acks in 1..=1000 {
            cubic.count_time(start + Duration::from_nanos(1900) * acks);
        }
        assert_eq!(cubic.elapsed, 1900);
    }

    /// RFC 9438 §4.7.
    #[test]
    fn only_a_window_below_the_last_one_leaves_more_room() {
        for (cwnd, w_max) in [(999, 849), (1000, 1000), (1001, 1001)] {
            let mut cubic = Cubic { w_max: 1000, ..Cubic::plain(cwnd, 500) };
            cubic.reduce(cwnd.into(), 1);
            assert_eq!(cubic.w_max, w_max);
        }
    }
}
