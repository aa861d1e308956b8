//! The rules, one story each.

use super::super::{Action, Beat, BeatRole, Cause, Echo, Held, LostPeer, Path, ProbeResult, Role};
use super::super::{Lack, LinkEvent, Policy, Refusal, Roles, Timing};
use super::world::{A, B, World};
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

pub(super) fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

#[test]
fn a_node_alone_probes_before_it_owns() {
    let mut world = World::new(1);
    world.start(A);
    world.run(260);
    assert!(world.is_primary(A));
    assert_eq!(world.causes(A), [Cause::NobodyThere]);
    let (at, change) = world.last_ownership(A).expect("a owns");
    assert!(at >= 120, "refused dial, short silence, probe: {at}");
    assert_eq!((change.held, change.epoch), (Held::Nothing, Epoch(2)));
}

#[test]
fn both_starting_at_once_agree_on_node_a_without_a_second_speaker() {
    for seed in 0..50 {
        let mut world = World::new(seed);
        let (first, second) = if seed % 2 == 0 { (A, B) } else { (B, A) };
        world.start(first);
        world.run(seed % 20);
        world.start(second);
        world.run_until("duplex", 1000, |world| world.is_duplex(A));
        assert_eq!(world.causes(A), [Cause::PeerAgreed, Cause::StandbySynced]);
    }
}

#[test]
fn a_returning_node_joins_as_standby_and_does_not_preempt() {
    let mut world = World::duplex(2);
    world.kill(A);
    world.run_until("b takes over", 20, |world| world.is_primary(B));
    world.start(A);
    world.run_until("a protects b", 600, |world| world.is_duplex(B));
    assert_eq!(world.causes(A), [Cause::PeerOwns]);
}

#[test]
fn a_standby_with_proof_of_process_death_does_not_wait() {
    let mut world = World::duplex(3);
    let killed = world.now / 1000;
    world.kill(A);
    world.run(100);
    let (at, change) = world.last_ownership(B).expect("b owns");
    assert!(at - killed <= 3, "took {} ms", at - killed);
    assert_eq!((change.cause, change.held), (Cause::LinkRefused, Held::Whole));
}

#[test]
fn a_primary_with_proof_of_the_standbys_death_goes_on_alone_at_once() {
    let mut world = World::duplex(4);
    let killed = world.now / 1000;
    world.kill(B);
    world.run(100);
    let (at, change) = world.last_ownership(A).expect("a goes on");
    assert!(at - killed <= 3, "took {} ms", at - killed);
    assert_eq!((change.cause, change.held), (Cause::LinkRefused, Held::Whole));
    assert!(world.speaks(A) && !world.protected(A));
}

#[test]
fn a_standby_that_is_restarted_at_once_is_proof_too() {
    let mut world = World::duplex(5);
    world.kill(B);
    world.start(B);
    world.run_until("duplex again", 600, |world| world.is_duplex(A));
    assert_eq!(world.causes(A).last(), Some(&Cause::StandbySynced));
    assert!(!world.is_primary(B));
}

#[test]
fn a_primary_that_is_restarted_at_once_has_lost_the_address() {
    let mut world = World::duplex(6);
    world.kill(A);
    world.start(A);
    world.run_until("b owns", 20, |world| world.is_primary(B));
    world.run_until("a protects b", 600, |world| world.is_duplex(B));
    let (_, change) = world.last_ownership(B).expect("b owns");
    assert_eq!((change.cause, change.held), (Cause::PeerRestarted, Held::Whole));
}

#[test]
fn a_primary_host_that_loses_power_is_replaced_after_the_detection_time() {
    let mut world = World::duplex(7);
    let lost = world.now / 1000;
    world.power_off(A);
    world.run(100);
    let (at, change) = world.last_ownership(B).expect("b owns");
    assert!((40..=60).contains(&(at - lost)), "took {} ms", at - lost);
    assert_eq!((change.cause, change.held), (Cause::PeerSilent, Held::Whole));
}

