//! The rate limit of answers that a stranger could provoke, RFC 5961 §7.
//!
//! Challenge acknowledgments, and acknowledgments of empty segments outside the window, answer
//! segments that anyone could have forged. Without a limit two confused ends could also answer
//! each other for ever. The limit is per connection: a limit shared by all of them would let one
//! connection's traffic be observed from another (CVE-2016-5696).

use crate::time::{Duration, Instant};

/// At most ten answers a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    /// The period, counted from the clock's origin, and in the low bits the answers of it.
    used_in: u32,
}

/// Bits for the answers of one period.
const USED_BITS: u32 = 4;
const USED_MASK: u32 = (1 << USED_BITS) - 1;

impl Limit {
    /// Answers per [`Limit::PERIOD`].
    pub const ANSWERS: u8 = 10;
    /// The length of a counting period.
    pub const PERIOD: Duration = Duration::from_secs(1);

    /// Whether one more answer may be given now; if so, it is counted.
    pub fn allow(&mut self, now: Instant) -> bool {
        let period = (now.as_nanos() / Self::PERIOD.as_nanos() as u64) as u32;
        if period << USED_BITS != self.used_in & !USED_MASK {
            self.used_in = period << USED_BITS;
        }
        let allowed = self.used_in & USED_MASK < u32::from(Self::ANSWERS);
        self.used_in += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_run_out_and_come_back() {
        let mut limit = Limit::default();
        let now = Instant::from_millis(5);
        assert_eq!((0..20).filter(|_| limit.allow(now)).count(), 10);
        assert!(limit.allow(now + Limit::PERIOD));
    }
}
