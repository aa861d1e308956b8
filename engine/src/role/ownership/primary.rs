//! The owner: alone, or with a standby that holds everything.
//!
//! Alone it needs no lease, yet its gate stays open only while it is awake: `detection` past the
//! last event. In duplex the standby's echoes are its lease. The way from duplex to alone leads
//! over certainty that the standby will not take over: proof of its death, its word, or, when
//! nothing at all is heard of it, the truth table.

use super::super::peer::{Heard, Pause};
use super::super::types::{Action, BeatRole, Cause, Held, LostPeer, Report};
use super::common::Common;
use super::lease::Lease;
use super::outcome::Outcome;
use crate::ids::Epoch;
use crate::time::Instant;

/// Owns the address.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Primary {
    pub(in crate::role) epoch: Epoch,
    /// What is known of the connections if this node goes on.
    pub(in crate::role) held: Held,
    /// Silent until then: it slept past its gate and looks whether anybody else owns.
    looking: Instant,
    /// The peer's claim has been reported.
    conflict: bool,
    /// The last process of the peer's that was dead when this ownership began.
    buried: Option<u64>,
    pub(in crate::role) mode: Mode,
}

/// With or without a standby.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) enum Mode {
    /// Alone.
    Simplex,
    /// With a standby.
    Duplex(Duplex),
}

/// The standby and what its beats allow.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Duplex {
    /// When duplex began.
    since: Instant,
    pub(in crate::role) lease: Lease,
    /// Since when the standby is asked to renounce.
    parting: Option<Instant>,
    /// When somebody announced the address while this node was silent.
    claimed: Option<Instant>,
    /// The policy's stop has been reported.
    stopped: bool,
    /// Why the standby will not take over in this epoch: it is dead, or has said so.
    gone: Option<Cause>,
    /// When its death was learned of.
    dead: Option<Instant>,
    /// That process, if it died while the lease ran: it cannot have owned, whatever it was granted.
    unused: Option<u64>,
}

impl Primary {
    /// An owner that stood still a moment ago may act on what is no longer so: it looks around before
    /// it speaks.
    pub(in crate::role) fn alone(epoch: Epoch, held: Held, common: &Common) -> Self {
        let looking = common.pair.detector().awake_since() + common.timing.detection;
        let (conflict, buried) = (false, common.pair.dead());
        Self { epoch, held, looking, conflict, buried, mode: Mode::Simplex }
    }

    /// The same owner, in duplex from `now`.
    pub(in crate::role) fn with_standby(self, now: Instant, common: &Common) -> Self {
        let duplex = Duplex {
            since: now,
            lease: Lease::begin(now, &common.timing, common.group.granted_until()),
            parting: None,
            claimed: None,
            stopped: false,
            gone: None,
            dead: None,
            unused: None,
        };
        Self { held: Held::Whole, mode: Mode::Duplex(duplex), ..self }
    }

    pub(in crate::role) const fn is_duplex(&self) -> bool {
        matches!(self.mode, Mode::Duplex(_))
    }

    /// Whether the standby has not heard this primary for two detection times. One that could take over
    /// would have; one that comes to it later cannot know that nobody went on alone (rule 11).
    pub(in crate::role) fn is_unheard(&self, common: &Common, now: Instant) -> bool {
        let Mode::Duplex(duplex) = &self.mode else { return false };
        duplex.lease.is_over(now - common.timing.detection)
    }

    /// In duplex, and the link stands that the standby got everything by.
    pub(in crate::role) fn keeps_link(&self, common: &Common) -> bool {
        matches!(self.mode, Mode::Duplex(duplex) if duplex.keeps_link(common))
    }

    /// Whether the process `boot` of the peer's has provably not owned since this ownership began,
    /// whatever it was granted.
    pub(in crate::role) fn has_not_owned(&self, boot: u64) -> bool {
        let unused = match self.mode {
            Mode::Duplex(Duplex { unused, .. }) => unused,
            Mode::Simplex => None,
        };
        unused == Some(boot) || self.buried == Some(boot)
    }

    pub(in crate::role) const fn beat_role(&self) -> BeatRole {
        match self.mode {
            Mode::Duplex(Duplex { parting: Some(_), .. }) => BeatRole::Parting,
            Mode::Duplex(Duplex { parting: None, .. }) | Mode::Simplex => BeatRole::Primary,
        }
    }

    /// I3: until when this owner may speak.
    pub(in crate::role) fn speak_until(&self, common: &Common) -> Instant {
        let now = common.pair.last();
        if !common.policy.paired {
            return Instant::NEVER;
        }
        if !common.pair.lan_ok() || now < self.looking || common.peer_owns(now) {
            return Instant::ZERO;
        }
        match self.mode {
            Mode::Simplex => (now + common.timing.detection).min(common.group.granted_until()),
            Mode::Duplex(duplex) => duplex.lease.until(),
        }
    }

