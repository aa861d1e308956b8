//! A whole engine, handed anything: packets, frames, heartbeats, a replication stream.
//!
//! The harness is its host, its clients and its peer. The peer can be honest for a turn
//! (`Op::Peer`, so that the engine gets into duplex, or follows a log), and lie in the next. What
//! must hold is what any host relies on: bounds on everything that is handed out or kept, packets
//! and frames that can be read, no word from who does not own the address (I3), no turning in place.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use etherparse::PacketBuilder;
use standin::engine::{
    Action, Engine, LinkInput, Output, PerSource, ServicePort, Setup, Step, Turn,
};
use standin::ids::{ConnId, Epoch, Lsn, Node, ServiceName, SpliceId};
use standin::relay::{self, Backend, CLIENT_MAX, Check, IDLE, Relays, Splice, Stage};
use standin::replica::{
    Follower, Frame, FrameReader, Heartbeat, Hello, Log, Part, Record, Refusal, ServiceRef,
    Versions,
};
use standin::role::{BeatRole, Path, Policy, Role, Timing};
use standin::service::{Kind, Limits, MemoryStore, Patience};
use standin::tcp::Settings;
use standin::time::{Duration, Instant};
use standin::wire::{
    ArpPacket, ChecksumState, Endpoint, Flags, FourTuple, IcmpError, IcmpKind, MacAddr,
    NeighbourFrame, Offload, SeqNum, TcpHeader, TcpOptions, Timestamps, VnetHeader, parse_ip,
    parse_tcp, protocol, write_icmp_error,
};

use crate::library::{WALL, library};

/// Operations in one run.
const OPS_MAX: usize = 200;
/// Bytes for the peer that may wait while nobody takes them: answers to pings, and the backlog of
/// the log with what one packet may add to it.
const LINK_MAX: usize = (1 << 20) + 4 * BACKLOG_MAX + (1 << 18);
const BACKLOG_MAX: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 40;
/// Steps of one turn.
const STEPS_MAX: usize = 20_000;
/// Turns in which everything that is due must get done.
const TURNS_MAX: usize = 2_000;

#[derive(Arbitrary, Debug)]
enum Start {
    /// As it comes up.
    Fresh,
    /// It has become primary, alone.
    Alone,
    /// It has become primary and has a standby.
    Duplex,
    /// It follows a primary.
    Standby,
}

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Segment(Shape),
    /// A backend speaks, on a leg that the engine has spoken on.
    Backend(Shape),
    /// A client and a backend find each other, as honest hosts do.
    Join {
        client: u8,
        v6: bool,
    },
    /// A router has not passed on a packet of the engine's.
    Error {
        leg: u8,
        kind: u8,
        mtu: u16,
        seq: i16,
    },
    /// Anything from the TUN.
    Packet {
        flags: u8,
        bytes: &'a [u8],
    },
    Ping {
        v6: bool,
        data: &'a [u8],
    },
    Frame(&'a [u8]),
    /// Somebody asks for a service address, or says that it is theirs.
    Arp {
        claim: bool,
        mac: u8,
    },
    BeatBytes {
        lan: bool,
        bytes: &'a [u8],
    },
    Beat {
        lan: bool,
        role: u8,
        synced: bool,
        epoch: i8,
        boot: i8,
        echo: bool,
    },
    /// The peer does what an honest one would, for so many beats.
    Peer {
        turns: u8,
    },
    Link(Stream<'a>),
    /// Whether the peer takes what is written for it.
    Deaf(bool),
    /// Time passes until the engine asks for it.
    Timer,
    Wait(u16),
    Carrier(bool),
    Switchover,
    /// The disk keeps everybody waiting, or answers.
    Disk {
        busy: bool,
    },
}

/// What comes from the peer's end of the stream.
#[derive(Arbitrary, Debug)]
enum Stream<'a> {
    Connected,
    Closed,
    Refused,
    Incompatible,
    Bytes(&'a [u8]),
    Hello {
        role: u8,
        epoch: i8,
        other_configuration: bool,
    },
    /// Records of a log that is in order.
    Records(Vec<Told<'a>>),
    Confirm(i16),
    Handover(i16),
    Ping(u8),
    Refuse,
}

/// A record of the peer's log.
#[derive(Arbitrary, Debug)]
enum Told<'a> {
    Begin(u8),
    End,
    Opened {
        conn: u8,
        service: u8,
        snapshot: bool,
        hard: &'a [u8],
        app: &'a [u8],
    },
    /// One that makes sense.
    Fresh {
        conn: u8,
        service: u8,
    },
    Input {
        conn: u8,
        offset: u16,
        bytes: &'a [u8],
    },
    /// A request that `files` understands.
    Request {
        conn: u8,
        offset: u16,
    },
    Finished {
        conn: u8,
        offset: u16,
    },
    Pin {
        conn: u8,
        bytes: &'a [u8],
    },
    Progress {
        conn: u8,
        acked: u16,
        fin: bool,
        done: bool,
    },
    Closed {
        conn: u8,
        cause: u8,
    },
    Spliced {
        splice: u8,
        client: u8,
        port: u8,
        backend: u8,
        v6: bool,
    },
    SpliceStage {
        splice: u8,
        over: bool,
    },
    Unspliced {
        splice: u8,
    },
}

/// A segment of a client.
#[derive(Arbitrary, Debug)]
struct Shape {
    client: u8,
    service: u8,
    v6: bool,
    flags: u8,
    seq: i16,
    ack: i16,
    window: u16,
    options: bool,
    request: bool,
    length: u16,
}

/// Decodes the input into a beginning and operations.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(start) = Start::arbitrary(&mut input) else { return };
    let mut world = World::new(&start);
    for _ in 0..OPS_MAX {
        if input.is_empty() || world.exited {
            return;
        }
        let Ok(op) = Op::arbitrary(&mut input) else { return };
        world.obey(&op);
        world.settle();
    }
}

