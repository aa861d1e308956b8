//! Static files over HTTP/1.1: GET and HEAD, persistent connections, pipelining, ranges,
//! conditional requests. RFC 9110 and 9112.
//!
//! Requests are answered one by one in their order. A head is found ([`mod@head`]), read
//! ([`request`]), the store is asked or a pin taken, the reply follows from both ([`mod@answer`]), and
//! the request's own body is read over ([`framing`]) up to the next head:
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

mod answer;
mod condition;
mod framing;
mod head;
mod request;
mod status;
mod target;
#[cfg(test)]
mod tests;

use super::codec::{Reader, put_bytes, put_number};
use super::output::{Body, ENDLESS, Output, OwnCopy};
use super::pin::{Edition, Outcome, Pin, PinError, Pinned};
use super::store::{Lookup, Store};
use super::{Env, Failure};
use answer::answer;
use framing::{Discard, Framing, Place};
use head::{Scan, has_lone_lf, scan};
use request::{Asked, Persist};
use status::Status;
use std::collections::VecDeque;
pub use target::is_hidden;
pub(crate) use target::is_normal;

/// Pieces of output (heads, bodies) that may wait for acknowledgment before the primary takes the
/// next request; each costs a small allocation.
const PIECES_MAX: usize = 64;

/// Pins that may wait for their requests on a standby. Input precedes its pins in the log, so more
/// than a batch's worth is a fault.
const PINS_MAX: usize = 1024;

/// One connection's state between two calls.
#[derive(Debug)]
pub(crate) struct Files {
    root: u16,
    place: At,
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
        Self { root, place: At::Head { scanned: 0 }, pins: None }
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
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.place {
                At::Closed => return (input.len(), Pause::Closed),
                _ if rest.is_empty() => return (used, Pause::Starved),
                At::Body(framing) => match framing.discard(rest) {
                    Discard::More(next) => {
                        self.place = At::Body(next);
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
                    match self.head(rest, scanned, output, env) {
                        Ok(count) => used += count,
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
        let found = scan(input, scanned);
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
            Scan::Bad(status) => Asked::refused(status),
            _ if edition > Edition::First && has_lone_lf(head) => {
                Asked::refused(Status::BadRequest)
            }
            Scan::Blank(_) => {
                self.place = At::Head { scanned: 0 };
                return Ok(length);
            }
            Scan::Head(_) | Scan::More(_) => Asked::parse(head),
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
        }
        Ok(())
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
        let Self { root: _, place, pins } = self;
        match place {
            // What was looked at is looked at again.
            At::Head { scanned: _ } => out.push(0),
            At::Body(framing) => snapshot_framing(*framing, out),
            At::Closed => out.push(1),
        }
        let pins = pins.iter().flat_map(|pins| pins.iter());
        put_number(out, pins.clone().count() as u64);
        pins.for_each(|pin| put_bytes(out, &pin.encode()));
    }

    pub(crate) fn restore(reader: &mut Reader<'_>, root: u16) -> Option<Self> {
        let place = match reader.byte()? {
            0 => At::Head { scanned: 0 },
            1 => At::Closed,
            tag => At::Body(restore_framing(tag, reader)?),
        };
        let mut files = Self { root, place, pins: None };
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

/// A tag from 2 on and at most two numbers.
fn snapshot_framing(framing: Framing, out: &mut Vec<u8>) {
    let (tag, a, b) = match framing {
        Framing::Length(rest) => (2, rest, 0),
        Framing::Chunked(place) => match place {
            Place::Size { value, digits } => (3, value, u64::from(digits)),
            Place::Extension { value, length } => (4, value, u64::from(length)),
            Place::SizeEnd { value } => (5, value, 0),
            Place::Data { rest } => (6, rest, 0),
            Place::DataCr => (7, 0, 0),
            Place::DataLf => (8, 0, 0),
            Place::Trailer { total, line } => (9, u64::from(total), u64::from(line)),
            Place::TrailerEnd { total } => (10, u64::from(total), 0),
            Place::LastLf => (11, 0, 0),
        },
    };
    out.push(tag);
    put_number(out, a);
    put_number(out, b);
}

fn restore_framing(tag: u8, reader: &mut Reader<'_>) -> Option<Framing> {
    let (a, b) = (reader.number()?, reader.number()?);
    let short = |number: u64| u16::try_from(number).ok();
    let place = match tag {
        2 => return (a > 0).then_some(Framing::Length(a)),
        3 if b <= 15 => Place::Size { value: a, digits: b as u8 },
        4 => Place::Extension { value: a, length: short(b)? },
        5 => Place::SizeEnd { value: a },
        6 if a > 0 => Place::Data { rest: a },
        7 => Place::DataCr,
        8 => Place::DataLf,
        9 if b <= 1 => Place::Trailer { total: short(a)?, line: b == 1 },
        10 => Place::TrailerEnd { total: short(a)? },
        11 => Place::LastLf,
        _ => return None,
    };
    Some(Framing::Chunked(place))
}
