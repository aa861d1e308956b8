//! From a seed to a plan: what kinds of world there are, and how often.

use super::content::LENGTHS;
use super::dice::{Place, dice, up_to};
use super::plan::{
    ArbiterPlan, BackendPlan, ClientPlan, ClockPlan, Fault, Job, LinkPlan, MachinePlan, PairPlan,
    Plan, RelaysPlan, Request, Stack, Target, Trouble, Way, Weather, Wire,
};
use fastrand::Rng;

/// Faults begin when a pair that nothing disturbs is in duplex.
pub(super) const CALM_US: u64 = 1_600_000;
/// The engines' detection time.
const DETECTION_US: u64 = 50_000;

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let rng = &mut dice(seed, Place::Plan);
        let machines = 1 + rng.usize(..3);
        let lasts = CALM_US + rng.u64(1_000_000..4_000_000);
        let clients = 1 + rng.u16(..7);
        let faults = rng.usize(..7);
        let mut plan = Self {
            seed,
            pair: pair(rng),
            lan: weather(rng),
            link: link(rng),
            machines: (0..machines).map(|_| machine(rng)).collect(),
            clients: (0..clients).map(|id| client(rng, id, machines, lasts)).collect(),
            faults: faults_of(rng, faults, machines, lasts),
            heal_us: lasts,
            relays: None,
        };
        plan.put_backends(&mut dice(seed, Place::RelaysPlan), lasts);
        plan.spare_speechless();
        plan.narrow_paths(&mut dice(seed, Place::Paths));
        plan.appoint_arbiter(&mut dice(seed, Place::ArbiterPlan), lasts);
        plan.haunt(&mut dice(seed, Place::ReplayPlan), lasts);
        plan.spoil_hosts(&mut dice(seed, Place::HostsPlan), lasts);
        plan.draw_what_is_rare(seed, lasts);
        plan.join_some();
        plan.speak_http(&mut dice(seed, Place::HttpPlan), lasts);
        plan.mirror_some(&mut dice(seed, Place::MirrorPlan), lasts);
        plan
    }

    /// Of the worlds with backends a third joins. Nothing is drawn for it.
    fn join_some(&mut self) {
        let Some(relays) = self.relays.as_mut().filter(|_| self.seed.is_multiple_of(3)) else {
            return;
        };
        relays.join = true;
        for backend in &mut relays.backends {
            backend.weight = backend.weight.max(1);
        }
        self.faults.retain(|fault| !fault.what.befalls_backend());
        // One who is let in and finds no room for a second connection would have an excuse, too.
        self.pair.connections_max = self.pair.connections_max.max(1000);
        self.pair.memory_max = self.pair.memory_max.max(64 << 20);
    }

    /// A share of the worlds has an arbiter. Where it is waited for, what it is there for happens,
    /// too: both networks between the nodes fail at once, and clients reach both. Drawn apart, so
    /// that the other worlds are what they were.
    fn appoint_arbiter(&mut self, rng: &mut Rng, lasts: u64) {
        if !rarely(rng, 3) {
            return;
        }
        let arbiter = arbiter(rng);
        self.pair.arbiter = Some(arbiter);
        for _ in 0..rng.usize(..4) {
            let at_us = rng.u64(CALM_US - 200_000..lasts);
            self.faults.push(Fault { at_us, what: estrangement(rng, arbiter.stop) });
        }
        self.faults.sort_by_key(|fault| fault.at_us);
    }

    /// In half of the worlds somebody plays recordings of heartbeats. Most of what they could do needs
    /// one who starts and knows nobody: in some, both nodes die and one alone comes back.
    fn haunt(&mut self, rng: &mut Rng, lasts: u64) {
        if rng.bool() {
            return;
        }
        let mut at_us = rng.u64(CALM_US - 200_000..lasts);
        let (outputs, flushed) = (0, 1_000_000);
        match rng.u32(..8) {
            0..=3 => {
                let survivor = if rng.bool() { Target::A } else { Target::B };
                for node in [Target::A, Target::B] {
                    let restart_us = if node == survivor { 1000 } else { 0 };
                    let what = Trouble::Crash { node, outputs, flushed, restart_us };
                    self.faults.push(Fault { at_us, what });
                }
                at_us += rng.u64(..600_000);
            }
            // The primary is one that has run before, and there are recordings of that run.
            4 => {
                let node = Target::Primary;
                let what = Trouble::Crash { node, outputs, flushed, restart_us: 1000 };
                self.faults.push(Fault { at_us: CALM_US - 400_000, what });
                self.faults.push(Fault { at_us: CALM_US + 500_000, what: Trouble::Switchover });
                at_us = CALM_US + rng.u64(600_000..900_000);
            }
            _ => {}
        }
        for node in [Target::A, Target::B] {
            let (count, for_us) = (rng.u32(1..1000), rng.u64(1000..1_500_000));
            self.faults.push(Fault { at_us, what: Trouble::Replay { node, count, for_us } });
        }
        self.faults.sort_by_key(|fault| fault.at_us);
    }

    /// In a share of the worlds a host loses what it needs to carry the service, and gets it back; in some,
    /// one after the other. Drawn apart, too.
    fn spoil_hosts(&mut self, rng: &mut Rng, lasts: u64) {
        if !rarely(rng, 5) {
            return;
        }
        for _ in 0..rng.usize(1..4) {
            let at_us = rng.u64(CALM_US - 200_000..lasts);
            let node = one(rng, &[Target::A, Target::B, Target::Primary, Target::Standby]);
            let for_us = one(rng, &[30_000, 200_000, 500_000, 1_500_000]);
            self.faults.push(Fault { at_us, what: Trouble::Unfit { node, for_us } });
        }
        self.faults.sort_by_key(|fault| fault.at_us);
    }

    /// A third of the worlds has backends: some of its clients, and perhaps one more, are served by
    /// them, and things befall them. Drawn apart, too.
    fn put_backends(&mut self, rng: &mut Rng, lasts: u64) {
        if !rarely(rng, 3) {
            return;
        }
        self.relays = Some(relays(rng));
        for client in &mut self.clients {
            client.relay = rng.bool() && !matches!(client.job, Job::Fetch { .. });
        }
        let (machines, first) = (self.machines.len(), self.clients.len() as u16);
        for id in first..first + rng.u16(..2) {
            let mut client = client(rng, id, machines, lasts);
            client.relay = !matches!(client.job, Job::Fetch { .. });
            self.clients.push(client);
        }
        let foreign = |relays: &RelaysPlan| {
            relays.backends.iter().any(|backend| backend.stack == Stack::Foreign)
        };
        if self.relays.as_ref().is_some_and(foreign) {
            // Two `smoltcp` that both have no room wait for each other for ever: either's probe moves
            // its numbers out of the other's window.
            let relayed = self.clients.iter_mut().filter(|client| client.relay);
            relayed.for_each(|client| client.stack = Stack::Own);
        }
        for _ in 0..rng.usize(..3) {
            let at_us = rng.u64(CALM_US - 200_000..lasts);
            self.faults.push(Fault { at_us, what: backend_trouble(rng) });
        }
        if rng.bool() {
            self.lose_a_primary_amid_splices(rng, lasts);
        }
        if rng.bool() {
            self.knock_at_a_dead_backend(rng, lasts);
        }
        self.faults.sort_by_key(|fault| fault.at_us);
    }

    /// Clients come for a backend that has just died, before anybody has found that out.
    fn knock_at_a_dead_backend(&mut self, rng: &mut Rng, lasts: u64) {
        let at_us = rng.u64(CALM_US..lasts);
        let (backend, restart_us) = (rng.usize(..2), 400_000);
        self.faults.push(Fault { at_us, what: Trouble::BackendDies { backend, restart_us } });
        for _ in 0..2 {
            let job = Job::Echo { bytes: rng.u64(1..5000), early: rng.bool() };
            let at_us = at_us + rng.u64(1000..60_000);
            self.add_relayed(rng, lasts, at_us, job);
        }
    }

    fn add_relayed(&mut self, rng: &mut Rng, lasts: u64, at_us: u64, job: Job) {
        let (id, machines, stack) = (self.clients.len() as u16, self.machines.len(), Stack::Own);
        let client = client(rng, id, machines, lasts);
        self.clients.push(ClientPlan { at_us, stack, job, reads: 0, relay: true, ..client });
    }

    /// A splice that has much to carry, and a primary that dies or sleeps while it does.
    fn lose_a_primary_amid_splices(&mut self, rng: &mut Rng, lasts: u64) {
        let (node, outputs) = (Target::Primary, rng.u32(..20));
        let at_us = CALM_US - rng.u64(..300_000);
        let (job, what) = if rng.bool() {
            let job = Job::Talk { messages: 12, bytes: rng.u64(1..3000), pause_us: 100_000 };
            let (flushed, restart_us) = (1_000_000, 100_000);
            (job, Trouble::Crash { node, outputs, flushed, restart_us })
        } else {
            let job = Job::Echo { bytes: rng.u64(200_000..600_000), early: false };
            let for_us = rng.u64(60_000..300_000);
            (job, Trouble::Freeze { node, outputs, for_us, host: rng.bool() })
        };
        self.add_relayed(rng, lasts, at_us, job);
        self.faults.push(Fault { at_us: CALM_US + rng.u64(..600_000), what });
    }

    fn narrow_paths(&mut self, rng: &mut Rng) {
        for machine in &mut self.machines {
            machine.path_mtu = one(rng, &[0, 0, 0, 0, 0, 0, 1280, 1281, 1400, 1492]);
        }
    }

    /// A SYN cookie is remembered by the client alone. If its ACK is lost and it waits for the
    /// service to speak first, nobody ever speaks: chargen's clients get no cookies. Nor do they share a
    /// small table with others where a relay's half-open splices give way.
    fn spare_speechless(&mut self) {
        let listens = |client: &ClientPlan| matches!(client.job, Job::Chargen { .. });
        if self.clients.iter().any(|client| client.relay && listens(client)) {
            self.pair.connections_max = 1000;
        }
        if self.clients.iter().any(listens) {
            self.pair.backlog = 256;
        }
    }
}

