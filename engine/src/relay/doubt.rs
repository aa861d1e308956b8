//! Doubt: a splice that may be over, and whose ends are asked.
//!
//! Somebody has said that a splice is over, and nothing proves it: a reset with a number that is not
//! quite the one expected, or the words of ends whose numbers this owner does not know. The words went
//! on, and the end that they were for has judged them. So that end is asked what it made of them: by
//! an empty segment that is none of the connection. Whoever has the connection answers with where it is
//! (RFC 9293 §3.10.7.4), and whoever has none resets the very number that the question acknowledged
//! (§3.10.7.1), which nobody else knows.
//!
//! ```text
//!   RST? ─► 1 s ─► ask its addressee ─► 2 s ─► ask the other ─► 4 s … ─┬─ the number is reset: over
//!                                                                        └─ no longer in doubt
//! ```
//!
//! An end that goes on is asked eight times at most, whatever is sent in its name, and loses nothing by it.

use super::splice::{Entry, Side};
use super::*;
use crate::wire::TcpOptions;

/// How long after the words the first question comes: what was under way has come by then. Each later
/// one waits for twice as long as the one before.
const FIRST: Duration = Duration::from_secs(1);

/// Questions to the ends of one splice.
const ASKS: usize = 8;

/// Questions that remain where somebody brings up the matter again.
const ASKS_AGAIN: usize = ASKS - 3;

/// Questions in one turn.
const ASKS_MAX: usize = 256;

/// What is known of a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The splices whose ends are asked next.
    to: Side,
    /// What its reset will have for a number if the one asked last has no such connection.
    nonce: Option<(Side, SeqNum)>,
    /// Somebody has said something since the first question.
    answered: bool,
    /// There were words of an end since.
    again: bool,
}

/// Splices in doubt: by how often their ends have been asked, and of those by when.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    queues: [Roll<(Instant, SpliceId)>; ASKS + 1],
}

impl Doubts {
    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.queues.iter_mut().any(Roll::pop_piece)
    }

    fn push(&mut self, now: Instant, asked: usize, id: SpliceId, table: &Table) {
        // Of those most may be no more, and their time has not come since.
        self.queues[asked].push((now, id), table.len(), |(_, id)| table.get(*id).is_some());
    }

    /// Everybody that is listed.
    pub(super) fn ids(&self) -> std::collections::BTreeSet<SpliceId> {
        self.queues.iter().flat_map(Roll::iter).map(|(_, id)| *id).collect()
    }

    /// The next one that has waited for long enough since it was asked for the last time, and how often it
    /// was.
    fn next_due(&mut self, now: Instant) -> Option<(usize, SpliceId)> {
        self.queues.iter_mut().enumerate().find_map(|(asked, queue)| {
            let &(since, id) = queue.front()?;
            (since + FIRST * (1 << asked) <= now).then(|| {
                queue.pop_front();
                (asked, id)
            })
        })
    }
}

impl Relays {
    /// The splice `id` may be over; `to` is the one to ask.
    pub(super) fn begin_doubt(&mut self, now: Instant, id: SpliceId, to: Side) {
        let Some(entry) = self.table.get_mut(id) else { return };
        if let Some(doubt) = &mut entry.doubt {
            doubt.again = true;
            return;
        }
        entry.doubt = Some(Doubt { to, nonce: None, answered: false, again: false });
        self.doubts.push(now, 0, id, &self.table);
    }

    /// Asks those whose turn it is.
    pub(super) fn ask_doubtful(&mut self, now: Instant, numbers: &dyn Fn(&FourTuple) -> Numbers) {
        for _ in 0..ASKS_MAX {
            let Some((asked, id)) = self.doubts.next_due(now) else { return };
            let Some(entry) = self.table.get_mut(id) else { continue };
            let Some(doubt) = entry.doubt.as_mut() else { continue };
            if asked == ASKS && doubt.again {
                doubt.again = false;
                self.doubts.push(now, ASKS_AGAIN, id, &self.table);
            } else if asked == ASKS {
                self.end_doubt(now, id);
            } else if entry.is_over() {
                entry.doubt = None;
            } else {
                self.counts.asked += 1;
                self.headers.extend(question(entry, numbers));
                self.doubts.push(now, asked + 1, id, &self.table);
            }
        }
    }

    /// Nobody has answered, or who did has the connection. The ends of a splice that this owner has
    /// seen from its beginning may be cut off, and their words were not right; of another it is not
    /// known that they were not.
    fn end_doubt(&mut self, now: Instant, id: SpliceId) {
        let Some(entry) = self.table.get_mut(id) else { return };
        let Some(doubt) = entry.doubt.take() else { return };
        if !doubt.answered && entry.track.is_none() {
            let before = entry.stage();
            entry.disown(doubt.to);
            self.restaged(now, id, before);
        }
    }
}

/// What the end that is asked cannot take for a part of the connection.
fn question(entry: &mut Entry, numbers: &dyn Fn(&FourTuple) -> Numbers) -> Option<TcpHeader> {
    let doubt = entry.doubt.as_mut()?;
    let to = doubt.to;
    doubt.to = to.other();
    let (leg, from) = (entry.splice.leg(to), to.other());
    let nonce = numbers(&leg).iss;
    doubt.nonce = Some((to, nonce));
    // Right before the window where that is known.
    let below = entry.track.map(|track| track.acknowledged(from).sub(1));
    let shift = if to == Side::Backend { entry.splice.seq } else { 0 };
    let seq = below.map_or(nonce, |seq| seq.add(shift));
    let options = TcpOptions { timestamps: entry.stamps_from(from), ..TcpOptions::default() };
    Some(TcpHeader { ack: nonce, window: u16::MAX, options, ..bare(leg, seq, Flags::ACK) })
}

impl Entry {
    /// Whether a reset of `side`'s says that it does not have the connection which it was asked about.
    pub(super) fn is_disowned_by(&self, side: Side, segment: &Segment<'_>) -> bool {
        segment.flags.contains(Flags::RST)
            && self.doubt.is_some_and(|doubt| doubt.nonce == Some((side, segment.seq)))
    }

    /// Somebody goes on.
    pub(super) fn note_answer(&mut self, segment: &Segment<'_>) {
        if let Some(doubt) = &mut self.doubt
            && !segment.flags.contains(Flags::RST)
        {
            doubt.answered |= doubt.nonce.is_some();
        }
    }
}
