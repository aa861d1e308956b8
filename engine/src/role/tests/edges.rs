//! Moments that differ by a millisecond, or by one word, from those in which the rule is another: each
//! against one machine alone, with the clock in hand.

use super::super::{
    Action, ArbiterRecord, Ask, Beat, BeatRole, Change, Echo, Held, Inquiry, LinkEvent,
    LostArbiter, Path, Policy, ProbeResult, Reply, Role, Roles, Timing,
};
use super::scenarios::{at, beat, drain, duplex_a, tick};
use super::world::arbitrated;
use crate::ids::{Epoch, Node};

pub(super) fn duplex() -> Roles {
    duplex_a(Policy::default())
}

/// The last `Own` or `GoSimplex` among `actions`.
pub(super) fn owned(actions: &[Action]) -> Option<Change> {
    actions.iter().rev().find_map(|action| match action {
        Action::Own(change) | Action::GoSimplex(change) => Some(*change),
        _ => None,
    })
}

/// Node `a` (boot 1) alone in epoch 2 at 990 ms, and it has heard that boot 7 is there.
pub(super) fn simplex() -> Roles {
    let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default());
    tick(&mut roles, 601, 900);
    roles.on_probe(at(900), ProbeResult::Clear);
    tick(&mut roles, 901, 990);
    roles.on_heartbeat(at(990), Path::Lan, &beat(BeatRole::Joining, 0, 1, 980));
    drain(&mut roles);
    assert_eq!((roles.role(), roles.epoch()), (Role::Primary { duplex: false }, Epoch(2)));
    roles
}

/// What node `a` (boot 7) says to node `b` (boot 2).
pub(super) fn word(role: BeatRole, epoch: u64, sequence: u64, echo: u64) -> Beat {
    Beat {
        node: Node::A,
        echo: Echo { boot: 2, sent: at(echo).as_nanos() },
        synced: role == BeatRole::Primary,
        ..beat(role, epoch, sequence, echo)
    }
}

/// Node `b` (boot 2), at 1000 ms, follows boot 7 of node `a` in epoch 2 by a link, and has nothing yet.
pub(super) fn follower() -> Roles {
    follower_with(Policy::default())
}

pub(super) fn follower_with(policy: Policy) -> Roles {
    let mut roles = Roles::new(at(900), Node::B, 2, Timing::default(), policy);
    tick(&mut roles, 901, 999);
    let owner = Beat { synced: false, ..word(BeatRole::Primary, 2, 1, 990) };
    roles.on_heartbeat(at(1000), Path::Lan, &owner);
    roles.on_link(at(1000), LinkEvent::Up { boot: 7, epoch: Epoch(2), role: BeatRole::Primary });
    drain(&mut roles);
    assert_eq!(roles.role(), Role::Standby { synced: false });
    roles
}

/// The same at 1005 ms, armed: its primary has heard what was sent at 1002 ms.
pub(super) fn armed() -> Roles {
    armed_with(Policy::default())
}

pub(super) fn armed_with(policy: Policy) -> Roles {
    let mut roles = follower_with(policy);
    tick(&mut roles, 1001, 1004);
    roles.on_synced(at(1004), Epoch(2));
    roles.on_heartbeat(at(1005), Path::Lan, &word(BeatRole::Primary, 2, 5, 1002));
    assert_eq!(roles.role(), Role::Standby { synced: true });
    drain(&mut roles);
    roles
}

// An owner and its lease.

#[test]
fn when_a_conflict_ends_the_address_is_announced_again() {
    let mut roles = simplex();
    tick(&mut roles, 991, 999);
    roles.on_heartbeat(at(1000), Path::Lan, &beat(BeatRole::Primary, 1, 10, 995));
    assert_eq!(roles.speak_until(), at(0), "two claim");
    roles.on_heartbeat(at(1010), Path::Lan, &beat(BeatRole::Primary, 1, 11, 1005));
    assert!(!drain(&mut roles).contains(&Action::Announce), "not while they do");
    roles.on_heartbeat(at(1020), Path::Lan, &beat(BeatRole::Joining, 1, 12, 1015));
    assert!(drain(&mut roles).contains(&Action::Announce));
    roles.on_heartbeat(at(1030), Path::Lan, &beat(BeatRole::Joining, 1, 13, 1025));
    assert!(!drain(&mut roles).contains(&Action::Announce), "once");
}

