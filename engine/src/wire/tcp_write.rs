//! Headers before a payload that is already in place.
//!
//! The caller knows the header's length before it asks for the payload, leaves that much room, and
//! has the header written last:
//!
//! ```text
//!  [ vnet 10 ][ ip 20 or 40 ][ tcp 20..60 ][ payload ]
//!              ◄──── TcpHeader::len() ────►◄ payload_len ►
//! ```
//!
//! With [`Offload::Partial`] the payload is not looked at: the checksum field gets the folded sum
//! of the pseudo-header, and the kernel or the NIC adds the rest. A payload longer than the MSS
//! leaves as one super-packet and is cut into segments below us.

use super::checksum::{self, Sum};
use super::ip::{V4_LEN, V4Header, V6_LEN, V6Header, protocol};
use super::tcp_read::{TCP_LEN, kind};
use super::{Flags, FourTuple, SeqNum, TcpOptions, VnetHeader};
use core::net::IpAddr;

/// The most option bytes a TCP header can hold.
const OPTIONS_MAX: usize = 40;
/// Where the checksum is in a TCP header.
pub(super) const CHECKSUM_AT: usize = 16;

/// Where the TCP checksum is computed, and where a long payload is cut into segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offload {
    /// Nobody else: the checksum is computed here, over the payload too.
    Full,
    /// The kernel.
    Partial {
        /// Payload bytes per segment on the wire. A longer payload is sent as a super-packet; 0
        /// means that it never is.
        mss: u16,
    },
}

/// Everything in the headers of one TCP packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpHeader {
    /// The connection; its local end is the source. Both ends are of one address family.
    pub tuple: FourTuple,
    /// SEG.SEQ.
    pub seq: SeqNum,
    /// SEG.ACK.
    pub ack: SeqNum,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND, scaled already.
    pub window: u16,
    /// The options. SACK blocks beyond the 40 bytes that options may take are left out, last first.
    pub options: TcpOptions,
    /// The ECN codepoint of the IP header, 0 to 3.
    pub ecn: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Identification of the IPv4 packet; a super-packet's segments count up from it. DF is set,
    /// so it matters to nobody (RFC 6864) except to header compression. Unused with IPv6.
    pub ip_id: u16,
}

impl TcpHeader {
    /// Length of the IP and TCP header together, options padded: 40 to 100 bytes.
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub fn len(&self) -> usize {
        self.ip_len() + TCP_LEN + options_len(&self.options)
    }

