//! A recorded client that lives again: the project's TCP as active opener, with the recorded
//! application above it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::compare::Kind;
use super::act::{Act, Leave};
use crate::sim::{Endpoint, Outgoing, Standing};
use standin::tcp::{Settings, State, Tcb, Transmit, Verdict, reset_for};
use standin::time::{Duration, Instant};
use standin::wire::{ChecksumState, FourTuple, Offload, Segment, SeqNum, parse_ip, parse_tcp};

/// The longest that a client waits before it sends again.
const RTO_MAX: Duration = Duration::from_secs(3);

/// Bytes that a client's window holds.
const RECEIVE_BUFFER: u32 = 256 << 10;

/// One client.
#[derive(Debug)]
pub(super) struct Living {
    act: Arc<Act>,
    /// The world's time at which the play began.
    origin: u64,
    tuple: FourTuple,
    tcb: Tcb,
    standing: Standing,
    received: u64,
    /// The answer to a segment that came after the end.
    reset: Option<Transmit>,
    /// When something last went on, while the pair owes something; none where it does not.
    waits_since: Option<u64>,
    pauses: Arc<Pauses>,
}

/// The longest pauses of clients that the pair owed something, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// Of one that was connecting: a SYN that dies with a primary is repeated after a second.
    pub(super) opening: AtomicU64,
    /// Of one that was connected.
    pub(super) connected: AtomicU64,
}

impl Living {
    pub(super) fn new(
        now: u64,
        origin: u64,
        act: &Arc<Act>,
        ends: (SocketAddr, SocketAddr),
        mtu: u16,
        pauses: &Arc<Pauses>,
    ) -> Self {
        let settings = Settings {
            rto_max: RTO_MAX,
            syn_retries: 200,
            data_retries: 250,
            // Segments as they cross a wire, so that the oracle can vouch for their checksums.
            max_segment: 1,
            receive_buffer: RECEIVE_BUFFER,
            ..Settings::default()
        };
        let number = act.number as u32;
        // Near the wrap, and different for each.
        let iss = SeqNum(u32::MAX - 20_000 + number.wrapping_mul(77));
        let ipv6 = ends.0.is_ipv6();
        let tcb = Tcb::connect(&Arc::new(settings), at(now), iss, number, mtu, ipv6);
        let mut client = Self {
            act: Arc::clone(act),
            origin,
            tuple: FourTuple { local: ends.0.into(), remote: ends.1.into() },
            tcb,
            standing: Standing::Working,
            received: 0,
            reset: None,
            waits_since: Some(now),
            pauses: Arc::clone(pauses),
        };
        client.settle(now);
        client
    }

    /// The stream's end as of `now`.
    fn said(&self, now: u64) -> u64 {
        let at = now.saturating_sub(self.origin);
        let spoken = self.act.says.partition_point(|(time, _)| *time <= at);
        spoken.checked_sub(1).map_or(0, |last| self.act.says[last].1)
    }

    /// A source never stops: what goes beyond what is wanted stays unread, and shuts the window.
    fn consumed(&self) -> u64 {
        match self.act.kind {
            Kind::Chargen => self.received.min(self.act.wants),
            Kind::Echo
            | Kind::Discard
            | Kind::Files { .. }
            | Kind::Join(_)
            | Kind::Exchange(..)
            | Kind::Mirror(..) => self.received,
        }
    }

    fn has_said_all(&self, now: u64) -> bool {
        self.said(now) == self.act.bytes.len() as u64
    }

    /// What its application does next.
    fn settle(&mut self, now: u64) {
        self.tcb.set_output_end(self.said(now));
        self.tcb.set_consumed(self.consumed());
        if self.standing != Standing::Working {
            return;
        }
        let all = self.act.bytes.len() as u64;
        let heard = self.received >= self.act.wants;
        match self.act.leaves {
            Leave::Close(when) if now >= self.origin + when && self.has_said_all(now) => {
                // A source has no end of its own: its listeners leave by a reset.
                if self.act.kind == Kind::Chargen {
                    self.abort_when(now, heard && self.tcb.acked() == all);
                } else {
                    self.tcb.finish();
                }
            }
            Leave::Close(_) => {}
            Leave::Reset => {
                let done = self.has_said_all(now) && heard && self.tcb.acked() == all;
                self.abort_when(now, done && self.tcb.established());
            }
        }
        let over = matches!(self.tcb.state(), State::TimeWait | State::Closed);
        if self.standing == Standing::Working && over && heard && self.tcb.peer_finished() {
            self.standing = Standing::Content;
        }
    }

    fn abort_when(&mut self, now: u64, done: bool) {
        if done {
            self.tcb.abort(at(now));
            self.standing = Standing::Content;
        }
    }

    fn obey(&mut self, now: u64, verdict: Verdict) {
        self.settle(now);
        if let (Verdict::Closed(cause), Standing::Working) = (verdict, &self.standing) {
            let (received, acked) = (self.received, self.tcb.acked());
            self.standing = Standing::Lost(format!("{cause}, received {received}, acked {acked}"));
        }
    }

