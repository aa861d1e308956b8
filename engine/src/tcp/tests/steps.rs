//! SEGMENT ARRIVES, check by check: what each state answers to one segment.

use super::pair::{CLIENT, End, Packet, Pair, SERVER, Start, pattern};
use crate::tcp::{
    CloseCause, DropReason, Horizon, PathSignal, Settings, State, Tcb, Verdict, reset_for,
};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum, TcpOptions, Timestamps};
use std::sync::Arc;

/// An end whose peer is this test: no timestamps, so segments are three numbers.
pub(super) struct Lone {
    pub(super) end: End,
    pub(super) now: Instant,
}

const IRS: SeqNum = SeqNum(100);
const ISS: SeqNum = SeqNum(u32::MAX - 2);

pub(super) fn segment(seq: u32, ack: u32, flags: Flags, payload: &[u8]) -> Segment<'_> {
    Segment {
        seq: IRS.add(1).add(seq),
        ack: ISS.add(1).add(ack),
        flags,
        window: 10_000,
        options: TcpOptions::default(),
        marked: false,
        payload,
    }
}

impl Lone {
    pub(super) fn half_open() -> Self {
        let now = Instant::from_millis(5000);
        let settings = Arc::new(Settings { receive_buffer: 10_000, ..Settings::default() });
        let options = TcpOptions { mss: Some(1000), sack_permitted: true, ..TcpOptions::default() };
        let syn = Segment { options, ..segment(u32::MAX, 0, Flags::SYN, b"") };
        let tcb = Tcb::accept(&settings, now, &syn, ISS, 0, 1500, false);
        Self { end: End::new(tcb), now }
    }

    pub(super) fn established() -> Self {
        let mut lone = Self::half_open();
        lone.answers();
        assert_eq!(lone.hears(0, 0, Flags::ACK, b""), Verdict::Accepted);
        assert_eq!(lone.end.tcb.state(), State::Established);
        lone
    }

    /// A connection brought to `state` by the shortest way.
    pub(super) fn at(state: State) -> Self {
        let mut lone = Self::established();
        let fin = Flags::FIN | Flags::ACK;
        match state {
            State::FinWait1 => lone.finishes(),
            State::FinWait2 => {
                lone.finishes();
                lone.hears(0, 1, Flags::ACK, b"");
            }
            State::CloseWait => drop(lone.hears(0, 0, fin, b"")),
            State::Closing => {
                lone.finishes();
                lone.hears(0, 0, fin, b"");
            }
            State::LastAck => {
                lone.hears(0, 0, fin, b"");
                lone.finishes();
            }
            State::TimeWait => {
                lone.finishes();
                lone.hears(0, 1, fin, b"");
            }
            _ => (),
        }
        lone.answers();
        assert_eq!(lone.end.tcb.state(), state);
        lone
    }

    pub(super) fn finishes(&mut self) {
        self.end.tcb.finish();
        self.answers();
    }

    pub(super) fn hears(&mut self, seq: u32, ack: u32, flags: Flags, payload: &[u8]) -> Verdict {
        self.end.receive(self.now, &segment(seq, ack, flags, payload))
    }

    /// Everything the end has to say: flags, offset, acknowledged offset, payload length.
    pub(super) fn answers(&mut self) -> Vec<(Flags, u32, u32, usize)> {
        let packets: Vec<Packet> = core::iter::from_fn(|| self.end.poll(self.now)).collect();
        let told = |packet: &Packet| {
            let head = &packet.head;
            let (seq, ack) = (head.seq.since(ISS.add(1)), head.ack.since(IRS.add(1)));
            (head.flags, seq, ack, packet.bytes.len())
        };
        packets.iter().map(told).collect()
    }
}

