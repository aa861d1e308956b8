//! The table "what changes on the host, and what the engine does" of `docs/operations.md`, made from
//! the code and held against the document.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use super::view::{Fault, Setting, Wanted};
use crate::runtime::netlink::{Link, Rule, Verdict};

const BEGIN: &str = "<!-- what changes on the host: made by the test of watch/table.rs -->\n";
const END: &str = "<!-- end -->\n";

/// What the interface can become, which is followed and is no fault.
const FOLLOWED: [(&str, &str); 5] = [
    (
        "the MAC address of the LAN interface (a bond fails over)",
        "follows: answers and announces with the new one, at once",
    ),
    (
        "the LAN interface is deleted and made anew, also under another number",
        "follows: listens on the new one, joins its groups, ties heartbeats to it",
    ),
    ("the LAN interface is renamed", "follows, by number; rules get the new name"),
    (
        "the MTU of the LAN interface",
        "follows: the TUN, and what new connections are told; compared with the peer's",
    ),
    ("the carrier of the LAN interface", "hands over if the peer's is better"),
];

fn wanted() -> Wanted {
    Wanted {
        lan: Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            mtu: 1500,
            queue_len: 1000,
            up: true,
            carrier: true,
        },
        tun: ("standin0".to_owned(), 9),
        addresses: vec![address("192.0.2.100"), address("2001:db8::100")],
        own: Some((address("192.0.2.1"), address("192.0.2.2"))),
        replication: None,
        owner: true,
        rules: true,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One of each kind, settings and rules all. A fault that is new stops the build here.
fn examples() -> Vec<(String, Fault)> {
    let wanted = wanted();
    let service = wanted.addresses[0];
    let mut faults: Vec<Fault> = vec![
        Fault::RouteMissing(service),
        Fault::TunDown,
        Fault::TunMtu,
        Fault::RouteRefused(service, "WHY".to_owned()),
        Fault::ServiceAddressHere(service, "eth1".to_owned()),
        Fault::OwnAddressMissing(address("192.0.2.1")),
        Fault::NoWayOut(address("2001:db8::101")),
        Fault::Ipv6Off("net.ipv6.conf.all.disable_ipv6".to_owned()),
        Fault::Diverted(service),
        Fault::ReversePath(service),
        Fault::Barred(service),
        Fault::LanGone,
    ];
    let rules = wanted.needed_rules("eth0");
    let kind = |verdict| rules.iter().find(move |rule| rule.verdict == verdict).cloned();
    let kinds = [Verdict::HostRoute, Verdict::Blackhole, Verdict::Trial].map(kind);
    faults.splice(1..1, kinds.into_iter().flatten().map(Fault::RuleMissing));
    faults.splice(4..4, wanted.settings().into_iter().map(Fault::Setting));
    faults.into_iter().map(|fault| (change(&fault), fault)).collect()
}

fn change(fault: &Fault) -> String {
    match fault {
        Fault::RouteMissing(_) => {
            "the host route of a service address is deleted, or replaced".into()
        }
        Fault::RuleMissing(Rule { verdict, .. }) => {
            let which = match verdict {
                Verdict::HostRoute | Verdict::Blackhole => "strays of IPv6",
                Verdict::Trial => "the peer's trial packets",
            };
            format!("policy rules are flushed (`systemd-networkd`): of {which}")
        }
        Fault::Setting(setting) => format!("`{}` is not {}", Setting::name(setting), setting.value),
        Fault::TunDown => "the TUN device is down".into(),
        Fault::TunMtu => "the TUN device has another MTU than the LAN interface".into(),
        Fault::RouteRefused(..) => {
            "the kernel refuses the route of a service address, tried beforehand".into()
        }
        Fault::ServiceAddressHere(..) => {
            "a service address is put on an interface of this host".into()
        }
        Fault::OwnAddressMissing(_) => "the `lan-address` is lost".into(),
        Fault::NoWayOut(_) => {
            "no route leads from the TUN to clients (IPv6 after `ip link set eth0 down`)".into()
        }
        Fault::Ipv6Off(_) => "IPv6 is switched off on the LAN interface, or on all".into(),
        Fault::Diverted(_) => "a policy rule leads past the host route".into(),
        Fault::ReversePath(_) => "`rp_filter` on `all` drops what leaves the TUN".into(),
        Fault::Barred(_) => "a firewall drops what is forwarded into the TUN".into(),
        Fault::LanGone => "the LAN interface is deleted".into(),
    }
}

fn table() -> String {
    let wanted = wanted();
    let mut lines = vec!["| what changes | the engine |\n".to_owned(), "|---|---|\n".to_owned()];
    for (change, fault) in examples() {
        let told = fault.obstacle(&wanted).map(|obstacle| format!("`{obstacle}`"));
        let does = match (fault.is_ours(), told) {
            (true, None) => "puts it back".to_owned(),
            (true, Some(told)) => format!("puts it back; while that fails it tells: {told}"),
            (false, told) => format!("tells: {}", told.unwrap_or_default()),
        };
        lines.push(format!("| {change} | {does} |\n"));
    }
    lines.extend(FOLLOWED.map(|(change, does)| format!("| {change} | {does} |\n")));
    lines.dedup();
    lines.concat()
}

#[test]
fn the_table_of_the_document_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = fs::read_to_string(path).unwrap();
    let rest = text.split_once(BEGIN).expect("the document has the mark of the table").1;
    let there = rest.split_once(END).expect("the table ends").0;
    assert_eq!(there.trim(), table().trim(), "docs/operations.md is to have:\n\n{}\n", table());
}
