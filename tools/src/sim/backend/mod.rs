//! Backends: two servers behind the pair, on machines of the LAN.
//!
//! ```text
//!   client ── service:7007 ═ engine ═ service:PORT ── backend 0, 1 :7007 (echo), 7009, 7019
//! ```
//!
//! They know nothing of a pair: to them the service address is a client like any other. Each
//! connection is a TCP of its own, this project's or `smoltcp`, with an [`app`] above it. When the
//! process dies its connections are reset and its ports refuse; when the host is gone it is silent,
//! and knows nothing when it is back.

mod app;
mod foreign;
mod own;
mod plan;

use core::net::SocketAddr;
use std::collections::BTreeMap;

use super::client::Outgoing;
use super::dice::{Place, dice};
use super::http;
use super::lan::{BACKENDS, refusal};
use super::offload::{ends, quoted_ends};
use super::plan::{Plan, Stack};
use super::trouble::Cuts;
use super::world::{Event, SECOND, World};
use fastrand::Rng;
use standin::relay;
use standin::time::Duration;
use standin::wire::{ChecksumState, Flags, SeqNum, parse_ip, parse_tcp};

pub(super) use app::Kind;
pub use plan::{BackendPlan, MirrorPlan, RelaysPlan};

/// The relays' ports, which are the backends' as well, and what answers there.
pub(super) const RELAYS: [(u16, Kind); 5] = [
    (7007, Kind::Echo),
    (7009, Kind::Discard),
    (7019, Kind::Chargen),
    (http::REPLAY, Kind::Http),
    (http::JOURNAL, Kind::Http),
];
/// How long the pair may take a backend for what it is no more.
pub(super) const LAG: u64 = 3 * SECOND;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Lives,
    /// TIME-WAIT: a new one may take its place.
    Waits,
    /// Nothing is left of it.
    Over,
}

/// One connection of a backend. Times are the world's, in nanoseconds.
trait Server: core::fmt::Debug {
    fn on_packet(&mut self, now: u64, packet: &[u8]);
    fn on_timer(&mut self, now: u64);
    fn deadline(&mut self, now: u64) -> u64;
    fn poll_packet(&mut self, now: u64) -> Option<Outgoing>;
    /// Its process is gone: it is reset, or ends as if all had been said.
    fn kill(&mut self, now: u64, orderly: bool);
    /// Its application stands still, or goes on.
    fn stand_still(&mut self, still: bool);
    fn condition(&self) -> Condition;
    /// Input that the application has taken.
    fn taken(&self) -> u64;
    fn story(&self) -> String;
}

#[derive(Debug)]
struct Served {
    server: Box<dyn Server>,
    /// The number of the SYN that opened it.
    irs: SeqNum,
}

/// A server's host.
#[derive(Debug)]
pub(super) struct Backend {
    plan: BackendPlan,
    /// Its number among the machines.
    pub(super) machine: usize,
    powered: bool,
    /// The process is there, and listens.
    pub(super) runs: bool,
    /// Faults that let its application stand still.
    still: u32,
    rng: Rng,
    served: BTreeMap<(SocketAddr, SocketAddr), Served>,
    /// What ended connections had taken.
    taken: u64,
    wake_at: u64,
    wake_serial: u64,
    /// How often it has lost all its connections.
    pub(super) deaths: u64,
    /// When it last was not at its best: gone, or cut off.
    trouble_at: u64,
    /// When it was last gone, cut off or silent, as far as that is over.
    bad_at: u64,
    /// When it died, or fell silent.
    falls: Vec<u64>,
    /// When an owner began to hold one of its addresses for down.
    pub(super) held_for_down: Vec<u64>,
    /// Which of its addresses the owner last said to be down, by relay and family: when.
    pub(super) said_down: [[Option<u64>; 2]; RELAYS.len()],
}

impl Backend {
    pub(super) fn new(seed: u64, index: usize, machine: usize, plan: BackendPlan) -> Self {
        Self {
            plan,
            machine,
            powered: true,
            runs: true,
            still: 0,
            rng: dice(seed, Place::Backend(index * 4 + 3)),
            served: BTreeMap::new(),
            taken: 0,
            wake_at: u64::MAX,
            wake_serial: 0,
            deaths: 0,
            trouble_at: 0,
            bad_at: 0,
            falls: Vec::new(),
            held_for_down: Vec::new(),
            said_down: Default::default(),
        }
    }

