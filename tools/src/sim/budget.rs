//! What an engine may take: work in a turn, time between two beats, memory.
//!
//! The clock of a pure host stands still during a turn, so what it does is counted, and costs it time
//! afterwards. Nothing that clients ask for, and no number of them, may make a turn so long that a
//! peer takes its node for dead.

use super::plan::Job;
use super::world::World;
use crate::oracle::{NodeId, Sight};
use standin::role::Path;
use standin::wire::{ChecksumState, Flags, parse_ip, parse_tcp};
use std::net::SocketAddr;

/// What one step of a turn may do, as an engine counts it (`Engine::work`). A share of each list of those
/// whose turn it is: of the few dozen clients that a world has far less than of a million.
const STEP_MAX: u64 = 500;
/// Bytes of the link of which one unit of work may follow: a standby does what a piece of the log says,
/// and how much it is handed at once is its host's to say.
const BYTES_A_UNIT: u64 = 24;
/// What a turn may do: all that it may read, and the step that it is at then.
const TURN_MAX: u64 = 4096 + STEP_MAX;
/// What a unit of work costs, nanoseconds.
const COST: u64 = 1000;
/// What may lie between two beats of a node that runs: half of the detection time. Later it takes itself
/// for one that has slept.
const BEATS_APART: u64 = 25_000_000;
/// A connection that holds less than this is not reset for want of memory.
const SPARED: u64 = 8 << 10;

/// What a process takes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    /// What it had done when the turn began, and at the last look.
    began: Option<u64>,
    last: u64,
    /// What it may do beside, in a step and in a turn, for what the link has brought.
    allowed: u64,
    allowed_turn: u64,
    /// What its last turn did.
    turn: u64,
    /// When it last sent a beat on each path.
    beats: [Option<u64>; 2],
    /// Connections that it has reset for want of memory.
    resets: u64,
    /// Turns so far, and after how many its memory went over the budget.
    turns: u64,
    over: Option<u64>,
}

impl Meter {
    /// A step of a turn begins, when it has done so much.
    pub(super) fn begin(&mut self, work: u64) {
        self.began.get_or_insert(work);
        self.last = work;
    }

    /// The link brought so much.
    pub(super) const fn bring(&mut self, bytes: usize) {
        self.allowed += bytes as u64 / BYTES_A_UNIT;
        self.allowed_turn += bytes as u64 / BYTES_A_UNIT;
    }

    /// How long its last turn took.
    pub(super) const fn cost(&self) -> u64 {
        self.turn * COST
    }

    /// Turns so far.
    pub(super) const fn turns(&self) -> u64 {
        self.turns
    }

    /// It was not there for a while.
    pub(super) const fn pause(&mut self) {
        self.beats = [None; 2];
    }
}

impl World {
    /// A host's engine has done something.
    pub(super) fn measure(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some(engine) = &state.engine else { return };
        let step = engine.work() - state.meter.last;
        let step = step.saturating_sub(core::mem::take(&mut state.meter.allowed));
        state.meter.last = engine.work();
        self.tally.most("work in one step", step);
        if step > STEP_MAX {
            let name = NodeId(host as u8).name();
            self.complain("budget", format!("{name}: {step} units of work in one step"));
        }
    }

    /// Its turn is over.
    pub(super) fn measure_turn(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some(engine) = &state.engine else { return };
        let began = state.meter.began.take().unwrap_or_else(|| engine.work());
        let turn = engine.work() - began;
        state.meter.turn = turn;
        state.meter.turns += 1;
        let turn = turn.saturating_sub(core::mem::take(&mut state.meter.allowed_turn));
        self.tally.most("work in one turn", turn);
        if turn > TURN_MAX {
            let name = NodeId(host as u8).name();
            self.complain("budget", format!("{name}: {turn} units of work in one turn"));
        }
    }

    /// It sends a beat.
    pub(super) fn measure_beats(&mut self, host: usize, path: Path) {
        let now = self.now;
        let index = usize::from(path == Path::Lan);
        let last = self.hosts[host].meter.beats[index].replace(now);
        if let Some(last) = last.filter(|last| now - last > BEATS_APART) {
            let (name, apart) = (NodeId(host as u8).name(), (now - last) / 1_000_000);
            self.complain("beats", format!("{name}: {apart} ms between two beats on the {path}"));
        }
    }

    // ---- memory ----

    /// What an engine says of its memory: beyond the budget whoever holds most is reset, at once.
    pub(super) fn measure_memory(&mut self, host: usize, memory: u64, resets: u64) {
        let spared = SPARED * self.clients.len() as u64;
        let owns = self.hosts[host].word.owner;
        let meter = &mut self.hosts[host].meter;
        let news = resets - meter.resets;
        let over = owns && memory > self.plan.pair.memory_max + spared;
        meter.over = if over && news == 0 { meter.over.or(Some(meter.turns)) } else { None };
        let stays = meter.over.is_some_and(|since| meter.turns > since + 1);
        meter.resets = resets;
        self.greedy += news;
        if stays {
            let name = NodeId(host as u8).name();
            let text = format!("{name} keeps {memory} bytes for its clients and resets nobody");
            self.complain("memory", text);
        }
    }

    /// A reset leaves for the client of a connection that was ended for want of memory: that is what
    /// the budget is for. So many and no more are excused.
    pub(super) fn excuse_the_greedy(&mut self, packet: &[u8]) {
        if self.greedy == 0 {
            return;
        }
        let Ok(ip) = parse_ip(packet) else { return };
        let Ok((from, to, segment)) = parse_tcp(&ip, ChecksumState::Trusted) else { return };
        let ends = (SocketAddr::new(ip.dst, to), SocketAddr::new(ip.src, from));
        let Some(&client) = self.by_ends.get(&ends) else { return };
        if !segment.flags.contains(Flags::RST) {
            return;
        }
        self.greedy -= 1;
        let why = "it was reset for want of memory";
        self.clients[client].excused.get_or_insert(why);
        self.say(|| format!("client {client} is excused: {why}"));
        self.tally.add("excused for want of memory", 1);
        self.see(Sight::Excused { client: ends.0, service: ends.1, why });
    }

    /// Whether somebody who never ends a request is still waited for.
    pub(super) fn waits_for_a_dawdler(&self) -> bool {
        self.clients.iter().any(|client| {
            let dawdles =
                client.plan.as_ref().is_some_and(|plan| matches!(plan.job, Job::Dawdle { .. }));
            let works = client
                .endpoint
                .as_ref()
                .is_some_and(|end| *end.standing() == super::client::Standing::Working);
            dawdles && works && client.excused.is_none()
        })
    }
}
