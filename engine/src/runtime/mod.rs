//! The only part that touches the host: sockets, devices, files, threads, signals and the clock.

pub mod host;
mod journal;
pub mod lan;
pub mod netlink;
pub mod sys;
mod sysctl;
pub mod tun;
