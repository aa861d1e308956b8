//! Connections that the engine itself has to backends, for services whose clients' connections end here:
//! who serves them, and from which port of ours, is chosen as for splices. One allocator has all ports
//! towards a backend.

use super::*;
use crate::slots::{Places, Slots};

/// Dialled legs: by name, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Dialled {
    slots: Slots<(FourTuple, Option<(u16, u16)>)>,
    by_leg: Places,
}

impl Dialled {
    fn find(&self, key: &[u8; 16], leg: &FourTuple) -> Option<usize> {
        let is_it =
            |slot: u32| self.slots.get(slot as usize).is_some_and(|(found, _)| found == leg);
        Some(self.by_leg.find(leg.keyed_hash(key), is_it)? as usize)
    }

    fn insert(&mut self, key: &[u8; 16], leg: FourTuple, at: Option<(u16, u16)>) {
        let slot = self.slots.vacant();
        if self.slots.insert(slot, (leg, at)).is_ok() {
            self.by_leg.insert(leg.keyed_hash(key), slot as u32);
        }
    }

    fn remove(&mut self, key: &[u8; 16], leg: &FourTuple) -> Option<(u16, u16)> {
        let slot = self.find(key, leg)?;
        self.by_leg.remove(leg.keyed_hash(key), |found| found as usize == slot);
        self.slots.remove(slot)?.1
    }

    /// How many slots there are, empty ones included.
    pub(super) const fn slots(&self) -> usize {
        self.slots.end()
    }

    /// The leg in `slot`, if it is one of the backend `at`.
    pub(super) fn leg_at(&self, slot: usize, at: (u16, u16)) -> Option<FourTuple> {
        let (leg, of) = self.slots.get(slot)?;
        (*of == Some(at)).then_some(*leg)
    }

    /// How many there are of one backend.
    pub(super) fn count(&self, at: Option<(u16, u16)>) -> usize {
        self.slots.iter().filter(|(_, found)| *found == at).count()
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.slots.pop_piece().is_some() || self.by_leg.pop_piece()
    }
}

impl Relays {
    /// Chooses a backend of the relay on `port` for `client`, and a port of ours: the leg to it, which is
    /// taken until [`Self::hang_up`]. Not `but`, if another one serves. `None`: none of them serves, or has
    /// a port left.
    pub fn dial(
        &mut self,
        now: Instant,
        port: u16,
        client: &FourTuple,
        but: Option<Endpoint>,
    ) -> Option<FourTuple> {
        let relay = self.relays.iter().position(|relay| relay.settings.port == port)?;
        let servers = &self.relays[relay].servers;
        let but = but.and_then(|but| servers.iter().position(|server| server.address == but));
        let ipv6 = client.is_ipv6();
        let Some(server) = self.choose(relay, ipv6, but).or_else(|| self.choose(relay, ipv6, None))
        else {
            self.counts.refused += 1;
            return None;
        };
        let Some(leg) = self.free_leg(now, relay, server, client.local.ip()) else {
            self.counts.full += 1;
            return None;
        };
        self.keep_dialled(leg, Some((relay as u16, server as u16)));
        Some(leg)
    }

    /// Whether a request of a client of the relay on `port`, which several servers have failed, may go to
    /// one more; it does, then.
    pub fn may_repeat(&mut self, now: Instant, port: u16) -> bool {
        let relay = self.relays.iter_mut().find(|relay| relay.settings.port == port);
        relay.is_some_and(|relay| relay.budget.take(now))
    }

    /// A request of a client of the relay on `port` was answered.
    pub fn on_answered(&mut self, port: u16) {
        let relay = self.relays.iter_mut().find(|relay| relay.settings.port == port);
        relay.into_iter().for_each(|relay| relay.budget.on_answered());
    }

    /// Whether a backend of the relay on `port` takes clients of this family.
    pub fn has_backend(&self, port: u16, ipv6: bool) -> bool {
        let relays = self.relays.iter().filter(|relay| relay.settings.port == port);
        relays.flat_map(|relay| &relay.servers).any(|server| server.is_open_to(ipv6))
    }

    /// Takes note of a leg that the peer has dialled for the relay on `port`. The error says why it cannot
    /// be true.
    pub fn hold_dialled(&mut self, port: u16, leg: FourTuple) -> Result<(), &'static str> {
        let ours = self.limits.addresses.contains(&leg.local.ip());
        if !ours || leg.local.is_ipv6() != leg.remote.is_ipv6() || leg.remote.port() == 0 {
            return Err("leg is not one of the service's");
        }
        if self.has_dialled(&leg) || self.table.find(&leg).is_some() {
            return Err("leg is taken");
        }
        let Some(relay) = self.relays.iter().position(|relay| relay.settings.port == port) else {
            return Err("leg is of no relay");
        };
        let server = self.relays[relay].place_of(leg.remote);
        self.keep_dialled(leg, server.map(|server| (relay as u16, server as u16)));
        Ok(())
    }

    pub(super) fn keep_dialled(&mut self, leg: FourTuple, at: Option<(u16, u16)>) {
        self.dialled.insert(&self.limits.key, leg, at);
        if let Some(server) = self.server(at) {
            server.load += 1;
            server.kept += 1;
            server.legs += 1;
        }
    }

    /// A dialled leg is no more.
    pub fn hang_up(&mut self, leg: &FourTuple) {
        let at = self.dialled.remove(&self.limits.key, leg);
        if let Some(server) = self.server(at) {
            assert!(
                server.load > 0 && server.kept > 0 && server.legs > 0,
                "a leg that ends was counted"
            );
            server.load -= 1;
            server.kept -= 1;
            server.legs -= 1;
        }
    }

    /// A backend has answered our SYN on `leg`, or refused it.
    pub fn on_dialled(&mut self, now: Instant, leg: &FourTuple, served: bool) {
        let slot = self.dialled.find(&self.limits.key, leg);
        let at = slot.and_then(|slot| self.dialled.slots.get(slot)?.1);
        if served {
            self.on_served(at);
        } else {
            self.note_refusal(now, at);
        }
    }

    /// Whether the backend of the dialled `leg` may still serve.
    pub fn serves_leg(&mut self, leg: &FourTuple) -> bool {
        let slot = self.dialled.find(&self.limits.key, leg);
        let at = slot.and_then(|slot| self.dialled.slots.get(slot)?.1);
        self.server(at).is_some_and(|server| !server.is_gone())
    }

    /// Whether `leg` is one that was dialled.
    pub(super) fn has_dialled(&self, leg: &FourTuple) -> bool {
        self.dialled.find(&self.limits.key, leg).is_some()
    }
}
