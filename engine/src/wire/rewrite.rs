//! A packet of one leg of a splice, turned into one of the other leg, in place.
//!
//! The two ends of a splice speak TCP with each other. What stands between them changes what each
//! leg has of its own, names and numbers, and leaves the rest to the ends: windows, ECN, urgent
//! data, options that it does not know, and the text.
//!
//! ```text
//!  [ ip: addresses, sum ][ tcp: ports, SEQ, ACK, sum, options: MSS, SACK, TS ][ text ]
//!   ◄─────────────────────── read and changed ──────────────────────────────►  left alone
//! ```
//!
//! TTL and hop limit stay, too: to each end the pair is a host and not a router, and what one end chose
//! is for the other to judge (1 of a neighbour, 255 that no router can have sent: RFC 5082). So a packet
//! could go around for ever, if a splice led back to where it came from. It cannot: only packets of
//! splices are rewritten, a splice begins with a SYN, and that is made anew and is answered for, with a
//! slot and a port of its own, each time around.
//!
//! Checksums are carried over (RFC 1624): the change of what was rewritten is added to them, and
//! they are never computed anew. So whatever damage came in also goes out, and the receiver sees
//! it: the checksum stays end to end, as the acknowledgments do.

use super::checksum::Sum;
use super::ip::{V4_LEN, V6_LEN};
use super::tcp_read::{TCP_LEN, kind};
use super::tcp_write::CHECKSUM_AT;
use super::{DropReason, Endpoint, Flags};
use core::net::IpAddr;
use core::ops::Range;

/// Where the checksum is in an IPv4 header.
const V4_CHECKSUM_AT: usize = 10;

/// What a packet's headers become on its way from one leg of a splice to the other.
///
/// Numbers are added modulo 2^32. The way back has the negated ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewrite {
    /// The new source.
    pub source: Endpoint,
    /// The new destination; both are of the packet's address family.
    pub destination: Endpoint,
    /// Added to SEG.SEQ.
    pub seq: u32,
    /// Added to SEG.ACK, if the ACK bit is set, and to both edges of every SACK block.
    pub ack: u32,
    /// Added to TSval.
    pub ts_val: u32,
    /// Added to TSecr, if the ACK bit is set: else it says nothing and stays, RFC 7323 §3.2.
    pub ts_ecr: u32,
    /// An MSS option that says more is lowered to this.
    pub mss_max: u16,
}

/// What the TCP checksum field of a packet holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumField {
    /// The checksum.
    Full,
    /// The folded sum of the pseudo-header, see [`super::VnetHeader::NEEDS_CSUM`].
    Partial,
}

impl Rewrite {
    /// Rewrites the IP packet in `packet`, and returns its length without the padding behind it.
    ///
    /// The packet is one that [`super::parse_ip`] takes for whole and [`super::parse_tcp`] for
    /// TCP, and `segment_len` is the length of its [`super::IpPacket::payload`]: the segment is the
    /// packet's end, whatever IP options or extension headers come before it. A packet that is
    /// refused is as it was.
    pub fn apply(
        &self,
        packet: &mut [u8],
        segment_len: usize,
        field: ChecksumField,
    ) -> Result<usize, DropReason> {
        let layout = Layout::of(packet, segment_len)?;
        let is_ipv6 = layout.is_ipv6();
        if self.source.is_ipv6() != is_ipv6 || self.destination.is_ipv6() != is_ipv6 {
            return Err(DropReason::BadAddress);
        }
        // RFC 1122 §3.2.1.7: nothing is sent with 0.
        if packet[layout.ttl_at] == 0 {
            return Err(DropReason::TtlExceeded);
        }
        let (ip, tcp) = packet[..layout.text_at].split_at_mut(layout.tcp_at);
        let old = Sum::default().add_bytes(&ip[layout.addresses.clone()]);
        self.change_ip(ip, &layout);
        let new = Sum::default().add_bytes(&ip[layout.addresses.clone()]);
        let sum = match field {
            ChecksumField::Full => {
                let old = old.add_bytes(tcp);
                self.change_tcp(tcp);
                carried_over(old, new.add_bytes(tcp))
            }
            // The field is a part of the sum, not its complement, and knows nothing of the segment.
            ChecksumField::Partial => {
                let partial = u16::from_be_bytes([tcp[CHECKSUM_AT], tcp[CHECKSUM_AT + 1]]);
                self.change_tcp(tcp);
                new.add_u16(partial).add_u16(!old.folded()).folded()
            }
        };
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        Ok(layout.total_len)
    }

    fn change_ip(&self, ip: &mut [u8], layout: &Layout) {
        let old = Sum::default().add_bytes(ip);
        let (source, destination) =
            ip[layout.addresses.clone()].split_at_mut(layout.addresses.len() / 2);
        put_address(source, self.source.ip());
        put_address(destination, self.destination.ip());
        if !layout.is_ipv6() {
            let field = V4_CHECKSUM_AT..V4_CHECKSUM_AT + 2;
            ip[field.clone()].fill(0);
            let sum = carried_over(old, Sum::default().add_bytes(ip));
            ip[field].copy_from_slice(&sum.to_be_bytes());
        }
    }