#[test]
fn a_standby_host_that_loses_power_is_left_behind_after_the_table_s_time() {
    let mut world = World::duplex(8);
    let lost = world.now / 1000;
    world.power_off(B);
    world.run(60);
    assert!(!world.speaks(A), "I3: the lease is over");
    world.run(140);
    let (at, change) = world.last_ownership(A).expect("a goes on");
    // The last beat was up to 10 ms and a late turn old.
    assert!((138..=170).contains(&(at - lost)), "took {} ms", at - lost);
    assert_eq!((change.cause, change.held), (Cause::PeerSilent, Held::Whole));
}

#[test]
fn a_frozen_primary_never_speaks_after_its_lease() {
    for seed in 0..40 {
        let mut world = World::duplex(100 + seed);
        world.freeze(A);
        world.run_until("b takes over", 80, |world| world.is_primary(B));
        world.run(seed * 37);
        world.thaw(A);
        assert!(!world.speaks(A), "I3: thawed, before anything else");
        world.run_until("a protects b", 600, |world| world.is_duplex(B));
        assert!(world.causes(A).contains(&Cause::Superseded));
    }
}

/// What it finds in its buffers when it wakes was said before it slept.
#[test]
fn a_primary_that_slept_past_its_lease_protects_nobody_before_its_standbys_next_echo() {
    let mut world = World::duplex(11);
    world.freeze(A);
    world.run(20);
    world.cut_path(Path::Replication);
    world.cut_path(Path::Lan);
    world.set_lan(B, false);
    world.run(400);
    world.thaw(A);
    assert!(world.is_duplex(A) && !world.protected(A), "I7\n{}", world.tell());
    world.set_lan(B, true);
    world.heal_paths();
    world.run_until("duplex", 1500, World::has_converged);
}

#[test]
fn a_primary_frozen_for_less_than_its_lease_stays() {
    let mut world = World::duplex(9);
    world.freeze(A);
    world.run(30);
    world.thaw(A);
    world.run(200);
    assert!(world.is_duplex(A) && world.causes(A).is_empty() && world.causes(B).is_empty());
}

#[test]
fn a_frozen_standby_is_left_behind_and_does_not_take_over_when_it_wakes() {
    for seed in 0..40 {
        let mut world = World::duplex(200 + seed);
        world.freeze(B);
        world.run(400 + seed * 11);
        assert!(world.speaks(A) && !world.is_duplex(A));
        world.thaw(B);
        world.run_until("duplex again", 600, |world| world.is_duplex(A));
        assert!(!world.causes(B).contains(&Cause::PeerSilent));
    }
}

#[test]
fn a_standby_that_slept_through_its_replacement_does_not_pass_off_old_state() {
    let mut world = World::duplex(10);
    world.freeze(B);
    world.run(500);
    world.kill(A);
    world.run(50);
    world.thaw(B);
    world.run_until("b owns", 600, |world| world.is_primary(B));
    let (_, change) = world.last_ownership(B).expect("b owns");
    assert_ne!(change.held, Held::Whole, "I6: a served alone while b slept");
}

#[test]
fn both_hosts_frozen_together_go_on_as_before_or_change_sides_but_never_speak_both() {
    for seed in 0..40 {
        let mut world = World::duplex(300 + seed);
        world.freeze(A);
        world.freeze(B);
        world.run(2000);
        world.thaw(if seed % 2 == 0 { A } else { B });
        world.run(seed);
        world.thaw(A);
        world.thaw(B);
        world.run_until("duplex", 1500, World::has_converged);
    }
}

/// The standby finds the link stalled, and leaves, in the very moment in which it might have taken
/// over: what it says afterwards shows that it did not.
#[test]
fn a_primary_that_slept_while_its_standby_left_keeps_its_connections() {
    let mut left = 0;
    for wait in 0..20 {
        let mut world = World::duplex(700 + wait);
        world.forget();
        world.cut_from(Path::Replication, A);
        world.run(8);
        world.freeze(A);
        world.run(38 + wait);
        world.heal_paths();
        world.thaw(A);
        world.run_until("duplex again", 1500, World::has_converged);
        let alone = world.hosts[A].changes.iter().find_map(|(_, action)| match action {
            Action::GoSimplex(change) => Some(change.held),
            _ => None,
        });
        if world.last_ownership(B).is_none() && alone.is_some() {
            left += 1;
            assert_eq!(alone, Some(Held::Whole), "nobody else owned: {}", world.tell());
        }
    }
    assert!(left > 0, "the moment was never met");
}

