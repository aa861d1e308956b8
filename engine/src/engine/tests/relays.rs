//! Stories of relays: unmodified servers behind a pair whose primary fails.

use super::client::Mode;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, RELAYED, World, service_address};
use crate::engine::{Engine, PACKET_BUFFER};
use crate::ids::SpliceId;
use crate::relay::{Relays, Splice};
use crate::time::Duration;
use crate::wire::{
    Flags, FourTuple, Fragments, IcmpError, IcmpKind, Offload, SeqNum, TcpHeader, TcpOptions,
    VnetHeader, write_icmp_error,
};

const ALL: [(u16, Mode); 4] = [
    (RELAYED + ECHO, Mode::Echo(2_000_000)),
    (RELAYED + DISCARD, Mode::Upload(5_000_000)),
    (RELAYED + CHARGEN, Mode::Chargen(5_000_000)),
    (RELAYED + FILES, Mode::Fetch),
];

fn duplex() -> World {
    let mut world = World::duplex();
    world.start_backends();
    world
}

fn busy(world: &mut World) {
    for (port, mode) in ALL {
        world.connect(port, mode);
        world.connect_v6(port, mode);
    }
}

/// A client's segment to the relay of `echo`.
fn from_client(port: u16, flags: Flags) -> Vec<u8> {
    let local = ([10, 77, 0, 10], port).into();
    let remote = (service_address(), RELAYED + ECHO).into();
    let header = TcpHeader {
        tuple: FourTuple { local, remote },
        seq: SeqNum(1000),
        ack: SeqNum(0),
        flags,
        window: 1000,
        options: TcpOptions::default(),
        ecn: 0,
        ttl: 64,
        ip_id: 0,
    };
    let mut packet = vec![0; header.len()];
    let _: VnetHeader = header.write(&mut packet, 0, Offload::Full);
    packet
}

/// Lets the clients get somewhere but not finish.
fn underway(world: &mut World) {
    world.run_for(Duration::from_micros(2500));
    for client in &world.clients {
        assert!(!client.is_done(), "done too early\n{}", world.story());
        assert!(client.received() + client.acked() > 0, "not begun\n{}", world.story());
    }
}

#[test]
fn a_single_node_relays_every_service() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    busy(&mut world);
    world.finish();
}

#[test]
fn splices_are_shared_out_and_end_with_their_connections() {
    let mut world = duplex();
    busy(&mut world);
    busy(&mut world);
    underway(&mut world);
    let now = world.now;
    assert_eq!(world.backend_connections(), [8, 8]);
    assert_eq!([0, 1].map(|host| world.engine(host).status(now).splices), [16, 16]);
    world.finish();
    world.run_for(Duration::from_secs(200));
    let now = world.now;
    // Those that receive without end never end.
    assert_eq!([0, 1].map(|host| world.engine(host).status(now).splices), [4, 4]);
    assert_eq!([0, 1].map(|host| world.engine(host).status(now).lingering), [0, 0]);
}

#[test]
fn primary_killed_under_splices() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    world.kill(0);
    world.finish();
    assert!(world.is_primary(1));
}

#[test]
fn primary_frozen_under_splices_stays_silent() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    world.freeze(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.thaw(0);
    world.finish();
    world.run_until("duplex again", World::is_duplex);
}

#[test]
fn switchover_and_a_second_takeover_keep_splices() {
    let mut world = duplex();
    busy(&mut world);
    underway(&mut world);
    let now = world.now;
    world.engine(0).on_switchover(now).expect("duplex");
    world.run_until("duplex again", |world| world.is_primary(1) && world.is_duplex());
    world.kill(1);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.finish();
}

#[test]
fn a_standby_that_joins_is_told_of_every_splice() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    busy(&mut world);
    underway(&mut world);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.finish();
}

#[test]
fn a_standby_that_joins_is_told_which_splices_are_over() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    world.connect(RELAYED + ECHO, Mode::Echo(1000));
    world.finish();
    world.run_for(Duration::from_millis(10));
    let now = world.now;
    let status = world.engine(0).status(now);
    assert_eq!((status.splices, status.lingering), (0, 1));
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(Duration::from_secs(65));
    let now = world.now;
    let status = world.engine(1).status(now);
    assert_eq!((status.splices, status.lingering), (0, 0));
}