/// What a client knows of its connection.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// The next number that the service will send, and the next that it expects.
    seq: u32,
    ack: u32,
}

/// The peer, as far as it is honest.
struct Peer {
    boot: u64,
    sequence: u64,
    /// Of the engine's last heartbeat: when it was sent, and in which epoch.
    heard: Option<Heartbeat>,
    connected: bool,
    reader: FrameReader,
    follower: Option<Follower>,
    /// The splices that it holds.
    relays: Relays,
    log: Log,
    deaf: bool,
}

struct World {
    now: Instant,
    engine: Engine,
    store: Shelf,
    exited: bool,
    clients: BTreeMap<(u16, u16, bool), Known>,
    /// Legs to backends, by our port.
    legs: BTreeMap<(u16, Endpoint), Known>,
    /// Which of them the engine has sent a SYN on last.
    asked: Option<(u16, Endpoint)>,
    peer: Peer,
    turn: Turn,
}

/// The disk, which the harness can make busy while the engine owns it.
type Shelf = std::rc::Rc<core::cell::Cell<bool>>;

#[derive(Debug)]
struct Disk {
    store: MemoryStore,
    busy: Shelf,
}

impl standin::service::Store for Disk {
    fn lookup(&mut self, root: u16, path: &str) -> standin::service::Lookup {
        self.store.pending = self.busy.get();
        self.store.lookup(root, path)
    }

    fn verify(
        &mut self,
        root: u16,
        path: &str,
        pinned: &standin::service::Facts,
    ) -> standin::service::Verified {
        self.store.pending = self.busy.get();
        self.store.verify(root, path, pinned)
    }

    fn read(
        &mut self,
        content: standin::service::ContentId,
        offset: u64,
        into: &mut [u8],
    ) -> standin::service::Read {
        self.store.pending = self.busy.get();
        self.store.read(content, offset, into)
    }

    fn release(&mut self, content: standin::service::ContentId) {
        self.store.release(content);
    }

    fn hash(&mut self, content: standin::service::ContentId) -> Option<[u8; 32]> {
        self.store.pending = self.busy.get();
        self.store.hash(content)
    }

    fn question(&mut self) -> standin::service::Question {
        self.store.question()
    }

    fn answered(&mut self) -> Option<standin::service::Question> {
        self.store.pending = self.busy.get();
        self.store.answered()
    }
}

fn address(v6: bool, last: u8) -> IpAddr {
    match v6 {
        true => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(last)]),
        false => IpAddr::from([10, 77, 0, last]),
    }
}

const PORTS: [(u16, Kind); 4] = [
    (7, Kind::Echo),
    (9, Kind::Discard),
    (19, Kind::Chargen),
    (80, Kind::Files { root: 0, patience: Patience::ENDLESS }),
];
const BOOT: u64 = 10;
const RELAY: u16 = 8080;

fn relay_settings() -> relay::Settings {
    let backend = |v6, last, weight| Backend { address: (address(v6, last), 80).into(), weight };
    let backends = vec![
        backend(false, 21, 1),
        backend(false, 22, 2),
        backend(true, 21, 1),
        backend(true, 22, 1),
    ];
    relay::Settings {
        port: RELAY,
        mode: relay::Mode::Splice,
        backends,
        check: Check::default(),
        idle: IDLE,
        client_max: CLIENT_MAX,
        on_death: relay::OnDeath::Cut,
    }
}

