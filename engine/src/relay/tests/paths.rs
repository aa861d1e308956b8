//! Paths that carry less than the LAN: whom it concerns, and how long.

use super::*;

/// What may go to the backend, and to the client.
fn mtus(world: &mut World, id: SpliceId, port: u16) -> [Option<u16>; 2] {
    let of = |fate| match fate {
        Fate::Forward { mtu, .. } => mtu,
        Fate::Foreign | Fate::Taken => panic!("{fate:?}"),
    };
    [of(world.client_says(port, Flags::ACK)), of(world.backend_says(id, Flags::ACK))]
}

/// A client and its backend, each with 500 bytes on their way to the other.
fn talking(world: &mut World, port: u16) -> SpliceId {
    let id = world.open(port);
    let splice = world.relays.splice(id).unwrap();
    let text = Segment { payload: &[0; 500], ..segment(Flags::ACK, 1001, 5001) };
    world.say(client(port), &text);
    let ack = SeqNum(1001).add(splice.seq);
    world.say(splice.backend, &Segment { seq: SeqNum(5001), ack, ..text });
    id
}

#[test]
fn a_narrow_path_is_one_clients_own() {
    let mut world = World::new();
    let (one, two) = (talking(&mut world, 1), talking(&mut world, 2));
    let now = world.now;
    let narrow = world.relays.on_too_big(now, &client(1), SeqNum(5001), 1400);
    assert_eq!(narrow, TooBig::Noted);
    assert_eq!(mtus(&mut world, one, 1), [None, Some(1400)]);
    assert_eq!(mtus(&mut world, two, 2), [None, None]);
    // What the client sends may meet with another.
    let splice = world.relays.splice(two).unwrap();
    let quoted = SeqNum(1001).add(splice.seq);
    assert_eq!(world.relays.on_too_big(now, &splice.backend, quoted, 1300), TooBig::Noted);
    assert_eq!(mtus(&mut world, two, 2), [Some(1300), None]);
    world.now = now + Duration::from_secs(599);
    assert_eq!(mtus(&mut world, one, 1), [None, Some(1400)]);
    world.now = now + Duration::from_secs(600);
    assert_eq!(mtus(&mut world, one, 1), [None, None], "perhaps it is another path by now");
}

#[test]
fn an_error_that_quotes_nothing_on_its_way_changes_nothing() {
    let mut world = World::new();
    let id = talking(&mut world, 1);
    let splice = world.relays.splice(id).unwrap();
    let now = world.now;
    let mut told = |leg, seq, mtu| world.relays.on_too_big(now, &leg, seq, mtu);
    for seq in [0, 5000, 5501, 1001, 0x8000_0000] {
        assert_eq!(told(client(1), SeqNum(seq), 1400), TooBig::Ignored, "{seq}");
    }
    for seq in [1000, 1501] {
        let seq = SeqNum(seq).add(splice.seq);
        assert_eq!(told(splice.backend, seq, 1400), TooBig::Ignored, "{seq:?}");
    }
    assert_eq!(told(splice.backend, SeqNum(1001), 1400), TooBig::Ignored, "by the client's count");
    for mtu in [1500, 9000, u32::MAX] {
        assert_eq!(told(client(1), SeqNum(5001), mtu), TooBig::Ignored, "{mtu}");
    }
    assert_eq!(told(client(2), SeqNum(5001), 1400), TooBig::Foreign);
    assert_eq!(mtus(&mut world, id, 1), [None, None]);
}

#[test]
fn nobody_is_made_to_cut_to_crumbs() {
    let mut world = World::new();
    let id = talking(&mut world, 1);
    let now = world.now;
    assert_eq!(world.relays.on_too_big(now, &client(1), SeqNum(5001), 68), TooBig::Noted);
    assert_eq!(mtus(&mut world, id, 1), [None, Some(552)]);
    assert_eq!(world.relays.on_too_big(now, &client(1), SeqNum(5001), 1400), TooBig::Ignored);
}

#[test]
fn who_has_taken_over_believes_what_quotes_something_near() {
    let mut world = World::new();
    let id = talking(&mut world, 1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = World::new();
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    assert_eq!(heir.relays.hold_stage(id, Stage::Open), Ok(()));
    heir.relays.arm(heir.now);
    let now = heir.now;
    assert_eq!(heir.relays.on_too_big(now, &client(1), SeqNum(5001), 1400), TooBig::Ignored);
    let ack = SeqNum(1001).add(splice.seq).0;
    let text = Segment { payload: &[0; 500], ..segment(Flags::ACK, 5001, ack) };
    heir.say(splice.backend, &text);
    for seq in [5501, 5501 + (1 << 21), 5000_u32.wrapping_sub(1 << 21)] {
        assert_eq!(heir.relays.on_too_big(now, &client(1), SeqNum(seq), 1400), TooBig::Ignored);
    }
    assert_eq!(heir.relays.on_too_big(now, &client(1), SeqNum(5001), 1400), TooBig::Noted);
    assert_eq!(mtus(&mut heir, id, 1), [None, Some(1400)]);
}

#[test]
fn an_ipv6_path_carries_1280_bytes() {
    let mut world = World::new();
    let leg = FourTuple {
        local: "[fd77::100]:8080".parse().unwrap(),
        remote: "[fd77::10]:1".parse().unwrap(),
    };
    world.say(leg, &segment(Flags::SYN, 1000, 0));
    let [Event::Spliced(id)] = world.events()[..] else { panic!("a splice") };
    world.relays.commit(world.now, id);
    world.answer(id, Flags::SYN | Flags::ACK);
    world.say(leg, &segment(Flags::ACK, 1001, 5001));
    let ack = SeqNum(1001).add(world.relays.splice(id).unwrap().seq).0;
    let text = Segment { payload: &[0; 500], ..segment(Flags::ACK, 5001, ack) };
    let backend = world.backend(id);
    world.say(backend, &text);
    assert_eq!(world.relays.on_too_big(world.now, &leg, SeqNum(5001), 600), TooBig::Noted);
    let fate = world.say(backend, &text);
    assert!(matches!(fate, Fate::Forward { mtu: Some(1280), .. }), "{fate:?}");
}
