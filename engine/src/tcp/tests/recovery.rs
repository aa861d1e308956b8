//! Loss recovery: what is lost is found soon, and what is not lost costs nothing.

use super::pair::{CLIENT, Packet, Pair, SERVER, Start, Weather, pattern};
use crate::tcp::{Algorithm, Settings, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::SackBlock;

const MSS: usize = 1448;

fn server(settings: Settings) -> Pair {
    Pair::established_with(Start { server: settings, ..Start::default() })
}

/// Takes the packets to the client that begin at `index` segments out of the network.
fn take(pair: &mut Pair, indices: core::ops::Range<usize>) -> Vec<(Instant, u64, usize, Packet)> {
    let first = pair.ends[SERVER].tcb.seq_of(0);
    let wanted = |packet: &Packet| {
        indices.contains(&(packet.head.seq.since(first) as usize / MSS)) && !packet.bytes.is_empty()
    };
    let (taken, left) =
        pair.wire.drain(..).partition(|(.., to, packet)| *to == CLIENT && wanted(packet));
    pair.wire = left;
    taken
}

fn sent_bytes(pair: &mut Pair) -> usize {
    pair.server().take_sent().iter().map(|packet| packet.bytes.len()).sum()
}

fn arrived(pair: &Pair, count: usize) -> bool {
    pair.ends[CLIENT].input.len() == count && pair.ends[SERVER].tcb.bytes_in_flight() == 0
}

#[test]
fn many_holes_are_filled_in_one_round_trip() {
    let mut pair = server(Settings { initial_window: 100, ..Settings::default() });
    let data = pattern(100 * MSS, 1);
    let start = pair.now;
    pair.server().write(&data);
    pair.flush();
    for hole in [3, 10, 11, 40] {
        assert_eq!(take(&mut pair, hole..hole + 1).len(), 1);
    }
    pair.run_until(|pair| arrived(pair, 100 * MSS));
    assert!(pair.now.since(start) < Duration::from_millis(30), "{:?}", pair.now.since(start));
    assert_eq!(sent_bytes(&mut pair), 104 * MSS, "only what was lost");
    assert!(pair.client().input == data);
}

/// An acknowledgment that comes late tells of what is acknowledged by now. It is no D-SACK.
#[test]
fn a_late_acknowledgment_takes_nothing_back() {
    let mut pair = Pair::established();
    let window = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(10 * MSS, 1));
    pair.flush();
    assert_eq!(take(&mut pair, 2..3).len() + take(&mut pair, 5..6).len(), 2);
    pair.run_until(|pair| arrived(pair, 10 * MSS));
    let reduced = pair.server().tcb.congestion_window();
    assert!(reduced < window);
    let mut late = pair.client().take_sent().pop().expect("an acknowledgment");
    let seq_of = |segment: usize| pair.ends[SERVER].tcb.seq_of((segment * MSS) as u64);
    late.head.ack = seq_of(2);
    late.head.options.sack =
        [SackBlock { left: seq_of(3), right: seq_of(5) }].into_iter().collect();
    let now = pair.now;
    assert_eq!(pair.server().receive(now, &late.segment()), Verdict::Accepted);
    assert_eq!(pair.server().tcb.congestion_window(), reduced);
}

/// The FIN came with the last segment, and is held with it.
#[test]
fn a_fin_behind_a_gap_is_not_sent_again() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(10 * MSS, 1));
    pair.server().tcb.finish();
    pair.flush();
    assert_eq!(take(&mut pair, 4..5).len(), 1);
    pair.server().take_sent();
    pair.client().take_sent();
    pair.run_until(|pair| !pair.ends[CLIENT].sent.is_empty());
    let fin_end = pair.ends[SERVER].tcb.seq_of(10 * MSS as u64).add(1);
    let told = pair.client().take_sent().pop().expect("an acknowledgment");
    assert_eq!(told.head.options.sack.first().map(|block| block.right), Some(fin_end));
    pair.run_until(|pair| pair.ends[CLIENT].tcb.peer_finished());
    pair.run_for(Duration::from_millis(100));
    let again = pair.server().take_sent();
    assert_eq!(again.iter().map(|packet| packet.head.len()).sum::<u64>(), MSS as u64);
}

#[test]
fn a_lost_retransmission_is_found_without_a_timeout() {
    let mut pair = Pair::established();
    let data = pattern(60 * MSS, 1);
    pair.server().write(&data);
    pair.flush();
    let start = pair.now;
    assert_eq!(take(&mut pair, 2..3).len(), 1);
    let mut again = 0;
    while again < 2 {
        pair.step();
        again += take(&mut pair, 2..3).len();
        assert!(pair.now.since(start) < Duration::from_millis(100), "found {again} times");
    }
    pair.run_until(|pair| arrived(pair, 60 * MSS));
    assert!(pair.now.since(start) < Duration::from_millis(200), "{:?}", pair.now.since(start));
    assert!(pair.client().input == data);
}

