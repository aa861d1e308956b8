//! What single segments, and silence, may do to a connection, rule by rule.

use super::pair::{Pair, SERVER, Start, pattern};
use super::steps::{Lone, segment};
use super::waits::{answers, hears, ms, says, times_out};
use crate::tcp::{DropReason, Horizon, Settings, State, Tcb, Verdict};
use crate::time::Duration;
use crate::wire::{Flags, Segment};

const FIN: Flags = Flags::FIN.union(Flags::ACK);
const WIDE: u64 = 1 << 17;

/// The acknowledged offsets of what is said now.
fn acks(lone: &mut Lone) -> Vec<u32> {
    lone.answers().into_iter().map(|(_, _, ack, _)| ack).collect()
}

// RFC 9293 §3.10.7.4.

/// RFC 5961 §3. What the horizon holds back is received all the same.
#[test]
fn a_reset_is_exact_at_what_was_received_and_at_what_was_acknowledged() {
    for (at, exact) in [(0, true), (4, true), (2, false)] {
        let mut lone = Lone::established();
        lone.end.tcb.set_horizon(Horizon { opened: true, received: 0, output: 0 });
        assert_eq!(lone.hears(0, 0, Flags::ACK, b"held"), Verdict::Accepted);
        let closed = matches!(lone.hears(at, 0, Flags::RST, b""), Verdict::Closed(_));
        assert_eq!(closed, exact, "at {at}");
    }
}

#[test]
fn another_syn_does_not_repeat_a_handshake() {
    let mut lone = Lone::half_open();
    lone.answers();
    let again = lone.hears(u32::MAX, 0, Flags::SYN, b"");
    assert_eq!(again, Verdict::Dropped(DropReason::SynRepeated));
    let other = lone.hears(5, 0, Flags::SYN, b"");
    assert_eq!(other, Verdict::Dropped(DropReason::SynInConnection));
}

/// RFC 9293 §3.10.7.4, fifth check, SYN-RECEIVED.
#[test]
fn who_has_not_heard_our_syn_is_no_peer() {
    for ack in [u32::MAX, u32::MAX - 70_000, 1] {
        let mut lone = Lone::half_open();
        lone.answers();
        let verdict = lone.hears(0, ack, Flags::ACK, b"");
        assert_eq!(verdict, Verdict::Dropped(DropReason::Handshake), "{ack}");
        assert_eq!(lone.end.tcb.state(), State::SynReceived);
        let said = lone.answers();
        assert_eq!(said.iter().map(|of| (of.0, of.1)).collect::<Vec<_>>(), [(Flags::RST, ack)]);
    }
}

/// RFC 5961 §5.
#[test]
fn impossible_acknowledgments_are_answered() {
    for ack in [7, u32::MAX - 70_000] {
        let mut lone = Lone::established();
        assert!(matches!(lone.hears(0, ack, Flags::ACK, b""), Verdict::Dropped(_)));
        assert_eq!(acks(&mut lone), [0], "{ack}");
    }
}

#[test]
fn text_behind_the_end_is_answered_and_not_taken() {
    let mut lone = Lone::at(State::CloseWait);
    assert_eq!(lone.hears(1, 0, Flags::ACK, b"more"), Verdict::Accepted);
    assert_eq!(acks(&mut lone), [1]);
    assert!(lone.end.input.is_empty());
}

/// What the peer still sends keeps FIN-WAIT-2 open.
#[test]
fn fin_wait_2_lasts_as_long_as_something_comes() {
    let mut lone = Lone::at(State::FinWait2);
    let patience = Settings::default().fin_wait_2;
    lone.now = lone.now + patience / 2;
    lone.hears(0, 1, Flags::ACK, b"on");
    assert_eq!(lone.end.tcb.timers.wait, lone.now + patience);
}

