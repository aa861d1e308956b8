//! A download over a link with a rate, a queue and faults, in virtual time, and what it came to.
//!
//! ```text
//!     sender ──► lost? ──► queue ──► rate ──► delay, held back?, twice? ──► receiver
//!        ▲                                                                     │
//!        └──────────── delay, lost?, held back? ◄── acknowledgments ───────────┘
//! ```
//!
//! Both ends are [`Tcb`]s. Payload is not carried: positions are what is looked at. What the link
//! did is known here, so what the sender made of it can be judged: a reduction that was taken back
//! although nothing was late, a segment sent again that had arrived.

use super::waits::check_awake;
use crate::tcp::{Ecn, Settings, State, Tcb, Transmit};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Payload of a full segment with timestamps.
pub(super) const MSS: u64 = 1448;
/// Ethernet, IP and TCP headers with timestamps.
const HEADERS: u64 = 66;
const SENDER: usize = 0;
const RECEIVER: usize = 1;

/// The link. Chances are in 100,000.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) rtt: Duration,
    /// Bits a second.
    pub(super) rate: u64,
    /// Bytes that wait for the wire.
    pub(super) queue: u64,
    pub(super) loss: u64,
    pub(super) ack_loss: u64,
    /// Data held back by `late`.
    pub(super) reorder: u64,
    /// Acknowledgments held back by `late`.
    pub(super) ack_reorder: u64,
    pub(super) late: Duration,
    pub(super) duplicate: u64,
    /// Data segments (their numbers, as they are sent) that are lost, besides `loss`.
    pub(super) lost: Vec<u64>,
    /// With more bytes than this in the queue what may be marked is. The receiver asks for ECN then.
    pub(super) mark: u64,
    /// The receiver's buffer.
    pub(super) buffer: u32,
    pub(super) seed: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            rtt: Duration::from_millis(20),
            rate: 1_000_000_000,
            queue: 2_500_000,
            loss: 0,
            ack_loss: 0,
            reorder: 0,
            ack_reorder: 0,
            late: Duration::ZERO,
            duplicate: 0,
            lost: Vec::new(),
            mark: u64::MAX,
            buffer: 1 << 27,
            seed: 1,
        }
    }
}

/// What became of a download. Segments are full ones.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Outcome {
    /// Bytes the receiver has, in order.
    pub(super) bytes: u64,
    /// Times the congestion window went down.
    pub(super) reductions: u64,
    /// Reductions taken back.
    pub(super) undone: u64,
    /// Retransmission timeouts.
    pub(super) timeouts: u64,
    /// Segments sent.
    pub(super) sent: u64,
    /// Segments that were sent again.
    pub(super) resent: u64,
    /// Of these, whose sending before had arrived or was on its way.
    pub(super) spurious: u64,
    /// Segments the link lost by chance.
    pub(super) lost: u64,
    /// Segments that found the queue full.
    pub(super) dropped: u64,
    /// The most bytes that ever waited in the queue.
    pub(super) queued: u64,
    /// Segments marked.
    pub(super) marked: u64,
    /// The time for which it ran.
    pub(super) micros: u64,
    /// The longest time, in milliseconds, in which the receiver got nothing in order.
    pub(super) silence: u64,
    /// The longest time, in microseconds, in which the sender sent no data.
    pub(super) pause: u64,
}

impl Outcome {
    /// Megabits a second.
    pub(super) fn mbit(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.micros as f64
    }
}

/// A segment under way.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Flying {
    at: Instant,
    serial: u64,
    to: usize,
    head: Box<Transmit>,
}

impl Ord for Flying {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.serial).cmp(&(other.at, other.serial))
    }
}

