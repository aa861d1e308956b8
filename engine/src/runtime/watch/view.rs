//! What this host is like, what is wrong with it, and what can be done about each fault. Pure.
//!
//! | what changes | what the engine does |
//! |---|---|
//! | something of its own is taken away: a route, a rule, a setting, the TUN's state | puts it back |
//! | the LAN interface changes: number, name, MAC address, MTU | follows |
//! | something of the administrator's is missing or in the way | tells, and hands over |
//!
//! The first and the last are [`Fault`]s; `super` follows the interface. A [`View`] is read from the
//! kernel by [`super::look`], so this module is told everything and asks nobody.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::engine::Obstacle;
use crate::runtime::host::{UNRESOLVED_BYTES, stray_rules, trial_rules};
use crate::runtime::netlink::{Link, Rule, Way};
use crate::runtime::sysctl::{ipv4, ipv6, unresolved_bytes};

/// What the host is to be like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// The LAN interface as last seen.
    pub(super) lan: Link,
    /// The name and number of the TUN device.
    pub(super) tun: (String, u32),
    /// The service addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// This node's own address on the LAN, and the peer's.
    pub(super) own: Option<(IpAddr, IpAddr)>,
    /// This node's address on the replication network.
    pub(super) replication: Option<IpAddr>,
    /// Whether this node has the service addresses, and so their routes.
    pub(super) owner: bool,
    /// Whether the kernel has policy rules for IPv6.
    pub(super) rules: bool,
}

/// A setting of the kernel that the engine needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    pub(super) path: PathBuf,
    pub(super) value: &'static str,
    needed: Needed,
}

/// What a setting is needed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Needed {
    Forwarding,
    Ipv6,
    /// Others hear what they need not, and nothing fails.
    Quiet,
}

/// What was read from the kernel. What could not be read is none, and no fault.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct View {
    pub(super) lan: Option<Link>,
    pub(super) tun: Option<Link>,
    /// The TUN device is in this network namespace no more.
    pub(super) tun_gone: bool,
    /// The addresses on the LAN interface.
    pub(super) on_lan: Option<Vec<IpAddr>>,
    /// Service addresses that the kernel has, and the names of the interfaces.
    pub(super) local: Vec<(IpAddr, String)>,
    /// The needed settings that have another value.
    pub(super) unset: Vec<Setting>,
    /// The setting that switches IPv6 off on the LAN interface.
    pub(super) ipv6_off: Option<String>,
    /// The rules of ours.
    pub(super) rules: Option<Vec<Rule>>,
    /// What the trial of each service address's route came to: the kernel's reason for a refusal.
    pub(super) trials: Vec<(IpAddr, Option<String>)>,
    /// Where each service address leads.
    pub(super) ways: Vec<ServiceWay>,
    /// What the peer sends to try the way into the TUN does not arrive.
    pub(super) barred: bool,
}

/// Where a service address leads, and the answers from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ServiceWay {
    pub(super) address: IpAddr,
    /// A packet of this host to it.
    pub(super) to: Result<Way, i32>,
    /// A packet to it that arrives on the LAN.
    pub(super) inward: Result<Way, i32>,
    /// Where an answer goes, which is somebody on the LAN, and its way out of the TUN.
    pub(super) client: IpAddr,
    pub(super) outward: Result<Way, i32>,
}

/// Something that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    LanGone,
    TunDown,
    TunMtu,
    Setting(Setting),
    RuleMissing(Rule),
    RouteMissing(IpAddr),
    RouteRefused(IpAddr, String),
    ServiceAddressHere(IpAddr, String),
    OwnAddressMissing(IpAddr),
    Ipv6Off(String),
    Diverted(IpAddr),
    NoWayOut(IpAddr),
    ReversePath(IpAddr),
    Barred(IpAddr),
}

