//! Netlink messages to values and back: interfaces, addresses, host routes, rules.
//!
//! What goes out is marked with [`ROUTE_PROTOCOL`]; of what comes in, routes and rules without it
//! are not ours and not looked at further.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};

use crate::wire::MacAddr;

/// The routing protocol number of our routes and rules (83, `S`; unassigned in rtnetlink.h).
pub const ROUTE_PROTOCOL: u8 = 0x53;
/// The interface group of every engine's TUN: by it one engine's packet rules know the devices of the
/// others on this host.
pub const TUN_GROUP: u32 = 83;
/// Metric of our IPv6 routes: before every other of the same prefix (0 would mean 1024).
const IPV6_METRIC: u32 = 1;

/// The table in which the routes are tried that a takeover will need in the main one; nothing is
/// looked up there but what the rule of [`Verdict::Trial`] leads to it.
pub const TRIAL_TABLE: u32 = 5300;

/// In the place of a number of a table that does not fit into a byte.
const COMPAT_TABLE: u8 = 252;

/// What the kernel knows of one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The interface number.
    pub index: u32,
    /// Its name, which can change.
    pub name: String,
    /// Its Ethernet address; none on a TUN.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Length of its transmit queue in packets.
    pub queue_len: u32,
    /// It is set up.
    pub up: bool,
    /// It is up, has a carrier and may pass traffic (operational state up or unknown).
    pub carrier: bool,
}

/// One host route of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostRoute {
    /// The destination.
    pub address: IpAddr,
    /// The number of the interface it leads to.
    pub interface: u32,
}

/// What a rule of ours does with packets that arrive on one interface for one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Look in the main table, and take nothing but a host route from it.
    HostRoute,
    /// Drop, and say nothing to the sender.
    Blackhole,
    /// Look in [`TRIAL_TABLE`].
    Trial,
}

/// One policy rule of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its place in the order of rules; smaller is earlier.
    pub priority: u32,
    /// The name of the interface on which the packet arrives.
    pub interface: String,
    /// The sender, if only packets of one are meant.
    pub source: Option<IpAddr>,
    /// The destination.
    pub address: IpAddr,
    /// What to do.
    pub verdict: Verdict,
}

/// Takes the messages of one datagram that answer request `sequence`; true after the last one.
pub(super) fn take_answers(
    mut datagram: &[u8],
    sequence: u32,
    answers: &mut Vec<Message>,
) -> io::Result<bool> {
    while let Ok(header) = NetlinkBuffer::new_checked(datagram) {
        let len = header.length() as usize;
        // Answers to an earlier request that timed out may still arrive.
        if header.sequence_number() == sequence {
            match NetlinkMessage::<Message>::deserialize(&datagram[..len]).map(|m| m.payload) {
                Ok(NetlinkPayload::InnerMessage(message)) => answers.push(message),
                Ok(NetlinkPayload::Error(error)) if error.code.is_some() => {
                    return Err(error.to_io());
                }
                Ok(NetlinkPayload::Error(_) | NetlinkPayload::Done(_)) => return Ok(true),
                Ok(_) => {}
                // A newer kernel may list objects that this library cannot read; ours it can.
                Err(error) => log::debug!("netlink message skipped: {error}"),
            }
        }
        // Messages start on multiples of four bytes.
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

pub(super) fn to_link(message: &Message) -> Option<Link> {
    let Message::NewLink(message) = message else { return None };
    let running = LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        queue_len: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(running),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::TxQueueLen(len) => link.queue_len = *len,
            _ => {}
        }
    }
    Some(link)
}

/// `Local` is the host's own address on a point-to-point link, where `Address` is the peer's;
/// IPv6 knows `Address` alone.
pub(super) fn to_address(message: &Message) -> Option<(IpAddr, u32)> {
    let Message::NewAddress(message) = message else { return None };
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some((*address, message.header.index)),
            AddressAttribute::Address(address) => own = Some((*address, message.header.index)),
            _ => {}
        }
    }
    own
}

