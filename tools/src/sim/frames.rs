//! Where in a frame of the replication protocol a stream is: to know what a reset cut in two.

/// Length and kind.
const HEADER: usize = 5;

/// What one end was handed of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    header: [u8; HEADER],
    /// Bytes of the header that have come.
    begun: usize,
    /// Bytes of the body that are still to come.
    left: usize,
}

impl Progress {
    /// More of the stream.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.begun < HEADER {
                self.header[self.begun] = bytes[0];
                self.begun += 1;
                bytes = &bytes[1..];
                let [a, b, c, d, _] = self.header;
                self.left = u32::from_le_bytes([a, b, c, d]) as usize;
            } else {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
            }
            if self.begun == HEADER && self.left == 0 {
                self.begun = 0;
            }
        }
    }

    /// Whether a frame has begun and is not whole.
    pub(super) const fn is_amid(&self) -> bool {
        self.begun > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_begun_from_its_first_byte_to_its_last() {
        let stream = [3, 0, 0, 0, 7, 1, 2, 3, 0, 0, 0, 0, 9];
        let mut progress = Progress::default();
        let amid: Vec<bool> = stream
            .iter()
            .map(|byte| {
                progress.take(&[*byte]);
                progress.is_amid()
            })
            .collect();
        let whole = amid.iter().enumerate().filter(|(_, amid)| !**amid).map(|(at, _)| at);
        assert_eq!(whole.collect::<Vec<_>>(), [7, 12]);
    }
}
