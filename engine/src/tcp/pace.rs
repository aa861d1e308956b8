//! Pacing: on a long path a window is spread over the round trip instead of leaving at once.
//!
//! What is sent runs ahead of a clock that ticks at the pacing rate, by a burst at most. A burst is
//! an initial window, or what two milliseconds bring, whichever is more; so what was always allowed
//! goes at once, and the 1 ms of the timer wheel is fine enough. The rate is twice the window per
//! round trip in slow start, which has to double it, and 5/4 later, which leaves acknowledgments
//! the say.
//!
//! ```text
//!     allowed    |    ┌──── window
//!     bytes      |   ╱
//!                |  ╱   rate
//!                | ╱
//!                |╱ a burst
//!                └──────────────► time since the connection was silent
//! ```
//!
//! On a LAN none of this is worth its cost: acknowledgments come faster than any timer.

use super::Tcb;
use crate::time::{Duration, Instant};

/// Where the pacing clock stands. It is kept while something is in flight; after that a burst is
/// allowed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Pacer {
    /// When what was sent would have left at the rate.
    at: Instant,
    /// When more may go: a deadline of the connection.
    pub(super) due: Instant,
}

impl Pacer {
    pub(super) const fn new() -> Self {
        Self { at: Instant::ZERO, due: Instant::NEVER }
    }
}

impl Tcb {
    /// How long `bytes` take at the pacing rate; `None` where there is no need for one.
    fn pacing_time(&self, bytes: u64) -> Option<Duration> {
        let srtt = self.snd.rtt.smoothed().filter(|srtt| *srtt >= PACED_FROM)?;
        let window = u64::from(self.snd.congestion.window().max(1));
        let (times, of) = if self.snd.congestion.in_slow_start() { (1, 2) } else { (4, 5) };
        let nanos = u64::try_from(srtt.as_nanos()).unwrap_or(u64::MAX).min(NANOS_MAX);
        let time = u128::from(bytes) * u128::from(nanos) * times / (of * u128::from(window));
        Some(Duration::from_nanos(u64::try_from(time).unwrap_or(NANOS_MAX)))
    }

    /// Bytes that pacing lets go now, if it is at least `wanted`; else none, and when to ask again
    /// is noted.
    pub(super) fn paced_room(&mut self, now: Instant, wanted: u64) -> u64 {
        let Some(unit) = self.pacing_time(PACING_UNIT) else { return u64::MAX };
        // A segment more, so that rounding never holds back what a burst allows.
        let burst = u64::from(self.initial_window()) + self.mss_u64();
        let burst = self.pacing_time(burst).unwrap_or_default().max(BURST_MIN);
        let Some(flight) = &mut self.snd.flight else { return u64::MAX };
        let ahead = flight.pacer.at.since(now);
        let time = burst.saturating_sub(ahead).as_nanos();
        let room = time * u128::from(PACING_UNIT) / unit.as_nanos().max(1);
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        if room >= wanted {
            flight.pacer.due = Instant::NEVER;
            return room;
        }
        flight.pacer.due = (flight.pacer.at - burst / 2).max(now + Duration::from_nanos(1));
        0
    }

    /// `len` bytes went out.
    pub(super) fn note_paced(&mut self, now: Instant, len: u64) {
        let Some(time) = self.pacing_time(len) else { return };
        if let Some(flight) = &mut self.snd.flight {
            flight.pacer.at = flight.pacer.at.max(now) + time;
        }
    }
}

/// Shorter round trips are not paced.
const PACED_FROM: Duration = Duration::from_millis(8);
/// Two ticks of the wheel.
const BURST_MIN: Duration = Duration::from_millis(2);
/// Bytes for which a time is computed, to divide by.
const PACING_UNIT: u64 = 1 << 16;
/// A round trip that is longer is nobody's.
const NANOS_MAX: u64 = 1 << 40;
