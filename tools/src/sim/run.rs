//! A run from its beginning to its end: first anything may fail, then everything has to come right.

use super::plan::Plan;
use super::tally::Tally;
use super::watch::Watch;
use super::world::{SECOND, Told, Violation, World};

/// How long after everything healed, and after the last byte that a service took since, all clients
/// may take to be content, and the pair to be protected. Longer than the longest pause between two
/// tries of anybody: a minute.
const CONVERGENCE: u64 = 150 * SECOND;
/// How long it may take in all: a memory limit that goes on dropping input makes a client wait for
/// its timer again and again.
const CONVERGENCE_MAX: u64 = 3600 * SECOND;
/// How long it has to stay so.
const REST: u64 = SECOND / 2;
/// How long after everything healed `files` may take, beside its patience, to end a request that never
/// ends: a retransmission timer may have grown.
const DAWDLED: u64 = 40 * SECOND;
/// How often the world is asked whether it has come right.
const LOOK: u64 = 20_000_000;
/// Things that can happen in a run before it counts as spinning.
const EVENTS_MAX: u64 = 30_000_000;

/// How much of a run is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tell {
    /// Nothing: the quickest.
    #[default]
    Nothing,
    /// Faults, roles, logs, clients.
    Story,
    /// The same, and every packet that enters or leaves an engine.
    Packets,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first thing that must not have happened.
    pub violation: Option<Violation>,
    /// The run's fingerprint: same plan, same number.
    pub fingerprint: u64,
    /// Simulated nanoseconds.
    pub simulated: u64,
    /// What happened how often.
    pub tally: Tally,
    /// What happened when, if it was to be told.
    pub story: Vec<Told>,
    /// The world at its end, if it was to be told or ended badly.
    pub portrait: String,
}

/// Runs `plan` under the eyes of `watch`.
#[must_use]
pub fn run(plan: &Plan, watch: Box<dyn Watch>, tell: Tell) -> Outcome {
    let mut world = World::new(plan.clone(), watch);
    world.tell(tell);
    if world.run_until(plan.heal_us * 1000) {
        world.heal();
        converge(&mut world);
    }
    (0..2).for_each(|host| world.count_limits(host));
    let bad = world.violation().is_some();
    Outcome {
        violation: world.violation().cloned(),
        fingerprint: world.fingerprint().0,
        simulated: world.now(),
        tally: world.tally().clone(),
        portrait: if tell != Tell::Nothing || bad { world.portrait() } else { String::new() },
        story: world.story().to_vec(),
    }
}

/// The second phase: everything has to come right, and to stay so.
fn converge(world: &mut World) {
    let healed = world.now();
    let (mut taken, mut taken_at) = (world.bytes_taken(), healed);
    let mut right_since = None;
    let patience = DAWDLED + world.plan.pair.request_timeout_us * 1000;
    loop {
        // A client that finds no room comes again a minute later.
        if world.bytes_taken() != taken || world.is_full() {
            (taken, taken_at) = (world.bytes_taken(), world.now());
        }
        let limit = taken_at.max(world.shunned_until) + CONVERGENCE;
        let limit = limit.min(healed.max(world.shunned_until) + CONVERGENCE_MAX);
        if !world.run_until(world.now() + LOOK) {
            return;
        }
        if world.waits_for_a_dawdler() && world.now() > healed + patience {
            return world
                .complain("patience", "a request that never ends is waited for".to_owned());
        }
        let right = world.is_protected() && world.is_content() && world.backends_are_up();
        right_since = if right { right_since.or(Some(world.now())) } else { None };
        if right_since.is_some_and(|since| world.now() - since >= REST) {
            return;
        }
        if world.now() > limit {
            if world.is_protected() && world.backends_are_up() && world.is_full_for_the_rest() {
                return;
            }
            let what = match (world.is_protected(), world.is_content()) {
                (false, _) => "the pair",
                (true, false) => "a client",
                (true, true) => "the watch over the backends",
            };
            let after = (world.now() - healed) / SECOND;
            return world.complain("convergence", format!("{what} is not done after {after} s"));
        }
        if world.fingerprint().1 > EVENTS_MAX {
            return world.complain("convergence", "the world spins".to_owned());
        }
    }
}
