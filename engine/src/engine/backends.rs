//! An operator's word about the servers behind relays: taken by the owner, told to the standby, carried out on
//! what they have.
//!
//! `relay` knows what it means for new clients, and walks over what a server has. Here that becomes records
//! and ends:
//!
//! ```text
//!   on_backend_order ─► Event::State ─► Record::BackendState ─► … confirmed ─► the operator is answered
//!   or a death
//!        a walk ─┬─► Event::Leave(leg) ─► Record::Leave ─► the session leaves its server, on both nodes
//!                ├─► Event::Break(leg) ─► the leg ends, and its session goes elsewhere, or ends
//!                └─► Event::Cut(splice) ─► both ends are asked where they are, and reset for their answer
//! ```

use super::Engine;
use crate::ids::Lsn;
use crate::relay::{Admin, Event as RelayEvent, Order, State};
use crate::replica::{BackendAdmin, Record};
use crate::service::Place;
use crate::session::Event;
use crate::time::Instant;
use crate::wire::{Endpoint, FourTuple};

use super::relaying::VERSION_BACKENDS;

/// What has become of an operator's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obeyed {
    /// What was done, in a line for a person.
    pub text: String,
    /// Where the log says so. `None`: there is no standby that could be told.
    pub lsn: Option<Lsn>,
}

/// Whether the standby knows what the log says at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It does.
    Yes,
    /// It will, or be gone.
    NotYet,
    /// There is none any more.
    Alone,
}

impl Engine {
    /// An operator says what a server is there for. The error is for a person.
    pub fn on_backend_order(&mut self, now: Instant, order: &Order) -> Result<Obeyed, String> {
        if !self.owns() {
            let (node, role) = (self.setup.node, self.roles.role());
            return Err(format!(
                "node {node} is {role}: what a backend is there for is said to the primary. Ask node {}, on its \
                 host",
                node.peer()
            ));
        }
        let ports = self.relays.obey(now, order)?;
        self.follow_relays(now);
        let told = self.is_attached() && self.link.speaks(VERSION_BACKENDS);
        let lsn = told.then(|| self.log_positions().0);
        let mut text = describe(order, &ports);
        for port in ports {
            if self.relays.takes_nobody(port, order.address) {
                let family = if order.address.is_ipv6() { "IPv6" } else { "IPv4" };
                text.push_str(&format!(
                    "\nrelay {port} has no other {family} backend that takes clients: those that come now are not \
                     served"
                ));
            }
        }
        if lsn.is_none() {
            text.push_str(match self.is_attached() {
                true => {
                    "\nthe standby is of a version that does not know of it: a takeover forgets it"
                }
                false => "\nthere is no standby: it is forgotten if this engine ends",
            });
        }
        Ok(Obeyed { text, lsn })
    }

    /// Whether the standby knows what the log says at `lsn`.
    pub fn is_known(&self, lsn: Lsn) -> Known {
        match self.duty.standby() {
            None => Known::Alone,
            Some(standby) if standby.log.confirmed() >= lsn => Known::Yes,
            Some(_) => Known::NotYet,
        }
    }

    /// Carries out what relays want of a backend, or of what it has.
    pub(super) fn follow_backend(&mut self, now: Instant, event: &RelayEvent) {
        match *event {
            RelayEvent::State { port, address, state } => {
                self.replicate_state(port, address, state);
            }
            RelayEvent::Cut(splice) => self.ask_splice(now, &splice),
            RelayEvent::Leave(leg) => self.leave_server(now, leg),
            RelayEvent::Break(leg) => self.break_leg(now, leg),
            RelayEvent::Spliced(_)
            | RelayEvent::Stage(..)
            | RelayEvent::Unspliced(_)
            | RelayEvent::Backend { .. }
            | RelayEvent::Dead { .. }
            | RelayEvent::Health { .. } => {}
        }
    }

    /// Tells the standby, if it knows the word.
    fn replicate_state(&mut self, port: u16, address: Endpoint, state: State) {
        if !self.is_attached() || !self.link.speaks(VERSION_BACKENDS) {
            return;
        }
        let State { admin, weight, cut } = state;
        let admin = match admin {
            Admin::Ready => BackendAdmin::Ready,
            Admin::Drain => BackendAdmin::Drain,
            Admin::Maint => BackendAdmin::Maint,
        };
        self.append(&Record::BackendState { port, address, admin, weight, cut });
    }

    /// Tells a new standby what has been said of every backend.
    pub(super) fn replicate_states(&mut self) {
        let said: Vec<_> = self.relays.states().collect();
        for (port, address, state) in said {
            self.replicate_state(port, address, state);
        }
    }

    /// Follower: what the owner was told.
    pub(super) fn hold_state(
        &mut self,
        now: Instant,
        port: u16,
        address: Endpoint,
        admin: BackendAdmin,
        weight: Option<u16>,
        cut: bool,
    ) {
        let admin = match admin {
            BackendAdmin::Ready => Admin::Ready,
            BackendAdmin::Drain => Admin::Drain,
            BackendAdmin::Maint => Admin::Maint,
        };
        self.relays.hold_state(now, port, address, State { admin, weight, cut });
    }

    /// The session of `leg` is to give its server no other request.
    fn leave_server(&mut self, now: Instant, leg: FourTuple) {
        let Some(id) = self.table.find(leg) else { return };
        self.wake(now, id);
        let Some(connection) = self.table.get_mut(id) else { return };
        let Some(Place { slot, .. }) = connection.place() else { return };
        let told = connection.replicated;
        if !self.sessions.can_leave(slot) {
            return;
        }
        self.work += 1;
        let last = if told { self.append(&Record::Leave { conn: id }) } else { None };
        self.call_session(now, slot, Event::Leave, None, last);
    }

    fn break_leg(&mut self, now: Instant, leg: FourTuple) {
        let Some(id) = self.table.find(leg) else { return };
        self.work += 1;
        self.wake(now, id);
        self.break_off(now, id);
    }
}

/// What was done, for a person.
fn describe(order: &Order, ports: &[u16]) -> String {
    let Order { address, port: _, admin, weight, cut } = *order;
    let mut done = Vec::new();
    done.extend(admin.map(|admin| format!("is {admin}")));
    done.extend(weight.map(|weight| format!("has weight {weight}")));
    if cut {
        done.push("loses what it has".to_owned());
    }
    let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let relays = if ports.len() == 1 { "relay" } else { "relays" };
    format!("{relays} {}: backend {address} {}", ports.join(", "), done.join(", "))
}
