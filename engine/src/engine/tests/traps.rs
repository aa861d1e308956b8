//! Moments at which composition went wrong once: each is a story of its own.

use core::net::SocketAddr;

use super::client::Mode;
use super::world::{CHARGEN, DISCARD, ECHO, FILES, World, service_address};
use crate::engine::{Action, Engine, LinkInput, PACKET_BUFFER};
use crate::role::Role;
use crate::time::Duration;
use crate::wire::{
    ArpPacket, Flags, FourTuple, MacAddr, Offload, SeqNum, TcpHeader, TcpOptions, VnetHeader,
    parse_ip, parse_tcp,
};

/// Connections that have said something and then nothing more.
fn idle(world: &mut World, count: usize) -> Vec<usize> {
    let talkers: Vec<usize> = (0..count).map(|_| world.connect(ECHO, Mode::Talk)).collect();
    for &talker in &talkers {
        world.say(talker, 10, false);
    }
    world.run_for(Duration::from_millis(500));
    talkers
}

fn say_goodbye(world: &mut World, talkers: &[usize]) {
    for &talker in talkers {
        world.say(talker, 1000, true);
    }
    world.finish();
}

#[test]
fn a_cookie_answers_when_the_backlog_is_full() {
    let mut world = World::duplex_with(|setup| setup.backlog = 0);
    for _ in 0..3 {
        world.connect(ECHO, Mode::Echo(20_000));
    }
    world.finish();
    assert_eq!(world.engine(0).stats.cookies_accepted, 3);
}

#[test]
fn idle_connections_outlive_their_server() {
    let mut world = World::duplex();
    let talkers = idle(&mut world, 5);
    world.run_for(Duration::from_secs(30));
    world.kill(0);
    world.run_for(Duration::from_secs(30));
    say_goodbye(&mut world, &talkers);
}

#[test]
fn carried_connections_are_not_in_their_handshake() {
    let mut world = World::duplex();
    let talkers = idle(&mut world, 5);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    let now = world.now;
    assert_eq!(world.engine(1).status(now).half_open, 0);
    say_goodbye(&mut world, &talkers);
}

/// A hundred thousand nudges take a second or more; who asks meanwhile must not stand behind them.
#[test]
fn who_asks_after_a_takeover_does_not_wait_for_the_idle_to_be_nudged() {
    let mut world = World::duplex();
    let talkers = idle(&mut world, 40);
    let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
    // No turn of the world in between: it would send everything at once.
    world.kill(0);
    let mut engine = world.hosts[1].engine.take().expect("the standby");
    engine.on_link(now, LinkInput::Closed);
    let act = |engine: &mut Engine| -> Vec<Action> {
        core::iter::from_fn(|| engine.poll_action(now)).collect()
    };
    assert!(act(&mut engine).contains(&Action::Dial), "it looks for a proof");
    engine.on_link(now, LinkInput::Refused);
    assert!(act(&mut engine).contains(&Action::InstallRoutes), "it owns");
    let asks = talkers[0];
    world.clients[asks].say(10, false);
    let mut request = world.clients[asks].poll_packet(now).expect("a request");
    let trusted = VnetHeader { flags: VnetHeader::DATA_VALID, ..VnetHeader::PLAIN };
    engine.on_packet(now, trusted, &mut request);
    let mut sent = Vec::new();
    while let Some(range) = engine.poll_packet(now, &mut buffer) {
        let packet = &buffer[range.start + VnetHeader::LEN..range.end];
        let ip = parse_ip(packet).expect("IP");
        let (_, to, segment) = parse_tcp(&ip, crate::wire::ChecksumState::Trusted).expect("TCP");
        sent.push((to, segment.payload.len()));
    }
    let asking = world.clients[asks].port();
    assert_eq!(sent[0], (asking, 10), "the answer comes first");
    let nudged: std::collections::BTreeSet<u16> = sent.iter().map(|(to, _)| *to).collect();
    assert_eq!((nudged.len(), sent.len()), (40, 40), "and everybody is nudged once");
    assert!(!engine.has_packets());
}

