//! A peer that is there and no partner: another configuration, version or key.
//!
//! It tries again every second, for hours perhaps; the log says so once, and then at growing
//! intervals.

use super::Engine;
use super::notice::Notice;
use crate::time::{Duration, Instant};

/// Between the first line and the second, and at most.
const AGAIN_MIN: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(3600);

/// Why the peer is no partner, and when that was told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Incompatible {
    /// What is in the way, for a person; `None` for nothing.
    pub(super) why: Option<String>,
    /// When it was last told, and for how long nothing more is said.
    told: Option<(Instant, Duration)>,
}

impl Incompatible {
    /// The two agree.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// It was found again. Whether that is worth a line.
    fn note(&mut self, now: Instant, why: String) -> bool {
        self.why = Some(why);
        match self.told {
            Some((at, wait)) if now.since(at) < wait => return false,
            Some((_, wait)) => self.told = Some((now, (wait * 2).min(AGAIN_MAX))),
            None => self.told = Some((now, AGAIN_MIN)),
        }
        true
    }
}

impl Engine {
    /// The peer, or whoever is at its address, cannot be worked with.
    pub(super) fn on_incompatible(&mut self, now: Instant, why: String) {
        if self.incompatible.note(now, why.clone()) {
            self.report(Notice::Incompatible { why });
        }
    }
}
