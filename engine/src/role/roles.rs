//! The machine: events in, one transition function, actions out.

use super::ownership::State;
use super::ownership::arbiter::{ArbiterStatus, Reply};
use super::ownership::common::Common;
use super::ownership::joining::Joining;
use super::ownership::outcome::Outcome;
use super::ownership::primary::{Mode, Primary};
use super::peer::{Heard, LinkNews, Pause};
use super::types::{
    Action, Beat, BeatRole, Cause, Held, Lack, LinkEvent, Path, Policy, ProbeResult, Refusal,
    Report, Role, Timing,
};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

/// What this node is in the pair, and until when it may speak.
#[derive(Debug)]
pub struct Roles {
    pub(super) common: Common,
    pub(super) state: State,
    /// When `state` was entered.
    pub(super) entered: Instant,
}

impl Roles {
    /// A node that has just started. `boot` is drawn anew at every start. The LAN counts as up
    /// until [`Self::on_lan`] says otherwise.
    #[must_use]
    pub fn new(now: Instant, node: Node, boot: u64, timing: Timing, policy: Policy) -> Self {
        let common = Common::new(now, node, boot, timing, policy);
        Self { common, state: State::Joining(Joining::from(now)), entered: now }
    }

    /// A beat came on `path`. Beats of anybody but the peer are ignored. Returns whether it is
    /// believed, and later than what was known: what it says of other things may be used then.
    pub fn on_heartbeat(&mut self, now: Instant, path: Path, beat: &Beat) -> bool {
        self.advance(now);
        let heard = self.common.hear(now, path, beat);
        let common = &mut self.common;
        let outcome = match (&mut self.state, heard) {
            (_, Heard::Nothing) => Outcome::Stay,
            (State::Joining(joining), _) => joining.on_news(common, now),
            (State::Standby(standby), _) => standby.on_news(common, now),
            (State::Primary(primary), _) => primary.on_news(common, now, heard),
            (State::Yielding(yielding), _) => yielding.on_news(common, heard),
        };
        self.apply(now, outcome);
        heard != Heard::Nothing
    }

    /// The replication link changed, or a dial or knock was refused.
    pub fn on_link(&mut self, now: Instant, event: LinkEvent) {
        self.advance(now);
        let outcome = match self.common.on_link(now, event) {
            LinkNews::Nothing | LinkNews::Lost => Outcome::Stay,
            LinkNews::PeerDead => self.on_proof(now, Cause::LinkRefused),
            LinkNews::Up => self.on_link_up(event),
            LinkNews::UpWithSuccessor => self.on_link_with_successor(now, event),
        };
        self.apply(now, outcome);
    }

    /// The link delivered something. Under load its network may starve the beats; a link that
    /// delivers is not hung up for that. Says nothing about the peer's life: a dead host's bytes
    /// may still lie in a buffer.
    pub fn on_link_data(&mut self, now: Instant) {
        self.common.pair.on_link_data(now);
    }

    /// The own LAN interface has, or lacks, carrier.
    pub fn on_lan(&mut self, now: Instant, up: bool) {
        self.advance(now);
        let Common { pair, actions, .. } = &mut self.common;
        if pair.on_lan(now, up, actions) {
            if let State::Primary(primary) = &mut self.state {
                primary.on_lan(&self.common, now);
            }
            if up {
                self.common.pair.listen_anew(now);
            }
        }
        self.apply(now, Outcome::Stay);
    }

    /// Whether this host can carry the service. A node whose host cannot is no protection, and gives
    /// the address to a standby whose host can.
    pub fn on_host(&mut self, now: Instant, fit: bool) {
        self.advance(now);
        self.common.pair.on_host(now, fit);
        self.apply(now, Outcome::Stay);
    }

    /// Whether the peer's host, as it says it is, could carry on what this one serves.
    pub fn on_peer_host(&mut self, now: Instant, suits: bool) {
        self.advance(now);
        self.common.pair.on_peer_host(suits);
        self.apply(now, Outcome::Stay);
    }

