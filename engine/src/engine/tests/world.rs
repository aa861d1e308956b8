//! Two engines, a LAN, a replication link and clients on one virtual clock.
//!
//! Everything the host would do for an engine is done here, with the same order and the same write
//! gate, but with time and failures in the test's hands. Clients run this crate's own TCP as active
//! openers; what they receive is a function of (connection, offset), so a wrong byte shows at once.

use core::cell::Cell;
use core::mem::take;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::client::{Client, Mode};
use super::observer::Observer;
use crate::engine::{
    Action, Engine, LinkInput, Notice, Output, PerSource, ServicePort, Setup, Step, Turn,
};
use crate::ids::Node;
use crate::relay;
use crate::role::{Path, Policy, Timing};
use crate::service::{
    ContentId, Facts, Kind, Limits, Lookup, MemoryStore, Patience, Question, Read, Store, Verified,
};
use crate::tcp::Settings;
use crate::time::{Duration, Instant};
use crate::wire::{ArpPacket, Endpoint, FourTuple, MacAddr, VnetHeader, parse_ip};

const LAN_DELAY: Duration = Duration::from_micros(100);
const LINK_DELAY: Duration = Duration::from_micros(50);

pub(super) const ECHO: u16 = 7;
pub(super) const DISCARD: u16 = 9;
pub(super) const CHARGEN: u16 = 19;
pub(super) const FILES: u16 = 80;

/// What a relay's port is above the port of its backends.
pub(super) const RELAYED: u16 = 7000;

/// So many connections are counted anew now and then only.
const CROWD: usize = 256;

/// What travels, and to whom.
#[derive(Debug, Clone)]
enum Event {
    ToNode(Vec<u8>),
    Frame(Vec<u8>),
    Beat(Path, Vec<u8>),
    Connected(u64),
    Data(u64, Vec<u8>),
    Closed(u64),
    Refused,
}

/// One of the two hosts.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) engine: Option<Engine>,
    told: Vec<(Instant, Notice)>,
    frozen: bool,
    routes: bool,
    lan_cut: bool,
    repl_cut: bool,
    /// Generation of the replication stream that stands.
    link: Option<u64>,
    turn: Turn,
    /// What has come, and what of it this turn is about.
    inbox: VecDeque<Event>,
    event: Option<Event>,
    boots: u64,
    /// Its end of the replication stream takes bytes and does nothing with them.
    pub(super) deaf: bool,
    /// What the stream needs to this host beyond the usual.
    pub(super) link_lag: Duration,
    /// It falls asleep right before it next claims the address, and does so when it wakes.
    pub(super) sleeps_before_claim: bool,
    /// Whether its disk keeps everybody waiting.
    pub(super) disk_busy: Rc<Cell<bool>>,
    /// What its store has given and nobody has given back.
    holds: Rc<Cell<usize>>,
    /// Whether it knows the hash of no file.
    pub(super) unhashed: Rc<Cell<bool>>,
    /// Whether its last byte of every file is another, at the same length and time.
    pub(super) other_copy: bool,
}

/// A store whose disk can be made to wait.
#[derive(Debug)]
struct Disk {
    store: MemoryStore,
    busy: Rc<Cell<bool>>,
    holds: Rc<Cell<usize>>,
    unhashed: Rc<Cell<bool>>,
}

impl Disk {
    fn turn(&mut self) -> &mut MemoryStore {
        self.store.pending = self.busy.get();
        self.store.unhashed = self.unhashed.get();
        &mut self.store
    }
}

