//! How a splice begins and ends, segment by segment: what proves that its ends have found each other, and
//! which ends of input are believed.

use super::*;

const ACK: Flags = Flags::ACK;
const FIN: Flags = Flags::FIN.union(Flags::ACK);

impl World {
    /// The client says something that acknowledges `ack`.
    fn client_at(&mut self, flags: Flags, seq: u32, ack: u32, payload: &'static [u8]) {
        self.say(client(1), &Segment { payload, ..segment(flags, seq, ack) });
    }

    /// The backend does; `ack` as the client counts.
    fn backend_at(&mut self, id: SpliceId, flags: Flags, seq: u32, ack: u32) {
        let splice = self.relays.splice(id).expect("a splice");
        self.say(splice.backend, &segment(flags, seq, SeqNum(ack).add(splice.seq).0));
    }

    /// Who is asked within three seconds whether it has the connection: whether that is the client.
    fn asks(&mut self, id: SpliceId) -> Vec<bool> {
        self.headers();
        self.wait(3);
        let splice = self.relays.splice(id).expect("a splice");
        let questions = self.headers().into_iter().filter(|header| header.flags == ACK);
        questions.map(|header| header.tuple == splice.client).collect()
    }
}

/// A splice whose backend has answered.
fn answered() -> (World, SpliceId) {
    let mut world = World::new();
    let id = world.begin(1);
    world.answer(id, Flags::SYN | Flags::ACK);
    (world, id)
}

#[test]
fn nothing_but_a_word_that_only_a_listener_can_say_opens_a_splice() {
    let stage = |says: fn(&mut World, SpliceId)| {
        let (mut world, id) = answered();
        says(&mut world, id);
        world.relays.stage(id)
    };
    let half = Some(Stage::HalfOpen);
    assert_eq!(stage(|world, id| world.backend_at(id, ACK, 5001, 1001)), half, "nothing new");
    assert_eq!(stage(|world, _| world.client_at(ACK, 1001, 5000, b"")), half, "an old story");
    assert_eq!(stage(|world, _| world.client_at(ACK, 1001, 77, b"")), half, "a guess");
    assert_eq!(stage(|world, _| world.client_at(ACK, 1001, 5001, b"")), Some(Stage::Open));
    // Its text came with an old acknowledgment, and the backend has it.
    let text = |world: &mut World, id| {
        world.client_at(ACK, 1001, 5000, b"text");
        world.backend_at(id, ACK, 5001, 1005);
    };
    assert_eq!(stage(text), Some(Stage::Open));
}

/// Both have said an end, and both are believed: nobody has to be asked.
#[test]
fn ends_that_are_believed_raise_no_doubt() {
    let mut world = World::new();
    let id = world.open(1);
    world.client_at(FIN, 1001, 5001, b"");
    world.backend_at(id, FIN, 5001, 1001);
    assert!(world.asks(id).is_empty());
}

#[test]
fn one_end_alone_raises_no_doubt() {
    let (mut world, id) = answered();
    let splice = world.relays.splice(id).unwrap();
    world = World::new();
    assert_eq!(world.relays.hold(world.now, id, splice), Ok(()));
    assert_eq!(world.relays.hold_stage(id, Stage::Open), Ok(()));
    world.relays.arm(world.now);
    world.client_at(FIN, 1001, 5001, b"");
    assert!(world.asks(id).is_empty());
    // The backend's, too: it has ended last, and is asked first.
    world.backend_at(id, FIN, 5001, 1002);
    assert_eq!(world.asks(id).first(), Some(&false));
}

/// The client's end is no end, as nobody would believe it; the backend's is one.
#[test]
fn an_end_that_is_not_believed_is_asked_about() {
    let mut world = World::new();
    let id = world.open(1);
    world.client_at(FIN, 900_000, 5001, b"");
    world.backend_at(id, FIN, 5001, 1001);
    assert_eq!(world.asks(id).first(), Some(&false));
}

/// It was sent before the client had heard the latest of the backend's.
#[test]
fn an_end_with_an_old_acknowledgment_is_an_end() {
    let mut world = World::new();
    let id = world.open(1);
    let ack = SeqNum(1001).add(world.relays.splice(id).unwrap().seq).0;
    let text = Segment { payload: b"text", ..segment(ACK, 5001, ack) };
    world.say(world.backend(id), &text);
    world.client_at(ACK, 1001, 5005, b"");
    world.client_at(FIN, 1001, 5001, b"");
    world.backend_at(id, FIN, 5005, 1002);
    world.client_at(ACK, 1002, 5006, b"");
    assert_eq!(world.relays.stage(id), Some(Stage::Over));
}

/// A forged end acknowledges the true one of the other side: that was only said, and may be lost.
#[test]
fn a_forged_end_finishes_nothing() {
    let mut world = World::new();
    let id = world.open(1);
    world.client_at(FIN, 1001, 5001, b"");
    world.backend_at(id, FIN, 900_000, 1002);
    world.backend_at(id, FIN, 5001, 1001);
    world.client_at(ACK, 1002, 5002, b"");
    assert_eq!(world.relays.stage(id), Some(Stage::Open), "the backend has not heard");
    world.backend_at(id, ACK, 5002, 1002);
    assert_eq!(world.relays.stage(id), Some(Stage::Over));
}

// Backends.

fn three() -> World {
    let backend = |text: &str| Backend { address: text.parse().unwrap(), weight: 1 };
    let backends = ["10.77.0.21:80", "10.77.0.22:80", "10.77.0.23:80"].map(backend).to_vec();
    World::with(&[Settings { backends, ..settings() }], limits())
}

fn last_octet(world: &World, id: SpliceId) -> u8 {
    let IpAddr::V4(address) = world.backend(id).remote.ip() else { panic!("IPv4") };
    address.octets()[3]
}

/// Equals have their turn, also when nothing is left of the splice before.
#[test]
fn equals_come_in_turn() {
    let mut world = three();
    let mut chosen = Vec::new();
    for port in 1..=6 {
        let id = world.begin(port);
        chosen.push(last_octet(&world, id));
        world.say(client(port), &segment(Flags::RST, 1001, 0));
        assert_eq!(world.relays.len(), 0);
    }
    assert_eq!(chosen, [21, 22, 23, 21, 22, 23]);
}

/// What was over a moment ago counts: its end may not be known everywhere.
#[test]
fn a_splice_that_is_over_counts_as_long_as_it_is_kept() {
    let mut world = three();
    let over: Vec<SpliceId> = (1..=3).map(|port| world.open(port)).collect();
    world.client_says(2, Flags::RST);
    assert_eq!(world.relays.stage(over[1]), Some(Stage::Over));
    let next = [4, 5, 6].map(|port| world.begin(port));
    assert_eq!(next.map(|id| last_octet(&world, id)), [21, 22, 23], "each has one");
}

/// A SYN that a backend refuses does not come back to it.
#[test]
fn each_backend_is_asked_once() {
    let mut world = three();
    let id = world.begin(1);
    let mut asked = vec![last_octet(&world, id)];
    while world.answer(id, Flags::RST | Flags::ACK) == Fate::Taken {
        asked.push(last_octet(&world, id));
        world.relays.commit(world.now, id);
        assert!(asked.len() < 9, "{asked:?}");
    }
    assert_eq!(asked, [21, 22, 23]);
    assert_eq!(world.relays.counts().moved, 2);
}
