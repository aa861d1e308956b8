//! The four block types of a pcapng file that a capture needs, written to the end of a buffer.
//!
//! ```text
//!  section header   who wrote this                            draft-ietf-opsawg-pcapng §4.1
//!  interface        one for each of `Source`, in that order                            §4.2
//!  enhanced packet  a packet, or the length and a summary of what is not shown         §4.3
//!  statistics       how many packets of an interface were written, and how many lost   §4.6
//! ```
//!
//! By hand, because no crate fits: `pcap-file` 2.0, the last release, swaps the halves of a
//! statistics block's time on little-endian hosts and wants a fresh list of options for every
//! packet; 3.0 is a candidate with the same fault; `pcap-parser` only reads. The tests read back
//! what is written here with the latter.
//!
//! Everything is little-endian, padded to four bytes, and times are nanoseconds since 1970.

/// Where a packet was seen; the number of its interface block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// The TUN device: packets of the service addresses.
    Tun,
    /// The replication stream. Its frames are summed up, not shown: they repeat what clients said.
    Replication,
    /// The engine itself: marks.
    Engine,
}

impl Source {
    /// All, by number.
    pub(super) const ALL: [Self; 3] = [Self::Tun, Self::Replication, Self::Engine];

    /// The number.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Tun => 0,
            Self::Replication => 1,
            Self::Engine => 2,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tun => "tun",
            Self::Replication => "replication",
            Self::Engine => "standin",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Tun => "packets of the service addresses, as the engine reads and writes them",
            Self::Replication => "frames of the replication stream: length and summary",
            Self::Engine => "marks: roles, takeovers, links",
        }
    }

    /// 101 is raw IP. The others have no bytes that would be of any type, and libpcap refuses
    /// files with interfaces of several types. It compares with its own number of raw IP, which
    /// is 12, and so would refuse 101 a second time.
    const fn link_type(self) -> u16 {
        match self {
            Self::Tun => 101,
            Self::Replication | Self::Engine => 12,
        }
    }
}

/// Which way a packet went, seen from the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    /// To the engine.
    Inbound,
    /// From it.
    Outbound,
}

/// One enhanced packet block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// Where it was seen.
    pub(super) source: Source,
    /// When, nanoseconds since 1970.
    pub(super) at: u64,
    /// Its bytes.
    pub(super) bytes: &'a [u8],
    /// How many it really has; more than `bytes` if they are not all shown.
    pub(super) length: usize,
    /// Which way it went; a mark goes none.
    pub(super) direction: Option<Direction>,
    /// How many of this interface were lost since the last one written.
    pub(super) lost: u64,
    /// What there is to say about it, cut to [`COMMENT_MAX`] bytes; empty for nothing.
    pub(super) comment: &'a str,
}

/// What became of the packets of one interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Statistics {
    /// The interface.
    pub(super) source: Source,
    /// When that was so, nanoseconds since 1970.
    pub(super) at: u64,
    /// When the capture began.
    pub(super) since: u64,
    /// Packets seen, from the beginning of the capture.
    pub(super) seen: u64,
    /// Of those, lost: nobody wrote them in time.
    pub(super) lost: u64,
}

/// Bytes of a comment.
pub(super) const COMMENT_MAX: usize = 1024;
/// What an enhanced packet block has beside its bytes: at most this.
pub(super) const PACKET_OVERHEAD: usize = 32 + 3 + 8 + 12 + (4 + COMMENT_MAX + 3) + 4;
/// The most bytes shown of any packet: more than a TUN packet ever has.
const SNAP: u32 = 1 << 18;

/// The numbers of blocks and options.
mod code {
    pub(super) const SECTION: u32 = 0x0A0D_0D0A;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const STATISTICS: u32 = 5;
    pub(super) const PACKET: u32 = 6;

