//! How much each client's address has, and how fast it comes by it.
//!
//! A *source* is an IPv4 address, or an IPv6 network of 64 bits, as one host has all of that (RFC 4291
//! §2.5.4); of the whole service address, or of one port of it. It has an entry while it has something, or
//! has begun something within the last second or two:
//!
//! ```text
//!   add ──► count ──► take            how many there are
//!   begin ──► paid up to, at most a second ahead ──► forgotten when that has passed
//! ```
//!
//! The second is a bucket that holds as many tokens as a second brings, kept as one time (a virtual
//! scheduling clock, ITU-T I.371): each that begins pays for the time until the next one may.

use core::net::{IpAddr, Ipv6Addr};

use crate::slots::{Places, Queue, Slots};
use crate::time::{Duration, Instant};
use crate::wire::{Endpoint, FourTuple};

/// What a bucket holds.
const BURST: Duration = Duration::from_secs(1);
/// Entries that are looked at whenever one begins: more go than come. And those of one call of
/// [`Sources::expire`].
const LOOKS: usize = 4;
const EXPIRIES: usize = 512;
/// So many that have nothing are remembered for their speed. A flood of names that do not exist makes
/// the oldest forgotten, and nothing grow.
const PAYERS_MAX: usize = 1 << 16;

/// Whose connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// At which port of the service address; 0 is all of them.
    port: u16,
    address: IpAddr,
}

/// What is known of very many sources.
#[derive(Debug, Default)]
pub struct Sources {
    entries: Slots<Entry>,
    places: Places,
    /// Entries that paid, with the time up to which they had when they came here; each once. It is
    /// theirs as long as they stand here, whatever their count.
    payers: Queue<(Instant, u32)>,
    key: [u8; 16],
}

#[derive(Debug)]
struct Entry {
    source: Source,
    count: u32,
    /// Up to when it has paid.
    paid: Instant,
    /// Whether it stands among the payers.
    listed: bool,
}

impl Source {
    /// Of a client, at all ports.
    #[must_use]
    pub fn of(client: &FourTuple) -> Self {
        let address = match client.remote.ip() {
            IpAddr::V4(v4) => IpAddr::V4(v4),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        };
        Self { port: 0, address }
    }

    /// Of a client, at its port of the service address.
    #[must_use]
    pub fn at_port(client: &FourTuple) -> Self {
        Self { port: client.local.port(), ..Self::of(client) }
    }

    /// Nobody chooses its place without the key.
    fn hash(&self, key: &[u8; 16]) -> u32 {
        let end = |port| Endpoint::new(self.address, port);
        FourTuple { local: end(self.port), remote: end(0) }.keyed_hash(key)
    }
}

