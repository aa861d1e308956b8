//! The peer: who is there, since when, by what paths, and what it says of itself.
//!
//! [`Pair`] is this process and the peer's, whatever the two own: the boot numbers that tell one
//! process from another ([`word`]), the callers among which a successor may be ([`callers`]), the
//! silence of both paths ([`detector`]), the link ([`link`]), and the pace of beats and dials. It decides
//! nothing about the address. What it finds out is an event ([`Heard`], [`LinkNews`], [`Pause`]) or a
//! question that `ownership` may ask; what `ownership` has to tell the peer is a [`Word`] in a beat.

mod callers;
mod detector;
mod link;
mod word;

use std::collections::VecDeque;

use super::types::{Action, Beat, BeatRole, EPOCH_LIMIT, Echo, Path, Report, Timing};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};
use detector::Arrival;
use word::{Standing, answered};

pub(super) use callers::Callers;
pub(super) use detector::Detector;
pub(super) use link::LinkNews;
use link::LinkState;
pub(super) use word::Peer;

/// What is to be done, in order.
pub(super) type Actions = VecDeque<Action>;

/// This process and the peer's.
#[derive(Debug)]
pub(super) struct Pair {
    node: Node,
    boot: u64,
    timing: Timing,
    /// Whether a peer is configured at all.
    paired: bool,
    /// The latest time any call brought: when this process was last surely awake.
    last: Instant,
    lan_ok: bool,
    /// Nothing on this host would make it fail as an owner.
    fit: bool,
    /// The peer's host, as far as it told of it, can carry on what this one serves.
    suits: bool,
    link: LinkState,
    /// When the link last delivered something.
    link_heard: Instant,
    peer: Option<Peer>,
    detector: Detector,
    /// The last process of the peer's that is known to be dead.
    dead: Option<u64>,
    /// Those who speak for the peer and have not answered this process.
    callers: Callers,
    next_dial: Instant,
    next_beat: Instant,
    sequence: u64,
}

/// What a node says of what it owns, in a beat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// What it is.
    pub(super) role: BeatRole,
    /// The epoch owned, followed, or the highest served in.
    pub(super) epoch: Epoch,
    /// Primary: in duplex. Standby: armed.
    pub(super) synced: bool,
    /// Its arbiter answers, or it has none.
    pub(super) arbiter_ok: bool,
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

impl Pair {
    pub(super) fn new(now: Instant, node: Node, boot: u64, timing: Timing, paired: bool) -> Self {
        Self {
            node,
            boot,
            timing,
            paired,
            last: now,
            lan_ok: true,
            fit: true,
            suits: true,
            link: LinkState::Down { lost: None, refused: None },
            link_heard: now,
            peer: None,
            detector: Detector::new(now, &timing),
            dead: None,
            callers: Callers::default(),
            next_dial: now,
            next_beat: now,
            sequence: 0,
        }
    }

    /// Which node this is.
    pub(super) const fn node(&self) -> Node {
        self.node
    }

    /// Which process of it.
    pub(super) const fn boot(&self) -> u64 {
        self.boot
    }

    /// How fast the pair notices and decides.
    pub(super) const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The latest time any call brought.
    pub(super) const fn last(&self) -> Instant {
        self.last
    }

    /// The peer's process as last heard.
    pub(super) const fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// How long it has been silent, on which path.
    pub(super) const fn detector(&self) -> &Detector {
        &self.detector
    }

    /// The last process of the peer's that is known to be dead.
    pub(super) const fn dead(&self) -> Option<u64> {
        self.dead
    }

    /// Whether the own LAN interface has carrier.
    pub(super) const fn lan_ok(&self) -> bool {
        self.lan_ok
    }

    /// Whether this host can carry the service.
    pub(super) const fn fit(&self) -> bool {
        self.fit
    }

    /// Whether nothing on the peer's host would make it fail as an owner, as far as it is known.
    pub(super) fn is_peer_fit(&self) -> bool {
        self.suits && self.peer.is_none_or(|peer| peer.fit)
    }

    /// Whether one that has not answered has called within `time`.
    pub(super) fn called_within(&self, now: Instant, time: Duration) -> bool {
        self.callers.called_within(now, time)
    }

    /// The own LAN interface has, or lacks, carrier. Returns whether that is news.
    pub(super) fn on_lan(&mut self, now: Instant, up: bool, actions: &mut Actions) -> bool {
        let news = up != self.lan_ok;
        if news {
            self.lan_ok = up;
            self.beat_at(now);
            let report = if up { Report::LanUp } else { Report::LanDown };
            actions.push_back(Action::Report(report));
        }
        news
    }

    /// It was half deaf until now: what was not heard so far is no silence.
    pub(super) fn listen_anew(&mut self, now: Instant) {
        self.detector.restart(now);
    }

    /// Whether this host can carry the service.
    pub(super) fn on_host(&mut self, now: Instant, fit: bool) {
        if fit != self.fit {
            self.fit = fit;
            self.beat_at(now);
        }
    }

