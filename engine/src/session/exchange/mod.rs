//! An exchange: requests of one client, each answered by a server whose death does not show.
//!
//! ```text
//!   client leg    ├─ head ─┼─ body ─┤        next request waits ─────────────┼─ …
//!                     │ kept                                                ▲
//!                     ▼                                                     │
//!   server leg    dial ─► push ─► reply ──╳ dies: dial ─► push ─► verified ─┴─ done
//! ```
//!
//! Both nodes read both legs, so what this answers is a function of the order of their bytes and ends
//! and of nothing else: never of how they were cut, nor of what was acknowledged. So all input is taken
//! as it comes, and a slow reader slows the writer by credit ([`App::credit`](crate::service::App::credit)):
//! what was taken opens the window only when the other leg has room for it.
//!
//! I8: a request of which a server may have seen a byte is sent to another one only where
//! [`Rules::again`] permits. I6: a reply that cannot be continued exactly ends in a reset.

mod digest;
mod own;
mod promise;
mod reply;
mod request;
#[cfg(test)]
mod tests;

use super::{BACKEND, CLIENT, Call, Effect, Event, Keep, Leg, Legs, other};
use crate::codec::{Reader, put_number};
#[cfg(feature = "defects")]
use crate::defects::Defect;
use crate::http::{Part, Persist, RequestHead, Scan, scan};
use crate::service::{HttpPatience, Masking, Oversize, Rules};
use crate::time::{Duration, Instant};

use digest::Points;
use own::{Objection, Trouble};
use reply::{Fault, Reply, Scene};
use request::Request;

/// How many servers are asked in vain for one request, before one has seen it.
const REFUSALS: u8 = 4;

/// How long nobody is asked when nobody can be, the first time; twice as long each time after.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a server that has a request may say nothing before it is asked of its backend whether that
/// still serves, and from one such question to the next.
const SILENCE: Duration = Duration::from_secs(1);

/// For less than this no memory is set aside, in bytes.
const SMALL: u64 = 16 << 10;

/// How long a request waits for memory before it counts as one that gets none.
const MEMORY_WAIT: Duration = Duration::from_secs(60);

/// What has become of a request, to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A server has answered it.
    Answered,
    /// It was sent to another server, the one before having died.
    Repeated,
    /// A reply that one server began was ended by another one.
    Continued,
    /// It was refused as it was: 4xx, or 501, 505.
    Refused,
    /// The client was told that no server could be reached, or that what became of it is not known: 502.
    Failed,
    /// The client was told that no server had answered in time: 504.
    TimedOut,
    /// The reply could not be continued, and the client was reset.
    Broken,
}

/// The server of the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    None,
    /// It has been asked for, and may be being dialled.
    Wanted,
    Stands,
    /// It gets nothing more, and what it says is not listened to.
    Leaving {
        /// Nobody waits for its end.
        cut: bool,
    },
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    rules: Rules,
    /// Names its requests, and the points of its digests.
    key: [u8; 16],
    /// Requests so far.
    number: u64,
    /// How much of the next head has been looked at.
    scanned: usize,
    server: Server,
    request: Option<Box<Request>>,
    reply: Box<Reply>,
    /// The server of the moment gets no other request than the one that it has.
    leaves: bool,
    /// Both legs speak another protocol from here on.
    tunnel: bool,
    /// The client gets nothing more, and is not listened to.
    over: bool,
    /// It cannot go on.
    broken: bool,
    /// What was taken from each leg without opening its window.
    debts: [u64; 2],
    /// Leading: since when nothing has happened.
    since: Option<Instant>,
    /// Leading: since when it waits for memory.
    waits_since: Option<Instant>,
    /// Leading: when a server is looked for again, there having been none.
    again_at: Option<Instant>,
    /// Leading: when it is asked next whether a silent server's backend serves; `None`: after
    /// [`SILENCE`].
    look_at: Option<Instant>,
}

