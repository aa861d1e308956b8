//! The transmission control block: a connection's state, how it opens, and what may be asked.

use super::assemble::Assembler;
use super::challenge::Limit;
use super::congestion::{Algorithm, Congestion, Limited};
use super::cookie;
use super::rack::{Flight, Order};
use super::receive::{AckDue, Room};
use super::rtt::Rtt;
use super::settings::Settings;
use super::timer::Alarm;
use super::transmit::{
    Horizon, MSS_DEFAULT_V4, MSS_DEFAULT_V6, MSS_MIN, TIMESTAMPS_LEN, mss_for, syn_window,
};
use super::undo::Undo;
use super::{CloseCause, State, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::{SackBlock, Segment, SeqNum, TcpOptions};
use std::sync::Arc;

/// One connection. See the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Tcb {
    pub(super) settings: Arc<Settings>,
    pub(super) state: State,
    pub(super) iss: SeqNum,
    pub(super) irs: SeqNum,
    /// The path MTU.
    pub(super) mtu: u16,
    /// The peer's MSS option.
    pub(super) peer_mss: u16,
    /// Shift of the peer's window.
    pub(super) snd_scale: u8,
    /// Shift of our window.
    pub(super) rcv_scale: u8,
    pub(super) sack: bool,
    /// Both ends know ECN, RFC 3168.
    pub(super) ecn: bool,
    pub(super) timestamps: bool,
    pub(super) ipv6: bool,
    pub(super) active_open: bool,
    /// A SYN or SYN-ACK has to go out.
    pub(super) syn_due: bool,
    /// The reset of `abort` has to go out.
    pub(super) reset_due: bool,
    /// A reset for a segment that does not fit the handshake has to go out, with this number.
    pub(super) stray: Option<SeqNum>,
    /// Added to milliseconds to make TSval.
    pub(super) ts_offset: u32,
    pub(super) horizon: Horizon,
    pub(super) snd: Sending,
    pub(super) rcv: Receiving,
    pub(super) timers: Timers,
    pub(super) challenge: Limit,
}

/// The sender's variables. Positions are output offsets.
#[derive(Debug)]
pub(super) struct Sending {
    /// SND.UNA.
    pub(super) una: u64,
    /// SND.NXT: everything below was sent at least once.
    pub(super) nxt: u64,
    /// The output stream ends here, so far.
    pub(super) end: u64,
    /// An ACK up to here is acceptable although we have not sent so much ourselves: what came
    /// before a takeover may have.
    pub(super) leap: u64,
    /// No more output: a FIN follows `end`.
    pub(super) finish: bool,
    /// SND.WND in bytes from `una`.
    pub(super) wnd: u32,
    /// The largest window the peer ever offered, RFC 5961's MAX.SND.WND.
    pub(super) wnd_max: u32,
    /// SND.WL1.
    pub(super) wl1: SeqNum,
    /// SND.WL2.
    pub(super) wl2: SeqNum,
    pub(super) phase: Phase,
    /// Recovery ends when this is acknowledged.
    pub(super) recover: u64,
    /// Duplicate acknowledgments in a row.
    pub(super) duplicates: u16,
    /// The first lost segment goes out whatever the congestion window says.
    pub(super) resend_now: bool,
    /// `fetch` had nothing: wait for `unblock`.
    pub(super) blocked: bool,
    /// A window probe is due.
    pub(super) probe_due: bool,
    /// A keepalive probe is due.
    pub(super) keepalive_due: bool,
    pub(super) limited: Limited,
    /// What is out; `None` when nothing is.
    pub(super) flight: Option<Box<Flight>>,
    pub(super) order: Order,
    /// What [`Timers::resend`] is for.
    pub(super) alarm: Alarm,
    /// How to take the last reduction back.
    pub(super) undo: Option<Box<Undo>>,
    /// The next new data says CWR: the congestion window was reduced.
    pub(super) cwr_due: bool,
    /// A tail probe is due.
    pub(super) tail_due: bool,
    /// The tail probe under way was a retransmission.
    pub(super) tail_resent: bool,
    /// TLP.end_seq: SND.NXT when a tail probe was sent; zero when none is under way.
    pub(super) tail_end: u64,
    pub(super) congestion: Congestion,
    pub(super) rtt: Rtt,
    /// Doublings of the retransmission timeout. They end with a sample of the round trip, RFC 6298
    /// §5 and Karn.
    pub(super) backoff: u8,
    /// Timeouts in a row without progress.
    pub(super) repeats: u8,
    /// Keepalive probes since the peer was last heard.
    pub(super) keepalives: u8,
    /// The SYN went out once, at `busy_at`: its answer tells the round trip.
    pub(super) syn_timed: bool,
    /// When data was last sent, or a pause since then was accounted for.
    pub(super) busy_at: Instant,
    /// When the peer last acknowledged something new, or there was nothing to acknowledge.
    pub(super) progress_at: Instant,
}

