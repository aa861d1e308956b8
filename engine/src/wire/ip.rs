//! The Internet layer, looked at once: RFC 791 and RFC 8200.
//!
//! [`parse_ip`] answers what a host needs from an IP header: between whom, which upper layer, which
//! bytes are its. Whatever the header says about lengths has been checked against the bytes there
//! are, padding behind the packet is cut off, and nothing in a result can point outside it.

use super::DropReason;
use super::checksum::{self, Sum};
use super::extension::{self, ChainStart};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Upper-layer protocol numbers.
pub mod protocol {
    /// ICMP for IPv4, RFC 792.
    pub const ICMP: u8 = 1;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
}

/// ECN codepoint: the sender does not take part, RFC 3168 §5.
pub const ECN_NOT_ECT: u8 = 0;
/// ECN codepoint: ECN-capable, ECT(1).
pub const ECN_ECT1: u8 = 1;
/// ECN codepoint: ECN-capable, ECT(0).
pub const ECN_ECT0: u8 = 2;
/// ECN codepoint: congestion experienced.
pub const ECN_CE: u8 = 3;

/// Length of an IPv4 header without options.
pub(super) const V4_LEN: usize = 20;
/// Length of an IPv6 header without extension headers.
pub(super) const V6_LEN: usize = 40;
/// Flag of an IPv4 header: do not fragment.
const DONT_FRAGMENT: u16 = 0x4000;
/// Flag of an IPv4 header: more fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;

/// One IP packet. A super-packet of a receive offload looks like one long packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpPacket<'a> {
    /// Where it came from: never multicast, broadcast, unspecified or loopback.
    pub src: IpAddr,
    /// Where it goes; of the same family as `src`.
    pub dst: IpAddr,
    /// The upper layer, see [`protocol`]. Of an IPv6 fragment: the header that follows the
    /// fragment header, which may be an extension header.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// The ECN codepoint, 0 to 3.
    pub ecn: u8,
    /// Set if this is a fragment, which only a [`super::Reassembler`] can use.
    pub fragment: Option<FragmentInfo>,
    /// The upper layer's bytes.
    pub payload: &'a [u8],
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FragmentInfo {
    /// The sender's name for the datagram: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// Where in the datagram's payload this part begins, in bytes: a multiple of 8 up to 65,528.
    pub offset: u32,
    /// Whether there is more after this part.
    pub more: bool,
}

/// Reads an IPv4 or IPv6 packet.
///
/// The IPv4 header checksum is verified, options and extension headers are skipped. Bytes after the
/// packet's own length are ignored.
pub fn parse_ip(bytes: &[u8]) -> Result<IpPacket<'_>, DropReason> {
    let packet = match bytes.first().ok_or(DropReason::Truncated)? >> 4 {
        4 => parse_v4(bytes)?,
        6 => parse_v6(bytes)?,
        _ => return Err(DropReason::BadVersion),
    };
    if is_possible_source(packet.src) { Ok(packet) } else { Err(DropReason::BadAddress) }
}

/// Where a packet is addressed to, whatever else is wrong with it.
#[must_use]
pub fn destination(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.first()? >> 4 {
        4 => bytes.get(16..20)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        6 => bytes.get(24..40)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    }
}

/// RFC 1122 §3.2.1.3, RFC 4291 §2.5 and §2.7: what can stand as source on a packet between hosts.
fn is_possible_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified() || v4.is_loopback())
        }
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback()),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<IpPacket<'_>, DropReason> {
    let (fixed, _) = bytes.split_first_chunk::<V4_LEN>().ok_or(DropReason::Truncated)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if header_len < V4_LEN || total_len < header_len {
        return Err(DropReason::BadHeaderLength);
    }
    let packet = bytes.get(..total_len).ok_or(DropReason::Truncated)?;
    let (header, payload) = packet.split_at(header_len);
    if !Sum::default().add_bytes(header).is_intact() {
        return Err(DropReason::BadHeaderChecksum);
    }
    check_v4_options(&header[V4_LEN..])?;
    Ok(IpPacket {
        src: IpAddr::V4(Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15])),
        dst: IpAddr::V4(Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19])),
        protocol: fixed[9],
        ttl: fixed[8],
        ecn: fixed[1] & 3,
        fragment: v4_fragment(fixed),
        payload,
    })
}

fn v4_fragment(header: &[u8; V4_LEN]) -> Option<FragmentInfo> {
    let word = u16::from_be_bytes([header[6], header[7]]);
    let more = word & MORE_FRAGMENTS != 0;
    let offset = u32::from(word & 0x1fff) * 8;
    let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
    (more || offset != 0).then_some(FragmentInfo { id, offset, more })
}

