//! Two hosts that are not alike, or of which one cannot carry the service: nobody says "protected",
//! and everybody says why.

use super::client::Mode;
use super::world::{ECHO, World};
use crate::engine::{LinkInput, Obstacle};
use crate::ids::{Epoch, Node};
use crate::replica::{Frame, FrameReader, Hello, Versions};
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
    let told = "node b cannot carry the service: IPv6 is disabled on this host \
                (net.ipv6.conf.all.disable_ipv6=1): set it to 0";
    assert!(world.story().contains(told), "{}", world.story());
    on_host(&mut world, 1, Vec::new());
    assert!(world.is_duplex(), "{}", world.story());
    assert!(world.story().contains("node b can carry the service again"), "{}", world.story());
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
    assert!(world.story().contains("node b cannot carry"), "{}", world.story());
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
            config: vec![crate::replica::Part::new("services", 1)],
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
