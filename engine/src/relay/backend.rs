//! A backend: whether it is up, how many splices it has, which of our ports come next.
//!
//! ```text
//!   due ──► a check (`probe`) ──┬── good ─┐
//!                               └── bad ──┴──► `rise` or `fall` in a row: up, or down
//! ```

use core::net::IpAddr;

use super::failure::Failure;
use super::probe::{Outcome, Probe, Said};
use super::settings::{Backend, Check};
use super::state::{Admin, State};
use super::twins::Health;
use crate::time::Instant;
use crate::wire::{Endpoint, Flags, FourTuple, Segment, SeqNum, TcpHeader, TcpOptions};

/// Ports of ours that legs to backends use: RFC 6335's user and dynamic ports.
const FIRST_PORT: u16 = 1024;

/// How many those are.
const PORTS: u32 = 1 + (u16::MAX - FIRST_PORT) as u32;

/// The most splices whose clients have not shown that they hear the backend, so that three quarters of
/// its ports are left to those who have.
pub const OPENING_MOST: usize = PORTS as usize / 4;

/// Splices that a backend of which nothing is known gets in a second, before it has served one.
const TRIES_MAX: u8 = 2;

/// Hop limit of what relays send themselves: servers that serve neighbours alone demand it, RFC 5082.
pub(super) const HOP_LIMIT: u8 = 255;

/// What a check has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Up,
    Down,
    /// It is up, as was hoped.
    Confirmed,
}

/// What a check has come to.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) news: Option<News>,
    /// What is to be said to the server.
    pub(super) said: Option<Said>,
    /// As many checks in a row as take it down have found nobody there.
    pub(super) dead: bool,
}

/// One backend.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: Endpoint,
    /// As it is configured.
    weight: u16,
    /// What an operator has said of it.
    state: State,
    /// Living splices that it has, and legs that were dialled to it.
    pub(super) load: u32,
    /// Of those, dialled legs.
    pub(super) legs: u32,
    /// All splices that it has, those that are over included.
    pub(super) kept: u32,
    pub(super) up: bool,
    /// Whether `up` is more than hope: it was found out here, or told by the owner before.
    known: bool,
    /// Splices that it got lately in hope.
    tries: u8,
    /// It is not in the configuration, and only keeps what it has.
    removed: bool,
    /// It gets no new clients, having said something else than its twin.
    pub(super) barred: bool,
    /// See [`Health::born`].
    pub(super) born: u32,
    /// Results in a row that contradict `up`.
    contrary: u8,
    /// Checks in a row that have found nobody.
    deaths: u8,
    /// Why a check has failed last, and when.
    failed: Option<(Failure, Instant)>,
    due: Instant,
    probe: Option<Probe>,
    ports: Ports,
}

/// A backend, for people and programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Its relay's port.
    pub port: u16,
    /// Where it listens.
    pub address: Endpoint,
    /// Whether it counts as up.
    pub up: bool,
    /// Whether that is known: it was found out here, or told by the owner before.
    pub known: bool,
    /// What an operator has said of it.
    pub state: State,
    /// Its share of new clients, configured or said.
    pub weight: u16,
    /// Its living splices.
    pub splices: u32,
    /// Connections that sessions have to it.
    pub sessions: u32,
    /// Those that are over, and kept for what may still be said.
    pub lingering: u32,
    /// Why a check has failed last, and when.
    pub failed: Option<(Failure, Instant)>,
    /// Whether it is no longer in the configuration: it gets no new ones.
    pub removed: bool,
    /// Whether it has said something else than its twin: it gets no new ones.
    pub barred: bool,
    /// See [`Health::born`].
    pub born: u32,
}

/// In which order ports are tried: all of them in turn, and those that a peer held after one another
/// not after one another here. An order of this run's own, so that a port is not easily guessed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// The last one, counted from [`FIRST_PORT`].
    at: u32,
    /// Has no divisor in common with [`PORTS`].
    step: u32,
}

impl Ports {
    /// The first backend's.
    pub(super) const fn of(key: &[u8; 16]) -> Self {
        let [a, b, c, d, ..] = *key;
        let (at, step) = (u16::from_ne_bytes([a, b]) as u32, u16::from_ne_bytes([c, d]) as u32);
        Self { at: at % PORTS, step: coprime(step) }
    }

    /// The next backend's.
    pub(super) const fn next(&mut self) -> Self {
        let (at, step) = ((self.at + PORTS / 3) % PORTS, coprime(self.step + 1));
        *self = Self { at, step };
        *self
    }

    const fn take(&mut self) -> u16 {
        self.at = (self.at + self.step) % PORTS;
        FIRST_PORT + self.at as u16
    }
}

/// The next number from `step` on without a divisor of [`PORTS`], which are 2, 3 and 7.
const fn coprime(mut step: u32) -> u32 {
    while step.is_multiple_of(2) || step.is_multiple_of(3) || step.is_multiple_of(7) {
        step += 1;
    }
    step
}

