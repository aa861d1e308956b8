//! The words in which a node speaks with the arbiter, the third party that grants epochs.
//!
//! The arbiter keeps one [`ArbiterRecord`] for the pair and writes it only for one that knows what it says: a
//! compare-and-swap. It counts its writes ([`Reply::revision`]), and has no clock that matters to
//! anybody here. `docs/adr/0007` says who writes when.

use core::fmt;

use crate::ids::{Epoch, Node};
use crate::time::Duration;

/// What the arbiter keeps: which process may speak for the address, other than on its standby's
/// lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArbiterRecord {
    /// Whose process.
    pub owner: Node,
    /// The epoch it was granted.
    pub epoch: Epoch,
    /// Which process: a grant is not its successor's.
    pub boot: u64,
}

impl fmt::Display for ArbiterRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}, epoch {}", self.owner, self.epoch)
    }
}

/// A question to the arbiter. At most one is open at a time; one that is asked while another is
/// under way replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Comes back with the answer.
    pub number: u64,
    /// What is asked.
    pub what: Inquiry,
}

/// What a node asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inquiry {
    /// What the record says.
    Read,
    /// Write `record`, in one step with the comparison, if the present one is `expected` and, where
    /// `revision` is given, was written as that. To be answered with what is there, written or not.
    Swap {
        /// What must be there; `None` is nothing.
        expected: Option<ArbiterRecord>,
        /// The write that it must be.
        revision: Option<u64>,
        /// What is to be there.
        record: ArbiterRecord,
    },
}

/// The arbiter's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What is there now.
    pub record: Option<ArbiterRecord>,
    /// The number of the write that put it there; grows with every write.
    pub revision: u64,
    /// Whether this question wrote it.
    pub written: bool,
}

/// What a node does that needs the arbiter's word and gets no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LostArbiter {
    /// Be silent until it answers: consistency first.
    Stop,
    /// Decide as if there were none, by the truth table: availability first.
    Table,
}

/// How a pair uses its arbiter. The same on both nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArbiterPolicy {
    /// What to do without an answer.
    pub lost: LostArbiter,
    /// How long a write holds: its writer speaks alone for a tenth less, from when it asked; a node
    /// that has no better title takes the record over when it has stood unchanged for so long. Each by
    /// its own clock.
    pub lease: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl ArbiterPolicy {
    /// From one question of a node in no need to the next.
    pub(in crate::role) fn interval(&self) -> Duration {
        self.lease / 5
    }

    /// How long a writer may speak alone after it asked.
    pub(in crate::role) fn term(&self) -> Duration {
        self.lease.saturating_sub(self.lease / 10)
    }
}

/// What is known of the arbiter, for status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArbiterStatus {
    /// Whether it answered the last question; true until one has gone without.
    pub answers: bool,
    /// How long ago it last answered; `None` if it never did.
    pub answered: Option<Duration>,
    /// What its record said then.
    pub record: Option<ArbiterRecord>,
    /// How much longer this node may speak without a standby; `None` if it has no grant.
    pub granted_for: Option<Duration>,
}
