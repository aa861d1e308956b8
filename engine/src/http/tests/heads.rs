//! What a request's head says.

use crate::http::{Asked, Framing, Persist, Refusal, RequestHead};

fn head(line: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{line}\r\n{fields}\r\n")
}

fn refusal(line: &str, fields: &[&str]) -> Option<Refusal> {
    RequestHead::parse(head(line, fields).as_bytes()).err()
}

/// Of HTTP/1.1 and with a Host.
fn sound(fields: &[&str]) -> Option<Refusal> {
    refusal("POST / HTTP/1.1", &[&["Host: h"], fields].concat())
}

#[test]
fn heads_are_refused_by_name() {
    for (line, refused) in [
        ("GET / HTTP/1.1", None),
        ("GET  / HTTP/1.1", Some(Refusal::RequestLine)),
        ("GET /  HTTP/1.1", Some(Refusal::Version)),
        ("GET / HTTP/1.1 ", Some(Refusal::RequestLine)),
        (" GET / HTTP/1.1", Some(Refusal::RequestLine)),
        ("GET / a HTTP/1.1", Some(Refusal::Version)),
        ("GET /", Some(Refusal::RequestLine)),
        ("GET\t/ HTTP/1.1", Some(Refusal::RequestLine)),
        ("G(T / HTTP/1.1", Some(Refusal::RequestLine)),
        ("GET / HTTP/1.2", Some(Refusal::Version)),
        ("GET / HTTP/2.0", Some(Refusal::Version)),
        ("GET / http/1.1", Some(Refusal::Version)),
        ("Get / HTTP/1.1", Some(Refusal::Method)),
        ("GET x HTTP/1.1", Some(Refusal::Target)),
        ("CONNECT / HTTP/1.1", Some(Refusal::Target)),
        ("HTTP/1.1 200 OK", Some(Refusal::RequestLine)),
    ] {
        assert_eq!(refusal(line, &["Host: h"]), refused, "{line:?}");
    }
    for (field, refused) in [
        ("A: b", None),
        ("A:", None),
        (" a: b", Some(Refusal::Fold)),
        ("\ta: b", Some(Refusal::Fold)),
        ("A : b", Some(Refusal::SpaceBeforeColon)),
        ("A\t: b", Some(Refusal::SpaceBeforeColon)),
        (": b", Some(Refusal::FieldName)),
        ("A", Some(Refusal::FieldName)),
        ("A b: c", Some(Refusal::FieldName)),
        ("A: \u{1}", Some(Refusal::Control)),
        ("A: b\nC: d", Some(Refusal::BareLf)),
        ("Content_Length: 5", Some(Refusal::Disguised)),
        ("transfer_Encoding: chunked", Some(Refusal::Disguised)),
        ("Host: h", Some(Refusal::TwoHosts)),
        ("Content-Length: 5", None),
        ("Content-Length: 05", None),
        ("Content-Length: +5", Some(Refusal::Length)),
        ("Content-Length: -0", Some(Refusal::Length)),
        ("Content-Length: 5, 5", Some(Refusal::Length)),
        ("Content-Length: 5 5", Some(Refusal::Length)),
        ("Content-Length: 0x5", Some(Refusal::Length)),
        ("Content-Length:", Some(Refusal::Length)),
        ("Content-Length: \u{661}", Some(Refusal::Length)),
        ("Content-Length: 18446744073709551615", None),
        ("Content-Length: 18446744073709551616", Some(Refusal::Length)),
        ("Transfer-Encoding: chunked", None),
        ("Transfer-Encoding: \t CHUNKED\t", None),
        ("Transfer-Encoding: gzip, chunked", Some(Refusal::Coding)),
        ("Transfer-Encoding: chunked, chunked", Some(Refusal::Coding)),
        ("Transfer-Encoding: chunked,", Some(Refusal::Coding)),
        ("Transfer-Encoding: chunked;q=1", Some(Refusal::Coding)),
        ("Transfer-Encoding: identity", Some(Refusal::Coding)),
        ("Transfer-Encoding:", Some(Refusal::Coding)),
        ("Expect: 100-Continue", None),
        ("Expect: tea", Some(Refusal::Expectation)),
        ("Expect: 100-continue, tea", Some(Refusal::Expectation)),
    ] {
        assert_eq!(sound(&[field]), refused, "{field:?}");
    }
    for (fields, refused) in [
        (["Content-Length: 5", "Content-Length: 5"], Refusal::Length),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], Refusal::TwoMeasures),
        (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], Refusal::Coding),
        (["Content-Type: a", "content-type: a"], Refusal::TwoTypes),
    ] {
        assert_eq!(sound(&fields), Some(refused), "{fields:?}");
    }
    assert_eq!(refusal("GET / HTTP/1.1", &[]), Some(Refusal::NoHost));
    assert_eq!(refusal("GET / HTTP/1.0", &[]), None);
    assert_eq!(refusal("GET / HTTP/1.0", &["Host: a", "Host: a"]), Some(Refusal::TwoHosts));
    assert_eq!(refusal("GET / HTTP/1.1", &["Host: a:b"]), Some(Refusal::BadHost));
    assert_eq!(refusal("GET / HTTP/1.1", &["Host: a/b"]), Some(Refusal::BadHost));
    assert_eq!(refusal("GET / HTTP/1.1", &["Host:"]), None);
    let old = refusal("GET / HTTP/1.0", &["Transfer-Encoding: chunked"]);
    assert_eq!(old, Some(Refusal::OldCoding));
    let tunnel = |field| refusal("CONNECT h:1 HTTP/1.1", &["Host: h:1", field]);
    assert_eq!(tunnel("Content-Length: 1"), Some(Refusal::NeedlessBody));
    assert_eq!(tunnel("Transfer-Encoding: chunked"), Some(Refusal::NeedlessBody));
    assert_eq!(tunnel("Content-Length: 0"), None);
}

