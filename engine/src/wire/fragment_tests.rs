//! Fragments, honest and hostile.

use super::*;
use crate::wire::{ECN_ECT0, ECN_ECT1, Fragments, parse_ip};

const TIMEOUT: Duration = Duration::from_secs(30);
const START: Instant = Instant::from_millis(1000);

fn reassembler() -> Reassembler {
    Reassembler::new(MEMORY_MIN, TIMEOUT)
}

/// Part of a UDP datagram from 10.0.0.1.
fn v4(id: u32, offset: u32, more: bool, payload: &[u8]) -> IpPacket<'_> {
    IpPacket {
        src: IpAddr::from([10, 0, 0, 1]),
        dst: IpAddr::from([10, 77, 0, 100]),
        protocol: protocol::UDP,
        ttl: 60,
        ecn: ECN_NOT_ECT,
        fragment: Some(FragmentInfo { id, offset, more }),
        payload,
    }
}

/// The same from fd00::1.
fn v6(id: u32, offset: u32, more: bool, payload: &[u8]) -> IpPacket<'_> {
    let (src, dst) = ("fd00::1".parse().unwrap(), "fd77::100".parse().unwrap());
    IpPacket { src, dst, ..v4(id, offset, more, payload) }
}

/// The payload of the datagram, if that completes it.
fn insert(set: &mut Reassembler, ip: IpPacket<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let whole = set.insert(START, &ip)?;
    Ok(whole.map(|datagram| datagram.packet().unwrap().payload.to_vec()))
}

/// Whatever the trees say must add up.
fn check_books(set: &Reassembler) {
    assert_eq!(set.cost, set.datagrams.values().map(|datagram| datagram.cost).sum::<usize>());
    assert_eq!(set.cost, set.sources.values().map(|holding| holding.cost).sum::<usize>());
    assert_eq!(set.names.len(), set.datagrams.len());
    let held: usize = set.sources.values().map(|holding| holding.datagrams.len()).sum();
    assert_eq!(held, set.datagrams.len());
    assert!(set.cost <= set.memory_limit);
    for holding in set.sources.values() {
        assert!(holding.cost <= set.memory_limit / SHARES);
    }
}

#[test]
fn fragments_in_any_order_make_the_datagram() {
    let text: Vec<u8> = (0..40).collect();
    let pieces = [(0, 16), (16, 24), (24, 40)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut set = reassembler();
        let mut last = None;
        for index in order {
            assert_eq!(last, None);
            let (from, to): (usize, usize) = pieces[index];
            let part = v4(7, from as u32, to < 40, &text[from..to]);
            last = insert(&mut set, part).unwrap();
        }
        assert_eq!(last, Some(text.clone()));
        assert_eq!((set.memory(), set.deadline(), set.evicted()), (0, None, 0));
        check_books(&set);
    }
}

#[test]
fn first_fragment_speaks_for_the_whole() {
    let mut set = reassembler();
    let last = IpPacket { ttl: 3, ..v4(7, 8, false, b"b") };
    assert_eq!(set.insert(START, &last), Ok(None));
    let whole = set.insert(START, &v4(7, 0, true, b"aaaaaaaa")).unwrap().unwrap();
    let expected = IpPacket { fragment: None, ..v4(7, 0, true, b"aaaaaaaab") };
    assert_eq!(whole.packet(), Ok(expected));
}

#[test]
fn datagrams_with_other_names_do_not_mix() {
    let mut set = reassembler();
    let first = v4(7, 0, true, b"aaaaaaaa");
    assert_eq!(insert(&mut set, first), Ok(None));
    let other_id = v4(8, 8, false, b"b");
    let other_protocol = IpPacket { protocol: 1, ..v4(7, 8, false, b"b") };
    let other_source = IpPacket { src: IpAddr::from([10, 0, 0, 2]), ..v4(7, 8, false, b"b") };
    let other_target = IpPacket { dst: IpAddr::from([10, 0, 0, 2]), ..v4(7, 8, false, b"b") };
    for other in [other_id, other_protocol, other_source, other_target] {
        assert_eq!(insert(&mut set, other), Ok(None));
    }
    assert_eq!(insert(&mut set, v4(7, 8, false, b"b")), Ok(Some(b"aaaaaaaab".to_vec())));
    check_books(&set);
}

