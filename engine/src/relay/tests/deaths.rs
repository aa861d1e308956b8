//! Stories of backends that checks call dead, and of what they had.

use super::*;

const FIRST: &str = "10.77.0.21:80";

/// Checks of one backend of three are not answered, or as `answer` says; the others' are good.
fn check(world: &mut World, answer: Option<Flags>) -> Vec<Event> {
    world.now = world.now + Duration::from_secs(1);
    world.relays.on_timer(world.now, &numbers(world.now));
    for header in world.headers() {
        let is_first = header.tuple.remote.to_string() == FIRST;
        let flags = if is_first { answer } else { Some(Flags::SYN | Flags::ACK) };
        if let Some(flags) = flags.filter(|_| header.flags == Flags::SYN) {
            world.say(header.tuple, &segment(flags, 1, header.seq.add(1).0));
        }
    }
    world.headers();
    world.events()
}

/// A whole check, and what it has brought about.
fn silent(world: &mut World) -> Vec<Event> {
    let mut events = check(world, None);
    events.extend(check(world, None));
    events
}

fn dead(left: u32) -> Event {
    Event::Dead { port: PORT, address: FIRST.parse().unwrap(), left }
}

fn cuts(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Cut(_))).count()
}

fn cutting() -> Settings {
    Settings { on_death: OnDeath::Cut, ..settings() }
}

fn dying() -> World {
    World::with(&[cutting()], limits())
}

fn view(world: &World) -> View {
    world.relays.backends().next().expect("there are some")
}

#[test]
fn what_a_backend_has_ends_once_checks_have_found_nobody_as_often_as_takes_it_down() {
    let mut world = dying();
    (1..=4).for_each(|port| _ = world.open(port));
    let mut events = Vec::new();
    while !events.contains(&dead(2)) {
        assert!(view(&world).up, "{events:?}");
        events.extend(silent(&mut world));
    }
    events.extend(check(&mut world, None));
    assert_eq!((cuts(&events), view(&world).splices, view(&world).up), (2, 0, false));
    assert_eq!(view(&world).state, State::default(), "nobody has said anything of it");
    let more: Vec<_> = (0..5).flat_map(|_| silent(&mut world)).collect();
    assert_eq!(more, [], "it is told once");
}

#[test]
fn where_it_is_wanted_so_it_is_left_to_its_ends() {
    let mut world = World::new();
    (1..=4).for_each(|port| _ = world.open(port));
    let events: Vec<_> = (0..5).flat_map(|_| silent(&mut world)).collect();
    assert!(!events.contains(&dead(2)));
    assert_eq!((cuts(&events), view(&world).splices, view(&world).up), (0, 2, false));
}

/// A server that begins anew refuses for a moment, and its old connections may live on.
#[test]
fn clients_that_are_refused_make_nobody_dead() {
    let mut world = dying();
    check(&mut world, Some(Flags::SYN | Flags::ACK));
    (1..=4).for_each(|port| _ = world.open(port));
    for port in 10..20 {
        let id = world.begin(port);
        if world.backend(id).remote.to_string() == FIRST {
            world.answer(id, Flags::RST | Flags::ACK);
            world.relays.commit(world.now, id);
        }
        world.answer(id, Flags::SYN | Flags::ACK);
        world.client_says(port, Flags::ACK);
        world.headers();
        world.events();
    }
    assert!(!view(&world).up);
    assert_eq!(view(&world).failed.map(|(failure, _)| failure), Some(Failure::Refused));
    let before = view(&world).splices;
    let events: Vec<_> = (0..2).flat_map(|_| silent(&mut world)).collect();
    assert_eq!((cuts(&events), view(&world).splices), (0, before));
    // Its old connections are as dead as it is, if checks find nobody either.
    let events: Vec<_> = (0..3).flat_map(|_| silent(&mut world)).collect();
    assert_eq!(cuts(&events), before as usize);
}

#[test]
fn one_that_says_itself_that_it_is_not_well_keeps_what_it_has() {
    let http = HttpCheck { path: "/".into(), host: None, wanted: vec![(200, 200)] };
    let check = Check { http: Some(http.into()), fall: 1, ..Check::default() };
    let one = Settings { check, backends: vec![settings().backends[0]], ..cutting() };
    let mut world = World::with(&[one], limits());
    let id = world.open(1);
    let ask = |world: &mut World, reply: &[u8]| {
        world.now = world.now + Duration::from_secs(2);
        world.relays.on_timer(world.now, &numbers(world.now));
        let syn = world.headers().remove(0);
        world.say(syn.tuple, &segment(Flags::SYN | Flags::ACK, 1, syn.seq.add(1).0));
        let (header, text) = world.relays.poll_request().expect("it is asked");
        let end = header.seq.add(text.len() as u32).0;
        let flags = Flags::ACK | Flags::FIN;
        world.say(syn.tuple, &Segment { payload: reply, ..segment(flags, 2, end) });
        world.relays.on_timer(world.now, &numbers(world.now));
        world.headers();
        world.events()
    };
    let events = ask(&mut world, b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    assert_eq!((cuts(&events), view(&world).up), (0, false));
    assert!(world.relays.splice(id).is_some());
    // One that closes without a word does not serve anybody.
    let events = ask(&mut world, b"");
    assert!(events.contains(&dead(1)), "{events:?}");
    assert_eq!(cuts(&events), 1);
}

#[test]
fn whoever_is_in_maintenance_is_not_found_dead() {
    let mut world = dying();
    (1..=4).for_each(|port| _ = world.open(port));
    let address = FIRST.parse().unwrap();
    let order = Order { address, port: None, admin: Some(Admin::Maint), weight: None, cut: false };
    assert!(world.relays.obey(world.now, &order).is_ok());
    world.events();
    let events: Vec<_> = (0..5).flat_map(|_| silent(&mut world)).collect();
    assert_eq!((cuts(&events), view(&world).splices), (0, 2));
}

/// What an heir has been told says that it is down, and it finds out for itself that nobody is there.
#[test]
fn an_heir_ends_what_was_left() {
    let mut world = dying();
    let ids: Vec<_> = (1..=4).map(|port| world.open(port)).collect();
    let mut heir = dying();
    for id in ids {
        let splice = world.relays.splice(id).unwrap();
        assert_eq!(heir.relays.hold(heir.now, id, splice), Ok(()));
        assert_eq!(heir.relays.hold_stage(id, Stage::Open), Ok(()));
    }
    let failed = Some((Failure::Silent, heir.now));
    let health = Health { up: false, failed, ..Health::default() };
    heir.relays.hold_health(PORT, FIRST.parse().unwrap(), health);
    heir.relays.arm(heir.now);
    let events: Vec<_> = (0..2).flat_map(|_| silent(&mut heir)).collect();
    assert_eq!(cuts(&events), 0, "not before it has looked");
    let events: Vec<_> = (0..3).flat_map(|_| silent(&mut heir)).collect();
    assert_eq!(cuts(&events), 2);
}
