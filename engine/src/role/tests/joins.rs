//! A node that joins, alone against one word at a time: whom it consents to, what it asks, what it owns.

use super::super::{
    Action, Beat, BeatRole, Echo, Exit, LinkEvent, Path, Policy, ProbeResult, Role, Roles, Timing,
};
use super::edges::duplex;
use super::scenarios::{at, beat, drain, tick};
use crate::ids::{Epoch, Node};

/// Node `a` (boot 1), which joins at 600 ms.
fn fresh() -> Roles {
    Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default())
}

fn is_primary(roles: &Roles) -> bool {
    matches!(roles.role(), Role::Primary { .. })
}

/// The same at 650 ms. Its peer, which served in `epoch`, is heard to be `role`.
fn hears(role: BeatRole, epoch: u64) -> Roles {
    let mut roles = fresh();
    tick(&mut roles, 601, 649);
    roles.on_heartbeat(at(650), Path::Lan, &said(role, epoch, 650));
    roles
}

fn said(role: BeatRole, epoch: u64, millis: u64) -> Beat {
    Beat { synced: false, ..beat(role, epoch, millis, millis - 2) }
}

/// Time goes on; the peer says `role` every 10 ms, and each probe finds the address free.
fn goes_on(roles: &mut Roles, role: BeatRole, epoch: u64, from: u64, to: u64) -> usize {
    let mut probes = 0;
    for millis in from..=to {
        if millis % 10 == 0 {
            roles.on_heartbeat(at(millis), Path::Lan, &said(role, epoch, millis));
        }
        tick(roles, millis, millis);
        if drain(roles).contains(&Action::Probe) {
            probes += 1;
            roles.on_probe(at(millis), ProbeResult::Clear);
        }
    }
    probes
}

#[test]
fn it_consents_to_one_that_asks_and_comes_first() {
    for (role, epoch, expected) in [
        (BeatRole::Candidate, 5, BeatRole::Renounced),
        (BeatRole::Joining, 5, BeatRole::Joining),
        (BeatRole::Candidate, 0, BeatRole::Candidate),
    ] {
        assert_eq!(hears(role, epoch).beat_role(), expected, "{role:?} of epoch {epoch}");
    }
}

#[test]
fn consent_and_a_question_are_said_at_once_and_once() {
    for (epoch, expected) in [(5, BeatRole::Renounced), (0, BeatRole::Candidate)] {
        let mut roles = fresh();
        tick(&mut roles, 601, 645);
        while roles.poll_beat(at(645)).is_some() {}
        roles.on_heartbeat(at(646), Path::Replication, &said(BeatRole::Candidate, epoch, 646));
        assert_eq!(roles.poll_beat(at(646)).map(|beat| beat.role), Some(expected));
        while roles.poll_beat(at(646)).is_some() {}
        roles.on_heartbeat(at(648), Path::Replication, &said(BeatRole::Candidate, epoch, 648));
        assert_eq!(roles.poll_beat(at(648)), None);
    }
}

/// It asks as long as it may own, and what it consented to before is over.
#[test]
fn a_question_ends_when_it_cannot_be_meant() {
    let mut roles = hears(BeatRole::Candidate, 5);
    assert_eq!(roles.beat_role(), BeatRole::Renounced);
    let blind = Beat { lan_ok: false, ..said(BeatRole::Joining, 5, 660) };
    roles.on_heartbeat(at(660), Path::Replication, &blind);
    assert_eq!(roles.beat_role(), BeatRole::Candidate, "the peer has lost its LAN");
    roles.on_lan(at(661), false);
    assert_eq!(roles.beat_role(), BeatRole::Joining);
}

/// Only a word of consent is consent.
#[test]
fn a_peer_that_hears_the_question_has_not_consented() {
    let mut roles = hears(BeatRole::Joining, 0);
    let probes = goes_on(&mut roles, BeatRole::Joining, 0, 651, 1700);
    assert!(!is_primary(&roles));
    assert!((3..=6).contains(&probes), "what was found is believed for a while: {probes}");
    goes_on(&mut roles, BeatRole::Renounced, 0, 1701, 1730);
    assert!(is_primary(&roles));
}

