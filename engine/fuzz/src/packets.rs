//! Packets as they come out of the TUN: the virtio header, IP, TCP, ICMP, fragments.
//!
//! An input is any number of packets, each with an order byte before it: time that passes, whether
//! the checksums are put right first (or nearly nothing would get past them), how the TCP checksum
//! is judged, the MTU that a reply is cut to, what a segment's headers are rewritten to.

use core::net::IpAddr;

use standin::time::{Duration, Instant};
use standin::wire::checksum::{Sum, pseudo_header};
use standin::wire::{
    ChecksumField, ChecksumState, Endpoint, Flags, Fragments, Icmp, IcmpError, IcmpKind, IpPacket,
    MEMORY_MIN, Reassembler, Rewrite, Segment, VnetHeader, parse_icmp, parse_ip, parse_tcp,
    protocol, write_echo_reply, write_icmp_error, write_unserved,
};

use crate::pieces::Pieces;
use crate::segments::{assert_written_as_read, put_sum_right};

/// How long a fragment waits for the others.
const PATIENCE: Duration = Duration::from_secs(5);

/// Order bits.
const REPAIR_IP: u8 = 1;
const REPAIR_UPPER: u8 = 2;
const NARROW: u8 = 4;

/// Reads each packet, puts fragments together, answers what can be answered, and holds every
/// result against a second way to get it.
pub fn run(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let mut now = Instant::from_millis(1);
    let mut set = Reassembler::new(MEMORY_MIN, PATIENCE);
    while let Some(order) = pieces.next() {
        now = now + Duration::from_millis(u64::from(order >> 4) * 300);
        let bytes = pieces.run();
        check_vnet(bytes);
        let mut packet = bytes.to_vec();
        repair(&mut packet, order);
        if let Ok(ip) = parse_ip(&packet) {
            check_ip(&ip, &packet);
            check_rewrite(&ip, &packet, order);
            take(&mut set, now, &ip, order);
        }
        set.expire(now);
        assert!(set.memory() <= MEMORY_MIN, "fragments stay within their memory");
        assert!(set.deadline().is_none_or(|at| at > now), "what is due has been done");
    }
}

fn check_vnet(bytes: &[u8]) {
    let Some(vnet) = VnetHeader::parse(bytes) else { return };
    let mut written = [0; VnetHeader::LEN];
    vnet.write(&mut written);
    assert_eq!(written, bytes[..VnetHeader::LEN]);
    let _ = (vnet.checksum_state(), vnet.is_gso());
}

