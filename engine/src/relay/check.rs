//! Health checks: who is asked when, and what their answers mean.

use super::*;

impl Relays {
    pub(super) fn check_servers(&mut self, now: Instant, numbers: &dyn Fn(&FourTuple) -> Numbers) {
        for relay in 0..self.relays.len() {
            for server in 0..self.relays[relay].servers.len() {
                self.check_server(now, relay, server, numbers);
            }
        }
        let mut servers = self.relays.iter().flat_map(|relay| &relay.servers);
        self.probing = servers.any(Server::is_probed);
    }

    fn check_server(
        &mut self,
        now: Instant,
        relay: usize,
        server: usize,
        numbers: &dyn Fn(&FourTuple) -> Numbers,
    ) {
        let Relay { settings, servers, .. } = &mut self.relays[relay];
        let (check, port) = (&settings.check, settings.port);
        let one = &mut servers[server];
        let judged = one.on_timer(now, check);
        let address = one.address;
        let wants = one.wants_check(now, check);
        if wants {
            // Also if it cannot be made.
            one.put_off(now, check);
        }
        self.follow_check((relay as u16, server as u16), port, address, judged);
        if !wants {
            return;
        }
        let Some(ours) = source_for(&self.limits.addresses, address) else { return };
        let Some(leg) = self.free_leg(now, relay, server, ours) else { return };
        let (iss, mss) = (numbers(&leg).iss, mss_for(self.limits.mtu, &address));
        let Relay { settings, servers, .. } = &mut self.relays[relay];
        let syn = servers[server].check(now, &settings.check, leg, iss, mss);
        self.headers.push_back(syn);
        self.probing = true;
    }

    /// Whether a check goes on between these two ends.
    pub(super) fn is_probe(&self, leg: &FourTuple) -> bool {
        self.probing
            && self.relays.iter().any(|relay| relay.servers.iter().any(|server| server.probes(leg)))
    }

    /// Whether `segment` answers a check.
    pub(super) fn on_check_answer(
        &mut self,
        now: Instant,
        leg: &FourTuple,
        segment: &Segment<'_>,
    ) -> bool {
        if !self.probing {
            return false;
        }
        for (place, relay) in self.relays.iter_mut().enumerate() {
            let Some(server) = relay.servers.iter().position(|server| server.probes(leg)) else {
                continue;
            };
            let at = (place as u16, server as u16);
            let server = &mut relay.servers[server];
            let judged = server.on_answer(now, &relay.settings.check, segment);
            let (port, address) = (relay.settings.port, server.address);
            self.follow_check(at, port, address, judged);
            return true;
        }
        false
    }

    /// What a check says leaves with the next packets, and what it has shown is told.
    fn follow_check(&mut self, at: (u16, u16), port: u16, address: Endpoint, judged: Judged) {
        let Judged { news, said, dead } = judged;
        match said {
            Some((header, Some(text))) => self.requests.push_back((header, text)),
            Some((header, None)) => self.headers.push_back(header),
            None => {}
        }
        self.tell(port, address, news);
        if dead {
            self.on_dead(at);
        }
    }

    pub(super) fn tell(&mut self, port: u16, address: Endpoint, news: Option<News>) {
        let Some(news) = news else { return };
        let up = news != News::Down;
        let relay = self.relays.iter_mut().find(|relay| relay.settings.port == port);
        let Some(Relay { servers, births, .. }) = relay else { return };
        let server = servers.iter_mut().find(|server| server.address == address);
        let Some(server) = server else { return };
        if news == News::Up {
            *births = births.saturating_add(1);
            server.born = *births;
        }
        let health = server.health();
        self.events.push_back(Event::Health { port, address, health });
        if news != News::Confirmed {
            let why = health.failed.map(|(failure, _)| failure).filter(|_| !up);
            self.events.push_back(Event::Backend { port, address, up, why });
        }
    }
}