/// It slept past its lease, and its standby may have owned meanwhile.
#[test]
fn what_was_said_before_a_pause_settles_no_doubt() {
    for (echo, expected) in [(1010, Held::Doubtful), (1101, Held::Whole)] {
        let mut roles = duplex();
        tick(&mut roles, 1001, 1015);
        roles.on_timer(at(1100));
        roles.on_timer(at(1101));
        let left = Beat { synced: false, ..beat(BeatRole::Standby, 2, 30, echo) };
        roles.on_heartbeat(at(1102), Path::Lan, &left);
        roles.on_link(at(1103), LinkEvent::Lost);
        roles.on_link(at(1104), LinkEvent::Refused);
        let change = owned(&drain(&mut roles)).expect("it is dead, or has left");
        assert_eq!(change.held, expected, "it had heard what was sent at {echo}");
    }
}

/// The same of a standby that still echoes: only what it heard after the pause began a lease anew.
#[test]
fn an_old_echo_read_after_a_pause_ends_no_doubt() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1015);
    roles.on_timer(at(1100));
    roles.on_heartbeat(at(1100), Path::Lan, &beat(BeatRole::Standby, 2, 30, 1010));
    assert!(!roles.is_protected(at(1100)) && roles.speak_until() <= at(1060));
    roles.on_heartbeat(at(1102), Path::Lan, &beat(BeatRole::Standby, 2, 31, 1100));
    assert!(roles.is_protected(at(1102)) && roles.speak_until() == at(1145));
}

#[test]
fn who_has_heard_the_address_claimed_does_not_go_on_alone_for_as_long() {
    let mut roles = duplex();
    for millis in 1001..=1289 {
        tick(&mut roles, millis, millis);
        if millis % 10 == 0 && millis <= 1100 {
            let deaf = beat(BeatRole::Standby, 2, millis, 1005);
            roles.on_heartbeat(at(millis), Path::Lan, &deaf);
        }
        if millis == 1140 {
            roles.on_claimed(at(1140));
        }
        assert_eq!(roles.role(), Role::Primary { duplex: true }, "at {millis}");
    }
    tick(&mut roles, 1290, 1292);
    assert_eq!(roles.role(), Role::Primary { duplex: false });
}

// An owner and its grants.

/// An arbiter that answers at once, or not at all.
pub(super) struct Store {
    pub(super) record: Option<ArbiterRecord>,
    pub(super) revision: u64,
    pub(super) answers: bool,
    /// When the question was asked that was written last.
    pub(super) written: u64,
}

impl Store {
    fn answer(&mut self, millis: u64, ask: Ask) -> Reply {
        let mut written = false;
        if let Inquiry::Swap { expected, revision, record } = ask.what
            && expected == self.record
            && revision.is_none_or(|revision| revision == self.revision)
        {
            (written, self.written) = (true, millis);
            self.record = Some(record);
            self.revision += 1;
        }
        Reply { record: self.record, revision: self.revision, written }
    }

    /// Time passes for `roles`. What they did besides asking.
    pub(super) fn tick(&mut self, roles: &mut Roles, from: u64, to: u64) -> Vec<Action> {
        let mut done = Vec::new();
        for millis in from..=to {
            tick(roles, millis, millis);
            done.extend(self.serve(roles, millis));
        }
        done
    }

