//! A host's clock: an origin and a rate. Nobody shares one.

use super::plan::ClockPlan;
use standin::time::Instant;

/// Maps the world's true time, in nanoseconds, to what one host reads, and back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: u64,
    ppm: i64,
    wall: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    pub(super) fn new(plan: &ClockPlan) -> Self {
        Self {
            origin: plan.origin_us.saturating_mul(1000),
            ppm: plan.ppm.clamp(-40_000, 40_000),
            wall: i64::try_from(plan.wall).unwrap_or(0),
        }
    }

    /// What the monotonic clock shows.
    pub(super) fn at(&self, now: u64) -> Instant {
        let gone = i128::from(now) * (MILLION + i128::from(self.ppm)) / MILLION;
        Instant::from_nanos(self.origin + gone as u64)
    }

    /// The first true time at which the monotonic clock shows `instant`; `None`: never.
    pub(super) fn when(&self, instant: Instant) -> Option<u64> {
        if instant == Instant::NEVER {
            return None;
        }
        let gone = i128::from(instant.as_nanos().saturating_sub(self.origin));
        let rate = MILLION + i128::from(self.ppm);
        u64::try_from((gone * MILLION + rate - 1) / rate).ok()
    }

    /// What the wall clock shows, in seconds since 1970.
    pub(super) fn wall(&self, now: u64) -> u64 {
        u64::try_from(self.wall + (now / 1_000_000_000) as i64).unwrap_or(0)
    }

    /// The wall clock is set.
    pub(super) fn jump(&mut self, seconds: i64) {
        self.wall = self.wall.saturating_add(seconds).max(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_due_when_the_world_reaches_it_and_not_before() {
        for ppm in [-20_000, -37, 0, 1, 19_999] {
            let clock = Clock::new(&ClockPlan { origin_us: 77, ppm, wall: 0 });
            for now in [0_u64, 1, 999, 123_456_789, 60_000_000_001] {
                let shown = clock.at(now);
                let when = clock.when(shown).expect("reached");
                assert!(when <= now && clock.at(when) >= shown, "{ppm} {now} {when}");
                let later = Instant::from_nanos(shown.as_nanos() + 1);
                assert!(clock.when(later).is_some_and(|when| clock.at(when) >= later));
            }
        }
    }
}
