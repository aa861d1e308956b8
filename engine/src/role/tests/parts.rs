//! The parts of a machine, each alone: what a word is worth and for how long, whose claims count, and why
//! a record may be written over.

use super::super::ownership::claims::Title;
use super::super::ownership::common::Common;
use super::super::ownership::standby::Standby;
use super::super::peer::{Callers, Peer};
use super::super::{
    Action, ArbiterRecord, Beat, BeatRole, Echo, Held, LinkEvent, LostArbiter, Path, Policy, Reply,
    Role, Roles, Timing,
};
use super::edges::{Store, armed, armed_with, duplex, follower_with, owned, word};
use super::scenarios::{at, beat, drain, tick};
use super::world::arbitrated;
use crate::ids::{Epoch, Node};

fn is_primary(roles: &Roles) -> bool {
    matches!(roles.role(), Role::Primary { .. })
}

// Words.

/// A peer that hears several speaks to others in between, and its words may overtake each other.
#[test]
fn no_later_word_takes_back_what_a_peer_has_heard() {
    let mut peer = Peer::meet(at(1000), &beat(BeatRole::Standby, 2, 1, 990), 1);
    for (sequence, boot, sent) in [(2, 1, 980), (3, 99, 995), (4, 0, 0), (5, 1, 2000)] {
        let echo = Echo { boot, sent: at(sent).as_nanos() };
        peer.update(at(1001), &Beat { echo, ..beat(BeatRole::Standby, 2, sequence, 0) }, 1);
        assert_eq!(peer.echo, Some(at(990)), "it says that it heard boot {boot} at {sent}");
    }
    peer.update(at(1002), &beat(BeatRole::Standby, 2, 6, 995), 1);
    assert_eq!(peer.echo, Some(at(995)));
}

/// A recording of this very run's beginning is none.
#[test]
fn an_answer_is_one_to_something_sent_moments_ago() {
    for (echo, believed) in [(749, false), (751, true)] {
        let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default());
        tick(&mut roles, 601, 999);
        let answer = beat(BeatRole::Joining, 0, 1, echo);
        assert_eq!(roles.on_heartbeat(at(1000), Path::Lan, &answer), believed, "sent at {echo}");
    }
}

#[test]
fn a_caller_is_answered_to_the_latest_of_its_calls() {
    let mut callers = Callers::default();
    callers.note(at(1), &beat(BeatRole::Joining, 0, 20, 0));
    callers.note(at(2), &beat(BeatRole::Joining, 0, 10, 0));
    let call = Echo { boot: 7, sent: at(20).as_nanos() };
    assert_eq!((callers.poll(), callers.poll()), (Some(call), None));
}

/// A process that was superseded in one epoch may own in a later one, and then it may be speaking.
#[test]
fn a_superseded_process_claims_nothing_up_to_its_epoch_and_something_beyond() {
    let mut common = Common::new(at(600), Node::A, 1, Timing::default(), Policy::default());
    common.group.supersede(7, Epoch(3));
    for (sequence, epoch, claims) in [(1, 2, false), (2, 3, false), (3, 4, true)] {
        common.hear(at(700), Path::Lan, &beat(BeatRole::Primary, epoch, sequence, 690));
        assert_eq!(common.claimant().is_some(), claims, "epoch {epoch}");
        assert_eq!(common.peer_owns(at(701)), claims, "epoch {epoch}");
    }
    assert!(!common.peer_owns(at(750)), "it is silent");
}

#[test]
fn who_is_not_armed_follows_nobody_that_is_bound() {
    assert_eq!(Standby::following(7, Epoch(2)).bound(), None);
}

/// A stranger says that it owns. A node that slept cannot know that it does not, and gives it the time to answer:
/// once, as a recording can be played for ever.
fn hears_a_stranger_own(roles: &mut Roles, from: u64, to: u64) {
    for millis in from..=to {
        if millis.is_multiple_of(10) {
            let stranger = Beat {
                boot: 9,
                node: if roles.epoch() == Epoch(2) && roles.beat_role() == BeatRole::Standby {
                    Node::A
                } else {
                    Node::B
                },
                echo: Echo::default(),
                ..beat(BeatRole::Primary, 5, millis, 0)
            };
            assert!(!roles.on_heartbeat(at(millis), Path::Lan, &stranger));
        }
        tick(roles, millis, millis);
    }
}

