//! The primary's side of replication: records out, confirmations in, snapshots for a newcomer.

use super::Engine;
use super::connection::{Body, Connection};
use super::settle::Before;
use super::setup::Level;
use super::table::slot_of;
use crate::ids::{ConnId, Lsn};
use crate::replica::{Log, Output, Record};
use crate::role::Role;
use crate::tcp::Horizon;
use crate::time::{Duration, Instant};

/// How long acknowledged output may go untold. The standby keeps what is untold.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(10);

/// Bytes of snapshot per turn of the loop: well under a millisecond of work.
pub(super) const SNAPSHOT_BUDGET: usize = 256 * 1024;

/// Unconfirmed bytes beyond which the snapshot waits, so that live traffic keeps its latency.
const SNAPSHOT_BACKLOG: u64 = 2 * 1024 * 1024;

/// How many detection times a standby may owe a confirmation, by default a second: longer than its
/// TCP needs to repair some losses, short enough for clients to sit out.
const STALL_DETECTIONS: u32 = 20;

/// How long a standby that stalled is kept away: at first, and at most. After as long without a
/// stall it begins anew.
const SHUN_MIN: Duration = Duration::from_secs(10);
const SHUN_MAX: Duration = Duration::from_secs(300);

/// The longest input record: longer runs are split, so that any fits into a frame.
const INPUT_MAX: usize = 256 * 1024;

/// How far the snapshot for a newcomer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotEnd {
    /// There is none under way.
    None,
    /// Its end has not been appended.
    Due,
    /// Its end is at this position, to be confirmed.
    At(Lsn),
}

/// Watches that a standby confirms. Its heartbeats say that its host and its process live, not
/// that the log reaches it: a network that passes small packets and drops large ones, or a process
/// that no longer reads, would hold back every client for ever.
///
/// Who stalled once is attached again only after a while, longer each time: a newcomer may well
/// take the snapshot of an idle pair and stall with the first large record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stall {
    confirmed: Lsn,
    /// When there last was progress, or nothing to confirm.
    since: Instant,
    /// When this was last looked at.
    looked: Instant,
    /// Nobody is attached before.
    until: Instant,
    /// How long that was after the last stall.
    wait: Duration,
}

impl Stall {
    pub(super) const fn new(now: Instant) -> Self {
        let until = Instant::ZERO;
        Self { confirmed: Lsn::ZERO, since: now, looked: now, until, wait: Duration::ZERO }
    }

    /// Until when nobody is attached.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// A standby attaches, or has made progress.
    fn begin(&mut self, now: Instant, confirmed: Lsn) {
        (self.confirmed, self.since, self.looked) = (confirmed, now, now);
    }

    /// How long the standby has owed a confirmation. `pause`: a gap between two looks after which
    /// this process, not the standby, stood still.
    pub(super) fn lasts(&mut self, now: Instant, log: &Log, pause: Duration) -> Duration {
        let idle = log.confirmed() == log.appended();
        if idle || log.confirmed() != self.confirmed || now.since(self.looked) > pause {
            self.begin(now, log.confirmed());
        }
        self.looked = now;
        now.since(self.since)
    }

    /// The standby is let go. Returns for how long.
    pub(super) fn shun(&mut self, now: Instant) -> Duration {
        let forgiven = now.since(self.until) > SHUN_MAX;
        self.wait = if forgiven { SHUN_MIN } else { (self.wait * 2).clamp(SHUN_MIN, SHUN_MAX) };
        self.until = now + self.wait;
        self.wait
    }
}

/// Appends in-order input of a connection. Returns the last record's position.
pub(super) fn append_input(
    log: &mut Log,
    conn: ConnId,
    mut offset: u64,
    ts_recent: u32,
    bytes: &[u8],
) -> Option<Lsn> {
    let mut last = None;
    for bytes in bytes.chunks(INPUT_MAX) {
        last = log.append(&Record::Input { conn, offset, ts_recent, bytes }).ok();
        offset += bytes.len() as u64;
    }
    last
}

