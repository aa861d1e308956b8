//! Another host goes on with the connection, and the client notices nothing (I4).

use super::pair::{CLIENT, Pair, SERVER, Start, Weather, dropped, pattern};
use crate::tcp::{DropReason, Hard, Horizon, Settings, State, Tcb, Verdict, farewell};
use crate::time::Duration;
use crate::wire::{Flags, Segment};
use std::sync::Arc;

/// The hard state as a standby may know it: what may lag does, what must be exact is.
fn lagging(old: &Hard, now: &Hard, committed: u64) -> Hard {
    Hard {
        received: now.received.min(committed),
        peer_fin: now.peer_fin && committed >= now.received,
        handshake_done: now.handshake_done,
        fin_acked: old.fin_acked,
        ..old.clone()
    }
}

#[test]
fn streams_go_on_byte_for_byte() {
    for seed in 1..25 {
        let start = Start { seed, iss: [u32::MAX - 5000, u32::MAX - 7000], ..Start::default() };
        let mut pair = Pair::established_with(start);
        let (up, down) = (pattern(700_000, 3), pattern(900_000, 4));
        pair.weather = Weather { loss: seed % 3 * 15, reorder: 30, duplicate: 10 };
        pair.server().commit = Some(Duration::from_millis(2));
        pair.server().tcb.set_horizon(Horizon { opened: true, received: 0, output: 0 });
        pair.client().write(&up);
        pair.server().write(&down);
        let snapshot = pair.random() % 150;
        pair.run_for(Duration::from_millis(snapshot));
        let old = pair.server().tcb.hard();
        let lag = pair.random() % 40;
        pair.run_for(Duration::from_millis(lag));
        let committed = pair.server().tcb.horizon.received;
        let hard = lagging(&old, &pair.server().tcb.hard(), committed);
        // The old host falls silent; its last words may still be under way.
        pair.server().dead = true;
        let gap = pair.random() % 20;
        pair.run_for(Duration::from_millis(gap));
        pair.take_over(&hard, false);
        pair.server().tcb.finish();
        pair.client().tcb.finish();
        pair.run_until(|pair| pair.ends.iter().all(|end| end.tcb.peer_finished()));
        assert!(pair.ends[SERVER].input == up && pair.ends[CLIENT].input == down, "seed {seed}");
        let resets = |packet: &super::pair::Packet| packet.head.flags.contains(Flags::RST);
        assert!(!pair.server().take_sent().iter().any(resets), "no reset");
    }
}

#[test]
fn output_goes_out_at_once() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(100_000, 1));
    let hard = pair.server().tcb.hard();
    pair.flush();
    pair.wire.clear();
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.flush();
    let sent: usize = pair.server().take_sent().iter().map(|packet| packet.bytes.len()).sum();
    assert_eq!(sent, 14_480, "an initial window");
}

#[test]
fn idle_connection_says_one_acknowledgment() {
    let mut pair = Pair::established();
    let hard = pair.server().tcb.hard();
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.client().take_sent();
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.server().take_sent().len(), 1);
    assert_eq!(pair.client().take_sent().len(), 0, "and needs no answer");
}

#[test]
fn client_that_has_more_than_we_know_moves_us_on() {
    let mut pair = Pair::established();
    let hard = pair.server().tcb.hard();
    let down = pattern(300_000, 1);
    pair.server().write(&down);
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 300_000);
    pair.run_for(Duration::from_secs(1));
    pair.take_over(&hard, false);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.server().tcb.acked(), 300_000);
    assert_eq!(pair.server().tcb.bytes_in_flight(), 0);
    let more = pattern(1000, 2);
    pair.server().write(&more);
    pair.run_for(Duration::from_millis(100));
    assert!(pair.client().input[300_000..] == more);
}

#[test]
fn fin_that_the_client_has_is_not_sent_again() {
    let mut pair = Pair::established();
    pair.server().write(b"bye");
    pair.server().tcb.finish();
    let hard = pair.server().tcb.hard();
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.client().tcb.state(), State::CloseWait);
    pair.take_over(&hard, true);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.server().tcb.state(), State::FinWait2);
    pair.client().tcb.finish();
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.server().tcb.state(), State::TimeWait);
    assert!(pair.client().tcb.closed());
}

