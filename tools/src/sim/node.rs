//! How a host serves its engine: a turn of the runtime's loop, in the runtime's order.
//!
//! A process can be interrupted right before any output: an action, a write to the link, a packet.
//! A crash there loses what was decided. A freeze there keeps it, and the turn goes on when the
//! process does, with a clock that has moved: that is where the write gate must hold (I3).

use super::host::{Disk, Held, LinkNews, Stage, Word, setup};
use super::offload::shown;
use super::world::{Event, World};
use crate::oracle::{NodeId, Sight};
use standin::engine::{Action, Engine};
use standin::role::Role;
use standin::wire::VnetHeader;

/// Packets read and written in one turn, and pieces of the link.
const PACKETS_IN: u8 = 64;
const PACKETS_OUT: u8 = 64;
const LINK_PIECES: u8 = 16;
/// What a turn of a loop takes at least.
const TURN: u64 = 2000;
/// An engine that ends by itself is started again by its supervisor.
const SUPERVISOR: u64 = 1_000_000_000;

impl World {
    /// Starts a host's engine, if there is none.
    pub(super) fn start(&mut self, host: usize) {
        let now = self.now;
        let state = &mut self.hosts[host];
        if state.engine.is_some() {
            return;
        }
        state.powered = true;
        state.boots += 1;
        let random = state.rng.u64(..);
        let setup = setup(&self.plan.pair, self.plan.relays.as_ref(), host, random | 1, random);
        let disk = Disk::new(&self.content, self.plan.pair.hashing, &state.disk_busy);
        let mut engine = Engine::new(setup, Box::new(disk), state.clock.at(now));
        engine.on_carrier(state.clock.at(now), !self.cuts.carrier_lost(host));
        state.engine = Some(engine);
        (state.stage, state.held) = (Stage::Start, None);
        (state.word, state.down) = (Word::default(), Default::default());
        state.heard_at = now;
        state.note(now, "---- started ----");
        self.say(|| format!("{}: started", NodeId(host as u8).name()));
        self.see(Sight::Started { node: NodeId(host as u8) });
        self.want_turn(host);
    }

    /// Counts how often a host's process has come up against its limits so far.
    pub(super) fn count_limits(&mut self, host: usize) {
        let Some(engine) = &self.hosts[host].engine else { return };
        let status = engine.status(self.hosts[host].clock.at(self.now));
        let (stats, relays) = (status.stats, status.relays);
        for (what, count) in [
            ("no room in the table", stats.table_full),
            ("no room in the log", stats.backlog_dropped),
            ("SYN cookies", stats.cookies_sent),
            ("splices moved to another backend", relays.moved),
            ("splices ended", relays.unspliced),
            ("clients refused for lack of a backend", relays.refused),
        ] {
            self.tally.add(what, count);
        }
    }

    /// A host's process is gone. `flushed` as in `orphan_streams`.
    pub(super) fn end_process(&mut self, host: usize, flushed: Option<u32>) {
        self.count_limits(host);
        let state = &mut self.hosts[host];
        if state.engine.take().is_none() {
            return;
        }
        (state.routes, state.frozen, state.fuse, state.held) = (false, false, None, None);
        state.inbox = Default::default();
        (state.word, state.down) = (Word::default(), Default::default());
        state.turn_at = u64::MAX;
        state.turn_serial = 0;
        self.orphan_streams(host, flushed);
        self.jigsaw.forget(host);
        let node = NodeId(host as u8);
        self.see(Sight::Routes { node, installed: false });
        self.see(Sight::Ended { node });
    }

    /// Something waits for a host's process: its loop turns soon.
    pub(super) fn want_turn(&mut self, host: usize) {
        let most = self.plan.pair.turn_us * 1000;
        let state = &mut self.hosts[host];
        if !state.runs() {
            return;
        }
        let delay = TURN + state.rng.u64(..=most);
        self.turn_by(host, self.now + delay);
    }

    fn turn_by(&mut self, host: usize, at: u64) {
        if at >= self.hosts[host].turn_at {
            return;
        }
        let serial = self.fresh();
        let state = &mut self.hosts[host];
        (state.turn_at, state.turn_serial) = (at, serial);
        self.post_at(at, Event::Turn { host, serial });
    }

    pub(super) fn on_turn(&mut self, host: usize, serial: u64) {
        let state = &mut self.hosts[host];
        if state.turn_serial != serial || !state.runs() {
            return;
        }
        state.turn_at = u64::MAX;
        if self.turn(host) {
            self.listen(host);
            self.audit(host);
            self.schedule_turn(host);
        }
    }

