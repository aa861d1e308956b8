use std::fs;
use std::path::{Path, PathBuf};

use crossbeam_channel::Receiver;

use super::pcapng::Statistics;
use super::readback::{self, Seen, read_file};
use super::*;
use crate::engine::{PeerStatus, Stats};
use crate::ids::{Lsn, Node};
use crate::replica::Frame;

const GSO: VnetHeader = VnetHeader {
    flags: VnetHeader::NEEDS_CSUM,
    gso_type: VnetHeader::GSO_TCPV4,
    header_len: 52,
    gso_size: 1448,
    csum_start: 20,
    csum_offset: 16,
};

fn file(name: &str) -> PathBuf {
    let directory =
        std::env::temp_dir().join(format!("standin-capture-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory.join("c.pcapng")
}

fn status(role: Role, epoch: u64) -> Status {
    let peer = PeerStatus { linked: true, lan_ok: true, ..PeerStatus::default() };
    Status {
        node: Node::A,
        role,
        epoch: Epoch(epoch),
        protected: true,
        why: Vec::new(),
        connections: 12,
        lingering: 0,
        mirrored: 0,
        unmirrored: 0,
        splices: 0,
        relays: Default::default(),
        backends: Vec::new(),
        half_open: 0,
        snapshot: None,
        log: (0, 0),
        backlog_bytes: 0,
        memory: 0,
        memory_max: 0,
        peer,
        arbiter: None,
        stats: Stats::default(),
    }
}

fn standby() -> Status {
    status(Role::Standby { synced: true }, 4)
}

fn started(spec: &str) -> Result<Tap, String> {
    let mut tap = Tap::default();
    let (reply, answer) = bounded(1);
    tap.start(spec.parse()?, &standby(), reply);
    answer.recv().unwrap().map(|_| tap)
}

fn tap_into(file: &Path) -> Tap {
    started(&file.display().to_string()).unwrap()
}

fn stop(tap: &mut Tap) -> Result<String, String> {
    let (reply, answer) = bounded(1);
    tap.stop(reply);
    answer.recv().unwrap()
}

fn plain(packet: &[u8]) -> Vec<u8> {
    [&[0; VnetHeader::LEN], packet].concat()
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// Times differ from run to run.
fn timeless(seen: &Seen) -> (Source, &[u8], usize, Option<Direction>, &str) {
    (seen.source, &seen.bytes, seen.length, seen.direction, &seen.comment)
}

#[test]
fn packets_are_written_as_they_pass() {
    let file = file("packets");
    let mut tap = tap_into(&file);
    tap.packet_in(VnetHeader::PLAIN, b"question");
    tap.packet_out(Clock, &plain(b"answer"));
    let mut super_packet = plain(&[7; 40_000]);
    GSO.write(super_packet.first_chunk_mut().unwrap());
    tap.packet_out(Clock, &super_packet);
    tap.flush();
    assert_eq!(stop(&mut tap), Ok(format!("{}: 3 packets, 0 lost", file.display())));
    assert_eq!(tap.report(), None);

    let capture = read_file(&file);
    let (first, packets) = capture.packets.split_first().unwrap();
    assert_eq!(first.comment, "node: a, standby, epoch 4, 12 connections");
    let packets: Vec<_> = packets.iter().map(timeless).collect();
    let (into, out) = (Some(Direction::Inbound), Some(Direction::Outbound));
    assert_eq!(
        packets,
        [
            (Source::Tun, &b"question"[..], 8, into, ""),
            (Source::Tun, &b"answer"[..], 6, out, ""),
            (Source::Tun, &[7; 40_000][..], 40_000, out, "gso tcpv4 size 1448 header 52"),
        ]
    );
    assert!(capture.packets.windows(2).all(|two| two[0].at <= two[1].at));
    let now = Clock.wall_nanos();
    assert!(capture.packets.iter().all(|seen| now - seen.at < 60_000_000_000), "wall clock");
    let [tun, replication, engine]: [Statistics; 3] = capture.statistics.try_into().unwrap();
    assert_eq!((tun.seen, tun.lost), (3, 0));
    assert_eq!((replication.seen, engine.seen), (0, 0));
}

#[test]
fn frames_are_summed_up_however_they_are_cut() {
    let file = file("frames");
    let mut tap = tap_into(&file);
    let confirm = encoded(&Frame::Confirm { lsn: Lsn(44), unprotected: 0 });
    let ping = encoded(&Frame::Ping { token: 1 });
    tap.link("up");
    tap.heard(&confirm[..6]);
    tap.heard(&confirm[6..]);
    tap.saying(&ping);
    tap.unsaid(3); // the link took all but three bytes
    let more = [&ping[ping.len() - 3..], &confirm].concat();
    tap.saying(&more);
    tap.unsaid(0);
    stop(&mut tap).unwrap();
    let capture = read_file(&file);
    let frames = capture.packets.iter().filter(|seen| seen.source == Source::Replication);
    let (into, out) = (Some(Direction::Inbound), Some(Direction::Outbound));
    assert_eq!(
        frames.map(timeless).collect::<Vec<_>>(),
        [
            (Source::Replication, &[][..], 17, into, "confirm 44, unprotected 0"),
            (Source::Replication, &[][..], 13, out, "ping"),
            (Source::Replication, &[][..], 17, out, "confirm 44, unprotected 0"),
        ]
    );
}

#[test]
fn a_capture_that_begins_within_a_frame_tells_the_next() {
    let file = file("within");
    let ping = encoded(&Frame::Ping { token: 1 });
    let mut tap = Tap::default();
    tap.heard(&ping[..7]);
    let (reply, answer) = bounded(1);
    tap.start(file.display().to_string().parse().unwrap(), &standby(), reply);
    answer.recv().unwrap().unwrap();
    tap.heard(&ping[7..]);
    tap.heard(&ping);
    stop(&mut tap).unwrap();
    let frames = read_file(&file).packets.len() - 1;
    assert_eq!(frames, 1);
}

#[test]
fn a_takeover_is_marked_with_its_times() {
    let file = file("takeover");
    let mut tap = tap_into(&file);
    let at = |micros| Instant::ZERO + Duration::from_micros(micros);
    let primary = status(Role::Primary { duplex: false }, 5);
    tap.link("down");
    tap.note(&primary);
    tap.note(&primary);
    tap.takes_over(at(100), &primary);
    tap.routed(at(141));
    tap.announced(at(155));
    tap.announced(at(900));
    tap.packet_out(Clock, &plain(b"x"));
    tap.packet_out(Clock, &plain(b"y"));
    tap.mark(format_args!("report: done"));
    stop(&mut tap).unwrap();
    let capture = read_file(&file);
    let marks = capture.marks();
    assert_eq!(
        marks[..6],
        [
            "node: a, standby, epoch 4, 12 connections",
            "link: down",
            "role: standby -> primary (simplex), epoch 5, 12 connections",
            "takeover: begins, epoch 5, 12 connections",
            "takeover: routes set after 41 us",
            "takeover: announced after 55 us",
        ]
    );
    assert!(marks[6].starts_with("takeover: first packet after "), "{}", marks[6]);
    assert_eq!(marks[7..], ["report: done"]);
}

#[test]
fn one_capture_at_a_time() {
    let file = file("one");
    let mut tap = tap_into(&file);
    let (reply, answer) = bounded(1);
    tap.start("/nowhere/c".parse().unwrap(), &standby(), reply);
    let refused = answer.recv().unwrap().unwrap_err();
    assert_eq!(refused, format!("a capture is running, into {}", file.display()));
    stop(&mut tap).unwrap();
    assert_eq!(stop(&mut tap), Err("no capture is running".into()));
    for _ in 0..2 {
        let (reply, answer) = bounded(1);
        tap.start("/nowhere/at/all/c".parse().unwrap(), &standby(), reply);
        let refused = answer.recv().unwrap().unwrap_err();
        assert!(refused.contains("No such file or directory"), "{refused}");
        assert!(!tap.is_running() && tap.report().is_none());
    }
}

#[test]
fn a_full_file_ends_the_capture_or_is_followed_by_the_next() {
    let file = file("full");
    let fill = |tap: &mut Tap| {
        for _ in 0..40 {
            tap.packet_in(VnetHeader::PLAIN, &[0; 60_000]);
            tap.flush();
        }
    };
    let mut tap = started(&format!("{},1MiB,3", file.display())).unwrap();
    fill(&mut tap);
    tap.note(&status(Role::Primary { duplex: true }, 6));
    fill(&mut tap);
    stop(&mut tap).unwrap();
    let spec: CaptureSpec = format!("{},1MiB,3", file.display()).parse().unwrap();
    for age in 0..3 {
        assert!(fs::metadata(spec.aged(age)).unwrap().len() <= 1 << 20);
        let capture = read_file(&spec.aged(age));
        assert_eq!(capture.statistics.len(), 3, "each file is whole");
        assert!(capture.packets.len() > 10);
        assert!(capture.packets.is_sorted_by_key(|packet| packet.at), "in the order of time");
    }
    assert_eq!(
        read_file(&file).marks(),
        ["node: a, primary (duplex), epoch 6, 12 connections"],
        "each file says what the node is"
    );

    let alone = file.with_extension("alone");
    let mut tap = started(&format!("{},1MiB", alone.display())).unwrap();
    while tap.is_running() {
        fill(&mut tap);
    }
    tap.flush();
    assert!(
        tap.capture.as_ref().is_some_and(|capture| capture.writer.is_none()),
        "memory is freed"
    );
    let report = tap.report().unwrap();
    assert!(!report.running);
    let why = report.ended.unwrap();
    assert_eq!(why, format!("{} has its full size", alone.display()));
    assert_eq!(read_file(&alone).statistics.len(), 3);
    assert_eq!(stop(&mut tap), Err("no capture is running".into()));
    // And it may begin again.
    let (reply, answer) = bounded(1);
    tap.start(alone.with_extension("2").display().to_string().parse().unwrap(), &standby(), reply);
    assert!(answer.recv().unwrap().is_ok());
}

/// A capture whose thread stands still: what it is given, and how it gives buffers back.
fn stuck() -> (Capture, Receiver<Job>, crossbeam_channel::Sender<Vec<u8>>) {
    let (jobs, work) = bounded(BUFFERS_MAX + 1);
    let (back, spare) = bounded(BUFFERS_MAX);
    let capture = Capture {
        spec: "/c".parse().unwrap(),
        shared: Arc::new(Shared::new(String::new())),
        writer: Some(Writer { jobs, spare }),
        blocks: Vec::new(),
        buffers: 0,
        lost: Default::default(),
        waiting: Vec::new(),
    };
    (capture, work, back)
}

#[test]
fn a_disk_that_stands_still_costs_packets_and_no_marks() {
    let (mut capture, work, back) = stuck();
    let packet = [0; 60_000];
    let fits = BUFFERS_MAX * (BUFFER / (packet.len() + PACKET_OVERHEAD));
    for _ in 0..fits + 9 {
        capture.packet(Direction::Inbound, VnetHeader::PLAIN, &packet);
    }
    let (seen, lost) = (capture.shared.seen_in_all(), capture.shared.lost_in_all());
    assert_eq!((seen, lost), (fits as u64 + 9, 9), "memory is bounded, and the loss counted");
    for n in 0..MARKS_MAX + 1 {
        capture.mark(&format!("mark {n}"));
    }
    assert_eq!(capture.shared.lost_in_all(), 10, "marks wait, but not without end");

    let mut file = Vec::new();
    pcapng::put_header(&mut file);
    let mut empty = 0;
    while let Ok(Job::Blocks(mut blocks)) = work.try_recv() {
        empty += 1;
        blocks.clear();
        back.try_send(blocks).unwrap();
    }
    assert_eq!(empty, BUFFERS_MAX);
    capture.packet(Direction::Inbound, VnetHeader::PLAIN, b"again");
    capture.flush();
    while let Ok(Job::Blocks(blocks)) = work.try_recv() {
        file.extend_from_slice(&blocks);
    }
    let read = readback::read(&file);
    let marks: Vec<_> = (0..MARKS_MAX).map(|n| format!("mark {n}")).collect();
    assert_eq!(
        (read.marks(), read.packets[0].lost),
        (marks.iter().map(String::as_str).collect(), 1)
    );
    let last = read.packets.last().unwrap();
    assert_eq!((last.bytes.as_slice(), last.lost), (&b"again"[..], 9));
}
