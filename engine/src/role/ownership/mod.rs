//! Ownership of a group of addresses: what this node is in it, what it may own next, and until when it
//! may speak.
//!
//! A role is a struct of its own ([`State`]). What outlives it is the [`group`]: epochs, and what the
//! arbiter grants ([`claims`]). Of the peer this machine knows what [`super::peer::Pair`] says: who is
//! there, since when, by what paths, with what facts. It never looks at a beat or at the link itself.

pub(super) mod arbiter;
pub(super) mod claims;
pub(super) mod common;
mod group;
pub(super) mod joining;
pub(super) mod lease;
pub(super) mod outcome;
pub(super) mod primary;
pub(super) mod standby;
mod transition;
pub(super) mod yielding;

use joining::Joining;
use primary::Primary;
use standby::Standby;
use yielding::Yielding;

/// One struct per role; each owns what only it needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    Joining(Joining),
    Standby(Standby),
    Primary(Primary),
    Yielding(Yielding),
}