#[test]
fn a_standby_that_has_its_lan_is_asked_nothing() {
    let mut roles = hears(BeatRole::Standby, 2);
    goes_on(&mut roles, BeatRole::Standby, 2, 651, 1500);
    assert_eq!(roles.beat_role(), BeatRole::Joining);
}

#[test]
fn nobody_owns_without_a_lan() {
    let mut roles = fresh();
    roles.on_lan(at(601), false);
    for millis in 602..2000 {
        tick(&mut roles, millis, millis);
        assert!(!drain(&mut roles).contains(&Action::Probe));
    }
    roles.on_probe(at(2000), ProbeResult::Clear);
    tick(&mut roles, 2001, 2010);
    assert!(!is_primary(&roles));
}

/// What a node hears at a millisecond.
type Hears = fn(&mut Roles, u64);

/// Until when it waits, what else it hears, and what it does then.
#[test]
fn an_address_in_use_is_looked_at_again_before_it_gives_up() {
    let hears: [(&str, Hears, bool); 3] = [
        ("nobody", |_, _| {}, true),
        (
            "a caller",
            |roles, millis| {
                let call = Beat { echo: Echo::default(), ..said(BeatRole::Joining, 0, millis) };
                roles.on_heartbeat(at(millis), Path::Lan, &call);
            },
            false,
        ),
        (
            "who it was",
            |roles, millis| {
                let up = LinkEvent::Up { boot: 7, epoch: Epoch(0), role: BeatRole::Joining };
                if millis == 910 {
                    roles.on_link(at(millis), up);
                }
            },
            false,
        ),
    ];
    for (who, hear, exits) in hears {
        let mut roles = fresh();
        tick(&mut roles, 601, 899);
        assert!(drain(&mut roles).contains(&Action::Probe));
        roles.on_probe(at(900), ProbeResult::InUse);
        roles.on_probe(at(901), ProbeResult::Clear);
        let mut actions = Vec::new();
        for millis in 902..1150 {
            if millis % 10 == 0 {
                hear(&mut roles, millis);
            }
            tick(&mut roles, millis, millis);
            actions.extend(drain(&mut roles));
        }
        let (exit, probe) = (Action::Exit(Exit::AddressInUse), Action::Probe);
        assert!(!is_primary(&roles) && !actions.contains(&exit), "{who}");
        assert!(!actions.contains(&probe), "{who}");
        tick(&mut roles, 1150, 1420);
        let actions = drain(&mut roles);
        assert_eq!(actions.contains(&exit), exits, "{who}");
        assert!(actions.contains(&probe), "{who}");
    }
}

/// It may be the owner, cut off until a moment ago; or a recording, which never answers.
#[test]
fn a_stranger_that_owns_has_the_time_to_answer() {
    let mut roles = fresh();
    let mut probed = None;
    for millis in 601..1300 {
        if millis % 10 == 0 {
            let owner = Beat { echo: Echo::default(), ..said(BeatRole::Primary, 5, millis) };
            assert!(!roles.on_heartbeat(at(millis), Path::Lan, &owner));
        }
        tick(&mut roles, millis, millis);
        if probed.is_none() && drain(&mut roles).contains(&Action::Probe) {
            probed = Some(millis);
        }
    }
    assert!(probed.is_some_and(|millis| (1100..1110).contains(&millis)), "{probed:?}");
}

/// Of one that handed over: whoever served in a later epoch has owned.
#[test]
fn who_handed_over_knows_by_the_epoch_whether_it_was_taken() {
    for (epoch, role) in [(2, Role::Silent), (3, Role::Joining)] {
        let mut roles = duplex();
        tick(&mut roles, 1001, 1004);
        roles.on_heartbeat(at(1005), Path::Lan, &beat(BeatRole::Standby, 2, 9, 1003));
        assert_eq!(roles.on_switchover(at(1006)), Ok(()));
        roles.on_heartbeat(at(1010), Path::Lan, &said(BeatRole::Joining, epoch, 1010));
        assert_eq!(roles.role(), role, "epoch {epoch}");
    }
}
