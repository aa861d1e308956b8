//! With an arbiter: its grants one story each, then partitions and storms by the thousand.

use super::super::{Cause, Held, LostArbiter, LostPeer, Path, Policy, Refusal, Role};
use super::world::{A, B, World, arbitrated};
use crate::ids::Node;

fn duplex(seed: u64) -> World {
    World::duplex_with(seed, arbitrated(LostArbiter::Stop))
}

fn sever(world: &mut World) {
    world.cut_path(Path::Replication);
    world.cut_path(Path::Lan);
}

#[test]
fn the_first_owner_waits_for_an_empty_record_and_the_second_start_does_not() {
    let mut world = World::new(1);
    world.policy = arbitrated(LostArbiter::Stop);
    world.start(A);
    world.run(450);
    assert!(!world.is_primary(A), "an empty record may be one that was lost");
    world.run_until("a owns", 400, |world| world.speaks(A));
    world.kill(A);
    world.run(10);
    world.start(A);
    world.run_until("a owns its predecessor's record", 300, |world| world.speaks(A));
}

#[test]
fn two_that_start_together_need_not_wait() {
    let mut world = World::new(2);
    world.policy = arbitrated(LostArbiter::Stop);
    world.start(A);
    world.start(B);
    world.run_until("duplex", 450, |world| world.is_duplex(A));
}

#[test]
fn a_killed_primary_is_replaced_within_a_question_to_the_arbiter() {
    for seed in 0..20 {
        let mut world = duplex(100 + seed);
        let killed = world.now / 1000;
        world.kill(A);
        world.run(100);
        let (at, change) = world.last_ownership(B).expect("b owns");
        assert!(at - killed <= 4, "took {} ms", at - killed);
        assert_eq!((change.cause, change.held), (Cause::LinkRefused, Held::Whole));
        assert!(world.speaks(B));
    }
}

#[test]
fn a_killed_standby_costs_no_silence() {
    for seed in 0..20 {
        let mut world = duplex(150 + seed);
        world.kill(B);
        for _ in 0..100 {
            world.run(1);
            assert!(world.speaks(A), "{}", world.tell());
        }
        assert_eq!(world.causes(A), [Cause::LinkRefused]);
    }
}

#[test]
fn row_15_has_one_speaker_and_the_connections_live() {
    for seed in 0..40 {
        let mut world = duplex(200 + seed);
        sever(&mut world);
        world.run(60);
        assert!(world.speaks(B) && !world.speaks(A), "{}", world.tell());
        let (_, change) = world.last_ownership(B).expect("b owns");
        assert_eq!((change.cause, change.held), (Cause::PeerSilent, Held::Whole));
        world.run(3000);
        assert!(world.speaks(B) && !world.speaks(A));
        world.heal_paths();
        world.run_until("a protects b", 600, |world| world.is_duplex(B));
    }
}

#[test]
fn a_standby_cut_off_from_the_arbiter_too_leaves_the_address_to_the_primary() {
    for seed in 0..40 {
        let mut world = duplex(300 + seed);
        world.arbiter.cut[B] = true;
        sever(&mut world);
        world.run(250);
        assert!(world.speaks(A) && !world.speaks(B), "{}", world.tell());
        let (_, change) = world.last_ownership(A).expect("a goes on");
        assert_eq!((change.cause, change.held), (Cause::PeerSilent, Held::Whole));
        world.arbiter.cut[B] = false;
        world.run(3000);
        assert!(world.speaks(A) && !world.speaks(B), "b finds that a has gone on");
    }
}

/// Patroni's issue 2375: the arbiter's outage demoted healthy nodes.
#[test]
fn an_outage_changes_nothing_in_duplex_but_what_is_said_of_it() {
    for lost in [LostArbiter::Stop, LostArbiter::Table] {
        let mut world = World::duplex_with(400, arbitrated(lost));
        assert!(world.protected(A));
        world.arbiter.down = true;
        for _ in 0..300 {
            world.run(10);
            assert!(world.speaks(A) && world.is_duplex(A), "{}", world.tell());
        }
        assert!(world.causes(A).is_empty() && world.causes(B).is_empty());
        // I7: under `stop` nobody could take over now.
        assert_eq!(world.protected(A), lost == LostArbiter::Table);
        let now = world.now;
        assert_eq!(world.switchover(A), lost == LostArbiter::Table, "at {now}");
        world.arbiter.down = false;
        world.run(300);
        let owner = if lost == LostArbiter::Table { B } else { A };
        world.run_until("protected again", 900, |world| world.protected(owner));
    }
}

