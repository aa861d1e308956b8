//! Packets out: whoever has something to send, by turns ([`Rota`]); of the connections each one
//! super-segment a turn.

use core::ops::Range;

use super::Engine;
use super::connection::Body;
use super::outbox::Loose;
use super::owner::{Owner, Queues};
use super::rota::{Rota, Sender};
use crate::ids::ConnId;
use crate::service::{self, App};
use crate::tcp::{CloseCause, Transmit};
use crate::time::Instant;
use crate::wire::{FourTuple, Offload, TcpHeader, VnetHeader};

/// Where a packet's payload begins in the buffer; the headers end right before it.
const HEADROOM: usize = 128;

/// Connections of one queue that are looked at for one that has something to say: many may have queued
/// for nothing, such as those that wait for the content store.
const LOOKS: usize = 64;

/// The buffer that [`Engine::poll_packet`] needs, in bytes.
pub(crate) const PACKET_BUFFER: usize = HEADROOM + 65_536;

impl Engine {
    /// The next packet for the TUN: virtio header and IP packet lie at the returned range of
    /// `buffer`, which must be [`PACKET_BUFFER`] long. `None`: nothing more to send, or nothing found
    /// in a reasonable time, which [`Self::has_packets`] tells apart.
    pub(crate) fn poll_packet(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        for _ in 0..Rota::SENDERS {
            let sender = self.speaker()?.rota.sender();
            let range = self.poll_sender(now, sender, buffer);
            let rota = &mut self.duty.owner_mut()?.rota;
            if let Some(range) = range {
                rota.note_sent(range.end - range.start);
                self.stats.packets_out += 1;
                return Some(range);
            }
            rota.pass();
        }
        None
    }

    /// Whether [`Self::poll_packet`] has something to look at.
    pub(crate) fn has_packets(&self) -> bool {
        let Some(owner) = self.duty.owner().filter(|owner| owner.speaks) else { return false };
        let Queues { ready, quiet, .. } = &owner.queues;
        let none = owner.outbox.is_empty() && ready.is_empty() && quiet.is_empty();
        !none || owner.questions.is_due() || self.relays.has_headers()
    }

    /// What it has to speak with, if it may.
    fn speaker(&mut self) -> Option<&mut Owner> {
        self.duty.owner_mut().filter(|owner| owner.speaks)
    }

    fn poll_sender(
        &mut self,
        now: Instant,
        sender: Sender,
        buffer: &mut [u8],
    ) -> Option<Range<usize>> {
        match sender {
            Sender::Loose => {
                let loose = self.speaker()?.outbox.pop()?;
                Some(self.write_loose(&loose, buffer))
            }
            Sender::Relays => {
                if let Some(header) = self.relays.poll_header() {
                    return Some(self.write_header(header, &[], buffer));
                }
                let (header, text) = self.relays.poll_request()?;
                Some(self.write_header(header, &text, buffer))
            }
            Sender::Ready => self.poll_ready(now, buffer),
            Sender::Quiet => self.poll_quiet(now, buffer),
            Sender::Questions => self.poll_question(now, buffer),
        }
    }

    /// The connection that is first in the queue, if it has something to say, else the next. It goes
    /// to the end of the queue: everyone gets a turn.
    fn poll_ready(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        for _ in 0..LOOKS {
            let id = self.speaker()?.queues.ready.front().copied()?;
            let said = self.poll_connection(now, id, buffer);
            let ready = &mut self.speaker()?.queues.ready;
            ready.pop_front();
            if let Some((tuple, transmit)) = said {
                ready.push_back(id);
                return Some(self.write_segment(tuple, &transmit, buffer));
            }
            self.arm(now, id);
        }
        None
    }

    /// A connection that only has to say that the path is good, unless it has come to say more.
    fn poll_quiet(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        for _ in 0..LOOKS {
            let id = self.speaker()?.queues.quiet.pop_front()?;
            if self.table.get_mut(id).is_none_or(|connection| connection.queued) {
                continue;
            }
            let said = self.poll_connection(now, id, buffer);
            self.touch(now, id);
            if let Some((tuple, transmit)) = said {
                return Some(self.write_segment(tuple, &transmit, buffer));
            }
        }
        None
    }

