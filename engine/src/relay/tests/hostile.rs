//! What relays must bear of whoever can send a packet to the service address, under any name.

use super::*;

#[test]
fn a_reset_out_of_nowhere_ends_nothing() {
    let mut world = World::new();
    let id = world.open(1);
    // A stranger does not see the connection and has to guess; the backend drops what is out of its window.
    for seq in [0, 1000, 1002, 1001 + (1 << 16), 0x8000_0000] {
        let fate = world.say(client(1), &segment(Flags::RST, seq, 0));
        assert!(matches!(fate, Fate::Forward { .. }), "for the backend to judge");
    }
    assert_eq!(world.events(), []);
    assert!(matches!(world.say(client(1), &segment(Flags::SYN, 7, 0)), Fate::Forward { .. }));
    world.wait(1000);
    assert!(world.relays.splice(id).is_some());
    world.events();
    world.client_says(1, Flags::RST);
    assert_eq!(world.events(), [Event::Stage(id, Stage::Over)], "the right number");
}

#[test]
fn a_host_that_knows_nothing_of_its_syn_ends_the_splice_with_a_reset() {
    let mut world = World::new();
    let id = world.begin(1);
    world.answer(id, Flags::SYN | Flags::ACK);
    world.client_says(1, Flags::RST);
    assert_eq!(world.events(), [Event::Stage(id, Stage::Over)]);
    world.wait(65);
    assert_eq!(world.relays.len(), 0);
}

#[test]
fn resets_that_nobody_believes_cost_few_records() {
    let mut world = World::new();
    let id = world.open(1);
    let mut records = 0;
    for _ in 0..1000 {
        world.client_says(1, Flags::RST);
        world.backend_says(id, Flags::ACK);
        records += world.events().len();
    }
    assert!(records < 20, "{records}");
    assert_eq!(world.relays.stage(id), Some(Stage::Open));
}

#[test]
fn who_is_never_heard_again_after_its_syn_makes_room() {
    let mut world = World::new();
    // The backend has answered each of them, and none of them has heard.
    let greet = |world: &mut World, port| {
        let id = world.begin(port);
        world.answer(id, Flags::SYN | Flags::ACK);
        world.say(client(port), &segment(Flags::ACK, 1001, 77));
        id
    };
    let (stays, first) = (world.open(1), greet(&mut world, 2));
    for port in 1..FLOOD as u16 {
        greet(&mut world, 100 + port);
    }
    world.wait(4);
    greet(&mut world, 3);
    assert_eq!(world.relays.splice(first), None, "an ACK out of nowhere opens nothing");
    assert!(world.relays.splice(stays).is_some());
    assert_eq!(world.relays.len(), FLOOD + 1);
    world.wait(140);
    assert_eq!(world.relays.len(), 1, "their time is short");
}

#[test]
fn text_or_an_acknowledgment_of_text_proves_that_the_backend_has_heard_its_client() {
    for (payload, more, inherited) in
        [(&b"220 hello"[..], 0, false), (&b"220 hello"[..], 0, true), (&[], 10, true)]
    {
        let mut world = World::new();
        let id = world.begin(1);
        world.answer(id, Flags::SYN | Flags::ACK);
        let splice = world.relays.splice(id).unwrap();
        if inherited {
            world = World::new();
            assert_eq!(world.relays.hold(world.now, id, splice), Ok(()));
            world.relays.arm(world.now);
        }
        let ack = SeqNum(1001 + more).add(splice.seq).0;
        let speaks = Segment { payload, ..segment(Flags::ACK, 5001, ack) };
        world.say(splice.backend, &speaks);
        for port in 0..FLOOD as u16 {
            world.begin(100 + port);
        }
        world.wait(4);
        world.begin(3);
        assert!(world.relays.splice(id).is_some());
    }
}

#[test]
fn a_new_syn_before_the_backend_has_answered_begins_anew() {
    let mut world = World::new();
    let first = world.begin(1);
    world.say(client(1), &segment(Flags::SYN, 77, 0));
    let events = world.events();
    let [Event::Unspliced(gone), Event::Spliced(next)] = events[..] else { panic!("{events:?}") };
    assert!(gone == first && next != first);
}

#[test]
fn a_port_rests_for_a_second() {
    let mut world = World::new();
    let id = world.open(1);
    let (leg, ours) = (world.backend(id), "10.77.0.100".parse().unwrap());
    world.client_says(1, Flags::RST);
    let comes_around = |world: &mut World| {
        (0..65_000).any(|_| world.relays.free_leg(world.now, 0, 0, ours) == Some(leg))
    };
    assert!(!comes_around(&mut world), "what is under way may still come");
    world.now = world.now + Duration::from_secs(1);
    assert!(comes_around(&mut world));
}

