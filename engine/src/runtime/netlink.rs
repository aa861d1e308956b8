//! Interfaces, addresses, routes and rules of this host, over one netlink socket.
//!
//! Requests are synchronous: the kernel has the answer ready when `send` returns, so a host route
//! is in place some twenty microseconds after it was asked for, which matters at a takeover. All
//! that this module creates carries [`ROUTE_PROTOCOL`], by which leftovers of a crash are known.
//! [`CarrierWatch`] is the second socket, which the poll loop listens to.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::sys::OsError;
use crate::wire::MacAddr;

/// The routing protocol number of our routes and rules (83, `S`; unassigned in rtnetlink.h).
pub const ROUTE_PROTOCOL: u8 = 0x53;

/// The kernel answers within microseconds; an answer that is this late will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Room for one batch of a dump, which the kernel keeps to 32 KiB.
const BUFFER_LEN: usize = 64 * 1024;
/// Metric of our IPv6 routes: before every other of the same prefix (0 would mean 1024).
const IPV6_METRIC: u32 = 1;

/// What the kernel knows of one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The interface number.
    pub index: u32,
    /// Its Ethernet address; none on a TUN.
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Length of its transmit queue in packets.
    pub queue_len: u32,
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
}

/// One policy rule of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Its place in the order of rules; smaller is earlier.
    pub priority: u32,
    /// The name of the interface on which the packet arrives.
    pub interface: String,
    /// The destination.
    pub address: IpAddr,
    /// What to do.
    pub verdict: Verdict,
}

/// A netlink socket for requests.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens the socket. Reading needs no privileges; changing anything needs `CAP_NET_ADMIN`.
    pub fn open() -> Result<Self, OsError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket2::SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(socket)
        };
        let socket = open().map_err(|error| OsError::new("open a netlink socket", error))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER_LEN) })
    }

    /// Looks up an interface by name.
    pub fn link(&mut self, name: &str) -> Result<Link, OsError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(request, name)
    }

    /// Looks up an interface by number.
    pub fn link_at(&mut self, index: u32) -> Result<Link, OsError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        self.get_link(request, &format!("number {index}"))
    }

    /// The addresses of this host and the numbers of the interfaces that have them.
    pub fn addresses(&mut self) -> Result<Vec<(IpAddr, u32)>, OsError> {
        let request = Message::GetAddress(AddressMessage::default());
        let answers = self
            .request(NLM_F_DUMP, request)
            .map_err(|error| OsError::new("list addresses", error))?;
        Ok(answers.iter().filter_map(to_address).collect())
    }

    /// Sets MTU (bytes) and transmit queue (packets) of an interface and takes it up.
    pub fn configure_link(&mut self, index: u32, mtu: u32, queue_len: u32) -> Result<(), OsError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.header.flags = LinkFlags::Up;
        request.header.change_mask = LinkFlags::Up;
        request.attributes = vec![LinkAttribute::Mtu(mtu), LinkAttribute::TxQueueLen(queue_len)];
        self.request(NLM_F_ACK, Message::SetLink(request)).map(drop).map_err(|error| {
            OsError::new(format!("set interface {index} up with MTU {mtu}"), error)
        })
    }

    /// Adds a host route, or replaces the one to the same address. Idempotent.
    pub fn add_route(&mut self, route: HostRoute) -> Result<(), OsError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(flags, Message::NewRoute(to_route_message(route)))
            .map(drop)
            .map_err(|error| OsError::new(format!("add the route to {}", route.address), error))
    }

    /// Deletes a host route of ours. One that is not there is as good as deleted.
    pub fn delete_route(&mut self, route: HostRoute) -> Result<(), OsError> {
        let outcome = self.request(NLM_F_ACK, Message::DelRoute(to_route_message(route)));
        unless_absent(outcome)
            .map_err(|error| OsError::new(format!("delete the route to {}", route.address), error))
    }

    /// The host routes in the main table that carry [`ROUTE_PROTOCOL`].
    pub fn routes(&mut self) -> Result<Vec<HostRoute>, OsError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answers = self
                .request(NLM_F_DUMP, Message::GetRoute(request))
                .map_err(|error| OsError::new("list routes", error))?;
            routes.extend(answers.iter().filter_map(to_route));
        }
        Ok(routes)
    }

    /// Adds a policy rule; one that is there already is left alone. Idempotent.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<(), OsError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.request(flags, Message::NewRule(to_rule_message(rule))) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(OsError::new(
                format!("add the rule for {} from {}", rule.address, rule.interface),
                error,
            )),
            _ => Ok(()),
        }
    }

    /// Deletes a policy rule of ours. One that is not there is as good as deleted.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<(), OsError> {
        let outcome = self.request(NLM_F_ACK, Message::DelRule(to_rule_message(rule)));
        unless_absent(outcome)
            .map_err(|error| OsError::new(format!("delete the rule for {}", rule.address), error))
    }

    /// The policy rules that carry [`ROUTE_PROTOCOL`].
    pub fn rules(&mut self) -> Result<Vec<Rule>, OsError> {
        let mut rules = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RuleMessage::default();
            request.header.family = family;
            match self.request(NLM_F_DUMP, Message::GetRule(request)) {
                Ok(answers) => rules.extend(answers.iter().filter_map(to_rule)),
                // A kernel without policy routing, or without this family, has no rules.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(OsError::new("list policy rules", error)),
            }
        }
        Ok(rules)
    }

    fn get_link(&mut self, request: LinkMessage, what: &str) -> Result<Link, OsError> {
        let answer = self.request(NLM_F_ACK, Message::GetLink(request));
        let link = answer.and_then(|answers| {
            answers.iter().find_map(to_link).ok_or_else(|| io::ErrorKind::InvalidData.into())
        });
        link.map_err(|error| {
            OsError::new(format!("find interface {what}"), error)
                .advise("check the configured name against ip link")
        })
    }

    /// Sends one request and collects the answers up to the acknowledgement (`NLM_F_ACK`) or the
    /// end of the listing (`NLM_F_DUMP`); `flags` has one of them.
    fn request(&mut self, flags: u16, message: Message) -> io::Result<Vec<Message>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                received => received?,
            };
            if take_answers(&self.buffer, self.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes the messages of one datagram that answer request `sequence`; true after the last one.
fn take_answers(
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

fn unless_absent(outcome: io::Result<Vec<Message>>) -> io::Result<()> {
    match outcome {
        Err(error) => match error.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT | libc::ENODEV) => Ok(()),
            _ => Err(error),
        },
        Ok(_) => Ok(()),
    }
}