impl Exchange {
    /// One whose client has not said anything. `key`: nobody else knows it.
    #[must_use]
    pub fn new(rules: Rules, key: [u8; 16]) -> Self {
        Self {
            rules,
            key,
            number: 0,
            scanned: 0,
            server: Server::None,
            request: None,
            reply: Box::new(Reply::new(false)),
            leaves: false,
            tunnel: false,
            over: false,
            broken: false,
            debts: [0; 2],
            since: None,
            waits_since: None,
            again_at: None,
            look_at: None,
        }
    }

    /// Something has happened.
    pub fn on_event(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let before = self.marks(legs);
        if !self.broken {
            self.note(event, legs, call);
            self.advance(legs, call);
        }
        if self.broken {
            call.effects.extend([CLIENT, BACKEND].map(Effect::Reset));
            return;
        }
        if call.lead && (before != self.marks(legs) || self.since.is_none()) {
            self.since = Some(call.now);
            (self.again_at, self.look_at) = (None, None);
        }
        if !call.lead {
            // What was measured on another node is no wait of ours.
            (self.since, self.again_at, self.look_at) = (None, None, None);
        }
    }

    /// What changes when something goes on.
    fn marks(&self, legs: &mut dyn Legs) -> (Server, u64, [u64; 4]) {
        let mut mark = |leg| legs.leg(leg).map_or((0, 0), |app| (app.consumed(), app.output_end()));
        let (client, server) = (mark(CLIENT), mark(BACKEND));
        let debts = self.debts;
        let said = [client.0 + debts[0], client.1, server.0 + debts[1], server.1];
        (self.server, self.number, said)
    }

    fn note(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        match event {
            Event::Moved | Event::Stands(CLIENT) | Event::GivenUp { .. } => {}
            Event::Stands(_) => {
                if self.server == Server::Wanted {
                    self.server = Server::Stands;
                }
            }
            Event::Closed { leg: BACKEND, orderly } => self.on_server_gone(orderly, legs, call),
            Event::Closed { leg: _, orderly } => self.on_client_gone(orderly, legs, call),
            Event::Tick => self.on_tick(legs, call),
            Event::Leave => self.on_leave(legs, call),
            Event::Lead => match self.server {
                Server::Wanted if legs.leg(BACKEND).is_none() => {
                    call.effects.extend(self.request.as_deref().map(Request::dial));
                }
                Server::Leaving { .. } => call.effects.push(Effect::Reset(BACKEND)),
                Server::None | Server::Wanted | Server::Stands => {}
            },
        }
    }

    /// Goes as far as what has been said allows.
    fn advance(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        while !self.broken
            && (self.read_client(legs, call)
                || self.ask_server(legs, call)
                || self.read_server(legs, call)
                || self.turn_over(legs, call))
        {}
    }

    /// Takes what the client has said, one step of it. Whether there was one.
    fn read_client(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        if self.tunnel {
            return self.forward(CLIENT, legs);
        }
        let Some(app) = legs.leg(CLIENT) else { return false };
        if self.over {
            let left = app.unread().len();
            app.take_on_credit(left);
            app.credit(left as u64);
            return false;
        }
        match &self.request {
            None => self.read_head(legs, call),
            Some(request) if request.is_whole() => false,
            // What is not kept waits where it is for somebody to take it.
            Some(request) => (request.kept || request.pushed) && self.read_body(legs, call),
        }
    }

    fn read_head(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        let Some(app) = legs.leg(CLIENT) else { return false };
        match scan(app.unread(), self.scanned) {
            Scan::More(at) => {
                self.scanned = at;
                if app.says_no_more() {
                    self.finish(legs);
                }
                false
            }
            Scan::Blank(count) => {
                self.scanned = 0;
                app.take_on_credit(count);
                app.credit(count as u64);
                true
            }
            Scan::Bad(refusal) => self.refuse(Objection::Malformed(refusal), legs, call),
            Scan::Head(length) => {
                self.scanned = 0;
                let head = app.unread()[..length].to_vec();
                app.take_on_credit(length);
                app.credit(length as u64);
                self.number += 1;
                let parsed = match RequestHead::parse(&head) {
                    Ok(parsed) => parsed,
                    Err(refusal) => return self.refuse(Objection::Malformed(refusal), legs, call),
                };
                let key = || own::key(&self.key, self.number);
                let Some(request) = Request::new(&head, &parsed, &self.rules, key) else {
                    return self.refuse(Objection::TooLong, legs, call);
                };
                self.request = Some(Box::new(request));
                *self.reply = Reply::new(self.rules.masking == Masking::Journal);
                true
            }
        }
    }

