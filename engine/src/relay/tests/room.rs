//! Which clients get a port and a place: floods, greedy clients, backends of which little is known.

use super::*;

/// A relay with one backend, and room in the table for all of its ports.
fn roomy(client_max: u32) -> World {
    let mut settings = Settings { client_max, ..settings() };
    settings.backends.truncate(1);
    let limits = Limits { splices_max: 100_000, opening_max: OPENING_MOST, ..limits() };
    World::with(&[settings], limits)
}

/// The `n`th client of a flood, each under a name of its own.
fn forged(n: u32) -> FourTuple {
    let [_, a, b, c] = n.to_be_bytes();
    FourTuple { remote: ([172, a, b, c], 5).into(), ..client(1) }
}

#[test]
fn a_flood_of_syns_leaves_ports_to_those_who_are_no_part_of_it() {
    let mut world = roomy(CLIENT_MAX);
    let stands = world.open(1);
    let (mut sent, mut served, mut tries) = (0, 0, 0);
    // 21,500 in a second, for ten; each second somebody else comes, up to four times.
    for second in 0..10 {
        for _ in 0..21_500 {
            world.say(forged(sent), &segment(Flags::SYN, 1000, 0));
            sent += 1;
            while world.relays.poll_event().is_some() {}
        }
        assert!(world.relays.half_open() <= OPENING_MOST);
        let taken: u32 = world.relays.backends().map(|view| view.splices + view.lingering).sum();
        assert!(taken <= OPENING_MOST as u32 + 20, "{taken} ports");
        world.wait(1);
        answer_checks(&mut world, |_| Some(true));
        world.events();
        let port = 100 + second;
        tries += 1;
        world.say(client(port), &segment(Flags::SYN, 1000, 0));
        if let Some(Event::Spliced(id)) = world.events().last() {
            world.relays.commit(world.now, *id);
            world.answer(*id, Flags::SYN | Flags::ACK);
            world.client_says(port, Flags::ACK);
            served += u32::from(world.relays.stage(*id) == Some(Stage::Open));
        }
        world.headers();
    }
    assert_eq!(served, tries, "whoever comes a second later finds room");
    assert_eq!(world.relays.stage(stands), Some(Stage::Open));
}

#[test]
fn the_oldest_of_those_who_were_never_heard_again_gives_way_first() {
    let mut world = World::new();
    let mut ids = Vec::new();
    for port in 0..FLOOD as u16 {
        ids.push(world.begin(100 + port));
        world.now = world.now + Duration::from_millis(10);
    }
    world.now = world.now + Duration::from_secs(1);
    for (port, oldest) in ids[..3].iter().enumerate() {
        world.begin(200 + port as u16);
        assert_eq!(world.relays.splice(*oldest), None);
        assert_eq!(world.relays.half_open(), FLOOD);
    }
    assert!(ids[3..].iter().all(|id| world.relays.splice(*id).is_some()));
}

#[test]
fn a_backend_that_repeats_its_answer_keeps_nobody_in_the_way() {
    let mut world = World::new();
    let first = world.begin(1);
    world.answer(first, Flags::SYN | Flags::ACK);
    for port in 1..FLOOD as u16 {
        world.begin(100 + port);
    }
    world.now = world.now + Duration::from_millis(1000);
    world.answer(first, Flags::SYN | Flags::ACK);
    world.begin(3);
    assert_eq!(world.relays.splice(first), None);
}

#[test]
fn one_address_has_no_more_splices_than_a_relay_allows_it() {
    let mut world = World::with(&[Settings { client_max: 3, ..settings() }], limits());
    let ids: Vec<_> = (1..=3).map(|port| world.open(port)).collect();
    assert_eq!(world.say(client(4), &segment(Flags::SYN, 1000, 0)), Fate::Taken);
    assert_eq!((world.events(), world.relays.counts().greedy), (vec![], 1));
    // Others are not concerned, and it has more when one of its own is over.
    let other = FourTuple { remote: "10.77.0.11:4".parse().unwrap(), ..client(4) };
    world.say(other, &segment(Flags::SYN, 1000, 0));
    assert_eq!(world.events().len(), 1);
    world.finish(1, ids[0]);
    world.events();
    world.open(4);
    assert_eq!(world.relays.counts().greedy, 1);
}

