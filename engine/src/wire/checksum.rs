//! The Internet checksum, RFC 1071: the ones' complement of the ones' complement sum of 16-bit
//! words.
//!
//! The sum does not care about byte order (RFC 1071 §2 B), nor about how the words are grouped. So
//! bytes are taken eight at a time as the machine reads them, both halves are added to a `u64`
//! whose carries need no care for the first 16 GiB, and order and width are put right once, at the
//! end. The loop has no branch and no carry chain, and the compiler turns it into vector code.

use core::net::IpAddr;

/// A running ones' complement sum.
///
/// Pieces may be added in any order, as long as only the last one has an odd length: a piece
/// starts at an even position of the data it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// This sum and the 16-bit words of `bytes`; an odd last byte is padded with a zero byte.
    #[must_use]
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let (chunks, tail) = bytes.as_chunks::<8>();
        let sum = chunks.iter().fold(self.0, |sum, chunk| sum + halves(*chunk));
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        Self(sum + halves(last))
    }

    /// This sum and one word.
    #[must_use]
    pub const fn add_u16(self, word: u16) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    /// This sum and the two words of `words`.
    #[must_use]
    pub const fn add_u32(self, words: u32) -> Self {
        Self(self.0 + words.to_be() as u64)
    }

    /// The sum as 16 bits, *not* complemented: what a partial checksum offload wants in the field.
    pub const fn folded(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the sum.
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// Whether data that includes its own checksum field is intact.
    pub const fn is_intact(self) -> bool {
        self.folded() == 0xffff
    }
}

/// Both 32-bit halves of eight bytes, in machine order.
fn halves(bytes: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(bytes);
    (word >> 32) + (word & 0xffff_ffff)
}

/// The checksum of `bytes` alone.
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::default().add_bytes(bytes).checksum()
}

/// The pseudo-header that TCP, UDP and ICMPv6 add to their sum: RFC 9293 §3.1, RFC 8200 §8.1.
///
/// `length` counts the upper-layer header and its data, in bytes. The IPv4 form has 16 bits for
/// it, the IPv6 form 32; for lengths that fit in 16 both give the same sum.
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> Sum {
    address(address(Sum::default(), source), destination)
        .add_u16(u16::from(protocol))
        .add_u32(length)
}

fn address(sum: Sum, address: IpAddr) -> Sum {
    match address {
        IpAddr::V4(v4) => sum.add_bytes(&v4.octets()),
        IpAddr::V6(v6) => sum.add_bytes(&v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, one word at a time.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn example_of_rfc_1071_section_3() {
        let sum = Sum::default().add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), 0x220d);
    }

    #[test]
    fn largest_packet_of_ones_does_not_overflow() {
        let bytes = vec![0xff; 65_535];
        assert_eq!(Sum::default().add_bytes(&bytes).folded(), plain(&bytes));
        assert_eq!(Sum(u64::MAX).folded(), 0xffff);
    }

    proptest! {
        #[test]
        fn fast_sum_equals_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().add_bytes(&bytes).folded(), plain(&bytes));
        }

        #[test]
        fn pieces_of_even_length_add_up(
            bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..150,
        ) {
            let cut = (cut * 2).min(bytes.len() & !1);
            let sum = Sum::default().add_bytes(&bytes[cut..]).add_bytes(&bytes[..cut]);
            prop_assert_eq!(sum.folded(), plain(&bytes));
        }

        #[test]
        fn words_equal_their_bytes(a: u16, b: u32) {
            let words = Sum::default().add_u16(a).add_u32(b).folded();
            let bytes = Sum::default().add_bytes(&a.to_be_bytes()).add_bytes(&b.to_be_bytes());
            prop_assert_eq!(words, bytes.folded());
        }
    }
}
