//! The host side on a real kernel: TUN, LAN socket, routes, rules, settings and the undo journal.
//!
//! Every test runs in a network namespace of its own: the test binary starts itself again under
//! `unshare`, once for each test, and the outer half fails if the inner one does. Needs
//! `unshare` (util-linux), `ip` (iproute2), `nft` (nftables), python3, `/dev/net/tun`, and root or user namespaces.
#![cfg(feature = "runtime")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::BufRead as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use standin::engine::Obstacle;
use standin::neighbour::{Event, Neighbour, Settings};
use standin::runtime::host::{HostError, HostSetup, Plan};
use standin::runtime::lan::Lan;
use standin::runtime::netlink::{HostRoute, Link, Netlink, Verdict};
use standin::runtime::tun::{HEADER_LEN, Tun, TunOffload};
use standin::runtime::watch::{News, Watch, Watched};
use standin::time::Instant;
use standin::wire::{MacAddr, VnetHeader};

const INSIDE: &str = "STANDIN_TEST_NAMESPACE";
const MTU: u32 = 1500;

/// Runs `story` in a fresh network namespace; `name` is the test's own.
fn in_namespace(name: &str, story: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return story();
    }
    let mut command = Command::new("unshare");
    // Root needs no user namespace, and may be in a place that forbids them.
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let output = command
        .args(["--net", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (util-linux) runs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "in its namespace, {name} failed:\n{text}");
    assert!(text.contains("1 passed"), "{name} did not run in its namespace:\n{text}");
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    uid.split_whitespace().nth(1) == Some("0")
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program} is needed here: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
}

/// `eth0` with 10.77.0.1/24 and fd77::1/64, and its other end `sw0`, both up.
fn make_lan() {
    let lines = [
        "link add eth0 type veth peer name sw0",
        "address add 10.77.0.1/24 dev eth0",
        "address add fd77::1/64 dev eth0 nodad",
        "link set eth0 up",
        "link set sw0 up",
    ];
    for line in lines {
        run("ip", &line.split(' ').collect::<Vec<_>>());
    }
}

fn addresses() -> Vec<IpAddr> {
    vec!["10.77.0.100".parse().unwrap(), "fd77::100".parse().unwrap()]
}

/// A directory of this test's own.
fn journal(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("standin-{}-{name}", std::process::id()))
}

/// The names of the files in a journal, without the lock that stays.
fn noted(journal: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for namespace in fs::read_dir(journal).unwrap() {
        for file in fs::read_dir(namespace.unwrap().path()).unwrap() {
            names.push(file.unwrap().file_name().into_string().unwrap());
        }
    }
    names.retain(|name| name != "lock");
    names.sort();
    names
}

/// A host that is none of our business yet: nothing is forwarded.
fn forward_nothing() {
    for switch in ["ipv4/conf/eth0/forwarding", "ipv6/conf/all/forwarding"] {
        fs::write(setting(switch), "0").unwrap();
    }
}

fn plan(journal: &Path) -> Plan {
    Plan {
        lan: "eth0".to_owned(),
        tun: "tun0".to_owned(),
        addresses: addresses(),
        journal: journal.to_owned(),
    }
}

/// Every setting of the host that the engine may change.
fn settings() -> Vec<(String, String)> {
    let paths = [
        "ipv4/conf/all/send_redirects",
        "ipv4/conf/eth0/send_redirects",
        "ipv4/conf/eth0/forwarding",
        "ipv4/conf/all/forwarding",
        "ipv6/conf/all/forwarding",
        "ipv6/conf/eth0/forwarding",
        "ipv6/conf/eth0/accept_ra",
        "ipv6/conf/sw0/forwarding",
        "ipv6/conf/sw0/accept_ra",
    ];
    let read = |path: &str| fs::read_to_string(setting(path)).unwrap().trim().to_owned();
    paths.iter().map(|path| ((*path).to_owned(), read(path))).collect()
}

fn setting(path: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(path)
}

fn value(path: &str) -> String {
    fs::read_to_string(setting(path)).unwrap().trim().to_owned()
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within ten seconds");
}

/// An ICMPv4 echo request from the service address to 10.77.0.1, complete.
fn ping() -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([10, 77, 0, 100], [10, 77, 0, 1], 64)
        .icmpv4_echo_request(7, 1);
    let mut packet = vec![0; HEADER_LEN];
    builder.write(&mut packet, b"are you there?").unwrap();
    packet
}

/// The next packet in the TUN, if there is one, but for the kernel's own multicast reports.
fn next_packet(tun: &mut Tun) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    loop {
        match tun.read(&mut buffer) {
            Ok(len) if is_multicast_report(&buffer[HEADER_LEN..len]) => {}
            Ok(len) => return Some(buffer[HEADER_LEN..len].to_vec()),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                return None;
            }
        }
    }
}

/// IPv6 to a multicast address, with a hop-by-hop header first, as MLD has.
fn is_multicast_report(packet: &[u8]) -> bool {
    packet[0] >> 4 == 6 && packet[6] == 0 && packet[24] == 0xff
}

/// Writes a ping into the TUN and waits for the kernel's answer.
fn ping_answered(tun: &mut Tun) {
    tun.write(&ping()).unwrap();
    let answer = eventually("echo reply", || next_packet(tun));
    let packet = etherparse::SlicedPacket::from_ip(&answer).unwrap();
    let Some(etherparse::TransportSlice::Icmpv4(icmp)) = packet.transport else {
        panic!("no ICMP: {packet:?}");
    };
    assert_eq!(icmp.type_u8(), 0, "echo reply");
    assert_eq!(icmp.payload(), b"are you there?");
}

/// The header of the SYN that the kernel sends when somebody here connects to the service.
fn kernels_syn(tun: &mut Tun) -> VnetHeader {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let service: std::net::SocketAddr = "10.77.0.100:7".parse().unwrap();
    // In progress, for ever: nobody answers.
    socket.connect(&service.into()).unwrap_err();
    let mut buffer = [0; 2048];
    eventually("SYN", || {
        let len = tun.read(&mut buffer).ok()?;
        let is_tcp = buffer[HEADER_LEN] >> 4 == 4 && buffer[HEADER_LEN + 9] == 6;
        VnetHeader::parse(&buffer[..len]).filter(|_| is_tcp)
    })
}

