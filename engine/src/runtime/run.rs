//! The loop: the one thread that turns packets, frames, heartbeats and the replication stream.
//!
//! What is done in which order, how much of it in one turn, and what may leave at all is
//! [`Turn`]'s to say; here it is done: reads, writes, the clock.

use std::io;

use crossbeam_channel::bounded;
use mio::{Events, Token};

use super::assemble::{self, Assembly, BEAT_LAN, BEAT_REPLICATION, LAN, LINK, SIGNALS, TUN, WAKER};
use super::capture::{CaptureSpec, Tap};
use super::clock::Clock;
use super::config::Config;
use super::link::{LinkEvent, TOKENS};
use super::logging::Logging;
use super::orders::Unanswered;
use super::report::Report;
use super::watch::is_trial;
use crate::engine::{Action, Engine, ExitReason, Level, LinkInput, Output, Step, Turn};
use crate::ids::Node;
use crate::role::Path;
use crate::time::{Duration, Instant};
use crate::wire::VnetHeader;

/// Longest Ethernet frame that matters: neighbour discovery fits the smallest IPv6 MTU.
const FRAME_MAX: usize = 1514;
/// From one status snapshot to the next at most, and how many there are in a detection time: a snapshot
/// that is older than that is stale.
const PUBLISH_EVERY: Duration = Duration::from_millis(50);
const PUBLISHED: u32 = 4;
/// Silent for longer, the peer's trial packets do not come either.
const LAN_ALIVE: Duration = Duration::from_millis(500);

