//! Pins: what a reply owes to the world outside its input.
//!
//! The primary answers a request with the clock's time and what the store said. Both go into one
//! pin, the pin goes into the log, and the standby answers the same request with the pin alone:
//! same head, same length, same validators. One reply, one pin, in the order of the replies.
//!
//! A content that was not hashed when its reply began gets its hash later, in a pin of its own that
//! names the reply by where its body ends in the output. That a client's time is up is a pin as well,
//! as only one of the nodes may look at a clock.
//!
//! ```text
//!   edition | unix seconds (number) | outcome | length, modified (numbers) | hash 32
//!                                     0 not asked, 1 not found, 2 forbidden, 3 directory,
//!                                     4 found without a hash, 5 found with one
//!   edition | end of the body (number) | 6    | hash 32
//!   edition | unix seconds (number) | awaited   7 a request, 8 the end of a head, 9 more of a body
//! ```
//!
//! The edition is pinned as well ([`Edition`]): what a later version answers differently it answers
//! as the earlier one did while that is its peer.

use super::files::Awaited;
use super::store::Facts;
use crate::codec::{Reader, put_number};
use arrayvec::ArrayVec;

/// A pin as it travels in the log.
pub type PinBytes = ArrayVec<u8, PIN_MAX>;

/// The longest pin, in bytes.
pub const PIN_MAX: usize = 1 + 10 + 1 + 10 + 10 + 32;

/// What an unknown hash travels as to a peer that would let times stand in for it: no content has
/// it, so the peer takes its copy for another.
const NO_CONTENT: [u8; 32] = [0; 32];

/// How replies are made. Two nodes answer alike by the edition that the reply is pinned with; a
/// number is never used for two of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Edition {
    /// Of log version 3 and before: entity tags made of time and length, the last bytes of an empty
    /// file are not satisfiable, a lone LF ends a line of a request.
    First = 1,
    /// Entity tags made of the content's hash, hashes that follow later, RFC 9110 and 9112 to the
    /// letter, clients that are not waited for without end.
    #[default]
    Second = 2,
}

impl Edition {
    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::First),
            2 => Some(Self::Second),
            _ => None,
        }
    }
}

/// What a pin says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pinned {
    /// What the next reply is made of.
    Reply(Pin),
    /// The hash of a body that was pinned without.
    Hash {
        /// Where in the output the body ends.
        end: u64,
        /// Its file's hash.
        hash: [u8; 32],
    },
    /// The client's time is up.
    TimeUp(TimeUp),
}

/// A client was waited for in vain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeUp {
    /// By which rules what is said about it is made. Not the first: that has no such pin.
    pub(crate) edition: Edition,
    /// Unix time in seconds, for Date.
    pub(crate) wall: u64,
    /// What for. Not for taking a reply: that is the connection's end, and no pin.
    pub(crate) awaited: Awaited,
}

/// Everything that one reply took from outside its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pin {
    /// By which rules the reply is made.
    pub(crate) edition: Edition,
    /// Unix time in seconds, for Date.
    pub(crate) wall: u64,
    /// What the store said.
    pub(crate) outcome: Outcome,
}

/// What the store said of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It was not asked: the request itself settles the reply.
    NotAsked,
    /// Nothing there.
    NotFound,
    /// Not to be served.
    Forbidden,
    /// A directory.
    Directory,
    /// A file.
    Found(Facts),
}

/// Why a pin was not taken. Each is a fault of the pair, never of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PinError {
    /// Not a pin.
    #[error("malformed pin")]
    Malformed,
    /// A pin of a layout that this version does not know.
    #[error("pin of unknown version {0}")]
    Version(u8),
    /// This service takes none, or this instance leads and makes its own.
    #[error("unexpected pin")]
    Unexpected,
    /// More pins than requests that could use them.
    #[error("too many pins ahead of their input")]
    TooMany,
}

impl Pin {
    pub(crate) fn encode(&self) -> PinBytes {
        let Self { edition, wall, outcome } = self;
        let mut out = PinBytes::new();
        out.push(*edition as u8);
        put_number(&mut out, *wall);
        match outcome {
            Outcome::NotAsked => out.push(0),
            Outcome::NotFound => out.push(1),
            Outcome::Forbidden => out.push(2),
            Outcome::Directory => out.push(3),
            Outcome::Found(facts) => {
                let mut facts = *facts;
                if *edition == Edition::First {
                    facts.hash.get_or_insert(NO_CONTENT);
                }
                out.push(4 + u8::from(facts.hash.is_some()));
                put_facts(&mut out, &facts);
            }
        }
        out
    }
}

