//! What goes out next.
//!
//! [`Tcb::poll_transmit`] is asked until it has nothing more. In this order: a reset; the
//! handshake; an acknowledgment with SACK news (never with payload, so that the header of a
//! payload has one length); lost data; new data; probes; an acknowledgment alone.

use super::congestion::Limited;
use super::reset::reset_at;
use super::transmit::{Transmit, mss_for, syn_window};
use super::{State, Tcb};
use crate::time::Instant;
use crate::wire::{Flags, SackBlocks, SeqNum, TcpOptions, Timestamps};
use core::ops::Range;

/// Places payload `range` into the packet being built; how many bytes it had.
pub(super) type Fetch<'a> = &'a mut dyn FnMut(Range<u64>) -> usize;

impl Tcb {
    /// The next segment to send, or `None` when there is nothing to say now.
    ///
    /// `fetch` places the payload of the given output offsets behind the header to come, which
    /// has [`Tcb::payload_options_len`] bytes of options, and returns how many bytes it has: fewer
    /// are sent; 0 blocks output until [`Tcb::unblock`]. Whatever is returned counts as sent.
    pub fn poll_transmit(&mut self, now: Instant, fetch: Fetch<'_>) -> Option<Transmit> {
        if core::mem::take(&mut self.reset_due) {
            return Some(self.reset());
        }
        if self.state == State::Closed || !self.horizon.opened {
            return None;
        }
        if let Some(seq) = self.stray.take() {
            return Some(reset_at(seq, None));
        }
        if !self.state.synchronized() {
            return self.handshake(now);
        }
        if self.rcv.forced > 0 && self.has_sack_news() {
            return Some(self.acknowledgment(now));
        }
        if self.state.may_send()
            && let Some(transmit) = self.output(now, fetch)
        {
            return Some(transmit);
        }
        if core::mem::take(&mut self.snd.keepalive_due) {
            return Some(self.empty_probe(now));
        }
        self.ack_wanted().then(|| self.acknowledgment(now))
    }

    /// Segments with sequence space.
    fn output(&mut self, now: Instant, fetch: Fetch<'_>) -> Option<Transmit> {
        if self.snd.probe_due {
            self.snd.probe_due = false;
            return self.probe(now, fetch);
        }
        if self.snd.blocked {
            return None;
        }
        if core::mem::take(&mut self.snd.tail_due)
            && let Some(probe) = self.tail_probe(now, fetch)
        {
            return Some(probe);
        }
        let lost = self.snd.flight.as_ref().and_then(|flight| flight.sent.first_lost());
        if let Some(part) = lost.filter(|_| !self.asks_before_resending()) {
            // New data waits behind lost data, whatever holds that back.
            return self.retransmission(now, part, fetch);
        }
        self.new_data(now, fetch)
    }

    /// The SYN or SYN-ACK.
    fn handshake(&mut self, now: Instant) -> Option<Transmit> {
        if !core::mem::take(&mut self.syn_due) {
            return None;
        }
        let active = self.state == State::SynSent;
        let fresh = self.timers.resend == Instant::NEVER;
        self.snd.syn_timed = fresh && self.snd.backoff == 0;
        self.snd.busy_at = now;
        self.arm_resend(now);
        let scaled = active || self.rcv_scale > 0;
        let flags = if active { Flags::SYN } else { Flags::SYN | Flags::ACK };
        let flags = flags | self.ecn_handshake_flags(active);
        Some(Transmit {
            seq: self.iss,
            ack: if active { SeqNum(0) } else { self.irs.add(1) },
            flags,
            window: syn_window(&self.settings),
            options: TcpOptions {
                mss: Some(mss_for(self.mtu, self.ipv6)),
                window_scale: scaled.then_some(self.rcv_scale),
                sack_permitted: self.sack,
                timestamps: self.timestamps_option(now),
                sack: SackBlocks::new(),
            },
            payload: 0,
            mss: self.mss(),
            ecn: 0,
        })
    }

    // ---- retransmission ----

    /// Sends lost data again, in super-segments, as the congestion window allows. The first after
    /// its discovery goes out whatever the window says.
    fn retransmission(
        &mut self,
        now: Instant,
        part: Range<u64>,
        fetch: Fetch<'_>,
    ) -> Option<Transmit> {
        let mss = self.mss_u64();
        let edge = self.snd.una + u64::from(self.snd.wnd);
        let wanted = (part.end - part.start).min(edge.saturating_sub(part.start));
        let room = self.room(now, wanted.min(mss));
        let room = if self.snd.resend_now { room.max(mss) } else { room };
        if wanted == 0 || room < wanted.min(mss) {
            self.snd.limited = Limited::ByCongestion;
            return None;
        }
        let len = self.whole_segments(wanted, room);
        let transmit = self.segment(now, part.start..part.start + len, fetch)?;
        let first = core::mem::take(&mut self.snd.resend_now);
        self.note_resent(now, part.start..part.start + transmit.len());
        self.note_sent(now, part.start, &transmit);
        if first {
            self.restart_timeout(now);
        }
        self.arm_resend(now);
        Some(transmit)
    }

