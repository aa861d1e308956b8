//! A node that follows the owner, and takes over from it.
//!
//! It is *armed* once two things are true, in this order: it holds everything of the epoch
//! (`on_synced`), and it has heard the primary say that it is in duplex, that is, bound to the
//! lease. Only an armed standby takes over by silence. Proof of the primary's death moves any
//! standby, because nobody else has more.

use super::super::peer::Peer;
use super::super::types::{Action, BeatRole, Cause, Held, Report};
use super::common::Common;
use super::outcome::Outcome;
use crate::ids::Epoch;
use crate::time::Instant;

/// Follows the owner of an epoch.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Standby {
    /// The owner's process.
    boot: u64,
    /// The owner's epoch.
    pub(in crate::role) epoch: Epoch,
    sync: Sync,
    /// It has promised not to take over by silence.
    renounced: bool,
    /// The primary's process is provably dead; what this node held when it learned of it. Acted
    /// on once it has its LAN carrier and has been awake for the detection time: what a sleeper
    /// reads first may be old, and the dead one's successor may own by now.
    proof: Option<(Cause, Held)>,
    /// The missing LAN carrier has been reported.
    blocked: bool,
    /// Since when the primary says that it is handing over.
    yielding: Option<Instant>,
    /// It is silent by its own word, which is good as long as it is prompt.
    word: Option<Cause>,
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
    pub(in crate::role) const fn following(boot: u64, epoch: Epoch) -> Self {
        Self {
            boot,
            epoch,
            sync: Sync::Partial,
            renounced: false,
            proof: None,
            blocked: false,
            yielding: None,
            word: None,
        }
    }

    pub(in crate::role) const fn is_armed(&self) -> bool {
        matches!(self.sync, Sync::Armed { .. })
    }

    pub(in crate::role) const fn beat_role(&self) -> BeatRole {
        if self.renounced { BeatRole::Renounced } else { BeatRole::Standby }
    }

    /// Everything of `epoch` is here.
    pub(in crate::role) fn on_synced(&mut self, epoch: Epoch) {
        if epoch == self.epoch && self.sync == Sync::Partial {
            self.sync = Sync::Complete;
        }
    }

    /// The primary's last record has been applied; it is silent. That may have lain in a buffer
    /// while we slept, and the primary may have asked the address back since.
    pub(in crate::role) fn on_handover(&mut self, now: Instant) -> Outcome {
        if self.is_armed() {
            self.yielding.get_or_insert(now);
            self.word = Some(Cause::HandedOver);
        }
        Outcome::Stay
    }

    /// The primary said something new, or is another process.
    pub(in crate::role) fn on_news(&mut self, common: &mut Common, now: Instant) -> Outcome {
        let Some(peer) = common.peer() else { return Outcome::Stay };
        if peer.boot != self.boot {
            return self.on_successor(common, now, peer.role);
        }
        if self.proof.is_some() || peer.epoch < self.epoch {
            // Late words: of a dead process, or said before it owned what we follow.
            return Outcome::Stay;
        }
        match peer.role {
            BeatRole::Primary => self.on_owner(common, now, peer.epoch),
            BeatRole::Parting => {
                self.renounce(common, now);
                Outcome::Stay
            }
            BeatRole::Yielding => {
                self.yielding.get_or_insert(now);
                // Silent as it is, it goes on without us no sooner than an owner would.
                if let Sync::Armed { current } = self.sync {
                    self.sync = Sync::Armed { current: current.max(trusted(common, &peer)) };
                }
                Outcome::Stay
            }
            // It asks for the address back, and holds more than we, or may get it where we cannot.
            BeatRole::Candidate if !self.is_armed() || common.group.is_barred() => {
                self.renounce(common, now);
                Outcome::Stay
            }
            BeatRole::Joining | BeatRole::Candidate | BeatRole::Standby | BeatRole::Renounced => {
                self.on_stood_down(common, now, peer.epoch)
            }
        }
    }

    /// Another process speaks for the peer: the one we follow is dead.
    fn on_successor(&mut self, common: &Common, now: Instant, role: BeatRole) -> Outcome {
        if role.owns() {
            // It found nobody here and owns already: it is followed, not fought.
            return Outcome::Follow(Cause::PeerOwns);
        }
        if role == BeatRole::Candidate && !common.pair.lan_ok() {
            // It could serve and we cannot: let it ask a node that holds no claim.
            return Outcome::Join(Cause::PeerRestarted);
        }
        self.on_proof(now, Cause::PeerRestarted)
    }

    /// The primary owns `epoch` and says so.
    fn on_owner(&mut self, common: &mut Common, now: Instant, epoch: Epoch) -> Outcome {
        if epoch > self.epoch {
            // It went on alone, or lost and won the address: what we hold is of the past.
            return Outcome::Follow(Cause::PeerOwns);
        }
        self.renounced = false;
        self.yielding = None;
        self.word = None;
        let Some(peer) = common.peer() else { return Outcome::Stay };
        if !peer.synced {
            return Outcome::Stay;
        }
        let trusted = trusted(common, &peer);
        self.sync = match self.sync {
            Sync::Partial | Sync::Void => Sync::Void,
            Sync::Complete => {
                common.pair.beat_at(now);
                common.report(Report::Synchronised);
                Sync::Armed { current: trusted }
            }
            Sync::Armed { current } => Sync::Armed { current: current.max(trusted) },
        };
        Outcome::Stay
    }

    /// The primary asks to go on alone. The promise comes before the answer.
    fn renounce(&mut self, common: &mut Common, now: Instant) {
        if !self.renounced {
            self.renounced = true;
            // What came by this link is void. One that has brought nothing yet may stay, or the two
            // would begin anew for as long as the primary asks.
            if self.sync != Sync::Partial {
                common.hang_up(now);
            }
            self.sync = Sync::Void;
            common.pair.beat_at(now);
        }
    }

    /// The primary's process lives and does not own any more.
    fn on_stood_down(&mut self, common: &mut Common, now: Instant, epoch: Epoch) -> Outcome {
        if !self.is_armed() || epoch > self.epoch || !common.pair.lan_ok() {
            return Outcome::Join(Cause::PeerStoodDown);
        }
        self.yielding.get_or_insert(now);
        self.word.get_or_insert(Cause::PeerStoodDown);
        Outcome::Stay
    }

    /// The primary's process is dead.
    pub(in crate::role) fn on_proof(&mut self, now: Instant, cause: Cause) -> Outcome {
        let held = self.held(now);
        self.proof.get_or_insert((cause, held));
        Outcome::Stay
    }

    /// The link is up with the process we follow.
    pub(in crate::role) fn on_link_up(&self, epoch: Epoch) -> Outcome {
        let fresh = matches!(self.sync, Sync::Partial) && epoch <= self.epoch;
        if fresh {
            return Outcome::Stay;
        }
        // The log cannot be resumed across links: what we hold is worth what the next snapshot is.
        Outcome::Follow(Cause::LinkAgain)
    }

    /// What is due.
    pub(in crate::role) fn on_time(&mut self, common: &mut Common, now: Instant) -> Outcome {
        common.check_stall(now);
        common.reach_out(now, Action::Dial);
        if self.sync == Sync::Complete && !common.pair.is_linked() {
            // Records of the time before duplex may have been lost with the link.
            self.sync = Sync::Void;
        }
        if let Some((cause, held)) = self.due(common, now) {
            if common.pair.lan_ok() {
                return Outcome::Own(cause, held);
            }
            if !self.blocked {
                self.blocked = true;
                common.report(Report::TakeoverBlocked { cause });
            }
        }
        let hopeless = common.pair.detector().silence_on_both(now) >= common.timing.startup();
        if !self.is_armed() && self.proof.is_none() && hopeless {
            return Outcome::Join(Cause::PeerSilent);
        }
        Outcome::Stay
    }

    /// What calls for a takeover now.
    fn due(&self, common: &Common, now: Instant) -> Option<(Cause, Held)> {
        let detection = common.timing.detection;
        let awake_since = common.pair.detector().awake_since();
        if self.proof.is_some() {
            return self.proof.filter(|_| now.since(awake_since) >= detection);
        }
        if !self.is_armed() {
            return None;
        }
        if common.pair.detector().is_silent_on_both(now) && !common.pair.hears_caller_own(now) {
            return Some((Cause::PeerSilent, self.held(now)));
        }
        if let Some(cause) = self.word.filter(|_| self.is_prompt(common, now)) {
            return Some((cause, self.held(now)));
        }
        // Heard to yield, and nothing else, for as long as silence would take.
        let since = self.yielding?.max(awake_since);
        (now.since(since) >= detection).then(|| (Cause::PeerStoodDown, self.held(now)))
    }

    /// Whether a word that the primary is silent can still be true: it has heard us so lately that
    /// it cannot have asked the address back before our gate, opened now, closes again.
    fn is_prompt(&self, common: &Common, now: Instant) -> bool {
        match self.sync {
            Sync::Armed { current } => now + common.timing.detection < current,
            Sync::Complete | Sync::Partial | Sync::Void => false,
        }
    }

    /// The process that is bound to our lease, and in which epoch.
    pub(in crate::role) fn bound(&self) -> Option<(u64, Epoch)> {
        self.is_armed().then_some((self.boot, self.epoch))
    }

    /// Takes over: what the old owner still says of this epoch is void from here on.
    pub(in crate::role) const fn followed(&self) -> (u64, Epoch) {
        (self.boot, self.epoch)
    }

    /// What this node would carry on with.
    pub(in crate::role) fn held(&self, now: Instant) -> Held {
        match self.sync {
            Sync::Armed { current } if now < current => Held::Whole,
            Sync::Armed { .. } | Sync::Complete | Sync::Partial | Sync::Void => Held::Doubtful,
        }
    }
}

/// Until when `peer`, which we follow, cannot have gone on alone by our silence.
fn trusted(common: &Common, peer: &Peer) -> Instant {
    let heard_us = peer.echo.unwrap_or(Instant::ZERO);
    heard_us + common.timing.alone().saturating_sub(common.timing.margin)
}
