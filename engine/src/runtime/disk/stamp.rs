//! Which version of which file: what a hash is remembered by, and what a read is held against.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use crate::runtime::clock::Clock;
use crate::time::Duration;

/// Kernels stamp files by the tick: what is written twice within one has the same times. A hash is
/// taken once that has passed.
const SETTLED: Duration = Duration::from_millis(100);
/// The same where times are kept in whole seconds, or in two.
const SETTLED_COARSE: Duration = Duration::from_millis(2100);

const SECOND: u64 = 1_000_000_000;

/// One version of one file. Whoever writes to it moves `changed`, which nobody can set; `modified`
/// can be set back (`touch -r`, `cp -p`, `rsync -t`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) length: u64,
    /// In nanoseconds since 1970.
    pub(super) modified: u64,
    /// The same; of the content or of anything else about the file.
    pub(super) changed: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether nothing but the time of change tells the two apart: a new name, mode or owner, or
    /// new bytes whose writer has put the time of modification back.
    pub(super) fn is_touched(&self, later: &Self) -> bool {
        Self { changed: later.changed, ..*self } == *later
    }

    /// Whether `found` may be this version, as far as can be told before it is read.
    pub(super) fn is_version(&self, found: &Self) -> bool {
        found == self || self.is_touched(found)
    }

    /// How long until whatever is written to the file is sure to move its times. A time that lies
    /// ahead is another host's, and says nothing.
    pub(super) fn unsettled(&self) -> Duration {
        let coarse = self.changed.is_multiple_of(SECOND);
        let wait = if coarse { SETTLED_COARSE } else { SETTLED };
        let age = Clock.wall_nanos().saturating_sub(self.changed);
        wait.saturating_sub(Duration::from_nanos(age))
    }
}

/// Earlier times count as 1970.
fn nanos(seconds: i64, nanos: i64) -> u64 {
    let (seconds, nanos) = (u64::try_from(seconds).unwrap_or(0), u64::try_from(nanos).unwrap_or(0));
    seconds.saturating_mul(SECOND).saturating_add(nanos)
}
