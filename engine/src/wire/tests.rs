//! The parsers against arbitrary bytes, and against `etherparse` as an independent reader and
//! writer of the same formats.

use super::*;
use crate::time::{Duration, Instant};
use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{
    IpHeaders, LaxNetSlice, NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice,
};
use proptest::prelude::*;

fn ports() -> impl Strategy<Value = (u16, u16)> {
    (1..=u16::MAX, 1..=u16::MAX)
}

fn host_v4() -> impl Strategy<Value = Ipv4Addr> {
    (any::<[u8; 3]>(), 1..127_u8).prop_map(|([b, c, d], a)| Ipv4Addr::new(10 + a / 2, b, c, d))
}

fn host_v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| Ipv6Addr::new(0xfd77, b, c, d, e, f, g, h))
}

fn tuples() -> impl Strategy<Value = FourTuple> {
    let v4 = (host_v4(), host_v4(), ports())
        .prop_map(|(a, b, (p, q))| FourTuple { local: (a, p).into(), remote: (b, q).into() });
    let v6 = (host_v6(), host_v6(), ports())
        .prop_map(|(a, b, (p, q))| FourTuple { local: (a, p).into(), remote: (b, q).into() });
    prop_oneof![v4, v6]
}

/// Option lists that fit into a header: at most two SACK blocks.
fn options() -> impl Strategy<Value = TcpOptions> {
    let block =
        any::<(u32, u32)>().prop_map(|(a, b)| SackBlock { left: SeqNum(a), right: SeqNum(b) });
    let stamps = any::<(u32, u32)>().prop_map(|(val, ecr)| Timestamps { val, ecr });
    (
        any::<Option<u16>>(),
        any::<Option<u8>>(),
        any::<bool>(),
        prop::option::of(stamps),
        prop::collection::vec(block, 0..=2),
    )
        .prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| {
            let sack = blocks.into_iter().collect();
            TcpOptions { mss, window_scale, sack_permitted, timestamps, sack }
        })
}

fn headers() -> impl Strategy<Value = TcpHeader> {
    (tuples(), any::<(u32, u32, u8, u16, u8, u16)>(), options(), 0..4_u8).prop_map(
        |(tuple, (seq, ack, flags, window, ttl, ip_id), options, ecn)| TcpHeader {
            tuple,
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags: Flags::from_bits_retain(flags),
            window,
            options,
            ecn,
            ttl,
            ip_id,
        },
    )
}

/// The packet with a payload, written with its full checksum.
fn written(header: &TcpHeader, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x5a; header.len()];
    packet.extend_from_slice(payload);
    assert_eq!(header.write(&mut packet, payload.len(), Offload::Full), VnetHeader::PLAIN);
    packet
}

/// What we read must be what was written, and padding behind it must not matter.
fn assert_reads_back(header: &TcpHeader, payload: &[u8], packet: &[u8]) {
    let ip = parse_ip(packet).unwrap();
    let expected = IpPacket {
        src: header.tuple.local.ip(),
        dst: header.tuple.remote.ip(),
        protocol: protocol::TCP,
        ttl: header.ttl,
        ecn: header.ecn,
        fragment: None,
        payload: ip.payload,
    };
    assert_eq!(ip, expected);
    let segment = Segment {
        seq: header.seq,
        ack: header.ack,
        flags: header.flags,
        window: header.window,
        options: header.options.clone(),
        marked: header.ecn == 3,
        payload,
    };
    let ends = (header.tuple.local.port(), header.tuple.remote.port(), segment);
    assert_eq!(parse_tcp(&ip, ChecksumState::Verify), Ok(ends));
}

/// The option list as etherparse understands it, in our terms.
fn understood(slice: &etherparse::TcpSlice<'_>) -> TcpOptions {
    let mut options = TcpOptions::default();
    for element in slice.options_iterator() {
        match element.unwrap() {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(mss) => options.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::Timestamp(val, ecr) => {
                options.timestamps = Some(Timestamps { val, ecr });
            }
            TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                let blocks = core::iter::once(first).chain(rest.into_iter().flatten());
                let block = |(a, b)| SackBlock { left: SeqNum(a), right: SeqNum(b) };
                options.sack = blocks.map(block).collect();
            }
        }
    }
    options
}

