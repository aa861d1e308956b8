//! When a twin counts as failed though its connection stands: only the node that leads can tell, as it
//! knows the time, what was acknowledged, and what checks say. What it finds goes into the log.
//!
//! ```text
//!   owes ──► quiet ──┬── SILENCE, its checks say down, the other one lives ──► Down
//!                    ├── lag-time, the other one has said more ──────────────► Lags
//!                    └── it says or acknowledges something ──► begins anew
//! ```
//!
//! The last of the two is never given up: what cannot go on without it is no worse off with it.

use super::{Loss, Mirror, TWINS, Twin};
use crate::service::JoinPatience;
use crate::session::{CLIENT, Call, Effect, Leg, Legs};
use crate::time::{Duration, Instant};

/// How long a twin that owes something may be silent before its checks are asked, and from one such
/// question to the next.
const SILENCE: Duration = Duration::from_secs(1);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Watch {
    /// Since when nothing has happened.
    since: Option<Instant>,
    /// What had happened by then.
    mark: Mark,
    twins: [Watched; 2],
    /// When checks were asked last.
    looked: Option<Instant>,
}

/// What changes when something goes on: who stands, and what was said on each leg.
type Mark = ([u8; 3], [(u64, u64); 3]);

/// One twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Watched {
    /// Since when it owes something and is silent.
    quiet: Option<Instant>,
    /// What it had said and acknowledged by then.
    mark: (u64, u64),
    /// Whether the other one has said more.
    behind: bool,
}

impl Watch {
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) const fn begin_anew(&mut self, now: Instant) {
        self.since = Some(now);
    }
}

impl Mirror {
    /// Something may have happened.
    pub(super) fn keep_watch(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        if !call.lead {
            // What was measured on another node is no wait of ours.
            self.watch = Watch::default();
            return;
        }
        let mark = self.mark(legs);
        if self.watch.since.is_none() || self.watch.mark != mark {
            (self.watch.since, self.watch.mark) = (Some(call.now), mark);
        }
        if self.twins.contains(&Twin::Wanted) || self.goes() != [true, true] {
            self.watch.twins = [Watched::default(); 2];
            return;
        }
        let ahead = [0, 1].map(|at| self.ahead(at, legs));
        for at in [0, 1] {
            let other = ahead[1 - at];
            if self.watch_twin(at, other > ahead[at], legs, call.now)
                && self.lags_by_bytes(at, other, legs)
            {
                call.effects.push(Effect::Forsake(TWINS[at], Loss::Lags));
            }
        }
    }

    fn mark(&self, legs: &mut dyn Legs) -> Mark {
        let [one, other] = TWINS;
        let stage = |twin: &Twin| match twin {
            Twin::Wanted => 0,
            Twin::Stands => 1,
            Twin::Closed(_) => 2,
            Twin::Out => 3,
        };
        let said = [CLIENT, one, other].map(|leg| {
            let debt = self.debts[usize::from(leg)];
            legs.leg(leg).map_or((0, 0), |app| {
                (app.consumed() + debt + app.unread_len() as u64, app.output_end())
            })
        });
        ([self.begun.into(), stage(&self.twins[0]), stage(&self.twins[1])], said)
    }

    /// Whether the twin is behind the other one.
    fn watch_twin(&mut self, at: usize, other: bool, legs: &mut dyn Legs, now: Instant) -> bool {
        let leg = TWINS[at];
        let debt = self.debts[usize::from(leg)];
        let watched = &mut self.watch.twins[at];
        let Some(app) = legs.leg(leg).filter(|_| self.twins[at] == Twin::Stands) else {
            *watched = Watched::default();
            return false;
        };
        // Who is kept from speaking owes nothing.
        watched.behind = other && debt == 0 && !app.says_no_more();
        let mark = (app.consumed() + debt + app.unread_len() as u64, app.acked());
        if !watched.behind && !app.is_awaited() {
            watched.quiet = None;
        } else if watched.quiet.is_none() || watched.mark != mark {
            watched.quiet = Some(now);
        }
        watched.mark = mark;
        watched.behind
    }

    /// Whether a twin that is behind another one that has said so much more has had all of its input.
    fn lags_by_bytes(&self, at: usize, other: usize, legs: &mut dyn Legs) -> bool {
        let most = self.rules.lag_bytes as usize;
        let heard = legs.leg(TWINS[at]).is_some_and(|app| !app.is_awaited());
        most > 0 && other - self.ahead(at, legs) > most && heard
    }

    /// Leading: by when it is to be judged whether a twin has failed.
    #[must_use]
    pub fn judge_at(&self, patience: &JoinPatience) -> Option<Instant> {
        if !self.begun || self.broken {
            return None;
        }
        if self.twins.contains(&Twin::Wanted) {
            return Some(self.watch.since? + self.patience(patience));
        }
        let due = |one: &Watched| {
            let quiet = one.quiet?;
            let looks = self.watch.looked.map_or(quiet, |looked| looked.max(quiet)) + SILENCE;
            let lags = if one.behind { quiet + self.rules.lag_time } else { Instant::NEVER };
            Some(looks.min(lags))
        };
        self.watch.twins.iter().filter_map(due).min()
    }

    /// How long an answer to a SYN is waited for: where the other twin is there it is a lag.
    fn patience(&self, patience: &JoinPatience) -> Duration {
        let alone = self.twins.iter().all(|twin| matches!(twin, Twin::Wanted | Twin::Out));
        if alone { patience.connect } else { patience.connect.min(self.rules.lag_time) }
    }

    /// Leading: which twin has failed, if one has. `up`: what their checks say.
    pub fn judge(
        &mut self,
        now: Instant,
        patience: &JoinPatience,
        up: [bool; 2],
    ) -> Option<(Leg, Loss)> {
        if let Some(at) = self.twins.iter().position(|twin| *twin == Twin::Wanted) {
            let due = self.watch.since.map(|since| since + self.patience(patience));
            return due.is_some_and(|due| due <= now).then_some((TWINS[at], Loss::Late));
        }
        let silent = |one: &Watched, time| one.quiet.is_some_and(|quiet| quiet + time <= now);
        for at in [0, 1] {
            let (one, other) = (&self.watch.twins[at], &self.watch.twins[1 - at]);
            if one.behind && silent(one, self.rules.lag_time) {
                return Some((TWINS[at], Loss::Lags));
            }
            let alone = !up[1 - at] && other.quiet.is_some();
            if silent(one, SILENCE) && !up[at] && !alone {
                return Some((TWINS[at], Loss::Down));
            }
        }
        self.watch.looked = Some(now);
        None
    }
}
