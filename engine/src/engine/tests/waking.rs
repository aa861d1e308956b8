//! Takeovers of more connections than one turn wakes, and standbys that come and go meanwhile.

use super::client::Mode;
use super::world::{CHARGEN, ECHO, World, trusted};
use core::net::IpAddr;

use crate::engine::connection::Body;
use crate::engine::questions::Question;
use crate::engine::table::slot_of;
use crate::engine::{Engine, LinkInput, PACKET_BUFFER};
use crate::ids::ConnId;
use crate::time::{Duration, Instant};
use crate::wire::{
    ChecksumState, Flags, FourTuple, Offload, SeqNum, TcpHeader, TcpOptions, Timestamps,
    VnetHeader, parse_ip, parse_tcp,
};

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
    let live = table.iter().filter(|connection| !matches!(connection.body, Body::Held(_)));
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
    let now = take_over(&mut world);
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
    assert!(!engine.owns() && engine.table.len() == 1);
    // As the role machine has it when the standby renounces: `role::yielding`.
    engine.begin_to_own(now);
    engine.own(now, true);
    assert!(engine.has_packets(), "it acts at once");
    while engine.poll_packet(now, &mut vec![0; PACKET_BUFFER]).is_some() {}
    assert!(engine.as_owner().queues.wheel.next().is_some(), "and its timers run");
}

/// Clients that take whatever comes, at once, and have room for more: whoever serves them is never
/// done. They answer what a host puts out, without time passing.
struct Sponge {
    /// Which client ports an engine has sent to since the takeover, and in which turn first.
    first: std::collections::BTreeMap<u16, usize>,
    answers: Vec<Vec<u8>>,
}

impl Sponge {
    fn new() -> Self {
        Self { first: Default::default(), answers: Vec::new() }
    }

