//! Each condition alone: all others are met, and the role has to look at this one.

use super::super::ownership::claims::{Claims, Permit, Title};
use super::super::{
    Action, ArbiterPolicy, ArbiterRecord, Beat, BeatRole, Cause, Held, LinkEvent, LostArbiter,
    Path, Reply, Report, Role, Roles, Timing,
};
use super::edges::{Store, armed, duplex, follower, owned, simplex, word};
use super::scenarios::{at, beat, drain, tick};
use super::world::arbitrated;
use crate::ids::{Epoch, Node};
use crate::time::Duration;

// An owner.

#[test]
fn an_owner_alone_speaks_on_after_a_short_pause() {
    let mut roles = simplex();
    roles.on_timer(at(1000));
    roles.on_timer(at(1030));
    assert!(roles.speak_until() > at(1030));
}

/// What counts is whether it is deaf when its LAN is back.
#[test]
fn an_owner_looks_around_when_its_lan_is_back_and_not_for_its_loss() {
    let mut roles = simplex();
    tick(&mut roles, 991, 1100);
    roles.on_lan(at(1101), false);
    roles.on_heartbeat(at(1102), Path::Replication, &beat(BeatRole::Joining, 0, 90, 1095));
    roles.on_lan(at(1103), true);
    assert!(roles.speak_until() > at(1103));
}

/// A process that cannot know what its predecessor did resolves no doubt.
#[test]
fn the_successor_of_a_standby_knows_nothing_of_what_that_owned() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1015);
    roles.on_timer(at(1100));
    roles.on_timer(at(1101));
    let successor = Beat { boot: 8, ..beat(BeatRole::Joining, 0, 1, 1101) };
    roles.on_heartbeat(at(1103), Path::Lan, &successor);
    tick(&mut roles, 1104, 1160);
    assert_eq!(owned(&drain(&mut roles)).map(|change| change.held), Some(Held::Doubtful));
}

#[test]
fn a_standby_that_renounces_unasked_has_left() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1004);
    let renounced = Beat { synced: false, ..beat(BeatRole::Renounced, 2, 9, 1003) };
    roles.on_heartbeat(at(1005), Path::Lan, &renounced);
    tick(&mut roles, 1006, 1007);
    assert_eq!(owned(&drain(&mut roles)).map(|change| change.cause), Some(Cause::StandbyLeft));
}

#[test]
fn who_may_not_speak_answers_no_announcement() {
    let mut roles = simplex();
    roles.on_claimed(at(991));
    assert!(drain(&mut roles).contains(&Action::Announce));
    roles.on_lan(at(992), false);
    roles.on_claimed(at(993));
    assert!(!drain(&mut roles).contains(&Action::Announce));
}

/// Node `a` in duplex, which an arbiter has granted, and its standby has just said so.
fn heard(said: impl Fn(Beat) -> Beat) -> Roles {
    let record = Some(ArbiterRecord { owner: Node::A, epoch: Epoch(2), boot: 99 });
    let mut store = Store { record, revision: 1, answers: true, written: 0 };
    let policy = arbitrated(LostArbiter::Stop);
    let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), policy);
    store.tick(&mut roles, 601, 989);
    let epoch = roles.epoch();
    roles.on_heartbeat(at(990), Path::Lan, &beat(BeatRole::Joining, 0, 1, 980));
    roles.on_link(at(991), LinkEvent::Up { boot: 7, epoch, role: BeatRole::Standby });
    store.tick(&mut roles, 992, 999);
    roles.on_duplex(at(1000));
    store.tick(&mut roles, 1000, 1004);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    roles.on_heartbeat(at(1005), Path::Lan, &said(beat(BeatRole::Standby, epoch.0, 9, 1003)));
    roles
}

fn gives_away(mut roles: Roles, millis: u64, happens: impl Fn(&mut Roles)) -> bool {
    happens(&mut roles);
    tick(&mut roles, millis, millis + 1);
    roles.role() == Role::Silent
}

