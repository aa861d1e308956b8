//! Stories of operators who empty servers while the pair runs, and while its primary fails.

use super::client::Mode;
use super::world::{DISCARD, ECHO, FILES, RELAYED, World};
use crate::engine::{BackendStatus, Known, Notice, Obeyed, ServicePort, Setup};
use crate::relay::{self, Admin, Check, HttpCheck, Order, State};
use crate::service::{HttpPatience, JoinPatience, Kind, Masking, Rules};
use crate::time::Duration;
use crate::wire::Endpoint;

const PORT: u16 = RELAYED + ECHO;
const HTTP: u16 = RELAYED + FILES;

/// Requests for one small reply each, on one connection.
const ASK: &str = "HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\n";
const THRICE: &[u8] = b"HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\n\
                        HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\n\
                        HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\n";

/// Files are replayed, what is discarded is joined, and the rest is spliced.
fn mixed(setup: &mut Setup) {
    let s = Duration::from_secs;
    for relay in &mut setup.relays {
        let kind = match relay.port - RELAYED {
            FILES => {
                let patience = HttpPatience { connect: s(3), first_byte: s(20), idle: s(50) };
                Kind::Exchange(Rules::of(Masking::Replay), patience)
            }
            DISCARD => Kind::Join(JoinPatience { connect: s(3), idle: s(50) }),
            _ => continue,
        };
        relay.mode = relay::Mode::Join;
        setup.services.push(ServicePort::at(relay.port, kind));
    }
}

fn duplex() -> World {
    let mut world = World::duplex_with(mixed);
    world.start_backends();
    world
}

fn single() -> World {
    let mut world = World::new();
    world.tweak = mixed;
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.start_backends();
    world
}

fn address(index: u8, port: u16) -> Endpoint {
    ([10, 77, 0, 21 + index], port - RELAYED).into()
}

fn order(index: u8, port: u16, admin: Admin) -> Order {
    let address = address(index, port);
    Order { address, port: Some(port), admin: Some(admin), weight: None, cut: false }
}

fn obey(world: &mut World, host: usize, order: Order) -> Obeyed {
    let now = world.now;
    let obeyed = world.engine(host).on_backend_order(now, &order).expect("it can be");
    world.serve(host);
    obeyed
}

fn status(world: &mut World, host: usize, index: u8, port: u16) -> BackendStatus {
    let now = world.now;
    let wanted = address(index, port);
    let backends = world.engine(host).status(now).backends;
    let is_it = |one: &BackendStatus| one.port == port && one.address == wanted;
    backends.into_iter().find(is_it).expect("it is there")
}

fn has(world: &mut World, host: usize, index: u8, port: u16) -> (u32, u32) {
    let BackendStatus { splices, sessions, .. } = status(world, host, index, port);
    (splices, sessions)
}

fn states(world: &mut World, host: usize) -> Vec<(Endpoint, State)> {
    world.engine(host).relays.states().map(|(_, address, state)| (address, state)).collect()
}

/// Which server has the only session.
fn server(world: &mut World, host: usize) -> u8 {
    (0..2).find(|index| has(world, host, *index, HTTP).1 > 0).expect("one of them serves")
}

#[test]
fn whoever_drains_finishes_what_it_has_and_gets_nothing_new_whoever_leads() {
    let mut world = duplex();
    let talks = [0; 4].map(|_| world.connect(PORT, Mode::Talk));
    talks.iter().for_each(|talk| world.say(*talk, 100, false));
    world.run_for(Duration::from_millis(50));
    assert_eq!(has(&mut world, 0, 0, PORT), (2, 0));
    let Obeyed { text, lsn } = obey(&mut world, 0, order(0, PORT, Admin::Drain));
    assert_eq!(text, "relay 7007: backend 10.77.0.21:7 is drain");
    let lsn = lsn.expect("there is a standby");
    assert_eq!(world.engine(0).is_known(lsn), Known::NotYet);
    world.run_for(Duration::from_millis(5));
    assert_eq!(world.engine(0).is_known(lsn), Known::Yes);
    let drained = State { admin: Admin::Drain, ..State::default() };
    for host in 0..2 {
        assert_eq!(states(&mut world, host), [(address(0, PORT), drained)]);
    }
    world.connect(PORT, Mode::Echo(1000));
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    (0..4).for_each(|_| _ = world.connect(PORT, Mode::Talk));
    talks.iter().for_each(|talk| world.say(*talk, 100, true));
    // Of a splice that was taken over it takes some questions to know that it has ended.
    world.run_for(Duration::from_secs(10));
    assert_eq!(has(&mut world, 1, 0, PORT), (0, 0), "those it had have ended");
    assert_eq!(has(&mut world, 1, 1, PORT).0, 4);
    assert!(talks.iter().all(|talk| world.clients[*talk].received() == 200));
}

