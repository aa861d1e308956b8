//! The primary's side of the log: records in, frames out, commits back.
//!
//! ```text
//!  positions   1 ……………… confirmed ……………… sent ……………… appended
//!              the standby has it │  on the link │ in the open batch
//!                                 └──── backlog_bytes() ────┘
//! ```
//!
//! A record is encoded once, into the batch, which already has the form of frames; a flush stamps
//! it and swaps it with the link's empty buffer. Read [`Commit`] for what a confirmation means to
//! a connection.

use std::collections::VecDeque;
use std::mem;

use super::commit::{Commit, Pending, Ring, Waiting};
use super::frame::{begin_log, finish, frame_len, stamp_log};
use super::{MAX_RECORD, Record, Violation};
use crate::ids::{ConnId, Epoch, Lsn};

/// A frame with more than this takes no further record. Well below [`super::MAX_FRAME`], so that
/// the standby can go to work on the first while the next is on its way.
const FRAME_TARGET: usize = 64 << 10;

/// A record that is longer than [`MAX_RECORD`]: its connection cannot be protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a record of {length} bytes, but at most {MAX_RECORD} fit into a frame")]
pub struct TooLarge {
    /// Its encoded length.
    pub length: usize,
}

/// A frame that is not confirmed: its last record, and all bytes of records up to there.
#[derive(Clone, Copy, Debug)]
struct Unconfirmed {
    last: Lsn,
    bytes: u64,
}

/// The log of a primary, for one standby at a time.
#[derive(Debug)]
pub struct Log {
    /// Frames that wait for the flush; the last may still take records.
    batch: Vec<u8>,
    /// Where the last frame of the batch starts.
    open: usize,
    /// The last record appended, sent, confirmed.
    appended: Lsn,
    sent: Lsn,
    confirmed: Lsn,
    /// Closed frames, oldest first.
    unconfirmed: VecDeque<Unconfirmed>,
    /// Bytes of records since the reset: appended, and confirmed.
    bytes_appended: u64,
    bytes_confirmed: u64,
    commits: Ring,
}

impl Log {
    /// An empty log for a standby that attaches, whose first record will be at `first`. That must not
    /// be 0, and should go on behind what the last log had appended, so that no position has two
    /// meanings.
    ///
    /// # Panics
    /// If `first` is 0.
    pub const fn starting_at(first: Lsn) -> Self {
        assert!(first.0 > 0, "position 0 is before the first record");
        let last = Lsn(first.0 - 1);
        Self {
            batch: Vec::new(),
            open: 0,
            appended: last,
            sent: last,
            confirmed: last,
            unconfirmed: VecDeque::new(),
            bytes_appended: 0,
            bytes_confirmed: 0,
            commits: Ring::new(last),
        }
    }

    /// Appends a record to the open batch. Returns its position.
    pub fn append(&mut self, record: &Record<'_>) -> Result<Lsn, TooLarge> {
        let length = record.encoded_len();
        if length > MAX_RECORD {
            return Err(TooLarge { length });
        }
        if self.batch.len() - self.open + length > FRAME_TARGET {
            self.close_frame();
        }
        if self.open == self.batch.len() {
            begin_log(&mut self.batch, self.appended.next());
        }
        record.encode(&mut self.batch);
        self.bytes_appended += length as u64;
        self.appended = self.appended.next();
        Ok(self.appended)
    }

    /// Notes the connection of the record at `lsn`, which has just been appended. `received`: input
    /// of `conn` up to there, this record included. `output_before`: the end of its output before
    /// this record had any effect.
    ///
    /// One note may stand for several records of the connection: give the last one's position and
    /// `received`, and `output_before` as it was before the first. Records on which neither
    /// acknowledgements nor output depend ([`Record::Progress`]) need none. Notes follow the order
    /// of the log.
    ///
    /// `received` counts as the horizon does: the FIN is a position of its own, and noted with
    /// [`Record::PeerFinished`].
    ///
    /// Returns the output limit that the connection has to obey *from now on*, if it had none:
    /// whatever it produces next depends on this record. A connection that has been speaking
    /// without a standby obeys both, `received` and this limit, from the note of its snapshot
    /// record on: what it said before is in that record, and what it says after has to wait.
    #[must_use = "without this limit the connection sends output that is not committed (I2)"]
    pub fn note(
        &mut self,
        pending: &mut Pending,
        conn: ConnId,
        lsn: Lsn,
        received: u64,
        output_before: u64,
    ) -> Option<u64> {
        assert!(lsn <= self.appended, "what is noted has been appended");
        assert!(lsn > self.confirmed, "what is noted cannot be confirmed already");
        self.commits.note(pending, conn, lsn, received, output_before)
    }