    /// Whether the pair may hold it for gone: it is, or was a moment ago, or is not to be used.
    pub(super) fn is_troubled(&self, now: u64, cuts: &Cuts) -> bool {
        let gone = !self.runs || cuts.machine_in(self.machine) || cuts.machine_out(self.machine);
        let lately = self.trouble_at > 0 && now - self.trouble_at < LAG;
        gone || lately || self.plan.weight == 0
    }

    /// Whether it has been anything but at its best since then.
    pub(super) fn has_been_troubled(&self, since: u64, cuts: &Cuts) -> bool {
        self.is_bad(cuts) || self.bad_at > since || self.falls.iter().any(|at| *at >= since)
    }

    fn is_bad(&self, cuts: &Cuts) -> bool {
        let cut = cuts.machine_in(self.machine) || cuts.machine_out(self.machine);
        !self.runs || cut || self.still > 0
    }

    /// How often it has died or fallen silent since then, or was held for down.
    pub(super) fn falls(&self, since: u64) -> usize {
        self.falls.iter().chain(&self.held_for_down).filter(|at| **at >= since).count()
    }

    /// Bytes that its applications have taken.
    pub(super) fn bytes_taken(&self) -> u64 {
        self.taken + self.served.values().map(|served| served.server.taken()).sum::<u64>()
    }

    pub(super) fn story(&self) -> String {
        let state = match (self.powered, self.runs) {
            (false, _) => "no power",
            (true, false) => "no process",
            (true, true) => "runs",
        };
        let lines = self.served.values().map(|served| format!("\n  {}", served.server.story()));
        format!("{state}{}", lines.collect::<String>())
    }
}

/// How the pair is told of the relays.
pub(super) fn relays(plan: &RelaysPlan) -> Vec<relay::Settings> {
    let relay = |(port, _): (u16, Kind)| {
        let backends = plan.backends.iter().zip(BACKENDS);
        let backends = backends.flat_map(|(backend, addresses)| {
            addresses.map(|address| relay::Backend {
                address: SocketAddr::new(address, port).into(),
                weight: backend.weight.into(),
            })
        });
        relay::Settings {
            port,
            mode: if plan.dials() { relay::Mode::Join } else { relay::Mode::Splice },
            backends: backends.collect(),
            check: relay::Check {
                interval: Duration::from_micros(plan.check_us),
                timeout: Duration::from_micros(plan.timeout_us),
                rise: plan.rise,
                fall: plan.fall,
                http: None,
            },
            idle: relay::IDLE,
            client_max: relay::CLIENT_MAX,
            on_death: relay::OnDeath::Keep,
        }
    };
    served(plan).map(relay).collect()
}

/// Which of [`RELAYS`] there are.
pub(super) fn served(plan: &RelaysPlan) -> impl Iterator<Item = (u16, Kind)> + use<> {
    let http = plan.http.is_some();
    RELAYS.into_iter().filter(move |(_, kind)| (*kind == Kind::Http) == http)
}

/// The longest packet that reaches everybody who may be behind a relay. A TCP that does not
/// discover it, such as `smoltcp`, must be told.
pub(super) fn narrowest(plan: &Plan) -> u16 {
    let backends = plan.relays.iter().flat_map(|relays| &relays.backends);
    let paths = plan.machines.iter().chain(backends.map(|backend| &backend.machine));
    let paths = paths.map(|machine| machine.path_mtu).filter(|mtu| *mtu > 0);
    paths.fold(plan.pair.mtu, u16::min)
}

