//! ARP and neighbour discovery for the service addresses: who hears that we own them, and when.
//!
//! The kernel does not know the addresses, so everything a host does for its own is done here:
//!
//! * **Answering.** Who asks for an address gets an answer, if we own it (RFC 826, RFC 4861 §7.2.4).
//!   That includes a host that is about to take the address for itself and asks first (RFC 5227
//!   §2.4, RFC 4862 §5.4.3): the answer tells it to keep off.
//! * **Announcing.** After a takeover everybody on the LAN has the old owner's MAC address in a
//!   cache. Gratuitous ARP in both forms (some hosts heed only one) and unsolicited neighbour
//!   advertisements overwrite it. One may be lost, and caches live for hours, so they are repeated:
//!
//! ```text
//!     0    50   150      400         1 s            2 s             5 s      … then each 30 s
//!     ├────┼─────┼────────┼───────────┼──────────────┼───────────────┼
//! ```
//!
//! * **Noticing.** A frame in which another MAC address speaks as one of ours is reported, and the
//!   owner announces again at once. After a healed partition that is what brings caches back.
//! * **Probing.** Before a first start the LAN is asked whether anybody has the address (RFC 5227
//!   §2.1, RFC 4862 §5.4), so that the engine never competes with a stranger's host.
//!
//! Deviation: RFC 5227 §2.1.1 and RFC 4862 §5.4.3 also call it a conflict when two hosts probe for
//! one address at the same time. Here the other is most likely the peer, started together with us,
//! and both would give up. Which of the two takes the address is settled by their epochs, and a
//! stranger that takes it is noticed as a claimant.
//!
//! It is a pure machine: call [`Neighbour::on_frame`] and [`Neighbour::on_timer`], then
//! [`Neighbour::poll_frame`] until it has nothing more. Frames that it hands out while the write
//! gate is closed (I3) are to be dropped, not kept.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::time::{Duration, Instant};
use crate::wire::{
    ArpOp, ArpPacket, Frame, MacAddr, NeighbourAdvertisement, NeighbourFrame, NeighbourSolicitation,
};

/// Pauses between announcements after a takeover: at 0, 50, 150, 400 ms, 1, 2 and 5 s.
const ANNOUNCE_PAUSES: [Duration; 6] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_millis(1000),
    Duration::from_millis(3000),
];
/// Pause between announcements after that, for caches that missed them all.
const REFRESH: Duration = Duration::from_secs(30);
/// The least time between two restarts of the announcements because of another claimant.
const DEFEND_INTERVAL: Duration = Duration::from_secs(1);

/// Probes sent for each address. As many as RFC 5227 asks for, but ten times as fast: the engine
/// probes on one LAN of servers, where an answer takes microseconds, and nobody waits for DHCP.
const PROBES: u8 = 3;
/// Pause between probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// How long the last probe is given to be answered.
const PROBE_WAIT: Duration = Duration::from_millis(200);

/// Answers that may wait to be polled. More questions than that are not answered; who asked will
/// ask again.
const ANSWERS_MAX: usize = 64;

/// Whose addresses are spoken for, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The MAC address of the LAN interface, until [`Neighbour::on_mac`] tells of another.
    pub mac: MacAddr,
    /// The service addresses.
    pub addresses: Vec<IpAddr>,
    /// The router flag of neighbour advertisements. It follows the host's forwarding (RFC 4861
    /// §4.4): a peer that sees the flag cleared drops the host from its list of routers.
    pub router: bool,
}

/// What was learnt from the LAN.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Another MAC address speaks as one of our addresses. To a standby that is the primary.
    Claimed {
        /// The address.
        address: IpAddr,
        /// The hardware address that claims it.
        mac: MacAddr,
    },
    /// The probe is over and nobody has any of the addresses.
    Clear,
    /// The probe is over: somebody has this address.
    InUse {
        /// The address.
        address: IpAddr,
        /// The hardware address that has it.
        mac: MacAddr,
    },
}

/// Speaks and listens for the service addresses on one LAN.
#[derive(Debug)]
pub struct Neighbour {
    settings: Settings,
    frames: VecDeque<Frame>,
    announcing: Option<Announcing>,
    probing: Option<Probing>,
}

