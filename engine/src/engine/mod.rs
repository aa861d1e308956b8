//! The engine: TCP, replication, roles and services composed, still pure.
//!
//! ```text
//!   packets ──► on_packet ─┐                        ┌─► poll_packet ──► packets
//!   frames ───► on_frame ──┤                        ├─► poll_action ──► frames, beats, routes, …
//!   beats ────► on_beat ───┤   Engine (now, input)  ├─► link_output ──► replication stream
//!   stream ───► on_link ───┤                        ├─► deadline
//!   time ─────► on_timer ──┘                        └─► speak_until (the write gate, I3)
//! ```
//!
//! The host calls an `on_` function for whatever happened, then carries out every
//! [`Engine::poll_action`] in order, then writes what [`Engine::link_output`] holds, then puts
//! [`Engine::poll_packet`] on the wire, each packet only while a fresh clock shows less than
//! [`Engine::speak_until`]. That order is I5: state, route, gate, announcement, nudge.

mod connection;
mod cookies;
mod counts;
mod doubt;
mod follow;
mod hosts;
mod inbound;
mod incompatible;
mod lingering;
mod link;
#[cfg(feature = "defects")]
mod mistakes;
mod obstacle;
mod outbox;
mod output;
mod questions;
mod relaying;
mod replicate;
mod rota;
mod settle;
mod setup;
mod stats;
mod status;
mod table;
mod takeover;
#[cfg(test)]
mod tests;
mod unserved;
mod wake;
mod why;

use core::fmt;
use core::net::IpAddr;
use std::collections::VecDeque;

use crate::ids::{ConnId, Lsn, SpliceId};
use crate::limiter::Limiter;
use crate::neighbour::{self, Neighbour};
use crate::relay::Relays;
use crate::replica::{Follower, Heartbeat, Log, Snapshot};
use crate::role::{Path, Reply, Roles, Timing};
use crate::service::{PinBytes, Store};
use crate::tcp::isn::Secret;
use crate::tcp::wheel::Wheel;
use crate::time::{Duration, Instant};
use crate::wire::{MacAddr, Reassembler};

use cookies::Cookies;
use doubt::Doubts;
use hosts::PeerHost;
use incompatible::Incompatible;
use lingering::Lingering;
use link::Link;
use outbox::Outbox;
use questions::Questions;
use replicate::{SnapshotEnd, Stall};
use rota::Rota;
use setup::PairClock;
use table::Table;
use wake::{Recent, Walk};

pub use obstacle::{OBSTACLES_MAX, Obstacle};
pub use outbox::Relayed;
pub use output::PACKET_BUFFER;
pub use setup::{Action, ExitReason, Level, LinkInput, ServicePort, Setup};
pub use stats::Stats;
pub use status::{BackendStatus, PeerStatus, Status};

/// Memory for fragments of packets to the service address, and how long one may wait (RFC 1122
/// §3.3.2 asks for 60 s at least between hosts that lose; 30 s is what Linux uses).
const FRAGMENT_MEMORY: usize = 4 * 1024 * 1024;
const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// What anybody on the network can make the engine complain of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Complaint {
    /// Somebody announces a service address of ours.
    Claimed,
    /// There is no room for another connection.
    Full,
}

/// The store, which need not be printable.
struct Shelf(Box<dyn Store>);

impl Shelf {
    fn as_mut(&mut self) -> &mut dyn Store {
        self.0.as_mut()
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("store")
    }
}