#[test]
fn tun_with_offload_moves_packets_both_ways() {
    in_namespace("tun_with_offload_moves_packets_both_ways", || {
        make_lan();
        let mut tun = Tun::open("tun0", MTU, true).unwrap();
        assert_eq!(tun.offload(), TunOffload::Segments);
        assert_eq!(tun.name(), "tun0");
        let link = Netlink::open().unwrap().link("tun0").unwrap();
        assert_eq!((link.mtu, link.queue_len, link.carrier), (MTU, 4096, true));
        assert_eq!((link.index, link.mac), (tun.index(), None));

        let journal = journal("offload");
        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        host.install_routes().unwrap();
        ping_answered(&mut tun);
        assert!(kernels_syn(&mut tun).needs_csum(), "the kernel leaves checksums to the reader");
    });
}

#[test]
fn plain_tun_moves_packets_both_ways() {
    in_namespace("plain_tun_moves_packets_both_ways", || {
        make_lan();
        let mut tun = Tun::open("tun0", MTU, false).unwrap();
        assert_eq!(tun.offload(), TunOffload::None);
        let journal = journal("plain");
        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        host.install_routes().unwrap();
        ping_answered(&mut tun);
        assert_eq!(kernels_syn(&mut tun), VnetHeader::default(), "nothing is left to do");

        let mut unfinished = ping();
        unfinished[0] = 1;
        assert!(tun.write(&unfinished).is_err(), "nobody would complete the checksum");
    });
}

#[test]
fn tun_carries_no_ipv6_noise() {
    in_namespace("tun_carries_no_ipv6_noise", || {
        let mut tun = Tun::open("tun0", MTU, true).unwrap();
        let own = Netlink::open().unwrap().addresses().unwrap();
        assert!(own.iter().all(|(_, interface)| *interface != tun.index()), "{own:?}");
        thread::sleep(Duration::from_millis(100));
        assert_eq!(next_packet(&mut tun), None);
    });
}

#[test]
fn a_tun_in_use_is_refused_and_said_so() {
    in_namespace("a_tun_in_use_is_refused_and_said_so", || {
        let _held = Tun::open("tun0", MTU, true).unwrap();
        let error = Tun::open("tun0", MTU, true).unwrap_err().to_string();
        assert!(error.contains("tun0") && error.contains("is an engine running?"), "{error}");
    });
}

#[test]
fn routes_come_and_go_and_may_be_asked_for_twice() {
    in_namespace("routes_come_and_go_and_may_be_asked_for_twice", || {
        make_lan();
        let tun = Tun::open("tun0", MTU, true).unwrap();
        let journal = journal("routes");
        let mut netlink = Netlink::open().unwrap();
        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        assert_eq!(netlink.routes().unwrap(), []);
        let all: Vec<_> = addresses()
            .into_iter()
            .map(|address| HostRoute { address, interface: tun.index() })
            .collect();
        for _ in 0..2 {
            host.install_routes().unwrap();
            assert_eq!(netlink.routes().unwrap(), all);
        }
        for _ in 0..2 {
            host.remove_routes().unwrap();
            assert_eq!(netlink.routes().unwrap(), []);
        }
    });
}

#[test]
fn everything_is_as_before_after_undo() {
    in_namespace("everything_is_as_before_after_undo", || {
        make_lan();
        // One interface that forwards on its own, which the switch for all would overwrite.
        fs::write(setting("ipv6/conf/sw0/forwarding"), "1").unwrap();
        let before = settings();
        let _tun = Tun::open("tun0", MTU, true).unwrap();
        let journal = journal("undo");
        let mut netlink = Netlink::open().unwrap();

        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        host.install_routes().unwrap();
        assert_eq!(noted(&journal), ["settings", "tun0.user"]);
        assert_eq!(value("ipv4/conf/eth0/forwarding"), "1");
        assert_eq!(value("ipv4/conf/all/send_redirects"), "0");
        assert_eq!(value("ipv6/conf/all/forwarding"), "1");
        assert_eq!(value("ipv6/conf/eth0/accept_ra"), "2");
        let verdicts: Vec<_> = netlink.rules().unwrap().iter().map(|rule| rule.verdict).collect();
        assert_eq!(verdicts, [Verdict::HostRoute, Verdict::Blackhole]);

        host.undo().unwrap();
        assert_eq!(settings(), before);
        assert_eq!((netlink.routes().unwrap(), netlink.rules().unwrap()), (vec![], vec![]));
        assert_eq!(noted(&journal), [""; 0]);
        host.undo().unwrap();
        drop(host);
        assert_eq!(settings(), before);
    });
}

#[test]
fn a_crash_is_cleaned_up_at_the_next_start_without_losing_the_original_values() {
    in_namespace(
        "a_crash_is_cleaned_up_at_the_next_start_without_losing_the_original_values",
        || {
            make_lan();
            let before = settings();
            let tun = Tun::open("tun0", MTU, true).unwrap();
            let journal = journal("crash");
            let mut netlink = Netlink::open().unwrap();

            killed(plan(&journal));
            assert_eq!(netlink.routes().unwrap().len(), 2, "the device lives on in this test");
            assert_ne!(settings(), before);

            // The next start no longer knows of the IPv4 address.
            let mut smaller = plan(&journal);
            smaller.addresses.remove(0);
            let host = HostSetup::apply(smaller).unwrap();
            assert_eq!(netlink.routes().unwrap(), []);
            assert_eq!(netlink.rules().unwrap().len(), 2);
            drop(host);
            assert_eq!(settings(), before);
            assert_eq!(netlink.rules().unwrap(), []);
            assert_eq!(noted(&journal), [""; 0]);
            drop(tun);
        },
    );
}

/// The second pair's engine on this host.
fn second(journal: &Path) -> Plan {
    Plan {
        tun: "tun1".to_owned(),
        addresses: vec!["10.77.0.101".parse().unwrap(), "fd77::101".parse().unwrap()],
        ..plan(journal)
    }
}

#[test]
fn of_two_engines_the_last_one_restores_the_host() {
    in_namespace("of_two_engines_the_last_one_restores_the_host", || {
        make_lan();
        forward_nothing();
        let before = settings();
        let journal = journal("two");
        let _tuns = ["tun0", "tun1"].map(|name| Tun::open(name, MTU, true).unwrap());
        for first_to_stop in [0, 1] {
            let mut engines = [plan(&journal), second(&journal)]
                .map(|plan| Some(HostSetup::apply(plan).unwrap()));
            let during = settings();
            assert_ne!(during, before);
            drop(engines[first_to_stop].take());
            assert_eq!(settings(), during, "the other one lives on it");
            drop(engines);
            assert_eq!(settings(), before);
            assert_eq!(noted(&journal), [""; 0]);
        }
    });
}

