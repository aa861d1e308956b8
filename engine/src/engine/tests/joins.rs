//! Stories of joins: both ends have a connection with the engine, and any of the three may fail.

use super::client::Mode;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, RELAYED, World};
use crate::engine::{ServicePort, Setup};
use crate::relay;
use crate::service::{JoinPatience, Kind};
use crate::time::Duration;

const ALL: [(u16, Mode); 4] = [
    (RELAYED + ECHO, Mode::Echo(2_000_000)),
    (RELAYED + DISCARD, Mode::Upload(5_000_000)),
    (RELAYED + CHARGEN, Mode::Chargen(5_000_000)),
    (RELAYED + FILES, Mode::Fetch),
];

/// Every relay joins.
pub(super) fn joining(setup: &mut Setup) {
    let (connect, idle) = (Duration::from_secs(3), Duration::from_secs(50));
    let kind = Kind::Join(JoinPatience { connect, idle });
    for relay in &mut setup.relays {
        relay.mode = relay::Mode::Join;
        setup.services.push(ServicePort::at(relay.port, kind));
    }
}

fn duplex() -> World {
    let mut world = World::duplex_with(joining);
    world.start_backends();
    world
}

fn single() -> World {
    let mut world = World::new();
    world.tweak = joining;
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.start_backends();
    world
}

fn busy(world: &mut World) {
    for (port, mode) in ALL {
        world.connect(port, mode);
        world.connect_v6(port, mode);
    }
}

/// Lets the clients get somewhere but not finish.
fn underway(world: &mut World) {
    world.run_for(Duration::from_micros(2500));
    for client in &world.clients {
        assert!(!client.is_done(), "done too early\n{}", world.story());
        assert!(client.received() + client.acked() > 0, "not begun\n{}", world.story());
    }
}

fn connections(world: &mut World, host: usize) -> usize {
    let now = world.now;
    world.engine(host).status(now).connections
}

#[test]
fn a_single_node_joins_every_service() {
    let mut world = single();
    busy(&mut world);
    world.finish();
}

#[test]
fn both_nodes_hold_both_legs_and_let_go_of_them() {
    let mut world = duplex();
    busy(&mut world);
    busy(&mut world);
    underway(&mut world);
    assert_eq!(world.backend_connections(), [8, 8], "shared out");
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [32, 32]);
    world.finish();
    world.run_for(Duration::from_secs(200));
    // Those that receive without end never end.
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [8, 8]);
}

#[test]
fn primary_killed_under_joins() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    world.kill(0);
    world.finish();
    assert!(world.is_primary(1));
}

#[test]
fn primary_killed_at_any_moment_of_a_join() {
    for micros in (50..3000).step_by(150) {
        let mut world = duplex();
        world.connect(RELAYED + ECHO, Mode::Echo(100_000));
        world.connect_v6(RELAYED + FILES, Mode::Fetch);
        world.run_for(Duration::from_micros(micros));
        world.kill(0);
        world.finish();
    }
}

#[test]
fn primary_frozen_under_joins_stays_silent() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    world.freeze(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.thaw(0);
    world.finish();
    world.run_until("duplex again", World::is_duplex);
}

#[test]
fn switchover_and_a_second_takeover_keep_joins() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    let now = world.now;
    world.engine(0).on_switchover(now).expect("duplex");
    world.run_until("duplex again", |world| world.is_primary(1) && world.is_duplex());
    world.kill(1);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.finish();
}

#[test]
fn a_standby_that_joins_is_told_of_every_session_as_a_whole() {
    let mut world = single();
    busy(&mut world);
    underway(&mut world);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.finish();
}

#[test]
fn a_session_that_begins_during_the_snapshot_is_told_too() {
    let mut world = single();
    busy(&mut world);
    underway(&mut world);
    world.start(1);
    for _ in 0..40 {
        world.run_for(Duration::from_micros(200));
        world.connect(RELAYED + ECHO, Mode::Echo(10_000));
    }
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.finish();
}