impl World {
    /// A packet reaches a backend's machine.
    pub(super) fn backend_hears(&mut self, backend: usize, packet: &[u8]) {
        let now = self.now;
        let Some((remote, local)) = ends(packet) else {
            if let Some(ends) = quoted_ends(packet)
                && let Some(served) = self.backends[backend].served.get_mut(&ends)
            {
                served.server.on_packet(now, packet);
                self.serve_backend(backend);
            }
            return;
        };
        let Some((seq, flags)) = seq_and_flags(packet) else { return };
        if !self.machines[self.backends[backend].machine].addresses.contains(&local.ip()) {
            // Its address was damaged.
            return;
        }
        let opens = flags.contains(Flags::SYN) && !flags.intersects(Flags::ACK | Flags::RST);
        let known = self.backends[backend].served.get_mut(&(local, remote));
        let makes_room = |served: &Served| {
            // RFC 6191: what came before lies below.
            let end = served.irs.add(served.server.taken() as u32 + 1);
            served.server.condition() == Condition::Waits && seq.after(end)
        };
        if opens && known.as_deref().is_none_or(makes_room) && self.backends[backend].runs {
            self.backend_accepts(backend, (local, remote), packet, seq);
        } else if let Some(served) = self.backends[backend].served.get_mut(&(local, remote)) {
            served.server.on_packet(now, packet);
        } else if let Some(outgoing) = refusal(packet) {
            if opens {
                self.tally.add("SYN refused by a backend", 1);
            }
            let machine = self.backends[backend].machine;
            self.machine_sends(machine, outgoing);
        }
        self.serve_backend(backend);
    }

    fn backend_accepts(
        &mut self,
        backend: usize,
        (local, remote): (SocketAddr, SocketAddr),
        syn: &[u8],
        irs: SeqNum,
    ) {
        let mut served = self.plan.relays.iter().flat_map(served);
        let kind = served.find(|(port, _)| *port == local.port()).map(|(_, kind)| kind);
        let http = self.plan.relays.as_ref().and_then(|relays| relays.http);
        let deaths = self.backends[backend].deaths;
        let speaker = http.map(|http| {
            let edition = http.editions[backend][usize::from(deaths > 0)];
            http::Server::new(backend, edition, http.chunk[backend], self.desk.clone())
        });
        let (now, mtu, narrow) = (self.now, self.plan.pair.mtu, narrowest(&self.plan));
        let state = &mut self.backends[backend];
        let random = state.rng.u64(..);
        let mirror = self.plan.relays.as_ref().and_then(|relays| relays.mirror);
        let differs = mirror.filter(|_| backend == 1).and_then(|mirror| mirror.differs_at);
        let app = kind.map(|kind| app::App::new(now, kind, speaker, state.plan.reads, differs));
        let server: Option<Box<dyn Server>> = app.and_then(|app| match state.plan.stack {
            Stack::Own => own::Own::accept(now, &state.plan, app, syn, mtu, random)
                .map(|server| Box::new(server) as Box<dyn Server>),
            Stack::Foreign => {
                let ends = (local, remote);
                foreign::Foreign::accept(now, &state.plan, app, ends, syn, narrow, random)
                    .map(|server| Box::new(server) as Box<dyn Server>)
            }
        });
        let Some(mut server) = server else { return };
        server.stand_still(state.still > 0);
        if let Some(old) = state.served.insert((local, remote), Served { server, irs }) {
            state.taken += old.server.taken();
        }
    }

    pub(super) fn backend_wakes(&mut self, backend: usize, serial: u64) {
        let now = self.now;
        let state = &mut self.backends[backend];
        if state.wake_serial != serial {
            return;
        }
        state.wake_at = u64::MAX;
        for Served { server, .. } in state.served.values_mut() {
            if server.deadline(now) <= now {
                server.on_timer(now);
            }
        }
        self.serve_backend(backend);
    }

