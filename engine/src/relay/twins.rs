//! Two backends on the same input: which is which, which is the elder, and who is barred.
//!
//! The twins of a relay are the first and the second backend of each address family, in the order of
//! the configuration. Of two the one that came up later is the younger ([`Health::born`]), and so is one
//! that has lost a session that the other one went on with: it has missed something.

use super::*;

/// What an owner knows of a backend, and an heir is to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether it serves.
    pub up: bool,
    /// Whether it gets no new clients, having said something else than its twin.
    pub barred: bool,
    /// When it came up, in the order in which those of its relay did: 0 for those that were up when the
    /// first owner began.
    pub born: u32,
    /// Why a check has failed last, and when.
    pub failed: Option<(Failure, Instant)>,
}

impl Relays {
    /// A leg to the twin at `place` for `client` of the relay on `port`, which is taken until
    /// [`Self::hang_up`]. `None`: it takes no clients, or has no port left.
    pub fn dial_twin(
        &mut self,
        now: Instant,
        port: u16,
        client: &FourTuple,
        place: usize,
    ) -> Option<FourTuple> {
        let (relay, server) = self.twin_at(port, client.is_ipv6(), place)?;
        if !self.relays[relay].servers[server].is_open_to(client.is_ipv6()) {
            return None;
        }
        let Some(leg) = self.free_leg(now, relay, server, client.local.ip()) else {
            self.counts.full += 1;
            return None;
        };
        self.keep_dialled(leg, Some((relay as u16, server as u16)));
        Some(leg)
    }

    /// Where the twin at `place` listens.
    pub fn twin(&self, port: u16, ipv6: bool, place: usize) -> Option<Endpoint> {
        let (relay, server) = self.twin_at(port, ipv6, place)?;
        Some(self.relays[relay].servers[server].address)
    }

    /// The place of the younger of two: of equals the second.
    pub fn younger_twin(&self, port: u16, ipv6: bool) -> usize {
        let born = |place| {
            let at = self.twin_at(port, ipv6, place);
            at.map_or(0, |(relay, server)| self.relays[relay].servers[server].born)
        };
        if born(0) > born(1) { 0 } else { 1 }
    }

    /// A twin is the younger one from now on.
    pub fn on_twin_lost(&mut self, port: u16, ipv6: bool, place: usize) {
        if self.younger_twin(port, ipv6) == place && !self.are_equals(port, ipv6) {
            return;
        }
        self.change_twin(port, ipv6, place, |server, births| {
            *births = births.saturating_add(1);
            server.born = *births;
        });
    }

    /// A twin gets no new clients.
    pub fn bar_twin(&mut self, port: u16, ipv6: bool, place: usize) {
        self.change_twin(port, ipv6, place, |server, _| server.barred = true);
    }

    fn change_twin(
        &mut self,
        port: u16,
        ipv6: bool,
        place: usize,
        change: impl FnOnce(&mut Server, &mut u32),
    ) {
        let Some((relay, server)) = self.twin_at(port, ipv6, place) else { return };
        let Relay { servers, births, .. } = &mut self.relays[relay];
        let Some(server) = servers.get_mut(server) else { return };
        change(server, births);
        let (address, health) = (server.address, server.health());
        self.events.push_back(Event::Health { port, address, health });
    }

    fn are_equals(&self, port: u16, ipv6: bool) -> bool {
        let born = |place| {
            let (relay, server) = self.twin_at(port, ipv6, place)?;
            Some(self.relays[relay].servers[server].born)
        };
        born(0) == born(1)
    }