/// Where loss recovery stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// No known loss.
    Open,
    /// Fast recovery, RFC 6675 and RFC 6582.
    Fast,
    /// After a retransmission timeout.
    Timeout,
}

/// The receiver's variables. Positions are input offsets.
#[derive(Debug)]
pub(super) struct Receiving {
    /// RCV.NXT.
    pub(super) nxt: u64,
    /// The right edge of the widest window ever advertised.
    pub(super) edge: u64,
    /// The application has consumed up to here.
    pub(super) consumed: u64,
    /// The largest ACK field sent: Last.ACK.sent of RFC 7323.
    pub(super) acked: u64,
    /// Where the peer's FIN stands, once seen.
    pub(super) fin: Option<u64>,
    pub(super) assembler: Option<Box<Assembler>>,
    /// A duplicate to report, RFC 2883.
    pub(super) duplicate: Option<SackBlock>,
    pub(super) due: AckDue,
    /// Acknowledgments echo a mark (ECE), until the peer says CWR.
    pub(super) echo: bool,
    /// Acknowledgments that answer something and do not wait.
    pub(super) forced: u8,
    /// Estimate of the peer's segment size, to tell a second full segment.
    pub(super) mss: u16,
    /// TS.Recent.
    pub(super) ts_recent: u32,
    /// When TS.Recent was taken.
    pub(super) ts_recent_at: Instant,
    /// When the peer was last heard.
    pub(super) heard_at: Instant,
    pub(super) room: Room,
}

/// Deadlines; [`Instant::NEVER`] for none.
#[derive(Debug)]
pub(super) struct Timers {
    /// Retransmission, tail probing, or window probing while the peer's window is shut.
    /// [`Sending::alarm`] says what for.
    pub(super) resend: Instant,
    /// A delayed acknowledgment.
    pub(super) ack: Instant,
    /// Keepalive.
    pub(super) idle: Instant,
    /// TIME-WAIT and FIN-WAIT-2.
    pub(super) wait: Instant,
}

/// What an opening knows of the packets' path.
#[derive(Clone, Copy)]
pub(super) struct PathFacts {
    pub(super) ts_offset: u32,
    pub(super) mtu: u16,
    pub(super) ipv6: bool,
}

impl Tcb {
    /// LISTEN gets a SYN: RFC 9293 §3.10.7.2. The caller has checked that it is one. The SYN-ACK
    /// goes out by [`Tcb::poll_transmit`] once the horizon is opened.
    pub fn accept(
        settings: &Arc<Settings>,
        now: Instant,
        syn: &Segment<'_>,
        iss: SeqNum,
        ts_offset: u32,
        mtu: u16,
        ipv6: bool,
    ) -> Self {
        let mut tcb = Self::new(settings, now, iss, PathFacts { ts_offset, mtu, ipv6 });
        tcb.transition(now, State::Listen, "passive open");
        tcb.take_syn(now, syn);
        tcb.transition(now, State::SynReceived, "SYN");
        tcb.syn_due = true;
        tcb
    }

