//! ICMP errors as a router writes them: to the sender of a packet that went no further.

use super::checksum::{self, Sum};
use super::icmp::ICMP_LEN;
use super::ip::{V4_LEN, V4Header, V6_LEN, V6Header, protocol};
use super::{IcmpError, IcmpKind};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much of the quoted TCP header is sent back: ports and sequence number, RFC 792.
const QUOTE_LEN: usize = 8;
/// TTL of the quoted packet, which nobody has told us.
const QUOTE_TTL: u8 = 1;

/// Replaces what is in `out` by the message that `error` happened: one whole IP packet from
/// `router` to the sender of the quoted packet, which is the tuple's local end. `ip_id` is for
/// IPv4; DF is not set.
///
/// [`super::parse_icmp`] reads the same error from it, as far as the fields reach: the length of
/// the quoted packet is clamped to at most 65,535 bytes with IPv4 and to 40 to 65,575 bytes with
/// IPv6, and an MTU to 65,535 bytes with IPv4.
///
/// Nothing is written for a source quench, which nobody may send any more (RFC 6633 §3), or where
/// the addresses are not of one family. How often to write is the caller's to decide
/// (RFC 1812 §4.3.2.8, RFC 4443 §2.4).
pub fn write_icmp_error(error: &IcmpError, router: IpAddr, ttl: u8, ip_id: u16, out: &mut Vec<u8>) {
    out.clear();
    match (router, error.tuple.local.ip(), error.tuple.remote.ip()) {
        (IpAddr::V4(router), IpAddr::V4(local), IpAddr::V4(remote)) => {
            let Some(message) = v4_message(error, local, remote) else { return };
            let total_len = (V4_LEN + message.len()) as u16;
            let (protocol, id) = (protocol::ICMP, ip_id);
            let ip = V4Header {
                src: router,
                dst: local,
                protocol,
                ttl,
                ecn: 0,
                id,
                dont_fragment: false,
                total_len,
            };
            out.extend_from_slice(&ip.to_bytes());
            out.extend_from_slice(&message);
        }
        (IpAddr::V6(router), IpAddr::V6(local), IpAddr::V6(remote)) => {
            let Some(message) = v6_message(error, router, local, remote) else { return };
            let payload_len = message.len() as u16;
            let ip = V6Header {
                src: router,
                dst: local,
                next_header: protocol::ICMPV6,
                hop_limit: ttl,
                ecn: 0,
                payload_len,
            };
            out.extend_from_slice(&ip.to_bytes());
            out.extend_from_slice(&message);
        }
        _ => {}
    }
}

type V4Message = [u8; ICMP_LEN + V4_LEN + QUOTE_LEN];
type V6Message = [u8; ICMP_LEN + V6_LEN + QUOTE_LEN];

fn v4_message(error: &IcmpError, local: Ipv4Addr, remote: Ipv4Addr) -> Option<V4Message> {
    let clamped = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    // RFC 792, RFC 1191 §4: type, code, and the four bytes that depend on them.
    let (kind, code, word) = match error.kind {
        IcmpKind::TooBig { mtu } => (3, 4, u32::from(clamped(mtu))),
        IcmpKind::Unreachable { hard: true } => (3, 3, 0), // port
        IcmpKind::Unreachable { hard: false } => (3, 1, 0), // host
        IcmpKind::TimeExceeded => (11, 0, 0),
        IcmpKind::ParameterProblem => (12, 0, 0),
        IcmpKind::SourceQuench => return None,
    };
    let quoted = V4Header {
        src: local,
        dst: remote,
        protocol: protocol::TCP,
        ttl: QUOTE_TTL,
        ecn: 0,
        id: 0,
        dont_fragment: true,
        total_len: clamped(error.quoted_len),
    };
    let mut message = [0; ICMP_LEN + V4_LEN + QUOTE_LEN];
    fill(&mut message, (kind, code, word), &quoted.to_bytes(), error, Sum::default());
    Some(message)
}

fn v6_message(
    error: &IcmpError,
    router: Ipv6Addr,
    local: Ipv6Addr,
    remote: Ipv6Addr,
) -> Option<V6Message> {
    // RFC 4443 §3.
    let (kind, code, word) = match error.kind {
        IcmpKind::TooBig { mtu } => (2, 0, mtu),
        IcmpKind::Unreachable { hard: true } => (1, 4, 0), // port
        IcmpKind::Unreachable { hard: false } => (1, 3, 0), // address
        IcmpKind::TimeExceeded => (3, 0, 0),
        IcmpKind::ParameterProblem => (4, 0, 0),
        IcmpKind::SourceQuench => return None,
    };
    let payload_len = error.quoted_len.saturating_sub(V6_LEN as u32);
    let quoted = V6Header {
        src: local,
        dst: remote,
        next_header: protocol::TCP,
        hop_limit: QUOTE_TTL,
        ecn: 0,
        payload_len: u16::try_from(payload_len).unwrap_or(u16::MAX),
    };
    let mut message = [0; ICMP_LEN + V6_LEN + QUOTE_LEN];
    let length = message.len() as u32;
    let pseudo = checksum::pseudo_header(router.into(), local.into(), protocol::ICMPV6, length);
    fill(&mut message, (kind, code, word), &quoted.to_bytes(), error, pseudo);
    Some(message)
}

/// Header, quoted IP header, quoted TCP header, and the checksum over all of it.
fn fill(
    message: &mut [u8],
    (kind, code, word): (u8, u8, u32),
    quoted: &[u8],
    error: &IcmpError,
    pseudo: Sum,
) {
    let (header, quote) = message.split_at_mut(ICMP_LEN);
    header[0] = kind;
    header[1] = code;
    header[4..8].copy_from_slice(&word.to_be_bytes());
    let (ip, tcp) = quote.split_at_mut(quoted.len());
    ip.copy_from_slice(quoted);
    tcp[0..2].copy_from_slice(&error.tuple.local.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&error.tuple.remote.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&error.seq.0.to_be_bytes());
    let sum = pseudo.add_bytes(message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
#[path = "icmp_error_tests.rs"]
mod tests;
