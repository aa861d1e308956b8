//! Stories: a calm world in which something goes wrong, told in a sentence.
//!
//! ```
//! use standin_tools::sim::story::{Target::Primary, duplex, output};
//!
//! duplex().echo(4).kill(Primary).at(output(7)).must_finish();
//! ```
//!
//! Clients come when the pair is in duplex and node `a` primary. What befalls it does so a moment later,
//! or when [`Story::at`] says. Then everything heals, and it has to come to a good end as every world
//! has to: judged by the same oracle, and with no connection lost and none excused. A seed that fails dies
//! with the next change of what seeds mean; what it found goes on as a story.

use super::plan::{ClientPlan, Fault, Job, Plan, RelaysPlan, Request, Stack, Trouble, Way, Wire};
use super::run::{Outcome, Tell, run};
use super::watch::Judge;

pub use super::plan::Target;

/// When the clients come: the pair has been in duplex for a while.
const CLIENTS_US: u64 = 800_000;
/// When what befalls it does, where nothing else is said: they are at it.
const MOMENT_US: u64 = CLIENTS_US + 1_500;
/// How long the world goes on after the last fault is over before everything heals.
const AFTERWARDS_US: u64 = 500_000;
/// The end of a story that is told when it ends badly.
const TOLD: usize = 80;

/// A story that has not happened yet.
#[derive(Clone, Debug)]
#[must_use = "it happens when it must finish"]
pub struct Story {
    plan: Plan,
    heal_us: Option<u64>,
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So many microseconds after the clients came.
    Micros(u64),
    /// Right before the output of this number after they came: an action, a write to the link, a packet.
    Output(u32),
}

/// Right before output `number` of that node.
#[must_use]
pub const fn output(number: u32) -> Moment {
    Moment::Output(number)
}

/// So many microseconds after the clients came.
#[must_use]
pub const fn micros(micros: u64) -> Moment {
    Moment::Micros(micros)
}

/// So many milliseconds after the clients came.
#[must_use]
pub const fn millis(millis: u64) -> Moment {
    Moment::Micros(millis * 1000)
}

/// Two nodes in duplex, of which `a` is primary.
pub fn duplex() -> Story {
    Story { plan: Plan::calm(), heal_us: None }
}

/// Node `a` alone: the other one has not been started yet.
pub fn simplex() -> Story {
    duplex().with(|plan| plan.pair.start_us[1] = 3_500_000_000)
}

impl Story {
    /// A plan of somebody else's, such as that of a seed that failed.
    pub const fn of(plan: Plan) -> Self {
        let heal_us = Some(plan.heal_us);
        Self { plan, heal_us }
    }

