//! Packets that belong to no connection: resets, SYN cookies, echo replies, errors.
//!
//! Anybody can ask for any number of them, so each kind has a queue of its own, bounded, and they
//! are served in turns: a flood of one kind crowds out only its own kind. Under it the newest are
//! dropped.

use std::collections::VecDeque;

use crate::tcp::Transmit;
use crate::time::Instant;
use crate::wire::{FourTuple, VnetHeader};

/// More answers of one kind than one turn's packets can ask for.
const CAPACITY: usize = 256;

/// Errors a second, and at once: RFC 4443 §2.4 (f) and RFC 1812 §4.3.2.8 want a bound, and these are
/// Linux's.
const ERRORS_A_SECOND: u64 = 1000;
const ERRORS_AT_ONCE: u64 = 50;

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A reset.
    Reset,
    /// A SYN-ACK that nobody here remembers.
    Cookie,
    /// An echo reply.
    Echo,
    /// An ICMP error, of ours or passed on.
    Error,
    /// A part of what a relay passes on in fragments.
    Piece,
}

impl Kind {
    const COUNT: usize = 5;
}

/// One packet without a connection.
#[derive(Debug)]
pub(super) enum Loose {
    /// A segment without payload.
    Segment(FourTuple, Transmit),
    /// A whole IP packet.
    Packet(Vec<u8>),
}

/// A packet of one leg that has become one of the other, where it lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// What goes before it.
    pub(crate) vnet: VnetHeader,
    /// Its length, which is that of what came less any padding.
    pub(crate) length: usize,
}

/// Bounded queues of loose packets.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: [VecDeque<Loose>; Kind::COUNT],
    /// How many there are in all.
    count: usize,
    /// Whose turn it is.
    next: usize,
    errors: Bucket,
}

impl Outbox {
    /// Queues `loose` unless its kind's queue is full.
    pub(super) fn push(&mut self, kind: Kind, loose: Loose) {
        if self.room(kind) > 0 {
            self.queues[kind as usize].push_back(loose);
            self.count += 1;
        }
    }

    /// How many more of `kind` are taken.
    pub(super) fn room(&self, kind: Kind) -> usize {
        CAPACITY.saturating_sub(self.queues[kind as usize].len())
    }

    /// Whether one more ICMP error may be made now; if so, it is counted.
    pub(super) fn allows_error(&mut self, now: Instant) -> bool {
        self.room(Kind::Error) > 0 && self.errors.take(now)
    }

    /// The oldest of the next kind that has any.
    pub(super) fn pop(&mut self) -> Option<Loose> {
        if self.count == 0 {
            return None;
        }
        let kinds = (0..Kind::COUNT).map(|step| (self.next + step) % Kind::COUNT);
        let kind = { kinds }.find(|kind| !self.queues[*kind].is_empty())?;
        self.next = (kind + 1) % Kind::COUNT;
        self.count -= 1;
        self.queues[kind].pop_front()
    }

    /// Whether the count is that of the queues.
    pub(super) fn audit(&self) -> Result<(), String> {
        let queued: usize = self.queues.iter().map(VecDeque::len).sum();
        let agrees = queued == self.count;
        if agrees { Ok(()) } else { Err(format!("outbox: {queued} packets, kept {}", self.count)) }
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        for queue in &mut self.queues {
            queue.clear();
        }
        self.count = 0;
    }
}

/// A rate: so many at once, and so many a second.
#[derive(Debug, Default)]
struct Bucket {
    /// Up to when what has been taken is paid for.
    paid: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        const EACH: u64 = 1_000_000_000 / ERRORS_A_SECOND;
        let debt = self.paid.as_nanos().saturating_sub(now.as_nanos());
        let allowed = debt + EACH <= EACH * ERRORS_AT_ONCE;
        if allowed {
            self.paid = Instant::from_nanos(now.as_nanos() + debt + EACH);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_made_at_a_rate() {
        let mut outbox = Outbox::default();
        let now = Instant::from_millis(5000);
        assert_eq!((0..200).filter(|_| outbox.allows_error(now)).count(), 50, "at once");
        let soon = Instant::from_millis(5010);
        assert_eq!((0..200).filter(|_| outbox.allows_error(soon)).count(), 10, "10 ms later");
        let later = Instant::from_millis(60_000);
        assert_eq!((0..200).filter(|_| outbox.allows_error(later)).count(), 50);
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_others_their_place_and_their_turn() {
        let mut outbox = Outbox::default();
        for _ in 0..10_000 {
            outbox.push(Kind::Echo, Loose::Packet(vec![0]));
        }
        for kind in [Kind::Reset, Kind::Cookie, Kind::Error, Kind::Piece] {
            outbox.push(kind, Loose::Packet(vec![1]));
        }
        let first: Vec<Loose> = (0..5).filter_map(|_| outbox.pop()).collect();
        let own = |loose: &&Loose| matches!(loose, Loose::Packet(bytes) if bytes == &[1]);
        assert_eq!(first.iter().filter(own).count(), 4, "{first:?}");
        let rest = core::iter::from_fn(|| outbox.pop()).count();
        assert_eq!((rest, outbox.is_empty()), (CAPACITY - 1, true));
    }
}
