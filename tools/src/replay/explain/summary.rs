//! A connection in one line, and its stalls.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::event::{Again, Cause};
use crate::replay::Side;
use crate::replay::roster::Ends;

/// How a connection ended, as far as the capture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "lowercase", tag = "kind", content = "by")]
pub(crate) enum Ending {
    /// It had not when the capture ended.
    #[default]
    Open,
    /// Both sides finished and acknowledged that.
    Closed,
    /// One side reset it.
    Reset(Side),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Closed => f.write_str("closed"),
            Self::Reset(side) => write!(f, "reset by {side}"),
        }
    }
}

/// Time without progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Stall {
    /// When it began, in nanoseconds since the capture's first frame.
    pub(crate) from: u64,
    /// In nanoseconds.
    pub(crate) length: u64,
    /// The frame that ended it; 0 for the end of the capture.
    pub(crate) frame: u64,
    pub(crate) cause: Cause,
}

/// Stalls of one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Stalls {
    pub(crate) count: u64,
    /// In nanoseconds.
    pub(crate) longest: u64,
}

/// A connection in short. Times are nanoseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) ends: Option<Ends>,
    /// The capture's frame with which it begins.
    pub(crate) first_frame: u64,
    /// When it begins, since the capture's first frame.
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) segments: u64,
    pub(crate) client_bytes: u64,
    pub(crate) server_bytes: u64,
    pub(crate) resent_bytes: u64,
    /// Segments sent again, by reason.
    pub(crate) again: BTreeMap<Again, u64>,
    /// Of those, the ones that D-SACK called needless.
    pub(crate) needless: u64,
    pub(crate) reordered: u64,
    /// Ranges that the capture lacks.
    pub(crate) missing: u64,
    pub(crate) syns_again: u64,
    pub(crate) zero_windows: u64,
    pub(crate) window_probes: u64,
    pub(crate) shrunk: u64,
    pub(crate) keepalives: u64,
    pub(crate) takeovers: u64,
    /// The server's longest silence around a takeover.
    pub(crate) longest_silence: u64,
    pub(crate) srtt: Option<u64>,
    pub(crate) ending: Ending,
    /// By cause, in words.
    #[serde(serialize_with = "in_words")]
    pub(crate) stalls: BTreeMap<Cause, Stalls>,
    /// One by one, the first ones.
    pub(crate) first_stalls: Vec<Stall>,
}

fn in_words<S: Serializer>(
    stalls: &BTreeMap<Cause, Stalls>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(stalls.iter().map(|(cause, stalls)| (cause.to_string(), stalls)))
}

impl Summary {
    /// Segments sent again, whatever the reason.
    pub(crate) fn again_count(&self) -> u64 {
        self.again.values().sum()
    }

    /// How much there is to look at: what to tell first when not all can be told.
    pub(crate) fn interest(&self) -> (u64, u64, u64) {
        let waits = self.stalls.iter().filter(|(cause, _)| !matches!(cause, Cause::Application(_)));
        let longest = waits.map(|(_, stalls)| stalls.longest).max().unwrap_or(0);
        (self.takeovers, longest, self.again_count() + self.zero_windows)
    }
}
