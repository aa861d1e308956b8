//! One HTTP/1.1 download: a request, a head, a body that is checked while it comes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::pattern::Pattern;

/// Heads longer than this are refused.
const HEAD_LIMIT: usize = 16 * 1024;

/// What to ask for, and how its body is known to be right.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The request's target, `/big.bin`.
    pub path: String,
    /// First and last byte of the part to ask for; the last may be left open.
    pub range: Option<(u64, Option<u64>)>,
    /// The body is this content function, from the range's start on.
    pub pattern: Option<Pattern>,
    /// The body is that of this file, from the range's start on.
    pub reference: Option<Arc<File>>,
    /// SHA-256 of the body as it comes.
    pub sha256: Option<[u8; 32]>,
    /// Length of the body as it comes.
    pub length: Option<u64>,
}

impl Expected {
    /// The request as it goes out.
    pub(super) fn request(&self, host: &str) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\nHost: {host}\r\n", self.path);
        text.push_str(concat!("User-Agent: standin-drill/", env!("CARGO_PKG_VERSION"), "\r\n"));
        if let Some((first, last)) = self.range {
            let last = last.map(|last| last.to_string()).unwrap_or_default();
            text.push_str(&format!("Range: bytes={first}-{last}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    fn start(&self) -> u64 {
        self.range.map_or(0, |(first, _)| first)
    }
}

/// The reply to one request.
#[derive(Debug)]
pub(super) struct Reply {
    expected: Expected,
    head: Vec<u8>,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    length: u64,
    offset: u64,
    digest: Option<Sha256>,
}

impl Reply {
    pub(super) fn new(expected: &Expected) -> Self {
        Self { expected: expected.clone(), head: Vec::new(), body: None }
    }

    /// Takes bytes as they come; true once the body is complete and right.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        if let Some(body) = &mut self.body {
            return body.take(&self.expected, bytes);
        }
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        match parse_head(&self.head, &self.expected)? {
            Some((head_length, length)) => {
                let digest = self.expected.sha256.map(|_| Sha256::new());
                let body = self.body.insert(Body { length, offset: 0, digest });
                self.head = Vec::new();
                // What the head did not need of these bytes is the start of the body.
                body.take(&self.expected, &bytes[head_length.saturating_sub(before)..])
            }
            None if self.head.len() > HEAD_LIMIT => Err(Failure::Http("endless head".into())),
            None => Ok(false),
        }
    }

    /// What is still missing, for a person.
    pub(super) fn missing(&self) -> String {
        match &self.body {
            Some(body) => format!("{} bytes of the body", body.length - body.offset),
            None => "the reply's head".into(),
        }
    }
}

impl Body {
    fn take(&mut self, expected: &Expected, bytes: &[u8]) -> Result<bool, Failure> {
        if bytes.len() as u64 > self.length - self.offset {
            return Err(Failure::Excess(self.length));
        }
        let at = expected.start() + self.offset;
        if let Some((index, right)) =
            expected.pattern.and_then(|pattern| pattern.difference(at, bytes))
        {
            return Err(self.wrong(index, right, bytes[index]));
        }
        if let Some(reference) = &expected.reference
            && let Some((index, right)) =
                reference_difference(reference, at, bytes).map_err(Failure::Reference)?
        {
            return Err(self.wrong(index, right, bytes[index]));
        }
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        self.offset += bytes.len() as u64;
        if self.offset < self.length {
            return Ok(false);
        }
        self.check_digest(expected)?;
        Ok(true)
    }

    fn wrong(&self, index: usize, expected: u8, found: u8) -> Failure {
        Failure::WrongByte { offset: self.offset + index as u64, expected, found }
    }

    fn check_digest(&mut self, expected: &Expected) -> Result<(), Failure> {
        let (Some(digest), Some(right)) = (self.digest.take(), expected.sha256) else {
            return Ok(());
        };
        let found: [u8; 32] = digest.finalize().into();
        if found == right {
            return Ok(());
        }
        Err(Failure::Digest { found: hexadecimal(&found), expected: hexadecimal(&right) })
    }
}