/// The end of input is where it was first said to be, and within the window.
#[test]
fn a_fin_is_believed_once_and_within_the_window() {
    let mut lone = Lone::established();
    lone.hears(6, 0, FIN, b"");
    assert_eq!(acks(&mut lone), [0], "what comes out of order is answered at once");
    lone.hears(3, 0, FIN, b"");
    lone.hears(0, 0, Flags::ACK, b"123");
    assert_eq!(lone.end.tcb.state(), State::Established, "another end is none");
    lone.answers();
    lone.hears(3, 0, Flags::ACK, b"456");
    assert_eq!(lone.end.tcb.state(), State::CloseWait);
    assert_eq!(acks(&mut lone), [7], "and so is the end itself");
    for (at, state) in [(10_000, State::CloseWait), (10_001, State::Established)] {
        let mut lone = Lone::established();
        lone.end.consumes = false;
        let text = pattern(at as usize - 9000, 1);
        lone.hears(9000, 0, FIN, &text);
        for part in 0..9 {
            lone.hears(part * 1000, 0, Flags::ACK, &pattern(1000, 1));
        }
        assert_eq!(lone.end.tcb.state(), state, "at {at}");
    }
}

/// RFC 9293 §3.10.7.3, first check.
#[test]
fn an_answer_to_another_syn_is_reset() {
    let mut pair = Pair::opening(Start::default());
    let now = pair.now;
    let answer = segment(0, 0, Flags::SYN | Flags::ACK, b"");
    let ack = answer.ack;
    assert_eq!(pair.client().receive(now, &answer), Verdict::Dropped(DropReason::Handshake));
    let said = pair.client().poll(now).expect("a reset").head;
    assert_eq!((said.flags, said.seq), (Flags::RST, ack));
}

/// RFC 9293 §3.10.7.4: the window is that of the latest segment, by its number.
#[test]
fn an_older_segment_does_not_set_the_window() {
    let with = |window, of| Segment { window, ..of };
    let mut lone = Lone::established();
    let says = |lone: &mut Lone, window, seq, payload| {
        lone.end.receive(lone.now, &with(window, segment(seq, 0, Flags::ACK, payload)));
        lone.end.tcb.peer_window()
    };
    assert_eq!(says(&mut lone, 5000, 0, b""), 5000);
    assert_eq!(says(&mut lone, 6000, 10, b"later"), 6000);
    assert_eq!(says(&mut lone, 1000, 0, b"early"), 6000, "it was overtaken");
    // Unless it acknowledges something new.
    lone.end.write(b"output");
    lone.answers();
    lone.end.receive(lone.now, &with(2000, segment(5, 3, Flags::ACK, b"")));
    assert_eq!(lone.end.tcb.peer_window(), 2000);
    lone.end.receive(lone.now, &with(4000, segment(20, 0, Flags::ACK, b"")));
    assert_eq!(lone.end.tcb.peer_window(), 2000, "an old acknowledgment");
}

// Patience.

fn patient(user_timeout: Duration, data_retries: u8) -> Pair {
    let server = Settings { user_timeout, data_retries, ..Settings::default() };
    Pair::established_with(Start { server, ..Start::default() })
}

/// Alarms go off until the server gives up. How often it spoke, and for how long.
fn gives_up(pair: &mut Pair) -> (usize, Duration) {
    let (start, mut said) = (pair.now, 0);
    loop {
        said += answers(pair).iter().filter(|(_, length)| *length > 0).count();
        let Some(due) = pair.server().tcb.deadline() else { return (said, pair.now.since(start)) };
        pair.now = due;
        if matches!(pair.server().tcb.on_timer(due), Verdict::Closed(_)) {
            return (said, due.since(start));
        }
    }
}

/// RFC 9293 MUST-20, either by time or by count.
#[test]
fn patience_ends_by_time_and_by_count() {
    let mut pair = patient(Duration::from_secs(5), u8::MAX);
    pair.server().write(&pattern(1448, 1));
    let (_, lasted) = gives_up(&mut pair);
    assert!((ms(5000)..ms(20_000)).contains(&lasted), "{lasted:?}");
    let mut pair = patient(Duration::from_secs(3600), 3);
    pair.server().write(&pattern(1448, 1));
    assert_eq!(gives_up(&mut pair).0, 1 + 1 + 3, "once, a tail probe, and three times again");
}

#[test]
fn progress_renews_patience() {
    let mut pair = patient(Duration::from_secs(2), 3);
    says(&mut pair, 10 * 1448);
    pair.wire.clear();
    for segment in 1..9 {
        times_out(&mut pair);
        pair.now = pair.now + ms(700);
        hears(&mut pair, segment * 1448, WIDE, &[]);
        answers(&mut pair);
        assert!(pair.now.since(pair.server().tcb.snd.progress_at) < ms(1));
        assert_eq!(pair.server().tcb.snd.repeats, 0);
        pair.server().tcb.snd.backoff = 0;
    }
    assert_eq!(pair.server().tcb.state(), State::Established);
}