/// One of `choices`.
pub(super) fn one<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

/// True once in `times`.
pub(super) fn rarely(rng: &mut Rng, times: u32) -> bool {
    rng.u32(..times) == 0
}

fn pair(rng: &mut Rng) -> PairPlan {
    let clock = |rng: &mut Rng| ClockPlan {
        origin_us: rng.u64(1..1 << 40),
        ppm: one(rng, &[0, 20, -50, 500, -500, 10_000, -15_000]),
        wall: 1_700_000_000 + rng.u64(..100_000_000),
    };
    let first = rng.u64(..50_000);
    let second = first + one(rng, &[1, 40_000, 300_000, 900_000]);
    PairPlan {
        offload: rng.bool(),
        vouched: rng.bool(),
        mtu: one(rng, &[1500, 1500, 1500, 1280, 9000]),
        connections_max: if rarely(rng, 6) { 1 + rng.usize(..4) } else { 1000 },
        backlog_bytes_max: one(rng, &[64 << 20, 1 << 20, 64 << 10, 4 << 10]),
        memory_max: 256 << 20,
        backlog: one(rng, &[256, 256, 1, 0]),
        output_buffer: one(rng, &[1 << 20, 64 << 10, 8 << 10, 1000]),
        receive_buffer: one(rng, &[1 << 20, 1 << 20, 64 << 10, 16 << 10, 4 << 10]),
        sack: !rarely(rng, 8),
        timestamps: !rarely(rng, 8),
        lost_peer_stops: false,
        request_timeout_us: 0,
        arbiter: None,
        time_wait_us: one(rng, &[1_000_000, 3_000_000, 60_000_000]),
        hashing: rng.bool(),
        clocks: [clock(rng), clock(rng)],
        start_us: if rng.bool() { [first, second] } else { [second, first] },
        turn_us: one(rng, &[0, 5, 20, 200, 1500]),
        #[cfg(feature = "defects")]
        defect: None,
    }
}