#[test]
fn whole_packet_comes_back_as_it_is() {
    let packet = IpPacket { fragment: None, ..v4(7, 0, false, b"text") };
    let whole = reassembler().insert(START, &packet).unwrap().unwrap();
    assert_eq!(whole.packet(), Ok(packet));
}

#[test]
fn exact_duplicates_are_ignored() {
    let mut set = reassembler();
    for _ in 0..3 {
        assert_eq!(insert(&mut set, v4(7, 0, true, b"aaaaaaaa")), Ok(None));
        assert_eq!(insert(&mut set, v4(7, 16, false, b"c")), Ok(None));
    }
    assert_eq!(insert(&mut set, v4(7, 8, true, b"bbbbbbbb")).unwrap().unwrap().len(), 17);
}

#[test]
fn overlap_loses_the_datagram_and_its_later_fragments() {
    let held = [v4(7, 8, true, b"bbbbbbbb"), v4(7, 24, true, b"ddddddddeeeeeeee")];
    let overlaps = [
        v4(7, 0, true, b"aaaaaaaaBBBBBBBB"),  // into the next
        v4(7, 8, true, b"BBBBBBBB"),          // the same place, other text
        v4(7, 8, true, b"bbbbbbbbcccccccc"),  // the same start, longer
        v4(7, 32, true, b"EEEEEEEEffffffff"), // over the end of the one before
        v4(7, 32, true, b"EEEEEEEE"),         // inside the one before
        v4(7, 0, true, b"aaaaaaaaBBBBBBBBccccccccDDDDDDDD"), // over one and into another
        v4(7, 16, false, b"c"),               // an end before what is held
    ];
    for overlap in overlaps {
        let mut set = reassembler();
        for part in held {
            assert_eq!(insert(&mut set, part), Ok(None));
        }
        assert_eq!(insert(&mut set, overlap), Err(DropReason::FragmentOverlap));
        assert_eq!(set.memory(), DATAGRAM_COST);
        for late in [v4(7, 0, true, b"aaaaaaaa"), v4(7, 8, false, b"b")] {
            assert_eq!(insert(&mut set, late), Err(DropReason::FragmentOverlap));
        }
        check_books(&set);
        set.expire(START + TIMEOUT);
        assert_eq!((set.memory(), set.timed_out()), (0, 0));
    }
}

#[test]
fn contradicting_lengths_lose_the_datagram() {
    for second in [v4(7, 24, false, b"d"), v4(7, 8, false, b"b"), v4(7, 24, true, b"dddddddd")] {
        let mut set = reassembler();
        assert_eq!(insert(&mut set, v4(7, 16, false, b"c")), Ok(None));
        assert_eq!(insert(&mut set, second), Err(DropReason::FragmentOverlap));
    }
}

#[test]
fn ping_of_death_and_other_sizes_are_refused() {
    let text = vec![0; 2000];
    let mut set = reassembler();
    for part in [
        v4(7, 65_512, false, &text[..4]),  // one byte beyond an IPv4 packet
        v4(7, 65_528, false, &text[..40]), // the classic
        v6(7, 65_528, false, &text[..8]),  // one byte beyond an IPv6 packet
        v4(7, u32::MAX - 7, false, &text),
        v4(7, 0, true, &text[..12]), // not a multiple of eight
        v4(7, 4, true, &text[..8]),
        v4(7, 8, true, b""),
        v4(7, 8, false, b""),
    ] {
        assert_eq!(insert(&mut set, part), Err(DropReason::FragmentSize));
    }
    assert_eq!((set.memory(), set.deadline()), (0, None));
    assert_eq!(insert(&mut set, v4(7, 65_512, false, &text[..3])), Ok(None));
    assert_eq!(insert(&mut set, v6(7, 65_528, false, &text[..7])), Ok(None));
}

#[test]
fn v6_first_fragment_must_have_the_whole_header_chain() {
    let mut set = reassembler();
    let tcp = |payload| IpPacket { protocol: protocol::TCP, ..v6(7, 0, true, payload) };
    assert_eq!(insert(&mut set, tcp(&[0; 16])), Err(DropReason::FragmentHeaderChain));
    assert_eq!(insert(&mut set, tcp(&[0; 24])), Ok(None));
    let options = IpPacket { protocol: 60, ..v6(8, 0, true, &[6, 1, 1, 4, 0, 0, 0, 0]) };
    assert_eq!(insert(&mut set, options), Err(DropReason::FragmentHeaderChain));
    let nested = IpPacket { protocol: 44, ..v6(8, 0, true, &[17, 0, 0, 1, 0, 0, 0, 9]) };
    assert_eq!(insert(&mut set, nested), Err(DropReason::FragmentHeaderChain));
    check_books(&set);
}

