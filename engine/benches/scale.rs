//! What very many idle connections cost the core: memory on either node, and how long the loop is
//! kept by one call while they open, a standby attaches, all timers go off, the standby begins anew, the
//! address is handed over, a standby leaves, and one takes over.
//!
//!     cargo bench -p standin --bench scale -- [CONNECTIONS…]       default: 10000 100000 1000000
//!
//! Two engines, their link and a virtual clock; only the work itself is timed. The memory is what
//! was asked of the allocator, by all of an engine; the allocator's own share comes on top. Of each step
//! the three longest calls are told: on a busy machine the first may be a processor's, and not ours.
#![expect(unsafe_code, reason = "an allocator that counts, and the clock of a thread")]

use core::net::IpAddr;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mimalloc::MiMalloc;
use standin::engine::{
    Action, Engine, LinkInput, Output, PerSource, ServicePort, Setup, Step, Turn,
};
use standin::ids::Node;
use standin::role::{Policy, Role, Timing};
use standin::service::{Kind, Limits, MemoryStore};
use standin::time::{Duration, Instant};
use standin::wire::{
    ChecksumState, Flags, FourTuple, MacAddr, Offload, SeqNum, TcpHeader, TcpOptions, Timestamps,
    VnetHeader, parse_ip, parse_tcp,
};

/// Counts what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the allocator of the command, and only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SERVICE: [u8; 4] = [10, 77, 0, 100];

/// What each client says, to be echoed.
const QUESTION: &[u8] = b"are you there?";

fn setup(node: Node, boot: u64, connections: usize) -> Setup {
    Setup {
        node,
        boot,
        addresses: vec![IpAddr::from(SERVICE)],
        relays: Vec::new(),
        services: vec![ServicePort::at(7, Kind::Echo)],
        tcp: Arc::default(),
        limits: Limits::default(),
        timing: Timing::default(),
        policy: Policy::default(),
        isn_key: [7; 16],
        table_key: [9; 16],
        parts: vec![("services".to_owned(), 1)],
        parts_3: vec![("services".to_owned(), 3)],
        mac: MacAddr([2, 0, 0, 0, 0, 1 + node as u8]),
        router: true,
        mtu: 1500,
        offload: true,
        clock_origin: Duration::from_secs(1000),
        backlog: 256,
        connections_max: connections + 1,
        live_max: 1024,
        backlog_bytes_max: 64 << 20,
        memory_max: 256 << 20,
        per_source: PerSource::default(),
        #[cfg(feature = "defects")]
        defect: None,
    }
}

