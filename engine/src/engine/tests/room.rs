//! A table that is full: who gives way, and who does not.

use super::client::Mode;
use super::traps::{packet, to_address};
use super::world::{CHARGEN, ECHO, FILES, World, service_address};
use crate::engine::lingering::QUIET;
use crate::engine::{Engine, PACKET_BUFFER};
use crate::tcp::State;
use crate::time::{Duration, Instant};
use crate::wire::{ChecksumState, Flags, SeqNum, VnetHeader, parse_ip, parse_tcp};

const ROOM: usize = 3;

fn small() -> World {
    World::duplex_with(|setup| setup.connections_max = ROOM)
}

/// The server closes first: each leaves a connection in TIME-WAIT.
fn fetches(world: &mut World, count: usize) {
    for _ in 0..count {
        let index = world.connect(FILES, Mode::Fetch);
        world.run_until("it is served", |world| world.clients[index].has_ended());
        world.run_for(Duration::from_millis(5));
    }
}

fn refused(world: &mut World, host: usize) -> (usize, u64) {
    let engine = world.engine(host);
    (engine.table.len(), engine.stats.table_full)
}

#[test]
fn connections_in_time_wait_give_way_to_new_ones() {
    let mut world = small();
    fetches(&mut world, 3 * ROOM);
    assert_eq!(refused(&mut world, 0), (ROOM, 0));
    assert_eq!(world.engine(1).table.len(), ROOM, "and at the standby");
    let waiting: Vec<_> = (0..ROOM).filter_map(|slot| world.engine(0).table.tenant(slot)).collect();
    let serial = |id: &crate::ids::ConnId| id.0 >> 32;
    assert!(waiting.iter().all(|id| serial(id) > 2 * ROOM as u64), "the youngest: {waiting:?}");

    // Its heir knows who waits, and since when.
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    fetches(&mut world, 2 * ROOM);
    assert_eq!(refused(&mut world, 1), (ROOM, 0));
    world.finish();
}

#[test]
fn connections_in_use_do_not_give_way() {
    let mut world = small();
    fetches(&mut world, 2);
    for _ in 0..ROOM {
        world.connect(ECHO, Mode::Talk);
        world.run_for(Duration::from_millis(5));
    }
    assert_eq!(refused(&mut world, 0), (ROOM, 0), "TIME-WAIT does not count");
    world.connect(ECHO, Mode::Talk);
    world.run_for(Duration::from_millis(5));
    assert_eq!(refused(&mut world, 0), (ROOM, 1));
    for index in 2..2 + ROOM {
        world.say(index, 1000, false);
    }
    world.run_for(Duration::from_millis(5));
    assert!(world.clients[2..2 + ROOM].iter().all(|client| client.received() == 1000));
}

#[test]
fn a_newcomer_by_cookie_finds_room_too() {
    let mut world = World::duplex_with(|setup| {
        setup.connections_max = ROOM;
        setup.backlog = 0;
    });
    fetches(&mut world, 3 * ROOM);
    assert_eq!(refused(&mut world, 0), (ROOM, 0));
    world.finish();
}

/// Clients that got their reply, and never say that they are done: each leaves a connection in FIN-WAIT-2.
fn deserters(world: &mut World, ports: core::ops::Range<u16>) {
    let web = (service_address(), FILES).into();
    let request = b"GET /nothing HTTP/1.0\r\n\r\n";
    let after = 100 + request.len() as u32;
    for port in ports {
        let next = say(world, packet(port, web, 99, SeqNum(0), Flags::SYN, &[]));
        let end = say(world, packet(port, web, 100, next, Flags::ACK, request));
        say(world, packet(port, web, after, end, Flags::ACK, &[]));
    }
}

/// A stranger's packet. What follows the last one that came back to it.
fn say(world: &mut World, packet: Vec<u8>) -> SeqNum {
    let now = world.now;
    tell(world.engine(0), now, packet);
    world.serve(0);
    world.run_for(Duration::from_millis(5));
    let last = world.overheard.last().expect("an answer");
    let ip = parse_ip(last).expect("IP");
    let (_, _, segment) = parse_tcp(&ip, ChecksumState::Trusted).expect("TCP");
    segment.seq.add(segment.len())
}

