//! From the configuration to an engine on this host: devices opened, host prepared, secrets made.
//!
//! The order matters. The control socket comes first, since it finds out whether an engine is
//! running already; then the host is waited for, as far as it is not there yet
//! ([`readiness`](super::readiness)). The listener comes before the engine starts to look for its
//! peer. Whatever fails, what was done before is undone as it is dropped.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use ring::rand::{SecureRandom as _, SystemRandom};
use signal_hook_mio::v1_0::Signals;

use super::arbiter::ArbiterClient;
use super::beat::{BeatPath, Beats};
use super::clock::Clock;
use super::config::{self, Config, NodeConfig, RelayMode, ServiceKind};
use super::control::Control;
use super::disk::{DiskNews, DiskStore, HashSettings, RootSettings};
use super::host::{self, HostSetup, Plan};
use super::key::{PairKey, Purpose, random_boot};
use super::lan::Lan;
use super::link::{Link, LinkSettings};
use super::logging::warn_sparingly;
use super::netlink::{Link as LanLink, Netlink};
use super::readiness::{Ground, Trouble, describe_absence, is_absent, when_ready};
use super::report::Report;
use super::seal::Seal;
use super::secure::Identity;
use super::tun::{Tun, TunOffload};
use super::watch::{Watch, Watched};
use crate::engine::{Engine, PerSource, ServicePort, Setup};
use crate::ids::Node;
use crate::relay;
use crate::role::{ArbiterPolicy, LostArbiter, LostPeer, Policy, Timing};
use crate::service::{HttpPatience, JoinPatience, Kind, Limits};
use crate::tcp;
use crate::time::Duration;

/// Kernel buffers of the replication link, bytes each way: a bandwidth-delay product of 10 Gbit/s
/// and 3 ms.
const LINK_BUFFER: usize = 4 << 20;
/// Live connections beyond which those at rest are parked: so many take turns at no cost.
const LIVE: usize = 1024;
/// Bytes of the log that may wait for the standby before input is dropped for the client to send
/// again.
const LOG_BACKLOG: usize = 64 << 20;

/// Poll tokens. The link's are the last, it has several.
pub(super) const TUN: Token = Token(0);
pub(super) const LAN: Token = Token(1);
pub(super) const WAKER: Token = Token(2);
pub(super) const SIGNALS: Token = Token(3);
pub(super) const BEAT_REPLICATION: Token = Token(4);
pub(super) const BEAT_LAN: Token = Token(5);
pub(super) const LINK: usize = 6;

/// What needs a peer.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) link: Link,
    pub(super) beats: Beats,
}

/// An engine and everything that it runs on.
///
/// The order of fields is the order in which they go. The peer may take over as soon as the link
/// is gone, and this engine is silent by then; the host is put in order after that.
pub(super) struct Assembly {
    pub(super) pair: Option<Pair>,
    pub(super) engine: Engine,
    pub(super) lan: Lan,
    pub(super) watch: Watch,
    pub(super) host: HostSetup,
    pub(super) tun: Tun,
    pub(super) arbiter: Option<ArbiterClient>,
    pub(super) control: Control<Report>,
    pub(super) news: DiskNews,
    pub(super) signals: Signals,
    pub(super) poll: Poll,
}

/// What is put together once the host has all that is needed.
struct Built {
    pair: Option<Pair>,
    engine: Engine,
    lan: Lan,
    watch: Watch,
    host: HostSetup,
    tun: Tun,
    arbiter: Option<ArbiterClient>,
    news: DiskNews,
}

/// Puts an engine together, as soon as the host is ready for it. The error says what failed and what to
/// do about it; `None`: told to stop before.
pub(super) fn assemble(config: &Config, node: Node) -> Result<Option<Assembly>, String> {
    let own = config.node(node).ok_or_else(|| format!("node {node} is not configured"))?;
    let ready = when_ready(config, node, own, |ground| build(config, node, own, ground))?;
    let Some((built, Ground { poll, waker: _, signals, control })) = ready else { return Ok(None) };
    let Built { pair, engine, lan, watch, host, tun, arbiter, news } = built;
    let assembly =
        Assembly { pair, engine, lan, watch, host, tun, arbiter, control, news, signals, poll };
    Ok(Some(assembly))
}