    fn serve(&mut self, roles: &mut Roles, millis: u64) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(action) = roles.poll_action() {
            match action {
                Action::Ask(ask) if self.answers => {
                    let reply = self.answer(millis, ask);
                    roles.on_arbiter(at(millis), ask.number, Some(reply));
                }
                Action::Probe => roles.on_probe(at(millis), ProbeResult::Clear),
                other => done.push(other),
            }
        }
        done
    }
}

/// Node `a` (boot 1) alone at 1000 ms, by grants of 450 ms that are renewed every 100 ms.
fn granted() -> (Roles, Store) {
    let policy = arbitrated(LostArbiter::Stop);
    let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), policy);
    let former = ArbiterRecord { owner: Node::A, epoch: Epoch(2), boot: 99 };
    let mut store = Store { record: Some(former), revision: 5, answers: true, written: 0 };
    store.tick(&mut roles, 601, 1000);
    assert_eq!(roles.role(), Role::Primary { duplex: false });
    assert!(store.written > 890, "it is renewed: {}", store.written);
    (roles, store)
}

#[test]
fn a_duplex_that_begins_just_before_a_grant_ends_does_not_outlive_it() {
    let (mut roles, mut store) = granted();
    store.answers = false;
    let ends = store.written + 450;
    store.tick(&mut roles, 1001, ends - 30);
    assert_eq!(roles.speak_until(), at(ends).min(at(ends - 30 + 50)));
    let newcomer = beat(BeatRole::Joining, 0, 1, ends - 40);
    roles.on_heartbeat(at(ends - 30), Path::Lan, &newcomer);
    let up = LinkEvent::Up { boot: 7, epoch: Epoch(4), role: BeatRole::Standby };
    roles.on_link(at(ends - 25), up);
    roles.on_duplex(at(ends - 20));
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    assert_eq!(roles.speak_until(), at(ends), "I3: no echo yet, so nothing but the grant");
    let told = roles.arbiter(at(ends - 20)).expect("there is one");
    assert_eq!(told.granted_for, None, "a standby's lease has taken its place");
    let epoch = roles.epoch().0;
    let echo = beat(BeatRole::Standby, epoch, 2, ends - 15);
    roles.on_heartbeat(at(ends - 10), Path::Lan, &echo);
    assert_eq!(roles.speak_until(), at(ends - 15 + 45), "it is bound to us now");
}

#[test]
fn a_grant_ends_by_itself_when_nobody_answers_and_is_renewed_from_when_it_was_asked() {
    let (mut roles, mut store) = granted();
    store.answers = false;
    let ends = store.written + 450;
    store.tick(&mut roles, 1001, ends - 1);
    assert_eq!(roles.speak_until(), at(ends));
    store.tick(&mut roles, ends, ends + 60);
    assert!(roles.speak_until() <= at(ends), "the grant is over");
    assert!(matches!(roles.role(), Role::Primary { .. }));
}

/// It learns of its standby's death, and sleeps in that very turn: whether the standby had been granted
/// the address and used it before, nobody can tell.
#[test]
fn a_death_that_was_learned_of_right_before_a_pause_does_not_say_when_it_was() {
    for sleeps in [true, false] {
        let (mut roles, mut store) = granted();
        let epoch = roles.epoch();
        roles.on_heartbeat(at(1001), Path::Lan, &beat(BeatRole::Joining, 0, 1, 995));
        roles.on_link(at(1001), LinkEvent::Up { boot: 7, epoch, role: BeatRole::Standby });
        roles.on_duplex(at(1002));
        let echo = beat(BeatRole::Standby, epoch.0, 2, 1003);
        store.tick(&mut roles, 1003, 1005);
        roles.on_heartbeat(at(1006), Path::Lan, &echo);
        store.tick(&mut roles, 1006, 1010);
        assert_eq!(roles.role(), Role::Primary { duplex: true });
        // The standby is granted what it asked for, and dies.
        store.record = Some(ArbiterRecord { owner: Node::B, epoch: Epoch(epoch.0 + 1), boot: 7 });
        store.revision += 1;
        store.answers = false;
        roles.on_link(at(1011), LinkEvent::Lost);
        roles.on_link(at(1011), LinkEvent::Refused);
        let mut done = Vec::new();
        if !sleeps {
            done.extend(store.tick(&mut roles, 1012, 1020));
        } else {
            roles.on_timer(at(1100));
        }
        store.answers = true;
        done.extend(store.tick(&mut roles, if sleeps { 1101 } else { 1021 }, 1400));
        let change = owned(&done).expect("it goes on alone");
        let expected = if sleeps { Held::Doubtful } else { Held::Whole };
        assert_eq!(change.held, expected, "I6: sleeps: {sleeps}");
    }
}

