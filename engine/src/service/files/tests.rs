//! What a client sees of `files`, request by request.

use super::REPLIES_A_CALL;
use crate::service::tests::{Node, files, library};
use crate::service::{App, Edition, MemoryStore, Read};

const DATE: &str = "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\n";
const MODIFIED: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
/// The tag of the ten bytes of `library`'s ten.txt.
const TAG: &str = "\"f30131fad6a9985195ecb4395aaf7044\"";

/// The whole output for `input` and whether the connection closed behind it by itself.
fn exchange(input: &[u8]) -> (String, bool) {
    let mut node = Node::new(files(), &library(), true, 1 << 20);
    let pins = node.input(input);
    let bytes = node.output(0).expect("readable");
    let finished = node.app.finished();
    node.acked(bytes.len() as u64);
    assert_eq!(node.store.holds(), 0, "every hold is released");
    assert!(pins.iter().all(|pin| pin.len() < 64));
    (String::from_utf8_lossy(&bytes).into_owned(), finished)
}

/// Sends one HTTP/1.1 request with `fields`; the reply's status code and its body.
fn ask(request: &str, fields: &[&str]) -> (u16, String) {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let (reply, _) = exchange(format!("{request} HTTP/1.1\r\nHost: h\r\n{fields}\r\n").as_bytes());
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(DATE.trim_end()), "{head}");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

fn status(raw: &str) -> (u16, bool) {
    let (reply, closed) = exchange(raw.as_bytes());
    (reply[9..12].parse().expect("a status"), closed)
}

#[test]
fn a_file_is_served_with_everything_a_cache_wants() {
    let (reply, closed) = exchange(b"GET /ten.txt?x HTTP/1.1\r\nHost: h\r\n\r\n");
    let expected = format!(
        "HTTP/1.1 200 OK\r\n{DATE}Content-Type: text/plain; charset=utf-8\r\nContent-Length: 10\r\n\
         ETag: {TAG}\r\nLast-Modified: {MODIFIED}\r\nAccept-Ranges: bytes\r\n\r\n0123456789"
    );
    assert_eq!((reply, closed), (expected, false));
}

#[test]
fn a_head_request_gets_the_same_head_and_no_body() {
    let (get, _) = exchange(b"GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n");
    let (head, _) = exchange(b"HEAD /ten.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n");
    assert_eq!(format!("{head}0123456789"), get);
    assert_eq!(ask("HEAD /missing", &[]), (404, String::new()));
    assert_eq!(ask("HEAD /../x", &[]), (400, String::new()));
}

