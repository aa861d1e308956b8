//! Makes a failing plan small: fewer faults, fewer clients, fairer weather, while it fails alike.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::plan::{LinkPlan, Plan, Trouble, Weather};
use super::run::{Tell, run};
use super::watch::Watch;
use super::world::Violation;

/// The watcher of each run.
pub type Watcher = fn(&Plan) -> Box<dyn Watch>;

/// Runs that the search may take.
const RUNS: usize = 400;

/// What a plan ends with, if it ends badly. A panic is a violation of its own.
#[must_use]
pub fn verdict(plan: &Plan, watcher: Watcher) -> Option<Violation> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(plan, watcher(plan), Tell::Nothing)));
    match outcome {
        Ok(outcome) => outcome.violation,
        Err(payload) => Some(Violation { at: 0, rule: "panic".to_owned(), text: said(&*payload) }),
    }
}

/// What a panic said.
fn said(payload: &(dyn core::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without a word".to_owned())
}

/// The smallest plan found that breaks the same rule as `plan` does. `tick` is called for each run.
#[must_use]
pub fn shrink(plan: &Plan, rule: &str, watcher: Watcher, tick: &mut dyn FnMut()) -> Plan {
    let mut search = Search { best: plan.clone(), rule, watcher, tick, left: RUNS };
    loop {
        let before = search.best.clone();
        search.drop_parts();
        search.simplify();
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<'a> {
    best: Plan,
    rule: &'a str,
    watcher: Watcher,
    tick: &'a mut dyn FnMut(),
    left: usize,
}

impl Search<'_> {
    /// Takes `plan` if it still fails alike.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if self.left == 0 || plan == self.best {
            return false;
        }
        self.left -= 1;
        (self.tick)();
        let fails = verdict(&plan, self.watcher).is_some_and(|found| found.rule == self.rule);
        if fails {
            self.best = plan;
        }
        fails
    }

    /// Leaves out faults and clients, many at once first.
    fn drop_parts(&mut self) {
        self.drop_some(|plan| plan.faults.len(), |plan, range| drop(plan.faults.drain(range)));
        self.drop_some(|plan| plan.clients.len(), |plan, range| drop(plan.clients.drain(range)));
    }

    fn drop_some(
        &mut self,
        count: fn(&Plan) -> usize,
        remove: fn(&mut Plan, core::ops::Range<usize>),
    ) {
        let mut size = count(&self.best);
        while size > 0 {
            let mut at = 0;
            while at < count(&self.best) {
                let end = (at + size).min(count(&self.best));
                let mut plan = self.best.clone();
                remove(&mut plan, at..end);
                if !self.try_plan(plan) {
                    at = end;
                }
            }
            size /= 2;
        }
    }

    /// Makes what is left plainer.
    fn simplify(&mut self) {
        let plainer: [fn(&mut Plan); 13] = [
            |plan| plan.lan = Weather { delay_us: 100, ..Weather::FAIR },
            |plan| plan.lan = Weather { delay_us: plan.lan.delay_us, ..Weather::FAIR },
            |plan| plan.lan.rate = 0,
            |plan| {
                let LinkPlan { delay_us, .. } = plan.link;
                plan.link = LinkPlan {
                    delay_us,
                    jitter_us: 0,
                    loss: 0,
                    duplicate: 0,
                    chunk: 1 << 20,
                    capacity: 4 << 20,
                    rate: 0,
                };
            },
            |plan| plan.pair.turn_us = 0,
            |plan| plan.pair.clocks.iter_mut().for_each(|clock| clock.ppm = 0),
            |plan| plan.machines.iter_mut().for_each(|machine| machine.ignores = 0),
            |plan| plan.machines.iter_mut().for_each(|machine| machine.path_mtu = 0),
            |plan| plan.clients.iter_mut().for_each(|client| client.reads = 0),
            |plan| {
                plan.clients.iter_mut().for_each(|client| client.relay = false);
                plan.relays = None;
            },
            |plan| {
                for backend in plan.relays.iter_mut().flat_map(|relays| &mut relays.backends) {
                    (backend.reads, backend.machine.ignores, backend.machine.path_mtu) = (0, 0, 0);
                }
            },
            |plan| plan.relays.iter_mut().for_each(|relays| relays.check_us = 0),
            |plan| {
                let last = plan.faults.iter().map(|fault| fault.at_us).max().unwrap_or(0);
                plan.heal_us = plan.heal_us.min(last.max(2_000_000) + 500_000);
            },
        ];
        for change in plainer {
            let mut plan = self.best.clone();
            change(&mut plan);
            self.try_plan(plan);
        }
        for index in 0..self.best.faults.len() {
            let mut plan = self.best.clone();
            match &mut plan.faults[index].what {
                Trouble::Crash { outputs, .. }
                | Trouble::Poweroff { outputs, .. }
                | Trouble::Freeze { outputs, .. } => *outputs = 0,
                _ => continue,
            }
            self.try_plan(plan);
        }
    }
}
