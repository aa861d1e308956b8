//! `crash`: would the recorded clients have noticed the death of the primary, whenever it died?
//!
//! ```text
//!   capture ──► Play (an Act per recorded client) ──► perform(no death)   the moments of N outputs
//!                                                 ──► perform(death at 1) ─┐
//!                                                 ──►    …                 ├─► Report
//!                                                 ──► perform(death at N) ─┘
//! ```
//!
//! Each performance has a world of its own: the simulator's pair, in duplex, and its LAN. The
//! recorded clients' applications live again on a real TCP, and the primary dies right before one
//! of its outputs: a packet, a write to the replication stream, a frame, a heartbeat. Clients check
//! every byte; the oracle holds everything on the wire against I1 to I7.
//!
//! The services are the engine's. A recorded server that it does not have is stood in for: by
//! chargen where the server said much more than it was told, by echo otherwise.

mod act;
mod living;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::compare::{Kind, Service};
use super::roster::Counts;
use crate::capture::CaptureError;

use act::{Act, Play, read_play};
use stage::{Outcome, perform};

/// What of the primary dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Death {
    /// The process; its host's kernel closes its sockets.
    Process,
    /// The whole host, at once and without a word.
    Host,
}

/// At which events the primary dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Events {
    /// At each.
    Every,
    /// At so many, evenly spread.
    Spread(usize),
    /// At those between this packet of the capture and the client's next; at the first after it
    /// where there are none.
    Packet(u64),
}

/// What to play, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// What recorded servers are, where their port does not tell.
    pub services: Vec<Service>,
    /// At which events.
    pub events: Events,
    /// What dies.
    pub death: Death,
    /// Connections of the capture that are played.
    pub connections: usize,
    /// Pauses of the capture are no longer than that.
    pub pause_max: Duration,
    /// The LAN's MTU.
    pub mtu: u16,
    /// Threads; 0 is one for each core.
    pub threads: usize,
    /// Whether to show a progress bar.
    pub progress: bool,
    /// The mistake that both engines make, to see how it is found out.
    #[cfg(feature = "defects")]
    pub defect: Option<standin::defects::Defect>,
}

/// A death that was noticed.
#[derive(Debug, Clone, Serialize)]
struct Failure {
    /// Right before this output of the primary; 0 where nothing died.
    event: u64,
    /// The capture's packet that had come last.
    packet: u64,
    /// Nanoseconds from the beginning of the play to the death.
    at: u64,
    what: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    capture: Counts,
    left_out: BTreeMap<&'static str, u64>,
    /// Connections that were played, by what answered them.
    played: BTreeMap<&'static str, u64>,
    death: Death,
    /// Outputs of the primary while nothing died.
    events: u64,
    /// Deaths that were tried, in the order of the events, up to the first that was noticed.
    tried: u64,
    /// The longest pauses: while nothing died, and with a death.
    pauses: [Pause; 2],
    /// The first in the capture's order.
    first: Option<Failure>,
}

/// The longest pauses of clients that awaited something, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Pause {
    /// Of one that was connecting.
    opening: u64,
    /// Of one that was connected.
    connected: u64,
}

impl Pause {
    fn with(self, outcome: &Outcome) -> Self {
        Self {
            opening: self.opening.max(outcome.opening_pause),
            connected: self.connected.max(outcome.pause),
        }
    }
}

impl Report {
    /// Whether something died and no client noticed anything.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.first.is_none() && self.tried > 0
    }

    /// Packets of the capture.
    #[must_use]
    pub const fn frames(&self) -> u64 {
        self.capture.frames
    }

    /// Whether there was nothing to play.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.played.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.capture)?;
        for (what, count) in &self.left_out {
            writeln!(f, "  left out: {count} {what}")?;
        }
        let played: Vec<String> =
            self.played.iter().map(|(kind, count)| format!("{count} as {kind}")).collect();
        writeln!(f, "connections played: {}", played.join(", "))?;
        let died = match self.death {
            Death::Process => "process",
            Death::Host => "host",
        };
        writeln!(
            f,
            "{} outputs of the primary; its {died} died before {} of them",
            self.events, self.tried
        )?;
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let [calm, death] = self.pauses;
        for (who, calm, death) in [
            ("connected and awaited something", calm.connected, death.connected),
            ("connecting", calm.opening, death.opening),
        ] {
            writeln!(
                f,
                "longest pause of a client that was {who}: {:.1} ms without a death, {:.1} ms with",
                ms(calm),
                ms(death)
            )?;
        }
        match &self.first {
            None if self.tried == 0 => write!(f, "NOTHING DIED: there is no such event"),
            None => write!(f, "no client noticed anything; I1 to I7 held"),
            Some(Failure { event: 0, what, .. }) => {
                write!(f, "FAILED although nothing died: {what}")
            }
            Some(Failure { event, packet, at, what }) => write!(
                f,
                "FAILED first at packet {packet} of the capture (event {event}, {:.6} s): {what}",
                *at as f64 / 1e9
            ),
        }
    }
}

