//! Errands: what is to be done to everything that a backend has, a share a turn.
//!
//! A backend that drains is to get no further request on the connections that sessions have to it; one that is
//! cut off loses all that it has. Both mean a walk over splices and dialled legs, of which there may be very
//! many:
//!
//! ```text
//!   State, or a death ─► Errand ─┬─► Event::Leave(leg), Event::Break(leg)   a session's
//!                                └─► Event::Cut(splice)
//! ```
//!
//! An heir walks anew from what has been said of each backend.

use super::*;

/// What a leg counts for: its session is called, and may dial another server.
const LEG: usize = 8;

/// A walk over what one backend has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand {
    at: (u16, u16),
    /// Places in the list are given away when a backend is not configured.
    address: Endpoint,
    /// Ends what it has; else sessions are told to leave it.
    cut: bool,
    /// Slots before these have been looked at.
    splice: usize,
    leg: usize,
}

impl Relays {
    /// Sees to it that what `at` has is treated as has been said of it, from the beginning.
    pub(super) fn plan_errand(&mut self, at: (u16, u16)) {
        self.errands.retain(|errand| errand.at != at);
        let Some(server) = self.server(Some(at)) else { return };
        let (address, State { admin, cut, .. }) = (server.address, server.state());
        if admin != Admin::Ready {
            self.errands.push_back(Errand { at, address, cut, splice: 0, leg: 0 });
        }
    }

    /// Goes on with what is to be done.
    pub(super) fn plan_errands(&mut self) {
        self.errands.clear();
        for (relay, of) in self.relays.iter().enumerate() {
            for (server, one) in of.servers.iter().enumerate() {
                let State { admin, cut, .. } = one.state();
                if admin != Admin::Ready {
                    let (at, address) = ((relay as u16, server as u16), one.address);
                    self.errands.push_back(Errand { at, address, cut, splice: 0, leg: 0 });
                }
            }
        }
    }

    /// Does a turn's share.
    pub(super) fn run_errands(&mut self) {
        let mut left = SHARE;
        while let Some(mut errand) = self.errands.pop_front() {
            let here = self.server(Some(errand.at)).map(|server| server.address);
            if here != Some(errand.address) {
                continue;
            }
            if !self.run_errand(&mut errand, &mut left) {
                self.errands.push_front(errand);
                return;
            }
            self.end_errand(&errand);
        }
    }

    /// Whether it is done.
    fn run_errand(&mut self, errand: &mut Errand, left: &mut usize) -> bool {
        while errand.cut && errand.splice < self.table.slots() {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            let id = self.table.tenant(errand.splice);
            errand.splice += 1;
            id.into_iter().for_each(|id| self.cut_splice(id, errand.at));
        }
        while errand.leg < self.dialled.slots() {
            if *left == 0 {
                return false;
            }
            let leg = self.dialled.leg_at(errand.leg, errand.at);
            *left = left.saturating_sub(if leg.is_some() { LEG } else { 1 });
            errand.leg += 1;
            let wish = if errand.cut { Event::Break } else { Event::Leave };
            self.events.extend(leg.map(wish));
        }
        true
    }

    fn end_errand(&mut self, errand: &Errand) {
        let Some(server) = self.server(Some(errand.at)).filter(|_| errand.cut) else { return };
        let (address, state) = (server.address, State { cut: false, ..server.state() });
        server.end_cut();
        let port = self.relays[usize::from(errand.at.0)].settings.port;
        self.events.push_back(Event::State { port, address, state });
    }

    /// Ends a splice of the backend `at`, if it is one that lives.
    fn cut_splice(&mut self, id: SpliceId, at: (u16, u16)) {
        let Some(entry) = self.table.get_mut(id) else { return };
        if entry.at != Some(at) || entry.is_over() {
            return;
        }
        let (splice, opening) = (entry.splice, entry.is_opening());
        self.end(id);
        if !opening {
            // Else its client has heard nothing, and sends its SYN again.
            self.events.push_back(Event::Cut(splice));
        }
    }
}
