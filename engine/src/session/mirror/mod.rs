//! A mirror: two servers get what a client says, and the client hears what both of them say (ST-TCP's
//! active backup, with unmodified servers).
//!
//! ```text
//!                  ┌─► twin 1 ─► +OK :7 :8   ──┐  ahead: waits in its leg, whose window closes
//!   client leg ────┤                           ├─► +OK :7 ─► client leg
//!                  └─► twin 2 ─► +OK :7      ──┘
//! ```
//!
//! A byte leaves when both have said it. So either may die at any moment and nothing was said that the
//! other one will not stand by: it goes on alone, and the client sees nothing.
//!
//! * *An end is held* until the other twin agrees. If that says more, the first one had died; if it ends at
//!   the same byte, that is a real close.
//! * *A reset* ends that twin's part in this session.
//! * *A difference* stops the session until the node that leads has said, in the log, whose part is over.
//!
//! As everywhere the order of bytes and ends in the log decides, and not how they were cut. What only
//! one node can know is said in the log, too ([`Event::GivenUp`]): that there is no server to be dialled,
//! that one is silent ([`judge`]), which of two is the elder.

mod judge;
#[cfg(test)]
mod tests;

use super::{CLIENT, Call, Effect, Event, LEGS, Leg, Legs};
use crate::codec::{Reader, put_bytes, put_number};
#[cfg(feature = "defects")]
use crate::defects::Defect;
use crate::service::{JoinPatience, MirrorRules, OnDifference};
use crate::time::Instant;

use judge::Watch;

/// The twins' legs, in the order of the configuration.
pub const TWINS: [Leg; 2] = [1, 2];

/// How much of what each twin says is shown where they differ, in bytes.
const EXCERPT: usize = 32;

/// Why a session goes on without one of its twins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// There was nobody to be dialled: it is down, or barred, or takes no new clients.
    Absent,
    /// It did not answer its SYN.
    Late,
    /// It refused it.
    Refused,
    /// It reset its connection, or its host did.
    Reset,
    /// It ended where the other one had more to say.
    Ended,
    /// It was silent, and its checks said that it is down.
    Down,
    /// It neither said nor acknowledged anything, and the other one had said more.
    Lags,
    /// It said something else, and the other one is the elder.
    Differs,
}

impl Loss {
    const ALL: [Self; 8] = [
        Self::Absent,
        Self::Late,
        Self::Refused,
        Self::Reset,
        Self::Ended,
        Self::Down,
        Self::Lags,
        Self::Differs,
    ];

    /// That a session goes on without `leg`, as a pin says it.
    #[must_use]
    pub fn encode(self, leg: Leg) -> [u8; 2] {
        let at = Self::ALL.iter().position(|loss| *loss == self);
        [leg, at.map_or(u8::MAX, |at| at as u8)]
    }

    /// Reads an encoded value.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Leg, Self)> {
        let [leg, why] = *bytes else { return None };
        let why = Self::ALL.get(usize::from(why))?;
        TWINS.contains(&leg).then_some((leg, *why))
    }
}

/// A server of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Twin {
    /// It is to be dialled, or being so.
    Wanted,
    Stands,
    /// Both ends of its leg have finished. What it has said, and the other one not yet.
    Closed(Vec<u8>),
    /// The session goes on without it.
    Out,
}

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    rules: MirrorRules,
    /// The client stands.
    begun: bool,
    /// It cannot go on.
    broken: bool,
    /// The twins have said different things, and nobody has decided yet.
    differs: bool,
    twins: [Twin; 2],
    /// What both have said, in bytes.
    agreed: u64,
    /// What was taken from each leg without opening its window.
    debts: [u64; LEGS],
    /// Leading: what is waited for.
    watch: Watch,
}

impl Mirror {
    /// One whose client does not stand yet.
    #[must_use]
    pub fn new(rules: MirrorRules) -> Self {
        Self {
            rules,
            begun: false,
            broken: false,
            differs: false,
            twins: [Twin::Wanted, Twin::Wanted],
            agreed: 0,
            debts: [0; LEGS],
            watch: Watch::default(),
        }
    }

    /// Something has happened.
    pub fn on_event(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        if !self.broken {
            self.note(event, legs, call);
            self.advance(legs, call);
        }
        if self.broken {
            let [one, other] = TWINS;
            call.effects.extend([CLIENT, one, other].map(Effect::Reset));
            return;
        }
        if event == Event::Lead {
            self.ask_again(legs, call);
        }
        self.open_windows(legs, call);
        self.keep_watch(legs, call);
    }

