//! The answer to a segment that belongs to nothing, and the question that calls for one.

use super::{Hard, Settings, Transmit};
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

/// Asks whoever is at the other end where it is. `seq` lies outside its window, so it answers with
/// what it expects (RFC 9293 §3.10.7.4, first step), whatever else is wrong with the segment, and
/// takes nothing from it. Who knows of no connection answers with a reset.
pub fn inquiry(seq: SeqNum, ack: SeqNum, window: u16, timestamps: Option<Timestamps>) -> Transmit {
    let options = TcpOptions { timestamps, ..TcpOptions::default() };
    Transmit { ack, flags: Flags::ACK, window, options, ..reset_at(seq, None) }
}

/// The numbers of an [`inquiry`] about a connection that cannot be gone on with: SND.UNA - 1, and an
/// acknowledgment and a window that are no less than those of the last owner, as far as `hard` knows
/// (I4). Another may have sent more than that, so a reset might have a number that its peer does not
/// believe (RFC 5961 §3.2). `clock` is the one that `hard.ts_offset` is added to.
pub fn farewell(settings: &Settings, hard: &Hard, clock: Instant) -> Transmit {
    let val = hard.ts_offset.wrapping_add(clock.as_millis() as u32);
    let timestamps = hard.timestamps.then_some(Timestamps { val, ecr: hard.ts_recent });
    // Offsets are modulo 2³² on purpose.
    let (seq, ack) = (hard.iss.add(hard.acked as u32), hard.irs.add(1).add(hard.received as u32));
    let window = hard.edge_promised(settings) - hard.received;
    let field = window.div_ceil(1 << hard.rcv_scale);
    inquiry(seq, ack, u16::try_from(field).unwrap_or(u16::MAX), timestamps)
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
