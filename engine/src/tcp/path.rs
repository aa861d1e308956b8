//! What the network says about the path: ICMP, by the rules of RFC 5927.

use super::{CloseCause, DropReason, State, Tcb, Verdict};
use crate::time::Instant;
use crate::wire::SeqNum;

/// An ICMP error about a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathSignal {
    /// A packet was too big for a link: RFC 1191, RFC 8201.
    TooBig {
        /// The largest packet that would pass, in bytes; [`plateau_below`] if the router did not
        /// say.
        mtu: u32,
    },
    /// Something that may pass: network or host unreachable, time exceeded.
    SoftError,
    /// Something that will not: protocol or port unreachable, administratively prohibited.
    HardError,
}

impl Tcb {
    /// An ICMP error quoting a segment of ours that began at `seq`.
    ///
    /// A quoted number that is not in flight proves nothing, and is dropped (RFC 5927 §4). A hard
    /// error ends a handshake; in a synchronized state it is no more than a soft one (§5.2).
    pub fn on_icmp(&mut self, now: Instant, signal: PathSignal, seq: SeqNum) -> Verdict {
        if !self.in_flight(seq) {
            return Verdict::Dropped(DropReason::Icmp);
        }
        match signal {
            PathSignal::TooBig { mtu } => self.lower_mtu(mtu),
            PathSignal::HardError if matches!(self.state, State::SynSent | State::SynReceived) => {
                self.close(now, CloseCause::Unreachable)
            }
            PathSignal::HardError | PathSignal::SoftError => Verdict::Accepted,
        }
    }

    /// Whether `seq` lies in SND.UNA =< seq < SND.NXT.
    fn in_flight(&self, seq: SeqNum) -> bool {
        if matches!(self.state, State::SynSent | State::SynReceived) {
            return seq == self.iss && !self.syn_due;
        }
        u64::from(seq.since(self.seq_of(self.snd.una))) < self.snd.nxt - self.snd.una
    }

    /// Takes a smaller path MTU and sends again what is out in smaller pieces. That is no sign of
    /// congestion, so the congestion window stays (RFC 8899 §3, RFC 1191 §6.5).
    fn lower_mtu(&mut self, mtu: u32) -> Verdict {
        let least = if self.ipv6 { MTU_MIN_V6 } else { MTU_MIN_V4 };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(least);
        if mtu >= self.mtu {
            return Verdict::Dropped(DropReason::Icmp);
        }
        log::debug!("{:?} path MTU {} -> {mtu}", self.iss, self.mtu);
        self.mtu = mtu;
        let mss = self.mss_u32();
        self.snd.congestion.control().on_mss(mss);
        if self.state.may_send() {
            self.mark_all_lost();
        }
        Verdict::Accepted
    }
}

impl Tcb {
    /// Full segments time out again and again: perhaps a router drops what is too big and does not
    /// say so. Then smaller ones are tried (RFC 4821 §7.7 in its simplest form). The path is not
    /// asked again whether it takes more: small segments cost little here, and a wrong guess costs
    /// seconds.
    pub(super) fn suspect_black_hole(&mut self) {
        let full = self.bytes_in_flight() >= self.mss_u64();
        if !full || self.snd.repeats < BLACK_HOLE_TIMEOUTS {
            return;
        }
        let smaller = if self.mtu > MTU_MIN_V6 { MTU_MIN_V6 } else { MTU_MIN_V4 };
        self.lower_mtu(smaller.into());
    }
}

/// The next smaller MTU of RFC 1191 §7's table, for a packet of `len` bytes that was too big for a
/// router that did not say how big is too big.
pub fn plateau_below(len: u32) -> u32 {
    PLATEAUS.into_iter().find(|mtu| *mtu < len).unwrap_or(MTU_MIN_V4.into())
}

/// RFC 1191 §7, as far as it is believed.
const PLATEAUS: [u32; 9] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1280, 1006, 552];
/// Timeouts in a row after which full segments are suspected: about six seconds.
const BLACK_HOLE_TIMEOUTS: u8 = 4;
/// Less is not believed over IPv4, as in Linux's `min_pmtu`: it would only make us slow.
const MTU_MIN_V4: u16 = 552;
/// RFC 8200 §5.
const MTU_MIN_V6: u16 = 1280;