// A standby.

#[test]
fn a_standby_that_was_complete_when_its_link_was_lost_is_not_armed_by_the_next_beat() {
    for lost in [false, true] {
        let mut roles = follower();
        tick(&mut roles, 1001, 1004);
        roles.on_synced(at(1004), Epoch(2));
        if lost {
            roles.on_link(at(1005), LinkEvent::Lost);
        }
        roles.on_heartbeat(at(1006), Path::Lan, &word(BeatRole::Primary, 2, 6, 1002));
        assert_eq!(roles.role(), Role::Standby { synced: !lost });
    }
}

#[test]
fn a_duplex_that_began_before_this_node_was_complete_was_not_with_it() {
    let mut roles = follower();
    tick(&mut roles, 1001, 1002);
    roles.on_heartbeat(at(1003), Path::Lan, &word(BeatRole::Primary, 2, 4, 1001));
    roles.on_synced(at(1004), Epoch(2));
    roles.on_heartbeat(at(1005), Path::Lan, &word(BeatRole::Primary, 2, 5, 1002));
    assert_eq!(roles.role(), Role::Standby { synced: false });
}

#[test]
fn what_belongs_to_another_epoch_completes_nothing() {
    let mut roles = follower();
    roles.on_synced(at(1001), Epoch(1));
    roles.on_heartbeat(at(1002), Path::Lan, &word(BeatRole::Primary, 2, 5, 1001));
    assert_eq!(roles.role(), Role::Standby { synced: false });
}

/// Its primary, which is heard all the time, has heard nothing of it since `echo`.
fn half_deaf(roles: &mut Roles, from: u64, to: u64, role: BeatRole, echo: u64) -> Vec<Action> {
    for millis in from..=to {
        tick(roles, millis, millis);
        if millis % 10 == 0 {
            roles.on_heartbeat(at(millis), Path::Lan, &word(role, 2, millis, echo));
        }
    }
    drain(roles)
}

/// The owner is silent by its own word. That is good as long as it cannot have asked the address back.
#[test]
fn an_address_that_was_handed_over_is_taken_at_once_or_after_the_detection_time() {
    // Trusted until 1002 + 150 - 5, and its gate would be open for 50.
    for (handed, at_once) in [(1096, true), (1097, false), (1120, false)] {
        let mut roles = armed();
        half_deaf(&mut roles, 1006, handed - 1, BeatRole::Primary, 1002);
        roles.on_timer(at(handed));
        roles.on_handover(at(handed));
        let taken = matches!(roles.role(), Role::Primary { .. });
        assert_eq!(taken, at_once, "handed over at {handed}");
        if at_once {
            assert_eq!(owned(&drain(&mut roles)).expect("owned").held, Held::Whole);
            continue;
        }
        half_deaf(&mut roles, handed + 1, handed + 49, BeatRole::Yielding, 1002);
        assert_eq!(roles.role(), Role::Standby { synced: true }, "not within the detection time");
        let done = half_deaf(&mut roles, handed + 50, handed + 51, BeatRole::Yielding, 1002);
        let held = if handed + 50 < 1147 { Held::Whole } else { Held::Doubtful };
        assert_eq!(owned(&done).map(|change| change.held), Some(held));
    }
}