    /// Takes what has come of the request's body.
    fn read_body(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        let (Some(request), Some(app)) = (&mut self.request, legs.leg(CLIENT)) else {
            return false;
        };
        let Some(body) = &mut request.body else { return false };
        let (input, mut at, mut ended) = (app.unread(), 0, false);
        let was = *body;
        let fault = loop {
            match body.next(&input[at..]) {
                Ok(Part::Data(count) | Part::Framing(count) | Part::Trailer(count)) => at += count,
                Ok(Part::End(count)) => {
                    (at, ended) = (at + count, true);
                    break None;
                }
                Ok(Part::More) => {
                    at = input.len();
                    break None;
                }
                Err(refusal) => break Some(refusal),
            }
        };
        if let Some(refusal) = fault {
            return self.refuse(Objection::Malformed(refusal), legs, call);
        }
        if request.kept && request.bytes.len() + at > self.rules.request_max as usize {
            if self.rules.oversize == Oversize::Refuse {
                return self.refuse(Objection::TooLong, legs, call);
            }
            if !request.pushed {
                // It waits where it is for a server.
                *body = was;
                request.kept = false;
                return true;
            }
            request.kept = false;
            request.bytes = Vec::new();
        }
        if request.kept {
            append(&mut request.bytes, &input[..at]);
        }
        let pushes = request.pushed && self.server == Server::Stands;
        let piece = if pushes { input[..at].to_vec() } else { Vec::new() };
        app.take_on_credit(at);
        self.debts[usize::from(CLIENT)] += at as u64;
        if ended {
            request.body = None;
        } else if app.has_ended() {
            // What is cut short never looks complete.
            self.broken = true;
        }
        if let Some(server) = legs.leg(BACKEND) {
            server.say(&piece);
        }
        ended
    }

    /// Sees to it that a server has the request. Whether that was news.
    fn ask_server(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        let Some(request) = &mut self.request else { return false };
        if request.pushed {
            return false;
        }
        match self.server {
            Server::None => {
                (self.server, self.leaves) = (Server::Wanted, false);
                call.effects.push(request.dial());
                false
            }
            Server::Leaving { cut: false } => {
                self.server = Server::Leaving { cut: true };
                call.effects.push(Effect::Reset(BACKEND));
                false
            }
            Server::Wanted | Server::Leaving { cut: true } => false,
            Server::Stands => {
                request.pushed = true;
                request.attempts = request.attempts.saturating_add(1);
                let rest = self.reply.rest().filter(|_| request.whole);
                if let Some(server) = legs.leg(BACKEND) {
                    match &rest {
                        Some(rest) => server.say(&request.asking_for(rest)),
                        None => server.say(&request.bytes),
                    }
                }
                if rest.is_some() {
                    self.reply.ask_rest();
                }
                if !request.kept {
                    request.bytes = Vec::new();
                }
                true
            }
        }
    }

