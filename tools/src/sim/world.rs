//! The world: one queue of events, one clock that is true, and everybody in it.
//!
//! ```text
//!   clients ── machines ── lan ──┬── host a ─── engine ──┐
//!   (client)  (neighbours)       │   (node)              ├── streams, heartbeats (link)
//!                                └── host b ─── engine ──┘
//! ```
//!
//! [`World::step`] takes the next event. What it does to somebody is in the file of that name;
//! this one holds the queue, and what everybody needs.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::arbiter::Arbiter;
use super::backend::{Backend, Kind as Behind, RelaysPlan, narrowest, served};
use super::client::{Endpoint, Foreign, Outgoing, Own, Standing};
use super::content::Content;
use super::dice::{Place, dice};
use super::fragments::Jigsaw;
use super::host::Host;
use super::http::{Desk, Sightings};
use super::lan::{BACKENDS, Machine, SERVICE};
use super::link::Streams;
use super::packets::Reader;
use super::plan::{ClientPlan, Job, Plan, Stack, Weather};
use super::promise::Promise;
use super::run::Tell;
use super::tally::Tally;
use super::trace::Trace;
use super::trouble::Cuts;
use super::watch::Watch;
use super::weather::Line;
use crate::oracle::{Facts, File, Invariant, Kind as Answers, NodeId, Service, Sight};
use standin::role::{Ask, Path, Reply};
use standin::wire::ChecksumState;

/// One second in the world's time.
pub const SECOND: u64 = 1_000_000_000;

/// What happens next, and to whom.
#[derive(Debug)]
pub(super) enum Event {
    /// A host's loop turns.
    Turn { host: usize, serial: u64 },
    /// An IP packet reaches a host. `stray`: another host passed it on.
    Packet { host: usize, packet: Outgoing, stray: bool },
    /// An Ethernet frame reaches a host.
    Frame { host: usize, frame: Vec<u8> },
    /// A heartbeat reaches a host.
    Beat { host: usize, path: Path, bytes: Vec<u8> },
    /// An interface notices.
    Carrier { host: usize, up: bool },
    /// A host finds out whether it can carry the service.
    Fitness { host: usize },
    /// A host tells its engine what its LAN interface carries.
    Mtu { host: usize },
    /// An IP packet reaches a machine.
    ToMachine { machine: usize, from: usize, packet: Vec<u8> },
    /// An Ethernet frame reaches a machine.
    FrameToMachine { machine: usize, frame: Vec<u8> },
    /// A machine's neighbour cache has something to do.
    Machine { machine: usize, serial: u64 },
    /// A backend has something to do.
    Backend { backend: usize, serial: u64 },
    /// A backend's process is started.
    BackendStart { backend: usize },
    /// A client connects.
    Connect { client: usize },
    /// A client has something to do.
    Client { client: usize, serial: u64 },
    /// A dial or a knock reaches the peer.
    Syn { from: usize, id: u64, knock: bool },
    /// The peer's kernel answered it.
    SynAnswer { to: usize, id: u64, accepted: bool },
    /// The next piece of what `from` sent on a stream arrives.
    Pipe { stream: u64, from: usize },
    /// The fault of this number strikes.
    Strike { fault: usize },
    /// It is over.
    Relief { fault: usize, host: usize, serial: u64 },
    /// A question reaches the arbiter, from a host's process of this number.
    Ask { host: usize, boot: u64, ask: Ask },
    /// Its answer reaches the host.
    Answer { host: usize, boot: u64, number: u64, reply: Reply },
    /// A host's engine is started.
    Start { host: usize },
}

/// A client and what the world knows of it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) machine: usize,
    pub(super) plan: Option<ClientPlan>,
    pub(super) endpoint: Option<Box<dyn Endpoint>>,
    pub(super) wake_at: u64,
    pub(super) wake_serial: u64,
    /// The design promises nothing more about this connection.
    pub(super) excused: Option<&'static str>,
    /// Its end has been counted.
    pub(super) counted: bool,
    /// A packet of the service has reached it.
    pub(super) answered: bool,
    /// The backend that it is joined to.
    pub(super) joined: Option<usize>,
}

