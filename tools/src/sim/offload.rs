//! What kernel and NIC do below a TUN device with offload: cut super-segments, finish checksums.

use core::net::SocketAddr;

use standin::wire::checksum::pseudo_header;
use standin::wire::{Icmp, MacAddr, VnetHeader, parse_icmp, parse_ip};

/// The flags that belong on the last piece of a super-segment (FIN, PSH) and on its first (CWR).
const LAST_ONLY: u8 = 0x01 | 0x08;
const FIRST_ONLY: u8 = 0x80;

/// The packets that go on the wire for one that an engine wrote. `None`: it is not a TCP packet
/// that a kernel could cut.
pub(super) fn to_wire(vnet: VnetHeader, packet: &[u8]) -> Option<Vec<Vec<u8>>> {
    if !vnet.needs_csum() && !vnet.is_gso() {
        return Some(vec![packet.to_vec()]);
    }
    let ip_len = usize::from(vnet.csum_start);
    let tcp = packet.get(ip_len..)?;
    let tcp_len = usize::from(tcp.get(12)? >> 4) * 4;
    let payload = tcp.get(tcp_len..)?;
    if !vnet.is_gso() || payload.len() <= usize::from(vnet.gso_size) {
        let mut whole = packet.to_vec();
        finish(&mut whole, ip_len)?;
        return Some(vec![whole]);
    }
    let header = &packet[..ip_len + tcp_len];
    let size = usize::from(vnet.gso_size.max(1));
    let count = payload.len().div_ceil(size);
    let pieces = payload.chunks(size).enumerate();
    pieces.map(|(index, text)| piece(header, ip_len, text, (index, count, size))).collect()
}

/// A packet as a tap shows it: whole, with its checksum finished.
pub(super) fn shown(vnet: VnetHeader, packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if vnet.needs_csum() {
        finish(&mut packet, usize::from(vnet.csum_start));
    }
    packet
}

fn piece(
    header: &[u8],
    ip_len: usize,
    text: &[u8],
    (index, count, size): (usize, usize, usize),
) -> Option<Vec<u8>> {
    let mut packet = header.to_vec();
    packet.extend_from_slice(text);
    let length = packet.len();
    if packet[0] >> 4 == 4 {
        put_u16(&mut packet, 2, length as u16);
        let id = get_u16(&packet, 4).wrapping_add(index as u16);
        put_u16(&mut packet, 4, id);
        put_u16(&mut packet, 10, 0);
        let sum = standin::wire::checksum::checksum(&packet[..ip_len]);
        put_u16(&mut packet, 10, sum);
    } else {
        put_u16(&mut packet, 4, (length - ip_len) as u16);
    }
    let sequence = packet.get(ip_len + 4..ip_len + 8)?.try_into().ok()?;
    let sequence = u32::from_be_bytes(sequence).wrapping_add((index * size) as u32);
    packet[ip_len + 4..ip_len + 8].copy_from_slice(&sequence.to_be_bytes());
    let flags = packet.get_mut(ip_len + 13)?;
    if index + 1 < count {
        *flags &= !LAST_ONLY;
    }
    if index > 0 {
        *flags &= !FIRST_ONLY;
    }
    finish(&mut packet, ip_len)?;
    Some(packet)
}

/// Computes the TCP checksum of a whole packet.
fn finish(packet: &mut [u8], ip_len: usize) -> Option<()> {
    packet.get_mut(ip_len + 16..ip_len + 18)?.fill(0);
    let ip = parse_ip(packet).ok()?;
    let tcp = &packet[ip_len..];
    let sum = pseudo_header(ip.src, ip.dst, ip.protocol, tcp.len() as u32).add_bytes(tcp);
    let sum = sum.checksum();
    put_u16(packet, ip_len + 16, sum);
    Some(())
}

fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// The hardware address that a frame is for.
pub(super) fn destination(frame: &[u8]) -> MacAddr {
    frame.first_chunk::<6>().map_or(MacAddr::ZERO, |mac| MacAddr(*mac))
}

/// Where in a TCP packet its ends are written: source and destination, address and port.
pub(super) fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = parse_ip(packet).ok()?;
    if ip.protocol != standin::wire::protocol::TCP || ip.fragment.is_some() {
        return None;
    }
    let ports = ip.payload.first_chunk::<4>()?;
    let port = |high, low| u16::from_be_bytes([high, low]);
    Some(((ip.src, port(ports[0], ports[1])).into(), (ip.dst, port(ports[2], ports[3])).into()))
}

/// The ends of the connection that an ICMP error is about; ours, which it is told to, first.
pub(super) fn quoted_ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let ip = parse_ip(packet).ok()?;
    let Ok(Icmp::Error(error)) = parse_icmp(&ip) else { return None };
    Some((error.tuple.local.into(), error.tuple.remote.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use standin::wire::{
        ChecksumState, Flags, FourTuple, Offload, SeqNum, TcpHeader, TcpOptions, parse_tcp,
    };

    fn super_segment(ipv6: bool, text: usize) -> (VnetHeader, Vec<u8>) {
        let (local, remote) = if ipv6 {
            ("[fd77::100]:7", "[fd77::10]:4000")
        } else {
            ("10.77.0.100:7", "10.77.0.10:4000")
        };
        let header = TcpHeader {
            tuple: FourTuple {
                local: local.parse().expect("address"),
                remote: remote.parse().expect("address"),
            },
            seq: SeqNum(u32::MAX - 700),
            ack: SeqNum(5),
            flags: Flags::ACK | Flags::PSH | Flags::FIN,
            window: 9,
            options: TcpOptions::default(),
            ecn: 0,
            ttl: 64,
            ip_id: 65_535,
        };
        let mut packet = vec![0; header.len()];
        packet.extend((0..text).map(|at| at as u8));
        let vnet = header.write(&mut packet, text, Offload::Partial { mss: 500 });
        (vnet, packet)
    }

    #[test]
    fn pieces_of_a_super_segment_carry_it_all_with_good_checksums() {
        for (ipv6, length) in [(false, 1700), (true, 1700), (false, 500), (true, 0)] {
            let (vnet, packet) = super_segment(ipv6, length);
            let wire = to_wire(vnet, &packet).expect("TCP");
            assert_eq!(wire.len(), length.div_ceil(500).max(1));
            let mut offset = 0;
            for (index, packet) in wire.iter().enumerate() {
                let ip = parse_ip(packet).expect("IP");
                let (_, _, segment) = parse_tcp(&ip, ChecksumState::Verify).expect("a checksum");
                assert_eq!(segment.seq, SeqNum(u32::MAX - 700).add(offset));
                assert_eq!(segment.flags.contains(Flags::FIN), index + 1 == wire.len());
                assert!(segment.payload.iter().zip(offset..).all(|(byte, at)| *byte == at as u8));
                offset += segment.payload.len() as u32;
            }
            assert_eq!(offset as usize, length);
        }
    }
}