impl Sources {
    /// Nobody has anything. `key`: a secret of this run.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, ..Self::default() }
    }

    fn find(&self, source: &Source) -> Option<usize> {
        let is_it = |slot: u32| {
            self.entries.get(slot as usize).is_some_and(|entry| entry.source == *source)
        };
        Some(self.places.find(source.hash(&self.key), is_it)? as usize)
    }

    /// The entry of `source`, which is made if there is none.
    fn entry(&mut self, source: Source) -> Option<(usize, &mut Entry)> {
        let slot = match self.find(&source) {
            Some(slot) => slot,
            None => {
                let slot = self.entries.vacant();
                let new = Entry { source, count: 0, paid: Instant::ZERO, listed: false };
                self.entries.insert(slot, new).ok()?;
                self.places.insert(source.hash(&self.key), slot as u32);
                slot
            }
        };
        Some((slot, self.entries.get_mut(slot)?))
    }

    fn remove(&mut self, slot: usize) {
        let Some(entry) = self.entries.remove(slot) else { return };
        let found =
            self.places.remove(entry.source.hash(&self.key), |found| found as usize == slot);
        assert!(found.is_some(), "every source has a place");
    }

    /// How many `source` has.
    #[must_use]
    pub fn count(&self, source: Source) -> u32 {
        let found = self.find(&source).and_then(|slot| self.entries.get(slot));
        found.map_or(0, |entry| entry.count)
    }

    /// How many sources are known.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `source` has one more.
    pub fn add(&mut self, source: Source) {
        if let Some((_, entry)) = self.entry(source) {
            entry.count += 1;
        }
    }

    /// `source` has one less.
    pub fn take(&mut self, source: Source) {
        let slot = self.find(&source);
        let Some((slot, entry)) = slot.and_then(|slot| Some((slot, self.entries.get_mut(slot)?)))
        else {
            return;
        };
        assert!(entry.count > 0, "what ends was counted");
        entry.count -= 1;
        if entry.count == 0 && !entry.listed {
            self.remove(slot);
        }
    }

    /// Whether `source` may begin one more, at `rate` a second and as many at once.
    #[must_use]
    pub fn may_begin(&self, now: Instant, source: Source, rate: u32) -> bool {
        let found = self.find(&source).and_then(|slot| self.entries.get(slot));
        found.is_none_or(|entry| entry.paid.max(now) + price(rate) <= now + BURST)
    }

    /// It begins one.
    pub fn begin(&mut self, now: Instant, source: Source, rate: u32) {
        self.expire_some(now, LOOKS);
        let Some((slot, entry)) = self.entry(source) else { return };
        entry.paid = entry.paid.max(now) + price(rate);
        let listed = core::mem::replace(&mut entry.listed, true);
        let paid = entry.paid;
        if !listed {
            self.payers.push_back((paid, slot as u32));
        }
        if self.payers.len() > PAYERS_MAX {
            self.expire_first();
        }
    }

    /// Forgets a share of those whose time has passed and who have nothing.
    pub fn expire(&mut self, now: Instant) {
        self.expire_some(now, EXPIRIES);
    }

    fn expire_some(&mut self, now: Instant, looks: usize) {
        for _ in 0..looks {
            match self.payers.front() {
                Some((due, _)) if *due <= now => {}
                Some(_) | None => return,
            }
            let Some((_, slot)) = self.payers.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(slot as usize) else { continue };
            if entry.paid > now {
                self.payers.push_back((entry.paid, slot));
                continue;
            }
            entry.listed = false;
            if entry.count == 0 {
                self.remove(slot as usize);
            }
        }
    }

    /// Forgets what the first one paid.
    fn expire_first(&mut self) {
        let Some((_, slot)) = self.payers.pop_front() else { return };
        let Some(entry) = self.entries.get_mut(slot as usize) else { return };
        (entry.listed, entry.paid) = (false, Instant::ZERO);
        if entry.count == 0 {
            self.remove(slot as usize);
        }
    }

    /// Takes all of them out.
    pub fn take_all(&mut self) -> Self {
        let fresh = Self::new(self.key);
        core::mem::replace(self, fresh)
    }

    /// Drops a piece of it. `false`: there was none left.
    pub fn pop_piece(&mut self) -> bool {
        self.entries.pop_piece().is_some() || self.places.pop_piece() || self.payers.pop_piece()
    }

    /// Whether each source has as many as are `counted`, and an entry as long as it needs one.
    ///
    /// # Errors
    /// Says what does not add up.
    pub fn audit(&self, counted: impl Iterator<Item = Source>) -> Result<(), String> {
        use std::collections::{BTreeMap, BTreeSet};
        let mut tally = BTreeMap::<Source, u32>::new();
        for source in counted {
            *tally.entry(source).or_default() += 1;
        }
        let having = self.entries.iter().filter(|entry| entry.count > 0);
        let kept: BTreeMap<_, _> = having.map(|entry| (entry.source, entry.count)).collect();
        if kept != tally {
            return Err(format!("sources: kept {kept:?}, counted {tally:?}"));
        }
        let payers: BTreeSet<_> = self.payers.iter().map(|(_, slot)| *slot as usize).collect();
        let listed = self.entries.iter().filter(|entry| entry.listed).count();
        let stands = |slot: &usize| self.entries.get(*slot).is_some_and(|entry| entry.listed);
        if payers.len() != self.payers.len() || listed != payers.len() || !payers.iter().all(stands)
        {
            return Err(format!("{listed} sources paid, {} are listed", self.payers.len()));
        }
        match self.entries.iter().find(|entry| entry.count == 0 && !entry.listed) {
            Some(entry) => Err(format!("{:?} has nothing, and an entry", entry.source)),
            None if self.places.len() != self.entries.len() => Err("sources lost".to_owned()),
            None => Ok(()),
        }
    }
}

