//! Streams of requests that another server's tests have collected (`tests/data/README.md`): each becomes
//! what it became there, but for what is listed here by name.

use super::{Message, Story, Stream, Way};
use crate::http::{Refusal, RequestHead};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use std::collections::BTreeSet;

/// What that server takes, and we refuse: as what, and why.
const STRICTER: [(&str, &str, &str); 16] = [
    ("valid/009", "two_measures", "Content-Length beside any Transfer-Encoding"),
    ("valid/024", "head_too_long", "its head is 15 bytes longer than what is taken"),
    ("valid/025", "coding", "Transfer-Encoding is chunked and nothing else"),
    ("valid/025_line", "coding", "the same"),
    ("valid/028", "space_before_colon", "its settings have it ignored"),
    ("valid/029", "coding", "Transfer-Encoding is chunked and nothing else"),
    ("valid/030", "coding", "the same"),
    ("valid/031compat", "method", "its settings have small letters taken for capital ones"),
    ("valid/031compat2", "method", "its settings permit small letters"),
    (
        "valid/040",
        "disguised",
        "the fields are dropped there; what goes through here is not rewritten",
    ),
    ("valid/040_compat", "disguised", "its settings have them taken"),
    (
        "valid/099",
        "incomplete",
        "it is shorter than its Content-Length: what is cut short is never whole",
    ),
    ("valid/compat_obs_fold", "fold", "its settings have lines joined"),
    ("valid/compat_obs_fold_huge", "fold", "the same"),
    (
        "valid/rfc9112_smuggle_gzip_chunked_01",
        "coding",
        "Transfer-Encoding is chunked and nothing else",
    ),
    ("valid/rfc9112_smuggle_te_identity_chunked_01", "coding", "the same"),
];

/// What that server refuses, and we take: why.
const TAKEN: [(&str, &str); 9] = [
    (
        "invalid/006",
        "that server's limits are narrower: 4 KiB for a request line, 8 KiB for a field",
    ),
    ("invalid/007", "the same"),
    ("invalid/008", "the same"),
    ("invalid/010", "a limit of its settings"),
    ("invalid/011", "the same"),
    ("invalid/012", "the same"),
    ("invalid/017", "that server's limit for a field"),
    ("invalid/019", "nothing is made of X-Forwarded-Proto and the like here"),
    ("invalid/limit_header_default_01", "that server's limit for a field"),
];

/// What both refuse, and as what we do. What is incomplete goes on for ever: whoever waits for it closes it.
const REFUSED: [(&str, &str); 65] = [
    ("invalid/001", "incomplete"),
    ("invalid/002", "request_line"),
    ("invalid/003", "bare_lf"),
    ("invalid/003b", "request_line"),
    ("invalid/003c", "method"),
    ("invalid/004", "version"),
    ("invalid/005", "control"),
    ("invalid/009", "too_many_fields"),
    ("invalid/013", "fold"),
    ("invalid/014", "length"),
    ("invalid/015", "length"),
    ("invalid/016", "target"),
    ("invalid/018", "version"),
    ("invalid/020", "space_before_colon"),
    ("invalid/021", "length"),
    ("invalid/022", "length"),
    ("invalid/023", "length"),
    ("invalid/024", "length"),
    ("invalid/040", "disguised"),
    ("invalid/041", "two_types"),
    ("invalid/042", "two_hosts"),
    ("invalid/chunked_01", "chunk_size"),
    ("invalid/chunked_02", "two_measures"),
    ("invalid/chunked_03", "coding"),
    ("invalid/chunked_04", "coding"),
    ("invalid/chunked_05", "old_coding"),
    ("invalid/chunked_06", "coding"),
    ("invalid/chunked_07", "disguised"),
    ("invalid/chunked_08", "coding"),
    ("invalid/chunked_09", "chunk_size"),
    ("invalid/chunked_10", "chunk_size"),
    ("invalid/chunked_11", "chunk_size"),
    ("invalid/chunked_12", "chunk_size"),
    ("invalid/chunked_13", "chunk_size"),
    ("invalid/chunked_14", "bare_cr"),
    ("invalid/invalid_field_value_01", "bare_lf"),
    ("invalid/nonascii_01", "request_line"),
    ("invalid/nonascii_02", "request_line"),
    ("invalid/nonascii_03", "field_name"),
    ("invalid/nonascii_04", "field_name"),
    ("invalid/obs_fold_01", "fold"),
    ("invalid/pp_01", "incomplete"),
    ("invalid/pp_02", "incomplete"),
    ("invalid/pp_03", "incomplete"),
    ("invalid/prefix_01", "control"),
    ("invalid/prefix_02", "control"),
    ("invalid/prefix_03", "length"),
    ("invalid/prefix_04", "length"),
    ("invalid/prefix_05", "request_line"),
    ("invalid/prefix_06", "version"),
    ("invalid/rfc9110_field_value_ctl_bel_01", "control"),
    ("invalid/rfc9110_field_value_ctl_del_01", "control"),
    ("invalid/rfc9110_trailer_forbidden_cl_01", "trailer_field"),
    ("invalid/rfc9110_trailer_forbidden_host_01", "trailer_field"),
    ("invalid/rfc9110_trailer_forbidden_te_01", "trailer_field"),
    ("invalid/rfc9112_chunked_missing_final_crlf_01", "incomplete"),
    ("invalid/rfc9112_chunked_size_minus_sign_01", "chunk_size"),
    ("invalid/rfc9112_chunked_size_plus_sign_01", "chunk_size"),
    ("invalid/rfc9112_smuggle_cl_list_form_01", "length"),
    ("invalid/rfc9112_smuggle_cl_te_chunked_01", "two_measures"),
    ("invalid/rfc9112_target_asterisk_non_options_01", "target"),
    ("invalid/rfc9112_target_authority_non_connect_01", "target"),
    ("invalid/rfc9112_target_relative_01", "target"),
    ("invalid/version_01", "version"),
    ("invalid/version_02", "version"),
];

