//! What the fuzzers feed: one plain function for each target.
//!
//! A target takes any bytes and returns; a panic is a finding. Nothing here needs a fuzzer, so the
//! same functions run under `cargo fuzz` (nightly, `fuzz_targets/`), over the committed corpora and
//! mutations of them in `cargo test` (`tests/corpora.rs`), and on a single file that a fuzzer
//! left behind (`examples/corpus.rs`). `testbed/fuzz` drives all of it.
//!
//! | target | what it is fed | what must hold |
//! |---|---|---|
//! | [`packets`] | packets of the TUN | written as read; fragments in bounded memory; replies sound |
//! | [`options`] | a TCP option list | as `etherparse` reads it; written as read |
//! | [`neighbour`] | frames of the LAN | written as read; silence of who does not own the address |
//! | [`replication`] | the replication stream | independent of cuts; written as read; what is believed can go on |
//! | [`heartbeat`] | heartbeats, orders to a network | only what was sealed is believed, once, on its path |
//! | [`link`] | orders to a network | out of the encrypted stream comes a prefix of what went in |
//! | [`control`] | a line | written as read |
//! | [`http`] | requests | sound responses, an end, no hold left |
//! | [`framing`] | a stream of requests, or of replies | what a plain parser of the whole finds, whatever the cuts |
//! | [`files`] | orders to a pair of instances, requests | the bytes of one instance, whatever the cuts |
//! | [`config`] | a file | places in complaints; promises of what is accepted |
//! | [`arbiter`] | an answer of etcd's | records that could have been written; a write only where one was asked |
//! | [`pcap`] | a capture file | an end |
//! | [`tcb`] | operations on one connection | RFC 9293's and the horizons' inequalities, after each |
//! | [`pair`] | operations on two connections and a network | both streams arrive, or an end that is told |
//! | [`relay`] | segments on both legs of splices, and time | each goes where its splice says; a standby knows all of them |
//! | [`engine`] | operations on a whole engine | bounds on everything; packets that parse; no turning in place |

pub mod arbiter;
pub mod config;
pub mod control;
pub mod engine;
pub mod files;
pub mod framing;
pub mod heartbeat;
pub mod http;
pub mod link;
pub mod neighbour;
pub mod options;
pub mod packets;
pub mod pair;
pub mod pcap;
pub mod relay;
pub mod replication;
pub mod tcb;

mod end;
mod library;
mod pieces;
mod segments;

/// A target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 17] = [
    ("packets", packets::run),
    ("options", options::run),
    ("neighbour", neighbour::run),
    ("replication", replication::run),
    ("heartbeat", heartbeat::run),
    ("link", link::run),
    ("control", control::run),
    ("http", http::run),
    ("framing", framing::run),
    ("files", files::run),
    ("config", config::run),
    ("arbiter", arbiter::run),
    ("pcap", pcap::run),
    ("tcb", tcb::run),
    ("pair", pair::run),
    ("relay", relay::run),
    ("engine", engine::run),
];

pub mod pack;