/// The time that one takes of those that come in a second.
fn price(rate: u32) -> Duration {
    BURST / rate.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(number: u32, port: u16) -> FourTuple {
        let remote = Endpoint::new(IpAddr::V4(core::net::Ipv4Addr::from_bits(number)), 5000);
        FourTuple { local: Endpoint::new([10, 0, 0, 1].into(), port), remote }
    }

    fn source(number: u32) -> Source {
        Source::of(&client(number, 80))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_second_may_come_at_once_and_then_one_at_a_time() {
        let mut sources = Sources::new([7; 16]);
        let mut begun = Vec::new();
        for millis in 0..3000 {
            while sources.may_begin(at(millis), source(1), 10) {
                sources.begin(at(millis), source(1), 10);
                begun.push(millis);
            }
        }
        let at_once = begun.iter().filter(|millis| **millis == 0).count();
        let then: Vec<u64> = begun.iter().copied().skip(at_once).take(3).collect();
        assert_eq!((at_once, then, begun.len()), (10, vec![100, 200, 300], 39));
        assert!(sources.may_begin(at(0), source(2), 10), "another source is another matter");
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_a_port_is_another() {
        let of = |ip: &str| {
            let remote = Endpoint::new(ip.parse().expect("an address"), 4000);
            FourTuple { local: Endpoint::new("fd00::1".parse().expect("an address"), 80), remote }
        };
        assert_eq!(Source::of(&of("fd77::1")), Source::of(&of("fd77::ffff:0:0:2")));
        assert_ne!(Source::of(&of("fd77::1")), Source::of(&of("fd77:0:0:1::1")));
        assert_ne!(Source::of(&client(1, 80)), Source::at_port(&client(1, 80)));
        assert_ne!(Source::at_port(&client(1, 80)), Source::at_port(&client(1, 81)));
    }

    /// Whoever has something is remembered; of the others, who came lately, and of these not too many.
    #[test]
    fn a_flood_of_names_is_forgotten() {
        let mut sources = Sources::new([7; 16]);
        sources.add(source(0));
        sources.begin(at(0), source(0), 1);
        for number in 1..=2 * PAYERS_MAX as u32 {
            sources.begin(at(0), source(number), 1);
        }
        assert!(sources.len() <= PAYERS_MAX + 1, "{}", sources.len());
        assert!(sources.audit([source(0)].into_iter()).is_ok());
        let turns = PAYERS_MAX.div_ceil(EXPIRIES) as u64;
        for turn in 0..=turns {
            sources.expire(at(1000 + turn));
        }
        assert_eq!((sources.len(), sources.count(source(0))), (1, 1));
        sources.take(source(0));
        assert!(sources.is_empty());
    }

    #[test]
    fn it_is_taken_apart_a_piece_at_a_time() {
        let mut sources = Sources::new([7; 16]);
        (0..5000).for_each(|number| sources.begin(at(0), source(number), 5));
        let mut taken = sources.take_all();
        assert!(sources.is_empty() && sources.audit(core::iter::empty()).is_ok());
        let mut pieces = 0;
        while taken.pop_piece() {
            pieces += 1;
        }
        assert!(pieces > 10, "{pieces}");
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(steps in prop::collection::vec((0u8..4, 0u32..6, 0u64..400), 0..300)) {
            let (mut sources, mut counts) = (Sources::new([7; 16]), [0u32; 6]);
            let mut now = 0;
            for (what, number, passes) in steps {
                now += passes;
                let count = &mut counts[number as usize];
                match what {
                    0 => {
                        sources.add(source(number));
                        *count += 1;
                    }
                    1 if *count > 0 => {
                        sources.take(source(number));
                        *count -= 1;
                    }
                    2 if sources.may_begin(at(now), source(number), 3) => {
                        sources.begin(at(now), source(number), 3);
                    }
                    _ => sources.expire(at(now)),
                }
                let counted = (0..6u32).flat_map(|number| {
                    (0..counts[number as usize]).map(move |_| source(number))
                });
                prop_assert_eq!(sources.audit(counted), Ok(()));
            }
            sources.expire(at(now + 1000));
            sources.expire(at(now + 2000));
            prop_assert_eq!(sources.len(), counts.iter().filter(|count| **count > 0).count());
        }
    }
}
