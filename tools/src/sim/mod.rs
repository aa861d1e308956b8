//! A deterministic world for the engine: time, network, disks, crashes and clients are ours.
//!
//! The engine is built on nothing but `(now, input)`. Here it gets both from a world that follows
//! from a seed, bit for bit: two hosts with engines and clocks of their own, a LAN of client
//! machines with neighbour caches that behave like real ones, a replication network, clients of two
//! makes of TCP that check every byte, and faults at any moment, also between any two outputs of
//! an engine.
//!
//! ```text
//!   seed ──► Plan ──► World ──► Outcome      violation? ──► shrink ──► a small Plan, to be replayed
//!                       │
//!                       └──► Watch: everything a wire-tap would show, judged by the oracle
//! ```
//!
//! A run has two phases. In the first anything may fail; the world keeps a record of what the design
//! promises at each moment (`promise`), and excuses only what it does not. In the second
//! everything heals, and within a bound the pair must be protected and all clients done.
//!
//! A world in which one thing goes wrong is a [`story`].
//!
//! Where to read: [`plan`] is a run as data, [`draw`] makes one from a seed; [`world`] holds the
//! queue; `node` serves an engine as the runtime does; `lan`, `link` and `neighbours` are
//! the networks; [`client`] and `script` the clients; `trouble` the faults.
//!
//! In a share of the worlds there are servers behind the pair, too: `backend`, and `joined` for who
//! is served by whom.

mod arbiter;
mod backend;
mod budget;
mod calm;
pub mod client;
mod clock;
mod content;
mod dice;
pub mod draw;
pub mod fault;
mod fragments;
mod frames;
mod host;
mod http;
mod joined;
mod lan;
mod link;
mod mirrored;
mod narrow;
mod neighbours;
mod node;
mod offload;
mod operator;
mod packets;
pub mod plan;
mod portrait;
mod promise;
mod rare;
pub mod run;
mod script;
pub mod shrink;
pub mod story;
pub mod swarm;
pub mod tally;
mod trace;
mod trouble;
pub mod watch;
mod weather;
mod words;
pub mod world;

pub use client::{Endpoint, Outgoing, Standing};
pub use plan::Plan;
pub use run::{Outcome, Tell, run};
pub use shrink::{Watcher, shrink, verdict};
pub use tally::Tally;
pub use watch::{Judge, Nobody, Watch};
pub use world::{Violation, World};