#[test]
fn an_unsynchronised_standby_takes_over_with_proof_and_says_so() {
    let mut world = World::new(11);
    world.start(A);
    world.run(300);
    world.start(B);
    world.run_until("b follows", 100, |world| {
        world.role(B) == Some(Role::Standby { synced: false })
    });
    world.run(3);
    world.kill(A);
    world.run_until("b owns", 600, |world| world.is_primary(B));
    let (_, change) = world.last_ownership(B).expect("b owns");
    assert_eq!((change.cause, change.held), (Cause::LinkRefused, Held::Doubtful));
}

#[test]
fn a_primary_without_lan_hands_over() {
    let mut world = World::duplex(12);
    world.set_lan(A, false);
    world.run_until("b owns", 30, |world| world.is_primary(B));
    assert_eq!(world.causes(A)[0], Cause::LanLost);
    let (_, change) = world.last_ownership(B).expect("b owns");
    assert_eq!((change.cause, change.held), (Cause::HandedOver, Held::Whole));
    world.run_until("a protects b", 600, |world| world.is_duplex(B));
}

/// Its giver is silent, and heard to be: nothing has been served meanwhile.
#[test]
fn an_heir_that_was_without_lan_when_it_was_handed_the_address_holds_everything() {
    for seed in 0..20 {
        let mut world = World::duplex(1200 + seed);
        assert!(world.switchover(A));
        world.set_lan(B, false);
        world.run(150 + seed);
        world.set_lan(B, true);
        world.run_until("b owns", 100, |world| world.is_primary(B));
        let (_, change) = world.last_ownership(B).expect("b owns");
        assert_eq!(change.held, Held::Whole, "{}", world.tell());
    }
}

#[test]
fn a_primary_without_lan_and_without_standby_stays() {
    let mut world = World::duplex(13);
    world.kill(B);
    world.run(20);
    world.set_lan(A, false);
    world.run(1000);
    assert!(world.is_primary(A) && !world.speaks(A));
    world.set_lan(A, true);
    world.run(100);
    assert!(world.speaks(A));
}

#[test]
fn a_standby_without_lan_does_not_take_over_until_it_has_it() {
    let mut world = World::duplex(14);
    assert!(world.protected(A));
    world.set_lan(B, false);
    world.run(30);
    assert!(!world.protected(A), "I7: b could not be reached by clients");
    world.kill(A);
    world.run(1000);
    assert!(!world.is_primary(B));
    world.set_lan(B, true);
    world.run(60);
    assert!(world.speaks(B));
}

#[test]
fn a_standby_without_lan_leaves_the_address_to_a_restarted_peer() {
    let mut world = World::duplex(15);
    world.set_lan(B, false);
    world.kill(A);
    world.run(50);
    world.start(A);
    world.run_until("a owns again", 1500, |world| world.is_primary(A));
    world.set_lan(B, true);
    world.run_until("duplex", 600, |world| world.is_duplex(A));
}

#[test]
fn switchover_moves_the_role_and_the_old_owner_protects_the_new() {
    let mut world = World::duplex(16);
    assert!(world.switchover(A));
    assert!(!world.speaks(A), "the primary is silent first");
    world.run_until("b owns", 10, |world| world.is_primary(B));
    let (_, change) = world.last_ownership(B).expect("b owns");
    assert_eq!((change.cause, change.held), (Cause::HandedOver, Held::Whole));
    world.run_until("a protects b", 600, |world| world.is_duplex(B));
    assert!(!world.switchover(A), "only a primary hands over");
}

