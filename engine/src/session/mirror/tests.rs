use proptest::prelude::*;

use super::*;
use crate::service::{App, Edition, Env, Kind, Limits, MemoryStore};
use crate::time::Duration;

const LIMIT: u32 = 1000;
const PATIENCE: JoinPatience =
    JoinPatience { connect: Duration::from_secs(9), idle: Duration::from_secs(60) };
const RULES: MirrorRules = MirrorRules {
    lag_time: Duration::from_secs(3),
    lag_bytes: 0,
    on_difference: OnDifference::Elder,
};
const ONE: Leg = TWINS[0];
const OTHER: Leg = TWINS[1];

fn lost(leg: Leg, why: Loss) -> [Effect; 2] {
    [Effect::Lost(leg, why), Effect::Reset(leg)]
}

/// A mirror, and the legs that an engine would have.
struct Node {
    mirror: Mirror,
    legs: [Option<App>; LEGS],
    lead: bool,
    now: Instant,
}

fn app() -> Option<App> {
    let kind = Kind::Mirror(RULES, PATIENCE);
    Some(App::new(kind, &Limits { output_buffer: LIMIT }))
}

impl Node {
    fn new(rules: MirrorRules, lead: bool) -> Self {
        let now = Instant::from_millis(1000);
        Self { mirror: Mirror::new(rules), legs: [app(), None, None], lead, now }
    }

    /// A client and both twins, all with their handshakes done.
    fn standing_with(rules: MirrorRules, lead: bool) -> Self {
        let mut node = Self::new(rules, lead);
        assert_eq!(node.event(Event::Stands(CLIENT)), TWINS.map(Effect::Dial));
        for leg in TWINS {
            node.legs[usize::from(leg)] = app();
            assert_eq!(node.event(Event::Stands(leg)), []);
        }
        node
    }

    fn standing(lead: bool) -> Self {
        Self::standing_with(RULES, lead)
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut call = Call {
            lead: self.lead,
            now: self.now,
            buffer: LIMIT,
            effects: &mut effects,
            scratch: &mut Vec::new(),
            #[cfg(feature = "defects")]
            defect: None,
        };
        self.mirror.on_event(event, &mut self.legs, &mut call);
        effects
    }

    fn app(&mut self, leg: Leg) -> &mut App {
        self.legs.leg(leg).expect("it is there")
    }

