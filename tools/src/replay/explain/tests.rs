//! Stories of captures that are made here.

use super::event::{Again, Cause, What};
use super::*;
use crate::replay::testing::{ACK, Capture, Seg, Temporary, pcapng};

const HELLO: &[u8] = b"hello";

fn options() -> Options {
    Options {
        servers: Vec::new(),
        midway: false,
        choices: Vec::new(),
        stall: Duration::from_millis(100),
        unfolded: false,
    }
}

fn report(capture: &Capture) -> Report {
    explain(capture.file().path(), &options()).unwrap()
}

/// The causes of the first connection's stalls, and their lengths in milliseconds.
fn stalls(capture: &Capture) -> Vec<(Cause, u64)> {
    let report = report(capture);
    let stalls = &report.summaries[0].first_stalls;
    stalls.iter().map(|stall| (stall.cause, stall.length / 1_000_000)).collect()
}

fn events(report: &Report) -> Vec<&What> {
    report.told[0].details.events.iter().map(|event| &event.what).collect()
}

fn agains(capture: &Capture) -> Vec<Again> {
    let report = report(capture);
    let again = events(&report).into_iter().filter_map(|what| match what {
        What::Again { why, .. } => Some(*why),
        _ => None,
    });
    again.collect()
}

fn data<'a>(seq: i64, payload: &'a [u8]) -> Seg<'a> {
    Seg { seq, payload, flags: "P.", ..ACK }
}

#[test]
fn silence_between_request_and_reply_is_the_servers_application() {
    let mut capture = Capture::established(80);
    capture.client(3, data(0, HELLO));
    capture.server(4, Seg { ack: 5, ..ACK });
    capture.server(400, Seg { ack: 5, ..data(0, HELLO) });
    assert_eq!(stalls(&capture), [(Cause::Application(Side::Server), 396)]);
}

#[test]
fn shut_window_is_the_readers_fault() {
    let mut capture = Capture::established(80);
    capture.server(3, data(0, HELLO));
    capture.client(4, Seg { ack: 5, window: 0, ..ACK });
    capture.server(210, Seg { seq: 4, ..ACK });
    capture.client(211, Seg { ack: 5, window: 0, ..ACK });
    capture.client(500, Seg { ack: 5, ..ACK });
    let full = (Cause::FullWindow(Side::Client), 496);
    assert_eq!(stalls(&capture), [full]);
    let report = report(&capture);
    let told = events(&report);
    assert!(told.contains(&&What::WindowShut) && told.contains(&&What::WindowProbe), "{told:?}");
    assert!(told.contains(&&What::WindowOpen { edge: 4_005 }), "{told:?}");
}

#[test]
fn timers_that_notice_a_loss_are_named_with_their_side() {
    for side in [Side::Server, Side::Client] {
        let mut capture = Capture::established(80);
        let say = if side == Side::Server { Capture::server } else { Capture::client };
        let answer = if side == Side::Server { Capture::client } else { Capture::server };
        say(&mut capture, 3, data(0, HELLO));
        say(&mut capture, 210, data(0, HELLO));
        answer(&mut capture, 211, Seg { ack: 5, ..ACK });
        assert_eq!(stalls(&capture), [(Cause::Timeout(side), 208)]);
        assert_eq!(agains(&capture), [Again::Timeout]);
    }
}

#[test]
fn lost_syn_is_told_from_a_slow_answer() {
    let mut capture = Capture::new(80);
    capture.client(0, Seg { seq: -1, flags: "S", ..ACK });
    capture.handshake(1_000);
    assert_eq!(stalls(&capture), [(Cause::LostSyn, 1_001)]);
    let mut capture = Capture::new(80);
    capture.client(0, Seg { seq: -1, flags: "S", ..ACK });
    capture.server(300, Seg { seq: -1, flags: "S.", ..ACK });
    assert_eq!(stalls(&capture), [(Cause::SlowHandshake, 300)]);
}

#[test]
fn takeover_shows_in_the_hardware_address_and_owns_the_stall() {
    for announced in [false, true] {
        let mut capture = Capture::established(80);
        capture.server(3, data(0, HELLO));
        capture.client(4, Seg { ack: 5, ..ACK });
        capture.client(10, Seg { ack: 5, ..data(0, HELLO) });
        capture.host = 2;
        if announced {
            capture.announce(150);
        }
        capture.server(160, data(0, HELLO));
        capture.client(220, Seg { ack: 5, ..data(0, HELLO) });
        capture.server(221, Seg { seq: 5, ack: 5, ..ACK });
        assert_eq!(stalls(&capture), [(Cause::Takeover, 211)]);
        assert_eq!(agains(&capture), [Again::Takeover, Again::Timeout]);
        let report = report(&capture);
        assert_eq!(report.takeovers.len(), 1, "announcement and first word are one takeover");
        assert_eq!(report.summaries[0].longest_silence, 157_000_000);
    }
}