#[test]
fn switchover_and_crash_of_the_old_owner() {
    for wait in 0..4 {
        let mut world = World::duplex(17 + wait);
        assert!(world.switchover(A));
        world.run(wait);
        world.kill(A);
        world.run_until("b owns", 30, |world| world.is_primary(B));
        world.run(500);
        assert!(world.speaks(B));
        let (_, change) = world.last_ownership(B).expect("b owns");
        assert_eq!(change.held, Held::Whole);
    }
}

#[test]
fn switchover_and_crash_of_the_new_owner() {
    for wait in 0..4 {
        let mut world = World::duplex(27 + wait);
        assert!(world.switchover(A));
        world.run(wait);
        world.kill(B);
        world.run_until("a owns", 700, |world| world.speaks(A));
        let (_, change) = world.last_ownership(A).expect("a owns");
        assert_ne!(change.held, Held::Whole, "I6: b may have owned for a moment");
    }
}

#[test]
fn switchover_onto_a_standby_that_freezes_comes_back_or_goes_through() {
    for seed in 0..20 {
        let mut world = World::duplex(40 + seed);
        assert!(world.switchover(A));
        world.freeze(B);
        world.run(seed * 40);
        world.thaw(B);
        world.run_until("one owner", 1500, World::has_converged);
    }
}

#[test]
fn a_handover_read_after_the_address_was_asked_back_is_void() {
    for seed in 0..20 {
        let mut world = World::duplex(500 + seed);
        assert!(world.switchover(A));
        world.freeze(B);
        world.run_until("a owns again", 400, |world| world.speaks(A));
        world.run(seed * 3);
        world.thaw(B);
        world.run_until("duplex again", 700, |world| world.is_duplex(A));
        assert!(!world.is_primary(B) && !world.causes(B).contains(&Cause::HandedOver));
    }
}

#[test]
fn a_proof_read_after_a_pause_does_not_unseat_the_successor() {
    for seed in 0..20 {
        let mut world = World::duplex(600 + seed);
        world.freeze(B);
        world.run(20);
        world.kill(A);
        world.start(A);
        world.run_until("the new a owns", 600, |world| world.speaks(A));
        world.run(seed * 3);
        world.thaw(B);
        world.run_until("duplex again", 700, |world| world.is_duplex(A));
        assert!(!world.causes(B).contains(&Cause::PeerRestarted));
    }
}

#[test]
fn a_cut_link_with_beats_on_the_lan_lets_the_primary_go_on_by_consent() {
    for seed in 0..20 {
        let mut world = World::duplex(60 + seed);
        world.cut_path(Path::Replication);
        world.run(100);
        assert!(world.speaks(A));
        let cause = world.last_ownership(A).map(|(_, change)| change.cause);
        assert!(matches!(cause, Some(Cause::StandbyRenounced | Cause::StandbyLeft)), "{cause:?}");
        assert!(!world.is_primary(B));
        world.heal_paths();
        world.run_until("duplex again", 600, |world| world.is_duplex(A));
    }
}

#[test]
fn a_link_cut_in_one_direction_is_given_up_by_both() {
    for from in [A, B] {
        let mut world = World::duplex(80 + from as u64);
        world.cut_from(Path::Replication, from);
        world.run(120);
        assert!(world.speaks(A) && !world.is_primary(B));
        world.heal_paths();
        world.run_until("duplex again", 700, |world| world.is_duplex(A));
    }
}

#[test]
fn silence_on_the_lan_path_alone_changes_nothing() {
    let mut world = World::duplex(90);
    world.cut_path(Path::Lan);
    world.run(1000);
    assert!(world.is_duplex(A) && world.speaks(A));
    assert!(world.causes(A).is_empty() && world.causes(B).is_empty());
}

#[test]
fn a_healed_split_leaves_the_later_epoch() {
    for seed in 0..20 {
        let mut world = World::duplex(400 + seed);
        world.cut_path(Path::Lan);
        world.cut_path(Path::Replication);
        world.run(700);
        assert!(world.speaks(A) && world.speaks(B), "the documented split");
        world.heal_paths();
        world.run_until("one owner", 1000, World::has_converged);
        assert!(world.is_primary(A), "4 over 3");
    }
}

