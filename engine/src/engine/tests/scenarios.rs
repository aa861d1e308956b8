//! Stories of takeovers. Each ends with every client's stream checked byte by byte, and with
//! nothing on the wire that a client could have noticed (I4).

use super::client::Mode;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, World};
use crate::time::{Duration, Instant};

const ALL: [(u16, Mode); 4] = [
    (ECHO, Mode::Echo(2_000_000)),
    (DISCARD, Mode::Upload(5_000_000)),
    (CHARGEN, Mode::Chargen(5_000_000)),
    (FILES, Mode::Fetch),
];

fn busy(world: &mut World) {
    for (port, mode) in ALL {
        world.connect(port, mode);
    }
}

/// Lets the clients get somewhere but not finish.
fn underway(world: &mut World) {
    world.run_for(Duration::from_micros(1500));
    assert!(
        world.clients.iter().all(|client| !client.is_done()),
        "done too early\n{}",
        world.story()
    );
    assert!(
        world.clients.iter().all(|client| client.received() + client.acked() > 0),
        "{}",
        world.story()
    );
}

#[test]
fn a_single_node_serves_every_service() {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    busy(&mut world);
    world.finish();
}

#[test]
fn duplex_serves_every_service() {
    let mut world = World::duplex();
    busy(&mut world);
    world.finish();
    assert!(world.is_duplex());
}

#[test]
fn primary_killed_in_mid_stream() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    world.kill(0);
    world.finish();
    assert!(world.is_primary(1));
}

#[test]
fn primary_loses_power_in_mid_stream() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    world.poweroff(0);
    world.finish();
    assert!(world.is_primary(1));
}

#[test]
fn frozen_primary_stays_silent_when_thawed_and_returns_as_standby() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    world.freeze(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.thaw(0);
    world.finish();
    world.run_until("duplex again", World::is_duplex);
    assert!(world.is_primary(1) && !world.is_primary(0), "{}", world.story());
}

#[test]
fn primary_loses_its_lan_and_hands_over() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    world.cut_lan(0, true);
    world.finish();
    assert!(world.is_primary(1), "{}", world.story());
}

#[test]
fn replication_link_cut_leaves_the_primary_alone() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    world.cut_repl(0, true);
    world.finish();
    assert!(world.is_primary(0) && !world.is_primary(1), "{}", world.story());
    assert!(!world.is_duplex());
}

#[test]
fn switchover_moves_every_connection_and_back() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    let now = world.now;
    world.engine(0).on_switchover(now).expect("duplex");
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_until("duplex again", World::is_duplex);
    let now = world.now;
    world.engine(1).on_switchover(now).expect("duplex");
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.finish();
}

#[test]
fn standby_that_starts_late_protects_old_connections() {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    busy(&mut world);
    underway(&mut world);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.finish();
    assert!(world.is_primary(1));
}

#[test]
fn both_hosts_die_in_turn() {
    let mut world = World::duplex();
    busy(&mut world);
    underway(&mut world);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.start(0);
    world.run_until("duplex again", World::is_duplex);
    world.kill(1);
    world.finish();
    assert!(world.is_primary(0));
}

#[test]
fn a_kill_at_any_moment_of_a_session_is_unnoticed() {
    for moment in 0..60 {
        let mut world = World::duplex();
        world.connect(ECHO, Mode::Echo(20_000));
        world.connect(DISCARD, Mode::Upload(40_000));
        world.connect(CHARGEN, Mode::Chargen(40_000));
        world.run_for(Duration::from_micros(43) * moment);
        world.kill(0);
        world.finish();
    }
}

/// Chargen's first bytes depend on no input: they leave before the standby has heard that the
/// handshake is done, and the client's acknowledgment of them must not be a surprise.
#[test]
fn a_power_failure_as_output_without_input_begins_is_unnoticed() {
    for moment in 0..200 {
        let mut world = World::duplex();
        world.connect(CHARGEN, Mode::Chargen(40_000));
        world.run_for(Duration::from_micros(5) * moment);
        world.poweroff(0);
        world.finish();
    }
}

#[test]
fn a_power_failure_at_any_moment_is_unnoticed() {
    for moment in 0..60 {
        let mut world = World::duplex();
        world.connect(ECHO, Mode::Echo(20_000));
        world.connect(DISCARD, Mode::Upload(400_000));
        world.connect(FILES, Mode::Fetch);
        world.run_for(Duration::from_micros(29) * moment);
        world.poweroff(0);
        world.finish();
    }
}

