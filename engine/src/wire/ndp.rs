//! Neighbour discovery for IPv6: solicitations and advertisements, RFC 4861 §4.3, §4.4, §7.
//!
//! Nothing authenticates these messages but that they cannot come from afar: a hop limit of 255
//! says that no router passed them on. One that carries extension headers, which nobody needs here
//! and which RFC 6980 forbids in the case of fragments, is not taken for one.

use super::checksum;
use super::ethernet::{ETHERTYPE_IPV6, EthernetHeader};
use super::ip::{self, V6_LEN, V6Header, protocol};
use super::{DropReason, ETHERNET_HEADER_LEN, Frame, IpPacket, MacAddr};
use core::net::{IpAddr, Ipv6Addr};

pub(super) const SOLICITATION: u8 = 135;
pub(super) const ADVERTISEMENT: u8 = 136;

/// Type, code, checksum, four bytes of flags or nothing, target.
const MESSAGE_LEN: usize = 24;
const SOURCE_LINK_OPTION: u8 = 1;
const TARGET_LINK_OPTION: u8 = 2;
const HOP_LIMIT: u8 = 255;
/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const ROUTER_BIT: u8 = 0x80;
const SOLICITED_BIT: u8 = 0x40;
const OVERRIDE_BIT: u8 = 0x20;

/// The group in which the owner of `addr` listens, RFC 4291 §2.7.1, and its Ethernet address,
/// RFC 2464 §7.
pub fn solicited_node(addr: Ipv6Addr) -> (Ipv6Addr, MacAddr) {
    let [.., a, b, c] = addr.octets();
    let low = u16::from_be_bytes([b, c]);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low);
    (group, multicast_mac(group))
}

fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// A question for the Ethernet address of `target`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourSolicitation {
    /// Ethernet source of the frame.
    pub source_mac: MacAddr,
    /// Ethernet destination of the frame.
    pub destination_mac: MacAddr,
    /// The asking node; unspecified if to detect a duplicate address (DAD, RFC 4862 §5.4).
    pub source: Ipv6Addr,
    /// The node asked: the target itself or its solicited-node group.
    pub destination: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// Source link-layer address option: where the answer is to go.
    pub source_link: Option<MacAddr>,
}

impl NeighbourSolicitation {
    /// Asks the link who has `target`.
    pub fn request(mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Self {
        let (destination, destination_mac) = solicited_node(target);
        let (source_mac, source_link) = (mac, Some(mac));
        Self { source_mac, destination_mac, source, destination, target, source_link }
    }

    /// Asks whether anybody has `target`, without claiming an address: RFC 4862 §5.4.2.
    pub fn probe(mac: MacAddr, target: Ipv6Addr) -> Self {
        let request = Self::request(mac, Ipv6Addr::UNSPECIFIED, target);
        Self { source_link: None, ..request }
    }

    /// Whether the asker means to take the address itself, and has none to be answered at.
    pub fn is_probe(&self) -> bool {
        self.source.is_unspecified()
    }

    /// Reads an Ethernet frame, with all checks of RFC 4861 §7.1.1.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let message = Message::parse(frame, SOLICITATION)?;
        let source_link = message.link_address(SOURCE_LINK_OPTION)?;
        let Message { ethernet, source, destination, target, .. } = message;
        if source.is_unspecified() {
            let to_group = destination == solicited_node(target).0;
            if !to_group || source_link.is_some() {
                return Err(DropReason::BadMessage);
            }
        }
        Ok(Self {
            source_mac: ethernet.source,
            destination_mac: ethernet.destination,
            source,
            destination,
            target,
            source_link,
        })
    }

    /// The Ethernet frame.
    pub fn to_frame(&self) -> Frame {
        let Self { source_mac, destination_mac, source, destination, target, source_link } = *self;
        let message = Outgoing {
            kind: SOLICITATION,
            source_mac,
            destination_mac,
            source,
            destination,
            flags: 0,
            target,
            option: source_link.map(|mac| (SOURCE_LINK_OPTION, mac)),
        };
        message.to_frame()
    }
}

