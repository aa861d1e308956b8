//! Relays alone, between clients and backends that say anything, held against a simple model.
//!
//! The harness drives an owner and a standby that follows its events, as the engine's log would have
//! it follow. What must hold: a segment goes on to the other leg of its own splice and nowhere else, a
//! splice's numbers never change once its backend has answered, no two splices share a leg, nothing
//! shows before it was committed, and the standby refuses nothing and knows exactly the same splices.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use arbitrary::{Arbitrary, Unstructured};
use standin::ids::SpliceId;
use standin::relay::{
    Admin, Backend, CLIENT_MAX, Check, Event, Fate, IDLE, Limits, Mode, Numbers, OnDeath, Order,
    Relays, Settings, Splice, Stage, View, WEIGHT_MAX,
};
use standin::time::{Duration, Instant};
use standin::wire::{Endpoint, Flags, FourTuple, Rewrite, Segment, SeqNum, TcpOptions, Timestamps};

/// Operations in one run.
const OPS_MAX: usize = 400;
const SPLICES_MAX: usize = 12;
const OPENING_MAX: usize = 6;
/// Segments of our own that may wait: SYNs, and two for each check.
const HEADERS_MAX: usize = 40;
const PORTS: [u16; 2] = [8080, 8081];

#[derive(Arbitrary, Debug)]
enum Op {
    Client(Said),
    /// The backend of one of the splices.
    Backend(Said),
    /// The backend of one of the splices that have ended.
    Late(Said),
    /// The standby has confirmed the oldest records.
    Commit(u8),
    /// Time passes until the relays ask for it.
    Timer,
    Wait(u16),
    /// A check, or a SYN, is answered as a host would.
    Answer {
        which: u8,
        good: bool,
    },
    /// The standby takes over, and gets a standby.
    TakeOver,
    /// The address was handed over, and comes back.
    TakeBack,
    Forget,
    /// An operator says what a backend is there for.
    Order {
        which: u8,
        admin: Option<u8>,
        weight: Option<u16>,
        cut: bool,
    },
}

/// A segment: who says it, and how far from what would be right.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Said {
    who: u8,
    flags: u8,
    seq: i8,
    ack: i8,
    far: bool,
    text: bool,
    options: bool,
}

/// Decodes the input into operations.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut world = World::new();
    for _ in 0..OPS_MAX {
        if input.is_empty() {
            return;
        }
        let Ok(op) = Op::arbitrary(&mut input) else { return };
        world.obey(&op);
        world.check();
    }
}

/// What is known of a splice.
#[derive(Debug)]
struct Known {
    splice: Splice,
    /// Its backend has answered: nothing of it changes any more.
    stands: bool,
    /// The standby has confirmed it, as it is.
    committed: bool,
}

struct World {
    now: Instant,
    owner: Relays,
    standby: Relays,
    splices: BTreeMap<SpliceId, Known>,
    /// Every name ever given.
    names: BTreeSet<SpliceId>,
    /// Told, and not confirmed.
    pending: Vec<SpliceId>,
    /// Legs to backends of splices that have ended.
    ended: Vec<FourTuple>,
    /// Legs of their clients. A question may have been on its way when the splice ended.
    ended_clients: Vec<FourTuple>,
    /// SYNs that nobody has answered.
    asked: Vec<(FourTuple, SeqNum)>,
    /// How many runs there were: each has a key of its own.
    runs: u8,
}

fn settings() -> Vec<Settings> {
    let backend = |text: &str, weight| Backend { address: address(text), weight };
    let check = Check { timeout: Duration::from_millis(700), ..Check::default() };
    let first = Settings {
        port: PORTS[0],
        backends: vec![
            backend("10.77.0.21:80", 1),
            backend("10.77.0.22:80", 2),
            backend("[fd77::21]:80", 1),
        ],
        check: check.clone(),
        idle: IDLE,
        client_max: CLIENT_MAX,
        on_death: OnDeath::Cut,
        mode: Mode::Splice,
    };
    let backends = vec![backend("10.77.0.21:80", 1), backend("10.77.0.23:80", 0)];
    let check = Check { interval: Duration::ZERO, ..check };
    vec![
        first,
        Settings {
            port: PORTS[1],
            backends,
            check,
            idle: Duration::from_secs(100),
            client_max: 3,
            on_death: OnDeath::Keep,
            mode: Mode::Splice,
        },
    ]
}

fn address(text: &str) -> Endpoint {
    text.parse().expect("an address")
}

fn relays(run: u8) -> Relays {
    let limits = Limits {
        splices_max: SPLICES_MAX,
        opening_max: OPENING_MAX,
        mtu: 1500,
        addresses: ["10.77.0.100", "fd77::100"].map(|ip| ip.parse().expect("an IP")).to_vec(),
        key: [run.wrapping_mul(31); 16],
    };
    Relays::new(&settings(), limits)
}

