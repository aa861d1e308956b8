//! What comes for the service address in another upper layer than TCP: its sender is told that nobody
//! here speaks it, or has that port, as by any host. Anybody can cause such answers, so they have part in
//! the bound on errors ([`super::outbox`]).

use super::Engine;
use super::outbox::{Kind, Loose};
use crate::tcp;
use crate::time::Instant;
use crate::wire::{ChecksumState, DropReason, IpPacket, write_unserved};

impl Engine {
    /// A whole datagram that is neither TCP nor ICMP.
    pub(super) fn refuse_datagram(
        &mut self,
        now: Instant,
        datagram: &IpPacket<'_>,
        check: ChecksumState,
    ) {
        self.stats.not_for_us += 1;
        if !self.has_announced() || !self.may_send_error(now) {
            return;
        }
        self.ip_id = self.ip_id.wrapping_add(1);
        let mut answer = Vec::new();
        match write_unserved(datagram, check, tcp::HOP_LIMIT, self.ip_id, &mut answer) {
            Ok(()) => self.push(Kind::Error, Loose::Packet(answer)),
            Err(DropReason::NotForUs) => {}
            Err(_) => self.stats.malformed += 1,
        }
    }
}
