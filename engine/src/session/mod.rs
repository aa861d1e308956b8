//! Sessions of several legs: what a service does with connections that end here.
//!
//! A session is a deterministic function of the order of events on its legs, as the log has it. Both
//! nodes run it on the same events and get the same output on every leg, byte for byte (I2):
//!
//! ```text
//!              ┌── leg 0: client ──┐            ┌── leg 1: backend ──┐
//!   input ───► │ App::take_unread  │ ─► session ─► App::push         │ ───► output
//!              └───────────────────┘      │     └────────────────────┘
//!                                         └─► Effect: dial, reset
//! ```
//!
//! It answers with output, and with [`Effect`]s, which the node that leads carries out. What has become of
//! an effect comes back as an event: a heir that finds one without its event asks for it anew
//! ([`Event::Lead`]). Time is an event, too, and never read.
//!
//! Three machines are sessions: a [`Join`], which passes bytes; an [`Exchange`], which passes requests and
//! replies, and knows where each ends; and a [`Mirror`], which has two servers on the same input.
//!
//! A service with one leg needs none of this: it is its connection's [`App`].

mod exchange;
mod join;
mod mirror;
#[cfg(test)]
mod tests;

use crate::codec::{Reader, put_bytes, put_number};
use crate::ids::SessionId;
use crate::service::{App, Kind};
use crate::time::Instant;

pub use exchange::{Exchange, Outcome};
pub use join::Join;
pub use mirror::{Loss, Mirror, TWINS};

/// A leg's number in its session.
pub type Leg = u8;

/// The leg that a session begins with.
pub const CLIENT: Leg = 0;
/// The leg that is dialled to a server; the first one, where there are two ([`TWINS`]).
pub const BACKEND: Leg = 1;

/// How many legs a session has at most.
pub const LEGS: usize = 3;

/// The legs of a session, as far as they are there.
pub trait Legs {
    /// The stream side of a leg.
    fn leg(&mut self, leg: Leg) -> Option<&mut App>;
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Input came, or ended, or output was acknowledged: the legs say where they stand.
    Moved,
    /// The handshake of a leg is done.
    Stands(Leg),
    /// A leg is no more. What it said last is there for the last time.
    Closed {
        /// Which.
        leg: Leg,
        /// Whether both of its ends had finished.
        orderly: bool,
    },
    /// The time that [`Machine::deadline`] named has come.
    Tick,
    /// The server is to get no other request: one that has begun is finished.
    Leave,
    /// The node that leads has found that the session is to go on without one of two servers.
    GivenUp {
        /// Whose leg it is, or would be.
        leg: Leg,
        /// What it has found.
        why: Loss,
    },
    /// This node leads from here on.
    Lead,
}

/// What the node that leads is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Open a leg to a server.
    Dial(Leg),
    /// Open [`BACKEND`] where several servers have failed already: if the relay's budget allows it.
    DialOnceMore,
    /// End a leg at once.
    Reset(Leg),
    /// Count what has become of a request.
    Count(Outcome),
    /// The session goes on without one of two servers.
    Lost(Leg, Loss),
    /// It is to be told to ([`Event::GivenUp`]).
    Forsake(Leg, Loss),
    /// Two servers have said different things from this byte on: unless both parts are over, one of them is
    /// to be given up.
    Differs {
        /// How much they had in common.
        offset: u64,
    },
}

/// Something that a session keeps whole, and is long enough that memory is set aside for it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// What comes by [`CLIENT`].
    Request,
    /// What comes by [`BACKEND`].
    Reply,
}

impl Keep {
    /// All of them, as an array of one value each has them.
    pub const ALL: [Self; 2] = [Self::Request, Self::Reply];

    /// By which leg it comes.
    #[must_use]
    pub const fn leg(self) -> Leg {
        match self {
            Self::Request => CLIENT,
            Self::Reply => BACKEND,
        }
    }
}

/// What a session may use while it is called.
#[derive(Debug)]
pub struct Call<'a> {
    /// Only a node that leads has to be told to wait: see [`App::room`].
    pub lead: bool,
    /// Read when leading, for deadlines alone.
    pub now: Instant,
    /// Read when leading: how much of a leg's output may be unacknowledged before whoever it comes from has
    /// to wait, in bytes.
    pub buffer: u32,
    /// Receives what is to be done, in order.
    pub effects: &'a mut Vec<Effect>,
    /// Room to work in; what is in it means nothing.
    pub scratch: &'a mut Vec<u8>,
    /// The mistake that is made.
    #[cfg(feature = "defects")]
    pub defect: Option<crate::defects::Defect>,
}

