//! Words that are too old, or somebody else's, and moments after which a node looks before it speaks:
//! each against one machine alone.

use super::super::{
    Action, Beat, BeatRole, Cause, LinkEvent, Path, Policy, ProbeResult, Refusal, Role, Roles,
    Timing,
};
use super::edges::{armed, duplex, owned, simplex, word};
use super::scenarios::{at, beat, drain, tick};
use crate::ids::{Epoch, Node};

fn is_primary(roles: &Roles) -> bool {
    matches!(roles.role(), Role::Primary { .. })
}

// Looking around first.

/// A short pause, within the lease, and then the proof that its standby is dead: what it acts on may
/// be old, and it has not looked whether anybody else owns.
#[test]
fn who_goes_on_alone_right_after_a_pause_looks_before_it_speaks() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1010);
    roles.on_timer(at(1040));
    roles.on_link(at(1041), LinkEvent::Lost);
    roles.on_link(at(1041), LinkEvent::Refused);
    assert_eq!(roles.role(), Role::Primary { duplex: false });
    tick(&mut roles, 1042, 1089);
    assert_eq!(roles.speak_until(), at(0));
    tick(&mut roles, 1090, 1090);
    assert!(roles.speak_until() > at(1090));
}

#[test]
fn an_owner_alone_that_slept_past_its_gate_looks_before_it_speaks() {
    let mut roles = simplex();
    tick(&mut roles, 991, 1000);
    roles.on_timer(at(1060));
    tick(&mut roles, 1061, 1109);
    assert_eq!(roles.speak_until(), at(0));
    tick(&mut roles, 1110, 1110);
    assert!(roles.speak_until() > at(1110));
}

#[test]
fn an_owner_that_was_cut_off_from_everything_looks_before_it_speaks() {
    let mut roles = simplex();
    tick(&mut roles, 991, 1100);
    roles.on_lan(at(1101), false);
    roles.on_lan(at(1110), true);
    tick(&mut roles, 1111, 1159);
    assert_eq!(roles.speak_until(), at(0));
    tick(&mut roles, 1160, 1160);
    assert!(roles.speak_until() > at(1160));
}

#[test]
fn nobody_goes_on_alone_without_a_lan() {
    let mut roles = duplex();
    roles.on_lan(at(1001), false);
    tick(&mut roles, 1002, 1400);
    assert_eq!(roles.role(), Role::Primary { duplex: true }, "nobody could reach it");
}

/// It has been heard to yield for long, and this node slept through most of that.
#[test]
fn what_was_heard_before_a_pause_is_not_acted_on_right_after_it() {
    let mut roles = armed();
    tick(&mut roles, 1006, 1010);
    roles.on_heartbeat(at(1010), Path::Lan, &word(BeatRole::Yielding, 2, 10, 1002));
    roles.on_timer(at(1300));
    for millis in 1301..1350 {
        let yields = word(BeatRole::Yielding, 2, millis, 1002);
        roles.on_heartbeat(at(millis), Path::Lan, &yields);
        assert!(!is_primary(&roles), "at {millis}");
    }
    tick(&mut roles, 1350, 1351);
    assert!(is_primary(&roles));
}

// Whose words, and from when.

#[test]
fn a_successor_is_proof_of_a_death_and_no_mere_leaving() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1010);
    let successor = Beat { boot: 8, ..beat(BeatRole::Joining, 0, 1, 1005) };
    roles.on_heartbeat(at(1011), Path::Lan, &successor);
    let change = owned(&drain(&mut roles)).expect("it goes on alone");
    assert_eq!(change.cause, Cause::PeerRestarted);
}