/// Length of a complete head and of the body that follows it.
fn parse_head(bytes: &[u8], expected: &Expected) -> Result<Option<(usize, u64)>, Failure> {
    let bad = |text: String| Err(Failure::Http(text));
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut reply = httparse::Response::new(&mut headers);
    let length = match reply.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return bad(error.to_string()),
    };
    let status = reply.code.unwrap_or_default();
    let wanted = if expected.range.is_some() { 206 } else { 200 };
    if status != wanted {
        return bad(format!("status {status} {}, not {wanted}", reply.reason.unwrap_or_default()));
    }
    let declared = reply
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse::<u64>().ok());
    match (declared, expected.length) {
        (None, _) => bad("no Content-Length".into()),
        (Some(declared), Some(right)) if declared != right => {
            bad(format!("Content-Length {declared}, not {right}"))
        }
        (Some(declared), _) => Ok(Some((length, declared))),
    }
}

fn reference_difference(file: &File, at: u64, bytes: &[u8]) -> io::Result<Option<(usize, u8)>> {
    let mut right = [0; 16 * 1024];
    for (piece, found) in bytes.chunks(right.len()).enumerate() {
        let start = piece * right.len();
        let right = &mut right[..found.len()];
        file.read_exact_at(right, at + start as u64)?;
        if let Some(index) = right.iter().zip(found).position(|(a, b)| a != b) {
            return Ok(Some((start + index, right[index])));
        }
    }
    Ok(None)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Pattern = Pattern::new(7, 0);

    fn expected() -> Expected {
        Expected { path: "/f".into(), pattern: Some(SEED), ..Expected::default() }
    }

    fn reply(status: &str, start: u64, length: usize) -> Vec<u8> {
        let mut bytes =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        let head = bytes.len();
        bytes.resize(head + length, 0);
        SEED.fill(start, &mut bytes[head..]);
        bytes
    }

    #[test]
    fn reply_cut_anywhere_is_the_same_reply() {
        let bytes = reply("200 OK", 0, 50);
        for cut in 1..bytes.len() {
            let mut reply = Reply::new(&expected());
            assert!(!reply.take(&bytes[..cut]).unwrap(), "cut at {cut}");
            assert!(reply.take(&bytes[cut..]).unwrap(), "cut at {cut}");
        }
    }

    #[test]
    fn part_of_a_file_is_checked_where_it_lies() {
        let part = Expected { range: Some((1_000, Some(1_049))), ..expected() };
        let request = String::from_utf8(part.request("h")).unwrap();
        assert!(request.contains("Range: bytes=1000-1049\r\n"));
        assert!(Reply::new(&part).take(&reply("206 Partial Content", 1_000, 50)).unwrap());
        let wrong = Reply::new(&part).take(&reply("206 Partial Content", 1_001, 50));
        assert!(matches!(wrong, Err(Failure::WrongByte { offset: 0, .. })), "{wrong:?}");
    }

    #[test]
    fn digest_of_the_whole_body_is_compared() {
        let body = reply("200 OK", 0, 50);
        let right: [u8; 32] = Sha256::digest(&body[body.len() - 50..]).into();
        let with = |sha256| Expected { path: "/f".into(), sha256, ..Expected::default() };
        assert!(Reply::new(&with(Some(right))).take(&body).unwrap());
        let wrong = Reply::new(&with(Some([0; 32]))).take(&body);
        assert!(matches!(wrong, Err(Failure::Digest { .. })), "{wrong:?}");
    }

    #[test]
    fn other_replies_are_failures() {
        let failure = |bytes: &[u8], expected| match Reply::new(&expected).take(bytes) {
            Err(failure) => failure.to_string(),
            Ok(done) => panic!("accepted, done: {done}"),
        };
        let missing = failure(&reply("404 Not Found", 0, 0), expected());
        assert_eq!(missing, "bad HTTP reply: status 404 Not Found, not 200");
        let short = failure(&reply("200 OK", 0, 9), Expected { length: Some(10), ..expected() });
        assert_eq!(short, "bad HTTP reply: Content-Length 9, not 10");
        let mut long = reply("200 OK", 0, 5);
        long.push(b'!');
        assert_eq!(failure(&long, expected()), Failure::Excess(5).to_string());
        assert_eq!(failure(&[b'x'; 20_000], expected()), "bad HTTP reply: invalid HTTP version");
    }
}
