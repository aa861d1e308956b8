//! Why a connection stands still.
//!
//! A wait begins with the last progress: something new said, acknowledged or allowed. What happens
//! until the next, and how both sides stood right before it, names the cause.

use super::event::Cause;
use crate::replay::Side;

/// So many timeouts in a row that nobody answered are more than bad luck.
const SILENT_TIMEOUTS: u32 = 3;

/// Where the two sides of a pair stand in an array.
pub(super) const fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

/// What brought a connection forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Said,
    Acknowledged,
    Allowed,
}

/// How things stood before a segment came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) established: bool,
    /// The other side's window holds this side back.
    pub(super) held: [bool; 2],
    /// Something of this side is not acknowledged.
    pub(super) owed: [bool; 2],
}

/// What has happened since the last progress.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wait {
    pub(super) since: u64,
    pub(super) timeouts: [u32; 2],
    pub(super) repairs: [u32; 2],
    /// Questions whether the other side's window is still shut.
    pub(super) probes: [u32; 2],
    pub(super) syns: u32,
    pub(super) takeover: bool,
    /// This side said something that was no progress; the server, since a takeover.
    pub(super) heard: [bool; 2],
}

impl Wait {
    /// Why nothing went on until `by` made this step.
    pub(super) fn cause(self, before: Standing, by: Side, step: Step) -> Cause {
        let Self { repairs, syns, takeover, .. } = self;
        if takeover && !self.slept_through_takeover(before, by) {
            Cause::Takeover
        } else if !before.established {
            if syns > 0 { Cause::LostSyn } else { Cause::SlowHandshake }
        } else if before.held[1] && (step == Step::Allowed || by == Side::Server) {
            Cause::FullWindow(Side::Client)
        } else if before.held[0] && (step == Step::Allowed || by == Side::Client) {
            Cause::FullWindow(Side::Server)
        } else if let Some(cause) = self.timed_out() {
            cause
        } else if repairs[1] > 0 {
            Cause::Repair(Side::Server)
        } else if repairs[0] > 0 {
            Cause::Repair(Side::Client)
        } else if before.owed[index(by.other())] && step != Step::Allowed {
            Cause::SlowAnswer(by)
        } else {
            Cause::Application(by)
        }
    }

    /// The address moved while nobody owed anything, and the wait would have been as long without:
    /// the client spoke next, or the server, whose new host had shown itself long before.
    fn slept_through_takeover(self, before: Standing, by: Side) -> bool {
        let quiet = self.syns == 0 && self.timeouts == [0; 2] && self.repairs == [0; 2];
        quiet && before.owed == [false; 2] && (by == Side::Client || self.heard[1])
    }

    /// What timeouts mean, if there were any.
    fn timed_out(self) -> Option<Cause> {
        let side =
            [Side::Server, Side::Client].into_iter().find(|s| self.timeouts[index(*s)] > 0)?;
        let silent =
            self.timeouts[index(side)] >= SILENT_TIMEOUTS && !self.heard[index(side.other())];
        Some(if silent { Cause::Silent(side.other()) } else { Cause::Timeout(side) })
    }
}
