//! Thousands of random worlds: first anything may fail, then everything heals.

use super::super::{Path, Policy};
use super::world::{A, B, World};

/// What the roles promise after the last failure: one owner and one armed standby within this.
const CONVERGENCE_MS: u64 = 4000;

/// A round of failures. `gentle` never severs both paths in one direction, so that the truth table
/// is never needed and I3 is strict.
fn storm(seed: u64, gentle: bool) -> World {
    let mut world = World::new(seed);
    rage(&mut world, gentle);
    world
}

/// A storm over a pair with an arbiter that fails, too.
pub(super) fn storm_with(seed: u64, policy: Policy) -> World {
    let mut world = World::new(seed);
    world.policy = policy;
    world.arbiter.delay = [(100, 200), (1000, 5000), (5000, 60_000)][world.rng.below(3) as usize];
    world.arbiter.loss = [0, 0, 50, 300][world.rng.below(4) as usize];
    rage(&mut world, false);
    world
}

fn rage(world: &mut World, gentle: bool) {
    world.loss = [0, 0, 20, 100][world.rng.below(4) as usize];
    world.delay = [(50, 100), (100, 2000), (200, 8000)][world.rng.below(3) as usize];
    let start = world.rng.below(300);
    world.start(A);
    world.run(start);
    world.start(B);
    let calm = world.rng.below(900);
    world.run(calm);
    for _ in 0..2 + world.rng.below(10) {
        if world.policy.arbiter.is_some() && world.rng.below(4) == 0 {
            outage(world);
        }
        misfortune(world, gentle);
        if world.haunted && world.rng.below(3) == 0 {
            let (host, many) = (world.rng.below(2) as usize, world.rng.below(300));
            world.play(host, many, 200);
        }
        let pause = [1, 5, 40, 120, 500][world.rng.below(5) as usize];
        let pause = world.rng.below(pause) + 1;
        world.run(pause);
    }
}

/// The arbiter's answers stop, or come back.
fn outage(world: &mut World) {
    match world.rng.below(4) {
        0 => world.arbiter.down ^= true,
        1 => world.arbiter.cut[A] ^= true,
        2 => world.arbiter.cut[B] ^= true,
        _ => {
            // A slow store: what is asked now is written when others have been, or never answered.
            world.arbiter.loss = [0, 300][world.rng.below(2) as usize];
            world.arbiter.delay = [(100, 200), (20_000, 90_000)][world.rng.below(2) as usize];
        }
    }
}

fn misfortune(world: &mut World, gentle: bool) {
    let host = world.rng.below(2) as usize;
    match world.rng.below(14) {
        0 => world.kill(host),
        1 | 2 => world.start(host),
        3 => world.power_off(host),
        4 => {
            world.power_on(host);
            world.start(host);
        }
        5 | 6 => world.freeze(host),
        7 | 8 => world.thaw(host),
        9 => {
            let up = world.rng.below(3) > 0;
            world.set_lan(host, up);
        }
        10 => cut(world, host, gentle),
        11 => world.heal_paths(),
        12 => {
            world.switchover(host);
        }
        _ => {
            world.freeze(host);
            let asleep = world.rng.below(300);
            world.run(asleep);
            world.thaw(host);
        }
    }
}

fn cut(world: &mut World, host: usize, gentle: bool) {
    if gentle {
        world.heal_paths();
    }
    let path = if world.rng.below(2) == 0 { Path::Replication } else { Path::Lan };
    if world.rng.below(2) == 0 {
        world.cut_path(path);
    } else {
        world.cut_from(path, host);
        if world.rng.below(2) == 0 && !gentle {
            let other = if path == Path::Lan { Path::Replication } else { Path::Lan };
            world.cut_from(other, host);
        }
    }
}

/// Everything works again.
fn heal(world: &mut World) {
    world.heal_paths();
    world.loss = 0;
    for host in [A, B] {
        world.power_on(host);
        world.set_lan(host, true);
        world.thaw(host);
        world.start(host);
    }
}

/// Somebody who has recorded every beat since the beginning plays them, at any time.
fn haunted(seed: u64, gentle: bool) {
    let mut world = World::new(seed);
    world.haunted = true;
    rage(&mut world, gentle);
    heal(&mut world);
    for host in [A, B] {
        world.play(host, CONVERGENCE_MS, CONVERGENCE_MS);
    }
    let what = format!("seed {seed}: converges among recordings");
    world.run_until(&what, CONVERGENCE_MS, World::has_converged);
    world.run(300);
    assert!(world.has_converged(), "seed {seed}: stays converged\n{}", world.tell());
}

#[test]
fn recordings_of_beats_move_nobody_in_any_storm() {
    for seed in 200_000..200_300 {
        haunted(seed, seed % 2 == 0);
    }
}

fn converge(seed: u64, gentle: bool) {
    let mut world = storm(seed, gentle);
    heal(&mut world);
    let what = format!("seed {seed}: converges to one primary and one armed standby");
    world.run_until(&what, CONVERGENCE_MS, World::has_converged);
    world.run(300);
    assert!(world.has_converged(), "seed {seed}: stays converged\n{}", world.tell());
}

#[test]
fn gentle_storms_never_give_two_speakers_and_converge() {
    for seed in 0..1000 {
        converge(seed, true);
    }
}

#[test]
fn storms_with_partitions_give_two_speakers_only_by_the_truth_table_and_converge() {
    for seed in 100_000..101_000 {
        converge(seed, false);
    }
}
