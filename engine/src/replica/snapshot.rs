//! Pacing of a snapshot: the connections that were there before the standby, told a few at a time
//! while traffic goes on.
//!
//! ```text
//!  slots   0 ────────── cursor ──────────────── end ────────►
//!          told         │ still to be told      │ opened since: they have their own records
//!                       └ except slots whose tenant has changed (a bit for each)
//! ```
//!
//! The cursor walks the slots of the connection table once. It does not know the table: the engine
//! asks which slot is next, looks whether someone lives there, and tells. What is opened meanwhile
//! is told by its own record at once; what closes before its turn is never told. Until a
//! connection is told, none of its records may be appended: ask [`Snapshot::is_told`].

/// How far a snapshot is, in connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SnapshotProgress {
    /// Told.
    pub sent: u32,
    /// Told and to be told. Shrinks when one closes before its turn.
    pub total: u32,
}

/// What a look at a slot costs, even if nobody lives there: a turn over a large and nearly empty
/// table has to end too.
const VISIT_COST: i64 = 16;

/// A walk over all slots of the connection table.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Slots before this have had their turn.
    cursor: usize,
    /// Slots from here on were not there at the start.
    end: usize,
    /// What this turn may still send, bytes. Negative is a debt to be paid by the next turns.
    budget: i64,
    /// One bit for each slot below `end`: its tenant came after the start, or is gone.
    skip: Vec<u64>,
    progress: SnapshotProgress,
}

impl Snapshot {
    /// A snapshot of nothing: complete.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts, or starts again, over a table of `slots` slots in which `connections` live.
    pub fn start(&mut self, slots: usize, connections: u32) {
        self.skip.clear();
        self.skip.resize(slots.div_ceil(64), 0);
        (self.cursor, self.end, self.budget) = (0, slots, 0);
        self.progress = SnapshotProgress { sent: 0, total: connections };
    }

    /// Grants this turn `bytes` to send. What earlier turns left is not saved up, but what they
    /// sent too much is taken off.
    pub fn begin_turn(&mut self, bytes: usize) {
        let grant = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.budget = grant.saturating_add(self.budget.min(0));
    }

    /// The next slot to tell, until the turn's budget is used up or all have had their turn. If
    /// a connection lives there, append its [`super::Record::Opened`] and report it with
    /// [`on_sent`](Self::on_sent).
    pub fn next_slot(&mut self) -> Option<usize> {
        while self.budget > 0 && self.cursor < self.end {
            let slot = self.cursor;
            self.cursor += 1;
            self.budget -= VISIT_COST;
            if !self.is_skipped(slot) {
                return Some(slot);
            }
        }
        None
    }

    /// The connection in the slot that came last was told, in `bytes` bytes.
    pub fn on_sent(&mut self, bytes: usize) {
        self.budget = self.budget.saturating_sub_unsigned(bytes as u64);
        self.progress.sent += 1;
        assert!(self.progress.sent <= self.progress.total, "no connection is told twice");
    }

    /// A connection was opened in `slot`, and is told by its own record.
    pub fn on_opened(&mut self, slot: usize) {
        self.skip(slot);
    }

    /// The connection in `slot` was closed. If it has not been told, it never will be.
    pub fn on_closed(&mut self, slot: usize) {
        if !self.is_told(slot) {
            self.progress.total = self.progress.total.saturating_sub(1);
            self.skip(slot);
        }
    }

    /// Whether the standby has been told of the connection in `slot`, so that records of it mean
    /// something there.
    pub fn is_told(&self, slot: usize) -> bool {
        slot < self.cursor || slot >= self.end || self.is_skipped(slot)
    }

    /// Whether all slots have had their turn: time for [`super::Record::SnapshotEnd`].
    pub const fn is_complete(&self) -> bool {
        self.cursor == self.end
    }

    /// How far it is.
    pub const fn progress(&self) -> SnapshotProgress {
        self.progress
    }

    fn skip(&mut self, slot: usize) {
        if slot < self.end {
            self.skip[slot / 64] |= 1 << (slot % 64);
        }
    }

