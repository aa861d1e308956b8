//! ICMP and ICMPv6: being pinged, and being told that a packet of ours did not arrive.
//!
//! An error message quotes the packet it is about, and the quote is all that speaks for its
//! honesty: anyone can send one. So what comes out names the connection *and* the sequence number
//! of the quoted segment, and TCP believes only what quotes data in flight (RFC 5927 §4.1). A quote
//! whose source is not the address that the error came to is refused here.

use super::checksum::{self, Sum};
use super::ip::{IpPacket, V4_LEN, V4Header, V6_LEN, V6Header, protocol};
use super::{DropReason, Endpoint, FourTuple, SeqNum};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The header of every ICMP message: type, code, checksum, and four bytes that depend on the type.
pub(super) const ICMP_LEN: usize = 8;

const V4_ECHO_REPLY: u8 = 0;
const V4_ECHO_REQUEST: u8 = 8;
const V6_ECHO_REQUEST: u8 = 128;
const V6_ECHO_REPLY: u8 = 129;

/// An ICMP message, as far as a TCP host cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Icmp<'a> {
    /// Somebody wants to know whether we are there.
    EchoRequest {
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
        /// What to send back.
        data: &'a [u8],
    },
    /// A TCP packet of ours met with something on its way.
    Error(IcmpError),
    /// Anything else: intact, and nothing to do.
    Other,
}

/// What an ICMP error says about a TCP packet of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// What happened.
    pub kind: IcmpKind,
    /// The connection of the quoted packet; its local end is the quote's source.
    pub tuple: FourTuple,
    /// SEG.SEQ of the quoted packet.
    pub seq: SeqNum,
    /// Length of the quoted packet as a whole, in bytes, as its IP header says: what was too big
    /// where a router does not tell its MTU (RFC 1191 §5).
    pub quoted_len: u32,
}

/// The kinds of errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IcmpKind {
    /// Too big for a link on the way, and not to be fragmented: RFC 1191, RFC 8201.
    TooBig {
        /// The link's MTU, in bytes; 0 if the router does not say.
        mtu: u32,
    },
    /// It cannot be delivered.
    Unreachable {
        /// Whether it never will: no such protocol or port, or forbidden (RFC 1122 §4.2.3.9,
        /// RFC 5461). A soft error may pass.
        hard: bool,
    },
    /// It took too many hops, or fragments of it were lost.
    TimeExceeded,
    /// A header field makes no sense to somebody.
    ParameterProblem,
    /// Source quench, obsolete by RFC 6633.
    SourceQuench,
}

/// Reads an ICMP or ICMPv6 message in a whole packet; the checksum is verified.
pub fn parse_icmp<'a>(ip: &IpPacket<'a>) -> Result<Icmp<'a>, DropReason> {
    if ip.fragment.is_some() {
        return Err(DropReason::UnexpectedFragment);
    }
    let sum = match (ip.src, ip.protocol) {
        (IpAddr::V4(_), protocol::ICMP) => Sum::default(),
        (IpAddr::V6(_), protocol::ICMPV6) => {
            checksum::pseudo_header(ip.src, ip.dst, ip.protocol, ip.payload.len() as u32)
        }
        _ => return Err(DropReason::NotForUs),
    };
    let (header, data) = ip.payload.split_first_chunk::<ICMP_LEN>().ok_or(DropReason::Truncated)?;
    if !sum.add_bytes(ip.payload).is_intact() {
        return Err(DropReason::BadChecksum);
    }
    if is_echo_request(ip.src, header) {
        let id = u16::from_be_bytes([header[4], header[5]]);
        let seq = u16::from_be_bytes([header[6], header[7]]);
        return Ok(Icmp::EchoRequest { id, seq, data });
    }
    let kind = if ip.src.is_ipv4() { v4_kind(header) } else { v6_kind(header) };
    let Some(kind) = kind else { return Ok(Icmp::Other) };
    let quote = if ip.src.is_ipv4() { v4_quote(data)? } else { v6_quote(data)? };
    let Some(quote) = quote else { return Ok(Icmp::Other) };
    if quote.src != ip.dst {
        return Err(DropReason::BadMessage);
    }
    Ok(Icmp::Error(quote.into_error(kind)))
}

