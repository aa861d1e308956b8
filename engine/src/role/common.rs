//! What every role has: the clock last seen, the peer, the link, the LAN, the outbox.

use std::collections::VecDeque;

use super::arbiter::LostArbiter;
use super::claims::{Claims, Over, Title, Verdict};
use super::detector::{Arrival, Detector};
use super::peer::{Callers, Peer, Standing, answered};
use super::types::{
    Action, Beat, BeatRole, EPOCH_LIMIT, Echo, LinkEvent, Path, Policy, Report, Timing,
};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

/// How long a node that gave the address away for its host's sake keeps it if it comes back.
const UNFIT_INTERVAL: Duration = Duration::from_secs(60);

/// Everything that survives a change of role.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) node: Node,
    pub(super) boot: u64,
    pub(super) timing: Timing,
    pub(super) policy: Policy,
    /// The latest time any call brought: when this process was last surely awake.
    pub(super) last: Instant,
    pub(super) lan_ok: bool,
    /// Nothing on this host would make it fail as an owner.
    pub(super) fit: bool,
    /// The peer's host, as far as it told of it, can carry on what this one serves.
    pub(super) suits: bool,
    /// When the address was last given away for this host's sake.
    pub(super) left_unfit: Option<Instant>,
    pub(super) link: Link,
    /// When the link last delivered something.
    pub(super) link_heard: Instant,
    pub(super) peer: Option<Peer>,
    pub(super) detector: Detector,
    /// What the arbiter grants; `None` without one.
    pub(super) claims: Option<Claims>,
    /// The highest epoch ever owned or heard of.
    known: Epoch,
    /// The highest epoch that this process owned or followed.
    pub(super) served: Epoch,
    /// A process that can no longer own up to this epoch: dead, or bound to a lease that we took
    /// over. Claims of its that were still under way, or are made before it notices, are void.
    superseded: Option<(u64, Epoch)>,
    /// The last process of the peer's that is known to be dead.
    pub(super) dead: Option<u64>,
    /// Those who speak for the peer and have not answered this process.
    pub(super) callers: Callers,
    pub(super) next_dial: Instant,
    pub(super) next_beat: Instant,
    sequence: u64,
    pub(super) actions: VecDeque<Action>,
}

/// The replication link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
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

/// What a beat brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Nothing that matters to a role.
    Nothing,
    /// Later news of the process already known, or the first of any.
    News,
    /// A new process of the peer: the old one is dead.
    Successor,
}

/// What a link event brought.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkNews {
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

/// How long this process stood still before an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pause {
    /// Not notably.
    None,
    /// Long enough that silence cannot be judged.
    Short(Duration),
    /// As long as an owner without lease keeps its gate open unattended.
    Long(Duration),
}

impl Common {
    pub(super) fn new(now: Instant, node: Node, boot: u64, timing: Timing, policy: Policy) -> Self {
        Self {
            node,
            boot,
            timing,
            policy,
            last: now,
            lan_ok: true,
            fit: true,
            suits: true,
            left_unfit: None,
            link: Link::Down { lost: None, refused: None },
            link_heard: now,
            peer: None,
            detector: Detector::new(now, &timing),
            claims: policy
                .arbiter
                .filter(|_| policy.paired)
                .map(|arbiter| Claims::new(now, boot, arbiter, timing.redial)),
            known: Epoch::NONE,
            served: Epoch::NONE,
            superseded: None,
            dead: None,
            callers: Callers::default(),
            next_dial: now,
            next_beat: now,
            sequence: 0,
            actions: VecDeque::new(),
        }
    }

    /// Whether this node may own now: without an arbiter always, otherwise once that grants it.
    /// `bound` is the process, and the epoch, that is bound to our lease.
    pub(super) fn permit(&mut self, now: Instant, bound: Option<(u64, Epoch)>) -> bool {
        let title = self.title(now, bound);
        let Some(claims) = &mut self.claims else { return true };
        let (node, boot) = (self.node, self.boot);
        let verdict = claims.pursue(now, node, boot, title, &mut self.known, &mut self.actions);
        verdict != Verdict::Wait
    }

