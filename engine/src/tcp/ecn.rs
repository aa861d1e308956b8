//! Explicit congestion notification, RFC 3168: a router marks instead of dropping.
//!
//! ```text
//!     sender ── ECT(0), data ──► router ── CE, data ──► receiver
//!        ▲                                                 │
//!        └──── ECE on every acknowledgment until CWR ◄─────┘
//! ```
//!
//! As receiver we repeat the echo until the peer says that it has slowed down. As sender we slow
//! down as for a loss, once for a window, and say so with the next new data.
//!
//! **A takeover** keeps the agreement ([`Hard::ecn`](super::Hard::ecn)) and forgets the rest. As
//! sender that costs nothing: a peer whose echo was not answered goes on echoing, and the new host
//! answers, from a window that is small anyway. As receiver a mark can be lost, if it came and was
//! not echoed before the old host fell silent; that is as if the router had let this one segment
//! pass, and a queue that stays long marks the next. To echo without having seen a mark would make
//! every takeover cost every client half its window.

use super::Tcb;
use super::prr::Prr;
use super::tcb::Phase;
use crate::wire::{Flags, Segment};

/// Whether connections use ECN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ecn {
    /// A peer that asks is refused.
    Never,
    /// If the peer asks.
    #[default]
    Accept,
    /// If the peer asks; and a SYN of ours asks.
    Offer,
}

/// Both flags in a SYN ask for ECN; ECE alone in a SYN-ACK agrees.
const ASKS: Flags = Flags::ECE.union(Flags::CWR);
/// The codepoint of what may be marked.
pub(super) const ECT_0: u8 = 2;

impl Ecn {
    /// The flags that a SYN-ACK adds if the SYN asked.
    pub(super) fn answer(self, syn: &Segment<'_>) -> Flags {
        if self != Self::Never && syn.flags.contains(ASKS) { Flags::ECE } else { Flags::empty() }
    }
}

impl Tcb {
    /// What a SYN agrees on, RFC 3168 §6.1.1. A SYN that crosses ours asks in vain.
    pub(super) fn negotiate_ecn(&self, syn: &Segment<'_>) -> bool {
        let ecn = self.settings.ecn;
        if !self.active_open {
            return ecn.answer(syn) == Flags::ECE;
        }
        let agrees = syn.flags.intersection(ASKS) == Flags::ECE;
        ecn == Ecn::Offer && agrees && syn.flags.contains(Flags::ACK)
    }

    /// The flags of our own SYN or SYN-ACK. A repeated SYN does not ask: whatever swallowed the
    /// first may have done so for that, §6.1.1.1.
    pub(super) fn ecn_handshake_flags(&self, active: bool) -> Flags {
        match active {
            true if self.settings.ecn == Ecn::Offer && self.snd.backoff == 0 => ASKS,
            false if self.ecn => Flags::ECE,
            true | false => Flags::empty(),
        }
    }

    /// A segment with text that was acceptable, §6.1.3. CWR ends the echo of marks before it.
    pub(super) fn note_mark(&mut self, segment: &Segment<'_>) {
        if !self.ecn {
            return;
        }
        if segment.flags.contains(Flags::CWR) {
            self.rcv.echo = false;
        }
        if segment.marked {
            // The sender is to hear of it soon: the echo does not wait for a second segment.
            self.owe_ack_now();
            self.rcv.echo = true;
        }
    }

    /// The flag that an acknowledgment carries, or not.
    pub(super) fn ecn_echo(&self) -> Flags {
        if self.rcv.echo { Flags::ECE } else { Flags::empty() }
    }

    /// An acceptable acknowledgment, which may echo a mark: §6.1.2. Once for a window of data: not
    /// again before the peer has heard that we slowed down, and not for what a loss has paid for.
    /// `flight` was out before it.
    pub(super) fn take_echo(&mut self, segment: &Segment<'_>, flight: u64) {
        let echoed = self.ecn && segment.flags.intersection(ASKS | Flags::SYN) == Flags::ECE;
        let una = self.snd.una;
        let told = self.snd.flight.as_ref().is_none_or(|flight| una >= flight.told);
        if !echoed || self.snd.cwr_due || !told || self.snd.phase != Phase::Open {
            return;
        }
        let (left, mss) = (self.bytes_in_flight(), self.mss_u32());
        self.snd.congestion.control().on_loss(flight, mss);
        // It was no mistake.
        self.snd.undo = None;
        self.snd.cwr_due = true;
        let nxt = self.snd.nxt;
        if let Some(out) = &mut self.snd.flight {
            out.prr = Prr::begin(left - out.sent.held(), out.sent.flying());
            out.slowed = nxt;
        }
    }

    /// Whether the window was reduced for a mark within this window of data.
    pub(super) fn slowed_by_mark(&self) -> bool {
        self.snd.flight.as_ref().is_some_and(|flight| self.snd.una < flight.slowed)
    }

    /// The congestion window went down for a loss; the peer hears of that, too, §6.1.2.
    pub(super) const fn note_slowed(&mut self) {
        self.snd.cwr_due = self.ecn;
    }

    /// New data with ECN: the IP header's codepoint, and the flags. After a takeover what is new
    /// to us may have been sent before, and what is sent again is not to be marked, §6.1.5.
    pub(super) fn mark_new_data(&mut self, start: u64, payload: usize) -> (u8, Flags) {
        if !self.ecn || payload == 0 {
            return (0, Flags::empty());
        }
        let told = core::mem::take(&mut self.snd.cwr_due);
        let codepoint = if start < self.snd.recover { 0 } else { ECT_0 };
        (codepoint, if told { Flags::CWR } else { Flags::empty() })
    }

    /// CWR went out with what ends at `end`.
    pub(super) fn note_told(&mut self, end: u64) {
        if let Some(flight) = &mut self.snd.flight {
            flight.told = end;
        }
    }
}
