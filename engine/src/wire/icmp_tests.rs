//! Pings and errors.

use super::*;
use crate::wire::{Flags, Offload, TcpHeader, TcpOptions, parse_ip};
use proptest::prelude::*;

const SEQ: SeqNum = SeqNum(0xdead_beef);

fn tuple(ipv6: bool) -> FourTuple {
    let (local, remote) = if ipv6 {
        ("[fd77::100]:80", "[fd77::10]:40000")
    } else {
        ("10.77.0.100:80", "10.77.0.10:40000")
    };
    FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() }
}

/// A packet of ours, which a router will quote.
fn ours(ipv6: bool) -> Vec<u8> {
    let header = TcpHeader {
        tuple: tuple(ipv6),
        seq: SEQ,
        ack: SeqNum(1),
        flags: Flags::ACK,
        window: 1,
        options: TcpOptions::default(),
        ecn: 0,
        ttl: 64,
        ip_id: 1,
    };
    let mut packet = vec![0; header.len() + 100];
    header.write(&mut packet, 100, Offload::Full);
    packet
}

/// A message to the service address, checksum included.
fn message(ipv6: bool, kind: u8, code: u8, word: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = vec![kind, code, 0, 0];
    payload.extend_from_slice(&word.to_be_bytes());
    payload.extend_from_slice(data);
    let sum = packet(ipv6, &payload);
    let pseudo = if ipv6 {
        checksum::pseudo_header(sum.src, sum.dst, protocol::ICMPV6, payload.len() as u32)
    } else {
        Sum::default()
    };
    let sum = pseudo.add_bytes(&payload).checksum();
    payload[2..4].copy_from_slice(&sum.to_be_bytes());
    payload
}

fn packet(ipv6: bool, payload: &[u8]) -> IpPacket<'_> {
    let (src, dst, protocol) = if ipv6 {
        ("fd77::1", "fd77::100", protocol::ICMPV6)
    } else {
        ("10.77.0.1", "10.77.0.100", protocol::ICMP)
    };
    let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
    IpPacket { src, dst, protocol, ttl: 64, ecn: 0, fragment: None, payload }
}

fn kind_of(ipv6: bool, kind: u8, code: u8, word: u32) -> Option<IcmpKind> {
    let message = message(ipv6, kind, code, word, &ours(ipv6));
    match parse_icmp(&packet(ipv6, &message)).unwrap() {
        Icmp::Error(IcmpError { kind, tuple: quoted, seq, quoted_len }) => {
            let length = if ipv6 { 160 } else { 140 };
            assert_eq!((quoted, seq, quoted_len), (tuple(ipv6), SEQ, length));
            Some(kind)
        }
        Icmp::Other => None,
        Icmp::EchoRequest { .. } => panic!("an error is no echo request"),
    }
}

#[test]
fn v4_errors_are_told_apart() {
    let hard = Some(IcmpKind::Unreachable { hard: true });
    let soft = Some(IcmpKind::Unreachable { hard: false });
    for (code, expected) in [(0, soft), (1, soft), (2, hard), (3, hard), (5, soft), (13, hard)] {
        assert_eq!(kind_of(false, 3, code, 0), expected, "code {code}");
    }
    assert_eq!(kind_of(false, 3, 16, 0), None);
    assert_eq!(kind_of(false, 3, 4, 1400), Some(IcmpKind::TooBig { mtu: 1400 }));
    // The upper half of the word is unused, RFC 1191 §4.
    assert_eq!(kind_of(false, 3, 4, 0xffff_0000), Some(IcmpKind::TooBig { mtu: 0 }));
    assert_eq!(kind_of(false, 4, 0, 0), Some(IcmpKind::SourceQuench));
    assert_eq!(kind_of(false, 5, 1, 0), None);
    assert_eq!(kind_of(false, 11, 0, 0), Some(IcmpKind::TimeExceeded));
    assert_eq!(kind_of(false, 12, 0, 0), Some(IcmpKind::ParameterProblem));
}

#[test]
fn v6_errors_are_told_apart() {
    let hard = Some(IcmpKind::Unreachable { hard: true });
    let soft = Some(IcmpKind::Unreachable { hard: false });
    for (code, expected) in [(0, soft), (1, hard), (2, soft), (3, soft), (4, hard), (9, soft)] {
        assert_eq!(kind_of(true, 1, code, 0), expected, "code {code}");
    }
    assert_eq!(kind_of(true, 2, 0, 1280), Some(IcmpKind::TooBig { mtu: 1280 }));
    assert_eq!(kind_of(true, 3, 0, 0), Some(IcmpKind::TimeExceeded));
    assert_eq!(kind_of(true, 4, 1, 0), Some(IcmpKind::ParameterProblem));
    assert_eq!(kind_of(true, 137, 0, 0), None);
}

