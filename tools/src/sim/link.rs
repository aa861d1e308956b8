//! The replication network: streams as kernels give them, and heartbeats.
//!
//! A stream is dialled, answered by a kernel, proved by both processes, and then carries bytes each
//! way: in order, cut into pieces anywhere, no more of them at a time than the sockets hold. It
//! ends in order, or is reset wherever it is. The rules of who may dial whom, and which of two
//! streams stays, are those of the engine's runtime.

use std::collections::{BTreeMap, VecDeque};

use super::dice::{Place, dice, happens, up_to};
use super::frames::Progress;
use super::host::{Attempt, LinkNews, Piece};
use super::plan::Weather;
use super::world::{Event, World};
use crate::oracle::{NodeId, Sight};
use fastrand::Rng;
use standin::engine::LinkInput;
use standin::role::Path;

/// A connect that the network has not answered for so long is begun anew when asked for again.
const DIAL_STALE: u64 = 300_000_000;
/// How long a connection may take to prove the key.
const PROOF_TIME: u64 = 2_000_000_000;
/// Two connections opened within this time of one another were dialled at the same moment.
const CROSSING: u64 = 1_000_000_000;

/// Heartbeats that somebody who listens keeps of each node.
const RECORDED_MAX: usize = 10_000;

/// All streams there are.
#[derive(Debug)]
pub(super) struct Streams {
    streams: BTreeMap<u64, Stream>,
    dice: [Rng; 2],
    /// Output of a node that is held back.
    stalled: [u32; 2],
}

/// One stream.
#[derive(Debug)]
struct Stream {
    dialler: usize,
    ends: [End; 2],
    /// What each node sends.
    pipes: [Pipe; 2],
}

/// How far one end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Proving,
    Open,
    Closed,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<(u64, Piece)>,
    last_at: u64,
    /// Bytes that the sockets hold: under way, or not read.
    held: usize,
    /// Bytes that were read while no acknowledgment came back.
    uncredited: usize,
    /// A delivery is in the queue of events.
    awaited: bool,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        let dice = [0, 1].map(|host| dice(seed, Place::Stream(host)));
        Self { streams: BTreeMap::new(), dice, stalled: [0; 2] }
    }

    pub(super) fn stall(&mut self, host: usize) {
        self.stalled[host] += 1;
    }

    pub(super) fn unstall(&mut self, host: usize) {
        self.stalled[host] = self.stalled[host].saturating_sub(1);
    }

    pub(super) fn unstall_all(&mut self) {
        self.stalled = [0; 2];
    }

    fn end(&self, stream: u64, host: usize) -> End {
        self.streams.get(&stream).map_or(End::Closed, |stream| stream.ends[host])
    }

    /// Forgets streams that nobody holds and nothing travels on.
    fn tidy(&mut self, stream: u64) {
        let over = self.streams.get(&stream).is_some_and(|stream| {
            stream.ends == [End::Closed; 2]
                && stream.pipes.iter().all(|pipe| pipe.pieces.is_empty())
        });
        if over {
            self.streams.remove(&stream);
        }
    }
}

impl World {
    // ---- dialling ----

    /// A process dials, or knocks.
    pub(super) fn dial(&mut self, host: usize, knock: bool) {
        let now = self.now;
        let state = &self.hosts[host];
        if knock {
            if state.knock.is_some_and(|(_, until)| now < until) {
                return;
            }
        } else if let Some(Attempt { id, since, connecting }) = state.attempt {
            let patience = if connecting { DIAL_STALE } else { PROOF_TIME };
            if now - since < patience {
                return;
            }
            self.close_end(id, host, true);
        }
        let id = self.fresh();
        let state = &mut self.hosts[host];
        if knock {
            state.knock = Some((id, now + DIAL_STALE));
        } else {
            state.attempt = Some(Attempt { id, since: now, connecting: true });
        }
        if self.cuts.link_out(host) {
            return;
        }
        let delay = self.link_delay(host);
        self.post(delay, Event::Syn { from: host, id, knock });
    }