fn to_link(message: &Message) -> Option<Link> {
    let Message::NewLink(message) = message else { return None };
    let running = LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp;
    let mut link = Link {
        index: message.header.index,
        mac: None,
        mtu: 0,
        queue_len: 0,
        carrier: message.header.flags.contains(running),
    };
    for attribute in &message.attributes {
        match attribute {
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
fn to_address(message: &Message) -> Option<(IpAddr, u32)> {
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

fn to_route_message(route: HostRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.address),
        destination_prefix_length: host_prefix(route.address),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Other(ROUTE_PROTOCOL),
        scope: if route.address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    message.attributes = vec![
        RouteAttribute::Destination(route.address.into()),
        RouteAttribute::Oif(route.interface),
    ];
    if route.address.is_ipv6() {
        message.attributes.push(RouteAttribute::Priority(IPV6_METRIC));
    }
    message
}

fn to_route(message: &Message) -> Option<HostRoute> {
    let Message::NewRoute(message) = message else { return None };
    if message.header.protocol != RouteProtocol::Other(ROUTE_PROTOCOL) {
        return None;
    }
    let (mut address, mut interface) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = Some((*v4).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => address = Some((*v6).into()),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    let address = address?;
    let host = message.header.destination_prefix_length == host_prefix(address);
    Some(HostRoute { address, interface: interface? }).filter(|_| host)
}

fn to_rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.address);
    message.header.dst_len = host_prefix(rule.address);
    message.attributes = vec![
        RuleAttribute::Priority(rule.priority),
        RuleAttribute::Iifname(rule.interface.clone()),
        RuleAttribute::Destination(rule.address),
        RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)),
    ];
    match rule.verdict {
        Verdict::HostRoute => {
            message.header.action = RuleAction::ToTable;
            message.header.table = RouteHeader::RT_TABLE_MAIN;
            let shorter = u32::from(host_prefix(rule.address)) - 1;
            message.attributes.push(RuleAttribute::SuppressPrefixLen(shorter));
        }
        Verdict::Blackhole => message.header.action = RuleAction::Blackhole,
    }
    message
}

