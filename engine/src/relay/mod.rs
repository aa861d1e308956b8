//! Relays: a client and an unmodified server, joined by a splice.
//!
//! A relay ends no connection. It chooses a backend for a client's SYN, and from then on forwards
//! what either says to the other with its headers rewritten (CRAFT's splice). So acknowledgement,
//! retransmission and congestion control are the ends' own, nothing is buffered here, and what a
//! takeover has to know is small and never changes:
//!
//! ```text
//!   client 10.77.0.10:4660 ─► 10.77.0.100:8080   │ +seq, +ts │   10.77.0.100:2001 ─► 10.77.0.21:80
//!                            ◄─                  │ -seq, -ts │                    ◄─
//!          └────────── Splice::client ─────────┘               └───────── Splice::backend ────────┘
//! ```
//!
//! The client's sequence numbers and timestamps are shifted to the pair's own for the second leg
//! (RFC 6528, RFC 7323 §5.4): a backend then finds each connection from one of our ports above the one
//! before it, and TIME-WAIT there is no obstacle (RFC 6191). All else passes as it is: options, windows,
//! urgent pointer, ECN.
//!
//! **I1, I2.** Nothing is acknowledged or sent here that the other end has not. What has to be known
//! to the standby is the splice itself, before anything of it shows: the SYN waits for
//! [`Relays::commit`].
//!
//! **A guess harms nobody.** What a packet claims counts for the splice's life if the end that
//! it goes to would believe it (`track`), and where that is not known the end is asked (`doubt`).
//! A client that has not shown that it hears the backend shares a part of the room with others of its kind.
//!
//! This module knows no log and no roles. Its caller carries out what [`Relays::poll_event`]
//! says, and sends what [`Relays::poll_header`] hands out.

mod backend;
mod budget;
mod check;
mod counts;
mod dialled;
mod doubt;
mod errand;
mod failure;
mod hold;
mod open;
mod path;
mod probe;
mod settings;
mod splice;
mod state;
mod table;
mod tally;
#[cfg(test)]
mod tests;
mod track;
mod twins;

use core::net::IpAddr;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::ids::SpliceId;
use crate::slots::Roll;
use crate::sources::Sources;
use crate::time::{Duration, Instant};
use crate::wire::{Endpoint, Flags, FourTuple, Rewrite, Segment, SeqNum, TcpHeader, Timestamps};

use backend::{Judged, News, Ports, Server, bare, source_for};
use budget::Budget;
use dialled::Dialled;
use doubt::Doubts;
use errand::Errand;
use splice::{Entry, Phase, Side, Syn, is_syn, mss_for};
use table::Table;

pub use backend::{OPENING_MOST, View};
pub use failure::Failure;
pub use hold::Remains;
pub use path::TooBig;
pub use settings::{Backend, CLIENT_MAX, Check, HttpCheck, IDLE, Mode, OnDeath, Settings};
pub use splice::{Splice, Stage};
pub use state::{Admin, Order, State, WEIGHT_MAX};
pub use twins::Health;

/// How long a splice is kept after its last packet when both ends have finished and know it of each
/// other, or one has reset it: a lost last ACK is asked for again within that time. Its port and its place are given away
/// earlier if somebody needs them.
const LINGER: Duration = Duration::from_secs(60);

/// How long a client's SYN may be unanswered before its repetition is sent to another backend: a
/// client first repeats it after a second (RFC 6298 §2).
const PATIENCE: Duration = Duration::from_millis(900);

/// How long the other half of a handshake is waited for: a client's patience.
const OPENING_MAX: Duration = Duration::from_secs(130);

/// Ports looked at for a free one before another backend is asked.
const PORT_TRIES: usize = 128;

/// How often idle splices are looked for, and in how many parts the table is gone through.
const SWEEP: Duration = Duration::from_secs(1);
const SWEEP_PARTS: usize = 64;

/// Splices that are ended, or looked at, in one turn for each reason: well under a millisecond of work.
const SHARE: usize = 512;

/// What does not change while an engine runs.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Splices beyond which a SYN is not answered.
    pub splices_max: usize,
    /// Splices whose two ends have not both answered, beyond which the oldest gives way if it is old
    /// enough; else a SYN is not answered.
    pub opening_max: usize,
    /// What a packet on the LAN may have, in bytes.
    pub mtu: u16,
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// A secret of this run.
    pub key: [u8; 16],
}

