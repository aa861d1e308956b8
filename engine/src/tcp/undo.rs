//! Taking a reduction back: what looked like a loss was none.
//!
//! Segments that were only late, and a path that only paused, make a sender slow down for nothing.
//! Three things prove it afterwards, and then the congestion window is what it was:
//!
//! * **Eifel** (RFC 3522): the acknowledgment of what was sent again first echoes a timestamp from
//!   before that: it answers the original.
//! * **D-SACK** (RFC 3708): the peer got everything twice that was sent twice.
//! * **F-RTO** (RFC 5682 §3.1): after a timeout the peer acknowledges what was not sent again. To
//!   find out, new data goes before lost data once.

use super::Tcb;
use super::ack::Heard;
use super::congestion::Congestion;
use super::rack::Echo;
use super::tcb::Phase;
use crate::time::Instant;
use core::ops::Range;

/// How things were before a reduction.
#[derive(Debug)]
pub(super) struct Undo {
    prior: Congestion,
    /// SND.UNA then.
    una: u64,
    /// When what begins there was first sent again: RetransmitTS of RFC 3522.
    again_at: Option<Instant>,
    /// Bytes sent again and not reported as duplicates.
    resent: u64,
    /// What was sent again lies within.
    within: Range<u64>,
    /// No proof comes later than the acknowledgment of more than this.
    until: u64,
    probing: Frto,
}

/// Where F-RTO stands, by the steps of RFC 5682 §3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Frto {
    /// Not asking.
    Off,
    /// The first segment was sent again; step 2.
    First,
    /// Its acknowledgment came, and new data goes out; step 3.
    Second,
}

impl Tcb {
    /// A reduction is about to happen.
    pub(super) fn remember(&mut self, timeout: bool) {
        self.snd.undo = Some(Box::new(Undo {
            prior: self.snd.congestion,
            una: self.snd.una,
            again_at: None,
            resent: 0,
            within: 0..0,
            until: u64::MAX,
            probing: if timeout && self.sack { Frto::First } else { Frto::Off },
        }));
    }

    /// `part`, which was lost, was sent again.
    pub(super) fn note_resent(&mut self, now: Instant, part: Range<u64>) {
        if let Some(undo) = &mut self.snd.undo {
            undo.resent = undo.resent.saturating_add(part.end - part.start);
            undo.within = match undo.within.is_empty() {
                true => part.clone(),
                false => undo.within.start.min(part.start)..undo.within.end.max(part.end),
            };
            if part.start == undo.una {
                undo.again_at.get_or_insert(now);
            }
        }
    }

    /// Whether an acknowledgment that moves SND.UNA answers the first sending of what was sent
    /// again first, RFC 3522 §3.2. Only the first such acknowledgment tells.
    ///
    /// The time is that of the sending itself. What is remembered in runs is less exact.
    pub(super) fn answers_original(&self, echo: Option<Echo>) -> bool {
        let again_at = self.snd.undo.as_ref().filter(|undo| undo.una == self.snd.una);
        let again_at = again_at.and_then(|undo| undo.again_at);
        again_at.zip(echo).is_some_and(|(again_at, echo)| echo.precedes(again_at))
    }

    /// The recovery has ended; proof may still be on its way.
    pub(super) fn close_undo(&mut self) {
        if let Some(undo) = &mut self.snd.undo {
            undo.until = undo.until.min(self.snd.nxt);
        }
    }

    /// Whether lost data waits for the answer to new data: F-RTO step 2b.
    pub(super) fn asks_before_resending(&self) -> bool {
        self.snd.undo.as_ref().is_some_and(|undo| undo.probing == Frto::Second)
    }

    /// Nothing is in flight whose acknowledgment could answer: F-RTO is over.
    pub(super) fn stop_asking(&mut self) {
        if let Some(undo) = &mut self.snd.undo {
            undo.probing = Frto::Off;
        }
    }

    /// What an acknowledgment proves.
    pub(super) fn judge_reduction(&mut self, now: Instant, heard: &Heard, fresh: bool) {
        let more = self.snd.una < self.snd.recover && self.may_send_new();
        let Some(undo) = &mut self.snd.undo else { return };
        if self.snd.una > undo.until {
            self.snd.undo = None;
            return;
        }
        let mut proven = heard.eifel;
        if let Some(part) = &heard.duplicate {
            // The network duplicates too, and that proves nothing.
            let (start, end) = (part.start.max(undo.within.start), part.end.min(undo.within.end));
            let twice = end.saturating_sub(start);
            proven |= undo.resent > 0 && twice >= undo.resent;
            undo.resent = undo.resent.saturating_sub(twice);
        }
        if self.snd.phase == Phase::Timeout {
            proven |= undo.probing == Frto::Second && heard.original;
            undo.probing = match undo.probing {
                Frto::First if fresh && more => Frto::Second,
                Frto::Off | Frto::First | Frto::Second => Frto::Off,
            };
        }
        if proven {
            self.take_back(now);
        }
    }

    /// Whether the peer's window has room for new data, and there is some: a segment, or the last.
    fn may_send_new(&self) -> bool {
        let edge = self.snd.una + u64::from(self.snd.wnd);
        let (limit, nxt) = (self.output_limit(), self.snd.nxt);
        let least = (limit - nxt).clamp(1, self.mss_u64());
        self.state.may_send() && limit.min(edge) >= nxt + least
    }

    /// Everything is as it was. The path reorders, then: RACK waits from now on.
    fn take_back(&mut self, now: Instant) {
        let Some(undo) = self.snd.undo.take() else { return };
        let window = self.snd.congestion.window();
        self.snd.congestion = undo.prior;
        self.snd.congestion.control().on_undo(now, window);
        self.snd.order.note_reordering();
        self.snd.phase = Phase::Open;
        self.snd.duplicates = 0;
        self.snd.resend_now = false;
        if let Some(flight) = &mut self.snd.flight {
            flight.sent.find();
            flight.rack.forget_newest();
        }
    }
}
