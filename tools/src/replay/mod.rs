//! Captures, replayed: what `standin-replay` does.
//!
//! ```text
//!   file ──► frames ──► Seen ──► Roster (which connection, which side)
//!                                  ├──► explain   a readable story, its stalls, a plot
//!                                  ├──► compare   our TCP answers the recorded client
//!                                  └──► crash     the client lives again; a primary dies at each event
//! ```
//!
//! A capture is somebody else's word: nothing in it may make a tool panic, hang or take memory
//! without bound. Every table here has a limit, and what is beyond it is counted and told.

pub mod compare;
pub mod crash;
pub mod explain;
mod roster;
mod stream;
#[cfg(test)]
pub(crate) mod testing;

pub use roster::{Counts, Side};
