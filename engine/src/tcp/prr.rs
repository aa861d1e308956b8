//! How much goes out in fast recovery: proportional rate reduction, RFC 9937.
//!
//! A reduction leaves more in the network than the new window allows. To wait until that has
//! drained is half a round trip of silence and then a burst. So for what is delivered a share is
//! sent, such that by the end of the round trip just the new window is out; and if losses took
//! more than that, what is delivered is sent, and one segment more for each step forward.
//!
//! ```text
//!     RecoverFS     |██████████████████████|    in flight when the loss was noticed
//!     ssthresh      |███████████████|           the window from now on
//!     delivered     a b c d e f g h i j         each answered by ssthresh ÷ RecoverFS of it
//!     sent          a b   c d   e f   g
//! ```

use super::Tcb;
use super::tcb::Phase;

/// The variables of RFC 9937 §5, in bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Prr {
    /// RecoverFS; zero outside of fast recovery.
    recover_fs: u64,
    /// prr_delivered.
    delivered: u64,
    /// prr_out.
    out: u64,
    /// cwnd: what was in flight, and SndCnt. What is found lost later makes room in it.
    window: u64,
}

impl Prr {
    /// Recovery begins with `flight` bytes not known to have been delivered, of which `pipe` are
    /// not known to be lost.
    pub(super) const fn begin(flight: u64, pipe: u64) -> Self {
        Self { recover_fs: flight, delivered: 0, out: 0, window: pipe }
    }

    /// An acknowledgment delivered so many bytes, and so many are still out. `safe`: it moved
    /// SND.UNA, and told of no further loss.
    fn on_ack(&mut self, delivered: u64, pipe: u64, ssthresh: u64, mss: u64, safe: bool) {
        self.delivered += delivered;
        let owed = if pipe > ssthresh {
            self.share(ssthresh).saturating_sub(self.out)
        } else {
            let answer = self.delivered.saturating_sub(self.out).max(delivered);
            (answer + if safe { mss } else { 0 }).min(ssthresh - pipe)
        };
        self.window = pipe + owed;
    }

    /// What of `ssthresh` the delivered part of what was in flight has earned.
    fn share(&self, ssthresh: u64) -> u64 {
        let earned = u128::from(self.delivered) * u128::from(ssthresh);
        u64::try_from(earned.div_ceil(self.recover_fs.max(1).into())).unwrap_or(u64::MAX)
    }
}

impl Tcb {
    /// Whether a reduction is under way: in fast recovery, or for a mark.
    fn reducing(&self) -> bool {
        let reducing = match self.snd.phase {
            Phase::Open => self.slowed_by_mark(),
            Phase::Fast => true,
            Phase::Timeout => false,
        };
        self.sack && reducing
    }

    /// What may be sent in fast recovery; `None` when the congestion window says how much. Without
    /// SACK nobody knows what was delivered.
    ///
    /// With nothing in flight a segment may go: no acknowledgment would come to allow it.
    pub(super) fn prr_room(&self) -> Option<u64> {
        let flight = self.snd.flight.as_ref().filter(|_| self.reducing())?;
        let (pipe, window) = (self.pipe(), flight.prr.window);
        Some(if pipe == 0 { window.max(self.mss_u64()) } else { window.saturating_sub(pipe) })
    }

    /// Bytes known to have been delivered so far.
    pub(super) fn delivered(&self) -> u64 {
        self.snd.una + self.snd.flight.as_ref().map_or(0, |flight| flight.sent.held())
    }

    /// An acknowledgment in fast recovery, the first included: `delivered` as it was before.
    pub(super) fn reduce_in_proportion(&mut self, before: u64, fresh: bool, worse: bool) {
        if !self.reducing() {
            return;
        }
        let delivered = self.delivered().saturating_sub(before);
        let (pipe, mss) = (self.pipe(), self.mss_u64());
        let ssthresh = self.snd.congestion.window().into();
        if let Some(flight) = &mut self.snd.flight {
            flight.prr.on_ack(delivered, pipe, ssthresh, mss, fresh && !worse);
        }
    }

    /// `len` bytes went out.
    pub(super) fn note_prr_sent(&mut self, len: u64) {
        if self.reducing()
            && let Some(flight) = &mut self.snd.flight
        {
            flight.prr.out += len;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9937 §6's first example, in segments of one byte: 20 out, the first lost, and seven
    /// tenths to go on with.
    #[test]
    fn one_loss_is_answered_in_proportion() {
        let mut prr = Prr::begin(20, 19);
        let mut pipe = 19;
        let mut sent = Vec::new();
        for _ in 0..19 {
            pipe -= 1;
            prr.on_ack(1, pipe, 14, 1, false);
            sent.push(prr.window - pipe);
            prr.out += prr.window - pipe;
            pipe = prr.window;
        }
        assert_eq!(sent.iter().sum::<u64>(), 14, "{sent:?}");
        assert!(sent.windows(4).all(|four| four.contains(&1)), "spread evenly: {sent:?}");
        assert_eq!(pipe, 14);
    }

    /// Losses took more than the window: what is delivered is sent, and no burst fills the rest.
    #[test]
    fn heavy_loss_is_answered_byte_for_byte() {
        let mut prr = Prr::begin(20, 5);
        prr.on_ack(1, 4, 14, 1, false);
        assert_eq!(prr.window, 4 + 1);
        prr.out += 1;
        prr.on_ack(1, 4, 14, 1, true);
        assert_eq!(prr.window, 4 + 2, "and one more if that was progress");
        prr.out += 2;
        prr.on_ack(9, 13, 14, 1, true);
        assert_eq!(prr.window, 13 + 1, "never above ssthresh");
    }

    /// A share of less than a byte is a byte: RFC 9937 §5 rounds up.
    #[test]
    fn the_first_delivery_is_answered() {
        let mut prr = Prr::begin(300, 299);
        prr.on_ack(1, 298, 150, 100, false);
        assert_eq!(prr.window, 298 + 1);
    }

    #[test]
    fn at_the_new_window_nothing_more_is_owed() {
        let mut prr = Prr::begin(20, 19);
        prr.on_ack(5, 14, 14, 1, false);
        assert_eq!(prr.window, 14);
    }

    #[test]
    fn what_was_earned_and_not_sent_is_still_owed_and_the_latest_always() {
        let mut prr = Prr::begin(20, 5);
        prr.on_ack(3, 2, 14, 1, false);
        prr.on_ack(1, 1, 14, 1, false);
        assert_eq!(prr.window, 1 + 4);
        prr.out += 10;
        prr.on_ack(1, 1, 14, 1, false);
        assert_eq!(prr.window, 1 + 1, "though more was sent than earned");
    }
}