pub(super) fn to_route_message(route: HostRoute, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.address),
        destination_prefix_length: host_prefix(route.address),
        // Numbers that do not fit are in the attribute alone.
        table: u8::try_from(table).unwrap_or(COMPAT_TABLE),
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        scope: if route.address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(route.address.into()),
        RouteAttribute::Oif(route.interface),
        RouteAttribute::Table(table),
    ];
    if route.address.is_ipv6() {
        message.attributes.push(RouteAttribute::Priority(IPV6_METRIC));
    }
    message
}

/// A route of ours and its table.
pub(super) fn to_route(message: &Message) -> Option<(HostRoute, u32)> {
    let Message::NewRoute(message) = message else { return None };
    if message.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) {
        return None;
    }
    let (mut address, mut interface) = (None, None);
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = Some((*v4).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = Some((*v6).into()),
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let address = address?;
    let host = message.header.destination_prefix_length == host_prefix(address);
    Some((HostRoute { address, interface: interface? }, table)).filter(|_| host)
}

/// Where the kernel would send a packet, if it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The number of the interface on which it would leave; none if it would stay or be dropped.
    pub interface: Option<u32>,
    /// Whether another host would pass it on.
    pub gateway: bool,
    /// The number of the table that said so; 0 if it is not told.
    pub table: u32,
}

/// The question where a packet `from` that arrives on the interface `on` goes; without `on` it is
/// one of this host's own.
pub(super) fn to_way_message(to: IpAddr, from: Option<IpAddr>, on: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to);
    message.header.destination_prefix_length = host_prefix(to);
    message.header.flags = RouteFlags::LookupTable;
    message.attributes.push(RouteAttribute::Destination(to.into()));
    if let Some(from) = from {
        message.header.source_prefix_length = host_prefix(from);
        message.attributes.push(RouteAttribute::Source(from.into()));
    }
    message.attributes.extend(on.map(RouteAttribute::Iif));
    message
}

pub(super) fn to_way(message: &Message) -> Option<Way> {
    let Message::NewRoute(message) = message else { return None };
    let mut way = Way { interface: None, gateway: false, table: u32::from(message.header.table) };
    let leaves = message.header.kind == RouteType::Unicast;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) if leaves => way.interface = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => way.gateway = true,
            RouteAttribute::Table(number) => way.table = *number,
            _ => {}
        }
    }
    Some(way)
}

pub(super) fn to_rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.address);
    message.header.dst_len = host_prefix(rule.address);
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Iifname(rule.interface.clone()),
        RuleAttribute::Destination(rule.address),
        RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
    ];
    if let Some(source) = rule.source {
        message.header.src_len = host_prefix(source);
        message.attributes.push(RuleAttribute::Source(source));
    }
    match rule.verdict {
        Verdict::HostRoute => {
            message.header.action = RuleAction::ToTable;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            let shorter = u32::from(host_prefix(rule.address)) - 1;
            message.attributes.push(RuleAttribute::SuppressPrefixLen(shorter));
        }
        Verdict::Trial => {
            message.header.action = RuleAction::ToTable;
            message.header.table = COMPAT_TABLE;
            message.attributes.push(RuleAttribute::Table(TRIAL_TABLE));
        }
        Verdict::Blackhole => message.header.action = RuleAction::Blackhole,
    }
    message
}

pub(super) fn to_rule(message: &Message) -> Option<Rule> {
    let Message::NewRule(message) = message else { return None };
    let mut verdict = match message.header.action {
        RuleAction::ToTable => Verdict::HostRoute,
        RuleAction::Blackhole => Verdict::Blackhole,
        _ => return None,
    };
    let mut ours = false;
    let (mut priority, mut interface, mut address, mut source) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => {
                ours = *protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
            }
            RuleAttribute::Priority(number) => priority = Some(*number),
            RuleAttribute::Iifname(name) => interface = Some(name.clone()),
            RuleAttribute::Destination(destination) => address = Some(*destination),
            RuleAttribute::Source(sender) => source = Some(*sender),
            RuleAttribute::Table(TRIAL_TABLE) => verdict = Verdict::Trial,
            _ => {}
        }
    }
    let (priority, interface, address) = (priority?, interface?, address?);
    Some(Rule { priority, interface, source, address, verdict }).filter(|_| ours)
}