    /// This process stood still.
    pub(in crate::role) fn on_pause(&mut self, common: &mut Common, now: Instant, pause: Pause) {
        let (lasted, gated) = match (pause, self.mode) {
            (Pause::None, _) => return,
            (Pause::Short(lasted) | Pause::Long(lasted), Mode::Duplex(duplex)) => {
                (lasted, duplex.lease.is_over(now))
            }
            (Pause::Short(lasted), Mode::Simplex) => (lasted, false),
            (Pause::Long(lasted), Mode::Simplex) => (lasted, common.policy.paired),
        };
        if gated && self.is_duplex() {
            // The standby may have owned meanwhile; its next echo shows that it has not.
            self.held = Held::Doubtful;
        } else if gated {
            self.looking = now + common.timing.detection;
        }
        common.report(Report::Paused { lasted, gated });
    }

    /// The LAN carrier changed. An owner that was cut off from everything cannot know whether the peer
    /// owns by now, and looks before it speaks.
    pub(in crate::role) fn on_lan(&mut self, common: &Common, now: Instant) {
        if common.pair.lan_ok() && common.pair.detector().is_silent_on_both(now) {
            self.looking = now + common.timing.detection;
        }
    }

    /// The peer said something new, or is another process.
    pub(in crate::role) fn on_news(
        &mut self,
        common: &mut Common,
        now: Instant,
        heard: Heard,
    ) -> Outcome {
        let Some(peer) = common.peer() else { return Outcome::Stay };
        if peer.role.owns() && peer.epoch > self.epoch {
            return Outcome::StandDown(Cause::Superseded);
        }
        self.note_conflict(common);
        let Mode::Duplex(duplex) = &mut self.mode else { return Outcome::Stay };
        if heard == Heard::Successor {
            duplex.bury(now, Cause::PeerRestarted);
        }
        if duplex.gone.is_some() {
            if duplex.dead.is_none() {
                self.resolve_doubt(common);
            }
            return Outcome::Stay;
        }
        // Every beat after `since` said "duplex": a standby that has heard one and is not armed
        // never will be in this epoch.
        if !peer.synced && !peer.role.owns() && peer.has_answered_since(duplex.since) {
            if !self.resolve_doubt(common) {
                return Outcome::Stay;
            }
            let Mode::Duplex(duplex) = &mut self.mode else { return Outcome::Stay };
            let asked = duplex.parting.is_some_and(|asked| peer.has_answered_since(asked));
            let renounced = asked && peer.role == BeatRole::Renounced;
            duplex.gone =
                Some(if renounced { Cause::StandbyRenounced } else { Cause::StandbyLeft });
            return Outcome::Stay;
        }
        if peer.role == BeatRole::Standby
            && let Some(echo) = peer.echo
        {
            duplex.lease.renew(now, echo, &common.timing);
            if !duplex.lease.is_over(now) {
                self.held = Held::Whole;
            }
        }
        Outcome::Stay
    }

    /// Slept past its lease: has a standby that follows nobody else owned meanwhile? Returns whether
    /// it has said.
    fn resolve_doubt(&mut self, common: &Common) -> bool {
        if self.held != Held::Doubtful {
            return true;
        }
        // What it said before we woke may be older than a claim of its own.
        let awake_since = common.pair.detector().awake_since();
        let Some(peer) = common.peer().filter(|peer| peer.has_answered_since(awake_since)) else {
            return false;
        };
        // It would know a later epoch if it had owned: nothing has been served but by us.
        if !peer.role.owns() && peer.epoch <= self.epoch {
            self.held = Held::Whole;
        }
        true
    }

    /// An earlier epoch also claims: we are silent until it is not heard claiming any more.
    fn note_conflict(&mut self, common: &mut Common) {
        match common.claimant() {
            Some(peer) if !self.conflict => {
                common.report(Report::Conflict { theirs: peer.epoch });
            }
            None if self.conflict => common.actions.push_back(Action::Announce),
            Some(_) | None => {}
        }
        self.conflict = common.claimant().is_some();
    }

    /// The peer's process is dead.
    pub(in crate::role) fn on_proof(&mut self, now: Instant, cause: Cause) -> Outcome {
        if let Mode::Duplex(duplex) = &mut self.mode {
            duplex.bury(now, cause);
        }
        Outcome::Stay
    }

    /// Somebody else announced the address.
    pub(in crate::role) fn on_claimed(&mut self, common: &mut Common, now: Instant) -> Outcome {
        if let Mode::Duplex(duplex) = &mut self.mode
            && duplex.lease.is_over(now)
        {
            duplex.claimed = Some(now);
            // Nothing is heard of the standby but its announcement: it has taken over.
            return if common.pair.detector().is_silent_on_both(now) {
                Outcome::StandDown(Cause::Claimed)
            } else {
                Outcome::Stay
            };
        }
        if common.pair.last() < self.speak_until(common) {
            common.actions.push_back(Action::Announce);
        }
        Outcome::Stay
    }

