//! Initial sequence numbers and timestamp offsets that nobody can guess: RFC 6528, RFC 7323 §5.4.
//!
//! Both are a keyed hash of the 4-tuple, so one client sees a steady clock per 4-tuple and learns
//! nothing about any other. The pair shares the key and the clock.

use crate::time::Instant;
use crate::wire::{Endpoint, FourTuple, SeqNum};
use core::hash::Hasher;
use core::net::IpAddr;
use siphasher::sip::SipHasher24;

/// The pair's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// 128 random bits.
    pub key: [u8; 16],
}

/// What a hash is used for, so that no two uses share their values.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Isn = 1,
    Timestamp = 2,
    Cookie = 3,
    Place = 4,
    Session = 5,
}

impl Secret {
    /// The ISN of a connection opened now: `M + F(tuple, secret)`, M counting 4 µs ticks.
    pub fn isn(&self, tuple: &FourTuple, clock: Instant) -> SeqNum {
        SeqNum((clock.as_nanos() / 4_000) as u32).add(self.hash(Use::Isn, tuple, &[]) as u32)
    }

    /// What is added to the clock's milliseconds to make TSval. The same for every incarnation of
    /// a 4-tuple, so timestamps never go back across them.
    pub fn ts_offset(&self, tuple: &FourTuple) -> u32 {
        self.hash(Use::Timestamp, tuple, &[]) as u32
    }

    /// A key for what is done on behalf of a connection. `name`: the connection's, as a client may use a
    /// 4-tuple again.
    pub fn session_key(&self, tuple: &FourTuple, name: u64) -> [u8; 16] {
        let half = |half| self.hash(Use::Session, tuple, &[name as u32, (name >> 32) as u32, half]);
        let key = u128::from(half(0)) | u128::from(half(1)) << 64;
        key.to_le_bytes()
    }

    pub(super) fn hash(&self, usage: Use, tuple: &FourTuple, more: &[u32]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u8(usage as u8);
        write_address(&mut hasher, tuple.local);
        write_address(&mut hasher, tuple.remote);
        for word in more {
            hasher.write(&word.to_be_bytes());
        }
        hasher.finish()
    }
}

fn write_address(hasher: &mut SipHasher24, address: Endpoint) {
    match address.ip() {
        IpAddr::V4(ip) => hasher.write(&ip.octets()),
        IpAddr::V6(ip) => hasher.write(&ip.octets()),
    }
    hasher.write(&address.port().to_be_bytes());
}

impl core::fmt::Debug for Secret {
    /// The key is not shown.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn tuple(port: u16) -> FourTuple {
        FourTuple { local: ([10, 77, 0, 100], 80).into(), remote: ([10, 77, 0, 10], port).into() }
    }

    #[test]
    fn numbers_grow_with_the_clock_and_differ_between_tuples_and_keys() {
        let (one, two) = (Secret { key: [1; 16] }, Secret { key: [2; 16] });
        let t0 = Instant::from_millis(1000);
        let first = one.isn(&tuple(1), t0);
        assert_eq!(one.isn(&tuple(1), t0 + Duration::from_micros(40)).since(first), 10);
        assert_ne!(one.isn(&tuple(2), t0), first);
        assert_ne!(two.isn(&tuple(1), t0), first);
        assert_ne!(one.ts_offset(&tuple(1)), first.0, "each use has its own hash");
    }

    /// An heir goes on with the numbers of its primary, which may be of another version.
    #[test]
    fn both_nodes_compute_these_numbers() {
        let secret = Secret { key: core::array::from_fn(|index| index as u8) };
        let ipv6 = FourTuple {
            local: ([0xfd77, 0, 0, 0, 0, 0, 0, 0x100], 80).into(),
            remote: ([0xfd77, 0, 0, 0, 0, 0, 0, 0x10], 4660).into(),
        };
        let clock = Instant::from_millis(1000);
        let numbers = |tuple: &FourTuple| {
            let cookie = secret.hash(Use::Cookie, tuple, &[0x0102_0304, 5]);
            (secret.isn(tuple, clock).0, secret.ts_offset(tuple), cookie)
        };
        assert_eq!(numbers(&tuple(4660)), (0x9613_d6ca, 0x4884_ce98, 0x84ac_278f_07c7_f6eb));
        assert_eq!(numbers(&ipv6), (0x589d_d879, 0x9c65_420c, 0xd5d0_f878_63ed_538e));
    }
}
