//! What a client's capture must not show when a primary dies.
//!
//! `tcpdump` in front of a client sees everything that the client sees. This module reads such a
//! capture (pcap or pcapng) and holds what the service address said against what an
//! ordinary TCP host would say (invariant I4): no reset, nothing acknowledged twice backwards, no
//! byte that changes when it is retransmitted, a clock that runs forwards, a window that is never
//! taken back.
//!
//! ```text
//!   file ──► frames ──► Sighting (one TCP segment) ──► Connection ──► Finding…
//! ```

mod connection;
pub(crate) mod link;
pub(crate) mod packet;
pub(crate) mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use connection::Connection;
pub use connection::{Finding, Rule};
use link::{Seen, look};
use packet::Sighting;
pub use read::CaptureError;
use read::{Frame, Item};

/// At most so many findings are told one by one; all are counted.
const TOLD: usize = 50;

/// What a capture shows.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    /// Frames in the file.
    pub frames: u64,
    /// TCP segments from or to a service address among them.
    pub segments: u64,
    /// Connections seen, counting a reused pair of ports again.
    pub connections: u64,
    /// Payload bytes from the service, retransmitted ones counted again.
    pub service_bytes: u64,
    /// Payload bytes from the service that had been seen before and were the same again.
    pub repeated_bytes: u64,
    /// How often the service's Ethernet address changed: takeovers as the LAN sees them.
    pub speaker_changes: u64,
    /// How often each rule was broken.
    pub broken: BTreeMap<&'static str, u64>,
    /// The first findings.
    pub findings: Vec<Told>,
}

/// A finding, with where it was seen.
#[derive(Debug, Serialize)]
pub struct Told {
    /// Seconds since the capture's first frame.
    pub at_s: f64,
    /// The frame's number, from 1 as in other tools.
    pub frame: u64,
    /// The client's end.
    pub client: SocketAddr,
    /// The service's end.
    pub service: SocketAddr,
    /// What was seen.
    pub what: String,
}

impl Verdict {
    /// Whether nothing was wrong, and there was something to look at.
    pub fn ok(&self) -> bool {
        self.broken.is_empty() && self.segments > 0
    }
}

/// Reads a capture and checks what the `services` said. A segment may be as late as `late` says: behind
/// a relay those of a server have come over a network, and may have overtaken each other there.
///
/// # Errors
/// When the file cannot be read or is no capture.
pub fn check_file(
    path: &Path,
    services: &[IpAddr],
    late: Duration,
) -> Result<Verdict, CaptureError> {
    let mut checker = Checker::new(services, late);
    read::read(path, |item| {
        if let Item::Frame(frame) = item {
            checker.frame(&frame);
        }
    })?;
    Ok(checker.verdict)
}

struct Checker<'a> {
    services: &'a [IpAddr],
    /// Nanoseconds.
    late: u64,
    connections: BTreeMap<(SocketAddr, SocketAddr), Connection>,
    speakers: BTreeMap<IpAddr, [u8; 6]>,
    first: Option<u64>,
    verdict: Verdict,
}

impl<'a> Checker<'a> {
    fn new(services: &'a [IpAddr], late: Duration) -> Self {
        Self {
            services,
            late: u64::try_from(late.as_nanos()).unwrap_or(u64::MAX),
            connections: BTreeMap::new(),
            speakers: BTreeMap::new(),
            first: None,
            verdict: Verdict::default(),
        }
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        self.verdict.frames += 1;
        let first = *self.first.get_or_insert(frame.nanos);
        let Ok(Seen::Segment(sighting)) = look(frame) else { return };
        if self.services.contains(&sighting.source.ip()) {
            self.on_service(frame.nanos.saturating_sub(first), &sighting);
        } else if self.services.contains(&sighting.target.ip()) {
            self.on_client(&sighting);
        }
    }

    fn on_client(&mut self, sighting: &Sighting<'_>) {
        self.verdict.segments += 1;
        let key = (sighting.source, sighting.target);
        let known = self.connections.get(&key);
        // A client that opens again with the same ports starts another connection.
        let fresh = known.is_none_or(|c| sighting.is_opening() && !c.is_same_opening(sighting));
        if fresh {
            self.verdict.connections += 1;
            self.connections.insert(key, Connection::default());
        }
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.on_client(sighting);
        }
    }

    fn on_service(&mut self, at: u64, sighting: &Sighting<'_>) {
        self.verdict.segments += 1;
        if let Some(mac) = sighting.source_mac
            && self.speakers.insert(sighting.source.ip(), mac).is_some_and(|before| before != mac)
        {
            self.verdict.speaker_changes += 1;
        }
        let (client, service) = (sighting.target, sighting.source);
        let connection = self.connections.entry((client, service)).or_insert_with(|| {
            self.verdict.connections += 1;
            Connection::default()
        });
        self.verdict.service_bytes += sighting.payload.len() as u64;
        let mut findings = Vec::new();
        self.verdict.repeated_bytes +=
            connection.on_service((at, self.late), sighting, &mut findings);
        let at_s = at as f64 / 1e9;
        for finding in findings {
            *self.verdict.broken.entry(finding.rule.name()).or_default() += 1;
            if self.verdict.findings.len() < TOLD {
                let (frame, what) = (self.verdict.frames, finding.to_string());
                self.verdict.findings.push(Told { at_s, frame, client, service, what });
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} frames, {} segments of {} connections, {} bytes from the service, {} of them \
             repeated, {} changes of speaker",
            self.frames,
            self.segments,
            self.connections,
            self.service_bytes,
            self.repeated_bytes,
            self.speaker_changes,
        )?;
        for Told { at_s, frame, client, service, what } in &self.findings {
            writeln!(f, "frame {frame} at {at_s:.6} s, {service} to {client}: {what}")?;
        }
        if self.ok() {
            return write!(f, "nothing that a client could notice");
        }
        if self.segments == 0 {
            return write!(f, "FAILED: no segment of a service address in this capture");
        }
        let counts: Vec<String> =
            self.broken.iter().map(|(rule, count)| format!("{rule}: {count}")).collect();
        write!(f, "FAILED: {}", counts.join(", "))
    }
}
