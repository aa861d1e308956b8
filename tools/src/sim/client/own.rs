//! A client that runs this project's TCP as active opener.

use core::net::SocketAddr;
use std::sync::Arc;

use super::{Endpoint, Outgoing, Standing};
use crate::sim::content::Content;
use crate::sim::http::Desk;
use crate::sim::plan::ClientPlan;
use crate::sim::script::Script;
use standin::tcp::{PathSignal, Settings, State, Tcb, Transmit, Verdict, reset_for};
use standin::time::{Duration, Instant};
use standin::wire::{
    ChecksumState, FourTuple, Icmp, IcmpKind, Segment, SeqNum, parse_icmp, parse_ip, parse_tcp,
    protocol,
};

/// The longest a client waits before it sends again, so that a run ends in time.
const RTO_MAX: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(in crate::sim) struct Own {
    tuple: FourTuple,
    tcb: Tcb,
    script: Script,
    standing: Standing,
    offload: bool,
    /// The answer to a segment that came after the end.
    reset: Option<Transmit>,
    heard_end: bool,
}

impl Own {
    pub(in crate::sim) fn new(
        now: u64,
        plan: &ClientPlan,
        ends: (SocketAddr, SocketAddr),
        mtu: u16,
        (content, desk): (&Arc<Content>, &Desk),
        random: u64,
    ) -> Self {
        let settings = Settings {
            receive_buffer: plan.receive_buffer,
            sack: plan.modern,
            timestamps: plan.modern,
            rto_max: RTO_MAX,
            max_segment: if plan.offload { 20_000 } else { 1 },
            syn_retries: 200,
            data_retries: 250,
            ..Settings::default()
        };
        let (iss, offset) = (SeqNum(random as u32), (random >> 32) as u32);
        let ipv6 = ends.0.is_ipv6();
        let tcb = Tcb::connect(&Arc::new(settings), at(now), iss, offset, mtu, ipv6);
        let mut client = Self {
            tuple: FourTuple { local: ends.0.into(), remote: ends.1.into() },
            tcb,
            script: Script::new(now, plan, content, desk),
            standing: Standing::Working,
            offload: plan.offload,
            reset: None,
            heard_end: false,
        };
        client.settle(now);
        client
    }

    /// Tells TCP what the application wants, and the other way round.
    fn settle(&mut self, now: u64) {
        self.script.tick(now);
        self.tcb.set_output_end(self.script.output_end());
        if self.script.finished() {
            self.tcb.finish();
        }
        self.tcb.set_consumed(self.script.taken());
        if self.standing != Standing::Working {
            return;
        }
        if self.tcb.peer_finished() && !self.heard_end {
            self.heard_end = true;
            if let Err(why) = self.script.hear_end(now) {
                self.standing = Standing::Wrong(why);
                return;
            }
            if self.script.finished() {
                self.tcb.finish();
            }
        }
        if self.script.aborts() {
            self.tcb.abort(at(now));
            self.standing = Standing::Content;
        } else if self.script.is_content()
            && matches!(self.tcb.state(), State::TimeWait | State::Closed)
        {
            self.standing = Standing::Content;
        }
    }

    fn obey(&mut self, now: u64, verdict: Verdict) {
        self.settle(now);
        if let (Verdict::Closed(cause), Standing::Working) = (verdict, &self.standing) {
            self.standing = Standing::Lost(format!(
                "{cause}, received {}, acked {}",
                self.script.received(),
                self.tcb.acked()
            ));
        }
    }

    fn on_segment(&mut self, now: u64, segment: &Segment<'_>) {
        if self.tcb.closed() {
            self.reset = reset_for(segment);
            return;
        }
        let Self { tcb, script, standing, .. } = self;
        let verdict = tcb.on_segment(at(now), segment, &mut |bytes| {
            if *standing == Standing::Working
                && let Err(why) = script.hear(now, bytes)
            {
                *standing = Standing::Wrong(why);
            }
        });
        self.obey(now, verdict);
    }
}

impl Endpoint for Own {
    fn on_packet(&mut self, now: u64, packet: &[u8]) {
        let Ok(ip) = parse_ip(packet) else { return };
        if ip.protocol != protocol::TCP {
            if let Ok(Icmp::Error(error)) = parse_icmp(&ip)
                && let (true, IcmpKind::TooBig { mtu }) = (error.tuple == self.tuple, error.kind)
            {
                let signal = PathSignal::TooBig { mtu };
                let verdict = self.tcb.on_icmp(at(now), signal, error.seq);
                self.obey(now, verdict);
            }
            return;
        }
        let Ok((source, port, segment)) = parse_tcp(&ip, ChecksumState::Verify) else { return };
        let FourTuple { local, remote } = self.tuple;
        if (ip.dst, port) == (local.ip(), local.port())
            && (ip.src, source) == (remote.ip(), remote.port())
        {
            self.on_segment(now, &segment);
        }
    }

    fn on_timer(&mut self, now: u64) {
        let verdict = self.tcb.on_timer(at(now));
        self.obey(now, verdict);
    }

    fn deadline(&mut self, _now: u64) -> u64 {
        let script = match self.standing {
            Standing::Working => self.script.deadline(),
            Standing::Content | Standing::Lost(_) | Standing::Wrong(_) => u64::MAX,
        };
        self.tcb.deadline().map_or(u64::MAX, Instant::as_nanos).min(script)
    }

    fn poll_packet(&mut self, now: u64) -> Option<Outgoing> {
        if let Some(reset) = self.reset.take() {
            return Some(Outgoing::of(self.tuple, &reset, &[], self.offload));
        }
        let Self { tcb, script, .. } = self;
        let mut payload = Vec::new();
        let transmit = tcb.poll_transmit(at(now), &mut |range| {
            payload.resize((range.end - range.start) as usize, 0);
            script.speak(range.start, &mut payload);
            payload.len()
        })?;
        payload.truncate(transmit.payload);
        Some(Outgoing::of(self.tuple, &transmit, &payload, self.offload))
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.tuple.local.into(), self.tuple.remote.into())
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    fn story(&self) -> String {
        format!(
            "own {} {}, received {}, said {}, acked {}: {:?}",
            self.tuple.local,
            self.tcb.state(),
            self.script.received(),
            self.script.output_end(),
            self.tcb.acked(),
            self.standing
        )
    }
}

/// The world's time on a client's clock.
const fn at(now: u64) -> Instant {
    Instant::from_nanos(now)
}
