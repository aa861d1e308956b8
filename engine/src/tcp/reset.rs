//! The answer to a segment that belongs to nothing.

use super::Transmit;
use crate::wire::{Flags, Segment, SeqNum, TcpOptions};

/// The reset for a segment to a closed port, RFC 9293 §3.10.7.1. A reset is never answered.
pub fn reset_for(segment: &Segment<'_>) -> Option<Transmit> {
    if segment.flags.contains(Flags::RST) {
        return None;
    }
    Some(if segment.flags.contains(Flags::ACK) {
        reset_at(segment.ack, None)
    } else {
        reset_at(SeqNum(0), Some(segment.seq.add(segment.len())))
    })
}

/// A bare reset.
pub(super) fn reset_at(seq: SeqNum, ack: Option<SeqNum>) -> Transmit {
    Transmit {
        seq,
        ack: ack.unwrap_or_default(),
        flags: if ack.is_some() { Flags::RST | Flags::ACK } else { Flags::RST },
        window: 0,
        options: TcpOptions::default(),
        payload: 0,
        mss: 0,
        ecn: 0,
    }
}