    fn note(&mut self, event: Event, legs: &mut dyn Legs, call: &mut Call<'_>) {
        match event {
            Event::Moved | Event::Lead | Event::Leave => {}
            Event::Stands(CLIENT) => {
                if !core::mem::replace(&mut self.begun, true) {
                    call.effects.extend(TWINS.map(Effect::Dial));
                }
            }
            Event::Stands(leg) => {
                if let Some(twin @ Twin::Wanted) = self.twin(leg) {
                    *twin = Twin::Stands;
                }
            }
            // What it said last goes on.
            Event::Closed { leg: CLIENT, orderly } => self.broken = !orderly,
            Event::Closed { leg, orderly } => self.on_closed(leg, orderly, legs, call),
            Event::GivenUp { leg, why } => {
                if self.twin(leg).is_some_and(|twin| *twin != Twin::Out) {
                    self.lose(leg, why, legs, call);
                }
            }
            // Nobody has said anything for too long.
            Event::Tick => self.broken = true,
        }
    }

    fn twin(&mut self, leg: Leg) -> Option<&mut Twin> {
        let at = TWINS.iter().position(|twin| *twin == leg)?;
        self.twins.get_mut(at)
    }

    /// A twin's connection is no more.
    fn on_closed(&mut self, leg: Leg, orderly: bool, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let Some(twin) = self.twin(leg) else { return };
        match twin {
            Twin::Out | Twin::Closed(_) => {}
            Twin::Wanted => self.lose(leg, Loss::Refused, legs, call),
            Twin::Stands if orderly => {
                let mut ahead = Vec::new();
                if let Some(app) = legs.leg(leg) {
                    app.copy_unread(app.unread_len(), &mut ahead);
                }
                *twin = Twin::Closed(ahead);
                self.debts[usize::from(leg)] = 0;
            }
            Twin::Stands => self.lose(leg, Loss::Reset, legs, call),
        }
    }

    /// The session goes on without a twin.
    fn lose(&mut self, leg: Leg, why: Loss, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let Some(twin) = self.twin(leg) else { return };
        *twin = Twin::Out;
        self.differs = false;
        self.debts[usize::from(leg)] = 0;
        if legs.leg(CLIENT).is_some_and(|client| !client.finished()) {
            call.effects.push(Effect::Lost(leg, why));
        }
        call.effects.push(Effect::Reset(leg));
    }

    /// What an heir finds wanting: what was to be dialled, reset or decided and is not.
    fn ask_again(&self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        for (leg, twin) in TWINS.into_iter().zip(&self.twins) {
            match twin {
                Twin::Wanted if self.begun && legs.leg(leg).is_none() => {
                    call.effects.push(Effect::Dial(leg));
                }
                Twin::Out => call.effects.push(Effect::Reset(leg)),
                Twin::Wanted | Twin::Stands | Twin::Closed(_) => {}
            }
        }
        if self.differs {
            call.effects.push(Effect::Differs { offset: self.agreed });
        }
    }

    /// Whether each twin has its part in the session.
    fn goes(&self) -> [bool; 2] {
        [0, 1].map(|at| self.twins[at] != Twin::Out)
    }

    /// Goes as far as what has been said allows.
    fn advance(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        if !self.begun || self.differs || self.twins.contains(&Twin::Wanted) {
            // What a client says early waits where it is.
            return;
        }
        self.pass_input(legs);
        match self.goes() {
            [true, true] => self.pass_agreed(legs, call),
            [true, false] | [false, true] => {}
            [false, false] => self.broken = true,
        }
        match self.goes() {
            [true, false] => self.pass_all(0, legs, call),
            [false, true] => self.pass_all(1, legs, call),
            [true, true] | [false, false] => {}
        }
    }

    /// What the client has said goes to every twin that stands, and its end behind it.
    fn pass_input(&mut self, legs: &mut dyn Legs) {
        let Some(client) = legs.leg(CLIENT) else { return };
        let mut said = Vec::new();
        client.copy_unread(client.unread_len(), &mut said);
        client.take_on_credit(said.len());
        let ended = client.has_ended();
        self.debts[usize::from(CLIENT)] += said.len() as u64;
        for (leg, twin) in TWINS.into_iter().zip(&self.twins) {
            if *twin == Twin::Stands
                && let Some(app) = legs.leg(leg)
            {
                app.say(&said);
                if ended {
                    app.finish();
                }
            }
        }
    }

