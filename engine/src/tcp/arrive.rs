//! SEGMENT ARRIVES: RFC 9293 §3.10.7, one function per numbered check.

use super::cookie::timestamps_of;
use super::{CloseCause, DropReason, State, Tcb, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment};
use core::ops::ControlFlow;

/// Whether the checks go on. `Break` says what became of the segment.
type Step = ControlFlow<Verdict>;

const fn drop_for(reason: DropReason) -> Step {
    Step::Break(Verdict::Dropped(reason))
}

impl Tcb {
    /// A segment for this connection. `deliver` is called with input as RCV.NXT moves over it:
    /// each byte once, in order. Then poll for output.
    pub fn on_segment(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Verdict {
        let step = match self.state {
            State::Closed | State::Listen => drop_for(DropReason::Closed),
            State::SynSent => self.arrives_in_syn_sent(now, segment, deliver),
            State::SynReceived
            | State::Established
            | State::FinWait1
            | State::FinWait2
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => self.arrives(now, segment, deliver),
        };
        match step {
            Step::Continue(()) => Verdict::Accepted,
            Step::Break(verdict) => verdict,
        }
    }

    /// §3.10.7.4: all states but CLOSED, LISTEN and SYN-SENT.
    fn arrives(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Step {
        self.check_sequence(now, segment)?; // first
        self.check_reset(now, segment)?; // second; third, security, is not implemented
        self.check_syn(now, segment)?; // fourth
        self.check_ack(now, segment)?; // fifth; sixth, urgent data, is taken as text
        self.take_timestamp(now, segment);
        self.take_text(now, segment, deliver); // seventh
        self.check_fin(now, segment); // eighth
        Step::Continue(())
    }

    /// First: is the segment in the window, and not from the past (RFC 7323 §5.3)?
    ///
    /// Deviation: the left edge is the last ACK sent instead of RCV.NXT, so that an empty segment
    /// overtaken by data is still good; and a segment at the right edge is looked at, because an
    /// acknowledgment from a peer that filled our window has that number.
    fn check_sequence(&mut self, now: Instant, segment: &Segment<'_>) -> Step {
        if segment.flags.contains(Flags::SYN) {
            // RFC 5961 §4: answered wherever it stands.
            return Step::Continue(());
        }
        if let Some(reason) = self.paws(now, segment) {
            self.answer_unacceptable(now, segment);
            return drop_for(reason);
        }
        let start = self.rcv_offset_of(segment.seq);
        let end = start + i64::from(segment.len());
        let left = self.rcv.acked.cast_signed() + i64::from(!segment.is_empty());
        let right = self.rcv.edge.max(self.rcv.nxt).cast_signed();
        if end < left || start > right {
            self.answer_unacceptable(now, segment);
            self.note_old_text(start, end);
            return drop_for(DropReason::Sequence);
        }
        self.rcv.heard_at = now;
        self.snd.keepalives = 0;
        Step::Continue(())
    }

    /// "If an incoming segment is not acceptable, an acknowledgment should be sent in reply
    /// (unless the RST bit is set)". Empty ones are answered at a limited rate, so that two
    /// confused ends do not answer each other for ever.
    fn answer_unacceptable(&mut self, now: Instant, segment: &Segment<'_>) {
        if segment.flags.contains(Flags::RST) {
            return;
        }
        self.rcv.heard_at = now;
        if segment.flags.contains(Flags::FIN) && self.state == State::TimeWait {
            // A retransmitted FIN: our ACK of it was lost. Wait 2 MSL once more.
            self.timers.wait = now + self.settings.time_wait;
        }
        if !segment.is_empty() || self.challenge.allow(now) {
            self.force_ack();
        }
    }

    fn note_old_text(&mut self, start: i64, end: i64) {
        if let (Ok(start), Ok(end)) = (u64::try_from(start), u64::try_from(end))
            && start < end
            && end <= self.rcv.nxt
        {
            self.note_duplicate(start..end);
        }
    }

    /// Protection against wrapped sequence numbers. A timestamp that has stood for 24 days proves
    /// nothing any more, RFC 7323 §5.5.
    fn paws(&self, now: Instant, segment: &Segment<'_>) -> Option<DropReason> {
        if !self.timestamps || segment.flags.contains(Flags::RST) {
            return None;
        }
        let Some(timestamps) = segment.options.timestamps else {
            return Some(DropReason::TimestampMissing);
        };
        let age = timestamps.val.wrapping_sub(self.rcv.ts_recent).cast_signed();
        let stands = now.since(self.rcv.ts_recent_at) < TS_RECENT_LIFE;
        (age < 0 && stands).then_some(DropReason::Paws)
    }

    /// TS.Recent follows segments that span the last ACK sent, RFC 7323 §4.3.
    ///
    /// Only those that all checks have let pass: by one that a stranger has made up it would leap,
    /// and whatever the peer says would be from the past for 24 days.
    fn take_timestamp(&mut self, now: Instant, segment: &Segment<'_>) {
        let start = self.rcv_offset_of(segment.seq);
        if let (true, Some(timestamps)) = (self.timestamps, segment.options.timestamps)
            && start <= self.rcv.acked.cast_signed()
            && !segment.flags.contains(Flags::SYN)
        {
            self.rcv.ts_recent = timestamps.val;
            self.rcv.ts_recent_at = now;
        }
    }

    /// Second: RST, by RFC 5961 §3. Only the exact number ends the connection: RCV.NXT, or the
    /// ACK field we last showed, which the horizon may hold behind it. Others are asked to prove
    /// themselves.
    fn check_reset(&mut self, now: Instant, segment: &Segment<'_>) -> Step {
        if !segment.flags.contains(Flags::RST) {
            return Step::Continue(());
        }
        let at = self.rcv_offset_of(segment.seq);
        let exact = at == self.rcv.nxt.cast_signed() || at == self.rcv.acked.cast_signed();
        if self.state == State::TimeWait {
            // RFC 1337 would have all of them ignored. But it is by such a reset that a client which
            // uses its port again with lower numbers gets rid of what waits here.
            if exact && !self.settings.rfc1337 {
                return Step::Break(self.close(now, CloseCause::Done));
            }
            return drop_for(DropReason::ResetInTimeWait);
        }
        if exact {
            return Step::Break(self.close(now, CloseCause::Reset));
        }
        self.challenge(now);
        drop_for(DropReason::ResetDoubtful)
    }

    /// Fourth: SYN. In SYN-RECEIVED it is the first one again, or the other half of a
    /// simultaneous open. In a connection it gets a challenge ACK, RFC 5961 §4.
    fn check_syn(&mut self, now: Instant, segment: &Segment<'_>) -> Step {
        if !segment.flags.contains(Flags::SYN) {
            return Step::Continue(());
        }
        if self.state == State::SynReceived && segment.seq == self.irs {
            if segment.flags.contains(Flags::ACK) {
                return Step::Continue(());
            }
            self.syn_due = true;
            return drop_for(DropReason::SynRepeated);
        }
        self.challenge(now);
        drop_for(DropReason::SynInConnection)
    }

    /// Fifth: ACK.
    fn check_ack(&mut self, now: Instant, segment: &Segment<'_>) -> Step {
        if !segment.flags.contains(Flags::ACK) {
            return drop_for(DropReason::AckMissing);
        }
        let ack = self.offset_of(segment.ack);
        if self.state == State::SynReceived {
            if ack < 0 || ack > self.ack_limit().cast_signed() {
                self.stray = Some(segment.ack);
                return drop_for(DropReason::Handshake);
            }
            self.sample_handshake(now, segment);
            self.establish(now, segment, "ACK of SYN");
        }
        self.check_ack_range(now, ack)?;
        self.on_ack(now, segment, ack);
        self.after_ack(now)
    }

    /// RFC 5961 §5: SND.UNA - MAX.SND.WND =< SEG.ACK =< SND.NXT, or a challenge.
    fn check_ack_range(&mut self, now: Instant, ack: i64) -> Step {
        if ack > self.ack_limit().cast_signed() {
            self.challenge(now);
            return drop_for(DropReason::AckUnsent);
        }
        if ack < self.snd.una.cast_signed() - i64::from(self.snd.wnd_max.max(65_535)) {
            self.challenge(now);
            return drop_for(DropReason::AckAncient);
        }
        Step::Continue(())
    }

    /// What the acknowledgment of our FIN means in each state.
    fn after_ack(&mut self, now: Instant) -> Step {
        if !self.fin_acked() {
            return Step::Continue(());
        }
        match self.state {
            State::FinWait1 => self.transition(now, State::FinWait2, "ACK of FIN"),
            State::Closing => self.transition(now, State::TimeWait, "ACK of FIN"),
            State::LastAck => return Step::Break(self.close(now, CloseCause::Done)),
            State::Closed
            | State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::FinWait2
            | State::CloseWait
            | State::TimeWait => (),
        }
        Step::Continue(())
    }

    /// Seventh: the text. After the peer's FIN there is none to take.
    fn take_text(&mut self, now: Instant, segment: &Segment<'_>, deliver: &mut dyn FnMut(&[u8])) {
        if segment.payload.is_empty() {
            return;
        }
        if !self.state.may_receive() {
            self.force_ack();
            return;
        }
        if self.state == State::FinWait2 {
            // The peer is not done, and says so.
            self.timers.wait = now + self.settings.fin_wait_2;
        }
        self.note_mark(segment);
        let syn = i64::from(segment.flags.contains(Flags::SYN));
        let start = self.rcv_offset_of(segment.seq) + syn;
        // Before the first data byte the receiver may still learn the peer's segment size.
        self.take_input(now, start, segment.payload, deliver);
    }

    /// Eighth: FIN. It counts when everything before it has come.
    fn check_fin(&mut self, now: Instant, segment: &Segment<'_>) {
        if segment.flags.contains(Flags::FIN) {
            let at = self.rcv_offset_of(segment.seq) + i64::from(segment.len()) - 1;
            self.note_fin(now, at);
        }
        if self.rcv.fin == Some(self.rcv.nxt) {
            self.rcv.nxt += 1;
            self.owe_ack_now();
            self.after_fin(now);
        }
    }

    /// A FIN at the input offset `at`: remembered if the window reaches it, answered if it is old.
    fn note_fin(&mut self, now: Instant, at: i64) {
        let Ok(at) = u64::try_from(at) else { return };
        if at < self.rcv.nxt {
            self.force_ack();
            if self.state == State::TimeWait {
                self.timers.wait = now + self.settings.time_wait;
            }
        } else if self.rcv.fin.is_none() && at <= self.rcv.edge {
            self.end_input(at);
            if at > self.rcv.nxt {
                self.force_ack();
            }
        }
    }

    /// The peer has finished.
    fn after_fin(&mut self, now: Instant) {
        match self.state {
            State::SynReceived | State::Established => {
                self.transition(now, State::CloseWait, "FIN");
            }
            State::FinWait1 => self.transition(now, State::Closing, "FIN"),
            State::FinWait2 => {
                self.transition(now, State::TimeWait, "FIN");
                self.owe_ack_now();
            }
            State::Closed
            | State::Listen
            | State::SynSent
            | State::CloseWait
            | State::Closing
            | State::LastAck
            | State::TimeWait => (),
        }
    }

    /// A challenge ACK, RFC 5961 §7: "prove that you are the peer".
    fn challenge(&mut self, now: Instant) {
        if self.challenge.allow(now) {
            self.force_ack();
        }
    }

    /// §3.10.7.3: SYN-SENT.
    fn arrives_in_syn_sent(
        &mut self,
        now: Instant,
        segment: &Segment<'_>,
        deliver: &mut dyn FnMut(&[u8]),
    ) -> Step {
        let acked = segment.flags.contains(Flags::ACK);
        // First: ACK. Ours was one SYN, so it can say one thing.
        if acked && segment.ack != self.iss.add(1) {
            if !segment.flags.contains(Flags::RST) {
                self.stray = Some(segment.ack);
            }
            return drop_for(DropReason::Handshake);
        }
        // Second: RST, believed only if it acknowledges our SYN.
        if segment.flags.contains(Flags::RST) {
            return if acked {
                Step::Break(self.close(now, CloseCause::Reset))
            } else {
                drop_for(DropReason::ResetDoubtful)
            };
        }
        // Fourth: SYN.
        if !segment.flags.contains(Flags::SYN) {
            return drop_for(DropReason::AckMissing);
        }
        self.take_syn(now, segment);
        if acked {
            self.sample_handshake(now, segment);
            self.establish(now, segment, "SYN-ACK");
            self.force_ack();
        } else {
            self.transition(now, State::SynReceived, "SYN: simultaneous open");
            self.syn_due = true;
            return Step::Continue(());
        }
        self.take_text(now, segment, deliver);
        self.check_fin(now, segment);
        Step::Continue(())
    }

    /// The round trip of the SYN, unless it was repeated (Karn).
    fn sample_handshake(&mut self, now: Instant, segment: &Segment<'_>) {
        let once = core::mem::take(&mut self.snd.syn_timed);
        let timed = once.then(|| now.since(self.snd.busy_at));
        let echoed = timestamps_of(segment).filter(|_| self.timestamps);
        if let Some(sample) = timed.or_else(|| self.echo_age(now, echoed?.ecr)) {
            self.snd.rtt.sample(sample);
        }
    }

    /// How long ago we sent the timestamp that the peer echoes, RFC 7323 §4.
    pub(super) fn echo_age(&self, now: Instant, echo: u32) -> Option<Duration> {
        let millis = self.ts_value(now).wrapping_sub(echo);
        (millis < ECHO_AGE_MAX).then(|| Duration::from_millis(millis.into()))
    }
}

/// RFC 7323 §5.5.
const TS_RECENT_LIFE: Duration = Duration::from_secs(24 * 24 * 3600);
/// An older echo is nothing we sent.
const ECHO_AGE_MAX: u32 = 60_000;