/// One node of a pair.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    store: Shelf,
    roles: Roles,
    neighbour: Neighbour,
    secret: Secret,
    clock: PairClock,
    /// Unix time in seconds, as last told.
    wall: u64,

    /// Whether this engine answers for the service address.
    owner: bool,
    /// Whether it has said so on the LAN, with the write gate open since.
    announced: bool,
    table: Table,
    half_open: usize,
    cookies: Cookies,
    lingering: Lingering,
    /// Connections that may have something to send, each once.
    ready: VecDeque<ConnId>,
    /// Connections that only have to say that the path is good.
    quiet: VecDeque<ConnId>,
    wheel: Wheel<ConnId>,
    /// Standby: the connections of the last seconds. Owner: those that are to wake.
    recent: Recent,
    walk: Walk,
    /// Connections that wait for the content store, each once.
    waiting: Vec<ConnId>,
    outbox: Outbox,
    questions: Questions,
    rota: Rota,
    relays: Relays,
    /// Splices that the standby has been told of and has not confirmed, in the log's order.
    unconfirmed: VecDeque<(Lsn, SpliceId)>,
    reassembler: Reassembler,
    ip_id: u16,

    link: Link,
    /// Whether records go to a standby.
    attached: bool,
    log: Log,
    snapshot: Snapshot,
    /// The same for splices, which follow the connections.
    splices: Snapshot,
    snapshot_end: SnapshotEnd,
    stall: Stall,
    /// Connections whose progress the standby does not know yet.
    progress: Vec<ConnId>,
    progress_due: Instant,
    follower: Option<Follower>,
    /// How many connections the snapshot that is arriving was to have.
    expected: u32,
    /// From when on another claimant, or a full table, is worth a line again.
    complaints: Limiter<Complaint>,
    /// Who answered a probe for the service address.
    holder: Option<(IpAddr, MacAddr)>,
    /// Connections that a takeover would lose (I7): held ones that this node could not continue
    /// byte for byte, own ones that the standby could not be told of.
    unprotected: u32,
    /// What was said lately of files that stand in the way of that.
    doubts: Doubts,
    /// What the peer's last heartbeat said.
    peer: Option<Heartbeat>,
    /// What keeps this host from carrying the service.
    obstacles: Vec<Obstacle>,
    /// What the peer said of its host on this stream.
    peer_host: Option<PeerHost>,
    /// What was last told of how the hosts differ.
    differences: String,
    /// Why the peer is no partner, and when that was told.
    incompatible: Incompatible,
    /// Whether the interface of the replication address has a carrier.
    cable: bool,

    actions: VecDeque<Action>,
    pins: Vec<PinBytes>,
    scratch: Vec<u8>,
    stats: Stats,
}

impl Engine {
    /// An engine at rest: it listens, and dials its peer, before it does anything else.
    pub fn new(mut setup: Setup, store: Box<dyn Store>, now: Instant) -> Self {
        setup.fit_segments();
        let roles = Roles::new(now, setup.node, setup.boot, setup.timing, setup.policy);
        let neighbour = Neighbour::new(neighbour::Settings {
            mac: setup.mac,
            addresses: setup.addresses.clone(),
            router: setup.router,
        });
        let mut engine = Self {
            store: Shelf(store),
            roles,
            neighbour,
            secret: Secret { key: setup.isn_key },
            clock: PairClock::starting_at(setup.clock_origin),
            wall: 0,
            owner: false,
            announced: false,
            table: Table::new(setup.table_key, setup.connections_max, setup.live_max),
            half_open: 0,
            cookies: Cookies::default(),
            lingering: Lingering::default(),
            ready: VecDeque::new(),
            quiet: VecDeque::new(),
            wheel: Wheel::new(now),
            recent: Recent::default(),
            walk: Walk::default(),
            waiting: Vec::new(),
            outbox: Outbox::default(),
            questions: Questions::new(setup.table_key),
            rota: Rota::default(),
            relays: relaying::relays(&setup),
            unconfirmed: VecDeque::new(),
            reassembler: Reassembler::new(FRAGMENT_MEMORY, FRAGMENT_TIMEOUT),
            ip_id: 0,
            link: Link::default(),
            attached: false,
            log: Log::new(),
            snapshot: Snapshot::new(),
            splices: Snapshot::new(),
            snapshot_end: SnapshotEnd::None,
            stall: Stall::new(now),
            progress: Vec::new(),
            progress_due: Instant::ZERO,
            follower: None,
            expected: 0,
            complaints: Limiter::default(),
            holder: None,
            unprotected: 0,
            doubts: Doubts::default(),
            peer: None,
            obstacles: Vec::new(),
            peer_host: None,
            differences: String::new(),
            incompatible: Incompatible::default(),
            cable: true,
            actions: VecDeque::new(),
            pins: Vec::new(),
            scratch: Vec::new(),
            stats: Stats::default(),
            setup,
        };
        engine.follow_roles(now);
        engine
    }

