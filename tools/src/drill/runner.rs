//! The loop that drives a drill's connections: one thread, one poll.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use thiserror::Error;

use super::connection::{Connection, Opening, Step};
use super::failure::Failure;
use super::plan::{Plan, PlanError, Service};
use super::report::{FailureReport, Gap, Longest, Report, Tally, tell};
use crate::clock;

/// The token of the signal pipe; slots have their index.
const SIGNALS: Token = Token(usize::MAX);
/// Connections opened in one turn, so that those that are open have theirs.
const OPENINGS: usize = 256;

/// Why a drill could not be run at all.
#[derive(Debug, Error)]
pub enum RunError {
    /// The plan contradicts itself.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel refuses something that every drill needs.
    #[error("{doing}: {error}")]
    Host {
        /// What was tried.
        doing: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// Runs a drill to its end.
///
/// # Errors
/// When it could not be run; a drill that ran and found failures is a [`Report`].
pub fn run(plan: &Plan) -> Result<Report, RunError> {
    plan.check()?;
    let mut runner = Runner::new(plan)?;
    while runner.turn()? {}
    Ok(runner.report())
}

struct Runner<'a> {
    plan: &'a Plan,
    poll: Poll,
    signals: Option<Signals>,
    slots: Vec<Slot>,
    /// Slots with something to do, without the kernel having to say so.
    ready: VecDeque<usize>,
    /// The next slot whose first connection is to be opened, and those that open another.
    unopened: usize,
    again: VecDeque<usize>,
    live: usize,
    unmoved: usize,
    numbers: u64,
    tallies: Vec<Tally>,
    total: Tally,
    longest: Longest,
    failures: Vec<FailureReport>,
    start: Instant,
    started_unix_ms: u64,
    next_tick: Instant,
    next_word: Instant,
    stopping: bool,
    buffer: Vec<u8>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    queued: bool,
    moved: bool,
}

const fn host(doing: &'static str) -> impl Fn(io::Error) -> RunError {
    move |error| RunError::Host { doing, error }
}

impl<'a> Runner<'a> {
    fn new(plan: &'a Plan) -> Result<Self, RunError> {
        // As far as we may; a socket that cannot be had is reported with its connection.
        let _ = rlimit::increase_nofile_limit(plan.connections as u64 + 64);
        let poll = Poll::new().map_err(host("cannot poll"))?;
        let tally = || Tally::new().map_err(|e| host("cannot count")(io::Error::other(e)));
        let signals = if plan.signals { Some(watch_signals(&poll)?) } else { None };
        let start = clock::now();
        Ok(Self {
            plan,
            poll,
            signals,
            slots: std::iter::repeat_with(Slot::default).take(plan.connections).collect(),
            ready: VecDeque::new(),
            unopened: 0,
            again: VecDeque::new(),
            live: 0,
            unmoved: plan.connections,
            numbers: 0,
            tallies: plan.workloads.iter().map(|_| tally()).collect::<Result<_, _>>()?,
            total: tally()?,
            longest: Longest::default(),
            failures: Vec::new(),
            start,
            started_unix_ms: clock::unix_millis(),
            next_tick: start,
            next_word: start,
            stopping: false,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// One turn of the loop; false when the drill is over.
    fn turn(&mut self) -> Result<bool, RunError> {
        let now = clock::now();
        if self.plan.duration.is_some_and(|duration| now >= self.start + duration) {
            self.stop(now);
        }
        self.open_due(now);
        if self.live == 0 && self.again.is_empty() && self.unopened >= self.slots.len() {
            return Ok(false);
        }
        let idle = self.ready.is_empty() && self.again.is_empty();
        let timeout =
            if idle { self.next_tick.saturating_duration_since(now) } else { Duration::ZERO };
        self.take_events(timeout)?;
        for _ in 0..self.ready.len() {
            if let Some(index) = self.ready.pop_front() {
                self.slots[index].queued = false;
                self.step(index);
            }
        }
        self.tick();
        Ok(true)
    }

    fn take_events(&mut self, timeout: Duration) -> Result<(), RunError> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(host("cannot poll")(error)),
        }
        let mut signalled = false;
        for event in &events {
            signalled |= event.token() == SIGNALS;
            let Some(slot) = self.slots.get_mut(event.token().0) else { continue };
            let Some(connection) = &mut slot.connection else { continue };
            // An error shows when reading.
            let broken = event.is_error() || event.is_read_closed();
            connection.on_event(event.is_readable() || broken, event.is_writable());
            queue(&mut self.ready, slot, event.token().0);
        }
        if signalled {
            self.on_signal();
        }
        Ok(())
    }

    /// What the kernel does not tell by itself.
    fn tick(&mut self) {
        let now = clock::now();
        if now < self.next_tick {
            return;
        }
        // A millisecond, longer for very many, so that looking never takes most of the time.
        self.next_tick = now + Duration::from_micros(1_000 + self.slots.len() as u64 / 2);
        for index in 0..self.slots.len() {
            let Some(connection) = &self.slots[index].connection else { continue };
            let stalled = connection.check_stall(now, self.plan.stall);
            let timed = connection.is_timed();
            match stalled {
                Err(failure) => self.end(index, Some(failure)),
                Ok(()) if timed => self.step(index),
                Ok(()) => {}
            }
        }
        if self.plan.progress && now >= self.next_word {
            self.next_word = now + Duration::from_secs(1);
            self.say_progress(now);
        }
    }

    fn open_due(&mut self, now: Instant) {
        for _ in 0..OPENINGS {
            let Some(index) = self.again.pop_front() else { break };
            self.open(index, now);
        }
        for _ in 0..OPENINGS {
            let share = self.unopened as f64 / self.slots.len() as f64;
            let due = self.start + self.plan.ramp.mul_f64(share);
            if self.unopened >= self.slots.len() || due > now {
                return;
            }
            self.unopened += 1;
            self.open(self.unopened - 1, now);
        }
    }

    fn open(&mut self, index: usize, now: Instant) {
        let workload = self.plan.workload_of(index);
        let target = self.plan.target_of(index);
        let number = self.numbers;
        self.numbers += 1;
        self.tallies[workload].opened();
        self.total.opened();
        let opening = Opening {
            number,
            workload: &self.plan.workloads[workload],
            target,
            source: self.plan.sources.pick(index as u64, target.ip()),
            seed: self.plan.seed,
            rate: self.plan.rate,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let opened = Connection::open(now, &opening).and_then(|mut connection| {
            self.poll.registry().register(connection.stream(), Token(index), interest)?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => {
                self.slots[index].connection = Some(connection);
                self.live += 1;
            }
            Err(error) => self.tell_failure(index, number, None, &Failure::Connect(error)),
        }
    }

    fn step(&mut self, index: usize) {
        // Fresh for each connection: with thousands of them a turn is long.
        let now = clock::now();
        let Some(connection) = &mut self.slots[index].connection else { return };
        match connection.step(now, &mut self.buffer) {
            Ok(step) => self.on_step(index, now, step),
            Err(failure) => self.end(index, Some(failure)),
        }
    }

    fn on_step(&mut self, index: usize, now: Instant, step: Step) {
        let workload = self.plan.workload_of(index);
        let slot = &mut self.slots[index];
        let Some(connection) = &slot.connection else { return };
        if step.connected {
            self.tallies[workload].established(connection.connect_time());
            self.total.established(connection.connect_time());
            if self.stopping {
                self.stop_one(index, now);
                return;
            }
        }
        if let Some(gap) = step.gap {
            self.longest.note(Gap {
                ms: gap.as_secs_f64() * 1e3,
                at_s: now.saturating_duration_since(self.start).as_secs_f64(),
                connection: connection.number(),
                workload: self.plan.workloads[workload].service.name(),
            });
        }
        if !slot.moved && (connection.received() > 0 || connection.acked() > 0 || step.ended) {
            slot.moved = true;
            self.unmoved -= 1;
            self.say_ready();
        }
        if step.ended {
            self.end(index, None);
        } else if step.more {
            queue(&mut self.ready, &mut self.slots[index], index);
        }
    }

    /// Takes a connection out, and opens the next one in its place if the plan says so.
    fn end(&mut self, index: usize, failure: Option<Failure>) {
        let Some(mut connection) = self.slots[index].connection.take() else { return };
        self.live -= 1;
        let _ = self.poll.registry().deregister(connection.stream());
        let gap = connection.longest_gap(clock::now());
        let workload = self.plan.workload_of(index);
        for tally in [&mut self.tallies[workload], &mut self.total] {
            tally.ended(connection.acked(), connection.received(), connection.exchanges(), gap);
        }
        if let Some(failure) = failure {
            let source = connection.source().map(|source| source.to_string());
            self.tell_failure(index, connection.number(), source, &failure);
            return;
        }
        self.tallies[workload].verdict(None);
        self.total.verdict(None);
        if self.plan.repeat && !self.stopping {
            self.again.push_back(index);
        }
    }

    fn tell_failure(
        &mut self,
        index: usize,
        connection: u64,
        source: Option<String>,
        failure: &Failure,
    ) {
        let workload = self.plan.workload_of(index);
        self.tallies[workload].verdict(Some(failure));
        self.total.verdict(Some(failure));
        let at = clock::now().saturating_duration_since(self.start);
        let report = FailureReport {
            connection,
            workload: self.plan.workloads[workload].service.name(),
            source,
            target: self.plan.target_of(index).to_string(),
            at_s: at.as_secs_f64(),
            cause: failure.to_string(),
        };
        log::warn!("connection {connection} ({}): {failure}", report.target);
        tell(&mut self.failures, report);
    }

    /// No new connections; those that are open finish in order.
    fn stop(&mut self, now: Instant) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.again.clear();
        self.unopened = self.slots.len();
        for index in 0..self.slots.len() {
            self.stop_one(index, now);
        }
    }

    fn stop_one(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        if let Some(connection) = &mut slot.connection {
            connection.stop(now);
            queue(&mut self.ready, slot, index);
        }
    }

    fn on_signal(&mut self) {
        let count = self.signals.as_mut().map_or(0, |signals| signals.pending().count());
        if count == 0 {
            return;
        }
        if self.stopping {
            for index in 0..self.slots.len() {
                self.end(index, Some(Failure::Interrupted));
            }
        }
        self.stop(clock::now());
    }

    /// Tells the script that every connection is up. A file that cannot be written is reported;
    /// the script's own patience ends.
    fn say_ready(&self) {
        if self.unmoved > 0 {
            return;
        }
        log::info!("all {} connections are up", self.slots.len());
        if let Some(path) = &self.plan.ready_file
            && let Err(error) = std::fs::write(path, format!("{}\n", std::process::id()))
        {
            log::error!("cannot write {}: {error}", path.display());
        }
    }

    fn say_progress(&self, now: Instant) {
        let connections = self.slots.iter().filter_map(|slot| slot.connection.as_ref());
        let waited = connections.map(|c| c.longest_gap(now)).max().unwrap_or_default();
        eprintln!(
            "{:6.1} s  {} open, {} lost, longest gap {:.1} ms",
            now.saturating_duration_since(self.start).as_secs_f64(),
            self.live,
            self.total.lost(),
            waited.as_secs_f64() * 1e3,
        );
    }

    fn report(self) -> Report {
        let elapsed = clock::now().saturating_duration_since(self.start);
        let mut workloads = BTreeMap::new();
        for (workload, tally) in self.plan.workloads.iter().zip(&self.tallies) {
            if workload.weight > 0 {
                let upload = workload.service == Service::Discard;
                workloads.insert(workload.service.name(), tally.summary(elapsed, upload));
            }
        }
        let uploads = self.plan.workloads.iter().all(|w| w.service == Service::Discard);
        Report {
            ok: self.total.lost() == 0,
            elapsed_s: elapsed.as_secs_f64(),
            started_unix_ms: self.started_unix_ms,
            total: self.total.summary(elapsed, uploads),
            workloads,
            longest: self.longest.into_inner(),
            failures: self.failures,
        }
    }
}

/// Puts a slot on the list of those with something to do, once.
fn queue(ready: &mut VecDeque<usize>, slot: &mut Slot, index: usize) {
    if !std::mem::replace(&mut slot.queued, true) {
        ready.push_back(index);
    }
}

fn watch_signals(poll: &Poll) -> Result<Signals, RunError> {
    let failed = host("cannot watch for signals");
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(&failed)?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE).map_err(&failed)?;
    Ok(signals)
}
