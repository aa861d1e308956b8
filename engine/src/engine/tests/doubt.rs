//! A takeover in doubt: connections that cannot go on, and ends that only listen.

use super::client::Mode;
use super::world::{CHARGEN, ECHO, RELAYED, World};
use crate::time::Duration;

/// Who only listens, of services and of relays, and whether every packet is lost for a while.
fn dropped(services: &[(u16, Mode)], lost: Duration) -> World {
    let mut world = World::duplex();
    world.start_backends();
    for &(port, mode) in services {
        world.connect(port, mode);
        world.connect_v6(port, mode);
    }
    world.run_for(Duration::from_millis(500));
    world.kill(1);
    world.run_for(Duration::from_secs(1));
    for index in 0..world.clients.len() {
        if matches!(services[index / 2].1, Mode::Talk) {
            world.say(index, 100, false);
        }
    }
    world.run_for(Duration::from_secs(2));
    assert!(world.clients.iter().all(|client| !client.has_ended()), "{}", world.story());
    let now = world.now;
    world.engine(0).drop_all(now);
    if lost > Duration::ZERO {
        world.loss = 1;
        world.run_for(lost);
        world.loss = 0;
    }
    world
}

const LISTENERS: [(u16, Mode); 4] = [
    (CHARGEN, Mode::Chargen(100_000)),
    (ECHO, Mode::Talk),
    (RELAYED + CHARGEN, Mode::Chargen(100_000)),
    (RELAYED + ECHO, Mode::Talk),
];

/// Nobody waits for ever, and nobody is asked for ever.
fn all_are_told(world: &mut World) {
    world.run_for(Duration::from_secs(40));
    for client in &world.clients {
        assert!(client.has_ended(), "{}", client.story());
    }
    assert_eq!(world.backend_connections(), [0, 0], "the other end of a splice, too");
    let quiet = world.engine(0);
    let before = quiet.stats.packets_out;
    assert!(
        !quiet.as_owner().questions.is_due()
            && quiet.as_owner().questions.deadline() == crate::time::Instant::NEVER
    );
    world.run_for(Duration::from_millis(900));
    let after = world.engine(0).stats.packets_out;
    // Checks of the backends go on.
    assert!(after - before < 20, "{}", after - before);
}

#[test]
fn ends_that_only_listen_are_told() {
    let mut world = dropped(&LISTENERS, Duration::ZERO);
    all_are_told(&mut world);
}

#[test]
fn a_question_that_is_lost_is_asked_again() {
    let mut world = dropped(&LISTENERS, Duration::from_millis(4500));
    all_are_told(&mut world);
}

#[test]
fn an_answer_or_a_reset_that_is_lost_hangs_nobody() {
    for every in [2, 3, 5] {
        let mut world = dropped(&LISTENERS, Duration::ZERO);
        world.loss = every;
        world.run_for(Duration::from_secs(10));
        world.loss = 0;
        all_are_told(&mut world);
    }
}

/// A node that takes over expects cookies back for two minutes, of which it knows nothing.
#[test]
fn answers_to_questions_are_no_cookies() {
    let mut world = World::duplex();
    for _ in 0..200 {
        world.connect(CHARGEN, Mode::Chargen(10_000));
    }
    world.run_for(Duration::from_secs(1));
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    world.engine(1).drop_all(now);
    world.run_for(Duration::from_millis(50));
    let hanging = world.clients.iter().filter(|client| !client.has_ended()).count();
    assert_eq!(hanging, 0, "each is reset for its first answer");
}

/// Who is asked may have opened anew: that connection is left alone.
#[test]
fn who_has_come_back_is_asked_no_more() {
    let mut world = dropped(&[(ECHO, Mode::Talk)], Duration::ZERO);
    let now = world.now;
    world.loss = 1;
    world.run_for(Duration::from_millis(100));
    world.loss = 0;
    assert!(world.now > now);
    world.clients.clear();
    world.connect(ECHO, Mode::Echo(10_000));
    world.connect_v6(ECHO, Mode::Echo(10_000));
    world.finish();
}
