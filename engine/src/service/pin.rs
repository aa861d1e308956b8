//! Pins: what a reply owes to the world outside its input.
//!
//! The primary answers a request with the clock's time and what the store said. Both go into one
//! pin, the pin goes into the log, and the standby answers the same request with the pin alone:
//! same head, same length, same validators. One reply, one pin, in the order of the replies.
//!
//! ```text
//!   version 1 | unix seconds (number) | outcome | length, modified (numbers) | hash 32
//!                                       0 not asked, 1 not found, 2 forbidden, 3 directory,
//!                                       4 found without a hash, 5 found with one
//! ```

use super::codec::{Reader, put_number};
use super::store::Facts;
use arrayvec::ArrayVec;

/// A pin as it travels in the log.
pub type PinBytes = ArrayVec<u8, PIN_MAX>;

/// The longest pin, in bytes.
pub const PIN_MAX: usize = 1 + 10 + 1 + 10 + 10 + 32;

/// The only layout there is so far. A number is never used for two layouts.
const VERSION: u8 = 1;

/// Everything that one reply took from outside its input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pin {
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
        let Self { wall, outcome } = self;
        let mut out = PinBytes::new();
        out.push(VERSION);
        put_number(&mut out, *wall);
        match outcome {
            Outcome::NotAsked => out.push(0),
            Outcome::NotFound => out.push(1),
            Outcome::Forbidden => out.push(2),
            Outcome::Directory => out.push(3),
            Outcome::Found(facts) => {
                out.push(4 + u8::from(facts.hash.is_some()));
                put_facts(&mut out, facts);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, PinError> {
        let mut reader = Reader::new(bytes);
        match reader.byte() {
            Some(VERSION) => Self::decode_body(&mut reader).ok_or(PinError::Malformed),
            Some(other) => Err(PinError::Version(other)),
            None => Err(PinError::Malformed),
        }
    }

    fn decode_body(reader: &mut Reader<'_>) -> Option<Self> {
        let wall = reader.number()?;
        let outcome = match reader.byte()? {
            0 => Outcome::NotAsked,
            1 => Outcome::NotFound,
            2 => Outcome::Forbidden,
            3 => Outcome::Directory,
            4 => Outcome::Found(read_facts(reader, false)?),
            5 => Outcome::Found(read_facts(reader, true)?),
            _ => return None,
        };
        reader.end()?;
        Some(Self { wall, outcome })
    }
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
    Some(Facts { length, modified, hash })
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

    proptest! {
        #[test]
        fn pins_come_back_as_they_went(wall: u64, outcome in outcome()) {
            let pin = Pin { wall, outcome };
            prop_assert_eq!(Pin::decode(&pin.encode()), Ok(pin));
        }

        #[test]
        fn hostile_pins_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(pin) = Pin::decode(&bytes) {
                prop_assert_eq!(Pin::decode(&pin.encode()), Ok(pin));
            }
        }
    }

    #[test]
    fn an_unknown_version_is_refused_by_name() {
        assert_eq!(Pin::decode(&[9, 0, 0]), Err(PinError::Version(9)));
        assert_eq!(Pin::decode(&[]), Err(PinError::Malformed));
        assert_eq!(Pin::decode(&[1, 0, 0, 0]), Err(PinError::Malformed));
    }
}