/// A line of a run's story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, in nanoseconds of the world's time.
    pub at: u64,
    /// What.
    pub text: String,
    /// Whether it is no more than a packet.
    pub packet: bool,
}

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in nanoseconds of the world's time.
    pub at: u64,
    /// Which rule: an invariant's name, `lost connection`, `convergence` and the like.
    pub rule: String,
    /// What.
    pub text: String,
}

/// The world.
#[expect(missing_debug_implementations, reason = "holds a watcher of unknown kind")]
pub struct World {
    pub(super) plan: Plan,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    serial: u64,
    pub(super) hosts: [Host; 2],
    /// Those of clients, and then those of backends.
    pub(super) machines: Vec<Machine>,
    pub(super) backends: Vec<Backend>,
    /// The numbers of backends' SYN-ACKs: whose, and how often it had died before.
    pub(super) offers: BTreeMap<u32, (usize, u64)>,
    pub(super) clients: Vec<Client>,
    pub(super) by_ends: BTreeMap<(SocketAddr, SocketAddr), usize>,
    /// What is noted of HTTP, and what has become of that.
    pub(super) desk: Desk,
    pub(super) sightings: Sightings,
    pub(super) streams: Streams,
    pub(super) arbiter: Arbiter,
    /// Packets in pieces.
    pub(super) jigsaw: Jigsaw,
    pub(super) cuts: Cuts,
    /// What the LAN is like now.
    pub(super) weather: Weather,
    /// Heartbeats lost on each path, per million.
    pub(super) beat_loss: [u32; 2],
    /// Dice for heartbeats of each host, and for its packets and frames to the other one.
    pub(super) beat_lines: [Line; 2],
    /// What somebody who listens has of each node's heartbeats, and the dice for playing them.
    pub(super) recorded: [Vec<(Path, Vec<u8>)>; 2],
    pub(super) recorder: fastrand::Rng,
    pub(super) lines: [Line; 2],
    pub(super) promise: Promise,
    /// Faults are over: everything has to come to a good end.
    pub(super) healed: bool,
    pub(super) content: Arc<Content>,
    pub(super) tally: Tally,
    trace: Trace,
    watch: Box<dyn Watch>,
    /// The story so far, if it is to be told.
    pub(super) story: Option<Vec<Told>>,
    /// Puts packets into words, if they are part of the story.
    reader: Option<Reader>,
    pub(super) violation: Option<Violation>,
    /// Outputs of engines so far: places where a crash can strike.
    pub(super) outputs: [u64; 2],
    /// Connections that were reset for want of memory, and whose clients have not heard of it yet.
    pub(super) greedy: u64,
    /// When whoever stalled may be attached again, by the primary's own word.
    pub(super) shunned_until: u64,
}