// RFC 6582.

/// Each partial acknowledgment tells the next hole, which is filled at once.
#[test]
fn without_sack_each_hole_tells_of_the_next() {
    let settings = || Settings { sack: false, ..Settings::default() };
    let start = Start { client: settings(), server: settings(), ..Start::default() };
    let mut pair = Pair::established_with(start);
    let size: u64 = pair.ends[SERVER].tcb.mss().into();
    says(&mut pair, 10 * size as usize);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    hears(&mut pair, size, WIDE, &[]);
    for _ in 0..3 {
        hears(&mut pair, size, WIDE, &[]);
    }
    assert_eq!(answers(&mut pair), [(size, size as usize)]);
    for hole in [3, 6] {
        pair.now = pair.now + ms(10);
        hears(&mut pair, hole * size, WIDE, &[]);
        assert_eq!(answers(&mut pair), [(hole * size, size as usize)], "at once, and nothing else");
    }
    pair.now = pair.now + ms(10);
    hears(&mut pair, 10 * size, WIDE, &[]);
    assert_eq!((pair.server().tcb.bytes_in_flight(), pair.server().tcb.snd.duplicates), (0, 0));
}

// RFC 8985 §6.2 step 4.

/// A gap is a loss at once when three segments behind it are held, or more than two segments' bytes.
#[test]
fn three_segments_behind_a_gap_mean_a_loss_at_once() {
    let sent_again = |size: usize, held: &[&[(u64, u64)]]| {
        let mut pair = Pair::established();
        for _ in 0..6 {
            says(&mut pair, size);
        }
        pair.wire.clear();
        pair.now = pair.now + ms(10);
        held.iter().for_each(|held| hears(&mut pair, 0, WIDE, held));
        answers(&mut pair).first() == Some(&(0, size))
    };
    assert!(!sent_again(100, &[&[(100, 200)], &[(100, 300)]]));
    assert!(sent_again(100, &[&[(100, 200)], &[(100, 300)], &[(100, 400)]]));
    assert!(!sent_again(1448, &[&[(1448, 3 * 1448)]]));
    assert!(sent_again(1448, &[&[(1448, 4 * 1448)]]));
}

// Takeover.

/// The peer's end of input was taken before: nothing counts it a second time.
#[test]
fn an_heir_counts_the_end_of_input_once() {
    let lone = Lone::at(State::CloseWait);
    let settings = lone.end.tcb.settings.clone();
    let mut tcb = Tcb::resume(&settings, lone.now, &lone.end.tcb.hard());
    tcb.set_horizon(Horizon::OPEN);
    tcb.nudge(lone.now);
    let received = tcb.received();
    let word = segment(1, 0, Flags::ACK, b"");
    assert_eq!(tcb.on_segment(lone.now, &word, &mut |_| ()), Verdict::Accepted);
    assert_eq!((tcb.received(), tcb.state()), (received, State::CloseWait));
}

/// Whatever the peer's numbers are, its next word sets the window.
#[test]
fn an_heir_believes_the_next_window() {
    for iss in [1000, 0x9000_0000] {
        let mut pair = Pair::established_with(Start { iss: [iss, 5000], ..Start::default() });
        let hard = pair.server().tcb.hard();
        pair.take_over(&hard, false);
        hears(&mut pair, 0, 4096, &[]);
        assert_eq!(pair.server().tcb.peer_window(), 4096);
    }
}

/// An address that comes back acts at once, whatever was waited for: with the window shut it probes, and
/// again after a timeout.
#[test]
fn a_nudge_waits_for_no_earlier_timeout() {
    let mut pair = Pair::established();
    says(&mut pair, 1448);
    pair.wire.clear();
    hears(&mut pair, 0, 0, &[]);
    pair.server().tcb.timers.resend = pair.now + Duration::from_secs(60);
    let now = pair.now;
    pair.server().tcb.nudge(now);
    assert_eq!(answers(&mut pair), [(0, 1)]);
    let due = pair.server().tcb.deadline().expect("it waits for an answer");
    assert!(due.since(now) < Duration::from_secs(2), "{:?}", due.since(now));
}
