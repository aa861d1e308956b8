//! What answers on a port: built-in services as deterministic functions of their input.
//!
//! An [`App`] is one connection's application on one node. It is fed the client's bytes in order
//! and owns the output stream, an [`Output`] rope that TCP reads by offset. Both nodes run the same
//! app on the same input and get the same output, byte for byte (I2), and the same end of it:
//!
//! ```text
//!                      primary (env.lead)                 standby
//!   input   ────────►  on_input ──► output                on_input ──► the same output
//!   clock, store ───►  Env ───────► pins ── the log ───►  on_pin
//!   acknowledged ───►  on_acked                           on_acked
//! ```
//!
//! What a service takes from outside its input it emits as a pin; the standby takes the pin
//! instead of asking. That a client has been waited for long enough is one ([`App::on_time`]). The
//! standby applies no back-pressure of its own: the primary may have been allowed to say more than
//! the standby has heard acknowledged, and every byte that may have left must exist here before
//! anyone can take over.
//!
//! Services: echo (RFC 862), discard (RFC 863), chargen (RFC 864), files (HTTP/1.1, in `files/`).
//! When the client closes its side, echo finishes after the last byte has been echoed, discard at
//! once, files behind the last complete request. Chargen goes on until the client resets or stops
//! acknowledging: it has no last byte that both nodes could name.

mod files;
pub mod output;
pub mod pattern;
pub mod pin;
mod rules;
pub mod store;
#[cfg(test)]
mod tests;

use crate::codec::{Reader, put_number};
use crate::time::Instant;
use core::ops::Range;
pub use files::{Awaited, Patience, is_hidden};
use files::{Files, Pause};
pub use output::{ENDLESS, Output};
pub use pin::{Edition, PinBytes, PinError};
pub use rules::{
    Again, HttpPatience, JoinPatience, Masking, MirrorRules, OnDifference, Oversize, Rules,
};
use std::collections::VecDeque;
pub use store::{
    ContentId, Difference, Facts, Lookup, MemoryStore, Question, Read, Store, Verified,
};

/// What a port runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Sends back what it receives.
    Echo,
    /// Receives.
    Discard,
    /// Sends without end.
    Chargen,
    /// Serves files.
    Files {
        /// The number of the document root, as [`Store`] counts them.
        root: u16,
        /// How long its clients are waited for.
        patience: Patience,
    },
    /// Joins its client and a server: see [`crate::session`].
    Join(JoinPatience),
    /// Passes its client's requests to a server, and masks that server's death: see
    /// [`crate::session::Exchange`].
    Exchange(Rules, HttpPatience),
    /// Joins its client and two servers on the same input: see [`crate::session::Mirror`].
    Mirror(MirrorRules, JoinPatience),
}

impl Kind {
    /// Whether its connections are legs of sessions.
    #[must_use]
    pub const fn has_sessions(self) -> bool {
        match self {
            Self::Join(_) | Self::Exchange(..) | Self::Mirror(..) => true,
            Self::Echo | Self::Discard | Self::Chargen | Self::Files { .. } => false,
        }
    }
}

/// Of a connection that is a session's leg: in which session it is, by the number that this node knows it
/// by, and as which leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The session's slot.
    pub slot: u32,
    /// Which of its legs.
    pub leg: u8,
}

/// Bounds of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Unacknowledged output, in bytes of memory, beyond which the primary's instance takes no
    /// more input. At least 1.
    pub output_buffer: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { output_buffer: 1 << 20 }
    }
}

/// What an app may use while it is called.
#[expect(missing_debug_implementations, reason = "borrows a store of unknown kind")]
pub struct Env<'a> {
    /// Where files come from.
    pub store: &'a mut dyn Store,
    /// This node's instance leads: it asks clock and store, and emits pins. Otherwise it follows.
    pub lead: bool,
    /// Receives the pins of this call in order. They belong into the log behind the input that
    /// caused them, and before any output that the call produced may leave.
    pub pins: &'a mut Vec<PinBytes>,
    /// Unix time in seconds; used only when leading, and pinned.
    pub wall: u64,
    /// What the follower understands; used only when leading, and pinned.
    pub edition: Edition,
}

