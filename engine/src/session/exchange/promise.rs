//! What a client has been told of a reply by its head, and holds whatever follows to.

use crate::codec::{Reader, put_bytes, put_number};
use crate::http::{Fields, Framing, ReplyHead};

/// Fields in which two replies have to agree when one is to go on where the other one ended; the tag is the
/// first. `Date`, `Server` and the like are nobody's promise.
const AGREED: [&str; 6] =
    ["etag", "content-type", "content-encoding", "content-range", "last-modified", "trailer"];

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promise {
    status: u16,
    measure: Measure,
    /// Each of [`AGREED`] with its values, and for a reply without a body the length that it names.
    facts: Vec<u8>,
    /// Whether the rest of it may be asked for: it has a strong validator, RFC 9110 §8.8.3, and its server
    /// takes ranges.
    ranges: bool,
}

/// How a reply says where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Nothing,
    Length(u64),
    Chunks,
    Close,
}

impl Promise {
    pub(super) fn of(head: &ReplyHead<'_>) -> Self {
        let ReplyHead { status, fields, .. } = head;
        let measure = match head.body {
            None => Measure::Nothing,
            Some(Framing::Length(length)) => Measure::Length(length),
            Some(Framing::Chunked(_)) => Measure::Chunks,
            Some(Framing::UntilEnd) => Measure::Close,
        };
        let mut facts = Vec::new();
        for name in AGREED {
            put_bytes(&mut facts, &values(fields, name));
        }
        if measure == Measure::Nothing {
            // Of HEAD and 304 it says something of what is not sent.
            put_bytes(&mut facts, &values(fields, "content-length"));
        }
        let strong = fields.one("etag").is_some_and(|tag| tag.starts_with(b"\""));
        let whole = *status == 200 && matches!(measure, Measure::Length(_));
        let ranges = whole && strong && fields.lists("accept-ranges", "bytes");
        Self { status: *status, measure, facts, ranges }
    }

    pub(super) const fn measure(&self) -> Measure {
        self.measure
    }

    /// Whether another reply promises the same.
    pub(super) fn is_kept_by(&self, other: &Self) -> bool {
        (self.status, self.measure) == (other.status, other.measure) && self.facts == other.facts
    }

    /// Whether `head` is of the rest of this reply from the byte `from` on: RFC 9110 §15.3.7 lets it leave
    /// out what the client knows already, but not the tag.
    pub(super) fn is_kept_by_rest(&self, head: &ReplyHead<'_>, from: u64) -> bool {
        let Measure::Length(total) = self.measure else { return false };
        let range = format!("bytes {from}-{}/{total}", total.saturating_sub(1));
        let is_range = head.fields.one("content-range") == Some(range.as_bytes());
        let mut ours = Reader::new(&self.facts);
        let agrees = AGREED.into_iter().all(|name| {
            let (ours, theirs) = (ours.bytes().unwrap_or_default(), values(&head.fields, name));
            let left_out = theirs.is_empty() && name != "etag";
            ours == theirs || left_out || name == "content-range"
        });
        let length = total.checked_sub(from).map(Framing::Length);
        head.status == 206 && is_range && agrees && head.body == length
    }

    /// The tag under which the rest may be asked for, if it may.
    pub(super) fn tag(&self) -> Option<&[u8]> {
        let values = Reader::new(&self.facts).bytes().filter(|_| self.ranges)?;
        Reader::new(values).bytes()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { status, measure, facts, ranges } = self;
        put_number(out, (*status).into());
        match measure {
            Measure::Nothing => out.push(0),
            Measure::Length(length) => {
                out.push(1);
                put_number(out, *length);
            }
            Measure::Chunks => out.push(2),
            Measure::Close => out.push(3),
        }
        put_bytes(out, facts);
        out.push(u8::from(*ranges));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let status = u16::try_from(reader.number()?).ok()?;
        let measure = match reader.byte()? {
            0 => Measure::Nothing,
            1 => Measure::Length(reader.number()?),
            2 => Measure::Chunks,
            3 => Measure::Close,
            _ => return None,
        };
        let facts = reader.bytes()?.to_vec();
        let ranges = reader.byte().filter(|ranges| *ranges < 2)? == 1;
        Some(Self { status, measure, facts, ranges })
    }
}

/// The values of a field, each counted.
fn values(fields: &Fields<'_>, name: &'static str) -> Vec<u8> {
    let mut values = Vec::new();
    fields.all(name).for_each(|value| put_bytes(&mut values, value));
    values
}
