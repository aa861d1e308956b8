//! The replication link, as far as it says something about the peer's process.

use super::super::types::{Action, BeatRole, EPOCH_LIMIT, LinkEvent, Path, Report};
use super::word::Peer;
use super::{Actions, Pair};
use crate::ids::Epoch;
use crate::time::Instant;

/// The replication link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkState {
    /// Not connected. `lost` is the boot with which the last link was, if that boot is still the
    /// peer's; only then a refusal proves anything.
    Down {
        /// Whose link was lost.
        lost: Option<u64>,
        /// When a dial was last refused.
        refused: Option<Instant>,
    },
    /// Connected with this boot.
    Up {
        /// The peer's process.
        boot: u64,
        /// Since when.
        since: Instant,
    },
}

/// What a link event brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) enum LinkNews {
    /// Nothing that matters to a role.
    Nothing,
    /// A link with the process already known.
    Up,
    /// A link with another process: the known one is dead.
    UpWithSuccessor,
    /// The link is gone.
    Lost,
    /// The known process is dead.
    PeerDead,
}

impl Pair {
    /// What a link event says about the peer's process.
    pub(in crate::role) fn on_link(
        &mut self,
        now: Instant,
        event: LinkEvent,
        actions: &mut Actions,
    ) -> LinkNews {
        if !self.paired {
            return LinkNews::Nothing;
        }
        match event {
            LinkEvent::Up { boot, epoch, role } if epoch <= EPOCH_LIMIT => {
                self.link_up(now, boot, epoch, role)
            }
            // A peer whose Hello cannot be believed is one that cannot be followed.
            LinkEvent::Up { .. } | LinkEvent::Incompatible => self.link_incompatible(now, actions),
            LinkEvent::Lost => match self.link {
                LinkState::Up { .. } => {
                    self.mark_lost(now);
                    LinkNews::Lost
                }
                LinkState::Down { .. } => LinkNews::Nothing,
            },
            LinkEvent::Refused => self.link_refused(now),
        }
    }

    fn link_up(&mut self, now: Instant, boot: u64, epoch: Epoch, role: BeatRole) -> LinkNews {
        self.link = LinkState::Up { boot, since: now };
        let known = self.peer.map(|peer| peer.boot);
        if let Some(peer) = &mut self.peer
            && peer.boot == boot
        {
            // Only a later epoch shows that the Hello is younger than the latest beat.
            if epoch > peer.epoch {
                peer.epoch = epoch;
                peer.role = role;
            }
            return LinkNews::Up;
        }
        self.peer = Some(Peer::greet(now, boot, epoch, role));
        self.detector.forget_sequences();
        self.dead = known.or(self.dead);
        if known.is_some() { LinkNews::UpWithSuccessor } else { LinkNews::Up }
    }

    fn link_incompatible(&mut self, now: Instant, actions: &mut Actions) -> LinkNews {
        self.link = LinkState::Down { lost: None, refused: None };
        self.next_dial = now + self.timing.redial * 10;
        actions.extend([Action::HangUp, Action::Report(Report::Incompatible)]);
        LinkNews::Nothing
    }

    fn link_refused(&mut self, now: Instant) -> LinkNews {
        let boot = self.peer.map(|peer| peer.boot);
        match &mut self.link {
            LinkState::Up { .. } => LinkNews::Nothing,
            LinkState::Down { lost, refused } => {
                *refused = Some(now);
                if lost.is_some() && *lost == boot {
                    *lost = None;
                    self.dead = boot;
                    LinkNews::PeerDead
                } else {
                    LinkNews::Nothing
                }
            }
        }
    }

    /// The link is gone; the next dial is due at once.
    fn mark_lost(&mut self, now: Instant) {
        if let LinkState::Up { boot, .. } = self.link {
            self.link = LinkState::Down { lost: Some(boot), refused: None };
            self.next_dial = now;
        }
    }

    /// Ends the link from this side.
    pub(in crate::role) fn hang_up(&mut self, now: Instant, actions: &mut Actions) {
        if self.is_linked() {
            actions.push_back(Action::HangUp);
            self.mark_lost(now);
        }
    }

    /// Ends a link with a process that has a successor. A host that lost its power sends no reset
    /// before somebody writes to it.
    pub(in crate::role) fn leave_dead_link(&mut self, now: Instant, actions: &mut Actions) {
        if let (LinkState::Up { boot, .. }, Some(peer)) = (self.link, &self.peer)
            && boot != peer.boot
        {
            self.hang_up(now, actions);
        }
    }

    pub(in crate::role) const fn is_linked(&self) -> bool {
        matches!(self.link, LinkState::Up { .. })
    }

    /// When a dial was last refused with nothing heard since.
    pub(in crate::role) const fn refused(&self) -> Option<Instant> {
        match self.link {
            LinkState::Up { .. } => None,
            LinkState::Down { refused, .. } => refused,
        }
    }

    /// Asks for a connection (or a knock) if none is up and the pace allows it.
    pub(in crate::role) fn reach_out(&mut self, now: Instant, how: Action, actions: &mut Actions) {
        if self.paired && !self.is_linked() && now >= self.next_dial {
            self.next_dial = now + self.timing.redial;
            actions.push_back(how);
        }
    }

    /// A link whose own path is silent while the LAN path lives is hung up: both ends learn of it,
    /// or find out alike. TCP would take many seconds.
    pub(in crate::role) fn check_stall(&mut self, now: Instant, actions: &mut Actions) {
        let LinkState::Up { since, .. } = self.link else { return };
        let stalled = now.since(since.max(self.link_heard)) >= self.timing.detection
            && self.detector.is_silent(now, Path::Replication)
            && self.detector.is_heard(now, Path::Lan);
        if stalled {
            actions.push_back(Action::Report(Report::LinkStalled));
            self.hang_up(now, actions);
        }
    }

    /// Whether the link stands that stood at `instant`.
    pub(in crate::role) fn has_kept_link(&self, instant: Instant) -> bool {
        matches!(self.link, LinkState::Up { since, .. } if since <= instant)
    }

    /// The link delivered something.
    pub(in crate::role) const fn on_link_data(&mut self, now: Instant) {
        self.link_heard = now;
    }

    /// When a dial is due next; never while there is a link.
    pub(in crate::role) const fn next_dial(&self) -> Instant {
        if self.is_linked() { Instant::NEVER } else { self.next_dial }
    }
}
