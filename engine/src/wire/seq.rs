//! Sequence numbers: RFC 9293 §3.4.

use core::fmt;

/// A TCP sequence number. Compared modulo 2³², so it has no total order and no `Ord`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// This number moved forward by `count`, modulo 2³².
    #[must_use]
    pub const fn add(self, count: u32) -> Self {
        Self(self.0.wrapping_add(count))
    }

    /// This number moved back by `count`, modulo 2³².
    #[must_use]
    pub const fn sub(self, count: u32) -> Self {
        Self(self.0.wrapping_sub(count))
    }

    /// The distance from `earlier` to here, modulo 2³².
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// The signed distance from `other` to here: negative when this comes before.
    pub const fn diff(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// `self < other`.
    pub const fn before(self, other: Self) -> bool {
        self.diff(other) < 0
    }

    /// `self =< other`.
    pub const fn at_or_before(self, other: Self) -> bool {
        self.diff(other) <= 0
    }

    /// `self > other`.
    pub const fn after(self, other: Self) -> bool {
        self.diff(other) > 0
    }

    /// `self >= other`.
    pub const fn at_or_after(self, other: Self) -> bool {
        self.diff(other) >= 0
    }
}

impl fmt::Debug for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_holds_across_the_wrap() {
        let (low, high) = (SeqNum(u32::MAX - 1), SeqNum(3));
        assert!(low.before(high) && high.after(low));
        assert_eq!(high.since(low), 5);
        assert_eq!(low.add(5), high);
        assert_eq!(high.sub(5), low);
    }
}