fn build(
    config: &Config,
    node: Node,
    own: &NodeConfig,
    Ground { poll, waker, .. }: &Ground,
) -> Result<Built, Trouble> {
    let key = read_key(config)?;
    let (tun, lan, link, mtu) = open_devices(config, own)?;
    let host = HostSetup::apply(Plan {
        lan: own.lan_interface.clone(),
        tun: tun.name().to_owned(),
        addresses: config.addresses.clone(),
        journal: host::shared_directory(&own.state_directory),
    })
    .map_err(|error| error.to_string())?;
    let watch = Watch::start(
        Watched {
            lan: link,
            tun: (tun.name().to_owned(), tun.index()),
            addresses: config.addresses.clone(),
            own: config.heartbeats(node).map(|[_, (own, peer)]| (own.ip(), peer.ip())),
            replication: config.replication(node).map(|(own, _)| own.ip()),
            port: config.services.first().map_or(0, |service| service.port),
        },
        Arc::clone(waker),
    );
    let watch = watch.map_err(|error| error.to_string())?;
    for (token, fd) in [(TUN, tun.as_raw_fd()), (LAN, lan.as_raw_fd())] {
        let registered = poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE);
        registered.map_err(|error| format!("poll: {error}"))?;
    }

    let boot = random_boot().map_err(|error| error.to_string())?;
    let pair = open_pair(config, node, own, &key, boot, poll)?;
    let roots: Vec<RootSettings> = config.services.iter().filter_map(root).collect();
    let arbiter = config.arbiter.as_ref().map(|arbiter| {
        let name = key.derive(Purpose::Name);
        let name: String = name[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        ArbiterClient::start(arbiter, &name, Arc::clone(waker))
    });
    let arbiter = arbiter.transpose()?;
    let (store, news) =
        DiskStore::open(&roots, &hashing(&config.files, own, node), Arc::clone(waker))
            .map_err(|error| format!("document root: {error}"))?;
    let setup = Setup {
        node,
        boot,
        addresses: config.addresses.clone(),
        services: services(config),
        relays: relays(config),
        tcp: Arc::new(tcp_settings(&config.tcp)),
        limits: Limits { output_buffer: config.tcp.send_buffer },
        timing: Timing::new(config.timing.heartbeat, config.timing.detection),
        policy: Policy {
            lost_peer: lost_peer(config.lost_peer),
            paired: config.is_pair(),
            arbiter: config.arbiter.as_ref().map(arbiter_policy),
        },
        isn_key: half(*key.derive(Purpose::Isn)),
        table_key: half(random()?),
        parts: named(config.parts()),
        parts_3: named(config.parts_3()),
        mac: lan.mac(),
        // The host forwards, as HostSetup has seen to it.
        router: true,
        mtu,
        offload: tun.offload() == TunOffload::Segments,
        clock_origin: Duration::from_nanos(u64::from_ne_bytes(part(random()?)) >> 8),
        backlog: config.tcp.backlog as usize,
        connections_max: config.tcp.max_connections as usize,
        live_max: LIVE,
        backlog_bytes_max: LOG_BACKLOG,
        memory_max: config.limits.memory,
        per_source: PerSource {
            connections: config.limits.connections_per_source,
            rate: config.limits.rate_per_source,
        },
        #[cfg(feature = "defects")]
        defect: None,
    };
    let engine = Engine::new(setup, Box::new(store), Clock.now());
    Ok(Built { pair, engine, lan, watch, host, tun, arbiter, news })
}

/// The TUN has the LAN's MTU: then the kernel forwards between the two without ever fragmenting.
fn open_devices(config: &Config, own: &NodeConfig) -> Result<(Tun, Lan, LanLink, u16), Trouble> {
    let name = &own.lan_interface;
    let link = Netlink::open().and_then(|mut netlink| netlink.link(name));
    let link = link.map_err(|error| error.to_string())?;
    let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
    let tun = Tun::open(&own.tun, mtu.into(), config.tcp.offload);
    // A process that is dying may still have it.
    let tun = tun.map_err(|error| match error.errno() {
        Some(libc::EBUSY) => Trouble::Held(error.to_string()),
        _ => Trouble::Failed(error.to_string()),
    })?;
    let lan = Lan::open_on(&link, &config.addresses).map_err(|error| error.to_string())?;
    Ok((tun, lan, link, mtu))
}

