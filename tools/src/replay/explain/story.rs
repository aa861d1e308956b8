//! One connection, told from its segments.
//!
//! Read [`Story::on_segment`] first: it asks what the segment is, holds it against both
//! [`Half`]s, and notes the events. Progress (something new said, acknowledged or allowed) ends
//! a wait; a long wait is a stall, and what was the case before it ended names its cause.

use super::event::{Again, Cause, Event, Offer, Span, What};
use super::half::{Half, Sent};
use super::summary::{Ending, Stall, Summary};
use super::trace::{Dot, Point, Trace};
use super::wait::{Standing, Step, Wait, index};
use crate::capture::packet::{Block, Sighting, before};
use crate::replay::Side;
use crate::replay::roster::Ends;
use crate::replay::stream::Unwrap;

/// Events that are told of one connection.
const EVENTS_MAX: usize = 20_000;
/// Stalls that are kept one by one, of a connection that is told and of another; all count in
/// the sums.
const STALLS_MAX: [usize; 2] = [1_000, 4];
/// A pause that ends a run of data, in nanoseconds.
const RUN_PAUSE: u64 = 50_000_000;

/// What is kept for telling, beside the sums.
#[derive(Debug, Default)]
pub(super) struct Details {
    pub(super) events: Vec<Event>,
    pub(super) left_out: u64,
    pub(super) trace: Trace,
}

/// Segments of new data, one behind the other, told as one.
#[derive(Debug, Clone, Copy)]
struct Run {
    from: Side,
    span: Span,
    segments: u32,
    at: u64,
    frame: u64,
    last: u64,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) ends: Ends,
    stall_min: u64,
    first_at: u64,
    first_frame: u64,
    last_at: u64,
    halves: [Half; 2],
    offers: [Option<Offer>; 2],
    syn_at: Option<u64>,
    established: bool,
    ended: Option<Ending>,
    run: Option<Run>,
    wait: Wait,
    /// The server has been silent since, and the address has moved.
    moved: Option<u64>,
    /// Nothing of the server was acknowledged since the address moved.
    after_takeover: bool,
    sums: Summary,
    stalls: Vec<Stall>,
    pub(super) details: Option<Details>,
}

impl Story {
    pub(super) fn new(at: u64, frame: u64, ends: Ends, stall_min: u64, told: bool) -> Self {
        Self {
            ends,
            stall_min,
            first_at: at,
            first_frame: frame,
            last_at: at,
            halves: [Half::new(), Half::new()],
            offers: [None; 2],
            syn_at: None,
            established: false,
            ended: None,
            run: None,
            wait: Wait { since: at, ..Wait::default() },
            moved: None,
            after_takeover: false,
            sums: Summary::default(),
            stalls: Vec::new(),
            details: told.then(Details::default),
        }
    }

    fn half(&mut self, side: Side) -> &mut Half {
        &mut self.halves[index(side)]
    }

    /// Takes a segment of this connection.
    pub(super) fn on_segment(&mut self, at: u64, frame: u64, from: Side, segment: &Sighting<'_>) {
        let standing = self.standing();
        if self.sums.segments == 0 && !segment.syn {
            self.established = true;
            self.note(at, frame, None, What::Midway);
        }
        self.sums.segments += 1;
        self.on_heard(at, frame, from);
        let step = if segment.rst {
            self.on_reset(at, frame, from)
        } else if segment.syn {
            self.on_syn(at, frame, from, segment)
        } else {
            self.on_plain(at, frame, from, segment)
        };
        match step {
            Some((by, step)) => self.on_progress(at, frame, standing, by, step),
            None => self.wait.heard[index(from)] = true,
        }
        self.last_at = at;
    }

    fn standing(&self) -> Standing {
        let held = |half: &Half| half.shut || (half.is_held() && half.owes_nothing());
        Standing {
            established: self.established,
            held: [held(&self.halves[0]), held(&self.halves[1])],
            owed: [!self.halves[0].owes_nothing(), !self.halves[1].owes_nothing()],
        }
    }