#[cfg(feature = "defects")]
impl Call<'_> {
    fn errs(&self, defect: crate::defects::Defect) -> bool {
        self.defect == Some(defect)
    }
}

const fn other(leg: Leg) -> Leg {
    if leg == CLIENT { BACKEND } else { CLIENT }
}

/// What a session is: its legs have one place for any of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Machine {
    /// Bytes pass both ways.
    Join(Join),
    /// Requests are answered, by whichever server lives.
    Exchange(Box<Exchange>),
    /// Two servers say the same.
    Mirror(Box<Mirror>),
}

impl Machine {
    /// The session that a service of this kind has with each of its clients, if it has any. `key`: nobody
    /// else knows it.
    #[must_use]
    pub fn new(kind: Kind, key: [u8; 16]) -> Option<Self> {
        match kind {
            Kind::Join(_) => Some(Self::Join(Join::default())),
            Kind::Exchange(rules, _) => Some(Self::Exchange(Box::new(Exchange::new(rules, key)))),
            Kind::Mirror(rules, _) => Some(Self::Mirror(Box::new(Mirror::new(rules)))),
            Kind::Echo | Kind::Discard | Kind::Chargen | Kind::Files { .. } => None,
        }
    }

    /// Something has happened.
    pub fn on_event(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        match self {
            Self::Join(join) => join.on_event(event, legs, call),
            Self::Exchange(exchange) => exchange.on_event(event, legs, call),
            Self::Mirror(mirror) => mirror.on_event(event, legs, call),
        }
    }

    /// How many legs it can have.
    #[must_use]
    pub const fn legs(&self) -> usize {
        match self {
            Self::Join(_) | Self::Exchange(_) => 2,
            Self::Mirror(_) => 3,
        }
    }

    /// Whether two servers stand for its client now, and the death of either would not show; `None` where
    /// there are to be no two, or not yet.
    #[must_use]
    pub fn is_mirrored(&self) -> Option<bool> {
        match self {
            Self::Join(_) | Self::Exchange(_) => None,
            Self::Mirror(mirror) => mirror.is_masked(),
        }
    }

    /// What each of two servers says where they differ.
    pub fn excerpts(&self, legs: &mut dyn Legs) -> [Vec<u8>; 2] {
        match self {
            Self::Join(_) | Self::Exchange(_) => Default::default(),
            Self::Mirror(mirror) => mirror.excerpts(legs),
        }
    }

    /// How much memory is to be set aside for what is kept, in bytes, for each [`Keep`]. 0: nothing to
    /// speak of.
    #[must_use]
    pub fn keeps(&self) -> [u64; 2] {
        match self {
            Self::Join(_) | Self::Mirror(_) => [0; 2],
            Self::Exchange(exchange) => exchange.keeps(),
        }
    }

    /// Behind each event: opens the windows of legs as far as there is room for what they say. `waits`:
    /// for which [`Keep`] there is no memory yet.
    pub fn open_windows(&mut self, waits: [bool; 2], legs: &mut dyn Legs, call: &Call<'_>) {
        match self {
            Self::Join(_) | Self::Mirror(_) => {}
            Self::Exchange(exchange) => exchange.open_windows(waits, legs, call),
        }
    }

    /// Whether more than a head is to be expected of a leg.
    #[must_use]
    pub fn is_wide(&self, leg: Leg) -> bool {
        match self {
            Self::Join(_) | Self::Mirror(_) => true,
            Self::Exchange(exchange) => exchange.is_wide(leg),
        }
    }

    /// Leading: since when nothing has happened.
    #[must_use]
    pub const fn idle_since(&self) -> Option<Instant> {
        match self {
            Self::Join(_) | Self::Mirror(_) => None,
            Self::Exchange(exchange) => exchange.request_idle_since(),
        }
    }

    /// Leading: there is no server to be dialled. Whether the session waits for one; else its client is
    /// refused.
    pub fn waits_for_server(&mut self, now: Instant) -> bool {
        match self {
            Self::Join(_) | Self::Mirror(_) => false,
            Self::Exchange(exchange) => {
                exchange.on_no_server(now);
                true
            }
        }
    }

