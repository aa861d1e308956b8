//! The loop: the one thread that turns packets, frames, heartbeats and the replication stream.
//!
//! ```text
//!   wait ─► timers, signals, control ─► beats ─► link ─► LAN frames ─► TUN packets in
//!     ▲                                                                     │
//!     └──────────────── packets out ◄─ link output ◄─ actions ◄─────────────┘
//! ```
//!
//! Every stage does a bounded batch and says whether there is more. Beats come first and every turn
//! is short, because a turn that lasts longer than the lease silences this engine.
//!
//! **I3, one speaker, is enforced here**, below everything that makes packets: see
//! `Run::may_speak_at`.

use std::io;

use crossbeam_channel::bounded;
use mio::{Events, Token};
use signal_hook::consts::SIGHUP;

use super::arbiter::ArbiterClient;
use super::assemble::{self, Assembly, BEAT_LAN, BEAT_REPLICATION, LAN, LINK, SIGNALS, TUN, WAKER};
use super::capture::{CaptureSpec, Tap};
use super::clock::Clock;
use super::config::Config;
use super::control::Command;
use super::link::{LinkEvent, TOKENS};
use super::logging::Logging;
use super::report::Report;
use super::watch::is_trial;
use crate::engine::{Action, Engine, ExitReason, Level, LinkInput, PACKET_BUFFER, Relayed};
use crate::ids::Node;
use crate::role::{Path, Role};
use crate::time::{Duration, Instant};
use crate::wire::VnetHeader;

/// Packets read from the TUN in one turn. Reading only a few before what they bring about is written
/// was tried: eight downloads at once fell to a third, and uploads gained nothing.
const PACKETS_IN: usize = 64;
/// Packets written to it in one turn; each may be a super-segment of 64 KiB.
const PACKETS_OUT: usize = 64;
/// Frames read from the LAN in one turn.
const FRAMES_IN: usize = 32;
/// Rounds of the link in one turn, each up to 256 KiB.
const LINK_ROUNDS: usize = 4;
/// Longest Ethernet frame that matters: neighbour discovery fits the smallest IPv6 MTU.
const FRAME_MAX: usize = 1514;
/// From one status snapshot to the next at most, and how many there are in a detection time: a snapshot
/// that is older than that is stale.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
const PUBLISHED: u32 = 4;
/// Silent for longer, the peer's trial packets do not come either.
const LAN_ALIVE: Duration = Duration::from_millis(500);
/// How long a primary that is told to stop tries to hand over first.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs node `node` until it is told to stop or cannot go on; with `capture` it writes down what
/// passes from the start.
pub fn run(config: &Config, node: Node, capture: Option<&CaptureSpec>) -> Result<(), String> {
    let logging = Logging::start().map_err(|error| format!("logging: {error}"))?;
    if let Err(error) = super::sys::forbid_core_dumps() {
        log::warn!("a core dump of this process would hold its keys: {error}");
    }
    config.warnings().iter().chain(&config.host_warnings()).for_each(|line| log::warn!("{line}"));
    let result = assemble::assemble(config, node).and_then(|assembly| {
        let Some(assembly) = assembly else {
            log::info!("node {node} was told to stop before it began");
            return Ok(());
        };
        log::info!("node {node} is up on {}", assembly.tun.name());
        let mut run = Run::new(assembly);
        if let Some(spec) = capture {
            run.capture_first(spec)?;
        }
        let result = run.turn_until_done();
        log::info!("node {node} stops");
        // Nothing is written from here on. What is dropped now closes the link first, which is the
        // peer's proof, and puts the host in order after that.
        result
    });
    logging.flush();
    result
}

pub(super) struct Run {
    pub(super) outside: Outside,
    pub(super) engine: Engine,
}

/// Everything but the engine.
pub(super) struct Outside {
    pub(super) assembly: Devices,
    clock: Clock,
    tun_readable: bool,
    pub(super) lan_readable: bool,
    signalled: bool,
    /// Something happened that people want to see soon.
    pub(super) changed: bool,
    publish_at: Instant,
    publish_every: Duration,
    gated: u64,
    /// Told to stop: when to do so at the latest.
    stop_by: Option<Instant>,
    /// Told to stop while a standby was being brought up to date, which is to be handed the address.
    leaving: bool,
    exit: Option<ExitReason>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// After the devices: what waits for a disk must not hold up what the peer waits for.
    pub(super) tap: Tap,
}

