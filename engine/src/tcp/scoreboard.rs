//! What the peer says it holds beyond SND.UNA: the scoreboard of RFC 6675 §3, as ranges.
//!
//! Ranges are stream offsets, sorted, disjoint and not adjacent. Their number is bounded; what
//! does not fit is forgotten, and at worst sent again.

use core::ops::Range;

/// Selectively acknowledged ranges.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    ranges: Vec<Range<u64>>,
}

impl Scoreboard {
    /// Adds a range. Whether any of it is news.
    pub(super) fn add(&mut self, new: Range<u64>) -> bool {
        let first = self.ranges.partition_point(|range| range.end < new.start);
        let last = self.ranges.partition_point(|range| range.start <= new.end);
        match self.ranges.get(first..last) {
            Some([only]) if only.start <= new.start && new.end <= only.end => false,
            Some([from, .., to]) => {
                let merged = from.start.min(new.start)..to.end.max(new.end);
                self.ranges.splice(first..last, [merged]);
                true
            }
            Some([only]) => {
                let merged = only.start.min(new.start)..only.end.max(new.end);
                self.ranges.splice(first..last, [merged]);
                true
            }
            _ if self.ranges.len() >= RANGES_MAX => false,
            _ => {
                self.ranges.insert(first, new);
                true
            }
        }
    }

    /// Forgets what lies below `una`.
    pub(super) fn advance(&mut self, una: u64) {
        let gone = self.ranges.partition_point(|range| range.end <= una);
        self.ranges.drain(..gone);
        if let Some(first) = self.ranges.first_mut() {
            first.start = first.start.max(una);
        }
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the first range begins at `una`: the peer claimed to hold what it now asks for.
    pub(super) fn reneged(&self, una: u64) -> bool {
        self.ranges.first().is_some_and(|range| range.start <= una)
    }

    /// Bytes held within `part`.
    pub(super) fn held(&self, part: Range<u64>) -> u64 {
        let overlap = |range: &Range<u64>| {
            range.end.min(part.end).saturating_sub(range.start.max(part.start))
        };
        self.ranges.iter().map(overlap).sum()
    }

    /// The first part of `within` that is not held.
    pub(super) fn hole(&self, within: Range<u64>) -> Option<Range<u64>> {
        let mut start = within.start;
        for range in &self.ranges {
            if start < range.start {
                break;
            }
            start = start.max(range.end);
        }
        let next = self.ranges.iter().find(|range| range.start > start);
        let end = next.map_or(within.end, |range| range.start.min(within.end));
        (start < end).then_some(start..end)
    }

    /// Everything not held below this is lost: `IsLost` of RFC 6675 §4, with DupThresh 3.
    pub(super) fn lost_below(&self, mss: u64) -> Option<u64> {
        let mut above = 0;
        for (count, range) in (1..).zip(self.ranges.iter().rev()) {
            above += range.end - range.start;
            if above > 2 * mss || count >= 3 {
                return Some(range.start);
            }
        }
        None
    }
}

/// Most ranges one connection remembers.
const RANGES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_only_news_is_news() {
        let mut board = Scoreboard::default();
        assert!(board.add(10..20) && board.add(30..40));
        assert!(!board.add(12..18));
        assert!(board.add(20..30), "adjacent ranges become one");
        assert_eq!(board.ranges, [10..40]);
        assert!(board.add(5..50));
        assert_eq!(board.ranges, [5..50]);
    }

    #[test]
    fn holes_are_found_between_ranges() {
        let mut board = Scoreboard::default();
        board.add(10..20);
        board.add(30..40);
        assert_eq!(board.hole(0..40), Some(0..10));
        assert_eq!(board.hole(10..40), Some(20..30));
        assert_eq!(board.hole(15..25), Some(20..25));
        assert_eq!(board.hole(30..40), None);
        assert_eq!(board.held(15..35), 10);
        board.advance(15);
        assert_eq!(board.ranges, [15..20, 30..40]);
        assert!(board.reneged(15) && !board.reneged(14));
    }

    #[test]
    fn loss_needs_three_ranges_or_more_than_two_segments_above() {
        let mut board = Scoreboard::default();
        board.add(1000..2000);
        board.add(3000..4000);
        assert_eq!(board.lost_below(1000), None);
        board.add(4000..4001);
        assert_eq!(board.lost_below(1000), Some(1000));
        board.add(5000..5001);
        assert_eq!(board.lost_below(1000), Some(1000), "three ranges");
    }

    #[test]
    fn the_number_of_ranges_is_bounded() {
        let mut board = Scoreboard::default();
        for i in 0..1000 {
            board.add(2 * i..2 * i + 1);
        }
        assert_eq!(board.ranges.len(), RANGES_MAX);
        assert!(board.add(1..2), "what closes a gap still fits");
    }
}
