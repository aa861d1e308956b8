//! IPv6 extension headers, RFC 8200 §4: walked over, never acted on.
//!
//! A host must get past whatever lies between the IPv6 header and the upper layer, and a sender
//! may put a lot there. The walk ends after [`EXTENSIONS_MAX`] headers, steps at least eight bytes
//! each time, and obeys the one demand such headers can make of a host that does not know them:
//! the two top bits of an option's type, which say whether an ignorant host may go on.
//!
//! AH and ESP are not walked over: without a security association neither can be checked, so they
//! come out as the upper-layer protocol, and nobody listens there.

use super::{DropReason, FragmentInfo};

/// How many extension headers a packet may have. Real ones have one or two.
pub(super) const EXTENSIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// What follows the extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Upper<'a> {
    /// The header that `payload` starts with; of a fragment, the one its datagram's text has first.
    pub(super) protocol: u8,
    /// Set when the walk ended at a fragment header.
    pub(super) fragment: Option<FragmentInfo>,
    /// The bytes after the last header walked over.
    pub(super) payload: &'a [u8],
}

/// Where a chain of headers starts, which decides whether hop-by-hop options may come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChainStart {
    /// Right after the IPv6 header.
    Packet,
    /// In the fragmentable part of a datagram.
    Fragmentable,
}

/// Walks from header `next` at the start of `bytes` to the upper layer or a fragment header.
pub(super) fn walk(
    start: ChainStart,
    mut next: u8,
    mut bytes: &[u8],
) -> Result<Upper<'_>, DropReason> {
    for position in 0..=EXTENSIONS_MAX {
        match next {
            HOP_BY_HOP if position > 0 || start == ChainStart::Fragmentable => break,
            HOP_BY_HOP | DESTINATION => {
                let (header, rest) = split_header(bytes)?;
                check_options(&header[2..])?;
                (next, bytes) = (header[0], rest);
            }
            ROUTING => {
                let (header, rest) = split_header(bytes)?;
                // Somebody else's turn, or a type 0 loop, RFC 5095. With none left it is over.
                if header[3] != 0 {
                    break;
                }
                (next, bytes) = (header[0], rest);
            }
            FRAGMENT => {
                let (header, rest) = bytes.split_first_chunk().ok_or(DropReason::Truncated)?;
                let fragment = fragment_info(header);
                (next, bytes) = (header[0], rest);
                // A fragment that is the whole datagram is no fragment, RFC 6946.
                if fragment.offset != 0 || fragment.more {
                    return Ok(Upper { protocol: next, fragment: Some(fragment), payload: bytes });
                }
            }
            _ => return Ok(Upper { protocol: next, fragment: None, payload: bytes }),
        }
    }
    Err(DropReason::BadExtension)
}

/// Cuts off one header of the common form: next header, length in units of eight bytes beyond the
/// first eight. The header has at least eight bytes.
fn split_header(bytes: &[u8]) -> Result<(&[u8], &[u8]), DropReason> {
    let length = 8 + 8 * usize::from(*bytes.get(1).ok_or(DropReason::Truncated)?);
    bytes.split_at_checked(length).ok_or(DropReason::Truncated)
}

fn fragment_info(header: &[u8; 8]) -> FragmentInfo {
    let word = u16::from_be_bytes([header[2], header[3]]);
    FragmentInfo {
        id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        offset: u32::from(word & 0xfff8),
        more: word & 1 != 0,
    }
}