/// What a standby's beat says instead.
type Said = fn(Beat) -> Beat;

/// What makes a standby one to whom the address is not given away, whatever becomes of the owner's host.
const UNABLE: [(&str, Said); 4] = [
    ("it has no LAN", |beat| Beat { lan_ok: false, ..beat }),
    ("it is not synchronised", |beat| Beat { synced: false, ..beat }),
    ("it is none", |beat| Beat { role: BeatRole::Joining, synced: true, ..beat }),
    ("nobody would grant it the address", |beat| Beat { arbiter_ok: false, ..beat }),
];

#[test]
fn an_address_is_given_away_to_one_that_can_take_it() {
    let losses: [fn(&mut Roles); 2] =
        [|roles| roles.on_lan(at(1006), false), |roles| roles.on_host(at(1006), false)];
    for loses in losses {
        assert!(gives_away(heard(|beat| beat), 1007, loses));
        for (why, said) in UNABLE {
            assert!(!gives_away(heard(said), 1007, loses), "{why}");
        }
        // Nor to one that is not heard any more.
        let mut silent = heard(|beat| beat);
        tick(&mut silent, 1006, 1056);
        assert!(!gives_away(silent, 1057, |roles| {
            loses(roles);
            roles.on_timer(at(1057));
        }));
        // Nor to one that got what it has by an earlier link.
        let mut linked = heard(|beat| beat);
        linked.on_link(at(1005), LinkEvent::Lost);
        let (epoch, role) = (linked.epoch(), BeatRole::Standby);
        linked.on_link(at(1006), LinkEvent::Up { boot: 7, epoch, role });
        assert!(!gives_away(linked, 1007, loses));
    }
}

// A standby.

#[test]
fn who_holds_less_renounces_for_one_that_asks_the_address_back() {
    let mut roles = follower();
    roles.on_heartbeat(at(1005), Path::Lan, &word(BeatRole::Candidate, 2, 9, 1003));
    assert_eq!(roles.beat_role(), BeatRole::Renounced);
}

/// As long as the primary says that it hears us it cannot have gone on alone.
#[test]
fn an_armed_standby_takes_over_whole_however_long_it_was_armed() {
    let mut roles = armed();
    for millis in 1006..2000 {
        if millis % 10 == 0 {
            let said = word(BeatRole::Primary, 2, millis, millis - 3);
            roles.on_heartbeat(at(millis), Path::Lan, &said);
        }
        tick(&mut roles, millis, millis);
    }
    drain(&mut roles);
    tick(&mut roles, 2000, 2060);
    assert_eq!(owned(&drain(&mut roles)).map(|change| change.held), Some(Held::Whole));
}

#[test]
fn a_standby_says_at_once_that_it_is_armed() {
    let mut roles = follower();
    tick(&mut roles, 1001, 1004);
    roles.on_synced(at(1004), Epoch(2));
    while roles.poll_beat(at(1004)).is_some() {}
    roles.on_heartbeat(at(1005), Path::Lan, &word(BeatRole::Primary, 2, 5, 1002));
    assert!(roles.poll_beat(at(1005)).is_some_and(|beat| beat.synced));
}

/// Else the two would begin anew for as long as the primary asks.
#[test]
fn who_renounces_twice_keeps_its_fresh_link() {
    let mut roles = follower();
    for millis in [1005, 1006, 1007] {
        roles.on_heartbeat(at(millis), Path::Lan, &word(BeatRole::Parting, 2, millis, 1003));
        assert_eq!(roles.beat_role(), BeatRole::Renounced);
    }
    assert!(!drain(&mut roles).contains(&Action::HangUp));
}

// What is asked of the arbiter, and what is said of that.

const THEIRS: ArbiterRecord = ArbiterRecord { owner: Node::A, epoch: Epoch(4), boot: 1 };

/// The claims of node `b`, process 2, which has seen the record of `a`; and all that they say.
struct Wish {
    claims: Claims,
    said: Vec<Action>,
}

