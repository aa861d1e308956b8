//! Packets to values and back.
//!
//! Everything here is total: any bytes give a value or a [`DropReason`], never a panic. Lengths are
//! checked once, at the edge, and what comes out can be used without further checks.
//!
//! ```text
//!  TUN     [vnet 10][ip][tcp][text]   VnetHeader::parse, parse_ip, parse_tcp   ──► Segment
//!          [vnet 10][ip][tcp][text]   ◄── TcpHeader::write before text that is already in place
//!          [vnet 10][ip][tcp][text]   of one leg of a splice: Rewrite::apply ──► of the other
//!  TUN     fragments                  Reassembler::insert ──► Reassembled::packet ──► as above
//!  TUN     ICMP                       parse_icmp ──► Icmp; write_echo_reply, Fragments ──► packets
//!                                     IcmpError ──► write_icmp_error
//!  TUN     UDP and the rest           write_unserved ──► packet
//!  LAN     Ethernet frames            NeighbourFrame::parse ──► ARP, NS, NA; to_frame() back
//! ```
//!
//! The hot path is the first three lines. It reads a header once, and once more where it is to be
//! rewritten, touches the text only where no offload vouches for its checksum, and allocates
//! nothing.

pub mod checksum;

mod arp;
mod cut;
mod drop_reason;
mod ethernet;
mod extension;
mod fragment;
mod icmp;
mod icmp_error;
mod ip;
mod ndp;
mod rewrite;
mod segment;
mod seq;
mod split;
mod tcp_read;
mod tcp_write;
mod tuple;
mod unserved;
mod vnet;

#[cfg(test)]
mod tests;

pub use arp::{ArpOp, ArpPacket};
pub use cut::Cut;
pub use drop_reason::DropReason;
pub use ethernet::{ETHERNET_HEADER_LEN, Frame, MacAddr, NeighbourFrame};
pub use fragment::{DEFAULT_MEMORY, DEFAULT_TIMEOUT, MEMORY_MIN, Reassembled, Reassembler};
pub use icmp::{Icmp, IcmpError, IcmpKind, parse_icmp, write_echo_reply};
pub use icmp_error::write_icmp_error;
pub use ip::{
    ECN_CE, ECN_ECT0, ECN_ECT1, ECN_NOT_ECT, FragmentInfo, IpPacket, destination, parse_ip,
    protocol,
};
pub use ndp::{NaFlags, NeighbourAdvertisement, NeighbourSolicitation, solicited_node};
pub use rewrite::{ChecksumField, Rewrite};
pub use segment::{Flags, SackBlock, SackBlocks, Segment, TcpOptions, Timestamps};
pub use seq::SeqNum;
pub use split::Fragments;
pub use tcp_read::{ChecksumState, parse_tcp};
pub use tcp_write::{Offload, TcpHeader};
pub use tuple::{Endpoint, FourTuple};
pub use unserved::write_unserved;
pub use vnet::VnetHeader;