    fn take(&mut self, turn: usize, packet: &[u8]) {
        let ip = parse_ip(packet).expect("IP");
        let (service, client, segment) = parse_tcp(&ip, ChecksumState::Trusted).expect("TCP");
        if segment.flags.contains(Flags::SYN) {
            // Whether a backend is there.
            return;
        }
        self.first.entry(client).or_insert(turn);
        let timestamps =
            segment.options.timestamps.map(|ts| Timestamps { val: ts.ecr, ecr: ts.val });
        let header = TcpHeader {
            tuple: FourTuple { local: (ip.dst, client).into(), remote: (ip.src, service).into() },
            seq: segment.ack,
            ack: segment.seq.add(segment.len()),
            flags: Flags::ACK,
            window: u16::MAX,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut answer = vec![0; header.len()];
        header.write(&mut answer, 0, Offload::Partial { mss: 0 });
        self.answers.push(answer);
    }

    /// A turn of the host's loop: time, what the clients say, and as many packets as one turn writes.
    fn turn(&mut self, engine: &mut Engine, now: Instant, number: usize, buffer: &mut [u8]) {
        engine.on_timer(now);
        while engine.poll_action(now).is_some() {}
        for mut answer in core::mem::take(&mut self.answers) {
            engine.on_packet(now, trusted(), &mut answer);
        }
        for _ in 0..PACKETS_A_TURN {
            let Some(range) = engine.poll_packet(now, buffer) else { return };
            self.take(number, &buffer[range.start + VnetHeader::LEN..range.end]);
        }
    }
}

/// What `runtime` writes in one turn.
const PACKETS_A_TURN: usize = 64;

/// Many downloads as fast as they go, and the primary dies.
fn busy_crowd(downloads: usize) -> World {
    let mut world = World::duplex_with(|setup| setup.backlog = MANY);
    for _ in 0..downloads {
        world.connect(CHARGEN, Mode::Chargen(u64::MAX));
    }
    world.run_for(Duration::from_micros(700));
    world.kill(0);
    world
}

fn take_over(world: &mut World) -> Instant {
    let mut now = world.now;
    while !world.engine(1).owns() {
        now = now + Duration::from_millis(1);
        assert!(now < world.now + Duration::from_secs(5), "{}", world.story());
        world.engine(1).on_link(now, LinkInput::Closed);
        world.engine(1).on_link(now, LinkInput::Refused);
    }
    now
}

#[test]
fn every_download_goes_on_within_a_bounded_number_of_turns() {
    let mut world = busy_crowd(MANY);
    let now = take_over(&mut world);
    let (mut sponge, mut buffer) = (Sponge::new(), vec![0; PACKET_BUFFER]);
    // One round of all of them, of which those who were woken first may already be a turn ahead.
    let bound = 2 * MANY.div_ceil(PACKETS_A_TURN) + 2;
    for number in 0..bound {
        sponge.turn(world.engine(1), now, number, &mut buffer);
    }
    assert_eq!(sponge.first.len(), MANY, "every connection with something outstanding has acted");
    assert!(world.engine(1).as_owner().queues.ready.len() == MANY, "and none of them is done");
}

#[test]
fn who_only_has_to_say_that_the_path_is_good_says_it_beside_busy_downloads() {
    let mut world = World::duplex_with(|setup| setup.backlog = MANY);
    let quiet = 200;
    for _ in 0..quiet {
        world.connect(ECHO, Mode::Talk);
    }
    for _ in 0..100 {
        world.connect(CHARGEN, Mode::Chargen(u64::MAX));
    }
    world.run_for(Duration::from_micros(700));
    world.kill(0);
    let now = take_over(&mut world);
    for port in 0..100 {
        let tuple = FourTuple {
            local: (IpAddr::from([10, 77, 0, 100]), ECHO).into(),
            remote: (IpAddr::from([10, 77, 0, 99]), 1000 + port).into(),
        };
        let (seq, ack) = (SeqNum(1), SeqNum(2));
        let question = Question { tuple, seq, ack, window: 1, timestamps: None, blind: false };
        world.engine(1).as_owner().questions.ask(question);
    }
    let (mut sponge, mut buffer) = (Sponge::new(), vec![0; PACKET_BUFFER]);
    for number in 0..40 {
        sponge.turn(world.engine(1), now, number, &mut buffer);
    }
    assert_eq!(sponge.first.len(), quiet + 100 + 100);
}

#[test]
fn a_flood_of_pings_leaves_downloads_resets_and_cookies_their_share() {
    let mut world = busy_crowd(50);
    let now = take_over(&mut world);
    let (mut sponge, mut buffer) = (Sponge::new(), vec![0; PACKET_BUFFER]);
    (0..20).for_each(|number| sponge.turn(world.engine(1), now, number, &mut buffer));
    sponge.first.clear();
    let mut resets = 0;
    for number in 0..20 {
        for _ in 0..PACKETS_A_TURN {
            world.engine(1).on_packet(now, trusted(), &mut ping());
        }
        // To a port where nobody listens.
        let mut stray = segment_to(4, 2000 + number, Flags::SYN);
        world.engine(1).on_packet(now, trusted(), &mut stray);
        world.engine(1).on_timer(now);
        for mut answer in core::mem::take(&mut sponge.answers) {
            world.engine(1).on_packet(now, trusted(), &mut answer);
        }
        for _ in 0..PACKETS_A_TURN {
            let Some(range) = world.engine(1).poll_packet(now, &mut buffer) else { break };
            let packet = &buffer[range.start + VnetHeader::LEN..range.end];
            let ip = parse_ip(packet).expect("IP");
            match parse_tcp(&ip, ChecksumState::Trusted) {
                Ok((_, _, segment)) if segment.flags.contains(Flags::RST) => resets += 1,
                Ok(_) => sponge.take(usize::from(number), packet),
                Err(_) => {}
            }
        }
    }
    assert_eq!(resets, 20, "no reset waits for a turn in which nobody pings");
    assert_eq!(sponge.first.len(), 50, "nor does a download");
}

/// An echo request without data from a client.
fn ping() -> Vec<u8> {
    let mut packet =
        vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0, 10, 77, 0, 10, 10, 77, 0, 100];
    packet.extend_from_slice(&[8, 0, 0xf7, 0xfd, 0, 1, 0, 1]);
    let sum = (0..20).step_by(2).map(|i| u32::from(packet[i]) << 8 | u32::from(packet[i + 1]));
    let sum = sum.sum::<u32>();
    let sum = !(((sum >> 16) + (sum & 0xffff)) as u16);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// A segment of a client's without a connection.
fn segment_to(port: u16, from: u16, flags: Flags) -> Vec<u8> {
    let header = TcpHeader {
        tuple: FourTuple {
            local: (IpAddr::from([10, 77, 0, 10]), from).into(),
            remote: (IpAddr::from([10, 77, 0, 100]), port).into(),
        },
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
    header.write(&mut packet, 0, Offload::Partial { mss: 0 });
    packet
}
