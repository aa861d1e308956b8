//! What a change of role means, step by step, in the order of I5: state first, address second.

use super::Engine;
use super::graveyard::Remains;
use super::notice::Notice;
use super::owner::{Duty, Following, Owner};
use super::setup::{Action, ExitReason};
use super::wake::Recent;
use crate::ids::Epoch;
use crate::replica::{Follower, Frame};
use crate::role::{self, Change, Held};
use crate::time::Instant;

impl Engine {
    /// Carries out what the role machine decided.
    pub(super) fn follow_roles(&mut self, now: Instant) {
        while let Some(action) = self.roles.poll_action() {
            self.carry_out(now, action);
        }
    }

    fn carry_out(&mut self, now: Instant, action: role::Action) {
        use role::Action as Do;
        match action {
            Do::Probe => self.neighbour.probe(now),
            Do::Dial => self.actions.push_back(Action::Dial),
            Do::Knock => self.actions.push_back(Action::Knock),
            Do::HangUp => self.hang_up(now),
            #[cfg(feature = "defects")]
            Do::Ask(ask) if self.answers_itself(now, ask) => {}
            Do::Ask(ask) => self.actions.push_back(Action::Ask(ask)),
            Do::Announce => self.neighbour.announce(now),
            Do::Own(change) => self.take_over(now, &change),
            Do::StandBy(change) => {
                self.report(Notice::Follows(change));
                self.stand_by(now);
            }
            Do::StandDown(change) => {
                self.report(Notice::StoodDown(change));
                self.stand_by(now);
            }
            Do::GoSimplex(change) => {
                self.report(Notice::Alone(change));
                self.drop_doubtful(now, &change);
                self.detach_standby(now);
            }
            Do::GoDuplex(change) => {
                let connections = self.table.len() + self.relays.len();
                self.report(Notice::Protected { change, connections });
            }
            Do::HandOver { epoch, change } => self.hand_over(now, epoch, &change),
            // Told with its reason, and not at every attempt.
            Do::Report(role::Report::Incompatible) => {}
            Do::Report(role::Report::Synchronised) => {
                let connections = self.table.len() + self.relays.len();
                self.report(Notice::Synchronised { connections });
            }
            Do::Report(report) => self.report(Notice::Role(report)),
            Do::Exit(role::Exit::AddressInUse) => {
                self.actions.push_back(Action::Exit(self.in_use()))
            }
        }
    }

    /// Why the address cannot be ours, as far as the probe told.
    fn in_use(&self) -> ExitReason {
        ExitReason::AddressInUse { holder: self.holder }
    }

    /// Becomes the owner. The old one is fenced by now: the role machine saw to that.
    fn take_over(&mut self, now: Instant, change: &Change) {
        self.begin_to_own(now);
        self.drop_doubtful(now, change);
        let connections = self.table.len() + self.relays.len();
        #[cfg(feature = "defects")]
        self.err_before_takeover(now);
        self.own(now, change.from == role::Role::Silent);
        #[cfg(feature = "defects")]
        self.err_in_takeover();
        self.cookies.note_sent(now);
        // The standby that some have waited for is gone.
        self.commit_splices(now);
        if connections > 0 {
            self.stats.takeovers += 1;
            self.stats.carried += connections as u64;
        }
        self.report(Notice::Owns { change: *change, carried: connections });
    }

    /// I6: what may have gone on elsewhere cannot be continued. Its ends are asked where they are,
    /// and reset for their answer: who only listens would wait for ever ([`super::questions`]).
    fn drop_doubtful(&mut self, now: Instant, change: &Change) {
        if change.held == Held::Doubtful {
            self.drop_all(now);
        }
    }

    /// Resets every connection, of which nobody knows where its end is.
    pub(super) fn drop_all(&mut self, now: Instant) {
        self.stats.not_continued += (self.table.len() + self.relays.len()) as u64;
        self.drop_connections(now, true);
    }