/// What a standby keeps of splices.
fn held_splices() -> Relays {
    let limits = relay::Limits {
        splices_max: CONNECTIONS_MAX,
        opening_max: CONNECTIONS_MAX,
        mtu: 1500,
        addresses: setup().addresses,
        key: [1; 16],
    };
    Relays::new(&[relay_settings()], limits)
}

fn setup() -> Setup {
    Setup {
        node: Node::A,
        boot: BOOT,
        addresses: vec![address(false, 100), address(true, 100)],
        relays: vec![relay_settings()],
        services: PORTS.map(|(port, kind)| ServicePort::at(port, kind)).to_vec(),
        tcp: Arc::new(Settings { receive_buffer: 32 << 10, ..Settings::default() }),
        limits: Limits { output_buffer: 32 << 10 },
        timing: Timing::default(),
        policy: Policy::default(),
        isn_key: [7; 16],
        table_key: [9; 16],
        parts: vec![("services".to_owned(), 1)],
        parts_3: vec![("services".to_owned(), 3)],
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        router: true,
        mtu: 1500,
        offload: true,
        clock_origin: Duration::from_secs(1000),
        backlog: 4,
        connections_max: CONNECTIONS_MAX,
        live_max: 0,
        backlog_bytes_max: BACKLOG_MAX,
        memory_max: 256 << 20,
        per_source: PerSource { connections: 1 << 20, rate: 1_000_000 },
    }
}

impl World {
    fn new(start: &Start) -> Self {
        let now = Instant::from_millis(5_000);
        let store = Shelf::default();
        let disk = Disk { store: library(), busy: Shelf::clone(&store) };
        let mut engine = Engine::new(setup(), Box::new(disk), now);
        engine.set_wall(WALL);
        let peer = Peer {
            boot: 21,
            sequence: 0,
            heard: None,
            connected: false,
            reader: FrameReader::new(),
            follower: None,
            relays: held_splices(),
            log: Log::starting_at(Lsn(1)),
            deaf: false,
        };
        let turn = Turn::new();
        let (clients, legs) = (BTreeMap::new(), BTreeMap::new());
        let (exited, asked) = (false, None);
        let mut world = Self { now, engine, store, exited, clients, legs, asked, peer, turn };
        world.begin(start);
        world
    }

    fn begin(&mut self, start: &Start) {
        match start {
            Start::Fresh => {}
            Start::Alone | Start::Duplex => {
                self.engine.on_carrier(self.now, true);
                self.settle();
                self.engine.on_link(self.now, LinkInput::Refused);
                for _ in 0..200 {
                    self.obey(&Op::Timer);
                    self.settle();
                }
                assert!(self.is_primary(), "{:?}", self.engine.status(self.now));
                if matches!(start, Start::Duplex) {
                    self.honest(40);
                    assert!(self.engine.status(self.now).protected, "duplex");
                }
            }
            Start::Standby => {
                self.engine.on_carrier(self.now, true);
                self.settle();
                self.stream(&Stream::Connected);
                self.stream(&Stream::Hello { role: 4, epoch: 3, other_configuration: false });
                self.primary_beats(false);
                self.stream(&Stream::Records(vec![Told::Begin(0), Told::End]));
                self.primary_beats(true);
                let status = self.engine.status(self.now);
                assert_eq!(status.role, Role::Standby { synced: true });
            }
        }
    }

    /// The peer beats for a while, as an honest primary does.
    fn primary_beats(&mut self, synced: bool) {
        for beat in 0..20 {
            let epoch = if self.engine_epoch() == 0 { 3 } else { 0 };
            self.beat(beat % 2 == 0, BeatRole::Primary.to_u8(), synced, epoch, 0, true);
            self.now = self.now + Duration::from_millis(5);
            self.settle();
        }
    }

    fn is_primary(&self) -> bool {
        matches!(self.engine.status(self.now).role, Role::Primary { .. })
    }

