//! A server that says what the recorded one said.
//!
//! The engine's TCP with the recorded reply as its application: each byte becomes available at the
//! moment at which the capture first shows it, the stream ends where the recorded one ended, and a
//! reset is made where one was. Any service can be replayed so, whatever it was.

use std::ops::Range;
use std::sync::Arc;

use super::said::Said;
use super::text::Assembly;
use standin::tcp::{Settings, Tcb};
use standin::time::Instant;
use standin::wire::{Segment, SeqNum};

/// One connection of a scripted server.
#[derive(Debug)]
pub(super) struct Scripted {
    tcb: Tcb,
    script: Script,
    /// Payload bytes of the client that were taken.
    pub(super) received: u64,
}

/// The recorded reply. Its bytes would be copied from the capture into our segments and back for
/// comparison; so what is kept is how far it goes.
#[derive(Debug, Default)]
struct Script {
    assembly: Assembly,
    fin: Option<i64>,
    /// Bytes that the capture lacks, with zeros in their place.
    filled: u64,
}

impl Scripted {
    pub(super) fn new(
        settings: &Arc<Settings>,
        now: Instant,
        syn: &Segment<'_>,
        numbers: (u32, u32),
        mtu: u16,
        ipv6: bool,
    ) -> Self {
        let (iss, clock) = numbers;
        let tcb = Tcb::accept(settings, now, syn, SeqNum(iss), clock, mtu, ipv6);
        Self { tcb, script: Script::default(), received: 0 }
    }

    /// What the recorded server said at `start`, of which `bytes` are known.
    pub(super) fn on_reply(&mut self, start: i64, bytes: &[u8], fin: Option<i64>) {
        self.script.assembly.take(start, bytes, |_| ());
        self.script.fin = self.script.fin.or(fin);
        self.offer();
    }

    /// The recorded client acknowledged that much: what of it was not captured is lost.
    pub(super) fn on_acknowledged(&mut self, offset: i64) {
        let text = self.script.fin.map_or(offset, |fin| offset.min(fin));
        let Script { assembly, filled, .. } = &mut self.script;
        if assembly.next() < text {
            *filled += assembly.fill(text, |_| ());
            self.offer();
        }
    }

    /// The recorded server reset the connection.
    pub(super) fn on_reset(&mut self, now: Instant) {
        self.tcb.abort(now);
    }

    fn offer(&mut self) {
        let end = self.script.assembly.next();
        self.tcb.set_output_end(u64::try_from(end).unwrap_or(0));
        if self.script.fin.is_some_and(|fin| fin <= end) {
            self.tcb.finish();
        }
        self.tcb.unblock();
    }

    pub(super) fn on_client(&mut self, now: Instant, segment: &Segment<'_>) {
        let received = &mut self.received;
        self.tcb.on_segment(now, segment, &mut |bytes| *received += bytes.len() as u64);
        self.tcb.set_consumed(self.received);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.tcb.deadline().unwrap_or(Instant::NEVER)
    }

    pub(super) fn on_timer(&mut self, now: Instant) {
        self.tcb.on_timer(now);
    }

    /// The next segment.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Said> {
        let end = u64::try_from(self.script.assembly.next()).unwrap_or(0);
        let transmit = self.tcb.poll_transmit(now, &mut |range: Range<u64>| {
            usize::try_from(end.min(range.end).saturating_sub(range.start)).unwrap_or(0)
        })?;
        Some(Said::built(&transmit))
    }

    /// Bytes that zeros stand in for.
    pub(super) const fn filled(&self) -> u64 {
        self.script.filled
    }

    /// Whether the connection is over, so that it need not be kept.
    pub(super) fn is_over(&self) -> bool {
        self.tcb.closed()
    }
}
