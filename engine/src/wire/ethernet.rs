//! Ethernet frames of the service LAN: only those that tell who has which address.

use super::{ArpPacket, DropReason, NeighbourAdvertisement, NeighbourSolicitation, ndp};
use core::fmt;

/// Length of an Ethernet header.
pub const ETHERNET_HEADER_LEN: usize = 14;

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A frame that we send: at most a neighbour solicitation or advertisement with one option.
pub type Frame = arrayvec::ArrayVec<u8, 86>;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Everybody.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// Nobody: "not known" in an ARP request.
    pub const ZERO: Self = Self([0; 6]);

    /// Whether this is a group of stations, or everybody.
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether one station can have this address.
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && u64::from_be_bytes(self.widened()) != 0
    }

    const fn widened(self) -> [u8; 8] {
        let [a, b, c, d, e, f] = self.0;
        [0, 0, a, b, c, d, e, f]
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A frame of the service LAN, as far as address resolution cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourFrame {
    /// ARP: IPv4.
    Arp(ArpPacket),
    /// Neighbour solicitation: IPv6.
    Solicitation(NeighbourSolicitation),
    /// Neighbour advertisement: IPv6.
    Advertisement(NeighbourAdvertisement),
    /// Anything else.
    Other,
}

impl NeighbourFrame {
    /// Reads an Ethernet frame. Frames of other protocols are not looked into.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let (header, _) = EthernetHeader::split(frame)?;
        match header.ethertype {
            ETHERTYPE_ARP => ArpPacket::parse(frame).map(Self::Arp),
            ETHERTYPE_IPV6 => match ndp::peek(frame) {
                Some(ndp::SOLICITATION) => {
                    NeighbourSolicitation::parse(frame).map(Self::Solicitation)
                }
                Some(ndp::ADVERTISEMENT) => {
                    NeighbourAdvertisement::parse(frame).map(Self::Advertisement)
                }
                _ => Ok(Self::Other),
            },
            _ => Ok(Self::Other),
        }
    }
}

/// The header of an Ethernet frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EthernetHeader {
    pub(super) destination: MacAddr,
    pub(super) source: MacAddr,
    pub(super) ethertype: u16,
}

impl EthernetHeader {
    /// Reads the header and cuts it off.
    pub(super) fn split(frame: &[u8]) -> Result<(Self, &[u8]), DropReason> {
        let (header, rest) =
            frame.split_first_chunk::<ETHERNET_HEADER_LEN>().ok_or(DropReason::Truncated)?;
        let &[a, b, c, d, e, f, g, h, i, j, k, l, m, n] = header;
        let header = Self {
            destination: MacAddr([a, b, c, d, e, f]),
            source: MacAddr([g, h, i, j, k, l]),
            ethertype: u16::from_be_bytes([m, n]),
        };
        Ok((header, rest))
    }

    /// The header.
    pub(super) fn to_bytes(self) -> [u8; ETHERNET_HEADER_LEN] {
        let Self { destination, source, ethertype } = self;
        let mut bytes = [0; ETHERNET_HEADER_LEN];
        bytes[0..6].copy_from_slice(&destination.0);
        bytes[6..12].copy_from_slice(&source.0);
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_tell_stations_from_groups() {
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
        assert!(!MacAddr::ZERO.is_unicast() && !MacAddr::ZERO.is_multicast());
        assert!(!MacAddr::BROADCAST.is_unicast() && MacAddr::BROADCAST.is_multicast());
        assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert_eq!(MacAddr([0, 1, 2, 0xa, 0xb, 0xff]).to_string(), "00:01:02:0a:0b:ff");
    }

    #[test]
    fn other_protocols_are_let_be() {
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(NeighbourFrame::parse(&frame), Ok(NeighbourFrame::Other));
        frame[12..14].copy_from_slice(&ETHERTYPE_IPV6.to_be_bytes());
        assert_eq!(NeighbourFrame::parse(&frame), Ok(NeighbourFrame::Other));
        assert_eq!(NeighbourFrame::parse(&frame[..13]), Err(DropReason::Truncated));
    }
}
