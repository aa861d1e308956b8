//! Clients of `files` that keep everybody waiting, and takeovers while they do.

use super::client::Mode;
use super::world::{ECHO, FILES, World};
use crate::engine::Setup;
use crate::service::{Kind, Patience};
use crate::time::{Duration, Instant};

/// More pieces than anybody waits for, each of 32 bytes.
const REQUEST: &[u8] = b"HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\
    A: 01234567890123456789012345\r\nA: 01234567890123456789012345\r\n\r\n";
/// What a piece has. The window is said in units of this, and its edge stays exactly where it was.
const PIECE: u64 = 32;
const PUT: &[u8] = b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nno more than this";
const GET: &[u8] = b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n";

/// What a slow head is answered with, by hosts on which it is 1970.
const TOO_LATE: &str = "HTTP/1.1 408 Request Timeout\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
     Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nConnection: close\r\n\r\n\
     408 Request Timeout\n";

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Two seconds for a head, three for more of a body, four for a request, five for a reply.
fn short(setup: &mut Setup) {
    let s = Duration::from_secs;
    let patience = Patience { request: s(2), body: s(3), idle: s(4), reply: s(5) };
    for service in &mut setup.services {
        if let Kind::Files { patience: ours, .. } = &mut service.kind {
            *ours = patience;
        }
    }
}

/// A client that has said `bytes` of `text`.
fn speaking(text: &'static [u8], bytes: u64) -> World {
    let mut world = World::duplex_with(short);
    world.connect(FILES, Mode::Speak(text));
    world.say(0, bytes, false);
    world.run_for(MS(1));
    world
}

/// Runs on until the client has seen the end. When that was.
fn end(world: &mut World) -> Instant {
    world.run_until("an end", |world| world.clients[0].has_ended());
    let now = world.now;
    world.finish();
    assert!(!world.accused(), "{}", world.story());
    now
}

/// What the host has closed for each reason.
fn counted(world: &mut World, host: usize) -> [u64; 3] {
    let stats = world.engine(host).stats;
    [stats.request_timeouts, stats.idle_timeouts, stats.reply_timeouts]
}

/// A piece of its head each half second, and the takeover at `kill` milliseconds.
fn trickle(kill: Duration) -> World {
    let mut world = speaking(REQUEST, PIECE);
    let begun = world.now;
    let mut killed = false;
    for half in 1..16 {
        let next = begun + MS(500) * half;
        let due = begun + kill;
        if !killed && due <= next {
            world.run_for(due.since(world.now));
            world.kill(0);
            killed = true;
        }
        world.run_for(next.since(world.now));
        if !world.clients[0].has_ended() {
            world.say(0, PIECE, false);
        }
    }
    world
}

#[test]
fn a_slow_head_is_refused_once_whenever_its_primary_dies() {
    // At rest, and around the moment at which time is up, in steps of a tenth of the link's delay.
    let around = (0..200).map(|step| MS(1998) + Duration::from_micros(20) * step);
    for kill in [MS(1), MS(700), MS(1500)].into_iter().chain(around).chain([MS(2500)]) {
        let mut world = trickle(kill);
        end(&mut world);
        assert_eq!(world.clients[0].heard(), TOO_LATE, "{kill:?}: {}", world.story());
        assert!(!world.accused(), "{}", world.story());
    }
}

/// The end does not wait for what its client says later, of which something is never confirmed yet.
#[test]
fn who_goes_on_talking_sees_the_end_all_the_same() {
    let text = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 8000]].concat().leak();
    let mut world = World::duplex_with(short);
    world.hosts[1].link_lag = MS(5);
    world.connect(FILES, Mode::Speak(text));
    for _ in 0..2500 {
        world.say(0, 1, false);
        world.run_for(MS(1));
    }
    assert!(world.clients[0].has_ended(), "{}", world.story());
    assert_eq!(world.clients[0].heard(), TOO_LATE);
}

#[test]
fn a_head_that_is_ended_after_a_takeover_is_answered() {
    let mut world = speaking(REQUEST, PIECE);
    world.run_for(MS(1900));
    world.kill(0);
    world.run_until("the heir owns", |world| world.is_primary(1));
    world.run_for(MS(1900));
    world.say(0, REQUEST.len() as u64 - PIECE, false);
    world.run_for(MS(100));
    let heard = world.clients[0].heard();
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    end(&mut world);
    assert_eq!(world.clients[0].heard(), heard, "and then it was idle");
    assert_eq!(counted(&mut world, 1), [0, 1, 0]);
}

