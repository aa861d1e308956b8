//! Files that connections could not be continued from: who is told, and how often.
//!
//! A person who reads `protected: false` wants to know of which file the copies differ, or are not
//! compared yet. Clients decide what is asked for, so what they cause here is bounded: a file is
//! named once in a while, and only so many are in one period. What is left out is counted.

use super::Engine;
use super::notice::{Fate, FileNotice, Notice};
use super::questions::Question;
use super::setup::Action;
use crate::ids::ConnId;
use crate::service::{Difference, Doubt, Edition};
use crate::tcp::{CloseCause, Transmit, farewell};
use crate::time::{Duration, Instant};

/// How long a file is not named again.
const PERIOD: Duration = Duration::from_secs(10);
/// Files named in one period.
const NAMED_MAX: usize = 8;
/// A copy that is being compared is worth a line once it has taken so long: mostly it is done sooner.
const PATIENCE: Duration = Duration::from_millis(100);
/// From this version of the log on, replies are of the second edition.
const VERSION_EDITION: u16 = 4;

/// What was said in this period.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    since: Instant,
    named: Vec<Named>,
    left_out: u64,
}

/// One file, and what was, or will be, said of it.
#[derive(Debug)]
struct Named {
    fate: Fate,
    root: u16,
    path: Box<str>,
    why: Option<Difference>,
    /// When it is worth a line; `NEVER` once that was written.
    due: Instant,
}

impl Doubts {
    /// Whether this is worth a line now. The number is of lines left out in the period before.
    fn admits(&mut self, now: Instant, fate: Fate, doubt: &Doubt<'_>) -> Option<u64> {
        let mut left_out = 0;
        if now.since(self.since) >= PERIOD {
            self.since = now;
            self.named.clear();
            left_out = core::mem::take(&mut self.left_out);
        }
        let Doubt { root, path, why } = *doubt;
        let is_it = |named: &Named| {
            (named.fate, named.root, &*named.path, named.why) == (fate, root, path, why)
        };
        if let Some(named) = self.named.iter_mut().find(|named| is_it(named)) {
            let due = named.due <= now;
            if due {
                named.due = Instant::NEVER;
            }
            return due.then_some(left_out);
        }
        if self.named.len() >= NAMED_MAX {
            self.left_out += 1;
            return None;
        }
        let due = if why.is_some() { Instant::NEVER } else { now + PATIENCE };
        self.named.push(Named { fate, root, path: path.into(), why, due });
        why.map(|_| left_out)
    }
}

impl Engine {
    /// By which rules replies are made: those that the standby knows, too.
    pub(super) fn edition(&self) -> Edition {
        match self.is_attached() && !self.link.speaks(VERSION_EDITION) {
            true => Edition::First,
            false => Edition::Second,
        }
    }

    /// A held connection could not be continued from the files here: says so.
    pub(super) fn doubt(&mut self, now: Instant, id: ConnId) {
        self.tell(now, id, Fate::Exposed);
    }

    /// I6: a stream that cannot be continued exactly is reset, counted, and told of.
    pub(super) fn fail(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        if connection.tcb_mut().is_none_or(|tcb| tcb.closed()) {
            return;
        }
        self.stats.not_continued += 1;
        self.tell(now, id, Fate::Reset);
        self.break_off(now, id);
    }

    /// Resets a connection.
    ///
    /// After a takeover the client may have had more than we know of. It would not believe a reset
    /// with our number (RFC 5961 §3.2), and who only listens would wait for ever. So it is asked
    /// where it is, and reset for its answer.
    pub(super) fn break_off(&mut self, now: Instant, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let tuple = connection.tuple;
        let Some(tcb) = connection.tcb_mut().filter(|tcb| !tcb.closed()) else { return };
        let question = tcb.is_resumed().then(|| farewell(&self.setup.tcp, &tcb.hard(), now));
        tcb.abort(now);
        match question {
            Some(Transmit { seq, ack, window, options, .. }) => {
                let timestamps = options.timestamps;
                let question = Question { tuple, seq, ack, window, timestamps, blind: false };
                self.ask(question);
                self.end(now, id, CloseCause::Aborted);
            }
            None => self.touch(now, id),
        }
    }

    fn tell(&mut self, now: Instant, id: ConnId, fate: Fate) {
        let Self { table, doubts, actions, .. } = self;
        let Some(doubt) = table.get_mut(id).and_then(|connection| connection.app.doubt()) else {
            return;
        };
        let Some(left_out) = doubts.admits(now, fate, &doubt) else { return };
        let Doubt { root, path, why } = doubt;
        let file = FileNotice { fate, root, path: path.into(), why, left_out };
        actions.push_back(Action::Report(Notice::File(file)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_once_in_a_period_and_few_are() {
        let mut doubts = Doubts::default();
        let at = Instant::from_millis;
        let of = |path| Doubt { root: 0, path, why: Some(Difference::Content) };
        assert_eq!(doubts.admits(at(20_000), Fate::Exposed, &of("a")), Some(0));
        assert_eq!(doubts.admits(at(20_001), Fate::Exposed, &of("a")), None);
        let names: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        let told = names
            .iter()
            .filter(|name| doubts.admits(at(20_002), Fate::Exposed, &of(name)).is_some());
        assert_eq!(told.count(), NAMED_MAX - 1);
        assert_eq!(
            doubts.admits(at(30_000), Fate::Exposed, &of("a")),
            Some(13),
            "so many were left out"
        );
    }

    #[test]
    fn a_copy_that_is_being_compared_is_named_when_that_takes_long() {
        let mut doubts = Doubts::default();
        let at = Instant::from_millis;
        let of = Doubt { root: 0, path: "a", why: None };
        assert_eq!(doubts.admits(at(20_000), Fate::Exposed, &of), None);
        assert_eq!(doubts.admits(at(20_099), Fate::Exposed, &of), None);
        assert_eq!(doubts.admits(at(20_100), Fate::Exposed, &of), Some(0));
        assert_eq!(doubts.admits(at(20_200), Fate::Exposed, &of), None);
    }
}
