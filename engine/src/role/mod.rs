//! Roles: who of the two nodes owns the service address, and until when it may speak.
//!
//! ```text
//!             heard an owner              silence, proof, handover
//!   Joining ────────────────► Standby ─────────────────────────────► Primary (simplex)
//!      │  ▲                      ▲                                     │    ▲
//!      │  └──────────────────────┼───────── stood down ────────────────┤    │ standby gone
//!      │   owner gone, unsynced  │                                     ▼    │ or renounced
//!      └─────────────────────────┼── nobody there, address clear ──►  Primary (duplex)
//!                                │                                     │
//!                                └──────── the peer owns it ◄── Yielding ◄┘ switchover, LAN lost
//! ```
//!
//! [`Roles`] is a pure machine: events in, [`Action`]s out, no clock of its own. The engine calls
//! an `on_…` method, drains [`Roles::poll_action`], sends what [`Roles::poll_beat`] gives on both
//! paths, and hands [`Roles::speak_until`] to the writer, which compares it with a *fresh* clock
//! before every packet (I3).
//!
//! Five promises carry all of it. Each is enforced where its name stands.
//!
//! * **Lease** (`ownership/lease.rs`): in duplex the primary speaks until `detection − margin` after it *sent*
//!   the beat that the standby last echoed; the standby takes over by silence no earlier than
//!   `detection` after it *heard* that beat. Sent precedes heard, so clocks need no common zero,
//!   only rates that differ by less than the margin.
//! * **Consent** ([`BeatRole::Renounced`]): a primary that wants to go on alone, or a joining node
//!   that wants to own, while its peer is alive, asks by beats and waits for an answer that echoes
//!   a beat sent after the question. An old answer cannot be mistaken for a new one.
//! * **Proof**: a link that was up, was lost, and is then refused means that the peer's kernel
//!   lives and its process does not; so does a new boot number that provably is the later one
//!   (`peer/word.rs`). A node that has proof need not wait.
//! * **Pauses**: a gap between two events means that this process stood still. Silence is then
//!   counted anew from `now`; a simplex owner that slept past its gate looks around first.
//!
//! * **Grant** ([`ArbiterPolicy`], `ownership/claims.rs`): with an arbiter, every ownership and every step
//!   from duplex to alone is a write of the arbiter's record, and an owner that is alone has it written again
//!   and again. Duplex needs nothing of it.
//!
//! What is left when both paths are silent and both LAN carriers are up is the truth table of
//! `docs/ownership.md`; each of its rows is a test in `tests/truth_table.rs`. An arbiter decides them
//! instead. Ownership is granted in one place, `Roles::permit`.
//!
//! Two machines share the work: `peer` knows who is there, since when, by what paths and with what
//! facts; `ownership` knows what may be owned. The second asks the first, and never the other way
//! round. A pair that owns several groups of addresses would have one of the first and one of the second
//! for each.

mod ownership;
mod peer;
mod roles;
mod types;

#[cfg(test)]
mod tests;

pub use ownership::arbiter::{
    ArbiterPolicy, ArbiterRecord, ArbiterStatus, Ask, Inquiry, LostArbiter, Reply,
};
pub use roles::Roles;
pub use types::{
    Action, Beat, BeatRole, Cause, Change, Echo, Exit, Held, Lack, LinkEvent, LostPeer, Path,
    Policy, ProbeResult, Refusal, Report, Role, Timing,
};
