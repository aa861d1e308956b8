//! A node that knows no owner: it listens, dials, and owns only what is provably free.
//!
//! Alone (both paths silent for `startup`, or a refused dial and a short silence) it probes the
//! address and owns it. With a living peer one of the two asks: the one with LAN carrier, else the
//! one whose host can carry the service, else which served in the higher epoch, else node `a`; the other renounces, and is bound by it as long as
//! it hears the winner.

use super::super::types::{Action, BeatRole, Cause, Exit, Held, ProbeResult};
use super::common::Common;
use super::outcome::Outcome;
use crate::ids::Node;
use crate::time::Instant;

/// Looks for an owner.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Joining {
    since: Instant,
    stage: Stage,
    /// Since when it asks the peer's consent.
    asking: Option<Instant>,
    /// It has consented to the peer.
    renounced: bool,
}

/// How far the address has been probed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Looking,
    Probing,
    /// Nobody answered; believed for `startup`.
    Clear(Instant),
    /// Somebody answered; given until then to turn out the peer.
    InUse(Instant),
}

/// Whether the address may be this node's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Claim {
    /// Not now.
    No,
    /// Once the living peer consents.
    Ask,
    /// The living peer has consented.
    Agreed,
    /// Nobody is there to be asked.
    Free,
}

impl Joining {
    /// At a start, or after a role that ended.
    pub(in crate::role) const fn from(now: Instant) -> Self {
        Self { since: now, stage: Stage::Looking, asking: None, renounced: false }
    }

    pub(in crate::role) const fn beat_role(&self) -> BeatRole {
        match self {
            Self { asking: Some(_), .. } => BeatRole::Candidate,
            Self { renounced: true, .. } => BeatRole::Renounced,
            Self { .. } => BeatRole::Joining,
        }
    }

    /// The peer said something new.
    pub(in crate::role) fn on_news(&mut self, common: &mut Common, now: Instant) -> Outcome {
        let Some(peer) = common.peer() else { return Outcome::Stay };
        if peer.role.owns() {
            return Outcome::Follow(Cause::PeerOwns);
        }
        if peer.role == BeatRole::Candidate && !self.wins(common, now) && !self.renounced {
            // Consent ends the own question first: an answer to it no longer counts.
            self.asking = None;
            self.renounced = true;
            common.pair.beat_at(now);
        }
        Outcome::Stay
    }

    /// The probe was answered.
    pub(in crate::role) fn on_probe(&mut self, common: &Common, now: Instant, result: ProbeResult) {
        if self.stage == Stage::Probing {
            self.stage = match result {
                ProbeResult::Clear => Stage::Clear(now),
                ProbeResult::InUse => Stage::InUse(now + common.timing.startup()),
            };
        }
    }

    /// What is due.
    pub(in crate::role) fn on_time(&mut self, common: &mut Common, now: Instant) -> Outcome {
        if common.peer_owns(now) {
            return Outcome::Follow(Cause::PeerOwns);
        }
        self.check_foreign_owner(common, now);
        let claim = self.claim(common, now);
        self.ask(common, now, claim);
        if claim == Claim::No {
            return Outcome::Stay;
        }
        self.probe(common, now);
        let clear = matches!(self.stage, Stage::Clear(_));
        match claim {
            Claim::Agreed if clear => Outcome::Own(Cause::PeerAgreed, Held::Nothing),
            Claim::Free if clear && common.policy.paired => {
                Outcome::Own(Cause::NobodyThere, Held::Nothing)
            }
            Claim::Free if clear => Outcome::Own(Cause::Unpaired, Held::Nothing),
            Claim::Agreed | Claim::Free | Claim::Ask | Claim::No => Outcome::Stay,
        }
    }

    /// Somebody answered for the address. A peer that is known may be the one, cut off from us but
    /// for its announcements: keep looking. Otherwise a stranger has it.
    fn check_foreign_owner(&mut self, common: &mut Common, now: Instant) {
        if let Stage::InUse(until) = self.stage
            && now >= until
        {
            // A caller may be the one, too: the next probe tells.
            let called = common.pair.called_within(now, common.timing.startup());
            if common.peer().is_none() && !called {
                common.actions.push_back(Action::Exit(Exit::AddressInUse));
            }
            self.stage = Stage::Looking;
        }
    }

    /// Starts or ends the question to a living peer.
    fn ask(&mut self, common: &mut Common, now: Instant, claim: Claim) {
        let asks = matches!(claim, Claim::Ask | Claim::Agreed);
        if asks != self.asking.is_some() {
            self.asking = asks.then_some(now);
            self.renounced &= !asks;
            common.pair.beat_at(now);
        }
    }

    fn probe(&mut self, common: &mut Common, now: Instant) {
        let due = match self.stage {
            Stage::Looking => true,
            Stage::Clear(at) => now.since(at) >= common.timing.startup(),
            Stage::Probing | Stage::InUse(_) => false,
        };
        if due {
            self.stage = Stage::Probing;
            common.actions.push_back(Action::Probe);
        }
    }

    /// Whether, and on whose word, the address may be this node's.
    fn claim(&self, common: &Common, now: Instant) -> Claim {
        if !common.pair.lan_ok() {
            return Claim::No;
        }
        if !common.policy.paired {
            return Claim::Free;
        }
        let silence = common.pair.detector().silence_on_both(now);
        // A pause or a fresh start leaves "not silent" without anybody heard: neither alive nor
        // provably gone, so wait.
        if common.peer().is_some() && common.pair.detector().is_heard_on_any(now) {
            return self.claim_against_living(common, now);
        }
        let timing = &common.timing;
        let patience =
            if common.pair.refused().is_some() { timing.detection * 2 } else { timing.startup() };
        if silence >= patience && !common.pair.hears_caller_own(now) {
            Claim::Free
        } else {
            Claim::No
        }
    }

    fn claim_against_living(&self, common: &Common, now: Instant) -> Claim {
        let Some(peer) = common.peer() else { return Claim::No };
        // The consent is as good as a lease: it must be to a question, and still be heard.
        let agreed = peer.role == BeatRole::Renounced
            && self.asking.is_some_and(|asked| peer.has_answered_since(asked))
            && peer.has_answered_since(now - common.timing.detection);
        if agreed {
            Claim::Agreed
        } else if self.wins(common, now) {
            Claim::Ask
        } else {
            Claim::No
        }
    }

    /// Whether this node, rather than the living peer, is to own.
    fn wins(&self, common: &Common, now: Instant) -> bool {
        let Some(peer) = common.peer() else { return false };
        let ours = (
            common.pair.lan_ok(),
            common.pair.fit(),
            common.group.served(),
            common.pair.node() == Node::A,
        );
        let theirs = (peer.lan_ok, peer.fit, peer.epoch, common.pair.node() == Node::B);
        match peer.role {
            BeatRole::Joining | BeatRole::Candidate | BeatRole::Renounced => {
                common.pair.lan_ok() && ours > theirs
            }
            // It takes over itself, if it can.
            BeatRole::Standby | BeatRole::Yielding => {
                common.pair.lan_ok()
                    && !peer.lan_ok
                    && now.since(self.since) >= common.timing.startup()
            }
            BeatRole::Primary | BeatRole::Parting => false,
        }
    }
}