    /// A SYN cookie came back: the connection as it would be had its SYN been remembered, just
    /// before the ACK that completes the handshake. The caller then feeds `ack` to
    /// [`Tcb::on_segment`] like any segment.
    pub fn accept_cookie(
        settings: &Arc<Settings>,
        now: Instant,
        ack: &Segment<'_>,
        facts: &cookie::Facts,
        ts_offset: u32,
        mtu: u16,
        ipv6: bool,
    ) -> Self {
        let mut tcb = Self::new(settings, now, facts.iss, PathFacts { ts_offset, mtu, ipv6 });
        tcb.transition(now, State::Listen, "passive open");
        tcb.take_syn(now, &facts.syn(ack));
        tcb.transition(now, State::SynReceived, "SYN cookie");
        tcb.establish(now, ack, "SYN cookie");
        tcb
    }

    /// An active open: SYN-SENT.
    pub fn connect(
        settings: &Arc<Settings>,
        now: Instant,
        iss: SeqNum,
        ts_offset: u32,
        mtu: u16,
        ipv6: bool,
    ) -> Self {
        let mut tcb = Self::new(settings, now, iss, PathFacts { ts_offset, mtu, ipv6 });
        tcb.active_open = true;
        tcb.rcv_scale = settings.window_scale();
        tcb.transition(now, State::SynSent, "active open");
        tcb.syn_due = true;
        tcb
    }

    pub(super) fn new(
        settings: &Arc<Settings>,
        now: Instant,
        iss: SeqNum,
        path: PathFacts,
    ) -> Self {
        let PathFacts { ts_offset, mtu, ipv6 } = path;
        let edge = u64::from(syn_window(settings));
        let mut tcb = Self {
            settings: Arc::clone(settings),
            state: State::Closed,
            iss,
            irs: SeqNum(0),
            mtu,
            peer_mss: if ipv6 { MSS_DEFAULT_V6 } else { MSS_DEFAULT_V4 },
            snd_scale: 0,
            rcv_scale: 0,
            sack: settings.sack,
            ecn: false,
            timestamps: settings.timestamps,
            ipv6,
            active_open: false,
            syn_due: false,
            reset_due: false,
            stray: None,
            ts_offset,
            horizon: Horizon::OPEN,
            snd: Sending::new(now),
            rcv: Receiving::new(now, edge),
            timers: Timers::none(),
            challenge: Limit::default(),
        };
        tcb.restart_congestion();
        tcb
    }

    /// What a SYN says: its number and its options.
    pub(super) fn take_syn(&mut self, now: Instant, syn: &Segment<'_>) {
        let TcpOptions { mss, window_scale, sack_permitted, timestamps, .. } = &syn.options;
        self.irs = syn.seq;
        if let Some(mss) = mss {
            self.peer_mss = (*mss).max(MSS_MIN);
        }
        // Both ends offer a scale, or neither scales: RFC 7323 §1.3.
        self.snd_scale = window_scale.unwrap_or(0).min(14);
        self.rcv_scale = window_scale.map_or(0, |_| self.settings.window_scale());
        self.sack &= sack_permitted;
        self.ecn = self.negotiate_ecn(syn);
        self.timestamps &= timestamps.is_some();
        if let (true, Some(timestamps)) = (self.timestamps, timestamps) {
            self.rcv.ts_recent = timestamps.val;
            self.rcv.ts_recent_at = now;
        }
        self.snd.wnd = syn.window.into();
        self.snd.wnd_max = self.snd.wnd;
        self.snd.wl1 = syn.seq;
        self.snd.wl2 = self.iss;
        self.rcv.heard_at = now;
        self.restart_congestion();
    }

    /// The handshake is complete; `segment` completed it.
    pub(super) fn establish(&mut self, now: Instant, segment: &Segment<'_>, why: &str) {
        let shift =
            if segment.flags.contains(crate::wire::Flags::SYN) { 0 } else { self.snd_scale };
        self.snd.wnd = u32::from(segment.window) << shift;
        self.snd.wnd_max = self.snd.wnd_max.max(self.snd.wnd);
        self.snd.wl1 = segment.seq;
        self.snd.wl2 = segment.ack;
        self.judge_handshake();
        self.snd.progress_at = now;
        self.timers.resend = Instant::NEVER;
        self.syn_due = false;
        // What was to be refused in the handshake, and waited for the horizon, is no matter now.
        self.stray = None;
        self.arm_keepalive(now);
        self.transition(now, State::Established, why);
    }

