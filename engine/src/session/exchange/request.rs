//! A request as it is kept, so that it can be sent again: its head as servers get it, and its body as it
//! came.

use super::reply::Rest;
use super::{BACKEND, Effect};
use crate::codec::{Reader, put_bytes};
use crate::http::{
    Asked, Fields, Framing, Persist, RequestHead, Scan, is_hop_by_hop, rewrite, scan,
};
use crate::service::{Again, Masking, Oversize, Rules};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// What a server is sent, as far as it came. Empty if it is not kept.
    pub(super) bytes: Vec<u8>,
    /// Whether `bytes` has all that came: not if there was more than may be.
    pub(super) kept: bool,
    /// What is still to come of the body.
    pub(super) body: Option<Framing>,
    /// What its reply's framing depends on.
    pub(super) asked: Asked,
    /// The client's HTTP/1.x.
    pub(super) minor: u8,
    /// What the client wants of its connection.
    pub(super) persist: Persist,
    /// Whether it asks for another protocol.
    pub(super) upgrade: bool,
    /// Whether it may be sent to another server when one may have seen it.
    pub(super) repeatable: bool,
    /// Whether the rest of its reply may be asked for: it asks for all of something, and for nothing else.
    pub(super) whole: bool,
    /// Whether the server that is there now has it, as far as it came.
    pub(super) pushed: bool,
    /// Servers that may have seen it, as far as can be counted.
    pub(super) attempts: u8,
    /// Of these the last ones that the client has got nothing more by.
    pub(super) fruitless: u8,
    /// Servers that were asked in vain before one could see it.
    pub(super) refusals: u8,
}

/// Fields that make the reply depend on more than what is there.
const CONDITIONS: [&str; 6] =
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];

/// The field that makes a request one that a server does once, however often it comes.
const KEY: &str = "Idempotency-Key";

impl Request {
    /// A request's beginning. `key`: the `Idempotency-Key` that it gets if it has none and servers are to
    /// know a repetition. `None`: its length is known and more than is taken.
    pub(super) fn new(
        head: &[u8],
        parsed: &RequestHead<'_>,
        rules: &Rules,
        key: impl FnOnce() -> String,
    ) -> Option<Self> {
        let keyed = parsed.fields.has("idempotency-key");
        let repeatable = match rules.again {
            Again::Never => false,
            Again::Safe => parsed.is_safe(),
            Again::Idempotent => parsed.is_idempotent(),
            Again::Keyed => parsed.is_idempotent() || keyed,
            Again::All => true,
        };
        let adds = rules.masking == Masking::Journal && !keyed && !parsed.is_idempotent();
        let quoted = if adds { format!("\"{}\"", key()) } else { String::new() };
        let says: &[(&str, &[u8])] = if adds { &[(KEY, quoted.as_bytes())] } else { &[] };
        let mut bytes = Vec::with_capacity(head.len());
        let ours = |name: &str, _: &[u8]| !passes(&parsed.fields, name, parsed.upgrade);
        rewrite(head, ours, says, &mut bytes);
        let length = match parsed.body {
            Some(Framing::Length(length)) => length,
            Some(Framing::Chunked(_) | Framing::UntilEnd) | None => 0,
        };
        let kept = length.saturating_add(bytes.len() as u64) <= rules.request_max.into();
        (kept || rules.oversize == Oversize::Pass).then_some(Self {
            bytes,
            kept,
            body: parsed.body,
            asked: parsed.asked(),
            minor: parsed.minor,
            persist: parsed.persist,
            upgrade: parsed.upgrade,
            repeatable,
            whole: parsed.method == "GET" && !CONDITIONS.iter().any(|name| parsed.fields.has(name)),
            pushed: false,
            attempts: 0,
            fruitless: 0,
            refusals: 0,
        })
    }

    /// The same request, for the rest of its reply.
    pub(super) fn asking_for(&self, rest: &Rest) -> Vec<u8> {
        let range = format!("bytes={}-", rest.from);
        let says: &[(&str, &[u8])] = &[("Range", range.as_bytes()), ("If-Range", &rest.tag)];
        let Scan::Head(length) = scan(&self.bytes, 0) else { return self.bytes.clone() };
        let (head, body) = self.bytes.split_at(length);
        let mut out = Vec::with_capacity(self.bytes.len() + 64);
        rewrite(head, |_, _| false, says, &mut out);
        out.extend_from_slice(body);
        out
    }

    /// How a server is asked for.
    pub(super) const fn dial(&self) -> Effect {
        if self.fruitless > 1 { Effect::DialOnceMore } else { Effect::Dial(BACKEND) }
    }

    /// How much of it is here when all of it has come, in bytes: kept, and once more on its way to a server.
    /// `most`: of one whose length nobody knows.
    pub(super) fn keeps(&self, most: u32) -> u64 {
        let here = self.bytes.len() as u64;
        let whole = match &self.body {
            None => here,
            Some(Framing::Length(left)) => here.saturating_add(*left),
            Some(Framing::Chunked(_) | Framing::UntilEnd) => here.max(most.into()),
        };
        whole.saturating_mul(2)
    }

    /// Whether all of it came.
    pub(super) const fn is_whole(&self) -> bool {
        self.body.is_none()
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            bytes,
            kept,
            body,
            asked,
            minor,
            persist,
            upgrade,
            repeatable,
            whole,
            pushed,
            attempts,
            fruitless,
            refusals,
        } = self;
        let flags = [*kept, body.is_some(), *upgrade, *repeatable, *pushed, *whole];
        out.push(flags.into_iter().rev().fold(0, |flags, one| flags << 1 | u8::from(one)));
        out.push(match asked {
            Asked::Head => 0,
            Asked::Connect => 1,
            Asked::Other => 2,
        });
        out.push(match persist {
            Persist::Close => 0,
            Persist::Keep => 1,
            Persist::KeepAlive => 2,
        });
        out.extend([*minor, *attempts, *fruitless, *refusals]);
        put_bytes(out, bytes);
        if let Some(body) = body {
            body.encode(out);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.byte().filter(|flags| *flags < 64)?;
        let flag = |bit: u8| flags >> bit & 1 != 0;
        let asked = match reader.byte()? {
            0 => Asked::Head,
            1 => Asked::Connect,
            2 => Asked::Other,
            _ => return None,
        };
        let persist = match reader.byte()? {
            0 => Persist::Close,
            1 => Persist::Keep,
            2 => Persist::KeepAlive,
            _ => return None,
        };
        let [minor, attempts, fruitless, refusals] = reader.array()?;
        let bytes = reader.bytes()?.to_vec();
        let body = if flag(1) { Some(Framing::decode(reader)?) } else { None };
        Some(Self {
            bytes,
            kept: flag(0),
            body,
            asked,
            minor,
            persist,
            upgrade: flag(2),
            repeatable: flag(3),
            whole: flag(5),
            pushed: flag(4),
            attempts,
            fruitless,
            refusals,
        })
    }
}

/// Whether a field of the client's goes on to a server.
fn passes(fields: &Fields<'_>, name: &str, upgrade: bool) -> bool {
    let asks = name.eq_ignore_ascii_case("connection") || name.eq_ignore_ascii_case("upgrade");
    (upgrade && asks) || !is_hop_by_hop(fields, name)
}
