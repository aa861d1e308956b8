//! The primary's side of replication: records out, confirmations in, snapshots for a newcomer.

use super::Engine;
use super::connection::{Body, Connection};
use super::notice::{Breach, Notice};
use super::outbox::{Kind, Loose};
use super::owner::Owner;
use super::settle::Before;
use super::table::slot_of;
use crate::ids::{ConnId, Lsn, SpliceId};
use crate::replica::{Log, Output, Record, ServiceRef, Snapshot, SnapshotProgress, Waiting};
use crate::role::Role;
use crate::slots::Queue;
use crate::tcp::{CloseCause, Hard, Horizon};
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

/// Connections that are told of a confirmation in one turn, and whose progress is told.
const COMMITS_A_TURN: usize = 4096;
const PROGRESS_A_TURN: usize = 4096;

/// The longest input record: longer runs are split, so that any fits into a frame.
const INPUT_MAX: usize = 256 * 1024;

/// What an owner has for its standby.
#[derive(Debug)]
pub(super) struct Standby {
    pub(super) log: Log,
    /// How far it has been told of the connections that were there before it.
    pub(super) snapshot: Snapshot,
    /// The same of the splices, which follow the connections.
    pub(super) splices: Snapshot,
    pub(super) snapshot_end: SnapshotEnd,
    /// Connections whose progress it does not know yet.
    pub(super) progress: Vec<ConnId>,
    progress_due: Instant,
    /// Splices that it has been told of and has not confirmed, in the log's order.
    pub(super) unconfirmed: Queue<(Lsn, SpliceId)>,
}

/// Those that waited for a standby, when it is gone: they may go on without.
#[derive(Debug)]
pub(super) struct Released {
    connections: Waiting,
    splices: Queue<(Lsn, SpliceId)>,
}

/// The version of the protocol that calls services by their names.
const VERSION_NAMES: u16 = 4;

/// How far the snapshot for a newcomer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotEnd {
    /// Its end has not been appended.
    Due,
    /// Its end is at this position, to be confirmed.
    At(Lsn),
    /// The standby holds everything, or could not be told of its end.
    Over,
}

impl Standby {
    /// For one that attaches. The log goes on behind `position`.
    fn new(position: Lsn) -> Self {
        Self {
            log: Log::starting_at(position.next()),
            snapshot: Snapshot::new(),
            splices: Snapshot::new(),
            snapshot_end: SnapshotEnd::Due,
            progress: Vec::new(),
            progress_due: Instant::ZERO,
            unconfirmed: Queue::new(),
        }
    }

    /// It is gone, or all connections are. Returns those that waited for it.
    pub(super) fn release(&mut self) -> Released {
        let (connections, unconfirmed) = (self.log.take_waiting(), &mut self.unconfirmed);
        Released { connections, splices: core::mem::take(unconfirmed) }
    }

    /// All connections and splices are no more. Returns those that waited.
    pub(super) fn forget_connections(&mut self) -> Released {
        self.progress.clear();
        self.release()
    }

    /// How far the snapshot is, while it is under way.
    pub(super) fn snapshot_progress(&self) -> Option<SnapshotProgress> {
        let (connections, splices) = (self.snapshot.progress(), self.splices.progress());
        (self.snapshot_end != SnapshotEnd::Over).then_some(SnapshotProgress {
            sent: connections.sent + splices.sent,
            total: connections.total + splices.total,
        })
    }

    /// By when the lazy progress is to be told.
    pub(super) fn deadline(&self) -> Instant {
        if self.progress.is_empty() { Instant::NEVER } else { self.progress_due }
    }

    /// Whether a part of the snapshot can go out now.
    fn snapshot_due(&self) -> bool {
        self.snapshot_end == SnapshotEnd::Due && self.log.backlog_bytes() <= SNAPSHOT_BACKLOG
    }

    /// Whether a splice is confirmed that has not gone on.
    fn splices_due(&self) -> bool {
        let first = self.unconfirmed.front();
        first.is_some_and(|(lsn, _)| *lsn <= self.log.confirmed())
    }
}

