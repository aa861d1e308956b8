//! Relays: whom they join, and what of a splice may show when.
//!
//! * A SYN-ACK to a client is one that a backend gave. So the two legs are known from the wire.
//! * While a session stands (`commit`) no backend is asked for a splice that has been told before the
//!   standby was handed its record, and no segment goes to a client before it was handed that, with the
//!   very ends and deltas that the wire shows. A splice whose backend was
//!   asked before the snapshot was complete, and before it was told, is older than the session, and
//!   owes nothing for its record; but once the snapshot is complete it must have been told.
//! * What goes to either end the other end has said (`splice`).
//! * A splice that its client relies on is not reset, at either end, but by the ends themselves.

use std::collections::BTreeMap;

use super::book::{Book, Log};
use super::packet::{Pair, Segment};
use super::sight::{Facts, NodeId};
use super::splice::{End, Hello, Leg, Splice};
use super::violation::{Complaints, Invariant};
use super::{ATTEMPTS, unasked};

/// Everything about relays that one judgment needs.
pub(super) struct Court<'a> {
    pub(super) facts: &'a Facts,
    pub(super) book: &'a Book,
    pub(super) complaints: &'a mut Complaints,
}

/// One leg's handshake.
#[derive(Debug, Default)]
struct Handshake {
    syn: Option<Hello>,
    answers: Vec<Hello>,
    /// As in [`Splice::session`].
    session: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Relays {
    /// Clients' SYNs.
    syns: BTreeMap<Pair, Vec<Hello>>,
    legs: BTreeMap<Leg, Handshake>,
    /// Everything that was joined, by client; the latest is the last.
    splices: BTreeMap<Pair, Vec<Splice>>,
    by_leg: BTreeMap<Leg, Pair>,
}

impl Relays {
    /// All that were ever joined and are remembered.
    pub(super) fn splices(&self) -> impl Iterator<Item = &Splice> + Clone {
        self.splices.values().flatten()
    }

    pub(super) fn splices_mut(&mut self) -> impl Iterator<Item = &mut Splice> {
        self.splices.values_mut().flatten()
    }

    /// Nothing about the connections of `pair` is judged any more.
    pub(super) fn excuse(&mut self, pair: Pair) {
        for splice in self.splices.get_mut(&pair).into_iter().flatten() {
            splice.life.excused = true;
        }
    }

    fn on_leg(&mut self, leg: Leg) -> Option<&mut Splice> {
        let splices = self.splices.get_mut(self.by_leg.get(&leg)?)?;
        splices.iter_mut().rev().find(|splice| splice.leg == leg)
    }

    // ---- in ----

    /// A client's sound segment to a relay.
    pub(super) fn client_says(&mut self, pair: Pair, segment: &Segment<'_>) {
        if segment.syn {
            return self.client_opens(pair, segment);
        }
        let Some(splices) = self.splices.get_mut(&pair) else { return };
        let about = splices.iter().rposition(|splice| splice.is_about(segment));
        let latest = if segment.rst { splices.len().checked_sub(1) } else { None };
        let Some(index) = about.or(latest) else { return };
        splices[index].hear(End::Client, segment);
        if about.is_some() && !segment.rst {
            // The client has chosen this one; there is no other any more.
            let chosen = splices.swap_remove(index);
            *splices = vec![chosen];
        }
    }

    /// A client that opens anew has left what it had.
    fn client_opens(&mut self, pair: Pair, segment: &Segment<'_>) {
        for splice in self.splices.get_mut(&pair).into_iter().flatten() {
            splice.life.over |= splice.client.isn != segment.seq;
            if let (false, Some((value, _))) = (splice.life.over, segment.options.timestamps) {
                splice.client.stamp(value);
            }
        }
        remember(self.syns.entry(pair).or_default(), Hello::of(segment));
    }

    /// A backend's sound segment.
    pub(super) fn backend_says(&mut self, leg: Leg, segment: &Segment<'_>) {
        if segment.syn {
            remember(&mut self.legs.entry(leg).or_default().answers, Hello::of(segment));
        }
        if let Some(splice) = self.on_leg(leg) {
            let same = !segment.syn || segment.seq == splice.backend.isn;
            if same {
                splice.hear(End::Backend, segment);
            }
        }
    }

    // ---- out ----