#[test]
fn handshake_in_flight_completes() {
    let mut pair = Pair::opening(Start::default());
    pair.flush();
    pair.wire.clear();
    let hard = pair.server().tcb.hard();
    pair.take_over(&hard, false);
    pair.client().write(b"hello");
    pair.run_until(|pair| pair.ends[SERVER].input == b"hello");
    assert_eq!(dropped(&pair.ends[CLIENT]), []);
}

#[test]
fn every_state_resumes() {
    let pair = Pair::established();
    let base = pair.ends[SERVER].tcb.hard();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let state = |hard: Hard| Tcb::resume(&settings, pair.now, &hard).state();
    let fins = |peer_fin, fin_acked| Hard { peer_fin, fin_acked, received: 9, ..base.clone() };
    assert_eq!(state(fins(false, false)), State::Established);
    assert_eq!(state(fins(true, false)), State::CloseWait);
    assert_eq!(state(fins(false, true)), State::FinWait2);
    assert_eq!(state(fins(true, true)), State::TimeWait);
    assert_eq!(state(Hard { handshake_done: false, ..base.clone() }), State::SynReceived);
    let syn_sent = Hard { handshake_done: false, syn_received: false, ..base.clone() };
    assert_eq!(state(syn_sent), State::SynSent);
}

/// The next standby is told of it, and what follows comes behind the FIN: a peer takes nothing that
/// lies in front of what it has.
#[test]
fn what_the_client_has_acknowledged_stays_acknowledged_at_the_next_takeover() {
    let pair = Pair::established();
    let base = pair.ends[SERVER].tcb.hard();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    for peer_fin in [false, true] {
        let hard = Hard { peer_fin, fin_acked: true, received: 9, acked: 20, ..base.clone() };
        let mut tcb = Tcb::resume(&settings, pair.now, &hard);
        tcb.set_output_end(20);
        tcb.finish();
        assert_eq!((tcb.hard().fin_acked, tcb.hard().acked), (true, 20), "{peer_fin}");
        tcb.nudge(pair.now);
        let said = tcb.poll_transmit(pair.now, &mut |_| 0).expect("the path is good");
        assert_eq!((said.seq, said.len()), (hard.iss.add(22), 0), "{peer_fin}");
    }
}

#[test]
fn output_acknowledged_before_the_handshake_was_told_is_believed() {
    let mut pair = Pair::opening(Start::default());
    pair.flush();
    let hard = pair.server().tcb.hard();
    assert!(!hard.handshake_done);
    let down = pattern(50_000, 1);
    pair.server().write(&down);
    pair.run_until(|pair| pair.ends[CLIENT].input.len() >= 1000);
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.run_for(Duration::from_secs(3));
    let resets =
        pair.server().take_sent().iter().filter(|p| p.head.flags.contains(Flags::RST)).count();
    assert_eq!((resets, pair.ends[CLIENT].tcb.state()), (0, State::Established));
}

/// The predecessor knew of a larger window than we were told, and filled it. All but the first
/// segment of that arrived, so the client's next acknowledgment is ours, and the one after it leaps.
#[test]
fn acknowledgment_beyond_the_window_we_were_told_of_is_believed() {
    let mut pair = Pair::established();
    let down = pattern(30_000, 1);
    pair.server().write(&down);
    let hard = Hard { snd_wnd: 924, ..pair.server().tcb.hard() };
    pair.flush();
    let first = pair.server().tcb.seq_of(0);
    pair.wire.retain(|(.., packet)| packet.head.seq != first);
    pair.server().dead = true;
    pair.run_for(Duration::from_millis(50));
    // All is lost until a timeout: then one segment goes out, and no more until it is answered.
    pair.cut[CLIENT] = true;
    pair.take_over(&hard, false);
    pair.run_for(Duration::from_millis(1500));
    pair.cut[CLIENT] = false;
    pair.run_for(Duration::from_secs(30));
    assert!(pair.client().input == down, "{} of 30000", pair.ends[CLIENT].input.len());
}

