//! What a line does to what is sent over it.

use super::dice::{happens, up_to};
use super::plan::Weather;
use super::tally::Tally;
use fastrand::Rng;

/// Bytes that wait for a slow line longer than this are lost: its queue is full.
const QUEUE: u64 = 50_000_000;
/// The most that reordering delays a packet.
const LATE: u64 = 5_000_000;

/// One direction of a line.
#[derive(Debug)]
pub(super) struct Line {
    rng: Rng,
    /// When the last byte of what was sent before is through.
    busy_until: u64,
}

/// One copy that will arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// After so many nanoseconds.
    pub(super) delay: u64,
    /// With this bit turned over.
    pub(super) flipped: Option<u64>,
}

impl Line {
    pub(super) const fn new(rng: Rng) -> Self {
        Self { rng, busy_until: 0 }
    }

    /// Sends `length` bytes. Gives what arrives of it: nothing, once, or twice.
    pub(super) fn carry(
        &mut self,
        now: u64,
        weather: &Weather,
        length: usize,
        tally: &mut Tally,
    ) -> [Option<Arrival>; 2] {
        let rng = &mut self.rng;
        let jitter = up_to(rng, weather.jitter_us * 1000);
        let (lost, twice) = (happens(rng, weather.loss), happens(rng, weather.duplicate));
        let (late, bad) = (happens(rng, weather.reorder), happens(rng, weather.corrupt));
        let (lateness, bit) = (up_to(rng, LATE), up_to(rng, length as u64 * 8 - 1));
        if lost {
            tally.add("packet lost", 1);
            return [None, None];
        }
        let start = self.busy_until.max(now);
        if start - now > QUEUE {
            tally.add("queue full", 1);
            return [None, None];
        }
        if weather.rate > 0 {
            self.busy_until = start + length as u64 * 1_000_000 / weather.rate;
        }
        let mut delay = start.max(self.busy_until) - now + weather.delay_us * 1000 + jitter;
        if late {
            tally.add("packet late", 1);
            delay += lateness;
        }
        if bad {
            tally.add("packet corrupted", 1);
        }
        if twice {
            tally.add("packet twice", 1);
        }
        let first = Arrival { delay, flipped: bad.then_some(bit) };
        let second = Arrival { delay: delay + lateness, flipped: None };
        [Some(first), twice.then_some(second)]
    }
}

/// Turns one bit over.
pub(super) fn flip(bytes: &mut [u8], bit: u64) {
    if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
        *byte ^= 1 << (bit % 8);
    }
}
