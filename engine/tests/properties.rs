//! Properties that hold for any input, against models that are too simple to be wrong, and against
//! `etherparse`, which has never seen this crate. What is checked inside the modules already is not
//! checked here again.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;
use std::sync::Arc;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, ArpPacket as TheirArp, EtherType, Icmpv6Type,
    Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TcpHeader as TheirTcp, TransportSlice,
};
use proptest::prelude::*;
use standin::tcp::{Settings, Tcb};
use standin::time::{Duration, Instant};
use standin::wire::checksum::{Sum, checksum, pseudo_header};
use standin::wire::{
    ArpOp, ArpPacket, ChecksumState, DropReason, Flags, FourTuple, FragmentInfo, Icmp, IpPacket,
    MEMORY_MIN, MacAddr, NaFlags, NeighbourAdvertisement, NeighbourFrame, NeighbourSolicitation,
    Offload, Reassembler, Segment, SeqNum, TcpHeader, TcpOptions, parse_icmp, parse_ip, parse_tcp,
    protocol, write_echo_reply,
};

// ---- sequence numbers ----

proptest! {
    /// Within half the circle sequence numbers compare as the positions they stand for.
    #[test]
    fn sequence_numbers_are_ordered_as_their_positions(
        base: u64,
        step in prop_oneof![-3_i64..=3, -0x7fff_ffff_i64..=0x7fff_ffff],
        near_wrap: bool,
    ) {
        let base = if near_wrap { (base | 0xffff_fffc) & !(1 << 63) } else { base >> 1 };
        let other = base.wrapping_add_signed(step);
        let (a, b) = (SeqNum(base as u32), SeqNum(other as u32));
        prop_assert_eq!(i64::from(b.diff(a)), step);
        prop_assert_eq!(a.before(b), step > 0);
        prop_assert_eq!(a.at_or_before(b), step >= 0);
        prop_assert_eq!(a.after(b), step < 0);
        prop_assert_eq!(a.at_or_after(b), step <= 0);
        let (earlier, later) = if step < 0 { (b, a) } else { (a, b) };
        let count = step.unsigned_abs() as u32;
        prop_assert_eq!(later.since(earlier), count);
        prop_assert_eq!(earlier.add(count), later);
        prop_assert_eq!(later.sub(count), earlier);
    }
}

// ---- out-of-order input ----

const IRS: u32 = u32::MAX - 20_000;
const BUFFER: u64 = 64 << 10;

