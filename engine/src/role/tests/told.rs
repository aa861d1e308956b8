//! What every event has in common: time passes with it, what is due is done, what is new is said at once,
//! and an operator is told, once.

use super::super::{
    Action, Beat, BeatRole, LinkEvent, LostPeer, Path, Policy, ProbeResult, Report, Role, Roles,
    Timing,
};
use super::edges::{armed, duplex, follower, simplex, word};
use super::scenarios::{at, beat, drain, duplex_a, tick};
use crate::ids::{Epoch, Node};
use crate::time::Duration;

/// Events that say nothing new.
type Event = fn(&mut Roles, u64);

const EVENTS: [(&str, Event); 9] = [
    ("a beat", |roles, millis| {
        let own = Beat { node: Node::A, ..beat(BeatRole::Primary, 9, millis, millis) };
        roles.on_heartbeat(at(millis), Path::Lan, &Beat { boot: 77, ..own });
    }),
    ("a link event", |roles, millis| roles.on_link(at(millis), LinkEvent::Refused)),
    ("the carrier", |roles, millis| roles.on_lan(at(millis), true)),
    ("the host", |roles, millis| roles.on_host(at(millis), true)),
    ("the peer's host", |roles, millis| roles.on_peer_host(at(millis), true)),
    ("a probe", |roles, millis| roles.on_probe(at(millis), ProbeResult::Clear)),
    ("an arbiter", |roles, millis| roles.on_arbiter(at(millis), 99, None)),
    ("a switchover", |roles, millis| assert!(roles.on_switchover(at(millis)).is_err())),
    ("time", |roles, millis| roles.on_timer(at(millis))),
];

fn reports(roles: &mut Roles) -> Vec<Report> {
    let of = |action| match action {
        Action::Report(report) => Some(report),
        _ => None,
    };
    drain(roles).into_iter().filter_map(of).collect()
}

#[test]
fn whatever_comes_first_after_a_pause_ends_it() {
    let paused = Report::Paused { lasted: Duration::from_millis(90), gated: true };
    for (name, event) in EVENTS {
        let mut roles = duplex();
        tick(&mut roles, 1001, 1010);
        drain(&mut roles);
        event(&mut roles, 1100);
        let told = reports(&mut roles);
        assert!(told.contains(&paused), "{name}: {told:?}");
        assert_eq!(roles.role(), Role::Primary { duplex: true }, "{name}: it is no silence");
    }
}

#[test]
fn whatever_comes_first_does_what_is_due() {
    for (name, event) in EVENTS {
        let mut roles = armed();
        tick(&mut roles, 1006, 1054);
        assert_eq!(roles.role(), Role::Standby { synced: true });
        event(&mut roles, 1055);
        assert_eq!(roles.role(), Role::Primary { duplex: false }, "{name}");
    }
}

/// Whether there is a beat right after `event`, and none was due before it.
fn says_at_once(mut roles: Roles, from: u64, event: impl Fn(&mut Roles, u64)) -> bool {
    tick(&mut roles, from, from + 4);
    while roles.poll_beat(at(from + 4)).is_some() {}
    roles.on_timer(at(from + 5));
    let due = roles.poll_beat(at(from + 5)).is_some();
    event(&mut roles, from + 5);
    !due && roles.poll_beat(at(from + 5)).is_some()
}

#[test]
fn what_is_new_is_said_at_once() {
    let hears = |path, beat: fn(u64) -> Beat| {
        move |roles: &mut Roles, millis| {
            roles.on_heartbeat(at(millis), path, &beat(millis));
        }
    };
    assert!(says_at_once(duplex(), 1000, |roles, millis| roles.on_lan(at(millis), false)));
    assert!(!says_at_once(duplex(), 1000, |roles, millis| roles.on_lan(at(millis), true)));
    assert!(says_at_once(duplex(), 1000, |roles, millis| roles.on_host(at(millis), false)));
    assert!(!says_at_once(duplex(), 1000, |roles, millis| roles.on_host(at(millis), true)));
    assert!(says_at_once(follower(), 1000, |roles, millis| {
        roles.on_synced(at(millis), Epoch(2));
    }));
    let parts = hears(Path::Lan, |millis| word(BeatRole::Parting, 2, millis, millis - 2));
    assert!(says_at_once(armed(), 1005, parts), "it has renounced");
    let link_lost = |roles: &mut Roles, millis| roles.on_link(at(millis), LinkEvent::Lost);
    assert!(says_at_once(duplex(), 1000, link_lost), "it asks to part");
    let first = |millis| beat(BeatRole::Joining, 0, millis, millis - 2);
    let heard_long_ago = || {
        let mut roles = simplex();
        tick(&mut roles, 991, 1099);
        roles
    };
    assert!(says_at_once(heard_long_ago(), 1100, hears(Path::Lan, first)), "it is heard there");
    assert!(!says_at_once(heard_long_ago(), 1100, hears(Path::Replication, first)));
    let owns = hears(Path::Lan, |millis| beat(BeatRole::Primary, 3, millis, millis - 2));
    assert!(says_at_once(simplex(), 991, owns), "its role is another");
}