impl Wish {
    fn new() -> Self {
        let (lease, timeout) = (Duration::from_secs(5), Duration::from_millis(500));
        let policy = ArbiterPolicy { lost: LostArbiter::Stop, lease, timeout };
        let claims = Claims::new(at(0), 2, policy, Duration::from_millis(100));
        let mut wish = Self { claims, said: Vec::new() };
        wish.want(10, Title::None);
        wish.answer(11, THEIRS, false);
        wish
    }

    fn want(&mut self, millis: u64, title: Title) -> Permit {
        self.claims.pursue(at(millis), Node::B, 2, title, &mut Epoch(4), &mut self.said)
    }

    /// The last question is answered.
    fn answer(&mut self, millis: u64, record: ArbiterRecord, written: bool) {
        let asked = self.said.iter().rev().find_map(|action| match action {
            Action::Ask(ask) => Some(ask.number),
            _ => None,
        });
        let reply = Some(Reply { record: Some(record), revision: 9, written });
        let number = asked.expect("something was asked");
        self.claims.on_answer(at(millis), number, reply, &mut self.said);
    }

    /// How often `report` was said since the last time.
    fn told(&mut self, report: Report) -> usize {
        let said = core::mem::take(&mut self.said);
        let again = said.iter().filter(|action| **action == Action::Report(report)).count();
        self.said = said.into_iter().filter(|action| matches!(action, Action::Ask(_))).collect();
        again
    }
}

#[test]
fn what_stands_in_the_way_is_said_once_for_each_wish() {
    let mut wish = Wish::new();
    let refused = Report::NotGranted { record: THEIRS };
    for millis in 20..30 {
        assert_eq!(wish.want(millis, Title::None), Permit::Wait);
    }
    assert_eq!(wish.told(refused), 1);
    wish.claims.give_up();
    wish.want(30, Title::None);
    assert_eq!(wish.told(refused), 1, "a new wish");
}

#[test]
fn an_arbiter_that_does_not_answer_is_what_stands_in_the_way() {
    let mut wish = Wish::new();
    wish.claims.attend(at(1200), None, &mut wish.said);
    wish.claims.attend(at(1700), None, &mut wish.said);
    assert!(wish.claims.is_barred());
    for millis in 1701..1710 {
        wish.want(millis, Title::None);
    }
    assert_eq!(wish.told(Report::NotGranted { record: THEIRS }), 0, "it says nothing now");
    for millis in 1710..1720 {
        wish.want(millis, Title::Free);
    }
    assert_eq!(wish.told(Report::Barred), 0, "it was said above");
    // It is back, and is lost again.
    wish.answer(1721, THEIRS, false);
    assert!(!wish.claims.is_barred());
    for millis in 1822..1830 {
        wish.want(millis, Title::Free);
    }
    wish.claims.attend(at(2400), None, &mut wish.said);
    wish.want(2401, Title::Free);
    wish.want(2402, Title::Free);
    assert_eq!(wish.told(Report::Barred), 1);
}

/// It may have been consented away since.
#[test]
fn a_claim_whose_title_is_lost_is_not_used() {
    let mut wish = Wish::new();
    wish.want(12, Title::Free);
    wish.want(13, Title::None);
    let ours = ArbiterRecord { owner: Node::B, epoch: Epoch(5), boot: 2 };
    wish.answer(20, ours, true);
    assert_eq!(wish.want(21, Title::None), Permit::Wait);
    assert!(wish.claims.take_won().is_none());
}

/// A claim of its own that it gave up may have been written.
#[test]
fn nobody_is_overruled_by_itself() {
    for (owner, overruled) in [(Node::A, true), (Node::B, false)] {
        let mut wish = Wish::new();
        wish.claims.attend(at(1200), None, &mut wish.said);
        wish.answer(1201, ArbiterRecord { owner, epoch: Epoch(9), boot: 3 }, false);
        assert_eq!(wish.claims.overruled(Node::B, Epoch(5)).is_some(), overruled, "{owner}");
    }
}