    /// Whether the peer's host, as it says it is, could carry on what this one serves.
    pub(super) const fn on_peer_host(&mut self, suits: bool) {
        self.suits = suits;
    }

    /// A beat is due: there is something new to say.
    pub(super) const fn beat_at(&mut self, now: Instant) {
        self.next_beat = now;
    }

    /// When a beat is due next.
    pub(super) const fn next_beat(&self) -> Instant {
        self.next_beat
    }

    /// Time goes on. A gap means that we slept: silence counts anew.
    pub(super) fn advance(&mut self, now: Instant) -> Pause {
        let gap = now.since(self.last);
        self.last = self.last.max(now);
        if !self.paired {
            return Pause::None;
        }
        if gap <= self.timing.pause() {
            return Pause::None;
        }
        self.detector.restart(now);
        if gap < self.timing.detection { Pause::Short(gap) } else { Pause::Long(gap) }
    }

    /// A beat from the wire: whose it is, whether it is news.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        path: Path,
        beat: &Beat,
        actions: &mut Actions,
    ) -> Heard {
        if !self.paired || beat.node != self.node.peer() || beat.epoch > EPOCH_LIMIT {
            return Heard::Nothing;
        }
        let Some(peer) = &mut self.peer else {
            if answered(now, beat, self.boot, &self.timing).is_some() {
                return self.meet(now, path, beat, actions, Heard::News);
            }
            self.callers.note(now, beat);
            return Heard::Nothing;
        };
        let lan_before = peer.lan_ok;
        match peer.standing(now, beat, self.boot, &self.timing) {
            Standing::Stale => {
                self.listen(now, path, beat, actions);
                Heard::Nothing
            }
            Standing::News => {
                peer.update(now, beat, self.boot);
                if beat.lan_ok != lan_before {
                    actions.push_back(Action::Report(Report::PeerLan { up: beat.lan_ok }));
                }
                self.listen(now, path, beat, actions);
                Heard::News
            }
            Standing::Successor => self.succeed(now, path, beat, actions),
            Standing::Unproven => {
                self.callers.note(now, beat);
                Heard::Nothing
            }
        }
    }

    /// Another process speaks for the peer.
    fn succeed(&mut self, now: Instant, path: Path, beat: &Beat, actions: &mut Actions) -> Heard {
        self.dead = self.peer.map(|peer| peer.boot);
        self.meet(now, path, beat, actions, Heard::Successor)
    }

    fn meet(
        &mut self,
        now: Instant,
        path: Path,
        beat: &Beat,
        actions: &mut Actions,
        heard: Heard,
    ) -> Heard {
        self.peer = Some(Peer::meet(now, beat, self.boot));
        self.callers.forget(beat.boot);
        self.detector.forget_sequences();
        self.listen(now, path, beat, actions);
        heard
    }

    fn listen(&mut self, now: Instant, path: Path, beat: &Beat, actions: &mut Actions) {
        if path == Path::Lan && !self.detector.is_heard(now, path) {
            // The peer is told at once that it is heard there: it protects nothing before.
            self.next_beat = self.next_beat.min(now);
        }
        let (arrival, report) = self.detector.hear(now, path, beat.sequence);
        if arrival == Arrival::New
            && let LinkState::Down { refused, .. } = &mut self.link
        {
            *refused = None;
        }
        if let Some(report) = report {
            actions.push_back(Action::Report(report));
        }
    }

    /// Whether a caller says that it owns. That may be a recording and proves nothing. Yet a node that was not
    /// awake when the known peer was replaced, or knows none, gives one that lives the time to answer
    /// before it acts on silence: once, since a recording can be played for ever.
    pub(super) fn hears_caller_own(&self, now: Instant) -> bool {
        let awake_since = self.detector.awake_since();
        self.callers.owned_within(now, self.timing.detection)
            && now.since(awake_since) < self.timing.startup() * 2
            && self.peer.is_none_or(|peer| peer.since < awake_since)
    }

    /// A path that has fallen silent since the last call.
    pub(super) fn poll_report(&mut self, now: Instant) -> Option<Report> {
        self.detector.poll_report(now)
    }

    /// The next beat that is due, to be sent on both paths; `None` if none is. Those for callers, whom
    /// nobody believes before they have answered, come before the one for the peer: what overtakes
    /// that would make its echo, which is the peer's lease, old news.
    pub(super) fn poll_beat(&mut self, now: Instant, word: Word) -> Option<Beat> {
        if !self.paired || now < self.next_beat {
            return None;
        }
        let echo = self.callers.poll().unwrap_or_else(|| {
            self.next_beat = now + self.timing.heartbeat;
            self.peer.map_or(Echo::default(), Peer::to_echo)
        });
        Some(self.beat_to(now, word, echo))
    }

    /// A beat of a node that has `word` to say, which answers `echo`.
    fn beat_to(&mut self, now: Instant, word: Word, echo: Echo) -> Beat {
        let Word { role, epoch, synced, arbiter_ok } = word;
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
            arbiter_ok,
            fit: self.fit,
            hears_lan: self.detector.is_heard(now, Path::Lan),
        }
    }
}
