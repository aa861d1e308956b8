//! What goes out, and how far it may go.

use super::settings::Settings;
use crate::wire::{Flags, FourTuple, SeqNum, TcpHeader, TcpOptions};

/// Time to live, or hop limit, of what is not passed on. Routers take from it, so that a neighbour sees
/// that it comes from one: RFC 5082. RFC 1700 recommends 64, and no less.
pub(crate) const HOP_LIMIT: u8 = 255;

/// One segment to send; a super-segment if `payload` is more than `mss`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// SEG.SEQ.
    pub seq: SeqNum,
    /// SEG.ACK; zero without [`Flags::ACK`].
    pub ack: SeqNum,
    /// The control bits. On a super-segment FIN and PSH belong to the last piece.
    pub flags: Flags,
    /// SEG.WND as it goes on the wire.
    pub window: u16,
    /// The options. With payload, never more than timestamps, so that the header's length is
    /// known before the payload is fetched: [`Tcb::payload_options_len`](super::Tcb::payload_options_len).
    pub options: TcpOptions,
    /// Payload bytes that `fetch` placed.
    pub payload: usize,
    /// Payload bytes per piece when the segment is cut on its way out.
    pub mss: u16,
    /// The ECN codepoint of the IP header: ECT(0) on new data if ECN was negotiated, else 0.
    pub ecn: u8,
}

impl Transmit {
    /// SEG.LEN: the payload, and one each for SYN and FIN.
    pub fn len(&self) -> u64 {
        self.payload as u64
            + u64::from(self.flags.contains(Flags::SYN))
            + u64::from(self.flags.contains(Flags::FIN))
    }

    /// Whether the segment occupies no sequence space.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The headers of the segment's packet. `ip_id` is the IPv4 packet's identification.
    pub fn header(&self, tuple: FourTuple, ip_id: u16) -> TcpHeader {
        TcpHeader {
            tuple,
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            options: self.options.clone(),
            ecn: self.ecn,
            ttl: HOP_LIMIT,
            ip_id,
        }
    }
}

/// What a connection may reveal: `docs/adr/0002-two-horizons.md`.
///
/// A horizon only moves forward. When a standby joins and the horizons come down from infinity,
/// they stop at what has been revealed already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Horizon {
    /// Whether anything at all may be sent, the SYN-ACK included.
    pub opened: bool,
    /// The acknowledgment field stays at or below this input offset. A FIN counts one.
    pub received: u64,
    /// Payload ends at this output offset. A FIN at offset `end` needs `output > end`.
    pub output: u64,
}

impl Horizon {
    /// No limits: nobody else has to know first.
    pub const OPEN: Self = Self { opened: true, received: u64::MAX, output: u64::MAX };
    /// Nothing may leave yet.
    pub const SHUT: Self = Self { opened: false, received: 0, output: 0 };
}

/// The largest segment a packet of `mtu` bytes carries without options, RFC 9293 §3.7.1.
pub(super) fn mss_for(mtu: u16, ipv6: bool) -> u16 {
    mtu.saturating_sub(if ipv6 { 60 } else { 40 }).max(MSS_MIN)
}

/// The window field of a SYN: never scaled, RFC 7323 §2.2.
pub(super) fn syn_window(settings: &Settings) -> u16 {
    u16::try_from(settings.receive_buffer).unwrap_or(u16::MAX).min(settings.first_window)
}

/// The least MSS we work with, so that a tiny offer cannot make us send headers only.
pub(super) const MSS_MIN: u16 = 64;
/// What a peer that offers no MSS takes over IPv4, RFC 9293 §3.7.1.
pub(super) const MSS_DEFAULT_V4: u16 = 536;
/// What a peer that offers no MSS takes over IPv6.
pub(super) const MSS_DEFAULT_V6: u16 = 1220;
/// Bytes of a timestamps option with its padding, RFC 7323 appendix A.
pub(super) const TIMESTAMPS_LEN: u16 = 12;
