//! The connection table: slots by [`ConnId`], slots by four-tuple.
//!
//! A [`ConnId`] is a slot (low half) and the serial number of its tenant (high half). The primary
//! assigns them; the standby puts each connection into the slot that its id names, so after a
//! takeover ids, records and timers mean the same on both nodes.
//!
//! The map from tuples is keyed with a secret: a client chooses its own port and could otherwise
//! choose a bucket. It holds hashes and slots alone, and finds the tuple in the slot.
//!
//! Of very many connections most are idle, and those are *parked* ([`Parked`](crate::tcp::Parked)).
//! A few may rest as they are, so that requests and replies are not kept waiting for memory:
//!
//! ```text
//!     live    ┌─ oldest ─────── up to `live_max`, and those with something under way ─┐
//!             ▼                                                                       ▲
//!           parked, if at rest; else to the back         begins, is looked for, wakes ┘
//! ```
//!
//! A share of those beyond `live_max` is looked at each turn. Nobody outside sees a parked
//! connection: whoever asks for it gets it live.

use core::mem::take;

use super::connection::{Body, Connection};
use crate::ids::ConnId;
use crate::slots::{Places, Queue, Slots};
use crate::wire::FourTuple;

/// Every connection of this engine, live or held for the peer.
#[derive(Debug)]
pub(super) struct Table {
    slots: Slots<Box<Connection>>,
    by_tuple: Places,
    /// Live connections, each once, the one that is live for longest first; and some that have ended.
    live: Queue<ConnId>,
    /// Beyond so many, those at rest are parked.
    live_max: usize,
    key: [u8; 16],
    serial: u32,
    /// Counts the standbys, and the times without one.
    era: u32,
    capacity: usize,
}

impl Table {
    /// An empty table that will hold at most `capacity` connections, and of those that rest
    /// `live_max` ready to speak.
    pub(super) fn new(key: [u8; 16], capacity: usize, live_max: usize) -> Self {
        Self {
            slots: Slots::default(),
            by_tuple: Places::default(),
            live: Queue::new(),
            live_max,
            key,
            serial: 0,
            era: 0,
            capacity,
        }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many slots there are, empty ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.end()
    }

    /// Whether no further connection fits.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// An id for a new connection, which may be inserted now. `None` when the table is full.
    pub(super) fn vacant(&mut self) -> Option<ConnId> {
        if self.is_full() {
            return None;
        }
        let slot = u32::try_from(self.slots.vacant()).ok()?;
        self.serial = self.serial.wrapping_add(1);
        Some(ConnId(u64::from(self.serial) << 32 | u64::from(slot)))
    }

    /// Puts `connection` into the slot that its id names. Gives it back if the slot or the
    /// four-tuple is taken, or lies beyond the capacity.
    pub(super) fn insert(
        &mut self,
        mut connection: Box<Connection>,
    ) -> Result<(), Box<Connection>> {
        let (id, tuple) = (connection.id, connection.tuple);
        let index = slot_of(id);
        if index >= self.capacity.saturating_mul(2) || self.find(tuple).is_some() {
            return Err(connection);
        }
        let live = matches!(connection.body, Body::Live(_));
        connection.era = self.era;
        self.slots.insert(index, connection)?;
        self.by_tuple.insert(tuple.keyed_hash(&self.key), index as u32);
        self.serial = self.serial.max((id.0 >> 32) as u32);
        if live {
            self.note_live(id);
        }
        Ok(())
    }

