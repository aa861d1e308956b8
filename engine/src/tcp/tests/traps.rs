//! Mistakes that other stacks have made, each held shut by a test.

use super::pair::{CLIENT, Pair, SERVER, Start, pattern};
use crate::tcp::{CloseCause, Horizon, Keepalive, Parked, Settings, State, Tcb, Verdict};
use crate::time::Duration;
use crate::wire::{Flags, SackBlock, Segment, TcpOptions};

/// An acknowledgment from the client for the server's output up to `ack`.
fn client_ack(pair: &Pair, ack: u64, window: u16) -> Segment<'static> {
    let client = &pair.ends[CLIENT].tcb;
    let options = TcpOptions {
        timestamps: Some(crate::wire::Timestamps { val: client.ts_value(pair.now), ecr: 0 }),
        ..TcpOptions::default()
    };
    Segment {
        seq: client.seq_of(client.sent()),
        ack: client.rcv_seq_of(ack),
        flags: Flags::ACK,
        window,
        options,
        marked: false,
        payload: &[],
    }
}

#[test]
fn an_idle_connection_is_lean() {
    let (live, parked) = (size_of::<Tcb>(), size_of::<Parked>());
    assert!(live <= 392 && parked <= 168, "{live} and {parked} bytes");
}

#[test]
fn a_window_that_shuts_after_a_long_silence_is_probed_with_patience() {
    let mut pair = Pair::established();
    pair.run_for(Duration::from_secs(1200));
    let (now, shut) = (pair.now, client_ack(&pair, 0, 0));
    pair.server().receive(now, &shut);
    pair.server().write(b"hello");
    assert!(pair.server().poll(now).is_none());
    let probe = pair.server().tcb.deadline().expect("a probe is due");
    assert_eq!(pair.server().tcb.on_timer(probe), Verdict::Accepted);
}

#[test]
fn an_ack_of_nothing_new_leaves_the_timer_alone() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(5000, 1));
    pair.flush();
    let deadline = pair.server().tcb.deadline();
    pair.now = pair.now + Duration::from_millis(50);
    let (now, ack) = (pair.now, client_ack(&pair, 0, 2000));
    pair.server().receive(now, &ack);
    assert_eq!(pair.server().tcb.deadline(), deadline);
    let ack = client_ack(&pair, 1448, 2000);
    pair.server().receive(now, &ack);
    assert!(pair.server().tcb.deadline() > deadline);
}

#[test]
fn a_held_acknowledgment_does_not_spin_and_goes_when_it_may() {
    let mut pair = Pair::established();
    pair.server().tcb.set_horizon(Horizon { opened: true, received: 0, output: 0 });
    pair.client().write(b"hello");
    pair.run_until(|pair| pair.ends[SERVER].input == b"hello");
    pair.server().take_sent();
    pair.run_for(Duration::from_millis(150));
    assert_eq!(pair.server().take_sent().len(), 0);
    pair.server().tcb.set_horizon(Horizon { opened: true, received: 3, output: 0 });
    let now = pair.now;
    let partial = pair.server().poll(now).unwrap().head;
    assert_eq!(partial.ack, pair.server().tcb.rcv_seq_of(3));
    assert!(pair.server().poll(now).is_none());
    pair.server().tcb.set_horizon(Horizon { opened: true, received: 5, output: 0 });
    assert_eq!(pair.server().poll(now).unwrap().head.ack, pair.server().tcb.rcv_seq_of(5));
}

#[test]
fn a_fin_needs_the_horizon_past_the_end() {
    let mut pair = Pair::established();
    let now = pair.now;
    pair.server().write(b"bye");
    pair.server().tcb.finish();
    pair.server().tcb.set_horizon(Horizon { opened: true, received: 0, output: 3 });
    let data = pair.server().poll(now).unwrap();
    assert!(!data.head.flags.contains(Flags::FIN) && data.bytes == b"bye");
    assert!(pair.server().poll(now).is_none());
    pair.server().tcb.set_horizon(Horizon { opened: true, received: 0, output: 4 });
    assert!(pair.server().poll(now).unwrap().head.flags.contains(Flags::FIN));
    assert_eq!(pair.server().tcb.state(), State::FinWait1);
}