impl Store for Disk {
    fn lookup(&mut self, root: u16, path: &str) -> Lookup {
        let answer = self.turn().lookup(root, path);
        self.holds.set(self.store.holds());
        answer
    }

    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
        let answer = self.turn().verify(root, path, pinned);
        self.holds.set(self.store.holds());
        answer
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        self.turn().read(content, offset, into)
    }

    fn release(&mut self, content: ContentId) {
        self.store.release(content);
        self.holds.set(self.store.holds());
    }

    fn hash(&mut self, content: ContentId) -> Option<[u8; 32]> {
        self.turn().hash(content)
    }

    fn question(&mut self) -> Question {
        self.turn().question()
    }

    fn answered(&mut self) -> Option<Question> {
        self.turn().answered()
    }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) hosts: [Host; 2],
    pub(super) clients: Vec<Client>,
    /// Servers behind the pair, if a test has started them.
    backends: [Option<(Engine, Turn)>; 2],
    pub(super) observer: Observer,
    queue: BTreeMap<(Instant, u64), (Target, Event)>,
    serial: u64,
    /// Which host the clients' ARP caches name.
    pub(super) owner: Option<usize>,
    /// Every n-th packet in either direction is lost; 0 loses none.
    pub(super) loss: u64,
    packets: u64,
    /// The longest packet that an engine wrote.
    pub(super) longest: usize,
    /// What came to clients that are none of the world's.
    pub(super) overheard: Vec<Vec<u8>>,
    /// The most that an engine did in one step of a turn.
    pub(super) longest_step: u64,
    /// Whether no heartbeat arrives.
    pub(super) beats_lost: bool,
    /// What a test wants otherwise in every engine that starts.
    pub(super) tweak: fn(&mut Setup),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Host(usize),
    Backend(usize),
    Client,
}

/// The lab's second content file and its size.
fn store(other_copy: bool) -> MemoryStore {
    let mut store = MemoryStore::new();
    let mut body: Vec<u8> =
        (0..3_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    if let (true, Some(last)) = (other_copy, body.last_mut()) {
        *last ^= 1;
    }
    store.put(0, "big.bin", body, 1_700_000_000);
    store
}

pub(super) fn service_address() -> IpAddr {
    IpAddr::from([10, 77, 0, 100])
}

/// The lab's second service address.
fn service_address_v6() -> IpAddr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100).into()
}

fn backend_addresses(index: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x21 + u16::from(index));
    [[10, 77, 0, 21 + index].into(), v6.into()]
}

/// Every service of the backends behind a relay.
fn relays() -> Vec<relay::Settings> {
    let backend =
        |address: IpAddr, port| relay::Backend { address: Endpoint::new(address, port), weight: 1 };
    let relay = |port| relay::Settings {
        port: RELAYED + port,
        mode: relay::Mode::Splice,
        backends: (0..2).flat_map(backend_addresses).map(|ip| backend(ip, port)).collect(),
        check: relay::Check::default(),
        idle: relay::IDLE,
        client_max: relay::CLIENT_MAX,
        on_death: relay::OnDeath::Cut,
    };
    [ECHO, DISCARD, CHARGEN, FILES].map(relay).to_vec()
}

/// A server behind the pair, which is another engine on its own: it knows nothing of relays.
fn backend_setup(index: u8) -> Setup {
    Setup {
        addresses: backend_addresses(index).to_vec(),
        relays: Vec::new(),
        policy: Policy { paired: false, ..Policy::default() },
        isn_key: [40 + index; 16],
        mac: MacAddr([2, 0, 0, 0, 2, index]),
        ..setup(Node::A, 1000 + u64::from(index))
    }
}

fn setup(node: Node, boot: u64) -> Setup {
    let port = ServicePort::at;
    let mac = match node {
        Node::A => MacAddr([2, 0, 0, 0, 0, 1]),
        Node::B => MacAddr([2, 0, 0, 0, 0, 2]),
    };
    Setup {
        node,
        boot,
        addresses: vec![service_address(), service_address_v6()],
        relays: relays(),
        services: vec![
            port(ECHO, Kind::Echo),
            port(DISCARD, Kind::Discard),
            port(CHARGEN, Kind::Chargen),
            port(FILES, Kind::Files { root: 0, patience: Patience::ENDLESS }),
        ],
        tcp: Arc::new(Settings::default()),
        limits: Limits::default(),
        timing: Timing::default(),
        policy: Policy::default(),
        isn_key: [7; 16],
        table_key: [9; 16],
        parts: vec![("services".to_owned(), 1)],
        parts_3: vec![("services".to_owned(), 3)],
        mac,
        router: true,
        mtu: 1500,
        offload: true,
        clock_origin: Duration::from_secs(1000 + boot),
        backlog: 256,
        connections_max: 100_000,
        live_max: 0,
        backlog_bytes_max: 64 << 20,
        memory_max: 256 << 20,
        // What nobody comes near, so that it is counted, and audited.
        per_source: PerSource { connections: 1 << 20, rate: 1_000_000 },
        #[cfg(feature = "defects")]
        defect: None,
    }
}

