//! The memory budget: what clients make the engine keep for them, all connections together.
//!
//! Each connection has its bounds (TCP's window, a service's output), and ten thousand times those are more
//! than a host has. So what each holds is counted: input that came out of order or that nobody has
//! read, output that is not acknowledged.
//!
//! ```text
//!   0 ──────────── 1/2 ──────────── 3/4 ──────────── the budget ────────►
//!     as they like │ windows grow no │ windows shut,  │ whoever holds most
//!                  │ further         │ what comes all │ is reset
//!                  │                 │ the same is    │
//!                  │                 │ dropped        │
//! ```
//!
//! Only those that hold something are asked to do with less: whoever asks and reads the answer notices
//! nothing. A window never shrinks (RFC 9293 §3.8.6), so what was advertised may come all the same: it is
//! not kept then, nor acknowledged, and its sender tries again, slower. While somebody is put off in this
//! way, those give way that make us keep something and do not listen.
//! A standby holds what its primary does, less what is out of order; it resets nobody.

use std::collections::VecDeque;

use super::Complaint;
use super::Engine;
use super::connection::{Body, Connection};
use super::notice::Notice;
use crate::ids::ConnId;
use crate::service::Place;
use crate::session::CLIENT;
use crate::tcp::Room;
use crate::time::{Duration, Instant};

/// Whoever holds less is left alone, in KiB.
const SMALL: u16 = 8;
const KIB: u64 = 1024;
/// What a leg of a session may have for its end when memory is scarce.
const LEG_SCARCE: u32 = 64 * 1024;
/// The same when it is short: enough that everybody gets on.
const LEG_SHORT: u32 = 16 * 1024;
/// Who holds as much says nothing more while memory is short, in bytes: more than is asked for of anybody
/// who waits for room.
const ENOUGH: u64 = 24 * 1024;
/// Connections that are reset, and windows that are opened again, in one call.
const RESETS: usize = 16;
const OPENINGS: usize = 256;
/// Classes of connections by what they hold: each has twice as much as the one before.
const CLASSES: usize = 15;
/// Beside the bits of the classes: the connection stands in the list of those whose windows are limited.
const LIMITED: u16 = 1 << CLASSES;
/// Entries of a class that are looked at when one is added: more than one, so that those of
/// connections that are gone do not pile up.
const TIDIES: usize = 2;
/// Entries that are looked at in one call for somebody to be reset.
const LOOKS: usize = 64;
/// Whoever has got nothing acknowledged for so long, and has something to be, is idle.
const IDLE: Duration = Duration::from_millis(500);
/// The same of a server, which is no stranger.
const SERVER_IDLE: Duration = Duration::from_secs(5);

/// What all connections hold.
#[derive(Debug)]
pub(super) struct Memory {
    budget: u64,
    held: u64,
    /// Those that hold more than [`SMALL`], by class; and some that have left it, or ended.
    holders: [VecDeque<ConnId>; CLASSES],
    /// Whose windows were limited, each once; and some that have ended.
    limited: VecDeque<ConnId>,
    /// Somebody who listens could not say something, since it was last looked for those who give way.
    put_off: bool,
}

/// How much there is of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supply {
    Plenty,
    Scarce,
    Short,
}

impl Memory {
    pub(super) fn new(budget: u64) -> Self {
        let holders = core::array::from_fn(|_| VecDeque::new());
        Self { budget, held: 0, holders, limited: VecDeque::new(), put_off: false }
    }

    /// Bytes that are held.
    pub(super) const fn held(&self) -> u64 {
        self.held
    }