/// The only survivor is told, by recordings, that the other one owns.
#[test]
fn beats_of_an_earlier_run_move_nobody() {
    for seed in 0..20 {
        let mut world = World::duplex(1300 + seed);
        let sleepy = seed % 2 == 0;
        world.kill(A);
        world.kill(B);
        world.run(100);
        world.start(B);
        if sleepy {
            world.run_until("b owns", 600, |world| world.is_primary(B));
        }
        world.play_all(A, BeatRole::Primary);
        world.run_until("b owns", 900, |world| world.is_primary(B));
        for _ in 0..1000 {
            world.run(1);
            assert!(world.speaks(B), "{}", world.tell());
        }
        assert_eq!(world.causes(B).last(), Some(&Cause::NobodyThere));
    }
}

/// Of this run of the one that hears them, too: their sender is dead, whatever they say.
#[test]
fn beats_of_the_peers_earlier_runs_do_not_stand_in_for_it() {
    for seed in 0..20 {
        let mut world = World::duplex(1400 + seed);
        // A hundred runs ago: nobody remembers that one.
        for _ in 0..100 {
            world.kill(B);
            world.run(20);
            world.start(B);
            world.run(60);
        }
        world.run_until("duplex", 900, |world| world.is_duplex(A));
        world.play(B, 2000, 500);
        world.power_off(B);
        world.run(160);
        assert!(world.speaks(A) && !world.is_duplex(A), "{}", world.tell());
        world.run(1000);
        assert!(world.speaks(A));
    }
}

/// However long the one that was known has been silent.
#[test]
fn a_long_silence_makes_no_recording_believable() {
    for seed in 0..20 {
        let mut world = World::duplex(1450 + seed);
        assert!(world.switchover(A));
        world.run_until("duplex", 900, |world| world.is_duplex(B));
        world.kill(A);
        world.kill(B);
        world.run(20);
        world.start(A);
        world.run_until("a owns", 600, |world| world.is_primary(A));
        world.start(B);
        world.run_until("duplex", 900, |world| world.is_duplex(A));
        world.power_off(B);
        world.run(400);
        world.play_all(B, BeatRole::Primary);
        for _ in 0..500 {
            world.run(1);
            assert!(world.speaks(A), "{}", world.tell());
        }
    }
}

#[test]
fn recordings_do_not_keep_a_standby_from_taking_over() {
    for seed in 0..20 {
        let mut world = World::duplex(1500 + seed);
        world.kill(A);
        world.start(A);
        world.run_until("duplex", 900, |world| world.is_duplex(B));
        world.run(20);
        assert!(world.switchover(B), "{}", world.tell());
        world.run_until("duplex", 900, |world| world.is_duplex(A));
        world.run(20);
        let lost = world.now / 1000;
        world.play(A, 4000, 400);
        world.power_off(A);
        world.run_until("b owns", 80, |world| world.speaks(B));
        let (at, change) = world.last_ownership(B).expect("b owns");
        assert!(at - lost <= 70 && change.held == Held::Whole, "{} ms", at - lost);
    }
}

/// Nor are two that start pinned to those who are dead, however many recordings come between.
#[test]
fn two_that_start_find_one_another_among_recordings() {
    for seed in 0..30 {
        let mut world = World::duplex(1600 + seed);
        for _ in 0..5 {
            world.kill(A);
            world.kill(B);
            world.run(20);
            world.start(A);
            world.start(B);
            world.run(200);
        }
        world.kill(A);
        world.kill(B);
        world.run(50);
        world.play(A, 3000, 2000);
        world.play(B, 3000, 2000);
        world.start(B);
        world.run(seed);
        world.start(A);
        world.run_until("duplex", 1200, World::has_converged);
    }
}

/// A node that starts follows a living owner after one round trip of beats.
#[test]
fn an_owner_is_known_after_a_round_trip_of_beats() {
    for seed in 0..20 {
        let mut world = World::new(1700 + seed);
        world.start(A);
        world.run_until("a owns", 300, |world| world.is_primary(A));
        world.run(seed);
        world.cut_from(Path::Lan, B);
        world.start(B);
        world.run_until("b follows", 25, |world| {
            world.role(B) == Some(Role::Standby { synced: false })
        });
    }
}

