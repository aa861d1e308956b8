//! What the world demands where HTTP is masked.
//!
//! * I8: what may not be sent again is seen by one server, once; what may, under the same key each time.
//! * I6: what the clients hold each byte and each end against, see [`super::ask`].
//! * Nobody is refused, and nobody reset, without a reason. One is a server that was gone, cut off, silent or
//!   held for down since its client came, if the request may not be sent again, or no other server was
//!   there all the while, or the servers have different bodies, or as many have failed as may.

use core::net::SocketAddr;

use std::collections::{BTreeMap, BTreeSet};

use super::desk::News;
use super::plan::{Ask, HttpPlan, Method};
use crate::oracle::Sight;
use crate::sim::backend::{LAG, RELAYS};
use crate::sim::plan::Job;
use crate::sim::world::{Event, World};
use standin::wire::{ChecksumState, Flags, parse_ip, parse_tcp};

/// More than a head is long, and the lines of a few chunks.
const SLACK: u64 = 1500;
/// Who waits for less may wait in vain for what is only slow.
const PATIENT: u64 = 10_000_000;
/// Where a chunk of two digits takes six bytes more.
const CHUNKED: u64 = 2;

/// What servers have seen of requests, and clients of replies.
#[derive(Debug, Default)]
pub(in crate::sim) struct Sightings {
    /// By client and number: the keys that came with a request.
    seen: BTreeMap<(u16, u16), Vec<Option<String>>>,
    /// How many replies each client has had.
    answered: BTreeMap<u16, usize>,
    /// Clients of which the observer knows that they may be reset.
    released: BTreeSet<usize>,
}

/// How a client may hear that there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    TooLong,
    Failed,
    Late,
    Reset,
}

impl World {
    /// Judges what servers and clients have noted.
    pub(in crate::sim) fn settle_desk(&mut self) {
        while let Some(news) = self.desk.next() {
            match news {
                News::Seen { backend, client, index, key } => {
                    self.judge_sighting(backend, client, index, key);
                }
                News::Heard { client, index } => {
                    self.tally.add("requests heard by a server", 1);
                    self.say(|| format!("request {index} of client {client} is whole at a server"));
                }
                News::Wrong(text) => self.complain("I6 wrong request", text),
                News::Falls { backend, orderly, restart_us } => {
                    self.tally.add("servers that died in a request", 1);
                    self.say(|| format!("backend {backend} dies where it is"));
                    self.backend_ends(backend, true, orderly);
                    if restart_us > 0 || self.healed {
                        self.post(restart_us.max(1000) * 1000, Event::BackendStart { backend });
                    }
                }
                News::Answered { client, index } => {
                    self.sightings.answered.insert(client, usize::from(index) + 1);
                    self.tally.add("replies of a server", 1);
                }
                News::Refused { client, index, status } => {
                    self.sightings.answered.insert(client, usize::from(index) + 1);
                    self.tally.add("replies of the pair for want of a server", 1);
                    self.say(|| format!("client {client}: {status} for request {index}"));
                    let bad = match status {
                        413 => Bad::TooLong,
                        504 => Bad::Late,
                        _ => Bad::Failed,
                    };
                    self.judge_refusal(client, index, bad, status);
                }
            }
        }
    }

    fn number_of(&self, id: u16) -> Option<usize> {
        self.clients.iter().position(|one| one.plan.as_ref().is_some_and(|plan| plan.id == id))
    }

    fn ask_of(&self, client: usize, index: usize) -> Option<(Ask, bool)> {
        match &self.clients[client].plan.as_ref()?.job {
            Job::Http { asks, journal, .. } => Some((*asks.get(index)?, *journal)),
            _ => None,
        }
    }

    fn http(&self) -> Option<HttpPlan> {
        self.plan.relays.as_ref()?.http
    }