    /// The next epoch for this node, and what a grant of it was written over. Where nobody grants
    /// it, parity keeps two nodes that claim unheard by each other apart.
    pub(super) fn claim(&mut self) -> (Epoch, Option<Over>) {
        let won = self.claims.as_mut().and_then(Claims::take_won);
        let unanswered = self.claims.as_mut().and_then(Claims::take_unanswered);
        let (epoch, over) = match (won, unanswered) {
            (Some((epoch, over)), _) => (epoch, Some(over)),
            // It may be in the record already.
            (None, Some(epoch)) if epoch >= self.known => (epoch, None),
            (None, _) => (self.known.next_for(self.node), None),
        };
        self.known = epoch;
        self.served = epoch;
        if let Some(claims) = &mut self.claims {
            claims.note_used(epoch);
        }
        (epoch, over)
    }

    /// Why the arbiter's record, as last seen, may be written over.
    pub(super) fn title(&self, now: Instant, bound: Option<(u64, Epoch)>) -> Title {
        let Some(seen) = self.claims.as_ref().and_then(|claims| claims.seen) else {
            return Title::None;
        };
        // Who renounces has no claim open, and renounced after the record was written.
        let recently = seen.since.max(now - self.timing.detection);
        let consents = self.peer.is_some_and(|peer| {
            peer.role == BeatRole::Renounced && peer.has_answered_since(recently)
        });
        let Some(record) = seen.record else {
            return if consents { Title::Free } else { Title::Age };
        };
        let is_bound = |(boot, epoch)| record.boot == boot && record.epoch <= epoch;
        // Of two processes of a node the one that is heard after both have lived is the later.
        let replaced = self
            .peer
            .is_some_and(|peer| peer.boot != record.boot && peer.has_answered_since(seen.since));
        let free = record.owner == self.node
            || bound.is_some_and(is_bound)
            || self.superseded.is_some_and(is_bound)
            || self.dead == Some(record.boot)
            || replaced
            || consents;
        if free { Title::Free } else { Title::Age }
    }

    /// Until when this node may speak without a standby.
    pub(super) fn granted_until(&self) -> Instant {
        self.claims.as_ref().map_or(Instant::NEVER, Claims::granted_until)
    }

    /// Whether the truth table, and not an arbiter, decides about a peer that is silent.
    pub(super) fn asks_nobody(&self) -> bool {
        self.claims
            .as_ref()
            .is_none_or(|claims| claims.is_lost() && claims.policy.lost == LostArbiter::Table)
    }

    /// Whether this node could not own now, since the arbiter does not answer.
    pub(super) fn is_barred(&self) -> bool {
        self.claims.as_ref().is_some_and(Claims::is_barred)
    }

    /// Whether nothing on the peer's host would make it fail as an owner, as far as it is known.
    pub(super) fn is_peer_fit(&self) -> bool {
        self.suits && self.peer.is_none_or(|peer| peer.fit)
    }

    /// Whether the address may be given away for this host's sake. Two nodes of which each looks fit
    /// until it owns must not pass it to and fro.
    pub(super) fn may_leave_unfit(&self, now: Instant) -> bool {
        self.left_unfit.is_none_or(|at| now.since(at) >= UNFIT_INTERVAL)
    }

    /// Whether the peer could not.
    pub(super) fn is_peer_barred(&self) -> bool {
        let waits = |claims: &Claims| claims.policy.lost == LostArbiter::Stop;
        self.claims.as_ref().is_some_and(waits) && self.peer.is_some_and(|peer| !peer.arbiter_ok)
    }

    /// Somebody owned `epoch`.
    pub(super) fn note_epoch(&mut self, epoch: Epoch) {
        self.known = self.known.max(epoch);
    }

    /// Time goes on. A gap means that we slept: silence counts anew.
    pub(super) fn advance(&mut self, now: Instant) -> Pause {
        let gap = now.since(self.last);
        self.last = self.last.max(now);
        if !self.policy.paired {
            return Pause::None;
        }
        if gap <= self.timing.pause() {
            return Pause::None;
        }
        self.detector.restart(now);
        if gap < self.timing.detection { Pause::Short(gap) } else { Pause::Long(gap) }
    }

