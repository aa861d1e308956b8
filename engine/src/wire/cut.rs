//! A TCP packet that is too long for where it goes, cut to size.
//!
//! With segmentation offload the kernel cuts: the packet stays whole, and its virtio header says how
//! large a piece may be. Without, the pieces are written here.
//!
//! ```text
//!  [ ip ][ tcp ][ text ………………………………… ]        gso_size = 1348, NEEDS_CSUM: the kernel cuts
//!  [ ip ][ tcp ][ text …… ][ ip ][ tcp ][ … ]   or we do
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{self, Sum};
use super::ip::{V4_LEN, V6_LEN, protocol};
use super::tcp_read::TCP_LEN;
use super::tcp_write::CHECKSUM_AT;
use super::{Flags, VnetHeader};

/// Where a segment of TCP lies in a packet, and into which pieces its text is to be cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    is_ipv6: bool,
    tcp_at: usize,
    text_at: usize,
    /// Bytes of text in each piece but the last.
    size: usize,
}

impl Cut {
    /// How to cut `packet`, which is what [`super::Rewrite::apply`] has left, with a segment of
    /// `segment_len` bytes at its end, so that no piece is longer than `mtu`. `None`: it need not be, as
    /// it or what the kernel makes of it is short enough, or cannot be.
    pub fn to_fit(mtu: u16, vnet: VnetHeader, packet: &[u8], segment_len: usize) -> Option<Self> {
        let mtu = usize::from(mtu);
        if packet.len() <= mtu {
            return None;
        }
        let is_ipv6 = packet.first()? >> 4 == 6;
        let tcp_at = packet.len().checked_sub(segment_len)?;
        let text_at = tcp_at + usize::from(packet.get(tcp_at + 12)? >> 4) * 4;
        let size = mtu.checked_sub(text_at).filter(|size| *size > 0)?;
        let fits = vnet.is_gso() && usize::from(vnet.gso_size) <= size;
        let sound = text_at >= tcp_at + TCP_LEN && text_at < packet.len();
        (sound && !fits).then_some(Self { is_ipv6, tcp_at, text_at, size })
    }

    /// Leaves the cutting to the kernel: what goes before the packet, which had `vnet` before it.
    pub fn offload(&self, vnet: VnetHeader, packet: &mut [u8]) -> VnetHeader {
        let segment_len = packet.len() - self.tcp_at;
        if !vnet.needs_csum() {
            let sum = self.pseudo_header(packet, segment_len).folded();
            let at = self.tcp_at + CHECKSUM_AT;
            packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let kind = if self.is_ipv6 { VnetHeader::GSO_TCPV6 } else { VnetHeader::GSO_TCPV4 };
        let flags = Flags::from_bits_retain(packet[self.tcp_at + 13]);
        let reduced = if flags.contains(Flags::CWR) { VnetHeader::GSO_ECN } else { 0 };
        VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: kind | reduced,
            header_len: self.text_at as u16,
            gso_size: self.size as u16,
            csum_start: self.tcp_at as u16,
            csum_offset: CHECKSUM_AT as u16,
        }
    }

    /// The pieces of `packet`, each whole with its checksums.
    pub fn pieces(&self, packet: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let Self { text_at, size, .. } = *self;
        let count = (packet.len() - text_at).div_ceil(size);
        (0..count).map(move |index| {
            let from = text_at + index * size;
            let text = &packet[from..packet.len().min(from + size)];
            let mut piece = [&packet[..text_at], text].concat();
            self.finish(&mut piece, index, index + 1 == count);
            piece
        })
    }

    fn finish(&self, piece: &mut [u8], index: usize, is_last: bool) {
        let (length, tcp_at) = (piece.len(), self.tcp_at);
        if self.is_ipv6 {
            piece[4..6].copy_from_slice(&((length - V6_LEN) as u16).to_be_bytes());
        } else {
            piece[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            let id = u16::from_be_bytes([piece[4], piece[5]]).wrapping_add(index as u16);
            piece[4..6].copy_from_slice(&id.to_be_bytes());
            piece[10..12].fill(0);
            let sum = checksum::checksum(&piece[..tcp_at]);
            piece[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let tcp = &mut piece[tcp_at..];
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let seq = seq.wrapping_add((index * self.size) as u32);
        tcp[4..8].copy_from_slice(&seq.to_be_bytes());
        let mut flags = Flags::from_bits_retain(tcp[13]);
        // What ends the text is in the last piece, and that the window was reduced is said once.
        flags.set(Flags::FIN, is_last && flags.contains(Flags::FIN));
        flags.set(Flags::PSH, is_last && flags.contains(Flags::PSH));
        flags.set(Flags::CWR, index == 0 && flags.contains(Flags::CWR));
        tcp[13] = flags.bits();
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
        let sum = self.pseudo_header(piece, length - tcp_at).add_bytes(&piece[tcp_at..]);
        let at = tcp_at + CHECKSUM_AT;
        piece[at..at + 2].copy_from_slice(&sum.checksum().to_be_bytes());
    }

    fn pseudo_header(&self, packet: &[u8], segment_len: usize) -> Sum {
        let address = |at: usize| -> IpAddr {
            match packet.get(at..).and_then(<[u8]>::first_chunk::<16>) {
                Some(bytes) if self.is_ipv6 => Ipv6Addr::from_octets(*bytes).into(),
                _ => {
                    Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]).into()
                }
            }
        };
        let (source, destination) = if self.is_ipv6 {
            (address(8), address(24))
        } else {
            (address(12), address(V4_LEN - 4))
        };
        checksum::pseudo_header(source, destination, protocol::TCP, segment_len as u32)
    }
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
