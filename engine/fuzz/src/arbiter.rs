//! What the arbiter answers.

use standin::ids::{Epoch, Node};
use standin::role::{ArbiterRecord, Inquiry};
use standin::runtime::arbiter::etcd::Key;

/// The input is the body of an answer, to a reading and to a swap. What is believed of a reading is a
/// record that could have been written, and a write is believed only of who was asked to write.
pub fn run(data: &[u8]) {
    let Ok(body) = str::from_utf8(data) else { return };
    let key = Key::new("/standin/", "k");
    let record = ArbiterRecord { owner: Node::B, epoch: Epoch(5), boot: 7 };
    let swap = Inquiry::Swap { expected: None, revision: None, record };
    if let Ok(reply) = key.read_answer(&Inquiry::Read, body) {
        assert!(!reply.written, "a reading writes nothing");
        assert!(reply.record.is_some() || reply.revision == 0, "nothing has no revision");
        assert_eq!(key.read_answer(&Inquiry::Read, body), Ok(reply), "read alike again");
    }
    if let Ok(reply) = key.read_answer(&swap, body) {
        assert!(
            !reply.written || reply.record == Some(record),
            "what was written is what is there"
        );
    }
}
