//! One client: its TCP, what it asked, what it heard.

use std::sync::Arc;

use super::report::micros;
use crate::drill::Pattern;
use standin::tcp::{CloseCause, Settings, Tcb, Verdict};
use standin::time::{Duration, Instant};
use standin::wire::{Segment, SeqNum};

/// One living client. A million of them are in memory at a time.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) tcb: Tcb,
    /// Bytes asked so far.
    pub(super) asked: u64,
    /// Bytes heard so far, all right.
    pub(super) heard: u64,
    /// When what is unanswered was asked, or the SYN or FIN sent; [`NOTHING`] with no such thing.
    pub(super) waits_since: Instant,
    /// When to ask next.
    pub(super) asks_at: Instant,
    /// The earliest entry of the wheel for it.
    pub(super) armed: Instant,
    /// The longest wait for an answer while it held, in microseconds.
    pub(super) gap: u32,
    /// From SYN to the end of the handshake, in microseconds.
    pub(super) connect: u32,
    pub(super) opened: bool,
    pub(super) closing: bool,
    /// In the queue of those that may have something to send.
    pub(super) queued: bool,
}

/// How a client ended, where it was not in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Closed in order.
    Completed,
    Refused,
    Unanswered,
    Reset,
    Lost(&'static str),
    Wrong,
    GivenUp,
}

impl End {
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Refused => "refused: its SYN was answered by a reset",
            Self::Unanswered => "unanswered: no handshake",
            Self::Reset => "reset by the peer",
            Self::Lost(cause) => cause,
            Self::Wrong => "a byte came back that was not sent so",
            Self::GivenUp => "given up",
        }
    }
}

/// What an event meant for the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Nothing,
    Opened,
    /// Everything that was asked is answered; it took so long, in microseconds.
    Answered(u32),
    Ended(End),
}

impl Member {
    pub(super) fn new(
        settings: &Arc<Settings>,
        now: Instant,
        random: u64,
        mtu: u16,
        ipv6: bool,
    ) -> Self {
        let (iss, offset) = (SeqNum(random as u32), (random >> 32) as u32);
        Self {
            tcb: Tcb::connect(settings, now, iss, offset, mtu, ipv6),
            asked: 0,
            heard: 0,
            waits_since: now,
            asks_at: Instant::NEVER,
            armed: Instant::NEVER,
            gap: 0,
            connect: 0,
            opened: false,
            closing: false,
            queued: false,
        }
    }

    /// Waits for an answer, for the handshake, or for the end.
    pub(super) const fn waits(&self) -> bool {
        !self.opened || self.asked > self.heard || self.closing
    }

    /// Sends another request, unless one is under way.
    pub(super) fn ask(&mut self, now: Instant, bytes: u32) {
        if !self.waits() {
            self.asked += u64::from(bytes);
            self.waits_since = now;
            self.tcb.set_output_end(self.asked);
        }
    }

    /// Says that it has no more to say; the end of the connection is awaited.
    pub(super) fn close(&mut self, now: Instant) {
        if !self.closing {
            self.closing = true;
            self.waits_since = now;
            self.asks_at = Instant::NEVER;
            self.tcb.finish();
        }
    }

    pub(super) fn on_segment(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        pattern: Pattern,
    ) -> News {
        let Self { tcb, asked, heard, .. } = self;
        let mut wrong = false;
        let verdict = tcb.on_segment(now, segment, &mut |bytes| {
            // Nothing comes back before it was sent.
            let excess = *heard + bytes.len() as u64 > *asked;
            wrong |= excess || pattern.difference(*heard, bytes).is_some();
            *heard += bytes.len() as u64;
        });
        if wrong {
            return News::Ended(End::Wrong);
        }
        self.tcb.set_consumed(self.heard);
        self.after(now, verdict)
    }

    /// The time has come for something: TCP's timers, or patience with the peer.
    pub(super) fn on_timer(&mut self, now: Instant, stall: Duration) -> News {
        let verdict = self.tcb.on_timer(now);
        let news = self.after(now, verdict);
        if news == News::Nothing && self.patience(stall) <= now {
            return News::Ended(match (self.opened, self.closing) {
                (false, _) => End::Unanswered,
                (true, false) => End::Lost("lost: a request was not answered in time"),
                (true, true) => End::Lost("lost: its end was not answered in time"),
            });
        }
        news
    }

    /// When to look at it next.
    pub(super) fn deadline(&self, stall: Duration) -> Instant {
        let tcb = self.tcb.deadline().unwrap_or(Instant::NEVER);
        tcb.min(self.asks_at).min(self.patience(stall))
    }

    fn patience(&self, stall: Duration) -> Instant {
        if self.waits() { self.waits_since + stall } else { Instant::NEVER }
    }

    fn after(&mut self, now: Instant, verdict: Verdict) -> News {
        if let Verdict::Closed(cause) = verdict {
            return News::Ended(self.end_for(cause));
        }
        if self.tcb.peer_finished() {
            return if !self.closing || self.asked != self.heard {
                News::Ended(End::Lost("lost: ended by the peer"))
            } else if self.tcb.fin_acked() {
                // In TIME-WAIT, which nothing here has to wait for.
                News::Ended(End::Completed)
            } else {
                News::Nothing
            };
        }
        if !self.opened && self.tcb.established() {
            self.opened = true;
            self.connect = micros(now.since(self.waits_since));
            self.waits_since = NOTHING;
            return News::Opened;
        }
        if !self.waits() && self.waits_since != NOTHING {
            let took = micros(now.since(self.waits_since));
            self.waits_since = NOTHING;
            return News::Answered(took);
        }
        News::Nothing
    }

    fn end_for(&self, cause: CloseCause) -> End {
        match (cause, self.opened) {
            (CloseCause::Done, _) if self.closing && self.asked == self.heard => End::Completed,
            (CloseCause::Reset, true) => End::Reset,
            (CloseCause::Reset | CloseCause::Unreachable, false) => End::Refused,
            (_, false) => End::Unanswered,
            (_, true) => End::Lost("lost: the peer does not answer"),
        }
    }
}

/// Nothing is awaited.
const NOTHING: Instant = Instant::NEVER;
