//! A client's side of one connection: requests are said, and every byte of the replies is held
//! against what a server of one edition says.
//!
//! Each request is answered by one whole reply, of one edition from its first byte to its last, or by a
//! whole 502, 504 or 413. What is cut short never looks complete: the connection ends between two replies,
//! and before all are there only if the last one has said so.

use super::Target;
use super::chunks::{Byte, Chunks, put_chunk};
use super::desk::{Desk, News};
use super::plan::{Ask, Framing, Method};

/// The longest head that a client takes.
const HEAD_MAX: usize = 4096;
/// How much of a request's body goes into a chunk.
const CHUNK: usize = 700;

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::sim) struct Asker {
    client: u16,
    asks: Vec<Ask>,
    pipelined: bool,
    half_close: bool,
    /// Requests as they are sent, and how many these are.
    said: Vec<u8>,
    asked: usize,
    answered: usize,
    reads: Reads,
    /// Bytes of the body at hand, and which editions it can still be of.
    at: u64,
    editions: Vec<u8>,
    /// What there is.
    known: Vec<u8>,
    /// The reply at hand says that it is the last.
    closes: bool,
    received: u64,
    desk: Desk,
}

#[derive(Debug)]
enum Reads {
    Head(Vec<u8>),
    Length(u64),
    Chunks(Chunks),
    Close,
    /// The text of who gives no reply.
    Refusal(u64),
}

impl Asker {
    pub(in crate::sim) fn new(
        client: u16,
        (asks, pipelined, half_close): (&[Ask], bool, bool),
        desk: Desk,
    ) -> Self {
        let known = desk.editions();
        let mut asker = Self {
            client,
            asks: asks.to_vec(),
            pipelined,
            half_close,
            said: Vec::new(),
            asked: 0,
            answered: 0,
            reads: Reads::Head(Vec::new()),
            at: 0,
            editions: Vec::new(),
            known,
            closes: false,
            received: 0,
            desk,
        };
        asker.ask();
        asker
    }

    fn target(&self, index: usize) -> Option<Target> {
        let ask = *self.asks.get(index)?;
        Some(Target { client: self.client, index: index as u16, ask })
    }

    /// Writes the requests that are due.
    fn ask(&mut self) {
        let until = if self.pipelined { self.asks.len() } else { self.answered + 1 };
        while self.asked < until.min(self.asks.len()) && !self.closes {
            if let Some(target) = self.target(self.asked) {
                put_request(&target, &mut self.said);
            }
            self.asked += 1;
        }
    }

    pub(in crate::sim) fn output_end(&self) -> u64 {
        self.said.len() as u64
    }

    pub(in crate::sim) fn speak(&self, offset: u64, into: &mut [u8]) {
        for (byte, said) in into.iter_mut().zip(self.said.iter().skip(offset as usize)) {
            *byte = *said;
        }
    }

    /// Nothing more will be said.
    pub(in crate::sim) fn finished(&self, peer_finished: bool) -> bool {
        let all_asked = self.asked == self.asks.len();
        let all_answered = self.answered == self.asks.len() && !self.closes;
        peer_finished || all_answered || (self.half_close && all_asked)
    }

    /// Hears a byte.
    pub(in crate::sim) fn hear(&mut self, byte: u8) -> Result<(), String> {
        self.received += 1;
        let Some(target) = self.target(self.answered) else {
            return Err(format!("byte {} follows the last reply", self.received - 1));
        };
        let place = || format!("reply {} of client {}", target.index, target.client);
        match &mut self.reads {
            Reads::Head(head) => {
                if head.is_empty() && self.closes {
                    return Err(format!("{}: behind the one that was the last", place()));
                }
                head.push(byte);
                if head.len() > HEAD_MAX {
                    return Err(format!("{}: no end of its head", place()));
                }
                if head.ends_with(b"\r\n\r\n") {
                    let head = core::mem::take(head);
                    self.on_head(&target, &head).map_err(|why| format!("{}: {why}", place()))?;
                }
            }
            Reads::Refusal(left) => {
                *left -= 1;
                if *left == 0 {
                    self.on_reply();
                }
            }
            Reads::Length(_) | Reads::Close => {
                self.check(&target, byte).map_err(|why| format!("{}: {why}", place()))?;
                let whole = matches!(self.reads, Reads::Length(length) if length == self.at);
                if whole {
                    self.on_reply();
                }
            }
            Reads::Chunks(chunks) => {
                let what = chunks.take(byte).map_err(|why| format!("{}: {why}", place()))?;
                match what {
                    Byte::Between => {}
                    Byte::Body => {
                        self.check(&target, byte).map_err(|why| format!("{}: {why}", place()))?;
                    }
                    Byte::Last => {
                        let (found, at) = (chunks.trailers().to_vec(), self.at);
                        let wanted = trailers(&target);
                        if at != target.ask.length || found != wanted {
                            let found = String::from_utf8_lossy(&found).into_owned();
                            return Err(format!(
                                "{}: a last chunk at {at} of {}, and {found:?}",
                                place(),
                                target.ask.length
                            ));
                        }
                        self.on_reply();
                    }
                }
            }
        }
        Ok(())
    }

