//! Shared pieces of the tools around Standin.
//!
//! | module | what it is for |
//! |---|---|
//! | [`drill`] | clients on ordinary kernel sockets that check every byte and measure the gap of a takeover |
//! | [`capture`] | what a client's packet capture must not show when a primary dies |
//! | [`wire`] | a link with delay, loss and the other faults of a real one |
//! | [`replay`] | packet captures explained, replayed against the engine, and crashed |
//! | [`swarm`] | a million clients from one process, on the engine's own TCP |
//! | [`chart`] | what a bench measured: tables, JSON, pictures |
//!
//! The tools stand outside the engine on purpose: what they assert, they assert as a client
//! that has never heard of it.

pub mod capture;
pub mod chart;
pub mod drill;
pub mod oracle;
pub mod replay;
pub mod sim;
pub mod swarm;
pub mod wire;

mod clock;
mod sys;
