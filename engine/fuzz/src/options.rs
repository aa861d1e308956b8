//! The option list of a TCP header.

use core::net::{IpAddr, Ipv4Addr};

use etherparse::{TcpOptionElement, TcpSlice};
use standin::wire::{
    ChecksumState, IpPacket, SackBlock, SeqNum, TcpOptions, Timestamps, parse_tcp, protocol,
};

use crate::segments::assert_written_as_read;

/// The input is the list, of which 40 bytes at most fit a header. Held against `etherparse` where
/// that can read the whole list, and written again.
pub fn run(data: &[u8]) {
    let list = &data[..data.len().min(40)];
    let length = list.len().next_multiple_of(4);
    let mut payload = vec![0; 20 + length];
    payload[..14].copy_from_slice(&[0, 80, 16, 225, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x10]);
    payload[12] = ((20 + length) as u8 / 4) << 4;
    payload[20..20 + list.len()].copy_from_slice(list);
    let ip = IpPacket {
        src: IpAddr::V4(Ipv4Addr::new(10, 77, 0, 10)),
        dst: IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100)),
        protocol: protocol::TCP,
        ttl: 64,
        ecn: 0,
        fragment: None,
        payload: &payload,
    };
    let (source, destination, segment) =
        parse_tcp(&ip, ChecksumState::Trusted).expect("a sound header, whatever the options");
    if let Some(theirs) = as_etherparse_reads(&payload) {
        assert_eq!(segment.options, theirs);
    }
    assert_written_as_read(&ip, source, destination, &segment);
}

/// `None` where `etherparse` gives up: at options that it does not know.
fn as_etherparse_reads(payload: &[u8]) -> Option<TcpOptions> {
    let mut options = TcpOptions::default();
    for element in TcpSlice::from_slice(payload).ok()?.options_iterator() {
        match element.ok()? {
            TcpOptionElement::Noop => {}
            TcpOptionElement::MaximumSegmentSize(mss) => options.mss = Some(mss),
            TcpOptionElement::WindowScale(shift) => options.window_scale = Some(shift),
            TcpOptionElement::SelectiveAcknowledgementPermitted => options.sack_permitted = true,
            TcpOptionElement::Timestamp(val, ecr) => {
                options.timestamps = Some(Timestamps { val, ecr });
            }
            TcpOptionElement::SelectiveAcknowledgement(first, rest) => {
                let blocks = core::iter::once(first).chain(rest.into_iter().flatten());
                let block = |(a, b)| SackBlock { left: SeqNum(a), right: SeqNum(b) };
                options.sack = blocks.map(block).collect();
            }
        }
    }
    Some(options)
}
