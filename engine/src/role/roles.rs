//! The machine: events in, one transition function, actions out.

use super::arbiter::{ArbiterStatus, LostArbiter, Record, Reply};
use super::claims::Over;
use super::common::{Common, Heard, LinkNews, Pause};
use super::joining::Joining;
use super::peer::Peer;
use super::primary::{Mode, Primary};
use super::standby::Standby;
use super::types::{
    Action, Beat, BeatRole, Cause, Change, Held, Lack, LinkEvent, Path, Policy, ProbeResult,
    Refusal, Report, Role, Timing,
};
use super::yielding::Yielding;
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

/// Who this node is in the pair, and until when it may speak.
#[derive(Debug)]
pub struct Roles {
    common: Common,
    state: State,
    /// When `state` was entered.
    entered: Instant,
}

/// One struct per role; each owns what only it needs.
#[derive(Clone, Copy, Debug)]
enum State {
    Joining(Joining),
    Standby(Standby),
    Primary(Primary),
    Yielding(Yielding),
}

/// What an event means for the role. [`Roles::transition`] carries it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// Nothing changes.
    Stay,
    /// Own the address, alone, in the next epoch.
    Own(Cause, Held),
    /// Follow the peer, from nothing.
    Follow(Cause),
    /// Nobody is known to own: look around.
    Join(Cause),
    /// Stop owning or claiming.
    StandDown(Cause),
    /// Go on without the standby, in the next epoch.
    GoSimplex(Cause),
    /// The standby holds everything.
    GoDuplex,
    /// Give the address to the standby.
    HandOver(Cause),
}

