//! What is configured of services whose clients' connections end here, and whose servers are others.

use crate::codec::{Reader, put_number};
use crate::time::Duration;

/// How long a join waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JoinPatience {
    /// For a server to answer its SYN, before another one is asked.
    pub connect: Duration,
    /// For either end to say something, when each has heard what the other one said.
    pub idle: Duration,
}

/// How long a masking relay waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HttpPatience {
    /// For a server to answer its SYN, before another one is asked.
    pub connect: Duration,
    /// For the first byte of a reply, once a server has the request; then the client is told so (504).
    pub first_byte: Duration,
    /// For anything else: a client's request, the rest of a reply.
    pub idle: Duration,
}

/// How a server's death is masked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masking {
    /// A reply goes to the client as it comes. Another server's reply goes on from the byte that was
    /// reached, if everything before it is the same (Zhang, Abdelzaher, Stankovic).
    Replay,
    /// A reply goes to the client when all of it is there, so that any other will do until then (CoRAL).
    Journal,
}

/// What becomes of a message that is longer than may be kept of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oversize {
    /// It passes, by the rules of the next weaker mode.
    Pass,
    /// The client is refused: 413 for a request, 502 for a reply.
    Refuse,
}

/// Which requests may be sent to another server when one may have seen them already (I8). Each includes
/// those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Again {
    /// None.
    Never,
    /// Those whose method is safe, RFC 9110 §9.2.1.
    Safe,
    /// Those whose method is idempotent, RFC 9110 §9.2.2.
    Idempotent,
    /// Those for which the client has given an `Idempotency-Key`.
    Keyed,
    /// All.
    All,
}

/// What decides about the requests and replies of one session. It goes with the session from node to
/// node, so that both decide alike whatever has become of their files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How a server's death is masked.
    pub masking: Masking,
    /// How long a request may be, head and body, to be kept, in bytes.
    pub request_max: u32,
    /// How long a reply may be to be gathered, in bytes.
    pub reply_max: u32,
    /// What becomes of longer ones.
    pub oversize: Oversize,
    /// Which requests may be sent again.
    pub again: Again,
    /// How often one may.
    pub retries: u8,
}

impl Rules {
    /// What holds where nothing is configured (DESIGN §8).
    #[must_use]
    pub const fn of(masking: Masking) -> Self {
        Self {
            masking,
            request_max: 1 << 20,
            reply_max: 8 << 20,
            oversize: Oversize::Pass,
            again: match masking {
                Masking::Replay => Again::Safe,
                Masking::Journal => Again::Keyed,
            },
            retries: 3,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { masking, request_max, reply_max, oversize, again, retries } = *self;
        out.push(match masking {
            Masking::Replay => 0,
            Masking::Journal => 1,
        });
        put_number(out, request_max.into());
        put_number(out, reply_max.into());
        out.push(match oversize {
            Oversize::Pass => 0,
            Oversize::Refuse => 1,
        });
        out.push(match again {
            Again::Never => 0,
            Again::Safe => 1,
            Again::Idempotent => 2,
            Again::Keyed => 3,
            Again::All => 4,
        });
        out.push(retries);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let masking = match reader.byte()? {
            0 => Masking::Replay,
            1 => Masking::Journal,
            _ => return None,
        };
        let request_max = u32::try_from(reader.number()?).ok()?;
        let reply_max = u32::try_from(reader.number()?).ok()?;
        let oversize = match reader.byte()? {
            0 => Oversize::Pass,
            1 => Oversize::Refuse,
            _ => return None,
        };
        let again = match reader.byte()? {
            0 => Again::Never,
            1 => Again::Safe,
            2 => Again::Idempotent,
            3 => Again::Keyed,
            4 => Again::All,
            _ => return None,
        };
        let retries = reader.byte()?;
        Some(Self { masking, request_max, reply_max, oversize, again, retries })
    }
}

/// What becomes of a session whose two servers say different things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnDifference {
    /// The elder goes on: the server that has been up for longer, of equals the first in the list.
    Elder,
    /// The client is reset.
    Reset,
}

/// What decides about two servers on the same input. It goes with the session from node to node, as
/// [`Rules`] do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MirrorRules {
    /// How long a server may neither say nor acknowledge anything while the other one has said more.
    pub lag_time: Duration,
    /// How much less it may have said, where it has acknowledged its input, in bytes. 0: what its leg's
    /// window holds, and then the other one waits.
    pub lag_bytes: u32,
    /// What becomes of a session whose servers differ.
    pub on_difference: OnDifference,
}

impl Default for MirrorRules {
    /// What holds where nothing is configured: a segment may be lost and lost again.
    fn default() -> Self {
        let lag_time = Duration::from_secs(3);
        Self { lag_time, lag_bytes: 0, on_difference: OnDifference::Elder }
    }
}

impl MirrorRules {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let Self { lag_time, lag_bytes, on_difference } = *self;
        put_number(out, u64::try_from(lag_time.as_nanos()).unwrap_or(u64::MAX));
        put_number(out, lag_bytes.into());
        out.push(match on_difference {
            OnDifference::Elder => 0,
            OnDifference::Reset => 1,
        });
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let lag_time = Duration::from_nanos(reader.number()?);
        let lag_bytes = u32::try_from(reader.number()?).ok()?;
        let on_difference = match reader.byte()? {
            0 => OnDifference::Elder,
            1 => OnDifference::Reset,
            _ => return None,
        };
        Some(Self { lag_time, lag_bytes, on_difference })
    }
}