impl Wanted {
    /// The settings that the engine needs, those first that others depend on.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let (lan, tun) = (self.lan.name.as_str(), self.tun.0.as_str());
        let need = |path, value, needed| Setting { path, value, needed };
        let mut settings = Vec::new();
        if self.serves(true) {
            settings.extend([
                need(ipv6(tun, "disable_ipv6"), "0", Needed::Ipv6),
                need(ipv6("all", "forwarding"), "1", Needed::Forwarding),
                need(unresolved_bytes("ipv6", lan), UNRESOLVED_BYTES, Needed::Quiet),
            ]);
        }
        settings.extend([
            // Before forwarding: no stray is to draw a redirect meanwhile.
            need(ipv4("all", "send_redirects"), "0", Needed::Quiet),
            need(ipv4(lan, "send_redirects"), "0", Needed::Quiet),
            need(ipv4(lan, "forwarding"), "1", Needed::Forwarding),
            need(ipv4(tun, "forwarding"), "1", Needed::Forwarding),
            need(ipv4(tun, "rp_filter"), "0", Needed::Quiet),
            need(unresolved_bytes("ipv4", lan), UNRESOLVED_BYTES, Needed::Quiet),
        ]);
        settings
    }

    /// The rules that the engine needs, if the LAN interface is called `lan`.
    pub(super) fn needed_rules(&self, lan: &str) -> Vec<Rule> {
        let mut rules = stray_rules(lan, &self.addresses);
        if let Some((_, peer)) = self.own {
            rules.extend(trial_rules(lan, &self.addresses, peer));
        }
        rules
    }

    /// Whether there is a service address of this family.
    pub(super) fn serves(&self, ipv6: bool) -> bool {
        self.addresses.iter().any(|address| address.is_ipv6() == ipv6)
    }

    /// Somebody on the LAN, to ask for the way there: the peer, or else the service address's
    /// neighbour in number.
    pub(super) fn client_of(&self, address: IpAddr) -> IpAddr {
        match self.own {
            Some((_, peer)) if peer.is_ipv6() == address.is_ipv6() => peer,
            _ => self.neighbour_of(address),
        }
    }

    /// An address close to a service address, of which nothing is known but that it is none of ours.
    pub(super) fn neighbour_of(&self, address: IpAddr) -> IpAddr {
        let own = self.own.map_or([None; 2], |(own, peer)| [Some(own), Some(peer)]);
        let candidates = (1..=64).map(|step| flip(address, step));
        let mut free = candidates.filter(|candidate| {
            !self.addresses.contains(candidate) && !own.contains(&Some(*candidate))
        });
        free.next_back().unwrap_or(address)
    }
}

/// The address whose last byte differs in the bits of `step`, and is neither all zeros nor all ones.
fn flip(address: IpAddr, step: u8) -> IpAddr {
    let change = |last: u8| match last ^ step {
        0 | 255 => last,
        other => other,
    };
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, last] = address.octets();
            [a, b, c, change(last)].into()
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[15] = change(octets[15]);
            octets.into()
        }
    }
}

impl Setting {
    /// Its name as sysctl(8) has it.
    pub(super) fn name(&self) -> String {
        let path = self.path.strip_prefix("/proc/sys").unwrap_or(&self.path);
        let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
        parts.collect::<Vec<_>>().join(".")
    }
}

