//! Additive increase, multiplicative decrease: RFC 5681. Together with the sender's recovery
//! (`ack`) this is NewReno, RFC 6582.

use super::{
    Acked, CongestionControl, Limited, WINDOW_MAX, countable, decayed, flight_size, slow_start,
    still_good,
};
use crate::time::Instant;

/// All in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct NewReno {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged towards the next increase in congestion avoidance.
    credit: u32,
}

impl NewReno {
    pub(super) const fn new(initial: u32) -> Self {
        Self::plain(initial, u32::MAX)
    }

    pub(super) const fn plain(cwnd: u32, ssthresh: u32) -> Self {
        Self { cwnd, ssthresh, credit: 0 }
    }

    /// One segment a round trip, counted in bytes as RFC 3465 §2.1 does.
    fn avoid_congestion(&mut self, acked: u32, mss: u32) {
        self.credit = self.credit.saturating_add(acked);
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.cwnd = (self.cwnd + mss).min(WINDOW_MAX);
        }
    }

    /// RFC 5681 equation 4.
    fn halve(&mut self, flight: u64, mss: u32) {
        let half = u32::try_from(flight_size(flight, self.cwnd) / 2).unwrap_or(WINDOW_MAX);
        self.ssthresh = half.max(2 * mss);
        self.credit = 0;
    }
}

impl CongestionControl for NewReno {
    fn window(&self) -> u32 {
        self.cwnd
    }

    fn threshold(&self) -> u32 {
        self.ssthresh
    }

    fn on_ack(&mut self, Acked { bytes, mss, limited, growth, .. }: Acked) {
        if limited == Limited::ByOther {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd = slow_start(self.cwnd, self.ssthresh, countable(bytes), growth);
        } else {
            self.avoid_congestion(countable(bytes), mss);
        }
    }

    fn end_search(&mut self) {
        self.ssthresh = self.cwnd;
    }

    fn on_loss(&mut self, flight: u64, mss: u32) {
        self.halve(flight, mss);
        self.cwnd = self.ssthresh;
    }

    fn on_timeout(&mut self, flight: u64, mss: u32) {
        self.halve(flight, mss);
        self.cwnd = mss;
    }

    fn on_timeout_again(&mut self, mss: u32) {
        self.cwnd = mss;
    }

    fn on_idle(&mut self, halvings: u32, initial: u32) {
        let window = decayed(self.cwnd, halvings, initial);
        if window < self.cwnd {
            self.ssthresh = self.ssthresh.max(still_good(self.cwnd));
            self.cwnd = window;
        }
    }

    fn on_undo(&mut self, _now: Instant, window: u32) {
        self.cwnd = self.cwnd.max(window);
    }

    fn on_mss(&mut self, mss: u32) {
        self.cwnd = self.cwnd.max(mss);
    }
}
