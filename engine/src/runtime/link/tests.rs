use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use mio::{Events, Poll};

use super::*;

const KEY: [u8; 32] = [9; 32];

/// One event, owned.
#[derive(PartialEq, Eq, Debug, Clone)]
enum Seen {
    Connected(u64),
    Data(Vec<u8>),
    Closed,
    Refused,
    Incompatible(Incompatible),
}

fn note(seen: &mut Vec<Seen>) -> impl FnMut(LinkEvent<'_>) + '_ {
    |event| match event {
        LinkEvent::Connected { boot } => seen.push(Seen::Connected(boot)),
        LinkEvent::Data(bytes) => match seen.last_mut() {
            Some(Seen::Data(before)) => before.extend_from_slice(bytes),
            _ => seen.push(Seen::Data(bytes.to_vec())),
        },
        LinkEvent::Closed => seen.push(Seen::Closed),
        LinkEvent::Refused => seen.push(Seen::Refused),
        LinkEvent::Incompatible { why } => seen.push(Seen::Incompatible(why)),
    }
}

/// A link with its own poll and a clock moved by hand.
struct Side {
    poll: Poll,
    link: Link,
    seen: Vec<Seen>,
    now: Instant,
}

impl Side {
    fn open(node: Node, boot: u64, key: [u8; 32], local: SocketAddr, peer: SocketAddr) -> Self {
        let poll = Poll::new().unwrap();
        let settings =
            LinkSettings { local, peer, user_timeout: Duration::from_secs(1), buffer: 1 << 20 };
        let identity = Identity { key: key.into(), node, boot };
        let link = Link::open(poll.registry(), 5, identity, settings).unwrap();
        Self { poll, link, seen: Vec::new(), now: Instant::from_millis(1000) }
    }

    fn turn(&mut self) {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(Duration::from_millis(2))).unwrap();
        for event in &events {
            self.link.on_ready(event);
        }
        let mut rounds = 0;
        while self.link.turn(self.now, &mut note(&mut self.seen)) && rounds < 100 {
            rounds += 1;
        }
    }

    fn dial(&mut self) {
        self.link.dial(self.now, &mut note(&mut self.seen));
    }

    fn send(&mut self, plain: &mut Vec<u8>) {
        self.link.send(plain, &mut note(&mut self.seen));
    }

    fn take(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }
}

