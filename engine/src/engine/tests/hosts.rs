//! Two hosts that are not alike, or of which one cannot carry the service: nobody says "protected",
//! and everybody says why.

use super::client::Mode;
use super::world::{ECHO, FILES, World};
use crate::engine::{Level, LinkInput, Notice, Obstacle};
use crate::ids::{Epoch, Node};
use crate::replica::{Frame, FrameReader, Hello, Part, Versions};
use crate::time::Duration;

fn ipv6_disabled() -> Vec<Obstacle> {
    vec![Obstacle::Ipv6Disabled { sysctl: "net.ipv6.conf.all.disable_ipv6".to_owned() }]
}

fn on_host(world: &mut World, host: usize, obstacles: Vec<Obstacle>) {
    let now = world.now;
    world.engine(host).on_host(now, obstacles);
    world.run_for(Duration::from_millis(5));
}

#[test]
fn a_standby_that_could_not_take_over_is_no_protection_and_the_primary_says_why() {
    let mut world = World::duplex();
    on_host(&mut world, 1, ipv6_disabled());
    assert!(!world.is_duplex(), "{}", world.story());
    let obstacles = ipv6_disabled()[0].to_string();
    let told = Notice::PeerObstacles { peer: Node::B, obstacles };
    assert!(world.told(0).any(|notice| *notice == told), "{}", world.story());
    on_host(&mut world, 1, Vec::new());
    assert!(world.is_duplex(), "{}", world.story());
    let told = Notice::PeerFit { peer: Node::B };
    assert!(world.told(0).any(|notice| *notice == told), "{}", world.story());
}

#[test]
fn a_standby_says_what_is_in_its_way_to_a_primary_that_it_meets_later() {
    let mut world = World::new();
    world.start(1);
    on_host(&mut world, 1, ipv6_disabled());
    world.start(0);
    world.run_for(Duration::from_secs(2));
    let primary = if world.is_primary(0) { 0 } else { 1 };
    assert!(!world.is_duplex(), "{}", world.story());
    assert_eq!(primary, 0, "an unfit host leaves the address to a fit one\n{}", world.story());
    let of_b = |notice: &Notice| matches!(notice, Notice::PeerObstacles { peer: Node::B, .. });
    assert!(world.told(0).any(of_b), "{}", world.story());
}

#[test]
fn an_owner_that_cannot_serve_gives_the_address_to_a_standby_that_can() {
    let mut world = World::duplex();
    world.connect(ECHO, Mode::Echo(2_000_000));
    world.run_for(Duration::from_micros(1500));
    on_host(&mut world, 0, ipv6_disabled());
    world.run_until("host 1 owns", |world| world.is_primary(1));
    world.finish();
    assert!(!world.is_duplex(), "the standby is unfit now\n{}", world.story());
}

#[test]
fn two_unfit_hosts_do_not_pass_the_address_to_and_fro() {
    let mut world = World::duplex();
    // Each finds out only as owner.
    on_host(&mut world, 0, ipv6_disabled());
    world.run_until("host 1 owns", |world| world.is_primary(1));
    on_host(&mut world, 0, Vec::new());
    world.run_until("duplex", World::is_duplex);
    on_host(&mut world, 1, ipv6_disabled());
    world.run_until("host 0 owns", |world| world.is_primary(0));
    on_host(&mut world, 1, Vec::new());
    world.run_until("duplex", World::is_duplex);
    on_host(&mut world, 0, ipv6_disabled());
    world.run_for(Duration::from_secs(20));
    assert!(world.is_primary(0) && !world.is_duplex(), "{}", world.story());
    world.run_for(Duration::from_secs(50));
    assert!(world.is_primary(1), "later it is tried again\n{}", world.story());
}