#[test]
fn under_stop_a_death_in_an_outage_is_made_good_when_the_arbiter_is_back() {
    let mut world = duplex(500);
    world.arbiter.down = true;
    world.run(300);
    world.kill(A);
    world.run(2000);
    assert!(!world.is_primary(B), "nobody grants it");
    world.arbiter.down = false;
    world.run(250);
    let (_, change) = world.last_ownership(B).expect("b owns");
    // The record says that nobody has owned since.
    assert_eq!((change.cause, change.held), (Cause::LinkRefused, Held::Whole));
    assert!(world.speaks(B));
}

#[test]
fn under_table_a_death_in_a_known_outage_is_made_good_at_once() {
    let mut world = World::duplex_with(550, arbitrated(LostArbiter::Table));
    world.arbiter.down = true;
    world.run(400);
    let killed = world.now / 1000;
    world.kill(A);
    world.run(100);
    let (at, _) = world.last_ownership(B).expect("b owns");
    assert!(at - killed <= 3, "took {} ms", at - killed);
    world.arbiter.down = false;
    world.run(500);
    let record = world.arbiter.record.expect("a record");
    assert_eq!(Some(record.epoch), world.epoch(B), "what was decided without it is written down");
}

#[test]
fn under_table_the_policy_for_a_lost_peer_still_rules_an_outage() {
    let policy = Policy { lost_peer: LostPeer::Stop, ..arbitrated(LostArbiter::Table) };
    let mut world = World::duplex_with(560, policy);
    world.power_off(B);
    world.run(300);
    assert!(world.speaks(A), "the arbiter has granted it");
    let mut world = World::duplex_with(561, policy);
    world.arbiter.down = true;
    world.run(300);
    world.power_off(B);
    world.run(1000);
    assert!(!world.speaks(A), "nobody has, and the table forbids it");
}

#[test]
fn alone_an_owner_outlasts_a_short_outage_and_is_silent_in_a_long_one() {
    let mut world = duplex(600);
    world.power_off(B);
    world.run(600);
    assert!(world.speaks(A));
    world.arbiter.down = true;
    world.run(300);
    assert!(world.speaks(A), "the grant stands");
    world.run(300);
    assert!(!world.speaks(A) && world.is_primary(A), "the grant is over");
    world.arbiter.down = false;
    world.run(250);
    assert!(world.speaks(A) && world.causes(A) == [Cause::PeerSilent], "nothing was lost");
}

#[test]
fn a_newcomer_takes_over_from_a_dead_owner_after_its_lease_and_never_from_a_live_one() {
    for seed in 0..20 {
        let mut world = duplex(700 + seed);
        world.power_off(B);
        world.run(400);
        sever(&mut world);
        world.power_on(B);
        world.start(B);
        world.run(3000);
        assert!(world.speaks(A) && !world.is_primary(B), "{}", world.tell());
        world.power_off(A);
        world.run(400);
        assert!(!world.is_primary(B));
        world.run_until("the lease is over", 600, |world| world.speaks(B));
    }
}

#[test]
fn an_owner_that_loses_its_grant_to_another_stands_down() {
    let mut world = duplex(750);
    world.kill(B);
    world.run(300);
    sever(&mut world);
    world.arbiter.cut[A] = true;
    world.start(B);
    world.run_until("b owns", 1500, |world| world.speaks(B));
    assert!(!world.speaks(A) && world.is_primary(A));
    world.arbiter.cut[A] = false;
    world.run(300);
    assert!(world.causes(A).contains(&Cause::Overruled));
}

