//! What an operator has said of a backend at run time: whether it gets clients, how many, whether it is
//! checked, and what becomes of those that it has.
//!
//! ```text
//!                 new clients   next requests   is checked   what it has
//!   ready         by weight     stay            yes          goes on
//!   drain         none          go elsewhere    yes          finishes
//!   maint         none          go elsewhere    no           finishes
//!   … with cut                                               is ended, a share a turn
//! ```
//!
//! That it is ready admits a server again that was barred for saying something else than its twin (`twins`).
//!
//! It outlives takeovers: an owner tells its standby ([`Relays::states`], [`Relays::hold_state`]), and an heir
//! goes on with what was to be done.

use core::fmt;

use super::*;

/// What a backend is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admin {
    /// It gets clients.
    #[default]
    Ready,
    /// It gets no new ones, and loses none.
    Drain,
    /// The same, and nobody looks whether it serves.
    Maint,
}

impl Admin {
    /// The name, for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What has been said of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// What it is there for.
    pub admin: Admin,
    /// Its share, in place of the configured one.
    pub weight: Option<u16>,
    /// Whether what it has is being ended.
    pub cut: bool,
}

/// The largest weight.
pub const WEIGHT_MAX: u16 = 256;

/// What is to be changed. At least one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Which backend.
    pub address: Endpoint,
    /// Of which relay; without it, of each that has the backend.
    pub port: Option<u16>,
    /// What it is to be there for.
    pub admin: Option<Admin>,
    /// Its share, at most [`WEIGHT_MAX`].
    pub weight: Option<u16>,
    /// Whether to end what it has.
    pub cut: bool,
}

impl Relays {
    /// Does what an operator wants. Returns the ports of the relays where something changed; the error is for
    /// a person.
    pub fn obey(&mut self, now: Instant, order: &Order) -> Result<Vec<u16>, String> {
        let Order { address, port, admin, weight, cut } = *order;
        if weight.is_some_and(|weight| weight > WEIGHT_MAX) {
            return Err(format!("a weight is 0 to {WEIGHT_MAX}"));
        }
        let places = self.places_of(address, port)?;
        let at = |(relay, server): (u16, u16)| (usize::from(relay), usize::from(server));
        if let Some(weight) = weight
            && let Some((relay, _)) = places
                .iter()
                .copied()
                .map(at)
                .find(|(relay, server)| self.relays[*relay].servers[*server].is_removed())
        {
            let port = self.relays[relay].settings.port;
            return Err(format!(
                "{address} is no longer in the configuration of relay {port}, and only keeps what it has: no \
                 weight ({weight}) gives it clients"
            ));
        }
        let mut ports = Vec::with_capacity(places.len());
        for place in places {
            let (relay, server) = at(place);
            let port = self.relays[relay].settings.port;
            let server = &mut self.relays[relay].servers[server];
            let before = server.state();
            let admin = admin.unwrap_or(before.admin);
            // An end that has begun goes on, unless it is to have clients again.
            let cut = (cut || before.cut) && admin != Admin::Ready;
            if order.admin == Some(Admin::Ready) && core::mem::take(&mut server.barred) {
                let health = server.health();
                self.events.push_back(Event::Health { port, address, health });
            }
            let state = State { admin, weight: weight.or(before.weight), cut };
            server.set_state(now, state);
            self.plan_errand(place);
            self.events.push_back(Event::State { port, address, state });
            ports.push(port);
        }
        Ok(ports)
    }

    /// Where a backend is.
    fn places_of(&self, address: Endpoint, port: Option<u16>) -> Result<Vec<(u16, u16)>, String> {
        if let Some(port) = port
            && !self.serves(port)
        {
            let ports = self.relays.iter().map(|relay| relay.settings.port.to_string());
            let ports: Vec<_> = ports.collect();
            let there_are = match ports.len() {
                0 => "there is none".to_owned(),
                1 => format!("there is {}", ports[0]),
                _ => format!("there are {}", ports.join(", ")),
            };
            return Err(format!("no relay has port {port}: {there_are}"));
        }
        let asked = |relay: &Relay| port.is_none_or(|port| relay.settings.port == port);
        let mut places = Vec::new();
        for (place, relay) in self.relays.iter().enumerate().filter(|(_, relay)| asked(relay)) {
            let known = |server: &Server| server.address == address && server.view(0).is_some();
            let server = relay.servers.iter().position(known);
            places.extend(server.map(|server| (place as u16, server as u16)));
        }
        if !places.is_empty() {
            return Ok(places);
        }
        let relays = self.relays.iter().filter(|relay| asked(relay));
        let mut known: Vec<Endpoint> = relays
            .flat_map(|relay| &relay.servers)
            .filter(|server| server.view(0).is_some())
            .map(|server| server.address)
            .collect();
        known.sort_unstable();
        known.dedup();
        let whose = port.map_or("no relay has a".to_owned(), |port| format!("relay {port} has no"));
        Err(format!("{whose} backend {address}: {}", listed(&known)))
    }

    /// Whether no backend of the relay on `port` takes clients of the family of `address`, as an operator wants
    /// it so.
    pub fn takes_nobody(&self, port: u16, address: Endpoint) -> bool {
        let relays = self.relays.iter().filter(|relay| relay.settings.port == port);
        let mut servers = relays.flat_map(|relay| &relay.servers);
        let takes =
            |server: &Server| server.is_wanted() && server.address.is_ipv6() == address.is_ipv6();
        !servers.any(takes)
    }

    /// What has been said of each backend of which something has.
    pub fn states(&self) -> impl Iterator<Item = (u16, Endpoint, State)> {
        self.relays.iter().flat_map(|relay| {
            let port = relay.settings.port;
            let servers = relay.servers.iter();
            let said = servers.map(move |server| (port, server.address, server.state()));
            said.filter(|(.., state)| *state != State::default())
        })
    }

    /// What the peer was told of a backend. One that is not configured here is of no interest.
    pub fn hold_state(&mut self, now: Instant, port: u16, address: Endpoint, state: State) {
        let relays = self.relays.iter_mut().filter(|relay| relay.settings.port == port);
        let mut servers = relays.flat_map(|relay| &mut relay.servers);
        if let Some(server) = servers.find(|server| server.address == address) {
            server.set_state(now, state);
        }
    }

    /// Nothing has been said of any backend, as far as the peer knows.
    pub fn forget_states(&mut self, now: Instant) {
        for server in self.relays.iter_mut().flat_map(|relay| &mut relay.servers) {
            server.set_state(now, State::default());
        }
    }
}

/// Backends that are named to a person, as far as a line goes.
fn listed(known: &[Endpoint]) -> String {
    const NAMED: usize = 8;
    let named: Vec<_> = known.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match known.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match known.len() {
        0 => "there is none".to_owned(),
        1 => format!("there is {}", named.join(", ")),
        _ => format!("there are {}{more}", named.join(", ")),
    }
}