#[test]
fn a_peer_of_version_3_is_told_nothing_that_it_does_not_know() {
    for (max, told) in [(3, false), (4, true)] {
        let mut world = World::new();
        world.start(0);
        let now = world.now;
        let engine = world.engine(0);
        engine.on_host(now, ipv6_disabled());
        engine.on_link(now, LinkInput::Connected);
        let hello = Hello {
            versions: Versions { min: 3, max },
            node: Node::B,
            boot: 99,
            role: 0,
            epoch: Epoch::NONE,
            config: if max < 4 { Vec::new() } else { vec![Part::new("services", 1)] },
            config_3: vec![Part::new("services", 3)],
        };
        let mut bytes = Vec::new();
        Frame::Hello(hello).encode(&mut bytes);
        engine.on_link(now, LinkInput::Data(&bytes));
        let output = core::mem::take(engine.link_output(now));
        let (mut reader, mut input) = (FrameReader::new(), &output[..]);
        let mut hosts = 0;
        while let Some(frame) = reader.next(&mut input).expect("our own frames are read") {
            assert!(!matches!(frame, Frame::Refuse { .. }), "{frame:?}");
            hosts += usize::from(matches!(frame, Frame::Host(_)));
        }
        assert_eq!(hosts > 0, told, "version {max}");
    }
}

fn why(world: &mut World, host: usize) -> String {
    let now = world.now;
    let status = world.engine(host).status(now);
    assert_eq!(status.protected, status.why.is_empty(), "a reason whenever it is not protected");
    status.why.join("; ")
}

#[test]
fn a_standby_whose_mtu_is_smaller_is_no_protection_and_both_logs_name_it() {
    let mut world = World::new();
    world.tweak(|setup| {
        if setup.node == Node::B {
            setup.mtu = 1400;
        }
    });
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.start(1);
    world.run_for(Duration::from_millis(100));
    let reason = why(&mut world, 0);
    assert!(reason.contains("the LAN's MTU is 1400 on node b and 1500 on node a"), "{reason}");
    let now = world.now;
    assert_eq!(world.engine(0).on_switchover(now), Err(reason));
    for host in [0, 1] {
        let differ = |notice: &&Notice| matches!(notice, Notice::HostsDiffer { costs: true, .. });
        assert_eq!(world.told(host).filter(differ).count(), 1, "{}", world.story());
    }
    world.engine(1).on_mtu(now, 1500);
    world.run_for(Duration::from_millis(5));
    assert_eq!((why(&mut world, 0), why(&mut world, 1)), (String::new(), String::new()));
    let now = world.now;
    world.engine(0).on_mtu(now, 1400);
    world.run_for(Duration::from_millis(5));
    assert_eq!(why(&mut world, 0), "", "a standby whose packets may be longer loses nothing");
    assert_eq!(world.engine(0).on_switchover(now), Ok(()));
}

#[test]
fn whoever_is_not_protected_says_why() {
    let mut world = World::new();
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    let reason = why(&mut world, 0);
    assert!(reason.contains("node b was never heard"), "{reason}");
    let now = world.now;
    assert_eq!(world.engine(0).on_switchover(now), Err(reason));
    world.engine(0).on_replication_carrier(false);
    assert_eq!(why(&mut world, 0), "no cable: the replication address has no carrier");
    world.engine(0).on_replication_carrier(true);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    let synchronised = Notice::Synchronised { connections: 0 };
    assert!(world.told(1).any(|notice| *notice == synchronised), "{}", world.story());
    assert_eq!(why(&mut world, 1), "");
    on_host(&mut world, 1, ipv6_disabled());
    let reason = why(&mut world, 0);
    assert!(reason.starts_with("node b could not take over: IPv6 is disabled"), "{reason}");
    let now = world.now;
    assert_eq!(world.engine(0).on_switchover(now), Err(reason));
    assert!(why(&mut world, 1).starts_with("this host: IPv6 is disabled"), "{}", world.story());
    on_host(&mut world, 1, Vec::new());
    world.kill(1);
    world.run_for(Duration::from_secs(1));
    let reason = why(&mut world, 0);
    assert!(reason.contains("node b is silent on both paths for 1.0 s"), "{reason}");
}