    /// Somebody else announced the service address on the LAN.
    pub fn on_claimed(&mut self, now: Instant) {
        self.advance(now);
        let outcome = match &mut self.state {
            State::Primary(primary) => primary.on_claimed(&mut self.common, now),
            State::Joining(_) | State::Standby(_) | State::Yielding(_) => Outcome::Stay,
        };
        self.apply(now, outcome);
    }

    /// The answer to [`Action::Probe`].
    pub fn on_probe(&mut self, now: Instant, result: ProbeResult) {
        self.advance(now);
        if let State::Joining(joining) = &mut self.state {
            joining.on_probe(&self.common, now, result);
        }
        self.apply(now, Outcome::Stay);
    }

    /// Standby: everything of `epoch` (that of the log that carried the snapshot) is here. To be
    /// called before the confirmation leaves that lets the primary enter duplex.
    pub fn on_synced(&mut self, now: Instant, epoch: Epoch) {
        self.advance(now);
        if let State::Standby(standby) = &mut self.state {
            standby.on_synced(epoch);
            self.common.pair.beat_at(now);
        }
        self.apply(now, Outcome::Stay);
    }

    /// Primary: the linked standby has confirmed everything. To be called again and again until the
    /// role is duplex: a standby that is not heard is none yet, as its echoes are the lease, and one
    /// would have to part with it at once.
    pub fn on_duplex(&mut self, now: Instant) {
        self.advance(now);
        let outcome = match &self.state {
            State::Primary(Primary { mode: Mode::Simplex, .. })
                if self.common.pair.is_linked()
                    && !self.common.peer_owns(now)
                    && self.common.pair.detector().is_heard_on_any(now) =>
            {
                Outcome::GoDuplex
            }
            State::Primary(_) | State::Joining(_) | State::Standby(_) | State::Yielding(_) => {
                Outcome::Stay
            }
        };
        self.apply(now, outcome);
    }

    /// Standby: the link delivered the handover, and everything before it is applied.
    pub fn on_handover(&mut self, now: Instant) {
        self.advance(now);
        let outcome = match &mut self.state {
            State::Standby(standby) => standby.on_handover(now),
            State::Joining(_) | State::Primary(_) | State::Yielding(_) => Outcome::Stay,
        };
        self.apply(now, outcome);
    }

    /// The arbiter's answer to the [`Action::Ask`] of this number; `None`: there will be none. `now`
    /// is to be read after the answer has arrived: what it shows was written before.
    pub fn on_arbiter(&mut self, now: Instant, number: u64, reply: Option<Reply>) {
        self.advance(now);
        let Common { group, actions, .. } = &mut self.common;
        if let Some(claims) = &mut group.claims {
            claims.on_answer(now, number, reply, actions);
        }
        self.apply(now, Outcome::Stay);
    }

    /// An operator wants the standby to own.
    ///
    /// # Errors
    /// Says why not; then nothing has changed.
    pub fn on_switchover(&mut self, now: Instant) -> Result<(), Refusal> {
        self.advance(now);
        let checked = self.check_switchover();
        self.apply(
            now,
            if checked.is_ok() { Outcome::HandOver(Cause::Switchover) } else { Outcome::Stay },
        );
        checked
    }

    /// Time has come: see [`Self::deadline`]. To be called at least once a heartbeat, because a
    /// gap between calls is taken for a pause.
    pub fn on_timer(&mut self, now: Instant) {
        self.advance(now);
        self.apply(now, Outcome::Stay);
    }

