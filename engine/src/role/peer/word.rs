//! The peer as last heard, and which of its processes that was.
//!
//! Beats may come late, twice and out of order, also those of a process that has long been
//! replaced, and those that somebody recorded in an earlier run of either node and sends again. So
//! nobody is believed who has not just answered this process: a beat of an unknown boot moves
//! nothing before it echoes a beat of ours, sent moments ago. If another boot is known, the echo
//! must also be of something sent after that was first heard: the known process was alive then, so
//! the one that answers later is its successor and never its predecessor.

use super::super::types::{Beat, BeatRole, Echo, Timing, instant};
use crate::ids::Epoch;
use crate::time::Instant;

/// The latest news of the peer.
#[derive(Clone, Copy, Debug)]
pub(in crate::role) struct Peer {
    /// Its process.
    pub(in crate::role) boot: u64,
    /// When this boot was first heard (own clock).
    pub(in crate::role) since: Instant,
    /// The highest sequence seen of this boot, on either path.
    sequence: u64,
    /// The clock value of that beat, to be echoed.
    sent: u64,
    /// What it is.
    pub(in crate::role) role: BeatRole,
    /// Its epoch.
    pub(in crate::role) epoch: Epoch,
    /// Its `synced` flag.
    pub(in crate::role) synced: bool,
    /// Its LAN carrier.
    pub(in crate::role) lan_ok: bool,
    /// Its arbiter answers.
    pub(in crate::role) arbiter_ok: bool,
    /// Nothing on its host would make it fail as an owner.
    pub(in crate::role) fit: bool,
    /// It hears us on the LAN.
    pub(in crate::role) hears_lan: bool,
    /// The latest of our own beats that this boot has heard (own clock).
    pub(in crate::role) echo: Option<Instant>,
}

/// What a beat means for what is known of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::role) enum Standing {
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
    pub(in crate::role) fn meet(now: Instant, beat: &Beat, own_boot: u64) -> Self {
        let mut peer = Self::greet(now, beat.boot, beat.epoch, beat.role);
        peer.update(now, beat, own_boot);
        peer
    }

    /// The peer as a Hello shows it; its LAN and sync are unknown until it beats.
    pub(in crate::role) fn greet(now: Instant, boot: u64, epoch: Epoch, role: BeatRole) -> Self {
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
    pub(in crate::role) fn standing(
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
    pub(in crate::role) fn update(&mut self, now: Instant, beat: &Beat, own_boot: u64) {
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
    pub(in crate::role) fn to_echo(self) -> Echo {
        Echo { boot: self.boot, sent: self.sent }
    }

    /// Whether its latest word was said after it had heard something sent later than `asked`.
    pub(in crate::role) fn has_answered_since(&self, asked: Instant) -> bool {
        self.echo.is_some_and(|echo| echo > asked)
    }
}

/// When what `beat` answers was sent (own clock), if it was sent by this process and moments ago.
pub(in crate::role) fn answered(
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
