//! What became of a swarm, for a person and for a script.

use std::fmt;

use serde::Serialize;
use standin::time::{Duration, Instant};

/// At most so many troubles are told one by one; all are counted.
const TOLD: usize = 50;
/// At most so many of the longest gaps are told one by one.
const GAPS_TOLD: usize = 16;

/// The result.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// Whether every connection was opened, answered to the end, every byte right, and closed in
    /// order.
    pub ok: bool,
    /// Members.
    pub connections: u64,
    /// Whose handshake was completed.
    pub opened: u64,
    /// Whose SYN was answered by a reset.
    pub refused: u64,
    /// Whose SYN was not answered.
    pub unanswered: u64,
    /// Reset after they were open.
    pub reset: u64,
    /// Open once, and then without an answer, or ended by the peer.
    pub lost: u64,
    /// That got a wrong byte.
    pub wrong: u64,
    /// That were still alive when the swarm was told to give up.
    pub given_up: u64,
    /// That were closed in order, every byte right.
    pub completed: u64,
    /// Requests answered.
    pub answers: u64,
    /// Bytes that came back and were right.
    pub bytes: u64,
    /// Packets read.
    pub packets_in: u64,
    /// Packets written.
    pub packets_out: u64,
    /// Packets that the device did not take.
    pub packets_refused: u64,
    /// From the first SYN to the last handshake, in seconds.
    pub opening_s: f64,
    /// From the first SYN to the end, in seconds.
    pub elapsed_s: f64,
    /// Resident memory of this process when every connection was open, in bytes.
    pub resident: u64,
    /// From SYN to the end of the handshake.
    pub connect_ms: Spread,
    /// The longest wait for an answer of each connection that asked while it held.
    pub gap_ms: Spread,
    /// How long each connection's answer took at the end.
    pub check_ms: Spread,
    /// The longest of them, longest first.
    pub longest: Vec<Gap>,
    /// The first troubles.
    pub troubles: Vec<Trouble>,
}

/// A distribution, in milliseconds, by the nearest rank.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Values in it.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of microseconds.
    pub(super) fn of(mut micros: Vec<u32>) -> Self {
        micros.sort_unstable();
        let rank = |share: f64| {
            let rank = (share * micros.len() as f64).ceil() as usize;
            micros.get(rank.max(1) - 1).map_or(0.0, |micros| f64::from(*micros) / 1e3)
        };
        Self {
            count: micros.len() as u64,
            p50: rank(0.5),
            p99: rank(0.99),
            p999: rank(0.999),
            max: rank(1.0),
        }
    }
}

/// A wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gap {
    /// Its length, in milliseconds.
    pub ms: f64,
    /// Its end, in seconds after the first SYN.
    pub at_s: f64,
    /// Whose.
    pub connection: u32,
}

/// What went wrong with one connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trouble {
    /// Whose.
    pub connection: u32,
    /// Its own address and port.
    pub source: String,
    /// Seconds after the first SYN.
    pub at_s: f64,
    /// What happened.
    pub cause: String,
}

impl Report {
    pub(super) fn tell(&mut self, trouble: Trouble) {
        if self.troubles.len() < TOLD {
            self.troubles.push(trouble);
        }
    }

    pub(super) fn note(&mut self, gap: Gap) {
        if self.longest.len() == GAPS_TOLD && self.longest.last().is_some_and(|l| gap.ms <= l.ms) {
            return;
        }
        let place = self.longest.partition_point(|other| other.ms >= gap.ms);
        self.longest.insert(place, gap);
        self.longest.truncate(GAPS_TOLD);
    }

    /// Members that are not completed, and will not be.
    pub fn failed(&self) -> u64 {
        self.refused + self.unanswered + self.reset + self.lost + self.wrong + self.given_up
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, opened, refused, unanswered, reset, lost, wrong, .. } = self;
        writeln!(
            f,
            "{opened} of {connections} opened in {:.1} s; {refused} refused, {unanswered} \
             unanswered, {reset} reset, {lost} lost, {wrong} with wrong bytes",
            self.opening_s
        )?;
        writeln!(
            f,
            "{} answers, {} bytes right; {} packets in, {} out, {} refused by the device",
            self.answers, self.bytes, self.packets_in, self.packets_out, self.packets_refused
        )?;
        for (what, spread) in
            [("connect", self.connect_ms), ("longest wait", self.gap_ms), ("check", self.check_ms)]
        {
            let Spread { p50, p99, p999, max, .. } = spread;
            writeln!(
                f,
                "{what}: p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 {p999:.1} ms, max {max:.1} ms"
            )?;
        }
        writeln!(f, "resident memory {} kB", self.resident / 1024)?;
        for Trouble { connection, source, at_s, cause } in &self.troubles {
            writeln!(f, "connection {connection} ({source}) at {at_s:.3} s: {cause}")?;
        }
        let untold = self.failed().saturating_sub(self.troubles.len() as u64);
        if untold > 0 {
            writeln!(f, "… and {untold} more")?;
        }
        if self.ok {
            write!(f, "0 of {connections} lost, every byte right ({:.1} s)", self.elapsed_s)
        } else {
            let failed = self.failed();
            write!(f, "FAILED: {failed} of {connections} ({:.1} s)", self.elapsed_s)
        }
    }
}

/// Whole microseconds, as far as they fit.
pub(super) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

pub(super) fn seconds(from: Instant, to: Instant) -> f64 {
    to.since(from).as_secs_f64()
}
