//! A timer wheel: very many deadlines at O(1) each, 1 ms apart.
//!
//! Six levels of 64 slots; a slot of level *n* spans 64ⁿ ms. A deadline goes to the level of the
//! highest digit (base 64) in which it differs from now, and moves down a level when its slot
//! comes up: at most five times.
//!
//! All deadlines of a million connections may lie in one slot. So a slot that comes up is only laid at
//! hand, and what is at hand is given out, or moved down, a few entries at a call ([`Wheel::expired`]):
//! until that is done the wheel stands, and nothing of it comes early.
//!
//! Entries are not cancelled. The owner keeps the deadline it has armed per key, inserts only when
//! a deadline comes *earlier* than that, and on expiry looks at what the deadline is by then. So
//! a connection has one live entry however often its timers move.

use crate::slots::Queue;
use crate::time::Instant;

/// A timer wheel over keys.
#[derive(Debug)]
pub struct Wheel<K> {
    /// The current tick: everything before it has been given out.
    now: u64,
    levels: [Level<K>; LEVELS],
    /// What is due, and what came up with it and is to be moved down.
    at_hand: Queue<(u64, K)>,
    len: usize,
}

#[derive(Debug)]
struct Level<K> {
    /// Bit *n* is set while slot *n* is not empty.
    used: u64,
    slots: [Queue<(u64, K)>; SLOTS],
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel that starts at `now`.
    pub fn new(now: Instant) -> Self {
        let level = || Level { used: 0, slots: [const { Queue::new() }; SLOTS] };
        Self {
            now: now.as_millis(),
            levels: core::array::from_fn(|_| level()),
            at_hand: Queue::new(),
            len: 0,
        }
    }

    /// Gives `key` out at `at`, rounded up to a millisecond, or at the next call if that is past.
    pub fn insert(&mut self, at: Instant, key: K) {
        self.len += 1;
        self.place(at.as_nanos().div_ceil(1_000_000), key);
    }

    /// The next key whose time has come; `None` when there is no more, or `looks` is used up: each look
    /// at an entry takes one of it. Then [`Wheel::next`] says at once.
    pub fn expired(&mut self, now: Instant, looks: &mut usize) -> Option<K> {
        let tick = now.as_millis();
        while *looks > 0 {
            if let Some((due, key)) = self.at_hand.pop_front() {
                *looks -= 1;
                if due <= self.now {
                    self.len -= 1;
                    return Some(key);
                }
                self.place(due, key);
                continue;
            }
            match self.first() {
                Some((level, slot, start)) if start <= tick => self.open(level, slot, start),
                Some(_) | None => {
                    self.now = self.now.max(tick);
                    break;
                }
            }
        }
        None
    }

    /// When [`Wheel::expired`] should be called next. Never late; for a far deadline it may be
    /// early, and then nothing expires.
    pub fn next(&self) -> Option<Instant> {
        if !self.at_hand.is_empty() {
            return Some(Instant::from_millis(self.now));
        }
        self.first().map(|(_, _, start)| Instant::from_millis(start))
    }

    /// Entries in the wheel.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the wheel is empty.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&mut self, tick: u64, key: K) {
        if tick <= self.now {
            self.at_hand.push_back((tick, key));
            return;
        }
        // What lies beyond the wheel waits in its last slot and is placed again from there.
        let tick_in = tick.min((self.now | (SPAN - 1)).max(self.now + 1));
        let highest = 63 - (self.now ^ tick_in).max(1).leading_zeros();
        let level = ((highest / BITS) as usize).min(LEVELS - 1);
        let slot = (tick_in >> (BITS * level as u32)) as usize % SLOTS;
        self.levels[level].used |= 1 << slot;
        self.levels[level].slots[slot].push_back((tick, key));
    }

    /// The first occupied slot: its level, number and first tick. Lower levels come earlier.
    fn first(&self) -> Option<(usize, usize, u64)> {
        (0..LEVELS).find_map(|level| {
            let shift = BITS * level as u32;
            let digit = (self.now >> shift) as u32 % SLOTS as u32;
            let later = self.levels[level].used.rotate_right(digit);
            if later == 0 {
                return None;
            }
            let ahead = u64::from(later.trailing_zeros());
            let start = ((self.now >> shift) + ahead) << shift;
            Some((level, start as usize >> shift & (SLOTS - 1), start.max(self.now)))
        })
    }

    /// Drops a piece of it. `false`: there was none left.
    pub fn pop_piece(&mut self) -> bool {
        let used =
            |level: &Level<K>| (level.used != 0).then(|| level.used.trailing_zeros() as usize);
        let before = self.at_hand.len();
        if self.at_hand.pop_piece() {
            self.len -= before - self.at_hand.len();
            return true;
        }
        let Some((level, slot)) = self.levels.iter_mut().find_map(|l| used(l).map(|s| (l, s)))
        else {
            return false;
        };
        let queue = &mut level.slots[slot];
        let before = queue.len();
        queue.pop_piece();
        self.len -= before - queue.len();
        if queue.is_empty() {
            level.used &= !(1 << slot);
        }
        true
    }

    /// Moves the wheel to `start` and lays the slot's entries at hand, of which there are none.
    fn open(&mut self, level: usize, slot: usize, start: u64) {
        self.now = start;
        self.levels[level].used &= !(1 << slot);
        core::mem::swap(&mut self.at_hand, &mut self.levels[level].slots[slot]);
    }
}