/// The configured key, or for a single engine one that lives as long as it.
fn read_key(config: &Config) -> Result<PairKey, String> {
    let Some(path) = &config.key_file else {
        return PairKey::generate().map_err(|error| error.to_string());
    };
    let read = PairKey::read(path).map_err(|error| match error {
        error @ super::key::KeyError::File { .. } => error.to_string(),
        error => format!("{}: {error}", path.display()),
    })?;
    if let Some(mode) = read.loose_mode {
        let file = path.display();
        warn_sparingly(
            "key mode",
            format_args!("key file {file} has mode {mode:04o}, 0600 is wanted"),
        );
    }
    Ok(read.key)
}

fn open_pair(
    config: &Config,
    node: Node,
    own: &NodeConfig,
    key: &PairKey,
    boot: u64,
    poll: &Poll,
) -> Result<Option<Pair>, Trouble> {
    let Some(((local, peer), [replication, lan])) =
        config.replication(node).zip(config.heartbeats(node))
    else {
        return Ok(None);
    };
    let identity = Identity { key: key.derive(Purpose::Link), node, boot };
    let user_timeout = (config.timing.detection * 10).max(Duration::from_secs(1));
    let settings = LinkSettings { local, peer, user_timeout, buffer: LINK_BUFFER };
    let link = Link::open(poll.registry(), LINK, identity, settings)
        .map_err(|error| Trouble::of(format_args!("listen on {local}"), &error))?;
    if is_absent(local.ip()) {
        let why =
            describe_absence(Netlink::open().ok().as_mut(), local.ip(), "replication-address");
        warn_sparingly(
            "replication address",
            format_args!("nothing will be protected before the peer can be reached: {why}"),
        );
    }
    let path =
        |(local, peer): (SocketAddr, SocketAddr), interface| BeatPath { local, peer, interface };
    let paths = [path(replication, None), path(lan, Some(own.lan_interface.clone()))];
    let tokens = [BEAT_REPLICATION, BEAT_LAN];
    let beats = Beats::open(Seal::new(key.clone(), node, boot), &paths, poll.registry(), tokens)
        .map_err(|error| {
            Trouble::of(format_args!("heartbeats on {} and {}", replication.0, lan.0), &error)
        })?;
    Ok(Some(Pair { link, beats }))
}

fn named(parts: Vec<(&str, u64)>) -> Vec<(String, u64)> {
    parts.into_iter().map(|(name, digest)| (name.to_owned(), digest)).collect()
}

fn services(config: &Config) -> Vec<ServicePort> {
    let mut roots = 0;
    let services = config.services.iter().filter_map(|service| {
        let kind = match service.kind {
            ServiceKind::Echo => Kind::Echo,
            ServiceKind::Discard => Kind::Discard,
            ServiceKind::Chargen => Kind::Chargen,
            ServiceKind::Files { patience, .. } => {
                roots += 1;
                Kind::Files { root: roots - 1, patience }
            }
            ServiceKind::Relay { mode: RelayMode::Join { connect }, idle, .. } => {
                Kind::Join(JoinPatience { connect, idle })
            }
            ServiceKind::Relay {
                mode: RelayMode::Masked { rules, connect, first_byte },
                idle,
                ..
            } => Kind::Exchange(rules, HttpPatience { connect, first_byte, idle }),
            ServiceKind::Relay { mode: RelayMode::Mirror { rules, connect }, idle, .. } => {
                Kind::Mirror(rules, JoinPatience { connect, idle })
            }
            ServiceKind::Relay { mode: RelayMode::Splice, .. } => return None,
        };
        Some(ServicePort { name: service.id(), port: service.port, kind })
    });
    services.collect()
}

fn relays(config: &Config) -> Vec<relay::Settings> {
    let relays = config.services.iter().filter_map(|service| match &service.kind {
        ServiceKind::Relay { mode, backends, check, idle, client_max, on_death } => {
            Some(relay::Settings {
                port: service.port,
                mode: match mode {
                    RelayMode::Splice => relay::Mode::Splice,
                    RelayMode::Join { .. }
                    | RelayMode::Masked { .. }
                    | RelayMode::Mirror { .. } => relay::Mode::Join,
                },
                backends: backends.clone(),
                check: check.clone(),
                idle: *idle,
                client_max: *client_max,
                on_death: *on_death,
            })
        }
        ServiceKind::Echo
        | ServiceKind::Discard
        | ServiceKind::Chargen
        | ServiceKind::Files { .. } => None,
    });
    relays.collect()
}