#[test]
fn who_has_not_announced_passes_nothing_on_and_refuses_nobody() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    world.connect(RELAYED + ECHO, Mode::Echo(1000));
    world.finish();
    let now = world.now;
    let engine = world.engine(0);
    for (announced, port) in [(false, 40_000), (false, 50_000), (true, 40_000)] {
        engine.as_owner().announced = announced;
        let mut packet = from_client(port, Flags::ACK);
        let relayed = engine.on_packet(now, VnetHeader::PLAIN, &mut packet);
        assert_eq!((relayed.is_some(), engine.has_packets()), (announced, false));
    }
}

#[test]
fn a_splice_that_begins_during_a_snapshot_is_no_part_of_it() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    world.connect(RELAYED + ECHO, Mode::Echo(1000));
    world.finish();
    world.run_for(Duration::from_secs(100));
    let now = world.now;
    let engine = world.engine(0);
    assert_eq!((engine.relays.len(), engine.relays.slots()), (0, 1));
    engine.attach_standby(now);
    assert!(!engine.for_standby().splices.is_told(0));

    let position = engine.for_standby().log.appended();
    engine.on_packet(now, VnetHeader::PLAIN, &mut from_client(50_000, Flags::SYN));
    assert_eq!(engine.for_standby().log.appended(), position.next());
    assert!(engine.for_standby().splices.is_told(0));
    engine.advance_snapshot(now);
    assert_eq!(engine.for_standby().log.appended(), position.next().next(), "its end alone");
}

#[test]
fn loss_on_both_legs_and_a_takeover() {
    for loss in [23, 37, 101] {
        let mut world = duplex();
        world.loss = loss;
        busy(&mut world);
        world.run_for(Duration::from_millis(400));
        world.kill(0);
        world.finish();
    }
}

#[test]
fn a_backend_that_refuses_is_passed_over_and_a_client_does_not_notice() {
    let mut world = duplex();
    world.kill_backend(0);
    world.run_for(Duration::from_millis(600));
    busy(&mut world);
    world.finish();
    let now = world.now;
    let status = world.engine(0).status(now);
    assert!(status.relays.moved > 0, "{status:?}");
    world.run_for(Duration::from_secs(10));
    let now = world.now;
    let down = |status: &crate::engine::Status| {
        status.backends.iter().filter(|backend| !backend.up).count()
    };
    assert_eq!(down(&world.engine(0).status(now)), 8);
    world.start_backend(0);
    world.run_for(Duration::from_secs(10));
    let now = world.now;
    assert_eq!(down(&world.engine(0).status(now)), 0);
}

#[test]
fn a_backend_without_power_costs_a_client_one_repetition() {
    let mut world = duplex();
    world.poweroff_backend(1);
    busy(&mut world);
    world.finish();
    assert!(world.clients.iter().all(|client| client.longest_gap < Duration::from_millis(1500)));
}

#[test]
fn without_a_backend_a_client_is_refused() {
    let mut world = duplex();
    for backend in 0..2 {
        world.kill_backend(backend);
    }
    world.run_for(Duration::from_secs(10));
    let client = world.connect(RELAYED + ECHO, Mode::Echo(10));
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[client].has_ended(), "{}", world.story());
    let now = world.now;
    assert_eq!(world.engine(0).status(now).relays.refused, 1);
}

#[test]
fn nothing_of_a_splice_shows_before_the_standby_knows_it() {
    let mut world = duplex();
    world.hosts[0].link_lag = Duration::from_millis(20);
    let client = world.connect(RELAYED + CHARGEN, Mode::Chargen(1000));
    world.run_for(Duration::from_millis(15));
    assert_eq!(world.backend_connections(), [0, 0], "a SYN left before the confirmation");
    world.run_for(Duration::from_millis(15));
    assert_eq!(world.backend_connections().iter().sum::<usize>(), 1);
    world.finish();
    assert!(world.clients[client].is_done());
}

