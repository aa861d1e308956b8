//! What `docs/rfc.md` promises and no other story here would miss.

use super::pair::{CLIENT, End, Pair, SERVER, Start, pattern};
use crate::tcp::{CloseCause, Keepalive, PathSignal, Room, Settings, State, Tcb, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum, TcpOptions, Timestamps};
use std::sync::Arc;

const MSS: usize = 1448;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A segment of the client with text at its stream's `offset` and `val` as timestamp.
fn text(pair: &Pair, offset: u64, val: u32, payload: &'static [u8]) -> Segment<'static> {
    let client = &pair.ends[CLIENT].tcb;
    Segment {
        seq: client.seq_of(offset),
        ack: client.rcv_seq_of(client.received()),
        flags: Flags::ACK,
        window: 1000,
        options: TcpOptions {
            timestamps: Some(Timestamps { val, ecr: 0 }),
            ..TcpOptions::default()
        },
        marked: false,
        payload,
    }
}

/// MUST-18, RFC 6298 §3: what was sent twice does not tell which sending was answered.
#[test]
fn what_was_sent_twice_is_not_timed() {
    let server = Settings { timestamps: false, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    pair.server().write(b"timed");
    pair.run_for(ms(100));
    let srtt = pair.server().tcb.srtt();
    assert!(srtt.is_some());
    pair.server().write(&pattern(MSS, 1));
    pair.flush();
    pair.wire.clear();
    pair.run_until(|pair| pair.ends[SERVER].tcb.bytes_in_flight() == 0);
    assert_eq!(pair.server().tcb.srtt(), srtt);
}

/// MUST-39, RFC 9293 §3.8.6.2.2: the window does not open crumb by crumb.
#[test]
fn a_full_window_opens_by_a_segment_at_least() {
    let server = Settings { receive_buffer: 20_000, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    pair.server().consumes = false;
    pair.client().write(&pattern(60_000, 1));
    pair.run_for(ms(1000));
    let full = pair.ends[SERVER].input.len() as u64;
    assert!(full >= 20_000 && pair.client().tcb.peer_window() < 100);
    pair.server().take_sent();
    let now = pair.now;
    let mut opened_at = None;
    for consumed in 1..4000 {
        pair.server().tcb.set_consumed(consumed);
        if opened_at.is_none() && pair.server().poll(now).is_some() {
            opened_at = Some(consumed);
        }
    }
    let opened_at = opened_at.expect("it opens");
    assert!(opened_at >= MSS as u64, "at {opened_at}");
}

/// MUST-39: nor does an answer that goes out for another reason tell of a crumb.
#[test]
fn no_answer_opens_a_full_window_by_a_crumb() {
    let server = Settings { receive_buffer: 20_000, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    pair.server().consumes = false;
    pair.client().write(&pattern(60_000, 1));
    pair.run_for(ms(1000));
    let now = pair.now;
    let again = text(&pair, 0, pair.ends[CLIENT].tcb.ts_value(now), b"x");
    let mut edge_when = |consumed| {
        pair.server().tcb.set_consumed(consumed);
        pair.server().receive(now, &again);
        let answer = pair.server().poll(now).expect("an answer to what is old").head;
        let tcb = &pair.ends[SERVER].tcb;
        tcb.rcv_offset_of(answer.ack) + (i64::from(answer.window) << tcb.rcv_scale)
    };
    let full = edge_when(0);
    for crumb in [1, 100, 700, 1400] {
        assert_eq!(edge_when(crumb), full, "{crumb} bytes were read");
    }
    assert!(edge_when(3000) >= full + MSS as i64);
}

/// SHLD-14, RFC 9293 §3.8.6: when memory is short the window shuts, and its edge stays where it is.
#[test]
fn a_window_shuts_without_shrinking_and_opens_again() {
    let server = Settings { receive_buffer: 20_000, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    let edge = pair.ends[SERVER].tcb.rcv.edge;
    pair.server().tcb.limit_room(Room::Shut);
    pair.client().write(&pattern(60_000, 1));
    pair.run_for(ms(1000));
    let tcb = &pair.ends[SERVER].tcb;
    assert_eq!(
        (tcb.rcv.nxt, tcb.rcv.edge),
        (edge, edge),
        "what was promised is taken, and no more"
    );
    assert_eq!(pair.client().tcb.peer_window(), 0);
    pair.server().tcb.limit_room(Room::Buffer);
    pair.run_until(|pair| pair.ends[SERVER].input.len() == 60_000);
}

/// RFC 2018 §8: what is out of order may be dropped, and is when memory is short.
#[test]
fn what_is_out_of_order_is_not_kept_when_memory_is_short() {
    let mut pair = Pair::established();
    let now = pair.now;
    let val = pair.ends[CLIENT].tcb.ts_value(now);
    let (second, first) = (text(&pair, 4, val, b"more"), text(&pair, 0, val, b"text"));
    pair.server().tcb.limit_room(Room::Shut);
    pair.server().receive(now, &second);
    assert_eq!(pair.server().tcb.out_of_order(), 0);
    assert!(pair.server().poll(now).is_some_and(|answer| answer.head.options.sack.is_empty()));
    pair.server().tcb.limit_room(Room::Buffer);
    pair.server().receive(now, &second);
    assert!(pair.server().tcb.out_of_order() >= 4);
    pair.server().receive(now, &first);
    assert_eq!(pair.server().input, b"textmore");
    assert_eq!(pair.server().tcb.out_of_order(), 0);
}

/// MUST-38, RFC 9293 §3.8.6.2.1: nor does a sender fill a crumb of a window while more is coming.
#[test]
fn a_crumb_of_a_window_is_not_filled() {
    let mut pair = Pair::established();
    pair.client().consumes = false;
    pair.server().write(&pattern(1_000_000, 1));
    pair.run_for(ms(20));
    let (now, server) = (pair.now, &pair.ends[SERVER].tcb);
    let (sent, scale) = (server.sent(), server.snd_scale);
    assert!(sent < 1_000_000, "there is more");
    let mut ack = text(&pair, 0, pair.ends[CLIENT].tcb.ts_value(now), b"");
    ack.ack = pair.ends[CLIENT].tcb.rcv_seq_of(sent);
    ack.window = u16::try_from(300 >> scale).unwrap();
    assert_eq!(pair.server().receive(now, &ack), Verdict::Accepted);
    assert!(pair.server().poll(now).is_none(), "300 bytes of window");
    ack.window = u16::try_from(2000 >> scale).unwrap();
    assert_eq!(pair.server().receive(now, &ack), Verdict::Accepted);
    let sent = pair.server().poll(now).expect("a segment");
    assert_eq!(sent.bytes.len(), MSS, "a full one, and not the odd end of the window");
    assert!(pair.server().poll(now).is_none());
}

/// SHLD-29, RFC 9293 §3.8.6.1.
#[test]
fn the_first_probe_comes_after_one_timeout() {
    let mut pair = Pair::established();
    pair.client().consumes = false;
    pair.server().write(&pattern(3_000_000, 1));
    pair.run_until(|pair| pair.ends[SERVER].tcb.peer_window() < 256);
    pair.run_until(|pair| pair.ends[SERVER].tcb.bytes_in_flight() == 0);
    let (shut, server) = (pair.now, &pair.ends[SERVER].tcb);
    let timeout = server.snd.rtt.timeout(&server.settings, 0);
    pair.server().take_sent();
    pair.run_until(|pair| !pair.ends[SERVER].sent.is_empty());
    let waited = pair.now.since(shut);
    assert!(waited <= timeout && waited + ms(20) >= timeout, "{waited:?} of {timeout:?}");
}

/// RFC 7323 §4.3: TS.Recent is of the segment that the next acknowledgment answers first.
#[test]
fn ts_recent_follows_the_left_edge() {
    let mut pair = Pair::established();
    let (now, recent) = (pair.now, pair.server().tcb.ts_recent());
    pair.server().take_sent();
    let hears = |pair: &mut Pair, offset, val, payload| {
        let segment = text(pair, offset, recent + val, payload);
        pair.server().receive(now, &segment);
        pair.server().tcb.ts_recent() - recent
    };
    assert_eq!(hears(&mut pair, 0, 10, b"a"), 10, "the first since the last acknowledgment");
    assert_eq!(hears(&mut pair, 1, 20, b"b"), 10, "a later one that waits for the same answer");
    pair.run_for(ms(50));
    let answer = pair.server().take_sent().pop().expect("an acknowledgment").head;
    assert_eq!(answer.options.timestamps.map(|ts| ts.ecr), Some(recent + 10));
    assert_eq!(hears(&mut pair, 3, 30, b"d"), 10, "one beyond a gap");
    assert_eq!(hears(&mut pair, 2, 40, b"c"), 40, "the one that closes it");
}

/// RFC 5681 §4.2: whoever repairs a loss is to know at once that it is repaired.
#[test]
fn a_gap_that_closes_is_acknowledged_at_once() {
    let mut pair = Pair::established();
    let (now, recent) = (pair.now, pair.server().tcb.ts_recent());
    let later = text(&pair, 1, recent, b"b");
    pair.server().receive(now, &later);
    assert_eq!(pair.server().poll(now).map(|p| p.head.options.sack.len()), Some(1), "a gap, too");
    let missing = text(&pair, 0, recent, b"a");
    pair.server().receive(now, &missing);
    let answer = pair.server().poll(now).expect("an acknowledgment that does not wait");
    assert_eq!(answer.head.ack, pair.server().tcb.rcv_seq_of(2));
}

/// MUST-65.
#[test]
fn only_syns_tell_a_segment_size() {
    let mut pair = Pair::opening(Start::default());
    pair.client().write(&pattern(50_000, 1));
    pair.server().write(&pattern(50_000, 2));
    pair.run_for(ms(500));
    pair.client().tcb.finish();
    pair.server().tcb.finish();
    pair.run_for(ms(500));
    for end in [CLIENT, SERVER] {
        let sent = pair.ends[end].take_sent();
        assert!(sent.len() > 5);
        for packet in sent {
            let syn = packet.head.flags.contains(Flags::SYN);
            assert_eq!(packet.head.options.mss.is_some(), syn, "{:?}", packet.head);
        }
    }
}

/// SHLD-2: it is a reset all the same, and what it carries is not input.
#[test]
fn a_reset_may_carry_data() {
    let mut pair = Pair::established();
    let (now, recent) = (pair.now, pair.server().tcb.ts_recent());
    let mut reset = text(&pair, 0, recent, b"connection refused by policy");
    reset.flags = Flags::RST | Flags::ACK;
    pair.server().receive(now, &reset);
    assert_eq!(pair.server().tcb.state(), State::Closed);
    assert!(pair.server().input.is_empty());
}

/// MUST-28.
#[test]
fn keepalive_waits_for_two_hours_unless_told_otherwise() {
    assert!(Keepalive::default().idle >= Duration::from_secs(7200));
    let mut pair = Pair::established();
    pair.server().take_sent();
    pair.run_for(Duration::from_secs(7190));
    assert_eq!(pair.server().take_sent().len(), 0);
    pair.run_for(Duration::from_secs(20));
    assert_eq!(pair.server().take_sent().len(), 1);
}

/// MUST-29: only as many in a row as were asked for end a connection, and an answer to the last of
/// them is in time.
#[test]
fn one_unanswered_probe_ends_nothing() {
    let (idle, interval) = (Duration::from_secs(10), Duration::from_secs(1));
    let keepalive = Some(Keepalive { idle, interval, probes: 3 });
    let server = Settings { keepalive, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    pair.server().take_sent();
    pair.cut[CLIENT] = true;
    pair.run_for(ms(11_500));
    assert_eq!(pair.server().take_sent().len(), 2, "both are lost");
    pair.cut[CLIENT] = false;
    pair.run_for(ms(5000));
    assert_eq!(pair.server().tcb.state(), State::Established);
    assert_eq!(
        pair.server().take_sent().len(),
        1,
        "the third is answered, and idleness begins anew"
    );
    pair.client().dead = true;
    pair.run_until(|pair| pair.ends[SERVER].tcb.closed());
    assert!(pair.server().verdicts.contains(&Verdict::Closed(CloseCause::KeepaliveTimeout)));
    let sent = pair.server().take_sent();
    let probes = sent.iter().filter(|packet| !packet.head.flags.contains(Flags::RST)).count();
    assert_eq!(probes, 3);
}

/// MUST-13: whichever way it was entered, and no longer either.
#[test]
fn time_wait_lasts_as_long_as_configured() {
    assert_eq!(Settings::default().time_wait, Duration::from_secs(60));
    for both_at_once in [false, true] {
        let server = Settings { time_wait: Duration::from_secs(37), ..Settings::default() };
        let mut pair = Pair::established_with(Start { server, ..Start::default() });
        pair.server().tcb.finish();
        if !both_at_once {
            pair.run_until(|pair| pair.ends[SERVER].tcb.state() == State::FinWait2);
        }
        pair.client().tcb.finish();
        pair.run_until(|pair| pair.ends[SERVER].tcb.state() == State::TimeWait);
        let entered = pair.now;
        pair.run_until(|pair| pair.ends[SERVER].tcb.closed());
        assert_eq!(pair.now.since(entered), Duration::from_secs(37), "at once: {both_at_once}");
    }
}

/// SHLD-27: what was written at once is pushed once, however many segments carry it.
#[test]
fn only_the_end_of_what_there_is_is_pushed() {
    let mut pair = Pair::established();
    pair.server().take_sent();
    pair.server().write(&pattern(100_000, 1));
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 100_000);
    let sent = pair.server().take_sent();
    assert!(sent.len() > 2);
    for packet in sent {
        let end = pair.ends[SERVER].tcb.offset_of(packet.head.seq) + packet.bytes.len() as i64;
        let pushed = packet.head.flags.contains(Flags::PSH);
        assert_eq!(pushed, end == 100_000, "{end}");
    }
}

/// RFC 7323 §2.2.
#[test]
fn a_window_scale_answers_one_and_only_one() {
    let (settings, now) = (Arc::new(Settings::default()), Instant::from_millis(5000));
    for offered in [None, Some(0), Some(7)] {
        let syn = Segment {
            seq: SeqNum(100),
            ack: SeqNum(0),
            flags: Flags::SYN,
            window: 60_000,
            options: TcpOptions { window_scale: offered, ..TcpOptions::default() },
            marked: false,
            payload: b"",
        };
        let mut end = End::new(Tcb::accept(&settings, now, &syn, SeqNum(5000), 0, 1500, false));
        let head = end.poll(now).expect("a SYN-ACK").head;
        assert_eq!(head.window, u16::MAX, "of a buffer of a mebibyte, never scaled in a SYN");
        let answer = head.options.window_scale;
        assert_eq!(answer, offered.map(|_| settings.window_scale()));
        assert_eq!(
            (end.tcb.snd_scale, end.tcb.rcv_scale),
            (offered.unwrap_or(0), answer.unwrap_or(0))
        );
    }
}

/// RFC 5681 §4.1, as RFC 2861 has it: each timeout of silence halves the window.
#[test]
fn a_window_that_was_not_used_decays_before_it_is_used_again() {
    let mut pair = Pair::established();
    let initial = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(3_000_000, 1));
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 3_000_000);
    let grown = pair.server().tcb.congestion_window();
    assert!(grown > 4 * initial, "{grown}");
    let server = &pair.ends[SERVER].tcb;
    let timeout = server.snd.rtt.timeout(&server.settings, 0);
    let mut after = |pause| {
        pair.run_for(pause);
        let now = pair.now;
        pair.server().write(b"more");
        assert!(pair.server().poll(now).is_some());
        pair.server().tcb.congestion_window()
    };
    assert_eq!(after(timeout * 3 / 2), grown / 2);
    assert_eq!(after(Duration::from_secs(60)), initial, "and not below the initial one");
}

/// RFC 1191 §3, RFC 8201 §4: whatever a router says, or somebody in its name.
#[test]
fn no_path_is_believed_to_be_narrower_than_paths_are() {
    for (ipv6, least, headers) in [(false, 552, 40), (true, 1280, 60)] {
        for told in [0, 68, least - 1, least, least + 1] {
            let mut pair = Pair::established();
            pair.server().tcb.ipv6 = ipv6;
            pair.server().write(&pattern(30_000, 1));
            pair.flush();
            let (now, seq) = (pair.now, pair.ends[SERVER].tcb.seq_of(0));
            let verdict = pair.server().tcb.on_icmp(now, PathSignal::TooBig { mtu: told }, seq);
            assert_eq!(verdict, Verdict::Accepted);
            let expected = told.max(least) - headers - 12;
            assert_eq!(u32::from(pair.server().tcb.mss()), expected, "ipv6 {ipv6}: {told}");
        }
    }
}

/// MUST-60: nobody waits for more, and nobody for the acknowledgment of what is out.
#[test]
fn a_crumb_leaves_at_once_whatever_is_out() {
    let mut pair = Pair::established();
    let now = pair.now;
    for word in [&b"one"[..], b"two", b"three"] {
        pair.server().write(word);
        let sent = pair.server().poll(now).expect("it leaves");
        assert_eq!((&sent.bytes[..], sent.head.flags), (word, Flags::ACK | Flags::PSH));
    }
    assert_eq!(pair.server().tcb.acked(), 0);
}

/// RFC 3042: the first two signs of a loss let one segment of new data out each, though the window
/// is full. Not more, or the window would be none.
#[test]
fn the_first_signs_of_a_loss_let_new_data_out() {
    for sack in [true, false] {
        let server = Settings { sack, ..Settings::default() };
        let mut pair = Pair::established_with(Start { server, ..Start::default() });
        pair.server().write(&pattern(30 * MSS, 1));
        pair.flush();
        let arriving = core::mem::take(&mut pair.wire);
        assert_eq!(arriving.len(), 10, "the window is full");
        pair.now = pair.now + ms(10);
        for (.., packet) in &arriving[1..3] {
            let now = pair.now;
            pair.client().receive(now, &packet.segment());
            let sign = pair.client().poll(now).expect("a duplicate acknowledgment");
            pair.server().receive(now, &sign.segment());
            // The pacer may want a moment, and RACK waits a quarter of the round trip.
            pair.now = now + ms(1);
            let now = pair.now;
            pair.server().tcb.on_timer(now);
            let new = pair.server().poll(now).unwrap_or_else(|| panic!("sack {sack}: a segment"));
            let offset = pair.server().tcb.offset_of(new.head.seq);
            assert!(offset >= 10 * MSS as i64 && new.bytes.len() == MSS, "sack {sack}: {offset}");
            assert!(pair.server().poll(now).is_none(), "sack {sack}");
        }
    }
}