/// Byte `offset` of the peer's stream.
fn byte(offset: u64) -> u8 {
    ((offset + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8
}

/// A connection of which only the input is looked at. The peer's numbers wrap early.
struct Receiver {
    tcb: Tcb,
    now: Instant,
    input: Vec<u8>,
}

impl Receiver {
    fn established() -> Self {
        let settings = Arc::new(Settings {
            receive_buffer: BUFFER as u32,
            timestamps: false,
            ..Settings::default()
        });
        let now = Instant::from_millis(1000);
        let options = TcpOptions { sack_permitted: true, ..TcpOptions::default() };
        let syn = segment(SeqNum(IRS), SeqNum(0), Flags::SYN, options, &[]);
        let mut tcb = Tcb::accept(&settings, now, &syn, SeqNum(500), 0, 1500, false);
        let syn_ack = tcb.poll_transmit(now, &mut |_| 0).expect("the answer to a SYN");
        let ack =
            segment(SeqNum(IRS).add(1), syn_ack.seq.add(1), Flags::ACK, TcpOptions::default(), &[]);
        tcb.on_segment(now, &ack, &mut |_| panic!("no data yet"));
        assert!(tcb.established());
        Self { tcb, now, input: Vec::new() }
    }

    fn arrives(&mut self, start: u64, length: u64) {
        let bytes: Vec<u8> = (start..start + length).map(byte).collect();
        let seq = SeqNum(IRS).add(1).add(start as u32);
        let piece = segment(seq, SeqNum(501), Flags::ACK, TcpOptions::default(), &bytes);
        let input = &mut self.input;
        self.tcb.on_segment(self.now, &piece, &mut |bytes| input.extend_from_slice(bytes));
    }

    /// The ACK field, as an offset, and the SACK blocks of what is said now.
    fn says(&mut self) -> (u64, Vec<(u64, u64)>) {
        let mut said = (0, Vec::new());
        while let Some(transmit) = self.tcb.poll_transmit(self.now, &mut |_| 0) {
            let offset = |seq: SeqNum| u64::from(seq.since(SeqNum(IRS).add(1)));
            let blocks = transmit.options.sack.iter();
            said = (
                offset(transmit.ack),
                blocks.map(|block| (offset(block.left), offset(block.right))).collect(),
            );
        }
        said
    }
}

fn segment(
    seq: SeqNum,
    ack: SeqNum,
    flags: Flags,
    options: TcpOptions,
    payload: &[u8],
) -> Segment<'_> {
    Segment { seq, ack, flags, window: 60_000, options, marked: false, payload }
}

/// Which bytes are here: one flag for each.
struct Model(Vec<bool>);

impl Model {
    /// RCV.NXT: the first byte that is missing.
    fn next(&self) -> u64 {
        self.0.iter().position(|here| !here).unwrap_or(self.0.len()) as u64
    }

    /// Whether all of a range is here, and nothing beside it.
    fn is_run(&self, (left, right): (u64, u64)) -> bool {
        let here = |at: u64| self.0.get(at as usize).copied().unwrap_or(false);
        left < right && (left..right).all(here) && !here(right) && (left == 0 || !here(left - 1))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever pieces of the stream come, in whatever order, overlapping as they like: what is
    /// delivered is the stream up to the first gap, each byte once; and the blocks that are
    /// reported are runs of what is here, the latest first (RFC 2018 §4).
    #[test]
    fn pieces_in_any_order_are_delivered_as_the_model_has_them(
        pieces in prop::collection::vec((0_u64..40_000, 1_u64..6000), 1..60),
        crumbs: bool,
    ) {
        let (mut receiver, mut model) = (Receiver::established(), Model(vec![false; 50_000]));
        for (start, length) in pieces {
            // Small numbers make overlaps and exact duplicates likely.
            let (start, length) =
                if crumbs { (start % 300 * 3, length % 20 + 1) } else { (start, length) };
            let before = model.next();
            receiver.arrives(start, length);
            receiver.tcb.set_consumed(receiver.input.len() as u64);
            model.0[start as usize..(start + length) as usize].fill(true);
            let next = model.next();
            prop_assert_eq!(receiver.tcb.received(), next);
            prop_assert_eq!(receiver.input.len() as u64, next);
            let (ack, blocks) = receiver.says();
            if start > before {
                prop_assert_eq!(ack, next, "a gap is answered at once");
                let news = blocks.iter().any(|&(left, right)| left <= start && start < right);
                prop_assert!(news, "the latest is among {:?}", blocks);
            }
            // The first block may name a duplicate instead, RFC 2883.
            for &block in blocks.iter().skip(1) {
                prop_assert!(model.is_run(block), "{:?} is no run", block);
            }
        }
        let expected: Vec<u8> = (0..model.next()).map(byte).collect();
        prop_assert!(receiver.input == expected);
    }
}

// ---- fragments ----

/// Reassembly without bounds, books or cleverness: RFC 791 and RFC 5722 by the letter.
#[derive(Default)]
struct Pile {
    pieces: BTreeMap<u32, Vec<u8>>,
    total: Option<u32>,
    /// It overlapped or contradicted itself: nothing will come of it.
    lost: bool,
}

impl Pile {
    fn add(&mut self, info: FragmentInfo, text: &[u8]) -> Option<Vec<u8>> {
        let (start, end) = (info.offset, info.offset + text.len() as u32);
        let end_of = |(at, text): (&u32, &Vec<u8>)| at + text.len() as u32;
        let contradicts = match (self.total, info.more) {
            (Some(total), true) => end >= total,
            (Some(total), false) => end != total,
            (None, false) => self.pieces.iter().map(end_of).any(|held| held > end),
            (None, true) => false,
        };
        // The network may repeat a fragment; whatever else overlaps was never meant honestly.
        let again = self.pieces.get(&start).is_some_and(|old| old == text);
        let overlaps = self.pieces.iter().any(|(&at, old)| start < end_of((&at, old)) && at < end);
        self.lost |= contradicts || (overlaps && !again);
        if self.lost || again {
            return None;
        }
        if !info.more {
            self.total = Some(end);
        }
        self.pieces.insert(start, text.to_vec());
        let mut whole = Vec::new();
        for (&at, text) in &self.pieces {
            if at != whole.len() as u32 {
                return None;
            }
            whole.extend_from_slice(text);
        }
        (self.total == Some(whole.len() as u32)).then_some(whole)
    }
}

proptest! {
    /// Fragments of a few datagrams, whole, twice, overlapping, contradicting each other: what
    /// comes out is what the model has, and nothing of what it has lost.
    #[test]
    fn fragments_come_together_as_the_model_has_them(
        parts in prop::collection::vec(
            (0_u32..3, 0_u32..4, 0_usize..3, any::<bool>(), prop::bool::weighted(0.02)), 1..60,
        ),
    ) {
        let mut set = Reassembler::new(MEMORY_MIN, Duration::from_secs(1000));
        let mut piles: BTreeMap<u32, Pile> = BTreeMap::new();
        for (id, place, longer, more, odd) in parts {
            let length = if more { 8 * (1 + longer) } else { 8 + longer };
            let text = vec![if odd { 9 } else { id as u8 }; length];
            let info = FragmentInfo { id, offset: 8 * place, more };
            if !more && place == 0 {
                continue; // that would be no fragment
            }
            let packet = IpPacket {
                src: Ipv4Addr::new(10, 0, 0, 1).into(),
                dst: Ipv4Addr::new(10, 77, 0, 100).into(),
                protocol: protocol::UDP,
                ttl: 64,
                ecn: 0,
                fragment: Some(info),
                payload: &text,
            };
            let pile = piles.entry(id).or_default();
            let expected = pile.add(info, &text);
            let found = match set.insert(Instant::ZERO, &packet) {
                Ok(found) => found.map(|whole| whole.packet().unwrap().payload.to_vec()),
                Err(_) => None,
            };
            prop_assert_eq!(&found, &expected);
            if expected.is_some() {
                // Its name is free again.
                piles.remove(&id);
            }
        }
    }
}

// ---- checksums against etherparse ----

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

/// The sum as etherparse makes it: pseudo-header and bytes.
fn their_sum(src: IpAddr, dst: IpAddr, number: u8, bytes: &[u8]) -> Sum16BitWords {
    let mut sum = Sum16BitWords::new();
    for address in [src, dst] {
        sum = match address {
            IpAddr::V4(v4) => sum.add_4bytes(v4.octets()),
            IpAddr::V6(v6) => sum.add_16bytes(v6.octets()),
        };
    }
    sum.add_4bytes((bytes.len() as u32).to_be_bytes()).add_2bytes([0, number]).add_slice(bytes)
}

proptest! {
    #[test]
    fn checksums_are_those_of_etherparse(
        (src, dst) in addresses(),
        number: u8,
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        // It works in the host's order, and so does what it returns.
        let theirs = Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be();
        prop_assert_eq!(checksum(&bytes), theirs);
        let ours = pseudo_header(src, dst, number, bytes.len() as u32).add_bytes(&bytes);
        let theirs = their_sum(src, dst, number, &bytes).ones_complement().to_be();
        prop_assert_eq!(ours.checksum(), theirs);
    }

    /// What the kernel makes of a partial checksum is what etherparse computes over the whole
    /// segment, odd lengths and both families.
    #[test]
    fn partial_checksum_completed_is_that_of_etherparse(
        (src, dst) in addresses(),
        numbers: (u32, u32),
        payload in prop::collection::vec(any::<u8>(), 0..3000),
        mss in 1_u16..1500,
    ) {
        let header = TcpHeader {
            tuple: FourTuple { local: (src, 80).into(), remote: (dst, 4000).into() },
            seq: SeqNum(numbers.0),
            ack: SeqNum(numbers.1),
            flags: Flags::ACK,
            window: 77,
            options: TcpOptions::default(),
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(&payload);
        let vnet = header.write(&mut packet, payload.len(), Offload::Partial { mss });
        prop_assert!(vnet.needs_csum());
        prop_assert_eq!(vnet.is_gso(), payload.len() > usize::from(mss));
        // As the kernel does it: over what is there, the folded pseudo-header included.
        let (start, at) = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
        let sum = Sum16BitWords::new().add_slice(&packet[start..]).ones_complement().to_be();

        let mut theirs = TheirTcp::new(80, 4000, numbers.0, 77);
        (theirs.ack, theirs.acknowledgment_number) = (true, numbers.1);
        let expected = match (src, dst) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                theirs.calc_checksum_ipv4_raw(a.octets(), b.octets(), &payload)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                theirs.calc_checksum_ipv6_raw(a.octets(), b.octets(), &payload)
            }
            _ => unreachable!("of one family"),
        };
        prop_assert_eq!((at, sum), (16, expected.unwrap()));
    }

    /// An answer to a ping, whatever its length, carries the checksum that etherparse computes.
    #[test]
    fn echo_replies_are_read_by_etherparse(
        v6: bool,
        ids: (u16, u16),
        data in prop::collection::vec(any::<u8>(), 0..1400),
    ) {
        let mut request = Vec::new();
        let (a, b) = (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::LOCALHOST.segments());
        let b = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, b[7] + 1);
        match v6 {
            true => PacketBuilder::ipv6(a.octets(), b.octets(), 9)
                .icmpv6_echo_request(ids.0, ids.1)
                .write(&mut request, &data),
            false => PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
                .icmpv4_echo_request(ids.0, ids.1)
                .write(&mut request, &data),
        }
        .unwrap();
        let request = parse_ip(&request).unwrap();
        prop_assert_eq!(
            parse_icmp(&request),
            Ok(Icmp::EchoRequest { id: ids.0, seq: ids.1, data: &data })
        );
        let mut reply = Vec::new();
        write_echo_reply(&request, 64, 5, &mut reply).unwrap();
        let theirs = SlicedPacket::from_ip(&reply).unwrap();
        let read = match (theirs.net.unwrap(), theirs.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                prop_assert_eq!(ip.header().to_header().calc_header_checksum(),
                    ip.header().header_checksum());
                let header = icmp.header();
                let sum = header.icmp_type.calc_checksum(icmp.payload());
                prop_assert_eq!(sum, header.checksum);
                prop_assert_eq!(icmp.type_u8(), 0);
                (icmp.bytes5to8(), icmp.payload().to_vec())
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let ip = ip.header();
                prop_assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
                prop_assert_eq!(icmp.type_u8(), 129);
                (icmp.bytes5to8(), icmp.payload().to_vec())
            }
            other => panic!("{other:?}"),
        };
        let [a, b] = [ids.0.to_be_bytes(), ids.1.to_be_bytes()];
        prop_assert_eq!(read, ([a[0], a[1], b[0], b[1]], data));
    }
}