#[test]
fn eight_bytes_of_tcp_are_enough_and_seven_are_not() {
    for (ipv6, ip_len) in [(false, 20), (true, 40)] {
        let (kind, quote) = (if ipv6 { 1 } else { 3 }, ours(ipv6));
        let enough = message(ipv6, kind, 1, 0, &quote[..ip_len + 8]);
        assert!(matches!(parse_icmp(&packet(ipv6, &enough)), Ok(Icmp::Error(_))));
        let short = message(ipv6, kind, 1, 0, &quote[..ip_len + 7]);
        assert_eq!(parse_icmp(&packet(ipv6, &short)), Err(DropReason::Truncated));
        let none = message(ipv6, kind, 1, 0, &[]);
        assert_eq!(parse_icmp(&packet(ipv6, &none)), Err(DropReason::Truncated));
    }
}

#[test]
fn quote_of_somebody_elses_packet_is_refused() {
    for (ipv6, kind, source_at) in [(false, 3, 12), (true, 1, 8)] {
        let mut quote = ours(ipv6);
        quote[source_at] ^= 1;
        let message = message(ipv6, kind, 1, 0, &quote);
        assert_eq!(parse_icmp(&packet(ipv6, &message)), Err(DropReason::BadMessage));
    }
}

#[test]
fn quote_without_tcp_is_nothing_to_us() {
    let mut quote = ours(false);
    quote[9] = protocol::UDP;
    let udp = message(false, 3, 3, 0, &quote);
    assert_eq!(parse_icmp(&packet(false, &udp)), Ok(Icmp::Other));
    let mut quote = ours(false);
    quote[7] = 1;
    let later_fragment = message(false, 11, 1, 0, &quote);
    assert_eq!(parse_icmp(&packet(false, &later_fragment)), Ok(Icmp::Other));
    let mut quote = ours(true);
    quote[6] = protocol::UDP;
    let udp = message(true, 1, 4, 0, &quote);
    assert_eq!(parse_icmp(&packet(true, &udp)), Ok(Icmp::Other));
}

#[test]
fn damaged_or_misdirected_messages_are_refused() {
    for ipv6 in [false, true] {
        let mut bytes = message(ipv6, if ipv6 { 128 } else { 8 }, 0, 0, b"data");
        let other = IpPacket { protocol: protocol::UDP, ..packet(ipv6, &bytes) };
        assert_eq!(parse_icmp(&other), Err(DropReason::NotForUs));
        assert_eq!(parse_icmp(&packet(ipv6, &bytes[..7])), Err(DropReason::Truncated));
        bytes[9] ^= 1;
        assert_eq!(parse_icmp(&packet(ipv6, &bytes)), Err(DropReason::BadChecksum));
        let fragment = Some(crate::wire::FragmentInfo { id: 1, offset: 0, more: true });
        let fragment = IpPacket { fragment, ..packet(ipv6, &bytes) };
        assert_eq!(parse_icmp(&fragment), Err(DropReason::UnexpectedFragment));
    }
}

#[test]
fn reply_is_asked_for_by_requests_only() {
    let reply = message(false, 0, 0, 0, b"data");
    let mut buf = vec![1, 2, 3];
    let refused = write_echo_reply(&packet(false, &reply), 64, 1, &mut buf);
    assert_eq!((refused, buf), (Err(DropReason::NotForUs), vec![1, 2, 3]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ping_of_any_size_is_answered(
        ipv6: bool, id: u16, seq: u16, length in prop_oneof![0_usize..100, 65_400_usize..=65_507],
    ) {
        let data: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let word = u32::from(id) << 16 | u32::from(seq);
        let request = message(ipv6, if ipv6 { 128 } else { 8 }, 0, word, &data);
        let request = packet(ipv6, &request);
        let parsed = Icmp::EchoRequest { id, seq, data: &data };
        prop_assert_eq!(parse_icmp(&request), Ok(parsed));

        let mut buf = Vec::new();
        prop_assert_eq!(write_echo_reply(&request, 63, 7, &mut buf), Ok(()));
        let reply = parse_ip(&buf).unwrap();
        prop_assert_eq!((reply.src, reply.dst, reply.ttl), (request.dst, request.src, 63));
        prop_assert_eq!(parse_icmp(&reply), Ok(Icmp::Other));
        prop_assert_eq!(reply.payload[0], if ipv6 { 129 } else { 0 });
        prop_assert_eq!(&reply.payload[4..], &request.payload[4..]);
    }
}

#[test]
fn request_longer_than_a_reply_can_be_is_refused() {
    let request = message(false, 8, 0, 0, &vec![0; 65_508]);
    let refused = write_echo_reply(&packet(false, &request), 64, 1, &mut Vec::new());
    assert_eq!(refused, Err(DropReason::BadHeaderLength));
}

/// Nothing but zeros is left of it: their sum is 0, and only 0xffff stands for that in the field.
#[test]
fn a_ping_of_zeros_is_answered_soundly() {
    let request = message(false, V4_ECHO_REQUEST, 0, 0, &[0; 38]);
    let mut buf = Vec::new();
    assert_eq!(write_echo_reply(&packet(false, &request), 64, 1, &mut buf), Ok(()));
    assert_eq!(parse_icmp(&parse_ip(&buf).unwrap()), Ok(Icmp::Other));
    let plain = message(false, V4_ECHO_REPLY, 0, 0, &[0; 38]);
    assert_eq!(parse_ip(&buf).unwrap().payload, plain);
}
