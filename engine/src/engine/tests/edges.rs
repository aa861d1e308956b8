//! What an engine does right at the end of something: of a connection, a session, a role, a limit.
//! The world counts anew after every turn (`Engine::audit`); here are the moments that it has to see.

use super::client::Mode;
use super::traps::packet;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, RELAYED, World, service_address, trusted};
use crate::engine::Notice;
use crate::engine::connection::Body;
use crate::engine::replicate::Stall;
use crate::ids::{ConnId, Lsn};
use crate::replica::{Log, Record};
use crate::tcp::{State, plateau_below};
use crate::time::{Duration, Instant};
use crate::wire::{
    Flags, FourTuple, IcmpError, IcmpKind, SeqNum, VnetHeader, parse_ip, parse_tcp,
    write_icmp_error,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A client by hand, at 10.77.0.10:4000, of host 0.
const PORT: u16 = 4000;

/// It says one segment. What is answered, the last of it.
fn tell(
    world: &mut World,
    service: u16,
    seq: u32,
    ack: SeqNum,
    flags: Flags,
    text: &[u8],
) -> Option<(SeqNum, Flags)> {
    let mut bytes = packet(PORT, (service_address(), service).into(), seq, ack, flags, text);
    let now = world.now;
    world.engine(0).on_packet(now, trusted(), &mut bytes);
    world.serve(0);
    hear(world)
}

fn hear(world: &mut World) -> Option<(SeqNum, Flags)> {
    world.run_for(Duration::from_micros(300));
    let heard = world.overheard.iter().rev().find_map(|packet| {
        let ip = parse_ip(packet).expect("IP");
        let (_, to, segment) = parse_tcp(&ip, crate::wire::ChecksumState::Trusted).ok()?;
        (to == PORT).then(|| (segment.seq.add(segment.len()), segment.flags))
    });
    world.overheard.clear();
    heard
}

/// Where the only connection of a host stands, as its standby has it.
fn held(world: &mut World) -> crate::tcp::Hard {
    let id = world.engine(1).table.tenant(0).expect("there is one");
    match &world.engine(1).table.get_mut(id).expect("it is there").body {
        Body::Held(hard) => crate::tcp::Hard::clone(hard),
        Body::Live(_) | Body::Parked(_) => panic!("the standby speaks"),
    }
}

#[test]
fn a_handshake_that_ends_in_a_reset_is_half_open_on_neither_node() {
    let mut world = World::duplex();
    tell(&mut world, ECHO, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    let half_open = |world: &mut World| [0, 1].map(|host| world.engine(host).half_open);
    assert_eq!(half_open(&mut world), [1, 1]);
    tell(&mut world, ECHO, 100, SeqNum(0), Flags::RST, &[]);
    assert_eq!((half_open(&mut world), world.engine(1).table.len()), ([0, 0], 0));
}

/// The acknowledgment of a FIN and the end of a connection may be one segment; others are in their
/// handshake meanwhile.
#[test]
fn a_connection_that_ends_is_not_taken_off_the_half_open_ones() {
    let mut world = World::duplex();
    tell(&mut world, ECHO, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    let talker = world.connect(ECHO, Mode::Talk);
    world.run_for(ms(5));
    world.say(talker, 10, true);
    world.run_for(ms(50));
    assert!(world.clients[talker].has_ended());
    assert_eq!(world.engine(0).half_open, 1);
}

/// The standby that is not told resends a FIN to a peer that may have forgotten us.
#[test]
fn that_our_fin_was_acknowledged_is_told_at_once() {
    let mut world = World::duplex();
    let (next, _) = tell(&mut world, FILES, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    let request = b"GET /nothing HTTP/1.0\r\n\r\n";
    let (end, flags) = tell(&mut world, FILES, 100, next, Flags::ACK, request).expect("a reply");
    assert!(flags.contains(Flags::FIN), "{flags:?}");
    let after = 100 + request.len() as u32;
    // Lazy progress has just been told: the next of it would wait for ten milliseconds.
    tell(&mut world, FILES, after, end.sub(1), Flags::ACK, &[]);
    tell(&mut world, FILES, after, end, Flags::ACK, &[]);
    assert!(held(&mut world).fin_acked, "not yet");
}

#[test]
fn a_standby_whose_disk_is_slow_protects_nobody_until_it_knows_and_counts_nobody_that_ends() {
    let slow = || {
        let mut world = World::duplex();
        world.busy_disk(1, true);
        world.connect(FILES, Mode::Fetch);
        world.run_for(ms(2));
        assert_eq!(world.engine(1).unprotected, 1);
        world
    };
    let mut world = slow();
    world.busy_disk(1, false);
    assert_eq!(world.engine(1).unprotected, 0, "it has looked");
    world.kill(0);
    world.finish();

    let mut world = slow();
    world.finish();
    world.run_for(Duration::from_secs(70));
    assert_eq!((world.engine(1).table.len(), world.engine(1).unprotected), (0, 0));

    let mut world = slow();
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    assert_eq!(world.engine(1).unprotected, 0, "nobody follows it");
    world.busy_disk(1, false);
    world.finish();
}

/// The same of a client that gives up before the standby has looked.
#[test]
fn who_ends_while_a_standby_does_not_know_is_not_counted_any_more() {
    let mut world = World::duplex();
    world.busy_disk(1, true);
    let (next, _) = tell(&mut world, FILES, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    let request = b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n";
    tell(&mut world, FILES, 100, next, Flags::ACK, request).expect("a reply");
    assert_eq!(world.engine(1).unprotected, 1);
    let after = 100 + request.len() as u32;
    tell(&mut world, FILES, after, next, Flags::RST, &[]);
    assert_eq!((world.engine(1).table.len(), world.engine(1).unprotected), (0, 0));
}

#[test]
fn what_no_standby_can_be_told_of_is_counted_for_one_standby_and_until_it_ends() {
    let mut world = World::duplex();
    world.connect(ECHO, Mode::Talk);
    world.run_for(ms(5));
    let now = world.now;
    let engine = world.engine(0);
    let id = engine.table.tenant(0).expect("a connection");
    let audited = |engine: &crate::engine::Engine| {
        engine.audit(now).expect("it adds up");
        engine.unprotected
    };
    engine.expose(id);
    engine.expose(id);
    assert_eq!(audited(engine), 1);
    engine.part_from_standby();
    assert_eq!(audited(engine), 0, "of the last standby");
    engine.expose(id);
    engine.end(now, id, crate::tcp::CloseCause::Done);
    assert_eq!(audited(engine), 0);
}

/// Who slept answers whoever called meanwhile, and finds that another owns.
#[test]
fn what_an_owner_had_to_say_is_not_said_when_it_owns_again() {
    let mut world = World::duplex();
    world.connect(FILES, Mode::Fetch);
    world.run_for(ms(2));
    world.freeze(0);
    for _ in 0..3 {
        world.connect(9999, Mode::Talk);
    }
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(ms(5));
    world.thaw(0);
    assert!(!world.is_primary(0) && world.engine(0).duty.following().is_some());
    world.clients.truncate(1);
    world.finish();
}

/// The address is handed over and comes back: what had waited for the standby's word waits no more.
#[test]
fn a_splice_that_was_not_confirmed_when_the_address_was_handed_over_goes_on_when_it_is_back() {
    let mut world = World::duplex();
    world.start_backends();
    world.hosts[0].link_lag = ms(20);
    world.connect(RELAYED + ECHO, Mode::Echo(1000));
    world.run_for(ms(1));
    let now = world.now;
    assert_eq!(world.engine(0).for_standby().unconfirmed.len(), 1);
    world.hosts[1].deaf = true;
    world.engine(0).on_switchover(now).expect("duplex");
    world.hosts[0].link_lag = Duration::ZERO;
    world.cut_lan(1, true);
    world.run_until("host 0 owns again", |world| world.is_primary(0));
    world.hosts[1].deaf = false;
    world.cut_lan(1, false);
    let released = &world.engine(0).as_owner().released;
    assert!(released.is_empty(), "it waits for a standby that is gone");
    world.finish();
}

#[test]
fn a_splice_that_waits_for_its_standby_goes_on_when_that_dies() {
    let mut world = World::duplex();
    world.start_backends();
    world.hosts[0].link_lag = ms(20);
    let client = world.connect(RELAYED + CHARGEN, Mode::Chargen(1000));
    world.run_for(ms(1));
    assert_eq!(world.backend_connections(), [0, 0]);
    world.kill(1);
    world.run_for(ms(10));
    assert_eq!(world.backend_connections().iter().sum::<usize>(), 1, "its SYN has left");
    world.finish();
    assert!(world.clients[client].longest_gap < ms(30));
}

#[test]
fn a_cookie_is_honoured_though_nobody_took_over_lately() {
    let mut world = World::duplex_with(|setup| setup.backlog = 0);
    world.run_for(Duration::from_secs(130));
    world.connect(ECHO, Mode::Echo(1000));
    world.finish();
    let stats = world.engine(0).stats;
    assert_eq!((stats.cookies_sent, stats.cookies_accepted), (1, 1));
}

/// I4: what a client has seen of the pair's clock, in numbers and timestamps, lies behind.
#[test]
fn a_successors_clock_is_ahead_of_all_that_its_predecessor_has_shown() {
    let mut world = World::duplex();
    world.connect(ECHO, Mode::Talk);
    world.run_for(ms(20));
    let (then, shown) = (world.now, world.engine(0).clock);
    world.poweroff(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    let now = world.now;
    let expected = shown.at(then) + now.since(then);
    assert!(world.engine(1).clock.at(now) > expected, "{now:?}");
}

#[test]
fn a_router_that_does_not_say_what_fits_is_answered_by_the_next_plateau() {
    let mut world = World::duplex();
    let (next, _) = tell(&mut world, CHARGEN, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    tell(&mut world, CHARGEN, 100, next, Flags::ACK, &[]).expect("text");
    let now = world.now;
    let engine = world.engine(0);
    let id = engine.table.tenant(0).expect("a connection");
    let tuple = FourTuple {
        local: (service_address(), CHARGEN).into(),
        remote: ([10, 77, 0, 10], PORT).into(),
    };
    let kind = IcmpKind::TooBig { mtu: 0 };
    let error = IcmpError { tuple, seq: next, kind, quoted_len: 1500 };
    let mut bytes = Vec::new();
    write_icmp_error(&error, [10, 77, 0, 1].into(), 64, 1, &mut bytes);
    engine.on_packet(now, VnetHeader::PLAIN, &mut bytes);
    let mtu = engine.table.get_mut(id).and_then(|one| one.tcb_mut()).map(|tcb| tcb.hard().mtu);
    assert_eq!((mtu, plateau_below(1500)), (Some(1492), 1492));
}

/// Its text waits at the client; that it has acknowledged ours is heard.
#[test]
fn text_is_not_taken_while_the_standby_is_far_behind() {
    let mut world = World::duplex_with(|setup| setup.backlog_bytes_max = 20_000);
    world.connect(DISCARD, Mode::Upload(400_000));
    world.run_for(Duration::from_micros(600));
    world.hosts[1].deaf = true;
    world.run_for(ms(100));
    let stats = world.engine(0).stats;
    assert!(stats.backlog_dropped > 0);
    assert!(world.engine(0).for_standby().log.backlog_bytes() < 20_000 + 70_000, "{stats:?}");
    world.kill(1);
    world.finish();
}

#[test]
fn who_stalled_is_let_in_again_after_a_while_and_no_sooner() {
    let mut world = World::duplex();
    world.connect(CHARGEN, Mode::Chargen(20_000_000));
    world.connect(ECHO, Mode::Echo(200_000));
    world.hosts[1].deaf = true;
    let stalled = |notice: &Notice| matches!(notice, Notice::StandbyStalled { .. });
    world.run_until("alone", |world| world.told(0).any(stalled));
    let since = world.now;
    world.hosts[1].deaf = false;
    world.run_for(Duration::from_secs(9));
    assert!(!world.is_duplex() && !world.engine(0).is_attached(), "{}", world.story());
    world.run_until("duplex", World::is_duplex);
    assert!((10..15).contains(&(world.now.since(since).as_secs())), "{:?}", world.now);
}

#[test]
fn who_stalls_again_is_kept_away_for_twice_as_long_and_forgiven_in_the_end() {
    let mut stall = Stall::new(Instant::ZERO);
    let (mut now, mut waits) = (Instant::from_millis(5_000_000), Vec::new());
    for _ in 0..8 {
        let wait = stall.shun(now);
        waits.push(wait.as_secs());
        now = now + wait + ms(1000);
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(stall.shun(now + Duration::from_secs(298)).as_secs(), 300);
    assert_eq!(stall.shun(now + Duration::from_secs(298 + 300 + 302)).as_secs(), 10);
}

#[test]
fn a_standby_owes_from_when_it_was_asked_and_not_for_a_pause_of_ours() {
    let (mut log, mut out) = (Log::starting_at(Lsn(1)), Vec::new());
    let (start, pause) = (Instant::from_millis(1000), ms(25));
    let mut stall = Stall::new(start);
    let mut look = |log: &Log, millis: u64| stall.lasts(start + ms(millis), log, pause);
    assert_eq!(look(&log, 500), Duration::ZERO, "nothing is owed");
    log.append(&Record::Closed { conn: ConnId(1), cause: 0 }).expect("small");
    log.append(&Record::Closed { conn: ConnId(2), cause: 0 }).expect("small");
    log.flush(crate::ids::Epoch(2), 0, &mut out);
    for millis in [510, 530, 550] {
        assert_eq!(look(&log, millis), ms(millis - 500));
    }
    assert_eq!(look(&log, 576), Duration::ZERO, "we stood still, not the standby");
    assert_eq!(look(&log, 600), ms(24));
    log.on_confirm(Lsn(1)).expect("sent");
    assert_eq!(look(&log, 610), Duration::ZERO, "it goes on");
}

/// A client closes in the moment of a takeover, and its heir is followed by a third: nobody says the
/// FIN again.
#[test]
fn a_connection_that_finished_stays_so_through_two_takeovers() {
    let mut world = World::duplex();
    world.connect(FILES, Mode::Fetch);
    world.finish();
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.start(0);
    world.run_until("duplex again", World::is_duplex);
    let id = world.engine(0).table.tenant(0).expect("it waits");
    let one = world.engine(0).table.get_mut(id).expect("it is there");
    let Body::Held(hard) = &one.body else { panic!("held") };
    assert!(hard.fin_acked && hard.peer_fin);
    world.kill(1);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.run_for(ms(100));
    let one = world.engine(0).table.get_mut(id).and_then(|one| one.tcb_mut().map(|t| t.state()));
    assert_eq!(one, Some(State::TimeWait));
}

/// MUST-12: whatever answers on a port hears of an abort, and lets go of what it held for its client.
#[test]
fn what_its_client_resets_ends_for_the_service_too() {
    let mut world = World::duplex();
    let (next, _) = tell(&mut world, FILES, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    let request = b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n";
    tell(&mut world, FILES, 100, next, Flags::ACK, request).expect("a reply");
    assert_eq!([0, 1].map(|host| world.holds(host)), [1, 1], "the file is open");
    let after = 100 + request.len() as u32;
    tell(&mut world, FILES, after, next, Flags::RST, &[]);
    assert_eq!([0, 1].map(|host| world.holds(host)), [0, 0]);
    let stats = world.engine(0).stats;
    assert_eq!((stats.reset_by_peer, stats.closed, stats.aborted), (1, 0, 0));
}

/// MUST-55, RFC 6633.
#[test]
fn source_quench_changes_nothing() {
    let mut world = World::duplex();
    let (next, _) = tell(&mut world, CHARGEN, 99, SeqNum(0), Flags::SYN, &[]).expect("a SYN-ACK");
    tell(&mut world, CHARGEN, 100, next, Flags::ACK, &[]).expect("text");
    let tuple = FourTuple {
        local: (service_address(), CHARGEN).into(),
        remote: ([10, 77, 0, 10], PORT).into(),
    };
    let state = |world: &mut World, kind, class: u8| {
        let error = IcmpError { tuple, seq: next, kind, quoted_len: 1500 };
        let mut bytes = Vec::new();
        write_icmp_error(&error, [10, 77, 0, 1].into(), 64, 1, &mut bytes);
        // Nobody writes source quenches any more: another message is made one.
        let (header, sum) = (20, u16::from_be_bytes([bytes[22], bytes[23]]));
        let more = u32::from(bytes[header] - class) << 8;
        let sum = u32::from(sum) + more;
        bytes[header] = class;
        bytes[22..24].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        let now = world.now;
        let engine = world.engine(0);
        let malformed = engine.stats.malformed;
        engine.on_packet(now, VnetHeader::PLAIN, &mut bytes);
        assert_eq!(engine.stats.malformed, malformed);
        let id = engine.table.tenant(0).expect("a connection");
        let tcb = engine.table.get_mut(id).and_then(|one| one.tcb_mut()).expect("live");
        (tcb.state(), tcb.congestion_window(), tcb.hard(), tcb.bytes_in_flight())
    };
    let before = state(&mut world, IcmpKind::TimeExceeded, 11);
    assert!(before.3 > 0, "something is in flight");
    assert_eq!(state(&mut world, IcmpKind::TimeExceeded, 4), before);
}