    fn link_delay(&mut self, host: usize) -> u64 {
        let plan = self.plan.link;
        (plan.delay_us + up_to(&mut self.streams.dice[host], plan.jitter_us)) * 1000 + 1
    }

    /// A SYN reaches the peer's kernel, which answers if it can.
    pub(super) fn syn_arrives(&mut self, from: usize, id: u64, knock: bool) {
        let peer = 1 - from;
        let state = &mut self.hosts[peer];
        if !state.receives() || self.cuts.link_in(peer) || self.cuts.link_out(peer) {
            return;
        }
        // A host that knows of no other node does not listen.
        let accepted = state.engine.is_some() && !state.is_alone();
        if accepted && !knock {
            let pipes = [Pipe::default(), Pipe::default()];
            let stream = Stream { dialler: from, ends: [End::Proving; 2], pipes };
            self.streams.streams.insert(id, stream);
            state.inbox.links.push_back(LinkNews::Accepted(id));
            self.want_turn(peer);
        }
        let delay = self.link_delay(peer);
        self.post(delay, Event::SynAnswer { to: from, id, accepted });
    }

    pub(super) fn syn_answered(&mut self, to: usize, id: u64, accepted: bool) {
        let state = &mut self.hosts[to];
        if !state.receives() || self.cuts.link_in(to) {
            return;
        }
        let dialled = state.attempt.filter(|attempt| attempt.id == id);
        let knocked = state.knock.is_some_and(|(knock, _)| knock == id);
        if knocked {
            state.knock = None;
        }
        match (accepted, dialled) {
            (false, _) if dialled.is_some() || knocked => {
                if dialled.is_some() {
                    state.attempt = None;
                }
                state.inbox.links.push_back(LinkNews::Refused(id));
                self.want_turn(to);
            }
            (true, Some(attempt)) => {
                state.attempt = Some(Attempt { connecting: false, ..attempt });
            }
            // The one who dialled has forgotten: its kernel resets the connection.
            (true, None) if self.streams.end(id, to) == End::Proving => {
                self.close_end(id, to, true);
            }
            // The proof has overtaken this answer.
            (true, None) => {}
            (false, _) => {}
        }
    }

    // ---- carrying ----

    /// Writes to a stream what there is room for. Returns how much was taken.
    pub(super) fn write_stream(&mut self, stream: u64, host: usize, bytes: &[u8]) -> usize {
        let capacity = self.plan.link.capacity;
        let Some(state) = self.streams.streams.get_mut(&stream) else { return bytes.len() };
        if state.ends[host] != End::Open {
            return bytes.len();
        }
        let pipe = &state.pipes[host];
        let room = capacity.saturating_sub(pipe.held + pipe.uncredited).min(bytes.len());
        if room < bytes.len() {
            self.tally.add("link full", 1);
        }
        let mut rest = &bytes[..room];
        while !rest.is_empty() {
            let most = self.plan.link.chunk.clamp(1, rest.len());
            let length = 1 + up_to(&mut self.streams.dice[host], most as u64 - 1) as usize;
            let (piece, more) = rest.split_at(length);
            self.send_piece(stream, host, Piece::Data(piece.to_vec()));
            rest = more;
        }
        room
    }

    fn send_piece(&mut self, stream: u64, host: usize, piece: Piece) {
        let delay = self.link_delay(host);
        let rate = self.plan.link.rate;
        let now = self.now;
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        let pipe = &mut state.pipes[host];
        let length = if let Piece::Data(bytes) = &piece { bytes.len() } else { 0 };
        pipe.held += length;
        let sending = (length as u64 * 1_000_000).checked_div(rate).unwrap_or(0);
        let at = (now + delay).max(pipe.last_at) + sending;
        pipe.last_at = at;
        pipe.pieces.push_back((at, piece));
        if !pipe.awaited {
            pipe.awaited = true;
            self.post_at(at, Event::Pipe { stream, from: host });
        }
    }

