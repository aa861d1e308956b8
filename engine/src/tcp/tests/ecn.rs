//! Marks instead of losses: RFC 3168.

use super::link::{Download, Link, MSS, Outcome};
use super::pair::{CLIENT, Packet, Pair, SERVER, Start, pattern};
use crate::tcp::{Ecn, Settings};
use crate::time::Duration;
use crate::wire::Flags;

const ECN: Flags = Flags::ECE.union(Flags::CWR);

fn start(client: Ecn, server: Ecn) -> Start {
    let with = |ecn| Settings { ecn, ..Settings::default() };
    Start { client: with(client), server: with(server), ..Start::default() }
}

fn established() -> Pair {
    Pair::established_with(start(Ecn::Offer, Ecn::Accept))
}

fn ecn_flags(packets: &[Packet]) -> Vec<Flags> {
    packets.iter().map(|packet| packet.head.flags.intersection(ECN)).collect()
}

/// Routers mark everything that may be marked and is on its way to `to`.
fn mark(pair: &mut Pair, to: usize) -> usize {
    let marked =
        pair.wire.iter_mut().filter(|(.., end, packet)| *end == to && packet.head.ecn == 2);
    marked.map(|(.., packet)| packet.head.ecn = 3).count()
}

#[test]
fn both_ends_use_it_or_neither() {
    for (client, server, asked, agreed) in [
        (Ecn::Offer, Ecn::Accept, ECN, Flags::ECE),
        (Ecn::Offer, Ecn::Offer, ECN, Flags::ECE),
        (Ecn::Offer, Ecn::Never, ECN, Flags::empty()),
        (Ecn::Accept, Ecn::Accept, Flags::empty(), Flags::empty()),
        (Ecn::Never, Ecn::Offer, Flags::empty(), Flags::empty()),
    ] {
        let mut pair = Pair::opening(start(client, server));
        pair.run_for(Duration::from_millis(100));
        let (syn, syn_ack) = (pair.client().take_sent(), pair.server().take_sent());
        assert_eq!(ecn_flags(&syn)[0], asked);
        assert_eq!(ecn_flags(&syn_ack)[0], agreed);
        assert!(syn.iter().chain(&syn_ack).all(|packet| packet.head.ecn == 0), "not a handshake");
        pair.server().write(b"x");
        pair.flush();
        let ect = u8::from(agreed == Flags::ECE) * 2;
        assert_eq!(pair.server().take_sent()[0].head.ecn, ect, "{client:?}, {server:?}");
    }
}

/// §6.1.1.1: whatever swallowed the first SYN may have done so for its flags.
#[test]
fn a_repeated_syn_does_not_ask() {
    let mut pair = Pair::opening(start(Ecn::Offer, Ecn::Accept));
    pair.server().dead = true;
    pair.run_for(Duration::from_secs(2));
    let syns = pair.client().take_sent();
    assert_eq!(ecn_flags(&syns), [ECN, Flags::empty()]);
}

#[test]
fn only_new_data_may_be_marked() {
    let mut pair = established();
    pair.server().write(&pattern(20_000, 1));
    pair.client().write(b"and something in return");
    pair.flush();
    pair.wire.clear();
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 20_000);
    let mut high = 0;
    for packet in pair.server().take_sent().iter().skip(1) {
        let (end, new) =
            (packet.head.seq.0 as usize + packet.bytes.len(), !packet.bytes.is_empty());
        let may = new && end > high;
        assert_eq!(packet.head.ecn, if may { 2 } else { 0 }, "{:?}", packet.head);
        high = high.max(end);
    }
}

#[test]
fn a_mark_is_echoed_until_the_sender_says_that_it_slowed_down() {
    let mut pair = established();
    let window = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(10 * MSS as usize, 1));
    pair.flush();
    assert!(mark(&mut pair, CLIENT) > 0);
    pair.client().take_sent();
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 10 * MSS);
    pair.run_for(Duration::from_millis(100));
    let reduced = pair.server().tcb.congestion_window();
    assert_eq!(reduced, window / 10 * 7, "once, although every acknowledgment said so");
    let echoes = ecn_flags(&pair.client().take_sent());
    assert!(echoes.iter().all(|flags| *flags == Flags::ECE), "{echoes:?}");
    pair.client().write(b"x");
    pair.run_for(Duration::from_millis(100));
    assert_eq!(ecn_flags(&pair.client().take_sent()), [Flags::ECE], "on data too");
    pair.server().take_sent();
    pair.server().write(&pattern(5 * MSS as usize, 2));
    pair.run_for(Duration::from_millis(100));
    let sent = pair.server().take_sent();
    assert_eq!(ecn_flags(&sent), [Flags::CWR, Flags::empty()]);
    assert_eq!(sent[0].bytes.len(), MSS as usize, "not on a super-segment");
    let echoes = ecn_flags(&pair.client().take_sent());
    assert!(echoes.iter().all(|flags| flags.is_empty()), "{echoes:?}");
    pair.server().write(&pattern(10 * MSS as usize, 3));
    pair.flush();
    mark(&mut pair, CLIENT);
    pair.run_for(Duration::from_millis(100));
    assert!(pair.server().tcb.congestion_window() < reduced, "the next mark counts again");
}

