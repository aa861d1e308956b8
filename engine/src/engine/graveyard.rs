//! What was dropped whole, and is taken apart a share a turn.
//!
//! A role ends with all that it had: a standby begins its next session without the million connections of
//! the last one, an owner in doubt goes on without any of its own. Whoever comes next gets fresh tables at
//! once. To free the old ones, and to ask the ends of connections that cannot be continued where they are
//! ([`super::questions`]), takes longer than a turn may.

use std::collections::VecDeque;

use super::Engine;
use super::connection::{Body, Connection};
use super::lingering::Lingering;
use super::owner::{Owner, Queues};
use super::questions::Question;
use super::replicate::Released;
use super::sessions::Session;
use super::table::Remnant;
use crate::ids::ConnId;
use crate::relay::{self, Splice};
use crate::service::App;
use crate::slots::{Queue, Slots};
use crate::sources::Sources;
use crate::tcp::{self, Transmit};
use crate::time::Instant;
use crate::wire::Timestamps;

/// Connections, or things that take as long, buried in one turn: well under a millisecond of work.
pub(super) const SHARE: usize = 512;
/// As many connections a piece of anything else counts for.
const PIECE: usize = 4;

/// Bytes that take about as long as a connection to free.
const BYTES: usize = 16 << 10;
/// A connection that ends with more than this is not freed at once, in bytes.
const MUCH: usize = 64 << 10;

/// Something that was dropped.
#[derive(Debug)]
pub(super) enum Remains {
    /// Connections. `asked`: their ends are asked where they are.
    Connections { slots: Slots<Box<Connection>>, asked: bool },
    /// What the table had beside them.
    Table(Remnant),
    /// Splices, and what was kept of them. `asked`: as above.
    Splices { remains: Box<relay::Remains>, asked: bool },
    /// Sessions of several connections.
    Sessions(Slots<Box<Session>>),
    /// What addresses had.
    Sources(Box<Sources>),
    /// Names of connections.
    Names(Queue<ConnId>),
    /// The same, in TIME-WAIT.
    Lingering(Lingering),
    /// What an owner had.
    Owner(Box<Owner>),
    /// The same, of its connections alone.
    Queues(Box<Queues>),
    /// Those that waited for a standby.
    Released(Box<Released>),
    /// What one connection kept, if that is much.
    Hoard(Box<App>),
}

/// What was dropped, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Graveyard {
    remains: VecDeque<Remains>,
}

impl Graveyard {
    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.remains.is_empty()
    }

    /// Takes what was dropped.
    pub(super) fn take(&mut self, remains: Remains) {
        self.remains.push_back(remains);
    }

    /// Nobody is asked any more.
    pub(super) fn silence(&mut self) {
        for remains in &mut self.remains {
            if let Remains::Connections { asked, .. } | Remains::Splices { asked, .. } = remains {
                *asked = false;
            }
        }
    }

    /// How many connections and splices lie here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let count = |remains: &Remains| match remains {
            Remains::Connections { slots, .. } => slots.len(),
            Remains::Splices { remains, .. } => remains.len(),
            Remains::Table(_)
            | Remains::Sources(_)
            | Remains::Names(_)
            | Remains::Lingering(_)
            | Remains::Owner(_)
            | Remains::Sessions(_)
            | Remains::Queues(_)
            | Remains::Hoard(_)
            | Remains::Released(_) => 0,
        };
        self.remains.iter().map(count).sum()
    }
}

impl Engine {
    /// Buries a turn's share of what was dropped.
    pub(super) fn bury(&mut self, now: Instant) {
        let mut left = SHARE;
        while left > 0
            && let Some(mut remains) = self.graveyard.remains.pop_front()
        {
            let hoard = if let Remains::Hoard(app) = &remains { app.memory() / BYTES } else { 0 };
            let cost = self.bury_piece(now, &mut remains);
            left = left.saturating_sub(cost.unwrap_or(1) + hoard);
            if cost.is_some() {
                self.graveyard.remains.push_front(remains);
            }
        }
    }

    /// Buries a piece of `remains`. What that cost, in connections; `None`: nothing was left.
    fn bury_piece(&mut self, now: Instant, remains: &mut Remains) -> Option<usize> {
        let more = match remains {
            Remains::Connections { slots, asked } => {
                let mut cost = PIECE;
                for connection in slots.pop_piece()? {
                    self.bury_connection(now, connection, *asked);
                    cost += 1;
                }
                return Some(cost);
            }
            Remains::Splices { remains, asked } => {
                let mut cost = PIECE;
                let more = remains.pop_piece(&mut |living| {
                    cost += 1;
                    if *asked && let Some(splice) = living {
                        self.ask_splice(now, &splice);
                    }
                });
                return more.then_some(cost);
            }
            Remains::Table(remnant) => remnant.pop_piece(),
            Remains::Sessions(sessions) => sessions.pop_piece().is_some(),
            Remains::Sources(sources) => sources.pop_piece(),
            Remains::Names(names) => names.pop_piece(),
            Remains::Lingering(lingering) => lingering.pop_piece(),
            Remains::Owner(owner) => owner.pop_piece(),
            Remains::Queues(queues) => queues.pop_piece(),
            Remains::Released(released) => released.pop_piece(),
            Remains::Hoard(_) => false,
        };
        more.then_some(PIECE)
    }

    /// The application of a connection that has ended is done with.
    pub(super) fn part_with(&mut self, id: ConnId, mut app: App) {
        self.store.close(id, &mut app);
        if app.memory() > MUCH {
            self.graveyard.take(Remains::Hoard(Box::new(app)));
        }
    }

    fn bury_connection(&mut self, now: Instant, mut connection: Box<Connection>, asked: bool) {
        // What it asked the store for was forgotten when it was dropped: its name may be another's now.
        connection.app.close(&mut self.store);
        if !asked {
            return;
        }
        let Self { setup, clock, .. } = self;
        let last = match &mut connection.body {
            Body::Held(hard) => tcp::farewell(&setup.tcp, hard, clock.at(now)),
            Body::Live(tcb) => tcp::farewell(&setup.tcp, &tcb.hard(), now),
            Body::Parked(parked) => tcp::farewell(&setup.tcp, &parked.unpark().hard(), now),
        };
        let Transmit { seq, ack, window, options, .. } = last;
        let (tuple, timestamps) = (connection.tuple, options.timestamps);
        self.ask(Question { tuple, seq, ack, window, timestamps, blind: false });
    }

    /// Asks both ends of a splice that was dropped. Nothing here knows their numbers.
    pub(super) fn ask_splice(&mut self, now: Instant, splice: &Splice) {
        for tuple in [splice.client, splice.backend] {
            let relay::Numbers { iss, ts } = self.numbers(now, &tuple);
            // Where there are none, they say nothing; where there are, they have to be there
            // (RFC 7323 §3.2), and old or new, the segment is answered.
            let timestamps = Some(Timestamps { val: ts, ecr: 0 });
            let (seq, ack, window) = (iss, iss.add(1 << 30), u16::MAX);
            self.ask(Question { tuple, seq, ack, window, timestamps, blind: true });
        }
    }
}