    /// Takes what the server has said. Whether there was something.
    fn read_server(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        if self.tunnel {
            return self.forward(BACKEND, legs);
        }
        let Some(app) = legs.leg(BACKEND) else { return false };
        if let Server::Leaving { .. } = self.server {
            let left = app.unread().len();
            app.take_on_credit(left);
            app.credit(left as u64);
            return false;
        }
        if self.server != Server::Stands {
            return false;
        }
        let input = app.unread();
        let Some(request) = self.request.as_deref().filter(|request| request.pushed) else {
            // Nobody has asked it anything.
            if !input.is_empty() || app.says_no_more() {
                let cut = !app.unread().is_empty();
                self.leave(cut, legs, call);
            }
            return false;
        };
        if self.reply.is_done() {
            return false;
        }
        let points = Points::new(self.key);
        let scene = Scene {
            points: &points,
            request,
            gathers: self.rules.reply_max as usize,
            refuses: self.rules.oversize == Oversize::Refuse,
            #[cfg(feature = "defects")]
            blind: call.errs(Defect::GoOnUnverified),
        };
        let mut out = core::mem::take(call.scratch);
        out.clear();
        let length = input.len();
        let mut read = self.reply.read(input, &scene, &mut out);
        let taken = length - read.unwrap_or(0);
        app.take_on_credit(taken);
        self.debts[usize::from(BACKEND)] += taken as u64;
        let ended = app.has_ended();
        if ended && read.is_ok() && !self.reply.is_tunnel() && !self.reply.is_done() {
            read = match self.reply.end(&mut out) {
                Ok(true) => Ok(0),
                #[cfg(feature = "defects")]
                Ok(false) if call.errs(Defect::EarlyEndIsEnd) && self.reply.shows() => {
                    self.reply.end_early();
                    Ok(0)
                }
                // It has ended too early: as if it had died.
                Ok(false) => {
                    self.leave(true, legs, call);
                    Ok(0)
                }
                Err(fault) => Err(fault),
            };
        }
        if let Some(client) = legs.leg(CLIENT) {
            client.say(&out);
        }
        *call.scratch = out;
        match read {
            Err(fault) => self.on_fault(fault, legs, call),
            Ok(_) => self.tunnel = self.reply.is_tunnel(),
        }
        taken > 0 || self.reply.is_done() || self.tunnel
    }

    /// A server has said what cannot be passed on.
    fn on_fault(&mut self, fault: Fault, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let trouble = match fault {
            Fault::Malformed(refusal) => Trouble::Malformed(refusal),
            Fault::Unasked => Trouble::Unasked,
            Fault::Unfit => {
                // As if it had died: its end is an event of its own.
                return self.leave(true, legs, call);
            }
            Fault::Differs => Trouble::Differs,
            Fault::TooLong => Trouble::TooLong,
        };
        self.give_up(trouble, legs, call);
    }

    /// A reply has ended: the next request is read, or the connection ends. Whether something happened.
    fn turn_over(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        let Some(request) = self.request.as_deref().filter(|_| self.reply.is_done()) else {
            return false;
        };
        let goes_on = request.persist != Persist::Close && !self.reply.closes();
        if !request.is_whole() && self.reply.persists {
            return false;
        }
        let (whole, again) = (request.is_whole(), request.attempts > 1);
        call.effects.push(Effect::Count(Outcome::Answered));
        if again {
            call.effects.push(Effect::Count(Outcome::Continued));
        }
        if !self.reply.persists || self.leaves {
            self.leave(false, legs, call);
        }
        self.request = None;
        if !whole || !goes_on {
            self.finish(legs);
        }
        true
    }

    /// The client gets nothing more, nor does the server.
    fn finish(&mut self, legs: &mut dyn Legs) {
        self.over = true;
        if let Some(client) = legs.leg(CLIENT) {
            client.finish();
        }
        if self.server == Server::Stands {
            self.server = Server::Leaving { cut: false };
            if let Some(server) = legs.leg(BACKEND) {
                server.finish();
            }
        }
    }

    /// The server is not needed any more: at once, or when it has heard all.
    fn leave(&mut self, cut: bool, legs: &mut dyn Legs, call: &mut Call<'_>) {
        match self.server {
            Server::None | Server::Leaving { cut: true } => return,
            Server::Wanted | Server::Stands | Server::Leaving { cut: false } => {}
        }
        let cut = cut || self.server == Server::Wanted;
        self.server = Server::Leaving { cut };
        match (cut, legs.leg(BACKEND)) {
            (true, Some(_)) => call.effects.push(Effect::Reset(BACKEND)),
            (false, Some(server)) => server.finish(),
            (_, None) => self.server = Server::None,
        }
    }