#[test]
fn a_newcomer_is_told_what_was_said_and_says_so_after_its_own_takeover() {
    let mut world = single();
    let alone = obey(&mut world, 0, order(0, PORT, Admin::Maint));
    assert_eq!(alone.lsn, None);
    assert!(alone.text.ends_with("\nthere is no standby: it is forgotten if this engine ends"));
    let weight = Order { admin: None, weight: Some(7), ..order(1, PORT, Admin::Ready) };
    obey(&mut world, 0, weight);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    let said = states(&mut world, 0);
    assert_eq!(said.len(), 2);
    assert_eq!(states(&mut world, 1), said);
    world.kill(0);
    world.run_until("host 1 owns", |world| world.is_primary(1));
    assert_eq!(status(&mut world, 1, 1, PORT).weight, 7);
    world.start(0);
    world.run_until("duplex again", World::is_duplex);
    assert_eq!(states(&mut world, 0), said);
    // And what is said from now on.
    obey(&mut world, 1, order(0, PORT, Admin::Ready));
    world.run_for(Duration::from_millis(5));
    let ready = State::default();
    let weighs = State { weight: Some(7), ..ready };
    assert_eq!(states(&mut world, 0), [(address(1, PORT), weighs)]);
    let now = world.now;
    world.engine(1).on_switchover(now).expect("duplex");
    world.run_until("duplex, switched", |world| world.is_primary(0) && world.is_duplex());
    for host in 0..2 {
        assert_eq!(states(&mut world, host), [(address(1, PORT), weighs)]);
    }
}

/// It is told what has been said, and not what has been taken back: all else is void.
#[test]
fn a_standby_that_was_away_forgets_what_was_taken_back_meanwhile() {
    let mut world = duplex();
    obey(&mut world, 0, order(0, PORT, Admin::Drain));
    world.run_for(Duration::from_millis(5));
    assert_eq!(states(&mut world, 1).len(), 1);
    world.freeze(1);
    world.run_until("host 0 is alone", |world| !world.is_duplex());
    world.run_for(Duration::from_secs(2));
    obey(&mut world, 0, order(0, PORT, Admin::Ready));
    world.thaw(1);
    world.run_until("duplex again", World::is_duplex);
    assert_eq!(states(&mut world, 1), []);
}

#[test]
fn a_standby_says_whom_to_ask_and_so_does_a_node_without_a_role() {
    let mut world = duplex();
    let now = world.now;
    let refused = world.engine(1).on_backend_order(now, &order(0, PORT, Admin::Drain));
    assert_eq!(
        refused.unwrap_err(),
        "node b is standby: what a backend is there for is said to the primary. Ask node a, on its host"
    );
    assert_eq!(states(&mut world, 0), []);
}

/// A standby of the version before is not told what it cannot read.
#[test]
fn an_older_standby_is_not_told_and_the_operator_is() {
    let mut world = duplex();
    let engine = world.engine(0);
    engine.link.version = 3;
    let position = engine.for_standby().log.appended();
    let Obeyed { text, lsn } = obey(&mut world, 0, order(0, PORT, Admin::Drain));
    assert_eq!(lsn, None);
    assert!(text.ends_with(
        "\nthe standby is of a version that does not know of it: a takeover forgets it"
    ));
    let engine = world.engine(0);
    engine.replicate_states();
    assert_eq!(engine.for_standby().log.appended(), position);
}

#[test]
fn whoever_empties_the_last_backend_is_told() {
    let mut world = duplex();
    let first = obey(&mut world, 0, order(0, PORT, Admin::Drain));
    assert_eq!(first.text.lines().count(), 1);
    let last = obey(&mut world, 0, order(1, PORT, Admin::Drain));
    assert!(last.text.ends_with(
        "\nrelay 7007 has no other IPv4 backend that takes clients: those that come now are not served"
    ));
}

