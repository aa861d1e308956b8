//! "Nobody here": what a host answers to a datagram that it has no use for.
//!
//! A UDP port that nobody has, or an upper layer that nobody speaks: the sender is told at once, with
//! as much of its packet as fits (RFC 1122 §3.2.2.1 and §4.1.3.1, RFC 4443 §3.1 and §3.4), and gives
//! up instead of waiting.
//!
//! The quoted IP header is made anew, from what is known of the packet: without its options or
//! extension headers, and without an identification. Senders go by addresses, upper layer and ports.

use super::checksum::{self, Sum};
use super::icmp::ICMP_LEN;
use super::ip::{IpPacket, V4_LEN, V4Header, V6_LEN, V6Header, protocol};
use super::{ChecksumState, DropReason};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The whole error is no longer than this: RFC 1812 §4.3.2.3.
const V4_LEN_MAX: usize = 576;
/// The least MTU of IPv6, RFC 4443 §2.4 (c).
const V6_LEN_MAX: usize = 1280;
const UDP_LEN: usize = 8;
/// IGMP: a host speaks it with routers, and it is never refused.
const IGMP: u8 = 2;
/// An IPv6 packet that ends there, RFC 8200 §4.7.
const NO_NEXT_HEADER: u8 = 59;

/// Replaces what is in `out` by the answer to `packet`, which was sent to an address of ours with an
/// upper layer that is not served: one whole IP packet. `ip_id` is for IPv4; DF is not set.
///
/// Nothing is written for what must not be answered: a fragment, or ICMP itself (RFC 1122 §3.2.2). How
/// often to answer is the caller's to decide, and that its sender is a single host (RFC 4443 §2.4 (e)).
pub fn write_unserved(
    packet: &IpPacket<'_>,
    check: ChecksumState,
    ttl: u8,
    ip_id: u16,
    out: &mut Vec<u8>,
) -> Result<(), DropReason> {
    out.clear();
    if packet.fragment.is_some() {
        return Err(DropReason::UnexpectedFragment);
    }
    match packet.protocol {
        protocol::UDP => check_udp(packet, check)?,
        protocol::ICMP | protocol::ICMPV6 | IGMP | NO_NEXT_HEADER => {
            return Err(DropReason::NotForUs);
        }
        _ => {}
    }
    match (packet.dst, packet.src) {
        (IpAddr::V4(from), IpAddr::V4(to)) => write_v4(packet, from, to, ttl, ip_id, out),
        (IpAddr::V6(from), IpAddr::V6(to)) => write_v6(packet, from, to, ttl, out),
        _ => return Err(DropReason::BadAddress),
    }
    Ok(())
}

/// What is damaged is dropped, not refused.
fn check_udp(packet: &IpPacket<'_>, check: ChecksumState) -> Result<(), DropReason> {
    let header = packet.payload.first_chunk::<UDP_LEN>().ok_or(DropReason::Truncated)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if length < UDP_LEN || length > packet.payload.len() {
        return Err(DropReason::BadHeaderLength);
    }
    let unsummed = header[6..8] == [0, 0];
    if check == ChecksumState::Trusted || (unsummed && packet.src.is_ipv4()) {
        return Ok(());
    }
    let pseudo = checksum::pseudo_header(packet.src, packet.dst, protocol::UDP, length as u32);
    // RFC 8200 §8.1: with IPv6 a datagram without a checksum is damaged.
    let intact = !unsummed && pseudo.add_bytes(&packet.payload[..length]).is_intact();
    if intact { Ok(()) } else { Err(DropReason::BadChecksum) }
}

fn write_v4(
    packet: &IpPacket<'_>,
    from: Ipv4Addr,
    to: Ipv4Addr,
    ttl: u8,
    id: u16,
    out: &mut Vec<u8>,
) {
    let quote = part(packet.payload, V4_LEN_MAX - V4_LEN - ICMP_LEN - V4_LEN);
    // RFC 792: port or protocol unreachable.
    let code = if packet.protocol == protocol::UDP { 3 } else { 2 };
    let quoted = V4Header {
        src: to,
        dst: from,
        protocol: packet.protocol,
        ttl: packet.ttl,
        ecn: packet.ecn,
        id: 0,
        dont_fragment: false,
        total_len: clamped(V4_LEN + packet.payload.len()),
    };
    let outer = V4Header {
        src: from,
        dst: to,
        protocol: protocol::ICMP,
        ttl,
        ecn: 0,
        id,
        dont_fragment: false,
        total_len: clamped(V4_LEN + ICMP_LEN + V4_LEN + quote.len()),
    };
    out.extend_from_slice(&outer.to_bytes());
    put_message(out, (3, code, 0), &quoted.to_bytes(), quote, Sum::default());
}

fn write_v6(packet: &IpPacket<'_>, from: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, out: &mut Vec<u8>) {
    /// Where the next header is in the header that is quoted.
    const NEXT_HEADER_AT: u32 = 6;
    let quote = part(packet.payload, V6_LEN_MAX - V6_LEN - ICMP_LEN - V6_LEN);
    // RFC 4443 §3.1: port unreachable. §3.4: an unrecognized next header.
    let kind = if packet.protocol == protocol::UDP { (1, 4, 0) } else { (4, 1, NEXT_HEADER_AT) };
    let quoted = V6Header {
        src: to,
        dst: from,
        next_header: packet.protocol,
        hop_limit: packet.ttl,
        ecn: packet.ecn,
        payload_len: clamped(packet.payload.len()),
    };
    let payload_len = ICMP_LEN + V6_LEN + quote.len();
    let outer = V6Header {
        src: from,
        dst: to,
        next_header: protocol::ICMPV6,
        hop_limit,
        ecn: 0,
        payload_len: clamped(payload_len),
    };
    out.extend_from_slice(&outer.to_bytes());
    let pseudo =
        checksum::pseudo_header(from.into(), to.into(), protocol::ICMPV6, payload_len as u32);
    put_message(out, kind, &quoted.to_bytes(), quote, pseudo);
}

