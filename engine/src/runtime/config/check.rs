//! From what is written to what is meant: ranges, defaults, and values that contradict each other.

use core::ops::{Range, RangeInclusive};
use core::time::Duration;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::raw::{self, Size, Span};
use super::{
    Arbiter, Config, Files, Keepalive, Limits, LostArbiter, NodeConfig, Paths, Ports, Problem, Tcp,
    Timing,
};
use crate::ids::Node;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// A UNIX socket's path, its terminating zero not counted.
const SOCKET_PATH_MAX: usize = 107;
/// An interface's name, its terminating zero not counted.
const INTERFACE_MAX: usize = 15;
/// Service addresses of one pair.
const ADDRESSES_MAX: usize = 64;

/// Gives `file` its meaning, or says everything that is wrong with it.
pub(super) fn check(file: raw::File, directory: &Path) -> Result<Config, Vec<Problem>> {
    let mut check = Check::default();
    let config = check.file(file, directory);
    match config {
        Some(config) if check.problems.is_empty() => Ok(config),
        Some(_) | None => Err(check.problems),
    }
}

#[derive(Default)]
pub(super) struct Check {
    problems: Vec<Problem>,
}

impl Check {
    pub(super) fn complain(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem { span, message: message.into() });
    }

    fn file(&mut self, file: raw::File, directory: &Path) -> Option<Config> {
        let raw::File { pair, node, ports, timing, tcp, files, limits, arbiter, service } = file;
        let paired = node.b.is_some();
        self.addresses(pair.get_ref(), &node);
        self.node_addresses(&node);
        let key_file = self.key_file(&pair, paired, directory);
        let a = self.node(&node.a, Node::A, paired);
        let b = node.b.as_ref().map(|b| self.node(b, Node::B, paired));
        let pair = pair.into_inner();
        let addresses: Vec<IpAddr> =
            pair.addresses.into_inner().into_iter().map(Spanned::into_inner).collect();
        let timing = self.timing(&timing);
        let detection = timing.detection;
        let services = self.services(&service, &addresses);
        Some(Config {
            key_file,
            addresses,
            lost_peer: pair.lost_peer.unwrap_or_default(),
            a,
            b,
            ports: self.ports(&ports),
            timing,
            tcp: self.tcp(&tcp),
            files: self.files(&files),
            limits: self.limits(&limits),
            arbiter: arbiter
                .and_then(|arbiter| self.arbiter(arbiter, paired, detection, directory)),
            services,
        })
    }

    fn files(&mut self, files: &raw::Files) -> Files {
        let raw::Files { hash_rate: written, hash_largest, cache_directory } = files;
        let Files { hash_rate: rate, hash_largest: largest, .. } = Files::default();
        let bytes = |size: &Option<Spanned<Size>>, default| {
            size.as_ref().map_or(default, |size| size.get_ref().0)
        };
        let hash_rate = bytes(written, rate);
        if let Some(written) = written
            && (1..64 * KIB).contains(&hash_rate)
        {
            self.complain(
                written.span(),
                "hash-rate is 0B (nothing is hashed ahead) or at least 64KiB",
            );
        }
        if let Some(directory) = cache_directory {
            self.absolute(directory);
        }
        Files {
            hash_rate,
            hash_largest: bytes(hash_largest, largest),
            cache_directory: cache_directory.as_ref().map(|path| path.get_ref().into()),
        }
    }

    fn limits(&mut self, limits: &raw::Limits) -> Limits {
        let raw::Limits { memory, connections_per_source, rate_per_source } = limits;
        let (number, rate) = ("connections-per-source", "rate-per-source");
        let mut found = Limits {
            connections_per_source: self.number(number, connections_per_source, 0, 0..=1 << 24),
            rate_per_source: self.number(rate, rate_per_source, 0, 0..=1_000_000),
            ..Limits::default()
        };
        if let Some(written) = memory {
            found.memory = written.get_ref().0;
            if found.memory < 16 * MIB {
                let size = bytesize::ByteSize(found.memory);
                self.complain(written.span(), format!("memory is at least 16 MiB, not {size}"));
            }
        }
        found
    }

    /// The service addresses: some, none twice, each one that a client can reach, and none that a
    /// host has for itself, where its kernel would answer beside the engine (I5).
    fn addresses(&mut self, pair: &raw::Pair, nodes: &raw::Nodes) {
        let addresses = pair.addresses.get_ref();
        if addresses.is_empty() {
            self.complain(pair.addresses.span(), "at least one service address is needed");
        }
        if addresses.len() > ADDRESSES_MAX {
            let message = format!("at most {ADDRESSES_MAX} service addresses are possible");
            self.complain(pair.addresses.span(), message);
        }
        for (index, address) in addresses.iter().enumerate() {
            self.unicast(address.span(), *address.get_ref(), "a service address");
            if addresses[..index].iter().any(|other| other.get_ref() == address.get_ref()) {
                let message = format!("service address {} is named twice", address.get_ref());
                self.complain(address.span(), message);
            }
            let own = [(Node::A, Some(&nodes.a)), (Node::B, nodes.b.as_ref())];
            for (name, own) in own {
                let Some(own) = own.map(Spanned::get_ref) else { continue };
                let paths = [
                    ("lan-address", &own.lan_address),
                    ("replication-address", &own.replication_address),
                ];
                for (key, path) in paths {
                    let path = path.as_ref().map(Spanned::get_ref);
                    if path == Some(address.get_ref()) {
                        let message = format!(
                            "service address {} is also the {key} of node {name}",
                            address.get_ref()
                        );
                        self.complain(address.span(), message);
                    }
                }
            }
        }
    }

    pub(super) fn unicast(&mut self, span: Range<usize>, address: IpAddr, what: &str) {
        let why = match address {
            address if address.is_unspecified() => "it is unspecified",
            address if address.is_loopback() => "it is a loopback address",
            address if address.is_multicast() => "it is a multicast address",
            IpAddr::V4(address) if address.is_broadcast() => "it is the broadcast address",
            IpAddr::V4(address) if address.octets()[0] >= 240 => "it is reserved",
            IpAddr::V4(address) if address.octets()[0] == 0 => "it is reserved",
            IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => "it is IPv4, mapped",
            IpAddr::V6(address) if address.is_unicast_link_local() => "it is link-local",
            IpAddr::V4(_) | IpAddr::V6(_) => return,
        };
        self.complain(span, format!("{address} cannot be {what}: {why}"));
    }

    /// The nodes' own addresses: two ways that are two, between ends that differ.
    fn node_addresses(&mut self, nodes: &raw::Nodes) {
        let a = nodes.a.get_ref();
        for node in [Some(&nodes.a), nodes.b.as_ref()].into_iter().flatten() {
            let node = node.get_ref();
            for address in [&node.lan_address, &node.replication_address].into_iter().flatten() {
                self.unicast(address.span(), *address.get_ref(), "a node's address");
            }
            if let (Some(lan), Some(replication)) = (&node.lan_address, &node.replication_address)
                && lan.get_ref() == replication.get_ref()
            {
                let message = "replication-address is the lan-address: the two paths must be \
                               separate, or one cable cuts both";
                self.complain(replication.span(), message);
            }
        }
        let Some(b) = &nodes.b else { return };
        let b = b.get_ref();
        self.ends("lan-address", a.lan_address.as_ref(), b.lan_address.as_ref());
        let replication = (a.replication_address.as_ref(), b.replication_address.as_ref());
        self.ends("replication-address", replication.0, replication.1);
    }

    fn ends(&mut self, key: &str, a: Option<&Spanned<IpAddr>>, b: Option<&Spanned<IpAddr>>) {
        let (Some(a), Some(b)) = (a, b) else { return };
        if a.get_ref() == b.get_ref() {
            self.complain(b.span(), format!("{key} is the same on both nodes"));
        } else if a.get_ref().is_ipv4() != b.get_ref().is_ipv4() {
            self.complain(b.span(), format!("{key} is IPv4 on one node and IPv6 on the other"));
        }
    }

    fn key_file(
        &mut self,
        pair: &Spanned<raw::Pair>,
        paired: bool,
        directory: &Path,
    ) -> Option<PathBuf> {
        match &pair.get_ref().key_file {
            Some(path) if path.get_ref().is_empty() => {
                self.complain(path.span(), "key-file is empty");
                None
            }
            Some(path) => Some(directory.join(path.get_ref())),
            None if paired => {
                let message = "two nodes need a key-file (\"standin key FILE\" makes one)";
                self.complain(pair.span(), message);
                None
            }
            None => None,
        }
    }

    fn node(&mut self, node: &Spanned<raw::Node>, name: Node, paired: bool) -> NodeConfig {
        let span = node.span();
        let node = node.get_ref();
        let paths = match (&node.lan_address, &node.replication_address) {
            (Some(lan), Some(replication)) => {
                Some(Paths { lan: *lan.get_ref(), replication: *replication.get_ref() })
            }
            (lan, _) if paired => {
                let key = if lan.is_none() { "lan-address" } else { "replication-address" };
                self.complain(span, format!("node {name} of a pair needs a {key}"));
                None
            }
            _ => None,
        };
        self.interface(&node.lan_interface);
        if let Some(tun) = &node.tun {
            self.interface(tun);
            if tun.get_ref() == node.lan_interface.get_ref() {
                self.complain(tun.span(), "tun is the name of the lan-interface");
            }
        }
        let text = |value: &Option<Spanned<String>>, default: String| {
            value.as_ref().map_or(default, |value| value.get_ref().clone())
        };
        for path in [&node.control_socket, &node.state_directory].into_iter().flatten() {
            self.absolute(path);
        }
        if let Some(socket) = &node.control_socket
            && socket.get_ref().len() > SOCKET_PATH_MAX
        {
            let message = format!("a socket's path has at most {SOCKET_PATH_MAX} bytes");
            self.complain(socket.span(), message);
        }
        NodeConfig {
            lan_interface: node.lan_interface.get_ref().clone(),
            paths,
            control_socket: text(&node.control_socket, format!("/run/standin/{name}.sock")).into(),
            state_directory: text(&node.state_directory, "/run/standin".into()).into(),
            tun: text(&node.tun, "standin0".into()),
        }
    }

    fn interface(&mut self, name: &Spanned<String>) {
        let text = name.get_ref();
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if text.is_empty() || text.len() > INTERFACE_MAX || text.contains(odd) || text == "." {
            let message = format!(
                "\"{}\" cannot be an interface: 1 to {INTERFACE_MAX} bytes, no space, colon or slash",
                text.escape_debug()
            );
            self.complain(name.span(), message);
        }
    }

    pub(super) fn absolute(&mut self, path: &Spanned<String>) {
        if !path.get_ref().starts_with('/') || path.get_ref().contains('\0') {
            let message = format!("\"{}\" is not an absolute path", path.get_ref().escape_debug());
            self.complain(path.span(), message);
        }
    }

    fn ports(&mut self, ports: &raw::Ports) -> Ports {
        for port in [&ports.replication, &ports.heartbeat].into_iter().flatten() {
            self.nonzero(port);
        }
        Ports {
            replication: ports.replication.as_ref().map_or(7701, |port| *port.get_ref()),
            heartbeat: ports.heartbeat.as_ref().map_or(7702, |port| *port.get_ref()),
        }
    }

    pub(super) fn nonzero(&mut self, port: &Spanned<u16>) {
        if *port.get_ref() == 0 {
            self.complain(port.span(), "a port is 1 to 65535");
        }
    }

    fn timing(&mut self, timing: &raw::Timing) -> Timing {
        let ms = Duration::from_millis;
        let heartbeat = self.time("heartbeat", &timing.heartbeat, ms(10), ms(1)..=ms(10_000));
        let detection = self.time("detection", &timing.detection, ms(50), ms(3)..=ms(60_000));
        if detection < heartbeat.saturating_mul(3) {
            let place = timing.detection.as_ref().or(timing.heartbeat.as_ref());
            let message = format!(
                "detection ({}) is less than three times heartbeat ({}): one lost datagram would \
                 look like a lost host",
                show(detection),
                show(heartbeat)
            );
            self.complain(place.map_or(0..0, Spanned::span), message);
        }
        Timing { heartbeat, detection }
    }

    fn tcp(&mut self, tcp: &raw::Tcp) -> Tcp {
        let raw::Tcp {
            receive_buffer,
            send_buffer,
            keepalive,
            user_timeout,
            time_wait,
            rfc1337,
            backlog,
            max_connections,
            offload,
            congestion,
            ecn,
        } = tcp;
        let s = Duration::from_secs;
        Tcp {
            receive_buffer: self.size("receive-buffer", receive_buffer, 32 * KIB),
            send_buffer: self.size("send-buffer", send_buffer, 4 * KIB),
            keepalive: keepalive.as_ref().map(|keepalive| self.keepalive(keepalive)),
            user_timeout: self.time("user-timeout", user_timeout, s(900), s(1)..=s(86_400)),
            time_wait: self.time("time-wait", time_wait, s(60), s(1)..=s(240)),
            rfc1337: rfc1337.unwrap_or(false),
            backlog: self.number("backlog", backlog, 4096, 1..=1 << 20),
            max_connections: self.number("max-connections", max_connections, 1 << 20, 1..=1 << 24),
            offload: offload.unwrap_or(true),
            congestion: congestion.unwrap_or_default(),
            ecn: ecn.unwrap_or(true),
        }
    }

    fn keepalive(&mut self, keepalive: &raw::Keepalive) -> Keepalive {
        let raw::Keepalive { idle, interval, probes } = keepalive;
        let s = Duration::from_secs;
        Keepalive {
            idle: self.time("idle", idle, s(7200), s(1)..=s(604_800)),
            interval: self.time("interval", interval, s(75), s(1)..=s(3600)),
            probes: self.number("probes", probes, 9, 1..=100),
        }
    }

    fn arbiter(
        &mut self,
        raw: Spanned<raw::Arbiter>,
        paired: bool,
        detection: Duration,
        directory: &Path,
    ) -> Option<Arbiter> {
        if !paired {
            self.complain(raw.span(), "an arbiter is for two nodes, and node.b is not configured");
        }
        let raw = raw.into_inner();
        let ms = Duration::from_millis;
        let lease = self.time("lease", &raw.lease, ms(5000), ms(1000)..=ms(3_600_000));
        let patience = match raw.lost {
            LostArbiter::Stop => ms(500),
            LostArbiter::Table => detection.max(ms(10)),
        };
        let timeout = self.time("timeout", &raw.timeout, patience, ms(10)..=ms(60_000));
        if raw.lost == LostArbiter::Table && timeout > patience {
            // By then nobody knows whether the primary has gone on alone: `role::standby`.
            let message = format!(
                "timeout ({}) is longer than detection ({}): a takeover that waits so long for an \
                 arbiter that does not answer would lose the connections",
                show(timeout),
                show(detection)
            );
            self.complain(raw.timeout.as_ref().map_or(0..0, Spanned::span), message);
        }
        if lease < timeout.saturating_mul(4) {
            let place = raw.timeout.as_ref().or(raw.lease.as_ref());
            let message = format!(
                "lease ({}) is less than four times timeout ({}): one lost answer would end a grant",
                show(lease),
                show(timeout)
            );
            self.complain(place.map_or(0..0, Spanned::span), message);
        }
        let mut problems = Vec::new();
        let arbiter = Arbiter::check(raw, lease, timeout, directory, &mut problems);
        self.problems.append(&mut problems);
        Some(arbiter)
    }

    pub(super) fn time(
        &mut self,
        key: &str,
        value: &Option<Spanned<Span>>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = value else { return default };
        let time = value.get_ref().0;
        if !range.contains(&time) {
            let (from, to) = (show(*range.start()), show(*range.end()));
            self.complain(value.span(), format!("{key} is {from} to {to}, not {}", show(time)));
            return default;
        }
        time
    }

    /// A buffer's size: what a window field with its scale can say, and no more than makes sense.
    /// A buffer's size: 1 MiB unless given, at least `least`.
    fn size(&mut self, key: &str, value: &Option<Spanned<Size>>, least: u64) -> u32 {
        let size = value.as_ref().map_or(MIB, |value| value.get_ref().0);
        match u32::try_from(size) {
            Ok(bytes) if (least..=16 * MIB).contains(&size) => bytes,
            Ok(_) | Err(_) => {
                let size = bytesize::ByteSize(size);
                let span = value.as_ref().map_or(0..0, Spanned::span);
                self.complain(span, format!("{key} is {} KiB to 16 MiB, not {size}", least / KIB));
                0
            }
        }
    }

    pub(super) fn number(
        &mut self,
        key: &str,
        value: &Option<Spanned<u32>>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let Some(value) = value else { return default };
        let number = *value.get_ref();
        if !range.contains(&number) {
            let (from, to) = (range.start(), range.end());
            self.complain(value.span(), format!("{key} is {from} to {to}, not {number}"));
        }
        number
    }
}

pub(super) fn show(time: Duration) -> String {
    humantime_serde::re::humantime::format_duration(time).to_string()
}
