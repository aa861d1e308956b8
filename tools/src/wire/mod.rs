//! A link between two network interfaces with the faults of a real one.
//!
//! Kernels without netem exist, and a link in a program of our own has a seed: delay, jitter, loss
//! (each frame by itself, or in bursts), reordering, duplication, corruption, a rate and a queue.
//!
//! [`Path`] decides and is pure; [`join()`] moves the frames between two packet sockets. What an
//! interface hands over is taken for what a wire would carry, so the hosts at either end must not
//! leave segments or checksums to their interface: `ethtool -K IFACE tx off tso off gso off gro off`.

mod join;
mod path;
mod port;
mod sys;
#[cfg(test)]
mod tests;

pub use join::{Direction, Report, join};
pub use path::{Bursts, Counts, Impairments, Path, Share};
pub use port::Port;
