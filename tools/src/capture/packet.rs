//! One captured TCP segment.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpOptionElement, TransportSlice};

/// What the checks look at in a segment. Super-segments, as captured on hosts with offload, are
/// segments like others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting<'a> {
    pub(super) source_mac: [u8; 6],
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    pub(super) sequence: u32,
    /// Present with the ACK flag.
    pub(super) acknowledgment: Option<u32>,
    pub(super) window: u16,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) window_scale: Option<u8>,
    /// TSval and TSecr.
    pub(super) timestamps: Option<(u32, u32)>,
    /// The payload as far as it was captured.
    pub(super) payload: &'a [u8],
}

impl<'a> Sighting<'a> {
    /// Reads a frame; `None` where it holds no TCP segment.
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
        let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
        let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { return None };
        let (source, target) = match packet.net? {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                (IpAddr::V4(header.source_addr()), IpAddr::V4(header.destination_addr()))
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                (IpAddr::V6(header.source_addr()), IpAddr::V6(header.destination_addr()))
            }
            LaxNetSlice::Arp(_) => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
        let mut sighting = Self {
            source_mac: ethernet.source(),
            source: SocketAddr::new(source, tcp.source_port()),
            target: SocketAddr::new(target, tcp.destination_port()),
            sequence: tcp.sequence_number(),
            acknowledgment: tcp.ack().then(|| tcp.acknowledgment_number()),
            window: tcp.window_size(),
            syn: tcp.syn(),
            fin: tcp.fin(),
            rst: tcp.rst(),
            window_scale: None,
            timestamps: None,
            payload: tcp.payload(),
        };
        for option in tcp.options_iterator().flatten() {
            match option {
                TcpOptionElement::WindowScale(scale) => sighting.window_scale = Some(scale.min(14)),
                TcpOptionElement::Timestamp(value, echo) => {
                    sighting.timestamps = Some((value, echo));
                }
                TcpOptionElement::Noop
                | TcpOptionElement::MaximumSegmentSize(_)
                | TcpOptionElement::SelectiveAcknowledgementPermitted
                | TcpOptionElement::SelectiveAcknowledgement(_, _) => {}
            }
        }
        Some(sighting)
    }

    /// A SYN that is not an answer.
    pub(super) const fn is_opening(&self) -> bool {
        self.syn && self.acknowledgment.is_none()
    }

    /// The sequence number after this segment, SYN and FIN counted.
    pub(super) const fn end(&self) -> u32 {
        let length = self.payload.len() as u32 + self.syn as u32 + self.fin as u32;
        self.sequence.wrapping_add(length)
    }
}

/// Whether `a` lies before `b` on the circle of sequence numbers (RFC 9293 §3.4).
pub(super) const fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The later of two sequence numbers.
pub(super) const fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}