fn in_fin_wait_2(world: &mut World, host: usize) -> usize {
    let engine = world.engine(host);
    let ids: Vec<_> =
        (0..engine.table.slots()).filter_map(|slot| engine.table.tenant(slot)).collect();
    let state = |id| Some(engine.table.get_mut(id)?.tcb_mut()?.state());
    ids.into_iter().filter_map(state).filter(|state| *state == State::FinWait2).count()
}

/// What was said to them is said, and they say nothing: nobody waits for that while others wait for room.
#[test]
fn half_closed_connections_give_way_when_their_clients_have_been_silent_for_long() {
    let mut world = small();
    deserters(&mut world, 5000..5000 + ROOM as u16);
    assert_eq!(in_fin_wait_2(&mut world, 0), ROOM);
    let index = world.connect(ECHO, Mode::Talk);
    world.run_for(Duration::from_millis(100));
    assert_eq!(refused(&mut world, 0), (ROOM, 1), "they were here just now");
    // Its SYN comes again after one, three, seven and fifteen seconds.
    world.run_for(Duration::from_secs(16));
    assert_eq!(in_fin_wait_2(&mut world, 0), ROOM - 1, "one has made room, and no more");
    world.say(index, 1000, false);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.clients[index].received(), 1000);

    // Its heir knows them, too.
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(QUIET);
    assert_eq!(in_fin_wait_2(&mut world, 1), ROOM - 1);
    for _ in 1..ROOM {
        world.connect(ECHO, Mode::Talk);
        world.run_for(Duration::from_millis(5));
    }
    assert_eq!((in_fin_wait_2(&mut world, 1), refused(&mut world, 1)), (0, (ROOM, 0)));
    world.say(index, 1000, false);
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.clients[index].received(), 2000, "those in use do not");
}

/// Whoever is done, and to whose client all has been said but its last acknowledgment is missing.
#[test]
fn a_client_that_is_gone_before_its_last_word_gives_way() {
    let mut world = small();
    let service = (service_address(), ECHO).into();
    for port in 5000..5000 + ROOM as u16 {
        let next = say(&mut world, packet(port, service, 99, SeqNum(0), Flags::SYN, &[]));
        say(&mut world, packet(port, service, 100, next, Flags::ACK | Flags::FIN, &[]));
    }
    world.run_for(QUIET);
    let index = world.connect(ECHO, Mode::Echo(1000));
    world.run_until("it is served", |world| world.clients[index].has_ended());
    world.clients[index].assert_good();
    assert_eq!(refused(&mut world, 0), (ROOM, 0));
}

/// The list holds who waits and not everybody who ever has.
#[test]
fn the_list_of_those_who_wait_does_not_grow() {
    let mut world = World::duplex_with(|setup| {
        let tcp =
            crate::tcp::Settings { time_wait: Duration::from_secs(1), ..(*setup.tcp).clone() };
        setup.tcp = std::sync::Arc::new(tcp);
    });
    for _ in 0..20 {
        fetches(&mut world, 1);
        world.run_for(Duration::from_millis(1500));
    }
    assert_eq!(world.engine(0).table.len(), 0);
    // One in each list.
    assert!(world.engine(0).lingering.len() <= 2 && world.engine(1).lingering.len() <= 2);
}

pub(super) fn tell(
    engine: &mut Engine,
    now: Instant,
    mut bytes: Vec<u8>,
) -> Option<(SeqNum, Flags)> {
    engine.on_packet(now, VnetHeader::PLAIN, &mut bytes);
    let (mut buffer, mut last) = (vec![0; PACKET_BUFFER], None);
    while let Some(range) = engine.poll_packet(now, &mut buffer) {
        let packet = &buffer[range.start + VnetHeader::LEN..range.end];
        let ip = parse_ip(packet).expect("IP");
        let (_, _, segment) = parse_tcp(&ip, ChecksumState::Trusted).expect("TCP");
        last = Some((segment.seq.add(segment.len()), segment.flags));
    }
    last
}