/// Plays the capture at `path`.
///
/// # Errors
/// When the file cannot be read.
pub fn crash(path: &Path, options: &Options) -> Result<Report, CaptureError> {
    let play = read_play(path, options)?;
    let mut acts: Vec<Arc<Act>> = play.acts.iter().cloned().map(Arc::new).collect();
    acts.sort_by_key(|act| act.at);
    let mut report = Report {
        capture: play.counts.clone(),
        left_out: play.left_out.clone(),
        played: played(&acts),
        death: options.death,
        events: 0,
        tried: 0,
        pauses: [Pause::default(); 2],
        first: None,
    };
    if acts.is_empty() {
        return Ok(report);
    }
    let calm = perform(&acts, options, None);
    report.events = calm.outputs.len() as u64;
    report.pauses[0] = report.pauses[0].with(&calm);
    if let Some((at, what)) = &calm.failure {
        let at = at.saturating_sub(calm.origin);
        report.first =
            Some(Failure { event: 0, packet: play.packet_at(at), at, what: what.clone() });
        return Ok(report);
    }
    let deaths = deaths(&play, &calm, options.events);
    for (death, outcome) in run_all(&acts, options, &deaths) {
        report.tried += 1;
        report.pauses[1] = report.pauses[1].with(&outcome);
        if let Some((_, what)) = outcome.failure {
            let at = moment(&calm, death);
            report.first = Some(Failure { event: death, packet: play.packet_at(at), at, what });
            // Whether later ones were tried depends on the threads.
            break;
        }
    }
    Ok(report)
}

fn played(acts: &[Arc<Act>]) -> BTreeMap<&'static str, u64> {
    let mut played = BTreeMap::new();
    for act in acts {
        let name = match act.kind {
            Kind::Echo => "echo",
            Kind::Discard => "discard",
            Kind::Chargen => "chargen",
            Kind::Files { .. } => "files",
            Kind::Join(_) => "join",
            Kind::Exchange(..) => "exchange",
            Kind::Mirror(..) => "mirror",
        };
        *played.entry(name).or_default() += 1;
    }
    played
}

/// When the output of a number left, from the beginning of the play.
fn moment(calm: &Outcome, output: u64) -> u64 {
    let index = usize::try_from(output).unwrap_or(usize::MAX).saturating_sub(1);
    calm.outputs.get(index).map_or(0, |at| at.saturating_sub(calm.origin))
}

/// The outputs before which the primary dies, in order.
fn deaths(play: &Play, calm: &Outcome, events: Events) -> Vec<u64> {
    let count = calm.outputs.len() as u64;
    match events {
        Events::Every => (1..=count).collect(),
        Events::Spread(wanted) => {
            let wanted = (wanted as u64).min(count);
            let mut deaths: Vec<u64> =
                (0..wanted).map(|index| 1 + index * count / wanted.max(1)).collect();
            deaths.dedup();
            deaths
        }
        Events::Packet(packet) => {
            let mark = play.client_packet(packet);
            let last = |output: &u64| play.packet_at(moment(calm, *output));
            let at: Vec<u64> = (1..=count).filter(|output| last(output) == mark).collect();
            let next = || (1..=count).find(|output| last(output) > mark);
            if at.is_empty() { next().into_iter().collect() } else { at }
        }
    }
}

/// All performances, on all cores. In the order of their deaths.
fn run_all(acts: &[Arc<Act>], options: &Options, deaths: &[u64]) -> BTreeMap<u64, Outcome> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores } else { options.threads };
    let bar = if options.progress { bar(deaths.len() as u64) } else { ProgressBar::hidden() };
    let next = AtomicUsize::new(0);
    // Deaths after the first that was noticed tell nothing more.
    let noticed = AtomicU64::new(u64::MAX);
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, deaths.len().max(1)) {
            scope.spawn(|| {
                while let Some(&death) = deaths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if death > noticed.load(Ordering::Relaxed) {
                        continue;
                    }
                    let outcome = perform(acts, options, Some(death));
                    if outcome.failure.is_some() {
                        noticed.fetch_min(death, Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(death, outcome);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} deaths, {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
