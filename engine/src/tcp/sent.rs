//! What is out: when each byte was last sent, and what became of it.
//!
//! RACK (RFC 8985) tells losses by time, so for everything between SND.UNA and SND.NXT there is a
//! time. It is kept in *runs*, not in segments: a super-segment is one run, and what is sent close
//! in time joins it. So a run has two times, of its first and its last sending: whether it was sent
//! before something is asked of the last, and whether something was sent before it of the first.
//! Selective acknowledgments and losses split runs.
//!
//! ```text
//!     una                                                         nxt
//!      | flying 3.1-3.3 ms | held | lost 3.1-3.3 ms | held | flying 4 ms |
//! ```
//!
//! Runs are stream offsets, in order, without gaps. Their number is bounded by [`RUNS_MAX`], and by
//! what segments could need: what would need more is remembered less exactly, or, if the peer says
//! it holds it, sent again. So a peer that acknowledges every second byte costs neither memory nor
//! time.

use crate::time::{Duration, Instant};
use core::ops::Range;
use smallvec::SmallVec;

/// What became of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// In the network, as far as anybody knows.
    Flying,
    /// The peer says it holds it (SACK).
    Held,
    /// Taken for lost, and to be sent again.
    Lost,
}

/// A part of the stream that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) part: Range<u64>,
    /// When it was last sent; where it was at several times, the first of them.
    pub(super) at: Instant,
    /// From then to the last of them, in nanoseconds.
    spread: u32,
    pub(super) fate: Fate,
    /// It was sent more than once (by this host or the one before it), so an acknowledgment does
    /// not tell which it answers: Karn's algorithm.
    pub(super) resent: bool,
}

impl Run {
    const fn len(&self) -> u64 {
        self.part.end - self.part.start
    }

    /// The last time that anything of it was sent.
    pub(super) fn until(&self) -> Instant {
        self.at + Duration::from_nanos(self.spread.into())
    }

    /// What there is to compare other runs with.
    pub(super) const fn mark(&self) -> Mark {
        Mark { at: self.at, spread: self.spread, end: self.part.end }
    }

    /// Whether all of it was sent before any of `other`, RFC 8985 §6.1. What was one run, or went
    /// out at one time, did so in the stream's order.
    pub(super) fn before(&self, other: Mark) -> bool {
        let Mark { at, spread, end } = other;
        self.until() < at || ((self.at, self.spread) == (at, spread) && self.part.end < end)
    }

    /// Its times are from `first` to `last`; if that is too long to say, less from the start.
    fn timed(self, first: Instant, last: Instant) -> Self {
        let spread = u32::try_from(last.since(first).as_nanos()).unwrap_or(u32::MAX);
        Self { at: last - Duration::from_nanos(spread.into()), spread, ..self }
    }
}

/// When a run was sent, and where it ends. A later one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Mark {
    at: Instant,
    spread: u32,
    end: u64,
}

impl Mark {
    /// Nothing was sent before it.
    pub(super) const NONE: Self = Self { at: Instant::ZERO, spread: 0, end: 0 };
}

/// What a loss detector says of a run in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// It is lost.
    Lost,
    /// It may still arrive.
    Flying,
    /// It may still arrive, and so may everything after it.
    Rest,
}

/// Everything that is out.
#[derive(Debug, Default)]
pub(super) struct Sent {
    runs: SmallVec<[Run; 3]>,
    flying: u64,
    held: u64,
}

impl Sent {
    /// Bytes in the network.
    pub(super) const fn flying(&self) -> u64 {
        self.flying
    }

    /// Bytes the peer says it holds.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    /// `part`, which follows everything before it, was sent for the first time, unless `resent`
    /// says that it is not sure. What was sent less than `close` ago takes it in.
    pub(super) fn push(&mut self, part: Range<u64>, now: Instant, close: Duration, resent: bool) {
        let follows = self.runs.last().is_none_or(|last| last.part.end == part.start);
        assert!(follows, "RFC 8985: runs of what was sent have no gaps");
        self.flying += part.end - part.start;
        let full = self.crowded();
        if let Some(last) = self.runs.last_mut().filter(|last| last.fate == Fate::Flying)
            && last.resent == resent
            && (full || now.since(last.at) <= close)
        {
            let whole = last.part.start..part.end;
            *last = Run { part: whole, ..last.clone() }.timed(last.at, now);
            return;
        }
        self.runs.push(Run { part, at: now, spread: 0, fate: Fate::Flying, resent });
    }

