//! What a server says, whoever it is: the recorded one or ours.

use crate::capture::packet::Sighting;
use crate::replay::stream::Unwrap;
use standin::tcp::Transmit;
use standin::wire::{Flags, Segment, TcpOptions};

/// A segment of a server, without its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) window: u16,
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) sack_permitted: bool,
    pub(super) sacks: bool,
    pub(super) clock: Option<u32>,
    pub(super) length: u32,
}

impl Said {
    pub(super) fn recorded(segment: &Sighting<'_>) -> Self {
        Self {
            seq: segment.sequence,
            ack: segment.acknowledgment,
            syn: segment.syn,
            fin: segment.fin,
            rst: segment.rst,
            window: segment.window,
            mss: segment.mss,
            scale: segment.window_scale,
            sack_permitted: segment.sack_permitted,
            sacks: segment.sack[0].is_some(),
            clock: segment.timestamps.map(|(value, _)| value),
            length: segment.length,
        }
    }

    pub(super) fn parsed(segment: &Segment<'_>) -> Self {
        let length = u32::try_from(segment.payload.len()).unwrap_or(u32::MAX);
        let Segment { seq, ack, flags, window, options, .. } = segment;
        Self::ours(seq.0, ack.0, *flags, *window, options, length)
    }

    pub(super) fn built(segment: &Transmit) -> Self {
        let length = u32::try_from(segment.payload).unwrap_or(u32::MAX);
        let Transmit { seq, ack, flags, window, options, .. } = segment;
        Self::ours(seq.0, ack.0, *flags, *window, options, length)
    }

    fn ours(
        seq: u32,
        ack: u32,
        flags: Flags,
        window: u16,
        options: &TcpOptions,
        length: u32,
    ) -> Self {
        Self {
            seq,
            ack: flags.contains(Flags::ACK).then_some(ack),
            syn: flags.contains(Flags::SYN),
            fin: flags.contains(Flags::FIN),
            rst: flags.contains(Flags::RST),
            window,
            mss: options.mss,
            scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            sacks: !options.sack.is_empty(),
            clock: options.timestamps.map(|timestamps| timestamps.val),
            length,
        }
    }
}

/// What a server's SYN-ACK agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) mss: Option<u16>,
    pub(super) scale: Option<u8>,
    pub(super) sack: bool,
    pub(super) timestamps: bool,
}

/// Everything that a server said in one connection, summed up. Offsets count from the first byte
/// after each SYN.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) stream: Option<Unwrap>,
    pub(super) agreed: Option<Agreed>,
    /// TSval of the SYN-ACK, and of the latest segment.
    pub(super) clock_first: Option<u32>,
    pub(super) clock: Option<u32>,
    /// The furthest acknowledgment of the client's stream.
    pub(super) acked: i64,
    /// One past the last position sent.
    pub(super) next: i64,
    pub(super) fin: Option<i64>,
    /// The client had finished when this side did.
    pub(super) fin_second: bool,
    pub(super) reset: bool,
    pub(super) segments: u64,
    pub(super) resent: u64,
    pub(super) sacks: u64,
    pub(super) zero_windows: u64,
    /// The smallest and the largest window after the handshake, in bytes.
    pub(super) window: Option<(u64, u64)>,
}

impl Answers {
    /// Takes a segment; `client` turns acknowledgments into offsets of the client's stream.
    /// Returns the payload's offset, if it has a place in the stream.
    pub(super) fn take(&mut self, said: &Said, client: &Unwrap, client_done: bool) -> Option<i64> {
        self.segments += 1;
        if said.rst {
            self.reset = true;
            return None;
        }
        if said.syn {
            self.on_syn(said);
        }
        self.clock = said.clock.or(self.clock);
        if let Some(ack) = said.ack {
            self.acked = self.acked.max(client.offset(ack));
        }
        self.on_window(said);
        self.sacks += u64::from(said.sacks);
        let stream = self.stream.as_mut()?;
        let start = stream.offset(said.seq.wrapping_add(u32::from(said.syn)));
        let end = start + i64::from(said.length) + i64::from(said.fin);
        if end > start && start < self.next {
            self.resent += 1;
        }
        if said.fin && self.fin.is_none() {
            self.fin = Some(end - 1);
            self.fin_second = client_done;
        }
        self.next = self.next.max(end);
        stream.reached(self.next);
        (start >= 0).then_some(start)
    }

    fn on_syn(&mut self, said: &Said) {
        self.stream.get_or_insert_with(|| Unwrap::new(said.seq));
        self.clock_first = self.clock_first.or(said.clock);
        self.agreed.get_or_insert(Agreed {
            mss: said.mss,
            scale: said.scale,
            sack: said.sack_permitted,
            timestamps: said.clock.is_some(),
        });
    }

    fn on_window(&mut self, said: &Said) {
        if said.syn || said.ack.is_none() {
            return;
        }
        self.zero_windows += u64::from(said.window == 0);
        let scale = self.agreed.and_then(|agreed| agreed.scale).unwrap_or(0);
        let window = u64::from(said.window) << scale.min(14);
        let (least, most) = self.window.unwrap_or((window, window));
        self.window = Some((least.min(window), most.max(window)));
    }

    /// The stream's length without its FIN.
    pub(super) fn length(&self) -> i64 {
        self.fin.unwrap_or(self.next)
    }
}