#[test]
fn v6_headers_inside_the_datagram_are_walked() {
    let mut set = reassembler();
    let first = [17, 0, 1, 4, 0, 0, 0, 0, 0, 9, 0, 7, 0, 9, 0, 0];
    assert_eq!(set.insert(START, &v6(7, 16, false, b"x")), Ok(None));
    let first = IpPacket { protocol: 60, ..v6(7, 0, true, &first) };
    let whole = set.insert(START, &first).unwrap().unwrap();
    let packet = whole.packet().unwrap();
    assert_eq!(packet.protocol, protocol::UDP);
    assert_eq!(packet.payload, [0, 9, 0, 7, 0, 9, 0, 0, b'x']);
}

#[test]
fn congestion_marks_are_combined() {
    let combined = |first: u8, second: u8| {
        let mut set = reassembler();
        set.insert(START, &IpPacket { ecn: first, ..v4(7, 0, true, b"aaaaaaaa") }).unwrap();
        let last = IpPacket { ecn: second, ..v4(7, 8, false, b"b") };
        set.insert(START, &last).map(|whole| whole.unwrap().packet().unwrap().ecn)
    };
    assert_eq!(combined(ECN_ECT0, ECN_CE), Ok(ECN_CE));
    assert_eq!(combined(ECN_CE, ECN_ECT1), Ok(ECN_CE));
    assert_eq!(combined(ECN_ECT1, ECN_ECT0), Ok(ECN_ECT1));
    assert_eq!(combined(ECN_ECT0, ECN_NOT_ECT), Ok(ECN_NOT_ECT));
    assert_eq!(combined(ECN_NOT_ECT, ECN_CE), Err(DropReason::FragmentEcn));
}

#[test]
fn what_is_not_complete_in_time_is_forgotten() {
    let mut set = reassembler();
    let later = START + Duration::from_secs(1);
    set.insert(START, &v4(7, 0, true, b"aaaaaaaa")).unwrap();
    set.insert(later, &v4(8, 0, true, b"aaaaaaaa")).unwrap();
    // More of the same datagram does not prolong its life.
    set.insert(later, &v4(7, 16, true, b"cccccccc")).unwrap();
    assert_eq!(set.deadline(), Some(START + TIMEOUT));
    assert_eq!(set.insert(START + TIMEOUT, &v4(8, 8, true, b"bbbbbbbb")), Ok(None));
    assert_eq!((set.timed_out(), set.deadline()), (1, Some(later + TIMEOUT)));
    set.expire(later + TIMEOUT);
    assert_eq!((set.timed_out(), set.deadline(), set.memory()), (2, None, 0));
    check_books(&set);
}

#[test]
fn flood_from_one_source_evicts_only_its_own() {
    let mut set = reassembler();
    let mut honest = v4(1, 0, true, b"aaaaaaaa");
    honest.src = IpAddr::from([10, 0, 0, 2]);
    set.insert(START, &honest).unwrap();
    for id in 0..60_000 {
        assert_eq!(insert(&mut set, v4(id, 8, true, &[0; 1480])), Ok(None));
    }
    check_books(&set);
    assert!(set.evicted() > 50_000);
    honest.fragment = Some(FragmentInfo { id: 1, offset: 8, more: false });
    assert!(set.insert(START, &honest).unwrap().is_some());
}

#[test]
fn v6_source_counts_with_its_whole_prefix() {
    let mut set = reassembler();
    for id in 0..2000_u32 {
        let mut part = v6(id, 8, true, &[0; 1232]);
        part.src = Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(id)).into();
        assert_eq!(insert(&mut set, part), Ok(None));
    }
    check_books(&set);
    assert_eq!(set.sources.len(), 1);
}

#[test]
fn flood_from_many_sources_evicts_the_oldest_and_stays_bounded() {
    let mut set = reassembler();
    for n in 0..20_000_u32 {
        let mut part = v4(7, 8, true, &[0; 1480]);
        part.src = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
        assert_eq!(insert(&mut set, part), Ok(None));
        if n % 1000 == 0 {
            check_books(&set);
        }
    }
    assert_eq!(set.evicted() as usize + set.datagrams.len(), 20_000);
    let newest = set.datagrams.last_key_value().unwrap().1;
    assert_eq!(newest.name.src, IpAddr::from((0x0b00_0000 + 19_999_u32).to_be_bytes()));
}

