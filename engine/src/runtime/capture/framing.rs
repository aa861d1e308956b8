//! Where the frames of the replication stream begin and end.
//!
//! The stream arrives cut anywhere, and a capture may begin in the middle of it. So the boundaries
//! are followed always, which costs a look at five bytes a frame; bytes are only looked at, and
//! put together where a frame came in pieces, while a capture runs.

use crate::replica::MAX_FRAME;

/// Length and kind, before every frame's body.
const HEADER: usize = 5;
/// Of a frame that comes in pieces, so many bytes are put together; the rest is only counted.
const KEPT_MAX: usize = 256 << 10;

/// Follows one direction of one stream.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// The start of a header that has not arrived whole.
    header: [u8; HEADER],
    /// How many bytes of it have; all of them within a frame's body.
    arrived: usize,
    /// Bytes of the present frame that are still to come.
    left: usize,
    /// Its length.
    length: usize,
    /// What came of it so far, if it was followed from its first byte by somebody who listens.
    kept: Vec<u8>,
    /// No frame is so long: where the next starts is not known any more.
    broken: bool,
}

/// A frame that has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Passed<'a> {
    /// Its bytes, header included; not all of them if it was very long.
    pub(super) bytes: &'a [u8],
    /// Its length.
    pub(super) length: usize,
}

impl Framing {
    /// A new stream begins.
    pub(super) fn reset(&mut self) {
        let mut kept = core::mem::take(&mut self.kept);
        kept.clear();
        *self = Self { kept, ..Self::default() };
    }

    /// `bytes` pass. With `listen`, `each` is told every frame that ends in them.
    pub(super) fn follow(
        &mut self,
        mut bytes: &[u8],
        listen: bool,
        mut each: impl FnMut(Passed<'_>),
    ) {
        while !bytes.is_empty() && !self.broken {
            if self.arrived == 0
                && let Some(length) = frame_length(bytes)
                && let Some((frame, rest)) = bytes.split_at_checked(length)
            {
                if listen {
                    each(Passed { bytes: frame, length });
                }
                bytes = rest;
            } else {
                bytes = self.follow_piece(bytes, listen, &mut each);
            }
        }
    }

    /// The next piece of a frame's header or of its body. Returns what follows it.
    fn follow_piece<'a>(
        &mut self,
        bytes: &'a [u8],
        listen: bool,
        each: &mut impl FnMut(Passed<'_>),
    ) -> &'a [u8] {
        if self.arrived < HEADER {
            let (piece, rest) = bytes.split_at(bytes.len().min(HEADER - self.arrived));
            self.header[self.arrived..self.arrived + piece.len()].copy_from_slice(piece);
            self.arrived += piece.len();
            if self.arrived == HEADER {
                self.begin(listen);
            }
            if self.left > 0 || self.arrived < HEADER {
                return rest;
            }
            self.end(listen, each);
            return rest;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(self.left));
        self.left -= piece.len();
        // Empty: nobody listened when it began.
        if !self.kept.is_empty() {
            let room = KEPT_MAX.saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        if self.left == 0 {
            self.end(listen, each);
        }
        rest
    }

    /// The header is there.
    fn begin(&mut self, listen: bool) {
        match frame_length(&self.header) {
            Some(length) if length <= MAX_FRAME => {
                self.length = length;
                self.left = length - HEADER;
            }
            Some(_) | None => self.broken = true,
        }
        if listen {
            self.kept.extend_from_slice(&self.header);
        }
    }

    /// The body is there.
    fn end(&mut self, listen: bool, each: &mut impl FnMut(Passed<'_>)) {
        if listen && !self.kept.is_empty() && !self.broken {
            each(Passed { bytes: &self.kept, length: self.length });
        }
        self.kept.clear();
        self.arrived = 0;
    }
}

/// How long the frame is that `bytes` begin with, as far as its header is there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let body = u32::from_le_bytes(*bytes.first_chunk::<HEADER>()?.first_chunk()?);
    usize::try_from(body).ok()?.checked_add(HEADER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replica::Frame;

    fn frame(body: usize) -> Vec<u8> {
        let mut frame = u32::try_from(body).unwrap().to_le_bytes().to_vec();
        frame.push(2);
        frame.extend((0..body).map(|n| n as u8));
        frame
    }

    fn follow(pieces: &[(&[u8], bool)]) -> Vec<Vec<u8>> {
        let mut framing = Framing::default();
        let mut frames = Vec::new();
        for (piece, listen) in pieces {
            framing.follow(piece, *listen, |passed| {
                assert_eq!(passed.bytes.len(), passed.length);
                frames.push(passed.bytes.to_vec());
            });
        }
        frames
    }

    proptest! {
        #[test]
        fn any_cutting_gives_the_same_frames(
            bodies in prop::collection::vec(0usize..40, 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let sent: Vec<_> = bodies.iter().map(|body| frame(*body)).collect();
            let stream = sent.concat();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> =
                cuts.windows(2).map(|ends| (&stream[ends[0]..ends[1]], true)).collect();
            prop_assert_eq!(follow(&pieces), sent);
        }

        #[test]
        fn any_bytes_are_followed_within_bounds(
            pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), any::<bool>()), 0..10),
        ) {
            let mut framing = Framing::default();
            for (piece, listen) in &pieces {
                framing.follow(piece, *listen, |_| ());
            }
            prop_assert!(framing.kept.len() <= KEPT_MAX);
        }
    }

    #[test]
    fn who_begins_to_listen_in_a_frame_hears_the_next() {
        let stream = [frame(9), frame(3)].concat();
        assert_eq!(follow(&[(&stream[..7], false), (&stream[7..], true)]), [frame(3)]);
        assert_eq!(follow(&[(&stream[..3], false), (&stream[3..], true)]), [frame(9), frame(3)]);
        assert_eq!(follow(&[(&stream[..7], true), (&stream[7..], false)]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn of_a_very_long_frame_the_beginning_is_kept() {
        let long = frame(KEPT_MAX + 100);
        let mut framing = Framing::default();
        let mut seen = Vec::new();
        for piece in long.chunks(1000) {
            framing.follow(piece, true, |passed| seen.push((passed.bytes.len(), passed.length)));
        }
        assert_eq!(seen, [(KEPT_MAX, long.len())]);
    }

    #[test]
    fn after_an_impossible_length_nothing_is_a_frame_until_the_next_stream() {
        let mut ping = Vec::new();
        Frame::Ping { token: 1 }.encode(&mut ping);
        let mut framing = Framing::default();
        let heard = |framing: &mut Framing, bytes: &[u8]| {
            let mut heard = 0;
            framing.follow(bytes, true, |_| heard += 1);
            heard
        };
        assert_eq!(heard(&mut framing, &[0xFF; 8]), 0);
        assert_eq!(heard(&mut framing, &ping), 0);
        framing.reset();
        assert_eq!(heard(&mut framing, &ping), 1);
    }
}
