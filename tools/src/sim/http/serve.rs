//! A server's side of one connection: requests are read, noted, and answered as their targets say.

use std::collections::VecDeque;

use super::Target;
use super::chunks::{Byte, Chunks, put_chunk};
use super::desk::{Desk, Fuse, News};
use super::plan::{Framing, Method, Stage};

/// The longest head that is read.
const HEAD_MAX: usize = 8192;

/// See the module's documentation.
#[derive(Debug)]
pub(in crate::sim) struct Server {
    backend: usize,
    edition: u8,
    chunk: usize,
    desk: Desk,
    reads: Reads,
    /// What lets it die in the request at hand.
    fuse: Option<Fuse>,
    /// It dies when all that it has said is acknowledged.
    doomed: Option<Fuse>,
    /// What it has still to say.
    queue: VecDeque<u8>,
    /// It says nothing more.
    closes: bool,
    /// The reply that it is at ends with the connection.
    pub(in crate::sim) by_close: bool,
}

#[derive(Debug)]
enum Reads {
    Head(Vec<u8>),
    Body {
        asked: Asked,
        at: u64,
        left: u64,
    },
    Chunked {
        asked: Asked,
        at: u64,
        chunks: Chunks,
    },
    /// What comes is not listened to.
    Nothing,
}

/// A request whose head has been read.
#[derive(Clone, Debug)]
struct Asked {
    target: Target,
    /// First and last byte that it wants, and of which version.
    range: Option<(u64, u64)>,
    if_range: Option<String>,
}

impl Server {
    pub(in crate::sim) const fn new(backend: usize, edition: u8, chunk: u16, desk: Desk) -> Self {
        Self {
            backend,
            edition,
            chunk: chunk as usize,
            desk,
            reads: Reads::Head(Vec::new()),
            fuse: None,
            doomed: None,
            queue: VecDeque::new(),
            closes: false,
            by_close: false,
        }
    }

    /// Takes input.
    pub(in crate::sim) fn hear(&mut self, bytes: impl Iterator<Item = u8>) {
        for byte in bytes {
            if let Err(why) = self.take(byte) {
                let text = format!("backend {}: {why}", self.backend);
                self.desk.note(News::Wrong(text));
                (self.reads, self.closes) = (Reads::Nothing, true);
            }
        }
        let within = match &self.reads {
            Reads::Head(head) => !head.is_empty(),
            Reads::Body { .. } | Reads::Chunked { .. } => true,
            Reads::Nothing => false,
        };
        if within && self.fuse.is_some_and(|fuse| fuse.stage == Stage::InRequest) {
            self.fall();
        }
    }

    fn take(&mut self, byte: u8) -> Result<(), String> {
        match &mut self.reads {
            Reads::Nothing => {}
            Reads::Head(head) => {
                if head.is_empty() {
                    self.fuse = self.fuse.or_else(|| self.desk.take_fuse(self.backend));
                }
                head.push(byte);
                if head.len() > HEAD_MAX {
                    return Err("a request without end".to_owned());
                }
                if head.ends_with(b"\r\n\r\n") {
                    let head = core::mem::take(head);
                    self.on_head(&head)?;
                }
            }
            Reads::Body { asked, at, left } => {
                let right = asked.target.sent(*at);
                if byte != right {
                    return Err(format!("byte {at} of a request is {byte:#04x}, not {right:#04x}"));
                }
                (*at, *left) = (*at + 1, *left - 1);
                if *left == 0 {
                    let asked = asked.clone();
                    self.on_request(&asked);
                }
            }
            Reads::Chunked { asked, at, chunks } => match chunks.take(byte)? {
                Byte::Between => {}
                Byte::Body => {
                    let right = asked.target.sent(*at);
                    if byte != right {
                        return Err(format!("byte {at} of a request is {byte:#04x}"));
                    }
                    *at += 1;
                }
                Byte::Last => {
                    if *at != asked.target.ask.sends {
                        return Err(format!("a request of {at} bytes"));
                    }
                    let asked = asked.clone();
                    self.on_request(&asked);
                }
            },
        }
        Ok(())
    }

