//! What DESIGN promises, judged by the world's own knowledge: whose connections may be lost.
//!
//! One failure at a time loses nothing, if the primary said "protected" when it struck. Nothing is
//! promised where
//!
//! * the primary dies while it says that it is not protected, or the address leaves it then;
//! * the second node fails before the pair is protected again after the first one's failure;
//! * a node fails while it is being handed the address, or has just failed and nobody knows: the
//!   other cannot know whether it owned (`docs/ownership.md`, rule 11);
//! * a node serves that has not heard of the last owner, since that one stands still;
//! * the heir has no LAN carrier until it cannot know whether the dead primary went on alone (rules
//!   9 and 11), or lost it a moment before the primary failed;
//! * the owner slept past its lease and hears nobody when it wakes: it cannot know whether the other
//!   has owned meanwhile (rule 11);
//! * the nodes did not hear each other on any path, and both spoke (row 15 of the truth table), or one
//!   of two owners dies then. With an arbiter that is waited for, that is no excuse;
//! * an arbiter that is waited for does not answer the node that is handed the address, so that it
//!   gives it back, and then its giver, which holds all there is, dies before it is answered itself;
//! * a node was granted the address while the nodes did not hear each other, and was not told: who
//!   goes on after it cannot know whether it spoke.
//!
//! Then every connection that exists at that moment is excused: it may be reset or time out. It may
//! still never see a wrong byte (I6), and connections made later are not excused.

use super::host::{Host, Word};
use super::world::World;
use crate::oracle::{Invariant, NodeId};
use standin::role::{ArbiterRecord, Role};

/// Silence of a living peer beyond which the truth table may come to two owners: the detection
/// time, less what clocks and loops may differ by.
const SEVERED: u64 = 40_000_000;
/// How long after its primary's failure the heir's LAN may have no carrier: it knows that nobody else has
/// served until three detection times are over from the last beat that the primary heard of it, one
/// interval old at most; and of these it listens on the LAN for one when the carrier is back.
const TRUSTED: u64 = 85_000_000;
/// How long a primary may not know that the other has lost its LAN carrier, or cannot carry the
/// service: two detection times, as for everything else that it says, and a turn.
const UNKNOWN: u64 = 105_000_000;

const LATE: &str = "the heir had no LAN until it was too late";

/// What the world knows of the pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promise {
    /// The last owner, in which epoch, and whether it said "protected".
    pub(super) owner: Option<usize>,
    epoch: u64,
    protected: bool,
    /// Nodes that failed, until the pair was protected again.
    troubled: [bool; 2],
    /// The owner has given the address to a node that had failed, and that was excused.
    handed: bool,
    /// Owns in an earlier epoch than the last owner, of which it has not heard.
    unheard: Option<usize>,
    /// When each node last failed, and since when its LAN has no carrier.
    failed_at: [u64; 2],
    blind_since: [Option<u64>; 2],
    /// Since when each host knows that it cannot carry the service.
    unfit_since: [Option<u64>; 2],
    /// When a host last heard what its LAN interface carries.
    pub(super) mtus_at: u64,
    /// When the owner woke from a sleep that was longer than its lease.
    woke_at: Option<u64>,
    /// The heir of a sleeping owner had no LAN for too long: if it takes over, it cannot know.
    late: bool,
    /// A node knew of no other, until the pair was protected again.
    pub(super) unbound: bool,
    /// The nodes did not hear each other, until the pair was protected again.
    severed: bool,
}

impl Promise {
    /// Whether the truth table admits two owners.
    pub(super) const fn is_split(&self) -> bool {
        self.severed
    }
}

impl World {
    /// A node's process is about to end.
    pub(super) fn promise_before_end(&mut self, host: usize) {
        let other = 1 - host;
        let Promise { owner, troubled, .. } = self.promise;
        self.remember_word(host);
        self.promise.failed_at[host] = self.now;
        if owner == Some(host) {
            if troubled[other] {
                self.excuse_all("both nodes failed");
            } else if self.promise.blind_since[other].is_some() {
                self.excuse_all("the heir had just lost its LAN");
            } else if self.owns(host) && !self.promise.protected {
                self.excuse_all("the primary died unprotected");
            } else if self.has_address_back(host) {
                self.excuse_all(
                    "who had handed over died, and its heir had given the address back",
                );
            }
        } else if self.promise.severed && self.owns(host) {
            // Its connections are not those of the later owner.
            self.excuse_all("one of two owners died in a split");
        } else {
            self.promise_without_heir(host);
        }
        self.promise.troubled[host] = true;
    }

