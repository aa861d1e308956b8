//! What the host must look like for the engine to run on it, and how it is put back.
//!
//! The kernel only forwards: packets for the service address go from the LAN into the TUN by a
//! host route, and answers go back by the ordinary routes.
//!
//! | setting | value | why |
//! |---|---|---|
//! | `ipv4/conf/<lan>`, `<tun>`: `forwarding` | 1 | packets pass between the two, no others need to |
//! | `ipv4/conf/<tun>`: `rp_filter` | 0 | answers pass even where policy routing hides the host route |
//! | `ipv4/conf/all`, `<lan>`: `send_redirects` | 0 | strays (below) leave by the way they came |
//! | `ipv6/conf/all`: `forwarding` | 1 | IPv6 knows no switch for two interfaces alone |
//! | `ipv6/conf/*`: `accept_ra` | 1 → 2 | or a forwarding host forgets the routers it learnt |
//! | `ipv4/neigh/<lan>`, `ipv6/neigh/<lan>`: `unres_qlen_bytes` | 16384 | see below |
//!
//! Only what has another value is written: where settings are read-only they may have been given from
//! outside. Without `forwarding` nothing can be served; of the others the engine only warns. That
//! forwarding does not show, and does not make a router of this host, is
//! `nftables`' business.
//!
//! **Strays.** Clients with a stale neighbour cache go on sending to a host that no longer owns the
//! address, or whose engine died. There is no host route then. IPv4 packets are forwarded back
//! onto the LAN to the new owner, without a redirect. The kernel cannot be told not to send IPv6
//! redirects, so there two rules act on what arrives from the LAN for the address: the first takes
//! a host route if there is one, the second drops the rest in silence. They stay in place for
//! primary and standby alike, and outlive a crash of the engine, when the TUN and its routes vanish.
//!
//! **Neighbours that are not there.** The kernel keeps what is to go to a neighbour while it asks for its
//! MAC address, 212,992 bytes each unless told otherwise, and after three seconds takes all of them
//! back, one error each, within one interrupt. SYNs that claim to come from 150 unused addresses of the
//! LAN have 40,000 answers kept that way, and this process stands still for 80 to 120 ms, which costs
//! it the address. 16 KiB hold one packet of any size, or some twenty small ones.
//!
//! Everything that outlives the process is in the undo journal before it is done, where other engines
//! on this host see it: what several need is restored by the last of them (`journal`).
//! Undoing after a crash, at the next start, is the same code as undoing at exit.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::journal::Journal;
use super::netlink::{HostRoute, Netlink, Rule, Verdict};
use super::nftables;
use super::sys::OsError;
use super::sysctl::{self, ipv4, ipv6};

/// Priority of the rule that takes a host route; the rule that drops follows it. Behind the table
/// `local` (0), before `main` (32766).
const RULE_PRIORITY: u32 = 5300;

/// Where all engines of this host keep the undo journal, if they can.
const SHARED: &str = "/run/standin/host";

/// What the kernel may keep for a neighbour that it does not know yet, in bytes, as the setting says it.
pub(super) const UNRESOLVED_BYTES: &str = "16384";

/// Settings that are needed together, as the journal names them.
const REDIRECTS: &str = "redirects";
const IPV6: &str = "ipv6";

/// What to set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The name of the LAN interface.
    pub lan: String,
    /// The name of the TUN device, which is open.
    pub tun: String,
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// The directory of the undo journal, the same for every engine on this host, on a file system
    /// that need not survive a reboot. See [`shared_directory`].
    pub journal: PathBuf,
}

/// The directory for [`Plan::journal`]: the one that all engines know, or, where that cannot be made,
/// one in `own`.
pub fn shared_directory(own: &Path) -> PathBuf {
    let shared = PathBuf::from(SHARED);
    match fs::create_dir_all(&shared) {
        Ok(()) => shared,
        Err(error) => {
            let own = own.join("host");
            log::warn!(
                "cannot create {SHARED}: {error}; if another engine runs on this host, neither will \
                 know of the other's settings (using {})",
                own.display()
            );
            own
        }
    }
}

/// Why the host cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The kernel has the service address: it would answer in the engine's place.
    #[error(
        "the service address {address} is configured on interface number {interface}; the engine \
         must be its only owner: remove it (ip address del) and whatever puts it there"
    )]
    AddressIsLocal {
        /// The address.
        address: IpAddr,
        /// The number of the interface that has it.
        interface: u32,
    },
    /// Another pair's engine serves it.
    #[error(
        "the service address {address} is served by another engine on this host ({tun}): give each \
         pair addresses of its own"
    )]
    AddressIsServed {
        /// The address.
        address: IpAddr,
        /// The name of the other engine's TUN device.
        tun: String,
    },
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
}

