//! What a standby holds does not depend on how it came to know it: by the log from the first
//! moment, or by a snapshot under traffic and the log from there on. And what a connection is does
//! not depend on packets of others.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::client::Mode;
use super::traps::packet;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, World, service_address};
use crate::engine::PACKET_BUFFER;
use crate::engine::connection::{Body, Connection};
use crate::tcp::Hard;
use crate::time::Duration;
use crate::wire::{Flags, SeqNum, VnetHeader};

/// The story is told in so many steps of [`STEP`].
const STEPS: usize = 60;
const STEP: Duration = Duration::from_micros(400);

/// What the clients do, and when.
#[derive(Clone, Debug)]
struct Story {
    /// Client number, step at which it connects.
    clients: Vec<(Mode, usize)>,
    /// Which talking client says so much more, at which step, and whether it was the last.
    words: Vec<(usize, usize, u64, bool)>,
    /// Every n-th packet is lost.
    loss: u64,
}

fn story() -> impl Strategy<Value = Story> {
    let mode = prop_oneof![
        4 => Just(Mode::Talk),
        1 => Just(Mode::Fetch),
        1 => Just(Mode::FetchHalfClosed),
        1 => (1_u64..200_000).prop_map(Mode::Upload),
        1 => (1_u64..200_000).prop_map(Mode::Echo),
        1 => (1_u64..200_000).prop_map(Mode::Chargen),
    ];
    let clients = prop::collection::vec((mode, 0..STEPS), 1..8);
    let word = (0_usize..8, 0..STEPS, 1_u64..30_000, prop::bool::weighted(0.1));
    let words = prop::collection::vec(word, 0..30);
    let loss = prop_oneof![Just(0), 5_u64..40];
    (clients, words, loss).prop_map(|(clients, words, loss)| Story { clients, words, loss })
}

fn port(mode: Mode) -> u16 {
    match mode {
        Mode::Echo(_) | Mode::Talk => ECHO,
        Mode::Upload(_) => DISCARD,
        Mode::Chargen(_) => CHARGEN,
        Mode::Fetch | Mode::FetchHalfClosed | Mode::Heads(_) | Mode::Speak(_) => FILES,
    }
}

/// The whole story, with the standby started at each of the steps `joins`; one that runs is killed
/// before. Afterwards everything comes to rest, in duplex.
fn told(story: &Story, joins: &[usize]) -> World {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.loss = story.loss;
    let mut numbers = BTreeMap::new();
    let mut over = Vec::new();
    for step in 0..STEPS {
        if joins.contains(&step) {
            if world.hosts[1].engine.is_some() {
                world.kill(1);
            }
            world.start(1);
        }
        for (number, &(mode, at)) in story.clients.iter().enumerate() {
            if at == step {
                numbers.insert(number, world.connect(port(mode), mode));
            }
        }
        for &(number, at, bytes, last) in &story.words {
            let talks = story.clients.get(number).is_some_and(|(mode, _)| *mode == Mode::Talk);
            let silent = over.contains(&number);
            if let (true, true, false, Some(&index)) =
                (at == step, talks, silent, numbers.get(&number))
            {
                world.say(index, bytes, last);
                over.extend(last.then_some(number));
            }
        }
        world.run_for(STEP);
    }
    world.loss = 0;
    world.run_until("duplex", World::is_duplex);
    world.run_for(Duration::from_secs(20));
    assert!(world.is_primary(0) && world.is_duplex(), "{}", world.story());
    world
}

/// One connection's state: what must be exact, and the application.
type Known = (Hard, Vec<u8>);

/// What host `host` knows of every connection, by the ports of service and client.
fn known(world: &mut World, host: usize) -> BTreeMap<(u16, u16), Known> {
    let ahead = world.engine(host).clock.ahead_millis();
    let table = &mut world.engine(host).table;
    let ports =
        |connection: &Connection| (connection.tuple.local.port(), connection.tuple.remote.port());
    let ids: Vec<_> = (0..table.slots()).filter_map(|slot| table.tenant(slot)).collect();
    let known = ids.into_iter().filter_map(|id| {
        let connection = table.get_mut(id)?;
        Some((ports(connection), state(connection, ahead)))
    });
    known.collect()
}

