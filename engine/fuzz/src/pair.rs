//! Two connections that talk through an arbitrary network.
//!
//! The input is operations: what the applications do, what becomes of each packet under way (real
//! packets, with checksums, so that damage is noticed as it would be), how time passes, when a
//! standby goes on for one end. When the input is used up the network heals, both applications
//! read and finish, and then (liveness after safety) both streams must arrive whole, or an end must
//! have been told that they did not.

use core::ops::Range;
use std::collections::VecDeque;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use standin::tcp::{CloseCause, Hard, Horizon, Settings, Tcb, Transmit, Verdict, reset_for};
use standin::time::{Duration, Instant};
use standin::wire::{
    ChecksumState, Flags, FourTuple, Offload, SeqNum, TcpHeader, VnetHeader, parse_ip, parse_tcp,
};

use crate::end::{End, byte_at};
use crate::segments::complete;

/// Operations in one run.
const OPS_MAX: usize = 400;
/// What each application says at most.
const OUTPUT_MAX: u64 = 200_000;
/// Packets under way; a network drops what is more.
const QUEUE_MAX: usize = 200;
/// Steps after which a healed network must have brought everything to an end.
const STEPS_MAX: usize = 30_000;
/// The ports of the two ends; the stream that an end says has the number of the end.
const FIRST_PORT: u16 = 1000;
/// And how long that may take: every timer here is shorter.
const HEALED: Duration = Duration::from_secs(8 * 3600);

#[derive(Arbitrary, Debug)]
struct Start {
    simultaneous: bool,
    ipv6: bool,
    ends: [Character; 2],
}

#[derive(Arbitrary, Debug)]
struct Character {
    sack: bool,
    timestamps: bool,
    keepalive: bool,
    /// 4 KiB times this, and once more.
    buffer: u8,
    small_mtu: bool,
    iss: u32,
    ts_offset: u32,
    /// Whether another host has to know before this end may speak.
    duplex: bool,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Write {
        at: bool,
        bytes: u16,
    },
    Finish {
        at: bool,
    },
    /// The application reads this share, of 255, of what it has not read.
    Consume {
        at: bool,
        share: u8,
    },
    Commit {
        at: bool,
    },
    Generous {
        at: bool,
        bytes: u8,
    },
    Abort {
        at: bool,
    },
    Note {
        at: bool,
    },
    TakeOver {
        at: bool,
    },
    /// The oldest packets on the way to this end arrive.
    Deliver {
        at: bool,
        count: u8,
    },
    /// One from the middle arrives before the others.
    Overtake {
        at: bool,
        index: u8,
    },
    Lose {
        at: bool,
        index: u8,
    },
    Double {
        at: bool,
        index: u8,
    },
    /// One bit of a packet is turned over: nobody must take it.
    Damage {
        at: bool,
        index: u8,
        bit: u16,
    },
    /// The network cuts super-segments from here on, as a kernel would.
    Cut(bool),
    Wait(u16),
    /// Time passes until something is due.
    Timer,
}

/// Follows the operations, heals the network, and looks at what arrived.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(start) = Start::arbitrary(&mut input) else { return };
    let mut world = World::new(&start);
    for _ in 0..OPS_MAX {
        if input.is_empty() {
            break;
        }
        let Ok(op) = Op::arbitrary(&mut input) else { break };
        world.obey(&op);
        world.settle();
    }
    world.heal();
}

/// One end and the packets on their way to it.
struct Host {
    end: End,
    tuple: FourTuple,
    arriving: VecDeque<Vec<u8>>,
    noted: Option<Hard>,
    closed: Option<CloseCause>,
    duplex: bool,
}

struct World {
    now: Instant,
    hosts: [Host; 2],
    cut: bool,
}

impl World {
    fn new(start: &Start) -> Self {
        let now = Instant::from_millis(50_000);
        let [one, other] = &start.ends;
        let (a, b) = (settings(one), settings(other));
        let connect = |character: &Character, settings: &Arc<Settings>| {
            let Character { iss, ts_offset, .. } = *character;
            let mtu = mtu(character);
            Tcb::connect(settings, now, SeqNum(iss), ts_offset, mtu, start.ipv6)
        };
        let mut first = host(start.ipv6, 0, End::new(connect(one, &a), &a, 1), false);
        let second = if start.simultaneous {
            End::new(connect(other, &b), &b, 0)
        } else {
            let mut syn = None;
            first.end.speak(now, |transmit, _| syn = Some(transmit.clone()));
            let syn = syn.expect("an active open begins with a SYN");
            let Character { iss, ts_offset, .. } = *other;
            let segment = standin::wire::Segment {
                seq: syn.seq,
                ack: syn.ack,
                flags: syn.flags,
                window: syn.window,
                options: syn.options,
                marked: false,
                payload: &[],
            };
            let tcb =
                Tcb::accept(&b, now, &segment, SeqNum(iss), ts_offset, mtu(other), start.ipv6);
            End::new(tcb, &b, 0)
        };
        let mut second = host(start.ipv6, 1, second, other.duplex);
        if other.duplex {
            second.end.horizon = Horizon::SHUT;
            second.end.set_horizon(Horizon::SHUT);
        }
        let mut world = Self { now, hosts: [first, second], cut: false };
        world.settle();
        world
    }

