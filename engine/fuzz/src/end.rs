//! One end of a connection: the TCB under test, an application, and a witness.
//!
//! The witness holds every segment that leaves, and what the TCB says of itself, against what must
//! hold whatever happened before: RFC 9293's inequalities, the horizons (I1, I2), and what a peer
//! may rely on (I4). It knows the public interface and nothing else.

use core::ops::Range;
use std::sync::Arc;

use standin::tcp::{Hard, Horizon, Settings, State, Tcb, Transmit, Verdict};
use standin::time::Instant;
use standin::wire::{Flags, Segment, SeqNum};

/// Segments that one event can set free. The windows here are small, so it takes a fault to reach.
const BURST_MAX: usize = 5_000;
/// How far the right edge may creep above the buffer (`tcp::receive`), and a takeover once more.
const EDGE_SLACK: u64 = 2 * 65_536;

/// Byte `offset` of the stream number `stream`. Sequence numbers have 32 bits, so has this.
pub(crate) fn byte_at(stream: u8, offset: u64) -> u8 {
    let mixed = (offset as u32 ^ u32::from(stream) << 24).wrapping_mul(0x9E37_79B1);
    (mixed >> 24) as u8
}

/// What the peer has been shown, which nothing may take back.
#[derive(Debug, Default)]
struct Shown {
    /// The ACK field, an input offset.
    ack: u64,
    /// The right edge of the window.
    edge: u64,
    /// The end of the output that was sent, a FIN counted.
    sent: u64,
    timestamp: Option<u32>,
}

/// One end.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) tcb: Tcb,
    settings: Arc<Settings>,
    /// Which stream arrives here.
    stream: u8,
    pub(crate) horizon: Horizon,
    /// How much the application says, and whether that is all.
    pub(crate) output: u64,
    pub(crate) finished: bool,
    /// Bytes that were delivered.
    pub(crate) delivered: u64,
    /// The most bytes that the application gives at a time.
    pub(crate) generous: usize,
    pub(crate) aborted: bool,
    shown: Shown,
    /// What the TCB said of itself last.
    acked: u64,
    received: u64,
}

impl End {
    /// An end around a fresh connection.
    pub(crate) fn new(tcb: Tcb, settings: &Arc<Settings>, stream: u8) -> Self {
        Self {
            tcb,
            settings: Arc::clone(settings),
            stream,
            horizon: Horizon::OPEN,
            output: 0,
            finished: false,
            delivered: 0,
            generous: usize::MAX,
            aborted: false,
            shown: Shown::default(),
            acked: 0,
            received: 0,
        }
    }

    /// The application says `bytes` more.
    pub(crate) fn write(&mut self, bytes: u64) {
        if !self.finished {
            self.output += bytes;
            self.tcb.set_output_end(self.output);
        }
    }