    /// How fast it notices and decides.
    pub fn timing(&self) -> Timing {
        self.setup.timing
    }

    /// Tells the time of day, in seconds since 1970. Used for HTTP dates alone.
    pub fn set_wall(&mut self, seconds: u64) {
        self.wall = seconds;
    }

    /// An ARP or neighbour discovery frame arrived on the LAN.
    pub fn on_frame(&mut self, now: Instant, frame: &[u8]) {
        let event = self.neighbour.on_frame(now, frame, self.owner);
        self.follow_neighbour(now, event);
    }

    /// The LAN interface gained or lost its carrier.
    pub fn on_carrier(&mut self, now: Instant, up: bool) {
        self.roles.on_lan(now, up);
        self.follow_roles(now);
    }

    /// The LAN interface has another hardware address: whoever knows the old one is told.
    pub fn on_lan_mac(&mut self, now: Instant, mac: MacAddr) {
        if mac != self.setup.mac {
            let line = format!(
                "the LAN interface has MAC address {mac} now, no longer {}",
                self.setup.mac
            );
            self.report(Level::Info, line);
            self.setup.mac = mac;
            self.neighbour.on_mac(now, mac);
        }
    }

    /// The content store has news for some connection that waits for it.
    pub fn on_content(&mut self, now: Instant) {
        for id in core::mem::take(&mut self.waiting) {
            self.on_content_for(now, id);
        }
    }

    /// The arbiter's answer to question `number`, or the news that there will be none. `now` is to
    /// be read after the answer arrived.
    pub fn on_arbiter(&mut self, now: Instant, number: u64, reply: Option<Reply>) {
        self.roles.on_arbiter(now, number, reply);
        self.follow_roles(now);
    }

    /// An operator asks for a planned hand-over. One that would lose connections is refused: the
    /// reason is for a person, and `forced` is the operator's word that it shall be all the same.
    pub fn on_switchover(&mut self, now: Instant) -> Result<(), String> {
        let reasons = self.why_not_hand_over(now);
        if reasons.is_empty() {
            return self.on_forced_switchover(now);
        }
        Err(reasons.join("; "))
    }

    /// Whether there is somebody to hand over to, whatever that would lose.
    pub fn can_hand_over(&self) -> bool {
        self.roles.check_switchover().is_ok()
    }

    /// An operator asks for a hand-over, whatever it loses. What cannot be is refused all the same.
    pub fn on_forced_switchover(&mut self, now: Instant) -> Result<(), String> {
        if let Err(refusal) = self.roles.on_switchover(now) {
            let reasons = self.why_not_hand_over(now);
            let refusal = refusal.to_string();
            return Err(if reasons.is_empty() { refusal } else { reasons.join("; ") });
        }
        self.follow_roles(now);
        Ok(())
    }

    /// Time has passed.
    pub fn on_timer(&mut self, now: Instant) {
        self.store.as_mut().on_timer(now);
        self.roles.on_timer(now);
        self.follow_roles(now);
        let event = self.neighbour.on_timer(now);
        self.follow_neighbour(now, event);
        if self.owner {
            self.on_alarms(now);
            self.relay_timer(now);
            self.reassembler.expire(now);
            self.flush_progress(now, false);
            self.advance_waking(now);
            self.questions.on_timer(now);
            self.table.park_surplus();
            self.advance_snapshot(now);
            self.ask_for_duplex(now);
            self.follow_roles(now);
            self.check_stall(now);
            self.attach_if_trusted(now);
        }
    }

    /// When to call [`Self::on_timer`] at the latest.
    pub fn deadline(&self) -> Instant {
        let mut deadline =
            self.roles.deadline().min(self.neighbour.deadline().unwrap_or(Instant::NEVER));
        if self.owner {
            let alarms = self.wheel.next().unwrap_or(Instant::NEVER);
            let progress =
                if self.progress.is_empty() { Instant::NEVER } else { self.progress_due };
            let fragments = self.reassembler.deadline().unwrap_or(Instant::NEVER);
            // A snapshot that waits for confirmations goes on when they come.
            let due = self.snapshot_due() || self.waking_due();
            let snapshot = if due { Instant::ZERO } else { Instant::NEVER };
            let relays = if self.announced { self.relays.deadline() } else { Instant::NEVER };
            let others = fragments.min(snapshot).min(relays).min(self.questions.deadline());
            deadline = deadline.min(alarms).min(progress).min(others);
        }
        deadline
    }

