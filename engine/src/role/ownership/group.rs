//! One group of addresses: which epochs were owned, by whom, and what the arbiter grants of the next.

use super::super::peer::{Actions, Pair, Peer};
use super::super::types::{BeatRole, Policy};
use super::arbiter::LostArbiter;
use super::claims::{Claims, Over, Permit, Title};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

/// How long a node that gave the address away for its host's sake keeps it if it comes back.
const UNFIT_INTERVAL: Duration = Duration::from_secs(60);

/// What survives a change of role.
#[derive(Debug)]
pub(in crate::role) struct Group {
    /// What the arbiter grants; `None` without one.
    pub(in crate::role) claims: Option<Claims>,
    /// The highest epoch ever owned or heard of.
    known: Epoch,
    /// The highest epoch that this process owned or followed.
    served: Epoch,
    /// A process that can no longer own up to this epoch: dead, or bound to a lease that we took
    /// over. Claims of its that were still under way, or are made before it notices, are void.
    superseded: Option<(u64, Epoch)>,
    /// When the address was last given away for this host's sake.
    left_unfit: Option<Instant>,
}

impl Group {
    pub(in crate::role) fn new(now: Instant, pair: &Pair, policy: Policy) -> Self {
        let arbiter = policy.arbiter.filter(|_| policy.paired);
        let pace = pair.timing().redial;
        Self {
            claims: arbiter.map(|arbiter| Claims::new(now, pair.boot(), arbiter, pace)),
            known: Epoch::NONE,
            served: Epoch::NONE,
            superseded: None,
            left_unfit: None,
        }
    }

    /// The highest epoch that this process owned or followed.
    pub(in crate::role) const fn served(&self) -> Epoch {
        self.served
    }

    /// This process follows the owner of `epoch`.
    pub(in crate::role) const fn note_served(&mut self, epoch: Epoch) {
        self.served = epoch;
    }

    /// The address is given away for this host's sake.
    pub(in crate::role) const fn note_left_unfit(&mut self, now: Instant) {
        self.left_unfit = Some(now);
    }

    /// Whether the arbiter answers, or there is none.
    pub(in crate::role) fn arbiter_ok(&self) -> bool {
        !self.claims.as_ref().is_some_and(Claims::is_lost)
    }

    /// Whether this node may own now: without an arbiter always, otherwise once that grants it.
    /// `bound` is the process, and the epoch, that is bound to our lease.
    pub(in crate::role) fn permit(
        &mut self,
        now: Instant,
        pair: &Pair,
        bound: Option<(u64, Epoch)>,
        actions: &mut Actions,
    ) -> bool {
        let title = self.title(now, pair, bound);
        let Some(claims) = &mut self.claims else { return true };
        let (node, boot) = (pair.node(), pair.boot());
        let permit = claims.pursue(now, node, boot, title, &mut self.known, actions);
        permit != Permit::Wait
    }

    /// The next epoch for this node, and what a grant of it was written over. Where nobody grants
    /// it, parity keeps two nodes that claim unheard by each other apart.
    pub(in crate::role) fn claim(&mut self, node: Node) -> (Epoch, Option<Over>) {
        let won = self.claims.as_mut().and_then(Claims::take_won);
        let unanswered = self.claims.as_mut().and_then(Claims::take_unanswered);
        let (epoch, over) = match (won, unanswered) {
            (Some((epoch, over)), _) => (epoch, Some(over)),
            // It may be in the record already.
            (None, Some(epoch)) if epoch >= self.known => (epoch, None),
            (None, _) => (self.known.next_for(node), None),
        };
        assert!(epoch > self.served, "I3: an epoch is owned once, above all that were served in");
        assert!(epoch >= self.known, "I3: no owner begins below an epoch that it has heard of");
        self.known = epoch;
        self.served = epoch;
        if let Some(claims) = &mut self.claims {
            claims.note_used(epoch);
        }
        (epoch, over)
    }

    /// Why the arbiter's record, as last seen, may be written over.
    pub(in crate::role) fn title(
        &self,
        now: Instant,
        pair: &Pair,
        bound: Option<(u64, Epoch)>,
    ) -> Title {
        let Some(seen) = self.claims.as_ref().and_then(|claims| claims.seen) else {
            return Title::None;
        };
        let peer = pair.peer();
        // A peer that renounces has no claim open, and renounced after the record was written.
        let recently = seen.since.max(now - pair.timing().detection);
        let consents = peer.is_some_and(|peer| {
            peer.role == BeatRole::Renounced && peer.has_answered_since(recently)
        });
        let Some(record) = seen.record else {
            return if consents { Title::Free } else { Title::Age };
        };
        let is_bound = |(boot, epoch)| record.boot == boot && record.epoch <= epoch;
        // Of two processes of a node the one that is heard after both have lived is the later.
        let replaced = peer
            .is_some_and(|peer| peer.boot != record.boot && peer.has_answered_since(seen.since));
        let free = record.owner == pair.node()
            || bound.is_some_and(is_bound)
            || self.superseded.is_some_and(is_bound)
            || pair.dead() == Some(record.boot)
            || replaced
            || consents;
        if free { Title::Free } else { Title::Age }
    }

    /// Until when this node may speak without a standby.
    pub(in crate::role) fn granted_until(&self) -> Instant {
        self.claims.as_ref().map_or(Instant::NEVER, Claims::granted_until)
    }

    /// Whether the truth table, and not an arbiter, decides about a peer that is silent.
    pub(in crate::role) fn asks_nobody(&self) -> bool {
        self.claims
            .as_ref()
            .is_none_or(|claims| claims.is_lost() && claims.policy.lost == LostArbiter::Table)
    }

    /// Whether this node could not own now, since the arbiter does not answer.
    pub(in crate::role) fn is_barred(&self) -> bool {
        self.claims.as_ref().is_some_and(Claims::is_barred)
    }

    /// Whether the address may be given away for this host's sake. Two nodes of which each looks fit
    /// until it owns must not pass it to and fro.
    pub(in crate::role) fn may_leave_unfit(&self, now: Instant) -> bool {
        self.left_unfit.is_none_or(|at| now.since(at) >= UNFIT_INTERVAL)
    }

    /// Somebody owned `epoch`.
    pub(in crate::role) fn note_epoch(&mut self, epoch: Epoch) {
        self.known = self.known.max(epoch);
    }

    /// The peer's process `boot` cannot own any more in any epoch up to `epoch`.
    pub(in crate::role) fn supersede(&mut self, boot: u64, epoch: Epoch) {
        self.superseded = Some((boot, epoch));
    }

    /// The peer, if the last it said is that it owns, and it can.
    pub(in crate::role) fn claimant(&self, pair: &Pair) -> Option<Peer> {
        let void = |peer: &Peer| {
            self.superseded.is_some_and(|(boot, epoch)| peer.boot == boot && peer.epoch <= epoch)
        };
        pair.peer().filter(|peer| peer.role.owns() && !void(peer))
    }

    /// Whether the peer may be speaking: it said so and is not silent on both paths.
    pub(in crate::role) fn peer_owns(&self, now: Instant, pair: &Pair) -> bool {
        self.claimant(pair).is_some() && !pair.detector().is_silent_on_both(now)
    }

    /// Whether the peer could not.
    pub(in crate::role) fn is_peer_barred(&self, pair: &Pair) -> bool {
        let waits = |claims: &Claims| claims.policy.lost == LostArbiter::Stop;
        self.claims.as_ref().is_some_and(waits) && pair.peer().is_some_and(|peer| !peer.arbiter_ok)
    }
}
