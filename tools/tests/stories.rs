//! Stories of takeovers, in the simulator's world: each ends with every client's stream checked byte by
//! byte, with the observer silent about all that the invariants say, and with nobody lost.

use Target::{A, B, Primary, Standby};
use standin_tools::sim::Outcome;
use standin_tools::sim::plan::{Slip, Stack, Target, Trouble};
use standin_tools::sim::story::{Story, duplex, micros, millis, output, simplex};

fn takeovers(outcome: &Outcome) -> u64 {
    outcome.tally.count("takeovers")
}

// ---- what may befall a pair ----

#[test]
fn a_single_node_serves_every_service() {
    let outcome = simplex().busy().heals_at(400).must_finish();
    assert_eq!(takeovers(&outcome), 0);
}

#[test]
fn duplex_serves_every_service() {
    let outcome = duplex().busy().must_finish();
    assert_eq!(takeovers(&outcome), 0);
}

#[test]
fn whatever_happens_in_mid_stream_is_unnoticed() {
    type Fail = fn(Story) -> Story;
    let failures: [(Fail, u64); 9] = [
        (|story| story.kill(Primary), 1),
        (|story| story.poweroff(Primary), 1),
        (|story| story.freeze(Primary, 300), 1),
        (|story| story.unplug(Primary, 400), 1),
        (|story| story.switch_over(), 1),
        (|story| story.part(400), 0),
        (|story| story.kill(Standby), 0),
        (|story| story.freeze(Standby, 300), 0),
        (|story| story.poweroff(Standby), 0),
    ];
    for (fail, expected) in failures {
        for loss in [0, 60_000] {
            let story = duplex().busy().with(|plan| plan.lan.loss = loss);
            assert_eq!(takeovers(&fail(story).must_finish()), expected);
        }
    }
}

#[test]
fn a_switchover_there_and_back() {
    let talk = duplex().busy().talk(20, 50);
    let outcome = talk.switch_over().switch_over().at(millis(500)).must_finish();
    assert_eq!(takeovers(&outcome), 2);
}

#[test]
fn a_standby_that_starts_late_protects_old_connections() {
    let late = simplex().with(|plan| plan.pair.start_us[1] = 810_000);
    let outcome = late.busy().talk(20, 50).kill(A).at(millis(800)).must_finish();
    assert_eq!(takeovers(&outcome), 1);
}

#[test]
fn hosts_die_in_turn_again_and_again() {
    let mut story = duplex().download(20_000).talk(100, 40);
    for round in 0..6 {
        story = story.kill(Primary).at(millis(10 + 700 * round)).back_after(5);
    }
    assert_eq!(takeovers(&story.must_finish()), 6);
}

#[test]
fn idle_connections_outlive_their_server() {
    let idle = (0..5).fold(duplex(), |story, _| story.talk(2, 40_000));
    idle.kill(Primary).at(millis(20_000)).must_finish();
}

// ---- any moment of a connection's life ----

#[test]
fn a_primary_that_dies_before_any_of_its_outputs_is_unnoticed() {
    for number in 0..50 {
        duplex().echo(4).upload(20).download(20).kill(Primary).at(output(number)).must_finish();
        duplex().echo(4).over_ipv6().fetch().poweroff(Primary).at(output(number)).must_finish();
    }
}

#[test]
fn a_kill_in_the_handshake_is_unnoticed() {
    for moment in 0..60 {
        let story = duplex().echo(1).fetch().over_ipv6().download(40);
        story.kill(Primary).at(micros(10 * moment)).must_finish();
    }
}

/// Nothing of it is in the log but the first line of chargen, which follows from no input.
#[test]
fn a_power_failure_as_output_without_input_begins_is_unnoticed() {
    for moment in 0..80 {
        duplex().download(40).poweroff(Primary).at(micros(12 * moment)).must_finish();
    }
}

#[test]
fn a_handshake_by_cookie_survives_a_kill_at_any_moment() {
    for number in 0..40 {
        let cookies = duplex().with(|plan| plan.pair.backlog = 0).echo(30);
        let outcome = cookies.kill(Primary).at(output(number)).must_finish();
        assert!(outcome.tally.count("SYN cookies") > 0 || number < 20, "before {number}");
    }
}

#[test]
fn half_closed_connections_are_carried_on() {
    for moment in 0..20 {
        let story = duplex().fetch_half_closed().fetch_half_closed().over_ipv6();
        story.kill(Primary).at(micros(170 * moment)).must_finish();
    }
}