    /// Until when this engine may put packets and announcements of the service address on the wire
    /// (I3). The host compares it with a fresh clock before each one.
    pub fn speak_until(&self) -> Instant {
        #[cfg(feature = "defects")]
        if self.owner && self.setup.has(crate::defects::Defect::SpeakAfterLease) {
            return Instant::NEVER;
        }
        if self.owner { self.roles.speak_until() } else { Instant::ZERO }
    }

    /// What the host has to do, oldest first.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if self.actions.is_empty() {
            self.queue_frames_and_beats(now);
        }
        self.actions.pop_front()
    }

    fn queue_frames_and_beats(&mut self, now: Instant) {
        self.announce_when_heard(now);
        while let Some(frame) = self.neighbour.poll_frame(now) {
            let claims = self.owner;
            self.actions.push_back(Action::SendFrame { frame: frame.to_vec(), claims });
        }
        while let Some(beat) = self.roles.poll_beat(now) {
            let (to, bytes) = (beat.echo.boot, self.heartbeat(now, &beat));
            for path in [Path::Replication, Path::Lan] {
                self.actions.push_back(Action::SendBeat { path, to, bytes: bytes.clone() });
            }
        }
    }

    /// I5: whoever may not speak yet when it becomes owner begins to announce when it may. Before,
    /// its announcements would be dropped, and its first packets would leave ahead of the next.
    /// Who finds its gate closed later has perhaps slept with an announcement in its hands, and
    /// announces again.
    fn announce_when_heard(&mut self, now: Instant) {
        if !self.owner {
            return;
        }
        let heard = now < self.speak_until();
        if heard && !self.announced {
            self.announced = true;
            self.neighbour.silence();
            self.neighbour.announce(now);
        } else if !heard {
            self.announced = false;
        }
    }

    fn follow_neighbour(&mut self, now: Instant, event: Option<neighbour::Event>) {
        use crate::role::ProbeResult;
        match event {
            None => return,
            Some(neighbour::Event::Claimed { address, mac }) => {
                if self.owner
                    && let Some(left_out) = self.complaints.permit(now, Complaint::Claimed)
                {
                    let text = format!("{mac} announced our service address {address}{left_out}");
                    self.report(Level::Warn, text);
                }
                self.roles.on_claimed(now);
            }
            Some(neighbour::Event::Clear) => self.roles.on_probe(now, ProbeResult::Clear),
            Some(neighbour::Event::InUse { address, mac }) => {
                self.holder = Some((address, mac));
                self.roles.on_probe(now, ProbeResult::InUse);
            }
        }
        self.follow_roles(now);
    }

    fn on_content_for(&mut self, now: Instant, id: ConnId) {
        use crate::service::Env;
        use crate::tcp::Verdict;
        use connection::Body;
        if self.owner {
            self.wake(now, id);
        }
        let edition = self.edition();
        let Self { table, store, pins, wall, .. } = self;
        let Some(connection) = table.get_mut(id) else { return };
        connection.waiting = false;
        if let Body::Live(tcb) = &mut connection.body {
            let before = settle::Before::of(tcb, &connection.app);
            let mut env = Env { store: store.as_mut(), lead: true, pins, wall: *wall, edition };
            connection.app.on_content(&mut env);
            tcb.unblock();
            self.settle(now, id, before, None, Verdict::Accepted);
        } else {
            connection.app.on_content(&mut follow::following(store.as_mut(), pins, *wall));
            self.note_exposure(now, id);
        }
    }

    /// Remembers that a connection waits for the content store.
    fn await_content(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if connection.waiting {
            return;
        }
        connection.waiting = true;
        if self.waiting.len() > 2 * self.table.len() + 64 {
            // Most of those that waited have ended, and the store had no news since.
            let Self { waiting, table, .. } = self;
            waiting.retain(|id| table.get_mut(*id).is_some());
        }
        self.waiting.push(id);
    }
}