    /// A beat from the wire: whose it is, whether it is news.
    pub(super) fn hear(&mut self, now: Instant, path: Path, beat: &Beat) -> Heard {
        if !self.policy.paired || beat.node != self.node.peer() || beat.epoch > EPOCH_LIMIT {
            return Heard::Nothing;
        }
        let Some(peer) = &mut self.peer else {
            if answered(now, beat, self.boot, &self.timing).is_some() {
                return self.meet(now, path, beat, Heard::News);
            }
            self.callers.note(now, beat);
            return Heard::Nothing;
        };
        let lan_before = peer.lan_ok;
        match peer.standing(now, beat, self.boot, &self.timing) {
            Standing::Stale => {
                self.listen(now, path, beat);
                Heard::Nothing
            }
            Standing::News => {
                peer.update(now, beat, self.boot);
                if beat.lan_ok != lan_before {
                    self.report(Report::PeerLan { up: beat.lan_ok });
                }
                self.listen(now, path, beat);
                self.note_epoch(beat.epoch);
                Heard::News
            }
            Standing::Successor => self.succeed(now, path, beat),
            Standing::Unproven => {
                self.callers.note(now, beat);
                Heard::Nothing
            }
        }
    }

    /// Another process speaks for the peer.
    fn succeed(&mut self, now: Instant, path: Path, beat: &Beat) -> Heard {
        self.dead = self.peer.map(|peer| peer.boot);
        self.meet(now, path, beat, Heard::Successor)
    }

    fn meet(&mut self, now: Instant, path: Path, beat: &Beat, heard: Heard) -> Heard {
        self.peer = Some(Peer::meet(now, beat, self.boot));
        self.callers.forget(beat.boot);
        self.detector.forget_sequences();
        self.listen(now, path, beat);
        self.note_epoch(beat.epoch);
        heard
    }

    fn listen(&mut self, now: Instant, path: Path, beat: &Beat) {
        if path == Path::Lan && !self.detector.is_heard(now, path) {
            // The peer is told at once that it is heard there: it protects nothing before.
            self.next_beat = self.next_beat.min(now);
        }
        let (arrival, report) = self.detector.hear(now, path, beat.sequence);
        if arrival == Arrival::New
            && let Link::Down { refused, .. } = &mut self.link
        {
            *refused = None;
        }
        if let Some(report) = report {
            self.report(report);
        }
    }

    /// What a link event says about the peer's process.
    pub(super) fn on_link(&mut self, now: Instant, event: LinkEvent) -> LinkNews {
        if !self.policy.paired {
            return LinkNews::Nothing;
        }
        match event {
            LinkEvent::Up { boot, epoch, role } if epoch <= EPOCH_LIMIT => {
                self.link_up(now, boot, epoch, role)
            }
            // A peer whose Hello cannot be believed is one that cannot be followed.
            LinkEvent::Up { .. } | LinkEvent::Incompatible => self.link_incompatible(now),
            LinkEvent::Lost => match self.link {
                Link::Up { .. } => {
                    self.mark_lost(now);
                    LinkNews::Lost
                }
                Link::Down { .. } => LinkNews::Nothing,
            },
            LinkEvent::Refused => self.link_refused(now),
        }
    }

