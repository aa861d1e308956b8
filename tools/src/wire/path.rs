//! One direction of the link: when does which frame arrive at the other end?
//!
//! ```text
//!   offer ─► lost? ─► rate and queue ─► corrupted? ─► delay, jitter, reordering ─► poll
//!                                        twice? ───┘
//! ```
//!
//! Pure: the time is handed in, chance comes from a seed. The same frames at the same times with the
//! same seed come out the same.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;

/// Bytes under way in one direction beyond which frames are dropped, whatever was asked for.
const IN_FLIGHT_MAX: usize = 256 << 20;
/// What an Ethernet frame occupies on a real wire besides its bytes: preamble, checksum, gap.
const WIRE_OVERHEAD: u64 = 24;
/// Spare buffers kept for reuse.
const SPARES_MAX: usize = 4096;

/// A share of frames, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Share(f64);

impl Share {
    /// `None` if it is not between 0 and 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    fn hits(self, rng: &mut Rng) -> bool {
        // No draw where nothing can happen, so that adding one fault leaves the others' dice alone.
        self.0 > 0.0 && rng.f64() < self.0
    }
}

/// Loss in bursts, as Gilbert and Elliott model it: a good state that loses nothing and a bad one
/// that loses everything.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bursts {
    /// How likely a frame begins a burst.
    pub begin: Share,
    /// Frames in a burst, on average; at least 1.
    pub length: f64,
}

/// What happens to frames on their way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Impairments {
    /// Time from one end to the other.
    pub delay: Duration,
    /// Up to so much more or less, evenly spread. Order is kept.
    pub jitter: Duration,
    /// Frames lost, each by itself.
    pub loss: Share,
    /// Frames lost in bursts.
    pub bursts: Option<Bursts>,
    /// Frames held back, so that later ones overtake them.
    pub reorder: Share,
    /// For how long they are held back.
    pub reorder_by: Duration,
    /// Frames that arrive twice.
    pub duplicate: Share,
    /// Frames with one bit flipped behind the Ethernet header.
    pub corrupt: Share,
    /// Bits per second, counted with preamble, checksum and gap as on a real wire.
    pub rate: Option<u64>,
    /// Bytes that wait for a slower wire; more are dropped. Without a rate nothing waits.
    pub queue: usize,
}

/// What became of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Frames that came in.
    pub offered: u64,
    /// Frames that went out; those that arrived twice count twice.
    pub delivered: u64,
    /// Bytes that went out.
    pub bytes: u64,
    /// Lost by [`Impairments::loss`] or [`Impairments::bursts`].
    pub lost: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Held back.
    pub reordered: u64,
    /// With a flipped bit.
    pub corrupted: u64,
}

/// One direction.
#[derive(Debug)]
pub struct Path {
    impairments: Impairments,
    rng: Rng,
    in_burst: bool,
    /// Until when the wire is busy with frames that came before.
    busy_until: Duration,
    /// When the latest frame that keeps its place arrives.
    latest: Duration,
    flying: BinaryHeap<Reverse<Flying>>,
    flying_bytes: usize,
    serial: u64,
    spares: Vec<Vec<u8>>,
    counts: Counts,
}

/// A frame under way. Ordered by arrival, and those that arrive together as they came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    arrives: Duration,
    serial: u64,
    frame: Vec<u8>,
}

