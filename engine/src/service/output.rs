//! The output rope: a connection's output stream from the client's acknowledgment to its end.
//!
//! Offsets count bytes of the stream from its beginning, as the TCB counts them. What lies below
//! `acked` is forgotten; the rest is a row of chunks, found by offset in O(log n), and none of
//! them larger in memory than it has to be:
//!
//! ```text
//!        acked                                             end
//!          ▼                                                ▼
//!  ········├─ bytes ─┼───── body: a.html 0..7000 ─────┼─────┤
//!           (a head)   (a range of stored content)     bytes
//! ```
//!
//! A body is held as the pinned facts of its file, not as payload: it is read from the store when
//! TCP asks for it, and asked for again when TCP retransmits. On a standby the rope also knows
//! which bodies its own copy cannot serve; while there are any, the connection is not protected.
//! On a primary it knows which bodies were pinned before their content was hashed, and asks for
//! the hash until the standby can be told of it.

use super::files::is_normal;
use super::pattern;
use super::pin::{put_snapshot_facts, read_facts};
use super::store::{ContentId, Difference, Facts, Read, Store, Verified};
use crate::codec::{Reader, put_bytes, put_number};
use core::ops::Range;
use std::collections::VecDeque;

/// Where an endless stream is said to end, and beyond which no stream can be continued.
pub const ENDLESS: u64 = 1 << 62;

/// Bytes are gathered into one chunk up to this size; larger pieces get a chunk of their own, so
/// that a super-segment is copied once and never moved.
const GATHER: usize = 16 << 10;

/// The longest path that a body may have, as `PATH_MAX`.
pub(crate) const PATH_LIMIT: usize = 4096;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Output {
    acked: u64,
    end: u64,
    chunks: VecDeque<Chunk>,
    /// Bytes of memory in `Source::Bytes` chunks, for back-pressure.
    held: usize,
    /// Bodies that are not [`OwnCopy::Ours`].
    unmatched: u32,
    /// Bodies that are, and whose hash was not known when they were pinned.
    unhashed: u32,
}

/// A piece of the stream, from where the previous one ends to `end`.
#[derive(Debug)]
struct Chunk {
    end: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Bytes(Vec<u8>),
    Pattern,
    Body(Box<Body>),
}

/// A range of a stored file that is part of the output.
#[derive(Debug)]
pub(crate) struct Body {
    /// The port's document root.
    pub(crate) root: u16,
    /// The file, as [`Store`] wants it.
    pub(crate) path: Box<str>,
    /// What was pinned of it.
    pub(crate) facts: Facts,
    /// The bytes of it that are sent; not empty, within `facts.length`.
    pub(crate) range: Range<u64>,
    /// What our own store has.
    pub(crate) copy: OwnCopy,
}

/// How our own store stands to a pinned body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnCopy {
    /// It has these bytes.
    Ours(ContentId),
    /// It has others, or none, or nobody can say.
    Differs(Difference),
    /// It has not said yet.
    Unknown,
}

impl Body {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Asks the store about its copy, unless it is known to be right. True when it now is.
    pub(crate) fn verify(&mut self, store: &mut dyn Store) -> bool {
        if !matches!(self.copy, OwnCopy::Ours(_)) {
            self.copy = match store.verify(self.root, &self.path, &self.facts) {
                Verified::Match(id) => OwnCopy::Ours(id),
                Verified::Differs(why) => OwnCopy::Differs(why),
                Verified::Pending => OwnCopy::Unknown,
            };
        }
        matches!(self.copy, OwnCopy::Ours(_))
    }

    /// Our own copy is sent, and nobody knows its hash yet.
    fn is_unhashed(&self) -> bool {
        matches!(self.copy, OwnCopy::Ours(_)) && self.facts.hash.is_none()
    }

    fn release(&mut self, store: &mut dyn Store) {
        if let OwnCopy::Ours(id) = self.copy {
            store.release(id);
            self.copy = OwnCopy::Unknown;
        }
    }

