//! Two hosts, two paths, one link: a virtual clock, and every failure the roles must stand.
//!
//! Real time is in microseconds. Each host has its own clock (origin and rate), its own kernel
//! (which refuses, accepts and buffers while a process is dead or frozen) and at most one process.
//! After every event the world checks its invariants by name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::super::{
    Action, ArbiterPolicy, ArbiterRecord, Ask, Beat, BeatRole, Cause, Change, Inquiry, LinkEvent,
    LostArbiter, Path, Policy, ProbeResult, Refusal, Reply, Role, Roles, Timing,
};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

pub(super) const A: usize = 0;
pub(super) const B: usize = 1;
const MS: u64 = 1000;
/// Beats that a listener can keep of each host.
const RECORDED_MAX: usize = 20_000;

/// What reaches a process.
#[derive(Clone, Copy, Debug)]
enum Input {
    Timer,
    Beat(Path, Beat),
    /// Said long ago, and played by somebody else.
    Recording(Path, Beat),
    Connect {
        link: u64,
        hello: Hello,
    },
    Accepted {
        link: u64,
        hello: Hello,
    },
    Refused {
        dial: u64,
    },
    Closed {
        link: u64,
    },
    Synced {
        link: u64,
        epoch: Epoch,
    },
    Confirmed {
        link: u64,
    },
    Handover {
        link: u64,
    },
    Claimed,
    Probed(ProbeResult),
    Lan(bool),
    Arbiter {
        number: u64,
        reply: Reply,
    },
}

#[derive(Clone, Copy, Debug)]
struct Hello {
    boot: u64,
    epoch: Epoch,
    role: BeatRole,
}

/// What happens in the world.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// To the process with this boot.
    Wake { host: usize, boot: u64, serial: u64 },
    /// A datagram to whatever process runs there.
    Beat { host: usize, path: Path, beat: Beat },
    /// The same, played by somebody who has recorded it.
    Recording { host: usize, path: Path, beat: Beat },
    /// On the link's network, reliably: it waits while the path is cut.
    Stream { from: usize, input: Input, boot: u64 },
    /// A SYN arrives.
    Syn { from: usize, link: u64, boot: u64, hello: Hello },
    /// A question reaches the arbiter.
    Ask { host: usize, boot: u64, ask: Ask },
    /// A local answer to the process with this boot.
    Local { host: usize, boot: u64, input: Input },
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) roles: Option<Roles>,
    pub(super) powered: bool,
    pub(super) frozen: bool,
    pub(super) lan: bool,
    pub(super) changes: Vec<(u64, Action)>,
    boot: u64,
    inbox: Vec<Input>,
    /// Real time at which the clock was zero, and its rate in parts per million.
    clock_origin: i64,
    clock_ppm: i64,
    frozen_clock: Instant,
    link: Option<u64>,
    /// The link over which the standby has confirmed everything.
    confirmed: Option<u64>,
    dial: Option<u64>,
    knock: Option<u64>,
    serial: u64,
    wake_at: u64,
    /// When a beat of the peer last reached the running process.
    heard_at: u64,
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) hosts: [Host; 2],
    pub(super) rng: Rng,
    /// `cut[path][from]`: nothing sent by `from` on `path` arrives.
    pub(super) cut: [[bool; 2]; 2],
    /// Loss of beats, per mille.
    pub(super) loss: u64,
    /// One-way delay: at least, and at most this more (µs).
    pub(super) delay: (u64, u64),
    pub(super) policy: Policy,
    /// Set while the truth table allows two owners.
    pub(super) split: bool,
    pub(super) arbiter: Arbiter,
    pub(super) log: Vec<String>,
    /// Whether somebody plays recordings while things fail.
    pub(super) haunted: bool,
    /// What a listener on the networks has recorded of each host's beats, whether they arrived or not.
    pub(super) recorded: [Vec<(Path, Beat)>; 2],
    /// Sent on the link while its path was cut.
    backlog: [Vec<Event>; 2],
    /// When the last thing sent on the link arrives.
    arrives: [u64; 2],
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    count: u64,
}

