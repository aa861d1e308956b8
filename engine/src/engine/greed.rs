//! The limits of one client address: how many connections and splices it may have, and how many it may
//! begin in a second.
//!
//! ```text
//!   SYN ─► has all it may? too fast? ─► dropped      (so is a cookie that comes back)
//!    │ no: it pays for one
//!    ▼
//!   half-open, counts for nothing ─► handshake done ─► too many by now? ─► reset
//!                                                       │ no: it counts, up to TIME-WAIT
//! ```
//!
//! A SYN may be forged, and must not cost its alleged sender a place; so what counts is who has shown that
//! it hears us. Whatever stands goes on standing, also where a takeover, or a smaller limit, finds more
//! of it than there may be.

use core::net::IpAddr;

use super::connection::{Connection, Mark};
use super::notice::Notice;
use super::outbox::{Kind, Loose};
use super::{Complaint, Engine};
use crate::ids::ConnId;
use crate::session::CLIENT;
use crate::sources::Source;
use crate::tcp::CloseCause;
use crate::time::Instant;
use crate::wire::FourTuple;

/// What one address may have, IPv6 by networks of 64 bits. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerSource {
    /// Connections and splices at a time.
    pub connections: u32,
    /// New ones in a second, and as many at once.
    pub rate: u32,
}

/// What an address has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greed {
    /// It has as many as it may.
    Connections(u32),
    /// It begins more in a second than it may.
    Rate(u32),
}

/// Whether it counts for its client's address.
pub(super) fn counts(connection: &Connection) -> bool {
    let accepted = connection.place().is_none_or(|place| place.leg == CLIENT);
    accepted && connection.handshake_logged && !connection.marks.has(Mark::Waits)
}

impl Engine {
    /// Whether the address of `client` may begin one more.
    pub(super) fn may_begin(&mut self, now: Instant, client: &FourTuple) -> bool {
        let PerSource { connections, rate } = self.setup.per_source;
        let greed = if connections > 0 && self.of_source(client) >= connections {
            Greed::Connections(connections)
        } else if rate > 0 && !self.sources.may_begin(now, Source::of(client), rate) {
            Greed::Rate(rate)
        } else {
            return true;
        };
        self.complain_of(now, client.remote.ip(), greed);
        false
    }

    /// It has begun one.
    pub(super) fn pay(&mut self, now: Instant, client: &FourTuple) {
        let rate = self.setup.per_source.rate;
        if rate > 0 {
            self.sources.begin(now, Source::of(client), rate);
        }
    }

    /// Connections and splices of the address of `client`.
    fn of_source(&self, client: &FourTuple) -> u32 {
        self.sources.count(Source::of(client)).saturating_add(self.relays.of_source(client))
    }

    /// Keeps the count of what a connection counts for.
    pub(super) fn note_source(&mut self, id: ConnId) {
        if self.setup.per_source.connections == 0 {
            return;
        }
        let Some(connection) = self.table.get_mut(id) else { return };
        let counts = counts(connection);
        if !connection.marks.set(Mark::Counts, counts) {
            return;
        }
        let source = Source::of(&connection.tuple);
        if counts { self.sources.add(source) } else { self.sources.take(source) }
    }

    /// A connection is no more.
    pub(super) fn uncount_source(&mut self, connection: &Connection) {
        if connection.marks.has(Mark::Counts) {
            self.sources.take(Source::of(&connection.tuple));
        }
    }

    /// The client of a connection has shown that it is there. If by now its address has all that it may,
    /// it is refused. Whether it is.
    pub(super) fn turn_away(&mut self, now: Instant, id: ConnId) -> bool {
        self.note_source(id);
        let Some(connection) = self.table.get_mut(id) else { return false };
        let (tuple, counted) = (connection.tuple, connection.marks.has(Mark::Counts));
        if !counted || !self.is_beyond(now, &tuple) {
            return false;
        }
        self.reset(now, id);
        true
    }

    /// The same, of a splice whose ends have just found each other.
    pub(super) fn turn_splice_away(&mut self, now: Instant) -> bool {
        if self.setup.per_source.connections == 0 {
            return false;
        }
        let Some((id, client)) = self.relays.just_proven() else { return false };
        let away = self.is_beyond(now, &client);
        if away {
            self.relays.turn_away(id);
        }
        away
    }

    fn is_beyond(&mut self, now: Instant, client: &FourTuple) -> bool {
        let most = self.setup.per_source.connections;
        let is_beyond = self.of_source(client) > most;
        if is_beyond {
            self.complain_of(now, client.remote.ip(), Greed::Connections(most));
        }
        is_beyond
    }

    fn complain_of(&mut self, now: Instant, address: IpAddr, greed: Greed) {
        self.stats.source_refused += 1;
        let complaint = match greed {
            Greed::Connections(_) => Complaint::Crowd,
            Greed::Rate(_) => Complaint::Haste,
        };
        if let Some(left_out) = self.complaints.permit(now, complaint) {
            self.report(Notice::Greedy { address, greed, left_out });
        }
    }

    /// Resets a connection, and forgets it.
    pub(super) fn reset(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let tuple = connection.tuple;
        let Some(tcb) = connection.tcb_mut() else { return };
        tcb.abort(now);
        if let Some(reset) = tcb.poll_transmit(now, &mut |_| 0) {
            self.push(Kind::Reset, Loose::Segment(tuple, reset));
        }
        self.end(now, id, CloseCause::Aborted);
    }
}