/// Where a new leg's numbers begin.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// Its ISN.
    pub iss: SeqNum,
    /// Its first TSval.
    pub ts: u32,
}

/// What becomes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It belongs to no relay.
    Foreign,
    /// It goes on, rewritten.
    Forward {
        /// What it becomes.
        rewrite: Rewrite,
        /// What a packet on its way to the other end may have, in bytes, where that is less than on the
        /// LAN.
        mtu: Option<u16>,
    },
    /// It goes no further.
    Taken,
}

/// What the engine has to see to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The standby has to know of the splice, as it is now; then [`Relays::commit`].
    Spliced(SpliceId),
    /// The splice has come so far.
    Stage(SpliceId, Stage),
    /// The splice is no more.
    Unspliced(SpliceId),
    /// A backend is up, or down.
    Backend {
        /// Whose.
        port: u16,
        /// Which.
        address: Endpoint,
        /// What it is now.
        up: bool,
        /// Why it is down.
        why: Option<Failure>,
    },
    /// What has been said of a backend is another now: the standby has to know.
    State {
        /// Whose.
        port: u16,
        /// Which.
        address: Endpoint,
        /// What it is now.
        state: State,
    },
    /// Checks find nobody at a backend, and what it has is ended.
    Dead {
        /// Whose.
        port: u16,
        /// Which.
        address: Endpoint,
        /// How many splices and legs it has.
        left: u32,
    },
    /// A splice has been ended in the middle: both ends are to be asked where they are, and reset.
    Cut(Splice),
    /// The session that has this leg is to give it no other request.
    Leave(FourTuple),
    /// The leg is to be ended.
    Break(FourTuple),
    /// What the standby has to know of a backend.
    Health {
        /// Whose.
        port: u16,
        /// Which.
        address: Endpoint,
        /// What it is.
        health: Health,
    },
}

/// One relay.
#[derive(Debug)]
struct Relay {
    settings: Settings,
    /// Those of `settings`, and behind them some that the peer has given splices.
    servers: Vec<Server>,
    /// Which of equals is asked next.
    turn: usize,
    /// Where the ports of the last one begin.
    ports: Ports,
    /// How often its clients' requests may be repeated once more.
    budget: Budget,
    /// How many of its backends have come up.
    births: u32,
}

/// All relays of an engine, and their splices.
#[derive(Debug)]
pub struct Relays {
    limits: Limits,
    relays: Vec<Relay>,
    table: Table,
    /// Half-open splices, by when each was first looked at; and some that have gone on since.
    opening: Roll<(Instant, SpliceId)>,
    half_open: usize,
    /// How many are over.
    lingering: usize,
    /// How many stand for each client's address: at each relay, and at all of them.
    sources: Sources,
    doubts: Doubts,
    /// Legs to backends that are no splice's.
    dialled: Dialled,
    /// What is to be done to what backends have.
    errands: VecDeque<Errand>,
    /// Splices that are over, by when that was first looked at; and some that are not any more.
    over: Roll<(Instant, SpliceId)>,
    /// Whether a check may be under way.
    probing: bool,
    /// Since when what was held is ours: nothing is older.
    armed_at: Instant,
    sweep_at: Instant,
    sweep_slot: usize,
    /// Slots to be looked at before the next sweep.
    sweep_left: usize,
    /// Whether more is due than was done.
    behind: bool,
    headers: VecDeque<TcpHeader>,
    /// Segments of checks that have text.
    requests: VecDeque<(TcpHeader, Arc<[u8]>)>,
    events: VecDeque<Event>,
    counts: Counts,
}

/// What relays count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Splices begun.
    pub spliced: u64,
    /// Splices that went on to another backend before they stood.
    pub moved: u64,
    /// Splices ended, in whatever way.
    pub unspliced: u64,
    /// Clients refused because no backend was up.
    pub refused: u64,
    /// SYNs dropped for lack of room, or of a port.
    pub full: u64,
    /// Clients refused, or their SYNs dropped, because their address has all the splices that one may
    /// have.
    pub greedy: u64,
    /// Questions to ends of splices that may be over.
    pub asked: u64,
}