    /// The client's request is none that is taken.
    fn refuse(&mut self, why: Objection, legs: &mut dyn Legs, call: &mut Call<'_>) -> bool {
        call.effects.push(Effect::Count(Outcome::Refused));
        if self.request.is_some() && self.reply.shows() {
            self.broken = true;
            return false;
        }
        self.request = None;
        self.leave(true, legs, call);
        if let Some(client) = legs.leg(CLIENT) {
            client.say(&own::objection(why));
        }
        self.finish(legs);
        true
    }

    /// No server has answered the request, and none will.
    fn give_up(&mut self, trouble: Trouble, legs: &mut dyn Legs, call: &mut Call<'_>) {
        self.leave(true, legs, call);
        let Some(request) = self.request.take() else { return };
        if self.reply.shows() {
            call.effects.push(Effect::Count(Outcome::Broken));
            self.broken = true;
            return;
        }
        call.effects.push(Effect::Count(trouble.outcome()));
        let goes_on = request.is_whole() && request.persist == Persist::Keep;
        if let Some(client) = legs.leg(CLIENT) {
            client.say(&own::reply(trouble, request.asked, goes_on));
        }
        if !goes_on {
            self.finish(legs);
        }
    }

    fn on_server_gone(&mut self, orderly: bool, legs: &mut dyn Legs, call: &mut Call<'_>) {
        // What it said last.
        while self.read_server(legs, call) && !self.reply.is_done() {}
        self.server = Server::None;
        self.debts[usize::from(BACKEND)] = 0;
        if self.tunnel {
            self.broken |= !orderly;
        } else if !self.reply.is_done() && self.request.is_some() {
            self.on_server_lost(legs, call);
        }
    }

    /// The server that had, or was to have, the request is no more.
    fn on_server_lost(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let Some(request) = &mut self.request else { return };
        if !request.pushed {
            request.refusals += 1;
            if request.refusals >= REFUSALS {
                self.give_up(Trouble::NoServer, legs, call);
            }
            return;
        }
        let fruitless = if self.reply.progressed { 0 } else { request.fruitless };
        request.fruitless = fruitless + 1;
        let repeatable = request.repeatable;
        #[cfg(feature = "defects")]
        let repeatable = repeatable || call.errs(Defect::SendAgainUnasked);
        if !request.kept || !repeatable || request.fruitless > self.rules.retries {
            return self.give_up(Trouble::Unknown, legs, call);
        }
        (request.pushed, request.refusals) = (false, 0);
        self.reply.begin_again();
        call.effects.push(Effect::Count(Outcome::Repeated));
    }

    fn on_client_gone(&mut self, orderly: bool, legs: &mut dyn Legs, call: &mut Call<'_>) {
        if self.tunnel {
            while self.forward(CLIENT, legs) {}
            self.broken |= !orderly;
            return;
        }
        let idle = self.request.take().is_none();
        self.over = true;
        self.leave(!idle, legs, call);
    }

    /// Whether the server can be left that is there, or is being asked for.
    pub fn can_leave(&self) -> bool {
        let there = matches!(self.server, Server::Wanted | Server::Stands);
        there && !self.leaves && !self.tunnel && !self.over && !self.broken
    }

    /// The server is to get no other request. One that has none is left at once, and one that has not answered
    /// its SYN, which another one may have then.
    fn on_leave(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        if !self.can_leave() {
            return;
        }
        self.leaves = true;
        if !self.request.as_deref().is_some_and(|request| request.pushed) {
            self.leave(self.server == Server::Wanted, legs, call);
        }
    }