/// A SYN that could follow a connection in TIME-WAIT, and comes when the standby is too far behind.
#[test]
fn time_wait_ends_only_when_its_successor_is_taken() {
    let mut world = World::duplex_with(|setup| setup.backlog_bytes_max = 0);
    world.kill(1);
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    let engine = world.engine(0);
    let web = (service_address(), FILES).into();
    let say = |engine: &mut Engine, seq, ack, flags, text: &[u8]| {
        tell(engine, now, to_address(web, seq, ack, flags, text))
    };
    let (next, _) = say(engine, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    let request = b"GET /nothing HTTP/1.0\r\n\r\n";
    let (end, _) = say(engine, 100, next, Flags::ACK, request).expect("a reply");
    let after = 100 + request.len() as u32;
    say(engine, after, end, Flags::FIN | Flags::ACK, &[]);
    let state = |world: &mut World| {
        let engine = world.engine(0);
        let id = (0..engine.table.slots()).find_map(|slot| engine.table.tenant(slot))?;
        engine.table.get_mut(id)?.tcb_mut().map(|tcb| tcb.state())
    };
    assert_eq!(state(&mut world), Some(State::TimeWait));
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    let now = world.now;

    // Somebody else's SYN has to be confirmed first.
    let service = (service_address(), CHARGEN).into();
    let engine = world.engine(0);
    tell(engine, now, packet(5000, service, 7, SeqNum(0), Flags::SYN, &[]));
    assert!(engine.is_crowded());
    let again = |after: u32| to_address(web, after + 70_000, SeqNum(0), Flags::SYN, &[]);
    assert_eq!(tell(engine, now, again(after)), None);
    assert_eq!(state(&mut world), Some(State::TimeWait), "it goes on waiting");
    world.run_for(Duration::from_millis(5));
    let now = world.now;
    tell(world.engine(0), now, again(after));
    assert_eq!(state(&mut world), Some(State::SynReceived));
}

/// RFC 9293 §3.10.7.2: what has no ACK and no SYN is dropped where somebody listens, a relay too, and
/// refused where nobody does.
#[test]
fn a_listener_drops_what_is_neither_syn_nor_ack() {
    let mut world = World::duplex();
    let now = world.now;
    let mut from = 3000;
    let quiet = [
        Flags::empty(),
        Flags::FIN,
        Flags::URG | Flags::PSH,
        Flags::FIN | Flags::URG | Flags::PSH,
        Flags::ECE | Flags::CWR,
    ];
    let (service, refusal) = (service_address(), Flags::RST | Flags::ACK);
    for flags in quiet {
        let mut answer = |port: u16, flags, ack| {
            from += 1;
            tell(world.engine(0), now, packet(from, (service, port).into(), 7, ack, flags, &[]))
        };
        let nothing = SeqNum(0);
        assert_eq!(answer(ECHO, flags, nothing), None, "{flags:?}");
        assert_eq!(answer(super::world::RELAYED + ECHO, flags, nothing), None, "{flags:?}");
        let closed = answer(4, flags, nothing).map(|(_, flags)| flags);
        assert_eq!(closed, Some(refusal), "{flags:?}");
        let acked = answer(ECHO, flags | Flags::ACK, SeqNum(9)).map(|(_, flags)| flags);
        assert_eq!(acked, Some(Flags::RST), "{flags:?}");
    }
}

/// A flood that is answered by cookies takes nobody's place.
#[test]
fn a_cookie_ends_nobodys_time_wait() {
    let mut world = small();
    fetches(&mut world, ROOM);
    let now = world.now;
    let engine = world.engine(0);
    engine.setup.backlog = 0;
    let service = (service_address(), ECHO).into();
    for from in 0..100 {
        let syn = packet(5000 + from, service, 7, SeqNum(0), Flags::SYN, &[]);
        let answer = tell(engine, now, syn).map(|(_, flags)| flags);
        assert_eq!(answer, Some(Flags::SYN | Flags::ACK));
    }
    assert_eq!(
        (engine.table.len(), engine.stats.cookies_sent, engine.stats.closed),
        (ROOM, 100, 0)
    );
}