#[test]
fn an_address_of_another_engine_is_refused_and_left_alone() {
    in_namespace("an_address_of_another_engine_is_refused_and_left_alone", || {
        make_lan();
        let journal = journal("served");
        let _tuns = ["tun0", "tun1"].map(|name| Tun::open(name, MTU, true).unwrap());
        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        host.install_routes().unwrap();
        let mut netlink = Netlink::open().unwrap();
        let there = (netlink.routes().unwrap(), netlink.rules().unwrap());
        let mut greedy = second(&journal);
        greedy.addresses.push(addresses()[1]);
        let error = HostSetup::apply(greedy).unwrap_err().to_string();
        assert!(error.contains("fd77::100") && error.contains("(tun0)"), "{error}");
        assert_eq!((netlink.routes().unwrap(), netlink.rules().unwrap()), there);
    });
}

/// The firewall of a host that forwards nothing but what its rules admit, as `check` sees it.
#[test]
fn a_firewall_that_would_stop_the_service_is_found() {
    in_namespace("a_firewall_that_would_stop_the_service_is_found", || {
        let drops = || standin::runtime::host::forward_drops("standin0", &addresses()).unwrap();
        assert_eq!(drops(), [""; 0]);
        run(
            "nft",
            &["add table inet filter; add chain inet filter forward \
                     { type filter hook forward priority filter; policy drop; }"],
        );
        assert_eq!(drops(), ["inet filter forward"]);
        for rule in [
            "iifname \"eth0\" oifname \"standin0\" accept",
            "ip daddr 10.77.0.100 accept",
            "ip6 daddr { fd77::100, fd77::200 } accept",
        ] {
            run("nft", &[&format!("add rule inet filter forward {rule}")]);
            assert_eq!(drops(), [""; 0], "{rule}");
            run("nft", &["flush chain inet filter forward"]);
        }
        run("nft", &["add rule inet filter forward iifname \"standin01\" accept"]);
        assert_eq!(drops(), ["inet filter forward"], "another interface");
        run("nft", &["add chain inet filter forward { policy accept; }"]);
        assert_eq!(drops(), [""; 0]);
    });
}

#[test]
fn an_engine_that_was_killed_counts_for_nothing_when_the_last_one_stops() {
    in_namespace("an_engine_that_was_killed_counts_for_nothing_when_the_last_one_stops", || {
        make_lan();
        forward_nothing();
        let before = settings();
        let journal = journal("killed");
        let _tuns = ["tun0", "tun1"].map(|name| Tun::open(name, MTU, true).unwrap());
        let other = HostSetup::apply(second(&journal)).unwrap();
        let during = settings();
        killed(plan(&journal));
        assert_eq!(settings(), during);
        // One that died and came back, while the other lives.
        let again = HostSetup::apply(plan(&journal)).unwrap();
        drop(again);
        assert_eq!(settings(), during);
        killed(plan(&journal));
        drop(other);
        assert_eq!(settings(), before, "the dead one needs nothing");
        assert_eq!((noted(&journal), tables()), (vec![], vec![]));
        // Both dead: whoever starts first finds what was before.
        killed(second(&journal));
        killed(plan(&journal));
        drop(HostSetup::apply(plan(&journal)).unwrap());
        assert_eq!(settings(), before);
        assert_eq!((noted(&journal), tables()), (vec![], vec![]));
    });
}

/// An engine with this plan was here, and was killed: its locks and sockets are gone, and it has undone
/// nothing.
fn killed(plan: Plan) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "applies_and_waits", "--ignored", "--nocapture"])
        .env(APPLY, format!("{} {}", plan.tun, plan.journal.display()))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    said.find(|line| line.as_ref().unwrap().contains("applied")).unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

const APPLY: &str = "STANDIN_TEST_APPLY";

#[test]
#[ignore = "a part of another test: an engine to be killed"]
fn applies_and_waits() {
    let Some(what) = std::env::var_os(APPLY) else { return };
    let what = what.into_string().unwrap();
    let (tun, journal) = what.split_once(' ').unwrap();
    let journal = Path::new(journal);
    let plan = [plan(journal), second(journal)].into_iter().find(|plan| plan.tun == tun);
    let mut host = HostSetup::apply(plan.unwrap()).unwrap();
    host.install_routes().unwrap();
    println!("applied");
    thread::sleep(Duration::from_secs(60));
}

