//! What one word, or one link, makes of a role, and what it does not.

use super::super::ownership::common::Common;
use super::super::peer::{Heard, LinkNews};
use super::super::{
    Action, ArbiterRecord, Beat, BeatRole, Cause, Held, Lack, LinkEvent, LostArbiter, Path, Policy,
    Refusal, Reply, Role, Roles, Timing,
};
use super::edges::{armed, duplex, follower, owned, simplex, word};
use super::scenarios::{at, beat, drain, tick};
use super::world::arbitrated;
use crate::ids::{Epoch, Node};

fn common() -> Common {
    Common::new(at(600), Node::A, 1, Timing::default(), Policy::default())
}

const STANDBY: Role = Role::Standby { synced: true };
const DUPLEX: Role = Role::Primary { duplex: true };
const ALONE: Role = Role::Primary { duplex: false };

// What everybody takes note of.

#[test]
fn who_owns_next_owns_above_all_that_was_ever_heard() {
    let hears: [fn(&mut Common); 4] = [
        |common| {
            common.hear(at(700), Path::Lan, &beat(BeatRole::Joining, 6, 1, 690));
        },
        |common| {
            common.hear(at(700), Path::Lan, &beat(BeatRole::Joining, 0, 1, 690));
            common.hear(at(701), Path::Lan, &beat(BeatRole::Joining, 6, 2, 690));
        },
        |common| {
            common.hear(at(700), Path::Lan, &beat(BeatRole::Joining, 0, 1, 690));
            let successor = Beat { boot: 8, ..beat(BeatRole::Joining, 6, 1, 705) };
            common.hear(at(710), Path::Lan, &successor);
        },
        |common| {
            let role = BeatRole::Joining;
            common.on_link(at(700), LinkEvent::Up { boot: 7, epoch: Epoch(6), role });
        },
    ];
    for hear in hears {
        let mut common = common();
        hear(&mut common);
        assert_eq!(
            [common.group.claim(Node::A).0, common.group.claim(Node::A).0],
            [Epoch(8), Epoch(10)]
        );
        assert_eq!(common.group.served(), Epoch(10));
    }
}

#[test]
fn a_successor_is_heard_from_its_first_beat_and_the_one_before_is_dead() {
    let mut common = common();
    common.hear(at(690), Path::Lan, &beat(BeatRole::Standby, 2, 900, 680));
    let successor = Beat { boot: 8, ..beat(BeatRole::Joining, 0, 1, 695) };
    assert_eq!(
        common.hear(at(698), Path::Lan, &Beat { echo: Default::default(), ..successor }),
        Heard::Nothing
    );
    assert_eq!(common.hear(at(700), Path::Lan, &successor), Heard::Successor);
    assert_eq!(common.pair.dead(), Some(7));
    assert!(common.pair.detector().is_heard(at(745), Path::Lan), "its numbers begin anew");
    let word = (BeatRole::Joining, Epoch::NONE, false);
    assert!(common.poll_beat(at(700), word).is_some(), "the peer is answered");
    assert_eq!(common.poll_beat(at(700), word), None, "it calls no more");
}

