//! Rewritten packets against `etherparse`: each is, byte for byte, the packet that it would have
//! written from the headers that the [`Rewrite`] names.

use super::*;
use crate::wire::{ChecksumState, checksum, parse_ip, parse_tcp, protocol};
use core::net::{Ipv4Addr, Ipv6Addr};
use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader, PacketBuilder,
    TcpHeader as TheirTcp,
};
use proptest::prelude::*;

const OPTIONS_MAX: usize = 40;

/// A packet as a description, which is easy to change.
#[derive(Clone, Debug)]
struct Described {
    ip: IpHeaders,
    tcp: TheirTcp,
    options: Vec<Item>,
    payload: Vec<u8>,
}

/// A piece of an option list.
#[derive(Clone, Debug)]
enum Item {
    Nop,
    Mss(u16),
    Timestamps(u32, u32),
    Sack(Vec<(u32, u32)>),
    /// Unknown, or known with a wrong length: kind and value.
    Other(u8, Vec<u8>),
    /// What ends the list. What comes after it is none.
    Stop(Vec<u8>),
}

impl Item {
    fn bytes(&self) -> Vec<u8> {
        let option = |kind: u8, value: Vec<u8>| [vec![kind, value.len() as u8 + 2], value].concat();
        match self {
            Self::Nop => vec![1],
            Self::Mss(mss) => option(2, mss.to_be_bytes().to_vec()),
            Self::Timestamps(val, ecr) => {
                option(8, [val.to_be_bytes(), ecr.to_be_bytes()].concat())
            }
            Self::Sack(blocks) => {
                let edges = blocks.iter().flat_map(|&(left, right)| [left, right]);
                option(5, edges.flat_map(u32::to_be_bytes).collect())
            }
            Self::Other(kind, value) => option(*kind, value.clone()),
            Self::Stop(bytes) => bytes.clone(),
        }
    }

    fn rewritten(&self, by: &Rewrite, is_ack: bool) -> Self {
        match self {
            Self::Mss(mss) => Self::Mss((*mss).min(by.mss_max)),
            Self::Timestamps(val, ecr) => {
                let ecr_by = if is_ack { by.ts_ecr } else { 0 };
                Self::Timestamps(val.wrapping_add(by.ts_val), ecr.wrapping_add(ecr_by))
            }
            Self::Sack(blocks) => {
                let edge = |edge: u32| edge.wrapping_add(by.ack);
                Self::Sack(blocks.iter().map(|&(a, b)| (edge(a), edge(b))).collect())
            }
            other => other.clone(),
        }
    }
}

impl Described {
    fn bytes(&self) -> Vec<u8> {
        let mut tcp = self.tcp.clone();
        let options: Vec<u8> = self.options.iter().flat_map(Item::bytes).collect();
        tcp.set_options_raw(&options).unwrap();
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ip(self.ip.clone()).tcp_header(tcp);
        builder.write(&mut bytes, &self.payload).unwrap();
        bytes
    }

    fn segment_len(&self) -> usize {
        let options: usize = self.options.iter().map(|item| item.bytes().len()).sum();
        TCP_LEN + options.next_multiple_of(4) + self.payload.len()
    }

    /// What it should become.
    fn rewritten(&self, by: &Rewrite) -> Self {
        let mut new = self.clone();
        match (&mut new.ip, by.source.ip(), by.destination.ip()) {
            (IpHeaders::Ipv4(ip, _), IpAddr::V4(source), IpAddr::V4(destination)) => {
                (ip.source, ip.destination) = (source.octets(), destination.octets());
            }
            (IpHeaders::Ipv6(ip, _), IpAddr::V6(source), IpAddr::V6(destination)) => {
                (ip.source, ip.destination) = (source.octets(), destination.octets());
            }
            _ => panic!("of one family"),
        }
        let (tcp, is_ack) = (&mut new.tcp, self.tcp.ack);
        (tcp.source_port, tcp.destination_port) = (by.source.port(), by.destination.port());
        tcp.sequence_number = tcp.sequence_number.wrapping_add(by.seq);
        if is_ack {
            tcp.acknowledgment_number = tcp.acknowledgment_number.wrapping_add(by.ack);
        }
        for item in &mut new.options {
            match item {
                Item::Stop(_) => break,
                item => *item = item.rewritten(by, is_ack),
            }
        }
        new
    }

    fn ends(&self) -> (Endpoint, Endpoint) {
        let (source, destination) = match &self.ip {
            IpHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
            IpHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
        };
        let tcp = &self.tcp;
        let source = Endpoint::new(source, tcp.source_port);
        (source, Endpoint::new(destination, tcp.destination_port))
    }

    /// What the field holds where the kernel has still to add the segment.
    fn partial(&self) -> u16 {
        let (source, destination) = self.ends();
        let length = self.segment_len() as u32;
        let sum = checksum::pseudo_header(source.ip(), destination.ip(), protocol::TCP, length);
        sum.folded()
    }

