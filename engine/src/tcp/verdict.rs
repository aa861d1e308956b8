//! What became of an event: the answer every input of a connection gives.

use core::fmt;

/// What an input did to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was taken, at least in part.
    Accepted,
    /// It changed nothing but perhaps asked for an answer.
    Dropped(DropReason),
    /// The connection is gone. Poll it once more: a reset may have to go out.
    Closed(CloseCause),
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseCause {
    /// Both sides finished, and the wait (if it was ours) is over.
    Done,
    /// The peer reset it.
    Reset,
    /// We reset it.
    Aborted,
    /// The peer did not answer within the retries or the user timeout.
    TimedOut,
    /// Keepalive probes went unanswered.
    KeepaliveTimeout,
    /// An ICMP hard error before the connection was established.
    Unreachable,
}

impl CloseCause {
    /// A stable number for records and counters.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Reset => 1,
            Self::Aborted => 2,
            Self::TimedOut => 3,
            Self::KeepaliveTimeout => 4,
            Self::Unreachable => 5,
        }
    }
}

impl fmt::Display for CloseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Reset => "reset by peer",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed out",
            Self::KeepaliveTimeout => "keepalive timed out",
            Self::Unreachable => "unreachable",
        })
    }
}

/// Why a segment or a signal was dropped. Counted by [`DropReason::index`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// No connection any more.
    Closed,
    /// Outside the receive window, RFC 9293 §3.10.7.4 first check.
    Sequence,
    /// An old timestamp, RFC 7323 §5.3.
    Paws,
    /// No timestamp although both ends agreed on them, RFC 7323 §3.2.
    TimestampMissing,
    /// A reset that does not name the next expected byte, RFC 5961 §3.
    ResetDoubtful,
    /// A reset in TIME-WAIT that does not name the next expected byte, or any: RFC 1337.
    ResetInTimeWait,
    /// A SYN inside a connection, RFC 5961 §4.
    SynInConnection,
    /// The SYN again; the SYN-ACK is repeated.
    SynRepeated,
    /// No ACK bit where one is due.
    AckMissing,
    /// An acknowledgment of what was never sent, RFC 5961 §5.
    AckUnsent,
    /// An acknowledgment older than any window, RFC 5961 §5.
    AckAncient,
    /// An acknowledgment that does not fit the handshake; answered by a reset.
    Handshake,
    /// An ICMP message that quotes nothing in flight, or says nothing new, RFC 5927 §4.
    Icmp,
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = 13;

    /// The place of this reason in an array of counters, below [`DropReason::COUNT`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Sequence => "outside window",
            Self::Paws => "old timestamp",
            Self::TimestampMissing => "timestamp missing",
            Self::ResetDoubtful => "doubtful reset",
            Self::ResetInTimeWait => "reset in TIME-WAIT",
            Self::SynInConnection => "SYN in connection",
            Self::SynRepeated => "SYN repeated",
            Self::AckMissing => "ACK missing",
            Self::AckUnsent => "ACK of unsent data",
            Self::AckAncient => "ancient ACK",
            Self::Handshake => "bad handshake ACK",
            Self::Icmp => "unproven ICMP",
        })
    }
}
