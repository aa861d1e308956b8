//! Packets that belong to no connection: resets, SYN cookies, echo replies. Bounded; under a flood
//! the newest are dropped.

use std::collections::VecDeque;

use crate::tcp::Transmit;
use crate::wire::FourTuple;

/// More answers than one turn's packets can ask for.
const CAPACITY: usize = 256;

/// One packet without a connection.
#[derive(Debug)]
pub(super) enum Loose {
    /// A segment without payload.
    Segment(FourTuple, Transmit),
    /// A whole IP packet.
    Packet(Vec<u8>),
}

/// A bounded queue of loose packets.
#[derive(Debug, Default)]
pub(super) struct Outbox(VecDeque<Loose>);

impl Outbox {
    /// Queues `loose` unless the queue is full.
    pub(super) fn push(&mut self, loose: Loose) {
        if self.0.len() < CAPACITY {
            self.0.push_back(loose);
        }
    }

    /// The oldest.
    pub(super) fn pop(&mut self) -> Option<Loose> {
        self.0.pop_front()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
