//! What one client address may have: no more than that, and everything that it has counts.

use super::client::Mode;
use super::room::tell;
use super::traps::packet;
use super::world::{ECHO, RELAYED, World, service_address};
use crate::engine::{Notice, PerSource, Setup};
use crate::relay;
use crate::service::{JoinPatience, Kind};
use crate::time::Duration;
use crate::wire::{Flags, SeqNum};

const MOST: usize = 5;

fn few(setup: &mut Setup) {
    setup.per_source = PerSource { connections: MOST as u32, rate: 0 };
}

fn world() -> World {
    let mut world = World::duplex_with(few);
    world.start_backends();
    world
}

/// Clients that talk, one after the other; those that nobody hears say nothing.
fn talkers(world: &mut World, port: u16, count: usize) -> Vec<usize> {
    let new = (0..count).map(|_| {
        let index = world.connect(port, Mode::Talk);
        world.say(index, 10, false);
        world.run_for(Duration::from_millis(5));
        index
    });
    new.collect()
}

fn heard(world: &World, talkers: &[usize]) -> usize {
    talkers.iter().filter(|index| world.clients[**index].received() > 0).count()
}

fn source_refused(world: &mut World, host: usize) -> u64 {
    world.engine(host).stats.source_refused
}

#[test]
fn an_address_that_has_all_that_one_may_is_not_answered_until_something_ends() {
    let mut world = world();
    let some = talkers(&mut world, ECHO, MOST + 1);
    assert_eq!((heard(&world, &some), source_refused(&mut world, 0)), (MOST, 1));
    assert!(!world.clients[some[MOST]].was_reset(), "it may try again");
    let greedy = |notice: &Notice| matches!(notice, Notice::Greedy { .. });
    assert_eq!(world.told(0).filter(|notice| greedy(notice)).count(), 1, "{}", world.story());
    // One that waits for its time to pass is no burden.
    world.say(some[0], 0, true);
    world.run_for(Duration::from_secs(2));
    assert_eq!(heard(&world, &some), MOST + 1, "{}", world.story());

    // Other addresses have their own.
    let index = world.connect_v6(ECHO, Mode::Echo(1000));
    world.run_until("it is served", |world| world.clients[index].has_ended());
    world.clients[index].assert_good();
}

#[test]
fn connections_and_splices_of_an_address_count_together() {
    let mut world = world();
    let some = talkers(&mut world, RELAYED + ECHO, MOST - 2);
    assert_eq!(heard(&world, &some), MOST - 2);
    let others = talkers(&mut world, ECHO, 4);
    assert_eq!(heard(&world, &others), 2, "{}", world.story());
    let more = talkers(&mut world, RELAYED + ECHO, 1);
    assert_eq!(heard(&world, &more), 0, "{}", world.story());
    assert_eq!(source_refused(&mut world, 0), 3);
}

/// Both legs of a join are one to its client.
#[test]
fn a_client_of_a_join_counts_once() {
    let mut world = World::duplex_with(|setup| {
        few(setup);
        let patience =
            JoinPatience { connect: Duration::from_secs(3), idle: Duration::from_secs(50) };
        for relay in &mut setup.relays {
            relay.mode = relay::Mode::Join;
            setup.services.push(crate::engine::ServicePort::at(relay.port, Kind::Join(patience)));
        }
    });
    world.start_backends();
    let some = talkers(&mut world, RELAYED + ECHO, MOST + 1);
    assert_eq!(heard(&world, &some), MOST, "{}", world.story());
}

fn others_are_refused(world: &mut World, host: usize, some: &[usize]) {
    let before = source_refused(world, host);
    let more = talkers(world, ECHO, 1);
    let spliced = talkers(world, RELAYED + ECHO, 1);
    assert_eq!((heard(world, &more), heard(world, &spliced)), (0, 0), "{}", world.story());
    assert!(source_refused(world, host) >= before + 2);
    for index in some {
        let heard = world.clients[*index].received();
        world.say(*index, 10, false);
        world.run_for(Duration::from_millis(50));
        assert_eq!(world.clients[*index].received(), heard + 10, "what stands goes on standing");
    }
}