/// The flags of an advertisement, RFC 4861 §4.4.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NaFlags {
    /// The sender forwards packets.
    pub router: bool,
    /// This answers a solicitation that was sent to the target's address or group.
    pub solicited: bool,
    /// Caches are to replace what they have.
    pub override_: bool,
}

/// The statement that `target` is at `target_link`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourAdvertisement {
    /// Ethernet source of the frame.
    pub source_mac: MacAddr,
    /// Ethernet destination of the frame.
    pub destination_mac: MacAddr,
    /// The node that says so.
    pub source: Ipv6Addr,
    /// To whom: the asker, or all nodes.
    pub destination: Ipv6Addr,
    /// The address in question.
    pub target: Ipv6Addr,
    /// Target link-layer address option: where it is.
    pub target_link: Option<MacAddr>,
    /// The flags.
    pub flags: NaFlags,
}

impl NeighbourAdvertisement {
    /// Answers a solicitation: `mac` has its target. Override is set; a probe is answered to all
    /// nodes, and not as solicited, RFC 4861 §7.2.4.
    pub fn reply(to: &NeighbourSolicitation, mac: MacAddr, router: bool) -> Self {
        let announcement = Self::announcement(mac, to.target, router);
        if to.is_probe() {
            return announcement;
        }
        Self {
            destination_mac: to.source_link.unwrap_or(to.source_mac),
            destination: to.source,
            flags: NaFlags { solicited: true, ..announcement.flags },
            ..announcement
        }
    }

    /// Tells all nodes, unasked, that `mac` has `target`: RFC 4861 §7.2.6, with Override set.
    pub fn announcement(mac: MacAddr, target: Ipv6Addr, router: bool) -> Self {
        Self {
            source_mac: mac,
            destination_mac: multicast_mac(ALL_NODES),
            source: target,
            destination: ALL_NODES,
            target,
            target_link: Some(mac),
            flags: NaFlags { router, solicited: false, override_: true },
        }
    }

    /// Reads an Ethernet frame, with all checks of RFC 4861 §7.1.2.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let message = Message::parse(frame, ADVERTISEMENT)?;
        let target_link = message.link_address(TARGET_LINK_OPTION)?;
        let Message { ethernet, source, destination, flags, target, .. } = message;
        let flags = NaFlags {
            router: flags & ROUTER_BIT != 0,
            solicited: flags & SOLICITED_BIT != 0,
            override_: flags & OVERRIDE_BIT != 0,
        };
        if source.is_unspecified() || (destination.is_multicast() && flags.solicited) {
            return Err(DropReason::BadMessage);
        }
        Ok(Self {
            source_mac: ethernet.source,
            destination_mac: ethernet.destination,
            source,
            destination,
            target,
            target_link,
            flags,
        })
    }

    /// The Ethernet frame.
    pub fn to_frame(&self) -> Frame {
        let Self { source_mac, destination_mac, source, destination, target, target_link, flags } =
            *self;
        let NaFlags { router, solicited, override_ } = flags;
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let message = Outgoing {
            kind: ADVERTISEMENT,
            source_mac,
            destination_mac,
            source,
            destination,
            flags: bit(router, ROUTER_BIT)
                | bit(solicited, SOLICITED_BIT)
                | bit(override_, OVERRIDE_BIT),
            target,
            option: target_link.map(|mac| (TARGET_LINK_OPTION, mac)),
        };
        message.to_frame()
    }
}

/// The type of the ICMPv6 message that follows an IPv6 header directly, if there is one.
pub(super) fn peek(frame: &[u8]) -> Option<u8> {
    let next_header = *frame.get(ETHERNET_HEADER_LEN + 6)?;
    (next_header == protocol::ICMPV6).then(|| frame.get(ETHERNET_HEADER_LEN + V6_LEN).copied())?
}

/// What both messages have in common, checked.
struct Message<'a> {
    ethernet: EthernetHeader,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    flags: u8,
    target: Ipv6Addr,
    options: &'a [u8],
}

