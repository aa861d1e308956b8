//! The answer to a segment that belongs to nothing, and the question that calls for one.

use super::{Hard, Transmit};
use crate::time::Instant;
use crate::wire::{Flags, Segment, SeqNum, TcpOptions, Timestamps};

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

/// The last word of a connection that cannot be gone on with. Another may have sent more than `hard`
/// knows of, so a reset might have a number that its peer does not believe (RFC 5961 §3.2). This
/// asks: an empty segment below the window is answered with what the peer expects (RFC 9293
/// §3.10.7.4, first step), and that answer meets no connection and is reset. It acknowledges nothing.
/// `clock` is the one that `hard.ts_offset` is added to.
pub fn farewell(hard: &Hard, clock: Instant) -> Transmit {
    let val = hard.ts_offset.wrapping_add(clock.as_millis() as u32);
    let timestamps = hard.timestamps.then_some(Timestamps { val, ecr: hard.ts_recent });
    Transmit {
        // SND.UNA - 1. The offset is modulo 2³² on purpose.
        seq: hard.iss.add(hard.acked as u32),
        flags: Flags::ACK,
        options: TcpOptions { timestamps, ..TcpOptions::default() },
        ..reset_at(SeqNum(0), Some(hard.irs.add(1)))
    }
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