impl Server {
    pub(super) fn new(backend: Backend, ports: Ports) -> Self {
        let Backend { address, weight } = backend;
        let (due, probe) = (Instant::ZERO, None);
        let (load, legs, kept, up, known, contrary, tries) = (0, 0, 0, true, false, 0, 0);
        let (state, removed) = (State::default(), false);
        let (barred, born) = (false, 0);
        Self {
            address,
            weight,
            state,
            load,
            legs,
            kept,
            up,
            known,
            tries,
            removed,
            barred,
            born,
            contrary,
            deaths: 0,
            failed: None,
            due,
            probe,
            ports,
        }
    }

    /// One that is not in the configuration, and has splices.
    pub(super) fn removed(address: Endpoint, ports: Ports) -> Self {
        Self { removed: true, ..Self::new(Backend { address, weight: 0 }, ports) }
    }

    /// Whether it is not in the configuration; and if it is needed no longer.
    pub(super) const fn is_removed(&self) -> bool {
        self.removed
    }

    /// What is to be seen of it; nothing if it is not in the configuration and has no splice.
    pub(super) fn view(&self, port: u16) -> Option<View> {
        let Self {
            address, state, load, legs, kept, up, known, failed, removed, barred, born, ..
        } = *self;
        let view = View {
            port,
            address,
            up,
            known,
            state,
            weight: self.weight(),
            splices: load - legs,
            sessions: legs,
            lingering: kept - load,
            failed,
            removed,
            barred,
            born,
        };
        (!removed || kept > 0).then_some(view)
    }

