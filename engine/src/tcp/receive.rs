//! The receiver: what it holds, how wide its window is, and when it owes an acknowledgment.
//!
//! The window's right edge is `min(consumed, committed) + room`, and never moves back; the room is
//! `receive_buffer`, unless memory is short ([`Tcb::limit_room`]).
//! The field is scaled, so its low bits are lost: where rounding down would move the edge back it
//! is rounded up, by less than one unit. A peer that sends crumbs into a full window could make
//! that add up, so beyond [`EDGE_SLACK`] the edge is rounded down; RFC 7323 §2.4 has peers expect
//! it, and what was advertised once is taken all the same.

use super::Tcb;
use super::assemble::{Assembler, slice};
use super::settings::EDGE_SLACK;
use crate::time::Instant;
use crate::wire::{SackBlock, SackBlocks};
use core::ops::Range;

/// What the receiver owes for input that came in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AckDue {
    /// Nothing.
    No,
    /// An acknowledgment when the delayed-ACK timer fires, or with the next segment.
    Delayed,
    /// An acknowledgment as soon as the horizon lets the ACK field move. It does not wait for a
    /// timer: a timer that cannot act would fire for ever.
    Now,
}

/// How much may come that nobody has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// What the settings say.
    Buffer,
    /// 64 KiB: memory is scarce.
    Frugal,
    /// [`FOR_A_HEAD`]: what is to be expected is short, or has to wait.
    Head,
    /// Nothing, so that the window shuts by and by, and what is out of order is not kept: memory is
    /// short.
    Shut,
}

impl Tcb {
    /// Input `bytes` that begin at offset `start`, trimmed to the window. In order they are handed
    /// on, out of order they are kept. Seventh check of RFC 9293 §3.10.7.4.
    pub(super) fn take_input(
        &mut self,
        now: Instant,
        start: i64,
        bytes: &[u8],
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let end = start + i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let from = u64::try_from(start.max(0)).unwrap_or(0);
        let to = u64::try_from(end.max(0)).unwrap_or(0);
        self.note_duplicate(from..to.min(self.rcv.nxt));
        let limit = self.rcv.fin.unwrap_or(u64::MAX).min(self.rcv.edge);
        let wanted = from.max(self.rcv.nxt)..to.min(limit);
        if wanted.start >= wanted.end {
            self.force_ack();
            return;
        }
        self.estimate_peer_mss(bytes.len());
        let before = usize::try_from(start.min(0).unsigned_abs()).unwrap_or(usize::MAX);
        let fresh = slice(bytes.get(before..).unwrap_or_default(), from, wanted.clone());
        if wanted.start == self.rcv.nxt {
            deliver(fresh);
            self.advance_input(now, wanted.end, deliver);
        } else {
            // When memory is short it has to come again: nothing was acknowledged of it, RFC 2018 §8.
            if self.rcv.room != Room::Shut
                && let Some(part) =
                    self.rcv.assembler.get_or_insert_default().insert(wanted.start, fresh)
            {
                self.note_duplicate(part);
            }
            self.force_ack();
        }
        if to > limit {
            self.force_ack();
        }
    }

    /// RCV.NXT moves to `next`, and over what was kept behind it.
    fn advance_input(&mut self, now: Instant, next: u64, deliver: &mut dyn FnMut(&[u8])) {
        self.rcv.nxt = next;
        let filled = self.rcv.assembler.is_some();
        if let Some(assembler) = &mut self.rcv.assembler {
            self.rcv.nxt = assembler.drain(next, deliver);
            if assembler.is_empty() {
                self.rcv.assembler = None;
            }
        }
        self.owe_ack(now, filled);
    }

    /// An acknowledgment is due: at once for the second full segment, and whenever a gap closes
    /// (RFC 5681 §4.2); else soon.
    fn owe_ack(&mut self, now: Instant, at_once: bool) {
        if at_once || self.rcv.nxt - self.rcv.acked >= 2 * u64::from(self.rcv.mss) {
            self.owe_ack_now();
        } else if self.rcv.due == AckDue::No {
            self.rcv.due = AckDue::Delayed;
            self.timers.ack = now + self.settings.delayed_ack;
        }
    }

