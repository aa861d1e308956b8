//! The observer's book: what each node was handed of the other's log, and what it wrote.
//!
//! ```text
//!     owner X                                            other node Y
//!     LinkOut ──► Session::told     ── stream s ──►      LinkIn ──► Node::holds
//!     "from here on this connection is                   "this it can go on with, whatever
//!      Y's as well"                                       happens to X now"
//! ```
//!
//! Only whole frames count on either side. What Y holds outlives the stream: its process has it in
//! memory until it ends, or until a new snapshot begins. It can go on with it until X has greeted it
//! on another stream: from then on it waits for the snapshot of that one.

use std::collections::BTreeMap;

use super::packet::Pair;
use super::replica::{Item, Reader, Record, Unreadable};
use super::sight::NodeId;
use super::splice::Leg;

/// One connection as the log told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    conn: u64,
    pub(super) iss: u32,
    pub(super) irs: u32,
    /// Whether it was there before the session.
    pub(super) snapshot: bool,
    /// Input up to here is in the log, a FIN counted.
    pub(super) received: u64,
    /// The same when the connection was told.
    pub(super) told_received: u64,
    /// The client's FIN is in the log.
    pub(super) fin: bool,
    /// Input that the service had used up when the connection was told.
    pub(super) consumed: u64,
    /// Pins since then.
    pub(super) pins: u64,
}

/// One splice as the log told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Joint {
    name: u64,
    pub(super) leg: Leg,
    pub(super) seq: u32,
    pub(super) ts: u32,
}

/// What one direction of a stream has told since its snapshot began.
#[derive(Debug, Default)]
pub(super) struct Log {
    reader: Reader,
    by_pair: BTreeMap<Pair, Entry>,
    names: BTreeMap<u64, Pair>,
    /// Splices, by their clients.
    splices: BTreeMap<Pair, Joint>,
    /// The stream that is being read.
    stream: Option<u64>,
    /// The stream on which the snapshot began that all this belongs to.
    begun: Option<u64>,
    /// That snapshot has ended: every connection has been told.
    pub(super) whole: bool,
    /// Another stream has been opened since with a greeting: nobody counts on all this any more.
    given_up: bool,
}

/// Input that a record brought, to be compared with the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told<'a> {
    pub(super) pair: Pair,
    pub(super) iss: u32,
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
}

impl Log {
    fn read(&mut self, bytes: &[u8], input: &mut dyn FnMut(Told<'_>)) -> Result<(), Unreadable> {
        let mut reader = core::mem::take(&mut self.reader);
        let result = reader.read(bytes, &mut |item| match item {
            Item::Greeting => self.given_up = true,
            Item::Record(record) => self.apply(record, input),
        });
        self.reader = reader;
        result
    }

    fn apply(&mut self, record: Record<'_>, input: &mut dyn FnMut(Told<'_>)) {
        match record {
            Record::SnapshotBegin => {
                self.by_pair.clear();
                self.names.clear();
                self.splices.clear();
                (self.begun, self.whole, self.given_up) = (self.stream, false, false);
            }
            Record::SnapshotEnd => self.whole = true,
            Record::Opened { conn, pair, snapshot, state } => {
                let entry = Entry {
                    conn,
                    iss: state.iss,
                    irs: state.irs,
                    snapshot,
                    received: state.received,
                    told_received: state.received,
                    fin: state.peer_fin,
                    consumed: state.consumed,
                    pins: 0,
                };
                self.names.insert(conn, pair);
                self.by_pair.insert(pair, entry);
            }
            Record::Input { conn, offset, bytes } => {
                if let Some((pair, entry)) = self.named(conn) {
                    entry.received = offset + bytes.len() as u64;
                    input(Told { pair, iss: entry.iss, offset, bytes });
                }
            }
            Record::PeerFinished { conn, offset } => {
                if let Some((_, entry)) = self.named(conn) {
                    entry.received = offset + 1;
                    entry.fin = true;
                }
            }
            Record::Pin { conn } => {
                if let Some((_, entry)) = self.named(conn) {
                    entry.pins += 1;
                }
            }
            Record::Closed { conn } => {
                if let Some(pair) = self.names.remove(&conn)
                    && self.by_pair.get(&pair).is_some_and(|entry| entry.conn == conn)
                {
                    self.by_pair.remove(&pair);
                }
            }
            Record::Progress | Record::SpliceStage | Record::Backend => {}
            Record::Spliced { name, pair, leg, seq, ts } => {
                self.splices.insert(pair, Joint { name, leg, seq, ts });
            }
            Record::Unspliced { name } => self.splices.retain(|_, joint| joint.name != name),
        }
    }

    fn named(&mut self, conn: u64) -> Option<(Pair, &mut Entry)> {
        let pair = *self.names.get(&conn)?;
        let entry = self.by_pair.get_mut(&pair)?;
        (entry.conn == conn).then_some((pair, entry))
    }

