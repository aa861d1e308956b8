//! Applications that are to be called again without a packet of their own: those for which the content
//! store has an answer, those whose last call left something to do, and those whose client's time is up.
//!
//! A share of them is called each turn, so that neither a disk that answers thousands nor a client that
//! asks for thousands keeps the loop from its heartbeats. And while the standby has much to take in
//! they wait: whoever asks for little would wait behind all that they are told. Whom an answer concerns
//! the [`Shelf`] knows.
//!
//! [`Shelf`]: super::shelf::Shelf

use super::Engine;
use super::connection::{Body, is_open};
use super::follow::following;
use super::settle::Before;
use crate::ids::ConnId;
use crate::service::{Awaited, Env};
use crate::tcp::Verdict;
use crate::time::Instant;

/// Applications called in one turn: each answers a bounded number of requests. All together take a part
/// of the time in which a turn reads. Where they took all of it one packet was read a turn, and the
/// device's queue overflowed: packets of those who ask for little were lost.
const SHARE: usize = 8;
/// Bytes of the log that may be unconfirmed when one is called: a millisecond or two of a standby's work.
const BACKLOG: u64 = 256 * 1024;

impl Engine {
    /// The content store has news for some connection that waits for it.
    pub fn on_content(&mut self, now: Instant) {
        self.store.note_news();
        self.advance_again(now);
    }

    /// Calls the application of `id` in one of the next turns.
    pub(super) fn call_again(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !connection.again {
            connection.again = true;
            self.again.push_back(id);
        }
    }

    /// Whether somebody is to be called now.
    pub(super) fn again_due(&self) -> bool {
        (!self.again.is_empty() || self.store.has_news()) && self.may_call()
    }

    fn may_call(&self) -> bool {
        self.backlog_bytes() <= BACKLOG
    }

    /// Calls a share of those that are to be called.
    pub(super) fn advance_again(&mut self, now: Instant) {
        let mut told = 0;
        while told < SHARE
            && self.may_call()
            && let Some(id) = self.store.tell()
        {
            self.call_again(id);
            told += 1;
        }
        let share = SHARE.min(self.again.len());
        #[cfg(feature = "defects")]
        let share = super::mistakes::mistaken_share(&self.setup, share);
        for _ in 0..share {
            if !self.may_call() {
                break;
            }
            let Some(id) = self.again.pop_front() else { break };
            self.go_on(now, id);
        }
        if told > 0 {
            // What they asked may be answered already.
            self.store.note_news();
        }
    }

    fn go_on(&mut self, now: Instant, id: ConnId) {
        if self.owns() {
            self.wake(now, id);
            self.tick(now, id);
        }
        let edition = self.edition();
        let Self { table, store, pins, wall, work, setup, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        *work += 1;
        connection.again = false;
        let kind = setup.services[usize::from(connection.service)].kind;
        if let Body::Live(tcb) = &mut connection.body {
            let before = Before::of(tcb, &connection.app);
            let mut env = Env { store: store.of(id), lead: true, pins, wall: *wall, edition };
            connection.app.go_on(&mut env);
            let late = match is_open(tcb) {
                true => connection.app.on_time(now, kind, &mut env),
                false => None,
            };
            tcb.unblock();
            self.settle(now, id, before, None, Verdict::Accepted);
            self.on_late(now, id, late);
        } else {
            connection.app.go_on(&mut following(store.of(id), pins, *wall));
            self.note_exposure(now, id);
            self.note_memory(id);
        }
    }

    /// A client was waited for in vain. Nothing would reach one that takes nothing.
    fn on_late(&mut self, now: Instant, id: ConnId, late: Option<Awaited>) {
        match late {
            None => {}
            Some(Awaited::Request) => self.stats.idle_timeouts += 1,
            Some(Awaited::Head | Awaited::Body) => self.stats.request_timeouts += 1,
            Some(Awaited::Taking) => {
                self.stats.reply_timeouts += 1;
                self.break_off(now, id);
            }
        }
    }
}