    fn with(&mut self, leg: Leg, what: impl FnOnce(&mut App, &mut Env<'_>)) -> Vec<Effect> {
        let (mut store, mut pins) = (MemoryStore::new(), Vec::new());
        let (store, pins, lead) = (&mut store, &mut pins, self.lead);
        let mut env = Env { store, lead, pins, wall: 0, edition: Edition::Second };
        what(self.app(leg), &mut env);
        self.event(Event::Moved)
    }

    fn say(&mut self, leg: Leg, bytes: &[u8]) -> Vec<Effect> {
        self.with(leg, |app, env| app.on_input(bytes, env))
    }

    fn end(&mut self, leg: Leg) -> Vec<Effect> {
        self.with(leg, App::on_peer_finished)
    }

    fn acknowledge(&mut self, leg: Leg, offset: u64) -> Vec<Effect> {
        self.with(leg, |app, env| app.on_acked(offset, env))
    }

    /// A leg's connection is no more.
    fn close(&mut self, leg: Leg, orderly: bool) -> Vec<Effect> {
        let effects = self.event(Event::Closed { leg, orderly });
        self.legs[usize::from(leg)] = None;
        effects
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Duration::from_millis(millis);
    }

    /// What its checks and clocks say.
    fn judge(&mut self, up: [bool; 2]) -> Option<(Leg, Loss)> {
        self.mirror.judge(self.now, &PATIENCE, up)
    }

    /// All that a leg has been given to say, and whether that is all.
    fn said(&mut self, leg: Leg) -> (String, bool) {
        let app = self.app(leg);
        let mut bytes = vec![0; app.output_end() as usize];
        app.read(0..app.output_end(), &mut bytes, &mut MemoryStore::new());
        (String::from_utf8_lossy(&bytes).into_owned(), app.finished())
    }
}

#[test]
fn both_twins_hear_the_client_and_it_hears_what_both_have_said() {
    for lead in [true, false] {
        let mut node = Node::standing(lead);
        node.say(CLIENT, b"INCR x");
        for leg in TWINS {
            assert_eq!(node.said(leg), ("INCR x".to_owned(), false));
        }
        assert_eq!(node.say(ONE, b":1 :2"), []);
        assert_eq!(node.said(CLIENT), (String::new(), false), "one alone says nothing");
        assert_eq!(node.say(OTHER, b":1"), []);
        assert_eq!(node.said(CLIENT).0, ":1");
        assert_eq!(node.say(OTHER, b" :2 :3"), []);
        assert_eq!(node.said(CLIENT).0, ":1 :2");
        assert_eq!(node.say(ONE, b" :3"), []);
        assert_eq!(node.said(CLIENT), (":1 :2 :3".to_owned(), false));
        assert_eq!(node.mirror.is_masked(), Some(true));
        node.end(CLIENT);
        for leg in TWINS {
            assert!(node.said(leg).1, "a half-close passes");
        }
    }
}

#[test]
fn what_a_client_says_early_waits_for_both() {
    let mut node = Node::new(RULES, true);
    node.event(Event::Stands(CLIENT));
    node.say(CLIENT, b"hello");
    node.legs[1] = app();
    node.event(Event::Stands(ONE));
    assert_eq!(node.said(ONE).0, "");
    assert_eq!(node.mirror.is_masked(), None);
    node.legs[2] = app();
    node.event(Event::Stands(OTHER));
    assert_eq!((node.said(ONE).0, node.said(OTHER).0), ("hello".into(), "hello".into()));
}

#[test]
fn a_twin_that_is_ahead_waits_and_a_slow_reader_slows_both() {
    let (mut leader, mut follower) = (Node::standing(true), Node::standing(false));
    let text: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
    for node in [&mut leader, &mut follower] {
        node.say(ONE, &text);
        assert_eq!((node.app(ONE).consumed(), node.app(OTHER).consumed()), (0, 0));
        node.say(OTHER, &text[..2000]);
    }
    // Only the node that leads opens windows by what is acknowledged.
    assert_eq!((leader.app(ONE).consumed(), leader.app(OTHER).consumed()), (1000, 1000));
    assert_eq!((follower.app(ONE).consumed(), follower.app(OTHER).consumed()), (2000, 2000));
    leader.acknowledge(CLIENT, 600);
    assert_eq!((leader.app(ONE).consumed(), leader.app(OTHER).consumed()), (1600, 1600));
    // And the other way round by the slower of the two.
    leader.say(CLIENT, &text);
    assert_eq!(leader.app(CLIENT).consumed(), 1000);
    leader.acknowledge(ONE, 3000);
    assert_eq!(leader.app(CLIENT).consumed(), 1000);
    leader.acknowledge(OTHER, 500);
    assert_eq!(leader.app(CLIENT).consumed(), 1500);
    for node in [&mut leader, &mut follower] {
        assert_eq!(node.app(CLIENT).output_end(), 2000);
        assert_eq!(node.app(OTHER).output_end(), node.app(ONE).output_end());
    }
}

#[test]
fn an_end_that_the_other_agrees_to_is_one() {
    for (first, second) in [(ONE, OTHER), (OTHER, ONE)] {
        let mut node = Node::standing(true);
        node.say(first, b"bye");
        assert_eq!(node.end(first), []);
        node.say(second, b"by");
        assert!(!node.said(CLIENT).1, "it is held");
        node.say(second, b"e");
        assert!(!node.said(CLIENT).1, "it is held");
        assert_eq!(node.end(second), []);
        assert_eq!(node.said(CLIENT), ("bye".to_owned(), true));
    }
}

#[test]
fn an_end_at_which_the_other_says_more_was_a_death() {
    for (dies, lives) in [(ONE, OTHER), (OTHER, ONE)] {
        let mut node = Node::standing(true);
        node.say(lives, b"one");
        node.say(dies, b"one");
        assert_eq!(node.end(dies), []);
        node.pass(60_000);
        assert_eq!(node.judge([true, true]), None, "nobody owes anything");
        assert_eq!(node.say(lives, b" and t"), lost(dies, Loss::Ended));
        assert_eq!(node.close(dies, false), []);
        assert_eq!(node.say(lives, b"wo"), []);
        assert_eq!(node.said(CLIENT), ("one and two".to_owned(), false));
        assert_eq!(node.mirror.is_masked(), Some(false));
        node.end(lives);
        assert!(node.said(CLIENT).1);
    }
}

#[test]
fn a_twin_that_is_reset_is_out_whether_it_was_ahead_or_behind() {
    for lead in [true, false] {
        for (dies, lives) in [(ONE, OTHER), (OTHER, ONE)] {
            let mut node = Node::standing(lead);
            node.say(dies, b"one two three");
            node.say(lives, b"one");
            assert_eq!(node.close(dies, false), lost(dies, Loss::Reset));
            assert_eq!(node.said(CLIENT).0, "one");
            node.say(lives, b" two, and a half");
            assert_eq!(node.said(CLIENT).0, "one two, and a half");
            let mut node = Node::standing(lead);
            node.say(lives, b"one two three");
            node.close(dies, false);
            assert_eq!(node.said(CLIENT).0, "one two three");
            // Nobody is left.
            let all = [CLIENT, ONE, OTHER].map(Effect::Reset);
            let mut last = lost(lives, Loss::Reset).to_vec();
            last.extend(all);
            assert_eq!(node.close(lives, false), last);
            assert!(!node.said(CLIENT).1, "no orderly end");
            assert_eq!(node.event(Event::Lead), all);
        }
    }
}

#[test]
fn what_a_twin_said_before_it_closed_is_not_forgotten() {
    let mut node = Node::standing(false);
    node.end(CLIENT);
    node.say(ONE, b"all of it");
    node.end(ONE);
    assert_eq!(node.close(ONE, true), []);
    let mut bytes = Vec::new();
    node.mirror.encode(&mut bytes);
    assert_eq!(Mirror::decode(&bytes).as_ref(), Some(&node.mirror));
    node.say(OTHER, b"all");
    assert_eq!(node.said(CLIENT), ("all".to_owned(), false));
    let mut agrees = Node { mirror: node.mirror.clone(), ..Node::standing(false) };
    agrees.legs[1] = None;
    agrees.say(OTHER, b" of it");
    agrees.end(OTHER);
    assert_eq!(agrees.said(CLIENT), (" of it".to_owned(), true));
    // The other one dies: what is left of the first is the rest.
    assert_eq!(node.close(OTHER, false), lost(OTHER, Loss::Reset));
    assert_eq!(node.said(CLIENT), ("all of it".to_owned(), true));
}

#[test]
fn twins_that_differ_wait_for_a_word_and_the_other_one_goes_on() {
    for lead in [true, false] {
        for (younger, elder) in [(ONE, OTHER), (OTHER, ONE)] {
            let mut node = Node::standing(lead);
            node.say(younger, b":7 :8");
            assert_eq!(node.say(elder, b":7 :9"), [Effect::Differs { offset: 4 }]);
            assert_eq!(node.said(CLIENT).0, ":7 :");
            let mut excerpts = node.mirror.excerpts(&mut node.legs);
            excerpts.sort();
            assert_eq!(excerpts, [b"8".to_vec(), b"9".to_vec()]);
            assert_eq!(node.say(elder, b" :10"), [], "nothing passes, and it is asked once");
            assert_eq!(node.said(CLIENT).0, ":7 :");
            assert_eq!(node.event(Event::Lead), [Effect::Differs { offset: 4 }], "or by an heir");
            let word = Event::GivenUp { leg: younger, why: Loss::Differs };
            assert_eq!(node.event(word), lost(younger, Loss::Differs));
            assert_eq!(node.event(word), [], "it is said once");
            assert_eq!(node.said(CLIENT).0, ":7 :9 :10");
            assert_eq!(node.event(Event::Lead), [Effect::Reset(younger)]);
        }
    }
}

#[test]
fn twins_that_differ_end_a_session_where_that_is_the_policy() {
    let rules = MirrorRules { on_difference: OnDifference::Reset, ..RULES };
    let mut node = Node::standing_with(rules, true);
    node.say(ONE, b"a");
    let effects = node.say(OTHER, b"b");
    assert_eq!(effects[0], Effect::Differs { offset: 0 });
    assert_eq!(effects[1..], [CLIENT, ONE, OTHER].map(Effect::Reset));
    assert_eq!(node.mirror.is_masked(), None);
}

#[test]
fn one_that_cannot_be_dialled_or_refuses_leaves_the_other_one_alone() {
    for why in [Loss::Absent, Loss::Late, Loss::Refused] {
        for (gone, there) in [(ONE, OTHER), (OTHER, ONE)] {
            let mut node = Node::new(RULES, true);
            node.event(Event::Stands(CLIENT));
            node.say(CLIENT, b"hello");
            let effects = match why {
                Loss::Refused => node.event(Event::Closed { leg: gone, orderly: false }),
                _ => node.event(Event::GivenUp { leg: gone, why }),
            };
            assert_eq!(effects, lost(gone, why));
            node.legs[usize::from(there)] = app();
            node.event(Event::Stands(there));
            node.say(there, b"hi");
            assert_eq!((node.said(there).0, node.said(CLIENT).0), ("hello".into(), "hi".into()));
            assert_eq!(node.mirror.is_masked(), Some(false));
            assert_eq!(node.mirror.judge_at(&PATIENCE), None, "the last one is not judged");
        }
    }
    let mut node = Node::new(RULES, true);
    node.event(Event::Stands(CLIENT));
    node.event(Event::GivenUp { leg: ONE, why: Loss::Absent });
    let effects = node.event(Event::GivenUp { leg: OTHER, why: Loss::Absent });
    assert_eq!(effects[2..], [CLIENT, ONE, OTHER].map(Effect::Reset), "as where nobody listens");
}

#[test]
fn an_heir_dials_what_was_wanted_and_is_not_there() {
    let mut node = Node::new(RULES, false);
    assert_eq!(node.event(Event::Lead), [], "the client does not stand");
    node.event(Event::Stands(CLIENT));
    assert_eq!(node.event(Event::Lead), TWINS.map(Effect::Dial));
    node.legs[1] = app();
    assert_eq!(node.event(Event::Lead), [Effect::Dial(OTHER)]);
    node.event(Event::Stands(ONE));
    node.event(Event::GivenUp { leg: OTHER, why: Loss::Late });
    assert_eq!(node.event(Event::Lead), [Effect::Reset(OTHER)]);
}

#[test]
fn a_twin_that_is_silent_while_the_other_has_said_more_lags() {
    let mut node = Node::standing(true);
    node.say(CLIENT, b"?");
    for leg in TWINS {
        node.acknowledge(leg, 1);
    }
    node.pass(10_000);
    assert_eq!(node.mirror.judge_at(&PATIENCE), None, "both may think for as long as they like");
    node.say(ONE, b"ab");
    let due = |node: &Node| node.mirror.judge_at(&PATIENCE).map(|at| at.since(node.now));
    assert_eq!(due(&node), Some(Duration::from_secs(1)), "then checks are looked at");
    node.pass(2900);
    assert_eq!(node.judge([true, true]), None);
    assert_eq!(due(&node), Some(Duration::from_millis(100)));
    // It gets on.
    node.say(OTHER, b"a");
    node.pass(2900);
    assert_eq!(node.judge([true, true]), None);
    node.pass(100);
    assert_eq!(node.judge([true, true]), Some((OTHER, Loss::Lags)));
}

#[test]
fn a_twin_that_is_silent_and_down_by_its_checks_is_given_up_unless_both_are() {
    let mut node = Node::standing(true);
    node.say(CLIENT, b"?");
    node.acknowledge(ONE, 1);
    node.pass(999);
    assert_eq!(node.judge([true, false]), None);
    node.pass(1);
    assert_eq!(node.judge([false, true]), None, "it owes nothing");
    assert_eq!(node.judge([true, false]), Some((OTHER, Loss::Down)));
    let mut node = Node::standing(true);
    node.say(CLIENT, b"?");
    node.pass(5000);
    assert_eq!(node.judge([false, false]), None, "it may be us");
}

#[test]
fn whoever_is_kept_from_speaking_does_not_lag() {
    let mut node = Node::standing(true);
    let text = [7; 3000];
    node.say(ONE, &text);
    node.say(OTHER, &text[..2000]);
    node.pass(10_000);
    assert_eq!(node.judge([true, true]), None, "the client does not read");
    node.acknowledge(CLIENT, 2000);
    node.pass(3000);
    assert_eq!(node.judge([true, true]), Some((OTHER, Loss::Lags)));
}

#[test]
fn a_twin_lags_by_bytes_if_it_has_its_input_and_there_is_such_a_bound() {
    let rules = MirrorRules { lag_bytes: 100, ..RULES };
    let mut node = Node::standing_with(rules, true);
    node.say(CLIENT, b"?");
    node.say(ONE, &[7; 101]);
    assert_eq!(node.acknowledge(ONE, 1), [], "the other one may not have heard");
    assert_eq!(node.acknowledge(OTHER, 1), [Effect::Forsake(OTHER, Loss::Lags)]);
    let mut node = Node::standing_with(rules, true);
    assert_eq!(node.say(ONE, &[7; 100]), []);
    assert_eq!(node.say(OTHER, &[7; 1]), []);
    assert_eq!(node.say(ONE, &[7; 1]), []);
    assert_eq!(node.say(ONE, &[7; 1]), [Effect::Forsake(OTHER, Loss::Lags)]);
}

#[test]
fn a_syn_without_an_answer_is_waited_for_and_less_long_where_the_other_twin_is_there() {
    let mut node = Node::new(RULES, true);
    node.event(Event::Stands(CLIENT));
    let due = |node: &Node| node.mirror.judge_at(&PATIENCE).map(|at| at.since(node.now));
    assert_eq!(due(&node), Some(PATIENCE.connect));
    node.legs[2] = app();
    node.event(Event::Stands(OTHER));
    assert_eq!(due(&node), Some(RULES.lag_time));
    node.pass(3000);
    assert_eq!(node.judge([true, true]), Some((ONE, Loss::Late)));
}

#[test]
fn time_ends_a_session_in_which_nobody_speaks() {
    let mut node = Node::standing(true);
    let due = |node: &Node| node.mirror.deadline(&PATIENCE).map(|at| at.since(node.now));
    assert_eq!(due(&node), Some(PATIENCE.idle));
    node.pass(30_000);
    node.say(ONE, b"a");
    assert_eq!(due(&node), Some(PATIENCE.idle));
    let Node { mirror, legs, now, .. } = &mut node;
    assert!(mirror.is_idle(*now, legs), "nobody was told anything");
    node.say(OTHER, b"a");
    let Node { mirror, legs, now, .. } = &mut node;
    assert!(!mirror.is_idle(*now, legs), "the client has not heard it");
    assert_eq!(node.event(Event::Tick), [CLIENT, ONE, OTHER].map(Effect::Reset));
    assert_eq!(due(&node), None);
    let mut follower = Node::standing(false);
    follower.say(ONE, b"a");
    assert_eq!((due(&follower), follower.mirror.judge_at(&PATIENCE)), (None, None));
}

#[test]
fn a_client_that_breaks_off_ends_both_and_one_that_ends_does_not() {
    let mut node = Node::standing(true);
    assert_eq!(node.close(CLIENT, false), [CLIENT, ONE, OTHER].map(Effect::Reset));
    let mut node = Node::standing(true);
    node.say(CLIENT, b"last words");
    node.end(CLIENT);
    for leg in TWINS {
        node.end(leg);
    }
    assert!(node.said(CLIENT).1);
    assert_eq!(node.close(CLIENT, true), []);
    assert_eq!(node.said(ONE), ("last words".to_owned(), true));
    assert_eq!(node.close(ONE, true), []);
    assert_eq!(node.close(OTHER, false), [Effect::Reset(OTHER)], "no loss to anybody");
}

#[test]
fn a_mirror_is_what_its_snapshot_says_and_nothing_else_is_one() {
    let mut differing = Node::standing(false);
    differing.say(ONE, b"a");
    differing.say(OTHER, b"b");
    let mut alone = Node::standing(false);
    alone.close(OTHER, false);
    let mut told = Node::standing(false);
    told.say(CLIENT, b"some");
    for mut node in [Node::new(RULES, false), Node::standing(false), differing, alone, told] {
        node.event(Event::Moved);
        let mut bytes = Vec::new();
        node.mirror.encode(&mut bytes);
        assert_eq!(Mirror::decode(&bytes).as_ref(), Some(&node.mirror));
        for length in 0..bytes.len() {
            assert_eq!(Mirror::decode(&bytes[..length]), None);
        }
        bytes.push(0);
        assert_eq!(Mirror::decode(&bytes), None);
    }
    for leg in TWINS {
        for why in Loss::ALL {
            assert_eq!(Loss::decode(&why.encode(leg)), Some((leg, why)));
        }
    }
    for broken in [&[][..], &[0, 0], &[3, 0], &[1, 8], &[1], &[1, 0, 0]] {
        assert_eq!(Loss::decode(broken), None, "{broken:?}");
    }
}

/// The same bytes and ends in the same order, cut in any way: the same comes out.
#[test]
fn how_bytes_are_cut_makes_no_difference() {
    let texts: [&[u8]; 3] = [b"what the client says", b"what both say", b"what both say, or not"];
    for seed in 0..300_u64 {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut roll = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 33) as usize % 3
        };
        let order: Vec<usize> = (0..40).map(|_| roll()).collect();
        let outcomes = [1, 7].map(|most: usize| {
            let mut node = Node::standing(false);
            let mut at = [0; 3];
            let mut effects = Vec::new();
            for who in &order {
                // As many bytes of each in each turn, in pieces of one size or another.
                let until = texts[*who].len().min(at[*who] + 4);
                while at[*who] < until {
                    let end = until.min(at[*who] + most);
                    effects.extend(node.say(*who as Leg, &texts[*who][at[*who]..end]));
                    at[*who] = end;
                    if end == texts[*who].len() {
                        effects.extend(node.end(*who as Leg));
                    }
                }
            }
            (effects, [CLIENT, ONE, OTHER].map(|leg| node.said(leg)), node.mirror)
        });
        assert_eq!(outcomes[0], outcomes[1], "seed {seed}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_mirror_or_none(
        bytes in prop::collection::vec(0u8..5, 0..40),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut mixed = bytes.clone();
        mixed.extend(rest);
        for bytes in [bytes, mixed] {
            if let Some(mirror) = Mirror::decode(&bytes) {
                let mut again = Vec::new();
                mirror.encode(&mut again);
                prop_assert_eq!(Mirror::decode(&again), Some(mirror));
            }
        }
    }
}
