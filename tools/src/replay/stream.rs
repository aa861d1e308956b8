//! Positions in a stream that outlives 2³² bytes.

/// Turns sequence numbers into offsets. Offset 0 is the first byte after the SYN, which itself
/// stands at -1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unwrap {
    first: u32,
    near: i64,
}

impl Unwrap {
    /// For a stream whose SYN has the number `iss`.
    pub(crate) const fn new(iss: u32) -> Self {
        Self { first: iss.wrapping_add(1), near: 0 }
    }

    /// The offset of `sequence`, taken to lie within 2³¹ of the furthest offset shown to
    /// [`Self::reached`].
    pub(crate) const fn offset(&self, sequence: u32) -> i64 {
        // Truncation is what wrapping means.
        let near = self.first.wrapping_add(self.near as u32);
        self.near + sequence.wrapping_sub(near) as i32 as i64
    }

    /// The stream has been seen up to `offset`.
    pub(crate) fn reached(&mut self, offset: i64) {
        self.near = self.near.max(offset);
    }

    /// The SYN's number.
    pub(crate) const fn iss(&self) -> u32 {
        self.first.wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_go_on_beyond_the_wrap() {
        let mut stream = Unwrap::new(u32::MAX - 10);
        assert_eq!(stream.offset(u32::MAX - 10), -1);
        assert_eq!(stream.offset(5), 15);
        for step in 1..=5 {
            stream.reached(step << 30);
        }
        assert_eq!(stream.offset((5_u32 << 30).wrapping_sub(10)), 5 << 30);
        assert_eq!(stream.iss(), u32::MAX - 10);
    }
}