/// All that is wrong, in the order in which to put it right.
pub(super) fn faults(wanted: &Wanted, view: &View) -> Vec<Fault> {
    let mut faults = Vec::new();
    faults.extend(view.local.iter().cloned().map(|(a, on)| Fault::ServiceAddressHere(a, on)));
    let Some(lan) = &view.lan else {
        faults.push(Fault::LanGone);
        return faults;
    };
    if view.tun_gone {
        faults.push(Fault::TunDown);
    }
    faults.extend(view.tun.as_ref().and_then(|tun| tun_fault(tun, lan)));
    faults.extend(view.unset.iter().cloned().map(Fault::Setting));
    faults.extend(missing_rules(wanted, view).into_iter().map(Fault::RuleMissing));
    if wanted.serves(true) {
        faults.extend(view.ipv6_off.clone().map(Fault::Ipv6Off));
    }
    // Without IPv6 the kernel refuses every route of it, which is told above.
    let ipv6_set = !view.unset.iter().any(|unset| unset.needed == Needed::Ipv6);
    let trials = view.trials.iter().filter(|(address, _)| address.is_ipv4() || ipv6_set);
    let refused = trials.filter_map(|(address, why)| Some((*address, why.clone()?)));
    faults.extend(refused.map(|(address, why)| Fault::RouteRefused(address, why)));
    if let (Some(here), Some((own, _))) = (&view.on_lan, wanted.own)
        && !here.contains(&own)
    {
        faults.push(Fault::OwnAddressMissing(own));
    }
    for way in &view.ways {
        faults.extend(way_fault(wanted, view, way));
    }
    // The kernel's own word explains more than that nothing arrives.
    if view.barred
        && peer_is_on_lan(wanted, view)
        && faults.iter().all(|fault| fault.obstacle(wanted).is_none())
    {
        let tried = wanted.own.and_then(|(_, peer)| {
            wanted.addresses.iter().find(|address| address.is_ipv6() == peer.is_ipv6())
        });
        faults.extend(tried.copied().map(Fault::Barred));
    }
    faults
}

/// Whether the peer can send to this host without a router in between, as it does to try its way.
fn peer_is_on_lan(wanted: &Wanted, view: &View) -> bool {
    let lan = view.lan.as_ref().map(|lan| lan.index);
    view.ways.iter().any(|way| {
        wanted.own.is_some_and(|(_, peer)| peer == way.client)
            && way.outward.is_ok_and(|out| !out.gateway && out.interface == lan)
    })
}

fn tun_fault(tun: &Link, lan: &Link) -> Option<Fault> {
    if !tun.up {
        return Some(Fault::TunDown);
    }
    (tun.mtu != lan.mtu).then_some(Fault::TunMtu)
}

fn missing_rules(wanted: &Wanted, view: &View) -> Vec<Rule> {
    let Some(there) = view.rules.as_ref().filter(|_| wanted.rules) else { return Vec::new() };
    let mut rules = wanted.needed_rules(&wanted.lan.name);
    rules.retain(|rule| !there.contains(rule));
    rules
}

/// What is wrong with the ways of one service address. One fault at a time: what follows from
/// another is not told.
fn way_fault(wanted: &Wanted, view: &View, way: &ServiceWay) -> Option<Fault> {
    let ServiceWay { address, to, inward, client, outward } = *way;
    let tun = Some(wanted.tun.1);
    if view.local.iter().any(|(local, _)| *local == address) {
        return None;
    }
    if wanted.owner {
        if to.is_ok_and(|to| to.interface != tun) || to.is_err() {
            return Some(Fault::RouteMissing(address));
        }
        // A refusal depends on where the packet comes from, of which this is an example only.
        if inward.is_ok_and(|inward| inward.interface != tun) {
            return Some(Fault::Diverted(address));
        }
    }
    match outward {
        // Without the host route the filter finds another way back; with it only where rules lead
        // past the main table.
        Err(libc::EXDEV) if wanted.owner || to.is_ok_and(|to| to.table != MAIN) => {
            Some(Fault::ReversePath(address))
        }
        Err(libc::ENETUNREACH | libc::EHOSTUNREACH) if is_expected_on_lan(wanted, view, client) => {
            Some(Fault::NoWayOut(client))
        }
        _ => None,
    }
}

/// Whether that nobody of the family of `client` is reached is no fault that has been told already.
fn is_expected_on_lan(wanted: &Wanted, view: &View, client: IpAddr) -> bool {
    let told = match client {
        IpAddr::V4(_) => view.unset.iter().any(|unset| unset.needed == Needed::Forwarding),
        IpAddr::V6(_) => view.ipv6_off.is_some(),
    };
    // Without a carrier there are no routes, and that is told by other means.
    let cut = view.lan.as_ref().is_some_and(|lan| !lan.carrier);
    let own_missing = wanted.own.is_some_and(|(own, _)| {
        own.is_ipv6() == client.is_ipv6()
            && view.on_lan.as_ref().is_some_and(|here| !here.contains(&own))
    });
    !told && !cut && !own_missing
}