impl World {
    /// The world that `plan` describes, at its beginning, shown to `watch`.
    #[must_use]
    pub fn new(plan: Plan, watch: Box<dyn Watch>) -> Self {
        let seed = plan.seed;
        let host = |index: usize| Host::new(seed, index, &plan.pair.clocks[index]);
        let behind: Vec<_> = plan.relays.iter().flat_map(|relays| relays.backends).collect();
        let machine = |(index, plan)| Machine::new(seed, index, plan);
        let mut machines: Vec<_> = plan.machines.iter().enumerate().map(machine).collect();
        machines.extend(
            (0..).zip(&behind).map(|(index, plan)| Machine::of_backend(seed, index, &plan.machine)),
        );
        let first = plan.machines.len();
        let backend = |(index, plan): (usize, &_)| Backend::new(seed, index, first + index, *plan);
        let http = plan.relays.iter().filter_map(|relays| relays.http);
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            serial: 0,
            hosts: [host(0), host(1)],
            cuts: Cuts::new(machines.len()),
            machines,
            backends: behind.iter().enumerate().map(backend).collect(),
            offers: BTreeMap::new(),
            clients: Vec::new(),
            by_ends: BTreeMap::new(),
            desk: Desk::new(http.flat_map(|http| http.editions.into_iter().flatten())),
            sightings: Sightings::default(),
            streams: Streams::new(seed),
            arbiter: Arbiter::new(seed),
            jigsaw: Jigsaw::default(),
            weather: plan.lan,
            beat_loss: [0; 2],
            recorded: [Vec::new(), Vec::new()],
            recorder: dice(seed, Place::Replay),
            beat_lines: [0, 1].map(|host| Line::new(dice(seed, Place::Beats(host)))),
            lines: [0, 1].map(|host| Line::new(dice(seed, Place::Between(host)))),
            promise: Promise::default(),
            healed: false,
            content: Arc::new(Content::new()),
            tally: Tally::default(),
            trace: Trace::new(),
            watch,
            story: None,
            reader: None,
            violation: None,
            outputs: [0; 2],
            greedy: 0,
            shunned_until: 0,
            plan,
        };
        world.schedule();
        world
    }

    /// Puts everything that the plan holds into the queue.
    fn schedule(&mut self) {
        for host in 0..2 {
            let at = self.plan.pair.start_us[host] * 1000;
            self.post_at(at, Event::Start { host });
        }
        for plan in self.plan.clients.clone() {
            let client = self.clients.len();
            let at = plan.at_us * 1000;
            let machine = plan.machine.min(self.plan.machines.len().saturating_sub(1));
            self.clients.push(Client::new(machine, Some(plan)));
            self.post_at(at, Event::Connect { client });
        }
        for fault in 0..self.plan.faults.len() {
            self.post_at(self.plan.faults[fault].at_us * 1000, Event::Strike { fault });
        }
    }

    /// What an observer knows beforehand.
    #[must_use]
    pub fn facts(plan: &Plan) -> Facts {
        let service = |service: standin::engine::ServicePort| {
            use standin::service::Kind;
            let kind = match service.kind {
                Kind::Echo => Answers::Echo,
                Kind::Discard => Answers::Discard,
                Kind::Chargen => Answers::Chargen,
                Kind::Files { .. } => Answers::Files,
                Kind::Join(_) | Kind::Exchange(..) | Kind::Mirror(..) => {
                    unreachable!("the pair's own services join nobody")
                }
            };
            Service { port: service.port, kind }
        };
        let relay = |(port, kind): (u16, Behind)| {
            let kind = match kind {
                Behind::Echo => Answers::Echo,
                Behind::Discard => Answers::Discard,
                Behind::Chargen => Answers::Chargen,
                Behind::Http => Answers::Others,
            };
            Service { port, kind }
        };
        let backends = |relays: &RelaysPlan| -> Vec<SocketAddr> {
            let of = |address| served(relays).map(move |(port, _)| SocketAddr::new(address, port));
            BACKENDS.into_iter().flatten().flat_map(of).collect()
        };
        let services = super::host::services(&plan.pair).into_iter();
        let spliced = plan.relays.iter().filter(|relays| !relays.dials());
        let joins = plan.relays.iter().filter(|relays| relays.dials());
        let joined = joins.clone().flat_map(|relays| served(relays).map(relay));
        let content = Content::new();
        let file = |(name, bytes): (String, &[u8])| File {
            path: format!("/{name}"),
            content: bytes.to_vec(),
        };
        Facts {
            addresses: SERVICE.to_vec(),
            macs: [0, 1].map(|host| super::host::mac(host).0),
            services: services.map(service).chain(joined).collect(),
            relays: spliced.clone().flat_map(|relays| served(relays).map(relay)).collect(),
            backends: spliced.flat_map(backends).collect(),
            dialled: joins.flat_map(backends).collect(),
            files: content.iter().map(file).collect(),
            mtu: plan.pair.mtu,
            offload: plan.pair.offload,
            detection: standin::role::Timing::default().detection.as_nanos() as u64,
        }
    }

    /// The world's true time in nanoseconds.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// What must not have happened, if anything.
    #[must_use]
    pub const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// What happened how often.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The run's fingerprint so far, and how many things it is of.
    #[must_use]
    pub const fn fingerprint(&self) -> (u64, u64) {
        (self.trace.hash(), self.trace.events())
    }

    /// Outputs of each node's engines so far: the places at which a crash can strike it.
    #[must_use]
    pub const fn outputs(&self) -> [u64; 2] {
        self.outputs
    }

    /// The host whose engine says that it owns the service address, if exactly one does.
    #[must_use]
    pub fn primary(&self) -> Option<usize> {
        match [0, 1].map(|host| self.hosts[host].engine.is_some() && self.hosts[host].word.owner) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            [false, false] | [true, true] => None,
        }
    }

    /// Whether there is one primary and it says that its failure would lose nothing.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.primary().is_some_and(|host| self.hosts[host].word.protected)
    }

    /// Brings an endpoint of another's making into the world, on a machine of the plan. It sends
    /// from now on. Returns its number.
    pub fn join(&mut self, machine: usize, endpoint: Box<dyn Endpoint>) -> usize {
        let client = self.clients.len();
        self.clients.push(Client::new(machine, None));
        self.install(client, endpoint);
        client
    }

    /// How an endpoint fares; `None`: it has not connected yet, or there is none of this number.
    #[must_use]
    pub fn standing(&self, client: usize) -> Option<&Standing> {
        self.clients.get(client)?.endpoint.as_deref().map(Endpoint::standing)
    }

    /// Whether the design promises nothing about this connection any more.
    #[must_use]
    pub fn excuse(&self, client: usize) -> Option<&'static str> {
        self.clients.get(client)?.excused
    }

    /// From now on so much of the story is told.
    pub fn tell(&mut self, tell: Tell) {
        self.story = (tell != Tell::Nothing).then(Vec::new);
        self.reader = (tell == Tell::Packets).then(Reader::default);
    }

    fn tell_of_packet(&mut self, sight: Sight<'_>) {
        let Some(reader) = &mut self.reader else { return };
        let (node, way, packet, check) = match sight {
            Sight::PacketIn { node, packet } => (node, "takes", packet, ChecksumState::Verify),
            Sight::PacketOut { node, packet } => (node, "sends", packet, ChecksumState::Trusted),
            _ => return,
        };
        let text = format!("{} {way} {}", node.name(), reader.line(packet, check));
        if let Some(story) = &mut self.story {
            story.push(Told { at: self.now, text, packet: true });
        }
    }

    pub(super) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(Told { at: self.now, text: line(), packet: false });
        }
    }

    /// Shows the watcher something, and writes it into the fingerprint.
    pub(super) fn see(&mut self, sight: Sight<'_>) {
        let node = |node: NodeId| u64::from(node.0);
        let (kind, who, bytes): (u8, u64, &[u8]) = match sight {
            Sight::PacketOut { node: n, packet } => (1, node(n), packet),
            Sight::PacketIn { node: n, packet } => (2, node(n), packet),
            Sight::FrameOut { node: n, frame } => (3, node(n), frame),
            Sight::LinkUp { node: n, stream } => (4, node(n) ^ stream << 1, &[]),
            Sight::LinkOut { node: n, stream, bytes } => (5, node(n) ^ stream << 1, bytes),
            Sight::LinkIn { node: n, stream, bytes } => (6, node(n) ^ stream << 1, bytes),
            Sight::LinkDown { node: n, stream } => (7, node(n) ^ stream << 1, &[]),
            Sight::Routes { node: n, installed } => (8, node(n) ^ u64::from(installed) << 1, &[]),
            Sight::Started { node: n } => (9, node(n), &[]),
            Sight::Ended { node: n } => (10, node(n), &[]),
            Sight::Frozen { node: n } => (11, node(n), &[]),
            Sight::Thawed { node: n } => (12, node(n), &[]),
            Sight::Says { node: n, owner, epoch, protected } => {
                let flags = u64::from(owner) << 1 | u64::from(protected) << 2;
                (13, node(n) ^ flags ^ epoch << 3, &[])
            }
            Sight::Excused { client, .. } => (14, client.port().into(), &[]),
            Sight::Breakable { client, .. } => (15, client.port().into(), &[]),
        };
        self.trace.add(self.now, kind, who, bytes);
        self.tell_of_packet(sight);
        self.watch.see(self.now, sight);
        while let Some((invariant, text)) = self.watch.complaint() {
            if invariant == Invariant::I3 && self.promise.is_split() && !self.is_strict() {
                // Row 15 of the truth table: no two nodes can tell it from a dead peer.
                self.tally.add("two speakers in a split", 1);
            } else {
                self.complain(&invariant.to_string(), text);
            }
        }
    }

    /// Something happened that must not have. The first is kept.
    pub(super) fn complain(&mut self, rule: &str, text: String) {
        if self.violation.is_none() {
            self.say(|| format!("VIOLATION {rule}: {text}"));
            self.violation = Some(Violation { at: self.now, rule: rule.to_owned(), text });
        }
    }

    pub(super) fn post(&mut self, delay: u64, event: Event) {
        self.post_at(self.now.saturating_add(delay), event);
    }

    pub(super) fn post_at(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), event);
    }

    /// A number that was never used.
    pub(super) fn fresh(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Runs until `end`, or until something is wrong. Returns whether all is well.
    pub fn run_until(&mut self, end: u64) -> bool {
        while self.violation.is_none()
            && self.queue.first_key_value().is_some_and(|(key, _)| key.0 <= end)
        {
            self.step();
        }
        if self.violation.is_none() {
            self.now = self.now.max(end);
        }
        self.violation.is_none()
    }

    /// The next event. Returns whether there was one.
    pub fn step(&mut self) -> bool {
        let Some(((at, _), event)) = self.queue.pop_first() else { return false };
        self.now = at;
        match event {
            Event::Turn { host, serial } => self.on_turn(host, serial),
            Event::Packet { host, packet, stray } => self.packet_reaches_host(host, packet, stray),
            Event::Frame { host, frame } => self.frame_reaches_host(host, frame),
            Event::Beat { host, path, bytes } => self.beat_reaches_host(host, path, bytes),
            Event::Carrier { host, up } => self.carrier_changes(host, up),
            Event::Fitness { host } => self.fitness_is_known(host),
            Event::Mtu { host } => self.host_mtu_is_known(host),
            Event::ToMachine { machine, from, packet } => {
                self.packet_reaches_machine(machine, from, &packet);
            }
            Event::FrameToMachine { machine, frame } => self.frame_reaches_machine(machine, &frame),
            Event::Machine { machine, serial } => self.machine_wakes(machine, serial),
            Event::Backend { backend, serial } => self.backend_wakes(backend, serial),
            Event::BackendStart { backend } => self.backend_starts(backend),
            Event::Connect { client } => self.connect(client),
            Event::Client { client, serial } => self.client_wakes(client, serial),
            Event::Syn { from, id, knock } => self.syn_arrives(from, id, knock),
            Event::SynAnswer { to, id, accepted } => self.syn_answered(to, id, accepted),
            Event::Pipe { stream, from } => self.pipe_delivers(stream, from),
            Event::Strike { fault } => self.strike_planned(fault),
            Event::Relief { fault, host, serial } => self.relieve(fault, host, serial),
            Event::Ask { host, boot, ask } => self.arbiter_is_asked(host, boot, ask),
            Event::Answer { host, boot, number, reply } => {
                self.arbiter_answers(host, boot, number, reply);
            }
            Event::Start { host } => self.start(host),
        }
        true
    }

    // ---- clients ----

    fn connect(&mut self, client: usize) {
        let Some(plan) = self.clients[client].plan.clone() else { return };
        let port = match plan.job {
            Job::Echo { .. } | Job::Talk { .. } | Job::Abort { .. } => 7,
            Job::Upload { .. } => 9,
            Job::Chargen { .. } => 19,
            Job::Fetch { .. } | Job::Burst { .. } | Job::Dawdle { .. } => 80,
            Job::Http { journal, .. } => 80 + u16::from(journal),
        };
        let port = if plan.relay { port + 7000 } else { port };
        let machine = &self.machines[self.clients[client].machine];
        let family = usize::from(plan.ipv6);
        let local = SocketAddr::new(machine.addresses[family], 40_000 + plan.id);
        let ends = (local, SocketAddr::new(SERVICE[family], port));
        let random = dice(self.plan.seed, Place::Client(plan.id)).u64(..);
        let (now, mtu) = (self.now, self.plan.pair.mtu);
        let known = (&self.content, &self.desk);
        let endpoint: Box<dyn Endpoint> = match plan.stack {
            Stack::Own => Box::new(Own::new(now, &plan, ends, mtu, known, random)),
            Stack::Foreign => {
                // It does not discover what the path behind a relay carries.
                let mtu = if plan.relay { narrowest(&self.plan) } else { mtu };
                Box::new(Foreign::new(now, &plan, ends, mtu, known, random))
            }
        };
        if plan.reads > 0 {
            self.tally.add("slow reader", 1);
        }
        self.say(|| format!("client {} connects: {:?} {:?}", plan.id, plan.stack, plan.job));
        self.install(client, endpoint);
    }

    fn install(&mut self, client: usize, endpoint: Box<dyn Endpoint>) {
        self.by_ends.insert(endpoint.ends(), client);
        self.clients[client].endpoint = Some(endpoint);
        self.tally.add("connections", 1);
        self.serve_client(client);
    }

    fn client_wakes(&mut self, client: usize, serial: u64) {
        if self.clients[client].wake_serial != serial {
            return;
        }
        self.clients[client].wake_at = u64::MAX;
        if let Some(endpoint) = &mut self.clients[client].endpoint {
            endpoint.on_timer(self.now);
        }
        self.serve_client(client);
    }

    /// Sends what a client has to send, notes how it fares, and sets its alarm.
    pub(super) fn serve_client(&mut self, client: usize) {
        while let Some(outgoing) = self.clients[client]
            .endpoint
            .as_mut()
            .and_then(|endpoint| endpoint.poll_packet(self.now))
        {
            self.machine_sends(self.clients[client].machine, outgoing);
        }
        self.settle_desk();
        self.note_standing(client);
        let now = self.now;
        let state = &mut self.clients[client];
        let Some(endpoint) = &mut state.endpoint else { return };
        let deadline = endpoint.deadline(now);
        if deadline == u64::MAX {
            state.wake_serial = 0;
            state.wake_at = u64::MAX;
            return;
        }
        // A deadline that has passed would spin for ever.
        let at = deadline.max(now + 1000);
        if at != state.wake_at {
            state.wake_at = at;
            let serial = self.fresh();
            self.clients[client].wake_serial = serial;
            self.post_at(at, Event::Client { client, serial });
        }
    }

    /// Connections and splices of the owner.
    fn load(&self) -> (usize, usize) {
        let load = |host: usize| {
            let state = &self.hosts[host];
            let status = state.engine.as_ref()?.status(state.clock.at(self.now));
            Some((status.connections, status.splices))
        };
        self.primary().and_then(load).unwrap_or_default()
    }

    /// Whether the owner has no room for another connection.
    pub(super) fn is_full(&self) -> bool {
        self.load().0 >= self.plan.pair.connections_max
    }

    /// Whether it has none for another connection, or for another splice.
    pub(super) fn has_no_room(&self) -> bool {
        let (connections, splices) = self.load();
        connections.max(splices) >= self.plan.pair.connections_max
    }

    fn note_standing(&mut self, client: usize) {
        let state = &self.clients[client];
        let standing = state.endpoint.as_ref().map(|endpoint| endpoint.standing());
        if state.counted || standing.is_none_or(|standing| *standing == Standing::Working) {
            return;
        }
        let (no_room, no_backend) = (self.has_no_room(), self.has_no_backend(client));
        let state = &mut self.clients[client];
        let Some(endpoint) = &state.endpoint else { return };
        state.counted = true;
        if no_room && !state.answered && matches!(endpoint.standing(), Standing::Lost(_)) {
            // A client that finds the table full until its patience ends never had a connection.
            state.excused = Some("it was never let in: the table was full");
        }
        if no_backend && matches!(endpoint.standing(), Standing::Lost(_)) {
            state.excused.get_or_insert("there was no backend for it");
        }
        let (standing, story, excused) =
            (endpoint.standing().clone(), endpoint.story(), state.excused);
        self.say(|| format!("client {client}: {story}"));
        match (standing, excused) {
            (Standing::Working, _) => {}
            (Standing::Content, _) => self.tally.add("connections done", 1),
            (Standing::Lost(_), Some(_)) => self.tally.add("connections lost, excused", 1),
            (Standing::Lost(_), None) => self.complain("lost connection", story),
            (Standing::Wrong(_), _) => self.complain("I6 wrong bytes", story),
        }
    }

    /// The design promises nothing more about the connections that there are.
    pub(super) fn excuse_all(&mut self, why: &'static str) {
        let mut any = false;
        for client in 0..self.clients.len() {
            let state = &mut self.clients[client];
            let Some(endpoint) = &state.endpoint else { continue };
            // A client that is done is excused, too: the pair may still hold its connection.
            any |= state.excused.is_none();
            state.excused.get_or_insert(why);
            // Told each time: who had sent no more than a SYN had no connection the last time.
            let (client, service) = endpoint.ends();
            self.see(Sight::Excused { client, service, why });
        }
        if any {
            self.say(|| format!("every connection is excused: {why}"));
            self.tally.add("excuses", 1);
        }
    }

    /// Bytes that the services of both engines have taken since they were started.
    pub(super) fn bytes_taken(&self) -> u64 {
        let taken = |host: &super::host::Host| {
            let engine = host.engine.as_ref()?;
            Some(engine.status(host.clock.at(self.now)).stats.bytes_in)
        };
        let behind = self.backends.iter().map(Backend::bytes_taken);
        self.hosts.iter().filter_map(taken).sum::<u64>() + behind.sum::<u64>()
    }

    /// Whether everybody has what they wanted, but for those who are excused.
    #[must_use]
    pub fn is_content(&self) -> bool {
        self.clients.iter().all(|client| {
            client.excused.is_some()
                || client
                    .endpoint
                    .as_ref()
                    .is_some_and(|endpoint| *endpoint.standing() == Standing::Content)
        })
    }

    /// The story so far: when, and what.
    #[must_use]
    pub fn story(&self) -> &[Told] {
        self.story.as_deref().unwrap_or_default()
    }
}

impl Client {
    fn new(machine: usize, plan: Option<ClientPlan>) -> Self {
        Self {
            machine,
            plan,
            endpoint: None,
            wake_at: u64::MAX,
            wake_serial: 0,
            excused: None,
            counted: false,
            answered: false,
            joined: None,
        }
    }
}
