//! What was broken.

use core::fmt;

/// The design's invariants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// No lost input.
    I1,
    /// One output stream.
    I2,
    /// One speaker.
    I3,
    /// Nothing to notice.
    I4,
    /// State first, address second.
    I5,
    /// Wrong bytes never.
    I6,
    /// Honest.
    I7,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I1 => "I1 no lost input",
            Self::I2 => "I2 one output stream",
            Self::I3 => "I3 one speaker",
            Self::I4 => "I4 nothing to notice",
            Self::I5 => "I5 state first, address second",
            Self::I6 => "I6 wrong bytes never",
            Self::I7 => "I7 honest",
        })
    }
}

/// One break of an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in nanoseconds of the world's clock.
    pub at: u64,
    /// Which.
    pub invariant: Invariant,
    /// What was seen, for a person.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, invariant, text } = self;
        write!(f, "{}.{:06} ms {invariant}: {text}", at / 1_000_000, at % 1_000_000)
    }
}

/// One broken rule floods a run; what comes after the first is rarely news.
const KEPT: usize = 64;

/// The violations of a run, the first ones.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    now: u64,
    kept: Vec<Violation>,
}

impl Complaints {
    /// What is said from here on happened at `now`.
    pub(super) fn at(&mut self, now: u64) {
        self.now = now;
    }

    pub(super) fn say(&mut self, invariant: Invariant, text: String) {
        if self.kept.len() < KEPT {
            self.kept.push(Violation { at: self.now, invariant, text });
        }
    }

    pub(super) fn kept(&self) -> &[Violation] {
        &self.kept
    }
}
