//! Sessions at work: events of their legs in, output and effects out.
//!
//! ```text
//!   record of leg A ─► session ─┬─► output of leg B, held back by that record (I1, I2)
//!                               └─► Effect::Dial ─► a leg more: its record, and then its SYN
//! ```
//!
//! The legs of a session are told to a standby together, with the session, and never one without the
//! others: what happens on one shows on another.

use std::sync::Arc;

use super::Engine;
use super::connection::{Body, Connection};
use super::reserve::Share;
use super::settle::Before;
use super::setup::ServicePort;
use super::table::Table;
#[cfg(feature = "defects")]
use crate::defects::Defect;
use crate::ids::{ConnId, Lsn, SessionId};
use crate::replica::Record;
use crate::service::{App, Kind, Place};
use crate::session::{
    BACKEND, CLIENT, Call, Effect, Event, Keep, LEGS, Leg, Legs, Loss, Machine, Membership,
    Outcome, TWINS,
};
use crate::slots::Slots;
use crate::tcp::{self, CloseCause, Tcb};
use crate::time::{Duration, Instant};
use crate::wire::{Endpoint, FourTuple};

/// The version of the protocol that knows legs and ticks.
const VERSION_SESSIONS: u16 = 4;

/// How long a leg to a server is in TIME-WAIT. A minute of each would take all ports towards one server
/// at a thousand connections a second. What it is for, others see to: a port that is used again begins
/// above the last one's numbers and times (RFC 6528, RFC 7323 §5.4), and a server that repeats its FIN for
/// longer hears a reset, which ends what had ended.
const TIME_WAIT: Duration = Duration::from_secs(1);

/// TCP's settings, by what a connection is for.
#[derive(Debug)]
pub(super) struct TcpFor {
    clients: Arc<tcp::Settings>,
    /// Clients of whom a head is awaited, and then it is seen how much more there may be.
    exchanges: Arc<tcp::Settings>,
    /// Connections that sessions have dialled: what they may say at first they say behind our ACK.
    dialled: Arc<tcp::Settings>,
}

impl TcpFor {
    pub(super) fn new(tcp: &Arc<tcp::Settings>) -> Self {
        let exchanges =
            tcp::Settings { first_window: tcp::FOR_A_HEAD, ..tcp::Settings::clone(tcp) };
        let time_wait = tcp.time_wait.min(TIME_WAIT);
        let dialled = tcp::Settings { time_wait, ..exchanges.clone() };
        let (exchanges, dialled) = (exchanges.into(), dialled.into());
        Self { clients: Arc::clone(tcp), exchanges, dialled }
    }

    /// Those of a service's client, or of a leg that its session has dialled.
    pub(super) const fn of(&self, kind: Kind, dialled: bool) -> &Arc<tcp::Settings> {
        match kind {
            _ if dialled => &self.dialled,
            Kind::Exchange(..) => &self.exchanges,
            _ => &self.clients,
        }
    }
}

/// A session, and its legs.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    /// Which of the configured services it is.
    pub(super) service: u16,
    pub(super) legs: [Option<ConnId>; LEGS],
    pub(super) machine: Machine,
    /// Leading: what memory is set aside for it.
    pub(super) shares: [Share; 2],
    /// Leading: the server whose leg has broken last, which is not asked next.
    broke: Option<Endpoint>,
    /// As what it is counted: see [`Machine::is_mirrored`].
    counts: Option<bool>,
}

impl Session {
    fn new(id: SessionId, service: u16, legs: [Option<ConnId>; LEGS], machine: Machine) -> Self {
        let shares = Default::default();
        Self { id, service, legs, machine, shares, broke: None, counts: None }
    }

