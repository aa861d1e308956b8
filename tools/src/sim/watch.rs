//! Who watches a world.

use crate::oracle::Sight;

/// Something that is shown everything a wire-tap would show, and judges it.
pub trait Watch {
    /// This was seen at `now`, in nanoseconds of the world's true clock.
    fn see(&mut self, now: u64, sight: Sight<'_>);

    /// The first thing that must not have happened: which invariant, and what.
    fn complaint(&self) -> Option<(String, String)>;
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Watch for Nobody {
    fn see(&mut self, _now: u64, _sight: Sight<'_>) {}

    fn complaint(&self) -> Option<(String, String)> {
        None
    }
}
