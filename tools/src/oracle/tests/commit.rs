//! I1, I2 and I6: what may leave, and which bytes.

use super::scene::{
    A, B, CHARGEN, ECHO, FILES, IRS, Ours, STREAM, Scene, input, opened, peer_finished, pin,
};
use crate::drill::chargen_byte;
use crate::oracle::{Invariant, Sight};

const REQUEST: &[u8] = b"GET /f HTTP/1.1\r\nHost: s\r\n\r\n";
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";

fn reply(body: &str) -> Vec<u8> {
    format!("{HEAD}{body}").into_bytes()
}

#[test]
fn an_echo_of_what_the_standby_holds_is_clean() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.tell(&input(0, b"hello"));
    scene.send(A, &scene.ours(0, 5, b"hello"));
    scene.client_fin(5, 5);
    scene.tell(&peer_finished(5));
    scene.send(A, &Ours { fin: true, ..scene.ours(5, 6, b"") });
    scene.client(6, 6, b"");
    scene.expect_clean();
}

#[test]
fn an_ack_of_what_the_standby_was_not_handed_is_lost_input() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.write(&input(0, b"hello"));
    scene.send(A, &scene.ours(0, 5, b""));
    scene.expect(Invariant::I1, "acknowledges 5, the standby holds 0");
}

#[test]
fn a_frame_that_has_not_come_as_a_whole_is_not_held() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.write(&input(0, b"hello"));
    scene.see(Sight::LinkIn { node: B, stream: STREAM, bytes: &[54, 0, 0, 0, 2, 0, 0, 0] });
    scene.send(A, &scene.ours(0, 5, b""));
    scene.expect(Invariant::I1, "acknowledges 5");
}

#[test]
fn the_ack_of_a_fin_needs_the_fin() {
    let mut scene = Scene::connected(ECHO);
    scene.client_fin(0, 0);
    scene.send(A, &scene.ours(0, 1, b""));
    scene.expect(Invariant::I1, "acknowledges 1, the standby holds 0");
}

#[test]
fn alone_nothing_is_owed() {
    let mut scene = Scene::simplex(ECHO);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"hello");
    scene.send(A, &scene.ours(0, 5, b"hello"));
    scene.expect_clean();
}

#[test]
fn the_copy_of_a_cookie_may_leave_when_its_connection_is_being_told() {
    let mut scene = Scene::duplex(ECHO);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"");
    scene.write(&opened(ECHO, false, 0, 0));
    scene.syn_ack(A);
    scene.expect_clean();
    scene.send(A, &scene.ours(0, 0, b""));
    scene.expect(Invariant::I1, "speaks before the standby holds its opening");
}

#[test]
fn a_syn_ack_before_the_standby_holds_the_opening_is_seen() {
    let mut scene = Scene::duplex(ECHO);
    scene.syn();
    scene.write(&opened(ECHO, false, 0, 0));
    scene.syn_ack(A);
    scene.expect(Invariant::I1, "before the standby holds its opening");
}

#[test]
fn an_older_connection_may_show_what_is_in_its_opening_and_no_more() {
    let mut scene = Scene::simplex(ECHO);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"hello, world");
    scene.link(STREAM);
    scene.write(&[7, 1, 0, 0, 0]);
    scene.write(&opened(ECHO, true, 5, 5));
    scene.send(A, &scene.ours(0, 5, b"hello"));
    scene.expect_clean();
    scene.send(A, &scene.ours(5, 5, b", world"));
    scene.expect(Invariant::I2, "echoes up to 12, the standby holds 5");
}

#[test]
fn a_connection_that_a_whole_snapshot_left_out_is_seen() {
    let mut scene = Scene::simplex(ECHO);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"");
    scene.link(STREAM);
    scene.tell(&[7, 0, 0, 0, 0]);
    scene.tell(&[8]);
    scene.send(A, &scene.ours(0, 0, b""));
    scene.expect(Invariant::I1, "never told");
}

#[test]
fn a_new_owner_that_acknowledges_less_has_lost_input() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.tell(&input(0, b"hello"));
    scene.send(A, &scene.ours(0, 5, b""));
    scene.takeover();
    scene.send(B, &Ours { window: 2_000, ..scene.ours(0, 3, b"") });
    scene.expect(Invariant::I1, "b acknowledges 3, a had acknowledged 5");
}

#[test]
fn an_ack_of_what_never_came_is_seen() {
    let mut scene = Scene::simplex(ECHO);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, b"hel");
    scene.send(A, &scene.ours(0, 5, b""));
    scene.expect(Invariant::I1, "acknowledges 5, and 3 came");
}

#[test]
fn a_standby_that_is_told_another_byte_is_seen() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.tell(&input(0, b"help!"));
    scene.expect(Invariant::I1, "told another byte 3");
}

#[test]
fn an_echo_ahead_of_the_standby_is_seen() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.tell(&input(0, b"hel"));
    scene.send(A, &scene.ours(0, 3, b"hello"));
    scene.expect(Invariant::I2, "echoes up to 5, the standby holds 3");
}