/// Options are of no use to a host that forwards nothing. But a list that does not parse is a
/// damaged packet, and a source route is an attempt to have the answer sent elsewhere: RFC 7126
/// §4.3 and §4.4.
fn check_v4_options(mut options: &[u8]) -> Result<(), DropReason> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            END => return Ok(()),
            NO_OPERATION => options = rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(DropReason::BadIpOptions),
            _ => {
                let length = usize::from(*rest.first().ok_or(DropReason::BadIpOptions)?);
                let after = options.get(length..).filter(|_| length >= 2);
                options = after.ok_or(DropReason::BadIpOptions)?;
            }
        }
    }
    Ok(())
}

/// Reads an IPv6 packet from any source, the unspecified address included.
pub(super) fn parse_v6(bytes: &[u8]) -> Result<IpPacket<'_>, DropReason> {
    let (header, rest) = bytes.split_first_chunk::<V6_LEN>().ok_or(DropReason::Truncated)?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let payload = rest.get(..payload_len).ok_or(DropReason::Truncated)?;
    let upper = extension::walk(ChainStart::Packet, header[6], payload)?;
    Ok(IpPacket {
        src: v6_address(header, 8),
        dst: v6_address(header, 24),
        protocol: upper.protocol,
        ttl: header[7],
        ecn: (header[1] >> 4) & 3,
        fragment: upper.fragment,
        payload: upper.payload,
    })
}

fn v6_address(header: &[u8; V6_LEN], at: usize) -> IpAddr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&header[at..at + 16]);
    IpAddr::V6(Ipv6Addr::from(octets))
}

/// What goes into an IPv4 header that we write.
#[derive(Clone, Copy, Debug)]
pub(super) struct V4Header {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) ecn: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
    /// Header and payload, in bytes.
    pub(super) total_len: u16,
}

impl V4Header {
    /// The header, checksum included.
    pub(super) fn to_bytes(self) -> [u8; V4_LEN] {
        let Self { src, dst, protocol, ttl, ecn, id, dont_fragment, total_len } = self;
        let mut header = [0; V4_LEN];
        header[0] = 0x45;
        header[1] = ecn & 3;
        header[2..4].copy_from_slice(&total_len.to_be_bytes());
        header[4..6].copy_from_slice(&id.to_be_bytes());
        let flags = if dont_fragment { DONT_FRAGMENT } else { 0 };
        header[6..8].copy_from_slice(&flags.to_be_bytes());
        header[8] = ttl;
        header[9] = protocol;
        header[12..16].copy_from_slice(&src.octets());
        header[16..20].copy_from_slice(&dst.octets());
        seal_v4(&mut header);
        header
    }
}

/// Makes `header` a fragment of a datagram: `offset` in bytes, `total_len` of this fragment.
pub(super) fn make_v4_fragment(header: &mut [u8; V4_LEN], fragment: FragmentInfo, total_len: u16) {
    let more = if fragment.more { MORE_FRAGMENTS } else { 0 };
    let word = (fragment.offset / 8) as u16 & 0x1fff | more;
    header[2..4].copy_from_slice(&total_len.to_be_bytes());
    header[4..6].copy_from_slice(&(fragment.id as u16).to_be_bytes());
    header[6..8].copy_from_slice(&word.to_be_bytes());
    seal_v4(header);
}

/// Puts the header checksum into an IPv4 header.
fn seal_v4(header: &mut [u8; V4_LEN]) {
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// What goes into an IPv6 header that we write. The flow label is 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct V6Header {
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    pub(super) next_header: u8,
    pub(super) hop_limit: u8,
    pub(super) ecn: u8,
    /// Everything after this header, in bytes.
    pub(super) payload_len: u16,
}