    /// The application has said everything.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.tcb.finish();
    }

    /// The application gives up.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.aborted = true;
        self.tcb.abort(now);
    }

    /// The application reads up to `offset`.
    pub(crate) fn consume(&mut self, offset: u64) {
        self.tcb.set_consumed(offset.min(self.delivered));
    }

    /// The standby knows so much more. A horizon only moves forward; coming down from infinity it
    /// stops at what was shown.
    pub(crate) fn set_horizon(&mut self, horizon: Horizon) {
        self.horizon = Horizon {
            opened: horizon.opened || self.horizon.opened,
            received: horizon.received.max(self.tcb.acknowledged()),
            output: horizon.output.max(self.tcb.sent()),
        };
        self.tcb.set_horizon(self.horizon);
    }

    /// A segment arrives.
    pub(crate) fn hear(&mut self, now: Instant, segment: &Segment<'_>) -> Verdict {
        let (stream, delivered) = (self.stream, &mut self.delivered);
        self.tcb.on_segment(now, segment, &mut |bytes| {
            assert!(!bytes.is_empty(), "nothing is delivered in vain");
            for &byte in bytes {
                assert_eq!(byte, byte_at(stream, *delivered), "I6 at {delivered}");
                *delivered += 1;
            }
        })
    }

    /// Lets time do what is due. Afterwards nothing is.
    pub(crate) fn turn(&mut self, now: Instant) -> Option<Verdict> {
        let due = self.tcb.deadline().is_some_and(|at| at <= now);
        let verdict = due.then(|| self.tcb.on_timer(now));
        assert!(self.tcb.deadline().is_none_or(|at| at > now), "what is due has been done");
        verdict
    }

    /// Takes everything that wants to leave, and looks at all of it.
    pub(crate) fn speak(&mut self, now: Instant, mut sink: impl FnMut(&Transmit, Range<u64>)) {
        for _ in 0..BURST_MAX {
            let (mut fetched, output, generous) = (None, self.output, self.generous);
            let acked = self.tcb.acked();
            let said = self.tcb.poll_transmit(now, &mut |range| {
                assert!(range.start < range.end && range.end <= output, "bytes that exist");
                assert!(range.start >= acked, "bytes that are still kept");
                let count = usize::try_from(range.end - range.start).expect("small").min(generous);
                fetched = Some(range.start..range.start + count as u64);
                count
            });
            let Some(transmit) = said else { return self.witness() };
            let text = fetched.filter(|_| transmit.payload > 0).unwrap_or(0..0);
            assert_eq!(text.end - text.start, transmit.payload as u64);
            self.check(&transmit, &text);
            sink(&transmit, text);
        }
        panic!("it never comes to rest");
    }

    /// What the TCB says of itself.
    fn witness(&mut self) {
        let (acked, sent, received) = (self.tcb.acked(), self.tcb.sent(), self.tcb.received());
        assert!(acked <= sent, "SND.UNA =< SND.NXT");
        assert!(
            sent <= self.output + u64::from(self.finished),
            "nothing is sent that is not there"
        );
        assert!(acked >= self.acked && received >= self.received, "they only move forward");
        assert_eq!(
            received,
            self.delivered + u64::from(self.tcb.peer_finished()),
            "each byte once"
        );
        assert!(self.tcb.acknowledged() <= received, "nothing is acknowledged that did not come");
        (self.acked, self.received) = (acked, received);
    }

    fn check(&mut self, transmit: &Transmit, text: &Range<u64>) {
        let Transmit { flags, .. } = *transmit;
        if flags.contains(Flags::RST) {
            let may = self.tcb.closed() || !self.tcb.established();
            assert!(may, "a reset in {}", self.tcb.state());
            return;
        }
        assert!(self.horizon.opened, "not a word before the horizon opens");
        if flags.contains(Flags::SYN) {
            assert!(matches!(self.tcb.state(), State::SynSent | State::SynReceived));
            assert_eq!(transmit.payload, 0);
            self.shown.edge = self.shown.edge.max(transmit.window.into());
            return;
        }
        assert!(flags.contains(Flags::ACK));
        let hard = self.tcb.hard();
        self.check_input(transmit, &hard);
        self.check_output(transmit, text, &hard);
        self.check_timestamp(transmit, &hard);
    }

    /// The ACK field, the window, the SACK blocks.
    fn check_input(&mut self, transmit: &Transmit, hard: &Hard) {
        let offset = |seq: SeqNum| {
            let near = hard.irs.add(1).add(hard.received as u32);
            hard.received.checked_add_signed(seq.diff(near).into()).expect("in the stream")
        };
        let ack = offset(transmit.ack);
        assert!(ack <= hard.received, "an ACK of what has not come");
        assert!(ack <= self.horizon.received.max(self.shown.ack), "I1");
        assert!(ack >= self.shown.ack, "I4: the ACK field went back");
        let unit = 1u64 << hard.rcv_scale;
        let edge = ack + u64::from(transmit.window) * unit;
        assert!(edge + unit > self.shown.edge, "I4: the window shrank");
        let buffer = u64::from(self.settings.receive_buffer);
        assert!(edge <= hard.received + buffer + EDGE_SLACK, "more than may be kept is asked for");
        self.shown.ack = ack;
        self.shown.edge = self.shown.edge.max(edge);
        for block in &transmit.options.sack {
            assert!(hard.sack && block.left.before(block.right));
            assert!(offset(block.right) <= self.shown.edge, "a block of what was never taken");
        }
    }

    /// Payload and FIN.
    fn check_output(&mut self, transmit: &Transmit, text: &Range<u64>, hard: &Hard) {
        let fin = transmit.flags.contains(Flags::FIN);
        if text.is_empty() && !fin {
            return;
        }
        let start = if text.is_empty() { self.output } else { text.start };
        assert_eq!(transmit.seq, hard.iss.add(1).add(start as u32), "the number of its first byte");
        let end = start + transmit.payload as u64 + u64::from(fin);
        if fin {
            assert!(self.finished && end == self.output + 1, "the FIN stands behind the last byte");
        }
        assert!(end <= self.horizon.output.max(self.shown.sent), "I2");
        let room = hard.acked + u64::from(hard.snd_wnd);
        let fits = end - u64::from(fin) <= room.max(self.shown.sent);
        assert!(fits || start == hard.acked, "only a probe goes beyond the peer's window");
        self.shown.sent = self.shown.sent.max(end);
    }

    fn check_timestamp(&mut self, transmit: &Transmit, hard: &Hard) {
        let value = transmit.options.timestamps.map(|timestamps| timestamps.val);
        assert_eq!(value.is_some(), hard.timestamps, "as negotiated");
        if let (Some(value), Some(last)) = (value, self.shown.timestamp) {
            assert!(value.wrapping_sub(last).cast_signed() >= 0, "I4: the timestamp went back");
        }
        self.shown.timestamp = value.or(self.shown.timestamp);
    }

    /// What a standby knows of this end, if `old` is the last that it was told of what may lag.
    pub(crate) fn as_known(&self, old: Option<&Hard>) -> Hard {
        let now = self.tcb.hard();
        let committed = self.horizon.received;
        let received = now.received.min(committed);
        let hard = Hard {
            received,
            consumed: now.consumed.min(received),
            peer_fin: now.peer_fin && committed >= now.received,
            ..now
        };
        match old {
            Some(old) if old.handshake_done => Hard {
                acked: old.acked,
                snd_wnd: old.snd_wnd,
                ts_recent: old.ts_recent,
                srtt: old.srtt,
                fin_acked: old.fin_acked,
                consumed: old.consumed.min(received),
                received_edge: old.received_edge,
                ..hard
            },
            Some(_) | None => hard,
        }
    }

    /// Another host goes on from `hard`. What the peer was shown stays shown.
    pub(crate) fn take_over(&mut self, now: Instant, hard: &Hard) {
        let mut tcb = Tcb::resume(&self.settings, now, hard);
        tcb.set_output_end(self.output);
        if self.finished {
            tcb.finish();
        }
        self.horizon = Horizon::OPEN;
        tcb.set_horizon(self.horizon);
        tcb.nudge(now);
        self.tcb = tcb;
        self.delivered = hard.received - u64::from(hard.peer_fin);
        (self.acked, self.received) = (self.tcb.acked(), self.tcb.received());
    }
}
