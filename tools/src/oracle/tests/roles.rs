//! I3, I5 and I7: who speaks, in which order, and what it says of itself.

use super::scene::{A, B, DETECTION, ECHO, MILLISECOND, STREAM, Scene, input};
use crate::oracle::{Invariant, Sight};

#[test]
fn a_primary_that_wakes_and_speaks_on_is_a_second_speaker() {
    let mut scene = Scene::connected(ECHO);
    scene.see(Sight::Frozen { node: A });
    scene.after(2 * DETECTION);
    scene.own(B, 3);
    scene.send(B, &scene.ours(0, 0, b""));
    scene.see(Sight::Thawed { node: A });
    scene.send(A, &scene.ours(0, 0, b""));
    scene.expect(Invariant::I3, "a sends a packet in epoch 2, b spoke in 3");
}

#[test]
fn an_owner_that_comes_back_in_a_later_epoch_may_speak() {
    let mut scene = Scene::connected(ECHO);
    scene.takeover();
    scene.send(B, &scene.ours(0, 0, b""));
    scene.see(Sight::Ended { node: B });
    scene.see(Sight::Started { node: A });
    scene.own(A, 4);
    scene.expect_clean();
}

#[test]
fn epochs_begin_anew_when_nobody_lives_who_knew_them() {
    let mut scene = Scene::connected(ECHO);
    scene.takeover();
    scene.see(Sight::Ended { node: B });
    scene.see(Sight::Started { node: A });
    scene.own(A, 2);
    scene.expect_clean();
}

#[test]
fn a_later_owner_that_stands_still_does_not_speak() {
    let mut scene = Scene::connected(ECHO);
    scene.takeover();
    scene.send(B, &scene.ours(0, 0, b""));
    scene.see(Sight::Frozen { node: B });
    scene.see(Sight::Started { node: A });
    scene.own(A, 2);
    scene.expect_clean();
    scene.see(Sight::Thawed { node: B });
    scene.claim(B);
    scene.expect_clean();
    scene.claim(A);
    scene.expect(Invariant::I3, "a claims the address in epoch 2, b spoke in 3");
}

#[test]
fn a_claim_is_speech() {
    let mut scene = Scene::duplex(ECHO);
    scene.own(B, 3);
    scene.claim(A);
    scene.expect(Invariant::I3, "a claims the address in epoch 2");
}

#[test]
fn who_does_not_own_is_silent() {
    let mut scene = Scene::connected(ECHO);
    scene.says(A, false, 2, false);
    scene.send(A, &scene.ours(0, 0, b""));
    let violations = scene.oracle.violations();
    assert!(violations.iter().any(|v| v.invariant == Invariant::I3), "{violations:#?}");
}

#[test]
fn a_claim_without_routes_is_seen() {
    let mut scene = Scene::connected(ECHO);
    scene.see(Sight::Ended { node: A });
    scene.says(B, true, 3, false);
    scene.claim(B);
    scene.expect(Invariant::I5, "b claims the address without its routes");
}

#[test]
fn a_packet_before_the_claim_is_seen() {
    let mut scene = Scene::connected(ECHO);
    scene.see(Sight::Ended { node: A });
    scene.says(B, true, 3, false);
    scene.see(Sight::Routes { node: B, installed: true });
    scene.send(B, &scene.ours(0, 0, b""));
    scene.expect(Invariant::I5, "b sends from 10.77.0.100 before it claimed it");
}

#[test]
fn a_cookie_whose_acknowledgment_was_lost_is_nobodys() {
    let mut scene = Scene::duplex(ECHO);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"");
    scene.reset(A);
    scene.expect_clean();
}

#[test]
fn a_reset_by_who_never_knew_the_connection_is_seen() {
    let mut scene = Scene::duplex(ECHO);
    // Not told of, which is another mistake already, and not this one's.
    scene.see(Sight::LinkDown { node: A, stream: STREAM });
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"");
    scene.send(A, &scene.ours(0, 0, b""));
    scene.takeover();
    scene.reset(B);
    scene.expect(Invariant::I5, "of which it was never told");
}

