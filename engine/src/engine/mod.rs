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
//! In which order a host calls an `on_` function for what has happened and lets out what follows is
//! [`Turn`]'s to say.

mod again;
mod backends;
mod connection;
mod cookies;
mod counts;
mod doubt;
mod follow;
mod graveyard;
mod greed;
mod hosts;
mod inbound;
mod incompatible;
mod lingering;
mod link;
mod memory;
mod mirrors;
#[cfg(feature = "defects")]
mod mistakes;
mod notice;
mod obstacle;
mod outbox;
mod output;
mod owner;
mod questions;
mod relaying;
mod replicate;
mod reserve;
mod rota;
mod sessions;
mod settle;
mod setup;
mod shelf;
mod stats;
mod status;
mod table;
mod takeover;
#[cfg(test)]
mod tests;
mod turn;
mod unserved;
mod wake;
mod why;

use core::net::IpAddr;
use std::collections::VecDeque;

use crate::ids::{ConnId, Lsn};
use crate::limiter::Limiter;
use crate::neighbour::{self, Neighbour};
use crate::relay::Relays;
use crate::replica::Heartbeat;
use crate::role::{Path, Reply, Roles, Timing};
use crate::service::{PinBytes, Store};
use crate::sources::Sources;
use crate::tcp::isn::Secret;
use crate::time::{Duration, Instant};
use crate::wire::MacAddr;

use cookies::Cookies;
use doubt::Doubts;
use graveyard::Graveyard;
use hosts::PeerHost;
use incompatible::Incompatible;
use lingering::Lingering;
use link::Link;
use memory::Memory;
use owner::{Duty, Owner};
use reserve::Reserve;
use sessions::{Sessions, TcpFor};
use setup::PairClock;
use shelf::Shelf;
use table::Table;

pub use backends::{Known, Obeyed};
pub use greed::{Greed, PerSource};
pub use notice::{Breach, Fate, FileNotice, Level, Notice};
pub use obstacle::{OBSTACLES_MAX, Obstacle};
pub(crate) use output::PACKET_BUFFER;
pub use setup::{Action, ExitReason, LinkInput, ServicePort, Setup};
pub use stats::{Exchanges, Stats};
pub use status::{BackendStatus, PeerStatus, Status};
pub use turn::{Gated, Output, Step, Turn};

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
    /// The memory budget is used up.
    Memory,
    /// An address has as many connections as it may.
    Crowd,
    /// An address begins more in a second than it may.
    Haste,
    /// Two servers on the same input say different things.
    Difference,
}

