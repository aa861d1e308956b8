//! One connection: what was recorded beside what we say.

use super::client::Client;
use super::said::{Answers, Said};
use super::scripted::Scripted;
use super::text::{Assembly, Lockstep};
use crate::capture::packet::Sighting;
use crate::replay::roster::Ends;
use standin::time::Instant;

/// What answers for us.
#[derive(Debug)]
pub(super) enum Ours {
    /// The engine and its service.
    Engine,
    /// The engine's TCP with the recorded reply.
    Script(Box<Scripted>),
    /// A script that is over.
    Over,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) ends: Ends,
    pub(super) first_frame: u64,
    pub(super) client: Client,
    pub(super) ours: Ours,
    pub(super) recorded_says: Answers,
    pub(super) ours_says: Answers,
    recorded_text: Assembly,
    ours_text: Assembly,
    pub(super) lockstep: Lockstep,
    /// Bytes of the recorded reply that the capture lacks.
    pub(super) filled: u64,
    /// Some payload was not captured whole.
    pub(super) snapped: bool,
    /// Bytes of the client that the recorded server had and the capture has not.
    pub(super) client_lacks: bool,
    client_text: Assembly,
    /// The deadline under which the case stands in the agenda.
    pub(super) listed: Instant,
}

impl Case {
    pub(super) fn new(ends: Ends, first_frame: u64, syn: &Sighting<'_>, ours: Ours) -> Self {
        Self {
            ends,
            first_frame,
            client: Client::new(syn),
            ours,
            recorded_says: Answers::default(),
            ours_says: Answers::default(),
            recorded_text: Assembly::default(),
            ours_text: Assembly::default(),
            lockstep: Lockstep::default(),
            filled: 0,
            snapped: false,
            client_lacks: false,
            client_text: Assembly::default(),
            listed: Instant::NEVER,
        }
    }

    /// A segment of the recorded server. `text` is its payload, whole.
    pub(super) fn on_recorded(&mut self, now: Instant, segment: &Sighting<'_>, text: &[u8]) {
        let said = Said::recorded(segment);
        let done = self.client.fin.is_some();
        let start = self.recorded_says.take(&said, &self.client.stream, done);
        if said.syn {
            self.client.on_answer(now);
        }
        let acked = self.recorded_says.acked;
        self.client_lacks |= acked > self.client_text.next() + i64::from(self.client.fin.is_some());
        match &mut self.ours {
            Ours::Script(script) if said.rst => script.on_reset(now),
            Ours::Script(script) => {
                if let Some(start) = start {
                    script.on_reply(start, text, self.recorded_says.fin);
                }
            }
            Ours::Engine => {
                if let Some(start) = start
                    && !self.snapped
                {
                    let lockstep = &mut self.lockstep;
                    self.recorded_text.take(start, text, |fresh| lockstep.say(false, fresh));
                }
            }
            Ours::Over => {}
        }
    }

    /// Keeps count of what of the client's stream is there.
    pub(super) fn on_client_text(&mut self, segment: &Sighting<'_>, text: &[u8]) {
        let start = self.client.stream.offset(segment.sequence) + i64::from(segment.syn);
        if !segment.rst && start >= 0 {
            self.client_text.take(start, text, |_| ());
        }
        if let Ours::Script(script) = &mut self.ours {
            script.on_acknowledged(self.client.acked);
            self.filled = script.filled();
        }
    }

    /// What our server says.
    pub(super) fn on_ours(&mut self, now: Instant, said: &Said, text: &[u8]) {
        let done = self.client.fin.is_some();
        let start = self.ours_says.take(said, &self.client.stream, done);
        if let (Some(start), Ours::Engine) = (start, &self.ours)
            && !self.snapped
        {
            let lockstep = &mut self.lockstep;
            self.ours_text.take(start, text, |fresh| lockstep.say(true, fresh));
        }
        self.client.on_sent(now, &self.ours_says);
    }

    /// When something happens by itself.
    pub(super) fn deadline(&self) -> Instant {
        let own = match &self.ours {
            Ours::Script(script) => script.deadline(),
            Ours::Engine | Ours::Over => Instant::NEVER,
        };
        own.min(self.client.due)
    }
}
