//! A node that follows the owner, and takes over from it.
//!
//! It is *armed* once two things are true, in this order: it holds everything of the epoch
//! (`on_synced`), and it has heard the primary say that it is in duplex, that is, bound to the
//! lease. Only an armed standby takes over by silence. Proof of the primary's death moves any
//! standby, because nobody else has more.

use super::common::{Common, Heard};
use super::roles::Outcome;
use super::types::{Action, BeatRole, Cause, Held, Report};
use crate::ids::Epoch;
use crate::time::Instant;

/// Follows the owner of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standby {
    /// The owner's epoch.
    pub(super) epoch: Epoch,
    sync: Sync,
    /// It has promised not to take over by silence.
    renounced: bool,
    /// A takeover is called for and waits for the LAN carrier.
    blocked: Option<Cause>,
    /// Since when the primary says that it is handing over.
    yielding: Option<Instant>,
}

/// How much of the followed epoch this node holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sync {
    /// Not everything.
    Partial,
    /// Everything; the primary has not yet bound itself.
    Complete,
    /// Everything, and the primary is bound. Until `current` it cannot have gone on alone.
    Armed { current: Instant },
    /// The primary was in duplex before this node was complete: that duplex was not with us.
    Void,
}

impl Standby {
    pub(super) const fn following(epoch: Epoch) -> Self {
        Self { epoch, sync: Sync::Partial, renounced: false, blocked: None, yielding: None }
    }

    pub(super) const fn is_armed(&self) -> bool {
        matches!(self.sync, Sync::Armed { .. })
    }

    pub(super) const fn beat_role(&self) -> BeatRole {
        if self.renounced { BeatRole::Renounced } else { BeatRole::Standby }
    }

    /// Everything of `epoch` is here.
    pub(super) fn on_synced(&mut self, epoch: Epoch) {
        if epoch == self.epoch && self.sync == Sync::Partial && !self.renounced {
            self.sync = Sync::Complete;
        }
    }

    /// The primary's last record has been applied; it is silent.
    pub(super) fn on_handover(&mut self, common: &mut Common) -> Outcome {
        if self.is_armed() {
            self.take_over(common, Cause::HandedOver, Held::Whole)
        } else {
            Outcome::Stay
        }
    }

    /// The primary said something new, or is another process.
    pub(super) fn on_news(&mut self, common: &mut Common, now: Instant, heard: Heard) -> Outcome {
        let Some(peer) = common.peer else { return Outcome::Stay };
        match (heard, peer.role) {
            (Heard::Nothing, _) => Outcome::Stay,
            // A successor that owns already found nobody here: it is followed, not fought.
            (Heard::Successor, role) if role.owns() => Outcome::Follow(Cause::PeerOwns),
            (Heard::Successor, _) => self.on_proof(common, now, Cause::PeerRestarted),
            // Said before it owned what we follow.
            (Heard::News, _) if peer.epoch < self.epoch => Outcome::Stay,
            (Heard::News, BeatRole::Primary) => self.on_owner(common, now, peer.epoch),
            (Heard::News, BeatRole::Parting) => {
                self.renounce(common, now);
                Outcome::Stay
            }
            (Heard::News, BeatRole::Yielding) => {
                self.yielding.get_or_insert(now);
                Outcome::Stay
            }
            (
                Heard::News,
                BeatRole::Joining
                | BeatRole::Candidate
                | BeatRole::Standby
                | BeatRole::Renounced,
            ) => self.on_stood_down(common, now, peer.epoch),
        }
    }

    /// The primary owns `epoch` and says so.
    fn on_owner(&mut self, common: &mut Common, now: Instant, epoch: Epoch) -> Outcome {
        if epoch > self.epoch {
            // It went on alone, or lost and won the address: what we hold is of the past.
            return Outcome::Follow(Cause::PeerOwns);
        }
        self.renounced = false;
        self.blocked = None;
        self.yielding = None;
        let Some(peer) = common.peer else { return Outcome::Stay };
        if !peer.synced {
            return Outcome::Stay;
        }
        let heard_us = peer.echo.unwrap_or(Instant::ZERO);
        let trusted = common.timing.alone().saturating_sub(common.timing.margin);
        self.sync = match self.sync {
            Sync::Partial | Sync::Void => Sync::Void,
            Sync::Complete => {
                common.next_beat = now;
                Sync::Armed { current: heard_us + trusted }
            }
            Sync::Armed { current } => Sync::Armed { current: current.max(heard_us + trusted) },
        };
        Outcome::Stay
    }

    /// The primary asks to go on alone. The promise comes before the answer.
    fn renounce(&mut self, common: &mut Common, now: Instant) {
        if !self.renounced {
            self.renounced = true;
            self.sync = Sync::Void;
            self.blocked = None;
            common.hang_up(now);
            common.next_beat = now;
        }
    }

    /// The primary's process lives and does not own any more.
    fn on_stood_down(&mut self, common: &mut Common, now: Instant, epoch: Epoch) -> Outcome {
        if self.is_armed() && epoch == self.epoch && common.lan_ok {
            return self.take_over(common, Cause::PeerStoodDown, self.held(now));
        }
        Outcome::Join(Cause::PeerStoodDown, self.held(now))
    }

    /// The primary's process is dead.
    pub(super) fn on_proof(
        &mut self,
        common: &mut Common,
        now: Instant,
        cause: Cause,
    ) -> Outcome {
        self.take_over(common, cause, self.held(now))
    }

    /// The link is up with the process we follow.
    pub(super) fn on_link_up(&mut self, common: &Common, epoch: Epoch) -> Outcome {
        let fresh = matches!(self.sync, Sync::Partial) && epoch <= self.epoch;
        if fresh || common.peer.is_none() {
            return Outcome::Stay;
        }
        // The log cannot be resumed across links: what we hold is worth what the next snapshot is.
        Outcome::Follow(Cause::LinkAgain)
    }

    /// What is due.
    pub(super) fn on_time(&mut self, common: &mut Common, now: Instant) -> Outcome {
        common.check_stall(now);
        if let Some(cause) = self.blocked
            && common.lan_ok
        {
            return self.take_over(common, cause, self.held(now));
        }
        let detection = common.timing.detection;
        if self.is_armed() {
            if self.yielding.is_some_and(|since| now.since(since) >= detection) {
                return self.take_over(common, Cause::PeerStoodDown, self.held(now));
            }
            if common.detector.is_silent_on_both(now) {
                return self.take_over(common, Cause::PeerSilent, self.held(now));
            }
        } else if common.detector.silence_on_both(now) >= common.timing.startup()
            && self.blocked.is_none()
        {
            return Outcome::Join(Cause::PeerSilent, self.held(now));
        }
        common.reach_out(now, Action::Dial);
        Outcome::Stay
    }

    fn take_over(&mut self, common: &mut Common, cause: Cause, held: Held) -> Outcome {
        if common.lan_ok {
            return Outcome::Own(cause, held);
        }
        if self.blocked.is_none() {
            self.blocked = Some(cause);
            common.report(Report::TakeoverBlocked { cause });
        }
        Outcome::Stay
    }

    /// What this node would carry on with.
    pub(super) fn held(&self, now: Instant) -> Held {
        match self.sync {
            Sync::Armed { current } if now < current => Held::Whole,
            Sync::Armed { .. } | Sync::Complete | Sync::Partial | Sync::Void => Held::Doubtful,
        }
    }
}
