//! The whole core at work: two engines and clients in one process, failures at chosen moments.

mod backends;
mod budgets;
mod client;
mod contents;
mod doubt;
mod edges;
mod exchanges;
mod greed;
mod hosts;
mod joins;
mod memory;
mod mirrors;
mod observer;
mod parking;
mod patience;
mod properties;
mod relays;
mod reserve;
mod returns;
mod room;
mod scenarios;
mod shares;
mod traps;
mod waking;
mod world;
