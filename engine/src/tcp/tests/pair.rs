//! Two connections, a virtual clock and a network that may be bad.
//!
//! Every segment that leaves an end is checked against what must always hold: the ACK field and
//! the right edge never move back, and nothing passes a horizon.

use super::waits::check_awake;
use crate::tcp::{DropReason, Hard, Horizon, Settings, State, Tcb, Transmit, Verdict};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum};
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// How bad the network is: chances in a thousand.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) reorder: u64,
    pub(super) duplicate: u64,
}

/// A segment under way, as the receiver will see it.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) head: Transmit,
    pub(super) bytes: Vec<u8>,
}

impl Packet {
    pub(super) fn segment(&self) -> Segment<'_> {
        Segment {
            seq: self.head.seq,
            ack: self.head.ack,
            flags: self.head.flags,
            window: self.head.window,
            options: self.head.options.clone(),
            marked: self.head.ecn == 3,
            payload: &self.bytes,
        }
    }

    /// As the kernel's segmentation would cut it.
    fn pieces(&self) -> Vec<Self> {
        let mss = usize::from(self.head.mss.max(1));
        if self.bytes.len() <= mss {
            return vec![self.clone()];
        }
        let last = self.bytes.len().div_ceil(mss) - 1;
        let cut = |(i, bytes): (usize, &[u8])| {
            let mut head = self.head.clone();
            head.seq = head.seq.add((i * mss) as u32);
            head.payload = bytes.len();
            if i != last {
                head.flags -= Flags::FIN | Flags::PSH;
            }
            Self { head, bytes: bytes.to_vec() }
        };
        self.bytes.chunks(mss).enumerate().map(cut).collect()
    }
}

/// One end with its application: a stream to send, and all it received.
pub(super) struct End {
    pub(super) tcb: Tcb,
    pub(super) output: Vec<u8>,
    pub(super) input: Vec<u8>,
    pub(super) consumes: bool,
    /// Its host is gone: it hears and says nothing.
    pub(super) dead: bool,
    /// How long a commit takes; `None`: alone.
    pub(super) commit: Option<Duration>,
    commits: VecDeque<(Instant, Horizon)>,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) sent: Vec<Packet>,
    ack_last: u64,
    edge_last: u64,
}