    /// `part` was sent again. What of it is held stays so.
    pub(super) fn resend(&mut self, part: Range<u64>, now: Instant, close: Duration) {
        let Some((first, last)) = self.cut(part) else { return };
        let mut flown = 0;
        for run in self.runs[first..last].iter_mut().filter(|run| run.fate != Fate::Held) {
            flown += if run.fate == Fate::Lost { run.len() } else { 0 };
            run.fate = Fate::Flying;
            (run.at, run.spread) = (now, 0);
            run.resent = true;
        }
        self.flying += flown;
        self.join(first, last, close);
    }

    /// The first part that is lost.
    pub(super) fn first_lost(&self) -> Option<Range<u64>> {
        if !self.any_lost() {
            return None;
        }
        let first = self.runs.iter().position(|run| run.fate == Fate::Lost)?;
        let lost = self.runs[first..].iter().take_while(|run| run.fate == Fate::Lost);
        Some(self.runs[first].part.start..lost.last()?.part.end)
    }

    /// Whether anything waits to be sent again.
    pub(super) fn any_lost(&self) -> bool {
        self.len() > self.flying + self.held
    }

    /// Bytes from SND.UNA to SND.NXT.
    fn len(&self) -> u64 {
        match (self.runs.first(), self.runs.last()) {
            (Some(first), Some(last)) => last.part.end - first.part.start,
            _ => 0,
        }
    }

    /// Whether there is no room for two runs more.
    fn crowded(&self) -> bool {
        let runs = self.runs.len() as u64 + 2;
        runs > RUNS_MAX.min(RUNS_LEAST + self.len() / BYTES_PER_RUN)
    }

    /// Everything below `una` has arrived. What was not known to be held is told.
    pub(super) fn acknowledge(&mut self, una: u64, told: &mut dyn FnMut(&Run)) {
        let gone = self.runs.partition_point(|run| run.part.end <= una);
        let mut left = (self.flying, self.held);
        for run in self.runs.drain(..gone) {
            take_off(&run, &mut left, told);
        }
        if let Some(first) = self.runs.first_mut().filter(|run| run.part.start < una) {
            take_off(&Run { part: first.part.start..una, ..first.clone() }, &mut left, told);
            first.part.start = una;
        }
        (self.flying, self.held) = left;
    }

    /// The peer holds `part`. What was not known is told; whether any was.
    pub(super) fn hold(&mut self, part: Range<u64>, told: &mut dyn FnMut(&Run)) -> bool {
        let around = self.range_of(&part);
        let known = self.runs[around].iter().all(|run| run.fate == Fate::Held);
        if known || self.crowded() {
            return false;
        }
        let Some((first, last)) = self.cut(part) else { return false };
        for run in self.runs[first..last].iter_mut().filter(|run| run.fate != Fate::Held) {
            told(run);
            self.flying -= if run.fate == Fate::Flying { run.len() } else { 0 };
            self.held += run.len();
            run.fate = Fate::Held;
        }
        self.join(first, last, Duration::ZERO);
        true
    }

    /// Asks about every run in flight, in the stream's order. Whether any was lost.
    pub(super) fn lose(&mut self, mut look: impl FnMut(&Run) -> Look) -> bool {
        let before = self.flying;
        for run in self.runs.iter_mut().filter(|run| run.fate == Fate::Flying) {
            match look(run) {
                Look::Lost => {
                    run.fate = Fate::Lost;
                    self.flying -= run.len();
                }
                Look::Flying => (),
                Look::Rest => break,
            }
        }
        self.flying < before
    }

    /// `part` is lost, if it is in flight.
    pub(super) fn lose_part(&mut self, part: Range<u64>) {
        let Some((first, last)) = self.cut(part) else { return };
        for run in self.runs[first..last].iter_mut().filter(|run| run.fate == Fate::Flying) {
            run.fate = Fate::Lost;
            self.flying -= run.len();
        }
    }

    /// What was taken for lost is in flight after all.
    pub(super) fn find(&mut self) {
        for run in self.runs.iter_mut().filter(|run| run.fate == Fate::Lost) {
            run.fate = Fate::Flying;
            self.flying += run.len();
        }
    }

    /// The peer's word on what it holds is not believed any more, RFC 2018 §8.
    pub(super) fn forget_held(&mut self) {
        for run in self.runs.iter_mut().filter(|run| run.fate == Fate::Held) {
            run.fate = Fate::Lost;
        }
        self.held = 0;
    }