/// Why a stream cannot be continued; the connection must be reset (I6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// A file changed while it was being sent, or this node's copy is not the pinned one.
    #[error("content is not what was pinned")]
    Content,
    /// Output was asked for that has been acknowledged before: our own mistake.
    #[error("output below the acknowledgment")]
    Released,
    /// A pin belongs to another request than the one at hand: the nodes disagree.
    #[error("pin and request disagree")]
    Diverged,
    /// The stream would be longer than [`ENDLESS`].
    #[error("stream too long")]
    TooLong,
}

/// A file of which nobody can say that the copy here is the one that is being sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Doubt<'a> {
    /// The number of its document root.
    pub root: u16,
    /// Where it lies below that.
    pub path: &'a str,
    /// What is wrong with the copy; `None` while it is being compared.
    pub why: Option<Difference>,
}

impl core::fmt::Display for Doubt<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // A name may hold anything but a slash.
        write!(f, "{:?}: ", self.path)?;
        match self.why {
            Some(why) => why.fmt(f),
            None => f.write_str("the copy here is still being hashed"),
        }
    }
}

/// A snapshot that was not taken by [`App::snapshot`] for the same kind of service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed snapshot of a service")]
pub struct RestoreError;

/// One connection's application. [`App::close`] it before dropping it.
#[derive(Debug)]
pub struct App {
    service: Service,
    output: Output,
    /// In order and not yet consumed, if there is any. Bounded by the receive window.
    #[expect(clippy::box_collection, reason = "nearly always absent, and then 8 bytes for 32")]
    input: Option<Box<VecDeque<u8>>>,
    consumed: u64,
    output_buffer: u32,
    peer_finished: bool,
    finished: bool,
    waits: Waits,
    failure: Option<Failure>,
}

/// What an app with input that it could take waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    Nothing,
    /// A question to the store is open.
    Store,
    /// The input holds more than one call should answer.
    Turn,
}

#[derive(Debug)]
enum Service {
    Echo,
    Discard,
    Chargen,
    Files(Files),
    /// A session of several connections takes the input, and makes the output: which one, once it is
    /// known.
    Leg(Option<Place>),
}

impl App {
    /// The application of a fresh connection.
    #[must_use]
    pub fn new(kind: Kind, limits: &Limits) -> Self {
        let (service, output) = match kind {
            Kind::Echo => (Service::Echo, Output::default()),
            Kind::Discard => (Service::Discard, Output::default()),
            Kind::Chargen => (Service::Chargen, Output::endless()),
            Kind::Files { root, .. } => (Service::Files(Files::new(root)), Output::default()),
            Kind::Join(_) | Kind::Exchange(..) | Kind::Mirror(..) => {
                (Service::Leg(None), Output::default())
            }
        };
        Self {
            service,
            output,
            input: None,
            consumed: 0,
            output_buffer: limits.output_buffer.max(1),
            peer_finished: false,
            finished: false,
            waits: Waits::Nothing,
            failure: None,
        }
    }

    /// In-order bytes from the client. What the service cannot take now is kept.
    pub fn on_input(&mut self, bytes: &[u8], env: &mut Env<'_>) {
        if let Some(input) = &mut self.input {
            input.extend(bytes);
            self.pump_unless_asked(env);
        } else {
            // Straight from the packet, without a copy in between.
            let used = self.advance(bytes, env);
            self.consumed += used as u64;
            if used < bytes.len() {
                self.input = Some(Box::new(bytes[used..].to_vec().into()));
            }
            self.check_finished();
        }
    }

    /// The client has closed its side; all its bytes have been given to [`App::on_input`].
    pub fn on_peer_finished(&mut self, env: &mut Env<'_>) {
        self.peer_finished = true;
        self.pump_unless_asked(env);
    }

    /// Output below `offset` is acknowledged and no longer needed. May run ahead of
    /// [`App::output_end`] on a standby.
    pub fn on_acked(&mut self, offset: u64, env: &mut Env<'_>) {
        let before = self.output.acked();
        self.output.on_acked(offset, env.store);
        if let Service::Files(files) = &mut self.service {
            files.taken(before..offset, offset >= self.output.end());
        }
        if self.input.is_some() {
            self.pump_unless_asked(env);
        }
    }

