//! What a relay is configured to do.

use crate::time::Duration;
use crate::wire::Endpoint;

/// One port of the service address whose clients are joined to backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The TCP port.
    pub port: u16,
    /// What becomes of its clients.
    pub mode: Mode,
    /// The servers; at least one. A client goes to a backend of its own address family.
    pub backends: Vec<Backend>,
    /// How backends are watched.
    pub check: Check,
    /// How long a splice lives without a packet: RFC 5382 §5 asks for 2 h 4 min at least.
    pub idle: Duration,
    /// How many splices the clients of one address may have at a time, and with IPv6 those of one /64.
    pub client_max: u32,
}

/// How clients and backends come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Their packets pass, with other headers: one connection.
    #[default]
    Splice,
    /// Both have a connection with the engine ([`crate::session::Join`]): it asks for legs here.
    Join,
}

/// One server behind a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Where it listens.
    pub address: Endpoint,
    /// Its share of the splices, relative to the others', at most [`super::WEIGHT_MAX`]. 0: it gets no new
    /// ones, and keeps what it has.
    pub weight: u16,
}

/// Health checks: a SYN, whose SYN-ACK is answered with a reset. The server's application never
/// hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// From one to the next; zero: there are none, and every backend counts as up.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Checks in a row that bring a backend up.
    pub rise: u8,
    /// Checks in a row that take it down. A client's SYN that is refused counts as one.
    pub fall: u8,
}

impl Default for Check {
    /// Every 2 s, with an answer within 1 s; 2 up, 3 down.
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        Self { interval, timeout, rise: 2, fall: 3 }
    }
}

/// [`Settings::idle`] where nothing else is configured: RFC 5382 §5.
pub const IDLE: Duration = Duration::from_secs(7440);

/// [`Settings::client_max`] where nothing else is configured: a quarter of a backend's ports, and room
/// for many behind one address (NAT).
pub const CLIENT_MAX: u32 = 16_128;