fn numbers(now: Instant) -> impl Fn(&FourTuple) -> Numbers {
    move |leg| {
        let own = u32::from(leg.local.port()).wrapping_mul(0x9e37_79b9);
        let millis = now.as_millis() as u32;
        Numbers {
            iss: SeqNum(own.wrapping_add(millis.wrapping_mul(250))),
            ts: own.wrapping_add(millis),
        }
    }
}

/// A few clients, one of them under the name of a backend.
fn client(who: u8) -> FourTuple {
    let port = PORTS[usize::from(who >> 5 & 1)];
    let near = u16::from(who % 16);
    match (who % 16, who & 16 == 0) {
        (15, _) => FourTuple {
            local: address(&format!("10.77.0.100:{port}")),
            remote: address("10.77.0.21:80"),
        },
        (_, true) => FourTuple {
            local: address(&format!("10.77.0.100:{port}")),
            remote: address(&format!("10.77.0.10:{}", 40_000 + near)),
        },
        (_, false) => FourTuple {
            local: address(&format!("[fd77::100]:{port}")),
            remote: address(&format!("[fd77::10]:{}", 40_000 + near)),
        },
    }
}

impl World {
    fn new() -> Self {
        let now = Instant::from_millis(10_000);
        let mut owner = relays(0);
        owner.arm(now);
        Self {
            now,
            owner,
            standby: relays(1),
            splices: BTreeMap::new(),
            names: BTreeSet::new(),
            pending: Vec::new(),
            ended: Vec::new(),
            ended_clients: Vec::new(),
            asked: Vec::new(),
            runs: 2,
        }
    }

    fn obey(&mut self, op: &Op) {
        match *op {
            Op::Client(said) => self.say(client(said.who), said, SeqNum(1000), SeqNum(5001)),
            Op::Backend(said) => {
                let at = usize::from(said.who) % self.splices.len().max(1);
                let Some(known) = self.splices.values().nth(at) else { return };
                let Splice { backend, seq, .. } = known.splice;
                self.say(backend, said, SeqNum(5000), SeqNum(1001).add(seq));
            }
            Op::Late(said) => {
                let at = usize::from(said.who) % self.ended.len().max(1);
                let Some(leg) = self.ended.get(at) else { return };
                self.say(*leg, said, SeqNum(5000), SeqNum(1001));
            }
            Op::Commit(count) => {
                let count = usize::from(count).min(self.pending.len());
                for id in self.pending.drain(..count).collect::<Vec<_>>() {
                    // One that was told again since is confirmed when that is.
                    if let Some(known) = self.splices.get_mut(&id) {
                        known.committed = true;
                    }
                    self.owner.commit(self.now, id);
                }
            }
            Op::Timer => {
                let at = self.owner.deadline();
                if at < Instant::NEVER {
                    self.now = self.now.max(at);
                }
            }
            Op::Wait(millis) => self.now = self.now + Duration::from_millis(u64::from(millis) * 8),
            Op::Answer { which, good } => {
                if self.asked.is_empty() {
                    return;
                }
                let (leg, iss) = self.asked.swap_remove(usize::from(which) % self.asked.len());
                let flags = if good { Flags::SYN } else { Flags::RST } | Flags::ACK;
                self.hand_in(leg, &segment(flags, SeqNum(5000), iss.add(1)));
            }
            Op::TakeOver => self.take_over(),
            Op::TakeBack => {
                self.pending.clear();
                self.splices.values_mut().for_each(|known| known.committed = true);
                self.owner.arm(self.now);
            }
            Op::Forget => {
                for relays in [&mut self.owner, &mut self.standby] {
                    relays.forget();
                }
                self.splices.clear();
                self.pending.clear();
            }
            Op::Order { which, admin, weight, cut } => {
                let count = self.owner.backends().count();
                let view = self.owner.backends().nth(usize::from(which) % count);
                let View { port, address, .. } = view.expect("there are some");
                let admin = admin.map(|admin| match admin % 3 {
                    0 => Admin::Ready,
                    1 => Admin::Drain,
                    _ => Admin::Maint,
                });
                let order = Order { address, port: Some(port), admin, weight, cut };
                let obeyed = self.owner.obey(self.now, &order);
                let right = weight.is_none_or(|weight| weight <= WEIGHT_MAX);
                assert_eq!(obeyed.is_ok(), right, "{obeyed:?}");
            }
        }
    }

