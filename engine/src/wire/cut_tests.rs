use proptest::prelude::*;

use super::*;
use crate::wire::{
    ChecksumState, FourTuple, Offload, SeqNum, TcpHeader, TcpOptions, Timestamps, parse_ip,
    parse_tcp,
};

fn header(ipv6: bool, flags: Flags, stamped: bool) -> TcpHeader {
    let ends = if ipv6 {
        ["[fd77::100]:80", "[fd77::10]:4660"]
    } else {
        ["10.77.0.100:80", "10.77.0.10:4660"]
    };
    let [local, remote] = ends.map(|text| text.parse().unwrap());
    let timestamps = stamped.then_some(Timestamps { val: 7, ecr: 9 });
    TcpHeader {
        tuple: FourTuple { local, remote },
        seq: SeqNum(u32::MAX - 1000),
        ack: SeqNum(77),
        flags,
        window: 1000,
        options: TcpOptions { timestamps, ..TcpOptions::default() },
        ecn: 0,
        ttl: 63,
        ip_id: 65_535,
    }
}

/// A whole packet, its checksum full or partial, and the length of its segment.
fn packet(header: &TcpHeader, text: &[u8], offload: Offload) -> (VnetHeader, Vec<u8>, usize) {
    let mut bytes = vec![0; header.len()];
    bytes.extend_from_slice(text);
    let vnet = header.write(&mut bytes, text.len(), offload);
    let segment_len = parse_ip(&bytes).unwrap().payload.len();
    (vnet, bytes, segment_len)
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

#[test]
fn what_fits_is_left_alone() {
    let (vnet, bytes, length) =
        packet(&header(false, Flags::ACK, true), &text(1348), Offload::Full);
    assert_eq!(bytes.len(), 1400);
    assert_eq!(Cut::to_fit(1400, vnet, &bytes, length), None);
    assert!(Cut::to_fit(1399, vnet, &bytes, length).is_some());
    // The kernel cuts it small enough already.
    let small = VnetHeader { gso_type: VnetHeader::GSO_TCPV4, gso_size: 1200, ..vnet };
    assert_eq!(Cut::to_fit(1252, small, &bytes, length), None);
    assert!(Cut::to_fit(1251, small, &bytes, length).is_some());
}

#[test]
fn the_kernel_is_told_how_large_a_piece_may_be() {
    for (ipv6, kind, at) in [(false, VnetHeader::GSO_TCPV4, 20), (true, VnetHeader::GSO_TCPV6, 40)]
    {
        let header = header(ipv6, Flags::ACK | Flags::CWR, true);
        let (full, mut bytes, length) = packet(&header, &text(5000), Offload::Full);
        let (_, partial, _) = packet(&header, &text(5000), Offload::Partial { mss: 0 });
        let cut = Cut::to_fit(1300, full, &bytes, length).unwrap();
        let vnet = cut.offload(full, &mut bytes);
        assert_eq!(bytes, partial, "the sum of the pseudo-header, as the kernel wants it");
        let meant = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: kind | VnetHeader::GSO_ECN,
            header_len: at + 32,
            gso_size: 1300 - 32 - at,
            csum_start: at,
            csum_offset: 16,
        };
        assert_eq!(vnet, meant);
        // What has a partial checksum keeps it.
        let cut = Cut::to_fit(1300, meant, &bytes, length);
        assert_eq!(cut, None, "and that is enough");
        let larger = VnetHeader { gso_size: 1400, ..meant };
        let cut = Cut::to_fit(1300, larger, &bytes, length).unwrap();
        assert_eq!((cut.offload(larger, &mut bytes), bytes), (meant, partial));
    }
}

proptest! {
    #[test]
    fn pieces_say_what_the_whole_did(
        ipv6: bool, stamped: bool, length in 1200_usize..9000, mtu in 552_u16..1280, bits: u8,
    ) {
        let flags = (Flags::from_bits_retain(bits) | Flags::ACK).difference(Flags::SYN | Flags::RST);
        let header = header(ipv6, flags, stamped);
        let (vnet, bytes, segment) = packet(&header, &text(length), Offload::Full);
        let cut = Cut::to_fit(mtu, vnet, &bytes, segment).unwrap();
        let (mut all, mut seq, mut seen) = (Vec::new(), header.seq, Vec::new());
        for piece in cut.pieces(&bytes) {
            prop_assert!(piece.len() <= usize::from(mtu));
            let ip = parse_ip(&piece).unwrap();
            let (_, _, got) = parse_tcp(&ip, ChecksumState::Verify).unwrap();
            prop_assert_eq!((got.seq, got.ack, got.window), (seq, header.ack, header.window));
            prop_assert_eq!(&got.options, &header.options);
            all.extend_from_slice(got.payload);
            seq = seq.add(got.payload.len() as u32);
            seen.push(got.flags);
        }
        prop_assert_eq!(all, text(length));
        let [first, .., last] = &seen[..] else { panic!("one piece") };
        prop_assert_eq!(flags.difference(Flags::FIN | Flags::PSH), *first);
        prop_assert_eq!(flags.difference(Flags::CWR), *last);
    }
}
