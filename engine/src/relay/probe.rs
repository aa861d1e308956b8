//! A check under way, over the least of TCP that does: no option but the segment size, one segment of our own,
//! what comes in order is taken and what does not is asked for again.
//!
//! ```text
//!   SYN ─┬─ RST ──────► refused
//!        └─ SYN-ACK ─┬─► reset it: good                                       (TCP)
//!                    └─► GET ─► head of the reply ─► its status: good, or not (HTTP)
//!                                └─► the rest, until its end ─► reset
//! ```
//!
//! What a server says is bounded in time by the check's timeout, and in length by what a head may have and by
//! [`REST_MAX`]. The rest is taken so that a server that closes behind its reply, as it is asked to, sees
//! nothing out of order.

use std::sync::Arc;

use super::backend::bare;
use super::failure::Failure;
use super::settings::{Check, HttpCheck};
use crate::http::{Asked, HEAD_MAX, Refusal, ReplyHead, Scan, scan};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, FourTuple, Segment, SeqNum, TcpHeader, TcpOptions};

/// What may follow the head of a reply before it is not waited for any longer, bytes.
const REST_MAX: usize = 64 << 10;

/// Replies that announce another one (1xx).
const INTERIM_MAX: u8 = 8;

/// After so long without an answer what was said is said again.
const AGAIN: Duration = Duration::from_millis(250);

/// Room that the server is told of: all that comes is taken at once.
const WINDOW: u16 = HEAD_MAX as u16;

/// A segment of a check, and its text.
pub(super) type Said = (TcpHeader, Option<Arc<[u8]>>);

/// A check under way.
#[derive(Debug)]
pub(super) struct Probe {
    leg: FourTuple,
    iss: SeqNum,
    mss: u16,
    until: Instant,
    /// When what was said last is said again.
    again: Instant,
    http: Option<Arc<HttpCheck>>,
    stage: Stage,
}

/// How far a check is.
#[derive(Debug)]
enum Stage {
    /// The server has not answered our SYN.
    Syn,
    /// It has our request, or will.
    Asked(Box<Reading>),
}

/// A reply that comes.
#[derive(Debug)]
struct Reading {
    request: Arc<[u8]>,
    /// The next number of the server's.
    nxt: SeqNum,
    head: Vec<u8>,
    /// How much of the head has been looked at.
    scanned: usize,
    interim: u8,
    /// What has come behind the head; `None` while that is awaited.
    rest: Option<usize>,
}

/// What has become of a check by a segment, or by the time.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What it has shown.
    pub(super) verdict: Option<Result<(), Failure>>,
    /// What is to be said.
    pub(super) said: Option<Said>,
    /// Nothing more is to come.
    pub(super) over: bool,
}

impl Outcome {
    fn ends(verdict: Option<Result<(), Failure>>, said: Option<TcpHeader>) -> Self {
        Self { verdict, said: said.map(|header| (header, None)), over: true }
    }
}

impl Probe {
    /// Begins a check from `leg`, which is free, with a SYN.
    pub(super) fn begin(
        now: Instant,
        check: &Check,
        leg: FourTuple,
        iss: SeqNum,
        mss: u16,
    ) -> (Self, TcpHeader) {
        // A lost SYN fails a check of TCP, of which the next comes soon.
        let http = check.http.clone();
        let again = if http.is_some() { now + AGAIN } else { Instant::NEVER };
        let until = now + check.timeout;
        let probe = Self { leg, iss, mss, until, again, http, stage: Stage::Syn };
        let syn = probe.syn();
        (probe, syn)
    }

    /// Whose leg it is.
    pub(super) const fn leg(&self) -> &FourTuple {
        &self.leg
    }

    /// When to call [`Self::on_timer`] at the latest.
    pub(super) fn deadline(&self) -> Instant {
        self.until.min(self.again)
    }

    /// Time has passed.
    pub(super) fn on_timer(&mut self, now: Instant) -> Outcome {
        if now >= self.until {
            return match &self.stage {
                Stage::Syn => Outcome::ends(Some(Err(Failure::Silent)), None),
                Stage::Asked(reading) => {
                    let failure =
                        if reading.head.is_empty() { Failure::Mute } else { Failure::Slow };
                    let verdict = reading.rest.is_none().then_some(Err(failure));
                    Outcome::ends(verdict, Some(self.reset()))
                }
            };
        }
        if now < self.again {
            return Outcome::default();
        }
        self.again = now + AGAIN;
        Outcome { said: Some(self.said_again()), ..Outcome::default() }
    }

    /// The server says something.
    pub(super) fn on_segment(&mut self, now: Instant, segment: &Segment<'_>) -> Outcome {
        match self.stage {
            Stage::Syn => self.on_answer(now, segment),
            Stage::Asked(_) => self.on_text(segment),
        }
    }

    fn on_answer(&mut self, now: Instant, segment: &Segment<'_>) -> Outcome {
        let flags = segment.flags;
        if !flags.contains(Flags::ACK) || segment.ack != self.iss.add(1) {
            // Of a connection from before, RFC 9293 §3.10.7.3: it is reset, and the check goes on.
            let stale = flags.contains(Flags::ACK) && !flags.contains(Flags::RST);
            let said = stale.then(|| (bare(self.leg, segment.ack, Flags::RST), None));
            return Outcome { said, ..Outcome::default() };
        }
        if flags.contains(Flags::RST) {
            return Outcome::ends(Some(Err(Failure::Refused)), None);
        }
        if !flags.contains(Flags::SYN) {
            return Outcome::default();
        }
        let Some(http) = &self.http else {
            return Outcome::ends(Some(Ok(())), Some(bare(self.leg, segment.ack, Flags::RST)));
        };
        let reading = Reading {
            request: http.request(&self.leg.remote),
            nxt: segment.seq.add(1),
            head: Vec::new(),
            scanned: 0,
            interim: 0,
            rest: None,
        };
        let said = self.ask(&reading);
        self.stage = Stage::Asked(Box::new(reading));
        self.again = now + AGAIN;
        Outcome { said: Some(said), ..Outcome::default() }
    }

