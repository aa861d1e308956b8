//! The whole core at work: two engines and clients in one process, failures at chosen moments.

mod client;
mod contents;
mod doubt;
mod edges;
mod hosts;
mod observer;
mod parking;
mod properties;
mod relays;
mod room;
mod scenarios;
mod traps;
mod waking;
mod world;
