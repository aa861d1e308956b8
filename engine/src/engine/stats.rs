//! What the engine counts.

/// Counters since the start of this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets read from the TUN.
    pub packets_in: u64,
    /// Packets handed out for the TUN.
    pub packets_out: u64,
    /// Payload bytes accepted in order.
    pub bytes_in: u64,
    /// Payload bytes sent, retransmissions included.
    pub bytes_out: u64,
    /// Packets that were no packet: bad length, checksum, header.
    pub malformed: u64,
    /// Packets for another address or protocol.
    pub not_for_us: u64,
    /// Packets that came while this engine did not own the address.
    pub not_owner: u64,
    /// Segments dropped by TCP's own rules.
    pub tcp_dropped: u64,
    /// Segments dropped because the standby was too far behind.
    pub backlog_dropped: u64,
    /// SYNs dropped because the table was full.
    pub table_full: u64,
    /// Connections opened.
    pub opened: u64,
    /// Connections ended in order.
    pub closed: u64,
    /// Connections reset by their peer.
    pub reset_by_peer: u64,
    /// Connections given up for lack of an answer.
    pub timed_out: u64,
    /// Connections reset by us.
    pub aborted: u64,
    /// Of those: reset because the stream could not be continued exactly (I6).
    pub not_continued: u64,
    /// Resets sent for ports where nothing listens or connections that nobody knows.
    pub refused: u64,
    /// SYN cookies sent.
    pub cookies_sent: u64,
    /// Connections opened by a returned cookie.
    pub cookies_accepted: u64,
    /// Packets forwarded from one leg of a splice to the other.
    pub relayed: u64,
    /// Their payload bytes.
    pub relayed_bytes: u64,
    /// Times that a path to an end of a splice was found to carry less than was thought.
    pub paths_narrowed: u64,
    /// Takeovers and switchovers to this node.
    pub takeovers: u64,
    /// Connections carried over by them.
    pub carried: u64,
}