    fn obey(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Write { at, bytes } => {
                let end = self.end(at);
                if end.output < OUTPUT_MAX {
                    end.write(bytes.into());
                }
            }
            Op::Finish { at } => self.end(at).finish(),
            Op::Consume { at, share } => {
                let end = self.end(at);
                let (delivered, consumed) = (end.delivered, end.tcb.hard().consumed);
                let more = delivered.saturating_sub(consumed) * u64::from(share) / 255;
                end.consume(consumed + more);
            }
            Op::Commit { at } => self.hosts[usize::from(at)].commit(),
            Op::Generous { at, bytes } => {
                let end = self.end(at);
                end.generous = usize::from(bytes) * 64;
                end.tcb.unblock();
            }
            Op::Abort { at } => {
                self.hosts[usize::from(at)].closed.get_or_insert(CloseCause::Aborted);
                self.end(at).abort(now);
            }
            Op::Note { at } => self.hosts[usize::from(at)].note(),
            Op::TakeOver { at } => self.hosts[usize::from(at)].take_over(now),
            Op::Deliver { at, count } => {
                for _ in 0..=count % 32 {
                    let Some(packet) = self.hosts[usize::from(at)].arriving.pop_front() else {
                        break;
                    };
                    self.arrive(at, &packet);
                    self.settle();
                }
            }
            Op::Overtake { at, index } => {
                if let Some(packet) = self.pick(at, index) {
                    self.arrive(at, &packet);
                }
            }
            Op::Lose { at, index } => drop(self.pick(at, index)),
            Op::Double { at, index } => {
                if let Some(packet) = self.pick(at, index) {
                    self.arrive(at, &packet);
                    self.hosts[usize::from(at)].arriving.push_front(packet);
                }
            }
            Op::Damage { at, index, bit } => {
                let Some(mut packet) = self.pick(at, index) else { return };
                let bit = usize::from(bit) % (8 * packet.len());
                packet[bit / 8] ^= 1 << (bit % 8);
                // No checksum covers the first words of an IPv6 header.
                let covered = packet[0] >> 4 == 4 || bit >= 64;
                assert!(!covered || !is_taken(&packet), "damage goes unnoticed");
            }
            Op::Cut(cut) => self.cut = cut,
            Op::Wait(millis) => self.now = now + Duration::from_millis(millis.into()),
            Op::Timer => self.now = self.deadline().unwrap_or(now).max(now),
        }
    }

    fn end(&mut self, at: bool) -> &mut End {
        &mut self.hosts[usize::from(at)].end
    }

    fn pick(&mut self, at: bool, index: u8) -> Option<Vec<u8>> {
        let arriving = &mut self.hosts[usize::from(at)].arriving;
        let index = usize::from(index) % arriving.len().max(1);
        arriving.remove(index)
    }

    fn deadline(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(|host| host.end.tcb.deadline()).min()
    }

    fn settle(&mut self) {
        let Self { now, hosts: [a, b], cut } = self;
        a.turn(*now, *cut, &mut b.arriving);
        b.turn(*now, *cut, &mut a.arriving);
    }

    fn arrive(&mut self, at: bool, packet: &[u8]) {
        let now = self.now;
        let [a, b] = &mut self.hosts;
        let (host, back) = if at { (b, &mut a.arriving) } else { (a, &mut b.arriving) };
        host.arrive(now, packet, back);
    }

    /// The network is good from now on, and so are the applications.
    fn heal(&mut self) {
        let limit = self.now + HEALED;
        for host in &mut self.hosts {
            host.duplex = false;
            host.end.set_horizon(Horizon::OPEN);
            host.end.generous = usize::MAX;
            host.end.tcb.unblock();
            host.end.finish();
        }
        for _ in 0..STEPS_MAX {
            for host in &mut self.hosts {
                host.end.consume(u64::MAX);
            }
            self.settle();
            if let Some(at) = (0..2).find(|at| !self.hosts[*at].arriving.is_empty()) {
                let packet = self.hosts[at].arriving.pop_front().expect("not empty");
                self.arrive(at == 1, &packet);
                continue;
            }
            match self.deadline() {
                Some(at) if at < limit => self.now = self.now.max(at),
                Some(_) => panic!("eight hours were not enough: {}", self.story()),
                None => return self.judge(),
            }
        }
        panic!("it goes on for ever: {}", self.story());
    }

    /// Nothing is under way and nothing is due.
    fn judge(&self) {
        let [a, b] = &self.hosts;
        assert!(a.end.tcb.closed() && b.end.tcb.closed(), "stuck: {}", self.story());
        let done = |host: &Host| host.closed == Some(CloseCause::Done);
        for (host, other) in [(a, b), (b, a)] {
            // Its FIN was acknowledged. Whether the other side's came cannot be said if that one
            // was cut off: FIN-WAIT-2 ends after a while.
            let heard = other.end.delivered == host.end.output;
            assert!(heard || !done(host), "done, and not heard: {}", self.story());
        }
        let whole = b.end.delivered == a.end.output && a.end.delivered == b.end.output;
        assert!(whole || !(done(a) && done(b)), "neither whole nor told: {}", self.story());
    }

    fn story(&self) -> String {
        let one = |host: &Host| {
            let Host { end, closed, .. } = host;
            let (state, output, delivered) = (end.tcb.state(), end.output, end.delivered);
            format!("{state} {closed:?}, said {output}, heard {delivered}")
        };
        format!("{}; {}", one(&self.hosts[0]), one(&self.hosts[1]))
    }
}