#[test]
fn too_many_pieces_lose_the_datagram() {
    let mut set = reassembler();
    for n in 0..PIECES_MAX as u32 {
        assert_eq!(insert(&mut set, v4(7, 16 * n, true, &[0; 8])), Ok(None));
    }
    let more = v4(7, 16 * PIECES_MAX as u32, true, &[0; 8]);
    assert_eq!(insert(&mut set, more), Err(DropReason::FragmentLimit));
    assert_eq!(set.memory(), DATAGRAM_COST);
    check_books(&set);
}

#[test]
fn largest_datagram_fits_in_the_least_memory_beside_the_sources_others() {
    let mut set = reassembler();
    for id in 0..200 {
        insert(&mut set, v4(id, 8, true, &[0; 1480])).unwrap();
    }
    let text: Vec<u8> = (0..V4_MAX).map(|n| n as u8).collect();
    let mut whole = None;
    for (n, part) in text.chunks(552).enumerate() {
        let offset = 552 * n as u32;
        let more = offset as usize + part.len() < text.len();
        whole = insert(&mut set, v4(999, offset, more, part)).unwrap();
    }
    assert_eq!(whole, Some(text));
    check_books(&set);
}

#[test]
fn clear_forgets_everything() {
    let mut set = reassembler();
    insert(&mut set, v4(7, 8, true, &[0; 8])).unwrap();
    set.clear();
    check_books(&set);
    assert_eq!((set.memory(), set.deadline(), set.timed_out(), set.evicted()), (0, None, 0, 0));
}

mod properties {
    use super::*;
    use crate::wire::ip::{V4Header, V6Header};
    use proptest::prelude::*;

    fn packet(ipv6: bool, payload: &[u8]) -> Vec<u8> {
        if ipv6 {
            let header = V6Header {
                src: "fd00::1".parse().unwrap(),
                dst: "fd77::100".parse().unwrap(),
                next_header: protocol::ICMPV6,
                hop_limit: 64,
                ecn: 0,
                payload_len: payload.len() as u16,
            };
            return [&header.to_bytes(), payload].concat();
        }
        let header = V4Header {
            src: [10, 0, 0, 1].into(),
            dst: [10, 77, 0, 100].into(),
            protocol: protocol::ICMP,
            ttl: 64,
            ecn: 0,
            id: 1,
            dont_fragment: false,
            total_len: 20 + payload.len() as u16,
        };
        [&header.to_bytes(), payload].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_split_comes_together_again(
            ipv6: bool,
            length in 8_usize..=65_515,
            mtu in 576_usize..9000,
            id: u32,
            shuffle in any::<prop::sample::Index>(),
        ) {
            let payload: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
            let packet = packet(ipv6, &payload);
            let mut pieces = Vec::new();
            let mut fragments = Fragments::of(&packet, mtu, id);
            let mut buf = vec![0; 9000];
            while let Some(length) = fragments.write_next(&mut buf) {
                let room = mtu.max(if ipv6 { 1280 } else { 68 });
                prop_assert!(length <= room);
                pieces.push(buf[..length].to_vec());
            }
            let middle = shuffle.index(pieces.len());
            pieces.rotate_left(middle);
            let mut set = reassembler();
            let mut whole = None;
            for piece in &pieces {
                prop_assert!(whole.is_none());
                whole = set.insert(START, &parse_ip(piece).unwrap()).unwrap();
            }
            let whole = whole.unwrap();
            prop_assert_eq!(whole.packet().unwrap(), parse_ip(&packet).unwrap());
            check_books(&set);
        }

        #[test]
        fn any_fragments_leave_the_books_in_order(
            parts in prop::collection::vec(
                (0_u32..4, 0_u32..6, any::<bool>(), 0_usize..30, any::<bool>(), 0_u64..20), 0..80,
            ),
        ) {
            let mut set = reassembler();
            let mut now = START;
            for (id, offset, more, length, ipv6, seconds) in parts {
                now = now + Duration::from_secs(seconds);
                let text = [id as u8; 30];
                let length = if more { length / 8 * 8 } else { length };
                let part = if ipv6 { v6 } else { v4 };
                let _ = set.insert(now, &part(id, 8 * offset, more, &text[..length]));
                check_books(&set);
            }
        }
    }
}