#[test]
fn a_hand_over_may_be_interrupted_between_any_two_outputs() {
    for number in 0..25 {
        for node in [Primary, Standby] {
            let busy = || duplex().echo(40).talk(30, 2).switch_over().at(millis(10));
            busy().freeze(node, 200).at(output(number)).must_come_right();
            busy().kill(node).at(output(number)).must_come_right();
        }
    }
}

// ---- what seeds have found ----

/// The end of a reply is no consequence of what its client says later, of which something is always
/// unconfirmed.
#[test]
fn who_never_stops_talking_sees_the_end_all_the_same() {
    let slow = duplex().with(|plan| {
        plan.link.delay_us = 3000;
        plan.pair.request_timeout_us = 500_000;
    });
    let outcome = slow.dawdle(1000).heals_at(1500).must_finish();
    assert_eq!(outcome.tally.count("requests that took too long"), 1);
    assert!(outcome.simulated < 5_000_000_000, "{}", outcome.portrait);
}

#[test]
fn a_request_that_never_ends_keeps_nobody_else_waiting() {
    for stack in [Stack::Own, Stack::Foreign] {
        let patient = duplex().with(|plan| plan.pair.request_timeout_us = 400_000);
        let story = patient.dawdle(20_000).who(|client| client.stack = stack).fetch().echo(100);
        let outcome = story.kill(Primary).at(millis(300)).must_finish();
        assert_eq!(outcome.tally.count("requests that took too long"), 1);
    }
}

#[test]
fn a_burst_goes_on_after_a_takeover_in_its_middle() {
    for moment in [300, 700, 1500, 4000, 9000] {
        let bursts = (0..3).fold(duplex(), |story, _| story.burst(1000));
        bursts.kill(Primary).at(micros(moment)).must_finish();
    }
}

#[test]
fn a_request_that_waits_for_the_disk_is_answered_by_the_heir() {
    let busy = |node| Trouble::BusyDisk { node, for_us: 400_000 };
    let story = duplex().fetch().trouble(busy(A)).at(micros(0)).trouble(busy(B)).at(micros(0));
    story.kill(Primary).at(millis(5)).must_finish();
}

#[test]
fn a_link_that_breaks_again_and_again_is_used_again() {
    let mut story = duplex().busy();
    for moment in 0..6 {
        story = story.trouble(Trouble::ResetLink).at(micros(500 * moment));
    }
    story.kill(Primary).at(millis(600)).must_finish();
}

#[test]
fn splices_go_on_whoever_dies() {
    for number in 0..20 {
        let story = duplex().echo(20).through_relay().download(100).through_relay();
        story.upload(50).through_relay().kill(Primary).at(output(number)).must_finish();
    }
}

/// Where a lost peer stops the primary an operator may start it alone. Nobody is carried on then, and
/// everybody is served who comes later.
#[test]
fn a_stopped_primary_is_started_alone_and_paired_again() {
    let stops = duplex().with(|plan| plan.pair.lost_peer_stops = true).echo(4).talk(3, 400);
    let alone = Trouble::Slip { node: A, slip: Slip::Alone, for_us: 2_000_000 };
    let story = stops.poweroff(B).trouble(alone).at(millis(400));
    let story = story.echo(40).who(|client| client.at_us += 1_800_000);
    let outcome = story.must_come_right();
    assert_eq!(outcome.tally.count("two speakers in a split"), 0);
    assert!(outcome.tally.count("connections done") >= 2, "{}", outcome.portrait);
}

/// It is told of once, protects nobody, and costs nobody anything.
#[test]
fn a_node_with_other_services_is_no_partner_until_it_is_put_right() {
    let slip = Trouble::Slip { node: B, slip: Slip::Services, for_us: 1_000_000 };
    let outcome = duplex().busy().talk(10, 200).trouble(slip).must_finish();
    assert_eq!(outcome.tally.count("told of a peer that is no partner"), 2);
}

#[test]
fn hosts_whose_lan_differs_are_no_pair_meanwhile() {
    for (node, takeovers_expected) in [(A, 0), (B, 0)] {
        let narrow = Trouble::LanMtu { node, mtu: 1400, for_us: 500_000 };
        let outcome = duplex().busy().talk(10, 80).trouble(narrow).must_finish();
        assert_eq!(takeovers(&outcome), takeovers_expected);
    }
}

#[test]
#[should_panic(expected = "convergence")]
fn a_story_that_does_not_end_well_says_so() {
    let never = duplex().echo(4).who(|client| client.at_us = 3_599_000_000);
    never.kill(Primary).at(output(7)).must_finish();
}
