//! The name of a connection on the wire.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// A connection's two ends. `local` is the service address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourTuple {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
}

impl FourTuple {
    /// Whether both ends are IPv6.
    pub const fn is_ipv6(&self) -> bool {
        matches!(self.local.ip(), IpAddr::V6(_))
    }
}

impl fmt::Debug for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<-{}", self.local, self.remote)
    }
}
