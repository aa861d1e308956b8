//! Conditional requests, RFC 9110 §13, and ranges, §14.
//!
//! A file's validators are functions of its pin: the entity tag is made of the content's hash,
//! Last-Modified of the time in seconds. Two nodes with the same pin therefore judge every
//! condition alike, and two copies of one content have one tag, whenever they were written.
//!
//! Where the hash is not known yet, the tag is made of time and length, and weak: two nodes may
//! have other bytes of the same time, and a client must not join a part of one to a part of the
//! other (If-Range takes strong tags alone, §13.1.5).

use crate::http::{Fields, is_number};
use crate::service::pin::Edition;
use crate::service::store::Facts;
use arrayvec::ArrayString;
use core::fmt::Write;
use core::ops::Range;
use core::time::Duration;
use httpdate::HttpDate;
use std::time::{SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, the end of HTTP's dates.
const DATE_MAX: u64 = 253_402_300_799;

/// The longest entity tag, in bytes: weak, of two numbers of 16 digits.
const ETAG_MAX: usize = 37;

/// Bytes of the hash in an entity tag.
const TAG_BYTES: usize = 16;

/// An HTTP date (RFC 9110 §5.6.7) of a time in unix seconds.
pub(crate) fn date(seconds: u64) -> HttpDate {
    (UNIX_EPOCH + Duration::from_secs(seconds.min(DATE_MAX))).into()
}

/// What a client can compare its copy by.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    /// With its quotes.
    pub(crate) etag: ArrayString<ETAG_MAX>,
    /// Unix seconds; never later than the reply's own Date (RFC 9110 §8.8.2.1).
    pub(crate) modified: u64,
    /// The reply's Date, unix seconds.
    wall: u64,
    edition: Edition,
}

/// What the preconditions decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Answer as if there were none.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Which part of the file is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// These bytes; not empty.
    Range(Range<u64>),
    /// None that exists.
    Unsatisfiable,
}

impl Validators {
    /// The validators of a file with `facts` in a reply dated `wall`.
    pub(crate) fn of(facts: &Facts, wall: u64, edition: Edition) -> Self {
        let modified = (facts.modified / 1_000_000_000).min(wall).min(DATE_MAX);
        Self { etag: tag(facts, edition), modified, wall, edition }
    }

    /// Preconditions in the order of RFC 9110 §13.2.2.
    pub(crate) fn judge(&self, fields: &Fields<'_>) -> Verdict {
        if let Some(listed) = self.is_listed(fields, "if-match", Compare::Strong) {
            if !listed {
                return Verdict::Failed;
            }
        } else if date_of(fields, "if-unmodified-since").is_some_and(|since| self.modified > since)
        {
            return Verdict::Failed;
        }
        match self.is_listed(fields, "if-none-match", Compare::Weak) {
            Some(true) => Verdict::NotModified,
            Some(false) => Verdict::Proceed,
            None => match date_of(fields, "if-modified-since") {
                Some(since) if self.modified <= since => Verdict::NotModified,
                _ => Verdict::Proceed,
            },
        }
    }

    /// Is our tag in the field's list (or the list `*`)? `None` without such a field.
    fn is_listed(&self, fields: &Fields<'_>, name: &'static str, how: Compare) -> Option<bool> {
        fields.all(name).map(|list| self.is_in(list, how)).reduce(|any, one| any | one)
    }

    /// `*`, or entity tags separated by commas; a tag may itself contain commas.
    fn is_in(&self, list: &[u8], how: Compare) -> bool {
        if list == b"*" {
            return true;
        }
        let mut rest = list;
        loop {
            while let [b',' | b' ' | b'\t', after @ ..] = rest {
                rest = after;
            }
            let (tag, weak) = match rest.strip_prefix(b"W/") {
                Some(tag) => (tag, true),
                None => (rest, false),
            };
            let Some(length) = tag_length(tag) else { return false };
            let (own, own_weak) = match self.etag.strip_prefix("W/") {
                Some(own) => (own, true),
                None => (self.etag.as_str(), false),
            };
            let same = &tag[..length] == own.as_bytes();
            if same && (how == Compare::Weak || !(weak || own_weak)) {
                return true;
            }
            rest = &tag[length..];
        }
    }

    /// The part that Range asks for, where If-Range lets it (RFC 9110 §13.1.5, §14.2). More than
    /// one range is answered with the whole, as §14.2 allows.
    pub(crate) fn part(&self, fields: &Fields<'_>, length: u64) -> Part {
        match fields.text("range") {
            Some(range) if self.allows_range(fields) => parse_range(range, length, self.edition),
            _ => Part::Whole,
        }
    }

    /// Strong comparison: an exact tag, or an exact date that is at least a second old.
    fn allows_range(&self, fields: &Fields<'_>) -> bool {
        let Some(validator) = fields.all("if-range").next() else { return true };
        let dated = || {
            let since = date_of(fields, "if-range");
            since == Some(self.modified) && self.modified < self.wall
        };
        let strong = !self.etag.starts_with("W/");
        (strong && validator == self.etag.as_bytes()) || dated()
    }
}

