//! Static files over HTTP/1.1: GET and HEAD, persistent connections, pipelining, ranges,
//! conditional requests. RFC 9110 and 9112.
//!
//! Requests are answered one by one in their order. A head is found ([`crate::http`]), read
//! ([`request`]), the store is asked or a pin taken, the reply follows from both ([`mod@answer`]), and
//! the request's own body is read over up to the next head:
//!
//! ```text
//!   input   ├─ head ─┼─ body, discarded ─┼─ head ─┼─ …
//!                │                           │
//!           pin (clock, store)          pin
//!                ▼                           ▼
//!   output  ├─ head ─┼── file ──┼────── head ─┼── file ──┤
//! ```
//!
//! The primary stops reading while too many replies wait to be acknowledged; the standby never
//! does, its pins pace it. A reply may be under way before its request's body has all come; a body
//! that then turns out to be broken closes the connection behind that reply.
//!
//! No client is waited for without end ([`mod@patience`]). Whose request's head does not end is told so
//! (408, RFC 9110 §15.5.9); who asks for nothing, or sends no more of a body, sees the connection
//! closed, the latter behind its reply: a second one would be taken for that of another request; who
//! takes nothing of what it is told is reset.

mod answer;
mod condition;
#[cfg(test)]
mod late;
mod patience;
mod request;
mod status;
mod target;
#[cfg(test)]
mod tests;

use super::output::{Body, ENDLESS, Output, OwnCopy};
use super::pin::{Edition, Outcome, Pin, PinError, Pinned, TimeUp};
use super::store::{Lookup, Store};
use super::{Env, Failure};
use crate::codec::{Reader, put_bytes, put_number};
use crate::http::{Framing, Part, Persist, Scan, has_lone_lf, scan_leniently};
use crate::time::Instant;
use answer::answer;
use core::ops::Range;
use patience::Since;
pub use patience::{Awaited, Patience};
use request::Asked;
use status::Status;
use std::collections::VecDeque;
pub use target::is_hidden;
pub(crate) use target::is_normal;

/// Pieces of output (heads, bodies) that may wait for acknowledgment before the primary takes the
/// next request; each costs a small allocation.
const PIECES_MAX: usize = 64;

/// Replies that one call makes when leading; the rest is for another. One packet may ask for thousands.
const REPLIES_A_CALL: u32 = 8;

/// How much of a reply a client has to take for our patience to begin anew, about: each probe of a shut
/// window may bring it a byte.
const STEP: u64 = 4096;

/// Pins that may wait for their requests on a standby. Input precedes its pins in the log, so more
/// than a batch's worth is a fault.
const PINS_MAX: usize = 1024;

/// One connection's state between two calls.
#[derive(Debug)]
pub(crate) struct Files {
    root: u16,
    place: At,
    /// What the client is waited for, and since when: whoever leads looks at it. `None`: for nothing,
    /// or what it is waited for begins anew.
    awaited: Option<Awaited>,
    since: Since,
    /// Pins not yet used; on a standby only, and there hardly ever.
    #[expect(clippy::box_collection, reason = "nearly always absent, and then 8 bytes for 32")]
    pins: Option<Box<VecDeque<Pin>>>,
}

/// Where the next byte of input stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// In a head (or before one), of which so many bytes have been looked at.
    Head { scanned: usize },
    /// In a request's body.
    Body(Framing),
    /// After the last request that is answered. What comes is not for us.
    Closed,
}

/// Why [`Files::advance`] went no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pause {
    /// For want of input.
    Starved,
    /// Until output is acknowledged, or a pin comes.
    Blocked,
    /// The store has to be asked again.
    Pending,
    /// Until the next call: this one has done its share.
    Busy,
    /// For good: nothing more is said.
    Closed,
    /// For good: the stream cannot be continued.
    Failed(Failure),
}

/// What became of one request.
enum Turn {
    Answered,
    Paused(Pause),
}

impl Files {
    pub(crate) const fn new(root: u16) -> Self {
        Self::at(root, At::Head { scanned: 0 })
    }

    const fn at(root: u16, place: At) -> Self {
        Self { root, place, awaited: None, since: Since::NEVER, pins: None }
    }

