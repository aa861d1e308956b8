//! The two hosts: what each says of itself, and whether the one could carry on for the other.
//!
//! Said on the stream when the nodes meet and whenever it changes. What differs is told in both logs;
//! what would make a takeover lose connections makes the standby no protection (I7).

use super::Engine;
use super::obstacle::{self, Obstacle};
use super::setup::Level;
use crate::replica::{Frame, HostFacts, HostWord};
use crate::time::Instant;

/// The version of the protocol that knows [`Frame::Host`].
pub(super) const VERSION_HOSTS: u16 = 4;

/// What the peer said of its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PeerHost {
    pub(super) facts: HostFacts,
    pub(super) release: String,
    /// What is in its way; empty for nothing.
    pub(super) obstacles: String,
}

impl Engine {
    /// What is true of this host.
    pub(super) fn host_facts(&self) -> HostFacts {
        let serves = |ipv6: bool| {
            self.setup.addresses.iter().any(|address| address.is_ipv6() == ipv6)
                && !self.obstacles.iter().any(|obstacle| obstacle.bars(ipv6))
        };
        HostFacts {
            mtu: self.setup.mtu,
            ipv4: serves(false),
            ipv6: serves(true),
            offload: self.setup.offload,
        }
    }

    /// The nodes have met: each says what its host is like. Of a peer that knows no such word nothing
    /// is known.
    pub(super) fn meet_host(&mut self, now: Instant) {
        if !self.link.speaks(VERSION_HOSTS) {
            self.peer_host = None;
            self.compare_hosts(now);
        }
        self.tell_host();
    }

    /// Whether the peer sends packets to try this host's forwarding.
    pub fn peer_tries_paths(&self) -> bool {
        self.link.speaks(VERSION_HOSTS)
    }

    /// Tells the peer what this host is like, if it knows the word.
    pub(super) fn tell_host(&mut self) {
        if !self.link.speaks(VERSION_HOSTS) {
            return;
        }
        let (facts, obstacles) = (self.host_facts(), obstacle::list(&self.obstacles));
        let release = env!("CARGO_PKG_VERSION");
        let word = HostWord { facts, release, obstacles: &obstacles };
        Frame::Host(word).encode(&mut self.link.output);
    }

    /// The peer told what its host is like.
    pub(super) fn on_peer_host(&mut self, now: Instant, word: &HostWord<'_>) {
        let HostWord { facts, release, obstacles } = *word;
        let (release, obstacles) = (release.to_owned(), obstacles.to_owned());
        let before = self.peer_host.replace(PeerHost { facts, release, obstacles });
        let in_its_way = |host: &Option<PeerHost>| {
            host.as_ref().map_or(String::new(), |host| host.obstacles.clone())
        };
        let (old, new) = (in_its_way(&before), in_its_way(&self.peer_host));
        if old != new {
            let peer = self.setup.node.peer();
            let (level, line) = match new.is_empty() {
                true => (Level::Info, format!("node {peer} can carry the service again")),
                false => (Level::Warn, format!("node {peer} cannot carry the service: {new}")),
            };
            self.report(level, line);
        }
        self.compare_hosts(now);
    }

    /// Compares what is known of the two hosts.
    pub(super) fn compare_hosts(&mut self, now: Instant) {
        let suits = self.peer_host.as_ref().is_none_or(|peer| {
            let ours = self.host_facts();
            peer.facts.mtu >= ours.mtu
        });
        self.roles.on_peer_host(now, suits);
    }
}

impl Obstacle {
    /// Whether it keeps the host from serving addresses of one family.
    fn bars(&self, ipv6: bool) -> bool {
        match self {
            Self::Ipv6Disabled { .. } => ipv6,
            Self::RouteRefused { address, .. }
            | Self::OwnAddressMissing { address, .. }
            | Self::ServiceAddressHere { address, .. }
            | Self::NoPath { address, .. } => address.is_ipv6() == ipv6,
            Self::ForwardingOff { sysctl } | Self::ReversePathFilter { sysctl } => {
                sysctl.contains("ipv6") == ipv6
            }
            Self::TunDown { .. } | Self::LanGone { .. } => true,
            Self::Other(_) => false,
        }
    }
}