/// The entity tag of a file, with its quotes.
fn tag(facts: &Facts, edition: Edition) -> ArrayString<ETAG_MAX> {
    let mut tag = ArrayString::new();
    // Whatever is written fits.
    let _ = match (edition, &facts.hash) {
        (Edition::First, _) => write!(tag, "\"{:x}-{:x}\"", facts.modified, facts.length),
        (Edition::Second, None) => write!(tag, "W/\"{:x}-{:x}\"", facts.modified, facts.length),
        (Edition::Second, Some(hash)) => {
            tag.push('"');
            let digits = hash[..TAG_BYTES].iter().try_for_each(|byte| write!(tag, "{byte:02x}"));
            tag.push('"');
            digits
        }
    };
    tag
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strong,
    Weak,
}

/// The length of the quoted tag at the front, quotes included.
fn tag_length(tag: &[u8]) -> Option<usize> {
    let inner = tag.strip_prefix(b"\"")?;
    inner.iter().position(|byte| *byte == b'"').map(|close| close + 2)
}

/// The field's date in unix seconds; `None` when there is none or it is not a date, which a
/// recipient must ignore.
fn date_of(fields: &Fields<'_>, name: &'static str) -> Option<u64> {
    let time: SystemTime = httpdate::parse_http_date(fields.text(name)?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// One range of a file of `length` bytes; anything else counts as no Range at all. The last bytes
/// of an empty file are all of it (RFC 9110 §14.1.2), which no Content-Range can say.
fn parse_range(text: &str, length: u64, edition: Edition) -> Part {
    let Some((unit, range)) = text.split_once('=') else { return Part::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Part::Whole };
    if !unit.eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(1..)) if length == 0 && first.is_empty() && edition > Edition::First => {
            return Part::Whole;
        }
        (None, Some(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return Part::Whole,
    };
    if range.start < range.end { Part::Range(range) } else { Part::Unsatisfiable }
}

/// Digits as a number; one too large for 64 bits is as good as the largest.
fn number(text: &str) -> Option<u64> {
    is_number(text).then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_file_of_ten_bytes() {
        for (text, part) in [
            ("bytes=0-4", Part::Range(0..5)),
            ("BYTES=5-", Part::Range(5..10)),
            ("bytes=-3", Part::Range(7..10)),
            ("bytes=-99", Part::Range(0..10)),
            ("bytes=8-99", Part::Range(8..10)),
            ("bytes=9-99999999999999999999999", Part::Range(9..10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-4", Part::Whole),
            ("bytes", Part::Whole),
        ] {
            assert_eq!(parse_range(text, 10, Edition::Second), part, "{text}");
        }
    }

    #[test]
    fn ranges_of_an_empty_file() {
        for (text, part) in [
            ("bytes=-500", Part::Whole),
            ("bytes=-1", Part::Whole),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=0-", Part::Unsatisfiable),
            ("bytes=0-0", Part::Unsatisfiable),
        ] {
            assert_eq!(parse_range(text, 0, Edition::Second), part, "{text}");
        }
        assert_eq!(parse_range("bytes=-5", 0, Edition::First), Part::Unsatisfiable);
    }

    #[test]
    fn tags_are_found_in_lists() {
        let with = |etag: &str| Validators {
            etag: ArrayString::from(etag).unwrap(),
            modified: 0,
            wall: 0,
            edition: Edition::Second,
        };
        let (ours, weakly) = (with("\"a,b\""), with("W/\"a,b\""));
        for (list, strong, weak) in [
            ("*", true, true),
            ("\"a,b\"", true, true),
            ("W/\"a,b\"", false, true),
            ("\"x\", W/\"y\" ,\"a,b\"", true, true),
            ("\"a\",\"b\"", false, false),
            ("\"x\" junk \"a,b\"", false, false),
            ("\"a,b", false, false),
            ("", false, false),
        ] {
            assert_eq!(ours.is_in(list.as_bytes(), Compare::Strong), strong, "{list}");
            assert_eq!(ours.is_in(list.as_bytes(), Compare::Weak), weak, "{list}");
            assert_eq!(weakly.is_in(list.as_bytes(), Compare::Strong), list == "*", "{list}");
            assert_eq!(weakly.is_in(list.as_bytes(), Compare::Weak), weak, "{list}");
        }
    }

    #[test]
    fn a_tag_is_made_of_the_content_and_says_where_it_is_not() {
        let facts = Facts { length: 10, modified: 0xabc, hash: Some([0x5a; 32]) };
        let of = |facts: Facts, edition| tag(&facts, edition).as_str().to_owned();
        let hashed = of(facts, Edition::Second);
        assert_eq!(hashed, format!("\"{}\"", "5a".repeat(16)));
        assert_eq!(
            of(Facts { modified: 7, ..facts }, Edition::Second),
            hashed,
            "whatever the time"
        );
        assert_eq!(of(Facts { hash: None, ..facts }, Edition::Second), "W/\"abc-a\"");
        assert_eq!(of(facts, Edition::First), "\"abc-a\"");
        let long = Facts { length: u64::MAX, modified: u64::MAX, hash: None };
        assert_eq!(of(long, Edition::Second).len(), ETAG_MAX);
    }

    #[test]
    fn dates_beyond_the_calendar_are_clamped() {
        assert_eq!(date(0).to_string(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(date(u64::MAX).to_string(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