/// Half a million idle connections in one turn took longer than a standby waits for its primary.
#[test]
fn a_standby_that_goes_does_not_wake_the_idle() {
    let mut world = World::duplex();
    let talkers = idle(&mut world, 5);
    world.say(talkers[3], 10, false);
    // Its request is with the primary, and not confirmed.
    world.hosts[1].deaf = true;
    world.run_for(Duration::from_millis(2));
    let now = world.now;
    let engine = world.engine(0);
    assert!(engine.as_owner().queues.ready.is_empty());
    engine.detach_standby(now);
    assert_eq!(engine.as_owner().queues.ready.len(), 1, "the one that was held back");
    engine.detach_standby(now);
    assert_eq!(engine.as_owner().queues.ready.len(), 1);
    world.hosts[1].deaf = false;
    world.kill(1);
    say_goodbye(&mut world, &talkers);
}

#[test]
fn a_standby_that_confirms_nothing_is_let_go() {
    let mut world = World::duplex();
    for (port, mode) in [(ECHO, Mode::Echo(2_000_000)), (DISCARD, Mode::Upload(5_000_000))] {
        world.connect(port, mode);
    }
    world.run_for(Duration::from_micros(1500));
    world.hosts[1].deaf = true;
    world.finish();
    assert!(world.is_primary(0) && !world.is_primary(1), "{}", world.story());
}

#[test]
fn a_newcomer_that_confirms_nothing_is_let_go() {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.connect(CHARGEN, Mode::Chargen(20_000_000));
    world.connect(ECHO, Mode::Echo(2_000_000));
    world.start(1);
    let mut greeted = false;
    while !greeted {
        world.run_for(Duration::from_micros(20));
        greeted = world.engine(0).is_attached();
    }
    world.hosts[1].deaf = true;
    world.connect(ECHO, Mode::Echo(100_000));
    world.finish();
    world.hosts[1].deaf = false;
    world.run_until("duplex", World::is_duplex);
}

#[test]
fn a_link_that_breaks_amid_the_snapshot_is_used_again() {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    for _ in 0..6 {
        world.connect(ECHO, Mode::Echo(8_000_000));
    }
    world.run_for(Duration::from_micros(1500));
    world.start(1);
    for _ in 0..3 {
        world.run_until("half a snapshot", |world| {
            let follower =
                world.hosts[1].engine.as_ref().and_then(|e| e.duty.following()?.follower.as_ref());
            follower.is_some_and(|f| f.applied().0 > 0 && !f.is_synced())
        });
        world.drop_link();
        world.run_for(Duration::from_micros(100));
    }
    world.run_until("duplex", World::is_duplex);
    world.kill(0);
    world.finish();
}

#[test]
fn a_link_that_comes_back_in_duplex_reveals_nothing() {
    let mut carried = 0;
    let mut last = String::new();
    for moment in 0..30 {
        let mut world = World::duplex();
        world.hosts[1].link_lag = Duration::from_micros(700);
        let talker = world.connect(ECHO, Mode::Talk);
        world.connect(DISCARD, Mode::Upload(5_000_000));
        world.run_for(Duration::from_micros(1700));
        world.say(talker, 50_000, false);
        world.run_for(Duration::from_micros(300));
        world.beats_lost = true;
        world.drop_link();
        world.run_for(Duration::from_micros(160));
        // Answering this would acknowledge what came before it, and only the primary has that.
        world.say(talker, 10, true);
        world.run_for(Duration::from_micros(40) * moment);
        world.kill(0);
        world.run_until("host 1 owns", |world| world.is_primary(1));
        last = world.story();
        if world.engine(1).stats.carried == 2 {
            world.finish();
            carried += 1;
        } else {
            // It had let go of them for a new snapshot. Then it must not go on with half of them.
            assert_eq!(world.engine(1).stats.carried, 0);
        }
    }
    assert!(carried > 0, "never armed:\n{last}");
}

#[test]
fn a_talkative_connection_does_not_fill_the_wheel() {
    let mut world = World::duplex();
    let talkers = idle(&mut world, 1);
    for _ in 0..100 {
        world.say(talkers[0], 10, false);
        world.run_for(Duration::from_millis(300));
    }
    let timers = world.engine(0).as_owner().queues.wheel.len();
    assert!(timers < 8, "{timers} timers for one connection");
    say_goodbye(&mut world, &talkers);
}

