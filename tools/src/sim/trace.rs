//! A run's fingerprint: same seed, same fingerprint, bit for bit.

/// Everything that happened, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, events: 0 }
    }

    /// Something happened at `now`: what kind, to whom, with which bytes.
    pub(super) fn add(&mut self, now: u64, kind: u8, who: u64, bytes: &[u8]) {
        self.events += 1;
        self.word(now);
        self.word(u64::from(kind) << 56 ^ who);
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        for &byte in rest {
            self.word(byte.into());
        }
    }

    fn word(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23);
    }

    /// The fingerprint so far.
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things happened.
    pub(super) const fn events(&self) -> u64 {
        self.events
    }
}