impl Outcome {
    /// Whether it needs the next epoch.
    const fn owns(self) -> bool {
        matches!(self, Self::Own(..) | Self::GoSimplex(_))
    }
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
            (State::Standby(standby), _) => standby.on_news(common, now, heard),
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
        self.common.link_heard = now;
    }

    /// The own LAN interface has, or lacks, carrier.
    pub fn on_lan(&mut self, now: Instant, up: bool) {
        self.advance(now);
        if up != self.common.lan_ok {
            self.common.lan_ok = up;
            self.common.next_beat = now;
            self.common.report(if up { Report::LanUp } else { Report::LanDown });
            if let State::Primary(primary) = &mut self.state {
                primary.on_lan(&self.common, now);
            }
            if up {
                // Half deaf until now: what was not heard so far is no silence.
                self.common.detector.restart(now);
            }
        }
        self.apply(now, Outcome::Stay);
    }

    /// Whether this host can carry the service. Who cannot is no protection, and gives the address to
    /// a standby that can.
    pub fn on_host(&mut self, now: Instant, fit: bool) {
        self.advance(now);
        if fit != self.common.fit {
            self.common.fit = fit;
            self.common.next_beat = now;
        }
        self.apply(now, Outcome::Stay);
    }

    /// Whether the peer's host, as it says it is, could carry on what this one serves.
    pub fn on_peer_host(&mut self, now: Instant, suits: bool) {
        self.advance(now);
        self.common.suits = suits;
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
            self.common.next_beat = now;
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
                if self.common.is_linked()
                    && !self.common.peer_owns(now)
                    && self.common.detector.is_heard_on_any(now) =>
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
        let Common { claims, actions, .. } = &mut self.common;
        if let Some(claims) = claims {
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
        let verdict = self.check_switchover();
        self.apply(
            now,
            if verdict.is_ok() { Outcome::HandOver(Cause::Switchover) } else { Outcome::Stay },
        );
        verdict
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
        let Common { last, next_beat, next_dial, timing, policy, detector, .. } = &self.common;
        if !policy.paired {
            return match self.state {
                State::Joining(_) => *last + timing.startup(),
                State::Standby(_) | State::Primary(_) | State::Yielding(_) => Instant::NEVER,
            };
        }
        let silence = detector.silence_on_both(*last);
        let patience = [timing.detection, timing.alone(), timing.startup()]
            .into_iter()
            .find(|patience| *patience > silence)
            .map_or(Instant::NEVER, |patience| *last + (patience - silence));
        let reaches_out = match &self.state {
            State::Primary(primary) => primary.is_duplex(),
            State::Joining(_) | State::Standby(_) | State::Yielding(_) => true,
        };
        let redial =
            if reaches_out && !self.common.is_linked() { *next_dial } else { Instant::NEVER };
        (*next_beat).min(patience).min(redial).max(*last)
    }

    /// The next thing to do; `None` when all is said.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.common.actions.pop_front()
    }

    /// The next beat that is due, to be sent on both paths; `None` if none is. Those for callers, whom
    /// nobody believes before they have answered, come before the one for the peer: what overtakes
    /// that would make its echo, which is the peer's lease, old news.
    pub fn poll_beat(&mut self, now: Instant) -> Option<Beat> {
        if !self.common.policy.paired || now < self.common.next_beat {
            return None;
        }
        let (role, epoch, synced) = self.as_beat();
        Some(match self.common.callers.poll() {
            Some(caller) => self.common.beat_to(now, role, epoch, synced, caller),
            None => self.common.make_beat(now, role, epoch, synced),
        })
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

    /// Why one would lose some. Who slept past its lease does not know before its standby's next echo:
    /// what it hears first was said before it slept. A LAN on which nothing is heard is not one on
    /// which clients are reached, carrier or not (row 2): somebody has to answer on it.
    #[must_use]
    pub fn lack(&self, now: Instant) -> Option<Lack> {
        let (State::Primary(primary), common) = (&self.state, &self.common) else {
            return Some(Lack::NotPrimary);
        };
        let detector = &common.detector;
        let silent_for = detector.silence(now, Path::Lan);
        match () {
            () if !common.policy.paired => Some(Lack::Unpaired),
            // Who stood still and has not looked since is about to find its lease over.
            () if now.since(common.last) > common.timing.pause() => Some(Lack::Paused),
            () if !detector.was_heard() => Some(Lack::NeverHeard),
            () if !detector.is_heard_on_any(now) => {
                Some(Lack::Silent { silent_for: detector.since_heard(now) })
            }
            () if !primary.is_duplex() => Some(Lack::NotSynced),
            () if primary.held != Held::Whole => Some(Lack::InDoubt),
            () if primary.is_unheard(common, now) => Some(Lack::Unheard),
            () if !common.fit => Some(Lack::Unfit),
            () => match self.check_switchover() {
                Err(refusal) => Some(Lack::Refused(refusal)),
                Ok(()) if !common.is_peer_fit() => Some(Lack::PeerUnfit),
                Ok(()) if !detector.is_heard(now, Path::Lan) => {
                    Some(Lack::LanSilent { silent_for })
                }
                Ok(()) if !common.peer.is_some_and(|peer| peer.hears_lan) => Some(Lack::LanUnheard),
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
        let Some(peer) = self.common.peer else { return Err(Refusal::NotDuplex) };
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
        self.common.peer.map(|peer| (peer.role, peer.epoch, peer.synced))
    }

    /// Whether the own LAN interface has carrier.
    #[must_use]
    pub const fn has_carrier(&self) -> bool {
        self.common.lan_ok
    }

    /// Whether anything of the peer's came within the detection time.
    #[must_use]
    pub fn is_peer_heard(&self, now: Instant) -> bool {
        self.common.detector.is_heard_on_any(now)
    }

    /// How long each path has been silent; status.
    #[must_use]
    pub fn silence(&self, now: Instant, path: Path) -> Duration {
        self.common.detector.silence(now, path)
    }

    /// What is known of the arbiter; `None` without one.
    #[must_use]
    pub fn arbiter(&self, now: Instant) -> Option<ArbiterStatus> {
        self.common.claims.as_ref().map(|claims| claims.status(now))
    }

    fn as_beat(&self) -> (BeatRole, Epoch, bool) {
        match &self.state {
            State::Joining(joining) => (joining.beat_role(), self.common.served, false),
            State::Standby(standby) => (standby.beat_role(), standby.epoch, standby.is_armed()),
            State::Primary(primary) => (primary.beat_role(), primary.epoch, primary.is_duplex()),
            State::Yielding(yielding) => (yielding.beat_role(), yielding.epoch, false),
        }
    }

    fn advance(&mut self, now: Instant) {
        match (self.common.advance(now), &mut self.state) {
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
            State::Standby(standby) if role.owns() => standby.on_link_up(&self.common, epoch),
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

    /// Carries out what the event meant, then whatever has become due. A role that has just been
    /// entered has its say too, hence the loop; it ends because roles only lead on, and is bounded
    /// all the same.
    fn apply(&mut self, now: Instant, outcome: Outcome) {
        // A wish may have to be repeated until it is granted: only what is due can be one.
        assert!(!outcome.owns(), "no event makes an owner by itself");
        self.transition(now, outcome);
        let mut wishes = false;
        for _ in 0..TRANSITIONS_PER_EVENT {
            let common = &mut self.common;
            let due = match &mut self.state {
                State::Joining(joining) => {
                    common.reach_out(now, Action::Dial);
                    joining.on_time(common, now)
                }
                State::Standby(standby) => standby.on_time(common, now),
                State::Primary(primary) => primary.on_time(common, now),
                State::Yielding(yielding) => yielding.on_time(common, now),
            };
            wishes = due.owns() && !self.permit(now);
            if due == Outcome::Stay || wishes {
                break;
            }
            self.transition(now, due);
        }
        self.attend_arbiter(now, wishes);
        while let Some(report) = self.common.detector.poll_report(now) {
            self.common.report(report);
        }
    }

    /// Whether this node may become owner, or go on alone, now. What is wished and not granted is
    /// wished again at the next event, if it still is.
    fn permit(&mut self, now: Instant) -> bool {
        let bound = match &self.state {
            State::Standby(standby) => standby.bound(),
            State::Joining(_) | State::Primary(_) | State::Yielding(_) => None,
        };
        self.common.permit(now, bound)
    }

    /// Asks the arbiter what is to be asked without, or besides, a wish.
    fn attend_arbiter(&mut self, now: Instant, wishes: bool) {
        let title = self.common.title(now, None);
        let Common { claims: Some(claims), actions, node, boot, .. } = &mut self.common else {
            return;
        };
        if !wishes {
            claims.give_up();
        }
        let alone = match &self.state {
            State::Primary(Primary { epoch, mode: Mode::Simplex, .. }) => {
                Some((Record { owner: *node, epoch: *epoch, boot: *boot }, title))
            }
            State::Primary(_) | State::Joining(_) | State::Standby(_) | State::Yielding(_) => {
                claims.drop_grant();
                None
            }
        };
        claims.attend(now, alone, actions);
    }

    /// The only place where a role begins.
    fn transition(&mut self, now: Instant, outcome: Outcome) {
        let from = self.role();
        let lasted = now.since(self.entered);
        let Some((state, cause, held)) = self.successor(now, outcome) else { return };
        self.state = state;
        self.entered = now;
        self.common.next_beat = now;
        let change = Change {
            from,
            to: self.role(),
            epoch: self.epoch(),
            cause,
            held,
            silent_for: self.common.detector.since_heard(now),
            lasted,
        };
        self.announce_change(now, outcome, change);
    }

    /// The state that `outcome` leads to, and why.
    fn successor(&mut self, now: Instant, outcome: Outcome) -> Option<(State, Cause, Held)> {
        match outcome {
            Outcome::Stay => None,
            Outcome::Own(cause, held) => {
                let (epoch, over) = self.common.claim();
                let held = over.map_or(held, |over| self.judge(held, over));
                if let State::Standby(standby) = &self.state {
                    let (boot, epoch) = standby.followed();
                    self.common.supersede(boot, epoch);
                }
                Some((State::Primary(Primary::alone(epoch, held, &self.common)), cause, held))
            }
            Outcome::GoSimplex(cause) => {
                let State::Primary(primary) = &self.state else { return None };
                let held = primary.held;
                let (epoch, over) = self.common.claim();
                let held = over.map_or(held, |over| self.judge(held, over));
                Some((State::Primary(Primary::alone(epoch, held, &self.common)), cause, held))
            }
            Outcome::GoDuplex => {
                let State::Primary(primary) = self.state else { return None };
                let duplex = primary.with_standby(now, &self.common);
                Some((State::Primary(duplex), Cause::StandbySynced, Held::Whole))
            }
            Outcome::HandOver(cause) => {
                if cause == Cause::HostUnfit {
                    self.common.left_unfit = Some(now);
                }
                let boot = self.common.peer.map_or(0, |peer| peer.boot);
                let yielding = Yielding::new(now, boot, self.epoch(), cause);
                Some((State::Yielding(yielding), cause, Held::Whole))
            }
            Outcome::Follow(cause) => {
                let Peer { boot, epoch, .. } = self.common.peer?;
                self.common.served = epoch;
                Some((State::Standby(Standby::following(boot, epoch)), cause, Held::Nothing))
            }
            Outcome::Join(cause) | Outcome::StandDown(cause) => {
                Some((State::Joining(Joining::from(now)), cause, Held::Nothing))
            }
        }
    }

    /// What a new owner holds, now that the arbiter has said over whose record it owns.
    ///
    /// A primary that finds a later one of its standby's may have been replaced, unless the standby
    /// has said since that it never used it, or died before it could. Where nobody owns without a
    /// record, one that is not later than what was held shows that nobody has owned since.
    fn judge(&self, held: Held, over: Over) -> Held {
        let (node, boot) = (self.common.node, self.common.boot);
        let strict =
            self.common.policy.arbiter.is_some_and(|arbiter| arbiter.lost == LostArbiter::Stop);
        let Some(record) = over.record else { return held };
        let ours = record.owner == node && record.boot == boot;
        let current = match &self.state {
            State::Joining(_) => false,
            State::Standby(standby) => {
                let (boot, epoch) = standby.followed();
                standby.is_armed() && (ours || (record.boot == boot && record.epoch <= epoch))
            }
            State::Primary(_) | State::Yielding(_) if record.owner == node => ours,
            State::Primary(_) | State::Yielding(_) => {
                let unused = matches!(&self.state, State::Primary(primary)
                    if primary.has_not_owned(record.boot))
                    || self.common.peer.is_some_and(|peer| {
                        peer.boot == record.boot
                            && peer.epoch <= self.epoch()
                            && peer.has_answered_since(over.since)
                    });
                if record.epoch > self.epoch() && !unused {
                    return Held::Doubtful;
                }
                unused
            }
        };
        if strict && current { Held::Whole } else { held }
    }

    /// Tells the engine. A link serves one relation: whoever changes it begins a new one.
    fn announce_change(&mut self, now: Instant, outcome: Outcome, change: Change) {
        let common = &mut self.common;
        let action = match outcome {
            Outcome::Stay => return,
            Outcome::Own(..) => Action::Own(change),
            Outcome::GoSimplex(_) => Action::GoSimplex(change),
            Outcome::GoDuplex => Action::GoDuplex(change),
            Outcome::HandOver(_) => {
                let epoch = change.epoch.next_for(common.node.peer());
                Action::HandOver { epoch, change }
            }
            Outcome::Follow(_) => Action::StandBy(change),
            Outcome::Join(_) | Outcome::StandDown(_) => Action::StandDown(change),
        };
        common.actions.push_back(action);
        match outcome {
            Outcome::Own(..) | Outcome::GoSimplex(_) | Outcome::StandDown(_) => {
                if common.is_linked() {
                    common.hang_up(now);
                } else {
                    // A dial of the role that ended may still be under way.
                    common.actions.push_back(Action::HangUp);
                }
            }
            // What it would still bring is the rest of a log whose beginning is forgotten.
            Outcome::Join(_) => common.hang_up(now),
            Outcome::Follow(_) => common.leave_dead_link(now),
            Outcome::Stay | Outcome::GoDuplex | Outcome::HandOver(_) => {}
        }
    }
}

/// A bound on what one event may set off: stand down, follow, and reserve.
const TRANSITIONS_PER_EVENT: usize = 4;
