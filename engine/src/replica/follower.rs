//! The standby's side of the log: batches in, records in order out, one answer for each batch.
//!
//! A session's log is `SnapshotBegin`, then records of all kinds with the old connections among
//! them, `SnapshotEnd`, then records without end. Between the last of a batch and the first of
//! the next nothing may be missing or twice: a stream cannot do that, so a peer that does is not
//! to be followed.

use super::{MAX_LSN, Record, Violation};
use crate::ids::{Epoch, Lsn};

/// How much of the snapshot has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Not even its beginning.
    Start,
    /// Its beginning; at most so many connections are still to come.
    Snapshot { left: u32 },
    /// All of it.
    Synced,
}

/// Follows the log of one session. Start a new session with a new follower.
#[derive(Debug)]
pub struct Follower {
    epoch: Epoch,
    /// The position of the next record; `None` until the first batch says where the log starts.
    next: Option<Lsn>,
    /// The last position handed out by [`confirm`](Self::confirm).
    confirmed: Lsn,
    phase: Phase,
}

impl Follower {
    /// Follows a primary that said it is in `epoch`. It may be in a later one soon, never in an
    /// earlier one.
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, next: None, confirmed: Lsn::ZERO, phase: Phase::Start }
    }

    /// A batch arrived: [`super::Frame::Log`]. Its records come from [`next`](Self::next).
    pub fn on_log(&mut self, first: Lsn, epoch: Epoch) -> Result<(), Violation> {
        if epoch < self.epoch {
            return Err(Violation::StaleEpoch { expected: self.epoch, found: epoch });
        }
        // A session may start anywhere but at 0, which means "nothing".
        let expected = self.next.unwrap_or(Lsn(first.0.max(1)));
        if first != expected || first.0 > MAX_LSN {
            return Err(Violation::Gap { expected, found: first });
        }
        self.epoch = epoch;
        self.next = Some(first);
        Ok(())
    }

    /// The next record of the batch, and its position; `None` when `records` is used up. Apply
    /// each before asking for the next: what was handed out counts as applied in
    /// [`confirm`](Self::confirm).
    ///
    /// ```
    /// # use standin::{ids::*, replica::*};
    /// # let mut out = Vec::new();
    /// # let mut log = Log::starting_at(Lsn(1));
    /// # log.append(&Record::SnapshotBegin { connections: 0 }).unwrap();
    /// # log.flush(Epoch(2), 0, &mut out);
    /// # let mut input = &out[..];
    /// # let mut reader = FrameReader::new();
    /// # let Ok(Some(Frame::Log { first, epoch, records, .. })) = reader.next(&mut input) else { panic!() };
    /// # let mut follower = Follower::new(Epoch(2));
    /// follower.on_log(first, epoch)?;
    /// let mut records = records;
    /// while let Some((lsn, record)) = follower.next(&mut records)? {
    ///     assert_eq!((lsn, record), (Lsn(1), Record::SnapshotBegin { connections: 0 }));
    /// }
    /// assert_eq!(follower.confirm(), Some(Lsn(1)));
    /// # Ok::<(), Violation>(())
    /// ```
    pub fn next<'a>(
        &mut self,
        records: &mut &'a [u8],
    ) -> Result<Option<(Lsn, Record<'a>)>, Violation> {
        if records.is_empty() {
            return Ok(None);
        }
        let Some(lsn) = self.next else {
            return Err(Violation::Gap { expected: Lsn(1), found: Lsn::ZERO });
        };
        let record = Record::decode(records)?;
        self.phase = self.phase.after(lsn, &record)?;
        self.next = Some(lsn.next());
        Ok(Some((lsn, record)))
    }

    /// The position to confirm, if records came since the last call: ask once for each batch.
    pub fn confirm(&mut self) -> Option<Lsn> {
        let applied = self.applied();
        if applied <= self.confirmed {
            return None;
        }
        self.confirmed = applied;
        Some(applied)
    }

    /// The last record handed out.
    pub const fn applied(&self) -> Lsn {
        match self.next {
            Some(Lsn(next)) => Lsn(next - 1),
            None => Lsn::ZERO,
        }
    }

    /// The newest epoch that the log was in.
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the snapshot is complete: this standby knows every connection.
    pub const fn is_synced(&self) -> bool {
        matches!(self.phase, Phase::Synced)
    }
}

impl Phase {
    /// The phase after the record at `lsn`, if it may stand here.
    const fn after(self, lsn: Lsn, record: &Record<'_>) -> Result<Self, Violation> {
        let expected = match (self, record) {
            (Self::Start, Record::SnapshotBegin { connections }) => {
                return Ok(Self::Snapshot { left: *connections });
            }
            (Self::Start, _) => "the beginning of the snapshot",
            (Self::Snapshot { .. }, Record::SnapshotEnd) => return Ok(Self::Synced),
            (Self::Snapshot { left }, Record::Opened { snapshot: true, .. }) => {
                match left.checked_sub(1) {
                    Some(left) => return Ok(Self::Snapshot { left }),
                    None => "no more connections than the snapshot's beginning said",
                }
            }
            (_, Record::SnapshotBegin { .. }) => "one snapshot in a session",
            (Self::Synced, Record::SnapshotEnd | Record::Opened { snapshot: true, .. }) => {
                "nothing of a snapshot after its end"
            }
            (Self::Snapshot { .. } | Self::Synced, _) => return Ok(self),
        };
        Err(Violation::OutOfPlace { lsn, found: record.name(), expected })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::ConnId;
    use crate::replica::strategies::{OwnedRecord, opened};

    fn encoded(records: &[OwnedRecord]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record.borrow().encode(&mut bytes));
        bytes
    }