/// The pair, and the longest that any call took since it was last asked.
struct Pair {
    now: Instant,
    nodes: [Option<Engine>; 2],
    turns: [Turn; 2],
    boots: u64,
    linked: bool,
    longest: [(std::time::Duration, &'static str); 3],
    /// Packets that node 0 and node 1 wrote, and the last of them.
    packets: [u64; 2],
    last: Vec<u8>,
}

impl Pair {
    fn new(connections: usize) -> Self {
        let now = Instant::from_millis(1000);
        let mut pair = Self {
            now,
            nodes: [None, None],
            turns: [Turn::new(), Turn::new()],
            boots: 0,
            linked: false,
            longest: Default::default(),
            packets: [0; 2],
            last: Vec::new(),
        };
        pair.start(0, connections);
        pair.run_until(|pair| pair.owns(0));
        pair
    }

    fn start(&mut self, index: usize, connections: usize) {
        let node = [Node::A, Node::B][index];
        self.boots += 1;
        let setup = setup(node, self.boots, connections);
        let mut engine = Engine::new(setup, Box::new(MemoryStore::new()), self.now);
        engine.on_carrier(self.now, true);
        (self.nodes[index], self.turns[index]) = (Some(engine), Turn::new());
    }

    fn owns(&self, index: usize) -> bool {
        let role = self.nodes[index].as_ref().map(|engine| engine.status(self.now).role);
        matches!(role, Some(Role::Primary { .. }))
    }

    /// Whether a node says that the other one would carry everything on.
    fn is_protected(&self, index: usize) -> bool {
        self.nodes[index].as_ref().is_some_and(|engine| engine.status(self.now).protected)
    }

    /// Times one call into an engine.
    fn call(&mut self, index: usize, work: impl FnOnce(&mut Engine, Instant)) {
        self.step(index, "input", |_, engine, now| work(engine, now));
    }

    /// Times one step of an engine's turn.
    fn step<T>(
        &mut self,
        index: usize,
        name: &'static str,
        work: impl FnOnce(&mut Turn, &mut Engine, Instant) -> T,
    ) -> Option<T> {
        let engine = self.nodes[index].as_mut()?;
        let began = processor_time();
        let result = work(&mut self.turns[index], engine, self.now);
        let took = processor_time() - began;
        if let Some(place) = self.longest.iter().position(|(longest, _)| *longest < took) {
            self.longest[place..].rotate_right(1);
            self.longest[place] = (took, name);
        }
        Some(result)
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..100_000 {
            self.turn();
            if done(self) {
                return;
            }
            self.now = self.now + Duration::from_millis(1);
        }
        panic!("the pair never gets there");
    }

    fn turn(&mut self) {
        for index in 0..2 {
            while self.serve(index, None) {}
        }
    }

    /// One turn of an engine, with a packet that has come. Whether there was anything to do.
    fn serve(&mut self, index: usize, mut packet: Option<(VnetHeader, &[u8])>) -> bool {
        let mut busy = false;
        loop {
            match self.step(index, "turn", Turn::next) {
                None => return false,
                Some(Step::Packet) => {
                    if let Some((vnet, packet)) = packet.take() {
                        let length = self.turns[index].put(vnet, packet);
                        self.step(index, "packet", |turn, engine, now| {
                            turn.on_packet(engine, now, length)
                        });
                    }
                }
                Some(Step::Output) => {
                    busy = true;
                    self.let_out(index);
                }
                Some(Step::Done { more }) => return busy || more,
                Some(Step::Beats | Step::News | Step::Link | Step::Frame) => {}
            }
        }
    }

    /// Carries out what an engine asks.
    fn let_out(&mut self, index: usize) {
        let Some(engine) = &mut self.nodes[index] else { return };
        let action = match self.turns[index].release(engine, self.now) {
            None => return,
            Some(Output::Packet(packet)) => {
                self.packets[index] += 1;
                self.last.clear();
                self.last.extend_from_slice(&packet[VnetHeader::LEN..]);
                return;
            }
            Some(Output::Link(bytes)) => {
                for bytes in bytes.chunks(64 << 10) {
                    self.call(1 - index, |engine, now| engine.on_link(now, LinkInput::Data(bytes)));
                }
                return;
            }
            Some(Output::Action(action)) => action,
        };
        match action {
            Action::SendBeat { path, bytes, .. } => {
                self.call(1 - index, |engine, now| engine.on_beat(now, path, &bytes));
            }
            Action::SendFrame { frame, .. } => {
                self.call(1 - index, |engine, now| engine.on_frame(now, &frame));
            }
            Action::Dial | Action::Knock if self.nodes[1 - index].is_none() => {
                self.call(index, |engine, now| engine.on_link(now, LinkInput::Refused));
            }
            Action::Dial if !self.linked => {
                self.linked = true;
                for node in 0..2 {
                    self.call(node, |engine, now| engine.on_link(now, LinkInput::Connected));
                }
            }
            Action::HangUp if self.linked => {
                self.linked = false;
                self.call(1 - index, |engine, now| engine.on_link(now, LinkInput::Closed));
            }
            Action::Exit(reason) => panic!("node {index} exits: {reason}"),
            _ => {}
        }
    }

    /// A client's handshake with whichever node owns.
    fn open(&mut self, number: u32) {
        let [_, high, middle, low] = (number >> 14).to_be_bytes();
        let port = 10_000 + (number & 0x3fff) as u16;
        let tuple = FourTuple {
            local: ([10, 1 + high, middle, low], port).into(),
            remote: (SERVICE, 7).into(),
        };
        let timestamps = Some(Timestamps { val: 1, ecr: 0 });
        let options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps,
            ..TcpOptions::default()
        };
        self.say(tuple, SeqNum(number), SeqNum(0), Flags::SYN, b"", options);
        let ip = parse_ip(&self.last).expect("a SYN-ACK");
        let (_, _, answer) = parse_tcp(&ip, ChecksumState::Trusted).expect("a SYN-ACK");
        let echo = answer.options.timestamps.map_or(0, |timestamps| timestamps.val);
        let (seq, ack) = (SeqNum(number).add(1), answer.seq.add(1));
        let timestamps = Some(Timestamps { val: 2, ecr: echo });
        let options = TcpOptions { timestamps, ..TcpOptions::default() };
        self.say(tuple, seq, ack, Flags::ACK, b"", options.clone());
        // One request and its reply: idle is who has been served.
        self.say(tuple, seq, ack, Flags::ACK, QUESTION, options.clone());
        let length = QUESTION.len() as u32;
        self.say(tuple, seq.add(length), ack.add(length), Flags::ACK, b"", options);
    }

    fn say(
        &mut self,
        tuple: FourTuple,
        seq: SeqNum,
        ack: SeqNum,
        flags: Flags,
        payload: &[u8],
        options: TcpOptions,
    ) {
        let (window, ecn, ttl, ip_id) = (65_535, 0, 64, 0);
        let header = TcpHeader { tuple, seq, ack, flags, window, options, ecn, ttl, ip_id };
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(payload);
        let vnet = header.write(&mut packet, payload.len(), Offload::Full);
        let owner = usize::from(self.owns(1));
        self.serve(owner, Some((vnet, &packet)));
        while self.serve(owner, None) || self.serve(1 - owner, None) {}
    }

    /// The end of `index`, and the other one hears of it.
    fn lose(&mut self, index: usize) {
        self.nodes[index] = None;
        self.linked = false;
        self.call(1 - index, |engine, now| engine.on_link(now, LinkInput::Closed));
    }

    /// The stream breaks, and both hear of it.
    fn unlink(&mut self) {
        self.linked = false;
        for index in 0..2 {
            self.call(index, |engine, now| engine.on_link(now, LinkInput::Closed));
        }
    }

    /// Time passes, in steps that a heartbeat allows.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.turn();
            self.now = self.now + Duration::from_millis(5);
        }
    }

    /// Tells the longest calls since the last time, in milliseconds.
    fn tell(&mut self, step: &str) {
        let calls = core::mem::take(&mut self.longest)
            .map(|(took, name)| format!("{:>10.2} {name:<12}", took.as_secs_f64() * 1000.0));
        println!("    {step:<44}{}", calls.concat());
    }
}