    fn on_text(&mut self, segment: &Segment<'_>) -> Outcome {
        let Stage::Asked(reading) = &mut self.stage else { return Outcome::default() };
        let flags = segment.flags;
        let unjudged = reading.rest.is_none();
        let closed = unjudged.then_some(Err(Failure::Closed));
        if flags.contains(Flags::RST) {
            // RFC 5961 §3: no other number is believed.
            let is_it = segment.seq == reading.nxt;
            return if is_it { Outcome::ends(closed, None) } else { Outcome::default() };
        }
        let (first, length) = (self.iss.add(1), reading.request.len() as u32);
        if !flags.contains(Flags::ACK) || segment.ack.since(first) > length {
            return Outcome::default();
        }
        if flags.contains(Flags::SYN) {
            // It has not heard our answer to it.
            return Outcome { said: Some(self.said_again()), ..Outcome::default() };
        }
        if segment.ack == first.add(length) {
            self.again = Instant::NEVER;
        }
        let (text, end) = (segment.payload, flags.contains(Flags::FIN));
        if text.is_empty() && !end {
            return Outcome::default();
        }
        // Huge, where it begins behind what has not come.
        let Some(text) = text.get(reading.nxt.since(segment.seq) as usize..) else {
            return Outcome { said: Some((self.ack(), None)), ..Outcome::default() };
        };
        reading.nxt = reading.nxt.add(text.len() as u32);
        let verdict = reading.take(text).map(|reply| match (reply, &self.http) {
            (Ok(status), Some(http)) if !http.wants(status) => Err(Failure::Status(status)),
            (Ok(_), _) => Ok(()),
            (Err(refusal), _) => Err(Failure::Malformed(refusal)),
        });
        // Behind what cannot be read nothing is understood.
        let spent = reading.rest.is_some_and(|rest| rest > REST_MAX);
        let lost = verdict.is_some() && reading.rest.is_none();
        if end || spent || lost {
            return Outcome::ends(verdict.or(closed), Some(self.reset()));
        }
        Outcome { verdict, said: Some((self.ack(), None)), over: false }
    }

    fn said_again(&self) -> Said {
        match &self.stage {
            Stage::Syn => (self.syn(), None),
            Stage::Asked(reading) => self.ask(reading),
        }
    }

    fn syn(&self) -> TcpHeader {
        let options = TcpOptions { mss: Some(self.mss), ..TcpOptions::default() };
        TcpHeader { window: u16::MAX, options, ..bare(self.leg, self.iss, Flags::SYN) }
    }

    fn ask(&self, reading: &Reading) -> Said {
        let header = bare(self.leg, self.iss.add(1), Flags::ACK | Flags::PSH);
        let header = TcpHeader { ack: reading.nxt, window: WINDOW, ..header };
        (header, Some(Arc::clone(&reading.request)))
    }

    /// Where we are.
    fn ack(&self) -> TcpHeader {
        let Stage::Asked(reading) = &self.stage else { return self.syn() };
        let header = bare(self.leg, self.nxt(), Flags::ACK);
        TcpHeader { ack: reading.nxt, window: WINDOW, ..header }
    }

    fn reset(&self) -> TcpHeader {
        bare(self.leg, self.nxt(), Flags::RST)
    }

    /// The next number of ours.
    fn nxt(&self) -> SeqNum {
        let said = match &self.stage {
            Stage::Syn => 0,
            Stage::Asked(reading) => reading.request.len(),
        };
        self.iss.add(1).add(said as u32)
    }
}

impl Reading {
    /// Takes what comes next. The status of the reply, or why it is none, when that shows.
    fn take(&mut self, text: &[u8]) -> Option<Result<u16, Refusal>> {
        if let Some(rest) = &mut self.rest {
            *rest = rest.saturating_add(text.len());
            return None;
        }
        // Beyond that there is no head.
        let room = (HEAD_MAX + 1).saturating_sub(self.head.len());
        self.head.extend_from_slice(&text[..text.len().min(room)]);
        loop {
            let length = match scan(&self.head, self.scanned) {
                Scan::More(at) => {
                    self.scanned = at;
                    return None;
                }
                Scan::Blank(_) => return Some(Err(Refusal::StatusLine)),
                Scan::Bad(refusal) => return Some(Err(refusal)),
                Scan::Head(length) => length,
            };
            let reply = ReplyHead::parse(&self.head[..length], Asked::Other);
            let (status, interim) = match reply.map(|reply| (reply.status, reply.is_interim())) {
                Ok(reply) => reply,
                Err(refusal) => return Some(Err(refusal)),
            };
            if interim && self.interim < INTERIM_MAX {
                self.interim += 1;
                self.scanned = 0;
                self.head.drain(..length);
                continue;
            }
            self.rest = Some(self.head.len() - length);
            self.head = Vec::new();
            return Some(Ok(status));
        }
    }
}