    /// Has what an owner has. One that gets the address back has it still, but for its standby.
    pub(super) fn begin_to_own(&mut self, now: Instant) {
        self.part_from_standby();
        let recent = match &mut self.duty {
            Duty::Owner(_) => return,
            Duty::Follower(following) => following.recent.take(),
            Duty::Idle => Default::default(),
        };
        let owner = Owner::new(now, self.setup.table_key, recent);
        self.duty = Duty::Owner(Box::new(owner));
    }

    /// Answers for the address from here on. `comes_back`: it was about to be handed over.
    pub(super) fn own(&mut self, now: Instant, comes_back: bool) {
        self.arm_state(now);
        self.actions.push_back(Action::InstallRoutes);
        if let Some(owner) = self.duty.owner_mut() {
            (owner.speaks, owner.announced) = (true, false);
        }
        self.begin_waking(now, comes_back);
    }

    /// From following to leading. What is held is all the state there is, and it is complete; each
    /// connection wakes when it is needed (`engine::wake`).
    fn arm_state(&mut self, now: Instant) {
        if self.table.len() + self.relays.len() > 0 {
            self.clock.step_ahead();
        }
        let remains = Box::new(self.relays.arm(now));
        self.graveyard.take(Remains::Splices { remains, asked: false });
        self.bury(now);
    }

    /// The planned way: silent first, then everything the log still lacks, then the baton.
    fn hand_over(&mut self, now: Instant, epoch: Epoch, change: &Change) {
        self.fall_silent();
        self.actions.push_back(Action::RemoveRoutes);
        self.flush_progress(now, true);
        self.flush_log(now);
        let (lsn, _) = self.log_positions();
        Frame::Handover { epoch, lsn }.encode(&mut self.link.output);
        self.report(Notice::HandsOver(*change));
    }

    /// Joins as standby: silent, without an address, without state.
    fn stand_by(&mut self, now: Instant) {
        self.fall_silent();
        self.actions.push_back(Action::RemoveRoutes);
        self.part_from_standby();
        self.forget_connections(now);
        self.graveyard.silence();
        let follower = Some(Follower::new(self.roles.epoch()));
        let following = Box::new(Following { follower, recent: Recent::default() });
        match core::mem::replace(&mut self.duty, Duty::Follower(following)) {
            Duty::Owner(owner) => self.graveyard.take(Remains::Owner(owner)),
            Duty::Follower(_) | Duty::Idle => {}
        }
    }

    /// An owner says no more, of connections and of itself.
    fn fall_silent(&mut self) {
        let Some(owner) = self.duty.owner_mut() else { return };
        owner.outbox.clear();
        if core::mem::replace(&mut owner.speaks, false) {
            self.neighbour.silence();
        }
    }

    /// Drops every connection without a word to anybody.
    pub(super) fn forget_connections(&mut self, now: Instant) {
        self.drop_connections(now, false);
    }

    /// Drops every connection, and all that was kept of them. `asked`: their ends are asked where they
    /// are. Nothing of it is there any more when this returns, whatever the number of them; a share of
    /// what remains is buried each turn.
    fn drop_connections(&mut self, now: Instant, asked: bool) {
        let (slots, remnant) = self.table.take();
        for remains in [
            Remains::Connections { slots, asked },
            Remains::Splices { remains: Box::new(self.relays.forget()), asked },
            Remains::Table(remnant),
            Remains::Sessions(self.sessions.take()),
            Remains::Sources(Box::new(self.sources.take_all())),
            Remains::Lingering(core::mem::take(&mut self.lingering)),
        ] {
            self.graveyard.take(remains);
        }
        match &mut self.duty {
            Duty::Idle => {}
            Duty::Owner(owner) => owner.forget_connections(now, &mut self.graveyard),
            Duty::Follower(following) => {
                for names in following.recent.take() {
                    self.graveyard.take(Remains::Names(names));
                }
            }
        }
        self.again.clear();
        self.store.forget_all();
        self.memory.clear();
        self.reserve.clear();
        self.half_open = 0;
        self.unprotected = 0;
        self.bury(now);
    }
}