impl Host {
    fn turn(&mut self, now: Instant, cut: bool, wire: &mut VecDeque<Vec<u8>>) {
        let Self { end, tuple, closed, duplex, noted, .. } = self;
        if let Some(Verdict::Closed(cause)) = end.turn(now) {
            closed.get_or_insert(cause);
        }
        let (tuple, stream) = (*tuple, (tuple.local.port() - FIRST_PORT) as u8);
        end.speak(now, |transmit, text| send(tuple, stream, transmit, text, cut, wire));
        if end.tcb.closed() {
            *noted = None;
        }
        // A takeover brings a host that is alone, until a standby joins it.
        *duplex &= end.horizon != Horizon::OPEN;
    }

    fn arrive(&mut self, now: Instant, packet: &[u8], back: &mut VecDeque<Vec<u8>>) {
        let ip = parse_ip(packet).expect("an undamaged packet");
        let (_, _, segment) = parse_tcp(&ip, ChecksumState::Verify).expect("an undamaged segment");
        if self.end.tcb.closed() {
            if let Some(reset) = reset_for(&segment) {
                send(self.tuple, 0, &reset, 0..0, false, back);
            }
            return;
        }
        if let Verdict::Closed(cause) = self.end.hear(now, &segment) {
            self.closed.get_or_insert(cause);
        }
    }

    fn commit(&mut self) {
        let end = &mut self.end;
        if self.duplex {
            let output = end.output + u64::from(end.finished);
            end.set_horizon(Horizon { opened: true, received: end.tcb.received(), output });
        }
    }

    fn note(&mut self) {
        self.noted = Some(self.end.tcb.hard());
    }

    fn take_over(&mut self, now: Instant) {
        if !self.end.horizon.opened || self.end.tcb.closed() {
            return;
        }
        let hard = self.end.as_known(self.noted.take().as_ref());
        self.end.take_over(now, &hard);
    }
}

fn settings(character: &Character) -> Arc<Settings> {
    Arc::new(Settings {
        receive_buffer: 4096 * (u32::from(character.buffer) + 1),
        sack: character.sack,
        timestamps: character.timestamps,
        keepalive: character.keepalive.then(Default::default),
        ..Settings::default()
    })
}

fn mtu(character: &Character) -> u16 {
    if character.small_mtu { 576 } else { 1500 }
}

fn host(ipv6: bool, index: u8, end: End, duplex: bool) -> Host {
    let address = |last: u8| match ipv6 {
        true => core::net::IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(last)]),
        false => core::net::IpAddr::from([10, 77, 0, last]),
    };
    let place = |index: u8| (address(10 + index), FIRST_PORT + u16::from(index)).into();
    let tuple = FourTuple { local: place(index), remote: place(1 - index) };
    Host { end, tuple, arriving: VecDeque::new(), noted: None, closed: None, duplex }
}

/// Puts a segment on the wire as packets with whole checksums.
fn send(
    tuple: FourTuple,
    stream: u8,
    transmit: &Transmit,
    text: Range<u64>,
    cut: bool,
    wire: &mut VecDeque<Vec<u8>>,
) {
    let bytes: Vec<u8> = text.map(|offset| byte_at(stream, offset)).collect();
    let size = if cut { usize::from(transmit.mss.max(1)) } else { usize::MAX };
    let mut from = 0_usize;
    loop {
        let to = bytes.len().min(from.saturating_add(size));
        let last = to == bytes.len();
        let mut flags = transmit.flags;
        if !last {
            flags -= Flags::FIN | Flags::PSH;
        }
        let header =
            TcpHeader { seq: transmit.seq.add(from as u32), flags, ..transmit.header(tuple, 0) };
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(&bytes[from..to]);
        let vnet: VnetHeader =
            header.write(&mut packet, to - from, Offload::Partial { mss: transmit.mss });
        complete(&mut packet, vnet);
        if wire.len() < QUEUE_MAX {
            wire.push_back(packet);
        }
        if last {
            return;
        }
        from = to;
    }
}

fn is_taken(packet: &[u8]) -> bool {
    parse_ip(packet)
        .is_ok_and(|ip| ip.fragment.is_none() && parse_tcp(&ip, ChecksumState::Verify).is_ok())
}
