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
use super::connection::Body;
#[cfg(feature = "defects")]
use super::mistakes;
use crate::ids::ConnId;
use crate::service::Env;
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
    now: Vec<ConnId>,
    before: Vec<ConnId>,
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
            self.now.push(id);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.take();
    }

    /// All of them, the newest last.
    fn take(&mut self) -> Vec<ConnId> {
        let mut all = core::mem::take(&mut self.before);
        all.append(&mut self.now);
        self.now = Vec::new();
        self.since = Instant::ZERO;
        all
    }
}

/// How far the walk is.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Still to wake before all others, the last one first.
    first: Vec<ConnId>,
    /// Slots from here to `end` have not been looked at.
    cursor: usize,
    end: usize,
}

impl Walk {
    fn is_done(&self) -> bool {
        self.first.is_empty() && self.cursor == self.end
    }
}

impl Engine {
    /// A takeover: every connection that is held is to wake.
    pub(super) fn begin_waking(&mut self, now: Instant) {
        self.walk = Walk { first: self.recent.take(), cursor: 0, end: self.table.slots() };
        self.advance_waking(now);
    }

    /// Nobody is to wake any more.
    pub(super) fn end_waking(&mut self) {
        self.walk = Walk::default();
        self.recent.clear();
    }

    /// Whether somebody may still be to wake.
    pub(super) fn is_walking(&self) -> bool {
        !self.walk.is_done()
    }

    /// Whether the walk can go on now.
    pub(super) fn waking_due(&self) -> bool {
        !self.walk.is_done()
    }

    /// Moves the walk on by one turn's share.
    pub(super) fn advance_waking(&mut self, now: Instant) {
        let end = self.walk.end.min(self.walk.cursor.saturating_add(SLOTS_A_TURN));
        for _ in 0..SHARE {
            let Some(id) = self.walk.first.pop().or_else(|| self.next_tenant(end)) else { return };
            self.wake(now, id);
        }
    }

    /// Who lives in the next slot before `end` that is not empty.
    fn next_tenant(&mut self, end: usize) -> Option<ConnId> {
        while self.walk.cursor < end {
            let slot = self.walk.cursor;
            self.walk.cursor += 1;
            let tenant = self.table.tenant(slot);
            if tenant.is_some() {
                return tenant;
            }
        }
        None
    }

    /// Makes a held connection live, and lets it act: a retransmission, or an ACK that tells the
    /// peer that the path is good. Nothing happens to one that is live already.
    pub(super) fn wake(&mut self, now: Instant, id: ConnId) {
        assert!(self.owner, "only an owner speaks");
        let edition = self.edition();
        let Self { table, store, pins, wall, setup, clock, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Body::Held(hard) = &connection.body else { return };
        let mut hard = Hard::clone(hard);
        // On the wire it is relative to the pair's clock, here to ours.
        hard.ts_offset = hard.ts_offset.wrapping_add(clock.ahead_millis());
        #[cfg(feature = "defects")]
        mistakes::err_in_state(setup, &mut hard);
        let settings = &setup.tcp;
        #[cfg(feature = "defects")]
        let settings = &mistakes::mistaken_settings(setup, settings);
        connection.fin_logged = hard.fin_acked;
        connection.body = Body::Live(Box::new(Tcb::resume(settings, now, &hard)));
        let mut env = Env { store: store.as_mut(), lead: true, pins, wall: *wall, edition };
        connection.app.lead(&mut env);
        // In simplex nothing has to be pinned.
        pins.clear();
        connection.settle();
        let awaits_store = connection.app.awaits_store();
        let hurries = connection.tcb_mut().is_some_and(|tcb| {
            let hurries = tcb.nudge(now);
            #[cfg(feature = "defects")]
            mistakes::err_in_waking(setup, now, tcb);
            hurries
        });
        table.note_live(id);
        self.note_lingering(id);
        if awaits_store {
            // It asked anew when it began to lead.
            self.await_content(id);
        }
        if hurries {
            self.touch(now, id);
        } else {
            self.arm(now, id);
            self.quiet.push_back(id);
        }
    }
}
