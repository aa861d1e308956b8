//! What the pair says to a client by itself, where no server's reply can be passed on.

use super::Outcome;
use crate::http::{Asked, Refusal};

/// Why a client's request goes to no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Objection {
    /// It is none, or its end cannot be known.
    Malformed(Refusal),
    /// It is longer than is kept, and longer ones are refused.
    TooLong,
    /// The rest of it has not come.
    Late,
}

/// Why a client gets no server's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No server could be reached.
    NoServer,
    /// A server that may have seen the request is gone, and the request may not be sent to another.
    Unknown,
    /// A server has the request, and does not answer.
    TimedOut,
    /// A server's reply is none, or its end cannot be known.
    Malformed(Refusal),
    /// A server's reply is what nobody asked for.
    Unasked,
    /// A server's reply is another than the one that was begun.
    Differs,
    /// A server's reply is longer than is gathered, and longer ones are refused.
    TooLong,
}

impl Trouble {
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::TimedOut => Outcome::TimedOut,
            Self::NoServer
            | Self::Unknown
            | Self::Malformed(_)
            | Self::Unasked
            | Self::Differs
            | Self::TooLong => Outcome::Failed,
        }
    }

    fn text(self) -> String {
        match self {
            Self::NoServer => "No server could be reached. The request was not carried out.".into(),
            Self::Unknown => {
                "The server failed while it had the request. Whether the request was carried \
                              out is not known."
                    .into()
            }
            Self::TimedOut => {
                "The server has not answered in time. Whether the request was carried out is \
                               not known."
                    .into()
            }
            Self::Malformed(refusal) => format!("The server's reply is malformed: {refusal}."),
            Self::Unasked => "The server's reply is none to the request.".into(),
            Self::Differs => "The servers' replies differ.".into(),
            Self::TooLong => "The server's reply is longer than is taken.".into(),
        }
    }
}

/// The value of `Idempotency-Key` for the request `number` of the session that `key` names.
pub(super) fn key(key: &[u8; 16], number: u64) -> String {
    use core::hash::Hasher;
    let half = |half: u8| {
        let mut hasher = siphasher::sip::SipHasher24::new_with_key(key);
        hasher.write_u8(half);
        hasher.write_u64(number);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

/// The reply to a request that goes to no server, behind which the connection ends.
pub(super) fn objection(why: Objection) -> Vec<u8> {
    let (status, text) = match why {
        Objection::Malformed(refusal) => (refusal.status(), format!("Bad request: {refusal}.")),
        Objection::TooLong => (413, "The request is longer than is taken.".into()),
        Objection::Late => (408, "The rest of the request has not come.".into()),
    };
    compose(status, &text, true, false)
}

/// The reply to a request that no server has answered.
pub(super) fn reply(trouble: Trouble, asked: Asked, goes_on: bool) -> Vec<u8> {
    let status = if trouble == Trouble::TimedOut { 504 } else { 502 };
    compose(status, &trouble.text(), asked != Asked::Head, goes_on)
}

fn compose(status: u16, text: &str, body: bool, goes_on: bool) -> Vec<u8> {
    let reason = reason(status);
    let connection = if goes_on { "" } else { "Connection: close\r\n" };
    // The line's end counts.
    let length = text.len() + 1;
    let mut reply = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{connection}\r\n"
    );
    if body {
        reply.push_str(text);
        reply.push('\n');
    }
    reply.into_bytes()
}

/// RFC 9110 §15.
const fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Refused",
    }
}