    /// Takes requests from the front of `input` and appends the replies to `output`, while no more
    /// than `gate` bytes are held there. Returns how many bytes were used up.
    pub(crate) fn advance(
        &mut self,
        input: &[u8],
        output: &mut Output,
        gate: usize,
        env: &mut Env<'_>,
    ) -> (usize, Pause) {
        let (mut used, mut replies) = (0, 0);
        loop {
            let rest = &input[used..];
            match self.place {
                At::Closed if output.end() > ENDLESS => {
                    return (input.len(), Pause::Failed(Failure::TooLong));
                }
                At::Closed => return (input.len(), Pause::Closed),
                _ if rest.is_empty() => return (used, Pause::Starved),
                At::Body(framing) => match discard(framing, rest) {
                    Discard::More(next) => {
                        self.place = At::Body(next);
                        self.heard();
                        return (input.len(), Pause::Starved);
                    }
                    Discard::Done(count) => {
                        used += count;
                        self.place = At::Head { scanned: 0 };
                    }
                    Discard::Broken => self.place = At::Closed,
                },
                At::Head { scanned } => {
                    if env.lead && (output.held() >= gate || output.chunks() >= PIECES_MAX) {
                        return (used, Pause::Blocked);
                    }
                    if env.lead && replies == REPLIES_A_CALL {
                        return (used, Pause::Busy);
                    }
                    match self.head(rest, scanned, output, env) {
                        Ok(count) => {
                            used += count;
                            replies += 1;
                        }
                        Err(pause) => return (used, pause),
                    }
                }
            }
        }
    }

    /// Goes on in a head; `Ok` is how many bytes were used up.
    fn head(
        &mut self,
        input: &[u8],
        scanned: usize,
        output: &mut Output,
        env: &mut Env<'_>,
    ) -> Result<usize, Pause> {
        let found = scan_leniently(input, scanned);
        let length = match found {
            Scan::More(scanned) => {
                self.place = At::Head { scanned };
                return Err(Pause::Starved);
            }
            Scan::Blank(length) if !has_lone_lf(&input[..length]) => {
                self.place = At::Head { scanned: 0 };
                return Ok(length);
            }
            Scan::Head(length) | Scan::Blank(length) => length,
            Scan::Bad(_) => 0,
        };
        let Some(edition) = self.edition(env) else {
            // Not worth reading yet.
            self.place = At::Head { scanned: length.saturating_sub(1).max(scanned) };
            return Err(Pause::Blocked);
        };
        let head = &input[..length];
        let asked = match found {
            Scan::Bad(refusal) => Asked::refused(refusal.into()),
            // Of a lone LF: the other ones are passed over above.
            Scan::Blank(_) if edition > Edition::First => Asked::refused(Status::BadRequest),
            Scan::Blank(_) => {
                self.place = At::Head { scanned: 0 };
                return Ok(length);
            }
            Scan::Head(_) | Scan::More(_) => Asked::parse(head, edition),
        };
        match self.turn(&asked, output, env) {
            Turn::Answered => Ok(length),
            Turn::Paused(pause) => Err(pause),
        }
    }

    /// The edition of the next reply: ours when leading, its pin's when following. `None`: that
    /// pin has not come.
    fn edition(&self, env: &Env<'_>) -> Option<Edition> {
        if env.lead {
            return Some(env.edition);
        }
        self.pins.as_ref()?.front().map(|pin| pin.edition)
    }

    /// Answers one request and moves on behind its head.
    fn turn(&mut self, asked: &Asked<'_>, output: &mut Output, env: &mut Env<'_>) -> Turn {
        let Some((pin, copy)) = self.pin(asked, env) else {
            return Turn::Paused(if env.lead { Pause::Pending } else { Pause::Blocked });
        };
        let Some(answer) = answer(asked, &pin) else {
            return Turn::Paused(Pause::Failed(Failure::Diverged));
        };
        output.push_vec(answer.bytes);
        self.heard();
        match (answer.body, &asked.want) {
            (Some((facts, range)), Ok(target)) => {
                let path = target.file().into();
                let body = Body { root: self.root, path, facts, range, copy };
                output.push_body(body, env.store);
            }
            _ => release(copy, env.store),
        }
        self.place = match (asked.persist, asked.body) {
            (Persist::Close, _) => At::Closed,
            (Persist::Keep | Persist::KeepAlive, Some(framing)) => At::Body(framing),
            (Persist::Keep | Persist::KeepAlive, None) => At::Head { scanned: 0 },
        };
        match output.end() > ENDLESS {
            true => Turn::Paused(Pause::Failed(Failure::TooLong)),
            false => Turn::Answered,
        }
    }

