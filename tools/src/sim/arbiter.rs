//! The arbiter: a third machine that keeps one record, and the ways to it.
//!
//! Questions and answers take their time, get lost, and overtake one another; a question that was
//! given up may still be carried out. It is reachable for each node by itself, or for nobody.

use std::collections::VecDeque;

use super::dice::{Place, dice, happens, up_to};
use super::plan::ArbiterPlan;
use super::world::{Event, World};
use crate::oracle::NodeId;
use fastrand::Rng;
use standin::role::{ArbiterPolicy, ArbiterRecord, Ask, Inquiry, LostArbiter, Reply};
use standin::time::Duration;

/// Answers that wait for a process.
pub(super) type Answers = VecDeque<(u64, Reply)>;

/// The third machine.
#[derive(Debug)]
pub(super) struct Arbiter {
    record: Option<ArbiterRecord>,
    revision: u64,
    rng: Rng,
}

impl Arbiter {
    pub(super) fn new(seed: u64) -> Self {
        Self { record: None, revision: 0, rng: dice(seed, Place::Arbiter) }
    }

    /// Compares and swaps, as etcd does in one transaction.
    fn answer(&mut self, what: Inquiry) -> Reply {
        let mut written = false;
        if let Inquiry::Swap { expected, revision, record } = what
            && expected == self.record
            && revision.is_none_or(|revision| revision == self.revision)
        {
            (self.record, written) = (Some(record), true);
            self.revision += 1;
        }
        Reply { record: self.record, revision: self.revision, written }
    }
}

impl ArbiterPlan {
    /// How the engines use it.
    pub(super) fn policy(&self) -> ArbiterPolicy {
        ArbiterPolicy {
            lost: if self.stop { LostArbiter::Stop } else { LostArbiter::Table },
            lease: Duration::from_micros(self.lease_us),
            timeout: Duration::from_micros(self.timeout_us),
        }
    }
}

impl World {
    /// Whether nobody may own without the arbiter's word, as no node has been started that knows of no
    /// other, and so of no arbiter: then no two nodes both speak, in
    /// row 15 of the truth table neither.
    pub(super) fn is_strict(&self) -> bool {
        self.plan.pair.arbiter.is_some_and(|plan| plan.stop) && !self.promise.unbound
    }

    /// An engine asks.
    pub(super) fn ask_arbiter(&mut self, host: usize, ask: Ask) {
        let boot = self.hosts[host].boots;
        self.on_the_way(host, |_| Event::Ask { host, boot, ask });
    }

    /// A question is there.
    pub(super) fn arbiter_is_asked(&mut self, host: usize, boot: u64, ask: Ask) {
        let before = self.arbiter.record;
        let reply = self.arbiter.answer(ask.what);
        self.tally.add("questions to the arbiter", 1);
        if let (true, Inquiry::Swap { expected, record, .. }) = (reply.written, ask.what)
            && expected != Some(record)
        {
            self.tally.add("grants", 1);
            self.say(|| format!("arbiter: granted to {record}"));
            self.promise_after_grant(before, record);
        }
        self.on_the_way(host, |_| Event::Answer { host, boot, number: ask.number, reply });
    }

    /// An answer is there: it waits for the process that asked.
    pub(super) fn arbiter_answers(&mut self, host: usize, boot: u64, number: u64, reply: Reply) {
        let state = &mut self.hosts[host];
        if state.boots == boot && state.engine.is_some() && state.receives() {
            state.inbox.answers.push_back((number, reply));
            self.want_turn(host);
        }
    }

    /// Between a host and the arbiter, one way.
    fn on_the_way(&mut self, host: usize, event: impl FnOnce(&Self) -> Event) {
        let Some(plan) = self.plan.pair.arbiter else { return };
        let rng = &mut self.arbiter.rng;
        let delay = plan.delay_us + up_to(rng, plan.jitter_us);
        let lost = happens(rng, if self.healed { 0 } else { plan.loss });
        if lost || self.cuts.no_arbiter(host) {
            let node = NodeId(host as u8);
            self.say(|| format!("{}: a word from or to the arbiter is lost", node.name()));
            return;
        }
        let event = event(self);
        self.post(delay * 1000, event);
    }
}