/// The tables of nf_tables.
fn tables() -> Vec<String> {
    let output = Command::new("nft").args(["list", "tables"]).output().expect("nft (nftables)");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn settings_that_have_their_values_are_not_written() {
    in_namespace("settings_that_have_their_values_are_not_written", || {
        make_lan();
        let preset = [
            ("ipv4/conf/all/forwarding", "1"),
            ("ipv4/conf/default/forwarding", "1"),
            ("ipv4/conf/all/send_redirects", "0"),
            ("ipv4/conf/default/rp_filter", "0"),
            ("ipv4/conf/eth0/send_redirects", "0"),
            ("ipv6/conf/all/forwarding", "1"),
        ];
        for (path, value) in preset {
            fs::write(setting(path), value).unwrap();
        }
        run("mount", &["--bind", "/proc/sys", "/proc/sys"]);
        run("mount", &["-o", "remount,bind,ro", "/proc/sys"]);
        let _tun = Tun::open("tun0", MTU, true).unwrap();
        let journal = journal("read-only");
        drop(HostSetup::apply(plan(&journal)).unwrap());

        // One that differs and that matters is named, with what to do.
        run("mount", &["-o", "remount,bind,rw", "/proc/sys"]);
        fs::write(setting("ipv4/conf/eth0/forwarding"), "0").unwrap();
        fs::write(setting("ipv4/conf/eth0/send_redirects"), "1").unwrap();
        run("mount", &["-o", "remount,bind,ro", "/proc/sys"]);
        let error = HostSetup::apply(plan(&journal)).unwrap_err().to_string();
        let wanted = "cannot set net.ipv4.conf.eth0.forwarding to 1 (it is 0)";
        assert!(error.contains(wanted) && error.contains("from outside"), "{error}");
        assert_eq!(noted(&journal), [""; 0]);
    });
}

#[test]
fn what_an_administrator_changed_meanwhile_is_left_alone() {
    in_namespace("what_an_administrator_changed_meanwhile_is_left_alone", || {
        make_lan();
        let _tun = Tun::open("tun0", MTU, true).unwrap();
        let journal = journal("admin");
        let host = HostSetup::apply(plan(&journal)).unwrap();
        fs::write(setting("ipv6/conf/eth0/accept_ra"), "0").unwrap();
        drop(host);
        assert_eq!(value("ipv6/conf/eth0/accept_ra"), "0");
    });
}

#[test]
fn a_service_address_that_the_kernel_owns_is_refused_and_nothing_is_changed() {
    in_namespace(
        "a_service_address_that_the_kernel_owns_is_refused_and_nothing_is_changed",
        || {
            make_lan();
            run("ip", &["address", "add", "10.77.0.100/32", "dev", "lo"]);
            let before = settings();
            let _tun = Tun::open("tun0", MTU, true).unwrap();
            let journal = journal("local");
            let error = HostSetup::apply(plan(&journal)).unwrap_err();
            let HostError::AddressIsLocal { address, .. } = error else { panic!("{error}") };
            assert_eq!(address, addresses()[0]);
            assert_eq!(settings(), before);
            assert_eq!(noted(&journal), [""; 0]);
        },
    );
}

#[test]
fn the_lan_socket_hears_neighbours_and_nothing_else() {
    in_namespace("the_lan_socket_hears_neighbours_and_nothing_else", || {
        make_lan();
        let engine = Lan::open("eth0", &addresses()).unwrap();
        let switch = Lan::open("sw0", &[]).unwrap();
        assert_eq!(Some(engine.mac()), Netlink::open().unwrap().link("eth0").unwrap().mac);
        let groups = fs::read_to_string("/proc/net/igmp6").unwrap();
        assert!(groups.contains("ff0200000000000000000001ff000100"), "joined: {groups}");

        let ipv4 = frame(0x0800, &[0x45; 46]);
        let arp = frame(0x0806, &[1; 46]);
        let solicitation = frame(0x86dd, &icmpv6(135));
        for sent in [&ipv4, &frame(0x86dd, &icmpv6(128)), &arp, &ipv4, &solicitation] {
            switch.write(sent).unwrap();
        }
        assert_eq!(hear(&engine), arp);
        assert_eq!(hear(&engine), solicitation);

        engine.write(&arp).unwrap();
        assert_eq!(hear(&switch), arp);
        let nothing = engine.read(&mut [0; 2048]).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "own frames are not heard");
    });
}

/// The next frame that is not the kernel's own neighbour discovery.
fn hear(lan: &Lan) -> Vec<u8> {
    let mut buffer = [0; 2048];
    eventually("a frame", || {
        let len = lan.read(&mut buffer).ok()?;
        Some(buffer[..len].to_vec()).filter(|frame| frame[6..12] == SENDER)
    })
}

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// A broadcast frame.
fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6], &SENDER, &ethertype.to_be_bytes()[..], payload].concat()
}

/// The head of an IPv6 packet with an ICMPv6 message of type `kind`.
fn icmpv6(kind: u8) -> [u8; 64] {
    let mut packet = [0; 64];
    packet[0] = 0x60;
    packet[6] = 58;
    packet[40] = kind;
    packet
}

/// A host with everything that an engine has on it, and the thread that watches it. The test is the
/// loop.
struct Watching {
    watch: Watch,
    host: HostSetup,
    lan: Lan,
    tun: Tun,
    netlink: Netlink,
    poll: mio::Poll,
    obstacles: Vec<Obstacle>,
    carrier: Option<bool>,
    link: Link,
}

impl Watching {
    fn new(name: &str) -> Self {
        let lan = Lan::open("eth0", &addresses()).unwrap();
        let tun = Tun::open("tun0", MTU, true).unwrap();
        let host = HostSetup::apply(plan(&journal(name))).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link("eth0").unwrap();
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let watched = Watched {
            lan: link.clone(),
            tun: (tun.name().to_owned(), tun.index()),
            addresses: addresses(),
            own: Some(("10.77.0.1".parse().unwrap(), "10.77.0.2".parse().unwrap())),
            replication: None,
            port: 7,
        };
        let watch = Watch::start(watched, Arc::new(waker)).unwrap();
        let (obstacles, carrier) = (Vec::new(), None);
        Self { watch, host, lan, tun, netlink, poll, obstacles, carrier, link }
    }

    fn own(&mut self) {
        self.watch.owns(true);
        self.host.install_routes().unwrap();
    }

    /// Takes news as the loop does, until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        eventually(what, || {
            while let Some(news) = self.watch.next() {
                match news {
                    News::Carrier(up) => self.carrier = Some(up),
                    News::Lan { link, socket } => {
                        self.link = link;
                        if let Some(socket) = socket {
                            let old = std::mem::replace(&mut self.lan, socket);
                            self.watch.retire(old);
                        }
                    }
                    News::Cable(_) => {}
                    News::RouteGone => self.host.put_back_routes().unwrap(),
                    News::Obstacles(obstacles) => self.obstacles = obstacles,
                }
            }
            done(self).then_some(())
        });
        let _ = &self.poll;
    }

    /// Nothing is told for as long as two looks take.
    fn is_told_nothing(&mut self) {
        let clock = standin::runtime::clock::Clock;
        let end = clock.now() + Duration::from_millis(2100);
        self.until("two looks", |_| clock.now() > end);
        assert_eq!(self.obstacles, []);
    }

    fn routed(&mut self) -> Vec<IpAddr> {
        let index = self.tun.index();
        let routes = self.netlink.routes().unwrap();
        routes.into_iter().filter(|r| r.interface == index).map(|r| r.address).collect()
    }

    fn told(&mut self, text: &str) {
        self.until(text, |w| w.obstacles.iter().any(|o| o.to_string().contains(text)));
    }

    fn told_no_more(&mut self) {
        self.until("all is well again", |w| w.obstacles.is_empty());
    }
}

fn ip(line: &str) {
    run("ip", &line.split(' ').collect::<Vec<_>>());
}