/// I4: whoever asks a client where it is, to reset it, goes back on no acknowledgment and no window;
/// and the client takes nothing from it but answers.
#[test]
fn a_question_takes_back_nothing_that_was_said() {
    for said in [0, 1, 5000, 300_000] {
        let mut pair = Pair::established();
        pair.client().write(&pattern(said, 1));
        pair.server().write(&pattern(20_000, 2));
        pair.run_for(Duration::from_millis(400));
        let (now, server) = (pair.now, &pair.ends[SERVER].tcb);
        let question = farewell(&server.settings, &server.hard(), now);
        assert_eq!(question.ack, server.rcv_seq_of(server.acknowledged()), "{said} said");
        let window = u64::from(question.window) << server.rcv_scale;
        assert!(server.acknowledged() + window >= server.rcv.edge, "{said} said: {window}");
        let segment = Segment {
            seq: question.seq,
            ack: question.ack,
            flags: question.flags,
            window: question.window,
            options: question.options.clone(),
            marked: false,
            payload: &[],
        };
        let verdict = pair.client().receive(now, &segment);
        assert_eq!(verdict, Verdict::Dropped(DropReason::Sequence), "{said} said");
        let answer = pair.client().poll(now).expect("an answer").head;
        assert_eq!(answer.seq, pair.ends[SERVER].tcb.rcv_seq_of(said as u64), "where it is");
    }
}

/// Its predecessor may have shown the client a window that ours could not hold (I4).
#[test]
fn an_edge_that_was_advertised_is_not_taken_back_by_a_smaller_buffer() {
    let pair = Pair::established();
    let base = pair.ends[SERVER].tcb.hard();
    let small = Settings { receive_buffer: 16_384, ..Settings::default() };
    for received_edge in [1_000_000, 200_000] {
        let hard = Hard { received: 100_000, consumed: 100_000, received_edge, ..base.clone() };
        let mut tcb = Tcb::resume(&Arc::new(small.clone()), pair.now, &hard);
        tcb.nudge(pair.now);
        let said = tcb.poll_transmit(pair.now, &mut |_| 0).expect("the path is good");
        let edge = 100_000 + (u64::from(said.window) << hard.rcv_scale);
        assert!(edge >= received_edge, "{edge} of {received_edge}");
    }
}

/// What was acknowledged is no longer in the window: the room for it is the application's.
#[test]
fn input_that_is_not_consumed_is_not_offered_room_twice() {
    let pair = Pair::established();
    let base = pair.ends[SERVER].tcb.hard();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let hard = Hard { received: 500_000, consumed: 900_000, received_edge: 0, ..base };
    let tcb = Tcb::resume(&settings, pair.now, &hard);
    assert_eq!((tcb.rcv.consumed, tcb.rcv.nxt, tcb.rcv.acked), (500_000, 500_000, 500_000));
}

/// Its client would ask for a sign of life, too.
fn only_the_server_asks() -> Pair {
    let client = Settings { keepalive: None, ..Settings::default() };
    Pair::established_with(Start { client, ..Start::default() })
}

#[test]
fn a_carried_connection_that_says_nothing_is_probed_and_given_up_in_the_end() {
    let mut pair = only_the_server_asks();
    let keepalive = pair.ends[SERVER].tcb.settings.keepalive.expect("by default");
    let hard = pair.server().tcb.hard();
    pair.take_over(&hard, false);
    pair.run_for(Duration::from_secs(1));
    pair.server().take_sent();
    pair.cut[CLIENT] = true;
    pair.run_for(keepalive.idle + Duration::from_secs(1));
    assert_eq!(pair.server().take_sent().len(), 1, "a probe");
    pair.run_for(keepalive.interval * (u32::from(keepalive.probes) + 1));
    assert!(pair.server().tcb.closed());
}

#[test]
fn a_window_that_was_shut_is_probed_at_once() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(5000, 1));
    let hard = Hard { snd_wnd: 0, ..pair.server().tcb.hard() };
    pair.flush();
    pair.wire.clear();
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.flush();
    let sent: Vec<usize> = pair.server().take_sent().iter().map(|one| one.bytes.len()).collect();
    assert_eq!(sent, [1], "it may be open by now");
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 5000);
}

