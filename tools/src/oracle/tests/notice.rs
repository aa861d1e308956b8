//! I4: what a client would notice.

use etherparse::TcpOptionElement as Opt;

use super::scene::{A, B, ECHO, MILLISECOND, Ours, Scene, input};
use crate::oracle::{Invariant, Sight};

fn spoken() -> Scene {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.tell(&input(0, b"hello"));
    scene.after(5 * MILLISECOND);
    scene.send(A, &scene.ours(0, 5, b"hello"));
    scene
}

#[test]
fn a_takeover_that_goes_on_is_clean() {
    let mut scene = spoken();
    scene.takeover();
    scene.send(B, &scene.ours(0, 5, b"hello"));
    scene.client(5, 5, b"!");
    scene.send(B, &scene.ours(5, 6, b"!"));
    scene.expect_clean();
}

#[test]
fn a_reset_at_takeover_is_seen_unless_it_is_excused() {
    let mut scene = spoken();
    scene.takeover();
    scene.reset(B);
    scene.expect(Invariant::I4, "b resets a live connection, which it knows");

    let mut scene = spoken();
    scene.takeover();
    scene.excuse();
    scene.reset(B);
    scene.expect_clean();
}

#[test]
fn who_promised_nothing_may_lose_connections() {
    let mut scene = spoken();
    scene.says(A, true, 2, false);
    scene.takeover();
    scene.reset(B);
    scene.expect_clean();
}

#[test]
fn two_failures_at_once_may_lose_connections() {
    let mut scene = spoken();
    scene.see(Sight::Ended { node: B });
    scene.see(Sight::Ended { node: A });
    scene.see(Sight::Started { node: B });
    scene.own(B, 3);
    scene.reset(B);
    scene.expect_clean();
}

#[test]
fn a_connection_that_is_over_may_be_reset() {
    let mut scene = spoken();
    scene.client_fin(5, 5);
    scene.tell(&super::scene::peer_finished(5));
    scene.send(A, &Ours { fin: true, ..scene.ours(5, 6, b"") });
    scene.client(6, 6, b"");
    scene.reset(A);
    scene.expect_clean();
}

#[test]
fn steps_back_are_seen() {
    let mut scene = spoken();
    scene.send(A, &Ours { window: 2_000, ..scene.ours(5, 3, b"") });
    scene.expect(Invariant::I4, "ACK 3 after 5");

    let mut scene = spoken();
    scene.now -= 2 * MILLISECOND;
    scene.send(A, &scene.ours(5, 5, b""));
    scene.expect(Invariant::I4, "timestamp 503 after 505");

    let mut scene = spoken();
    scene.send(A, &Ours { window: 1_000, ..scene.ours(5, 5, b"") });
    scene.expect(Invariant::I4, "window shrinks");
}

#[test]
fn an_edge_may_be_rounded_down_by_less_than_a_unit() {
    let mut scene = spoken();
    scene.client(5, 5, &[0; 31]);
    scene.tell(&input(5, &[0; 31]));
    scene.send(A, &Ours { window: 1_023, ..scene.ours(5, 36, b"") });
    scene.expect_clean();
}

#[test]
fn options_keep_their_meaning() {
    let mut scene = spoken();
    scene.send(A, &Ours { options: Vec::new(), ..scene.ours(5, 5, b"") });
    scene.expect(Invariant::I4, "timestamps are missing");

    let mut scene = spoken();
    let mut odd = scene.ours(5, 5, b"");
    odd.options.push(Opt::WindowScale(3));
    scene.send(A, &odd);
    scene.expect(Invariant::I4, "options of a SYN");
}

#[test]
fn sack_blocks_are_about_bytes_that_came() {
    let block = |from: u32, to: u32| {
        let at = |offset| super::scene::IRS.wrapping_add(1).wrapping_add(offset);
        Opt::SelectiveAcknowledgement((at(from), at(to)), [None; 3])
    };
    let with = |option: Opt| {
        let mut scene = spoken();
        scene.client(8, 5, b"ahead");
        let mut ours = scene.ours(5, 5, b"");
        ours.options.push(option);
        scene.send(A, &ours);
        scene
    };
    with(block(8, 13)).expect_clean();
    with(block(2, 5)).expect_clean();
    with(block(8, 14)).expect(Invariant::I4, "SACK block 8..14");
    with(block(4, 7)).expect(Invariant::I4, "SACK block 4..7");
}

#[test]
fn a_segment_larger_than_the_client_takes_is_seen() {
    let mut scene = spoken();
    let input_bytes = vec![7; 1_449];
    scene.client(5, 5, &input_bytes);
    scene.tell(&input(5, &input_bytes));
    scene.send(A, &scene.ours(5, 5, &input_bytes[..1_448]));
    scene.expect_clean();
    scene.send(A, &scene.ours(5, 5, &input_bytes));
    scene.expect(Invariant::I4, "a segment of 1461 bytes with options; MSS 1460");
}

#[test]
fn a_sequence_number_from_nowhere_is_seen() {
    let mut scene = spoken();
    scene.send(A, &scene.ours(1 << 30, 5, b""));
    scene.expect(Invariant::I4, "none of this connection's");
}

#[test]
fn a_live_connection_is_not_opened_anew() {
    let mut scene = spoken();
    scene.takeover();
    scene.syn_ack(B);
    scene.expect_clean();
}
