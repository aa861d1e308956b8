//! Packets to values and back.
//!
//! Everything here is total: any bytes give a value or a reason, never a panic. Lengths are
//! checked once, at the edge, and what comes out can be used without further checks.

mod segment;
mod seq;
mod tuple;

pub use segment::{Flags, SackBlock, SackBlocks, Segment, TcpOptions, Timestamps};
pub use seq::SeqNum;
pub use tuple::FourTuple;