const SYNCHRONIZED: [State; 7] = [
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

#[test]
fn first_check_drops_what_is_outside_the_window() {
    let mut lone = Lone::established();
    let cases: [(u32, &[u8], Verdict, usize); 6] = [
        (0, b"", Verdict::Accepted, 0),
        (10_000, b"", Verdict::Accepted, 0),
        (10_001, b"", Verdict::Dropped(DropReason::Sequence), 1),
        (10_001, b"x", Verdict::Dropped(DropReason::Sequence), 1),
        (u32::MAX, b"", Verdict::Dropped(DropReason::Sequence), 1),
        (u32::MAX, b"x", Verdict::Dropped(DropReason::Sequence), 1),
    ];
    for (seq, payload, verdict, answers) in cases {
        assert_eq!(lone.hears(seq, 0, Flags::ACK, payload), verdict, "{seq} {payload:?}");
        assert_eq!(lone.answers().len(), answers, "{seq} {payload:?}");
    }
    assert!(lone.end.input.is_empty());
}

#[test]
fn second_check_believes_only_the_exact_reset() {
    for state in SYNCHRONIZED {
        let fin = u32::from(matches!(
            state,
            State::CloseWait | State::Closing | State::LastAck | State::TimeWait
        ));
        let mut lone = Lone::at(state);
        let doubtful = lone.hears(fin + 5, 0, Flags::RST, b"");
        assert_eq!(lone.hears(20_000, 0, Flags::RST, b""), Verdict::Dropped(DropReason::Sequence));
        let challenged = lone.answers().len();
        let exact = lone.hears(fin, 0, Flags::RST, b"");
        if state == State::TimeWait {
            let dropped = Verdict::Dropped(DropReason::ResetInTimeWait);
            let done = Verdict::Closed(CloseCause::Done);
            assert_eq!((doubtful, challenged, exact), (dropped, 0, done));
        } else {
            assert_eq!(doubtful, Verdict::Dropped(DropReason::ResetDoubtful), "{state}");
            assert_eq!(challenged, 1, "{state}");
            assert_eq!(exact, Verdict::Closed(CloseCause::Reset), "{state}");
        }
        assert_eq!(lone.answers(), [], "a reset is never answered");
    }
}

#[test]
fn no_reset_ends_time_wait_where_rfc_1337_is_asked_for() {
    let mut lone = Lone::at(State::TimeWait);
    Arc::make_mut(&mut lone.end.tcb.settings).rfc1337 = true;
    let exact = lone.hears(1, 0, Flags::RST, b"");
    assert_eq!(exact, Verdict::Dropped(DropReason::ResetInTimeWait));
    assert_eq!(lone.end.tcb.state(), State::TimeWait);
}

/// Its port is used again with lower numbers, by a client that knows nothing of what was before.
#[test]
fn a_client_that_begins_anew_with_lower_numbers_gets_rid_of_time_wait() {
    let mut lone = Lone::at(State::TimeWait);
    assert_eq!(lone.end.tcb.reuse_allowed(&segment(u32::MAX - 5000, 0, Flags::SYN, b"")), None);
    let lower = lone.hears(u32::MAX - 5000, 0, Flags::SYN, b"");
    assert_eq!(lower, Verdict::Dropped(DropReason::SynInConnection));
    let answers = lone.answers();
    assert_eq!(answers, [(Flags::ACK, 1, 1, 0)]);
    // RFC 9293 §3.10.7.3: it is no acknowledgment of the SYN.
    assert_eq!(lone.hears(answers[0].2, 0, Flags::RST, b""), Verdict::Closed(CloseCause::Done));
}

#[test]
fn reset_with_the_ack_we_showed_is_exact_too() {
    let mut lone = Lone::established();
    lone.end.tcb.set_horizon(Horizon { opened: true, received: 0, output: 0 });
    lone.hears(0, 0, Flags::ACK, &pattern(2000, 0));
    assert_eq!(lone.answers(), [], "the horizon holds the ACK");
    assert_eq!(lone.hears(0, 0, Flags::RST, b""), Verdict::Closed(CloseCause::Reset));
}

#[test]
fn fourth_check_challenges_a_syn_at_a_limited_rate() {
    for state in SYNCHRONIZED {
        let mut lone = Lone::at(state);
        let mut answered = 0;
        for seq in 0..50 {
            let verdict = lone.hears(seq * 1000, 0, Flags::SYN, b"");
            assert_eq!(verdict, Verdict::Dropped(DropReason::SynInConnection), "{state}");
            answered += lone.answers().len();
        }
        assert_eq!(answered, 10, "{state}");
        assert_eq!(lone.end.tcb.state(), state);
    }
}

#[test]
fn fifth_check_challenges_impossible_acknowledgments() {
    let mut lone = Lone::established();
    let unsent = lone.hears(0, 1, Flags::ACK, b"x");
    assert_eq!(unsent, Verdict::Dropped(DropReason::AckUnsent));
    let ancient = lone.hears(0, 0u32.wrapping_sub(70_000), Flags::ACK, b"x");
    assert_eq!(ancient, Verdict::Dropped(DropReason::AckAncient));
    let missing = lone.hears(0, 0, Flags::empty(), b"x");
    assert_eq!(missing, Verdict::Dropped(DropReason::AckMissing));
    assert_eq!(lone.answers().len(), 1);
    assert!(lone.end.input.is_empty(), "and takes no text from them");
}

#[test]
fn seventh_check_trims_to_the_window() {
    let mut lone = Lone::established();
    lone.end.consumes = false;
    lone.hears(0, 0, Flags::ACK, b"abc");
    lone.hears(1, 0, Flags::ACK, b"bcdef");
    assert_eq!(lone.end.input, b"abcdef");
    let flood = pattern(20_000, 1);
    lone.hears(6, 0, Flags::ACK, &flood);
    assert_eq!(lone.end.input.len(), 10_000, "the rest did not fit");
}

#[test]
fn eighth_check_waits_for_what_precedes_the_fin() {
    let mut lone = Lone::established();
    lone.hears(3, 0, Flags::ACK | Flags::FIN, b"def");
    assert!(!lone.end.tcb.peer_finished());
    assert_eq!(lone.answers(), [(Flags::ACK, 0, 0, 0)]);
    lone.hears(0, 0, Flags::ACK, b"abc");
    assert_eq!(lone.end.input, b"abcdef");
    assert_eq!(lone.end.tcb.state(), State::CloseWait);
    assert_eq!(lone.answers(), [(Flags::ACK, 0, 7, 0)]);
    lone.hears(7, 0, Flags::ACK, b"more");
    assert_eq!(lone.end.input, b"abcdef", "nothing follows a FIN");
}

#[test]
fn acknowledgment_of_our_fin_moves_each_state() {
    let cases = [
        (State::FinWait1, 0, Verdict::Accepted, State::FinWait2),
        (State::Closing, 1, Verdict::Accepted, State::TimeWait),
        (State::LastAck, 1, Verdict::Closed(CloseCause::Done), State::Closed),
    ];
    for (state, seq, verdict, next) in cases {
        let mut lone = Lone::at(state);
        assert_eq!(lone.hears(seq, 1, Flags::ACK, b""), verdict);
        assert_eq!(lone.end.tcb.state(), next);
    }
}

#[test]
fn retransmitted_fin_restarts_time_wait() {
    let mut lone = Lone::at(State::TimeWait);
    lone.now = lone.now + Duration::from_secs(50);
    lone.hears(0, 1, Flags::FIN | Flags::ACK, b"");
    assert_eq!(lone.answers(), [(Flags::ACK, 1, 1, 0)]);
    assert_eq!(lone.end.tcb.deadline(), Some(lone.now + Duration::from_secs(60)));
    lone.now = lone.now + Duration::from_secs(60);
    assert_eq!(lone.end.tcb.on_timer(lone.now), Verdict::Closed(CloseCause::Done));
}

/// A commit, or a write gate, held it back for all of TIME-WAIT.
#[test]
fn time_wait_does_not_end_before_the_fin_is_acknowledged() {
    let mut lone = Lone::at(State::FinWait2);
    lone.answers();
    lone.hears(0, 1, Flags::FIN | Flags::ACK, b"");
    assert_eq!(lone.end.tcb.state(), State::TimeWait);
    lone.now = lone.now + Duration::from_secs(60);
    assert_eq!(lone.end.tcb.on_timer(lone.now), Verdict::Accepted);
    assert_eq!(lone.answers(), [(Flags::ACK, 1, 1, 0)]);
    lone.now = lone.now + Duration::from_secs(60);
    assert_eq!(lone.end.tcb.on_timer(lone.now), Verdict::Closed(CloseCause::Done));
}

#[test]
fn syn_received_repeats_the_syn_ack_and_resets_a_wrong_ack() {
    let mut lone = Lone::half_open();
    let syn_ack = (Flags::SYN | Flags::ACK, u32::MAX, 0, 0);
    assert_eq!(lone.answers(), [syn_ack]);
    let again = lone.hears(u32::MAX, 0, Flags::SYN, b"");
    assert_eq!(again, Verdict::Dropped(DropReason::SynRepeated));
    assert_eq!(lone.answers(), [syn_ack]);
    let wrong = lone.hears(0, 5, Flags::ACK, b"");
    assert_eq!(wrong, Verdict::Dropped(DropReason::Handshake));
    let reset = lone.end.poll(lone.now).unwrap().head;
    assert_eq!((reset.flags, reset.seq), (Flags::RST, ISS.add(6)));
    assert_eq!(lone.end.tcb.state(), State::SynReceived);
}

/// Nothing leaves before the standby knows of the connection. Meanwhile the handshake completes, and
/// the reset for what came before would meet a connection that stands.
#[test]
fn a_reset_that_had_to_wait_is_void_once_the_handshake_is_done() {
    let mut lone = Lone::half_open();
    lone.answers();
    lone.end.tcb.set_horizon(Horizon::SHUT);
    lone.hears(0, 5, Flags::ACK, b"");
    assert_eq!(lone.answers(), [], "the horizon holds the reset");
    assert_eq!(lone.hears(0, 0, Flags::ACK, b""), Verdict::Accepted);
    lone.end.tcb.set_horizon(Horizon::OPEN);
    assert_eq!(lone.answers(), []);
    assert_eq!(lone.end.tcb.state(), State::Established);
}

#[test]
fn syn_ack_is_repeated_with_back_off_and_then_given_up() {
    let mut lone = Lone::half_open();
    let mut sent = lone.answers().len();
    let start = lone.now;
    while let Some(at) = lone.end.tcb.deadline() {
        lone.now = at;
        lone.end.tcb.on_timer(at);
        sent += lone.answers().len();
    }
    assert_eq!(sent, 7);
    assert_eq!(lone.now.since(start), Duration::from_secs(1 + 2 + 4 + 8 + 16 + 32 + 64));
    assert!(lone.end.tcb.closed());
}

#[test]
fn simultaneous_open_connects() {
    let settings = Arc::new(Settings::default());
    let mut pair = Pair::opening(Start::default());
    let now = pair.now;
    pair.ends[SERVER] = End::new(Tcb::connect(&settings, now, SeqNum(9), 0, 1500, false));
    // The first SYN was polled when the pair was made; it crosses the other one.
    let syn = pair.client().take_sent().remove(0);
    pair.flush();
    pair.server().receive(now, &syn.segment());
    pair.client().write(b"a");
    pair.server().write(b"b");
    pair.run_until(|pair| pair.ends.iter().all(|end| end.input.len() == 1));
}

#[test]
fn old_timestamps_are_refused_but_not_after_24_days() {
    let mut pair = Pair::established();
    let now = pair.now;
    let seq = pair.client().tcb.seq_of(0);
    let ack = pair.client().tcb.rcv_seq_of(0);
    let recent = pair.server().tcb.ts_recent();
    let with = |val: Option<u32>| Segment {
        seq,
        ack,
        flags: Flags::ACK,
        window: 100,
        options: TcpOptions {
            timestamps: val.map(|val| Timestamps { val, ecr: 0 }),
            ..TcpOptions::default()
        },
        marked: false,
        payload: b"x",
    };
    let old = with(Some(recent.wrapping_sub(1)));
    let server = pair.server();
    assert_eq!(server.receive(now, &old), Verdict::Dropped(DropReason::Paws));
    let none = with(None);
    assert_eq!(server.receive(now, &none), Verdict::Dropped(DropReason::TimestampMissing));
    let later = now + Duration::from_secs(25 * 24 * 3600);
    assert_eq!(server.receive(later, &old), Verdict::Accepted);
}

#[test]
fn time_wait_yields_to_a_newer_syn_only() {
    let lone = Lone::at(State::TimeWait);
    let syn = |seq| segment(seq, 0, Flags::SYN, b"");
    assert_eq!(lone.end.tcb.reuse_allowed(&syn(0)), None);
    let iss = lone.end.tcb.reuse_allowed(&syn(2)).unwrap();
    assert!(iss.after(ISS.add(10_000)));
    let mut stamped = syn(0);
    stamped.options.timestamps = Some(Timestamps::default());
    assert!(lone.end.tcb.reuse_allowed(&stamped).is_some(), "RFC 6191 §2");
    assert_eq!(Lone::established().end.tcb.reuse_allowed(&syn(2)), None);
}

/// RFC 6191 §2: with timestamps these decide, and the number only between equal ones.
#[test]
fn time_wait_yields_to_a_syn_with_a_later_timestamp_whatever_its_number() {
    let mut lone = Lone::at(State::TimeWait);
    lone.end.tcb.timestamps = true;
    lone.end.tcb.rcv.ts_recent = 1000;
    let yields = |seq, val| {
        let mut syn = segment(seq, 0, Flags::SYN, b"");
        syn.options.timestamps = Some(Timestamps { val, ecr: 0 });
        lone.end.tcb.reuse_allowed(&syn).is_some()
    };
    assert!(yields(0, 1001) && yields(2, 1001));
    assert!(!yields(0, 999) && !yields(2, 999), "an old copy");
    assert!(!yields(0, 1000) && yields(2, 1000));
}

#[test]
fn icmp_counts_only_for_what_is_in_flight() {
    let mut lone = Lone::established();
    let too_big = PathSignal::TooBig { mtu: 700 };
    let now = lone.now;
    let ignored = Verdict::Dropped(DropReason::Icmp);
    assert_eq!(lone.end.tcb.on_icmp(now, too_big, ISS.add(1)), ignored, "nothing is in flight");
    lone.end.write(&pattern(3000, 1));
    assert_eq!(lone.answers().len(), 1);
    assert_eq!(lone.end.tcb.on_icmp(now, too_big, ISS.add(3001)), ignored);
    assert_eq!(lone.end.tcb.on_icmp(now, PathSignal::HardError, ISS.add(1)), Verdict::Accepted);
    assert_eq!(lone.end.tcb.state(), State::Established, "a hard error is soft here");
    let window = lone.end.tcb.congestion_window();
    assert_eq!(lone.end.tcb.on_icmp(now, too_big, ISS.add(1)), Verdict::Accepted);
    assert_eq!(lone.end.tcb.mss(), 660);
    let again: usize = lone.answers().iter().map(|(.., len)| len).sum();
    assert_eq!((again, lone.end.tcb.congestion_window()), (3000, window));
}

#[test]
fn a_router_that_does_not_say_its_mtu_is_guessed() {
    use crate::tcp::plateau_below;
    let guesses = [65_535, 9000, 1500, 1492, 1300, 600, 552, 0].map(plateau_below);
    assert_eq!(guesses, [32_000, 8166, 1492, 1280, 1280, 552, 552, 552]);
    let mut lone = Lone::established();
    lone.end.tcb.mtu = 900;
    lone.end.write(&pattern(3000, 1));
    lone.answers();
    let signal = PathSignal::TooBig { mtu: plateau_below(900) };
    assert_eq!(lone.end.tcb.on_icmp(lone.now, signal, ISS.add(1)), Verdict::Accepted);
    assert_eq!(lone.end.tcb.mss(), 512);
}

#[test]
fn a_reset_counts_while_the_window_is_shut() {
    let mut lone = Lone::established();
    lone.end.consumes = false;
    lone.hears(0, 0, Flags::ACK, &pattern(10_000, 1));
    let window = lone.end.poll(lone.now).unwrap().head.window;
    assert_eq!(window, 0);
    assert_eq!(lone.hears(10_000, 0, Flags::RST, b""), Verdict::Closed(CloseCause::Reset));
}

#[test]
fn urgent_data_is_text() {
    let mut lone = Lone::established();
    lone.hears(0, 0, Flags::ACK | Flags::URG, b"abc");
    lone.hears(3, 0, Flags::ACK, b"def");
    assert_eq!(lone.end.input, b"abcdef");
    lone.end.write(b"x");
    assert!(lone.answers().iter().all(|(flags, ..)| !flags.contains(Flags::URG)));
}

#[test]
fn without_an_mss_option_the_default_is_taken() {
    let settings = Arc::new(Settings::default());
    let syn = segment(u32::MAX, 0, Flags::SYN, b"");
    for (ipv6, mss) in [(false, 536), (true, 1220)] {
        let tcb = Tcb::accept(&settings, Instant::from_millis(5), &syn, ISS, 0, 1500, ipv6);
        assert_eq!(tcb.mss(), mss);
    }
}

#[test]
fn acknowledgments_of_old_data_are_not_limited() {
    let mut lone = Lone::established();
    lone.hears(0, 0, Flags::ACK, b"abc");
    lone.answers();
    for _ in 0..50 {
        lone.hears(0, 0, Flags::ACK, b"abc");
        assert_eq!(lone.answers(), [(Flags::ACK, 0, 3, 0)]);
    }
}

#[test]
fn icmp_hard_error_ends_a_handshake() {
    let mut pair = Pair::opening(Start::default());
    let (now, iss) = (pair.now, pair.client().tcb.iss);
    let verdict = pair.client().tcb.on_icmp(now, PathSignal::HardError, iss);
    assert_eq!(verdict, Verdict::Closed(CloseCause::Unreachable));
    assert!(pair.ends[CLIENT].tcb.closed());
}

#[test]
fn closed_port_resets_everything_but_resets() {
    let bare = reset_for(&segment(0, 0, Flags::SYN, b"")).unwrap();
    assert_eq!((bare.seq, bare.ack), (SeqNum(0), IRS.add(2)));
    assert_eq!(bare.flags, Flags::RST | Flags::ACK);
    let acked = reset_for(&segment(0, 7, Flags::ACK, b"x")).unwrap();
    assert_eq!((acked.seq, acked.flags), (ISS.add(8), Flags::RST));
    assert_eq!(reset_for(&segment(0, 0, Flags::RST, b"")), None);
}

#[test]
fn syn_cookie_opens_the_connection_its_syn_asked_for() {
    use crate::tcp::cookie;
    use crate::tcp::isn::Secret;
    use crate::wire::FourTuple;
    let (secret, settings) = (Secret { key: [3; 16] }, Arc::new(Settings::default()));
    let tuple =
        FourTuple { local: ([10, 0, 0, 1], 80).into(), remote: ([10, 0, 0, 2], 999).into() };
    // A server that speaks first, to a client that waits for it, loses nothing either.
    for upload in [200_000, 0] {
        let mut pair = Pair::opening(Start::default());
        let (now, syn) = (pair.now, pair.client().take_sent().remove(0));
        let head = cookie::syn_ack(
            &settings,
            &secret,
            &tuple,
            &syn.segment(),
            now,
            500,
            1500,
            cookie::Layout::Halves,
        );
        pair.client().receive(now, &Packet { head, bytes: Vec::new() }.segment());
        let ack = pair.client().poll(now).unwrap();
        let facts =
            cookie::decode(&secret, &tuple, &ack.segment(), now, cookie::Layout::Halves).unwrap();
        let tcb = Tcb::accept_cookie(&settings, now, &ack.segment(), &facts, 500, 1500, false);
        pair.ends[SERVER] = End::new(tcb);
        assert_eq!(pair.server().receive(now, &ack.segment()), Verdict::Accepted);
        assert_eq!(pair.server().tcb.mss(), 1448);
        pair.client().write(&pattern(upload, 1));
        pair.server().write(&pattern(200_000, 2));
        pair.run_until(|pair| {
            [(SERVER, upload), (CLIENT, 200_000)]
                .iter()
                .all(|(end, all)| pair.ends[*end].input.len() == *all)
        });
        assert!(pair.client().input == pattern(200_000, 2));
    }
}

/// A small generator of arbitrary numbers, the same in every run.
struct Arbitrary(u64);

impl Arbitrary {
    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }

    /// At `number`, near it, or anywhere.
    fn near(&mut self, number: SeqNum) -> SeqNum {
        match self.below(8) {
            0..=3 => number,
            4 => number.add(self.below(4000) as u32),
            5 => number.sub(self.below(4000) as u32),
            6 => number.add(self.below(100_000) as u32),
            _ => SeqNum(self.below(1 << 32) as u32),
        }
    }

    fn options(&mut self) -> TcpOptions {
        TcpOptions {
            mss: self.one(&[None, Some(0), Some(1), Some(536), Some(1460), Some(65_535)]),
            sack_permitted: self.below(2) > 0,
            window_scale: self.one(&[None, Some(0), Some(7), Some(14), Some(255)]),
            timestamps: (self.below(2) > 0).then_some(Timestamps { val: 7, ecr: 0 }),
            ..TcpOptions::default()
        }
    }

    fn flags(&mut self) -> Flags {
        match self.below(60) {
            0..=4 => Flags::from_bits_retain(self.below(256) as u8),
            5..=9 => Flags::FIN | Flags::ACK,
            10..=14 => Flags::SYN | Flags::ACK,
            15 => Flags::RST,
            _ => Flags::ACK,
        }
    }

    /// A segment that fits the connection more often than not.
    fn segment<'a>(
        &mut self,
        tcb: &Tcb,
        syn: &Segment<'_>,
        iss: SeqNum,
        data: &'a [u8],
    ) -> Segment<'a> {
        let expected = syn.seq.add(1).add(tcb.received() as u32);
        let acked = iss.add(1).add(tcb.acked() as u32);
        let sent = iss.add(1).add(tcb.sent() as u32);
        let mut options = syn.options.clone();
        for _ in 0..self.below(4) {
            let left = self.near(acked);
            options
                .sack
                .push(crate::wire::SackBlock { left, right: left.add(self.below(4000) as u32) });
        }
        if let Some(timestamps) = &mut options.timestamps {
            timestamps.val = self.one(&[7, 8, 9, 0x8000_0000]);
            timestamps.ecr = self.below(1 << 32) as u32;
        }
        let length = self.one(&[0, 1, 100, 1460, 3000, 65_000]);
        Segment {
            seq: self.near(expected),
            ack: if self.below(2) == 0 { sent } else { self.near(acked) },
            flags: self.flags(),
            window: self.one(&[0, 1, 100, 9000, 65_535]),
            options,
            marked: self.below(8) == 0,
            payload: &data[..length],
        }
    }
}

