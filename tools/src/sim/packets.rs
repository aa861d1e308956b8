//! Packets of the service address in words, with sequence numbers that begin at 0.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use standin::wire::{ChecksumState, Flags, SeqNum, parse_ip, parse_tcp, protocol};

/// Reads packets as they pass the hosts, and remembers where connections began.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The first sequence number of what goes from the one to the other.
    first: BTreeMap<(SocketAddr, SocketAddr), SeqNum>,
}

impl Reader {
    /// One line about `packet`: ends, flags as `tcpdump` has them, first byte and length, ACK,
    /// window. `check`: what an engine writes may still lack its checksum.
    pub(super) fn line(&mut self, packet: &[u8], check: ChecksumState) -> String {
        let ip = match parse_ip(packet) {
            Ok(ip) => ip,
            Err(why) => return format!("no IP packet: {why}"),
        };
        if ip.fragment.is_some() || ip.protocol != protocol::TCP {
            let what = if ip.fragment.is_some() { "fragment" } else { "no TCP" };
            return format!("{} > {}: {what}, {} bytes", ip.src, ip.dst, packet.len());
        }
        let (from, to, segment) = match parse_tcp(&ip, check) {
            Ok(parsed) => parsed,
            Err(why) => return format!("{} > {}: {why}", ip.src, ip.dst),
        };
        let ends = (SocketAddr::new(ip.src, from), SocketAddr::new(ip.dst, to));
        if segment.flags.contains(Flags::SYN) {
            self.first.insert(ends, segment.seq);
        }
        let since = |ends, seq: SeqNum| {
            seq.0.wrapping_sub(self.first.get(&ends).map_or(0, |first: &SeqNum| first.0))
        };
        let mut line = format!("{} > {}: {}", ends.0, ends.1, letters(segment.flags));
        line += &format!(" {}+{}", since(ends, segment.seq), segment.payload.len());
        if segment.flags.contains(Flags::ACK) {
            line += &format!(" ack {}", since((ends.1, ends.0), segment.ack));
        }
        line + &format!(" win {}", segment.window)
    }
}

fn letters(flags: Flags) -> String {
    let letters = [
        (Flags::SYN, 'S'),
        (Flags::FIN, 'F'),
        (Flags::RST, 'R'),
        (Flags::PSH, 'P'),
        (Flags::ACK, '.'),
    ];
    letters.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use standin::wire::{FourTuple, Offload, TcpHeader, TcpOptions, VnetHeader};

    fn segment(seq: u32, ack: u32, flags: Flags, back: bool) -> Vec<u8> {
        let (local, remote) = (([10, 77, 0, 10], 4000).into(), ([10, 77, 0, 100], 7).into());
        let tuple = if back {
            FourTuple { local: remote, remote: local }
        } else {
            FourTuple { local, remote }
        };
        let header = TcpHeader {
            tuple,
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags,
            window: 500,
            options: TcpOptions::default(),
            ecn: 0,
            ttl: 64,
            ip_id: 0,
        };
        let mut packet = vec![0; header.len()];
        let _: VnetHeader = header.write(&mut packet, 0, Offload::Full);
        packet
    }

    #[test]
    fn sequence_numbers_count_from_the_syn() {
        let mut reader = Reader::default();
        let syn = segment(u32::MAX, 0, Flags::SYN, false);
        let check = ChecksumState::Verify;
        assert_eq!(reader.line(&syn, check), "10.77.0.10:4000 > 10.77.0.100:7: S 0+0 win 500");
        reader.line(&segment(77, 0, Flags::SYN | Flags::ACK, true), check);
        let ack = segment(9, 78, Flags::ACK, false);
        assert_eq!(
            reader.line(&ack, check),
            "10.77.0.10:4000 > 10.77.0.100:7: . 10+0 ack 1 win 500"
        );
        assert!(reader.line(&[], check).starts_with("no IP packet"));
    }
}
