//! The same grammar once more, as one would read it off RFC 9112 with the whole stream at hand. It shares no
//! code with the engine, and its limits stand here again.

use super::{Message, Story, Way};

const HEAD_MAX: usize = 16 << 10;
const EXTENSION_MAX: usize = 1 << 10;
const TRAILER_MAX: usize = 16 << 10;
const OPTIONS_MAX: usize = 512;

/// Why a stream goes no further.
enum Stop {
    /// It is wrong.
    Refused,
    /// It has not all come, or nothing of the kind comes any more.
    Out,
}

/// How a body is measured.
#[derive(PartialEq)]
enum Body {
    Length(u64),
    Chunks,
    Rest,
}

type Field<'a> = (&'a [u8], &'a [u8]);

pub(super) fn read(way: Way, stream: &[u8]) -> Story {
    let (mut rest, mut story) = (stream, Story::default());
    loop {
        match message(way, rest, &mut story.messages) {
            Ok(behind) => rest = behind,
            Err(stop) => {
                story.refused = matches!(stop, Stop::Refused);
                return story;
            }
        }
    }
}

/// Reads one message; returns what is behind it.
fn message<'a>(way: Way, mut rest: &'a [u8], to: &mut Vec<Message>) -> Result<&'a [u8], Stop> {
    while way == Way::Requests && rest.starts_with(b"\r\n") {
        rest = &rest[2..];
    }
    let (head, rest) = head(rest)?;
    let mut lines = Vec::new();
    let mut left = head;
    while let Some(end) = find(left, b"\r\n") {
        lines.push(&left[..end]);
        left = &left[end + 2..];
    }
    // The last one is empty.
    lines.pop();
    let first = lines.first().ok_or(Stop::Refused)?;
    let most = if way == Way::Requests { 64 } else { 128 };
    if lines.len() - 1 > most {
        return Err(Stop::Refused);
    }
    let fields: Vec<Field<'_>> =
        lines[1..].iter().map(|line| field(line)).collect::<Result<_, _>>()?;
    let options: usize = all(&fields, "connection").iter().map(|value| value.len()).sum();
    let (start, old, body) = match way {
        Way::Requests => request(first, &fields)?,
        Way::ToHead | Way::ToConnect | Way::Replies => reply(way, first, &fields)?,
    };
    if options > OPTIONS_MAX {
        return Err(Stop::Refused);
    }
    let tunnel = start.starts_with(b"CONNECT ")
        || start == b"101"
        || way == Way::ToConnect && start.first() == Some(&b'2');
    let last = tunnel
        || lists(&fields, "close")
        || old && !lists(&fields, "keep-alive")
        || body == Some(Body::Rest);
    to.push(Message {
        start,
        fields: fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect(),
        ..Message::default()
    });
    let message = to.last_mut().expect("just pushed");
    let behind = match body {
        None => rest,
        Some(Body::Length(length)) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            message.body.extend(&rest[..length.min(rest.len())]);
            rest.get(length..).ok_or(Stop::Out)?
        }
        Some(Body::Chunks) => chunks(rest, message)?,
        Some(Body::Rest) => {
            message.body.extend(rest);
            return Err(Stop::Out);
        }
    };
    message.complete = true;
    if last { Err(Stop::Out) } else { Ok(behind) }
}

/// A head with its empty line, and what is behind it.
fn head(rest: &[u8]) -> Result<(&[u8], &[u8]), Stop> {
    let end = match rest {
        [b'\r', b'\n', ..] => Some(2),
        _ => find(rest, b"\r\n\r\n").map(|at| at + 4),
    };
    let head = &rest[..end.unwrap_or(rest.len())];
    for (at, byte) in head.iter().enumerate() {
        let sound = match byte {
            b'\r' => head.get(at + 1).is_none_or(|next| *next == b'\n'),
            b'\n' => at > 0 && head[at - 1] == b'\r',
            _ => is_text(*byte),
        };
        if !sound || at >= HEAD_MAX {
            return Err(Stop::Refused);
        }
    }
    let end = end.ok_or(Stop::Out)?;
    if end == 2 { Err(Stop::Refused) } else { Ok(rest.split_at(end)) }
}

fn field(line: &[u8]) -> Result<Field<'_>, Stop> {
    let colon = find(line, b":").ok_or(Stop::Refused)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if is_token(name) { Ok((name, trim(value))) } else { Err(Stop::Refused) }
}

