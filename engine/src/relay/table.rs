//! The splices: by name, and by the four-tuple of either leg.

use super::splice::{Entry, Side};
use crate::ids::SpliceId;
use crate::slots::{Places, Slots};
use crate::time::Instant;
use crate::wire::FourTuple;

/// Every splice of this engine, its own or held for the peer.
#[derive(Debug)]
pub(super) struct Table {
    slots: Slots<Box<Entry>>,
    /// By the hash of a leg: its slot, with the side in the lowest bit.
    by_leg: Places,
    key: [u8; 16],
    serial: u32,
    capacity: usize,
    /// How often this engine became owner, and when it last did.
    era: (u32, Instant),
}

impl Table {
    /// An empty table for at most `capacity` splices.
    pub(super) fn new(key: [u8; 16], capacity: usize) -> Self {
        let (slots, by_leg) = (Slots::default(), Places::default());
        Self { slots, by_leg, key, serial: 0, capacity, era: (0, Instant::ZERO) }
    }

    pub(super) const fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) const fn slots(&self) -> usize {
        self.slots.end()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// A name for a new splice, which may be inserted now. `None` when the table is full.
    pub(super) fn vacant(&mut self) -> Option<SpliceId> {
        if self.is_full() {
            return None;
        }
        let slot = u32::try_from(self.slots.vacant()).ok()?;
        self.serial = self.serial.wrapping_add(1);
        Some(SpliceId(u64::from(self.serial) << 32 | u64::from(slot)))
    }

    /// Puts a splice into the slot that its name stands for. Refused if that, or one of its legs, is
    /// taken.
    pub(super) fn insert(&mut self, mut entry: Box<Entry>) -> Result<(), Box<Entry>> {
        let index = slot_of(entry.id);
        let legs = [Side::Client, Side::Backend].map(|side| entry.splice.leg(side));
        let taken = legs.iter().any(|leg| self.find(leg).is_some()) || legs[0] == legs[1];
        if taken || index >= self.capacity.saturating_mul(2) {
            return Err(entry);
        }
        let id = entry.id;
        entry.era = self.era.0;
        self.slots.insert(index, entry)?;
        self.serial = self.serial.max((id.0 >> 32) as u32);
        for (leg, side) in legs.iter().zip([Side::Client, Side::Backend]) {
            self.by_leg.insert(leg.keyed_hash(&self.key), place(index, side));
        }
        Ok(())
    }

    /// The splice that has `leg`, and whose leg it is.
    pub(super) fn find(&self, leg: &FourTuple) -> Option<(SpliceId, Side)> {
        let hash = leg.keyed_hash(&self.key);
        let place = self.by_leg.find(hash, |place| {
            let entry = self.slots.get((place >> 1) as usize);
            entry.is_some_and(|entry| entry.splice.leg(side_of(place)) == *leg)
        })?;
        Some((self.tenant((place >> 1) as usize)?, side_of(place)))
    }

    /// This engine has become owner: from now on every splice counts as inherited.
    pub(super) const fn begin_era(&mut self, now: Instant) {
        self.era = (self.era.0.wrapping_add(1), now);
    }

    /// The splice `id` as it was left; when it was heard of is not to be read here.
    pub(super) fn get(&self, id: SpliceId) -> Option<&Entry> {
        let entry = self.slots.get(slot_of(id))?;
        (entry.id == id).then_some(entry)
    }

    pub(super) fn get_mut(&mut self, id: SpliceId) -> Option<&mut Entry> {
        let (era, since) = self.era;
        let entry = self.slots.get_mut(slot_of(id))?;
        if entry.id != id {
            return None;
        }
        if entry.era != era {
            entry.era = era;
            entry.inherit(since);
        }
        Some(entry)
    }

    /// The splice in `slot`.
    pub(super) fn tenant(&self, slot: usize) -> Option<SpliceId> {
        Some(self.slots.get(slot)?.id)
    }

    /// Takes a splice out; its slot is free.
    pub(super) fn remove(&mut self, id: SpliceId) -> Option<Box<Entry>> {
        self.get(id)?;
        let index = slot_of(id);
        let entry = self.slots.remove(index)?;
        for side in [Side::Client, Side::Backend] {
            let hash = entry.splice.leg(side).keyed_hash(&self.key);
            let found = self.by_leg.remove(hash, |found| found == place(index, side));
            assert!(found.is_some(), "every leg has a place");
        }
        Some(entry)
    }

    /// Whether the lists of the table agree with its slots.
    pub(super) fn audit(&self) -> Result<(), String> {
        if self.by_leg.len() != 2 * self.len() || self.iter().count() != self.len() {
            let (count, legs) = (self.len(), self.by_leg.len());
            return Err(format!("{} splices, kept {count}, and {legs} legs", self.iter().count()));
        }
        for entry in self.iter() {
            for side in [Side::Client, Side::Backend] {
                if self.find(&entry.splice.leg(side)) != Some((entry.id, side)) {
                    return Err(format!("a leg of {:?} is not found", entry.splice));
                }
            }
        }
        Ok(())
    }

    /// Every splice, in slot order, as it was left.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().map(|entry| &**entry)
    }

    /// Whether this owner has looked at a splice, so that what is noted in it counts.
    pub(super) const fn is_current(&self, entry: &Entry) -> bool {
        entry.era == self.era.0
    }

    /// Takes everything out: the splices, and the places of their legs.
    pub(super) fn take(&mut self) -> (Slots<Box<Entry>>, Places) {
        (core::mem::take(&mut self.slots), core::mem::take(&mut self.by_leg))
    }
}

/// A leg's place in the map.
const fn place(slot: usize, side: Side) -> u32 {
    (slot as u32) << 1 | matches!(side, Side::Backend) as u32
}

const fn side_of(place: u32) -> Side {
    if place & 1 == 0 { Side::Client } else { Side::Backend }
}

/// The slot that a name stands for.
pub(super) const fn slot_of(id: SpliceId) -> usize {
    (id.0 & 0xffff_ffff) as usize
}