    /// A segment from a relay to a client.
    pub(super) fn client_is_told(
        &mut self,
        node: NodeId,
        pair: Pair,
        segment: &Segment<'_>,
        court: &mut Court<'_>,
    ) {
        if segment.syn && !segment.rst {
            return self.joins(node, pair, segment, court);
        }
        let splice = self.splices.get_mut(&pair).and_then(|splices| splices.last_mut());
        if segment.asks() && splice.as_ref().is_none_or(|splice| !splice.must_go_on()) {
            return;
        }
        let Some(splice) = splice else {
            if !segment.rst {
                let text =
                    format!("{pair}: {} speaks, and no backend is joined to it", node.name());
                court.complaints.say(Invariant::I2, text);
            }
            return;
        };
        if segment.rst {
            return judge_reset(splice, node, "the client", court);
        }
        if splice.life.excused || splice.life.over {
            return;
        }
        splice.judge(End::Client, segment, court.facts, court.complaints);
        judge_commit(splice, node, court);
        splice.spoken_by = node;
    }

    /// A SYN-ACK to a client: one that a backend gave.
    fn joins(&mut self, node: NodeId, pair: Pair, segment: &Segment<'_>, court: &mut Court<'_>) {
        let irs = segment.ack.unwrap_or(0).wrapping_sub(1);
        let asked = self.syns.get(&pair).and_then(|syns| syns.iter().find(|syn| syn.seq == irs));
        let Some(asked) = asked else {
            let text = format!("{pair}: a SYN-ACK to no SYN of the client's");
            return court.complaints.say(Invariant::I4, text);
        };
        let found = self.legs.iter().find_map(|(leg, handshake)| {
            let passed = handshake.syn.as_ref()?;
            let matches = |answer: &&Hello| {
                answer.seq == segment.seq && answer.ack == Some(passed.seq.wrapping_add(1))
            };
            let answer = handshake.answers.iter().find(matches)?;
            let service = leg.service.ip() == pair.service.ip();
            service.then_some((*leg, handshake.session, passed, answer))
        });
        let Some((leg, session, passed, answer)) = found else {
            let text = format!("{pair}: a SYN-ACK that no backend gave");
            return court.complaints.say(Invariant::I2, text);
        };
        if let Some(text) = unasked(&asked.options, &segment.options) {
            court.complaints.say(Invariant::I4, format!("{pair}: {text}"));
        }
        let given = &Hello::of(segment);
        if let Some(text) = changed(asked, passed, answer, given) {
            court.complaints.say(Invariant::I4, format!("{pair}: {text}"));
        }
        let splices = self.splices.entry(pair).or_default();
        let same = |known: &Splice| {
            known.leg == leg && known.client.isn == irs && known.backend.isn == segment.seq
        };
        let index = splices.iter().position(same).unwrap_or_else(|| {
            let kind = court.facts.relays.iter().find(|relay| relay.port == pair.service.port());
            let kind = kind.map(|relay| relay.kind);
            let mut fresh = Splice::new((pair, leg), node, (asked, passed, answer), given, kind);
            if fresh.ts.is_none() && given.options.timestamps.is_some() {
                let text = format!("{pair}: timestamps that no SYN and no SYN-ACK had");
                court.complaints.say(Invariant::I4, text);
            }
            if splices.len() == ATTEMPTS {
                splices.remove(0);
            }
            fresh.session = session;
            splices.push(fresh);
            splices.len() - 1
        });
        let splice = &mut splices[index];
        if !splice.life.excused && !splice.life.over {
            judge_commit(splice, node, court);
        }
        splice.spoken_by = node;
        self.by_leg.insert(leg, pair);
    }

