//! Splices of the peer's: held for it, and taken over.

use core::mem::take;

use super::*;
use crate::slots::{Places, Slots};

/// Backends of one relay that are not configured and have splices.
const REMOVED_MAX: usize = 256;

impl Relays {
    /// Takes note of a splice of the peer's; one of the same name goes. The error says why it cannot
    /// be true.
    pub fn hold(&mut self, now: Instant, id: SpliceId, splice: Splice) -> Result<(), &'static str> {
        let Splice { client, backend, .. } = &splice;
        let ours = |leg: &FourTuple| self.limits.addresses.contains(&leg.local.ip());
        let ends = [client.local, client.remote, backend.local, backend.remote];
        if !ours(client) || !ours(backend) || ends.iter().any(|end| end.port() == 0) {
            return Err("splice is not one of the service's");
        }
        if ends.iter().any(|end| end.is_ipv6() != client.local.is_ipv6()) {
            return Err("splice joins two address families");
        }
        let port = client.local.port();
        let Some(relay) = self.relays.iter().position(|relay| relay.settings.port == port) else {
            return Err("splice is of no relay");
        };
        let server = self.relays[relay].place_of(backend.remote);
        let at = server.map(|server| (relay as u16, server as u16));
        let before = self.table.remove(id);
        let listed = before.as_ref().is_some_and(|before| before.listed);
        let opening = before.as_ref().is_some_and(|before| before.is_half_open());
        if let Some(before) = before {
            self.count(&before.splice.client, before.at, Some(before.stage()), None);
        }
        let (client, phase) = (splice.client, Phase::Answered);
        let entry = Entry { committed: true, listed, ..Entry::new(now, id, splice, phase, at) };
        self.table.insert(Box::new(entry)).map_err(|_| "splice's place is taken")?;
        self.count(&client, at, None, Some(Stage::HalfOpen));
        if !opening {
            self.list_opening(now, id);
        }
        Ok(())
    }

    /// The peer's splice `id` has come so far.
    pub fn hold_stage(&mut self, id: SpliceId, stage: Stage) -> Result<(), &'static str> {
        let entry = self.table.get_mut(id).ok_or("splice that goes on is unknown")?;
        let before = entry.stage();
        entry.phase = match stage {
            Stage::HalfOpen => Phase::Answered,
            Stage::Open => Phase::Open { finished: 0 },
            Stage::Over => Phase::Closing,
        };
        let (client, at) = (entry.splice.client, entry.at);
        self.count(&client, at, Some(before), Some(stage));
        if stage == Stage::Over {
            // Since when is what its heir says.
            self.list_over(Instant::ZERO, id);
        }
        Ok(())
    }

    /// The peer's splice `id` is no more.
    pub fn release(&mut self, id: SpliceId) -> Result<(), &'static str> {
        let entry = self.table.remove(id).ok_or("splice that ends is unknown")?;
        self.count(&entry.splice.client, entry.at, Some(entry.stage()), None);
        Ok(())
    }

    /// What the peer knows of a backend. One that is not configured here is of no interest.
    pub fn hold_health(&mut self, port: u16, address: Endpoint, health: Health) {
        let relay = self.relays.iter_mut().find(|relay| relay.settings.port == port);
        let Some(Relay { servers, births, .. }) = relay else { return };
        *births = health.born.max(*births);
        if let Some(server) = servers.iter_mut().find(|server| server.address == address) {
            server.told(health);
        }
    }

    /// A new owner tells whom it has barred, and who came up when: what the last one has told is void.
    pub fn forget_twins(&mut self) {
        for server in self.relays.iter_mut().flat_map(|relay| &mut relay.servers) {
            (server.barred, server.born) = (false, 0);
        }
    }

    /// What is held is ours from now on: a backend is what the peer has told, or counts as up until it is
    /// found to be down, and every splice as one that has just been heard of: each sees it when it is next
    /// looked at. What remains of questions under way is to be taken apart.
    pub fn arm(&mut self, now: Instant) -> Remains {
        self.table.begin_era(now);
        self.armed_at = now;
        self.headers.clear();
        self.requests.clear();
        self.events.clear();
        for server in self.relays.iter_mut().flat_map(|relay| &mut relay.servers) {
            server.begin(now);
        }
        self.plan_errands();
        self.sweep_at = now + SWEEP;
        Remains { doubts: take(&mut self.doubts), ..Remains::default() }
    }

    /// Drops every splice without a word to anybody. What remains of them is to be taken apart.
    pub fn forget(&mut self) -> Remains {
        let (slots, by_leg) = self.table.take();
        let remains = Remains {
            slots,
            by_leg,
            opening: take(&mut self.opening),
            over: take(&mut self.over),
            doubts: take(&mut self.doubts),
            sources: self.sources.take_all(),
            dialled: take(&mut self.dialled),
        };
        self.headers.clear();
        self.requests.clear();
        self.events.clear();
        self.errands.clear();
        (self.half_open, self.lingering) = (0, 0);
        for relay in &mut self.relays {
            relay.servers.retain(|server| !server.is_removed());
            relay.servers.iter_mut().for_each(Server::forget);
        }
        remains
    }
}

/// Splices that were dropped, and what was kept of them.
#[derive(Debug, Default)]
pub struct Remains {
    slots: Slots<Box<Entry>>,
    by_leg: Places,
    opening: Roll<(Instant, SpliceId)>,
    over: Roll<(Instant, SpliceId)>,
    doubts: Doubts,
    sources: Sources,
    dialled: Dialled,
}

impl Remains {
    /// Drops a piece of it, and says of each splice in it what it was, unless it was over. `false`: there
    /// was none left.
    pub fn pop_piece(&mut self, said: &mut dyn FnMut(Option<Splice>)) -> bool {
        if let Some(piece) = self.slots.pop_piece() {
            piece.for_each(|entry| said((!entry.is_over()).then_some(entry.splice)));
            return true;
        }
        self.by_leg.pop_piece()
            || self.opening.pop_piece()
            || self.over.pop_piece()
            || self.doubts.pop_piece()
            || self.sources.pop_piece()
            || self.dialled.pop_piece()
    }

    /// How many splices there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no splice.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

impl Relay {
    /// Where a backend is in the list. One that is not configured is put behind those that are, as
    /// long as there are not too many.
    pub(super) fn place_of(&mut self, address: Endpoint) -> Option<usize> {
        let known = self.servers.iter().position(|server| server.address == address);
        if known.is_some() {
            return known;
        }
        let stray = Server::removed(address, self.ports);
        let unused = self.servers.iter().position(|server| server.is_removed() && server.kept == 0);
        if let Some(unused) = unused {
            self.servers[unused] = stray;
            return Some(unused);
        }
        if self.servers.len() >= self.settings.backends.len() + REMOVED_MAX {
            return None;
        }
        self.servers.push(stray);
        Some(self.servers.len() - 1)
    }
}
