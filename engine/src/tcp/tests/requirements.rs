//! What `docs/rfc.md` promises and no other story here would miss.

use super::pair::{CLIENT, Pair, SERVER, Start, pattern};
use crate::tcp::{Keepalive, Settings, State, Verdict};
use crate::time::Duration;
use crate::wire::{Flags, Segment, TcpOptions, Timestamps};

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
