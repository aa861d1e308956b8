//! Memory that is set aside for what sessions keep whole: requests until they are answered, and the
//! replies of a journal.
//!
//! ```text
//!   wants to keep ─► there is room ─► its window opens, its server is dialled
//!        │                                   ▲            │ answered, and heard
//!        └── none ─► waits, its window shut ─┘ ◄──────────┘ the next of those that wait
//! ```
//!
//! Without it a thousand uploads would share the budget in halves of requests, none of which can go on
//! (and each of which is as good a reason as any other to be reset). So whoever has no part of it waits, in
//! its client, where TCP keeps it; and whoever has one goes through to the end. One at a time may have
//! more than there is, so that a request that is longer than all of it passes, too, and those that grow
//! never wait for each other.
//!
//! Which of them go on is known to the node that leads alone, and shows in windows and times only: a heir
//! shares out anew.

use std::collections::VecDeque;

use super::Engine;
use super::connection::Body;
use super::sessions::Session;
use crate::ids::{ConnId, SessionId};
use crate::service::Place;
use crate::session::{CLIENT, Event, Keep, Leg};
use crate::tcp::Room;
use crate::time::{Duration, Instant};

/// Which part of the memory budget there is for each [`Keep`].
const PART: u64 = 4;
/// Sessions that are admitted, and looked at, in one turn.
const ADMISSIONS: usize = 64;
/// How often it is looked for those who have a share and do nothing with it, while others wait.
const LOOK: Duration = Duration::from_millis(500);
/// A client that sends nothing more of its request for so long, or takes nothing of its reply, gives way
/// to those that wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one session has of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share {
    has: u64,
    /// It wants more, and stands in the queue.
    waits: bool,
    /// It stands in the list of those that have something.
    listed: bool,
}

/// What is set aside for one [`Keep`] of all sessions.
#[derive(Debug, Default)]
struct Pool {
    given: u64,
    /// Those that wait; and some that do so no longer.
    queue: VecDeque<SessionId>,
    /// The first of them does not fit.
    is_blocked: bool,
    /// Whoever may have more than there is.
    favourite: Option<SessionId>,
    /// Those that have something; and some that do so no longer.
    holders: VecDeque<SessionId>,
}

/// All that is set aside.
#[derive(Debug)]
pub(super) struct Reserve {
    /// Of each pool.
    most: u64,
    pools: [Pool; 2],
    look_at: Instant,
}

impl Share {
    /// Whether it has something.
    pub(super) const fn has_some(self) -> bool {
        self.has > 0
    }

    /// Whether it wants more.
    pub(super) const fn waits(self) -> bool {
        self.waits
    }
}

impl Pool {
    /// `id` wants to have so much in all, and at once if it can be.
    fn ask(&mut self, id: SessionId, share: &mut Share, wants: u64, most: u64) {
        if wants <= share.has {
            self.give_back(id, share, wants);
        } else if !self.give(id, share, wants, most, self.queue.is_empty()) && !share.waits {
            share.waits = true;
            self.queue.push_back(id);
        }
    }

    /// Whether it could be given; not `in_turn`: only to the favourite.
    fn give(
        &mut self,
        id: SessionId,
        share: &mut Share,
        wants: u64,
        most: u64,
        in_turn: bool,
    ) -> bool {
        let more = wants - share.has;
        let is_favourite = self.favourite == Some(id);
        let fits = in_turn && self.given + more <= most;
        if !(fits || is_favourite || in_turn && self.favourite.is_none()) {
            return false;
        }
        if !fits {
            self.favourite = Some(id);
        }
        self.given += more;
        (share.has, share.waits) = (wants, false);
        if !core::mem::replace(&mut share.listed, true) {
            self.holders.push_back(id);
        }
        true
    }

    fn give_back(&mut self, id: SessionId, share: &mut Share, wants: u64) {
        let less = share.has - wants;
        self.given -= less;
        (share.has, share.waits) = (wants, false);
        if less > 0 {
            self.is_blocked = false;
        }
        if wants == 0 && self.favourite == Some(id) {
            (self.favourite, self.is_blocked) = (None, false);
        }
    }

    fn is_due(&self) -> bool {
        !self.queue.is_empty() && !self.is_blocked
    }
}

impl Reserve {
    /// Of a memory budget of so many bytes.
    pub(super) fn new(budget: u64) -> Self {
        Self { most: budget / PART, pools: Default::default(), look_at: Instant::ZERO }
    }

    /// Nobody has anything any more.
    pub(super) fn clear(&mut self) {
        self.pools = Default::default();
    }