    fn on_heard(&mut self, at: u64, frame: u64, from: Side) {
        if from == Side::Server
            && let Some(since) = self.moved.take()
        {
            let silence = at.saturating_sub(since);
            self.sums.longest_silence = self.sums.longest_silence.max(silence);
            self.note(at, frame, Some(from), What::TakenOver { silence });
        }
        self.half(from).heard_at = Some(at);
    }

    // ---- opening and ending ----

    fn on_reset(&mut self, at: u64, frame: u64, from: Side) -> Option<(Side, Step)> {
        self.note(at, frame, Some(from), What::Reset);
        self.ended.get_or_insert(Ending::Reset(from));
        Some((from, Step::Said))
    }

    fn on_syn(
        &mut self,
        at: u64,
        frame: u64,
        from: Side,
        segment: &Sighting<'_>,
    ) -> Option<(Side, Step)> {
        if self.offers[index(from)].is_some() {
            self.wait.syns += 1;
            self.sums.syns_again += 1;
            self.note(at, frame, Some(from), What::SynAgain);
            return None;
        }
        let offer = Offer {
            mss: segment.mss,
            window_scale: segment.window_scale,
            sack: segment.sack_permitted,
            timestamps: segment.timestamps.is_some(),
            window: segment.window,
        };
        self.offers[index(from)] = Some(offer);
        self.half(from).stream = Some(Unwrap::new(segment.sequence));
        if let Some(mss) = offer.mss {
            self.half(from.other()).mss = mss.into();
        }
        if from == Side::Client {
            self.syn_at = Some(at);
        }
        if let Some(ack) = segment.acknowledgment {
            let client = self.half(Side::Client);
            client.stream.get_or_insert_with(|| Unwrap::new(ack.wrapping_sub(1)));
            client.edge = Some(i64::from(segment.window));
        }
        let what = if from == Side::Client { What::Syn(offer) } else { What::SynAck(offer) };
        self.note(at, frame, Some(from), what);
        Some((from, Step::Said))
    }

    // ---- the middle ----

    fn on_plain(
        &mut self,
        at: u64,
        frame: u64,
        from: Side,
        segment: &Sighting<'_>,
    ) -> Option<(Side, Step)> {
        let said = self.on_text(at, frame, from, segment);
        let Some(ack) = segment.acknowledgment else { return said };
        let answered = self.on_ack(at, frame, from, segment, ack);
        let allowed = self.on_window(at, frame, from, segment, ack);
        said.or(answered).or(allowed)
    }

    fn on_text(
        &mut self,
        at: u64,
        frame: u64,
        from: Side,
        segment: &Sighting<'_>,
    ) -> Option<(Side, Step)> {
        let start = self.half(from).offset(segment.sequence);
        let end = start + i64::from(segment.length);
        if self.is_probe(from, start, segment) {
            let half = self.half(from);
            half.probed = half.probed.max(end);
            let what = if half.shut {
                self.sums.window_probes += 1;
                self.wait.probes[index(from)] += 1;
                What::WindowProbe
            } else {
                self.sums.keepalives += 1;
                What::Keepalive
            };
            self.note(at, frame, Some(from), what);
            return None;
        }
        let span = Span { start, end: end + i64::from(segment.fin) };
        // Offsets this far from the stream are no part of it.
        if span.length() == 0 || span.start < -1 {
            return None;
        }
        let after_takeover = self.after_takeover && from == Side::Server;
        let sent = self.half(from).on_sent(at, span, after_takeover);
        self.trace_sent(at, from, sent);
        let news = self.note_sent(at, frame, from, sent, Span { start, end });
        if segment.fin && self.half(from).fin.replace(end).is_none() {
            self.note(at, frame, Some(from), What::Fin { at: end });
        }
        news.then_some((from, Step::Said))
    }

    /// A question whether anybody is there: an old position, or the next byte for a shut window.
    fn is_probe(&mut self, from: Side, start: i64, segment: &Sighting<'_>) -> bool {
        let half = self.half(from);
        let old = start == half.next - 1 && half.owes_nothing();
        let next = half.shut && start == half.acked && segment.length == 1;
        !segment.fin
            && segment.length <= 1
            && half.segments > 0
            && half.fin.is_none()
            && (old || next)
    }