    /// A node's process is about to stand still.
    pub(super) fn promise_before_freeze(&mut self, host: usize) {
        let other = 1 - host;
        let Promise { owner, troubled, .. } = self.promise;
        self.remember_word(host);
        self.promise.failed_at[host] = self.now;
        if owner != Some(host) {
            self.promise_without_heir(host);
        } else if troubled[other] && self.role(host) == Some(Role::Primary { duplex: true }) {
            self.excuse_all("both nodes failed");
        }
        self.promise.troubled[host] = true;
    }

    /// A node's process goes on.
    pub(super) fn promise_after_thaw(&mut self, host: usize) {
        if self.promise.owner == Some(host) && !self.hosts[host].may_speak(self.now) {
            self.promise.woke_at = Some(self.now);
        }
    }

    /// The one that would carry on is failing.
    fn promise_without_heir(&mut self, host: usize) {
        let other = 1 - host;
        if self.promise.owner != Some(other) {
            return;
        }
        if self.promise.troubled[other] && self.role(other) != Some(Role::Primary { duplex: false })
        {
            self.excuse_all("both nodes failed");
        } else if !self.owns(other) {
            self.excuse_all("the heir failed as it was handed the address");
        }
    }

    fn role(&self, host: usize) -> Option<Role> {
        let state = &self.hosts[host];
        state.engine.as_ref().map(|engine| engine.status(state.clock.at(self.now)).role)
    }

    /// Whether `host` has handed over to a node that was not granted the address, has asked it back, and
    /// has itself not been granted it yet: nobody else holds anything any more.
    fn has_address_back(&self, host: usize) -> bool {
        self.is_strict()
            && self.role(host) == Some(Role::Silent)
            && self.role(1 - host) == Some(Role::Standby { synced: false })
    }

    fn owns(&self, host: usize) -> bool {
        matches!(self.role(host), Some(Role::Primary { .. }))
    }

    /// What the owner says of itself right now, unless it stands still: then its last word counts.
    fn remember_word(&mut self, host: usize) {
        let state = &self.hosts[host];
        if self.promise.owner == Some(host)
            && !state.frozen
            && self.owns(host)
            && let Some(engine) = &state.engine
        {
            self.promise.protected = engine.status(state.clock.at(self.now)).protected;
        }
    }

    /// A node has taken a turn: who owns, and in what state?
    pub(super) fn promise_after_turn(&mut self, host: usize) {
        let word = self.hosts[host].word;
        let Promise { owner, epoch, protected, .. } = self.promise;
        if word.owner && word.epoch >= epoch {
            let moved = owner.is_some_and(|owner| owner != host);
            if moved && !protected {
                self.excuse_all("the address left a primary that was not protected");
            } else if moved && self.promise.late {
                self.excuse_all(LATE);
            }
            self.promise.owner = Some(host);
            self.promise.epoch = word.epoch;
            self.promise.protected = word.protected;
            self.promise.handed = false;
        } else if owner == Some(host) && !word.owner && !protected {
            self.promise.protected = true;
            self.excuse_all("a primary that was not protected stood down");
        }
        self.watch_the_unheard(host);
        self.watch_the_blind();
        self.watch_the_unfit();
        self.watch_the_unlike();
        self.watch_the_sleeper(host);
        let handed = owner == Some(host) && !word.owner && !self.hosts[1 - host].runs();
        if handed && !core::mem::replace(&mut self.promise.handed, true) {
            self.excuse_all("the address was handed to a node that had failed");
        }
        // Both say so: an owner may not know yet that the other has been started anew.
        let calm = word.owner && self.hosts.iter().all(|host| host.runs() && host.word.protected);
        if calm {
            self.promise.troubled = [false; 2];
            self.promise.severed = false;
            self.promise.unbound = false;
            self.promise.late = false;
        }
        self.watch_for_split();
    }

    /// A node that was started anew, or slept, may rise while the last owner stands still, and has to
    /// stand down when that one wakes: both have failed.
    fn watch_the_unheard(&mut self, host: usize) {
        let (word, Promise { owner, epoch, unheard, .. }) = (self.hosts[host].word, self.promise);
        let rises = word.owner && word.epoch < epoch && owner != Some(host);
        if rises && unheard.is_none() {
            self.promise.unheard = Some(host);
            self.excuse_all("a node rose that had not heard of the last owner");
        } else if !word.owner && unheard == Some(host) {
            self.promise.unheard = None;
            self.excuse_all("a node stood down for an owner of which it had not heard");
        }
    }

    /// A LAN interface lost its carrier, or has it again.
    pub(super) fn promise_after_carrier(&mut self, host: usize, up: bool) {
        // It may have been blind for too long since anybody last took a turn.
        self.watch_the_late();
        let since = self.promise.blind_since[host].unwrap_or(self.now);
        self.promise.blind_since[host] = (!up).then_some(since);
    }