    /// The pin of the next reply: made when leading, taken from the log when following.
    fn pin(&mut self, asked: &Asked<'_>, env: &mut Env<'_>) -> Option<(Pin, OwnCopy)> {
        if !env.lead {
            return self.next_pin().map(|pin| (pin, OwnCopy::Unknown));
        }
        let (outcome, copy) = match &asked.want {
            Err(_) => (Outcome::NotAsked, OwnCopy::Unknown),
            Ok(target) => look_up(self.root, &target.file(), env.store)?,
        };
        let pin = Pin { edition: env.edition, wall: env.wall, outcome };
        env.pins.push(pin.encode());
        Some((pin, copy))
    }

    fn next_pin(&mut self) -> Option<Pin> {
        let pins = self.pins.as_mut()?;
        let pin = pins.pop_front();
        if pins.is_empty() {
            self.pins = None;
        }
        pin
    }

    /// Keeps a pin for the request that it belongs to. A hash that follows its reply is told to the
    /// output.
    pub(crate) fn on_pin(
        &mut self,
        bytes: &[u8],
        output: &mut Output,
        store: &mut dyn Store,
    ) -> Result<(), PinError> {
        match Pinned::decode(bytes)? {
            Pinned::Reply(pin) => self.keep(pin)?,
            Pinned::Hash { end, hash } => output.on_hash(end, hash, store),
            Pinned::TimeUp(up) if self.pins.is_none() && self.awaits() == Some(up.awaited) => {
                self.close(&up, output);
            }
            Pinned::TimeUp(_) => return Err(PinError::Unexpected),
        }
        Ok(())
    }

    /// What is wanted of the client next, if it has taken all that it was told.
    pub(crate) const fn awaits(&self) -> Option<Awaited> {
        match self.place {
            // Empty lines before a request are not its beginning, and not looked at until they end.
            At::Head { scanned: 0 } => Some(Awaited::Request),
            At::Head { .. } => Some(Awaited::Head),
            At::Body(_) => Some(Awaited::Body),
            At::Closed => None,
        }
    }

    /// When time will be up for a client that is waited for `awaited`.
    pub(crate) fn deadline(
        &mut self,
        now: Instant,
        awaited: Option<Awaited>,
        patience: &Patience,
    ) -> Option<Instant> {
        if self.awaited != awaited {
            (self.awaited, self.since) = (awaited, Since::at(now));
        }
        let deadline = self.since.plus(patience.with(awaited?), now);
        (deadline != Instant::NEVER).then_some(deadline)
    }

    /// The client has sent what it was waited for.
    fn heard(&mut self) {
        if self.awaited != Some(Awaited::Taking) {
            self.awaited = None;
        }
    }

    /// The client has taken more of what it was told, perhaps `all` of it. It is waited for anew if that
    /// is a step.
    pub(crate) fn taken(&mut self, bytes: Range<u64>, all: bool) {
        let step = all || bytes.start / STEP != bytes.end / STEP;
        if step && self.awaited == Some(Awaited::Taking) {
            self.awaited = None;
        }
    }

    /// Leading: time is up. Returns what for, unless the follower could not be told of it: then the
    /// client is waited for once more.
    pub(crate) fn on_time(&mut self, output: &mut Output, env: &mut Env<'_>) -> Option<Awaited> {
        let awaited = self.awaited.take()?;
        if awaited == Awaited::Taking {
            return Some(awaited);
        }
        if env.edition == Edition::First {
            return None;
        }
        let up = TimeUp { edition: env.edition, wall: env.wall, awaited };
        env.pins.push(up.encode());
        self.close(&up, output);
        Some(awaited)
    }

