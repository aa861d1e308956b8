//! What a node must have before its engine can be put together, and the wait for it.
//!
//! A survivor that starts after a power failure finds the world half there: the NIC has no driver yet,
//! its address is still being looked for by others (duplicate address detection), a disk is not
//! mounted, the process before it still holds its sockets. None of that is a mistake, and ending would
//! only run into the service manager's start limit. So the engine waits, says for what (once, and at
//! growing intervals; whoever asks for its status is told, too), and begins when all is there.
//!
//! The replication address is not waited for: its cable may lead to a host that is switched off, and
//! the survivor has to serve. Its sockets are bound before the address is there.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use mio::{Events, Interest, Poll, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

use super::assemble::{SIGNALS, WAKER};
use super::clock::Clock;
use super::config::{Config, NodeConfig, ServiceKind};
use super::control::Control;
use super::netlink::Netlink;
use super::report::Report;
use crate::ids::Node;
use crate::limiter::Limiter;
use crate::time::{Duration, Instant};

/// From one look to the next.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long what a process before this one holds is waited for: the kernel closes its files after it is
/// dead, and a large one takes a while to die.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// Why an engine cannot be put together now.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Something is held by another process, perhaps by the one before this one.
    Held(String),
    /// Anything else.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl Trouble {
    /// `what` failed with `error`.
    pub(super) fn of(what: impl core::fmt::Display, error: &io::Error) -> Self {
        let text = format!("{what}: {error}");
        match error.raw_os_error() {
            Some(libc::EADDRINUSE | libc::EBUSY) => Self::Held(text),
            _ if error.kind() == io::ErrorKind::AddrInUse => Self::Held(text),
            _ => Self::Failed(text),
        }
    }
}

/// What is there from the first moment, before anything can be waited for: whoever stops the engine,
/// or asks what it is doing, must be heard.
pub(super) struct Ground {
    pub(super) poll: Poll,
    pub(super) waker: Arc<Waker>,
    pub(super) signals: Signals,
    pub(super) control: Control<Report>,
}

impl Ground {
    fn open(own: &NodeConfig, detection: Duration) -> Result<Self, Trouble> {
        let poll = Poll::new().map_err(|error| format!("poll: {error}"))?;
        let waker =
            Waker::new(poll.registry(), WAKER).map_err(|error| format!("waker: {error}"))?;
        let waker = Arc::new(waker);
        let signals = watch_signals(&poll).map_err(|error| format!("signals: {error}"))?;
        fs::create_dir_all(&own.state_directory)
            .map_err(|error| format!("{}: {error}", own.state_directory.display()))?;
        let control = Control::open(&own.control_socket, Arc::clone(&waker), detection)
            .map_err(|error| Trouble::of(own.control_socket.display(), &error))?;
        Ok(Self { poll, waker, signals, control })
    }

    /// Waits for the next look. Returns whether the engine was told to stop.
    fn is_told_to_stop(&mut self) -> Result<bool, String> {
        let mut events = Events::with_capacity(8);
        match self.poll.poll(&mut events, Some(LOOK_EVERY)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(format!("poll: {error}"));
            }
            Ok(()) | Err(_) => {}
        }
        Ok(self.signals.pending().any(|signal| signal != SIGHUP))
    }
}

fn watch_signals(poll: &Poll) -> io::Result<Signals> {
    // A terminal that goes away is no reason to stop.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    Ok(signals)
}