#[test]
fn whoever_calls_is_answered() {
    let mut roles = duplex();
    let caller = Beat { boot: 9, echo: Default::default(), ..beat(BeatRole::Joining, 0, 5, 0) };
    roles.on_heartbeat(at(1001), Path::Lan, &caller);
    let said: Vec<u64> = (1001..1030)
        .flat_map(|millis| {
            roles.on_timer(at(millis));
            core::iter::from_fn(|| roles.poll_beat(at(millis)))
                .map(|beat| beat.echo.boot)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(said.iter().filter(|boot| **boot == 9).count(), 1, "{said:?}");
}

#[test]
fn nobody_hears_itself() {
    let own = Beat { node: Node::A, ..beat(BeatRole::Primary, 9, 1, 690) };
    assert_eq!(common().hear(at(700), Path::Lan, &own), Heard::Nothing);
}

#[test]
fn a_link_tells_whose_it_is() {
    let up = |boot, epoch, role| LinkEvent::Up { boot, epoch: Epoch(epoch), role };
    let mut common = common();
    assert_eq!(common.on_link(at(650), LinkEvent::Refused), LinkNews::Nothing, "by nobody known");
    assert_eq!(common.pair.refused(), Some(at(650)));
    common.hear(at(660), Path::Lan, &beat(BeatRole::Joining, 2, 1, 655));
    assert_eq!(common.pair.refused(), None, "somebody is there");
    assert_eq!(common.on_link(at(661), up(7, 2, BeatRole::Primary)), LinkNews::Up);
    assert!(common.claimant().is_none(), "the Hello is no later than the beat");
    assert_eq!(common.on_link(at(662), up(7, 3, BeatRole::Primary)), LinkNews::Up);
    assert!(common.claimant().is_some(), "this one is");
    common.pair.leave_dead_link(at(663), &mut common.actions);
    assert!(common.pair.is_linked() && common.actions.is_empty(), "it is no dead one's");
    assert_eq!(common.on_link(at(664), up(8, 3, BeatRole::Joining)), LinkNews::UpWithSuccessor);
    assert_eq!(common.pair.dead(), Some(7));
}

#[test]
fn a_refusal_proves_the_death_of_whom_the_lost_link_was_with_and_once() {
    let up = |boot| LinkEvent::Up { boot, epoch: Epoch(2), role: BeatRole::Standby };
    let mut common = common();
    common.on_link(at(650), up(7));
    common.on_link(at(651), LinkEvent::Lost);
    assert_eq!(common.on_link(at(652), LinkEvent::Refused), LinkNews::PeerDead);
    assert_eq!(common.on_link(at(653), LinkEvent::Refused), LinkNews::Nothing);
    common.on_link(at(660), up(8));
    common.on_link(at(661), LinkEvent::Lost);
    let successor = Beat { boot: 9, ..beat(BeatRole::Joining, 2, 1, 662) };
    common.hear(at(663), Path::Lan, &successor);
    assert_eq!(common.on_link(at(664), LinkEvent::Refused), LinkNews::Nothing, "not of boot 9");
}

#[test]
fn a_peer_that_cannot_be_followed_has_no_link() {
    let mut common = common();
    common.on_link(at(650), LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Joining });
    common.on_link(at(651), LinkEvent::Incompatible);
    assert!(!common.pair.is_linked() && common.actions.contains(&Action::HangUp));
    assert_eq!(common.on_link(at(652), LinkEvent::Refused), LinkNews::Nothing, "nor a proof");
}

/// An epoch that was won, and owned: what is won next is written over that.
#[test]
fn a_grant_that_was_used_is_what_the_next_one_is_over() {
    let policy = arbitrated(LostArbiter::Stop);
    let mut common = Common::new(at(600), Node::A, 1, Timing::default(), policy);
    let mut record = Some(ArbiterRecord { owner: Node::A, epoch: Epoch(2), boot: 99 });
    let mut answer = |common: &mut Common, millis: u64| {
        while let Some(action) = common.actions.pop_front() {
            let Action::Ask(ask) = action else { continue };
            let mut written = false;
            if let super::super::Inquiry::Swap { record: wanted, .. } = ask.what {
                (record, written) = (Some(wanted), true);
            }
            let reply = Reply { record, revision: 1, written };
            let claims = common.group.claims.as_mut().expect("there is an arbiter");
            claims.on_answer(at(millis), ask.number, Some(reply), &mut Vec::new());
        }
    };
    let mut over = Vec::new();
    for millis in (700..1500).step_by(10) {
        if common.permit(at(millis), None) {
            let (epoch, before) = common.group.claim(Node::A);
            over.push((epoch.0, before.and_then(|over| over.record).map(|record| record.epoch.0)));
        }
        answer(&mut common, millis);
    }
    assert_eq!(over[..3], [(4, Some(2)), (6, Some(4)), (8, Some(6))]);
}

// An owner.

#[test]
fn an_owner_without_a_lan_is_silent() {
    let mut roles = simplex();
    assert!(roles.speak_until() > at(990));
    roles.on_lan(at(991), false);
    assert_eq!(roles.speak_until(), at(0));
}

#[test]
fn an_owner_that_hears_its_peer_speaks_as_soon_as_its_lan_is_back() {
    let mut roles = simplex();
    tick(&mut roles, 991, 999);
    roles.on_heartbeat(at(1000), Path::Replication, &beat(BeatRole::Joining, 0, 9, 995));
    roles.on_lan(at(1001), false);
    roles.on_lan(at(1002), true);
    assert!(roles.speak_until() > at(1002));
}

#[test]
fn an_owner_goes_on_in_the_next_epoch_whatever_its_standby_said() {
    let mut roles = duplex();
    roles.on_link(at(1001), LinkEvent::Lost);
    roles.on_link(at(1002), LinkEvent::Refused);
    assert_eq!((roles.role(), roles.epoch()), (ALONE, Epoch(4)));
}

#[test]
fn a_later_epoch_of_one_that_does_not_own_unseats_nobody() {
    let mut roles = simplex();
    roles.on_heartbeat(at(991), Path::Lan, &beat(BeatRole::Joining, 3, 9, 985));
    assert_eq!(roles.role(), ALONE);
}

/// An earlier owner that has not noticed yet is no standby that has left.
#[test]
fn a_standby_that_claims_has_not_left() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1004);
    roles.on_heartbeat(at(1005), Path::Lan, &beat(BeatRole::Primary, 1, 9, 1003));
    assert_eq!((roles.role(), roles.speak_until()), (DUPLEX, at(0)));
}

