//! A client host's neighbour cache: where it believes the service address to be.
//!
//! It behaves like real ones. An announcement may be ignored. An entry is trusted for a while after
//! it was confirmed, then used in doubt, then asked for at the place where it was (RFC 4861
//! §7.3, which Linux does for ARP too), and only when nobody answers there is everybody asked:
//!
//! ```text
//!            answer                    time                    sent to
//!  Empty ──────────────► Reachable ──────────► Stale ──────────────────► Doubt
//!    ▲ ask all               ▲                   ▲ announcement             │ time
//!    │                       │ answer            │                          ▼
//!    └────── no answer ──────┴───────────────────┴─────────────────────── Probing (ask one)
//! ```

use core::net::IpAddr;
use std::collections::VecDeque;

use super::client::Outgoing;
use super::plan::MachinePlan;
use standin::wire::{ArpOp, ArpPacket, MacAddr, NeighbourFrame, NeighbourSolicitation};

/// Questions to one place, or to all, before the answer is given up.
const TRIES: u8 = 3;
/// Packets that wait for an answer, as in Linux of old.
const WAITING: usize = 3;

/// How sure the machine is of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is known; `asked` is how often everybody was asked.
    Empty { asked: u8, next: u64 },
    /// Confirmed.
    Reachable { until: u64 },
    /// Known, and not confirmed lately.
    Stale,
    /// The same, and used; it will be asked then.
    Doubt { until: u64 },
    /// It is being asked.
    Probing { asked: u8, next: u64 },
}

/// One address in one machine's cache.
#[derive(Debug)]
pub(super) struct Entry {
    plan: MachinePlan,
    /// The machine's own addresses.
    own_mac: MacAddr,
    own: IpAddr,
    target: IpAddr,
    mac: MacAddr,
    state: State,
    waiting: VecDeque<Outgoing>,
}

/// Whether an announcement that would have changed an entry was heeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heed {
    /// It was, or the frame was none.
    Yes,
    /// It was not: the entry is wrong from now on.
    No,
}

/// What the machine does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Sends an IP packet to this hardware address.
    Packet(MacAddr, Outgoing),
    /// Puts a frame on the LAN.
    Frame(Vec<u8>),
}

impl Entry {
    pub(super) fn new(plan: MachinePlan, own_mac: MacAddr, own: IpAddr, target: IpAddr) -> Self {
        Self {
            plan,
            own_mac,
            own,
            target,
            mac: MacAddr::ZERO,
            state: State::Empty { asked: 0, next: u64::MAX },
            waiting: VecDeque::new(),
        }
    }

    /// A packet for the address is to be sent.
    pub(super) fn send(&mut self, now: u64, packet: Outgoing, out: &mut Vec<Output>) {
        match self.state {
            State::Empty { next, .. } => {
                if self.waiting.len() == WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back(packet);
                if next == u64::MAX {
                    self.ask_all(now, 0, out);
                }
                return;
            }
            State::Reachable { until } if now < until => {}
            State::Reachable { .. } | State::Stale => {
                self.state = State::Doubt { until: now + self.plan.doubt_us * 1000 };
            }
            State::Doubt { .. } | State::Probing { .. } => {}
        }
        out.push(Output::Packet(self.mac, packet));
    }

    /// When something is due.
    pub(super) const fn deadline(&self) -> u64 {
        match self.state {
            State::Empty { next, .. } | State::Probing { next, .. } => next,
            State::Doubt { until } => until,
            State::Reachable { .. } | State::Stale => u64::MAX,
        }
    }

    /// Time has passed.
    pub(super) fn on_timer(&mut self, now: u64, out: &mut Vec<Output>) {
        if now < self.deadline() {
            return;
        }
        match self.state {
            State::Doubt { .. } => self.ask_one(now, 0, out),
            State::Probing { asked, .. } if asked < TRIES => self.ask_one(now, asked, out),
            State::Probing { .. } => self.ask_all(now, 0, out),
            State::Empty { .. } if self.waiting.is_empty() => {
                self.state = State::Empty { asked: 0, next: u64::MAX };
            }
            State::Empty { asked, .. } if asked >= TRIES => {
                // Host unreachable: what waits is lost, and the next packet asks anew.
                self.waiting.clear();
                self.state = State::Empty { asked: 0, next: u64::MAX };
            }
            State::Empty { asked, .. } => self.ask_all(now, asked, out),
            State::Reachable { .. } | State::Stale => {}
        }
    }

    /// A packet of the address came from this place.
    pub(super) fn confirm(&mut self, now: u64, mac: MacAddr) {
        if self.plan.confirms && mac == self.mac && !matches!(self.state, State::Empty { .. }) {
            self.state = State::Reachable { until: now + self.plan.reachable_us * 1000 };
        }
    }

    /// A frame came from the LAN. `heeds`: if it is an announcement, whether it is heeded.
    pub(super) fn on_frame(
        &mut self,
        now: u64,
        frame: &[u8],
        heeds: bool,
        out: &mut Vec<Output>,
    ) -> Heed {
        match NeighbourFrame::parse(frame) {
            Ok(NeighbourFrame::Arp(arp)) if IpAddr::V4(arp.sender_ip) == self.target => {
                let answer = arp.op == ArpOp::Reply && IpAddr::V4(arp.target_ip) == self.own;
                self.learn(now, arp.sender_mac, answer, heeds, out)
            }
            Ok(NeighbourFrame::Advertisement(na)) if IpAddr::V6(na.target) == self.target => {
                let mac = na.target_link.unwrap_or(na.source_mac);
                self.learn(now, mac, na.flags.solicited, heeds, out)
            }
            Ok(_) | Err(_) => Heed::Yes,
        }
    }

    fn learn(
        &mut self,
        now: u64,
        mac: MacAddr,
        answer: bool,
        heeds: bool,
        out: &mut Vec<Output>,
    ) -> Heed {
        let asked = matches!(self.state, State::Empty { .. } | State::Probing { .. });
        if answer && asked {
            self.mac = mac;
            self.state = State::Reachable { until: now + self.plan.reachable_us * 1000 };
            out.extend(self.waiting.drain(..).map(|packet| Output::Packet(mac, packet)));
        } else if !answer && !matches!(self.state, State::Empty { .. }) && mac != self.mac {
            if !heeds {
                return Heed::No;
            }
            self.mac = mac;
            self.state = State::Stale;
        }
        Heed::Yes
    }

    fn ask_all(&mut self, now: u64, asked: u8, out: &mut Vec<Output>) {
        self.state = State::Empty { asked: asked + 1, next: now + self.plan.retry_us * 1000 };
        out.push(Output::Frame(self.question(None)));
    }

    fn ask_one(&mut self, now: u64, asked: u8, out: &mut Vec<Output>) {
        self.state = State::Probing { asked: asked + 1, next: now + self.plan.retry_us * 1000 };
        out.push(Output::Frame(self.question(Some(self.mac))));
    }

    fn question(&self, to: Option<MacAddr>) -> Vec<u8> {
        let mut frame = match (self.own, self.target) {
            (IpAddr::V4(own), IpAddr::V4(target)) => {
                ArpPacket::request(self.own_mac, own, target).to_frame().to_vec()
            }
            (IpAddr::V6(own), IpAddr::V6(target)) => {
                NeighbourSolicitation::request(self.own_mac, own, target).to_frame().to_vec()
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
        };
        if let (Some(mac), Some(destination)) = (to, frame.first_chunk_mut::<6>()) {
            *destination = mac.0;
        }
        frame
    }
}
