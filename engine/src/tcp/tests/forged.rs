//! Segments that a stranger made up, who knows some of the numbers and not all of them.

use super::pair::{CLIENT, Pair};
use crate::tcp::Verdict;
use crate::time::Duration;
use crate::wire::{Flags, Segment, SeqNum, TcpOptions, Timestamps};

/// What the client says next, with these instead of its own acknowledgment and time.
fn next_word(pair: &Pair, flags: Flags, ack: SeqNum, val: u32) -> Segment<'static> {
    let client = &pair.ends[CLIENT].tcb;
    Segment {
        seq: client.seq_of(0),
        ack,
        flags,
        window: 1000,
        options: TcpOptions {
            timestamps: Some(Timestamps { val, ecr: 0 }),
            ..TcpOptions::default()
        },
        marked: false,
        payload: b"x",
    }
}

/// RFC 7323 §5.3: TS.Recent is of segments that are acceptable in every way. Otherwise one that is
/// made up takes the peer's word away for 24 days.
#[test]
fn no_segment_that_is_dropped_moves_ts_recent() {
    let far = [1 << 30, 1 << 29, 3 << 30].map(|far| SeqNum(0).add(far));
    let mut dropped = 0;
    for bits in 0..=u8::MAX {
        let flags = Flags::from_bits_truncate(bits);
        for ack in far {
            let mut pair = Pair::established();
            let (now, recent) = (pair.now, pair.server().tcb.ts_recent());
            let ack = ack.add(pair.ends[CLIENT].tcb.rcv_seq_of(0).0);
            let forged = next_word(&pair, flags, ack, recent.wrapping_add(1 << 30));
            let verdict = pair.server().receive(now, &forged);
            if matches!(verdict, Verdict::Closed(_)) {
                assert!(flags.contains(Flags::RST), "{flags:?}");
                continue;
            }
            assert!(matches!(verdict, Verdict::Dropped(_)), "{flags:?} {ack:?}: {verdict:?}");
            dropped += 1;
            assert_eq!(pair.server().tcb.ts_recent(), recent, "{flags:?} {ack:?}");
            pair.client().write(b"the real one");
            pair.run_for(Duration::from_millis(100));
            assert_eq!(pair.server().input, b"the real one", "{flags:?} {ack:?}");
        }
    }
    assert!(dropped >= 3 * 128, "{dropped}");
}

#[test]
fn an_acceptable_segment_moves_it() {
    let mut pair = Pair::established();
    let (now, recent) = (pair.now, pair.server().tcb.ts_recent());
    let ack = pair.ends[CLIENT].tcb.rcv_seq_of(0);
    let word = next_word(&pair, Flags::ACK, ack, recent + 5);
    assert_eq!(pair.server().receive(now, &word), Verdict::Accepted);
    assert_eq!(pair.server().tcb.ts_recent(), recent + 5);
}
