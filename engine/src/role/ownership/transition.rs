//! The one place where a role begins: what is due, what of it is permitted, and what the engine is
//! told of it.

use super::super::peer::Peer;
use super::super::roles::Roles;
use super::super::types::{Action, Cause, Change, Held, Role};
use super::State;
use super::arbiter::{ArbiterRecord, LostArbiter};
use super::claims::Over;
use super::common::Common;
use super::joining::Joining;
use super::outcome::Outcome;
use super::primary::{Mode, Primary};
use super::standby::Standby;
use super::yielding::Yielding;
use crate::time::Instant;

impl Roles {
    /// Carries out what the event meant, then whatever has become due. A role that has just been
    /// entered has its say too, hence the loop; it ends because roles only lead on, and is bounded
    /// all the same.
    pub(in crate::role) fn apply(&mut self, now: Instant, outcome: Outcome) {
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
        while let Some(report) = self.common.pair.poll_report(now) {
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
        let Common { pair, group, actions, .. } = &mut self.common;
        let title = group.title(now, pair, None);
        let Some(claims) = &mut group.claims else { return };
        if !wishes {
            claims.give_up();
        }
        let alone = match &self.state {
            State::Primary(Primary { epoch, mode: Mode::Simplex, .. }) => Some((
                ArbiterRecord { owner: pair.node(), epoch: *epoch, boot: pair.boot() },
                title,
            )),
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
        self.check_title(outcome);
        let Some((state, cause, held)) = self.successor(now, outcome) else { return };
        self.state = state;
        let to = self.role();
        assert!(is_legal(from, to), "docs/ownership.md: no role leads from {from} to {to}");
        self.entered = now;
        self.common.pair.beat_at(now);
        let change = Change {
            from,
            to,
            epoch: self.epoch(),
            cause,
            held,
            silent_for: self.common.pair.detector().since_heard(now),
            lasted,
        };
        self.announce_change(now, outcome, change);
    }

    /// What must be so before a role begins, whatever called for it.
    fn check_title(&self, outcome: Outcome) {
        let linked = self.common.pair.is_linked();
        match (outcome, &self.state) {
            (Outcome::Own(Cause::PeerSilent | Cause::HandedOver, _), State::Standby(standby)) => {
                assert!(standby.is_armed(), "I3: by silence or a word only an armed standby owns");
            }
            (Outcome::GoDuplex, _) => assert!(linked, "I7: a standby that protects is linked"),
            (Outcome::HandOver(_), State::Primary(primary)) => {
                let whole = primary.keeps_link(&self.common);
                assert!(whole, "I1: the address is given to a standby that gets every record");
            }
            _ => {}
        }
    }

    /// The state that `outcome` leads to, and why.
    fn successor(&mut self, now: Instant, outcome: Outcome) -> Option<(State, Cause, Held)> {
        match outcome {
            Outcome::Stay => None,
            Outcome::Own(cause, held) => {
                let (epoch, over) = self.common.group.claim(self.common.pair.node());
                let held = over.map_or(held, |over| self.judge(held, over));
                if let State::Standby(standby) = &self.state {
                    let (boot, epoch) = standby.followed();
                    self.common.group.supersede(boot, epoch);
                }
                Some((State::Primary(Primary::alone(epoch, held, &self.common)), cause, held))
            }
            Outcome::GoSimplex(cause) => {
                let State::Primary(primary) = &self.state else { return None };
                let held = primary.held;
                let (epoch, over) = self.common.group.claim(self.common.pair.node());
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
                    self.common.group.note_left_unfit(now);
                }
                let boot = self.common.peer().map_or(0, |peer| peer.boot);
                let yielding = Yielding::new(now, boot, self.epoch(), cause);
                Some((State::Yielding(yielding), cause, Held::Whole))
            }
            Outcome::Follow(cause) => {
                let Peer { boot, epoch, .. } = self.common.peer()?;
                self.common.group.note_served(epoch);
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
        let (node, boot) = (self.common.pair.node(), self.common.pair.boot());
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
                    || self.common.peer().is_some_and(|peer| {
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

    /// Tells the engine. A link serves one relation: a change of it begins a new one.
    fn announce_change(&mut self, now: Instant, outcome: Outcome, change: Change) {
        let common = &mut self.common;
        let action = match outcome {
            Outcome::Stay => return,
            Outcome::Own(..) => Action::Own(change),
            Outcome::GoSimplex(_) => Action::GoSimplex(change),
            Outcome::GoDuplex => Action::GoDuplex(change),
            Outcome::HandOver(_) => {
                let epoch = change.epoch.next_for(common.pair.node().peer());
                Action::HandOver { epoch, change }
            }
            Outcome::Follow(_) => Action::StandBy(change),
            Outcome::Join(_) | Outcome::StandDown(_) => Action::StandDown(change),
        };
        common.actions.push_back(action);
        match outcome {
            Outcome::Own(..) | Outcome::GoSimplex(_) | Outcome::StandDown(_) => {
                if common.pair.is_linked() {
                    common.hang_up(now);
                } else {
                    // A dial of the role that ended may still be under way.
                    common.actions.push_back(Action::HangUp);
                }
            }
            // What it would still bring is the rest of a log whose beginning is forgotten.
            Outcome::Join(_) => common.hang_up(now),
            Outcome::Follow(_) => common.pair.leave_dead_link(now, &mut common.actions),
            Outcome::Stay | Outcome::GoDuplex | Outcome::HandOver(_) => {}
        }
    }
}

/// Every way from one role to another. A standby that follows anew is one of them, and an owner never
/// begins to follow before it has stood down.
const fn is_legal(from: Role, to: Role) -> bool {
    use Role::{Joining, Primary, Silent, Standby};
    match (from, to) {
        (Joining, Standby { synced: false } | Primary { duplex: false }) => true,
        (Standby { .. }, Joining | Standby { synced: false } | Primary { duplex: false }) => true,
        (Primary { duplex: false }, Joining | Primary { duplex: true }) => true,
        (Primary { duplex: true }, Joining | Silent | Primary { duplex: false }) => true,
        (Silent, Joining | Primary { duplex: false }) => true,
        (Joining | Standby { .. } | Primary { .. } | Silent, _) => false,
    }
}

/// A bound on what one event may set off: stand down, follow, and reserve.
const TRANSITIONS_PER_EVENT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_lead_to_these_and_to_no_others() {
        let all = [
            Role::Joining,
            Role::Standby { synced: false },
            Role::Standby { synced: true },
            Role::Primary { duplex: false },
            Role::Primary { duplex: true },
            Role::Silent,
        ];
        let table = all.map(|from| {
            let to = all.iter().filter(|to| is_legal(from, **to)).map(Role::to_string);
            format!("{from} -> {}", to.collect::<Vec<_>>().join(", "))
        });
        let follows = "joining, standby (unsynchronised), primary (simplex)";
        assert_eq!(
            table,
            [
                "joining -> standby (unsynchronised), primary (simplex)",
                &format!("standby (unsynchronised) -> {follows}"),
                &format!("standby -> {follows}"),
                "primary (simplex) -> joining, primary (duplex)",
                "primary (duplex) -> joining, primary (simplex), silent",
                "silent -> joining, primary (simplex)",
            ]
        );
    }
}
