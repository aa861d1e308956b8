//! What is wrong with a host, and what follows from it.

use std::net::IpAddr;

use super::view::{Fault, ServiceWay, View, Wanted, faults};
use crate::engine::Obstacle;
use crate::runtime::netlink::{Link, Way};
use crate::wire::MacAddr;

const LAN: u32 = 2;
const TUN: u32 = 9;
const OTHER: u32 = 5;
const MAIN: u32 = 254;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service() -> [IpAddr; 2] {
    [address("10.77.0.100"), address("fd77::100")]
}

fn link(index: u32, name: &str, mtu: u32) -> Link {
    let mac = (index == LAN).then_some(MacAddr([2, 0, 0, 0, 0, 1]));
    Link { index, name: name.to_owned(), mac, mtu, queue_len: 1000, up: true, carrier: true }
}

fn wanted(owner: bool) -> Wanted {
    Wanted {
        lan: link(LAN, "eth0", 1500),
        tun: ("standin0".to_owned(), TUN),
        addresses: service().to_vec(),
        own: Some((address("10.77.0.1"), address("10.77.0.2"))),
        replication: None,
        owner,
        rules: true,
    }
}

fn over(interface: u32) -> Way {
    Way { interface: Some(interface), gateway: false, table: MAIN }
}

/// A host on which all is well.
fn sound(owner: bool) -> View {
    let wanted = wanted(owner);
    let to = Ok(over(if owner { TUN } else { LAN }));
    let way = |address| ServiceWay {
        address,
        to,
        inward: to,
        client: wanted.client_of(address),
        outward: Ok(over(LAN)),
    };
    View {
        lan: Some(link(LAN, "eth0", 1500)),
        tun: Some(link(TUN, "standin0", 1500)),
        on_lan: Some(vec![address("10.77.0.1"), address("fd77::1")]),
        local: Vec::new(),
        unset: Vec::new(),
        ipv6_off: None,
        rules: Some(wanted.needed_rules("eth0")),
        barred: false,
        tun_gone: false,
        trials: service().iter().map(|address| (*address, None)).collect(),
        ways: service().iter().map(|address| way(*address)).collect(),
    }
}

/// What is wrong if `change` is made to a sound host.
fn wrong(owner: bool, change: impl FnOnce(&mut View)) -> Vec<Fault> {
    let mut view = sound(owner);
    change(&mut view);
    faults(&wanted(owner), &view)
}

/// What an operator is told of it.
fn told(faults: &[Fault]) -> Vec<String> {
    let obstacles = faults.iter().filter_map(|fault| fault.obstacle(&wanted(true)));
    obstacles.map(|obstacle: Obstacle| obstacle.to_string()).collect()
}

#[test]
fn on_a_sound_host_nothing_is_wrong() {
    for owner in [false, true] {
        assert_eq!(wrong(owner, |_| {}), []);
    }
}

#[test]
fn what_is_the_engines_own_is_put_back() {
    let [ipv4, ipv6] = service();
    let found = wrong(true, |view| {
        for way in &mut view.ways {
            (way.to, way.inward) = (Ok(over(LAN)), Ok(over(LAN)));
        }
        view.rules = Some(Vec::new());
        view.unset = wanted(true).settings();
    });
    assert!(
        found.contains(&Fault::RouteMissing(ipv4)) && found.contains(&Fault::RouteMissing(ipv6))
    );
    let rules = found.iter().filter(|fault| matches!(fault, Fault::RuleMissing(_))).count();
    assert_eq!(rules, 3, "two for strays of IPv6, one for trials of IPv4");
    let settings = found.iter().filter(|fault| matches!(fault, Fault::Setting(_))).count();
    assert_eq!(settings, wanted(true).settings().len());
    assert!(found.iter().all(Fault::is_ours));
    for change in [|tun: &mut Link| tun.up = false, |tun: &mut Link| tun.mtu = 1400] {
        let found = wrong(false, |view| view.tun.iter_mut().for_each(change));
        assert!(matches!(found[..], [Fault::TunDown | Fault::TunMtu]), "{found:?}");
        assert!(found.iter().all(Fault::is_ours));
    }
}

