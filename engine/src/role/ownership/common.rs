//! What every role has: the peer, the group of addresses, and what is to be done.

use super::super::peer::{Actions, Heard, LinkNews, Pair, Peer, Word};
use super::super::types::{Action, Beat, BeatRole, LinkEvent, Path, Policy, Report, Timing};
use super::group::Group;
use crate::ids::{Epoch, Node};
use crate::time::Instant;

/// Everything that survives a change of role.
#[derive(Debug)]
pub(in crate::role) struct Common {
    pub(in crate::role) timing: Timing,
    pub(in crate::role) policy: Policy,
    pub(in crate::role) pair: Pair,
    pub(in crate::role) group: Group,
    pub(in crate::role) actions: Actions,
}

impl Common {
    pub(in crate::role) fn new(
        now: Instant,
        node: Node,
        boot: u64,
        timing: Timing,
        policy: Policy,
    ) -> Self {
        let pair = Pair::new(now, node, boot, timing, policy.paired);
        let group = Group::new(now, &pair, policy);
        Self { timing, policy, pair, group, actions: Actions::new() }
    }

    /// A beat from the wire. An epoch that is believed is known from then on.
    pub(in crate::role) fn hear(&mut self, now: Instant, path: Path, beat: &Beat) -> Heard {
        let heard = self.pair.hear(now, path, beat, &mut self.actions);
        if heard != Heard::Nothing {
            self.group.note_epoch(beat.epoch);
        }
        heard
    }

    /// What a link event says about the peer's process. A Hello's epoch is known from then on.
    pub(in crate::role) fn on_link(&mut self, now: Instant, event: LinkEvent) -> LinkNews {
        let news = self.pair.on_link(now, event, &mut self.actions);
        if let (LinkNews::Up | LinkNews::UpWithSuccessor, LinkEvent::Up { epoch, .. }) =
            (news, event)
        {
            self.group.note_epoch(epoch);
        }
        news
    }

    /// Whether this node may own now: without an arbiter always, otherwise once that grants it.
    /// `bound` is the process, and the epoch, that is bound to our lease.
    pub(in crate::role) fn permit(&mut self, now: Instant, bound: Option<(u64, Epoch)>) -> bool {
        self.group.permit(now, &self.pair, bound, &mut self.actions)
    }

    /// The peer's process as last heard.
    pub(in crate::role) const fn peer(&self) -> Option<Peer> {
        self.pair.peer()
    }

    /// Whether the peer may be speaking: it said so and is not silent on both paths.
    pub(in crate::role) fn peer_owns(&self, now: Instant) -> bool {
        self.group.peer_owns(now, &self.pair)
    }

    /// The peer, if the last it said is that it owns, and it can.
    pub(in crate::role) fn claimant(&self) -> Option<Peer> {
        self.group.claimant(&self.pair)
    }

    /// Whether the peer could not own now, since the arbiter does not answer it.
    pub(in crate::role) fn is_peer_barred(&self) -> bool {
        self.group.is_peer_barred(&self.pair)
    }

    /// Ends the link from this side.
    pub(in crate::role) fn hang_up(&mut self, now: Instant) {
        self.pair.hang_up(now, &mut self.actions);
    }

    /// Asks for a connection (or a knock) if none is up and the pace allows it.
    pub(in crate::role) fn reach_out(&mut self, now: Instant, how: Action) {
        self.pair.reach_out(now, how, &mut self.actions);
    }

    /// Hangs a link up whose own path is silent while the LAN path lives.
    pub(in crate::role) fn check_stall(&mut self, now: Instant) {
        self.pair.check_stall(now, &mut self.actions);
    }

    pub(in crate::role) fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }

    /// The next beat that is due of a node that is `role`.
    pub(in crate::role) fn poll_beat(
        &mut self,
        now: Instant,
        (role, epoch, synced): (BeatRole, Epoch, bool),
    ) -> Option<Beat> {
        let arbiter_ok = self.group.arbiter_ok();
        self.pair.poll_beat(now, Word { role, epoch, synced, arbiter_ok })
    }
}