    /// A segment from the service address to a backend.
    pub(super) fn backend_is_told(
        &mut self,
        node: NodeId,
        leg: Leg,
        segment: &Segment<'_>,
        court: &mut Court<'_>,
    ) {
        if segment.syn && segment.ack.is_none() {
            let handshake = self.legs.entry(leg).or_default();
            let known = handshake.syn.as_mut().filter(|syn| syn.seq == segment.seq);
            if let Some(known) = known {
                known.stamps.extend(segment.options.timestamps);
            } else {
                let follows = |log: &&Log| log.whole || log.has_leg(leg);
                let session = court.book.session(node).filter(follows).and_then(Log::begun);
                if let Some(text) = judge_question(node, leg, court) {
                    court.complaints.say(Invariant::I1, text);
                }
                let syn = Some(Hello::of(segment));
                *handshake = Handshake { syn, answers: Vec::new(), session };
                if let Some(old) = self.on_leg(leg)
                    && old.must_go_on()
                {
                    let text = format!("{}: its port at {leg} is used again", old.pair);
                    court.complaints.say(Invariant::I4, text);
                }
                self.by_leg.remove(&leg);
            }
            return;
        }
        let splice = self.on_leg(leg);
        if segment.asks() && splice.as_ref().is_none_or(|splice| !splice.must_go_on()) {
            return;
        }
        let Some(splice) = splice else {
            if !segment.rst {
                let text = format!("{leg}: {} speaks, and no client is joined to it", node.name());
                court.complaints.say(Invariant::I2, text);
            }
            return;
        };
        if segment.rst {
            return judge_reset(splice, node, "the backend", court);
        }
        if splice.life.excused || splice.life.over {
            return;
        }
        splice.life.accepted |= splice.life.established;
        splice.judge(End::Backend, segment, court.facts, court.complaints);
        splice.spoken_by = node;
    }
}

fn remember(hellos: &mut Vec<Hello>, hello: Hello) {
    if let Some(known) = hellos.iter_mut().find(|known| known.seq == hello.seq) {
        // The same again, later: its timestamp is another one.
        known.stamps.extend(hello.stamps);
        return;
    }
    if hellos.len() == ATTEMPTS {
        hellos.remove(0);
    }
    hellos.push(hello);
}

/// What a handshake was not to change on its way.
fn changed(asked: &Hello, passed: &Hello, answer: &Hello, given: &Hello) -> Option<&'static str> {
    let plain = |hello: &Hello| {
        let options = &hello.options;
        (options.window_scale, options.sack_permitted, options.timestamps.is_some())
    };
    let raised = |before: Option<u16>, after: Option<u16>| after > before && before.is_some();
    match () {
        () if plain(asked) != plain(passed) => Some("the backend was asked for other options"),
        () if plain(answer) != plain(given) => Some("the client is granted other options"),
        () if raised(asked.options.mss, passed.options.mss)
            || raised(answer.options.mss, given.options.mss) =>
        {
            Some("an MSS was raised on its way")
        }
        () => None,
    }
}

/// I4, or I5 where it comes from a node that never knew of the splice.
fn judge_reset(splice: &Splice, node: NodeId, whom: &str, court: &mut Court<'_>) {
    if !splice.must_go_on() {
        return;
    }
    let held = court.book.node(node).holds.splice(splice.pair).is_some();
    let knew = held || splice.spoken_by == node;
    let invariant = if knew { Invariant::I4 } else { Invariant::I5 };
    let known = if knew { "which it knows" } else { "of which it was never told" };
    let pair = splice.pair;
    let text = format!("{pair}: {} resets {whom} of a live splice, {known}", node.name());
    court.complaints.say(invariant, text);
}

/// I1: a backend is asked when the standby holds the splice. (The SYNs of health checks are in no
/// record.)
fn judge_question(node: NodeId, leg: Leg, court: &Court<'_>) -> Option<String> {
    let told = court.book.session(node)?.has_leg(leg);
    let held = court.book.node(node.peer()).holds.has_leg(leg);
    (told && !held).then(|| format!("{leg} is asked before the standby holds the splice"))
}

/// I1: what of a splice may show to its client.
fn judge_commit(splice: &Splice, node: NodeId, court: &mut Court<'_>) {
    let Some(session) = court.book.session(node) else { return };
    let pair = splice.pair;
    let mut say = |text: String| court.complaints.say(Invariant::I1, format!("{pair}: {text}"));
    let Some(told) = session.splice(pair) else {
        if session.whole {
            say("its splice speaks, and the standby was never told of it".to_owned());
        }
        return;
    };
    if !splice.is_as_told(told) {
        return say(format!(
            "the standby was told of {} by {} and {}, the wire shows {} by {} and {:?}",
            told.leg, told.seq, told.ts, splice.leg, splice.seq, splice.ts
        ));
    }
    let older = splice.session != session.begun();
    let held = court.book.held_splice(node, pair);
    if !older && held != Some(told) {
        say("its splice shows before the standby holds it".to_owned());
    }
}
