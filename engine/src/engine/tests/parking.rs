//! What rests is parked, and nobody notices.

use std::sync::Arc;

use super::client::Mode;
use super::world::{ECHO, FILES, World};
use crate::engine::connection::{Body, Connection};
use crate::engine::{Setup, Stats};
use crate::tcp::{Hard, Keepalive, Parked, Settings};
use crate::time::Duration;

const CROWD: usize = 40;

/// What the allocator takes for a value of its own: a word more, in steps of two.
const fn chunk(size: usize) -> usize {
    (size + 8).next_multiple_of(16)
}

/// The goal: 512 bytes of memory for each idle connection, on either node. What doubles when it
/// grows is counted at its worst, right after that.
#[test]
fn an_idle_connection_takes_at_most_512_bytes() {
    let (slot, place) = (2 * 8, 2 * 8 * (8 + 1) / 7);
    let (alarm, recent) = (2 * 16, 2 * 8 * 2);
    let connection = chunk(size_of::<Connection>());
    let primary = connection + chunk(size_of::<Parked>()) + slot + place + alarm;
    let standby = connection + chunk(size_of::<Hard>()) + slot + place + recent;
    assert!(primary <= 512 && standby <= 512, "{primary} and {standby} bytes");
    assert!(size_of::<Connection>() <= 232, "{} bytes", size_of::<Connection>());
}

fn probing(setup: &mut Setup, live_max: usize) {
    let probing =
        Keepalive { idle: Duration::from_secs(1), interval: Duration::from_secs(1), probes: 3 };
    setup.tcp = Arc::new(Settings { keepalive: Some(probing), ..Settings::default() });
    setup.live_max = live_max;
}

/// Requests and pauses, a takeover, a newcomer, a second takeover. What the primaries counted.
fn counted(tweak: fn(&mut Setup)) -> Vec<Stats> {
    let mut world = World::duplex_with(tweak);
    for _ in 0..CROWD {
        world.connect(ECHO, Mode::Talk);
    }
    let mut counted = Vec::new();
    for primary in [0, 1] {
        for bytes in [1, 100, 5000] {
            for index in (0..CROWD).filter(|index| index % 3 != bytes as usize % 3) {
                world.say(index, bytes, false);
                world.run_for(Duration::from_millis(1));
            }
            world.run_for(Duration::from_millis(2500));
        }
        counted.push(world.engine(primary).stats);
        world.kill(primary);
        world.run_until("the other owns", |world| world.is_primary(1 - primary));
        world.run_for(Duration::from_secs(2));
        world.start(primary);
        world.run_until("duplex", World::is_duplex);
    }
    for index in 0..CROWD {
        world.say(index, 10, true);
    }
    world.connect(FILES, Mode::Fetch);
    world.finish();
    counted.push(world.engine(0).stats);
    counted
}

#[test]
fn parking_changes_nothing_that_a_client_sees() {
    let parked = counted(|setup| probing(setup, 0));
    let live = counted(|setup| probing(setup, usize::MAX));
    assert_eq!(parked, live);
}

/// Which connections are parked, by slot: the order in which they came.
fn parked(world: &mut World) -> Vec<bool> {
    let connections = world.engine(0).table.iter();
    connections.map(|connection| matches!(connection.body, Body::Parked(_))).collect()
}

#[test]
fn who_rests_for_longest_is_parked_and_who_speaks_is_not() {
    let mut world = World::duplex_with(|setup| setup.live_max = 8);
    for _ in 0..CROWD {
        world.connect(ECHO, Mode::Talk);
    }
    world.run_for(Duration::from_secs(1));
    for index in 0..CROWD {
        world.say(index, 10, false);
        world.run_for(Duration::from_millis(10));
    }
    world.run_for(Duration::from_secs(1));
    let few = parked(&mut world);
    assert_eq!(few.iter().filter(|parked| !**parked).count(), 8);
    assert_eq!(few[..CROWD - 8], [true; CROWD - 8]);

    world.say(3, 10, false);
    world.run_for(Duration::from_secs(1));
    let few = parked(&mut world);
    assert!(!few[3] && few[CROWD - 8], "it has taken the place of the oldest");
}
