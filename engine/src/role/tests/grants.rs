//! Claims and grants at their edges: how long each is good, and from when that is counted.

use super::super::ownership::claims::{Claims, Permit, Title};
use super::super::{Action, ArbiterPolicy, ArbiterRecord, Ask, Inquiry, LostArbiter, Reply};
use super::scenarios::at;
use crate::ids::{Epoch, Node};
use crate::time::{Duration, Instant};

const THEIRS: ArbiterRecord = ArbiterRecord { owner: Node::A, epoch: Epoch(4), boot: 1 };

/// The claims of node `b`, process 2: a lease of 5 s.
struct Wish {
    claims: Claims,
    known: Epoch,
}

impl Wish {
    fn new() -> Self {
        let policy = ArbiterPolicy {
            lost: LostArbiter::Stop,
            lease: Duration::from_secs(5),
            timeout: Duration::from_millis(500),
        };
        let claims = Claims::new(at(0), 2, policy, Duration::from_millis(100));
        let mut wish = Self { claims, known: Epoch(4) };
        let (_, read) = wish.want(10);
        wish.answer(11, read, Some(THEIRS), false);
        wish
    }

    /// It wants to own. What it asks for that.
    fn want(&mut self, millis: u64) -> (Permit, Option<Ask>) {
        let (mut actions, Self { claims, known }) = (Vec::new(), self);
        let permit = claims.pursue(at(millis), Node::B, 2, Title::Free, known, &mut actions);
        (permit, asked(&actions))
    }

    /// It does not, and asks what is to be asked.
    fn attend(&mut self, millis: u64, alone: Option<(ArbiterRecord, Title)>) -> Option<Ask> {
        let mut actions = Vec::new();
        self.claims.attend(at(millis), alone, &mut actions);
        asked(&actions)
    }

    fn answer(
        &mut self,
        millis: u64,
        ask: Option<Ask>,
        record: Option<ArbiterRecord>,
        written: bool,
    ) {
        let number = ask.expect("something was asked").number;
        let reply = Reply { record, revision: 9, written };
        self.claims.on_answer(at(millis), number, Some(reply), &mut Vec::new());
    }

    /// It owns by a grant that was asked for at 12 ms.
    fn granted() -> (Self, ArbiterRecord) {
        let mut wish = Self::new();
        let (_, ask) = wish.want(12);
        let ours = wanted(ask);
        wish.answer(20, ask, Some(ours), true);
        assert_eq!(wish.want(21).0, Permit::Granted);
        let (epoch, _) = wish.claims.take_won().expect("won");
        wish.claims.note_used(epoch);
        assert_eq!(wish.claims.granted_until(), at(12 + 4500));
        (wish, ours)
    }
}

fn asked(actions: &[Action]) -> Option<Ask> {
    actions.iter().find_map(|action| match action {
        Action::Ask(ask) => Some(*ask),
        _ => None,
    })
}

fn wanted(ask: Option<Ask>) -> ArbiterRecord {
    match ask.expect("something was asked").what {
        Inquiry::Swap { record, .. } => record,
        Inquiry::Read => panic!("a question about nothing"),
    }
}

/// It would be granted for a term that is nearly over.
#[test]
fn a_claim_of_half_a_lease_ago_is_made_anew() {
    for (again, epoch) in [(2511, Epoch(5)), (2512, Epoch(7))] {
        let mut wish = Wish::new();
        let (_, ask) = wish.want(12);
        assert_eq!(wanted(ask).epoch, Epoch(5));
        wish.attend(600, None);
        let (_, ask) = wish.want(again);
        assert_eq!(wanted(ask).epoch, epoch, "at {again}");
    }
}

#[test]
fn a_claim_below_a_later_epoch_is_made_anew() {
    let mut wish = Wish::new();
    let (_, ask) = wish.want(12);
    assert_eq!(wanted(ask).epoch, Epoch(5));
    wish.attend(600, None);
    wish.known = Epoch(6);
    let (_, ask) = wish.want(700);
    assert_eq!(wanted(ask).epoch, Epoch(7), "somebody has owned epoch 6");
}