    /// The world is another one.
    pub fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }

    // ---- clients ----

    /// A client sends so many kilobytes to echo and expects them back.
    pub fn echo(self, kilobytes: u64) -> Self {
        self.client(Job::Echo { bytes: kilobytes * 1000, early: false })
    }

    /// A client sends so many kilobytes to discard.
    pub fn upload(self, kilobytes: u64) -> Self {
        self.client(Job::Upload { bytes: kilobytes * 1000 })
    }

    /// A client receives so many kilobytes from chargen.
    pub fn download(self, kilobytes: u64) -> Self {
        self.client(Job::Chargen { bytes: kilobytes * 1000 })
    }

    /// A client fetches two files and a part of one.
    pub fn fetch(self) -> Self {
        self.client(Job::Fetch { requests: requests(), pipelined: false, half_close: false })
    }

    /// A client asks for all of that at once, and closes its side.
    pub fn fetch_half_closed(self) -> Self {
        self.client(Job::Fetch { requests: requests(), pipelined: true, half_close: true })
    }

    /// A client asks for an empty file so often, all at once.
    pub fn burst(self, requests: u32) -> Self {
        self.client(Job::Burst { requests })
    }

    /// A client says something to echo so often, with a pause in between.
    pub fn talk(self, messages: u32, pause_ms: u64) -> Self {
        self.client(Job::Talk { messages, bytes: 500, pause_us: pause_ms * 1000 })
    }

    /// A client never ends its request, a byte at a time.
    pub fn dawdle(self, pause_us: u64) -> Self {
        self.client(Job::Dawdle { pause_us })
    }

    /// One of each.
    pub fn busy(self) -> Self {
        self.echo(500).upload(1000).download(1000).fetch()
    }

    /// A client that does `job`.
    pub fn client(mut self, job: Job) -> Self {
        self.plan.clients.push(ClientPlan {
            id: self.plan.clients.len() as u16,
            at_us: CLIENTS_US,
            stack: Stack::Own,
            machine: 0,
            ipv6: false,
            job,
            receive_buffer: 1 << 20,
            reads: 0,
            offload: true,
            modern: true,
            relay: false,
        });
        self
    }

    /// The last client is another one.
    ///
    /// # Panics
    /// If there is none.
    pub fn who(mut self, change: impl FnOnce(&mut ClientPlan)) -> Self {
        change(self.plan.clients.last_mut().expect("a client first"));
        self
    }

    /// The last client uses IPv6.
    pub fn over_ipv6(self) -> Self {
        self.who(|client| client.ipv6 = true)
    }

    /// The last client is served by a backend, through a relay.
    pub fn through_relay(mut self) -> Self {
        self.plan.relays.get_or_insert_with(RelaysPlan::calm);
        self.who(|client| client.relay = true)
    }

    // ---- what befalls them ----

    /// A process dies; its host lives.
    pub fn kill(self, node: Target) -> Self {
        self.trouble(Trouble::Crash { node, outputs: 0, flushed: 1_000_000, restart_us: 0 })
    }

    /// A host is gone at once, with all that it has not put on a wire.
    pub fn poweroff(self, node: Target) -> Self {
        self.trouble(Trouble::Poweroff { node, outputs: 0, restart_us: 0 })
    }

    /// A process stands still.
    pub fn freeze(self, node: Target, for_ms: u64) -> Self {
        let for_us = for_ms * 1000;
        self.trouble(Trouble::Freeze { node, outputs: 0, for_us, host: false })
    }

    /// A LAN interface loses its carrier.
    pub fn unplug(self, node: Target, for_ms: u64) -> Self {
        let (wire, way, for_us) = (Wire::Lan, Way::Both, for_ms * 1000);
        self.trouble(Trouble::Cut { node, wire, way, carrier: true, for_us })
    }

    /// The replication network carries nothing.
    pub fn part(self, for_ms: u64) -> Self {
        let (node, wire, way) = (Target::A, Wire::Replication, Way::Both);
        self.trouble(Trouble::Cut { node, wire, way, carrier: false, for_us: for_ms * 1000 })
    }

    /// An operator asks for a switchover.
    pub fn switch_over(self) -> Self {
        self.trouble(Trouble::Switchover)
    }

    /// Something goes wrong.
    pub fn trouble(mut self, what: Trouble) -> Self {
        self.plan.faults.push(Fault { at_us: MOMENT_US, what });
        self
    }

    /// The last of that happens at another moment.
    ///
    /// # Panics
    /// If nothing has gone wrong yet, or an output is named and what goes wrong cannot wait for one.
    pub fn at(mut self, moment: Moment) -> Self {
        let fault = self.plan.faults.last_mut().expect("something goes wrong first");
        match (moment, &mut fault.what) {
            (Moment::Micros(micros), _) => fault.at_us = CLIENTS_US + micros,
            (
                Moment::Output(number),
                Trouble::Crash { outputs, .. }
                | Trouble::Poweroff { outputs, .. }
                | Trouble::Freeze { outputs, .. },
            ) => (fault.at_us, *outputs) = (CLIENTS_US, number),
            (Moment::Output(_), what) => panic!("{what} does not wait for an output"),
        }
        self
    }

    /// The last one that died is started again so much later.
    ///
    /// # Panics
    /// If nobody died.
    pub fn back_after(mut self, ms: u64) -> Self {
        let fault = self.plan.faults.last_mut().expect("somebody dies first");
        let (Trouble::Crash { restart_us, .. } | Trouble::Poweroff { restart_us, .. }) =
            &mut fault.what
        else {
            panic!("{} kills nobody", fault.what)
        };
        *restart_us = ms * 1000;
        self
    }

    /// Everything heals only so many milliseconds after the clients came.
    pub const fn heals_at(mut self, ms: u64) -> Self {
        self.heal_us = Some(CLIENTS_US + ms * 1000);
        self
    }

    // ---- the end ----

    /// It happens, and comes to its end with nobody lost.
    ///
    /// # Panics
    /// If it does not: with what was broken, and the end of the story.
    #[track_caller]
    pub fn must_finish(self) -> Outcome {
        let outcome = self.must_come_right();
        let lost = ["excuses", "connections lost, excused"].map(|what| outcome.tally.count(what));
        assert_eq!(lost, [0, 0], "excuses, and connections that were lost\n{}", told(&outcome));
        outcome
    }

    /// It happens, and comes to its end; connections may be lost where nothing is promised.
    ///
    /// # Panics
    /// As [`Story::must_finish`] does.
    #[track_caller]
    pub fn must_come_right(mut self) -> Outcome {
        let over = self.plan.faults.iter().map(|fault| fault.at_us + fault.what.lasts_us()).max();
        let heal_us = over.unwrap_or(CLIENTS_US).max(CLIENTS_US) + AFTERWARDS_US;
        self.plan.heal_us = self.heal_us.unwrap_or(heal_us);
        self.plan.faults.sort_by_key(|fault| fault.at_us);
        assert_eq!(self.plan.check(), Ok(()));
        let outcome = run(&self.plan, Judge::of(&self.plan), Tell::Story);
        if let Some(violation) = &outcome.violation {
            panic!("{}: {}\n{}", violation.rule, violation.text, told(&outcome));
        }
        outcome
    }
}

fn told(outcome: &Outcome) -> String {
    let skipped = outcome.story.len().saturating_sub(TOLD);
    let lines = outcome.story[skipped..].iter();
    let lines = lines.map(|told| format!("{:>12.6} {}\n", told.at as f64 / 1e9, told.text));
    format!("{}{}", lines.collect::<String>(), outcome.portrait)
}

fn requests() -> Vec<Request> {
    let whole = |file| Request { file, range: None };
    vec![whole(3), whole(1), Request { file: 2, range: Some((100, 30_000)) }]
}
