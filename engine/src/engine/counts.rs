//! What an engine counts and lists, held against what it counts and lists.
//!
//! Each count is kept by many hands: whoever opens, ends, wakes or forgets a connection has to think
//! of all of them. [`Engine::audit`] counts anew. Tests and the simulator call it after every step, so
//! that a hand that forgets one is caught wherever it does; it walks over everything, and no turn of a
//! loop calls it.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use super::connection::{Body, Connection, Mark};
use super::greed::counts;
use super::memory::weigh;
use super::owner::{Duty, Queues};
use super::replicate::Standby;
use super::sessions::Session;
use super::settle::ALARM_MAX;
use crate::ids::ConnId;
use crate::service::Place;
use crate::session::CLIENT;
use crate::sources::Source;
use crate::time::Instant;

/// The first thing that does not add up.
type Wrong = String;

impl Engine {
    /// Whether every count is what it counts, and every list has whom it should have.
    ///
    /// # Errors
    /// Says what does not add up. To be called between two turns.
    pub fn audit(&self, now: Instant) -> Result<(), String> {
        self.table.audit()?;
        self.relays.audit(self.owns())?;
        self.audit_counts()?;
        self.audit_memory()?;
        self.audit_sources()?;
        self.audit_lists()?;
        self.audit_roles()?;
        self.audit_sessions()?;
        for connection in self.table.iter() {
            self.audit_connection(now, connection)
                .map_err(|why| format!("{:?}: {why}", connection.tuple))?;
        }
        Ok(())
    }

    fn audit_counts(&self) -> Result<(), Wrong> {
        let half_open = self.table.iter().filter(|one| one.is_half_open()).count();
        agree("half_open", self.half_open, half_open)?;
        let exposed = self.table.iter().filter(|one| one.exposed && self.table.is_current(one));
        agree("unprotected", self.unprotected as usize, exposed.count())
    }

    fn audit_memory(&self) -> Result<(), Wrong> {
        let mut held = 0;
        for connection in self.table.iter() {
            let first = connection.place().filter(|place| place.leg == CLIENT);
            let session = first.map_or(0, |place| self.sessions.memory(place.slot));
            let holds = weigh(connection, session);
            if connection.holds != holds {
                let Connection { tuple, holds: kept, .. } = connection;
                return Err(format!("{tuple:?} holds {holds} KiB, kept {kept}"));
            }
            held += u64::from(holds) * 1024;
        }
        agree("memory", self.memory.held() as usize, held as usize)
    }

    fn audit_sources(&self) -> Result<(), Wrong> {
        let limited = self.setup.per_source.connections > 0;
        let counting = |one: &&Connection| limited && counts(one);
        for one in self.table.iter() {
            agree(
                "what counts",
                usize::from(one.marks.has(Mark::Counts)),
                usize::from(counting(&one)),
            )
            .map_err(|why| format!("{:?}: {why}", one.tuple))?;
        }
        self.sources.audit(self.table.iter().filter(counting).map(|one| Source::of(&one.tuple)))
    }

    fn audit_lists(&self) -> Result<(), Wrong> {
        let queues = self.duty.owner().map(|owner| &owner.queues);
        let ready = tally(queues.into_iter().flat_map(|queues| queues.ready.iter()));
        let quiet = tally(queues.into_iter().flat_map(|queues| queues.quiet.iter()));
        let progress = tally(self.duty.standby().into_iter().flat_map(|of| &of.progress));
        let (lingering, again) = (tally(self.lingering.waiting()), tally(&self.again));
        let deserted = tally(self.lingering.deserted());
        for connection in self.table.iter() {
            let Connection { id, tuple, queued, progressed, .. } = connection;
            let listed = |list: &BTreeMap<ConnId, usize>| list.get(id).copied().unwrap_or(0);
            let exactly = |what: &str, list, flag: bool| {
                agree(what, usize::from(flag), listed(list))
                    .map_err(|why| format!("{tuple:?}: {why}"))
            };
            exactly("entries in ready", &ready, *queued)?;
            exactly("entries in again", &again, connection.again)?;
            if self.owns() && connection.app.is_busy() && !connection.again {
                return Err(format!("{tuple:?} is never called again"));
            }
            let is_told = connection.again || self.store.awaits(*id);
            if connection.app.awaits_store() && !is_told {
                return Err(format!("{tuple:?} is never told what the store answers"));
            }
            exactly("entries in lingering", &lingering, connection.marks.has(Mark::Waits))?;
            exactly("entries in deserted", &deserted, connection.marks.has(Mark::Deserted))?;
            if *progressed && self.table.is_current(connection) && listed(&progress) == 0 {
                return Err(format!("progress of {tuple:?} is never told"));
            }
            if listed(&quiet) > 1 {
                return Err(format!("{tuple:?} is quiet twice"));
            }
        }
        self.duty.owner().map_or(Ok(()), |owner| owner.outbox.audit())?;
        let there: BTreeSet<ConnId> = self.table.iter().map(|connection| connection.id).collect();
        self.store.audit(|id| there.contains(&id))
    }