/// What is no head, or not one alone, is none.
#[test]
fn only_a_head_is_a_head() {
    let whole = head("GET / HTTP/1.1", &["Host: h"]);
    for wrong in
        ["", "\r\n", &whole[..whole.len() - 1], &format!("\r\n{whole}"), &format!("{whole}x")]
    {
        assert_eq!(
            RequestHead::parse(wrong.as_bytes()).err(),
            Some(Refusal::RequestLine),
            "{wrong:?}"
        );
    }
    let many = vec!["A: b"; 64];
    assert_eq!(refusal("GET / HTTP/1.0", &many), None);
    assert_eq!(refusal("GET / HTTP/1.0", &["A: b"; 65]), Some(Refusal::TooManyFields));
    let long = format!("A: {}", "b".repeat(17 << 10));
    assert_eq!(refusal("GET / HTTP/1.0", &[&long]), Some(Refusal::HeadTooLong));
    let options = |length| format!("Connection: {}", "a".repeat(length));
    assert_eq!(refusal("GET / HTTP/1.0", &[&options(500), "Connection: 123456789012"]), None);
    let more = refusal("GET / HTTP/1.0", &[&options(500), "Connection: 1234567890123"]);
    assert_eq!(more, Some(Refusal::Options));
}

#[test]
fn a_head_says_how_to_go_on() {
    let read = |line, fields: &[&str]| {
        let text = head(line, fields);
        let head = RequestHead::parse(text.as_bytes()).expect("sound");
        (head.body, head.persist, head.proceed, head.upgrade)
    };
    let (old, new) = ("GET / HTTP/1.0", "GET / HTTP/1.1");
    let body = Some(Framing::Length(2));
    for (line, fields, expected) in [
        (new, &["Host: h"][..], (None, Persist::Keep, false, false)),
        (old, &[], (None, Persist::Close, false, false)),
        (old, &["Connection: Keep-Alive"], (None, Persist::KeepAlive, false, false)),
        (old, &["Connection: Keep-Alive, close"], (None, Persist::Close, false, false)),
        (new, &["Host: h", "Connection: x, CLOSE"], (None, Persist::Close, false, false)),
        (new, &["Host: h", "Content-Length: 2"], (body, Persist::Keep, false, false)),
        (new, &["Host: h", "Content-Length: 0"], (None, Persist::Keep, false, false)),
        (
            new,
            &["Host: h", "Transfer-Encoding: chunked"],
            (Some(Framing::CHUNKED), Persist::Keep, false, false),
        ),
        (
            new,
            &["Host: h", "Content-Length: 2", "Expect: 100-continue"],
            (body, Persist::Keep, true, false),
        ),
        (new, &["Host: h", "Expect: 100-continue"], (None, Persist::Keep, false, false)),
        (old, &["Content-Length: 2", "Expect: 100-continue"], (body, Persist::Close, false, false)),
        (
            new,
            &["Host: h", "Upgrade: x", "Connection: Upgrade"],
            (None, Persist::Keep, false, true),
        ),
        (new, &["Host: h", "Upgrade: x"], (None, Persist::Keep, false, false)),
        (new, &["Host: h", "Connection: upgrade"], (None, Persist::Keep, false, false)),
        (old, &["Upgrade: x", "Connection: upgrade"], (None, Persist::Close, false, false)),
        ("CONNECT h:1 HTTP/1.1", &["Host: h:1"], (None, Persist::Keep, false, true)),
    ] {
        assert_eq!(read(line, fields), expected, "{line} {fields:?}");
    }
}