struct Case {
    name: String,
    bytes: Vec<u8>,
    /// The requests, or nothing if it is to be refused.
    expected: Option<Vec<Request>>,
}

#[derive(PartialEq, Eq, Debug)]
struct Request {
    method: String,
    target: String,
    version: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// As that server gives text that may be of any bytes.
fn latin(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn base64(value: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(text(value)).expect("base64")
}

fn cases() -> Vec<Case> {
    let data = include_str!("../../../tests/data/http-requests.json");
    let data: Value = serde_json::from_str(data).expect("JSON");
    data.as_array().expect("a list").iter().map(case).collect()
}

fn case(value: &Value) -> Case {
    let request = |value: &Value| Request {
        method: text(&value["method"]),
        target: text(&value["target"]),
        version: text(&value["version"]),
        fields: value["fields"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|field| (text(&field[0]), text(&field[1])))
            .collect(),
        body: base64(&value["body"]),
    };
    let expected = value["expect"].as_array();
    let bytes = base64(&value["bytes"]);
    let proxied = !value["settings"]["proxy_protocol"].is_null();
    Case {
        name: text(&value["name"]),
        bytes: if proxied { behind_proxy_header(&bytes).to_vec() } else { bytes },
        expected: expected.map(|requests| requests.iter().map(request).collect()),
    }
}

/// A PROXY header (v1, v2) is another layer's: what is behind it.
fn behind_proxy_header(bytes: &[u8]) -> &[u8] {
    if bytes.starts_with(b"PROXY ") {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line");
        return &bytes[end + 2..];
    }
    match bytes.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n") {
        Some([_, _, high, low, rest @ ..]) => {
            &rest[usize::from(u16::from_be_bytes([*high, *low]))..]
        }
        _ => bytes,
    }
}

const HOST: &str = "Host: of-the-test";

/// Most of the streams are of HTTP/1.1 and name no Host, for which alone they would be refused. They get one
/// and have to show what else they are.
fn with_hosts(mut bytes: Vec<u8>) -> Vec<u8> {
    while let Some((at, Refusal::NoHost)) = whole(&bytes).refused {
        let line = bytes[at..].windows(2).position(|pair| pair == b"\r\n").expect("a request line");
        let field = format!("\r\n{HOST}").into_bytes();
        bytes.splice(at + line..at + line, field);
    }
    bytes
}

fn whole(bytes: &[u8]) -> Story {
    Stream::read(Way::Requests, [bytes])
}

fn request(message: &Message) -> Request {
    let head = RequestHead::parse(&message.head).expect("it was read");
    let fields = head.fields.iter().map(|(name, value)| (name.to_uppercase(), latin(value)));
    Request {
        method: head.method.to_owned(),
        target: latin(head.target.as_bytes()),
        version: format!("1.{}", head.minor),
        fields: fields
            .filter(|(name, value)| format!("{name}: {value}") != HOST.replace("Host", "HOST"))
            .collect(),
        body: message.body.clone(),
    }
}

fn listed<'a, T>(table: &'a [T], name: impl Fn(&T) -> &str, wanted: &str) -> Option<&'a T> {
    table.iter().find(|row| name(row) == wanted)
}

#[test]
fn each_becomes_what_it_became_elsewhere() {
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for Case { name, bytes, expected } in cases() {
        seen.insert(name.clone());
        let story = whole(&with_hosts(bytes));
        let complete = story.messages.iter().all(|message| message.complete);
        let why = match story.refused {
            Some((_, refusal)) => refusal.name(),
            None if !complete || story.messages.is_empty() => "incomplete",
            None => "",
        };
        let wanted = match (&expected, listed(&STRICTER, |row| row.0, &name)) {
            (Some(_), Some((_, refusal, _))) => refusal,
            (Some(expected), None) => {
                let requests: Vec<Request> = story.messages.iter().map(request).collect();
                if requests != *expected {
                    wrong.push(format!("{name}: {requests:?}\n  for {expected:?}"));
                }
                ""
            }
            (None, _) if listed(&TAKEN, |row| row.0, &name).is_some() => "",
            (None, _) => listed(&REFUSED, |row| row.0, &name).map_or("?", |row| row.1),
        };
        if why != wanted {
            wrong.push(format!("{name}: {why:?} for {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(seen.len(), 137);
    let tables = STRICTER.iter().map(|row| row.0).chain(TAKEN.iter().map(|row| row.0));
    for name in tables.chain(REFUSED.iter().map(|row| row.0)) {
        assert!(seen.remove(name), "{name} is there, and listed once");
    }
}

/// RFC 9112 §3.2, whatever else there is.
#[test]
fn none_of_this_version_goes_without_a_host() {
    let without = cases().into_iter().filter(|case| with_hosts(case.bytes.clone()) != case.bytes);
    assert!(without.count() > 20);
}

#[test]
fn each_becomes_the_same_however_it_is_cut() {
    for Case { name, bytes, .. } in cases() {
        for bytes in [with_hosts(bytes.clone()), bytes] {
            let expected = whole(&bytes);
            for at in 0..bytes.len() {
                let (one, other) = bytes.split_at(at);
                assert_eq!(Stream::read(Way::Requests, [one, other]), expected, "{name} at {at}");
            }
            assert_eq!(Stream::read(Way::Requests, bytes.chunks(1)), expected, "{name}");
        }
    }
}
