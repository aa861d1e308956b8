//! The write gate: until when an owner may speak (I3).
//!
//! ```text
//!   primary   sent t ──────────────┐                  gate closes at t + detection − margin
//!                                   ▼
//!   standby              heard r ≥ t, echoes t        takes over at r + detection, not before
//! ```
//!
//! The echo is the primary's own clock value, so the lease compares two readings of one clock. A
//! beat that lay in a socket buffer while a process slept renews nothing: it echoes an old value.

use super::super::types::Timing;
use crate::time::Instant;

/// What a standby's echoes allow a duplex primary. Only ever extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) struct Lease {
    until: Instant,
}

impl Lease {
    /// The lease of a primary that enters duplex at `now`. The standby arms itself only by a beat
    /// that says so, and no such beat was sent before `now`. Until it echoes one, it may as well
    /// have left: an arbiter's grant, which ends at `granted`, is not prolonged by what it said.
    #[must_use]
    pub(in crate::role) fn begin(now: Instant, timing: &Timing, granted: Instant) -> Self {
        Self { until: term(now, timing).min(granted) }
    }

    /// At `now` it is learned that the standby has heard what was sent at `sent` (own clock).
    pub(in crate::role) fn renew(&mut self, now: Instant, sent: Instant, timing: &Timing) {
        assert!(sent <= now, "I3: a lease rests on what was sent, never on what will be");
        self.until = self.until.max(term(sent, timing));
    }

    /// The first instant at which nothing may be sent any more.
    #[must_use]
    pub(in crate::role) const fn until(&self) -> Instant {
        self.until
    }

    /// Whether it has run out at `now`.
    #[must_use]
    pub(in crate::role) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }
}

/// The end of a lease that rests on a beat sent at `sent`.
fn term(sent: Instant, timing: &Timing) -> Instant {
    sent + timing.detection.saturating_sub(timing.margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_what_was_sent_and_is_never_shortened() {
        let timing = Timing::default();
        let mut lease = Lease::begin(Instant::from_millis(100), &timing, Instant::NEVER);
        assert_eq!(lease.until(), Instant::from_millis(145));
        let now = Instant::from_millis(140);
        lease.renew(now, Instant::from_millis(130), &timing);
        lease.renew(now, Instant::from_millis(90), &timing);
        assert_eq!(lease.until(), Instant::from_millis(175));
        assert!(lease.is_over(Instant::from_millis(175)));
    }

    #[test]
    #[should_panic(expected = "I3: a lease rests on what was sent")]
    fn no_lease_rests_on_a_beat_of_the_future() {
        let timing = Timing::default();
        let mut lease = Lease::begin(Instant::from_millis(100), &timing, Instant::NEVER);
        lease.renew(Instant::from_millis(110), Instant::from_millis(111), &timing);
    }
}