impl Engine {
    /// Attaches whoever is at the other end, unless the last one stalled us a moment ago.
    pub(super) fn attach_if_trusted(&mut self, now: Instant) {
        let alone = self.roles.role() == (Role::Primary { duplex: false });
        if alone && self.owner && self.link.is_up() && !self.attached && now >= self.stall.until {
            self.attach_standby(now);
            self.link.carries_log = true;
        }
    }

    /// A standby attached: from now on new connections are replicated, old ones as the snapshot
    /// reaches them.
    pub(super) fn attach_standby(&mut self, now: Instant) {
        self.reset_log();
        self.begin_session();
        self.attached = true;
        self.stall.begin(now, self.log.confirmed());
        let connections = self.table.len() as u32;
        self.append(&Record::SnapshotBegin { connections });
        self.replicate_backends();
        self.snapshot.start(self.table.slots(), connections);
        self.splices.start(self.relays.slots(), self.relays.len() as u32);
        self.snapshot_end = SnapshotEnd::Due;
    }

    /// The standby is gone for good: horizons open (simplex).
    pub(super) fn detach_standby(&mut self, now: Instant) {
        self.attached = false;
        self.snapshot_end = SnapshotEnd::None;
        // Whoever waits for a confirmation need not any more.
        let waiting: Vec<ConnId> = self.log.unconfirmed().collect();
        self.begin_session();
        self.reset_log();
        for id in waiting {
            self.touch(now, id);
        }
        self.commit_splices(now);
    }

    /// Nothing that connections were told for the sake of the last standby holds any more: their
    /// horizons are open, and none of them is replicated.
    pub(super) fn begin_session(&mut self) {
        self.table.begin_session();
        self.progress.clear();
        self.unprotected = 0;
    }

    /// Counts a connection that the standby cannot be told of (I7).
    pub(super) fn expose(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if !connection.exposed {
            connection.exposed = true;
            self.unprotected += 1;
        }
    }

    /// Tells the standby of a new connection; until it knows, nothing of it shows.
    pub(super) fn replicate_opened(&mut self, id: ConnId) {
        if !self.attached {
            return;
        }
        self.snapshot.on_opened(slot_of(id));
        let Some(lsn) = self.append_opened(id, false) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        let limit = self.log.note(&mut connection.pending, id, lsn, 0, 0);
        assert!(limit.is_some(), "a new connection has no record before its first");
        connection.set_horizon(Horizon::SHUT);
    }

    /// Appends everything there is to know of a connection; from here on each of its records
    /// means something to the standby. `None`: it is too large to be protected.
    fn append_opened(&mut self, id: ConnId, snapshot: bool) -> Option<Lsn> {
        let ahead = self.clock.ahead_millis();
        let connection = self.table.get_mut(id)?;
        let Body::Live(tcb) = &connection.body else { return None };
        let mut hard = tcb.hard();
        // Timestamp offsets travel relative to the pair's clock.
        hard.ts_offset = hard.ts_offset.wrapping_sub(ahead);
        let mut state = core::mem::take(&mut self.scratch);
        state.clear();
        hard.encode(&mut state);
        let split = state.len();
        connection.app.snapshot(&mut state);
        let (tuple, kind) = (connection.tuple, connection.service);
        let (hard, app) = state.split_at(split);
        let appended =
            self.log.append(&Record::Opened { conn: id, tuple, kind, snapshot, hard, app });
        self.scratch = state;
        match appended {
            Ok(lsn) => {
                self.table.get_mut(id)?.replicated = true;
                Some(lsn)
            }
            Err(why) => {
                self.report(Level::Warn, format!("{tuple:?} is not protected: {why}"));
                self.expose(id);
                None
            }
        }
    }

    /// Whether a part of the snapshot can go out now.
    pub(super) fn snapshot_due(&self) -> bool {
        self.snapshot_end == SnapshotEnd::Due && self.log.backlog_bytes() <= SNAPSHOT_BACKLOG
    }

    /// Moves the snapshot on by one turn's share.
    pub(super) fn advance_snapshot(&mut self, now: Instant) {
        if !self.snapshot_due() {
            return;
        }
        self.snapshot.begin_turn(SNAPSHOT_BUDGET);
        while let Some(slot) = self.snapshot.next_slot() {
            self.snapshot_slot(now, slot);
        }
        if self.snapshot.is_complete() && self.advance_splices() {
            let end = self.append(&Record::SnapshotEnd);
            self.snapshot_end = end.map_or(SnapshotEnd::None, SnapshotEnd::At);
        }
    }

