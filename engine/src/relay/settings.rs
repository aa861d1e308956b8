//! What a relay is configured to do.

use std::sync::Arc;

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
    /// What becomes of what a backend has when checks find nobody there.
    pub on_death: OnDeath,
}

/// What becomes of the connections of a backend that checks call dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDeath {
    /// They are ended, at both ends.
    Cut,
    /// They are left to their ends.
    Keep,
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

/// Health checks: a SYN, whose SYN-ACK is answered with a reset, and the server's application never hears
/// of it; or a request, and its reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// From one to the next; zero: there are none, and every backend counts as up.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Checks in a row that bring a backend up.
    pub rise: u8,
    /// Checks in a row that take it down. A client's SYN that is refused counts as one.
    pub fall: u8,
    /// What is asked, and which answer is wanted; without it that a connection is taken is enough.
    pub http: Option<Arc<HttpCheck>>,
}

/// A request by which a server shows that it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// The target, from its slash on. With the host it fits into one segment of any path.
    pub path: String,
    /// The Host field; without it the backend's address.
    pub host: Option<String>,
    /// The status codes that are wanted: each from one to another.
    pub wanted: Vec<(u16, u16)>,
}

impl HttpCheck {
    /// The longest [`Self::path`], and the longest [`Self::host`], bytes.
    pub const PATH_MAX: usize = 256;
    /// See above.
    pub const HOST_MAX: usize = 128;

    /// Whether a reply with this status is a good one.
    #[must_use]
    pub fn wants(&self, status: u16) -> bool {
        self.wanted.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }

    /// What is wanted, for a person.
    #[must_use]
    pub fn wanted(&self) -> String {
        let each = self.wanted.iter().map(|(from, to)| match from == to {
            true => from.to_string(),
            false => format!("{from}-{to}"),
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// What a backend is asked.
    pub(super) fn request(&self, backend: &Endpoint) -> Arc<[u8]> {
        let Self { path, host, wanted: _ } = self;
        let host = host.clone().unwrap_or_else(|| backend.to_string());
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: standin\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        request.into_bytes().into()
    }
}

impl Default for Check {
    /// Every 2 s, with an answer within 1 s; 2 up, 3 down.
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        Self { interval, timeout, rise: 2, fall: 3, http: None }
    }
}

/// [`Settings::idle`] where nothing else is configured: RFC 5382 §5.
pub const IDLE: Duration = Duration::from_secs(7440);

/// [`Settings::client_max`] where nothing else is configured: a quarter of a backend's ports, and room
/// for many behind one address (NAT).
pub const CLIENT_MAX: u32 = 16_128;