    /// Standby: the next pin from the log.
    ///
    /// # Errors
    /// When it is none, or this app takes none. The app is unchanged then.
    pub fn on_pin(&mut self, pin: &[u8], env: &mut Env<'_>) -> Result<(), PinError> {
        let Service::Files(files) = &mut self.service else { return Err(PinError::Unexpected) };
        if env.lead {
            return Err(PinError::Unexpected);
        }
        files.on_pin(pin, &mut self.output, env.store)?;
        self.pump(env);
        Ok(())
    }

    /// Its turn has come again: the store has news, so that what was pending may now be answered, or
    /// the last call left something to do ([`App::is_busy`]). Output that [`App::read`] called pending
    /// should be tried again as well.
    pub fn go_on(&mut self, env: &mut Env<'_>) {
        self.output.verify(env.store);
        if self.waits != Waits::Nothing {
            self.pump(env);
        }
    }

    /// Has it more to do by itself, in another call ([`App::go_on`])?
    #[must_use]
    pub const fn is_busy(&self) -> bool {
        matches!(self.waits, Waits::Turn)
    }

    /// Leading: when the client's time is up as things stand, for [`App::on_time`]. What has happened
    /// may have moved it, so it is asked for after each event: then begins, what begins.
    pub fn deadline(&mut self, now: Instant, kind: Kind) -> Option<Instant> {
        let (Service::Files(files), Kind::Files { patience, .. }) = (&mut self.service, kind)
        else {
            return None;
        };
        let ours = self.failure.is_some() || self.waits != Waits::Nothing;
        let awaited = if ours || self.output.awaits_store() {
            None
        } else if self.finished || self.output.acked() < self.output.end() {
            Some(Awaited::Taking)
        } else {
            files.awaits()
        };
        files.deadline(now, awaited, &patience)
    }

    /// Leading: closes the stream if the client's time is up, and returns what it was waited for.
    /// Where that is [`Awaited::Taking`] nothing that is said would be heard: the connection is to be
    /// reset.
    pub fn on_time(&mut self, now: Instant, kind: Kind, env: &mut Env<'_>) -> Option<Awaited> {
        if self.deadline(now, kind)? > now {
            return None;
        }
        let Service::Files(files) = &mut self.service else { return None };
        let awaited = files.on_time(&mut self.output, env)?;
        self.pump(env);
        Some(awaited)
    }

    /// From following to leading, with `env.lead` set: asks itself what was not pinned.
    pub fn lead(&mut self, env: &mut Env<'_>) {
        if let Service::Files(files) = &mut self.service
            && let Err(failure) = files.lead()
        {
            self.fail(failure);
        }
        self.output.verify(env.store);
        self.pump(env);
    }