#[test]
fn a_standby_has_no_routes_to_miss() {
    assert_eq!(wrong(false, |view| view.ways[0].to = Err(libc::ENETUNREACH)), []);
}

#[test]
fn rules_are_not_missed_where_the_kernel_has_none() {
    let mut view = sound(true);
    view.rules = Some(Vec::new());
    assert_eq!(faults(&Wanted { rules: false, ..wanted(true) }, &view), []);
}

#[test]
fn what_only_makes_noise_is_no_obstacle() {
    let quiet = |name: &str| name.ends_with("send_redirects") || name.ends_with("rp_filter");
    let settings = wanted(true).settings();
    let (noise, needed): (Vec<_>, Vec<_>) =
        settings.into_iter().partition(|setting| quiet(&setting.name()));
    assert_eq!(noise.len(), 3);
    let faults = |settings: Vec<_>| settings.into_iter().map(Fault::Setting).collect::<Vec<_>>();
    assert_eq!(told(&faults(noise)), [] as [&str; 0]);
    assert_eq!(told(&faults(needed)).len(), 4);
}

#[test]
fn a_service_address_of_the_kernels_is_told_and_nothing_that_follows_from_it() {
    let found = wrong(true, |view| {
        view.local.push((service()[0], "dummy0".to_owned()));
        view.ways[0].to = Ok(Way { interface: None, gateway: false, table: 255 });
    });
    assert_eq!(found, [Fault::ServiceAddressHere(service()[0], "dummy0".to_owned())]);
    assert!(!found[0].is_ours());
    assert!(told(&found)[0].contains("10.77.0.100 is on interface dummy0"), "{:?}", told(&found));
}

#[test]
fn ipv6_that_is_off_is_named_by_the_setting_that_did_it() {
    let found = wrong(false, |view| {
        view.ipv6_off = Some("net.ipv6.conf.all.disable_ipv6".to_owned());
        view.ways[1].outward = Err(libc::ENETUNREACH);
    });
    assert_eq!(
        told(&found),
        ["IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6=1): set it to 0"]
    );
    let mut view = sound(false);
    view.ipv6_off = Some("net.ipv6.conf.eth0.disable_ipv6".to_owned());
    view.ways.truncate(1);
    let wanted = Wanted { addresses: service()[..1].to_vec(), ..wanted(false) };
    assert_eq!(faults(&wanted, &view), [], "whoever serves IPv4 alone needs no IPv6");
}

#[test]
fn a_route_that_is_refused_is_told_before_it_is_needed() {
    let found = wrong(false, |view| view.trials[0].1 = Some("Permission denied".to_owned()));
    assert_eq!(
        told(&found),
        ["the kernel refuses a route for 10.77.0.100 into the TUN: Permission denied"]
    );
}

#[test]
fn an_address_that_was_lost_is_told_once() {
    let found = wrong(false, |view| {
        view.on_lan = Some(vec![address("fd77::1")]);
        view.ways[0].outward = Err(libc::ENETUNREACH);
    });
    assert_eq!(found, [Fault::OwnAddressMissing(address("10.77.0.1"))]);
    // Of IPv6 no own address is configured; that nobody can be reached is noticed all the same.
    let found = wrong(false, |view| view.ways[1].outward = Err(libc::ENETUNREACH));
    assert!(matches!(found[..], [Fault::NoWayOut(_)]), "{found:?}");
    assert!(told(&found)[0].contains("lost its IPv6 address"), "{:?}", told(&found));
}

#[test]
fn a_cut_cable_is_not_told_twice() {
    let found = wrong(false, |view| {
        view.lan.iter_mut().for_each(|lan| lan.carrier = false);
        for way in &mut view.ways {
            way.outward = Err(libc::ENETUNREACH);
        }
    });
    assert_eq!(found, []);
}

