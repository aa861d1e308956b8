//! What time does to a connection.

use super::receive::AckDue;
use super::tcb::Phase;
use super::{CloseCause, State, Tcb, Verdict};
use crate::time::{Duration, Instant};

/// What the retransmission timer is running for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alarm {
    /// The retransmission timeout, or the next window probe: RFC 6298, RFC 9293 §3.8.6.1.
    Timeout,
    /// A tail probe: RFC 8985 §7.
    Tail,
    /// Time is up for what may have been reordered: RFC 8985 §6.2 step 5.
    Reordering,
}

impl Tcb {
    /// When [`Tcb::on_timer`] is to be called next. After it was called, this lies in the future:
    /// what waits for a horizon waits for the horizon, not for time.
    pub fn deadline(&self) -> Option<Instant> {
        let timers = &self.timers;
        let paced = self.snd.flight.as_ref().map_or(Instant::NEVER, |flight| flight.pacer.due);
        let first = timers.resend.min(timers.ack).min(timers.idle).min(timers.wait).min(paced);
        (first != Instant::NEVER).then_some(first)
    }

    /// Acts on every deadline that has passed. Then poll for output.
    pub fn on_timer(&mut self, now: Instant) -> Verdict {
        if self.timers.wait <= now {
            if self.state != State::TimeWait || self.rcv.acked == self.rcv.nxt {
                return self.close(now, CloseCause::Done);
            }
            // Its peer's FIN could not be acknowledged yet: it will be, and perhaps be asked for again.
            self.timers.wait = now + self.settings.time_wait;
        }
        if self.timers.ack <= now {
            self.timers.ack = Instant::NEVER;
            if self.rcv.due != AckDue::No {
                self.owe_ack_now();
            }
        }
        if let Some(flight) = self.snd.flight.as_mut().filter(|flight| flight.pacer.due <= now) {
            flight.pacer.due = Instant::NEVER;
        }
        if self.timers.idle <= now
            && let Some(cause) = self.on_idle(now)
        {
            return self.give_up(now, cause);
        }
        if self.timers.resend <= now
            && let Some(cause) = self.on_resend(now)
        {
            return self.give_up(now, cause);
        }
        Verdict::Accepted
    }

    /// Ends a connection whose peer does not answer. If it is only cut off, the reset tells it.
    fn give_up(&mut self, now: Instant, cause: CloseCause) -> Verdict {
        self.reset_due = self.state.synchronized() && self.horizon.opened;
        self.close(now, cause)
    }

    /// Silence for the keepalive time: RFC 9293 §3.8.4. What is in flight probes by itself.
    fn on_idle(&mut self, now: Instant) -> Option<CloseCause> {
        self.timers.idle = Instant::NEVER;
        let keepalive = self.settings.keepalive?;
        let due = self.rcv.heard_at + keepalive.idle;
        if self.bytes_in_flight() > 0 || self.timers.resend != Instant::NEVER {
            self.timers.idle = now + keepalive.idle;
        } else if due > now {
            self.timers.idle = due;
        } else if self.snd.keepalives >= keepalive.probes {
            return Some(CloseCause::KeepaliveTimeout);
        } else {
            self.snd.keepalives += 1;
            self.snd.keepalive_due = true;
            self.timers.idle = now + keepalive.interval.max(INTERVAL_MIN);
        }
        None
    }

    /// The retransmission timer: RFC 6298 §5.4 to §5.6; with the window shut, the persist timer.
    fn on_resend(&mut self, now: Instant) -> Option<CloseCause> {
        if let Some(cause) = self.out_of_patience(now) {
            return Some(cause);
        }
        match self.snd.alarm {
            Alarm::Timeout => self.on_timeout(now),
            Alarm::Tail => {
                self.rearm_timeout(now);
                self.snd.tail_due = true;
            }
            Alarm::Reordering => {
                self.rearm_timeout(now);
                self.detect_loss(now);
            }
        }
        None
    }

    fn on_timeout(&mut self, now: Instant) {
        let first = self.snd.repeats == 0;
        if self.snd.blocked && self.snd.phase == Phase::Timeout {
            // Nothing was repeated since the last time: our own content is not there yet.
            self.rearm_timeout(now);
            return;
        }
        self.snd.backoff = self.snd.backoff.saturating_add(1);
        self.snd.repeats = self.snd.repeats.saturating_add(1);
        self.rearm_timeout(now);
        if !self.state.synchronized() {
            self.syn_due = true;
        } else if self.snd.wnd == 0 || self.bytes_in_flight() == 0 {
            self.snd.probe_due = true;
        } else {
            self.on_loss_timeout(now, first);
        }
    }

    fn out_of_patience(&self, now: Instant) -> Option<CloseCause> {
        let quiet = now.since(self.snd.progress_at);
        let given_up = if self.state.synchronized() {
            // With the window shut, time counts but repetitions do not: probing may go on for ever.
            quiet >= self.settings.user_timeout
                || (self.snd.wnd > 0 && self.snd.repeats >= self.settings.data_retries)
        } else {
            self.snd.repeats >= self.settings.syn_retries
        };
        given_up.then_some(CloseCause::TimedOut)
    }

    /// Data timed out: it is lost, the window is one segment. A second timeout in a row, or a peer
    /// that asks for what it said it held, puts its word in doubt (RFC 2018 §8): then everything
    /// is sent again.
    fn on_loss_timeout(&mut self, now: Instant, first: bool) {
        let (flight, mss) = (self.bytes_in_flight(), self.mss_u32());
        let paid = self.snd.phase != Phase::Open || self.slowed_by_mark();
        match self.snd.phase {
            Phase::Open if first => self.remember(true),
            // The recovery's own reduction may still turn out to be a mistake. New data went out
            // in it, so F-RTO could not tell: RFC 5682 §3.1 step 1.
            Phase::Fast if first => (),
            Phase::Open | Phase::Fast | Phase::Timeout => self.snd.undo = None,
        }
        if first && !paid {
            self.snd.congestion.control().on_timeout(flight, mss);
            self.note_slowed();
        } else {
            self.snd.congestion.control().on_timeout_again(mss);
        }
        self.suspect_black_hole();
        let Some(out) = &mut self.snd.flight else { return };
        if !first || out.sent.reneged() || !self.sack {
            out.sent.forget_held();
            self.mark_all_lost();
        } else {
            self.lose_by_timeout(now);
            self.repair_from_una();
        }
    }

    /// Starts the retransmission timer if it is not running, RFC 6298 §5.1.
    pub(super) fn arm_resend(&mut self, now: Instant) {
        if self.timers.resend == Instant::NEVER {
            self.timers.resend = now + self.snd.rtt.timeout(&self.settings, self.snd.backoff);
            self.snd.alarm = Alarm::Timeout;
        }
    }

    /// Starts it anew for what is sent again, unless something may turn out to be lost before
    /// that: then the alarm for it starts it.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        if self.snd.alarm != Alarm::Reordering {
            self.rearm_timeout(now);
        }
    }

    /// Starts it anew, RFC 6298 §5.3 and §5.6.
    pub(super) fn rearm_timeout(&mut self, now: Instant) {
        self.timers.resend = Instant::NEVER;
        self.arm_resend(now);
    }
}

/// A keepalive interval of zero would turn in place.
const INTERVAL_MIN: Duration = Duration::from_millis(1);
