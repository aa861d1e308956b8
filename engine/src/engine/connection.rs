//! One connection as the engine holds it: its TCP, its application, its place in the log.

use crate::ids::ConnId;
use crate::replica::Pending;
use crate::service::{App, Kind, Place};
use crate::session::CLIENT;
use crate::tcp::{Hard, Horizon, Parked, State, Tcb};
use crate::time::Instant;
use crate::wire::FourTuple;

/// A connection's TCP: spoken here, or only known here.
///
/// Each in a box of its own: what a standby holds is a quarter of what speaking takes, what is parked
/// less than half of it, and there are very many of both.
#[derive(Debug)]
pub(super) enum Body {
    /// This engine speaks for it.
    Live(Box<Tcb>),
    /// This engine speaks for it, and there is nothing to say. The table makes it live again before
    /// anybody sees it.
    Parked(Box<Parked>),
    /// The peer speaks for it; this is what the log says so far.
    Held(Box<Hard>),
}

/// What the timer wheel knows of a connection. The wheel cannot forget; without this memory each
/// exchange on a connection with a far deadline, its keepalive say, would leave one more far entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alarm {
    /// When the wheel will next look at it.
    next: Instant,
    /// A later entry that stands in the wheel as well.
    later: Instant,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { next: Instant::NEVER, later: Instant::NEVER }
    }
}

impl Alarm {
    /// Whether the wheel needs an entry for `deadline`; if so it is taken to be inserted.
    pub(super) fn set(&mut self, deadline: Instant) -> bool {
        if deadline >= self.next {
            return false;
        }
        if self.later == Instant::NEVER {
            self.later = self.next;
        }
        self.next = deadline;
        true
    }

    /// Whether the wheel has an entry for it.
    pub(super) fn is_set(&self) -> bool {
        self.next != Instant::NEVER
    }

    /// Whether the wheel looks at it only after `due`.
    pub(super) fn rings_after(&self, due: Instant) -> bool {
        self.next > due
    }

    /// An entry came out of the wheel. Whether it is the one that was waited for, and not one
    /// that another has replaced.
    pub(super) fn rings(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        *self = Self { next: self.later, later: Instant::NEVER };
        true
    }
}

/// Something that is put down about a connection, a bit each: there are very many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// It stands in the list of those in TIME-WAIT.
    Waits = 1,
    /// It stands in the list of those whose client may have gone.
    Deserted = 2,
    /// It counts for its client's address.
    Counts = 4,
}

/// Some of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks(u8);

impl Marks {
    pub(super) const fn has(self, mark: Mark) -> bool {
        self.0 & mark as u8 != 0
    }

    /// Puts it down, or takes it back. Whether that changes something.
    pub(super) const fn set(&mut self, mark: Mark, holds: bool) -> bool {
        let changes = self.has(mark) != holds;
        if changes {
            self.0 ^= mark as u8;
        }
        changes
    }
}

/// A connection and everything that belongs to it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its name on both nodes.
    pub(super) id: ConnId,
    /// Its name on the wire.
    pub(super) tuple: FourTuple,
    /// Which of the configured services answers it.
    pub(super) service: u16,
    /// The application.
    pub(super) app: App,
    /// The transport.
    pub(super) body: Body,
    /// Its last record in the log.
    pub(super) pending: Pending,
    /// For the sake of which standby the next four were set: see [`Connection::renew`].
    pub(super) era: u32,
    /// Whether the standby has been told of it: from then on everything it does is.
    pub(super) replicated: bool,
    /// Whether the application has been told that the peer finished.
    pub(super) peer_finished: bool,
    /// Whether it stands in the queue of those with something to send.
    pub(super) queued: bool,
    /// Whether it stands in the queue of those whose application is to be called again.
    pub(super) again: bool,
    /// Held: this node could not continue it byte for byte, and that is counted (I7).
    pub(super) exposed: bool,
    /// Whether its progress changed since the last progress record.
    pub(super) progressed: bool,
    /// What `engine::lingering` and `engine::greed` have put down about it.
    pub(super) marks: Marks,
    /// Whether the log says that its handshake is done.
    pub(super) handshake_logged: bool,
    /// Whether the log says that our FIN was acknowledged.
    pub(super) fin_logged: bool,
    /// Its entries in the timer wheel.
    pub(super) alarm: Alarm,
    /// KiB of memory that it was last found to hold.
    pub(super) holds: u16,
    /// In which lists of `engine::memory` it stands, one bit each.
    pub(super) lists: u16,
    /// Held: in which period it was last put down as one of the [`Recent`](super::wake::Recent).
    pub(super) noted: u32,
}