impl End {
    pub(super) fn new(tcb: Tcb) -> Self {
        Self {
            tcb,
            output: Vec::new(),
            input: Vec::new(),
            consumes: true,
            dead: false,
            commit: None,
            commits: VecDeque::new(),
            verdicts: Vec::new(),
            sent: Vec::new(),
            ack_last: 0,
            edge_last: 0,
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.tcb.set_output_end(self.output.len() as u64);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Packet> {
        if self.dead {
            return None;
        }
        self.rest();
        let (output, mut bytes) = (&self.output, Vec::new());
        let head = self.tcb.poll_transmit(now, &mut |range| {
            bytes = output[range.start as usize..range.end as usize].to_vec();
            bytes.len()
        })?;
        assert_eq!(head.payload, bytes.len());
        let packet = Packet { head, bytes };
        self.check(&packet);
        self.sent.push(packet.clone());
        Some(packet)
    }

    /// I1, I2, and RFC 9293's promises to the peer.
    fn check(&mut self, packet: &Packet) {
        let Packet { head, .. } = packet;
        let Horizon { opened, received, output } = self.tcb.horizon;
        assert!(opened, "nothing leaves before the horizon opens");
        let end = self.tcb.offset_of(head.seq) + head.len() as i64;
        if !head.flags.contains(Flags::SYN) {
            assert!(end <= output.min(1 << 62) as i64, "payload ends at the horizon");
        }
        if !head.flags.contains(Flags::ACK) || head.flags.contains(Flags::SYN | Flags::RST) {
            return;
        }
        let ack = self.tcb.rcv_offset_of(head.ack) as u64;
        assert!(ack <= received && ack <= self.tcb.received(), "the ACK stays at the horizon");
        assert!(ack >= self.ack_last, "the ACK field never moves back");
        self.ack_last = ack;
        if !head.flags.intersects(Flags::SYN | Flags::RST) {
            let edge = ack + (u64::from(head.window) << self.tcb.rcv_scale);
            assert!(edge >= self.edge_last, "the right edge never moves back");
            self.edge_last = edge;
        }
    }

    /// What is at rest is parked and comes back, before anything happens: nobody may notice.
    fn rest(&mut self) {
        if !self.tcb.at_rest() {
            return;
        }
        let before = format!("{:?}", self.tcb);
        let (recover, progress_at) = (self.tcb.snd.recover, self.tcb.snd.progress_at);
        let Some(mut parked) = self.tcb.park() else { return };
        self.tcb = parked.unpark();
        // Whatever lies before SND.UNA means the same, and patience begins anew.
        let kept = core::mem::replace(&mut self.tcb.snd.recover, recover);
        assert_eq!(kept, recover.max(self.tcb.snd.una));
        let anew = core::mem::replace(&mut self.tcb.snd.progress_at, progress_at);
        assert_eq!(format!("{:?}", self.tcb), before, "nothing is forgotten");
        (self.tcb.snd.recover, self.tcb.snd.progress_at) = (kept, anew);
    }

    pub(super) fn receive(&mut self, now: Instant, segment: &Segment<'_>) -> Verdict {
        self.rest();
        let input = &mut self.input;
        let verdict =
            self.tcb.on_segment(now, segment, &mut |bytes| input.extend_from_slice(bytes));
        self.verdicts.push(verdict);
        self.after(now);
        verdict
    }

    /// What an engine does after every event: consume, and commit.
    fn after(&mut self, now: Instant) {
        if self.consumes {
            self.tcb.set_consumed(self.input.len() as u64);
        }
        if let Some(delay) = self.commit {
            let horizon = Horizon {
                opened: true,
                received: self.tcb.received(),
                output: self.output.len() as u64 + 1,
            };
            self.commits.push_back((now + delay, horizon));
        }
    }

    fn commit_due(&mut self, now: Instant) {
        while let Some((_, horizon)) = self.commits.pop_front_if(|(at, _)| *at <= now) {
            self.tcb.set_horizon(horizon);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        if self.dead {
            return None;
        }
        let commit = self.commits.front().map(|(at, _)| *at);
        self.tcb.deadline().into_iter().chain(commit).min()
    }

    /// The segments of sequence space this end has sent so far, and forgets them.
    pub(super) fn take_sent(&mut self) -> Vec<Packet> {
        core::mem::take(&mut self.sent)
    }
}

/// The world.
pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) wire: Vec<(Instant, u64, usize, Packet)>,
    pub(super) weather: Weather,
    pub(super) delay: Duration,
    /// Packets to this end vanish.
    pub(super) cut: [bool; 2],
    seed: u64,
    count: u64,
}

pub(super) struct Start {
    pub(super) client: Settings,
    pub(super) server: Settings,
    pub(super) iss: [u32; 2],
    pub(super) ts_offset: [u32; 2],
    pub(super) seed: u64,
}

impl Default for Start {
    fn default() -> Self {
        Self {
            client: Settings::default(),
            server: Settings::default(),
            iss: [1000, 5000],
            ts_offset: [0, 77],
            seed: 1,
        }
    }
}

impl Pair {
    /// A client that has sent its SYN, and a server that has received it.
    pub(super) fn opening(start: Start) -> Self {
        let now = Instant::from_millis(10_000);
        let [client, server] = [start.client, start.server].map(Arc::new);
        let iss = start.iss.map(SeqNum);
        let client = Tcb::connect(&client, now, iss[CLIENT], start.ts_offset[CLIENT], 1500, false);
        let mut client = End::new(client);
        let syn = client.poll(now).expect("a SYN");
        let tcb = Tcb::accept(
            &server,
            now,
            &syn.segment(),
            iss[SERVER],
            start.ts_offset[SERVER],
            1500,
            false,
        );
        Self {
            now,
            ends: [client, End::new(tcb)],
            wire: Vec::new(),
            weather: Weather::default(),
            delay: Duration::from_millis(5),
            cut: [false; 2],
            seed: start.seed,
            count: 0,
        }
    }

    pub(super) fn established() -> Self {
        Self::established_with(Start::default())
    }

    pub(super) fn established_with(start: Start) -> Self {
        let mut pair = Self::opening(start);
        pair.run_until(|pair| pair.ends.iter().all(|end| end.tcb.state() == State::Established));
        pair.run_for(Duration::from_millis(100));
        pair
    }