fn state(connection: &Connection, ahead: u32) -> Known {
    let hard = match &connection.body {
        // Timestamp offsets travel relative to the pair's clock.
        Body::Live(tcb) => {
            let hard = tcb.hard();
            Hard { ts_offset: hard.ts_offset.wrapping_sub(ahead), ..hard }
        }
        Body::Parked(_) => unreachable!("the table unparks"),
        Body::Held(hard) => Hard::clone(hard),
    };
    // These may lag, or are the speaker's own business (`tcp::hard`).
    let hard = Hard {
        snd_wnd: 0,
        ts_recent: 0,
        srtt: Duration::ZERO,
        consumed: 0,
        received_edge: 0,
        mtu: 0,
        ..hard
    };
    let mut app = Vec::new();
    connection.app.snapshot(&mut app);
    (hard, app)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// In three worlds the same clients do the same: one standby was there from the start, one came
    /// in the middle, one came, died, and came again. At rest all of them hold the same, and it is
    /// what the primary has.
    #[test]
    fn snapshot_then_log_is_the_log_from_the_start(
        story in story(),
        joins in prop::collection::btree_set(1..STEPS, 1..3),
    ) {
        let joins: Vec<usize> = joins.into_iter().collect();
        let mut from_the_start = told(&story, &[0]);
        let mut later = told(&story, &joins);
        let expected = known(&mut from_the_start, 1);
        prop_assert_eq!(&known(&mut from_the_start, 0), &expected, "log alone");
        prop_assert_eq!(&known(&mut later, 0), &known(&mut later, 1), "snapshot, then log");
        // Where a client of chargen stops reading depends on how its segments were cut. A SYN may be
        // lost in one world and not in the other: the ISN tells when it came, and one that comes
        // again does not ask for ECN.
        let comparable = |mut known: BTreeMap<(u16, u16), Known>| {
            known.retain(|&(service, _), _| service != CHARGEN);
            for (hard, _) in known.values_mut() {
                (hard.iss, hard.ecn) = (SeqNum(0), false);
            }
            known
        };
        let both = (comparable(known(&mut later, 1)), comparable(expected));
        prop_assert_eq!(both.0, both.1, "both ways");
    }
}

/// Port, step from the sequence number and the acknowledgment that would fit the connection, flags,
/// text.
type Stranger = (u16, u8, u8, u8, Vec<u8>);

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever comes for other connections, or for none, leaves a connection as it is: on the
    /// primary and on its standby.
    #[test]
    fn a_packet_changes_no_connection_but_its_own(
        strangers in prop::collection::vec(any::<Stranger>(), 1..40),
        to in prop::sample::select(vec![ECHO, DISCARD, CHARGEN, FILES, 9999]),
    ) {
        let mut world = World::duplex();
        let index = world.connect(ECHO, Mode::Talk);
        world.run_for(Duration::from_millis(5));
        world.say(index, 1_000, false);
        world.run_for(Duration::from_millis(500));
        let hosts = [0, 1];
        let before = hosts.map(|host| known(&mut world, host));
        let (&own, (hard, _)) = before[0].first_key_value().expect("it is there");
        let seq_next = hard.irs.add(1).add(hard.received as u32);
        let ack_next = hard.iss.add(1).add(hard.acked as u32);
        for (port, seq, ack, flags, text) in strangers {
            if port == own.1 || port == 0 {
                continue;
            }
            let flags = Flags::from_bits_retain(flags);
            let remote = (service_address(), to).into();
            let (seq, ack) = (seq_next.add((seq / 64).into()), ack_next.add((ack / 64).into()));
            let mut bytes = packet(port, remote, seq.0, ack, flags, &text);
            let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
            let engine = world.engine(0);
            engine.on_packet(now, VnetHeader::PLAIN, &mut bytes);
            while engine.poll_packet(now, &mut buffer).is_some() {}
        }
        world.run_for(Duration::from_millis(50));
        for host in hosts {
            let after = known(&mut world, host);
            prop_assert_eq!(after.get(&own), before[host].get(&own));
        }
    }
}