    pub(super) const END: u16 = 0;
    pub(super) const COMMENT: u16 = 1;
    pub(super) const SECTION_APPLICATION: u16 = 4;
    pub(super) const INTERFACE_NAME: u16 = 2;
    pub(super) const INTERFACE_DESCRIPTION: u16 = 3;
    pub(super) const INTERFACE_RESOLUTION: u16 = 9;
    pub(super) const PACKET_FLAGS: u16 = 2;
    pub(super) const PACKET_LOST: u16 = 4;
    pub(super) const STATISTICS_SINCE: u16 = 2;
    pub(super) const STATISTICS_SEEN: u16 = 4;
    pub(super) const STATISTICS_LOST: u16 = 5;
}

/// The program that writes, as the section header tells it.
const APPLICATION: &str = concat!("standin ", env!("CARGO_PKG_VERSION"));

/// How a file starts: the section header and all interfaces.
pub(super) fn put_header(out: &mut Vec<u8>) {
    put_block(out, code::SECTION, |out| {
        put_u32(out, 0x1A2B_3C4D); // the byte order
        put_u16(out, 1); // version 1.0
        put_u16(out, 0);
        out.extend_from_slice(&u64::MAX.to_le_bytes()); // the section's length is not known
        put_option(out, code::SECTION_APPLICATION, APPLICATION.as_bytes());
        put_option(out, code::END, &[]);
    });
    for source in Source::ALL {
        put_block(out, code::INTERFACE, |out| {
            put_u16(out, source.link_type());
            put_u16(out, 0);
            put_u32(out, SNAP);
            put_option(out, code::INTERFACE_NAME, source.name().as_bytes());
            put_option(out, code::INTERFACE_DESCRIPTION, source.description().as_bytes());
            put_option(out, code::INTERFACE_RESOLUTION, &[9]); // 10^-9 s
            put_option(out, code::END, &[]);
        });
    }
}

/// Whether `bytes`, the start of a file, is that of a capture of ours.
pub(super) fn is_ours(bytes: &[u8]) -> bool {
    let application = b"standin ";
    bytes.starts_with(&code::SECTION.to_le_bytes())
        && bytes.get(28..28 + application.len()) == Some(application)
}

/// One packet. Takes at most its bytes and [`PACKET_OVERHEAD`].
pub(super) fn put_packet(out: &mut Vec<u8>, packet: &Packet<'_>) {
    let Packet { source, at, bytes, length, direction, lost, comment } = *packet;
    put_block(out, code::PACKET, |out| {
        put_u32(out, source.index() as u32);
        out.extend_from_slice(&time(at));
        put_u32(out, saturated(bytes.len()));
        put_u32(out, saturated(length));
        put_padded(out, bytes);
        if let Some(direction) = direction {
            let flags: u32 = match direction {
                Direction::Inbound => 1,
                Direction::Outbound => 2,
            };
            put_option(out, code::PACKET_FLAGS, &flags.to_le_bytes());
        }
        if lost > 0 {
            put_option(out, code::PACKET_LOST, &lost.to_le_bytes());
        }
        if !comment.is_empty() {
            let comment = &comment[..comment.floor_char_boundary(COMMENT_MAX)];
            put_option(out, code::COMMENT, comment.as_bytes());
        }
        if direction.is_some() || lost > 0 || !comment.is_empty() {
            put_option(out, code::END, &[]);
        }
    });
}

/// What became of an interface's packets.
pub(super) fn put_statistics(out: &mut Vec<u8>, statistics: &Statistics) {
    let Statistics { source, at, since, seen, lost } = *statistics;
    put_block(out, code::STATISTICS, |out| {
        put_u32(out, source.index() as u32);
        out.extend_from_slice(&time(at));
        put_option(out, code::STATISTICS_SINCE, &time(since));
        put_option(out, code::STATISTICS_SEEN, &seen.to_le_bytes());
        put_option(out, code::STATISTICS_LOST, &lost.to_le_bytes());
        put_option(out, code::END, &[]);
    });
}

/// A block's length stands before its body and after it.
fn put_block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(out, kind);
    put_u32(out, 0);
    body(out);
    let length = saturated(out.len() - start + 4);
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    put_u32(out, length);
}

