//! A recorded client as a script for a living one.
//!
//! A recording cannot adapt to a server that dies. So of each recorded client the application is
//! kept: what it said, and when; how much it wanted to hear; and how it left. A real TCP says it
//! again. Long pauses are shortened, for all connections alike.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::roster::{CONNECTIONS_MAX, Counts, Ends, Place, Roster};
use super::super::stream::Unwrap;
use super::super::{Side, compare::Kind};
use super::Options;
use crate::capture::CaptureError;
use crate::capture::link::Seen;
use crate::capture::packet::Sighting;
use crate::capture::read::{Frame, Item, read};

/// Bytes of one recorded client that are said again.
const BYTES_MAX: u64 = 4 << 20;
/// Bytes that one client wants to hear again.
const HEARD_MAX: u64 = 16 << 20;
/// Moments of speech that are kept of one client.
const MOMENTS_MAX: usize = 100_000;
/// Client packets of the whole capture that can be named.
const PACKETS_MAX: usize = 1_000_000;
/// A server that said so many times what it was told is no echo, but a source.
const SOURCE: u64 = 4;

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It closes its side then.
    Close(u64),
    /// It resets, once it has had what it wanted; also where the capture ends before it left.
    Reset,
}

/// One recorded client.
#[derive(Debug, Clone)]
pub(super) struct Act {
    /// From 1, in the order of their first packets.
    pub(super) number: usize,
    pub(super) ends: Ends,
    /// When it connects. Times are nanoseconds of the shortened capture.
    pub(super) at: u64,
    /// What it says from when on: the end of the stream then.
    pub(super) says: Vec<(u64, u64)>,
    pub(super) bytes: Vec<u8>,
    pub(super) leaves: Leave,
    /// What answers in the re-enactment.
    pub(super) kind: Kind,
    /// Bytes that it wants to hear from a source.
    pub(super) wants: u64,
}

/// A capture as a play.
#[derive(Debug)]
pub(super) struct Play {
    pub(super) acts: Vec<Act>,
    /// The client packets: when, and which.
    pub(super) packets: Vec<(u64, u64)>,
    pub(super) counts: Counts,
    /// What was left out, for people.
    pub(super) left_out: BTreeMap<&'static str, u64>,
}

impl Play {
    /// The last client packet at or before a packet of the capture; that one if there is none.
    pub(super) fn client_packet(&self, packet: u64) -> u64 {
        let index = self.packets.partition_point(|(_, frame)| *frame <= packet);
        index.checked_sub(1).map_or(packet, |index| self.packets[index].1)
    }

    /// The last client packet at or before a time; the first if there is none.
    pub(super) fn packet_at(&self, at: u64) -> u64 {
        let index = self.packets.partition_point(|(time, _)| *time <= at);
        self.packets.get(index.saturating_sub(1)).map_or(0, |(_, frame)| *frame)
    }
}

/// Reads the play out of a capture.
pub(super) fn read_play(path: &Path, options: &Options) -> Result<Play, CaptureError> {
    let mut reader = Reader {
        roster: Roster::new(Vec::new(), false, CONNECTIONS_MAX),
        drafts: Vec::new(),
        packets: Vec::new(),
        left_out: BTreeMap::new(),
        pause: u64::try_from(options.pause_max.as_nanos()).unwrap_or(u64::MAX),
        limit: options.connections,
        last: None,
        now: 0,
    };
    let end = read(path, |item| {
        if let Item::Frame(frame) = item {
            reader.on_frame(&frame);
        }
    })?;
    reader.roster.finish(end);
    let acts = reader.drafts.into_iter().flatten().map(|draft| draft.finish(options)).collect();
    let Reader { roster, packets, left_out, .. } = reader;
    Ok(Play { acts, packets, counts: roster.counts, left_out })
}

/// A client while the capture is read.
#[derive(Debug)]
struct Draft {
    act: Act,
    stream: Unwrap,
    reply: Option<Unwrap>,
    heard: u64,
    cut: bool,
}

struct Reader {
    roster: Roster,
    drafts: Vec<Option<Draft>>,
    packets: Vec<(u64, u64)>,
    left_out: BTreeMap<&'static str, u64>,
    pause: u64,
    limit: usize,
    /// The last client packet's time in the capture.
    last: Option<u64>,
    /// And in the shortened one.
    now: u64,
}