    /// Changes a TCP header, and leaves a checksum field of zero.
    fn change_tcp(&self, tcp: &mut [u8]) {
        let (header, options) = tcp.split_at_mut(TCP_LEN);
        let is_ack = Flags::from_bits_retain(header[13]).contains(Flags::ACK);
        header[0..2].copy_from_slice(&self.source.port().to_be_bytes());
        header[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        shift(&mut header[4..8], self.seq);
        if is_ack {
            shift(&mut header[8..12], self.ack);
        }
        header[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
        self.change_options(options, is_ack);
    }

    /// Walks the list as far as a receiver does, see [`super::parse_tcp`].
    fn change_options(&self, options: &mut [u8], is_ack: bool) {
        let mut rest = options;
        while let Some((&mut option, after)) = rest.split_first_mut() {
            match option {
                kind::END => break,
                kind::NO_OPERATION => rest = after,
                _ => {
                    let Some((value, after)) = split_value(after) else { break };
                    self.change_option(option, value, is_ack);
                    rest = after;
                }
            }
        }
    }

    fn change_option(&self, option: u8, value: &mut [u8], is_ack: bool) {
        match (option, value.len()) {
            (kind::MSS, 2) => {
                let mss = u16::from_be_bytes([value[0], value[1]]).min(self.mss_max);
                value.copy_from_slice(&mss.to_be_bytes());
            }
            (kind::TIMESTAMPS, 8) => {
                shift(&mut value[..4], self.ts_val);
                if is_ack {
                    shift(&mut value[4..], self.ts_ecr);
                }
            }
            (kind::SACK, length) if length % 8 == 0 => {
                value.chunks_exact_mut(4).for_each(|edge| shift(edge, self.ack));
            }
            _ => {}
        }
    }
}

/// Where things are in a packet; all of it lies within the packet.
struct Layout {
    ttl_at: usize,
    addresses: Range<usize>,
    tcp_at: usize,
    text_at: usize,
    total_len: usize,
}

impl Layout {
    fn of(packet: &[u8], segment_len: usize) -> Result<Self, DropReason> {
        let version = packet.first().ok_or(DropReason::Truncated)? >> 4;
        let (ttl_at, addresses) = match version {
            4 => (8, 12..V4_LEN),
            6 => (7, 8..V6_LEN),
            _ => return Err(DropReason::BadVersion),
        };
        let fixed = packet.get(..addresses.end).ok_or(DropReason::Truncated)?;
        let total_len = if version == 4 {
            usize::from(u16::from_be_bytes([fixed[2], fixed[3]]))
        } else {
            V6_LEN + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]))
        };
        let tcp_at = total_len.checked_sub(segment_len).ok_or(DropReason::BadHeaderLength)?;
        let is_end_of_ip = match version {
            4 => tcp_at >= V4_LEN && tcp_at == usize::from(fixed[0] & 0x0f) * 4,
            _ => tcp_at >= V6_LEN,
        };
        if !is_end_of_ip {
            return Err(DropReason::BadHeaderLength);
        }
        let segment = packet.get(tcp_at..total_len).ok_or(DropReason::Truncated)?;
        let header = segment.first_chunk::<TCP_LEN>().ok_or(DropReason::Truncated)?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < TCP_LEN || header_len > segment_len {
            return Err(DropReason::BadHeaderLength);
        }
        Ok(Self { ttl_at, addresses, tcp_at, text_at: tcp_at + header_len, total_len })
    }

    const fn is_ipv6(&self) -> bool {
        self.addresses.end == V6_LEN
    }
}

/// The checksum for data that had the sum `old`, its checksum included, and has the sum `new`
/// without it: RFC 1624 §3, equation 3. It is as right or wrong as the old one was.
fn carried_over(old: Sum, new: Sum) -> u16 {
    new.add_u16(!old.folded()).checksum()
}

/// Adds `by` to the number in a field of four bytes.
fn shift(field: &mut [u8], by: u32) {
    if let Ok(number) = <&mut [u8; 4]>::try_from(field) {
        *number = u32::from_be_bytes(*number).wrapping_add(by).to_be_bytes();
    }
}

/// Writes an address into a field of its family's length.
fn put_address(field: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(v4) => field.copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => field.copy_from_slice(&v6.octets()),
    }
}

/// Splits the list after an option's kind into the option's value and what follows it.
fn split_value(bytes: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let (&mut length, rest) = bytes.split_first_mut()?;
    rest.split_at_mut_checked(usize::from(length).checked_sub(2)?)
}

#[cfg(test)]
#[path = "rewrite_tests.rs"]
mod tests;
