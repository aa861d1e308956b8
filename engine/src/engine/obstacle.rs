//! What on this host would keep it from carrying the service, in words that say what to do.
//!
//! The host finds out and tells the engine ([`Engine::on_host`]); the engine judges. A standby with
//! an obstacle is no protection, and its primary is told why (I7). An owner with one is not
//! protected either, and gives the address to a standby that has none.

use core::fmt;
use core::net::IpAddr;

use super::Engine;
use super::notice::Notice;
use super::setup::Action;
use crate::time::Instant;

/// The most obstacles that are kept, and told of.
pub const OBSTACLES_MAX: usize = 16;

/// One thing that would make a takeover by this host fail, or makes its service fail now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A family of the service addresses is switched off.
    Ipv6Disabled {
        /// The setting that does it, such as `net.ipv6.conf.all.disable_ipv6`.
        sysctl: String,
    },
    /// The route of a service address into the TUN is refused.
    RouteRefused {
        /// Which address.
        address: IpAddr,
        /// What the kernel said.
        why: String,
    },
    /// This node's own address on the LAN is not there.
    OwnAddressMissing {
        /// Which.
        address: IpAddr,
        /// Where it is to be.
        interface: String,
    },
    /// A service address sits on an interface of this host: its kernel answers for it.
    ServiceAddressHere {
        /// Which.
        address: IpAddr,
        /// Where it sits.
        interface: String,
    },
    /// What the kernel is to forward into the TUN, or out of it, does not arrive.
    NoPath {
        /// Of which service address.
        address: IpAddr,
        /// What did not arrive where.
        why: String,
    },
    /// The kernel does not forward.
    ForwardingOff {
        /// The setting, such as `net.ipv4.conf.eth0.forwarding`.
        sysctl: String,
    },
    /// The kernel drops what comes from the TUN for its source address.
    ReversePathFilter {
        /// The setting, such as `net.ipv4.conf.all.rp_filter`.
        sysctl: String,
    },
    /// The TUN device is down or gone.
    TunDown {
        /// Which.
        interface: String,
    },
    /// The LAN interface is gone.
    LanGone {
        /// Which.
        interface: String,
    },
    /// Anything else, in words that say what to do.
    Other(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv6Disabled { sysctl } => {
                write!(f, "IPv6 is disabled on this host ({sysctl}=1): set it to 0")
            }
            Self::RouteRefused { address, why } => {
                write!(f, "the kernel refuses a route for {address} into the TUN: {why}")
            }
            Self::OwnAddressMissing { address, interface } => write!(
                f,
                "this node's address {address} is missing: put it back with ip address add on \
                 {interface}"
            ),
            Self::ServiceAddressHere { address, interface } => write!(
                f,
                "the service address {address} is on interface {interface} of this host, whose \
                 kernel answers for it: take it away with ip address del"
            ),
            Self::NoPath { address, why } => write!(
                f,
                "packets for {address} do not pass through this host: {why}; look for a firewall \
                 that drops what is forwarded"
            ),
            Self::ForwardingOff { sysctl } => {
                write!(f, "this host does not forward ({sysctl}=0): set it to 1")
            }
            Self::ReversePathFilter { sysctl } => write!(
                f,
                "this host drops packets for their source address ({sysctl}=1): set it to 0 or 2"
            ),
            Self::TunDown { interface } => {
                write!(f, "{interface} is down: set it up with ip link set {interface} up")
            }
            Self::LanGone { interface } => write!(f, "the LAN interface {interface} is gone"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// Several of them in a line; empty for none.
pub(super) fn list(obstacles: &[Obstacle]) -> String {
    let texts: Vec<String> = obstacles.iter().map(Obstacle::to_string).collect();
    texts.join("; ")
}

impl Engine {
    /// All that keeps this host from carrying the service now, as far as the host has tried; empty
    /// if nothing does. To be called at the start and whenever that changes.
    pub fn on_host(&mut self, now: Instant, mut obstacles: Vec<Obstacle>) {
        obstacles.truncate(OBSTACLES_MAX);
        #[cfg(feature = "defects")]
        if self.setup.has(crate::defects::Defect::HideObstacles) {
            obstacles.clear();
        }
        if obstacles == self.obstacles {
            return;
        }
        let Self { obstacles: known, actions, .. } = self;
        let new = obstacles.iter().filter(|obstacle| !known.contains(obstacle));
        actions.extend(new.map(|new| Action::Report(Notice::Obstacle(new.clone()))));
        if obstacles.is_empty() {
            self.report(Notice::Fit);
        }
        self.obstacles = obstacles;
        self.roles.on_host(now, self.obstacles.is_empty());
        self.tell_host();
        self.follow_roles(now);
    }

    /// The LAN's MTU is another now. Connections keep theirs; new ones take it.
    pub fn on_mtu(&mut self, now: Instant, mtu: u16) {
        if mtu != self.setup.mtu {
            self.setup.mtu = mtu;
            self.relays.on_mtu(mtu);
            self.compare_hosts(now);
            self.tell_host();
            self.follow_roles(now);
        }
    }
}
