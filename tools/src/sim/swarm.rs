//! Many seeds on many threads. Each world is a thread's own; nothing is shared but the counting.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::plan::Plan;
use super::run::{Tell, run};
use super::shrink::Watcher;
use super::tally::Tally;
use super::world::Violation;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// The first seed.
    pub start: u64,
    /// How many.
    pub seeds: u64,
    /// On how many threads; at least one.
    pub jobs: usize,
    /// Failing seeds after which no more are begun.
    pub failures_max: usize,
}

/// A seed that failed, and how.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What must not have happened.
    pub violation: Violation,
}

/// What a swarm did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Simulated nanoseconds, all together.
    pub simulated: u128,
    /// What happened how often.
    pub tally: Tally,
    /// Seeds that failed, in order.
    pub failures: Vec<Failure>,
}

/// Runs seeds until all are done, or `enough` says so, or too many have failed. `done` is called
/// after each with how it failed, if it did, `draw` before each, on its thread.
pub fn swarm(
    orders: Orders,
    watcher: Watcher,
    enough: &(dyn Fn() -> bool + Sync),
    draw: &(dyn Fn(u64) -> Plan + Sync),
    done: &(dyn Fn(Option<&Failure>) + Sync),
) -> Summary {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    thread::scope(|scope| {
        for _ in 0..orders.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) && !enough() {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= orders.seeds {
                        return;
                    }
                    let seed = orders.start.wrapping_add(index);
                    let plan = draw(seed);
                    let outcome = run(&plan, watcher(&plan), Tell::Nothing);
                    // Nobody panics while holding it.
                    let Ok(mut summary) = summary.lock() else { return };
                    summary.seeds += 1;
                    summary.simulated += u128::from(outcome.simulated);
                    summary.tally.join(&outcome.tally);
                    let failure = outcome.violation.map(|violation| Failure { seed, violation });
                    summary.failures.extend(failure.clone());
                    if summary.failures.len() >= orders.failures_max {
                        stop.store(true, Ordering::Relaxed);
                    }
                    drop(summary);
                    done(failure.as_ref());
                }
            });
        }
    });
    let mut summary = summary.into_inner().unwrap_or_default();
    summary.failures.sort_by_key(|failure| failure.seed);
    summary
}
