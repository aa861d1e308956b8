//! Reading a file for its hash, a piece at a time, so that a small file need not wait for a large
//! one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::digests::Hash;
use super::stamp::Stamp;
use crate::time::Duration;

/// Bytes read at a time.
pub(super) const PIECE: usize = 256 << 10;

/// One file that is being read.
#[derive(Debug)]
pub(super) struct Hashing {
    pub(super) stamp: Stamp,
    file: Arc<File>,
    at: u64,
    hasher: Box<blake3::Hasher>,
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many bytes were read, and there are more.
    More(usize),
    /// The hash.
    Done(Hash),
    /// It is no longer the version that was asked for.
    Changed,
}

impl Hashing {
    pub(super) fn new(stamp: Stamp, file: Arc<File>) -> Self {
        Self { stamp, file, at: 0, hasher: Box::default() }
    }

    /// Bytes still to read.
    pub(super) fn left(&self) -> u64 {
        self.stamp.length.saturating_sub(self.at)
    }

    /// How long to wait before it makes sense to begin.
    pub(super) fn unsettled(&self) -> Duration {
        if self.at == 0 { self.stamp.unsettled() } else { Duration::ZERO }
    }

    /// Reads the next piece. The version is looked at before each and behind the last: whoever wrote
    /// in between has moved its times.
    pub(super) fn step(&mut self, buffer: &mut [u8]) -> io::Result<Step> {
        if !self.is_current()? {
            return Ok(Step::Changed);
        }
        if self.left() > 0 {
            let room = buffer.len().min(usize::try_from(self.left()).unwrap_or(usize::MAX));
            match self.file.read_at(&mut buffer[..room], self.at) {
                Ok(0) => return Ok(Step::Changed),
                Ok(read) => {
                    self.hasher.update(&buffer[..read]);
                    self.at += read as u64;
                    if self.left() > 0 {
                        return Ok(Step::More(read));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    return Ok(Step::More(0));
                }
                Err(error) => return Err(error),
            }
        }
        match self.is_current()? {
            true => Ok(Step::Done(*self.hasher.finalize().as_bytes())),
            false => Ok(Step::Changed),
        }
    }

    fn is_current(&self) -> io::Result<bool> {
        let now = Stamp::of(&self.file.metadata()?);
        Ok(now == self.stamp)
    }
}
