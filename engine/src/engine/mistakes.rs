//! Where the mistakes of [`crate::defects`] that need more than a line are made.

use std::sync::Arc;

use super::Engine;
use super::setup::Setup;
use crate::defects::Defect;
use crate::role::{Ask, Beat, Echo, Inquiry, Reply};
use crate::tcp::{Hard, Horizon, Settings, Tcb};
use crate::time::Instant;

/// What a timestamp goes back by, milliseconds.
const STEP_BACK: u32 = 60_000;

/// What a connection may reveal, as an engine sees it that does not wait for its standby.
pub(super) fn mistaken_horizon(setup: &Setup, mut horizon: Horizon) -> Horizon {
    if setup.has(Defect::AckBeforeCommit) {
        horizon.received = u64::MAX;
    }
    if setup.has(Defect::OutputBeforeCommit) {
        horizon.output = u64::MAX;
    }
    horizon
}

/// Where output ended before a record, as an engine sees it that looks when it has been made.
pub(super) fn mistaken_before(setup: &Setup, before: u64, now: u64) -> u64 {
    if setup.has(Defect::EffectBeforeCause) { now } else { before }
}

/// How many applications are called in one turn, by an engine that does not look how long that takes.
pub(super) fn mistaken_share(setup: &Setup, share: usize) -> usize {
    if setup.has(Defect::AnswerAtOnce) { usize::MAX } else { share }
}

/// What a connection is carried on with.
pub(super) fn err_in_state(setup: &Setup, hard: &mut Hard) {
    if setup.has(Defect::TimestampRegression) {
        hard.ts_offset = hard.ts_offset.wrapping_sub(STEP_BACK);
    }
    if setup.has(Defect::WindowShrink) {
        hard.received_edge = 0;
    }
}

/// What the numbers of a held splice are shifted by.
pub(super) fn mistaken_delta(setup: &Setup, seq: u32) -> u32 {
    seq.wrapping_add(u32::from(setup.has(Defect::WrongDeltaAfterTakeover)))
}

/// How it is carried on.
pub(super) fn mistaken_settings(setup: &Setup, settings: &Arc<Settings>) -> Arc<Settings> {
    let mut settings = Arc::clone(settings);
    if setup.has(Defect::WindowShrink) {
        let settings = Arc::make_mut(&mut settings);
        settings.receive_buffer = (settings.receive_buffer / 8).max(4096);
    }
    settings
}

/// What it does first.
pub(super) fn err_in_waking(setup: &Setup, now: Instant, tcb: &mut Tcb) {
    if setup.has(Defect::ResetAtTakeover) {
        tcb.abort(now);
    }
}

impl Engine {
    /// Before the state is armed.
    pub(super) fn err_before_takeover(&mut self, now: Instant) {
        if self.setup.has(Defect::ForgetAtTakeover) {
            self.forget_connections(now);
        }
        if self.setup.has(Defect::AnnounceBeforeRoutes) {
            if let Some(owner) = self.duty.owner_mut() {
                (owner.speaks, owner.announced) = (true, false);
            }
            self.queue_frames_and_beats(now);
        }
    }

    /// A question that would have to be answered by the arbiter.
    pub(super) fn answers_itself(&mut self, now: Instant, ask: Ask) -> bool {
        let Inquiry::Swap { record, .. } = ask.what else { return false };
        let unasked = self.setup.has(Defect::TakeOverUnasked);
        if unasked {
            let reply = Reply { record: Some(record), revision: ask.number, written: true };
            self.roles.on_arbiter(now, ask.number, Some(reply));
        }
        unasked
    }

    /// A beat that would have to answer one of ours.
    pub(super) fn taken_as_answer(&self, now: Instant, beat: Beat) -> Beat {
        let believes = self.setup.has(Defect::BelieveUnanswered);
        let echo = Echo { boot: self.setup.boot, sent: now.as_nanos() };
        if believes && beat.echo.boot != echo.boot { Beat { echo, ..beat } } else { beat }
    }

    /// When everything is in place.
    pub(super) fn err_in_takeover(&mut self) {
        if self.setup.has(Defect::SpeakBeforeAnnounce) {
            self.duty.owner_mut().into_iter().for_each(|owner| owner.announced = true);
        }
    }
}