    /// What is to be set aside for it, of which a client that has not heard it yet keeps its part.
    fn keeps(&self, legs: &mut dyn Legs) -> [u64; 2] {
        let mut keeps = self.machine.keeps();
        if self.shares[Keep::Reply as usize].has_some() {
            let told = legs.leg(CLIENT).map_or(0, |app| app.unheard());
            keeps[Keep::Reply as usize] = keeps[Keep::Reply as usize].max(told);
        }
        keeps
    }
}

/// Every session of this engine, its own or held for the peer.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) slots: Slots<Box<Session>>,
    serial: u32,
    /// Those with two servers, and those that were to have two and have one.
    mirrored: [usize; 2],
    /// Room for what a session works on while it is called.
    scratch: Vec<u8>,
}

/// What became of a wish for a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialled {
    Yes,
    /// There is no room for another connection.
    NoRoom,
    /// No backend serves, or has a port left.
    NoBackend,
}

/// A session's legs, where they are.
pub(super) struct There<'a> {
    pub(super) table: &'a mut Table,
    pub(super) legs: [Option<ConnId>; LEGS],
    /// One that is no more, for the event that says so: what it said last is to be taken.
    pub(super) gone: Option<(Leg, &'a mut App)>,
}

impl Legs for There<'_> {
    fn leg(&mut self, leg: Leg) -> Option<&mut App> {
        if let Some((gone, app)) = &mut self.gone
            && *gone == leg
        {
            return Some(app);
        }
        let id = self.legs.get(usize::from(leg)).copied().flatten()?;
        Some(&mut self.table.get_mut(id)?.app)
    }
}

impl Sessions {
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.slots.get_mut(slot as usize).map(|session| &mut **session)
    }

    /// A new one, whose first leg is `client`.
    fn begin(&mut self, service: u16, client: ConnId, machine: Machine) -> Option<Place> {
        let slot = u32::try_from(self.slots.vacant()).ok()?;
        self.serial = self.serial.wrapping_add(1);
        let id = SessionId(u64::from(self.serial) << 32 | u64::from(slot));
        self.insert(Session::new(id, service, [Some(client), None, None], machine))
            .then_some(Place { slot, leg: CLIENT })
    }

    fn insert(&mut self, session: Session) -> bool {
        self.serial = self.serial.max((session.id.0 >> 32) as u32);
        let slot = session.id.0 as u32;
        let inserted = self.slots.insert(slot as usize, Box::new(session)).is_ok();
        self.recount(slot);
        inserted
    }

    fn remove(&mut self, slot: u32) {
        if let Some(session) = self.slots.remove(slot as usize) {
            self.count(session.counts, None);
        }
    }

    /// The session in `slot` may count as something else now.
    fn recount(&mut self, slot: u32) {
        let Some(session) = self.get_mut(slot) else { return };
        let counts = session.machine.is_mirrored();
        let before = core::mem::replace(&mut session.counts, counts);
        self.count(before, counts);
    }

    fn count(&mut self, before: Option<bool>, now: Option<bool>) {
        for (count, kind) in self.mirrored.iter_mut().zip([true, false]) {
            assert!(*count > 0 || before != Some(kind), "what is left was counted");
            *count = *count + usize::from(now == Some(kind)) - usize::from(before == Some(kind));
        }
    }

    /// How many have two servers on the same input, and how many were to have two and have one.
    pub(super) const fn mirrored(&self) -> [usize; 2] {
        self.mirrored
    }

    /// Takes everything out.
    pub(super) fn take(&mut self) -> Slots<Box<Session>> {
        self.mirrored = [0; 2];
        core::mem::take(&mut self.slots)
    }

    /// By when the session in `slot` is to be called for the time's sake.
    pub(super) fn deadline(&self, slot: u32, kind: Kind) -> Option<Instant> {
        let machine = &self.slots.get(slot as usize)?.machine;
        [machine.deadline(kind), machine.look_at(kind)].into_iter().flatten().min()
    }

    /// Whether the session in `slot` could leave its server.
    pub(super) fn can_leave(&self, slot: u32) -> bool {
        self.slots.get(slot as usize).is_some_and(|session| session.machine.can_leave())
    }

    /// What the session in `slot` takes in memory beside what its legs do, bytes.
    pub(super) fn memory(&self, slot: u32) -> usize {
        self.slots.get(slot as usize).map_or(0, |session| session.machine.memory())
    }
}

