//! Fragments to datagrams: RFC 791 §3.2, RFC 8200 §4.5, RFC 5722.
//!
//! Anyone can send fragments, and each asks a host to remember something for half a minute. So
//! what is remembered is bounded three ways:
//!
//! ```text
//!  in time     a datagram not complete after the timeout is forgotten
//!  in bytes    all datagrams ≤ the limit; those of one source ≤ a quarter of it
//!  in pieces   a datagram has at most 128
//! ```
//!
//! Over a bound the oldest goes: the source's own oldest if the source is over its share, else the
//! oldest of all. One sender cannot push out another's fragments by itself; an IPv6 sender counts
//! as its whole /64, within which it can choose any address.
//!
//! Fragments that overlap are never what an honest sender meant, and two hosts that resolve an
//! overlap differently is how filters are evaded. Such a datagram is lost: what it holds is freed
//! and its name is kept until the timeout, so that the fragments still to come find no clean slate.
//! An exact repetition is a duplicate made by the network and is ignored.

use super::extension::{self, ChainStart};
use super::ip::{ECN_CE, ECN_NOT_ECT, V4_LEN, V4Header, V6Header, protocol};
use super::{DropReason, FragmentInfo, IpPacket};
use crate::time::{Duration, Instant};
use core::net::{IpAddr, Ipv6Addr};
use std::collections::{BTreeMap, BTreeSet};

/// The timeout that RFC 8200 §4.5 asks for, and within the 15 to 120 seconds common for IPv4.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// A memory limit for a host whose clients rarely fragment, in bytes.
pub const DEFAULT_MEMORY: usize = 4 << 20;
/// The least memory limit: each source's share must hold one datagram of the largest size.
pub const MEMORY_MIN: usize = SHARES * (V6_MAX + DATAGRAM_COST + PIECES_MAX * PIECE_COST);

/// One source may hold one part in this many of the memory.
const SHARES: usize = 4;
/// Pieces of one datagram; enough for the largest one over links of 576 bytes.
const PIECES_MAX: usize = 128;
/// What a datagram costs beside its text: the entry and its places in three trees, rounded up.
const DATAGRAM_COST: usize = 512;
/// What a piece costs beside its text.
const PIECE_COST: usize = 64;
/// The longest payload of an IPv4 datagram: 65,535 less its header.
const V4_MAX: usize = 65_515;
/// The longest payload of an IPv6 datagram.
const V6_MAX: usize = 65_535;

/// Collects fragments until their datagrams are complete.
#[derive(Debug)]
pub struct Reassembler {
    memory_limit: usize,
    timeout: Duration,
    /// In order of arrival of their first fragment, and so of their deadlines.
    datagrams: BTreeMap<u64, Datagram>,
    names: BTreeMap<Name, u64>,
    sources: BTreeMap<Source, Holding>,
    /// What all datagrams cost, in bytes.
    cost: usize,
    next_serial: u64,
    evicted: u64,
    timed_out: u64,
}

/// A datagram put together again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassembled {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    ttl: u8,
    ecn: u8,
    payload: Vec<u8>,
}

impl Reassembled {
    /// Replaces what is in `out` by the whole packet, with one header for all of it. `id` is for IPv4,
    /// where it may be cut again.
    pub fn write(&self, id: u16, out: &mut Vec<u8>) -> Result<(), DropReason> {
        let Self { src, dst, protocol, ttl, ecn, ref payload } = *self;
        let long = |_| DropReason::BadHeaderLength;
        out.clear();
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let total_len = u16::try_from(V4_LEN + payload.len()).map_err(long)?;
                let dont_fragment = false;
                let header =
                    V4Header { src, dst, protocol, ttl, ecn, id, dont_fragment, total_len };
                out.extend_from_slice(&header.to_bytes());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let payload_len = u16::try_from(payload.len()).map_err(long)?;
                let (next_header, hop_limit) = (protocol, ttl);
                let header = V6Header { src, dst, next_header, hop_limit, ecn, payload_len };
                out.extend_from_slice(&header.to_bytes());
            }
            _ => return Err(DropReason::BadAddress),
        }
        out.extend_from_slice(payload);
        Ok(())
    }

    /// The datagram as a packet. Of IPv6 the headers after the fragment header are walked now.
    pub fn packet(&self) -> Result<IpPacket<'_>, DropReason> {
        let Self { src, dst, protocol, ttl, ecn, ref payload } = *self;
        let whole = IpPacket { src, dst, protocol, ttl, ecn, fragment: None, payload };
        if src.is_ipv4() {
            return Ok(whole);
        }
        let upper = extension::walk(ChainStart::Fragmentable, protocol, payload)?;
        match upper.fragment {
            None => Ok(IpPacket { protocol: upper.protocol, payload: upper.payload, ..whole }),
            Some(_) => Err(DropReason::UnexpectedFragment),
        }
    }
}

