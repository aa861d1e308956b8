//! No step of a turn is long, whatever a client asks for and however many wait.

use super::client::Mode;
use super::world::{ECHO, FILES, World};
use crate::time::Duration;

/// More than any step does: a share of each list of those whose turn it is.
const STEP: u64 = 4096;

/// One packet of a client that pipelines asks for hundreds of replies; a few made at once are enough.
#[test]
fn a_burst_of_requests_is_answered_in_shares() {
    let mut world = World::duplex();
    world.connect(FILES, Mode::Heads(2000));
    world.longest_step = 0;
    world.run_until("it has asked", |world| world.clients[0].acked() > 10_000);
    assert!(world.longest_step < 150, "{} in one step", world.longest_step);
    world.finish();
}

#[test]
fn a_burst_of_many_is_answered_beside_others() {
    let mut world = World::duplex();
    (0..50).for_each(|_| _ = world.connect(FILES, Mode::Heads(2000)));
    let other = world.connect(ECHO, Mode::Echo(20_000));
    world.longest_step = 0;
    world.run_until("the other one is served", |world| world.clients[other].is_done());
    world.finish();
    assert!(world.longest_step < STEP, "{} in one step", world.longest_step);
}

/// Those who wait for the disk are called by and by when it answers, and none is forgotten.
#[test]
fn an_answer_of_the_disk_does_not_call_everybody_at_once() {
    let mut world = World::duplex();
    world.busy_disk(0, true);
    (0..200).for_each(|_| _ = world.connect(FILES, Mode::Heads(3)));
    world.run_for(Duration::from_millis(300));
    assert!(world.clients.iter().all(|client| client.received() == 0), "the disk is busy");
    world.longest_step = 0;
    world.busy_disk(0, false);
    world.finish();
    assert!(world.longest_step < 250, "{} in one step, of 600", world.longest_step);
}