fn arbiter(rng: &mut Rng) -> ArbiterPlan {
    let lease_us = one(rng, &[300_000, 500_000]);
    let stop = !rarely(rng, 4);
    let timeout_us = lease_us / one(rng, &[4, 10]);
    ArbiterPlan {
        stop,
        lease_us,
        // As the configuration demands: `standin::runtime::config`.
        timeout_us: if stop { timeout_us } else { timeout_us.min(DETECTION_US) },
        delay_us: one(rng, &[50, 200, 1000, 10_000]),
        jitter_us: one(rng, &[0, 100, 3000]),
        loss: one(rng, &[0, 0, 10_000, 200_000]),
    }
}

/// What an arbiter is for, or what befalls it.
fn estrangement(rng: &mut Rng, stop: bool) -> Trouble {
    let node = one(rng, &[Target::A, Target::B, Target::Primary, Target::Standby]);
    let for_us = match rng.u32(..3) {
        0 => rng.u64(20_000..150_000),
        1 => rng.u64(100_000..500_000),
        _ => rng.u64(400_000..2_500_000),
    };
    match rng.u32(..4) {
        0 => Trouble::CutArbiter { node, for_us },
        1 => Trouble::Outage { for_us },
        _ if stop => Trouble::Estranged { for_us },
        2 => Trouble::CutArbiter { node, for_us },
        _ => Trouble::Outage { for_us },
    }
}