    fn link_up(&mut self, now: Instant, boot: u64, epoch: Epoch, role: BeatRole) -> LinkNews {
        self.link = Link::Up { boot, since: now };
        self.note_epoch(epoch);
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

    fn link_incompatible(&mut self, now: Instant) -> LinkNews {
        self.link = Link::Down { lost: None, refused: None };
        self.next_dial = now + self.timing.redial * 10;
        self.actions.push_back(Action::HangUp);
        self.report(Report::Incompatible);
        LinkNews::Nothing
    }

    fn link_refused(&mut self, now: Instant) -> LinkNews {
        let boot = self.peer.map(|peer| peer.boot);
        match &mut self.link {
            Link::Up { .. } => LinkNews::Nothing,
            Link::Down { lost, refused } => {
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
        if let Link::Up { boot, .. } = self.link {
            self.link = Link::Down { lost: Some(boot), refused: None };
            self.next_dial = now;
        }
    }

    /// Ends the link from this side.
    pub(super) fn hang_up(&mut self, now: Instant) {
        if self.is_linked() {
            self.actions.push_back(Action::HangUp);
            self.mark_lost(now);
        }
    }

    /// Ends a link with a process that has a successor. A host that lost its power sends no reset
    /// before somebody writes to it.
    pub(super) fn leave_dead_link(&mut self, now: Instant) {
        if let (Link::Up { boot, .. }, Some(peer)) = (self.link, &self.peer)
            && boot != peer.boot
        {
            self.hang_up(now);
        }
    }

    pub(super) const fn is_linked(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// When a dial was last refused with nothing heard since.
    pub(super) const fn refused(&self) -> Option<Instant> {
        match self.link {
            Link::Up { .. } => None,
            Link::Down { refused, .. } => refused,
        }
    }

    /// Asks for a connection (or a knock) if none is up and the pace allows it.
    pub(super) fn reach_out(&mut self, now: Instant, how: Action) {
        if self.policy.paired && !self.is_linked() && now >= self.next_dial {
            self.next_dial = now + self.timing.redial;
            self.actions.push_back(how);
        }
    }

    /// A link whose own path is silent while the LAN path lives is hung up: both ends learn of it,
    /// or find out alike. TCP would take many seconds.
    pub(super) fn check_stall(&mut self, now: Instant) {
        let Link::Up { since, .. } = self.link else { return };
        let stalled = now.since(since.max(self.link_heard)) >= self.timing.detection
            && self.detector.is_silent(now, Path::Replication)
            && self.detector.is_heard(now, Path::Lan);
        if stalled {
            self.report(Report::LinkStalled);
            self.hang_up(now);
        }
    }

    /// Whether the peer may be speaking: it said so and is not silent on both paths.
    pub(super) fn peer_owns(&self, now: Instant) -> bool {
        self.claimant().is_some() && !self.detector.is_silent_on_both(now)
    }

    /// The peer, if the last it said is that it owns, and it can.
    pub(super) fn claimant(&self) -> Option<Peer> {
        let void = |peer: &Peer| {
            self.superseded.is_some_and(|(boot, epoch)| peer.boot == boot && peer.epoch <= epoch)
        };
        self.peer.filter(|peer| peer.role.owns() && !void(peer))
    }

    /// The peer's process `boot` cannot own any more in any epoch up to `epoch`.
    pub(super) fn supersede(&mut self, boot: u64, epoch: Epoch) {
        self.superseded = Some((boot, epoch));
    }

    /// Whether a caller says that it owns. That may be a recording and proves nothing. Yet who was not
    /// awake when the known peer was replaced, or knows none, gives one that lives the time to answer
    /// before it acts on silence: once, since a recording can be played for ever.
    pub(super) fn hears_caller_own(&self, now: Instant) -> bool {
        let awake_since = self.detector.awake_since();
        self.callers.owned_within(now, self.timing.detection)
            && now.since(awake_since) < self.timing.startup() * 2
            && self.peer.is_none_or(|peer| peer.since < awake_since)
    }

    pub(super) fn report(&mut self, report: Report) {
        self.actions.push_back(Action::Report(report));
    }

    /// The next beat of a node that is `role`.
    pub(super) fn make_beat(
        &mut self,
        now: Instant,
        role: BeatRole,
        epoch: Epoch,
        synced: bool,
    ) -> Beat {
        self.next_beat = now + self.timing.heartbeat;
        let echo = self.peer.map_or(Echo::default(), Peer::to_echo);
        self.beat_to(now, role, epoch, synced, echo)
    }

    /// A beat of a node that is `role`, which answers `echo`.
    pub(super) fn beat_to(
        &mut self,
        now: Instant,
        role: BeatRole,
        epoch: Epoch,
        synced: bool,
        echo: Echo,
    ) -> Beat {
        self.sequence += 1;
        Beat {
            node: self.node,
            boot: self.boot,
            sequence: self.sequence,
            epoch,
            role,
            sent: now.as_nanos(),
            echo,
            synced,
            lan_ok: self.lan_ok,
            arbiter_ok: !self.claims.as_ref().is_some_and(Claims::is_lost),
            fit: self.fit,
            hears_lan: self.detector.is_heard(now, Path::Lan),
        }
    }
}
