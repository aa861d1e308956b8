//! What byte belongs where.
//!
//! Both contents are pure functions of the offset, so a stream of any length is checked without
//! being kept: a seeded one for what comes back to the drill, and the character generator's, which
//! costs next to nothing, for what nobody looks at again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// A stream of pseudo-random bytes, told by a seed and a connection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    key: u64,
}

impl Pattern {
    /// The stream of `connection` in a drill with `seed`.
    pub const fn new(seed: u64, connection: u64) -> Self {
        Self { key: mix(mix(seed).wrapping_add(connection)) }
    }

    /// Writes the bytes from `offset` on into `into`.
    pub fn fill(self, offset: u64, into: &mut [u8]) {
        let skip = (offset % 8) as usize;
        let mut word = offset / 8;
        let head = into.len().min((8 - skip) % 8);
        let (first, rest) = into.split_at_mut(head);
        if head > 0 {
            first.copy_from_slice(&self.word(word)[skip..skip + head]);
            word += 1;
        }
        let mut chunks = rest.chunks_exact_mut(8);
        for chunk in &mut chunks {
            chunk.copy_from_slice(&self.word(word));
            word += 1;
        }
        let tail = chunks.into_remainder();
        let last = self.word(word);
        tail.copy_from_slice(&last[..tail.len()]);
    }

    /// Index of the first of `bytes`, found at `offset`, that is not what belongs there, with the
    /// byte that does.
    pub fn difference(self, offset: u64, bytes: &[u8]) -> Option<(usize, u8)> {
        let mut expected = [0; 4096];
        for (piece, found) in bytes.chunks(expected.len()).enumerate() {
            let start = piece * expected.len();
            let expected = &mut expected[..found.len()];
            self.fill(offset + start as u64, expected);
            if expected != found {
                let index = expected.iter().zip(found).position(|(a, b)| a != b)?;
                return Some((start + index, expected[index]));
            }
        }
        None
    }

    fn word(self, index: u64) -> [u8; 8] {
        mix(self.key.wrapping_add(index)).to_le_bytes()
    }
}

/// SplitMix64's output function over a counter: every input bit reaches every output bit.
const fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes a file of `length` bytes that [`Pattern`] `(seed, 0)` describes.
///
/// # Errors
/// Those of creating and writing the file.
pub fn write_file(path: &Path, length: u64, seed: u64) -> io::Result<()> {
    let pattern = Pattern::new(seed, 0);
    let mut file = BufWriter::with_capacity(0, File::create(path)?);
    let mut chunk = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < length {
        let count = (length - offset).min(chunk.len() as u64);
        let piece = &mut chunk[..count as usize];
        pattern.fill(offset, piece);
        file.write_all(piece)?;
        offset += count;
    }
    file.flush()
}

/// Characters in a line of the character generator, without the line's end.
const LINE: u64 = 72;
/// Printable ASCII characters, space to tilde.
const PRINTABLE: u64 = 95;
/// The generator's stream repeats after this many bytes.
const PERIOD: usize = (PRINTABLE * (LINE + 2)) as usize;

/// The byte of the character generator (RFC 864's pattern) at a stream offset: line *n* holds 72
/// printable characters from the *n*-th on, then CR and LF.
pub const fn chargen_byte(offset: u64) -> u8 {
    let (line, column) = (offset / (LINE + 2), offset % (LINE + 2));
    match column {
        LINE => b'\r',
        c if c > LINE => b'\n',
        // Fits: less than 95 is added to 32.
        c => b' ' + ((line % PRINTABLE + c) % PRINTABLE) as u8,
    }
}

/// Index of the first of `bytes`, found at `offset`, that the character generator would not have
/// sent, with the byte that it would.
pub fn chargen_difference(offset: u64, bytes: &[u8]) -> Option<(usize, u8)> {
    let mut done = 0;
    while done < bytes.len() {
        let expected = chargen_piece(offset + done as u64, bytes.len() - done);
        let found = &bytes[done..done + expected.len()];
        if expected != found {
            let index = expected.iter().zip(found).position(|(a, b)| a != b)?;
            return Some((done + index, expected[index]));
        }
        done += found.len();
    }
    None
}

/// Writes the character generator's bytes from `offset` on into `into`.
pub(super) fn chargen_fill(offset: u64, into: &mut [u8]) {
    let mut done = 0;
    while done < into.len() {
        let piece = chargen_piece(offset + done as u64, into.len() - done);
        into[done..done + piece.len()].copy_from_slice(piece);
        done += piece.len();
    }
}

/// At most `max` bytes of the stream from `offset` on, as they lie in memory.
fn chargen_piece(offset: u64, max: usize) -> &'static [u8] {
    static STREAM: [u8; PERIOD] = chargen_period();
    let at = (offset % PERIOD as u64) as usize;
    &STREAM[at..at + (PERIOD - at).min(max)]
}

const fn chargen_period() -> [u8; PERIOD] {
    let mut stream = [0; PERIOD];
    let mut offset = 0;
    while offset < PERIOD {
        stream[offset] = chargen_byte(offset as u64);
        offset += 1;
    }
    stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_piece_of_a_pattern_is_the_same_as_in_the_whole() {
        let pattern = Pattern::new(3, 9);
        let mut whole = [0; 100];
        pattern.fill(0, &mut whole);
        for start in 0..40 {
            for end in start..60 {
                let mut piece = vec![0; end - start];
                pattern.fill(start as u64, &mut piece);
                assert_eq!(piece, whole[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn connections_and_seeds_have_streams_of_their_own() {
        let streams = [(1, 1), (1, 2), (2, 1)].map(|(seed, connection)| {
            let mut bytes = [0; 16];
            Pattern::new(seed, connection).fill(0, &mut bytes);
            bytes
        });
        assert!(streams[0] != streams[1] && streams[0] != streams[2] && streams[1] != streams[2]);
    }

    #[test]
    fn one_wrong_byte_is_found_where_it_is() {
        let pattern = Pattern::new(0, 0);
        let mut bytes = vec![0; 10_000];
        pattern.fill(77, &mut bytes);
        assert_eq!(pattern.difference(77, &bytes), None);
        let right = bytes[5_000];
        bytes[5_000] ^= 1;
        assert_eq!(pattern.difference(77, &bytes), Some((5_000, right)));
    }

    #[test]
    fn character_generator_draws_the_figure_of_rfc_864() {
        let stream: Vec<u8> = (0..3 * 74).map(chargen_byte).collect();
        assert_eq!(&stream[..4], b" !\"#");
        assert_eq!(&stream[72..76], b"\r\n!\"");
        assert_eq!(&stream[146..150], b"\r\n\"#");
        assert_eq!(chargen_byte(74 * 95), b' ', "line 95 is line 0 again");
        assert_eq!(chargen_byte(74 * 94), b'~', "line 94 starts with the last character");
    }

    #[test]
    fn character_generator_is_checked_across_its_period() {
        let start = PERIOD as u64 - 10;
        let mut bytes: Vec<u8> = (start..start + 20_000).map(chargen_byte).collect();
        assert_eq!(chargen_difference(start, &bytes), None);
        bytes[12] = b'x';
        assert_eq!(chargen_difference(start, &bytes), Some((12, chargen_byte(start + 12))));
    }
}
