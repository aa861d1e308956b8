//! The only part that touches the host: sockets, devices, files, threads, signals and the clock.
//!
//! The engine is a pure machine; this module feeds it and does what it says. One thread turns one
//! `mio` loop for the whole data path. What may block (disk, control requests, log output) lives on
//! helper threads that answer through a bounded channel and a waker.
//!
//! * [`arbiter`]: the thread that asks the third party.
//! * `capture`: what passes through an engine, into a pcapng file.
//! * [`cli`], [`backend`]: the `standin` command. [`config`]: the one file that both nodes read.
//! * [`clock`]: where time comes from. [`logging`]: log lines that can never block the loop.
//! * [`key`], [`secure`], [`seal`]: the pre-shared key, the encrypted stream, sealed datagrams.
//! * [`link`], [`beat`]: the replication connection and the two heartbeat paths.
//! * [`disk`]: files for the `files` service, never waiting for the disk.
//! * [`control`], [`report`]: the control socket, both ends, and the status that it gives.
//! * [`run`]: the loop; everything above is assembled there, once the host has what is needed
//!   (`readiness`).
//! * [`tun`], [`lan`], [`netlink`], [`host`], `nftables`: the devices, and what is changed on the host
//!   and put back. [`watch`]: the thread that sees what others change there.

pub mod arbiter;
mod assemble;
pub mod backend;
pub mod beat;
pub mod capture;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod disk;
pub mod host;
mod journal;
pub mod key;
pub mod lan;
pub mod link;
pub mod logging;
pub mod netlink;
mod nftables;
mod orders;
mod readiness;
pub mod report;
pub mod run;
pub mod seal;
pub mod secure;
pub mod sys;
mod sysctl;
pub mod tun;
pub mod watch;
mod watching;
