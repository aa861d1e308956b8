//! What relays count and list, held against what they count and list: the part of [`Relays`] in the
//! engine's audit, which tests and the simulator call after every step.

use std::collections::BTreeSet;

use super::tally::scopes;
use super::*;

impl Relays {
    /// Whether every count is what it counts, and every list has whom it should have. `owner`: the
    /// splices are ours, and no peer's.
    ///
    /// # Errors
    /// Says what does not add up.
    pub fn audit(&self, owner: bool) -> Result<(), String> {
        self.table.audit()?;
        let count = |is: fn(&Entry) -> bool| self.table.iter().filter(|entry| is(entry)).count();
        agree("half-open splices", self.half_open, count(Entry::is_half_open))?;
        agree("splices that are over", self.lingering, count(Entry::is_over))?;
        let open = |entry: &&Entry| entry.stage() == Stage::Open;
        let clients = self.table.iter().filter(open).map(|entry| entry.splice.client);
        self.sources.audit(clients.flat_map(|client| scopes(&client)))?;
        self.audit_servers()?;
        self.audit_lists(owner)
    }

    fn audit_servers(&self) -> Result<(), String> {
        for (relay, of) in self.relays.iter().enumerate() {
            for (server, of) in of.servers.iter().enumerate() {
                let at = Some((relay as u16, server as u16));
                let here = || self.table.iter().filter(|entry| entry.at == at);
                let living = here().filter(|entry| !entry.is_over()).count();
                let dialled = self.dialled.count(at);
                agree("legs to a backend", of.legs as usize, dialled)?;
                agree("splices of a backend", of.load as usize, living + dialled)?;
                agree("ports of a backend", of.kept as usize, here().count() + dialled)?;
            }
        }
        Ok(())
    }

    fn audit_lists(&self, owner: bool) -> Result<(), String> {
        let ids = |list: &Roll<(Instant, SpliceId)>| -> BTreeSet<SpliceId> {
            list.iter().map(|(_, id)| *id).collect()
        };
        let (over, opening, doubts) = (ids(&self.over), ids(&self.opening), self.doubts.ids());
        for entry in self.table.iter() {
            let Entry { id, listed, .. } = entry;
            let wrong = match () {
                () if *listed != over.contains(id) => "listed as over, or not, in error",
                () if owner && entry.is_over() && !listed => "over, and never ended",
                () if owner && entry.is_half_open() && !opening.contains(id) => {
                    "half-open, and never ended"
                }
                () if self.table.is_current(entry)
                    && entry.doubt.is_some()
                    && !doubts.contains(id) =>
                {
                    "in doubt, and never asked"
                }
                () => continue,
            };
            return Err(format!("{:?}: {wrong}", entry.splice));
        }
        Ok(())
    }
}

fn agree(what: &str, kept: usize, counted: usize) -> Result<(), String> {
    if kept == counted { Ok(()) } else { Err(format!("{what}: kept {kept}, counted {counted}")) }
}