/// The assembly without its engine, in the order in which it is to go.
pub(super) struct Devices {
    pub(super) pair: Option<assemble::Pair>,
    pub(super) lan: super::lan::Lan,
    pub(super) watch: super::watch::Watch,
    pub(super) host: super::host::HostSetup,
    tun: super::tun::Tun,
    arbiter: Option<super::arbiter::ArbiterClient>,
    control: super::control::Control<Report>,
    news: super::disk::DiskNews,
    signals: signal_hook_mio::v1_0::Signals,
    pub(super) poll: mio::Poll,
}

impl Run {
    fn new(assembly: Assembly) -> Self {
        let detection = assembly.engine.timing().detection;
        let Assembly { pair, engine, lan, watch, host, tun, arbiter, control, news, signals, poll } =
            assembly;
        let assembly =
            Devices { pair, lan, watch, host, tun, arbiter, control, news, signals, poll };
        let outside = Outside {
            assembly,
            clock: Clock,
            // Edges that came before the first poll are not told again.
            tun_readable: true,
            lan_readable: true,
            signalled: true,
            changed: true,
            publish_at: Instant::ZERO,
            publish_every: PUBLISH_EVERY.min(detection / PUBLISHED),
            gated: 0,
            stop_by: None,
            leaving: false,
            exit: None,
            incoming: vec![0; PACKET_BUFFER],
            outgoing: vec![0; PACKET_BUFFER],
            tap: Tap::default(),
        };
        Self { outside, engine }
    }

    /// Begins a capture before the first turn, and waits for its file: whoever asked for it wants to
    /// know.
    fn capture_first(&mut self, spec: &CaptureSpec) -> Result<(), String> {
        let (reply, answer) = bounded(1);
        let status = self.engine.status(self.now());
        self.outside.tap.start(spec.clone(), &status, reply);
        let told = answer.recv().map_err(|_| "the thread of the capture is gone".to_owned())?;
        log::info!("{}", told?);
        Ok(())
    }

    fn turn_until_done(&mut self) -> Result<(), String> {
        self.on_host_news();
        let mut events = Events::with_capacity(64);
        let mut more = true;
        loop {
            self.outside.wait(&mut events, self.timeout(more))?;
            more = self.turn()?;
            match self.outside.exit.take() {
                None => {}
                Some(ExitReason::Shutdown) => return Ok(()),
                Some(reason) => return Err(reason.to_string()),
            }
            if self.is_stopped() {
                return Ok(());
            }
        }
    }

    /// One turn of the loop. Returns whether there is more to do at once.
    fn turn(&mut self) -> Result<bool, String> {
        let now = self.now();
        // Also when nothing is due: a gap since the last time is how the engine notices that it was
        // paused.
        self.engine.on_timer(now);
        self.engine.set_wall(self.outside.clock.wall());
        let mut more = self.hear_beats();
        self.act();
        self.on_signals();
        self.on_host_news();
        self.on_wake();
        more |= self.read_link();
        self.act();
        more |= self.read_frames();
        more |= self.read_packets();
        self.act();
        self.write_link();
        more |= self.write_packets();
        self.publish();
        self.outside.tap.flush();
        Ok(more)
    }

    pub(super) fn now(&self) -> Instant {
        self.outside.clock.now()
    }

    /// **I3, one speaker.** Whether this engine has the right to speak for the service address.
    /// Asked directly before every packet and every frame that claims the address, with a clock
    /// read just before: an engine that was stopped anywhere before that finds its right expired.
    fn may_speak_at(&self, now: Instant) -> bool {
        now < self.engine.speak_until()
    }

    fn timeout(&self, more: bool) -> Option<Duration> {
        if more {
            return Some(Duration::ZERO);
        }
        let link = self.outside.assembly.pair.as_ref().and_then(|pair| pair.link.deadline());
        let deadline = [link, self.outside.stop_by].into_iter().flatten();
        let deadline = deadline.fold(self.engine.deadline(), Instant::min);
        Some(deadline.min(self.outside.publish_at).until(self.now()))
    }