    /// The next byte of a body is one of an edition that all before it were of.
    fn check(&mut self, target: &Target, byte: u8) -> Result<(), String> {
        let at = self.at;
        if at >= target.ask.length {
            return Err(format!("byte {at} where {} is the length", target.ask.length));
        }
        let first = self.editions.first().map(|edition| target.byte(*edition, at));
        self.editions.retain(|edition| target.byte(*edition, at) == byte);
        self.at += 1;
        if self.editions.is_empty() {
            return Err(format!("byte {at} of the body is {byte:#04x}, not {first:?}"));
        }
        Ok(())
    }

    fn on_head(&mut self, target: &Target, head: &[u8]) -> Result<(), String> {
        let text = || String::from_utf8_lossy(head).into_owned();
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut reply = httparse::Response::new(&mut fields);
        if !matches!(reply.parse(head), Ok(httparse::Status::Complete(_))) {
            return Err(format!("not a reply: {}", text()));
        }
        let field = |name: &str| {
            let found = reply.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| String::from_utf8_lossy(field.value).into_owned())
        };
        let length = field("content-length").and_then(|text| text.parse::<u64>().ok());
        let chunked = field("transfer-encoding").is_some_and(|value| value == "chunked");
        let status = reply.code.unwrap_or_default();
        if status == 103 && target.hints() {
            return Ok(());
        }
        self.closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if let 413 | 502 | 504 = status {
            let (client, index) = (target.client, target.index);
            self.desk.note(News::Refused { client, index, status });
            let length = length.filter(|_| !chunked).ok_or_else(text)?;
            let length = if target.ask.method == Method::Head { 0 } else { length };
            self.reads = Reads::Refusal(length);
            if length == 0 {
                self.on_reply();
            }
            return Ok(());
        }
        let ask = target.ask;
        let framed = match ask.framing {
            Framing::Length => !chunked && length == Some(ask.length),
            Framing::Chunks => chunked && length.is_none(),
            Framing::Close => !chunked && length.is_none() && self.closes,
        };
        if status != 200 || !framed {
            return Err(format!("what no server says: {}", text()));
        }
        let tag = field("etag");
        self.editions = self.known.clone();
        self.editions.retain(|edition| target.tag(*edition) == tag);
        if self.editions.is_empty() {
            return Err(format!("the validator is nobody's: {}", text()));
        }
        self.at = 0;
        self.reads = match ask.framing {
            Framing::Length => Reads::Length(ask.length),
            Framing::Chunks => Reads::Chunks(Chunks::new()),
            Framing::Close => Reads::Close,
        };
        let empty = ask.framing == Framing::Length && ask.length == 0;
        if ask.method == Method::Head || empty {
            self.on_reply();
        }
        Ok(())
    }

    /// A reply is whole.
    fn on_reply(&mut self) {
        if !matches!(self.reads, Reads::Refusal(_)) {
            let (client, index) = (self.client, self.answered as u16);
            self.desk.note(News::Answered { client, index });
        }
        self.reads = Reads::Head(Vec::new());
        self.answered += 1;
        self.ask();
    }

    /// Hears the end.
    pub(in crate::sim) fn hear_end(&mut self) -> Result<(), String> {
        let index = self.answered;
        match (&self.reads, self.target(index)) {
            (Reads::Close, Some(target)) if self.at == target.ask.length => self.on_reply(),
            (Reads::Head(head), None) if head.is_empty() => {}
            (Reads::Head(head), Some(_)) if head.is_empty() && self.closes => {}
            (reads, _) => {
                return Err(format!(
                    "reply {index} of client {}: an end in order at byte {} of the body, {reads:?}",
                    self.client, self.at
                ));
            }
        }
        Ok(())
    }
}

/// What stands behind the last chunk of a reply.
fn trailers(target: &Target) -> Vec<u8> {
    let line = if target.trailer() {
        format!("X-Length: {}\r\n", target.ask.length)
    } else {
        String::new()
    };
    format!("{line}\r\n").into_bytes()
}

/// A request as it is sent.
fn put_request(target: &Target, out: &mut Vec<u8>) {
    let Ask { method, sends, chunked, keyed, .. } = target.ask;
    let method = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Put => "PUT",
        Method::Post => "POST",
    };
    let mut head = format!("{method} {} HTTP/1.1\r\nHost: sim\r\n", target.text());
    if keyed {
        head.push_str(&format!("Idempotency-Key: \"{}-{}\"\r\n", target.client, target.index));
    }
    let body = matches!(target.ask.method, Method::Put | Method::Post);
    match (body, chunked) {
        (true, true) => head.push_str("Transfer-Encoding: chunked\r\n"),
        (true, false) => head.push_str(&format!("Content-Length: {sends}\r\n")),
        (false, _) => {}
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
    if !body {
        return;
    }
    let bytes: Vec<u8> = (0..sends).map(|at| target.sent(at)).collect();
    if chunked {
        bytes.chunks(CHUNK).for_each(|piece| put_chunk(piece, out));
        out.extend_from_slice(b"0\r\n\r\n");
    } else {
        out.extend_from_slice(&bytes);
    }
}
