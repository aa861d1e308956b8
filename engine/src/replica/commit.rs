//! Group commit: which connection may say what, now that the standby holds more of the log.
//!
//! A connection's records stand at positions l1 < l2 < … of the log, among those of others. With
//! each it is noted how far its input came (`received`), and where its output ended before
//! (`output_before`): what it had produced until then does not depend on that record.
//!
//! ```text
//!  records of c     l1 ────────── l2 ────────── l3
//!  input up to      100           250           400
//!  output before          (1000)        (5000)        (9000)
//!                          confirmed: l1 … │ … l2 and l3 are not
//!                          received = 100  │  output = 5000, what came before l2
//! ```
//!
//! So the two horizons of c are the `received` of its last confirmed record (I1) and the
//! `output_before` of its first unconfirmed one (I2); no limit where there is none of those.
//!
//! All connections share one ring of entries in log order: a confirmation walks its front, and
//! costs the same for ten connections as for a million. An entry learns of the next one of its
//! connection when that is noted; the connection itself keeps a [`Pending`], 8 bytes.
//!
//! Two moments need care, and both are the caller's:
//! * Noting the first record after a pause lowers the output limit from "none" at once, because
//!   output from here on depends on that record. [`Ring::note`] returns that limit.
//! * A connection of a snapshot has been speaking without limits. From its note on it obeys
//!   `received` and `output_before` as they were noted, though its record is not confirmed yet:
//!   everything said before is in that record, everything after waits.

use crate::ids::{ConnId, Lsn};
use crate::slots::Queue;

/// How far a connection's output may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// All of it: every record of the connection is confirmed.
    All,
    /// Only bytes at stream offsets below this: the rest follows from a record that is not.
    UpTo(u64),
}

impl Output {
    /// The horizon as a number: `u64::MAX` is none.
    pub const fn limit(self) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::UpTo(limit) => limit,
        }
    }
}

/// What a connection may say from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Commit {
    /// The connection. It may have been closed meanwhile.
    pub conn: ConnId,
    /// Its last confirmed record.
    pub lsn: Lsn,
    /// Input up to this offset may be acknowledged; as noted with that record.
    pub received: u64,
    /// Output that may leave.
    pub output: Output,
}

/// A connection's end of the ring: keep it with the connection, and hand it to
/// [`super::Log::note`] with each of its records. The default is a connection without any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pending {
    /// Number of its newest entry. Entries are numbered from 1 and never again.
    entry: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    lsn: Lsn,
    conn: ConnId,
    received: u64,
    /// The next record of the same connection.
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    None,
    Noted { lsn: Lsn, output_before: u64 },
}

/// The entries of all records that are not both confirmed and reported.
#[derive(Debug)]
pub(super) struct Ring {
    entries: Queue<Entry>,
    /// The number of the front entry.
    front: u64,
    /// The last record noted.
    noted: Lsn,
}

impl Ring {
    /// An empty one, of a log that goes on behind `last`.
    pub(super) const fn new(last: Lsn) -> Self {
        Self { entries: Queue::new(), front: 1, noted: last }
    }

    /// Takes out all entries: nobody waits for the records any more. Every [`Pending`] is clear.
    pub(super) fn take(&mut self) -> Waiting {
        self.front += self.entries.len() as u64;
        Waiting(core::mem::take(&mut self.entries))
    }

    /// Whether there is something to poll, given that the log is confirmed up to `confirmed`.
    pub(super) fn is_due(&self, confirmed: Lsn) -> bool {
        self.entries.front().is_some_and(|front| front.lsn <= confirmed)
    }