#[test]
fn a_lost_tail_costs_a_probe_and_no_timeout() {
    let mut pair = Pair::established();
    let data = pattern(10 * MSS, 1);
    let start = pair.now;
    pair.server().write(&data);
    pair.flush();
    assert_eq!(take(&mut pair, 7..10).len(), 3);
    pair.run_until(|pair| arrived(pair, 10 * MSS));
    assert!(pair.now.since(start) < Duration::from_millis(70), "{:?}", pair.now.since(start));
    assert!(pair.client().input == data);
}

#[test]
fn a_probe_that_repairs_a_loss_slows_down() {
    let mut pair = Pair::established();
    let window = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(10 * MSS, 1));
    pair.flush();
    assert_eq!(take(&mut pair, 9..10).len(), 1);
    pair.run_until(|pair| arrived(pair, 10 * MSS));
    pair.server().write(&pattern(MSS, 2));
    pair.run_until(|pair| arrived(pair, 11 * MSS));
    assert!(pair.server().tcb.congestion_window() < window);
}

#[test]
fn a_probe_for_nothing_costs_nothing() {
    let mut pair = Pair::established();
    let window = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(10 * MSS, 1));
    pair.flush();
    // The acknowledgments are late: everything arrived, and the probe arrives twice.
    pair.cut[SERVER] = true;
    pair.run_for(Duration::from_millis(22));
    pair.cut[SERVER] = false;
    pair.run_until(|pair| arrived(pair, 10 * MSS));
    assert_eq!(sent_bytes(&mut pair), 11 * MSS, "one probe");
    pair.server().write(&pattern(MSS, 2));
    pair.run_until(|pair| arrived(pair, 11 * MSS));
    assert!(pair.server().tcb.congestion_window() >= window);
}

#[test]
fn new_data_is_the_better_probe() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(10 * MSS, 1));
    pair.flush();
    take(&mut pair, 0..10);
    pair.server().write(&pattern(3 * MSS, 2));
    pair.server().take_sent();
    let start = pair.now;
    pair.run_until(|pair| !pair.ends[SERVER].sent.is_empty());
    assert_eq!(pair.now.since(start), Duration::from_millis(25), "two round trips and a little");
    let probe = pair.server().take_sent().remove(0);
    assert_eq!(probe.head.seq, pair.server().tcb.seq_of(10 * MSS as u64));
    assert_eq!(probe.bytes.len(), MSS);
}

#[test]
fn reordering_is_learned_and_then_costs_nothing() {
    for timestamps in [true, false] {
        let mut pair = server(Settings { timestamps, ..Settings::default() });
        pair.weather = Weather { reorder: 200, ..Weather::default() };
        let count = 4_000_000;
        pair.server().write(&pattern(count, 1));
        pair.run_until(|pair| arrived(pair, count));
        let twice = sent_bytes(&mut pair) - count;
        assert!(twice <= 10 * MSS, "{twice} bytes for nothing, timestamps {timestamps}");
    }
}

/// One segment is later than its followers, by more than the reordering window.
#[test]
fn a_reduction_for_what_was_only_late_is_taken_back() {
    for timestamps in [true, false] {
        let mut pair = server(Settings { timestamps, ..Settings::default() });
        let window = pair.server().tcb.congestion_window();
        pair.server().write(&pattern(10 * MSS, 1));
        pair.flush();
        let mut late = take(&mut pair, 2..3);
        pair.run_for(Duration::from_millis(14));
        assert!(pair.server().tcb.congestion_window() < window, "it looked lost");
        late[0].0 = pair.now;
        pair.wire.append(&mut late);
        if timestamps {
            // The acknowledgment of the original is enough: it is here before any D-SACK.
            pair.run_for(Duration::from_millis(5));
            assert!(pair.server().tcb.congestion_window() >= window, "Eifel");
        }
        pair.run_until(|pair| arrived(pair, 10 * MSS));
        pair.run_for(Duration::from_millis(20));
        let after = pair.server().tcb.congestion_window();
        assert!(after >= window, "{window} -> {after}, timestamps {timestamps}");
    }
}

/// Everything stands still for longer than the retransmission timeout, and nothing is lost.
#[test]
fn a_path_that_paused_has_lost_nothing() {
    for timestamps in [true, false] {
        let mut pair = server(Settings { timestamps, ..Settings::default() });
        pair.server().write(&pattern(400_000, 1));
        pair.run_until(|pair| pair.ends[CLIENT].input.len() > 100_000);
        let window = pair.server().tcb.congestion_window();
        for (at, ..) in &mut pair.wire {
            *at = *at + Duration::from_millis(400);
        }
        pair.run_until(|pair| arrived(pair, 400_000));
        let after = pair.server().tcb.congestion_window();
        assert!(after >= window, "{window} -> {after}, timestamps {timestamps}");
        let twice = sent_bytes(&mut pair) - 400_000;
        assert!(twice <= 3 * MSS, "{twice} bytes for nothing, timestamps {timestamps}");
    }
}

