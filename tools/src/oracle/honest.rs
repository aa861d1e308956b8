//! I7: whoever says "protected" is.
//!
//! An owner's word is founded while the other node's process is awake, holds the whole snapshot of
//! the session that binds the owner, and has been handed everything that any live connection was
//! told. Whether the stream still stands at the other end does not matter: the owner shows nothing
//! more before it is confirmed, so what the other holds is all it needs, until it gives that up. A
//! standby's word is founded while it holds such a snapshot.
//!
//! Nobody knows of a failure before the detection time, so an unfounded word is a lie only once it
//! has stood for longer than [`GRACE`] of them: one for the silence to count, one because the last
//! beat was still under way and the first silent one not yet due. A node that stands still says
//! nothing; its time runs while it is awake.
//!
//! Whether the other node's LAN works, and whether its copy of a file is the pinned one, no tap
//! shows: those two reasons to be unprotected are not judged here. (The simulator's world judges the
//! LAN carrier.)

use super::book::Book;
use super::connection::Connection;
use super::sight::{Facts, NodeId};
use super::splice::Splice;
use super::violation::{Complaints, Invariant};

/// Detection times that an unfounded word may stand.
const GRACE: u64 = 2;
/// How often in a detection time they are looked at.
const LOOKS: u64 = 8;

/// The words of both nodes.
#[derive(Debug, Default)]
pub(super) struct Words {
    nodes: [Word; 2],
    /// When they were last looked at.
    looked: Option<u64>,
}

#[derive(Debug, Default)]
struct Word {
    /// Since when it is unfounded.
    since: Option<u64>,
    /// It has been complained of.
    told: bool,
}

impl Words {
    /// A node says something else, stands still, goes on, or is another process.
    pub(super) fn on_change(&mut self, node: NodeId) {
        self.nodes[node.index()] = Word::default();
        self.looked = None;
    }

    /// Time has passed.
    pub(super) fn judge<'a>(
        &mut self,
        now: u64,
        facts: &Facts,
        book: &Book,
        connections: impl Iterator<Item = &'a Connection> + Clone,
        splices: impl Iterator<Item = &'a Splice> + Clone,
        complaints: &mut Complaints,
    ) {
        if self.looked.is_some_and(|looked| now < looked + facts.detection / LOOKS) {
            return;
        }
        self.looked = Some(now);
        for node in [NodeId::A, NodeId::B] {
            let doubt = doubt(now, node, book, connections.clone(), splices.clone());
            let word = &mut self.nodes[node.index()];
            let Some(doubt) = doubt else {
                *word = Word::default();
                continue;
            };
            let since = *word.since.get_or_insert(now);
            if now - since > GRACE * facts.detection && !word.told {
                word.told = true;
                let text = format!(
                    "{} says protected for {} ms although {doubt}",
                    node.name(),
                    (now - since) / 1_000_000
                );
                complaints.say(Invariant::I7, text);
            }
        }
    }
}

/// Why what `node` says cannot be true. `None`: it can, or it says nothing.
fn doubt<'a>(
    now: u64,
    node: NodeId,
    book: &Book,
    mut connections: impl Iterator<Item = &'a Connection>,
    mut splices: impl Iterator<Item = &'a Splice>,
) -> Option<String> {
    let (one, other) = (book.node(node), book.node(node.peer()));
    if !one.protected || !one.alive || one.frozen.is_some() {
        return None;
    }
    if !one.owner {
        return (!one.holds.whole).then(|| "it holds no whole snapshot".to_owned());
    }
    if !other.alive {
        return Some("the other node is dead".to_owned());
    }
    if other.frozen.is_some() {
        return Some("the other node stands still".to_owned());
    }
    if !book.is_covered(node) {
        return Some("the other node holds no whole snapshot that it could go on with".to_owned());
    }
    let unknown = splices.find(|splice| {
        let held = book.held_splice(node, splice.pair);
        let holds = held.is_some_and(|held| splice.is_as_told(held));
        splice.must_go_on() && !holds
    });
    if let Some(splice) = unknown {
        return Some(format!("the other node does not hold the splice of {}", splice.pair));
    }
    let lost = connections.find(|connection| {
        let held = book.held(node, connection.pair, connection.iss);
        let holds = held.is_some_and(|held| held.received >= connection.ack);
        connection.must_go_on(now) && !holds
    })?;
    Some(format!("the other node does not hold what {} was told", lost.pair))
}