    /// Carries out what the engine asks, in its order (I5).
    fn act(&mut self) {
        if self.outside.tap.is_running() {
            self.outside.tap.note(&self.engine.status(self.now()));
        }
        while let Some(action) = self.engine.poll_action(self.now()) {
            if !matches!(action, Action::SendBeat { .. } | Action::SendFrame { .. }) {
                self.outside.changed = true;
            }
            match action {
                Action::InstallRoutes => {
                    let now = self.now();
                    self.outside.tap.takes_over(now, &self.engine.status(now));
                    self.outside.assembly.watch.owns(true);
                    // An owner that no packet reaches must not claim the address (I7). By its end
                    // the peer learns that it may.
                    if let Err(error) = self.outside.assembly.host.install_routes() {
                        let why = format!("no packet will reach this engine: {error}");
                        self.outside.exit = Some(ExitReason::Host(why));
                        return;
                    }
                    self.outside.tap.routed(self.outside.clock.now());
                }
                Action::RemoveRoutes => {
                    self.outside.assembly.watch.owns(false);
                    if let Err(error) = self.outside.assembly.host.remove_routes() {
                        log::error!("strays will end here: {error}");
                    }
                }
                Action::SendFrame { frame, claims } => self.send_frame(&frame, claims),
                Action::SendBeat { path, to, bytes } => {
                    if let Some(pair) = &mut self.outside.assembly.pair {
                        pair.beats.send(path, to, &bytes);
                    }
                }
                Action::Dial | Action::Knock | Action::HangUp => self.on_link_action(&action),
                Action::Ask(ask) => {
                    if let Some(arbiter) = &self.outside.assembly.arbiter {
                        arbiter.ask(ask);
                    }
                }
                Action::Report(level, line) => {
                    self.outside.tap.mark(format_args!("report: {line}"));
                    match level {
                        Level::Warn => log::warn!("{line}"),
                        Level::Info => log::info!("{line}"),
                    }
                }
                Action::Exit(reason) => self.outside.exit = Some(reason),
            }
        }
    }

    fn on_link_action(&mut self, action: &Action) {
        if *action == Action::HangUp {
            // The last words, such as a handover, go first.
            self.write_link();
        }
        let now = self.now();
        let Self { outside, engine } = self;
        let Outside { assembly, tap, .. } = outside;
        let Some(pair) = &mut assembly.pair else { return };
        let mut sink = |event: LinkEvent<'_>| tell(engine, tap, now, event);
        match action {
            Action::Dial => pair.link.dial(now, &mut sink),
            Action::Knock => pair.link.knock(now, &mut sink),
            _ => {
                if pair.link.is_connected() {
                    tap.link("hung up");
                }
                pair.link.hang_up();
            }
        }
    }

    fn send_frame(&mut self, frame: &[u8], claims: bool) {
        if claims && !self.may_speak_at(self.now()) {
            self.outside.gated += 1;
            return;
        }
        match self.outside.assembly.lan.write(frame) {
            Ok(()) if claims => self.outside.tap.announced(self.outside.clock.now()),
            Ok(()) => {}
            Err(error) => log::debug!("frame not sent: {error}"),
        }
    }

    fn hear_beats(&mut self) -> bool {
        let Self { outside, engine } = self;
        let Some(pair) = &mut outside.assembly.pair else { return false };
        let clock = outside.clock;
        pair.beats.turn(&mut |path: Path, plain: &[u8]| engine.on_beat(clock.now(), path, plain))
    }

    fn read_link(&mut self) -> bool {
        let mut more = false;
        for _ in 0..LINK_ROUNDS {
            let now = self.now();
            let Self { outside, engine } = &mut *self;
            let Outside { assembly, tap, .. } = outside;
            let Some(pair) = &mut assembly.pair else { return false };
            let mut sink = |event: LinkEvent<'_>| tell(engine, tap, now, event);
            pair.link.on_timer(now, &mut sink);
            more = pair.link.turn(now, &mut sink);
            // Confirmations go back batch by batch, and not after all of them.
            self.write_link();
            if !more {
                return false;
            }
        }
        more
    }

    /// Gives the link what the engine has for the peer, as far as there is room.
    fn write_link(&mut self) {
        let now = self.now();
        let mut output = core::mem::take(self.engine.link_output(now));
        if !output.is_empty() {
            let Self { outside, engine } = self;
            let Outside { assembly, tap, .. } = outside;
            if let Some(pair) = &mut assembly.pair {
                tap.saying(&output);
                pair.link.send(&mut output, &mut |event| tell(engine, tap, now, event));
                tap.unsaid(output.len());
            } else {
                output.clear();
            }
        }
        // What did not fit goes back in front of what came since. If the link ended meanwhile there
        // is nothing to put back: it was for that link alone.
        let new = self.engine.link_output(now);
        if new.is_empty() {
            *new = output;
        } else if !output.is_empty() {
            output.append(new);
            *new = output;
        }
    }

