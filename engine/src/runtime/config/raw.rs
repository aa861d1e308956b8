//! The file as it is written: every value with its place, nothing checked but its type.

use core::fmt;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

use humantime_serde::re::humantime;
use serde::de::{self, Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    pub(super) pair: Spanned<Pair>,
    pub(super) node: Nodes,
    #[serde(default)]
    pub(super) ports: Ports,
    #[serde(default)]
    pub(super) timing: Timing,
    #[serde(default)]
    pub(super) tcp: Tcp,
    #[serde(default)]
    pub(super) files: Files,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) arbiter: Option<Spanned<Arbiter>>,
    pub(super) service: Vec<Spanned<Service>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Pair {
    pub(super) key_file: Option<Spanned<String>>,
    pub(super) addresses: Spanned<Vec<Spanned<IpAddr>>>,
    pub(super) lost_peer: Option<super::LostPeer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Nodes {
    pub(super) a: Spanned<Node>,
    pub(super) b: Option<Spanned<Node>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Node {
    pub(super) lan_interface: Spanned<String>,
    pub(super) lan_address: Option<Spanned<IpAddr>>,
    pub(super) replication_address: Option<Spanned<IpAddr>>,
    pub(super) control_socket: Option<Spanned<String>>,
    pub(super) state_directory: Option<Spanned<String>>,
    pub(super) tun: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Ports {
    pub(super) replication: Option<Spanned<u16>>,
    pub(super) heartbeat: Option<Spanned<u16>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Timing {
    pub(super) heartbeat: Option<Spanned<Span>>,
    pub(super) detection: Option<Spanned<Span>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Tcp {
    pub(super) receive_buffer: Option<Spanned<Size>>,
    pub(super) send_buffer: Option<Spanned<Size>>,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) user_timeout: Option<Spanned<Span>>,
    pub(super) time_wait: Option<Spanned<Span>>,
    pub(super) rfc1337: Option<bool>,
    pub(super) backlog: Option<Spanned<u32>>,
    pub(super) max_connections: Option<Spanned<u32>>,
    pub(super) offload: Option<bool>,
    pub(super) congestion: Option<super::Congestion>,
    pub(super) ecn: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Files {
    pub(super) hash_rate: Option<Spanned<Size>>,
    pub(super) hash_largest: Option<Spanned<Size>>,
    pub(super) cache_directory: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) memory: Option<Spanned<Size>>,
    pub(super) connections_per_source: Option<Spanned<u32>>,
    pub(super) rate_per_source: Option<Spanned<u32>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Keepalive {
    pub(super) idle: Option<Spanned<Span>>,
    pub(super) interval: Option<Spanned<Span>>,
    pub(super) probes: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Arbiter {
    pub(super) kind: ArbiterKind,
    pub(super) endpoints: Spanned<Vec<Spanned<String>>>,
    pub(super) lost: super::LostArbiter,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) lease: Option<Spanned<Span>>,
    pub(super) timeout: Option<Spanned<Span>>,
    pub(super) ca_file: Option<Spanned<String>>,
    pub(super) certificate_file: Option<Spanned<String>>,
    pub(super) private_key_file: Option<Spanned<String>>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ArbiterKind {
    Etcd,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Service {
    pub(super) kind: Kind,
    pub(super) port: Spanned<u16>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) root: Option<Spanned<String>>,
    pub(super) dotfiles: Option<Spanned<bool>>,
    pub(super) request_timeout: Option<Spanned<Span>>,
    pub(super) body_timeout: Option<Spanned<Span>>,
    pub(super) reply_timeout: Option<Spanned<Span>>,
    pub(super) mode: Option<Spanned<Mode>>,
    pub(super) connect_timeout: Option<Spanned<Span>>,
    pub(super) first_byte_timeout: Option<Spanned<Span>>,
    pub(super) request_max: Option<Spanned<Size>>,
    pub(super) reply_max: Option<Spanned<Size>>,
    pub(super) oversize: Option<Spanned<Oversize>>,
    pub(super) execute_again: Option<Spanned<Again>>,
    pub(super) retries: Option<Spanned<u32>>,
    pub(super) lag_time: Option<Spanned<Span>>,
    pub(super) lag_bytes: Option<Spanned<Size>>,
    pub(super) on_difference: Option<Spanned<OnDifference>>,
    pub(super) backends: Option<Spanned<Vec<Spanned<Backend>>>>,
    pub(super) check: Option<Spanned<HealthCheck>>,
    pub(super) idle_timeout: Option<Spanned<Span>>,
    pub(super) client_max: Option<Spanned<u32>>,
    pub(super) on_death: Option<Spanned<OnDeath>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Echo,
    Discard,
    Chargen,
    Files,
    Relay,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    Splice,
    Join,
    Replay,
    Journal,
    Mirror,
}

impl Mode {
    /// The name in the configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Splice => "splice",
            Self::Join => "join",
            Self::Replay => "replay",
            Self::Journal => "journal",
            Self::Mirror => "mirror",
        }
    }
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnDeath {
    Cut,
    Keep,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Oversize {
    Pass,
    Refuse,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Again {
    Never,
    Safe,
    Idempotent,
    Keyed,
    All,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum OnDifference {
    Elder,
    Reset,
}

impl Kind {
    /// The name in the configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Files => "files",
            Self::Relay => "relay",
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct HealthCheck {
    pub(super) interval: Option<Spanned<Span>>,
    pub(super) timeout: Option<Spanned<Span>>,
    pub(super) rise: Option<Spanned<u32>>,
    pub(super) fall: Option<Spanned<u32>>,
    pub(super) http: Option<Spanned<String>>,
    pub(super) host: Option<Spanned<String>>,
    pub(super) status: Option<Spanned<String>>,
}

/// An address, or a table with one.
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) weight: Option<Spanned<u32>>,
}

impl<'de> Deserialize<'de> for Backend {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_any(BackendVisitor)
    }
}

/// An untagged enum would do, but loses the places of what is in the table.
struct BackendVisitor;

impl<'de> Visitor<'de> for BackendVisitor {
    type Value = Backend;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"ADDRESS:PORT\" or { address = \"ADDRESS:PORT\", weight = NUMBER }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Backend, E> {
        Ok(Backend { address: address(text)?, weight: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Backend, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            address: String,
            weight: Option<Spanned<u32>>,
        }
        let Table { address: text, weight } = Table::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Backend { address: address(&text)?, weight })
    }
}

fn address<E: de::Error>(text: &str) -> Result<SocketAddr, E> {
    text.parse().map_err(|_| {
        let text = text.escape_debug();
        E::custom(format!(
            "\"{text}\" is no address with a port, such as \"192.0.2.21:80\" or \
             \"[2001:db8::21]:80\""
        ))
    })
}

/// A duration with its unit, such as `"50ms"`.
#[derive(Clone, Copy)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        humantime::parse_duration(&text)
            .map(Self)
            .map_err(|error| D::Error::custom(format!("\"{text}\" is no duration: {error}")))
    }
}

/// A number of bytes with its unit, such as `"64MiB"`.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        text.parse::<bytesize::ByteSize>()
            .map(|size| Self(size.as_u64()))
            .map_err(|error| D::Error::custom(format!("\"{text}\" is no size: {error}")))
    }
}