#[test]
fn takeover_between_two_words_of_the_client_is_no_cause() {
    let mut capture = Capture::established(80);
    capture.client(3, data(0, HELLO));
    capture.server(4, Seg { ack: 5, ..data(0, HELLO) });
    capture.client(5, Seg { seq: 5, ack: 5, ..ACK });
    capture.host = 2;
    capture.announce(150);
    capture.server(160, Seg { seq: 5, ack: 5, ..ACK });
    capture.client(605, Seg { ack: 5, ..data(5, HELLO) });
    assert_eq!(stalls(&capture), [(Cause::Application(Side::Client), 600)]);
    assert_eq!(report(&capture).takeovers.len(), 1);
}

#[test]
fn peer_that_never_answers_is_silent() {
    for answers in [false, true] {
        let mut capture = Capture::established(80);
        for at in [3, 210, 620, 1_440] {
            capture.client(at, data(0, HELLO));
        }
        if answers {
            capture.server(1_441, Seg { ack: 5, ..ACK });
        }
        let length = 1_437 + u64::from(answers);
        assert_eq!(stalls(&capture), [(Cause::Silent(Side::Server), length)]);
    }
    let mut capture = Capture::new(80);
    for at in [0, 1_000, 3_000] {
        capture.client(at, Seg { seq: -1, flags: "S", ..ACK });
    }
    assert_eq!(stalls(&capture), [(Cause::Silent(Side::Server), 3_000)]);
}

/// Some stacks probe with the next byte. It is not said before the window takes it.
#[test]
fn byte_that_probes_a_shut_window_is_no_progress() {
    let mut capture = Capture::established(80);
    capture.server(3, data(0, HELLO));
    capture.client(4, Seg { ack: 5, window: 0, ..ACK });
    for at in [210, 620] {
        capture.server(at, data(5, b"w"));
        capture.client(at + 1, Seg { ack: 5, window: 0, ..ACK });
    }
    capture.client(900, Seg { ack: 5, ..ACK });
    capture.server(901, data(5, b"world"));
    capture.client(902, Seg { ack: 10, ..ACK });
    assert_eq!(stalls(&capture), [(Cause::FullWindow(Side::Client), 896)]);
    let Summary { window_probes, server_bytes, .. } = report(&capture).summaries[0];
    assert_eq!((window_probes, server_bytes), (2, 10));
    assert_eq!(agains(&capture), []);
    // A window that takes the byte may have room for it alone.
    let mut capture = Capture::established(80);
    capture.server(3, data(0, HELLO));
    capture.client(4, Seg { ack: 5, window: 0, ..ACK });
    capture.server(210, data(5, b"w"));
    capture.client(211, Seg { ack: 6, ..ACK });
    assert_eq!(report(&capture).summaries[0].missing, 0);
}

#[test]
fn window_that_never_opens_again_is_told_too() {
    let mut capture = Capture::established(80);
    capture.server(3, data(0, HELLO));
    capture.client(4, Seg { ack: 5, window: 0, ..ACK });
    for at in [210, 620, 1_440] {
        capture.server(at, Seg { seq: 4, ..ACK });
        capture.client(at + 1, Seg { ack: 5, window: 0, ..ACK });
    }
    assert_eq!(stalls(&capture), [(Cause::FullWindow(Side::Client), 1_437)]);
}

#[test]
fn losses_and_what_repairs_them_are_told_apart() {
    let mut capture = Capture::established(80);
    capture.server(3, data(0, HELLO));
    capture.server(3, data(5, HELLO));
    capture.server(3, data(10, HELLO));
    capture.client(4, Seg { ack: 5, sack: Some((10, 15)), ..ACK });
    capture.server(5, data(5, HELLO));
    capture.client(6, Seg { ack: 15, ..ACK });
    capture.server(7, data(15, HELLO));
    capture.server(40, data(15, HELLO));
    // The receiver had it: RFC 2883.
    capture.client(41, Seg { ack: 20, ..ACK });
    capture.client(42, Seg { ack: 20, sack: Some((15, 20)), ..ACK });
    assert_eq!(agains(&capture), [Again::Fast, Again::TailProbe]);
    let report = report(&capture);
    assert_eq!((report.summaries[0].needless, report.summaries[0].resent_bytes), (1, 10));
}

#[test]
fn loss_that_only_the_timer_repairs_is_a_timeout_whatever_was_told_before() {
    let mut capture = Capture::established(80);
    capture.server(3, data(0, HELLO));
    capture.server(3, data(10, HELLO));
    capture.client(4, Seg { ack: 5, sack: Some((10, 15)), ..ACK });
    capture.server(400, data(5, &[b'x'; 10]));
    capture.client(401, Seg { ack: 15, ..ACK });
    assert_eq!(agains(&capture), [Again::Timeout]);
    assert_eq!(stalls(&capture), [(Cause::Timeout(Side::Server), 397)]);
    assert_eq!(report(&capture).summaries[0].missing, 0, "the hole was filled in passing");
}