impl Engine {
    /// A connection has come that is the first leg of a session.
    pub(super) fn begin_session(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let service = connection.service;
        let key = self.secret.session_key(&connection.tuple, id.0);
        let Some(machine) = Machine::new(self.setup.services[usize::from(service)].kind, key)
        else {
            return;
        };
        let place = self.sessions.begin(service, id, machine);
        place.into_iter().for_each(|place| connection.app.take_place(place));
        self.make_leg_room(id);
    }

    /// Whether a service needs a server for the client of `tuple`, none serves, and it has no words of its
    /// own to say so.
    pub(super) fn lacks_backend(&self, service: u16, tuple: &FourTuple) -> bool {
        let ServicePort { port, kind, .. } = self.setup.services[usize::from(service)];
        matches!(kind, Kind::Join(_) | Kind::Mirror(..))
            && !self.relays.has_backend(port, tuple.is_ipv6())
    }

    /// Tells a session of `event`, which the record at `last` stands for. `origin`: the leg that it is
    /// an event of, for which its record has been noted already.
    pub(super) fn call_session(
        &mut self,
        now: Instant,
        slot: u32,
        event: Event,
        origin: Option<ConnId>,
        last: Option<Lsn>,
    ) {
        self.call_session_without(now, slot, event, origin, last, None);
    }

    /// The same, when a leg is no more.
    fn call_session_without(
        &mut self,
        now: Instant,
        slot: u32,
        event: Event,
        origin: Option<ConnId>,
        last: Option<Lsn>,
        gone: Option<(Leg, &mut App)>,
    ) {
        let lead = self.owns();
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let legs = session.legs;
        if lead {
            legs.into_iter().flatten().for_each(|id| self.wake(now, id));
        }
        let before = legs.map(|id| self.stands_at(id?));
        let mut effects = Vec::new();
        let buffer = self.memory.leg_buffer(self.setup.limits.output_buffer);
        let Self { sessions, table, reserve, .. } = self;
        let mut scratch = core::mem::take(&mut sessions.scratch);
        let Some(session) = sessions.get_mut(slot) else { return };
        let mut call = Call {
            lead,
            now,
            buffer,
            effects: &mut effects,
            scratch: &mut scratch,
            #[cfg(feature = "defects")]
            defect: self.setup.defect,
        };
        let mut there = There { table, legs, gone };
        session.machine.on_event(event, &mut there, &mut call);
        let mut waits = [false; 2];
        if lead {
            let keeps = session.keeps(&mut there);
            waits = reserve.ask(session.id, &mut session.shares, keeps);
        }
        session.machine.open_windows(waits, &mut there, &call);
        sessions.scratch = scratch;
        sessions.recount(slot);
        for (id, before) in legs.into_iter().zip(before) {
            let Some(id) = id else { continue };
            if let (Some(lsn), Some(before)) = (last, before)
                && origin != Some(id)
            {
                self.hold_back(id, before, lsn);
            }
            self.settle_leg(now, id, lead);
        }
        for effect in effects.into_iter().filter(|_| lead) {
            self.carry_effect(now, slot, effect);
        }
    }

    fn stands_at(&mut self, id: ConnId) -> Option<Before> {
        let connection = self.table.get_mut(id)?;
        let Body::Live(tcb) = &connection.body else { return None };
        Some(Before::of(tcb, &connection.app))
    }

    fn settle_leg(&mut self, now: Instant, id: ConnId, lead: bool) {
        if let Some(connection) = self.table.get_mut(id) {
            connection.settle();
        }
        if lead {
            self.make_leg_room(id);
        }
        self.note_memory(id);
        if lead {
            self.touch(now, id);
        }
    }