#[test]
fn who_asks_for_many_at_once_gets_no_more_than_it_may_have() {
    let mut world = World::with(&[Settings { client_max: 3, ..settings() }], limits());
    let ids: Vec<_> = (1..=5).map(|port| world.begin(port)).collect();
    for id in &ids {
        world.answer(*id, Flags::SYN | Flags::ACK);
    }
    for port in 1..=5 {
        let stands = matches!(world.client_says(port, Flags::ACK), Fate::Forward { .. });
        assert_eq!(stands, port <= 3, "{port}");
    }
    assert_eq!((world.relays.len(), world.relays.counts().greedy), (3, 2));
}

#[test]
fn forged_syns_under_the_name_of_a_client_are_not_held_against_it() {
    let mut world = World::with(&[Settings { client_max: 3, ..settings() }], limits());
    for port in 100..106 {
        world.begin(port);
    }
    world.open(1);
    world.open(2);
    assert_eq!(world.relays.counts().greedy, 0);
}

#[test]
fn an_ipv6_network_counts_as_one_client() {
    let mut world = World::with(&[Settings { client_max: 1, ..settings() }], limits());
    let leg = |host: &str| FourTuple {
        local: "[fd77::100]:8080".parse().unwrap(),
        remote: host.parse().unwrap(),
    };
    let mut open = |host: &str| {
        world.say(leg(host), &segment(Flags::SYN, 1000, 0));
        let Some(Event::Spliced(id)) = world.events().last().cloned() else { return false };
        world.relays.commit(world.now, id);
        world.answer(id, Flags::SYN | Flags::ACK);
        matches!(world.say(leg(host), &segment(Flags::ACK, 1001, 5001)), Fate::Forward { .. })
    };
    let opened = ["[fd77::10]:1", "[fd77::ffff:0:0:11]:1", "[fd77:0:0:1::10]:1"].map(&mut open);
    assert_eq!(opened, [true, false, true]);
}

/// The backend of each of the splices that come at once.
fn choices(world: &mut World, count: u16) -> Vec<Endpoint> {
    (0..count)
        .filter_map(|port| {
            world.say(client(1000 + port), &segment(Flags::SYN, 1000, 0));
            let events = world.events();
            let Some(Event::Spliced(id)) = events.last() else { return None };
            Some(world.backend(*id).remote)
        })
        .collect()
}

const UP: Health = Health { up: true, barred: false, born: 0, failed: None };

#[test]
fn an_heir_knows_which_backends_are_down_and_asks_none_of_them() {
    let mut world = World::new();
    let [sick, well] = ["10.77.0.21:80", "10.77.0.22:80"].map(|text| text.parse().unwrap());
    for _ in 0..12 {
        world.wait(1);
        answer_checks(&mut world, |address| Some(*address != sick));
    }
    let told: Vec<_> = core::iter::from_fn(|| world.relays.poll_event()).collect();
    let mut heir = World::with(&[settings()], Limits { opening_max: 100, ..limits() });
    for event in told {
        if let Event::Health { port, address, health } = event {
            heir.relays.hold_health(port, address, health);
        }
    }
    // Of one that is not configured here it is no use to know.
    heir.relays.hold_health(PORT, "10.77.0.99:80".parse().unwrap(), UP);
    heir.relays.hold_health(1, sick, UP);
    heir.relays.arm(heir.now);
    assert_eq!(choices(&mut heir, 16), [well; 16]);
    let down: Vec<_> = heir.relays.backends().filter(|view| !view.up).collect();
    let [View { address, known: true, .. }] = down[..] else { panic!("{down:?}") };
    assert_eq!(address, sick);
    // It still finds out for itself.
    for _ in 0..6 {
        heir.wait(1);
        answer_checks(&mut heir, |_| Some(true));
    }
    assert!(heir.relays.backends().all(|view| view.up));
    heir.relays.forget();
    assert!(heir.relays.backends().all(|view| view.up && !view.known));
}