/// While owner.
#[derive(Clone, Copy, Debug)]
struct Announcing {
    /// Announcements made since the start or the last restart.
    made: usize,
    /// When the next one is due.
    due: Instant,
    /// Before this, another claimant does not restart the announcements.
    defend_from: Instant,
}

/// While asking whether the addresses are free.
#[derive(Clone, Copy, Debug)]
struct Probing {
    sent: u8,
    /// When the next probe, or the verdict, is due.
    due: Instant,
}

impl Neighbour {
    /// Silent at first.
    pub fn new(settings: Settings) -> Self {
        Self { settings, frames: VecDeque::new(), announcing: None, probing: None }
    }

    /// Takes one Ethernet frame from the LAN. `owner`: we own the addresses now, and may say so.
    pub fn on_frame(&mut self, now: Instant, frame: &[u8], owner: bool) -> Option<Event> {
        // What is not a sound frame tells nothing, and who sent it gets no answer.
        match NeighbourFrame::parse(frame).ok()? {
            NeighbourFrame::Arp(arp) => self.on_arp(now, &arp, owner),
            NeighbourFrame::Solicitation(ns) => self.on_solicitation(now, &ns, owner),
            NeighbourFrame::Advertisement(na) => self.on_advertisement(now, &na, owner),
            NeighbourFrame::Other => None,
        }
    }

    /// Takes note of the time; the verdict of a probe, if it is due. Call at [`Self::deadline`].
    pub fn on_timer(&mut self, now: Instant) -> Option<Event> {
        let probing = self.probing?;
        if probing.sent < PROBES || now < probing.due {
            return None;
        }
        self.probing = None;
        Some(Event::Clear)
    }

    /// Announces the addresses as ours, from the beginning. While that is under way already it is
    /// done again, but no sooner than a defence would be: two claimants must not race each other.
    pub fn announce(&mut self, now: Instant) {
        self.probing = None;
        if let Some(announcing) = &mut self.announcing {
            return announcing.defend(now);
        }
        self.announcing =
            Some(Announcing { made: 0, due: now, defend_from: now + DEFEND_INTERVAL });
    }

    /// The LAN interface has another MAC address from now on, as a bond has whose active member
    /// failed: nobody listens to the old one any more, and every cache on the LAN has it. So it is
    /// not said again, and what is under way begins anew with the new one, at once (RFC 5227 §2.3,
    /// RFC 4861 §7.2.6).
    pub fn on_mac(&mut self, now: Instant, mac: MacAddr) {
        if mac == self.settings.mac {
            return;
        }
        self.settings.mac = mac;
        self.frames.clear();
        if let Some(announcing) = &mut self.announcing {
            *announcing = Announcing { made: 0, due: now, defend_from: now + DEFEND_INTERVAL };
        }
        if let Some(probing) = &mut self.probing {
            *probing = Probing { sent: 0, due: now };
        }
    }

    /// Stops announcing and probing, and forgets every frame not yet polled.
    pub fn silence(&mut self) {
        self.announcing = None;
        self.probing = None;
        self.frames.clear();
    }

    /// Starts asking whether anybody has the addresses. The answer is an [`Event::Clear`] from
    /// [`Self::on_timer`] or an [`Event::InUse`] from [`Self::on_frame`], within 400 ms.
    pub fn probe(&mut self, now: Instant) {
        self.silence();
        self.probing = Some(Probing { sent: 0, due: now });
    }

