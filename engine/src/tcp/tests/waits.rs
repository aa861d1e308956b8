//! Nothing waits for a timeout that need not: what each alarm is for, and what may go out when.

use super::pair::{CLIENT, Packet, Pair, SERVER, Start, pattern};
use crate::tcp::{Ecn, Settings, Tcb};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, SackBlock, Segment, TcpOptions, Timestamps};

const MSS: u64 = 1448;

/// After everything was said: whoever waits has something that wakes it, and nobody waits in vain.
pub(super) fn check_awake(tcb: &Tcb) {
    if tcb.closed() || !tcb.horizon.opened || tcb.snd.blocked {
        return;
    }
    let (out, alarmed) = (tcb.bytes_in_flight(), tcb.timers.resend != Instant::NEVER);
    if !tcb.state.synchronized() {
        return assert!(alarmed, "a SYN without a timer: {tcb:?}");
    }
    if !tcb.state.may_send() {
        return;
    }
    assert!(alarmed || (out == 0 && tcb.output_limit() == tcb.snd.nxt), "no timer: {tcb:?}");
    let Some(flight) = tcb.snd.flight.as_ref().filter(|_| tcb.sack && tcb.pipe() == 0) else {
        return;
    };
    let edge = tcb.snd.una + u64::from(tcb.snd.wnd);
    let may = flight.sent.first_lost().is_some_and(|part| part.start < edge);
    assert!(!may || flight.pacer.due != Instant::NEVER, "silent for no reason: {tcb:?}");
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A pair whose server has learned that the path reorders: RACK waits a quarter of the round trip.
fn reordering() -> Pair {
    let mut pair = Pair::established();
    pair.server().tcb.snd.order.note_reordering();
    pair
}

/// Writes `count` bytes to the server and lets it speak; how many packets are under way then.
pub(super) fn says(pair: &mut Pair, count: usize) -> usize {
    pair.server().write(&pattern(count, 1));
    pair.flush();
    pair.wire.len()
}

/// The client acknowledges `ack` with so much window, and says what it holds. It answers what was
/// sent just now.
pub(super) fn hears(pair: &mut Pair, ack: u64, window: u64, held: &[(u64, u64)]) {
    hears_of(pair, pair.now, ack, window, held);
}

/// The same, as the answer to what was sent then.
pub(super) fn hears_of(pair: &mut Pair, then: Instant, ack: u64, window: u64, held: &[(u64, u64)]) {
    let (client, now) = (&pair.ends[CLIENT].tcb, pair.now);
    let mut head = client_word(pair, then);
    head.ack = client.rcv_seq_of(ack);
    head.window = u16::try_from(window >> client.rcv_scale).unwrap();
    head.options.sack = held
        .iter()
        .map(|(start, end)| SackBlock {
            left: client.rcv_seq_of(*start),
            right: client.rcv_seq_of(*end),
        })
        .collect();
    pair.server().receive(now, &head);
}

/// An empty acknowledgment of the client, with nothing in it yet. What it answers was sent then.
fn client_word(pair: &Pair, then: Instant) -> Segment<'static> {
    let (client, server) = (&pair.ends[CLIENT].tcb, &pair.ends[SERVER].tcb);
    let (val, ecr) = (client.ts_value(pair.now), server.ts_value(then));
    Segment {
        seq: client.seq_of(client.sent()),
        ack: client.rcv_seq_of(0),
        flags: Flags::ACK,
        window: 0,
        options: TcpOptions { timestamps: Some(Timestamps { val, ecr }), ..TcpOptions::default() },
        marked: false,
        payload: &[],
    }
}

/// The offsets of what the server says now, and how much of each.
pub(super) fn answers(pair: &mut Pair) -> Vec<(u64, usize)> {
    let now = pair.now;
    let said: Vec<Packet> = core::iter::from_fn(|| pair.server().poll(now)).collect();
    let first = pair.ends[SERVER].tcb.seq_of(0);
    said.iter().map(|packet| (packet.head.seq.since(first).into(), packet.bytes.len())).collect()
}

/// Alarms go off, and the server cannot speak, until one is the retransmission timeout.
pub(super) fn times_out(pair: &mut Pair) {
    while pair.server().tcb.snd.backoff == 0 {
        pair.now = pair.server().tcb.deadline().unwrap();
        let now = pair.now;
        pair.server().tcb.on_timer(now);
    }
}

fn all_arrived(pair: &Pair) -> bool {
    let end = &pair.ends[SERVER];
    end.tcb.acked() == end.output.len() as u64
}