fn hashing(files: &config::Files, own: &NodeConfig, node: Node) -> HashSettings {
    let directory: &PathBuf = files.cache_directory.as_ref().unwrap_or(&own.state_directory);
    HashSettings {
        rate: files.hash_rate,
        largest: files.hash_largest,
        cache: Some(directory.join(format!("{node}.digests"))),
    }
}

fn root(service: &config::Service) -> Option<RootSettings> {
    match &service.kind {
        ServiceKind::Files { root, dotfiles, patience: _ } => {
            Some(RootSettings { path: root.clone(), dotfiles: *dotfiles })
        }
        ServiceKind::Echo
        | ServiceKind::Discard
        | ServiceKind::Chargen
        | ServiceKind::Relay { .. } => None,
    }
}

fn tcp_settings(tcp: &config::Tcp) -> tcp::Settings {
    tcp::Settings {
        receive_buffer: tcp.receive_buffer,
        user_timeout: tcp.user_timeout,
        time_wait: tcp.time_wait,
        rfc1337: tcp.rfc1337,
        keepalive: tcp.keepalive.map(|keepalive| tcp::Keepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            probes: u8::try_from(keepalive.probes).unwrap_or(u8::MAX),
        }),
        congestion: congestion(tcp.congestion),
        ecn: if tcp.ecn { tcp::Ecn::Accept } else { tcp::Ecn::Never },
        ..tcp::Settings::default()
    }
}

const fn congestion(algorithm: config::Congestion) -> tcp::Algorithm {
    match algorithm {
        config::Congestion::Cubic => tcp::Algorithm::Cubic,
        config::Congestion::NewReno => tcp::Algorithm::NewReno,
    }
}

const fn lost_peer(policy: config::LostPeer) -> LostPeer {
    match policy {
        config::LostPeer::Continue => LostPeer::Continue,
        config::LostPeer::Stop => LostPeer::Stop,
    }
}

fn arbiter_policy(arbiter: &config::Arbiter) -> ArbiterPolicy {
    let lost = match arbiter.lost {
        config::LostArbiter::Stop => LostArbiter::Stop,
        config::LostArbiter::Table => LostArbiter::Table,
    };
    ArbiterPolicy { lost, lease: arbiter.lease, timeout: arbiter.timeout }
}

fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(bytes)
}

fn half(bytes: [u8; 32]) -> [u8; 16] {
    part(bytes)
}

/// The first `N` bytes.
fn part<const N: usize>(bytes: [u8; 32]) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[..N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn configured(tcp: &str) -> tcp::Settings {
        let text = format!(
            "[pair]\naddresses = [\"10.0.0.9\"]\n[node.a]\nlan-interface = \"eth0\"\n\
             [[service]]\nkind = \"discard\"\nport = 9\n[tcp]\n{tcp}\n"
        );
        let config =
            Config::parse("test", std::path::Path::new("/"), &text).expect("it is in order");
        tcp_settings(&config.tcp)
    }

    /// MUST-24, MUST-25, MUST-27, MUST-21: what a person writes is what connections do.
    #[test]
    fn what_is_configured_of_tcp_is_what_connections_get() {
        assert_eq!(configured("").keepalive, None, "off by default");
        let on = configured("keepalive = { idle = \"1m\", interval = \"2s\", probes = 3 }");
        let (idle, interval) = (Duration::from_secs(60), Duration::from_secs(2));
        assert_eq!(on.keepalive, Some(tcp::Keepalive { idle, interval, probes: 3 }));
        let waits = configured("user-timeout = \"30s\"\ntime-wait = \"1s\"");
        let (user_timeout, time_wait) = (Duration::from_secs(30), Duration::from_secs(1));
        assert_eq!((waits.user_timeout, waits.time_wait), (user_timeout, time_wait));
        assert_eq!(configured("ecn = false").ecn, tcp::Ecn::Never);
        assert_eq!(configured("congestion = \"newreno\"").congestion, tcp::Algorithm::NewReno);
        assert_eq!(configured("receive-buffer = \"64KiB\"").receive_buffer, 65_536);
    }
}