#[test]
fn who_slept_and_hears_a_stranger_own_does_not_go_on_alone_at_once() {
    let mut roles = duplex();
    tick(&mut roles, 1001, 1015);
    roles.on_timer(at(1100));
    hears_a_stranger_own(&mut roles, 1101, 1599);
    assert_eq!(roles.role(), Role::Primary { duplex: true });
    hears_a_stranger_own(&mut roles, 1600, 1601);
    assert_eq!(roles.role(), Role::Primary { duplex: false }, "it never answers");
}

#[test]
fn who_slept_and_hears_a_stranger_own_does_not_take_over_at_once() {
    let mut roles = armed();
    tick(&mut roles, 1006, 1010);
    roles.on_timer(at(1050));
    hears_a_stranger_own(&mut roles, 1051, 1549);
    assert_eq!(roles.role(), Role::Standby { synced: true });
    hears_a_stranger_own(&mut roles, 1550, 1551);
    assert!(is_primary(&roles), "it never answers");
}

#[test]
fn who_was_awake_when_its_peer_came_waits_for_no_stranger() {
    let mut roles = armed();
    hears_a_stranger_own(&mut roles, 1006, 1054);
    assert_eq!(roles.role(), Role::Standby { synced: true });
    hears_a_stranger_own(&mut roles, 1055, 1056);
    assert!(is_primary(&roles));
}

// Paths and links.

/// A peer that cannot be understood is not dialed as one that is not there.
#[test]
fn who_is_incompatible_is_dialed_seldom() {
    let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default());
    roles.on_link(at(601), LinkEvent::Incompatible);
    drain(&mut roles);
    tick(&mut roles, 602, 1600);
    assert!(!drain(&mut roles).contains(&Action::Dial));
    tick(&mut roles, 1601, 1601);
    assert!(drain(&mut roles).contains(&Action::Dial));
}

/// Beats that a full network starves are no reason to end what it carries.
#[test]
fn a_link_that_delivers_is_kept_though_its_path_is_silent() {
    let mut roles = armed();
    for millis in 1006..=1200 {
        let beats = word(BeatRole::Primary, 2, millis, millis - 2);
        roles.on_heartbeat(at(millis), Path::Lan, &beats);
        if millis <= 1100 {
            roles.on_link_data(at(millis));
        }
        tick(&mut roles, millis, millis);
        let ended = drain(&mut roles).contains(&Action::HangUp);
        assert_eq!(ended, millis == 1150, "at {millis}");
    }
}

// Which of two that know no owner is to own.

#[test]
fn of_two_that_know_no_owner_the_one_whose_host_can_carry_the_service_asks() {
    for (fit, theirs, asks) in [(true, true, true), (false, true, false), (false, false, true)] {
        let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default());
        roles.on_host(at(601), fit);
        tick(&mut roles, 602, 609);
        let other = Beat { fit: theirs, ..beat(BeatRole::Joining, 0, 1, 605) };
        roles.on_heartbeat(at(610), Path::Lan, &other);
        tick(&mut roles, 611, 612);
        assert_eq!(roles.beat_role() == BeatRole::Candidate, asks, "ours {fit}, theirs {theirs}");
    }
}

/// It would take over itself, and may be about to.
#[test]
fn a_standby_without_a_lan_is_asked_when_it_has_had_its_time() {
    let mut roles = Roles::new(at(600), Node::A, 1, Timing::default(), Policy::default());
    for millis in 601..=860 {
        let cut_off = Beat { lan_ok: false, ..beat(BeatRole::Standby, 2, millis, millis - 2) };
        roles.on_heartbeat(at(millis), Path::Replication, &cut_off);
        tick(&mut roles, millis, millis);
        let asks = roles.beat_role() == BeatRole::Candidate;
        assert_eq!(asks, millis >= 850, "at {millis}");
    }
}

// Titles, and what a record shows.

const THEIRS: ArbiterRecord = ArbiterRecord { owner: Node::B, epoch: Epoch(5), boot: 7 };

/// Node `a` (boot 1) looks at the arbiter's record.
fn look(common: &mut Common, millis: u64, record: Option<ArbiterRecord>) {
    let claims = common.group.claims.as_mut().expect("there is an arbiter");
    let mut actions = Vec::new();
    claims.attend(at(millis), None, &mut actions);
    let Some(Action::Ask(ask)) = actions.first() else { panic!("{actions:?}") };
    let reply = Reply { record, revision: 5, written: false };
    claims.on_answer(at(millis), ask.number, Some(reply), &mut Vec::new());
}

