//! Tests of the swarm: its addresses, and its clients against an echo server of a few lines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::plan::PlanError;
use super::{Phase, Plan, Report, Swarm};
use standin::tcp::{Settings, Tcb, reset_for};
use standin::time::{Duration, Instant};
use standin::wire::{ChecksumState, Flags, FourTuple, Offload, SeqNum, parse_ip, parse_tcp};

fn plan(count: u32) -> Plan {
    Plan {
        target: "10.77.0.100:7".parse().unwrap(),
        sources: "10.99.0.0/29".parse().unwrap(),
        count,
        rate: 10_000,
        asking: 0,
        every: Duration::from_millis(100),
        request: 32,
        hold: Some(Duration::from_secs(1)),
        stall: Duration::from_secs(5),
        mtu: 1500,
        seed: 7,
    }
}

/// What the server does that it should not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Refuses,
    Silent,
    /// From a time on: answers with another byte, resets, ends, or says no more.
    Wrong(u64),
    Excess(u64),
    Resets(u64),
    Ends(u64),
    Dies(u64),
    /// Says nothing between two times, and then goes on.
    Pauses(u64, u64),
}

/// An echo server, and the wire to it.
struct World {
    swarm: Swarm,
    now: u64,
    server: BTreeMap<SocketAddr, (Tcb, Vec<u8>)>,
    settings: Arc<Settings>,
    fault: Fault,
    /// The share of packets towards the server that are lost.
    loss: f64,
    dice: fastrand::Rng,
}

impl World {
    fn new(plan: Plan, fault: Fault) -> Self {
        let settings = Settings { keepalive: None, max_segment: 1, ..Settings::default() };
        Self {
            swarm: Swarm::new(plan, Instant::ZERO).unwrap(),
            now: 0,
            server: BTreeMap::new(),
            settings: Arc::new(settings),
            fault,
            loss: 0.0,
            dice: fastrand::Rng::with_seed(1),
        }
    }