#[test]
fn losses_on_either_side_are_mended_there() {
    let mut world = duplex();
    world.loss = 37;
    world.connect(RELAYED + ECHO, Mode::Echo(300_000));
    world.connect(RELAYED + CHARGEN, Mode::Chargen(300_000));
    world.run_for(Duration::from_millis(30));
    world.kill(0);
    world.finish();
}

#[test]
fn a_server_that_dies_takes_its_clients_with_it_and_none_of_them_in_order() {
    let mut world = duplex();
    let client = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(client, 100, false);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.clients[client].received(), 100);
    for index in 0..2 {
        world.kill_backend(index);
    }
    world.say(client, 100, false);
    world.run_for(Duration::from_secs(5));
    assert!(world.clients[client].was_reset());
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [0, 0]);
}

#[test]
fn a_server_that_refuses_is_passed_over() {
    let mut world = duplex();
    world.kill_backend(0);
    world.connect(RELAYED + ECHO, Mode::Echo(10_000));
    world.connect_v6(RELAYED + ECHO, Mode::Echo(10_000));
    world.finish();
}

/// Checks would find them down: there are none.
fn unchecked(setup: &mut Setup) {
    joining(setup);
    for relay in &mut setup.relays {
        relay.check.interval = Duration::ZERO;
    }
}

#[test]
fn a_client_is_not_left_waiting_for_servers_that_do_not_answer_and_both_nodes_keep_the_time() {
    for takeover in [false, true] {
        let mut world = World::duplex_with(unchecked);
        for index in 0..2 {
            world.poweroff_backend(index);
        }
        let client = world.connect(RELAYED + ECHO, Mode::Echo(10_000));
        world.run_for(Duration::from_secs(4));
        assert_eq!([0, 1].map(|host| connections(&mut world, host)), [2, 2], "the next is asked");
        if takeover {
            world.kill(0);
        }
        world.run_for(Duration::from_secs(12));
        assert!(world.clients[client].was_reset());
        assert_eq!(connections(&mut world, 1), 0);
    }
}

#[test]
fn ends_that_say_nothing_for_too_long_are_let_go() {
    let mut world = duplex();
    let client = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(client, 100, false);
    world.run_for(Duration::from_secs(49));
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [2, 2]);
    world.run_for(Duration::from_secs(3));
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [0, 0]);
}

#[test]
fn without_a_server_clients_are_refused() {
    let mut world = duplex();
    for index in 0..2 {
        world.kill_backend(index);
    }
    world.run_for(Duration::from_secs(10));
    let client = world.connect(RELAYED + ECHO, Mode::Echo(10));
    world.run_for(Duration::from_millis(10));
    assert!(world.clients[client].was_reset());
    let now = world.now;
    assert_eq!(world.engine(0).stats.opened, 0);
    assert_eq!(world.engine(0).status(now).connections, 0);
}

/// As after a service was put in front of the others in one node's file.
#[test]
fn services_are_known_by_their_names_wherever_they_stand() {
    let mut world = duplex();
    world.start_backends();
    world.kill(1);
    world.run_for(Duration::from_millis(200));
    world.tweak(|setup| {
        joining(setup);
        setup.services.reverse();
    });
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    busy(&mut world);
    for (port, mode) in [(ECHO, Mode::Echo(1_000_000)), (FILES, Mode::Fetch)] {
        world.connect(port, mode);
    }
    world.run_for(Duration::from_millis(1));
    world.kill(0);
    world.finish();
}

/// What costs a client nothing must not take servers from the others.
#[test]
fn clients_that_leave_before_their_server_answers_say_nothing_of_it() {
    let mut world = duplex();
    for _ in 0..20 {
        world.connect(RELAYED + ECHO, Mode::Talk);
    }
    while connections(&mut world, 0) < 40 {
        world.run_for(Duration::from_micros(10));
    }
    let now = world.now;
    let engine = world.engine(0);
    let tenants: Vec<_> = (0..40).filter_map(|slot| engine.table.tenant(slot)).collect();
    tenants.into_iter().for_each(|id| engine.break_off(now, id));
    world.run_for(Duration::from_micros(100));
    let now = world.now;
    let status = world.engine(0).status(now);
    assert_eq!(status.connections, 0);
    assert!(status.backends.iter().all(|backend| backend.up), "nobody was refused");
}