fn addresses() -> [SocketAddr; 2] {
    let sockets = [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    sockets.map(|socket| socket.local_addr().unwrap())
}

fn pair(key_b: [u8; 32]) -> (Side, Side) {
    let [a, b] = addresses();
    (Side::open(Node::A, 1, KEY, a, b), Side::open(Node::B, 2, key_b, b, a))
}

/// Turns both until `done`, for at most ten seconds.
fn run(a: &mut Side, b: &mut Side, mut done: impl FnMut(&Side, &Side) -> bool) {
    for _ in 0..2500 {
        if done(a, b) {
            return;
        }
        a.turn();
        b.turn();
    }
    panic!("a saw {:?}, b saw {:?}", a.seen, b.seen);
}

fn connected() -> (Side, Side) {
    let (mut a, mut b) = pair(KEY);
    b.dial();
    run(&mut a, &mut b, |a, b| a.link.is_connected() && b.link.is_connected());
    assert_eq!((a.take(), b.take()), (vec![Seen::Connected(2)], vec![Seen::Connected(1)]));
    (a, b)
}

#[test]
fn megabytes_cross_both_ways_within_bounded_memory() {
    let (mut a, mut b) = connected();
    let long: Vec<u8> = (0..8_000_000u32).map(|n| (n / 7) as u8).collect();
    let (mut to_b, mut to_a) = (long.clone(), b"short".to_vec());
    a.send(&mut to_b);
    assert!(to_b.len() > 4_000_000, "what nobody reads stays with the caller");
    assert!(a.link.backlog() <= OUTGOING_MAX + 65_600, "{}", a.link.backlog());
    b.send(&mut to_a);
    let heard = |side: &Side| match side.seen.as_slice() {
        [Seen::Data(bytes)] => bytes.len(),
        _ => 0,
    };
    while heard(&b) < long.len() || heard(&a) < 5 {
        a.turn();
        b.turn();
        a.send(&mut to_b);
    }
    assert!(b.take() == [Seen::Data(long)]);
    assert_eq!(a.take(), [Seen::Data(b"short".to_vec())]);
}

#[test]
fn last_words_are_heard_before_the_end() {
    let (mut a, mut b) = connected();
    a.send(&mut b"handover".to_vec());
    a.link.hang_up();
    assert!(!a.link.is_connected());
    run(&mut a, &mut b, |_, b| !b.link.is_connected());
    assert_eq!(b.take(), [Seen::Data(b"handover".to_vec()), Seen::Closed]);
    assert_eq!(a.take(), [], "who hangs up knows it");
    let mut stale = b"for nobody".to_vec();
    a.send(&mut stale);
    assert!(stale.is_empty());
}

#[test]
fn process_death_is_closed_and_then_refused() {
    let (a, mut b) = connected();
    drop(a);
    let mut other = pair(KEY).0;
    run(&mut other, &mut b, |_, b| !b.link.is_connected());
    b.dial();
    run(&mut other, &mut b, |_, b| b.seen.len() == 2);
    assert_eq!(b.take(), [Seen::Closed, Seen::Refused]);
}

#[test]
fn another_key_is_incompatible_to_the_dialler_and_nothing_to_the_listener() {
    let (mut a, mut b) = pair([8; 32]);
    b.dial();
    run(&mut a, &mut b, |_, b| !b.seen.is_empty());
    let why = Incompatible::Refused(crate::runtime::secure::Refusal::Key);
    assert_eq!(b.take(), [Seen::Incompatible(why)]);
    assert_eq!(a.take(), []);
}

#[test]
fn strangers_do_not_disturb_the_link_and_are_sent_away_in_time() {
    let (mut a, mut b) = connected();
    let address = a.link.listener.local_addr().unwrap();
    let mut strangers: Vec<_> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    strangers[0].write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    for _ in 0..20 {
        a.turn();
    }
    assert_eq!(a.take(), []);
    let taken = |side: &Side| side.link.slots.iter().flatten().count();
    assert!(taken(&a) < SLOTS, "one is kept for the dial");
    assert_eq!(a.link.deadline(), Some(a.now + HANDSHAKE_TIME));
    a.now = a.now + HANDSHAKE_TIME;
    a.link.on_timer(a.now, &mut note(&mut a.seen));
    assert_eq!((taken(&a), a.link.deadline()), (1, None));
    let mut left = Vec::new();
    strangers[1].read_to_end(&mut left).unwrap();
    assert_eq!(left.len(), 16, "a preamble, and then the end");

    b.send(&mut b"still here".to_vec());
    run(&mut a, &mut b, |a, _| !a.seen.is_empty());
    assert_eq!(a.take(), [Seen::Data(b"still here".to_vec())]);
}

#[test]
fn a_new_run_of_the_peer_replaces_the_old() {
    let (mut a, b) = connected();
    let (local, peer) = (b.link.settings.local, b.link.settings.peer);
    // The old process hangs, its connection stays; its listener's port is taken over.
    let Side { poll: _poll, link, .. } = b;
    let Link { listener, slots: _slots, .. } = link;
    drop(listener);
    let mut again = Side::open(Node::B, 3, KEY, local, peer);
    again.dial();
    run(&mut a, &mut again, |a, b| a.seen.len() == 2 && b.link.is_connected());
    assert_eq!(a.take(), [Seen::Closed, Seen::Connected(3)]);
    again.send(&mut b"hello".to_vec());
    run(&mut a, &mut again, |a, _| !a.seen.is_empty());
    assert_eq!(a.take(), [Seen::Data(b"hello".to_vec())]);
}

#[test]
fn dials_that_cross_leave_one_link() {
    for _ in 0..20 {
        let (mut a, mut b) = pair(KEY);
        a.dial();
        b.dial();
        for _ in 0..10 {
            a.turn();
            b.turn();
        }
        assert!(a.link.is_connected() && b.link.is_connected(), "{:?} {:?}", a.seen, b.seen);
        a.take();
        a.send(&mut b"one".to_vec());
        run(&mut a, &mut b, |_, b| b.seen.last() == Some(&Seen::Data(b"one".to_vec())));
        b.take();
        b.send(&mut b"two".to_vec());
        run(&mut a, &mut b, |a, _| a.seen.last() == Some(&Seen::Data(b"two".to_vec())));
        assert_eq!(b.take(), []);
    }
}

#[test]
fn a_dial_that_nobody_answers_ends_in_time() {
    let [local, peer] = addresses();
    // Accepts, and says nothing.
    let _mute = std::net::TcpListener::bind(peer).unwrap();
    let mut side = Side::open(Node::A, 1, KEY, local, peer);
    side.dial();
    side.dial();
    side.turn();
    assert_eq!(side.link.slots.iter().flatten().count(), 1, "one attempt at a time");
    side.now = side.link.deadline().unwrap();
    side.link.on_timer(side.now, &mut note(&mut side.seen));
    assert_eq!((side.take(), side.link.deadline()), (vec![], None), "asked for again, if wanted");
}

#[test]
fn a_knock_tells_a_refusal_and_nothing_else() {
    let (mut a, mut b) = pair(KEY);
    b.link.knock(b.now, &mut note(&mut b.seen));
    for _ in 0..10 {
        a.turn();
        b.turn();
    }
    assert!(b.link.knock.is_none());
    assert_eq!((a.take(), b.take()), (vec![], vec![]));
    assert_eq!(a.link.slots.iter().flatten().count(), 0, "the caller is gone");
    drop(a);
    let mut other = pair(KEY).0;
    b.link.knock(b.now, &mut note(&mut b.seen));
    run(&mut other, &mut b, |_, b| !b.seen.is_empty());
    assert_eq!(b.take(), [Seen::Refused]);
}

#[test]
fn an_accept_that_fails_for_want_of_descriptors_is_tried_again_later() {
    let error = |number| std::io::Error::from_raw_os_error(number);
    assert!(super::lacks_something(&error(libc::EMFILE)));
    assert!(super::lacks_something(&error(libc::ENFILE)));
    assert!(!super::lacks_something(&error(libc::ECONNABORTED)), "the next may be another");
}
