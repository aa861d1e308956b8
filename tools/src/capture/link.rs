//! From a link's frame to the packet in it.
//!
//! Link types, as registered at tcpdump.org: Ethernet with any VLAN tags, raw IP, and both
//! "cooked" forms of a Linux capture on the interface `any`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};

use super::packet::Sighting;
use super::read::{Frame, MARKS};

const NULL: i32 = 0;
const ETHERNET: i32 = 1;
const RAW: i32 = 101;
const LOOP: i32 = 108;
const SLL: i32 = 113;
const IPV4: i32 = 228;
const IPV6: i32 = 229;
const SLL2: i32 = 276;

const SLL_HEADER: usize = 16;
const SLL2_HEADER: usize = 20;

/// Why a frame says nothing about a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unusable {
    /// A link type that is not read here.
    LinkType(i32),
    /// Its pcapng interface is not described.
    Interface,
    /// Too short for its own headers, though it was captured whole.
    Malformed,
    /// The capture kept too little of it to see the TCP header.
    Snapped,
    /// Not the first fragment of an IP packet, or a first one without a whole TCP header.
    Fragment,
    /// Another protocol.
    OtherProtocol,
    /// Of an engine's own capture: what happened to it, without a packet.
    Mark,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkType(kind) => write!(f, "of a link type that is not known here ({kind})"),
            Self::Interface => f.write_str("of an interface that the file does not describe"),
            Self::Malformed => f.write_str("malformed"),
            Self::Snapped => f.write_str("cut before the end of the TCP header"),
            Self::Fragment => f.write_str("fragments"),
            Self::OtherProtocol => f.write_str("of other protocols"),
            Self::Mark => f.write_str("that are an engine's marks and outlines of its log"),
        }
    }
}

/// What a frame shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen<'a> {
    /// A TCP segment.
    Segment(Sighting<'a>),
    /// A host announced an address unasked: gratuitous ARP, or an unsolicited neighbour
    /// advertisement that overrides (RFC 4861 §7.2.6).
    Claim {
        /// The address.
        address: IpAddr,
        /// Whose it is from now on.
        mac: [u8; 6],
    },
}

/// Looks into a frame.
pub(crate) fn look<'a>(frame: &Frame<'a>) -> Result<Seen<'a>, Unusable> {
    let bytes = frame.bytes;
    let snapped = (frame.length as usize) > bytes.len();
    let poor = if snapped { Unusable::Snapped } else { Unusable::Malformed };
    let packet = match frame.link.ok_or(Unusable::Interface)? {
        ETHERNET => LaxSlicedPacket::from_ethernet(bytes).map_err(|_| poor)?,
        MARKS if bytes.is_empty() => return Err(Unusable::Mark),
        MARKS | RAW | IPV4 | IPV6 => LaxSlicedPacket::from_ip(bytes).map_err(|_| poor)?,
        NULL | LOOP => {
            // Four bytes of an address family whose number depends on the system.
            let ip = bytes.get(4..).ok_or(poor)?;
            LaxSlicedPacket::from_ip(ip).map_err(|_| poor)?
        }
        SLL => cooked(bytes, SLL_HEADER, 14).ok_or(poor)?,
        SLL2 => cooked(bytes, SLL2_HEADER, 0).ok_or(poor)?,
        other => return Err(Unusable::LinkType(other)),
    };
    let mac = match &packet.link {
        Some(LinkSlice::Ethernet2(ethernet)) => Some(ethernet.source()),
        _ => cooked_mac(frame),
    };
    seen(&packet, mac, snapped)
}

fn cooked(bytes: &[u8], header: usize, protocol_at: usize) -> Option<LaxSlicedPacket<'_>> {
    let protocol = bytes.get(protocol_at..protocol_at + 2)?;
    let kind = EtherType(u16::from_be_bytes([protocol[0], protocol[1]]));
    Some(LaxSlicedPacket::from_ether_type(kind, bytes.get(header..)?))
}

/// The sender's hardware address, where a cooked header tells one. What this host sent itself has
/// its own.
fn cooked_mac(frame: &Frame<'_>) -> Option<[u8; 6]> {
    let (length, at) = match frame.link? {
        SLL => (u16::from_be_bytes([*frame.bytes.get(4)?, *frame.bytes.get(5)?]), 6),
        SLL2 => (u16::from(*frame.bytes.get(11)?), 12),
        _ => return None,
    };
    if length != 6 {
        return None;
    }
    frame.bytes.get(at..at + 6)?.try_into().ok()
}

fn seen<'a>(
    packet: &LaxSlicedPacket<'a>,
    mac: Option<[u8; 6]>,
    snapped: bool,
) -> Result<Seen<'a>, Unusable> {
    let poor = if snapped { Unusable::Snapped } else { Unusable::Malformed };
    let Some(net) = &packet.net else {
        return Err(if packet.stop_err.is_some() { poor } else { Unusable::OtherProtocol });
    };
    if let LaxNetSlice::Arp(arp) = net {
        let claim = gratuitous(arp.sender_protocol_addr(), arp.target_protocol_addr(), arp);
        return claim.ok_or(Unusable::OtherProtocol);
    }
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Ok(Seen::Segment(Sighting::of(net, tcp, mac))),
        Some(TransportSlice::Icmpv6(icmp)) => {
            advertisement(icmp.type_u8(), icmp.slice(), mac).ok_or(Unusable::OtherProtocol)
        }
        Some(_) => Err(Unusable::OtherProtocol),
        None => Err(without_transport(packet, net, poor)),
    }
}

fn without_transport(
    packet: &LaxSlicedPacket<'_>,
    net: &LaxNetSlice<'_>,
    poor: Unusable,
) -> Unusable {
    let payload = net.ip_payload_ref();
    if payload.is_some_and(|payload| payload.fragmented) {
        Unusable::Fragment
    } else if packet.stop_err.is_some() {
        poor
    } else {
        Unusable::OtherProtocol
    }
}

/// Both forms of gratuitous ARP name the same address as sender and target.
fn gratuitous(
    sender: &[u8],
    target: &[u8],
    arp: &etherparse::ArpPacketSlice<'_>,
) -> Option<Seen<'static>> {
    let address: [u8; 4] = sender.try_into().ok()?;
    let mac: [u8; 6] = arp.sender_hw_addr().try_into().ok()?;
    let address = Ipv4Addr::from(address);
    (sender == target && !address.is_unspecified())
        .then_some(Seen::Claim { address: IpAddr::V4(address), mac })
}

/// A neighbour advertisement (type 136) with the override flag and without the solicited one.
fn advertisement(kind: u8, icmp: &[u8], mac: Option<[u8; 6]>) -> Option<Seen<'static>> {
    const ADVERTISEMENT: u8 = 136;
    let flags = icmp.get(4)?;
    let target: [u8; 16] = icmp.get(8..24)?.try_into().ok()?;
    (kind == ADVERTISEMENT && flags & 0x60 == 0x20)
        .then_some(Seen::Claim { address: IpAddr::from(target), mac: mac? })
}
