//! Packets that belong to no connection: resets, SYN cookies, echo replies. Bounded; under a flood
//! the newest are dropped.

use std::collections::VecDeque;

use crate::tcp::Transmit;
use crate::wire::{FourTuple, VnetHeader};

/// More answers than one turn's packets can ask for.
const CAPACITY: usize = 256;

/// Last words beyond this are not said; those clients are reset when they next speak.
const FAREWELLS: usize = 1 << 16;

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
pub struct Relayed {
    /// What goes before it.
    pub vnet: VnetHeader,
    /// Its length, which is that of what came less any padding.
    pub length: usize,
}

/// A bounded queue of loose packets, and what is said to the clients of connections that were
/// dropped.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    loose: VecDeque<Loose>,
    farewells: Vec<(FourTuple, Transmit)>,
}

impl Outbox {
    /// Queues `loose` unless the queue is full.
    pub(super) fn push(&mut self, loose: Loose) {
        if self.loose.len() < CAPACITY {
            self.loose.push_back(loose);
        }
    }

    /// The last word to a client, for when nobody else has anything to say.
    pub(super) fn push_farewell(&mut self, tuple: FourTuple, last: Transmit) {
        if self.farewells.len() < FAREWELLS {
            self.farewells.push((tuple, last));
        }
    }

    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Loose> {
        self.loose.pop_front()
    }

    /// A last word.
    pub(super) fn pop_farewell(&mut self) -> Option<(FourTuple, Transmit)> {
        self.farewells.pop()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.loose.is_empty() && self.farewells.is_empty()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
