//! Stories about whole connections. Each file has one theme; [`pair`] is the world they play in.

mod ecn;
mod forged;
mod goodput;
mod karn;
mod link;
mod pair;
mod recovery;
mod requirements;
mod rules;
mod steps;
mod streams;
mod takeover;
mod traps;
mod undone;
mod waits;