fn is_echo_request(src: IpAddr, header: &[u8; ICMP_LEN]) -> bool {
    let request = if src.is_ipv4() { V4_ECHO_REQUEST } else { V6_ECHO_REQUEST };
    header[0] == request && header[1] == 0
}

/// RFC 792, RFC 1122 §3.2.2, RFC 1191 §4. Which codes are hard is decided as Linux does.
fn v4_kind(header: &[u8; ICMP_LEN]) -> Option<IcmpKind> {
    match (header[0], header[1]) {
        (3, 4) => {
            let mtu = u32::from(u16::from_be_bytes([header[6], header[7]]));
            Some(IcmpKind::TooBig { mtu })
        }
        // Protocol, port; unknown network or host, isolated; prohibited, in five ways.
        (3, 2 | 3 | 6..=10 | 13..=15) => Some(IcmpKind::Unreachable { hard: true }),
        // Network, host, source route failed; not for this type of service.
        (3, 0 | 1 | 5 | 11 | 12) => Some(IcmpKind::Unreachable { hard: false }),
        (4, 0) => Some(IcmpKind::SourceQuench),
        (11, _) => Some(IcmpKind::TimeExceeded),
        (12, _) => Some(IcmpKind::ParameterProblem),
        _ => None,
    }
}

/// RFC 4443 §3.
fn v6_kind(header: &[u8; ICMP_LEN]) -> Option<IcmpKind> {
    match (header[0], header[1]) {
        // Prohibited, port, source address policy, rejected route.
        (1, 1 | 4 | 5 | 6) => Some(IcmpKind::Unreachable { hard: true }),
        // No route, beyond scope, address; and codes yet to come.
        (1, _) => Some(IcmpKind::Unreachable { hard: false }),
        (2, _) => {
            let mtu = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            Some(IcmpKind::TooBig { mtu })
        }
        (3, _) => Some(IcmpKind::TimeExceeded),
        (4, _) => Some(IcmpKind::ParameterProblem),
        _ => None,
    }
}

/// The start of a packet of ours, as a router has sent it back: ports and sequence number are
/// always there, more may not be.
struct Quote<'a> {
    src: IpAddr,
    dst: IpAddr,
    len: u32,
    tcp: &'a [u8; 8],
}

impl Quote<'_> {
    fn into_error(self, kind: IcmpKind) -> IcmpError {
        let &[a, b, c, d, e, f, g, h] = self.tcp;
        let local = Endpoint::new(self.src, u16::from_be_bytes([a, b]));
        let remote = Endpoint::new(self.dst, u16::from_be_bytes([c, d]));
        IcmpError {
            kind,
            tuple: FourTuple { local, remote },
            seq: SeqNum(u32::from_be_bytes([e, f, g, h])),
            quoted_len: self.len,
        }
    }
}

/// `None` if the quoted packet is no TCP packet. Its checksum is not verified: TTL and more may
/// have changed on the way.
fn v4_quote(bytes: &[u8]) -> Result<Option<Quote<'_>>, DropReason> {
    let ip = bytes.first_chunk::<V4_LEN>().ok_or(DropReason::Truncated)?;
    if ip[0] >> 4 != 4 {
        return Err(DropReason::BadMessage);
    }
    let is_later_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0;
    if ip[9] != protocol::TCP || is_later_fragment {
        return Ok(None);
    }
    let header_len = usize::from(ip[0] & 0x0f) * 4;
    if header_len < V4_LEN {
        return Err(DropReason::BadHeaderLength);
    }
    let tcp = bytes.get(header_len..).and_then(|rest| rest.first_chunk());
    Ok(Some(Quote {
        src: Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]).into(),
        dst: Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]).into(),
        len: u32::from(u16::from_be_bytes([ip[2], ip[3]])),
        tcp: tcp.ok_or(DropReason::Truncated)?,
    }))
}

