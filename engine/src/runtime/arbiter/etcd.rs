//! What is said to etcd, and what it says: version 3 through its JSON gateway.
//!
//! One key holds the pair's record as text, `a 4 00c0ffee00c0ffee`: owner, epoch, process. A swap is
//! one transaction: the comparison, the write, and where it fails the reading. 64-bit numbers are
//! strings in this JSON, and what is zero or empty is left out. Everything that comes back is
//! checked: it may be another program's, and whoever answers may be anybody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ids::{Epoch, Node};
use crate::role::{ArbiterRecord, Inquiry, Reply};

/// The longest answer that is read, in bytes: a record takes a few hundred.
pub const ANSWER_MAX: u64 = 64 << 10;
/// The longest record, in bytes: a letter, a decimal and a hexadecimal number.
const RECORD_MAX: usize = 64;

/// A request to the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Behind the endpoint.
    pub path: &'static str,
    /// What is posted, JSON.
    pub body: String,
}

/// Where a pair's record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    name: String,
}

impl Key {
    /// The key of the pair `identity` below `prefix`.
    #[must_use]
    pub fn new(prefix: &str, identity: &str) -> Self {
        Self { name: format!("{prefix}{identity}") }
    }

    /// As `etcdctl get` would be asked for it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How etcd is asked.
    #[must_use]
    pub fn request(&self, what: &Inquiry) -> Request {
        let key = BASE64.encode(&self.name);
        let range = json!({ "key": key });
        match *what {
            Inquiry::Read => Request { path: "/v3/kv/range", body: range.to_string() },
            Inquiry::Swap { expected, revision, record } => {
                let put = json!({ "key": key, "value": BASE64.encode(write(&record)) });
                let body = json!({
                    "compare": compare(&key, expected, revision),
                    "success": [{ "request_put": put }],
                    "failure": [{ "request_range": range }],
                });
                Request { path: "/v3/kv/txn", body: body.to_string() }
            }
        }
    }

    /// What etcd answered to `what`.
    ///
    /// # Errors
    /// Says what is wrong with it, for a person.
    pub fn read_answer(&self, what: &Inquiry, body: &str) -> Result<Reply, String> {
        let answer: Answer =
            serde_json::from_str(body).map_err(|error| format!("not etcd's answer: {error}"))?;
        let header = answer.header.ok_or("not etcd's answer: it has no header")?;
        let Inquiry::Swap { record, .. } = *what else {
            return self.found(answer.kvs);
        };
        if answer.succeeded {
            // The write is what made the store's revision.
            let revision = number("revision", &header.revision)?;
            return Ok(Reply { record: Some(record), revision, written: true });
        }
        let range =
            answer.responses.into_iter().next().and_then(|response| response.response_range);
        self.found(range.ok_or("etcd's refusal does not say what is there")?.kvs)
    }

    fn found(&self, mut pairs: Vec<Pair>) -> Result<Reply, String> {
        let Some(pair) = pairs.pop() else {
            return Ok(Reply { record: None, revision: 0, written: false });
        };
        if !pairs.is_empty() || decode("key", &pair.key)? != self.name.as_bytes() {
            return Err("etcd answers with a key that was not asked for".to_owned());
        }
        let record = read(&decode("value", &pair.value)?)
            .ok_or_else(|| format!("key {} holds something that is no record", self.name))?;
        let revision = number("mod_revision", &pair.mod_revision)?;
        Ok(Reply { record: Some(record), revision, written: false })
    }
}

/// What must hold for a write.
fn compare(key: &str, expected: Option<ArbiterRecord>, revision: Option<u64>) -> Value {
    let Some(expected) = expected else {
        return json!([{ "key": key, "target": "VERSION", "result": "EQUAL", "version": "0" }]);
    };
    let value = BASE64.encode(write(&expected));
    let mut all = vec![json!({ "key": key, "target": "VALUE", "result": "EQUAL", "value": value })];
    if let Some(revision) = revision {
        let revision = revision.to_string();
        all.push(json!({
            "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision,
        }));
    }
    all.into()
}

/// A record as it is stored.
fn write(record: &ArbiterRecord) -> String {
    let ArbiterRecord { owner, epoch, boot } = *record;
    format!("{owner} {epoch} {boot:016x}")
}

/// A stored record; `None` if it is none.
fn read(bytes: &[u8]) -> Option<ArbiterRecord> {
    let text = core::str::from_utf8(bytes).ok().filter(|text| text.len() <= RECORD_MAX)?;
    let mut words = text.split(' ');
    let owner = match words.next()? {
        "a" => Node::A,
        "b" => Node::B,
        _ => return None,
    };
    let epoch = Epoch(words.next()?.parse().ok()?);
    let boot = u64::from_str_radix(words.next()?, 16).ok()?;
    let record = ArbiterRecord { owner, epoch, boot };
    // Whatever is written in another way was not written by us.
    (write(&record) == text).then_some(record)
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|error| format!("etcd's {what} is not base64: {error}"))
}

fn number(what: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("etcd's {what} is no number"))
}

/// The parts of an answer that matter, of a range and of a transaction.
#[derive(Deserialize)]
struct Answer {
    header: Option<Header>,
    #[serde(default)]
    succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    revision: String,
}

