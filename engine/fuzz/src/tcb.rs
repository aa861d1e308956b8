//! One connection, driven by any sequence of operations.
//!
//! The peer is nobody's TCP: it says what the input tells it to, at marks that are worth hitting
//! (the window's edges, SND.UNA, what was never sent) and a step beside them. What it sends is
//! always the same byte at the same sequence number, so that delivered bytes can be checked.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use standin::tcp::{Hard, Horizon, PathSignal, Settings, Tcb};
use standin::time::{Duration, Instant};
use standin::wire::{Flags, SackBlock, SackBlocks, Segment, SeqNum, TcpOptions, Timestamps};

use crate::end::{End, byte_at};

/// Operations in one run.
const OPS_MAX: usize = 300;
/// The longest payload of a segment, as a receive offload would join it.
const PAYLOAD_MAX: u16 = 9_000;
/// What an application says at most.
const OUTPUT_MAX: u64 = 1 << 20;

/// How the connection begins.
#[derive(Arbitrary, Debug)]
struct Start {
    active: bool,
    ipv6: bool,
    sack: bool,
    timestamps: bool,
    keepalive: bool,
    /// 4 KiB times this, and once more.
    buffer: u8,
    small_mtu: bool,
    iss: u32,
    irs: u32,
    mss: Option<u16>,
    scale: Option<u8>,
    window: u16,
    duplex: bool,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Segment(Shape),
    /// Time passes until the next deadline.
    Timer,
    /// Milliseconds pass.
    Wait(u16),
    Write(u16),
    Finish,
    /// The application reads this share, of 255, of what it has not read.
    Consume(u8),
    /// The standby confirms shares of what it does not know.
    Commit {
        received: u8,
        output: u8,
    },
    /// A standby joins: the horizons come down.
    Join,
    /// The application gives at most so many bytes at a time; at 0 it keeps TCP waiting.
    Generous(u8),
    Icmp {
        mtu: u16,
        hard: bool,
        at: Mark,
        step: i16,
    },
    Abort,
    /// The standby is told what may lag.
    Note,
    /// Another host goes on.
    TakeOver,
}

/// A segment of the peer.
#[derive(Arbitrary, Debug)]
struct Shape {
    seq: Mark,
    seq_step: i16,
    ack: Mark,
    ack_step: i16,
    flags: u8,
    window: u16,
    timestamp: Option<i16>,
    echo: i16,
    sack: [Option<(Mark, i16, u16)>; 2],
    length: u16,
}

/// A sequence number worth hitting.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Mark {
    /// What we acknowledged.
    Acked,
    /// RCV.NXT.
    Received,
    /// The right edge of our window.
    Edge,
    /// SND.UNA.
    Una,
    /// SND.NXT.
    Nxt,
    /// The end of what the application said.
    End,
    /// Anywhere.
    At(u32),
}

/// Decodes the input into a beginning and operations, and checks the connection after each.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(start) = Start::arbitrary(&mut input) else { return };
    let mut world = World::new(&start);
    for _ in 0..OPS_MAX {
        if input.is_empty() {
            return;
        }
        let Ok(op) = Op::arbitrary(&mut input) else { return };
        world.obey(&op);
        world.settle();
    }
}

struct World {
    now: Instant,
    end: End,
    irs: SeqNum,
    /// What the standby was last told of what may lag.
    noted: Option<Hard>,
}

impl World {
    fn new(start: &Start) -> Self {
        let settings = Arc::new(Settings {
            receive_buffer: 4096 * (u32::from(start.buffer) + 1),
            sack: start.sack,
            timestamps: start.timestamps,
            keepalive: start.keepalive.then(Default::default),
            ..Settings::default()
        });
        let now = Instant::from_millis(50_000);
        let (iss, irs) = (SeqNum(start.iss), SeqNum(start.irs));
        let mtu = if start.small_mtu { 576 } else { 1500 };
        let tcb = if start.active {
            Tcb::connect(&settings, now, iss, 77, mtu, start.ipv6)
        } else {
            let syn = syn(start);
            Tcb::accept(&settings, now, &syn, iss, 77, mtu, start.ipv6)
        };
        let mut end = End::new(tcb, &settings, 1);
        if start.duplex {
            end.horizon = Horizon::SHUT;
            end.set_horizon(Horizon::SHUT);
        }
        let mut world = Self { now, end, irs, noted: None };
        world.settle();
        world
    }