    fn partial_bytes(&self) -> Vec<u8> {
        let mut bytes = self.bytes();
        let at = bytes.len() - self.segment_len() + CHECKSUM_AT;
        bytes[at..at + 2].copy_from_slice(&self.partial().to_be_bytes());
        bytes
    }
}

fn v4() -> impl Strategy<Value = Ipv4Addr> {
    any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(10, b, c, d))
}

fn v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| Ipv6Addr::new(0xfd77, b, c, d, e, f, g, h))
}

fn endpoint<A: Into<IpAddr>>(ip: impl Strategy<Value = A>) -> impl Strategy<Value = Endpoint> {
    (ip, 1..=u16::MAX).prop_map(|(ip, port)| Endpoint::new(ip.into(), port))
}

/// Without options, and with router alerts for as many words.
fn v4_header() -> impl Strategy<Value = IpHeaders> {
    let bits = any::<(u8, u8, u16, bool)>();
    (v4(), v4(), bits, 3..=u8::MAX, 0..=10_usize).prop_map(
        |(source, destination, (dscp, ecn, id, df), ttl, words)| {
            let ip = Ipv4Header {
                dscp: (dscp & 63).try_into().unwrap(),
                ecn: (ecn & 3).try_into().unwrap(),
                identification: id,
                dont_fragment: df,
                time_to_live: ttl,
                source: source.octets(),
                destination: destination.octets(),
                options: [148, 4, dscp, ecn].repeat(words)[..].try_into().unwrap(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(ip, Default::default())
        },
    )
}

/// Without extension headers, and with destination options that are padding.
fn v6_header() -> impl Strategy<Value = IpHeaders> {
    let padding = prop::option::of(0..3_usize);
    (v6(), v6(), any::<(u8, u32)>(), 3..=u8::MAX, padding).prop_map(
        |(source, destination, (class, label), ttl, padding)| {
            let ip = Ipv6Header {
                traffic_class: class,
                flow_label: (label & 0xf_ffff).try_into().unwrap(),
                hop_limit: ttl,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            let destination_options = padding.map(|units| {
                let mut option = vec![0; 6 + 8 * units];
                (option[0], option[1]) = (1, option.len() as u8 - 2);
                Ipv6RawExtHeader::new_raw(IpNumber::TCP, &option).unwrap()
            });
            IpHeaders::Ipv6(ip, Ipv6Extensions { destination_options, ..Default::default() })
        },
    )
}

fn item() -> impl Strategy<Value = Item> {
    let wrong = (prop::sample::select(vec![2_u8, 5, 8, 3, 253]), 0..8_usize)
        // MSS has two bytes, SACK blocks and timestamps eight.
        .prop_filter("of a wrong length", |&(kind, length)| (kind, length) != (2, 2))
        .prop_map(|(kind, length)| Item::Other(kind, vec![0xa5; length]));
    let stop = prop::sample::select(vec![vec![0], vec![8, 0], vec![5, 1], vec![2, 255]]);
    prop_oneof![
        2 => Just(Item::Nop),
        2 => any::<u16>().prop_map(Item::Mss),
        4 => any::<(u32, u32)>().prop_map(|(val, ecr)| Item::Timestamps(val, ecr)),
        3 => prop::collection::vec(any::<(u32, u32)>(), 1..=4).prop_map(Item::Sack),
        2 => wrong,
        1 => stop.prop_map(Item::Stop),
    ]
}

/// As many of them as a header holds. Every other list begins as most do: RFC 7323 appendix A.
fn options() -> impl Strategy<Value = Vec<Item>> {
    let usual = vec![Item::Nop, Item::Nop, Item::Timestamps(7, 9)];
    let usual = prop_oneof![Just(usual), Just(Vec::new())];
    (usual, prop::collection::vec(item(), 0..6)).prop_map(|(usual, more)| {
        let mut length = 0;
        let fits = |item: &Item| {
            length += item.bytes().len();
            length <= OPTIONS_MAX
        };
        usual.into_iter().chain(more).take_while(fits).collect()
    })
}

fn described() -> impl Strategy<Value = Described> {
    let numbers = (1..=u16::MAX, 1..=u16::MAX, any::<(u32, u32, u16, u16)>());
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (prop_oneof![v4_header(), v6_header()], numbers, any::<[bool; 9]>(), options(), payload)
        .prop_map(|(ip, (from, to, (seq, ack, window, urgent)), bits, options, payload)| {
            let mut tcp = TheirTcp::new(from, to, seq, window);
            tcp.acknowledgment_number = ack;
            tcp.urgent_pointer = urgent;
            [tcp.ns, tcp.fin, tcp.syn, tcp.rst, tcp.psh, tcp.ack, tcp.urg, tcp.ece, tcp.cwr] = bits;
            Described { ip, tcp, options, payload }
        })
}

/// A packet, and a rewrite for its family.
fn cases() -> impl Strategy<Value = (Described, Rewrite)> {
    let ends = ((endpoint(v4()), endpoint(v4())), (endpoint(v6()), endpoint(v6())));
    (described(), ends, any::<(u32, u32, u32, u32, u16)>()).prop_map(
        |(packet, (v4, v6), (seq, ack, ts_val, ts_ecr, mss_max))| {
            let is_ipv6 = matches!(packet.ip, IpHeaders::Ipv6(..));
            let (source, destination) = if is_ipv6 { v6 } else { v4 };
            let by = Rewrite { source, destination, seq, ack, ts_val, ts_ecr, mss_max };
            (packet, by)
        },
    )
}

fn verified(bytes: &[u8]) -> Result<(), DropReason> {
    parse_tcp(&parse_ip(bytes)?, ChecksumState::Verify).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn only_what_the_rewrite_names_is_changed_and_the_sum_fits(
        (packet, by) in cases(), padding in 0..9_usize,
    ) {
        let mut bytes = packet.bytes();
        prop_assert_eq!(verified(&bytes), Ok(()));
        let length = bytes.len();
        prop_assert_eq!(parse_ip(&bytes).unwrap().payload.len(), packet.segment_len());
        bytes.resize(length + padding, 0xa5);
        let done = by.apply(&mut bytes, packet.segment_len(), ChecksumField::Full);
        prop_assert_eq!(done, Ok(length));
        prop_assert_eq!(&bytes[..length], &packet.rewritten(&by).bytes()[..]);
        prop_assert_eq!(&bytes[length..], &vec![0xa5; padding][..]);
        prop_assert_eq!(verified(&bytes), Ok(()));
    }

    #[test]
    fn the_way_back_undoes_the_way_there(
        (packet, there) in cases(),
        field in prop::sample::select(vec![ChecksumField::Full, ChecksumField::Partial]),
    ) {
        let there = Rewrite { mss_max: u16::MAX, ..there };
        let (source, destination) = packet.ends();
        let back = Rewrite {
            source,
            destination,
            seq: there.seq.wrapping_neg(),
            ack: there.ack.wrapping_neg(),
            ts_val: there.ts_val.wrapping_neg(),
            ts_ecr: there.ts_ecr.wrapping_neg(),
            mss_max: u16::MAX,
        };
        let full = field == ChecksumField::Full;
        let mut bytes = if full { packet.bytes() } else { packet.partial_bytes() };
        there.apply(&mut bytes, packet.segment_len(), field).unwrap();
        back.apply(&mut bytes, packet.segment_len(), field).unwrap();
        let expected = packet;
        prop_assert_eq!(bytes, if full { expected.bytes() } else { expected.partial_bytes() });
    }

    /// In the text, or in the header: there also where the rewrite changes the bytes.
    #[test]
    fn damage_stays_visible(
        (packet, by) in cases(), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let mut bytes = packet.bytes();
        let start = bytes.len() - packet.segment_len();
        let at = start + at.index(packet.segment_len());
        prop_assume!(at != start + 12); // the header's length
        bytes[at] ^= 1_u8 << bit;
        let damaged = verified(&bytes);
        // A checksum that fits no more, also where options changed what is rewritten.
        prop_assert_eq!(damaged, Err(DropReason::BadChecksum));
        let text = bytes[bytes.len() - packet.payload.len()..].to_vec();
        by.apply(&mut bytes, packet.segment_len(), ChecksumField::Full).unwrap();
        prop_assert_eq!(verified(&bytes), Err(DropReason::BadChecksum));
        prop_assert!(bytes.ends_with(&text));
    }

    #[test]
    fn partial_sum_is_that_of_the_new_addresses((packet, by) in cases()) {
        let mut bytes = packet.partial_bytes();
        let done = by.apply(&mut bytes, packet.segment_len(), ChecksumField::Partial);
        prop_assert_eq!(done, Ok(bytes.len()));
        prop_assert_eq!(bytes, packet.rewritten(&by).partial_bytes());
    }

    #[test]
    fn arbitrary_bytes_are_rewritten_or_refused(
        (_, by) in cases(),
        mut bytes in prop::collection::vec(any::<u8>(), 0..160),
        segment_len in prop_oneof![0..200_usize, any::<usize>()],
        first in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()],
        fitting: bool,
        field in prop::sample::select(vec![ChecksumField::Full, ChecksumField::Partial]),
    ) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        // Past the first checks: lengths that agree with each other.
        let segment_len = if fitting && bytes.len() >= V6_LEN {
            let is_v6 = first >> 4 == 6;
            let length = if is_v6 { bytes.len() - V6_LEN } else { bytes.len() };
            let at = if is_v6 { 4 } else { 2 };
            bytes[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            if is_v6 { length } else { length - usize::from(first & 15).min(5) * 4 }
        } else {
            segment_len
        };
        let before = bytes.clone();
        match by.apply(&mut bytes, segment_len, field) {
            Ok(length) => {
                prop_assert!(length <= bytes.len());
                prop_assert_eq!(&bytes[length..], &before[length..]);
            }
            Err(_) => prop_assert_eq!(bytes, before),
        }
    }
}

/// A SYN of 40 bytes, and what moves it to another host of the same network.
fn simple() -> (Vec<u8>, Rewrite) {
    let mut bytes = Vec::new();
    let ip = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 2);
    ip.tcp(4000, 80, 7, 9).syn().write(&mut bytes, &[]).unwrap();
    let by = Rewrite {
        source: "10.0.0.2:5000".parse().unwrap(),
        destination: "10.0.0.3:81".parse().unwrap(),
        seq: 1,
        ack: 2,
        ts_val: 3,
        ts_ecr: 4,
        mss_max: 1400,
    };
    (bytes, by)
}

#[test]
fn packet_without_a_life_is_refused_and_every_other_keeps_its_own() {
    let refused = |ttl: u8| {
        let (mut bytes, by) = simple();
        bytes[8] = ttl;
        let before = bytes.clone();
        let done = by.apply(&mut bytes, 20, ChecksumField::Full);
        assert_eq!(bytes == before, done.is_err());
        done
    };
    assert_eq!(refused(0), Err(DropReason::TtlExceeded));
    for ttl in [1, 2, 64, 255] {
        assert_eq!(refused(ttl), Ok(40));
        let (mut bytes, by) = simple();
        bytes[8] = ttl;
        by.apply(&mut bytes, 20, ChecksumField::Full).unwrap();
        assert_eq!(bytes[8], ttl);
    }
}

#[test]
fn damage_of_an_ipv4_header_stays_visible() {
    let (mut bytes, by) = simple();
    bytes[5] ^= 1;
    assert_eq!(by.apply(&mut bytes, 20, ChecksumField::Full), Ok(40));
    assert_eq!(verified(&bytes), Err(DropReason::BadHeaderChecksum));
}

#[test]
fn rewrite_of_another_family_is_refused() {
    let (mut bytes, by) = simple();
    let v6: Endpoint = "[fd77::1]:1".parse().unwrap();
    for by in [Rewrite { source: v6, ..by }, Rewrite { destination: v6, ..by }] {
        let done = by.apply(&mut bytes, 20, ChecksumField::Full);
        assert_eq!(done, Err(DropReason::BadAddress));
    }
}

#[test]
fn lengths_that_lie_are_refused() {
    let refused = |segment_len: usize, change: fn(&mut Vec<u8>)| {
        let (mut bytes, by) = simple();
        change(&mut bytes);
        by.apply(&mut bytes, segment_len, ChecksumField::Full).unwrap_err()
    };
    let refused_v6 = |segment_len: usize| {
        let (mut bytes, by) = simple();
        bytes[0] = 0x60;
        bytes[4..6].copy_from_slice(&20_u16.to_be_bytes());
        bytes.resize(60, 0x50);
        let v6: Endpoint = "[fd77::1]:1".parse().unwrap();
        let by = Rewrite { source: v6, destination: v6, ..by };
        by.apply(&mut bytes, segment_len, ChecksumField::Full).unwrap_err()
    };
    assert_eq!(refused(20, Vec::clear), DropReason::Truncated);
    assert_eq!(refused(20, |bytes| bytes.truncate(19)), DropReason::Truncated);
    assert_eq!(refused(20, |bytes| bytes.truncate(39)), DropReason::Truncated);
    assert_eq!(refused(20, |bytes| bytes[0] = 0x50), DropReason::BadVersion);
    assert_eq!(refused(20, |bytes| bytes[0] = 0x46), DropReason::BadHeaderLength);
    assert_eq!(refused(41, |_| {}), DropReason::BadHeaderLength);
    assert_eq!(refused(21, |_| {}), DropReason::BadHeaderLength);
    assert_eq!(refused_v6(61), DropReason::BadHeaderLength);
    assert_eq!(refused_v6(21), DropReason::BadHeaderLength);
    assert_eq!(refused_v6(59), DropReason::BadHeaderLength);
    assert_eq!(refused_v6(19), DropReason::Truncated);
    assert_eq!(refused(16, |bytes| bytes[0] = 0x46), DropReason::Truncated);
    assert_eq!(refused(20, |bytes| bytes[32] = 0x40), DropReason::BadHeaderLength);
    assert_eq!(refused(20, |bytes| bytes[32] = 0x60), DropReason::BadHeaderLength);
}
