//! The `files` service on two nodes, fed in arbitrary cuts, with a takeover in the end.
//!
//! The first byte counts the orders that follow; behind them stands the client's stream. Whatever
//! the cuts, the snapshots and the moment of the takeover: the client gets the bytes that one
//! instance gives that was handed everything at once.

use standin::service::{App, Edition, Env, Kind, Limits, MemoryStore, Patience, PinBytes, Read};

use crate::library::{WALL, library};
use crate::pieces::Pieces;

const KIND: Kind = Kind::Files { root: 0, patience: Patience::ENDLESS };

/// One node's instance and what it is given.
struct Node {
    app: App,
    store: MemoryStore,
    lead: bool,
    limits: Limits,
}

impl Node {
    fn new(lead: bool, output_buffer: u32) -> Self {
        let limits = Limits { output_buffer };
        let mut store = library();
        store.read_limit = 700;
        Self { app: App::new(KIND, &limits), store, lead, limits }
    }

    fn call(&mut self, what: impl FnOnce(&mut App, &mut Env<'_>)) -> Vec<PinBytes> {
        let mut pins = Vec::new();
        let Self { app, store, lead, .. } = self;
        what(
            app,
            &mut Env { store, lead: *lead, pins: &mut pins, wall: WALL, edition: Edition::Second },
        );
        assert!(*lead || pins.is_empty(), "a follower emits no pins");
        pins
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.app.snapshot(&mut bytes);
        bytes
    }

    fn restore(&mut self, snapshot: &[u8]) -> Vec<PinBytes> {
        self.app.close(&mut self.store);
        let mut pins = Vec::new();
        let Self { app, store, lead, limits } = self;
        let mut env =
            Env { store, lead: *lead, pins: &mut pins, wall: WALL, edition: Edition::Second };
        *app = App::restore(KIND, limits, snapshot, &mut env).expect("our own snapshot");
        pins
    }

    /// All output from `from` on; `None` while the store keeps everybody waiting.
    fn output(&mut self, from: u64) -> Option<Vec<u8>> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 1000]);
        loop {
            let at = from + bytes.len() as u64;
            match self.app.read(at..at + 1000, &mut buffer, &mut self.store) {
                Read::Ready(0) => return Some(bytes),
                Read::Ready(count) => bytes.extend_from_slice(&buffer[..count]),
                Read::Pending => return None,
                Read::Gone => panic!("the files have not changed"),
            }
        }
    }
}

/// Primary, standby, client.
struct Pair<'a> {
    primary: Node,
    standby: Node,
    rest: &'a [u8],
    finished: bool,
    received: Vec<u8>,
    acked: u64,
    /// What the standby has heard acknowledged.
    told: u64,
}

/// Follows the orders, lets the standby take over, and compares.
pub fn run(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let count = usize::from(pieces.byte());
    let buffer = u32::from(pieces.word() % 4000) + 1;
    let mut orders = Pieces::new(pieces.take(count));
    let stream = pieces.rest();
    let mut pair = Pair {
        primary: Node::new(true, buffer),
        standby: Node::new(false, buffer),
        rest: stream,
        finished: false,
        received: Vec::new(),
        acked: 0,
        told: 0,
    };
    while let Some(order) = orders.next() {
        pair.obey(order, orders.byte());
    }
    let received = pair.take_over();
    assert!(received == reference(stream), "not what one instance says");
}

impl Pair<'_> {
    fn obey(&mut self, order: u8, value: u8) {
        let pins = match order % 9 {
            0..=2 => self.input(usize::from(value) + 1),
            3 => self.finish(),
            4 => {
                let open = self.received.len() as u64 - self.acked;
                self.acked += open * u64::from(value) / 255;
                let acked = self.acked;
                self.primary.call(|app, env| app.on_acked(acked, env))
            }
            5 => {
                self.told = self.acked;
                let acked = self.acked;
                self.standby.call(|app, env| app.on_acked(acked, env))
            }
            6 => {
                self.primary.store.pending = value & 1 != 0;
                self.primary.call(App::go_on)
            }
            7 => {
                let snapshot = self.standby.snapshot();
                self.standby.restore(&snapshot)
            }
            _ => {
                self.told = self.acked;
                let snapshot = self.primary.snapshot();
                self.standby.restore(&snapshot)
            }
        };
        self.settle(&pins);
    }

    fn input(&mut self, count: usize) -> Vec<PinBytes> {
        let (now, later) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = later;
        self.standby.call(|app, env| app.on_input(now, env));
        self.primary.call(|app, env| app.on_input(now, env))
    }

    fn finish(&mut self) -> Vec<PinBytes> {
        if self.finished || !self.rest.is_empty() {
            return Vec::new();
        }
        self.finished = true;
        self.standby.call(App::on_peer_finished);
        self.primary.call(App::on_peer_finished)
    }

    /// The log reaches the standby, then the output reaches the client: in that order (I2).
    fn settle(&mut self, pins: &[PinBytes]) {
        for pin in pins {
            self.standby.call(|app, env| app.on_pin(pin, env).expect("a pin that fits"));
        }
        if let Some(more) = self.primary.output(self.received.len() as u64) {
            self.received.extend(more);
        }
        assert!(self.standby.app.output_end() >= self.received.len() as u64, "I2");
        assert!(self.standby.app.protected(), "its copy is the same");
        let same = self.standby.output(self.told).expect("its store answers");
        assert!(same.starts_with(&self.received[self.told as usize..]), "I2: the same bytes");
    }

    /// The primary dies; the rest of the input and all acknowledgments reach the standby.
    fn take_over(mut self) -> Vec<u8> {
        let Self { standby, received, acked, finished, rest, .. } = &mut self;
        standby.lead = true;
        standby.call(|app, env| app.on_acked(*acked, env));
        standby.call(App::lead);
        if !*finished {
            standby.call(|app, env| app.on_input(rest, env));
            standby.call(App::on_peer_finished);
        }
        received.truncate(*acked as usize);
        loop {
            let more = standby.output(received.len() as u64).expect("its store answers");
            if more.is_empty() {
                break;
            }
            received.extend(more);
            let acked = received.len() as u64;
            standby.call(|app, env| app.on_acked(acked, env));
        }
        assert!(standby.app.finished() && standby.app.failed().is_none());
        for node in [&mut self.standby, &mut self.primary] {
            node.app.close(&mut node.store);
            assert_eq!(node.store.holds(), 0, "every hold is given back");
        }
        self.received
    }
}

fn reference(stream: &[u8]) -> Vec<u8> {
    let mut node = Node::new(true, u32::MAX);
    node.call(|app, env| app.on_input(stream, env));
    node.call(App::on_peer_finished);
    node.output(0).expect("its store answers")
}