type Start = (Vec<u8>, bool, Option<Body>);

fn request(line: &[u8], fields: &[Field<'_>]) -> Result<Start, Stop> {
    let [method, target, version] = line.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] else {
        return Err(Stop::Refused);
    };
    let old = old(version)?;
    let hosts = all(fields, "host");
    let expected = all(fields, "expect");
    let body = measured(fields, old)?;
    let wrong = !is_token(method)
        || method.iter().any(u8::is_ascii_lowercase)
        || !is_target(method, target)
        || hosts.len() > 1
        || hosts.is_empty() && !old
        || hosts.iter().any(|host| !is_authority(host))
        || !old
            && !expected.is_empty()
            && !matches!(expected[..], [one] if same(one, "100-continue"))
        || !all(fields, "content_length").is_empty()
        || !all(fields, "transfer_encoding").is_empty()
        || all(fields, "content-type").len() > 1
        || method == b"CONNECT" && body.is_some();
    if wrong {
        return Err(Stop::Refused);
    }
    Ok(([method, b" ", target].concat(), old, body))
}

fn reply(way: Way, line: &[u8], fields: &[Field<'_>]) -> Result<Start, Stop> {
    // A reason is not needed, and may contain anything that is text.
    let (version, rest) = line.split_at_checked(8).ok_or(Stop::Refused)?;
    let old = old(version)?;
    let status = match rest {
        [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => [*a, *b, *c],
        [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => [*a, *b, *c],
        _ => return Err(Stop::Refused),
    };
    if way == Way::ToConnect && status[0] == b'2' {
        return Ok((status.to_vec(), old, None));
    }
    let body = match measured(fields, old)? {
        Some(_) if status[0] == b'1' || &status == b"204" => return Err(Stop::Refused),
        _ if status[0] == b'1' || &status == b"204" || &status == b"304" => None,
        _ if way == Way::ToHead => None,
        None if all(fields, "content-length").is_empty() => Some(Body::Rest),
        body => body,
    };
    Ok((status.to_vec(), old, body))
}

fn old(version: &[u8]) -> Result<bool, Stop> {
    match version {
        b"HTTP/1.0" => Ok(true),
        b"HTTP/1.1" => Ok(false),
        _ => Err(Stop::Refused),
    }
}

/// `None` also for a length of nothing.
fn measured(fields: &[Field<'_>], old: bool) -> Result<Option<Body>, Stop> {
    match (&all(fields, "transfer-encoding")[..], &all(fields, "content-length")[..]) {
        ([], []) => Ok(None),
        ([coding], []) if !old && same(coding, "chunked") => Ok(Some(Body::Chunks)),
        ([], [length]) => {
            let mut sum = 0u64;
            for byte in *length {
                let digit = (*byte as char).to_digit(10).ok_or(Stop::Refused)?;
                let next = sum.checked_mul(10).and_then(|sum| sum.checked_add(digit.into()));
                sum = next.ok_or(Stop::Refused)?;
            }
            match (length.is_empty(), sum) {
                (true, _) => Err(Stop::Refused),
                (false, 0) => Ok(None),
                (false, sum) => Ok(Some(Body::Length(sum))),
            }
        }
        _ => Err(Stop::Refused),
    }
}

/// Reads a chunked body; returns what is behind it.
fn chunks<'a>(mut rest: &'a [u8], to: &mut Message) -> Result<&'a [u8], Stop> {
    loop {
        let line = line(rest)?;
        let digits = line.content.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.content.split_at(digits);
        let sound = digits <= 15
            && (digits > 0 || extension.is_empty() && !line.ended)
            && (extension.is_empty() || extension[0] == b';')
            && extension.len() <= EXTENSION_MAX
            && extension.iter().all(|byte| is_text(*byte));
        if !sound {
            return Err(Stop::Refused);
        }
        rest = line.behind.ok_or(Stop::Out)?;
        let size = size.iter().fold(0, |sum, digit| {
            sum * 16 + (*digit as char).to_digit(16).expect("a digit") as usize
        });
        if size == 0 {
            return trailers(rest, to);
        }
        to.body.extend(&rest[..size.min(rest.len())]);
        rest = rest.get(size..).ok_or(Stop::Out)?;
        rest = match rest {
            [b'\r', b'\n', behind @ ..] => behind,
            [] | [b'\r'] => return Err(Stop::Out),
            _ => return Err(Stop::Refused),
        };
    }
}

fn trailers<'a>(mut rest: &'a [u8], to: &mut Message) -> Result<&'a [u8], Stop> {
    let (mut total, mut trailer) = (0, Vec::new());
    loop {
        let line = line(rest)?;
        if line.content.is_empty() {
            let behind = line.behind.ok_or(Stop::Out)?;
            to.trailer = trailer;
            return Ok(behind);
        }
        total += line.content.len();
        let name = line.content.split(|byte| *byte == b':').next().unwrap_or_default();
        let named = name.len() < line.content.len();
        let banned = ["content-length", "transfer-encoding", "host", "connection"];
        let sound = total <= TRAILER_MAX
            && is_token(name)
            && (named || !line.ended)
            && !(named && banned.iter().any(|banned| same(name, banned)))
            && line.content.iter().all(|byte| is_text(*byte));
        if !sound {
            return Err(Stop::Refused);
        }
        rest = line.behind.ok_or(Stop::Out)?;
        trailer.extend([line.content, b"\r\n"].concat());
    }
}

