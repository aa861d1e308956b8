//! Streams, put together from segments and held against each other.

use std::collections::{BTreeMap, VecDeque};

/// Bytes that may wait for what lies before them, or for the other side.
const WAITING_MAX: usize = 8 << 20;

/// A stream as a capture shows it: in order, each byte once.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Everything below was handed on.
    next: i64,
    later: BTreeMap<i64, Vec<u8>>,
    held: usize,
}

impl Assembly {
    /// Where the stream stands.
    pub(super) const fn next(&self) -> i64 {
        self.next
    }

    /// Takes the bytes at `start` and hands on what is new and in order.
    pub(super) fn take(&mut self, start: i64, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        if start > self.next {
            if !bytes.is_empty() && self.held + bytes.len() <= WAITING_MAX {
                self.held += bytes.len();
                let old = self.later.insert(start, bytes.to_vec());
                self.held -= old.map_or(0, |old| old.len());
            }
            return;
        }
        self.hand_on(start, bytes, &mut each);
        self.join(&mut each);
    }

    /// The stream is known to be good up to `offset`: what is not here was not captured, and
    /// zeros stand in for it. Returns how many.
    pub(super) fn fill(&mut self, offset: i64, mut each: impl FnMut(&[u8])) -> u64 {
        let mut filled = 0;
        while self.next < offset {
            let until = self.later.keys().next().map_or(offset, |later| (*later).min(offset));
            while self.next < until {
                let zeros = [0; 4096];
                let count =
                    usize::try_from(until - self.next).unwrap_or(usize::MAX).min(zeros.len());
                each(&zeros[..count]);
                self.next += count as i64;
                filled += count as u64;
            }
            self.join(&mut each);
        }
        filled
    }

    fn join(&mut self, each: &mut impl FnMut(&[u8])) {
        while let Some(entry) = self.later.first_entry()
            && *entry.key() <= self.next
        {
            let (start, bytes) = entry.remove_entry();
            self.held -= bytes.len();
            self.hand_on(start, &bytes, each);
        }
    }

    fn hand_on(&mut self, start: i64, bytes: &[u8], each: &mut impl FnMut(&[u8])) {
        let known = usize::try_from(self.next - start).unwrap_or(0);
        if let Some(fresh) = bytes.get(known..).filter(|fresh| !fresh.is_empty()) {
            each(fresh);
            self.next += fresh.len() as i64;
        }
    }
}

/// The recorded stream against ours, as far as both go.
#[derive(Debug, Default)]
pub(super) struct Lockstep {
    /// What one side said and the other has not yet.
    ahead: VecDeque<u8>,
    ours_ahead: bool,
    /// Bytes that were compared.
    pub(super) compared: u64,
    /// Where they first differed, and a little of both from there.
    pub(super) differs: Option<(u64, Vec<u8>, Vec<u8>)>,
    /// One side was too far ahead to go on.
    pub(super) given_up: bool,
}

/// Bytes shown of a difference.
const SHOWN: usize = 24;

impl Lockstep {
    /// The next bytes of one side.
    pub(super) fn say(&mut self, ours: bool, bytes: &[u8]) {
        if self.given_up || self.differs.is_some() {
            return;
        }
        let common = if self.ahead.is_empty() || ours == self.ours_ahead {
            0
        } else {
            bytes.len().min(self.ahead.len())
        };
        let pairs = bytes[..common].iter().zip(&self.ahead);
        if let Some(at) = pairs.into_iter().position(|(a, b)| a != b) {
            let own = bytes[at..bytes.len().min(at + SHOWN)].to_vec();
            let other: Vec<u8> = self.ahead.iter().skip(at).take(SHOWN).copied().collect();
            let (recorded, new) = if ours { (other, own) } else { (own, other) };
            self.differs = Some((self.compared + at as u64, recorded, new));
            self.ahead = VecDeque::new();
            return;
        }
        self.ahead.drain(..common);
        self.compared += common as u64;
        if common < bytes.len() {
            self.ours_ahead = ours;
            self.ahead.extend(&bytes[common..]);
        }
        if self.ahead.len() > WAITING_MAX {
            self.given_up = true;
            self.ahead = VecDeque::new();
        } else if self.ahead.is_empty() && self.ahead.capacity() > 1 << 16 {
            self.ahead = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assembly_puts_in_order_and_fills_what_is_missing() {
        let mut assembly = Assembly::default();
        let mut stream = Vec::new();
        assembly.take(3, b"def", |bytes| stream.extend_from_slice(bytes));
        assembly.take(0, b"abcd", |bytes| stream.extend_from_slice(bytes));
        assembly.take(8, b"ij", |bytes| stream.extend_from_slice(bytes));
        assert_eq!((&stream[..], assembly.next()), (&b"abcdef"[..], 6));
        assert_eq!(assembly.fill(9, |bytes| stream.extend_from_slice(bytes)), 2);
        assert_eq!((&stream[..], assembly.next()), (&b"abcdef\0\0ij"[..], 10));
    }

    #[test]
    fn lockstep_finds_the_first_difference_whoever_is_ahead() {
        for ours_first in [true, false] {
            let mut lockstep = Lockstep::default();
            lockstep.say(ours_first, b"abc");
            lockstep.say(!ours_first, b"ab");
            lockstep.say(!ours_first, b"cde");
            lockstep.say(ours_first, b"dX");
            let (at, recorded, ours) = lockstep.differs.clone().unwrap();
            let (first, second) = if ours_first { (ours, recorded) } else { (recorded, ours) };
            assert_eq!((at, &first[..], &second[..]), (4, &b"X"[..], &b"e"[..]));
        }
    }
}