/// The chains of nf_tables that drop what is forwarded and in which nothing seems to admit what is for
/// the service addresses, each as `family table chain`. Rules of the older iptables are not seen.
pub fn forward_drops(tun: &str, addresses: &[IpAddr]) -> Result<Vec<String>, OsError> {
    match nftables::forward_drops(tun, addresses) {
        // A kernel without nf_tables.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => Ok(Vec::new()),
        outcome => outcome.map_err(|error| OsError::new("look at the firewall", error)),
    }
}

/// The host as changed for the engine; changed back by [`HostSetup::undo`] or on drop.
#[derive(Debug)]
pub struct HostSetup {
    plan: Plan,
    tun: u32,
    netlink: Netlink,
    journal: Journal,
    routes: Routes,
    rules: Option<nftables::Rules>,
}

/// Whether the host routes are in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Routes {
    Installed,
    Absent,
}

impl HostSetup {
    /// Undoes what a crashed engine left, then makes the changes of `plan` except the routes.
    pub fn apply(plan: Plan) -> Result<Self, HostError> {
        let mut netlink = Netlink::open()?;
        let tun = netlink.link(&plan.tun)?.index;
        netlink.link(&plan.lan)?;
        let journal = Journal::open(&plan.journal, &plan.tun)?;
        // From here on a failure drops `setup`, which undoes what was done so far.
        let mut setup = Self { plan, tun, netlink, journal, routes: Routes::Absent, rules: None };
        setup.journal.lock()?;
        let outcome = setup.make();
        setup.journal.unlock();
        outcome.map(|()| setup)
    }

    /// All of it, while no other engine changes anything.
    fn make(&mut self) -> Result<(), HostError> {
        self.clean_up()?;
        self.check_addresses()?;
        self.note_addresses()?;
        self.forward_ipv4()?;
        if self.plan.addresses.iter().any(IpAddr::is_ipv6) {
            self.forward_ipv6()?;
        }
        self.keep_little_for_the_unknown();
        self.silence_strays()?;
        self.add_packet_rules()
    }

    /// Leads the service addresses into the TUN. Idempotent; some twenty microseconds an address.
    /// If it fails, what was installed stays, and another attempt is safe.
    pub fn install_routes(&mut self) -> Result<(), HostError> {
        // Marked first: a half of them is removed like all of them.
        self.routes = Routes::Installed;
        for &address in &self.plan.addresses {
            self.netlink.add_route(HostRoute { address, interface: self.tun })?;
        }
        Ok(())
    }

    /// Installs them again, if they are to be in place: somebody has taken one away.
    pub fn put_back_routes(&mut self) -> Result<(), HostError> {
        if self.routes == Routes::Absent {
            return Ok(());
        }
        self.install_routes()
    }

    /// Takes the routes away. Idempotent. All are tried even if one fails.
    pub fn remove_routes(&mut self) -> Result<(), HostError> {
        if self.routes == Routes::Absent {
            return Ok(());
        }
        let mut outcome = Ok(());
        for &address in &self.plan.addresses {
            let route = HostRoute { address, interface: self.tun };
            outcome = outcome.and(self.netlink.delete_route(route));
        }
        outcome?;
        self.routes = Routes::Absent;
        Ok(())
    }

    /// Puts the host back as it was, as far as no other engine needs it. Idempotent. On an error the
    /// rest is still undone.
    pub fn undo(&mut self) -> Result<(), HostError> {
        if !self.journal.is_begun() {
            return Ok(());
        }
        self.journal.lock()?;
        let outcome = self.unmake();
        self.journal.unlock();
        self.routes = Routes::Absent;
        outcome
    }

    fn unmake(&mut self) -> Result<(), HostError> {
        let (live, dead) = self.journal.others()?;
        let mut left = vec![(self.plan.tun.clone(), self.plan.addresses.clone())];
        if live.is_empty() {
            // Nobody else is there to do it.
            left.extend(dead.into_iter().map(|user| (user.name, user.addresses)));
        }
        let mut outcome = Ok(());
        for (name, addresses) in &left {
            let removed = self.remove_leftovers(name, addresses);
            if removed.is_ok() && *name != self.plan.tun {
                outcome = outcome.and(self.journal.forget(name));
            }
            outcome = outcome.and(removed);
        }
        self.rules = None;
        // Our file must stay while routes or rules do, or the next start would not know.
        outcome?;
        self.journal.end().map_err(HostError::from)
    }