// Against one machine alone.

pub(super) fn beat(role: BeatRole, epoch: u64, sequence: u64, echo: u64) -> Beat {
    Beat {
        node: Node::B,
        boot: 7,
        sequence,
        epoch: Epoch(epoch),
        role,
        sent: at(sequence).as_nanos(),
        echo: Echo { boot: 1, sent: at(echo).as_nanos() },
        synced: role == BeatRole::Standby,
        lan_ok: true,
        arbiter_ok: true,
        fit: true,
        hears_lan: true,
    }
}

pub(super) fn drain(roles: &mut Roles) -> Vec<Action> {
    core::iter::from_fn(|| roles.poll_action()).collect()
}

pub(super) fn tick(roles: &mut Roles, from: u64, to: u64) {
    for millis in from..=to {
        roles.on_timer(at(millis));
        roles.poll_beat(at(millis));
    }
}

/// Node `a` (boot 1) in duplex with boot 7 at 1000 ms.
pub(super) fn duplex_a(policy: Policy) -> Roles {
    let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), policy);
    tick(&mut roles, 601, 900);
    roles.on_probe(at(900), ProbeResult::Clear);
    tick(&mut roles, 901, 990);
    roles.on_heartbeat(at(990), Path::Lan, &beat(BeatRole::Joining, 0, 1, 980));
    roles.on_link(at(991), LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Standby });
    tick(&mut roles, 992, 999);
    roles.on_duplex(at(1000));
    drain(&mut roles);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    roles
}

/// It beats, hears nothing, and does not take over: it has no LAN, say, and cannot know any more.
#[test]
fn a_standby_that_hears_nothing_protects_nobody() {
    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1020);
    for millis in 1020..1200 {
        tick(&mut roles, millis, millis);
        let sequence = millis - 1000;
        let deaf = beat(BeatRole::Standby, 2, sequence, 1010);
        roles.on_heartbeat(at(millis), Path::Replication, &deaf);
        roles.on_heartbeat(at(millis), Path::Lan, &deaf);
        assert_eq!(roles.is_protected(at(millis)), millis < 1010 + 95, "{millis}");
    }
}

/// It is asked in the middle of the turn in which it slept.
#[test]
fn who_stood_still_and_has_not_looked_since_protects_nobody() {
    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1019);
    let heard = beat(BeatRole::Standby, 2, 20, 1015);
    roles.on_heartbeat(at(1020), Path::Replication, &heard);
    roles.on_heartbeat(at(1020), Path::Lan, &heard);
    assert!(roles.is_protected(at(1040)));
    assert!(!roles.is_protected(at(1050)), "its lease lasts until 1060, and it does not know");
}

/// A link may be back long before the first heartbeat.
#[test]
fn a_standby_that_is_not_heard_is_none_yet() {
    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1300);
    assert_eq!(roles.role(), Role::Primary { duplex: false }, "it was never heard");
    roles.on_link(at(1300), LinkEvent::Lost);
    roles.on_link(at(1301), LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Joining });
    roles.on_duplex(at(1310));
    assert_eq!(roles.role(), Role::Primary { duplex: false });
    roles.on_heartbeat(at(1311), Path::Lan, &beat(BeatRole::Standby, 2, 30, 1305));
    roles.on_duplex(at(1311));
    assert_eq!(roles.role(), Role::Primary { duplex: true });
}