    fn instant(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    fn run(&mut self) -> Report {
        while self.swarm.phase() != Phase::Over {
            self.step();
            assert!(self.now < 600_000, "{:?}: {:?}", self.swarm.phase(), self.swarm.counts());
        }
        self.swarm.report(self.instant())
    }

    fn run_until(&mut self, phase: Phase) {
        while self.swarm.phase() < phase {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let now = self.instant();
        self.swarm.turn(now);
        let mut packet = Vec::new();
        while self.swarm.poll_packet(now, &mut packet) {
            if self.dice.f64() >= self.loss {
                self.serve(&packet);
            }
        }
        let due: Vec<SocketAddr> = self.server.keys().copied().collect();
        for client in due {
            let (tcb, _) = self.server.get_mut(&client).unwrap();
            if tcb.deadline().is_some_and(|at| at <= now) {
                tcb.on_timer(now);
            }
            self.answer(client);
        }
    }

    fn serve(&mut self, packet: &[u8]) {
        let now = self.instant();
        let ip = parse_ip(packet).unwrap();
        let (port, to, segment) = parse_tcp(&ip, ChecksumState::Verify).unwrap();
        let (client, server) = (SocketAddr::new(ip.src, port), SocketAddr::new(ip.dst, to));
        assert_eq!(server, "10.77.0.100:7".parse().unwrap());
        let silent = match self.fault {
            Fault::Silent => true,
            Fault::Dies(from) => self.now >= from,
            Fault::Pauses(from, to) => (from..to).contains(&self.now),
            _ => false,
        };
        if silent {
            return;
        }
        let syn = segment.flags.contains(Flags::SYN);
        if !syn && !self.server.contains_key(&client) || self.fault == Fault::Refuses {
            let reset = reset_for(&segment);
            return reset.into_iter().for_each(|reset| self.deliver(client, &reset, &[]));
        }
        let settings = &self.settings;
        let (tcb, input) = self.server.entry(client).or_insert_with(|| {
            (Tcb::accept(settings, now, &segment, SeqNum(9), 9, 1500, false), Vec::new())
        });
        if !syn {
            tcb.on_segment(now, &segment, &mut |bytes| input.extend_from_slice(bytes));
        }
        match self.fault {
            Fault::Wrong(from) if self.now >= from => {
                input.iter_mut().last().into_iter().for_each(|byte| *byte ^= 1);
            }
            Fault::Excess(from) if self.now >= from => input.push(0),
            Fault::Resets(from) if self.now >= from => tcb.abort(now),
            Fault::Ends(from) if self.now >= from => tcb.finish(),
            _ => {}
        }
        tcb.set_consumed(input.len() as u64);
        tcb.set_output_end(input.len() as u64);
        if tcb.peer_finished() {
            tcb.finish();
        }
        self.answer(client);
    }

    fn answer(&mut self, client: SocketAddr) {
        let now = self.instant();
        loop {
            let Some((tcb, input)) = self.server.get_mut(&client) else { return };
            let mut payload = Vec::new();
            let transmit = tcb.poll_transmit(now, &mut |range| {
                payload = input[range.start as usize..range.end as usize].to_vec();
                payload.len()
            });
            let Some(transmit) = transmit else { break };
            self.deliver(client, &transmit, &payload[..transmit.payload]);
        }
        if self.server[&client].0.closed() {
            self.server.remove(&client);
        }
    }

    fn deliver(&mut self, client: SocketAddr, transmit: &standin::tcp::Transmit, payload: &[u8]) {
        let tuple = FourTuple { local: "10.77.0.100:7".parse().unwrap(), remote: client.into() };
        let header = transmit.header(tuple, 0);
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(payload);
        header.write(&mut packet, payload.len(), Offload::Full);
        self.swarm.on_packet(self.instant(), &packet);
    }
}

#[test]
fn everybody_opens_is_checked_and_closes() {
    let mut world = World::new(plan(300), Fault::None);
    world.run_until(Phase::Holding);
    assert_eq!(world.server.len(), 300);
    assert!(world.now >= 29, "300 at 10,000 a second take 30 ms: {}", world.now);
    let report = world.run();
    let Report { ok, opened, completed, answers, bytes, refused, unanswered, reset, .. } = report;
    assert!(ok, "{report}");
    assert_eq!((opened, completed, answers, bytes), (300, 300, 300, 300 * 32));
    let Report { lost, wrong, given_up, .. } = report;
    assert_eq!([refused, unanswered, reset, lost, wrong, given_up], [0; 6]);
    assert_eq!((report.gap_ms.count, report.check_ms.count), (0, 300));
    let open = |(tcb, _): &&(Tcb, _)| !tcb.fin_acked();
    assert_eq!(world.server.values().filter(open).count(), 0, "the server saw every end");
}

#[test]
fn some_ask_while_the_others_are_idle() {
    let mut world = World::new(Plan { asking: 30, ..plan(300) }, Fault::None);
    let report = world.run();
    assert!(report.ok, "{report}");
    // Thirty for a second, ten a second each, and everybody once more.
    assert!((300 + 270..=300 + 330).contains(&report.answers), "{report}");
}

#[test]
fn lost_packets_are_sent_again() {
    let stall = Duration::from_secs(60);
    let mut world = World::new(Plan { asking: 100, stall, ..plan(100) }, Fault::None);
    world.loss = 0.1;
    let report = world.run();
    assert!(report.ok, "{report}");
    assert!(report.gap_ms.max >= 200.0, "{report}");
}

#[test]
fn a_pause_is_the_longest_gap_of_those_who_asked() {
    let mut world = World::new(Plan { asking: 50, ..plan(100) }, Fault::Pauses(300, 800));
    let report = world.run();
    assert!(report.ok, "{report}");
    assert!((500.0..2000.0).contains(&report.gap_ms.max), "{report}");
    assert!(report.check_ms.max < 10.0, "{report}");
    assert!(report.longest[0].at_s > 0.8 && report.longest[0].ms == report.gap_ms.max);
}

#[test]
fn each_way_to_fail_is_told_apart() {
    let failed = |fault| {
        let report = World::new(Plan { asking: 10, ..plan(10) }, fault).run();
        assert!(!report.ok && report.failed() == 10 && report.completed == 0, "{report}");
        assert_eq!(report.troubles.len(), 10);
        assert!(report.to_string().contains("FAILED: 10 of 10"), "{report}");
        let Report { refused, unanswered, reset, lost, wrong, given_up, .. } = report;
        [refused, unanswered, reset, lost, wrong, given_up]
    };
    assert_eq!(failed(Fault::Refuses), [10, 0, 0, 0, 0, 0]);
    assert_eq!(failed(Fault::Silent), [0, 10, 0, 0, 0, 0]);
    assert_eq!(failed(Fault::Resets(200)), [0, 0, 10, 0, 0, 0]);
    assert_eq!(failed(Fault::Ends(200)), [0, 0, 0, 10, 0, 0]);
    assert_eq!(failed(Fault::Dies(200)), [0, 0, 0, 10, 0, 0]);
    assert_eq!(failed(Fault::Wrong(200)), [0, 0, 0, 0, 10, 0]);
    assert_eq!(failed(Fault::Excess(200)), [0, 0, 0, 0, 10, 0]);
}

#[test]
fn one_that_died_in_silence_is_found_at_the_end() {
    let mut world = World::new(plan(20), Fault::None);
    world.run_until(Phase::Holding);
    let forgotten = *world.server.keys().nth(3).unwrap();
    world.server.remove(&forgotten);
    let report = world.run();
    assert_eq!((report.reset, report.completed, report.ok), (1, 19, false), "{report}");
    assert_eq!(report.troubles[0].source, forgotten.to_string());
}

#[test]
fn the_end_may_come_before_everybody_began() {
    let mut world = World::new(Plan { rate: 100, hold: None, ..plan(1000) }, Fault::None);
    (0..100).for_each(|_| world.step());
    world.swarm.finish(world.instant());
    let report = world.run();
    assert!(report.ok && report.connections == 11 && report.completed == 11, "{report}");
}

#[test]
fn giving_up_resets_who_lives() {
    let mut world = World::new(Plan { hold: None, ..plan(10) }, Fault::None);
    world.run_until(Phase::Holding);
    world.swarm.give_up(world.instant());
    world.step();
    let report = world.run();
    assert_eq!((report.given_up, report.ok), (10, false), "{report}");
    assert!(world.server.is_empty(), "each was reset");
}

#[test]
fn what_is_no_packet_of_ours_changes_nothing() {
    let mut world = World::new(Plan { hold: None, ..plan(10) }, Fault::None);
    world.run_until(Phase::Holding);
    let now = world.instant();
    let before = world.swarm.counts().clone();
    for noise in [&[][..], &[0x45; 20], &[0x60; 40], &[0xff; 1500]] {
        world.swarm.on_packet(now, noise);
    }
    let after = world.swarm.counts().clone();
    assert_eq!(after, Report { packets_in: before.packets_in + 4, ..before });
}

#[test]
fn ends_are_told_apart_both_ways() {
    for (sources, target, count, first, last) in [
        ("10.99.0.0/29", "10.77.0.100:7", 13, "10.99.0.1:1024", "10.99.0.1:1026"),
        ("10.99.0.4/31", "10.77.0.100:7", 2, "10.99.0.4:1024", "10.99.0.5:1024"),
        ("10.99.0.4/32", "10.77.0.100:7", 64_512, "10.99.0.4:1024", "10.99.0.4:65535"),
        ("fd99::/64", "[fd77::100]:7", 3, "[fd99::1]:1024", "[fd99::3]:1024"),
    ] {
        let sources = sources.parse().unwrap();
        let plan = Plan { sources, target: target.parse().unwrap(), ..plan(count) };
        assert_eq!(plan.check(), Ok(()), "{sources}");
        let ends = plan.ends();
        let of = |index: u32| ends.of_member(index).to_string();
        assert_eq!((of(0), of(count - 1)), (first.to_owned(), last.to_owned()), "{sources}");
        for index in 0..count {
            assert_eq!(ends.member(ends.of_member(index)), Some(index));
        }
    }
    let ends = plan(1).ends();
    for nobody in ["10.99.0.0:1024", "10.99.0.7:1024", "10.99.0.1:1023", "[fd99::1]:1024"] {
        assert_eq!(ends.member(nobody.parse().unwrap()), None, "{nobody}");
    }
}

#[test]
fn impossible_plans_are_refused() {
    let refused = |plan: Plan| plan.check().unwrap_err().to_string();
    let base = || plan(10);
    assert_eq!(base().check(), Ok(()));
    assert_eq!(refused(plan(0)), "connections: 1 to 16777216");
    assert_eq!(refused(plan(u32::MAX)), "connections: 1 to 16777216");
    assert_eq!(refused(Plan { rate: 0, ..base() }), "rate per second: 1 to 1000000");
    assert_eq!(refused(Plan { asking: 11, ..base() }), "asking connections: 0 to 10");
    assert_eq!(refused(Plan { request: 0, ..base() }), "bytes of a request: 1 to 1024");
    assert_eq!(refused(Plan { mtu: 575, ..base() }), "MTU: 576 to 65535");
    let never = Duration::ZERO;
    assert!(refused(Plan { every: never, ..base() }).contains("between requests: 1 to"));
    assert!(refused(Plan { stall: never, ..base() }).contains("without an answer: 1 to"));
    let many = Plan { sources: "10.99.0.1/32".parse().unwrap(), ..plan(64_513) };
    assert_eq!(refused(many), "10.99.0.1/32 has room for 64512 connections");
    let other = Plan { target: "[fd77::100]:7".parse().unwrap(), ..base() };
    assert!(refused(other).contains("one is IPv4, the other IPv6"));
    let own = Plan { sources: "10.77.0.0/24".parse().unwrap(), ..base() };
    assert!(matches!(own.check(), Err(PlanError::Loop { .. })));
}

#[test]
fn those_that_ask_are_spread_evenly() {
    let plan = Plan { asking: 3, ..plan(9) };
    let asking: Vec<u32> = (0..9).filter(|index| plan.asks(*index)).collect();
    assert_eq!(asking, [2, 5, 8]);
}