    pub(super) fn client(&mut self) -> &mut End {
        &mut self.ends[CLIENT]
    }

    pub(super) fn server(&mut self) -> &mut End {
        &mut self.ends[SERVER]
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.random() % 1000 < per_mille
    }

    pub(super) fn random(&mut self) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 33
    }

    fn put(&mut self, to: usize, packet: &Packet) {
        for piece in packet.pieces() {
            let copies = 1 + u64::from(self.chance(self.weather.duplicate));
            for _ in 0..copies {
                if self.cut[to] || self.chance(self.weather.loss) {
                    continue;
                }
                let late = u32::from(self.chance(self.weather.reorder));
                self.count += 1;
                let at = self.now + self.delay + self.delay * late / 3;
                self.wire.push((at, self.count, to, piece.clone()));
            }
        }
    }

    /// Lets both ends say what they have to say.
    pub(super) fn flush(&mut self) {
        for from in [CLIENT, SERVER] {
            let mut said = 0;
            while let Some(packet) = self.ends[from].poll(self.now) {
                self.put(1 - from, &packet);
                said += 1;
                assert!(said < 10_000, "an end that never stops talking");
            }
            if !self.ends[from].dead {
                check_awake(&self.ends[from].tcb);
            }
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let wire = self.wire.iter().map(|(at, ..)| *at).min();
        self.ends.iter().filter_map(End::deadline).chain(wire).min()
    }

    /// Moves to the next event and lets it happen. False: nothing will ever happen.
    pub(super) fn step(&mut self) -> bool {
        self.flush();
        let Some(next) = self.next_event() else { return false };
        self.now = self.now.max(next);
        let now = self.now;
        self.wire.sort_by_key(|(at, count, ..)| (*at, *count));
        let due = self.wire.partition_point(|(at, ..)| *at <= now);
        let arrived: Vec<_> = self.wire.drain(..due).collect();
        for (_, _, to, packet) in arrived {
            if !self.ends[to].dead {
                self.ends[to].receive(now, &packet.segment());
            }
        }
        for end in self.ends.iter_mut().filter(|end| !end.dead) {
            end.commit_due(now);
            if end.tcb.deadline().is_some_and(|at| at <= now) {
                let verdict = end.tcb.on_timer(now);
                end.verdicts.push(verdict);
            }
            assert!(end.tcb.deadline().is_none_or(|at| at > now), "a timer that turns in place");
        }
        self.flush();
        true
    }

    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let until = self.now + Duration::from_secs(3600);
        let mut steps = 0;
        while !done(self) {
            assert!(self.step() && self.now < until, "it never happens: {self:?}");
            steps += 1;
            assert!(steps < 2_000_000, "it takes for ever: {self:?}");
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.flush();
        while self.next_event().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// A takeover: the server's host is gone, another goes on from what it knows.
    pub(super) fn take_over(&mut self, hard: &Hard, finished: bool) {
        let now = self.now;
        let server = &mut self.ends[SERVER];
        let settings = Arc::clone(&server.tcb.settings);
        let mut tcb = Tcb::resume(&settings, now, hard);
        tcb.set_output_end(server.output.len() as u64);
        if finished {
            tcb.finish();
        }
        tcb.set_horizon(Horizon::OPEN);
        tcb.nudge(now);
        server.tcb = tcb;
        server.dead = false;
        server.commit = None;
        server.commits.clear();
        server.input.truncate(hard.received as usize);
    }
}

impl core::fmt::Debug for Pair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (name, end) in ["client", "server"].iter().zip(&self.ends) {
            writeln!(f, "{name}: {:#?} input {}", end.tcb, end.input.len())?;
        }
        write!(f, "now {:?}, {} packets under way", self.now, self.wire.len())
    }
}

/// Bytes that tell where they are.
pub(super) fn pattern(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8 ^ salt).collect()
}

/// The verdicts that were not plain acceptance.
pub(super) fn dropped(end: &End) -> Vec<DropReason> {
    end.verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Dropped(reason) => Some(*reason),
            Verdict::Accepted | Verdict::Closed(_) => None,
        })
        .collect()
}
