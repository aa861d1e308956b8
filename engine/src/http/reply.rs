//! A reply's head: what it answers, how its body is measured, and whether the connection goes on.
//! RFC 9112 §4, §6.3, §9; RFC 9110 §15.

use super::fields::{REPLY_FIELDS, field_refusal};
use super::scan::has_lone_lf;
use super::{Fields, Framing, HEAD_MAX, Persist, Refusal};
use core::mem::MaybeUninit;

/// What of a request the framing of its reply depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// HEAD: there is no body, whatever the fields say.
    Head,
    /// CONNECT: behind a 2xx there is a tunnel.
    Connect,
    /// Any other method.
    Other,
}

/// What a reply's head says.
#[derive(Clone, Debug)]
pub struct ReplyHead<'a> {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The version is HTTP/1.`minor`: 0 or 1.
    pub minor: u8,
    /// The header fields.
    pub fields: Fields<'a>,
    /// The body that follows, if any; [`Framing::UntilEnd`] where nothing but the connection's end measures
    /// it.
    pub body: Option<Framing>,
    /// What becomes of the connection behind the reply.
    pub persist: Persist,
}

impl<'a> ReplyHead<'a> {
    /// Reads a complete head, as [`super::scan()`] finds it, of a reply to what was `asked`.
    ///
    /// # Errors
    /// Where it is none, or may be read in two ways.
    pub fn parse(head: &'a [u8], asked: Asked) -> Result<Self, Refusal> {
        if head.len() > HEAD_MAX {
            return Err(Refusal::HeadTooLong);
        }
        // The parser passes over empty lines, which only a request may have in front of it.
        if !head.starts_with(b"HTTP/") {
            return Err(Refusal::StatusLine);
        }
        if has_lone_lf(head) {
            return Err(Refusal::BareLf);
        }
        let mut fields = [const { MaybeUninit::uninit() }; REPLY_FIELDS];
        let mut reply = httparse::Response::new(&mut []);
        let parser = httparse::ParserConfig::default();
        match parser.parse_response_with_uninit_headers(&mut reply, head, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Refusal::StatusLine),
            Err(error) => return Err(refusal(error, head)),
        }
        let fields = Fields::of(reply.headers);
        fields.check_options()?;
        let status = reply.code.filter(|code| *code >= 100).ok_or(Refusal::StatusLine)?;
        let minor = reply.version.unwrap_or(0);
        let body = body(status, minor, &fields, asked)?;
        let persist = match body {
            Some(Framing::UntilEnd) => Persist::Close,
            _ => fields.persist(minor),
        };
        Ok(Self { status, minor, fields, body, persist })
    }

    /// Does another reply to the same request follow: 1xx, but not 101, which is the last one in HTTP/1.1?
    #[must_use]
    pub const fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// RFC 9112 §6.3, in its order.
fn body(
    status: u16,
    minor: u8,
    fields: &Fields<'_>,
    asked: Asked,
) -> Result<Option<Framing>, Refusal> {
    // What a tunnel's reply says of a body is to be ignored (§6.3 rule 2, RFC 9110 §9.3.6).
    if asked == Asked::Connect && (200..300).contains(&status) {
        return Ok(None);
    }
    let measure = fields.measure(minor)?;
    match (status, measure) {
        // A server must not send either with them; a length of nothing does no harm, and is common.
        (100..=199 | 204, None | Some(Framing::Length(0))) => Ok(None),
        (100..=199 | 204, Some(_)) => Err(Refusal::NeedlessBody),
        (304, _) => Ok(None),
        _ if asked == Asked::Head => Ok(None),
        (_, Some(Framing::Length(0))) => Ok(None),
        (_, Some(measure)) => Ok(Some(measure)),
        (_, None) => Ok(Some(Framing::UntilEnd)),
    }
}

fn refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::Version,
        httparse::Error::HeaderName => field_refusal(head),
        httparse::Error::HeaderValue => Refusal::Control,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            Refusal::StatusLine
        }
    }
}