    /// Writes the header into `buf[..self.len()]`, for the payload that follows it directly, and
    /// says what goes before it.
    ///
    /// # Panics
    ///
    /// If `buf` does not hold header and payload, the packet is longer than an IP header can
    /// state, or the tuple's ends are of different families.
    pub fn write(&self, buf: &mut [u8], payload_len: usize, offload: Offload) -> VnetHeader {
        let (ip_len, header_len) = (self.ip_len(), self.len());
        let packet = &mut buf[..header_len + payload_len];
        let (ip, tcp) = packet.split_at_mut(ip_len);
        let tcp_len = u16::try_from(tcp.len()).expect("a TCP segment fits in an IP packet");
        self.write_ip(ip, tcp_len);
        self.write_tcp(tcp, header_len - ip_len);
        let pseudo = self.pseudo_header(tcp_len);
        let (sum, vnet) = match offload {
            Offload::Full => (pseudo.add_bytes(tcp).checksum(), VnetHeader::PLAIN),
            Offload::Partial { mss } => (pseudo.folded(), self.vnet(payload_len, mss)),
        };
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&sum.to_be_bytes());
        vnet
    }

    const fn ip_len(&self) -> usize {
        if self.tuple.is_ipv6() { V6_LEN } else { V4_LEN }
    }

    fn write_ip(&self, ip: &mut [u8], tcp_len: u16) {
        match (self.tuple.local.ip(), self.tuple.remote.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let header = V4Header {
                    src,
                    dst,
                    protocol: protocol::TCP,
                    ttl: self.ttl,
                    ecn: self.ecn,
                    id: self.ip_id,
                    dont_fragment: true,
                    total_len: tcp_len.checked_add(V4_LEN as u16).expect("IPv4 total length"),
                };
                ip.copy_from_slice(&header.to_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = V6Header {
                    src,
                    dst,
                    next_header: protocol::TCP,
                    hop_limit: self.ttl,
                    ecn: self.ecn,
                    payload_len: tcp_len,
                };
                ip.copy_from_slice(&header.to_bytes());
            }
            _ => panic!("both ends of a connection are of one address family"),
        }
    }

    /// Writes the TCP header with a checksum field of zero.
    fn write_tcp(&self, tcp: &mut [u8], tcp_header_len: usize) {
        let mut header = [0; TCP_LEN];
        header[0..2].copy_from_slice(&self.tuple.local.port().to_be_bytes());
        header[2..4].copy_from_slice(&self.tuple.remote.port().to_be_bytes());
        header[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        header[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        header[12] = (tcp_header_len / 4 * 16) as u8;
        header[13] = self.flags.bits();
        header[14..16].copy_from_slice(&self.window.to_be_bytes());
        tcp[..TCP_LEN].copy_from_slice(&header);
        write_options(&self.options, &mut tcp[TCP_LEN..tcp_header_len]);
    }

    fn pseudo_header(&self, tcp_len: u16) -> Sum {
        let (source, destination) = (self.tuple.local.ip(), self.tuple.remote.ip());
        checksum::pseudo_header(source, destination, protocol::TCP, u32::from(tcp_len))
    }

    fn vnet(&self, payload_len: usize, mss: u16) -> VnetHeader {
        let plain = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_NONE,
            header_len: self.len() as u16,
            gso_size: 0,
            csum_start: self.ip_len() as u16,
            csum_offset: CHECKSUM_AT as u16,
        };
        if mss == 0 || payload_len <= usize::from(mss) {
            return plain;
        }
        let family =
            if self.tuple.is_ipv6() { VnetHeader::GSO_TCPV6 } else { VnetHeader::GSO_TCPV4 };
        let ecn = if self.flags.contains(Flags::CWR) { VnetHeader::GSO_ECN } else { 0 };
        VnetHeader { gso_type: family | ecn, gso_size: mss, ..plain }
    }
}

/// How many bytes the options take, padding included: a multiple of 4 up to 40.
fn options_len(options: &TcpOptions) -> usize {
    let fixed = fixed_options_len(options);
    match sack_count(options, fixed) {
        0 => fixed,
        blocks => fixed + 4 + 8 * blocks,
    }
}

/// The options but SACK blocks: at most 20 bytes.
fn fixed_options_len(options: &TcpOptions) -> usize {
    let mss = if options.mss.is_some() { 4 } else { 0 };
    let scale = if options.window_scale.is_some() { 4 } else { 0 };
    let rest = match (options.timestamps, options.sack_permitted) {
        (Some(_), _) => 12,
        (None, true) => 4,
        (None, false) => 0,
    };
    mss + scale + rest
}

/// How many SACK blocks fit beside the other options.
fn sack_count(options: &TcpOptions, fixed: usize) -> usize {
    options.sack.len().min((OPTIONS_MAX - fixed - 4) / 8)
}

