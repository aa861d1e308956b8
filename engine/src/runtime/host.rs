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
//!
//! **Strays.** Clients with a stale neighbour cache go on sending to a host that no longer owns the
//! address, or whose engine died. There is no host route then. IPv4 packets are forwarded back
//! onto the LAN to the new owner, without a redirect. The kernel cannot be told not to send IPv6
//! redirects, so there two rules act on what arrives from the LAN for the address: the first takes
//! a host route if there is one, the second drops the rest in silence. They stay in place for
//! primary and standby alike, and outlive a crash of the engine, when the TUN and its routes vanish.
//!
//! Everything that outlives the process is in the undo journal before it is done.
//! Undoing after a crash, at the next start, is the same code as undoing at exit.

use std::net::IpAddr;
use std::path::PathBuf;

use super::journal::Journal;
use super::netlink::{HostRoute, Netlink, Rule, Verdict};
use super::sys::OsError;
use super::sysctl::{self, ipv4, ipv6};

/// Priority of the rule that takes a host route; the rule that drops follows it. Behind the table
/// `local` (0), before `main` (32766).
const RULE_PRIORITY: u32 = 5300;

/// What to set up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The name of the LAN interface.
    pub lan: String,
    /// The name of the TUN device, which is open.
    pub tun: String,
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// Where the undo journal is kept, for example `/run/standin/a.undo`. One file for each
    /// engine, on a file system that need not survive a reboot.
    pub journal: PathBuf,
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
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
}

/// The host as changed for the engine; changed back by [`HostSetup::undo`] or on drop.
#[derive(Debug)]
pub struct HostSetup {
    plan: Plan,
    tun: u32,
    netlink: Netlink,
    journal: Journal,
    routes: Routes,
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
        let journal = Journal::open(&plan.journal)?;
        // From here on a failure drops `setup`, which undoes what was done so far.
        let mut setup = Self { plan, tun, netlink, journal, routes: Routes::Absent };
        setup.clean_up()?;
        setup.check_addresses()?;
        setup.forward_ipv4()?;
        if setup.plan.addresses.iter().any(IpAddr::is_ipv6) {
            setup.forward_ipv6()?;
        }
        setup.note_addresses()?;
        setup.silence_strays()?;
        Ok(setup)
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

    /// Puts the host back as it was. Idempotent. On an error the rest is still undone.
    pub fn undo(&mut self) -> Result<(), HostError> {
        if self.journal.is_empty() {
            return Ok(());
        }
        let removed = self.remove_leftovers();
        // The journal must stay while routes or rules do, or the next start would not know.
        let restored = if removed.is_ok() { self.journal.undo() } else { Ok(()) };
        self.routes = Routes::Absent;
        removed.and(restored).map_err(HostError::from)
    }

    fn clean_up(&mut self) -> Result<(), HostError> {
        if !self.journal.is_empty() {
            log::info!("undoing what an engine that crashed left on this host");
        }
        self.undo()?;
        // Without a journal there may still be leftovers, if somebody deleted it.
        self.remove_leftovers().map_err(HostError::from)
    }

    /// Removes the routes and rules of ours for every address that we have or had.
    fn remove_leftovers(&mut self) -> Result<(), OsError> {
        let mut addresses = self.plan.addresses.clone();
        addresses.extend(self.journal.addresses());
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
        // Redirects first: no stray is forwarded before.
        self.journal.set(ipv4("all", "send_redirects"), "0")?;
        self.journal.set(ipv4(lan, "send_redirects"), "0")?;
        self.journal.set(ipv4(lan, "forwarding"), "1")?;
        // The TUN's own settings vanish with it and need no journal.
        sysctl::write(&ipv4(tun, "forwarding"), "1")?;
        sysctl::write(&ipv4(tun, "rp_filter"), "0")?;
        Ok(())
    }

    /// Switches IPv6 forwarding on. That is one switch for the host, which the kernel copies to
    /// every interface, and which makes all of them ignore router advertisements from then on and
    /// forget the default routes learnt, unless `accept_ra` is 2. Undone in reverse order, so that
    /// single interfaces get their own value back after the switch has overwritten it.
    fn forward_ipv6(&mut self) -> Result<(), HostError> {
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
                self.journal.note_own_value(forwarding, "0")?;
            } else if sysctl::read(&accept_ra)? == "1" {
                self.journal.set(accept_ra, "2")?;
            }
        }
        self.journal.set(switch, "1")?;
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

impl Drop for HostSetup {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            log::error!("this host is not as it was before: {error}");
        }
    }
}
