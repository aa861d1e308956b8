//! Recorded clients that are made here, and a primary that dies under them.

use super::*;
use crate::replay::testing::{ACK, Capture, Seg};

fn options() -> Options {
    Options {
        services: Vec::new(),
        events: Events::Spread(6),
        death: Death::Process,
        connections: 10,
        pause_max: Duration::from_millis(50),
        mtu: 1500,
        threads: 1,
        progress: false,
        #[cfg(feature = "defects")]
        defect: None,
    }
}

fn talk(port: u16) -> Capture {
    let mut capture = Capture::established(port);
    let mut end = 0;
    for turn in 0..6 {
        let at = 5 + 20 * turn;
        capture
            .client(at, Seg { seq: end, ack: end, payload: b"good morning", flags: "P.", ..ACK });
        end += 12;
        capture.server(
            at + 1,
            Seg { seq: end - 12, ack: end, payload: b"good morning", flags: "P.", ..ACK },
        );
    }
    capture.client(140, Seg { seq: end, ack: end, flags: "F.", ..ACK });
    capture.server(141, Seg { seq: end, ack: end + 1, flags: "F.", ..ACK });
    capture.client(142, Seg { seq: end + 1, ack: end + 1, ..ACK });
    capture
}

fn run(capture: &Capture, options: &Options) -> Report {
    crash(capture.file().path(), options).unwrap()
}

#[test]
fn echo_goes_on_whatever_dies_and_whenever() {
    for death in [Death::Process, Death::Host] {
        let report = run(&talk(7), &Options { death, ..options() });
        assert!(report.is_clean(), "{report}");
        assert_eq!((report.tried, report.played["echo"]), (6, 1));
        let [calm, death] = report.pauses;
        assert!(death.connected > calm.connected, "a death is felt: {report}");
    }
}

#[test]
fn sources_and_sinks_go_on_too() {
    let mut capture = Capture::established(22);
    capture.client(3, Seg { payload: b"GET", flags: "P.", ..ACK });
    capture.server(4, Seg { ack: 3, payload: &[b'x'; 1400], flags: "P.", ..ACK });
    capture.client(5, Seg { seq: 3, ack: 1400, ..ACK });
    capture.client_port += 1;
    capture.port = 9;
    capture.handshake(10);
    capture.client(13, Seg { payload: &[b'y'; 1400], flags: "P.", ..ACK });
    let report = run(&capture, &options());
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.played, BTreeMap::from([("chargen", 1), ("discard", 1)]));
}

#[test]
fn chosen_packet_names_its_events() {
    // One of the client's, and the server's answer to it.
    for packet in [6, 7] {
        let report = run(&talk(7), &Options { events: Events::Packet(packet), ..options() });
        assert!(report.tried > 0 && report.tried < report.events, "{packet}: {report}");
        assert!(report.is_clean(), "{packet}: {report}");
    }
}

#[test]
fn where_nothing_died_nothing_is_proved() {
    // Nothing leaves the primary after the last packet.
    let report = run(&talk(7), &Options { events: Events::Packet(18), ..options() });
    assert!(!report.is_clean() && report.to_string().contains("NOTHING DIED"), "{report}");
}

#[test]
fn client_that_says_nothing_for_a_while_awaits_nothing() {
    let mut capture = Capture::established(9);
    capture.client(3, Seg { payload: b"one", flags: "P.", ..ACK });
    capture.client(900, Seg { seq: 3, payload: b"two", flags: "P.", ..ACK });
    let patient = Options { pause_max: Duration::from_secs(1), ..options() };
    let report = run(&capture, &patient);
    assert!(report.pauses[0].connected < 100_000_000, "{report}");
}

#[test]
fn connections_beyond_the_limit_are_told() {
    let mut capture = talk(7);
    capture.client_port += 1;
    capture.handshake(200);
    let report = run(&capture, &Options { connections: 1, events: Events::Spread(1), ..options() });
    assert!(
        report.to_string().contains("left out: 1 connections beyond --connections"),
        "{report}"
    );
}

#[test]
fn act_keeps_what_was_said_and_when_and_shortens_pauses() {
    let play = read_play(talk(7).file().path(), &options()).unwrap();
    let act = &play.acts[0];
    assert_eq!(act.bytes.len(), 72);
    assert!(act.bytes.starts_with(b"good morninggood"));
    assert_eq!(act.says[0], (5_000_000, 12));
    assert_eq!(play.packet_at(5_000_000), 4);
    let short = Options { pause_max: Duration::from_millis(1), ..options() };
    let play = read_play(talk(7).file().path(), &short).unwrap();
    assert_eq!(play.acts[0].says[1].0, 3_000_000, "three pauses of at most a millisecond");
}