#[test]
fn a_backend_of_which_nothing_is_known_is_tried_with_few_until_it_has_served_one() {
    let limits = Limits { opening_max: 100, ..limits() };
    let mut world = World::with(&[settings()], limits);
    let [known, unknown]: [Endpoint; 2] =
        ["10.77.0.21:80", "10.77.0.22:80"].map(|text| text.parse().unwrap());
    world.relays.hold_health(PORT, known, UP);
    let to = choices(&mut world, 16);
    assert_eq!(to.iter().filter(|to| **to == unknown).count(), 2);
    // It has not answered; a second later it is tried again.
    world.wait(1);
    world.headers();
    for port in 1..=2 {
        let id = world.begin(port);
        assert_eq!(world.backend(id).remote, unknown);
    }
    let id = world.begin(3);
    assert_eq!(world.backend(id).remote, known);
    // An answer makes it one like the other.
    let held = world.relays.table.iter().find(|entry| entry.splice.backend.remote == unknown);
    let held = held.unwrap().id;
    world.relays.commit(world.now, held);
    world.answer(held, Flags::SYN | Flags::ACK);
    let served = core::iter::from_fn(|| world.relays.poll_event())
        .filter(|event| *event == Event::Health { port: PORT, address: unknown, health: UP });
    assert_eq!(served.count(), 1, "and the standby is told");
    for port in 4..=9 {
        let id = world.begin(port);
        assert_eq!(world.backend(id).remote, unknown, "it has less to do");
    }
}

#[test]
fn where_nothing_is_known_of_any_backend_nobody_is_refused() {
    let mut world = World::with(&[settings()], Limits { opening_max: 100, ..limits() });
    assert_eq!(choices(&mut world, 16).len(), 16);
}

#[test]
fn a_backend_that_was_taken_out_is_seen_as_long_as_it_has_splices() {
    let mut world = World::new();
    let ids = [world.open(1), world.open(2), world.open(3)];
    let splices = ids.map(|id| (id, world.relays.splice(id).unwrap()));
    let gone: Endpoint = "10.77.0.21:80".parse().unwrap();
    let mut settings = settings();
    settings.backends.retain(|backend| backend.address != gone);
    let mut heir = World::with(&[settings], limits());
    for (id, splice) in splices {
        assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
        assert_eq!(heir.relays.hold_stage(id, Stage::Open), Ok(()));
    }
    heir.check_counts();
    heir.relays.arm(heir.now);
    let seen = |world: &World| {
        let removed = world.relays.backends().filter(|view| view.removed);
        removed.map(|view| (view.address, view.splices, view.lingering)).collect::<Vec<_>>()
    };
    assert_eq!(seen(&heir), [(gone, 2, 0)]);
    // It gets no new ones, and no checks.
    assert!(!choices(&mut heir, 4).contains(&gone));
    heir.wait(10);
    assert!(heir.headers().iter().all(|header| header.tuple.remote != gone));
    let of_gone = |(_, splice): &&(SpliceId, Splice)| splice.backend.remote == gone;
    for (id, _) in splices.iter().filter(of_gone) {
        heir.relays.end(*id);
        heir.check_counts();
    }
    assert_eq!(seen(&heir), []);
    heir.relays.forget();
    assert_eq!(heir.relays.backends().count(), 2);
}

#[test]
fn what_is_over_is_counted_apart() {
    let mut world = World::new();
    let (one, two) = (world.open(1), world.open(2));
    world.finish(1, one);
    let counted = |world: &World| {
        let views: Vec<_> = world.relays.backends().collect();
        let sum = |of: fn(&View) -> u32| views.iter().map(of).sum::<u32>() as usize;
        assert_eq!(sum(|view| view.splices), world.relays.len() - world.relays.lingering());
        assert_eq!(sum(|view| view.lingering), world.relays.lingering());
        (world.relays.len(), world.relays.lingering())
    };
    assert_eq!(counted(&world), (2, 1));
    world.wait(65);
    world.check_counts();
    assert_eq!(counted(&world), (1, 0));
    assert!(world.relays.splice(two).is_some());
}