#[test]
fn a_record_that_is_lost_is_written_again_and_nobody_else_gets_in() {
    let mut world = duplex(800);
    world.kill(B);
    world.run(300);
    world.arbiter.record = None;
    world.arbiter.revision += 1;
    for _ in 0..100 {
        world.run(10);
        assert!(world.speaks(A), "{}", world.tell());
    }
    assert!(world.arbiter.record.is_some());
}

#[test]
fn an_answer_that_was_lost_is_no_refusal() {
    for seed in 0..40 {
        let mut world = duplex(900 + seed);
        world.arbiter.loss = 300;
        world.kill(A);
        world.run_until("b owns", 3000, |world| world.speaks(B));
        world.arbiter.loss = 0;
        world.start(A);
        world.run_until("a protects b", 1500, |world| world.is_duplex(B));
    }
}

#[test]
fn a_blip_in_an_outage_leaves_the_pair_as_it_was() {
    for seed in 0..20 {
        let mut world = duplex(950 + seed);
        world.arbiter.down = true;
        world.run(300);
        sever(&mut world);
        world.run(80);
        assert!(!world.speaks(A) && !world.speaks(B));
        world.heal_paths();
        world.run(100);
        assert!(world.is_duplex(A) || world.is_primary(A), "{}", world.tell());
        world.arbiter.down = false;
        world.run_until("duplex", 1500, World::has_converged);
    }
}

#[test]
fn a_switchover_goes_through_the_arbiter_and_is_refused_without() {
    let mut world = duplex(970);
    assert!(world.switchover(A));
    world.run(20);
    assert!(world.speaks(B) && world.causes(B).first() == Some(&Cause::HandedOver));
    world.run_until("a protects b", 900, |world| world.is_duplex(B));
    world.arbiter.cut[A] = true;
    world.run(400);
    assert_eq!(world.refusal(B), Some(Refusal::PeerBarred));
}

#[test]
fn an_address_handed_to_a_node_that_loses_the_arbiter_comes_back() {
    for seed in 0..20 {
        let mut world = duplex(980 + seed);
        world.arbiter.cut[B] = true;
        assert!(world.switchover(A), "it is not known yet");
        world.run_until("a owns again", 1500, |world| world.speaks(A));
        assert_eq!(world.role(B), Some(Role::Standby { synced: false }));
        let (_, change) = world.last_ownership(A).expect("a owns");
        assert_eq!(change.held, Held::Whole, "{}", world.tell());
    }
}

/// A late claim of the standby's is written, and then it dies: while our lease ran it cannot have
/// used the grant.
#[test]
fn a_grant_of_a_standby_that_died_under_our_lease_was_never_used() {
    let mut late = 0;
    for seed in 0..40 {
        let mut world = duplex(1020 + seed);
        world.arbiter.delay = (12_000, 1000);
        world.cut_from(Path::Replication, A);
        world.cut_from(Path::Lan, A);
        // It asks for the address, hears us again, and gives that up.
        world.run(50 + seed % 12);
        world.heal_paths();
        world.run(25);
        let granted = world.arbiter.record.is_some_and(|record| record.owner == Node::B);
        if !granted || !world.protected(A) {
            continue;
        }
        late += 1;
        world.kill(B);
        world.run_until("a goes on", 600, |world| {
            world.role(A) == Some(Role::Primary { duplex: false })
        });
        let (_, change) = world.last_ownership(A).expect("a goes on");
        assert_eq!(change.held, Held::Whole, "{}", world.tell());
    }
    assert!(late > 5, "the moment was met {late} times");
}

