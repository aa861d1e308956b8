//! What a swarm does, and which address and port each of its members has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use standin::time::Duration;
use thiserror::Error;

/// Members at most: what the engine's table holds, sixteen times over.
pub(super) const COUNT_MAX: u32 = 1 << 24;
/// Ports below are for services.
const PORT_FIRST: u16 = 1024;
const PORTS: u64 = 65_536 - PORT_FIRST as u64;
/// Bytes of one request at most; it must fit the first window of any server.
const REQUEST_MAX: u32 = 1024;
/// Actions per second at most.
const RATE_MAX: u32 = 1_000_000;

/// A whole swarm.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The echo service.
    pub target: SocketAddr,
    /// Where the members come from: every address of this network but its own and its broadcast
    /// address, and of each the ports from 1024 on.
    pub sources: IpNet,
    /// Members, 1 to 2²⁴.
    pub count: u32,
    /// Members that open, are checked, or close in a second: 1 to 10⁶.
    pub rate: u32,
    /// How many of them ask while they hold; the others are idle.
    pub asking: u32,
    /// From one such request to the next.
    pub every: Duration,
    /// Bytes of a request: 1 to 1024.
    pub request: u32,
    /// How long to hold; `None`: until [`Swarm::finish`](super::Swarm::finish).
    pub hold: Option<Duration>,
    /// A member that waits longer than this for an answer is lost.
    pub stall: Duration,
    /// MTU of the path, 576 to 65535, for IPv6 at least 1280.
    pub mtu: u16,
    /// Chooses contents, sequence numbers and the moments at which members ask.
    pub seed: u64,
}

/// A plan that cannot be carried out.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// A value lies outside its range.
    #[error("{what}: {least} to {most}")]
    Range {
        /// Which.
        what: &'static str,
        /// The least it can be.
        least: u64,
        /// The most it can be.
        most: u64,
    },
    /// The families differ.
    #[error("the sources {sources} cannot reach {target}: one is IPv4, the other IPv6")]
    Family {
        /// The network.
        sources: IpNet,
        /// The service.
        target: IpAddr,
    },
    /// More members than addresses and ports.
    #[error("{sources} has room for {room} connections")]
    Room {
        /// The network.
        sources: IpNet,
        /// Addresses times ports.
        room: u64,
    },
    /// The service's address is among the sources.
    #[error("the service {target} is one of the sources {sources}")]
    Loop {
        /// The network.
        sources: IpNet,
        /// The service.
        target: IpAddr,
    },
}

impl Plan {
    /// Looks for what cannot be.
    ///
    /// # Errors
    /// The first such thing.
    pub fn check(&self) -> Result<(), PlanError> {
        let mtu_min = if self.target.is_ipv6() { 1280 } else { 576 };
        within("connections", self.count.into(), 1, COUNT_MAX.into())?;
        within("rate per second", self.rate.into(), 1, RATE_MAX.into())?;
        within("asking connections", self.asking.into(), 0, self.count.into())?;
        within("bytes of a request", self.request.into(), 1, REQUEST_MAX.into())?;
        within("MTU", self.mtu.into(), mtu_min, u16::MAX.into())?;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        within("milliseconds between requests", millis(self.every), 1, 86_400_000)?;
        within("milliseconds without an answer", millis(self.stall), 1, 86_400_000)?;
        if let Some(hold) = self.hold {
            within("milliseconds of holding", millis(hold), 0, 7 * 86_400_000)?;
        }
        let (sources, target) = (self.sources, self.target.ip());
        if sources.addr().is_ipv4() != target.is_ipv4() {
            return Err(PlanError::Family { sources, target });
        }
        if sources.contains(&target) {
            return Err(PlanError::Loop { sources, target });
        }
        let room = self.ends().room();
        if u64::from(self.count) > room {
            return Err(PlanError::Room { sources, room });
        }
        Ok(())
    }

    pub(super) fn ends(&self) -> Ends {
        Ends::of(self.sources)
    }

    /// Whether a member is one of those that ask: they are spread evenly.
    pub(super) fn asks(&self, index: u32) -> bool {
        let passed = |index: u64| index * u64::from(self.asking) / u64::from(self.count);
        passed(u64::from(index) + 1) > passed(index.into())
    }
}

fn within(what: &'static str, value: u64, least: u64, most: u64) -> Result<(), PlanError> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(PlanError::Range { what, least, most })
    }
}

/// The members' own ends: which address and port is whose, both ways, without a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    first: u128,
    addresses: u64,
    ipv6: bool,
}

impl Ends {
    fn of(sources: IpNet) -> Self {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let (network, last) = (bits(sources.network()), bits(sources.broadcast()));
        // A network of one or two addresses has no address of its own to spare.
        let spare = u128::from(last - network > 1);
        let addresses = (last - spare) - (network + spare) + 1;
        Self {
            first: network + spare,
            addresses: u64::try_from(addresses).unwrap_or(u64::MAX),
            ipv6: sources.addr().is_ipv6(),
        }
    }

    fn room(self) -> u64 {
        self.addresses.saturating_mul(PORTS)
    }

    /// Where a member speaks from; its index is below [`Ends::room`].
    pub(super) fn of_member(self, index: u32) -> SocketAddr {
        let (address, port) =
            (u64::from(index) % self.addresses, u64::from(index) / self.addresses);
        let bits = self.first + u128::from(address);
        let address = match u32::try_from(bits) {
            Ok(bits) if !self.ipv6 => IpAddr::V4(Ipv4Addr::from_bits(bits)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(bits)),
        };
        SocketAddr::new(address, PORT_FIRST + port as u16)
    }

    /// Whose end this is; perhaps of nobody below the count.
    pub(super) fn member(self, end: SocketAddr) -> Option<u32> {
        let bits = match end.ip() {
            IpAddr::V4(v4) if !self.ipv6 => u128::from(v4.to_bits()),
            IpAddr::V6(v6) if self.ipv6 => v6.to_bits(),
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        let address = u64::try_from(bits.checked_sub(self.first)?).ok()?;
        let port = u64::from(end.port().checked_sub(PORT_FIRST)?);
        if address >= self.addresses {
            return None;
        }
        u32::try_from(port.checked_mul(self.addresses)?.checked_add(address)?).ok()
    }
}