/// §6.1.2: a loss and a mark in one window are one congestion, and the peer hears of a loss too.
#[test]
fn a_loss_and_a_mark_are_one_congestion() {
    let mut pair = established();
    let window = pair.server().tcb.congestion_window();
    pair.server().write(&pattern(10 * MSS as usize, 1));
    pair.flush();
    pair.wire.retain(|(.., packet)| packet.head.seq != pair.ends[SERVER].tcb.seq_of(MSS));
    mark(&mut pair, CLIENT);
    pair.server().take_sent();
    pair.server().write(&pattern(10 * MSS as usize, 1));
    pair.run_until(|pair| pair.ends[CLIENT].input.len() == 20 * MSS as usize);
    pair.run_for(Duration::from_millis(100));
    let after = pair.server().tcb.congestion_window();
    assert!((window / 2 + 1..window).contains(&after), "{window} -> {after}");
    let told = ecn_flags(&pair.server().take_sent());
    assert_eq!(told.iter().filter(|flags| **flags == Flags::CWR).count(), 1, "{told:?}");
}

/// The mark comes first, and then a loss in the same window; the acknowledgments come one by one.
#[test]
fn what_a_mark_has_paid_for_is_not_paid_again() {
    for lost in [None, Some(10)] {
        let mut pair = established();
        let segment = pair.ends[SERVER].tcb.mss_u64();
        pair.server().write(&pattern(40 * MSS as usize, 1));
        pair.run_until(|pair| pair.ends[SERVER].tcb.acked() >= 10 * MSS);
        let window = pair.server().tcb.congestion_window();
        let first = pair.ends[SERVER].tcb.seq_of(10 * MSS);
        let gone = lost.map(|index| first.add(index * segment as u32));
        pair.wire.retain(|(.., packet)| Some(packet.head.seq) != gone);
        for (at, .., packet) in pair.wire.iter_mut().filter(|(.., to, _)| *to == CLIENT) {
            let index = packet.head.seq.since(first) / segment as u32;
            *at = *at + Duration::from_micros(100) * index;
            packet.head.ecn = if index == 0 { 3 } else { 2 };
        }
        let end = pair.ends[SERVER].tcb.sent();
        let mut least = window;
        while pair.server().tcb.acked() < end {
            pair.step();
            let now = pair.server().tcb.congestion_window();
            assert!(now <= least, "{least} -> {now}: it does not grow meanwhile, lost {lost:?}");
            least = now;
        }
        assert!(
            (window / 10 * 6..window / 10 * 8).contains(&least),
            "{window} -> {least}, {lost:?}"
        );
    }
}

/// A queue that marks never has to drop: everything arrives once, and the path is full.
#[test]
fn a_marking_queue_stays_short_and_loses_nothing() {
    let rtt = Duration::from_millis(20);
    let link = Link { rtt, rate: 100_000_000, mark: 100_000, ..Link::default() };
    let outcome = Download::settled(link, Duration::from_secs(5), Duration::from_secs(10));
    let Outcome { resent, dropped, timeouts, undone, reductions, marked, .. } = outcome;
    assert_eq!((resent, dropped, timeouts, undone), (0, 0, 0, 0), "{outcome:?}");
    assert!(marked > 0 && reductions >= 2, "{outcome:?}");
    assert!(outcome.queued < 200_000 && outcome.mbit() > 90.0, "{outcome:?}");
    assert!(outcome.pause < 5000, "a mark is no reason to fall silent: {outcome:?}");
}

/// The agreement survives a takeover, and an echo that was not answered is answered then.
#[test]
fn a_takeover_keeps_the_agreement() {
    let mut pair = established();
    pair.server().write(&pattern(10 * MSS as usize, 1));
    pair.flush();
    mark(&mut pair, CLIENT);
    pair.run_until(|pair| pair.ends[SERVER].tcb.acked() == 10 * MSS);
    assert!(pair.server().tcb.snd.cwr_due, "slowed down, and nobody knows yet");
    let hard = pair.server().tcb.hard();
    assert!(hard.ecn);
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.client().take_sent();
    // The first word is an acknowledgment; what the client says next still echoes the mark.
    pair.client().write(b"x");
    pair.run_for(Duration::from_millis(100));
    assert_eq!(ecn_flags(&pair.client().take_sent()), [Flags::ECE]);
    let window = u64::from(pair.server().tcb.congestion_window());
    assert!(window < 10 * MSS, "answered by the new host: {window}");
    pair.server().write(&pattern(2_000_000, 2));
    pair.run_for(Duration::from_secs(5));
    let sent = pair.server().take_sent();
    let told = ecn_flags(&sent).iter().filter(|flags| **flags == Flags::CWR).count();
    assert_eq!(told, 1, "and the client hears of it");
    assert_eq!(sent.last().map(|packet| packet.head.ecn), Some(2));
    assert!(pair.client().take_sent().last().is_some_and(|p| !p.head.flags.intersects(ECN)));
    // The other direction: the new host echoes what the client's routers mark.
    pair.client().write(&pattern(10 * MSS as usize, 3));
    pair.flush();
    assert!(mark(&mut pair, SERVER) > 0);
    pair.server().take_sent();
    pair.run_for(Duration::from_millis(20));
    assert!(ecn_flags(&pair.server().take_sent()).contains(&Flags::ECE));
}

/// What may have been sent by the host before is sent again, and that is not marked: §6.1.5.
#[test]
fn what_is_repeated_after_a_takeover_is_not_to_be_marked() {
    let mut pair = established();
    pair.server().write(&pattern(10 * MSS as usize, 1));
    pair.flush();
    pair.wire.clear();
    let hard = pair.server().tcb.hard();
    pair.take_over(&hard, false);
    pair.server().take_sent();
    pair.flush();
    let sent = pair.server().take_sent();
    assert!(sent.iter().any(|packet| !packet.bytes.is_empty()));
    assert!(sent.iter().all(|packet| packet.head.ecn == 0));
}
