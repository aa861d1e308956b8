//! Stories of masking relays: a server dies, the primary dies, or both, and clients notice nothing.

use super::client::Mode;
use super::world::{FILES, RELAYED, World};
use crate::engine::{Exchanges, ServicePort, Setup};
use crate::relay;
use crate::service::{HttpPatience, Kind, Masking, Rules};
use crate::time::Duration;

pub(super) const PORT: u16 = RELAYED + FILES;

fn masking(setup: &mut Setup, masking: Masking) {
    let s = Duration::from_secs;
    let patience = HttpPatience { connect: s(3), first_byte: s(20), idle: s(50) };
    for relay in setup.relays.iter_mut().filter(|relay| relay.port == PORT) {
        relay.mode = relay::Mode::Join;
        setup.services.push(ServicePort::at(PORT, Kind::Exchange(Rules::of(masking), patience)));
    }
}

fn replaying(setup: &mut Setup) {
    masking(setup, Masking::Replay);
}

pub(super) fn journalling(setup: &mut Setup) {
    masking(setup, Masking::Journal);
}

const BOTH: [fn(&mut Setup); 2] = [replaying, journalling];

fn duplex(tweak: fn(&mut Setup)) -> World {
    let mut world = World::duplex_with(tweak);
    world.start_backends();
    world
}

fn counts(world: &mut World, host: usize) -> Exchanges {
    world.engine(host).stats.exchanges
}

/// Kills the backend that serves the only client, if one does already.
fn kill_server(world: &mut World) {
    let serving = world.backend_connections().into_iter().position(|count| count > 0);
    serving.into_iter().for_each(|index| world.kill_backend(index));
}

#[test]
fn a_file_comes_through_either_mode_alone_and_in_duplex() {
    for tweak in BOTH {
        let mut single = World::new();
        single.tweak = tweak;
        single.start(0);
        single.run_until("host 0 owns", |world| world.is_primary(0));
        single.start_backends();
        for mut world in [single, duplex(tweak)] {
            world.connect(PORT, Mode::Fetch);
            world.connect_v6(PORT, Mode::FetchHalfClosed);
            world.connect(PORT, Mode::Heads(20));
            world.finish();
            let counts = counts(&mut world, 0);
            assert_eq!(counts, Exchanges { answered: 22, ..Exchanges::default() });
        }
    }
}

#[test]
fn a_server_that_dies_in_mid_reply_is_not_noticed() {
    for tweak in BOTH {
        for micros in [1200, 2000, 2800] {
            let mut world = duplex(tweak);
            world.connect(PORT, Mode::Fetch);
            world.run_for(Duration::from_micros(micros));
            kill_server(&mut world);
            world.finish();
            let counts = counts(&mut world, 0);
            assert_eq!((counts.repeated, counts.continued, counts.broken), (1, 1, 0), "{micros}");
        }
    }
}

#[test]
fn a_server_and_the_primary_that_die_at_once_are_not_noticed() {
    for tweak in BOTH {
        for micros in (300..5500).step_by(400) {
            let mut world = duplex(tweak);
            world.connect(PORT, Mode::Fetch);
            world.run_for(Duration::from_micros(micros));
            kill_server(&mut world);
            world.kill(0);
            world.finish();
            assert_eq!(counts(&mut world, 1).broken, 0, "{micros}");
        }
    }
}

#[test]
fn a_primary_that_dies_alone_has_nothing_sent_again() {
    for tweak in BOTH {
        for micros in (300..5500).step_by(400) {
            let mut world = duplex(tweak);
            world.connect(PORT, Mode::Fetch);
            world.connect_v6(PORT, Mode::Heads(50));
            world.run_for(Duration::from_micros(micros));
            world.kill(0);
            world.finish();
            assert_eq!(counts(&mut world, 1).repeated, 0, "{micros}");
        }
    }
}

#[test]
fn a_server_whose_host_goes_dark_is_found_out_by_its_checks() {
    for tweak in BOTH {
        for takeover in [false, true] {
            let mut world = duplex(tweak);
            world.connect(PORT, Mode::Fetch);
            world.run_for(Duration::from_micros(2000));
            let serving = world.backend_connections().into_iter().position(|count| count > 0);
            world.poweroff_backend(serving.expect("one of them serves"));
            if takeover {
                world.kill(0);
            }
            world.run_for(Duration::from_secs(11));
            let status = counts(&mut world, usize::from(takeover));
            assert_eq!((status.repeated, status.continued), (1, 1));
            world.finish();
        }
    }
}

/// Each would keep a port towards its server for a minute: a relay could open a thousand a second.
#[test]
fn legs_to_servers_that_were_closed_give_their_ports_back_soon() {
    for takeover in [false, true] {
        let mut world = duplex(replaying);
        for _ in 0..20 {
            world.connect(PORT, Mode::Fetch);
        }
        world.run_for(Duration::from_millis(3));
        if takeover {
            world.kill(0);
        }
        world.finish();
        world.run_for(Duration::from_secs(3));
        let now = world.now;
        let status = world.engine(usize::from(takeover)).status(now);
        let kept: u32 = status.backends.iter().map(|one| one.splices + one.lingering).sum();
        assert_eq!(kept, 0);
    }
}

#[test]
fn without_any_server_the_client_is_told_so() {
    for tweak in BOTH {
        let mut world = duplex(tweak);
        for index in 0..2 {
            world.kill_backend(index);
        }
        let client = world.connect(PORT, Mode::Speak(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        world.say(client, 27, false);
        world.run_for(Duration::from_secs(10));
        let heard = world.clients[client].heard();
        assert!(heard.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{heard}");
        // And those that come when it is known that there is none.
        let late = world.connect(PORT, Mode::Speak(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        world.say(late, 27, false);
        world.run_for(Duration::from_secs(10));
        let heard = world.clients[late].heard();
        assert!(heard.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{heard}");
    }
}