    /// What a handshake that needed patience says of the path. One SYN-ACK may be lost by chance;
    /// after two the window begins at one segment, RFC 6928 §2.
    fn judge_handshake(&mut self) {
        if self.snd.repeats > 1 {
            let mss = self.mss_u32();
            self.snd.congestion = Congestion::new(self.settings.congestion, mss);
        }
        if self.snd.repeats > 0 {
            self.snd.rtt.mistrust();
        }
        (self.snd.backoff, self.snd.repeats) = (0, 0);
    }

    // ---- the application's side ----

    /// The output stream's bytes up to `end` exist. It only grows, and not after
    /// [`Tcb::finish`]. An endless stream says 2⁶².
    pub fn set_output_end(&mut self, end: u64) {
        if !self.snd.finish {
            self.snd.end = end.clamp(self.snd.end, OUTPUT_END_MAX);
        }
    }

    /// No more output: a FIN follows what there is. The other direction stays open.
    pub fn finish(&mut self) {
        self.snd.finish = true;
    }

    /// The application has consumed the input up to `offset`; the window may move.
    pub fn set_consumed(&mut self, offset: u64) {
        self.rcv.consumed = offset.clamp(self.rcv.consumed, self.rcv.nxt.max(self.rcv.consumed));
    }

    /// Gives the connection up. A reset goes out by the next [`Tcb::poll_transmit`], if the
    /// horizon is open and the peer knows of the connection.
    pub fn abort(&mut self, now: Instant) {
        let known = self.state.synchronized() || self.state == State::SynReceived;
        self.reset_due = known && self.state != State::TimeWait && self.horizon.opened;
        self.close(now, CloseCause::Aborted);
    }

    /// Whether something that it may not reveal yet limits what it says.
    pub fn is_held_back(&self) -> bool {
        self.horizon != Horizon::OPEN
    }

    /// Whether this end went on with the connection after another: the peer may have had more than
    /// is known here.
    pub fn is_resumed(&self) -> bool {
        self.snd.leap != 0
    }

    /// How far the connection may speak. A limit only moves forward; below what has been revealed
    /// it has no effect.
    pub fn set_horizon(&mut self, horizon: Horizon) {
        let Horizon { opened, received, output } = horizon;
        self.horizon = Horizon {
            opened,
            received: received.max(self.rcv.acked),
            output: output.max(self.snd.nxt),
        };
    }

    /// `fetch` may have bytes again, after it returned 0.
    pub fn unblock(&mut self) {
        self.snd.blocked = false;
    }

    // ---- views ----

    /// The state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// SND.UNA as an output offset, without our FIN.
    pub fn acked(&self) -> u64 {
        self.snd.una.min(self.snd.end)
    }

    /// SND.NXT as an output offset, our FIN counted.
    pub const fn sent(&self) -> u64 {
        self.snd.nxt
    }

    /// RCV.NXT as an input offset, the peer's FIN counted.
    pub const fn received(&self) -> u64 {
        self.rcv.nxt
    }

    /// The ACK field last sent, as an input offset.
    pub const fn acknowledged(&self) -> u64 {
        self.rcv.acked
    }

    /// The peer's FIN was reached: there is no more input.
    pub fn peer_finished(&self) -> bool {
        self.rcv.fin.is_some_and(|fin| self.rcv.nxt > fin)
    }

    /// The peer has acknowledged our FIN.
    pub const fn fin_acked(&self) -> bool {
        self.snd.finish && self.snd.una > self.snd.end
    }

    /// The handshake is complete.
    pub const fn established(&self) -> bool {
        self.state.synchronized()
    }

    /// Whether its peer has acknowledged something new within `lately`, or there is nothing that it could,
    /// and it would take more, and what it has said has no hole.
    pub fn moves(&self, now: Instant, lately: Duration) -> bool {
        let is_asked = self.snd.una < self.snd.nxt || self.snd.wnd == 0;
        !is_asked && self.rcv.assembler.is_none() || now.since(self.snd.progress_at) < lately
    }

