//! I1 and I2: what may leave before the other node holds what it follows from.
//!
//! The rule, from the design rather than from the engine: *while a standby follows, whatever a
//! client is told must be in the standby's hands first.* In terms of what can be seen:
//!
//! * A node is **bound** while a session stands: it has begun a snapshot on the replication stream
//!   at its end, the other process lives, and at its end that stream has not ended, or it still
//!   holds what came by it. Who is not bound is in simplex, and nothing is asked of it here.
//! * A bound node owes for a connection from the moment that it has **told** of it, that is, put
//!   the connection's opening into the stream. A connection that is younger than the session owes
//!   from its SYN-ACK on. One that is older had been talking alone: what is in its opening (`told`)
//!   may show before the opening has arrived, what came later may not.
//! * Once the snapshot is complete, no segment of a connection that has not been told may leave.
//!   (A SYN-ACK may: a SYN cookie is told when it comes back. So may its copies, for SYNs that came
//!   twice, even when it has come back meanwhile: any node knows it again.)
//! * Then: an ACK field up to *n* needs input up to *n* **handed** to the other node, in a whole
//!   frame. A byte of `echo` needs the same byte of input; a byte of a `files` reply needs the
//!   request's head and the reply's pin; a FIN that follows the client's needs that FIN.
//!
//! A stream that breaks at the owner's end ends the session at once for this observer, although a pair in duplex goes
//! on being bound until the other node has renounced. That is agreed by heartbeats, which no tap
//! shows. It is judged afterwards instead: when another node speaks for a connection, its ACK field
//! may not lie below what the one before has shown (I1), nor its bytes differ (I2).

use super::book::{Book, Entry};
use super::connection::Connection;
use super::content::Content;
use super::packet::Segment;
use super::sight::NodeId;
use super::violation::{Complaints, Invariant};

/// What the other node can be shown to have, of one connection.
#[derive(Clone, Copy, Debug)]
struct Covered {
    /// Input, a FIN counted.
    received: u64,
    /// Replies of `files`.
    replies: u64,
}

/// Judges `segment`, which `node` lets out for `connection`: it ends at output offset `end`, and
/// acknowledges input up to `ack`.
pub(super) fn judge(
    connection: &Connection,
    node: NodeId,
    segment: &Segment<'_>,
    (ack, end): (u64, u64),
    book: &Book,
    complaints: &mut Complaints,
) {
    let Some(session) = book.session(node) else { return };
    let pair = connection.pair;
    let Some(told) = session.find(pair, connection.iss) else {
        if session.whole && !segment.syn {
            let text = format!("{pair}: speaks, and the standby was never told of it");
            complaints.say(Invariant::I1, text);
        }
        return;
    };
    let held = book.held(node, pair, connection.iss);
    if segment.syn && connection.cookie {
        return;
    }
    if held.is_none() && !told.snapshot {
        let text = format!("{pair}: speaks before the standby holds its opening");
        complaints.say(Invariant::I1, text);
        return;
    }
    let covered = covered(connection, told, held);
    if ack > covered.received {
        let text = format!("{pair}: acknowledges {ack}, the standby holds {}", covered.received);
        complaints.say(Invariant::I1, text);
    }
    if let Err(text) = judge_output(connection, segment, end, covered) {
        complaints.say(Invariant::I2, format!("{pair}: {text}"));
    }
}

fn covered(connection: &Connection, told: &Entry, held: Option<&Entry>) -> Covered {
    let before = match &connection.content {
        Content::Files(http) => http.requests_within(told.consumed),
        Content::Echo | Content::Discard | Content::Chargen | Content::Others | Content::None => 0,
    };
    Covered {
        received: held.map_or(0, |held| held.received).max(told.told_received),
        replies: before + held.map_or(0, |held| held.pins),
    }
}

fn judge_output(
    connection: &Connection,
    segment: &Segment<'_>,
    end: u64,
    covered: Covered,
) -> Result<(), String> {
    let held = covered.received;
    if let (true, Some(last)) = (!segment.payload.is_empty(), end.checked_sub(1)) {
        match &connection.content {
            Content::Echo if end > held => {
                return Err(format!("echoes up to {end}, the standby holds {held}"));
            }
            Content::Files(http) => {
                if let Some((reply, head)) = http.reply_at(last) {
                    if head > held {
                        return Err(format!(
                            "answers a request that ends at {head}, the standby holds {held}"
                        ));
                    }
                    if reply >= covered.replies {
                        let pins = covered.replies;
                        return Err(format!("sends reply {reply}, the standby has {pins} pins"));
                    }
                }
            }
            Content::Echo
            | Content::Discard
            | Content::Chargen
            | Content::Others
            | Content::None => {}
        }
    }
    let follows = matches!(connection.content, Content::Echo | Content::Discard);
    if segment.fin && follows && connection.input_fin.is_some_and(|fin| held <= fin) {
        return Err(format!("finishes, the standby holds {held} and not the client's FIN"));
    }
    Ok(())
}