    fn read_frames(&mut self) -> bool {
        let mut buffer = [0; FRAME_MAX];
        for _ in 0..FRAMES_IN {
            if !self.outside.lan_readable {
                return false;
            }
            match self.outside.assembly.lan.read(&mut buffer) {
                Ok(length) => {
                    let now = self.now();
                    self.engine.on_frame(now, &buffer[..length]);
                }
                Err(error) => {
                    self.outside.lan_readable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        log::debug!("LAN socket: {error}");
                    }
                }
            }
        }
        self.outside.lan_readable
    }

    fn read_packets(&mut self) -> bool {
        for _ in 0..PACKETS_IN {
            if !self.outside.tun_readable {
                return false;
            }
            let Outside { assembly, incoming, tun_readable, clock, tap, .. } = &mut self.outside;
            match assembly.tun.read(incoming) {
                Ok(length) => {
                    let header = VnetHeader::parse(&incoming[..length]);
                    let packet = incoming.get_mut(VnetHeader::LEN..length);
                    if let (Some(header), Some(packet)) = (header, packet) {
                        if is_trial(packet) {
                            assembly.watch.on_trial(clock.now());
                            continue;
                        }
                        tap.packet_in(header, packet);
                        let relayed = self.engine.on_packet(clock.now(), header, packet);
                        if let Some(relayed) = relayed {
                            self.pass_on(relayed);
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    *tun_readable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        let why = format!("the TUN device is gone: {error}");
                        self.outside.exit = Some(ExitReason::Host(why));
                    }
                }
            }
        }
        self.outside.tun_readable
    }

    /// Writes a packet that a relay has rewritten where it was read.
    fn pass_on(&mut self, relayed: Relayed) {
        if !self.may_speak_at(self.now()) {
            self.outside.gated += 1;
            return;
        }
        let Outside { assembly, incoming, tap, clock, .. } = &mut self.outside;
        if let Some(header) = incoming.first_chunk_mut() {
            relayed.vnet.write(header);
        }
        let packet = &incoming[..VnetHeader::LEN + relayed.length];
        match assembly.tun.write(packet) {
            Ok(()) => tap.packet_out(*clock, packet),
            Err(error) => log::debug!("packet not sent: {error}"),
        }
    }

    /// Puts packets on the wire while the engine may speak. A packet that is ready when the right
    /// runs out is dropped: TCP will send it again, from here or from the peer.
    fn write_packets(&mut self) -> bool {
        let mut now = self.now();
        for _ in 0..PACKETS_OUT {
            if !self.may_speak_at(now) {
                return false;
            }
            let packet = self.engine.poll_packet(now, &mut self.outside.outgoing);
            let Some(range) = packet else { return false };
            now = self.now();
            if !self.may_speak_at(now) {
                self.outside.gated += 1;
                return false;
            }
            let packet = &self.outside.outgoing[range];
            match self.outside.assembly.tun.write(packet) {
                Ok(()) => self.outside.tap.packet_out(self.outside.clock, packet),
                Err(error) => log::debug!("packet not sent: {error}"),
            }
        }
        self.engine.has_packets()
    }

    /// News from the arbiter and the disk, and commands from the control socket.
    fn on_wake(&mut self) {
        while let Some((number, reply)) =
            self.outside.assembly.arbiter.as_ref().and_then(ArbiterClient::next_answer)
        {
            self.outside.changed = true;
            // Read when the answer is here: what it shows was written before.
            self.engine.on_arbiter(self.now(), number, reply);
        }
        let now = self.now();
        if self.outside.assembly.news.take() {
            self.engine.on_content(now);
        }
        while let Some(command) = self.outside.assembly.control.next_command() {
            self.outside.changed = true;
            match command {
                Command::Switchover { force, reply } => {
                    let result = self.switch_over(now, force);
                    // Nobody may be waiting any more.
                    let _ = reply.try_send(result);
                }
                Command::CaptureStart { spec, reply } => {
                    self.outside.tap.start(spec, &self.engine.status(now), reply);
                }
                Command::CaptureStop { reply } => self.outside.tap.stop(reply),
            }
        }
    }

    /// What an operator is told of a refusal, with the way round it if there is one.
    fn switch_over(&mut self, now: Instant, force: bool) -> Result<(), String> {
        if force {
            let loses = self.engine.on_switchover(now).err();
            return match loses {
                None => Ok(()),
                Some(why) => self.engine.on_forced_switchover(now).inspect(|()| {
                    log::warn!("handing over as an operator insists, although: {why}");
                }),
            };
        }
        let forcible = self.engine.can_hand_over();
        self.engine.on_switchover(now).map_err(|why| {
            if forcible { format!("{why} (--force hands over all the same)") } else { why }
        })
    }

    /// Told to stop: a primary hands over first, if there is somebody to hand over to, whatever that
    /// loses: its end would lose no less. A standby that is just being brought up to date is waited
    /// for. Told twice: at once. The peer takes over either way; by a hand-over it need not find out.
    fn on_signals(&mut self) {
        if !core::mem::take(&mut self.outside.signalled) {
            return;
        }
        let now = self.now();
        let signals: Vec<i32> = self.outside.assembly.signals.pending().collect();
        for signal in signals {
            if signal == SIGHUP {
                continue;
            }
            let first = self.outside.stop_by.is_none();
            self.outside.stop_by =
                Some(now + if first { self.farewell(now) } else { Duration::ZERO });
        }
    }

    /// Hands over, or waits for whom it can hand over to. Returns for how long at most.
    fn farewell(&mut self, now: Instant) -> Duration {
        let status = self.engine.status(now);
        if !matches!(status.role, Role::Primary { .. }) {
            log::info!("told to stop");
            return Duration::ZERO;
        }
        match self.switch_over(now, true) {
            Ok(()) => log::info!("told to stop: handing over"),
            Err(why) if status.snapshot.is_some() => {
                log::warn!("told to stop: waits for the standby: {why}");
                self.outside.leaving = true;
            }
            Err(why) => {
                log::warn!("told to stop, and nobody can be handed the address: {why}");
                return Duration::ZERO;
            }
        }
        FAREWELL
    }

    /// Whether a stop was asked for and there is nothing more to wait for.
    fn is_stopped(&mut self) -> bool {
        let Some(stop_by) = self.outside.stop_by else { return false };
        let now = self.now();
        if self.outside.leaving && self.switch_over(now, true).is_ok() {
            self.outside.leaving = false;
            log::info!("handing over");
        }
        now >= stop_by
            || matches!(self.engine.status(now).role, Role::Standby { .. } | Role::Joining)
    }

    fn publish(&mut self) {
        let now = self.now();
        if self.outside.changed || now >= self.outside.publish_at {
            self.outside.changed = false;
            self.outside.publish_at = now + self.outside.publish_every;
            let status = self.engine.status(now);
            let tried = self.engine.peer_tries_paths() && status.peer.silent_lan < LAN_ALIVE;
            self.outside.assembly.watch.expects_trials(now, tried);
            let report = Report::new(&status, self.outside.gated, self.outside.tap.report());
            self.outside.assembly.control.publish(now, report);
        }
    }
}

