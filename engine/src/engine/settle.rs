//! After anything happened to a connection: what it means for the application, the log, the
//! queue and the timers. One path for segments, acknowledgments, timers and aborts, so that no
//! event can forget one of them.

use super::Engine;
use super::connection::Body;
use super::outbox::{Kind, Loose};
use super::table::slot_of;
use crate::ids::{ConnId, Lsn};
use crate::replica::Record;
use crate::service::{App, Env};
use crate::tcp::{CloseCause, Tcb, Verdict};
use crate::time::{Duration, Instant};

/// The farthest alarm. An alarm outlives its connection, and a keepalive's may be hours away.
pub(super) const ALARM_MAX: Duration = Duration::from_secs(300);

/// Where a connection stood before an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// RCV.NXT as a stream offset.
    pub(super) received: u64,
    /// SND.UNA as a stream offset.
    pub(super) acked: u64,
    /// How much output the application had produced.
    pub(super) output: u64,
}

impl Before {
    pub(super) fn of(tcb: &Tcb, app: &App) -> Self {
        Self { received: tcb.received(), acked: tcb.acked(), output: app.output_end() }
    }
}

impl Engine {
    /// Carries the consequences of an event through. `last` is the last record that the event has
    /// appended already.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        id: ConnId,
        before: Before,
        last: Option<Lsn>,
        verdict: Verdict,
    ) {
        if matches!(verdict, Verdict::Dropped(_)) {
            self.stats.tcp_dropped += 1;
        }
        let last = self.tell_application(id, before, last);
        self.log_milestones(id);
        if let Some(lsn) = last {
            self.hold_back(id, before, lsn);
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.settle();
        let awaits_store = connection.app.awaits_store();
        if connection.app.failed().is_some() {
            self.fail(now, id);
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        match verdict {
            Verdict::Closed(cause) => {
                // A reset may have to go out.
                if let Some(last) =
                    connection.tcb_mut().and_then(|tcb| tcb.poll_transmit(now, &mut |_| 0))
                {
                    self.outbox.push(Kind::Reset, Loose::Segment(connection.tuple, last));
                }
                self.end(id, cause);
            }
            Verdict::Accepted | Verdict::Dropped(_) => {
                self.touch(now, id);
                self.note_lingering(id);
                if awaits_store {
                    self.await_content(id);
                }
            }
        }
    }

    /// Input's end and acknowledged output go to the application; what it decided outside its
    /// input goes to the log.
    fn tell_application(
        &mut self,
        id: ConnId,
        before: Before,
        mut last: Option<Lsn>,
    ) -> Option<Lsn> {
        #[cfg(feature = "defects")]
        let defect = self.setup.defect;
        let edition = self.edition();
        let Self { table, log, store, pins, wall, progress, .. } = self;
        let connection = table.get_mut(id)?;
        let Body::Live(tcb) = &connection.body else { return last };
        let (acked, received, finished) = (tcb.acked(), tcb.received(), tcb.peer_finished());
        let mut env = Env { store: store.as_mut(), lead: true, pins, wall: *wall, edition };
        if finished && !connection.peer_finished {
            connection.peer_finished = true;
            let logged = connection.replicated;
            #[cfg(feature = "defects")]
            let logged = logged && defect != Some(crate::defects::Defect::FinNotLogged);
            if logged {
                last = log
                    .append(&Record::PeerFinished { conn: id, offset: received - 1 })
                    .ok()
                    .or(last);
            }
            connection.app.on_peer_finished(&mut env);
        }
        if acked > before.acked {
            connection.app.on_acked(acked, &mut env);
            if connection.replicated && !connection.progressed {
                connection.progressed = true;
                progress.push(id);
            }
        }
        if connection.app.is_unhashed() {
            connection.app.pin_hashes(&mut env);
        }
        let logged = connection.replicated;
        #[cfg(feature = "defects")]
        let logged = logged && defect != Some(crate::defects::Defect::PinNotLogged);
        for pin in pins.drain(..) {
            if logged {
                last = log.append(&Record::Pin { conn: id, bytes: &pin }).ok().or(last);
            }
        }
        last
    }

    /// Some progress is told at once: that the handshake is done, and that our FIN arrived. Without
    /// it the standby would resend a SYN-ACK or a FIN to a peer that may have forgotten us.
    fn log_milestones(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        let (handshake, fin) = (tcb.established(), tcb.fin_acked());
        let news = (handshake && !connection.handshake_logged) || (fin && !connection.fin_logged);
        if !news {
            return;
        }
        if handshake && !connection.handshake_logged {
            self.half_open = self.half_open.saturating_sub(1);
        }
        // A connection that has just ended has no state any more that says so.
        connection.handshake_logged |= handshake;
        connection.fin_logged |= fin;
        self.log_progress(id);
    }

    /// Queues a connection that may have something to send, and sets its alarm.
    pub(super) fn touch(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !connection.queued {
            connection.queued = true;
            self.ready.push_back(id);
        }
        self.arm(now, id);
    }

    /// Makes sure that the wheel wakes no later than the connection's next deadline. Alarms are
    /// never taken back: one that comes early finds nothing due and is set again.
    pub(super) fn arm(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        let Some(deadline) = tcb.deadline() else { return };
        let deadline = deadline.min(now + ALARM_MAX);
        if connection.alarm.set(deadline) {
            self.wheel.insert(deadline.max(now), id);
        }
    }

    /// Alarms that went off.
    pub(super) fn on_alarms(&mut self, now: Instant) {
        while let Some(id) = self.wheel.expired(now) {
            let Some(connection) = self.table.get_mut(id) else { continue };
            if !connection.alarm.rings(now) {
                continue;
            }
            let Body::Live(tcb) = &mut connection.body else { continue };
            if tcb.deadline().is_some_and(|deadline| deadline <= now) {
                let before = Before::of(tcb, &connection.app);
                let verdict = tcb.on_timer(now);
                self.settle(now, id, before, None, verdict);
            } else {
                self.arm(now, id);
            }
        }
    }

    /// A connection is over.
    pub(super) fn end(&mut self, id: ConnId, cause: CloseCause) {
        let Some(connection) = self.table.remove(id) else { return };
        self.half_open = self.half_open.saturating_sub(usize::from(!connection.handshake_logged));
        match cause {
            CloseCause::Done => self.stats.closed += 1,
            CloseCause::Reset => self.stats.reset_by_peer += 1,
            CloseCause::Aborted => self.stats.aborted += 1,
            CloseCause::TimedOut | CloseCause::KeepaliveTimeout | CloseCause::Unreachable => {
                self.stats.timed_out += 1
            }
        }
        self.snapshot.on_closed(slot_of(id));
        self.unprotected -= u32::from(connection.exposed);
        if connection.replicated {
            self.append(&Record::Closed { conn: id, cause: cause.code() });
        }
        let mut app = connection.app;
        app.close(self.store.as_mut());
    }
}
