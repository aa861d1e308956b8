//! Counters of what a run, or many, did: so that one sees that something was done.

use std::collections::BTreeMap;

/// What happened how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<&'static str, u64>,
    most: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// `what` happened `count` times more.
    pub fn add(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// There was so much of `what` at one time.
    pub fn most(&mut self, what: &'static str, amount: u64) {
        let most = self.most.entry(what).or_default();
        *most = amount.max(*most);
    }

    /// How often `what` happened.
    #[must_use]
    pub fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Takes over what `other` counted.
    pub fn join(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            self.add(what, *count);
        }
        for (what, amount) in &other.most {
            self.most(what, *amount);
        }
    }

    /// The most that there was at one time, by name.
    pub fn peaks(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.most.iter().map(|(what, amount)| (*what, *amount))
    }

    /// Everything that was counted, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, count)| (*what, *count))
    }
}
