//! Who counts for nothing when somebody new comes: connections in TIME-WAIT, and those that are closed at
//! our end and whose client has not been heard for long.
//!
//! The first are kept so that a last FIN is acknowledged again, and for the sake of segments that may
//! still be under way; the second as long as their client may still say something. Of both a new client
//! has more. So when the table is full somebody gives way, and a SYN is refused only where all others
//! are in use:
//!
//! ```text
//!   our FIN is sent ─► deserted? ─┬─ nothing heard for QUIET ─► gives way, if nobody waits
//!                                 └─ both FINs, acknowledged ─► waiting ─► gives way, the oldest first
//! ```
//!
//! Whoever follows keeps the lists, too: a takeover finds them in order.

use super::Engine;
use super::connection::{Body, Connection, Mark};
use crate::ids::ConnId;
use crate::slots::Roll;
use crate::tcp::{CloseCause, Tcb};
use crate::time::{Duration, Instant};

/// Of those that may not go yet so many are passed over.
const TRIES: usize = 16;

/// Of those that have ended so many are forgotten at a time.
const ENDED: usize = 64;

/// A client that has said nothing for so long, and to whom we have said all, may have gone. Longer than
/// what a path that fails and is mended takes.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// Connections that may give way, in the order in which they were found; and some that have ended.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    /// In TIME-WAIT.
    waiting: Roll<ConnId>,
    /// Closed at our end; and some that are in TIME-WAIT by now.
    deserted: Roll<ConnId>,
}

/// Which list a connection belongs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Deserted,
}

impl Lingering {
    /// How many are listed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.deserted.len()
    }

    /// Who is listed as in TIME-WAIT.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &ConnId> {
        self.waiting.iter()
    }

    /// Who is listed as closed at our end.
    pub(super) fn deserted(&self) -> impl Iterator<Item = &ConnId> {
        self.deserted.iter()
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.waiting.pop_piece() || self.deserted.pop_piece()
    }
}

impl Stage {
    fn of(connection: &Connection) -> Option<Self> {
        let (ours, theirs) = match &connection.body {
            Body::Live(tcb) if tcb.waits() => (true, true),
            Body::Live(tcb) => (tcb.fin_sent(), false),
            Body::Held(hard) => (hard.fin_acked, hard.peer_fin),
            Body::Parked(_) => return None,
        };
        match (ours, theirs) {
            (true, true) => Some(Self::Waiting),
            (true, false) => Some(Self::Deserted),
            (false, _) => None,
        }
    }
}

impl Engine {
    /// `id` may have come to where it may give way. Each is listed once for each reason.
    pub(super) fn note_lingering(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Some(stage) = Stage::of(connection) else { return };
        let mark = match stage {
            Stage::Waiting => Mark::Waits,
            Stage::Deserted => Mark::Deserted,
        };
        if !connection.marks.set(mark, true) {
            return;
        }
        self.forget_ended();
        self.list(stage, id);
        self.note_source(id);
    }

    fn list(&mut self, stage: Stage, id: ConnId) {
        let Self { table, lingering: Lingering { waiting, deserted }, .. } = self;
        let list = if stage == Stage::Waiting { waiting } else { deserted };
        list.push(id, table.len(), |id| table.has(*id));
    }

    /// Nearly all end in the order in which they began to wait. More are forgotten than come.
    fn forget_ended(&mut self) {
        let Self { table, lingering: Lingering { waiting, deserted }, .. } = self;
        for list in [waiting, deserted] {
            for _ in 0..ENDED {
                match list.front() {
                    Some(id) if !table.has(*id) => _ = list.pop_front(),
                    Some(_) | None => break,
                }
            }
        }
    }

    /// Whether there is room for one more connection, or somebody who may give way. Where very many have
    /// ended out of turn, one of those may stand for somebody.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        if !self.table.is_full() {
            return true;
        }
        self.forget_ended();
        !self.lingering.waiting.is_empty() || self.find_deserted(now)
    }

    /// The name of a connection that is about to begin; if need be somebody gives way: the oldest in
    /// TIME-WAIT, or else the first of those whose client may have gone.
    pub(super) fn make_room(&mut self, now: Instant) -> Option<ConnId> {
        if self.table.is_full() && !self.end_oldest_waiting(now) && self.find_deserted(now) {
            let first = self.lingering.deserted.pop_front();
            first.into_iter().for_each(|id| self.end(now, id, CloseCause::TimedOut));
        }
        self.table.vacant()
    }

    /// Whether there was one.
    fn end_oldest_waiting(&mut self, now: Instant) -> bool {
        let mut tries = TRIES;
        while tries > 0
            && let Some(id) = self.lingering.waiting.pop_front()
        {
            let Some(connection) = self.table.get_mut(id) else { continue };
            // Not before its peer's FIN is acknowledged, nor while it is to be once more.
            if connection.tcb_mut().is_some_and(|tcb| tcb.may_give_way()) {
                self.end(now, id, CloseCause::Done);
                return true;
            }
            self.list(Stage::Waiting, id);
            tries -= 1;
        }
        false
    }

    /// Brings one that may give way to the front of the deserted. Whether there is one.
    fn find_deserted(&mut self, now: Instant) -> bool {
        for _ in 0..TRIES {
            let Some(&id) = self.lingering.deserted.front() else { return false };
            let connection = self.table.get_mut(id);
            let is_one = |tcb: &mut Tcb| tcb.fin_sent() && !tcb.hears(now, QUIET);
            let Some(connection) = connection else {
                self.lingering.deserted.pop_front();
                continue;
            };
            if connection.tcb_mut().is_some_and(is_one) {
                return true;
            }
            self.lingering.deserted.pop_front();
            if connection.marks.has(Mark::Waits) {
                connection.marks.set(Mark::Deserted, false);
            } else {
                self.list(Stage::Deserted, id);
            }
        }
        false
    }
}
