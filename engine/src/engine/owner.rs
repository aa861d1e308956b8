//! What an engine has because of its role, made and dropped whole.
//!
//! ```text
//!             ┌──────────────── take over ───────────────┐
//!             │                                           ▼
//!   Idle ──► Follower ◄────── stand by ────── Owner { …, standby: Option<Standby> }
//! ```
//!
//! The connections themselves are held in either role, and outlive a takeover; all that is kept of them
//! for one role's sake goes with the role. What is large is not dropped at once, but taken apart a share
//! a turn ([`super::graveyard`]).

use std::collections::VecDeque;

use super::graveyard::{Graveyard, Remains};
use super::outbox::{Kind, Loose, Outbox};
use super::questions::{Question, Questions};
use super::replicate::{Released, Stall, Standby};
use super::rota::Rota;
use super::wake::{Recent, Walk};
use super::{Engine, FRAGMENT_MEMORY, FRAGMENT_TIMEOUT};
use crate::ids::{ConnId, Lsn};
use crate::replica::Follower;
use crate::slots::Queue;
use crate::tcp::wheel::Wheel;
use crate::time::Instant;
use crate::wire::Reassembler;

/// What an engine has because of its role.
#[derive(Debug)]
pub(super) enum Duty {
    /// It has just started, and nothing yet.
    Idle,
    /// It answers for the service address, or hands it over just now.
    Owner(Box<Owner>),
    /// It holds what the peer tells.
    Follower(Box<Following>),
}

/// What an owner has.
#[derive(Debug)]
pub(super) struct Owner {
    /// Whether it answers for the service address: not any more while it hands that over.
    pub(super) speaks: bool,
    /// Whether it has said so on the LAN, with the write gate open since.
    pub(super) announced: bool,
    pub(super) queues: Queues,
    pub(super) outbox: Outbox,
    pub(super) questions: Questions,
    pub(super) rota: Rota,
    pub(super) reassembler: Reassembler,
    /// Those that waited for a standby that is gone.
    pub(super) released: VecDeque<Released>,
    pub(super) standby: Option<Box<Standby>>,
    /// How its standbys have confirmed.
    pub(super) stall: Stall,
}

/// Which of an owner's connections are to be called, and when.
#[derive(Debug)]
pub(super) struct Queues {
    /// Those that may have something to send, each once.
    pub(super) ready: Queue<ConnId>,
    /// Those that only have to say that the path is good.
    pub(super) quiet: Queue<ConnId>,
    /// Alarms.
    pub(super) wheel: Wheel<ConnId>,
    /// Those that are to wake.
    pub(super) walk: Walk,
}

/// What a follower has.
#[derive(Debug)]
pub(super) struct Following {
    /// The log of the present stream; `None` once that broke the protocol.
    pub(super) follower: Option<Follower>,
    /// The connections of the last seconds.
    pub(super) recent: Recent,
}

impl Duty {
    /// What an owner has, also while it hands over.
    pub(super) fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Owner(owner) => Some(owner),
            Self::Idle | Self::Follower(_) => None,
        }
    }

    /// The same.
    pub(super) fn owner_mut(&mut self) -> Option<&mut Owner> {
        match self {
            Self::Owner(owner) => Some(owner),
            Self::Idle | Self::Follower(_) => None,
        }
    }

    /// What there is for a standby's sake.
    pub(super) fn standby(&self) -> Option<&Standby> {
        self.owner()?.standby.as_deref()
    }

    /// The same.
    pub(super) fn standby_mut(&mut self) -> Option<&mut Standby> {
        self.owner_mut()?.standby.as_deref_mut()
    }

    /// What a follower has.
    pub(super) fn following(&self) -> Option<&Following> {
        match self {
            Self::Follower(following) => Some(following),
            Self::Idle | Self::Owner(_) => None,
        }
    }

    /// The same.
    pub(super) fn following_mut(&mut self) -> Option<&mut Following> {
        match self {
            Self::Follower(following) => Some(following),
            Self::Idle | Self::Owner(_) => None,
        }
    }
}