impl Path {
    /// An empty wire.
    #[must_use]
    pub fn new(impairments: Impairments, seed: u64) -> Self {
        Self {
            impairments,
            rng: Rng::with_seed(seed),
            in_burst: false,
            busy_until: Duration::ZERO,
            latest: Duration::ZERO,
            flying: BinaryHeap::new(),
            flying_bytes: 0,
            serial: 0,
            spares: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// A frame comes in at one end. Its buffer is kept; what is left in its place is a spare one.
    ///
    /// Times are since any fixed moment and never go back.
    pub fn offer(&mut self, now: Duration, frame: &mut Vec<u8>) {
        self.counts.offered += 1;
        if self.loses() {
            self.counts.lost += 1;
            return;
        }
        let Some(left) = self.pass_queue(now, frame.len()) else {
            self.counts.dropped += 1;
            return;
        };
        if self.impairments.corrupt.hits(&mut self.rng) {
            self.corrupt(frame);
        }
        if self.impairments.duplicate.hits(&mut self.rng) {
            self.counts.duplicated += 1;
            let mut twin = self.spare();
            twin.extend_from_slice(frame);
            let arrives = self.arrival(left);
            self.launch(arrives, twin);
        }
        let arrives = self.arrival(left);
        let spare = self.spare();
        self.launch(arrives, std::mem::replace(frame, spare));
    }

    /// A frame that has arrived by now. Give its buffer back with [`Path::reuse`].
    pub fn poll(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.deadline()? > now {
            return None;
        }
        let Reverse(flying) = self.flying.pop()?;
        self.flying_bytes -= flying.frame.len();
        self.counts.delivered += 1;
        self.counts.bytes += flying.frame.len() as u64;
        Some(flying.frame)
    }

    /// When the next frame arrives.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.flying.peek().map(|Reverse(flying)| flying.arrives)
    }

    /// Takes a buffer back.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        if self.spares.len() < SPARES_MAX {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    /// What became of the frames so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn spare(&mut self) -> Vec<u8> {
        self.spares.pop().unwrap_or_default()
    }

    fn loses(&mut self) -> bool {
        let bursty = match self.impairments.bursts {
            None => false,
            Some(bursts) if self.in_burst => {
                self.in_burst = self.rng.f64() >= 1.0 / bursts.length.max(1.0);
                // The frame that ends the burst is the first to come through.
                self.in_burst
            }
            Some(bursts) => {
                self.in_burst = bursts.begin.hits(&mut self.rng);
                self.in_burst
            }
        };
        bursty || self.impairments.loss.hits(&mut self.rng)
    }

    /// When the last bit of the frame has left for the wire, or `None` if there is no room to wait.
    fn pass_queue(&mut self, now: Duration, length: usize) -> Option<Duration> {
        if self.flying_bytes + length > IN_FLIGHT_MAX {
            return None;
        }
        let Some(rate) = self.impairments.rate else { return Some(now) };
        let start = self.busy_until.max(now);
        let waiting = bytes_in(start - now, rate);
        // What is on the wire already does not wait: an idle wire takes any frame.
        if waiting > 0 && waiting + length as u64 > self.impairments.queue as u64 {
            return None;
        }
        self.busy_until = start + time_for(length as u64 + WIRE_OVERHEAD, rate);
        Some(self.busy_until)
    }

    fn arrival(&mut self, left: Duration) -> Duration {
        let Impairments { delay, jitter, reorder, reorder_by, .. } = self.impairments;
        let mut arrives = left + delay;
        if jitter > Duration::ZERO {
            arrives = (arrives + jitter.mul_f64(2.0 * self.rng.f64())).saturating_sub(jitter);
        }
        // Jitter does not reorder, but a frame cannot arrive before it was sent.
        arrives = arrives.max(left).max(self.latest);
        if reorder.hits(&mut self.rng) {
            self.counts.reordered += 1;
            return arrives + reorder_by;
        }
        self.latest = arrives;
        arrives
    }

    fn launch(&mut self, arrives: Duration, frame: Vec<u8>) {
        self.serial += 1;
        self.flying_bytes += frame.len();
        self.flying.push(Reverse(Flying { arrives, serial: self.serial, frame }));
    }

    fn corrupt(&mut self, frame: &mut [u8]) {
        const ETHERNET: usize = 14;
        if frame.len() > ETHERNET {
            self.counts.corrupted += 1;
            let byte = self.rng.usize(ETHERNET..frame.len());
            frame[byte] ^= 1 << self.rng.u8(0..8);
        }
    }
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate) / 8 / 1_000_000_000).unwrap_or(u64::MAX)
}
