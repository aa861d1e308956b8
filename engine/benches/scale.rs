//! What very many idle connections cost the core: memory on either node, and how long the loop is
//! kept by one call while a standby attaches, leaves, and takes over.
//!
//!     cargo bench -p standin --bench scale -- [CONNECTIONS…]       default: 10000 100000 1000000
//!
//! Two engines, their link and a virtual clock; only the work itself is timed. The memory is what
//! was asked of the allocator, by all of an engine; the allocator's own share comes on top.
#![expect(unsafe_code, reason = "an allocator that counts, and the clock of a thread")]

use core::net::IpAddr;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use standin::engine::{Action, Engine, LinkInput, PACKET_BUFFER, ServicePort, Setup};
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

// SAFETY: everything is left to the system's allocator, and only counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
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
        services: vec![ServicePort { port: 7, kind: Kind::Echo }],
        tcp: Arc::default(),
        limits: Limits::default(),
        timing: Timing::default(),
        policy: Policy::default(),
        isn_key: [7; 16],
        table_key: [9; 16],
        parts: vec![("services".to_owned(), 1)],
        mac: MacAddr([2, 0, 0, 0, 0, 1 + node as u8]),
        router: true,
        mtu: 1500,
        offload: true,
        clock_origin: Duration::from_secs(1000),
        backlog: 256,
        connections_max: connections + 1,
        live_max: 1024,
        backlog_bytes_max: 64 << 20,
        #[cfg(feature = "defects")]
        defect: None,
    }
}

/// The pair, and the longest that any call took since it was last asked.
struct Pair {
    now: Instant,
    nodes: [Option<Engine>; 2],
    boots: u64,
    linked: bool,
    longest: std::time::Duration,
    buffer: Vec<u8>,
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
            boots: 0,
            linked: false,
            longest: std::time::Duration::ZERO,
            buffer: vec![0; PACKET_BUFFER],
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
        self.nodes[index] = Some(engine);
    }

    fn owns(&self, index: usize) -> bool {
        let role = self.nodes[index].as_ref().map(|engine| engine.status(self.now).role);
        matches!(role, Some(Role::Primary { .. }))
    }

    /// Whether the first node says that the second one would carry everything on.
    fn is_protected(&self) -> bool {
        self.nodes[0].as_ref().is_some_and(|engine| engine.status(self.now).protected)
    }

    /// Times one call into an engine.
    fn call<T>(&mut self, index: usize, work: impl FnOnce(&mut Engine, Instant) -> T) -> Option<T> {
        let engine = self.nodes[index].as_mut()?;
        let began = processor_time();
        let result = work(engine, self.now);
        self.longest = self.longest.max(processor_time() - began);
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
            self.call(index, |engine, now| engine.on_timer(now));
            while self.serve(index) {}
        }
    }

    /// Carries out what an engine asks. Whether there was anything.
    fn serve(&mut self, index: usize) -> bool {
        let mut busy = false;
        while let Some(Some(action)) = self.call(index, |engine, now| engine.poll_action(now)) {
            busy = true;
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
                Action::Exit(reason) => panic!("node {index} exits: {reason}"),
                _ => {}
            }
        }
        let output = self.call(index, |engine, now| core::mem::take(engine.link_output(now)));
        for bytes in output.unwrap_or_default().chunks(64 << 10) {
            busy = true;
            self.call(1 - index, |engine, now| engine.on_link(now, LinkInput::Data(bytes)));
        }
        let mut buffer = core::mem::take(&mut self.buffer);
        while let Some(Some(range)) =
            self.call(index, |engine, now| engine.poll_packet(now, &mut buffer))
        {
            busy = true;
            self.packets[index] += 1;
            self.last.clear();
            self.last.extend_from_slice(&buffer[range.start + VnetHeader::LEN..range.end]);
        }
        self.buffer = buffer;
        busy
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
        self.call(owner, |engine, now| _ = engine.on_packet(now, vnet, &mut packet));
        while self.serve(owner) || self.serve(1 - owner) {}
    }

    /// The end of `index`, and the other one hears of it.
    fn lose(&mut self, index: usize) {
        self.nodes[index] = None;
        self.linked = false;
        self.longest();
        self.call(1 - index, |engine, now| engine.on_link(now, LinkInput::Closed));
    }

    /// The longest call since the last time, in milliseconds.
    fn longest(&mut self) -> f64 {
        core::mem::take(&mut self.longest).as_secs_f64() * 1000.0
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
    let mut pair = Pair::new(connections);
    let empty = IN_USE.load(Ordering::Relaxed);
    for number in 0..connections as u32 {
        if number.is_multiple_of(1000) {
            pair.turn();
            pair.now = pair.now + Duration::from_millis(1);
        }
        pair.open(number);
    }
    let settled = pair.now + Duration::from_secs(5);
    pair.run_until(|pair| pair.now >= settled);
    let primary = per_connection(empty, connections);

    let alone = IN_USE.load(Ordering::Relaxed);
    pair.longest();
    pair.start(1, connections);
    pair.run_until(Pair::is_protected);
    let attach = pair.longest();
    let settled = pair.now + Duration::from_secs(5);
    pair.run_until(|pair| pair.now >= settled);
    let standby = per_connection(alone, connections);

    pair.lose(1);
    pair.run_until(|pair| !pair.is_protected());
    let detach = pair.longest();

    pair.start(1, connections);
    pair.run_until(Pair::is_protected);
    pair.packets = [0; 2];
    let (old, began) = (pair.nodes[0].take(), processor_time());
    pair.lose(0);
    pair.run_until(|pair| pair.owns(1));
    let owns = (processor_time() - began).as_secs_f64() * 1000.0;
    pair.run_until(|pair| pair.packets[1] == connections as u64);
    let all = (processor_time() - began).as_secs_f64() * 1000.0;
    let takeover = pair.longest();
    drop(old);
    println!(
        "{connections:>12}{primary:>12.0}{standby:>12.0}{attach:>12.2}{detach:>12.2}{takeover:>12.2}\
         {owns:>12.2}{all:>12.1}"
    );
}

fn main() {
    let sizes: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10_000, 100_000, 1_000_000] } else { sizes };
    println!(
        "{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "connections", "primary", "standby", "attach", "detach", "takeover", "owns", "all nudged"
    );
    println!(
        "{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}{:>12}",
        "", "bytes each", "bytes each", "ms, longest", "ms, longest", "ms, longest", "ms", "ms"
    );
    for connections in sizes {
        measure(connections);
    }
}