    /// The connection named `id`, unless it is gone. If it was parked it is not any more.
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        if self.tenant_mut(id)?.unpark() {
            self.note_live(id);
        }
        let era = self.era;
        let connection = self.tenant_mut(id)?;
        connection.renew(era);
        Some(connection)
    }

    fn tenant_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(slot_of(id))?;
        (connection.id == id).then_some(connection)
    }

    /// Who lives in `slot`.
    pub(super) fn tenant(&self, slot: usize) -> Option<ConnId> {
        Some(self.slots.get(slot)?.id)
    }

    /// Whether there is a connection named `id`.
    pub(super) fn has(&self, id: ConnId) -> bool {
        self.tenant(slot_of(id)) == Some(id)
    }

    /// `id` has become live.
    pub(super) fn note_live(&mut self, id: ConnId) {
        self.live.push_back(id);
    }

    /// Parks a turn's share of the connections that rest, beyond those that may. Gives up soon if
    /// most have something under way.
    pub(super) fn park_surplus(&mut self) {
        let (mut looks, mut misses) = (LOOKS, MISSES);
        while self.live.len() > self.live_max && looks > 0 && misses > 0 {
            let Some(id) = self.live.pop_front() else { return };
            looks -= 1;
            if self.tenant_mut(id).is_some_and(|connection| !connection.park()) {
                misses -= 1;
                self.live.push_back(id);
            }
        }
    }

    /// A standby comes, or goes: what was set in connections for the last one is void from now on.
    pub(super) fn begin_era(&mut self) {
        self.era = self.era.wrapping_add(1);
    }

    /// The name of the connection between the two ends of `tuple`.
    pub(super) fn find(&self, tuple: FourTuple) -> Option<ConnId> {
        let hash = tuple.keyed_hash(&self.key);
        let slot = self.by_tuple.find(hash, |slot| self.tuple_in(slot) == Some(tuple))?;
        self.tenant(slot as usize)
    }

    fn tuple_in(&self, slot: u32) -> Option<FourTuple> {
        Some(self.slots.get(slot as usize)?.tuple)
    }

    /// Takes the connection named `id` out; its slot is free.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Connection>> {
        let index = slot_of(id);
        if !self.has(id) {
            return None;
        }
        let mut connection = self.slots.remove(index)?;
        connection.renew(self.era);
        let hash = connection.tuple.keyed_hash(&self.key);
        let place = self.by_tuple.remove(hash, |slot| slot as usize == index);
        assert!(place.is_some(), "every connection has a place under its tuple");
        Some(connection)
    }

    /// Takes everything out: the connections, and what was kept of them.
    pub(super) fn take(&mut self) -> (Slots<Box<Connection>>, Remnant) {
        let (by_tuple, live) = (take(&mut self.by_tuple), take(&mut self.live));
        (take(&mut self.slots), Remnant { by_tuple, live })
    }

    /// Every connection, in slot order, the parked ones as they are, and as they were left.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().map(|slot| &**slot)
    }

    /// Whether what was set in `connection` for a standby's sake was set for the present one's.
    pub(super) fn is_current(&self, connection: &Connection) -> bool {
        connection.era == self.era
    }

    /// Whether the lists of the table agree with its slots.
    pub(super) fn audit(&self) -> Result<(), String> {
        let places: std::collections::BTreeSet<u32> = self.by_tuple.iter().collect();
        let tenants = self.iter().count();
        if [places.len(), self.by_tuple.len(), tenants] != [self.len(); 3] {
            return Err(format!(
                "{tenants} connections, {} places, kept {}",
                places.len(),
                self.len()
            ));
        }
        let lost = self.iter().find(|one| self.find(one.tuple) != Some(one.id));
        if let Some(lost) = lost {
            return Err(format!("{:?} is not found", lost.tuple));
        }
        let mut live: Vec<ConnId> = self.live.iter().copied().collect();
        live.sort_unstable();
        let is_listed_once = |one: &Connection| {
            let from = live.partition_point(|id| *id < one.id);
            live.get(from) == Some(&one.id) && live.get(from + 1) != Some(&one.id)
        };
        let speaks = |one: &&Connection| matches!(one.body, Body::Live(_));
        match self.iter().filter(speaks).find(|one| !is_listed_once(one)) {
            Some(one) => Err(format!("{:?} is not listed as live, or twice", one.tuple)),
            None => Ok(()),
        }
    }
}

/// What a table had beside its connections.
#[derive(Debug)]
pub(super) struct Remnant {
    by_tuple: Places,
    live: Queue<ConnId>,
}

impl Remnant {
    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        self.live.pop_piece() || self.by_tuple.pop_piece()
    }
}

/// Live connections looked at in one turn, more than a snapshot's turn makes live; and how many of
/// them may have something under way.
const LOOKS: usize = 2048;
const MISSES: usize = 16;

/// The slot that an id names.
pub(super) fn slot_of(id: ConnId) -> usize {
    (id.0 & 0xffff_ffff) as usize
}
