//! How long a client is waited for.
//!
//! Time is no input: two nodes see it pass at different places of the stream. So whoever leads has
//! patience, alone, and when it is over that is pinned; what follows from it happens on both nodes.
//! How long the client has been waited for is told to nobody: an heir begins anew.
//!
//! ```text
//!      ┌─────────────────── all of it taken ──────────────────┐
//!      ▼                                                      │
//!   Request ─ first byte ─► Head ─ its end, a reply ─► Taking ┤
//!      ▲                                                      ▼
//!      └─────────────────────── its end ───────────────────  Body
//! ```
//!
//! Each has a time of its own, Taking for each piece and Body for each byte. A client that has
//! something of ours to take is waited for on that account alone.

use crate::time::{Duration, Instant};

/// How long a client is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// From a request's first byte to the end of its head.
    pub request: Duration,
    /// For the next byte of a request's body.
    pub body: Duration,
    /// For a request.
    pub idle: Duration,
    /// For a client that takes nothing of what it is told.
    pub reply: Duration,
}

impl Patience {
    /// No end of it.
    pub const ENDLESS: Self = Self {
        request: Duration::MAX,
        body: Duration::MAX,
        idle: Duration::MAX,
        reply: Duration::MAX,
    };
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            reply: Duration::from_secs(300),
        }
    }
}

impl Patience {
    pub(super) const fn with(&self, awaited: Awaited) -> Duration {
        match awaited {
            Awaited::Request => self.idle,
            Awaited::Head => self.request,
            Awaited::Body => self.body,
            Awaited::Taking => self.reply,
        }
    }
}

/// What a client is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Awaited {
    /// A request: its first byte.
    Request,
    /// The end of a request's head.
    Head,
    /// The next byte of a request's body.
    Body,
    /// That it takes more of the reply, or, behind the last one, ends the connection as well.
    Taking,
}

/// A moment to the millisecond, in as few bytes as there are to spare: a number repeats after 49 days,
/// and nobody is waited for so long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Since(u32);

impl Since {
    /// Of what nobody asks.
    pub(super) const NEVER: Self = Self(0);

    /// Rounded up, so that nobody's time is up early.
    pub(super) const fn at(now: Instant) -> Self {
        Self(Self::millis(now) as u32)
    }

    /// The instant `patience` after it, which was at most 49 days before `now`.
    pub(super) fn plus(self, patience: Duration, now: Instant) -> Instant {
        let now = Self::millis(now);
        let passed = (now as u32).wrapping_sub(self.0);
        Instant::from_millis(now.saturating_sub(passed.into())) + patience
    }

    const fn millis(now: Instant) -> u64 {
        now.as_millis() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_known_again_also_when_its_number_has_repeated() {
        let hour = Duration::from_secs(3600);
        for start in [0, 1, u64::from(u32::MAX) - 1, u64::from(u32::MAX), 1 << 32, 5 << 32] {
            let start = Instant::from_millis(start) + Duration::from_micros(300);
            let since = Since::at(start);
            for later in [Duration::ZERO, hour, hour * 24 * 49] {
                let up = since.plus(hour, start + later);
                assert!(up >= start + hour, "not early");
                assert!(up.since(start + hour) <= Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn endless_patience_has_no_end() {
        let now = Instant::from_millis(77);
        assert_eq!(Since::at(now).plus(Patience::ENDLESS.idle, now), Instant::NEVER);
    }
}
