//! What clients make both nodes keep stays within the budget, and costs nobody else anything.

use super::client::Mode;
use super::world::{ECHO, World};
use crate::engine::Notice;
use crate::time::Duration;

const MIB: u64 = 1 << 20;
/// What one packet may add, and what windows that are open may still bring, before anybody is reset.
const SLACK: u64 = 2 * MIB;

fn held(world: &mut World) -> [u64; 2] {
    let now = world.now;
    [0, 1].map(|host| world.engine(host).status(now).memory)
}

fn hoarders(world: &mut World, count: usize, bytes: u64) -> Vec<usize> {
    let new = (0..count).map(|_| {
        let index = world.connect(ECHO, Mode::Echo(bytes));
        world.clients[index].hoards = true;
        index
    });
    new.collect()
}

#[test]
fn those_who_never_read_are_bounded_all_together_and_others_are_served() {
    let mut world = World::duplex_with(|setup| setup.memory_max = 8 * MIB);
    hoarders(&mut world, 40, 4 * MIB);
    let mut most = [0; 2];
    for round in 0..100 {
        if round % 10 == 0 {
            world.connect(ECHO, Mode::Echo(20_000));
        }
        world.run_for(Duration::from_millis(20));
        let held = held(&mut world);
        most = [most[0].max(held[0]), most[1].max(held[1])];
    }
    assert!(most.iter().all(|most| (4 * MIB..=8 * MIB + SLACK).contains(most)), "{most:?}");
    let others = world.clients.iter().skip(40);
    assert!(others.clone().all(|client| client.has_ended()), "{}", world.story());
    others.for_each(|client| client.assert_good());
}

/// More of them than their smallest windows have room for: those that hold most are reset.
#[test]
fn beyond_the_budget_those_that_hold_most_are_reset_and_told() {
    let mut world = World::duplex_with(|setup| setup.memory_max = 2 * MIB);
    let small = hoarders(&mut world, 1, 3000);
    let greedy = hoarders(&mut world, 60, 4 * MIB);
    world.run_for(Duration::from_secs(2));
    let held = held(&mut world);
    assert!(held.iter().all(|held| *held <= 2 * MIB + SLACK), "{held:?}");
    let reset = greedy.iter().filter(|index| world.clients[**index].has_ended()).count() as u64;
    let now = world.now;
    let stats = world.engine(0).status(now).stats;
    assert!(reset > 0 && stats.memory_short == reset, "{reset}, {}", stats.memory_short);
    let short = |notice: &Notice| matches!(notice, Notice::MemoryShort { .. });
    assert!(world.told(0).any(short), "it says so");
    world.clients[small[0]].read_on();
    world.run_until("whoever holds little goes on", |world| world.clients[small[0]].has_ended());
    world.clients[small[0]].assert_good();
}

/// Below the budget nobody is reset: windows shut, and open again when there is room.
#[test]
fn windows_shut_before_anybody_is_reset_and_open_again() {
    let mut world = World::duplex_with(|setup| setup.memory_max = 50 * MIB);
    let greedy = hoarders(&mut world, 16, 4 * MIB);
    world.run_for(Duration::from_secs(2));
    let full = held(&mut world);
    assert!(full.iter().all(|held| *held >= 15 * MIB), "{full:?}");
    for index in greedy {
        world.clients[index].read_on();
    }
    world.finish();
    let now = world.now;
    assert_eq!(world.engine(0).status(now).stats.memory_short, 0);
    world.run_for(Duration::from_secs(70));
    assert_eq!(held(&mut world), [0, 0], "nothing is kept for nobody");
}

/// The heir of a hoard keeps to the budget as well.
#[test]
fn the_budget_holds_after_a_takeover() {
    let mut world = World::duplex_with(|setup| setup.memory_max = 8 * MIB);
    hoarders(&mut world, 30, 4 * MIB);
    world.run_for(Duration::from_millis(300));
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    let other = world.connect(ECHO, Mode::Echo(20_000));
    for _ in 0..50 {
        world.run_for(Duration::from_millis(20));
        let now = world.now;
        let held = world.engine(1).status(now).memory;
        assert!(held <= 8 * MIB + SLACK, "{held}");
    }
    assert!(world.clients[other].has_ended(), "{}", world.story());
    world.clients[other].assert_good();
}