/// The acknowledgments come one by one after the timeout: the second is proof enough, long before
/// a D-SACK for what was sent again.
#[test]
fn a_timeout_is_taken_back_by_the_second_acknowledgment() {
    let mut pair = server(Settings { timestamps: false, ..Settings::default() });
    let window = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(20 * MSS, 1));
    pair.flush();
    let resume = pair.now + Duration::from_millis(300);
    loop {
        for (at, count, ..) in pair.wire.iter_mut().filter(|(at, ..)| *at < resume) {
            *at = resume + Duration::from_millis(*count);
        }
        if pair.server().tcb.deadline().is_none_or(|deadline| deadline > resume) {
            break;
        }
        pair.step();
    }
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() > 0);
    assert!(pair.server().tcb.congestion_window() < window, "it timed out");
    pair.run_for(Duration::from_millis(4));
    assert!(pair.server().tcb.congestion_window() >= window);
    pair.run_until(|pair| arrived(pair, 20 * MSS));
    let sent = sent_bytes(&mut pair);
    let segment = usize::from(pair.server().tcb.mss());
    assert_eq!(sent, 20 * MSS + segment, "only the first segment twice");
}

/// What was sent a moment before the timeout is not lost.
#[test]
fn a_timeout_takes_only_what_is_old_for_lost() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(2 * MSS, 1));
    pair.flush();
    pair.wire.clear();
    pair.now = pair.server().tcb.deadline().unwrap();
    let tail = pair.now;
    pair.server().tcb.on_timer(tail);
    pair.flush();
    let timeout = pair.server().tcb.deadline().unwrap();
    pair.now = timeout - Duration::from_millis(1);
    pair.server().write(&pattern(2 * MSS, 2));
    pair.flush();
    assert_eq!(pair.server().tcb.deadline(), Some(timeout));
    pair.server().tcb.on_timer(timeout);
    assert_eq!(pair.server().tcb.pipe(), 2 * MSS as u64);
}

#[test]
fn a_real_timeout_is_not_taken_back() {
    for timestamps in [true, false] {
        let mut pair = server(Settings { timestamps, ..Settings::default() });
        let data = pattern(100_000, 1);
        pair.server().write(&data);
        pair.run_for(Duration::from_millis(8));
        let window = pair.server().tcb.congestion_window();
        pair.cut = [true, true];
        pair.run_for(Duration::from_millis(400));
        pair.cut = [false, false];
        pair.run_until(|pair| pair.ends[CLIENT].input.len() > 30_000);
        assert!(pair.server().tcb.congestion_window() <= window, "timestamps {timestamps}");
        pair.run_until(|pair| arrived(pair, 100_000));
        assert!(pair.client().input == data);
    }
}

#[test]
fn a_timeout_while_content_is_missing_is_counted_once() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(20 * MSS, 1));
    pair.flush();
    pair.wire.clear();
    let mut now = pair.now;
    let mut thresholds = Vec::new();
    for _ in 0..6 {
        now = pair.server().tcb.deadline().unwrap();
        pair.server().tcb.on_timer(now);
        assert!(pair.server().tcb.poll_transmit(now, &mut |_| 0).is_none());
        thresholds.push(pair.server().tcb.snd.congestion.control().threshold());
    }
    assert!(pair.server().tcb.blocked());
    assert_eq!(pair.server().tcb.snd.backoff, 1);
    assert!(thresholds[1..].iter().all(|threshold| *threshold == thresholds[1]));
    pair.server().tcb.unblock();
    let again = pair.server().tcb.poll_transmit(now, &mut |range| range.count()).unwrap();
    assert_eq!((again.seq, again.payload), (pair.server().tcb.seq_of(0), MSS));
}

/// How long `count` bytes take over a path of 80 ms.
fn download(congestion: Algorithm, weather: Weather, seed: u64, count: usize) -> Duration {
    let settings = Settings { congestion, ..Settings::default() };
    let client = Settings { receive_buffer: 8 << 20, ..Settings::default() };
    let start = Start { server: settings, client, seed, ..Start::default() };
    let mut pair = Pair::established_with(start);
    pair.delay = Duration::from_millis(40);
    pair.weather = weather;
    let start = pair.now;
    pair.server().write(&pattern(count, 1));
    pair.run_until(|pair| arrived(pair, count));
    pair.now.since(start)
}

#[test]
fn cubic_carries_at_least_what_newreno_does() {
    let weathers = [
        Weather { loss: 1, ..Weather::default() },
        Weather { loss: 10, ..Weather::default() },
        Weather { loss: 1, reorder: 10, ..Weather::default() },
    ];
    for weather in weathers {
        let time = |algorithm| -> Duration {
            (1..5).map(|seed| download(algorithm, weather, seed, 4_000_000)).sum()
        };
        let (cubic, reno) = (time(Algorithm::Cubic), time(Algorithm::NewReno));
        assert!(cubic < reno + reno / 10, "{weather:?}: {cubic:?} and {reno:?}");
    }
}