    fn on_tick(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let Some(request) = self.request.as_deref() else {
            if self.tunnel || self.over {
                self.broken = true;
            } else if legs.leg(CLIENT).is_some_and(|client| !client.unread().is_empty()) {
                self.refuse(Objection::Late, legs, call);
            } else {
                self.finish(legs);
            }
            return;
        };
        if self.tunnel {
            self.broken = true;
        } else if !request.pushed {
            if legs.leg(BACKEND).is_some() {
                // Its end is an event of its own.
                call.effects.push(Effect::Reset(BACKEND));
            } else {
                self.server = Server::None;
                self.on_server_lost(legs, call);
            }
        } else if !request.is_whole() {
            self.refuse(Objection::Late, legs, call);
        } else if !self.reply.has_begun() {
            self.give_up(Trouble::TimedOut, legs, call);
        } else {
            // As if it had died: its end is an event of its own.
            self.leave(true, legs, call);
        }
    }

    /// Of a tunnel: what one end has said goes to the other one, and its end behind it.
    fn forward(&mut self, from: Leg, legs: &mut dyn Legs) -> bool {
        let Some(source) = legs.leg(from) else { return false };
        let piece = source.unread().to_vec();
        source.take_on_credit(piece.len());
        let ended = source.has_ended();
        self.debts[usize::from(from)] += piece.len() as u64;
        let Some(target) = legs.leg(other(from)) else { return false };
        target.say(&piece);
        if ended {
            target.finish();
        }
        !piece.is_empty()
    }

    /// What of a request and a reply is kept at once, at most; it may grow.
    pub fn keeps(&self) -> [u64; 2] {
        let request = self.request.as_deref().filter(|request| request.kept);
        let request = request.map_or(0, |request| request.keeps(self.rules.request_max));
        let reply = if self.request.is_some() { self.reply.keeps(self.rules.reply_max) } else { 0 };
        [request, reply].map(|keeps| if keeps < SMALL { 0 } else { keeps })
    }

    /// Whether more than a head is to be expected of a leg.
    pub fn is_wide(&self, leg: Leg) -> bool {
        let asked = self.request.as_deref();
        match leg {
            CLIENT => self.tunnel || asked.is_some_and(|request| !request.is_whole()),
            _ => self.tunnel || self.reply.is_wide(),
        }
    }

    /// Leading: since when there has been nothing more of a request that has begun.
    pub const fn request_idle_since(&self) -> Option<Instant> {
        match &self.request {
            Some(request) if request.body.is_some() => self.since,
            _ => None,
        }
    }

    /// Opens each leg's window by what the other one has room for, and as far as there is memory for what
    /// it brings.
    pub fn open_windows(&mut self, waits: [bool; 2], legs: &mut dyn Legs, call: &Call<'_>) {
        let waiting = call.lead && waits != [false; 2];
        if self.waits_since.is_some() && !waiting {
            // It may have waited for very long, and its client goes on now.
            self.since = Some(call.now);
        }
        self.waits_since = waiting.then(|| self.waits_since.unwrap_or(call.now));
        for keep in Keep::ALL {
            let leg = keep.leg();
            let excess = legs.leg(other(leg)).map_or(0, |target| target.excess(call.buffer));
            let debt = &mut self.debts[usize::from(leg)];
            let keeps = match call.lead {
                true if waits[keep as usize] => *debt,
                true => excess.min(*debt),
                false => 0,
            };
            if let Some(source) = legs.leg(leg) {
                source.credit(core::mem::replace(debt, keeps) - keeps);
            }
        }
    }

    /// Leading: no server is there to be dialled. Somebody may be in a moment.
    pub fn on_no_server(&mut self, now: Instant) {
        let refusals = self.request.as_deref().map_or(0, |request| request.refusals);
        self.again_at = Some(now + PAUSE * (1 << refusals.min(REFUSALS)));
    }

    /// Leading: whether it is idle, its time having come: not if an end has not heard all that it was told.
    pub fn is_idle(&mut self, now: Instant, legs: &mut dyn Legs) -> bool {
        if self.again_at.is_some_and(|at| at <= now) {
            return true;
        }
        if self.waits_since.is_some_and(|since| now < since + MEMORY_WAIT) {
            self.since = Some(now);
            return false;
        }
        let awaited = |leg| legs.leg(leg).is_some_and(|app| app.is_awaited());
        let waits = [CLIENT, BACKEND].into_iter().any(awaited);
        let asks = self.request.as_deref().is_some_and(|request| !request.pushed);
        if waits && !asks {
            self.since = Some(now);
            return false;
        }
        true
    }