/// A standby holds splices to servers of which its own configuration knows nothing.
#[test]
fn backends_are_changed_on_one_node_and_then_on_the_other() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    busy(&mut world);
    underway(&mut world);
    assert!(world.backend_connections()[0] > 0);
    world.tweak = |setup| {
        for relay in &mut setup.relays {
            relay.backends.drain(..2);
        }
    };
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    let now = world.now;
    world.engine(0).on_switchover(now).expect("duplex");
    world.run_until("host 1 owns", |world| world.is_primary(1));
    let before = world.backend_connections();
    busy(&mut world);
    world.run_for(Duration::from_millis(1));
    assert!(world.backend_connections()[0] <= before[0], "a new client came to the one taken out");
    world.finish();
}

/// A segment from the other end of `leg`, with as much text as is asked for.
fn said_on(leg: &FourTuple, seq: u32, ack: u32, text: usize) -> Vec<u8> {
    let header = TcpHeader {
        tuple: FourTuple { local: leg.remote, remote: leg.local },
        seq: SeqNum(seq),
        ack: SeqNum(ack),
        flags: Flags::ACK,
        window: 60_000,
        options: TcpOptions::default(),
        ecn: 0,
        ttl: 64,
        ip_id: 7,
    };
    let mut packet = vec![0; header.len() + text];
    let _: VnetHeader = header.write(&mut packet, text, Offload::Full);
    packet
}

/// What the engine has to send.
fn packets(engine: &mut Engine, now: crate::time::Instant) -> Vec<Vec<u8>> {
    let mut buffer = vec![0; PACKET_BUFFER];
    core::iter::from_fn(|| {
        let range = engine.poll_packet(now, &mut buffer)?;
        Some(buffer[range][VnetHeader::LEN..].to_vec())
    })
    .collect()
}

/// A world with one splice on which nothing happens, and that.
fn spliced(offload: bool) -> (World, SpliceId, Splice) {
    let mut world = World::new();
    if !offload {
        world.tweak = |setup| setup.offload = false;
    }
    world.start(0);
    world.start_backends();
    world.connect(RELAYED + CHARGEN, Mode::Chargen(1000));
    world.run_for(Duration::from_millis(100));
    for backend in 0..2 {
        world.poweroff_backend(backend);
    }
    let engine = world.engine(0);
    let id = (0..engine.relays.slots()).find_map(|slot| engine.relays.tenant(slot));
    let id = id.expect("a splice");
    let splice = engine.relays.splice(id).expect("a splice");
    (world, id, splice)
}

/// A path to one client is narrow: it gets what its backend sends in pieces, whoever cuts it, and no
/// backend hears of it.
#[test]
fn what_is_too_big_for_one_client_is_cut_for_it_alone() {
    for offload in [true, false] {
        let (mut world, _, splice) = spliced(offload);
        let now = world.now;
        let engine = world.engine(0);
        packets(engine, now);
        let Splice { client, backend, .. } = splice;
        // An heir knows no numbers: what it has seen last is near.
        engine.relays.arm(now);
        let vnet = VnetHeader::PLAIN;
        let whole = engine.on_packet(now, vnet, &mut said_on(&backend, 5000, 1, 1460));
        assert_eq!(whole.map(|relayed| relayed.vnet), Some(vnet));
        let error = IcmpError {
            kind: IcmpKind::TooBig { mtu: 1400 },
            tuple: client,
            seq: SeqNum(5000),
            quoted_len: 1500,
        };
        let mut icmp = Vec::new();
        write_icmp_error(&error, client.remote.ip(), 64, 1, &mut icmp);
        let relayed = engine.on_packet(now, vnet, &mut icmp);
        assert_eq!((relayed, engine.has_packets()), (None, false), "the backend is not told");
        assert_eq!(engine.stats.paths_narrowed, 1);

        let (mut packet, before) = (said_on(&backend, 5000, 1, 1460), engine.stats.packets_out);
        let relayed = engine.on_packet(now, vnet, &mut packet);
        if offload {
            let vnet = relayed.expect("it passes whole").vnet;
            assert_eq!((vnet.gso_type, vnet.gso_size), (VnetHeader::GSO_TCPV4, 1360));
        } else {
            assert_eq!(relayed, None);
            let lengths: Vec<_> = packets(engine, now).iter().map(Vec::len).collect();
            assert_eq!(lengths, [1400, 140]);
            assert_eq!(engine.stats.packets_out - before, 2);
        }
        let fits = engine.on_packet(now, vnet, &mut said_on(&backend, 6460, 1, 1360));
        assert_eq!(fits.map(|relayed| relayed.vnet), Some(vnet));
    }
}

