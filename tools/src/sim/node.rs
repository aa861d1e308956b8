//! How a host serves its engine: a turn of the runtime's loop, by the same [`Turn`].
//!
//! A process can be interrupted right before any output: an action, a write to the link, a packet.
//! A crash there loses what was decided. A freeze there keeps it, and the turn goes on when the
//! process does, with a clock that has moved: that is where the write gate must hold (I3).

use super::budget::Meter;
use super::host::{Disk, LinkNews, Word, mistake, obstacles, setup};
use super::offload::shown;
use super::world::{Event, World};
use crate::oracle::{NodeId, Sight};
use standin::engine::{Action, Breach, Engine, Notice, Output, Step, Turn};
use standin::role::Role;
use standin::wire::VnetHeader;

/// Pieces of the link that one round takes.
const LINK_PIECES: u8 = 16;
/// One world in so many is counted anew after each turn, others after one in so many turns.
const AUDITED: u64 = 10;
const AUDIT_EVERY: u64 = 32;
/// What a turn of a loop takes at least.
const TURN: u64 = 2000;
/// An engine that ends by itself is started again by its supervisor.
const SUPERVISOR: u64 = 1_000_000_000;

impl World {
    /// Starts a host's engine, if there is none.
    pub(super) fn start(&mut self, host: usize) {
        let (now, mtu) = (self.now, self.host_mtu(host));
        let state = &mut self.hosts[host];
        if state.engine.is_some() {
            return;
        }
        state.powered = true;
        state.boots += 1;
        let random = state.rng.u64(..);
        let mut setup = setup(&self.plan.pair, self.plan.relays.as_ref(), host, random | 1, random);
        setup.mtu = mtu;
        state.slips.iter().for_each(|slip| mistake(&mut setup, *slip));
        state.wrong_since = (!state.slips.is_empty()).then_some(now);
        (state.told_at, state.meter) = (None, Meter::default());
        let disk = Disk::new(&self.content, self.plan.pair.hashing, &state.disk_busy);
        let mut engine = Engine::new(setup, Box::new(disk), state.clock.at(now));
        engine.on_carrier(state.clock.at(now), !self.cuts.carrier_lost(host));
        let fit = !self.cuts.unfit(host);
        engine.on_host(state.clock.at(now), obstacles(fit));
        state.engine = Some(engine);
        state.turn = Turn::new();
        (state.word, state.down) = (Word::default(), Default::default());
        state.heard_at = now;
        state.note(now, "---- started ----");
        self.promise_after_fitness(host, fit);
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
            ("reset for want of memory", stats.memory_short),
            ("requests that took too long", stats.request_timeouts),
            ("packets relayed", stats.relayed),
            ("splices moved to another backend", relays.moved),
            ("splices ended", relays.unspliced),
            ("clients refused for lack of a backend", relays.refused),
            ("twins that a session went on without", stats.twins_lost),
            ("twins that differed", stats.differences),
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
        (state.routes, state.frozen, state.fuse) = (false, false, None);
        state.turn = Turn::new();
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
        let delay = TURN + state.rng.u64(..=most) + state.meter.cost();
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
        if let Some(more) = self.turn(host) {
            // The time alone may change what it says.
            self.hosts[host].changed = true;
            self.listen(host);
            self.audit(host);
            self.schedule_turn(host, more);
        }
    }

    fn schedule_turn(&mut self, host: usize, more: bool) {
        let now = self.now;
        let most = self.plan.pair.turn_us * 1000;
        let state = &mut self.hosts[host];
        let Some(engine) = &state.engine else { return };
        let soon = now + TURN + state.meter.cost();
        let more = more || state.inbox.has_more();
        let due = state.clock.when(engine.deadline()).unwrap_or(u64::MAX);
        let at = if more { soon } else { due.saturating_add(state.rng.u64(..=most)).max(soon) };
        if at < u64::MAX {
            self.turn_by(host, at);
        }
    }

