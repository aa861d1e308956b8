//! The peer as last heard, and which of its processes that was.
//!
//! Beats may come late, twice and out of order, also those of a process that has long been
//! replaced, and those that somebody recorded in an earlier run of either node and sends again. So
//! nobody is believed who has not just answered this process: a beat of an unknown boot moves
//! nothing before it echoes a beat of ours, sent moments ago. If another boot is known, the echo
//! must also be of something sent after that was first heard: the known process was alive then, so
//! the one that answers later is its successor and never its predecessor.
//!
//! Whoever has not answered is a *caller*. It is answered, so that one that lives can answer us in
//! turn, and that is all:
//!
//! ```text
//!   a, just started                        b, just started
//!      beat, echo nobody's ────────────►   a calls
//!   b has answered    ◄──────────────────  beat, echo a's
//!      beat, echo b's ─────────────────►   a has answered
//! ```

use arrayvec::ArrayVec;

use super::types::{Beat, BeatRole, Echo, Timing, instant};
use crate::ids::Epoch;
use crate::time::{Duration, Instant};

/// Callers that are answered with one beat. Where there are more, somebody plays recordings, and one
/// that lives calls again.
const CALLERS_MAX: usize = 4;

/// The latest news of the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// Its process.
    pub(super) boot: u64,
    /// When this boot was first heard (own clock).
    pub(super) since: Instant,
    /// The highest sequence seen of this boot, on either path.
    sequence: u64,
    /// The clock value of that beat, to be echoed.
    sent: u64,
    /// What it is.
    pub(super) role: BeatRole,
    /// Its epoch.
    pub(super) epoch: Epoch,
    /// Its `synced` flag.
    pub(super) synced: bool,
    /// Its LAN carrier.
    pub(super) lan_ok: bool,
    /// Its arbiter answers.
    pub(super) arbiter_ok: bool,
    /// Nothing on its host would make it fail as an owner.
    pub(super) fit: bool,
    /// It hears us on the LAN.
    pub(super) hears_lan: bool,
    /// The latest of our own beats that this boot has heard (own clock).
    pub(super) echo: Option<Instant>,
}

/// What a beat means for what is known of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// The known process, later than anything heard.
    News,
    /// The known process, but late or a copy.
    Stale,
    /// A successor of the known process.
    Successor,
    /// Another process that has not answered, or not since the known one lived: a caller.
    Unproven,
}

impl Peer {
    /// The peer as its first beat shows it.
    pub(super) fn meet(now: Instant, beat: &Beat, own_boot: u64) -> Self {
        let mut peer = Self::greet(now, beat.boot, beat.epoch, beat.role);
        peer.update(now, beat, own_boot);
        peer
    }

    /// The peer as a Hello shows it; its LAN and sync are unknown until it beats.
    pub(super) fn greet(now: Instant, boot: u64, epoch: Epoch, role: BeatRole) -> Self {
        Self {
            boot,
            since: now,
            sequence: 0,
            sent: 0,
            role,
            epoch,
            synced: false,
            lan_ok: true,
            arbiter_ok: true,
            fit: true,
            hears_lan: true,
            echo: None,
        }
    }

    /// Where `beat` stands to what is known.
    pub(super) fn standing(
        &self,
        now: Instant,
        beat: &Beat,
        own_boot: u64,
        timing: &Timing,
    ) -> Standing {
        if beat.boot == self.boot {
            return if beat.sequence > self.sequence { Standing::News } else { Standing::Stale };
        }
        match answered(now, beat, own_boot, timing) {
            Some(echo) if echo > self.since => Standing::Successor,
            Some(_) | None => Standing::Unproven,
        }
    }

    /// Takes over what `beat`, which is news, says.
    pub(super) fn update(&mut self, now: Instant, beat: &Beat, own_boot: u64) {
        self.sequence = beat.sequence;
        self.sent = beat.sent;
        self.role = beat.role;
        self.epoch = beat.epoch;
        self.synced = beat.synced;
        self.lan_ok = beat.lan_ok;
        self.arbiter_ok = beat.arbiter_ok;
        self.fit = beat.fit;
        self.hears_lan = beat.hears_lan;
        self.echo = self.echo.max(own_echo(now, beat.echo, own_boot));
    }

    /// What to echo.
    pub(super) fn to_echo(self) -> Echo {
        Echo { boot: self.boot, sent: self.sent }
    }

    /// Whether its latest word was said after it had heard something sent later than `asked`.
    pub(super) fn has_answered_since(&self, asked: Instant) -> bool {
        self.echo.is_some_and(|echo| echo > asked)
    }
}

/// Those who speak for the peer and have not answered this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    /// Who calls, and the clock value of the latest call; not answered yet.
    waiting: ArrayVec<Echo, CALLERS_MAX>,
    /// When one called last.
    called: Option<Instant>,
    /// When one last said that it owns.
    owned: Option<Instant>,
}

impl Callers {
    /// `beat` came, and its sender has not answered.
    pub(super) fn note(&mut self, now: Instant, beat: &Beat) {
        self.called = Some(now);
        if beat.role.owns() {
            self.owned = Some(now);
        }
        let call = Echo { boot: beat.boot, sent: beat.sent };
        match self.waiting.iter_mut().find(|waiting| waiting.boot == call.boot) {
            Some(waiting) => waiting.sent = waiting.sent.max(call.sent),
            None => {
                // The latest are kept: none can shut another out for longer than it goes on calling.
                if self.waiting.is_full() {
                    self.waiting.remove(0);
                }
                self.waiting.push(call);
            }
        }
    }

    /// Process `boot` has answered: it calls no more.
    pub(super) fn forget(&mut self, boot: u64) {
        self.waiting.retain(|waiting| waiting.boot != boot);
    }

    /// Whom to answer next.
    pub(super) fn poll(&mut self) -> Option<Echo> {
        self.waiting.pop()
    }

    /// Whether one has called within `time`.
    pub(super) fn called_within(&self, now: Instant, time: Duration) -> bool {
        self.called.is_some_and(|at| now.since(at) < time)
    }

    /// Whether one has said within `time` that it owns.
    pub(super) fn owned_within(&self, now: Instant, time: Duration) -> bool {
        self.owned.is_some_and(|at| now.since(at) < time)
    }
}

/// When what `beat` answers was sent (own clock), if it was sent by this process and moments ago.
pub(super) fn answered(
    now: Instant,
    beat: &Beat,
    own_boot: u64,
    timing: &Timing,
) -> Option<Instant> {
    own_echo(now, beat.echo, own_boot).filter(|&sent| now.since(sent) < timing.startup())
}

/// The echo as an instant of our clock; `None` if it is of another boot or impossible.
fn own_echo(now: Instant, echo: Echo, own_boot: u64) -> Option<Instant> {
    let sent = instant(echo.sent);
    (echo.boot == own_boot && sent <= now).then_some(sent)
}
