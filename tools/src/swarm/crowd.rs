//! All clients together: who acts when, and what becomes of each.

use std::collections::VecDeque;
use std::sync::Arc;

use super::member::{End, Member, News};
use super::plan::{Ends, Plan, PlanError};
use super::report::{Gap, Report, Spread, Trouble, seconds};
use crate::drill::Pattern;
use standin::tcp::wheel::Wheel;
use standin::tcp::{Settings, Transmit, reset_for};
use standin::time::{Duration, Instant};
use standin::wire::{ChecksumState, FourTuple, Offload, parse_ip, parse_tcp};

/// Members that act in one turn at most, so that packets are read in between.
const TURN: u32 = 256;
/// Resets that wait to be sent at most; what is beyond is not answered.
const LOOSE_MAX: usize = 4096;
/// The longest a member waits before it sends again: a swarm's end is awaited.
const RTO_MAX: Duration = Duration::from_secs(10);
/// Bytes that a member's window holds.
const RECEIVE_BUFFER: u32 = 64 << 10;

/// Where a swarm stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Members open, one after the other.
    Opening,
    /// All that could are open.
    Holding,
    /// Each asks once more.
    Checking,
    /// Each closes.
    Closing,
    /// Nobody is left.
    Over,
}

/// All clients; see the [module](super) for how it is driven.
#[derive(Debug)]
pub struct Swarm {
    plan: Plan,
    ends: Ends,
    settings: Arc<Settings>,
    members: Vec<Option<Box<Member>>>,
    living: u32,
    /// Members whose handshake is not complete.
    half_open: u32,
    /// Members whose answer, handshake or end is awaited.
    waiting: u32,
    wheel: Wheel<u32>,
    ready: VecDeque<u32>,
    /// Resets for segments of nobody.
    loose: VecDeque<(FourTuple, Transmit)>,
    phase: Phase,
    /// When the phase began, and how many members had their turn in it.
    since: Instant,
    turns: u32,
    began: Instant,
    random: fastrand::Rng,
    payload: Vec<u8>,
    /// Of those that are gone, in microseconds.
    connects: Vec<u32>,
    gaps: Vec<u32>,
    /// How long each check took.
    checks: Vec<u32>,
    report: Report,
}

