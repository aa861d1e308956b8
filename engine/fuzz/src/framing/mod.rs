//! Streams of HTTP/1 requests, or of replies, against a parser that has everything at once.
//!
//! The first byte says which way the stream goes, the second how it is cut; behind them it stands.

mod plain;

use standin::http::{
    Asked, Fields, Framing, HEAD_MAX, Part, Persist, ReplyHead, RequestHead, Scan, is_hop_by_hop,
    rewrite, scan,
};

use crate::pieces::Pieces;

/// Which way a stream goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Requests,
    /// Each reply is one to HEAD.
    ToHead,
    /// Each reply is one to CONNECT.
    ToConnect,
    /// Each reply is one to another method.
    Replies,
}

/// One message, as far as it has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Message {
    /// Method and target, or the status.
    start: Vec<u8>,
    /// Each field's name and value.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    /// Of a message that is complete.
    trailer: Vec<u8>,
    complete: bool,
}

/// What a stream is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Story {
    messages: Vec<Message>,
    refused: bool,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug)]
enum At {
    Head { scanned: usize },
    Body(Framing, Persist),
    End,
}

/// Whatever the cuts, the stream is what `plain` says it is.
pub fn run(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let way = match pieces.byte() % 4 {
        0 => Way::Requests,
        1 => Way::ToHead,
        2 => Way::ToConnect,
        _ => Way::Replies,
    };
    let size = usize::from(pieces.byte()) + 2;
    let stream = pieces.rest();
    let expected = plain::read(way, stream);
    for size in [stream.len().max(1), 1, size] {
        assert_eq!(read(way, stream.chunks(size)), expected, "{way:?} by {size}");
    }
}

fn read<'a>(way: Way, pieces: impl Iterator<Item = &'a [u8]>) -> Story {
    let (mut unread, mut at, mut story) = (Vec::new(), At::Head { scanned: 0 }, Story::default());
    for piece in pieces {
        unread.extend_from_slice(piece);
        while step(way, &mut at, &mut unread, &mut story) {}
    }
    for message in &mut story.messages {
        if !message.complete {
            message.trailer.clear();
        }
    }
    story
}

/// One step; false if there is none without more bytes.
fn step(way: Way, at: &mut At, unread: &mut Vec<u8>, story: &mut Story) -> bool {
    let mut refuse = |at: &mut At| {
        story.refused = true;
        *at = At::End;
        false
    };
    match at {
        At::End => false,
        At::Head { scanned } => match scan(unread, *scanned) {
            Scan::More(seen) => {
                assert!(seen >= *scanned && seen <= HEAD_MAX);
                *scanned = seen;
                false
            }
            Scan::Blank(length) if way == Way::Requests => {
                drop(unread.drain(..length));
                *scanned = 0;
                true
            }
            Scan::Blank(_) | Scan::Bad(_) => refuse(at),
            Scan::Head(length) => {
                let head: Vec<u8> = unread.drain(..length).collect();
                let Some((message, body, persist)) = message(way, &head) else { return refuse(at) };
                story.messages.push(message);
                *at = match body {
                    Some(framing) => At::Body(framing, persist),
                    None => behind(persist),
                };
                true
            }
        },
        At::Body(framing, persist) => {
            let Ok(part) = framing.next(unread) else { return refuse(at) };
            let message = story.messages.last_mut().expect("its head was read");
            match part {
                Part::More => {
                    assert!(unread.is_empty(), "all of it has been read");
                    return false;
                }
                Part::End(count) => {
                    drop(unread.drain(..count));
                    message.complete = true;
                    *at = behind(*persist);
                    return true;
                }
                Part::Data(count) => message.body.extend(&unread[..count]),
                Part::Trailer(count) => message.trailer.extend(&unread[..count]),
                Part::Framing(_) => {}
            }
            let (Part::Data(count) | Part::Trailer(count) | Part::Framing(count)) = part else {
                unreachable!("returned above");
            };
            assert!(count > 0, "there is progress");
            drop(unread.drain(..count));
            true
        }
    }
}

const fn behind(persist: Persist) -> At {
    match persist {
        Persist::Close => At::End,
        Persist::Keep | Persist::KeepAlive => At::Head { scanned: 0 },
    }
}

/// A message with this head, what is to come of its body, and what becomes of the connection.
fn message(way: Way, head: &[u8]) -> Option<(Message, Option<Framing>, Persist)> {
    let asked = match way {
        Way::Requests => return request(head),
        Way::ToHead => Asked::Head,
        Way::ToConnect => Asked::Connect,
        Way::Replies => Asked::Other,
    };
    let read = ReplyHead::parse(head, asked).ok()?;
    let tunnel = asked == Asked::Connect && read.status / 100 == 2 || read.status == 101;
    let persist = if tunnel { Persist::Close } else { read.persist };
    Some((start(read.status.to_string(), &read.fields, read.body), read.body, persist))
}

fn request(head: &[u8]) -> Option<(Message, Option<Framing>, Persist)> {
    let read = RequestHead::parse(head).ok()?;
    let tunnel = read.asked() == Asked::Connect;
    assert!(!tunnel || read.upgrade && read.body.is_none());
    assert!(!read.proceed || read.body.is_some());
    assert!(!read.is_safe() || read.is_idempotent());
    let persist = if tunnel { Persist::Close } else { read.persist };
    assert_passes_on(head, &read);
    let line = format!("{} {}", read.method, read.target);
    Some((start(line, &read.fields, read.body), read.body, persist))
}

fn start(line: String, fields: &Fields<'_>, body: Option<Framing>) -> Message {
    assert_ne!(body, Some(Framing::Length(0)), "that is none");
    Message {
        start: line.into_bytes(),
        fields: fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
            .collect(),
        complete: body.is_none(),
        ..Message::default()
    }
}

/// Without what is of one hop, it is the same request.
fn assert_passes_on(head: &[u8], read: &RequestHead<'_>) {
    let mut out = Vec::new();
    rewrite(head, |_, _| false, &[], &mut out);
    assert_eq!(out, head, "nothing was asked for");
    out.clear();
    rewrite(head, |name, _| is_hop_by_hop(&read.fields, name), &[], &mut out);
    let passed = RequestHead::parse(&out).expect("it is one still");
    assert_eq!(
        (passed.method, passed.target, passed.body, passed.fields.one("host")),
        (read.method, read.target, read.body, read.fields.one("host"))
    );
    assert!(!passed.fields.has("connection") && !passed.upgrade | (passed.method == "CONNECT"));
}