    /// The splice of this client.
    pub(super) fn splice(&self, pair: Pair) -> Option<&Joint> {
        self.splices.get(&pair)
    }

    /// Whether a splice has this leg.
    pub(super) fn has_leg(&self, leg: Leg) -> bool {
        self.splices.values().any(|joint| joint.leg == leg)
    }

    /// The stream whose snapshot all this belongs to.
    pub(super) const fn begun(&self) -> Option<u64> {
        self.begun
    }

    /// The connection with these ends and this ISN of ours.
    pub(super) fn find(&self, pair: Pair, iss: u32) -> Option<&Entry> {
        self.by_pair.get(&pair).filter(|entry| entry.iss == iss)
    }
}

/// One node, as far as it can be seen.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Whether its process exists.
    pub(super) alive: bool,
    /// Since when it stands still.
    pub(super) frozen: Option<u64>,
    /// Until when it may not know, after a long sleep as owner, whether it still is one.
    pub(super) doubtful_until: u64,
    pub(super) routes: bool,
    /// What it says of itself.
    pub(super) owner: bool,
    pub(super) epoch: u64,
    pub(super) protected: bool,
    /// The stream that stands at its end.
    pub(super) stream: Option<u64>,
    /// What it wrote into that stream.
    pub(super) told: Log,
    /// What it was handed, of this stream or an earlier one.
    pub(super) holds: Log,
}

impl Node {
    /// Whether its process lives and does not stand still.
    pub(super) const fn is_awake(&self) -> bool {
        self.alive && self.frozen.is_none()
    }

    /// Its process is gone, or new: nothing is in its memory.
    pub(super) fn forget(&mut self, alive: bool) {
        *self = Self { alive, ..Self::default() };
    }

    pub(super) fn link_up(&mut self, stream: u64) {
        self.stream = Some(stream);
        self.told = Log { stream: self.stream, ..Log::default() };
        // A new stream, a new first frame; what is held stays until its snapshot begins.
        self.holds.reader = Reader::default();
        self.holds.stream = self.stream;
    }

    pub(super) fn link_down(&mut self, stream: u64) {
        if self.stream == Some(stream) {
            self.stream = None;
            self.told = Log::default();
        }
    }

    pub(super) fn wrote(&mut self, stream: u64, bytes: &[u8]) -> Result<(), Unreadable> {
        if self.stream != Some(stream) {
            return Ok(());
        }
        self.told.read(bytes, &mut |_| ())
    }

    pub(super) fn was_handed(
        &mut self,
        stream: u64,
        bytes: &[u8],
        input: &mut dyn FnMut(Told<'_>),
    ) -> Result<(), Unreadable> {
        if self.stream != Some(stream) {
            return Ok(());
        }
        self.holds.read(bytes, input)
    }
}

/// Both nodes.
#[derive(Debug, Default)]
pub(super) struct Book {
    nodes: [Node; 2],
}

impl Book {
    pub(super) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.index()]
    }

    pub(super) fn node_mut(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[node.index()]
    }

    /// The log of the session that binds `owner`: a snapshot has begun on the stream that stands
    /// at its end, and at the other, whose process lives, that stream stands too, or has ended and
    /// what it brought is still there.
    pub(super) fn session(&self, owner: NodeId) -> Option<&Log> {
        let (one, other) = (self.node(owner), self.node(owner.peer()));
        let kept = !other.holds.given_up && other.holds.begun == one.told.begun;
        let stands = one.stream.is_some() && (one.stream == other.stream || kept);
        (stands && other.alive && one.told.begun.is_some()).then_some(&one.told)
    }

    /// What the other node holds by that session; nothing while its snapshot has not reached it.
    pub(super) fn held(&self, owner: NodeId, pair: Pair, iss: u32) -> Option<&Entry> {
        let session = self.session(owner)?;
        let holds = &self.node(owner.peer()).holds;
        if holds.begun != session.begun {
            return None;
        }
        holds.find(pair, iss)
    }

    /// The same for the splice of a client.
    pub(super) fn held_splice(&self, owner: NodeId, pair: Pair) -> Option<&Joint> {
        let session = self.session(owner)?;
        let holds = &self.node(owner.peer()).holds;
        if holds.begun != session.begun {
            return None;
        }
        holds.splice(pair)
    }

    /// Whether all of the session's snapshot has been handed to the other node.
    pub(super) fn is_covered(&self, owner: NodeId) -> bool {
        let holds = &self.node(owner.peer()).holds;
        self.session(owner).is_some_and(|log| log.whole && log.begun == holds.begun) && holds.whole
    }

    /// Whether the end of `owner` at this moment must not cost a connection: it says so, and the
    /// other node's process is awake and has been handed a whole snapshot.
    pub(super) fn is_promised(&self, owner: NodeId) -> bool {
        let (one, other) = (self.node(owner), self.node(owner.peer()));
        let ready = other.alive && other.frozen.is_none() && other.holds.whole;
        one.owner && one.protected && ready
    }
}