    fn read(&self, from: u64, into: &mut [u8], store: &mut dyn Store) -> Read {
        match self.copy {
            OwnCopy::Ours(id) => match store.read(id, self.range.start + from, into) {
                // Inside the pinned length there are bytes, or the file is no longer the pinned one.
                Read::Ready(0) => Read::Gone,
                Read::Ready(count) => Read::Ready(count.min(into.len())),
                other @ (Read::Pending | Read::Gone) => other,
            },
            OwnCopy::Unknown => Read::Pending,
            OwnCopy::Differs(_) => Read::Gone,
        }
    }
}

impl Chunk {
    fn start(&self) -> u64 {
        match &self.source {
            Source::Bytes(bytes) => self.end - bytes.len() as u64,
            Source::Pattern => 0,
            Source::Body(body) => self.end - body.length(),
        }
    }

    fn read(&self, offset: u64, into: &mut [u8], store: &mut dyn Store) -> Read {
        let from = offset - self.start();
        match &self.source {
            Source::Bytes(bytes) => {
                let rest = &bytes[from as usize..];
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                Read::Ready(count)
            }
            Source::Pattern => {
                pattern::fill(offset, into);
                Read::Ready(into.len())
            }
            Source::Body(body) => body.read(from, into, store),
        }
    }
}

impl Output {
    /// The endless chargen stream.
    #[must_use]
    pub fn endless() -> Self {
        let pattern = Chunk { end: ENDLESS, source: Source::Pattern };
        Self { end: ENDLESS, chunks: VecDeque::from([pattern]), ..Self::default() }
    }

    /// Bytes below this offset have been acknowledged and are forgotten.
    #[must_use]
    pub const fn acked(&self) -> u64 {
        self.acked
    }

