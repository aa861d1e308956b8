//! The oracles bite: each mistake that an engine can be told to make is found out in seeded worlds,
//! as a break of the invariant that it breaks, within a stated number of seeds. Without it the
//! observer finds nothing in the same worlds. The table is in `engine/docs/proof.md`.
//!
//! So does `standin-replay crash`: a mistake at a takeover is found with real clients too, and the
//! packet of the capture at which it shows first is named.
//!
//! `cargo test -p standin-tools --features defects --test bite`
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::Duration;

use standin::defects::Defect;
use standin_tools::oracle::Invariant;
use standin_tools::replay::crash::{Death, Events, Options, Report, crash};
use standin_tools::sim::{Judge, Plan, Tell, run};

/// All stated numbers are at most this.
const SEEDS: u64 = 150;

/// What is wrong first in the world of `seed`, in which both engines make the mistake.
fn complaint(seed: u64, defect: Option<Defect>) -> Option<String> {
    let mut plan = Plan::draw(seed);
    plan.pair.defect = defect;
    let violation = run(&plan, Judge::of(&plan), Tell::Nothing).violation?;
    Some(format!("{}: {}", violation.rule, violation.text))
}

/// One of the first `within` seeds must show `invariant` broken.
#[track_caller]
fn bites(defect: Defect, invariant: Invariant, within: u64) {
    breaks(defect, &invariant.to_string(), within);
}

/// The same for a rule that is none of the invariants.
#[track_caller]
fn breaks(defect: Defect, rule: &str, within: u64) {
    assert!(within <= SEEDS, "the seeds that are known to be clean");
    let found = (1..=within).find_map(|seed| {
        let complaint = complaint(seed, Some(defect))?;
        complaint.starts_with(rule).then_some((seed, complaint))
    });
    let Some((seed, complaint)) = found else {
        panic!("{defect:?}: {rule} seemed whole in {within} seeds");
    };
    println!("{defect:?} | {within} | {seed} | {complaint}");
}

/// What a world demands beyond the invariants is the matter of its own tests.
#[test]
fn without_a_mistake_no_invariant_is_broken() {
    use Invariant::{I1, I2, I3, I4, I5, I6, I7};
    let rules = [I1, I2, I3, I4, I5, I6, I7].map(|invariant| invariant.to_string());
    let complaints: Vec<_> = (1..=SEEDS)
        .filter_map(|seed| Some((seed, complaint(seed, None)?)))
        .filter(|(_, complaint)| rules.iter().any(|rule| complaint.starts_with(rule)))
        .map(|(seed, complaint)| format!("seed {seed}: {complaint}"))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn input_acknowledged_before_its_commit() {
    bites(Defect::AckBeforeCommit, Invariant::I1, 5);
}

#[test]
fn a_fin_that_the_log_lacks() {
    bites(Defect::FinNotLogged, Invariant::I1, 5);
}

#[test]
fn output_sent_before_its_commit() {
    bites(Defect::OutputBeforeCommit, Invariant::I2, 5);
}

#[test]
fn output_sent_with_what_was_before_it() {
    bites(Defect::EffectBeforeCause, Invariant::I2, 5);
}

#[test]
fn a_pin_that_the_log_lacks() {
    bites(Defect::PinNotLogged, Invariant::I2, 10);
}

#[test]
fn a_splice_that_shows_before_its_commit() {
    bites(Defect::SpliceBeforeCommit, Invariant::I1, 20);
}

#[test]
fn a_splice_with_another_delta_after_a_takeover() {
    bites(Defect::WrongDeltaAfterTakeover, Invariant::I2, 40);
}

#[test]
fn a_sleeper_that_speaks_on() {
    // Its loop hears of the new owner before it writes: only a sleep between the two shows it.
    bites(Defect::SpeakAfterLease, Invariant::I3, 60);
}

#[test]
fn a_takeover_that_nobody_granted() {
    bites(Defect::TakeOverUnasked, Invariant::I3, 60);
}

#[test]
fn a_recording_that_is_believed() {
    bites(Defect::BelieveUnanswered, Invariant::I3, 60);
}

#[test]
fn timestamps_that_step_back() {
    bites(Defect::TimestampRegression, Invariant::I4, 60);
}

#[test]
fn a_window_that_shrinks() {
    bites(Defect::WindowShrink, Invariant::I4, 60);
}

#[test]
fn carried_connections_reset() {
    bites(Defect::ResetAtTakeover, Invariant::I4, 60);
}

#[test]
fn held_connections_forgotten() {
    bites(Defect::ForgetAtTakeover, Invariant::I4, 60);
}

#[test]
fn a_claim_before_the_routes() {
    bites(Defect::AnnounceBeforeRoutes, Invariant::I5, 5);
}

#[test]
fn packets_before_the_claim() {
    bites(Defect::SpeakBeforeAnnounce, Invariant::I5, 20);
}

#[test]
fn a_wrong_bit_after_a_takeover() {
    bites(Defect::WrongByteAfterTakeover, Invariant::I6, 60);
}

#[test]
fn a_reply_that_goes_on_unverified() {
    breaks(Defect::GoOnUnverified, "I6 wrong bytes", 150);
}

#[test]
fn a_cut_reply_that_ends_in_order() {
    breaks(Defect::EarlyEndIsEnd, "I6 wrong bytes", 150);
}

#[test]
fn a_byte_that_one_of_two_servers_has_said() {
    bites(Defect::PassUnagreed, Invariant::I6, 60);
}

#[test]
fn a_server_whose_end_the_standby_does_not_follow() {
    breaks(Defect::ServerEndNotFollowed, "I8 once", 60);
}

#[test]
fn a_request_that_is_sent_again_unasked() {
    breaks(Defect::SendAgainUnasked, "I8 once", 40);
}

#[test]
fn a_word_that_is_always_protected() {
    bites(Defect::AlwaysProtected, Invariant::I7, 5);
}

#[test]
fn an_obstacle_that_nobody_is_told_of() {
    bites(Defect::HideObstacles, Invariant::I7, 30);
}

#[test]
fn a_burst_that_is_answered_at_once() {
    breaks(Defect::AnswerAtOnce, "budget", 60);
}

/// Two real clients that ask and wait; the primary dies at some events, with the mistake.
fn crashed(defect: Option<Defect>, threads: usize) -> Report {
    let capture = "tests/data/captures/takeover-echo.pcapng";
    let options = Options {
        services: Vec::new(),
        events: Events::Spread(30),
        death: Death::Process,
        connections: 10,
        pause_max: Duration::from_millis(50),
        mtu: 1500,
        threads,
        progress: false,
        defect,
    };
    crash(&Path::new(env!("CARGO_MANIFEST_DIR")).join(capture), &options).unwrap()
}

#[test]
fn mistakes_at_a_takeover_show_in_a_crashed_capture() {
    assert!(crashed(None, 0).is_clean());
    for (defect, rule) in [
        (Defect::TimestampRegression, "I4"),
        (Defect::ResetAtTakeover, "I4"),
        (Defect::SpeakBeforeAnnounce, "I5"),
        (Defect::WrongByteAfterTakeover, "I2"),
    ] {
        let reports = [1, 4].map(|threads| crashed(Some(defect), threads));
        let [told, again] = reports.map(|report| (report.is_clean(), report.to_string()));
        assert!(!told.0 && told.1.contains("FAILED first at packet "), "{defect:?}: {}", told.1);
        assert!(told.1.contains(rule), "{defect:?}: {}", told.1);
        assert_eq!(told, again, "whatever the number of threads");
    }
}