#[test]
fn a_slow_body_ends_behind_its_reply() {
    for kill in [false, true] {
        let mut world = speaking(PUT, PUT.len() as u64);
        if kill {
            world.run_for(MS(1000));
            world.kill(0);
        }
        end(&mut world);
        let heard = world.clients[0].heard();
        assert!(heard.starts_with("HTTP/1.1 405 "), "{heard}");
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
        assert_eq!(counted(&mut world, usize::from(kill)), [1, 0, 0]);
    }
}

#[test]
fn a_client_that_says_nothing_is_closed_in_silence_whenever_its_primary_dies() {
    for kill in [None, Some(MS(2000)), Some(MS(3998)), Some(MS(4000)), Some(MS(4001))] {
        let mut world = speaking(b"", 0);
        let begun = world.now;
        if let Some(kill) = kill {
            world.run_for(kill);
            world.kill(0);
        }
        let lasted = end(&mut world).since(begun);
        assert_eq!(world.clients[0].heard(), "");
        let again = kill.unwrap_or_default();
        assert!(lasted > MS(3990), "{kill:?}: {lasted:?}");
        assert!(lasted < MS(4100) + again, "{kill:?}: {lasted:?}");
    }
}

/// Each of them costs one alarm, and only when its time is up it is looked at, parked as it is.
#[test]
fn very_many_that_are_idle_are_ended_in_time_and_not_looked_at_before() {
    const CROWD: usize = 200;
    let mut world = World::duplex_with(short);
    for _ in 0..CROWD {
        world.connect(FILES, Mode::Speak(REQUEST));
    }
    world.run_for(MS(100));
    for index in 0..CROWD {
        world.say(index, REQUEST.len() as u64, false);
    }
    world.run_for(MS(1500));
    let alarms = world.engine(0).as_owner().queues.wheel.len();
    assert!(alarms <= 3 * CROWD, "{alarms} alarms");
    let parked = |one: &crate::engine::connection::Connection| {
        matches!(one.body, crate::engine::connection::Body::Parked(_))
    };
    assert_eq!(world.engine(0).table.iter().filter(|one| parked(one)).count(), CROWD);
    let work = world.engine(0).work();
    world.run_for(MS(2000));
    assert_eq!(world.engine(0).work(), work, "nobody was looked at");
    world.longest_step = 0;
    world.finish();
    assert_eq!(counted(&mut world, 0), [0, CROWD as u64, 0]);
    assert!(world.longest_step <= 4096, "{}", world.longest_step);
}

#[test]
fn a_client_that_takes_nothing_is_reset() {
    for kill in [false, true] {
        let mut world = World::duplex_with(short);
        world.connect(FILES, Mode::Speak(GET));
        world.clients[0].hoards = true;
        world.say(0, GET.len() as u64, false);
        world.run_for(MS(1000));
        if kill {
            world.kill(0);
            world.run_for(MS(1000));
        }
        let begun = world.now;
        let before = world.clients[0].received();
        assert!(before > 100_000 && before < 2_000_000, "its window is shut");
        world.run_until("a reset", |world| world.clients[0].has_ended());
        let lasted = world.now.since(begun);
        assert!(lasted > MS(3500) && lasted < MS(5500), "{lasted:?}");
        assert_eq!(counted(&mut world, usize::from(kill)), [0, 0, 1]);
        world.run_for(MS(100));
        assert_eq!(world.engine(usize::from(kill)).table.len(), 0);
        if !kill {
            assert_eq!(world.engine(1).table.len(), 0, "the standby has heard of it");
        }
    }
}

/// It would take the pin for a breach of the protocol.
#[test]
fn a_standby_of_the_version_before_is_not_told_that_time_is_up() {
    let mut world = speaking(REQUEST, PIECE);
    world.engine(0).link.version = 3;
    world.run_for(MS(15_000));
    assert!(!world.clients[0].has_ended() && !world.accused(), "{}", world.story());
    assert!(world.is_duplex());
    // The heir has nobody to tell.
    world.kill(0);
    end(&mut world);
    assert_eq!(world.clients[0].heard(), TOO_LATE);
}

#[test]
fn echo_waits_for_ever() {
    let mut world = World::duplex_with(short);
    world.connect(ECHO, Mode::Talk);
    world.say(0, 5, false);
    world.run_for(MS(600_000));
    assert_eq!(world.engine(0).table.len(), 1);
    world.say(0, 5, true);
    world.finish();
}
