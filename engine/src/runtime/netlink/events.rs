//! What the kernel tells of changes: links, addresses, routes, rules and forwarding settings.
//!
//! A message is a hint that something changed, and no more: what counts is the state read afterwards.
//! So an overrun of the socket, or a message that cannot be read, loses nothing; it counts as a hint
//! about everything. Hosts on which containers come and go send thousands of messages a second that
//! are of no concern here, so only the few bytes are read that tell.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::{BUFFER_LEN, ROUTE_PROTOCOL};
use crate::runtime::sys::OsError;

/// Room for what comes while the thread that reads is kept from it.
const ROOM: usize = 1 << 20;
/// Messages read at a time; who sends without end must not keep us from looking.
const BATCH: usize = 256;
/// The length of `nlmsghdr`, and so where the body begins.
const HEADER: usize = 16;
/// Netconf tells of the settings of "all" under this number.
const ALL: u32 = u32::MAX;

const NEW_LINK: u16 = libc::RTM_NEWLINK;
const DEL_LINK: u16 = libc::RTM_DELLINK;
const NEW_ADDRESS: u16 = libc::RTM_NEWADDR;
const DEL_ADDRESS: u16 = libc::RTM_DELADDR;
const NEW_ROUTE: u16 = libc::RTM_NEWROUTE;
const DEL_ROUTE: u16 = libc::RTM_DELROUTE;
const NEW_RULE: u16 = libc::RTM_NEWRULE;
const DEL_RULE: u16 = libc::RTM_DELRULE;
const NEW_NETCONF: u16 = 80;
const DEL_NETCONF: u16 = 81;

/// Which changes matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Concern {
    /// The numbers of the interfaces that matter.
    pub interfaces: Vec<u32>,
    /// Every new interface does, since one is missed.
    pub new_interfaces: bool,
    /// The addresses that matter, wherever they appear.
    pub addresses: Vec<IpAddr>,
}

/// What has changed, as far as it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// An interface that matters.
    pub links: bool,
    /// Anything else.
    pub others: bool,
}

impl Changes {
    const ALL: Self = Self { links: true, others: true };

    /// Whether anything has.
    #[must_use]
    pub const fn any(self) -> bool {
        self.links || self.others
    }

    fn add(&mut self, other: Self) {
        self.links |= other.links;
        self.others |= other.others;
    }
}

/// The socket that hears of changes; non-blocking, to be polled for reading.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
    scratch: Vec<u8>,
}

