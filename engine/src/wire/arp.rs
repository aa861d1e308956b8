//! ARP for IPv4 over Ethernet: RFC 826; probes and announcements of RFC 5227.
//!
//! ```text
//!                 op       sender           target           sent to
//!  request        request  me, my address   0, the wanted    everybody
//!  reply          reply    me, my address   the asker        the asker
//!  probe          request  me, 0.0.0.0      0, the wanted    everybody
//!  announcement   request  me, my address   0, my address    everybody
//!                 reply    me, my address   me, my address   everybody
//! ```
//!
//! An announcement goes out in both forms, because some hosts update their cache from one only.

use super::ethernet::{ETHERTYPE_ARP, EthernetHeader};
use super::{DropReason, Frame, MacAddr};
use core::net::Ipv4Addr;

const ARP_LEN: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, address lengths 6 and 4.
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What an ARP packet asks or tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArpOp {
    /// The question which node has the target address.
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArpPacket {
    /// Request or reply.
    pub op: ArpOp,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddr,
    /// The sender's IPv4 address; unspecified in a probe.
    pub sender_ip: Ipv4Addr,
    /// The Ethernet address asked for, so [`MacAddr::ZERO`] in a request; the asker's in a reply.
    pub target_mac: MacAddr,
    /// The IPv4 address asked for; the asker's in a reply.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Asks who has `target_ip`.
    pub const fn request(sender_mac: MacAddr, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Self {
        let (op, target_mac) = (ArpOp::Request, MacAddr::ZERO);
        Self { op, sender_mac, sender_ip, target_mac, target_ip }
    }

    /// Answers `request`: `mac` has the address that it asks for.
    pub const fn reply(request: &Self, mac: MacAddr) -> Self {
        Self {
            op: ArpOp::Reply,
            sender_mac: mac,
            sender_ip: request.target_ip,
            target_mac: request.sender_mac,
            target_ip: request.sender_ip,
        }
    }

    /// Asks whether anybody has `target_ip`, without claiming an address, RFC 5227 §2.1.1.
    pub const fn probe(sender_mac: MacAddr, target_ip: Ipv4Addr) -> Self {
        Self::request(sender_mac, Ipv4Addr::UNSPECIFIED, target_ip)
    }

    /// Tells everybody that `mac` has `ip`, in the form of a request, RFC 5227 §2.3.
    pub const fn announcement_request(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self::request(mac, ip, ip)
    }

    /// Tells everybody that `mac` has `ip`, in the form of a reply, RFC 5944 §4.6.
    pub const fn announcement_reply(mac: MacAddr, ip: Ipv4Addr) -> Self {
        let op = ArpOp::Reply;
        Self { op, sender_mac: mac, sender_ip: ip, target_mac: mac, target_ip: ip }
    }

    /// Whether this asks for an address without claiming one.
    pub fn is_probe(&self) -> bool {
        self.op == ArpOp::Request && self.sender_ip.is_unspecified()
    }

    /// Whether the sender claims its own address unasked.
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }

    /// Reads an Ethernet frame that carries ARP.
    ///
    /// The sender must be one station, and not a group's IPv4 address, RFC 1812 §3.3.2.
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        let (ethernet, rest) = EthernetHeader::split(frame)?;
        if ethernet.ethertype != ETHERTYPE_ARP {
            return Err(DropReason::NotForUs);
        }
        let arp = rest.first_chunk::<ARP_LEN>().ok_or(DropReason::Truncated)?;
        if arp[..6] != ETHERNET_AND_IPV4 {
            return Err(DropReason::BadMessage);
        }
        let op = match arp[6..8] {
            [0, 1] => ArpOp::Request,
            [0, 2] => ArpOp::Reply,
            _ => return Err(DropReason::BadMessage),
        };
        let mac = |at: usize| MacAddr(core::array::from_fn(|i| arp[at + i]));
        let ip = |at: usize| Ipv4Addr::new(arp[at], arp[at + 1], arp[at + 2], arp[at + 3]);
        let packet = Self {
            op,
            sender_mac: mac(8),
            sender_ip: ip(14),
            target_mac: mac(18),
            target_ip: ip(24),
        };
        let group_ip = packet.sender_ip.is_multicast() || packet.sender_ip.is_broadcast();
        if packet.sender_mac.is_unicast() && !group_ip {
            Ok(packet)
        } else {
            Err(DropReason::BadAddress)
        }
    }

    /// The Ethernet frame: replies to a question go to the asker, all else to everybody.
    pub fn to_frame(&self) -> Frame {
        let Self { op, sender_mac, sender_ip, target_mac, target_ip } = *self;
        let answers = op == ArpOp::Reply && !self.is_announcement();
        let destination = if answers { target_mac } else { MacAddr::BROADCAST };
        let ethernet = EthernetHeader { destination, source: sender_mac, ethertype: ETHERTYPE_ARP };
        let op = match op {
            ArpOp::Request => [0, 1],
            ArpOp::Reply => [0, 2],
        };
        let mut frame = Frame::new();
        frame.extend(ethernet.to_bytes());
        frame.extend(ETHERNET_AND_IPV4);
        frame.extend(op);
        frame.extend(sender_mac.0);
        frame.extend(sender_ip.octets());
        frame.extend(target_mac.0);
        frame.extend(target_ip.octets());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const YOU: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
    const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

    /// Everything in the frame: destination, source, and the packet read back.
    fn sent(packet: ArpPacket) -> (MacAddr, MacAddr, ArpPacket) {
        let frame = packet.to_frame();
        assert_eq!(frame.len(), 42);
        let (ethernet, _) = EthernetHeader::split(&frame).unwrap();
        (ethernet.destination, ethernet.source, ArpPacket::parse(&frame).unwrap())
    }

    #[test]
    fn question_is_answered_to_the_asker() {
        let request = ArpPacket::request(YOU, CLIENT, SERVICE);
        assert_eq!(sent(request), (MacAddr::BROADCAST, YOU, request));
        let reply = ArpPacket::reply(&request, ME);
        assert_eq!(sent(reply), (YOU, ME, reply));
        assert_eq!((reply.sender_ip, reply.target_ip), (SERVICE, CLIENT));
        assert!(!reply.is_announcement() && !request.is_announcement() && !request.is_probe());
    }

    #[test]
    fn probe_claims_nothing_and_its_answer_finds_back() {
        let probe = ArpPacket::probe(YOU, SERVICE);
        assert_eq!(sent(probe), (MacAddr::BROADCAST, YOU, probe));
        assert!(probe.is_probe() && !probe.is_announcement());
        let reply = ArpPacket::reply(&probe, ME);
        assert_eq!(sent(reply), (YOU, ME, reply));
    }

    #[test]
    fn announcements_reach_everybody_in_both_forms() {
        for packet in [
            ArpPacket::announcement_request(ME, SERVICE),
            ArpPacket::announcement_reply(ME, SERVICE),
        ] {
            assert_eq!(sent(packet), (MacAddr::BROADCAST, ME, packet));
            assert!(packet.is_announcement() && !packet.is_probe());
        }
    }

    #[test]
    fn what_is_no_sound_arp_is_refused() {
        let frame = ArpPacket::request(YOU, CLIENT, SERVICE).to_frame();
        let changed = |at: usize, bytes: &[u8]| {
            let mut frame = frame.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            ArpPacket::parse(&frame)
        };
        assert_eq!(changed(12, &[8, 0]), Err(DropReason::NotForUs));
        assert_eq!(changed(14, &[0, 6]), Err(DropReason::BadMessage));
        assert_eq!(changed(18, &[8]), Err(DropReason::BadMessage));
        assert_eq!(changed(20, &[0, 3]), Err(DropReason::BadMessage));
        assert_eq!(changed(22, &[0xff; 6]), Err(DropReason::BadAddress));
        assert_eq!(changed(22, &[0; 6]), Err(DropReason::BadAddress));
        assert_eq!(changed(28, &[224, 0, 0, 1]), Err(DropReason::BadAddress));
        assert_eq!(ArpPacket::parse(&frame[..41]), Err(DropReason::Truncated));
    }
}
