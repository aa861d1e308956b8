//! Packets out: whoever has something to send, by turns ([`Rota`]); of the connections each one
//! super-segment a turn.

use core::ops::Range;

use super::Engine;
use super::connection::Body;
use super::outbox::Loose;
use super::rota::{Rota, Sender};
use crate::ids::ConnId;
use crate::service::{self, App};
use crate::tcp::{CloseCause, Transmit};
use crate::time::Instant;
use crate::wire::{FourTuple, Offload, TcpHeader, VnetHeader};

/// Where a packet's payload begins in the buffer; the headers end right before it.
const HEADROOM: usize = 128;

/// The buffer that [`Engine::poll_packet`] needs, in bytes.
pub const PACKET_BUFFER: usize = HEADROOM + 65_536;

impl Engine {
    /// The next packet for the TUN: virtio header and IP packet lie at the returned range of
    /// `buffer`, which must be [`PACKET_BUFFER`] long. `None`: nothing more to send now.
    pub fn poll_packet(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        if !self.owner {
            return None;
        }
        for _ in 0..Rota::SENDERS {
            if let Some(range) = self.poll_sender(now, self.rota.sender(), buffer) {
                self.stats.packets_out += 1;
                self.rota.note_sent(range.end - range.start);
                return Some(range);
            }
            self.rota.pass();
        }
        None
    }

    /// Whether [`Self::poll_packet`] has something to look at.
    pub fn has_packets(&self) -> bool {
        let quiet = self.outbox.is_empty() && self.ready.is_empty() && self.quiet.is_empty();
        self.owner && (!quiet || self.questions.is_due() || self.relays.has_headers())
    }

    fn poll_sender(
        &mut self,
        now: Instant,
        sender: Sender,
        buffer: &mut [u8],
    ) -> Option<Range<usize>> {
        match sender {
            Sender::Loose => {
                let loose = self.outbox.pop()?;
                Some(self.write_loose(&loose, buffer))
            }
            Sender::Relays => {
                let header = self.relays.poll_header()?;
                Some(self.write_header(header, buffer))
            }
            Sender::Ready => self.poll_ready(now, buffer),
            Sender::Quiet => self.poll_quiet(now, buffer),
            Sender::Questions => self.poll_question(now, buffer),
        }
    }

    /// The connection that is first in the queue, if it has something to say, else the next. It goes
    /// to the end of the queue: everyone gets a turn.
    fn poll_ready(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        while let Some(id) = self.ready.front().copied() {
            if let Some((tuple, transmit)) = self.poll_connection(now, id, buffer) {
                self.ready.rotate_left(1);
                return Some(self.write_segment(tuple, &transmit, buffer));
            }
            self.ready.pop_front();
            self.arm(now, id);
        }
        None
    }

    /// A connection that only has to say that the path is good, unless it has come to say more.
    fn poll_quiet(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Range<usize>> {
        while let Some(id) = self.quiet.pop_front() {
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
        while let Some((tuple, question)) = self.questions.poll(now) {
            if self.table.find(tuple).is_none() && !self.relays.has_leg(&tuple) {
                return Some(self.write_segment(tuple, &question, buffer));
            }
            // Its end has connected anew meanwhile.
            self.questions.forget(&tuple);
        }
        None
    }

    fn poll_connection(
        &mut self,
        now: Instant,
        id: ConnId,
        buffer: &mut [u8],
    ) -> Option<(FourTuple, Transmit)> {
        let Self { table, store, .. } = self;
        let connection = table.get_mut(id)?;
        let Body::Live(tcb) = &mut connection.body else { return None };
        let (app, mut gone, mut pending) = (&mut connection.app, false, false);
        let room = &mut buffer[HEADROOM..];
        let mut fetch = |range: Range<u64>| match fetch(app, range, room, store.as_mut()) {
            service::Read::Ready(count) => count,
            service::Read::Pending => {
                pending = true;
                0
            }
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
        if pending {
            self.await_content(id);
        }
        if closed {
            self.end(id, CloseCause::Aborted);
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

    /// A segment that relays send themselves, without text.
    fn write_header(&mut self, header: TcpHeader, buffer: &mut [u8]) -> Range<usize> {
        self.ip_id = self.ip_id.wrapping_add(1);
        let header = TcpHeader { ip_id: self.ip_id, ..header };
        let start = HEADROOM - header.len();
        let offload = if self.setup.offload { Offload::Partial { mss: 0 } } else { Offload::Full };
        let vnet = header.write(&mut buffer[start..], 0, offload);
        let start = start - VnetHeader::LEN;
        write_vnet(vnet, &mut buffer[start..]);
        start..HEADROOM
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