impl PartialOrd for Flying {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The world.
pub(super) struct Download {
    pub(super) now: Instant,
    pub(super) ends: [Tcb; 2],
    pub(super) link: Link,
    pub(super) outcome: Outcome,
    flying: BinaryHeap<Reverse<Flying>>,
    /// How often each segment left the sender for good: what the link loses does not count.
    carried: Vec<u8>,
    busy_until: Instant,
    /// When the receiver last got something in order.
    heard_at: Instant,
    /// When the sender last sent data.
    said_at: Instant,
    bytes_before: u64,
    serial: u64,
    seed: u64,
}

impl Download {
    /// An established connection, over a link without faults so far.
    pub(super) fn established(link: Link, sender: Settings) -> Self {
        let now = Instant::from_millis(10_000);
        let receiver = Arc::new(Settings {
            receive_buffer: link.buffer,
            ecn: if link.mark < u64::MAX { Ecn::Offer } else { Ecn::Never },
            ..Settings::default()
        });
        let mut client = Tcb::connect(&receiver, now, SeqNum(7), 0, 1500, false);
        let syn = client.poll_transmit(now, &mut |_| 0).expect("a SYN");
        let server =
            Tcb::accept(&Arc::new(sender), now, &segment(&syn), SeqNum(99), 0, 1500, false);
        let mut download = Self {
            now,
            ends: [server, client],
            link: Link { rtt: link.rtt, rate: link.rate, ..Link::default() },
            outcome: Outcome::default(),
            flying: BinaryHeap::new(),
            carried: Vec::new(),
            busy_until: now,
            heard_at: now,
            said_at: now,
            bytes_before: 0,
            serial: 0,
            seed: link.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 1,
        };
        while download.ends.iter().any(|end| end.state() != State::Established) {
            download.step();
        }
        download.run_for(link.rtt * 2);
        download.link = link;
        download.forget();
        download
    }

    /// An endless stream for `time`.
    pub(super) fn run(link: Link, time: Duration) -> Outcome {
        Self::settled(link, Duration::ZERO, time)
    }

    /// The same, after it has gone on for a while already.
    pub(super) fn settled(link: Link, before: Duration, time: Duration) -> Outcome {
        let mut download = Self::established(link, Settings::default());
        download.sender().set_output_end(1 << 61);
        download.run_for(before);
        download.forget();
        download.run_for(time);
        download.outcome
    }

    /// What comes is judged anew.
    pub(super) fn forget(&mut self) {
        (self.heard_at, self.said_at) = (self.now, self.now);
        self.bytes_before = self.ends[RECEIVER].received();
        self.outcome = Outcome::default();
    }

    pub(super) fn sender(&mut self) -> &mut Tcb {
        &mut self.ends[SENDER]
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.flush();
        while self.next_event().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
        let silence = u64::try_from(until.since(self.heard_at).as_millis()).unwrap();
        self.outcome.silence = self.outcome.silence.max(silence);
        self.outcome.micros += u64::try_from(time.as_micros()).unwrap();
        self.outcome.bytes = self.ends[RECEIVER].received() - self.bytes_before;
    }

