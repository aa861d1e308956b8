//! Relays: a client and a backend, joined, in few words.

use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement as Opt};

use super::scene::{A, B, DETECTION, STREAM, frame};
use crate::oracle::{Facts, Invariant, Kind, NodeId, Oracle, Service, Sight};

const CLIENT: ([u8; 4], u16) = ([10, 77, 0, 1], 40_000);
const SERVICE: [u8; 4] = [10, 77, 0, 100];
const RELAY: u16 = 7007;
const PORT: u16 = 2001;
const BACKEND: ([u8; 4], u16) = ([10, 77, 0, 21], RELAY);
/// The client's ISN, what it is towards the backend, and the backend's.
const IRS: u32 = 1_000;
const DELTA: u32 = u32::MAX - 3_000;
const ISN: u32 = 70_000;
/// What is added to the client's timestamps.
const STAMPS: u32 = 40;

/// The speaker: a client or a backend to the service address, or the service address to them.
#[derive(Clone, Copy)]
enum Way {
    ClientSays,
    BackendSays,
    ToClient,
    ToBackend,
}

/// A segment, in the numbers of whoever says it first: offsets in their streams.
#[derive(Clone, Copy, Default)]
struct Words<'a> {
    at: u32,
    ack: u32,
    text: &'a [u8],
    syn: bool,
    fin: bool,
    rst: bool,
    /// Slips of a relay.
    shift: u32,
    stamp: u32,
    window: u16,
}

struct Scene {
    oracle: Oracle,
    now: u64,
}

impl Scene {
    fn simplex() -> Self {
        let relay = Service { port: RELAY, kind: Kind::Echo };
        let facts =
            Facts { relays: vec![relay], backends: vec![BACKEND.into()], ..super::scene::facts() };
        let mut scene = Self { oracle: Oracle::new(facts), now: 0 };
        for node in [A, B] {
            scene.see(Sight::Started { node });
        }
        scene.own(A, 2);
        scene
    }

    fn duplex() -> Self {
        let mut scene = Self::simplex();
        for node in [A, B] {
            scene.see(Sight::LinkUp { node, stream: STREAM });
        }
        scene.tell(&[7, 0, 0, 0, 0]);
        scene.tell(&[8]);
        scene.see(Sight::Says { node: A, owner: true, epoch: 2, protected: true });
        scene
    }

    /// A client that has been joined, and has said `hello`.
    fn joined() -> Self {
        let mut scene = Self::duplex();
        scene.tell(&spliced(DELTA));
        scene.shake_hands();
        scene.pass(A, Way::ClientSays, Words { text: b"hello", ..Words::default() });
        scene
    }

    fn shake_hands(&mut self) {
        let syn = Words { syn: true, ..Words::default() };
        self.pass(A, Way::ClientSays, syn);
        self.pass(A, Way::BackendSays, syn);
    }

    fn own(&mut self, node: NodeId, epoch: u64) {
        self.see(Sight::Says { node, owner: true, epoch, protected: false });
        self.see(Sight::Routes { node, installed: true });
        let frame = super::scene::announcement(node);
        self.see(Sight::FrameOut { node, frame: &frame });
    }

    fn takeover(&mut self) {
        self.see(Sight::Ended { node: A });
        self.see(Sight::LinkDown { node: B, stream: STREAM });
        self.now += DETECTION;
        self.own(B, 3);
    }

    fn see(&mut self, sight: Sight<'_>) {
        self.oracle.see(self.now, sight);
    }

    fn tell(&mut self, record: &[u8]) {
        self.write(record);
        self.see(Sight::LinkIn { node: B, stream: STREAM, bytes: &frame(record) });
    }

    fn write(&mut self, record: &[u8]) {
        self.see(Sight::LinkOut { node: A, stream: STREAM, bytes: &frame(record) });
    }

    /// One end says something, and `node` passes it on to the other.
    fn pass(&mut self, node: NodeId, way: Way, words: Words<'_>) {
        self.say(node, way, words);
        let on = match way {
            Way::ClientSays => Way::ToBackend,
            _ => Way::ToClient,
        };
        self.say(node, on, words);
    }

