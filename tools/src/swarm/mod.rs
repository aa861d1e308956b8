//! Very many clients from one process, on the engine's own TCP.
//!
//! A kernel client costs several kilobytes, a descriptor and a port; these cost a few hundred bytes
//! each, so one process holds a million. Each opens a connection to an echo service, is idle or
//! asks now and then, and at the end asks once more: a connection that died in silence is found.
//! Every byte that comes back is checked.
//!
//! ```text
//!     opening ──► holding ──► checking ──► closing ──► over
//!     at a rate   idle, some  each asks    FIN, and
//!                 ask         once         the peer's
//! ```
//!
//! The packets go through a TUN device of the swarm's own: the kernel of its namespace routes them
//! as it would another host's, and does for it what a host does, ARP above all, so a takeover
//! reaches the swarm as it reaches any router.
//!
//! [`Swarm`] is pure: it is given the time and packets, and says which packets to send and when to
//! be called again. [`run()`] puts it on a device.

mod crowd;
mod member;
mod plan;
mod report;
mod run;

#[cfg(test)]
mod tests;

pub use crowd::{Phase, Swarm};
pub use plan::{Plan, PlanError};
pub use report::{Gap, Report, Spread, Trouble};
pub use run::{Ask, RunError, run};
