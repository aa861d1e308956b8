//! The failover drill: clients that notice.
//!
//! A drill opens connections to a pair's services from ordinary kernel sockets, moves bytes, and
//! checks each of them against a function of the connection and the offset. While somebody kills
//! a primary it measures, per connection, the *gap*: the longest time without progress although
//! the client waited for some. It ends well only if every byte was right and every connection
//! was closed in order.
//!
//! ```text
//!   Plan ──► Runner (one thread, one mio loop) ──► Report
//!              │ slot 0: Connection ── script: echo, discard, chargen, files
//!              │ slot 1: Connection        │
//!              │ …                         ├─ content: what byte belongs at an offset
//!              ▼                           └─ Meter: how long it waited
//! ```
//!
//! What counts as progress depends on who is waiting for what: bytes received for a download and
//! an echo, bytes *acknowledged by the peer* for an upload. A connection that waits for nothing
//! (idle, thinking, held back by its own rate) has no gap.

mod connection;
mod failure;
mod http;
mod meter;
mod pattern;
mod pipe;
mod plan;
mod report;
mod runner;
mod sources;
#[cfg(test)]
mod tests;

pub use failure::Failure;
pub use http::Expected;
pub use pattern::{Pattern, chargen_byte, chargen_difference, write_file};
pub use pipe::measure;
pub use plan::{Plan, PlanError, Service, Workload};
pub use report::{GAPS_TOLD, Gap, Report, Spread, Summary};
pub use runner::{RunError, run};
pub use sources::{SourceError, Sources};