#[test]
fn a_standby_keeps_no_memory_of_connections_that_ended() {
    let mut world = World::duplex();
    for _ in 0..30 {
        world.connect(ECHO, Mode::Echo(10));
        world.finish();
    }
    world.run_for(Duration::from_secs(70));
    let table = &world.engine(1).table;
    assert!(table.len() == 0 && table.slots() <= 2, "{} slots", table.slots());
    world.kill(0);
    world.connect(ECHO, Mode::Echo(10));
    world.finish();
}

#[test]
fn two_claimants_do_not_race_each_other() {
    let mut world = World::duplex();
    let stranger = MacAddr([2, 0, 0, 0, 0, 9]);
    let claim = ArpPacket::announcement_request(stranger, [10, 77, 0, 100].into()).to_frame();
    world.run_for(Duration::from_secs(20));
    let mut announced = 0;
    for _ in 0..100 {
        world.run_for(Duration::from_millis(1));
        let now = world.now;
        world.engine(0).on_frame(now, &claim);
        while let Some(action) = world.engine(0).poll_action(now) {
            announced += usize::from(matches!(action, Action::SendFrame { claims: true, .. }));
        }
    }
    assert!((1..20).contains(&announced), "{announced} announcements in 100 ms");
}

#[test]
fn without_offload_no_packet_is_longer_than_the_mtu() {
    let mut world = World::duplex_with(|setup| setup.offload = false);
    world.connect(CHARGEN, Mode::Chargen(300_000));
    world.connect_v6(FILES, Mode::Fetch);
    world.finish();
    assert_eq!(world.longest, 1500);
}

/// The standby forgets what it had when it finds a new link, and the primary may hear of that last.
#[test]
fn a_link_that_comes_back_in_duplex_protects_nobody() {
    let mut world = World::duplex();
    world.connect(ECHO, Mode::Talk);
    world.run_for(Duration::from_millis(5));
    world.beats_lost = true;
    world.drop_link();
    for _ in 0..400 {
        world.run_for(Duration::from_micros(5));
        let now = world.now;
        let armed = world.engine(1).status(now).role == Role::Standby { synced: true };
        assert!(armed || !world.engine(0).status(now).protected, "I7\n{}", world.story());
        assert!(armed || world.engine(0).on_switchover(now).is_err(), "{}", world.story());
    }
    world.beats_lost = false;
    world.run_until("duplex", World::is_duplex);
}

/// The client of which [`from_client`] and [`to_address`] make packets.
const PORT: u16 = 4000;

/// One packet of a client at 10.77.0.10:4000.
fn from_client(seq: u32, ack: SeqNum, flags: Flags, text: &[u8]) -> Vec<u8> {
    to_address((service_address(), ECHO).into(), seq, ack, flags, text)
}

pub(super) fn to_address(
    remote: SocketAddr,
    seq: u32,
    ack: SeqNum,
    flags: Flags,
    text: &[u8],
) -> Vec<u8> {
    packet(PORT, remote, seq, ack, flags, text)
}

/// A packet from `port` of 10.77.0.10.
pub(super) fn packet(
    port: u16,
    remote: SocketAddr,
    seq: u32,
    ack: SeqNum,
    flags: Flags,
    text: &[u8],
) -> Vec<u8> {
    let header = TcpHeader {
        tuple: FourTuple { local: ([10, 77, 0, 10], port).into(), remote: remote.into() },
        seq: SeqNum(seq),
        ack,
        flags,
        window: 60_000,
        options: TcpOptions::default(),
        ecn: 0,
        ttl: 64,
        ip_id: 0,
    };
    let mut packet = vec![0; header.len()];
    packet.extend_from_slice(text);
    let _: VnetHeader = header.write(&mut packet, text.len(), Offload::Full);
    packet
}

/// A client with a cookie takes the connection for open, and nobody would ever answer it.
#[test]
fn a_full_table_sends_no_cookies() {
    let mut world = World::duplex_with(|setup| {
        setup.backlog = 0;
        setup.connections_max = 1;
    });
    world.connect(ECHO, Mode::Talk);
    world.run_for(Duration::from_millis(5));
    let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
    let engine = world.engine(0);
    assert_eq!((engine.stats.cookies_accepted, engine.stats.cookies_sent), (1, 1));
    engine.on_packet(now, VnetHeader::PLAIN, &mut from_client(99, SeqNum(0), Flags::SYN, &[]));
    assert_eq!(engine.poll_packet(now, &mut buffer), None);
    assert_eq!((engine.stats.table_full, engine.stats.cookies_sent), (1, 1));
}

