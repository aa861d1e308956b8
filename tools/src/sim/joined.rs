//! Which client is joined to which backend, as the wire shows it, and whom that excuses.
//!
//! A backend's ISN passes a relay unchanged. So a SYN-ACK that an engine sends to a client names the
//! backend whose connection it is: there the two are joined. From then on the end of that backend,
//! process or host, ends the connection as TCP ends it, and the client is excused. Nobody else is,
//! but who was never joined, and was refused when each backend was gone, cut off, without a share, or
//! down by the owner's own word.
//!
//! And a splice whose backend is gone lasts for hours, as it must. Who finds the table full of such
//! ones is not let in.
//!
//! A word that a backend is down must come to an end, too: in the second phase everything is up.

use core::net::SocketAddr;

use super::backend::RELAYS;
use super::client::Standing;
use super::lan::BACKENDS;
use super::world::World;
use standin::engine::Status;
use standin::role::Role;
use standin::wire::{ChecksumState, Flags, parse_ip, parse_tcp};

/// How old an owner's word that a backend is down may be when a refusal reaches its client.
const REFUSED: u64 = 1_000_000_000;
const BACKEND_ENDED: &str = "its backend ended";

impl World {
    /// An engine sends a packet to a machine: a SYN-ACK joins a client to a backend.
    pub(super) fn note_offer(&mut self, packet: &[u8]) {
        if self.backends.is_empty() {
            return;
        }
        let Ok(ip) = parse_ip(packet) else { return };
        let Ok((from, to, segment)) = parse_tcp(&ip, ChecksumState::Trusted) else { return };
        if !segment.flags.contains(Flags::SYN | Flags::ACK) {
            return;
        }
        let ends = (SocketAddr::new(ip.dst, to), SocketAddr::new(ip.src, from));
        let Some(&client) = self.by_ends.get(&ends) else { return };
        let Some(&(backend, deaths)) = self.offers.get(&segment.seq.0) else { return };
        let again = self.clients[client].joined.replace(backend).is_some();
        if !again {
            self.tally.add("splices", 1);
            self.say(|| format!("client {client} is joined to backend {backend}"));
        }
        if self.backends[backend].deaths != deaths {
            self.excuse_joined(client);
        }
    }

    /// A backend has lost all its connections.
    pub(super) fn promise_after_backend(&mut self, backend: usize) {
        for client in 0..self.clients.len() {
            if self.clients[client].joined == Some(backend) {
                self.excuse_joined(client);
            }
        }
    }

    fn excuse_joined(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let working =
            state.endpoint.as_ref().is_some_and(|end| *end.standing() == Standing::Working);
        if working && state.excused.is_none() {
            state.excused = Some(BACKEND_ENDED);
            self.tally.add("excused by the end of a backend", 1);
        }
    }

    /// Whether a client of a relay could be joined to nobody just now.
    pub(super) fn has_no_backend(&self, client: usize) -> bool {
        let state = &self.clients[client];
        let Some(endpoint) = state.endpoint.as_ref().filter(|_| state.joined.is_none()) else {
            return false;
        };
        let (_, service) = endpoint.ends();
        if self.plan.relays.as_ref().is_some_and(|relays| relays.http.is_some()) {
            return false;
        }
        let relay = RELAYS.iter().position(|(port, _)| *port == service.port());
        let family = usize::from(service.is_ipv6());
        relay.is_some_and(|relay| {
            self.backends.iter().all(|backend| {
                let said = backend.said_down[relay][family];
                backend.is_troubled(self.now, &self.cuts)
                    || said.is_some_and(|at| self.now - at < REFUSED)
            })
        })
    }

    /// Whether all who are not content found the table full, and were never answered.
    pub(super) fn is_full_for_the_rest(&self) -> bool {
        self.has_no_room()
            && self.clients.iter().all(|client| {
                let standing = client.endpoint.as_ref().map(|endpoint| endpoint.standing());
                let relay = client.plan.as_ref().is_some_and(|plan| plan.relay);
                let out = relay && !client.answered;
                client.excused.is_some() || standing == Some(&Standing::Content) || out
            })
    }

    /// An owner's word about its backends.
    pub(super) fn hear_of_backends(&mut self, host: usize, status: &Status) {
        if self.backends.is_empty() || !matches!(status.role, Role::Primary { .. }) {
            return;
        }
        for word in &status.backends {
            let address: SocketAddr = word.address.into();
            let found = BACKENDS.iter().position(|own| own.contains(&address.ip()));
            let relay = RELAYS.iter().position(|(port, _)| *port == word.port);
            let (Some(backend), Some(relay)) = (found, relay) else { continue };
            let family = usize::from(address.is_ipv6());
            let last = &mut self.backends[backend].said_down[relay][family];
            let host_word = &mut self.hosts[host].down[relay][backend][family];
            let fell = !word.up && !core::mem::replace(host_word, !word.up);
            *host_word = !word.up;
            if !word.up {
                *last = Some(self.now);
            }
            if fell {
                self.backends[backend].held_for_down.push(self.now);
                self.tally.add("health checks failed", 1);
                self.say(|| format!("backend {backend} is down at {address}"));
            }
        }
    }

    /// Whether the owner takes every backend for what it is: there.
    pub(super) fn backends_are_up(&self) -> bool {
        self.primary()
            .is_some_and(|host| self.hosts[host].down.iter().flatten().flatten().all(|down| !down))
    }
}
