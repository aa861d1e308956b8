//! Connections in TIME-WAIT: they count for nothing when somebody new comes.
//!
//! They are kept so that a last FIN is acknowledged again, and for the sake of segments that may
//! still be under way; of both a new client has more. So when the table is full the one that has
//! waited for longest gives way, and a SYN is refused only where all others are in use. Whoever
//! follows keeps the list, too: a takeover finds it in order.

use std::collections::VecDeque;

use super::Engine;
use super::connection::Body;
use crate::ids::ConnId;
use crate::tcp::CloseCause;

/// Of those that may not go yet so many are passed over.
const TRIES: usize = 16;

/// Connections in TIME-WAIT, the oldest first; and some that have ended.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    list: VecDeque<ConnId>,
}

impl Lingering {
    /// How many are listed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Who is listed.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ConnId> {
        self.list.iter()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }
}

impl Engine {
    /// `id` may have come to TIME-WAIT. Each is listed once.
    pub(super) fn note_lingering(&mut self, id: ConnId) {
        let table = &mut self.table;
        let Some(connection) = table.get_mut(id) else { return };
        let waits = match &connection.body {
            Body::Live(tcb) => tcb.waits(),
            Body::Held(hard) => hard.fin_acked && hard.peer_fin,
            Body::Parked(_) => false,
        };
        if !waits || connection.lingers {
            return;
        }
        connection.lingers = true;
        self.forget_ended();
        let Self { table, lingering: Lingering { list }, .. } = self;
        if list.len() > 2 * table.len() + 64 {
            list.retain(|id| table.has(*id));
        }
        list.push_back(id);
    }

    /// Nearly all end in the order in which they began to wait.
    fn forget_ended(&mut self) {
        let Self { table, lingering: Lingering { list }, .. } = self;
        while list.front().is_some_and(|id| !table.has(*id)) {
            list.pop_front();
        }
    }

    /// Whether there is room for one more connection, or somebody who may give way.
    pub(super) fn has_room(&mut self) -> bool {
        if !self.table.is_full() {
            return true;
        }
        self.forget_ended();
        !self.lingering.list.is_empty()
    }

    /// The name of a connection that is about to begin; if need be the oldest in TIME-WAIT gives way.
    pub(super) fn make_room(&mut self) -> Option<ConnId> {
        if self.table.is_full() {
            self.end_oldest_lingering();
        }
        self.table.vacant()
    }

    fn end_oldest_lingering(&mut self) {
        let mut tries = TRIES;
        while tries > 0
            && let Some(id) = self.lingering.list.pop_front()
        {
            let Some(connection) = self.table.get_mut(id) else { continue };
            // Not before its peer's FIN is acknowledged, nor while it is to be once more.
            if connection.tcb_mut().is_some_and(|tcb| tcb.may_give_way()) {
                return self.end(id, CloseCause::Done);
            }
            self.lingering.list.push_back(id);
            tries -= 1;
        }
    }
}