impl Swarm {
    /// A swarm that opens its first connection at `now`.
    ///
    /// # Errors
    /// A plan that cannot be carried out.
    pub fn new(plan: Plan, now: Instant) -> Result<Self, PlanError> {
        plan.check()?;
        let settings = Settings {
            receive_buffer: RECEIVE_BUFFER,
            rto_max: RTO_MAX,
            keepalive: None,
            max_segment: 1,
            ..Settings::default()
        };
        Ok(Self {
            ends: plan.ends(),
            settings: Arc::new(settings),
            members: Vec::new(),
            living: 0,
            half_open: 0,
            waiting: 0,
            wheel: Wheel::new(now),
            ready: VecDeque::new(),
            loose: VecDeque::new(),
            phase: Phase::Opening,
            since: now,
            turns: 0,
            began: now,
            random: fastrand::Rng::with_seed(plan.seed),
            payload: Vec::new(),
            connects: Vec::new(),
            gaps: Vec::new(),
            checks: Vec::new(),
            report: Report { connections: plan.count.into(), ..Report::default() },
            plan,
        })
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Ends the holding: everybody is checked, and closes.
    pub fn finish(&mut self, now: Instant) {
        match self.phase {
            Phase::Opening => {
                // A member that has not begun will not.
                self.plan.count = self.members.len() as u32;
                self.report.connections = self.plan.count.into();
                self.plan.hold = Some(Duration::ZERO);
            }
            Phase::Holding => self.enter(now, Phase::Checking),
            Phase::Checking | Phase::Closing | Phase::Over => {}
        }
    }

    /// Ends everything, in disorder: who lives is given up.
    pub fn give_up(&mut self, now: Instant) {
        for index in 0..self.members.len() as u32 {
            if self.members[index as usize].is_some() {
                self.end(now, index, End::GivenUp);
            }
        }
        self.enter(now, Phase::Over);
    }

    /// A packet from the device, IP header first. What is none, or nobody's, changes nothing.
    pub fn on_packet(&mut self, now: Instant, packet: &[u8]) {
        self.report.packets_in += 1;
        let Ok(ip) = parse_ip(packet) else { return };
        if ip.fragment.is_some() || (ip.src, ip.protocol) != (self.plan.target.ip(), TCP) {
            return;
        }
        let Ok((source, port, segment)) = parse_tcp(&ip, ChecksumState::Verify) else { return };
        let tuple = FourTuple { local: (ip.dst, port).into(), remote: (ip.src, source).into() };
        let target = self.plan.target.into();
        let index = self.ends.member(tuple.local.into()).filter(|_| tuple.remote == target);
        let pattern = index.map(|index| self.pattern(index));
        let Some((index, pattern)) = index.zip(pattern) else { return };
        let Some(Some(member)) = self.members.get_mut(index as usize) else {
            if let Some(reset) = reset_for(&segment).filter(|_| self.loose.len() < LOOSE_MAX) {
                self.loose.push_back((tuple, reset));
            }
            return;
        };
        let waited = member.waits();
        let news = member.on_segment(now, &segment, pattern);
        self.learn(now, index, waited, news);
    }

    /// Lets everybody act whose time has come.
    pub fn turn(&mut self, now: Instant) {
        let mut looks = usize::MAX;
        while let Some(index) = self.wheel.expired(now, &mut looks) {
            self.on_alarm(now, index);
        }
        match self.phase {
            Phase::Opening => {
                self.act_at_rate(now, Self::open);
                if self.turns == self.plan.count && self.half_open == 0 {
                    self.report.opening_s = seconds(self.began, now);
                    self.enter(now, Phase::Holding);
                }
            }
            Phase::Holding => {
                if self.plan.hold.is_some_and(|hold| self.since + hold <= now) {
                    self.enter(now, Phase::Checking);
                }
            }
            Phase::Checking => {
                let request = self.plan.request;
                self.act_at_rate(now, |swarm, now, index| {
                    swarm.with(now, index, |member| {
                        member.asks_at = Instant::NEVER;
                        member.ask(now, request);
                    });
                });
                if self.turns == self.plan.count && self.waiting == 0 {
                    self.enter(now, Phase::Closing);
                }
            }
            Phase::Closing => {
                self.act_at_rate(now, |swarm, now, index| {
                    swarm.with(now, index, |member| member.close(now));
                });
                if self.living == 0 {
                    self.enter(now, Phase::Over);
                }
            }
            Phase::Over => {}
        }
    }

    /// When [`Swarm::turn`] is to be called next, if no packet comes before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let acts = match self.phase {
            Phase::Opening | Phase::Checking | Phase::Closing if self.turns < self.plan.count => {
                Some(self.since + self.time_of(self.turns))
            }
            Phase::Holding => self.plan.hold.map(|hold| self.since + hold),
            Phase::Opening | Phase::Checking | Phase::Closing | Phase::Over => None,
        };
        acts.into_iter().chain(self.wheel.next()).min()
    }

    /// Writes the next packet into `packet`; false when there is none.
    pub fn poll_packet(&mut self, now: Instant, packet: &mut Vec<u8>) -> bool {
        if let Some((tuple, reset)) = self.loose.pop_front() {
            self.write(tuple, &reset, packet);
            return true;
        }
        while let Some(&index) = self.ready.front() {
            if let Some((tuple, transmit)) = self.poll_member(now, index) {
                self.write(tuple, &transmit, packet);
                return true;
            }
            self.ready.pop_front();
        }
        false
    }

    /// The device refused the last packet.
    pub const fn packet_refused(&mut self) {
        self.report.packets_refused += 1;
    }

    /// This process' resident memory while everybody is open, in bytes.
    pub const fn set_resident(&mut self, bytes: u64) {
        self.report.resident = bytes;
    }

    /// What was counted so far, without distributions.
    #[must_use]
    pub const fn counts(&self) -> &Report {
        &self.report
    }

    /// What became of everybody so far.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let living = || (0..).zip(&self.members).filter_map(|(i, m)| Some((i, m.as_deref()?)));
        let open = || living().filter(|(_, member)| member.opened);
        let connects = open().map(|(_, member)| member.connect);
        let gaps = open().filter(|(index, _)| self.plan.asks(*index)).map(|(_, m)| m.gap);
        Report {
            ok: self.report.completed == self.report.connections && self.report.completed > 0,
            elapsed_s: seconds(self.began, now),
            connect_ms: Spread::of(self.connects.iter().copied().chain(connects).collect()),
            gap_ms: Spread::of(self.gaps.iter().copied().chain(gaps).collect()),
            check_ms: Spread::of(self.checks.clone()),
            ..self.report.clone()
        }
    }

    // ---- one member ----

    fn open(&mut self, now: Instant, index: u32) {
        debug_assert_eq!(index as usize, self.members.len(), "members open in order");
        let random = self.random.u64(..);
        let ipv6 = self.plan.target.is_ipv6();
        let member = Member::new(&self.settings, now, random, self.plan.mtu, ipv6);
        self.members.push(Some(Box::new(member)));
        self.living += 1;
        self.half_open += 1;
        self.waiting += 1;
        self.touch(index);
    }

    /// Lets a member act, and keeps count of who waits.
    fn with(&mut self, now: Instant, index: u32, act: impl FnOnce(&mut Member)) {
        let Some(Some(member)) = self.members.get_mut(index as usize) else { return };
        let waited = member.waits();
        act(member);
        self.learn(now, index, waited, News::Nothing);
    }

    fn on_alarm(&mut self, now: Instant, index: u32) {
        let stall = self.plan.stall;
        let (request, every) = (self.plan.request, self.plan.every);
        let Some(Some(member)) = self.members.get_mut(index as usize) else { return };
        // An entry that an earlier one has replaced.
        if member.armed > now {
            return;
        }
        member.armed = Instant::NEVER;
        let waited = member.waits();
        let news = member.on_timer(now, stall);
        if member.asks_at <= now {
            member.asks_at = now + every;
            member.ask(now, request);
        }
        self.learn(now, index, waited, news);
    }

    /// What an event changed: who waits, what is to be told, who has something to send.
    fn learn(&mut self, now: Instant, index: u32, waited: bool, news: News) {
        match news {
            News::Ended(end) => return self.end_after(now, index, waited, end),
            News::Opened => self.opened(now, index),
            News::Answered(took) => self.answered(now, index, took),
            News::Nothing => {}
        }
        let Some(Some(member)) = self.members.get(index as usize) else { return };
        self.waiting = self.waiting - u32::from(waited) + u32::from(member.waits());
        self.touch(index);
    }

    fn opened(&mut self, now: Instant, index: u32) {
        self.report.opened += 1;
        self.half_open -= 1;
        let every = self.plan.every.as_nanos().try_into().unwrap_or(u64::MAX);
        let first = Duration::from_nanos(self.random.u64(0..every));
        let asks = self.plan.asks(index);
        if let Some(Some(member)) = self.members.get_mut(index as usize)
            && asks
        {
            member.asks_at = now + first;
        }
    }

    /// A check is a request that was made in its phase; what was asked before is part of holding.
    fn answered(&mut self, now: Instant, index: u32, took: u32) {
        self.report.answers += 1;
        self.report.bytes += u64::from(self.plan.request);
        let began = self.since + Duration::from_micros(took.into());
        if self.phase == Phase::Checking && now >= began {
            return self.checks.push(took);
        }
        if let Some(Some(member)) = self.members.get_mut(index as usize) {
            member.gap = member.gap.max(took);
        }
        let (ms, at_s) = (f64::from(took) / 1e3, seconds(self.began, now));
        self.report.note(Gap { ms, at_s, connection: index });
    }

    fn end(&mut self, now: Instant, index: u32, end: End) {
        let waited = self.members[index as usize].as_ref().is_some_and(|member| member.waits());
        self.end_after(now, index, waited, end);
    }

    fn end_after(&mut self, now: Instant, index: u32, waited: bool, end: End) {
        let Some(member) = self.members.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.living -= 1;
        self.waiting -= u32::from(waited);
        if member.opened {
            self.connects.push(member.connect);
            self.gaps.extend(self.plan.asks(index).then_some(member.gap));
        } else {
            self.half_open -= 1;
        }
        let told = &mut self.report;
        *match end {
            End::Completed => &mut told.completed,
            End::Refused => &mut told.refused,
            End::Unanswered => &mut told.unanswered,
            End::Reset => &mut told.reset,
            End::Lost(_) => &mut told.lost,
            End::Wrong => &mut told.wrong,
            End::GivenUp => &mut told.given_up,
        } += 1;
        if end != End::Completed {
            told.tell(Trouble {
                connection: index,
                source: self.ends.of_member(index).to_string(),
                at_s: seconds(self.began, now),
                cause: end.cause().to_owned(),
            });
        }
        self.say_goodbye(now, index, *member, end);
    }

    /// The last segment of one that ended: the ACK of the peer's FIN, or a reset, so that the
    /// server does not keep what nobody will use.
    fn say_goodbye(&mut self, now: Instant, index: u32, mut member: Member, end: End) {
        let tuple = self.tuple(index);
        if end != End::Completed {
            member.tcb.abort(now);
        }
        if self.loose.len() < LOOSE_MAX
            && let Some(last) = member.tcb.poll_transmit(now, &mut |_| 0)
        {
            self.loose.push_back((tuple, last));
        }
    }

    /// The wheel and the queue know of it again.
    fn touch(&mut self, index: u32) {
        let Some(Some(member)) = self.members.get_mut(index as usize) else { return };
        if !member.queued {
            member.queued = true;
            self.ready.push_back(index);
        }
        self.arm(index);
    }

    /// The next segment of a member; none, and it leaves the queue.
    fn poll_member(&mut self, now: Instant, index: u32) -> Option<(FourTuple, Transmit)> {
        let pattern = self.pattern(index);
        let payload = &mut self.payload;
        let member = self.members.get_mut(index as usize)?.as_mut()?;
        payload.clear();
        let transmit = member.tcb.poll_transmit(now, &mut |range| {
            payload.resize((range.end - range.start) as usize, 0);
            pattern.fill(range.start, payload);
            payload.len()
        });
        member.queued = transmit.is_some();
        // Sending arms timers.
        self.arm(index);
        transmit.map(|transmit| (self.tuple(index), transmit))
    }

    fn arm(&mut self, index: u32) {
        let Some(Some(member)) = self.members.get_mut(index as usize) else { return };
        let deadline = member.deadline(self.plan.stall);
        if deadline < member.armed {
            member.armed = deadline;
            self.wheel.insert(deadline, index);
        }
    }

    fn write(&mut self, tuple: FourTuple, transmit: &Transmit, packet: &mut Vec<u8>) {
        self.report.packets_out += 1;
        let header = transmit.header(tuple, 0);
        packet.clear();
        packet.resize(header.len(), 0);
        if transmit.payload > 0 {
            packet.extend_from_slice(&self.payload[..transmit.payload]);
        }
        header.write(packet, transmit.payload, Offload::Full);
    }

    fn pattern(&self, index: u32) -> Pattern {
        Pattern::new(self.plan.seed, index.into())
    }

    fn tuple(&self, index: u32) -> FourTuple {
        FourTuple { local: self.ends.of_member(index).into(), remote: self.plan.target.into() }
    }

    // ---- the phases ----

    fn enter(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.since = now;
        self.turns = 0;
    }

    /// When the `turn`-th member acts, after the phase's beginning.
    fn time_of(&self, turn: u32) -> Duration {
        Duration::from_nanos(u64::from(turn) * 1_000_000_000 / u64::from(self.plan.rate))
    }

    /// Lets the members act whose turn has come in this phase, few at a time.
    fn act_at_rate(&mut self, now: Instant, act: impl Fn(&mut Self, Instant, u32)) {
        let last = self.turns.saturating_add(TURN).min(self.plan.count);
        while self.turns < last && self.since + self.time_of(self.turns) <= now {
            let index = self.turns;
            self.turns += 1;
            act(self, now, index);
        }
    }
}

/// TCP's number in an IP header.
const TCP: u8 = 6;
