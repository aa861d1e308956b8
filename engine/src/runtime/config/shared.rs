//! What both nodes must share, digested by part: two nodes that would answer a client differently, or
//! decide differently about each other, must not be a pair, and are told in which part they differ.
//!
//! What is digested is this encoding, and nothing that a compiler or a library might write otherwise
//! one day:
//!
//! ```text
//!   part    name's length u8 │ name │ fields…
//!   field   tag u8 │ value's length u32 │ value                              little-endian
//!   value   a number, u64 · a time, u64 nanoseconds · an address, 4 or 16 bytes · a word · fields…
//! ```
//!
//! Fields stand in the order of their tags, those of a list in the list's. What is not configured has
//! no field. A tag is never given to another field of its part. A digest is the first eight bytes of the
//! BLAKE3 of it, read as a big-endian number.
//!
//! Version 3 of the protocol digests text ([`Config::parts_3`]), and is compared by that.

use core::net::IpAddr;
use core::time::Duration;

use super::{Arbiter, Config, Keepalive, LostArbiter, LostPeer, Ports, Service, Tcp, Timing};

impl Config {
    /// What must be the same on both nodes, as name and digest of each part. What concerns one host
    /// only is left out. So are the backends of relays, which are of no interest to a splice that
    /// stands, and the roots of `files`: contents are compared file by file when they are served.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, u64)> {
        self.encoded().into_iter().map(|part| (part.name, digest(&part.bytes))).collect()
    }

    /// The parts as they are encoded.
    pub(super) fn encoded(&self) -> Vec<Encoded> {
        let Self {
            key_file: _,
            addresses,
            lost_peer,
            a: _,
            b,
            ports: Ports { replication, heartbeat },
            timing,
            tcp,
            files: _,
            limits: _,
            arbiter,
            services,
        } = self;
        let mut parts = vec![
            addresses.iter().fold(Encoded::part("addresses"), |part, ip| part.address(1, *ip)),
            Encoded::part("lost-peer").word(1, lost_peer.word()).number(2, b.is_some()),
            Encoded::part("ports").number(1, *replication).number(2, *heartbeat),
            encode_timing(timing),
            encode_tcp(tcp),
            services.iter().fold(Encoded::part("services"), encode_service),
        ];
        parts.extend(arbiter.as_ref().map(encode_arbiter));
        parts
    }

    /// The same as engines of version 3 digest it: text in which Rust shows values. It goes when
    /// version 3 is spoken no more; until then a test has its bytes.
    #[must_use]
    pub fn parts_3(&self) -> Vec<(&'static str, u64)> {
        let Self { addresses, lost_peer, b, ports, timing, tcp, arbiter, services, .. } = self;
        let Tcp { receive_buffer, send_buffer, keepalive, user_timeout, time_wait, .. } = tcp;
        let services: Vec<_> =
            services.iter().map(|service| (service.port, service.kind.answers())).collect();
        let mut parts = vec![
            ("addresses", format!("{addresses:?}")),
            ("lost-peer", format!("{lost_peer:?} {}", b.is_some())),
            ("ports", format!("{} {}", ports.replication, ports.heartbeat)),
            ("timing", format!("{:?} {:?}", timing.heartbeat, timing.detection)),
            (
                "tcp",
                format!(
                    "{receive_buffer} {send_buffer} {keepalive:?} {user_timeout:?} {time_wait:?} \
                     {} {}",
                    tcp.backlog, tcp.max_connections
                ),
            ),
            ("services", format!("{services:?}")),
        ];
        parts.extend(arbiter.as_ref().map(|arbiter| {
            let Arbiter { lost, prefix, lease, timeout, .. } = arbiter;
            ("arbiter", format!("etcd {lost:?} {prefix} {lease:?} {timeout:?}"))
        }));
        parts.into_iter().map(|(name, text)| (name, digest(text.as_bytes()))).collect()
    }
}

fn encode_timing(timing: &Timing) -> Encoded {
    let Timing { heartbeat, detection } = timing;
    Encoded::part("timing").time(1, *heartbeat).time(2, *detection)
}

fn encode_tcp(tcp: &Tcp) -> Encoded {
    let Tcp {
        receive_buffer,
        send_buffer,
        keepalive,
        user_timeout,
        time_wait,
        rfc1337: _,
        backlog,
        max_connections,
        offload: _,
        congestion: _,
        ecn: _,
    } = tcp;
    let part = Encoded::part("tcp").number(1, *receive_buffer).number(2, *send_buffer);
    let part = match keepalive {
        None => part,
        Some(Keepalive { idle, interval, probes }) => {
            part.fields(3, |fields| fields.time(1, *idle).time(2, *interval).number(3, *probes))
        }
    };
    let part = part.time(4, *user_timeout).time(5, *time_wait);
    part.number(6, *backlog).number(7, *max_connections)
}

fn encode_service(part: Encoded, service: &Service) -> Encoded {
    let Service { port, name, kind } = service;
    part.fields(1, |fields| fields.number(1, *port).word(2, kind.answers()).word(3, name))
}

fn encode_arbiter(arbiter: &Arbiter) -> Encoded {
    // Each node has its own way to it.
    let Arbiter { endpoints: _, lost, prefix, lease, timeout, ca_file: _, identity: _, login: _ } =
        arbiter;
    let part = Encoded::part("arbiter").word(1, "etcd").word(2, lost.word()).word(3, prefix);
    part.time(4, *lease).time(5, *timeout)
}

impl LostPeer {
    const fn word(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

impl LostArbiter {
    const fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Table => "table",
        }
    }
}

/// A part, or the fields of a field, being written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Encoded {
    /// The part's name.
    pub(super) name: &'static str,
    /// What is digested.
    pub(super) bytes: Vec<u8>,
}

impl Encoded {
    fn part(name: &'static str) -> Self {
        let mut bytes = vec![u8::try_from(name.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(name.as_bytes());
        Self { name, bytes }
    }

    fn field(mut self, tag: u8, value: &[u8]) -> Self {
        self.bytes.push(tag);
        // No value of a configuration is near that long.
        self.bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    fn number(self, tag: u8, number: impl Into<u64>) -> Self {
        self.field(tag, &number.into().to_le_bytes())
    }

    fn time(self, tag: u8, time: Duration) -> Self {
        // The longest is a month.
        self.number(tag, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }

    fn word(self, tag: u8, word: &str) -> Self {
        self.field(tag, word.as_bytes())
    }

    fn address(self, tag: u8, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ip) => self.field(tag, &ip.octets()),
            IpAddr::V6(ip) => self.field(tag, &ip.octets()),
        }
    }

    fn fields(self, tag: u8, write: impl FnOnce(Self) -> Self) -> Self {
        let inner = write(Self { name: self.name, bytes: Vec::new() });
        self.field(tag, &inner.bytes)
    }
}

pub(super) fn digest(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
