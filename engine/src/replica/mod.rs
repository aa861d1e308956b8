//! Replication: what the standby is told, and how the primary knows that it was.
//!
//! One byte stream joins the two engines. The primary appends **records** to a log and sends them
//! in batches; the standby applies them in order and answers each batch with one cumulative
//! position. What was answered is *committed*, and only then may a client learn of it:
//!
//! ```text
//!  primary                                            standby
//!  Log::append ─► batch ─ Log::flush ─► Frame::Log ─► FrameReader ─► Follower::next ─► apply
//!  Log::poll_commit ◄── Log::on_confirm ◄── Frame::Confirm ◄──────── Follower::confirm
//!        │
//!        └─► the connection's two horizons: what it may acknowledge, what it may send
//! ```
//!
//! A session starts with [`Hello`] in both directions; [`Hello::compare`] says whether the two
//! may work together. Then comes the log, whose first record is [`Record::SnapshotBegin`];
//! [`Snapshot`] paces how the connections that existed before are told while new traffic flows.
//! [`Heartbeat`]s travel beside the stream, as datagrams.
//!
//! Nothing here knows sockets, clocks or TCP. Everything that arrives is checked once, at this
//! edge: a peer that breaks the protocol yields a [`Violation`], never a panic, and never more
//! memory than one frame.

mod codec;
mod commit;
mod follower;
mod frame;
mod heartbeat;
mod hello;
mod host;
mod log;
mod reader;
mod record;
mod snapshot;
mod violation;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod strategies;

pub use commit::{Commit, Output, Pending, Waiting};
pub use follower::Follower;
pub use frame::{Frame, Refusal};
pub use heartbeat::Heartbeat;
pub use hello::{Difference, Hello, Mismatch, Part, Side, Versions};
pub use host::{HostFacts, HostWord};
pub use log::{Log, TooLarge};
pub use reader::FrameReader;
pub use record::{BackendAdmin, BackendFailure, Record, ServiceRef};
pub use snapshot::{Snapshot, SnapshotProgress};
pub use violation::Violation;

/// The newest version of records and frames that this engine speaks. Two engines speak the newest
/// that both know, as [`Hello::compare`] finds it. Version 2: TCP's part of a connection knows ECN. Version 3: there are
/// splices; a peer of version 2 has no relays in its configuration, and is told of none. Version 4:
/// the nodes say what their hosts are like ([`Frame::Host`]), SYN cookies have two halves, and replies of
/// `files` are of the second edition. What came with a version is said only on a stream whose two
/// ends speak it.
pub const VERSION: u16 = 4;
/// The oldest version it still speaks: the one before [`VERSION`].
pub const VERSION_MIN: u16 = 3;

/// The longest frame, header included: what a reader may have to hold. A connection's snapshot has
/// to fit, which is its input not consumed and its output not acknowledged.
pub const MAX_FRAME: usize = 1 << 26;
/// The longest encoded record: it has to fit into a frame of its own.
pub const MAX_RECORD: usize = MAX_FRAME - frame::LOG_PREFIX;
/// The largest stream offset that can be said, so that sums of two never overflow.
pub const MAX_OFFSET: u64 = 1 << 62;
/// The largest log position that can be said, for the same reason.
pub const MAX_LSN: u64 = 1 << 62;
