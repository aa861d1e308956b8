//! Captures that are written here, right ones and each kind of wrong one.

use std::net::Ipv4Addr;

use etherparse::{PacketBuilder, TcpOptionElement};

use super::*;
use crate::replay::testing::{classic, pcapng};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVICE: [u8; 4] = [10, 0, 0, 100];
const ISS: u32 = 0xffff_ff00;

/// One side's segment, written in the order of a tcpdump line.
#[derive(Clone, Copy)]
struct Seg<'a> {
    seq: u32,
    ack: u32,
    window: u16,
    clock: u32,
    flags: &'a str,
    payload: &'a [u8],
}

/// A segment of the service: 200 bytes before its sequence numbers wrap.
const PLAIN: Seg<'_> =
    Seg { seq: ISS + 1, ack: 101, window: 100, clock: 50, flags: ".", payload: b"" };

fn frame(from_service: bool, mac: u8, seg: Seg<'_>) -> Vec<u8> {
    let ends = if from_service { (SERVICE, CLIENT, 7, 9_000) } else { (CLIENT, SERVICE, 9_000, 7) };
    let mut builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, mac], [2; 6])
        .ipv4(ends.0, ends.1, 64)
        .tcp(ends.2, ends.3, seg.seq, seg.window);
    let mut options = vec![TcpOptionElement::Timestamp(seg.clock, 0)];
    for flag in seg.flags.chars() {
        builder = match flag {
            'S' => {
                options.push(TcpOptionElement::WindowScale(2));
                builder.syn()
            }
            'F' => builder.fin(),
            'R' => builder.rst(),
            'x' => {
                options.clear();
                builder
            }
            _ => builder.ack(seg.ack),
        };
    }
    let builder = builder.options(&options).expect("options fit");
    let mut bytes = Vec::new();
    builder.write(&mut bytes, seg.payload).expect("a vector takes all");
    bytes
}

fn handshake() -> Vec<Vec<u8>> {
    vec![
        frame(false, 1, Seg { seq: 100, flags: "S", ..PLAIN }),
        frame(true, 2, Seg { seq: ISS, flags: "S.", ..PLAIN }),
        frame(false, 1, Seg { seq: 101, ack: ISS + 1, payload: b"0123456789", ..PLAIN }),
    ]
}

fn check(frames: impl IntoIterator<Item = Vec<u8>>) -> Verdict {
    check_late(frames, Duration::ZERO)
}

fn check_late(frames: impl IntoIterator<Item = Vec<u8>>, late: Duration) -> Verdict {
    let services = [IpAddr::V4(Ipv4Addr::from(SERVICE))];
    let mut checker = Checker::new(&services, late);
    for (index, frame) in frames.into_iter().enumerate() {
        let (nanos, length) = (index as u64 * 1_000_000, frame.len() as u32);
        let number = index as u64 + 1;
        checker.frame(&Frame { number, nanos, link: Some(1), bytes: &frame, length });
    }
    checker.verdict
}