    /// What both twins have said goes to the client, and the end of both behind it.
    fn pass_agreed(&mut self, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let has = [0, 1].map(|at| self.ahead(at, legs));
        let both = has[0].min(has[1]);
        let mut said = core::mem::take(call.scratch);
        said.clear();
        self.copy_ahead(0, both, legs, &mut said);
        let common = self.ahead_agrees(1, &said, legs);
        #[cfg(feature = "defects")]
        let common = if call.errs(Defect::PassUnagreed) {
            said.clear();
            self.copy_ahead(1, both, legs, &mut said);
            both
        } else {
            common
        };
        for at in [0, 1] {
            self.take_ahead(at, common, legs);
        }
        if let Some(client) = legs.leg(CLIENT) {
            client.say(&said[..common]);
        }
        *call.scratch = said;
        self.agreed += common as u64;
        if common < both {
            return self.on_difference(call);
        }
        let more = has.map(|has| has > both);
        match [0, 1].map(|at| self.has_ended(at, legs)) {
            [true, true] => finish(legs),
            // Had it not died it would have said as much.
            [true, false] if more[1] => self.lose(TWINS[0], Loss::Ended, legs, call),
            [false, true] if more[0] => self.lose(TWINS[1], Loss::Ended, legs, call),
            [true, false] | [false, true] | [false, false] => {}
        }
    }

    /// What the one twin that is left says goes to the client, and its end behind it.
    fn pass_all(&mut self, at: usize, legs: &mut dyn Legs, call: &mut Call<'_>) {
        let count = self.ahead(at, legs);
        let mut said = core::mem::take(call.scratch);
        said.clear();
        self.copy_ahead(at, count, legs, &mut said);
        self.take_ahead(at, count, legs);
        if let Some(client) = legs.leg(CLIENT) {
            client.say(&said);
        }
        *call.scratch = said;
        if self.has_ended(at, legs) {
            finish(legs);
        }
    }

    fn on_difference(&mut self, call: &mut Call<'_>) {
        call.effects.push(Effect::Differs { offset: self.agreed });
        match self.rules.on_difference {
            OnDifference::Elder => self.differs = true,
            OnDifference::Reset => self.broken = true,
        }
    }

    /// How much a twin has said that the client was not told.
    fn ahead(&self, at: usize, legs: &mut dyn Legs) -> usize {
        match &self.twins[at] {
            Twin::Stands => legs.leg(TWINS[at]).map_or(0, |app| app.unread_len()),
            Twin::Closed(ahead) => ahead.len(),
            Twin::Wanted | Twin::Out => 0,
        }
    }

    fn copy_ahead(&self, at: usize, count: usize, legs: &mut dyn Legs, out: &mut Vec<u8>) {
        match &self.twins[at] {
            Twin::Stands => {
                legs.leg(TWINS[at]).into_iter().for_each(|app| app.copy_unread(count, out));
            }
            Twin::Closed(ahead) => out.extend_from_slice(&ahead[..count.min(ahead.len())]),
            Twin::Wanted | Twin::Out => {}
        }
    }

    fn ahead_agrees(&self, at: usize, bytes: &[u8], legs: &mut dyn Legs) -> usize {
        match &self.twins[at] {
            Twin::Stands => legs.leg(TWINS[at]).map_or(0, |app| app.unread_agrees(bytes)),
            Twin::Closed(ahead) => crate::service::common(ahead, bytes),
            Twin::Wanted | Twin::Out => 0,
        }
    }

    fn take_ahead(&mut self, at: usize, count: usize, legs: &mut dyn Legs) {
        let leg = TWINS[at];
        match &mut self.twins[at] {
            Twin::Stands => {
                legs.leg(leg).into_iter().for_each(|app| app.take_on_credit(count));
                self.debts[usize::from(leg)] += count as u64;
            }
            Twin::Closed(ahead) => _ = ahead.drain(..count),
            Twin::Wanted | Twin::Out => {}
        }
    }

    /// Whether a twin has said all, and the client was told all of it.
    fn has_ended(&self, at: usize, legs: &mut dyn Legs) -> bool {
        match &self.twins[at] {
            Twin::Stands => legs.leg(TWINS[at]).is_some_and(|app| app.has_ended()),
            Twin::Closed(ahead) => ahead.is_empty(),
            Twin::Wanted | Twin::Out => false,
        }
    }

