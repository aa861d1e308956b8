//! Questions to the ends of connections that a takeover in doubt dropped.
//!
//! Such a connection cannot be continued (I6), and its end has to hear of it: who only listens
//! would wait for ever. A reset might not be believed (RFC 5961 §3.2), so the end is *asked*: a
//! segment that no window takes is answered with what its receiver expects, and that answer, of
//! which nobody here knows anything, is reset.
//!
//! ```text
//!   question ──► answer ──► reset        any of them may be lost, so it is asked again,
//!   question ──► reset: nobody is there  at growing intervals, until nobody is there
//! ```
//!
//! There are never more questions than connections were dropped, and of those no more than fit; each
//! is asked [`ROUNDS`] times at most.

use crate::slots::{Places, Queue, Slots};
use crate::tcp::{Transmit, inquiry};
use crate::time::{Duration, Instant};
use crate::wire::{FourTuple, SeqNum, Timestamps};

/// How often one end is asked: over half a minute.
const ROUNDS: u8 = 6;
/// From the first question to the second; doubled each time. Linux answers one such segment in half
/// a second.
const PATIENCE: Duration = Duration::from_secs(1);
/// Ends beyond this are not asked; they are reset when they next speak.
const LIMIT: usize = 1 << 20;
/// Questions that become due in one turn; and those that are looked at for one that is still to be asked.
const SHARE: usize = 512;

/// What is asked, and whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// Both ends.
    pub(super) tuple: FourTuple,
    /// A number that lies outside the end's window.
    pub(super) seq: SeqNum,
    /// What the segment acknowledges.
    pub(super) ack: SeqNum,
    /// Its window field.
    pub(super) window: u16,
    /// Its timestamps.
    pub(super) timestamps: Option<Timestamps>,
    /// Nothing is known of the end's window: the number changes sides each time, so that of two at
    /// least one lies outside.
    pub(super) blind: bool,
}

#[derive(Debug)]
struct Asked {
    question: Question,
    times: u8,
}

/// Those who are asked.
#[derive(Debug)]
pub(super) struct Questions {
    /// Each is in one of the queues, once; those of which nobody is asked any more, too.
    slots: Slots<Option<Asked>>,
    by_tuple: Places,
    key: [u8; 16],
    /// To ask now.
    due: Queue<u32>,
    /// To ask again, and when: a queue for each number of times that was asked.
    later: [Queue<(Instant, u32)>; ROUNDS as usize - 1],
}

impl Questions {
    /// Nobody is asked. `key` is a secret of this run.
    pub(super) fn new(key: [u8; 16]) -> Self {
        let (slots, by_tuple, due) = (Slots::default(), Places::default(), Queue::new());
        Self { slots, by_tuple, key, due, later: Default::default() }
    }

    /// Asks from now on.
    pub(super) fn ask(&mut self, question: Question) {
        if self.find(&question.tuple).is_some() || self.by_tuple.len() >= LIMIT {
            return;
        }
        let slot = self.slots.vacant();
        if self.slots.insert(slot, Some(Asked { question, times: 0 })).is_ok() {
            self.by_tuple.insert(question.tuple.keyed_hash(&self.key), slot as u32);
            self.due.push_back(slot as u32);
        }
    }

    /// The question that the end of `tuple` is asked.
    pub(super) fn find(&self, tuple: &FourTuple) -> Option<&Question> {
        if self.by_tuple.is_empty() {
            return None;
        }
        let hash = tuple.keyed_hash(&self.key);
        let is_it = |slot| self.question(slot).is_some_and(|found| found.tuple == *tuple);
        self.question(self.by_tuple.find(hash, is_it)?)
    }

    fn question(&self, slot: u32) -> Option<&Question> {
        Some(&self.slots.get(slot as usize)?.as_ref()?.question)
    }

    /// There is nobody to ask at `tuple`, or somebody new.
    pub(super) fn forget(&mut self, tuple: &FourTuple) {
        let hash = tuple.keyed_hash(&self.key);
        let Self { by_tuple, slots, .. } = self;
        let about = |slot: u32| slots.get(slot as usize).and_then(Option::as_ref);
        let is_it = |slot| about(slot).is_some_and(|asked| asked.question.tuple == *tuple);
        if let Some(slot) = by_tuple.remove(hash, is_it)
            && let Some(asked) = slots.get_mut(slot as usize)
        {
            *asked = None;
        }
    }

