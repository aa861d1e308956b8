//! Two servers on the same input, at work: what the node that leads finds of them and puts into the log, and
//! what becomes of a server that says something else than the other one.
//!
//! ```text
//!   Effect::Forsake ─┐
//!   nobody to dial ──┼─► Record::Pin ─► Event::GivenUp ─► Effect::Lost, Effect::Reset
//!   Effect::Differs ─┘        └─► the same event on the standby
//!      └─► the younger one is barred: no new client is given to it
//! ```

use super::notice::Notice;
use super::sessions::There;
use super::{Complaint, Engine};
use crate::ids::ConnId;
use crate::replica::Record;
use crate::service::Kind;
use crate::session::{Event, Leg, Loss, TWINS};
use crate::time::Instant;

impl Engine {
    /// Whether a session is one with two servers.
    pub(super) fn has_twins(&mut self, slot: u32) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else { return false };
        matches!(self.setup.services[usize::from(session.service)].kind, Kind::Mirror(..))
    }

    /// The session goes on without one of its servers, on both nodes.
    pub(super) fn give_up(&mut self, now: Instant, slot: u32, leg: Leg, why: Loss) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        // The legs are told together: any of them will do.
        let Some(id) = session.legs.into_iter().flatten().next() else { return };
        let told = self.table.get_mut(id).is_some_and(|connection| connection.replicated);
        let bytes = why.encode(leg);
        let last = if told { self.append(&Record::Pin { conn: id, bytes: &bytes }) } else { None };
        self.call_session(now, slot, Event::GivenUp { leg, why }, None, last);
    }

    /// Follower: what the peer has found, or why that cannot be.
    pub(super) fn given_up(&mut self, id: ConnId, bytes: &[u8]) -> Result<(), &'static str> {
        let place = self.table.get_mut(id).and_then(|connection| connection.place());
        let twins = place.is_some_and(|place| self.has_twins(place.slot));
        let found = Loss::decode(bytes).filter(|_| twins);
        found.map(|_| ()).ok_or("pin does not decode")
    }

    /// A session goes on without a server that was to have a part in it.
    pub(super) fn on_twin_lost(&mut self, now: Instant, slot: u32, leg: Leg, why: Loss) {
        if why == Loss::Absent {
            return;
        }
        self.stats.twins_lost += 1;
        let Some((port, is_ipv6)) = self.mirror_of(slot) else { return };
        // What the other one went on with it has missed.
        if let Some(at) = TWINS.iter().position(|twin| *twin == leg) {
            self.relays.on_twin_lost(port, is_ipv6, at);
            self.follow_relays(now);
        }
    }

    /// The port of a session, and whether its client came by IPv6.
    fn mirror_of(&mut self, slot: u32) -> Option<(u16, bool)> {
        let session = self.sessions.get_mut(slot)?;
        let (service, id) = (session.service, session.legs.into_iter().flatten().next()?);
        let is_ipv6 = self.table.get_mut(id)?.tuple.is_ipv6();
        Some((self.setup.services[usize::from(service)].port, is_ipv6))
    }

    /// Two servers say different things from `offset` on. The elder goes on, if one of them is to.
    pub(super) fn on_difference(&mut self, now: Instant, slot: u32, offset: u64) {
        let Some((port, is_ipv6)) = self.mirror_of(slot) else { return };
        let Self { sessions, table, .. } = self;
        let Some(session) = sessions.get_mut(slot) else { return };
        let legs = session.legs;
        let excerpts = session.machine.excerpts(&mut There { table, legs, gone: None });
        let goes_on = session.machine.is_mirrored() == Some(true);
        let twins = [0, 1].map(|at| self.relays.twin(port, is_ipv6, at));
        let younger = self.relays.younger_twin(port, is_ipv6);
        self.stats.differences += 1;
        let barred = if goes_on { twins[younger] } else { None };
        if let Some(left_out) = self.complaints.permit(now, Complaint::Difference) {
            self.report(Notice::TwinsDiffer { port, offset, twins, excerpts, barred, left_out });
        }
        if !goes_on {
            return;
        }
        self.relays.bar_twin(port, is_ipv6, younger);
        self.follow_relays(now);
        self.give_up(now, slot, TWINS[younger], Loss::Differs);
    }
}