/// Calls `build` once everything that `node` needs is there, and again if something was lost just then
/// or is still held by a process before this one. `None`: told to stop first.
pub(super) fn when_ready<T>(
    config: &Config,
    node: Node,
    own: &NodeConfig,
    mut build: impl FnMut(&Ground) -> Result<T, Trouble>,
) -> Result<Option<(T, Ground)>, String> {
    let mut patience = Patience::default();
    let mut ground = loop {
        match Ground::open(own, config.timing.detection) {
            Ok(ground) => break ground,
            Err(trouble) => patience.bear(trouble)?,
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let mut lines = Limiter::default();
    loop {
        let mut lacking = lacking(config, node);
        if lacking.is_empty() {
            match build(&ground) {
                Ok(built) => return Ok(Some((built, ground))),
                // Nothing is to be waited for, and it fails all the same.
                Err(trouble) => patience.bear_or(trouble, || self::lacking(config, node))?,
            }
            lacking = self::lacking(config, node);
        }
        let lacking = lacking.join("; ");
        ground.control.wait_for(&lacking);
        if !lacking.is_empty()
            && let Some(left_out) = lines.permit(Clock.now(), lacking.clone())
        {
            log::warn!("node {node} waits: {lacking}{left_out}");
        }
        if ground.is_told_to_stop()? {
            return Ok(None);
        }
    }
}

/// Bears with what passes, for a while.
#[derive(Default)]
struct Patience {
    until: Option<Instant>,
}

impl Patience {
    fn bear(&mut self, trouble: Trouble) -> Result<(), String> {
        let now = Clock.now();
        let until = *self.until.get_or_insert(now + PREDECESSOR);
        match trouble {
            Trouble::Held(_) if now < until => Ok(()),
            Trouble::Held(why) => Err(format!("{why} (another process holds it)")),
            Trouble::Failed(why) => Err(why),
        }
    }

    /// The same, but that what has just been lost is waited for.
    fn bear_or(
        &mut self,
        trouble: Trouble,
        lacking: impl FnOnce() -> Vec<String>,
    ) -> Result<(), String> {
        if lacking().is_empty() { self.bear(trouble) } else { Ok(()) }
    }
}

/// What `node` needs of its host and the host does not have, each in words that say what it waits for.
pub(super) fn lacking(config: &Config, node: Node) -> Vec<String> {
    let Some(own) = config.node(node) else { return Vec::new() };
    let mut lacking = Vec::new();
    let mut netlink = Netlink::open().ok();
    let link = netlink.as_mut().map(|netlink| netlink.link(&own.lan_interface));
    if let Some(Err(error)) = &link
        && error.errno() == Some(libc::ENODEV)
    {
        lacking.push(format!("there is no interface {} (lan-interface)", own.lan_interface));
    }
    if let Some(paths) = own.paths
        && is_absent(paths.lan)
    {
        lacking.push(describe_absence(netlink.as_mut(), paths.lan, "lan-address"));
    }
    for service in &config.services {
        if let ServiceKind::Files { root, .. } = &service.kind
            && let Some(why) = unmounted(root)
        {
            lacking.push(format!("{why} (root of service {})", service.port));
        }
    }
    lacking
}

/// What of `node`'s host would keep it from serving, or from protecting, as it is now, beyond what
/// [`lacking`] says. An engine that runs watches for these itself.
pub(super) fn unfit(config: &Config, node: Node) -> Vec<String> {
    let (Some(own), Ok(mut netlink)) = (config.node(node), Netlink::open()) else {
        return Vec::new();
    };
    let mut unfit = Vec::new();
    let listed = netlink.addresses().unwrap_or_default();
    let lan = netlink.link(&own.lan_interface).ok().map(|link| link.index);
    if let Some(paths) = own.paths {
        if is_absent(paths.replication) {
            let why =
                describe_absence(Some(&mut netlink), paths.replication, "replication-address");
            unfit.push(why);
        }
        let elsewhere = |(address, index): &(IpAddr, u32)| {
            *address == paths.lan && lan.is_some_and(|lan| lan != *index)
        };
        if listed.iter().any(elsewhere) {
            let name = &own.lan_interface;
            unfit.push(format!("{} (lan-address) is on another interface than {name}", paths.lan));
        }
    }
    for address in &config.addresses {
        if listed.iter().any(|(other, _)| other == address) {
            unfit.push(format!(
                "service address {address} is on an interface of this host: its kernel would answer \
                 beside the engine; take it off"
            ));
        }
    }
    for ipv6 in [false, true] {
        if !config.addresses.iter().any(|address| address.is_ipv6() == ipv6) {
            continue;
        }
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        if ipv6 && let Some(setting) = ipv6_is_off(&own.lan_interface) {
            unfit.push(format!("IPv6 is disabled on this host ({setting})"));
        } else if let Some(lan) = lan
            && !listed.iter().any(|(own, index)| *index == lan && own.is_ipv6() == ipv6)
        {
            let name = &own.lan_interface;
            unfit
                .push(format!("{name} has no {family} address, and a service address is {family}"));
        }
    }
    unfit
}

/// The setting that keeps IPv6 from working on the LAN. What new devices get by default does not matter:
/// the engine sets its own.
fn ipv6_is_off(lan: &str) -> Option<String> {
    if !Path::new("/proc/sys/net/ipv6").is_dir() {
        return Some("the kernel has none".to_owned());
    }
    ["all", lan].into_iter().find_map(|place| {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{place}/disable_ipv6"));
        let off = value.is_ok_and(|value| value.trim() != "0");
        off.then(|| format!("net.ipv6.conf.{place}.disable_ipv6=1"))
    })
}

/// Whether no socket can be bound to `address`: it is on no interface, or not for good yet.
pub(super) fn is_absent(address: IpAddr) -> bool {
    let bound = UdpSocket::bind(SocketAddr::new(address, 0));
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// `key` names the address in the configuration.
pub(super) fn describe_absence(
    netlink: Option<&mut Netlink>,
    address: IpAddr,
    key: &str,
) -> String {
    let listed = netlink.and_then(|netlink| netlink.addresses().ok()).unwrap_or_default();
    if listed.iter().any(|(other, _)| *other == address) {
        return format!(
            "{address} ({key}) cannot be used yet: the host still looks whether another has it \
             (duplicate address detection), which needs a carrier"
        );
    }
    format!("no interface has the address {address} ({key})")
}

/// Why `root` cannot be served from yet.
pub(super) fn unmounted(root: &Path) -> Option<String> {
    if !root.is_dir() {
        return Some(format!("{} is not a directory", root.display()));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounted = |point: &str| mounts.lines().any(|line| mount_point(line) == Some(point));
    let table = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let missing = table
        .lines()
        .filter_map(mount_point)
        .find(|point| *point != "/" && root.starts_with(point) && !mounted(point))?;
    Some(format!("{} lies on {missing}, which is not mounted", root.display()))
}

/// Where a line of fstab(5) mounts something at every boot.
fn mount_point(line: &str) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let (device, point) = (fields.next()?, fields.next()?);
    let options = fields.nth(1).unwrap_or_default();
    let by_hand = options.split(',').any(|option| option == "noauto");
    (!device.starts_with('#') && point.starts_with('/') && !by_hand).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_here_is_absent() {
        assert!(is_absent([192, 0, 2, 1].into()));
        assert!(!is_absent([127, 0, 0, 1].into()));
        let text = describe_absence(None, [192, 0, 2, 1].into(), "lan-address");
        assert_eq!(text, "no interface has the address 192.0.2.1 (lan-address)");
    }

    #[test]
    fn everything_that_is_not_here_yet_is_named() {
        let text = r#"
[pair]
key-file = "key"
addresses = ["10.77.0.100"]
[node.a]
lan-interface = "nowhere0"
lan-address = "192.0.2.1"
replication-address = "192.0.2.9"
[node.b]
lan-interface = "lo"
lan-address = "127.0.0.1"
replication-address = "192.0.2.10"
[[service]]
kind = "files"
port = 80
root = "/nowhere/at/all"
"#;
        // A loopback address would be refused in a file; it is here on any host.
        let parse = |text: &str| Config::parse("f", Path::new("/"), text).unwrap();
        let config = parse(&text.replace("127.0.0.1", "192.0.2.2"));
        assert_eq!(
            lacking(&config, Node::A),
            [
                "there is no interface nowhere0 (lan-interface)",
                "no interface has the address 192.0.2.1 (lan-address)",
                "/nowhere/at/all is not a directory (root of service 80)",
            ]
        );
        let mut config =
            parse(&text.replace("127.0.0.1", "192.0.2.2").replace("/nowhere/at/all", "/"));
        if let Some(paths) = config.b.as_mut().and_then(|b| b.paths.as_mut()) {
            paths.lan = [127, 0, 0, 1].into();
        }
        assert_eq!(lacking(&config, Node::B), [""; 0], "the replication address is not waited for");
    }

    #[test]
    fn what_is_mounted_by_hand_is_not_waited_for() {
        assert_eq!(mount_point("/dev/sda1 /srv ext4 defaults 0 2"), Some("/srv"));
        assert_eq!(mount_point("/dev/sda1 /srv ext4 defaults,noauto 0 2"), None);
        assert_eq!(mount_point("# /dev/sda1 /srv ext4 defaults 0 2"), None);
        assert_eq!(mount_point("/dev/sda2 none swap sw 0 0"), None);
        assert_eq!(mount_point(""), None);
        assert_eq!(unmounted(Path::new("/")), None);
        assert!(unmounted(Path::new("/nowhere")).is_some_and(|why| why.contains("/nowhere")));
    }

    #[test]
    fn what_another_process_holds_is_borne_for_a_while_and_then_named() {
        let held = || Trouble::of("listen on 1.2.3.4:5", &io::ErrorKind::AddrInUse.into());
        let mut patience = Patience::default();
        assert_eq!(patience.bear(held()), Ok(()));
        patience.until = Some(Instant::ZERO);
        let why = patience.bear(held()).unwrap_err();
        assert!(why.starts_with("listen on 1.2.3.4:5") && why.ends_with("holds it)"), "{why}");
        let mut fresh = Patience::default();
        assert!(fresh.bear("wrong".to_owned().into()).is_err(), "what does not pass");
    }
}