    fn obey(&mut self, op: &Op) {
        let (now, end) = (self.now, &mut self.end);
        match *op {
            Op::Segment(ref shape) => self.segment(shape),
            Op::Timer => self.now = end.tcb.deadline().unwrap_or(now).max(now),
            Op::Wait(millis) => self.now = now + Duration::from_millis(millis.into()),
            Op::Write(bytes) if end.output < OUTPUT_MAX => end.write(bytes.into()),
            Op::Write(_) => {}
            Op::Finish => end.finish(),
            Op::Consume(share) => {
                let (delivered, consumed) = (end.delivered, end.tcb.hard().consumed);
                let more = delivered.saturating_sub(consumed) * u64::from(share) / 255;
                end.consume(consumed + more);
            }
            Op::Commit { received, output } => self.commit(received, output),
            Op::Join => end.set_horizon(Horizon { received: 0, output: 0, ..end.horizon }),
            Op::Generous(bytes) => {
                end.generous = usize::from(bytes) * 8;
                end.tcb.unblock();
            }
            Op::Icmp { mtu, hard, at, step } => {
                let signal = match (mtu, hard) {
                    (0, true) => PathSignal::HardError,
                    (0, false) => PathSignal::SoftError,
                    (mtu, _) => PathSignal::TooBig { mtu: mtu.into() },
                };
                let seq = self.number(at, step);
                self.end.tcb.on_icmp(now, signal, seq);
            }
            Op::Abort => end.abort(now),
            Op::Note => self.noted = Some(end.tcb.hard()),
            Op::TakeOver if end.horizon.opened && !end.tcb.closed() => {
                let hard = end.as_known(self.noted.as_ref());
                end.take_over(now, &hard);
                self.noted = None;
            }
            Op::TakeOver => {}
        }
    }

    fn settle(&mut self) {
        self.end.turn(self.now);
        self.end.speak(self.now, |_, _| ());
        self.end.turn(self.now);
    }

    fn commit(&mut self, received: u8, output: u8) {
        let end = &mut self.end;
        let Horizon { received: known, output: committed, .. } = end.horizon;
        let share = |known: u64, all: u64, share: u8| {
            known.saturating_add(all.saturating_sub(known) * u64::from(share) / 255)
        };
        end.set_horizon(Horizon {
            opened: true,
            received: share(known, end.tcb.received(), received),
            output: share(committed, end.output + u64::from(end.finished), output),
        });
    }

    fn number(&self, mark: Mark, step: i16) -> SeqNum {
        let hard = self.end.tcb.hard();
        let (ours, theirs) = (hard.iss.add(1), hard.irs.add(1));
        let at = match mark {
            Mark::Acked => theirs.add(self.end.tcb.acknowledged() as u32),
            Mark::Received => theirs.add(hard.received as u32),
            Mark::Edge => theirs.add(hard.received_edge as u32),
            Mark::Una => ours.add(hard.acked as u32),
            Mark::Nxt => ours.add(self.end.tcb.sent() as u32),
            Mark::End => ours.add(self.end.output as u32),
            Mark::At(number) => SeqNum(number),
        };
        SeqNum(at.0.wrapping_add_signed(step.into()))
    }

    /// The peer says something. Its stream begins behind `irs`, whatever it claims otherwise.
    fn segment(&mut self, shape: &Shape) {
        let seq = self.number(shape.seq, shape.seq_step);
        let hard = self.end.tcb.hard();
        let synchronised = hard.syn_received;
        let flags = Flags::from_bits_retain(shape.flags);
        if !synchronised {
            // In SYN-SENT the peer's SYN decides where its stream begins.
            self.irs = seq;
        }
        let first = seq.add(u32::from(flags.contains(Flags::SYN))).diff(self.irs.add(1));
        let payload: Vec<u8> = (0..i64::from(shape.length % PAYLOAD_MAX))
            .map(|i| byte_at(1, (i64::from(first) + i) as u32 as u64))
            .collect();
        let val = hard.ts_recent.wrapping_add_signed(shape.timestamp.unwrap_or(0).into());
        let millis = (self.now.as_millis() as u32).wrapping_add(77);
        let ecr = millis.wrapping_add_signed(shape.echo.into());
        let sack: SackBlocks = shape
            .sack
            .iter()
            .flatten()
            .map(|&(mark, step, length)| {
                let left = self.number(mark, step);
                SackBlock { left, right: left.add(length.into()) }
            })
            .collect();
        let segment = Segment {
            seq,
            ack: self.number(shape.ack, shape.ack_step),
            flags,
            window: shape.window,
            options: TcpOptions {
                timestamps: shape.timestamp.map(|_| Timestamps { val, ecr }),
                sack_permitted: flags.contains(Flags::SYN),
                window_scale: flags.contains(Flags::SYN).then_some(7),
                mss: None,
                sack,
            },
            marked: shape.window & 1 == 1,
            payload: &payload,
        };
        self.end.hear(self.now, &segment);
    }
}

fn syn(start: &Start) -> Segment<'static> {
    Segment {
        seq: SeqNum(start.irs),
        ack: SeqNum(0),
        flags: Flags::SYN,
        window: start.window,
        options: TcpOptions {
            mss: start.mss,
            window_scale: start.scale,
            sack_permitted: start.sack,
            timestamps: start.timestamps.then_some(Timestamps { val: 9, ecr: 0 }),
            sack: SackBlocks::new(),
        },
        marked: false,
        payload: &[],
    }
}