    /// Bytes of the stream so far, the acknowledged ones included.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Bytes of memory that the stored bytes take; bodies and the pattern take next to none.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.held
    }

    /// Bytes of memory that it takes, about: what is gathered has room for twice as much at most.
    #[must_use]
    pub(crate) fn memory(&self) -> usize {
        let bodies = self.bodies().count();
        if self.held == 0 && bodies == 0 {
            return 0;
        }
        self.held + self.chunks.capacity() * size_of::<Chunk>() + bodies * size_of::<Body>()
    }

    /// Pieces that the unacknowledged stream consists of.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Bodies that our own store could not serve now. Zero: all of it can be sent from here.
    #[must_use]
    pub const fn unmatched(&self) -> u32 {
        self.unmatched
    }

    /// Bodies whose hash the standby cannot have been told.
    #[must_use]
    pub const fn unhashed(&self) -> u32 {
        self.unhashed
    }

    /// The first body that our own store could not serve now, and why.
    pub(crate) fn first_unmatched(&self) -> Option<(&Body, Option<Difference>)> {
        if self.unmatched == 0 {
            return None;
        }
        self.bodies().find_map(|body| match body.copy {
            OwnCopy::Ours(_) => None,
            OwnCopy::Differs(why) => Some((body, Some(why))),
            OwnCopy::Unknown => Some((body, None)),
        })
    }

    /// The first body that is not acknowledged in full.
    pub(crate) fn first_body(&self) -> Option<&Body> {
        self.bodies().next()
    }

    fn bodies(&self) -> impl Iterator<Item = &Body> {
        self.chunks.iter().filter_map(|chunk| match &chunk.source {
            Source::Body(body) => Some(&**body),
            Source::Bytes(_) | Source::Pattern => None,
        })
    }

    /// Asks the store for the hashes of bodies that were pinned without. Each that it knows by now
    /// is handed to `tell`, with where its body ends.
    pub(crate) fn hash(&mut self, store: &mut dyn Store, tell: &mut dyn FnMut(u64, &[u8; 32])) {
        if self.unhashed == 0 {
            return;
        }
        for Chunk { end, source } in &mut self.chunks {
            if let Source::Body(body) = source
                && let (OwnCopy::Ours(id), None) = (body.copy, body.facts.hash)
                && let Some(hash) = store.hash(id)
            {
                body.facts.hash = Some(hash);
                self.unhashed -= 1;
                tell(*end, &hash);
            }
        }
    }

    /// The hash of the body that ends at `end`, unless it is acknowledged already or has one.
    pub(crate) fn on_hash(&mut self, end: u64, hash: [u8; 32], store: &mut dyn Store) {
        let at = self.chunks.partition_point(|chunk| chunk.end < end);
        if let Some(Chunk { end: at, source: Source::Body(body) }) = self.chunks.get_mut(at)
            && *at == end
            && body.facts.hash.is_none()
        {
            body.facts.hash = Some(hash);
            self.unhashed -= u32::from(matches!(body.copy, OwnCopy::Ours(_)));
            self.verify(store);
        }
    }

    /// Appends bytes. What the client has acknowledged already (a standby may hear of an
    /// acknowledgment before it has produced the bytes) is counted and not kept.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        let Some(bytes) = bytes.get(self.skip(bytes.len())..).filter(|b| !b.is_empty()) else {
            return;
        };
        self.held += bytes.len();
        match self.chunks.back_mut() {
            Some(Chunk { end, source: Source::Bytes(last) })
                if last.len() + bytes.len() <= GATHER =>
            {
                last.extend_from_slice(bytes);
                *end = self.end;
            }
            _ => self
                .chunks
                .push_back(Chunk { end: self.end, source: Source::Bytes(bytes.to_vec()) }),
        }
    }

    /// Appends bytes as [`Self::push_bytes`] does, without a copy where they are a chunk of their own.
    pub(crate) fn push_vec(&mut self, bytes: Vec<u8>) {
        let joins = matches!(self.chunks.back(), Some(Chunk { source: Source::Bytes(_), .. }));
        if joins || bytes.is_empty() || self.acked > self.end {
            return self.push_bytes(&bytes);
        }
        self.held += bytes.len();
        self.end = self.end.saturating_add(bytes.len() as u64);
        self.chunks.push_back(Chunk { end: self.end, source: Source::Bytes(bytes) });
    }

    /// Appends a body, and asks the store about our copy unless that is known or no longer matters.
    pub(crate) fn push_body(&mut self, mut body: Body, store: &mut dyn Store) {
        let length = body.length();
        self.end = self.end.saturating_add(length);
        if self.end <= self.acked {
            body.release(store);
            return;
        }
        if !body.verify(store) {
            self.unmatched += 1;
        }
        self.unhashed += u32::from(body.is_unhashed());
        self.chunks.push_back(Chunk { end: self.end, source: Source::Body(Box::new(body)) });
    }

    /// Moves the end on by `count`; returns how many of these bytes are acknowledged already.
    fn skip(&mut self, count: usize) -> usize {
        let known = self.acked.saturating_sub(self.end);
        self.end = self.end.saturating_add(count as u64);
        usize::try_from(known).unwrap_or(usize::MAX).min(count)
    }

    /// The client has acknowledged everything below `offset`; may run ahead of the end.
    pub fn on_acked(&mut self, offset: u64, store: &mut dyn Store) {
        self.acked = self.acked.max(offset);
        while self.chunks.front().is_some_and(|chunk| chunk.end <= self.acked) {
            if let Some(chunk) = self.chunks.pop_front() {
                self.forget(chunk, store);
            }
        }
        if self.chunks.is_empty() {
            // An idle connection keeps no memory for what it once said.
            self.chunks = VecDeque::new();
        }
    }

    /// Releases everything that is held in the store.
    pub fn clear(&mut self, store: &mut dyn Store) {
        for chunk in core::mem::take(&mut self.chunks) {
            self.forget(chunk, store);
        }
    }

    fn forget(&mut self, chunk: Chunk, store: &mut dyn Store) {
        match chunk.source {
            Source::Bytes(bytes) => self.held -= bytes.len(),
            Source::Pattern => {}
            Source::Body(mut body) => {
                if !matches!(body.copy, OwnCopy::Ours(_)) {
                    self.unmatched -= 1;
                }
                self.unhashed -= u32::from(body.is_unhashed());
                body.release(store);
            }
        }
    }

    /// Asks the store again about bodies that it could not vouch for so far.
    pub fn verify(&mut self, store: &mut dyn Store) {
        if self.unmatched == 0 {
            return;
        }
        let mut unmatched = 0;
        for chunk in &mut self.chunks {
            if let Source::Body(body) = &mut chunk.source {
                unmatched += u32::from(!body.verify(store));
            }
        }
        self.unmatched = unmatched;
    }

    /// Is an answer of the store about one of our bodies still to come?
    #[must_use]
    pub fn awaits_store(&self) -> bool {
        let unknown =
            |chunk: &Chunk| matches!(&chunk.source, Source::Body(b) if b.copy == OwnCopy::Unknown);
        self.unmatched > 0 && self.chunks.iter().any(unknown)
    }

    /// Places the stream's bytes of `range` at the front of `into`, as many as are to be had in
    /// one go. `Gone` when the first of them no longer exists here, `Ready(0)` at the end.
    pub fn read(&self, range: Range<u64>, into: &mut [u8], store: &mut dyn Store) -> Read {
        let wanted = range.end.min(self.end).saturating_sub(range.start);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(into.len());
        if wanted == 0 {
            return Read::Ready(0);
        }
        if range.start < self.acked {
            return Read::Gone;
        }
        let into = &mut into[..wanted];
        let first = self.chunks.partition_point(|chunk| chunk.end <= range.start);
        let mut done = 0;
        for chunk in self.chunks.range(first..) {
            let offset = range.start + done as u64;
            let room = (chunk.end - offset).min((wanted - done) as u64) as usize;
            match chunk.read(offset, &mut into[done..done + room], store) {
                Read::Ready(count) if count == room && done + count < wanted => done += count,
                Read::Ready(count) => return Read::Ready(done + count),
                Read::Pending | Read::Gone if done > 0 => return Read::Ready(done),
                failed @ (Read::Pending | Read::Gone) => return failed,
            }
        }
        Read::Ready(done)
    }

    /// Appends everything that a restored rope needs; payload only where it cannot be had again.
    pub(crate) fn snapshot(&self, out: &mut Vec<u8>) {
        let Self { acked, end, chunks, held: _, unmatched: _, unhashed: _ } = self;
        put_number(out, *acked);
        put_number(out, *end);
        put_number(out, chunks.len() as u64);
        for chunk in chunks {
            // Only the first chunk can be acknowledged in part.
            let gone = acked.saturating_sub(chunk.start());
            match &chunk.source {
                Source::Bytes(bytes) => {
                    out.push(0);
                    put_bytes(out, &bytes[gone as usize..]);
                }
                Source::Pattern => out.push(1),
                Source::Body(body) => {
                    out.push(3);
                    snapshot_body(body, gone, out);
                }
            }
        }
    }

    /// Reads what [`Output::snapshot`] wrote; `None` for anything that it cannot have written.
    pub(crate) fn restore(reader: &mut Reader<'_>, root: u16) -> Option<Self> {
        let (acked, end) = (reader.number()?, reader.number()?);
        let mut output = Self { acked, ..Self::default() };
        let mut at = acked.min(end);
        for _ in 0..reader.number()? {
            let source = restore_source(reader, root)?;
            let length = match &source {
                Source::Bytes(bytes) => bytes.len() as u64,
                Source::Pattern => ENDLESS.checked_sub(at)?,
                Source::Body(body) => body.length(),
            };
            at = at.checked_add(length).filter(|at| length > 0 && *at <= end)?;
            match &source {
                Source::Bytes(bytes) => output.held += bytes.len(),
                Source::Pattern => {}
                Source::Body(_) => output.unmatched += 1,
            }
            output.chunks.push_back(Chunk { end: at, source });
        }
        output.end = end;
        (at == end && end <= ENDLESS).then_some(output)
    }
}