impl Events {
    /// Subscribes. State that is read from here on misses nothing.
    pub fn open() -> Result<Self, OsError> {
        let subscribe = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_rx_buf_sz(libc::c_int::try_from(ROOM).unwrap_or(libc::c_int::MAX))?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            for group in [
                libc::RTNLGRP_LINK,
                libc::RTNLGRP_IPV4_IFADDR,
                libc::RTNLGRP_IPV6_IFADDR,
                libc::RTNLGRP_IPV4_ROUTE,
                libc::RTNLGRP_IPV6_ROUTE,
                libc::RTNLGRP_IPV4_RULE,
                libc::RTNLGRP_IPV6_RULE,
                libc::RTNLGRP_IPV4_NETCONF,
                libc::RTNLGRP_IPV6_NETCONF,
            ] {
                // A kernel without IPv6 has not all of them.
                match socket.add_membership(group) {
                    Err(error) if group == libc::RTNLGRP_LINK => return Err(error),
                    Err(error) => log::debug!("no news of netlink group {group}: {error}"),
                    Ok(()) => {}
                }
            }
            Ok(socket)
        };
        let socket = subscribe().map_err(|error| OsError::new("subscribe to changes", error))?;
        Ok(Self { socket, scratch: Vec::with_capacity(BUFFER_LEN) })
    }

    /// Reads what has come; what of it matters, and whether there may be more.
    pub fn read(&mut self, concern: &Concern) -> io::Result<(Changes, bool)> {
        let mut changes = Changes::default();
        for _ in 0..BATCH {
            self.scratch.clear();
            match self.socket.recv(&mut self.scratch, 0) {
                Ok(_) => changes.add(concern.of(&self.scratch)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok((changes, false));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Messages were lost for want of room: anything may have changed.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes = Changes::ALL,
                Err(error) => return Err(error),
            }
        }
        Ok((changes, true))
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Concern {
    /// What of the messages in `datagram` matters.
    fn of(&self, mut datagram: &[u8]) -> Changes {
        let mut changes = Changes::default();
        while !datagram.is_empty() {
            let length = word(datagram, 0).map(|length| length as usize);
            let message = length.filter(|length| *length >= HEADER);
            let Some(message) = message.and_then(|length| datagram.get(..length)) else {
                return Changes::ALL;
            };
            changes.add(self.of_message(message).unwrap_or(Changes::ALL));
            datagram = datagram.get(message.len().next_multiple_of(4)..).unwrap_or_default();
        }
        changes
    }

    /// None for a message that is too short to be what it says.
    fn of_message(&self, message: &[u8]) -> Option<Changes> {
        let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
        let body = message.get(HEADER..)?;
        let others = |others| Changes { links: false, others };
        Some(match kind {
            NEW_LINK | DEL_LINK => {
                let index = word(body, 4)?;
                let ours =
                    self.interfaces.contains(&index) || (self.new_interfaces && kind == NEW_LINK);
                Changes { links: ours, others: ours }
            }
            NEW_ADDRESS | DEL_ADDRESS => {
                let index = word(body, 4)?;
                others(
                    self.interfaces.contains(&index)
                        || attributes(body.get(8..)?).any(|(_, value)| self.names(value)),
                )
            }
            NEW_ROUTE | DEL_ROUTE => {
                let ours = *body.get(5)? == ROUTE_PROTOCOL;
                let named = attributes(body.get(12..)?)
                    .any(|(kind, value)| kind == libc::RTA_DST && self.names(value));
                // Our own are made by nobody else.
                others(if ours { kind == DEL_ROUTE } else { named })
            }
            NEW_RULE | DEL_RULE => others(true),
            NEW_NETCONF | DEL_NETCONF => {
                const INDEX: u16 = 1;
                let index = attributes(body.get(4..)?)
                    .find(|(kind, _)| *kind == INDEX)
                    .and_then(|(_, value)| word(value, 0));
                others(index.is_none_or(|index| index == ALL || self.interfaces.contains(&index)))
            }
            _ => Changes::default(),
        })
    }

    /// Whether `value` is one of the addresses.
    fn names(&self, value: &[u8]) -> bool {
        self.addresses.iter().any(|address| match address {
            IpAddr::V4(address) => address.octets() == value,
            IpAddr::V6(address) => address.octets() == value,
        })
    }
}

/// The attributes in `bytes`, up to the first that is cut short.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    core::iter::from_fn(move || {
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(half(0)?), half(2)?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Changes = Changes { links: false, others: false };
    const OTHERS: Changes = Changes { links: false, others: true };

    fn concern() -> Concern {
        let addresses = vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()];
        Concern { interfaces: vec![2, 9], new_interfaces: false, addresses }
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn link(kind: u16, index: u32) -> Vec<u8> {
        message(kind, &[&[0; 4], &index.to_ne_bytes()[..], &[0; 8]].concat())
    }

    fn address(index: u32, value: &[u8]) -> Vec<u8> {
        message(
            NEW_ADDRESS,
            &[&[2, 24, 0, 0], &index.to_ne_bytes()[..], &attribute(2, value)].concat(),
        )
    }

    fn route(kind: u16, protocol: u8, destination: &[u8]) -> Vec<u8> {
        let header = [2, 32, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0];
        message(kind, &[&header[..], &attribute(libc::RTA_DST, destination)].concat())
    }

    fn netconf(index: u32) -> Vec<u8> {
        message(NEW_NETCONF, &[&[2, 0, 0, 0], &attribute(1, &index.to_ne_bytes())[..]].concat())
    }

    #[test]
    fn what_containers_do_is_of_no_concern() {
        for noise in [
            link(NEW_LINK, 7),
            link(DEL_LINK, 7),
            address(7, &[172, 17, 0, 2]),
            route(NEW_ROUTE, 2, &[172, 17, 0, 2]),
            route(DEL_ROUTE, 2, &[172, 17, 0, 2]),
            netconf(7),
            message(NEW_RULE - 4, &[]), // a neighbour's
        ] {
            assert_eq!(concern().of(&noise), NOTHING, "{noise:?}");
        }
    }

    #[test]
    fn what_concerns_the_service_is_told() {
        let both = Changes { links: true, others: true };
        assert_eq!(concern().of(&link(DEL_LINK, 9)), both);
        assert_eq!(concern().of(&address(2, &[10, 77, 0, 1])), OTHERS, "on the LAN interface");
        assert_eq!(concern().of(&address(7, &[10, 77, 0, 100])), OTHERS, "the service's, anywhere");
        assert_eq!(concern().of(&route(DEL_ROUTE, ROUTE_PROTOCOL, &[10, 77, 0, 100])), OTHERS);
        assert_eq!(concern().of(&route(NEW_ROUTE, 4, &[10, 77, 0, 100])), OTHERS, "another's");
        assert_eq!(concern().of(&route(NEW_ROUTE, ROUTE_PROTOCOL, &[10, 77, 0, 100])), NOTHING);
        assert_eq!(concern().of(&netconf(2)), OTHERS);
        assert_eq!(concern().of(&netconf(ALL)), OTHERS);
        assert_eq!(concern().of(&message(DEL_RULE, &[0; 12])), OTHERS);
        let missed = Concern { new_interfaces: true, ..concern() };
        assert_eq!(missed.of(&link(NEW_LINK, 7)), both);
        let several = [link(NEW_LINK, 7), netconf(7), netconf(2)].concat();
        assert_eq!(concern().of(&several), OTHERS);
    }

    #[test]
    fn what_cannot_be_read_may_be_anything() {
        let whole = [link(NEW_LINK, 7), address(7, &[172, 17, 0, 2])].concat();
        for length in 1..whole.len() {
            let cut = &whole[..length];
            let complete = length == link(NEW_LINK, 7).len();
            assert_eq!(concern().of(cut) == Changes::ALL, !complete, "cut at {length}");
        }
    }
}
