//! The independent observer: holds what a pair does against the design's invariants.
//!
//! It stands beside the world with a tap on the LAN and a tap on the replication stream, keeps a
//! book of what each node provably holds, and judges each [`Sight`] as it comes. It shares no code
//! with the engine: packets are read by `etherparse`, the stream by a reader of its own, offsets
//! and windows by its own arithmetic. What the engine believes about itself it never learns, but
//! for what an operator would read ([`Sight::Says`]).
//!
//! | invariant | what is judged | where |
//! |---|---|---|
//! | I1 | an ACK covers what the other node was handed; none goes back at a takeover. A relay's covers what the other end has acknowledged, and nothing of a splice shows before the other node was handed it | `commit`, `notice`; `splice`, `relays` |
//! | I2 | one byte per offset, for ever; output follows from input and pins that were handed over; a relay's is what the other end said | `commit`, `splice`, here |
//! | I3 | one speaker, later epochs only | `speaker` |
//! | I4 | no reset, no step back of ACK, window or timestamp; options and sizes as negotiated | `notice`, here |
//! | I5 | routes before the claim, the claim before packets; no reset from who knows nothing | `speaker`, here |
//! | I6 | the bytes are those of the service | `content`, `http` |
//! | I7 | "protected" is true | `honest` |
//!
//! **What may be lost.** A connection must go on from the moment its client has acknowledged our
//! SYN and we have taken that in (a SYN cookie's acknowledgment may be lost, and then nobody here
//! knows of it) until both sides are done. Taken in it is when we say more, or tell the standby. It is released when its owner is lost at a moment when it did
//! not say "protected", or when the other node was not awake with a whole snapshot in its hands:
//! two failures at once, within the detection time of each other, may cost connections. Released
//! means that it may be reset. It never means that wrong bytes may follow.
//!
//! **What is asked of the world.** Sights come in the order of the moments that they show. A
//! [`Sight::Says`] comes before the packets and frames of the turn that it describes, and a
//! [`Sight::Routes`] where the action is carried out. IP fragments are not put together: when an
//! engine has all of a packet, the world shows the whole.

mod book;
mod commit;
mod connection;
mod content;
mod honest;
mod http;
mod notice;
mod packet;
mod relays;
mod replica;
mod sight;
mod speaker;
mod splice;
mod stream;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::BTreeMap;

use book::{Book, Told};
use connection::Connection;
use honest::Words;
use packet::{Options, Packet, Pair, Segment};
use relays::{Court, Relays};
use speaker::Speakers;
use splice::Leg;
use violation::Complaints;

pub use sight::{Facts, File, Kind, NodeId, Service, Sight};
pub use violation::{Invariant, Violation};

/// SYNs, and answers to them, that are remembered of a pair of ends before one is acknowledged.
const ATTEMPTS: usize = 8;
/// A node that stood still for this many eighths of the detection time has lost its lease.
const LEASE_EIGHTHS: u64 = 6;
/// Detection times after which a sleeper has heard of its standby again.
const DOUBT: u64 = 5;

/// The observer of one world.
#[derive(Debug)]
pub struct Oracle {
    facts: Facts,
    book: Book,
    /// By their ends; the last incarnation of each.
    connections: BTreeMap<Pair, Connection>,
    /// SYN-ACKs that nobody has acknowledged, with what has become of them so far.
    attempts: BTreeMap<Pair, Vec<Connection>>,
    /// The ISN and options of clients' SYNs.
    syns: BTreeMap<Pair, Vec<(u32, Options)>>,
    relays: Relays,
    speakers: Speakers,
    words: Words,
    complaints: Complaints,
}

