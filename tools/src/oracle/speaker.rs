//! I3 and I5: who speaks for the address, and what it did before.
//!
//! To speak is to put an IP packet out, or a frame that claims a service address. One node at a
//! time: after another node has spoken in a later epoch, a node is silent until it owns a later one
//! still. The exception is a later owner that stands still or is dead: it does not speak, and a
//! node that has started since knows nothing of its epoch. When the sleeper speaks again, its later
//! epoch counts. A process that has ended speaks no more, and epochs are not kept on a disk: whoever speaks
//! after it does so in any epoch that it knows. Before anything else its routes are in; before the first packet from an address that
//! address has been claimed on the LAN.

use core::net::IpAddr;
use std::collections::BTreeSet;

use super::book::Book;
use super::sight::NodeId;
use super::violation::{Complaints, Invariant};

#[derive(Debug, Default)]
pub(super) struct Speakers {
    /// The node that spoke last, and in which epoch.
    last: Option<(NodeId, u64)>,
    /// The addresses that each node has claimed since it became owner.
    claimed: [BTreeSet<IpAddr>; 2],
    /// What has been complained of in this ownership is not news in it.
    silenced: [bool; 2],
}

impl Speakers {
    /// `node` becomes owner, or is one no more, or is another process.
    pub(super) fn on_change(&mut self, node: NodeId) {
        self.claimed[node.index()].clear();
        self.silenced[node.index()] = false;
    }

    /// The process of `node` is gone. What it spoke in is known to whoever heard it; if nobody
    /// lives who did, the count of epochs begins anew.
    pub(super) fn on_process(&mut self, node: NodeId) {
        if self.last.is_some_and(|(speaker, _)| speaker == node) {
            self.last = None;
        }
        self.on_change(node);
    }

    /// A frame that claims `address`.
    pub(super) fn on_claim(
        &mut self,
        node: NodeId,
        address: IpAddr,
        book: &Book,
        complaints: &mut Complaints,
    ) {
        self.speak(node, "claims the address", book, complaints);
        self.claimed[node.index()].insert(address);
    }

    /// A packet from `address`.
    pub(super) fn on_packet(
        &mut self,
        node: NodeId,
        address: IpAddr,
        book: &Book,
        complaints: &mut Complaints,
    ) {
        self.speak(node, "sends a packet", book, complaints);
        if !self.claimed[node.index()].contains(&address) && !self.silenced[node.index()] {
            self.silenced[node.index()] = true;
            let text = format!("{} sends from {address} before it claimed it", node.name());
            complaints.say(Invariant::I5, text);
        }
    }

    fn speak(&mut self, node: NodeId, what: &str, book: &Book, complaints: &mut Complaints) {
        let one = book.node(node);
        let name = node.name();
        if !one.routes && !self.silenced[node.index()] {
            self.silenced[node.index()] = true;
            complaints.say(Invariant::I5, format!("{name} {what} without its routes"));
        }
        let epoch = one.epoch;
        match self.last {
            _ if !one.owner => {
                complaints.say(Invariant::I3, format!("{name} {what} and is not the owner"));
                return;
            }
            Some((other, later))
                if other != node && later > epoch && !book.node(other).is_awake() => {}
            Some((other, later)) if other != node && later >= epoch => {
                let other = other.name();
                let text = format!("{name} {what} in epoch {epoch}, {other} spoke in {later}");
                complaints.say(Invariant::I3, text);
                return;
            }
            Some((_, later)) if later > epoch => {
                let text = format!("{name} {what} in epoch {epoch}, having spoken in {later}");
                complaints.say(Invariant::I3, text);
                return;
            }
            Some(_) | None => {}
        }
        self.last = Some((node, epoch));
    }
}
