//! How much may be in flight: congestion control.
//!
//! The sender says what happened, in bytes and times; an algorithm says how large the window is.
//! It knows nothing of segments, sequence numbers or timers.
//!
//! ```text
//!     on_ack, on_loss, on_timeout, …  ──►  NewReno | Cubic  ──►  window(), threshold()
//! ```
//!
//! [`CongestionControl`] is what an algorithm is; [`Congestion`] is a connection's own, held by
//! value: a box per connection would cost more than the state, and a copy is all that taking a
//! reduction back needs.

mod cubic;
mod newreno;
#[cfg(test)]
mod tests;

use super::hystart::Growth;
use crate::time::{Duration, Instant};
use cubic::Cubic;
use newreno::NewReno;

/// Which algorithm the connections of an engine use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Algorithm {
    /// RFC 9438: windows that grow by time, not by round trips.
    #[default]
    Cubic,
    /// RFC 5681 and RFC 6582.
    NewReno,
}

/// Whether the sender was held back by the congestion window when it last had something to send.
/// A window that was not used has not been tested, and must not grow: RFC 7661.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limited {
    /// By the congestion window.
    ByCongestion,
    /// By the application, the peer's window or a horizon.
    ByOther,
}

/// New data was acknowledged outside of fast recovery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    /// When.
    pub(super) now: Instant,
    /// Bytes, at most [`WINDOW_MAX`] of which count.
    pub(super) bytes: u64,
    /// Payload bytes per segment.
    pub(super) mss: u32,
    /// Smoothed round-trip time; zero if unknown.
    pub(super) srtt: Duration,
    /// What held the sender back.
    pub(super) limited: Limited,
    /// How slow start goes on.
    pub(super) growth: Growth,
}

/// An algorithm. Windows are bytes; `mss` is the payload of one segment.
pub(super) trait CongestionControl {
    /// cwnd.
    fn window(&self) -> u32;

    /// ssthresh; `u32::MAX` while nothing is known.
    fn threshold(&self) -> u32;

    /// New data was acknowledged.
    fn on_ack(&mut self, acked: Acked);

    /// What the path can carry was found without a loss: the first slow start is over.
    fn end_search(&mut self);

    /// A loss was noticed, or a mark that stands for one, with `flight` bytes out. That may be
    /// more than the window: what the peer holds behind a gap counts, and leaves room for more.
    fn on_loss(&mut self, flight: u64, mss: u32);

    /// The retransmission timer expired for the first time on this data.
    fn on_timeout(&mut self, flight: u64, mss: u32);

    /// The timer expired again before anything was acknowledged, or within a reduction: only the
    /// window shrinks.
    fn on_timeout_again(&mut self, mss: u32);

    /// Nothing was sent for `halvings` timeouts: what was known about the path is old. The window
    /// decays, but not below the `initial` one, RFC 2861 §3.
    fn on_idle(&mut self, halvings: u32, initial: u32);

    /// Nothing was in flight until `now`: a time that proved nothing.
    fn on_pause(&mut self, _now: Instant) {}

    /// The reduction before which this state was put aside was a mistake: it is in force again.
    /// `window` is what the connection has by now, which it keeps if it is more.
    fn on_undo(&mut self, now: Instant, window: u32);

    /// The segment size changed; a window is never less than one segment.
    fn on_mss(&mut self, mss: u32);
}

/// A connection's congestion control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Congestion {
    Cubic(Cubic),
    NewReno(NewReno),
}

impl Congestion {
    /// A fresh window of `initial` bytes.
    pub(super) const fn new(algorithm: Algorithm, initial: u32) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::new(initial)),
            Algorithm::NewReno => Self::NewReno(NewReno::new(initial)),
        }
    }

    /// All there is to know before the first reduction: cwnd and ssthresh.
    pub(super) const fn plain(algorithm: Algorithm, window: u32, threshold: u32) -> Self {
        match algorithm {
            Algorithm::Cubic => Self::Cubic(Cubic::plain(window, threshold)),
            Algorithm::NewReno => Self::NewReno(NewReno::plain(window, threshold)),
        }
    }

    /// What it does, whichever it is.
    pub(super) fn control(&mut self) -> &mut dyn CongestionControl {
        match self {
            Self::Cubic(cubic) => cubic,
            Self::NewReno(reno) => reno,
        }
    }

    /// Whether slow start is under way for the first time: the path is not known.
    pub(super) fn searching(&self) -> bool {
        self.threshold() == u32::MAX
    }

    /// Whether slow start is under way.
    pub(super) fn in_slow_start(&self) -> bool {
        self.window() < self.threshold()
    }

    /// ssthresh in bytes; `u32::MAX` while nothing is known.
    pub(super) fn threshold(&self) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.threshold(),
            Self::NewReno(reno) => reno.threshold(),
        }
    }

    /// cwnd in bytes.
    pub(super) fn window(&self) -> u32 {
        match self {
            Self::Cubic(cubic) => cubic.window(),
            Self::NewReno(reno) => reno.window(),
        }
    }
}

/// FlightSize, of which a reduction leaves a part: never more than the window, or a loss would
/// widen it.
fn flight_size(flight: u64, cwnd: u32) -> u64 {
    flight.min(cwnd.into())
}

/// Bytes acknowledged, as far as they count: no window is larger.
fn countable(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(WINDOW_MAX)
}

/// Slow start, RFC 5681 §3.1. It counts bytes, so split acknowledgments gain nothing (RFC 3465)
/// and stretched ones, as receive offload makes them, lose nothing. It ends at `ssthresh`.
fn slow_start(cwnd: u32, ssthresh: u32, acked: u32, growth: Growth) -> u32 {
    let acked = if growth == Growth::Quarter { acked / 4 } else { acked };
    (cwnd + acked.min(ssthresh.saturating_sub(cwnd))).min(WINDOW_MAX)
}

/// What a pause of `halvings` timeouts leaves of cwnd, if it is less: half for each, RFC 2861 §3.1.
fn decayed(cwnd: u32, halvings: u32, initial: u32) -> u32 {
    cwnd.checked_shr(halvings).unwrap_or(0).max(initial)
}

/// What of an old window is a good guess for ssthresh: three quarters, RFC 2861 §3.1.
fn still_good(cwnd: u32) -> u32 {
    cwnd / 4 * 3
}

/// More can never be in flight: the largest scaled window.
const WINDOW_MAX: u32 = 1 << 30;