    /// I8.
    fn judge_sighting(&mut self, backend: usize, id: u16, index: u16, key: Option<String>) {
        self.say(|| format!("request {index} of client {id} is seen by backend {backend}"));
        let known = self.number_of(id).zip(self.http());
        let found = known
            .and_then(|(client, http)| Some((client, http, self.ask_of(client, index.into())?)));
        let Some((client, http, (ask, journal))) = found else {
            return self.complain("I6 wrong request", format!("nobody asks for {id}/{index}"));
        };
        let seen = self.sightings.seen.entry((id, index)).or_default();
        seen.push(key);
        let times = seen.len();
        let same = seen.iter().all(|key| *key == seen[0]);
        let keyless = journal && ask.method == Method::Post && seen[0].is_none();
        self.tally.add("requests that were sent again", u64::from(times > 1));
        if self.clients[client].excused.is_some() {
            return;
        }
        let what = format!("request {index} of client {id}, {:?}", ask.method);
        if times > 1 && !ask.may_be_repeated(http.again) {
            self.complain("I8 once", format!("{what}: seen {times} times"));
        } else if !same || keyless {
            self.complain("I8 once", format!("{what}: its keys are not one"));
        }
    }

    fn judge_refusal(&mut self, id: u16, index: u16, bad: Bad, status: u16) {
        let Some(client) = self.number_of(id) else { return };
        if self.clients[client].excused.is_none() && !self.may_be(client, index.into(), bad) {
            let text = format!("client {id} was told {status} for request {index}, and why?");
            self.complain("unanswered request", text);
        }
    }

    /// Whether a client has to put up with that.
    fn may_be(&self, client: usize, index: usize, bad: Bad) -> bool {
        let Some((ask, journal)) = self.ask_of(client, index) else { return false };
        let (Some(http), Some(plan)) = (self.http(), &self.clients[client].plan) else {
            return false;
        };
        let chunks = |length: u64, chunk: u64| length + CHUNKED * length / chunk.max(1) * 6 + SLACK;
        let long_request = chunks(ask.sends, 700) > http.request_max.into();
        let narrowest = http.chunk.into_iter().min().unwrap_or(1);
        let long_reply = journal && chunks(ask.length, narrowest.into()) > http.reply_max.into();
        let since = (plan.at_us * 1000).saturating_sub(LAG);
        let port = if journal { super::JOURNAL } else { super::REPLAY };
        let relay = RELAYS.iter().position(|(relay, _)| *relay == port).unwrap_or(0);
        let family = usize::from(plan.ipv6);
        let troubled = |backend: &&crate::sim::backend::Backend| {
            let said = backend.said_down[relay][family].is_some_and(|at| at >= since);
            said || backend.has_been_troubled(since, &self.cuts)
        };
        let lost = self.backends.iter().filter(troubled).count();
        let falls: usize = self.backends.iter().map(|backend| backend.falls(since)).sum();
        let repeats = ask.may_be_repeated(http.again) && !long_request;
        let fails = lost == self.backends.len()
            || (lost > 0 && !(repeats && http.agree()))
            || falls > usize::from(http.retries);
        match bad {
            Bad::TooLong => long_request && http.refuses,
            Bad::Late => lost > 0 || http.first_byte_us < PATIENT,
            Bad::Failed => fails || (long_reply && http.refuses),
            Bad::Reset => fails,
        }
    }

    /// A packet leaves for a client. One whose reply cannot be continued has to put up with a reset, and with
    /// the question of who has taken over that leads to one.
    pub(in crate::sim) fn excuse_the_unlucky(&mut self, packet: &[u8]) {
        if self.http().is_none() {
            return;
        }
        let Ok(ip) = parse_ip(packet) else { return };
        let Ok((from, to, segment)) = parse_tcp(&ip, ChecksumState::Trusted) else { return };
        let ends = (SocketAddr::new(ip.dst, to), SocketAddr::new(ip.src, from));
        let Some(&client) = self.by_ends.get(&ends) else { return };
        if segment.flags.contains(Flags::SYN) {
            return;
        }
        let id = self.clients[client].plan.as_ref().map_or(0, |plan| plan.id);
        let index = self.sightings.answered.get(&id).copied().unwrap_or(0);
        if !self.may_be(client, index, Bad::Reset) {
            return;
        }
        if self.sightings.released.insert(client) {
            self.see(Sight::Breakable { client: ends.0, service: ends.1 });
        }
        if !segment.flags.contains(Flags::RST) || self.clients[client].excused.is_some() {
            return;
        }
        let why = "its reply could not be continued";
        self.clients[client].excused = Some(why);
        self.say(|| format!("client {client} is excused: {why}"));
        self.tally.add("replies that could not be continued", 1);
    }
}
