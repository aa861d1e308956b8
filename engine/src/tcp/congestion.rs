//! How much may be in flight: congestion control, RFC 5681.

/// The algorithm of a connection. One variant each; the caller sees bytes and events only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Congestion {
    /// RFC 5681 and RFC 6582.
    NewReno(NewReno),
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

/// Additive increase, multiplicative decrease. All in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NewReno {
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged towards the next increase in congestion avoidance.
    credit: u32,
}

impl Congestion {
    /// A fresh window of `initial` bytes.
    pub(super) const fn new(initial: u32) -> Self {
        Self::NewReno(NewReno { cwnd: initial, ssthresh: u32::MAX, credit: 0 })
    }

    /// cwnd in bytes.
    pub(super) const fn window(&self) -> u32 {
        match self {
            Self::NewReno(reno) => reno.cwnd,
        }
    }

    /// ssthresh in bytes.
    #[cfg(test)]
    pub(super) const fn threshold(&self) -> u32 {
        match self {
            Self::NewReno(reno) => reno.ssthresh,
        }
    }

    /// `acked` new bytes were acknowledged outside of fast recovery.
    pub(super) fn on_ack(&mut self, acked: u64, mss: u32, limited: Limited) {
        let acked = u32::try_from(acked).unwrap_or(u32::MAX).min(WINDOW_MAX);
        match self {
            Self::NewReno(reno) => match limited {
                Limited::ByCongestion => reno.grow(acked, mss),
                Limited::ByOther => (),
            },
        }
    }

    /// A loss was noticed by duplicate acknowledgments with `flight` bytes out, RFC 6675 §5 (4.2).
    pub(super) fn on_loss(&mut self, flight: u64, mss: u32) {
        match self {
            Self::NewReno(reno) => {
                reno.ssthresh = halved(flight, mss);
                reno.cwnd = reno.ssthresh;
                reno.credit = 0;
            }
        }
    }

    /// The retransmission timer expired for the first time on this data, RFC 5681 §3.1.
    pub(super) fn on_timeout(&mut self, flight: u64, mss: u32) {
        match self {
            Self::NewReno(reno) => {
                reno.ssthresh = halved(flight, mss);
                reno.cwnd = mss;
                reno.credit = 0;
            }
        }
    }

    /// The timer expired again before anything was acknowledged: only the window shrinks.
    pub(super) fn on_timeout_again(&mut self, mss: u32) {
        match self {
            Self::NewReno(reno) => reno.cwnd = mss,
        }
    }

    /// Nothing was sent for longer than a timeout: what was known about the path is old.
    /// RFC 5681 §4.1.
    pub(super) fn on_idle(&mut self, initial: u32) {
        match self {
            Self::NewReno(reno) => reno.cwnd = reno.cwnd.min(initial),
        }
    }

    /// The segment size changed; a window is never less than one segment.
    pub(super) fn on_mss(&mut self, mss: u32) {
        match self {
            Self::NewReno(reno) => reno.cwnd = reno.cwnd.max(mss),
        }
    }
}

impl NewReno {
    /// Slow start counts bytes, so split acknowledgments gain nothing (RFC 3465) and stretched
    /// ones, as receive offload makes them, lose nothing.
    fn grow(&mut self, acked: u32, mss: u32) {
        if self.cwnd < self.ssthresh {
            let room = self.ssthresh - self.cwnd;
            self.cwnd = (self.cwnd + acked.min(room)).min(WINDOW_MAX);
            return;
        }
        self.credit = self.credit.saturating_add(acked);
        if self.credit >= self.cwnd {
            self.credit -= self.cwnd;
            self.cwnd = (self.cwnd + mss).min(WINDOW_MAX);
        }
    }
}

/// RFC 5681 equation 4.
fn halved(flight: u64, mss: u32) -> u32 {
    u32::try_from(flight / 2).unwrap_or(WINDOW_MAX).clamp(2 * mss, WINDOW_MAX)
}

/// More can never be in flight: the largest scaled window.
const WINDOW_MAX: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    #[test]
    fn slow_start_doubles_then_avoidance_adds_one_segment_a_round() {
        let mut c = Congestion::new(10 * MSS);
        c.on_ack(10_000, MSS, Limited::ByCongestion);
        assert_eq!(c.window(), 20 * MSS);
        c.on_loss(20_000, MSS);
        assert_eq!((c.window(), c.threshold()), (10 * MSS, 10 * MSS));
        c.on_ack(10_000, MSS, Limited::ByCongestion);
        assert_eq!(c.window(), 11 * MSS);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut c = Congestion::new(10 * MSS);
        c.on_ack(10_000, MSS, Limited::ByOther);
        assert_eq!(c.window(), 10 * MSS);
    }

    #[test]
    fn a_timeout_restarts_from_one_segment_and_remembers_half() {
        let mut c = Congestion::new(10 * MSS);
        c.on_timeout(10_000, MSS);
        assert_eq!((c.window(), c.threshold()), (MSS, 5 * MSS));
        c.on_timeout_again(MSS);
        assert_eq!((c.window(), c.threshold()), (MSS, 5 * MSS));
        c.on_ack(50_000, MSS, Limited::ByCongestion);
        assert_eq!(c.window(), 5 * MSS, "slow start ends at ssthresh");
    }
}
