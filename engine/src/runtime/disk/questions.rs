//! What the loop waits to be told: the questions that helpers have, those that are to follow, and those
//! that are answered.
//!
//! ```text
//!   ask ──► unsent ──► under way ──► told
//!              └── forget
//! ```
//!
//! A question is asked once, however many wait for its answer. Helpers have a bounded number at a time; the
//! others follow in the order in which they were asked, and are as many as somebody waits for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use super::stamp::Stamp;
use super::watch::Spot;
use crate::service::{ContentId, Question};
use crate::time::{Duration, Instant};

/// Questions of one kind that the helpers have at a time.
pub(super) const JOBS_MAX: usize = 256;
/// Those that may come back with a block each.
pub(super) const FAR_MAX: usize = 32;
/// How long until a copy that is another is looked at again if nobody tells of it: it may be reached by a
/// symbolic link, or nothing may be hashed ahead.
const DIFFERS: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum About {
    /// What is at a path.
    Place(Spot),
    /// A piece of a content, by its number.
    Piece(ContentId, u64),
    /// The hash of a version.
    Hash(Stamp),
    /// Whether the copy at a path has become another.
    Copy(Spot),
}

/// The thread that a question goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Helper {
    /// The one that opens and reads.
    Disk,
    /// The same where that may take as long as somebody else likes.
    Far,
    /// The one that hashes.
    Hash,
}

/// What one helper has, and what is to follow.
#[derive(Debug, Default)]
struct Line {
    /// Each with the content that it is about and where in it.
    unsent: BTreeMap<Question, (ContentId, u64)>,
    under_way: usize,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Questions {
    serial: u64,
    last: u64,
    numbers: FxHashMap<About, Question>,
    open: BTreeMap<Question, About>,
    disk: Line,
    far: Line,
    hash: Line,
    /// Copies that differ, each with when to look at it again.
    differing: BTreeSet<(Instant, Question)>,
    told: VecDeque<Question>,
}

impl Questions {
    /// The question that the loop's last answer leaves open.
    pub(super) const fn last(&self) -> Question {
        Question(self.last)
    }

    /// Asks, unless that is asked already; returns whether it was not. `content` is where the helper has
    /// it from, if it is about one.
    pub(super) fn ask(&mut self, helper: Helper, about: About, content: (ContentId, u64)) -> bool {
        let question = self.number(about);
        if let Some(question) = question {
            self.line(helper).unsent.insert(question, content);
        }
        question.is_some()
    }

    /// Somebody wants to know when this copy has become another.
    pub(super) fn watch(&mut self, now: Instant, copy: Spot) {
        if let Some(question) = self.number(About::Copy(copy)) {
            self.differing.insert((now + DIFFERS, question));
        }
    }

    /// The question that is to go to this helper next, if it has not enough of them.
    pub(super) fn next(&mut self, helper: Helper) -> Option<(About, ContentId, u64)> {
        let room = if helper == Helper::Far { FAR_MAX } else { JOBS_MAX };
        let line = self.line(helper);
        if line.under_way >= room {
            return None;
        }
        let (question, (content, offset)) = line.unsent.pop_first()?;
        line.under_way += 1;
        Some((self.open.get(&question)?.clone(), content, offset))
    }

    /// How many a helper has.
    pub(super) const fn under_way(&mut self, helper: Helper) -> usize {
        self.line(helper).under_way
    }

    /// The helper has it no longer.
    pub(super) fn on_returned(&mut self, helper: Helper, about: &About) {
        self.line(helper).under_way -= 1;
        self.answer(about);
    }

    /// The connections that wait for this are to ask anew.
    pub(super) fn answer(&mut self, about: &About) {
        if let Some(question) = self.numbers.remove(about) {
            self.open.remove(&question);
            self.told.push_back(question);
        }
    }

    /// The next question that has an answer.
    pub(super) fn pop_told(&mut self, now: Instant) -> Option<Question> {
        while let Some((due, question)) = self.differing.first().copied()
            && due <= now
        {
            self.differing.pop_first();
            if let Some(about) = self.open.get(&question).cloned() {
                self.answer(&about);
            }
        }
        self.told.pop_front()
    }

    /// Nobody waits for it. What a helper has already is answered all the same.
    pub(super) fn forget(&mut self, question: Question) {
        let Self { disk, far, hash, .. } = self;
        let mut lines = [disk, far, hash].into_iter();
        let unsent = lines.any(|line| line.unsent.remove(&question).is_some());
        if (unsent || matches!(self.open.get(&question), Some(About::Copy(_))))
            && let Some(about) = self.open.remove(&question)
        {
            self.numbers.remove(&about);
        }
    }

    /// Whether nobody has, or is to have, this question.
    #[cfg(test)]
    pub(super) fn is_asked(&self, about: &About) -> bool {
        self.numbers.contains_key(about)
    }

    /// How many are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Its number, if it is a new one.
    fn number(&mut self, about: About) -> Option<Question> {
        if let Some(known) = self.numbers.get(&about) {
            self.last = known.0;
            return None;
        }
        self.serial += 1;
        self.last = self.serial;
        let question = Question(self.serial);
        self.open.insert(question, about.clone());
        self.numbers.insert(about, question);
        Some(question)
    }

    const fn line(&mut self, helper: Helper) -> &mut Line {
        match helper {
            Helper::Disk => &mut self.disk,
            Helper::Far => &mut self.far,
            Helper::Hash => &mut self.hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::ZERO;
    const NOWHERE: (ContentId, u64) = (ContentId(0), 0);

    fn place(n: usize) -> About {
        About::Place((0, format!("{n}").into()))
    }

    /// Many more questions than the helper is given at a time.
    fn many() -> (Questions, Vec<Question>) {
        let mut questions = Questions::default();
        let ask = |n| {
            assert!(questions.ask(Helper::Disk, place(n), NOWHERE));
            questions.last()
        };
        let numbers = (0..5000).map(ask).collect();
        (questions, numbers)
    }

    #[test]
    fn all_are_asked_in_their_order_and_each_once() {
        let (mut questions, numbers) = many();
        assert!(!questions.ask(Helper::Disk, place(7), NOWHERE), "it is asked already");
        assert_eq!(questions.last(), numbers[7]);
        let mut under_way = VecDeque::new();
        for (n, number) in numbers.iter().enumerate() {
            let next = core::iter::from_fn(|| questions.next(Helper::Disk));
            under_way.extend(next.map(|(about, ..)| about));
            assert!(under_way.len() <= JOBS_MAX);
            let about = under_way.pop_front().expect("somebody is always next");
            assert_eq!(about, place(n));
            questions.on_returned(Helper::Disk, &about);
            assert_eq!(questions.pop_told(NOW), Some(*number));
            assert_eq!(questions.pop_told(NOW), None);
        }
        assert_eq!(questions.len(), 0);
    }

    #[test]
    fn who_waits_no_longer_takes_no_place() {
        let (mut questions, numbers) = many();
        let mut under_way: Vec<About> = (0..JOBS_MAX)
            .filter_map(|_| questions.next(Helper::Disk).map(|(about, ..)| about))
            .collect();
        numbers[..4999].iter().for_each(|number| questions.forget(*number));
        assert_eq!(questions.len(), JOBS_MAX + 1, "what the helper has comes back");
        for about in under_way.drain(..) {
            questions.on_returned(Helper::Disk, &about);
        }
        assert_eq!(questions.next(Helper::Disk).map(|(about, ..)| about), Some(place(4999)));
        assert!(questions.ask(Helper::Disk, place(3), NOWHERE), "and may be asked anew");
        assert!(questions.last() > numbers[4999]);
    }
}