    /// The next piece is due at the other end, if the path carries it.
    pub(super) fn pipe_delivers(&mut self, stream: u64, from: usize) {
        let to = 1 - from;
        let blocked = self.cuts.link_out(from)
            || self.cuts.link_in(to)
            || self.streams.stalled[from] > 0
            || !self.hosts[to].receives();
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        let pipe = &mut state.pipes[from];
        pipe.awaited = false;
        if blocked {
            // It goes on when the path does: `kick_streams`.
            return;
        }
        let Some((_, piece)) = pipe.pieces.pop_front() else { return };
        if let Some(&(at, _)) = pipe.pieces.front() {
            pipe.awaited = true;
            self.post_at(at, Event::Pipe { stream, from });
        }
        self.piece_arrives(stream, to, piece);
        self.streams.tidy(stream);
    }

    fn piece_arrives(&mut self, stream: u64, to: usize, piece: Piece) {
        if self.streams.end(stream, to) == End::Closed {
            if piece != Piece::Close {
                // Nobody holds this end: a reset goes back.
                self.cut_short(stream, 1 - to);
            }
            return;
        }
        self.hosts[to].inbox.links.push_back(LinkNews::Piece(stream, piece));
        self.want_turn(to);
    }

    /// The end at `host` learns that the stream was reset. What was under way to it is lost.
    fn cut_short(&mut self, stream: u64, host: usize) {
        let delay = self.link_delay(1 - host);
        let at = self.now + delay;
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        if state.ends[host] == End::Closed {
            return;
        }
        let pipe = &mut state.pipes[1 - host];
        pipe.pieces.clear();
        pipe.pieces.push_back((at, Piece::Close));
        pipe.last_at = at;
        pipe.awaited = true;
        self.post_at(at, Event::Pipe { stream, from: 1 - host });
    }

    /// Paths changed: what waits goes on, after the kernel has found out.
    pub(super) fn kick_streams(&mut self) {
        let ids: Vec<u64> = self.streams.streams.keys().copied().collect();
        for stream in ids {
            for from in 0..2 {
                let open = !self.cuts.link_out(1 - from) && !self.cuts.link_in(from);
                let late = up_to(&mut self.streams.dice[from], 200_000_000);
                let at = self.now + late;
                let Some(state) = self.streams.streams.get_mut(&stream) else { continue };
                let pipe = &mut state.pipes[from];
                if open {
                    pipe.held -= core::mem::take(&mut pipe.uncredited);
                }
                if !pipe.awaited && !pipe.pieces.is_empty() {
                    pipe.awaited = true;
                    self.post_at(at, Event::Pipe { stream, from });
                }
            }
        }
    }

    /// The process at `host` has read `length` bytes: there is room again.
    fn credit(&mut self, stream: u64, host: usize, length: usize) {
        let back = !self.cuts.link_out(host) && !self.cuts.link_in(1 - host);
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        let pipe = &mut state.pipes[1 - host];
        if back {
            pipe.held -= length + core::mem::take(&mut pipe.uncredited);
            // A host that waits for room finds it in its next turn.
            self.want_turn(1 - host);
        } else {
            pipe.uncredited += length;
        }
    }

    // ---- processes ----

    /// A process takes the next news of its streams.
    pub(super) fn take_link_news(&mut self, host: usize, news: LinkNews) {
        match news {
            LinkNews::Accepted(id) => self.send_proof(id, host),
            LinkNews::Refused(_) => self.tell_link(host, LinkInput::Refused),
            LinkNews::Piece(stream, piece) => match piece {
                Piece::Proof => self.prove(stream, host),
                Piece::Data(bytes) => {
                    self.credit(stream, host, bytes.len());
                    if self.hosts[host].link == Some(stream) {
                        let node = NodeId(host as u8);
                        self.see(Sight::LinkIn { node, stream, bytes: &bytes });
                        self.hosts[host].progress.take(&bytes);
                        self.hosts[host].meter.bring(bytes.len());
                        self.tell_link(host, LinkInput::Data(&bytes));
                    }
                }
                Piece::Close => self.stream_ended(stream, host),
            },
        }
    }

    fn send_proof(&mut self, stream: u64, host: usize) {
        self.send_piece(stream, host, Piece::Proof);
    }