    fn schedule_turn(&mut self, host: usize) {
        let now = self.now;
        let most = self.plan.pair.turn_us * 1000;
        let state = &mut self.hosts[host];
        let Some(engine) = &state.engine else { return };
        let soon = now + TURN;
        let more = state.inbox.has_more() || (engine.has_packets() && state.may_speak(now));
        let due = state.clock.when(engine.deadline()).unwrap_or(u64::MAX);
        let at = if more { soon } else { due.saturating_add(state.rng.u64(..=most)).max(soon) };
        if at < u64::MAX {
            self.turn_by(host, at);
        }
    }

    /// A turn, or what is left of it. Returns whether it came to its end.
    fn turn(&mut self, host: usize) -> bool {
        loop {
            let next = match self.hosts[host].stage {
                Stage::Start => {
                    self.begin_turn(host);
                    Some(Stage::FirstActs)
                }
                Stage::FirstActs => {
                    self.listen(host);
                    self.acts(host).then_some(Stage::Link(0))
                }
                Stage::Link(round) => self.read_link(host, round),
                Stage::SecondActs => {
                    self.listen(host);
                    self.acts(host).then_some(Stage::Inputs(0))
                }
                Stage::Inputs(count) => self.read_input(host, count),
                Stage::ThirdActs => {
                    self.listen(host);
                    self.acts(host).then_some(Stage::WriteLink)
                }
                Stage::WriteLink => self.write_link(host).then_some(Stage::Packets(0)),
                Stage::Packets(count) => self.write_packet(host, count),
            };
            let Some(next) = next else { return false };
            self.hosts[host].stage = next;
            if next == Stage::Start {
                return true;
            }
        }
    }

    fn begin_turn(&mut self, host: usize) {
        let true_now = self.now;
        let state = &mut self.hosts[host];
        let now = state.clock.at(true_now);
        let Some(engine) = &mut state.engine else { return };
        engine.on_timer(now);
        engine.set_wall(state.clock.wall(true_now));
        let heard = state.inbox.beats.len();
        while let Some((path, bytes)) = state.inbox.beats.pop_front() {
            engine.on_beat(now, path, &bytes);
        }
        if heard > 0 {
            state.heard_at = true_now;
        }
        if let Some(up) = state.inbox.carrier.take() {
            engine.on_carrier(now, up);
        }
        while let Some((number, reply)) = state.inbox.answers.pop_front() {
            engine.on_arbiter(now, number, Some(reply));
        }
        if core::mem::take(&mut state.inbox.content) {
            engine.on_content(now);
        }
        if core::mem::take(&mut state.inbox.switchover) {
            let refusal = engine.on_switchover(now).err();
            let line =
                refusal.map_or("switchover: begun".to_owned(), |why| format!("switchover: {why}"));
            state.note(true_now, &line);
            self.say(|| format!("{}: {line}", NodeId(host as u8).name()));
        }
    }

    fn read_link(&mut self, host: usize, round: u8) -> Option<Stage> {
        if self.hosts[host].held.is_some() && !self.write_link(host) {
            return None;
        }
        if round == LINK_PIECES {
            return Some(Stage::SecondActs);
        }
        let Some(news) = self.hosts[host].inbox.links.pop_front() else {
            return Some(Stage::SecondActs);
        };
        let data = matches!(news, LinkNews::Piece(..));
        self.take_link_news(host, news);
        // Confirmations go back batch by batch, and not after all of them.
        self.hosts[host].stage = Stage::Link(round + 1);
        if data && !self.write_link(host) {
            return None;
        }
        Some(Stage::Link(round + 1))
    }

    /// All frames first, then one packet after the other.
    fn read_input(&mut self, host: usize, count: u8) -> Option<Stage> {
        if let Some(Held::Packet(vnet, packet)) = self.hosts[host].held.take() {
            self.pass_on(host, vnet, &packet);
        }
        if count == 0 {
            let now = self.hosts[host].clock.at(self.now);
            let frames = core::mem::take(&mut self.hosts[host].inbox.frames);
            if let Some(engine) = &mut self.hosts[host].engine {
                for frame in frames {
                    engine.on_frame(now, &frame);
                }
            }
        }
        if count == PACKETS_IN {
            return Some(Stage::ThirdActs);
        }
        let Some((vnet, packet)) = self.hosts[host].inbox.packets.pop_front() else {
            return Some(Stage::ThirdActs);
        };
        let next = Stage::Inputs(count + 1);
        self.hosts[host].stage = next;
        self.read_packet(host, vnet, packet).then_some(next)
    }