/// The rules that these segments of the service break, after a handshake.
fn broken(segments: &[Seg<'_>]) -> Vec<&'static str> {
    let service = segments.iter().map(|&seg| frame(true, 2, seg));
    check(handshake().into_iter().chain(service)).broken.into_keys().collect()
}

#[test]
fn takeover_with_retransmission_across_the_wrap_is_clean() {
    let first = [b'a'; 300];
    let frames = [
        frame(true, 2, Seg { ack: 111, payload: &first, ..PLAIN }),
        // Another host goes on from further back, with the same bytes and new ones.
        frame(true, 3, Seg { seq: ISS + 101, ack: 111, clock: 51, payload: &first, ..PLAIN }),
        frame(
            true,
            3,
            Seg { seq: ISS.wrapping_add(401), ack: 111, clock: 52, flags: "F.", ..PLAIN },
        ),
    ];
    let verdict = check(handshake().into_iter().chain(frames));
    assert!(verdict.ok(), "{verdict}");
    let Verdict { frames, segments, connections, service_bytes, repeated_bytes, .. } = verdict;
    assert_eq!((frames, segments, connections), (6, 6, 1));
    assert_eq!((service_bytes, repeated_bytes, verdict.speaker_changes), (600, 200, 1));
}

#[test]
fn each_rule_is_broken_by_its_own_fault() {
    let later = Seg { ack: 111, clock: 60, payload: b"hello", ..PLAIN };
    assert_eq!(broken(&[later]), [""; 0]);
    assert_eq!(broken(&[later, Seg { flags: "R", ..PLAIN }]), ["reset"]);
    assert_eq!(
        broken(&[later, Seg { ack: 105, window: 400, clock: 60, ..PLAIN }]),
        ["ack went back"]
    );
    assert_eq!(broken(&[Seg { ack: 112, ..PLAIN }]), ["ack of nothing"]);
    assert_eq!(broken(&[later, Seg { payload: b"hellO", ..later }]), ["bytes changed"]);
    assert_eq!(broken(&[later, Seg { clock: 59, ..later }]), ["timestamp went back"]);
    assert_eq!(broken(&[Seg { flags: ".x", ..later }]), ["timestamp missing"]);
    assert_eq!(broken(&[later, Seg { window: 98, ..later }]), ["window shrank"]);
    let far = Seg { seq: ISS.wrapping_add(0x7000_0000), ..later };
    assert_eq!(broken(&[later, far]), ["out of sequence"]);
}

/// Frames are a millisecond apart.
#[test]
fn what_was_overtaken_a_moment_ago_has_not_gone_back() {
    let later = Seg { ack: 111, clock: 60, payload: b"hello", ..PLAIN };
    let back = Seg { ack: 105, clock: 59, window: 98, ..later };
    let rules = |between: usize| {
        let service = [vec![later; between], vec![back]].concat();
        let frames = service.into_iter().map(|seg| frame(true, 2, seg));
        let verdict = check_late(handshake().into_iter().chain(frames), Duration::from_millis(5));
        verdict.broken.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(rules(3), [""; 0]);
    assert_eq!(rules(12), ["ack went back", "timestamp went back", "window shrank"]);
}

#[test]
fn end_of_a_stream_stays_where_it_is() {
    let end = Seg { ack: 111, flags: "F.", payload: b"bye", ..PLAIN };
    assert_eq!(broken(&[end, end]), [""; 0]);
    assert_eq!(
        broken(&[end, Seg { seq: ISS + 5, ack: 111, ..PLAIN }]),
        [""; 0],
        "a bare ACK after FIN"
    );
    assert_eq!(broken(&[end, Seg { payload: b"byebye", ..end }]), ["end moved"]);
    let more = Seg { seq: ISS + 4, ack: 111, payload: b"more", ..PLAIN };
    assert_eq!(broken(&[end, more]), ["end moved"]);
}

#[test]
fn rounding_of_the_scaled_window_is_no_shrinking() {
    // One byte acknowledged, window field one less: the edge is three bytes short by rounding.
    let segments = [Seg { ack: 102, ..PLAIN }, Seg { ack: 103, window: 99, ..PLAIN }];
    assert_eq!(broken(&segments), [""; 0]);
}

#[test]
fn ports_used_again_are_another_connection() {
    let again = frame(false, 1, Seg { seq: 5_000, flags: "S", ..PLAIN });
    let answer = frame(true, 2, Seg { seq: 7, ack: 5_001, clock: 1, flags: "S.", ..PLAIN });
    let verdict = check(handshake().into_iter().chain([again, answer]));
    assert!(verdict.ok(), "{verdict}");
    assert_eq!(verdict.connections, 2);
}

#[test]
fn capture_without_the_service_proves_nothing() {
    assert!(!check([]).ok());
    assert!(!check([vec![0; 9], vec![0xff; 60]]).ok());
}

#[test]
fn classic_capture_file_is_read_even_when_cut_off() {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    for frame in handshake() {
        for word in [9, 0, frame.len() as u32, frame.len() as u32] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(&frame);
    }
    let path = std::env::temp_dir().join(format!("standin-capture-{}.pcap", std::process::id()));
    let services = [IpAddr::V4(Ipv4Addr::from(SERVICE))];
    let frames = [0, 10].map(|missing| {
        std::fs::write(&path, &file[..file.len() - missing]).unwrap();
        check_file(&path, &services, Duration::ZERO).unwrap().frames
    });
    std::fs::write(&path, b"not a capture, whatever its name says").unwrap();
    let refused = check_file(&path, &services, Duration::ZERO);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(frames, [3, 2]);
    assert!(matches!(refused, Err(CaptureError::Format)), "{refused:?}");
}

/// The segments of a file's bytes, with their times and how the file ended.
fn segments(file: &[u8]) -> (Vec<(u64, SocketAddr, u32)>, Vec<String>, read::End) {
    let (mut seen, mut poor) = (Vec::new(), Vec::new());
    let end = read::read_from(file, |item| {
        let Item::Frame(frame) = item else { return };
        match look(&frame) {
            Ok(Seen::Segment(segment)) => {
                seen.push((frame.nanos, segment.source, segment.sequence))
            }
            Ok(Seen::Claim { .. }) => poor.push("claim".to_owned()),
            Err(reason) => poor.push(reason.to_string()),
        }
    });
    (seen, poor, end.unwrap())
}

#[test]
fn every_format_byte_order_and_link_shows_the_same_segments() {
    let frames: Vec<(u64, Vec<u8>)> =
        (0..).map(|index| 1_700_000_000_123_456_000 + index * 1_000).zip(handshake()).collect();
    let (expected, _, _) = segments(&classic(1, false, false, &frames));
    assert_eq!(expected.len(), 3);
    assert_eq!(expected[2].0, 1_700_000_000_123_458_000);
    let wrapped = |wrap: fn(&[u8]) -> Vec<u8>| {
        frames.iter().map(|(at, frame)| (*at, wrap(frame))).collect::<Vec<_>>()
    };
    let raw = wrapped(|frame| frame[14..].to_vec());
    let vlan = wrapped(|frame| [&frame[..12], &[0x81, 0, 0, 5, 8, 0], &frame[14..]].concat());
    let sll =
        wrapped(|frame| [&[0, 0, 0, 1, 0, 6], &frame[6..12], &[0, 0, 8, 0], &frame[14..]].concat());
    let sll2 = wrapped(|frame| {
        let head = [8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6];
        [&head, &frame[6..12], &[0, 0], &frame[14..]].concat()
    });
    for (link, frames) in
        [(1, &frames), (1, &vlan), (101, &raw), (228, &raw), (113, &sll), (276, &sll2)]
    {
        for big_endian in [false, true] {
            for nanoseconds in [false, true] {
                let file = classic(link, big_endian, nanoseconds, frames);
                assert_eq!(segments(&file).0, expected, "pcap, link type {link}");
            }
            let file = pcapng(link as u16, big_endian, frames, &[]);
            assert_eq!(segments(&file).0, expected, "pcapng, link type {link}");
        }
    }
}

#[test]
fn frames_of_no_use_are_told_by_reason() {
    let good = handshake().remove(2);
    let mut arp = vec![0xff; 12];
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2]);
    arp.extend([&SERVICE[..], &[0; 6], &SERVICE].concat());
    let mut fragment = good.clone();
    fragment[21] = 100;
    let udp = {
        let builder = PacketBuilder::ethernet2([2; 6], [2; 6]).ipv4(CLIENT, SERVICE, 64).udp(1, 2);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"x").unwrap();
        bytes
    };
    let frames: Vec<(u64, Vec<u8>)> = [arp, fragment, udp, good[..30].to_vec(), vec![1, 2]]
        .into_iter()
        .map(|frame| (0, frame))
        .collect();
    let (seen, poor, _) = segments(&classic(1, false, false, &frames));
    assert!(seen.is_empty());
    assert_eq!(poor, ["claim", "fragments", "of other protocols", "malformed", "malformed"]);
    let (_, poor, _) = segments(&classic(147, false, false, &frames[..1]));
    assert_eq!(poor, ["of a link type that is not known here (147)"]);
}

