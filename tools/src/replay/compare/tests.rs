//! Recorded conversations that are made here, with ours in the server's place.

use super::*;
use crate::replay::testing::{ACK, Capture, SERVER, Seg, Temporary, classic};

fn options() -> Options {
    Options { services: Vec::new(), files: None, mtu: 1500, brief: false }
}

fn with(kind: Kind, port: u16) -> Options {
    let service = Service { at: (SERVER, port).into(), kind };
    Options { services: vec![service], ..options() }
}

fn run(capture: &Capture, options: &Options) -> Report {
    replay(capture.file().path(), options).unwrap()
}

/// What differs in the first connection.
fn differences(capture: &Capture, options: &Options) -> Vec<String> {
    run(capture, options).connections[0].differences.clone()
}

fn data(seq: i64, payload: &[u8]) -> Seg<'_> {
    Seg { seq, payload, flags: "P.", ..ACK }
}

/// A client says hello, the server repeats it in `reply`, and both close.
fn conversation(port: u16, reply: &[u8]) -> Capture {
    let mut capture = Capture::established(port);
    capture.client(3, data(0, b"hello"));
    capture.server(4, Seg { ack: 5, ..data(0, reply) });
    let end = reply.len() as i64;
    capture.client(5, Seg { seq: 5, ack: end, flags: "F.", ..ACK });
    capture.server(6, Seg { seq: end, ack: 6, flags: "F.", ..ACK });
    capture.client(7, Seg { seq: 6, ack: end + 1, ..ACK });
    capture
}

#[test]
fn our_echo_answers_as_the_recorded_one() {
    let capture = conversation(7, b"hello");
    let report = run(&capture, &with(Kind::Echo, 7));
    assert!(report.is_clean(), "{report}");
    let text = report.to_string();
    assert!(text.contains("reply: 5 bytes compared, the same"), "{text}");
    assert!(text.contains("end: recorded FIN at 5, after the client's; ours FIN at 5"), "{text}");
}

#[test]
fn another_byte_and_another_length_are_differences() {
    let wrong = differences(&conversation(7, b"hellO"), &with(Kind::Echo, 7));
    assert_eq!(wrong, [r#"reply: byte 4: recorded "O", ours "o""#]);
    let longer = differences(&conversation(7, b"hello, too long"), &with(Kind::Echo, 7));
    let short = "reply: the client had 15 bytes of the recorded server; ours sent 5";
    assert!(longer.contains(&short.to_owned()), "{longer:?}");
}

#[test]
fn any_service_is_replayed_from_its_recorded_reply() {
    let capture = conversation(22, b"SSH-2.0-of whatever kind it was");
    let report = run(&capture, &options());
    assert!(report.is_clean(), "{report}");
    assert!(report.to_string().contains("31 bytes were acknowledged, ours sent 31"), "{report}");
}

#[test]
fn service_that_is_not_there_is_a_difference() {
    let capture = conversation(7, b"hello");
    let elsewhere = with(Kind::Echo, 8);
    let services =
        vec![elsewhere.services[0], Service { at: (SERVER, 7).into(), kind: Kind::Discard }];
    let discard = differences(&capture, &Options { services, ..options() });
    assert_eq!(discard.len(), 2, "no reply, and a FIN elsewhere: {discard:?}");
}

#[test]
fn server_that_resets_is_followed_by_a_script_and_not_by_a_service() {
    let mut capture = Capture::established(7);
    capture.client(3, data(0, b"hello"));
    capture.server(4, Seg { ack: 5, flags: "R.", ..ACK });
    assert!(run(&capture, &options()).is_clean());
    let echo = differences(&capture, &with(Kind::Echo, 7));
    assert_eq!(echo, ["end: recorded reset; ours open"]);
}

#[test]
fn options_that_only_one_side_agrees_to_are_differences() {
    let mut capture = Capture::new(7);
    capture.client(0, Seg { seq: -1, flags: "S", ..ACK });
    // An answer without any option but timestamps.
    capture.server(1, Seg { seq: -1, flags: "S.", ..ACK });
    let (_, answer) = capture.frames.last_mut().unwrap();
    let options_at = 14 + 20 + 20;
    let length = answer.len();
    answer[options_at + 10..length].fill(1);
    capture.client(2, ACK);
    let found = differences(&capture, &options());
    let names = ["SACK", "window scaling", "MSS option"];
    assert_eq!(found.len(), names.len(), "{found:?}");
    for name in names {
        assert!(found.contains(&format!("handshake: {name}: recorded no, ours yes")), "{found:?}");
    }
}

#[test]
fn acknowledgment_of_what_ours_has_not_sent_waits_for_it() {
    let mut capture = Capture::established(80);
    capture.client(3, data(0, b"GET"));
    // A burst larger than our initial window, acknowledged at once.
    let part = [b'x'; 1448];
    for index in 0..40 {
        capture.server(4, Seg { ack: 3, ..data(1448 * index, &part) });
    }
    capture.client(5, Seg { seq: 3, ack: 1448 * 40, window: 30_000, ..ACK });
    let report = run(&capture, &options());
    assert!(report.is_clean(), "{report}");
    let text = report.to_string();
    assert!(text.contains("57920 bytes were acknowledged, ours sent 57920"), "{text}");
}

#[test]
fn capture_that_lacks_bytes_of_the_client_is_not_held_against_us() {
    let mut capture = Capture::established(80);
    capture.client(3, data(5, b"world"));
    capture.server(4, Seg { ack: 10, ..ACK });
    let report = run(&capture, &options());
    assert!(report.is_clean(), "{report}");
    assert!(report.to_string().contains("the capture lacks some of the client's bytes"));
}

#[test]
fn capture_that_lacks_bytes_of_the_reply_gets_zeros() {
    let mut capture = Capture::established(80);
    capture.server(3, data(100, b"tail"));
    capture.client(4, Seg { ack: 104, ..ACK });
    let report = run(&capture, &options());
    assert!(report.is_clean(), "{report}");
    assert!(report.to_string().contains("100 bytes are not in the capture"), "{report}");
}

#[test]
fn headers_alone_are_enough_for_the_tcp_level() {
    let mut capture = conversation(7, b"hello");
    for (_, frame) in &mut capture.frames {
        let whole = frame.len() as u32;
        frame.truncate(14 + 20 + 20 + 12 + 8);
        let _ = whole;
    }
    // A classic file of cut frames: the lengths on the wire stay in the IP headers.
    let report =
        replay(Temporary::of(&classic(1, false, false, &capture.frames)).path(), &options());
    assert!(report.unwrap().is_clean());
}

#[test]
fn connection_without_its_syn_is_counted_and_left_alone() {
    let mut capture = Capture::new(80);
    capture.client(0, data(0, b"hello"));
    let report = run(&capture, &options());
    assert!(report.is_empty());
    assert_eq!(report.capture.midway, 1);
}

#[test]
fn same_capture_gives_the_same_report() {
    let capture = conversation(7, b"hello");
    let report = || run(&capture, &with(Kind::Echo, 7)).to_string();
    assert_eq!(report(), report());
}
