//! The splices: by name, and by the four-tuple of either leg.

use hashbrown::HashTable;

use super::splice::{Entry, Side};
use crate::ids::SpliceId;
use crate::wire::FourTuple;

/// A leg's place in the map: its hash, and which slot, with the side in the lowest bit.
#[derive(Debug, Clone, Copy)]
struct Place {
    hash: u32,
    slot_and_side: u32,
}

impl Place {
    const fn new(hash: u32, slot: u32, side: Side) -> Self {
        Self { hash, slot_and_side: slot << 1 | matches!(side, Side::Backend) as u32 }
    }

    const fn slot(self) -> usize {
        (self.slot_and_side >> 1) as usize
    }

    const fn side(self) -> Side {
        if self.slot_and_side & 1 == 0 { Side::Client } else { Side::Backend }
    }

    /// The hash as the map takes it: its low bits choose a bucket, its high bits tell apart.
    const fn spread(self) -> u64 {
        spread(self.hash)
    }
}

const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

/// Every splice of this engine, its own or held for the peer.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Option<Box<Entry>>>,
    free: Vec<u32>,
    by_leg: HashTable<Place>,
    key: [u8; 16],
    serial: u32,
    count: usize,
    capacity: usize,
}

impl Table {
    /// An empty table for at most `capacity` splices.
    pub(super) fn new(key: [u8; 16], capacity: usize) -> Self {
        let (slots, free, by_leg) = (Vec::new(), Vec::new(), HashTable::new());
        Self { slots, free, by_leg, key, serial: 0, count: 0, capacity }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.count >= self.capacity
    }

    /// A name for a new splice. `None` when the table is full.
    pub(super) fn vacant(&mut self) -> Option<SpliceId> {
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
        Some(SpliceId(u64::from(self.serial) << 32 | u64::from(slot)))
    }

    /// Puts a splice into the slot that its name stands for. Refused if that, or one of its legs, is
    /// taken.
    pub(super) fn insert(&mut self, entry: Box<Entry>) -> Result<(), Box<Entry>> {
        let index = slot_of(entry.id);
        let legs = [Side::Client, Side::Backend].map(|side| entry.splice.leg(side));
        let taken = legs.iter().any(|leg| self.find(leg).is_some()) || legs[0] == legs[1];
        if taken || index >= self.capacity.saturating_mul(2) {
            return Err(entry);
        }
        while self.slots.len() <= index {
            self.slots.push(None);
        }
        if self.slots[index].is_some() {
            return Err(entry);
        }
        self.serial = self.serial.max((entry.id.0 >> 32) as u32);
        for (leg, side) in legs.iter().zip([Side::Client, Side::Backend]) {
            let place = Place::new(leg.keyed_hash(&self.key), index as u32, side);
            self.by_leg.insert_unique(place.spread(), place, |place| place.spread());
        }
        self.slots[index] = Some(entry);
        self.count += 1;
        Ok(())
    }

    /// The splice that has `leg`, and whose leg it is.
    pub(super) fn find(&self, leg: &FourTuple) -> Option<(SpliceId, Side)> {
        let hash = leg.keyed_hash(&self.key);
        let place = self.by_leg.find(spread(hash), |place| {
            let entry = self.slots.get(place.slot()).and_then(Option::as_ref);
            place.hash == hash && entry.is_some_and(|entry| entry.splice.leg(place.side()) == *leg)
        })?;
        Some((self.slots[place.slot()].as_ref()?.id, place.side()))
    }

    pub(super) fn get(&self, id: SpliceId) -> Option<&Entry> {
        let entry = self.slots.get(slot_of(id))?.as_deref();
        entry.filter(|entry| entry.id == id)
    }

    pub(super) fn get_mut(&mut self, id: SpliceId) -> Option<&mut Entry> {
        let entry = self.slots.get_mut(slot_of(id))?.as_deref_mut();
        entry.filter(|entry| entry.id == id)
    }

    /// Who is in `slot`.
    pub(super) fn tenant(&self, slot: usize) -> Option<SpliceId> {
        Some(self.slots.get(slot)?.as_ref()?.id)
    }

    /// Takes a splice out. `offer`: its slot may be given to another; whoever follows keeps no list of
    /// those, it would only grow.
    pub(super) fn remove(&mut self, id: SpliceId, offer: bool) -> Option<Box<Entry>> {
        self.get(id)?;
        let index = slot_of(id);
        let entry = self.slots[index].take()?;
        for side in [Side::Client, Side::Backend] {
            let hash = entry.splice.leg(side).keyed_hash(&self.key);
            let place = self
                .by_leg
                .find_entry(spread(hash), |place| place.slot() == index && place.side() == side);
            if let Ok(place) = place {
                place.remove();
            }
        }
        self.count -= 1;
        if offer {
            self.free.push(index as u32);
        }
        Some(entry)
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.by_leg.clear();
        self.count = 0;
    }

    /// Makes every empty slot available again: only an owner gives names.
    pub(super) fn rebuild_free(&mut self) {
        self.free.clear();
        let empty = self.slots.iter().enumerate().rev().filter(|(_, slot)| slot.is_none());
        self.free.extend(empty.map(|(index, _)| index as u32));
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.slots.iter_mut().filter_map(|slot| slot.as_deref_mut())
    }
}

/// The slot that a name stands for.
pub(super) const fn slot_of(id: SpliceId) -> usize {
    (id.0 & 0xffff_ffff) as usize
}