    /// Undoes what an engine with this TUN left behind, and settings that nobody needs.
    fn clean_up(&mut self) -> Result<(), HostError> {
        let (live, _) = self.journal.others()?;
        for user in live {
            let own = |address: &&IpAddr| self.plan.addresses.contains(*address);
            if let Some(&address) = user.addresses.iter().find(own) {
                return Err(HostError::AddressIsServed { address, tun: user.name });
            }
        }
        let mut addresses = self.plan.addresses.clone();
        if let Some(left) = self.journal.begin()? {
            log::info!("undoing what an engine that crashed left on this host");
            addresses.extend(left.addresses);
        }
        // Without a journal there may still be leftovers, if somebody deleted it.
        let tun = self.plan.tun.clone();
        self.remove_leftovers(&tun, &addresses)?;
        self.journal.restore_unneeded().map_err(HostError::from)
    }

    /// Removes the routes and rules of ours for `addresses`, and the packet rules of the engine whose
    /// TUN is called `tun`.
    fn remove_leftovers(&mut self, tun: &str, addresses: &[IpAddr]) -> Result<(), OsError> {
        let mut outcome = Ok(());
        for route in self.netlink.routes()? {
            if addresses.contains(&route.address) {
                outcome = outcome.and(self.netlink.delete_route(route));
            }
        }
        for rule in self.netlink.rules()? {
            if addresses.contains(&rule.address) {
                outcome = outcome.and(self.netlink.delete_rule(&rule));
            }
        }
        // The owner of the table may remove it, or anybody if there is none.
        if tun == self.plan.tun {
            self.rules = None;
        }
        if let Err(error) = nftables::remove(tun) {
            log::debug!("packet rules of {tun}: {error}");
        }
        outcome
    }

    fn check_addresses(&mut self) -> Result<(), HostError> {
        for (address, interface) in self.netlink.addresses()? {
            if self.plan.addresses.contains(&address) {
                return Err(HostError::AddressIsLocal { address, interface });
            }
        }
        Ok(())
    }

    fn forward_ipv4(&mut self) -> Result<(), HostError> {
        let (lan, tun) = (&self.plan.lan, &self.plan.tun);
        let on_lan = lan_group("ipv4", lan);
        // Redirects first: no stray is forwarded before.
        let redirects = self.journal.set(REDIRECTS, ipv4("all", "send_redirects"), "0");
        let redirects = redirects.and(self.journal.set(&on_lan, ipv4(lan, "send_redirects"), "0"));
        tolerate(redirects, "strays may draw redirects after a takeover");
        // Not changed, but if somebody does, it is to stay so, on the LAN interface too.
        let all = ipv4("all", "forwarding");
        if sysctl::read(&all)? == "0" {
            self.journal.need(&on_lan)?;
            self.journal.note_own_value(&on_lan, all, "0")?;
        }
        self.journal.set(&on_lan, ipv4(lan, "forwarding"), "1")?;
        // The TUN's own settings vanish with it and need no journal.
        sysctl::write(&ipv4(tun, "forwarding"), "1")?;
        tolerate(
            sysctl::write(&ipv4(tun, "rp_filter"), "0"),
            "answers are dropped where policy routing hides the service address's route",
        );
        Ok(())
    }

    /// Switches IPv6 forwarding on. That is one switch for the host, which the kernel copies to
    /// every interface, and which makes all of them ignore router advertisements from then on and
    /// forget the default routes learnt, unless `accept_ra` is 2. Undone in reverse order, so that
    /// single interfaces get their own value back after the switch has overwritten it.
    fn forward_ipv6(&mut self) -> Result<(), HostError> {
        self.journal.need(IPV6)?;
        let switch = ipv6("all", "forwarding");
        if sysctl::read(&switch)? != "0" {
            return Ok(());
        }
        for interface in sysctl::ipv6_interfaces()? {
            if interface == self.plan.tun {
                continue;
            }
            let forwarding = ipv6(&interface, "forwarding");
            let accept_ra = ipv6(&interface, "accept_ra");
            if sysctl::read(&forwarding)? != "0" {
                self.journal.note_own_value(IPV6, forwarding, "0")?;
            } else if sysctl::read(&accept_ra)? == "1" {
                let set = self.journal.set(IPV6, accept_ra, "2");
                tolerate(set, "this host forgets the IPv6 routers that it has learnt");
            }
        }
        self.journal.set(IPV6, switch, "1")?;
        Ok(())
    }