pub(super) fn to_neighbour_message(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = interface;
    let destination = match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}

/// None of an entry for which there was no answer yet.
pub(super) fn to_neighbour(message: &Message) -> Option<MacAddr> {
    let Message::NewNeighbour(message) = message else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => {
            <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr)
        }
        _ => None,
    })
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

const fn host_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => Ipv4Addr::BITS as u8,
        IpAddr::V6(_) => Ipv6Addr::BITS as u8,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    fn datagram(sequence: u32, message: Message) -> Vec<u8> {
        let mut message = NetlinkMessage::from(message);
        message.header.sequence_number = sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn rule(verdict: Verdict) -> Rule {
        let address = "fd77::100".parse().unwrap();
        let source = (verdict == Verdict::Trial).then(|| "fd77::2".parse().unwrap());
        Rule { priority: 100, interface: "eth0".to_owned(), source, address, verdict }
    }

    #[test]
    fn routes_and_rules_survive_the_wire() {
        for address in ["10.77.0.100", "fd77::100"] {
            let route = HostRoute { address: address.parse().unwrap(), interface: 7 };
            let mut answers = Vec::new();
            for table in [254, TRIAL_TABLE] {
                answers.clear();
                let bytes = datagram(1, Message::NewRoute(to_route_message(route, table)));
                assert!(!take_answers(&bytes, 1, &mut answers).unwrap());
                assert_eq!(
                    answers.iter().filter_map(to_route).collect::<Vec<_>>(),
                    [(route, table)]
                );
            }
        }
        for verdict in [Verdict::HostRoute, Verdict::Blackhole, Verdict::Trial] {
            let mut answers = Vec::new();
            let bytes = datagram(1, Message::NewRule(to_rule_message(&rule(verdict))));
            assert!(!take_answers(&bytes, 1, &mut answers).unwrap());
            assert_eq!(answers.iter().filter_map(to_rule).collect::<Vec<_>>(), [rule(verdict)]);
        }
    }

    #[test]
    fn foreign_routes_and_rules_are_not_ours() {
        let address = "10.77.0.100".parse().unwrap();
        let mut route = to_route_message(HostRoute { address, interface: 7 }, 254);
        route.header.protocol = RouteProtocol::Static;
        assert_eq!(to_route(&Message::NewRoute(route)), None);
        let mut foreign = to_rule_message(&rule(Verdict::Blackhole));
        foreign.attributes.retain(|a| !matches!(a, RuleAttribute::Protocol(_)));
        assert_eq!(to_rule(&Message::NewRule(foreign)), None);
    }

    #[test]
    fn answers_to_another_request_are_passed_over() {
        let mut bytes = datagram(1, Message::NewLink(LinkMessage::default()));
        bytes.extend(datagram(2, Message::NewLink(LinkMessage::default())));
        let mut answers = Vec::new();
        assert!(!take_answers(&bytes, 2, &mut answers).unwrap());
        assert_eq!(answers.len(), 1);
    }

    #[test]
    fn a_cut_datagram_is_harmless() {
        let bytes = datagram(1, Message::NewRule(to_rule_message(&rule(Verdict::HostRoute))));
        for len in 0..bytes.len() {
            let mut answers = Vec::new();
            assert!(!take_answers(&bytes[..len], 1, &mut answers).unwrap(), "cut at {len}");
            assert_eq!(answers.len(), 0, "cut at {len}");
        }
    }
}