    /// Leading: by when an [`Event::Tick`] is due.
    pub fn deadline(&self, patience: &HttpPatience) -> Option<Instant> {
        if self.broken {
            return None;
        }
        let wait = match self.request.as_deref() {
            Some(request) if !request.pushed => patience.connect,
            Some(request) if request.is_whole() && !self.reply.has_begun() => patience.first_byte,
            Some(_) | None => patience.idle,
        };
        let due = self.since? + wait;
        Some(self.again_at.map_or(due, |at| at.min(due)))
    }

    /// Leading: by when it is to be looked whether the server's backend serves: if not, the leg is to be
    /// reset, as the server is silent, too.
    pub fn look_at(&self) -> Option<Instant> {
        let pushed = self.request.as_deref().is_some_and(|request| request.pushed);
        let waits =
            pushed && self.server == Server::Stands && !self.reply.is_done() && !self.tunnel;
        self.look_at.or(Some(self.since? + SILENCE)).filter(|_| waits)
    }

    /// Leading: it was looked.
    pub fn looked(&mut self, now: Instant) {
        self.look_at = Some(now + SILENCE);
    }

    /// What it takes in memory beside what its legs do, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let request = self.request.as_deref().map_or(0, |request| request.bytes.capacity());
        request + self.reply.memory()
    }

    /// Appends everything that another node needs to go on from here.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            rules,
            key,
            number,
            scanned,
            server,
            request,
            reply,
            leaves,
            tunnel,
            over,
            broken,
            debts,
            since: _,
            waits_since: _,
            again_at: _,
            look_at: _,
        } = self;
        rules.encode(out);
        out.extend_from_slice(key);
        let flags = [*tunnel, *over, *broken, request.is_some(), *leaves];
        out.push(flags.into_iter().rev().fold(0, |flags, one| flags << 1 | u8::from(one)));
        out.push(match server {
            Server::None => 0,
            Server::Wanted => 1,
            Server::Stands => 2,
            Server::Leaving { cut: false } => 3,
            Server::Leaving { cut: true } => 4,
        });
        for number in [*number, *scanned as u64, debts[0], debts[1]] {
            put_number(out, number);
        }
        if let Some(request) = request {
            request.encode(out);
        }
        reply.encode(out);
    }

    /// Reads an encoded value.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let rules = Rules::decode(&mut reader)?;
        let key = reader.array()?;
        let flags = reader.byte().filter(|flags| *flags < 32)?;
        let server = match reader.byte()? {
            0 => Server::None,
            1 => Server::Wanted,
            2 => Server::Stands,
            3 => Server::Leaving { cut: false },
            4 => Server::Leaving { cut: true },
            _ => return None,
        };
        let number = reader.number()?;
        let scanned = usize::try_from(reader.number()?).ok()?;
        let debts = [reader.number()?, reader.number()?];
        let request = match flags & 8 {
            0 => None,
            _ => Some(Box::new(Request::decode(&mut reader)?)),
        };
        let reply = Box::new(Reply::decode(&mut reader)?);
        reader.end()?;
        Some(Self {
            rules,
            key,
            number,
            scanned,
            server,
            request,
            reply,
            leaves: flags & 16 != 0,
            tunnel: flags & 1 != 0,
            over: flags & 2 != 0,
            broken: flags & 4 != 0,
            debts,
            since: None,
            waits_since: None,
            again_at: None,
            look_at: None,
        })
    }
}

/// Appends to what may become long: with less room to grow than a vector takes by itself, as it counts.
fn append(kept: &mut Vec<u8>, bytes: &[u8]) {
    let (length, count) = (kept.len(), bytes.len());
    if kept.capacity() - length < count {
        kept.reserve_exact(count.max(length / 4));
    }
    kept.extend_from_slice(bytes);
}