    /// Notes that the record at `lsn` is one of `conn`, or that what `conn` shows depends on it. If the connection was clear, returns the
    /// output limit that it has to obey from now on.
    pub(super) fn note(
        &mut self,
        pending: &mut Pending,
        conn: ConnId,
        lsn: Lsn,
        received: u64,
        output_before: u64,
    ) -> Option<u64> {
        assert!(lsn >= self.noted, "records are noted in the order of the log");
        self.noted = lsn;
        let last = self.entry(*pending);
        let was_clear = last.is_none();
        if let Some(last) = last {
            assert!(last.conn == conn, "a pending belongs to one connection");
            assert!(last.received <= received, "input is not taken back");
            last.next = Next::Noted { lsn, output_before };
        }
        pending.entry = self.front + self.entries.len() as u64;
        self.entries.push_back(Entry { lsn, conn, received, next: Next::None });
        was_clear.then_some(output_before)
    }

    /// Whether everything noted with `pending` has been reported as committed.
    pub(super) const fn is_clear(&self, pending: Pending) -> bool {
        pending.entry < self.front
    }

    /// The next connection with more committed, given that the log is confirmed up to
    /// `confirmed`: one commit for each connection and confirmation, not one for each record. `None` when
    /// there is no more, or when `looks` is used up, of which each entry takes one.
    pub(super) fn poll(&mut self, confirmed: Lsn, looks: &mut usize) -> Option<Commit> {
        while *looks > 0
            && let Some(&entry) = self.entries.front()
            && entry.lsn <= confirmed
        {
            *looks -= 1;
            self.entries.pop_front();
            self.front += 1;
            let output = match entry.next {
                // A later entry, confirmed too, says all that this one could and more.
                Next::Noted { lsn, .. } if lsn <= confirmed => continue,
                Next::Noted { lsn, output_before } => {
                    assert!(lsn > entry.lsn, "I2: what holds output back comes later in the log");
                    Output::UpTo(output_before)
                }
                Next::None => Output::All,
            };
            let Entry { lsn, conn, received, .. } = entry;
            return Some(Commit { conn, lsn, received, output });
        }
        None
    }

    fn entry(&mut self, pending: Pending) -> Option<&mut Entry> {
        let index = pending.entry.checked_sub(self.front)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }
}

/// Those that waited for a standby that is gone, each as often as it had records on the way.
#[derive(Debug)]
pub struct Waiting(Queue<Entry>);

impl Iterator for Waiting {
    type Item = ConnId;

    fn next(&mut self) -> Option<ConnId> {
        Some(self.0.pop_front()?.conn)
    }
}