#[test]
fn a_peer_with_another_configuration_is_named_in_the_status_and_rarely_in_the_log() {
    let mut world = World::new();
    world.tweak(|setup| {
        if setup.node == Node::B {
            setup.parts = vec![("services".to_owned(), 1), ("addresses".to_owned(), 2)];
        }
    });
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.start(1);
    world.run_for(Duration::from_secs(60));
    let reason = why(&mut world, 0);
    assert!(
        reason.contains(
            "node b is not synchronised: the configurations differ in: addresses (only there)"
        ),
        "{reason}"
    );
    let no_partner = |notice: &&Notice| matches!(notice, Notice::Incompatible { .. });
    let lines = world.told(0).filter(no_partner).count();
    assert!((2..=4).contains(&lines), "{lines} lines\n{}", world.story());
}

#[test]
fn a_file_that_is_not_compared_yet_is_no_protection_from_the_confirmation_on() {
    let mut world = World::duplex();
    // The next word about it comes on the stream alone.
    world.lose_beats(true);
    let now = world.now;
    world.busy_disk(1, true);
    world.connect(FILES, Mode::Fetch);
    world.run_until("the standby cannot go on with it", |world| world.unprotected(0) > 0);
    assert!(world.now < now + Duration::from_millis(10), "{}", world.story());
    let reason = why(&mut world, 0);
    assert!(reason.contains("node b could not continue 1 connection"), "{reason}");
    let asked = world.now;
    assert_eq!(world.engine(0).on_switchover(asked), Err(reason), "it would lose that one");
    world.busy_disk(1, false);
    world.run_until("the standby can", |world| world.unprotected(0) == 0);
    assert!(world.now < now + Duration::from_millis(10), "{}", world.story());
    world.lose_beats(false);
    world.finish();
}

#[test]
fn a_switchover_that_loses_connections_takes_the_operators_word() {
    let mut world = World::duplex();
    on_host(&mut world, 1, ipv6_disabled());
    let now = world.now;
    assert!(world.engine(0).on_switchover(now).is_err());
    assert_eq!(world.engine(0).on_forced_switchover(now), Ok(()));
    world.run_until("host 1 owns", |world| world.is_primary(1));
}

#[test]
fn an_ordinary_switchover_warns_of_nothing() {
    let mut world = World::duplex();
    world.connect(ECHO, Mode::Echo(2_000_000));
    world.run_for(Duration::from_micros(1500));
    for host in [0, 1] {
        let now = world.now;
        world.engine(host).on_switchover(now).expect("duplex");
        world.run_until("the other owns", |world| world.is_primary(1 - host));
        world.run_until("duplex again", World::is_duplex);
    }
    world.finish();
    let told = world.told(0).chain(world.told(1));
    let warnings: Vec<&Notice> = told.filter(|notice| notice.level() == Level::Warn).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
}

#[test]
fn what_the_kernel_says_to_every_network_is_not_malformed() {
    let mut world = World::duplex();
    let now = world.now;
    // A multicast listener report from no address, with a router alert; an IGMP report.
    let mut report = vec![0x60, 0, 0, 0, 0, 36, 0, 1];
    report.extend_from_slice(&[0; 16]);
    report.extend_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]);
    report.extend_from_slice(&[58, 0, 5, 2, 0, 0, 1, 0]);
    report.extend_from_slice(&[0; 28]);
    let mut igmp = vec![0x46, 0xc0, 0, 40, 0, 0, 0x40, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 22];
    igmp.extend_from_slice(&[0; 20]);
    for mut packet in [report, igmp] {
        assert_eq!(world.engine(0).on_packet(now, super::world::trusted(), &mut packet), None);
    }
    let stats = world.engine(0).status(now).stats;
    assert_eq!((stats.malformed, stats.not_for_us), (0, 2));
    let mut broken = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 6, 0, 0, 10, 77, 0, 10, 10, 77, 0, 100];
    world.engine(0).on_packet(now, super::world::trusted(), &mut broken);
    assert_eq!(world.engine(0).status(now).stats.malformed, 1, "its checksum is wrong");
}
