//! Worlds in which two backends get the same input: one of them dies, is cut off, stands still or says
//! something else, and no client has an excuse.
//!
//! It is one alone, in each world, that something befalls. Where it may die nobody is given up while
//! there is weather for anything but the end of a connection: else a session could be left with that one alone.

use super::backend::MirrorPlan;
use super::draw::{CALM_US, client, one, rarely, relays};
use super::plan::{ClientPlan, Fault, Job, Plan, Trouble, Way};
use fastrand::Rng;
use standin::service::{JoinPatience, Kind, MirrorRules, OnDifference};
use standin::time::Duration;

/// Longer than anything befalls anybody, and shorter than a world waits for its clients after that: a
/// backend that has come back knowing nothing is found out by its silence alone.
const LONG_US: u64 = 20_000_000;

/// What answers at the relays' ports.
pub(super) fn kind(mirror: MirrorPlan) -> Kind {
    let rules = MirrorRules {
        lag_time: Duration::from_micros(mirror.lag_us),
        lag_bytes: 0,
        on_difference: OnDifference::Elder,
    };
    Kind::Mirror(
        rules,
        JoinPatience { connect: Duration::from_micros(LONG_US), idle: Duration::MAX },
    )
}

impl Plan {
    /// Of the worlds without backends a fourth gets two that get the same input, and clients for them.
    /// Drawn apart, so that the other worlds are what they were.
    pub(super) fn mirror_some(&mut self, rng: &mut Rng, lasts: u64) {
        if self.relays.is_some() || !rarely(rng, 4) {
            return;
        }
        let mut relays = relays(rng);
        relays.join = true;
        for backend in &mut relays.backends {
            backend.weight = 1;
        }
        let (victim, differs) = (rng.usize(..2), rarely(rng, 3));
        let dies = differs || rng.bool();
        let mut mirror = MirrorPlan { lag_us: LONG_US, differs_at: None, orderly: rng.bool() };
        if dies {
            // Nobody is held for down.
            relays.check_us = 0;
        } else if rng.bool() {
            mirror.lag_us = 1_000_000;
        }
        // The first of equals is right, so nothing befalls that one then.
        let victim = if differs { 1 } else { victim };
        mirror.differs_at = differs.then(|| rng.u64(..20_000));
        relays.mirror = Some(mirror);
        self.relays = Some(relays);
        // One who is let in and finds no room for two more connections would have an excuse.
        self.pair.connections_max = self.pair.connections_max.max(1000);
        self.pair.memory_max = self.pair.memory_max.max(64 << 20);
        let (machines, first) = (self.machines.len(), self.clients.len() as u16);
        for id in first..first + rng.u16(2..6) {
            let client = client(rng, id, machines, lasts);
            let job = match client.job {
                Job::Fetch { .. } => Job::Echo { bytes: rng.u64(1..60_000), early: rng.bool() },
                job => job,
            };
            self.clients.push(ClientPlan { job, relay: true, ..client });
        }
        for _ in 0..rng.usize(1..4) {
            let at_us = rng.u64(CALM_US - 200_000..lasts);
            self.faults.push(Fault { at_us, what: trouble(rng, victim, dies) });
        }
        self.faults.sort_by_key(|fault| fault.at_us);
    }
}

/// What befalls one of two.
fn trouble(rng: &mut Rng, backend: usize, dies: bool) -> Trouble {
    let restart_us = one(rng, &[1000, 100_000, 400_000, 1_000_000]);
    let for_us = rng.u64(1000..1_500_000);
    match rng.u32(..4) {
        0 | 1 if dies => Trouble::BackendDies { backend, restart_us },
        2 if dies => Trouble::BackendPoweroff { backend, restart_us },
        0 | 3 => {
            let way = one(rng, &[Way::Out, Way::In, Way::Both]);
            Trouble::CutBackend { backend, way, for_us }
        }
        _ => Trouble::SlowBackend { backend, for_us },
    }
}