/// It has waited in vain for nearly as long as it may when the address is taken away and comes back
/// (`engine::takeover::take_back`): who could answer is asked anew.
#[test]
fn patience_begins_anew_at_a_nudge() {
    let settings = Settings { data_retries: 200, ..Settings::default() };
    let start = Start { server: settings.clone(), ..Start::default() };
    let mut pair = Pair::established_with(start);
    pair.server().write(&pattern(5000, 1));
    pair.cut[CLIENT] = true;
    let most = settings.user_timeout;
    pair.run_for(most - Duration::from_secs(10));
    assert!(!pair.server().tcb.closed());
    let now = pair.now;
    pair.server().take_sent();
    pair.server().tcb.nudge(now);
    pair.flush();
    let said: usize = pair.server().take_sent().iter().map(|one| one.bytes.len()).sum();
    assert_eq!((said, pair.server().tcb.snd.backoff), (5000, 0), "all of it, at once");
    pair.run_for(Duration::from_secs(3));
    assert!(pair.server().take_sent().len() >= 2, "and soon again");
    pair.run_for(Duration::from_secs(60));
    assert!(!pair.server().tcb.closed(), "given up after a minute");
    pair.cut[CLIENT] = false;
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 5000);
}

/// The same of a peer that was asked for a sign of life.
#[test]
fn a_nudge_counts_as_a_sign_of_life() {
    let mut pair = only_the_server_asks();
    let keepalive = pair.ends[SERVER].tcb.settings.keepalive.expect("by default");
    pair.cut[CLIENT] = true;
    pair.run_for(keepalive.idle - Duration::from_secs(10));
    let now = pair.now;
    pair.server().tcb.nudge(now);
    pair.run_for(Duration::from_secs(1));
    pair.server().take_sent();
    pair.run_for(Duration::from_secs(60));
    assert_eq!(pair.server().take_sent().len(), 0);
}

/// Whatever the client says first is later than all that we know of its window.
#[test]
fn the_first_window_that_is_heard_after_a_takeover_counts() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(200_000, 1));
    let hard = Hard { snd_wnd: 1, ..pair.server().tcb.hard() };
    pair.flush();
    pair.wire.clear();
    pair.take_over(&hard, false);
    pair.run_for(Duration::from_millis(60));
    assert!(pair.ends[SERVER].tcb.snd.wnd > 100_000, "{}", pair.ends[SERVER].tcb.snd.wnd);
}

#[test]
fn what_was_agreed_on_is_agreed_on_after_a_takeover() {
    let pair = Pair::established();
    let base = pair.ends[SERVER].tcb.hard();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    for bit in [false, true] {
        let hard = Hard {
            sack: bit,
            ecn: bit,
            timestamps: bit,
            active_open: bit,
            snd_scale: 3,
            rcv_scale: 9,
            peer_mss: 900,
            ts_recent: 88,
            ts_offset: 99,
            acked: 1000,
            snd_wnd: 7000,
            received: 2000,
            consumed: 1500,
            received_edge: 1 << 40,
            mtu: 1300,
            srtt: Duration::from_micros(12_345),
            ..base.clone()
        };
        assert_eq!(Tcb::resume(&settings, pair.now, &hard).hard(), hard);
    }
}

/// What the client answers to its predecessor's last words, and what that lost, is no loss of ours:
/// RFC 6582 §3.2 without SACK.
#[test]
fn duplicates_for_what_a_predecessor_sent_start_no_recovery() {
    let client = Settings { sack: false, ..Settings::default() };
    let mut pair = Pair::established_with(Start { client, ..Start::default() });
    pair.server().write(&pattern(100_000, 1));
    let hard = pair.server().tcb.hard();
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.flush();
    let first = pair.server().tcb.seq_of(0);
    pair.wire.retain(|(.., packet)| packet.head.seq != first);
    pair.run_for(Duration::from_millis(100));
    let sent = pair.server().take_sent();
    let again = sent.iter().skip(1).filter(|packet| packet.head.seq == first).count();
    assert_eq!(again, 0, "before its timeout");
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 100_000);
}

/// A segment that begins below what we have, and goes beyond it: its window is news.
#[test]
fn the_window_of_a_segment_that_repeats_old_text_is_news_after_a_takeover() {
    let pair = Pair::established();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let base = pair.ends[SERVER].tcb.hard();
    let hard = Hard { received: 100, consumed: 100, timestamps: false, snd_wnd: 9000, ..base };
    let mut tcb = Tcb::resume(&settings, pair.now, &hard);
    let segment = crate::wire::Segment {
        seq: hard.irs.add(1 + 50),
        ack: hard.iss.add(1),
        flags: Flags::ACK,
        window: 77,
        options: crate::wire::TcpOptions::default(),
        marked: false,
        payload: &[0; 100],
    };
    tcb.on_segment(pair.now, &segment, &mut |_| ());
    assert_eq!((tcb.received(), tcb.peer_window()), (150, 77 << hard.snd_scale));
}

