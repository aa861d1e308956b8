//! Interfaces, addresses, routes and rules of this host, over one netlink socket.
//!
//! Requests are synchronous: the kernel has the answer ready when `send` returns, so a host route
//! is in place some twenty microseconds after it was asked for, which matters at a takeover. All
//! that this module creates carries [`ROUTE_PROTOCOL`], by which leftovers of a crash are known.
//! [`Events`] is the second socket, on which the kernel tells of changes.

mod events;
mod message;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

pub use events::{Changes, Concern, Events};
pub use message::{HostRoute, Link, ROUTE_PROTOCOL, Rule, TRIAL_TABLE, TUN_GROUP, Verdict, Way};
use message::{
    take_answers, to_address, to_link, to_neighbour, to_neighbour_message, to_route,
    to_route_message, to_rule, to_rule_message, to_way, to_way_message,
};

use super::sys::OsError;
use crate::wire::MacAddr;

/// The kernel answers within microseconds; an answer that is this late will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Where every packet is looked up in the end.
const MAIN_TABLE: u32 = 254;
/// Room for one batch of a dump, which the kernel keeps to 32 KiB.
const BUFFER_LEN: usize = 64 * 1024;

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

    /// Sets MTU (bytes) and transmit queue (packets) of an interface, puts it into [`TUN_GROUP`], and
    /// takes it up.
    pub fn configure_link(&mut self, index: u32, mtu: u32, queue_len: u32) -> Result<(), OsError> {
        let mut request = LinkMessage::default();
        request.header.index = index;
        request.header.flags = LinkFlags::Up;
        request.header.change_mask = LinkFlags::Up;
        request.attributes = vec![
            LinkAttribute::Mtu(mtu),
            LinkAttribute::TxQueueLen(queue_len),
            LinkAttribute::Group(TUN_GROUP),
        ];
        self.request(NLM_F_ACK, Message::SetLink(request)).map(drop).map_err(|error| {
            OsError::new(format!("set interface {index} up with MTU {mtu}"), error)
        })
    }

    /// Adds a host route, or replaces the one to the same address. Idempotent.
    pub fn add_route(&mut self, route: HostRoute) -> Result<(), OsError> {
        self.add_route_to(MAIN_TABLE, route)
    }

    /// Adds the same route where nothing looks for it: what is refused here will be refused there.
    pub fn add_trial_route(&mut self, route: HostRoute) -> Result<(), OsError> {
        self.add_route_to(TRIAL_TABLE, route)
    }

    fn add_route_to(&mut self, table: u32, route: HostRoute) -> Result<(), OsError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request(flags, Message::NewRoute(to_route_message(route, table)))
            .map(drop)
            .map_err(|error| refused(route, error))
    }

    /// Deletes a host route of ours. One that is not there is as good as deleted.
    pub fn delete_route(&mut self, route: HostRoute) -> Result<(), OsError> {
        self.delete_route_from(MAIN_TABLE, route)
    }

    /// Deletes one of [`Self::add_trial_route`].
    pub fn delete_trial_route(&mut self, route: HostRoute) -> Result<(), OsError> {
        self.delete_route_from(TRIAL_TABLE, route)
    }

    fn delete_route_from(&mut self, table: u32, route: HostRoute) -> Result<(), OsError> {
        let outcome = self.request(NLM_F_ACK, Message::DelRoute(to_route_message(route, table)));
        unless_absent(outcome)
            .map_err(|error| OsError::new(format!("delete the route to {}", route.address), error))
    }

    /// The host routes in the main table that carry [`ROUTE_PROTOCOL`].
    pub fn routes(&mut self) -> Result<Vec<HostRoute>, OsError> {
        self.routes_in(MAIN_TABLE)
    }

    /// Those of [`Self::add_trial_route`].
    pub fn trial_routes(&mut self) -> Result<Vec<HostRoute>, OsError> {
        self.routes_in(TRIAL_TABLE)
    }

    fn routes_in(&mut self, table: u32) -> Result<Vec<HostRoute>, OsError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let answers = self
                .request(NLM_F_DUMP, Message::GetRoute(request))
                .map_err(|error| OsError::new("list routes", error))?;
            let found = answers.iter().filter_map(to_route);
            routes.extend(found.filter(|(_, of)| *of == table).map(|(route, _)| route));
        }
        Ok(routes)
    }

    /// Where a packet to `to` would go that comes `from` there and arrives on the interface `on`;
    /// without `on`, one that this host sends itself. An error is the kernel's reason for dropping
    /// it: `EXDEV` the reverse-path filter, `EHOSTUNREACH` no forwarding, `ENETUNREACH` no route.
    pub fn way(&mut self, to: IpAddr, from: Option<IpAddr>, on: Option<u32>) -> io::Result<Way> {
        let answers = self.request(NLM_F_ACK, Message::GetRoute(to_way_message(to, from, on)))?;
        answers.iter().find_map(to_way).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The MAC address of a host on the LAN, if the kernel knows it now.
    pub fn neighbour(&mut self, interface: u32, address: IpAddr) -> io::Result<Option<MacAddr>> {
        let request = Message::GetNeighbour(to_neighbour_message(interface, address));
        match self.request(NLM_F_ACK, request) {
            Ok(answers) => Ok(answers.iter().find_map(to_neighbour)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
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

/// The kernel says "permission denied" to root, too, if the device has no IPv6.
fn refused(route: HostRoute, error: io::Error) -> OsError {
    let no_ipv6 = route.address.is_ipv6() && error.raw_os_error() == Some(libc::EACCES);
    let mut error = OsError::new(format!("add the route to {}", route.address), error);
    if no_ipv6 {
        error.advice = Some(
            "IPv6 is disabled on the TUN device, or on this host: net.ipv6.conf.all.disable_ipv6",
        );
    }
    error
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
