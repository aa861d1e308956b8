use super::*;
use crate::service::{Edition, Env, JoinPatience, Kind, Limits, MemoryStore};
use crate::time::Duration;

const LIMIT: u32 = 1000;
const PATIENCE: JoinPatience =
    JoinPatience { connect: Duration::from_secs(3), idle: Duration::from_secs(60) };

/// A join, and the two legs that an engine would have.
struct Node {
    join: Join,
    legs: [Option<App>; LEGS],
    lead: bool,
    now: Instant,
}

impl Legs for [Option<App>; LEGS] {
    fn leg(&mut self, leg: Leg) -> Option<&mut App> {
        self[usize::from(leg)].as_mut()
    }
}

fn app() -> App {
    App::new(Kind::Join(PATIENCE), &Limits { output_buffer: LIMIT })
}

impl Node {
    /// A client whose handshake is done, and a server that has answered.
    fn standing(lead: bool) -> Self {
        let mut node = Self::new(lead);
        assert_eq!(node.event(Event::Stands(CLIENT)), [Effect::Dial(BACKEND)]);
        node.legs[1] = Some(app());
        assert_eq!(node.event(Event::Stands(BACKEND)), []);
        node
    }

    fn new(lead: bool) -> Self {
        Self { join: Join::default(), legs: [Some(app()), None, None], lead, now: Instant::ZERO }
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut call = Call {
            lead: self.lead,
            now: self.now,
            buffer: LIMIT,
            effects: &mut effects,
            scratch: &mut Vec::new(),
            #[cfg(feature = "defects")]
            defect: None,
        };
        self.join.on_event(event, &mut self.legs, &mut call);
        effects
    }

