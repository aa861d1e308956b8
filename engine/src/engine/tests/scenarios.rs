//! Stories of takeovers for which a test has to look closer than the simulator's world does
//! (`tools/tests/stories.rs` has the others). Each ends with every client's stream checked byte by byte, and with
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