impl Host {
    fn new() -> Self {
        Self {
            engine: None,
            told: Vec::new(),
            frozen: false,
            routes: false,
            lan_cut: false,
            repl_cut: false,
            link: None,
            turn: Turn::new(),
            inbox: VecDeque::new(),
            event: None,
            boots: 0,
            deaf: false,
            link_lag: Duration::ZERO,
            sleeps_before_claim: false,
            disk_busy: Rc::default(),
            holds: Rc::default(),
            unhashed: Rc::default(),
            other_copy: false,
        }
    }

    /// A process ends, and what waited for it is nobody's.
    fn rest(&mut self) {
        self.turn = Turn::new();
        self.inbox.clear();
        self.event = None;
    }

    fn runs(&self) -> bool {
        self.engine.is_some() && !self.frozen
    }
}

impl World {
    /// A world with both hosts down.
    pub(super) fn new() -> Self {
        Self {
            now: Instant::from_millis(1000),
            hosts: [Host::new(), Host::new()],
            clients: Vec::new(),
            backends: [None, None],
            observer: Observer::default(),
            queue: BTreeMap::new(),
            serial: 0,
            owner: None,
            loss: 0,
            packets: 0,
            longest: 0,
            overheard: Vec::new(),
            longest_step: 0,
            beats_lost: false,
            tweak: |_| (),
        }
    }

    /// A world in duplex, host 0 primary.
    pub(super) fn duplex() -> Self {
        Self::duplex_with(|_| ())
    }

    /// The same with engines that `tweak` has changed.
    pub(super) fn duplex_with(tweak: fn(&mut Setup)) -> Self {
        let mut world = Self::new();
        world.tweak = tweak;
        world.start(0);
        world.run_until("host 0 owns", |world| world.is_primary(0));
        world.start(1);
        world.run_until("duplex", Self::is_duplex);
        world
    }

    pub(super) fn start(&mut self, host: usize) {
        let node = [Node::A, Node::B][host];
        self.hosts[host].boots += 1;
        let boot = self.hosts[host].boots * 10 + host as u64;
        let Host { disk_busy, holds, unhashed, other_copy, .. } = &self.hosts[host];
        holds.set(0);
        let disk = Disk {
            store: store(*other_copy),
            busy: Rc::clone(disk_busy),
            holds: Rc::clone(holds),
            unhashed: Rc::clone(unhashed),
        };
        let mut setup = setup(node, boot);
        (self.tweak)(&mut setup);
        let mut engine = Engine::new(setup, Box::new(disk), self.now);
        engine.on_carrier(self.now, true);
        self.hosts[host].engine = Some(engine);
        self.serve(host);
    }

    /// How many holds a host's store has given and not got back.
    pub(super) fn holds(&self, host: usize) -> usize {
        self.hosts[host].holds.get()
    }

    pub(super) fn engine(&mut self, host: usize) -> &mut Engine {
        self.hosts[host].engine.as_mut().expect("the host runs")
    }

    pub(super) fn is_primary(&self, host: usize) -> bool {
        let role = self.hosts[host].engine.as_ref().map(|engine| engine.status(self.now).role);
        matches!(role, Some(crate::role::Role::Primary { .. }))
    }