    fn take_over(&mut self) {
        self.runs = self.runs.wrapping_add(1);
        let fresh = relays(self.runs);
        self.owner = core::mem::replace(&mut self.standby, fresh);
        self.owner.arm(self.now);
        self.pending.clear();
        self.asked.clear();
        // Whoever follows does not know the names of what has ended before.
        self.names = self.splices.keys().copied().collect();
        for (id, known) in &mut self.splices {
            (known.stands, known.committed) = (true, true);
            assert_eq!(self.standby.hold(self.now, *id, known.splice), Ok(()));
            let stage = self.owner.stage(*id).expect("what is told is there");
            assert_eq!(self.standby.hold_stage(*id, stage), Ok(()));
        }
        for (port, address, state) in self.owner.states() {
            self.standby.hold_state(self.now, port, address, state);
        }
    }

    fn say(&mut self, leg: FourTuple, said: Said, seq: SeqNum, ack: SeqNum) {
        let flags = Flags::from_bits_retain(said.flags);
        let shift = |by: i8| i32::from(by).wrapping_mul(if said.far { 1 << 24 } else { 1 });
        let seq = seq.add(u32::from(!flags.contains(Flags::SYN)));
        let mut segment =
            segment(flags, seq.add(shift(said.seq) as u32), ack.add(shift(said.ack) as u32));
        if said.options {
            let val = self.now.as_millis() as u32;
            segment.options = TcpOptions {
                mss: Some(8960),
                timestamps: Some(Timestamps { val, ecr: 0 }),
                ..TcpOptions::default()
            };
        }
        if said.text {
            segment.payload = b"text";
        }
        let open = self.splices.iter().find(|(id, known)| {
            let has = known.splice.client == leg || known.splice.backend == leg;
            has && self.owner.stage(**id) == Some(Stage::Open)
        });
        let open = open.map(|(id, _)| *id).filter(|_| said.far && said.seq != 0);
        self.hand_in(leg, &segment);
        if let Some(id) = open {
            // Millions away from all that the ends have said and asked for: no kernel takes it.
            assert_eq!(self.owner.stage(id), Some(Stage::Open), "{segment:?} ended a splice");
        }
    }

    /// Hands a segment in, and looks where it goes.
    fn hand_in(&mut self, leg: FourTuple, segment: &Segment<'_>) {
        let of = |known: &&Known| known.splice.client == leg || known.splice.backend == leg;
        let before = self.splices.values().find(of).map(|known| known.splice);
        let greedy = self.owner.counts().greedy;
        let fate = self.owner.on_segment(self.now, leg, segment, &numbers(self.now));
        match (fate, before) {
            (Fate::Forward { rewrite, .. }, Some(splice)) => check_rewrite(&splice, &leg, &rewrite),
            (Fate::Forward { .. }, None) => panic!("a segment of no splice goes on"),
            (Fate::Foreign, Some(_)) => {
                let refused = self.owner.counts().greedy > greedy;
                assert!(
                    refused || segment.flags.contains(Flags::SYN),
                    "only what begins anew is nobody's, and what is too much of one client"
                );
            }
            (Fate::Foreign | Fate::Taken, _) => {}
        }
    }

    /// What the engine does after each event, and what it may rely on.
    fn check(&mut self) {
        self.owner.on_timer(self.now, &numbers(self.now));
        assert!(self.owner.deadline() > self.now, "what is due has been done");
        while let Some(event) = self.owner.poll_event() {
            self.follow(&event);
        }
        self.take_headers();
        for relays in [&self.owner, &self.standby] {
            assert_eq!(relays.len(), self.splices.len(), "both know all of them");
        }
        let said: Vec<_> = self.owner.states().collect();
        assert!(said.iter().all(|(.., state)| !state.cut), "what was to be ended has ended");
        assert_eq!(self.standby.states().collect::<Vec<_>>(), said);
        let mut legs = HashSet::new();
        for (id, known) in &mut self.splices {
            let Splice { client, backend, .. } = known.splice;
            assert_eq!(self.owner.splice(*id), Some(known.splice), "it does not change");
            assert_eq!(self.standby.splice(*id), Some(known.splice));
            assert_eq!(self.owner.stage(*id), self.standby.stage(*id));
            assert!(legs.insert(client) && legs.insert(backend), "a leg of two splices");
            assert!(backend.local.port() >= 1024 && !PORTS.contains(&backend.local.port()));
            assert_eq!(backend.local.ip(), client.local.ip());
            known.stands |= self.owner.origin_of(&client, SeqNum(0)).is_some();
        }
        assert!(self.splices.len() <= SPLICES_MAX);
        let opening = self.splices.values().filter(|known| !known.stands).count();
        assert!((opening..=self.splices.len().min(OPENING_MAX)).contains(&self.owner.half_open()));
        for relays in [&self.owner, &self.standby] {
            let over = self.splices.keys().filter(|id| relays.stage(**id) == Some(Stage::Over));
            assert_eq!(relays.lingering(), over.count());
            for View { port, address, splices, lingering, removed, .. } in relays.backends() {
                let has = |known: &&Known| {
                    known.splice.client.local.port() == port
                        && known.splice.backend.remote == address
                };
                let count = self.splices.values().filter(has).count();
                assert_eq!((count, removed), ((splices + lingering) as usize, false));
            }
        }
    }