/// A line, of which perhaps only the beginning has come.
struct Line<'a> {
    content: &'a [u8],
    /// Its CR has come.
    ended: bool,
    /// What is behind its LF, if that has come.
    behind: Option<&'a [u8]>,
}

fn line(rest: &[u8]) -> Result<Line<'_>, Stop> {
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(rest.len());
    let (content, end) = rest.split_at(end);
    match end {
        [] => Ok(Line { content, ended: false, behind: None }),
        [b'\r'] => Ok(Line { content, ended: true, behind: None }),
        [b'\r', b'\n', behind @ ..] => Ok(Line { content, ended: true, behind: Some(behind) }),
        _ => Err(Stop::Refused),
    }
}

fn is_target(method: &[u8], target: &[u8]) -> bool {
    let printable = target.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
    let (true, Ok(text)) = (printable, core::str::from_utf8(target)) else { return false };
    if method == b"CONNECT" {
        let port = text.rsplit(':').next().unwrap_or_default();
        return text.contains(':')
            && !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && is_authority(target);
    }
    if text.starts_with('/') || method == b"OPTIONS" && text == "*" {
        return true;
    }
    let Some(at) = text.find("://") else { return false };
    let (scheme, rest) = (&text.as_bytes()[..at], &text[at + 3..]);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let host = authority.rfind('@').map_or(authority, |at| &authority[at + 1..]);
    let user = authority.rfind('@').map_or("", |at| &authority[..at]);
    scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        && user.bytes().all(|byte| byte == b':' || is_of_name(byte))
        && !host.is_empty()
        && is_authority(host.as_bytes())
}

/// `name`, `name:1`, `[literal]`, `[literal]:1`, the name perhaps empty, the number, too.
fn is_authority(text: &[u8]) -> bool {
    let colon = text.iter().rposition(|byte| *byte == b':');
    let is_port = |at: usize| text[at + 1..].iter().all(u8::is_ascii_digit);
    let is_literal = |host: &[u8]| {
        host.len() > 2
            && host.starts_with(b"[")
            && host.ends_with(b"]")
            && host[1..host.len() - 1].iter().all(|byte| *byte == b':' || is_of_name(*byte))
    };
    let is_host = |host: &[u8]| host.iter().all(|byte| is_of_name(*byte)) || is_literal(host);
    is_host(text) || colon.is_some_and(|at| is_port(at) && is_host(&text[..at]))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

fn is_token(name: &[u8]) -> bool {
    let sound = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    !name.is_empty() && name.iter().all(sound)
}

const fn is_text(byte: u8) -> bool {
    byte == b'\t' || byte >= b' ' && byte != 0x7f
}

fn all<'a>(fields: &[Field<'a>], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| same(field.0, name)).map(|field| field.1).collect()
}

/// Does Connection list it?
fn lists(fields: &[Field<'_>], option: &str) -> bool {
    let values = all(fields, "connection").join(&b","[..]);
    values.split(|byte| *byte == b',').any(|item| same(trim(item), option))
}

fn same(text: &[u8], other: &str) -> bool {
    text.to_ascii_lowercase() == other.as_bytes()
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