#[test]
fn an_old_echo_renews_nothing_and_a_foreign_one_neither() {
    let mut roles = duplex_a(Policy::default());
    assert_eq!(roles.speak_until(), at(1045));
    tick(&mut roles, 1001, 1020);
    roles.on_heartbeat(at(1020), Path::Lan, &beat(BeatRole::Standby, 2, 20, 1010));
    assert_eq!(roles.speak_until(), at(1055));
    roles.on_heartbeat(at(1021), Path::Lan, &beat(BeatRole::Standby, 2, 21, 1005));
    let future = beat(BeatRole::Standby, 2, 22, 1500);
    roles.on_heartbeat(at(1022), Path::Lan, &future);
    let echo = Echo { boot: 2, sent: at(1022).as_nanos() };
    roles.on_heartbeat(at(1023), Path::Lan, &Beat { echo, ..beat(BeatRole::Standby, 2, 23, 0) });
    assert_eq!(roles.speak_until(), at(1055), "I3: only what the standby heard of us counts");
}

#[test]
fn a_beat_of_a_process_long_replaced_proves_nothing() {
    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1010);
    let ghost = Beat { boot: 6, ..beat(BeatRole::Joining, 0, 900, 700) };
    roles.on_heartbeat(at(1010), Path::Lan, &ghost);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    let successor = Beat { boot: 8, ..beat(BeatRole::Joining, 0, 1, 1005) };
    roles.on_heartbeat(at(1011), Path::Lan, &successor);
    assert_eq!(roles.role(), Role::Primary { duplex: false });
}

#[test]
fn consent_counts_only_if_it_answers_the_question() {
    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1010);
    roles.on_link(at(1010), LinkEvent::Lost);
    assert_eq!(roles.beat_role(), BeatRole::Parting);
    let renounced = |sequence, echo| beat(BeatRole::Renounced, 2, sequence, echo);
    roles.on_heartbeat(at(1011), Path::Lan, &renounced(30, 999));
    assert_eq!(roles.role(), Role::Primary { duplex: true }, "said before it was asked");
    tick(&mut roles, 1011, 1015);
    roles.on_heartbeat(at(1015), Path::Lan, &renounced(31, 1012));
    assert_eq!((roles.role(), roles.epoch()), (Role::Primary { duplex: false }, Epoch(4)));
}

#[test]
fn a_refusal_without_a_lost_link_is_no_proof() {
    let mut roles = duplex_a(Policy::default());
    roles.on_link(at(1001), LinkEvent::Refused);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    roles.on_link(at(1002), LinkEvent::Lost);
    assert!(drain(&mut roles).contains(&Action::Knock));
    roles.on_link(at(1003), LinkEvent::Refused);
    assert_eq!(roles.role(), Role::Primary { duplex: false });
}

#[test]
fn policy_stop_keeps_a_primary_silent_that_hears_nothing() {
    let mut roles = duplex_a(Policy { lost_peer: LostPeer::Stop, ..Policy::default() });
    tick(&mut roles, 1001, 3000);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    assert!(roles.speak_until() <= at(1045));
}

#[test]
fn a_claim_heard_while_silent_stands_a_primary_down() {
    let mut roles = duplex_a(Policy::default());
    roles.on_claimed(at(1005));
    assert!(drain(&mut roles).contains(&Action::Announce), "with a lease it answers");
    tick(&mut roles, 1006, 1060);
    roles.on_claimed(at(1060));
    assert_eq!(roles.role(), Role::Joining);
    assert_eq!(roles.speak_until(), Instant::ZERO);
}

#[test]
fn a_stranger_that_holds_the_address_ends_a_cold_start() {
    let mut roles = Roles::new(at(0), Node::A, 1, Timing::default(), Policy::default());
    tick(&mut roles, 1, 251);
    assert!(drain(&mut roles).contains(&Action::Probe));
    roles.on_probe(at(260), ProbeResult::InUse);
    tick(&mut roles, 261, 520);
    assert!(
        drain(&mut roles).contains(&Action::Exit(super::super::Exit::AddressInUse)),
        "nobody turned out to be the peer"
    );
}

#[test]
fn an_unpaired_node_speaks_without_end() {
    let policy = Policy { paired: false, ..Policy::default() };
    let mut roles = Roles::new(at(0), Node::A, 1, Timing::default(), policy);
    roles.on_timer(at(1));
    roles.on_probe(at(2), ProbeResult::Clear);
    assert_eq!(roles.speak_until(), Instant::NEVER);
    assert_eq!((roles.deadline(), roles.poll_beat(at(3))), (Instant::NEVER, None));
}