    /// Ends the stream behind what has been said. Whose request has had no answer gets one.
    fn close(&mut self, up: &TimeUp, output: &mut Output) {
        let TimeUp { edition, wall, awaited } = *up;
        let pin = Pin { edition, wall, outcome: Outcome::NotAsked };
        if awaited == Awaited::Head
            && let Some(answer) = answer(&Asked::refused(Status::RequestTimeout), &pin)
        {
            output.push_vec(answer.bytes);
        }
        self.place = At::Closed;
    }

    fn keep(&mut self, pin: Pin) -> Result<(), PinError> {
        let pins = self.pins.get_or_insert_default();
        if pins.len() >= PINS_MAX {
            return Err(PinError::TooMany);
        }
        pins.push_back(pin);
        Ok(())
    }

    /// From following to leading. A request precedes its pin in the log, so a pin that is left
    /// means that the dead primary answered something that we did not take for a request (I6).
    pub(crate) fn lead(&mut self) -> Result<(), Failure> {
        if self.pins.take().is_some() { Err(Failure::Diverged) } else { Ok(()) }
    }

    pub(crate) fn snapshot(&self, out: &mut Vec<u8>) {
        // An heir's patience is its own.
        let Self { root: _, place, awaited: _, since: _, pins } = self;
        match place {
            // What was looked at is looked at again.
            At::Head { scanned: _ } => out.push(0),
            At::Body(framing) => framing.encode(out),
            At::Closed => out.push(1),
        }
        let pins = pins.iter().flat_map(|pins| pins.iter());
        put_number(out, pins.clone().count() as u64);
        pins.for_each(|pin| put_bytes(out, &pin.encode()));
    }

    pub(crate) fn restore(reader: &mut Reader<'_>, root: u16) -> Option<Self> {
        let place = match *reader.rest().first()? {
            0 | 1 => match reader.byte()? {
                0 => At::Head { scanned: 0 },
                _ => At::Closed,
            },
            _ => match Framing::decode(reader)? {
                // None that a request's body could be in.
                Framing::UntilEnd | Framing::Length(0) => return None,
                framing => At::Body(framing),
            },
        };
        let mut files = Self::at(root, place);
        for _ in 0..reader.number()? {
            let Ok(Pinned::Reply(pin)) = Pinned::decode(reader.bytes()?) else { return None };
            files.keep(pin).ok()?;
        }
        Some(files)
    }
}

/// Asks the store; `None` while it does not know.
fn look_up(root: u16, path: &str, store: &mut dyn Store) -> Option<(Outcome, OwnCopy)> {
    match store.lookup(root, path) {
        Lookup::Found(facts, id) if facts.length < 1 << 61 => {
            Some((Outcome::Found(facts), OwnCopy::Ours(id)))
        }
        Lookup::Found(_, id) => {
            store.release(id);
            Some((Outcome::Forbidden, OwnCopy::Unknown))
        }
        Lookup::Directory => Some((Outcome::Directory, OwnCopy::Unknown)),
        Lookup::NotFound => Some((Outcome::NotFound, OwnCopy::Unknown)),
        Lookup::Forbidden => Some((Outcome::Forbidden, OwnCopy::Unknown)),
        Lookup::Pending => None,
    }
}

fn release(copy: OwnCopy, store: &mut dyn Store) {
    if let OwnCopy::Ours(id) = copy {
        store.release(id);
    }
}

/// What became of a body that nobody wants.
enum Discard {
    /// All input was part of it, and more is to come.
    More(Framing),
    /// It ended after so many bytes.
    Done(usize),
    /// It is not what it claims to be.
    Broken,
}

/// Reads over `input` as far as the body goes.
fn discard(mut framing: Framing, input: &[u8]) -> Discard {
    let mut at = 0;
    loop {
        match framing.next(&input[at..]) {
            Ok(Part::Data(count) | Part::Framing(count) | Part::Trailer(count)) => at += count,
            Ok(Part::End(count)) => return Discard::Done(at + count),
            Ok(Part::More) => return Discard::More(framing),
            Err(_) => return Discard::Broken,
        }
    }
}