/// One node of a pair.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    /// TCP's settings for connections that sessions have dialled.
    tcp_for: TcpFor,
    store: Shelf,
    roles: Roles,
    neighbour: Neighbour,
    secret: Secret,
    clock: PairClock,
    /// Unix time in seconds, as last told.
    wall: u64,

    /// What it has because of its role.
    duty: Duty,
    /// Where its last log ended: no position has two meanings.
    position: Lsn,
    table: Table,
    half_open: usize,
    memory: Memory,
    reserve: Reserve,
    /// What each client's address has of the connections, and how fast it begins more.
    sources: Sources,
    cookies: Cookies,
    lingering: Lingering,
    /// Connections whose applications are to be called again, each once.
    again: VecDeque<ConnId>,
    relays: Relays,
    sessions: Sessions,
    /// What was dropped, to be taken apart.
    graveyard: Graveyard,
    ip_id: u16,

    link: Link,
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

    work: u64,
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
            store: Shelf::new(store),
            roles,
            neighbour,
            secret: Secret { key: setup.isn_key },
            clock: PairClock::starting_at(setup.clock_origin),
            wall: 0,
            duty: Duty::Idle,
            position: Lsn::ZERO,
            table: Table::new(setup.table_key, setup.connections_max, setup.live_max),
            half_open: 0,
            memory: Memory::new(setup.memory_max),
            reserve: Reserve::new(setup.memory_max),
            sources: Sources::new(setup.table_key),
            cookies: Cookies::default(),
            lingering: Lingering::default(),
            again: VecDeque::new(),
            relays: relaying::relays(&setup),
            sessions: Sessions::default(),
            graveyard: Graveyard::default(),
            ip_id: 0,
            link: Link::default(),
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
            work: 0,
            actions: VecDeque::new(),
            pins: Vec::new(),
            scratch: Vec::new(),
            stats: Stats::default(),
            tcp_for: TcpFor::new(&setup.tcp),
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
        let event = self.neighbour.on_frame(now, frame, self.owns());
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
            self.report(Notice::LanMac { before: self.setup.mac, now: mac });
            self.setup.mac = mac;
            self.neighbour.on_mac(now, mac);
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
        self.store.on_timer(now);
        self.roles.on_timer(now);
        self.follow_roles(now);
        let event = self.neighbour.on_timer(now);
        self.follow_neighbour(now, event);
        self.advance_again(now);
        if self.owns() {
            self.advance_commits(now);
            self.on_alarms(now);
            self.relay_timer(now);
            self.commit_splices(now);
            self.flush_progress(now, false);
            self.advance_waking(now);
            if let Some(owner) = self.duty.owner_mut() {
                owner.reassembler.expire(now);
                owner.questions.on_timer(now);
            }
            self.advance_memory(now);
            self.advance_reserve(now);
            self.sources.expire(now);
            self.table.park_surplus();
            self.advance_snapshot(now);
            self.ask_for_duplex(now);
            self.follow_roles(now);
            self.check_stall(now);
            self.attach_if_trusted(now);
        }
        self.bury(now);
    }

    /// When to call [`Self::on_timer`] at the latest.
    pub fn deadline(&self) -> Instant {
        if self.again_due() || !self.graveyard.is_empty() {
            return Instant::ZERO;
        }
        let deadline =
            self.roles.deadline().min(self.neighbour.deadline().unwrap_or(Instant::NEVER));
        match self.duty.owner() {
            Some(owner) if owner.speaks => deadline.min(self.owners_deadline(owner)),
            Some(_) | None => deadline,
        }
    }

    fn owners_deadline(&self, owner: &Owner) -> Instant {
        // A snapshot that waits for confirmations goes on when they come.
        let commits = self.commits_due() || self.splices_due();
        if self.snapshot_due()
            || self.waking_due()
            || commits
            || self.memory_due()
            || self.reserve.is_due()
        {
            return Instant::ZERO;
        }
        let relays = if owner.announced { self.relays.deadline() } else { Instant::NEVER };
        let progress = owner.standby.as_ref().map_or(Instant::NEVER, |standby| standby.deadline());
        let alarms = owner.queues.wheel.next().unwrap_or(Instant::NEVER);
        let fragments = owner.reassembler.deadline().unwrap_or(Instant::NEVER);
        [relays, progress, alarms, fragments, self.reserve.deadline()]
            .into_iter()
            .fold(owner.questions.deadline(), Instant::min)
    }

    /// How much it has done so far: packets, records, replies, connections looked at, each of which
    /// costs about as much. A [`Turn`] counts by it, and so does whoever checks that none is too long.
    pub const fn work(&self) -> u64 {
        self.work
    }

    /// Until when this engine may put packets and announcements of the service address on the wire
    /// (I3). The host compares it with a fresh clock before each one.
    pub fn speak_until(&self) -> Instant {
        #[cfg(feature = "defects")]
        if self.owns() && self.setup.has(crate::defects::Defect::SpeakAfterLease) {
            return Instant::NEVER;
        }
        if self.owns() { self.roles.speak_until() } else { Instant::ZERO }
    }

    /// What the host has to do, oldest first.
    pub(crate) fn poll_action(&mut self, now: Instant) -> Option<Action> {
        if self.actions.is_empty() {
            self.queue_frames_and_beats(now);
        }
        self.actions.pop_front()
    }

    fn queue_frames_and_beats(&mut self, now: Instant) {
        self.announce_when_heard(now);
        while let Some(frame) = self.neighbour.poll_frame(now) {
            let claims = self.owns();
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
        let heard = now < self.speak_until();
        let Some(owner) = self.duty.owner_mut().filter(|owner| owner.speaks) else { return };
        let begins = heard && !owner.announced;
        owner.announced = heard;
        if begins {
            self.neighbour.silence();
            self.neighbour.announce(now);
        }
    }

    fn follow_neighbour(&mut self, now: Instant, event: Option<neighbour::Event>) {
        use crate::role::ProbeResult;
        match event {
            None => return,
            Some(neighbour::Event::Claimed { address, mac }) => {
                if self.owns()
                    && let Some(left_out) = self.complaints.permit(now, Complaint::Claimed)
                {
                    self.report(Notice::Claimed { address, mac, left_out });
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
}
