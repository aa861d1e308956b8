//! One captured TCP segment.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, TcpOptionElement, TcpSlice};

/// A block of bytes: the first sequence number held and the first not held.
pub(crate) type Block = (u32, u32);

/// What is looked at in a segment. Super-segments, as captured on hosts with offload, are segments
/// like others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting<'a> {
    /// Unknown where the link has no addresses.
    pub(crate) source_mac: Option<[u8; 6]>,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) sequence: u32,
    /// Present with the ACK flag.
    pub(crate) acknowledgment: Option<u32>,
    pub(crate) window: u16,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    pub(crate) psh: bool,
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack_permitted: bool,
    pub(crate) sack: [Option<Block>; 4],
    /// TSval and TSecr.
    pub(crate) timestamps: Option<(u32, u32)>,
    /// The payload's length on the wire.
    pub(crate) length: u32,
    /// The payload as far as it was captured.
    pub(crate) payload: &'a [u8],
}

impl<'a> Sighting<'a> {
    pub(super) fn of(net: &LaxNetSlice<'a>, tcp: &TcpSlice<'a>, mac: Option<[u8; 6]>) -> Self {
        let (source, target, missing) = ends(net);
        let payload = tcp.payload();
        let mut sighting = Self {
            source_mac: mac,
            source: SocketAddr::new(source, tcp.source_port()),
            target: SocketAddr::new(target, tcp.destination_port()),
            sequence: tcp.sequence_number(),
            acknowledgment: tcp.ack().then(|| tcp.acknowledgment_number()),
            window: tcp.window_size(),
            syn: tcp.syn(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            psh: tcp.psh(),
            mss: None,
            window_scale: None,
            sack_permitted: false,
            sack: [None; 4],
            timestamps: None,
            // An IP packet has at most 4 GiB, a captured one 16 MiB.
            length: (payload.len() + missing) as u32,
            payload,
        };
        for option in tcp.options_iterator().flatten() {
            sighting.take_option(option);
        }
        sighting
    }

    fn take_option(&mut self, option: TcpOptionElement) {
        match option {
            TcpOptionElement::WindowScale(scale) => self.window_scale = Some(scale.min(14)),
            TcpOptionElement::Timestamp(value, echo) => self.timestamps = Some((value, echo)),
            TcpOptionElement::MaximumSegmentSize(mss) => self.mss = Some(mss),
            TcpOptionElement::SelectiveAcknowledgementPermitted => self.sack_permitted = true,
            TcpOptionElement::SelectiveAcknowledgement(first, [b, c, d]) => {
                self.sack = [Some(first), b, c, d];
            }
            TcpOptionElement::Noop => {}
        }
    }

    /// A SYN that is not an answer.
    pub(crate) const fn is_opening(&self) -> bool {
        self.syn && self.acknowledgment.is_none()
    }

    /// Whether the capture holds all of the payload.
    pub(crate) fn is_whole(&self) -> bool {
        self.payload.len() == self.length as usize
    }

    /// The sequence number after this segment, SYN and FIN counted.
    pub(crate) const fn end(&self) -> u32 {
        let length = self.length + self.syn as u32 + self.fin as u32;
        self.sequence.wrapping_add(length)
    }
}

/// Source, target, and the bytes of the packet that the capture has not kept.
fn ends(net: &LaxNetSlice<'_>) -> (IpAddr, IpAddr, usize) {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let stated = usize::from(header.total_len());
            let kept = header.slice().len() + ip.payload().payload.len();
            let (source, target) = (header.source_addr(), header.destination_addr());
            (IpAddr::V4(source), IpAddr::V4(target), stated.saturating_sub(kept))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let stated = usize::from(header.payload_length());
            let kept = ip.extensions().slice().len() + ip.payload().payload.len();
            let (source, target) = (header.source_addr(), header.destination_addr());
            (IpAddr::V6(source), IpAddr::V6(target), stated.saturating_sub(kept))
        }
        LaxNetSlice::Arp(_) => {
            let nobody = IpAddr::from([0, 0, 0, 0]);
            (nobody, nobody, 0)
        }
    }
}

/// Whether `a` lies before `b` on the circle of sequence numbers (RFC 9293 §3.4).
pub(crate) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The later of two sequence numbers.
pub(crate) const fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}
