//! What an engine counts and lists, held against what it counts and lists.
//!
//! Each count is kept by many hands: whoever opens, ends, wakes or forgets a connection has to think
//! of all of them. [`Engine::audit`] counts anew. Tests and the simulator call it after every step, so
//! that a hand that forgets one is caught wherever it does; it walks over everything, and no turn of a
//! loop calls it.

use std::collections::BTreeMap;

use super::Engine;
use super::connection::{Body, Connection};
use super::replicate::SnapshotEnd;
use super::settle::ALARM_MAX;
use crate::ids::ConnId;
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
        self.audit_counts()?;
        self.audit_lists()?;
        self.audit_roles()?;
        for connection in self.table.iter() {
            self.audit_connection(now, connection)
                .map_err(|why| format!("{:?}: {why}", connection.tuple))?;
        }
        Ok(())
    }

    fn audit_counts(&self) -> Result<(), Wrong> {
        let half_open = self.table.iter().filter(|one| !one.handshake_logged).count();
        agree("half_open", self.half_open, half_open)?;
        let exposed = self.table.iter().filter(|one| one.exposed && self.table.is_current(one));
        agree("unprotected", self.unprotected as usize, exposed.count())
    }

    fn audit_lists(&self) -> Result<(), Wrong> {
        let (ready, waiting) = (tally(&self.ready), tally(&self.waiting));
        let (progress, quiet) = (tally(&self.progress), tally(&self.quiet));
        let lingering = tally(self.lingering.iter());
        for connection in self.table.iter() {
            let Connection { id, tuple, queued, waiting: waits, progressed, .. } = connection;
            let listed = |list: &BTreeMap<ConnId, usize>| list.get(id).copied().unwrap_or(0);
            let exactly = |what: &str, list, flag: bool| {
                agree(what, usize::from(flag), listed(list))
                    .map_err(|why| format!("{tuple:?}: {why}"))
            };
            exactly("entries in ready", &ready, *queued)?;
            exactly("entries in waiting", &waiting, *waits)?;
            exactly("entries in lingering", &lingering, connection.lingers)?;
            if *progressed && self.table.is_current(connection) && listed(&progress) == 0 {
                return Err(format!("progress of {tuple:?} is never told"));
            }
            if listed(&quiet) > 1 {
                return Err(format!("{tuple:?} is quiet twice"));
            }
        }
        self.outbox.audit()?;
        let bound = 2 * self.table.len() + 64;
        let longest = waiting.values().sum::<usize>();
        if longest > bound + 1 {
            return Err(format!(
                "{longest} wait for the store, of {} connections",
                self.table.len()
            ));
        }
        Ok(())
    }

    /// What a role does not have.
    fn audit_roles(&self) -> Result<(), Wrong> {
        let none = |what: &str, is_none: bool| {
            if is_none { Ok(()) } else { Err(format!("{what} outlived its time")) }
        };
        if !self.owner {
            none("a packet of an owner's", self.outbox.is_empty())?;
        }
        if !self.attached {
            none("a splice that waits for a standby", self.unconfirmed.is_empty())?;
            none("a snapshot", self.snapshot_end == SnapshotEnd::None)?;
        }
        let confirmed = self.log.confirmed();
        let waits = self.unconfirmed.iter().all(|(lsn, _)| *lsn > confirmed);
        none("a splice that was confirmed", waits)?;
        let ordered = self.unconfirmed.iter().is_sorted_by_key(|(lsn, _)| *lsn);
        none("an order of splices", ordered)?;
        none("a follower", self.follower.is_none() || !(self.owner || self.attached))?;
        let held = self.table.iter().filter(|one| matches!(one.body, Body::Held(_))).count();
        let following = self.follower.is_some();
        none("a connection of a role that ended", held == 0 || following || self.owner)?;
        let ours = self.table.len() - held;
        none("a connection of an owner's", ours == 0 || !following)?;
        // Whoever sleeps and owns is reached by the walk, or has been.
        none("a sleeper's walk", held == 0 || following || self.is_walking())?;
        let alarms = self.table.iter().filter(|one| one.alarm.is_set()).count();
        none("an alarm", alarms <= self.wheel.len())
    }

    fn audit_connection(&self, now: Instant, one: &Connection) -> Result<(), Wrong> {
        match &one.body {
            Body::Held(hard) => {
                agree("handshake", usize::from(one.handshake_logged), hard.handshake_done.into())?;
                agree("input's end", usize::from(one.peer_finished), hard.peer_fin.into())?;
                let following = self.follower.is_some() && self.table.is_current(one);
                let exposed = !one.app.protected();
                if following && exposed != one.exposed {
                    return Err(format!("exposed: {exposed}, and counted: {}", one.exposed));
                }
            }
            Body::Live(tcb) => {
                agree("handshake", usize::from(one.handshake_logged), tcb.established().into())?;
                agree("FIN", usize::from(one.fin_logged), tcb.fin_acked().into())?;
                agree("input's end", usize::from(one.peer_finished), tcb.peer_finished().into())?;
                let waits = !self.log.is_clear(one.pending) && self.table.is_current(one);
                if waits && !self.attached {
                    return Err("it waits for a standby that is gone".to_owned());
                }
                if self.table.is_current(one) && waits != tcb.is_held_back() {
                    return Err(format!(
                        "held back: {}, for a record: {waits}",
                        tcb.is_held_back()
                    ));
                }
                let due = tcb.deadline().unwrap_or(Instant::NEVER).min(now + ALARM_MAX);
                let due = if tcb.deadline().is_some() { due } else { Instant::NEVER };
                if self.owner && !one.queued && one.alarm.rings_after(due) {
                    return Err("its deadline passes without an alarm".to_owned());
                }
            }
            Body::Parked(_) => {}
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