/// What this thread has had of a processor: others on a busy machine do not count.
fn processor_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes during the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "Linux has this clock");
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn per_connection(before: usize, connections: usize) -> f64 {
    IN_USE.load(Ordering::Relaxed).saturating_sub(before) as f64 / connections as f64
}

fn measure(connections: usize) {
    println!("{connections} connections; the longest calls, in milliseconds:");
    let mut pair = Pair::new(connections);
    let empty = IN_USE.load(Ordering::Relaxed);
    pair.longest = Default::default();
    for number in 0..connections as u32 {
        if number.is_multiple_of(1000) {
            pair.turn();
            pair.now = pair.now + Duration::from_millis(1);
        }
        pair.open(number);
    }
    pair.tell("they open");
    pair.pass(Duration::from_secs(5));
    let primary = per_connection(empty, connections);

    let alone = IN_USE.load(Ordering::Relaxed);
    pair.start(1, connections);
    pair.run_until(|pair| pair.is_protected(0));
    pair.tell("a standby joins");
    pair.pass(Duration::from_secs(5));
    let standby = per_connection(alone, connections);
    println!("    idle, {primary:.0} bytes each on the primary, {standby:.0} on the standby");
    pair.longest = Default::default();

    // The farthest alarm is 300 s away.
    pair.pass(Duration::from_secs(320));
    pair.tell("the timers of all go off");

    pair.unlink();
    pair.pass(Duration::from_secs(10));
    pair.run_until(|pair| pair.is_protected(0));
    pair.tell("the standby drops all and begins anew");

    let asked = pair.step(0, "switchover", |_, engine, now| engine.on_switchover(now));
    assert_eq!(asked, Some(Ok(())), "the standby holds everything");
    pair.run_until(|pair| pair.owns(1));
    pair.run_until(|pair| pair.is_protected(1));
    pair.pass(Duration::from_secs(5));
    pair.tell("a hand-over; the old owner drops all");

    pair.lose(0);
    pair.run_until(|pair| !pair.is_protected(1));
    pair.pass(Duration::from_secs(5));
    pair.tell("the standby leaves");

    pair.start(0, connections);
    pair.run_until(|pair| pair.is_protected(1));
    pair.pass(Duration::from_secs(5));
    pair.longest = Default::default();
    pair.packets = [0; 2];
    let (old, began) = (pair.nodes[1].take(), processor_time());
    pair.lose(1);
    pair.run_until(|pair| pair.owns(0));
    let owns = (processor_time() - began).as_secs_f64() * 1000.0;
    pair.run_until(|pair| pair.packets[0] == connections as u64);
    let all = (processor_time() - began).as_secs_f64() * 1000.0;
    pair.tell("a takeover");
    println!("    owner after {owns:.2} ms of work, all nudged after {all:.0} ms");
    drop(old);
}

/// As the command does.
fn forbid_huge_pages() {
    let (on, off): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the option takes one number and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, off, off, off) };
    assert_eq!(result, 0, "Linux has this option");
}

fn main() {
    forbid_huge_pages();
    let sizes: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000, 1_000_000] } else { sizes };
    sizes.into_iter().for_each(measure);
}