#[test]
fn a_kill_on_a_lossy_lan_is_unnoticed() {
    for moment in 0..20 {
        let mut world = World::duplex();
        world.loss = 13;
        world.connect(ECHO, Mode::Echo(200_000));
        world.connect(FILES, Mode::Fetch);
        world.run_for(Duration::from_millis(6) * moment);
        world.kill(0);
        world.finish();
    }
}

#[test]
fn a_kill_in_the_handshake_is_unnoticed() {
    for moment in 0..60 {
        let mut world = World::duplex();
        world.connect(ECHO, Mode::Echo(100));
        world.connect_v6(FILES, Mode::Fetch);
        world.run_for(Duration::from_micros(10) * moment);
        world.kill(0);
        world.finish();
    }
}

#[test]
fn a_kill_while_closing_is_unnoticed() {
    for moment in 0..80 {
        let mut world = World::duplex();
        let talker = world.connect(ECHO, Mode::Talk);
        world.connect(DISCARD, Mode::Upload(1));
        world.run_for(Duration::from_millis(2));
        world.say(talker, 100, true);
        world.run_for(Duration::from_micros(10) * moment);
        world.kill(0);
        world.finish();
    }
}

#[test]
fn half_closed_connections_are_carried_on() {
    for moment in 0..20 {
        let mut world = World::duplex();
        world.connect(FILES, Mode::FetchHalfClosed);
        world.connect_v6(FILES, Mode::FetchHalfClosed);
        world.run_for(Duration::from_micros(170) * moment);
        world.kill(0);
        world.finish();
    }
}

#[test]
fn standby_killed_or_frozen_or_powered_off_leaves_the_primary_going() {
    let failures: [fn(&mut World); 3] =
        [|world| world.kill(1), |world| world.freeze(1), |world| world.poweroff(1)];
    for fail in failures {
        let mut world = World::duplex();
        busy(&mut world);
        underway(&mut world);
        fail(&mut world);
        world.finish();
        assert!(world.is_primary(0), "{}", world.story());
        for client in &world.clients {
            assert!(client.longest_gap < Duration::from_millis(900), "{}", world.story());
        }
    }
}

#[test]
fn every_failure_on_a_lossy_lan_is_unnoticed() {
    let failures: [fn(&mut World); 5] = [
        |world| world.poweroff(0),
        |world| world.freeze(0),
        |world| world.cut_lan(0, true),
        |world| world.cut_repl(0, true),
        |world| world.freeze(1),
    ];
    for fail in failures {
        for moment in 0..3 {
            let mut world = World::duplex();
            world.loss = 17;
            world.connect(ECHO, Mode::Echo(200_000));
            world.connect_v6(FILES, Mode::Fetch);
            world.connect(DISCARD, Mode::Upload(200_000));
            world.run_for(Duration::from_millis(7) * moment + Duration::from_micros(700));
            fail(&mut world);
            world.finish();
        }
    }
}

#[test]
fn hosts_die_in_turn_again_and_again() {
    let mut world = World::duplex();
    let talker = world.connect(ECHO, Mode::Talk);
    world.connect(CHARGEN, Mode::Chargen(60_000_000));
    for round in 0..6 {
        let primary = round % 2;
        world.say(talker, 5000, round == 5);
        world.run_for(Duration::from_micros(900));
        world.kill(primary);
        world.run_until("the other owns", |world| world.is_primary(1 - primary));
        world.start(primary);
        world.run_until("duplex again", World::is_duplex);
    }
    world.finish();
}

/// Nobody can go on with its connection, and a client that only listens would never find out.
#[test]
fn a_client_whose_connection_is_in_doubt_is_told_so_though_it_says_nothing() {
    let mut world = World::duplex();
    let client = world.connect(ECHO, Mode::Talk);
    world.run_for(Duration::from_millis(100));
    world.say(client, 10, false);
    world.run_for(Duration::from_millis(400));
    world.cut_lan(1, true);
    world.poweroff(0);
    // Its heir cannot know any more whether it has gone on alone.
    world.run_for(Duration::from_millis(400));
    world.cut_lan(1, false);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(Duration::from_millis(20));
    assert!(world.clients[client].has_ended(), "{}", world.story());
    assert_eq!(world.engine(1).status(Instant::ZERO).stats.not_continued, 1);
}