    /// A turn, or what is left of it. If it comes to its end, whether there is more to do at once.
    fn turn(&mut self, host: usize) -> Option<bool> {
        loop {
            let state = &mut self.hosts[host];
            let now = state.clock.at(self.now);
            state.meter.begin(state.engine.as_ref()?.work());
            let step = state.turn.next(state.engine.as_mut()?, now);
            self.measure(host);
            match step {
                Step::Beats => self.hear_beats(host),
                Step::News => self.hear_news(host),
                Step::Link => self.read_link(host),
                Step::Frame => self.read_frame(host),
                Step::Packet => self.read_packet(host),
                Step::Output => {
                    self.listen(host);
                    if self.burns(host) {
                        return None;
                    }
                    self.let_out(host);
                }
                Step::Done { more } => {
                    self.measure_turn(host);
                    return Some(more);
                }
            }
            self.measure(host);
        }
    }

    fn hear_beats(&mut self, host: usize) {
        let true_now = self.now;
        let state = &mut self.hosts[host];
        let now = state.clock.at(true_now);
        let Some(engine) = &mut state.engine else { return };
        if !state.inbox.beats.is_empty() {
            state.heard_at = true_now;
        }
        while let Some((path, bytes)) = state.inbox.beats.pop_front() {
            engine.on_beat(now, path, &bytes);
        }
        state.changed = true;
    }

    fn hear_news(&mut self, host: usize) {
        let true_now = self.now;
        let state = &mut self.hosts[host];
        let now = state.clock.at(true_now);
        let Some(engine) = &mut state.engine else { return };
        engine.set_wall(state.clock.wall(true_now));
        if let Some(up) = state.inbox.carrier.take() {
            engine.on_carrier(now, up);
        }
        if let Some(fit) = state.inbox.fit.take() {
            engine.on_host(now, obstacles(fit));
        }
        if let Some(mtu) = state.inbox.mtu.take() {
            engine.on_mtu(now, mtu);
        }
        while let Some((number, reply)) = state.inbox.answers.pop_front() {
            engine.on_arbiter(now, number, Some(reply));
        }
        if core::mem::take(&mut state.inbox.content) {
            engine.on_content(now);
        }
        state.changed = true;
        if core::mem::take(&mut state.inbox.switchover) {
            let refusal = engine.on_switchover(now).err();
            let line =
                refusal.map_or("switchover: begun".to_owned(), |why| format!("switchover: {why}"));
            state.note(true_now, &line);
            self.say(|| format!("{}: {line}", NodeId(host as u8).name()));
        }
    }

    /// A round: pieces up to the first that carries data.
    fn read_link(&mut self, host: usize) {
        for _ in 0..LINK_PIECES {
            let Some(news) = self.hosts[host].inbox.links.pop_front() else { return };
            let data = matches!(news, LinkNews::Piece(..));
            self.take_link_news(host, news);
            self.hosts[host].changed = true;
            if data {
                break;
            }
        }
        self.hosts[host].turn.more();
    }

    fn read_frame(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let Some(frame) = state.inbox.frames.pop_front() else { return };
        let now = state.clock.at(self.now);
        let Some(engine) = &mut state.engine else { return };
        engine.on_frame(now, &frame);
        state.turn.more();
        state.changed = true;
    }

    fn read_packet(&mut self, host: usize) {
        let Some((vnet, packet)) = self.hosts[host].inbox.packets.pop_front() else { return };
        let shown = shown(vnet, &packet);
        let node = NodeId(host as u8);
        self.see(Sight::PacketIn { node, packet: &shown });
        if let Some(whole) = self.jigsaw.hand(host, &shown) {
            self.see(Sight::PacketIn { node, packet: &whole });
        }
        let state = &mut self.hosts[host];
        let now = state.clock.at(self.now);
        let Some(engine) = &mut state.engine else { return };
        let length = state.turn.put(vnet, &packet);
        state.turn.on_packet(engine, now, length);
        state.turn.more();
        state.changed = true;
    }

    /// Carries out what the turn lets through: the gate is in there (I3).
    fn let_out(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let now = state.clock.at(self.now);
        let Some(engine) = &state.engine else { return };
        let before = state.turn.gated();
        let packet = match state.turn.release(engine, now) {
            Some(Output::Packet(packet)) => packet.to_vec(),
            Some(Output::Action(action)) => return self.act(host, action),
            Some(Output::Link(bytes)) => return self.write_link(host, bytes),
            None => {
                let gated = state.turn.gated();
                let relayed = gated.relayed - before.relayed;
                self.tally.add("gated frames", gated.frames - before.frames);
                self.tally.add("gated packets", gated.packets - before.packets + relayed);
                self.tally.add("gated packets of a relay", relayed);
                return;
            }
        };
        let vnet = VnetHeader::parse(&packet).unwrap_or_default();
        let packet = packet.get(VnetHeader::LEN..).unwrap_or_default();
        self.excuse_the_greedy(packet);
        self.excuse_the_unlucky(packet);
        self.see(Sight::PacketOut { node: NodeId(host as u8), packet });
        self.host_sends_packet(host, vnet, packet);
    }