/// Said before it owned, and overtaken by its Hello.
#[test]
fn a_late_word_of_an_earlier_epoch_moves_no_follower() {
    let mut roles = Roles::new(at(900), Node::B, 2, Timing::default(), Policy::default());
    tick(&mut roles, 901, 999);
    roles.on_heartbeat(at(1000), Path::Lan, &word(BeatRole::Joining, 0, 1, 990));
    roles.on_link(at(1001), LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Primary });
    assert_eq!(roles.role(), Role::Standby { synced: false });
    roles.on_heartbeat(at(1002), Path::Lan, &word(BeatRole::Joining, 1, 2, 995));
    assert_eq!(roles.role(), Role::Standby { synced: false });
}

#[test]
fn a_hello_that_is_no_later_than_the_last_word_changes_nothing() {
    let mut roles = simplex();
    tick(&mut roles, 991, 999);
    roles.on_heartbeat(at(1000), Path::Lan, &beat(BeatRole::Joining, 1, 10, 995));
    roles.on_link(at(1001), LinkEvent::Up { boot: 7, epoch: Epoch(1), role: BeatRole::Primary });
    assert!(roles.speak_until() > at(1001), "it has stood down since");
}

/// What a dead heir still says of the address that it was given is void.
#[test]
fn the_late_claim_of_an_heir_that_is_dead_silences_nobody() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1005);
    roles.on_heartbeat(at(1005), Path::Lan, &beat(BeatRole::Standby, 2, 20, 1003));
    roles.on_switchover(at(1006)).expect("armed");
    roles.on_link(at(1007), LinkEvent::Lost);
    roles.on_link(at(1008), LinkEvent::Refused);
    assert!(is_primary(&roles));
    tick(&mut roles, 1009, 1010);
    let epoch = roles.epoch().0 - 1;
    roles.on_heartbeat(at(1011), Path::Lan, &beat(BeatRole::Primary, epoch, 30, 1005));
    assert!(is_primary(&roles) && roles.speak_until() > at(1011));
}

#[test]
fn a_refusal_after_a_link_that_was_not_to_be_is_no_proof() {
    let mut roles = duplex();
    roles.on_link(at(1001), LinkEvent::Incompatible);
    roles.on_link(at(1002), LinkEvent::Refused);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
}

#[test]
fn a_link_that_came_up_in_duplex_hands_nothing_over() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1002);
    roles.on_link(at(1002), LinkEvent::Lost);
    roles.on_link(at(1003), LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Standby });
    roles.on_heartbeat(at(1006), Path::Lan, &beat(BeatRole::Standby, 2, 20, 1004));
    assert_eq!(roles.on_switchover(at(1007)), Err(Refusal::NoLink));
}

#[test]
fn there_is_no_duplex_while_another_claims_the_address() {
    let mut roles = simplex();
    tick(&mut roles, 991, 999);
    roles.on_heartbeat(at(1000), Path::Lan, &beat(BeatRole::Primary, 1, 10, 995));
    roles.on_link(at(1001), LinkEvent::Up { boot: 7, epoch: Epoch(1), role: BeatRole::Joining });
    roles.on_duplex(at(1002));
    assert_eq!(roles.role(), Role::Primary { duplex: false });
}

/// Two that know no owner: consent is to a question, and as good as a lease.
#[test]
fn consent_to_own_answers_the_question_and_is_fresh() {
    for (echo, cleared, owns) in [(609, 640, false), (625, 640, true), (625, 690, false)] {
        let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default());
        tick(&mut roles, 601, 609);
        roles.on_heartbeat(at(610), Path::Lan, &beat(BeatRole::Joining, 0, 1, 605));
        for millis in 611..=700 {
            tick(&mut roles, millis, millis);
            if millis >= 630 && millis % 5 == 0 {
                let consents = beat(BeatRole::Renounced, 0, millis, echo);
                roles.on_heartbeat(at(millis), Path::Lan, &consents);
            }
            if millis == cleared {
                assert!(drain(&mut roles).contains(&Action::Probe));
                roles.on_probe(at(millis), ProbeResult::Clear);
            }
        }
        assert_eq!(is_primary(&roles), owns, "heard what was sent at {echo}, clear at {cleared}");
    }
}
