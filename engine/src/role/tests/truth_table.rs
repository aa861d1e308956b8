//! `docs/ownership.md`, row by row: who is seen on which path, and who speaks in the end.
//!
//! Every row starts in duplex with `a` as primary. The numbers are those of the document.

use super::super::{Path, Role};
use super::world::{A, B, World};

/// The node that speaks once nothing changes any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speaks {
    Primary,
    Standby,
    Nobody,
    Both,
}

/// What a row does to the world, and what comes of it.
fn row(name: &str, happens: impl Fn(&mut World), speaks: Speaks) {
    for seed in 0..10 {
        let mut world = World::duplex(1000 + seed);
        happens(&mut world);
        world.run(600);
        let found = match (world.speaks(A), world.speaks(B)) {
            (true, false) => Speaks::Primary,
            (false, true) => Speaks::Standby,
            (false, false) => Speaks::Nobody,
            (true, true) => Speaks::Both,
        };
        assert_eq!(found, speaks, "row {name}, seed {seed}\n{}", world.tell());
        world.heal_paths();
        for host in [A, B] {
            world.power_on(host);
            world.set_lan(host, true);
            world.thaw(host);
            world.start(host);
        }
        world.run_until("converges", 2000, World::has_converged);
    }
}

#[test]
fn row_1_both_paths_and_the_link_work() {
    row("1", |_| {}, Speaks::Primary);
}

#[test]
fn row_2_only_the_lan_path_is_silent() {
    row("2", |world| world.cut_path(Path::Lan), Speaks::Primary);
}

#[test]
fn row_2_is_no_protection_until_somebody_answers_on_the_lan() {
    for (seed, from) in [(1100, None), (1101, Some(A)), (1102, Some(B))] {
        let mut world = World::duplex(seed);
        assert!(world.protected(A));
        match from {
            None => world.cut_path(Path::Lan),
            Some(from) => world.cut_from(Path::Lan, from),
        }
        world.run(80);
        assert!(world.is_duplex(A) && !world.protected(A), "{from:?}\n{}", world.tell());
        world.heal_paths();
        world.run(20);
        assert!(world.protected(A), "{from:?}\n{}", world.tell());
    }
}

#[test]
fn row_3_only_the_replication_path_is_silent() {
    row("3", |world| world.cut_path(Path::Replication), Speaks::Primary);
}

#[test]
fn row_4_the_primarys_process_is_dead() {
    row("4", |world| world.kill(A), Speaks::Standby);
}

#[test]
fn row_5_the_standbys_process_is_dead() {
    row("5", |world| world.kill(B), Speaks::Primary);
}

#[test]
fn row_6_the_primarys_host_is_dead() {
    row("6", |world| world.power_off(A), Speaks::Standby);
}

#[test]
fn row_7_the_standbys_host_is_dead() {
    row("7", |world| world.power_off(B), Speaks::Primary);
}

#[test]
fn row_8_the_primary_is_frozen() {
    row("8", |world| world.freeze(A), Speaks::Standby);
}

#[test]
fn row_9_the_standby_is_frozen() {
    row("9", |world| world.freeze(B), Speaks::Primary);
}

#[test]
fn row_10_the_primarys_lan_carrier_is_lost() {
    row("10", |world| world.set_lan(A, false), Speaks::Standby);
}

#[test]
fn row_11_the_standbys_lan_carrier_is_lost() {
    row("11", |world| world.set_lan(B, false), Speaks::Primary);
}

#[test]
fn row_12_the_primary_is_cut_off_from_everything() {
    let cut = |world: &mut World| {
        world.cut_path(Path::Replication);
        world.set_lan(A, false);
    };
    row("12", cut, Speaks::Standby);
}

#[test]
fn row_13_the_standby_is_cut_off_from_everything() {
    let cut = |world: &mut World| {
        world.cut_path(Path::Replication);
        world.set_lan(B, false);
    };
    row("13", cut, Speaks::Primary);
}

#[test]
fn row_14_both_lan_carriers_are_lost() {
    let cut = |world: &mut World| {
        world.set_lan(A, false);
        world.set_lan(B, false);
    };
    row("14", cut, Speaks::Nobody);
}

#[test]
fn row_15_both_paths_are_cut_and_both_carriers_are_up() {
    let cut = |world: &mut World| {
        world.cut_path(Path::Replication);
        world.cut_path(Path::Lan);
    };
    row("15", cut, Speaks::Both);
}

#[test]
fn row_16_the_standby_does_not_hear_the_primary() {
    let cut = |world: &mut World| {
        world.cut_from(Path::Replication, A);
        world.cut_from(Path::Lan, A);
    };
    // It takes over; the primary hears that and is silent.
    row("16", cut, Speaks::Standby);
}

#[test]
fn row_17_the_primary_does_not_hear_the_standby() {
    let cut = |world: &mut World| {
        world.cut_from(Path::Replication, B);
        world.cut_from(Path::Lan, B);
    };
    // It asks the standby to renounce, cannot hear the answer, and goes on after the table's time.
    row("17", cut, Speaks::Primary);
}

#[test]
fn row_18_the_standby_was_not_synchronised_and_both_paths_fall_silent() {
    for seed in 0..10 {
        let mut world = World::new(2000 + seed);
        world.start(A);
        world.run(300);
        world.start(B);
        world.run_until("b follows", 100, |world| {
            world.role(B) == Some(Role::Standby { synced: false })
        });
        world.power_off(A);
        world.run(200);
        assert!(!world.is_primary(B), "without all state it is in no hurry");
        world.run(300);
        assert!(world.speaks(B));
    }
}