impl V6Header {
    /// The header.
    pub(super) fn to_bytes(self) -> [u8; V6_LEN] {
        let Self { src, dst, next_header, hop_limit, ecn, payload_len } = self;
        let mut header = [0; V6_LEN];
        header[0] = 0x60;
        header[1] = (ecn & 3) << 4;
        header[4..6].copy_from_slice(&payload_len.to_be_bytes());
        header[6] = next_header;
        header[7] = hop_limit;
        header[8..24].copy_from_slice(&src.octets());
        header[24..40].copy_from_slice(&dst.octets());
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(total_len: u16) -> Vec<u8> {
        let header = V4Header {
            src: Ipv4Addr::new(10, 77, 0, 10),
            dst: Ipv4Addr::new(10, 77, 0, 100),
            protocol: protocol::TCP,
            ttl: 64,
            ecn: ECN_CE,
            id: 7,
            dont_fragment: true,
            total_len,
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(b"text and padding");
        bytes
    }

    /// The packet with `change` applied to its header, and a checksum that fits.
    fn v4_with(change: impl FnOnce(&mut [u8; V4_LEN])) -> Vec<u8> {
        let mut bytes = v4(24);
        let header = bytes.first_chunk_mut::<V4_LEN>().unwrap();
        change(header);
        seal_v4(header);
        bytes
    }

    /// A header with these options, 4 bytes of payload, and a checksum that fits.
    fn v4_with_options(options: &[u8]) -> Vec<u8> {
        let mut bytes = v4(24 + options.len() as u16)[..V4_LEN].to_vec();
        bytes[0] = 0x45 + (options.len() / 4) as u8;
        bytes[10..12].fill(0);
        bytes.extend_from_slice(options);
        let sum = checksum::checksum(&bytes);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend_from_slice(b"text");
        bytes
    }

    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let header = V6Header {
            src: "fd77::10".parse().unwrap(),
            dst: "fd77::100".parse().unwrap(),
            next_header,
            hop_limit: 63,
            ecn: ECN_ECT0,
            payload_len: payload.len() as u16,
        };
        [&header.to_bytes(), payload].concat()
    }

    #[test]
    fn v4_packet_is_read_and_its_padding_cut() {
        let packet = IpPacket {
            src: "10.77.0.10".parse().unwrap(),
            dst: "10.77.0.100".parse().unwrap(),
            protocol: protocol::TCP,
            ttl: 64,
            ecn: ECN_CE,
            fragment: None,
            payload: b"text",
        };
        assert_eq!(parse_ip(&v4(24)), Ok(packet));
    }

    #[test]
    fn v6_packet_is_read_and_its_padding_cut() {
        let mut bytes = v6(protocol::TCP, b"text");
        bytes.push(0);
        let packet = IpPacket {
            src: "fd77::10".parse().unwrap(),
            dst: "fd77::100".parse().unwrap(),
            protocol: protocol::TCP,
            ttl: 63,
            ecn: ECN_ECT0,
            fragment: None,
            payload: b"text",
        };
        assert_eq!(parse_ip(&bytes), Ok(packet));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(parse_ip(&[]), Err(DropReason::Truncated));
        assert_eq!(parse_ip(&v4(24)[..19]), Err(DropReason::Truncated));
        assert_eq!(parse_ip(&v4(24)[..23]), Err(DropReason::Truncated));
        assert_eq!(parse_ip(&v4(19)), Err(DropReason::BadHeaderLength));
        let short_header = v4_with(|header| header[0] = 0x44);
        assert_eq!(parse_ip(&short_header), Err(DropReason::BadHeaderLength));
        let long_header = v4_with(|header| header[0] = 0x4f);
        assert_eq!(parse_ip(&long_header), Err(DropReason::BadHeaderLength));
        let v6 = v6(protocol::TCP, b"text");
        assert_eq!(parse_ip(&v6[..39]), Err(DropReason::Truncated));
        assert_eq!(parse_ip(&v6[..43]), Err(DropReason::Truncated));
        assert_eq!(parse_ip(&[0x50; 40]), Err(DropReason::BadVersion));
    }

    #[test]
    fn v4_header_checksum_is_verified() {
        let mut bytes = v4(24);
        bytes[8] -= 1;
        assert_eq!(parse_ip(&bytes), Err(DropReason::BadHeaderChecksum));
    }

    #[test]
    fn v4_options_are_skipped_but_not_source_routes_or_nonsense() {
        let options = |options: &[u8]| parse_ip(&v4_with_options(options)).map(|p| p.payload.len());
        assert_eq!(options(&[1, 148, 4, 0, 0, 0, 9, 9]), Ok(4)); // router alert, end, anything
        assert_eq!(options(&[131, 3, 4, 0]), Err(DropReason::BadIpOptions));
        assert_eq!(options(&[137, 3, 4, 0]), Err(DropReason::BadIpOptions));
        assert_eq!(options(&[68, 1, 0, 0]), Err(DropReason::BadIpOptions));
        assert_eq!(options(&[68, 5, 0, 0]), Err(DropReason::BadIpOptions));
        assert_eq!(options(&[1, 1, 1, 68]), Err(DropReason::BadIpOptions));
    }

    #[test]
    fn v4_fragments_are_recognised() {
        let fragment = |word: u16| {
            let bytes = v4_with(|header| header[6..8].copy_from_slice(&word.to_be_bytes()));
            parse_ip(&bytes).unwrap().fragment
        };
        assert_eq!(fragment(0x4000), None);
        assert_eq!(fragment(0x2000), Some(FragmentInfo { id: 7, offset: 0, more: true }));
        assert_eq!(fragment(0x1fff), Some(FragmentInfo { id: 7, offset: 65_528, more: false }));
    }

    #[test]
    fn impossible_sources_are_refused() {
        for source in [[224, 0, 0, 1], [255; 4], [0; 4], [127, 0, 0, 1]] {
            let bytes = v4_with(|header| header[12..16].copy_from_slice(&source));
            assert_eq!(parse_ip(&bytes), Err(DropReason::BadAddress));
        }
        for source in ["ff02::1", "::", "::1"] {
            let mut bytes = v6(protocol::TCP, b"text");
            bytes[8..24].copy_from_slice(&source.parse::<Ipv6Addr>().unwrap().octets());
            assert_eq!(parse_ip(&bytes), Err(DropReason::BadAddress));
        }
    }
}