    /// Whether nothing of a connection waits: all its records are confirmed, and
    /// [`poll_commit`](Self::poll_commit) has said so. Then no output limit is in force.
    pub const fn is_clear(&self, pending: Pending) -> bool {
        self.commits.is_clear(pending)
    }

    /// Closes the batch and moves it to `out` as frames, stamped with the ownership's epoch and
    /// the pair's clock in nanoseconds. Does nothing if nothing has been appended.
    pub fn flush(&mut self, epoch: Epoch, clock: u64, out: &mut Vec<u8>) {
        self.close_frame();
        assert!(self.sent <= self.appended, "I1: nothing is sent that was not appended");
        stamp_frames(&mut self.batch, epoch, clock);
        self.open = 0;
        self.sent = self.appended;
        if out.is_empty() {
            // The usual case: the link has drained. Nothing is copied, both buffers live on.
            mem::swap(&mut self.batch, out);
        } else {
            out.append(&mut self.batch);
        }
    }

    fn close_frame(&mut self) {
        if self.open < self.batch.len() {
            finish(&mut self.batch, self.open);
            self.open = self.batch.len();
            let closed = Unconfirmed { last: self.appended, bytes: self.bytes_appended };
            self.unconfirmed.push_back(closed);
        }
    }

    /// The standby holds everything up to `lsn`. What that allows comes from
    /// [`poll_commit`](Self::poll_commit).
    pub fn on_confirm(&mut self, lsn: Lsn) -> Result<(), Violation> {
        let (before, sent) = (self.confirmed, self.sent);
        if lsn > sent {
            return Err(Violation::ConfirmedUnsent { confirmed: lsn, sent });
        }
        if lsn < before {
            return Err(Violation::ConfirmedLess { confirmed: lsn, before });
        }
        self.confirmed = lsn;
        assert!(self.confirmed <= self.sent, "I1: nothing counts as held that was not sent");
        while let Some(frame) = self.unconfirmed.front()
            && frame.last <= lsn
        {
            self.bytes_confirmed = frame.bytes;
            self.unconfirmed.pop_front();
        }
        Ok(())
    }

    /// The next connection that may say more since the last confirmation. Poll until `None`
    /// after each [`on_confirm`](Self::on_confirm), and again while [`has_commits`](Self::has_commits):
    /// each record that is passed takes one of `looks`. A commit implies that the connection's opening
    /// is committed.
    pub fn poll_commit(&mut self, looks: &mut usize) -> Option<Commit> {
        self.commits.poll(self.confirmed, looks)
    }

    /// Whether somebody may say more and was not told.
    pub fn has_commits(&self) -> bool {
        self.commits.is_due(self.confirmed)
    }

    /// Takes out all that wait for a confirmation: the standby is gone, or all connections are.
    pub fn take_waiting(&mut self) -> Waiting {
        self.commits.take()
    }

    /// Bytes of records that are appended and not confirmed; a frame counts until all of it is.
    pub const fn backlog_bytes(&self) -> u64 {
        self.bytes_appended - self.bytes_confirmed
    }

    /// Whether something waits for a flush.
    pub const fn needs_flush(&self) -> bool {
        !self.batch.is_empty()
    }

    /// The last record appended.
    pub const fn appended(&self) -> Lsn {
        self.appended
    }

    /// The last record sent.
    pub const fn sent(&self) -> Lsn {
        self.sent
    }

    /// The last record that the standby holds.
    pub const fn confirmed(&self) -> Lsn {
        self.confirmed
    }
}

/// Stamps each of the closed frames in `batch`.
fn stamp_frames(mut batch: &mut [u8], epoch: Epoch, clock: u64) {
    while let Ok(Some(length)) = frame_len(batch) {
        let (frame, rest) = batch.split_at_mut(length);
        stamp_log(frame, epoch, clock);
        batch = rest;
    }
    assert!(batch.is_empty(), "a batch is whole frames");
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