#[test]
fn an_error_about_a_splice_is_nobodys_before_the_address_is_announced() {
    let (mut world, _, splice) = spliced(true);
    let now = world.now;
    let engine = world.engine(0);
    packets(engine, now);
    let error = IcmpError {
        kind: IcmpKind::Unreachable { hard: false },
        tuple: splice.client,
        seq: SeqNum(1),
        quoted_len: 1500,
    };
    let mut icmp = Vec::new();
    write_icmp_error(&error, splice.client.remote.ip(), 64, 1, &mut icmp);
    for announced in [false, true] {
        engine.as_owner().announced = announced;
        engine.on_packet(now, VnetHeader::PLAIN, &mut icmp.clone());
        assert_eq!(engine.has_packets(), announced);
    }
}

#[test]
fn what_passes_in_pieces_is_counted_once_for_each() {
    let (mut world, _, splice) = spliced(true);
    let now = world.now;
    let engine = world.engine(0);
    packets(engine, now);
    let whole = said_on(&splice.backend, 5000, 1, 4000);
    let mut fragments = Fragments::of(&whole, 1500, 9);
    let mut piece = vec![0; 1500];
    let before = engine.stats;
    while let Some(length) = fragments.write_next(&mut piece) {
        engine.on_packet(now, VnetHeader::PLAIN, &mut piece[..length].to_vec());
    }
    let sent = packets(engine, now).len() as u64;
    assert_eq!(sent, 3);
    let after = engine.stats;
    assert_eq!(after.packets_out - before.packets_out, sent);
    assert_eq!(
        (after.relayed - before.relayed, after.relayed_bytes - before.relayed_bytes),
        (1, 4000)
    );
}

#[test]
fn a_splice_of_which_the_standby_was_not_told_tells_it_no_stage() {
    let (mut world, id, _) = spliced(true);
    let now = world.now;
    let engine = world.engine(0);
    engine.attach_standby(now);
    assert!(!engine.for_standby().splices.is_told(Relays::slot_of(id)));
    let position = engine.for_standby().log.appended();
    engine.replicate_stage(id, crate::relay::Stage::Over);
    assert_eq!(engine.for_standby().log.appended(), position, "a record of what it does not know");
    while !engine.advance_splices() {}
    let told = engine.for_standby().log.appended();
    engine.replicate_stage(id, crate::relay::Stage::Over);
    assert_eq!(engine.for_standby().log.appended(), told.next());
}

#[test]
fn who_takes_over_knows_which_backends_are_down() {
    let mut world = duplex();
    world.poweroff_backend(0);
    world.run_for(Duration::from_secs(10));
    let down = |world: &mut World, host: usize| {
        let now = world.now;
        let status = world.engine(host).status(now);
        status.backends.iter().filter(|backend| backend.known && !backend.up).count()
    };
    assert_eq!([0, 1].map(|host| down(&mut world, host)), [8, 8]);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    let before = world.backend_connections();
    busy(&mut world);
    busy(&mut world);
    world.finish();
    let now = world.now;
    assert_eq!(world.engine(1).status(now).relays.moved, 0, "nobody was sent to one that is down");
    assert_eq!(world.backend_connections()[0], before[0]);
    assert!(world.clients.iter().all(|client| client.longest_gap < Duration::from_millis(500)));
}

/// A standby that joins later is told, too; one that speaks the version before is told nothing.
#[test]
fn a_standby_that_joins_is_told_which_backends_are_down() {
    let mut world = World::new();
    world.start(0);
    world.start_backends();
    world.kill_backend(0);
    world.run_for(Duration::from_secs(10));
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    let now = world.now;
    let backends = world.engine(1).status(now).backends;
    assert_eq!(backends.iter().filter(|backend| !backend.up).count(), 8);
    let engine = world.engine(0);
    engine.link.version = 3;
    let position = engine.for_standby().log.appended();
    engine.replicate_backends(now);
    assert_eq!(engine.for_standby().log.appended(), position);
}