impl Relays {
    /// The relays of `settings`, without a splice.
    pub fn new(settings: &[Settings], limits: Limits) -> Self {
        let mut ports = Ports::of(&limits.key);
        let mut relay = |settings: &Settings| Relay {
            servers: settings.backends.iter().map(|at| Server::new(*at, ports.next())).collect(),
            settings: settings.clone(),
            turn: 0,
            ports,
            budget: Budget::FULL,
            births: 0,
        };
        Self {
            relays: settings.iter().map(&mut relay).collect(),
            table: Table::new(limits.key, limits.splices_max),
            sources: Sources::new(limits.key),
            limits,
            opening: Roll::default(),
            half_open: 0,
            lingering: 0,
            doubts: Doubts::default(),
            dialled: Dialled::default(),
            errands: VecDeque::new(),
            over: Roll::default(),
            probing: false,
            armed_at: Instant::ZERO,
            sweep_at: Instant::ZERO,
            sweep_slot: 0,
            sweep_left: 0,
            behind: false,
            headers: VecDeque::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// The LAN's MTU is another now: the segment sizes that ends tell each other are kept to it.
    pub fn on_mtu(&mut self, mtu: u16) {
        self.limits.mtu = mtu;
    }

    /// Whether there is nothing to do, ever.
    pub const fn is_empty(&self) -> bool {
        self.relays.is_empty()
    }

    /// How many splices there are.
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// How many of them are over, and kept for what may still be said.
    pub const fn lingering(&self) -> usize {
        self.lingering
    }

    /// How many of them have two ends that have not found each other.
    pub const fn half_open(&self) -> usize {
        self.half_open
    }

    /// How many slots there are, empty ones included.
    pub const fn slots(&self) -> usize {
        self.table.slots()
    }

    /// The splice in `slot`.
    pub fn tenant(&self, slot: usize) -> Option<SpliceId> {
        self.table.tenant(slot)
    }

    /// The slot that a name stands for.
    pub const fn slot_of(id: SpliceId) -> usize {
        table::slot_of(id)
    }

    /// How far the splice `id` has come.
    pub fn stage(&self, id: SpliceId) -> Option<Stage> {
        Some(self.table.get(id)?.stage())
    }

    /// What is to be known of the splice `id`.
    pub fn splice(&self, id: SpliceId) -> Option<Splice> {
        Some(self.table.get(id)?.splice)
    }

    /// Each backend, relay by relay: those of the configuration in its order, and behind them those that
    /// are no longer in it and still have splices.
    pub fn backends(&self) -> impl Iterator<Item = View> {
        self.relays.iter().flat_map(|relay| {
            let port = relay.settings.port;
            relay.servers.iter().filter_map(move |server| server.view(port))
        })
    }

    /// What has been counted.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// What to see to, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next segment of our own without text: SYNs, and what checks need.
    pub fn poll_header(&mut self) -> Option<TcpHeader> {
        self.headers.pop_front()
    }

    /// The next segment of our own with text: what checks ask.
    pub fn poll_request(&mut self) -> Option<(TcpHeader, Arc<[u8]>)> {
        self.requests.pop_front()
    }

    /// Whether [`Self::poll_header`] or [`Self::poll_request`] has something.
    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty() || !self.requests.is_empty()
    }

    /// In words, why a check of a backend of the relay on `port` has failed.
    pub fn words(&self, port: u16, failure: Failure) -> String {
        let relay = self.relays.iter().find(|relay| relay.settings.port == port);
        let default = Check::default();
        failure.words(relay.map_or(&default, |relay| &relay.settings.check))
    }

    /// A segment came in on `leg`. `numbers` says where a new leg's begin.
    pub fn on_segment(
        &mut self,
        now: Instant,
        leg: FourTuple,
        segment: &Segment<'_>,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> Fate {
        if let Some((id, side)) = self.table.find(&leg) {
            return self.on_splice(now, id, side, segment, numbers);
        }
        if self.on_check_answer(now, &leg, segment) {
            return Fate::Taken;
        }
        match self.relays.iter().position(|relay| relay.settings.port == leg.local.port()) {
            Some(relay) if is_syn(segment) && self.splices(relay) => {
                self.open(now, relay, leg, segment, numbers)
            }
            _ => Fate::Foreign,
        }
    }

    fn splices(&self, relay: usize) -> bool {
        self.relays[relay].settings.mode == Mode::Splice
    }

    /// Whether a relay listens on `port`.
    pub fn serves(&self, port: u16) -> bool {
        self.relays.iter().any(|relay| relay.settings.port == port)
    }

    /// Whether `leg` is a splice's, a check's, or one that a relay would answer.
    pub fn knows(&self, leg: &FourTuple) -> bool {
        self.table.find(leg).is_some() || self.is_probe(leg) || self.serves(leg.local.port())
    }

    /// Whether `leg` is a splice's.
    pub fn has_leg(&self, leg: &FourTuple) -> bool {
        self.table.find(leg).is_some()
    }

    /// Whose packet it was that we sent on `leg` with the sequence number `seq`: both ends as it knows
    /// them, its own as `local`, and its own number. For errors about it.
    pub fn origin_of(&self, leg: &FourTuple, seq: SeqNum) -> Option<(FourTuple, SeqNum)> {
        let (id, side) = self.table.find(leg)?;
        let entry = self.table.get(id).filter(|entry| !entry.is_opening())?;
        let swapped = |leg: FourTuple| FourTuple { local: leg.remote, remote: leg.local };
        Some(match side {
            Side::Client => (swapped(entry.splice.backend), seq),
            Side::Backend => (swapped(entry.splice.client), seq.sub(entry.splice.seq)),
        })
    }

    fn on_splice(
        &mut self,
        now: Instant,
        id: SpliceId,
        side: Side,
        segment: &Segment<'_>,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) -> Fate {
        let Some(entry) = self.table.get_mut(id) else { return Fate::Taken };
        if matches!(entry.phase, Phase::Opening(_)) {
            return match side {
                Side::Client => self.on_opening_client(now, id, segment, numbers),
                Side::Backend => self.on_opening_backend(now, id, segment, numbers),
            };
        }
        if entry.is_inherited() {
            if side == Side::Client && is_syn(segment) {
                entry.opened_by = Some(segment.seq);
                entry.phase = Phase::Opening(Box::new(Syn::of(segment)));
                self.send_syn(now, id);
                return Fate::Taken;
            }
            let refusal = Flags::RST | Flags::ACK;
            if side == Side::Backend
                && segment.flags.contains(refusal)
                && !core::mem::replace(&mut entry.refused, true)
            {
                // Of the SYN, it seems, which its client will repeat: then another backend is asked.
                return Fate::Taken;
            }
        }
        // Not a late copy of the SYN that began what is closing.
        let copy = entry.phase == Phase::Closing && entry.opened_by == Some(segment.seq);
        if side == Side::Client && entry.is_over() && is_syn(segment) && !copy {
            // A new incarnation of the client's leg. The backend's is of another port.
            let leg = entry.splice.client;
            self.end(id);
            return self.on_segment(now, leg, segment, numbers);
        }
        let before = entry.stage();
        if entry.is_disowned_by(side, segment) {
            entry.disown(side);
            self.restaged(now, id, before);
            return Fate::Taken;
        }
        entry.note_answer(segment);
        let ask = entry.note(now, side, segment);
        let rewrite =
            entry.splice.rewrite(side, mss_for(self.limits.mtu, &entry.splice.backend.local));
        let mtu = entry.mtu_towards(now, side.other());
        let proven = before == Stage::HalfOpen && entry.stage() == Stage::Open;
        let (client, from_here) = (entry.splice.client, entry.track.is_some());
        if proven && from_here && self.is_greedy(&client) {
            // It had not shown itself when there was room.
            self.counts.greedy += 1;
            self.end_at(id, before);
            return Fate::Foreign;
        }
        self.restaged(now, id, before);
        if let Some(to) = ask {
            self.begin_doubt(now, id, to);
        }
        Fate::Forward { rewrite, mtu }
    }

    /// Time has passed.
    pub fn on_timer(&mut self, now: Instant, numbers: &dyn Fn(&FourTuple) -> Numbers) {
        self.check_servers(now, numbers);
        self.run_errands();
        let due = now >= self.sweep_at;
        if self.table.len() == 0 || !(due || self.behind) {
            return;
        }
        if due {
            self.sweep_at = now + SWEEP;
            self.sweep_left = 1 + self.table.slots() / SWEEP_PARTS;
            let servers = self.relays.iter_mut().flat_map(|relay| &mut relay.servers);
            servers.for_each(Server::allow_tries);
            self.ask_doubtful(now, numbers);
        }
        let done = [self.end_over(now), self.end_opening(now), self.sweep(now)];
        self.behind = done.contains(&false);
    }

    /// When to call [`Self::on_timer`] at the latest.
    pub fn deadline(&self) -> Instant {
        let checks = self.relays.iter().flat_map(|relay| {
            relay.servers.iter().map(|server| server.deadline(&relay.settings.check))
        });
        let sweep = match self.table.len() {
            _ if !self.errands.is_empty() => Instant::ZERO,
            0 => Instant::NEVER,
            _ if self.behind => Instant::ZERO,
            _ => self.sweep_at,
        };
        checks.fold(sweep, Instant::min)
    }

    fn list_over(&mut self, now: Instant, id: SpliceId) {
        let Self { over, table, .. } = self;
        match table.get_mut(id) {
            Some(entry) if !entry.listed => entry.listed = true,
            _ => return,
        }
        // Of those that were over most may have given way, and their time has not come since.
        over.push((now, id), table.len(), |(_, id)| table.get(*id).is_some());
    }

    /// Ends splices that are over and whose time has come, a turn's share of them. Whether that is all.
    fn end_over(&mut self, now: Instant) -> bool {
        for _ in 0..SHARE {
            let Some(&(since, id)) = self.over.front() else { return true };
            if since.max(self.armed_at) + LINGER > now {
                return true;
            }
            self.over.pop_front();
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.listed = entry.is_over() && entry.heard + LINGER > now;
            if entry.listed {
                let heard = entry.heard;
                let Self { over, table, .. } = self;
                over.push((heard, id), table.len(), |(_, id)| table.get(*id).is_some());
            } else if entry.is_over() {
                self.end(id);
            }
        }
        false
    }

    /// Makes room: ends the splice that is over for longest. Whether there was one.
    fn end_oldest_over(&mut self) -> bool {
        while let Some((_, id)) = self.over.pop_front() {
            let Some(entry) = self.table.get_mut(id) else { continue };
            entry.listed = false;
            if entry.is_over() {
                self.end(id);
                return true;
            }
        }
        false
    }

    /// Ends splices that nothing has passed for as long as their relay allows. A part of the table at
    /// a time, and of that a turn's share. Whether the part is done.
    fn sweep(&mut self, now: Instant) -> bool {
        let share = self.sweep_left.min(SHARE);
        self.sweep_left -= share;
        for _ in 0..share {
            let slot = self.sweep_slot;
            self.sweep_slot = if slot < self.table.slots() { slot + 1 } else { 0 };
            let Some(id) = self.table.tenant(slot) else { continue };
            let Some(entry) = self.table.get_mut(id) else { continue };
            let relay = entry.at.and_then(|(relay, _)| self.relays.get(usize::from(relay)));
            let idle = relay.map_or(IDLE, |relay| relay.settings.idle);
            if entry.heard + idle <= now {
                self.end(id);
            }
        }
        self.sweep_left == 0
    }

    /// Ends a splice. Its ends are not told: they have told each other, or are gone.
    fn end(&mut self, id: SpliceId) {
        let Some(stage) = self.stage(id) else { return };
        self.end_at(id, stage);
    }

    /// Ends a splice that was last counted in `stage`.
    fn end_at(&mut self, id: SpliceId, stage: Stage) {
        let Some(entry) = self.table.remove(id) else { return };
        self.count(&entry.splice.client, entry.at, Some(stage), None);
        self.counts.unspliced += 1;
        self.events.push_back(Event::Unspliced(id));
    }

    /// The splice `id` has come from `before` to where it is.
    fn restaged(&mut self, now: Instant, id: SpliceId, before: Stage) {
        let Some(entry) = self.table.get(id) else { return };
        let after = entry.stage();
        if after == before {
            return;
        }
        let (client, at) = (entry.splice.client, entry.at);
        self.count(&client, at, Some(before), Some(after));
        self.events.push_back(Event::Stage(id, after));
        if after == Stage::Over {
            self.list_over(now, id);
        }
    }

    fn server(&mut self, at: Option<(u16, u16)>) -> Option<&mut Server> {
        let (relay, server) = at?;
        self.relays.get_mut(usize::from(relay))?.servers.get_mut(usize::from(server))
    }
}