#[test]
fn nothing_leaves_before_the_connection_is_opened() {
    let mut pair = Pair::opening(Start::default());
    pair.server().tcb.set_horizon(Horizon::SHUT);
    let now = pair.now;
    assert!(pair.server().poll(now).is_none());
    assert_eq!(pair.server().tcb.deadline(), None);
    pair.server().tcb.set_horizon(Horizon::OPEN);
    assert!(pair.server().poll(now).is_some());
}

#[test]
fn two_ends_out_of_step_stop_answering_each_other() {
    let mut pair = Pair::established();
    let hard = pair.client().tcb.hard();
    let settings = std::sync::Arc::clone(&pair.client().tcb.settings);
    let astray = crate::tcp::Hard { received: 1 << 20, acked: 1 << 20, ..hard };
    pair.ends[CLIENT].tcb = Tcb::resume(&settings, pair.now, &astray);
    let now = pair.now;
    pair.client().tcb.nudge(now);
    pair.server().take_sent();
    pair.run_for(Duration::from_millis(900));
    assert!(pair.server().take_sent().len() <= 10);
}

#[test]
fn keepalive_asks_a_silent_peer_and_gives_up() {
    let (idle, interval) = (Duration::from_secs(10), Duration::from_secs(1));
    let keepalive = Some(Keepalive { idle, interval, probes: 3 });
    let server = Settings { keepalive, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.server().tcb.state(), State::Established, "probes are answered");
    pair.client().dead = true;
    pair.run_for(Duration::from_secs(14));
    assert!(pair.server().verdicts.contains(&Verdict::Closed(CloseCause::KeepaliveTimeout)));
}

#[test]
fn timeouts_back_off_and_one_sample_ends_that() {
    let mut pair = Pair::established();
    pair.cut[CLIENT] = true;
    pair.server().write(&pattern(1000, 1));
    pair.server().take_sent();
    pair.run_for(Duration::from_secs(20));
    let attempts = pair.server().take_sent().len();
    assert!((5..=8).contains(&attempts), "{attempts}");
    pair.cut[CLIENT] = false;
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 1000);
    assert_eq!(pair.server().tcb.snd.backoff, 0);
}

#[test]
fn unanswered_data_is_given_up() {
    let mut pair = Pair::established();
    pair.client().dead = true;
    pair.server().write(b"anyone?");
    let start = pair.now;
    pair.run_until(|pair| pair.ends[SERVER].tcb.closed());
    assert!(pair.server().verdicts.contains(&Verdict::Closed(CloseCause::TimedOut)));
    let waited = pair.now.since(start).as_secs();
    assert!((840..=1000).contains(&waited), "R2 of {waited} s");
    let last = pair.server().take_sent().pop().expect("it has tried");
    assert!(last.head.flags.contains(Flags::RST), "a peer that was only cut off is told");
}

#[test]
fn a_lost_segment_is_sent_again_before_its_timeout() {
    for sack in [true, false] {
        let server = Settings { sack, ..Settings::default() };
        let mut pair = Pair::established_with(Start { server, ..Start::default() });
        let (start, data) = (pair.now, pattern(14_480, 1));
        pair.server().write(&data);
        pair.flush();
        pair.wire.remove(2);
        pair.run_until(|pair| pair.ends[CLIENT].input.len() == 14_480);
        assert!(pair.now.since(start) < Duration::from_millis(40), "sack {sack}");
        let sent: usize = pair.server().take_sent().iter().map(|p| p.bytes.len()).sum();
        assert_eq!(sent, 14_480 + 1448, "only the lost one, sack {sack}");
    }
}

#[test]
fn a_peer_that_reneges_gets_everything_again() {
    let mut pair = Pair::established();
    let data = pattern(10_000, 1);
    pair.server().write(&data);
    pair.flush();
    pair.wire.clear();
    let mut lie = client_ack(&pair, 0, 2000);
    let client = &pair.ends[CLIENT].tcb;
    lie.options
        .sack
        .push(SackBlock { left: client.rcv_seq_of(1448), right: client.rcv_seq_of(10_000) });
    let now = pair.now;
    pair.server().receive(now, &lie);
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 10_000);
    assert!(pair.client().input == data);
}