#[test]
fn a_cut_cable_is_noticed_and_so_is_its_repair() {
    in_namespace("a_cut_cable_is_noticed_and_so_is_its_repair", || {
        make_lan();
        eventually("carrier", || {
            Netlink::open().unwrap().link("eth0").unwrap().carrier.then_some(())
        });
        let mut watching = Watching::new("carrier");
        watching.until("state at the start", |w| w.carrier == Some(true));
        ip("link set sw0 down");
        watching.until("loss", |w| w.carrier == Some(false));
        ip("link set sw0 up");
        watching.until("repair", |w| w.carrier == Some(true));
        ip("link delete sw0");
        watching.until("removal", |w| w.carrier == Some(false));
        watching.told("the LAN interface eth0 is gone");
    });
}

#[test]
fn what_is_the_engines_own_is_put_back_at_once() {
    in_namespace("what_is_the_engines_own_is_put_back_at_once", || {
        make_lan();
        let mut watching = Watching::new("own");
        let rules = watching.netlink.rules().unwrap();
        watching.is_told_nothing();
        watching.own();
        ip("route delete 10.77.0.100");
        watching.until("the route", |w| w.routed() == addresses());
        ip("-6 route delete fd77::100");
        watching.until("the other", |w| w.routed() == addresses());
        ip("route replace 10.77.0.100 dev eth0 scope link");
        watching.until("the replaced one", |w| w.routed() == addresses());
        ip("-6 rule flush");
        ip("-6 rule add priority 32766 table main");
        watching.until("the rules", |w| w.netlink.rules().unwrap() == rules);
        ip("link set tun0 down");
        watching.until("the device and its routes", |w| w.routed() == addresses());
        fs::write(setting("ipv6/conf/tun0/disable_ipv6"), "1").unwrap();
        watching.until("IPv6 of the device", |w| w.routed() == addresses());
        for (path, wrong) in [
            ("ipv4/ip_forward", "0"),
            ("ipv4/conf/tun0/forwarding", "0"),
            ("ipv6/conf/all/forwarding", "0"),
            ("ipv4/conf/tun0/rp_filter", "1"),
            ("ipv4/conf/eth0/send_redirects", "1"),
        ] {
            fs::write(setting(path), wrong).unwrap();
        }
        watching.until("the settings", |_| {
            value("ipv4/conf/eth0/forwarding") == "1"
                && value("ipv4/conf/tun0/forwarding") == "1"
                && value("ipv6/conf/all/forwarding") == "1"
                && value("ipv4/conf/tun0/rp_filter") == "0"
                && value("ipv4/conf/eth0/send_redirects") == "0"
        });
        watching.is_told_nothing();

        // Whoever is standby has no routes to be put back.
        watching.watch.owns(false);
        watching.host.remove_routes().unwrap();
        watching.is_told_nothing();
        assert_eq!(watching.routed(), [] as [IpAddr; 0]);
    });
}

#[test]
fn who_takes_a_route_away_again_and_again_is_told_of() {
    in_namespace("who_takes_a_route_away_again_and_again_is_told_of", || {
        make_lan();
        let mut watching = Watching::new("fight");
        watching.own();
        for _ in 0..4 {
            watching.until("the route", |w| w.routed() == addresses());
            ip("route delete 10.77.0.100");
        }
        watching.told("10.77.0.100 into the TUN: something on this host takes it away");
        watching.told_no_more();
        assert_eq!(watching.routed(), addresses());
    });
}

#[test]
fn what_the_administrator_has_to_put_right_is_told() {
    in_namespace("what_the_administrator_has_to_put_right_is_told", || {
        make_lan();
        ip("link add dummy0 type veth peer name dummy1");
        for owner in [false, true] {
            let mut watching = Watching::new("told");
            if owner {
                watching.own();
            }
            ip("address add 10.77.0.100/32 dev dummy0");
            watching.told("10.77.0.100 is on interface dummy0");
            ip("address delete 10.77.0.100/32 dev dummy0");
            watching.told_no_more();
            ip("address delete 10.77.0.1/24 dev eth0");
            watching.told("this node's address 10.77.0.1 is missing");
            ip("address add 10.77.0.1/24 dev eth0");
            watching.told_no_more();
            ip("address delete fd77::1/64 dev eth0");
            watching.told("has eth0 lost its IPv6 address?");
            ip("address add fd77::1/64 dev eth0 nodad");
            watching.told_no_more();
            fs::write(setting("ipv6/conf/all/disable_ipv6"), "1").unwrap();
            watching.told("IPv6 is disabled on this host (net.ipv6.conf.all.disable_ipv6=1)");
            fs::write(setting("ipv6/conf/all/disable_ipv6"), "0").unwrap();
            ip("address add fd77::1/64 dev eth0 nodad");
            watching.told_no_more();
            if owner {
                ip("rule add priority 100 iif eth0 to 10.77.0.100 table 77");
                ip("route add 10.77.0.0/24 dev eth0 table 77");
                watching.told("a policy rule leads what arrives on eth0 for 10.77.0.100 elsewhere");
                ip("rule delete priority 100");
                watching.told_no_more();
            }
        }
    });
}

#[test]
fn a_route_that_a_takeover_could_not_set_is_told_beforehand() {
    in_namespace("a_route_that_a_takeover_could_not_set_is_told_beforehand", || {
        make_lan();
        fs::write(setting("ipv6/conf/default/disable_ipv6"), "1").unwrap();
        let mut watching = Watching::new("trial");
        // The device is the engine's own, and gets IPv6.
        assert_eq!(value("ipv6/conf/tun0/disable_ipv6"), "0");
        watching.is_told_nothing();
        let index = watching.tun.index();
        let trials = watching.netlink.trial_routes().unwrap();
        assert_eq!(trials.len(), 2);
        assert!(trials.iter().all(|route| route.interface == index));
        // They attract nothing.
        let way = watching.netlink.way(addresses()[0], None, None).unwrap();
        assert_eq!(way.interface, Some(watching.link.index));
    });
}

