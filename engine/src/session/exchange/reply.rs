//! A reply on its way: what its client was told of it, and what this attempt of a server says.
//!
//! ```text
//!   first server    head ─┬─ payload ───────────╳ dies
//!                         ▼         ▼
//!   client          head ─┬─ payload ─────────────────┬─ goes on at the very byte ─► end
//!                         │ digest: all up to here    │
//!   next server     head ─┴─ the same, to be skipped ─┴─ payload ─────────────────► end
//!                   agrees        agrees
//! ```
//!
//! Of a long reply with a strong validator only the rest is asked for, and a stretch before it: that is
//! compared like any other, as a validator that two servers share may be made of times and lengths. The
//! digest of all bytes up to where the stretch begins was kept, and is gone on with.
//!
//! Chunks are made anew, as servers cut them where they like: a chunk that was begun is filled from
//! whatever the next server sends, and where none is open, the next one ends where the server's does.

use super::append;
use super::digest::{Digest, Points};
use super::promise::{Measure, Promise};
use super::request::Request;
use crate::codec::{Reader, put_bytes, put_number};
use crate::http::{
    Asked, Framing, Part, Persist, Refusal, ReplyHead, Scan, is_hop_by_hop, rewrite, scan,
};

/// How long a stretch of what a client has is read again at least, and half of what it is at most, in
/// bytes. Below that, all is.
const STRETCH: u64 = 256 << 10;

/// How much is set aside at first for a reply of which nobody knows the length, in bytes.
const STEP: u64 = 64 << 10;

/// Interim replies that one server may send ahead of one reply.
const INTERIMS_MAX: u8 = 16;

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// What the client was told, or will be: nothing before there is a head.
    promise: Option<Promise>,
    /// Bytes of payload behind that.
    delivered: u64,
    digest: Digest,
    /// The same at the last two multiples of [`STRETCH`], the earlier one first.
    marks: [Mark; 2],
    /// Bytes of payload that the open chunk still wants.
    owed: u64,
    /// What is kept from the client until it is whole. `None`: it sees the reply as it comes.
    gathered: Option<Vec<u8>>,
    stage: Stage,
    /// Of this attempt: bytes of a head that has not ended, and interim replies that came before.
    head: Vec<u8>,
    interims: u8,
    /// Of this attempt: from which byte on it was asked for, if not for all.
    asked_from: Option<u64>,
    /// Of this attempt: bytes of payload, as far as they were delivered, and those that it was not asked
    /// for.
    skipped: u64,
    check: Digest,
    trailers: Vec<u8>,
    /// Of this attempt: whether the client has got something that it had not.
    pub(super) progressed: bool,
    /// Whether the server takes another request behind this one.
    pub(super) persists: bool,
}

/// How far a reply had been delivered, and the digest of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: u64,
    digest: Digest,
}

impl Mark {
    const START: Self = Self { offset: 0, digest: Digest::EMPTY };
}

/// What is asked of a server that is to go on with a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rest {
    /// The first byte.
    pub(super) from: u64,
    /// Of what the rest is to be: a strong entity tag.
    pub(super) tag: Vec<u8>,
}

/// How far an attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head {
        scanned: usize,
    },
    Body(Framing),
    Done,
    /// Both ends speak another protocol from here on.
    Tunnel,
}

/// Why a reply cannot be passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is none, or its end cannot be known.
    Malformed(Refusal),
    /// It is what nobody asked for: another protocol, interim replies without end, chunks for a client of
    /// HTTP/1.0.
    Unasked,
    /// It is another than the one that the client has the beginning of.
    Differs,
    /// The same, but its server says that it is the one to blame (5xx): a third one may do better.
    Unfit,
    /// It is longer than may be gathered.
    TooLong,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Malformed(refusal)
    }
}

/// What a reply is read with.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) points: &'a Points,
    pub(super) request: &'a Request,
    /// How much may be gathered, in bytes.
    pub(super) gathers: usize,
    /// Whether a longer reply is refused; else it passes.
    pub(super) refuses: bool,
    /// What another server said before is not compared.
    #[cfg(feature = "defects")]
    pub(super) blind: bool,
}

impl Reply {
    /// One that nothing is known of; `gathers`: the client sees it when it is whole.
    pub(super) const fn new(gathers: bool) -> Self {
        Self {
            promise: None,
            delivered: 0,
            digest: Digest::EMPTY,
            marks: [Mark::START; 2],
            owed: 0,
            gathered: if gathers { Some(Vec::new()) } else { None },
            stage: Stage::Head { scanned: 0 },
            head: Vec::new(),
            interims: 0,
            asked_from: None,
            skipped: 0,
            check: Digest::EMPTY,
            trailers: Vec::new(),
            progressed: false,
            persists: true,
        }
    }