#[test]
fn a_window_that_shrinks_is_tolerated() {
    let mut pair = Pair::established();
    let data = pattern(50_000, 1);
    pair.server().write(&data);
    pair.flush();
    pair.wire.clear();
    let (now, shut) = (pair.now, client_ack(&pair, 0, 0));
    pair.server().receive(now, &shut);
    pair.run_for(Duration::from_secs(5));
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 50_000);
    assert!(pair.client().input == data);
}

#[test]
fn what_is_sent_again_stays_within_a_shrunk_window() {
    let mut pair = Pair::established();
    let data = pattern(50_000, 1);
    pair.server().write(&data);
    pair.flush();
    pair.wire.clear();
    let half = (1448 / 2) >> pair.server().tcb.snd_scale;
    let (now, little) = (pair.now, client_ack(&pair, 0, half));
    pair.server().receive(now, &little);
    // The tail probe is due, which may go beyond, and then two timeouts, which may not.
    for _ in 0..3 {
        pair.server().take_sent();
        pair.now = pair.server().tcb.deadline().unwrap();
        let now = pair.now;
        pair.server().tcb.on_timer(now);
        pair.flush();
        pair.wire.clear();
    }
    let sent = pair.server().take_sent();
    let tcb = &pair.ends[SERVER].tcb;
    let ends = sent.iter().map(|p| tcb.offset_of(p.head.seq) as u64 + p.bytes.len() as u64);
    let edge = u64::from(tcb.snd.wnd);
    let ends: Vec<u64> = ends.collect();
    assert!(edge < 1448 && ends.iter().all(|end| (1..=edge).contains(end)), "{edge}: {ends:?}");
    assert!(!ends.is_empty());
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 50_000);
    assert!(pair.client().input == data);
}

#[test]
fn what_a_shut_window_threw_away_is_sent_again_when_it_opens() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(14_480, 1));
    pair.flush();
    pair.wire.clear();
    let (now, shut) = (pair.now, client_ack(&pair, 0, 0));
    pair.server().receive(now, &shut);
    pair.run_for(Duration::from_millis(50));
    let (now, open) = (pair.now, client_ack(&pair, 0, 2000));
    pair.server().receive(now, &open);
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 14_480);
    assert!(pair.now.since(now) < Duration::from_millis(15), "no waiting for a timer");
}

#[test]
fn a_window_of_zero_for_an_hour_ends_nothing() {
    let server = Settings { receive_buffer: 20_000, ..Settings::default() };
    let mut pair = Pair::established_with(Start { server, ..Start::default() });
    let data = pattern(100_000, 1);
    pair.server().consumes = false;
    pair.client().write(&data);
    pair.run_for(Duration::from_secs(3600));
    assert_eq!(pair.client().tcb.state(), State::Established);
    pair.server().consumes = true;
    let (read, start) = (pair.server().input.len() as u64, pair.now);
    pair.server().tcb.set_consumed(read);
    pair.run_until(|pair| pair.ends[SERVER].input.len() == 100_000);
    assert!(pair.now.since(start) < Duration::from_secs(1));
    assert!(pair.server().input == data);
}

#[test]
fn a_black_hole_is_found_by_smaller_segments() {
    let mut pair = Pair::established();
    let data = pattern(30_000, 1);
    let start = pair.now;
    pair.server().write(&data);
    while pair.client().input.len() < 30_000 {
        pair.flush();
        pair.wire.retain(|(.., packet)| packet.bytes.len() <= 1300);
        assert!(pair.step() && pair.now.since(start) < Duration::from_secs(30));
    }
    assert!(pair.client().input == data);
    assert_eq!(pair.server().tcb.mss(), 1228);
}