    fn carry_effect(&mut self, now: Instant, slot: u32, effect: Effect) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let leg = |leg: Leg| session.legs[usize::from(leg)];
        match effect {
            Effect::Reset(of) => leg(of).into_iter().for_each(|id| self.break_off(now, id)),
            Effect::Count(outcome) => {
                self.stats.exchanges.count(outcome);
                if outcome == Outcome::Answered {
                    let port = self.setup.services[usize::from(session.service)].port;
                    self.relays.on_answered(port);
                }
            }
            // It comes when there is memory for it.
            Effect::Dial(_) | Effect::DialOnceMore
                if session.shares[Keep::Request as usize].waits() => {}
            Effect::Dial(to) => self.dial_for(now, slot, to, true),
            Effect::DialOnceMore => {
                let port = self.setup.services[usize::from(session.service)].port;
                let may = self.relays.may_repeat(now, port);
                self.dial_for(now, slot, BACKEND, may);
            }
            Effect::Forsake(leg, why) => self.give_up(now, slot, leg, why),
            Effect::Lost(leg, why) => self.on_twin_lost(now, slot, leg, why),
            Effect::Differs { offset } => self.on_difference(now, slot, offset),
        }
    }

    /// Opens a leg, if it `may` be; else it is as if there were nobody to be dialled.
    fn dial_for(&mut self, now: Instant, slot: u32, leg: Leg, may: bool) {
        let client = self.sessions.get_mut(slot).and_then(|one| one.legs[usize::from(CLIENT)]);
        let Some(client) = client else { return };
        let dialled =
            if may { self.dial(now, slot, client, leg) } else { Some(Dialled::NoBackend) };
        match dialled {
            // Without room it is asked again when its time is up.
            None | Some(Dialled::Yes | Dialled::NoRoom) => {}
            Some(Dialled::NoBackend) if self.has_twins(slot) => {
                self.give_up(now, slot, leg, Loss::Absent);
            }
            Some(Dialled::NoBackend) => self.on_no_server(now, slot, client),
        }
    }

    /// No server takes the client: it is as with a port where nobody listens, unless its session waits.
    fn on_no_server(&mut self, now: Instant, slot: u32, client: ConnId) {
        let session = self.sessions.get_mut(slot);
        if session.is_some_and(|session| session.machine.waits_for_server(now)) {
            self.arm(now, client);
        } else {
            self.break_off(now, client);
        }
    }

    /// Opens a leg of a session to a backend.
    fn dial(&mut self, now: Instant, slot: u32, client: ConnId, of: Leg) -> Option<Dialled> {
        let twin = self.has_twins(slot).then(|| TWINS.iter().position(|twin| *twin == of));
        let Session { service, broke, .. } = self.sessions.get_mut(slot)?;
        let (service, broke) = (*service, broke.take());
        let tuple = self.table.get_mut(client)?.tuple;
        let port = self.setup.services[usize::from(service)].port;
        let leg = match twin {
            Some(place) => self.relays.dial_twin(now, port, &tuple, place?),
            None => self.relays.dial(now, port, &tuple, broke),
        };
        self.follow_relays(now);
        let Some(leg) = leg else { return Some(Dialled::NoBackend) };
        let Some(id) = self.make_room(now).filter(|_| self.table.find(leg).is_none()) else {
            self.relays.hang_up(&leg);
            return Some(Dialled::NoRoom);
        };
        let clock = self.clock.at(now);
        let offset = self.secret.ts_offset(&leg).wrapping_add(self.clock.ahead_millis());
        let iss = self.secret.isn(&leg, clock);
        let kind = self.setup.services[usize::from(service)].kind;
        let (tcp, mtu) = (self.tcp_for.of(kind, true), self.setup.mtu);
        let tcb = Tcb::connect(tcp, now, iss, offset, mtu, leg.is_ipv6());
        let app = App::new(kind, &self.setup.limits);
        let mut connection = Connection::new(id, leg, service, app, Body::Live(Box::new(tcb)));
        connection.app.take_place(Place { slot, leg: of });
        let inserted = self.table.insert(Box::new(connection));
        assert!(inserted.is_ok(), "a vacant slot takes a connection of a free leg");
        self.sessions.get_mut(slot)?.legs[usize::from(of)] = Some(id);
        self.make_leg_room(id);
        self.replicate_opened(now, id);
        self.touch(now, id);
        Some(Dialled::Yes)
    }

    /// The handshake of a connection is done.
    pub(super) fn on_stands(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let (tuple, Some(Place { slot, leg })) = (connection.tuple, connection.place()) else {
            return;
        };
        if leg != CLIENT && self.owns() {
            self.relays.on_dialled(now, &tuple, true);
            self.follow_relays(now);
        }
        self.call_session(now, slot, Event::Stands(leg), None, None);
    }

    /// A connection is no more, which the record at `last` says.
    pub(super) fn leave_session(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        cause: CloseCause,
        last: Option<Lsn>,
    ) {
        let Some(Place { slot, leg }) = connection.place() else { return };
        if leg != CLIENT {
            // Of itself, that is: a client may have left before it answered.
            let refused = cause == CloseCause::Reset && !connection.handshake_logged;
            self.leave_backend(now, &connection.tuple, refused);
        }
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.legs[usize::from(leg)] = None;
        if session.legs == [None; LEGS] {
            self.reserve.release(session.id, &mut session.shares);
            self.sessions.remove(slot);
            return;
        }
        let orderly = cause == CloseCause::Done;
        if leg != CLIENT && !orderly {
            session.broke = Some(connection.tuple.remote);
        }
        #[cfg(feature = "defects")]
        if leg != CLIENT && !self.owns() && self.setup.has(Defect::ServerEndNotFollowed) {
            return;
        }
        let gone = Some((leg, &mut connection.app));
        self.call_session_without(now, slot, Event::Closed { leg, orderly }, None, last, gone);
    }

    fn leave_backend(&mut self, now: Instant, leg: &FourTuple, refused: bool) {
        if refused && self.owns() {
            self.relays.on_dialled(now, leg, false);
            self.follow_relays(now);
        }
        self.relays.hang_up(leg);
    }

    /// A leg has become this engine's own: so do the others, and the session asks for what it lacks.
    pub(super) fn wake_session(&mut self, now: Instant, place: Place) {
        let Some(session) = self.sessions.get_mut(place.slot) else { return };
        let legs = session.legs;
        legs.into_iter().flatten().for_each(|id| self.wake(now, id));
        self.call_session(now, place.slot, Event::Lead, None, None);
    }

    /// The session of a connection may have waited for long enough.
    pub(super) fn tick(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let (service, Some(place)) = (connection.service, connection.place()) else { return };
        let kind = self.setup.services[usize::from(service)].kind;
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !due(self.sessions.deadline(place.slot, kind)) {
            return;
        }
        let machine = self.sessions.get_mut(place.slot).map(|session| &session.machine);
        if due(machine.and_then(|machine| machine.look_at(kind))) {
            self.look_at_servers(now, place.slot, kind);
        }
        let Self { sessions, table, .. } = self;
        let Some(session) = sessions.get_mut(place.slot) else { return };
        let legs = session.legs;
        if !due(session.machine.deadline(kind))
            || !session.machine.is_idle(now, &mut There { table, legs, gone: None })
        {
            return;
        }
        self.end_wait(now, id, place.slot);
    }

    /// The session in `slot`, of which `id` is a leg, has waited for long enough: it is told, and the
    /// standby, too.
    pub(super) fn end_wait(&mut self, now: Instant, id: ConnId, slot: u32) {
        let told = self.table.get_mut(id).is_some_and(|connection| connection.replicated);
        let last = if told { self.append(&Record::Tick { conn: id }) } else { None };
        self.call_session(now, slot, Event::Tick, None, last);
    }

    /// A server has been silent for a while: the session is told which of its backends count as up.
    fn look_at_servers(&mut self, now: Instant, slot: u32, kind: Kind) {
        let Self { sessions, table, relays, .. } = self;
        let Some(session) = sessions.get_mut(slot) else { return };
        let up = session.legs.map(|id| {
            let leg = id.and_then(|id| table.get_mut(id));
            leg.is_none_or(|connection| relays.serves_leg(&connection.tuple))
        });
        if let Some(effect) = session.machine.look(now, kind, up) {
            self.carry_effect(now, slot, effect);
        }
    }

    /// The legs of the session that `id` is a leg of, itself first; itself alone if it is of none.
    pub(super) fn legs_with(&mut self, id: ConnId) -> impl Iterator<Item = ConnId> + use<> {
        let place = self.table.get_mut(id).and_then(|connection| connection.place());
        let session = place.and_then(|place| self.sessions.get_mut(place.slot));
        let legs = session.map_or([None; LEGS], |session| session.legs);
        let others = legs.into_iter().flatten().filter(move |leg| *leg != id);
        core::iter::once(id).chain(others)
    }

    /// Whether the standby knows the other legs of the session of `id`; `None` if none of them was to be
    /// told before.
    pub(super) fn other_legs_are_told(&mut self, id: ConnId) -> Option<bool> {
        let mut told = None;
        for leg in self.legs_with(id).skip(1) {
            let Some(of) = self.table.get_mut(leg) else { continue };
            if of.replicated || of.exposed {
                told = Some(of.replicated && told.unwrap_or(true));
            }
        }
        told
    }

    /// Appends what the first record of a leg says of its session. `first`: of its legs it is the first
    /// that is told.
    pub(super) fn put_membership(&mut self, place: Place, first: bool, out: &mut Vec<u8>) {
        let Some(Session { id, machine, .. }) = self.sessions.get_mut(place.slot) else { return };
        let mut state = Vec::new();
        machine.encode(&mut state);
        let state = first.then_some(&*state);
        Membership { session: *id, leg: place.leg, state }.encode(out);
    }

    /// Follower: a leg is told. Returns its place.
    pub(super) fn hold_leg(
        &mut self,
        id: ConnId,
        tuple: FourTuple,
        service: u16,
        membership: &Membership<'_>,
    ) -> Result<Place, &'static str> {
        let Membership { session, leg, state } = *membership;
        let slot = session.0 as u32;
        if let Some(state) = state {
            let kind = self.setup.services[usize::from(service)].kind;
            let machine = Machine::decode(kind, state).ok_or("session does not decode")?;
            let held = Session::new(session, service, [None; LEGS], machine);
            // As many as there may be connections: no name leads farther.
            if slot as usize >= self.setup.connections_max.saturating_mul(2)
                || !self.sessions.insert(held)
            {
                return Err("session's place is taken");
            }
        }
        let Some(found) = self.sessions.get_mut(slot).filter(|found| found.id == session) else {
            return Err("leg of an unknown session");
        };
        if found.service != service {
            return Err("leg of another service's session");
        }
        if usize::from(leg) >= found.machine.legs() {
            return Err("session has no such leg");
        }
        let place = &mut found.legs[usize::from(leg)];
        if place.is_some() {
            return Err("session has that leg already");
        }
        *place = Some(id);
        if leg != CLIENT {
            let port = self.setup.services[usize::from(service)].port;
            self.relays.hold_dialled(port, tuple)?;
        }
        Ok(Place { slot, leg })
    }

    /// Whether the standby can be told of sessions.
    pub(super) fn tells_sessions(&self) -> bool {
        self.link.speaks(VERSION_SESSIONS)
    }
}
