//! Round-trip time and the retransmission timeout, RFC 6298.

use super::settings::Settings;
use crate::time::Duration;

/// The estimator. Microseconds in 32 bits: 71 minutes are enough for one round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rtt {
    /// SRTT; 0 before the first sample.
    srtt: u32,
    /// RTTVAR. Before the first sample: whether a handshake timed out.
    var: u32,
}

impl Rtt {
    /// An estimator that another host's estimate starts, RFC 6298 §2.2 with it as first sample.
    pub(super) fn from_hint(srtt: Duration) -> Self {
        let mut rtt = Self::default();
        if !srtt.is_zero() {
            rtt.sample(srtt);
        }
        rtt
    }

    /// Takes one measurement, RFC 6298 §2.2 and §2.3.
    pub(super) fn sample(&mut self, measured: Duration) {
        let r = u32::try_from(measured.as_micros()).unwrap_or(u32::MAX).clamp(1, SAMPLE_MAX);
        if self.srtt == 0 {
            *self = Self { srtt: r, var: r / 2 };
            return;
        }
        self.var = self.var - self.var / 4 + self.srtt.abs_diff(r) / 4;
        self.srtt = (self.srtt - self.srtt / 8 + r / 8).max(1);
    }

    /// A SYN timed out. If nothing was measured nevertheless, the first timeout of data is a long
    /// one: RFC 6298 §5.7.
    pub(super) const fn mistrust(&mut self) {
        if self.srtt == 0 {
            self.var = 1;
        }
    }

    /// SRTT, if anything was measured.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        (self.srtt != 0).then(|| Duration::from_micros(self.srtt.into()))
    }

    /// RTO after `backoff` doublings.
    ///
    /// Deviation: RFC 6298 §2.4 rounds RTO up to one second. We bound its variance term from
    /// below instead (`SRTT + max(rto_min, 4·RTTVAR)`), as Linux does: a peer's delayed
    /// acknowledgment must not look like a loss on a fast network.
    pub(super) fn timeout(&self, settings: &Settings, backoff: u8) -> Duration {
        let base = match self.smoothed() {
            None if self.var != 0 => settings.rto_initial.max(RTO_MISTRUSTED),
            None => settings.rto_initial,
            Some(srtt) => {
                srtt + settings.rto_min.max(Duration::from_micros(u64::from(self.var) * 4))
            }
        };
        base.saturating_mul(1 << u32::from(backoff).min(16)).min(settings.rto_max)
    }
}

/// RFC 6298 §5.7.
const RTO_MISTRUSTED: Duration = Duration::from_secs(3);
/// A longer measurement is a mistake of somebody's clock.
const SAMPLE_MAX: u32 = 120_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_rfc_6298() {
        let settings = Settings::default();
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(&settings, 0), Duration::from_secs(1), "2.1: before any sample");
        rtt.sample(Duration::from_millis(100));
        assert_eq!(rtt.timeout(&settings, 0), Duration::from_millis(300), "2.2: R + 4·R/2");
        rtt.sample(Duration::from_millis(100));
        assert_eq!(rtt, Rtt { srtt: 100_000, var: 37_500 }, "2.3: the variance decays");
        assert_eq!(rtt.timeout(&settings, 1), Duration::from_millis(600), "5.5: doubled");
        assert_eq!(rtt.timeout(&settings, 40), settings.rto_max, "2.5: bounded");
    }
}