impl Oracle {
    /// An observer who has seen nothing yet.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            book: Book::default(),
            connections: BTreeMap::new(),
            attempts: BTreeMap::new(),
            syns: BTreeMap::new(),
            relays: Relays::default(),
            speakers: Speakers::default(),
            words: Words::default(),
            complaints: Complaints::default(),
        }
    }

    /// What was broken so far, oldest first; after a few dozen no more is kept.
    pub fn violations(&self) -> &[Violation] {
        self.complaints.kept()
    }

    /// Judges one sight. `now`: nanoseconds of the world's clock, never less than before.
    pub fn see(&mut self, now: u64, sight: Sight<'_>) {
        self.complaints.at(now);
        match sight {
            Sight::PacketOut { node, packet } => self.on_packet_out(now, node, packet),
            Sight::PacketIn { node: _, packet } => self.on_packet_in(now, packet),
            Sight::FrameOut { node, frame } => self.on_frame_out(node, frame),
            Sight::LinkUp { node, stream } => self.book.node_mut(node).link_up(stream),
            Sight::LinkOut { node, stream, bytes } => {
                let result = self.book.node_mut(node).wrote(stream, bytes);
                self.check_readable(result);
            }
            Sight::LinkIn { node, stream, bytes } => self.on_link_in(node, stream, bytes),
            Sight::LinkDown { node, stream } => self.book.node_mut(node).link_down(stream),
            Sight::Routes { node, installed } => self.book.node_mut(node).routes = installed,
            Sight::Started { node } => self.on_process(now, node, true),
            Sight::Ended { node } => self.on_process(now, node, false),
            Sight::Frozen { node } => self.on_frozen(now, node),
            Sight::Thawed { node } => self.on_thawed(now, node),
            Sight::Says { node, owner, epoch, protected } => {
                self.on_says(node, owner, epoch, protected);
            }
            Sight::Excused { client, service, why: _ } => self.excuse(Pair { client, service }),
            Sight::Breakable { client, service } => self.release(Pair { client, service }),
        }
        let Self { words, facts, book, connections, relays, complaints, .. } = self;
        words.judge(now, facts, book, connections.values(), relays.splices(), complaints);
    }

    // ---- the LAN ----

    fn on_packet_out(&mut self, now: u64, node: NodeId, bytes: &[u8]) {
        match Packet::read(bytes) {
            Packet::Segment(segment) => {
                let from = segment.source.ip();
                self.speakers.on_packet(node, from, &self.book, &mut self.complaints);
                self.on_segment_out(now, node, &segment);
            }
            Packet::Other(from) => {
                self.speakers.on_packet(node, from, &self.book, &mut self.complaints);
            }
            Packet::Broken => {
                let text = format!("{} sends what is no IP packet", node.name());
                self.complaints.say(Invariant::I6, text);
            }
        }
    }

    fn on_segment_out(&mut self, now: u64, node: NodeId, segment: &Segment<'_>) {
        let pair = Pair { client: segment.target, service: segment.source };
        if self.facts.dialled.contains(&segment.target) {
            // What it is told shows in what its client hears.
            return;
        }
        if self.facts.backends.contains(&segment.target) {
            let leg = Leg { service: segment.source, backend: segment.target };
            let (relays, mut court) = self.court();
            return relays.backend_is_told(node, leg, segment, &mut court);
        }
        if self.facts.is_relay(segment.source.port()) {
            let (relays, mut court) = self.court();
            return relays.client_is_told(node, pair, segment, &mut court);
        }
        if segment.rst {
            self.on_reset_out(now, node, pair);
        } else if segment.syn {
            self.on_syn_ack(now, node, pair, segment);
        } else {
            self.on_speech(now, node, pair, segment);
        }
    }

    fn court(&mut self) -> (&mut Relays, Court<'_>) {
        let Self { facts, book, complaints, relays, .. } = self;
        (relays, Court { facts, book, complaints })
    }

    /// I4, or I5 where it comes from a node that never knew the connection.
    fn on_reset_out(&mut self, now: u64, node: NodeId, pair: Pair) {
        let Some(connection) = self.connections.get(&pair) else { return };
        if !connection.must_go_on(now) {
            return;
        }
        let held = self.book.node(node).holds.find(pair, connection.iss).is_some();
        let knew = held || connection.spoken_by == node;
        let invariant = if knew { Invariant::I4 } else { Invariant::I5 };
        let known = if knew { "which it knows" } else { "of which it was never told" };
        let text = format!("{pair}: {} resets a live connection, {known}", node.name());
        self.complaints.say(invariant, text);
    }

    fn on_syn_ack(&mut self, now: u64, node: NodeId, pair: Pair, segment: &Segment<'_>) {
        let irs = segment.ack.unwrap_or(0).wrapping_sub(1);
        let same = |known: &Connection| known.iss == segment.seq && known.irs == irs;
        let attempts = self.attempts.entry(pair).or_default();
        let known = attempts.iter_mut().chain(self.connections.get_mut(&pair)).find(|c| same(c));
        if let Some(known) = known {
            commit::judge(known, node, segment, (0, 0), &self.book, &mut self.complaints);
            known.spoken_by = node;
            return;
        }
        if let Some(live) = self.connections.get(&pair)
            && live.must_go_on(now)
        {
            let text = format!("{pair}: {} opens a live connection anew", node.name());
            self.complaints.say(Invariant::I4, text);
        }
        let syns = self.syns.get(&pair);
        let syn = syns.and_then(|syns| syns.iter().find(|(known, _)| *known == irs));
        let Some((_, syn)) = syn else {
            let text = format!("{pair}: a SYN-ACK to no SYN of the client's");
            return self.complaints.say(Invariant::I4, text);
        };
        if let Some(text) = unasked(syn, &segment.options) {
            self.complaints.say(Invariant::I4, format!("{pair}: {text}"));
        }
        let kind = self.facts.services.iter().find(|service| service.port == pair.service.port());
        let kind = kind.map(|service| service.kind);
        let mut fresh = Connection::open(pair, node, irs, syn, segment, kind);
        let session = self.book.session(node);
        fresh.cookie = session.is_none_or(|told| told.find(pair, fresh.iss).is_none());
        commit::judge(&fresh, node, segment, (0, 0), &self.book, &mut self.complaints);
        if attempts.len() == ATTEMPTS {
            attempts.remove(0);
        }
        attempts.push(fresh);
    }

    fn on_speech(&mut self, now: u64, node: NodeId, pair: Pair, segment: &Segment<'_>) {
        let Self { facts, book, connections, complaints, .. } = self;
        let Some(connection) = connections.get_mut(&pair) else { return };
        if connection.life.excused || connection.life.over {
            return;
        }
        let Some((ack, end)) = notice::judge(connection, node, segment, facts, complaints) else {
            return;
        };
        let below = connection.output_offset(segment.seq) < connection.acked as i64;
        if connection.life.forsaken && segment.is_bare() && below {
            // Its client is asked where it is, to be reset: no standby is told of that.
            return;
        }
        connection.spoken_by = node;
        connection.life.accepted = true;
        take_output(connection, segment, end, facts, complaints);
        commit::judge(connection, node, segment, (ack, end), book, complaints);
        connection.note_end(now);
    }

    fn on_packet_in(&mut self, now: u64, bytes: &[u8]) {
        let Packet::Segment(segment) = Packet::read(bytes) else { return };
        if !segment.sound {
            return;
        }
        let pair = Pair { client: segment.source, service: segment.target };
        if self.facts.dialled.contains(&segment.source) {
            return;
        }
        if self.facts.backends.contains(&segment.source) {
            let leg = Leg { service: segment.target, backend: segment.source };
            return self.relays.backend_says(leg, &segment);
        }
        if self.facts.is_relay(segment.target.port()) {
            return self.relays.client_says(pair, &segment);
        }
        if segment.syn {
            return self.note_syn(pair, &segment);
        }
        let attempts = self.attempts.get_mut(&pair);
        let about = |attempts: &&mut Vec<Connection>| {
            attempts.iter().position(|attempt| attempt.is_about(&segment))
        };
        let current = self.connections.get(&pair).is_some_and(|known| known.is_about(&segment));
        if !current
            && let Some(attempts) = attempts
            && let Some(index) = about(&attempts)
        {
            // The client has chosen this one; there is no other any more.
            let chosen = attempts.swap_remove(index);
            attempts.clear();
            self.connections.insert(pair, chosen);
        }
        match self.connections.get_mut(&pair) {
            Some(connection) if segment.rst || connection.is_about(&segment) => {
                connection.hear(now, &segment);
            }
            Some(_) | None => {}
        }
    }

    /// A client that opens anew has left what it had.
    fn note_syn(&mut self, pair: Pair, segment: &Segment<'_>) {
        if let Some(connection) = self.connections.get_mut(&pair)
            && connection.irs != segment.seq
        {
            connection.life.over = true;
        }
        let syns = self.syns.entry(pair).or_default();
        if !syns.iter().any(|(known, _)| *known == segment.seq) {
            if syns.len() == ATTEMPTS {
                syns.remove(0);
            }
            syns.push((segment.seq, segment.options.clone()));
        }
    }

    fn on_frame_out(&mut self, node: NodeId, frame: &[u8]) {
        if let Some(address) = packet::claimed(frame)
            && self.facts.addresses.contains(&address)
        {
            self.speakers.on_claim(node, address, &self.book, &mut self.complaints);
        }
    }

    // ---- the replication stream ----

    fn on_link_in(&mut self, node: NodeId, stream: u64, bytes: &[u8]) {
        let Self { book, connections, complaints, .. } = self;
        let result = book.node_mut(node).was_handed(stream, bytes, &mut |told| {
            if let Some(connection) = connections.get_mut(&told.pair)
                && connection.iss == told.iss
            {
                connection.life.accepted = true;
                check_told(connection, &told, complaints);
            }
        });
        self.check_readable(result);
    }

    fn check_readable(&mut self, result: Result<(), replica::Unreadable>) {
        if result.is_err() {
            let text = "the replication stream is not in the format that the observer knows";
            self.complaints.say(Invariant::I1, text.to_owned());
        }
    }

    // ---- the nodes ----

    fn on_process(&mut self, now: u64, node: NodeId, alive: bool) {
        let (one, other) = (self.book.node(node), self.book.node(node.peer()));
        // Alone, or with a standby that cannot go on; or a standby whose primary is in doubt, or
        // was lost a moment ago, whether or not it has been started again since.
        let owner_lost = one.owner && !self.book.is_promised(node);
        let heir_lost = one.alive && !one.owner && (!other.owner || other.frozen.is_some());
        let in_doubt = one.alive && now < other.doubtful_until;
        if owner_lost || heir_lost || in_doubt {
            self.forsake();
        }
        self.book.node_mut(node).forget(alive);
        self.speakers.on_process(node);
        self.words.on_change(node);
    }

    fn on_frozen(&mut self, now: u64, node: NodeId) {
        let (one, other) = (self.book.node(node), self.book.node(node.peer()));
        let heir_lost = !one.owner && (!other.owner || other.frozen.is_some());
        let owner_lost = one.owner && !self.book.is_promised(node);
        if heir_lost || owner_lost {
            self.forsake();
        }
        self.book.node_mut(node).frozen = Some(now);
        self.words.on_change(node);
    }

    /// An owner that slept past its lease does not know whether it still is one. If its standby
    /// is dead by now, or dies before it has said so, nobody can tell it.
    fn on_thawed(&mut self, now: u64, node: NodeId) {
        let Some(since) = self.book.node_mut(node).frozen.take() else { return };
        let slept = (now - since) * 8 >= self.facts.detection * LEASE_EIGHTHS;
        if slept && self.book.node(node).owner {
            self.book.node_mut(node).doubtful_until = now + DOUBT * self.facts.detection;
            if !self.book.node(node.peer()).alive {
                self.forsake();
            }
        }
        self.words.on_change(node);
    }

    fn on_says(&mut self, node: NodeId, owner: bool, epoch: u64, protected: bool) {
        let one = self.book.node(node);
        let (was, other) = (one.owner, node.peer());
        let gains = owner && !was && self.book.node(other).owner && !self.book.is_promised(other);
        let loses = was && !owner && !self.book.is_promised(node);
        if gains || loses {
            self.forsake();
        }
        let one = self.book.node_mut(node);
        (one.owner, one.epoch, one.protected) = (owner, epoch, protected);
        if was != owner {
            self.speakers.on_change(node);
        }
        self.words.on_change(node);
    }

    /// The owner is lost at a moment when it promised nothing.
    fn forsake(&mut self) {
        for connection in self.connections.values_mut() {
            connection.life.forsaken = true;
        }
        for attempt in self.attempts.values_mut().flatten() {
            attempt.life.forsaken = true;
        }
        for splice in self.relays.splices_mut() {
            splice.life.forsaken = true;
        }
    }

    fn release(&mut self, pair: Pair) {
        let attempts = self.attempts.get_mut(&pair).into_iter().flatten();
        for connection in attempts.chain(self.connections.get_mut(&pair)) {
            connection.life.forsaken = true;
        }
    }

    fn excuse(&mut self, pair: Pair) {
        let attempts = self.attempts.get_mut(&pair).into_iter().flatten();
        for connection in attempts.chain(self.connections.get_mut(&pair)) {
            connection.life.excused = true;
        }
        self.relays.excuse(pair);
    }
}

