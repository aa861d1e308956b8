//! `explain`: what happened in a capture, readable.
//!
//! The file is read twice (a pipe is put on the disk for it). The first time every connection gets its sums, in memory that grows with
//! the number of connections alone. Then the connections to be told are chosen (the user's, or
//! those with the most to tell), and the second reading keeps their events.

mod event;
mod half;
mod plot;
mod show;
mod story;
mod summary;
#[cfg(test)]
mod tests;
mod trace;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Seek;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use super::Side;
use super::roster::{CONNECTIONS_MAX, Counts, Place, Roster};
use crate::capture::CaptureError;
use crate::capture::link::Seen;
use crate::capture::read::{Frame, Item, Place as Noted, open_to_reread, read_from};

use story::{Details, Story};
use summary::Summary;

/// Connections that are told when the user names none.
const TOLD: usize = 8;
/// Connections that can be told at all in one run: their events are held in memory.
const TOLD_MAX: usize = 64;
/// Changes of the service address that are told; further ones are counted.
const TAKEOVERS_MAX: usize = 1_000;

/// How an engine's capture comments a super-segment: nothing for a story.
const OFFLOAD: &str = "gso ";

/// Which connections to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The n-th of the table, from 1.
    Number(usize),
    /// Those with this end.
    End(SocketAddr),
    /// Those with an end at this address.
    Address(IpAddr),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| *number > 0).map(Self::Number);
        number
            .or_else(|| text.parse().ok().map(Self::End))
            .or_else(|| text.parse().ok().map(Self::Address))
            .ok_or_else(|| "a number from the table, ADDRESS:PORT or ADDRESS".to_owned())
    }
}

/// What to explain, and how much.
#[derive(Debug, Clone)]
pub struct Options {
    /// Ends that are servers, for connections whose SYN was not captured.
    pub servers: Vec<SocketAddr>,
    /// Take part in such connections in any case, and guess who is the server.
    pub midway: bool,
    /// Which connections to tell; none: the most interesting.
    pub choices: Vec<Choice>,
    /// No progress for so long is a stall.
    pub stall: Duration,
    /// Tell every exchange of data instead of folding long rows of them.
    pub unfolded: bool,
}

/// The service address had another host from here on.
#[derive(Debug, Clone, Serialize)]
struct Takeover {
    at: u64,
    frame: u64,
    /// Which address; none where an engine's mark says it of all.
    address: Option<IpAddr>,
    how: String,
}

/// A connection that is told.
#[derive(Debug)]
struct Told {
    number: usize,
    summary: Summary,
    details: Details,
}

/// What a capture shows.
#[derive(Debug)]
pub struct Report {
    counts: Counts,
    summaries: Vec<Summary>,
    takeovers: Vec<Takeover>,
    told: Vec<Told>,
    /// Connections that were chosen and do not fit.
    untold: usize,
    unfolded: bool,
}

impl Report {
    /// Whether there was a TCP connection to look at.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.summaries.is_empty()
    }

    /// Whether a connection was told.
    #[must_use]
    pub const fn tells(&self) -> bool {
        !self.told.is_empty()
    }

    /// Draws the connections that are told as time-sequence plots.
    ///
    /// # Errors
    /// When the plot cannot be drawn; the text is for a person.
    pub fn plot(&self) -> Result<String, String> {
        plot::draw(&self.told)
    }
}

/// Reads the capture at `path` and tells what happened.
///
/// # Errors
/// When the file cannot be read or is no capture.
pub fn explain(path: &Path, options: &Options) -> Result<Report, CaptureError> {
    let file = open_to_reread(path)?;
    let mut survey = Pass::new(options, BTreeSet::new());
    survey.run(&file)?;
    let Pass { mut stories, roster, .. } = survey;
    let summaries: Vec<Summary> = stories.iter_mut().map(Story::finish).collect();
    drop(stories);
    let (chosen, untold) = choose(&summaries, &options.choices);
    let mut telling = Pass::new(options, chosen);
    telling.run(&file)?;
    let takeovers = core::mem::take(&mut telling.takeovers);
    let told = telling.told();
    let unfolded = options.unfolded;
    Ok(Report { counts: roster.counts, summaries, takeovers, told, untold, unfolded })
}

/// The connections to tell, and how many more were meant.
fn choose(summaries: &[Summary], choices: &[Choice]) -> (BTreeSet<usize>, usize) {
    if choices.is_empty() {
        let mut all: Vec<usize> = (0..summaries.len()).collect();
        all.sort_by_key(|&index| std::cmp::Reverse(summaries[index].interest()));
        return (all.into_iter().take(TOLD).collect(), 0);
    }
    let meant = |index: usize| {
        choices.iter().any(|choice| match *choice {
            Choice::Number(number) => number == index + 1,
            Choice::End(end) => {
                summaries[index].ends.is_some_and(|ends| ends.client == end || ends.server == end)
            }
            Choice::Address(address) => summaries[index]
                .ends
                .is_some_and(|ends| ends.client.ip() == address || ends.server.ip() == address),
        })
    };
    let all: Vec<usize> = (0..summaries.len()).filter(|&index| meant(index)).collect();
    let untold = all.len().saturating_sub(TOLD_MAX);
    (all.into_iter().take(TOLD_MAX).collect(), untold)
}

