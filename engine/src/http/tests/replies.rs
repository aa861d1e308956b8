//! What a reply's head says, and how replies follow one another.

use super::{Stream, Way};
use crate::http::{Asked, Framing, Persist, Refusal, ReplyHead};

fn head(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line}\r\n{fields}\r\n")
}

fn body(line: &str, fields: &[&str], asked: Asked) -> Result<Option<Framing>, Refusal> {
    ReplyHead::parse(head(line, fields).as_bytes(), asked).map(|head| head.body)
}

const LENGTH: &str = "Content-Length: 5";
const CHUNKED: &str = "Transfer-Encoding: chunked";

/// RFC 9112 §6.3, rule by rule.
#[test]
fn a_body_is_measured_by_the_request_the_status_and_the_fields() {
    let five = Ok(Some(Framing::Length(5)));
    for (status, fields, asked, expected) in [
        // 1: HEAD, 1xx, 204, 304.
        ("200", &[LENGTH][..], Asked::Head, Ok(None)),
        ("200", &[CHUNKED], Asked::Head, Ok(None)),
        ("200", &[], Asked::Head, Ok(None)),
        ("404", &[LENGTH], Asked::Head, Ok(None)),
        ("304", &[LENGTH], Asked::Other, Ok(None)),
        ("304", &[CHUNKED], Asked::Other, Ok(None)),
        ("304", &[], Asked::Other, Ok(None)),
        ("100", &[], Asked::Other, Ok(None)),
        ("101", &[], Asked::Other, Ok(None)),
        ("204", &[], Asked::Other, Ok(None)),
        ("204", &["Content-Length: 0"], Asked::Other, Ok(None)),
        ("204", &[LENGTH], Asked::Other, Err(Refusal::NeedlessBody)),
        ("204", &[CHUNKED], Asked::Other, Err(Refusal::NeedlessBody)),
        ("103", &[LENGTH], Asked::Other, Err(Refusal::NeedlessBody)),
        ("101", &[CHUNKED], Asked::Other, Err(Refusal::NeedlessBody)),
        // 2: a tunnel, which is no message.
        ("200", &[LENGTH], Asked::Connect, Ok(None)),
        ("299", &[CHUNKED, LENGTH], Asked::Connect, Ok(None)),
        ("407", &[LENGTH], Asked::Connect, five),
        // 3 and 4: chunked, and nothing but chunked.
        ("200", &[CHUNKED], Asked::Other, Ok(Some(Framing::CHUNKED))),
        ("200", &[CHUNKED, LENGTH], Asked::Other, Err(Refusal::TwoMeasures)),
        ("200", &[CHUNKED, LENGTH], Asked::Head, Err(Refusal::TwoMeasures)),
        ("304", &[CHUNKED, LENGTH], Asked::Other, Err(Refusal::TwoMeasures)),
        ("200", &["Transfer-Encoding: gzip"], Asked::Other, Err(Refusal::Coding)),
        ("200", &[CHUNKED, CHUNKED], Asked::Other, Err(Refusal::Coding)),
        // 5 and 6: one length.
        ("200", &[LENGTH], Asked::Other, five),
        ("200", &["Content-Length: 0"], Asked::Other, Ok(None)),
        ("205", &["Content-Length: 0"], Asked::Other, Ok(None)),
        ("200", &["Content-Length: 5, 5"], Asked::Other, Err(Refusal::Length)),
        ("200", &[LENGTH, LENGTH], Asked::Other, Err(Refusal::Length)),
        ("200", &["Content-Length: -1"], Asked::Other, Err(Refusal::Length)),
        // 8: up to the end.
        ("200", &[], Asked::Other, Ok(Some(Framing::UntilEnd))),
        ("502", &[], Asked::Connect, Ok(Some(Framing::UntilEnd))),
        ("999", &[], Asked::Other, Ok(Some(Framing::UntilEnd))),
    ] {
        let line = format!("HTTP/1.1 {status} So");
        assert_eq!(body(&line, fields, asked), expected, "{status} {fields:?} {asked:?}");
    }
    assert_eq!(body("HTTP/1.0 200 OK", &[CHUNKED], Asked::Other), Err(Refusal::OldCoding));
    assert_eq!(body("HTTP/1.0 200 OK", &[LENGTH], Asked::Other), five);
}

