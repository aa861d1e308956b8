//! How often requests may go to one more server when one has failed them and another one as well: a share
//! of those that are answered, and a few in any case.
//!
//! That each request of a server that dies goes to another one is what masking is for, and not limited. But
//! where the next one dies, too, it may be the requests that kill them, and all of them would go round.

use crate::time::Instant;

/// What one repetition costs.
const COST: u64 = 100;
/// What one answer brings: a fifth of a repetition.
const SHARE: u64 = 20;
/// What a second brings: ten repetitions.
const FLOOR: u64 = 10 * COST;
/// The most that is put by.
const MOST: u64 = 10 * FLOOR;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    left: u64,
    /// Up to when seconds have been counted.
    at: Instant,
}

impl Budget {
    pub(super) const FULL: Self = Self { left: MOST, at: Instant::ZERO };

    /// A request was answered.
    pub(super) fn on_answered(&mut self) {
        self.left = MOST.min(self.left + SHARE);
    }

    /// Whether one may be repeated; it is, then.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let passed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.at = now;
        self.left = MOST.min(self.left.saturating_add(passed.saturating_mul(FLOOR) / 1000));
        let enough = self.left >= COST;
        self.left -= if enough { COST } else { 0 };
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    #[test]
    fn so_many_at_once_and_then_a_few_a_second_and_a_share_of_what_is_answered() {
        let mut budget = Budget::FULL;
        let start = Instant::from_millis(1000);
        let taken = |budget: &mut Budget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, start), 100);
        assert_eq!(taken(&mut budget, start + Duration::from_secs(2)), 20);
        (0..50).for_each(|_| budget.on_answered());
        assert_eq!(taken(&mut budget, start + Duration::from_secs(2)), 10);
        // What is not used is not put by for ever.
        assert_eq!(taken(&mut budget, start + Duration::from_secs(2000)), 100);
    }
}
