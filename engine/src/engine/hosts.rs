//! The two hosts: what each says of itself, and whether the one could carry on for the other.
//!
//! Said on the stream when the nodes meet and whenever it changes. What differs is told in both logs;
//! what would make a takeover lose connections makes the standby no protection (I7).

use super::Engine;
use super::notice::Notice;
use super::obstacle::{self, Obstacle};
use crate::ids::Node;
use crate::replica::{Frame, HostFacts, HostWord, VERSION};
use crate::time::Instant;

/// The version of the protocol that knows [`Frame::Host`].
pub(super) const VERSION_HOSTS: u16 = 4;

/// What this engine calls itself.
const RELEASE: &str = env!("CARGO_PKG_VERSION");

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
        let word = HostWord { facts, release: RELEASE, obstacles: &obstacles };
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
            self.report(match new.is_empty() {
                true => Notice::PeerFit { peer },
                false => Notice::PeerObstacles { peer, obstacles: new },
            });
        }
        self.compare_hosts(now);
    }

    /// Compares what is known of the two hosts, and tells what differs when that is news.
    pub(super) fn compare_hosts(&mut self, now: Instant) {
        let bars = self.barring_differences();
        self.roles.on_peer_host(now, bars.is_empty());
        let costs = !bars.is_empty() || !self.barring_differences_of_heir().is_empty();
        let mut told = if costs { self.differences_in_mtu_and_families() } else { Vec::new() };
        told.extend(self.other_differences());
        let told = told.join("; ");
        if told != self.differences {
            self.differences.clone_from(&told);
            self.report(match told.is_empty() {
                true => Notice::HostsAlike,
                false => Notice::HostsDiffer { differences: told, costs },
            });
        }
    }

    /// What of the peer's host would make a takeover by it lose connections that this one serves.
    pub(super) fn barring_differences(&self) -> Vec<String> {
        let Some(peer) = &self.peer_host else { return Vec::new() };
        differences(self.setup.node.peer(), self.host_facts(), peer.facts)
    }

    /// The same the other way round: what of this host would lose connections of the peer's.
    pub(super) fn barring_differences_of_heir(&self) -> Vec<String> {
        let Some(peer) = &self.peer_host else { return Vec::new() };
        differences(self.setup.node, peer.facts, self.host_facts())
    }

    fn differences_in_mtu_and_families(&self) -> Vec<String> {
        let mut all = self.barring_differences();
        all.extend(self.barring_differences_of_heir());
        all
    }

    /// What differs and costs no connection.
    fn other_differences(&self) -> Vec<String> {
        let (mut all, peer) = (Vec::new(), self.setup.node.peer());
        if self.link.is_up() && self.link.version < VERSION {
            all.push(format!(
                "protocol version {VERSION} here, {} on node {peer}: upgrade it",
                self.link.version
            ));
        }
        let Some(host) = &self.peer_host else { return all };
        if host.release != RELEASE {
            all.push(format!("release {RELEASE} here, {} on node {peer}", host.release));
        }
        if host.facts.offload != self.setup.offload {
            let word = |offload| if offload { "takes" } else { "refuses" };
            all.push(format!(
                "the kernel here {} super-segments, that of node {peer} {} them",
                word(self.setup.offload),
                word(host.facts.offload)
            ));
        }
        all
    }
}

/// What `heir`, whose host is as `theirs` says, could not carry on of what one as `ours` serves.
fn differences(heir: Node, ours: HostFacts, theirs: HostFacts) -> Vec<String> {
    let mut all = Vec::new();
    if theirs.mtu < ours.mtu {
        all.push(format!(
            "the LAN's MTU is {} on node {heir} and {} on node {}: after a takeover clients would \
             get nothing long across; make them equal",
            theirs.mtu,
            ours.mtu,
            heir.peer()
        ));
    }
    for (family, served, could) in
        [("IPv4", ours.ipv4, theirs.ipv4), ("IPv6", ours.ipv6, theirs.ipv6)]
    {
        if served && !could {
            all.push(format!("node {heir} could not serve {family}, node {} does", heir.peer()));
        }
    }
    all
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