    /// A node without LAN carrier is no heir: if its primary fails it cannot own before it no longer
    /// knows whether that one went on alone.
    fn watch_the_late(&mut self) {
        let Promise { owner: Some(owner), failed_at, blind_since, .. } = self.promise else {
            return;
        };
        let blind = blind_since[1 - owner].is_some();
        if blind && !self.hosts[owner].runs() && self.now - failed_at[owner] > TRUSTED {
            self.promise.late = true;
            if self.hosts[owner].engine.is_none() {
                self.excuse_all(LATE);
            }
        }
    }

    /// Nor must it count as one for long.
    fn watch_the_blind(&mut self) {
        self.watch_the_late();
        let Promise { owner: Some(owner), blind_since, .. } = self.promise else { return };
        let Some(since) = blind_since[1 - owner] else { return };
        let Word { owner: owns, protected, .. } = self.hosts[owner].word;
        if self.hosts[owner].runs() && owns && protected && self.now - since > UNKNOWN {
            let name = NodeId(owner as u8).name();
            let text = format!("{name} says protected although the other node has no LAN carrier");
            self.complain(&Invariant::I7.to_string(), text);
        }
    }

    /// A host found out that it cannot carry the service, or can again.
    pub(super) fn promise_after_fitness(&mut self, host: usize, fit: bool) {
        let since = self.promise.unfit_since[host].unwrap_or(self.now);
        self.promise.unfit_since[host] = (!fit).then_some(since);
    }

    /// Neither host may be one that knows it cannot carry the service.
    fn watch_the_unfit(&mut self) {
        let Promise { owner: Some(owner), unfit_since, .. } = self.promise else { return };
        let Word { owner: owns, protected, .. } = self.hosts[owner].word;
        if !(self.hosts[owner].runs() && owns && protected) {
            return;
        }
        let unfit =
            |host: &usize| unfit_since[*host].is_some_and(|since| self.now - since > UNKNOWN);
        if let Some(host) = [owner, 1 - owner].iter().find(|host| unfit(host)) {
            let [name, other] = [owner, *host].map(|host| NodeId(host as u8).name());
            let text = format!("{name} says protected although the host of {other} is not fit");
            self.complain(&Invariant::I7.to_string(), text);
        }
    }

    /// Nor are two a pair of which one has another configuration, or could not carry what the other does.
    fn watch_the_unlike(&mut self) {
        let Promise { owner: Some(owner), mtus_at, .. } = self.promise else { return };
        let Word { owner: owns, protected, .. } = self.hosts[owner].word;
        let heir = 1 - owner;
        if self.hosts.iter().all(Host::runs) && self.hosts.iter().any(Host::is_alone) {
            // Neither hears of the other but by its announcements.
            self.promise.severed = true;
            self.promise.unbound = true;
        }
        if !(self.hosts[owner].runs() && owns && protected) {
            return;
        }
        let since = |since: Option<u64>| since.is_some_and(|since| self.now - since > UNKNOWN);
        let why = match () {
            () if self.hosts.iter().any(|host| host.runs() && since(host.wrong_since)) => {
                "the configurations of the two nodes differ"
            }
            () if self.host_mtu(heir) < self.host_mtu(owner) && since(Some(mtus_at)) => {
                "the other node's LAN carries less"
            }
            () => return,
        };
        let text = format!("{} says protected although {why}", NodeId(owner as u8).name());
        self.complain(&Invariant::I7.to_string(), text);
    }

    fn watch_the_sleeper(&mut self, host: usize) {
        let Promise { owner, woke_at: Some(woke_at), .. } = self.promise else { return };
        if owner != Some(host) {
            return;
        }
        if self.hosts[host].heard_at > woke_at {
            self.promise.woke_at = None;
        } else if self.now - woke_at > SEVERED {
            self.promise.woke_at = None;
            self.excuse_all("the owner slept, and hears nobody since");
        }
    }

    /// The arbiter writes `record` over what another node was granted.
    pub(super) fn promise_after_grant(
        &mut self,
        before: Option<ArbiterRecord>,
        record: ArbiterRecord,
    ) {
        let unused = before.is_some_and(|before| {
            before.owner != record.owner && before.epoch.0 > self.promise.epoch
        });
        if unused && self.promise.severed {
            self.excuse_all("a grant was not used, and who goes on cannot know");
        }
    }

    fn watch_for_split(&mut self) {
        if !self.hosts.iter().all(Host::runs) {
            return;
        }
        let now = self.now;
        if self.hosts.iter().any(|host| now - host.heard_at > SEVERED) {
            self.promise.severed = true;
        }
        if self.is_strict() {
            return;
        }
        if self.promise.severed && self.hosts.iter().all(|host| host.may_speak(now)) {
            self.tally.add("splits", 1);
            self.excuse_all("both nodes spoke: split");
        }
    }
}