/// A dying primary was granted an epoch that is later than the one in which its heir has owned since,
/// by the table.
#[test]
fn a_grant_of_a_process_that_was_dead_before_we_owned_was_never_used() {
    let mut late = 0;
    for seed in 0..60 {
        let mut world = World::duplex_with(1240 + seed, arbitrated(LostArbiter::Table));
        world.arbiter.cut[B] = true;
        world.run(400);
        let known = world.epoch(A).expect("a owns");
        world.cut_path(Path::Replication);
        world.run_until("a is granted another epoch", 600, |world| {
            world.arbiter.record.is_some_and(|record| record.epoch > known)
        });
        world.heal_paths();
        world.power_off(A);
        world.run(20);
        world.power_on(A);
        world.start(A);
        world.run_until("b owns", 3000, |world| world.is_duplex(B) && world.protected(B));
        let owned = world.epoch(B).expect("b owns");
        let over = |world: &World| world.arbiter.record.is_some_and(|record| record.epoch > owned);
        if !over(&world) {
            continue;
        }
        world.arbiter.cut[B] = false;
        world.run(300);
        if !over(&world) || !world.protected(B) {
            continue;
        }
        late += 1;
        world.kill(A);
        world.run_until("b goes on", 600, |world| {
            world.role(B) == Some(Role::Primary { duplex: false })
        });
        let (_, change) = world.last_ownership(B).expect("b goes on");
        assert_eq!(change.held, Held::Whole, "{}", world.tell());
    }
    assert!(late > 5, "the moment was met {late} times");
}

/// The standby has said that it left, then its primary sleeps while it waits for its grant: what it
/// hears when it wakes shows that nobody has owned meanwhile.
#[test]
fn a_primary_that_slept_while_it_waited_for_its_grant_keeps_its_connections() {
    for seed in 0..40 {
        let mut world = World::duplex_with(1060 + seed, arbitrated(LostArbiter::Table));
        world.arbiter.delay = (30_000, 1000);
        world.cut_path(Path::Replication);
        world.run_until("b leaves", 100, |world| {
            world.role(B) == Some(Role::Standby { synced: false })
        });
        world.run(2);
        assert!(world.last_ownership(A).is_none(), "it is not granted yet");
        world.freeze(A);
        world.run(60 + seed);
        world.thaw(A);
        world.heal_paths();
        world.run_until("duplex again", 1500, World::has_converged);
        assert!(world.last_ownership(B).is_none());
        let (_, change) = world.last_ownership(A).expect("a goes on");
        assert_eq!(change.held, Held::Whole, "{}", world.tell());
    }
}

/// The standby has owned while both networks between the two were cut. It dies as they heal, and of
/// what its primary asks for meanwhile the first is written and given up for another title: the
/// second, over a record of its own, is still over that of the one who served.
#[test]
fn a_claim_of_ours_that_was_given_up_does_not_hide_who_has_owned() {
    for seed in 0..60 {
        let mut world = duplex(1140 + seed);
        world.arbiter.delay = (5_000, 10_000);
        sever(&mut world);
        world.run_until("b owns", 200, |world| world.speaks(B));
        // Then it waits for b's record to grow old.
        world.run(100 + 7 * seed);
        world.kill(B);
        world.run(530);
        world.start(B);
        world.run(seed % 12);
        world.heal_paths();
        world.run_until("duplex again", 3000, World::has_converged);
        if let Some((_, change)) = world.last_ownership(A) {
            assert_ne!(change.held, Held::Whole, "{}", world.tell());
        }
    }
}

/// The heir's question is lost: it asks again when the answer is overdue, and not a pause later, when
/// the address is asked back.
#[test]
fn a_lost_question_costs_a_switchover_no_more_than_the_arbiters_timeout() {
    for seed in 0..20 {
        let mut world = duplex(1100 + seed);
        world.arbiter.cut[B] = true;
        assert!(world.switchover(A));
        world.run(5);
        world.arbiter.cut[B] = false;
        world.run_until("b owns", 125, |world| world.speaks(B));
        let (_, change) = world.last_ownership(B).expect("b owns");
        assert_eq!(change.held, Held::Whole);
    }
}

/// A confirmation that was under way while its sender left and was granted the address makes no
/// duplex of an owner whose grant is over, and no lease.
#[test]
fn a_late_confirmation_gives_no_right_to_speak() {
    for seed in 0..20 {
        let mut world = duplex(1000 + seed);
        world.kill(B);
        world.run(300);
        world.start(B);
        world.run_until("b follows", 200, |world| {
            world.role(B) == Some(Role::Standby { synced: false })
        });
        // It dials, and gets everything; its answer waits.
        world.run(3);
        world.cut_from(Path::Replication, B);
        world.cut_from(Path::Lan, B);
        world.run(40);
        sever(&mut world);
        world.arbiter.cut[A] = true;
        world.run_until("b owns", 2000, |world| world.speaks(B));
        assert!(world.is_primary(A) && !world.speaks(A));
        world.heal_paths();
        // The world looks for a second speaker at every step.
        world.run_until("a protects b", 900, |world| world.is_duplex(B));
    }
}

