//! Callers: processes that speak for the peer and have not answered this one.
//!
//! A caller is answered, so that one that lives can answer us in turn, and that is all:
//!
//! ```text
//!   a, just started                        b, just started
//!      beat, echo nobody's ────────────►   a calls
//!   b has answered    ◄──────────────────  beat, echo a's
//!      beat, echo b's ─────────────────►   a has answered
//! ```

use arrayvec::ArrayVec;

use super::super::types::{Beat, Echo};
use crate::time::{Duration, Instant};

/// Callers that are answered with one beat. Where there are more, somebody plays recordings, and one
/// that lives calls again.
const CALLERS_MAX: usize = 4;

/// Those who speak for the peer and have not answered this process.
#[derive(Clone, Debug, Default)]
pub(in crate::role) struct Callers {
    /// The callers that are not answered yet, each with the clock value of its latest call.
    waiting: ArrayVec<Echo, CALLERS_MAX>,
    /// When one called last.
    called: Option<Instant>,
    /// When one last said that it owns.
    owned: Option<Instant>,
}

impl Callers {
    /// `beat` came, and its sender has not answered.
    pub(in crate::role) fn note(&mut self, now: Instant, beat: &Beat) {
        self.called = Some(now);
        if beat.role.owns() {
            self.owned = Some(now);
        }
        let call = Echo { boot: beat.boot, sent: beat.sent };
        match self.waiting.iter_mut().find(|waiting| waiting.boot == call.boot) {
            Some(waiting) => waiting.sent = waiting.sent.max(call.sent),
            None => {
                // The latest are kept: none can shut another out for longer than it goes on calling.
                if self.waiting.is_full() {
                    self.waiting.remove(0);
                }
                self.waiting.push(call);
            }
        }
    }

    /// Process `boot` has answered: it calls no more.
    pub(in crate::role) fn forget(&mut self, boot: u64) {
        self.waiting.retain(|waiting| waiting.boot != boot);
    }

    /// The caller to answer next.
    pub(in crate::role) fn poll(&mut self) -> Option<Echo> {
        self.waiting.pop()
    }

    /// Whether one has called within `time`.
    pub(in crate::role) fn called_within(&self, now: Instant, time: Duration) -> bool {
        self.called.is_some_and(|at| now.since(at) < time)
    }

    /// Whether one has said within `time` that it owns.
    pub(in crate::role) fn owned_within(&self, now: Instant, time: Duration) -> bool {
        self.owned.is_some_and(|at| now.since(at) < time)
    }
}
