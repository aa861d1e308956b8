//! A packet of our own, from one node's LAN interface through the other's forwarding into its TUN.
//!
//! ```text
//!   node a                         LAN      node b: eth0 ─► rules, firewall, forwarding ─► TUN
//!   packet socket ─► [MAC of b][a's address ─► service address] ──────────────────────────┘
//! ```
//!
//! Nothing that a host can ask its kernel tells whether its firewall would drop what a takeover makes
//! it forward, so each node tries it for the other, twice a second. The packet looks like one in the
//! middle of a client's connection, which is what a takeover meets. On the node that has the address
//! it takes the route that all take. On the other a rule for packets of this one sender leads it into
//! the TUN; the real route is not there, and strays of others go on as before. It ends in the loop
//! that reads it.
//!
//! It proves itself: from wherever it came, it has passed. So it carries no secret.

use std::net::{IpAddr, Ipv6Addr};

use socket2::{Domain, Socket, Type};

use crate::runtime::netlink::{Link, Netlink};
use crate::runtime::sys::{self, OsError};
use crate::wire::{Endpoint, Flags, FourTuple, Offload, SeqNum, TcpHeader, TcpOptions};

/// The discard port, from which no client connects.
const SOURCE_PORT: u16 = 9;
/// What follows the header.
const TEXT: &[u8] = b"standin: does this pass?\n";
/// As ordinary hosts send.
const HOP_LIMIT: u8 = 64;

/// Sends trial packets to the peer.
#[derive(Debug)]
pub(super) struct Trier {
    socket: Socket,
    own: IpAddr,
    peer: IpAddr,
    port: u16,
    packet: Vec<u8>,
}

impl Trier {
    /// `port` is one that clients use: a firewall may admit no other.
    pub(super) fn new(own: IpAddr, peer: IpAddr, port: u16) -> Result<Self, OsError> {
        // Protocol 0: it hears nothing.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None);
        let socket =
            socket.map_err(|error| OsError::new("open a packet socket for trials", error))?;
        Ok(Self { socket, own, peer, port, packet: Vec::new() })
    }

    /// Sends one for each of `addresses`, to where the kernel knows the peer to be. Where it does
    /// not, there is nothing to try: heartbeats do not get there either.
    pub(super) fn send(&mut self, netlink: &mut Netlink, lan: &Link, addresses: &[IpAddr]) {
        let mac = match netlink.neighbour(lan.index, self.peer) {
            Ok(Some(mac)) => mac,
            Ok(None) => return,
            Err(error) => return log::debug!("where is {}: {error}", self.peer),
        };
        for address in addresses.iter().filter(|address| is_tried(**address, self.peer)) {
            write(&mut self.packet, self.own, *address, self.port);
            let sent = sys::packet_address_to(lan.index, mac, address.is_ipv6())
                .and_then(|to| self.socket.send_to(&self.packet, &to));
            if let Err(error) = sent {
                log::debug!("no trial of {address}: {error}");
            }
        }
    }
}

/// Whether the way of `address` is tried: a sender has one address on the LAN, of one family.
pub(super) const fn is_tried(address: IpAddr, sender: IpAddr) -> bool {
    address.is_ipv6() == sender.is_ipv6()
}

/// Whether a packet that came from the TUN is a trial. Costs a comparison for every other one.
pub(crate) fn is_trial(packet: &[u8]) -> bool {
    let tcp = match packet.first() {
        Some(0x45) => 20,
        Some(first) if first >> 4 == 6 => size_of::<Ipv6Addr>() * 2 + 8,
        _ => return false,
    };
    packet.get(tcp..tcp + 2) == Some(&SOURCE_PORT.to_be_bytes()) && packet.ends_with(TEXT)
}

fn write(packet: &mut Vec<u8>, source: IpAddr, destination: IpAddr, port: u16) {
    let local: Endpoint = (source, SOURCE_PORT).into();
    let remote: Endpoint = (destination, port).into();
    let header = TcpHeader {
        tuple: FourTuple { local, remote },
        seq: SeqNum(0),
        ack: SeqNum(0),
        flags: Flags::ACK,
        window: 0,
        options: TcpOptions::default(),
        ecn: 0,
        ttl: HOP_LIMIT,
        ip_id: 0,
    };
    packet.clear();
    packet.resize(header.len(), 0);
    packet.extend_from_slice(TEXT);
    header.write(packet, TEXT.len(), Offload::Full);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_known_and_nothing_else_is() {
        for (source, destination) in [("10.77.0.1", "10.77.0.100"), ("fd77::1", "fd77::100")] {
            let mut packet = Vec::new();
            write(&mut packet, source.parse().unwrap(), destination.parse().unwrap(), 443);
            assert!(is_trial(&packet));
            let tcp = packet.len() - TEXT.len() - 20;
            packet[tcp + 1] = 10;
            assert!(!is_trial(&packet), "a client from another port that says the same");
            packet[tcp + 1] = 9;
            let last = packet.len() - 1;
            packet[last] = 0;
            assert!(!is_trial(&packet), "a client from this port that says something else");
            for length in 0..packet.len() {
                assert!(!is_trial(&packet[..length]));
            }
        }
    }
}