#[test]
fn the_largest_segment_of_an_ipv6_leg_leaves_room_for_its_header() {
    let mut world = World::new();
    let mut syn = segment(Flags::SYN, 1000, 0);
    syn.options.mss = Some(8960);
    for (leg, most) in [
        (client(1), 1460),
        (
            FourTuple {
                local: "[fd77::100]:8080".parse().unwrap(),
                remote: "[fd77::10]:1".parse().unwrap(),
            },
            1440,
        ),
    ] {
        world.say(leg, &syn);
        let events = world.events();
        let [Event::Spliced(id)] = events[..] else { panic!("{events:?}") };
        world.relays.commit(world.now, id);
        let headers = world.headers();
        assert_eq!(headers[0].options.mss, Some(most));
        let fate = world.answer(id, Flags::SYN | Flags::ACK);
        let Fate::Forward { rewrite, .. } = fate else { panic!("{fate:?}") };
        assert_eq!(rewrite.mss_max, most);
    }
}

#[test]
fn an_end_of_input_is_not_forgotten_for_a_reset_that_nobody_believed() {
    let mut world = World::new();
    let id = world.open(1);
    let shift = world.relays.splice(id).unwrap().seq;
    let acked = SeqNum(1002).add(shift).0;
    world.client_says(1, Flags::FIN | Flags::ACK);
    let backend = world.backend(id);
    world.say(backend, &segment(Flags::ACK, 5001, acked));
    world.say(client(1), &segment(Flags::RST, 1002, 0));
    assert_eq!(world.relays.stage(id), Some(Stage::Over));
    world.say(backend, &segment(Flags::ACK, 5001, acked));
    assert_eq!(world.relays.stage(id), Some(Stage::Open));
    world.say(backend, &segment(Flags::FIN | Flags::ACK, 5001, acked));
    world.say(client(1), &segment(Flags::ACK, 1002, 5002));
    assert_eq!(world.relays.stage(id), Some(Stage::Over), "both have finished");
}

#[test]
fn the_port_of_a_check_is_no_splices() {
    let mut world = World::new();
    world.wait(1);
    let checks = world.headers();
    let ours: IpAddr = "10.77.0.100".parse().unwrap();
    let probed = checks.iter().find(|header| header.tuple.local.ip() == ours).unwrap().tuple;
    let server = usize::from(probed.remote != "10.77.0.21:80".parse().unwrap());
    for _ in 0..65_000 {
        assert_ne!(world.relays.free_leg(world.now, 0, server, ours), Some(probed));
    }
}

#[test]
fn results_that_are_not_in_a_row_change_nothing() {
    let mut world = World::new();
    let sick: Endpoint = "10.77.0.21:80".parse().unwrap();
    for round in 0..12 {
        // Two bad, one good; three in a row would take it down.
        for _ in 0..2 {
            world.wait(1);
            let good = round % 3 == 2;
            answer_checks(&mut world, |address| Some(good || *address != sick));
        }
    }
    assert_eq!(world.events(), []);
}

#[test]
fn a_refused_client_hastens_the_next_check() {
    let mut world = World::new();
    world.wait(1);
    answer_checks(&mut world, |_| Some(true));
    let id = world.begin(1);
    let address = world.backend(id).remote;
    world.headers();
    world.answer(id, Flags::RST | Flags::ACK);
    world.headers();
    assert!(world.relays.deadline() <= world.now);
    world.relays.on_timer(world.now, &numbers(world.now));
    let asked: Vec<_> = world.headers().iter().map(|header| header.tuple.remote).collect();
    assert_eq!(asked, [address]);
}

#[test]
fn a_splice_without_a_port_is_refused() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut standby = World::new();
    let at = |end: Endpoint| Endpoint::new(end.ip(), 0);
    let Splice { client, backend, .. } = splice;
    for wrong in [
        Splice { client: FourTuple { remote: at(client.remote), ..client }, ..splice },
        Splice { backend: FourTuple { local: at(backend.local), ..backend }, ..splice },
        Splice { backend: FourTuple { remote: at(backend.remote), ..backend }, ..splice },
    ] {
        let refused = standby.relays.hold(standby.now, id, wrong);
        assert_eq!(refused, Err("splice is not one of the service's"));
    }
    assert_eq!(standby.relays.len(), 0);
}

