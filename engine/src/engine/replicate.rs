//! The primary's side of replication: records out, confirmations in, snapshots for a newcomer.

use super::connection::{Body, Connection};
use super::Engine;
use crate::ids::{ConnId, Lsn};
use crate::replica::{Record, Snapshot};
use crate::tcp::Horizon;
use crate::time::{Duration, Instant};

/// How long acknowledged output may go untold. The standby keeps what is untold.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of snapshot per turn of the loop: well under a millisecond of work.
const SNAPSHOT_BUDGET: usize = 256 * 1024;

/// Unconfirmed bytes beyond which the snapshot waits, so that live traffic keeps its latency.
const SNAPSHOT_BACKLOG: u64 = 2 * 1024 * 1024;

impl Engine {
    /// A standby attached: from now on new connections are replicated, old ones as the snapshot
    /// reaches them.
    pub(super) fn attach_standby(&mut self) {
        self.log.reset();
        self.detach_connections();
        self.attached = true;
        self.log.append(&Record::SnapshotBegin { connections: self.table.len() as u32 });
        self.snapshot = Some(Snapshot::new(self.table.slots()));
        self.snapshot_end = None;
    }

    /// The standby is gone for good: horizons open (simplex).
    pub(super) fn detach_standby(&mut self, now: Instant) {
        self.attached = false;
        self.snapshot = None;
        self.snapshot_end = None;
        self.detach_connections();
        self.log.reset();
        let ids: Vec<ConnId> = self.table.iter_mut().map(|connection| connection.id).collect();
        for id in ids {
            self.touch(now, id);
        }
    }

    fn detach_connections(&mut self) {
        for connection in self.table.iter_mut() {
            connection.replicated = false;
            connection.progressed = false;
            connection.pending = Default::default();
            connection.horizon = Horizon::OPEN;
            if let Body::Live(tcb) = &mut connection.body {
                tcb.set_horizon(Horizon::OPEN);
            }
        }
        self.progress.clear();
    }

    /// Tells the standby of a new connection; until it knows, nothing of it shows.
    pub(super) fn replicate_opened(&mut self, id: ConnId) {
        if !self.attached {
            return;
        }
        let Some(lsn) = self.append_opened(id, false) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        self.log.note(&mut connection.pending, id, lsn, 0, 0);
        connection.horizon = Horizon { opened: false, received: 0, output: 0 };
        if let Body::Live(tcb) = &mut connection.body {
            tcb.set_horizon(connection.horizon);
        }
    }

    fn append_opened(&mut self, id: ConnId, snapshot: bool) -> Option<Lsn> {
        let ahead = self.clock.ahead_millis();
        let Self { table, log, scratch, .. } = self;
        let connection = table.get_mut(id)?;
        let Body::Live(tcb) = &connection.body else { return None };
        let mut hard = tcb.hard();
        // Timestamp offsets travel relative to the pair's clock.
        hard.ts_offset = hard.ts_offset.wrapping_sub(ahead);
        scratch.clear();
        hard.encode(scratch);
        let split = scratch.len();
        connection.app.snapshot(scratch);
        let (hard, app) = scratch.split_at(split);
        connection.replicated = true;
        let (tuple, service) = (connection.tuple, connection.service);
        Some(log.append(&Record::Opened { conn: id, tuple, kind: service, snapshot, hard, app }))
    }

    /// Moves the snapshot on by one turn's share.
    pub(super) fn advance_snapshot(&mut self) {
        let Some(mut snapshot) = self.snapshot.take() else { return };
        let start = self.log.backlog_bytes();
        while let Some(slot) = snapshot.peek() {
            let used = self.log.backlog_bytes() - start;
            if used > SNAPSHOT_BUDGET as u64 || self.log.backlog_bytes() > SNAPSHOT_BACKLOG {
                self.snapshot = Some(snapshot);
                return;
            }
            snapshot.advance();
            self.snapshot_slot(slot);
        }
        self.snapshot_end = Some(self.log.append(&Record::SnapshotEnd));
    }

    fn snapshot_slot(&mut self, slot: usize) {
        let Some(connection) = self.table.in_slot_mut(slot) else { return };
        if connection.replicated {
            return;
        }
        let id = connection.id;
        let Body::Live(tcb) = &connection.body else { return };
        let (received, output) = (tcb.received(), connection.app.output_end());
        let Some(lsn) = self.append_opened(id, true) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        // What it may reveal is what it may have revealed already, alone.
        connection.horizon = Horizon { opened: true, received, output };
        self.log.note(&mut connection.pending, id, lsn, received, output);
        if let Body::Live(tcb) = &mut connection.body {
            tcb.set_horizon(connection.horizon);
        }
    }

    /// The standby holds everything up to `lsn`.
    pub(super) fn on_confirm(&mut self, now: Instant, lsn: Lsn) {
        if let Err(violation) = self.log.on_confirm(lsn) {
            return self.break_link(now, &violation.to_string());
        }
        while let Some(commit) = self.log.poll_commit() {
            let Some(connection) = self.table.get_mut(commit.conn) else { continue };
            self.log.commit(&mut connection.pending, &commit);
            connection.horizon = match connection.pending.is_clear() {
                true => Horizon::OPEN,
                false => Horizon { opened: true, received: commit.received, output: commit.output },
            };
            if let Body::Live(tcb) = &mut connection.body {
                tcb.set_horizon(connection.horizon);
            }
            self.touch(now, commit.conn);
        }
        if self.snapshot_end.is_some_and(|end| end <= lsn) {
            self.snapshot_end = None;
            self.roles.on_duplex(now);
        }
    }

    /// Appends what changed since the last progress record of one connection.
    pub(super) fn log_progress(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Connection { body: Body::Live(tcb), replicated: true, .. } = connection else { return };
        let hard = tcb.hard();
        connection.progressed = false;
        self.log.append(&Record::Progress {
            conn: id,
            acked: hard.acked,
            window: hard.snd_wnd,
            ts_recent: hard.ts_recent,
            fin_acked: hard.fin_acked,
            handshake_done: hard.handshake_done,
        });
    }

    /// Tells all lazy progress if its time has come.
    pub(super) fn flush_progress(&mut self, now: Instant, force: bool) {
        if self.progress.is_empty() || (!force && now < self.progress_due) {
            return;
        }
        self.progress_due = now + PROGRESS_INTERVAL;
        let mut dirty = core::mem::take(&mut self.progress);
        for id in dirty.drain(..) {
            let progressed = self.table.get_mut(id).is_some_and(|connection| connection.progressed);
            if progressed {
                self.log_progress(id);
            }
        }
        self.progress = dirty;
    }
}