    /// Leading: whether it is idle, its deadline having passed.
    pub fn is_idle(&mut self, now: Instant, legs: &mut dyn Legs) -> bool {
        match self {
            Self::Join(join) => join.is_idle(now, legs),
            Self::Exchange(exchange) => exchange.is_idle(now, legs),
            Self::Mirror(mirror) => mirror.is_idle(now, legs),
        }
    }

    /// Leading: by when an [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self, kind: Kind) -> Option<Instant> {
        match (self, kind) {
            (Self::Join(join), Kind::Join(patience)) => join.deadline(&patience),
            (Self::Exchange(exchange), Kind::Exchange(_, patience)) => exchange.deadline(&patience),
            (Self::Mirror(mirror), Kind::Mirror(_, patience)) => mirror.deadline(&patience),
            _ => None,
        }
    }

    /// Leading: by when it is to be looked whether a silent server's backend serves ([`Self::look`]).
    #[must_use]
    pub fn look_at(&self, kind: Kind) -> Option<Instant> {
        match (self, kind) {
            (Self::Exchange(exchange), _) => exchange.look_at(),
            (Self::Mirror(mirror), Kind::Mirror(_, patience)) => mirror.judge_at(&patience),
            _ => None,
        }
    }

    /// Leading: it was looked, and the backends of its legs are `up`, or not. What is to be done.
    pub fn look(&mut self, now: Instant, kind: Kind, up: [bool; LEGS]) -> Option<Effect> {
        match (self, kind) {
            (Self::Exchange(exchange), _) => {
                exchange.looked(now);
                (!up[usize::from(BACKEND)]).then_some(Effect::Reset(BACKEND))
            }
            (Self::Mirror(mirror), Kind::Mirror(_, patience)) => {
                let (leg, why) =
                    mirror.judge(now, &patience, TWINS.map(|leg| up[usize::from(leg)]))?;
                Some(Effect::Forsake(leg, why))
            }
            _ => None,
        }
    }

    /// Whether [`Event::Leave`] would mean anything to it now.
    #[must_use]
    pub fn can_leave(&self) -> bool {
        match self {
            // It has one server for as long as it lives.
            Self::Join(_) => false,
            // Each of its servers has a part in it from the first byte to the last.
            Self::Mirror(_) => false,
            Self::Exchange(exchange) => exchange.can_leave(),
        }
    }

    /// What it takes in memory beside what its legs do, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Self::Join(_) => 0,
            Self::Exchange(exchange) => exchange.memory(),
            Self::Mirror(mirror) => mirror.memory(),
        }
    }

    /// Appends everything that another node needs to go on from here.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Join(join) => join.encode(out),
            Self::Exchange(exchange) => exchange.encode(out),
            Self::Mirror(mirror) => mirror.encode(out),
        }
    }

    /// Reads an encoded session of a service of this kind.
    #[must_use]
    pub fn decode(kind: Kind, bytes: &[u8]) -> Option<Self> {
        match kind {
            Kind::Join(_) => Some(Self::Join(Join::decode(bytes)?)),
            Kind::Exchange(..) => Some(Self::Exchange(Box::new(Exchange::decode(bytes)?))),
            Kind::Mirror(..) => Some(Self::Mirror(Box::new(Mirror::decode(bytes)?))),
            Kind::Echo | Kind::Discard | Kind::Chargen | Kind::Files { .. } => None,
        }
    }
}

/// Whose leg a connection is, as its first record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership<'a> {
    /// The session's name on both nodes.
    pub session: SessionId,
    /// Which of its legs.
    pub leg: Leg,
    /// The session itself, with the first of its legs that is told.
    pub state: Option<&'a [u8]>,
}

impl<'a> Membership<'a> {
    /// Appends the encoded value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.session.0);
        out.push(self.leg);
        out.push(u8::from(self.state.is_some()));
        if let Some(state) = self.state {
            put_bytes(out, state);
        }
    }

    /// Reads an encoded value from the front of `bytes`; returns what follows it, too.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut reader = Reader::new(bytes);
        let session = SessionId(reader.number()?);
        let leg = reader.byte().filter(|leg| usize::from(*leg) < LEGS)?;
        let state = match reader.byte()? {
            0 => None,
            1 => Some(reader.bytes()?),
            _ => return None,
        };
        Some((Self { session, leg, state }, reader.rest()))
    }
}