#[test]
fn a_pause_within_the_lease_is_no_doubt() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1004);
    for path in [Path::Lan, Path::Replication] {
        roles.on_heartbeat(at(1005), path, &beat(BeatRole::Standby, 2, 9, 1003));
    }
    tick(&mut roles, 1006, 1010);
    roles.on_timer(at(1037));
    assert_eq!(roles.lack(at(1037)), None);
    // And a standby that has left, whenever it said so, has left.
    let left = Beat { synced: false, ..beat(BeatRole::Standby, 2, 30, 1004) };
    roles.on_heartbeat(at(1038), Path::Lan, &left);
    assert_eq!(owned(&drain(&mut roles)).map(|change| change.held), Some(Held::Whole));
}

/// In doubt after a pause, by `said` at 1102 ms and 1103 ms.
fn in_doubt(said: [Beat; 2]) -> (Roles, Vec<Action>) {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1015);
    roles.on_timer(at(1100));
    roles.on_timer(at(1101));
    drain(&mut roles);
    for (millis, said) in [1102, 1103].into_iter().zip(said) {
        roles.on_heartbeat(at(millis), Path::Lan, &said);
    }
    let now = at(1103);
    assert!(
        roles.lack(now).is_some_and(|lack| lack != Lack::NotPrimary) || roles.is_protected(now)
    );
    tick(&mut roles, 1104, 1160);
    let done = drain(&mut roles);
    (roles, done)
}

#[test]
fn what_a_standby_says_after_a_pause_settles_whether_it_owned() {
    let left = |epoch, sequence, echo| Beat {
        synced: false,
        ..beat(BeatRole::Joining, epoch, sequence, echo)
    };
    let (_, done) = in_doubt([left(2, 30, 1101), left(2, 31, 1102)]);
    assert_eq!(owned(&done).map(|change| change.held), Some(Held::Whole));
    let (_, done) = in_doubt([left(3, 30, 1101), left(3, 31, 1102)]);
    assert_eq!(owned(&done).map(|change| change.held), Some(Held::Doubtful), "it has owned");
    let (roles, done) = in_doubt([left(2, 30, 1010), beat(BeatRole::Standby, 2, 31, 1101)]);
    assert_eq!((owned(&done), roles.role()), (None, DUPLEX), "the first was an old word");
}

#[test]
fn an_owner_in_doubt_gives_the_address_to_nobody() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1015);
    roles.on_timer(at(1100));
    roles.on_host(at(1100), false);
    roles.on_heartbeat(at(1101), Path::Lan, &beat(BeatRole::Standby, 2, 30, 1010));
    assert_eq!(roles.role(), DUPLEX, "it may have served meanwhile");
    roles.on_heartbeat(at(1103), Path::Lan, &beat(BeatRole::Standby, 2, 31, 1101));
    assert_eq!(roles.role(), Role::Silent);
}

#[test]
fn an_owner_without_a_lan_gives_the_address_by_the_link_alone_that_it_protected() {
    for (events, expected) in [
        (&[][..], Role::Silent),
        (&[LinkEvent::Lost][..], Role::Joining),
        (
            &[LinkEvent::Lost, LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Standby }]
                [..],
            DUPLEX,
        ),
    ] {
        let mut roles = duplex();
        tick(&mut roles, 1001, 1003);
        for event in events {
            roles.on_link(at(1004), *event);
        }
        roles.on_heartbeat(at(1005), Path::Replication, &beat(BeatRole::Standby, 2, 9, 1002));
        roles.on_lan(at(1006), false);
        assert_eq!((roles.role(), roles.epoch()), (expected, Epoch(2)), "{events:?}");
    }
}

#[test]
fn a_standby_that_is_silent_has_no_link() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1039);
    assert!(!drain(&mut roles).contains(&Action::HangUp));
    tick(&mut roles, 1040, 1040);
    assert!(drain(&mut roles).contains(&Action::HangUp));
    assert_eq!(roles.check_switchover(), Err(Refusal::NotDuplex));
}

// A standby.

