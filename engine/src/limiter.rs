//! Which lines may be written about what others can cause.
//!
//! A stranger that can make the engine complain can make it fill a disk, so such a line is told apart by its
//! *kind* and not by its words, and each kind has a pause: the first line at once, the next after ten
//! seconds, and twice as long each time that it goes on, up to ten minutes. What was left out is
//! counted, and the next line that is written says how much. A kind that has been quiet begins anew.
//!
//! Kinds are few by nature: a reason, an endpoint. Should there be more than [`KINDS_MAX`] at a time,
//! those beyond are left out, so that nobody gains lines by being inventive.

use core::fmt;

use arrayvec::ArrayVec;

use crate::time::{Duration, Instant};

/// Kinds of one limiter at a time.
pub const KINDS_MAX: usize = 16;
/// From the first line of a kind to the second.
pub const PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Decides about the lines of one place in the code.
#[derive(Clone, Debug)]
pub struct Limiter<K> {
    kinds: ArrayVec<Kind<K>, KINDS_MAX>,
}

#[derive(Clone, Debug)]
struct Kind<K> {
    kind: K,
    /// When its last line was written, and how long none is after that.
    written: Instant,
    pause: Duration,
    left_out: u64,
}

/// How many lines of its kind were left out before the one that may be written; prints as what to put
/// behind it, nothing if there were none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeftOut(pub u64);

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like it since the last line)"),
        }
    }
}

impl<K> Default for Limiter<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Limiter<K> {
    /// One that has seen nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { kinds: ArrayVec::new_const() }
    }
}

impl<K: PartialEq> Limiter<K> {
    /// Whether a line of `kind` may be written now. Asked once for each that there is to write.
    pub fn permit(&mut self, now: Instant, kind: K) -> Option<LeftOut> {
        if let Some(known) = self.kinds.iter_mut().find(|known| known.kind == kind) {
            return known.permit(now);
        }
        if self.kinds.is_full() {
            let over = self.kinds.iter().position(|known| known.is_over(now))?;
            self.kinds.swap_remove(over);
        }
        self.kinds.push(Kind { kind, written: now, pause: PAUSE_MIN, left_out: 0 });
        Some(LeftOut(0))
    }
}

impl<K> Kind<K> {
    fn permit(&mut self, now: Instant) -> Option<LeftOut> {
        if now.since(self.written) < self.pause {
            self.left_out += 1;
            return None;
        }
        let is_over = self.is_over(now);
        self.pause = if is_over { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
        self.written = now;
        Some(LeftOut(core::mem::take(&mut self.left_out)))
    }

    /// It has been quiet for as long again as it had to be.
    fn is_over(&self, now: Instant) -> bool {
        now.since(self.written) >= self.pause * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    #[test]
    fn kinds_that_take_turns_are_told_once_each_and_then_at_growing_intervals() {
        let mut limiter = Limiter::default();
        let mut written = Vec::new();
        for millis in (0..3_600_000).step_by(10) {
            for kind in ["forged", "foreign"] {
                if let Some(left_out) = limiter.permit(Instant::from_millis(millis), kind) {
                    written.push((millis / 1000, kind, left_out.0));
                }
            }
        }
        let times: Vec<u64> =
            written.iter().filter(|line| line.1 == "forged").map(|line| line.0).collect();
        assert_eq!(times[..7], [0, 10, 30, 70, 150, 310, 630], "{times:?}");
        assert!(written.len() < 30, "an hour of flood: {}", written.len());
        assert_eq!(written[2].2, 999, "and what was left out is counted");
    }

    #[test]
    fn what_has_been_quiet_is_told_at_once_when_it_comes_again() {
        let mut limiter = Limiter::default();
        assert_eq!(limiter.permit(at(0), 1), Some(LeftOut(0)));
        assert_eq!(limiter.permit(at(5), 1), None);
        assert_eq!(limiter.permit(at(100), 1), Some(LeftOut(1)));
        assert_eq!(limiter.permit(at(105), 1), None);
        assert_eq!(limiter.permit(at(110), 1), Some(LeftOut(1)), "ten seconds again");
        assert_eq!(LeftOut(1).to_string(), " (1 more like it since the last line)");
        assert_eq!(LeftOut(0).to_string(), "");
    }

    #[test]
    fn nobody_gains_lines_by_being_inventive() {
        let mut limiter = Limiter::default();
        let lines = (0..100_000).filter(|&n| limiter.permit(at(1), n).is_some()).count();
        assert_eq!(lines, KINDS_MAX);
        assert_eq!(limiter.permit(at(30), 100_000), Some(LeftOut(0)), "those are over");
    }
}