    /// Hands a packet to the engine, and passes on what a relay makes of it, at once, as
    /// `src/runtime/run.rs` does. Returns whether the process goes on.
    fn read_packet(&mut self, host: usize, vnet: VnetHeader, mut packet: Vec<u8>) -> bool {
        let shown = shown(vnet, &packet);
        let node = NodeId(host as u8);
        self.see(Sight::PacketIn { node, packet: &shown });
        if let Some(whole) = self.jigsaw.hand(host, &shown) {
            self.see(Sight::PacketIn { node, packet: &whole });
        }
        let now = self.hosts[host].clock.at(self.now);
        let Some(engine) = &mut self.hosts[host].engine else { return false };
        let Some(relayed) = engine.on_packet(now, vnet, &mut packet) else { return true };
        packet.truncate(relayed.length);
        self.tally.add("packets relayed", 1);
        if self.burns(host) {
            if self.hosts[host].engine.is_some() {
                self.hosts[host].held = Some(Held::Packet(relayed.vnet, packet));
            }
            return false;
        }
        self.pass_on(host, relayed.vnet, &packet);
        true
    }

    /// The gate is below: a packet that is ready when the right runs out is dropped (I3).
    fn pass_on(&mut self, host: usize, vnet: VnetHeader, packet: &[u8]) {
        if !self.hosts[host].may_speak(self.now) {
            self.tally.add("gated packets", 1);
            self.tally.add("gated packets of a relay", 1);
            return;
        }
        self.see(Sight::PacketOut { node: NodeId(host as u8), packet });
        self.host_sends_packet(host, vnet, packet);
    }

    /// Carries out what the engine asks. Returns whether the process goes on.
    fn acts(&mut self, host: usize) -> bool {
        loop {
            let now = self.hosts[host].clock.at(self.now);
            let action = match self.hosts[host].held.take() {
                Some(Held::Action(action)) => action,
                Some(Held::Bytes(_) | Held::Packet(..)) | None => {
                    let Some(engine) = &mut self.hosts[host].engine else { return false };
                    let Some(action) = engine.poll_action(now) else { return true };
                    if self.burns(host) {
                        if self.hosts[host].engine.is_some() {
                            self.hosts[host].held = Some(Held::Action(action));
                        }
                        return false;
                    }
                    action
                }
            };
            if !self.act(host, action) {
                return false;
            }
        }
    }

    fn act(&mut self, host: usize, action: Action) -> bool {
        let node = NodeId(host as u8);
        match action {
            Action::InstallRoutes => {
                self.hosts[host].routes = true;
                self.see(Sight::Routes { node, installed: true });
            }
            Action::RemoveRoutes => {
                self.hosts[host].routes = false;
                self.see(Sight::Routes { node, installed: false });
            }
            Action::SendFrame { frame, claims } => {
                if claims && !self.hosts[host].may_speak(self.now) {
                    self.tally.add("gated frames", 1);
                } else {
                    self.see(Sight::FrameOut { node, frame: &frame });
                    self.host_sends_frame(host, &frame);
                }
            }
            Action::SendBeat { path, bytes, .. } => self.send_beat(host, path, &bytes),
            Action::Dial => self.dial(host, false),
            Action::Knock => self.dial(host, true),
            Action::HangUp => {
                // The last words, such as a handover, go first.
                let fuse = self.hosts[host].fuse.take();
                self.write_link(host);
                self.hosts[host].fuse = fuse;
                self.hang_up(host);
            }
            Action::Ask(ask) => self.ask_arbiter(host, ask),
            Action::Report(level, line) => self.report(host, level, &line),
            Action::Exit(reason) => {
                let line = format!("exits: {reason}");
                self.hosts[host].note(self.now, &line);
                self.say(|| format!("{}: {line}", node.name()));
                self.tally.add("engine exits", 1);
                self.promise_before_end(host);
                self.end_process(host, Some(1_000_000));
                self.post(SUPERVISOR, Event::Start { host });
                return false;
            }
        }
        true
    }

    fn report(&mut self, host: usize, level: standin::engine::Level, line: &str) {
        // The one promise that is kept by waiting: who stalled is kept away for a while.
        if let Some(seconds) = line
            .strip_prefix("the standby confirms nothing; unprotected for ")
            .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        {
            let until = self.now + seconds * super::world::SECOND;
            self.shunned_until = self.shunned_until.max(until);
            self.tally.add("standby shunned", 1);
        }
        if line.contains("broke the replication protocol")
            && !line.contains("confirmed for too long")
        {
            let text = format!("{}: {line}", NodeId(host as u8).name());
            self.complain("replication protocol", text);
        }
        let line = format!("{level:?} {line}");
        self.hosts[host].note(self.now, &line);
        self.say(|| format!("{}: {line}", NodeId(host as u8).name()));
    }

