//! The arbiter's client: a thread that puts the engine's questions to etcd.
//!
//! One question is open at a time; a later one takes the place of one that has not been begun. Each
//! is tried on every endpoint in turn, the last good one first, and the whole takes no longer than
//! the configured timeout: then "no answer" is the answer, and the role machine decides what that
//! means. The loop is never held up; it is woken.

pub mod etcd;
mod http;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::Waker;

use super::config;
use crate::limiter::Limiter;
use crate::role::{Ask, Reply};

use etcd::Key;
use http::Transport;
pub(super) use http::check;

/// Questions and answers under way: one is, and another may have been given up.
const QUEUE: usize = 8;

/// What came of a question: its number, and the answer if there was one.
pub(super) type Answer = (u64, Option<Reply>);

/// The loop's end.
#[derive(Debug)]
pub(super) struct ArbiterClient {
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

impl ArbiterClient {
    /// Starts the thread. `identity` names the pair among those that share an etcd.
    pub(super) fn start(
        config: &config::Arbiter,
        identity: &str,
        waker: Arc<Waker>,
    ) -> Result<Self, String> {
        let key = Key::new(&config.prefix, identity);
        let place = config.endpoints.join(", ");
        log::info!("arbiter: etcd at {place}, key {}", key.name());
        let transport = Transport::new(config)?;
        let (asks, queue) = bounded(QUEUE);
        let (report, answers) = bounded(QUEUE);
        let clerk = Clerk { key, transport, good: 0, complaints: Limiter::default() };
        let work = move || clerk.serve(&queue, &report, &waker);
        let spawned = thread::Builder::new().name("arbiter".into()).spawn(work);
        spawned.map_err(|error: io::Error| format!("arbiter: {error}"))?;
        Ok(Self { asks, answers })
    }

    /// Puts a question. One that finds no room goes unanswered, which the role machine notices.
    pub(super) fn ask(&self, ask: Ask) {
        if self.asks.try_send(ask).is_err() {
            log::debug!("arbiter: question {} finds no room", ask.number);
        }
    }

    /// The next answer. The clock is to be read after it is here.
    pub(super) fn next_answer(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// The thread's end.
struct Clerk {
    key: Key,
    transport: Transport,
    /// The endpoint that answered last.
    good: usize,
    /// By endpoint: several may be dead at a time.
    complaints: Limiter<usize>,
}

impl Clerk {
    fn serve(mut self, queue: &Receiver<Ask>, report: &Sender<Answer>, waker: &Waker) {
        for mut ask in queue {
            while let Ok(later) = queue.try_recv() {
                ask = later;
            }
            let reply = self.put(&ask);
            if report.send((ask.number, reply)).is_err() {
                return;
            }
            if let Err(error) = waker.wake() {
                log::error!("the loop cannot be woken: {error}");
            }
        }
    }

    fn put(&mut self, ask: &Ask) -> Option<Reply> {
        let request = self.key.request(&ask.what);
        let count = self.transport.endpoints();
        for step in 0..count {
            let endpoint = (self.good + step) % count;
            let body = self.transport.post(endpoint, request.path, &request.body);
            match body.and_then(|body| self.key.read_answer(&ask.what, &body)) {
                Ok(reply) => {
                    self.good = endpoint;
                    return Some(reply);
                }
                Err(why) => self.complain(endpoint, &why),
            }
        }
        None
    }

    /// The role machine says that there is no answer; this says why, and not at every question.
    fn complain(&mut self, endpoint: usize, why: &str) {
        if let Some(left_out) = self.complaints.permit(super::clock::Clock.now(), endpoint) {
            log::warn!("arbiter {}: {why}{left_out}", self.transport.name(endpoint));
        }
    }
}