/// One segment is lost for certain, another may be late; the retransmission of the first is lost.
/// What the other's alarm finds tells of that, too.
#[test]
fn a_loss_does_not_silence_the_alarm_of_another() {
    let mut pair = reordering();
    let start = pair.now;
    assert_eq!(says(&mut pair, 1448), 1);
    pair.wire.clear();
    pair.now = pair.now + ms(4);
    assert_eq!(says(&mut pair, 2 * 1448), 2);
    pair.wire.remove(0);
    let mut again = 0;
    while !all_arrived(&pair) {
        assert!(pair.step());
        // The first of what is sent again is lost.
        let is_first = |packet: &Packet| !packet.bytes.is_empty();
        if again == 0 && pair.wire.iter().any(|(.., to, packet)| *to == CLIENT && is_first(packet))
        {
            pair.wire.retain(|(.., to, _)| *to != CLIENT);
            again += 1;
        }
    }
    assert!(pair.now.since(start) < ms(100), "{:?}", pair.now.since(start));
}

/// Small segments: what an acknowledgment delivered is less than the next hole, and nothing else
/// is on its way.
#[test]
fn recovery_goes_on_when_nothing_is_in_flight() {
    let mut pair = Pair::established();
    for _ in 0..10 {
        says(&mut pair, 100);
    }
    let start = pair.now;
    pair.now = pair.now + ms(1);
    assert_eq!(says(&mut pair, 100), 11);
    pair.wire.clear();
    pair.now = start + ms(10);
    hears(&mut pair, 0, 1 << 16, &[(300, 400)]);
    hears(&mut pair, 0, 1 << 16, &[(900, 1000), (300, 400)]);
    assert_eq!(answers(&mut pair), []);
    pair.now = pair.server().tcb.deadline().unwrap();
    let now = pair.now;
    pair.server().tcb.on_timer(now);
    assert_eq!(answers(&mut pair), [(0, 300)]);
    pair.now = pair.now + ms(10);
    hears(&mut pair, 400, 1 << 16, &[(900, 1000)]);
    assert_eq!(answers(&mut pair).first(), Some(&(400, 500)));
}

/// F-RTO asks with new data, but the peer's window has no room for a segment of it.
#[test]
fn a_question_that_cannot_be_asked_holds_nothing_back() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(20 * 1448, 1));
    pair.flush();
    pair.wire.clear();
    hears(&mut pair, 0, 10 * MSS, &[]);
    let timeout = |pair: &mut Pair| {
        pair.now = pair.server().tcb.deadline().unwrap();
        let now = pair.now;
        pair.server().tcb.on_timer(now);
        answers(pair)
    };
    assert_eq!(timeout(&mut pair), [(9 * MSS, 1448)], "the tail probe");
    assert_eq!(timeout(&mut pair), [(0, 1448)], "the timeout");
    hears(&mut pair, MSS, 9 * MSS + 64, &[]);
    assert_eq!(answers(&mut pair).first(), Some(&(MSS, 2 * 1448)));
}

/// A timeout within fast recovery is part of the same congestion: Linux does not slow down twice.
#[test]
fn a_timeout_in_recovery_is_paid_for_already() {
    let mut pair = Pair::established();
    let window = pair.server().tcb.congestion_window();
    says(&mut pair, 10 * 1448);
    pair.wire.clear();
    hears(&mut pair, 0, 1 << 17, &[(MSS, 10 * MSS)]);
    assert_eq!(answers(&mut pair), [(0, 1448)]);
    let threshold = pair.server().tcb.threshold();
    assert_eq!(threshold, window / 10 * 7);
    times_out(&mut pair);
    assert_eq!(pair.server().tcb.congestion_window(), 1448);
    assert_eq!(pair.server().tcb.threshold(), threshold);
    assert_eq!(answers(&mut pair), [(0, 1448)]);
}

/// RFC 5682 §3.1 step 1: F-RTO asks nothing in a recovery that was under way. New data of that
/// recovery arrives after the timeout, and proves nothing: two losses were real.
#[test]
fn what_recovery_sent_does_not_take_a_timeout_back() {
    let mut pair = Pair::established();
    pair.server().write(&pattern(40 * 1448, 1));
    pair.flush();
    pair.wire.clear();
    hears(&mut pair, 0, 1 << 17, &[(MSS, 10 * MSS)]);
    let sent = answers(&mut pair);
    assert!(sent.len() > 1 && pair.server().tcb.sent() >= 15 * MSS, "{sent:?}");
    times_out(&mut pair);
    assert_eq!(answers(&mut pair), [(0, 1448)]);
    pair.now = pair.now + ms(10);
    hears(&mut pair, 11 * MSS, 1 << 17, &[]);
    answers(&mut pair);
    pair.now = pair.now + ms(10);
    hears(&mut pair, 11 * MSS, 1 << 17, &[(12 * MSS, 15 * MSS)]);
    assert_eq!(answers(&mut pair).first(), Some(&(11 * MSS, 1448)), "it is lost all the same");
}