#[test]
fn the_lan_interface_is_followed_whatever_becomes_of_it() {
    in_namespace("the_lan_interface_is_followed_whatever_becomes_of_it", || {
        make_lan();
        let mut watching = Watching::new("follow");
        let mac = MacAddr([2, 0x77, 0, 0, 0, 0xf1]);
        ip("link set eth0 address 02:77:00:00:00:f1");
        watching.until("its MAC address", |w| w.link.mac == Some(mac));
        ip("link set eth0 mtu 1400");
        watching.until("its MTU", |w| w.link.mtu == 1400);
        watching.until("the TUN's", |w| w.netlink.link("tun0").unwrap().mtu == 1400);
        ip("link set eth0 mtu 1500");
        watching.until("its MTU", |w| w.netlink.link("tun0").unwrap().mtu == 1500);

        ip("link set eth0 down");
        ip("link set eth0 name lan0");
        ip("link set lan0 up");
        ip("address add fd77::1/64 dev lan0 nodad");
        watching.until("its name", |w| w.link.name == "lan0");
        watching.until("the rules", |w| {
            let rules = w.netlink.rules().unwrap();
            rules.len() == 3 && rules.iter().all(|rule| rule.interface == "lan0")
        });
        watching.told_no_more();

        ip("link delete lan0");
        watching.told("the LAN interface lan0 is gone");
        make_lan();
        watching.told_no_more();
        assert_eq!(watching.link.name, "eth0");
        assert_eq!(watching.lan.index(), watching.link.index);
        assert_eq!(value("ipv4/conf/eth0/forwarding"), "1");
        let groups = fs::read_to_string("/proc/net/igmp6").unwrap();
        assert!(groups.contains("ff0200000000000000000001ff000100"), "joined: {groups}");
        // It hears again.
        let switch = Lan::open("sw0", &[]).unwrap();
        let arp = frame(0x0806, &[1; 46]);
        switch.write(&arp).unwrap();
        assert_eq!(hear(&watching.lan), arp);
    });
}

/// A segment in the middle of a connection, from `source` to the service address, in a frame.
fn segment(lan: &Lan, source: [u8; 4], port: u16, text: &[u8]) -> Vec<u8> {
    let builder =
        etherparse::PacketBuilder::ipv4(source, [10, 77, 0, 100], 64).tcp(port, 7, 1, 1000).ack(1);
    let mut packet = Vec::new();
    builder.write(&mut packet, text).unwrap();
    stray(lan, 0x0800, &packet)
}

#[test]
fn a_standby_takes_the_peers_trials_into_its_tun_and_no_stray() {
    in_namespace("a_standby_takes_the_peers_trials_into_its_tun_and_no_stray", || {
        make_lan();
        let mut watching = Watching::new("trials");
        let switch = Lan::open("sw0", &[]).unwrap();
        let text = b"standin: does this pass?\n";
        let arrives = |watching: &mut Watching, source| {
            while next_packet(&mut watching.tun).is_some() {}
            let before = counter("Ip.ForwDatagrams");
            switch.write(&segment(&watching.lan, source, 9, text)).unwrap();
            eventually("forwarded", || (counter("Ip.ForwDatagrams") > before).then_some(()));
            next_packet(&mut watching.tun).is_some_and(|packet| packet.ends_with(text))
        };
        assert!(arrives(&mut watching, [10, 77, 0, 2]), "from the peer");
        assert!(!arrives(&mut watching, [10, 77, 0, 10]), "a stray goes to the new owner");

        // Whoever is known to send them, is heard, and has none arrive, meets a firewall.
        watching.is_told_nothing();
        let clock = standin::runtime::clock::Clock;
        watching.watch.expects_trials(clock.now(), true);
        watching.told("packets for 10.77.0.100 do not pass through this host");
        watching.watch.on_trial(clock.now());
        watching.told_no_more();
        watching.told("look for a firewall");
        watching.watch.expects_trials(clock.now(), false);
        watching.told_no_more();
    });
}

/// An IP packet in a frame from a client on the LAN to the service address, sent to `eth0`.
fn stray(lan: &Lan, ethertype: u16, packet: &[u8]) -> Vec<u8> {
    [&lan.mac().0, &SENDER, &ethertype.to_be_bytes()[..], packet].concat()
}

fn stray_ipv4(lan: &Lan) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ipv4([10, 77, 0, 10], [10, 77, 0, 100], 64)
        .tcp(4000, 7, 1, 1000);
    let mut packet = Vec::new();
    builder.write(&mut packet, b"").unwrap();
    stray(lan, 0x0800, &packet)
}

fn stray_ipv6(lan: &Lan) -> Vec<u8> {
    let host = |last: u16| std::net::Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last).octets();
    let builder =
        etherparse::PacketBuilder::ipv6(host(0x10), host(0x100), 64).tcp(4000, 7, 1, 1000);
    let mut packet = Vec::new();
    builder.write(&mut packet, b"").unwrap();
    stray(lan, 0x86dd, &packet)
}

/// A counter of the kernel: `Ip6OutForwDatagrams`, or `Icmp.OutRedirects` for IPv4.
fn counter(name: &str) -> u64 {
    let Some((section, name)) = name.split_once('.') else {
        let text = fs::read_to_string("/proc/net/snmp6").unwrap();
        let mut pairs = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
        return pairs.find(|(key, _)| *key == name).unwrap().1.trim().parse().unwrap();
    };
    let text = fs::read_to_string("/proc/net/snmp").unwrap();
    let mut rows = text.lines().filter(|line| line.split(':').next() == Some(section));
    let (keys, values) = (rows.next().unwrap(), rows.next().unwrap());
    let mut pairs = keys.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(key, _)| *key == name).unwrap().1.parse().unwrap()
}

