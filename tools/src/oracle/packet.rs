//! Packets and frames as the observer reads them, by `etherparse`.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, NetSlice, SlicedPacket, TcpOptionElement, TcpSlice,
    TransportSlice,
};

/// The two ends of a connection. Flow labels and scopes are no part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) client: SocketAddr,
    pub(super) service: SocketAddr,
}

impl core::fmt::Display for Pair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} at {}", self.client, self.service)
    }
}

/// The options of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
    /// TSval and TSecr.
    pub(super) timestamps: Option<(u32, u32)>,
    /// Left and right edge of each block.
    pub(super) sack: Vec<(u32, u32)>,
    /// Their bytes, padding included.
    pub(super) length: usize,
}

/// One TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) seq: u32,
    /// Present with the ACK flag.
    pub(super) ack: Option<u32>,
    pub(super) window: u16,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) options: Options,
    pub(super) payload: &'a [u8],
    /// Whether the checksums of IP and TCP hold.
    pub(super) sound: bool,
}

impl Segment<'_> {
    /// Whether it says nothing: it only wants an answer, if its number is an odd one.
    pub(super) const fn is_bare(&self) -> bool {
        !(self.syn || self.fin || self.rst) && self.payload.is_empty() && self.ack.is_some()
    }

    /// Whether it is a question to an end of a splice that was dropped: with the widest window, and
    /// an echo of nothing.
    pub(super) fn asks(&self) -> bool {
        self.is_bare()
            && self.window == u16::MAX
            && self.options.timestamps.is_some_and(|(_, echo)| echo == 0)
    }
}

/// What an IP packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// TCP.
    Segment(Segment<'a>),
    /// Another protocol, or a fragment, from this address.
    Other(IpAddr),
    /// Nothing that can be read.
    Broken,
}

impl<'a> Packet<'a> {
    /// Reads a packet that begins with its IP header.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let Ok(packet) = SlicedPacket::from_ip(bytes) else { return Self::Broken };
        let (source, target) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                (header.source_addr().into(), header.destination_addr().into())
            }
            Some(NetSlice::Arp(_)) | None => return Self::Broken,
        };
        match &packet.transport {
            Some(TransportSlice::Tcp(tcp)) => {
                let sound = is_sound(packet.net.as_ref(), tcp);
                Self::Segment(segment(source, target, tcp, bytes, sound))
            }
            Some(_) | None => Self::Other(source),
        }
    }
}

fn segment<'a>(
    source: IpAddr,
    target: IpAddr,
    tcp: &TcpSlice<'a>,
    bytes: &'a [u8],
    sound: bool,
) -> Segment<'a> {
    // Borrowed from the packet rather than from the slice, which lives shorter.
    let payload = &bytes[bytes.len() - tcp.payload().len()..];
    Segment {
        source: SocketAddr::new(source, tcp.source_port()),
        target: SocketAddr::new(target, tcp.destination_port()),
        seq: tcp.sequence_number(),
        ack: tcp.ack().then(|| tcp.acknowledgment_number()),
        window: tcp.window_size(),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        options: options(tcp),
        payload,
        sound,
    }
}

fn options(tcp: &TcpSlice<'_>) -> Options {
    let mut options = Options { length: tcp.options().len(), ..Options::default() };
    for option in tcp.options_iterator().flatten() {
        match option {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(mss) => options.mss = Some(mss),
            TcpOptionElement::WindowScale(scale) => options.window_scale = Some(scale.min(14)),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::SelectiveAcknowledgement(first, more) => {
                options.sack.push(first);
                options.sack.extend(more.into_iter().flatten());
            }
            TcpOptionElement::Timestamp(value, echo) => options.timestamps = Some((value, echo)),
        }
    }
    options
}

fn is_sound(net: Option<&NetSlice<'_>>, tcp: &TcpSlice<'_>) -> bool {
    let sum = match net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            if header.to_header().calc_header_checksum() != header.header_checksum() {
                return false;
            }
            tcp.calc_checksum_ipv4(header.source(), header.destination())
        }
        Some(NetSlice::Ipv6(ip)) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
        }
        Some(NetSlice::Arp(_)) | None => return false,
    };
    sum.is_ok_and(|sum| sum == tcp.checksum())
}

/// Which address an Ethernet frame claims for its sender: by ARP in either form, by a neighbour
/// advertisement, or by a solicitation sent from it. Probes claim nothing.
pub(super) fn claimed(frame: &[u8]) -> Option<IpAddr> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match packet.net? {
        NetSlice::Arp(arp) => claimed_by_arp(&arp),
        NetSlice::Ipv6(ip) => claimed_by_nd(ip.header().source_addr(), &packet.transport?),
        NetSlice::Ipv4(_) => None,
    }
}

fn claimed_by_arp(arp: &ArpPacketSlice<'_>) -> Option<IpAddr> {
    let speaks = matches!(arp.operation(), ArpOperation::REQUEST | ArpOperation::REPLY);
    if !speaks || arp.proto_addr_type() != EtherType::IPV4 {
        return None;
    }
    let sender: [u8; 4] = arp.sender_protocol_addr().try_into().ok()?;
    let sender = Ipv4Addr::from(sender);
    (!sender.is_unspecified()).then_some(IpAddr::V4(sender))
}

fn claimed_by_nd(source: Ipv6Addr, transport: &TransportSlice<'_>) -> Option<IpAddr> {
    const SOLICITATION: u8 = 135;
    const ADVERTISEMENT: u8 = 136;
    let TransportSlice::Icmpv6(icmp) = transport else { return None };
    match icmp.slice() {
        // Type, code, checksum, flags, then the target (RFC 4861 §4.4).
        [ADVERTISEMENT, _, _, _, _, _, _, _, rest @ ..] => {
            rest.first_chunk::<16>().map(|target| Ipv6Addr::from(*target).into())
        }
        [SOLICITATION, ..] if !source.is_unspecified() => Some(source.into()),
        _ => None,
    }
}

/// Whether `a` lies before `b` on the circle of sequence numbers (RFC 9293 §3.4).
pub(super) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The stream offset of sequence number `seq`, where offset 0 has the number `start` and the true
/// one lies within 2 GiB of `near`.
pub(super) const fn offset_of(seq: u32, start: u32, near: u64) -> i64 {
    let expected = start.wrapping_add(near as u32);
    near as i64 + seq.wrapping_sub(expected) as i32 as i64
}
