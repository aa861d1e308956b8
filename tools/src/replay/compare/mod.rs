//! `replay`: the recorded clients meet our TCP.
//!
//! ```text
//!   recorded client ──► Client (translated) ──► Engine and its services,     ──► Answers ─┐
//!                                               or Scripted: the engine's TCP             ├─► Outcome
//!                                               with the recorded reply                   │
//!   recorded server ──────────────────────────────────────────────────────────► Answers ─┘
//! ```
//!
//! The virtual clock is the capture's. The file is read once; of each connection only what is
//! under way is held.

mod case;
mod client;
mod engined;
mod said;
mod scripted;
#[cfg(test)]
mod tests;
mod text;
mod verdict;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Side;
use super::roster::{CONNECTIONS_MAX, Ends, Place, Roster};
use crate::capture::CaptureError;
use crate::capture::link::Seen;
use crate::capture::packet::Sighting;
use crate::capture::read::{Frame, Item, read};
use standin::tcp::Settings;
use standin::time::{Duration, Instant};
use standin::wire::{FourTuple, Segment};

use case::{Case, Ours};
use engined::Engined;
pub use engined::{Service, SetupError};
use scripted::Scripted;
pub use standin::service::{Kind, Patience};
pub use verdict::Report;

/// How long our side may still answer after the capture's last packet.
const TAIL: Duration = Duration::from_millis(100);
/// And in all, while acknowledgments that were held back follow.
const TAIL_MAX: Duration = Duration::from_secs(10);
/// A payload on the wire has no more.
const TEXT_MAX: usize = 1 << 20;

/// What to replay.
#[derive(Debug, Clone)]
pub struct Options {
    /// Servers that our own services stand in for.
    pub services: Vec<Service>,
    /// The document root of `files`.
    pub files: Option<PathBuf>,
    /// The MTU of our side.
    pub mtu: u16,
    /// Print only connections that differ.
    pub brief: bool,
}

/// Why nothing could be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The capture cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// Our server cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Replays the capture at `path`.
///
/// # Errors
/// When the file cannot be read or our server cannot be set up.
pub fn replay(path: &Path, options: &Options) -> Result<Report, ReplayError> {
    let mut stage = Stage::new(options)?;
    let mut trouble = None;
    let end = read(path, |item| {
        if let (Item::Frame(frame), None) = (item, &trouble) {
            trouble = stage.on_frame(&frame).err();
        }
    })?;
    if let Some(trouble) = trouble {
        return Err(trouble.into());
    }
    stage.roster.finish(end);
    stage.finish()?;
    let cases = stage.cases.iter().enumerate();
    let connections: Vec<_> =
        cases.filter_map(|(index, case)| Some(verdict::judge(index + 1, case.as_ref()?))).collect();
    let different = connections.iter().filter(|outcome| !outcome.differences.is_empty()).count();
    let capture = stage.roster.counts;
    Ok(Report { capture, connections, different, brief: options.brief })
}

/// Everybody, on one clock.
struct Stage<'a> {
    options: &'a Options,
    settings: Arc<Settings>,
    roster: Roster,
    engine: Option<Engined>,
    /// Our time at the capture's first frame.
    origin: Instant,
    now: Instant,
    /// By number; none where the capture does not show the SYN.
    cases: Vec<Option<Case>>,
    /// Connections of the engine.
    tuples: HashMap<FourTuple, usize>,
    agenda: BTreeSet<(Instant, usize)>,
    /// Nothing happens any more after this.
    until: Instant,
}

impl<'a> Stage<'a> {
    fn new(options: &'a Options) -> Result<Self, SetupError> {
        let (engine, origin) = if options.services.is_empty() {
            (None, Instant::from_millis(1_000))
        } else {
            let files = options.files.as_deref();
            let (engine, now) = Engined::start(&options.services, files, options.mtu)?;
            (Some(engine), now)
        };
        Ok(Self {
            options,
            settings: Arc::default(),
            roster: Roster::new(Vec::new(), false, CONNECTIONS_MAX),
            engine,
            origin,
            now: origin,
            cases: Vec::new(),
            tuples: HashMap::new(),
            agenda: BTreeSet::new(),
            until: Instant::NEVER,
        })
    }

    fn on_frame(&mut self, frame: &Frame<'_>) -> Result<(), SetupError> {
        let (at, seen) = self.roster.look(frame);
        let Some(Seen::Segment(segment)) = seen else { return Ok(()) };
        let Some(place) = self.roster.place(&segment) else { return Ok(()) };
        self.advance(self.origin + Duration::from_nanos(at))?;
        if let Some(engine) = &mut self.engine {
            engine.set_wall(frame.nanos / 1_000_000_000);
        }
        if place.fresh {
            let case = self.open(frame.number, place, &segment);
            self.cases.push(case);
        }
        self.deliver(place, &segment)
    }

    fn open(&mut self, frame: u64, place: Place, segment: &Sighting<'_>) -> Option<Case> {
        if !segment.is_opening() {
            self.roster.counts.midway += 1;
            return None;
        }
        let server = place.ends.server;
        let ours = self.options.services.iter().any(|service| service.at == server);
        let mut case = Case::new(place.ends, frame, segment, Ours::Engine);
        if ours {
            self.tuples.insert(tuple(place.ends), place.index);
            return Some(case);
        }
        let Case { client, recorded_says, ours_says, .. } = &mut case;
        let syn = client.translate(self.now, segment, &[], recorded_says, ours_says);
        // Any numbers will do, as long as they are the same in every run.
        let numbers = (0x1000_0000 ^ place.index as u32, 0x2000_0000);
        let (mtu, ipv6) = (self.options.mtu, server.is_ipv6());
        let script = Scripted::new(&self.settings, self.now, &syn, numbers, mtu, ipv6);
        case.ours = Ours::Script(Box::new(script));
        Some(case)
    }