impl<'a> Message<'a> {
    fn parse(frame: &'a [u8], kind: u8) -> Result<Self, DropReason> {
        let (ethernet, packet) = EthernetHeader::split(frame)?;
        if ethernet.ethertype != ETHERTYPE_IPV6 || peek(frame) != Some(kind) {
            return Err(DropReason::NotForUs);
        }
        let ip = ip::parse_v6(packet)?;
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (ip.src, ip.dst) else {
            return Err(DropReason::BadVersion);
        };
        if !ethernet.source.is_unicast() || source.is_multicast() {
            return Err(DropReason::BadAddress);
        }
        if ip.ttl != HOP_LIMIT {
            return Err(DropReason::BadHopLimit);
        }
        check_sum(&ip)?;
        let (message, options) =
            ip.payload.split_first_chunk::<MESSAGE_LEN>().ok_or(DropReason::Truncated)?;
        let target = Ipv6Addr::from(core::array::from_fn::<u8, 16, _>(|i| message[8 + i]));
        if message[1] != 0 || target.is_multicast() || target.is_unspecified() {
            return Err(DropReason::BadMessage);
        }
        Ok(Self { ethernet, source, destination, flags: message[4], target, options })
    }

    /// The Ethernet address in the option of this kind, the last if there are several. All options
    /// must have a sound length, those of other kinds too.
    fn link_address(&self, kind: u8) -> Result<Option<MacAddr>, DropReason> {
        let mut found = None;
        let mut options = self.options;
        while let Some(&[option, length]) = options.first_chunk() {
            let length = 8 * usize::from(length);
            let split = options.split_at_checked(length).filter(|_| length > 0);
            let (value, rest) = split.ok_or(DropReason::BadMessage)?;
            if option == kind {
                let &[_, _, a, b, c, d, e, f] = value else { return Err(DropReason::BadMessage) };
                let mac = MacAddr([a, b, c, d, e, f]);
                found = Some(mac).filter(|mac| mac.is_unicast());
                if found.is_none() {
                    return Err(DropReason::BadAddress);
                }
            }
            options = rest;
        }
        if options.is_empty() { Ok(found) } else { Err(DropReason::BadMessage) }
    }
}

fn check_sum(ip: &IpPacket<'_>) -> Result<(), DropReason> {
    let length = ip.payload.len() as u32;
    let pseudo = checksum::pseudo_header(ip.src, ip.dst, protocol::ICMPV6, length);
    if pseudo.add_bytes(ip.payload).is_intact() { Ok(()) } else { Err(DropReason::BadChecksum) }
}

/// A message to be written.
struct Outgoing {
    kind: u8,
    source_mac: MacAddr,
    destination_mac: MacAddr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    flags: u8,
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
}

impl Outgoing {
    fn to_frame(&self) -> Frame {
        let payload_len = MESSAGE_LEN + if self.option.is_some() { 8 } else { 0 };
        let ethernet = EthernetHeader {
            destination: self.destination_mac,
            source: self.source_mac,
            ethertype: ETHERTYPE_IPV6,
        };
        let ip = V6Header {
            src: self.source,
            dst: self.destination,
            next_header: protocol::ICMPV6,
            hop_limit: HOP_LIMIT,
            ecn: 0,
            payload_len: payload_len as u16,
        };
        let mut frame = Frame::new();
        frame.extend(ethernet.to_bytes());
        frame.extend(ip.to_bytes());
        let message = frame.len();
        frame.extend([self.kind, 0, 0, 0, self.flags, 0, 0, 0]);
        frame.extend(self.target.octets());
        if let Some((kind, mac)) = self.option {
            frame.extend([kind, 1]);
            frame.extend(mac.0);
        }
        let (src, dst) = (self.source.into(), self.destination.into());
        let pseudo = checksum::pseudo_header(src, dst, protocol::ICMPV6, payload_len as u32);
        let sum = pseudo.add_bytes(&frame[message..]).checksum();
        frame[message + 2..message + 4].copy_from_slice(&sum.to_be_bytes());
        frame
    }
}

#[cfg(test)]
#[path = "ndp_tests.rs"]
mod tests;