    /// Nobody holds anything any more.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.budget);
    }

    /// A connection that held so much is gone.
    pub(super) fn release(&mut self, holds: u16) {
        let holds = u64::from(holds) * KIB;
        assert!(self.held >= holds, "what one holds is part of what all hold");
        self.held -= holds;
    }

    /// How much one leg of a session may have for its end, where `usual` is the most, before the
    /// other leg's end has to wait: less of it where memory is not plenty, as what one leg holds came by
    /// the other one, whose window is open for as long as it holds nothing itself.
    pub(super) fn leg_buffer(&self, usual: u32) -> u32 {
        match self.supply() {
            Supply::Plenty => usual,
            Supply::Scarce => usual.min(LEG_SCARCE),
            Supply::Short => usual.min(LEG_SHORT),
        }
    }

    const fn supply(&self) -> Supply {
        if self.held >= self.budget / 4 * 3 {
            Supply::Short
        } else if self.held >= self.budget / 2 {
            Supply::Scarce
        } else {
            Supply::Plenty
        }
    }

    /// Whether no more is to come than has to.
    pub(super) const fn is_short(&self) -> bool {
        matches!(self.supply(), Supply::Short)
    }

    const fn is_over(&self) -> bool {
        self.held > self.budget
    }
}

/// The class of whoever holds so much; `None` for those that are left alone.
const fn class(holds: u16) -> Option<usize> {
    match holds / SMALL {
        0 => None,
        units => {
            let class = units.ilog2() as usize;
            Some(if class < CLASSES { class } else { CLASSES - 1 })
        }
    }
}

/// What a connection holds, in KiB: up to 64 MiB, more than its bounds let it.
/// `session`: what its session holds, if it is that one's first leg, in bytes.
pub(super) fn weigh(connection: &Connection, session: usize) -> u16 {
    let unordered = match &connection.body {
        Body::Live(tcb) => tcb.out_of_order(),
        Body::Parked(_) | Body::Held(_) => 0,
    };
    let bytes = connection.app.memory() + unordered + session;
    u16::try_from(bytes.div_ceil(KIB as usize)).unwrap_or(u16::MAX)
}

impl Engine {
    /// Counts what a connection holds, and tells it what it may ask for.
    pub(super) fn note_memory(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let first = connection.place().filter(|place| place.leg == CLIENT);
        let session = first.map_or(0, |place| self.sessions.memory(place.slot));
        let (before, holds) = (connection.holds, weigh(connection, session));
        let memory = &mut self.memory;
        connection.holds = holds;
        memory.held = memory.held - u64::from(before) * KIB + u64::from(holds) * KIB;
        let place = connection.place();
        let set_aside = place.is_some_and(|Place { slot, .. }| {
            self.sessions.get_mut(slot).is_some_and(|session| session.has_share())
        });
        if set_aside {
            return;
        }
        let supply = if holds < SMALL { Supply::Plenty } else { memory.supply() };
        if supply != Supply::Plenty
            && let Body::Live(tcb) = &mut connection.body
        {
            // Whoever waits for room is asked for less anyway.
            match supply {
                Supply::Short => tcb.limit_room(Room::Shut),
                _ if tcb.asked_room() == Room::Head => {}
                _ => tcb.limit_room(Room::Frugal),
            }
            if connection.lists & LIMITED == 0 {
                connection.lists |= LIMITED;
                memory.limited.push_back(id);
            }
        }
        if let Some(class) = class(holds)
            && connection.lists & 1 << class == 0
        {
            connection.lists |= 1 << class;
            memory.holders[class].push_back(id);
            self.tidy_holders(class);
        }
    }

    /// Whether what a connection says cannot be kept: memory is short, and it, or its session, has more
    /// than enough of it already. What is dropped was not acknowledged, and is sent again.
    pub(super) fn is_put_off(&mut self, now: Instant, id: ConnId) -> bool {
        if !self.memory.is_short() {
            return false;
        }
        let place = self.table.get_mut(id).and_then(|connection| connection.place());
        let has_share = place.is_some_and(|Place { slot, .. }| {
            self.sessions.get_mut(slot).is_some_and(|session| session.has_share())
        });
        let (mut held, mut listens) = (0, true);
        for leg in self.legs_with(id) {
            let Some(connection) = self.table.get_mut(leg) else { continue };
            held += u64::from(connection.holds) * KIB;
            listens &= connection.tcb_mut().is_none_or(|tcb| tcb.moves(now, IDLE));
        }
        let put_off = !has_share && held >= ENOUGH;
        self.memory.put_off |= put_off && listens;
        put_off
    }