#[test]
fn paths_and_what_they_lead_to() {
    for (path, code, body) in [
        ("/", 200, "<h1>hello</h1>"),
        ("/empty.bin", 200, ""),
        ("/docs/", 200, "docs"),
        ("/docs", 301, "301 Moved Permanently\n"),
        ("/missing", 404, "404 Not Found\n"),
        ("/ten.txt/", 404, "404 Not Found\n"),
        ("/secret", 403, "403 Forbidden\n"),
        ("/../etc/passwd", 400, "400 Bad Request\n"),
        ("/%2e%2e/etc/passwd", 400, "400 Bad Request\n"),
        ("/docs\\..\\ten.txt", 400, "400 Bad Request\n"),
        ("http://elsewhere/ten.txt", 200, "0123456789"),
    ] {
        assert_eq!(ask(&format!("GET {path}"), &[]), (code, body.to_owned()), "{path}");
    }
    let (reply, _) = exchange(b"GET //docs HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(reply.contains("\r\nLocation: /docs/\r\n"), "{reply}");
}

#[test]
fn ranges() {
    for (fields, code, body) in [
        (vec!["Range: bytes=2-4"], 206, "234"),
        (vec!["Range: bytes=7-"], 206, "789"),
        (vec!["Range: bytes=-2"], 206, "89"),
        (vec!["Range: bytes=10-"], 416, "416 Range Not Satisfiable\n"),
        (vec!["Range: bytes=0-1,4-5"], 200, "0123456789"),
        (vec!["Range: bytes=0-1", "Range: bytes=4-5"], 200, "0123456789"),
        (vec!["Range: bytes=2-4", &format!("If-Range: {TAG}")], 206, "234"),
        (vec!["Range: bytes=2-4", &format!("If-Range: W/{TAG}")], 200, "0123456789"),
        (vec!["Range: bytes=2-4", "If-Range: \"other\""], 200, "0123456789"),
        (vec!["Range: bytes=2-4", &format!("If-Range: {MODIFIED}")], 206, "234"),
        (vec!["Range: bytes=2-4", "If-Range: Wed, 01 Jan 2020 00:00:01 GMT"], 200, "0123456789"),
    ] {
        assert_eq!(ask("GET /ten.txt", &fields), (code, body.to_owned()), "{fields:?}");
    }
    let (reply, _) = exchange(b"GET /ten.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=2-4\r\n\r\n");
    assert!(reply.contains("\r\nContent-Range: bytes 2-4/10\r\n"), "{reply}");
    let (reply, _) = exchange(b"GET /ten.txt HTTP/1.1\r\nHost: h\r\nRange: bytes=99-\r\n\r\n");
    assert!(reply.contains("\r\nContent-Range: bytes */10\r\n"), "{reply}");
}

/// RFC 9110 §14.1.2: the last 500 bytes of nothing are nothing, and that is all of it.
#[test]
fn the_last_bytes_of_an_empty_file_are_the_whole_of_it() {
    for (range, code) in [("bytes=-500", 200), ("bytes=-0", 416), ("bytes=0-", 416)] {
        assert_eq!(ask("GET /empty.bin", &[&format!("Range: {range}")]).0, code, "{range}");
    }
}

#[test]
fn of_several_fields_with_lists_any_may_name_the_tag() {
    let ours = |field: &str| format!("{field}: \"x\", {TAG}");
    let other = |field: &str| format!("{field}: \"y\"");
    for (field, listed, unlisted) in [("If-None-Match", 304, 200), ("If-Match", 200, 412)] {
        let (first, second) = (ours(field), other(field));
        assert_eq!(ask("GET /ten.txt", &[&first, &second]).0, listed, "the first names it");
        assert_eq!(ask("GET /ten.txt", &[&second, &first]).0, listed, "the last names it");
        assert_eq!(ask("GET /ten.txt", &[&second, &second]).0, unlisted, "none names it");
    }
}

/// Before the content is hashed the tag is made of the time, which two copies may share: it is no
/// reason to join a part of one to a part of the other.
#[test]
fn a_tag_that_is_not_of_the_content_is_weak() {
    let mut store = library();
    store.unhashed = true;
    let weak = "W/\"15e59a35b98a0005-a\"";
    for (fields, code) in [
        (format!("Range: bytes=2-4\r\nIf-Range: {weak}"), "200"),
        (format!("Range: bytes=2-4\r\nIf-Range: {}", &weak[2..]), "200"),
        (format!("If-Match: {weak}"), "412"),
        (format!("If-None-Match: {weak}"), "304"),
        (format!("If-None-Match: {}", &weak[2..]), "304"),
    ] {
        let mut node = Node::new(files(), &store, true, 1000);
        node.input(format!("GET /ten.txt HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n").as_bytes());
        let reply = String::from_utf8(node.output(0).expect("readable")).expect("text");
        assert_eq!(&reply[9..12], code, "{fields}");
        assert_eq!(reply.contains(&format!("ETag: {weak}\r\n")), code != "412", "{reply}");
    }
}

#[test]
fn a_lone_line_feed_ends_no_line_of_a_request() {
    for raw in [
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.0\n\n",
        "\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: a\nGET /secret HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(status(raw), (400, true), "{raw:?}");
    }
    assert_eq!(status("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), (200, false));
}

#[test]
fn conditions() {
    let (same, other) = (format!("If-None-Match: W/{TAG}"), "If-None-Match: \"x\", W/\"y\"");
    let (matching, weak) = (format!("If-Match: \"x\", {TAG}"), format!("If-Match: W/{TAG}"));
    let at = |name: &str| format!("{name}: {MODIFIED}");
    let before = |name: &str| format!("{name}: Tue, 31 Dec 2019 23:59:59 GMT");
    for (fields, code) in [
        (vec![same.as_str()], 304),
        (vec!["If-None-Match: *"], 304),
        (vec![other], 200),
        (vec![&at("If-Modified-Since")], 304),
        (vec![&before("If-Modified-Since")], 200),
        (vec!["If-Modified-Since: yesterday"], 200),
        (vec![other, &at("If-Modified-Since")], 200),
        (vec![&matching], 200),
        (vec![&weak], 412),
        (vec!["If-Match: *"], 200),
        (vec![&at("If-Unmodified-Since")], 200),
        (vec![&before("If-Unmodified-Since")], 412),
        (vec![&matching, &before("If-Unmodified-Since")], 200),
        (vec![&same, "Range: bytes=0-1"], 304),
    ] {
        assert_eq!(ask("GET /ten.txt", &fields).0, code, "{fields:?}");
    }
    let expected = format!(
        "HTTP/1.1 304 Not Modified\r\n{DATE}ETag: {TAG}\r\nLast-Modified: {MODIFIED}\r\n\r\n"
    );
    let (reply, _) = exchange(b"GET /ten.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: *\r\n\r\n");
    assert_eq!(reply, expected);
}

#[test]
fn connections_persist_as_each_version_has_it() {
    for (raw, closed, said) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", false, ""),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", true, "Connection: close"),
        ("GET / HTTP/1.0\r\n\r\n", true, "Connection: close"),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", false, "Connection: keep-alive"),
    ] {
        let (reply, finished) = exchange(raw.as_bytes());
        assert_eq!(finished, closed, "{raw}");
        assert_eq!(reply.contains("Connection:"), !said.is_empty(), "{reply}");
        assert!(reply.contains(said), "{reply}");
    }
}

#[test]
fn heads_that_are_refused_close_the_connection() {
    let many: String = (0..65).map(|n| format!("X-{n}: 1\r\n")).collect();
    for (raw, code) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n".to_owned(), 400),
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("\u{16}\u{3}\u{1}".to_owned(), 400),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), 505),
        (format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(17_000)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(5_000)), 414),
    ] {
        assert_eq!(status(&raw), (code, true), "{:.60}", raw);
    }
}