#[test]
fn a_flood_takes_ports_of_its_own_only() {
    let mut settings = settings();
    settings.backends.truncate(1);
    let limits = Limits { splices_max: 80_000, opening_max: 80_000, ..limits() };
    let mut world = World::with(&[settings], limits);
    let stays = world.open(1);
    // Ports of ours run out; there is room for all of them in the table.
    for n in 0..65_000_u32 {
        let remote = ([172, 16, (n >> 8) as u8, n as u8], 5).into();
        let from = FourTuple { remote, ..client(1) };
        world.say(from, &segment(Flags::SYN, 1000, 0));
        world.events();
    }
    let refused = world.relays.counts().full;
    world.wait(4);
    world.begin(2);
    assert!(world.relays.splice(stays).is_some());
    assert_eq!(world.relays.counts().full, refused);
}

#[test]
fn a_full_table_gives_up_who_has_been_half_open_for_long() {
    let mut world = World::with(&[settings()], Limits { splices_max: 3, ..limits() });
    let (one, two, flood) = (world.open(1), world.open(2), world.begin(3));
    world.say(client(4), &segment(Flags::SYN, 1000, 0));
    assert!(world.relays.splice(flood).is_some(), "it may be on its way");
    world.wait(4);
    let four = world.begin(4);
    assert_eq!(world.relays.splice(flood), None);
    assert!([one, two, four].iter().all(|id| world.relays.splice(*id).is_some()));
}

#[test]
fn a_client_in_the_name_of_a_backend_gets_a_leg_that_is_not_its_own() {
    let mut settings = settings();
    settings.backends.truncate(1);
    let mut world = World::with(&[settings], Limits { splices_max: 70_000, ..limits() });
    let from = FourTuple { remote: "10.77.0.21:80".parse().unwrap(), ..client(1) };
    // Each SYN is of another incarnation, and takes the next port.
    for seq in 0..65_000 {
        assert_eq!(world.say(from, &segment(Flags::SYN, seq, 0)), Fate::Taken);
        world.events();
    }
    assert_eq!(world.relays.len(), 1);
}

#[test]
fn a_check_that_cannot_be_made_is_put_off() {
    let addresses = vec!["10.77.0.100".parse().unwrap()];
    let mut world = World::with(&[settings()], Limits { addresses, ..limits() });
    for _ in 0..10 {
        world.wait(1);
        answer_checks(&mut world, |_| Some(true));
        assert!(world.relays.deadline() > world.now, "an IPv6 backend, and no address for it");
    }
}

#[test]
fn a_syn_again_and_again_costs_bounded_memory() {
    let mut world = World::new();
    world.begin(1);
    for _ in 0..10_000 {
        world.say(client(1), &segment(Flags::SYN, 1000, 0));
    }
    assert!(world.headers().len() <= 2 * FLOOD);
}

#[test]
fn one_that_keeps_asking_keeps_no_other_waiting_for_ever() {
    let mut world = World::new();
    for port in 1..=2 {
        world.say(client(port), &segment(Flags::SYN, 1000, 0));
    }
    for _ in 0..20 {
        world.wait(20);
        world.say(client(1), &segment(Flags::SYN, 1000, 0));
    }
    assert_eq!(world.relays.len(), 1, "the other was over long ago");
}

#[test]
fn after_a_takeover_a_port_is_found_among_many_that_are_held() {
    let mut settings = settings();
    settings.backends.truncate(1);
    let limits = |key| Limits { splices_max: 60_000, opening_max: 60_000, key, ..limits() };
    let mut peer = World::with(&[settings.clone()], limits([3; 16]));
    let mut held = Vec::new();
    for n in 0..30_000_u32 {
        let remote = ([172, 16, (n >> 8) as u8, n as u8], 5).into();
        peer.say(FourTuple { remote, ..client(1) }, &segment(Flags::SYN, 1000, 0));
        let Some(Event::Spliced(id)) = peer.relays.poll_event() else { panic!("a splice") };
        held.push((id, peer.relays.splice(id).unwrap()));
    }
    // Wherever the heir begins to look.
    for key in [0, 9, 33, 77, 121] {
        let mut heir = World::with(&[settings.clone()], limits([key; 16]));
        for (id, splice) in &held {
            assert_eq!(heir.relays.hold(heir.now, *id, *splice), Ok(()));
        }
        heir.relays.arm(heir.now);
        for port in 1..=100 {
            heir.begin(port);
        }
        assert_eq!(heir.relays.counts().full, 0);
    }
}