impl Connection {
    /// A connection that nobody but this engine knows yet.
    pub(super) fn new(id: ConnId, tuple: FourTuple, service: u16, app: App, body: Body) -> Self {
        Self {
            id,
            tuple,
            service,
            app,
            body,
            pending: Pending::default(),
            era: 0,
            replicated: false,
            peer_finished: false,
            queued: false,
            again: false,
            exposed: false,
            progressed: false,
            marks: Marks::default(),
            handshake_logged: false,
            fin_logged: false,
            alarm: Alarm::default(),
            holds: 0,
            lists: 0,
            noted: 0,
        }
    }

    /// What holds for one standby alone does not hold for the next one, nor for none. Standbys
    /// come and go without a walk over all connections: each sees it when it is next looked at.
    pub(super) fn renew(&mut self, era: u32) {
        if self.era == era {
            return;
        }
        self.era = era;
        self.replicated = false;
        self.progressed = false;
        self.exposed = false;
        self.pending = Pending::default();
        self.set_horizon(Horizon::OPEN);
    }

    /// Which leg of which session it is, if its session has several.
    pub(super) fn place(&self) -> Option<Place> {
        self.app.place()
    }

    /// Whether its client has not answered our SYN.
    pub(super) fn is_half_open(&self) -> bool {
        !self.handshake_logged && self.place().is_none_or(|place| place.leg == CLIENT)
    }

    /// Takes less room if nothing is under way. Whether it does.
    pub(super) fn park(&mut self) -> bool {
        if let Body::Live(tcb) = &mut self.body
            && let Some(parked) = tcb.park()
        {
            self.body = Body::Parked(Box::new(parked));
            return true;
        }
        false
    }

    /// Is live again if it was parked. Whether it was.
    pub(super) fn unpark(&mut self) -> bool {
        let Body::Parked(parked) = &mut self.body else { return false };
        self.body = Body::Live(Box::new(parked.unpark()));
        true
    }

    /// The TCB, if this engine speaks for the connection.
    pub(super) fn tcb_mut(&mut self) -> Option<&mut Tcb> {
        match &mut self.body {
            Body::Live(tcb) => Some(tcb),
            Body::Parked(_) | Body::Held(_) => None,
        }
    }

    /// When something is due by itself: TCP's timers, and the application's, which runs while it has
    /// a peer to wait for, and is not to be called anyway.
    pub(super) fn deadline(&mut self, now: Instant, kind: Kind) -> Option<Instant> {
        let Body::Live(tcb) = &self.body else { return None };
        let waits = is_open(tcb) && !self.again;
        let app = waits.then(|| self.app.deadline(now, kind)).flatten();
        [tcb.deadline(), app].into_iter().flatten().min()
    }

    /// Says what the connection may reveal.
    pub(super) fn set_horizon(&mut self, horizon: Horizon) {
        if let Body::Live(tcb) = &mut self.body {
            tcb.set_horizon(horizon);
        }
    }

    /// Tells the TCB where the application stands: input consumed, output available, end.
    pub(super) fn settle(&mut self) {
        let Body::Live(tcb) = &mut self.body else { return };
        tcb.set_consumed(self.app.consumed());
        tcb.set_output_end(self.app.output_end());
        if self.app.finished() {
            tcb.finish();
        }
    }
}

/// Whether an application has a peer to wait for: the handshake is done, and not both ends are.
pub(super) fn is_open(tcb: &Tcb) -> bool {
    tcb.established() && tcb.state() != State::TimeWait
}
