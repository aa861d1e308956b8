//! How often something is put back that is taken away again.
//!
//! A few times are accidents, and are mended at once. Whoever takes it away again and again is another
//! manager of this host, and two that fight help nobody: the pauses between the attempts grow. While
//! something stays as it must not be it is told, and the address may go to the peer.

use crate::time::{Duration, Instant};

use super::view::Fault;

/// How long a repair may take to show.
pub(super) const GRACE: Duration = Duration::from_millis(300);
/// So many attempts come as soon as the one before can have shown.
const QUICK: u32 = 3;
const PAUSE_QUICK: Duration = Duration::from_millis(100);
/// The pauses between the later ones.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Quiet for so long, it begins anew.
const FORGET: Duration = Duration::from_secs(120);
/// More faults at a time than this are not kept apart; all of them are told.
const ENTRIES_MAX: usize = 512;

/// What to do about a fault now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judgement {
    /// Put it right; it is the attempt of this number.
    Try(u32),
    /// Nothing for now.
    Leave,
}

/// What has been tried.
#[derive(Debug, Default)]
pub(super) struct Patience {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    fault: Fault,
    tries: u32,
    tried_at: Instant,
    next_at: Instant,
}

impl Patience {
    /// `fault` is there at `now`.
    pub(super) fn judge(&mut self, now: Instant, fault: &Fault) -> Judgement {
        let known = self.entries.iter_mut().find(|entry| entry.fault == *fault);
        let Some(entry) = known else {
            if self.entries.len() >= ENTRIES_MAX {
                return Judgement::Leave;
            }
            let next_at = now + pause_after(1);
            let fault = fault.clone();
            self.entries.push(Entry { fault, tries: 1, tried_at: now, next_at });
            return Judgement::Try(1);
        };
        if now >= entry.next_at {
            entry.tries += 1;
            (entry.tried_at, entry.next_at) = (now, now + pause_after(entry.tries));
            return Judgement::Try(entry.tries);
        }
        Judgement::Leave
    }

    /// Whether `fault`, which is there at `now`, is more than what a moment ago was put right.
    pub(super) fn is_told(&self, now: Instant, fault: &Fault) -> bool {
        let known = self.entries.iter().find(|entry| entry.fault == *fault);
        known.is_none_or(|entry| now.since(entry.tried_at) >= GRACE)
    }

    /// The attempt that was just made has failed: there is nothing to wait for.
    pub(super) fn failed(&mut self, fault: &Fault) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.fault == *fault) {
            entry.tried_at = Instant::ZERO;
        }
    }

    /// When to judge again at the latest.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let times = self.entries.iter().flat_map(|entry| [entry.tried_at + GRACE, entry.next_at]);
        times.filter(|time| *time > now).min()
    }

    /// Forgets what has long been in order.
    pub(super) fn forget(&mut self, now: Instant) {
        self.entries.retain(|entry| now.since(entry.next_at) < FORGET);
    }
}

fn pause_after(tries: u32) -> Duration {
    match tries.checked_sub(QUICK) {
        None => PAUSE_QUICK,
        Some(later) => PAUSE_MIN.saturating_mul(1 << later.min(16)).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(1_000_000 + millis)
    }

    /// At each of these times the fault is there: what is done about it, and whether it is told.
    fn judged(patience: &mut Patience, times: &[u64]) -> Vec<(Judgement, bool)> {
        let judge = |millis: &u64| {
            let judgement = patience.judge(at(*millis), &Fault::TunDown);
            (judgement, patience.is_told(at(*millis), &Fault::TunDown))
        };
        times.iter().map(judge).collect()
    }

    #[test]
    fn what_is_taken_away_once_is_put_back_at_once_and_not_told() {
        use Judgement::{Leave, Try};
        let mut patience = Patience::default();
        assert_eq!(
            judged(&mut patience, &[0, 10, 99]),
            [(Try(1), false), (Leave, false), (Leave, false)]
        );
        assert_eq!(patience.deadline(at(10)), Some(at(100)));
        // Another accident soon after.
        assert_eq!(judged(&mut patience, &[500, 510]), [(Try(2), false), (Leave, false)]);
    }

    #[test]
    fn who_takes_it_away_again_and_again_is_fought_at_growing_intervals_and_told_of() {
        use Judgement::{Leave, Try};
        let mut patience = Patience::default();
        let times = [0, 100, 200, 210, 500, 1199, 1200, 1300, 1500, 3199, 3200, 7199, 7200];
        assert_eq!(
            judged(&mut patience, &times),
            [
                (Try(1), false),
                (Try(2), false),
                (Try(3), false),
                (Leave, false),
                (Leave, true),
                (Leave, true),
                (Try(4), false),
                (Leave, false),
                (Leave, true),
                (Leave, true),
                (Try(5), false),
                (Leave, true),
                (Try(6), false),
            ]
        );
        let mut tries = 0;
        for second in 8..3600 {
            let judged = patience.judge(at(second * 1000), &Fault::TunDown);
            tries += u32::from(matches!(judged, Try(_)));
        }
        assert!((55..65).contains(&tries), "once a minute in the end: {tries}");
        // Another fault has a patience of its own.
        assert_eq!(patience.judge(at(0), &Fault::TunMtu), Try(1));
    }

    #[test]
    fn what_cannot_be_put_back_is_told_at_once() {
        let mut patience = Patience::default();
        assert_eq!(judged(&mut patience, &[0]), [(Judgement::Try(1), false)]);
        patience.failed(&Fault::TunDown);
        assert_eq!(judged(&mut patience, &[1]), [(Judgement::Leave, true)]);
    }

    #[test]
    fn two_quiet_minutes_are_forgiveness() {
        let mut patience = Patience::default();
        judged(&mut patience, &[0, 1000]);
        patience.forget(at(121_099));
        assert_eq!(patience.judge(at(121_099), &Fault::TunDown), Judgement::Try(3));
        patience.forget(at(500_000));
        assert_eq!(patience.judge(at(500_000), &Fault::TunDown), Judgement::Try(1));
    }
}
