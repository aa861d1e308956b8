//! Errands: what is to be done to everything that a backend has, a share a turn.
//!
//! A backend that drains is to get no further request on the connections that sessions have to it; one that is
//! cut off loses all that it has. Both mean a walk over splices and dialled legs, of which there may be very
//! many:
//!
//! ```text
//!   State, or Dead ────► Errand ─┬─► Event::Leave(leg), Event::Break(leg)   a session's
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
    wish: Wish,
    /// Slots before these have been looked at.
    splice: usize,
    leg: usize,
}

/// What is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// Sessions leave it.
    Leave,
    /// It ends, as an operator wants.
    Cut,
    /// It ends, as nobody is there any more.
    Bury,
}

impl Errand {
    /// From the beginning.
    const fn new(at: (u16, u16), address: Endpoint, wish: Wish) -> Self {
        Self { at, address, wish, splice: 0, leg: 0 }
    }

    /// What has been said of a backend, if that asks for anything.
    fn of(at: (u16, u16), server: &Server) -> Option<Self> {
        let State { admin, cut, .. } = server.state();
        let wish = if cut { Wish::Cut } else { Wish::Leave };
        (admin != Admin::Ready).then(|| Self::new(at, server.address, wish))
    }
}

impl Relays {
    /// Sees to it that what `at` has is treated as has been said of it, from the beginning.
    pub(super) fn plan_errand(&mut self, at: (u16, u16)) {
        self.errands.retain(|errand| errand.at != at);
        let errand = self.server(Some(at)).and_then(|server| Errand::of(at, server));
        self.errands.extend(errand);
    }

    /// Checks have found nobody at a backend: what it has is ended, if its relay says so.
    pub(super) fn on_dead(&mut self, at: (u16, u16)) {
        let Some(relay) = self.relays.get(usize::from(at.0)) else { return };
        let Settings { port, on_death, .. } = relay.settings;
        let Some(server) = relay.servers.get(usize::from(at.1)) else { return };
        let (address, left, cut) = (server.address, server.load, server.state().cut);
        if on_death == OnDeath::Keep || left == 0 || cut {
            return;
        }
        self.errands.retain(|errand| errand.at != at);
        self.errands.push_back(Errand::new(at, address, Wish::Bury));
        self.events.push_back(Event::Dead { port, address, left });
    }

    /// Goes on with what is to be done.
    pub(super) fn plan_errands(&mut self) {
        self.errands.clear();
        for (relay, of) in self.relays.iter().enumerate() {
            let servers = of.servers.iter().enumerate();
            let errands =
                servers.filter_map(|(server, one)| Errand::of((relay as u16, server as u16), one));
            self.errands.extend(errands);
        }
    }

    /// Does a turn's share.
    pub(super) fn run_errands(&mut self) {
        let mut left = SHARE;
        while let Some(mut errand) = self.errands.pop_front() {
            let of = |server: &&mut Server| server.address == errand.address;
            let Some(server) = self.server(Some(errand.at)).filter(of) else { continue };
            if errand.wish == Wish::Bury && server.up {
                // It is back, and what it has may be new.
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
        let cut = errand.wish != Wish::Leave;
        while cut && errand.splice < self.table.slots() {
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
            let wish = if cut { Event::Break } else { Event::Leave };
            self.events.extend(leg.map(wish));
        }
        true
    }

    fn end_errand(&mut self, errand: &Errand) {
        let cut = errand.wish == Wish::Cut;
        let Some(server) = self.server(Some(errand.at)).filter(|_| cut) else { return };
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