    fn twin_at(&self, port: u16, ipv6: bool, place: usize) -> Option<(usize, usize)> {
        let relay = self.relays.iter().position(|relay| relay.settings.port == port)?;
        let Relay { settings, servers, .. } = &self.relays[relay];
        let of_family = |(_, server): &(usize, &Server)| server.address.is_ipv6() == ipv6;
        let configured = servers.iter().enumerate().take(settings.backends.len());
        let (server, _) = configured.filter(of_family).nth(place)?;
        Some((relay, server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 8084;

    fn relays() -> Relays {
        let backend = |text: &str| {
            let address: core::net::SocketAddr = text.parse().unwrap();
            Backend { address: address.into(), weight: 1 }
        };
        let settings = Settings {
            port: PORT,
            mode: Mode::Join,
            backends: ["10.0.0.1:7", "[fd00::1]:7", "10.0.0.2:7", "[fd00::2]:7"]
                .map(backend)
                .to_vec(),
            check: Check::default(),
            idle: IDLE,
            client_max: CLIENT_MAX,
            on_death: OnDeath::Keep,
        };
        let limits = Limits {
            splices_max: 100,
            opening_max: 10,
            mtu: 1500,
            addresses: vec!["10.0.0.100".parse().unwrap(), "fd00::100".parse().unwrap()],
            key: [7; 16],
        };
        Relays::new(&[settings], limits)
    }

    fn told(relays: &mut Relays) -> Vec<Health> {
        let mut told = Vec::new();
        while let Some(event) = relays.poll_event() {
            if let Event::Health { health, .. } = event {
                told.push(health);
            }
        }
        told
    }

    #[test]
    fn twins_are_the_two_of_each_family_in_the_order_of_the_file() {
        let relays = relays();
        let at = |ipv6, place| relays.twin(PORT, ipv6, place).map(|twin| twin.to_string());
        assert_eq!(at(false, 0).as_deref(), Some("10.0.0.1:7"));
        assert_eq!(at(false, 1).as_deref(), Some("10.0.0.2:7"));
        assert_eq!(at(true, 1).as_deref(), Some("[fd00::2]:7"));
        assert_eq!(at(true, 2), None);
        assert_eq!(relays.twin(PORT + 1, false, 0), None);
    }

    #[test]
    fn of_equals_the_first_is_the_elder_and_whoever_has_missed_something_is_the_younger() {
        let mut relays = relays();
        assert_eq!(relays.younger_twin(PORT, false), 1);
        relays.on_twin_lost(PORT, false, 0);
        assert_eq!((relays.younger_twin(PORT, false), relays.younger_twin(PORT, true)), (0, 1));
        // Thousands of sessions may lose it at once: it is told once.
        relays.on_twin_lost(PORT, false, 0);
        assert_eq!(told(&mut relays), [Health { up: true, born: 1, ..Health::default() }]);
        relays.on_twin_lost(PORT, false, 1);
        assert_eq!(relays.younger_twin(PORT, false), 1);
        assert_eq!(told(&mut relays), [Health { up: true, born: 2, ..Health::default() }]);
    }

    #[test]
    fn whoever_is_barred_is_dialled_no_more_and_an_heir_knows() {
        let mut relays = relays();
        let client = FourTuple {
            local: Endpoint::new("10.0.0.100".parse().unwrap(), PORT),
            remote: Endpoint::new("10.0.0.9".parse().unwrap(), 4000),
        };
        let dial = |relays: &mut Relays, place| {
            relays.dial_twin(Instant::ZERO, PORT, &client, place).map(|leg| leg.remote.to_string())
        };
        assert_eq!(dial(&mut relays, 1).as_deref(), Some("10.0.0.2:7"));
        relays.on_twin_lost(PORT, false, 1);
        relays.bar_twin(PORT, false, 1);
        assert_eq!(dial(&mut relays, 1), None);
        assert_eq!(dial(&mut relays, 0).as_deref(), Some("10.0.0.1:7"));
        let mut heir = self::relays();
        let address = relays.twin(PORT, false, 1).unwrap();
        for health in told(&mut relays) {
            heir.hold_health(PORT, address, health);
        }
        let _ = heir.arm(Instant::from_millis(5));
        assert_eq!(dial(&mut heir, 1), None);
        // An operator admits it again; it stays the younger one.
        let order = Order { address, port: None, admin: None, weight: None, cut: false };
        let order = |admin| Order { admin: Some(admin), ..order };
        heir.obey(Instant::ZERO, &order(Admin::Drain)).unwrap();
        assert_eq!(told(&mut heir), []);
        heir.obey(Instant::ZERO, &order(Admin::Ready)).unwrap();
        assert_eq!(told(&mut heir), [Health { up: true, born: 1, ..Health::default() }]);
        assert_eq!(dial(&mut heir, 1).as_deref(), Some("10.0.0.2:7"));
        assert_eq!(heir.younger_twin(PORT, false), 1);
        // And whoever comes up later is the younger there, too.
        heir.on_twin_lost(PORT, false, 0);
        assert_eq!(told(&mut heir), [Health { up: true, born: 2, ..Health::default() }]);
    }
}