fn put_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    put_u16(out, code);
    put_u16(out, u16::try_from(value.len()).unwrap_or(u16::MAX));
    put_padded(out, value);
}

fn put_padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    let padding = bytes.len().next_multiple_of(4) - bytes.len();
    out.extend_from_slice(&[0; 3][..padding]);
}

/// A time is two words, the upper one first, whatever the byte order.
/// When the first of `blocks` was, if it is a packet.
pub(super) fn first_time(blocks: &[u8]) -> Option<u64> {
    let kind = u32::from_le_bytes(*blocks.first_chunk()?);
    let time = blocks.get(12..)?.first_chunk()?;
    (kind == code::PACKET).then(|| u64::from_le_bytes(*time).rotate_right(32))
}

const fn time(nanos: u64) -> [u8; 8] {
    nanos.rotate_left(32).to_le_bytes()
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn saturated(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::readback::{Seen, read};
    use super::*;

    fn any_packet() -> impl Strategy<Value = (usize, u64, Vec<u8>, usize, u8, u64, String)> {
        (
            0usize..3,
            any::<u64>(),
            prop::collection::vec(any::<u8>(), 0..70),
            0usize..100_000,
            0u8..3,
            prop_oneof![Just(0u64), any::<u64>()],
            "[a-zä ]{0,9}",
        )
    }

    proptest! {
        #[test]
        fn packets_come_back_as_they_went(
            packets in prop::collection::vec(any_packet(), 0..5),
        ) {
            let mut file = Vec::new();
            put_header(&mut file);
            let mut sent = Vec::new();
            for (source, at, bytes, more, direction, lost, comment) in &packets {
                let direction = match direction {
                    0 => None,
                    1 => Some(Direction::Inbound),
                    _ => Some(Direction::Outbound),
                };
                let packet = Packet {
                    source: Source::ALL[*source],
                    at: *at,
                    bytes,
                    length: bytes.len() + more,
                    direction,
                    lost: *lost,
                    comment,
                };
                let before = file.len();
                put_packet(&mut file, &packet);
                prop_assert!(file.len() - before <= bytes.len() + PACKET_OVERHEAD);
                sent.push(Seen::of(&packet));
            }
            prop_assert_eq!(read(&file).packets, sent);
        }
    }

    #[test]
    fn a_file_says_who_wrote_it_and_names_its_interfaces() {
        let mut file = Vec::new();
        put_header(&mut file);
        assert!(is_ours(&file));
        assert!(!is_ours(&file[1..]) && !is_ours(&file[..30]) && !is_ours(b"#!/bin/sh"));
        let capture = read(&file);
        assert_eq!(capture.application, APPLICATION);
        assert_eq!(
            capture.interfaces,
            [
                ("tun".to_owned(), 101, 1_000_000_000),
                ("replication".to_owned(), 12, 1_000_000_000),
                ("standin".to_owned(), 12, 1_000_000_000),
            ]
        );
    }

    #[test]
    fn statistics_come_back_as_they_went() {
        let mut file = Vec::new();
        put_header(&mut file);
        let (at, since) = (1_795_000_000_123_456_789, 1_795_000_000_000_000_001);
        let told = Statistics { source: Source::Replication, at, since, seen: 1 << 40, lost: 7 };
        put_statistics(&mut file, &told);
        assert_eq!(read(&file).statistics, [told]);
    }

    #[test]
    fn a_long_comment_is_cut_between_two_letters() {
        let mut file = Vec::new();
        put_header(&mut file);
        let comment = format!("x{}", "ä".repeat(COMMENT_MAX));
        let packet = Packet {
            source: Source::Engine,
            at: 1,
            bytes: &[],
            length: 0,
            direction: None,
            lost: 0,
            comment: &comment,
        };
        put_packet(&mut file, &packet);
        assert_eq!(read(&file).packets[0].comment, comment[..COMMENT_MAX - 1]);
    }
}
