//! Reads from the kernel what [`super::view`] judges.

use std::net::IpAddr;

use crate::runtime::netlink::{HostRoute, Link, Netlink};
use crate::runtime::sys::OsError;
use crate::runtime::sysctl;

use super::view::{ServiceWay, Setting, View, Wanted};

/// Finds the LAN interface: under its number as long as it lives, then under its names.
pub(super) fn find_lan(
    netlink: &mut Netlink,
    index: u32,
    names: &[&str],
) -> Result<Option<Link>, OsError> {
    match present(netlink.link_at(index))? {
        Some(link) => Ok(Some(link)),
        None => {
            for name in names {
                if let Some(link) = present(netlink.link(name))? {
                    return Ok(Some(link));
                }
            }
            Ok(None)
        }
    }
}

fn present(link: Result<Link, OsError>) -> Result<Option<Link>, OsError> {
    match link {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the trial of the routes came to: of each address the kernel's reason for a refusal.
pub(super) type Refusals = Vec<(IpAddr, Option<String>)>;

/// Whether the interface that has `address` has a carrier; `None` if none has it, or it is not known.
pub(super) fn carrier_at(netlink: &mut Netlink, address: IpAddr) -> Option<bool> {
    let here = said(netlink.addresses())?;
    let (_, index) = here.into_iter().find(|(here, _)| *here == address)?;
    said(netlink.link_at(index)).map(|link| link.carrier)
}

/// Everything but the trial of the routes. `lan` is none while it is missing.
pub(super) fn look(netlink: &mut Netlink, wanted: &Wanted, lan: Option<Link>) -> View {
    let tun = said(present(netlink.link_at(wanted.tun.1)));
    let tun_gone = tun == Some(None);
    let here = said(netlink.addresses());
    let index = lan.as_ref().map(|lan| lan.index);
    let on_lan = here.as_ref().map(|here| {
        here.iter().filter(|(_, on)| Some(*on) == index).map(|(address, _)| *address).collect()
    });
    let mut local = Vec::new();
    for (address, on) in here.into_iter().flatten() {
        if wanted.addresses.contains(&address) {
            let name = netlink.link_at(on).map_or_else(|_| format!("number {on}"), |on| on.name);
            local.push((address, name));
        }
    }
    let mut view = View {
        tun: tun.flatten(),
        tun_gone,
        on_lan,
        local,
        unset: wanted.settings().into_iter().filter(differs).collect(),
        ipv6_off: lan.as_ref().and_then(|lan| ipv6_off(&lan.name)),
        rules: wanted.rules.then(|| said(netlink.rules())).flatten(),
        ..View::default()
    };
    if let Some(lan) = &lan {
        let addresses = wanted.addresses.iter();
        view.ways = addresses.map(|address| ways(netlink, wanted, lan, *address)).collect();
    }
    view.lan = lan;
    view
}

/// A setting that is not there is not in the way: so is IPv6 where there is none.
fn differs(setting: &Setting) -> bool {
    sysctl::read(&setting.path).is_ok_and(|value| value != setting.value)
}

/// The setting that switches IPv6 off on `lan`. "All" is copied to every interface when it is
/// written, and tells whose doing it was.
fn ipv6_off(lan: &str) -> Option<String> {
    let off =
        |of: &str| sysctl::read(&sysctl::ipv6(of, "disable_ipv6")).is_ok_and(|value| value != "0");
    off(lan).then(|| {
        let of = if off("all") { "all" } else { lan };
        format!("net.ipv6.conf.{of}.disable_ipv6")
    })
}

/// Sets the routes as a takeover sets them, in a table of their own where they attract nothing.
pub(super) fn try_routes(netlink: &mut Netlink, wanted: &Wanted) -> Refusals {
    let trial = |address: &IpAddr| {
        let route = HostRoute { address: *address, interface: wanted.tun.1 };
        let refusal = netlink.add_trial_route(route).err();
        (*address, refusal.map(|error| error.reason()))
    };
    wanted.addresses.iter().map(trial).collect()
}

fn ways(netlink: &mut Netlink, wanted: &Wanted, lan: &Link, address: IpAddr) -> ServiceWay {
    let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(0);
    let client = wanted.client_of(address);
    let neighbour = wanted.neighbour_of(address);
    ServiceWay {
        address,
        to: netlink.way(address, None, None).map_err(errno),
        inward: netlink.way(address, Some(neighbour), Some(lan.index)).map_err(errno),
        client,
        outward: netlink.way(client, Some(address), Some(wanted.tun.1)).map_err(errno),
    }
}

/// What cannot be read now is read the next time.
fn said<T>(outcome: Result<T, OsError>) -> Option<T> {
    outcome.inspect_err(|error| log::debug!("{error}")).ok()
}