impl Owner {
    /// What a new owner has. `recent` are to wake before all others, the last of the second list first.
    pub(super) fn new(now: Instant, table_key: [u8; 16], recent: [Queue<ConnId>; 2]) -> Self {
        Self {
            speaks: false,
            announced: false,
            queues: Queues { walk: Walk::beginning_with(recent), ..Queues::new(now) },
            outbox: Outbox::default(),
            questions: Questions::new(table_key),
            rota: Rota::default(),
            reassembler: Reassembler::new(FRAGMENT_MEMORY, FRAGMENT_TIMEOUT),
            released: VecDeque::new(),
            standby: None,
            stall: Stall::new(now),
        }
    }

    /// All connections are no more: what was kept of them goes to `graveyard`.
    pub(super) fn forget_connections(&mut self, now: Instant, graveyard: &mut Graveyard) {
        let queues = core::mem::replace(&mut self.queues, Queues::new(now));
        graveyard.take(Remains::Queues(Box::new(queues)));
        let waiting = self.standby.as_mut().map(|standby| standby.forget_connections());
        for released in self.released.drain(..).chain(waiting) {
            graveyard.take(Remains::Released(Box::new(released)));
        }
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        let Self { queues, questions, released, .. } = self;
        if queues.pop_piece() || questions.pop_piece() {
            return true;
        }
        let some = released.front_mut().is_some_and(Released::pop_piece);
        some || released.pop_front().is_some()
    }
}

impl Queues {
    /// Nobody is to be called.
    pub(super) fn new(now: Instant) -> Self {
        let (ready, quiet, walk) = (Queue::new(), Queue::new(), Walk::default());
        Self { ready, quiet, wheel: Wheel::new(now), walk }
    }

    /// Drops a piece of it. `false`: there was none left.
    pub(super) fn pop_piece(&mut self) -> bool {
        let Self { ready, quiet, wheel, walk } = self;
        ready.pop_piece() || quiet.pop_piece() || wheel.pop_piece() || walk.pop_piece()
    }
}

#[cfg(test)]
impl Engine {
    /// What it has as an owner.
    pub(super) fn as_owner(&mut self) -> &mut Owner {
        self.duty.owner_mut().expect("it owns")
    }

    /// What it has for its standby.
    pub(super) fn for_standby(&mut self) -> &mut Standby {
        self.duty.standby_mut().expect("it has a standby")
    }
}

impl Engine {
    /// Queues a packet that belongs to no connection.
    pub(super) fn push(&mut self, kind: Kind, loose: Loose) {
        if let Some(owner) = self.duty.owner_mut() {
            owner.outbox.push(kind, loose);
        }
    }

    /// How many more packets of `kind` are taken.
    pub(super) fn room(&self, kind: Kind) -> usize {
        self.duty.owner().map_or(0, |owner| owner.outbox.room(kind))
    }

    /// Whether one more ICMP error may be made now; if so, it is counted.
    pub(super) fn may_send_error(&mut self, now: Instant) -> bool {
        self.duty.owner_mut().is_some_and(|owner| owner.outbox.allows_error(now))
    }

    /// Asks the end of a connection that is no more.
    pub(super) fn ask(&mut self, question: Question) {
        if let Some(owner) = self.duty.owner_mut() {
            owner.questions.ask(question);
        }
    }

    /// Whether it answers for the service address.
    pub(super) fn owns(&self) -> bool {
        self.duty.owner().is_some_and(|owner| owner.speaks)
    }

    /// Whether it has said so on the LAN.
    pub(super) fn has_announced(&self) -> bool {
        self.duty.owner().is_some_and(|owner| owner.announced)
    }

    /// Whether records go to a standby.
    pub(super) fn is_attached(&self) -> bool {
        self.duty.standby().is_some()
    }

    /// The last position of its log, or of its last log, and the last one that is confirmed.
    pub(super) fn log_positions(&self) -> (Lsn, Lsn) {
        let none = (self.position, self.position);
        self.duty
            .standby()
            .map_or(none, |standby| (standby.log.appended(), standby.log.confirmed()))
    }

    /// Bytes of records that the standby has not confirmed.
    pub(super) fn backlog_bytes(&self) -> u64 {
        self.duty.standby().map_or(0, |standby| standby.log.backlog_bytes())
    }
}