/// A question whose answer takes its time is asked again at the pace of beats.
#[test]
fn what_was_said_is_said_again_at_its_pace() {
    let mut roles = duplex();
    roles.on_link(at(1001), LinkEvent::Lost);
    let mut beats = 0;
    for millis in 1002..=1101 {
        roles.on_heartbeat(at(millis), Path::Lan, &beat(BeatRole::Standby, 2, millis, 1000));
        roles.on_timer(at(millis));
        while let Some(said) = roles.poll_beat(at(millis)) {
            assert_eq!(said.role, BeatRole::Parting);
            beats += 1;
        }
    }
    assert!((10..=12).contains(&beats), "{beats}");
}

#[test]
fn an_operator_is_told_what_happens_and_once() {
    let mut roles = duplex();
    roles.on_lan(at(1001), false);
    roles.on_lan(at(1002), false);
    assert_eq!(reports(&mut roles), [Report::LanDown]);
    roles.on_lan(at(1003), true);
    assert_eq!(reports(&mut roles), [Report::LanUp]);
    let cut_off = Beat { lan_ok: false, ..beat(BeatRole::Standby, 2, 20, 1002) };
    roles.on_heartbeat(at(1004), Path::Replication, &cut_off);
    roles.on_heartbeat(at(1005), Path::Replication, &Beat { sequence: 21, ..cut_off });
    assert_eq!(reports(&mut roles), [Report::PeerLan { up: false }]);
    roles.on_heartbeat(at(1006), Path::Replication, &beat(BeatRole::Standby, 2, 22, 1003));
    assert_eq!(reports(&mut roles), [Report::PeerLan { up: true }]);
}

#[test]
fn an_operator_is_told_of_a_conflict_and_once() {
    let mut roles = simplex();
    tick(&mut roles, 991, 999);
    drain(&mut roles);
    for millis in [1000, 1010] {
        roles.on_heartbeat(at(millis), Path::Lan, &beat(BeatRole::Primary, 1, millis, millis - 5));
    }
    assert_eq!(reports(&mut roles), [Report::Conflict { theirs: Epoch(1) }]);
}

#[test]
fn an_operator_is_told_of_paths_and_links() {
    let mut roles = armed();
    for millis in 1006..=1100 {
        roles.on_heartbeat(at(millis), Path::Lan, &word(BeatRole::Primary, 2, millis, millis - 2));
    }
    let told = reports(&mut roles);
    let stalled = told.iter().filter(|report| **report == Report::LinkStalled).count();
    assert_eq!(stalled, 1, "{told:?}");
    roles.on_link(at(1101), LinkEvent::Incompatible);
    assert!(reports(&mut roles).contains(&Report::Incompatible));
    let mut roles = duplex();
    for millis in 1001..=1100 {
        tick(&mut roles, millis, millis);
        let echoes = beat(BeatRole::Standby, 2, millis, millis - 1);
        roles.on_heartbeat(at(millis), Path::Replication, &echoes);
    }
    drain(&mut roles);
    roles.on_heartbeat(at(1101), Path::Lan, &beat(BeatRole::Standby, 2, 1101, 1100));
    let back = |report: &Report| matches!(report, Report::PathBack { path: Path::Lan, .. });
    assert!(reports(&mut roles).iter().any(back));
}

#[test]
fn an_operator_is_told_why_nobody_owns_and_once() {
    let mut roles = duplex_a(Policy { lost_peer: LostPeer::Stop, ..Policy::default() });
    tick(&mut roles, 1001, 2000);
    let told = reports(&mut roles);
    let stopped = told.iter().filter(|report| **report == Report::StoppedByPolicy).count();
    assert_eq!(stopped, 1, "{told:?}");
    let mut roles = armed();
    roles.on_lan(at(1006), false);
    tick(&mut roles, 1007, 1400);
    let told = reports(&mut roles);
    let blocked = |report: &&Report| matches!(report, Report::TakeoverBlocked { .. });
    assert_eq!(told.iter().filter(blocked).count(), 1, "{told:?}");
}

/// It has nobody to hear, to dial, to wait for; what it sleeps through is no silence of anybody's.
#[test]
fn an_unpaired_node_hears_and_asks_nobody() {
    let policy = Policy { paired: false, ..Policy::default() };
    let mut roles = Roles::new(at(0), Node::A, 1, Timing::default(), policy);
    roles.on_timer(at(1));
    roles.on_probe(at(2), ProbeResult::Clear);
    assert_eq!(roles.role(), Role::Primary { duplex: false });
    drain(&mut roles);
    roles.on_timer(at(500));
    let answers = beat(BeatRole::Primary, 9, 1, 499);
    assert!(!roles.on_heartbeat(at(501), Path::Lan, &answers));
    roles.on_link(at(502), LinkEvent::Up { boot: 7, epoch: Epoch(9), role: BeatRole::Primary });
    roles.on_lan(at(503), false);
    roles.on_lan(at(504), true);
    tick(&mut roles, 505, 600);
    let told = drain(&mut roles);
    assert_eq!(told, [Action::Report(Report::LanDown), Action::Report(Report::LanUp)]);
    assert_eq!((roles.peer(), roles.epoch()), (None, Epoch(2)));
    assert!(roles.speak_until() > at(600));
}
