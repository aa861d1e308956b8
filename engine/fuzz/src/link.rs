//! The encrypted stream between the engines: handshake and transport, on a network that may cut,
//! damage and make up bytes.
//!
//! What travels is chosen by the system's random source inside the handshake, so an input means the
//! same orders each time, not the same bytes. The property does not depend on them: whatever
//! happens on the way, what comes out is a prefix of what went in.

use standin::ids::Node;
use standin::runtime::secure::{End, Identity, Secure};

use crate::pieces::Pieces;

/// More than an honest peer leaves unread: one message and its length.
const REST_MAX: usize = 65_537;

/// Both ends of a stream, and what is on its way.
struct Side {
    secure: Secure,
    /// On the way to this side.
    arriving: Vec<u8>,
    /// Handed to the peer's `seal`, and what has come out here.
    said: Vec<u8>,
    heard: Vec<u8>,
    failed: bool,
}

/// Two ends with one key, or with two; the input orders what the network does.
pub fn run(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let other_key = pieces.byte() == 0xff;
    let mut sides = [side(End::Dialler, Node::A, 7), side(End::Listener, Node::B, 7)];
    if other_key {
        sides[1] = side(End::Listener, Node::B, 8);
    }
    let first = sides.each_mut().map(|(_, out)| core::mem::take(out));
    let mut sides = sides.map(|(side, _)| side);
    let [from_a, from_b] = first;
    sides[0].arriving = from_b;
    sides[1].arriving = from_a;
    while let Some(order) = pieces.next() {
        let at = usize::from(order & 1);
        match order >> 1 & 7 {
            0..=2 => deliver(&mut sides, at, usize::MAX),
            3 => deliver(&mut sides, at, pieces.byte().into()),
            4 | 5 => say(&mut sides, at, &mut pieces),
            6 => damage(&mut sides[at].arriving, &mut pieces),
            _ => {
                let made_up = pieces.run();
                sides[at].arriving.extend_from_slice(made_up);
            }
        }
        for side in 0..2 {
            let said = &sides[1 - side].said;
            assert!(said.starts_with(&sides[side].heard), "what comes out is what went in");
            assert!(!(other_key && sides[side].secure.is_open()), "two keys, no stream");
        }
    }
}

fn side(end: End, node: Node, key: u8) -> (Side, Vec<u8>) {
    let mut out = Vec::new();
    let secure = Secure::new(end, Identity { key: [key; 32].into(), node, boot: 3 }, &mut out);
    let (arriving, said, heard) = (Vec::new(), Vec::new(), Vec::new());
    (Side { secure, arriving, said, heard, failed: false }, out)
}

/// Up to `count` of the bytes on their way arrive.
fn deliver(sides: &mut [Side; 2], at: usize, count: usize) {
    let side = &mut sides[at];
    let count = count.min(side.arriving.len());
    let (mut reply, mut plain) = (Vec::new(), Vec::new());
    match side.secure.receive(&side.arriving[..count], &mut reply, &mut plain) {
        Ok(used) => {
            assert!(!side.failed, "a stream that failed does not recover");
            assert!(count - used <= REST_MAX, "what is complete is taken");
            side.arriving.drain(..used);
        }
        Err(_) => {
            side.failed = true;
            side.arriving.clear();
        }
    }
    side.heard.extend_from_slice(&plain);
    sides[1 - at].arriving.extend_from_slice(&reply);
}

fn say(sides: &mut [Side; 2], at: usize, pieces: &mut Pieces<'_>) {
    // Long enough at times for two messages.
    let length = usize::from(pieces.byte()) * usize::from(pieces.byte()) * 2;
    let start = sides[at].said.len();
    let bytes: Vec<u8> = (start..start + length).map(|i| (i % 253) as u8).collect();
    let mut out = Vec::new();
    if sides[at].secure.seal(&bytes, &mut out).is_ok() {
        sides[at].said.extend_from_slice(&bytes);
        sides[1 - at].arriving.extend_from_slice(&out);
    } else {
        assert!(!sides[at].secure.is_open() && out.is_empty());
    }
}

fn damage(bytes: &mut Vec<u8>, pieces: &mut Pieces<'_>) {
    let (at, how) = (usize::from(pieces.word()), pieces.byte());
    if bytes.is_empty() {
        return;
    }
    let at = at % bytes.len();
    match how {
        0 => bytes.truncate(at),
        1 => drop(bytes.remove(at)),
        _ => bytes[at] ^= how,
    }
}