fn to_rule(message: &Message) -> Option<Rule> {
    let Message::NewRule(message) = message else { return None };
    let verdict = match message.header.action {
        RuleAction::ToTable => Verdict::HostRoute,
        RuleAction::Blackhole => Verdict::Blackhole,
        _ => return None,
    };
    let mut ours = false;
    let (mut priority, mut interface, mut address) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Protocol(protocol) => {
                ours = *protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
            }
            RuleAttribute::Priority(number) => priority = Some(*number),
            RuleAttribute::Iifname(name) => interface = Some(name.clone()),
            RuleAttribute::Destination(destination) => address = Some(*destination),
            _ => {}
        }
    }
    let rule = Rule { priority: priority?, interface: interface?, address: address?, verdict };
    Some(rule).filter(|_| ours)
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
        IpAddr::V6(_) => std::net::Ipv6Addr::BITS as u8,
    }
}

/// Tells when an interface loses or regains its carrier. Poll its descriptor for reading.
///
/// A message on the socket is a hint that some interface changed; what is reported is the state
/// read afterwards. So an overrun of the socket or a message that cannot be read loses nothing.
#[derive(Debug)]
pub struct CarrierWatch {
    events: Socket,
    netlink: Netlink,
    index: u32,
    carrier: bool,
    scratch: Vec<u8>,
}

impl CarrierWatch {
    /// Watches the interface `name`.
    pub fn open(name: &str) -> Result<Self, OsError> {
        let subscribe = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.add_membership(libc::RTNLGRP_LINK)?;
            Ok(socket)
        };
        let events =
            subscribe().map_err(|error| OsError::new("subscribe to link changes", error))?;
        let mut netlink = Netlink::open()?;
        // Read after subscribing: a change in between is then seen twice rather than never.
        let Link { index, carrier, .. } = netlink.link(name)?;
        Ok(Self { events, netlink, index, carrier, scratch: Vec::with_capacity(BUFFER_LEN) })
    }

    /// The state last reported.
    pub const fn carrier(&self) -> bool {
        self.carrier
    }

    /// Drains the socket; the new state if it differs from [`Self::carrier`]. An interface that is
    /// gone has no carrier.
    pub fn poll(&mut self) -> Result<Option<bool>, OsError> {
        if !self.drain().map_err(|error| OsError::new("read link changes", error))? {
            return Ok(None);
        }
        let carrier = match self.netlink.link_at(self.index) {
            Ok(link) => link.carrier,
            Err(error) if error.errno() == Some(libc::ENODEV) => false,
            Err(error) => return Err(error),
        };
        let changed = carrier != self.carrier;
        self.carrier = carrier;
        Ok(changed.then_some(carrier))
    }

    /// Reads until the socket is empty; true if there was anything.
    fn drain(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            self.scratch.clear();
            match self.events.recv(&mut self.scratch, 0) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(any),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Messages were lost for want of room: something changed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsRawFd for CarrierWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.events.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
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
        Rule { priority: 100, interface: "eth0".to_owned(), address, verdict }
    }

    #[test]
    fn routes_and_rules_survive_the_wire() {
        for address in ["10.77.0.100", "fd77::100"] {
            let route = HostRoute { address: address.parse().unwrap(), interface: 7 };
            let mut answers = Vec::new();
            let bytes = datagram(1, Message::NewRoute(to_route_message(route)));
            assert!(!take_answers(&bytes, 1, &mut answers).unwrap());
            assert_eq!(answers.iter().filter_map(to_route).collect::<Vec<_>>(), [route]);
        }
        for verdict in [Verdict::HostRoute, Verdict::Blackhole] {
            let mut answers = Vec::new();
            let bytes = datagram(1, Message::NewRule(to_rule_message(&rule(verdict))));
            assert!(!take_answers(&bytes, 1, &mut answers).unwrap());
            assert_eq!(answers.iter().filter_map(to_rule).collect::<Vec<_>>(), [rule(verdict)]);
        }
    }

    #[test]
    fn foreign_routes_and_rules_are_not_ours() {
        let address = "10.77.0.100".parse().unwrap();
        let mut route = to_route_message(HostRoute { address, interface: 7 });
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