/// `None` if the quoted packet is no TCP packet. Ours have no extension headers.
fn v6_quote(bytes: &[u8]) -> Result<Option<Quote<'_>>, DropReason> {
    let (ip, rest) = bytes.split_first_chunk::<V6_LEN>().ok_or(DropReason::Truncated)?;
    if ip[0] >> 4 != 6 {
        return Err(DropReason::BadMessage);
    }
    if ip[6] != protocol::TCP {
        return Ok(None);
    }
    let address = |at: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&ip[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Ok(Some(Quote {
        src: address(8),
        dst: address(24),
        len: V6_LEN as u32 + u32::from(u16::from_be_bytes([ip[4], ip[5]])),
        tcp: rest.first_chunk().ok_or(DropReason::Truncated)?,
    }))
}

/// Replaces what is in `buf` by the answer to an echo request: one whole IP packet, up to 64 KiB,
/// which [`super::Fragments`] cuts to the link's MTU. `ip_id` is for IPv4; DF is not set.
///
/// The request must have come through [`parse_icmp`]: its checksum is carried over by the change of
/// type alone (RFC 1624), so that damage which came in would also go out.
pub fn write_echo_reply(
    request: &IpPacket<'_>,
    ttl: u8,
    ip_id: u16,
    buf: &mut Vec<u8>,
) -> Result<(), DropReason> {
    let (header, data) =
        request.payload.split_first_chunk::<ICMP_LEN>().ok_or(DropReason::Truncated)?;
    if request.fragment.is_some() {
        return Err(DropReason::UnexpectedFragment);
    }
    if !is_echo_request(request.src, header) {
        return Err(DropReason::NotForUs);
    }
    buf.clear();
    write_reply_ip(request, ttl, ip_id, buf)?;
    let reply = if request.src.is_ipv4() { V4_ECHO_REPLY } else { V6_ECHO_REPLY };
    buf.extend_from_slice(&reply_header(header, reply, data));
    buf.extend_from_slice(data);
    Ok(())
}

fn write_reply_ip(
    request: &IpPacket<'_>,
    ttl: u8,
    ip_id: u16,
    buf: &mut Vec<u8>,
) -> Result<(), DropReason> {
    let too_long = |_| DropReason::BadHeaderLength;
    let length = request.payload.len();
    match (request.dst, request.src) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total_len = u16::try_from(V4_LEN + length).map_err(too_long)?;
            let (protocol, id) = (protocol::ICMP, ip_id);
            let header =
                V4Header { src, dst, protocol, ttl, ecn: 0, id, dont_fragment: false, total_len };
            buf.extend_from_slice(&header.to_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let payload_len = u16::try_from(length).map_err(too_long)?;
            let next_header = protocol::ICMPV6;
            let header = V6Header { src, dst, next_header, hop_limit: ttl, ecn: 0, payload_len };
            buf.extend_from_slice(&header.to_bytes());
        }
        _ => return Err(DropReason::BadAddress),
    }
    Ok(())
}

/// The request's header with another type and the checksum that follows from it.
fn reply_header(request: &[u8; ICMP_LEN], kind: u8, data: &[u8]) -> [u8; ICMP_LEN] {
    let word = |kind: u8| u16::from_be_bytes([kind, 0]);
    let old = u16::from_be_bytes([request[2], request[3]]);
    let sum = Sum::default().add_u16(!old).add_u16(!word(request[0])).add_u16(word(kind));
    let mut header = *request;
    header[0] = kind;
    header[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    if header == [0; ICMP_LEN] && data.iter().all(|byte| *byte == 0) {
        // The one message whose sum is 0 in truth; RFC 1624 knows 0 as the sum of 0xffff alone.
        header[2..4].fill(0xff);
    }
    header
}

#[cfg(test)]
#[path = "icmp_tests.rs"]
mod tests;