/// A client that gives up an upload resets behind all that is under way.
#[test]
fn a_reset_behind_a_large_flight_is_believed_and_one_beside_it_is_not() {
    let mut world = World::new();
    let mut syn = segment(Flags::SYN, 1000, 0);
    syn.options.window_scale = Some(2);
    world.say(client(1), &syn);
    let events = world.events();
    let [Event::Spliced(id)] = events[..] else { panic!("{events:?}") };
    world.relays.commit(world.now, id);
    let splice = world.relays.splice(id).unwrap();
    let mut answer = segment(Flags::SYN | Flags::ACK, 5000, SeqNum(1001).add(splice.seq).0);
    answer.options.window_scale = Some(14);
    world.say(splice.backend, &answer);
    world.client_says(1, Flags::ACK);
    world.backend_says(id, Flags::ACK);
    world.events();
    let text = [0; 60_000];
    let sent = 40 * text.len() as u32;
    for offset in (0..sent).step_by(text.len()) {
        let piece = Segment { payload: &text, ..segment(Flags::ACK, 1001 + offset, 5001) };
        world.say(client(1), &piece);
    }
    let reset = |world: &mut World, seq| world.say(client(1), &segment(Flags::RST, seq, 0));
    for seq in [1000, 1002, 1000 + sent, 1002 + sent, 900_000_000] {
        reset(&mut world, seq);
        assert_eq!(world.relays.stage(id), Some(Stage::Open), "{seq}");
    }
    reset(&mut world, 1001 + sent);
    assert_eq!(world.relays.stage(id), Some(Stage::Over));
}

/// What a flood has left behind does not outlive a takeover by hours.
#[test]
fn who_takes_over_tells_what_stands_from_what_was_never_heard_again() {
    let mut world = World::new();
    let (stands, flood) = (world.open(1), world.begin(2));
    let splices = [stands, flood].map(|id| (id, world.relays.splice(id).unwrap()));
    let mut heir = World::new();
    for (id, splice) in splices {
        assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    }
    assert_eq!(heir.relays.hold_stage(stands, Stage::Open), Ok(()));
    heir.relays.arm(heir.now);
    heir.wait(200);
    assert_eq!((heir.relays.splice(flood), heir.relays.half_open()), (None, 0));
    assert!(heir.relays.splice(stands).is_some());
}

/// The word that it stands may have died with the old owner.
#[test]
fn a_held_splice_stands_as_soon_as_its_backend_goes_on() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = World::new();
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    heir.relays.arm(heir.now);
    heir.say(splice.backend, &segment(Flags::SYN | Flags::ACK, 5000, 0));
    heir.client_says(1, Flags::ACK);
    assert_eq!(heir.relays.stage(id), Some(Stage::HalfOpen), "anybody can say that");
    heir.backend_says(id, Flags::ACK);
    assert_eq!(heir.relays.stage(id), Some(Stage::Open));
}

#[test]
fn an_inherited_handshake_goes_on_to_another_backend() {
    let mut world = World::new();
    let id = world.begin(1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = World::new();
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    heir.relays.arm(heir.now);
    heir.headers();
    // The old owner's SYN is refused. The client repeats it.
    assert_eq!(heir.answer(id, Flags::RST | Flags::ACK), Fate::Taken);
    heir.say(client(1), &segment(Flags::SYN, 1000, 0));
    let to: Vec<_> = heir.headers().iter().map(|header| header.tuple).collect();
    assert_eq!(to, [splice.backend]);
    assert_eq!(heir.answer(id, Flags::RST | Flags::ACK), Fate::Taken);
    assert_eq!(heir.events(), [Event::Spliced(id)]);
    assert_ne!(heir.backend(id).remote, splice.backend.remote);
    assert_eq!(heir.relays.half_open(), 1);
}

/// The standby may have missed that a splice stands.
#[test]
fn a_backend_that_has_forgotten_an_inherited_splice_is_heard_the_second_time() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = World::new();
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    heir.relays.arm(heir.now);
    assert_eq!(heir.answer(id, Flags::RST | Flags::ACK), Fate::Taken);
    assert!(matches!(heir.answer(id, Flags::RST | Flags::ACK), Fate::Forward { .. }));
}