#[test]
fn heads_are_refused_by_name() {
    for (line, expected) in [
        ("HTTP/1.1 200 OK", None),
        ("HTTP/1.1 200 ", None),
        ("HTTP/1.1 200", None),
        ("HTTP/1.1 200 \u{e9}t\u{e9}", None),
        ("HTTP/1.1 099 X", Some(Refusal::StatusLine)),
        ("HTTP/1.1 20 X", Some(Refusal::StatusLine)),
        ("HTTP/1.1 2000 X", Some(Refusal::StatusLine)),
        ("HTTP/1.1 +20 X", Some(Refusal::StatusLine)),
        ("HTTP/1.1  200 X", Some(Refusal::StatusLine)),
        ("HTTP/1.1", Some(Refusal::Version)),
        ("HTTP/2.0 200 OK", Some(Refusal::Version)),
        ("ICY 200 OK", Some(Refusal::StatusLine)),
        (" HTTP/1.1 200 OK", Some(Refusal::StatusLine)),
        ("\r\nHTTP/1.1 200 OK", Some(Refusal::StatusLine)),
    ] {
        let refused = body(line, &[LENGTH], Asked::Other).err();
        assert_eq!(refused, expected, "{line:?}");
    }
    for (field, expected) in [
        (" folded", Refusal::Fold),
        ("A : b", Refusal::SpaceBeforeColon),
        (": b", Refusal::FieldName),
        ("A: \0", Refusal::Control),
        ("A: b\nC: d", Refusal::BareLf),
    ] {
        let refused = body("HTTP/1.1 200 OK", &["B: c", field], Asked::Other);
        assert_eq!(refused, Err(expected), "{field:?}");
    }
    assert!(body("HTTP/1.1 200 OK", &["A: b"; 128], Asked::Other).is_ok());
    let many = body("HTTP/1.1 200 OK", &["A: b"; 129], Asked::Other);
    assert_eq!(many, Err(Refusal::TooManyFields));
    let options = format!("Connection: {}", "a".repeat(513));
    assert_eq!(body("HTTP/1.1 200 OK", &[&options], Asked::Other), Err(Refusal::Options));
}

#[test]
fn a_connection_goes_on_behind_what_has_an_end() {
    for (line, fields, persist) in [
        ("HTTP/1.1 200 OK", &[LENGTH][..], Persist::Keep),
        ("HTTP/1.1 200 OK", &[CHUNKED], Persist::Keep),
        ("HTTP/1.1 200 OK", &[], Persist::Close),
        ("HTTP/1.1 200 OK", &[LENGTH, "Connection: close"], Persist::Close),
        ("HTTP/1.1 204 OK", &[], Persist::Keep),
        ("HTTP/1.0 200 OK", &[LENGTH], Persist::Close),
        ("HTTP/1.0 200 OK", &[LENGTH, "Connection: keep-alive"], Persist::KeepAlive),
        ("HTTP/1.0 200 OK", &["Connection: keep-alive"], Persist::Close),
    ] {
        let text = head(line, fields);
        let head = ReplyHead::parse(text.as_bytes(), Asked::Other).expect("sound");
        assert_eq!(head.persist, persist, "{line} {fields:?}");
    }
}

#[test]
fn interim_replies_come_before_the_one() {
    for (status, interim) in [(100, true), (101, false), (103, true), (199, true), (200, false)] {
        let text = head(&format!("HTTP/1.1 {status} So"), &[]);
        let head = ReplyHead::parse(text.as_bytes(), Asked::Other).expect("sound");
        assert_eq!((head.status, head.is_interim()), (status, interim));
    }
    let stream = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.0 200 OK\r\n\r\nrest\r\n\r\n";
    for size in 1..stream.len() {
        let story = Stream::read(Way::Replies(Asked::Other), stream.as_bytes().chunks(size));
        let bodies: Vec<_> =
            story.messages.iter().map(|message| (&message.body[..], message.complete)).collect();
        assert_eq!(bodies, [(&b""[..], true), (b"ab", true), (b"rest\r\n\r\n", false)]);
        assert_eq!(story.refused, None);
    }
}

/// Only a request may have one in front (RFC 9112 §2.2).
#[test]
fn an_empty_line_is_no_beginning_of_a_reply() {
    let read = |bytes: &str| Stream::read(Way::Replies(Asked::Other), [bytes.as_bytes()]).refused;
    assert_eq!(read("\r\nHTTP/1.1 200 OK\r\n\r\n"), Some((0, Refusal::StatusLine)));
    let more = "HTTP/1.1 204 No\r\n\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(read(more), Some((19, Refusal::StatusLine)));
}
