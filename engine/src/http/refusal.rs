//! Why a message is refused.

use core::fmt;

/// Why a message is refused. Each can have a counter, found by [`Refusal::index`].
///
/// No byte behind the place where it was found can be understood: the connection closes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// A head longer than [`super::HEAD_MAX`].
    HeadTooLong,
    /// More fields than are taken.
    TooManyFields,
    /// A control byte: NUL, DEL, what TLS begins with.
    Control,
    /// A CR without its LF.
    BareCr,
    /// An LF without its CR. One server takes it for a line's end, and another does not.
    BareLf,
    /// No request line.
    RequestLine,
    /// No status line.
    StatusLine,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
    /// A method with small letters: a server that takes `head` for HEAD sends no body.
    Method,
    /// A target of no form that the method has, RFC 9112 §3.2.
    Target,
    /// A field line that begins with white space, and continues the one before (obs-fold).
    Fold,
    /// White space between a field's name and its colon.
    SpaceBeforeColon,
    /// A field line without a name, or with one that is no token.
    FieldName,
    /// An underscore for a hyphen in Content-Length or Transfer-Encoding: some servers do not see the
    /// difference.
    Disguised,
    /// Several Content-Type: which one a server believes is anybody's guess.
    TwoTypes,
    /// HTTP/1.1 without Host.
    NoHost,
    /// Several Host.
    TwoHosts,
    /// A Host that is none.
    BadHost,
    /// Longer than what a Connection field needs.
    Options,
    /// Both Content-Length and Transfer-Encoding.
    TwoMeasures,
    /// A Content-Length that is not one number: a sign, a list, a second one.
    Length,
    /// Transfer-Encoding in HTTP/1.0.
    OldCoding,
    /// A Transfer-Encoding other than `chunked`.
    Coding,
    /// A body where there cannot be any: in CONNECT, 1xx, 204.
    NeedlessBody,
    /// An Expect other than `100-continue`.
    Expectation,
    /// A chunk's size that is not a hexadecimal number of reasonable length.
    ChunkSize,
    /// A chunk's extension that is too long.
    ChunkExtension,
    /// A chunk that does not end where its size says.
    ChunkEnd,
    /// A trailer section that is too long.
    TrailerTooLong,
    /// A field in the trailer section that would mean something else in the head: one that measures or
    /// routes the message.
    TrailerField,
}

