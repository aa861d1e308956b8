//! A join: what a client says goes to a server, and what that says goes to the client. Both connections
//! end here, so each has its own segment size, window, options and losses (DESIGN §8.2).
//!
//! ```text
//!   client stands ─► dial ─► server stands ─► bytes and ends, both ways ─► both closed
//!                     ▲  └── refused, or late ──┐
//!                     └──── another server ◄─────┘ … or the client is reset
//! ```
//!
//! Each direction ends on its own (a half-close passes). If a leg breaks, the other one is reset: what is
//! cut short never looks complete (I6). A slow reader slows the writer: what leads takes no more input
//! than there is room for in front of the other leg.

use super::{BACKEND, CLIENT, Call, Effect, Event, Leg, Legs, other};
use crate::service::JoinPatience;
use crate::time::Instant;

/// How many servers are asked for one client.
const ATTEMPTS: u8 = 4;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Join {
    /// The client stands, and a server is wanted.
    wanted: bool,
    /// The server stands.
    stands: bool,
    /// It cannot go on.
    broken: bool,
    /// Servers that have been asked in vain.
    refusals: u8,
    /// Leading: since when nothing has happened.
    since: Option<Instant>,
}

impl Join {
    /// Something has happened.
    pub fn on_event(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let waited = (self.wanted, self.stands, self.refusals);
        if !self.broken {
            self.note(event, legs, call);
        }
        if self.broken {
            call.effects.extend([CLIENT, BACKEND].map(Effect::Reset));
            return;
        }
        let mut moved = waited != (self.wanted, self.stands, self.refusals);
        let closed = matches!(event, Event::Closed { .. });
        if self.stands && !closed {
            // Not before: what a server has not taken goes to the next one.
            moved |= forward(legs, CLIENT, BACKEND, call.lead, call.buffer);
            moved |= forward(legs, BACKEND, CLIENT, call.lead, call.buffer);
        }
        if moved && call.lead {
            self.since = Some(call.now);
        }
        // What was measured on another node is no wait of ours.
        self.since = call.lead.then(|| self.since.unwrap_or(call.now));
    }

    fn note(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        match event {
            Event::Moved | Event::Leave | Event::GivenUp { .. } => {}
            Event::Stands(CLIENT) => {
                if !core::mem::replace(&mut self.wanted, true) {
                    call.effects.push(Effect::Dial(BACKEND));
                }
            }
            Event::Stands(_) => self.stands = true,
            Event::Closed { leg: BACKEND, orderly: false } if !self.stands => self.refused(call),
            Event::Closed { orderly: false, .. } => self.broken = true,
            // What it said last goes on, room or no room: a receive window of it at most.
            Event::Closed { leg, orderly: true } => _ = forward(legs, leg, other(leg), false, 0),
            // Its end is an event of its own.
            Event::Tick if !self.stands && legs.leg(BACKEND).is_some() => {
                call.effects.push(Effect::Reset(BACKEND));
            }
            // There was no room for it.
            Event::Tick if !self.stands => self.refused(call),
            Event::Tick => self.broken = true,
            Event::Lead => {
                if self.wanted && !self.stands && legs.leg(BACKEND).is_none() {
                    call.effects.push(Effect::Dial(BACKEND));
                }
            }
        }
    }

    /// A server did not take the connection.
    fn refused(&mut self, call: &mut Call<'_>) {
        self.refusals += 1;
        if self.refusals < ATTEMPTS {
            call.effects.push(Effect::Dial(BACKEND));
        } else {
            self.broken = true;
        }
    }

    /// Leading: whether it is idle, its deadline having passed. Who hears slowly is waited for: that begins
    /// anew then. Only a node that leads can tell, as it knows what has been acknowledged.
    pub fn is_idle(&mut self, now: Instant, legs: &mut dyn Legs) -> bool {
        let awaited = |leg| legs.leg(leg).is_some_and(|app| app.is_awaited());
        let waits = self.stands && [CLIENT, BACKEND].into_iter().any(awaited);
        if waits {
            self.since = Some(now);
        }
        !waits
    }

    /// Leading: by when an [`Event::Tick`] is due.
    pub fn deadline(&self, patience: &JoinPatience) -> Option<Instant> {
        let wait = match () {
            () if self.broken || !self.wanted => return None,
            () if self.stands => patience.idle,
            () => patience.connect,
        };
        Some(self.since? + wait)
    }

    /// Appends everything that another node needs to go on from here.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { wanted, stands, broken, refusals, since: _ } = self;
        out.push(u8::from(*wanted) | u8::from(*stands) << 1 | u8::from(*broken) << 2);
        out.push(*refusals);
    }

    /// Reads an encoded value.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [flags, refusals] = *bytes else { return None };
        let bit = |shift: u8| flags >> shift & 1 == 1;
        let (wanted, stands, broken) = (bit(0), bit(1), bit(2));
        (flags < 8 && refusals <= ATTEMPTS).then_some(Self {
            wanted,
            stands,
            broken,
            refusals,
            since: None,
        })
    }
}

/// What one leg has said goes to the other one, and its end behind it. Whether there was anything.
fn forward(legs: &mut dyn Legs, from: Leg, to: Leg, lead: bool, most: u32) -> bool {
    let Some(room) = legs.leg(to).map(|app| app.room(lead, most)) else { return false };
    let Some(source) = legs.leg(from) else { return false };
    let piece = source.take_unread(room);
    let ended = source.has_ended();
    let Some(target) = legs.leg(to) else { return false };
    if ended {
        target.finish();
    }
    let Some(piece) = piece else { return false };
    target.push(&piece);
    true
}