    /// Whether there is something to do for want of memory, or because there is enough again.
    pub(super) fn memory_due(&self) -> bool {
        let Memory { limited, .. } = &self.memory;
        self.owns()
            && (self.memory.is_over()
                || self.memory.put_off
                || (self.memory.supply() == Supply::Plenty && !limited.is_empty()))
    }

    /// Beyond the budget those that hold most are reset; well below it windows are opened again.
    pub(super) fn advance_memory(&mut self, now: Instant) {
        if self.memory.is_over() {
            self.reset_holders(now);
        } else if core::mem::take(&mut self.memory.put_off) {
            self.reset_some(now, true);
        }
        for _ in 0..OPENINGS {
            if self.memory.supply() != Supply::Plenty {
                return;
            }
            let Some(id) = self.memory.limited.pop_front() else { return };
            let Some(connection) = self.table.get_mut(id) else { continue };
            connection.lists &= !LIMITED;
            if let Body::Live(tcb) = &mut connection.body {
                tcb.limit_room(Room::Buffer);
                self.make_leg_room(id);
                self.touch(now, id);
            }
        }
    }

    /// Resets some of those that hold most; if it can be, some that have been idle.
    fn reset_holders(&mut self, now: Instant) {
        self.memory.put_off = false;
        self.reset_some(now, true);
        self.reset_some(now, false);
    }

    /// The same. `spares`: those that are not idle, and goes on until memory is not short; else until the
    /// budget is kept. Returns how many were reset.
    fn reset_some(&mut self, now: Instant, spares: bool) -> usize {
        let (mut resets, mut looks) = (0, LOOKS);
        for class in (0..CLASSES).rev() {
            for _ in 0..self.memory.holders[class].len() {
                let enough = if spares { !self.memory.is_short() } else { !self.memory.is_over() };
                if resets == RESETS || looks == 0 || enough {
                    return resets;
                }
                looks -= 1;
                let Some(id) = self.next_holder(class) else { continue };
                let Some(connection) = self.table.get_mut(id) else { continue };
                let idle = match connection.place() {
                    Some(Place { leg: CLIENT, .. }) | None => IDLE,
                    Some(_) => SERVER_IDLE,
                };
                if spares && connection.tcb_mut().is_some_and(|tcb| tcb.moves(now, idle)) {
                    connection.lists |= 1 << class;
                    self.memory.holders[class].push_back(id);
                    continue;
                }
                self.reset_for_memory(now, id);
                resets += 1;
            }
        }
        resets
    }

    /// Takes the first of a class off its list, unless that has left it or is gone.
    fn next_holder(&mut self, class: usize) -> Option<ConnId> {
        let id = self.memory.holders[class].pop_front()?;
        let connection = self.table.get_mut(id)?;
        connection.lists &= !(1 << class);
        (self::class(connection.holds) == Some(class)).then_some(id)
    }

    fn tidy_holders(&mut self, class: usize) {
        for _ in 0..TIDIES {
            if let Some(id) = self.next_holder(class)
                && let Some(connection) = self.table.get_mut(id)
            {
                connection.lists |= 1 << class;
                self.memory.holders[class].push_back(id);
            }
        }
    }

    pub(super) fn reset_for_memory(&mut self, now: Instant, id: ConnId) {
        self.reset(now, id);
        self.stats.memory_short += 1;
        if let Some(left_out) = self.complaints.permit(now, Complaint::Memory) {
            let mib = self.memory.budget >> 20;
            self.report(Notice::MemoryShort { mib, left_out });
        }
    }
}