/// The third party.
#[derive(Debug, Default)]
pub(super) struct Arbiter {
    pub(super) record: Option<ArbiterRecord>,
    pub(super) revision: u64,
    /// It does not answer a host, or not anybody.
    pub(super) cut: [bool; 2],
    pub(super) down: bool,
    /// Questions and answers lost, per mille of each.
    pub(super) loss: u64,
    /// One-way delay: at least, and at most this more (µs).
    pub(super) delay: (u64, u64),
    /// Writes so far.
    pub(super) writes: u64,
}

impl Arbiter {
    fn answer(&mut self, what: Inquiry) -> Reply {
        let mut written = false;
        if let Inquiry::Swap { expected, revision, record } = what
            && expected == self.record
            && revision.is_none_or(|revision| revision == self.revision)
        {
            written = true;
            self.record = Some(record);
            self.revision += 1;
            self.writes += 1;
        }
        Reply { record: self.record, revision: self.revision, written }
    }
}

/// How the pairs of the tests use their arbiter.
pub(super) fn arbitrated(lost: LostArbiter) -> Policy {
    let (lease, timeout) = (Duration::from_millis(500), Duration::from_millis(100));
    Policy { arbiter: Some(ArbiterPolicy { lost, lease, timeout }), ..Policy::default() }
}

/// SplitMix64: enough for a world.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        if limit == 0 { 0 } else { self.next() % limit }
    }
}

fn index(path: Path) -> usize {
    match path {
        Path::Replication => 0,
        Path::Lan => 1,
    }
}

const NODES: [Node; 2] = [Node::A, Node::B];

