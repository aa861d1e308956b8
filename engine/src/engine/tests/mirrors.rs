//! Stories of mirrors: two servers get the same input, and any of the four machines may fail.

use super::client::Mode;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, RELAYED, World};
use crate::engine::{Notice, ServicePort, Setup};
use crate::relay;
use crate::service::{JoinPatience, Kind, MirrorRules, OnDifference};
use crate::time::Duration;

const ALL: [(u16, Mode); 4] = [
    (RELAYED + ECHO, Mode::Echo(2_000_000)),
    (RELAYED + DISCARD, Mode::Upload(5_000_000)),
    (RELAYED + CHARGEN, Mode::Chargen(5_000_000)),
    (RELAYED + FILES, Mode::Fetch),
];

fn with_rules(setup: &mut Setup, rules: MirrorRules) {
    let (connect, idle) = (Duration::from_secs(9), Duration::from_secs(500));
    let kind = Kind::Mirror(rules, JoinPatience { connect, idle });
    for relay in &mut setup.relays {
        relay.mode = relay::Mode::Join;
        setup.services.push(ServicePort::at(relay.port, kind));
    }
}

/// Every relay mirrors.
fn mirroring(setup: &mut Setup) {
    with_rules(setup, MirrorRules::default());
}

/// Checks would find a server down: there are none.
fn unchecked(setup: &mut Setup) {
    mirroring(setup);
    for relay in &mut setup.relays {
        relay.check.interval = Duration::ZERO;
    }
}

fn resetting(setup: &mut Setup) {
    let rules = MirrorRules { on_difference: OnDifference::Reset, ..MirrorRules::default() };
    with_rules(setup, rules);
}

fn duplex() -> World {
    let mut world = World::duplex_with(mirroring);
    world.start_backends();
    world
}

fn single() -> World {
    let mut world = World::new();
    world.tweak = mirroring;
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

/// Sessions with two servers, and with one of two.
fn mirrored(world: &mut World, host: usize) -> [usize; 2] {
    let now = world.now;
    let status = world.engine(host).status(now);
    [status.mirrored, status.unmirrored]
}

fn barred(world: &mut World, host: usize) -> Vec<String> {
    let now = world.now;
    let backends = world.engine(host).status(now).backends;
    backends.into_iter().filter(|one| one.barred).map(|one| one.address.to_string()).collect()
}

/// Until its host refuses.
fn kill_backend(world: &mut World, index: usize) {
    world.kill_backend(index);
    world.run_for(Duration::from_secs(1));
}

fn connections(world: &mut World, host: usize) -> usize {
    let now = world.now;
    world.engine(host).status(now).connections
}

#[test]
fn a_single_node_mirrors_every_service() {
    let mut world = single();
    busy(&mut world);
    world.finish();
}

#[test]
fn both_servers_have_every_client_and_both_nodes_hold_all_legs() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    assert_eq!(world.backend_connections(), [8, 8]);
    for host in [0, 1] {
        assert_eq!(connections(&mut world, host), 24);
        assert_eq!(mirrored(&mut world, host), [8, 0]);
    }
    world.finish();
    world.run_for(Duration::from_secs(200));
    // Those that receive without end never end.
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [6, 6]);
    assert_eq!(world.engine(0).stats.twins_lost, 0);
}

#[test]
fn either_server_dies_and_no_client_notices() {
    for twin in [0, 1] {
        for dark in [false, true] {
            let mut world = duplex();
            busy(&mut world);
            underway(&mut world);
            if dark {
                world.poweroff_backend(twin)
            } else {
                world.kill_backend(twin)
            }
            world.finish();
            assert_eq!(world.engine(0).stats.twins_lost, 8, "twin {twin}, dark {dark}");
            assert_eq!(mirrored(&mut world, 0)[0], 0);
        }
    }
}

#[test]
fn a_server_dies_at_any_moment_and_the_primary_with_it_or_not() {
    for takeover in [false, true] {
        for micros in (50..3000).step_by(150) {
            let mut world = duplex();
            world.connect(RELAYED + ECHO, Mode::Echo(100_000));
            world.connect_v6(RELAYED + FILES, Mode::Fetch);
            world.run_for(Duration::from_micros(micros));
            world.kill_backend(usize::from(micros % 100 == 0));
            if takeover {
                world.kill(0);
            }
            world.finish();
        }
    }
}

#[test]
fn primary_killed_at_any_moment_of_a_mirror() {
    for micros in (50..3000).step_by(150) {
        let mut world = duplex();
        world.connect(RELAYED + ECHO, Mode::Echo(100_000));
        world.connect_v6(RELAYED + FILES, Mode::Fetch);
        world.run_for(Duration::from_micros(micros));
        world.kill(0);
        world.finish();
        assert_eq!(world.engine(1).stats.twins_lost, 0, "{micros}");
    }
}

