//! A narrow path: what is too long for it does not pass, and a router says so (RFC 1191, RFC 8201).

use core::net::{Ipv4Addr, Ipv6Addr};

use super::client::Outgoing;
use super::world::{Event, World};
use etherparse::{Icmpv6Type, PacketBuilder};
use standin::wire::{VnetHeader, parse_ip};

/// The router's addresses.
const ROUTER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0xfe);
/// What a host's kernel needs to tell its own engine.
const KERNEL: u64 = 10_000;
/// How much of the packet it sends back: less than any link carries.
const QUOTED: usize = 256;
const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);

impl World {
    /// How long a packet from or to a machine may be, if its path is narrower than the LAN.
    pub(super) fn path_mtu(&self, machine: usize) -> Option<u16> {
        let mtu = self.machines.get(machine)?.plan.path_mtu;
        (mtu > 0 && mtu < self.plan.pair.mtu).then_some(mtu)
    }

    /// Whether a packet from a host passes a machine's path. If not, the host is told.
    pub(super) fn passes(&mut self, host: usize, machine: usize, packet: &[u8]) -> bool {
        let Some(mtu) = self.path_mtu(machine) else { return true };
        if packet.len() <= usize::from(mtu) {
            return true;
        }
        self.tally.add("packet too big for its path", 1);
        if let Some(packet) = too_big(packet, mtu) {
            let packet = Outgoing { vnet: VnetHeader::PLAIN, packet };
            let delay = self.weather.delay_us * 1000;
            self.post(delay, Event::Packet { host, packet, stray: false });
        }
        false
    }

    /// Whether a packet is short enough for a host's own LAN interface. If not, the kernel tells the
    /// engine.
    pub(super) fn leaves(&mut self, host: usize, packet: &[u8]) -> bool {
        let mtu = self.host_mtu(host);
        if packet.len() <= usize::from(mtu) {
            return true;
        }
        self.tally.add("packet too long for a host", 1);
        if let Some(packet) = too_big(packet, mtu) {
            let packet = Outgoing { vnet: VnetHeader::PLAIN, packet };
            self.post(KERNEL, Event::Packet { host, packet, stray: false });
        }
        false
    }

    /// The pieces in which a machine's packet travels.
    pub(super) fn fitted(&mut self, machine: usize, packet: Vec<u8>) -> Vec<Vec<u8>> {
        match self.path_mtu(machine) {
            Some(mtu) if packet.len() > usize::from(mtu) => {
                let pieces = self.jigsaw.cut(&packet, mtu.into());
                self.tally.add("fragments", pieces.len() as u64);
                pieces
            }
            Some(_) | None => vec![packet],
        }
    }
}

/// "Too big" for `packet`, which does not fit through `mtu`. `None`: the packet cannot be read.
pub(super) fn too_big(packet: &[u8], mtu: u16) -> Option<Vec<u8>> {
    let quoted = &packet[..packet.len().min(QUOTED)];
    let mut answer = Vec::new();
    if parse_ip(packet).ok()?.src.is_ipv4() {
        let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
        let (kind, code) = FRAGMENTATION_NEEDED;
        let [high, low] = mtu.to_be_bytes();
        let builder = PacketBuilder::ipv4(ROUTER_V4.octets(), source, 64);
        builder.icmpv4_raw(kind, code, [0, 0, high, low]).write(&mut answer, quoted).ok()?;
    } else {
        let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
        let kind = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
        let builder = PacketBuilder::ipv6(ROUTER_V6.octets(), source, 64);
        builder.icmpv6(kind).write(&mut answer, quoted).ok()?;
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use standin::wire::{
        Flags, FourTuple, Icmp, IcmpKind, Offload, SeqNum, TcpHeader, TcpOptions, VnetHeader,
        parse_icmp,
    };

    #[test]
    fn an_engine_reads_the_routers_word() {
        for (local, remote) in [("10.77.0.100:7", "10.77.0.9:5"), ("[fd77::100]:7", "[fd77::9]:5")]
        {
            let ends = [local, remote].map(|end| end.parse().expect("an address and a port"));
            let header = TcpHeader {
                tuple: FourTuple { local: ends[0], remote: ends[1] },
                seq: SeqNum(77),
                ack: SeqNum(2),
                flags: Flags::ACK,
                window: 3,
                options: TcpOptions::default(),
                ecn: 0,
                ttl: 64,
                ip_id: 0,
            };
            let mut packet = vec![0; header.len() + 1400];
            let _: VnetHeader = header.write(&mut packet, 1400, Offload::Full);
            let answer = too_big(&packet, 1300).expect("an answer");
            let ip = parse_ip(&answer).expect("an IP packet");
            let Ok(Icmp::Error(error)) = parse_icmp(&ip) else { panic!("no ICMP error") };
            assert_eq!(error.kind, IcmpKind::TooBig { mtu: 1300 });
            assert_eq!((error.tuple.local, error.tuple.remote), (ends[0], ends[1]));
        }
    }
}
