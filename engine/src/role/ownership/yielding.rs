//! A node that handed the address over and waits to see the peer own it.
//!
//! It is silent from the first moment. It asks for the address back only when the peer provably
//! does not have it (dead, or it renounces), or when nobody is heard for so long that the truth
//! table decides.

use super::super::peer::Heard;
use super::super::types::{Action, BeatRole, Cause, EPOCH_LIMIT, Held, LostPeer};
use super::common::Common;
use super::outcome::Outcome;
use crate::ids::Epoch;
use crate::time::Instant;

/// Has handed over.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Yielding {
    /// The standby's process.
    boot: u64,
    /// The epoch this node owned.
    pub(in crate::role) epoch: Epoch,
    /// Why it handed over.
    cause: Cause,
    since: Instant,
    /// Since when it asks the peer to give the address back.
    asking: Option<Instant>,
    /// Why the address is ours again, and what we know of the connections.
    back: Option<(Cause, Held)>,
}

impl Yielding {
    pub(in crate::role) const fn new(now: Instant, boot: u64, epoch: Epoch, cause: Cause) -> Self {
        Self { boot, epoch, cause, since: now, asking: None, back: None }
    }

    pub(in crate::role) const fn beat_role(&self) -> BeatRole {
        if self.asking.is_some() { BeatRole::Candidate } else { BeatRole::Yielding }
    }

    /// The peer said something new, or is another process.
    pub(in crate::role) fn on_news(&mut self, common: &mut Common, heard: Heard) -> Outcome {
        let Some(peer) = common.peer() else { return Outcome::Stay };
        match (heard, peer.role) {
            (Heard::Nothing, _) => Outcome::Stay,
            (Heard::News | Heard::Successor, role) if role.owns() => Outcome::StandDown(self.cause),
            (Heard::Successor, _) => self.on_proof(common, Cause::PeerRestarted),
            (Heard::News, BeatRole::Renounced)
                if self.asking.is_some_and(|asked| peer.has_answered_since(asked)) =>
            {
                // It never owned: a node renounces only as what it was when it was asked.
                self.back.get_or_insert((Cause::StandbyRenounced, Held::Whole));
                Outcome::Stay
            }
            (Heard::News, BeatRole::Joining | BeatRole::Candidate) if peer.epoch > self.epoch => {
                // It owned and has stood down, or follows nobody: what we hold is of the past.
                Outcome::StandDown(self.cause)
            }
            (
                Heard::News,
                BeatRole::Joining
                | BeatRole::Candidate
                | BeatRole::Standby
                | BeatRole::Renounced
                | BeatRole::Primary
                | BeatRole::Parting
                | BeatRole::Yielding,
            ) => Outcome::Stay,
        }
    }

    /// The peer's process is dead. It may have owned for a moment.
    pub(in crate::role) fn on_proof(&mut self, common: &mut Common, cause: Cause) -> Outcome {
        // It may have claimed the epoch it was given before it died.
        common.group.supersede(self.boot, EPOCH_LIMIT);
        self.back = Some((cause, Held::Doubtful));
        Outcome::Stay
    }

    /// What is due.
    pub(in crate::role) fn on_time(&mut self, common: &mut Common, now: Instant) -> Outcome {
        if let Some((cause, held)) = self.back {
            return Outcome::Own(cause, held);
        }
        common.check_stall(now);
        common.reach_out(now, Action::Knock);
        if now.since(self.since) < common.timing.handover() {
            return Outcome::Stay;
        }
        if self.asking.is_none() && common.pair.lan_ok() {
            self.asking = Some(now);
            common.pair.beat_at(now);
        }
        if common.pair.detector().silence_on_both(now) < common.timing.alone() {
            return Outcome::Stay;
        }
        common.hang_up(now);
        if common.pair.lan_ok()
            && (common.policy.lost_peer == LostPeer::Continue || !common.group.asks_nobody())
        {
            return Outcome::Own(Cause::PeerSilent, Held::Doubtful);
        }
        Outcome::Stay
    }
}