impl TimeUp {
    pub(crate) fn encode(&self) -> PinBytes {
        let Self { edition, wall, awaited } = self;
        assert!(*edition > Edition::First, "a peer is told what it knows");
        let mut out = PinBytes::new();
        out.push(*edition as u8);
        put_number(&mut out, *wall);
        out.push(match awaited {
            Awaited::Request => 7,
            Awaited::Head => 8,
            Awaited::Body | Awaited::Taking => 9,
        });
        out
    }
}

impl Pinned {
    /// A hash that follows its reply.
    pub(crate) fn encode_hash(end: u64, hash: &[u8; 32]) -> PinBytes {
        let mut out = PinBytes::new();
        out.push(Edition::Second as u8);
        put_number(&mut out, end);
        out.push(6);
        out.extend(*hash);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PinError> {
        let mut reader = Reader::new(bytes);
        let code = reader.byte().ok_or(PinError::Malformed)?;
        let edition = Edition::of(code).ok_or(PinError::Version(code))?;
        Self::decode_body(edition, &mut reader).ok_or(PinError::Malformed)
    }

    fn decode_body(edition: Edition, reader: &mut Reader<'_>) -> Option<Self> {
        let number = reader.number()?;
        let time_up = |awaited| Self::TimeUp(TimeUp { edition, wall: number, awaited });
        let outcome = match reader.byte()? {
            0 => Outcome::NotAsked,
            1 => Outcome::NotFound,
            2 => Outcome::Forbidden,
            3 => Outcome::Directory,
            4 => Outcome::Found(read_facts(reader, false)?),
            5 => Outcome::Found(read_facts(reader, true)?),
            6 if edition > Edition::First => {
                let pinned = Self::Hash { end: number, hash: reader.array()? };
                reader.end()?;
                return Some(pinned);
            }
            code @ 7..=9 if edition > Edition::First => {
                reader.end()?;
                return Some(time_up(match code {
                    7 => Awaited::Request,
                    8 => Awaited::Head,
                    _ => Awaited::Body,
                }));
            }
            _ => return None,
        };
        reader.end()?;
        Some(Self::Reply(Pin { edition, wall: number, outcome }))
    }
}

/// Facts as a snapshot carries them: a hash always, so that nobody lets the times stand in for it.
pub(crate) fn put_snapshot_facts(out: &mut impl Extend<u8>, facts: &Facts) {
    put_facts(out, &Facts { hash: facts.hash.or(Some(NO_CONTENT)), ..*facts });
}

/// Appends facts; whether the hash is there is said elsewhere.
pub(crate) fn put_facts(out: &mut impl Extend<u8>, facts: &Facts) {
    let Facts { length, modified, hash } = facts;
    put_number(out, *length);
    put_number(out, *modified);
    if let Some(hash) = hash {
        out.extend(*hash);
    }
}

/// Reads facts as [`put_facts`] wrote them. A length beyond 2⁶¹ is no file's, and would let
/// offsets of the output stream run over.
pub(crate) fn read_facts(reader: &mut Reader<'_>, hashed: bool) -> Option<Facts> {
    let length = reader.number().filter(|length| *length < 1 << 61)?;
    let modified = reader.number()?;
    let hash = if hashed { Some(reader.array()?) } else { None };
    Some(Facts { length, modified, hash: hash.filter(|hash| *hash != NO_CONTENT) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcome() -> impl Strategy<Value = Outcome> {
        let facts = (0u64..1 << 61, any::<u64>(), any::<Option<[u8; 32]>>())
            .prop_map(|(length, modified, hash)| Facts { length, modified, hash });
        prop_oneof![
            Just(Outcome::NotAsked),
            Just(Outcome::NotFound),
            Just(Outcome::Forbidden),
            Just(Outcome::Directory),
            facts.prop_map(Outcome::Found),
        ]
    }

    fn pinned() -> impl Strategy<Value = Pinned> {
        let edition = prop_oneof![Just(Edition::First), Just(Edition::Second)];
        let reply = (edition, any::<u64>(), outcome())
            .prop_map(|(edition, wall, outcome)| Pinned::Reply(Pin { edition, wall, outcome }));
        let hash = any::<(u64, [u8; 32])>().prop_map(|(end, hash)| Pinned::Hash { end, hash });
        let awaited = prop_oneof![Just(Awaited::Request), Just(Awaited::Head), Just(Awaited::Body)];
        let time_up = (any::<u64>(), awaited).prop_map(|(wall, awaited)| {
            Pinned::TimeUp(TimeUp { edition: Edition::Second, wall, awaited })
        });
        prop_oneof![reply, hash, time_up]
    }

    fn encode(pinned: &Pinned) -> PinBytes {
        match pinned {
            Pinned::Reply(pin) => pin.encode(),
            Pinned::Hash { end, hash } => Pinned::encode_hash(*end, hash),
            Pinned::TimeUp(up) => up.encode(),
        }
    }

    proptest! {
        #[test]
        fn pins_come_back_as_they_went(pinned in pinned()) {
            prop_assert_eq!(Pinned::decode(&encode(&pinned)), Ok(pinned));
        }

        #[test]
        fn hostile_pins_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(pinned) = Pinned::decode(&bytes) {
                prop_assert_eq!(Pinned::decode(&encode(&pinned)), Ok(pinned));
            }
        }
    }

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        assert_eq!(Pinned::decode(&[9, 0, 0]), Err(PinError::Version(9)));
        assert_eq!(Pinned::decode(&[]), Err(PinError::Malformed));
        assert_eq!(Pinned::decode(&[1, 0, 0, 0]), Err(PinError::Malformed));
        let hash = [&[1, 5, 6][..], &[7; 32]].concat();
        assert_eq!(Pinned::decode(&hash), Err(PinError::Malformed), "not of the first edition");
    }

    /// What is written down is compared between nodes of different versions.
    #[test]
    fn pins_are_written_as_ever() {
        let facts = Facts { length: 300, modified: 7, hash: Some([9; 32]) };
        let reply = |outcome| Pinned::Reply(Pin { edition: Edition::Second, wall: 1, outcome });
        let time_up = |awaited| {
            Pinned::TimeUp(TimeUp { edition: Edition::Second, wall: 1_700_000_000, awaited })
        };
        let seconds = [2, 0x80, 0xe2, 0xcf, 0xaa, 6];
        let found = [&[2, 1, 5, 0xac, 2, 7][..], &[9; 32]].concat();
        let hash = [&[2, 5, 6][..], &[7; 32]].concat();
        for (pinned, bytes) in [
            (reply(Outcome::NotAsked), vec![2, 1, 0]),
            (reply(Outcome::NotFound), vec![2, 1, 1]),
            (reply(Outcome::Forbidden), vec![2, 1, 2]),
            (reply(Outcome::Directory), vec![2, 1, 3]),
            (reply(Outcome::Found(Facts { hash: None, ..facts })), vec![2, 1, 4, 0xac, 2, 7]),
            (reply(Outcome::Found(facts)), found),
            (Pinned::Hash { end: 5, hash: [7; 32] }, hash),
            (time_up(Awaited::Request), [&seconds[..], &[7]].concat()),
            (time_up(Awaited::Head), [&seconds[..], &[8]].concat()),
            (time_up(Awaited::Body), [&seconds[..], &[9]].concat()),
        ] {
            assert_eq!(encode(&pinned).as_slice(), bytes, "{pinned:?}");
            assert_eq!(Pinned::decode(&bytes), Ok(pinned));
        }
        for code in 7..=9 {
            assert_eq!(Pinned::decode(&[1, 1, code]), Err(PinError::Malformed), "not the first's");
        }
    }

    /// An earlier version would compare the times where a pin has no hash (I6).
    #[test]
    fn an_earlier_version_is_never_left_without_a_hash() {
        let facts = Facts { length: 5, modified: 7, hash: None };
        let pin = Pin { edition: Edition::First, wall: 1, outcome: Outcome::Found(facts) };
        let bytes = pin.encode();
        assert_eq!((bytes[2], &bytes[bytes.len() - 32..]), (5, &[0; 32][..]), "a hash of nothing");
        assert_eq!(Pinned::decode(&bytes), Ok(Pinned::Reply(pin)));
        let mut out = Vec::new();
        put_snapshot_facts(&mut out, &facts);
        assert_eq!(read_facts(&mut Reader::new(&out), true), Some(facts));
    }
}
