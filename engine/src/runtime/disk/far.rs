//! Reading where the loop must not even ask a descriptor how it is: on file systems that another host or
//! another process serves. There every call may take as long as that one likes.
//!
//! ```text
//!   loop                                  one of the helpers for these
//!   read ──── block here? ──yes──► Ready
//!              └──no──► Pending, job ───► read the block, then fstat ──► block and version, wake
//! ```

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use super::blocks::BLOCK;
use super::helper::Block;
use super::questions::{About, Helper};
use super::stamp::Stamp;
use super::{Check, DiskStore};
use crate::service::{ContentId, Read};

/// Of so many blocks, by the helpers, one that is likely to be wanted next may be read already.
const AHEAD: usize = 8;

impl DiskStore {
    /// Serves from what was read, or has it read.
    pub(super) fn read_block(&mut self, key: usize, offset: u64, into: &mut [u8]) -> Read {
        let id = self.contents.id(key);
        if let Some((stamp, links)) = self.contents[key].seen {
            if let Err(answer) = self.file(key) {
                return answer;
            }
            match self.judge(key, stamp, links) {
                Check::Same => self.contents[key].seen = None,
                Check::Pending => return Read::Pending,
                Check::Gone => return Read::Gone,
            }
        }
        let number = offset / BLOCK;
        let read = self.blocks.read(id, offset, into);
        let wanted = if read.is_some() { number + 1 } else { number };
        let exists = wanted * BLOCK < self.contents[key].stamp.length;
        let early = read.is_some() && self.questions.under_way(Helper::Far) >= AHEAD;
        if exists && !early && !self.blocks.has(id, wanted) {
            match (read, self.file(key)) {
                (None, Err(answer)) => return answer,
                (Some(_), Err(_)) => {}
                (_, Ok(_)) => {
                    let content = (id, wanted * BLOCK);
                    if self.questions.ask(Helper::Far, About::Piece(id, wanted), content) {
                        self.dispatch();
                    }
                }
            }
        }
        read.map_or(Read::Pending, Read::Ready)
    }

    /// A helper has read a block, and looked at the file after that.
    pub(super) fn on_block(&mut self, id: ContentId, number: u64, block: Result<Block, ()>) {
        let Some(key) = self.contents.key(id) else { return };
        let Ok(Block { bytes, stamp, links }) = block else {
            self.contents[key].failed = true;
            return;
        };
        match self.judge(key, stamp, links) {
            Check::Same if bytes.is_empty() => self.contents[key].failed = true,
            Check::Same => {
                if self.blocks.insert(id, number, bytes) {
                    self.contents.hold(key);
                }
                while let Some(id) = self.blocks.next_surplus() {
                    self.contents.release(id);
                }
            }
            // The reader waits for its hash then, and has it read once more.
            Check::Pending => self.contents[key].seen = Some((stamp, links)),
            Check::Gone => self.contents[key].failed = true,
        }
    }
}

/// Reads a block, and then which version it is of.
pub(super) fn read_block(file: &File, offset: u64) -> std::io::Result<Block> {
    let mut bytes = vec![0; BLOCK as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match super::sys::read_at(file, &mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    let metadata = super::sys::facts(file)?;
    Ok(Block { bytes: bytes.into(), stamp: Stamp::of(&metadata), links: metadata.nlink() })
}