    fn obey(&mut self, op: &Op<'_>) {
        let now = self.now;
        match *op {
            Op::Segment(ref shape) => self.segment(shape),
            Op::Backend(ref shape) => {
                let at = usize::from(shape.client) % self.legs.len().max(1);
                let Some((&(port, remote), &known)) = self.legs.iter().nth(at) else { return };
                let ours = (address(remote.is_ipv6(), 100), port).into();
                self.send(shape, FourTuple { local: remote, remote: ours }, known);
            }
            Op::Join { client, v6 } => self.join(client, v6),
            Op::Error { leg, kind, mtu, seq } => self.router_says(leg, kind, mtu, seq),
            Op::Packet { flags, bytes } => {
                let vnet = VnetHeader { flags: flags & 3, ..VnetHeader::PLAIN };
                self.packet_in(vnet, bytes);
            }
            Op::Ping { v6, data } => self.packet_in(VnetHeader::PLAIN, &ping(v6, data)),
            Op::Frame(frame) => self.engine.on_frame(now, frame),
            Op::Arp { claim, mac } => {
                let (mac, service) = (MacAddr([2, 0, 0, 0, 1, mac]), [10, 77, 0, 100].into());
                let arp = match claim {
                    true => ArpPacket::announcement_request(mac, service),
                    false => ArpPacket::request(mac, [10, 77, 0, 9].into(), service),
                };
                self.engine.on_frame(now, &arp.to_frame());
            }
            Op::BeatBytes { lan, bytes } => self.engine.on_beat(now, path(lan), bytes),
            Op::Beat { lan, role, synced, epoch, boot, echo } => {
                self.beat(lan, role, synced, epoch, boot, echo);
            }
            Op::Peer { turns } => self.honest(turns % 16),
            Op::Link(ref stream) => self.stream(stream),
            Op::Deaf(deaf) => self.peer.deaf = deaf,
            Op::Timer => {
                let at = self.engine.deadline();
                if at < Instant::NEVER {
                    self.now = now.max(at);
                }
            }
            Op::Wait(millis) => self.now = now + Duration::from_millis(millis.into()),
            Op::Carrier(up) => self.engine.on_carrier(now, up),
            Op::Switchover => {
                let _ = self.engine.on_switchover(now);
            }
            Op::Disk { busy } => {
                self.store.set(busy);
                if !busy {
                    self.engine.on_content(now);
                }
            }
        }
    }