    fn say(&mut self, node: NodeId, way: Way, words: Words<'_>) {
        let packet = packet(way, words);
        self.see(match way {
            Way::ClientSays | Way::BackendSays => Sight::PacketIn { node, packet: &packet },
            Way::ToClient | Way::ToBackend => Sight::PacketOut { node, packet: &packet },
        });
    }

    #[track_caller]
    fn expect_clean(&self) {
        assert_eq!(self.oracle.violations(), []);
    }

    /// The first violation is of this invariant, with this in its text.
    #[track_caller]
    fn expect(&self, invariant: Invariant, text: &str) {
        let first = self.oracle.violations().first();
        let right = first.is_some_and(|v| v.invariant == invariant && v.text.contains(text));
        assert!(right, "{:#?}", self.oracle.violations());
    }
}

fn packet(way: Way, words: Words<'_>) -> Vec<u8> {
    let Words { at, ack, text, syn, fin, rst, shift, stamp, window } = words;
    let (from, to) = match way {
        Way::ClientSays => (CLIENT, (SERVICE, RELAY)),
        Way::BackendSays => (BACKEND, (SERVICE, PORT)),
        Way::ToClient => ((SERVICE, RELAY), CLIENT),
        Way::ToBackend => ((SERVICE, PORT), BACKEND),
    };
    // Where the client's stream and the backend's begin, and the stamps, as whoever reads this counts.
    let near_backend = matches!(way, Way::BackendSays | Way::ToBackend);
    let delta = if near_backend { DELTA.wrapping_add(shift) } else { 0 };
    let stamps = if near_backend { STAMPS } else { 0 };
    let (client, backend) = (IRS.wrapping_add(delta), ISN);
    let clients = matches!(way, Way::ClientSays | Way::ToBackend);
    let (first, other) = if clients { (client, backend) } else { (backend, client) };
    let seq = if syn { first } else { first.wrapping_add(1).wrapping_add(at) };
    let other = other.wrapping_add(1).wrapping_add(ack);
    let (value, echo) = if clients { (500 + stamps, 900) } else { (900, 500 + stamps) };
    let mut header = TcpHeader::new(from.1, to.1, seq, 1_000 + window);
    (header.syn, header.fin, header.rst) = (syn, fin, rst);
    if !(syn && clients) {
        (header.ack, header.acknowledgment_number) = (true, other);
    }
    let stamp = Opt::Timestamp(value + stamp, if header.ack { echo } else { 0 });
    let options = if syn {
        vec![Opt::MaximumSegmentSize(1460), stamp]
    } else {
        vec![Opt::Noop, Opt::Noop, stamp]
    };
    header.set_options(&options).unwrap();
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from.0, to.0, 64).tcp_header(header).write(&mut packet, text).unwrap();
    packet
}

/// The record of the scene's splice.
fn spliced(delta: u32) -> Vec<u8> {
    let mut record = vec![9];
    record.extend_from_slice(&77_u64.to_le_bytes());
    for (address, port) in [(SERVICE, RELAY), CLIENT, (SERVICE, PORT), BACKEND] {
        record.push(4);
        record.extend_from_slice(&address);
        record.extend_from_slice(&port.to_le_bytes());
    }
    record.extend_from_slice(&delta.to_le_bytes());
    record.extend_from_slice(&STAMPS.to_le_bytes());
    record
}

#[test]
fn what_either_says_passes_before_and_after_a_takeover() {
    let mut scene = Scene::joined();
    let back = Words { ack: 5, text: b"hello", ..Words::default() };
    scene.pass(A, Way::BackendSays, back);
    scene.takeover();
    scene.pass(B, Way::BackendSays, back);
    scene.pass(B, Way::ClientSays, Words { at: 5, ack: 5, fin: true, ..Words::default() });
    scene.pass(B, Way::BackendSays, Words { at: 5, ack: 6, fin: true, ..Words::default() });
    scene.pass(B, Way::ClientSays, Words { at: 6, ack: 6, ..Words::default() });
    scene.say(B, Way::ToClient, Words { rst: true, ..Words::default() });
    scene.expect_clean();
}

