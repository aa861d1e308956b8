//! A request's head, read once and for all: what it asks for, how its body is measured, and
//! whether the connection goes on. RFC 9112 §3 to §7, §9; RFC 9110 §7.2, §10.1.1.

use super::framing::Framing;
use super::status::Status;
use super::target::Target;
use arrayvec::ArrayVec;

/// Header fields that are taken; more are answered with 431.
const FIELDS_MAX: usize = 64;

/// Everything that a head asks.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    /// What is to be served, or what the request is refused with.
    pub(crate) want: Result<Target, Status>,
    /// HEAD: the reply has no body.
    pub(crate) head_only: bool,
    /// What becomes of the connection.
    pub(crate) persist: Persist,
    /// The body that follows, if any. Where it cannot be measured, `persist` is `Close`.
    pub(crate) body: Option<Framing>,
    /// The client waits for 100 (Continue) before it sends its body.
    pub(crate) proceed: bool,
    /// Header fields, for the conditional ones.
    pub(crate) fields: Fields<'a>,
}

/// What becomes of a connection after a reply, RFC 9112 §9.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Persist {
    /// It ends.
    Close,
    /// It goes on, as HTTP/1.1 has it.
    Keep,
    /// It goes on because an HTTP/1.0 client asked for it, and has to be told.
    KeepAlive,
}

/// Header fields in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields<'a>(ArrayVec<httparse::Header<'a>, FIELDS_MAX>);

impl<'a> Fields<'a> {
    /// The values of every field line named `name`, white space around them removed.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    }

    /// The value of the field named `name` if there is exactly one.
    pub(crate) fn one(&self, name: &'static str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The one value as text.
    pub(crate) fn text(&self, name: &'static str) -> Option<&'a str> {
        self.one(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Is `token` among the comma-separated values of `name`?
    fn lists(&self, name: &'static str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    fn has(&self, name: &'static str) -> bool {
        self.all(name).next().is_some()
    }
}

impl<'a> Asked<'a> {
    /// Refuses something whose end cannot be known: the connection closes.
    pub(crate) fn refused(status: Status) -> Self {
        Self {
            want: Err(status),
            head_only: false,
            persist: Persist::Close,
            body: None,
            proceed: false,
            fields: Fields::default(),
        }
    }

    /// Reads a complete head.
    pub(crate) fn parse(head: &'a [u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(length)) if length == head.len() => {}
            Ok(_) => return Self::refused(Status::BadRequest),
            Err(httparse::Error::TooManyHeaders) => return Self::refused(Status::HeadTooLarge),
            Err(httparse::Error::Version) => return Self::refused(Status::VersionNotSupported),
            Err(_) => return Self::refused(Status::BadRequest),
        }
        let fields = Fields(request.headers.iter().copied().collect());
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        let minor = request.version.unwrap_or(0);
        Self::assess(method, target, minor, fields)
            .unwrap_or_else(|status| Self { head_only: method == "HEAD", ..Self::refused(status) })
    }

    /// `Err` where the connection has to close, because its framing or meaning is in doubt.
    fn assess(method: &str, target: &str, minor: u8, fields: Fields<'a>) -> Result<Self, Status> {
        let body = framing(&fields, minor)?;
        check_host(&fields, minor)?;
        let proceed = expects_continue(&fields, minor)? && body.is_some();
        let mut persist = persist(&fields, minor);
        let (want, proceed) = match method {
            "GET" | "HEAD" => (Ok(Target::parse(target)?), proceed),
            _ => {
                // The client may or may not send the body after this final answer.
                persist = if proceed { Persist::Close } else { persist };
                (Err(Status::MethodNotAllowed), false)
            }
        };
        Ok(Self { want, head_only: method == "HEAD", persist, body, proceed, fields })
    }
}

/// RFC 9112 §6.3, without its leniencies.
fn framing(fields: &Fields<'_>, minor: u8) -> Result<Option<Framing>, Status> {
    if fields.has("transfer-encoding") {
        if minor == 0 || fields.has("content-length") {
            return Err(Status::BadRequest);
        }
        return match fields.one("transfer-encoding") {
            Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(Framing::CHUNKED)),
            _ => Err(Status::NotImplemented),
        };
    }
    if !fields.has("content-length") {
        return Ok(None);
    }
    let digits = fields.text("content-length").filter(|text| is_number(text));
    match digits.and_then(|text| text.parse().ok()) {
        Some(0) => Ok(None),
        Some(length) => Ok(Some(Framing::Length(length))),
        None => Err(Status::BadRequest),
    }
}

/// 1*DIGIT: no sign, no list.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Exactly one sound Host in HTTP/1.1, at most one in 1.0 (RFC 9112 §3.2). Which one is the same
/// to us; a request that names two may mean different things to different readers.
fn check_host(fields: &Fields<'_>, minor: u8) -> Result<(), Status> {
    let sound = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    match fields.one("host") {
        Some(host) if host.iter().all(sound) => Ok(()),
        None if minor == 0 && !fields.has("host") => Ok(()),
        _ => Err(Status::BadRequest),
    }
}

/// RFC 9110 §10.1.1: an HTTP/1.0 client's expectation is ignored, an unknown one is refused.
fn expects_continue(fields: &Fields<'_>, minor: u8) -> Result<bool, Status> {
    if minor == 0 || !fields.has("expect") {
        return Ok(false);
    }
    match fields.one("expect") {
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Status::ExpectationFailed),
    }
}

fn persist(fields: &Fields<'_>, minor: u8) -> Persist {
    if fields.lists("connection", "close") {
        Persist::Close
    } else if minor > 0 {
        Persist::Keep
    } else if fields.lists("connection", "keep-alive") {
        Persist::KeepAlive
    } else {
        Persist::Close
    }
}