fn weather(rng: &mut Rng) -> Weather {
    let rare = |rng: &mut Rng| one(rng, &[0, 0, 0, 1000, 10_000]);
    Weather {
        delay_us: one(rng, &[20, 100, 100, 1000, 5000]),
        jitter_us: one(rng, &[0, 0, 10, 100, 1000]),
        loss: one(rng, &[0, 0, 1000, 10_000, 40_000]),
        duplicate: rare(rng),
        corrupt: rare(rng),
        reorder: rare(rng),
        rate: one(rng, &[0, 0, 0, 12_500, 1250]),
    }
}

/// Weather that nobody would call fair.
fn storm(rng: &mut Rng) -> Weather {
    Weather {
        delay_us: one(rng, &[100, 2000]),
        jitter_us: one(rng, &[100, 3000]),
        loss: one(rng, &[50_000, 200_000, 500_000]),
        duplicate: one(rng, &[0, 100_000]),
        corrupt: one(rng, &[0, 50_000, 200_000]),
        reorder: one(rng, &[0, 100_000]),
        rate: one(rng, &[0, 1250]),
    }
}

fn link(rng: &mut Rng) -> LinkPlan {
    LinkPlan {
        delay_us: one(rng, &[5, 50, 50, 500, 3000]),
        jitter_us: one(rng, &[0, 20, 200, 2000]),
        loss: one(rng, &[0, 0, 1000, 20_000]),
        duplicate: one(rng, &[0, 0, 10_000]),
        chunk: one(rng, &[1_000_000, 16_384, 1460, 300]),
        capacity: one(rng, &[4 << 20, 256 << 10, 32 << 10, 4 << 10]),
        rate: one(rng, &[0, 0, 0, 12_500]),
    }
}