    /// The connection is over.
    pub fn closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Payload bytes per segment as things stand: the smaller of the peer's offer and the path,
    /// less the options every segment carries (RFC 6691).
    pub fn mss(&self) -> u16 {
        let carried = self.peer_mss.min(mss_for(self.mtu, self.ipv6));
        (carried - if self.timestamps { TIMESTAMPS_LEN } else { 0 }).max(1)
    }

    /// Bytes of options that every segment with payload carries, padding included.
    pub const fn payload_options_len(&self) -> usize {
        if self.timestamps { TIMESTAMPS_LEN as usize } else { 0 }
    }

    /// Smoothed round-trip time.
    pub fn srtt(&self) -> Option<Duration> {
        self.snd.rtt.smoothed()
    }

    /// Sequence positions sent and not acknowledged.
    pub const fn bytes_in_flight(&self) -> u64 {
        self.snd.nxt - self.snd.una
    }

    /// The congestion window in bytes.
    pub fn congestion_window(&self) -> u32 {
        self.snd.congestion.window()
    }

    /// The peer's window in bytes from [`Tcb::acked`] on.
    pub const fn peer_window(&self) -> u32 {
        self.snd.wnd
    }

    /// TS.Recent.
    pub const fn ts_recent(&self) -> u32 {
        self.rcv.ts_recent
    }

    /// Whether `fetch` returned 0 and [`Tcb::unblock`] is awaited.
    pub const fn blocked(&self) -> bool {
        self.snd.blocked
    }

    /// Whether our FIN is out, and the peer still has something to say to it: its own FIN, or an
    /// acknowledgment.
    pub const fn fin_sent(&self) -> bool {
        use State::{Closing, FinWait1, FinWait2, LastAck};
        matches!(self.state, FinWait1 | FinWait2 | Closing | LastAck)
    }

    /// Whether its peer was heard within `lately`.
    pub fn hears(&self, now: Instant, lately: Duration) -> bool {
        now.since(self.rcv.heard_at) < lately
    }

    /// Whether it is in TIME-WAIT.
    pub fn waits(&self) -> bool {
        self.state == State::TimeWait
    }

    /// Whether it is in TIME-WAIT, and owes its peer no acknowledgment.
    pub fn may_give_way(&self) -> bool {
        self.waits() && self.rcv.acked == self.rcv.nxt && self.rcv.forced == 0
    }

    /// Whether a SYN for this 4-tuple may replace a connection in TIME-WAIT, RFC 6191. If so the
    /// new connection's ISS must be at least the returned number.
    pub fn reuse_allowed(&self, syn: &Segment<'_>) -> Option<SeqNum> {
        if self.state != State::TimeWait {
            return None;
        }
        let later = syn.seq.after(self.rcv_seq_of(self.rcv.nxt));
        let allowed = match (self.timestamps, syn.options.timestamps) {
            (true, Some(ts)) => match ts.val.wrapping_sub(self.rcv.ts_recent).cast_signed() {
                0 => later,
                age => age > 0,
            },
            (false, Some(_)) if self.settings.timestamps => true,
            (_, _) => later,
        };
        // Beyond anything the old connection sent, and any window it might have filled.
        allowed.then(|| self.seq_of(self.snd.nxt).add(self.snd.wnd_max).add(1))
    }

    // ---- shared by the other files ----

    /// The only place where the state changes while a connection runs.
    pub(super) fn transition(&mut self, now: Instant, next: State, why: &str) {
        let legal = self.state.may_become(next);
        assert!(legal, "RFC 9293 figure 5: no way from {} to {next} ({why})", self.state);
        log::debug!("{:?} {} -> {next} ({why})", self.iss, self.state);
        self.state = next;
        match next {
            State::TimeWait => {
                self.timers = Timers::none();
                self.timers.wait = now + self.settings.time_wait;
            }
            State::FinWait2 => self.timers.wait = now + self.settings.fin_wait_2,
            State::Closed => {
                self.timers = Timers::none();
                self.snd.flight = None;
                self.snd.undo = None;
                self.rcv.assembler = None;
            }
            State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait1
            | State::CloseWait
            | State::Closing
            | State::LastAck => (),
        }
    }