    /// Another server is asked.
    pub(super) fn begin_again(&mut self) {
        let begun = Self::new(self.gathered.is_some());
        if self.gathered.is_some() {
            *self = begun;
            return;
        }
        let Self { promise, delivered, digest, marks, owed, gathered, .. } =
            core::mem::replace(self, begun);
        (self.promise, self.delivered, self.digest) = (promise, delivered, digest);
        (self.marks, self.owed, self.gathered) = (marks, owed, gathered);
    }

    /// What the next server may be asked for in place of all, if it is worth it.
    pub(super) fn rest(&self) -> Option<Rest> {
        let promise = self.promise.as_ref().filter(|_| self.shows())?;
        let (from, tag) = (self.marks[0].offset, promise.tag()?.to_vec());
        (from > 0).then_some(Rest { from, tag })
    }

    /// The next server was asked for the rest alone.
    pub(super) const fn ask_rest(&mut self) {
        self.asked_from = Some(self.marks[0].offset);
    }

    /// Whether the client has seen something of it.
    pub(super) const fn shows(&self) -> bool {
        self.promise.is_some() && self.gathered.is_none()
    }

    /// Whether a server has begun to answer.
    pub(super) fn has_begun(&self) -> bool {
        !self.head.is_empty() || !matches!(self.stage, Stage::Head { .. })
    }

    pub(super) const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    pub(super) const fn is_tunnel(&self) -> bool {
        matches!(self.stage, Stage::Tunnel)
    }

    /// Whether the client cannot know its end but by that of the connection.
    pub(super) fn closes(&self) -> bool {
        self.promise.as_ref().is_some_and(|promise| promise.measure() == Measure::Close)
    }

    /// How much of it is gathered, in bytes; `most`: as much may be. Where nobody knows its length, as much
    /// as it is, and as much again.
    pub(super) fn keeps(&self, most: u32) -> u64 {
        let (Some(promise), Some(gathered)) = (&self.promise, &self.gathered) else { return 0 };
        let here = gathered.len() as u64;
        match promise.measure() {
            Measure::Nothing => here,
            Measure::Length(length) if length > most.into() => here,
            Measure::Length(length) => here.max(length),
            Measure::Chunks | Measure::Close => (here * 2).next_power_of_two().max(STEP),
        }
    }

    /// Whether more than a head is to be expected.
    pub(super) const fn is_wide(&self) -> bool {
        self.gathered.is_none() || self.promise.is_some()
    }

    /// What it takes in memory, bytes.
    pub(super) fn memory(&self) -> usize {
        let gathered = self.gathered.as_ref().map_or(0, Vec::capacity);
        gathered + self.head.capacity() + self.trailers.capacity()
    }

    /// Takes in what a server says, up to the reply's end; what the client is to hear of it goes behind
    /// `out`. Returns how much is left of `input`.
    pub(super) fn read(
        &mut self,
        mut input: &[u8],
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        loop {
            match self.stage {
                Stage::Head { .. } => {
                    self.head.extend_from_slice(input);
                    let Some(rest) = self.read_head(scene, out)? else { return Ok(0) };
                    // What follows the head in the same piece.
                    return self.read(&rest, scene, out);
                }
                Stage::Body(ref mut framing) => {
                    let chunk = framing.chunk_left();
                    let taken = match framing.next(input)? {
                        Part::More => return Ok(0),
                        Part::Framing(taken) => taken,
                        Part::Trailer(taken) => {
                            self.trailers.extend_from_slice(&input[..taken]);
                            taken
                        }
                        Part::Data(taken) => {
                            self.on_payload(&input[..taken], chunk, scene, out)?;
                            taken
                        }
                        Part::End(taken) => {
                            self.on_end(out)?;
                            taken
                        }
                    };
                    input = &input[taken..];
                }
                Stage::Done => return Ok(input.len()),
                Stage::Tunnel => {
                    out.extend_from_slice(input);
                    return Ok(0);
                }
            }
        }
    }