/// Its title at 1000 ms to write over `record`, which it has seen first at `seen` and once more at 990 ms,
/// when its peer has said `said`.
fn title(seen: u64, record: Option<ArbiterRecord>, said: &Beat) -> Title {
    let policy = arbitrated(LostArbiter::Stop);
    let mut common = Common::new(at(600), Node::A, 1, Timing::default(), policy);
    look(&mut common, seen, record);
    if seen < 880 {
        look(&mut common, 990, record);
    }
    common.hear(at(995), Path::Lan, said);
    common.group.title(at(1000), &common.pair, None)
}

#[test]
fn consent_is_to_the_record_as_it_is_and_fresh() {
    let consents = |echo| beat(BeatRole::Renounced, 4, 900, echo);
    for record in [Some(THEIRS), None] {
        assert_eq!(title(700, record, &consents(990)), Title::Free);
        assert_eq!(title(700, record, &consents(945)), Title::Age, "it is an old word");
        assert_eq!(title(980, record, &consents(970)), Title::Age, "it was written since");
        assert_eq!(title(980, record, &consents(985)), Title::Free);
    }
    assert_eq!(title(700, Some(THEIRS), &beat(BeatRole::Standby, 4, 900, 990)), Title::Age);
}

#[test]
fn a_record_of_a_process_that_was_replaced_is_free() {
    let later = |echo| Beat { boot: 8, ..beat(BeatRole::Joining, 4, 900, echo) };
    assert_eq!(title(800, Some(THEIRS), &later(850)), Title::Free);
    assert_eq!(
        title(800, Some(THEIRS), &later(790)),
        Title::Age,
        "it may have been replaced by it"
    );
}

#[test]
fn a_record_of_one_that_is_bound_is_free_up_to_that_epoch() {
    let policy = arbitrated(LostArbiter::Stop);
    let mut common = Common::new(at(600), Node::A, 1, Timing::default(), policy);
    look(&mut common, 700, Some(THEIRS));
    let title = |common: &Common, boot, epoch| {
        common.group.title(at(1000), &common.pair, Some((boot, Epoch(epoch))))
    };
    assert_eq!(title(&common, 7, 5), Title::Free);
    assert_eq!(title(&common, 7, 4), Title::Age, "it owns again");
    assert_eq!(title(&common, 8, 5), Title::Age);
    common.group.supersede(7, Epoch(4));
    assert_eq!(common.group.title(at(1000), &common.pair, None), Title::Age);
    common.group.supersede(7, Epoch(5));
    assert_eq!(common.group.title(at(1000), &common.pair, None), Title::Free);
}

/// Node `b` (boot 2) follows boot 7 in epoch 2, hears nothing more, and has no LAN for longer than what it
/// holds is surely whole. `dead`: its primary is, and it knows. When it takes over, the arbiter's record
/// shows whether anybody has owned since (I6).
fn takes_over_late(mut roles: Roles, dead: bool, record: ArbiterRecord) -> Held {
    let mut store = Store { record: Some(record), revision: 5, answers: true, written: 0 };
    roles.on_lan(at(1010), false);
    if dead {
        roles.on_link(at(1011), LinkEvent::Lost);
        roles.on_link(at(1012), LinkEvent::Refused);
    }
    store.tick(&mut roles, 1013, 1299);
    roles.on_lan(at(1300), true);
    owned(&store.tick(&mut roles, 1301, 2500)).expect("it takes over").held
}

#[test]
fn a_record_shows_whether_anybody_has_owned_since() {
    let stop = arbitrated(LostArbiter::Stop);
    let record = |owner, epoch, boot| ArbiterRecord { owner, epoch: Epoch(epoch), boot };
    let followed = record(Node::A, 2, 7);
    for (record, held, why) in [
        (followed, Held::Whole, "its own"),
        (record(Node::B, 1, 2), Held::Whole, "of ours, before"),
        (record(Node::A, 4, 7), Held::Doubtful, "it went on alone"),
        (record(Node::A, 2, 9), Held::Doubtful, "of another process"),
    ] {
        assert_eq!(takes_over_late(armed_with(stop), false, record), held, "{why}");
    }
    assert_eq!(takes_over_late(follower_with(stop), true, followed), Held::Doubtful, "never whole");
    let table = arbitrated(LostArbiter::Table);
    let held = takes_over_late(armed_with(table), false, followed);
    assert_eq!(held, Held::Doubtful, "there it may have owned without a record");
}