/// What fragments of one datagram have in common. RFC 8200 leaves the protocol out, because only
/// the first fragment tells it; here it is 0 for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Name {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

/// The sender that memory is charged to: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Source(IpAddr);

#[derive(Debug, Default)]
struct Holding {
    cost: usize,
    datagrams: BTreeSet<u64>,
}

#[derive(Debug)]
struct Datagram {
    name: Name,
    expires_at: Instant,
    /// Sorted by offset; never overlapping.
    pieces: Vec<Piece>,
    /// The sum of the pieces' lengths.
    held: usize,
    /// The length of the whole, once the last fragment is here.
    total: Option<usize>,
    /// Protocol, TTL and ECN of the fragment with offset 0, which speak for the whole.
    first: Option<(u8, u8, u8)>,
    /// One bit for each ECN codepoint seen.
    ecn_seen: u8,
    /// Overlapping, or in too many pieces: nothing will come of it.
    refused: Option<DropReason>,
    /// What it is charged, in bytes.
    cost: usize,
}

#[derive(Debug)]
struct Piece {
    offset: usize,
    text: Box<[u8]>,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.text.len()
    }
}

impl Reassembler {
    /// A reassembler that uses about `memory_limit` bytes at most, raised to [`MEMORY_MIN`] if it
    /// is less, and forgets what is not complete after `timeout`.
    pub fn new(memory_limit: usize, timeout: Duration) -> Self {
        Self {
            memory_limit: memory_limit.max(MEMORY_MIN),
            timeout,
            datagrams: BTreeMap::new(),
            names: BTreeMap::new(),
            sources: BTreeMap::new(),
            cost: 0,
            next_serial: 0,
            evicted: 0,
            timed_out: 0,
        }
    }

    /// Takes a fragment, and hands out the datagram if this completes it. A packet that is no
    /// fragment comes back as it is.
    pub fn insert(
        &mut self,
        now: Instant,
        ip: &IpPacket<'_>,
    ) -> Result<Option<Reassembled>, DropReason> {
        let Some(fragment) = ip.fragment else { return Ok(Some(whole(ip))) };
        check_fragment(ip, fragment)?;
        self.expire(now);
        let serial = self.find_or_open(now, Name::of(ip, fragment))?;
        if self.place(serial, ip, fragment)? == Placed::Complete {
            let datagram = self.remove(serial).expect("the datagram just completed");
            return datagram.assemble().map(Some);
        }
        Ok(None)
    }

