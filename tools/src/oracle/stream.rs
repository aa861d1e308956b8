//! One direction of a connection, put together from segments.
//!
//! ```text
//!   0 ──────── base ═══════════════ next ······ ▓▓▓ ····· ▓▓
//!   forgotten  kept                 a gap       ahead of it
//! ```
//!
//! The first copy of a byte counts; what comes later is compared with it. Only the newest
//! [`KEPT`] bytes in order are kept, which is more than any window here.

use std::collections::{BTreeMap, VecDeque};

/// Bytes in order that are kept to be compared with.
const KEPT: usize = 1 << 21;
/// Bytes beyond a gap that are kept.
const AHEAD: usize = 1 << 22;

/// A byte that came again and was another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) offset: u64,
    pub(super) first: u8,
    pub(super) again: u8,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    base: u64,
    kept: VecDeque<u8>,
    ahead: BTreeMap<u64, Vec<u8>>,
    ahead_bytes: usize,
    /// One past the last byte seen, gaps or not.
    end: u64,
}

impl Stream {
    /// The first offset that has not come.
    pub(super) fn next(&self) -> u64 {
        self.base + self.kept.len() as u64
    }

    /// One past the last byte seen.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// The byte at `offset`, if it is among those kept in order.
    pub(super) fn byte(&self, offset: u64) -> Option<u8> {
        let at = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.kept.get(at).copied()
    }

    /// The first of `bytes` at `offset` that is not the one that came, or never came. What is forgotten cannot differ.
    pub(super) fn differs(&self, offset: u64, bytes: &[u8]) -> Option<Difference> {
        (offset..).zip(bytes).filter(|(at, _)| *at >= self.base).find_map(|(at, &again)| {
            let known = if at < self.next() { self.byte(at) } else { self.byte_ahead(at) };
            let same = known == Some(again);
            (!same).then(|| Difference { offset: at, first: known.unwrap_or(!again), again })
        })
    }

    /// Takes bytes at `offset`. The first difference to an earlier copy, if there is one.
    pub(super) fn insert(&mut self, offset: u64, bytes: &[u8]) -> Option<Difference> {
        self.end = self.end.max(offset + bytes.len() as u64);
        if offset == self.next() && self.ahead.is_empty() {
            self.kept.extend(bytes);
            self.forget();
            return None;
        }
        let mut difference = None;
        let mut fresh: Option<u64> = None;
        for (at, &byte) in (offset..).zip(bytes) {
            let known = if at < self.next() { self.byte(at) } else { self.byte_ahead(at) };
            let is_new = known.is_none() && at >= self.next();
            if let Some(first) = known
                && first != byte
            {
                difference = difference.or(Some(Difference { offset: at, first, again: byte }));
            }
            match (is_new, fresh) {
                (true, None) => fresh = Some(at),
                (false, Some(from)) => {
                    self.keep_ahead(from, part(bytes, offset, from, at));
                    fresh = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        if let Some(from) = fresh {
            self.keep_ahead(from, part(bytes, offset, from, offset + bytes.len() as u64));
        }
        self.drain();
        difference
    }

    fn byte_ahead(&self, offset: u64) -> Option<u8> {
        let (start, bytes) = self.ahead.range(..=offset).next_back()?;
        bytes.get(usize::try_from(offset - start).ok()?).copied()
    }

    fn keep_ahead(&mut self, from: u64, bytes: &[u8]) {
        if self.ahead_bytes + bytes.len() <= AHEAD || from == self.next() {
            self.ahead_bytes += bytes.len();
            self.ahead.insert(from, bytes.to_vec());
        }
    }

    fn drain(&mut self) {
        while let Some(entry) = self.ahead.first_entry()
            && *entry.key() <= self.base + self.kept.len() as u64
        {
            let bytes = entry.remove();
            self.ahead_bytes -= bytes.len();
            self.kept.extend(bytes);
        }
        self.forget();
    }

    fn forget(&mut self) {
        let surplus = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..surplus);
        self.base += surplus as u64;
    }
}

fn part(bytes: &[u8], offset: u64, from: u64, to: u64) -> &[u8] {
    &bytes[(from - offset) as usize..(to - offset) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_make_the_same_stream() {
        let mut stream = Stream::default();
        assert_eq!(stream.insert(4, b"ef"), None);
        assert_eq!((stream.next(), stream.end()), (0, 6));
        assert_eq!(stream.insert(0, b"abc"), None);
        assert_eq!(stream.next(), 3);
        assert_eq!(stream.insert(2, b"cdefgh"), None);
        assert_eq!((stream.next(), stream.byte(5), stream.byte(8)), (8, Some(b'f'), None));
    }

    #[test]
    fn another_byte_at_a_known_offset_is_seen() {
        let mut stream = Stream::default();
        stream.insert(0, b"abc");
        stream.insert(5, b"fg");
        let seen = |offset, first, again| Some(Difference { offset, first, again });
        assert_eq!(stream.insert(1, b"bX"), seen(2, b'c', b'X'));
        assert_eq!(stream.insert(4, b"eYg"), seen(5, b'f', b'Y'), "ahead of a gap, too");
        assert_eq!(stream.byte(2), Some(b'c'), "the first copy stays");
    }

    #[test]
    fn only_the_newest_is_kept() {
        let mut stream = Stream::default();
        stream.insert(0, &vec![1; KEPT]);
        stream.insert(KEPT as u64, &[2; 10]);
        assert_eq!((stream.byte(9), stream.byte(10)), (None, Some(1)));
        assert_eq!(stream.insert(0, &[9; 5]), None, "what is forgotten cannot differ");
        assert_eq!(stream.next(), KEPT as u64 + 10);
    }
}