/// Type, code and word; the quoted header and as much behind it as there is room for; the checksum.
fn put_message(
    out: &mut Vec<u8>,
    (kind, code, word): (u8, u8, u32),
    header: &[u8],
    quote: &[u8],
    pseudo: Sum,
) {
    let start = out.len();
    out.extend_from_slice(&[kind, code, 0, 0]);
    out.extend_from_slice(&word.to_be_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(quote);
    let sum = pseudo.add_bytes(&out[start..]).checksum();
    out[start + 2..start + 4].copy_from_slice(&sum.to_be_bytes());
}

fn part(bytes: &[u8], length: usize) -> &[u8] {
    &bytes[..bytes.len().min(length)]
}

fn clamped(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse_ip;
    use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, SlicedPacket, TransportSlice};
    use etherparse::{icmpv4, icmpv6};

    fn datagram(ipv6: bool, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = if ipv6 {
            let host = |last| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last).octets();
            PacketBuilder::ipv6(host(0x10), host(0x100), 9)
        } else {
            PacketBuilder::ipv4([10, 77, 0, 10], [10, 77, 0, 100], 9)
        };
        builder.udp(4000, 53).write(&mut bytes, text).unwrap();
        bytes
    }

    fn answer(bytes: &[u8]) -> Result<Vec<u8>, DropReason> {
        let mut out = vec![1, 2, 3];
        let ip = parse_ip(bytes).unwrap();
        write_unserved(&ip, ChecksumState::Verify, 255, 7, &mut out).map(|()| out)
    }

    #[test]
    fn a_port_that_nobody_has_is_unreachable() {
        for (ipv6, len, longest) in [(false, 5, 576), (false, 1400, 576), (true, 1400, 1280)] {
            let asked = datagram(ipv6, &vec![7; len]);
            let told = answer(&asked).unwrap();
            let ip = parse_ip(&told).unwrap();
            let to = parse_ip(&asked).unwrap();
            assert_eq!((ip.src, ip.dst, ip.ttl), (to.dst, to.src, 255));
            assert_eq!(told.len(), longest.min(asked.len() + told.len() - ip.payload.len() + 8));
            let quote = &ip.payload[8..];
            // The header's length, identification and sum aside.
            let header = if ipv6 { 40 } else { 20 };
            assert_eq!(quote[header..], asked[header..][..quote.len() - header]);
            assert_eq!(quote[header - 8..header], asked[header - 8..header], "destination");
            match SlicedPacket::from_ip(&told).unwrap().transport.unwrap() {
                TransportSlice::Icmpv4(icmp) => {
                    let port = icmpv4::DestUnreachableHeader::Port;
                    assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(port));
                    assert_eq!(checksum::checksum(ip.payload), 0);
                }
                TransportSlice::Icmpv6(icmp) => {
                    let port = icmpv6::DestUnreachableCode::Port;
                    assert_eq!(icmp.icmp_type(), Icmpv6Type::DestinationUnreachable(port));
                    let length = ip.payload.len() as u32;
                    let sum = checksum::pseudo_header(ip.src, ip.dst, 58, length);
                    assert!(sum.add_bytes(ip.payload).is_intact());
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_upper_layer_that_nobody_speaks_is_named() {
        for (ipv6, at, kind) in [(false, 9, [3, 2, 0]), (true, 6, [4, 1, 6])] {
            let mut asked = datagram(ipv6, b"hello");
            asked[at] = 132; // SCTP
            if !ipv6 {
                asked[10..12].fill(0);
                let sum = checksum::checksum(&asked[..20]);
                asked[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            let told = answer(&asked).unwrap();
            let icmp = parse_ip(&told).unwrap().payload;
            assert_eq!([icmp[0], icmp[1], icmp[7]], kind);
        }
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        for ipv6 in [false, true] {
            let asked = datagram(ipv6, b"hello");
            let ip = parse_ip(&asked).unwrap();
            let mut out = Vec::new();
            let mut refused = |ip: &IpPacket<'_>| {
                write_unserved(ip, ChecksumState::Verify, 64, 0, &mut out).unwrap_err()
            };
            for protocol in [1, 2, 58, 59] {
                assert_eq!(refused(&IpPacket { protocol, ..ip }), DropReason::NotForUs);
            }
            let fragment = Some(crate::wire::FragmentInfo { id: 1, offset: 8, more: false });
            assert_eq!(refused(&IpPacket { fragment, ..ip }), DropReason::UnexpectedFragment);
            for len in 0..8 {
                let payload = &ip.payload[..len];
                assert_eq!(refused(&IpPacket { payload, ..ip }), DropReason::Truncated);
            }
            let mut damaged = ip.payload.to_vec();
            damaged[9] ^= 1;
            let payload = damaged.as_slice();
            assert_eq!(refused(&IpPacket { payload, ..ip }), DropReason::BadChecksum);
            damaged[6..8].fill(0);
            let unsummed = IpPacket { payload: damaged.as_slice(), ..ip };
            let told = write_unserved(&unsummed, ChecksumState::Verify, 64, 0, &mut out);
            assert_eq!(told.is_ok(), !ipv6, "a checksum is optional in IPv4 alone");
        }
    }
}