/// The number of the main table.
const MAIN: u32 = 254;

impl Fault {
    /// What it keeps this host from; none for what only makes noise.
    pub(super) fn obstacle(&self, wanted: &Wanted) -> Option<Obstacle> {
        let lan = &wanted.lan.name;
        Some(match self {
            Self::LanGone => Obstacle::LanGone { interface: lan.clone() },
            Self::TunDown => Obstacle::TunDown { interface: wanted.tun.0.clone() },
            Self::TunMtu | Self::RuleMissing(_) => return None,
            Self::Setting(setting) => match setting.needed {
                Needed::Forwarding => Obstacle::ForwardingOff { sysctl: setting.name() },
                Needed::Ipv6 => Obstacle::Ipv6Disabled { sysctl: setting.name() },
                Needed::Quiet => return None,
            },
            Self::RouteMissing(address) => Obstacle::RouteRefused {
                address: *address,
                why: "something on this host takes it away or leads past it (ip route get)".into(),
            },
            Self::RouteRefused(address, why) => {
                Obstacle::RouteRefused { address: *address, why: why.clone() }
            }
            Self::ServiceAddressHere(address, interface) => {
                Obstacle::ServiceAddressHere { address: *address, interface: interface.clone() }
            }
            Self::OwnAddressMissing(address) => {
                Obstacle::OwnAddressMissing { address: *address, interface: lan.clone() }
            }
            Self::Ipv6Off(sysctl) => Obstacle::Ipv6Disabled { sysctl: sysctl.clone() },
            Self::Diverted(address) => Obstacle::Other(format!(
                "a policy rule leads what arrives on {lan} for {address} elsewhere: see ip rule"
            )),
            Self::NoWayOut(client) => Obstacle::Other(format!(
                "no route to clients such as {client}: has {lan} lost its {} address? put it back \
                 with ip address add",
                if client.is_ipv6() { "IPv6" } else { "IPv4" }
            )),
            Self::Barred(address) => Obstacle::NoPath {
                address: *address,
                why: format!(
                    "what the peer sends on the LAN to try it does not get from {lan} into {}",
                    wanted.tun.0
                ),
            },
            Self::ReversePath(_) => {
                Obstacle::ReversePathFilter { sysctl: "net.ipv4.conf.all.rp_filter".into() }
            }
        })
    }

    /// Whether the engine can put it right.
    pub(super) const fn is_ours(&self) -> bool {
        match self {
            Self::TunDown
            | Self::TunMtu
            | Self::Setting(_)
            | Self::RuleMissing(_)
            | Self::RouteMissing(_) => true,
            Self::LanGone
            | Self::RouteRefused(..)
            | Self::ServiceAddressHere(..)
            | Self::OwnAddressMissing(_)
            | Self::Ipv6Off(_)
            | Self::Diverted(_)
            | Self::NoWayOut(_)
            | Self::ReversePath(_)
            | Self::Barred(_) => false,
        }
    }
}

/// What was put back: "the route to 192.0.2.100".
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TunDown => f.write_str("the TUN device, which was down"),
            Self::TunMtu => f.write_str("the MTU of the TUN device, which is the LAN's"),
            Self::Setting(setting) => write!(f, "{}={}", setting.name(), setting.value),
            Self::RuleMissing(rule) => {
                write!(f, "the rule for {} from {}", rule.address, rule.interface)
            }
            Self::RouteMissing(address) => write!(f, "the route to {address}"),
            Self::LanGone => f.write_str("the LAN interface"),
            Self::RouteRefused(address, _) | Self::Diverted(address) | Self::Barred(address) => {
                write!(f, "the way to {address}")
            }
            Self::ServiceAddressHere(address, _) | Self::OwnAddressMissing(address) => {
                write!(f, "the address {address}")
            }
            Self::Ipv6Off(sysctl) => f.write_str(sysctl),
            Self::NoWayOut(client) => write!(f, "the way to {client}"),
            Self::ReversePath(address) => write!(f, "the way from {address}"),
        }
    }
}