    /// A leg says something, or has an acknowledgment.
    fn with(&mut self, leg: Leg, what: impl FnOnce(&mut App, &mut Env<'_>)) -> Vec<Effect> {
        let (mut store, mut pins) = (MemoryStore::new(), Vec::new());
        let lead = self.lead;
        let (store, pins) = (&mut store, &mut pins);
        let mut env = Env { store, lead, pins, wall: 0, edition: Edition::Second };
        what(self.legs.leg(leg).expect("it is there"), &mut env);
        self.event(Event::Moved)
    }

    fn say(&mut self, leg: Leg, bytes: &[u8]) {
        assert_eq!(self.with(leg, |app, env| app.on_input(bytes, env)), []);
    }

    fn acknowledge(&mut self, leg: Leg, offset: u64) {
        assert_eq!(self.with(leg, |app, env| app.on_acked(offset, env)), []);
    }

    /// All that a leg has been given to say, and whether that is all.
    fn said(&mut self, leg: Leg) -> (Vec<u8>, bool) {
        let app = self.legs.leg(leg).expect("it is there");
        let mut bytes = vec![0; app.output_end() as usize];
        app.read(0..app.output_end(), &mut bytes, &mut MemoryStore::new());
        (bytes, app.finished())
    }
}

#[test]
fn what_one_end_says_the_other_hears_and_each_direction_ends_on_its_own() {
    for lead in [true, false] {
        let mut node = Node::standing(lead);
        node.say(CLIENT, b"to the server");
        node.say(BACKEND, b"to the client");
        assert_eq!(node.with(CLIENT, App::on_peer_finished), []);
        assert_eq!(node.said(BACKEND), (b"to the server".to_vec(), true));
        assert_eq!(node.said(CLIENT), (b"to the client".to_vec(), false), "a half-close passes");
        node.say(BACKEND, b", and more");
        assert_eq!(node.with(BACKEND, App::on_peer_finished), []);
        assert_eq!(node.said(CLIENT), (b"to the client, and more".to_vec(), true));
        assert_eq!(node.event(Event::Closed { leg: BACKEND, orderly: true }), []);
    }
}

#[test]
fn what_a_client_says_early_waits_for_its_server() {
    let mut node = Node::new(true);
    node.event(Event::Stands(CLIENT));
    node.say(CLIENT, b"hello");
    node.legs[1] = Some(app());
    assert_eq!(node.event(Event::Stands(BACKEND)), []);
    assert_eq!(node.said(BACKEND).0, b"hello");
}

#[test]
fn a_slow_reader_slows_the_writer_and_a_follower_waits_for_nobody() {
    let (mut leader, mut follower) = (Node::standing(true), Node::standing(false));
    let text: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
    for node in [&mut leader, &mut follower] {
        node.say(CLIENT, &text);
    }
    let taken = |node: &mut Node| node.legs.leg(CLIENT).map(|app| app.consumed());
    assert_eq!((taken(&mut leader), taken(&mut follower)), (Some(1000), Some(3000)));
    leader.acknowledge(BACKEND, 400);
    assert_eq!(taken(&mut leader), Some(1400));
    for offset in [1400, 2400, 3000] {
        leader.acknowledge(BACKEND, offset);
    }
    assert_eq!(leader.legs.leg(BACKEND).map(|app| app.output_end()), Some(3000));
    assert_eq!(follower.said(BACKEND).0, text, "all that may have left is there");
}

#[test]
fn a_server_that_refuses_is_followed_by_another_and_in_the_end_by_a_reset() {
    for lead in [true, false] {
        let mut node = Node::new(lead);
        assert_eq!(node.event(Event::Stands(CLIENT)), [Effect::Dial(BACKEND)]);
        let refusal = Event::Closed { leg: BACKEND, orderly: false };
        for _ in 0..3 {
            assert_eq!(node.event(refusal), [Effect::Dial(BACKEND)]);
        }
        let reset = [Effect::Reset(CLIENT), Effect::Reset(BACKEND)];
        assert_eq!(node.event(refusal), reset);
        assert_eq!(node.event(Event::Lead), reset, "an heir sees to it, too");
    }
}

#[test]
fn what_breaks_on_one_side_never_ends_in_order_on_the_other() {
    for leg in [CLIENT, BACKEND] {
        let mut node = Node::standing(true);
        node.say(leg, b"half of i");
        node.legs[usize::from(leg)] = None;
        let effects = node.event(Event::Closed { leg, orderly: false });
        let other = 1 - leg;
        assert!(effects.contains(&Effect::Reset(other)));
        assert!(!node.said(other).1, "no orderly end");
    }
}

#[test]
fn an_heir_dials_what_was_wanted_and_is_not_there() {
    let mut node = Node::new(false);
    assert_eq!(node.event(Event::Lead), [], "the client does not stand");
    node.event(Event::Stands(CLIENT));
    assert_eq!(node.event(Event::Lead), [Effect::Dial(BACKEND)]);
    node.legs[1] = Some(app());
    assert_eq!(node.event(Event::Lead), [], "it is on its way");
    let mut node = Node::standing(false);
    assert_eq!(node.event(Event::Lead), []);
}

#[test]
fn time_ends_a_server_that_does_not_answer_and_ends_that_say_nothing() {
    let mut node = Node::new(true);
    assert_eq!(node.join.deadline(&PATIENCE), None);
    node.now = Instant::from_millis(1000);
    node.event(Event::Stands(CLIENT));
    assert_eq!(node.join.deadline(&PATIENCE), Some(Instant::from_millis(4000)));
    node.legs[1] = Some(app());
    assert_eq!(node.event(Event::Tick), [Effect::Reset(BACKEND)]);
    assert_eq!(node.event(Event::Closed { leg: BACKEND, orderly: false }), [Effect::Dial(BACKEND)]);
    node.event(Event::Stands(BACKEND));
    node.now = Instant::from_millis(9000);
    node.say(CLIENT, b"still here");
    assert_eq!(node.join.deadline(&PATIENCE), Some(Instant::from_millis(69_000)));
    assert_eq!(node.event(Event::Tick), [Effect::Reset(CLIENT), Effect::Reset(BACKEND)]);
    assert_eq!(node.join.deadline(&PATIENCE), None);
}

#[test]
fn a_join_is_what_its_snapshot_says() {
    for node in [Node::new(false), Node::standing(false)] {
        let mut bytes = Vec::new();
        node.join.encode(&mut bytes);
        assert_eq!(Join::decode(&bytes), Some(node.join));
    }
    for broken in [&[][..], &[8, 0], &[1, 5], &[1, 0, 0]] {
        assert_eq!(Join::decode(broken), None, "{broken:?}");
    }
    for state in [None, Some(&[1, 2][..])] {
        let membership = Membership { session: SessionId(7 << 32 | 9), leg: BACKEND, state };
        let mut bytes = Vec::new();
        membership.encode(&mut bytes);
        bytes.extend(b"what follows");
        assert_eq!(Membership::decode(&bytes), Some((membership, &b"what follows"[..])));
        for length in 0..bytes.len() - 12 {
            assert_eq!(Membership::decode(&bytes[..length]), None);
        }
    }
    assert_eq!(Membership::decode(&[0, 3, 0]), None, "a leg too many");
}

#[test]
fn a_server_for_whom_there_was_no_room_is_asked_for_again() {
    let mut node = Node::new(true);
    assert_eq!(node.event(Event::Stands(CLIENT)), [Effect::Dial(BACKEND)]);
    assert_eq!(node.event(Event::Tick), [Effect::Dial(BACKEND)]);
    node.legs[1] = Some(app());
    assert_eq!(node.event(Event::Stands(BACKEND)), []);
}

#[test]
fn what_an_end_said_before_it_closed_is_heard_by_a_slow_reader() {
    let mut node = Node::standing(true);
    let text: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
    node.say(BACKEND, &text);
    node.with(BACKEND, App::on_peer_finished);
    assert_eq!(node.said(CLIENT), (text[..1000].to_vec(), false));
    assert_eq!(node.event(Event::Closed { leg: BACKEND, orderly: true }), []);
    node.legs[usize::from(BACKEND)] = None;
    assert_eq!(node.said(CLIENT), (text, true));
}