    /// Sends what a backend has to send, forgets what is over, and sets its alarm.
    fn serve_backend(&mut self, backend: usize) {
        let now = self.now;
        let state = &mut self.backends[backend];
        let (mut out, mut due) = (Vec::new(), u64::MAX);
        let Backend { served, taken, .. } = state;
        served.retain(|_, Served { server, .. }| {
            while let Some(outgoing) = server.poll_packet(now) {
                out.push(outgoing);
            }
            due = due.min(server.deadline(now));
            let over = server.condition() == Condition::Over;
            *taken += if over { server.taken() } else { 0 };
            !over
        });
        let (machine, deaths) = (state.machine, state.deaths);
        for outgoing in out {
            if let Some((seq, flags)) = seq_and_flags(&outgoing.packet)
                && flags.contains(Flags::SYN | Flags::ACK)
            {
                self.offers.insert(seq.0, (backend, deaths));
            }
            self.machine_sends(machine, outgoing);
        }
        // A deadline that has passed would spin for ever.
        let at = if due == u64::MAX { due } else { due.max(now + 1000) };
        if at < self.backends[backend].wake_at {
            let serial = self.fresh();
            let state = &mut self.backends[backend];
            (state.wake_at, state.wake_serial) = (at, serial);
            self.post_at(at, Event::Backend { backend, serial });
        }
        self.settle_desk();
    }

    /// A backend's process is gone, and perhaps its host. `orderly`: its connections end as if all had been
    /// said.
    pub(super) fn backend_ends(&mut self, backend: usize, powered: bool, orderly: bool) {
        let now = self.now;
        let Some(state) = self.backends.get_mut(backend) else { return };
        if !state.powered {
            return;
        }
        (state.runs, state.powered) = (false, powered);
        state.deaths += 1;
        state.falls.push(now);
        state.taken += state.served.values().map(|served| served.server.taken()).sum::<u64>();
        let served = core::mem::take(&mut state.served);
        let machine = state.machine;
        for Served { mut server, .. } in served.into_values().filter(|_| powered) {
            server.kill(now, orderly);
            while let Some(outgoing) = server.poll_packet(now) {
                self.machine_sends(machine, outgoing);
            }
        }
        self.machines[machine].powered = powered;
        self.promise_after_backend(backend);
    }

    /// It is there again, and knows nothing.
    pub(super) fn backend_starts(&mut self, backend: usize) {
        let Some(state) = self.backends.get_mut(backend) else { return };
        if state.runs {
            return;
        }
        (state.runs, state.powered, state.trouble_at) = (true, true, self.now);
        state.bad_at = self.now;
        let machine = state.machine;
        if !core::mem::replace(&mut self.machines[machine].powered, true) {
            self.machines[machine].forget();
        }
        self.say(|| format!("backend {backend}: runs"));
    }

    /// A fault more that lets its application stand still, or one less.
    pub(super) fn backend_stands_still(&mut self, backend: usize, still: bool) {
        let Some(state) = self.backends.get_mut(backend) else { return };
        state.still = if still { state.still + 1 } else { state.still.saturating_sub(1) };
        let now = self.now;
        if still {
            state.falls.push(now);
        }
        state.bad_at = now;
        for Served { server, .. } in state.served.values_mut() {
            server.stand_still(state.still > 0);
            server.on_timer(now);
        }
        self.serve_backend(backend);
    }

    /// Nothing lets its application stand still any more.
    pub(super) fn backend_is_free(&mut self, backend: usize) {
        if core::mem::take(&mut self.backends[backend].still) > 0 {
            self.backend_stands_still(backend, false);
        }
    }

    /// Something happens to a backend's line.
    pub(super) fn backend_is_troubled(&mut self, backend: usize) {
        if let Some(state) = self.backends.get_mut(backend) {
            state.trouble_at = self.now;
        }
    }

    /// A backend's line is cut, or mended.
    pub(super) fn backend_is_cut(&mut self, backend: usize, cut: bool) {
        self.backend_is_troubled(backend);
        let now = self.now;
        let Some(state) = self.backends.get_mut(backend) else { return };
        state.bad_at = now;
        if cut {
            state.falls.push(now);
        }
    }

    /// Everything is about to heal.
    pub(super) fn backends_recover(&mut self) {
        let Self { backends, cuts, now, .. } = self;
        for state in backends {
            if state.is_bad(cuts) {
                state.bad_at = *now;
            }
        }
    }
}

fn seq_and_flags(packet: &[u8]) -> Option<(SeqNum, Flags)> {
    let ip = parse_ip(packet).ok()?;
    let (.., segment) = parse_tcp(&ip, ChecksumState::Trusted).ok()?;
    Some((segment.seq, segment.flags))
}