/// Passes over options that a host may ignore, RFC 8200 §4.2. We know none but the padding.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    const PAD1: u8 = 0;
    const DISCARD_IF_UNKNOWN: u8 = 0xc0;
    while let Some((&kind, rest)) = options.split_first() {
        if kind == PAD1 {
            options = rest;
            continue;
        }
        let (&length, rest) = rest.split_first().ok_or(DropReason::BadExtension)?;
        if kind & DISCARD_IF_UNKNOWN != 0 {
            return Err(DropReason::BadExtension);
        }
        options = rest.get(usize::from(length)..).ok_or(DropReason::BadExtension)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = 6;

    fn packet_walk(next: u8, bytes: &[u8]) -> Result<Upper<'_>, DropReason> {
        walk(ChainStart::Packet, next, bytes)
    }

    #[test]
    fn options_that_may_be_ignored_are() {
        let bytes = [TCP, 0, 5, 2, 0, 0, 1, 0, b'x'];
        let upper = Upper { protocol: TCP, fragment: None, payload: b"x" };
        assert_eq!(packet_walk(HOP_BY_HOP, &bytes), Ok(upper));
        assert_eq!(packet_walk(DESTINATION, &bytes), Ok(upper));
    }

    /// Pad1 has no length: what follows it is the next option.
    #[test]
    fn padding_of_one_byte_is_one_byte() {
        let padded = [TCP, 0, 0, 0, 0, 1, 1, 0, b'x'];
        let upper = Upper { protocol: TCP, fragment: None, payload: b"x" };
        assert_eq!(packet_walk(DESTINATION, &padded), Ok(upper));
        let hidden = [TCP, 0, 0, 0xc2, 3, 0, 0, 0];
        assert_eq!(packet_walk(DESTINATION, &hidden), Err(DropReason::BadExtension));
    }

    #[test]
    fn option_that_must_be_understood_stops_the_packet() {
        let jumbo = [TCP, 0, 0xc2, 4, 0, 1, 0, 0];
        assert_eq!(packet_walk(HOP_BY_HOP, &jumbo), Err(DropReason::BadExtension));
    }

    #[test]
    fn option_beyond_its_header_stops_the_packet() {
        let bytes = [TCP, 0, 1, 5, 0, 0, 0, 0];
        assert_eq!(packet_walk(DESTINATION, &bytes), Err(DropReason::BadExtension));
        let length_missing = [TCP, 0, 1, 3, 0, 0, 0, 1];
        assert_eq!(packet_walk(DESTINATION, &length_missing), Err(DropReason::BadExtension));
    }

    #[test]
    fn hop_by_hop_is_first_or_nothing() {
        let bytes = [HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0, TCP, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(packet_walk(DESTINATION, &bytes), Err(DropReason::BadExtension));
        let inside = walk(ChainStart::Fragmentable, HOP_BY_HOP, &bytes[8..]);
        assert_eq!(inside, Err(DropReason::BadExtension));
    }

    #[test]
    fn routing_header_passes_only_at_its_end() {
        let mut bytes = [TCP, 0, 0, 0, 0, 0, 0, 0, b'x'];
        assert_eq!(packet_walk(ROUTING, &bytes).unwrap().payload, b"x");
        bytes[3] = 1;
        assert_eq!(packet_walk(ROUTING, &bytes), Err(DropReason::BadExtension));
    }

    #[test]
    fn atomic_fragment_is_no_fragment() {
        let bytes = [TCP, 0, 0, 0, 1, 2, 3, 4, b'x'];
        let upper = Upper { protocol: TCP, fragment: None, payload: b"x" };
        assert_eq!(packet_walk(FRAGMENT, &bytes), Ok(upper));
    }

    #[test]
    fn fragment_is_recognised() {
        let bytes = [TCP, 0, 0x05, 0xa9, 1, 2, 3, 4, b'x'];
        let fragment = Some(FragmentInfo { id: 0x0102_0304, offset: 0x5a8, more: true });
        let upper = Upper { protocol: TCP, fragment, payload: b"x" };
        assert_eq!(packet_walk(FRAGMENT, &bytes), Ok(upper));
    }

    #[test]
    fn chain_of_headers_is_bounded() {
        let chain = |count: usize| {
            let mut bytes = [DESTINATION, 0, 1, 4, 0, 0, 0, 0].repeat(count);
            bytes[8 * (count - 1)] = TCP;
            bytes
        };
        assert!(packet_walk(DESTINATION, &chain(EXTENSIONS_MAX)).is_ok());
        let long = chain(EXTENSIONS_MAX + 1);
        assert_eq!(packet_walk(DESTINATION, &long), Err(DropReason::BadExtension));
    }

    #[test]
    fn header_longer_than_the_packet_is_truncated() {
        assert_eq!(packet_walk(DESTINATION, &[TCP, 1, 1, 4, 0, 0]), Err(DropReason::Truncated));
        assert_eq!(packet_walk(ROUTING, &[TCP]), Err(DropReason::Truncated));
        assert_eq!(packet_walk(FRAGMENT, &[TCP; 7]), Err(DropReason::Truncated));
    }
}
