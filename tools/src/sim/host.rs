//! One of the two hosts: a kernel, a clock, a disk, and perhaps an engine's process.

use core::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use super::backend::{RELAYS, RelaysPlan, relays, served};
use super::budget::Meter;
use super::clock::Clock;
use super::content::Content;
use super::dice::{Place, dice};
use super::frames::Progress;
use super::plan::{ClockPlan, PairPlan, Slip};
use fastrand::Rng;
use standin::engine::{Engine, Obstacle, PerSource, ServicePort, Setup, Turn};
use standin::ids::Node;
use standin::role::{LostPeer, Path, Policy, Timing};
use standin::service::{
    ContentId, Facts, JoinPatience, Kind, Limits, Lookup, MemoryStore, Patience, Question, Read,
    Store, Verified,
};
use standin::tcp::Settings;
use standin::time::Duration;
use standin::wire::{MacAddr, VnetHeader};

/// Packets that a TUN device holds for its reader.
pub(super) const TUN_QUEUE: usize = 500;
/// Datagrams and frames that a socket holds for its reader.
pub(super) const SOCKET_QUEUE: usize = 250;
/// Lines of an engine's log that are kept for a person.
const LOG: usize = 400;

/// What waits for the process.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) beats: VecDeque<(Path, Vec<u8>)>,
    pub(super) carrier: Option<bool>,
    pub(super) fit: Option<bool>,
    pub(super) mtu: Option<u16>,
    pub(super) answers: super::arbiter::Answers,
    pub(super) content: bool,
    pub(super) switchover: bool,
    pub(super) links: VecDeque<LinkNews>,
    pub(super) frames: VecDeque<Vec<u8>>,
    pub(super) packets: VecDeque<(VnetHeader, Vec<u8>)>,
}

impl Inbox {
    pub(super) fn has_more(&self) -> bool {
        !(self.links.is_empty() && self.frames.is_empty() && self.packets.is_empty())
    }
}

/// What the kernel tells about streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkNews {
    /// A connection was accepted: the handshake can begin.
    Accepted(u64),
    /// The next piece of a stream.
    Piece(u64, Piece),
    /// A dial or knock was refused.
    Refused(u64),
}

/// A piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The other end proves the key: this end is open.
    Proof,
    /// Bytes.
    Data(Vec<u8>),
    /// The end.
    Close,
}

/// What interrupts a process right before an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fuse {
    /// Outputs that still happen.
    pub(super) outputs: u32,
    /// The fault in the plan.
    pub(super) fault: usize,
}

/// A dial under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) since: u64,
    /// The peer's kernel has not answered.
    pub(super) connecting: bool,
}

/// What a node last said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) owner: bool,
    pub(super) epoch: u64,
    pub(super) protected: bool,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) engine: Option<Engine>,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) boots: u64,
    pub(super) powered: bool,
    /// The process stands still, and perhaps the host with it.
    pub(super) frozen: bool,
    pub(super) host_frozen: bool,
    /// Which freeze is in force, so that an older one's end does not end it.
    pub(super) freezes: u64,
    pub(super) routes: bool,
    /// What is wrong with its configuration, and since when its process has been running with that.
    pub(super) slips: Vec<Slip>,
    pub(super) wrong_since: Option<u64>,
    /// What its LAN interface carries, if that is less than it should be.
    pub(super) mtus: Vec<u16>,
    /// When its engine last said that the peer is no partner.
    pub(super) told_at: Option<u64>,
    /// What its process takes.
    pub(super) meter: Meter,
    pub(super) inbox: Inbox,
    pub(super) turn: Turn,
    /// Whether something has happened to the engine since it was last listened to.
    pub(super) changed: bool,
    pub(super) fuse: Option<Fuse>,
    /// When the next turn is due, and which of the scheduled ones counts.
    pub(super) turn_at: u64,
    pub(super) turn_serial: u64,
    pub(super) link: Option<u64>,
    /// How much of a frame the link has brought.
    pub(super) progress: Progress,
    /// When the link was adopted.
    pub(super) linked_at: u64,
    pub(super) attempt: Option<Attempt>,
    pub(super) knock: Option<(u64, u64)>,
    pub(super) disk_busy: Rc<Cell<bool>>,
    pub(super) word: Word,
    /// Which backends it said to be down, by relay, backend and family.
    pub(super) down: [[[bool; 2]; 2]; RELAYS.len()],
    /// When a heartbeat last reached the engine.
    pub(super) heard_at: u64,
    pub(super) log: VecDeque<String>,
}

impl Host {
    pub(super) fn new(seed: u64, index: usize, clock: &ClockPlan) -> Self {
        Self {
            engine: None,
            clock: Clock::new(clock),
            rng: dice(seed, Place::Host(index)),
            boots: 0,
            powered: true,
            frozen: false,
            host_frozen: false,
            freezes: 0,
            routes: false,
            slips: Vec::new(),
            wrong_since: None,
            mtus: Vec::new(),
            told_at: None,
            meter: Meter::default(),
            inbox: Inbox::default(),
            turn: Turn::new(),
            changed: false,
            fuse: None,
            turn_at: u64::MAX,
            turn_serial: 0,
            link: None,
            progress: Progress::default(),
            linked_at: 0,
            attempt: None,
            knock: None,
            disk_busy: Rc::default(),
            word: Word::default(),
            down: Default::default(),
            heard_at: 0,
            log: VecDeque::new(),
        }
    }

    /// Whether the process can take a turn.
    pub(super) fn runs(&self) -> bool {
        self.engine.is_some() && !self.frozen
    }

    /// Whether its process knows of no other node.
    pub(super) fn is_alone(&self) -> bool {
        self.slips.contains(&Slip::Alone)
    }