/// What was sent close in time is remembered as one, with the times of its first and its last
/// sending. The later part is not judged by the earlier part's time.
#[test]
fn the_later_part_of_a_run_has_its_own_time() {
    let mut pair = reordering();
    says(&mut pair, 2 * 1448);
    pair.run_until(all_arrived);
    let (una, start) = (pair.server().tcb.acked(), pair.now);
    let at = |micros| start + Duration::from_micros(micros);
    for micros in [0, 600, 1800] {
        pair.now = at(micros);
        says(&mut pair, 1448);
    }
    pair.wire.clear();
    pair.now = at(10_000);
    hears(&mut pair, una + MSS, 1 << 17, &[]);
    pair.now = at(11_800);
    hears(&mut pair, una + MSS, 1 << 17, &[(una + 2 * MSS, una + 3 * MSS)]);
    // A round trip and a quarter after it was sent, and not after what went out before it.
    let due: Option<Instant> = pair.server().tcb.deadline();
    assert_eq!(due, Some(at(600 + 10_000 + 2500)));
}

/// An address that comes back begins anew: proof that concerns what was before brings nothing back.
#[test]
fn a_nudge_forgets_what_could_be_taken_back() {
    let mut pair = Pair::established();
    let initial = u64::from(pair.server().tcb.congestion_window());
    pair.server().write(&pattern(400_000, 1));
    pair.run_until(all_arrived);
    let (una, start) = (pair.server().tcb.acked(), pair.now);
    says(&mut pair, 20 * 1448);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    hears(&mut pair, una, 1 << 17, &[(una + MSS, una + 10 * MSS)]);
    assert_eq!(answers(&mut pair).first(), Some(&(una, 1448)));
    let now = pair.now;
    pair.server().tcb.nudge(now);
    answers(&mut pair);
    hears_of(&mut pair, start, una + 10 * MSS, 1 << 17, &[]);
    let window = u64::from(pair.server().tcb.congestion_window());
    assert!((initial..=initial + 10 * MSS).contains(&window), "{initial} -> {window}");
}

/// A mark, and then silence: the timeout's window is one segment, whatever the mark had left.
#[test]
fn a_timeout_after_a_mark_sends_one_segment() {
    let with = |ecn| Settings { ecn, ..Settings::default() };
    let start = Start { client: with(Ecn::Offer), server: with(Ecn::Accept), ..Start::default() };
    let mut pair = Pair::established_with(start);
    says(&mut pair, 10 * 1448);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    let mut head = client_word(&pair, pair.now);
    head.flags |= Flags::ECE;
    head.ack = pair.ends[CLIENT].tcb.rcv_seq_of(2 * MSS);
    head.window = u16::MAX;
    let now = pair.now;
    pair.server().receive(now, &head);
    let threshold = pair.server().tcb.threshold();
    assert!(threshold < u32::MAX);
    times_out(&mut pair);
    assert_eq!(answers(&mut pair), [(2 * MSS, 1448)]);
    assert_eq!(pair.server().tcb.threshold(), threshold, "the mark has paid for that");
    pair.now = pair.now + ms(10);
    hears(&mut pair, 3 * MSS, 1 << 17, &[]);
    assert_eq!(answers(&mut pair), [(3 * MSS, 2 * 1448)]);
}

/// Karn: what arrived long ago, and is acknowledged now because the gap before it was filled, has
/// taken no round trip of that length.
#[test]
fn what_waited_behind_a_gap_tells_no_round_trip() {
    for timestamps in [true, false] {
        let server = Settings { timestamps, ..Settings::default() };
        let mut pair = Pair::established_with(Start { server, ..Start::default() });
        let segment = u64::from(pair.server().tcb.mss());
        says(&mut pair, 3 * segment as usize);
        pair.wire.clear();
        times_out(&mut pair);
        let again = pair.now;
        assert_eq!(answers(&mut pair), [(0, segment as usize)]);
        pair.now = pair.now + ms(10);
        hears_of(&mut pair, again, 3 * segment, 1 << 17, &[]);
        let srtt = pair.server().tcb.srtt().unwrap();
        assert!(srtt < ms(15), "{srtt:?}, timestamps {timestamps}");
    }
}

/// It would be taken for held, and not sent again.
#[test]
fn a_block_of_what_was_never_sent_is_no_news() {
    let mut pair = Pair::established();
    assert!(says(&mut pair, 5 * 1448) > 0);
    let before = pair.server().tcb.pipe();
    hears(&mut pair, 0, 60_000, &[(MSS, 6 * MSS)]);
    assert_eq!(pair.server().tcb.pipe(), before);
    hears(&mut pair, 0, 60_000, &[(MSS, 5 * MSS)]);
    assert!(pair.server().tcb.pipe() < before, "but of what was");
}

/// RFC 9293 §3.10.7.4: the peer would not take what lies beyond its window, an empty segment included.
#[test]
fn an_empty_segment_lies_within_a_window_that_has_shrunk() {
    let mut pair = Pair::established();
    says(&mut pair, 10 * 1448);
    pair.wire.clear();
    let window = 2048;
    hears(&mut pair, 0, window, &[]);
    assert_eq!(pair.server().tcb.peer_window(), 2048);
    pair.server().tcb.force_ack();
    let said = answers(&mut pair);
    assert!(said.contains(&(window, 0)), "{said:?}");
}