    /// What the runtime does after each event, and what it may rely on.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.exited {
                return;
            }
            let more = self.turn();
            if !more && self.engine.deadline() > self.now {
                return self.check_status();
            }
            // As a clock would, it has moved a little.
            self.now = self.now + Duration::from_micros(1);
        }
        panic!("it turns in place: {:?}", self.engine.status(self.now));
    }

    /// A turn in which nothing comes. Whether there is more to do at once.
    fn turn(&mut self) -> bool {
        for _ in 0..STEPS_MAX {
            match self.turn.next(&mut self.engine, self.now) {
                Step::Output => self.let_out(),
                Step::Done { more } => return more,
                Step::Beats | Step::News | Step::Link | Step::Frame | Step::Packet => {}
            }
        }
        panic!("a turn without end");
    }

    fn let_out(&mut self) {
        let may = self.is_primary();
        match self.turn.release(&self.engine, self.now) {
            None => {}
            Some(Output::Packet(packet)) => {
                assert!(may, "I3: a packet of who does not own the address");
                assert!(VnetHeader::parse(packet).is_some());
                let packet = packet[VnetHeader::LEN..].to_vec();
                self.learn(&packet);
            }
            Some(Output::Link(bytes)) => self.take_link(bytes),
            Some(Output::Action(action)) => self.act(action),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::SendFrame { frame, claims } => {
                assert!(NeighbourFrame::parse(&frame).is_ok_and(|f| f != NeighbourFrame::Other));
                assert!(!claims || self.is_primary(), "I3: a claim of who does not own it");
            }
            Action::SendBeat { bytes, .. } => {
                let beat = Heartbeat::decode(&bytes).expect("our own heartbeat");
                assert_eq!((beat.node, beat.boot), (Node::A, BOOT));
                self.peer.heard = Some(beat);
            }
            Action::HangUp => self.peer.hang_up(),
            Action::Ask(ask) => panic!("there is no arbiter to ask: {ask:?}"),
            Action::Report(notice) => {
                assert!(notice.to_string().len() < 2_000, "a line for a person");
            }
            Action::Exit(_) => self.exited = true,
            Action::Dial | Action::Knock | Action::InstallRoutes | Action::RemoveRoutes => {}
        }
    }

    fn take_link(&mut self, mut bytes: Vec<u8>) {
        assert!(bytes.len() <= LINK_MAX, "{} bytes wait for the peer", bytes.len());
        if !self.peer.connected {
            bytes.clear();
        } else if !self.peer.deaf {
            self.peer.read(&bytes);
            bytes.clear();
        }
        self.turn.put_back(&mut self.engine, self.now, bytes);
    }

    /// What a packet of the engine's tells whoever gets it.
    fn learn(&mut self, packet: &[u8]) {
        let ip = parse_ip(packet).expect("our own packet");
        assert!(ip.src == address(false, 100) || ip.src == address(true, 100));
        if ip.protocol != protocol::TCP || ip.fragment.is_some() {
            return;
        }
        let Ok((ours, theirs, segment)) = parse_tcp(&ip, ChecksumState::Trusted) else {
            panic!("our own segment");
        };
        let known = Known { seq: segment.seq.add(segment.len()).0, ack: segment.ack.0 };
        let remote = Endpoint::new(ip.dst, theirs);
        if relay_settings().backends.iter().any(|backend| backend.address == remote) {
            if self.legs.len() < 200 {
                let known = Known { ack: known.ack.max(1), ..known };
                self.legs.insert((ours, remote), known);
            }
            if segment.flags.contains(Flags::SYN) {
                self.asked = Some((ours, remote));
            }
        } else if self.clients.len() < 200 {
            self.clients.insert((theirs, ours, ip.src.is_ipv6()), known);
        }
    }

    fn join(&mut self, client: u8, v6: bool) {
        let shape = |flags: Flags| Shape {
            client,
            service: 5,
            v6,
            flags: flags.bits(),
            seq: 0,
            ack: 0,
            window: 60_000,
            options: true,
            request: false,
            length: 0,
        };
        self.asked = None;
        self.segment(&shape(Flags::SYN));
        self.settle();
        self.stream(&Stream::Confirm(0));
        self.settle();
        let Some((port, remote)) = self.asked else { return };
        let ours = (address(remote.is_ipv6(), 100), port).into();
        let known = self.legs.get(&(port, remote)).copied().unwrap_or_default();
        let leg = FourTuple { local: remote, remote: ours };
        self.send(&shape(Flags::SYN | Flags::ACK), leg, known);
        self.settle();
        self.segment(&shape(Flags::ACK));
    }

    /// A packet from the TUN, which may go on to the other leg of a splice at once.
    fn packet_in(&mut self, vnet: VnetHeader, packet: &[u8]) {
        let known = packet.to_vec();
        let Self { turn, engine, now, .. } = self;
        let length = turn.put(vnet, packet);
        turn.on_packet(engine, *now, length);
        if turn.next(engine, *now) != Step::Output {
            return;
        }
        let Some(Output::Packet(relayed)) = turn.release(engine, *now) else { return };
        let relayed = relayed.to_vec();
        let (Some(passed), packet) = (VnetHeader::parse(&relayed), &relayed[VnetHeader::LEN..])
        else {
            panic!("a packet without a virtio header");
        };
        assert!(self.is_primary(), "I3: a packet of who does not own the address");
        assert_eq!(passed.flags & !VnetHeader::NEEDS_CSUM, 0);
        let (before, after) =
            (parse_ip(&known).expect("it was parsed"), parse_ip(packet).expect("it was written"));
        assert_eq!(before.payload.len(), after.payload.len());
        assert_eq!(before.ttl, after.ttl);
        if vnet.flags == 0 {
            assert!(parse_tcp(&after, ChecksumState::Verify).is_ok(), "as sound as it came");
        }
        self.learn(packet);
    }

    /// An error about a packet that the engine has sent.
    fn router_says(&mut self, leg: u8, kind: u8, mtu: u16, seq: i16) {
        let legs = self.legs.iter().map(|(&(ours, remote), known)| (ours, remote, *known));
        let clients = self
            .clients
            .iter()
            .map(|(&(port, ours, v6), known)| (ours, Endpoint::new(address(v6, 10), port), *known));
        let all: Vec<_> = legs.chain(clients).collect();
        let Some(&(ours, remote, known)) = all.get(usize::from(leg) % all.len().max(1)) else {
            return;
        };
        let kind = match kind % 6 {
            0 => IcmpKind::Unreachable { hard: true },
            1 => IcmpKind::Unreachable { hard: false },
            2 => IcmpKind::TimeExceeded,
            3 => IcmpKind::ParameterProblem,
            _ => IcmpKind::TooBig { mtu: mtu.into() },
        };
        let local = (address(remote.is_ipv6(), 100), ours).into();
        let (tuple, seq) = (FourTuple { local, remote }, known.seq.wrapping_add_signed(seq.into()));
        let error = IcmpError { kind, tuple, seq: SeqNum(seq), quoted_len: 1500 };
        let mut packet = Vec::new();
        write_icmp_error(&error, address(remote.is_ipv6(), 254), 64, 1, &mut packet);
        self.packet_in(VnetHeader::PLAIN, &packet);
    }

    fn check_status(&self) {
        let status = self.engine.status(self.now);
        assert!(status.connections <= CONNECTIONS_MAX || !self.is_primary(), "a bounded table");
        assert!(status.half_open <= status.connections);
        assert!(status.splices <= CONNECTIONS_MAX || !self.is_primary(), "a bounded table");
        let loads: u32 = status.backends.iter().map(|backend| backend.splices).sum();
        assert!(loads as usize <= status.splices);
        if let Some(follower) = &self.peer.follower
            && status.role == (Role::Primary { duplex: true })
            && follower.applied().0 == status.log.0
        {
            assert_eq!(self.peer.relays.len(), status.splices, "the standby knows all of them");
        }
        assert!(status.log.1 <= status.log.0, "confirmed before it was appended");
        let primary = matches!(status.role, Role::Primary { .. });
        assert!(!(primary && status.protected) || status.peer.unprotected == 0, "I7");
        assert!(self.engine.deadline() > self.now, "what is due has been done");
    }

    fn segment(&mut self, shape: &Shape) {
        let client = 40_000 + u16::from(shape.client % 64);
        let service = match shape.service % 8 {
            at @ 0..4 => PORTS[usize::from(at)].0,
            4 => 81,
            _ => RELAY,
        };
        let known = self.clients.get(&(client, service, shape.v6)).copied().unwrap_or_default();
        let tuple = FourTuple {
            local: (address(shape.v6, 10), client).into(),
            remote: (address(shape.v6, 100), service).into(),
        };
        self.send(shape, tuple, known);
    }

    /// A segment to the engine from the local end of `tuple`.
    fn send(&mut self, shape: &Shape, tuple: FourTuple, known: Known) {
        let text: &[u8] = if shape.request { REQUEST } else { &[b'x'; 4000] };
        let payload = &text[..text.len().min(usize::from(shape.length))];
        let options = TcpOptions {
            mss: shape.options.then_some(1460),
            window_scale: shape.options.then_some(7),
            sack_permitted: shape.options,
            timestamps: shape
                .options
                .then_some(Timestamps { val: self.now.as_millis() as u32, ecr: 0 }),
            ..TcpOptions::default()
        };
        let header = TcpHeader {
            tuple,
            seq: SeqNum(known.ack.wrapping_add_signed(shape.seq.into())),
            ack: SeqNum(known.seq.wrapping_add_signed(shape.ack.into())),
            flags: Flags::from_bits_retain(shape.flags),
            window: shape.window,
            options,
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(payload);
        let _: VnetHeader = header.write(&mut packet, payload.len(), Offload::Full);
        self.packet_in(VnetHeader::PLAIN, &packet);
    }

    fn beat(&mut self, lan: bool, role: u8, synced: bool, epoch: i8, boot: i8, echo: bool) {
        let ours = self.engine_epoch();
        let peer = &mut self.peer;
        peer.sequence += 1;
        let heard = peer.heard.filter(|_| echo);
        let applied = peer.follower.as_ref().map_or(Lsn::ZERO, Follower::applied);
        let known = heard.map_or(0, |beat| beat.epoch.0);
        let heartbeat = Heartbeat {
            node: Node::B,
            role,
            synced,
            lan_ok: true,
            arbiter_ok: true,
            boot: peer.boot.wrapping_add_signed(boot.into()),
            epoch: Epoch(known.max(ours).saturating_add_signed(epoch.into())),
            sequence: peer.sequence,
            sent: self.now.as_nanos(),
            echo: heard.map_or(0, |beat| beat.sent),
            echo_boot: heard.map_or(0, |beat| beat.boot),
            applied,
            clock: if role == 4 { self.now.as_nanos() + (1 << 58) } else { 0 },
            unprotected: 0,
            fit: true,
            hears_lan: true,
        };
        self.engine.on_beat(self.now, path(lan), &heartbeat.encode());
    }

    fn engine_epoch(&self) -> u64 {
        self.engine.status(self.now).epoch.0
    }

    /// An honest standby: it connects, greets, confirms what it got, and beats.
    fn honest(&mut self, turns: u8) {
        self.peer.deaf = false;
        for _ in 0..turns {
            if self.exited {
                return;
            }
            if !self.peer.connected {
                self.stream(&Stream::Connected);
                self.stream(&Stream::Hello { role: 0, epoch: 0, other_configuration: false });
            }
            self.settle();
            self.stream(&Stream::Confirm(0));
            let synced = self.peer.follower.as_ref().is_some_and(Follower::is_synced);
            let role = if synced { BeatRole::Standby } else { BeatRole::Joining };
            for lan in [false, true] {
                self.beat(lan, role.to_u8(), synced, 0, 0, true);
            }
            self.now = self.now + Duration::from_millis(5);
            self.settle();
        }
    }

    fn stream(&mut self, stream: &Stream<'_>) {
        let now = self.now;
        let bytes = match *stream {
            Stream::Connected => {
                self.peer.hang_up();
                self.peer.connected = true;
                return self.engine.on_link(now, LinkInput::Connected);
            }
            Stream::Closed => {
                self.peer.hang_up();
                return self.engine.on_link(now, LinkInput::Closed);
            }
            Stream::Refused => return self.engine.on_link(now, LinkInput::Refused),
            Stream::Incompatible => {
                self.peer.hang_up();
                return self.engine.on_link(now, LinkInput::Incompatible("another key"));
            }
            Stream::Bytes(bytes) => bytes.to_vec(),
            Stream::Hello { role, epoch, other_configuration } => {
                self.peer.hello(self.engine_epoch(), role, epoch, other_configuration)
            }
            Stream::Records(ref records) => {
                let epoch = Epoch(self.engine_epoch());
                self.peer.records(records, epoch, now)
            }
            Stream::Confirm(step) => {
                let applied = self.peer.follower.as_ref().map_or(0, |f| f.applied().0);
                let lsn = Lsn(applied.saturating_add_signed(step.into()));
                if lsn == Lsn::ZERO {
                    return;
                }
                encoded(&Frame::Confirm { lsn, unprotected: 0 })
            }
            Stream::Handover(step) => {
                let lsn = self.engine.status(now).log.0.saturating_add_signed(step.into());
                encoded(&Frame::Handover { epoch: Epoch(self.engine_epoch() + 1), lsn: Lsn(lsn) })
            }
            Stream::Ping(count) => {
                (0..count).flat_map(|n| encoded(&Frame::Ping { token: n.into() })).collect()
            }
            Stream::Refuse => encoded(&Frame::Refuse { reason: Refusal::Busy, text: "busy" }),
        };
        if self.peer.connected {
            self.engine.on_link(now, LinkInput::Data(&bytes));
        }
    }
}

