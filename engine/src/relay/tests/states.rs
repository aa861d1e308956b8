//! Stories of what operators say of backends.

use super::*;

const FIRST: &str = "10.77.0.21:80";
const SECOND: &str = "10.77.0.22:80";

fn order(address: &str, admin: Admin) -> Order {
    let (port, admin, weight, cut) = (None, Some(admin), None, false);
    Order { address: address.parse().unwrap(), port, admin, weight, cut }
}

fn weigh(address: &str, weight: u16) -> Order {
    Order { admin: None, weight: Some(weight), ..order(address, Admin::Ready) }
}

fn cut(address: &str) -> Order {
    Order { cut: true, ..order(address, Admin::Maint) }
}

impl World {
    fn obey(&mut self, order: Order) -> Vec<Event> {
        assert_eq!(self.relays.obey(self.now, &order), Ok(vec![PORT]));
        self.events()
    }

    fn turn(&mut self) -> Vec<Event> {
        self.relays.on_timer(self.now, &numbers(self.now));
        self.check_counts();
        self.events()
    }

    fn view(&self, address: &str) -> View {
        let address: Endpoint = address.parse().unwrap();
        self.relays.backends().find(|view| view.address == address).expect("it is there")
    }

    /// Where the next client goes.
    fn next(&mut self, port: u16) -> String {
        let id = self.open(port);
        self.backend(id).remote.to_string()
    }
}

fn state(admin: Admin, weight: Option<u16>, cut: bool) -> Event {
    let state = State { admin, weight, cut };
    Event::State { port: PORT, address: FIRST.parse().unwrap(), state }
}

#[test]
fn who_drains_gets_no_client_and_keeps_those_that_it_has() {
    let mut world = World::new();
    let ids: Vec<_> = (1..=4).map(|port| world.open(port)).collect();
    assert_eq!(world.view(FIRST).splices, 2);
    assert_eq!(world.obey(order(FIRST, Admin::Drain)), [state(Admin::Drain, None, false)]);
    assert!((5..=8).all(|port| world.next(port) == SECOND));
    assert_eq!(world.turn(), []);
    assert!(ids.iter().all(|id| world.relays.splice(*id).is_some()));
    assert_eq!(world.obey(order(FIRST, Admin::Ready)), [state(Admin::Ready, None, false)]);
    assert_eq!(world.next(9), FIRST, "it has the least to do");
}

#[test]
fn without_a_backend_that_takes_clients_they_are_refused_as_if_none_were_up() {
    let mut world = World::new();
    for address in [FIRST, SECOND] {
        assert!(!world.relays.takes_nobody(PORT, address.parse().unwrap()));
        world.obey(order(address, Admin::Drain));
    }
    assert!(world.relays.takes_nobody(PORT, FIRST.parse().unwrap()));
    assert!(!world.relays.takes_nobody(PORT, "[fd77::21]:80".parse().unwrap()));
    assert_eq!(world.say(client(1), &segment(Flags::SYN, 1000, 0)), Fate::Foreign);
    assert_eq!(world.relays.counts().refused, 1);
}

#[test]
fn weights_shift_clients() {
    let mut world = World::new();
    world.obey(weigh(FIRST, 3));
    let to_first = |world: &mut World, ports: core::ops::Range<u16>| {
        ports.filter(|port| world.next(*port) == FIRST).count()
    };
    assert_eq!(to_first(&mut world, 1..41), 30);
    assert_eq!(world.view(FIRST).weight, 3);
    world.obey(weigh(FIRST, 0));
    assert_eq!(to_first(&mut world, 41..51), 0);
    assert_eq!(world.relays.states().count(), 1);
    world.obey(weigh(FIRST, WEIGHT_MAX));
    assert_eq!(to_first(&mut world, 51..61), 10);
}