#[test]
fn a_splice_that_shows_before_the_standby_holds_it_is_seen() {
    let mut scene = Scene::duplex();
    scene.write(&spliced(DELTA));
    scene.shake_hands();
    scene.expect(Invariant::I1, "is asked before the standby holds the splice");

    let (mut scene, syn) = (Scene::duplex(), Words { syn: true, ..Words::default() });
    scene.pass(A, Way::ClientSays, syn);
    scene.write(&spliced(DELTA));
    scene.pass(A, Way::BackendSays, syn);
    scene.expect(Invariant::I1, "shows before the standby holds it");

    let mut scene = Scene::duplex();
    scene.shake_hands();
    scene.expect(Invariant::I1, "never told");

    let mut scene = Scene::duplex();
    scene.tell(&spliced(DELTA + 1));
    scene.shake_hands();
    scene.expect(Invariant::I1, "the wire shows");
}

#[test]
fn a_splice_that_is_older_than_its_record_may_show() {
    let mut scene = Scene::simplex();
    scene.shake_hands();
    for node in [A, B] {
        scene.see(Sight::LinkUp { node, stream: STREAM });
    }
    scene.tell(&[7, 0, 0, 0, 0]);
    scene.write(&spliced(DELTA));
    scene.pass(A, Way::ClientSays, Words { text: b"hello", ..Words::default() });
    scene.pass(A, Way::BackendSays, Words { ack: 5, ..Words::default() });
    scene.expect_clean();
}

#[test]
fn what_a_backend_has_not_said_is_seen() {
    let slips: [(Words<'_>, Invariant, &str); 6] = [
        (Words { ack: 5, ..Words::default() }, Invariant::I1, "acknowledges 5, the backend 0"),
        (Words { text: b"hello", ..Words::default() }, Invariant::I2, "has said 0"),
        (Words { at: 1, ..Words::default() }, Invariant::I2, "1 to 1"),
        (Words { fin: true, ..Words::default() }, Invariant::I2, "the end at 0"),
        (Words { window: 9, ..Words::default() }, Invariant::I4, "a window up to 1009"),
        (Words { stamp: 1, ..Words::default() }, Invariant::I4, "that nobody gave"),
    ];
    for (words, invariant, text) in slips {
        let mut scene = Scene::joined();
        scene.say(A, Way::ToClient, words);
        scene.expect(invariant, text);
    }
    let mut scene = Scene::joined();
    scene.say(A, Way::BackendSays, Words { text: b"hello", ack: 5, ..Words::default() });
    scene.say(A, Way::ToClient, Words { text: b"hallo", ack: 5, ..Words::default() });
    scene.expect(Invariant::I2, "byte 1 is 0x61, and the backend said 0x65");
}

#[test]
fn another_delta_is_seen() {
    let mut scene = Scene::joined();
    scene.takeover();
    scene.say(B, Way::ClientSays, Words { text: b"hello", ..Words::default() });
    scene.say(B, Way::ToBackend, Words { text: b"hello", shift: 1, ..Words::default() });
    scene.expect(Invariant::I2, "to the backend");
}

#[test]
fn a_reset_that_neither_end_gave_is_seen() {
    let reset = Words { rst: true, ..Words::default() };
    let mut scene = Scene::joined();
    scene.say(A, Way::ToClient, reset);
    scene.expect(Invariant::I4, "resets the client of a live splice");

    let mut scene = Scene::joined();
    scene.say(A, Way::ToBackend, reset);
    scene.expect(Invariant::I4, "resets the backend of a live splice");

    let mut scene = Scene::joined();
    scene.pass(A, Way::BackendSays, reset);
    scene.expect_clean();
}

#[test]
fn nobody_is_told_what_no_backend_says() {
    let mut scene = Scene::simplex();
    scene.say(A, Way::ClientSays, Words { syn: true, ..Words::default() });
    scene.say(A, Way::ToClient, Words { syn: true, ..Words::default() });
    scene.expect(Invariant::I2, "a SYN-ACK that no backend gave");
}

#[test]
fn a_splice_that_the_standby_lacks_is_no_protection() {
    let mut scene = Scene::joined();
    scene.pass(A, Way::BackendSays, Words { ack: 5, ..Words::default() });
    let gone = [&[10][..], &77_u64.to_le_bytes()].concat();
    scene.tell(&gone);
    scene.now += 3 * DETECTION;
    scene.see(Sight::FrameOut { node: A, frame: &[] });
    scene.now += 3 * DETECTION;
    scene.see(Sight::FrameOut { node: A, frame: &[] });
    scene.expect(Invariant::I7, "does not hold the splice");
}