    /// Opens the client's window by what the slower twin has room for, and the twins' by what the client
    /// has. That of a twin that is ahead of the other closes by itself, as nobody takes what it says.
    fn open_windows(&mut self, legs: &mut dyn Legs, call: &Call<'_>) {
        let mut excess = |leg| legs.leg(leg).map_or(0, |app| app.excess(call.buffer));
        let of_client = excess(CLIENT);
        let mut of_twins = 0;
        for (leg, twin) in TWINS.into_iter().zip(&self.twins) {
            of_twins = if *twin == Twin::Stands { excess(leg).max(of_twins) } else { of_twins };
        }
        let [one, other] = TWINS;
        for (leg, excess) in [(CLIENT, of_twins), (one, of_client), (other, of_client)] {
            let debt = &mut self.debts[usize::from(leg)];
            let keeps = if call.lead { excess.min(*debt) } else { 0 };
            if let Some(source) = legs.leg(leg) {
                source.credit(core::mem::replace(debt, keeps) - keeps);
            }
        }
    }

    /// What each twin has to say at the byte where they differ.
    pub fn excerpts(&self, legs: &mut dyn Legs) -> [Vec<u8>; 2] {
        [0, 1].map(|at| {
            let mut excerpt = Vec::new();
            self.copy_ahead(at, EXCERPT, legs, &mut excerpt);
            excerpt
        })
    }

    /// Whether the death of either twin would not show; `None` while that is not decided.
    #[must_use]
    pub fn is_masked(&self) -> Option<bool> {
        let decided = self.begun && !self.broken && !self.twins.contains(&Twin::Wanted);
        decided.then(|| self.goes() == [true, true])
    }

    /// Leading: whether it is idle, its deadline having passed: not if an end has not heard all that it was
    /// told.
    pub fn is_idle(&mut self, now: Instant, legs: &mut dyn Legs) -> bool {
        let [one, other] = TWINS;
        let awaited = |leg| legs.leg(leg).is_some_and(|app| app.is_awaited());
        let waits = [CLIENT, one, other].into_iter().any(awaited);
        if waits {
            self.watch.begin_anew(now);
        }
        !waits
    }

    /// Leading: by when an [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self, patience: &JoinPatience) -> Option<Instant> {
        let waits = !self.begun || self.broken || self.twins.contains(&Twin::Wanted);
        Some(self.watch.since().filter(|_| !waits)? + patience.idle)
    }

    /// What it takes in memory beside what its legs do, bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let kept = |twin: &Twin| match twin {
            Twin::Closed(ahead) => ahead.capacity(),
            Twin::Wanted | Twin::Stands | Twin::Out => 0,
        };
        self.twins.iter().map(kept).sum()
    }

    /// Appends everything that another node needs to go on from here.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { rules, begun, broken, differs, twins, agreed, debts, watch: _ } = self;
        rules.encode(out);
        out.push(u8::from(*begun) | u8::from(*broken) << 1 | u8::from(*differs) << 2);
        for twin in twins {
            out.push(match twin {
                Twin::Wanted => 0,
                Twin::Stands => 1,
                Twin::Closed(_) => 2,
                Twin::Out => 3,
            });
            if let Twin::Closed(ahead) = twin {
                put_bytes(out, ahead);
            }
        }
        put_number(out, *agreed);
        debts.iter().for_each(|debt| put_number(out, *debt));
    }

    /// Reads an encoded value.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let rules = MirrorRules::decode(&mut reader)?;
        let flags = reader.byte().filter(|flags| *flags < 8)?;
        let mut twin = || {
            Some(match reader.byte()? {
                0 => Twin::Wanted,
                1 => Twin::Stands,
                2 => Twin::Closed(reader.bytes()?.to_vec()),
                3 => Twin::Out,
                _ => return None,
            })
        };
        let twins = [twin()?, twin()?];
        let agreed = reader.number()?;
        let debts = [reader.number()?, reader.number()?, reader.number()?];
        reader.end()?;
        Some(Self {
            rules,
            begun: flags & 1 != 0,
            broken: flags & 2 != 0,
            differs: flags & 4 != 0,
            twins,
            agreed,
            debts,
            watch: Watch::default(),
        })
    }
}

/// The client hears nothing more.
fn finish(legs: &mut dyn Legs) {
    legs.leg(CLIENT).into_iter().for_each(|client| client.finish());
}
