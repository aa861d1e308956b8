//! Out-of-order input, until the gap before it is filled.
//!
//! Pieces are kept as they came, sorted by stream offset and never overlapping. They lie inside
//! the receive window, so their bytes are bounded by it; their number is bounded by
//! [`PIECES_MAX`]. When there is no room for one more, it is dropped: the peer sends it again.
//! Nothing here was acknowledged, so nothing here needs to survive a takeover (RFC 2018 §8).

use arrayvec::ArrayVec;
use core::ops::Range;

/// Pieces of input beyond RCV.NXT.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    pieces: Vec<Piece>,
    /// Bytes that they hold.
    held: usize,
    /// Counts insertions, to know what came last.
    clock: u32,
}

#[derive(Debug)]
struct Piece {
    start: u64,
    bytes: Vec<u8>,
    /// The insertion that touched it last.
    stamp: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl Assembler {
    /// Keeps what is new of `bytes`, which begin at `start`. Returns the first part that was
    /// already here, for a D-SACK (RFC 2883).
    pub(super) fn insert(&mut self, start: u64, bytes: &[u8]) -> Option<Range<u64>> {
        self.clock = self.clock.wrapping_add(1);
        let end = start + bytes.len() as u64;
        let (mut at, mut duplicate) = (start, None);
        let mut index = self.pieces.partition_point(|piece| piece.end() <= start);
        while at < end {
            let Some(piece) = self.pieces.get_mut(index) else {
                self.keep(index, at, slice(bytes, start, at..end));
                break;
            };
            if piece.start <= at {
                let shared = at..piece.end().min(end);
                if shared.start < shared.end {
                    piece.stamp = self.clock;
                    duplicate.get_or_insert(shared.clone());
                    at = shared.end;
                }
                index += 1;
            } else {
                let gap_end = piece.start.min(end);
                index += usize::from(self.keep(index, at, slice(bytes, start, at..gap_end)));
                at = gap_end;
            }
        }
        duplicate
    }

    /// Keeps bytes that overlap nothing. Whether a piece was added at `index`.
    fn keep(&mut self, index: usize, start: u64, bytes: &[u8]) -> bool {
        let stamp = self.clock;
        if let Some(before) = index.checked_sub(1).and_then(|i| self.pieces.get_mut(i))
            && before.end() == start
            && before.bytes.len() < PIECE_MAX
        {
            before.bytes.extend_from_slice(bytes);
            self.held += bytes.len();
            before.stamp = stamp;
            return false;
        }
        if self.pieces.len() >= PIECES_MAX {
            return false;
        }
        self.pieces.insert(index, Piece { start, bytes: bytes.to_vec(), stamp });
        self.held += bytes.len();
        true
    }

    /// Hands on everything contiguous with `next`, and returns where it ends.
    pub(super) fn drain(&mut self, next: u64, deliver: &mut dyn FnMut(&[u8])) -> u64 {
        let (mut at, mut used) = (next, 0);
        for piece in &self.pieces {
            if piece.start > at {
                break;
            }
            used += 1;
            if piece.end() > at {
                deliver(slice(&piece.bytes, piece.start, at..piece.end()));
                at = piece.end();
            }
        }
        self.held -= self.pieces.drain(..used).map(|piece| piece.bytes.len()).sum::<usize>();
        at
    }

    /// Forgets everything from `end` on: the stream turned out to end there.
    pub(super) fn truncate(&mut self, end: u64) {
        self.pieces.retain(|piece| piece.end() <= end);
        self.held = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
    }

    /// Bytes of memory that it takes, about: pieces that grow have room for twice as much at most.
    pub(super) fn memory(&self) -> usize {
        self.held + self.pieces.capacity() * size_of::<Piece>()
    }

    /// Whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Up to `N` contiguous runs, the most recently touched first: RFC 2018 §4.
    pub(super) fn recent<const N: usize>(&self) -> ArrayVec<Range<u64>, N> {
        let mut runs: ArrayVec<(u32, Range<u64>), N> = ArrayVec::new();
        let mut pieces = self.pieces.iter().peekable();
        while let Some(first) = pieces.next() {
            let (mut run, mut age) = (first.start..first.end(), self.age(first));
            while let Some(next) = pieces.next_if(|piece| piece.start == run.end) {
                run.end = next.end();
                age = age.min(self.age(next));
            }
            let place = runs.iter().position(|(other, _)| age < *other).unwrap_or(runs.len());
            if runs.is_full() {
                if place == runs.len() {
                    continue;
                }
                runs.pop();
            }
            runs.insert(place, (age, run));
        }
        runs.into_iter().map(|(_, run)| run).collect()
    }

    fn age(&self, piece: &Piece) -> u32 {
        self.clock.wrapping_sub(piece.stamp)
    }

    /// Bytes kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        assert_eq!(self.held, self.pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>());
        self.held
    }
}

/// The part `wanted` of `bytes`, which begin at offset `start`; empty where there is none.
pub(super) fn slice(bytes: &[u8], start: u64, wanted: Range<u64>) -> &[u8] {
    let index = |offset: u64| usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
    bytes.get(index(wanted.start)..index(wanted.end).min(bytes.len())).unwrap_or_default()
}

/// Most pieces one connection keeps.
const PIECES_MAX: usize = 512;
/// A piece at least this long is not extended further: copies stay short.
const PIECE_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(assembler: &mut Assembler, next: u64) -> Vec<u8> {
        let mut all = Vec::new();
        assembler.drain(next, &mut |bytes| all.extend_from_slice(bytes));
        all
    }

    #[test]
    fn overlapping_pieces_come_out_once_and_in_order() {
        let mut a = Assembler::default();
        assert_eq!(a.insert(10, b"klm"), None);
        assert_eq!(a.insert(4, b"ef"), None);
        assert_eq!(a.insert(3, b"defghijklmno"), Some(4..6));
        assert_eq!(a.recent::<4>().first(), Some(&(3..15)));
        assert_eq!(a.recent::<4>().len(), 1, "one run");
        assert_eq!(drained(&mut a, 3), b"defghijklmno");
        assert!(a.is_empty());
    }

    #[test]
    fn blocks_come_most_recent_first() {
        let mut a = Assembler::default();
        for start in [10, 30, 50, 70, 20] {
            a.insert(start, b"xy");
        }
        assert_eq!(a.recent::<3>().as_slice(), &[20..22, 70..72, 50..52]);
        assert_eq!(a.insert(30, b"xyz"), Some(30..32), "the known part is named");
        assert_eq!(a.recent::<1>().first(), Some(&(30..33)));
    }

    #[test]
    fn a_flood_of_crumbs_is_bounded() {
        let mut a = Assembler::default();
        for i in 0..10_000 {
            a.insert(2 * i + 1, b"x");
        }
        assert_eq!(a.len(), PIECES_MAX);
        a.truncate(10);
        assert_eq!(a.len(), 5);
    }

    #[test]
    fn what_was_delivered_meanwhile_is_not_delivered_again() {
        let mut a = Assembler::default();
        a.insert(5, b"fghij");
        assert_eq!(drained(&mut a, 7), b"hij");
        assert_eq!(drained(&mut a, 10), b"");
    }
}