    fn note_sent(&mut self, at: u64, frame: u64, from: Side, sent: Sent, text: Span) -> bool {
        match sent {
            Sent::New { span, skipped } => {
                if skipped.is_none() && self.extend_run(at, from, text) {
                    return true;
                }
                if text.length() > 0 {
                    self.flush();
                    self.run = Some(Run { from, span: text, segments: 1, at, frame, last: at });
                }
                span.length() > 0
            }
            Sent::Reordered(span) => {
                self.sums.reordered += 1;
                self.note(at, frame, Some(from), What::Reordered { span });
                false
            }
            Sent::Again { span, why, new } => {
                self.note_again(at, frame, from, span, why);
                new.is_some()
            }
        }
    }

    fn note_again(&mut self, at: u64, frame: u64, from: Side, span: Span, why: Again) {
        *self.sums.again.entry(why).or_default() += 1;
        if why == Again::Timeout {
            self.wait.timeouts[index(from)] += 1;
        }
        self.wait.repairs[index(from)] += 1;
        let fin = self.half(from).fin;
        let what = if fin == Some(span.start) { What::FinAgain } else { What::Again { span, why } };
        self.note(at, frame, Some(from), what);
    }

    fn extend_run(&mut self, at: u64, from: Side, text: Span) -> bool {
        let Some(run) = &mut self.run else { return false };
        let goes_on = run.from == from
            && run.span.end == text.start
            && text.length() > 0
            && at.saturating_sub(run.last) < RUN_PAUSE;
        if goes_on {
            run.span.end = text.end;
            run.segments += 1;
            run.last = at;
        }
        goes_on
    }

    fn on_ack(
        &mut self,
        at: u64,
        frame: u64,
        from: Side,
        segment: &Sighting<'_>,
        ack: u32,
    ) -> Option<(Side, Step)> {
        let owner = from.other();
        let offset = self.half(owner).offset(ack);
        self.half(owner).active_at = at;
        let mut step = None;
        if !self.established && from == Side::Client && self.offers[1].is_some() {
            self.established = true;
            let after = at.saturating_sub(self.syn_at.unwrap_or(at));
            self.note(at, frame, Some(from), What::Established { after });
            step = Some((from, Step::Acknowledged));
        }
        if offset > self.half(owner).acked {
            self.on_news(at, frame, from, offset);
            step = Some((from, Step::Acknowledged));
        } else if offset == self.half(owner).acked {
            self.on_same_ack(at, frame, from, segment, offset);
        }
        self.on_sack(at, frame, from, segment, ack);
        step
    }

    fn on_news(&mut self, at: u64, frame: u64, from: Side, offset: i64) {
        let owner = from.other();
        let fin = self.half(owner).fin;
        for span in self.half(owner).on_acked(at, offset) {
            // What lies beyond everything seen may be a FIN that the capture lacks.
            self.sums.missing += 1;
            self.note(at, frame, Some(owner), What::Missing { span });
        }
        if owner == Side::Server {
            self.after_takeover = false;
        }
        self.trace(Point { at, from: owner, dot: Dot::Ack, start: offset, end: offset });
        if fin.is_some_and(|fin| offset > fin) {
            self.note(at, frame, Some(from), What::FinAcknowledged);
            if self.halves.iter().all(|half| half.fin.is_some_and(|fin| half.acked > fin)) {
                self.ended.get_or_insert(Ending::Closed);
            }
        }
    }

    fn on_same_ack(
        &mut self,
        at: u64,
        frame: u64,
        from: Side,
        segment: &Sighting<'_>,
        offset: i64,
    ) {
        let half = self.half(from.other());
        let bare = segment.length == 0 && !segment.fin;
        if bare && !half.owes_nothing() {
            half.duplicate_acks += 1;
            if half.duplicate_acks == 3 && segment.sack[0].is_none() {
                self.note(at, frame, Some(from), What::DuplicateAcks { at: offset });
            }
        }
    }