    /// The other end has proved the key.
    fn prove(&mut self, stream: u64, host: usize) {
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        if state.ends[host] != End::Proving {
            return;
        }
        state.ends[host] = End::Open;
        if state.dialler == host {
            if self.hosts[host].attempt.is_none_or(|attempt| attempt.id != stream) {
                return self.close_end(stream, host, true);
            }
            self.hosts[host].attempt = None;
            self.send_proof(stream, host);
        }
        self.adopt(stream, host);
    }

    /// A stream becomes the link, unless it is the lesser of two that crossed.
    fn adopt(&mut self, stream: u64, host: usize) {
        let dialler = |id: u64| self.streams.streams.get(&id).map_or(host, |s| s.dialler);
        if let Some(current) = self.hosts[host].link {
            let recent = self.now - self.hosts[host].linked_at < CROSSING;
            let crossed = recent && dialler(current) != dialler(stream);
            if crossed && dialler(stream) != 0 {
                return self.close_end(stream, host, true);
            }
            self.close_end(current, host, true);
            self.lose_link(host);
        }
        self.hosts[host].link = Some(stream);
        self.hosts[host].linked_at = self.now;
        self.hosts[host].progress = Progress::default();
        self.tally.add("links", 1);
        self.say(|| format!("{}: stream {stream} is the link", NodeId(host as u8).name()));
        self.see(Sight::LinkUp { node: NodeId(host as u8), stream });
        self.tell_link(host, LinkInput::Connected);
    }

    /// The link is gone: the engine is told.
    fn lose_link(&mut self, host: usize) {
        if let Some(stream) = self.hosts[host].link.take() {
            if self.hosts[host].progress.is_amid() {
                self.tally.add("link ended amid a frame", 1);
            }
            self.say(|| format!("{}: stream {stream} is gone", NodeId(host as u8).name()));
            self.see(Sight::LinkDown { node: NodeId(host as u8), stream });
            self.tell_link(host, LinkInput::Closed);
        }
    }

    fn stream_ended(&mut self, stream: u64, host: usize) {
        self.close_end(stream, host, false);
        let state = &mut self.hosts[host];
        if state.attempt.is_some_and(|attempt| attempt.id == stream) {
            state.attempt = None;
        }
        if state.link == Some(stream) {
            self.lose_link(host);
        }
    }

    fn tell_link(&mut self, host: usize, input: LinkInput<'_>) {
        let now = self.hosts[host].clock.at(self.now);
        if let Some(engine) = &mut self.hosts[host].engine {
            engine.on_link(now, input);
        }
    }

    /// A process hangs up: the link and any attempt end, without an event.
    pub(super) fn hang_up(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        state.knock = None;
        let attempt = state.attempt.take().map(|attempt| attempt.id);
        let link = state.link.take();
        if let Some(stream) = link {
            self.say(|| format!("{}: hangs up stream {stream}", NodeId(host as u8).name()));
            self.see(Sight::LinkDown { node: NodeId(host as u8), stream });
        }
        for stream in [link, attempt].into_iter().flatten() {
            self.close_end(stream, host, true);
        }
    }

    /// One end is closed. `tell`: the other learns of it, after what was sent before.
    fn close_end(&mut self, stream: u64, host: usize, tell: bool) {
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        if state.ends[host] == End::Closed {
            return;
        }
        state.ends[host] = End::Closed;
        // What comes for it meets nobody.
        if tell {
            self.send_piece(stream, host, Piece::Close);
        }
        self.streams.tidy(stream);
    }

    // ---- failures ----

    /// A process is gone: its kernel closes what it had, of which so much (per million) still
    /// arrives. `None`: the host is gone with it, and nobody hears anything.
    pub(super) fn orphan_streams(&mut self, host: usize, flushed: Option<u32>) {
        let state = &mut self.hosts[host];
        (state.link, state.attempt, state.knock) = (None, None, None);
        let ids: Vec<u64> = self.streams.streams.keys().copied().collect();
        for stream in ids {
            if self.streams.end(stream, host) == End::Closed {
                continue;
            }
            self.cut_pipe(stream, host, flushed.unwrap_or(0));
            match flushed {
                Some(_) => self.close_end(stream, host, true),
                None => {
                    if let Some(state) = self.streams.streams.get_mut(&stream) {
                        state.ends[host] = End::Closed;
                    }
                }
            }
        }
    }