#[test]
fn strays_reach_the_tun_of_the_owner_and_draw_no_answer_elsewhere() {
    in_namespace("strays_reach_the_tun_of_the_owner_and_draw_no_answer_elsewhere", || {
        make_lan();
        let mut tun = Tun::open("tun0", MTU, true).unwrap();
        let engine = Lan::open("eth0", &addresses()).unwrap();
        let client = Lan::open("sw0", &[]).unwrap();
        let journal = journal("strays");
        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        // Redirects are sent from the link-local address, which must have become usable.
        eventually("link-local address", || {
            let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap();
            let ours = |line: &&str| line.starts_with("fe80") && line.ends_with("eth0");
            addresses.lines().find(ours).filter(|line| line.contains(" 20 80 ")).map(drop)
        });

        // Standby: IPv4 is passed on to the owner, IPv6 dropped; nobody is told anything.
        for _ in 0..3 {
            client.write(&stray_ipv4(&engine)).unwrap();
            client.write(&stray_ipv6(&engine)).unwrap();
        }
        eventually("IPv4 passed on", || (counter("Ip.ForwDatagrams") == 3).then_some(()));
        assert_eq!(counter("Icmp.OutRedirects") + counter("Icmp.OutDestUnreachs"), 0);
        assert_eq!(counter("Ip6OutForwDatagrams"), 0);
        assert_eq!(counter("Icmp6OutRedirects") + counter("Icmp6OutDestUnreachs"), 0);
        assert_eq!(next_packet(&mut tun), None);

        // Primary: both arrive.
        host.install_routes().unwrap();
        client.write(&stray_ipv4(&engine)).unwrap();
        client.write(&stray_ipv6(&engine)).unwrap();
        for version in [4, 6] {
            let packet = eventually("packet in the TUN", || next_packet(&mut tun));
            assert_eq!(packet[0] >> 4, version);
        }

        // A host that merely forwards does redirect: the above can fail.
        drop(host);
        fs::write(setting("ipv6/conf/all/forwarding"), "1").unwrap();
        client.write(&stray_ipv6(&engine)).unwrap();
        eventually("a redirect", || (counter("Icmp6OutRedirects") > 0).then_some(()));
    });
}

/// A host of its own at the other end of the cable: the kernel of a second network namespace.
struct Client(std::process::Child);

impl Client {
    fn new() -> Self {
        let client = Self(Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap());
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", client.0.id());
        eventually("namespace", || fs::read_link(&theirs).ok().filter(|theirs| *theirs != ours));
        run("ip", &["link", "set", "sw0", "netns", &client.0.id().to_string()]);
        client.shell("ip address add 10.77.0.10/24 dev sw0");
        client.shell("ip address add fd77::10/64 dev sw0 nodad");
        client.shell("ip link set sw0 up");
        client
    }