#[test]
fn a_successor_makes_of_a_standby_what_it_is_itself() {
    for (role, lan, expected) in [
        (BeatRole::Primary, true, Role::Standby { synced: false }),
        (BeatRole::Primary, false, Role::Standby { synced: false }),
        (BeatRole::Candidate, true, ALONE),
        (BeatRole::Candidate, false, Role::Joining),
        (BeatRole::Joining, true, ALONE),
        (BeatRole::Joining, false, STANDBY),
    ] {
        let mut roles = armed();
        tick(&mut roles, 1006, 1008);
        roles.on_lan(at(1009), lan);
        let successor = Beat { boot: 8, ..word(role, 4, 1, 1007) };
        roles.on_heartbeat(at(1010), Path::Replication, &successor);
        assert_eq!(roles.role(), expected, "{role:?}, LAN {lan}");
        if role == BeatRole::Primary {
            assert_eq!(roles.epoch(), Epoch(4), "it found nobody here, and owns");
        }
    }
}

#[test]
fn an_owner_that_went_on_alone_is_followed_from_nothing() {
    let mut roles = armed();
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Primary, 4, 10, 1004));
    assert_eq!((roles.role(), roles.epoch()), (Role::Standby { synced: false }, Epoch(4)));
}

#[test]
fn a_late_word_of_the_dead_moves_nobody() {
    for late in [word(BeatRole::Primary, 4, 10, 1004), word(BeatRole::Parting, 2, 10, 1004)] {
        let mut roles = armed();
        roles.on_lan(at(1006), false);
        roles.on_link(at(1007), LinkEvent::Lost);
        roles.on_link(at(1008), LinkEvent::Refused);
        roles.on_heartbeat(at(1009), Path::Replication, &late);
        assert_eq!((roles.role(), roles.beat_role()), (STANDBY, BeatRole::Standby));
        roles.on_lan(at(1010), true);
        tick(&mut roles, 1011, 1060);
        let change = owned(&drain(&mut roles)).expect("its proof is as good as before");
        assert_eq!((change.cause, change.held), (Cause::LinkRefused, Held::Whole));
    }
}

#[test]
fn an_owner_that_stood_down_is_followed_no_longer_or_succeeded() {
    let mut roles = follower();
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Joining, 2, 10, 1004));
    assert_eq!(roles.role(), Role::Joining, "who holds nothing follows nobody then");
    let mut roles = armed();
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Joining, 4, 10, 1004));
    assert_eq!(roles.role(), Role::Joining, "what it holds is of the past");
    let mut roles = armed();
    roles.on_lan(at(1006), false);
    roles.on_heartbeat(at(1010), Path::Replication, &word(BeatRole::Joining, 2, 10, 1004));
    assert_eq!(roles.role(), Role::Joining, "it could not serve");
    let mut roles = armed();
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Joining, 2, 10, 1004));
    assert_eq!(roles.role(), ALONE, "its word is fresh");
}

/// Its word may be old by now: it is taken for silence, and no sooner.
#[test]
fn an_owner_whose_word_is_old_is_succeeded_after_the_detection_time() {
    let mut roles = armed();
    for millis in 1006..=1170 {
        let deaf = word(
            if millis < 1110 { BeatRole::Primary } else { BeatRole::Joining },
            2,
            millis,
            1002,
        );
        roles.on_heartbeat(at(millis), Path::Lan, &deaf);
        tick(&mut roles, millis, millis);
        let expected = if millis < 1160 { STANDBY } else { ALONE };
        assert_eq!(roles.role(), expected, "at {millis}");
    }
}

#[test]
fn consent_ends_with_what_was_asked_for() {
    let mut roles = armed();
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Parting, 2, 10, 1004));
    assert_eq!(roles.beat_role(), BeatRole::Renounced);
    assert!(drain(&mut roles).contains(&Action::HangUp), "what came by that link is void");
    roles.on_heartbeat(at(1011), Path::Lan, &word(BeatRole::Primary, 2, 11, 1004));
    assert_eq!(roles.beat_role(), BeatRole::Standby);
    let mut roles = follower();
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Parting, 2, 10, 1004));
    assert_eq!(roles.beat_role(), BeatRole::Renounced);
    assert!(!drain(&mut roles).contains(&Action::HangUp), "one that has brought nothing may stay");
}

/// The link is up once more before it has brought anything.
#[test]
fn a_link_that_begins_what_is_wanted_begins_nothing_anew() {
    let mut roles = follower();
    let up = |epoch| LinkEvent::Up { boot: 7, epoch: Epoch(epoch), role: BeatRole::Primary };
    roles.on_link(at(1001), up(2));
    let stands_by =
        |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::StandBy(_)));
    assert!(!stands_by(drain(&mut roles)));
    roles.on_link(at(1002), up(4));
    assert!(stands_by(drain(&mut roles)), "it is of a later epoch");
}