#[derive(Deserialize)]
struct Response {
    response_range: Option<Range>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    kvs: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: String,
    #[serde(default)]
    mod_revision: String,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: ArbiterRecord = ArbiterRecord { owner: Node::A, epoch: Epoch(4), boot: 0xc0ffee };
    const NEW: ArbiterRecord = ArbiterRecord { owner: Node::B, epoch: Epoch(5), boot: u64::MAX };
    const READ: Inquiry = Inquiry::Read;

    fn key() -> Key {
        Key::new("/standin/", "k")
    }

    fn swap(expected: Option<ArbiterRecord>, revision: Option<u64>) -> Inquiry {
        Inquiry::Swap { expected, revision, record: NEW }
    }

    #[test]
    fn a_swap_is_one_transaction() {
        let Request { path, body } = key().request(&swap(Some(OLD), Some(12)));
        assert_eq!(path, "/v3/kv/txn");
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap(),
            json!({
                "compare": [
                    {
                        "key": "L3N0YW5kaW4vaw==", "target": "VALUE", "result": "EQUAL",
                        "value": BASE64.encode("a 4 0000000000c0ffee"),
                    },
                    {
                        "key": "L3N0YW5kaW4vaw==", "target": "MOD", "result": "EQUAL",
                        "mod_revision": "12",
                    },
                ],
                "success": [{ "request_put": {
                    "key": "L3N0YW5kaW4vaw==", "value": BASE64.encode("b 5 ffffffffffffffff"),
                } }],
                "failure": [{ "request_range": { "key": "L3N0YW5kaW4vaw==" } }],
            })
        );
        let body: Value = serde_json::from_str(&key().request(&swap(None, None)).body).unwrap();
        assert_eq!(
            body["compare"],
            json!([{
                "key": "L3N0YW5kaW4vaw==", "target": "VERSION", "result": "EQUAL", "version": "0",
            }])
        );
        let body = r#"{"key":"L3N0YW5kaW4vaw=="}"#.to_owned();
        assert_eq!(key().request(&READ), Request { path: "/v3/kv/range", body });
    }

    #[test]
    fn answers_as_etcd_gives_them() {
        let read = |what: &Inquiry, body: &str| key().read_answer(what, body);
        // Taken from etcd 3.5.
        let header = r#""header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"15","raft_term":"2"}"#;
        let pair = format!(
            r#"[{{"key":"L3N0YW5kaW4vaw==","create_revision":"2","mod_revision":"14","version":"3","value":"{}"}}]"#,
            BASE64.encode("a 4 0000000000c0ffee")
        );
        assert_eq!(
            read(&READ, &format!("{{{header}}}")),
            Ok(Reply { record: None, revision: 0, written: false })
        );
        let there = Reply { record: Some(OLD), revision: 14, written: false };
        assert_eq!(read(&READ, &format!(r#"{{{header},"kvs":{pair},"count":"1"}}"#)), Ok(there));
        let written =
            format!(r#"{{{header},"succeeded":true,"responses":[{{"response_put":{{}}}}]}}"#);
        assert_eq!(
            read(&swap(Some(OLD), None), &written),
            Ok(Reply { record: Some(NEW), revision: 15, written: true })
        );
        let refused = format!(
            r#"{{{header},"responses":[{{"response_range":{{{header},"kvs":{pair},"count":"1"}}}}]}}"#
        );
        assert_eq!(read(&swap(Some(OLD), None), &refused), Ok(there));
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_says_so() {
        let error = |what: &Inquiry, body: &str| key().read_answer(what, body).unwrap_err();
        assert!(error(&READ, "<html>").starts_with("not etcd's answer: "));
        assert_eq!(error(&READ, "{}"), "not etcd's answer: it has no header");
        let with = |kvs: &str| format!(r#"{{"header":{{"revision":"1"}},"kvs":[{kvs}]}}"#);
        let pair = |value: &str| {
            format!(
                r#"{{"key":"L3N0YW5kaW4vaw==","mod_revision":"1","value":"{}"}}"#,
                BASE64.encode(value)
            )
        };
        for odd in ["", "a", "a 4", "c 4 0", "a 4 c0ffee", "a +4 0000000000c0ffee", "a 4 0 0"] {
            assert_eq!(
                error(&READ, &with(&pair(odd))),
                "key /standin/k holds something that is no record"
            );
        }
        let twice = format!("{0},{0}", pair("a 4 0000000000c0ffee"));
        let unasked = "etcd answers with a key that was not asked for";
        assert_eq!(error(&READ, &with(&twice)), unasked);
        assert_eq!(error(&READ, &with(r#"{"key":"aw==","value":""}"#)), unasked);
        assert_eq!(
            error(&swap(None, None), r#"{"header":{"revision":"1"}}"#),
            "etcd's refusal does not say what is there"
        );
        let written = r#"{"header":{},"succeeded":true}"#;
        assert_eq!(error(&swap(None, None), written), "etcd's revision is no number");
    }

    proptest! {
        #[test]
        fn every_record_comes_back_as_it_went(owner: bool, epoch: u64, boot: u64) {
            let owner = if owner { Node::A } else { Node::B };
            let record = ArbiterRecord { owner, epoch: Epoch(epoch), boot };
            prop_assert_eq!(read(write(&record).as_bytes()), Some(record));
        }

        #[test]
        fn any_text_is_an_answer_or_an_error(body: String, bytes: Vec<u8>) {
            let _ = key().read_answer(&READ, &body);
            let _ = key().read_answer(&swap(None, Some(1)), &body);
            let _ = super::read(&bytes);
        }
    }
}