/// What etherparse reads must be what was written, checksums included.
fn assert_etherparse_agrees(header: &TcpHeader, payload: &[u8], packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP: {sliced:?}") };
    let sum = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header();
            assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum());
            assert!(ip.dont_fragment() && !ip.more_fragments());
            assert_eq!((ip.identification(), ip.ttl()), (header.ip_id, header.ttl));
            assert_eq!(ip.ecn().value(), header.ecn);
            tcp.calc_checksum_ipv4(ip.source(), ip.destination()).unwrap()
        }
        NetSlice::Ipv6(ip) => {
            let ip = ip.header();
            assert_eq!((ip.hop_limit(), ip.traffic_class()), (header.ttl, header.ecn));
            tcp.calc_checksum_ipv6(ip.source(), ip.destination()).unwrap()
        }
        NetSlice::Arp(_) => panic!("TCP over ARP"),
    };
    assert_eq!(tcp.checksum(), sum);
    assert_eq!((tcp.source_port(), tcp.destination_port()), {
        (header.tuple.local.port(), header.tuple.remote.port())
    });
    assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (header.seq.0, header.ack.0));
    assert_eq!((tcp.window_size(), tcp.urgent_pointer(), tcp.ns()), (header.window, 0, false));
    let bits = [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack(), tcp.urg(), tcp.ece()];
    let bits = bits.iter().chain([&tcp.cwr()]).rev().fold(0, |all, &bit| all << 1 | u8::from(bit));
    assert_eq!(bits, header.flags.bits());
    assert_eq!(understood(&tcp), header.options);
    assert_eq!(tcp.payload(), payload);
}