#[test]
fn snapped_segment_keeps_its_length() {
    let frame = handshake().remove(2);
    let bytes = &frame[..frame.len() - 4];
    let length = frame.len() as u32;
    let seen = look(&Frame { number: 1, nanos: 0, link: Some(1), bytes, length });
    let Ok(Seen::Segment(segment)) = seen else { panic!("{seen:?}") };
    assert_eq!((segment.length, segment.payload), (10, &b"012345"[..]));
    assert!(!segment.is_whole());
    let headers = Frame { number: 1, nanos: 0, link: Some(1), bytes: &frame[..40], length };
    assert_eq!(look(&headers), Err(link::Unusable::Snapped));
}

#[test]
fn damage_is_told_with_the_packet_it_begins_at() {
    let frames: Vec<(u64, Vec<u8>)> = handshake().into_iter().map(|frame| (0, frame)).collect();
    let message = |file: &[u8]| read::read_from(file, |_| ()).unwrap_err().to_string();
    // The second frame claims to have four gigabytes.
    let mut file = classic(1, false, false, &frames);
    let second = 24 + 16 + frames[0].1.len();
    file[second + 8..second + 12].copy_from_slice(&[0xff; 4]);
    assert_eq!(message(&file), "damaged: packet 2 claims to be longer than 16 MiB");
    // The last frame is longer than its block.
    let mut file = pcapng(1, false, &frames, &[]);
    let last = file.len() - (frames[2].1.len().next_multiple_of(4) + 32);
    file[last + 20] = 0xff;
    let overlong = "damaged: packet 3 is longer than the block that holds it";
    assert_eq!(message(&file), overlong);
    file.extend(vec![0x55; 3 << 20]);
    assert_eq!(message(&file), overlong);
    assert_eq!(message(b""), "the file is empty");
    let packed = "compressed with gzip, not a pcap or pcapng file: unpack it first";
    assert_eq!(message(b"\x1f\x8b\x08 and so on"), packed);
    assert_eq!(message(b"GIF89a, and not what its name says"), "not a pcap or pcapng file");
}

#[test]
fn cut_file_is_read_to_its_last_whole_packet() {
    let frames: Vec<(u64, Vec<u8>)> = handshake().into_iter().map(|frame| (0, frame)).collect();
    for file in [classic(1, false, false, &frames), pcapng(1, false, &frames, &[])] {
        let (seen, _, end) = segments(&file[..file.len() - 10]);
        assert_eq!((seen.len(), end), (2, read::End::CutOff));
        assert_eq!(segments(&file).2, read::End::Whole);
    }
}