/// I2 and I6: the output that a segment brings.
fn take_output(
    connection: &mut Connection,
    segment: &Segment<'_>,
    end: u64,
    facts: &Facts,
    complaints: &mut Complaints,
) {
    let pair = connection.pair;
    let at = end - segment.payload.len() as u64;
    if let Some(difference) = connection.output.insert(at, segment.payload) {
        let stream::Difference { offset, first, again } = difference;
        let text = format!("{pair}: byte {offset} was {first:#04x} and is {again:#04x} now");
        complaints.say(Invariant::I2, text);
    }
    let Connection { content, output, input, .. } = connection;
    if let Err(text) = content.judge(at, segment.payload, output, input, &facts.files) {
        complaints.say(Invariant::I6, format!("{pair}: {text}"));
    }
    if segment.fin {
        if let Err(text) = content.judge_end(end, connection.input_fin) {
            complaints.say(Invariant::I6, format!("{pair}: {text}"));
        }
        let fin = *connection.output_fin.get_or_insert(end);
        if fin != end {
            let text = format!("{pair}: the output ended at {fin}, and ends at {end} now");
            complaints.say(Invariant::I2, text);
        }
    }
    if let Some(fin) = connection.output_fin
        && !segment.payload.is_empty()
        && !segment.fin
        && end > fin
    {
        let text = format!("{pair}: output behind its end at {fin}");
        complaints.say(Invariant::I2, text);
    }
}

/// What the log says of input must be what the client said.
fn check_told(connection: &Connection, told: &Told<'_>, complaints: &mut Complaints) {
    if connection.life.excused {
        return;
    }
    let wrong = (told.offset..)
        .zip(told.bytes)
        .find(|(offset, byte)| connection.input.byte(*offset).is_some_and(|right| right != **byte));
    if let Some((offset, _)) = wrong {
        let text = format!("{}: the standby was told another byte {offset}", connection.pair);
        complaints.say(Invariant::I1, text);
    }
}

/// What a SYN-ACK grants that its SYN did not ask for.
fn unasked(asked: &Options, granted: &Options) -> Option<&'static str> {
    match () {
        () if granted.timestamps.is_some() && asked.timestamps.is_none() => {
            Some("timestamps in a SYN-ACK, not asked for")
        }
        () if granted.window_scale.is_some() && asked.window_scale.is_none() => {
            Some("a window scale in a SYN-ACK, not asked for")
        }
        () if granted.sack_permitted && !asked.sack_permitted => {
            Some("SACK permitted in a SYN-ACK, not asked for")
        }
        () => None,
    }
}