/// RFC 6191: the new incarnation begins above the old one. A cookie could not, so it is not asked
/// for one although the backlog is full.
#[test]
fn time_wait_is_used_again_without_a_cookie() {
    let mut world = World::duplex_with(|setup| setup.backlog = 0);
    world.kill(1);
    world.run_for(Duration::from_secs(1));
    let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
    let engine = world.engine(0);
    let web = (service_address(), FILES).into();
    let mut tell = |seq, ack, flags, text: &[u8]| {
        engine.on_packet(now, VnetHeader::PLAIN, &mut to_address(web, seq, ack, flags, text));
        let mut last = None;
        while let Some(range) = engine.poll_packet(now, &mut buffer) {
            let packet = &buffer[range.start + VnetHeader::LEN..range.end];
            let ip = parse_ip(packet).expect("IP");
            let (_, _, segment) = parse_tcp(&ip, crate::wire::ChecksumState::Trusted).expect("TCP");
            last = Some((segment.seq.add(segment.len()), segment.flags));
        }
        (last, engine.stats.cookies_sent)
    };
    let (syn_ack, cookies) = tell(99, SeqNum(0), Flags::SYN, &[]);
    assert_eq!(cookies, 1);
    let (next, _) = syn_ack.expect("a SYN-ACK");
    let request = b"GET /nothing HTTP/1.0\r\n\r\n";
    let (end, flags) = tell(100, next, Flags::ACK, request).0.expect("a reply");
    assert!(flags.contains(Flags::FIN), "{flags:?}");
    let after = 100 + request.len() as u32;
    tell(after, end, Flags::FIN | Flags::ACK, &[]);
    let (again, cookies) = tell(after + 70_000, SeqNum(0), Flags::SYN, &[]);
    let (next, flags) = again.expect("a SYN-ACK");
    assert_eq!((flags, cookies), (Flags::SYN | Flags::ACK, 1), "no second cookie");
    assert!(next.after(end.add(60_000)), "{next:?} after {end:?} and its window");
}

fn datagram(to: [u8; 4], text: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([10, 77, 0, 10], to, 64).udp(PORT, 53);
    let mut packet = Vec::new();
    builder.write(&mut packet, text).expect("a datagram");
    packet
}