#[test]
fn overtaken_segment_is_no_retransmission() {
    let mut capture = Capture::established(80);
    capture.server(3, data(5, HELLO));
    capture.server(4, data(0, HELLO));
    capture.client(5, Seg { ack: 10, ..ACK });
    let report = report(&capture);
    let Summary { reordered, resent_bytes, missing, .. } = report.summaries[0];
    assert_eq!((reordered, resent_bytes, missing), (1, 0, 0));
}

#[test]
fn acknowledged_bytes_that_nobody_captured_are_missing() {
    let mut capture = Capture::established(80);
    capture.server(3, data(5, HELLO));
    capture.client(4, Seg { ack: 10, ..ACK });
    capture.client(5, Seg { ack: 30, ..ACK });
    let report = report(&capture);
    let missing: Vec<_> = events(&report)
        .into_iter()
        .filter_map(|what| match what {
            What::Missing { span } => Some((span.start, span.end)),
            _ => None,
        })
        .collect();
    assert_eq!(missing, [(0, 5), (10, 30)]);
}

#[test]
fn end_of_a_connection_is_told() {
    let mut capture = Capture::established(80);
    capture.client(3, Seg { flags: "F.", ..ACK });
    capture.server(4, Seg { ack: 1, flags: "F.", ..ACK });
    capture.client(5, Seg { seq: 1, ack: 1, ..ACK });
    assert_eq!(report(&capture).summaries[0].ending.to_string(), "closed");
    let mut capture = Capture::established(80);
    capture.server(3, Seg { flags: "R.", ..ACK });
    assert_eq!(report(&capture).summaries[0].ending.to_string(), "reset by server");
}

#[test]
fn connection_that_began_before_the_capture_needs_a_word_of_the_user() {
    let mut capture = Capture::new(80);
    capture.client(0, data(0, HELLO));
    capture.server(1, Seg { ack: 5, ..data(0, HELLO) });
    let file = capture.file();
    let silent = explain(file.path(), &options()).unwrap();
    assert!(silent.is_empty());
    assert_eq!(silent.counts.midway, 2);
    let named = Options { servers: vec![([10, 0, 0, 100], 80).into()], ..options() };
    for options in [named, Options { midway: true, ..options() }] {
        let report = explain(file.path(), &options).unwrap();
        let Summary { client_bytes, server_bytes, .. } = report.summaries[0];
        assert_eq!((client_bytes, server_bytes), (5, 5));
    }
}

#[test]
fn ports_used_again_are_another_connection_and_choices_name_them() {
    let mut capture = Capture::established(80);
    capture.client_port += 1;
    capture.handshake(50);
    let file = capture.file();
    let chosen = |text: &str| {
        let options = Options { choices: vec![text.parse().unwrap()], ..options() };
        let report = explain(file.path(), &options).unwrap();
        report.told.iter().map(|told| told.number).collect::<Vec<_>>()
    };
    assert_eq!(chosen("2"), [2]);
    assert_eq!(chosen("10.0.0.1:40000"), [1]);
    assert_eq!(chosen("10.0.0.100"), [1, 2]);
    assert_eq!(chosen("3"), [0; 0]);
    assert!("0".parse::<Choice>().is_err() && "x".parse::<Choice>().is_err());
}

#[test]
fn remarks_of_a_capture_stand_in_the_story() {
    let mut capture = Capture::established(80);
    capture.client(3, data(0, HELLO));
    let bytes = pcapng(1, true, &capture.frames, &[(3, "b is primary, epoch 3")]);
    let report = explain(Temporary::of(&bytes).path(), &options()).unwrap();
    let remark = What::Remark("b is primary, epoch 3".to_owned());
    assert!(events(&report).contains(&&remark), "{report}");
}

#[test]
fn long_rows_of_data_are_folded_and_a_plot_has_its_lines() {
    let mut capture = Capture::established(80);
    for step in 0..20 {
        let at = 3 + 2 * step as u64;
        capture.client(at, Seg { ack: 5 * step, ..data(5 * step, HELLO) });
        capture.server(at + 1, Seg { ack: 5 * step + 5, ..data(5 * step, HELLO) });
    }
    let report = report(&capture);
    let text = report.to_string();
    assert!(text.contains("36 lines more of data: 90 bytes from the client, 90"), "{text}");
    let plot = report.plot().unwrap();
    assert!(plot.starts_with("<svg") && plot.contains("bytes from the client"));
    assert_eq!(report.to_json()["connections"][0]["client_bytes"], 100);
}