    /// A session wants to keep so much. Whether it has to wait, for each [`Keep`].
    pub(super) fn ask(
        &mut self,
        id: SessionId,
        shares: &mut [Share; 2],
        wants: [u64; 2],
    ) -> [bool; 2] {
        for ((pool, share), wants) in self.pools.iter_mut().zip(shares.iter_mut()).zip(wants) {
            pool.ask(id, share, wants, self.most);
        }
        shares.map(|share| share.waits)
    }

    /// A session is no more.
    pub(super) fn release(&mut self, id: SessionId, shares: &mut [Share; 2]) {
        for (pool, share) in self.pools.iter_mut().zip(shares) {
            pool.give_back(id, share, 0);
        }
    }

    /// Whether somebody who waits can go on.
    pub(super) fn is_due(&self) -> bool {
        self.pools.iter().any(Pool::is_due)
    }

    /// When it is to be looked for those who do nothing with what they have.
    pub(super) fn deadline(&self) -> Instant {
        let waited_for = self.pools.iter().any(|pool| !pool.queue.is_empty());
        if waited_for { self.look_at } else { Instant::NEVER }
    }
}

impl Engine {
    /// Lets those go on that there is room for, a turn's share of them, and ends those that keep others
    /// waiting for nothing.
    pub(super) fn advance_reserve(&mut self, now: Instant) {
        for keep in Keep::ALL {
            for _ in 0..ADMISSIONS {
                if !self.admit(now, keep) {
                    break;
                }
            }
        }
        if self.reserve.deadline() <= now {
            self.reserve.look_at = now + LOOK;
            for keep in Keep::ALL {
                self.end_idle(now, keep);
            }
        }
    }

    /// Looks at the first of those that wait. Whether there may be a next one.
    fn admit(&mut self, now: Instant, keep: Keep) -> bool {
        let Self { reserve, sessions, .. } = self;
        let (pool, most) = (&mut reserve.pools[keep as usize], reserve.most);
        if !pool.is_due() {
            return false;
        }
        let Some(id) = pool.queue.pop_front() else { return false };
        self.work += 1;
        let slot = id.0 as u32;
        let Some(Session { machine, shares, .. }) =
            sessions.get_mut(slot).filter(|session| session.id == id)
        else {
            return true;
        };
        let (share, wants) = (&mut shares[keep as usize], machine.keeps()[keep as usize]);
        if !share.waits || wants <= share.has {
            return true;
        }
        if !pool.give(id, share, wants, most, true) {
            pool.queue.push_front(id);
            pool.is_blocked = true;
            return false;
        }
        // It asks for what it lacks.
        self.call_session(now, slot, Event::Lead, None, None);
        true
    }

    /// Ends some of those that have something, and whose clients do nothing.
    fn end_idle(&mut self, now: Instant, keep: Keep) {
        for _ in 0..ADMISSIONS {
            let pool = &mut self.reserve.pools[keep as usize];
            if pool.queue.is_empty() {
                return;
            }
            let Some(id) = pool.holders.pop_front() else { return };
            self.work += 1;
            let Some(session) =
                self.sessions.get_mut(id.0 as u32).filter(|session| session.id == id)
            else {
                continue;
            };
            let share = &mut session.shares[keep as usize];
            if share.has == 0 {
                share.listed = false;
                continue;
            }
            self.reserve.pools[keep as usize].holders.push_back(id);
            let client = session.legs[usize::from(CLIENT)];
            let stopped =
                session.machine.idle_since().is_some_and(|since| now.since(since) > PATIENCE);
            let Some(client) = client else { continue };
            let deaf = self.table.get_mut(client).is_some_and(|connection| {
                let awaited = connection.app.is_awaited();
                awaited && connection.tcb_mut().is_some_and(|tcb| !tcb.moves(now, PATIENCE))
            });
            if deaf {
                self.reset_for_memory(now, client);
            } else if stopped {
                // It is told that the rest of its request has not come.
                self.end_wait(now, client, id.0 as u32);
            }
        }
    }

    /// A leg is asked for as much as its session has room for. That memory is short limits others: what a
    /// session has a share for is set aside.
    pub(super) fn make_leg_room(&mut self, id: ConnId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let Some(Place { slot, leg }) = connection.place() else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Body::Live(tcb) = &mut connection.body {
            tcb.limit_room(session.room(leg));
        }
    }
}

impl Session {
    /// Whether what comes by a leg waits for memory.
    fn waits(&self, leg: Leg) -> bool {
        Keep::ALL.into_iter().any(|keep| keep.leg() == leg && self.shares[keep as usize].waits)
    }

    /// Whether what it keeps has its place: on its way it lies in front of the other leg.
    pub(super) fn has_share(&self) -> bool {
        self.shares.into_iter().any(Share::has_some)
    }

    /// How much of a leg is asked for.
    fn room(&self, leg: Leg) -> Room {
        if self.waits(leg) || !self.machine.is_wide(leg) { Room::Head } else { Room::Buffer }
    }
}