impl World {
    /// Two powered hosts without processes.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let host = |rng: &mut Rng| Host {
            roles: None,
            powered: true,
            frozen: false,
            lan: true,
            changes: Vec::new(),
            boot: 0,
            inbox: Vec::new(),
            clock_origin: -(rng.below(10_000_000_000) as i64) - 1_000_000,
            clock_ppm: rng.below(20_000) as i64 - 10_000,
            frozen_clock: Instant::ZERO,
            link: None,
            dial: None,
            knock: None,
            serial: 0,
            wake_at: u64::MAX,
            confirmed: None,
            heard_at: 0,
        };
        let hosts = [host(&mut rng), host(&mut rng)];
        Self {
            now: 0,
            hosts,
            rng,
            cut: [[false; 2]; 2],
            loss: 0,
            delay: (100, 200),
            policy: Policy::default(),
            split: false,
            arbiter: Arbiter { delay: (100, 200), ..Arbiter::default() },
            log: Vec::new(),
            haunted: false,
            recorded: [Vec::new(), Vec::new()],
            backlog: [Vec::new(), Vec::new()],
            arrives: [0; 2],
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            count: 0,
        }
    }

    /// Both nodes up, `a` primary, `b` its armed standby.
    pub(super) fn duplex(seed: u64) -> Self {
        Self::duplex_with(seed, Policy::default())
    }

    /// The same with another policy.
    pub(super) fn duplex_with(seed: u64, policy: Policy) -> Self {
        let mut world = Self::new(seed);
        world.policy = policy;
        world.start(A);
        // The arbiter's first record is to be waited for.
        world.run_until("a owns alone", 1200, |world| world.is_primary(A));
        world.start(B);
        world.run_until("b protects a", 600, |world| world.is_duplex(A));
        world.run(50);
        world.forget();
        world
    }

    /// Nothing that happened so far counts.
    pub(super) fn forget(&mut self) {
        for host in &mut self.hosts {
            host.changes.clear();
        }
    }

    // What a test does to a host.

    pub(super) fn start(&mut self, host: usize) {
        let (boot, policy) = (self.rng.next(), self.policy);
        let now = self.clock(host);
        let target = &mut self.hosts[host];
        if target.roles.is_some() || !target.powered {
            return;
        }
        target.boot = boot;
        let roles = Roles::new(now, NODES[host], boot, Timing::default(), policy);
        target.roles = Some(roles);
        target.frozen = false;
        target.wake_at = u64::MAX;
        target.inbox.clear();
        let lan = target.lan;
        self.note(host, "starts");
        self.give(host, Input::Lan(lan));
    }

    /// SIGKILL: the kernel closes the link and refuses dials.
    pub(super) fn kill(&mut self, host: usize) {
        self.note(host, "is killed");
        self.close_link(host);
        self.drop_process(host);
    }

    /// Power off: nobody is told.
    pub(super) fn power_off(&mut self, host: usize) {
        self.note(host, "loses power");
        self.hosts[host].powered = false;
        self.drop_process(host);
    }

    /// Power on: the clock starts near zero.
    pub(super) fn power_on(&mut self, host: usize) {
        if !self.hosts[host].powered {
            self.note(host, "gets power");
            self.hosts[host].powered = true;
            self.hosts[host].clock_origin = self.now as i64 - 1000;
        }
    }

    fn drop_process(&mut self, host: usize) {
        let host = &mut self.hosts[host];
        host.roles = None;
        host.frozen = false;
        host.link = None;
        host.dial = None;
        host.knock = None;
        host.inbox.clear();
    }

    pub(super) fn freeze(&mut self, host: usize) {
        if self.hosts[host].roles.is_some() && !self.hosts[host].frozen {
            self.note(host, "freezes");
            self.hosts[host].frozen_clock = self.clock(host);
            self.hosts[host].frozen = true;
        }
    }

    /// The process goes on where it stood: perhaps with a clock reading from before, perhaps with
    /// its timer before its sockets.
    pub(super) fn thaw(&mut self, host: usize) {
        if !self.hosts[host].frozen {
            return;
        }
        self.note(host, "thaws");
        self.hosts[host].frozen = false;
        self.check();
        let before = self.hosts[host].frozen_clock;
        if self.rng.below(2) == 0 {
            self.give_at(host, before, Input::Timer);
        }
        if self.rng.below(2) == 0 {
            self.give(host, Input::Timer);
        }
        let inbox = core::mem::take(&mut self.hosts[host].inbox);
        for input in inbox {
            self.give(host, input);
        }
        self.give(host, Input::Timer);
    }

    pub(super) fn set_lan(&mut self, host: usize, up: bool) {
        if self.hosts[host].lan != up {
            self.note(host, if up { "has LAN" } else { "has no LAN" });
            self.hosts[host].lan = up;
            self.give(host, Input::Lan(up));
        }
    }

    /// Cuts a path in both directions.
    pub(super) fn cut_path(&mut self, path: Path) {
        self.cut_from(path, A);
        self.cut_from(path, B);
    }

    /// Nothing that `from` sends on `path` arrives.
    pub(super) fn cut_from(&mut self, path: Path, from: usize) {
        self.note(from, &format!("is not heard on the {path}"));
        self.cut[index(path)][from] = true;
    }

    pub(super) fn heal_paths(&mut self) {
        self.cut = [[false; 2]; 2];
        self.note(A, "paths healed");
        for from in [A, B] {
            // What a living kernel still retransmits, before anything sent later.
            let late = core::mem::take(&mut self.backlog[from]);
            for (delay, event) in (1..).zip(late) {
                if self.hosts[from].powered {
                    self.later(delay, event);
                }
            }
        }
    }

    pub(super) fn switchover(&mut self, host: usize) -> bool {
        let now = self.clock(host);
        if self.hosts[host].frozen {
            return false;
        }
        let Some(roles) = &mut self.hosts[host].roles else { return false };
        let accepted = roles.on_switchover(now).is_ok();
        self.drain(host);
        self.check();
        accepted
    }

    /// Why a switchover is refused, which it is to be.
    pub(super) fn refusal(&mut self, host: usize) -> Option<Refusal> {
        let now = self.clock(host);
        self.hosts[host].roles.as_mut().and_then(|roles| roles.on_switchover(now).err())
    }

    /// Somebody sends `count` of the beats that `from` has ever sent to the other host again, over
    /// `millis`: of any run, in any order.
    pub(super) fn play(&mut self, from: usize, count: u64, millis: u64) {
        for _ in 0..count {
            let among = self.recorded[from].len() as u64;
            let Some(&(path, beat)) = self.recorded[from].get(self.rng.below(among) as usize)
            else {
                return;
            };
            let delay = self.rng.below(millis * MS);
            self.later(delay, Event::Recording { host: 1 - from, path, beat });
        }
    }

    /// The same with everything that was recorded when `from` said of itself that it was `role`.
    pub(super) fn play_all(&mut self, from: usize, role: BeatRole) {
        let said: Vec<_> = self.recorded[from].clone();
        let said = said.into_iter().filter(|(_, beat)| beat.role == role);
        for (delay, (path, beat)) in (0..).step_by(MS as usize).zip(said) {
            self.later(delay, Event::Recording { host: 1 - from, path, beat });
        }
    }

    // What a test asks.

    pub(super) fn epoch(&self, host: usize) -> Option<Epoch> {
        self.hosts[host].roles.as_ref().map(Roles::epoch)
    }

    pub(super) fn role(&self, host: usize) -> Option<Role> {
        self.hosts[host].roles.as_ref().map(Roles::role)
    }

    pub(super) fn is_primary(&self, host: usize) -> bool {
        matches!(self.role(host), Some(Role::Primary { .. }))
    }

    pub(super) fn is_duplex(&self, host: usize) -> bool {
        self.role(host) == Some(Role::Primary { duplex: true })
            && self.role(1 - host) == Some(Role::Standby { synced: true })
    }

    /// Exactly one primary, one armed standby, nothing in between.
    pub(super) fn has_converged(&self) -> bool {
        (self.is_duplex(A) || self.is_duplex(B)) && self.speaks(A) != self.speaks(B)
    }

    pub(super) fn speaks(&self, host: usize) -> bool {
        let state = &self.hosts[host];
        let gate = state.roles.as_ref().map_or(Instant::ZERO, Roles::speak_until);
        state.powered && !state.frozen && state.lan && self.clock(host) < gate
    }

    pub(super) fn protected(&self, host: usize) -> bool {
        let now = self.clock(host);
        self.hosts[host].roles.as_ref().is_some_and(|roles| roles.is_protected(now))
    }

    pub(super) fn causes(&self, host: usize) -> Vec<Cause> {
        let change = |(_, action): &(u64, Action)| change_of(*action).map(|change| change.cause);
        self.hosts[host].changes.iter().filter_map(change).collect()
    }

    /// The last `Own` or `GoSimplex` of a host: when (ms), and the change.
    pub(super) fn last_ownership(&self, host: usize) -> Option<(u64, Change)> {
        let own = |(at, action): &(u64, Action)| match action {
            Action::Own(change) | Action::GoSimplex(change) => Some((*at / MS, *change)),
            _ => None,
        };
        self.hosts[host].changes.iter().rev().find_map(own)
    }

    // Time.

    pub(super) fn run(&mut self, millis: u64) {
        let until = self.now + millis * MS;
        self.run_to(until);
    }

    pub(super) fn run_until(&mut self, what: &str, millis: u64, done: impl Fn(&Self) -> bool) {
        let until = self.now + millis * MS;
        while !done(self) {
            assert!(self.now < until, "{what}: not within {millis} ms\n{}", self.tell());
            let step = (self.now + MS).min(until);
            self.run_to(step);
        }
    }

    fn run_to(&mut self, until: u64) {
        while let Some(Reverse((at, number))) = self.queue.peek().copied() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
                self.check();
            }
        }
        self.now = until;
        self.check();
    }

    fn clock(&self, host: usize) -> Instant {
        let Host { clock_origin, clock_ppm, .. } = self.hosts[host];
        let elapsed = i128::from(self.now as i64 - clock_origin);
        let nanos = elapsed * i128::from(1_000_000 + clock_ppm) / 1000;
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    fn later(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.queue.push(Reverse((self.now + delay, self.count)));
        self.events.insert(self.count, event);
    }

    fn transit(&mut self) -> u64 {
        let (least, spread) = self.delay;
        least + self.rng.below(spread)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { host, boot, serial } => {
                let state = &self.hosts[host];
                if state.boot == boot && state.serial == serial && state.roles.is_some() {
                    self.hosts[host].wake_at = u64::MAX;
                    if !self.hosts[host].frozen {
                        self.give(host, Input::Timer);
                    }
                }
            }
            Event::Beat { host, path, beat } => self.give(host, Input::Beat(path, beat)),
            Event::Recording { host, path, beat } => {
                self.give(host, Input::Recording(path, beat));
            }
            Event::Local { host, boot, input } => {
                if self.hosts[host].boot == boot {
                    self.give(host, input);
                }
            }
            Event::Syn { from, link, boot, hello } => self.arrive_syn(from, link, boot, hello),
            Event::Ask { host, boot, ask } => self.arrive_ask(host, boot, ask),
            Event::Stream { from, input, boot } => {
                if self.cut[0][from] {
                    self.backlog[from].push(event);
                } else if self.hosts[1 - from].boot == boot {
                    self.give(1 - from, input);
                }
            }
        }
    }

    fn arrive_ask(&mut self, host: usize, boot: u64, ask: Ask) {
        if self.arbiter.down || self.arbiter.cut[host] || self.is_lost_by_arbiter() {
            return;
        }
        let before = self.arbiter.record;
        let reply = self.arbiter.answer(ask.what);
        if reply.record != before {
            self.note(host, &format!("arbiter's record: {:?}", reply.record));
        }
        if !self.is_lost_by_arbiter() {
            let delay = self.ask_transit();
            let input = Input::Arbiter { number: ask.number, reply };
            self.later(delay, Event::Local { host, boot, input });
        }
    }

    fn is_lost_by_arbiter(&mut self) -> bool {
        let loss = self.arbiter.loss;
        loss > 0 && self.rng.below(1000) < loss
    }

    fn ask_transit(&mut self) -> u64 {
        let (least, spread) = self.arbiter.delay;
        least + self.rng.below(spread)
    }

    fn arrive_syn(&mut self, from: usize, link: u64, boot: u64, hello: Hello) {
        let to = 1 - from;
        if self.cut[0][from] || self.cut[0][to] || !self.hosts[to].powered {
            return;
        }
        if self.hosts[to].roles.is_some() {
            if hello.boot != 0 {
                self.give(to, Input::Connect { link, hello });
            }
        } else {
            let delay = self.transit();
            let input = Input::Refused { dial: link };
            self.later(delay, Event::Local { host: from, boot, input });
        }
    }

    fn give(&mut self, host: usize, input: Input) {
        let now = self.clock(host);
        self.give_at(host, now, input);
    }

    fn give_at(&mut self, host: usize, now: Instant, input: Input) {
        if self.hosts[host].roles.is_none() {
            return;
        }
        if self.hosts[host].frozen {
            // What a kernel buffers for a sleeping process is bounded; the carrier is a state, and a
            // stream waits.
            let datagram = matches!(input, Input::Beat(..) | Input::Recording(..) | Input::Claimed);
            if self.hosts[host].inbox.len() < 64 || !datagram {
                self.hosts[host].inbox.push(input);
            }
            return;
        }
        self.feed(host, now, input);
        self.drain(host);
    }

    fn feed(&mut self, host: usize, now: Instant, input: Input) {
        match input {
            Input::Connect { link, hello } => return self.accept(host, now, link, hello),
            Input::Accepted { link, hello } => {
                if self.hosts[host].dial != Some(link) {
                    // An abandoned dial: its socket is gone.
                    return self.stream(host, Input::Closed { link });
                }
                self.hosts[host].dial = None;
                return self.link_up(host, now, link, hello);
            }
            _ => {}
        }
        let state = &mut self.hosts[host];
        let Some(roles) = &mut state.roles else { return };
        let current = state.link;
        match input {
            Input::Timer => {
                roles.on_timer(now);
                if current.is_some() && state.confirmed == current {
                    roles.on_duplex(now);
                }
            }
            Input::Beat(path, beat) => {
                if beat.role.owns() {
                    state.heard_at = self.now;
                }
                roles.on_heartbeat(now, path, &beat);
            }
            Input::Recording(path, beat) => {
                roles.on_heartbeat(now, path, &beat);
            }
            Input::Refused { dial } if [state.dial, state.knock].contains(&Some(dial)) => {
                state.dial = None;
                state.knock = None;
                roles.on_link(now, LinkEvent::Refused);
            }
            Input::Closed { link } if current == Some(link) => {
                state.link = None;
                roles.on_link(now, LinkEvent::Lost);
            }
            Input::Synced { link, epoch } if current == Some(link) => {
                roles.on_synced(now, epoch);
                self.stream(host, Input::Confirmed { link });
            }
            Input::Confirmed { link } if current == Some(link) => {
                state.confirmed = current;
                roles.on_duplex(now);
            }
            Input::Handover { link } if current == Some(link) => roles.on_handover(now),
            Input::Claimed => roles.on_claimed(now),
            Input::Probed(result) => roles.on_probe(now, result),
            Input::Lan(up) => roles.on_lan(now, up),
            Input::Arbiter { number, reply } => roles.on_arbiter(now, number, Some(reply)),
            _ => {}
        }
    }

    /// A connection is accepted: it replaces the old one. Of two crossing dials a's stands.
    fn accept(&mut self, host: usize, now: Instant, link: u64, hello: Hello) {
        if self.hosts[host].dial.is_some() && host == A {
            return;
        }
        self.hosts[host].dial = None;
        if let Some(old) = self.hosts[host].link.take() {
            self.stream(host, Input::Closed { link: old });
            if let Some(roles) = &mut self.hosts[host].roles {
                roles.on_link(now, LinkEvent::Lost);
            }
        }
        let own = self.hello(host);
        self.stream_to(host, hello.boot, Input::Accepted { link, hello: own });
        self.link_up(host, now, link, hello);
    }

    fn link_up(&mut self, host: usize, now: Instant, link: u64, hello: Hello) {
        self.hosts[host].link = Some(link);
        let Some(roles) = &mut self.hosts[host].roles else { return };
        let Hello { boot, epoch, role } = hello;
        roles.on_link(now, LinkEvent::Up { boot, epoch, role });
        let simplex = roles.role() == Role::Primary { duplex: false };
        let epoch = roles.epoch();
        if simplex && self.hosts[host].link == Some(link) {
            // The snapshot takes its time.
            let delay = 5 * MS + self.rng.below(20 * MS);
            let input = Input::Synced { link, epoch };
            self.in_order(host, delay, Event::Stream { from: host, input, boot: hello.boot });
        }
    }

    fn hello(&self, host: usize) -> Hello {
        let state = &self.hosts[host];
        let (epoch, role) = state
            .roles
            .as_ref()
            .map_or((Epoch::NONE, BeatRole::Joining), |roles| (roles.epoch(), roles.beat_role()));
        Hello { boot: state.boot, epoch, role }
    }

    fn stream(&mut self, from: usize, input: Input) {
        let boot = self.hosts[1 - from].boot;
        self.stream_to(from, boot, input);
    }

    fn stream_to(&mut self, from: usize, boot: u64, input: Input) {
        let delay = self.transit();
        self.in_order(from, delay, Event::Stream { from, input, boot });
    }

    /// After `delay`, or later if something sent before arrives later.
    fn in_order(&mut self, from: usize, delay: u64, event: Event) {
        let at = (self.now + delay).max(self.arrives[from] + 1);
        self.arrives[from] = at;
        self.later(at - self.now, event);
    }

    fn close_link(&mut self, host: usize) {
        self.hosts[host].dial = None;
        self.hosts[host].knock = None;
        if let Some(link) = self.hosts[host].link.take() {
            self.stream(host, Input::Closed { link });
        }
    }

    /// Does what the roles ask, sends their beats, and arms their timer.
    fn drain(&mut self, host: usize) {
        let now = self.clock(host);
        while let Some(action) = self.hosts[host].roles.as_mut().and_then(Roles::poll_action) {
            self.act(host, action);
        }
        while let Some(beat) =
            self.hosts[host].roles.as_mut().and_then(|roles| roles.poll_beat(now))
        {
            self.send_beat(host, beat);
        }
        let Some(roles) = &self.hosts[host].roles else { return };
        let nanos = roles.deadline().until(now).as_nanos() as u64;
        assert!(roles.deadline() != Instant::NEVER, "a paired node has a deadline");
        // A loop turns a little late.
        let delay = nanos.div_ceil(1000) + 1 + self.rng.below(500);
        if self.now + delay < self.hosts[host].wake_at || self.hosts[host].wake_at <= self.now {
            self.hosts[host].serial += 1;
            self.hosts[host].wake_at = self.now + delay;
            let Host { boot, serial, .. } = self.hosts[host];
            self.later(delay, Event::Wake { host, boot, serial });
        }
    }

    fn act(&mut self, host: usize, action: Action) {
        if !matches!(action, Action::Dial | Action::Knock | Action::Ask(_)) {
            self.note(host, &describe(action));
        }
        if change_of(action).is_some() {
            self.hosts[host].changes.push((self.now, action));
        }
        let boot = self.hosts[host].boot;
        match action {
            Action::Dial | Action::Knock => {
                let link = self.rng.next();
                let mut hello = self.hello(host);
                if action == Action::Knock {
                    hello.boot = 0;
                    self.hosts[host].knock = Some(link);
                } else {
                    self.hosts[host].dial = Some(link);
                }
                let delay = self.transit();
                self.later(delay, Event::Syn { from: host, link, boot, hello });
            }
            Action::HangUp => self.close_link(host),
            Action::Ask(ask) => {
                let delay = self.ask_transit();
                self.later(delay, Event::Ask { host, boot, ask });
            }
            Action::Probe => {
                let reachable = !self.cut[1][A] && !self.cut[1][B] && self.hosts[host].lan;
                let taken = reachable && self.speaks(1 - host);
                let result = if taken { ProbeResult::InUse } else { ProbeResult::Clear };
                let input = Input::Probed(result);
                self.later(20 * MS, Event::Local { host, boot, input });
            }
            Action::HandOver { .. } => {
                if let Some(link) = self.hosts[host].link {
                    self.stream(host, Input::Handover { link });
                }
            }
            Action::Own(change) => {
                self.check_takeover(host, change);
                self.announce(host);
            }
            Action::Announce => self.announce(host),
            Action::StandBy(_)
            | Action::StandDown(_)
            | Action::GoSimplex(_)
            | Action::GoDuplex(_)
            | Action::Report(_) => {}
            Action::Exit(_) => self.drop_process(host),
        }
    }

    fn announce(&mut self, host: usize) {
        let reachable = !self.cut[1][host] && self.hosts[host].lan && self.hosts[1 - host].lan;
        if reachable && self.speaks(host) {
            let (delay, boot) = (self.transit(), self.hosts[1 - host].boot);
            self.later(delay, Event::Local { host: 1 - host, boot, input: Input::Claimed });
        }
    }

    fn send_beat(&mut self, host: usize, beat: Beat) {
        for path in [Path::Replication, Path::Lan] {
            if self.recorded[host].len() < RECORDED_MAX {
                self.recorded[host].push((path, beat));
            }
            let lan = path == Path::Lan && !(self.hosts[A].lan && self.hosts[B].lan);
            let lost = self.rng.below(1000) < self.loss;
            if !self.cut[index(path)][host] && !lan && !lost {
                let delay = self.transit();
                self.later(delay, Event::Beat { host: 1 - host, path, beat });
            }
        }
    }

    // Invariants.

    /// No takeover by silence while beats flow on one path.
    fn check_takeover(&mut self, host: usize, change: Change) {
        let armed = change.from == Role::Standby { synced: true };
        if armed && change.cause == Cause::PeerSilent {
            let quiet = self.now - self.hosts[host].heard_at;
            // Stragglers overtaken by later beats do not count as heard.
            assert!(
                quiet >= 40 * MS,
                "no takeover while beats flow on one path: heard {quiet} us ago\n{}",
                self.tell()
            );
        }
    }

    /// I3: never two speakers, except in the split that the truth table admits.
    fn check(&mut self) {
        let severed = |from: usize| self.cut[0][from] && self.cut[1][from];
        let carriers = self.hosts[A].lan && self.hosts[B].lan;
        if (severed(A) || severed(B)) && carriers {
            self.split = true;
        } else if self.split && self.has_converged() {
            self.split = false;
        }
        let both = self.speaks(A) && self.speaks(B);
        let strict = self.policy.arbiter.is_some_and(|arbiter| arbiter.lost == LostArbiter::Stop);
        let split = self.split && !strict;
        assert!(!both || split, "I3 one speaker: both speak\n{}", self.tell());
        for host in [A, B] {
            let epoch = self.hosts[host].roles.as_ref().map(Roles::epoch);
            let alone =
                self.speaks(host) && self.role(host) == Some(Role::Primary { duplex: false });
            let recorded = self.arbiter.record.is_some_and(|record| {
                record.boot == self.hosts[host].boot && Some(record.epoch) == epoch
            });
            let recorded = recorded || self.arbiter.record.is_none();
            assert!(!strict || !alone || recorded, "who is alone is recorded\n{}", self.tell());
        }
        if let [Some(a), Some(b)] = self.hosts.each_ref().map(|host| host.roles.as_ref()) {
            let own = |roles: &Roles| matches!(roles.role(), Role::Primary { .. });
            let one = own(a) && own(b) && a.epoch() == b.epoch();
            assert!(!one, "one owner in an epoch\n{}", self.tell());
        }
    }

    fn note(&mut self, host: usize, what: &str) {
        let at = self.now / MS;
        self.log.push(format!("{at:6} ms {}: {what}", NODES[host]));
    }

    /// The whole world, for a failing test.
    pub(super) fn tell(&self) -> String {
        let hosts = self.hosts.iter().map(|host| format!("{host:#?}")).collect::<String>();
        format!("{}\nat {} us, cut {:?}\n{hosts}", self.log.join("\n"), self.now, self.cut)
    }
}

fn change_of(action: Action) -> Option<Change> {
    match action {
        Action::Own(change)
        | Action::StandBy(change)
        | Action::StandDown(change)
        | Action::GoSimplex(change)
        | Action::GoDuplex(change)
        | Action::HandOver { change, .. } => Some(change),
        Action::Probe
        | Action::Dial
        | Action::Knock
        | Action::HangUp
        | Action::Announce
        | Action::Ask(_)
        | Action::Report(_)
        | Action::Exit(_) => None,
    }
}

fn describe(action: Action) -> String {
    match (change_of(action), action) {
        (Some(change), _) => change.to_string(),
        (None, Action::Report(report)) => report.to_string(),
        (None, other) => format!("{other:?}"),
    }
}