/// Both networks between the nodes fail, in one direction or both, again and again, while both
/// live and reach the arbiter or not.
fn partitions(seed: u64, lost: LostArbiter) -> u64 {
    let mut world = World::new(seed);
    world.policy = arbitrated(lost);
    world.loss = [0, 0, 20][world.rng.below(3) as usize];
    world.delay = [(50, 100), (100, 2000)][world.rng.below(2) as usize];
    world.arbiter.delay = [(100, 200), (1000, 5000), (5000, 60_000)][world.rng.below(3) as usize];
    world.arbiter.loss = [0, 0, 50, 300][world.rng.below(4) as usize];
    world.start(A);
    world.start(B);
    world.run(800);
    let mut count = 0;
    for _ in 0..10 {
        for from in [A, B] {
            if world.rng.below(4) > 0 {
                world.cut_from(Path::Replication, from);
                world.cut_from(Path::Lan, from);
            }
            world.arbiter.cut[from] = world.rng.below(3) == 0;
        }
        world.arbiter.down = world.rng.below(8) == 0;
        count += 1;
        let lasts = [30, 60, 100, 200, 600, 1500][world.rng.below(6) as usize];
        for _ in 0..2 {
            let part = world.rng.below(lasts) + 1;
            world.run(part);
            match world.rng.below(8) {
                0 => world.arbiter.cut = [false; 2],
                1 => world.arbiter.cut[A] ^= true,
                2 => {
                    let host = world.rng.below(2) as usize;
                    world.freeze(host);
                    let asleep = world.rng.below(300);
                    world.run(asleep);
                    world.thaw(host);
                }
                3 => {
                    let host = world.rng.below(2) as usize;
                    world.kill(host);
                    let dead = world.rng.below(20);
                    world.run(dead);
                    world.start(host);
                }
                _ => {}
            }
        }
        world.heal_paths();
        let calm = world.rng.below(700);
        world.run(calm);
    }
    heal(&mut world, seed);
    count
}

fn heal(world: &mut World, seed: u64) {
    world.heal_paths();
    world.loss = 0;
    world.arbiter.loss = 0;
    world.arbiter.delay = (100, 200);
    world.arbiter.down = false;
    world.arbiter.cut = [false; 2];
    for host in [A, B] {
        world.power_on(host);
        world.set_lan(host, true);
        world.thaw(host);
        world.start(host);
    }
    let what = format!("seed {seed}: converges to one primary and one armed standby");
    world.run_until(&what, 6000, World::has_converged);
    world.run(300);
    assert!(world.has_converged(), "seed {seed}: stays converged\n{}", world.tell());
}

/// `STANDIN_WORLDS` worlds, or so many that nobody waits for them.
fn worlds() -> u64 {
    let asked = std::env::var("STANDIN_WORLDS").ok();
    asked.and_then(|number| number.parse().ok()).unwrap_or(300)
}

#[test]
fn partitions_never_give_two_speakers_under_stop_nor_two_in_an_epoch_under_table() {
    let mut count = 0;
    for seed in 0..worlds() {
        count += partitions(seed, LostArbiter::Stop);
        count += partitions(1_000_000 + seed, LostArbiter::Table);
    }
    assert_eq!(count, worlds() * 20);
}

#[test]
fn storms_with_an_arbiter_never_give_two_speakers_under_stop_and_converge() {
    for seed in 0..worlds() {
        for (policy, base) in [(LostArbiter::Stop, 2_000_000), (LostArbiter::Table, 3_000_000)] {
            let seed = base + seed;
            let mut world = super::swarm::storm_with(seed, arbitrated(policy));
            heal(&mut world, seed);
        }
    }
}