    fn on_sack(&mut self, at: u64, frame: u64, from: Side, segment: &Sighting<'_>, ack: u32) {
        let Some(first) = segment.sack[0] else { return };
        let blocks = &segment.sack;
        let mut held = Some(first);
        if is_duplicate(first, blocks[1], ack) {
            let span = self.span(from.other(), first);
            self.sums.needless += 1;
            self.note(at, frame, Some(from), What::Duplicate { span });
            held = blocks[1];
        }
        let Some(block) = held else { return };
        let held = self.span(from.other(), block);
        let half = self.half(from.other());
        half.sacked = true;
        if half.sack_told != half.acked {
            half.sack_told = half.acked;
            let acked = half.acked;
            self.note(at, frame, Some(from), What::Sack { from: acked, held });
        }
    }

    fn span(&mut self, owner: Side, (start, end): Block) -> Span {
        let half = self.half(owner);
        Span { start: half.offset(start), end: half.offset(end) }
    }

    // ---- windows ----

    /// The shift of this side's window; `None` where the capture does not tell.
    fn scale(&self, side: Side) -> Option<u8> {
        let [client, server] = self.offers;
        let (client, server) = (client?, server?);
        let both = client.window_scale.is_some() && server.window_scale.is_some();
        let own = if side == Side::Client { client } else { server };
        Some(if both { own.window_scale.unwrap_or(0) } else { 0 })
    }

    fn on_window(
        &mut self,
        at: u64,
        frame: u64,
        from: Side,
        segment: &Sighting<'_>,
        ack: u32,
    ) -> Option<(Side, Step)> {
        let scale = self.scale(from);
        let half = self.half(from.other());
        let offset = half.offset(ack);
        let was_shut = half.shut;
        if segment.window == 0 {
            half.shut = true;
            half.edge = Some(half.edge.map_or(offset, |edge| edge.max(offset)));
            if !was_shut {
                self.sums.zero_windows += 1;
                self.note(at, frame, Some(from), What::WindowShut);
            }
            return None;
        }
        half.shut = false;
        let held = half.is_held();
        let scale = scale?;
        let edge = offset + (i64::from(segment.window) << scale);
        let old = half.edge.replace(half.edge.map_or(edge, |old| old.max(edge)));
        self.trace(Point { at, from: from.other(), dot: Dot::Edge, start: edge, end: edge });
        // What the scale rounds away is no shrinking.
        if let Some(old) = old.filter(|old| edge + (1 << scale) <= *old)
            && offset >= self.half(from.other()).acked
        {
            self.sums.shrunk += 1;
            self.note(at, frame, Some(from), What::WindowShrank { from: old, to: edge });
        }
        if was_shut {
            self.note(at, frame, Some(from), What::WindowOpen { edge });
        }
        let opened = was_shut || (held && old.is_none_or(|old| edge > old));
        opened.then_some((from, Step::Allowed))
    }

    // ---- what stands beside the segments ----

    /// The service address has another host.
    pub(super) fn on_takeover(&mut self, at: u64, frame: u64, how: &str, by_segment: bool) {
        if self.ended.is_some() {
            return;
        }
        let heard = self.halves[1].heard_at;
        let silence = heard.map(|heard| at.saturating_sub(heard));
        self.note(at, frame, None, What::Takeover { how: how.to_owned(), silence });
        self.sums.takeovers += 1;
        self.wait.takeover = true;
        self.wait.heard[1] = false;
        self.after_takeover = true;
        if by_segment {
            self.sums.longest_silence = self.sums.longest_silence.max(silence.unwrap_or(0));
        } else {
            self.moved = heard;
        }
        if let Some(details) = &mut self.details {
            details.trace.takeovers.push(at);
        }
    }

    /// The capture says something at this point.
    pub(super) fn on_remark(&mut self, at: u64, frame: u64, text: &str) {
        if self.ended.is_none() {
            self.note(at, frame, None, What::Remark(text.to_owned()));
        }
    }

    fn on_progress(&mut self, at: u64, frame: u64, before: Standing, by: Side, step: Step) {
        let length = at.saturating_sub(self.wait.since);
        if length >= self.stall_min && self.ended != Some(Ending::Closed) {
            let cause = self.wait.cause(before, by, step);
            self.note_stall(at, frame, length, cause);
        }
        self.wait = Wait { since: at, ..Wait::default() };
    }