/// What a standby holds is counted as it comes, changes and goes.
#[test]
fn what_is_held_is_counted_at_every_step() {
    let mut world = World::new();
    let (one, two) = (world.open(1), world.open(2));
    let [first, second] = [one, two].map(|id| world.relays.splice(id).unwrap());
    let mut standby = World::new();
    let now = standby.now;
    let mut step = |what: &dyn Fn(&mut Relays)| {
        what(&mut standby.relays);
        standby.check_counts();
    };
    step(&|relays| relays.hold(now, one, first).unwrap());
    step(&|relays| relays.hold(now, two, second).unwrap());
    step(&|relays| relays.hold_stage(one, Stage::Open).unwrap());
    // It goes on to another backend, under its name.
    let elsewhere = FourTuple { remote: second.backend.remote, ..first.backend };
    step(&|relays| relays.hold(now, one, Splice { backend: elsewhere, ..first }).unwrap());
    step(&|relays| relays.hold_stage(one, Stage::Over).unwrap());
    step(&|relays| relays.hold_stage(one, Stage::Open).unwrap());
    step(&|relays| relays.release(two).unwrap());
    step(&|relays| relays.hold(now, two, second).unwrap());
    step(&|relays| assert_eq!(relays.forget().len(), 2));
    assert!(standby.relays.backends().all(|view| (view.splices, view.lingering) == (0, 0)));
    assert_eq!(standby.relays.half_open(), 0);
}

#[test]
fn what_was_over_when_it_was_held_ends_a_minute_after_the_takeover() {
    let mut world = World::new();
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut heir = World::new();
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    assert_eq!(heir.relays.hold_stage(id, Stage::Over), Ok(()));
    heir.relays.arm(heir.now);
    heir.wait(62);
    assert_eq!(heir.relays.len(), 0);
    // And gives way at once where there is no room.
    let mut heir = World::with(&[settings()], Limits { splices_max: 1, ..limits() });
    assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
    assert_eq!(heir.relays.hold_stage(id, Stage::Over), Ok(()));
    heir.relays.arm(heir.now);
    heir.begin(2);
    assert_eq!(heir.relays.splice(id), None);
}

/// However many end in the same second, a turn sees to some of them, and asks for the next turn.
#[test]
fn a_crowd_that_is_over_ends_a_share_at_a_time() {
    const CROWD: usize = 3000;
    let mut world = World::new();
    let known = world.open(1);
    let splice = world.relays.splice(known).unwrap();
    let mut heir =
        World::with(&[settings()], Limits { splices_max: CROWD, opening_max: CROWD, ..limits() });
    for n in 0..CROWD as u32 {
        let id = SpliceId(1 << 32 | u64::from(n));
        let client = Endpoint::new([10, 78, (n >> 8) as u8, n as u8].into(), 1);
        let local = Endpoint::new(splice.backend.local.ip(), 20_000 + n as u16);
        let client = FourTuple { remote: client, ..splice.client };
        let backend = FourTuple { local, ..splice.backend };
        assert_eq!(heir.relays.hold(heir.now, id, Splice { client, backend, ..splice }), Ok(()));
        // A third of them each: over, half-open, and silent for very long.
        match n % 3 {
            0 => assert_eq!(heir.relays.hold_stage(id, Stage::Over), Ok(())),
            1 => assert_eq!(heir.relays.hold_stage(id, Stage::Open), Ok(())),
            _ => {}
        }
    }
    heir.relays.arm(heir.now);
    let mut turns = 0;
    heir.now = heir.now + IDLE;
    loop {
        let before = heir.relays.len();
        if before == 0 {
            break;
        }
        heir.relays.on_timer(heir.now, &numbers(heir.now));
        let ended = before - heir.relays.len();
        assert!(ended <= 3 * SHARE, "{ended} in one turn");
        heir.events();
        if heir.relays.deadline() > heir.now {
            heir.now = heir.now + SWEEP;
        }
        turns += 1;
    }
    assert!(turns > CROWD / (3 * SHARE), "{turns}");
    assert!(heir.relays.half_open() == 0 && heir.relays.lingering() == 0);
}
