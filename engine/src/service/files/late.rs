//! Clients that keep us waiting: when their time is up, and what they are told.

use super::{Awaited, Patience};
use crate::service::pin::{Edition, PinBytes, PinError, TimeUp};
use crate::service::tests::{Node, WALL, library};
use crate::service::{App, Kind};
use crate::time::{Duration, Instant};

const PATIENCE: Patience = Patience {
    request: Duration::from_secs(10),
    body: Duration::from_secs(20),
    idle: Duration::from_secs(30),
    reply: Duration::from_secs(40),
};
const KIND: Kind = Kind::Files { root: 0, patience: PATIENCE };

/// What a slow head is answered with.
const TOO_LATE: &str = "HTTP/1.1 408 Request Timeout\r\nDate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
     Content-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\nConnection: close\r\n\r\n\
     408 Request Timeout\n";

fn node(lead: bool) -> Node {
    Node::new(KIND, &library(), lead, 1 << 20)
}

fn at(seconds: u64) -> Instant {
    Instant::from_millis(1000 * seconds)
}

/// In how many seconds its client's time will be up, at second `now`.
fn left(node: &mut Node, now: u64) -> Option<u64> {
    let deadline = node.app.deadline(at(now), KIND)?;
    let left = deadline.until(at(now));
    assert!(left.subsec_millis() <= 1, "to the millisecond, and not early");
    Some(left.as_secs())
}

/// Looks at the clock at second `now`. What time was up for, and the pins of it.
fn look(node: &mut Node, now: u64) -> (Option<Awaited>, Vec<PinBytes>) {
    let mut late = None;
    let now = at(now) + Duration::from_millis(1);
    let pins = node.call(|app, env| late = app.on_time(now, KIND, env));
    (late, pins)
}

fn say(node: &mut Node, text: &str) {
    node.input(text.as_bytes());
}

/// The client takes all that it was told.
fn take(node: &mut Node) {
    let end = node.app.output_end();
    node.acked(end);
}

#[test]
fn a_client_without_a_request_has_the_idle_time() {
    let mut node = node(true);
    assert_eq!(left(&mut node, 5), Some(30));
    assert_eq!(left(&mut node, 9), Some(26));
    // Empty lines, whole or not, are no request: RFC 9112 §2.2.
    for text in ["\r\n", "\r", "\n", "\r"] {
        say(&mut node, text);
        assert_eq!(left(&mut node, 10), Some(25), "{text:?}");
    }
    assert_eq!(look(&mut node, 34), (None, vec![]));
    let (late, pins) = look(&mut node, 35);
    assert_eq!((late, pins.len()), (Some(Awaited::Request), 1));
    assert!(node.app.finished());
    assert_eq!(node.output(0), Ok(vec![]), "it is closed in silence");
}

