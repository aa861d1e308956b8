//! What a change of role means, step by step, in the order of I5: state first, address second.

use super::Engine;
use super::connection::{Alarm, Body};
use super::questions::Question;
use super::replicate::SnapshotEnd;
use super::setup::{Action, ExitReason, Level};
use crate::ids::Epoch;
use crate::replica::{Follower, Frame};
use crate::role::{self, Change, Held};
use crate::tcp::{self, wheel::Wheel};
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
                self.report(Level::Info, change.to_string());
                self.stand_by(now);
            }
            Do::StandDown(change) => {
                // The end of a hand-over is as it should be.
                let planned = change.from == role::Role::Silent;
                let level = if planned { Level::Info } else { Level::Warn };
                self.report(level, change.to_string());
                self.stand_by(now);
            }
            Do::GoSimplex(change) => {
                self.report(Level::Warn, format!("unprotected: {change}"));
                self.drop_doubtful(now, &change);
                self.detach_standby(now);
            }
            Do::GoDuplex(change) => {
                self.report(
                    Level::Info,
                    format!(
                        "{change}; {} connections protected",
                        self.table.len() + self.relays.len()
                    ),
                );
            }
            Do::HandOver { epoch, change } => self.hand_over(now, epoch, &change),
            // Told with its reason, and not at every attempt.
            Do::Report(role::Report::Incompatible) => {}
            Do::Report(role::Report::Synchronised) => {
                let count = self.table.len() + self.relays.len();
                let line = format!("{}; {count} connections held", role::Report::Synchronised);
                self.report(Level::Info, line);
            }
            Do::Report(line) => {
                let level = if line.is_good_news() { Level::Info } else { Level::Warn };
                self.report(level, line.to_string());
            }
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
        self.drop_doubtful(now, change);
        let connections = self.table.len() + self.relays.len();
        #[cfg(feature = "defects")]
        self.err_before_takeover(now);
        self.arm_state(now);
        self.actions.push_back(Action::InstallRoutes);
        self.owner = true;
        self.announced = false;
        if change.from == role::Role::Silent {
            self.take_back(now);
        }
        self.begin_waking(now);
        #[cfg(feature = "defects")]
        self.err_in_takeover();
        self.cookies.note_sent(now);
        if connections > 0 {
            self.stats.takeovers += 1;
            self.stats.carried += connections as u64;
        }
        self.report(Level::Info, format!("{change}; {connections} connections carried on"));
    }

    /// The address was handed over and comes back: its connections never slept, and what they waited
    /// for went with the role. Rare enough to be done for all of them in one turn.
    pub(super) fn take_back(&mut self, now: Instant) {
        for slot in 0..self.table.slots() {
            let Some(id) = self.table.tenant(slot) else { continue };
            let Some(connection) = self.table.get_mut(id) else { continue };
            connection.queued = false;
            connection.alarm = Alarm::default();
            if let Some(tcb) = connection.tcb_mut() {
                tcb.nudge(now);
                self.touch(now, id);
            }
        }
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
        let Self { table, questions, setup, clock, .. } = self;
        for connection in table.iter_mut() {
            let last = match &mut connection.body {
                Body::Held(hard) => tcp::farewell(&setup.tcp, hard, clock.at(now)),
                Body::Live(tcb) => tcp::farewell(&setup.tcp, &tcb.hard(), now),
                Body::Parked(parked) => tcp::farewell(&setup.tcp, &parked.unpark().hard(), now),
            };
            let tcp::Transmit { seq, ack, window, options, .. } = last;
            let (tuple, timestamps) = (connection.tuple, options.timestamps);
            questions.ask(Question { tuple, seq, ack, window, timestamps, blind: false });
        }
        self.ask_splices(now);
        self.forget_connections(now);
    }

    /// From following to leading. What is held is all the state there is, and it is complete; each
    /// connection wakes when it is needed (`engine::wake`).
    pub(super) fn arm_state(&mut self, now: Instant) {
        self.follower = None;
        self.unprotected = 0;
        if self.table.len() + self.relays.len() > 0 {
            self.clock.step_ahead();
        }
        self.table.rebuild_free();
        self.attached = false;
        self.reset_log();
        self.unconfirmed.clear();
        self.relays.arm(now);
        self.table.begin_session();
        self.ready.clear();
        self.quiet.clear();
        self.wheel = Wheel::new(now);
        self.progress.clear();
    }

    /// The planned way: silent first, then everything the log still lacks, then the baton.
    fn hand_over(&mut self, now: Instant, epoch: Epoch, change: &Change) {
        self.owner = false;
        self.neighbour.silence();
        self.actions.push_back(Action::RemoveRoutes);
        self.outbox.clear();
        self.flush_progress(now, true);
        self.flush_log(now);
        let lsn = self.log.appended();
        Frame::Handover { epoch, lsn }.encode(&mut self.link.output);
        self.report(Level::Info, change.to_string());
    }

    /// Joins as standby: silent, without an address, without state.
    fn stand_by(&mut self, now: Instant) {
        if self.owner {
            self.owner = false;
            self.neighbour.silence();
        }
        self.actions.push_back(Action::RemoveRoutes);
        self.forget_connections(now);
        self.outbox.clear();
        self.questions.clear();
        self.attached = false;
        self.snapshot_end = SnapshotEnd::None;
        self.reset_log();
        self.follower = Some(Follower::new(self.roles.epoch()));
    }

    /// Drops every connection without a word to anybody.
    pub(super) fn forget_connections(&mut self, now: Instant) {
        for connection in self.table.iter_mut() {
            connection.app.close(self.store.as_mut());
        }
        self.table.clear();
        self.relays.forget();
        self.unconfirmed.clear();
        self.ready.clear();
        self.quiet.clear();
        self.wheel = Wheel::new(now);
        self.progress.clear();
        self.waiting.clear();
        self.lingering.clear();
        self.end_waking();
        self.half_open = 0;
        self.unprotected = 0;
    }

    pub(super) fn report(&mut self, level: Level, line: String) {
        self.actions.push_back(Action::Report(level, line));
    }
}