    /// Whether the kernel takes what arrives.
    pub(super) fn receives(&self) -> bool {
        self.powered && !self.host_frozen
    }

    /// Whether the engine may put a packet of the service address on the wire (I3).
    pub(super) fn may_speak(&self, now: u64) -> bool {
        self.engine.as_ref().is_some_and(|engine| self.clock.at(now) < engine.speak_until())
    }

    pub(super) fn note(&mut self, now: u64, line: &str) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:>12.6} {line}", now as f64 / 1e9));
    }
}

/// What a host says that is in its way.
pub(super) fn obstacles(fit: bool) -> Vec<Obstacle> {
    if fit { Vec::new() } else { vec![Obstacle::TunDown { interface: "standin0".to_owned() }] }
}

/// The hardware address of a host.
pub(super) const fn mac(host: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, 1 + host as u8])
}

/// The ports and what answers there.
pub(super) fn services(plan: &PairPlan) -> Vec<ServicePort> {
    let request = match plan.request_timeout_us {
        0 => Duration::MAX,
        micros => Duration::from_micros(micros),
    };
    let files = Kind::Files { root: 0, patience: Patience { request, ..Patience::ENDLESS } };
    let services = [(7, Kind::Echo), (9, Kind::Discard), (19, Kind::Chargen), (80, files)];
    services.map(|(port, kind)| ServicePort::at(port, kind)).to_vec()
}

/// The relays that have connections of their own. Those that join wait for nobody in vain: nothing
/// befalls the backends there, or one of two alone.
fn sessions(behind: Option<&RelaysPlan>) -> impl Iterator<Item = ServicePort> + use<'_> {
    let patience = JoinPatience { connect: Duration::from_secs(9), idle: Duration::MAX };
    let behind = behind.into_iter().filter(|behind| behind.dials());
    behind.flat_map(move |behind| {
        served(behind).map(move |(port, _)| {
            let kind = match (behind.http, behind.mirror) {
                (Some(http), _) => http.kind(port),
                (None, Some(mirror)) => super::mirrored::kind(mirror),
                (None, None) => Kind::Join(patience),
            };
            ServicePort::at(port, kind)
        })
    })
}

/// A configuration that is right. `random` follows from the seed and the boot.
pub(super) fn setup(
    plan: &PairPlan,
    behind: Option<&RelaysPlan>,
    host: usize,
    boot: u64,
    random: u64,
) -> Setup {
    let tcp = Settings {
        receive_buffer: plan.receive_buffer,
        sack: plan.sack,
        timestamps: plan.timestamps,
        time_wait: Duration::from_micros(plan.time_wait_us),
        ..Settings::default()
    };
    Setup {
        node: [Node::A, Node::B][host],
        boot,
        addresses: super::lan::SERVICE.to_vec(),
        relays: behind.map(relays).unwrap_or_default(),
        services: services(plan).into_iter().chain(sessions(behind)).collect(),
        tcp: Arc::new(tcp),
        limits: Limits { output_buffer: plan.output_buffer },
        timing: Timing::default(),
        policy: Policy {
            lost_peer: if plan.lost_peer_stops { LostPeer::Stop } else { LostPeer::Continue },
            arbiter: plan.arbiter.map(|arbiter| arbiter.policy()),
            ..Policy::default()
        },
        isn_key: [7; 16],
        table_key: [(random >> 8) as u8; 16],
        parts: vec![("services".to_owned(), 1)],
        parts_3: vec![("services".to_owned(), 3)],
        mac: mac(host),
        router: true,
        mtu: plan.mtu,
        offload: plan.offload,
        clock_origin: Duration::from_nanos(random % (1 << 50)),
        backlog: plan.backlog,
        connections_max: plan.connections_max,
        live_max: 0,
        backlog_bytes_max: plan.backlog_bytes_max,
        memory_max: plan.memory_max,
        // What nobody comes near, so that it is counted, and audited.
        per_source: PerSource { connections: 1 << 20, rate: 1_000_000 },
        #[cfg(feature = "defects")]
        defect: plan.defect,
    }
}

/// Whatever is wrong with it.
pub(super) fn mistake(setup: &mut Setup, slip: Slip) {
    match slip {
        Slip::Alone => setup.policy.paired = false,
        Slip::Services => setup.parts.iter_mut().for_each(|(_, digest)| *digest += 1),
    }
}

/// A store whose disk can be made to wait.
#[derive(Debug)]
pub(super) struct Disk {
    store: MemoryStore,
    busy: Rc<Cell<bool>>,
    /// A content's hash is known when it is asked for the second time.
    late: bool,
}

impl Disk {
    pub(super) fn new(content: &Content, hashing: bool, busy: &Rc<Cell<bool>>) -> Self {
        let mut store = MemoryStore::new();
        for (name, bytes) in content.iter() {
            store.put(0, &name, bytes, 1_700_000_000_000_000_000);
        }
        Self { store, busy: Rc::clone(busy), late: !hashing }
    }

    fn turn(&mut self) -> &mut MemoryStore {
        self.store.pending = self.busy.get();
        &mut self.store
    }
}

impl Store for Disk {
    fn lookup(&mut self, root: u16, path: &str) -> Lookup {
        self.store.unhashed = self.late;
        let found = self.turn().lookup(root, path);
        self.store.unhashed = false;
        found
    }

    fn verify(&mut self, root: u16, path: &str, pinned: &Facts) -> Verified {
        self.turn().verify(root, path, pinned)
    }

    fn read(&mut self, content: ContentId, offset: u64, into: &mut [u8]) -> Read {
        self.turn().read(content, offset, into)
    }

    fn release(&mut self, content: ContentId) {
        self.store.release(content);
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