    fn is_skipped(&self, slot: usize) -> bool {
        self.skip.get(slot / 64).is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    /// All slots of one turn, each `bytes` long.
    fn turn(snapshot: &mut Snapshot, budget: usize, bytes: usize) -> Vec<usize> {
        snapshot.begin_turn(budget);
        let mut slots = Vec::new();
        while let Some(slot) = snapshot.next_slot() {
            snapshot.on_sent(bytes);
            slots.push(slot);
        }
        slots
    }

    #[test]
    fn a_new_snapshot_is_complete_and_everything_is_told() {
        let mut snapshot = Snapshot::new();
        assert!(snapshot.is_complete() && snapshot.is_told(0) && snapshot.is_told(1 << 20));
        assert_eq!(turn(&mut snapshot, 1000, 1), Vec::<usize>::new());
    }

    #[test]
    fn turns_keep_to_their_budget_and_pay_their_debts() {
        let mut snapshot = Snapshot::new();
        snapshot.start(6, 6);
        assert_eq!(turn(&mut snapshot, 250, 84), [0, 1, 2], "100 bytes each, the last in debt");
        assert_eq!(turn(&mut snapshot, 250, 984), [3], "50 bytes are owed");
        assert_eq!(snapshot.progress(), SnapshotProgress { sent: 4, total: 6 });
        assert!((0..3).all(|_| turn(&mut snapshot, 250, 84).is_empty()), "800 bytes are owed");
        assert_eq!(turn(&mut snapshot, 250, 84), [4, 5]);
        assert!(snapshot.is_complete());
    }

    #[test]
    fn a_slot_that_changed_hands_is_not_visited() {
        let mut snapshot = Snapshot::new();
        snapshot.start(4, 4);
        assert_eq!(turn(&mut snapshot, 1, 1), [0]);
        snapshot.on_closed(2);
        assert_eq!(snapshot.progress(), SnapshotProgress { sent: 1, total: 3 });
        snapshot.on_opened(2);
        snapshot.on_closed(2);
        snapshot.on_closed(0);
        assert_eq!(
            snapshot.progress(),
            SnapshotProgress { sent: 1, total: 3 },
            "both had been told"
        );
        assert_eq!(
            (1..6).map(|slot| snapshot.is_told(slot)).collect::<Vec<_>>(),
            [false, true, false, true, true]
        );
        assert_eq!(turn(&mut snapshot, 1000, 1), [1, 3]);
    }

    #[test]
    fn a_large_and_empty_table_does_not_take_one_turn() {
        let mut snapshot = Snapshot::new();
        snapshot.start(1 << 20, 0);
        snapshot.begin_turn(1 << 16);
        let visits = std::iter::from_fn(|| snapshot.next_slot()).count();
        assert_eq!(visits, (1 << 16) / 16);
    }

    #[test]
    fn a_snapshot_can_start_again() {
        let mut snapshot = Snapshot::new();
        snapshot.start(3, 3);
        snapshot.on_closed(1);
        assert_eq!(turn(&mut snapshot, 40, 1), [0, 2]);
        snapshot.start(4, 2);
        assert_eq!(snapshot.progress(), SnapshotProgress { sent: 0, total: 2 });
        assert!(!snapshot.is_told(1) && !snapshot.is_complete());
    }

    proptest! {
        /// Random opens, closes and turns over a table: the standby ends up knowing exactly who
        /// lives, and nobody was told twice.
        #[test]
        fn the_standby_ends_up_with_exactly_the_living(
            old in prop::collection::btree_set(0usize..80, 0..40),
            steps in prop::collection::vec((0usize..90, 0usize..300), 0..200),
        ) {
            let mut table: BTreeMap<usize, u32> = old.iter().map(|&slot| (slot, 0)).collect();
            let mut known: BTreeSet<(usize, u32)> = BTreeSet::new();
            let mut snapshot = Snapshot::new();
            snapshot.start(80, u32::try_from(old.len()).unwrap());
            let mut tenants = 0;
            for (slot, bytes) in steps.into_iter().chain([(usize::MAX, usize::MAX); 2]) {
                if bytes < 200 && let Some(tenant) = table.remove(&slot) {
                    prop_assert_eq!(known.remove(&(slot, tenant)), snapshot.is_told(slot));
                    snapshot.on_closed(slot);
                } else if bytes < 200 {
                    tenants += 1;
                    table.insert(slot, tenants);
                    known.insert((slot, tenants));
                    snapshot.on_opened(slot);
                } else {
                    snapshot.begin_turn(bytes - 200);
                    while let Some(slot) = snapshot.next_slot() {
                        if let Some(&tenant) = table.get(&slot) {
                            prop_assert!(known.insert((slot, tenant)), "told twice");
                            snapshot.on_sent(60);
                        }
                    }
                }
                for (&slot, &tenant) in &table {
                    prop_assert_eq!(snapshot.is_told(slot), known.contains(&(slot, tenant)));
                }
            }
            prop_assert!(snapshot.is_complete());
            prop_assert_eq!(snapshot.progress().sent, snapshot.progress().total);
            prop_assert_eq!(known, table.into_iter().collect::<BTreeSet<_>>());
        }
    }
}