#[test]
fn a_tun_device_that_was_taken_away_is_told() {
    let found = wrong(true, |view| (view.tun, view.tun_gone) = (None, true));
    assert_eq!(found, [Fault::TunDown]);
    assert_eq!(told(&found), ["standin0 is down: set it up with ip link set standin0 up"]);
}

#[test]
fn a_rule_that_leads_past_the_route_is_told() {
    let found = wrong(true, |view| view.ways[0].inward = Ok(over(OTHER)));
    assert_eq!(found, [Fault::Diverted(service()[0])]);
    // That the kernel would drop the example for its source says nothing of real clients.
    assert_eq!(wrong(true, |view| view.ways[0].inward = Err(libc::EXDEV)), []);
}

#[test]
fn a_reverse_path_filter_is_told_where_it_drops() {
    let found = wrong(true, |view| view.ways[0].outward = Err(libc::EXDEV));
    assert_eq!(found, [Fault::ReversePath(service()[0])]);
    // A standby has no host route yet, which the filter will find.
    assert_eq!(wrong(false, |view| view.ways[0].outward = Err(libc::EXDEV)), []);
    let found = wrong(false, |view| {
        view.ways[0].outward = Err(libc::EXDEV);
        view.ways[0].to = Ok(Way { table: 100, ..over(OTHER) });
    });
    assert_eq!(found, [Fault::ReversePath(service()[0])]);
}

#[test]
fn a_firewall_that_drops_what_is_forwarded_is_told_if_nothing_explains_it() {
    let found = wrong(false, |view| view.barred = true);
    assert_eq!(found, [Fault::Barred(service()[0])]);
    assert!(told(&found)[0].contains("look for a firewall"), "{:?}", told(&found));
    let found = wrong(false, |view| {
        view.barred = true;
        view.trials[0].1 = Some("no".to_owned());
    });
    assert!(matches!(found[..], [Fault::RouteRefused(..)]), "{found:?}");
    // A node behind a router sends nothing to try.
    let found = wrong(false, |view| {
        view.barred = true;
        view.ways[0].outward = Ok(Way { gateway: true, ..over(LAN) });
    });
    assert_eq!(found, []);
    // Rules that make noise explain nothing.
    let found = wrong(false, |view| {
        view.barred = true;
        view.tun.iter_mut().for_each(|tun| tun.mtu = 1400);
    });
    assert_eq!(found, [Fault::TunMtu, Fault::Barred(service()[0])]);
}

#[test]
fn without_the_lan_interface_nothing_else_is_told() {
    let found = wrong(true, |view| {
        view.lan = None;
        view.unset = wanted(true).settings();
    });
    assert_eq!(found, [Fault::LanGone]);
    assert_eq!(told(&found), ["the LAN interface eth0 is gone"]);
}

#[test]
fn what_cannot_be_read_is_no_fault() {
    let lan = Some(link(LAN, "eth0", 1500));
    for owner in [false, true] {
        assert_eq!(faults(&wanted(owner), &View { lan: lan.clone(), ..View::default() }), []);
    }
}

#[test]
fn examples_of_clients_are_none_of_ours() {
    let wanted = wanted(true);
    assert_eq!(wanted.client_of(service()[0]), address("10.77.0.2"), "the peer");
    for address in service() {
        let neighbour = wanted.neighbour_of(address);
        assert!(!wanted.addresses.contains(&neighbour) && neighbour.is_ipv6() == address.is_ipv6());
    }
    let edge = Wanted { addresses: vec![address("10.77.0.254")], own: None, ..wanted };
    let neighbour = edge.neighbour_of(address("10.77.0.254"));
    assert!(!["10.77.0.254", "10.77.0.255", "10.77.0.0"].contains(&neighbour.to_string().as_str()));
}