#[test]
fn a_client_that_stays_goes_to_another_server_with_its_next_request() {
    for takeover in [false, true] {
        let mut world = duplex();
        let client = world.connect(HTTP, Mode::Speak(THRICE));
        world.say(client, ASK.len() as u64, false);
        world.run_for(Duration::from_millis(50));
        let heard = world.clients[client].heard().len();
        assert!(heard > 0);
        let first = server(&mut world, 0);
        obey(&mut world, 0, order(first, HTTP, Admin::Drain));
        world.run_for(Duration::from_millis(1));
        if takeover {
            world.kill(0);
        }
        world.run_for(Duration::from_secs(2));
        let host = usize::from(takeover);
        assert_eq!(has(&mut world, host, first, HTTP), (0, 0), "it is left");
        world.say(client, ASK.len() as u64, false);
        world.run_for(Duration::from_millis(500));
        assert_eq!(world.clients[client].heard().len(), 2 * heard);
        assert_eq!(server(&mut world, host), 1 - first);
        world.say(client, ASK.len() as u64, true);
        world.finish();
        assert_eq!(world.engine(host).stats.exchanges.repeated, 0, "nothing was sent twice");
    }
}

#[test]
fn a_reply_that_has_begun_is_finished_by_whom_it_was_begun() {
    let mut world = duplex();
    world.connect(HTTP, Mode::Fetch);
    world.run_for(Duration::from_millis(2));
    let first = server(&mut world, 0);
    obey(&mut world, 0, order(first, HTTP, Admin::Maint));
    world.run_for(Duration::from_micros(200));
    assert_eq!(has(&mut world, 0, first, HTTP), (0, 1));
    world.finish();
    assert_eq!(world.engine(0).stats.exchanges.repeated, 0);
    world.run_for(Duration::from_secs(3));
    assert_eq!(has(&mut world, 0, first, HTTP), (0, 0));
}

/// The takeover comes at any moment of what an order brings about.
#[test]
fn an_order_and_a_takeover_at_any_moment_cost_no_client_its_reply() {
    for micros in (0..1500).step_by(100) {
        let mut world = duplex();
        world.connect(HTTP, Mode::Fetch);
        world.connect_v6(HTTP, Mode::Fetch);
        world.connect(HTTP, Mode::Heads(50));
        world.run_for(Duration::from_millis(1));
        let first = server(&mut world, 0);
        obey(&mut world, 0, order(first, HTTP, Admin::Drain));
        world.run_for(Duration::from_micros(micros));
        world.kill(0);
        world.finish();
        assert_eq!(world.engine(1).stats.exchanges.repeated, 0, "{micros}");
        assert_eq!(world.engine(1).stats.exchanges.broken, 0, "{micros}");
    }
}

#[test]
fn what_is_cut_off_ends_for_both_ends_where_nothing_masks_it() {
    for takeover in [false, true] {
        let mut world = duplex();
        let splices = [0; 2].map(|_| world.connect(PORT, Mode::Talk));
        let joins = [0; 2].map(|_| world.connect(RELAYED + DISCARD, Mode::Talk));
        splices.iter().for_each(|talk| world.say(*talk, 100, false));
        world.run_for(Duration::from_millis(20));
        if takeover {
            world.kill(0);
            world.run_until("host 1 owns", |world| world.is_primary(1));
            world.run_for(Duration::from_millis(20));
        }
        let host = usize::from(takeover);
        for port in [PORT, RELAYED + DISCARD] {
            assert_eq!(has(&mut world, host, 0, port), if port == PORT { (1, 0) } else { (0, 1) });
            let cut = Order { cut: true, ..order(0, port, Admin::Drain) };
            obey(&mut world, host, cut);
        }
        world.run_for(Duration::from_secs(3));
        let reset = |world: &World, of: [usize; 2]| {
            of.iter().filter(|client| world.clients[**client].was_reset()).count()
        };
        assert_eq!((reset(&world, splices), reset(&world, joins)), (1, 1), "{}", world.story());
        assert_eq!(world.backend_connections(), [0, 2]);
        for port in [PORT, RELAYED + DISCARD] {
            assert_eq!(has(&mut world, host, 0, port), (0, 0));
            assert!(!status(&mut world, host, 0, port).state.cut, "it is done");
        }
    }
}

fn kept(setup: &mut Setup) {
    mixed(setup);
    setup.relays.iter_mut().for_each(|relay| relay.on_death = relay::OnDeath::Keep);
}