    fn follow(&mut self, event: &Event) {
        match *event {
            Event::Spliced(id) => {
                let splice = self.owner.splice(id).expect("what is told is there");
                let to = (splice.client.local.port(), splice.backend.remote);
                let view = self.owner.backends().find(|view| (view.port, view.address) == to);
                let takes = |view: View| view.state.admin == Admin::Ready && view.weight > 0;
                assert!(view.is_some_and(takes), "a client comes to a backend that gets none");
                assert_eq!(self.standby.hold(self.now, id, splice), Ok(()));
                let known = self.splices.entry(id).or_insert_with(|| {
                    assert!(self.names.insert(id), "a name is given once");
                    Known { splice, stands: false, committed: false }
                });
                if known.splice != splice {
                    assert!(!known.stands, "a splice that stands has moved");
                    assert!(known.committed, "its first backend has not been asked");
                    assert_eq!(known.splice.client, splice.client);
                    self.ended.push(known.splice.backend);
                    (known.splice, known.committed) = (splice, false);
                }
                self.pending.push(id);
            }
            Event::Stage(id, stage) => assert_eq!(self.standby.hold_stage(id, stage), Ok(())),
            Event::Unspliced(id) => {
                assert_eq!(self.standby.release(id), Ok(()));
                let known = self.splices.remove(&id).expect("it ends once");
                self.ended.push(known.splice.backend);
                self.ended_clients.push(known.splice.client);
            }
            Event::State { port, address, state } => {
                self.standby.hold_state(self.now, port, address, state);
            }
            Event::Cut(splice) => {
                assert!(self.ended.contains(&splice.backend), "it has ended");
            }
            Event::Leave(_) | Event::Break(_) => panic!("no leg was dialled"),
            Event::Health { port, address, health } => {
                self.standby.hold_health(port, address, health);
            }
            Event::Backend { .. } | Event::Dead { .. } => {}
        }
        for ended in [&mut self.ended, &mut self.ended_clients] {
            let surplus = ended.len().saturating_sub(16);
            ended.drain(..surplus);
        }
    }

    fn take_headers(&mut self) {
        for _ in 0..HEADERS_MAX {
            let Some(header) = self.owner.poll_header() else { return };
            let mut backends = self.owner.backends();
            let of = |known: &Known| {
                known.splice.backend == header.tuple || known.splice.client == header.tuple
            };
            if header.flags == Flags::ACK {
                // A question, to an end of a splice.
                let mut over = self.ended.iter().chain(&self.ended_clients);
                let is_over = over.any(|leg| *leg == header.tuple);
                assert!(is_over || self.splices.values().any(of), "{header:?}");
                continue;
            }
            assert!(backends.any(|view| view.address == header.tuple.remote));
            if header.flags.contains(Flags::RST) {
                continue;
            }
            assert!(header.flags.contains(Flags::SYN), "{header:?}");
            let of = |known: &&Known| known.splice.backend == header.tuple;
            if let Some(known) = self.splices.values().find(of) {
                assert!(known.committed, "I2: a SYN before the standby knows of it");
            }
            self.asked.push((header.tuple, header.seq));
            let surplus = self.asked.len().saturating_sub(16);
            self.asked.drain(..surplus);
        }
        panic!("segments without end");
    }
}

fn segment(flags: Flags, seq: SeqNum, ack: SeqNum) -> Segment<'static> {
    let options = TcpOptions::default();
    Segment { seq, ack, flags, window: 1000, options, marked: false, payload: &[] }
}

fn check_rewrite(splice: &Splice, from: &FourTuple, rewrite: &Rewrite) {
    let Splice { client, backend, seq, ts } = *splice;
    let (to, numbers) = if *from == client {
        (backend, [seq, 0, ts, 0])
    } else {
        (client, [0, seq.wrapping_neg(), 0, ts.wrapping_neg()])
    };
    let Rewrite { source, destination, seq, ack, ts_val, ts_ecr, mss_max: _ } = *rewrite;
    assert_eq!((source, destination), (to.local, to.remote), "its own splice's other leg");
    assert_eq!([seq, ack, ts_val, ts_ecr], numbers);
}
