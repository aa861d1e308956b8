//! The host's turn, once, for everybody who runs an engine: in which order what has happened is
//! taken in, and in which order what follows from it leaves.
//!
//! ```text
//!   timers ─► beats ─► act ─► news ─► link ⟲ link out ─► act ─► frames ─► packets in ─► act ─┐
//!      ▲                                                            └► relayed, at once      │
//!      └────────────────────── packets out ◄────────────────────── link out ◄────────────────┘
//! ```
//!
//! [`Turn`] owns the order of I5 (state, route, gate, announcement, nudge), the size of each batch,
//! the time that a turn may take, and the write gate of I3. It reads nothing and writes nothing:
//! [`Turn::next`] says what the host is to do next, and between any two of these steps a host may
//! stand still, or die. What leaves passes [`Turn::release`] with a clock read directly before, and
//! there is no other way to it.

use core::fmt;
use core::ops::Range;

use super::{Action, Engine, PACKET_BUFFER};
use crate::time::{Duration, Instant};
use crate::wire::VnetHeader;

/// Packets read in one turn. Reading only a few before what they bring about is written was tried:
/// eight downloads at once fell to a third, and uploads gained nothing.
const PACKETS_IN: u32 = 64;
/// Packets written in one turn; each may be a super-segment of 64 KiB.
const PACKETS_OUT: u32 = 64;
/// Frames read from the LAN in one turn.
const FRAMES_IN: u32 = 32;
/// Rounds of the link in one turn.
const LINK_ROUNDS: u32 = 4;

/// What a turn may do while it reads, counted as [`Engine::work`] counts: a few milliseconds. A pure
/// host's clock stands still during a turn, and what each may cost is bounded all the same.
const WORK: u64 = 4096;
/// How many turns fit at least into the time after which a silent node is taken for dead: a turn
/// reads until half of its time is over and writes until the other half is.
const TURNS_IN_DETECTION: u32 = 25;

/// What the host is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Hand the engine the heartbeats that have come, a bounded number of them.
    Beats,
    /// Tell the engine what else has happened: carrier, disk, arbiter, operator, the time of day.
    News,
    /// Hand the engine one piece of what the link has brought.
    Link,
    /// Hand the engine one frame of the LAN.
    Frame,
    /// Read one packet into [`Turn::room`] and hand it to [`Turn::on_packet`].
    Packet,
    /// Carry out what [`Turn::release`] lets through.
    Output,
    /// Nothing: the turn is over. With `more` there is something to do at once, otherwise at
    /// [`Engine::deadline`] or when something happens.
    Done {
        /// Whether a batch was full, or time was up.
        more: bool,
    },
}

/// What the host is to carry out.
#[derive(Debug)]
pub enum Output<'a> {
    /// Something other than bytes of the link or a packet.
    Action(Action),
    /// Bytes for the link; what it does not take goes back by [`Turn::put_back`].
    Link(Vec<u8>),
    /// A packet for the TUN: virtio header, then IP packet.
    Packet(&'a [u8]),
}

/// What came to the gate when it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gated {
    /// Frames that claim a service address.
    pub frames: u64,
    /// Packets of the engine's own.
    pub packets: u64,
    /// Packets that a relay passes on.
    pub relayed: u64,
}

impl Gated {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.frames + self.packets + self.relayed
    }
}

/// Where in a turn a host is. Each batch counts how often its source was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Beats,
    FirstActs,
    News,
    Link {
        asked: u32,
    },
    /// After so many rounds of the link, or, without a number, after all packets in.
    LinkOut {
        rounds: Option<u32>,
    },
    SecondActs,
    Frames {
        asked: u32,
    },
    Packets {
        asked: u32,
    },
    ThirdActs,
    PacketsOut {
        written: u32,
    },
    End,
}

/// An output that was decided and has not left.
enum Held {
    Nothing,
    Action(Action),
    Link(Vec<u8>),
    /// In `incoming`: what a relay made of what was read there.
    Relayed(usize),
    /// In `outgoing`.
    Packet(Range<usize>),
}

/// A turn of a host's loop, and the buffers for the packets of both directions. It lives as long as
/// its engine.
pub struct Turn {
    stage: Stage,
    held: Held,
    /// A hang-up that waits until the last words have been handed to the link.
    hang_up: bool,
    /// Whether the source that was last asked has nothing more.
    dry: bool,
    /// Whether the next turn has something to do at once.
    more: bool,
    began: Instant,
    /// What the engine had done when the turn began.
    worked: u64,
    gated: Gated,
    incoming: Box<[u8]>,
    outgoing: Box<[u8]>,
}

