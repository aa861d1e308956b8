//! Held connections become live ones: at a takeover, a few at a time, the recently active first.
//!
//! What the standby holds of a connection is all that it takes to go on with it, so whoever takes
//! over owns at once, whatever the number of connections (I5: the state is there). A connection
//! *wakes*, its [`Hard`] becoming a [`Tcb`], when a packet comes for it, or when
//! the walk that begins with the takeover reaches it; and then it acts at once, which is the nudge
//! of DESIGN §7.
//!
//! ```text
//!   takeover ─► those of the last seconds, newest first ─► every slot, in order ─► done
//!               a share of them each turn
//! ```
//!
//! The shares keep the loop turning, and the walk never rests: who has more to send than leaves in a
//! turn, and so is never done, holds up nobody. Whoever has nothing to say but that the path is good
//! says it beside those ([`Rota`](super::rota::Rota)): there may be a million of them.

use super::Engine;
use super::connection::{Body, Connection};
#[cfg(feature = "defects")]
use super::mistakes;
use super::table::Table;
use crate::ids::ConnId;
use crate::service::Env;
use crate::session::CLIENT;
use crate::slots::Queue;
use crate::tcp::{Hard, Tcb};
use crate::time::{Duration, Instant};

/// Connections woken in one turn: well under a millisecond of work.
const SHARE: usize = 512;
/// Slots looked at in one turn, empty ones included.
const SLOTS_A_TURN: usize = 4096;
/// A connection is listed once in so long.
const PERIOD: Duration = Duration::from_secs(1);

/// The connections that the log spoke of lately: those of this period and of the one before. A
/// standby keeps it for its takeover.
#[derive(Debug, Default)]
pub(super) struct Recent {
    since: Instant,
    /// The number of this period, from 1.
    period: u32,
    now: Queue<ConnId>,
    before: Queue<ConnId>,
}

impl Recent {
    /// The log spoke of `id`, which was noted last in the period `noted`.
    pub(super) fn note(&mut self, now: Instant, id: ConnId, noted: &mut u32) {
        if self.period == 0 || now.since(self.since) >= PERIOD {
            self.before = core::mem::take(&mut self.now);
            self.since = now;
            self.period = self.period.wrapping_add(1).max(1);
        }
        if *noted != self.period {
            *noted = self.period;
            self.now.push_back(id);
        }
    }

    /// Takes all of them: the period before, and this one.
    pub(super) fn take(&mut self) -> [Queue<ConnId>; 2] {
        self.since = Instant::ZERO;
        [core::mem::take(&mut self.before), core::mem::take(&mut self.now)]
    }
}

/// How far the walk is.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Still to wake before all others: the last one of the second list first.
    first: [Queue<ConnId>; 2],
    /// Slots from here to `end` have not been looked at.
    cursor: usize,
    end: usize,
    /// Whether those that never slept are nudged, too.
    all: bool,
}

impl Walk {
    /// `first` are to wake before all others.
    pub(super) fn beginning_with(first: [Queue<ConnId>; 2]) -> Self {
        Self { first, ..Self::default() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.first.iter().all(Queue::is_empty) && self.cursor == self.end
    }

    fn next_of_first(&mut self) -> Option<ConnId> {
        self.first.iter_mut().rev().find_map(Queue::pop_back)
    }

    /// The connection in the next slot that is not empty; each slot takes one of `looks`.
    fn next_tenant(&mut self, table: &Table, looks: &mut usize) -> Option<ConnId> {
        while self.cursor < self.end && *looks > 0 {
            *looks -= 1;
            let slot = self.cursor;
            self.cursor += 1;
            let tenant = table.tenant(slot);
            if tenant.is_some() {
                return tenant;
            }
        }
        None
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.first.iter_mut().any(Queue::pop_piece)
    }
}

impl Engine {
    /// A takeover: every connection that is held is to wake. If the address was handed over and `comes
    /// back`, its connections never slept; what they waited for went with the role, and each is nudged.
    pub(super) fn begin_waking(&mut self, now: Instant, comes_back: bool) {
        let end = self.table.slots();
        if let Some(owner) = self.duty.owner_mut() {
            let walk = &mut owner.queues.walk;
            (walk.cursor, walk.end, walk.all) = (0, end, comes_back);
        }
        self.advance_waking(now);
    }

    /// Whether somebody may still be to wake.
    pub(super) fn waking_due(&self) -> bool {
        self.duty.owner().is_some_and(|owner| !owner.queues.walk.is_done())
    }

    /// Moves the walk on by one turn's share.
    pub(super) fn advance_waking(&mut self, now: Instant) {
        let mut slots = SLOTS_A_TURN;
        for _ in 0..SHARE {
            let Self { duty, table, .. } = self;
            let Some(owner) = duty.owner_mut() else { return };
            let walk = &mut owner.queues.walk;
            let first = walk.next_of_first();
            let Some(id) = first.or_else(|| walk.next_tenant(table, &mut slots)) else { return };
            if walk.all {
                self.nudge(now, id);
            }
            self.wake(now, id);
        }
    }

    /// Lets a connection act that is live.
    fn nudge(&mut self, now: Instant, id: ConnId) {
        let Some(tcb) = self.table.get_mut(id).and_then(Connection::tcb_mut) else { return };
        tcb.nudge(now);
        self.touch(now, id);
    }

    /// Makes a held connection live, and lets it act: a retransmission, or an ACK that tells the
    /// peer that the path is good. Nothing happens to one that is live already.
    pub(super) fn wake(&mut self, now: Instant, id: ConnId) {
        assert!(self.owns(), "only an owner speaks");
        let edition = self.edition();
        let Self { table, store, pins, wall, setup, tcp_for, clock, work, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Body::Held(hard) = &connection.body else { return };
        *work += 1;
        let mut hard = Hard::clone(hard);
        // On the wire it is relative to the pair's clock, here to ours.
        hard.ts_offset = hard.ts_offset.wrapping_add(clock.ahead_millis());
        #[cfg(feature = "defects")]
        mistakes::err_in_state(setup, &mut hard);
        let dialled = connection.place().is_some_and(|place| place.leg != CLIENT);
        let kind = setup.services[usize::from(connection.service)].kind;
        let settings = tcp_for.of(kind, dialled);
        #[cfg(feature = "defects")]
        let settings = &mistakes::mistaken_settings(setup, settings);
        connection.fin_logged = hard.fin_acked;
        connection.body = Body::Live(Box::new(Tcb::resume(settings, now, &hard)));
        let mut env = Env { store: store.of(id), lead: true, pins, wall: *wall, edition };
        connection.app.lead(&mut env);
        // In simplex nothing has to be pinned.
        pins.clear();
        connection.settle();
        let (is_busy, place) = (connection.app.is_busy(), connection.place());
        let hurries = connection.tcb_mut().is_some_and(|tcb| {
            let hurries = tcb.nudge(now);
            #[cfg(feature = "defects")]
            mistakes::err_in_waking(setup, now, tcb);
            hurries
        });
        table.note_live(id);
        self.note_memory(id);
        self.note_lingering(id);
        if is_busy {
            self.call_again(id);
        }
        if let Some(place) = place {
            self.wake_session(now, place);
        }
        if hurries {
            self.touch(now, id);
        } else {
            self.arm(now, id);
            if let Some(owner) = self.duty.owner_mut() {
                owner.queues.quiet.push_back(id);
            }
        }
    }
}