    fn note_stall(&mut self, at: u64, frame: u64, length: u64, cause: Cause) {
        let entry = self.sums.stalls.entry(cause).or_default();
        entry.count += 1;
        entry.longest = entry.longest.max(length);
        if self.stalls.len() < STALLS_MAX[usize::from(self.details.is_none())] {
            self.stalls.push(Stall { from: self.wait.since, length, frame, cause });
        }
        if let Some(details) = &mut self.details {
            details.trace.stalls.push((at - length, at));
        }
        self.note(at, frame, None, What::Stall { length, cause });
    }

    /// The capture is over.
    pub(super) fn finish(&mut self) -> Summary {
        let length = self.last_at.saturating_sub(self.wait.since);
        if let Some(cause) = self.last_cause()
            && self.ended.is_none()
            && length >= self.stall_min
        {
            self.note_stall(self.last_at, 0, length, cause);
        }
        self.flush();
        let [client, server] = &self.halves;
        Summary {
            ends: Some(self.ends),
            first_frame: self.first_frame,
            at: self.first_at,
            length: self.last_at - self.first_at,
            client_bytes: text_length(client),
            server_bytes: text_length(server),
            resent_bytes: client.resent_bytes + server.resent_bytes,
            srtt: server.srtt.or(client.srtt),
            ending: self.ended.unwrap_or(Ending::Open),
            first_stalls: core::mem::take(&mut self.stalls),
            ..core::mem::take(&mut self.sums)
        }
    }

    /// What somebody was trying in vain when the capture ended.
    fn last_cause(&self) -> Option<Cause> {
        let Wait { syns, timeouts, probes, .. } = self.wait;
        let probed = [Side::Client, Side::Server].into_iter().find(|side| probes[index(*side)] > 0);
        if syns > 0 && self.offers[1].is_none() {
            Some(Cause::Silent(Side::Server))
        } else if syns > 0 || timeouts != [0; 2] {
            Some(self.wait.cause(self.standing(), Side::Server, Step::Said))
        } else {
            probed.map(|side| self.wait.cause(self.standing(), side, Step::Allowed))
        }
    }

    // ---- notes ----

    fn flush(&mut self) {
        if let Some(Run { from, span, segments, at, frame, last }) = self.run.take() {
            let what = What::Data { span, segments, until: last - at };
            self.push(Event { at, frame, from: Some(from), what });
        }
    }

    fn note(&mut self, at: u64, frame: u64, from: Option<Side>, what: What) {
        self.flush();
        self.push(Event { at, frame, from, what });
    }

    fn push(&mut self, event: Event) {
        let Some(details) = &mut self.details else { return };
        if details.events.len() < EVENTS_MAX {
            details.events.push(event);
        } else {
            details.left_out += 1;
        }
    }

    fn trace(&mut self, point: Point) {
        if let Some(details) = &mut self.details {
            details.trace.push(point);
        }
    }

    fn trace_sent(&mut self, at: u64, from: Side, sent: Sent) {
        let (dot, Span { start, end }) = match sent {
            Sent::New { span, .. } | Sent::Reordered(span) => (Dot::Data, span),
            Sent::Again { span, .. } => (Dot::Again, span),
        };
        self.trace(Point { at, from, dot, start, end });
        if let Sent::Again { new: Some(Span { start, end }), .. } = sent {
            self.trace(Point { at, from, dot: Dot::Data, start, end });
        }
    }
}

/// The stream's length, as far as it was seen.
fn text_length(half: &Half) -> u64 {
    let end = half.fin.unwrap_or(half.next).max(0);
    u64::try_from(end).unwrap_or(0)
}

/// RFC 2883 §4: the first block lies below the acknowledgment, or inside the second.
fn is_duplicate(first: Block, second: Option<Block>, ack: u32) -> bool {
    let below = !before(ack, first.1);
    let inside = second.is_some_and(|(left, right)| {
        !before(first.0, left) && !before(right, first.1) && first != (left, right)
    });
    below || inside
}