/// One reading of the file.
#[derive(Debug)]
struct Pass {
    roster: Roster,
    stall: u64,
    chosen: BTreeSet<usize>,
    stories: Vec<Story>,
    /// Whose each service address is, as far as the link shows.
    speakers: BTreeMap<IpAddr, [u8; 6]>,
    takeovers: Vec<Takeover>,
    now: u64,
}

impl Pass {
    fn new(options: &Options, chosen: BTreeSet<usize>) -> Self {
        Self {
            roster: Roster::new(options.servers.clone(), options.midway, CONNECTIONS_MAX),
            stall: u64::try_from(options.stall.as_nanos()).unwrap_or(u64::MAX).max(1),
            chosen,
            stories: Vec::new(),
            speakers: BTreeMap::new(),
            takeovers: Vec::new(),
            now: 0,
        }
    }

    /// Reads the file from its beginning.
    fn run(&mut self, mut file: &File) -> Result<(), CaptureError> {
        file.rewind()?;
        let end = read_from(file, |item| match item {
            Item::Frame(frame) => self.on_frame(&frame),
            Item::Mark { after, place, text } => self.on_remark(after, place, text),
        })?;
        self.roster.finish(end);
        Ok(())
    }

    fn on_frame(&mut self, frame: &Frame<'_>) {
        let (at, seen) = self.roster.look(frame);
        self.now = at;
        match seen {
            Some(Seen::Segment(segment)) => {
                let Some(place) = self.roster.place(&segment) else { return };
                self.open(at, frame.number, place);
                if let (Side::Server, Some(mac)) = (place.from, segment.source_mac) {
                    self.on_speaker(at, frame.number, place.ends.server.ip(), mac, true);
                }
                if let Some(story) = self.stories.get_mut(place.index) {
                    story.on_segment(at, frame.number, place.from, &segment);
                }
            }
            Some(Seen::Claim { address, mac }) if self.speakers.contains_key(&address) => {
                self.on_speaker(at, frame.number, address, mac, false);
            }
            Some(Seen::Claim { .. }) | None => {}
        }
    }

    fn open(&mut self, at: u64, frame: u64, place: Place) {
        if place.fresh {
            let told = self.chosen.contains(&place.index);
            self.stories.push(Story::new(at, frame, place.ends, self.stall, told));
        }
    }

    /// The host behind a service address, as a segment of it or an announcement shows.
    fn on_speaker(&mut self, at: u64, frame: u64, address: IpAddr, mac: [u8; 6], said: bool) {
        let Some(old) = self.speakers.insert(address, mac).filter(|old| *old != mac) else {
            return;
        };
        if self.takeovers.len() >= TAKEOVERS_MAX {
            return;
        }
        let sign = if said {
            "speaks from another hardware address"
        } else if address.is_ipv4() {
            "gratuitous ARP"
        } else {
            "unsolicited neighbour advertisement"
        };
        let how = format!("{address}: {sign}, {} -> {}", show_mac(old), show_mac(mac));
        for story in &mut self.stories {
            if story.ends.server.ip() == address {
                story.on_takeover(at, frame, &how, said);
            }
        }
        self.takeovers.push(Takeover { at, frame, address: Some(address), how });
    }

    fn on_remark(&mut self, after: u64, place: Noted, text: &str) {
        let (at, frame) = (self.now, after + 1);
        match place {
            // A line per frame of the log would drown the connections.
            Noted::Replication => {}
            Noted::Comment if text.starts_with(OFFLOAD) => {}
            Noted::Mark if is_takeover(text) => self.on_marked_takeover(at, frame, text),
            Noted::Comment | Noted::Mark => {
                for &index in &self.chosen {
                    if let Some(story) = self.stories.get_mut(index) {
                        story.on_remark(at, frame, text);
                    }
                }
            }
        }
    }

    /// The capturing engine itself says that it is primary from here on.
    fn on_marked_takeover(&mut self, at: u64, frame: u64, text: &str) {
        if self.takeovers.len() >= TAKEOVERS_MAX {
            return;
        }
        for story in &mut self.stories {
            story.on_takeover(at, frame, text, false);
        }
        self.takeovers.push(Takeover { at, frame, address: None, how: text.to_owned() });
    }

    fn told(mut self) -> Vec<Told> {
        let chosen = core::mem::take(&mut self.chosen);
        let mut told = Vec::new();
        for index in chosen {
            let Some(story) = self.stories.get_mut(index) else { continue };
            let summary = story.finish();
            if let Some(details) = story.details.take() {
                told.push(Told { number: index + 1, summary, details });
            }
        }
        told
    }
}

/// `takeover: begins, epoch 5, 12 connections`. Without connections an engine just starts.
fn is_takeover(mark: &str) -> bool {
    mark.starts_with("takeover: begins") && !mark.ends_with(", 0 connections")
}

fn show_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