/// Runs node `node` until it is told to stop or cannot go on; with `capture` it writes down what
/// passes from the start.
pub fn run(config: &Config, node: Node, capture: Option<&CaptureSpec>) -> Result<(), String> {
    let logging = Logging::start().map_err(|error| format!("logging: {error}"))?;
    if let Err(error) = super::sys::forbid_core_dumps() {
        log::warn!("a core dump of this process would hold its keys: {error}");
    }
    if let Err(error) = super::sys::forbid_huge_pages() {
        log::debug!("huge pages stay: {error}");
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
    turn: Turn,
}

/// Everything but the engine.
pub(super) struct Outside {
    pub(super) assembly: Devices,
    pub(super) clock: Clock,
    tun_readable: bool,
    pub(super) lan_readable: bool,
    pub(super) signalled: bool,
    /// Something happened that people want to see soon.
    pub(super) changed: bool,
    publish_at: Instant,
    publish_every: Duration,
    /// Told to stop: when to do so at the latest.
    pub(super) stop_by: Option<Instant>,
    /// Told to stop while a standby was being brought up to date, which is to be handed the address.
    pub(super) leaving: bool,
    exit: Option<ExitReason>,
    /// Operators who wait until the standby knows what they have said.
    pub(super) unanswered: Vec<Unanswered>,
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
    pub(super) arbiter: Option<super::arbiter::ArbiterClient>,
    pub(super) control: super::control::Control<Report>,
    pub(super) news: super::disk::DiskNews,
    pub(super) signals: signal_hook_mio::v1_0::Signals,
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
            stop_by: None,
            leaving: false,
            exit: None,
            unanswered: Vec::new(),
            tap: Tap::default(),
        };
        Self { outside, engine, turn: Turn::new() }
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
            more = self.turn();
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

    /// One turn of the loop, or what there is of it until the end of the engine. Returns whether there
    /// is more to do at once.
    fn turn(&mut self) -> bool {
        let more = loop {
            let now = self.now();
            match self.turn.next(&mut self.engine, now) {
                Step::Beats => self.hear_beats(),
                Step::News => self.hear_news(),
                Step::Link => self.read_link(),
                Step::Frame => self.read_frame(),
                Step::Packet => self.read_packet(),
                Step::Output => self.let_out(),
                Step::Done { more } => break more,
            }
            if self.outside.exit.is_some() {
                return false;
            }
        };
        if self.outside.tap.is_running() {
            self.outside.tap.note(&self.engine.status(self.now()));
        }
        self.answer_orders();
        self.publish();
        self.outside.tap.flush();
        more
    }

    pub(super) fn now(&self) -> Instant {
        self.outside.clock.now()
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

    fn hear_news(&mut self) {
        self.engine.set_wall(self.outside.clock.wall());
        self.on_signals();
        self.on_host_news();
        self.on_wake();
    }

    fn hear_beats(&mut self) {
        let Self { outside, engine, turn } = self;
        let Some(pair) = &mut outside.assembly.pair else { return };
        let clock = outside.clock;
        if pair.beats.turn(&mut |path, plain| engine.on_beat(clock.now(), path, plain)) {
            turn.more();
        }
    }

    fn read_link(&mut self) {
        let now = self.now();
        let Self { outside, engine, turn } = self;
        let Outside { assembly, tap, .. } = outside;
        let Some(pair) = &mut assembly.pair else { return };
        let mut sink = |event: LinkEvent<'_>| tell(engine, tap, now, event);
        pair.link.on_timer(now, &mut sink);
        if pair.link.turn(now, &mut sink) {
            turn.more();
        }
    }

    fn read_frame(&mut self) {
        if !self.outside.lan_readable {
            return;
        }
        let mut buffer = [0; FRAME_MAX];
        match self.outside.assembly.lan.read(&mut buffer) {
            Ok(length) => {
                let now = self.now();
                self.engine.on_frame(now, &buffer[..length]);
                self.turn.more();
            }
            Err(error) => {
                self.outside.lan_readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    log::debug!("LAN socket: {error}");
                }
            }
        }
    }

    fn read_packet(&mut self) {
        if !self.outside.tun_readable {
            return;
        }
        let Self { outside, engine, turn } = self;
        let Outside { assembly, tun_readable, clock, tap, exit, .. } = outside;
        let room = turn.room();
        match assembly.tun.read(room) {
            Ok(length) => {
                turn.more();
                let packet = &turn.room()[..length];
                let (header, packet) = (VnetHeader::parse(packet), packet.get(VnetHeader::LEN..));
                let (Some(header), Some(packet)) = (header, packet) else { return };
                if is_trial(packet) {
                    return assembly.watch.on_trial(clock.now());
                }
                tap.packet_in(header, packet);
                turn.on_packet(engine, clock.now(), length);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => turn.more(),
            Err(error) => {
                *tun_readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    let why = format!("the TUN device is gone: {error}");
                    *exit = Some(ExitReason::Host(why));
                }
            }
        }
    }

    /// Carries out what the turn lets through.
    fn let_out(&mut self) {
        let now = self.now();
        let Self { outside, engine, turn } = self;
        match turn.release(engine, now) {
            None => {}
            Some(Output::Packet(packet)) => match outside.assembly.tun.write(packet) {
                Ok(()) => outside.tap.packet_out(outside.clock, packet),
                Err(error) => log::debug!("packet not sent: {error}"),
            },
            Some(Output::Link(bytes)) => self.write_link(now, bytes),
            Some(Output::Action(action)) => self.act(now, action),
        }
    }

    fn write_link(&mut self, now: Instant, mut bytes: Vec<u8>) {
        let Self { outside, engine, turn } = self;
        let Outside { assembly, tap, .. } = outside;
        if let Some(pair) = &mut assembly.pair {
            tap.saying(&bytes);
            pair.link.send(&mut bytes, &mut |event| tell(engine, tap, now, event));
            tap.unsaid(bytes.len());
        } else {
            bytes.clear();
        }
        turn.put_back(engine, now, bytes);
    }

    fn act(&mut self, now: Instant, action: Action) {
        let Self { outside, engine, .. } = self;
        if outside.tap.is_running() {
            outside.tap.note(&engine.status(now));
        }
        if !matches!(action, Action::SendBeat { .. } | Action::SendFrame { .. }) {
            outside.changed = true;
        }
        match action {
            Action::InstallRoutes => {
                outside.tap.takes_over(now, &engine.status(now));
                outside.assembly.watch.owns(true);
                // An owner that no packet reaches must not claim the address (I7). By its end the
                // peer learns that it may.
                if let Err(error) = outside.assembly.host.install_routes() {
                    let why = format!("no packet will reach this engine: {error}");
                    outside.exit = Some(ExitReason::Host(why));
                    return;
                }
                outside.tap.routed(outside.clock.now());
            }
            Action::RemoveRoutes => {
                outside.assembly.watch.owns(false);
                if let Err(error) = outside.assembly.host.remove_routes() {
                    log::error!("strays will end here: {error}");
                }
            }
            Action::SendFrame { frame, claims } => match outside.assembly.lan.write(&frame) {
                Ok(()) if claims => outside.tap.announced(outside.clock.now()),
                Ok(()) => {}
                Err(error) => log::debug!("frame not sent: {error}"),
            },
            Action::SendBeat { path, to, bytes } => {
                if let Some(pair) = &mut outside.assembly.pair {
                    pair.beats.send(path, to, &bytes);
                }
            }
            Action::Dial | Action::Knock | Action::HangUp => self.on_link_action(now, &action),
            Action::Ask(ask) => {
                if let Some(arbiter) = &outside.assembly.arbiter {
                    arbiter.ask(ask);
                }
            }
            Action::Report(notice) => {
                outside.tap.mark(format_args!("report: {notice}"));
                match notice.level() {
                    Level::Warn => log::warn!("{notice}"),
                    Level::Info => log::info!("{notice}"),
                }
            }
            Action::Exit(reason) => outside.exit = Some(reason),
        }
    }

    fn on_link_action(&mut self, now: Instant, action: &Action) {
        let Self { outside, engine, .. } = self;
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

    fn publish(&mut self) {
        let now = self.now();
        if self.outside.changed || now >= self.outside.publish_at {
            self.outside.changed = false;
            self.outside.publish_at = now + self.outside.publish_every;
            let status = self.engine.status(now);
            let tried = self.engine.peer_tries_paths() && status.peer.silent_lan < LAN_ALIVE;
            self.outside.assembly.watch.expects_trials(now, tried);
            let report = Report::new(&status, self.turn.gated().total(), self.outside.tap.report());
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