    fn poll_question(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        for _ in 0..LOOKS {
            let (tuple, question) = self.speaker()?.questions.poll(now)?;
            if self.table.find(tuple).is_none() && !self.relays.has_leg(&tuple) {
                return Some(self.write_segment(tuple, &question, buffer));
            }
            // Its end has connected anew meanwhile.
            self.speaker()?.questions.forget(&tuple);
        }
        None
    }

    fn poll_connection(
        &mut self,
        now: Instant,
        id: ConnId,
        buffer: &mut [u8],
    ) -> Option<(FourTuple, Transmit)> {
        let Self { table, store, work, .. } = self;
        *work += 1;
        let connection = table.get_mut(id)?;
        let Body::Live(tcb) = &mut connection.body else { return None };
        let (app, mut gone) = (&mut connection.app, false);
        let room = &mut buffer[HEADROOM..];
        let mut fetch = |range: Range<u64>| match fetch(app, range, room, store.of(id)) {
            service::Read::Ready(count) => count,
            // The store will tell.
            service::Read::Pending => 0,
            service::Read::Gone => {
                gone = true;
                0
            }
        };
        let transmit = tcb.poll_transmit(now, &mut fetch);
        if transmit.is_none() {
            connection.queued = false;
        }
        let tuple = connection.tuple;
        let closed = tcb.closed();
        if gone {
            // The content changed under the reply, or is not what the last owner sent.
            self.fail(now, id);
        }
        if closed {
            self.end(now, id, CloseCause::Aborted);
        }
        let transmit = transmit?;
        self.stats.bytes_out += transmit.payload as u64;
        Some((tuple, transmit))
    }

    fn write_loose(&mut self, loose: &Loose, buffer: &mut [u8]) -> Range<usize> {
        match loose {
            Loose::Segment(tuple, transmit) => self.write_segment(*tuple, transmit, buffer),
            Loose::Packet(packet) => {
                let start = HEADROOM - VnetHeader::LEN;
                write_vnet(VnetHeader::PLAIN, &mut buffer[start..]);
                buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
                start..HEADROOM + packet.len()
            }
        }
    }

    /// A segment that relays send themselves.
    fn write_header(&mut self, header: TcpHeader, text: &[u8], buffer: &mut [u8]) -> Range<usize> {
        self.ip_id = self.ip_id.wrapping_add(1);
        let header = TcpHeader { ip_id: self.ip_id, ..header };
        let start = HEADROOM - header.len();
        let end = HEADROOM + text.len();
        buffer[HEADROOM..end].copy_from_slice(text);
        let offload = if self.setup.offload { Offload::Partial { mss: 0 } } else { Offload::Full };
        let vnet = header.write(&mut buffer[start..], text.len(), offload);
        let start = start - VnetHeader::LEN;
        write_vnet(vnet, &mut buffer[start..]);
        start..end
    }

    /// Puts the headers before a payload that lies at the headroom's end.
    fn write_segment(
        &mut self,
        tuple: FourTuple,
        transmit: &Transmit,
        buffer: &mut [u8],
    ) -> Range<usize> {
        self.ip_id = self.ip_id.wrapping_add(1);
        let header = transmit.header(tuple, self.ip_id);
        let offload = match self.setup.offload {
            true => Offload::Partial { mss: transmit.mss },
            false => Offload::Full,
        };
        let start = HEADROOM - header.len();
        #[cfg(feature = "defects")]
        if transmit.payload > 0
            && self.stats.takeovers > 0
            && self.setup.has(crate::defects::Defect::WrongByteAfterTakeover)
        {
            buffer[HEADROOM] ^= 1;
        }
        let vnet = header.write(&mut buffer[start..], transmit.payload, offload);
        let start = start - VnetHeader::LEN;
        write_vnet(vnet, &mut buffer[start..]);
        start..HEADROOM + transmit.payload
    }
}

fn write_vnet(vnet: VnetHeader, room: &mut [u8]) {
    if let Some(place) = room.first_chunk_mut() {
        vnet.write(place);
    }
}

fn fetch(
    app: &mut App,
    range: Range<u64>,
    room: &mut [u8],
    store: &mut dyn service::Store,
) -> service::Read {
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX).min(room.len());
    app.read(range.start..range.start + length as u64, &mut room[..length], store)
}