/// RFC 9110 §9.2.
#[test]
fn methods_are_safe_or_idempotent_or_neither() {
    for (method, safe, idempotent, asked) in [
        ("GET", true, true, Asked::Other),
        ("HEAD", true, true, Asked::Head),
        ("OPTIONS", true, true, Asked::Other),
        ("TRACE", true, true, Asked::Other),
        ("PUT", false, true, Asked::Other),
        ("DELETE", false, true, Asked::Other),
        ("POST", false, false, Asked::Other),
        ("PATCH", false, false, Asked::Other),
        ("X", false, false, Asked::Other),
        ("HEADS", false, false, Asked::Other),
    ] {
        let text = head(&format!("{method} / HTTP/1.0"), &[]);
        let head = RequestHead::parse(text.as_bytes()).expect("sound");
        assert_eq!((head.is_safe(), head.is_idempotent(), head.asked()), (safe, idempotent, asked));
    }
    let text = head("CONNECT h:1 HTTP/1.0", &[]);
    let head = RequestHead::parse(text.as_bytes()).expect("sound");
    assert_eq!((head.is_idempotent(), head.asked()), (false, Asked::Connect));
}

#[test]
fn fields_are_found_by_name() {
    let text = head("GET / HTTP/1.0", &["A: 1", "b:  x , Y,z ", "a: 2", "C: \u{e9}", "D:"]);
    let fields = RequestHead::parse(text.as_bytes()).expect("sound").fields;
    assert_eq!(fields.all("a").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!((fields.one("A"), fields.one("B")), (None, Some(&b"x , Y,z"[..])));
    assert_eq!(
        (fields.text("c"), fields.text("D"), fields.text("e")),
        (Some("\u{e9}"), Some(""), None)
    );
    assert!(fields.has("d") && !fields.has("e"));
    assert!(fields.lists("B", "y") && fields.lists("b", "z") && !fields.lists("b", "x , y"));
    let names: Vec<_> = fields.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["A", "b", "a", "C", "D"]);
    for count in [31, 32, 33, 64] {
        let text = head("GET / HTTP/1.0", &vec!["A: b"; count]);
        let fields = RequestHead::parse(text.as_bytes()).expect("sound").fields;
        assert_eq!(fields.all("a").count(), count);
    }
}