    /// Gives the link what the engine has for the peer, as far as there is room.
    fn write_link(&mut self, host: usize) -> bool {
        let now = self.hosts[host].clock.at(self.now);
        let mut output = match self.hosts[host].held.take() {
            Some(Held::Bytes(bytes)) => bytes,
            other => {
                self.hosts[host].held = other;
                let Some(engine) = &mut self.hosts[host].engine else { return false };
                let output = core::mem::take(engine.link_output(now));
                if output.is_empty() {
                    return true;
                }
                if self.burns(host) {
                    if self.hosts[host].engine.is_some() {
                        self.hosts[host].held = Some(Held::Bytes(output));
                    }
                    return false;
                }
                output
            }
        };
        match self.hosts[host].link {
            // It was for a link that is gone.
            None => output.clear(),
            Some(stream) => {
                let taken = self.write_stream(stream, host, &output);
                let node = NodeId(host as u8);
                self.see(Sight::LinkOut { node, stream, bytes: &output[..taken] });
                output.drain(..taken);
            }
        }
        // What did not fit goes back in front of what came since.
        if let (false, Some(engine)) = (output.is_empty(), &mut self.hosts[host].engine) {
            let new = engine.link_output(now);
            output.append(new);
            *new = output;
        }
        true
    }

    /// Puts one packet on the wire, if there is one and the engine may speak.
    fn write_packet(&mut self, host: usize, count: u8) -> Option<Stage> {
        let (vnet, packet) = match self.hosts[host].held.take() {
            Some(Held::Packet(vnet, packet)) => (vnet, packet),
            _ => {
                if count == PACKETS_OUT || !self.hosts[host].may_speak(self.now) {
                    return Some(Stage::Start);
                }
                let now = self.hosts[host].clock.at(self.now);
                let Self { hosts, buffer, .. } = self;
                let engine = hosts[host].engine.as_mut()?;
                let Some(range) = engine.poll_packet(now, buffer) else {
                    return Some(Stage::Start);
                };
                let written = &buffer[range];
                let vnet = VnetHeader::parse(written).unwrap_or_default();
                let packet = written.get(VnetHeader::LEN..).unwrap_or_default().to_vec();
                if self.burns(host) {
                    if self.hosts[host].engine.is_some() {
                        self.hosts[host].held = Some(Held::Packet(vnet, packet));
                    }
                    return None;
                }
                (vnet, packet)
            }
        };
        if !self.hosts[host].may_speak(self.now) {
            self.tally.add("gated packets", 1);
            return Some(Stage::Start);
        }
        self.see(Sight::PacketOut { node: NodeId(host as u8), packet: &packet });
        self.host_sends_packet(host, vnet, &packet);
        Some(Stage::Packets(count + 1))
    }

    /// An output is about to happen: whether the process is interrupted right before it.
    fn burns(&mut self, host: usize) -> bool {
        self.outputs[host] += 1;
        let Some(fuse) = &mut self.hosts[host].fuse else { return false };
        if fuse.outputs > 0 {
            fuse.outputs -= 1;
            return false;
        }
        let fault = fuse.fault;
        self.hosts[host].fuse = None;
        self.tally.add("failure between two outputs", 1);
        self.blow(host, fault);
        true
    }

    /// Between two turns everything that an engine counts is what it counts.
    fn audit(&mut self, host: usize) {
        let now = self.hosts[host].clock.at(self.now);
        let Some(engine) = &self.hosts[host].engine else { return };
        if let Err(why) = engine.audit(now) {
            self.complain("counts", format!("{}: {why}", NodeId(host as u8).name()));
        }
    }

    /// What a node says of itself after a turn.
    fn listen(&mut self, host: usize) {
        let now = self.hosts[host].clock.at(self.now);
        let Some(engine) = &self.hosts[host].engine else { return };
        let status = engine.status(now);
        self.hear_of_backends(host, &status);
        let owner = matches!(status.role, Role::Primary { .. });
        let word = Word { owner, epoch: status.epoch.0, protected: status.protected };
        let before = core::mem::replace(&mut self.hosts[host].word, word);
        if word != before {
            let node = NodeId(host as u8);
            self.say(|| {
                format!(
                    "{}: {} (epoch {}){}",
                    node.name(),
                    status.role,
                    word.epoch,
                    if word.protected { ", protected" } else { "" }
                )
            });
            if owner && !before.owner && status.stats.takeovers > 0 {
                self.tally.add("takeovers", 1);
            }
            let Word { owner, epoch, protected } = word;
            self.see(Sight::Says { node, owner, epoch, protected });
        }
        self.promise_after_turn(host);
    }
}