#[test]
fn a_grant_counts_from_when_it_was_asked_to_be_renewed() {
    let (mut wish, ours) = Wish::granted();
    let renewal = wish.attend(1100, Some((ours, Title::Free)));
    assert_eq!(wanted(renewal), ours);
    wish.answer(1400, renewal, Some(ours), true);
    assert_eq!(wish.claims.granted_until(), at(1100 + 4500));
}

/// An arbiter that refuses at once is not asked in a hurry.
#[test]
fn a_question_that_fails_at_once_is_not_repeated_at_once() {
    let mut wish = Wish::new();
    let read = wish.attend(1100, None).expect("a question");
    wish.claims.on_answer(at(1101), read.number, None, &mut Vec::new());
    assert_eq!(wish.attend(1199, None), None);
    assert!(wish.attend(1200, None).is_some());
}

#[test]
fn a_renewal_that_was_not_written_renews_nothing() {
    let (mut wish, ours) = Wish::granted();
    let renewal = wish.attend(1100, Some((ours, Title::Free)));
    wish.answer(1101, renewal, Some(ours), false);
    assert_eq!(wish.claims.granted_until(), at(12 + 4500));
}

/// A standby's lease has taken its place meanwhile, or the address is another's.
#[test]
fn a_renewal_that_was_under_way_when_the_grant_was_dropped_gives_none_back() {
    let (mut wish, ours) = Wish::granted();
    let renewal = wish.attend(1100, Some((ours, Title::Free)));
    wish.claims.drop_grant();
    wish.answer(1101, renewal, Some(ours), true);
    assert_eq!(wish.claims.granted_until(), Instant::ZERO);
}

#[test]
fn a_grant_ends_when_the_record_names_another_and_not_when_it_names_nobody() {
    let other = ArbiterRecord { owner: Node::A, epoch: Epoch(6), boot: 1 };
    for (record, until) in [(Some(other), Instant::ZERO), (None, at(12 + 4500))] {
        let (mut wish, _) = Wish::granted();
        let read = wish.attend(1100, None);
        wish.answer(1101, read, record, false);
        assert_eq!(wish.claims.granted_until(), until, "{record:?}");
    }
}

/// What an owner alone asks for, by what the record says and by how it may be written over.
#[test]
fn an_owner_writes_over_what_is_its_own_or_lost_or_has_run_out() {
    let later = ArbiterRecord { owner: Node::A, epoch: Epoch(6), boot: 1 };
    let swaps = |found: Option<ArbiterRecord>, title: Title, millis: u64| {
        let (mut wish, ours) = Wish::granted();
        let read = wish.attend(1100, None);
        wish.answer(1101, read, found, false);
        let ask = wish.attend(millis, Some((ours, title))).expect("it is time to ask");
        matches!(ask.what, Inquiry::Swap { .. })
    };
    assert!(!swaps(Some(later), Title::Free, 2200), "a later epoch is another's");
    assert!(swaps(None, Title::None, 2200), "lost while our grant lives");
    assert!(!swaps(None, Title::None, 4600), "lost, and our grant is over");
    assert!(swaps(Some(THEIRS), Title::Free, 2200));
    assert!(!swaps(Some(THEIRS), Title::Age, 2200), "it is young");
    assert!(!swaps(Some(THEIRS), Title::None, 7000));
}

#[test]
fn an_arbiter_that_will_not_write_is_not_asked_in_a_hurry() {
    let mut wish = Wish::new();
    let (_, ask) = wish.want(12);
    wish.answer(20, ask, Some(THEIRS), false);
    assert_eq!(wish.want(119).1, None, "it says that it is there, and does not write over it");
    assert!(wish.want(120).1.is_some());
    let faster = ArbiterRecord { epoch: Epoch(6), ..THEIRS };
    let (_, ask) = wish.want(121);
    assert_eq!(ask, None, "one question at a time");
    let mut wish = Wish::new();
    let (_, ask) = wish.want(12);
    wish.answer(20, ask, Some(faster), false);
    assert_eq!(wanted(wish.want(20).1).epoch, Epoch(7), "somebody was faster: at once");
}