    /// Ends the connection.
    pub(super) fn close(&mut self, now: Instant, cause: CloseCause) -> Verdict {
        if self.state != State::Closed {
            self.transition(now, State::Closed, &cause.to_string());
        }
        Verdict::Closed(cause)
    }

    /// The sequence number of an output offset.
    pub(super) const fn seq_of(&self, offset: u64) -> SeqNum {
        self.iss.add(1).add(offset as u32)
    }

    /// The sequence number of an input offset.
    pub(super) const fn rcv_seq_of(&self, offset: u64) -> SeqNum {
        self.irs.add(1).add(offset as u32)
    }

    /// The output offset of a sequence number, near SND.UNA. Negative: before the stream.
    pub(super) const fn offset_of(&self, seq: SeqNum) -> i64 {
        self.snd.una.cast_signed() + seq.diff(self.seq_of(self.snd.una)) as i64
    }

    /// The input offset of a sequence number, near RCV.NXT. Negative: before the stream.
    pub(super) const fn rcv_offset_of(&self, seq: SeqNum) -> i64 {
        self.rcv.nxt.cast_signed() + seq.diff(self.rcv_seq_of(self.rcv.nxt)) as i64
    }

    pub(super) fn mss_u32(&self) -> u32 {
        self.mss().into()
    }

    pub(super) fn mss_u64(&self) -> u64 {
        self.mss().into()
    }

    /// IW of RFC 6928, with the operator's number of segments.
    pub(super) fn initial_window(&self) -> u32 {
        self.mss_u32() * u32::from(self.settings.initial_window.max(1))
    }

    /// Congestion control as of a new connection: nothing is known of the path.
    pub(super) fn restart_congestion(&mut self) {
        let initial = self.initial_window();
        self.snd.congestion = Congestion::new(self.settings.congestion, initial);
    }

    pub(super) fn arm_keepalive(&mut self, now: Instant) {
        self.timers.idle =
            self.settings.keepalive.map_or(Instant::NEVER, |keepalive| now + keepalive.idle);
    }
}

impl Sending {
    fn new(now: Instant) -> Self {
        Self {
            una: 0,
            nxt: 0,
            end: 0,
            leap: 0,
            finish: false,
            wnd: 0,
            wnd_max: 0,
            wl1: SeqNum(0),
            wl2: SeqNum(0),
            phase: Phase::Open,
            recover: 0,
            duplicates: 0,
            resend_now: false,
            blocked: false,
            probe_due: false,
            keepalive_due: false,
            limited: Limited::ByOther,
            flight: None,
            order: Order::new(),
            alarm: Alarm::Timeout,
            undo: None,
            cwr_due: false,
            tail_due: false,
            tail_resent: false,
            tail_end: 0,
            congestion: Congestion::new(Algorithm::default(), 0),
            rtt: Rtt::default(),
            backoff: 0,
            repeats: 0,
            keepalives: 0,
            syn_timed: false,
            busy_at: now,
            progress_at: now,
        }
    }
}

impl Receiving {
    const fn new(now: Instant, edge: u64) -> Self {
        Self {
            nxt: 0,
            edge,
            consumed: 0,
            acked: 0,
            fin: None,
            assembler: None,
            duplicate: None,
            due: AckDue::No,
            echo: false,
            forced: 0,
            mss: MSS_DEFAULT_V4,
            ts_recent: 0,
            ts_recent_at: now,
            heard_at: now,
            room: Room::Buffer,
        }
    }
}

impl Timers {
    const fn none() -> Self {
        Self {
            resend: Instant::NEVER,
            ack: Instant::NEVER,
            idle: Instant::NEVER,
            wait: Instant::NEVER,
        }
    }
}

/// The largest window there is, RFC 7323 §2.3.
pub(super) const WINDOW_MAX: u32 = 65_535 << 14;
/// The end of an endless output stream.
const OUTPUT_END_MAX: u64 = 1 << 62;
