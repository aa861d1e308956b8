//! An address that is handed over: what the heir has then, and what becomes of it when the heir cannot
//! take it and gives it back.

use super::client::Mode;
use super::traps::packet;
use super::world::{CHARGEN, DISCARD, ECHO, RELAYED, World, service_address, trusted};
use crate::engine::Engine;
use crate::engine::Notice;
use crate::engine::connection::Body;
use crate::role::Held;
use crate::tcp::Hard;
use crate::time::Duration;
use crate::wire::{Flags, FourTuple, SeqNum};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Everybody at work: who sends, who receives, who has just come, who is relayed, who is idle.
fn busy() -> World {
    let mut world = World::duplex();
    world.start_backends();
    for base in [0, RELAYED] {
        world.connect(base + CHARGEN, Mode::Chargen(3_000_000));
        world.connect(base + DISCARD, Mode::Upload(3_000_000));
        world.connect(base + ECHO, Mode::Echo(600_000));
        let talker = world.connect(base + ECHO, Mode::Talk);
        world.run_for(ms(1));
        world.say(talker, 10, false);
    }
    world
}

/// What each node has to know alike of each connection.
fn states(engine: &mut Engine) -> Vec<(FourTuple, Hard)> {
    let state = |body: &Body| match body {
        Body::Live(tcb) => tcb.hard(),
        Body::Held(hard) => Hard::clone(hard),
        Body::Parked(_) => panic!("whoever is looked for is live"),
    };
    // Each node's own: its clock, what it has handed out, what it has promised, what it has measured.
    let shared = |hard| Hard {
        ts_offset: 0,
        consumed: 0,
        received_edge: 0,
        mtu: 0,
        srtt: Duration::ZERO,
        ..hard
    };
    let ids: Vec<_> =
        (0..engine.table.slots()).filter_map(|slot| engine.table.tenant(slot)).collect();
    let connections = ids.into_iter().filter_map(|id| {
        let one = engine.table.get_mut(id)?;
        Some((one.tuple, shared(state(&one.body))))
    });
    connections.collect()
}

/// Whatever is untold at that moment, the acknowledgments of what clients received among it, is told
/// before the address goes.
#[test]
fn an_heir_knows_all_that_its_giver_knew() {
    for moment in 0..20 {
        let mut world = busy();
        world.run_for(Duration::from_micros(500 + 370 * moment));
        let now = world.now;
        world.engine(0).on_switchover(now).expect("duplex");
        assert!(!world.is_primary(0));
        let given = states(world.engine(0));
        world.run_until("host 1 owns", |world| world.is_primary(1));
        assert!(states(world.engine(1)) == given, "at {moment}\n{}", world.story());
    }
}

/// The heir's LAN goes down before it hears that the address is its own. It consents to its return:
/// nothing was lost, and everything goes on, what was waiting for the heir's word as well.
#[test]
fn what_comes_back_goes_on_as_if_it_had_never_been_given() {
    for lag in [0, 20] {
        let mut world = busy();
        world.hosts[1].link_lag = ms(lag);
        for base in [0, RELAYED] {
            world.connect(base + CHARGEN, Mode::Chargen(100_000));
            world.connect_v6(base + ECHO, Mode::Echo(10_000));
        }
        world.run_for(ms(2));
        let now = world.now;
        world.engine(0).on_switchover(now).expect("duplex");
        world.cut_lan(1, true);
        world.run_until("host 0 owns again", |world| world.is_primary(0));
        let whole = |notice: &Notice| matches!(notice, Notice::Owns { change, .. } if change.held == Held::Whole);
        assert!(world.told(0).any(whole) && !world.is_primary(1), "{}", world.story());
        for talker in [3, 7] {
            world.say(talker, 10, true);
        }
        world.finish();
        world.cut_lan(1, false);
        world.run_until("duplex again", World::is_duplex);
        let left = world.engine(0).table.len();
        assert_eq!((left, world.engine(1).table.len()), (left, left));
    }
}

/// What an owner was about to say is not said by one that has handed over, nor kept for when it owns
/// again: answers, and those who had their turn still before them.
#[test]
fn what_was_about_to_be_said_goes_with_the_address() {
    let mut world = busy();
    let now = world.now;
    let mut stranger = packet(
        4444,
        (service_address(), ECHO).into(),
        77,
        SeqNum(5),
        Flags::ACK,
        b"nobody knows me",
    );
    let engine = world.engine(0);
    engine.on_packet(now, trusted(), &mut stranger);
    assert!(!engine.as_owner().outbox.is_empty(), "a reset is about to leave");
    for slot in 0..engine.table.slots() {
        if let Some(id) = engine.table.tenant(slot) {
            engine.touch(now, id);
        }
    }
    engine.on_switchover(now).expect("duplex");
    engine.audit(now).expect("handed over");
    // As the role machine has it when the heir renounces: `role::yielding`.
    engine.begin_to_own(now);
    engine.own(now, true);
    engine.audit(now).expect("and back");
    assert!(engine.as_owner().outbox.is_empty() && engine.has_packets());
}