fn said(hard: &Hard, ack: u32, flags: Flags, payload: &'static [u8]) -> Segment<'static> {
    Segment {
        seq: if flags.contains(Flags::SYN) { hard.irs } else { hard.irs.add(1) },
        ack: hard.iss.add(1).add(ack),
        flags,
        window: 1000,
        options: crate::wire::TcpOptions::default(),
        marked: false,
        payload,
    }
}

/// A peer of ours that was called before the takeover, and has not answered, acknowledges the SYN and
/// nothing else, whatever there is to send.
#[test]
fn nothing_but_the_syn_is_acknowledged_before_the_other_end_is_known() {
    let pair = Pair::established();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let base = pair.ends[SERVER].tcb.hard();
    let hard =
        Hard { active_open: true, handshake_done: false, syn_received: false, acked: 0, ..base };
    for (ack, state) in [(1, State::SynSent), (1000, State::SynSent), (0, State::Established)] {
        let mut tcb = Tcb::resume(&settings, pair.now, &hard);
        tcb.set_output_end(5000);
        tcb.nudge(pair.now);
        tcb.poll_transmit(pair.now, &mut |_| 0).expect("the SYN, once more");
        tcb.on_segment(pair.now, &said(&hard, ack, Flags::SYN | Flags::ACK, &[]), &mut |_| ());
        assert_eq!(tcb.state(), state, "{ack} bytes beyond the SYN");
    }
}

/// RFC 5961 §5: as far below as the largest window that was ever offered, which a predecessor heard.
#[test]
fn a_late_acknowledgment_is_as_old_as_the_window_that_was_offered() {
    let pair = Pair::established();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let base = pair.ends[SERVER].tcb.hard();
    let hard = Hard { acked: 500_000, snd_wnd: 300_000, timestamps: false, ..base };
    for (ack, taken) in [(200_000, 10), (199_999, 0)] {
        let mut tcb = Tcb::resume(&settings, pair.now, &hard);
        tcb.set_output_end(500_000);
        tcb.nudge(pair.now);
        tcb.on_segment(pair.now, &said(&hard, ack, Flags::ACK, &[0; 10]), &mut |_| ());
        assert_eq!(tcb.received() - hard.received, taken, "an ACK of {ack}");
    }
}

#[test]
fn a_fin_that_was_acknowledged_stays_so_whatever_the_application_says() {
    let pair = Pair::established();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let hard = Hard { fin_acked: true, acked: 20, ..pair.ends[SERVER].tcb.hard() };
    assert!(Tcb::resume(&settings, pair.now, &hard).fin_acked());
}

/// What a peer of another version may send: it is safe to go on with.
#[test]
fn what_nobody_should_say_of_a_connection_is_cut_to_what_can_be() {
    let pair = Pair::established();
    let settings = Arc::clone(&pair.ends[SERVER].tcb.settings);
    let base = pair.ends[SERVER].tcb.hard();
    let odd = Hard {
        peer_mss: 0,
        snd_scale: 99,
        rcv_scale: 99,
        snd_wnd: u32::MAX,
        received: 5,
        consumed: 9,
        ..base.clone()
    };
    let mut tcb = Tcb::resume(&settings, pair.now, &odd);
    let hard = tcb.hard();
    assert!(hard.peer_mss >= 64 && hard.snd_scale == 14 && hard.rcv_scale == 14);
    assert!(hard.snd_wnd <= 1 << 30 && hard.consumed == 5);
    tcb.set_output_end(1000);
    tcb.set_horizon(Horizon::OPEN);
    tcb.nudge(pair.now);
    let mut all = |range: core::ops::Range<u64>| (range.end - range.start) as usize;
    let sent = tcb.poll_transmit(pair.now, &mut all).expect("something fits");
    assert!(sent.payload >= 20, "{sent:?}");
}
