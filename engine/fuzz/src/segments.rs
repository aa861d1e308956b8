//! What several targets do with TCP segments: write them, read them, mend their checksums.

use standin::wire::checksum::{Sum, pseudo_header};
use standin::wire::{
    ChecksumState, FourTuple, IpPacket, Offload, Segment, TcpHeader, VnetHeader, parse_ip,
    parse_tcp, protocol,
};

/// Stores the checksum of `message`, whose field is at `at`, over `seed`.
pub(crate) fn put_sum_right(message: &mut [u8], at: usize, seed: Sum) {
    let Some(field) = message.get_mut(at..at + 2) else { return };
    field.fill(0);
    let sum = seed.add_bytes(message).checksum();
    message[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// What the kernel does to a packet with a partial checksum.
pub(crate) fn complete(packet: &mut [u8], vnet: VnetHeader) {
    if !vnet.needs_csum() {
        return;
    }
    let (start, at) = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
    let sum = Sum::default().add_bytes(&packet[start..]).checksum();
    packet[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// The header that `segment` came with, from `source` to `destination`.
pub(crate) fn header_of(tuple: FourTuple, ip: &IpPacket<'_>, segment: &Segment<'_>) -> TcpHeader {
    TcpHeader {
        tuple,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: segment.options.clone(),
        ecn: ip.ecn,
        ttl: ip.ttl,
        ip_id: 9,
    }
}

/// A segment that was read and is written again reads the same; and the partial checksum, once
/// completed as the kernel does it, is the full one.
pub(crate) fn assert_written_as_read(
    ip: &IpPacket<'_>,
    source: u16,
    destination: u16,
    segment: &Segment<'_>,
) {
    // The writer's local end is the sender.
    let tuple = FourTuple { local: (ip.src, source).into(), remote: (ip.dst, destination).into() };
    let header = header_of(tuple, ip, segment);
    if header.len() + segment.payload.len() > 65_535 {
        return;
    }
    let mut full = vec![0; header.len()];
    full.extend_from_slice(segment.payload);
    let mut partial = full.clone();
    let _: VnetHeader = header.write(&mut full, segment.payload.len(), Offload::Full);
    let vnet = header.write(&mut partial, segment.payload.len(), Offload::Partial { mss: 1000 });
    complete(&mut partial, vnet);
    assert_eq!(partial, full, "a partial checksum completed is the full one");

    let again = parse_ip(&full).expect("what was written is a packet");
    assert_eq!((again.protocol, again.ttl, again.ecn), (protocol::TCP, ip.ttl, ip.ecn));
    let sum = pseudo_header(again.src, again.dst, again.protocol, again.payload.len() as u32);
    assert!(sum.add_bytes(again.payload).is_intact());
    let (from, to, mut read) = parse_tcp(&again, ChecksumState::Verify).expect("a segment");
    assert_eq!((from, to), (source, destination));
    // SACK blocks that find no room beside the other options are left out.
    assert!(segment.options.sack.starts_with(&read.options.sack));
    read.options.sack = segment.options.sack.clone();
    assert_eq!(read, *segment);
}
