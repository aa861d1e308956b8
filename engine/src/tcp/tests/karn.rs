//! A path that is slower than the first timeout: RFC 6298 §5, and what a lost SYN-ACK says.

use super::pair::{End, Pair, SERVER, Start, pattern};
use crate::tcp::{Settings, State, Tcb, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum, TcpOptions};
use std::sync::Arc;

/// A connection without timestamps whose round trip takes so long.
fn slow(round_trip: Duration) -> Pair {
    let settings = || Settings { timestamps: false, ..Settings::default() };
    let mut pair =
        Pair::opening(Start { client: settings(), server: settings(), ..Start::default() });
    pair.delay = round_trip / 2;
    pair.run_until(|pair| pair.ends.iter().all(|end| end.tcb.state() == State::Established));
    pair.run_for(round_trip);
    pair
}

/// How often the server sends a reply before it knows that it has arrived.
fn replies(pair: &mut Pair) -> usize {
    pair.server().take_sent();
    pair.server().write(b"reply");
    let end = pair.server().output.len() as u64;
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == end);
    pair.server().take_sent().iter().filter(|packet| !packet.bytes.is_empty()).count()
}

/// RFC 6298 §5.7, §3: a timeout that was too short stays doubled until a round trip is known; what was
/// sent twice does not tell one, so it is the next that does.
#[test]
fn a_round_trip_longer_than_the_timeout_is_learnt() {
    let mut pair = slow(Duration::from_secs(8));
    let first = replies(&mut pair);
    assert!(first <= 3, "{first} times");
    let second = replies(&mut pair);
    assert!(second <= 2, "{second} times");
    for _ in 0..5 {
        assert_eq!(replies(&mut pair), 1, "and from then on once");
    }
}

/// RFC 6298 §5.7: a handshake that timed out makes the first timeout of data three seconds.
#[test]
fn after_a_lost_syn_the_first_timeout_is_a_long_one() {
    let mut pair = slow(Duration::from_millis(2500));
    assert_eq!(pair.server().tcb.srtt(), None, "its SYN-ACK was sent twice");
    assert_eq!(replies(&mut pair), 1);
}

/// A server that has sent its SYN-ACK so often, and is answered now.
fn answered_after(times: u32) -> (End, Instant) {
    let mut now = Instant::from_millis(5000);
    let segment = |seq, ack, flags| Segment {
        seq: SeqNum(seq),
        ack: SeqNum(ack),
        flags,
        window: 60_000,
        options: TcpOptions {
            mss: Some(1000).filter(|_| flags.contains(Flags::SYN)),
            ..TcpOptions::default()
        },
        marked: false,
        payload: b"",
    };
    let syn = segment(99, 0, Flags::SYN);
    let tcb = Tcb::accept(&Arc::new(Settings::default()), now, &syn, SeqNum(499), 0, 1500, false);
    let mut end = End::new(tcb);
    end.write(&pattern(40_000, 1));
    assert!(end.poll(now).is_some());
    for _ in 1..times {
        now = end.tcb.deadline().expect("it will be sent again");
        end.tcb.on_timer(now);
        assert!(end.poll(now).is_some());
    }
    let ack = segment(100, 500, Flags::ACK);
    assert_eq!(end.receive(now, &ack), Verdict::Accepted);
    (end, now)
}

fn sends(end: &mut End, now: Instant) -> usize {
    core::iter::from_fn(|| end.poll(now)).map(|packet| packet.bytes.len()).sum()
}

/// RFC 6928 §2.
#[test]
fn a_syn_ack_that_was_lost_twice_leaves_one_segment_of_a_window() {
    for (times, window) in [(1, 10_000), (2, 10_000), (3, 1000), (4, 1000)] {
        let (mut end, now) = answered_after(times);
        assert_eq!(sends(&mut end, now), window, "sent {times} times");
    }
}

/// RFC 3042: a segment for each of the first two, however they come, and whatever the window is.
#[test]
fn two_duplicates_without_sack_release_two_segments() {
    let duplicate = |acked: u32| Segment {
        seq: SeqNum(100),
        ack: SeqNum(500 + acked),
        flags: Flags::ACK,
        window: 60_000,
        options: TcpOptions::default(),
        marked: false,
        payload: b"",
    };
    for (acked, at_once) in [(0, false), (0, true), (1000, false), (1000, true), (1500, false)] {
        let (mut end, now) = answered_after(1);
        sends(&mut end, now);
        if acked > 0 {
            let ack = duplicate(acked);
            end.receive(now, &ack);
            sends(&mut end, now);
        }
        let mut released = 0;
        for _ in 0..2 {
            let again = duplicate(acked);
            end.receive(now, &again);
            released += if at_once { 0 } else { sends(&mut end, now) };
        }
        released += sends(&mut end, now);
        assert_eq!(released, 2000, "{acked} acknowledged, at once: {at_once}");
    }
}
