//! Splices of the peer's: held for it, and taken over.

use super::*;

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
        let mut servers = self.relays[relay].servers.iter();
        let server = servers.position(|server| server.address == backend.remote);
        let at = server.map(|server| (relay as u16, server as u16));
        if let Some(before) = self.table.remove(id, false) {
            self.unload(&before);
        }
        let phase = Phase::Answered;
        let entry = Entry { committed: true, ..Entry::new(now, id, splice, phase, at) };
        self.table.insert(Box::new(entry)).map_err(|_| "splice's place is taken")?;
        self.half_open += 1;
        if let Some(server) = self.server(at) {
            server.load += 1;
        }
        Ok(())
    }

    /// The peer's splice `id` has come so far.
    pub fn hold_stage(&mut self, id: SpliceId, stage: Stage) -> Result<(), &'static str> {
        let entry = self.table.get_mut(id).ok_or("splice that goes on is unknown")?;
        self.half_open -= usize::from(entry.is_half_open());
        entry.phase = match stage {
            Stage::HalfOpen => Phase::Answered,
            Stage::Open => Phase::Open { finished: 0 },
            Stage::Over => Phase::Closing,
        };
        self.half_open += usize::from(entry.is_half_open());
        Ok(())
    }

    /// The peer's splice `id` is no more.
    pub fn release(&mut self, id: SpliceId) -> Result<(), &'static str> {
        let entry = self.table.remove(id, false).ok_or("splice that ends is unknown")?;
        self.unload(&entry);
        Ok(())
    }

    /// What is held is ours from now on: every backend counts as up until it is found to be down, and
    /// every splice as one that has just been heard of.
    pub fn arm(&mut self, now: Instant) {
        self.table.rebuild_free();
        self.headers.clear();
        self.events.clear();
        self.over.clear();
        self.opening.clear();
        for entry in self.table.iter_mut() {
            entry.heard = now;
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
        self.half_open = 0;
        for server in self.relays.iter_mut().flat_map(|relay| &mut relay.servers) {
            server.load = 0;
        }
    }
}
