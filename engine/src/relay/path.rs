//! The path to an end that carries less than the LAN: kept here, for that end alone.
//!
//! A router that drops a packet of a splice as too big tells the service address, which sent it, or so
//! it seems. Told on to the host at the other end, it would be believed of *everybody*: that host sees
//! one peer, the service address, and keeps one path MTU for it (RFC 8201 §5.2). So it is not told, and
//! what is too long for one end goes on in pieces.
//!
//! ```text
//!   backend ── 1500 ──► [ too long for this client ] ── 1400, 100 ──► client
//!                        every other client gets it as it is
//! ```
//!
//! What was lost is sent again by its sender, as if by congestion. An owner knows of a path only what it
//! was told itself: after a takeover the next packet that is too long is lost once more.

use super::splice::Entry;
use super::*;

/// How long a path is believed to be narrow (RFC 8201 §4, RFC 1191 §6.3).
const LIFETIME: Duration = Duration::from_secs(600);

/// Less is not believed: over IPv4 what Linux takes for its least (`min_pmtu`), over IPv6 RFC 8200 §5.
const MTU_MIN_V4: u16 = 552;
const MTU_MIN_V6: u16 = 1280;

/// How far a number may lie from the last that passed to be on its way, where the other end's word is
/// not known.
const FLIGHT: u32 = 1 << 20;

/// A narrow path to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Narrow {
    mtu: u16,
    until: Instant,
}

/// What became of the news that a packet was too big.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooBig {
    /// It is of no splice.
    Foreign,
    /// It quotes nothing that is on its way, or is no news.
    Ignored,
    /// From now on what goes there is cut.
    Noted,
}

impl Relays {
    /// A router says that a packet which we sent on `leg`, from `seq` on, was larger than `mtu`.
    pub fn on_too_big(&mut self, now: Instant, leg: &FourTuple, seq: SeqNum, mtu: u32) -> TooBig {
        let Some((id, to)) = self.table.find(leg) else { return TooBig::Foreign };
        let most = self.limits.mtu;
        let Some(entry) = self.table.get_mut(id) else { return TooBig::Foreign };
        let least = if leg.is_ipv6() { MTU_MIN_V6 } else { MTU_MIN_V4 };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(least);
        let before = entry.mtu_towards(now, to).unwrap_or(most);
        if mtu >= before || entry.is_opening() || !entry.is_on_its_way(to.other(), seq) {
            return TooBig::Ignored;
        }
        entry.narrow[to as usize] = Some(Narrow { mtu, until: now + LIFETIME });
        TooBig::Noted
    }
}

impl Entry {
    /// What a packet to the end at `to` may have.
    pub(super) fn mtu_towards(&self, now: Instant, to: Side) -> Option<u16> {
        let narrow = self.narrow[to as usize]?;
        (now < narrow.until).then_some(narrow.mtu)
    }

    /// Whether a segment of `from`'s that the other end reads as `seq` may be on its way.
    fn is_on_its_way(&self, from: Side, seq: SeqNum) -> bool {
        let seq = if from == Side::Client { seq.sub(self.splice.seq) } else { seq };
        match (&self.track, self.last[from as usize]) {
            (Some(track), _) => track.is_outstanding(from, seq),
            (None, Some(last)) => last.since(seq).wrapping_sub(1) < FLIGHT,
            (None, None) => false,
        }
    }
}
