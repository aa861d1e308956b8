//! HTTP in the world: servers behind the pair that answer as their target says, clients that hold every
//! byte against that, and what both note for the world's judge.
//!
//! ```text
//!   ask (client) ── 7080 replay, 7081 journal ═ engine ═ ── serve (backend)
//!      │                                                        │
//!      └──────────────► desk: who has seen what ◄───────────────┘
//!                               │
//!                             judge
//! ```
//!
//! A reply is a function of its request's target and of the edition that its server has. Nobody here
//! shares code with the engine: heads are read by `httparse`, bodies by [`chunks`].

mod ask;
mod chunks;
mod desk;
mod draw;
mod judge;
mod plan;
mod serve;

pub(super) use ask::Asker;
pub(super) use desk::{Desk, Fuse};
pub(super) use judge::Sightings;
pub use plan::{Again, Ask, Framing, HttpPlan, Method, Stage};
pub(super) use serve::Server;

use super::content;

/// The port of the service that goes on with another server's reply, and of the one that gathers first.
pub(super) const REPLAY: u16 = 7080;
pub(super) const JOURNAL: u16 = 7081;

/// What a request's target says: all that its reply follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    client: u16,
    index: u16,
    ask: Ask,
}

impl Target {
    fn text(&self) -> String {
        let Ask { framing, length, tagged, sends, .. } = self.ask;
        let framing = match framing {
            Framing::Length => 'l',
            Framing::Chunks => 'c',
            Framing::Close => 'e',
        };
        let tagged = u8::from(tagged);
        format!("/{}/{}/{framing}/{length}/{tagged}/{sends}", self.client, self.index)
    }

    /// Reads what [`Self::text`] wrote, for a request with this method.
    fn read(method: &str, text: &str) -> Option<Self> {
        let method = match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "PUT" => Method::Put,
            "POST" => Method::Post,
            _ => return None,
        };
        let mut parts = text.strip_prefix('/')?.split('/');
        let mut number = |framing: bool| -> Option<u64> {
            let part = parts.next()?;
            if framing { part.bytes().next().map(u64::from) } else { part.parse().ok() }
        };
        let (client, index) = (number(false)? as u16, number(false)? as u16);
        let framing = match number(true)? as u8 {
            b'l' => Framing::Length,
            b'c' => Framing::Chunks,
            b'e' => Framing::Close,
            _ => return None,
        };
        let (length, tagged, sends) = (number(false)?, number(false)? == 1, number(false)?);
        let ask = Ask { method, sends, chunked: false, keyed: false, framing, length, tagged };
        Some(Self { client, index, ask })
    }

    /// Byte `at` of the reply's body, as a server of this edition has it. Editions agree in a third.
    fn byte(&self, edition: u8, at: u64) -> u8 {
        let other = if at >= self.ask.length / 3 { edition } else { 0 };
        content::said(self.client ^ self.index << 10, at) ^ other
    }

    /// Byte `at` of the request's body.
    fn sent(&self, at: u64) -> u8 {
        content::said(self.client ^ self.index << 10 ^ 0x8000, at)
    }

    /// The validator of the reply; of some, all editions say the same, as mistaken servers do.
    fn tag(&self, edition: u8) -> Option<String> {
        let edition = if self.ask.length.is_multiple_of(2) { edition } else { 0 };
        self.ask.tagged.then(|| format!("\"{}-{}-{edition}\"", self.client, self.index))
    }

    /// Whether the reply has a trailer.
    const fn trailer(&self) -> bool {
        self.ask.length % 3 == 1
    }

    /// Whether another reply, that says nothing, goes ahead of it.
    const fn hints(&self) -> bool {
        self.ask.length % 5 == 2
    }

    /// Whether the server takes no request behind it.
    const fn closes(&self) -> bool {
        self.ask.length % 7 == 3
    }
}
