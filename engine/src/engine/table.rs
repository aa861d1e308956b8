//! The connection table: slots by [`ConnId`], slots by four-tuple.
//!
//! A [`ConnId`] is a slot (low half) and the serial number of its tenant (high half). The primary
//! assigns them; the standby puts each connection into the slot that its id names, so after a
//! takeover ids, records and timers mean the same on both nodes.
//!
//! The map from tuples is keyed with a secret: a client chooses its own port and could otherwise
//! choose a bucket. It holds hashes and slots alone, and finds the tuple in the slot: small, and
//! quick to double. Half a million tuples with their hashes computed anew took the loop longer than
//! a standby waits for a dead primary.
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

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::connection::{Body, Connection};
use crate::ids::ConnId;
use crate::wire::FourTuple;

/// A place in the map: which slot, and the hash of the four-tuple of whoever is in it. The tuple
/// itself is there, and need not be here again; the hash is, so that the map can grow without a
/// look at every connection.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    slot: u32,
}

impl Place {
    /// The hash as the map takes it: its low bits choose a bucket, its high bits tell apart.
    const fn spread(hash: u32) -> u64 {
        (hash as u64) << 32 | hash as u64
    }
}

/// Every connection of this engine, live or held for the peer.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Option<Box<Connection>>>,
    free: Vec<u32>,
    by_tuple: HashTable<Place>,
    /// Live connections, each once, the one that is live for longest first; and some that have ended.
    live: VecDeque<ConnId>,
    /// Beyond so many, those at rest are parked.
    live_max: usize,
    key: [u8; 16],
    serial: u32,
    /// Counts the standbys, and the times without one.
    session: u32,
    capacity: usize,
}

impl Table {
    /// An empty table that will hold at most `capacity` connections, and of those that rest
    /// `live_max` ready to speak.
    pub(super) fn new(key: [u8; 16], capacity: usize, live_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_tuple: HashTable::new(),
            live: VecDeque::new(),
            live_max,
            key,
            serial: 0,
            session: 0,
            capacity,
        }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.by_tuple.len()
    }

    /// How many slots there are, empty ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Whether no further connection fits.
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// An id for a new connection. `None` when the table is full.
    pub(super) fn vacant(&mut self) -> Option<ConnId> {
        if self.is_full() {
            return None;
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(None);
                slot
            }
        };
        self.serial = self.serial.wrapping_add(1);
        Some(ConnId(u64::from(self.serial) << 32 | u64::from(slot)))
    }

    /// Puts `connection` into the slot that its id names. Gives it back if the slot or the
    /// four-tuple is taken, or lies beyond the capacity.
    pub(super) fn insert(
        &mut self,
        mut connection: Box<Connection>,
    ) -> Result<(), Box<Connection>> {
        let index = slot_of(connection.id);
        if index >= self.capacity.saturating_mul(2) || self.find(connection.tuple).is_some() {
            return Err(connection);
        }
        while self.slots.len() <= index {
            self.slots.push(None);
        }
        if self.slots[index].is_some() {
            return Err(connection);
        }
        self.serial = self.serial.max((connection.id.0 >> 32) as u32);
        let place = Place { hash: connection.tuple.keyed_hash(&self.key), slot: index as u32 };
        let spread = |place: &Place| Place::spread(place.hash);
        self.by_tuple.insert_unique(Place::spread(place.hash), place, spread);
        connection.session = self.session;
        let (id, live) = (connection.id, matches!(connection.body, Body::Live(_)));
        self.slots[index] = Some(connection);
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
        let session = self.session;
        let connection = self.tenant_mut(id)?;
        connection.renew(session);
        Some(connection)
    }

    fn tenant_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        let connection = self.slots.get_mut(slot_of(id))?.as_deref_mut();
        connection.filter(|connection| connection.id == id)
    }

    /// Who lives in `slot`.
    pub(super) fn tenant(&self, slot: usize) -> Option<ConnId> {
        Some(self.slots.get(slot)?.as_ref()?.id)
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
    pub(super) fn begin_session(&mut self) {
        self.session = self.session.wrapping_add(1);
    }

    /// The name of the connection between the two ends of `tuple`.
    pub(super) fn find(&self, tuple: FourTuple) -> Option<ConnId> {
        let hash = tuple.keyed_hash(&self.key);
        let place = self.by_tuple.find(Place::spread(hash), |place| {
            place.hash == hash && self.tuple_in(place.slot) == Some(tuple)
        })?;
        self.slots[place.slot as usize].as_ref().map(|connection| connection.id)
    }

    fn tuple_in(&self, slot: u32) -> Option<FourTuple> {
        Some(self.slots.get(slot as usize)?.as_ref()?.tuple)
    }

    /// Takes the connection named `id` out; its slot is on offer.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Connection>> {
        let connection = self.remove_held(id)?;
        self.free.push(slot_of(id) as u32);
        Some(connection)
    }

    /// Takes the connection named `id` out. Whoever follows assigns no slots and keeps no list of
    /// them: it would only grow.
    pub(super) fn remove_held(&mut self, id: ConnId) -> Option<Box<Connection>> {
        let index = slot_of(id);
        let slot = self.slots.get_mut(index)?;
        if slot.as_ref().is_none_or(|connection| connection.id != id) {
            return None;
        }
        let mut connection = slot.take()?;
        connection.renew(self.session);
        let hash = connection.tuple.keyed_hash(&self.key);
        if let Ok(place) =
            self.by_tuple.find_entry(Place::spread(hash), |place| place.slot as usize == index)
        {
            place.remove();
        }
        Some(connection)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.by_tuple.clear();
        self.live.clear();
    }

    /// Makes every empty slot available again: on the standby slots fill in the primary's order,
    /// and only an owner assigns new ones.
    pub(super) fn rebuild_free(&mut self) {
        self.free.clear();
        let empty = self.slots.iter().enumerate().rev().filter(|(_, slot)| slot.is_none());
        self.free.extend(empty.map(|(index, _)| index as u32));
    }

    /// How many empty slots are on offer.
    #[cfg(test)]
    pub(super) fn vacancies(&self) -> usize {
        self.free.len()
    }

    /// Every connection, in slot order, the parked ones as they are, and as they were left.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.as_deref())
    }

    /// Whether what was set in `connection` for a standby's sake was set for the present one's.
    pub(super) fn is_current(&self, connection: &Connection) -> bool {
        connection.session == self.session
    }

    /// Whether the lists of the table agree with its slots.
    pub(super) fn audit(&self) -> Result<(), String> {
        let places: std::collections::BTreeSet<u32> =
            self.by_tuple.iter().map(|place| place.slot).collect();
        let tenants = self.iter().count();
        if places.len() != self.len() || tenants != self.len() {
            return Err(format!("{tenants} connections, {} places", self.len()));
        }
        let lost = self.iter().find(|one| self.find(one.tuple) != Some(one.id));
        if let Some(lost) = lost {
            return Err(format!("{:?} is not found", lost.tuple));
        }
        let free: std::collections::BTreeSet<u32> = self.free.iter().copied().collect();
        let taken = free.iter().any(|slot| self.tenant(*slot as usize).is_some());
        if taken || free.len() != self.free.len() {
            return Err("a slot that is taken, or offered already, is on offer".to_owned());
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

    /// Every connection, in slot order, the parked ones as they are.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|slot| slot.as_deref_mut())
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