#[test]
fn framing_that_could_be_read_in_two_ways_closes_the_connection() {
    for (fields, code) in [
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length:", 400),
        ("Content-Length: 99999999999999999999", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: \u{b}chunked", 400),
    ] {
        let raw = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\nGET / HTTP/1.1\r\n");
        assert_eq!(status(&raw), (code, true), "{fields}");
    }
    let old = "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(status(old), (400, true));
}

/// The codes of all replies, read off the beginnings of heads; bodies here contain none.
fn codes(input: &str) -> (Vec<u16>, bool) {
    let (reply, closed) = exchange(input.as_bytes());
    let codes = reply.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().expect("a status"));
    (codes.collect(), closed)
}

#[test]
fn bodies_are_read_over_to_the_next_request() {
    let next = "GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n";
    let evil = "GET /secret HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, expected) in [
        (
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{evil}", evil.len()),
            vec![405, 200],
        ),
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .to_owned(),
            vec![405, 200],
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab".to_owned(), vec![200, 200]),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".to_owned(), vec![200, 200]),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab"
                .to_owned(),
            vec![100, 200, 200],
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n".to_owned(), vec![200, 200]),
        ("DELETE /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), vec![405, 200]),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), vec![405, 200]),
    ] {
        assert_eq!(codes(&format!("{request}{next}")), (expected, false), "{request}");
    }
}

