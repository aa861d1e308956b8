//! One incarnation of a connection, as both taps show it.
//!
//! Positions are stream offsets: input offset 0 is the byte behind the client's SYN, output offset
//! 0 the byte behind ours, and a FIN takes one position, as in the engine's log. ISNs are learnt
//! from the SYN-ACK.

use super::content::Content;
use super::packet::{Options, Pair, Segment, offset_of};
use super::sight::{Kind, NodeId};
use super::stream::Stream;

/// A client whose FIN does not come may be forgotten after this long (FIN-WAIT-2).
const HALF_CLOSED: u64 = 60_000_000_000;
/// Nothing here has a window that large: what lies farther off belongs to another incarnation.
const WINDOW_MAX: i64 = 1 << 24;

/// What the handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) timestamps: bool,
    pub(super) sack: bool,
    /// Shift of the windows that we advertise.
    pub(super) scale: u8,
    /// The client's MSS, or the default in its place.
    pub(super) mss: u16,
}

/// Whether a connection has to go on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Life {
    /// The client has acknowledged our SYN.
    pub(super) established: bool,
    /// We have taken that in.
    pub(super) accepted: bool,
    /// Both sides are done with it, or the client is.
    pub(super) over: bool,
    /// The world has said that nothing about it can be judged.
    pub(super) excused: bool,
    /// Its owner was lost while it said that it is not protected, or its server was: it may be reset.
    pub(super) forsaken: bool,
    /// Since when only the client's FIN is missing.
    half: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) pair: Pair,
    pub(super) iss: u32,
    pub(super) irs: u32,
    pub(super) agreed: Agreed,
    pub(super) life: Life,
    /// Its SYN-ACK left before the standby was told of it.
    pub(super) cookie: bool,
    /// The node that spoke for it last.
    pub(super) spoken_by: NodeId,
    /// The farthest ACK field.
    pub(super) ack: u64,
    /// The farthest right edge of our window.
    pub(super) edge: u64,
    /// The latest TSval.
    pub(super) tsval: Option<u32>,
    pub(super) output: Stream,
    pub(super) output_fin: Option<u64>,
    /// Output that the client has acknowledged, our FIN counted.
    pub(super) acked: u64,
    pub(super) input: Stream,
    pub(super) input_fin: Option<u64>,
    pub(super) content: Content,
}

impl Connection {
    /// The connection that `syn_ack` answers `syn`'s options with.
    pub(super) fn open(
        pair: Pair,
        node: NodeId,
        irs: u32,
        syn: &Options,
        syn_ack: &Segment<'_>,
        kind: Option<Kind>,
    ) -> Self {
        let ours = &syn_ack.options;
        let default = if pair.client.is_ipv6() { 1220 } else { 536 };
        let scaled = syn.window_scale.is_some();
        let agreed = Agreed {
            timestamps: syn.timestamps.is_some() && ours.timestamps.is_some(),
            sack: syn.sack_permitted && ours.sack_permitted,
            scale: ours.window_scale.filter(|_| scaled).unwrap_or(0),
            mss: syn.mss.unwrap_or(default),
        };
        Self {
            pair,
            iss: syn_ack.seq,
            irs,
            agreed,
            life: Life::default(),
            cookie: false,
            spoken_by: node,
            ack: 0,
            // The window of a SYN is never scaled (RFC 7323 §2.2).
            edge: u64::from(syn_ack.window),
            tsval: ours.timestamps.map(|(value, _)| value),
            output: Stream::default(),
            output_fin: None,
            acked: 0,
            input: Stream::default(),
            input_fin: None,
            content: Content::of(kind),
        }
    }

    /// The output offset of a sequence number of ours.
    pub(super) fn output_offset(&self, seq: u32) -> i64 {
        offset_of(seq, self.iss.wrapping_add(1), self.output.end())
    }

    /// The input offset of a sequence number of the client's.
    pub(super) fn input_offset(&self, seq: u32) -> i64 {
        offset_of(seq, self.irs.wrapping_add(1), self.input.next())
    }

    /// Input that came in order, the FIN counted.
    pub(super) fn received(&self) -> u64 {
        let next = self.input.next();
        next + u64::from(self.input_fin == Some(next))
    }

    /// Whether `segment`, the client's, can be one of this incarnation.
    pub(super) fn is_about(&self, segment: &Segment<'_>) -> bool {
        let Some(ack) = segment.ack else { return false };
        let (at, acked) = (self.input_offset(segment.seq), self.output_offset(ack));
        let near = (at - self.input.next() as i64).abs() < WINDOW_MAX;
        // The FIN's position counts as well.
        near && at >= -1 && (0..=self.output.end() as i64 + 1).contains(&acked)
    }

    /// A sound segment of the client's that [`Self::is_about`] it.
    pub(super) fn hear(&mut self, now: u64, segment: &Segment<'_>) {
        if segment.rst {
            self.life.over = true;
            return;
        }
        let Some(ack) = segment.ack else { return };
        self.life.established = true;
        let acked = u64::try_from(self.output_offset(ack)).unwrap_or(0);
        self.acked = self.acked.max(acked);
        let at = self.input_offset(segment.seq);
        if let Ok(at) = u64::try_from(at) {
            self.input.insert(at, segment.payload);
            if segment.fin {
                self.input_fin.get_or_insert(at + segment.payload.len() as u64);
            }
        }
        if let Content::Files(http) = &mut self.content {
            http.read_requests(&self.input);
        }
        self.note_end(now);
    }

    /// Notices that nothing is left to be said.
    pub(super) fn note_end(&mut self, now: u64) {
        let ours = self.output_fin.is_some_and(|fin| self.acked > fin);
        let theirs = self.input_fin.is_some_and(|fin| self.ack > fin);
        self.life.over |= ours && theirs;
        if ours {
            self.life.half.get_or_insert(now);
        }
    }

    /// Whether its client relies on it, and the pair may not fail it.
    pub(super) fn must_go_on(&self, now: u64) -> bool {
        let Life { established, accepted, over, excused, forsaken, half } = self.life;
        let forgotten = half.is_some_and(|since| now - since >= HALF_CLOSED);
        established && accepted && !over && !excused && !forsaken && !forgotten
    }
}
