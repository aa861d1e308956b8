//! The name of a connection on the wire.

use core::fmt;
use core::hash::Hasher;
use core::net::{AddrParseError, IpAddr, SocketAddr};

use siphasher::sip::SipHasher13;

/// An address and a port. A [`SocketAddr`] would also have a flow label and a scope, which name no
/// connection, and take half as much memory again in each of very many.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    ip: IpAddr,
    port: u16,
}

impl Endpoint {
    /// The port `port` of `ip`.
    pub const fn new(ip: IpAddr, port: u16) -> Self {
        Self { ip, port }
    }

    /// The address.
    pub const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the address is IPv6.
    pub const fn is_ipv6(&self) -> bool {
        self.ip.is_ipv6()
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Endpoint {
    fn from((ip, port): (I, u16)) -> Self {
        Self { ip: ip.into(), port }
    }
}

impl core::str::FromStr for Endpoint {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        text.parse::<SocketAddr>().map(Self::from)
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip(), port: address.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(Endpoint { ip, port }: Endpoint) -> Self {
        Self::new(ip, port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A connection's two ends. `local` is the service address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourTuple {
    /// Our address and port.
    pub local: Endpoint,
    /// The peer's address and port.
    pub remote: Endpoint,
}

impl FourTuple {
    /// Whether both ends are IPv6.
    pub const fn is_ipv6(&self) -> bool {
        self.local.is_ipv6()
    }

    /// A hash that nobody without `key` can aim at: a client chooses its own port, and could
    /// otherwise choose its place in a table.
    pub fn keyed_hash(&self, key: &[u8; 16]) -> u32 {
        let Self { local, remote } = *self;
        let mut hasher = SipHasher13::new_with_key(key);
        match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                hasher.write_u64(u64::from(local.to_bits()) << 32 | u64::from(remote.to_bits()));
            }
            (local, remote) => {
                for ip in [local, remote] {
                    match ip {
                        IpAddr::V4(v4) => hasher.write_u32(v4.to_bits()),
                        IpAddr::V6(v6) => hasher.write_u128(v6.to_bits()),
                    }
                }
            }
        }
        hasher.write_u32(u32::from(local.port()) << 16 | u32::from(remote.port()));
        hasher.finish() as u32
    }
}

impl fmt::Debug for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}<-{}", self.local, self.remote)
    }
}