    /// One batch: how many records came, or what was wrong.
    fn batch(
        follower: &mut Follower,
        first: u64,
        records: &[OwnedRecord],
    ) -> Result<usize, Violation> {
        follower.on_log(Lsn(first), Epoch(2))?;
        let bytes = encoded(records);
        let mut rest = &bytes[..];
        let mut count = 0;
        while let Some((lsn, record)) = follower.next(&mut rest)? {
            assert_eq!(lsn, Lsn(first + count as u64));
            assert_eq!(record, records[count].borrow());
            count += 1;
        }
        Ok(count)
    }

    fn begin(connections: u32) -> OwnedRecord {
        OwnedRecord::SnapshotBegin { connections }
    }

    const CLOSED: OwnedRecord = OwnedRecord::Closed { conn: 1, cause: 0 };
    const END: OwnedRecord = OwnedRecord::SnapshotEnd;

    #[test]
    fn a_session_is_followed_from_its_snapshot_on() {
        let mut follower = Follower::new(Epoch(2));
        assert_eq!((follower.confirm(), follower.is_synced()), (None, false));

        assert_eq!(batch(&mut follower, 41, &[begin(2), opened(1, false), opened(2, true)]), Ok(3));
        assert_eq!((follower.confirm(), follower.is_synced()), (Some(Lsn(43)), false));
        assert_eq!(follower.confirm(), None, "one answer for each batch");

        assert_eq!(batch(&mut follower, 44, &[CLOSED, END]), Ok(2));
        assert_eq!(batch(&mut follower, 46, &[opened(3, false)]), Ok(1));
        assert_eq!((follower.confirm(), follower.is_synced()), (Some(Lsn(46)), true));
    }

    #[test]
    fn gaps_and_repetitions_are_refused() {
        for found in [0, 1, 2, 4, u64::MAX] {
            let mut follower = Follower::new(Epoch(2));
            batch(&mut follower, 1, &[begin(0), END]).unwrap();
            assert_eq!(
                batch(&mut follower, found, &[CLOSED]),
                Err(Violation::Gap { expected: Lsn(3), found: Lsn(found) })
            );
            assert_eq!(follower.applied(), Lsn(2));
        }
    }

    #[test]
    fn a_session_starts_at_a_position_that_exists() {
        let start = |first| batch(&mut Follower::new(Epoch(2)), first, &[begin(0)]);
        assert_eq!(start(0), Err(Violation::Gap { expected: Lsn(1), found: Lsn(0) }));
        assert_eq!(start(MAX_LSN), Ok(1));
        assert!(start(MAX_LSN + 1).is_err());
    }

    #[test]
    fn a_superseded_owner_is_not_followed() {
        let mut follower = Follower::new(Epoch(2));
        assert_eq!(follower.on_log(Lsn(1), Epoch(5)), Ok(()));
        assert_eq!(
            follower.on_log(Lsn(1), Epoch(4)),
            Err(Violation::StaleEpoch { expected: Epoch(5), found: Epoch(4) })
        );
    }

    #[test]
    fn records_of_a_snapshot_have_their_place() {
        let refused = |records: &[OwnedRecord]| {
            let refused = batch(&mut Follower::new(Epoch(2)), 1, records);
            refused.map_err(|violation| violation.to_string())
        };
        assert_eq!(
            refused(&[CLOSED]),
            Err("record 1 is closed, expected the beginning of the snapshot".into())
        );
        assert_eq!(
            refused(&[begin(1), opened(1, true), opened(2, true)]),
            Err("record 3 is opened (snapshot), expected no more connections than the snapshot's \
                 beginning said"
                .into())
        );
        assert_eq!(
            refused(&[begin(0), begin(0)]),
            Err("record 2 is snapshot begin, expected one snapshot in a session".into())
        );
        for late in [opened(1, true), END] {
            let name = late.borrow().name();
            assert_eq!(
                refused(&[begin(1), END, late]),
                Err(format!("record 3 is {name}, expected nothing of a snapshot after its end"))
            );
        }
    }

    #[test]
    fn records_before_any_batch_are_refused() {
        let bytes = encoded(&[begin(0)]);
        assert!(Follower::new(Epoch(2)).next(&mut &bytes[..]).is_err());
    }

    proptest! {
        #[test]
        fn any_batches_are_records_or_a_violation(
            batches in prop::collection::vec((any::<u64>(), any::<u64>(), any::<Vec<u8>>()), 0..4),
        ) {
            let mut follower = Follower::new(Epoch(0));
            for (first, epoch, bytes) in &batches {
                let _ = follower.on_log(Lsn(*first), Epoch(*epoch));
                let mut rest = &bytes[..];
                while let Ok(Some(_)) = follower.next(&mut rest) {}
                let _ = follower.confirm();
            }
        }
    }

    #[test]
    fn a_record_is_borrowed_from_the_frame() {
        let input = OwnedRecord::Input { conn: 1, offset: 0, ts_recent: 0, bytes: vec![5; 1000] };
        let bytes = encoded(&[begin(0), input]);
        let mut follower = Follower::new(Epoch(2));
        follower.on_log(Lsn(1), Epoch(2)).unwrap();
        let mut rest = &bytes[..];
        follower.next(&mut rest).unwrap();
        let Ok(Some((Lsn(2), Record::Input { conn: ConnId(1), bytes: input, .. }))) =
            follower.next(&mut rest)
        else {
            panic!("input")
        };
        assert!(bytes.as_ptr_range().contains(&input.as_ptr()));
    }
}