#[test]
fn switchover_is_refused_with_its_reason() {
    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1005);
    assert_eq!(roles.on_switchover(at(1005)), Err(Refusal::NotDuplex), "not armed yet");
    let armed = beat(BeatRole::Standby, 2, 20, 1003);
    roles.on_heartbeat(at(1006), Path::Lan, &Beat { lan_ok: false, ..armed });
    assert_eq!(roles.on_switchover(at(1007)), Err(Refusal::PeerLanDown));
    roles.on_heartbeat(at(1008), Path::Lan, &Beat { sequence: 21, ..armed });
    assert_eq!(roles.on_switchover(at(1009)), Ok(()));
    assert_eq!((roles.role(), roles.speak_until()), (Role::Silent, Instant::ZERO));
}

#[test]
fn an_epoch_nobody_can_have_counted_to_is_ignored() {
    let mut roles = duplex_a(Policy::default());
    roles.on_heartbeat(at(1001), Path::Lan, &beat(BeatRole::Primary, u64::MAX, 99, 1000));
    assert_eq!(roles.role(), Role::Primary { duplex: true });
}

#[test]
fn deadlines_lie_ahead_or_are_met_by_the_calls_they_ask_for() {
    let mut roles = duplex_a(Policy::default());
    for millis in 1001..2000 {
        roles.on_timer(at(millis));
        roles.poll_beat(at(millis));
        assert!(roles.deadline() > at(millis), "no busy loop");
        assert!(roles.deadline() <= at(millis) + Duration::from_millis(10));
    }
}

#[test]
fn every_reason_against_protection_has_its_name() {
    let armed = |sequence: u64| beat(BeatRole::Standby, 2, sequence, 1003);
    let lack = |change: &dyn Fn(&mut Roles, &mut Beat)| {
        let mut roles = duplex_a(Policy::default());
        tick(&mut roles, 1001, 1005);
        let mut beat = armed(20);
        change(&mut roles, &mut beat);
        for path in [Path::Replication, Path::Lan] {
            roles.on_heartbeat(at(1006), path, &beat);
        }
        roles.lack(at(1006))
    };
    assert_eq!(lack(&|_, _| ()), None);
    assert_eq!(lack(&|_, beat| beat.synced = false), Some(Lack::NotSynced));
    assert_eq!(lack(&|_, beat| beat.lan_ok = false), Some(Lack::Refused(Refusal::PeerLanDown)));
    assert_eq!(lack(&|_, beat| beat.fit = false), Some(Lack::PeerUnfit));
    assert_eq!(lack(&|_, beat| beat.hears_lan = false), Some(Lack::LanUnheard));
    assert_eq!(lack(&|roles, _| roles.on_peer_host(at(1005), false)), Some(Lack::PeerUnfit));
    let unfit = |roles: &mut Roles, beat: &mut Beat| {
        roles.on_host(at(1005), false);
        beat.fit = false;
    };
    assert_eq!(lack(&unfit), Some(Lack::Unfit), "nor does it hand over to one that is unfit, too");

    let mut roles = duplex_a(Policy::default());
    tick(&mut roles, 1001, 1005);
    roles.on_heartbeat(at(1006), Path::Replication, &armed(20));
    tick(&mut roles, 1006, 1050);
    roles.on_heartbeat(at(1050), Path::Replication, &beat(BeatRole::Standby, 2, 21, 1049));
    assert!(
        matches!(roles.lack(at(1060)), Some(Lack::LanSilent { .. })),
        "{:?}",
        roles.lack(at(1060))
    );
    assert_eq!(roles.lack(at(1090)), Some(Lack::Paused), "it stood still");
    tick(&mut roles, 1090, 1103);
    assert!(matches!(roles.lack(at(1103)), Some(Lack::Silent { .. })));
    let roles = Roles::new(at(0), Node::A, 1, Timing::default(), Policy::default());
    assert_eq!(roles.lack(at(0)), Some(Lack::NotPrimary));
}