/// Ports, number, flags, and whether a router has marked it.
fn segment_of(packet: &[u8]) -> ((u16, u16, SeqNum, Flags), bool) {
    let ip = parse_ip(packet).expect("IP");
    let (from, to, segment) = parse_tcp(&ip, ChecksumState::Verify).expect("TCP");
    ((from, to, segment.seq, segment.flags), segment.marked)
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_by_us_and_by_etherparse(
        header in headers(),
        payload in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut packet = written(&header, &payload);
        assert_reads_back(&header, &payload, &packet);
        assert_etherparse_agrees(&header, &payload, &packet);
        packet.extend_from_slice(&[0xff; 7]);
        assert_reads_back(&header, &payload, &packet);
    }

    #[test]
    fn any_flipped_bit_is_noticed(
        header in headers(), payload in prop::collection::vec(any::<u8>(), 0..64),
        at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let good = written(&header, &payload);
        let mut bad = good.clone();
        bad[at.index(good.len())] ^= 1_u8 << bit;
        let read = |bytes| {
            let ip = parse_ip(bytes)?;
            parse_tcp(&ip, ChecksumState::Verify).map(|(a, b, s)| (ip, a, b, s))
        };
        // IPv6 leaves its own first bytes and the hop limit unprotected.
        let unprotected = header.tuple.is_ipv6() && matches!(at.index(good.len()), 0..=3 | 7);
        prop_assert!(unprotected || read(&bad).is_err());
        prop_assert!(read(&good).is_ok());
    }

    #[test]
    fn what_etherparse_writes_is_read(
        tuple in tuples(), seq: u32, ack: u32, window: u16, ttl: u8,
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let builder = match (tuple.remote.ip(), tuple.local.ip()) {
            (core::net::IpAddr::V4(a), core::net::IpAddr::V4(b)) => {
                PacketBuilder::ipv4(a.octets(), b.octets(), ttl)
            }
            (core::net::IpAddr::V6(a), core::net::IpAddr::V6(b)) => {
                PacketBuilder::ipv6(a.octets(), b.octets(), ttl)
            }
            _ => unreachable!(),
        };
        let builder = builder
            .tcp(tuple.remote.port(), tuple.local.port(), seq, window)
            .ack(ack)
            .options(&[TcpOptionElement::Noop, TcpOptionElement::MaximumSegmentSize(1234)])
            .unwrap();
        let mut packet = Vec::new();
        builder.write(&mut packet, &payload).unwrap();

        let ip = parse_ip(&packet).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.ttl), (tuple.remote.ip(), tuple.local.ip(), ttl));
        let segment = Segment {
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags: Flags::ACK,
            window,
            options: TcpOptions { mss: Some(1234), ..TcpOptions::default() },
            marked: false,
            payload: &payload,
        };
        let ends = (tuple.remote.port(), tuple.local.port(), segment);
        prop_assert_eq!(parse_tcp(&ip, ChecksumState::Verify), Ok(ends));
    }

    /// RFC 2873: whatever class of service a packet is given on its way, it is the same segment.
    #[test]
    fn precedence_changes_nothing(header in headers(), class: u8) {
        let mut packet = vec![0; header.len()];
        let _: VnetHeader = header.write(&mut packet, 0, Offload::Full);
        let plain = segment_of(&packet);
        if header.tuple.is_ipv6() {
            packet[0] = 0x60 | class >> 4;
            packet[1] = class << 4 | packet[1] & 0x0f;
        } else {
            packet[1] = class;
            packet[10..12].fill(0);
            let sum = checksum::Sum::default().add_bytes(&packet[..20]).checksum();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let (ends, marked) = segment_of(&packet);
        prop_assert_eq!((ends, marked), (plain.0, class & 3 == 3));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        feed(&bytes);
    }

    /// Bytes that get past the first checks: a sound header, then chaos.
    #[test]
    fn damaged_packets_never_panic(
        header in headers(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut packet = written(&header, b"some text to be damaged");
        for (at, byte) in damage {
            let at = at.index(packet.len());
            packet[at] = byte;
        }
        feed(&packet);
        feed(&packet[..cut.index(packet.len())]);
    }

    /// Where both get past the same headers, they find the same bytes behind them. etherparse stops
    /// where headers come in another order than RFC 8200 recommends, so it may see less.
    #[test]
    fn chains_of_headers_are_read_as_etherparse_reads_them(
        chain in prop::collection::vec(
            (prop::sample::select(vec![0_u8, 43, 44, 60]), prop::collection::vec(any::<u8>(), 7)),
            0..5,
        ),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let packet = chained(&chain, &tail);
        let ours = parse_ip(&packet);
        let theirs = etherparse::LaxSlicedPacket::from_ip(&packet).unwrap();
        if let (Ok(ours), Some(LaxNetSlice::Ipv6(theirs))) = (ours, theirs.net) {
            let their_payload = theirs.payload();
            if their_payload.ip_number.0 == ours.protocol {
                prop_assert_eq!(their_payload.fragmented, ours.fragment.is_some());
                prop_assert_eq!(their_payload.payload, ours.payload);
            }
        }
    }
}

/// An IPv6 packet with these extension headers of eight bytes each, then TCP.
fn chained(chain: &[(u8, Vec<u8>)], tail: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, (kind, rest)) in chain.iter().enumerate() {
        body.push(chain.get(index + 1).map_or(protocol::TCP, |next| next.0));
        match kind {
            // Options that fill the header as padding; a routing header at its end.
            0 | 60 => body.extend([0, 1, 4, 0, 0, 0, 0]),
            43 => body.extend([0, rest[1], 0, rest[3], 0, 0, 0]),
            _ => body.extend(rest),
        }
    }
    body.extend_from_slice(tail);
    let first = chain.first().map_or(protocol::TCP, |next| next.0);
    let header = ip::V6Header {
        src: "fd77::10".parse().unwrap(),
        dst: "fd77::100".parse().unwrap(),
        next_header: first,
        hop_limit: 64,
        ecn: 0,
        payload_len: body.len() as u16,
    };
    [&header.to_bytes()[..], &body].concat()
}