/// Puts right what random bytes never get right.
fn repair(packet: &mut [u8], order: u8) {
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let header_len = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    if order & REPAIR_IP != 0 && is_v4 && header_len >= 20 && packet.len() >= header_len {
        packet[10..12].fill(0);
        let sum = Sum::default().add_bytes(&packet[..header_len]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    if order & REPAIR_UPPER == 0 {
        return;
    }
    // Where the payload lies and what it is, once the IP header can be read.
    let Ok(ip) = parse_ip(packet) else { return };
    let (number, length) = (ip.protocol, ip.payload.len());
    let (at, seed) = match (number, ip.src) {
        (protocol::TCP, _) => (16, pseudo_header(ip.src, ip.dst, number, length as u32)),
        (protocol::ICMP, IpAddr::V4(_)) => (2, Sum::default()),
        (protocol::ICMPV6, IpAddr::V6(_)) => {
            (2, pseudo_header(ip.src, ip.dst, number, length as u32))
        }
        _ => return,
    };
    let start = ip.payload.as_ptr() as usize - packet.as_ptr() as usize;
    put_sum_right(&mut packet[start..start + length], at, seed);
}

fn check_ip(ip: &IpPacket<'_>, packet: &[u8]) {
    assert!(ip.payload.len() < packet.len(), "a payload lies within its packet");
    assert_eq!(ip.src.is_ipv4(), ip.dst.is_ipv4(), "of one family");
    assert!(ip.ecn < 4);
    let possible = match ip.src {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_unspecified() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified()),
    };
    assert!(possible, "a source is a host");
    if let Some(fragment) = ip.fragment {
        assert!(fragment.offset % 8 == 0 && fragment.offset <= 65_528);
    }
}

fn take(set: &mut Reassembler, now: Instant, ip: &IpPacket<'_>, order: u8) {
    let Ok(Some(whole)) = set.insert(now, ip) else { return };
    if let Ok(whole) = whole.packet() {
        assert_eq!(whole.fragment, None, "a whole datagram is no fragment");
        upper(&whole, order);
    }
}

fn upper(ip: &IpPacket<'_>, order: u8) {
    let trusted = parse_tcp(ip, ChecksumState::Trusted);
    if let Ok(verified) = parse_tcp(ip, ChecksumState::Verify) {
        assert_eq!(Ok(&verified), trusted.as_ref(), "verifying changes nothing but the verdict");
    }
    if let Ok((source, destination, segment)) = &trusted {
        assert!(*source != 0 && *destination != 0);
        assert_written_as_read(ip, *source, *destination, segment);
    }
    if ip.protocol != protocol::TCP {
        refuse(ip);
    }
    match parse_icmp(ip) {
        Ok(Icmp::EchoRequest { data, .. }) => answer(ip, data, order),
        Ok(Icmp::Error(error)) => repeat(ip, &error),
        Ok(Icmp::Other) | Err(_) => {}
    }
}

/// An error that was read is written, and reads the same.
fn repeat(ip: &IpPacket<'_>, error: &IcmpError) {
    let mut written = Vec::new();
    write_icmp_error(error, ip.src, 64, 7, &mut written);
    if error.kind == IcmpKind::SourceQuench {
        return assert!(written.is_empty(), "nobody may send these");
    }
    let again = parse_ip(&written).expect("what was written is a packet");
    assert_eq!((again.src, again.dst), (ip.src, ip.dst));
    assert_eq!(parse_icmp(&again), Ok(Icmp::Error(*error)));
}

/// A packet that parses is rewritten: to what the rewrite says, and as sound or not as it was.
fn check_rewrite(ip: &IpPacket<'_>, packet: &[u8], order: u8) {
    let Ok((_, _, segment)) = parse_tcp(ip, ChecksumState::Trusted) else { return };
    let (source, destination): (IpAddr, IpAddr) = match ip.src {
        IpAddr::V4(_) => ([10, 77, 0, 100].into(), [10, 77, order, 10].into()),
        IpAddr::V6(_) => ([0xfd, order.into(), 0, 0, 0, 0, 0, 1].into(), ip.src),
    };
    let number = 0x9e37_79b9_u32.wrapping_mul(order.into());
    let by = Rewrite {
        source: Endpoint::new(source, 7000 + u16::from(order)),
        destination: Endpoint::new(destination, 80),
        seq: number,
        ack: number.rotate_left(8),
        ts_val: number.rotate_left(16),
        ts_ecr: number.rotate_left(24),
        mss_max: 1400,
    };
    let sound = parse_tcp(ip, ChecksumState::Verify).is_ok();
    let sum_at = ip.payload.as_ptr() as usize - packet.as_ptr() as usize + 16;
    let partial = |ip: &IpPacket<'_>| {
        let sum = pseudo_header(ip.src, ip.dst, protocol::TCP, ip.payload.len() as u32);
        sum.folded().to_be_bytes()
    };
    for field in [ChecksumField::Full, ChecksumField::Partial] {
        let mut packet = packet.to_vec();
        if field == ChecksumField::Partial {
            packet[sum_at..sum_at + 2].copy_from_slice(&partial(ip));
        }
        let mut rewritten = packet.clone();
        let done = by.apply(&mut rewritten, ip.payload.len(), field);
        if ip.ttl == 0 {
            assert!(done.is_err() && rewritten == packet, "nothing leaves without a life");
            continue;
        }
        let length = done.expect("a packet that parses is rewritten");
        assert_eq!(rewritten[length..], packet[length..], "padding is not touched");
        let new = parse_ip(&rewritten[..length]).expect("its header is sound");
        assert_eq!(
            IpPacket { payload: ip.payload, ..new },
            IpPacket { src: by.source.ip(), dst: by.destination.ip(), ..*ip }
        );
        let ends = (by.source.port(), by.destination.port());
        let expected = (ends.0, ends.1, rewritten_segment(&by, &segment));
        assert_eq!(parse_tcp(&new, ChecksumState::Trusted), Ok(expected));
        match field {
            ChecksumField::Full => {
                let still = parse_tcp(&new, ChecksumState::Verify).is_ok();
                assert_eq!(still, sound, "no better, no worse");
            }
            ChecksumField::Partial => {
                assert_eq!(rewritten[sum_at..sum_at + 2], partial(&new));
            }
        }
    }
}

