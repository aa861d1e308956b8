//! IP fragments: a client's host on a narrow path cuts what it sends.
//!
//! An engine puts them together. What it then has, an observer is to see, too: so whoever hands
//! fragments to a process asks here when a datagram of them is whole.

use std::collections::{BTreeMap, BTreeSet};

use standin::wire::checksum::checksum;

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const FRAGMENT_HEADER: usize = 8;
const FRAGMENT: u8 = 44;
const MORE: u16 = 1;
/// Datagrams that are remembered: more than can be under way.
const REMEMBERED: usize = 4096;

/// Which piece of which datagram a fragment is: number and offset.
type Piece = (u32, u16);

/// Cuts datagrams, and puts them together.
#[derive(Debug, Default)]
pub(super) struct Jigsaw {
    next: u32,
    /// Datagrams and the offsets of their pieces, by number.
    cut: BTreeMap<u32, (Vec<u8>, BTreeSet<u16>)>,
    /// What each host's process lacks of those that it has begun.
    lacks: [BTreeMap<u32, BTreeSet<u16>>; 2],
}

impl Jigsaw {
    /// Cuts a packet without options into fragments of at most `mtu` bytes.
    pub(super) fn cut(&mut self, packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        // IPv4 has 16 bits for it.
        self.next = (self.next + 1) & 0xffff;
        let number = self.next;
        let ipv4 = packet.first().is_some_and(|byte| byte >> 4 == 4);
        let header = if ipv4 { IPV4_HEADER } else { IPV6_HEADER };
        let (head, payload) = packet.split_at(header);
        let room = (mtu - header - if ipv4 { 0 } else { FRAGMENT_HEADER }) / 8 * 8;
        let count = payload.len().div_ceil(room);
        let pieces = payload.chunks(room).enumerate().map(|(index, text)| {
            let more = if index + 1 < count { MORE } else { 0 };
            let place = (index * room) as u16 | if ipv4 { 0 } else { more };
            match ipv4 {
                true => fragment_v4(head, text, number as u16, (place / 8) | (more << 13)),
                false => fragment_v6(head, text, number, place),
            }
        });
        let pieces: Vec<Vec<u8>> = pieces.collect();
        let places = (0..count).map(|index| (index * room / 8) as u16).collect();
        self.cut.insert(number, (packet.to_vec(), places));
        if self.cut.len() > REMEMBERED {
            self.cut.pop_first();
        }
        pieces
    }

    /// A packet is handed to a host's process. Gives the datagram that is whole by it.
    pub(super) fn hand(&mut self, host: usize, packet: &[u8]) -> Option<Vec<u8>> {
        let (number, place) = piece(packet)?;
        let (whole, places) = self.cut.get(&number)?;
        let lacks = self.lacks[host].entry(number).or_insert_with(|| places.clone());
        lacks.remove(&place);
        if !lacks.is_empty() {
            return None;
        }
        self.lacks[host].remove(&number);
        Some(whole.clone())
    }

    /// A host's process is gone, and what it had begun with it.
    pub(super) fn forget(&mut self, host: usize) {
        self.lacks[host].clear();
    }
}

/// Whether a packet is a fragment.
pub(super) fn is_fragment(packet: &[u8]) -> bool {
    piece(packet).is_some()
}

fn fragment_v4(head: &[u8], text: &[u8], number: u16, place: u16) -> Vec<u8> {
    let mut packet = [head, text].concat();
    let length = packet.len() as u16;
    for (at, value) in [(2, length), (4, number), (6, place), (10, 0)] {
        packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
    let sum = checksum(&packet[..IPV4_HEADER]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

fn fragment_v6(head: &[u8], text: &[u8], number: u32, place: u16) -> Vec<u8> {
    let mut packet = head.to_vec();
    let length = (FRAGMENT_HEADER + text.len()) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    let next = core::mem::replace(&mut packet[6], FRAGMENT);
    packet.extend_from_slice(&[next, 0]);
    packet.extend_from_slice(&place.to_be_bytes());
    packet.extend_from_slice(&number.to_be_bytes());
    packet.extend_from_slice(text);
    packet
}

/// `None`: no fragment.
fn piece(packet: &[u8]) -> Option<Piece> {
    let u16_at = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    if packet.first()? >> 4 == 4 {
        let place = u16_at(6)?;
        return (place & 0x3fff != 0).then_some((u16_at(4)?.into(), place & 0x1fff));
    }
    if *packet.get(6)? != FRAGMENT {
        return None;
    }
    Some((u16_at(IPV6_HEADER + 6)?.into(), u16_at(IPV6_HEADER + 2)? / 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use standin::time::{Duration, Instant};
    use standin::wire::{
        ChecksumState, Flags, FourTuple, Offload, Reassembler, SeqNum, TcpHeader, TcpOptions,
        VnetHeader, parse_ip, parse_tcp,
    };

    fn segment(local: &str, remote: &str, text: &[u8]) -> Vec<u8> {
        let ends = [local, remote].map(|end| end.parse().expect("an address and a port"));
        let header = TcpHeader {
            tuple: FourTuple { local: ends[0], remote: ends[1] },
            seq: SeqNum(1),
            ack: SeqNum(2),
            flags: Flags::ACK,
            window: 3,
            options: TcpOptions::default(),
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(text);
        let _: VnetHeader = header.write(&mut packet, text.len(), Offload::Full);
        packet
    }

    #[test]
    fn an_engine_puts_together_what_is_cut_and_both_know_when() {
        let text: Vec<u8> = (0..2800_u32).map(|i| i as u8).collect();
        for (local, remote) in [("10.0.0.1:5", "10.0.0.2:6"), ("[fd00::1]:5", "[fd00::2]:6")] {
            let whole = segment(local, remote, &text);
            let mut jigsaw = Jigsaw::default();
            jigsaw.cut(&whole, 1300);
            let pieces = jigsaw.cut(&whole, 1300);
            assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= 1300));
            let mut engine = Reassembler::new(4 << 20, Duration::from_secs(1));
            for (index, at) in [2, 2, 0, 1].into_iter().enumerate() {
                let ip = parse_ip(&pieces[at]).expect("an IP packet");
                let out = engine.insert(Instant::ZERO, &ip).expect("a sound fragment");
                let handed = jigsaw.hand(1, &pieces[at]);
                assert_eq!((out.is_some(), handed.is_some()), (index == 3, index == 3));
                let Some(out) = out else { continue };
                let ip = out.packet().expect("a packet");
                let (.., segment) = parse_tcp(&ip, ChecksumState::Verify).expect("TCP");
                assert_eq!((segment.payload, handed), (&text[..], Some(whole.clone())));
            }
        }
    }

    #[test]
    fn a_process_that_is_gone_has_begun_nothing() {
        let mut jigsaw = Jigsaw::default();
        let pieces = jigsaw.cut(&segment("10.0.0.1:5", "10.0.0.2:6", &[1; 100]), 76);
        assert_eq!(pieces.len(), 3);
        for piece in &pieces[..2] {
            assert_eq!(jigsaw.hand(0, piece), None);
        }
        jigsaw.forget(0);
        assert_eq!(jigsaw.hand(0, &pieces[2]), None);
    }
}
