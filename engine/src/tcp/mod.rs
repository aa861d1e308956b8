//! One connection's TCP: RFC 9293, without a socket, a clock or a buffer of its own.
//!
//! A [`Tcb`] is a state machine that is handed segments, times and offsets, and asked what to
//! send. It keeps no payload: input is handed on as it becomes contiguous, output is fetched from
//! its owner when a segment is built, so sending again is fetching again.
//!
//! ```text
//!               on_segment ──►┌───────┐──► deliver(bytes)        input, in order, once
//!     on_timer, on_icmp    ──►│  Tcb  │
//!     set_output_end, …    ──►│       │──► Verdict               accepted, dropped, closed
//!     set_horizon          ──►└───────┘──► poll_transmit(fetch)  one Transmit at a time
//! ```
//!
//! **Offsets.** Sequence numbers wrap; inside, a position in either stream is a `u64` that counts
//! from the first byte after the SYN. Offset 0 has sequence number ISN + 1. A FIN takes one
//! position after the last byte.
//!
//! **Horizons.** A client must never see an acknowledgment or a byte that a takeover could forget
//! (invariants I1 and I2), so a connection knows how far it may speak:
//!
//! ```text
//!     RCV.NXT  ─────────────► 5000     committed input ──► 4200     the ACK field says 4200
//!     output   ─────────────► 9000     committed output ─► 8000     payload ends at 8000
//! ```
//!
//! Alone, both lie at infinity: [`Horizon::OPEN`].
//!
//! Where to read: [`Tcb`] holds the state; `arrive` is SEGMENT ARRIVES cut along the RFC's
//! numbered checks; `ack` is what an acknowledgment does to the sender; `send` decides what goes
//! out; `timer` is what time does. [`isn`], [`cookie`] and [`wheel`] stand beside the connection.

mod ack;
mod arrive;
mod assemble;
pub mod challenge;
mod congestion;
pub mod cookie;
mod ecn;
mod hard;
mod hystart;
pub mod isn;
mod pace;
mod park;
mod path;
mod prr;
mod rack;
mod receive;
mod reset;
mod resume;
mod rtt;
mod send;
mod sent;
mod settings;
mod state;
mod tail;
mod tcb;
mod timer;
mod transmit;
mod undo;
mod verdict;
pub mod wheel;

#[cfg(test)]
mod tests;

pub use congestion::Algorithm;
pub use ecn::Ecn;
pub use hard::{Hard, HardError};
pub use park::Parked;
pub use path::{PathSignal, plateau_below};
pub use receive::{FOR_A_HEAD, Room};
pub use reset::{farewell, inquiry, reset_for};
pub use settings::{Keepalive, Settings};
pub use state::State;
pub use tcb::Tcb;
pub(crate) use transmit::HOP_LIMIT;
pub use transmit::{Horizon, Transmit};
pub use verdict::{CloseCause, DropReason, Verdict};