/// A pair that says protected for `time` longer, looked at in steps of a millisecond.
fn watched(mut scene: Scene, time: u64) -> Scene {
    let until = scene.now + time;
    while scene.now < until {
        scene.after(MILLISECOND);
        scene.see(Sight::Routes { node: A, installed: true });
    }
    scene
}

#[test]
fn a_word_that_holds_may_stand() {
    watched(Scene::connected(ECHO), 10 * DETECTION).expect_clean();
}

#[test]
fn protected_by_the_dead_is_a_lie_after_the_time_to_notice() {
    let bereft = || {
        let mut scene = Scene::connected(ECHO);
        scene.see(Sight::Ended { node: B });
        scene
    };
    watched(bereft(), 2 * DETECTION).expect_clean();
    watched(bereft(), 2 * DETECTION + 10 * MILLISECOND)
        .expect(Invariant::I7, "although the other node is dead");
}

#[test]
fn protected_alone_is_a_lie() {
    let mut scene = Scene::simplex(ECHO);
    scene.says(A, true, 2, true);
    watched(scene, 3 * DETECTION).expect(Invariant::I7, "holds no whole snapshot");
}

#[test]
fn protected_with_input_that_the_standby_lacks_is_a_lie() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.write(&input(0, b"hello"));
    scene.send(A, &scene.ours(0, 5, b""));
    let scene = watched(scene, 3 * DETECTION);
    let broken: Vec<_> = scene.oracle.violations().iter().map(|v| v.invariant).collect();
    assert_eq!(broken, [Invariant::I1, Invariant::I7]);
}

#[test]
fn a_standby_whose_end_of_the_stream_is_gone_protects_with_what_it_holds() {
    let mut scene = Scene::connected(ECHO);
    scene.see(Sight::LinkDown { node: B, stream: STREAM });
    scene.see(Sight::LinkUp { node: B, stream: STREAM + 1 });
    watched(scene, 3 * DETECTION).expect_clean();
}

#[test]
fn a_standby_that_was_greeted_anew_protects_nobody() {
    let mut scene = Scene::connected(ECHO);
    scene.see(Sight::LinkDown { node: B, stream: STREAM });
    scene.see(Sight::LinkUp { node: B, stream: STREAM + 1 });
    let greeting = [0, 0, 0, 0, 1];
    scene.see(Sight::LinkIn { node: B, stream: STREAM + 1, bytes: &greeting });
    watched(scene, 3 * DETECTION).expect(Invariant::I7, "no whole snapshot that it could go on");
}

/// The primary's successor process knows nothing, and its heir dies before it has taken over.
#[test]
fn what_both_nodes_have_forgotten_is_nobodys() {
    let mut scene = Scene::connected(ECHO);
    scene.send(A, &scene.ours(0, 0, b""));
    scene.see(Sight::Ended { node: A });
    scene.see(Sight::Started { node: A });
    scene.see(Sight::Ended { node: B });
    scene.own(A, 2);
    scene.reset(A);
    scene.expect_clean();
}

#[test]
fn what_the_heir_still_holds_is_not_forgotten() {
    let mut scene = Scene::connected(ECHO);
    scene.send(A, &scene.ours(0, 0, b""));
    scene.see(Sight::Ended { node: A });
    scene.see(Sight::Started { node: A });
    scene.own(B, 3);
    scene.reset(B);
    scene.expect(Invariant::I4, "resets a live connection, which it knows");
}

#[test]
fn a_standby_that_holds_no_snapshot_is_not_one_that_protects() {
    let mut scene = Scene::simplex(ECHO);
    scene.link(STREAM);
    scene.says(B, false, 2, true);
    watched(scene, 3 * DETECTION).expect(Invariant::I7, "b says protected");
}

#[test]
fn a_sleeper_says_nothing() {
    let mut scene = Scene::connected(ECHO);
    scene.see(Sight::Ended { node: B });
    scene.see(Sight::Frozen { node: A });
    watched(scene, 10 * DETECTION).expect_clean();
}

#[test]
fn a_stream_in_an_unknown_format_is_reported() {
    let mut scene = Scene::duplex(ECHO);
    scene.see(Sight::LinkOut { node: A, stream: STREAM, bytes: &[1, 0, 0, 0, 9, 0] });
    scene.expect(Invariant::I1, "not in the format");
}
