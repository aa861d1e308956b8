//! What a backend's application does: echo, discard, chargen, as the pair's own services have it, and HTTP.

use std::collections::VecDeque;

use crate::sim::content;
use crate::sim::http;

/// Output that has not been acknowledged, at most.
const OUTPUT: u64 = 64 * 1024;
/// How often a slow reader reads.
const READ_EVERY: u64 = 3_000_000;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Kind {
    Echo,
    Discard,
    Chargen,
    Http,
}

/// One connection's application. TCP below it is another's.
#[derive(Debug)]
pub(super) struct App {
    kind: Kind,
    /// Speaks for [`Kind::Http`].
    http: Option<http::Server>,
    /// Input that it has not taken, and the end of it.
    inbox: VecDeque<u8>,
    ended: bool,
    taken: u64,
    /// Echo's output from offset `acked` on.
    outbox: VecDeque<u8>,
    acked: u64,
    /// Where its output ends.
    made: u64,
    /// Bytes per millisecond; 0 is at once.
    rate: u64,
    since: u64,
    /// From which byte on it says something else than it should.
    differs: u64,
    /// It stands still.
    pub(super) still: bool,
}

impl App {
    pub(super) fn new(
        now: u64,
        kind: Kind,
        http: Option<http::Server>,
        rate: u64,
        differs: Option<u64>,
    ) -> Self {
        Self {
            kind,
            http,
            inbox: VecDeque::new(),
            ended: false,
            taken: 0,
            outbox: VecDeque::new(),
            acked: 0,
            made: 0,
            rate,
            since: now,
            differs: differs.unwrap_or(u64::MAX),
            still: false,
        }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.inbox.extend(bytes);
    }

    pub(super) fn hear_end(&mut self) {
        self.ended = true;
    }

    /// Whether it has taken all that it was given.
    pub(super) fn is_hungry(&self) -> bool {
        self.inbox.is_empty()
    }

    /// How much input it has taken.
    pub(super) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Output up to `offset` is acknowledged.
    pub(super) fn on_acked(&mut self, offset: u64) {
        let fresh = offset.min(self.made).saturating_sub(self.acked);
        self.outbox.drain(..(fresh as usize).min(self.outbox.len()));
        self.acked += fresh;
    }

    /// Time has passed, or there is input, or room for output. Returns whether it took something.
    pub(super) fn tick(&mut self, now: u64) -> bool {
        if self.still {
            self.since = now;
            return false;
        }
        let rate = match self.rate {
            0 => usize::MAX,
            _ if now < self.since + READ_EVERY => 0,
            rate => ((now - self.since) * rate / 1_000_000) as usize,
        };
        let room = OUTPUT - (self.made - self.acked);
        let count = match self.kind {
            Kind::Echo => rate.min(room as usize),
            Kind::Discard | Kind::Chargen | Kind::Http => rate,
        };
        if rate > 0 || self.inbox.is_empty() {
            self.since = now;
        }
        let count = count.min(self.inbox.len());
        self.taken += count as u64;
        let taken = self.inbox.drain(..count);
        match self.kind {
            Kind::Echo => {
                self.outbox.extend(taken);
                self.made += count as u64;
            }
            Kind::Discard => drop(taken),
            Kind::Chargen => {
                drop(taken);
                self.made += room;
            }
            Kind::Http => {
                if let Some(server) = self.http.as_mut() {
                    server.hear(taken);
                } else {
                    drop(taken);
                }
            }
        }
        self.tick_http(room) || count > 0
    }

    /// What HTTP has to say goes as far as there is room. Returns whether there was something.
    fn tick_http(&mut self, room: u64) -> bool {
        let Some(server) = self.http.as_mut() else { return false };
        let before = self.outbox.len();
        self.outbox.extend(server.say(room as usize));
        let said = (self.outbox.len() - before) as u64;
        self.made += said;
        if self.made == self.acked {
            server.on_all_heard();
        }
        said > 0
    }

    /// Whether what it says can only end with the connection.
    pub(super) fn ends_by_close(&self) -> bool {
        self.http.as_ref().is_some_and(|server| server.by_close)
    }

    /// When [`App::tick`] has something to do, if nothing happens before.
    pub(super) fn deadline(&self) -> u64 {
        let waits = self.rate > 0 && !self.still && !self.inbox.is_empty();
        if waits { self.since + READ_EVERY } else { u64::MAX }
    }

    /// Where its output ends so far.
    pub(super) const fn output_end(&self) -> u64 {
        self.made
    }

    /// What it says from `offset` on.
    pub(super) fn speak(&self, offset: u64, into: &mut [u8]) {
        self.speak_right(offset, into);
        let right = self.differs.saturating_sub(offset).min(into.len() as u64);
        into[right as usize..].iter_mut().for_each(|byte| *byte ^= 1);
    }

    fn speak_right(&self, offset: u64, into: &mut [u8]) {
        if self.kind == Kind::Chargen {
            for (byte, at) in into.iter_mut().zip(offset..) {
                *byte = content::chargen(at);
            }
            return;
        }
        let from = offset.saturating_sub(self.acked) as usize;
        for (byte, said) in into.iter_mut().zip(self.outbox.iter().skip(from)) {
            *byte = *said;
        }
    }

    /// Nothing more will be said.
    pub(super) fn finished(&self) -> bool {
        let ended = self.ended && self.inbox.is_empty();
        match &self.http {
            Some(server) => server.has_ended(ended),
            None => ended && self.kind != Kind::Chargen,
        }
    }
}
