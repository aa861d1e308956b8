//! Heartbeats: the plain text, and the sealed datagram around it.
//!
//! The whole input is read as a plain heartbeat; then, in pieces, it orders what arrives at a node:
//! datagrams of its peer, late, again, damaged, on the wrong path, of an earlier run, or made up.

use std::collections::BTreeSet;

use standin::ids::Node;
use standin::replica::Heartbeat;
use standin::role::Path;
use standin::runtime::key::PairKey;
use standin::runtime::seal::{RUNS_MAX, Seal};

use crate::pieces::Pieces;

/// Reads the input as a heartbeat, then plays it against two nodes that seal theirs.
pub fn run(data: &[u8]) {
    if let Ok(heartbeat) = Heartbeat::decode(data) {
        // What is behind version 3's part may not be there, and has bits that this version does not
        // know.
        let (written, known) = (heartbeat.encode(), Heartbeat::LEN_3);
        assert_eq!(written[..known], data[..known], "written as read");
        assert_eq!(Heartbeat::decode(&written), Ok(heartbeat), "read as written");
    }
    let Ok(key) = PairKey::parse(&[b'7'; 64]) else { unreachable!("64 digits") };
    let mut a = Seal::new(key.clone(), Node::A, 1);
    let mut b = Seal::new(key.clone(), Node::B, 100);
    let (mut sent, mut believed): (Vec<Sent>, _) = (Vec::new(), BTreeSet::new());
    let mut pieces = Pieces::new(data);
    let mut boots = 1;
    while let Some(order) = pieces.next() {
        let path = if order & 1 == 0 { Path::Replication } else { Path::Lan };
        let mut datagram = Vec::new();
        match order >> 1 & 7 {
            // A says something; it may arrive at once, later, or never.
            0 | 1 => {
                let plain = (sent.len() as u64).to_be_bytes();
                a.seal(path, 100, &plain, &mut datagram);
                sent.push(Sent { path, datagram: datagram.clone() });
            }
            2 => {
                boots += 1;
                a = Seal::new(key.clone(), Node::A, boots);
            }
            // So that A knows this run of B.
            3 => {
                b.seal(path, boots, b"hello", &mut datagram);
                let _ = a.open(path, &mut datagram);
                datagram.clear();
            }
            4 | 5 => {
                let index = usize::from(pieces.byte());
                let Some(old) = sent.get(index) else { continue };
                datagram.clone_from(&old.datagram);
            }
            6 => {
                let (index, at) = (usize::from(pieces.byte()), usize::from(pieces.byte()));
                let Some(old) = sent.get(index) else { continue };
                datagram.clone_from(&old.datagram);
                let at = at % datagram.len();
                datagram[at] ^= pieces.byte() | 1;
                if b.open(path, &mut datagram).is_ok() {
                    panic!("a damaged heartbeat is not believed");
                }
                continue;
            }
            _ => {
                datagram = pieces.run().to_vec();
                assert!(b.open(path, &mut datagram).is_err(), "who has no key is not believed");
                continue;
            }
        }
        let Ok(plain) = b.open(path, &mut datagram) else { continue };
        let number = u64::from_be_bytes(plain.try_into().expect("what was sealed"));
        let original = &sent[number as usize];
        assert_eq!(original.path, path, "on the path that it was sent on");
        // Whose counters are remembered; of others the role machine knows.
        let remembered = boots <= RUNS_MAX as u64;
        assert!(believed.insert(number) || !remembered, "a heartbeat is opened once");
    }
}

struct Sent {
    path: Path,
    datagram: Vec<u8>,
}
