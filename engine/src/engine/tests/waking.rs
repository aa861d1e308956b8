//! Takeovers of more connections than one turn wakes, and standbys that come and go meanwhile.

use super::client::Mode;
use super::world::{CHARGEN, ECHO, World, trusted};
use crate::engine::connection::Body;
use crate::engine::table::slot_of;
use crate::engine::{LinkInput, PACKET_BUFFER};
use crate::ids::ConnId;
use crate::time::{Duration, Instant};

/// More than wait to send at a time during a takeover.
const MANY: usize = 600;

/// Many connections that have all said something, and nothing for a while.
fn quiet_crowd() -> World {
    let mut world = World::duplex_with(|setup| setup.backlog = MANY);
    for _ in 0..MANY {
        world.connect(ECHO, Mode::Talk);
    }
    world.run_for(Duration::from_secs(1));
    say_all(&mut world, 0..MANY, false);
    world.run_for(Duration::from_secs(3));
    world
}

fn say_all(world: &mut World, indices: impl Iterator<Item = usize>, last: bool) {
    for index in indices {
        world.say(index, 10, last);
    }
}

/// The connections that a host speaks for.
fn live(world: &mut World, host: usize) -> Vec<ConnId> {
    let table = &mut world.engine(host).table;
    let live = table.iter_mut().filter(|connection| !matches!(connection.body, Body::Held(_)));
    live.map(|connection| connection.id).collect()
}

#[test]
fn the_recently_active_wake_first_and_the_others_a_share_a_turn() {
    let mut world = quiet_crowd();
    let recent = [MANY - 1, 7, 300];
    say_all(&mut world, recent.into_iter(), false);
    world.run_for(Duration::from_millis(50));
    world.kill(0);

    // Up to the moment of the takeover, and without the turn that sends.
    let mut now = world.now;
    while !world.engine(1).owner {
        now = now + Duration::from_millis(1);
        assert!(now < world.now + Duration::from_secs(5), "{}", world.story());
        world.engine(1).on_link(now, LinkInput::Closed);
        world.engine(1).on_link(now, LinkInput::Refused);
    }
    let awake = live(&mut world, 1);
    assert!(awake.len() < MANY, "not all of them at once");
    for index in recent {
        assert!(awake.iter().any(|id| slot_of(*id) == index), "{index} in {awake:?}");
    }

    // A packet wakes whom it is for.
    let sleeper = (0..MANY).find(|index| !awake.iter().any(|id| slot_of(*id) == *index));
    let sleeper = sleeper.expect("one who has not been reached");
    world.clients[sleeper].say(10, false);
    let packet = world.clients[sleeper].poll_packet(now).expect("what it says");
    world.engine(1).on_packet(now, trusted(), &mut packet.clone());
    assert!(live(&mut world, 1).iter().any(|id| slot_of(*id) == sleeper));
}

#[test]
fn a_large_crowd_is_carried_on_and_handed_back() {
    let mut world = quiet_crowd();
    world.kill(0);
    // Some speak before anybody has come to them.
    world.run_until("host 1 owns", |world| world.is_primary(1));
    say_all(&mut world, 0..MANY / 2, false);
    world.run_for(Duration::from_secs(1));
    assert_eq!(live(&mut world, 1).len(), MANY);

    world.start(0);
    world.run_until("duplex", World::is_duplex);
    world.kill(1);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    say_all(&mut world, 0..MANY, true);
    world.finish();
}

#[test]
fn whoever_waits_for_a_standby_that_leaves_goes_on_at_once() {
    let mut world = quiet_crowd();
    world.hosts[1].deaf = true;
    say_all(&mut world, 0..5, false);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.clients[0].received(), 10, "held back");
    let before: Instant = world.now;
    world.kill(1);
    world.run_until("the answers are there", |world| {
        world.clients[..5].iter().all(|client| client.received() == 20)
    });
    assert!(world.now.since(before) < Duration::from_millis(5), "{}", world.story());
}

#[test]
fn a_newcomer_that_leaves_in_the_middle_of_its_snapshot_leaves_nothing_behind() {
    let mut world = quiet_crowd();
    for _ in 0..3 {
        world.kill(1);
        world.run_for(Duration::from_millis(700));
        world.start(1);
        world.run_for(Duration::from_millis(3));
        say_all(&mut world, 0..20, false);
    }
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    say_all(&mut world, 0..MANY, true);
    world.finish();
}

#[test]
fn what_is_handed_over_and_comes_back_goes_on() {
    let mut world = World::duplex();
    world.connect(CHARGEN, Mode::Chargen(50_000_000));
    world.run_for(Duration::from_millis(5));
    let now = world.now;
    let engine = world.engine(0);
    engine.on_switchover(now).expect("duplex");
    assert!(!engine.owner && engine.table.len() == 1);
    // As the role machine has it when the standby renounces: `role::yielding`.
    engine.arm_state(now);
    engine.owner = true;
    engine.take_back(now);
    assert!(engine.has_packets(), "it acts at once");
    while engine.poll_packet(now, &mut vec![0; PACKET_BUFFER]).is_some() {}
    assert!(engine.wheel.next().is_some(), "and its timers run");
}