    /// Whether a failure of the primary right now would lose nothing, by its own word.
    pub(super) fn is_duplex(&self) -> bool {
        (0..2).any(|host| {
            self.is_primary(host)
                && self.hosts[host]
                    .engine
                    .as_ref()
                    .is_some_and(|engine| engine.status(self.now).protected)
        })
    }

    /// SIGKILL: the process is gone, its kernel closes the stream.
    pub(super) fn kill(&mut self, host: usize) {
        self.hosts[host].engine = None;
        self.hosts[host].frozen = false;
        self.hosts[host].routes = false;
        self.hosts[host].rest();
        if let Some(link) = self.hosts[host].link.take()
            && !self.hosts[host].repl_cut
        {
            self.post(LINK_DELAY, Target::Host(1 - host), Event::Closed(link));
        }
    }

    /// The host vanishes: nothing more comes from it, not even a reset, and what its kernel had
    /// accepted for the link is lost with it. Packets for clients that are on the LAN arrive: that
    /// is the harder case, for they may tell of records that nobody else has.
    pub(super) fn poweroff(&mut self, host: usize) {
        self.queue.retain(|_, (target, event)| {
            *target != Target::Host(1 - host) || !matches!(event, Event::Data(..))
        });
        self.hosts[host].lan_cut = true;
        self.hosts[host].repl_cut = true;
        self.kill(host);
    }

    /// A host that vanished is back, with another process.
    pub(super) fn power_on(&mut self, host: usize) {
        self.hosts[host].lan_cut = false;
        self.hosts[host].repl_cut = false;
        self.start(host);
    }

    /// Whether a host accused its peer of breaking the replication protocol.
    pub(super) fn accused(&self) -> bool {
        let accuses = |notice: &Notice| matches!(notice, Notice::PeerBroke(_));
        self.told(0).chain(self.told(1)).any(accuses)
    }

    pub(super) fn freeze(&mut self, host: usize) {
        self.hosts[host].frozen = true;
    }

    pub(super) fn thaw(&mut self, host: usize) {
        self.hosts[host].frozen = false;
        self.serve(host);
    }

    pub(super) fn cut_lan(&mut self, host: usize, cut: bool) {
        self.hosts[host].lan_cut = cut;
        let now = self.now;
        if let Some(engine) = &mut self.hosts[host].engine {
            engine.on_carrier(now, !cut);
            self.serve(host);
        }
    }

    /// The replication stream breaks, and can be dialed again at once.
    pub(super) fn drop_link(&mut self) {
        for host in 0..2 {
            if let Some(link) = self.hosts[host].link {
                // At once, so that what is under way is lost.
                self.post(Duration::ZERO, Target::Host(host), Event::Closed(link));
            }
        }
    }

    /// A host's disk becomes quick or slow.
    pub(super) fn busy_disk(&mut self, host: usize, busy: bool) {
        self.hosts[host].disk_busy.set(busy);
        let now = self.now;
        if let (false, Some(engine)) = (busy, &mut self.hosts[host].engine) {
            engine.on_content(now);
            self.serve(host);
        }
    }

    /// A new client connection.
    pub(super) fn connect(&mut self, port: u16, mode: Mode) -> usize {
        self.connect_from(IpAddr::from([10, 77, 0, 10]), (service_address(), port).into(), mode)
    }