/// RFC 1122 §4.1.3.1: whoever asks by UDP need not wait until it gives up. RFC 1812 §4.3.2.8: but
/// whoever floods is not answered without end.
#[test]
fn datagrams_are_refused_at_a_limited_rate_and_by_the_owner_alone() {
    let mut world = World::duplex();
    let (start, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
    let service = [10, 77, 0, 100];
    assert_eq!(service_address(), core::net::IpAddr::from(service));
    let mut refusals = |engine: &mut Engine, now, packet: &[u8], times: usize| {
        let mut refusals = 0;
        for _ in 0..times {
            engine.on_packet(now, VnetHeader::PLAIN, &mut packet.to_vec());
            while let Some(range) = engine.poll_packet(now, &mut buffer) {
                let ip = parse_ip(&buffer[range.start + VnetHeader::LEN..range.end]).expect("IP");
                assert_eq!((ip.protocol, &ip.payload[..2]), (1, &[3, 3][..]), "port unreachable");
                refusals += 1;
            }
        }
        refusals
    };
    let asked = datagram(service, b"anybody?");
    assert_eq!(refusals(world.engine(0), start, &asked, 1), 1);
    assert_eq!(refusals(world.engine(0), start, &asked, 1000), 49);
    let later = start + Duration::from_millis(10);
    assert_eq!(refusals(world.engine(0), later, &asked, 1000), 10);
    assert_eq!(refusals(world.engine(1), later, &asked, 10), 0, "the standby");
    world.run_for(Duration::from_secs(1));
    let now = world.now;
    for group in [[255, 255, 255, 255], [10, 77, 0, 255], [224, 0, 0, 1]] {
        assert_eq!(refusals(world.engine(0), now, &datagram(group, b""), 1), 0, "{group:?}");
    }
    let mut damaged = asked.clone();
    *damaged.last_mut().expect("text") ^= 1;
    assert_eq!(refusals(world.engine(0), now, &damaged, 1), 0);
}

/// MUST-57.
#[test]
fn what_comes_to_everybody_is_for_nobody() {
    let mut world = World::duplex();
    let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
    let engine = world.engine(0);
    for address in [[255, 255, 255, 255], [10, 77, 0, 255], [224, 0, 0, 1]] {
        let mut syn = to_address((address, ECHO).into(), 99, SeqNum(0), Flags::SYN, &[]);
        engine.on_packet(now, VnetHeader::PLAIN, &mut syn);
        assert_eq!(engine.poll_packet(now, &mut buffer), None, "{address:?}");
    }
    assert_eq!(engine.stats.opened, 0);
}

/// A cookie answers while there is no room, and a connection answers when the SYN comes again. A
/// client that heard the cookie first returns that, and must not be reset for it.
#[test]
fn a_syn_that_is_answered_twice_opens_what_its_client_heard() {
    for standby in [true, false] {
        let mut world = World::duplex_with(|setup| setup.backlog = 0);
        if !standby {
            world.kill(1);
            world.run_for(Duration::from_secs(1));
        }
        let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
        let engine = world.engine(0);
        let mut tell = |engine: &mut Engine, packet: &[u8]| {
            engine.on_packet(now, VnetHeader::PLAIN, &mut packet.to_vec());
            let range = engine.poll_packet(now, &mut buffer)?;
            let packet = &buffer[range.start + VnetHeader::LEN..range.end];
            let ip = parse_ip(packet).expect("IP");
            let (_, _, segment) = parse_tcp(&ip, crate::wire::ChecksumState::Trusted).expect("TCP");
            Some((segment.seq, segment.flags))
        };
        let syn = from_client(99, SeqNum(0), Flags::SYN, &[]);
        let (cookie, _) = tell(engine, &syn).expect("a cookie");
        engine.setup.backlog = 256;
        tell(engine, &syn);
        assert_eq!((engine.stats.cookies_sent, engine.stats.opened, engine.half_open), (1, 1, 1));
        let said = tell(engine, &from_client(100, cookie.add(1), Flags::ACK, b"hello"));
        assert!(said.is_none_or(|(_, flags)| !flags.contains(Flags::RST)), "{said:?}");
        assert_eq!(
            (engine.stats.cookies_accepted, engine.half_open, engine.table.len()),
            (1, 0, 1)
        );
    }
}

#[test]
fn a_segment_that_overtakes_the_cookie_is_not_refused() {
    let mut world = World::duplex_with(|setup| setup.backlog = 0);
    let (now, mut buffer) = (world.now, vec![0; PACKET_BUFFER]);
    let engine = world.engine(0);
    let mut tell = |packet: &[u8]| {
        engine.on_packet(now, VnetHeader::PLAIN, &mut packet.to_vec());
        let range = engine.poll_packet(now, &mut buffer)?;
        let packet = &buffer[range.start + VnetHeader::LEN..range.end];
        let ip = parse_ip(packet).expect("IP");
        let (_, _, segment) = parse_tcp(&ip, crate::wire::ChecksumState::Trusted).expect("TCP");
        Some((segment.seq, segment.flags))
    };
    let (iss, _) = tell(&from_client(99, SeqNum(0), Flags::SYN, &[])).expect("a SYN-ACK");
    let ack = iss.add(1);
    assert_eq!(tell(&from_client(105, ack, Flags::ACK, b"later")), None, "too early to tell");
    let stranger = tell(&from_client(105, ack.add(1 << 30), Flags::ACK, b"other"));
    assert!(stranger.is_some_and(|(_, flags)| flags.contains(Flags::RST)), "no cookie of ours");
    tell(&from_client(100, ack, Flags::ACK, b"first"));
    assert_eq!(engine.stats.cookies_accepted, 1);
}

/// A LAN carrier that has just come back makes a node listen before it speaks; an address that is
/// handed to it meanwhile is announced when it may speak, and before the first packet.
#[test]
fn who_may_not_speak_yet_announces_when_it_may() {
    let mut world = World::duplex();
    world.connect(CHARGEN, Mode::Chargen(50_000_000));
    world.run_for(Duration::from_millis(5));
    world.cut_lan(1, true);
    world.run_for(Duration::from_millis(60));
    world.cut_lan(1, false);
    world.run_for(Duration::from_millis(12));
    let now = world.now;
    world.engine(0).on_switchover(now).expect("duplex");
    world.run_until("host 1 owns", |world| world.is_primary(1));
    let now = world.now;
    assert!(world.engine(1).speak_until() <= now, "it listens first");
    let sent = |world: &mut World| {
        let now = world.now;
        world.engine(1).status(now).stats.packets_out
    };
    while sent(&mut world) == 0 {
        world.run_for(Duration::from_micros(20));
        assert!(sent(&mut world) == 0 || world.owner == Some(1), "{}", world.story());
    }
}

/// The process is stopped right before its first announcement leaves. When it wakes the write gate
/// is closed, and the announcement is lost in it.
#[test]
fn who_slept_through_its_first_announcement_announces_again() {
    let mut world = World::duplex();
    world.connect(CHARGEN, Mode::Chargen(20_000_000));
    world.run_for(Duration::from_millis(2));
    world.kill(0);
    world.hosts[1].sleeps_before_claim = true;
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.run_for(Duration::from_millis(220));
    world.thaw(1);
    world.finish();
}

/// The same with a standby: no client knows of an announcement that was lost in a closed gate.
#[test]
fn who_finds_its_gate_closed_in_duplex_announces_again_before_it_speaks() {
    let mut world = World::duplex();
    world.connect(CHARGEN, Mode::Chargen(20_000_000));
    world.run_for(Duration::from_millis(2));
    world.freeze(0);
    world.run_for(Duration::from_millis(43));
    let now = world.now;
    assert!(world.engine(0).speak_until() <= now, "its gate is closed");
    world.owner = None;
    world.thaw(0);
    world.finish();
    assert!(world.is_primary(0) && !world.is_primary(1), "{}", world.story());
}

/// A standby that has heard nothing for long looks for an owner again. What its link still brings is
/// the rest of a snapshot whose beginning it has forgotten.
#[test]
fn who_stops_following_hangs_up() {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    for _ in 0..6 {
        world.connect(ECHO, Mode::Echo(8_000_000));
    }
    world.run_for(Duration::from_micros(1500));
    world.start(1);
    world.run_until("half a snapshot", |world| {
        let follower =
            world.hosts[1].engine.as_ref().and_then(|e| e.duty.following()?.follower.as_ref());
        follower.is_some_and(|f| f.applied().0 > 0 && !f.is_synced())
    });
    world.freeze(0);
    world.run_for(Duration::from_millis(400));
    world.thaw(0);
    world.run_until("duplex", World::is_duplex);
    assert!(!world.accused(), "{}", world.story());
    world.finish();
}

/// The primary's host is gone and back, and owns again, while the standby stands still. No reset
/// comes on a link that nobody writes to.
#[test]
fn the_link_to_a_process_that_has_a_successor_is_not_kept() {
    let mut world = World::duplex();
    world.freeze(1);
    world.poweroff(0);
    world.run_for(Duration::from_millis(100));
    world.power_on(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.run_for(Duration::from_millis(200));
    world.thaw(1);
    world.run_until("duplex", World::is_duplex);
    assert!(!world.accused(), "{}", world.story());
}

/// A standby that slept hears of the new epoch by a heartbeat, and only then reads what the link of
/// the old one still brings: records, and perhaps the hand-over. They are nobody's.
#[test]
fn words_of_an_epoch_that_is_over_break_no_protocol() {
    for handed_over in [false, true] {
        let mut world = World::duplex();
        let talkers = idle(&mut world, 1);
        world.hosts[1].link_lag = Duration::from_millis(400);
        world.say(talkers[0], 10, false);
        world.run_for(Duration::from_millis(1));
        world.freeze(1);
        if handed_over {
            let now = world.now;
            world.engine(0).on_switchover(now).expect("duplex");
        }
        world.run_for(Duration::from_millis(300));
        assert!(world.is_primary(0), "alone by now\n{}", world.story());
        world.thaw(1);
        world.run_for(Duration::from_millis(50));
        world.hosts[1].link_lag = Duration::ZERO;
        world.run_until("duplex", World::is_duplex);
        assert!(!world.accused(), "{}", world.story());
    }
}
