//! Which connection a segment belongs to, and which side said it.
//!
//! The server is the target of a SYN. Where a capture starts in the middle of a connection nobody
//! said who the server is: unless the user has, such segments are counted and left alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::capture::link::{Seen, Unusable, look};
use crate::capture::packet::Sighting;
use crate::capture::read::{End, Frame};

/// Connections that a capture may have before further ones are left out.
pub(crate) const CONNECTIONS_MAX: usize = 50_000;

/// The end that sent a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The end that opened the connection.
    Client,
    /// The other.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// A connection's ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.client, self.server)
    }
}

/// Where a segment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The connection's number, from 0 in the order of their first packets.
    pub(crate) index: usize,
    pub(crate) ends: Ends,
    pub(crate) from: Side,
    /// Whether this is the connection's first segment.
    pub(crate) fresh: bool,
}

/// What a capture held, and what of it was of no use.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Frames in the file.
    pub frames: u64,
    /// TCP segments of connections that were looked at.
    pub segments: u64,
    /// Connections that were looked at.
    pub connections: u64,
    /// Frames of no use, by reason.
    pub unusable: BTreeMap<String, u64>,
    /// Segments whose payload the capture has not kept whole.
    pub snapped: u64,
    /// Segments of connections that began before the capture.
    pub midway: u64,
    /// Connections beyond the limit; their segments count as [`Self::midway`].
    pub left_out: u64,
    /// Frames whose time lies before that of an earlier one.
    pub back_in_time: u64,
    /// The file ends in the middle of a packet.
    pub cut_off: bool,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, segments, connections, .. } = self;
        let s = if *connections == 1 { "" } else { "s" };
        write!(f, "{frames} frames, {segments} segments of {connections} connection{s}")?;
        for (reason, count) in &self.unusable {
            write!(f, "\n  left aside: {count} frames {reason}")?;
        }
        let lines = [
            (self.snapped, "segments are cut: their payload was not captured whole"),
            (
                self.midway,
                "segments of connections that began before the capture (or are beyond the limit)",
            ),
            (self.left_out, "connections beyond the limit were left out"),
            (self.back_in_time, "frames are dated before an earlier one"),
            (u64::from(self.cut_off), "packet at the end is cut off: the capture was not closed"),
        ];
        for (count, what) in lines.iter().filter(|(count, _)| *count > 0) {
            write!(f, "\n  {count} {what}")?;
        }
        Ok(())
    }
}

/// The connections of a capture.
#[derive(Debug)]
pub(crate) struct Roster {
    /// What the user says is a server.
    servers: Vec<SocketAddr>,
    /// Whether to take part in connections whose beginning was not captured.
    midway: bool,
    limit: usize,
    /// The latest connection of each pair of ends, and its client's ISN if known.
    known: HashMap<Ends, (usize, Option<u32>)>,
    /// The time of the latest frame and of the first.
    latest: u64,
    first: Option<u64>,
    pub(crate) counts: Counts,
}

impl Roster {
    pub(crate) fn new(servers: Vec<SocketAddr>, midway: bool, limit: usize) -> Self {
        Self {
            servers,
            midway,
            limit,
            known: HashMap::new(),
            latest: 0,
            first: None,
            counts: Counts::default(),
        }
    }

    /// Counts a frame and looks into it. The time is in nanoseconds since the capture's first
    /// frame, and never goes back.
    pub(crate) fn look<'a>(&mut self, frame: &Frame<'a>) -> (u64, Option<Seen<'a>>) {
        self.counts.frames += 1;
        let first = *self.first.get_or_insert(frame.nanos);
        if frame.nanos < self.latest {
            self.counts.back_in_time += 1;
        }
        self.latest = self.latest.max(frame.nanos);
        let at = self.latest - first;
        match look(frame) {
            Ok(seen) => (at, Some(seen)),
            Err(reason) => {
                self.count_unusable(reason);
                (at, None)
            }
        }
    }

    fn count_unusable(&mut self, reason: Unusable) {
        *self.counts.unusable.entry(reason.to_string()).or_default() += 1;
    }

    /// The capture is read to its end.
    pub(crate) fn finish(&mut self, end: End) {
        self.counts.cut_off = end == End::CutOff;
    }

    /// Finds a segment's connection, or opens it.
    pub(crate) fn place(&mut self, sighting: &Sighting<'_>) -> Option<Place> {
        let place = self.find(sighting);
        match place {
            Some(_) => {
                self.counts.segments += 1;
                self.counts.snapped += u64::from(!sighting.is_whole());
            }
            None => self.counts.midway += 1,
        }
        place
    }

    fn find(&mut self, sighting: &Sighting<'_>) -> Option<Place> {
        let from_client = Ends { client: sighting.source, server: sighting.target };
        let from_server = Ends { client: sighting.target, server: sighting.source };
        if sighting.is_opening() {
            return self.on_syn(from_client, sighting.sequence);
        }
        for (ends, from) in [(from_client, Side::Client), (from_server, Side::Server)] {
            if let Some(&(index, _)) = self.known.get(&ends) {
                return Some(Place { index, ends, from, fresh: false });
            }
        }
        let is_server = |end: &SocketAddr| self.servers.contains(end);
        let answers = sighting.syn || is_server(&sighting.source);
        if answers {
            self.open(from_server, Side::Server, None)
        } else if is_server(&sighting.target) {
            self.open(from_client, Side::Client, None)
        } else if self.midway {
            // A guess: services have the lower port.
            let lower = sighting.source.port() < sighting.target.port();
            let (ends, from) =
                if lower { (from_server, Side::Server) } else { (from_client, Side::Client) };
            self.open(ends, from, None)
        } else {
            None
        }
    }

    fn on_syn(&mut self, ends: Ends, iss: u32) -> Option<Place> {
        match self.known.get_mut(&ends) {
            Some((index, known)) if known.is_none_or(|known| known == iss) => {
                *known = Some(iss);
                Some(Place { index: *index, ends, from: Side::Client, fresh: false })
            }
            // The same ports again: another connection.
            _ => self.open(ends, Side::Client, Some(iss)),
        }
    }

    fn open(&mut self, ends: Ends, from: Side, iss: Option<u32>) -> Option<Place> {
        if self.counts.connections as usize >= self.limit {
            self.counts.left_out += u64::from(iss.is_some());
            self.known.remove(&ends);
            return None;
        }
        let index = self.counts.connections as usize;
        self.counts.connections += 1;
        self.known.insert(ends, (index, iss));
        Some(Place { index, ends, from, fresh: true })
    }
}