    /// The stream that is the link is reset: each end learns of it, in the middle of whatever was
    /// under way.
    pub(super) fn reset_link(&mut self) {
        let ids: Vec<u64> = self.streams.streams.keys().copied().collect();
        for stream in ids {
            for host in 0..2 {
                let flushed = self.streams.dice[host].u32(..1_000_000);
                self.cut_pipe(stream, host, flushed);
                self.send_piece(stream, host, Piece::Close);
            }
        }
    }

    /// Of what `host` has sent and has not arrived only so much will, per million: the end of it
    /// is cut off, in the middle of a piece.
    fn cut_pipe(&mut self, stream: u64, host: usize, flushed: u32) {
        let Some(state) = self.streams.streams.get_mut(&stream) else { return };
        let pipe = &mut state.pipes[host];
        let length = |piece: &Piece| if let Piece::Data(bytes) = piece { bytes.len() } else { 0 };
        let total: usize = pipe.pieces.iter().map(|(_, piece)| length(piece)).sum();
        let mut keep = (total as u64 * u64::from(flushed) / 1_000_000) as usize;
        let mut kept = VecDeque::new();
        for (at, piece) in pipe.pieces.drain(..) {
            match piece {
                Piece::Data(mut bytes) => {
                    let dropped = bytes.len() - keep.min(bytes.len());
                    pipe.held -= dropped;
                    bytes.truncate(bytes.len() - dropped);
                    keep -= bytes.len();
                    if !bytes.is_empty() {
                        kept.push_back((at, Piece::Data(bytes)));
                    }
                    if dropped > 0 {
                        // Nothing that was sent later can arrive.
                        keep = 0;
                    }
                }
                Piece::Proof | Piece::Close => kept.push_back((at, piece)),
            }
        }
        pipe.pieces = kept;
    }

    // ---- heartbeats ----

    pub(super) fn send_beat(&mut self, host: usize, path: Path, bytes: &[u8]) {
        let (cut, index) = match path {
            Path::Replication => (self.cuts.link_out(host), 0),
            Path::Lan => (self.cuts.lan_out(host) || self.cuts.estranged(), 1),
        };
        // A recorder on the LAN has it, whether it arrives or not.
        if self.recorded[host].len() < RECORDED_MAX {
            self.recorded[host].push((path, bytes.to_vec()));
        }
        if cut {
            return;
        }
        let link = self.plan.link;
        let mut weather = match path {
            Path::Replication => Weather {
                delay_us: link.delay_us,
                jitter_us: link.jitter_us,
                loss: link.loss,
                duplicate: link.duplicate,
                ..Weather::FAIR
            },
            Path::Lan => self.weather,
        };
        if self.healed {
            weather.loss = 0;
        }
        let extra = self.beat_loss[index];
        let Self { beat_lines, tally, now, .. } = self;
        let lost = happens(&mut self.streams.dice[host], extra);
        let arrivals = beat_lines[host].carry(*now, &weather, bytes.len(), tally);
        for arrival in arrivals.into_iter().flatten() {
            // One that is damaged fails its seal.
            if !lost && arrival.flipped.is_none() {
                let bytes = bytes.to_vec();
                self.post(arrival.delay, Event::Beat { host: 1 - host, path, bytes });
            }
        }
        if lost {
            self.tally.add("beat lost", 1);
        }
    }

    /// Somebody sends what `from` has sent at any time since the beginning again, to the other node.
    pub(super) fn play_recordings(&mut self, from: usize, count: u32, within: u64) {
        for _ in 0..count {
            let among = self.recorded[from].len();
            if among == 0 {
                return;
            }
            let (path, bytes) = self.recorded[from][self.recorder.usize(..among)].clone();
            let delay = self.recorder.u64(..=within);
            self.post(delay, Event::Beat { host: 1 - from, path, bytes });
        }
    }
}