/// A check that was under way says nothing any more, and none begins.
#[test]
fn nobody_looks_after_a_backend_in_maintenance_and_then_at_once() {
    let mut world = World::new();
    let checks = |world: &mut World| {
        world.relays.on_timer(world.now, &numbers(world.now));
        let headers = world.headers();
        let syns = headers.into_iter().filter(|header| header.flags == Flags::SYN);
        syns.map(|header| header.tuple.remote.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(checks(&mut world), [FIRST, SECOND, "[fd77::21]:80"]);
    world.obey(order(FIRST, Admin::Maint));
    for _ in 0..20 {
        world.now = world.now + Duration::from_secs(1);
        assert!(!checks(&mut world).contains(&FIRST.to_owned()));
    }
    assert_eq!((world.view(FIRST).up, world.view(SECOND).up), (true, false));
    world.obey(order(FIRST, Admin::Ready));
    assert_eq!((world.view(FIRST).up, world.view(FIRST).known), (true, false), "it is hoped");
    assert!(checks(&mut world).contains(&FIRST.to_owned()));
}

#[test]
fn who_was_down_before_maintenance_has_to_show_that_it_serves() {
    let mut world = World::new();
    world.wait(10);
    world.obey(order(FIRST, Admin::Maint));
    world.obey(order(FIRST, Admin::Ready));
    assert_eq!((world.view(FIRST).up, world.view(FIRST).known), (false, true));
}

#[test]
fn what_is_cut_off_is_ended_and_its_ends_are_asked_for() {
    let mut world = World::new();
    let ids: Vec<_> = (1..=4).map(|port| world.open(port)).collect();
    let half = world.begin(5);
    let over = world.open(7);
    world.finish(7, over);
    world.events();
    let splices = |world: &World, ids: &[SpliceId]| {
        let splices = ids.iter().filter_map(|id| world.relays.splice(*id));
        splices.filter(|splice| splice.backend.remote.to_string() == FIRST).collect::<Vec<_>>()
    };
    let (mine, opening) = (splices(&world, &ids), splices(&world, &[half]));
    assert_eq!((mine.len(), opening.len()), (2, 1));
    assert_eq!(world.obey(cut(FIRST)), [state(Admin::Maint, None, true)]);
    let events = world.turn();
    let cuts = events.iter().filter_map(|event| match event {
        Event::Cut(splice) => Some(*splice),
        _ => None,
    });
    assert_eq!(cuts.collect::<Vec<_>>(), mine, "and nobody of the other one");
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Unspliced(_))).count(), 3);
    assert_eq!(events.last(), Some(&state(Admin::Maint, None, false)), "it is done");
    let view = world.view(FIRST);
    assert_eq!((view.splices, view.state.cut), (0, false));
    assert_eq!(world.view(SECOND).splices + world.view(SECOND).lingering, 3);
    // What either end says now is nobody's: it is reset.
    assert_eq!(world.say(mine[0].client, &segment(Flags::ACK, 1001, 5001)), Fate::Foreign);
    assert_eq!(world.turn(), []);
}

#[test]
fn who_is_ready_again_loses_nothing_more() {
    let mut world = World::new();
    (1..=4).for_each(|port| _ = world.open(port));
    world.obey(cut(FIRST));
    world.obey(order(FIRST, Admin::Ready));
    assert_eq!(world.turn(), []);
    assert_eq!(world.view(FIRST).splices, 2);
}

/// So that a turn stays short, and an heir goes on with the walk.
#[test]
fn very_many_are_ended_a_share_a_turn_and_an_heir_ends_the_rest() {
    let many = Limits { splices_max: 4000, opening_max: 4000, ..limits() };
    let mut world = World::with(&[settings()], many.clone());
    let (mut heir, mut splices) = (Relays::new(&[settings()], many), Vec::new());
    for port in 1..=3000 {
        let id = world.begin(port);
        world.answer(id, Flags::SYN | Flags::ACK);
        world.client_says(port, Flags::ACK);
        let splice = world.relays.splice(id).unwrap();
        assert_eq!(heir.hold(world.now, id, splice), Ok(()));
        assert_eq!(heir.hold_stage(id, Stage::Open), Ok(()));
        splices.push((id, splice));
        world.events();
    }
    world.headers();
    let follow = |heir: &mut Relays, now, events: &[Event]| {
        for event in events {
            match *event {
                Event::State { port, address, state } => heir.hold_state(now, port, address, state),
                Event::Unspliced(id) => heir.release(id).unwrap(),
                _ => {}
            }
        }
    };
    let told = world.obey(cut(FIRST));
    follow(&mut heir, world.now, &told);
    let told = world.turn();
    let ended = told.iter().filter(|event| matches!(event, Event::Cut(_))).count();
    assert!((1..=SHARE).contains(&ended), "{ended}");
    assert_eq!(world.relays.deadline(), Instant::ZERO, "it goes on at once");
    follow(&mut heir, world.now, &told);
    world.relays = heir;
    world.relays.arm(world.now);
    let mut turns = 0;
    while world.relays.deadline() == Instant::ZERO {
        let told = world.turn();
        assert!(told.len() <= 2 * SHARE + 1);
        turns += 1;
    }
    assert!((3000 / SHARE..=3000 / SHARE + 2).contains(&turns), "{turns}");
    assert_eq!((world.view(FIRST).splices, world.view(SECOND).splices), (0, 1500));
    assert!(!world.view(FIRST).state.cut);
}

