//! HTTP/1 message framing: where in a stream of bytes requests and replies begin and end, RFC 9112.
//!
//! Bytes go in, and places come out. Nothing is kept here and nothing is rewritten beyond what is asked
//! for ([`rewrite()`]), so whoever passes a message on passes on the bytes that came:
//!
//! ```text
//!   ├─ head ─────────────┼─ body ────────────────────────────────┼─ head ─ …
//!     scan: its end        Framing::next: Data, Framing, Trailer, End
//!     RequestHead::parse, ReplyHead::parse: what it says, how its body is measured
//! ```
//!
//! What is found depends on the bytes alone, never on how they were cut into pieces: both nodes and every
//! retry must find the same.
//!
//! Two readers that disagree about an end see different messages in the same bytes (request smuggling). So
//! whatever may be read in two ways is refused, by name ([`Refusal`]), where RFC 9112 lets a recipient
//! choose between refusing and guessing, and in a few places where it asks for tolerance: `docs/rfc.md`
//! lists those.

mod authority;
mod body;
mod fields;
mod refusal;
mod reply;
mod request;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;

pub use body::{Framing, Part, Place};
pub(crate) use fields::is_number;
pub use fields::{Fields, Persist, is_hop_by_hop};
pub use refusal::Refusal;
pub use reply::{Asked, ReplyHead};
pub use request::RequestHead;
pub use rewrite::rewrite;
pub use scan::{HEAD_MAX, Scan, scan};
pub(crate) use scan::{has_lone_lf, scan_leniently};