    /// Forgets what has waited too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some((&serial, datagram)) = self.datagrams.first_key_value()
            && datagram.expires_at <= now
        {
            self.timed_out += u64::from(datagram.refused.is_none());
            self.remove(serial);
        }
    }

    /// When [`Reassembler::expire`] next has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.datagrams.first_key_value().map(|(_, datagram)| datagram.expires_at)
    }

    /// Forgets everything, and counts none of it as lost.
    pub fn clear(&mut self) {
        self.datagrams.clear();
        self.names.clear();
        self.sources.clear();
        self.cost = 0;
    }

    /// What is held now, in bytes; at most the limit.
    pub fn memory(&self) -> usize {
        self.cost
    }

    /// Datagrams forgotten so far to make room for others.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Datagrams forgotten so far because they were not complete in time.
    pub fn timed_out(&self) -> u64 {
        self.timed_out
    }

    fn find_or_open(&mut self, now: Instant, name: Name) -> Result<u64, DropReason> {
        if let Some(&serial) = self.names.get(&name) {
            return Ok(serial);
        }
        let serial = self.next_serial;
        self.make_room(name.source(), serial, DATAGRAM_COST)?;
        self.next_serial += 1;
        self.names.insert(name, serial);
        self.datagrams.insert(serial, Datagram::new(name, now + self.timeout));
        self.sources.entry(name.source()).or_default().datagrams.insert(serial);
        self.charge(serial, DATAGRAM_COST);
        Ok(serial)
    }

    /// Puts a fragment in its place, or gives the whole datagram up.
    fn place(
        &mut self,
        serial: u64,
        ip: &IpPacket<'_>,
        fragment: FragmentInfo,
    ) -> Result<Placed, DropReason> {
        let datagram = self.datagrams.get(&serial).expect("a datagram just found");
        let source = datagram.name.source();
        let index = match datagram.fit(ip.payload, fragment) {
            Ok(Some(index)) => index,
            Ok(None) => return Ok(Placed::Waiting),
            Err(reason) => {
                self.refuse(serial, reason);
                return Err(reason);
            }
        };
        let cost = PIECE_COST + ip.payload.len();
        self.make_room(source, serial, cost)?;
        self.charge(serial, cost);
        let datagram = self.datagrams.get_mut(&serial).expect("make_room spares this datagram");
        datagram.put(index, ip, fragment);
        Ok(if datagram.is_complete() { Placed::Complete } else { Placed::Waiting })
    }

    /// Frees what the datagram holds and keeps its name.
    fn refuse(&mut self, serial: u64, reason: DropReason) {
        let Some(datagram) = self.datagrams.get_mut(&serial) else { return };
        datagram.pieces = Vec::new();
        datagram.refused = Some(reason);
        let freed = datagram.cost - DATAGRAM_COST;
        let source = datagram.name.source();
        datagram.cost = DATAGRAM_COST;
        self.cost -= freed;
        if let Some(holding) = self.sources.get_mut(&source) {
            holding.cost -= freed;
        }
    }

    /// Evicts until `cost` more fits for `source`, sparing the datagram `keep`.
    fn make_room(&mut self, source: Source, keep: u64, cost: usize) -> Result<(), DropReason> {
        let share = self.memory_limit / SHARES;
        while let Some(holding) = self.sources.get(&source)
            && holding.cost + cost > share
        {
            let oldest = holding.datagrams.iter().copied().find(|&serial| serial != keep);
            self.evict(oldest)?;
        }
        while self.cost + cost > self.memory_limit {
            let oldest = self.datagrams.keys().copied().find(|&serial| serial != keep);
            self.evict(oldest)?;
        }
        Ok(())
    }

    fn evict(&mut self, serial: Option<u64>) -> Result<(), DropReason> {
        let removed = serial.and_then(|serial| self.remove(serial));
        let datagram = removed.ok_or(DropReason::FragmentLimit)?;
        self.evicted += u64::from(datagram.refused.is_none());
        Ok(())
    }

    fn charge(&mut self, serial: u64, cost: usize) {
        let Some(datagram) = self.datagrams.get_mut(&serial) else { return };
        datagram.cost += cost;
        self.cost += cost;
        self.sources.entry(datagram.name.source()).or_default().cost += cost;
    }

    fn remove(&mut self, serial: u64) -> Option<Datagram> {
        let datagram = self.datagrams.remove(&serial)?;
        let source = datagram.name.source();
        self.names.remove(&datagram.name);
        self.cost -= datagram.cost;
        if let Some(holding) = self.sources.get_mut(&source) {
            holding.cost -= datagram.cost;
            holding.datagrams.remove(&serial);
            if holding.datagrams.is_empty() {
                self.sources.remove(&source);
            }
        }
        Some(datagram)
    }
}

/// What became of a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Placed {
    /// More is to come.
    Waiting,
    /// That was the last one missing.
    Complete,
}

impl Name {
    fn of(ip: &IpPacket<'_>, fragment: FragmentInfo) -> Self {
        let protocol = if ip.src.is_ipv4() { ip.protocol } else { 0 };
        Self { src: ip.src, dst: ip.dst, protocol, id: fragment.id }
    }

    fn source(&self) -> Source {
        match self.src {
            IpAddr::V4(_) => Source(self.src),
            IpAddr::V6(v6) => Source(Ipv6Addr::from(u128::from(v6) >> 64 << 64).into()),
        }
    }
}

impl Datagram {
    fn new(name: Name, expires_at: Instant) -> Self {
        Self {
            name,
            expires_at,
            pieces: Vec::new(),
            held: 0,
            total: None,
            first: None,
            ecn_seen: 0,
            refused: None,
            cost: 0,
        }
    }

    /// Where among the pieces a fragment belongs; `None` if it is there already.
    fn fit(&self, text: &[u8], fragment: FragmentInfo) -> Result<Option<usize>, DropReason> {
        if let Some(reason) = self.refused {
            return Err(reason);
        }
        let offset = fragment.offset as usize;
        let end = offset + text.len();
        if !self.agrees_on_length(end, fragment.more) {
            return Err(DropReason::FragmentOverlap);
        }
        let index = self.pieces.partition_point(|piece| piece.offset < offset);
        if let Some(next) = self.pieces.get(index) {
            if next.offset == offset && *next.text == *text {
                return Ok(None);
            }
            if next.offset < end {
                return Err(DropReason::FragmentOverlap);
            }
        }
        if index > 0 && self.pieces[index - 1].end() > offset {
            return Err(DropReason::FragmentOverlap);
        }
        if self.pieces.len() == PIECES_MAX {
            return Err(DropReason::FragmentLimit);
        }
        Ok(Some(index))
    }