#[test]
fn what_was_carried_over_counts() {
    let mut world = world();
    let mut some = talkers(&mut world, RELAYED + ECHO, 2);
    some.extend(talkers(&mut world, ECHO, MOST - 2));
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(Duration::from_millis(50));
    others_are_refused(&mut world, 1, &some);

    // And what was told to a standby that came later.
    world.start(0);
    world.run_until("duplex", World::is_duplex);
    let now = world.now;
    world.engine(1).on_switchover(now).expect("duplex");
    world.serve(1);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.run_for(Duration::from_millis(50));
    others_are_refused(&mut world, 0, &some);
}

/// A new limit takes nothing from anybody.
#[test]
fn those_beyond_a_new_limit_stay() {
    let mut world = World::duplex();
    world.start_backends();
    let mut some = talkers(&mut world, ECHO, MOST);
    some.extend(talkers(&mut world, RELAYED + ECHO, MOST));
    world.kill(1);
    world.run_for(Duration::from_secs(1));
    world.tweak(few);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(Duration::from_millis(50));
    others_are_refused(&mut world, 1, &some);
}

#[test]
fn who_begins_too_many_in_a_second_has_to_wait() {
    let mut world = World::duplex_with(|setup| {
        setup.per_source = PerSource { connections: 0, rate: 3 };
    });
    world.start_backends();
    let mut all: Vec<usize> = (0..4).map(|_| world.connect(ECHO, Mode::Echo(100))).collect();
    all.extend((0..4).map(|_| world.connect(RELAYED + ECHO, Mode::Echo(100))));
    world.run_for(Duration::from_millis(100));
    let served = |world: &World| all.iter().filter(|i| world.clients[**i].has_ended()).count();
    assert_eq!((served(&world), source_refused(&mut world, 0)), (3, 5));
    // Their SYNs come again after a second, and after two more.
    world.run_for(Duration::from_secs(1));
    assert_eq!(served(&world), 6, "{}", world.story());
    world.finish();
    world.run_for(Duration::from_secs(200));
    let source = |world: &mut World, host| world.engine(host).sources.len();
    assert_eq!([0, 1].map(|host| source(&mut world, host)), [0, 0], "nothing is kept of them");
}

#[test]
fn a_connection_counts_when_its_cookie_comes_back() {
    let mut world = World::duplex_with(|setup| {
        few(setup);
        setup.backlog = 0;
    });
    let service = (service_address(), ECHO).into();
    for port in 5000..5100 {
        let (now, engine) = (world.now, world.engine(0));
        tell(engine, now, packet(port, service, 7, SeqNum(0), Flags::SYN, &[]));
    }
    assert_eq!(world.engine(0).stats.cookies_sent, 100);
    let some = talkers(&mut world, ECHO, MOST + 1);
    assert_eq!((heard(&world, &some), source_refused(&mut world, 0)), (MOST, 1));
}

/// Whoever sends SYNs in another's name takes no place of it.
#[test]
fn a_forged_syn_counts_for_nothing() {
    let mut world = world();
    for service in [ECHO, RELAYED + ECHO] {
        for port in 5000..5100 {
            let (now, engine) = (world.now, world.engine(0));
            let to = (service_address(), service).into();
            tell(engine, now, packet(port, to, 7, SeqNum(0), Flags::SYN, &[]));
        }
    }
    let some = talkers(&mut world, ECHO, MOST);
    assert_eq!((heard(&world, &some), source_refused(&mut world, 0)), (MOST, 0));
}

/// Who shows itself when there is no room any more is refused then, and no standby is left with it.
#[test]
fn of_many_at_once_only_as_many_stand_as_may() {
    for service in [ECHO, RELAYED + ECHO] {
        let mut world = world();
        let all: Vec<usize> = (0..2 * MOST).map(|_| world.connect(service, Mode::Talk)).collect();
        world.run_for(Duration::from_millis(20));
        let reset = all.iter().filter(|index| world.clients[**index].was_reset()).count();
        assert_eq!((reset, source_refused(&mut world, 0)), (MOST, MOST as u64), "{service}");
        for index in &all {
            if !world.clients[*index].was_reset() {
                world.say(*index, 10, false);
            }
        }
        world.run_for(Duration::from_millis(20));
        assert_eq!(heard(&world, &all), MOST, "{service}: {}", world.story());
        let now = world.now;
        for host in [0, 1] {
            let status = world.engine(host).status(now);
            assert_eq!(status.connections + status.splices, MOST, "{service}");
        }
    }
}