    /// Of a session's leg: which one it is.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        match self.service {
            Service::Leg(place) => place,
            Service::Echo | Service::Discard | Service::Chargen | Service::Files(_) => None,
        }
    }

    /// Of a session's leg: says which one it is.
    pub fn take_place(&mut self, place: Place) {
        self.service = Service::Leg(Some(place));
    }

    /// Of a session's leg: how many bytes it may put in front of this connection, where `most` may be
    /// unacknowledged. Only a node that leads waits: what may have left must exist on the other one,
    /// whatever that heard acknowledged.
    #[must_use]
    pub fn room(&self, lead: bool, most: u32) -> usize {
        let limit = self.output.acked().saturating_add(most.into());
        let room = if lead { limit.saturating_sub(self.output.end()) } else { u64::MAX };
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    /// Of a session's leg: takes up to `most` bytes of what the connection has said.
    pub fn take_unread(&mut self, most: usize) -> Option<VecDeque<u8>> {
        let mut input = self.input.take()?;
        if most >= input.len() {
            self.consumed += input.len() as u64;
            return Some(*input);
        }
        let piece = input.drain(..most).collect();
        self.consumed += most as u64;
        self.input = Some(input);
        Some(piece)
    }

    /// Of a session's leg: what the connection has said and nobody has taken.
    #[must_use]
    pub fn unread(&mut self) -> &[u8] {
        self.input.as_mut().map_or(&[], |input| input.make_contiguous())
    }

    /// Of a session's leg: how many bytes that are.
    #[must_use]
    pub fn unread_len(&self) -> usize {
        self.input.as_ref().map_or(0, |input| input.len())
    }

    /// Of a session's leg: appends the first `count` bytes of that, or as many as there are.
    pub fn copy_unread(&self, count: usize, out: &mut Vec<u8>) {
        let Some(input) = &self.input else { return };
        let (front, back) = input.as_slices();
        let of_front = count.min(front.len());
        out.extend_from_slice(&front[..of_front]);
        out.extend_from_slice(&back[..(count - of_front).min(back.len())]);
    }

    /// Of a session's leg: how many of the first bytes of that are those of `bytes`.
    #[must_use]
    pub fn unread_agrees(&self, bytes: &[u8]) -> usize {
        let Some(input) = &self.input else { return 0 };
        let (front, back) = input.as_slices();
        let of_front = common(front, bytes);
        if of_front < front.len() {
            return of_front;
        }
        of_front + common(back, &bytes[of_front..])
    }

    /// Of a session's leg: takes the first `count` bytes of that. They open the window when
    /// [`Self::credit`] says so.
    ///
    /// # Panics
    /// When there are not as many.
    pub fn take_on_credit(&mut self, count: usize) {
        let Some(input) = self.input.as_mut() else {
            assert!(count == 0, "no more is taken than was said");
            return;
        };
        input.drain(..count);
        if input.is_empty() {
            self.input = None;
        }
    }

    /// Of a session's leg: `count` bytes that were taken do count as read.
    pub const fn credit(&mut self, count: u64) {
        self.consumed += count;
    }

    /// Of a session's leg: how much output is acknowledged, as far as this node knows.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.output.acked()
    }

    /// Of a session's leg: bytes of output that are not acknowledged, beyond `most`.
    #[must_use]
    pub const fn excess(&self, most: u32) -> u64 {
        self.unheard().saturating_sub(most as u64)
    }

    /// Of a session's leg: whether the connection says nothing more.
    #[must_use]
    pub const fn says_no_more(&self) -> bool {
        self.peer_finished
    }

    /// Of a session's leg: the next bytes for the connection.
    pub fn say(&mut self, bytes: &[u8]) {
        self.output.push_bytes(bytes);
    }

    /// Of a session's leg: whether the connection has said all, and all of it was taken.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.peer_finished && self.input.is_none()
    }

    /// Of a session's leg: bytes of output that were not acknowledged.
    #[must_use]
    pub const fn unheard(&self) -> u64 {
        self.output.end().saturating_sub(self.output.acked())
    }

    /// Of a session's leg: whether there is output that was not acknowledged.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.unheard() > 0
    }

    /// Of a session's leg: the next bytes for the connection.
    pub fn push(&mut self, bytes: &VecDeque<u8>) {
        let (front, back) = bytes.as_slices();
        self.output.push_bytes(front);
        self.output.push_bytes(back);
    }

    /// Of a session's leg: there are no more.
    pub const fn finish(&mut self) {
        self.finished = true;
    }

    /// The connection is over: gives back what is held in the store.
    pub fn close(&mut self, store: &mut dyn Store) {
        self.output.clear(store);
        self.input = None;
    }

    /// Bytes of memory that input and output take, about; 0 where there is neither.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.input.as_ref().map_or(0, |input| input.capacity()) + self.output.memory()
    }

    /// Input bytes that the service has taken, from the beginning of the stream.
    #[must_use]
    pub const fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Output bytes that exist, from the beginning of the stream; [`ENDLESS`] for chargen.
    #[must_use]
    pub const fn output_end(&self) -> u64 {
        self.output.end()
    }

    /// The output is complete: a FIN follows [`App::output_end`].
    #[must_use]
    pub const fn finished(&self) -> bool {
        self.finished
    }

    /// Set once the stream cannot be continued: the connection must be reset.
    #[must_use]
    pub const fn failed(&self) -> Option<Failure> {
        self.failure
    }

    /// Could this connection go on from here, byte for byte (I7)? On a standby: its own copy
    /// matches every pinned body that is not acknowledged.
    #[must_use]
    pub const fn protected(&self) -> bool {
        self.output.unmatched() == 0 && self.failure.is_none()
    }

    /// Why it could not, in words for a person.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt<'_>> {
        let (body, why) = match self.failure {
            Some(Failure::Content) if self.output.unmatched() == 0 => {
                (self.output.first_body()?, Some(Difference::Changed))
            }
            _ => self.output.first_unmatched()?,
        };
        Some(Doubt { root: body.root, path: &body.path, why })
    }

    /// Leading: was a reply pinned before its content was hashed?
    #[must_use]
    pub const fn is_unhashed(&self) -> bool {
        self.output.unhashed() > 0
    }

    /// Leading: pins the hashes that have become known since their replies were pinned.
    pub fn pin_hashes(&mut self, env: &mut Env<'_>) {
        let Env { store, lead: true, pins, edition, .. } = env else { return };
        if *edition > Edition::First {
            let tell = &mut |end, hash: &_| pins.push(pin::Pinned::encode_hash(end, hash));
            self.output.hash(*store, tell);
        }
    }

    /// Does something wait for the store, and then for [`App::go_on`]?
    #[must_use]
    pub fn awaits_store(&self) -> bool {
        self.waits == Waits::Store || self.output.awaits_store()
    }

    /// Places output bytes of `range` at the front of `into`, possibly fewer than asked for:
    /// `Ready(0)` at the end of the output, `Pending` until [`App::go_on`]. `Gone` also sets
    /// [`App::failed`].
    pub fn read(&mut self, range: Range<u64>, into: &mut [u8], store: &mut dyn Store) -> Read {
        if self.failure.is_some() {
            return Read::Gone;
        }
        let below = range.start < self.output.acked();
        let read = self.output.read(range, into, store);
        if read == Read::Gone {
            self.fail(if below { Failure::Released } else { Failure::Content });
        }
        read
    }

    fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        self.waits = Waits::Nothing;
    }

    /// Lets the service take from the kept input, unless the store has its question: what is read before
    /// the answer is read once more after it.
    fn pump_unless_asked(&mut self, env: &mut Env<'_>) {
        if self.waits != Waits::Store {
            self.pump(env);
        }
    }

    /// Lets the service take from the kept input.
    fn pump(&mut self, env: &mut Env<'_>) {
        let mut input = self.input.take().unwrap_or_default();
        let used = match self.service {
            Service::Files(_) => self.advance(input.make_contiguous(), env),
            Service::Leg(_) => 0,
            Service::Echo | Service::Discard | Service::Chargen => {
                let (front, back) = input.as_slices();
                let used = self.advance(front, env);
                if used < front.len() { used } else { used + self.advance(back, env) }
            }
        };
        self.consumed += used as u64;
        if used < input.len() {
            input.drain(..used);
            self.input = Some(input);
        }
        self.check_finished();
    }

    /// Lets the service take from the front of `input`; returns how much it took.
    fn advance(&mut self, input: &[u8], env: &mut Env<'_>) -> usize {
        let is_leg = matches!(self.service, Service::Leg(_));
        if !is_leg && (self.finished || self.failure.is_some()) {
            // Read over, so that the client's last bytes do not fill the window.
            return input.len();
        }
        match &mut self.service {
            Service::Echo => self.echo(input, env.lead),
            Service::Leg(_) => 0,
            Service::Discard | Service::Chargen => input.len(),
            Service::Files(files) => {
                let gate = self.output_buffer as usize;
                let (used, pause) = files.advance(input, &mut self.output, gate, env);
                self.on_pause(pause);
                if self.failure.is_some() { input.len() } else { used }
            }
        }
    }

    fn echo(&mut self, input: &[u8], lead: bool) -> usize {
        let limit = self.output.acked().saturating_add(u64::from(self.output_buffer));
        let room = if lead { limit.saturating_sub(self.output.end()) } else { u64::MAX };
        let count = room.min(input.len() as u64) as usize;
        self.output.push_bytes(&input[..count]);
        count
    }

    fn on_pause(&mut self, pause: Pause) {
        self.waits = match pause {
            Pause::Pending => Waits::Store,
            Pause::Busy => Waits::Turn,
            Pause::Starved | Pause::Blocked | Pause::Closed | Pause::Failed(_) => Waits::Nothing,
        };
        match pause {
            Pause::Starved => self.finished = self.peer_finished,
            Pause::Closed => self.finished = true,
            Pause::Failed(failure) => self.fail(failure),
            Pause::Blocked | Pause::Pending | Pause::Busy => {}
        }
    }

    /// Does the client's end of stream end ours?
    fn check_finished(&mut self) {
        let ends = match self.service {
            Service::Echo | Service::Discard => self.peer_finished && self.input.is_none(),
            // Decided in `on_pause`, where it is known whether a request is still open.
            Service::Chargen | Service::Files(_) | Service::Leg(_) => false,
        };
        self.finished |= ends;
    }

    /// Appends everything that another node needs to go on from here: service state, input not
    /// consumed, output not acknowledged (files as pinned facts, not as payload).
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let Self {
            service,
            output,
            input,
            consumed,
            output_buffer: _, // configuration, the same on both nodes
            peer_finished,
            finished,
            waits: _, // asked again
            failure,
        } = self;
        out.push(SNAPSHOT_VERSION);
        out.push(u8::from(*peer_finished) | u8::from(*finished) << 1);
        out.push(failure.map_or(0, failure_number));
        put_number(out, *consumed);
        let (front, back) = input.as_deref().map(VecDeque::as_slices).unwrap_or_default();
        put_number(out, (front.len() + back.len()) as u64);
        out.extend_from_slice(front);
        out.extend_from_slice(back);
        output.snapshot(out);
        match service {
            Service::Echo => out.push(0),
            Service::Discard => out.push(1),
            Service::Chargen => out.push(2),
            Service::Files(files) => {
                out.push(3);
                files.snapshot(out);
            }
            Service::Leg(_) => out.push(4),
        }
    }

    /// The app that `bytes` were taken from, on this node. With `env.lead` unset it follows.
    ///
    /// # Errors
    /// When `bytes` are not a snapshot of an app of this kind.
    pub fn restore(
        kind: Kind,
        limits: &Limits,
        bytes: &[u8],
        env: &mut Env<'_>,
    ) -> Result<Self, RestoreError> {
        let mut app = Self::new(kind, limits);
        app.decode(kind, bytes).ok_or(RestoreError)?;
        app.output.verify(env.store);
        app.pump(env);
        Ok(app)
    }

    fn decode(&mut self, kind: Kind, bytes: &[u8]) -> Option<()> {
        let mut reader = Reader::new(bytes);
        let root = match kind {
            Kind::Files { root, .. } => root,
            Kind::Echo
            | Kind::Discard
            | Kind::Chargen
            | Kind::Join(_)
            | Kind::Exchange(..)
            | Kind::Mirror(..) => 0,
        };
        if reader.byte()? != SNAPSHOT_VERSION {
            return None;
        }
        let flags = reader.byte().filter(|flags| *flags < 4)?;
        (self.peer_finished, self.finished) = (flags & 1 != 0, flags & 2 != 0);
        self.failure = failure_of(reader.byte()?)?;
        self.consumed = reader.number().filter(|consumed| *consumed <= ENDLESS)?;
        let input = reader.bytes()?;
        self.input = (!input.is_empty()).then(|| Box::new(input.to_vec().into()));
        self.output = Output::restore(&mut reader, root)?;
        self.service = match (reader.byte()?, kind) {
            (0, Kind::Echo) => Service::Echo,
            (1, Kind::Discard) => Service::Discard,
            (2, Kind::Chargen) if self.output.end() == ENDLESS => Service::Chargen,
            (3, Kind::Files { root, .. }) => Service::Files(Files::restore(&mut reader, root)?),
            (4, Kind::Join(_) | Kind::Exchange(..) | Kind::Mirror(..)) => Service::Leg(None),
            _ => return None,
        };
        reader.end()
    }
}

/// How many bytes two runs have in common at their beginning.
pub(crate) fn common(one: &[u8], other: &[u8]) -> usize {
    let length = one.len().min(other.len());
    let (one, other) = (&one[..length], &other[..length]);
    if one == other {
        // Nearly always, and quicker than byte by byte.
        return length;
    }
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// The only layout there is so far. A number is never used for two layouts.
const SNAPSHOT_VERSION: u8 = 1;

/// Numbers of failures in a snapshot; never used again for another. 0 is none.
const fn failure_number(failure: Failure) -> u8 {
    match failure {
        Failure::Content => 1,
        Failure::Released => 2,
        Failure::Diverged => 3,
        Failure::TooLong => 4,
    }
}

fn failure_of(number: u8) -> Option<Option<Failure>> {
    match number {
        0 => Some(None),
        1 => Some(Some(Failure::Content)),
        2 => Some(Some(Failure::Released)),
        3 => Some(Some(Failure::Diverged)),
        4 => Some(Some(Failure::TooLong)),
        _ => None,
    }
}
