//! The byte stream of the link, cut into frames.
//!
//! A frame that lies whole in what has just arrived is read where it lies. Only one that arrived
//! in pieces is put together in a buffer, each byte copied once; the buffer never holds more than
//! that one frame, and grows with what has arrived, not with what was announced.

use super::Violation;
use super::frame::{Frame, HEADER, frame_len};

/// Finds the frames of one session's stream. Start a new session with a new reader.
#[derive(Debug, Default)]
pub struct FrameReader {
    /// The beginning of a frame whose rest has not arrived.
    partial: Vec<u8>,
    /// `partial` has been handed out as a whole frame.
    taken: bool,
    /// The stream is beyond repair: where frames start is no longer known.
    broken: Option<Violation>,
}

/// Where the next frame lies.
enum Place<'i> {
    Input(&'i [u8]),
    Partial,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next frame. Call it with what has arrived, until it says `None`: then all of `input`
    /// is taken, and more has to arrive. After a violation it says the same for ever.
    ///
    /// ```
    /// # use standin::replica::{Frame, FrameReader};
    /// # let mut arrived = Vec::new();
    /// # Frame::Ping { token: 1 }.encode(&mut arrived);
    /// # let mut reader = FrameReader::new();
    /// let mut input = &arrived[..];
    /// while let Some(frame) = reader.next(&mut input)? {
    ///     assert_eq!(frame, Frame::Ping { token: 1 });
    /// }
    /// # Ok::<(), standin::replica::Violation>(())
    /// ```
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'s>>, Violation> {
        if let Some(violation) = self.broken {
            return Err(violation);
        }
        let place = self.find(input);
        let Self { partial, broken, .. } = self;
        let frame = place.and_then(|place| match place {
            None => Ok(None),
            Some(Place::Input(bytes)) => Frame::decode(bytes).map(Some),
            Some(Place::Partial) => Frame::decode(partial).map(Some),
        });
        frame.inspect_err(|violation| *broken = Some(*violation))
    }

    fn find<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Place<'i>>, Violation> {
        if self.taken {
            self.partial.clear();
            self.taken = false;
        }
        if self.partial.is_empty()
            && let Some(length) = frame_len(input)?
            && let Some((frame, rest)) = input.split_at_checked(length)
        {
            *input = rest;
            return Ok(Some(Place::Input(frame)));
        }
        self.fill(input, HEADER);
        let Some(length) = frame_len(&self.partial)? else {
            return Ok(None);
        };
        self.fill(input, length);
        assert!(self.partial.len() <= length, "a reader takes no byte of the frame behind");
        self.taken = self.partial.len() == length;
        Ok(self.taken.then_some(Place::Partial))
    }

    /// Moves bytes from `input` until `partial` is `length` long: never beyond this frame.
    fn fill(&mut self, input: &mut &[u8], length: usize) {
        let missing = length.saturating_sub(self.partial.len());
        let (taken, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(taken);
        *input = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{Epoch, Lsn};
    use crate::replica::MAX_FRAME;
    use crate::replica::strategies::frame;

    /// Feeds `pieces` and collects every frame, encoded again so that it outlives the reader.
    fn frames(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, Violation> {
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        for &piece in pieces {
            let mut input = piece;
            while let Some(frame) = reader.next(&mut input)? {
                let mut bytes = Vec::new();
                frame.encode(&mut bytes);
                frames.push(bytes);
            }
            assert!(input.is_empty(), "all input is taken");
        }
        Ok(frames)
    }

    proptest! {
        #[test]
        fn any_splitting_gives_the_same_frames(
            sent in prop::collection::vec(frame(), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let sent: Vec<Vec<u8>> = sent.iter().map(|frame| {
                let mut bytes = Vec::new();
                frame.borrow().encode(&mut bytes);
                bytes
            }).collect();
            let stream = sent.concat();
            let mut cuts: Vec<usize> =
                cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
            prop_assert_eq!(frames(&pieces), Ok(sent.clone()));

            let bytes: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(frames(&bytes), Ok(sent));
        }

        #[test]
        fn any_bytes_are_frames_or_a_violation(pieces: Vec<Vec<u8>>) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = frames(&pieces);
        }

        #[test]
        fn a_stream_broken_anywhere_is_frames_or_a_violation(
            frame in frame(), at: prop::sample::Index, with: u8,
        ) {
            let mut bytes = Vec::new();
            frame.borrow().encode(&mut bytes);
            let at = at.index(bytes.len());
            bytes[at] = with;
            let _ = frames(&[&bytes]);
        }
    }

    #[test]
    fn a_whole_frame_is_read_where_it_lies() {
        let records = [1; 100];
        let mut stream = Vec::new();
        Frame::Log { first: Lsn(1), epoch: Epoch(2), clock: 3, records: &records }
            .encode(&mut stream);
        let mut reader = FrameReader::new();
        let mut input = &stream[..];
        let Ok(Some(Frame::Log { records, .. })) = reader.next(&mut input) else {
            panic!("a log frame")
        };
        assert!(stream.as_ptr_range().contains(&records.as_ptr()));
        assert_eq!(reader.partial.capacity(), 0);
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut reader = FrameReader::new();
        let header = [0xfb, 0xff, 0xff, 0x03, 2];
        assert_eq!(frame_len(&header), Ok(Some(MAX_FRAME)));
        assert_eq!(reader.next(&mut &header[..]), Ok(None));
        assert!(reader.partial.capacity() < 64);
    }

    #[test]
    fn a_broken_stream_stays_broken() {
        let mut reader = FrameReader::new();
        let unknown =
            Violation::Value { what: "the kind of a frame", value: 9, expected: "1 to 8" };
        assert_eq!(reader.next(&mut &[0, 0, 0, 0, 9][..]), Err(unknown));
        let mut good = Vec::new();
        Frame::Ping { token: 1 }.encode(&mut good);
        assert_eq!(reader.next(&mut &good[..]), Err(unknown));
    }
}
