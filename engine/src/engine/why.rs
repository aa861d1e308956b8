//! Why not? What keeps `protected` false, in words that say what to do (I7).

use super::Engine;
use super::notice::Notice;
use super::obstacle;
use super::replicate::Standby;
use crate::role::{Lack, Refusal, Role};
use crate::time::{Duration, Instant};

impl Engine {
    /// The interface of the replication address gained or lost its carrier.
    pub fn on_replication_carrier(&mut self, up: bool) {
        if up == self.cable {
            return;
        }
        self.cable = up;
        self.report(Notice::ReplicationCarrier { up });
    }

    /// All that is known to stand between this node and `protected`; empty if it is protected.
    pub(super) fn why_unprotected(&self, now: Instant) -> Vec<String> {
        match self.roles.role() {
            Role::Primary { .. } => {
                let mut why = self.why_not_hand_over(now);
                if !self.obstacles.is_empty() {
                    why.insert(0, format!("this host: {}", obstacle::list(&self.obstacles)));
                }
                why
            }
            Role::Standby { synced } => self.why_no_standby(synced),
            Role::Joining => vec![self.why_no_owner(now)],
            Role::Silent => vec!["the address is being handed over".to_owned()],
        }
    }

    /// What a hand-over to the standby, or the primary's death, would lose connections for. What is
    /// wrong with this host alone is a reason to hand over and none against it.
    pub(super) fn why_not_hand_over(&self, now: Instant) -> Vec<String> {
        let mut why = Vec::new();
        match self.roles.lack(now) {
            None | Some(Lack::Unfit) => {}
            Some(lack) => why.push(self.say_lack(now, lack)),
        }
        let peer = self.setup.node.peer();
        let theirs = self.peer_unprotected();
        if theirs > 0 {
            why.push(format!(
                "node {peer} could not continue {}: its copies of their files differ or are not \
                 compared yet, or its host is not fit (its log says which)",
                connections(theirs)
            ));
        }
        if self.unprotected > 0 {
            why.push(format!(
                "{} too large to be told to node {peer}: see the log",
                if self.unprotected == 1 {
                    "1 connection is".to_owned()
                } else {
                    format!("{} connections are", self.unprotected)
                }
            ));
        }
        why
    }

    fn say_lack(&self, now: Instant, lack: Lack) -> String {
        let peer = self.setup.node.peer();
        match lack {
            Lack::Unpaired => "no second node is configured".to_owned(),
            Lack::NotPrimary => "this node is not the primary".to_owned(),
            Lack::Paused => "this process stood still and has not looked around since".to_owned(),
            Lack::NeverHeard => match &self.incompatible.why {
                Some(why) => format!("node {peer} is no partner: {why}"),
                None if !self.cable => NO_CABLE.to_owned(),
                None => format!(
                    "node {peer} was never heard: start it, and look at the cable, the addresses \
                     and the firewalls between the two"
                ),
            },
            Lack::Silent { silent_for } => {
                let cable = if self.cable { String::new() } else { format!("; {NO_CABLE}") };
                format!("node {peer} is silent on both paths for {}{cable}", seconds(silent_for))
            }
            Lack::NotSynced | Lack::Refused(Refusal::NotDuplex) => {
                format!("node {peer} is not synchronised: {}", self.why_not_synced(now))
            }
            Lack::InDoubt => format!(
                "this process stood still for longer than its lease and waits for node {peer}'s word"
            ),
            Lack::Unheard => format!(
                "node {peer} is heard and does not hear this node: look at the cable and the \
                 firewalls between the two"
            ),
            Lack::Refused(Refusal::NoLink) => {
                format!("node {peer} has no replication link: {}", self.why_no_link())
            }
            Lack::Refused(Refusal::PeerLanDown) => {
                format!("node {peer}'s LAN interface has no carrier: look at its cable")
            }
            Lack::Refused(Refusal::PeerBarred) => {
                format!("the arbiter does not answer node {peer}, which would have to wait for it")
            }
            Lack::Refused(Refusal::NotPrimary) => "this node is not the primary".to_owned(),
            Lack::Unfit => format!("this host: {}", obstacle::list(&self.obstacles)),
            Lack::PeerUnfit => self.why_peer_unfit(),
            Lack::LanSilent { silent_for } => format!(
                "nothing of node {peer}'s comes over the LAN for {}, though it has a carrier: look \
                 at the switch between the two, and at the firewalls for the heartbeats' port",
                seconds(silent_for)
            ),
            Lack::LanUnheard => format!(
                "node {peer} hears nothing of this node over the LAN, though it has a carrier: look \
                 at the switch between the two, and at the firewalls for the heartbeats' port"
            ),
        }
    }

    /// Of a primary whose standby does not hold everything.
    fn why_not_synced(&self, now: Instant) -> String {
        if !self.link.is_up() {
            return self.why_no_link();
        }
        if let Some(progress) = self.duty.standby().and_then(Standby::snapshot_progress) {
            return format!(
                "it is being brought up to date, {} of {} connections sent",
                progress.sent, progress.total
            );
        }
        match self.duty.owner().map(|owner| owner.stall.until()) {
            Some(until) if now < until => format!(
                "it confirmed nothing for too long, and is tried again in {}",
                seconds(until.since(now))
            ),
            Some(_) | None => "it has not confirmed that it holds everything".to_owned(),
        }
    }

    /// Of a node without a replication link.
    fn why_no_link(&self) -> String {
        match &self.incompatible.why {
            Some(why) => why.clone(),
            None if !self.cable => NO_CABLE.to_owned(),
            None => "no replication link stands: look at the log of the standby, which dials, and \
                     at the firewalls for the replication port"
                .to_owned(),
        }
    }

    fn why_peer_unfit(&self) -> String {
        let peer = self.setup.node.peer();
        let differences = self.barring_differences();
        match &self.peer_host {
            Some(host) if !host.obstacles.is_empty() => {
                format!("node {peer} could not take over: {}", host.obstacles)
            }
            Some(_) if !differences.is_empty() => differences.join("; "),
            Some(_) | None => {
                format!("node {peer}'s host could not carry the service: its log says why")
            }
        }
    }

    /// Of a standby.
    fn why_no_standby(&self, synced: bool) -> Vec<String> {
        let peer = self.setup.node.peer();
        let mut why = Vec::new();
        if !self.obstacles.is_empty() {
            why.push(format!("this host: {}", obstacle::list(&self.obstacles)));
        }
        if !self.link.is_up() {
            let link = self.why_no_link();
            why.push(format!("this node is not synchronised with node {peer}: {link}"));
        } else if !synced {
            why.push(format!(
                "this node is not synchronised yet; {} connections have come",
                self.table.len() + self.relays.len()
            ));
        }
        if self.unprotected > 0 {
            why.push(format!(
                "{} could not be continued here: the copies of their files differ or are not \
                 compared yet; see the log",
                connections(self.unprotected)
            ));
        }
        why.extend(self.barring_differences_of_heir());
        why
    }

    /// Of a node that has found no owner.
    fn why_no_owner(&self, now: Instant) -> String {
        let peer = self.setup.node.peer();
        match () {
            () if !self.roles.has_carrier() => {
                "this node's LAN interface has no carrier: look at its cable".to_owned()
            }
            () if self.roles.is_peer_heard(now) => {
                format!("nobody owns the address yet; node {peer} is heard")
            }
            () => format!("nobody owns the address yet; node {peer} is not heard"),
        }
    }
}

pub(super) const NO_CABLE: &str = "no cable: the replication address has no carrier";

fn connections(count: u32) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
