//! How long a client waited.

use std::time::{Duration, Instant};

/// Measures the time without progress while there was something to wait for.
///
/// ```text
///   progress   progress                     progress    (thinking)   request   reply
///   ───┼──────────┼────────────────────────────┼────────────────────────┼────────┼──
///      ╰── gap ───╯╰──────────── gap ──────────╯      does not count     ╰─ gap ──╯
/// ```
#[derive(Debug, Default)]
pub(super) struct Meter {
    since: Option<Instant>,
    longest: Option<(Duration, Instant)>,
}

impl Meter {
    /// Notes what a turn of the connection brought, and returns the gap that just ended.
    pub(super) fn note(&mut self, now: Instant, progress: bool, waiting: bool) -> Option<Duration> {
        let mut ended = None;
        if progress {
            ended = self.since.map(|since| now.saturating_duration_since(since));
            self.since = None;
        }
        self.since = if waiting { self.since.or(Some(now)) } else { None };
        if let Some(gap) = ended.filter(|gap| self.longest.is_none_or(|(most, _)| *gap > most)) {
            self.longest = Some((gap, now));
        }
        ended
    }

    /// How long the client has been waiting by now.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The longest gap that ended.
    pub(super) fn longest(&self) -> Duration {
        self.longest.map_or(Duration::ZERO, |(gap, _)| gap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn only_waiting_counts() {
        let start = clock::now();
        let mut meter = Meter::default();
        assert_eq!(meter.note(start, false, true), None);
        assert_eq!(meter.note(start + ms(10), true, true), Some(ms(10)));
        assert_eq!(meter.note(start + ms(12), true, false), Some(ms(2)));
        // A thousand milliseconds of thinking, then a request that is answered in three.
        assert_eq!(meter.note(start + ms(1_012), false, true), None);
        assert_eq!(meter.waited(start + ms(1_014)), ms(2));
        assert_eq!(meter.note(start + ms(1_015), true, false), Some(ms(3)));
        assert_eq!(meter.longest(), ms(10));
        assert_eq!(meter.waited(start + ms(9_000)), Duration::ZERO);
    }

    #[test]
    fn turns_without_progress_do_not_cut_a_gap_short() {
        let start = clock::now();
        let mut meter = Meter::default();
        for turn in 0..50 {
            assert_eq!(meter.note(start + ms(turn), false, true), None);
        }
        assert_eq!(meter.note(start + ms(50), true, true), Some(ms(50)));
        assert_eq!(meter.longest(), ms(50));
    }
}