    fn snapshot_slot(&mut self, now: Instant, slot: usize) {
        let Some(id) = self.table.tenant(slot) else { return };
        self.wake(now, id);
        let Some(connection) = self.table.get_mut(id) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        // What it may reveal is what it may have revealed already, alone.
        let standing = Before::of(tcb, &connection.app);
        let bytes = self.log.backlog_bytes();
        let Some(lsn) = self.append_opened(id, true) else { return };
        self.snapshot.on_sent((self.log.backlog_bytes() - bytes) as usize);
        self.hold_back(id, standing, lsn);
    }

    /// Output commit (I1, I2): from now on nothing that depends on the record `lsn` shows before
    /// the standby holds it. `before` is where the connection stood without it.
    pub(super) fn hold_back(&mut self, id: ConnId, before: Before, lsn: Lsn) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        let received = tcb.received();
        if let Some(output) =
            self.log.note(&mut connection.pending, id, lsn, received, before.output)
        {
            let horizon = Horizon { opened: true, received: before.received, output };
            #[cfg(feature = "defects")]
            let horizon = super::mistakes::mistaken_horizon(&self.setup, horizon);
            connection.set_horizon(horizon);
        }
    }

    /// The standby holds everything up to `lsn`.
    pub(super) fn on_confirm(&mut self, now: Instant, lsn: Lsn) {
        if let Err(violation) = self.log.on_confirm(lsn) {
            return self.break_link(now, &violation.to_string());
        }
        while let Some(commit) = self.log.poll_commit() {
            let Some(connection) = self.table.get_mut(commit.conn) else { continue };
            let horizon = match commit.output {
                Output::All => Horizon::OPEN,
                Output::UpTo(output) => Horizon { opened: true, received: commit.received, output },
            };
            #[cfg(feature = "defects")]
            let horizon = super::mistakes::mistaken_horizon(&self.setup, horizon);
            connection.set_horizon(horizon);
            self.touch(now, commit.conn);
        }
        self.commit_splices(now);
        self.ask_for_duplex(now);
    }

    /// Tells the role machine that the standby holds everything, until it goes into duplex: while
    /// somebody else claims the address it does not.
    pub(super) fn ask_for_duplex(&mut self, now: Instant) {
        if !matches!(self.snapshot_end, SnapshotEnd::At(end) if end <= self.log.confirmed()) {
            return;
        }
        self.roles.on_duplex(now);
        if self.roles.role() == (Role::Primary { duplex: true }) {
            self.snapshot_end = SnapshotEnd::None;
        }
    }

    /// A standby that takes the log and confirms nothing is as good as none: the stream ends, and
    /// the role machine finds out whether it lives.
    pub(super) fn check_stall(&mut self, now: Instant) {
        if !self.attached || !self.link.carries_log {
            return;
        }
        let timing = self.setup.timing;
        let lasts = self.stall.lasts(now, &self.log, timing.pause());
        if lasts >= timing.detection * STALL_DETECTIONS {
            let wait = self.stall.shun(now);
            let line = format!(
                "the standby confirms nothing; unprotected for {} s at least",
                wait.as_secs()
            );
            self.report(Level::Warn, line);
            self.break_link(now, "nothing was confirmed for too long");
        }
    }

    /// Appends a record that cannot be too large.
    pub(super) fn append(&mut self, record: &Record<'_>) -> Option<Lsn> {
        self.log.append(record).ok()
    }

    /// An empty log that goes on where the last one ended: no position has two meanings.
    pub(super) fn reset_log(&mut self) {
        self.log.reset(self.log.appended().next());
    }

    /// Appends what changed since the last progress record of one connection.
    pub(super) fn log_progress(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Connection { body: Body::Live(tcb), replicated: true, .. } = connection else { return };
        let hard = tcb.hard();
        connection.progressed = false;
        self.append(&Record::Progress {
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