/// Its handshake is done when it begins: so the standby is told.
#[test]
fn a_client_that_came_with_a_cookie_goes_on_at_any_moment() {
    fn with_cookies(setup: &mut Setup) {
        mirroring(setup);
        setup.backlog = 0;
    }
    for micros in (450..2000).step_by(100) {
        let mut world = World::duplex_with(with_cookies);
        world.start_backends();
        world.connect(RELAYED + ECHO, Mode::Echo(100_000));
        world.run_for(Duration::from_micros(micros));
        world.kill(0);
        world.finish();
    }
}

#[test]
fn after_a_takeover_a_server_may_die_and_after_a_server_the_primary() {
    for server_first in [false, true] {
        let mut world = duplex();
        busy(&mut world);
        underway(&mut world);
        if server_first {
            world.kill_backend(0);
            world.run_for(Duration::from_millis(1));
        }
        world.kill(0);
        world.run_until("host 1 owns", |world| world.is_primary(1));
        world.run_for(Duration::from_millis(1));
        if !server_first {
            world.kill_backend(0);
        }
        world.finish();
        assert_eq!(mirrored(&mut world, 1)[0], 0);
    }
}

#[test]
fn switchover_and_a_second_takeover_keep_mirrors() {
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
fn a_standby_that_joins_is_told_of_mirrors_whole_and_halved() {
    for halved in [false, true] {
        let mut world = single();
        busy(&mut world);
        underway(&mut world);
        if halved {
            world.kill_backend(1);
            world.run_for(Duration::from_micros(500));
        }
        world.start(1);
        for _ in 0..20 {
            world.run_for(Duration::from_micros(200));
            world.connect(RELAYED + ECHO, Mode::Echo(10_000));
        }
        world.run_until("duplex", World::is_duplex);
        assert_eq!(mirrored(&mut world, 0), mirrored(&mut world, 1));
        world.kill(0);
        world.finish();
    }
}

#[test]
fn losses_on_any_side_are_mended_there() {
    let mut world = duplex();
    world.loss = 37;
    world.connect(RELAYED + ECHO, Mode::Echo(300_000));
    world.connect(RELAYED + CHARGEN, Mode::Chargen(300_000));
    world.run_for(Duration::from_millis(30));
    world.kill(0);
    world.finish();
}

#[test]
fn one_server_alone_takes_new_clients_and_is_mirrored_again_when_the_other_is_back() {
    let mut world = duplex();
    kill_backend(&mut world, 0);
    let first = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(first, 100, false);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.clients[first].received(), 100);
    assert_eq!([0, 1].map(|host| mirrored(&mut world, host)), [[0, 1], [0, 1]]);
    // And when it is known.
    world.run_for(Duration::from_secs(10));
    let second = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(second, 100, false);
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.clients[second].received(), 100);
    assert_eq!([0, 1].map(|host| mirrored(&mut world, host)), [[0, 2], [0, 2]]);
    let lost = world.engine(0).stats.twins_lost;
    assert_eq!(lost, 1, "who is not dialled is not lost");
    world.start_backend(0);
    world.run_for(Duration::from_secs(10));
    let third = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(third, 100, true);
    world.run_for(Duration::from_millis(100));
    assert_eq!(mirrored(&mut world, 0), [1, 2]);
    world.kill(0);
    for client in [first, second] {
        world.say(client, 100, true);
    }
    world.finish();
}

#[test]
fn without_a_server_clients_are_refused() {
    let mut world = duplex();
    for index in 0..2 {
        world.kill_backend(index);
    }
    let early = world.connect(RELAYED + ECHO, Mode::Echo(10));
    world.run_for(Duration::from_secs(10));
    assert!(world.clients[early].was_reset());
    let late = world.connect(RELAYED + ECHO, Mode::Echo(10));
    world.run_for(Duration::from_millis(10));
    assert!(world.clients[late].was_reset());
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [0, 0]);
}

#[test]
fn the_last_server_takes_its_clients_with_it_and_none_of_them_in_order() {
    let mut world = duplex();
    let client = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(client, 100, false);
    world.run_for(Duration::from_millis(100));
    for index in [1, 0] {
        world.kill_backend(index);
        world.say(client, 100, false);
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.clients[client].was_reset(), index == 0);
    }
    assert_eq!([0, 1].map(|host| connections(&mut world, host)), [0, 0]);
}

/// Its host is dark, and nobody looks whether it is.
#[test]
fn a_server_that_says_nothing_where_the_other_does_has_failed() {
    for takeover in [false, true] {
        let mut world = World::duplex_with(unchecked);
        world.start_backends();
        let client = world.connect(RELAYED + ECHO, Mode::Talk);
        world.say(client, 100, false);
        world.run_for(Duration::from_millis(100));
        world.poweroff_backend(0);
        world.say(client, 100, false);
        world.run_for(Duration::from_millis(2500));
        assert_eq!(world.clients[client].received(), 100, "it is waited for");
        if takeover {
            world.kill(0);
            world.run_for(Duration::from_millis(2500));
        }
        world.run_for(Duration::from_millis(1000));
        assert_eq!(world.clients[client].received(), 200);
        assert_eq!(mirrored(&mut world, usize::from(takeover)), [0, 1]);
    }
}

