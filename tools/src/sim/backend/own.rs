//! A backend's connection on this project's TCP.

use std::sync::Arc;

use super::app::App;
use super::{BackendPlan, Condition, Server};
use crate::sim::client::Outgoing;
use standin::tcp::{PathSignal, Settings, State, Tcb};
use standin::time::{Duration, Instant};
use standin::wire::{
    ChecksumState, FourTuple, Icmp, IcmpKind, SeqNum, parse_icmp, parse_ip, parse_tcp,
};

/// The longest it waits before it sends again, so that a run ends in time.
const RTO_MAX: Duration = Duration::from_secs(3);
/// Long enough for old segments to be gone.
const TIME_WAIT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Own {
    tuple: FourTuple,
    tcb: Tcb,
    app: App,
    offload: bool,
    heard_end: bool,
}

impl Own {
    /// The connection that `packet` opens, if it is a sound SYN.
    pub(super) fn accept(
        now: u64,
        plan: &BackendPlan,
        app: App,
        packet: &[u8],
        mtu: u16,
        random: u64,
    ) -> Option<Self> {
        let ip = parse_ip(packet).ok()?;
        let (remote, local, syn) = parse_tcp(&ip, ChecksumState::Verify).ok()?;
        let settings = Settings {
            receive_buffer: plan.receive_buffer,
            sack: plan.modern,
            timestamps: plan.modern,
            rto_max: RTO_MAX,
            time_wait: TIME_WAIT,
            max_segment: if plan.offload { 20_000 } else { 1 },
            syn_retries: 200,
            data_retries: 250,
            ..Settings::default()
        };
        let (iss, offset) = (SeqNum(random as u32), (random >> 32) as u32);
        let ipv6 = ip.src.is_ipv6();
        let mut server = Self {
            tuple: FourTuple { local: (ip.dst, local).into(), remote: (ip.src, remote).into() },
            tcb: Tcb::accept(&Arc::new(settings), at(now), &syn, iss, offset, mtu, ipv6),
            app,
            offload: plan.offload,
            heard_end: false,
        };
        server.settle(now);
        Some(server)
    }

    /// Tells TCP what the application wants, and the other way round.
    fn settle(&mut self, now: u64) {
        let Self { tcb, app, .. } = self;
        app.on_acked(tcb.acked());
        if tcb.peer_finished() && !self.heard_end {
            self.heard_end = true;
            app.hear_end();
        }
        app.tick(now);
        tcb.set_output_end(app.output_end());
        tcb.set_consumed(app.taken());
        if app.finished() {
            tcb.finish();
        }
    }
}

impl Server for Own {
    fn on_packet(&mut self, now: u64, packet: &[u8]) {
        let Ok(ip) = parse_ip(packet) else { return };
        if let Ok((.., segment)) = parse_tcp(&ip, ChecksumState::Verify) {
            let Self { tcb, app, .. } = self;
            tcb.on_segment(at(now), &segment, &mut |bytes| app.hear(bytes));
        } else if let Ok(Icmp::Error(error)) = parse_icmp(&ip)
            && let IcmpKind::TooBig { mtu } = error.kind
        {
            self.tcb.on_icmp(at(now), PathSignal::TooBig { mtu }, error.seq);
        }
        self.settle(now);
    }

    fn on_timer(&mut self, now: u64) {
        self.tcb.on_timer(at(now));
        self.settle(now);
    }

    fn deadline(&mut self, _now: u64) -> u64 {
        self.tcb.deadline().map_or(u64::MAX, Instant::as_nanos).min(self.app.deadline())
    }

    fn poll_packet(&mut self, now: u64) -> Option<Outgoing> {
        let Self { tcb, app, .. } = self;
        let mut payload = Vec::new();
        let transmit = tcb.poll_transmit(at(now), &mut |range| {
            payload.resize((range.end - range.start) as usize, 0);
            app.speak(range.start, &mut payload);
            payload.len()
        })?;
        payload.truncate(transmit.payload);
        Some(Outgoing::of(self.tuple, &transmit, &payload, self.offload))
    }

    fn kill(&mut self, now: u64, orderly: bool) {
        if orderly && !self.app.ends_by_close() {
            self.tcb.finish();
        } else {
            self.tcb.abort(at(now));
        }
    }

    fn stand_still(&mut self, still: bool) {
        self.app.still = still;
    }

    fn condition(&self) -> Condition {
        match self.tcb.state() {
            State::Closed | State::Listen => Condition::Over,
            State::TimeWait => Condition::Waits,
            _ => Condition::Lives,
        }
    }

    fn taken(&self) -> u64 {
        self.app.taken()
    }

    fn story(&self) -> String {
        format!(
            "own, with {}: {}, took {}, said {}, acked {}",
            self.tuple.remote,
            self.tcb.state(),
            self.app.taken(),
            self.app.output_end(),
            self.tcb.acked()
        )
    }
}

/// The world's time on a backend's clock.
const fn at(now: u64) -> Instant {
    Instant::from_nanos(now)
}
