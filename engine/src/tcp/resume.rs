//! Takeover: what a connection hands over, how another host goes on with it, and its first words.

use super::rtt::Rtt;
use super::settings::Settings;
use super::tcb::{PathFacts, WINDOW_MAX};
use super::transmit::MSS_MIN;
use super::{Hard, State, Tcb};
use crate::time::Instant;
use std::sync::Arc;

impl Tcb {
    /// What survives a takeover.
    pub fn hard(&self) -> Hard {
        Hard {
            iss: self.iss,
            irs: self.irs,
            snd_scale: self.snd_scale,
            rcv_scale: self.rcv_scale,
            peer_mss: self.peer_mss,
            sack: self.sack,
            ecn: self.ecn,
            timestamps: self.timestamps,
            ts_offset: self.ts_offset,
            ts_recent: self.rcv.ts_recent,
            mtu: self.mtu,
            ipv6: self.ipv6,
            active_open: self.active_open,
            handshake_done: self.state.synchronized(),
            syn_received: self.state.synchronized() || self.state == State::SynReceived,
            acked: self.acked(),
            snd_wnd: self.snd.wnd,
            received: self.rcv.nxt,
            consumed: self.rcv.consumed,
            received_edge: self.rcv.edge,
            peer_fin: self.peer_finished(),
            fin_acked: self.fin_acked(),
            srtt: self.srtt().unwrap_or_default(),
        }
    }

    /// Goes on with another host's connection (`engine::takeover`).
    ///
    /// The caller then gives the output (`set_output_end`, `finish`), the horizons, and calls
    /// [`Tcb::nudge`]. SND.NXT starts again at SND.UNA. The peer may have acknowledged more than
    /// `hard` knows, so acknowledgments of anything that exists are believed, at first within
    /// 2³⁰ bytes and then within the largest window that the peer can offer.
    pub fn resume(settings: &Arc<Settings>, now: Instant, hard: &Hard) -> Self {
        let Hard { ts_offset, mtu, ipv6, .. } = *hard;
        let mut tcb = Self::new(settings, now, hard.iss, PathFacts { ts_offset, mtu, ipv6 });
        tcb.irs = hard.irs;
        tcb.peer_mss = hard.peer_mss.max(MSS_MIN);
        tcb.snd_scale = hard.snd_scale.min(14);
        tcb.rcv_scale = hard.rcv_scale.min(14);
        tcb.sack = hard.sack;
        tcb.ecn = hard.ecn;
        tcb.timestamps = hard.timestamps;
        tcb.active_open = hard.active_open;
        tcb.snd.una = hard.acked;
        tcb.snd.nxt = hard.acked;
        tcb.snd.end = hard.acked;
        tcb.snd.leap = hard.acked + LEAP_FIRST;
        // What the predecessor may have sent: a round trip cannot be taken from it.
        tcb.snd.recover = hard.acked + u64::from(hard.snd_wnd.min(WINDOW_MAX));
        tcb.snd.wnd = hard.snd_wnd.min(WINDOW_MAX);
        tcb.snd.wnd_max = tcb.snd.wnd;
        tcb.snd.rtt = Rtt::from_hint(hard.srtt);
        tcb.resume_input(hard);
        tcb.resume_state(now, hard);
        tcb
    }

    fn resume_input(&mut self, hard: &Hard) {
        self.rcv.nxt = hard.received;
        self.rcv.acked = hard.received;
        self.rcv.consumed = hard.consumed.min(hard.received);
        self.rcv.fin = hard.peer_fin.then(|| hard.received.saturating_sub(1));
        self.rcv.ts_recent = hard.ts_recent;
        self.rcv.edge = hard.edge_promised(&self.settings);
        // Any acceptable segment is newer than what we know of the peer's window.
        self.snd.wl1 = self.rcv_seq_of(self.rcv.nxt).sub(1 << 30);
    }

    fn resume_state(&mut self, now: Instant, hard: &Hard) {
        self.state = match (hard.handshake_done, hard.syn_received) {
            (false, false) => State::SynSent,
            (false, true) => State::SynReceived,
            (true, _) => State::Established,
        };
        // Without a SYN there is nothing that the peer could acknowledge. With one, output that
        // depends on no input may have left as soon as the handshake was done, before anybody here
        // knew that it was.
        if !hard.syn_received {
            self.snd.leap = 0;
        }
        if hard.peer_fin {
            self.transition(now, State::CloseWait, "resumed");
        }
        if hard.fin_acked {
            // Our FIN took a sequence number, and what we say next comes behind it.
            self.snd.finish = true;
            self.snd.una = hard.acked + 1;
            self.snd.nxt = hard.acked + 1;
        }
        match (hard.fin_acked, hard.peer_fin) {
            (false, _) => self.arm_keepalive(now),
            (true, false) => {
                self.transition(now, State::FinWait1, "resumed");
                self.transition(now, State::FinWait2, "resumed");
            }
            // Which end finished first is not known any more. Waiting is safe in both cases.
            (true, true) => {
                self.state = State::Closing;
                self.transition(now, State::TimeWait, "resumed");
            }
        }
    }

    /// A takeover is complete for this connection: it acts at once (a nudge). With output that
    /// is not acknowledged, an initial window of it goes out from SND.UNA; without, an ACK tells
    /// the peer that the path is good. Returns whether there is such output: an ACK alone does not
    /// hurry.
    pub fn nudge(&mut self, now: Instant) -> bool {
        (self.snd.backoff, self.snd.repeats) = (0, 0);
        self.snd.progress_at = now;
        self.rcv.heard_at = now;
        self.timers.resend = Instant::NEVER;
        self.restart_congestion();
        self.snd.undo = None;
        if !self.state.synchronized() {
            self.syn_due = self.state != State::Closed;
            return self.syn_due;
        }
        self.mark_all_lost();
        let outstanding = self.state.may_send() && self.output_limit() > self.snd.una;
        if outstanding {
            self.snd.probe_due = self.snd.wnd == 0;
        } else {
            self.rcv.forced = 1;
        }
        outstanding
    }
}

/// How far beyond what we know the first ACK after a takeover may reach: half of what sequence
/// arithmetic can tell apart.
const LEAP_FIRST: u64 = 1 << 30;