impl Reader {
    fn on_frame(&mut self, frame: &Frame<'_>) {
        let (at, seen) = self.roster.look(frame);
        let Some(Seen::Segment(segment)) = seen else { return };
        let Some(place) = self.roster.place(&segment) else { return };
        if place.from == Side::Client {
            let since = at.saturating_sub(self.last.unwrap_or(at));
            self.now += since.min(self.pause);
            self.last = Some(at);
        }
        if place.fresh {
            let draft = self.open(place, &segment);
            self.drafts.push(draft);
        }
        let Some(Some(draft)) = self.drafts.get_mut(place.index) else { return };
        if place.from == Side::Server {
            draft.on_server(&segment);
            return;
        }
        if self.packets.len() < PACKETS_MAX {
            self.packets.push((self.now, frame.number));
        }
        if !draft.on_client(self.now, &segment) {
            draft.cut = true;
            *self.left_out.entry("segments of clients that say too much").or_default() += 1;
        }
    }

    fn open(&mut self, place: Place, segment: &Sighting<'_>) -> Option<Draft> {
        if !segment.is_opening() {
            self.roster.counts.midway += 1;
            return None;
        }
        if self.drafts.iter().flatten().count() >= self.limit {
            *self.left_out.entry("connections beyond --connections").or_default() += 1;
            return None;
        }
        let act = Act {
            number: place.index + 1,
            ends: place.ends,
            at: self.now,
            says: Vec::new(),
            bytes: Vec::new(),
            leaves: Leave::Reset,
            kind: Kind::Echo,
            wants: 0,
        };
        let stream = Unwrap::new(segment.sequence);
        Some(Draft { act, stream, reply: None, heard: 0, cut: false })
    }
}

impl Draft {
    /// Whether there was room for what it says.
    fn on_client(&mut self, now: u64, segment: &Sighting<'_>) -> bool {
        if segment.rst || self.cut {
            return true;
        }
        if let (Some(reply), Some(ack)) = (&mut self.reply, segment.acknowledgment) {
            let offset = reply.offset(ack);
            reply.reached(offset);
            self.heard = self.heard.max(u64::try_from(offset).unwrap_or(0));
        }
        let start = self.stream.offset(segment.sequence) + i64::from(segment.syn);
        let end = start + i64::from(segment.length);
        let said = self.act.bytes.len() as i64;
        if end > said && segment.length > 0 {
            if end as u64 > BYTES_MAX || self.act.says.len() >= MOMENTS_MAX {
                return false;
            }
            // What the capture lacks, or has cut off, is zero: any byte serves.
            self.act.bytes.resize(end as usize, 0);
            let known = usize::try_from(said - start).unwrap_or(0);
            if start >= 0
                && let Some(fresh) = segment.payload.get(known..)
            {
                let at = start as usize + known;
                self.act.bytes[at..at + fresh.len()].copy_from_slice(fresh);
            }
            self.act.says.push((now, end as u64));
        }
        self.stream.reached(end);
        if segment.fin && self.act.leaves == Leave::Reset {
            self.act.leaves = Leave::Close(now);
        }
        true
    }

    fn on_server(&mut self, segment: &Sighting<'_>) {
        if segment.syn {
            self.reply.get_or_insert_with(|| Unwrap::new(segment.sequence));
        }
    }

    /// The act, once it is known how much each side said.
    fn finish(mut self, options: &Options) -> Act {
        let said = self.act.bytes.len() as u64;
        let server = self.act.ends.server;
        let named = options.services.iter().find(|service| service.at == server);
        self.act.kind = match (named.map(|service| service.kind), server.port()) {
            (Some(kind @ (Kind::Echo | Kind::Discard | Kind::Chargen)), _) => kind,
            (None, 7) => Kind::Echo,
            (None, 9) => Kind::Discard,
            (None, 19) => Kind::Chargen,
            (
                Some(Kind::Files { .. } | Kind::Join(_) | Kind::Exchange(..) | Kind::Mirror(..))
                | None,
                _,
            ) if self.heard > said.saturating_mul(SOURCE) => Kind::Chargen,
            (
                Some(Kind::Files { .. } | Kind::Join(_) | Kind::Exchange(..) | Kind::Mirror(..))
                | None,
                _,
            ) => Kind::Echo,
        };
        if self.cut {
            self.act.leaves = Leave::Reset;
        }
        self.act.wants = match self.act.kind {
            Kind::Chargen => self.heard.min(HEARD_MAX),
            Kind::Echo => said,
            Kind::Discard
            | Kind::Files { .. }
            | Kind::Join(_)
            | Kind::Exchange(..)
            | Kind::Mirror(..) => 0,
        };
        self.act
    }
}