    /// What is due.
    pub(in crate::role) fn on_time(&mut self, common: &mut Common, now: Instant) -> Outcome {
        if let Mode::Duplex(duplex) = &mut self.mode
            && let Some(cause) = duplex.gone
        {
            duplex.absolve(common, now);
            // In doubt, and about to be told: it would have to be silent for so long anyway.
            let listens = now < common.pair.detector().awake_since() + common.timing.detection;
            let waits = self.held == Held::Doubtful && duplex.dead.is_none() && listens;
            return if waits { Outcome::Stay } else { Outcome::GoSimplex(cause) };
        }
        common.check_stall(now);
        let Mode::Duplex(duplex) = &mut self.mode else {
            let claims = common.group.claims.as_ref();
            let overruled =
                claims.and_then(|claims| claims.overruled(common.pair.node(), self.epoch));
            let outcome = Outcome::StandDown(Cause::Overruled);
            return if overruled.is_some() { outcome } else { Outcome::Stay };
        };
        let outcome = duplex.leave_dead_lan(common, now);
        if outcome != Outcome::Stay {
            return outcome;
        }
        if duplex.leaves_unfit(common, now) && self.held == Held::Whole {
            return Outcome::HandOver(Cause::HostUnfit);
        }
        duplex.part(common, now);
        duplex.go_alone(common, now)
    }
}

impl Duplex {
    /// The standby's process is dead.
    fn bury(&mut self, now: Instant, cause: Cause) {
        self.gone.get_or_insert(cause);
        self.dead.get_or_insert(now);
    }

    /// A standby that is dead before the lease is over has never owned. A reading of the clock later
    /// than that with which its death was learned of says so: the other may be from before a pause.
    fn absolve(&mut self, common: &Common, now: Instant) {
        if self.dead.is_some_and(|learned| learned < now) && !self.lease.is_over(now) {
            self.unused = common.pair.dead();
        }
    }

    /// Clients cannot reach us and could reach the standby: let it own.
    fn leave_dead_lan(&self, common: &Common, now: Instant) -> Outcome {
        let able = common
            .peer()
            .is_some_and(|peer| peer.lan_ok && peer.synced && peer.role == BeatRole::Standby);
        if common.pair.lan_ok()
            || !able
            || common.is_peer_barred()
            || !common.pair.detector().is_heard_on_any(now)
        {
            Outcome::Stay
        } else if self.keeps_link(common) {
            Outcome::HandOver(Cause::LanLost)
        } else if common.pair.is_linked() {
            Outcome::Stay
        } else {
            Outcome::StandDown(Cause::LanLost)
        }
    }

    /// This host cannot carry the service and the standby's can: let it own.
    fn leaves_unfit(&self, common: &Common, now: Instant) -> bool {
        let able = common
            .peer()
            .is_some_and(|peer| peer.lan_ok && peer.synced && peer.role == BeatRole::Standby);
        !common.pair.fit()
            && able
            && common.pair.is_peer_fit()
            && !common.is_peer_barred()
            && common.pair.detector().is_heard_on_any(now)
            && self.keeps_link(common)
            && common.group.may_leave_unfit(now)
    }

    /// Whether the link stands that the standby got everything by. One that came up since carries
    /// nothing, and a standby that finds it there forgets what it had.
    fn keeps_link(&self, common: &Common) -> bool {
        common.pair.has_kept_link(self.since)
    }

    /// Without a link, or with nothing heard: knock for proof, and ask the standby to renounce.
    fn part(&mut self, common: &mut Common, now: Instant) {
        let silent = common.pair.detector().is_silent_on_both(now);
        if self.parting.is_none() && (silent || !common.pair.is_linked()) {
            self.parting = Some(now);
            common.pair.beat_at(now);
        }
        if silent {
            common.hang_up(now);
        }
        common.reach_out(now, Action::Knock);
    }

    /// Nothing is heard of the standby: the truth table decides.
    fn go_alone(&mut self, common: &mut Common, now: Instant) -> Outcome {
        let alone = common.timing.alone();
        let silence = common.pair.detector().silence_on_both(now);
        let claimed = self.claimed.is_some_and(|at| now.since(at) < alone);
        if silence < alone
            || !self.lease.is_over(now)
            || claimed
            || !common.pair.lan_ok()
            || common.pair.hears_caller_own(now)
        {
            return Outcome::Stay;
        }
        if common.policy.lost_peer == LostPeer::Continue || !common.group.asks_nobody() {
            return Outcome::GoSimplex(Cause::PeerSilent);
        }
        if !self.stopped {
            self.stopped = true;
            common.report(Report::StoppedByPolicy);
        }
        Outcome::Stay
    }
}