impl Outside {
    /// Waits for something to happen, and notes what.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), String> {
        match self.assembly.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome.map_err(|error| format!("poll: {error}"))?,
        }
        for event in &*events {
            match event.token() {
                TUN => self.tun_readable = true,
                LAN => self.lan_readable = true,
                SIGNALS => self.signalled = true,
                // What it stands for is looked at every turn.
                WAKER => {}
                token => self.on_pair_ready(token, event),
            }
        }
        Ok(())
    }

    fn on_pair_ready(&mut self, token: Token, event: &mio::event::Event) {
        let Some(pair) = &mut self.assembly.pair else { return };
        match token {
            BEAT_REPLICATION => pair.beats.on_ready(Path::Replication),
            BEAT_LAN => pair.beats.on_ready(Path::Lan),
            Token(link) if (LINK..LINK + TOKENS).contains(&link) => pair.link.on_ready(event),
            _ => {}
        }
    }
}

fn tell(engine: &mut Engine, tap: &mut Tap, now: Instant, event: LinkEvent<'_>) {
    match event {
        LinkEvent::Connected { .. } => {
            tap.link("up");
            engine.on_link(now, LinkInput::Connected);
        }
        LinkEvent::Data(bytes) => {
            tap.heard(bytes);
            engine.on_link(now, LinkInput::Data(bytes));
        }
        LinkEvent::Closed => {
            tap.link("down");
            engine.on_link(now, LinkInput::Closed);
        }
        LinkEvent::Refused => engine.on_link(now, LinkInput::Refused),
        LinkEvent::Incompatible { why } => {
            engine.on_link(now, LinkInput::Incompatible(&why.to_string()));
        }
    }
}