fn snapshot_body(body: &Body, gone: u64, out: &mut Vec<u8>) {
    let Body { root: _, path, facts, range, copy: _ } = body;
    put_snapshot_facts(out, facts);
    put_bytes(out, path.as_bytes());
    put_number(out, range.start + gone);
    put_number(out, range.end);
}

fn restore_source(reader: &mut Reader<'_>, root: u16) -> Option<Source> {
    match reader.byte()? {
        0 => Some(Source::Bytes(reader.bytes()?.to_vec())),
        1 => Some(Source::Pattern),
        // As log version 3 wrote it where no hash was known.
        2 => restore_body(reader, root, false),
        3 => restore_body(reader, root, true),
        _ => None,
    }
}

fn restore_body(reader: &mut Reader<'_>, root: u16, hashed: bool) -> Option<Source> {
    let facts = read_facts(reader, hashed)?;
    let path = core::str::from_utf8(reader.bytes()?).ok()?;
    let range = reader.number()?..reader.number()?;
    let sound = range.start < range.end && range.end <= facts.length && is_normal(path);
    let body = Body { root, path: path.into(), facts, range, copy: OwnCopy::Unknown };
    sound.then(|| Source::Body(Box::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::store::{Lookup, MemoryStore};

    fn read(output: &Output, range: Range<u64>, store: &mut MemoryStore) -> Result<Vec<u8>, Read> {
        let mut into = vec![0; (range.end - range.start) as usize];
        match output.read(range, &mut into, store) {
            Read::Ready(count) => Ok(into[..count].to_vec()),
            failed => Err(failed),
        }
    }

    fn body(store: &mut MemoryStore, path: &str, range: Range<u64>) -> Body {
        let Lookup::Found(facts, id) = store.lookup(0, path) else { panic!("found") };
        Body { root: 0, path: path.into(), facts, range, copy: OwnCopy::Ours(id) }
    }

    #[test]
    fn reads_cross_from_chunk_to_chunk() {
        let mut store = MemoryStore::new();
        store.put(0, "digits", "0123456789", 1);
        let mut output = Output::default();
        output.push_bytes(b"head ");
        let digits = body(&mut store, "digits", 2..8);
        output.push_body(digits, &mut store);
        output.push_bytes(b" tail");
        assert_eq!(read(&output, 0..99, &mut store), Ok(b"head 234567 tail".to_vec()));
        assert_eq!(read(&output, 4..7, &mut store), Ok(b" 23".to_vec()));
        assert_eq!(read(&output, 16..20, &mut store), Ok(vec![]));

        output.on_acked(7, &mut store);
        assert_eq!((output.chunks(), output.held(), store.holds()), (2, 5, 1));
        assert_eq!(read(&output, 7..12, &mut store), Ok(b"4567 ".to_vec()));
        assert_eq!(read(&output, 6..12, &mut store), Err(Read::Gone));
        output.on_acked(16, &mut store);
        assert_eq!((output.chunks(), output.held(), store.holds()), (0, 0, 0));
    }

    #[test]
    fn small_pieces_are_gathered_and_large_ones_stand_alone() {
        let mut output = Output::default();
        (0..100).for_each(|_| output.push_bytes(&[7; 100]));
        assert_eq!(output.chunks(), 1);
        output.push_bytes(&[8; GATHER]);
        assert_eq!((output.chunks(), output.held()), (2, 10_000 + GATHER));
    }

    #[test]
    fn bytes_acknowledged_before_they_were_produced_are_not_kept() {
        let mut store = MemoryStore::new();
        store.put(0, "digits", "0123456789", 1);
        let mut output = Output::default();
        output.on_acked(12, &mut store);
        output.push_bytes(b"ab");
        let digits = body(&mut store, "digits", 0..9);
        output.push_body(digits, &mut store);
        assert_eq!((output.end(), output.chunks(), store.holds()), (11, 0, 0));
        output.push_bytes(b"cdef");
        assert_eq!((output.end(), output.held()), (15, 3));
        assert_eq!(read(&output, 12..15, &mut store), Ok(b"def".to_vec()));
    }

    #[test]
    fn a_piece_that_cannot_be_read_ends_the_read_before_it() {
        let mut store = MemoryStore::new();
        store.put(0, "digits", "0123456789", 1);
        let mut output = Output::default();
        output.push_bytes(b"head ");
        let digits = body(&mut store, "digits", 0..10);
        output.push_body(digits, &mut store);
        store.pending = true;
        assert_eq!(read(&output, 3..9, &mut store), Ok(b"d ".to_vec()));
        assert_eq!(read(&output, 5..9, &mut store), Err(Read::Pending));
        store.pending = false;
        store.put(0, "digits", "0123456789", 2);
        assert_eq!(read(&output, 5..9, &mut store), Err(Read::Gone));
        output.clear(&mut store);
        assert_eq!(store.holds(), 0);
    }
}
