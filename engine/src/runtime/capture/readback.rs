//! Reads a capture with a parser that is not ours, for tests.

use std::path::Path;

use pcap_parser::traits::PcapNGPacketBlock as _;
use pcap_parser::{Block, PcapBlockOwned, PcapError, PcapNGOption, create_reader};

use super::pcapng::{Direction, Packet, Source, Statistics};

/// One packet block, owned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) source: Source,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) length: usize,
    pub(super) direction: Option<Direction>,
    pub(super) lost: u64,
    pub(super) comment: String,
}

impl Seen {
    pub(super) fn of(packet: &Packet<'_>) -> Self {
        let Packet { source, at, bytes, length, direction, lost, comment } = *packet;
        let (bytes, comment) = (bytes.to_vec(), comment.to_owned());
        Self { source, at, bytes, length, direction, lost, comment }
    }
}

/// A whole capture.
#[derive(Default, Debug)]
pub(super) struct Capture {
    pub(super) application: String,
    /// Name, link type, units of time in a second.
    pub(super) interfaces: Vec<(String, i32, u64)>,
    pub(super) packets: Vec<Seen>,
    pub(super) statistics: Vec<Statistics>,
}

impl Capture {
    /// The texts of all marks.
    pub(super) fn marks(&self) -> Vec<&str> {
        let marks = self.packets.iter().filter(|packet| packet.source == Source::Engine);
        marks.map(|packet| packet.comment.as_str()).collect()
    }
}

pub(super) fn read_file(path: &Path) -> Capture {
    read(&std::fs::read(path).unwrap())
}

/// Fails on anything that is not as it should be, a cut block included.
pub(super) fn read(file: &[u8]) -> Capture {
    let mut capture = Capture::default();
    let mut reader = create_reader(1 << 20, file).unwrap();
    loop {
        match reader.next() {
            Ok((used, PcapBlockOwned::NG(block))) => {
                take(&mut capture, &block);
                reader.consume(used);
            }
            Ok((_, _)) => panic!("a block of the classic format"),
            Err(PcapError::Eof) => return capture,
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            Err(error) => panic!("{error:?}"),
        }
    }
}

fn take(capture: &mut Capture, block: &Block<'_>) {
    let word = |value: &[u8]| u64::from_le_bytes(value[..8].try_into().unwrap());
    let text =
        |option: &PcapNGOption<'_>| String::from_utf8(option.as_bytes().unwrap().to_vec()).unwrap();
    match block {
        Block::SectionHeader(section) => {
            assert_eq!((section.major_version, section.minor_version), (1, 0));
            capture.application = text(&section.options[0]);
        }
        Block::InterfaceDescription(interface) => {
            let name = interface.if_name().unwrap().unwrap();
            let units = interface.ts_resolution().unwrap();
            capture.interfaces.push((name.to_owned(), interface.linktype.0, units));
        }
        Block::EnhancedPacket(packet) => {
            let option = |code: u16| packet.options.iter().find(|option| option.code.0 == code);
            let direction = option(2).map(|flags| match flags.value[0] {
                1 => Direction::Inbound,
                2 => Direction::Outbound,
                other => panic!("direction {other}"),
            });
            capture.packets.push(Seen {
                source: Source::ALL[packet.if_id as usize],
                at: u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low),
                bytes: packet.packet_data().to_vec(),
                length: packet.origlen as usize,
                direction,
                lost: option(4).map_or(0, |lost| word(&lost.value)),
                comment: option(1).map(text).unwrap_or_default(),
            });
        }
        Block::InterfaceStatistics(told) => {
            let option = |code: u16| {
                &told.options.iter().find(|option| option.code.0 == code).unwrap().value[..8]
            };
            capture.statistics.push(Statistics {
                source: Source::ALL[told.if_id as usize],
                at: u64::from(told.ts_high) << 32 | u64::from(told.ts_low),
                since: word(option(2)).rotate_left(32),
                seen: word(option(4)),
                lost: word(option(5)),
            });
        }
        other => panic!("{other:?}"),
    }
}
