//! What the LAN sees and hears of the service addresses.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
const SERVICE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10);

fn neighbour() -> Neighbour {
    let addresses = vec![SERVICE.into(), SERVICE6.into()];
    Neighbour::new(Settings { mac: US, addresses, router: true })
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// All frames that are to be sent at `millis`.
fn sent(neighbour: &mut Neighbour, millis: u64) -> Vec<NeighbourFrame> {
    core::iter::from_fn(|| neighbour.poll_frame(at(millis)))
        .map(|frame| NeighbourFrame::parse(&frame).unwrap())
        .collect()
}

/// Lets the machine run to `end`; when it sent how many frames.
fn timeline(neighbour: &mut Neighbour, end: u64) -> Vec<(u64, usize)> {
    let mut times = Vec::new();
    while let Some(due) = neighbour.deadline().filter(|due| *due <= at(end)) {
        let count = sent(neighbour, due.as_millis()).len();
        times.push((due.as_millis(), count));
        assert!(neighbour.deadline() > Some(due), "time goes on");
    }
    times
}

fn one_round() -> [NeighbourFrame; 3] {
    [
        NeighbourFrame::Arp(ArpPacket::announcement_request(US, SERVICE)),
        NeighbourFrame::Arp(ArpPacket::announcement_reply(US, SERVICE)),
        NeighbourFrame::Advertisement(NeighbourAdvertisement::announcement(US, SERVICE6, true)),
    ]
}

fn questions() -> [Frame; 4] {
    [
        ArpPacket::request(STRANGER, CLIENT, SERVICE).to_frame(),
        ArpPacket::probe(STRANGER, SERVICE).to_frame(),
        NeighbourSolicitation::request(STRANGER, CLIENT6, SERVICE6).to_frame(),
        NeighbourSolicitation::probe(STRANGER, SERVICE6).to_frame(),
    ]
}

fn claims() -> [(Frame, Event); 5] {
    let claimed = |address: IpAddr| Event::Claimed { address, mac: STRANGER };
    let mut spoken_as = NeighbourSolicitation::request(STRANGER, SERVICE6, CLIENT6);
    spoken_as.source_link = None;
    [
        (ArpPacket::announcement_request(STRANGER, SERVICE).to_frame(), claimed(SERVICE.into())),
        (ArpPacket::announcement_reply(STRANGER, SERVICE).to_frame(), claimed(SERVICE.into())),
        (ArpPacket::request(STRANGER, SERVICE, CLIENT).to_frame(), claimed(SERVICE.into())),
        (
            NeighbourAdvertisement::announcement(STRANGER, SERVICE6, false).to_frame(),
            claimed(SERVICE6.into()),
        ),
        (spoken_as.to_frame(), claimed(SERVICE6.into())),
    ]
}

#[test]
fn owner_answers_who_asks_and_who_probes() {
    let mut us = neighbour();
    for question in questions() {
        assert_eq!(us.on_frame(at(0), &question, true), None);
    }
    let request = ArpPacket::request(STRANGER, CLIENT, SERVICE);
    let probe = ArpPacket::probe(STRANGER, SERVICE);
    let solicitation = NeighbourSolicitation::request(STRANGER, CLIENT6, SERVICE6);
    let solicited = NeighbourAdvertisement::reply(&solicitation, US, true);
    assert!(solicited.flags.router && solicited.flags.solicited && solicited.flags.override_);
    assert_eq!(
        sent(&mut us, 0),
        [
            NeighbourFrame::Arp(ArpPacket::reply(&request, US)),
            NeighbourFrame::Arp(ArpPacket::reply(&probe, US)),
            NeighbourFrame::Advertisement(solicited),
            // A node that looks for duplicates has no address to be answered at: all nodes are told.
            NeighbourFrame::Advertisement(NeighbourAdvertisement::announcement(US, SERVICE6, true)),
        ]
    );
}

#[test]
fn standby_answers_nobody() {
    let mut us = neighbour();
    for question in questions() {
        assert_eq!(us.on_frame(at(0), &question, false), None);
    }
    assert_eq!(sent(&mut us, 0), []);
}

#[test]
fn questions_for_others_and_answers_to_others_are_not_ours() {
    let mut us = neighbour();
    for frame in [
        ArpPacket::request(STRANGER, SERVICE.octets().map(|_| 1).into(), CLIENT).to_frame(),
        ArpPacket::reply(&ArpPacket::request(US, SERVICE, CLIENT), STRANGER).to_frame(),
        NeighbourSolicitation::request(STRANGER, CLIENT6, CLIENT6).to_frame(),
        NeighbourAdvertisement::announcement(STRANGER, CLIENT6, false).to_frame(),
    ] {
        assert_eq!(us.on_frame(at(0), &frame, true), None);
    }
    assert_eq!(sent(&mut us, 0), []);
}

#[test]
fn a_flood_of_questions_costs_bounded_memory() {
    let mut us = neighbour();
    for _ in 0..10 * ANSWERS_MAX {
        us.on_frame(at(0), &questions()[0], true);
    }
    assert_eq!(sent(&mut us, 0).len(), ANSWERS_MAX);
}

#[test]
fn announcements_come_at_growing_intervals_and_then_forever() {
    let mut us = neighbour();
    us.announce(at(0));
    assert_eq!(sent(&mut us, 0), one_round());
    let times = timeline(&mut us, 70_000);
    let expected = [50, 150, 400, 1000, 2000, 5000, 35_000, 65_000];
    assert_eq!(times, expected.map(|time| (time, 3)));
}

#[test]
fn after_a_pause_announcements_do_not_crowd() {
    let mut us = neighbour();
    us.announce(at(0));
    sent(&mut us, 0);
    assert_eq!(sent(&mut us, 10_000).len(), 3);
    assert_eq!(us.deadline(), Some(at(10_100)));
}

#[test]
fn silence_is_at_once_and_takes_back_what_was_not_sent() {
    let mut us = neighbour();
    us.announce(at(0));
    assert!(us.poll_frame(at(0)).is_some());
    us.silence();
    assert_eq!(sent(&mut us, 0), []);
    assert_eq!(us.deadline(), None);
}

#[test]
fn every_kind_of_claim_is_reported_to_owner_and_standby() {
    for (frame, event) in claims() {
        for owner in [true, false] {
            let mut us = neighbour();
            assert_eq!(us.on_frame(at(0), &frame, owner), Some(event), "{event:?}");
            assert_eq!(sent(&mut us, 0), [], "a claim is no question");
        }
    }
}

#[test]
fn our_own_frames_sent_back_claim_nothing() {
    let mut us = neighbour();
    us.announce(at(0));
    while let Some(frame) = us.poll_frame(at(0)) {
        assert_eq!(us.on_frame(at(0), &frame, true), None);
    }
}

#[test]
fn a_claimant_makes_the_owner_announce_again_but_not_storm() {
    let mut us = neighbour();
    let (claim, _) = &claims()[1];
    us.announce(at(0));
    timeline(&mut us, 20_000);
    assert_eq!(us.deadline(), Some(at(35_000)));

    us.on_frame(at(20_000), claim, true);
    assert_eq!(sent(&mut us, 20_000), one_round());
    // A hundred claims a second: one restart a second, at most five rounds in each.
    let mut rounds = 0;
    for millis in (20_010..25_010).step_by(10) {
        us.on_frame(at(millis), claim, true);
        rounds += sent(&mut us, millis).len() / 3;
    }
    assert!((5..=25).contains(&rounds), "{rounds} rounds in five seconds");
}

#[test]
fn a_claim_heard_by_the_standby_makes_it_say_nothing() {
    let mut us = neighbour();
    for (claim, _) in claims() {
        us.on_frame(at(0), &claim, false);
    }
    assert_eq!(sent(&mut us, 0), []);
    assert_eq!(us.deadline(), None);
}

#[test]
fn a_free_address_is_clear_after_three_probes_and_a_wait() {
    let mut us = neighbour();
    us.probe(at(0));
    let probes = [
        NeighbourFrame::Arp(ArpPacket::probe(US, SERVICE)),
        NeighbourFrame::Solicitation(NeighbourSolicitation::probe(US, SERVICE6)),
    ];
    for millis in [0, 100, 200] {
        assert_eq!(us.deadline(), Some(at(millis)));
        assert_eq!(us.on_timer(at(millis)), None);
        assert_eq!(sent(&mut us, millis), probes);
    }
    assert_eq!(us.on_timer(at(399)), None);
    assert_eq!(us.deadline(), Some(at(400)));
    assert_eq!(us.on_timer(at(400)), Some(Event::Clear));
    assert_eq!((us.on_timer(at(1000)), us.deadline()), (None, None));
}

#[test]
fn an_address_that_answers_is_in_use() {
    for (claim, event) in claims() {
        let Event::Claimed { address, mac } = event else { panic!("{event:?}") };
        let mut us = neighbour();
        us.probe(at(0));
        assert!(us.poll_frame(at(0)).is_some());
        assert_eq!(us.on_frame(at(1), &claim, false), Some(Event::InUse { address, mac }));
        assert_eq!(sent(&mut us, 1000), [], "nothing more is asked");
        assert_eq!((us.on_timer(at(1000)), us.deadline()), (None, None));
    }
}

#[test]
fn two_that_probe_at_once_do_not_both_give_up() {
    let mut us = neighbour();
    us.probe(at(0));
    sent(&mut us, 0);
    for probe in [&questions()[1], &questions()[3]] {
        assert_eq!(us.on_frame(at(1), probe, false), None);
    }
    timeline(&mut us, 399);
    assert_eq!(us.on_timer(at(400)), Some(Event::Clear));
}

#[test]
fn announcing_ends_a_probe() {
    let mut us = neighbour();
    us.probe(at(0));
    sent(&mut us, 0);
    us.announce(at(10));
    assert_eq!(sent(&mut us, 10), one_round());
    assert_eq!(us.on_timer(at(400)), None);
}

/// A bond that failed over: the LAN has the MAC address of a card that hears nothing any more.
#[test]
fn a_new_mac_address_is_announced_at_once_and_the_old_one_never_again() {
    const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xf1]);
    let mut us = neighbour();
    us.announce(at(0));
    assert_eq!(sent(&mut us, 0), one_round());
    assert_eq!(timeline(&mut us, 40_000).len(), 7);
    // An answer that is ready when it happens would be wrong.
    us.on_frame(at(41_000), &ArpPacket::request(STRANGER, CLIENT, SERVICE).to_frame(), true);
    us.on_mac(at(41_000), NEW);
    assert_eq!(us.deadline(), Some(at(41_000)));
    assert_eq!(
        sent(&mut us, 41_000),
        [
            NeighbourFrame::Arp(ArpPacket::announcement_request(NEW, SERVICE)),
            NeighbourFrame::Arp(ArpPacket::announcement_reply(NEW, SERVICE)),
            NeighbourFrame::Advertisement(NeighbourAdvertisement::announcement(
                NEW, SERVICE6, true
            )),
        ]
    );
    let rounds: Vec<u64> = timeline(&mut us, 47_000).iter().map(|(when, _)| *when).collect();
    assert_eq!(rounds, [41_050, 41_150, 41_400, 42_000, 43_000, 46_000]);
    let question = ArpPacket::request(STRANGER, CLIENT, SERVICE);
    us.on_frame(at(47_000), &question.to_frame(), true);
    assert_eq!(sent(&mut us, 47_000), [NeighbourFrame::Arp(ArpPacket::reply(&question, NEW))]);
    // Told again, it is no news.
    us.on_mac(at(48_000), NEW);
    assert_eq!(sent(&mut us, 48_000), []);
}

#[test]
fn who_probes_or_keeps_silent_takes_a_new_mac_address_as_quietly() {
    const NEW: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xf1]);
    let mut us = neighbour();
    us.on_mac(at(0), NEW);
    assert_eq!(sent(&mut us, 0), []);
    us.on_mac(at(0), US);
    us.probe(at(10));
    assert_eq!(sent(&mut us, 10).len(), 2);
    us.on_mac(at(20), NEW);
    assert_eq!(
        sent(&mut us, 20),
        [
            NeighbourFrame::Arp(ArpPacket::probe(NEW, SERVICE)),
            NeighbourFrame::Solicitation(NeighbourSolicitation::probe(NEW, SERVICE6)),
        ]
    );
    assert_eq!(us.on_timer(at(400)), None, "all probes are sent again");
}
