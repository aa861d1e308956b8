//! A request's head, read once and for all: how its body is measured, and whether the connection goes on.
//! RFC 9112 §3 to §7, §9; RFC 9110 §7.2, §9.2, §10.1.1.

use super::authority::{is_authority, is_target};
use super::fields::{OPTIONS_MAX, REQUEST_FIELDS, field_refusal};
use super::scan::has_lone_lf;
use super::{Asked, Fields, Framing, HEAD_MAX, Persist, Refusal};
use core::mem::MaybeUninit;

/// What a request's head says.
#[derive(Clone, Debug)]
pub struct RequestHead<'a> {
    /// The method, in the letters that it came in.
    pub method: &'a str,
    /// The request target, as it came.
    pub target: &'a str,
    /// The version is HTTP/1.`minor`: 0 or 1.
    pub minor: u8,
    /// The header fields.
    pub fields: Fields<'a>,
    /// The body that follows, if any.
    pub body: Option<Framing>,
    /// What becomes of the connection behind the reply, if it is for the client to say.
    pub persist: Persist,
    /// The client waits for 100 (Continue) before it sends its body.
    pub proceed: bool,
    /// After the reply the connection may speak another protocol: Upgrade, which Connection lists, or CONNECT.
    pub upgrade: bool,
}

impl<'a> RequestHead<'a> {
    /// Reads a complete head, as [`super::scan()`] finds it.
    ///
    /// # Errors
    /// Where it is none, or may be read in two ways.
    pub fn parse(head: &'a [u8]) -> Result<Self, Refusal> {
        if has_lone_lf(head) {
            return Err(Refusal::BareLf);
        }
        // The parser passes over empty lines.
        if head.starts_with(b"\r") {
            return Err(Refusal::RequestLine);
        }
        let read = Self::parse_leniently(head)?;
        read.check()?;
        Ok(read)
    }

    /// The same as `files` did before log version 4: two nodes answer alike, and one of them may be of
    /// that version.
    pub(crate) fn parse_leniently(head: &'a [u8]) -> Result<Self, Refusal> {
        let mut fields = [const { MaybeUninit::uninit() }; REQUEST_FIELDS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut fields) {
            _ if head.len() > HEAD_MAX => return Err(Refusal::HeadTooLong),
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Err(Refusal::RequestLine),
            Err(error) => return Err(refusal(error, head)),
        }
        let fields = Fields::of(request.headers);
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        let minor = request.version.unwrap_or(0);
        let body = fields.measure(minor)?.filter(|body| *body != Framing::Length(0));
        check_host(&fields, minor)?;
        let proceed = expects_continue(&fields, minor)? && body.is_some();
        let persist = fields.persist(minor);
        let upgrade = method == "CONNECT"
            || minor > 0 && fields.has("upgrade") && fields.lists("connection", "upgrade");
        Ok(Self { method, target, minor, fields, body, persist, proceed, upgrade })
    }

    /// What the field values and names alone do not show.
    fn check(&self) -> Result<(), Refusal> {
        let Self { method, target, fields, body, .. } = self;
        if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(Refusal::Method);
        }
        if !is_target(method, target) {
            return Err(Refusal::Target);
        }
        let (mut types, mut options) = (0, 0);
        for (name, value) in fields.iter() {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            // The lengths of names are compared first: most fields are none of these.
            if is("host") && !is_authority(value) {
                return Err(Refusal::BadHost);
            } else if is("content_length") || is("transfer_encoding") {
                return Err(Refusal::Disguised);
            }
            types += usize::from(is("content-type"));
            options += if is("connection") { value.len() } else { 0 };
        }
        if types > 1 {
            return Err(Refusal::TwoTypes);
        }
        if options > OPTIONS_MAX {
            return Err(Refusal::Options);
        }
        // What follows its head belongs to the tunnel, RFC 9110 §9.3.6.
        if *method == "CONNECT" && body.is_some() {
            return Err(Refusal::NeedlessBody);
        }
        Ok(())
    }

    /// What of it the framing of its reply depends on.
    #[must_use]
    pub fn asked(&self) -> Asked {
        match self.method {
            "HEAD" => Asked::Head,
            "CONNECT" => Asked::Connect,
            _ => Asked::Other,
        }
    }

    /// Does the client ask for nothing to change, RFC 9110 §9.2.1?
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }

    /// Is it the same to ask once or several times, RFC 9110 §9.2.2?
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        self.is_safe() || matches!(self.method, "PUT" | "DELETE")
    }
}

fn refusal(error: httparse::Error, head: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyFields,
        httparse::Error::Version => Refusal::Version,
        httparse::Error::HeaderName => field_refusal(head),
        httparse::Error::HeaderValue => Refusal::Control,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => {
            Refusal::RequestLine
        }
    }
}

/// Exactly one sound Host in HTTP/1.1, at most one in 1.0 (RFC 9112 §3.2). Which one is the same
/// to us; a request that names two may mean different things to different readers.
fn check_host(fields: &Fields<'_>, minor: u8) -> Result<(), Refusal> {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    match fields.one("host") {
        Some(host) if host.iter().all(sound) => Ok(()),
        Some(_) => Err(Refusal::BadHost),
        None if fields.has("host") => Err(Refusal::TwoHosts),
        None if minor == 0 => Ok(()),
        None => Err(Refusal::NoHost),
    }
}

/// RFC 9110 §10.1.1: an HTTP/1.0 client's expectation is ignored, an unknown one is refused.
fn expects_continue(fields: &Fields<'_>, minor: u8) -> Result<bool, Refusal> {
    if minor == 0 || !fields.has("expect") {
        return Ok(false);
    }
    match fields.one("expect") {
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Refusal::Expectation),
    }
}
