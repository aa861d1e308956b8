//! How many splices stand for each client's address, so that none takes all of them.

use core::net::{IpAddr, Ipv6Addr};

use hashbrown::HashTable;

use crate::wire::{Endpoint, FourTuple};

/// Splices by relay and source: an IPv4 address, or an IPv6 network of 64 bits, as one host has all of
/// that (RFC 4291 §2.5.4).
#[derive(Debug)]
pub(super) struct Sources {
    counts: HashTable<(Source, u32)>,
    key: [u8; 16],
}

/// A relay's port, and whose address.
type Source = (u16, IpAddr);

impl Sources {
    pub(super) const fn new(key: [u8; 16]) -> Self {
        Self { counts: HashTable::new(), key }
    }

    /// How many the source of `client` has.
    pub(super) fn of(&self, client: &FourTuple) -> u32 {
        let source = source(client);
        let found = self.counts.find(hash(&self.key, &source), |(known, _)| *known == source);
        found.map_or(0, |(_, count)| *count)
    }

    /// It has one more.
    pub(super) fn add(&mut self, client: &FourTuple) {
        let (source, key) = (source(client), self.key);
        let hashed = hash(&key, &source);
        match self.counts.find_mut(hashed, |(known, _)| *known == source) {
            Some((_, count)) => *count += 1,
            None => {
                let again = |(source, _): &(Source, u32)| hash(&key, source);
                self.counts.insert_unique(hashed, (source, 1), again);
            }
        }
    }

    /// It has one less.
    pub(super) fn take(&mut self, client: &FourTuple) {
        let source = source(client);
        let hashed = hash(&self.key, &source);
        let Ok(mut found) = self.counts.find_entry(hashed, |(known, _)| *known == source) else {
            return;
        };
        found.get_mut().1 -= 1;
        if found.get().1 == 0 {
            found.remove();
        }
    }

    pub(super) fn clear(&mut self) {
        self.counts.clear();
    }

    /// How many sources there are, and what they have together.
    #[cfg(test)]
    pub(super) fn total(&self) -> (usize, usize) {
        (self.counts.len(), self.counts.iter().map(|(_, count)| *count as usize).sum())
    }
}

fn source(client: &FourTuple) -> Source {
    let address = match client.remote.ip() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    };
    (client.local.port(), address)
}

/// Nobody chooses its place without the key.
fn hash(key: &[u8; 16], (port, address): &Source) -> u64 {
    let end = |port| Endpoint::new(*address, port);
    let hash = FourTuple { local: end(*port), remote: end(0) }.keyed_hash(key);
    u64::from(hash) << 32 | u64::from(hash)
}