#[test]
fn another_byte_at_the_same_offset_is_a_second_stream() {
    let mut scene = Scene::connected(FILES);
    scene.client(0, 0, REQUEST);
    scene.tell(&input(0, REQUEST));
    scene.tell(&pin());
    let ack = REQUEST.len() as u64;
    let first = reply("01234567");
    scene.send(A, &scene.ours(0, ack, &first));
    scene.takeover();
    let second = reply("01234abcde");
    scene.send(B, &scene.ours(0, ack, &second));
    let violations = scene.oracle.violations();
    assert!(
        violations.iter().any(|v| v.invariant == Invariant::I2 && v.text.contains("is 0x61 now")),
        "{violations:#?}"
    );
}

#[test]
fn a_reply_needs_its_request_and_its_pin() {
    let mut scene = Scene::connected(FILES);
    scene.client(0, 0, REQUEST);
    scene.tell(&input(0, REQUEST));
    scene.send(A, &scene.ours(0, 0, &reply("01234")));
    scene.expect(Invariant::I2, "sends reply 0, the standby has 0 pins");

    let mut scene = Scene::connected(FILES);
    scene.client(0, 0, REQUEST);
    scene.tell(&pin());
    scene.send(A, &scene.ours(0, 0, &reply("01234")));
    scene.expect(Invariant::I2, "answers a request that ends at 28, the standby holds 0");
}

#[test]
fn pipelined_replies_with_their_pins_are_clean() {
    let mut scene = Scene::connected(FILES);
    let requests = REQUEST.repeat(2);
    scene.client(0, 0, &requests);
    scene.tell(&input(0, &requests));
    scene.tell(&pin());
    let (one, two) = (reply("0123456789"), reply("01234abcde"));
    scene.send(A, &scene.ours(0, 56, &one));
    scene.tell(&pin());
    scene.send(A, &scene.ours(one.len() as u64, 56, &two[..45]));
    scene.send(A, &scene.ours(one.len() as u64 + 45, 56, &two[45..]));
    scene.expect_clean();
    scene.send(A, &scene.ours(2 * one.len() as u64, 56, b"HTTP/1.1 200 OK\r\n\r\n"));
    scene.expect(Invariant::I6, "a reply to no request");
}

#[test]
fn replies_from_before_the_snapshot_need_no_pin() {
    let mut scene = Scene::simplex(FILES);
    scene.syn();
    scene.syn_ack(A);
    scene.client(0, 0, REQUEST);
    scene.link(STREAM);
    scene.tell(&[7, 1, 0, 0, 0]);
    scene.tell(&opened(FILES, true, 28, 28));
    scene.tell(&[8]);
    scene.send(A, &scene.ours(0, 28, &reply("0123456789")));
    scene.expect_clean();
}

#[test]
fn a_version_of_a_file_is_kept_to() {
    let mut scene = Scene::connected(FILES);
    scene.client(0, 0, REQUEST);
    scene.tell(&input(0, REQUEST));
    scene.tell(&pin());
    scene.send(A, &scene.ours(0, 28, &reply("01234a6789")));
    scene.expect(Invariant::I6, "is 0x36, and 0x62 belongs there");
}

#[test]
fn a_wrong_byte_of_echo_or_chargen_is_seen() {
    let mut scene = Scene::connected(ECHO);
    scene.client(0, 0, b"hello");
    scene.tell(&input(0, b"hello"));
    scene.send(A, &scene.ours(0, 5, b"hallo"));
    scene.expect(Invariant::I6, "byte 1 of the output is 0x61, and 0x65");

    let mut scene = Scene::connected(CHARGEN);
    let mut bytes: Vec<u8> = (0..200).map(chargen_byte).collect();
    scene.send(A, &scene.ours(0, 0, &bytes));
    scene.expect_clean();
    bytes[7] ^= 1;
    scene.send(A, &scene.ours(200, 0, &bytes[..1]));
    scene.expect(Invariant::I6, "byte 200");
}

#[test]
fn an_end_that_moves_is_a_second_stream() {
    let mut scene = Scene::connected(FILES);
    scene.send(A, &Ours { fin: true, ..scene.ours(0, 0, b"") });
    scene.send(A, &Ours { fin: true, ..scene.ours(3, 0, b"") });
    scene.expect(Invariant::I2, "the output ended at 0, and ends at 3 now");
}

#[test]
fn sequence_numbers_may_wrap() {
    assert!(IRS.checked_add(20).is_none(), "the scene's input wraps early");
    let mut scene = Scene::connected(ECHO);
    for at in (0..100).step_by(10) {
        scene.client(at, at, b"0123456789");
        scene.tell(&input(at, b"0123456789"));
        scene.send(A, &scene.ours(at, at + 10, b"0123456789"));
    }
    scene.expect_clean();
}
