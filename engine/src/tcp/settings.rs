//! What an operator may choose about TCP, shared by all connections.

use super::{Algorithm, Ecn};
use crate::time::Duration;

/// The settings of a connection. Shared (`Arc`), so that an idle connection stays small.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes of input a connection may hold that its application has not consumed.
    /// 4 KiB to 1 GiB; the window scale follows from it.
    pub receive_buffer: u32,
    /// Bytes that a peer may send before it has heard more than our SYN, if `receive_buffer` is not less.
    pub first_window: u16,
    /// How long an acknowledgment may wait for a second segment. RFC 9293 §3.8.6.3: below 500 ms.
    pub delayed_ack: Duration,
    /// Least variance term of the retransmission timeout: RTO is never below SRTT plus this.
    pub rto_min: Duration,
    /// Greatest retransmission timeout after back-off, RFC 6298 §2.5: at least 60 s.
    pub rto_max: Duration,
    /// Retransmission timeout before the first sample, RFC 6298 §2.1.
    pub rto_initial: Duration,
    /// How often a SYN or SYN-ACK is repeated.
    pub syn_retries: u8,
    /// How often unacknowledged data is repeated in a row, R2 of RFC 9293 §3.8.3.
    pub data_retries: u8,
    /// How long data may stay unacknowledged, RFC 9293 §3.9.1 and RFC 5482.
    pub user_timeout: Duration,
    /// Probing of idle connections; `None`: never.
    pub keepalive: Option<Keepalive>,
    /// How long TIME-WAIT lasts, 2 MSL.
    pub time_wait: Duration,
    /// Whether no reset ends TIME-WAIT, RFC 1337.
    pub rfc1337: bool,
    /// How long to wait for the peer's FIN after ours was acknowledged, without a word from it.
    pub fin_wait_2: Duration,
    /// Offer and accept selective acknowledgments, RFC 2018.
    pub sack: bool,
    /// Offer and accept timestamps, RFC 7323.
    pub timestamps: bool,
    /// Whether routers may mark packets instead of dropping them, RFC 3168.
    pub ecn: Ecn,
    /// Initial congestion window in segments, RFC 6928.
    pub initial_window: u8,
    /// Which congestion control connections use.
    pub congestion: Algorithm,
    /// Most payload bytes per [`Transmit`](super::Transmit): what segmentation offload takes.
    pub max_segment: usize,
}

/// When and how an idle connection is probed, RFC 9293 §3.8.4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub probes: u8,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(7200), interval: Duration::from_secs(75), probes: 9 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receive_buffer: 1 << 20,
            first_window: u16::MAX,
            delayed_ack: Duration::from_millis(40),
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(120),
            rto_initial: Duration::from_secs(1),
            syn_retries: 6,
            data_retries: 15,
            user_timeout: Duration::from_secs(900),
            keepalive: Some(Keepalive::default()),
            time_wait: Duration::from_secs(60),
            rfc1337: false,
            fin_wait_2: Duration::from_secs(60),
            sack: true,
            timestamps: true,
            ecn: Ecn::default(),
            initial_window: 10,
            congestion: Algorithm::default(),
            max_segment: 61_440,
        }
    }
}

/// How far above the receive buffer the right edge may creep when the scaled window field has to
/// be rounded up so that the edge does not move back. See `receive`.
pub(super) const EDGE_SLACK: u32 = 65_536;

impl Settings {
    /// The window scale we offer: the smallest shift with which the whole receive buffer, and
    /// what a takeover may add to it, fits the window field. RFC 7323 §2.3: at most 14.
    pub fn window_scale(&self) -> u8 {
        let most = u64::from(self.receive_buffer) + 2 * u64::from(EDGE_SLACK);
        (0..14).find(|shift| most >> shift <= 65_535).unwrap_or(14)
    }
}
