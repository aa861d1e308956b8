//! Standin: TCP connections that outlive their server.
//!
//! Start with `ARCHITECTURE.md` beside this crate. The map, from the packet up:
//!
//! * [`time`], [`ids`]: the values every module shares; [`limiter`]: which log lines may be written.
//! * [`slots`]: containers for very many things, none of which does its work for all of them at once.
//! * [`wire`]: packets to values and back; total, never panics.
//! * [`http`]: where HTTP/1 messages begin and end; bytes to places in them, total.
//! * [`tcp`]: one connection's TCP, RFC 9293; knows two horizons and nothing of replication.
//! * [`service`]: what answers on a port, as a deterministic function of its input.
//! * [`relay`]: unmodified servers behind the pair: two legs, spliced by rewriting headers.
//! * [`replica`]: records, log positions, group commit, the replication stream.
//! * [`role`]: who owns the address: heartbeats, epochs, takeover.
//! * [`neighbour`]: ARP and neighbour discovery for the service address.
//! * [`engine`]: composes the above; still pure.
//! * `runtime` (feature `runtime`): the only module that touches the host.
//! * `defects` (feature `defects`): mistakes on purpose, to show that they are noticed.
#![cfg_attr(not(feature = "runtime"), forbid(unsafe_code))]

mod codec;
#[cfg(feature = "defects")]
pub mod defects;
pub mod engine;
pub mod http;
pub mod ids;
pub mod limiter;
pub mod neighbour;
pub mod relay;
pub mod replica;
pub mod role;
pub mod service;
pub mod session;
pub mod slots;
pub mod sources;
pub mod tcp;
pub mod time;
pub mod wire;

#[cfg(feature = "runtime")]
pub mod runtime;