/// The sequence numbers wrap, and wrap again; nobody keeps the bytes.
#[test]
fn five_gigabytes_in_one_connection() {
    let mut pair = Pair::established_with(Start { iss: [u32::MAX - 9; 2], ..Start::default() });
    let (all, zeroes, now) = (5u64 << 30, vec![0; 1 << 16], pair.now);
    pair.server().tcb.set_output_end(all);
    let [client, server] = &mut pair.ends;
    let (client, server, mut seen, mut now) = (&mut client.tcb, &mut server.tcb, 0, now);
    while server.acked() < all {
        now = now + Duration::from_millis(1);
        while let Some(sent) = server.poll_transmit(now, &mut |range| range.count()) {
            let packet = super::pair::Packet { head: sent, bytes: Vec::new() };
            let payload = &zeroes[..packet.head.payload];
            let verdict =
                client.on_segment(now, &Segment { payload, ..packet.segment() }, &mut |bytes| {
                    seen += bytes.len() as u64
                });
            assert_eq!(verdict, Verdict::Accepted);
            client.set_consumed(seen);
        }
        client.on_timer(now + Duration::from_millis(50));
        while let Some(head) = client.poll_transmit(now, &mut |_| 0) {
            let packet = super::pair::Packet { head, bytes: Vec::new() };
            assert_eq!(server.on_segment(now, &packet.segment(), &mut |_| ()), Verdict::Accepted);
        }
    }
    assert_eq!((seen, client.received()), (all, all));
}

#[test]
fn blocked_output_waits_without_losing_anything() {
    let mut pair = Pair::established();
    let now = pair.now;
    pair.server().tcb.set_output_end(10);
    assert!(pair.server().tcb.poll_transmit(now, &mut |_| 0).is_none());
    assert!(pair.server().tcb.blocked());
    assert_eq!(pair.server().tcb.bytes_in_flight(), 0);
    pair.server().tcb.unblock();
    let sent = pair.server().tcb.poll_transmit(now, &mut |range| range.count()).unwrap();
    assert_eq!(sent.payload, 10);
}

#[test]
fn an_application_that_trickles_does_not_inflate_the_window() {
    let mut pair = Pair::established();
    let before = pair.server().tcb.congestion_window();
    for i in 0..100 {
        pair.server().write(&pattern(100, i));
        pair.run_for(Duration::from_millis(50));
    }
    assert_eq!(pair.server().tcb.congestion_window(), before);
}

#[test]
fn every_second_full_segment_is_acknowledged() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(14_480, 1));
    pair.flush();
    let arriving = core::mem::take(&mut pair.wire);
    assert_eq!(arriving.len(), 10);
    let now = pair.now;
    for (.., packet) in arriving {
        pair.client().receive(now, &packet.segment());
        pair.flush();
    }
    assert_eq!(pair.wire.len(), 5);
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 14_480);
    pair.server().write(b"x");
    let start = pair.now;
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 14_481);
    assert_eq!(pair.now.since(start), Duration::from_millis(50), "40 ms and a round trip");
}

#[test]
fn abort_resets_the_peer() {
    let mut pair = Pair::established();
    let now = pair.now;
    pair.server().tcb.abort(now);
    pair.run_for(Duration::from_millis(20));
    assert_eq!(pair.client().verdicts.last(), Some(&Verdict::Closed(CloseCause::Reset)));
    assert!(pair.server().tcb.closed());
}

#[test]
fn a_fin_that_joins_a_retransmission_is_acknowledged() {
    let mut pair = Pair::established();
    pair.server().write(b"bye");
    pair.flush();
    pair.wire.clear();
    pair.server().tcb.set_horizon(Horizon::OPEN);
    // The tail probe is due, and then the timeout.
    for _ in 0..2 {
        pair.now = pair.server().tcb.deadline().unwrap();
        let now = pair.now;
        pair.server().tcb.on_timer(now);
    }
    pair.server().tcb.finish();
    pair.run_until(|pair| pair.ends[SERVER].tcb.fin_acked());
    assert_eq!(pair.server().tcb.state(), State::FinWait2);
    assert_eq!(super::pair::dropped(pair.server()), []);
    assert_eq!(pair.client().input, b"bye");
}