#[test]
fn what_a_server_has_whose_host_goes_dark_is_ended_or_kept() {
    for (tweak, ends) in [(mixed as fn(&mut Setup), true), (kept, false)] {
        for takeover in [false, true] {
            let mut world = World::duplex_with(tweak);
            world.start_backends();
            let talks = [PORT, PORT, RELAYED + DISCARD, RELAYED + DISCARD]
                .map(|port| world.connect(port, Mode::Talk));
            talks.iter().for_each(|talk| world.say(*talk, 100, false));
            world.run_for(Duration::from_millis(50));
            world.poweroff_backend(0);
            world.run_for(Duration::from_secs(1));
            if takeover {
                world.kill(0);
            }
            world.run_for(Duration::from_secs(11));
            let reset = |world: &World, of: &[usize]| {
                of.iter().filter(|talk| world.clients[**talk].was_reset()).count()
            };
            let both = (reset(&world, &talks[..2]), reset(&world, &talks[2..]));
            assert_eq!(both, if ends { (1, 1) } else { (0, 0) }, "{ends} {takeover}");
            let host = usize::from(takeover);
            let told = world.told(host).filter(|told| matches!(told, Notice::BackendDead { .. }));
            assert_eq!(told.count(), if ends { 2 } else { 0 });
        }
    }
}

/// Asked for a file that is not there, a server is no good.
fn asked_over_http(setup: &mut Setup) {
    mixed(setup);
    for relay in setup.relays.iter_mut().filter(|relay| relay.port == HTTP) {
        let http = HttpCheck { path: "/none".into(), host: None, wanted: vec![(200, 399)] };
        relay.check = Check { http: Some(http.into()), fall: 1, ..Check::default() };
    }
}

/// Asked for one that is much longer than anybody waits for, it is.
fn asked_for_much(setup: &mut Setup) {
    asked_over_http(setup);
    for relay in setup.relays.iter_mut().filter(|relay| relay.port == HTTP) {
        let http = HttpCheck { path: "/big.bin".into(), host: None, wanted: vec![(200, 200)] };
        relay.check.http = Some(http.into());
    }
}

#[test]
fn servers_are_asked_over_http_and_both_nodes_say_why_one_is_down() {
    let mut world = World::duplex_with(asked_over_http);
    world.start_backends();
    let why = "answered 404, 200-399 is wanted";
    for takeover in [false, true] {
        if takeover {
            world.kill(0);
            world.run_until("host 1 owns", |world| world.is_primary(1));
        }
        for host in usize::from(takeover)..2 {
            let BackendStatus { up, failed, .. } = status(&mut world, host, 0, HTTP);
            let (words, ago) = failed.expect("it has failed");
            assert_eq!((up, words.as_str()), (false, why), "host {host}");
            assert!(ago <= Duration::from_secs(6), "{ago:?}");
        }
    }
    let down = |notice: &&Notice| {
        notice.to_string() == format!("relay 7080: backend 10.77.0.21:80 is down: {why}")
    };
    assert_eq!(world.told(0).filter(down).count(), 1);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.told(1).filter(down).count(), 0, "it was known");
    assert!(status(&mut world, 1, 0, HTTP).failed.is_some_and(|(_, ago)| ago.as_secs() < 3));
    assert!(status(&mut world, 1, 0, PORT).up, "others are not asked");
}

#[test]
fn a_server_that_answers_at_length_serves() {
    let mut world = World::duplex_with(asked_for_much);
    world.start_backends();
    world.connect(HTTP, Mode::Fetch);
    world.finish();
    for index in 0..2 {
        let BackendStatus { up, known, failed, .. } = status(&mut world, 0, index, HTTP);
        assert!(up && known && failed.is_none(), "{failed:?}");
    }
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.backend_connections(), [0, 0], "no check has left anything behind");
}

#[test]
fn what_is_cut_off_is_masked_where_something_masks_it() {
    for takeover in [false, true] {
        let mut world = duplex();
        world.connect(HTTP, Mode::Fetch);
        world.run_for(Duration::from_millis(2));
        let first = server(&mut world, 0);
        obey(&mut world, 0, Order { cut: true, ..order(first, HTTP, Admin::Maint) });
        if takeover {
            world.kill(0);
        }
        world.finish();
        let host = usize::from(takeover);
        let counts = world.engine(host).stats.exchanges;
        assert_eq!((counts.broken, counts.failed), (0, 0));
        if !takeover {
            assert_eq!((counts.repeated, counts.continued), (1, 1));
        }
    }
}