    /// The server has said all. Whether that was the end of the reply.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.stage == Stage::Body(Framing::UntilEnd) {
            self.on_end(out)?;
        }
        Ok(self.is_done())
    }

    /// That counts as the end, though it was none.
    #[cfg(feature = "defects")]
    pub(super) const fn end_early(&mut self) {
        (self.stage, self.persists) = (Stage::Done, false);
    }

    /// Looks for the end of the head; returns what stands behind it.
    fn read_head(
        &mut self,
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Stage::Head { scanned } = &mut self.stage else { return Ok(None) };
        let length = match scan(&self.head, *scanned) {
            Scan::More(at) => {
                *scanned = at;
                return Ok(None);
            }
            // RFC 9112 §2.2 has them before requests only.
            Scan::Blank(_) => return Err(Fault::Malformed(Refusal::StatusLine)),
            Scan::Bad(refusal) => return Err(refusal.into()),
            Scan::Head(length) => length,
        };
        *scanned = 0;
        let rest = self.head.split_off(length);
        let head = core::mem::take(&mut self.head);
        self.on_head(&head, scene, out)?;
        Ok(Some(rest))
    }

    fn on_head(&mut self, head: &[u8], scene: &Scene<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let request = scene.request;
        let parsed = ReplyHead::parse(head, request.asked)?;
        if parsed.is_interim() {
            self.interims += 1;
            if self.interims > INTERIMS_MAX {
                return Err(Fault::Unasked);
            }
            // A client may get any number of them, RFC 9110 §15.2, but none behind the reply's head.
            if !self.shows() && request.minor > 0 {
                out.extend_from_slice(head);
            }
            self.stage = Stage::Head { scanned: 0 };
            return Ok(());
        }
        if parsed.status == 101 || (request.asked == Asked::Connect && parsed.status / 100 == 2) {
            if !request.upgrade || self.shows() {
                return Err(Fault::Unasked);
            }
            self.stage = Stage::Tunnel;
            self.gathered = None;
            out.extend_from_slice(head);
            return Ok(());
        }
        if let (Some(given), Some(from)) = (&self.promise, self.asked_from)
            && given.is_kept_by_rest(&parsed, from)
        {
            (self.skipped, self.check) = (from, self.marks[0].digest);
            self.begin_body(&parsed);
            return Ok(());
        }
        let promise = Promise::of(&parsed);
        if promise.measure() == Measure::Chunks && request.minor == 0 {
            // Nobody who speaks HTTP/1.0 can read it.
            return Err(Fault::Unasked);
        }
        match &self.promise {
            Some(given) if !given.is_kept_by(&promise) => {
                return Err(if parsed.status >= 500 { Fault::Unfit } else { Fault::Differs });
            }
            Some(_) => {}
            None => {
                let closes =
                    request.persist == Persist::Close || promise.measure() == Measure::Close;
                let says: &[(&str, &[u8])] = match request.persist {
                    _ if closes => &[("Connection", b"close")],
                    Persist::KeepAlive => &[("Connection", b"keep-alive")],
                    Persist::Keep | Persist::Close => &[],
                };
                let ours = |name: &str, _: &[u8]| is_hop_by_hop(&parsed.fields, name);
                rewrite(head, ours, says, self.sink(out));
                self.promise = Some(promise);
            }
        }
        self.begin_body(&parsed);
        if self.is_done() {
            self.on_end(out)?;
        }
        self.check_size(scene, out)
    }

    fn begin_body(&mut self, head: &ReplyHead<'_>) {
        self.persists = head.persist != Persist::Close && head.body != Some(Framing::UntilEnd);
        self.stage = head.body.map_or(Stage::Done, Stage::Body);
    }

    /// Where it goes: to the client, or beside.
    const fn sink<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        match &mut self.gathered {
            Some(gathered) => gathered,
            None => out,
        }
    }

    /// The next bytes of payload. `chunk`: so many are left of the server's chunk, these included.
    fn on_payload(
        &mut self,
        bytes: &[u8],
        chunk: u64,
        scene: &Scene<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        let behind = usize::try_from(self.delivered - self.skipped).unwrap_or(usize::MAX);
        let (old, new) = bytes.split_at(behind.min(bytes.len()));
        if !old.is_empty() {
            self.check.update(scene.points, old);
            self.skipped += old.len() as u64;
            let differs = self.check != self.digest;
            #[cfg(feature = "defects")]
            let differs = differs && !scene.blind;
            if self.skipped == self.delivered && differs {
                return Err(Fault::Differs);
            }
        }
        self.deliver(scene.points, new);
        self.skipped += new.len() as u64;
        self.progressed |= !new.is_empty() && self.shows();
        let in_chunks =
            self.promise.as_ref().is_some_and(|promise| promise.measure() == Measure::Chunks);
        if in_chunks {
            self.put_chunks(new, chunk - old.len() as u64, out);
        } else {
            append(self.sink(out), new);
        }
        self.check_size(scene, out)
    }

    /// Counts what the client gets, and keeps where multiples of [`STRETCH`] lie.
    fn deliver(&mut self, points: &Points, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let rest = STRETCH - self.delivered % STRETCH;
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            self.digest.update(points, now);
            self.delivered += count as u64;
            if self.delivered.is_multiple_of(STRETCH) {
                let mark = Mark { offset: self.delivered, digest: self.digest };
                self.marks = [self.marks[1], mark];
            }
            bytes = later;
        }
    }

    fn put_chunks(&mut self, mut bytes: &[u8], mut chunk: u64, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.owed == 0 {
                self.owed = chunk;
                self.sink(out).extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
            }
            let count = usize::try_from(self.owed).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(count);
            self.owed -= count as u64;
            chunk -= count as u64;
            let ended = self.owed == 0;
            let sink = self.sink(out);
            append(sink, now);
            if ended {
                sink.extend_from_slice(b"\r\n");
            }
            bytes = later;
        }
    }

    /// The reply has ended where its server says.
    fn on_end(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        if self.skipped < self.delivered || self.owed > 0 {
            return Err(Fault::Differs);
        }
        self.stage = Stage::Done;
        if self.promise.as_ref().is_some_and(|promise| promise.measure() == Measure::Chunks) {
            let trailers = core::mem::take(&mut self.trailers);
            let sink = self.sink(out);
            sink.extend_from_slice(b"0\r\n");
            sink.extend_from_slice(&trailers);
            sink.extend_from_slice(b"\r\n");
        }
        if let Some(mut gathered) = self.gathered.take() {
            out.append(&mut gathered);
        }
        Ok(())
    }

    /// What has been gathered of it passes, or the reply is given up, if it is too much.
    fn check_size(&mut self, scene: &Scene<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(gathered) = &mut self.gathered else { return Ok(()) };
        if gathered.len() <= scene.gathers {
            return Ok(());
        }
        if scene.refuses {
            return Err(Fault::TooLong);
        }
        out.append(gathered);
        self.gathered = None;
        Ok(())
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self {
            promise,
            delivered,
            digest,
            marks,
            owed,
            gathered,
            stage,
            head,
            interims,
            asked_from,
            skipped,
            check,
            trailers,
            progressed,
            persists,
        } = self;
        let flags = [*persists, promise.is_some(), gathered.is_some(), *progressed];
        out.push(flags.into_iter().rev().fold(0, |flags, one| flags << 1 | u8::from(one)));
        out.push(*interims);
        if let Some(promise) = promise {
            promise.encode(out);
        }
        for Mark { offset, digest } in marks {
            put_number(out, *offset);
            digest.encode(out);
        }
        // Nothing is asked for from the first byte on.
        for number in [*delivered, *owed, asked_from.unwrap_or(0), *skipped] {
            put_number(out, number);
        }
        digest.encode(out);
        check.encode(out);
        put_bytes(out, gathered.as_deref().unwrap_or_default());
        put_bytes(out, head);
        put_bytes(out, trailers);
        match stage {
            Stage::Head { scanned } => {
                out.push(0);
                put_number(out, *scanned as u64);
            }
            Stage::Body(framing) => {
                out.push(1);
                framing.encode(out);
            }
            Stage::Done => out.push(2),
            Stage::Tunnel => out.push(3),
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.byte().filter(|flags| *flags < 16)?;
        let interims = reader.byte().filter(|count| *count <= INTERIMS_MAX)?;
        let promise = if flags & 2 == 0 { None } else { Some(Promise::decode(reader)?) };
        let mut mark = || Some(Mark { offset: reader.number()?, digest: Digest::decode(reader)? });
        let marks = [mark()?, mark()?];
        let (delivered, owed) = (reader.number()?, reader.number()?);
        let (asked_from, skipped) = (reader.number()?, reader.number()?);
        let asked_from = (asked_from > 0).then_some(asked_from);
        let (digest, check) = (Digest::decode(reader)?, Digest::decode(reader)?);
        let gathered = reader.bytes()?.to_vec();
        let head = reader.bytes()?.to_vec();
        let trailers = reader.bytes()?.to_vec();
        let stage = match reader.byte()? {
            0 => {
                let scanned = usize::try_from(reader.number()?).ok()?;
                (scanned <= head.len()).then_some(Stage::Head { scanned })?
            }
            1 => Stage::Body(Framing::decode(reader)?),
            2 => Stage::Done,
            3 => Stage::Tunnel,
            _ => return None,
        };
        let gathered = match flags & 4 {
            0 if !gathered.is_empty() => return None,
            0 => None,
            _ => Some(gathered),
        };
        (skipped <= delivered).then_some(Self {
            promise,
            delivered,
            digest,
            marks,
            owed,
            gathered,
            stage,
            head,
            interims,
            asked_from,
            skipped,
            check,
            trailers,
            progressed: flags & 8 != 0,
            persists: flags & 1 != 0,
        })
    }
}
