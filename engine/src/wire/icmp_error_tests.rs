//! What is written is what is read.

use super::*;
use crate::wire::{Endpoint, FourTuple, Icmp, SeqNum, parse_icmp, parse_ip};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

fn error(ipv6: bool, kind: IcmpKind, quoted_len: u32) -> IcmpError {
    let (local, remote) = if ipv6 {
        ("[fd77::10]:40000", "[fd77::100]:80")
    } else {
        ("10.77.0.10:40000", "10.77.0.100:80")
    };
    let tuple = FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
    IcmpError { kind, tuple, seq: SeqNum(0xdead_beef), quoted_len }
}

fn router(ipv6: bool) -> IpAddr {
    if ipv6 { "fd77::1" } else { "10.77.0.1" }.parse().unwrap()
}

fn read_back(error: &IcmpError) -> IcmpError {
    let mut out = Vec::new();
    write_icmp_error(error, router(error.tuple.is_ipv6()), 64, 1, &mut out);
    match parse_icmp(&parse_ip(&out).unwrap()) {
        Ok(Icmp::Error(read)) => read,
        other => panic!("{other:?}"),
    }
}

fn kinds() -> impl Strategy<Value = IcmpKind> {
    prop_oneof![
        (0..=0xffff_u32).prop_map(|mtu| IcmpKind::TooBig { mtu }),
        any::<bool>().prop_map(|hard| IcmpKind::Unreachable { hard }),
        Just(IcmpKind::TimeExceeded),
        Just(IcmpKind::ParameterProblem),
    ]
}

proptest! {
    #[test]
    fn error_is_read_back_by_us_and_its_sum_by_etherparse(
        ipv6: bool, kind in kinds(), ports: (u16, u16), seq: u32, quoted_len in 40..=65_535_u32,
        ttl: u8, id: u16,
    ) {
        let mut error = error(ipv6, kind, quoted_len);
        let FourTuple { local, remote } = error.tuple;
        error.tuple.local = Endpoint::new(local.ip(), ports.0);
        error.tuple.remote = Endpoint::new(remote.ip(), ports.1);
        error.seq = SeqNum(seq);
        let mut out = vec![1, 2, 3];
        write_icmp_error(&error, router(ipv6), ttl, id, &mut out);
        let ip = parse_ip(&out).unwrap();
        prop_assert_eq!((ip.src, ip.dst, ip.ttl), (router(ipv6), local.ip(), ttl));
        prop_assert_eq!(parse_icmp(&ip), Ok(Icmp::Error(error)));

        let theirs = SlicedPacket::from_ip(&out).unwrap();
        match (theirs.net.unwrap(), theirs.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                let ip = ip.header();
                prop_assert_eq!((ip.identification(), ip.dont_fragment()), (id, false));
                let sum = icmp.header().icmp_type.calc_checksum(icmp.payload());
                prop_assert_eq!(icmp.checksum(), sum);
                // The quoted header is one with a checksum that fits.
                prop_assert!(Sum::default().add_bytes(&icmp.payload()[..V4_LEN]).is_intact());
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let ip = ip.header();
                prop_assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_field_cannot_say_is_clamped() {
    let quoted = |ipv6, length| read_back(&error(ipv6, IcmpKind::TimeExceeded, length)).quoted_len;
    assert_eq!([quoted(false, 0), quoted(false, u32::MAX)], [0, 65_535]);
    assert_eq!([quoted(true, 0), quoted(true, 65_575)], [40, 65_575]);
    assert_eq!(quoted(true, u32::MAX), 65_575);
    let mtu = |ipv6, mtu| read_back(&error(ipv6, IcmpKind::TooBig { mtu }, 1500)).kind;
    assert_eq!(mtu(false, 65_536), IcmpKind::TooBig { mtu: 65_535 });
    assert_eq!(mtu(true, 65_536), IcmpKind::TooBig { mtu: 65_536 });
}

#[test]
fn nothing_is_written_of_a_source_quench_or_between_families() {
    let mut out = vec![1, 2, 3];
    for ipv6 in [false, true] {
        write_icmp_error(&error(ipv6, IcmpKind::SourceQuench, 40), router(ipv6), 64, 1, &mut out);
        assert!(out.is_empty());
        out = vec![1, 2, 3];
        write_icmp_error(&error(ipv6, IcmpKind::TimeExceeded, 40), router(!ipv6), 64, 1, &mut out);
        assert!(out.is_empty());
    }
}

/// What a kernel looks at: type and code (RFC 792, RFC 1191, RFC 4443 §3), and that the packet was one
/// that might not be cut.
#[test]
fn each_kind_has_its_type_and_its_code() {
    let written = |ipv6, kind| {
        let mut out = Vec::new();
        write_icmp_error(&error(ipv6, kind, 1500), router(ipv6), 64, 1, &mut out);
        let at = if ipv6 { V6_LEN } else { V4_LEN };
        (out[at], out[at + 1], out[at + ICMP_LEN..].to_vec())
    };
    let expected = [
        (IcmpKind::TooBig { mtu: 1400 }, (3, 4), (2, 0)),
        (IcmpKind::Unreachable { hard: true }, (3, 3), (1, 4)),
        (IcmpKind::Unreachable { hard: false }, (3, 1), (1, 3)),
        (IcmpKind::TimeExceeded, (11, 0), (3, 0)),
        (IcmpKind::ParameterProblem, (12, 0), (4, 0)),
    ];
    for (kind, v4, v6) in expected {
        let (class, code, quoted) = written(false, kind);
        assert_eq!((class, code), v4, "{kind:?}");
        assert_eq!(quoted[6] & 0xe0, 0x40, "DF, and no more fragments: {kind:?}");
        let (class, code, _) = written(true, kind);
        assert_eq!((class, code), v6, "{kind:?}");
    }
}
