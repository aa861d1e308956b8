//! Watchers of a world.

use crate::oracle::{Invariant, Oracle, Sight};

/// Something that is shown everything a wire-tap would show, and judges it.
pub trait Watch {
    /// This was seen at `now`, in nanoseconds of the world's true clock.
    fn see(&mut self, now: u64, sight: Sight<'_>);

    /// The next thing that must not have happened: which invariant, and what.
    fn complaint(&mut self) -> Option<(Invariant, String)>;
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Watch for Nobody {
    fn see(&mut self, _now: u64, _sight: Sight<'_>) {}

    fn complaint(&mut self) -> Option<(Invariant, String)> {
        None
    }
}

/// The oracle, and how many of its complaints have been heard.
#[derive(Debug)]
pub struct Judge {
    oracle: Oracle,
    heard: usize,
}

impl Judge {
    /// A judge of the world that `plan` describes.
    #[must_use]
    pub fn of(plan: &super::plan::Plan) -> Box<dyn Watch> {
        let oracle = Oracle::new(super::world::World::facts(plan));
        Box::new(Self { oracle, heard: 0 })
    }
}

impl Watch for Judge {
    fn see(&mut self, now: u64, sight: Sight<'_>) {
        self.oracle.see(now, sight);
    }

    fn complaint(&mut self) -> Option<(Invariant, String)> {
        let complaint = self.oracle.violations().get(self.heard)?;
        self.heard += 1;
        Some((complaint.invariant, complaint.text.clone()))
    }
}
