//! A digest of what a client has been told of a reply, whose value is its state: either node can go on
//! with it, and with one pass over the bytes.
//!
//! It is a polynomial in a secret point, over the field of 2^61 - 1 elements, whose coefficients are the
//! bytes, seven at a time; and the same in another point. Two different texts of n bytes agree for at most
//! n / 7 points, so a server that does not know the points passes off one text of 1 TiB for
//! another with a probability below 2^-47 in each of the two, 2^-94 in both.

use crate::codec::{Reader, put_number};

/// 2^61 - 1, a prime.
const MODULUS: u64 = (1 << 61) - 1;

/// How many bytes make a coefficient: the most that stay below the modulus.
const BLOCK: usize = 7;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest {
    sums: [u64; 2],
    /// The bytes behind the last whole block, the first one lowest, and how many they are.
    part: u64,
    length: u8,
}

/// The points.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Points([u64; 2]);

impl core::fmt::Debug for Points {
    /// They are a secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Points")
    }
}

impl Points {
    /// Those that a key of 128 bits names.
    pub(super) fn new(key: [u8; 16]) -> Self {
        let [low, high] = halves(key);
        Self([low % MODULUS, high % MODULUS])
    }
}

fn halves(key: [u8; 16]) -> [u64; 2] {
    let key = u128::from_le_bytes(key);
    [key as u64, (key >> 64) as u64]
}

/// `a * b` in the field; both below the modulus.
const fn multiply(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    let sum = (product as u64 & MODULUS) + (product >> 61) as u64;
    if sum >= MODULUS { sum - MODULUS } else { sum }
}

impl Digest {
    /// That of nothing.
    pub(super) const EMPTY: Self = Self { sums: [0; 2], part: 0, length: 0 };

    /// Takes in the bytes that follow.
    pub(super) fn update(&mut self, points: &Points, mut bytes: &[u8]) {
        while self.length > 0
            && let [first, rest @ ..] = bytes
        {
            bytes = rest;
            self.part |= u64::from(*first) << (8 * self.length);
            self.length += 1;
            if usize::from(self.length) == BLOCK {
                let block = core::mem::take(&mut self.part);
                self.length = 0;
                self.add(points, block);
            }
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in &mut blocks {
            let mut word = [0; 8];
            word[..BLOCK].copy_from_slice(block);
            self.add(points, u64::from_le_bytes(word));
        }
        for byte in blocks.remainder() {
            self.part |= u64::from(*byte) << (8 * self.length);
            self.length += 1;
        }
    }

    fn add(&mut self, points: &Points, block: u64) {
        for (sum, point) in self.sums.iter_mut().zip(points.0) {
            let next = multiply(*sum, point) + block;
            *sum = if next >= MODULUS { next - MODULUS } else { next };
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { sums: [first, second], part, length } = *self;
        [first, second, part].into_iter().for_each(|number| put_number(out, number));
        out.push(length);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut sum = || reader.number().filter(|sum| *sum < MODULUS);
        let sums = [sum()?, sum()?];
        let part = reader.number()?;
        let length = reader.byte().filter(|length| usize::from(*length) < BLOCK)?;
        (part >> (8 * length) == 0).then_some(Self { sums, part, length })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(key: [u8; 16], pieces: &[&[u8]]) -> Digest {
        let mut digest = Digest::EMPTY;
        pieces.iter().for_each(|piece| digest.update(&Points::new(key), piece));
        digest
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_text_is_cut(
            key: [u8; 16], text: Vec<u8>, cuts in prop::collection::vec(0..64_usize, 0..8),
        ) {
            let (mut pieces, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts {
                let (piece, behind) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let whole = digest(key, &[&text]);
            prop_assert_eq!(digest(key, &pieces), whole);
            let mut out = Vec::new();
            whole.encode(&mut out);
            prop_assert_eq!(Digest::decode(&mut Reader::new(&out)), Some(whole));
        }

        #[test]
        fn texts_that_differ_in_a_byte_differ(
            key in any::<[u8; 16]>(), text in prop::collection::vec(any::<u8>(), 1..64),
            at: prop::sample::Index, with in 1..=255_u8,
        ) {
            let mut other = text.clone();
            other[at.index(text.len())] ^= with;
            prop_assert_ne!(digest(key, &[&text]), digest(key, &[&other]));
        }
    }

    /// An heir goes on with the digest of its primary, which may be of another version.
    #[test]
    fn both_nodes_compute_these_values() {
        let key = core::array::from_fn(|index| index as u8);
        let mut out = Vec::new();
        digest(key, &[b"the quick brown fox"]).encode(&mut out);
        // By hand: ((a * p + b) mod m, …) with p the points 0x0706050403020100 and 0x0f0e0d0c0b0a0908 mod m.
        assert_eq!(digest(key, &[b""]), Digest::EMPTY);
        assert_eq!(digest(key, &[b"abcdefg"]).sums, [0x0067_6665_6463_6261; 2]);
        assert_eq!(multiply(MODULUS - 1, MODULUS - 1), 1, "minus one squared");
    }
}