fn machine(rng: &mut Rng) -> MachinePlan {
    MachinePlan {
        ignores: one(rng, &[0, 0, 100_000, 500_000, 1_000_000]),
        reachable_us: rng.u64(300_000..3_000_000),
        doubt_us: one(rng, &[20_000, 200_000, 1_000_000]),
        retry_us: one(rng, &[50_000, 200_000, 1_000_000]),
        confirms: rng.bool(),
        path_mtu: 0,
    }
}

pub(super) fn client(rng: &mut Rng, id: u16, machines: usize, lasts: u64) -> ClientPlan {
    let at_us = match rng.u32(..10) {
        0 => rng.u64(..CALM_US),
        1..=5 => CALM_US - rng.u64(..300_000),
        _ => rng.u64(CALM_US..lasts),
    };
    ClientPlan {
        id,
        at_us,
        stack: if rng.u32(..3) == 0 { Stack::Foreign } else { Stack::Own },
        machine: rng.usize(..machines),
        ipv6: rng.bool(),
        job: job(rng),
        receive_buffer: one(rng, &[1 << 20, 64 << 10, 64 << 10, 8 << 10]),
        reads: one(rng, &[0, 0, 0, 0, 20, 200]),
        offload: rng.bool(),
        modern: !rarely(rng, 5),
        relay: false,
    }
}

pub(super) fn relays(rng: &mut Rng) -> RelaysPlan {
    let backend = |rng: &mut Rng| BackendPlan {
        stack: if rng.bool() { Stack::Foreign } else { Stack::Own },
        machine: MachinePlan { path_mtu: one(rng, &[0, 0, 0, 0, 1280, 1400]), ..machine(rng) },
        weight: one(rng, &[1, 1, 1, 1, 3, 255, 0]),
        receive_buffer: one(rng, &[64 << 10, 64 << 10, 8 << 10]),
        reads: one(rng, &[0, 0, 0, 20, 200]),
        offload: rng.bool(),
        modern: !rarely(rng, 5),
    };
    let mut backends = [backend(rng), backend(rng)];
    if backends.iter().all(|backend| backend.weight == 0) {
        backends[0].weight = 1;
    }
    let check_us = one(rng, &[200_000, 500_000, 1_000_000, 0]);
    RelaysPlan {
        backends,
        check_us,
        timeout_us: if rng.bool() { 50_000 } else { 200_000 },
        rise: rng.u8(1..4),
        fall: rng.u8(1..4),
        join: false,
        mirror: None,
        http: None,
    }
}

/// What befalls a backend.
pub(super) fn backend_trouble(rng: &mut Rng) -> Trouble {
    let backend = rng.usize(..2);
    let restart_us = one(rng, &[0, 1000, 100_000, 400_000, 1_000_000]);
    let for_us = match rng.u32(..3) {
        0 => rng.u64(1000..60_000),
        1 => rng.u64(40_000..250_000),
        _ => rng.u64(200_000..1_500_000),
    };
    match rng.u32(..7) {
        0 | 1 => Trouble::BackendDies { backend, restart_us },
        2 | 3 => Trouble::BackendPoweroff { backend, restart_us },
        4 | 5 => Trouble::CutBackend { backend, way: way(rng), for_us },
        _ => Trouble::SlowBackend { backend, for_us },
    }
}

fn job(rng: &mut Rng) -> Job {
    let bytes = match rng.u32(..10) {
        0 => rng.u64(..3),
        1..=4 => rng.u64(1..5000),
        5..=8 => rng.u64(5000..150_000),
        _ => rng.u64(150_000..600_000),
    };
    match rng.u32(..13) {
        0..=2 => Job::Echo { bytes, early: rng.bool() },
        3 | 4 => Job::Upload { bytes },
        5 | 6 => Job::Chargen { bytes: bytes.max(1) },
        7..=9 => fetch(rng),
        10 | 11 => Job::Talk {
            messages: rng.u32(1..12),
            bytes: rng.u64(1..3000),
            pause_us: one(rng, &[0, 1000, 50_000, 300_000]),
        },
        _ => Job::Abort { bytes: bytes.clamp(1, 20_000) },
    }
}