impl Peer {
    fn hang_up(&mut self) {
        self.connected = false;
        self.reader = FrameReader::new();
        self.follower = None;
        self.relays.forget();
        self.log = Log::starting_at(Lsn(1));
    }

    /// What the engine wrote must be a stream that a standby can follow.
    fn read(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(frame) = self.reader.next(&mut input).expect("our own frames") {
            let Frame::Log { first, epoch, mut records, .. } = frame else { continue };
            let follower = self.follower.get_or_insert_with(|| Follower::new(epoch));
            follower.on_log(first, epoch).expect("our own log");
            while let Some((_, record)) = follower.next(&mut records).expect("our own records") {
                let held = match record {
                    Record::SnapshotBegin { .. } => {
                        self.relays.forget();
                        Ok(())
                    }
                    Record::Spliced { splice, client, backend, seq, ts } => {
                        let joined = Splice { client, backend, seq, ts };
                        self.relays.hold(Instant::ZERO, splice, joined)
                    }
                    Record::SpliceStage { splice, over } => {
                        let stage = if over { Stage::Over } else { Stage::Open };
                        self.relays.hold_stage(splice, stage)
                    }
                    Record::Unspliced { splice } => self.relays.release(splice),
                    _ => Ok(()),
                };
                assert_eq!(held, Ok(()), "a splice that a standby can hold");
            }
        }
    }