#[test]
fn an_owner_that_owns_again_has_handed_nothing_over() {
    let mut roles = armed();
    half_deaf(&mut roles, 1006, 1110, BeatRole::Primary, 1002);
    roles.on_handover(at(1111));
    for millis in 1112..1300 {
        tick(&mut roles, millis, millis);
        if millis % 5 == 0 {
            let owner = word(BeatRole::Primary, 2, millis, millis - 5);
            roles.on_heartbeat(at(millis), Path::Lan, &owner);
        }
        assert_eq!(roles.role(), Role::Standby { synced: true }, "at {millis}");
    }
}

#[test]
fn who_holds_nothing_takes_no_address_that_is_handed_to_it() {
    let mut roles = follower();
    tick(&mut roles, 1001, 1003);
    roles.on_handover(at(1003));
    half_deaf(&mut roles, 1004, 1200, BeatRole::Yielding, 1002);
    assert!(!matches!(roles.role(), Role::Primary { .. }));
}

/// What was held when the primary died counts, and a pause afterwards does not make it old.
#[test]
fn a_proof_is_acted_on_with_what_was_held_when_it_came() {
    let mut roles = armed();
    roles.on_lan(at(1006), false);
    roles.on_link(at(1007), LinkEvent::Lost);
    roles.on_link(at(1008), LinkEvent::Refused);
    tick(&mut roles, 1009, 1300);
    assert_eq!(roles.role(), Role::Standby { synced: true }, "it has no LAN");
    roles.on_lan(at(1301), true);
    tick(&mut roles, 1302, 1350);
    assert_eq!(roles.role(), Role::Standby { synced: true }, "it has to listen first");
    tick(&mut roles, 1351, 1352);
    let change = owned(&drain(&mut roles)).expect("it owns");
    assert_eq!(change.held, Held::Whole);
}

// A node that has handed over.

#[test]
fn an_address_is_asked_back_after_its_time_and_comes_back_by_an_answer_to_that() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1005);
    roles.on_heartbeat(at(1005), Path::Lan, &beat(BeatRole::Standby, 2, 20, 1003));
    roles.on_switchover(at(1006)).expect("armed");
    for millis in 1007..1206 {
        tick(&mut roles, millis, millis);
        let still = beat(BeatRole::Standby, 2, millis, millis - 2);
        roles.on_heartbeat(at(millis), Path::Lan, &still);
        assert_eq!(roles.beat_role(), BeatRole::Yielding, "at {millis}");
    }
    tick(&mut roles, 1206, 1210);
    assert_eq!(roles.beat_role(), BeatRole::Candidate);
    drain(&mut roles);
    roles.on_heartbeat(at(1211), Path::Lan, &beat(BeatRole::Renounced, 2, 1211, 1205));
    assert_eq!(roles.role(), Role::Silent, "it renounced before it was asked");
    roles.on_heartbeat(at(1212), Path::Lan, &beat(BeatRole::Renounced, 2, 1212, 1209));
    let change = owned(&drain(&mut roles)).expect("it is ours again");
    assert_eq!(change.held, Held::Whole);
}

#[test]
fn who_handed_over_and_hears_nothing_waits_until_the_heir_would_have_been_heard() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1005);
    roles.on_heartbeat(at(1005), Path::Lan, &beat(BeatRole::Standby, 2, 20, 1003));
    roles.on_switchover(at(1006)).expect("armed");
    // It speaks until 1100: three detection times later, and not before 200 after the hand-over.
    for millis in 1007..=1100 {
        tick(&mut roles, millis, millis);
        let still = beat(BeatRole::Standby, 2, millis, 1005);
        roles.on_heartbeat(at(millis), Path::Lan, &still);
    }
    tick(&mut roles, 1101, 1249);
    assert_eq!(roles.role(), Role::Silent);
    tick(&mut roles, 1250, 1251);
    let change = owned(&drain(&mut roles)).expect("it is ours again");
    assert_eq!(change.held, Held::Doubtful, "the heir may have owned for a moment");
}
