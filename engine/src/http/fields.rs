//! Header fields, and what those say that head every message: how the body is measured, whether the
//! connection goes on, what is of one hop only.

use super::{Framing, Refusal};
use arrayvec::ArrayVec;

/// Fields that a request may have.
pub(super) const REQUEST_FIELDS: usize = 64;
/// Fields that a reply may have.
pub(super) const REPLY_FIELDS: usize = 128;

/// The longest that all Connection fields may be together: each field of a head is looked up in them.
pub(super) const OPTIONS_MAX: usize = 512;

/// As many fields as nearly all heads have.
const USUAL: usize = 32;

/// Header fields in their order.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a>(List<'a>);

/// Most are found without memory of their own, and passed on without a long copy.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and costs no allocation"
)]
enum List<'a> {
    Few(ArrayVec<httparse::Header<'a>, USUAL>),
    Many(Vec<httparse::Header<'a>>),
}

impl Default for List<'_> {
    fn default() -> Self {
        Self::Few(ArrayVec::new())
    }
}

/// What becomes of a connection behind a message, RFC 9112 §9.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Persist {
    /// It ends.
    Close,
    /// It goes on, as HTTP/1.1 has it.
    Keep,
    /// It goes on because an HTTP/1.0 client asked for it, and has to be told; or because an HTTP/1.0
    /// server has told.
    KeepAlive,
}

impl<'a> Fields<'a> {
    pub(super) fn of(parsed: &[httparse::Header<'a>]) -> Self {
        Self(match parsed.len() {
            0..=USUAL => List::Few(parsed.iter().copied().collect()),
            _ => List::Many(parsed.to_vec()),
        })
    }

    fn list(&self) -> &[httparse::Header<'a>] {
        match &self.0 {
            List::Few(fields) => fields,
            List::Many(fields) => fields,
        }
    }

    /// Every field line, its name as it was written, white space around its value removed.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.list().iter().map(|field| (field.name, field.value.trim_ascii()))
    }

    /// The values of every field line named `name`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.list()
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value.trim_ascii())
    }

    /// The value of the field named `name` if there is exactly one.
    #[must_use]
    pub fn one(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The one value as text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.one(name).and_then(|value| core::str::from_utf8(value).ok())
    }

    /// Is `token` among the comma-separated values of `name`?
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Is there a field named `name`?
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// How the body is measured where fields alone say so, RFC 9112 §6.3 without its leniencies. `None`: no
    /// field says anything.
    pub(super) fn measure(&self, minor: u8) -> Result<Option<Framing>, Refusal> {
        if self.has("transfer-encoding") {
            if minor == 0 {
                return Err(Refusal::OldCoding);
            }
            if self.has("content-length") {
                return Err(Refusal::TwoMeasures);
            }
            return match self.one("transfer-encoding") {
                Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => {
                    Ok(Some(Framing::CHUNKED))
                }
                _ => Err(Refusal::Coding),
            };
        }
        if !self.has("content-length") {
            return Ok(None);
        }
        let digits = self.text("content-length").filter(|text| is_number(text));
        let length = digits.and_then(|text| text.parse().ok());
        length.map(|length| Some(Framing::Length(length))).ok_or(Refusal::Length)
    }

    /// Is there more in Connection than it could need?
    pub(super) fn check_options(&self) -> Result<(), Refusal> {
        let options: usize = self.all("connection").map(<[u8]>::len).sum();
        if options > OPTIONS_MAX { Err(Refusal::Options) } else { Ok(()) }
    }

    pub(super) fn persist(&self, minor: u8) -> Persist {
        if self.lists("connection", "close") {
            Persist::Close
        } else if minor > 0 {
            Persist::Keep
        } else if self.lists("connection", "keep-alive") {
            Persist::KeepAlive
        } else {
            Persist::Close
        }
    }
}

/// 1*DIGIT: no sign, no list.
pub(crate) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Is the field named `name` of one hop only, RFC 9110 §7.6.1: Connection, what that lists, and what some
/// do not list though they should? Upgrade is one: who passes an upgrade on says so anew.
///
/// What measures and routes a message is never one, whatever Connection says: left out, the message would be
/// another.
#[must_use]
pub fn is_hop_by_hop(fields: &Fields<'_>, name: &str) -> bool {
    const ALWAYS: [&str; 5] = ["connection", "keep-alive", "proxy-connection", "te", "upgrade"];
    const NEVER: [&str; 3] = ["content-length", "transfer-encoding", "host"];
    let is_in = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    !is_in(&NEVER) && (is_in(&ALWAYS) || fields.lists("connection", name))
}

/// Why a field section cannot be read, which the parser says only in general.
pub(super) fn field_refusal(head: &[u8]) -> Refusal {
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        match &line[..colon] {
            [b' ' | b'\t', ..] => return Refusal::Fold,
            [.., b' ' | b'\t'] if colon < line.len() => return Refusal::SpaceBeforeColon,
            name if !line.is_empty() && (colon == line.len() || !is_token(name)) => {
                return Refusal::FieldName;
            }
            _ => {}
        }
    }
    Refusal::FieldName
}

/// RFC 9110 §5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().copied().all(is_token_byte)
}

/// What a token is made of.
pub(super) const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