fn rewritten_segment<'a>(by: &Rewrite, segment: &Segment<'a>) -> Segment<'a> {
    let mut new = segment.clone();
    let is_ack = segment.flags.contains(Flags::ACK);
    let (ack, ts_ecr) = if is_ack { (by.ack, by.ts_ecr) } else { (0, 0) };
    (new.seq, new.ack) = (segment.seq.add(by.seq), segment.ack.add(ack));
    new.options.mss = segment.options.mss.map(|mss| mss.min(by.mss_max));
    if let Some(stamps) = &mut new.options.timestamps {
        stamps.val = stamps.val.wrapping_add(by.ts_val);
        stamps.ecr = stamps.ecr.wrapping_add(ts_ecr);
    }
    for block in &mut new.options.sack {
        (block.left, block.right) = (block.left.add(by.ack), block.right.add(by.ack));
    }
    new
}

/// Whatever is refused is refused with a sound packet, which nobody answers in turn.
fn refuse(ip: &IpPacket<'_>) {
    let mut refusal = Vec::new();
    if write_unserved(ip, ChecksumState::Verify, 64, 7, &mut refusal).is_err() {
        return;
    }
    assert!(refusal.len() <= 1280);
    let Ok(whole) = parse_ip(&refusal) else { return };
    assert!(parse_icmp(&whole).is_ok(), "a sound message");
    assert!(write_unserved(&whole, ChecksumState::Verify, 64, 7, &mut Vec::new()).is_err());
}

/// The echo of a ping is a sound packet with the same data, also after it was cut and put together.
fn answer(ip: &IpPacket<'_>, data: &[u8], order: u8) {
    let mut reply = Vec::new();
    if write_echo_reply(ip, 64, 7, &mut reply).is_err() {
        return;
    }
    let Ok(whole) = parse_ip(&reply) else {
        // A ping to a group: the engine has dropped it before this.
        return;
    };
    assert!(matches!(parse_icmp(&whole), Ok(Icmp::Other)), "a reply asks for nothing");
    assert!(whole.payload.ends_with(data));
    let mtu = if order & NARROW != 0 { 68 } else { 1500 };
    let mut fragments = Fragments::of(&reply, mtu, 7);
    let mut set = Reassembler::new(MEMORY_MIN, PATIENCE);
    let (mut buffer, mut together) = (vec![0; 1500], None);
    let mut count = 0;
    while let Some(length) = fragments.write_next(&mut buffer) {
        assert!(together.is_none(), "complete before the last piece");
        let piece = parse_ip(&buffer[..length]).expect("a piece is a packet");
        count += 1;
        match set.insert(Instant::ZERO, &piece) {
            Ok(whole) => together = whole,
            // More pieces than a receiver of this kind keeps.
            Err(_) => return assert!(count > 128),
        }
    }
    let together = together.expect("all pieces make the whole");
    let together = together.packet().expect("a sound packet");
    assert_eq!(together.payload, whole.payload);
}