#[test]
fn a_server_that_does_not_answer_its_syn_is_not_waited_for_longer_than_for_a_word() {
    let mut world = World::duplex_with(unchecked);
    world.start_backends();
    world.poweroff_backend(1);
    let client = world.connect(RELAYED + ECHO, Mode::Talk);
    world.say(client, 100, false);
    world.run_for(Duration::from_millis(2900));
    assert_eq!(world.clients[client].received(), 0);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.clients[client].received(), 100);
    assert_eq!([0, 1].map(|host| mirrored(&mut world, host)), [[0, 1], [0, 1]]);
}

#[test]
fn of_two_that_differ_the_first_goes_on_and_the_second_is_barred() {
    for micros in [0, 4000, 8000, 20_000, 40_000] {
        let mut world = duplex();
        world.start_backend_with(1, true);
        world.connect(RELAYED + FILES, Mode::Fetch);
        if micros > 0 {
            world.run_for(Duration::from_micros(micros));
            world.kill(0);
        }
        world.finish();
        let host = usize::from(micros > 0);
        assert!(
            world.told(host).chain(world.told(0)).any(|told| matches!(
                told,
                Notice::TwinsDiffer { barred: Some(barred), .. }
                    if barred.to_string() == "10.77.0.22:80"
            )),
            "{}",
            world.story()
        );
        for host in [0, 1].into_iter().skip(host) {
            assert_eq!(barred(&mut world, host), ["10.77.0.22:80"]);
        }
        // It gets no new client, and others do not wait for it.
        let before = mirrored(&mut world, host);
        world.connect(RELAYED + FILES, Mode::Fetch);
        world.run_for(Duration::from_micros(800));
        assert_eq!(mirrored(&mut world, host), [before[0], before[1] + 1]);
        world.finish();
    }
}

/// It has come back with something else, and whoever has taken over since knows that.
#[test]
fn of_two_that_differ_the_one_that_was_gone_is_the_younger() {
    for takeover in [false, true] {
        for noticed in [false, true] {
            let mut world = duplex();
            let client = world.connect(RELAYED + FILES, Mode::Heads(1));
            world.run_for(Duration::from_millis(50));
            kill_backend(&mut world, 0);
            if noticed {
                // By its checks; or else by the session that it has lost.
                world.run_for(Duration::from_secs(10));
            } else {
                world.connect(RELAYED + FILES, Mode::Heads(1));
                world.run_for(Duration::from_millis(50));
            }
            world.start_backend_with(0, true);
            world.run_for(Duration::from_secs(10));
            if takeover {
                world.kill(0);
                world.run_until("host 1 owns", |world| world.is_primary(1));
            }
            world.connect(RELAYED + FILES, Mode::Fetch);
            world.run_until("all done", |world| {
                world.clients.iter().enumerate().all(|(at, one)| at == client || one.is_done())
            });
            assert_eq!(barred(&mut world, usize::from(takeover)), ["10.77.0.21:80"]);
            for client in &world.clients {
                assert_eq!(client.wrong(), None);
            }
        }
    }
}

#[test]
fn a_newcomer_knows_who_is_barred() {
    let mut world = duplex();
    world.start_backend_with(1, true);
    world.connect(RELAYED + FILES, Mode::Fetch);
    world.finish();
    world.kill(1);
    world.run_for(Duration::from_millis(200));
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    assert_eq!(barred(&mut world, 1), ["10.77.0.22:80"]);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.connect(RELAYED + FILES, Mode::Fetch);
    world.finish();
    assert_eq!(world.engine(1).stats.differences, 0);
}

#[test]
fn an_operator_admits_again_who_was_barred_and_both_nodes_know() {
    let mut world = duplex();
    world.start_backend_with(1, true);
    world.connect(RELAYED + FILES, Mode::Fetch);
    world.finish();
    world.start_backend(1);
    world.run_for(Duration::from_secs(2));
    let (admin, port) = (Some(relay::Admin::Ready), Some(RELAYED + FILES));
    let address = "10.77.0.22:80".parse().expect("an address");
    let order = relay::Order { address, port, admin, weight: None, cut: false };
    let now = world.now;
    world.engine(0).on_backend_order(now, &order).expect("it is known");
    world.run_for(Duration::from_millis(10));
    for host in [0, 1] {
        assert!(barred(&mut world, host).is_empty());
    }
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.connect(RELAYED + FILES, Mode::Fetch);
    world.run_for(Duration::from_millis(3));
    assert_eq!(mirrored(&mut world, 1)[0], 1);
    world.finish();
}

#[test]
fn where_that_is_the_policy_a_difference_resets_the_client_and_bars_nobody() {
    let mut world = World::duplex_with(resetting);
    world.start_backends();
    world.start_backend_with(1, true);
    world.run_for(Duration::from_secs(1));
    let client = world.connect(RELAYED + FILES, Mode::Fetch);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[client].was_reset());
    assert_eq!(world.clients[client].wrong(), None);
    assert_eq!(world.engine(0).stats.differences, 1);
    for host in [0, 1] {
        assert!(barred(&mut world, host).is_empty());
        assert_eq!(connections(&mut world, host), 0);
    }
}
