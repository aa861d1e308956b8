//! What operators do to a node: a configuration that is wrong, and made right later; a LAN interface
//! with another MTU.
//!
//! As long as two nodes are no pair, neither may say that it is protected, and a node that is there and
//! no partner is told of once (I7).

use super::client::Outgoing;
use super::offload::to_wire;
use super::plan::Slip;
use super::world::{Event, SECOND, World};
use crate::oracle::{Invariant, NodeId};

/// A process that is told to end is gone, and the next one is there, after this.
const RESTART: u64 = 1_000_000;
/// How long a host needs to tell its engine of another MTU.
const NOTICING: u64 = 1_000_000;
/// How long nothing more is said of a peer that is no partner: ten seconds, by any clock.
const TOLD: u64 = 9_500_000_000;

impl World {
    /// A node's configuration becomes wrong in a way that it was not, or right in one.
    pub(super) fn slip(&mut self, host: usize, slip: Slip, wrong: bool) {
        let slips = &mut self.hosts[host].slips;
        if wrong {
            slips.push(slip);
        } else if let Some(at) = slips.iter().position(|known| *known == slip) {
            slips.remove(at);
        }
        self.start_anew(host);
    }

    /// Every configuration is right again.
    pub(super) fn mend_slips(&mut self) {
        for host in 0..2 {
            if !core::mem::take(&mut self.hosts[host].slips).is_empty() {
                self.start_anew(host);
            }
        }
    }

    fn start_anew(&mut self, host: usize) {
        // Whether the two are a pair is found out anew.
        self.hosts.iter_mut().for_each(|host| host.told_at = None);
        if self.hosts[host].engine.is_none() {
            return;
        }
        self.say(|| format!("{}: its operator starts it anew", NodeId(host as u8).name()));
        self.promise_before_end(host);
        self.end_process(host, Some(1_000_000));
        self.post(RESTART, Event::Start { host });
    }

    /// A host's engine says that its peer is no partner: for as long as nothing changes that is told
    /// once, and then at growing intervals.
    pub(super) fn hear_of_a_stranger(&mut self, host: usize) {
        self.tally.add("told of a peer that is no partner", 1);
        let last = self.hosts[host].told_at.replace(self.now);
        if let Some(last) = last.filter(|last| self.now - last < TOLD) {
            let seconds = (self.now - last) as f64 / SECOND as f64;
            let name = NodeId(host as u8).name();
            let text = format!("{name} says again after {seconds} s that its peer is no partner");
            self.complain(&Invariant::I7.to_string(), text);
        }
    }

    // ---- the LAN's MTU ----

    /// What a host's LAN interface carries.
    pub(super) fn host_mtu(&self, host: usize) -> u16 {
        let narrow = self.hosts[host].mtus.iter().min().copied();
        narrow.map_or(self.plan.pair.mtu, |mtu| mtu.min(self.plan.pair.mtu))
    }

    /// It is another one now: the engine hears of it after a moment.
    pub(super) fn host_mtu_changes(&mut self) {
        self.promise.mtus_at = self.now;
        for host in 0..2 {
            self.post(NOTICING, Event::Mtu { host });
        }
    }

    pub(super) fn host_mtu_is_known(&mut self, host: usize) {
        self.promise.mtus_at = self.now;
        if self.hosts[host].engine.is_some() {
            self.hosts[host].inbox.mtu = Some(self.host_mtu(host));
            self.want_turn(host);
        }
    }

    /// Whether a packet is too long for the LAN interface that it is to come in by.
    pub(super) fn is_too_long(&mut self, host: usize, packet: &Outgoing) -> bool {
        let mtu = self.host_mtu(host);
        if mtu >= self.plan.pair.mtu {
            return false;
        }
        let wire = to_wire(packet.vnet, &packet.packet).unwrap_or_default();
        let long = wire.iter().any(|packet| packet.len() > usize::from(mtu));
        self.tally.add("packet too long for a host", u64::from(long));
        long
    }
}
