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
use crate::session::Event;
use crate::tcp::{CloseCause, Horizon, Tcb, Verdict};
use crate::time::{Duration, Instant};

/// The farthest alarm. An alarm outlives its connection, and a keepalive's may be hours away.
pub(super) const ALARM_MAX: Duration = Duration::from_secs(300);

/// Entries of the timer wheel that are looked at in one turn; and as how many of them an alarm counts
/// that went off. Well under a millisecond of work either way.
pub(super) const LOOKS: usize = 8192;
const LOOKS_AN_ALARM: usize = 15;

/// Where a connection stood before an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// RCV.NXT as a stream offset.
    pub(super) received: u64,
    /// SND.UNA as a stream offset.
    pub(super) acked: u64,
    /// How much output the application had produced; its end counts one. What follows from later input
    /// comes behind it, and a client that goes on talking does not keep it from leaving.
    pub(super) output: u64,
}

impl Before {
    pub(super) fn of(tcb: &Tcb, app: &App) -> Self {
        let output = app.output_end().saturating_add(app.finished().into());
        Self { received: tcb.received(), acked: tcb.acked(), output }
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
        let (stands, stood) = self.log_milestones(id);
        if stands && self.turn_away(now, id) {
            return;
        }
        let last = stood.or(last);
        if let Some(lsn) = last {
            self.hold_back(id, before, lsn);
        }
        if stood.is_some()
            && let Some(connection) = self.table.get_mut(id)
        {
            // Nor may its peer hear that we have heard it.
            connection.set_horizon(Horizon::SHUT);
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        if let Some(place) = connection.place() {
            self.call_session(now, place.slot, Event::Moved, Some(id), last);
        }
        if stands {
            self.on_stands(now, id);
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.settle();
        let is_busy = connection.app.is_busy();
        if connection.app.failed().is_some() {
            self.fail(now, id);
        }
        self.note_memory(id);
        let Some(connection) = self.table.get_mut(id) else { return };
        match verdict {
            Verdict::Closed(cause) => {
                // A reset may have to go out.
                if let Some(last) =
                    connection.tcb_mut().and_then(|tcb| tcb.poll_transmit(now, &mut |_| 0))
                {
                    let reset = Loose::Segment(connection.tuple, last);
                    self.push(Kind::Reset, reset);
                }
                self.end(now, id, cause);
            }
            Verdict::Accepted | Verdict::Dropped(_) => {
                self.touch(now, id);
                self.note_lingering(id);
                if is_busy {
                    self.call_again(id);
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
        let Self { table, duty, store, pins, wall, work, .. } = self;
        let mut standby = duty.standby_mut();
        let connection = table.get_mut(id)?;
        let Body::Live(tcb) = &connection.body else { return last };
        let (acked, received, finished) = (tcb.acked(), tcb.received(), tcb.peer_finished());
        let mut env = Env { store: store.of(id), lead: true, pins, wall: *wall, edition };
        if finished && !connection.peer_finished {
            connection.peer_finished = true;
            let logged = connection.replicated;
            #[cfg(feature = "defects")]
            let logged = logged && defect != Some(crate::defects::Defect::FinNotLogged);
            if let Some(standby) = standby.as_mut().filter(|_| logged) {
                let record = Record::PeerFinished { conn: id, offset: received - 1 };
                last = standby.log.append(&record).ok().or(last);
            }
            connection.app.on_peer_finished(&mut env);
        }
        if acked > before.acked {
            connection.app.on_acked(acked, &mut env);
            if let Some(standby) = &mut standby
                && connection.replicated
                && !connection.progressed
            {
                connection.progressed = true;
                standby.progress.push(id);
            }
        }
        if connection.app.is_unhashed() {
            connection.app.pin_hashes(&mut env);
        }
        let logged = connection.replicated;
        #[cfg(feature = "defects")]
        let logged = logged && defect != Some(crate::defects::Defect::PinNotLogged);
        for pin in pins.drain(..) {
            *work += 1;
            if let Some(standby) = standby.as_mut().filter(|_| logged) {
                last = standby.log.append(&Record::Pin { conn: id, bytes: &pin }).ok().or(last);
            }
        }
        last
    }

    /// Some progress is told at once: that the handshake is done, and that our FIN arrived. Without
    /// it the standby would resend a SYN-ACK or a FIN to a peer that may have forgotten us.
    /// Whether it is the handshake, and where the log says what that has settled.
    fn log_milestones(&mut self, id: ConnId) -> (bool, Option<Lsn>) {
        let Some(connection) = self.table.get_mut(id) else { return (false, None) };
        let Body::Live(tcb) = &connection.body else { return (false, None) };
        let (handshake, fin) = (tcb.established(), tcb.fin_acked());
        let news = (handshake && !connection.handshake_logged) || (fin && !connection.fin_logged);
        if !news {
            return (false, None);
        }
        let stands = handshake && !connection.handshake_logged;
        if stands && connection.is_half_open() {
            self.half_open = self.half_open.saturating_sub(1);
        }
        // A connection that has just ended has no state any more that says so.
        connection.handshake_logged |= handshake;
        connection.fin_logged |= fin;
        let stood = if stands { self.log_stood(id) } else { None };
        self.log_progress(id);
        (stands, stood)
    }

    /// Queues a connection that may have something to send, and sets its alarm.
    pub(super) fn touch(&mut self, now: Instant, id: ConnId) {
        let Self { table, duty, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Some(owner) = duty.owner_mut() else { return };
        if !connection.queued {
            connection.queued = true;
            owner.queues.ready.push_back(id);
        }
        self.arm(now, id);
    }

    /// Makes sure that the wheel wakes no later than the connection's next deadline. Alarms are
    /// never taken back: one that comes early finds nothing due and is set again.
    pub(super) fn arm(&mut self, now: Instant, id: ConnId) {
        let Self { table, setup, duty, sessions, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Some(owner) = duty.owner_mut() else { return };
        let kind = setup.services[usize::from(connection.service)].kind;
        let session = connection.place().filter(|_| !connection.again);
        let session = session.and_then(|place| sessions.deadline(place.slot, kind));
        let own = connection.deadline(now, kind);
        let Some(deadline) = own.into_iter().chain(session).min() else { return };
        let deadline = deadline.min(now + ALARM_MAX);
        if connection.alarm.set(deadline) {
            owner.queues.wheel.insert(deadline.max(now), id);
        }
    }

    /// Alarms that went off: a turn's share of them.
    pub(super) fn on_alarms(&mut self, now: Instant) {
        let mut looks = LOOKS;
        while let Some(owner) = self.duty.owner_mut()
            && let Some(id) = owner.queues.wheel.expired(now, &mut looks)
        {
            looks = looks.saturating_sub(LOOKS_AN_ALARM);
            let Self { table, setup, sessions, .. } = self;
            let Some(connection) = table.get_mut(id) else { continue };
            let kind = setup.services[usize::from(connection.service)].kind;
            self.work += 1;
            if !connection.alarm.rings(now) {
                continue;
            }
            let Body::Live(tcb) = &mut connection.body else { continue };
            if tcb.deadline().is_some_and(|deadline| deadline <= now) {
                let before = Before::of(tcb, &connection.app);
                let verdict = tcb.on_timer(now);
                self.settle(now, id, before, None, verdict);
            } else {
                let session = connection.place().filter(|_| !connection.again);
                let session = session.and_then(|place| sessions.deadline(place.slot, kind));
                let own = connection.deadline(now, kind);
                if own.into_iter().chain(session).any(|deadline| deadline <= now) {
                    // The application's. Very many may have come at the same time.
                    self.call_again(id);
                }
                self.arm(now, id);
            }
        }
    }

    /// A connection is over.
    pub(super) fn end(&mut self, now: Instant, id: ConnId, cause: CloseCause) {
        let Some(mut connection) = self.table.remove(id) else { return };
        self.half_open = self.half_open.saturating_sub(usize::from(connection.is_half_open()));
        match cause {
            CloseCause::Done => self.stats.closed += 1,
            CloseCause::Reset => self.stats.reset_by_peer += 1,
            CloseCause::Aborted => self.stats.aborted += 1,
            CloseCause::TimedOut | CloseCause::KeepaliveTimeout | CloseCause::Unreachable => {
                self.stats.timed_out += 1
            }
        }
        if let Some(standby) = self.duty.standby_mut() {
            standby.snapshot.on_closed(slot_of(id));
        }
        self.unprotected -= u32::from(connection.exposed);
        self.memory.release(connection.holds);
        self.uncount_source(&connection);
        let last = match connection.replicated {
            true => self.append(&Record::Closed { conn: id, cause: cause.code() }),
            false => None,
        };
        self.leave_session(now, &mut connection, cause, last);
        self.part_with(id, connection.app);
    }
}