    /// The next frame to put on the LAN now, with its Ethernet header.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Frame> {
        if self.frames.is_empty() {
            self.fill_probes(now);
            self.fill_announcements(now);
        }
        self.frames.pop_front()
    }

    /// When to call [`Self::on_timer`] and [`Self::poll_frame`] next. Frames that wait to be
    /// polled do not count.
    pub fn deadline(&self) -> Option<Instant> {
        let announcing = self.announcing.map(|announcing| announcing.due);
        let probing = self.probing.map(|probing| probing.due);
        announcing.into_iter().chain(probing).min()
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        self.settings.addresses.contains(&address)
    }

    fn on_arp(&mut self, now: Instant, arp: &ArpPacket, owner: bool) -> Option<Event> {
        if self.is_ours(arp.sender_ip.into()) {
            return self.on_claim(now, arp.sender_ip.into(), arp.sender_mac, owner);
        }
        if owner && arp.op == ArpOp::Request && self.is_ours(arp.target_ip.into()) {
            self.answer(ArpPacket::reply(arp, self.settings.mac).to_frame());
        }
        None
    }

    fn on_solicitation(
        &mut self,
        now: Instant,
        solicitation: &NeighbourSolicitation,
        owner: bool,
    ) -> Option<Event> {
        let NeighbourSolicitation { source, target, .. } = *solicitation;
        if self.is_ours(source.into()) {
            let mac = solicitation.source_link.unwrap_or(solicitation.source_mac);
            return self.on_claim(now, source.into(), mac, owner);
        }
        if owner && self.is_ours(target.into()) {
            let Settings { mac, router, .. } = self.settings;
            self.answer(NeighbourAdvertisement::reply(solicitation, mac, router).to_frame());
        }
        None
    }

    fn on_advertisement(
        &mut self,
        now: Instant,
        advertisement: &NeighbourAdvertisement,
        owner: bool,
    ) -> Option<Event> {
        let target = IpAddr::V6(advertisement.target);
        if !self.is_ours(target) {
            return None;
        }
        let mac = advertisement.target_link.unwrap_or(advertisement.source_mac);
        self.on_claim(now, target, mac, owner)
    }

    /// `mac` speaks as one of our addresses.
    fn on_claim(
        &mut self,
        now: Instant,
        address: IpAddr,
        mac: MacAddr,
        owner: bool,
    ) -> Option<Event> {
        if mac == self.settings.mac {
            return None; // Our own word, sent back by a switch.
        }
        if self.probing.take().is_some() {
            self.frames.clear();
            return Some(Event::InUse { address, mac });
        }
        if let Some(announcing) = self.announcing.as_mut().filter(|_| owner) {
            announcing.defend(now);
        }
        Some(Event::Claimed { address, mac })
    }

    fn answer(&mut self, frame: Frame) {
        if self.frames.len() < ANSWERS_MAX {
            self.frames.push_back(frame);
        }
    }

    fn fill_probes(&mut self, now: Instant) {
        let Some(probing) = self.probing.as_mut() else { return };
        if probing.sent == PROBES || now < probing.due {
            return;
        }
        probing.sent += 1;
        // From `now`: after a pause the probes must not crowd together.
        probing.due = now + if probing.sent == PROBES { PROBE_WAIT } else { PROBE_INTERVAL };
        for address in &self.settings.addresses {
            self.frames.push_back(probe(self.settings.mac, *address));
        }
    }

    fn fill_announcements(&mut self, now: Instant) {
        let Some(announcing) = self.announcing.as_mut() else { return };
        if now < announcing.due {
            return;
        }
        announcing.due = now + ANNOUNCE_PAUSES.get(announcing.made).copied().unwrap_or(REFRESH);
        announcing.made += 1;
        for address in &self.settings.addresses {
            self.frames.extend(announcements(&self.settings, *address));
        }
    }
}

impl Announcing {
    /// Another claimant was heard: announce again from the beginning, but not more often than
    /// once each [`DEFEND_INTERVAL`]; two engines that defend an address must not storm the LAN.
    fn defend(&mut self, now: Instant) {
        if now < self.defend_from {
            self.due = self.due.min(self.defend_from);
            return;
        }
        *self = Self { made: 0, due: now, defend_from: now + DEFEND_INTERVAL };
    }
}

/// Asks who has `address` without claiming it, so that no cache changes.
fn probe(mac: MacAddr, address: IpAddr) -> Frame {
    match address {
        IpAddr::V4(v4) => ArpPacket::probe(mac, v4).to_frame(),
        IpAddr::V6(v6) => NeighbourSolicitation::probe(mac, v6).to_frame(),
    }
}

/// Tells the LAN that `address` is here.
fn announcements(settings: &Settings, address: IpAddr) -> impl Iterator<Item = Frame> + use<> {
    let Settings { mac, router, .. } = *settings;
    let (first, second) = match address {
        IpAddr::V4(v4) => (
            ArpPacket::announcement_request(mac, v4).to_frame(),
            Some(ArpPacket::announcement_reply(mac, v4).to_frame()),
        ),
        IpAddr::V6(v6) => (NeighbourAdvertisement::announcement(mac, v6, router).to_frame(), None),
    };
    core::iter::once(first).chain(second)
}
