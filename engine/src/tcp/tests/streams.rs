//! Whole streams arrive byte for byte, whatever the network and the horizons do.

use super::pair::{CLIENT, Pair, SERVER, Start, Weather, pattern};
use crate::tcp::{CloseCause, Horizon, Settings, State, Verdict};
use crate::time::{Duration, Instant};

/// Both ends send, finish, and everything arrives.
fn exchange(mut pair: Pair, client: usize, server: usize) -> Pair {
    let (up, down) = (pattern(client, 3), pattern(server, 9));
    pair.client().write(&up);
    pair.server().write(&down);
    pair.client().tcb.finish();
    pair.server().tcb.finish();
    pair.run_until(|pair| pair.ends.iter().all(|end| end.tcb.peer_finished()));
    pair.run_until(|pair| pair.ends.iter().all(|end| end.tcb.closed()));
    assert!(pair.ends[SERVER].input == up, "upload");
    assert!(pair.ends[CLIENT].input == down, "download");
    for end in &pair.ends {
        assert!(end.verdicts.contains(&Verdict::Closed(CloseCause::Done)));
    }
    pair
}

fn small_buffers() -> Settings {
    Settings { receive_buffer: 20_000, ..Settings::default() }
}

#[test]
fn clean_network() {
    let pair = exchange(Pair::established(), 3_000_000, 3_000_000);
    assert!(pair.now < Instant::from_millis(10_000 + 70_000), "no retransmission timeouts");
}

#[test]
fn every_weather_and_option() {
    let weathers = [
        Weather { loss: 20, ..Weather::default() },
        Weather { loss: 100, ..Weather::default() },
        Weather { reorder: 200, ..Weather::default() },
        Weather { loss: 50, reorder: 100, duplicate: 100 },
    ];
    for (seed, weather) in (1..).zip(weathers) {
        for (sack, timestamps) in [(true, true), (true, false), (false, true), (false, false)] {
            let server = Settings { sack, timestamps, ..Settings::default() };
            // The sequence numbers wrap early, and so do the timestamps.
            let iss = [u32::MAX - 40_000, u32::MAX - 90_000];
            let ts_offset = [u32::MAX - 10_050, 77];
            let start = Start { server, iss, ts_offset, seed, ..Start::default() };
            let mut pair = Pair::established_with(start);
            pair.weather = weather;
            exchange(pair, 150_000, 250_000);
        }
    }
}

#[test]
fn small_buffers_in_bad_weather() {
    for seed in 1..6 {
        let start =
            Start { client: small_buffers(), server: small_buffers(), seed, ..Start::default() };
        let mut pair = Pair::established_with(start);
        pair.weather = Weather { loss: 50, reorder: 100, duplicate: 50 };
        exchange(pair, 100_000, 100_000);
    }
}

#[test]
fn commits_take_their_time() {
    for (seed, commit) in (1..).zip([1, 7, 45, 300]) {
        let mut pair = Pair::established_with(Start { seed, ..Start::default() });
        pair.server().commit = Some(Duration::from_millis(commit));
        pair.server().tcb.set_horizon(Horizon { opened: true, received: 0, output: 0 });
        pair.weather = Weather { loss: 30, reorder: 50, duplicate: 20 };
        exchange(pair, 200_000, 200_000);
    }
}

#[test]
fn handshake_in_bad_weather() {
    for seed in 1..40 {
        let mut pair = Pair::opening(Start { seed, ..Start::default() });
        pair.weather = Weather { loss: 300, reorder: 100, duplicate: 100 };
        exchange(pair, 1000, 1000);
    }
}

#[test]
fn half_closed_stream_goes_on() {
    let mut pair = Pair::established();
    pair.client().write(b"request");
    pair.client().tcb.finish();
    pair.run_until(|pair| pair.ends[SERVER].tcb.peer_finished());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.server().tcb.state(), State::CloseWait);
    assert_eq!(pair.client().tcb.state(), State::FinWait2);
    let reply = pattern(400_000, 1);
    pair.server().write(&reply);
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 400_000);
    pair.server().tcb.finish();
    pair.run_until(|pair| pair.ends[SERVER].tcb.closed());
    assert!(pair.client().input == reply);
    assert_eq!(pair.client().tcb.state(), State::TimeWait);
}

#[test]
fn both_close_at_once() {
    let mut pair = Pair::established();
    pair.client().tcb.finish();
    pair.server().tcb.finish();
    pair.flush();
    pair.run_until(|pair| pair.ends.iter().all(|end| end.tcb.state() == State::TimeWait));
}

#[test]
fn bulk_leaves_in_super_segments() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(5_000_000, 1));
    pair.server().take_sent();
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 5_000_000);
    let sent = pair.server().take_sent();
    let largest = sent.iter().map(|packet| packet.bytes.len()).max();
    assert_eq!(largest, Some(61_440 - 61_440 % 1448), "whole segments");
    assert!(sent.iter().all(|packet| packet.bytes.len() % 1448 == 0
        || packet.head.flags.contains(crate::wire::Flags::PSH)));
    let total: usize = sent.iter().map(|packet| packet.bytes.len()).sum();
    assert_eq!(total, 5_000_000, "nothing twice");
}

#[test]
fn slow_reader_shuts_the_window_and_opens_it_again() {
    let start = Start { server: small_buffers(), ..Start::default() };
    let mut pair = Pair::established_with(start);
    let upload = pattern(100_000, 5);
    pair.server().consumes = false;
    pair.client().write(&upload);
    pair.run_for(Duration::from_secs(30));
    let held = pair.server().input.len();
    assert!((19_000..=20_000 + 65_536).contains(&held), "{held}");
    pair.client().take_sent();
    pair.run_for(Duration::from_secs(60));
    let probes = pair.client().take_sent();
    assert!((1..20).contains(&probes.len()), "probes back off: {}", probes.len());
    pair.server().consumes = true;
    let (now, read) = (pair.now, pair.server().input.len() as u64);
    pair.server().tcb.set_consumed(read);
    pair.run_until(|pair| pair.ends[SERVER].input.len() == 100_000);
    assert!(pair.now.since(now) < Duration::from_millis(500), "no waiting for a probe");
    assert!(pair.server().input == upload);
}