impl Released {
    fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.splices.is_empty()
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.connections.pop_piece() || self.splices.pop_piece()
    }
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
        let Some(owner) = self.duty.owner().filter(|owner| owner.speaks) else { return };
        let trusted = now >= owner.stall.until && owner.standby.is_none();
        if alone && self.link.is_up() && trusted {
            self.attach_standby(now);
            self.link.carries_log = true;
        }
    }

    /// A standby attached: from now on new connections are replicated, old ones as the snapshot
    /// reaches them.
    pub(super) fn attach_standby(&mut self, now: Instant) {
        self.part_from_standby();
        let Self { duty, table, relays, position, .. } = self;
        let Some(owner) = duty.owner_mut() else { return };
        let connections = table.len() as u32;
        let mut standby = Standby::new(*position);
        standby.snapshot.start(table.slots(), connections);
        standby.splices.start(relays.slots(), relays.len() as u32);
        owner.stall.begin(now, standby.log.confirmed());
        owner.standby = Some(Box::new(standby));
        self.append(&Record::SnapshotBegin { connections });
        self.replicate_states();
        self.replicate_backends(now);
    }

    /// The standby is gone for good: horizons open (simplex).
    pub(super) fn detach_standby(&mut self, now: Instant) {
        self.part_from_standby();
        self.advance_commits(now);
        self.commit_splices(now);
    }

    /// Drops what there was for the last standby's sake. Nothing that connections were told for it holds
    /// any more: their horizons are open, and none of them is replicated.
    pub(super) fn part_from_standby(&mut self) {
        self.table.begin_era();
        self.unprotected = 0;
        let Some(owner) = self.duty.owner_mut() else { return };
        if let Some(mut standby) = owner.standby.take() {
            self.position = standby.log.appended();
            owner.released.push_back(standby.release());
        }
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
    pub(super) fn replicate_opened(&mut self, now: Instant, id: ConnId) {
        if !self.is_attached() {
            return;
        }
        self.bury_ended(now, id);
        // Of a session that the standby does not know it can be told with its other legs only.
        for leg in self.legs_with(id).skip(1) {
            self.tell_old(now, leg);
        }
        let Some(standby) = self.duty.standby_mut() else { return };
        standby.snapshot.on_opened(slot_of(id));
        let Some(lsn) = self.append_opened(id, false) else { return };
        let Self { table, duty, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        let Some(standby) = duty.standby_mut() else { return };
        let limit = standby.log.note(&mut connection.pending, id, lsn, 0, 0);
        assert!(limit.is_some(), "a new connection has no record before its first");
        connection.set_horizon(Horizon::SHUT);
    }

    /// Appends everything there is to know of a connection; from here on each of its records
    /// means something to the standby. `None`: it is too large to be protected.
    fn append_opened(&mut self, id: ConnId, snapshot: bool) -> Option<Lsn> {
        let ahead = self.clock.ahead_millis();
        let mut state = core::mem::take(&mut self.scratch);
        state.clear();
        let connection = self.table.get_mut(id)?;
        let Body::Live(tcb) = &connection.body else { return None };
        let mut hard = tcb.hard();
        // Timestamp offsets travel relative to the pair's clock.
        hard.ts_offset = hard.ts_offset.wrapping_sub(ahead);
        hard.encode(&mut state);
        let split = state.len();
        if let Some(place) = connection.place() {
            let told = self.other_legs_are_told(id);
            if told == Some(false) || !self.tells_sessions() {
                // Never one without the others.
                self.scratch = state;
                self.expose(id);
                return None;
            }
            self.put_membership(place, told.is_none(), &mut state);
        }
        let knows_names = self.link.speaks(VERSION_NAMES);
        let Self { table, duty, setup, .. } = self;
        let (connection, standby) = (table.get_mut(id)?, duty.standby_mut()?);
        connection.app.snapshot(&mut state);
        let (tuple, index) = (connection.tuple, connection.service);
        let service = match knows_names {
            true => ServiceRef::Name(setup.services[usize::from(index)].name),
            false => ServiceRef::Index(index),
        };
        let (hard, app) = state.split_at(split);
        let appended =
            standby.log.append(&Record::Opened { conn: id, tuple, service, snapshot, hard, app });
        self.scratch = state;
        match appended {
            Ok(lsn) => {
                self.table.get_mut(id)?.replicated = true;
                Some(lsn)
            }
            Err(why) => {
                self.report(Notice::TooLarge { tuple, why });
                self.expose(id);
                None
            }
        }
    }

    /// Appends what the handshake of a connection has settled that was dialled. Before the standby has it
    /// nothing shows that we know: what it has would begin anew, and find the other end further on.
    pub(super) fn log_stood(&mut self, id: ConnId) -> Option<Lsn> {
        let ahead = self.clock.ahead_millis();
        let Self { table, duty, .. } = self;
        let connection = table.get_mut(id).filter(|one| one.replicated)?;
        let Body::Live(tcb) = &connection.body else { return None };
        let mut hard = tcb.hard();
        if !hard.active_open {
            return None;
        }
        hard.ts_offset = hard.ts_offset.wrapping_sub(ahead);
        let mut state = Vec::with_capacity(Hard::LEN);
        hard.encode(&mut state);
        duty.standby_mut()?.log.append(&Record::Stood { conn: id, hard: &state }).ok()
    }

    /// Whether a part of the snapshot can go out now.
    pub(super) fn snapshot_due(&self) -> bool {
        self.duty.standby().is_some_and(Standby::snapshot_due)
    }

    /// Moves the snapshot on by one turn's share.
    pub(super) fn advance_snapshot(&mut self, now: Instant) {
        let Some(standby) = self.duty.standby_mut().filter(|standby| standby.snapshot_due()) else {
            return;
        };
        standby.snapshot.begin_turn(SNAPSHOT_BUDGET);
        while let Some(slot) = self.duty.standby_mut().and_then(|of| of.snapshot.next_slot()) {
            self.snapshot_slot(now, slot);
        }
        let told = self.duty.standby().is_some_and(|standby| standby.snapshot.is_complete());
        if told && self.advance_splices() {
            let end = self.append(&Record::SnapshotEnd);
            if let Some(standby) = self.duty.standby_mut() {
                standby.snapshot_end = end.map_or(SnapshotEnd::Over, SnapshotEnd::At);
            }
        }
    }

    fn snapshot_slot(&mut self, now: Instant, slot: usize) {
        let Some(id) = self.table.tenant(slot) else { return };
        self.bury_ended(now, id);
        for leg in self.legs_with(id) {
            self.tell_old(now, leg);
        }
    }

    /// Whoever was ended, itself or another leg of its session, and waits only for its reset to leave, is no
    /// more before a standby is told of the others: the reset goes on without it.
    fn bury_ended(&mut self, now: Instant, id: ConnId) {
        for leg in self.legs_with(id) {
            let Some(connection) = self.table.get_mut(leg) else { continue };
            let tuple = connection.tuple;
            let Some(tcb) = connection.tcb_mut().filter(|tcb| tcb.closed()) else { continue };
            if let Some(reset) = tcb.poll_transmit(now, &mut |_| 0) {
                self.push(Kind::Reset, Loose::Segment(tuple, reset));
            }
            self.end(now, leg, CloseCause::Aborted);
        }
    }

    /// Tells the standby of a connection that was there before it.
    fn tell_old(&mut self, now: Instant, id: ConnId) {
        self.wake(now, id);
        let Some(connection) = self.table.get_mut(id).filter(|one| !one.replicated) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        // What it may reveal is what it may have revealed already, alone.
        let standing = Before::of(tcb, &connection.app);
        let bytes = self.backlog_bytes();
        let Some(lsn) = self.append_opened(id, true) else { return };
        let bytes = self.backlog_bytes() - bytes;
        if let Some(standby) = self.duty.standby_mut() {
            standby.snapshot.on_sent(bytes as usize);
            // It may be a leg whose turn has not come.
            standby.snapshot.on_opened(slot_of(id));
        }
        self.hold_back(id, standing, lsn);
    }

    /// Output commit (I1, I2): from now on nothing that depends on the record `lsn` shows before
    /// the standby holds it. `before` is where the connection stood without it.
    pub(super) fn hold_back(&mut self, id: ConnId, before: Before, lsn: Lsn) {
        let Self { table, duty, .. } = self;
        let Some(standby) = duty.standby_mut() else { return };
        let Some(connection) = table.get_mut(id) else { return };
        let Body::Live(tcb) = &connection.body else { return };
        let received = tcb.received();
        let output_before = before.output;
        #[cfg(feature = "defects")]
        let output_before = {
            let now = connection.app.output_end();
            super::mistakes::mistaken_before(&self.setup, output_before, now)
        };
        let pending = &mut connection.pending;
        if let Some(output) = standby.log.note(pending, id, lsn, received, output_before) {
            let horizon = Horizon { opened: true, received: before.received, output };
            #[cfg(feature = "defects")]
            let horizon = super::mistakes::mistaken_horizon(&self.setup, horizon);
            connection.set_horizon(horizon);
        }
    }

    /// The standby holds everything up to `lsn`.
    pub(super) fn on_confirm(&mut self, now: Instant, lsn: Lsn) {
        let Some(standby) = self.duty.standby_mut() else { return };
        if let Err(violation) = standby.log.on_confirm(lsn) {
            return self.break_link(now, violation.into());
        }
        self.advance_commits(now);
        self.commit_splices(now);
        self.ask_for_duplex(now);
    }

    /// Lets a share of those go on whom the last confirmation concerns, or who waited for a standby that is
    /// gone.
    pub(super) fn advance_commits(&mut self, now: Instant) {
        let mut looks = COMMITS_A_TURN;
        while looks > 0
            && let Some(id) = self.next_released()
        {
            looks -= 1;
            self.work += 1;
            self.touch(now, id);
        }
        while let Some(standby) = self.duty.standby_mut()
            && let Some(commit) = standby.log.poll_commit(&mut looks)
        {
            self.work += 1;
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
    }

    /// The next connection that waits no longer, as the standby is gone.
    fn next_released(&mut self) -> Option<ConnId> {
        let released = &mut self.duty.owner_mut()?.released;
        while released.front().is_some_and(Released::is_empty) {
            released.pop_front();
        }
        released.iter_mut().find_map(|released| released.connections.next())
    }

    /// Whether somebody may say more and was not told.
    pub(super) fn commits_due(&self) -> bool {
        let released = self.duty.owner().is_some_and(|owner| !owner.released.is_empty());
        released || self.duty.standby().is_some_and(|standby| standby.log.has_commits())
    }

    /// The next splice that may go on: the standby has confirmed it, or is gone.
    pub(super) fn next_splice(&mut self) -> Option<SpliceId> {
        let Owner { released, standby, .. } = self.duty.owner_mut()?;
        let freed = released.iter_mut().find_map(|released| released.splices.pop_front());
        if let Some((_, id)) = freed {
            return Some(id);
        }
        let standby = standby.as_mut().filter(|standby| standby.splices_due())?;
        standby.unconfirmed.pop_front().map(|(_, id)| id)
    }

    /// Whether [`Self::next_splice`] has one.
    pub(super) fn splices_due(&self) -> bool {
        let Some(owner) = self.duty.owner() else { return false };
        owner.released.iter().any(|released| !released.splices.is_empty())
            || owner.standby.as_ref().is_some_and(|standby| standby.splices_due())
    }

    /// Tells the role machine that the standby holds everything, until it goes into duplex: while
    /// somebody else claims the address it does not.
    pub(super) fn ask_for_duplex(&mut self, now: Instant) {
        let Some(standby) = self.duty.standby_mut() else { return };
        let confirmed = standby.log.confirmed();
        if !matches!(standby.snapshot_end, SnapshotEnd::At(end) if end <= confirmed) {
            return;
        }
        self.roles.on_duplex(now);
        if self.roles.role() == (Role::Primary { duplex: true }) {
            standby.snapshot_end = SnapshotEnd::Over;
        }
    }

    /// A standby that takes the log and confirms nothing is as good as none: the stream ends, and
    /// the role machine finds out whether it lives.
    pub(super) fn check_stall(&mut self, now: Instant) {
        let timing = self.setup.timing;
        let Some(Owner { stall, standby: Some(standby), .. }) = self.duty.owner_mut() else {
            return;
        };
        if !self.link.carries_log {
            return;
        }
        let lasts = stall.lasts(now, &standby.log, timing.pause());
        if lasts >= timing.detection * STALL_DETECTIONS {
            let wait = stall.shun(now);
            self.report(Notice::StandbyStalled { wait });
            self.break_link(now, Breach::NothingConfirmed);
        }
    }

    /// Appends a record that cannot be too large, if there is somebody to be told.
    pub(super) fn append(&mut self, record: &Record<'_>) -> Option<Lsn> {
        self.duty.standby_mut()?.log.append(record).ok()
    }

    /// Appends what changed since the last progress record of one connection.
    pub(super) fn log_progress(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Connection { body: Body::Live(tcb), replicated: true, .. } = connection else { return };
        let hard = tcb.hard();
        connection.progressed = false;
        self.work += 1;
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
        let Some(standby) = self.duty.standby_mut() else { return };
        let progress = &mut standby.progress;
        if progress.is_empty() || (!force && now < standby.progress_due) {
            return;
        }
        let share = if force { progress.len() } else { PROGRESS_A_TURN };
        let rest = progress.len().saturating_sub(share);
        if rest == 0 {
            standby.progress_due = now + PROGRESS_INTERVAL;
        }
        for id in progress.split_off(rest) {
            let progressed = self.table.get_mut(id).is_some_and(|connection| connection.progressed);
            if progressed {
                self.log_progress(id);
            }
        }
    }
}
