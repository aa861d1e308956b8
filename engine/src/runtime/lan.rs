//! The engine's ear and voice on the LAN: ARP and neighbour discovery as Ethernet frames.
//!
//! The kernel does not own the service address and so never answers for it; the engine does, on a
//! packet socket. When the engine dies or stops, so do the answers, which is the point. A filter
//! in the kernel passes just what [`crate::neighbour`] reads: ARP, and ICMPv6 neighbour
//! solicitations and advertisements. The data path never sees this socket.

use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, SockFilter, Socket, Type};

use super::netlink::{Link, Netlink};
use super::sys::{self, OsError};
use crate::wire::{MacAddr, solicited_node};

/// An open packet socket on the LAN interface; non-blocking.
#[derive(Debug)]
pub struct Lan {
    socket: Socket,
    mac: MacAddr,
    index: u32,
    /// Holds the multicast memberships; a packet socket's own would not send MLD reports, and
    /// snooping switches would keep solicitations from us.
    _memberships: Option<Socket>,
}

impl Lan {
    /// Listens on the interface `name` for what concerns neighbours, and joins the solicited-node
    /// group of every IPv6 address in `addresses`. The interface may be down at the time.
    pub fn open(name: &str, addresses: &[IpAddr]) -> Result<Self, OsError> {
        Self::open_on(&Netlink::open()?.link(name)?, addresses)
    }

    /// The same on an interface that has been found already.
    pub fn open_on(link: &Link, addresses: &[IpAddr]) -> Result<Self, OsError> {
        let name = &link.name;
        let mac = link.mac.ok_or_else(|| {
            OsError::new(format!("use {name} as LAN interface"), io::ErrorKind::Unsupported.into())
                .advise("it is not an Ethernet interface")
        })?;
        let socket = listen(link.index)
            .map_err(|error| OsError::new(format!("listen for ARP and ND on {name}"), error))?;
        let memberships = join_groups(link.index, addresses).map_err(|error| {
            OsError::new(format!("join the solicited-node groups on {name}"), error)
                .advise("is IPv6 disabled on the interface?")
        })?;
        Ok(Self { socket, mac, index: link.index, _memberships: memberships })
    }

    /// The interface's Ethernet address.
    pub const fn mac(&self) -> MacAddr {
        self.mac
    }

    /// The interface's number.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Reads one frame; what does not fit `buffer` is cut. `WouldBlock` when there is none.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.socket).read(buffer) {
                // Said once when the interface goes down; the socket works again when it is back.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// Sends one frame, Ethernet header included.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }
}

impl AsRawFd for Lan {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn listen(index: u32) -> io::Result<Socket> {
    // Protocol 0 receives nothing until it is bound, so nothing slips in before the filter.
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.attach_filter(&neighbour_filter())?;
    match sys::ignore_outgoing(&socket) {
        // Before Linux 4.20: the filter drops our own frames too, only later.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
        outcome => outcome?,
    }
    socket.set_nonblocking(true)?;
    socket.bind(&sys::packet_address(index)?)?;
    Ok(socket)
}

fn join_groups(index: u32, addresses: &[IpAddr]) -> io::Result<Option<Socket>> {
    let mut socket = None;
    for address in addresses {
        let IpAddr::V6(address) = address else { continue };
        let socket = match &mut socket {
            Some(socket) => socket,
            none => none.insert(Socket::new(Domain::IPV6, Type::DGRAM, None)?),
        };
        let (group, _) = solicited_node(*address);
        match socket.join_multicast_v6(&group, index) {
            // Addresses that end in the same 24 bits share a group.
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
            outcome => outcome?,
        }
    }
    Ok(socket)
}

/// The filter program: frames for this host that arrive untagged and are ARP or ICMPv6 type 135
/// or 136. Extension headers before the ICMPv6 header are not looked for: no one sends them in
/// neighbour discovery.
fn neighbour_filter() -> [SockFilter; 14] {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
    const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    const VLAN_TAG_PRESENT: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG_PRESENT) as u32;
    const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE) as u32;
    const OTHER_HOST: u32 = 3; // and 4 is outgoing
    const ARP: u32 = libc::ETH_P_ARP as u32;
    const IPV6: u32 = libc::ETH_P_IPV6 as u32;
    const ICMPV6: u32 = 58;
    let op = SockFilter::new;
    [
        // Another VLAN's frames reach this socket with their tag taken off.
        op(LOAD_WORD, 0, 0, VLAN_TAG_PRESENT),
        op(EQUAL, 0, 11, 0),
        op(LOAD_WORD, 0, 0, PACKET_TYPE),
        op(AT_LEAST, 9, 0, OTHER_HOST),
        op(LOAD_HALF, 0, 0, 12), // EtherType
        op(EQUAL, 6, 0, ARP),
        op(EQUAL, 0, 6, IPV6),
        op(LOAD_BYTE, 0, 0, 20), // next header
        op(EQUAL, 0, 4, ICMPV6),
        op(LOAD_BYTE, 0, 0, 54), // ICMPv6 type
        op(EQUAL, 1, 0, 135),
        op(EQUAL, 0, 1, 136),
        op(RETURN, 0, 0, u32::MAX), // all of the frame
        op(RETURN, 0, 0, 0),
    ]
}