const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 6;
/// Ticks that the wheel spans: two years.
const SPAN: u64 = 1 << (BITS * LEVELS as u32);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(wheel: &mut Wheel<u64>, now: Instant) -> Vec<u64> {
        let mut looks = usize::MAX;
        let mut keys: Vec<_> = core::iter::from_fn(|| wheel.expired(now, &mut looks)).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn keys_come_out_in_time_and_not_before() {
        let mut wheel = Wheel::new(Instant::from_millis(1000));
        for ms in [1001, 1063, 1064, 1100, 5000, 300_000, 90_000_000] {
            wheel.insert(Instant::from_millis(ms), ms);
        }
        assert_eq!(wheel.next(), Some(Instant::from_millis(1001)));
        assert!(drain(&mut wheel, Instant::from_millis(1000)).is_empty());
        assert_eq!(drain(&mut wheel, Instant::from_millis(1063)), [1001, 1063]);
        assert_eq!(drain(&mut wheel, Instant::from_millis(4999)), [1064, 1100]);
        assert_eq!(drain(&mut wheel, Instant::from_millis(400_000)), [5000, 300_000]);
        assert_eq!(wheel.len(), 1);
        assert_eq!(drain(&mut wheel, Instant::from_millis(90_000_000)), [90_000_000]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_crowd_leaves_no_room_behind() {
        let mut wheel = Wheel::new(Instant::from_millis(1000));
        (0..10_000).for_each(|key| wheel.insert(Instant::from_millis(300_000 + key), key));
        assert_eq!(drain(&mut wheel, Instant::from_millis(400_000)).len(), 10_000);
        let slots = wheel.levels.iter().flat_map(|level| &level.slots);
        let room: usize = slots.map(Queue::capacity).sum();
        assert!(room < 64 * 1024 && wheel.at_hand.capacity() <= 256, "{room}");
    }

    /// A million deadlines in one slot of the third level: no call looks at more than its share, whoever
    /// is due comes meanwhile, and the wheel says that it is to be asked again.
    #[test]
    fn a_crowd_that_comes_up_at_once_is_moved_a_share_at_a_time() {
        const CROWD: u64 = 100_000;
        let mut wheel = Wheel::new(Instant::from_millis(0));
        (0..CROWD).for_each(|n| wheel.insert(Instant::from_millis(300_000 + n % 1000), n));
        let (mut now, mut keys, mut calls) = (Instant::from_millis(262_144), Vec::new(), 0);
        while keys.len() < CROWD as usize {
            let mut looks = 1000;
            while let Some(key) = wheel.expired(now, &mut looks) {
                assert!(now >= Instant::from_millis(300_000 + key % 1000), "{key} comes early");
                keys.push(key);
            }
            assert!(looks == 0 || wheel.at_hand.is_empty(), "a call does what it may");
            let next = wheel.next().unwrap_or(now);
            assert!(next <= now || wheel.at_hand.is_empty(), "the rest waits for a call");
            now = now.max(next);
            calls += 1;
            assert!(calls < 2000, "each entry is looked at a few times");
        }
        assert!(now <= Instant::from_millis(301_000), "and nobody waits for longer");
        keys.sort_unstable();
        assert!(keys.into_iter().eq(0..CROWD));
    }

    #[test]
    fn it_is_taken_apart_a_piece_at_a_time() {
        let mut wheel = Wheel::new(Instant::from_millis(0));
        (0..100_000).for_each(|n| wheel.insert(Instant::from_millis(n / 3000 * 7), n));
        let mut looks = 1000;
        let now = Instant::from_millis(400_000);
        let given = core::iter::from_fn(|| wheel.expired(now, &mut looks)).count();
        assert!(given > 0 && !wheel.at_hand.is_empty(), "some lie at hand");
        assert_eq!(wheel.len(), 100_000 - given);
        let mut before = wheel.len();
        while wheel.pop_piece() {
            assert!(before - wheel.len() <= 256);
            before = wheel.len();
        }
        assert_eq!((wheel.len(), wheel.next()), (0, None));
    }

    #[test]
    fn what_is_past_comes_at_once_and_never_is_far() {
        let mut wheel = Wheel::new(Instant::from_millis(1000));
        wheel.insert(Instant::ZERO, 1);
        wheel.insert(Instant::NEVER, 2);
        assert_eq!(drain(&mut wheel, Instant::from_millis(1000)), [1]);
        assert!(drain(&mut wheel, Instant::from_millis(1 << 37)).is_empty());
        assert_eq!(wheel.len(), 1);
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(
            start in 0u64..1 << 40,
            steps in proptest::collection::vec((0u64..200_000, 0u64..50_000), 1..80),
        ) {
            let mut now = start;
            let mut wheel = Wheel::new(Instant::from_millis(now));
            let mut model: Vec<u64> = Vec::new();
            for (delay, step) in steps {
                wheel.insert(Instant::from_millis(now + delay), now + delay);
                model.push(now + delay);
                let first = model.iter().min().copied();
                let next = wheel.next().map(Instant::as_millis);
                prop_assert!(next.is_some() && next <= first.map(|f| f.max(now)));
                now += step;
                model.sort_unstable();
                let due = model.iter().filter(|at| **at <= now).count();
                let expected: Vec<_> = model.drain(..due).collect();
                prop_assert_eq!(drain(&mut wheel, Instant::from_millis(now)), expected);
            }
        }
    }
}