    /// What congestion control lets go now: the window's rest, or in fast recovery what replaces
    /// it; and not all at once on a long path. Less than `least` is none.
    fn room(&mut self, now: Instant, least: u64) -> u64 {
        let window = || u64::from(self.snd.congestion.window()).saturating_sub(self.pipe());
        let room = self.prr_room().unwrap_or_else(window);
        if room < least { 0 } else { room.min(self.paced_room(now, least)) }
    }

    /// At most `wanted`, `room` and a super-segment; not the tail of anything unless it all fits.
    fn whole_segments(&self, wanted: u64, room: u64) -> u64 {
        let mss = self.mss_u64();
        let most = room.min((self.settings.max_segment as u64).max(mss));
        if wanted <= most { wanted } else { (most - most % mss).max(1) }
    }

    // ---- new data ----

    /// The offset that output may reach: I2. The FIN counts one.
    pub(super) fn output_limit(&self) -> u64 {
        let exists = self.snd.end + u64::from(self.snd.finish);
        exists.min(self.horizon.output).max(self.snd.nxt)
    }

    fn new_data(&mut self, now: Instant, fetch: Fetch<'_>) -> Option<Transmit> {
        self.snd.limited = Limited::ByOther;
        let available = self.output_limit() - self.snd.nxt;
        if available == 0 {
            return None;
        }
        self.restart_after_idle(now);
        let Some(len) = self.sendable(now, available) else {
            if self.bytes_in_flight() == 0 {
                // Nothing will come back by itself: probe, RFC 9293 §3.8.6.1. Patience begins now.
                if self.timers.resend == Instant::NEVER {
                    self.snd.progress_at = now;
                }
                self.arm_resend(now);
            }
            return None;
        };
        let idle = self.bytes_in_flight() == 0;
        let transmit = self.fresh_segment(now, len, fetch)?;
        if idle {
            self.snd.progress_at = now;
            self.snd.recover = self.snd.recover.max(self.snd.una);
            self.timers.resend = Instant::NEVER;
        }
        self.arm_resend(now);
        self.arm_tail_probe(now);
        Some(transmit)
    }

    /// `len` positions from SND.NXT on.
    pub(super) fn fresh_segment(
        &mut self,
        now: Instant,
        len: u64,
        fetch: Fetch<'_>,
    ) -> Option<Transmit> {
        // CWR belongs on one segment, and the device would put it on every piece.
        let len = if self.snd.cwr_due { len.min(self.mss_u64()) } else { len };
        let start = self.snd.nxt;
        let mut transmit = self.segment(now, start..start + len, fetch)?;
        let reached = start + transmit.len();
        assert!(reached <= self.output_limit(), "I2: no output leaves beyond its horizon");
        let (codepoint, flags) = self.mark_new_data(start, transmit.payload);
        (transmit.ecn, transmit.flags) = (codepoint, transmit.flags | flags);
        self.note_sent(now, start, &transmit);
        if flags == Flags::CWR {
            self.note_told(self.snd.nxt);
        }
        Some(transmit)
    }

    /// What a segment from offset `start` did to SND.NXT and the state. A FIN may join the
    /// retransmission of what precedes it, so this holds for every way of sending.
    pub(super) fn note_sent(&mut self, now: Instant, start: u64, transmit: &Transmit) {
        self.note_flight(now, start..start + transmit.len());
        self.note_prr_sent(transmit.len());
        self.note_paced(now, transmit.len());
        if transmit.flags.contains(Flags::FIN) {
            self.note_fin_sent(now);
        }
    }

    /// How much of the `available` output may go now, RFC 9293 §3.8.6.2.1 without Nagle: a full
    /// segment, all there is, or a good part of the peer's window. `None`: wait.
    fn sendable(&mut self, now: Instant, available: u64) -> Option<u64> {
        let mss = self.mss_u64();
        let edge = self.snd.una + u64::from(self.snd.wnd);
        let usable = edge.saturating_sub(self.snd.nxt);
        let wanted = available.min(usable);
        if wanted == 0 {
            return None;
        }
        let room = self.room(now, wanted.min(mss));
        if room < wanted.min(mss) {
            self.snd.limited = Limited::ByCongestion;
            return None;
        }
        let len = self.whole_segments(wanted, room);
        if len == wanted && wanted < available && wanted >= mss {
            // The peer's window cuts a segment: leave the odd end for later.
            return Some(len - len % mss);
        }
        let good_part = u64::from(self.snd.wnd_max / 2).max(1);
        (len >= mss || len == available || len >= good_part).then_some(len)
    }

    /// RFC 5681 §4.1: after more than a timeout without sending, the path may have changed. The
    /// window decays with each (RFC 2861 §3.1), and is never just forgotten.
    fn restart_after_idle(&mut self, now: Instant) {
        if self.bytes_in_flight() > 0 {
            return;
        }
        let timeout = self.snd.rtt.timeout(&self.settings, 0).as_nanos().max(1);
        let quiet = now.since(self.snd.busy_at).as_nanos();
        let halvings = u32::try_from(quiet / timeout).unwrap_or(u32::MAX);
        let initial = self.initial_window();
        let control = self.snd.congestion.control();
        control.on_pause(now);
        if halvings > 0 {
            control.on_idle(halvings, initial);
            self.snd.busy_at = now;
        }
    }