    pub(super) fn run_until_acked(&mut self, bytes: u64) {
        while self.ends[SENDER].acked() < bytes {
            self.step();
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let flying = self.flying.peek().map(|Reverse(flying)| flying.at);
        self.ends.iter().filter_map(Tcb::deadline).chain(flying).min()
    }

    /// The next arrival, or the next timer.
    fn step(&mut self) {
        self.flush();
        let Some(next) = self.next_event() else { panic!("nothing will ever happen") };
        self.now = self.now.max(next);
        let now = self.now;
        if let Some(Reverse(flying)) = self.flying.peek()
            && flying.at <= now
            && let Some(Reverse(flying)) = self.flying.pop()
        {
            self.arrive(&flying);
        } else {
            let before = self.ends[SENDER].congestion_window();
            let backoff = self.ends[SENDER].snd.backoff;
            for end in &mut self.ends {
                if end.deadline().is_some_and(|at| at <= now) {
                    end.on_timer(now);
                }
                assert!(end.deadline().is_none_or(|at| at > now), "a timer that turns in place");
            }
            let sender = &self.ends[SENDER];
            self.outcome.reductions += u64::from(sender.congestion_window() < before);
            self.outcome.timeouts += u64::from(sender.snd.backoff > backoff);
        }
        self.flush();
    }

    fn arrive(&mut self, flying: &Flying) {
        let end = &mut self.ends[flying.to];
        let (window, threshold) = (end.congestion_window(), end.threshold());
        let received = end.received();
        end.on_segment(self.now, &segment(&flying.head), &mut |_| ());
        end.set_consumed(u64::MAX);
        if end.received() > received {
            let silence = u64::try_from(self.now.since(self.heard_at).as_millis()).unwrap();
            self.outcome.silence = self.outcome.silence.max(silence);
            self.heard_at = self.now;
        }
        if flying.to == SENDER {
            let (window_now, threshold_now) = (end.congestion_window(), end.threshold());
            let reduced = window_now < window;
            self.outcome.reductions += u64::from(reduced);
            let undone = !reduced && threshold_now > threshold;
            self.outcome.undone += u64::from(undone);
        }
    }

    fn flush(&mut self) {
        for from in [SENDER, RECEIVER] {
            let mut said = 0;
            let poll = |end: &mut Tcb, now| end.poll_transmit(now, &mut |part| part.count());
            while let Some(head) = poll(&mut self.ends[from], self.now) {
                self.put(1 - from, &head);
                said += 1;
                assert!(said < 100_000, "an end that never stops talking");
            }
            check_awake(&self.ends[from]);
        }
    }

    /// A super-segment, cut as the kernel would.
    fn put(&mut self, to: usize, head: &Transmit) {
        let mss = usize::from(head.mss.max(1));
        let pieces = head.payload.div_ceil(mss).max(1);
        for index in 0..pieces {
            let mut piece = head.clone();
            piece.payload = (head.payload - index * mss).min(mss);
            piece.seq = head.seq.add((index * mss) as u32);
            if index + 1 < pieces {
                piece.flags -= Flags::FIN | Flags::PSH;
            }
            if index > 0 {
                piece.flags -= Flags::CWR;
            }
            if to == RECEIVER && piece.payload > 0 {
                self.put_data(piece);
            } else if !self.chance(self.link.ack_loss) {
                self.launch(self.now, to, piece);
            }
        }
    }

    fn put_data(&mut self, piece: Transmit) {
        let pause = u64::try_from(self.now.since(self.said_at).as_micros()).unwrap();
        self.outcome.pause = self.outcome.pause.max(pause);
        self.said_at = self.now;
        let number = self.outcome.sent;
        self.outcome.sent += 1;
        let sender = &self.ends[SENDER];
        let index = (sender.offset_of(piece.seq).unsigned_abs() / MSS) as usize;
        let again = self.carried.get(index).copied();
        let wait = self.waiting();
        let lost = self.link.lost.contains(&number) || self.chance(self.link.loss);
        let full = wait + piece.payload as u64 + HEADERS > self.link.queue;
        self.outcome.resent += u64::from(again.is_some());
        self.outcome.spurious += u64::from(again.is_some_and(|times| times > 0));
        self.outcome.lost += u64::from(lost);
        self.outcome.dropped += u64::from(full && !lost);
        if self.carried.len() <= index {
            self.carried.resize(index + 1, 0);
        }
        if !lost && !full {
            self.carried[index] += 1;
            self.pass(piece, wait);
        }
    }

    fn pass(&mut self, mut piece: Transmit, wait: u64) {
        let size = piece.payload as u64 + HEADERS;
        self.outcome.queued = self.outcome.queued.max(wait + size);
        if wait > self.link.mark && piece.ecn != 0 {
            piece.ecn = 3;
            self.outcome.marked += 1;
        }
        let start = self.busy_until.max(self.now);
        self.busy_until = start + Duration::from_nanos(size * 8 * 1_000_000_000 / self.link.rate);
        let left = self.busy_until;
        if self.chance(self.link.duplicate) {
            self.launch(left, RECEIVER, piece.clone());
        }
        self.launch(left, RECEIVER, piece);
    }

    /// Bytes that wait for the wire.
    fn waiting(&self) -> u64 {
        let nanos = u64::try_from(self.busy_until.since(self.now).as_nanos()).unwrap();
        (u128::from(nanos) * u128::from(self.link.rate) / 8_000_000_000) as u64
    }

    fn launch(&mut self, left: Instant, to: usize, piece: Transmit) {
        let share = if to == RECEIVER { self.link.reorder } else { self.link.ack_reorder };
        let late = if self.chance(share) { self.link.late } else { Duration::ZERO };
        self.serial += 1;
        let at = left + self.link.rtt / 2 + late;
        self.flying.push(Reverse(Flying { at, serial: self.serial, to, head: Box::new(piece) }));
    }

    fn chance(&mut self, of_100_000: u64) -> bool {
        if of_100_000 == 0 {
            return false;
        }
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % 100_000 < of_100_000
    }
}

impl Tcb {
    /// ssthresh.
    pub(super) fn threshold(&self) -> u32 {
        let mut congestion = self.snd.congestion;
        congestion.control().threshold()
    }
}

/// As the other end sees it.
fn segment(head: &Transmit) -> Segment<'static> {
    static PAYLOAD: [u8; 1 << 16] = [0; 1 << 16];
    Segment {
        seq: head.seq,
        ack: head.ack,
        flags: head.flags,
        window: head.window,
        options: head.options.clone(),
        marked: head.ecn == 3,
        payload: &PAYLOAD[..head.payload],
    }
}