    /// Time has passed: what has waited for long enough is to be asked again.
    pub(super) fn on_timer(&mut self, now: Instant) {
        let Self { due, later, .. } = self;
        let mut left = SHARE;
        for queue in later {
            while left > 0 && queue.front().is_some_and(|(at, _)| *at <= now) {
                left -= 1;
                queue.pop_front().into_iter().for_each(|(_, slot)| due.push_back(slot));
            }
        }
    }

    /// When to call [`Self::on_timer`] at the latest.
    pub(super) fn deadline(&self) -> Instant {
        let fronts = self.later.iter().filter_map(|queue| queue.front());
        fronts.fold(Instant::NEVER, |first, (at, _)| first.min(*at))
    }

    /// Whether there may be something to say now.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next question.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(FourTuple, Transmit)> {
        for _ in 0..SHARE {
            let slot = self.due.pop_front()?;
            let Some(Some(asked)) = self.slots.get_mut(slot as usize) else {
                self.slots.remove(slot as usize);
                continue;
            };
            let Question { tuple, seq, ack, window, timestamps, blind } = asked.question;
            asked.times += 1;
            if blind {
                asked.question.seq = seq.add(1 << 31);
            }
            let again = PATIENCE * (1 << (asked.times - 1));
            if let Some(queue) = self.later.get_mut(usize::from(asked.times) - 1) {
                queue.push_back((now + again, slot));
            } else {
                self.forget(&tuple);
                self.slots.remove(slot as usize);
            }
            return Some((tuple, inquiry(seq, ack, window, timestamps)));
        }
        None
    }

    /// How many are asked.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_tuple.len()
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.slots.pop_piece().is_some()
            || self.by_tuple.pop_piece()
            || self.due.pop_piece()
            || self.later.iter_mut().any(Queue::pop_piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(port: u16) -> Question {
        Question {
            tuple: FourTuple {
                local: ([10, 77, 0, 100], 19).into(),
                remote: ([10, 77, 0, 10], port).into(),
            },
            seq: SeqNum(7),
            ack: SeqNum(8),
            window: 9,
            timestamps: None,
            blind: true,
        }
    }

    fn asked(questions: &mut Questions, now: Instant) -> Vec<(u16, SeqNum)> {
        questions.on_timer(now);
        let asked = core::iter::from_fn(|| questions.poll(now));
        asked.map(|(tuple, segment)| (tuple.remote.port(), segment.seq)).collect()
    }

    #[test]
    fn who_does_not_answer_is_asked_again_and_given_up() {
        let mut questions = Questions::new([1; 16]);
        questions.ask(question(1));
        let (mut now, mut times) = (Instant::from_millis(10), Vec::new());
        while questions.is_due() || questions.deadline() != Instant::NEVER {
            if !questions.is_due() {
                now = questions.deadline();
            }
            times.extend(asked(&mut questions, now).into_iter().map(|(_, seq)| (now, seq)));
        }
        let far = SeqNum(7).add(1 << 31);
        let expected = [0, 1, 3, 7, 15, 31].map(|s| Instant::from_millis(10 + 1000 * s));
        let numbers = [SeqNum(7), far, SeqNum(7), far, SeqNum(7), far];
        assert_eq!(times, expected.into_iter().zip(numbers).collect::<Vec<_>>());
        assert_eq!(questions.find(&question(1).tuple), None);
        assert!(questions.slots.is_empty(), "and nothing is left of it");
    }

    #[test]
    fn who_is_gone_is_asked_no_more_and_its_place_is_used_again() {
        let mut questions = Questions::new([1; 16]);
        let mut now = Instant::from_millis(10);
        for round in 0..50 {
            for port in 0..100 {
                questions.ask(question(port));
                questions.ask(question(port));
            }
            assert_eq!(asked(&mut questions, now).len(), 100, "each once");
            for port in 0..100 {
                questions.forget(&question(port).tuple);
            }
            now = now + PATIENCE;
            assert_eq!(asked(&mut questions, now), [], "round {round}");
        }
        assert!(questions.slots.end() <= 100, "{}", questions.slots.end());
    }

    #[test]
    fn a_turn_makes_a_bounded_number_due() {
        let mut questions = Questions::new([1; 16]);
        (0..2000).for_each(|port| questions.ask(question(port)));
        let now = Instant::from_millis(10);
        assert_eq!(asked(&mut questions, now).len(), 2000);
        assert_eq!(asked(&mut questions, now + PATIENCE).len(), SHARE);
    }
}