    fn on_segment(&mut self, now: u64, segment: &Segment<'_>) {
        if self.tcb.closed() {
            self.reset = reset_for(segment);
            return;
        }
        let before = (self.received, self.tcb.acked(), self.tcb.state());
        let opening = !self.tcb.established();
        let Self { tcb, act, received, standing, .. } = self;
        let verdict = tcb.on_segment(at(now), segment, &mut |bytes| {
            for &byte in bytes {
                if *standing == Standing::Working
                    && let Err(why) = check(act, *received, byte)
                {
                    *standing = Standing::Wrong(why);
                }
                *received += 1;
            }
        });
        if before != (self.received, self.tcb.acked(), self.tcb.state()) {
            if let Some(since) = self.waits_since {
                let Pauses { opening: first, connected } = &*self.pauses;
                let longest = if opening { first } else { connected };
                longest.fetch_max(now.saturating_sub(since), Ordering::Relaxed);
            }
            self.waits_since = self.awaits().then_some(now);
        }
        self.obey(now, verdict);
    }

    /// Whether the pair owes it something: an answer, an acknowledgment, bytes.
    fn awaits(&self) -> bool {
        let echo = self.act.kind == Kind::Echo && self.received < self.tcb.acked();
        let source = self.act.kind == Kind::Chargen && self.received < self.act.wants;
        !self.tcb.established() || self.tcb.bytes_in_flight() > 0 || echo || source
    }

    fn write(&self, transmit: &Transmit, payload: &[u8]) -> Outgoing {
        let header = transmit.header(self.tuple, 0);
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(payload);
        let vnet = header.write(&mut packet, payload.len(), Offload::Full);
        Outgoing { vnet, packet }
    }

    /// When its application speaks or leaves next.
    fn next_act(&self, now: u64) -> u64 {
        if self.standing != Standing::Working {
            return u64::MAX;
        }
        let at = now.saturating_sub(self.origin);
        let spoken = self.act.says.partition_point(|(time, _)| *time <= at);
        let speaks = self.act.says.get(spoken).map_or(u64::MAX, |(time, _)| *time);
        let leaves = match self.act.leaves {
            Leave::Close(time) if time > at => time,
            Leave::Close(_) | Leave::Reset => u64::MAX,
        };
        speaks.min(leaves).saturating_add(self.origin)
    }
}

/// What a client may hear at an offset: itself from echo, the pattern of RFC 864 from chargen.
fn check(act: &Act, offset: u64, byte: u8) -> Result<(), String> {
    let expected = match act.kind {
        Kind::Echo => usize::try_from(offset).ok().and_then(|at| act.bytes.get(at).copied()),
        Kind::Chargen => Some(pattern(offset)),
        Kind::Discard
        | Kind::Files { .. }
        | Kind::Join(_)
        | Kind::Exchange(..)
        | Kind::Mirror(..) => None,
    };
    match expected {
        Some(expected) if expected == byte => Ok(()),
        Some(expected) => Err(format!("byte {offset} is {byte:#04x}, not {expected:#04x}")),
        None => Err(format!("byte {offset} follows the end of what can be said")),
    }
}

/// RFC 864: lines of 72 characters, each beginning one later.
const fn pattern(offset: u64) -> u8 {
    let (line, column) = (offset / 74, offset % 74);
    match column {
        72 => b'\r',
        73 => b'\n',
        _ => b' ' + ((line + column) % 95) as u8,
    }
}

impl Endpoint for Living {
    fn on_packet(&mut self, now: u64, packet: &[u8]) {
        let Ok(ip) = parse_ip(packet) else { return };
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

    fn deadline(&mut self, now: u64) -> u64 {
        let tcb = self.tcb.deadline().map_or(u64::MAX, Instant::as_nanos);
        tcb.min(self.next_act(now))
    }

    fn poll_packet(&mut self, now: u64) -> Option<Outgoing> {
        if let Some(reset) = self.reset.take() {
            return Some(self.write(&reset, &[]));
        }
        let Self { tcb, act, .. } = self;
        let mut payload = Vec::new();
        let transmit = tcb.poll_transmit(at(now), &mut |range| {
            let (start, end) = (range.start as usize, range.end as usize);
            payload.extend_from_slice(act.bytes.get(start..end).unwrap_or_default());
            payload.len()
        })?;
        payload.truncate(transmit.payload);
        if self.waits_since.is_none() && self.awaits() {
            self.waits_since = Some(now);
        }
        Some(self.write(&transmit, &payload))
    }

    fn ends(&self) -> (SocketAddr, SocketAddr) {
        (self.tuple.local.into(), self.tuple.remote.into())
    }

    fn standing(&self) -> &Standing {
        &self.standing
    }

    fn story(&self) -> String {
        format!(
            "connection {} ({}) as {}: {}, received {} of {}, acknowledged {} of {}: {:?}",
            self.act.number,
            self.act.ends,
            self.tuple.local,
            self.tcb.state(),
            self.received,
            self.act.wants,
            self.tcb.acked(),
            self.act.bytes.len(),
            self.standing
        )
    }
}

/// The world's time on a client's clock.
const fn at(now: u64) -> Instant {
    Instant::from_nanos(now)
}
