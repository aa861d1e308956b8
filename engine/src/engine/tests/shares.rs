//! What concerns very many connections is done a share a turn: counted here, not timed.

use core::net::IpAddr;

use super::client::Mode;
use super::world::{ECHO, World};
use crate::engine::connection::{Body, Connection};
use crate::engine::graveyard::SHARE;
use crate::engine::settle::LOOKS;
use crate::ids::ConnId;
use crate::service::App;
use crate::tcp::Hard;
use crate::time::Instant;
use crate::wire::FourTuple;

/// More than several turns see to.
const CROWD: usize = 5000;
/// A piece is buried whole: so many slots.
const PIECE: usize = 512;

/// Puts a crowd into the table of host 1, which follows: each is like the one that it holds already.
fn follow_a_crowd(world: &mut World) {
    world.connect(ECHO, Mode::Talk);
    world.run_for(crate::time::Duration::from_millis(100));
    let engine = world.engine(1);
    let (hard, service, local) = {
        let one = engine.table.iter().next().expect("the one that is held");
        let Body::Held(hard) = &one.body else { panic!("host 1 follows") };
        (Hard::clone(hard), one.service, one.tuple.local)
    };
    for n in 0..CROWD as u32 {
        let id = ConnId(7 << 32 | u64::from(n + 100));
        let address: IpAddr = [10, 78, (n >> 8) as u8, n as u8].into();
        let tuple = FourTuple { local, remote: (address, 1).into() };
        let app = App::new(engine.setup.services[usize::from(service)].kind, &engine.setup.limits);
        let body = Body::Held(Box::new(hard.clone()));
        let mut connection = Connection::new(id, tuple, service, app, body);
        connection.handshake_logged = true;
        engine.table.insert(Box::new(connection)).expect("there is room");
    }
}

fn crowded() -> World {
    let mut world = World::duplex_with(|setup| setup.connections_max = 2 * CROWD);
    follow_a_crowd(&mut world);
    world
}

/// Turns until all that was dropped is gone, of which none did more than its share.
fn turns_of_burial(world: &mut World) -> usize {
    let (engine, mut now, mut turns) = (world.engine(1), Instant::from_millis(1 << 20), 0);
    while !engine.graveyard.is_empty() {
        assert!(engine.deadline() <= now, "there is more to do");
        let before = engine.graveyard.len();
        engine.bury(now);
        assert!(before - engine.graveyard.len() <= SHARE + PIECE);
        now = now + crate::time::Duration::from_millis(1);
        turns += 1;
    }
    turns
}

#[test]
fn a_crowd_is_forgotten_at_once_and_buried_a_share_a_turn() {
    let mut world = crowded();
    let now = world.now;
    let engine = world.engine(1);
    engine.forget_connections(now);
    assert_eq!((engine.table.len(), engine.half_open, engine.unprotected), (0, 0, 0));
    assert!(engine.graveyard.len() >= CROWD - SHARE - PIECE, "{}", engine.graveyard.len());
    engine.audit(now).expect("all adds up at once");
    assert!(turns_of_burial(&mut world) > CROWD / (SHARE + PIECE));
    let engine = world.engine(1);
    assert!(engine.duty.owner().is_none(), "and nobody hears of it");
}

#[test]
fn a_crowd_that_cannot_be_continued_is_asked_a_share_a_turn() {
    let mut world = crowded();
    let now = world.now;
    let engine = world.engine(1);
    engine.begin_to_own(now);
    engine.drop_all(now);
    assert_eq!(engine.stats.not_continued, CROWD as u64 + 1);
    assert_eq!(engine.table.len(), 0);
    assert!(
        engine.as_owner().questions.len() <= SHARE + PIECE,
        "{}",
        engine.as_owner().questions.len()
    );
    turns_of_burial(&mut world);
    assert_eq!(world.engine(1).as_owner().questions.len(), CROWD + 1);
}

#[test]
fn who_follows_asks_nobody_of_those_that_an_owner_dropped() {
    let mut world = crowded();
    let now = world.now;
    let engine = world.engine(1);
    engine.begin_to_own(now);
    engine.drop_all(now);
    engine.graveyard.silence();
    let before = engine.as_owner().questions.len();
    turns_of_burial(&mut world);
    assert_eq!(world.engine(1).as_owner().questions.len(), before);
}

#[test]
fn alarms_that_go_off_together_are_seen_to_a_share_a_turn() {
    let mut world = World::duplex();
    let now = world.now;
    let engine = world.engine(0);
    let before = engine.as_owner().queues.wheel.len();
    for n in 0..20_000 {
        engine
            .as_owner()
            .queues
            .wheel
            .insert(Instant::from_millis(now.as_millis()), ConnId(9 << 32 | n));
    }
    let mut left = engine.as_owner().queues.wheel.len();
    while left > before {
        assert!(engine.deadline() <= now, "there is more to do");
        engine.on_alarms(now);
        assert!(
            left - engine.as_owner().queues.wheel.len() <= LOOKS / 16 + 1,
            "{} at once",
            left - engine.as_owner().queues.wheel.len()
        );
        left = engine.as_owner().queues.wheel.len();
    }
}