    /// "Neighbours that are not there", above.
    fn keep_little_for_the_unknown(&mut self) {
        let lan = &self.plan.lan;
        let ipv6 = self.plan.addresses.iter().any(IpAddr::is_ipv6).then_some("ipv6");
        for family in ["ipv4"].into_iter().chain(ipv6) {
            let path = sysctl::unresolved_bytes(family, lan);
            let set = self.journal.set(&lan_group(family, lan), path, UNRESOLVED_BYTES);
            tolerate(set, "SYNs from unused addresses of the LAN may cost this host the address");
        }
    }

    /// See `nftables`. A host without them is served as well as it can be.
    fn add_packet_rules(&mut self) -> Result<(), HostError> {
        let (live, dead) = self.journal.others()?;
        let others = live.into_iter().chain(dead).flat_map(|user| user.addresses);
        let all = ipv4("all", "forwarding");
        let is_router = sysctl::read(&all)? == "1";
        let plan = nftables::Plan {
            tun: self.plan.tun.clone(),
            lan: self.plan.lan.clone(),
            addresses: self.plan.addresses.iter().copied().chain(others).collect(),
            close_ipv4: self.journal.has(&ipv4(&self.plan.lan, "forwarding")) && !is_router,
            close_ipv6: self.journal.has(&ipv6("all", "forwarding")),
        };
        match nftables::Rules::install(&plan) {
            Ok(rules) => {
                if let Some(error) = &rules.ages {
                    log::warn!(
                        "packets that arrive with TTL or hop limit 1 are not served, and others \
                         leave one hop short: this kernel's nf_tables cannot change them ({error})"
                    );
                }
                self.rules = Some(rules);
            }
            Err(error) => {
                let open = if plan.close_ipv4 || plan.close_ipv6 {
                    ", and the LAN can reach this host's other networks through it"
                } else {
                    ""
                };
                log::warn!(
                    "no packet rules ({error}): packets that arrive with TTL or hop limit 1 are not \
                     served, others leave one hop short{open}; load the module nf_tables"
                );
            }
        }
        Ok(())
    }

    fn note_addresses(&mut self) -> Result<(), HostError> {
        for &address in &self.plan.addresses {
            self.journal.note_address(address)?;
        }
        Ok(())
    }

    fn silence_strays(&mut self) -> Result<(), HostError> {
        for rule in stray_rules(&self.plan.lan, &self.plan.addresses) {
            match self.netlink.add_rule(&rule) {
                Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => {
                    log::warn!("IPv6 redirects may reach clients after a takeover: {error}");
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

/// The rules that lead what the peer sends to try the way into the TUN, in front of the others.
pub(super) fn trial_rules(lan: &str, addresses: &[IpAddr], peer: IpAddr) -> Vec<Rule> {
    let tried = addresses.iter().filter(|address| address.is_ipv6() == peer.is_ipv6());
    let rule = |address: &IpAddr| Rule {
        priority: RULE_PRIORITY - 1,
        interface: lan.to_owned(),
        source: Some(peer),
        address: *address,
        verdict: Verdict::Trial,
    };
    tried.map(rule).collect()
}

/// The rules that keep strays from drawing an answer.
pub(super) fn stray_rules(lan: &str, addresses: &[IpAddr]) -> Vec<Rule> {
    let verdicts = [(0, Verdict::HostRoute), (1, Verdict::Blackhole)];
    let ipv6 = addresses.iter().copied().filter(IpAddr::is_ipv6);
    let rules = ipv6.flat_map(|address| {
        verdicts.map(|(offset, verdict)| Rule {
            priority: RULE_PRIORITY + offset,
            interface: lan.to_owned(),
            source: None,
            address,
            verdict,
        })
    });
    rules.collect()
}

/// The settings that engines on the LAN interface `lan` need.
fn lan_group(family: &str, lan: &str) -> String {
    format!("{family} {lan}")
}

/// A setting without which the engine can serve: what `lacks` then is worth a warning.
fn tolerate(outcome: Result<(), OsError>, lacks: &str) {
    if let Err(error) = outcome {
        log::warn!("{lacks}: {error}");
    }
}

impl Drop for HostSetup {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            log::error!("this host is not as it was before: {error}");
        }
    }
}