#[test]
fn legs_of_sessions_are_left_or_broken() {
    let mut world = World::with(&[Settings { mode: Mode::Join, ..settings() }], limits());
    let legs: Vec<_> = (1..=4)
        .map(|port| world.relays.dial(world.now, PORT, &client(port), None).unwrap())
        .collect();
    world.events();
    let mine: Vec<_> = legs.iter().copied().filter(|leg| leg.remote.to_string() == FIRST).collect();
    assert_eq!((mine.len(), world.view(FIRST).sessions, world.view(FIRST).splices), (2, 2, 0));
    world.obey(order(FIRST, Admin::Drain));
    assert_eq!(world.turn(), mine.iter().copied().map(Event::Leave).collect::<Vec<_>>());
    world.obey(cut(FIRST));
    let mut broken: Vec<_> = mine.iter().copied().map(Event::Break).collect();
    broken.push(state(Admin::Maint, None, false));
    assert_eq!(world.turn(), broken);
    mine.iter().for_each(|leg| world.relays.hang_up(leg));
    assert_eq!(world.view(FIRST).sessions, 0);
    let next = world.relays.dial(world.now, PORT, &client(9), None).unwrap();
    assert_eq!(next.remote.to_string(), SECOND);
}

#[test]
fn a_follower_knows_what_was_said_and_a_newcomer_nothing_else() {
    let mut world = World::new();
    world.obey(order(FIRST, Admin::Maint));
    world.obey(weigh(SECOND, 7));
    let said: Vec<_> = world.relays.states().collect();
    assert_eq!(said.len(), 2);
    let mut other = World::new();
    other.obey(order(SECOND, Admin::Drain));
    other.relays.forget_states(other.now);
    for (port, address, state) in said.iter().copied() {
        other.relays.hold_state(other.now, port, address, state);
    }
    other.relays.hold_state(other.now, PORT, "10.77.0.99:80".parse().unwrap(), said[0].2);
    assert_eq!(other.relays.states().collect::<Vec<_>>(), said);
    other.relays.forget();
    other.relays.arm(other.now);
    assert_eq!(other.relays.states().collect::<Vec<_>>(), said, "whatever becomes of splices");
    assert_eq!(other.next(1), SECOND);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    let second = Settings { port: 9090, backends: vec![settings().backends[0]], ..settings() };
    let mut world = World::with(&[settings(), second], limits());
    let mut refused = |order: Order| world.relays.obey(world.now, &order).unwrap_err();
    assert_eq!(
        refused(order("10.77.0.21:81", Admin::Drain)),
        "no relay has a backend 10.77.0.21:81: there are 10.77.0.21:80, 10.77.0.22:80, [fd77::21]:80"
    );
    assert_eq!(
        refused(Order { port: Some(9090), ..order(SECOND, Admin::Drain) }),
        "relay 9090 has no backend 10.77.0.22:80: there is 10.77.0.21:80"
    );
    assert_eq!(
        refused(Order { port: Some(80), ..order(FIRST, Admin::Drain) }),
        "no relay has port 80: there are 8080, 9090"
    );
    assert_eq!(refused(weigh(FIRST, 257)), "a weight is 0 to 256");
    assert!(world.relays.states().next().is_none());
    let both = world.relays.obey(world.now, &order(FIRST, Admin::Drain));
    assert_eq!(both, Ok(vec![PORT, 9090]));
}

/// One that is not configured has what it has, and nobody may give it more.
#[test]
fn a_backend_that_was_removed_can_be_emptied() {
    let mut world = World::new();
    let gone = Settings { backends: settings().backends[1..].to_vec(), ..settings() };
    let id = world.open(1);
    let splice = world.relays.splice(id).unwrap();
    let mut relays = Relays::new(&[gone], limits());
    assert_eq!(relays.hold(world.now, id, splice), Ok(()));
    assert_eq!(relays.hold_stage(id, Stage::Open), Ok(()));
    relays.arm(world.now);
    world.relays = relays;
    assert_eq!(
        world.relays.obey(world.now, &weigh(FIRST, 1)).unwrap_err(),
        "10.77.0.21:80 is no longer in the configuration of relay 8080, and only keeps what it has: no weight \
         (1) gives it clients"
    );
    world.obey(order(FIRST, Admin::Ready));
    assert!((2..=5).all(|port| world.next(port) == SECOND));
    world.obey(cut(FIRST));
    assert!(world.turn().contains(&Event::Cut(splice)));
    assert!(world.relays.backends().all(|view| view.address.to_string() != FIRST));
}