    /// Whether the peer said that it holds what it now asks for.
    pub(super) fn reneged(&self) -> bool {
        self.runs.first().is_some_and(|run| run.fate == Fate::Held)
    }

    /// Indices of the runs that `part` touches.
    fn range_of(&self, part: &Range<u64>) -> Range<usize> {
        let first = self.runs.partition_point(|run| run.part.end <= part.start);
        let last = self.runs.partition_point(|run| run.part.start < part.end);
        first..last.max(first)
    }

    /// Splits the runs at both ends of `part`: the indices of what lies within it. Where there is
    /// no room for more runs, of what it touches.
    fn cut(&mut self, part: Range<u64>) -> Option<(usize, usize)> {
        if self.crowded() {
            let all = self.runs.len();
            self.join(0, all, Duration::from_secs(3600));
        }
        if self.crowded() {
            let Range { start, end } = self.range_of(&part);
            return (start < end).then_some((start, end));
        }
        let first = self.cut_at(part.start);
        let last = self.cut_at(part.end);
        (first < last).then_some((first, last))
    }

    /// Splits a run at `offset`: the index of what begins there.
    fn cut_at(&mut self, offset: u64) -> usize {
        let index = self.runs.partition_point(|run| run.part.end <= offset);
        let Some(run) = self.runs.get_mut(index).filter(|run| run.part.start < offset) else {
            return index;
        };
        let mut tail = run.clone();
        tail.part.start = offset;
        run.part.end = offset;
        self.runs.insert(index + 1, tail);
        index + 1
    }

    /// Joins neighbours that need not be told apart, in and around `first..last`.
    fn join(&mut self, first: usize, last: usize, close: Duration) {
        let from = first.saturating_sub(1);
        let to = last.saturating_add(1).min(self.runs.len());
        let mut kept = from;
        for index in from + 1..to {
            let (left, right) = (self.runs[kept].clone(), self.runs[index].clone());
            match joined(&left, &right, close) {
                Some(both) => self.runs[kept] = both,
                None => {
                    kept += 1;
                    self.runs[kept] = right;
                }
            }
        }
        if kept + 1 < to {
            self.runs.drain(kept + 1..to);
        }
    }
}

/// Accounts for a run that has arrived.
fn take_off(run: &Run, (flying, held): &mut (u64, u64), told: &mut dyn FnMut(&Run)) {
    match run.fate {
        Fate::Held => {
            assert!(*held >= run.len(), "RFC 2018: what is held is what the runs say");
            *held -= run.len();
        }
        Fate::Flying => {
            assert!(*flying >= run.len(), "RFC 6675: what is in flight is what the runs say");
            *flying -= run.len();
        }
        Fate::Lost => (),
    }
    if run.fate != Fate::Held {
        told(run);
    }
}

/// Two neighbours as one, if nothing that matters differs. Times matter only in flight, and only
/// beyond `close`, or where they are those of one run that was split.
fn joined(left: &Run, right: &Run, close: Duration) -> Option<Run> {
    let (first, last) = (left.at.min(right.at), left.until().max(right.until()));
    let timed_alike = (left.at, left.spread) == (right.at, right.spread)
        || (left.at <= right.at && last.since(first) <= close);
    let alike = match left.fate {
        Fate::Held => true,
        Fate::Flying | Fate::Lost => timed_alike && left.resent == right.resent,
    };
    let whole = left.part.start..right.part.end;
    (left.fate == right.fate && alike).then(|| {
        Run { part: whole, resent: left.resent || right.resent, ..left.clone() }.timed(first, last)
    })
}