    fn on_head(&mut self, head: &[u8]) -> Result<(), String> {
        let text = || String::from_utf8_lossy(head).into_owned();
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
            return Err(format!("not a request: {}", text()));
        }
        let target = request.method.zip(request.path);
        let target = target.and_then(|(method, path)| Target::read(method, path));
        let target = target.ok_or_else(|| format!("what nobody asked for: {}", text()))?;
        let field = |name: &str| {
            let found = request.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.map(|field| String::from_utf8_lossy(field.value).into_owned())
        };
        let (client, index) = (target.client, target.index);
        let key = field("idempotency-key");
        self.desk.note(News::Seen { backend: self.backend, client, index, key });
        let asked = Asked {
            target,
            range: field("range").as_deref().and_then(range_of),
            if_range: field("if-range"),
        };
        let sends = target.ask.sends;
        let length = field("content-length").and_then(|text| text.parse::<u64>().ok());
        if field("transfer-encoding").is_some() {
            self.reads = Reads::Chunked { asked, at: 0, chunks: Chunks::new() };
        } else if length.unwrap_or(0) != sends {
            return Err(format!("a body of {length:?}, not of {sends}"));
        } else if sends == 0 {
            self.on_request(&asked);
        } else {
            self.reads = Reads::Body { asked, at: 0, left: sends };
        }
        Ok(())
    }

    /// It has all of a request.
    fn on_request(&mut self, asked: &Asked) {
        let Target { client, index, .. } = asked.target;
        self.desk.note(News::Heard { client, index });
        self.reads = Reads::Head(Vec::new());
        let reply = compose(asked, self.edition, self.chunk);
        let ends = asked.target.ask.framing == Framing::Close;
        self.by_close = ends;
        self.closes |= ends || asked.target.closes();
        if self.closes {
            self.reads = Reads::Nothing;
        }
        let Some(fuse) = self.fuse.take() else {
            self.queue.extend(reply.bytes);
            return;
        };
        let until = reply.place(fuse.stage);
        self.queue.extend(&reply.bytes[..until]);
        self.fuse = Some(fuse);
        self.fall();
    }

    fn fall(&mut self) {
        self.doomed = self.fuse.take();
        self.reads = Reads::Nothing;
    }

    /// What it says next, `room` bytes at most.
    pub(in crate::sim) fn say(&mut self, room: usize) -> impl Iterator<Item = u8> {
        let count = room.min(self.queue.len());
        self.queue.drain(..count)
    }

    /// Everything that was said has been acknowledged: if it is to die now, it does.
    pub(in crate::sim) fn on_all_heard(&mut self) {
        if self.queue.is_empty()
            && let Some(Fuse { orderly, restart_us, .. }) = self.doomed.take()
        {
            self.desk.note(News::Falls { backend: self.backend, orderly, restart_us });
            self.closes = false;
        }
    }

    /// Whether it has nothing more to say.
    pub(in crate::sim) fn has_ended(&self, heard_end: bool) -> bool {
        self.queue.is_empty() && self.doomed.is_none() && (self.closes || heard_end)
    }
}

/// Bytes `from` to `to` of `bytes=from-to`.
fn range_of(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let to = if to.is_empty() { u64::MAX } else { to.parse().ok()? };
    Some((from.parse().ok()?, to))
}

/// A reply, and where in it what begins.
#[derive(Debug, Default)]
struct Reply {
    bytes: Vec<u8>,
    /// Where the head of the reply itself begins, and ends.
    head: (usize, usize),
    /// Where the lines begin that say how long a chunk is.
    sizes: Vec<usize>,
    /// Where that begins which tells the end.
    last: usize,
}

impl Reply {
    /// How much of it has been said at `stage`.
    fn place(&self, stage: Stage) -> usize {
        let (begin, head) = self.head;
        match stage {
            Stage::InRequest | Stage::BeforeHead => 0,
            Stage::InHead => begin.midpoint(head),
            Stage::InBody(part) => {
                let body = self.bytes.len() - head;
                (head + body * usize::from(part) / 1000).min(self.last)
            }
            Stage::InSize => {
                let size = self.sizes.get(self.sizes.len() / 2);
                size.map_or_else(|| self.place(Stage::InBody(500)), |at| at + 1)
            }
            Stage::InLast => self.last,
            Stage::After => self.bytes.len(),
        }
    }
}

/// Everything that is said to a request.
fn compose(asked: &Asked, edition: u8, chunk: usize) -> Reply {
    let Asked { target, range, if_range } = asked;
    let ask = target.ask;
    let mut reply = Reply::default();
    if target.hints() {
        reply.bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    }
    let tag = target.tag(edition);
    let fits = if_range.is_none() || *if_range == tag;
    let range = range.filter(|(from, _)| tag.is_some() && fits && *from < ask.length);
    let (from, end) =
        range.map_or((0, ask.length), |(from, to)| (from, ask.length.min(to.saturating_add(1))));
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let mut head = format!("HTTP/1.1 {status}\r\nServer: edition {edition}\r\n");
    if let Some(tag) = tag {
        head.push_str(&format!("ETag: {tag}\r\nAccept-Ranges: bytes\r\n"));
    }
    if range.is_some() {
        head.push_str(&format!("Content-Range: bytes {from}-{}/{}\r\n", end - 1, ask.length));
    }
    match ask.framing {
        Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", end - from)),
        Framing::Chunks => head.push_str("Transfer-Encoding: chunked\r\n"),
        Framing::Close => head.push_str("Connection: close\r\n"),
    }
    let trailer = ask.framing == Framing::Chunks && target.trailer();
    head.push_str(if trailer { "Trailer: X-Length\r\n" } else { "" });
    let closes = target.closes() && ask.framing != Framing::Close;
    head.push_str(if closes { "Connection: close\r\n" } else { "" });
    reply.head.0 = reply.bytes.len();
    reply.bytes.extend_from_slice(head.as_bytes());
    reply.bytes.extend_from_slice(b"\r\n");
    reply.head.1 = reply.bytes.len();
    reply.last = reply.bytes.len();
    if ask.method == Method::Head {
        return reply;
    }
    let body: Vec<u8> = (from..end).map(|at| target.byte(edition, at)).collect();
    if ask.framing == Framing::Chunks {
        for piece in body.chunks(chunk.max(1)) {
            reply.sizes.push(reply.bytes.len());
            put_chunk(piece, &mut reply.bytes);
        }
        reply.bytes.extend_from_slice(b"0\r\n");
        reply.last = reply.bytes.len();
        if trailer {
            reply.bytes.extend_from_slice(format!("X-Length: {}\r\n", ask.length).as_bytes());
        }
        reply.bytes.extend_from_slice(b"\r\n");
    } else {
        reply.bytes.extend_from_slice(&body);
        reply.last = reply.bytes.len() - usize::from(!body.is_empty());
    }
    reply
}
