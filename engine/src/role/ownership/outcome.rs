//! What an event means for the role.

use super::super::types::{Cause, Held};

/// What an event means for the role. `Roles::transition` carries it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) enum Outcome {
    /// Nothing changes.
    Stay,
    /// Own the address, alone, in the next epoch.
    Own(Cause, Held),
    /// Follow the peer, from nothing.
    Follow(Cause),
    /// Nobody is known to own: look around.
    Join(Cause),
    /// Stop owning or claiming.
    StandDown(Cause),
    /// Go on without the standby, in the next epoch.
    GoSimplex(Cause),
    /// The standby holds everything.
    GoDuplex,
    /// Give the address to the standby.
    HandOver(Cause),
}

impl Outcome {
    /// Whether it needs the next epoch.
    pub(in crate::role) const fn owns(self) -> bool {
        matches!(self, Self::Own(..) | Self::GoSimplex(_))
    }
}