    /// What a role's connections are, and what is kept of them for it.
    fn audit_roles(&self) -> Result<(), Wrong> {
        let hold = |what: &str, holds: bool| {
            if holds { Ok(()) } else { Err(format!("{what}: not as its role has it")) }
        };
        let held = self.table.iter().filter(|one| matches!(one.body, Body::Held(_))).count();
        let owner = match &self.duty {
            Duty::Idle => return agree("connections of nobody's", self.table.len(), 0),
            Duty::Follower(_) => return agree("held connections", self.table.len(), held),
            Duty::Owner(owner) => owner,
        };
        hold("a packet of an owner that is silent", owner.speaks || owner.outbox.is_empty())?;
        let Queues { wheel, walk, .. } = &owner.queues;
        // A sleeper is reached by the walk.
        hold("a sleeper's walk", held == 0 || !walk.is_done())?;
        let alarms = self.table.iter().filter(|one| one.alarm.is_set()).count();
        hold("an alarm", alarms <= wheel.len())?;
        let unconfirmed = owner.standby.iter().flat_map(|standby| standby.unconfirmed.iter());
        hold("an order of splices", unconfirmed.is_sorted_by_key(|(lsn, _)| *lsn))
    }

    fn audit_connection(&self, now: Instant, one: &Connection) -> Result<(), Wrong> {
        match &one.body {
            Body::Held(hard) => {
                agree("handshake", usize::from(one.handshake_logged), hard.handshake_done.into())?;
                agree("input's end", usize::from(one.peer_finished), hard.peer_fin.into())?;
                let following = self.duty.following().is_some() && self.table.is_current(one);
                let exposed = !one.app.protected();
                if following && exposed != one.exposed {
                    return Err(format!("exposed: {exposed}, and counted: {}", one.exposed));
                }
            }
            Body::Live(tcb) => {
                if !tcb.closed() {
                    // One that was ended keeps what the log says of it until its reset has left.
                    agree(
                        "handshake",
                        usize::from(one.handshake_logged),
                        tcb.established().into(),
                    )?;
                }
                agree("FIN", usize::from(one.fin_logged), tcb.fin_acked().into())?;
                agree("input's end", usize::from(one.peer_finished), tcb.peer_finished().into())?;
                let is_clear = |standby: &Standby| standby.log.is_clear(one.pending);
                let clear = self.duty.standby().is_none_or(is_clear);
                let waits = !clear && self.table.is_current(one);
                if self.table.is_current(one) && waits != tcb.is_held_back() {
                    return Err(format!(
                        "held back: {}, for a record: {waits}",
                        tcb.is_held_back()
                    ));
                }
                let due = tcb.deadline().unwrap_or(Instant::NEVER).min(now + ALARM_MAX);
                let due = if tcb.deadline().is_some() { due } else { Instant::NEVER };
                if self.owns() && !one.queued && one.alarm.rings_after(due) {
                    return Err("its deadline passes without an alarm".to_owned());
                }
            }
            Body::Parked(_) => {}
        }
        Ok(())
    }

    /// Whether sessions and their legs know of each other.
    fn audit_sessions(&self) -> Result<(), String> {
        let legs = self.table.iter().filter(|one| one.place().is_some()).count();
        let listed: usize =
            self.sessions.slots.iter().map(|session| session.legs.iter().flatten().count()).sum();
        if legs != listed {
            return Err(format!("{legs} legs, and sessions list {listed}"));
        }
        for (kept, kind) in self.sessions.mirrored().into_iter().zip([true, false]) {
            let slots = self.sessions.slots.iter();
            let counted = slots.filter(|one| one.machine.is_mirrored() == Some(kind)).count();
            if kept != counted {
                return Err(format!(
                    "{kept} sessions with twins ({kind}), and there are {counted}"
                ));
            }
        }
        for one in self.table.iter() {
            let Some(Place { slot, leg }) = one.place() else { continue };
            let session = self.sessions.slots.get(slot as usize);
            let is_it = |session: &Session| session.legs[usize::from(leg)] == Some(one.id);
            if !session.is_some_and(|session| is_it(session)) {
                return Err(format!("{:?} is no leg of its session", one.tuple));
            }
        }
        Ok(())
    }
}

fn agree(what: &str, kept: usize, counted: usize) -> Result<(), Wrong> {
    if kept == counted { Ok(()) } else { Err(format!("{what}: kept {kept}, counted {counted}")) }
}

fn tally<'a>(list: impl IntoIterator<Item = &'a ConnId>) -> BTreeMap<ConnId, usize> {
    let mut tally = BTreeMap::new();
    for id in list {
        *tally.entry(*id).or_default() += 1;
    }
    tally
}