    /// An acknowledgment is due as soon as the horizon lets it.
    pub(super) fn owe_ack_now(&mut self) {
        self.rcv.due = AckDue::Now;
        self.timers.ack = Instant::NEVER;
    }

    /// An answer is due that moves nothing: to a duplicate, a gap, a probe. Without SACK each gap
    /// gets its own, because the peer counts them (RFC 5681 §3.2).
    pub(super) fn force_ack(&mut self) {
        let most = if self.sack { 1 } else { DUPLICATES_MAX };
        self.rcv.forced = (self.rcv.forced + 1).min(most);
    }

    /// The largest segment seen, but not more than we offered: receive offload joins several.
    fn estimate_peer_mss(&mut self, len: usize) {
        let offered = super::transmit::mss_for(self.mtu, self.ipv6);
        let options = u16::try_from(self.payload_options_len()).unwrap_or(0);
        let seen = u16::try_from(len).unwrap_or(u16::MAX).min(offered.saturating_sub(options));
        self.rcv.mss = self.rcv.mss.max(seen);
    }

    /// Remembers a duplicate for a D-SACK block, RFC 2883 §4. Only what lies below the ACK field
    /// is reported: above it the block would read as an ordinary SACK.
    pub(super) fn note_duplicate(&mut self, part: Range<u64>) {
        let end = part.end.min(self.ack_allowed());
        if self.sack && part.start < end {
            self.rcv.duplicate =
                Some(SackBlock { left: self.rcv_seq_of(part.start), right: self.rcv_seq_of(end) });
        }
    }

    /// The SACK blocks of an acknowledgment: the duplicate first, then what came last. Three
    /// blocks fit beside timestamps, RFC 2018 §3.
    pub(super) fn sack_blocks(&mut self) -> SackBlocks {
        let mut blocks = SackBlocks::new();
        blocks.extend(self.rcv.duplicate.take());
        let most = if self.timestamps { 3 } else { 4 };
        if let (true, Some(assembler)) = (self.sack, &self.rcv.assembler) {
            let room = most - blocks.len();
            // A FIN behind the text is held with it: nobody has to send it again.
            let end = |end| end + u64::from(self.rcv.fin == Some(end));
            blocks.extend(assembler.recent::<4>().into_iter().take(room).map(|run| SackBlock {
                left: self.rcv_seq_of(run.start),
                right: self.rcv_seq_of(end(run.end)),
            }));
        }
        blocks
    }

    /// Whether an acknowledgment now would carry SACK blocks.
    pub(super) fn has_sack_news(&self) -> bool {
        self.sack && (self.rcv.duplicate.is_some() || self.rcv.assembler.is_some())
    }

    /// The ACK field as an input offset: I1. It never moves back.
    pub(super) fn ack_allowed(&self) -> u64 {
        self.rcv.nxt.min(self.horizon.received).max(self.rcv.acked)
    }

    /// Where the right edge may be.
    fn edge_target(&self) -> u64 {
        let room = match self.rcv.room {
            Room::Buffer => self.settings.receive_buffer,
            Room::Frugal => self.settings.receive_buffer.min(FRUGAL),
            Room::Head => self.settings.receive_buffer.min(FOR_A_HEAD.into()),
            Room::Shut => 0,
        };
        self.edge_base() + u64::from(room)
    }

    fn edge_base(&self) -> u64 {
        self.rcv.consumed.min(self.horizon.received)
    }

    /// How much that nobody has read is asked for.
    pub const fn asked_room(&self) -> Room {
        self.rcv.room
    }

    /// How much that nobody has read is asked for from now on. What was advertised is taken all the
    /// same.
    pub fn limit_room(&mut self, room: Room) {
        self.rcv.room = room;
    }