    /// When [`Self::on_timer`] is due next: never later than the next beat.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let Common { timing, policy, pair, .. } = &self.common;
        let last = pair.last();
        if !policy.paired {
            return match self.state {
                State::Joining(_) => last + timing.startup(),
                State::Standby(_) | State::Primary(_) | State::Yielding(_) => Instant::NEVER,
            };
        }
        let silence = pair.detector().silence_on_both(last);
        let patience = [timing.detection, timing.alone(), timing.startup()]
            .into_iter()
            .find(|patience| *patience > silence)
            .map_or(Instant::NEVER, |patience| last + (patience - silence));
        let reaches_out = match &self.state {
            State::Primary(primary) => primary.is_duplex(),
            State::Joining(_) | State::Standby(_) | State::Yielding(_) => true,
        };
        let redial = if reaches_out { pair.next_dial() } else { Instant::NEVER };
        pair.next_beat().min(patience).min(redial).max(last)
    }

    /// The next thing to do; `None` when all is said.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.common.actions.pop_front()
    }

    /// The next beat that is due, to be sent on both paths; `None` if none is.
    pub fn poll_beat(&mut self, now: Instant) -> Option<Beat> {
        let word = self.as_beat();
        self.common.poll_beat(now, word)
    }

    /// I3: the instant from which on nothing may leave for the service address. To be compared
    /// with a fresh clock. [`Instant::ZERO`]: silent. [`Instant::NEVER`]: no peer is configured.
    #[must_use]
    pub fn speak_until(&self) -> Instant {
        match &self.state {
            State::Primary(primary) => primary.speak_until(&self.common),
            State::Joining(_) | State::Standby(_) | State::Yielding(_) => Instant::ZERO,
        }
    }

    /// What this node is.
    #[must_use]
    pub fn role(&self) -> Role {
        match &self.state {
            State::Joining(_) => Role::Joining,
            State::Standby(standby) => Role::Standby { synced: standby.is_armed() },
            State::Primary(primary) => Role::Primary { duplex: primary.is_duplex() },
            State::Yielding(_) => Role::Silent,
        }
    }

    /// The epoch owned or followed; joining: the highest this process served in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.as_beat().1
    }

    /// What this node says of itself, as for a Hello.
    #[must_use]
    pub fn beat_role(&self) -> BeatRole {
        self.as_beat().0
    }

    /// I7: a failure of this primary right now would lose no connection, as far as roles know: an
    /// armed standby with LAN carrier is linked and heard, and hears.
    #[must_use]
    pub fn is_protected(&self, now: Instant) -> bool {
        self.lack(now).is_none()
    }

    /// Why one would lose some. An owner that slept past its lease does not know before its standby's next
    /// echo: what it hears first was said before it slept. A LAN on which nothing is heard is not one on
    /// which clients are reached, carrier or not (row 2): somebody has to answer on it.
    #[must_use]
    pub fn lack(&self, now: Instant) -> Option<Lack> {
        let (State::Primary(primary), common) = (&self.state, &self.common) else {
            return Some(Lack::NotPrimary);
        };
        let detector = common.pair.detector();
        let silent_for = detector.silence(now, Path::Lan);
        match () {
            () if !common.policy.paired => Some(Lack::Unpaired),
            // An owner that stood still and has not looked since is about to find its lease over.
            () if now.since(common.pair.last()) > common.timing.pause() => Some(Lack::Paused),
            () if !detector.was_heard() => Some(Lack::NeverHeard),
            () if !detector.is_heard_on_any(now) => {
                Some(Lack::Silent { silent_for: detector.since_heard(now) })
            }
            () if !primary.is_duplex() => Some(Lack::NotSynced),
            () if primary.held != Held::Whole => Some(Lack::InDoubt),
            () if primary.is_unheard(common, now) => Some(Lack::Unheard),
            () if !common.pair.fit() => Some(Lack::Unfit),
            () => match self.check_switchover() {
                Err(refusal) => Some(Lack::Refused(refusal)),
                Ok(()) if !common.pair.is_peer_fit() => Some(Lack::PeerUnfit),
                Ok(()) if !detector.is_heard(now, Path::Lan) => {
                    Some(Lack::LanSilent { silent_for })
                }
                Ok(()) if !common.peer().is_some_and(|peer| peer.hears_lan) => {
                    Some(Lack::LanUnheard)
                }
                Ok(()) => None,
            },
        }
    }

    /// Why this primary cannot hand over, whatever it would lose.
    ///
    /// # Errors
    /// Says why not.
    pub fn check_switchover(&self) -> Result<(), Refusal> {
        let State::Primary(primary) = &self.state else { return Err(Refusal::NotPrimary) };
        let Some(peer) = self.common.peer() else { return Err(Refusal::NotDuplex) };
        let armed = peer.role == BeatRole::Standby && peer.synced;
        match () {
            () if !primary.is_duplex() || !armed => Err(Refusal::NotDuplex),
            () if !primary.keeps_link(&self.common) => Err(Refusal::NoLink),
            () if !peer.lan_ok => Err(Refusal::PeerLanDown),
            () if self.common.is_peer_barred() => Err(Refusal::PeerBarred),
            () => Ok(()),
        }
    }

    /// What the peer said of itself in the latest of its words: role, epoch, whether it is
    /// synchronised.
    #[must_use]
    pub fn peer(&self) -> Option<(BeatRole, Epoch, bool)> {
        self.common.peer().map(|peer| (peer.role, peer.epoch, peer.synced))
    }

    /// Whether the own LAN interface has carrier.
    #[must_use]
    pub const fn has_carrier(&self) -> bool {
        self.common.pair.lan_ok()
    }

    /// Whether anything of the peer's came within the detection time.
    #[must_use]
    pub fn is_peer_heard(&self, now: Instant) -> bool {
        self.common.pair.detector().is_heard_on_any(now)
    }

    /// How long each path has been silent; status.
    #[must_use]
    pub fn silence(&self, now: Instant, path: Path) -> Duration {
        self.common.pair.detector().silence(now, path)
    }

    /// What is known of the arbiter; `None` without one.
    #[must_use]
    pub fn arbiter(&self, now: Instant) -> Option<ArbiterStatus> {
        self.common.group.claims.as_ref().map(|claims| claims.status(now))
    }

    fn as_beat(&self) -> (BeatRole, Epoch, bool) {
        match &self.state {
            State::Joining(joining) => (joining.beat_role(), self.common.group.served(), false),
            State::Standby(standby) => (standby.beat_role(), standby.epoch, standby.is_armed()),
            State::Primary(primary) => (primary.beat_role(), primary.epoch, primary.is_duplex()),
            State::Yielding(yielding) => (yielding.beat_role(), yielding.epoch, false),
        }
    }

    fn advance(&mut self, now: Instant) {
        match (self.common.pair.advance(now), &mut self.state) {
            (Pause::None, _) => {}
            (pause, State::Primary(primary)) => primary.on_pause(&mut self.common, now, pause),
            (
                Pause::Short(lasted) | Pause::Long(lasted),
                State::Joining(_) | State::Standby(_) | State::Yielding(_),
            ) => self.common.report(Report::Paused { lasted, gated: false }),
        }
    }

    fn on_proof(&mut self, now: Instant, cause: Cause) -> Outcome {
        match &mut self.state {
            // A refusal with nothing heard since shortens its patience.
            State::Joining(_) => Outcome::Stay,
            State::Standby(standby) => standby.on_proof(now, cause),
            State::Primary(primary) => primary.on_proof(now, cause),
            State::Yielding(yielding) => yielding.on_proof(&mut self.common, cause),
        }
    }

    fn on_link_up(&mut self, event: LinkEvent) -> Outcome {
        let LinkEvent::Up { epoch, role, .. } = event else { return Outcome::Stay };
        match &mut self.state {
            State::Joining(_) if role.owns() => Outcome::Follow(Cause::PeerOwns),
            State::Standby(standby) if role.owns() => standby.on_link_up(epoch),
            State::Joining(_) | State::Standby(_) | State::Primary(_) | State::Yielding(_) => {
                Outcome::Stay
            }
        }
    }

    fn on_link_with_successor(&mut self, now: Instant, event: LinkEvent) -> Outcome {
        match (&self.state, event) {
            (State::Joining(_) | State::Standby(_), LinkEvent::Up { role, .. }) if role.owns() => {
                Outcome::Follow(Cause::PeerOwns)
            }
            (State::Yielding(_), LinkEvent::Up { role, .. }) if role.owns() => Outcome::Stay,
            (State::Joining(_) | State::Standby(_) | State::Primary(_) | State::Yielding(_), _) => {
                self.on_proof(now, Cause::PeerRestarted)
            }
        }
    }
}