impl Refusal {
    /// Every reason, in the order of [`Refusal::index`].
    pub const ALL: [Self; 30] = [
        Self::HeadTooLong,
        Self::TooManyFields,
        Self::Control,
        Self::BareCr,
        Self::BareLf,
        Self::RequestLine,
        Self::StatusLine,
        Self::Version,
        Self::Method,
        Self::Target,
        Self::Fold,
        Self::SpaceBeforeColon,
        Self::FieldName,
        Self::Disguised,
        Self::TwoTypes,
        Self::NoHost,
        Self::TwoHosts,
        Self::BadHost,
        Self::Options,
        Self::TwoMeasures,
        Self::Length,
        Self::OldCoding,
        Self::Coding,
        Self::NeedlessBody,
        Self::Expectation,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkEnd,
        Self::TrailerTooLong,
        Self::TrailerField,
    ];

    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// A number below [`Refusal::COUNT`], for an array of counters.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name in snake case, for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeadTooLong => "head_too_long",
            Self::TooManyFields => "too_many_fields",
            Self::Control => "control",
            Self::BareCr => "bare_cr",
            Self::BareLf => "bare_lf",
            Self::RequestLine => "request_line",
            Self::StatusLine => "status_line",
            Self::Version => "version",
            Self::Method => "method",
            Self::Target => "target",
            Self::Fold => "fold",
            Self::SpaceBeforeColon => "space_before_colon",
            Self::FieldName => "field_name",
            Self::Disguised => "disguised",
            Self::TwoTypes => "two_types",
            Self::NoHost => "no_host",
            Self::TwoHosts => "two_hosts",
            Self::BadHost => "bad_host",
            Self::Options => "options",
            Self::TwoMeasures => "two_measures",
            Self::Length => "length",
            Self::OldCoding => "old_coding",
            Self::Coding => "coding",
            Self::NeedlessBody => "needless_body",
            Self::Expectation => "expectation",
            Self::ChunkSize => "chunk_size",
            Self::ChunkExtension => "chunk_extension",
            Self::ChunkEnd => "chunk_end",
            Self::TrailerTooLong => "trailer_too_long",
            Self::TrailerField => "trailer_field",
        }
    }

    /// The status of the answer to a refused request. A refused reply is a 502, whatever the reason.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::HeadTooLong | Self::TooManyFields | Self::Options => 431,
            Self::Version => 505,
            Self::Coding => 501,
            Self::Expectation => 417,
            Self::Control
            | Self::BareCr
            | Self::BareLf
            | Self::RequestLine
            | Self::StatusLine
            | Self::Method
            | Self::Target
            | Self::Fold
            | Self::SpaceBeforeColon
            | Self::FieldName
            | Self::Disguised
            | Self::TwoTypes
            | Self::NoHost
            | Self::TwoHosts
            | Self::BadHost
            | Self::TwoMeasures
            | Self::Length
            | Self::OldCoding
            | Self::NeedlessBody
            | Self::ChunkSize
            | Self::ChunkExtension
            | Self::ChunkEnd
            | Self::TrailerTooLong
            | Self::TrailerField => 400,
        }
    }

    /// Is it of what a head looks like, and not of what it says? Then there is no method, either.
    pub(crate) const fn is_of_syntax(self) -> bool {
        matches!(
            self,
            Self::HeadTooLong
                | Self::TooManyFields
                | Self::Control
                | Self::BareCr
                | Self::BareLf
                | Self::RequestLine
                | Self::StatusLine
                | Self::Version
                | Self::Fold
                | Self::SpaceBeforeColon
                | Self::FieldName
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeadTooLong => "a head that is too long",
            Self::TooManyFields => "too many fields",
            Self::Control => "a control character",
            Self::BareCr => "a CR without an LF",
            Self::BareLf => "an LF without a CR",
            Self::RequestLine => "no request line",
            Self::StatusLine => "no status line",
            Self::Version => "another version than HTTP/1.0 and HTTP/1.1",
            Self::Method => "a method with small letters",
            Self::Target => "a target that the method does not have",
            Self::Fold => "a field that goes on in the next line",
            Self::SpaceBeforeColon => "white space before a field's colon",
            Self::FieldName => "a field without a proper name",
            Self::Disguised => "a field that some servers take for one that measures the body",
            Self::TwoTypes => "more than one Content-Type",
            Self::NoHost => "no Host",
            Self::TwoHosts => "more than one Host",
            Self::BadHost => "a Host that is none",
            Self::Options => "a Connection field that is too long",
            Self::TwoMeasures => "both Content-Length and Transfer-Encoding",
            Self::Length => "a Content-Length that is not one number",
            Self::OldCoding => "Transfer-Encoding in HTTP/1.0",
            Self::Coding => "a Transfer-Encoding other than chunked",
            Self::NeedlessBody => "a body where there is none",
            Self::Expectation => "an Expect other than 100-continue",
            Self::ChunkSize => "a chunk without a proper size",
            Self::ChunkExtension => "a chunk's extension that is too long",
            Self::ChunkEnd => "a chunk that does not end where it says",
            Self::TrailerTooLong => "a trailer section that is too long",
            Self::TrailerField => "a field that does not belong in a trailer section",
        })
    }
}

impl core::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_reason_has_its_own_index_name_and_words() {
        let (mut names, mut words) = (BTreeSet::new(), BTreeSet::new());
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(names.insert(reason.name()) && words.insert(reason.to_string()), "{reason}");
            assert!((400..=505).contains(&reason.status()), "{reason}");
        }
        assert_eq!(Refusal::TrailerField.index() + 1, Refusal::COUNT, "the last one");
    }
}