fn fetch(rng: &mut Rng) -> Job {
    let count = 1 + rng.usize(..4);
    let request = |rng: &mut Rng| {
        let file = rng.u8(..LENGTHS.len() as u8);
        let length = LENGTHS[usize::from(file)];
        let range = (length > 1 && rng.bool()).then(|| {
            let from = rng.u64(..length - 1);
            (from, rng.u64(from..length + 10))
        });
        Request { file, range }
    };
    Job::Fetch {
        requests: (0..count).map(|_| request(rng)).collect(),
        pipelined: rng.bool(),
        half_close: rarely(rng, 3),
    }
}

fn faults_of(rng: &mut Rng, count: usize, machines: usize, lasts: u64) -> Vec<Fault> {
    // Some worlds have one kind of moment: everything at once. Others spread it out.
    let crowded = rarely(rng, 4);
    let start = rng.u64(CALM_US - 100_000..lasts);
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| {
            let at_us = match crowded {
                true => start + rng.u64(..100_000),
                false => rng.u64(CALM_US - 200_000..lasts),
            };
            Fault { at_us, what: trouble(rng, machines) }
        })
        .collect();
    faults.sort_by_key(|fault| fault.at_us);
    faults
}

fn trouble(rng: &mut Rng, machines: usize) -> Trouble {
    let node = one(
        rng,
        &[Target::Primary, Target::Primary, Target::Primary, Target::Standby, Target::A, Target::B],
    );
    let outputs = if rng.bool() { 0 } else { rng.u32(..40) };
    let restart_us = one(rng, &[0, 1000, 100_000, 400_000, 1_000_000]);
    let for_us = match rng.u32(..3) {
        0 => rng.u64(1000..60_000),
        1 => rng.u64(40_000..250_000),
        _ => rng.u64(200_000..1_500_000),
    };
    match rng.u32(..26) {
        0..=4 => {
            let flushed = one(rng, &[0, 1_000_000, rng.clone().u32(..1_000_000)]);
            Trouble::Crash { node, outputs, flushed, restart_us }
        }
        5..=7 => Trouble::Poweroff { node, outputs, restart_us },
        8..=10 => Trouble::Freeze { node, outputs, for_us, host: rng.bool() },
        11..=13 => cut(rng, node, for_us),
        14 => {
            let machine = rng.usize(..machines);
            Trouble::CutMachine { machine, way: way(rng), for_us }
        }
        15 | 16 => Trouble::ResetLink,
        17 => Trouble::StallLink { node, for_us },
        18 | 19 => Trouble::Storm { weather: storm(rng), for_us },
        20 => {
            let (wire, loss) = match rng.u32(..3) {
                0 => (Wire::Lan, one(rng, &[300_000, 1_000_000])),
                1 => (Wire::Replication, one(rng, &[300_000, 1_000_000])),
                _ => (Wire::Both, 300_000),
            };
            Trouble::BeatLoss { wire, loss, for_us }
        }
        21 => {
            let seconds = up_to(rng, 200_000) as i64 - 100_000;
            Trouble::WallJump { node, seconds }
        }
        22 | 23 => Trouble::BusyDisk { node, for_us },
        _ => Trouble::Switchover,
    }
}

pub(super) fn way(rng: &mut Rng) -> Way {
    one(rng, &[Way::Out, Way::In, Way::Both])
}

fn cut(rng: &mut Rng, node: Target, for_us: u64) -> Trouble {
    let wire = match rng.u32(..9) {
        0..=4 => Wire::Lan,
        5..=7 => Wire::Replication,
        _ => Wire::Both,
    };
    let carrier = wire == Wire::Lan && rng.bool();
    let way = if carrier { Way::Both } else { way(rng) };
    Trouble::Cut { node, wire, way, carrier, for_us }
}
