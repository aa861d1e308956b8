//! Stories of files of which both hosts have a copy: alike, different, or not compared yet (I6).

use super::client::Mode;
use super::world::{FILES, World};
use crate::engine::{Fate, Notice};
use crate::service::Difference;
use crate::time::Duration;

/// A download that is under way, and neither done nor near its end.
fn download(world: &mut World) {
    world.connect(FILES, Mode::Fetch);
    world.run_for(Duration::from_micros(1500));
    assert!((1..2_000_000).contains(&world.clients[0].received()), "{}", world.story());
}

fn protected(world: &mut World) -> [bool; 2] {
    let now = world.now;
    [0, 1].map(|host| world.engine(host).status(now).protected)
}

/// Whether `host` said that a takeover would lose the download, or that it was reset, for `why`.
fn said(world: &World, host: usize, fate: Fate, why: Difference) -> bool {
    world.told(host).any(|notice| {
        matches!(notice, Notice::File(file)
            if (file.fate, &*file.path, file.why) == (fate, "big.bin", Some(why)))
    })
}

/// The heir resets the client's connection rather than send another byte, counts it, and says why.
fn assert_reset_by(world: &mut World, heir: usize, why: Difference) {
    world.run_until("the heir owns", |world| world.is_primary(heir));
    world.run_until("the client is told", |world| world.clients[0].has_ended());
    assert_eq!(world.clients[0].wrong(), None, "{}", world.story());
    assert!(world.clients[0].received() < 3_000_000, "{}", world.story());
    let now = world.now;
    let stats = world.engine(heir).status(now).stats;
    assert_eq!((stats.not_continued, stats.carried), (1, 1), "{}", world.story());
    assert!(said(world, heir, Fate::Reset, why), "{}", world.story());
}

/// Copies of one length and one time, and nobody has looked into them.
#[test]
fn a_reply_that_is_not_compared_is_not_protected_and_not_continued() {
    for (other_copy, kill) in [(true, true), (false, true), (true, false)] {
        let mut world = World::new();
        world.hosts[1].other_copy = other_copy;
        (0..2).for_each(|host| world.hosts[host].unhashed.set(true));
        world.start(0);
        world.run_until("host 0 owns", |world| world.is_primary(0));
        world.start(1);
        world.run_until("duplex", World::is_duplex);
        world.run_for(Duration::from_millis(50));
        assert_eq!(protected(&mut world), [true; 2], "nothing is sent yet");
        download(&mut world);
        world.run_for(Duration::from_micros(100));
        assert!(!protected(&mut world)[1], "{}", world.story());
        if kill {
            world.kill(0);
        } else {
            // As an operator who has been told and wants it nevertheless.
            world.poweroff(0);
        }
        assert_reset_by(&mut world, 1, Difference::Unpinned);
    }
}

#[test]
fn a_copy_of_the_same_length_and_time_with_another_byte_is_not_continued() {
    let mut world = World::new();
    world.hosts[1].other_copy = true;
    world.start(0);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    download(&mut world);
    assert!(!protected(&mut world)[1], "{}", world.story());
    assert!(said(&world, 1, Fate::Exposed, Difference::Content), "{}", world.story());
    world.kill(0);
    assert_reset_by(&mut world, 1, Difference::Content);
}

#[test]
fn a_reply_is_protected_once_its_content_is_hashed() {
    let mut world = World::duplex();
    world.hosts[0].unhashed.set(true);
    download(&mut world);
    assert!(!protected(&mut world)[1], "{}", world.story());
    world.hosts[0].unhashed.set(false);
    world.run_for(Duration::from_micros(500));
    assert!(protected(&mut world)[1], "{}", world.story());
    world.kill(0);
    world.finish();
    assert!(world.is_primary(1));
}

/// What began alone and unhashed is told to a standby that comes later.
#[test]
fn a_newcomer_is_told_the_hash_of_what_is_under_way() {
    let mut world = World::new();
    world.start(0);
    world.hosts[0].unhashed.set(true);
    world.run_until("host 0 owns", |world| world.is_primary(0));
    world.connect(FILES, Mode::Fetch);
    world.run_for(Duration::from_micros(300));
    world.hosts[0].unhashed.set(false);
    world.busy_disk(0, true);
    world.start(1);
    world.run_until("duplex", World::is_duplex);
    world.busy_disk(0, false);
    world.run_for(Duration::from_micros(500));
    assert!(!world.clients[0].is_done() && protected(&mut world)[1], "{}", world.story());
    world.kill(0);
    world.finish();
}
