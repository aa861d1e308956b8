//! Datagrams to fragments: RFC 791 §3.2, RFC 8200 §4.5.
//!
//! TCP never needs it. An answer to a ping can be as long as the ping, and IPv6 routers do not
//! fragment for us.

use super::FragmentInfo;
use super::ip::{V4_LEN, V6_LEN, make_v4_fragment};

/// The next-header number of the fragment header, and its length.
const FRAGMENT_HEADER: u8 = 44;
const FRAGMENT_HEADER_LEN: usize = 8;

/// Cuts a packet of ours into pieces that fit a link.
#[derive(Clone, Debug)]
pub struct Fragments<'a> {
    packet: &'a [u8],
    ip_len: usize,
    mtu: usize,
    id: u32,
    /// How much of the payload has been handed out; `None` when all has.
    sent: Option<usize>,
}

impl<'a> Fragments<'a> {
    /// The pieces of `packet`: a whole IPv4 packet without options or IPv6 packet without
    /// extension headers, as this module writes them. A packet no longer than `mtu` is its own only
    /// piece. An MTU below what IP allows (68 and 1280 bytes) counts as that. Of `id`, IPv4 has
    /// room for the low 16 bits.
    pub fn of(packet: &'a [u8], mtu: usize, id: u32) -> Self {
        let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        let (ip_len, mtu_min) = if is_v6 { (V6_LEN, 1280) } else { (V4_LEN, 68) };
        let sent = (packet.len() >= ip_len).then_some(0);
        Self { packet, ip_len, mtu: mtu.max(mtu_min), id, sent }
    }

    /// Writes the next piece to the start of `buf` and returns its length; `None` after the last.
    ///
    /// # Panics
    ///
    /// If `buf` is shorter than the piece, which is no longer than the MTU.
    pub fn write_next(&mut self, buf: &mut [u8]) -> Option<usize> {
        let sent = self.sent?;
        if self.packet.len() <= self.mtu {
            self.sent = None;
            buf[..self.packet.len()].copy_from_slice(self.packet);
            return Some(self.packet.len());
        }
        let (ip, payload) = self.packet.split_at(self.ip_len);
        let header_len = self.ip_len + if self.is_v6() { FRAGMENT_HEADER_LEN } else { 0 };
        let room = (self.mtu - header_len) / 8 * 8;
        let end = payload.len().min(sent + room);
        let more = end < payload.len();
        self.sent = more.then_some(end);
        let piece = &mut buf[..header_len + end - sent];
        piece[..self.ip_len].copy_from_slice(ip);
        piece[header_len..].copy_from_slice(&payload[sent..end]);
        self.write_headers(piece, FragmentInfo { id: self.id, offset: sent as u32, more });
        Some(piece.len())
    }

    fn is_v6(&self) -> bool {
        self.ip_len == V6_LEN
    }

    fn write_headers(&self, piece: &mut [u8], fragment: FragmentInfo) {
        let length = piece.len();
        if !self.is_v6() {
            if let Some(header) = piece.first_chunk_mut::<V4_LEN>() {
                make_v4_fragment(header, fragment, length as u16);
            }
            return;
        }
        let next_header = core::mem::replace(&mut piece[6], FRAGMENT_HEADER);
        piece[4..6].copy_from_slice(&((length - V6_LEN) as u16).to_be_bytes());
        let word = fragment.offset as u16 | u16::from(fragment.more);
        let header = &mut piece[V6_LEN..V6_LEN + FRAGMENT_HEADER_LEN];
        header[0] = next_header;
        header[1] = 0;
        header[2..4].copy_from_slice(&word.to_be_bytes());
        header[4..8].copy_from_slice(&fragment.id.to_be_bytes());
    }
}