/// Most runs one connection remembers.
const RUNS_MAX: u64 = 2048;
/// So many it remembers however little is out.
const RUNS_LEAST: u64 = 64;
/// One more for so many bytes that are out: segments have more.
const BYTES_PER_RUN: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const T: [Instant; 3] =
        [Instant::from_millis(10), Instant::from_millis(20), Instant::from_millis(30)];

    fn sent(parts: &[(Range<u64>, Instant)]) -> Sent {
        let mut sent = Sent::default();
        for (part, at) in parts {
            sent.push(part.clone(), *at, Duration::ZERO, false);
        }
        sent
    }

    fn shape(sent: &Sent) -> Vec<(Range<u64>, Fate)> {
        let flying = |run: &Run| if run.fate == Fate::Flying { run.len() } else { 0 };
        let held = |run: &Run| if run.fate == Fate::Held { run.len() } else { 0 };
        assert_eq!(sent.flying, sent.runs.iter().map(flying).sum::<u64>());
        assert_eq!(sent.held, sent.runs.iter().map(held).sum::<u64>());
        assert!(sent.runs.windows(2).all(|two| two[0].part.end == two[1].part.start));
        sent.runs.iter().map(|run| (run.part.clone(), run.fate)).collect()
    }

    #[test]
    fn what_is_sent_close_together_is_one_run() {
        let mut sent = Sent::default();
        sent.push(0..10, T[0], Duration::from_millis(10), false);
        sent.push(10..20, T[1], Duration::from_millis(10), false);
        sent.push(20..30, T[2], Duration::from_millis(10), false);
        assert_eq!(shape(&sent), [(0..20, Fate::Flying), (20..30, Fate::Flying)]);
    }

    #[test]
    fn selective_acknowledgments_split_runs_and_are_told_once() {
        let mut sent = sent(&[(0..100, T[0])]);
        let mut told = Vec::new();
        assert!(sent.hold(20..40, &mut |run| told.push(run.part.clone())));
        assert!(sent.hold(30..60, &mut |run| told.push(run.part.clone())));
        assert!(!sent.hold(20..60, &mut |_| panic!("known")));
        assert_eq!(told, [20..40, 40..60]);
        let expected = [(0..20, Fate::Flying), (20..60, Fate::Held), (60..100, Fate::Flying)];
        assert_eq!(shape(&sent), expected);
        sent.acknowledge(70, &mut |run| told.push(run.part.clone()));
        assert_eq!(told, [20..40, 40..60, 0..20, 60..70]);
        assert_eq!(shape(&sent), [(70..100, Fate::Flying)]);
    }

    #[test]
    fn lost_parts_are_found_in_order_and_sent_again() {
        let mut sent = sent(&[(0..10, T[0]), (10..20, T[1]), (20..30, T[2])]);
        sent.hold(5..10, &mut |_| ());
        assert!(sent.lose(|run| if run.before(Mark { at: T[1], spread: 0, end: 20 }) {
            Look::Lost
        } else {
            Look::Rest
        }));
        assert_eq!(sent.first_lost(), Some(0..5));
        sent.resend(0..3, T[2], Duration::ZERO);
        assert_eq!(sent.first_lost(), Some(3..5));
        sent.resend(3..5, T[2], Duration::ZERO);
        assert_eq!(sent.first_lost(), None);
        let fates = [Fate::Flying, Fate::Held, Fate::Flying, Fate::Flying];
        assert_eq!(shape(&sent).iter().map(|(_, fate)| *fate).collect::<Vec<_>>(), fates);
        assert!(sent.runs[0].resent && !sent.runs[2].resent);
    }

    #[test]
    fn a_peer_that_is_not_believed_holds_nothing() {
        let mut sent = sent(&[(0..30, T[0])]);
        sent.hold(0..10, &mut |_| ());
        assert!(sent.reneged());
        sent.forget_held();
        assert_eq!(sent.first_lost(), Some(0..10));
        assert!(!sent.reneged());
    }

    #[test]
    fn the_number_of_runs_is_bounded() {
        let mut sent = sent(&[(0..100_000, T[0])]);
        for i in 0..2000 {
            sent.hold(20 * i..20 * i + 10, &mut |_| ());
        }
        for i in 0..2000 {
            sent.push(
                100_000 + i..100_001 + i,
                T[0] + Duration::from_millis(i),
                Duration::ZERO,
                false,
            );
        }
        sent.lose(|_| Look::Lost);
        for i in 0..2000 {
            sent.resend(20 * i + 12..20 * i + 14, T[1], Duration::ZERO);
        }
        assert!(sent.runs.len() as u64 <= RUNS_MAX, "{}", sent.runs.len());
        shape(&sent);
    }

    /// A peer that acknowledges every second byte is remembered as far as segments would be.
    #[test]
    fn few_bytes_need_few_runs() {
        let mut sent = sent(&[(0..4096, T[0])]);
        for i in 0..2048 {
            sent.hold(2 * i..2 * i + 1, &mut |_| ());
            sent.resend(2 * i + 1..2 * i + 2, T[1], Duration::ZERO);
        }
        assert!(sent.runs.len() <= 64 + 4096 / 256, "{}", sent.runs.len());
        shape(&sent);
    }
}