/// Writes the options in groups of four bytes, in the order Linux has them: hosts that compare
/// stacks by their option layout see nothing new. `SACK_PERMITTED` stands where timestamps would
/// else have their padding.
fn write_options(options: &TcpOptions, buf: &mut [u8]) {
    const NOP: u8 = kind::NO_OPERATION;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        buf[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    if let Some(mss) = options.mss {
        let [high, low] = mss.to_be_bytes();
        put(&[kind::MSS, 4, high, low]);
    }
    if options.sack_permitted && options.timestamps.is_some() {
        put(&[kind::SACK_PERMITTED, 2]);
    } else if options.sack_permitted {
        put(&[NOP, NOP, kind::SACK_PERMITTED, 2]);
    } else if options.timestamps.is_some() {
        put(&[NOP, NOP]);
    }
    if let Some(timestamps) = options.timestamps {
        put(&[kind::TIMESTAMPS, 10]);
        put(&timestamps.val.to_be_bytes());
        put(&timestamps.ecr.to_be_bytes());
    }
    if let Some(shift) = options.window_scale {
        put(&[NOP, kind::WINDOW_SCALE, 3, shift]);
    }
    let blocks = sack_count(options, fixed_options_len(options));
    if blocks > 0 {
        put(&[NOP, NOP, kind::SACK, (2 + 8 * blocks) as u8]);
        for block in &options.sack[..blocks] {
            put(&block.left.0.to_be_bytes());
            put(&block.right.0.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ChecksumState, SackBlock, Timestamps, parse_ip, parse_tcp};

    fn header(ipv6: bool) -> TcpHeader {
        let (local, remote) = if ipv6 {
            ("[fd77::100]:7", "[fd77::10]:40000")
        } else {
            ("10.77.0.100:7", "10.77.0.10:40000")
        };
        TcpHeader {
            tuple: FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() },
            seq: SeqNum(1),
            ack: SeqNum(2),
            flags: Flags::ACK,
            window: 3,
            options: TcpOptions { timestamps: Some(Timestamps::default()), ..Default::default() },
            ecn: 2,
            ttl: 64,
            ip_id: 9,
        }
    }

    /// What the kernel does with `NEEDS_CSUM`: sums from `csum_start`, the field included.
    fn complete(vnet: VnetHeader, packet: &mut [u8]) {
        let start = usize::from(vnet.csum_start);
        let at = start + usize::from(vnet.csum_offset);
        let sum = checksum::checksum(&packet[start..]);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn partial_checksum_completes_to_the_full_one() {
        for ipv6 in [false, true] {
            let header = header(ipv6);
            let mut full = vec![0xa5; header.len() + 999];
            let mut partial = full.clone();
            assert_eq!(header.write(&mut full, 999, Offload::Full), VnetHeader::PLAIN);
            let vnet = header.write(&mut partial, 999, Offload::Partial { mss: 999 });
            assert_ne!(partial, full);
            complete(vnet, &mut partial);
            assert_eq!(partial, full);
            let ip = parse_ip(&full).unwrap();
            assert!(parse_tcp(&ip, ChecksumState::Verify).is_ok());
        }
    }

    #[test]
    fn packet_of_one_segment_asks_for_a_checksum_only() {
        let header = header(false);
        let vnet = header.write(&mut [0; 1500], 1000, Offload::Partial { mss: 1000 });
        let expected = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_NONE,
            header_len: 52,
            gso_size: 0,
            csum_start: 20,
            csum_offset: 16,
        };
        assert_eq!(vnet, expected);
        let unlimited = header.write(&mut [0; 1500], 1001, Offload::Partial { mss: 0 });
        assert_eq!(unlimited, expected);
    }

    #[test]
    fn longer_payload_becomes_a_super_packet() {
        let mut header = header(true);
        let offload = Offload::Partial { mss: 1000 };
        let expected = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_TCPV6,
            header_len: 72,
            gso_size: 1000,
            csum_start: 40,
            csum_offset: 16,
        };
        assert_eq!(header.write(&mut [0; 1500], 1001, offload), expected);
        header.flags |= Flags::CWR;
        let with_cwr = VnetHeader { gso_type: 4 | 0x80, ..expected };
        assert_eq!(header.write(&mut [0; 1500], 1001, offload), with_cwr);
    }

    #[test]
    fn largest_packet_fits_and_one_more_byte_is_our_mistake() {
        let header = header(false);
        let payload = 65_535 - header.len();
        let mut buf = vec![0; 65_536];
        header.write(&mut buf, payload, Offload::Full);
        assert_eq!(parse_ip(&buf).unwrap().payload.len(), 65_515);
        let beyond = std::panic::catch_unwind(move || {
            header.write(&mut buf, payload + 1, Offload::Full);
        });
        assert!(beyond.is_err());
    }

    #[test]
    fn syn_has_the_layout_of_linux() {
        let mut header = header(false);
        header.options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(Timestamps { val: 1, ecr: 0 }),
            sack: Default::default(),
        };
        let mut buf = [0; 60];
        header.write(&mut buf, 0, Offload::Full);
        let expected = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(buf[40..], expected);
    }

    #[test]
    fn sack_blocks_that_do_not_fit_are_left_out() {
        let block = |n| SackBlock { left: SeqNum(n), right: SeqNum(n + 1) };
        let mut header = header(false);
        header.options.sack = [block(1), block(3), block(5), block(7)].into_iter().collect();
        assert_eq!(header.len(), 20 + 20 + 12 + 4 + 3 * 8);
        let mut buf = [0; 100];
        header.write(&mut buf, 0, Offload::Full);
        let ip = parse_ip(&buf).unwrap();
        let (_, _, segment) = parse_tcp(&ip, ChecksumState::Verify).unwrap();
        assert_eq!(segment.options.sack[..], header.options.sack[..3]);
    }
}