/// Runs every parser over the bytes.
fn feed(bytes: &[u8]) {
    let _ = VnetHeader::parse(bytes);
    let _ = NeighbourFrame::parse(bytes);
    let _ = ArpPacket::parse(bytes);
    let _ = NeighbourSolicitation::parse(bytes);
    let _ = NeighbourAdvertisement::parse(bytes);
    let raw = |protocol: u8, ipv6: bool| {
        let (src, dst) = if ipv6 { ("fd77::1", "fd77::2") } else { ("10.0.0.1", "10.0.0.2") };
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        IpPacket { src, dst, protocol, ttl: 1, ecn: 0, fragment: None, payload: bytes }
    };
    let mut reply = Vec::new();
    for ipv6 in [false, true] {
        for protocol in [protocol::TCP, protocol::ICMP, protocol::ICMPV6] {
            let ip = raw(protocol, ipv6);
            let _ = parse_tcp(&ip, ChecksumState::Trusted);
            let _ = parse_icmp(&ip);
            let _ = write_echo_reply(&ip, 64, 1, &mut reply);
        }
    }
    let mut fragments = Fragments::of(bytes, 0, 1);
    let mut piece = [0; 1280];
    while fragments.write_next(&mut piece).is_some() {}
    let mut set = Reassembler::new(0, Duration::from_secs(1));
    if let Ok(ip) = parse_ip(bytes)
        && let Ok(Some(whole)) = set.insert(Instant::ZERO, &ip)
    {
        let _ = whole.packet();
    }
}

#[test]
fn icmp_errors_of_arbitrary_quotes_never_panic() {
    let mut message = vec![3, 1, 0, 0, 0, 0, 0, 0];
    for n in 0..=60_u8 {
        message.push(if n == 0 { 0x4f } else { 6 });
        message[2..4].fill(0);
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        feed(&message);
    }
}

#[test]
fn icmp_and_arp_of_etherparse_are_read() {
    let mut ping = Vec::new();
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9).icmpv4_echo_request(7, 8);
    builder.write(&mut ping, b"data").unwrap();
    let parsed = parse_icmp(&parse_ip(&ping).unwrap());
    assert_eq!(parsed, Ok(Icmp::EchoRequest { id: 7, seq: 8, data: b"data" }));

    let (a, b) = (host_bytes(1), host_bytes(2));
    let mut ping = Vec::new();
    PacketBuilder::ipv6(a, b, 9).icmpv6_echo_request(7, 8).write(&mut ping, b"data").unwrap();
    let request = parse_ip(&ping).unwrap();
    assert_eq!(parse_icmp(&request), Ok(Icmp::EchoRequest { id: 7, seq: 8, data: b"data" }));
    let mut reply = Vec::new();
    write_echo_reply(&request, 9, 0, &mut reply).unwrap();
    let mut expected = Vec::new();
    PacketBuilder::ipv6(b, a, 9).icmpv6_echo_reply(7, 8).write(&mut expected, b"data").unwrap();
    assert_eq!(reply, expected);

    let frame = ArpPacket::announcement_request(MacAddr([2, 0, 0, 0, 0, 1]), [10, 0, 0, 9].into());
    let frame = frame.to_frame();
    let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(NetSlice::Arp(arp)) = sliced.net else { panic!("no ARP") };
    assert_eq!(arp.operation(), etherparse::ArpOperation::REQUEST);
    assert_eq!(arp.sender_hw_addr(), [2, 0, 0, 0, 0, 1]);
    assert_eq!((arp.sender_protocol_addr(), arp.target_protocol_addr()), {
        (&[10, 0, 0, 9][..], &[10, 0, 0, 9][..])
    });
}

fn host_bytes(last: u16) -> [u8; 16] {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last).octets()
}

#[test]
fn fragments_are_those_that_etherparse_describes() {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9).icmpv4_echo_request(7, 8);
    builder.write(&mut packet, &[7; 3000]).unwrap();
    let mut fragments = Fragments::of(&packet, 1500, 0x1234);
    let mut buf = [0; 1500];
    let mut seen = Vec::new();
    while let Some(length) = fragments.write_next(&mut buf) {
        let (headers, _) = IpHeaders::from_slice(&buf[..length]).unwrap();
        let (ip, _) = headers.ipv4().unwrap();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        assert_eq!(usize::from(ip.total_len), length);
        assert_eq!((ip.identification, ip.dont_fragment), (0x1234, false));
        seen.push((ip.fragment_offset.byte_offset(), ip.more_fragments, length));
    }
    assert_eq!(seen, [(0, true, 1500), (1480, true, 1500), (2960, false, 68)]);
}