    fn hello(&self, known: u64, role: u8, epoch: i8, other: bool) -> Vec<u8> {
        let digest = if other { 2 } else { 1 };
        encoded(&Frame::Hello(Hello {
            versions: Versions::OURS,
            node: Node::B,
            boot: self.boot,
            role,
            epoch: Epoch(known.saturating_add_signed(epoch.into())),
            config: vec![Part::new("services", digest)],
            config_3: vec![Part::new("services", digest + 2)],
        }))
    }

    fn records(&mut self, told: &[Told<'_>], epoch: Epoch, now: Instant) -> Vec<u8> {
        for record in told.iter().take(50) {
            record.append(&mut self.log);
        }
        let mut out = Vec::new();
        self.log.flush(epoch, now.as_nanos() + (1 << 58), &mut out);
        out
    }
}

impl Told<'_> {
    fn append(&self, log: &mut Log) {
        let conn = |conn: u8| ConnId(u64::from(conn % 8) + 1);
        let splice = |splice: u8| SpliceId(u64::from(splice % 8) + 1);
        let mut fresh = Vec::new();
        let record = match *self {
            Told::Begin(count) => Record::SnapshotBegin { connections: count.into() },
            Told::End => Record::SnapshotEnd,
            Told::Opened { conn: name, service, snapshot, hard, app } => {
                let (tuple, service) =
                    (tuple(name, service), ServiceRef::Index((service % 5).into()));
                Record::Opened { conn: conn(name), tuple, service, snapshot, hard, app }
            }
            Told::Fresh { conn: name, service } => {
                hard().encode(&mut fresh);
                let port = PORTS[usize::from(service % 4)].0;
                let (tuple, service) = (tuple(name, service), ServiceName(port.into()));
                let (hard, app, service) = (&fresh[..], &[][..], ServiceRef::Name(service));
                Record::Opened { conn: conn(name), tuple, service, snapshot: false, hard, app }
            }
            Told::Input { conn: name, offset, bytes } => {
                Record::Input { conn: conn(name), offset: offset.into(), ts_recent: 0, bytes }
            }
            Told::Request { conn: name, offset } => {
                let (conn, offset) = (conn(name), offset.into());
                Record::Input { conn, offset, ts_recent: 0, bytes: REQUEST }
            }
            Told::Finished { conn: name, offset } => {
                Record::PeerFinished { conn: conn(name), offset: offset.into() }
            }
            Told::Pin { conn: name, bytes } => Record::Pin { conn: conn(name), bytes },
            Told::Progress { conn: name, acked, fin, done } => Record::Progress {
                conn: conn(name),
                acked: acked.into(),
                window: 60_000,
                ts_recent: 0,
                fin_acked: fin,
                handshake_done: done,
            },
            Told::Closed { conn: name, cause } => Record::Closed { conn: conn(name), cause },
            Told::Spliced { splice: name, client, port, backend, v6 } => {
                let ours = |port: u16| Endpoint::new(address(v6, 100), port);
                let remote = (address(v6, 10), 40_000 + u16::from(client % 64)).into();
                let client = FourTuple { local: ours(RELAY), remote };
                // Some are of no backend, and some of none that can be.
                let remote = (address(v6, 21 + backend % 3), 80).into();
                let backend = FourTuple { local: ours(u16::from(port) * 16), remote };
                Record::Spliced { splice: splice(name), client, backend, seq: 1000, ts: 7 }
            }
            Told::SpliceStage { splice: name, over } => {
                Record::SpliceStage { splice: splice(name), over }
            }
            Told::Unspliced { splice: name } => Record::Unspliced { splice: splice(name) },
        };
        // Input without bytes is no record that a primary writes.
        if !matches!(record, Record::Input { bytes: [], .. }) {
            let _ = log.append(&record);
        }
    }
}

