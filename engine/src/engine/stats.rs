//! What the engine counts.

use crate::session::Outcome;

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
    /// SYNs dropped, and handshakes refused, because their address has all that one may have.
    pub source_refused: u64,
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
    /// Of those: reset because memory was short, and they held most of it.
    pub memory_short: u64,
    /// Connections closed because a request's head or body did not come in time.
    pub request_timeouts: u64,
    /// Connections closed because no request came.
    pub idle_timeouts: u64,
    /// Connections reset because their client took nothing of a reply for too long.
    pub reply_timeouts: u64,
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
    /// Times that a session with two servers went on without one of them.
    pub twins_lost: u64,
    /// Times that two servers said different things.
    pub differences: u64,
    /// What became of the requests that masking relays got.
    pub exchanges: Exchanges,
}

/// Requests through relays that mask a server's death, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exchanges {
    /// A server has answered.
    pub answered: u64,
    /// Times that one was sent to another server.
    pub repeated: u64,
    /// Of those that were answered: by another server than the first one that had it.
    pub continued: u64,
    /// Refused as they were, 4xx.
    pub refused: u64,
    /// Nobody has answered, or none whose answer could be passed on, 502.
    pub failed: u64,
    /// A server has not answered in time, 504.
    pub timed_out: u64,
    /// Replies that could not be continued: their clients were reset.
    pub broken: u64,
}

impl Exchanges {
    /// One more.
    pub const fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Answered => &mut self.answered,
            Outcome::Repeated => &mut self.repeated,
            Outcome::Continued => &mut self.continued,
            Outcome::Refused => &mut self.refused,
            Outcome::Failed => &mut self.failed,
            Outcome::TimedOut => &mut self.timed_out,
            Outcome::Broken => &mut self.broken,
        };
        *counter += 1;
    }
}