    fn act(&mut self, host: usize, action: Action) {
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
            Action::SendFrame { frame, .. } => {
                self.see(Sight::FrameOut { node, frame: &frame });
                self.host_sends_frame(host, &frame);
            }
            Action::SendBeat { path, bytes, .. } => {
                self.measure_beats(host, path);
                self.send_beat(host, path, &bytes);
            }
            Action::Dial => self.dial(host, false),
            Action::Knock => self.dial(host, true),
            Action::HangUp => self.hang_up(host),
            Action::Ask(ask) => self.ask_arbiter(host, ask),
            Action::Report(notice) => self.report(host, &notice),
            Action::Exit(reason) => {
                let line = format!("exits: {reason}");
                self.hosts[host].note(self.now, &line);
                self.say(|| format!("{}: {line}", node.name()));
                self.tally.add("engine exits", 1);
                self.promise_before_end(host);
                self.end_process(host, Some(1_000_000));
                self.post(SUPERVISOR, Event::Start { host });
            }
        }
    }

    fn report(&mut self, host: usize, notice: &Notice) {
        match notice {
            // The one promise that is kept by waiting: a standby that stalled is kept away for a while.
            Notice::StandbyStalled { wait } => {
                let until = self.now + wait.as_secs() * super::world::SECOND;
                self.shunned_until = self.shunned_until.max(until);
                self.tally.add("standby shunned", 1);
            }
            // No fault of the protocol: such a standby may only be slow.
            Notice::PeerBroke(Breach::NothingConfirmed) => {}
            Notice::Incompatible { .. } => self.hear_of_a_stranger(host),
            Notice::PeerBroke(_) => {
                let text = format!("{}: {notice}", NodeId(host as u8).name());
                self.complain("replication protocol", text);
            }
            _ => {}
        }
        let line = format!("{:?} {notice}", notice.level());
        self.hosts[host].note(self.now, &line);
        self.say(|| format!("{}: {line}", NodeId(host as u8).name()));
    }

    /// Gives the link what the engine has for the peer, as far as there is room.
    fn write_link(&mut self, host: usize, mut bytes: Vec<u8>) {
        match self.hosts[host].link {
            // It was for a link that is gone.
            None => bytes.clear(),
            Some(stream) => {
                let taken = self.write_stream(stream, host, &bytes);
                let node = NodeId(host as u8);
                self.see(Sight::LinkOut { node, stream, bytes: &bytes[..taken] });
                bytes.drain(..taken);
            }
        }
        let state = &mut self.hosts[host];
        let now = state.clock.at(self.now);
        if let Some(engine) = &mut state.engine {
            state.turn.put_back(engine, now, bytes);
        }
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

    /// Between two turns everything that an engine counts is what it counts. What does not add up stays so:
    /// in most worlds it is enough to look now and then.
    fn audit(&mut self, host: usize) {
        let every = if self.plan.seed.is_multiple_of(AUDITED) { 1 } else { AUDIT_EVERY };
        if !self.hosts[host].meter.turns().is_multiple_of(every) {
            return;
        }
        let now = self.hosts[host].clock.at(self.now);
        let Some(engine) = &self.hosts[host].engine else { return };
        if let Err(why) = engine.audit(now) {
            self.complain("counts", format!("{}: {why}", NodeId(host as u8).name()));
        }
    }

    /// What a node says of itself since something has happened to it.
    pub(super) fn listen(&mut self, host: usize) {
        if !core::mem::take(&mut self.hosts[host].changed) {
            return;
        }
        let now = self.hosts[host].clock.at(self.now);
        let Some(engine) = &self.hosts[host].engine else { return };
        let status = engine.status(now);
        self.hear_of_backends(host, &status);
        self.measure_memory(host, status.memory, status.stats.memory_short);
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