impl Default for Turn {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("stage", &self.stage).finish_non_exhaustive()
    }
}

impl Turn {
    /// Before the first turn.
    pub fn new() -> Self {
        Self {
            stage: Stage::Begin,
            held: Held::Nothing,
            hang_up: false,
            dry: true,
            more: false,
            began: Instant::ZERO,
            worked: 0,
            gated: Gated::default(),
            incoming: vec![0; PACKET_BUFFER].into(),
            outgoing: vec![0; PACKET_BUFFER].into(),
        }
    }

    /// What came to the gate when it was closed.
    pub const fn gated(&self) -> Gated {
        self.gated
    }

    /// There is more to read of what the last step asked for.
    pub const fn more(&mut self) {
        self.dry = false;
    }

    /// Where a packet is to be read, virtio header first.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.incoming
    }

    /// Puts a packet there that lies elsewhere. Returns the length for [`Self::on_packet`].
    ///
    /// # Panics
    ///
    /// If it is longer than an IP packet can be.
    pub fn put(&mut self, vnet: VnetHeader, packet: &[u8]) -> usize {
        let length = VnetHeader::LEN + packet.len();
        if let Some(header) = self.incoming.first_chunk_mut() {
            vnet.write(header);
        }
        self.incoming[VnetHeader::LEN..length].copy_from_slice(packet);
        length
    }

    /// The first `length` bytes of [`Self::room`] are a virtio header and a packet.
    pub fn on_packet(&mut self, engine: &mut Engine, now: Instant, length: usize) {
        let Some(vnet) = VnetHeader::parse(&self.incoming[..length]) else { return };
        let packet = &mut self.incoming[VnetHeader::LEN..length];
        let Some(relayed) = engine.on_packet(now, vnet, packet) else { return };
        if let Some(header) = self.incoming.first_chunk_mut() {
            relayed.vnet.write(header);
        }
        self.held = Held::Relayed(VnetHeader::LEN + relayed.length);
    }

    /// The link had no room for `rest`: it goes in front of what came since. A link that has ended
    /// takes nothing back, as it was for that link alone.
    pub fn put_back(&mut self, engine: &mut Engine, now: Instant, mut rest: Vec<u8>) {
        let new = engine.link_output(now);
        if new.is_empty() {
            *new = rest;
        } else if !rest.is_empty() {
            rest.append(new);
            *new = rest;
        }
    }

    /// What the host is to do next; to be asked again when that is done.
    pub fn next(&mut self, engine: &mut Engine, now: Instant) -> Step {
        loop {
            if !matches!(self.held, Held::Nothing) {
                return Step::Output;
            }
            let stage = self.stage;
            match stage {
                Stage::Begin => {
                    // Also when nothing is due: a gap since the last time is how the engine notices
                    // that it was paused.
                    (self.began, self.worked, self.more) = (now, engine.work(), false);
                    engine.on_timer(now);
                    return self.ask(Step::Beats, Stage::Beats);
                }
                Stage::Beats => {
                    self.more |= !self.dry;
                    self.stage = Stage::FirstActs;
                }
                Stage::FirstActs if self.act(engine, now) => {}
                Stage::FirstActs => return self.ask(Step::News, Stage::News),
                Stage::News => self.stage = Stage::Link { asked: 0 },
                Stage::Link { asked } if self.is_over(engine, now, asked, LINK_ROUNDS) => {
                    self.stage = Stage::SecondActs;
                }
                // Confirmations go back batch by batch, and not after all of them.
                Stage::Link { asked } => {
                    return self.ask(Step::Link, Stage::LinkOut { rounds: Some(asked + 1) });
                }
                Stage::LinkOut { rounds } => {
                    self.take_link(engine, now);
                    self.stage = match rounds {
                        Some(asked) => Stage::Link { asked },
                        None => Stage::PacketsOut { written: 0 },
                    };
                }
                Stage::SecondActs if self.act(engine, now) => {}
                Stage::SecondActs => self.stage = Stage::Frames { asked: 0 },
                Stage::Frames { asked } if self.is_over(engine, now, asked, FRAMES_IN) => {
                    self.stage = Stage::Packets { asked: 0 };
                }
                Stage::Frames { asked } => {
                    return self.ask(Step::Frame, Stage::Frames { asked: asked + 1 });
                }
                Stage::Packets { asked } if self.is_over(engine, now, asked, PACKETS_IN) => {
                    self.stage = Stage::ThirdActs;
                }
                Stage::Packets { asked } => {
                    return self.ask(Step::Packet, Stage::Packets { asked: asked + 1 });
                }
                Stage::ThirdActs if self.act(engine, now) => {}
                Stage::ThirdActs => self.stage = Stage::LinkOut { rounds: None },
                Stage::PacketsOut { written } => self.take_packet(engine, now, written),
                Stage::End => {
                    self.stage = Stage::Begin;
                    return Step::Done { more: self.more };
                }
            }
        }
    }

    /// What [`Step::Output`] announced, if it may leave at `now`, which must have been read directly
    /// before.
    ///
    /// **I3, one speaker, is enforced here**, below everything that makes packets: an engine that was
    /// stopped anywhere before finds its right expired. What is ready when the right runs out is
    /// dropped: TCP will send it again, from here or from the peer.
    pub fn release(&mut self, engine: &Engine, now: Instant) -> Option<Output<'_>> {
        let held = core::mem::replace(&mut self.held, Held::Nothing);
        let gated = match &held {
            Held::Action(Action::SendFrame { claims: true, .. }) => Some(&mut self.gated.frames),
            Held::Relayed(_) => Some(&mut self.gated.relayed),
            Held::Packet(_) => Some(&mut self.gated.packets),
            Held::Nothing | Held::Link(_) | Held::Action(_) => None,
        };
        if let Some(gated) = gated
            && now >= engine.speak_until()
        {
            *gated += 1;
            return None;
        }
        match held {
            Held::Nothing => None,
            Held::Action(action) => Some(Output::Action(action)),
            Held::Link(bytes) => Some(Output::Link(bytes)),
            Held::Relayed(length) => Some(Output::Packet(&self.incoming[..length])),
            Held::Packet(range) => Some(Output::Packet(&self.outgoing[range])),
        }
    }

    /// Whether the output that waits is a frame that claims a service address.
    #[cfg(test)]
    pub(super) const fn claims(&self) -> bool {
        matches!(self.held, Held::Action(Action::SendFrame { claims: true, .. }))
    }

    const fn ask(&mut self, step: Step, then: Stage) -> Step {
        (self.dry, self.stage) = (true, then);
        step
    }

    /// Whether a source that was asked so often is left for now: it is dry, or it has had its share,
    /// or there is no time for it.
    fn is_over(&mut self, engine: &Engine, now: Instant, asked: u32, most: u32) -> bool {
        if asked == 0 {
            return false;
        }
        let enough = asked >= most
            || engine.work() - self.worked >= WORK
            || self.has_taken(now, Self::time(engine) / 2);
        self.more |= enough && !self.dry;
        enough || self.dry
    }

    fn has_taken(&self, now: Instant, time: Duration) -> bool {
        now.since(self.began) >= time
    }

    /// How long a turn may take.
    fn time(engine: &Engine) -> Duration {
        engine.timing().detection / TURNS_IN_DETECTION
    }

    /// Takes up what the engine asks for next. Whether there is anything.
    fn act(&mut self, engine: &mut Engine, now: Instant) -> bool {
        if core::mem::take(&mut self.hang_up) {
            self.held = Held::Action(Action::HangUp);
            return true;
        }
        let Some(action) = engine.poll_action(now) else { return false };
        if action == Action::HangUp {
            // The last words, such as a handover, go first.
            self.hang_up = true;
            self.take_link(engine, now);
        } else {
            self.held = Held::Action(action);
        }
        true
    }

    fn take_link(&mut self, engine: &mut Engine, now: Instant) {
        let output = engine.link_output(now);
        if !output.is_empty() {
            self.held = Held::Link(core::mem::take(output));
        }
    }

    fn take_packet(&mut self, engine: &mut Engine, now: Instant, written: u32) {
        let may_speak = now < engine.speak_until();
        let late = written > 0 && self.has_taken(now, Self::time(engine));
        let packet = if may_speak && !late && written < PACKETS_OUT {
            engine.poll_packet(now, &mut self.outgoing)
        } else {
            None
        };
        if let Some(range) = packet {
            self.held = Held::Packet(range);
            self.stage = Stage::PacketsOut { written: written + 1 };
        } else {
            self.more |= may_speak && engine.has_packets();
            self.stage = Stage::End;
        }
    }
}
