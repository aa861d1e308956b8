//! What stands between `smoltcp` and the world: a line, an interface and a clock.

use core::net::IpAddr;
use std::collections::VecDeque;

use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};
use standin::wire::{ChecksumState, Flags, SeqNum, parse_ip, parse_tcp};

/// The line between the stack and the world.
pub(in crate::sim) struct Queue {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
    /// The number of the FIN that was sent.
    fin: Option<SeqNum>,
    /// Whether all before it was acknowledged.
    all_acked: bool,
}

impl Queue {
    pub(in crate::sim) fn new(mtu: u16) -> Self {
        let (incoming, outgoing) = Default::default();
        Self { mtu: mtu.into(), incoming, outgoing, fin: None, all_acked: false }
    }

    /// What the stack sends next.
    pub(in crate::sim) fn pop(&mut self) -> Option<Vec<u8>> {
        let packet = self.outgoing.pop_front()?;
        if let Some((seq, _, Flags::FIN, length)) = read(&packet, Flags::FIN) {
            self.fin = Some(seq.add(length));
        }
        Some(packet)
    }

    /// A packet comes for the stack. A third duplicate ACK of all but its FIN makes `smoltcp` 0.14
    /// forget that: its fast retransmission finds no data, and has turned the timer off. So it is
    /// spared those.
    pub(in crate::sim) fn deliver(&mut self, packet: &[u8]) {
        let bare = read(packet, Flags::all()).filter(|(.., flags, _)| *flags == Flags::ACK);
        if let Some((_, ack, _, 0)) = bare
            && self.fin == Some(ack)
            && core::mem::replace(&mut self.all_acked, true)
        {
            return;
        }
        self.incoming.push_back(packet.to_vec());
    }
}

/// Whether a packet says nothing but that its sender has no room. The probe that `smoltcp` 0.14 answers
/// it with counts as sent, and if that is lost nothing sends its byte again.
pub(in crate::sim) fn shuts_window(packet: &[u8]) -> bool {
    let Ok(ip) = parse_ip(packet) else { return false };
    let Ok((.., segment)) = parse_tcp(&ip, ChecksumState::Verify) else { return false };
    segment.flags == Flags::ACK && segment.payload.is_empty() && segment.window == 0
}

/// SEQ, ACK, which of `flags`, and the length of the text of a TCP packet.
fn read(packet: &[u8], flags: Flags) -> Option<(SeqNum, SeqNum, Flags, u32)> {
    let ip = parse_ip(packet).ok()?;
    let (.., segment) = parse_tcp(&ip, ChecksumState::Verify).ok()?;
    let length = segment.payload.len() as u32;
    Some((segment.seq, segment.ack, segment.flags.intersection(flags), length))
}

/// An interface with the address `local` at the line.
pub(in crate::sim) fn interface(
    now: u64,
    line: &mut Queue,
    local: IpAddr,
    random: u64,
) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = random;
    let mut interface = Interface::new(config, line, clock(now));
    let prefix = if local.is_ipv6() { 64 } else { 24 };
    interface.update_ip_addrs(|addresses| {
        // There is room for one: the list is new.
        let _ = addresses.push(IpCidr::new(local.into(), prefix));
    });
    interface
}

/// The world's time on its clock.
pub(in crate::sim) const fn clock(now: u64) -> Instant {
    Instant::from_micros_const((now / 1000) as i64)
}

impl Device for Queue {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outbound<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming, Outbound<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Incoming(packet), Outbound(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outbound<'_>> {
        Some(Outbound(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(in crate::sim) struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

pub(in crate::sim) struct Outbound<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}