    /// Bytes of memory for input that is out of order.
    pub fn out_of_order(&self) -> usize {
        self.rcv.assembler.as_ref().map_or(0, |assembler| assembler.memory())
    }

    /// The widest window the field can say.
    pub(super) fn window_max(&self) -> u64 {
        65_535 << self.rcv_scale
    }

    /// The edge that an acknowledgment of `ack` should advertise: the target, but moved only in
    /// steps worth telling (RFC 9293 §3.8.6.2.2).
    fn edge_wanted(&self, ack: u64) -> u64 {
        let buffer = u64::from(self.settings.receive_buffer);
        let step = (buffer / 2).min(self.rcv.mss.into());
        let target = self.edge_target().min(ack + self.window_max());
        if target >= self.rcv.edge + step { target } else { self.rcv.edge }
    }

    /// Where the edge may be when memory is not short.
    fn edge_most(&self) -> u64 {
        self.edge_base() + u64::from(self.settings.receive_buffer)
    }

    /// The window field for an acknowledgment of `ack`; remembers the edge it promises.
    pub(super) fn advertise(&mut self, ack: u64) -> u16 {
        let window = self.edge_wanted(ack).saturating_sub(ack);
        let unit = 1u64 << self.rcv_scale;
        let down = window / unit;
        let (keeps, bound) =
            (ack + down * unit >= self.rcv.edge, self.edge_most() + u64::from(EDGE_SLACK));
        let up = down + u64::from(!keeps && ack + window <= bound && !window.is_multiple_of(unit));
        let field = u16::try_from(up).unwrap_or(u16::MAX);
        self.rcv.edge = self.rcv.edge.max(ack + (u64::from(field) << self.rcv_scale));
        field
    }

    /// Whether the window has opened so far that a peer with little of it left should hear:
    /// by two segments or half the buffer.
    pub(super) fn window_update_due(&self) -> bool {
        let buffer = u64::from(self.settings.receive_buffer);
        let left = self.rcv.edge.saturating_sub(self.rcv.nxt);
        if !self.state.may_receive() || left >= WINDOW_LOW.min(buffer / 2) {
            return false;
        }
        let ack = self.ack_allowed();
        let wanted = self.edge_wanted(ack).saturating_sub(self.rcv.edge);
        let told = wanted >> self.rcv_scale << self.rcv_scale;
        told > 0 && told >= (buffer / 2).min(2 * u64::from(self.rcv.mss))
    }

    /// What sending the ACK field `ack` settles.
    pub(super) fn note_ack_sent(&mut self, ack: u64) {
        assert!(ack >= self.rcv.acked, "I4: the ACK field never moves back");
        let allowed = self.horizon.received.max(self.rcv.acked);
        assert!(ack <= allowed, "I1: no input is acknowledged that the standby does not hold");
        self.rcv.acked = ack;
        if ack >= self.rcv.nxt {
            self.rcv.due = AckDue::No;
            self.timers.ack = Instant::NEVER;
        } else if self.rcv.due != AckDue::No {
            // The rest is held by the horizon, and goes when it rises.
            self.owe_ack_now();
        }
    }

    /// The stream ends at `fin`; whatever claims to lie beyond is forgotten.
    pub(super) fn end_input(&mut self, fin: u64) {
        self.rcv.fin = Some(fin);
        if let Some(assembler) = &mut self.rcv.assembler {
            assembler.truncate(fin);
            if assembler.is_empty() {
                self.rcv.assembler = None::<Box<Assembler>>;
            }
        }
    }
}

/// What may be unread while memory is scarce.
const FRUGAL: u32 = 65_536;
/// What may be unread of a peer that has a message's head to say: the longest fits.
pub const FOR_A_HEAD: u16 = 20 << 10;
/// Most answers owed at a time to a peer without SACK.
const DUPLICATES_MAX: u8 = 8;
/// With more window left than this the peer is not about to stall.
const WINDOW_LOW: u64 = 32_768;