#[test]
fn a_body_that_may_or_may_not_come_closes_the_connection() {
    for (request, expected) in [
        (
            "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
            vec![405],
        ),
        ("GET / HTTP/1.1\r\nHost: h\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n", vec![417]),
        ("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\nabcde", vec![405]),
    ] {
        assert_eq!(codes(&format!("{request}GET / HTTP/1.1\r\nHost: h\r\n\r\n")), (expected, true));
    }
    let (reply, _) = exchange(b"PUT / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(reply.contains("\r\nAllow: GET, HEAD\r\n"), "{reply}");
}

#[test]
fn replies_wait_while_too_many_are_unacknowledged() {
    let request = b"GET /ten.txt HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut node = Node::new(files(), &library(), true, 1 << 20);
    node.input(&request.repeat(1000));
    let share = u64::from(REPLIES_A_CALL) * request.len() as u64;
    assert_eq!((node.app.consumed(), node.app.is_busy()), (share, true), "one call's share");
    while node.app.is_busy() {
        node.call(App::go_on);
    }
    let first = node.app.consumed();
    assert!(first >= 32 * request.len() as u64 && first < 70 * request.len() as u64, "{first}");
    node.call(App::on_peer_finished);
    let mut at = 0;
    while at < node.app.output_end() {
        at += node.output(at).expect("readable").len() as u64;
        node.acked(at);
    }
    assert!(node.app.finished());
    assert_eq!(node.app.consumed(), 1000 * request.len() as u64);
    assert_eq!(node.store.holds(), 0);
}

#[test]
fn a_slow_lookup_is_waited_for_and_asked_once_more() {
    let mut node = Node::new(files(), &library(), true, 1000);
    node.store.pending = true;
    let pins = node.input(b"GET /ten.txt HTTP/1.0\r\n\r\n");
    assert!(pins.is_empty() && node.app.awaits_store() && node.app.consumed() == 0);
    node.call(App::on_peer_finished);
    assert!(!node.app.finished(), "the request is still to be answered");
    node.store.pending = false;
    assert_eq!(node.call(App::go_on).len(), 1);
    assert!(node.app.finished() && !node.app.awaits_store());
    assert!(node.output(0).expect("readable").ends_with(b"\r\n\r\n0123456789"));
}

#[test]
fn an_incomplete_request_at_the_end_is_not_answered() {
    let mut node = Node::new(files(), &MemoryStore::new(), true, 1000);
    node.input(b"GET / HTTP/1.1\r\nHost: h\r\n");
    node.call(App::on_peer_finished);
    assert_eq!((node.app.finished(), node.app.output_end()), (true, 0));
    let mut buffer = [0; 8];
    assert_eq!(node.app.read(0..8, &mut buffer, &mut node.store), Read::Ready(0));
}

#[test]
fn input_behind_the_last_reply_is_taken_and_ignored() {
    let mut node = Node::new(files(), &library(), true, 1000);
    node.input(b"GET / HTTP/1.0\r\n\r\n");
    let end = node.app.output_end();
    node.input(&[0; 5000]);
    assert_eq!((node.app.consumed(), node.app.output_end()), (5018, end));
}

#[test]
fn a_file_from_the_future_is_as_old_as_the_reply() {
    let mut store = MemoryStore::new();
    store.put(0, "new", "x", u64::MAX);
    let mut node = Node::new(files(), &store, true, 1000);
    node.input(b"HEAD /new HTTP/1.0\r\n\r\n");
    let reply = String::from_utf8(node.output(0).expect("readable")).expect("text");
    assert!(reply.contains("Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n"), "{reply}");
}

/// RFC 9110 §8.8.2.2: what was written in the second of the reply may be written again in it.
#[test]
fn a_date_of_this_very_second_joins_no_parts() {
    let mut store = MemoryStore::new();
    store.put(0, "new", "0123456789", u64::MAX);
    let mut node = Node::new(files(), &store, true, 1000);
    let date = DATE.trim_end().trim_start_matches("Date: ");
    let fields = format!("Host: h\r\nRange: bytes=2-4\r\nIf-Range: {date}\r\n");
    node.input(format!("GET /new HTTP/1.1\r\n{fields}\r\n").as_bytes());
    let reply = String::from_utf8(node.output(0).expect("readable")).expect("text");
    assert_eq!(&reply[9..12], "200", "{reply}");
}

/// What the first version has not is not looked at; what is said twice is refused in any.
#[test]
fn an_old_client_expects_nothing_and_names_one_host() {
    assert_eq!(status("GET / HTTP/1.0\r\nExpect: tea\r\n\r\n"), (200, true));
    assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n").0, 417);
    assert_eq!(status("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), (200, true));
    assert_eq!(status("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), (400, true));
}

/// Two nodes answer alike, and one of them may be of log version 3, which takes more.
#[test]
fn what_the_first_edition_took_it_takes_still() {
    let asked = |raw: &str, edition| {
        let mut node = Node::new(files(), &library(), true, 1 << 20);
        node.edition = edition;
        node.input(raw.as_bytes());
        let reply = node.output(0).expect("readable");
        String::from_utf8_lossy(&reply[9..12]).parse::<u16>().expect("a status")
    };
    for (raw, first, second) in [
        ("GET / HTTP/1.1\nHost: h\n\n", 200, 400),
        ("get / HTTP/1.1\r\nHost: h\r\n\r\n", 405, 400),
        ("DELETE x HTTP/1.1\r\nHost: h\r\n\r\n", 405, 400),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 200, 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent_Length: 1\r\n\r\n", 200, 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Type: a\r\nContent-Type: b\r\n\r\n", 200, 400),
        ("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n", 400, 400),
    ] {
        assert_eq!(asked(raw, Edition::First), first, "{raw:?}");
        assert_eq!(asked(raw, Edition::Second), second, "{raw:?}");
    }
}

/// RFC 9110 §9.3.2, as far as there is a method.
#[test]
fn a_refused_head_request_is_told_without_a_body() {
    for (fields, bodiless) in [("", true), ("Host: h\r\nExpect: tea\r\n", true), (" \r\n", false)] {
        let (reply, closed) = exchange(format!("HEAD / HTTP/1.1\r\n{fields}\r\n").as_bytes());
        assert_eq!((reply.ends_with("\r\n\r\n"), closed), (bodiless, true), "{reply}");
    }
}