/// Segments, signals, timers, horizons and takeovers in any order: the assertions of the connection
/// hold, and nothing panics.
#[test]
fn nothing_that_arrives_can_break_a_connection() {
    let mut any = Arbitrary(88_172_645_463_325_252);
    let data = vec![7; 65_000];
    let mut states = std::collections::BTreeSet::new();
    for _ in 0..3000 {
        let settings = Arc::new(Settings {
            receive_buffer: any.one(&[32_768, 65_536, 1 << 20, 16 << 20]),
            sack: any.below(4) > 0,
            timestamps: any.below(3) > 0,
            keepalive: Some(crate::tcp::Keepalive::default()),
            ..Settings::default()
        });
        let (irs, iss) = (SeqNum(u32::MAX - 3000), SeqNum(any.one(&[5, u32::MAX - 3000])));
        let syn = Segment {
            seq: irs,
            ack: SeqNum(0),
            flags: any.one(&[Flags::SYN, Flags::SYN | Flags::ECE | Flags::CWR]),
            window: any.below(65_536) as u16,
            options: any.options(),
            marked: false,
            payload: b"",
        };
        let mut now = Instant::from_millis(5000);
        let mtu = any.one(&[576, 1500, 9000, 65_535]);
        let mut tcb = match any.below(4) {
            0 => Tcb::connect(&settings, now, iss, 77, 1500, false),
            _ => Tcb::accept(&settings, now, &syn, iss, 77, mtu, false),
        };
        let (mut end, mut delivered) = (0, 0);
        for _ in 0..60 {
            for _ in 0..8 {
                let most = any.one(&[usize::MAX, 700, 0]);
                let fetch = &mut |range: core::ops::Range<u64>| {
                    most.min((range.end - range.start) as usize)
                };
                if tcb.poll_transmit(now, fetch).is_none() {
                    super::waits::check_awake(&tcb);
                    break;
                }
                tcb.unblock();
            }
            match any.below(10) {
                0 => {
                    end += any.below(200_000);
                    tcb.set_output_end(end);
                }
                1 if any.below(4) == 0 => tcb.finish(),
                2 => {
                    now = now + Duration::from_millis(any.below(3000));
                    tcb.on_timer(now);
                }
                3 => {
                    now = now.max(tcb.deadline().unwrap_or(now));
                    tcb.on_timer(now);
                }
                4 => tcb.set_consumed(any.below(delivered + 1)),
                5 => {
                    let seq = iss.add(1).add(tcb.acked() as u32).add(any.below(3000) as u32);
                    tcb.on_icmp(now, PathSignal::TooBig { mtu: any.below(3000) as u32 }, seq);
                }
                6 => tcb.set_horizon(Horizon {
                    opened: true,
                    received: tcb.received().saturating_sub(any.below(3000)),
                    output: any.below(1 << 20),
                }),
                7 if any.below(6) == 0 => {
                    let mut hard = tcb.hard();
                    hard.acked -= any.below(hard.acked.min(5000) + 1);
                    tcb = Tcb::resume(&settings, now, &hard);
                    tcb.set_output_end(end);
                    tcb.nudge(now);
                }
                _ => {}
            }
            let segment = any.segment(&tcb, &syn, iss, &data);
            tcb.on_segment(now, &segment, &mut |bytes| delivered += bytes.len() as u64);
            states.insert(tcb.state().to_string());
            if tcb.closed() {
                break;
            }
        }
    }
    assert!(states.len() >= 9, "it went nowhere: {states:?}");
}