// ---- frames of the LAN, both ways ----

fn station() -> impl Strategy<Value = MacAddr> {
    any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| MacAddr([2, a, b, c, d, e]))
}

fn host_v6() -> impl Strategy<Value = Ipv6Addr> {
    any::<[u16; 7]>().prop_map(|[b, c, d, e, f, g, h]| Ipv6Addr::new(0xfd77, b, c, d, e, f, g, h))
}

proptest! {
    #[test]
    fn arp_is_written_and_read_as_etherparse_does(
        macs in (station(), any::<[u8; 6]>()),
        (from, to) in any::<([u8; 3], [u8; 4])>(),
        reply: bool,
    ) {
        let ours = ArpPacket {
            op: if reply { ArpOp::Reply } else { ArpOp::Request },
            sender_mac: macs.0,
            sender_ip: [10, from[0], from[1], from[2]].into(),
            target_mac: MacAddr(macs.1),
            target_ip: to.into(),
        };
        let frame = ours.to_frame();
        let read = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Arp(arp)) = read.net else { panic!("no ARP") };
        let operation = if reply { ArpOperation::REPLY } else { ArpOperation::REQUEST };
        let theirs = ArpEthIpv4Packet {
            operation,
            sender_mac: macs.0.0,
            sender_ipv4: ours.sender_ip.octets(),
            target_mac: macs.1,
            target_ipv4: to,
        };
        prop_assert_eq!(arp.to_packet().try_eth_ipv4().unwrap(), theirs.clone());
        prop_assert_eq!(arp.hw_addr_type(), ArpHardwareId::ETHERNET);

        let mut frame = [&[0xff; 6], &macs.0.0[..], &EtherType::ARP.0.to_be_bytes()].concat();
        TheirArp::from(theirs).write(&mut frame).unwrap();
        prop_assert_eq!(ArpPacket::parse(&frame), Ok(ours));
    }

    /// Neighbour discovery has its checksum over the whole message and its options.
    #[test]
    fn neighbour_discovery_is_sound_to_etherparse(
        mac in station(),
        (source, target) in (host_v6(), host_v6()),
        flags: (bool, bool, bool),
        kind in 0_u8..4,
    ) {
        let request = NeighbourSolicitation::request(mac, source, target);
        let (frame, number) = match kind {
            0 => (request.to_frame(), 135),
            1 => (NeighbourSolicitation::probe(mac, target).to_frame(), 135),
            2 => (NeighbourAdvertisement::announcement(mac, target, flags.0).to_frame(), 136),
            _ => {
                let reply = NeighbourAdvertisement::reply(&request, mac, flags.0);
                let (solicited, override_) = (flags.1, flags.2);
                let flags = NaFlags { solicited, override_, ..reply.flags };
                (NeighbourAdvertisement { flags, ..reply }.to_frame(), 136)
            }
        };
        prop_assert!(matches!(
            NeighbourFrame::parse(&frame),
            Ok(NeighbourFrame::Solicitation(_) | NeighbourFrame::Advertisement(_))
        ));
        let read = SlicedPacket::from_ethernet(&frame).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) =
            (read.net, read.transport)
        else {
            panic!("no ICMPv6");
        };
        let ip = ip.header();
        prop_assert!(icmp.is_checksum_valid(ip.source(), ip.destination()));
        prop_assert_eq!((icmp.type_u8(), icmp.code_u8(), ip.hop_limit()), (number, 0, 255));
        prop_assert_eq!(&icmp.slice()[8..24], &target.octets()[..]);
    }

    /// A message that etherparse has put together is read, and one with a bit of it turned over is
    /// not.
    #[test]
    fn neighbour_discovery_of_etherparse_is_read(
        mac in station(),
        (source, target) in (host_v6(), host_v6()),
        bit in 0_usize..32 * 8,
    ) {
        let (group, group_mac) = standin::wire::solicited_node(target);
        let body = [&target.octets()[..], &[1, 1], &mac.0].concat();
        let message = Icmpv6Type::Unknown { type_u8: 135, code_u8: 0, bytes5to8: [0; 4] };
        let header = message.to_header(source.octets(), group.octets(), &body).unwrap();
        let mut frame = [&group_mac.0[..], &mac.0, &EtherType::IPV6.0.to_be_bytes()].concat();
        let ip = Ipv6Header {
            payload_length: (header.header_len() + body.len()) as u16,
            next_header: etherparse::IpNumber::IPV6_ICMP,
            hop_limit: 255,
            source: source.octets(),
            destination: group.octets(),
            ..Ipv6Header::default()
        };
        ip.write(&mut frame).unwrap();
        header.write(&mut frame).unwrap();
        frame.extend_from_slice(&body);
        let expected = NeighbourSolicitation::request(mac, source, target);
        prop_assert_eq!(NeighbourSolicitation::parse(&frame), Ok(expected));

        let at = frame.len() - 32 + bit / 8;
        frame[at] ^= 1 << (bit % 8);
        prop_assert!(NeighbourSolicitation::parse(&frame).is_err());
    }
}

// ---- damage ----

proptest! {
    /// A datagram that was cut short anywhere is refused, or is not the segment that it was.
    #[test]
    fn a_segment_cut_short_is_never_the_whole_one(
        payload in prop::collection::vec(any::<u8>(), 1..200),
        cut: prop::sample::Index,
    ) {
        let header = TcpHeader {
            tuple: FourTuple {
                local: ([10, 0, 0, 1], 80).into(),
                remote: ([10, 0, 0, 2], 4000).into(),
            },
            seq: SeqNum(1),
            ack: SeqNum(2),
            flags: Flags::ACK,
            window: 77,
            options: TcpOptions::default(),
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(&payload);
        let _ = header.write(&mut packet, payload.len(), Offload::Full);
        let cut = cut.index(packet.len());
        prop_assert_eq!(parse_ip(&packet[..cut]).err(), Some(DropReason::Truncated));
        let whole = parse_ip(&packet).unwrap();
        let (_, _, segment) = parse_tcp(&whole, ChecksumState::Verify).unwrap();
        prop_assert_eq!(segment.payload, &payload[..]);
        prop_assert!(Sum::default().add_bytes(&packet[..20]).is_intact());
    }
}