    /// An owner looks at once. Of what it was not told it hopes for the best.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.contrary, self.tries, self.due, self.probe) = (0, 0, now, None);
        self.deaths = 0;
    }

    /// The owner says what it is.
    pub(super) fn told(&mut self, health: Health) {
        let Health { up, barred, born, failed } = health;
        (self.up, self.known, self.contrary) = (up, true, 0);
        (self.barred, self.born) = (barred, born);
        self.failed = failed.or(self.failed);
    }

    /// What an heir is to know.
    pub(super) const fn health(&self) -> Health {
        let Self { up, barred, born, failed, .. } = *self;
        Health { up, barred, born, failed }
    }

    /// Whether nobody serves there, as far as is known: one that answers, and not as is wanted, may go on with
    /// what it has.
    pub(super) fn is_gone(&self) -> bool {
        !self.up && self.failed.is_none_or(|(failure, _)| failure.is_death())
    }

    /// Nothing is known of it, and it has nothing.
    pub(super) fn forget(&mut self) {
        (self.up, self.known, self.contrary) = (true, false, 0);
        (self.load, self.legs, self.kept) = (0, 0, 0);
    }

    /// What an operator has said of it.
    pub(super) const fn state(&self) -> State {
        self.state
    }

    /// An operator has said something of it.
    pub(super) fn set_state(&mut self, now: Instant, state: State) {
        let was = core::mem::replace(&mut self.state, state).admin == Admin::Maint;
        match (was, state.admin == Admin::Maint) {
            // Nobody has looked for a while: one that served is hoped to serve.
            (true, false) => (self.known, self.due) = (!self.up, now),
            (false, true) => (self.probe, self.contrary, self.deaths) = (None, 0, 0),
            (true, true) | (false, false) => {}
        }
    }

    /// All that it had has been ended.
    pub(super) const fn end_cut(&mut self) {
        self.state.cut = false;
    }

    /// Its share of new clients.
    const fn weight(&self) -> u16 {
        match self.state.weight {
            Some(weight) => weight,
            None => self.weight,
        }
    }

    /// It gets a splice.
    pub(super) const fn begin_try(&mut self) {
        self.tries = self.tries.saturating_add(1);
    }

    /// A while has passed.
    pub(super) const fn allow_tries(&mut self) {
        self.tries = 0;
    }

    /// Whether it is known to serve, or has not yet been tried as often as one may that is not.
    pub(super) const fn is_hopeful(&self) -> bool {
        self.known || self.tries < TRIES_MAX
    }

    /// It has answered a client's SYN. Whether that is news.
    pub(super) const fn on_served(&mut self) -> bool {
        self.up && !core::mem::replace(&mut self.known, true)
    }

    /// The next source port to try.
    pub(super) const fn next_port(&mut self) -> u16 {
        self.ports.take()
    }

    /// Whether it may get a new splice of a client of this family.
    pub(super) const fn is_open_to(&self, ipv6: bool) -> bool {
        self.up && !self.barred && self.is_wanted() && self.address.is_ipv6() == ipv6
    }

    /// Whether it is to get clients, if it serves.
    pub(super) const fn is_wanted(&self) -> bool {
        matches!(self.state.admin, Admin::Ready) && self.weight() > 0 && !self.removed
    }

    /// Whether it has less to do for its weight than `other`. Splices that were over a moment ago count:
    /// an heir may take one that has ended for a living one, and clients that come one by one must not
    /// all go past that backend for it.
    pub(super) fn is_freer_than(&self, other: &Self) -> bool {
        let loaded = |one: &Self, by: &Self| u64::from(one.kept) * u64::from(by.weight());
        loaded(self, other) < loaded(other, self)
    }

    /// When a check begins or ends.
    pub(super) fn deadline(&self, check: &Check) -> Instant {
        match &self.probe {
            Some(probe) => probe.deadline(),
            None if check.interval.is_zero() || self.removed => Instant::NEVER,
            None if self.state.admin == Admin::Maint => Instant::NEVER,
            None => self.due,
        }
    }

    /// Whether it is time for a check.
    pub(super) fn wants_check(&self, now: Instant, check: &Check) -> bool {
        self.probe.is_none() && now >= self.deadline(check)
    }

    /// The next check is another interval away.
    pub(super) fn put_off(&mut self, now: Instant, check: &Check) {
        self.due = now + check.interval;
    }

    /// Begins a check from `leg`, which is free.
    pub(super) fn check(
        &mut self,
        now: Instant,
        check: &Check,
        leg: FourTuple,
        iss: SeqNum,
        mss: u16,
    ) -> TcpHeader {
        let (probe, syn) = Probe::begin(now, check, leg, iss, mss);
        self.probe = Some(probe);
        syn
    }

    /// Time has passed: a check may be over, or repeat what it has said.
    pub(super) fn on_timer(&mut self, now: Instant, check: &Check) -> Judged {
        match self.probe.as_mut().filter(|probe| now >= probe.deadline()) {
            Some(probe) => {
                let outcome = probe.on_timer(now);
                self.follow(now, check, outcome)
            }
            None => Judged::default(),
        }
    }

    /// Whether a check is under way.
    pub(super) const fn is_probed(&self) -> bool {
        self.probe.is_some()
    }

    /// Whether a check goes on between these two ends.
    pub(super) fn probes(&self, leg: &FourTuple) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.leg() == leg)
    }

    /// The answer to a check: what it shows, and what to say to it.
    pub(super) fn on_answer(
        &mut self,
        now: Instant,
        check: &Check,
        segment: &Segment<'_>,
    ) -> Judged {
        let Some(probe) = &mut self.probe else { return Judged::default() };
        let outcome = probe.on_segment(now, segment);
        self.follow(now, check, outcome)
    }

    fn follow(&mut self, now: Instant, check: &Check, outcome: Outcome) -> Judged {
        let Outcome { verdict, said, over } = outcome;
        if over {
            self.probe = None;
        }
        let Some(verdict) = verdict else { return Judged { said, ..Judged::default() } };
        let nobody = verdict.is_err_and(Failure::is_death);
        self.deaths = if nobody { self.deaths.saturating_add(1) } else { 0 };
        // Told once.
        let dead = nobody && self.deaths == check.fall;
        Judged { news: self.judge(now, check, verdict), said, dead }
    }

    /// A client's SYN was refused.
    pub(super) fn on_refused(&mut self, now: Instant, check: &Check) -> Option<News> {
        if check.interval.is_zero() {
            return None;
        }
        self.due = self.due.min(now);
        self.judge(now, check, Err(Failure::Refused))
    }

    fn judge(&mut self, now: Instant, check: &Check, verdict: Result<(), Failure>) -> Option<News> {
        let good = verdict.is_ok();
        self.failed = verdict.err().map(|failure| (failure, now)).or(self.failed);
        if good == self.up {
            self.contrary = 0;
            let confirmed = good && !core::mem::replace(&mut self.known, true);
            return confirmed.then_some(News::Confirmed);
        }
        self.contrary = self.contrary.saturating_add(1);
        if self.contrary < if good { check.rise } else { check.fall } {
            return None;
        }
        (self.up, self.known, self.contrary) = (good, true, 0);
        Some(if good { News::Up } else { News::Down })
    }
}

/// The address of ours that reaches `backend`.
pub(super) fn source_for(addresses: &[IpAddr], backend: Endpoint) -> Option<IpAddr> {
    addresses.iter().copied().find(|ours| ours.is_ipv6() == backend.is_ipv6())
}

/// A segment without text.
pub(super) fn bare(leg: FourTuple, seq: SeqNum, flags: Flags) -> TcpHeader {
    TcpHeader {
        tuple: leg,
        seq,
        ack: SeqNum(0),
        flags,
        window: 0,
        options: TcpOptions::default(),
        ecn: 0,
        ttl: HOP_LIMIT,
        ip_id: 0,
    }
}
