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
//! instead of asking. The standby applies no back-pressure of its own: the primary may have been
//! allowed to say more than the standby has heard acknowledged, and every byte that may have left
//! must exist here before anyone can take over.
//!
//! Services: echo (RFC 862), discard (RFC 863), chargen (RFC 864), files (HTTP/1.1, in `files/`).
//! When the client closes its side, echo finishes after the last byte has been echoed, discard at
//! once, files behind the last complete request. Chargen goes on until the client resets or stops
//! acknowledging: it has no last byte that both nodes could name.

mod codec;
mod files;
pub mod output;
pub mod pattern;
pub mod pin;
pub mod store;
#[cfg(test)]
mod tests;

use codec::{Reader, put_number};
use core::ops::Range;
pub use files::is_hidden;
use files::{Files, Pause};
pub use output::{ENDLESS, Output};
pub use pin::{Edition, PinBytes, PinError};
use std::collections::VecDeque;
pub use store::{ContentId, Difference, Facts, Lookup, MemoryStore, Read, Store, Verified};

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
    },
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
    /// A question to the store is open.
    pending: bool,
    failure: Option<Failure>,
}

#[derive(Debug)]
enum Service {
    Echo,
    Discard,
    Chargen,
    Files(Files),
}

impl App {
    /// The application of a fresh connection.
    #[must_use]
    pub fn new(kind: Kind, limits: &Limits) -> Self {
        let (service, output) = match kind {
            Kind::Echo => (Service::Echo, Output::default()),
            Kind::Discard => (Service::Discard, Output::default()),
            Kind::Chargen => (Service::Chargen, Output::endless()),
            Kind::Files { root } => (Service::Files(Files::new(root)), Output::default()),
        };
        Self {
            service,
            output,
            input: None,
            consumed: 0,
            output_buffer: limits.output_buffer.max(1),
            peer_finished: false,
            finished: false,
            pending: false,
            failure: None,
        }
    }

    /// In-order bytes from the client. What the service cannot take now is kept.
    pub fn on_input(&mut self, bytes: &[u8], env: &mut Env<'_>) {
        if let Some(input) = &mut self.input {
            input.extend(bytes);
            self.pump(env);
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
        self.pump(env);
    }

    /// Output below `offset` is acknowledged and no longer needed. May run ahead of
    /// [`App::output_end`] on a standby.
    pub fn on_acked(&mut self, offset: u64, env: &mut Env<'_>) {
        self.output.on_acked(offset, env.store);
        if self.input.is_some() {
            self.pump(env);
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

    /// The store has news: what was pending may now be answered. Output that [`App::read`] called
    /// pending should be tried again as well.
    pub fn on_content(&mut self, env: &mut Env<'_>) {
        self.output.verify(env.store);
        if self.pending {
            self.pump(env);
        }
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

    /// The connection is over: gives back what is held in the store.
    pub fn close(&mut self, store: &mut dyn Store) {
        self.output.clear(store);
        self.input = None;
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

    /// Does something wait for [`App::on_content`]?
    #[must_use]
    pub fn awaits_store(&self) -> bool {
        self.pending || self.output.awaits_store()
    }

    /// Places output bytes of `range` at the front of `into`, possibly fewer than asked for:
    /// `Ready(0)` at the end of the output, `Pending` until [`App::on_content`]. `Gone` also sets
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
        self.pending = false;
    }

    /// Lets the service take from the kept input.
    fn pump(&mut self, env: &mut Env<'_>) {
        let mut input = self.input.take().unwrap_or_default();
        let used = match self.service {
            Service::Files(_) => self.advance(input.make_contiguous(), env),
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
        if self.finished || self.failure.is_some() {
            // Read over, so that the client's last bytes do not fill the window.
            return input.len();
        }
        match &mut self.service {
            Service::Echo => self.echo(input, env.lead),
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
        self.pending = pause == Pause::Pending;
        match pause {
            Pause::Starved => self.finished = self.peer_finished,
            Pause::Closed => self.finished = true,
            Pause::Failed(failure) => self.fail(failure),
            Pause::Blocked | Pause::Pending => {}
        }
    }

    /// Does the client's end of stream end ours?
    fn check_finished(&mut self) {
        let ends = match self.service {
            Service::Echo | Service::Discard => self.peer_finished && self.input.is_none(),
            // Decided in `on_pause`, where it is known whether a request is still open.
            Service::Chargen | Service::Files(_) => false,
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
            pending: _, // asked again
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
            Kind::Files { root } => root,
            Kind::Echo | Kind::Discard | Kind::Chargen => 0,
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
            (3, Kind::Files { root }) => Service::Files(Files::restore(&mut reader, root)?),
            _ => return None,
        };
        reader.end()
    }
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