    /// The same over IPv6.
    pub(super) fn connect_v6(&mut self, port: u16, mode: Mode) -> usize {
        let client = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10).into();
        self.connect_from(client, (service_address_v6(), port).into(), mode)
    }

    fn connect_from(&mut self, client: IpAddr, service: SocketAddr, mode: Mode) -> usize {
        let index = self.clients.len();
        let local = SocketAddr::new(client, 40_000 + index as u16);
        let tuple = FourTuple { local: local.into(), remote: service.into() };
        self.clients.push(Client::new(self.now, index, tuple, mode));
        self.serve_client(index);
        index
    }

    fn post(&mut self, delay: Duration, target: Target, event: Event) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), (target, event));
    }

    /// Runs until `goal`, or fails after a simulated minute.
    pub(super) fn run_until(&mut self, goal: &str, done: impl Fn(&Self) -> bool) {
        let limit = self.now + Duration::from_secs(60);
        while !done(self) {
            assert!(self.now < limit, "not reached in a minute: {goal}\n{}", self.story());
            self.step();
        }
    }

    /// Runs for `time`.
    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.next_instant() <= end {
            self.step();
        }
        self.now = end;
    }

    /// Runs until every client is done, and checks that each saw what it should.
    pub(super) fn finish(&mut self) {
        self.run_until("clients done", |world| world.clients.iter().all(Client::is_done));
        // Shown when one of the checks below fails.
        println!("{}", self.story());
        for client in &self.clients {
            client.assert_good();
        }
        self.observer.assert_quiet();
    }

    /// What a host reported.
    /// What a host has told its operator.
    pub(super) fn told(&self, host: usize) -> impl Iterator<Item = &Notice> {
        self.hosts[host].told.iter().map(|(_, notice)| notice)
    }

    /// Engines that are started from now on are changed by `tweak`.
    pub(super) fn tweak(&mut self, tweak: fn(&mut Setup)) {
        self.tweak = tweak;
    }

    /// Heartbeats are lost from now on, or no longer.
    pub(super) fn lose_beats(&mut self, lost: bool) {
        self.beats_lost = lost;
    }

    /// How many connections the other node could not go on with, by what `host` knows.
    pub(super) fn unprotected(&self, host: usize) -> u32 {
        let engine = self.hosts[host].engine.as_ref();
        engine.map_or(0, |engine| engine.status(self.now).peer.unprotected)
    }

    /// What both hosts reported, for a failure's message.
    pub(super) fn story(&self) -> String {
        let mut story = String::new();
        for (index, host) in self.hosts.iter().enumerate() {
            story += &format!("host {index}:\n");
            for (at, notice) in &host.told {
                story += &format!("  {at:?} {:?} {notice}\n", notice.level());
            }
            if let Some(engine) = &host.engine {
                story += &format!("  {:?}\n", engine.status(self.now));
            }
        }
        for client in &self.clients {
            story += &client.story();
            story.push('\n');
        }
        story
    }

    fn next_instant(&self) -> Instant {
        let mut next = self.queue.keys().next().map_or(Instant::NEVER, |key| key.0);
        for host in &self.hosts {
            if let (false, Some(engine)) = (host.frozen, &host.engine) {
                next = next.min(engine.deadline());
            }
        }
        for client in &self.clients {
            next = next.min(client.deadline());
        }
        for backend in self.backends.iter().flatten() {
            next = next.min(backend.0.deadline());
        }
        next.max(self.now)
    }

    fn step(&mut self) {
        let next = self.next_instant();
        assert!(next < Instant::NEVER, "nothing will ever happen again\n{}", self.story());
        self.now = next;
        if let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= next
        {
            let (target, event) = entry.remove();
            return match target {
                Target::Host(host) => self.arrive(host, event),
                Target::Backend(backend) => self.reach_backend(backend, event),
                Target::Client => self.reach_client(&event),
            };
        }
        for host in 0..2 {
            let due = self.hosts[host].runs() && self.engine(host).deadline() <= next;
            if due {
                self.serve(host);
                // A deadline in the past after the timer would spin for ever.
                if self.engine(host).deadline() <= next {
                    self.now = next + Duration::from_micros(1);
                }
            }
        }
        for index in 0..2 {
            let due = self.backends[index].as_ref().is_some_and(|one| one.0.deadline() <= next);
            if due {
                self.turn_backend(index, None);
            }
        }
        for index in 0..self.clients.len() {
            if self.clients[index].deadline() <= next {
                self.clients[index].on_timer(next);
                self.serve_client(index);
            }
        }
    }

    fn arrive(&mut self, host: usize, event: Event) {
        if self.hosts[host].engine.is_none() {
            return;
        }
        self.hosts[host].inbox.push_back(event);
        self.serve(host);
    }

    /// Turns until there is nothing more to do, with one event a turn.
    pub(super) fn serve(&mut self, host: usize) {
        for _ in 0..2000 {
            if !self.hosts[host].runs() {
                return;
            }
            if self.hosts[host].event.is_none() {
                self.hosts[host].event = self.hosts[host].inbox.pop_front();
            }
            match self.turn(host) {
                None => return,
                Some(true) => {}
                Some(false) if self.hosts[host].inbox.is_empty() => return self.audit(host),
                Some(false) => {}
            }
        }
        panic!("host {host} never comes to rest\n{}", self.story());
    }

    /// A turn, or what is left of it. If it comes to its end, whether anything left.
    fn turn(&mut self, host: usize) -> Option<bool> {
        let mut busy = false;
        loop {
            let state = &mut self.hosts[host];
            let Some(engine) = &mut state.engine else { return None };
            let before = engine.work();
            let step = state.turn.next(engine, self.now);
            self.longest_step = self.longest_step.max(engine.work() - before);
            match step {
                Step::News => {}
                Step::Output if state.turn.claims() && take(&mut state.sleeps_before_claim) => {
                    self.freeze(host);
                    return None;
                }
                Step::Output => {
                    self.let_out(host);
                    busy = true;
                }
                Step::Done { more } => {
                    state.event = None;
                    return Some(more || busy);
                }
                asked => self.deliver(host, asked),
            }
            if let Some(engine) = &self.hosts[host].engine {
                self.longest_step = self.longest_step.max(engine.work() - before);
            }
        }
    }

    /// Hands the engine the event of this turn when it is asked for.
    fn deliver(&mut self, host: usize, asked: Step) {
        let now = self.now;
        let Host { engine: Some(engine), turn, event, link, deaf, routes, .. } =
            &mut self.hosts[host]
        else {
            return;
        };
        let due = |event: &mut Event| match event {
            Event::ToNode(_) => asked == Step::Packet,
            Event::Frame(_) => asked == Step::Frame,
            Event::Beat(..) => asked == Step::Beats,
            _ => asked == Step::Link,
        };
        match event.take_if(due) {
            Some(Event::ToNode(packet)) if *routes => read_packet(turn, engine, now, &packet),
            Some(Event::Frame(frame)) => engine.on_frame(now, &frame),
            Some(Event::Beat(path, bytes)) => engine.on_beat(now, path, &bytes),
            Some(Event::Connected(generation)) => {
                *link = Some(generation);
                engine.on_link(now, LinkInput::Connected);
            }
            Some(Event::Data(generation, bytes)) if *link == Some(generation) && !*deaf => {
                engine.on_link(now, LinkInput::Data(&bytes));
            }
            Some(Event::Closed(generation)) if *link == Some(generation) => {
                *link = None;
                engine.on_link(now, LinkInput::Closed);
            }
            Some(Event::Refused) => engine.on_link(now, LinkInput::Refused),
            Some(Event::ToNode(_) | Event::Data(..) | Event::Closed(_)) | None => {}
        }
    }

    fn let_out(&mut self, host: usize) {
        let now = self.now;
        let Host { engine: Some(engine), turn, .. } = &mut self.hosts[host] else { return };
        let packet = match turn.release(engine, now) {
            None => return,
            Some(Output::Action(action)) => return self.act(host, action),
            Some(Output::Link(bytes)) => return self.send_link(host, bytes),
            Some(Output::Packet(packet)) => packet[VnetHeader::LEN..].to_vec(),
        };
        self.leave(host, packet);
    }

    /// Every count of the host's engine is what it counts, and its store's holds are somebody's.
    fn audit(&mut self, host: usize) {
        let now = self.now;
        let Some(engine) = &self.hosts[host].engine else { return };
        if engine.table.len() > CROWD && !self.serial.is_multiple_of(64) {
            return;
        }
        if let Err(why) = engine.audit(now) {
            panic!("host {host}: {why}\n{}", self.story());
        }
        let (holds, connections) = (self.hosts[host].holds.get(), engine.table.len());
        assert!(holds == 0 || connections > 0, "host {host}: {holds} holds are nobody's");
    }

    fn act(&mut self, host: usize, action: Action) {
        let now = self.now;
        match action {
            Action::InstallRoutes => self.hosts[host].routes = true,
            Action::RemoveRoutes => self.hosts[host].routes = false,
            Action::SendFrame { frame, claims } => {
                if !self.hosts[host].lan_cut {
                    if claims && ArpPacket::parse(&frame).is_ok() {
                        self.owner = Some(host);
                    }
                    if !self.hosts[1 - host].lan_cut {
                        self.post(LAN_DELAY, Target::Host(1 - host), Event::Frame(frame));
                    }
                }
            }
            Action::SendBeat { path, bytes, .. } => {
                let cut = self.hosts.iter().any(|host| match path {
                    Path::Lan => host.lan_cut,
                    Path::Replication => host.repl_cut,
                });
                if !cut && !self.beats_lost {
                    self.post(LINK_DELAY, Target::Host(1 - host), Event::Beat(path, bytes));
                }
            }
            Action::Dial | Action::Knock => self.dial(host, action == Action::Dial),
            Action::HangUp => {
                if let Some(link) = self.hosts[host].link.take()
                    && !self.hosts[host].repl_cut
                {
                    // After what was sent before.
                    let delay = LINK_DELAY + self.hosts[1 - host].link_lag;
                    self.post(delay, Target::Host(1 - host), Event::Closed(link));
                }
            }
            Action::Report(notice) => self.hosts[host].told.push((now, notice)),
            Action::Ask(ask) => panic!("host {host} has no arbiter to ask: {ask:?}"),
            Action::Exit(reason) => panic!("host {host} exits: {reason}\n{}", self.story()),
        }
    }

    fn dial(&mut self, host: usize, connect: bool) {
        if self.hosts.iter().any(|host| host.repl_cut) {
            return;
        }
        if self.hosts[1 - host].engine.is_none() {
            self.post(LINK_DELAY * 2, Target::Host(host), Event::Refused);
        } else if connect && !self.hosts[1 - host].frozen {
            self.serial += 1;
            let generation = self.serial;
            self.post(LINK_DELAY, Target::Host(1 - host), Event::Connected(generation));
            self.post(LINK_DELAY * 2, Target::Host(host), Event::Connected(generation));
        }
    }

    fn send_link(&mut self, host: usize, bytes: Vec<u8>) {
        let cut = self.hosts.iter().any(|host| host.repl_cut);
        if let (Some(generation), false) = (self.hosts[host].link, cut) {
            let delay = LINK_DELAY + self.hosts[1 - host].link_lag;
            self.post(delay, Target::Host(1 - host), Event::Data(generation, bytes));
        }
    }

    /// A packet leaves a host.
    fn leave(&mut self, host: usize, packet: Vec<u8>) {
        self.longest = self.longest.max(packet.len());
        if !self.hosts[host].lan_cut && !self.lose() {
            assert_eq!(self.owner, Some(host), "I5: the claim comes first\n{}", self.story());
            let to = parse_ip(&packet).expect("the engine writes IP packets").dst;
            let backend = (0..2).find(|&index| backend_addresses(index).contains(&to));
            let target =
                backend.map_or(Target::Client, |index| Target::Backend(usize::from(index)));
            self.post(LAN_DELAY, target, Event::ToNode(packet));
        }
    }

    /// Starts both backends, and waits until they serve.
    pub(super) fn start_backends(&mut self) {
        for index in 0..2 {
            self.start_backend(index);
        }
        self.run_for(Duration::from_secs(5));
    }

    pub(super) fn start_backend(&mut self, index: usize) {
        self.start_backend_with(index, false);
    }

    /// The same; if asked, the last byte of its file is another.
    pub(super) fn start_backend_with(&mut self, index: usize, other_copy: bool) {
        let store = Box::new(store(other_copy));
        let mut engine = Engine::new(backend_setup(index as u8), store, self.now);
        engine.on_carrier(self.now, true);
        self.backends[index] = Some((engine, Turn::new()));
        self.turn_backend(index, None);
    }

    /// The process of a backend dies; its host lives on and refuses.
    pub(super) fn kill_backend(&mut self, index: usize) {
        let mut setup = backend_setup(index as u8);
        setup.services.clear();
        let mut engine = Engine::new(setup, Box::new(store(false)), self.now);
        engine.on_carrier(self.now, true);
        self.backends[index] = Some((engine, Turn::new()));
        self.turn_backend(index, None);
    }

    /// A backend's host loses its power.
    pub(super) fn poweroff_backend(&mut self, index: usize) {
        self.backends[index] = None;
    }

    /// How many connections each backend has.
    pub(super) fn backend_connections(&self) -> [usize; 2] {
        let count = |(engine, _): &(Engine, Turn)| engine.status(self.now).connections;
        self.backends.each_ref().map(|backend| backend.as_ref().map_or(0, count))
    }

    fn reach_backend(&mut self, index: usize, event: Event) {
        let Event::ToNode(packet) = event else { return };
        self.turn_backend(index, Some(&packet));
    }

    fn turn_backend(&mut self, index: usize, mut packet: Option<&[u8]>) {
        let now = self.now;
        let mut sent = Vec::new();
        while let Some((engine, turn)) = &mut self.backends[index] {
            match turn.next(engine, now) {
                Step::Packet => {
                    if let Some(packet) = packet.take() {
                        read_packet(turn, engine, now, packet);
                    }
                }
                Step::Output => {
                    if let Some(Output::Packet(packet)) = turn.release(engine, now) {
                        sent.push(packet[VnetHeader::LEN..].to_vec());
                    }
                }
                Step::Done { more: true } => {}
                Step::Done { more: false } => break,
                Step::Beats | Step::News | Step::Link | Step::Frame => {}
            }
        }
        for packet in sent {
            let Some(owner) = self.owner else { continue };
            if !self.hosts[owner].lan_cut && !self.lose() {
                self.post(LAN_DELAY, Target::Host(owner), Event::ToNode(packet));
            }
        }
    }

    fn lose(&mut self) -> bool {
        self.packets += 1;
        self.loss != 0 && self.packets.is_multiple_of(self.loss)
    }

    fn reach_client(&mut self, event: &Event) {
        let Event::ToNode(packet) = event else { return };
        self.observer.watch(self.now, packet);
        let mut known = false;
        for index in 0..self.clients.len() {
            if self.clients[index].on_packet(self.now, packet) {
                known = true;
                if self.clients[index].has_ended() {
                    self.observer.ended(self.clients[index].port());
                }
                self.serve_client(index);
            }
        }
        if !known {
            self.overheard.push(packet.clone());
        }
    }

    /// A talking client says so much more, and then perhaps nothing more.
    pub(super) fn say(&mut self, index: usize, bytes: u64, last: bool) {
        self.clients[index].say(bytes, last);
        self.serve_client(index);
    }

    fn serve_client(&mut self, index: usize) {
        let now = self.now;
        while let Some(packet) = self.clients[index].poll_packet(now) {
            let Some(owner) = self.owner else { continue };
            if !self.hosts[owner].lan_cut && !self.lose() {
                self.post(LAN_DELAY, Target::Host(owner), Event::ToNode(packet));
            }
        }
    }
}

/// Hands a turn that has asked for it a packet, whose checksum is fine.
pub(super) fn read_packet(turn: &mut Turn, engine: &mut Engine, now: Instant, packet: &[u8]) {
    let length = turn.put(trusted(), packet);
    turn.on_packet(engine, now, length);
}

/// A virtio header that says "the checksum is fine".
pub(super) fn trusted() -> VnetHeader {
    VnetHeader { flags: VnetHeader::DATA_VALID, ..VnetHeader::PLAIN }
}
