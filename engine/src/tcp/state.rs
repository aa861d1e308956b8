//! The eleven states, RFC 9293 §3.3.2.

use core::fmt;

/// A connection's state, under its RFC name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No connection.
    Closed,
    /// Waiting for any SYN. A connection passes through it on its way to SYN-RECEIVED.
    Listen,
    /// SYN sent, none received.
    SynSent,
    /// SYN received and answered, not acknowledged yet.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// Our FIN is out and not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged; the peer has not finished.
    FinWait2,
    /// The peer has finished; we have not.
    CloseWait,
    /// Both FINs crossed; ours is not acknowledged.
    Closing,
    /// The peer finished first; our FIN is not acknowledged.
    LastAck,
    /// Both are done; waiting for what may still be under way.
    TimeWait,
}

impl State {
    /// Both SYNs are acknowledged: RFC 9293 §3.4.1's "synchronized".
    pub const fn synchronized(self) -> bool {
        !matches!(self, Self::Closed | Self::Listen | Self::SynSent | Self::SynReceived)
    }

    /// Data or a FIN of ours may be (re)sent here.
    pub(super) const fn may_send(self) -> bool {
        matches!(
            self,
            Self::Established | Self::FinWait1 | Self::CloseWait | Self::Closing | Self::LastAck
        )
    }

    /// The peer's text is taken here.
    pub(super) const fn may_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// The arrows of RFC 9293 figure 5. Every state may be given up.
    pub(super) const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (_, Self::Closed)
                | (Self::Closed, Self::Listen | Self::SynSent)
                | (Self::Listen | Self::SynSent, Self::SynReceived)
                | (Self::SynSent | Self::SynReceived, Self::Established)
                | (Self::Established, Self::FinWait1 | Self::CloseWait)
                | (Self::FinWait1, Self::FinWait2 | Self::Closing | Self::TimeWait)
                | (Self::FinWait2 | Self::Closing, Self::TimeWait)
                | (Self::CloseWait, Self::LastAck)
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        })
    }
}
