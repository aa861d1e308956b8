//! What sessions keep whole has its place before it comes, and whoever finds none waits.

use std::sync::LazyLock;

use super::client::Mode;
use super::exchanges::{PORT, journalling};
use super::joins::joining;
use super::world::{ECHO, RELAYED, World};
use crate::engine::Setup;
use crate::time::Duration;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 24 * MIB;
/// What one packet may add, and what comes before its length is known.
const SLACK: u64 = 2 * MIB;
const BODY: usize = 900_000;

/// A request that a server answers in a few words, and that is long itself.
static UPLOAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let head = format!(
        "HEAD /big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n"
    );
    let mut text = head.into_bytes();
    text.extend((0..BODY).map(|i| i as u8));
    text
});

fn short_of_memory(setup: &mut Setup) {
    journalling(setup);
    setup.memory_max = BUDGET;
}

fn world() -> World {
    let mut world = World::duplex_with(short_of_memory);
    world.start_backends();
    world
}

fn upload(world: &mut World, count: usize) -> Vec<usize> {
    let new = (0..count).map(|_| {
        let index = world.connect(PORT, Mode::Speak(&UPLOAD));
        world.say(index, UPLOAD.len() as u64, false);
        index
    });
    new.collect()
}

/// Runs until all clients are done. Returns how much an engine has held at most.
fn run_to_the_end(world: &mut World, hosts: &[usize]) -> u64 {
    let mut most = 0;
    for round in 0..3000 {
        world.run_for(if round < 500 {
            Duration::from_micros(200)
        } else {
            Duration::from_millis(20)
        });
        let now = world.now;
        most = hosts.iter().map(|host| world.engine(*host).status(now).memory).fold(most, u64::max);
        if world.clients.iter().all(|client| client.is_done()) {
            return most;
        }
    }
    panic!("not all of them are served: {}", world.story());
}

fn nobody_was_reset(world: &mut World, host: usize) {
    let now = world.now;
    assert_eq!(world.engine(host).status(now).stats.memory_short, 0);
    for client in &world.clients {
        client.assert_good();
    }
}

#[test]
fn more_requests_than_there_is_memory_for_wait_and_all_are_answered() {
    let mut world = world();
    let all = upload(&mut world, 60);
    let most = run_to_the_end(&mut world, &[0, 1]);
    assert!((3 * MIB..=BUDGET + SLACK).contains(&most), "{most}");
    nobody_was_reset(&mut world, 0);
    let answered = |index: &usize| world.clients[*index].heard().starts_with("HTTP/1.1 200 ");
    assert!(all.iter().all(answered));
}

#[test]
fn more_replies_than_there_is_memory_for_wait_and_all_come() {
    let mut world = world();
    for _ in 0..30 {
        world.connect(PORT, Mode::Fetch);
    }
    let most = run_to_the_end(&mut world, &[0, 1]);
    assert!((3 * MIB..=BUDGET + SLACK).contains(&most), "{most}");
    nobody_was_reset(&mut world, 0);
}

/// What passes is not set aside: it goes as fast as it is taken, and nobody is reset for that.
#[test]
fn more_of_what_passes_than_there_is_memory_for_is_slowed_down() {
    let mut world = World::duplex_with(|setup| {
        joining(setup);
        setup.memory_max = BUDGET;
    });
    world.start_backends();
    for _ in 0..60 {
        world.connect(RELAYED + ECHO, Mode::Echo(2_000_000));
    }
    // A standby hears late what has been acknowledged, and here a link takes any amount by then.
    let most = run_to_the_end(&mut world, &[0]);
    assert!((3 * MIB..=BUDGET + SLACK).contains(&most), "{most}");
    nobody_was_reset(&mut world, 0);
}

#[test]
fn a_heir_shares_out_anew() {
    for after in [20, 200] {
        let mut world = world();
        upload(&mut world, 30);
        for _ in 0..10 {
            world.connect(PORT, Mode::Fetch);
        }
        world.run_for(Duration::from_millis(after));
        world.kill(0);
        let most = run_to_the_end(&mut world, &[1]);
        assert!(most <= BUDGET + SLACK, "{most}");
        nobody_was_reset(&mut world, 1);
    }
}

/// Whoever announces much and says nothing more keeps others waiting for a moment only.
#[test]
fn those_who_do_nothing_with_their_share_give_way_to_those_who_wait() {
    let mut world = world();
    for _ in 0..20 {
        let index = world.connect(PORT, Mode::Speak(&UPLOAD));
        world.say(index, 500, false);
    }
    world.run_for(Duration::from_millis(100));
    let others = upload(&mut world, 3);
    // Three or four of them at a time have something.
    world.run_for(Duration::from_secs(50));
    for index in others {
        assert!(world.clients[index].heard().starts_with("HTTP/1.1 200 "), "{}", world.story());
    }
    assert!(world.engine(0).stats.exchanges.refused > 15);
}

/// The same of whoever does not read what it has asked for.
#[test]
fn those_who_do_not_read_give_way_to_those_who_wait() {
    let mut world = world();
    for _ in 0..6 {
        let index = world.connect(PORT, Mode::Fetch);
        world.clients[index].hoards = true;
    }
    world.run_for(Duration::from_millis(500));
    let other = world.connect(PORT, Mode::Fetch);
    world.run_for(Duration::from_secs(40));
    assert!(world.clients[other].is_done(), "{}", world.story());
    world.clients[other].assert_good();
}