    fn deliver(&mut self, place: Place, segment: &Sighting<'_>) -> Result<(), SetupError> {
        let Some(Some(case)) = self.cases.get_mut(place.index) else { return Ok(()) };
        let text = whole_text(segment);
        case.snapped |= !segment.is_whole();
        if place.from == Side::Server {
            case.on_recorded(self.now, segment, &text);
        } else {
            let opened = place.fresh && matches!(case.ours, Ours::Script(_));
            let Case { client, recorded_says, ours_says, .. } = case;
            let said = client.translate(self.now, segment, &text, recorded_says, ours_says);
            case.on_client_text(segment, &text);
            if !opened {
                self.tell(place.index, &said);
            }
        }
        self.serve(place.index)
    }

    /// A client's segment reaches our server.
    fn tell(&mut self, index: usize, segment: &Segment<'_>) {
        let Some(Some(case)) = self.cases.get_mut(index) else { return };
        match &mut case.ours {
            Ours::Script(script) => script.on_client(self.now, segment),
            Ours::Engine => {
                if let Some(engine) = &mut self.engine {
                    engine.on_client(self.now, tuple(case.ends), segment);
                }
            }
            Ours::Over => {}
        }
    }

    /// Lets our side say what it has to say.
    fn serve(&mut self, index: usize) -> Result<(), SetupError> {
        let now = self.now;
        if let Some(engine) = &mut self.engine {
            while let Some(word) = engine.poll(now)? {
                let Some(&other) = self.tuples.get(&word.tuple) else { continue };
                if let Some(Some(case)) = self.cases.get_mut(other) {
                    case.on_ours(now, &word.said, &word.text);
                    list(&mut self.agenda, other, case);
                }
            }
        }
        let Some(Some(case)) = self.cases.get_mut(index) else { return Ok(()) };
        while let Ours::Script(script) = &mut case.ours
            && let Some(said) = script.poll(now)
        {
            case.on_ours(now, &said, &[]);
        }
        if let Ours::Script(script) = &case.ours
            && script.is_over()
        {
            case.ours = Ours::Over;
        }
        list(&mut self.agenda, index, case);
        Ok(())
    }

    /// Lets everything happen that is due by `to`.
    fn advance(&mut self, to: Instant) -> Result<(), SetupError> {
        loop {
            let (case_at, index) = self.agenda.first().copied().unwrap_or((Instant::NEVER, 0));
            let engine_at = self.engine.as_ref().map_or(Instant::NEVER, Engined::deadline);
            let next = case_at.min(engine_at);
            if next > to.min(self.until) || next == Instant::NEVER {
                break;
            }
            self.now = self.now.max(next);
            if case_at <= engine_at {
                self.on_due(index)?;
            } else {
                self.on_engine_due()?;
            }
        }
        self.now = self.now.max(to.min(self.until));
        Ok(())
    }

    fn on_engine_due(&mut self) -> Result<(), SetupError> {
        self.serve(usize::MAX)?;
        if self.engine.as_ref().is_some_and(|engine| engine.deadline() <= self.now) {
            // What is due for ever must not stop the clock.
            self.now = self.now + Duration::from_micros(1);
        }
        Ok(())
    }

    fn on_due(&mut self, index: usize) -> Result<(), SetupError> {
        self.agenda.pop_first();
        let Some(Some(case)) = self.cases.get_mut(index) else { return Ok(()) };
        case.listed = Instant::NEVER;
        if let Ours::Script(script) = &mut case.ours
            && script.deadline() <= self.now
        {
            script.on_timer(self.now);
        }
        if case.client.due <= self.now
            && let Some(rest) = case.client.catch_up(&case.ours_says)
        {
            if self.until != Instant::NEVER {
                self.until = (self.now + TAIL).max(self.until);
            }
            self.tell(index, &rest);
        }
        // Later than now, whatever it says: see above.
        self.now = self.now + Duration::from_nanos(1);
        self.serve(index)
    }

    /// The capture is over; our side may still answer what it has heard.
    fn finish(&mut self) -> Result<(), SetupError> {
        let limit = self.now + TAIL_MAX;
        self.until = self.now + TAIL;
        loop {
            let until = self.until;
            self.advance(limit)?;
            if self.until == until || self.now >= limit {
                return Ok(());
            }
        }
    }
}

/// Keeps the agenda true.
fn list(agenda: &mut BTreeSet<(Instant, usize)>, index: usize, case: &mut Case) {
    let deadline = case.deadline();
    if deadline == case.listed {
        return;
    }
    agenda.remove(&(case.listed, index));
    case.listed = deadline;
    if deadline != Instant::NEVER {
        agenda.insert((deadline, index));
    }
}

fn tuple(ends: Ends) -> FourTuple {
    FourTuple { local: ends.server.into(), remote: ends.client.into() }
}

/// The payload as it was on the wire; what the capture has not kept is zero.
fn whole_text<'a>(segment: &Sighting<'a>) -> Cow<'a, [u8]> {
    if segment.is_whole() {
        return Cow::Borrowed(segment.payload);
    }
    let mut text = segment.payload.to_vec();
    text.resize((segment.length as usize).min(TEXT_MAX), 0);
    Cow::Owned(text)
}