    /// Whether a fragment up to `end` can be part of a datagram as long as this one is known to be.
    fn agrees_on_length(&self, end: usize, more: bool) -> bool {
        let held_to = self.pieces.last().map_or(0, Piece::end);
        match (self.total, more) {
            (Some(total), true) => end < total,
            (Some(total), false) => end == total,
            (None, true) => true,
            (None, false) => end >= held_to,
        }
    }

    fn put(&mut self, index: usize, ip: &IpPacket<'_>, fragment: FragmentInfo) {
        let offset = fragment.offset as usize;
        self.pieces.insert(index, Piece { offset, text: ip.payload.into() });
        self.held += ip.payload.len();
        self.ecn_seen |= 1 << (ip.ecn & 3);
        if offset == 0 {
            self.first = Some((ip.protocol, ip.ttl, ip.ecn & 3));
        }
        if !fragment.more {
            self.total = Some(offset + ip.payload.len());
        }
    }

    /// Pieces do not overlap and none ends beyond the total, so when they add up to it they are it.
    fn is_complete(&self) -> bool {
        self.total == Some(self.held)
    }

    fn assemble(self) -> Result<Reassembled, DropReason> {
        let (protocol, ttl, ecn) = self.first.ok_or(DropReason::FragmentSize)?;
        let ecn = combine_ecn(self.ecn_seen, ecn)?;
        let mut payload = Vec::with_capacity(self.held);
        for piece in &self.pieces {
            payload.extend_from_slice(&piece.text);
        }
        let Name { src, dst, .. } = self.name;
        Ok(Reassembled { src, dst, protocol, ttl, ecn, payload })
    }
}

/// RFC 3168 §5.3: a mark on any fragment marks the whole; a mark on a datagram whose sender does
/// not take part, as its other fragments say, cannot have come about honestly.
fn combine_ecn(seen: u8, first: u8) -> Result<u8, DropReason> {
    let saw = |codepoint: u8| seen & (1 << codepoint) != 0;
    match (saw(ECN_CE), saw(ECN_NOT_ECT)) {
        (true, true) => Err(DropReason::FragmentEcn),
        (true, false) => Ok(ECN_CE),
        (false, true) => Ok(ECN_NOT_ECT),
        (false, false) => Ok(first),
    }
}

/// What can be said about a fragment alone. The end beyond the largest datagram is the ping of
/// death.
fn check_fragment(ip: &IpPacket<'_>, fragment: FragmentInfo) -> Result<(), DropReason> {
    let length = ip.payload.len();
    let max = if ip.src.is_ipv4() { V4_MAX } else { V6_MAX };
    let end = (fragment.offset as usize).saturating_add(length);
    let aligned = fragment.offset.is_multiple_of(8);
    let whole_words = length.is_multiple_of(8) || !fragment.more;
    if length == 0 || end > max || !aligned || !whole_words {
        return Err(DropReason::FragmentSize);
    }
    if ip.src.is_ipv6() && fragment.offset == 0 { check_header_chain(ip) } else { Ok(()) }
}

/// RFC 8200 §4.5, RFC 7112: the first fragment has every header through the upper layer's.
fn check_header_chain(ip: &IpPacket<'_>) -> Result<(), DropReason> {
    let upper = extension::walk(ChainStart::Fragmentable, ip.protocol, ip.payload)
        .map_err(|_| DropReason::FragmentHeaderChain)?;
    let needed = match upper.protocol {
        protocol::TCP => 20,
        protocol::UDP | protocol::ICMPV6 => 8,
        _ => 0,
    };
    if upper.fragment.is_some() || upper.payload.len() < needed {
        return Err(DropReason::FragmentHeaderChain);
    }
    Ok(())
}

fn whole(ip: &IpPacket<'_>) -> Reassembled {
    let IpPacket { src, dst, protocol, ttl, ecn, fragment: _, payload } = *ip;
    Reassembled { src, dst, protocol, ttl, ecn, payload: payload.to_vec() }
}

#[cfg(test)]
#[path = "fragment_tests.rs"]
mod tests;
