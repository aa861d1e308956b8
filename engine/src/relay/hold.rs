//! Splices of the peer's: held for it, and taken over.

use super::*;

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
        if let Some(before) = self.table.remove(id, false) {
            self.count(&before.splice.client, before.at, Some(before.stage()), None);
        }
        let (client, phase) = (splice.client, Phase::Answered);
        let entry = Entry { committed: true, ..Entry::new(now, id, splice, phase, at) };
        self.table.insert(Box::new(entry)).map_err(|_| "splice's place is taken")?;
        self.count(&client, at, None, Some(Stage::HalfOpen));
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
        Ok(())
    }

    /// The peer's splice `id` is no more.
    pub fn release(&mut self, id: SpliceId) -> Result<(), &'static str> {
        let entry = self.table.remove(id, false).ok_or("splice that ends is unknown")?;
        self.count(&entry.splice.client, entry.at, Some(entry.stage()), None);
        Ok(())
    }

    /// What the peer knows of a backend. One that is not configured here is of no interest.
    pub fn hold_health(&mut self, port: u16, address: Endpoint, up: bool) {
        let relays = self.relays.iter_mut().filter(|relay| relay.settings.port == port);
        let mut servers = relays.flat_map(|relay| &mut relay.servers);
        if let Some(server) = servers.find(|server| server.address == address) {
            server.told(up);
        }
    }

    /// What is held is ours from now on: a backend is what the peer has told, or counts as up until it is
    /// found to be down, and every splice as one that has just been heard of.
    pub fn arm(&mut self, now: Instant) {
        self.table.rebuild_free();
        self.headers.clear();
        self.events.clear();
        self.over.clear();
        self.opening.clear();
        self.doubts.clear();
        for entry in self.table.iter_mut() {
            entry.inherit(now);
            entry.listed = entry.is_over();
            if entry.listed {
                self.over.push_back((now, entry.id));
            } else if entry.is_half_open() {
                self.opening.push_back((now, entry.id));
            }
        }
        for server in self.relays.iter_mut().flat_map(|relay| &mut relay.servers) {
            server.begin(now);
        }
        self.sweep_at = now + SWEEP;
        // The standby that some have waited for is gone.
        for (_, id) in self.opening.clone() {
            self.commit(now, id);
        }
    }

    /// Drops every splice without a word to anybody.
    pub fn forget(&mut self) {
        self.table.clear();
        self.opening.clear();
        self.over.clear();
        self.headers.clear();
        self.events.clear();
        self.doubts.clear();
        self.sources.clear();
        (self.half_open, self.lingering) = (0, 0);
        for relay in &mut self.relays {
            relay.servers.retain(|server| !server.is_removed());
            relay.servers.iter_mut().for_each(Server::forget);
        }
    }
}

impl Relay {
    /// Where a backend is in the list. One that is not configured is put behind those that are, as
    /// long as there are not too many.
    fn place_of(&mut self, address: Endpoint) -> Option<usize> {
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
