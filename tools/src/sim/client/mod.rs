//! Clients: a TCP, and an application above it that checks every byte.

mod foreign;
mod line;
mod own;

pub(super) use foreign::Foreign;
pub(super) use line::{Queue, clock, interface, shuts_window};
pub(super) use own::Own;

use core::fmt;
use core::net::SocketAddr;
use standin::tcp::Transmit;
use standin::wire::{FourTuple, Offload, VnetHeader};

/// One end of a connection, outside the pair. Times are the world's, in nanoseconds.
///
/// The world hands an endpoint what arrives for it and asks it what it sends; it may be a TCP of
/// whatever make, or a recording.
pub trait Endpoint: fmt::Debug {
    /// A packet arrived for it: IP header first, as it came over the wire.
    fn on_packet(&mut self, now: u64, packet: &[u8]);

    /// Time has passed.
    fn on_timer(&mut self, now: u64);

    /// When to call [`Endpoint::on_timer`]; `u64::MAX`: never.
    fn deadline(&mut self, now: u64) -> u64;

    /// The next packet to send. `None`: nothing more now.
    fn poll_packet(&mut self, now: u64) -> Option<Outgoing>;

    /// Its own address and port, and the service's.
    fn ends(&self) -> (SocketAddr, SocketAddr);

    /// How it fares.
    fn standing(&self) -> &Standing;

    /// Where it stands, for a person.
    fn story(&self) -> String;
}

/// A packet that an endpoint sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// What its host tells about it: super-segment, partial checksum.
    pub vnet: VnetHeader,
    /// IP header first.
    pub packet: Vec<u8>,
}

impl Outgoing {
    /// A segment of this project's TCP, whose local end is `tuple`'s.
    pub(super) fn of(tuple: FourTuple, transmit: &Transmit, payload: &[u8], offload: bool) -> Self {
        let header = transmit.header(tuple, 0);
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(payload);
        let offload = match offload {
            true => Offload::Partial { mss: transmit.mss },
            false => Offload::Full,
        };
        let vnet = header.write(&mut packet, payload.len(), offload);
        Self { vnet, packet }
    }
}

/// How an endpoint fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has more to do.
    Working,
    /// It has had all that it wanted.
    Content,
    /// Its connection was lost: reset, timed out.
    Lost(String),
    /// It was told something wrong (I6).
    Wrong(String),
}