impl Waiting {
    /// Whether there is nobody left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops a piece of it. `false`: there was none left.
    pub fn pop_piece(&mut self) -> bool {
        self.0.pop_piece()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: ConnId = ConnId(7);

    /// The example of the module's header, at each point of the confirmation.
    #[test]
    fn horizons_lie_between_the_last_confirmed_and_the_first_unconfirmed_record() {
        let told = |confirmed: u64| {
            let (mut ring, mut c) = (Ring::new(Lsn::ZERO), Pending::default());
            assert_eq!(ring.note(&mut c, C, Lsn(3), 100, 1000), Some(1000));
            assert_eq!(ring.note(&mut c, C, Lsn(5), 250, 5000), None);
            assert_eq!(ring.note(&mut c, C, Lsn(9), 400, 9000), None);
            let commit = ring.poll(Lsn(confirmed), &mut 9);
            assert_eq!(ring.poll(Lsn(confirmed), &mut 9), None, "one for each connection");
            (commit.map(|commit| (commit.lsn.0, commit.received, commit.output)), ring.is_clear(c))
        };
        assert_eq!(told(2), (None, false));
        assert_eq!(told(3), (Some((3, 100, Output::UpTo(5000))), false));
        assert_eq!(told(4), (Some((3, 100, Output::UpTo(5000))), false));
        assert_eq!(told(8), (Some((5, 250, Output::UpTo(9000))), false));
        assert_eq!(told(9), (Some((9, 400, Output::All)), true));
    }

    #[test]
    fn a_record_noted_between_confirmation_and_poll_limits_the_output() {
        let (mut ring, mut c) = (Ring::new(Lsn::ZERO), Pending::default());
        assert_eq!(ring.note(&mut c, C, Lsn(1), 10, 0), Some(0));
        // Lsn 1 is confirmed here, and before anyone polls the client sends more.
        assert_eq!(ring.note(&mut c, C, Lsn(2), 20, 500), None);
        let commit = Commit { conn: C, lsn: Lsn(1), received: 10, output: Output::UpTo(500) };
        assert_eq!(ring.poll(Lsn(1), &mut 9), Some(commit));
        assert!(!ring.is_clear(c));
    }

    #[test]
    fn a_clear_connection_is_limited_at_once_by_its_next_record() {
        let (mut ring, mut c) = (Ring::new(Lsn::ZERO), Pending::default());
        assert!(ring.is_clear(c));
        let _ = ring.note(&mut c, C, Lsn(1), 10, 0);
        assert_eq!(ring.poll(Lsn(1), &mut 9).map(|commit| commit.output), Some(Output::All));
        assert!(ring.is_clear(c));
        assert_eq!(ring.note(&mut c, C, Lsn(2), 20, 700), Some(700));
    }

    #[test]
    fn nobody_waits_for_a_standby_that_is_gone() {
        let (mut ring, mut c, mut d) = (Ring::new(Lsn(6)), Pending::default(), Pending::default());
        let _ = ring.note(&mut c, C, Lsn(7), 10, 0);
        let _ = ring.note(&mut d, ConnId(8), Lsn(8), 5, 3);
        let _ = ring.note(&mut c, C, Lsn(9), 20, 0);
        assert!(ring.take().eq([C, ConnId(8), C]));
        assert!(ring.is_clear(c) && ring.is_clear(d) && !ring.is_due(Lsn(9)));
        assert_eq!(ring.poll(Lsn(9), &mut 9), None);

        // The entry that comes next is another's: the old pending does not mean it.
        assert_eq!(ring.note(&mut d, ConnId(8), Lsn(10), 5, 3), Some(3));
        assert!(ring.is_clear(c) && !ring.is_clear(d));
        assert_eq!(ring.note(&mut c, C, Lsn(11), 20, 1), Some(1));
    }

    #[test]
    fn a_confirmation_of_very_much_is_followed_a_share_at_a_time() {
        let mut ring = Ring::new(Lsn::ZERO);
        let mut pendings = [Pending::default(); 3];
        for lsn in 1..=3000 {
            let c = lsn as usize % 3;
            let _ = ring.note(&mut pendings[c], ConnId(c as u64), Lsn(lsn), lsn, lsn);
        }
        let (mut calls, mut commits) = (0, 0);
        while ring.is_due(Lsn(3000)) {
            let (mut looks, before) = (256, ring.entries.len());
            commits += core::iter::from_fn(|| ring.poll(Lsn(3000), &mut looks)).count();
            assert!(before - ring.entries.len() <= 256);
            calls += 1;
        }
        assert_eq!((calls, commits), (3000usize.div_ceil(256), 3));
        assert!(pendings.iter().all(|pending| ring.is_clear(*pending)));
    }

    #[test]
    fn the_ring_reuses_its_memory() {
        let (mut ring, mut c) = (Ring::new(Lsn::ZERO), Pending::default());
        let mut turn = |ring: &mut Ring, lsn: u64| {
            let _ = ring.note(&mut c, C, Lsn(lsn), lsn, lsn);
            let _ = ring.poll(Lsn(lsn - 1), &mut 9);
        };
        (1..100).for_each(|lsn| turn(&mut ring, lsn));
        let capacity = ring.entries.capacity();
        (100..10_000).for_each(|lsn| turn(&mut ring, lsn));
        assert_eq!((ring.entries.len(), ring.entries.capacity()), (1, capacity));
    }

    #[test]
    fn what_the_engine_keeps_for_each_connection_is_small() {
        assert!(size_of::<Pending>() <= 8 && size_of::<Entry>() <= 48);
    }
}