    /// A segment with the positions `part` of the output, or as many as `fetch` has.
    pub(super) fn segment(
        &mut self,
        now: Instant,
        part: Range<u64>,
        fetch: Fetch<'_>,
    ) -> Option<Transmit> {
        let text = part.start..part.end.min(self.snd.end);
        let mut flags = Flags::ACK;
        let mut payload = 0;
        if text.start < text.end {
            let wanted = usize::try_from(text.end - text.start).unwrap_or(usize::MAX);
            payload = fetch(text.clone()).min(wanted);
            if payload == 0 {
                self.snd.blocked = true;
                return None;
            }
        }
        let mut end = text.start + payload as u64;
        if end == self.snd.end && self.fin_fits(&part, end) {
            flags |= Flags::FIN;
            end += 1;
        }
        if end >= self.output_limit() && payload > 0 {
            flags |= Flags::PSH;
        }
        let mut transmit = self.plain(now, self.seq_of(part.start), flags);
        transmit.payload = payload;
        self.snd.busy_at = now;
        Some(transmit)
    }

    /// Whether the FIN goes with a segment of `part` whose text ends where the output ends. A
    /// FIN behind new data may pass the window by one: it needs no buffer.
    fn fin_fits(&self, part: &Range<u64>, end: u64) -> bool {
        self.snd.finish && (part.end > end || (end >= self.snd.nxt && self.output_limit() > end))
    }

    // ---- probes ----

    /// One position beyond the shut window, or what fits a window too small to be worth waiting
    /// for any longer.
    fn probe(&mut self, now: Instant, fetch: Fetch<'_>) -> Option<Transmit> {
        let start = self.snd.una;
        if self.output_limit() <= start || self.snd.blocked {
            return Some(self.empty_probe(now));
        }
        let available = self.output_limit() - start;
        let len = u64::from(self.snd.wnd).clamp(1, self.mss_u64()).min(available);
        let Some(transmit) = self.segment(now, start..start + len, fetch) else {
            return Some(self.empty_probe(now));
        };
        self.note_sent(now, start, &transmit);
        self.arm_resend(now);
        Some(transmit)
    }

    /// An old sequence number and nothing else: every peer answers that with an acknowledgment,
    /// where an empty segment inside the window may be ignored. RFC 9293 §3.8.4.
    fn empty_probe(&mut self, now: Instant) -> Transmit {
        let seq = self.seq_of(self.snd.una).sub(1);
        self.plain(now, seq, Flags::ACK)
    }

    // ---- acknowledgments ----

    /// Whether an acknowledgment has to go out by itself.
    fn ack_wanted(&self) -> bool {
        use super::receive::AckDue;
        self.rcv.forced > 0
            || (self.rcv.due == AckDue::Now && self.ack_allowed() > self.rcv.acked)
            || self.window_update_due()
    }

    fn acknowledgment(&mut self, now: Instant) -> Transmit {
        let owed = self.rcv.forced.saturating_sub(1);
        let blocks = self.sack_blocks();
        let mut transmit = self.plain(now, self.empty_seq(), Flags::ACK);
        transmit.options.sack = blocks;
        self.rcv.forced = owed;
        transmit
    }

    /// SND.NXT, or the right edge if the peer has moved it below: it would not take more.
    fn empty_seq(&self) -> SeqNum {
        let edge = self.snd.una + u64::from(self.snd.wnd);
        self.seq_of(self.snd.nxt.min(edge.max(self.snd.una)))
    }

    fn reset(&self) -> Transmit {
        let ack = self.rcv_seq_of(self.ack_allowed());
        let mut reset = reset_at(self.empty_seq(), Some(ack));
        reset.mss = self.mss();
        reset
    }

    /// A segment of an established connection: acknowledges what the horizon allows and
    /// advertises the window.
    fn plain(&mut self, now: Instant, seq: SeqNum, flags: Flags) -> Transmit {
        let ack = self.ack_allowed();
        let window = self.advertise(ack);
        self.note_ack_sent(ack);
        self.rcv.forced = 0;
        Transmit {
            seq,
            ack: self.rcv_seq_of(ack),
            flags: flags | self.ecn_echo(),
            window,
            options: TcpOptions {
                timestamps: self.timestamps_option(now),
                ..TcpOptions::default()
            },
            payload: 0,
            mss: self.mss(),
            ecn: 0,
        }
    }

    fn timestamps_option(&self, now: Instant) -> Option<Timestamps> {
        let val = self.ts_value(now);
        self.timestamps.then_some(Timestamps { val, ecr: self.rcv.ts_recent })
    }

    /// TSval at `now`: milliseconds, from a point that is this connection's own.
    pub(super) fn ts_value(&self, now: Instant) -> u32 {
        self.ts_offset.wrapping_add(now.as_millis() as u32)
    }
}