#[test]
fn a_head_has_its_time_from_its_first_byte_to_its_last() {
    let mut node = node(true);
    left(&mut node, 0);
    say(&mut node, "\r\nG");
    assert_eq!(left(&mut node, 20), Some(10));
    for second in 21..29 {
        say(&mut node, "E");
        assert_eq!(left(&mut node, second), Some(30 - second), "bytes do not help");
    }
    let (late, pins) = look(&mut node, 30);
    assert_eq!((late, pins.len()), (Some(Awaited::Head), 1));
    assert_eq!(node.output(0), Ok(TOO_LATE.as_bytes().to_vec()));
    assert!(node.app.finished());
    assert_eq!(node.app.consumed(), 2 + 9, "nobody reads it any more");
    say(&mut node, " / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(node.output(0), Ok(TOO_LATE.as_bytes().to_vec()), "nor what follows");
}

#[test]
fn each_head_has_a_time_of_its_own() {
    let mut node = node(true);
    say(&mut node, "GET /ten.txt HTTP/1.1\r\n");
    assert_eq!(left(&mut node, 0), Some(10));
    say(&mut node, "Host: h\r\n\r\nGET /");
    assert_eq!(left(&mut node, 5), Some(40), "it has something to take first");
    take(&mut node);
    assert_eq!(left(&mut node, 6), Some(10));
}

#[test]
fn a_client_that_takes_its_reply_has_time_for_each_piece() {
    let mut node = node(true);
    say(&mut node, "GET /docs/long HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(left(&mut node, 0), Some(40));
    node.acked(4095);
    assert_eq!(left(&mut node, 30), Some(10), "that is not much");
    node.acked(4096);
    assert_eq!(left(&mut node, 30), Some(40));
    // Asking for more is no taking.
    say(&mut node, "GET /docs/long HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(left(&mut node, 40), Some(30));
    let (late, pins) = look(&mut node, 70);
    assert_eq!((late, pins), (Some(Awaited::Taking), vec![]), "a reset needs no pin");
    take(&mut node);
    assert_eq!(left(&mut node, 71), Some(30));
}

#[test]
fn a_client_that_was_told_the_last_of_it_has_time_to_close() {
    let mut node = node(true);
    say(&mut node, "GET /ten.txt HTTP/1.0\r\n\r\n");
    assert_eq!(left(&mut node, 0), Some(40));
    take(&mut node);
    assert_eq!(left(&mut node, 1), Some(40));
    say(&mut node, "and on, and on");
    assert_eq!(left(&mut node, 40), Some(1), "what it says does not count");
    assert_eq!(look(&mut node, 41).0, Some(Awaited::Taking));
}

#[test]
fn a_body_may_take_long_as_long_as_it_comes() {
    let mut node = node(true);
    say(&mut node, "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
    take(&mut node);
    let told = node.app.output_end();
    assert_eq!(left(&mut node, 0), Some(20));
    for second in 1..9 {
        say(&mut node, "x");
        assert_eq!(left(&mut node, 19 * second), Some(20));
    }
    let (late, pins) = look(&mut node, 19 * 8 + 20);
    assert_eq!((late, pins.len()), (Some(Awaited::Body), 1));
    assert_eq!(node.app.output_end(), told, "its request has had its answer");
    assert!(node.app.finished());
}

#[test]
fn nobody_is_waited_for_while_it_is_our_turn() {
    let mut node = node(true);
    node.store.pending = true;
    say(&mut node, "GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\nGET");
    assert_eq!(left(&mut node, 0), None);
    node.store.pending = false;
    node.call(App::go_on);
    take(&mut node);
    assert_eq!(left(&mut node, 100), Some(10), "the next head began when we looked at it");
    let mut echo = Node::new(Kind::Echo, &library(), true, 100);
    echo.input(b"x");
    assert_eq!(echo.app.deadline(at(0), Kind::Echo), None);
}

/// A primary and its standby have heard `text`, and the client has taken what it was told.
fn both(text: &str) -> [Node; 2] {
    let mut nodes = [node(true), node(false)];
    let pins = nodes[0].input(text.as_bytes());
    nodes[1].input(text.as_bytes());
    for pin in pins {
        nodes[1].call(|app, env| app.on_pin(&pin, env).expect("a pin"));
    }
    nodes.iter_mut().for_each(take);
    left(&mut nodes[0], 0);
    nodes
}

const PUT: &str = "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx";

#[test]
fn a_standby_ends_the_stream_where_its_primary_does() {
    for text in ["", "\r", "GET /", PUT, &format!("{PUT}12345678GET")] {
        let [mut primary, mut standby] = both(text);
        let from = primary.app.output.acked();
        // Also one that has it from a snapshot.
        let snapshot = standby.snapshot();
        standby.restore(&snapshot);
        let (late, pins) = look(&mut primary, 60);
        assert!(late.is_some() && pins.len() == 1, "{text:?}");
        standby.call(|app, env| app.on_pin(&pins[0], env).expect("a pin"));
        assert!(primary.app.finished() && standby.app.finished(), "{text:?}");
        assert_eq!(primary.output(from), standby.output(from), "{text:?}");
        assert_eq!(primary.snapshot(), standby.snapshot(), "{text:?}");
    }
}

#[test]
fn a_pin_that_does_not_fit_is_refused() {
    let pin = |awaited| TimeUp { edition: Edition::Second, wall: WALL, awaited }.encode();
    let all = [Awaited::Request, Awaited::Head, Awaited::Body];
    for (text, fits) in
        [("", Some(Awaited::Request)), ("GET", Some(Awaited::Head)), (PUT, Some(Awaited::Body))]
    {
        for awaited in all.into_iter().filter(|awaited| Some(*awaited) != fits) {
            let [_, mut standby] = both(text);
            let before = standby.snapshot();
            standby.call(|app, env| {
                assert_eq!(app.on_pin(&pin(awaited), env), Err(PinError::Unexpected), "{text:?}");
            });
            assert_eq!(standby.snapshot(), before);
        }
    }
    let [mut primary, mut standby] = both("GET");
    let (_, pins) = look(&mut primary, 60);
    standby.call(|app, env| {
        app.on_pin(&pins[0], env).expect("the first time");
        assert_eq!(app.on_pin(&pins[0], env), Err(PinError::Unexpected), "once is enough");
    });
}

/// An earlier version would take such a pin for a breach of the protocol.
#[test]
fn with_an_earlier_standby_clients_are_waited_for_on_and_on() {
    for text in ["", "GET /", PUT] {
        let [mut primary, _] = both(text);
        primary.edition = Edition::First;
        let before = left(&mut primary, 0);
        assert_eq!(look(&mut primary, 60), (None, vec![]), "{text:?}");
        assert!(!primary.app.finished());
        assert_eq!(left(&mut primary, 60), before, "from the beginning");
        primary.edition = Edition::Second;
        assert_eq!(look(&mut primary, 120).1.len(), 1);
    }
}

#[test]
fn an_heir_begins_anew() {
    let [_, mut standby] = both("GET /");
    standby.lead = true;
    standby.call(App::lead);
    assert_eq!(left(&mut standby, 9), Some(10));
    say(&mut standby, "ten.txt HTTP/1.1\r\nHost: h\r\n\r\n");
    let told = standby.output(0).expect("readable");
    assert!(told.starts_with(b"HTTP/1.1 200 OK\r\n"));
}