    fn shell(&self, script: &str) -> String {
        let target = self.0.id().to_string();
        let mut command = Command::new("nsenter");
        let output = command.args(["--target", &target, "--net", "bash", "-c", script]).output();
        let output = output.expect("nsenter (util-linux) runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether this host's neighbour cache has `mac` for `address`.
    fn knows(&self, address: IpAddr, mac: MacAddr) -> bool {
        self.shell(&format!("ip neighbour show {address}")).contains(&mac.to_string())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may be gone already, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An IPv4 and an IPv6 packet from the client to an address, with a TTL.
fn udp_from_client(client: &Client, to: &str, ttl: u8) {
    let script = format!(
        "import socket\n\
         six = ':' in '{to}'\n\
         s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.setsockopt(*((41, 16) if six else (0, 2)), {ttl})\n\
         s.sendto(b'hello' * 200, ('{to}', 9))"
    );
    client.shell(&format!("python3 -c \"{script}\""));
}

#[test]
fn the_lan_reaches_the_service_and_no_other_network() {
    in_namespace("the_lan_reaches_the_service_and_no_other_network", || {
        make_lan();
        let client = Client::new();
        // Another network of this host.
        for line in [
            "link add eth1 type veth peer name sw1",
            "address add 10.78.0.1/24 dev eth1",
            "address add fd78::1/64 dev eth1 nodad",
            "link set eth1 up",
            "link set sw1 up",
            "neighbour add 10.78.0.2 lladdr 02:00:00:00:00:09 dev eth1",
            "neighbour add fd78::2 lladdr 02:00:00:00:00:09 dev eth1",
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>());
        }
        client.shell("ip route add 10.78.0.0/24 via 10.77.0.1; ip route add fd78::/64 via fd77::1");
        client.shell("ip route add 10.77.0.100 via 10.77.0.1; ip route add fd77::100 via fd77::1");
        client.shell("ip route add 10.77.0.101 via 10.77.0.1; ip route add fd77::101 via fd77::1");
        // In thousands of bytes that left: what the host says itself is shorter. The kernel's counters
        // of what is forwarded have what is dropped then, too.
        let forwarded = || -> u64 {
            let text = fs::read_to_string("/proc/net/dev").unwrap();
            let line = text.lines().find(|line| line.trim_start().starts_with("eth1:")).unwrap();
            line.split_whitespace().nth(9).unwrap().parse::<u64>().unwrap()
        };
        let routed = || {
            let before = forwarded();
            for to in ["10.78.0.2", "fd78::2"] {
                udp_from_client(&client, to, 64);
            }
            thread::sleep(Duration::from_millis(200));
            (forwarded() - before) / 1000
        };
        let journal = journal("router");
        let mut tuns = ["tun0", "tun1"].map(|name| Tun::open(name, MTU, true).unwrap());

        forward_nothing();
        assert_eq!(routed(), 0);
        let mut engines = [plan(&journal), second(&journal)].map(|p| HostSetup::apply(p).unwrap());
        engines.iter_mut().for_each(|host| host.install_routes().unwrap());
        assert_eq!(routed(), 0, "forwarding is on for the service addresses alone");
        for (tun, services) in
            tuns.iter_mut().zip([["10.77.0.100", "fd77::100"], ["10.77.0.101", "fd77::101"]])
        {
            for to in services {
                udp_from_client(&client, to, 64);
                eventually("packet in the TUN", || next_packet(tun));
            }
        }
        // A firewall that is loaded anew flushes what is not owned.
        run("nft", &["flush", "ruleset"]);
        assert_eq!(routed(), 0);
        // Somebody makes a router of this host, as container managers do, and one it stays.
        fs::write(setting("ipv4/conf/all/forwarding"), "1").unwrap();
        eventually("IPv4 is let through", || (routed() == 1).then_some(()));
        drop(engines);
        assert_eq!(tables(), [""; 0]);
        assert_eq!(value("ipv4/conf/eth0/forwarding"), "1", "as all others");
        assert_eq!(noted(&journal), [""; 0]);

        // A host that was a router before is one on both sides of an engine's life.
        for switch in ["ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"] {
            fs::write(setting(switch), "1").unwrap();
        }
        assert_eq!(routed(), 2);
        let host = HostSetup::apply(plan(&journal)).unwrap();
        assert_eq!(routed(), 2);
        drop(host);
        assert_eq!(routed(), 2);
    });
}

#[test]
fn nobody_sees_that_the_kernel_forwards() {
    in_namespace("nobody_sees_that_the_kernel_forwards", || {
        make_lan();
        let client = Client::new();
        let lan = Lan::open("eth0", &addresses()).unwrap();
        client.shell(&format!("ip neighbour add 10.77.0.100 lladdr {} dev sw0", lan.mac()));
        client.shell(&format!("ip neighbour add fd77::100 lladdr {} dev sw0", lan.mac()));
        let mut tun = Tun::open("tun0", MTU, true).unwrap();
        let journal = journal("ttl");
        let mut host = HostSetup::apply(plan(&journal)).unwrap();
        host.install_routes().unwrap();

        // In: what was sent arrives, but for the one value where before and after meet.
        for (sent, seen) in
            [(1, 1), (2, 2), (15, 15), (16, 15), (17, 17), (64, 64), (254, 254), (255, 255)]
        {
            for (to, at) in [("10.77.0.100", 8), ("fd77::100", 7)] {
                udp_from_client(&client, to, sent);
                let packet = eventually("packet in the TUN", || next_packet(&mut tun));
                assert_eq!(packet[at], seen, "sent to {to} with {sent}");
                assert!(etherparse::SlicedPacket::from_ip(&packet).is_ok());
                if at == 8 {
                    let header = etherparse::Ipv4Header::from_slice(&packet).unwrap().0;
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                }
            }
        }

        // Out: the client's kernel demands it.
        let demand = |address: &str, least: u8| {
            client.shell(&format!(
                "timeout 5 python3 -c \"import socket\n\
                 six = ':' in '{address}'\n\
                 s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)\n\
                 s.setsockopt(*((41, 51) if six else (0, 12)), 1)\n\
                 s.bind(('{address}', 9))\n\
                 open('/tmp/standin-ready-{0}', 'w').close()\n\
                 _, extra, _, _ = s.recvmsg(100, 100)\n\
                 assert extra[0][2][0] == {least}, extra\"",
                std::process::id()
            ))
        };
        let ready = format!("/tmp/standin-ready-{}", std::process::id());
        for ttl in [1, 2, 64, 255] {
            for (source, to) in [("10.77.0.100", "10.77.0.10"), ("fd77::100", "fd77::10")] {
                let packet = udp_packet(source.parse().unwrap(), to.parse().unwrap(), ttl);
                thread::scope(|scope| {
                    let heard = scope.spawn(|| demand(to, ttl));
                    eventually("listener", || fs::remove_file(&ready).ok());
                    tun.write(&packet).unwrap();
                    heard.join().unwrap();
                });
            }
        }

        // Strays age: two hosts that send them to each other do not do so for ever.
        host.remove_routes().unwrap();
        let before = counter("Ip.ForwDatagrams");
        udp_from_client(&client, "10.77.0.100", 1);
        udp_from_client(&client, "10.77.0.100", 2);
        eventually("one is forwarded", || (counter("Ip.ForwDatagrams") > before).then_some(()));
        thread::sleep(Duration::from_millis(50));
        assert_eq!(counter("Ip.ForwDatagrams"), before + 1);
    });
}

/// A datagram for the TUN.
fn udp_packet(source: IpAddr, to: IpAddr, ttl: u8) -> Vec<u8> {
    let mut packet = vec![0; HEADER_LEN];
    let builder = match (source, to) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            etherparse::PacketBuilder::ipv4(a.octets(), b.octets(), ttl)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            etherparse::PacketBuilder::ipv6(a.octets(), b.octets(), ttl)
        }
        _ => panic!("one family"),
    };
    builder.udp(9, 9).write(&mut packet, b"hello").unwrap();
    packet
}

/// One turn of the loop: what the LAN says goes in, what there is to say goes out.
fn turn(neighbour: &mut Neighbour, lan: &Lan, now: Instant, owner: bool) -> Option<Event> {
    let mut buffer = [0; 2048];
    let mut event = neighbour.on_timer(now);
    while let Ok(len) = lan.read(&mut buffer) {
        event = event.or(neighbour.on_frame(now, &buffer[..len], owner));
    }
    while let Some(frame) = neighbour.poll_frame(now) {
        lan.write(&frame).unwrap();
    }
    event
}

fn neighbour(mac: MacAddr, addresses: Vec<IpAddr>) -> Neighbour {
    Neighbour::new(Settings { mac, addresses, router: true })
}

#[test]
fn a_kernel_asks_for_the_address_and_follows_it_to_a_new_owner() {
    in_namespace("a_kernel_asks_for_the_address_and_follows_it_to_a_new_owner", || {
        make_lan();
        let client = Client::new();
        let lan = Lan::open("eth0", &addresses()).unwrap();
        let now = Instant::from_millis(1);

        let mut owner = neighbour(lan.mac(), addresses());
        for address in addresses() {
            client.shell(&format!("echo > /dev/udp/{address}/9"));
            eventually("answer", || {
                turn(&mut owner, &lan, now, true);
                client.knows(address, lan.mac()).then_some(())
            });
        }

        let other = MacAddr([2, 0, 0, 0, 0, 2]);
        let mut successor = neighbour(other, addresses());
        successor.announce(now);
        turn(&mut successor, &lan, now, true);
        for address in addresses() {
            eventually("new owner", || client.knows(address, other).then_some(()));
        }
    });
}

#[test]
fn a_probe_finds_the_host_that_has_the_address() {
    in_namespace("a_probe_finds_the_host_that_has_the_address", || {
        make_lan();
        let client = Client::new();
        let lan = Lan::open("eth0", &addresses()).unwrap();
        for taken in ["10.77.0.10", "fd77::10"] {
            let taken: IpAddr = taken.parse().unwrap();
            let mut us = neighbour(lan.mac(), vec![taken]);
            us.probe(Instant::ZERO);
            let event = eventually("answer", || turn(&mut us, &lan, Instant::ZERO, false));
            let Event::InUse { address, mac } = event else { panic!("{event:?}") };
            assert_eq!(address, taken);
            assert!(client.shell("ip link show sw0").contains(&mac.to_string()));
        }
        let mut us = neighbour(lan.mac(), addresses());
        us.probe(Instant::ZERO);
        let mut millis = 0;
        let event = eventually("verdict", || {
            millis += 10;
            turn(&mut us, &lan, Instant::from_millis(millis), false)
        });
        assert_eq!(event, Event::Clear);
    });
}