const REQUEST: &[u8] = b"GET /docs/long HTTP/1.1\r\nHost: h\r\n\r\n";

fn tuple(conn: u8, service: u8) -> FourTuple {
    let (port, _) = PORTS[usize::from(service) % PORTS.len()];
    FourTuple {
        local: (address(false, 100), port).into(),
        remote: (address(false, 10), 40_000 + u16::from(conn)).into(),
    }
}

fn hard() -> standin::tcp::Hard {
    standin::tcp::Hard {
        iss: SeqNum(1000),
        irs: SeqNum(2000),
        snd_scale: 7,
        rcv_scale: 1,
        peer_mss: 1460,
        sack: true,
        ecn: true,
        timestamps: false,
        ts_offset: 0,
        ts_recent: 0,
        mtu: 1500,
        ipv6: false,
        active_open: false,
        handshake_done: true,
        syn_received: true,
        acked: 0,
        snd_wnd: 60_000,
        received: 0,
        consumed: 0,
        received_edge: 32 << 10,
        peer_fin: false,
        fin_acked: false,
        srtt: Duration::from_millis(1),
    }
}

fn path(lan: bool) -> Path {
    if lan { Path::Lan } else { Path::Replication }
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

/// An echo request to the service address.
fn ping(v6: bool, data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(9_000)];
    let (from, to) = (10, 100);
    let mut packet = Vec::new();
    let written = match (address(v6, from), address(v6, to)) {
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            .icmpv6_echo_request(1, 2)
            .write(&mut packet, data),
        _ => PacketBuilder::ipv4([10, 77, 0, from], [10, 77, 0, to], 64)
            .icmpv4_echo_request(1, 2)
            .write(&mut packet, data),
    };
    assert!(written.is_ok(), "a ping of 9000 bytes at most");
    packet
}
