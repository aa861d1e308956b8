//! A capture file, one frame at a time.
//!
//! Both formats (pcap and pcapng), both byte orders and every resolution of the time stamps come
//! out as the same [`Frame`]. The file is streamed: what is held is one buffer, whatever the
//! file's length. A damaged file is told by the number of the packet at which it stops to make
//! sense; a file that ends in the middle of a packet, as a `tcpdump` leaves it that was killed,
//! is no error.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use pcap_parser::pcapng::{
    CustomBlock, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode,
};
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};
use thiserror::Error;

/// Holds a frame; the kernel's largest is 64 KiB.
const BUFFER: usize = 1 << 20;
/// The link type of the engine's interfaces without packets.
pub(super) const MARKS: i32 = 12;
/// What is read before the format is recognised.
const HEAD: usize = 1 << 16;
/// A longer block is no packet, whatever it says.
const BLOCK_MAX: usize = 16 << 20;
/// Said of a packet in a pcapng file.
const OVERLONG: &str = "is longer than the block that holds it";
/// Interfaces that one section may describe.
const INTERFACES_MAX: usize = 4096;
/// The longest text of a marker, in bytes.
const MARK_MAX: usize = 4096;

/// Why a capture cannot be read.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be opened or read.
    #[error("cannot read the file: {0}")]
    Open(#[from] io::Error),
    /// It holds nothing at all, as a capture that was never begun.
    #[error("the file is empty")]
    Empty,
    /// It would have to be unpacked first.
    #[error("compressed with {0}, not a pcap or pcapng file: unpack it first")]
    Compressed(&'static str),
    /// It is something else.
    #[error("not a pcap or pcapng file")]
    Format,
    /// It begins as a capture and then makes no sense.
    #[error("damaged: packet {packet} {what}")]
    Damaged {
        /// The packet that cannot be read, counted from 1 as in other tools.
        packet: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// One captured frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Counted from 1, as in other tools.
    pub(crate) number: u64,
    /// Nanoseconds since 1970.
    pub(crate) nanos: u64,
    /// The link type, as registered at tcpdump.org; `None` for an interface nobody described.
    pub(crate) link: Option<i32>,
    /// What was captured of it.
    pub(crate) bytes: &'a [u8],
    /// Its length on the wire.
    pub(crate) length: u32,
}

/// What a capture holds, in its order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// A frame.
    Frame(Frame<'a>),
    /// A remark: the comment of the frame that follows, or a custom block of text after frame
    /// number `after`.
    Mark {
        /// The frames before it.
        after: u64,
        /// Where it stands.
        place: Place,
        /// What it says.
        text: &'a str,
    },
}

/// Where a remark stands. An engine's own capture has interfaces for what is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Beside a packet, or in a block of its own: somebody's comment.
    Comment,
    /// On the engine's interface: something that happened to it.
    Mark,
    /// On the interface of the replication stream: what a frame of it held.
    Replication,
}

/// How a file ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// After a whole packet.
    Whole,
    /// In the middle of a packet.
    CutOff,
}

/// Opens the file at `path`; `-` is standard input.
fn open(path: &Path) -> io::Result<File> {
    File::open(if path.as_os_str() == "-" { Path::new("/dev/stdin") } else { path })
}

/// Calls `each` with everything in the file at `path`.
pub(crate) fn read(path: &Path, each: impl FnMut(Item<'_>)) -> Result<End, CaptureError> {
    read_from(open(path)?, each)
}

/// The file at `path`, for who reads it more than once: what comes through a pipe is put on the
/// disk.
pub(crate) fn open_to_reread(path: &Path) -> Result<File, CaptureError> {
    let mut file = open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_fifo() && !kind.is_socket() {
        return Ok(file);
    }
    let mut head = vec![0; HEAD];
    let got = read_full(&mut file, &mut head)?;
    head.truncate(got);
    // What is no capture may have no end either.
    create_reader(BUFFER, &head[..]).map_err(|_| foreign(&head))?;
    let mut copy = tempfile::tempfile()?;
    io::copy(&mut head.as_slice().chain(file), &mut copy)?;
    Ok(copy)
}

/// Calls `each` with everything in `source`: a file that is open, or bytes in memory.
pub(crate) fn read_from(
    mut source: impl Read + Send,
    mut each: impl FnMut(Item<'_>),
) -> Result<End, CaptureError> {
    // The parser looks at what its first read gives, be it short or an error.
    let mut head = vec![0; HEAD];
    let got = read_full(&mut source, &mut head)?;
    head.truncate(got);
    let foreign = foreign(&head);
    let mut reader =
        create_reader(BUFFER, io::Cursor::new(head).chain(source)).map_err(|_| foreign)?;
    let mut section = Section::default();
    loop {
        match reader.next() {
            Ok((used, block)) => {
                section.block(&block, &mut each)?;
                drop(block);
                reader.consume(used);
            }
            Err(PcapError::Eof) => return Ok(End::Whole),
            Err(PcapError::UnexpectedEof) => return section.ending(reader.data()),
            Err(PcapError::Incomplete(_)) => refill(reader.as_mut(), section.frames)?,
            Err(PcapError::BufferTooSmall) => grow(reader.as_mut(), section.frames)?,
            Err(_) => return Err(section.damaged("cannot be read")),
        }
    }
}

/// What a file is that begins so and is no capture.
fn foreign(head: &[u8]) -> CaptureError {
    match head {
        [] => CaptureError::Empty,
        [0x1f, 0x8b, ..] => CaptureError::Compressed("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => CaptureError::Compressed("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => CaptureError::Compressed("xz"),
        _ => CaptureError::Format,
    }
}

fn read_full(source: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match source.read(&mut into[got..])? {
            0 => break,
            count => got += count,
        }
    }
    Ok(got)
}

fn refill(reader: &mut dyn PcapReaderIterator, frames: u64) -> Result<(), CaptureError> {
    let before = reader.data().len();
    if let Err(PcapError::ReadError) = reader.refill() {
        return Err(io::Error::other("the file became unreadable").into());
    }
    // Nothing came and it is not the end: a length inside a block is longer than the block.
    if reader.data().len() == before && !reader.reader_exhausted() {
        return Err(CaptureError::Damaged { packet: frames + 1, what: OVERLONG.to_owned() });
    }
    Ok(())
}

fn grow(reader: &mut dyn PcapReaderIterator, frames: u64) -> Result<(), CaptureError> {
    if !reader.grow(BLOCK_MAX) {
        return Err(CaptureError::Damaged { packet: frames + 1, what: too_long() });
    }
    refill(reader, frames)
}

fn too_long() -> String {
    format!("claims to be longer than {} MiB", BLOCK_MAX >> 20)
}

/// What the blocks before tell of those that follow.
#[derive(Debug, Default)]
struct Section {
    /// Nanoseconds per unit of the fraction, in a classic file.
    fraction: u64,
    /// The link type of a classic file.
    link: Option<i32>,
    interfaces: Vec<Interface>,
    frames: u64,
    last: u64,
    big_endian: bool,
    /// A pcapng file.
    blocks: bool,
}

/// One interface of a pcapng section.
#[derive(Debug, Clone, Copy)]
struct Interface {
    place: Place,
    link: i32,
    /// Units per second.
    units: u64,
    /// Seconds to add.
    offset: i64,
    snaplen: u32,
}

impl Section {
    fn damaged(&self, what: &str) -> CaptureError {
        CaptureError::Damaged { packet: self.frames + 1, what: what.to_owned() }
    }

    /// The file ends with `rest`, which is no whole packet: cut off, or a length that cannot be.
    fn ending(&self, rest: &[u8]) -> Result<End, CaptureError> {
        let at = if self.blocks { 4 } else { 8 };
        let length = rest.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        let read = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
        match length.map(|length| read(length) as usize) {
            Some(length) if length > BLOCK_MAX => return Err(self.damaged(&too_long())),
            Some(length) if self.blocks && length <= rest.len() => {
                return Err(self.damaged(OVERLONG));
            }
            Some(_) | None => {}
        }
        Ok(End::CutOff)
    }

    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        each: &mut impl FnMut(Item<'_>),
    ) -> Result<(), CaptureError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                // The upper bits say how long a trailing checksum is.
                self.link = Some(header.network.0 & 0x03ff_ffff);
                self.big_endian = header.is_bigendian();
                self.fraction = if header.is_nanosecond_precision() { 1 } else { 1_000 };
            }
            PcapBlockOwned::Legacy(frame) => {
                let fraction = u64::from(frame.ts_usec).saturating_mul(self.fraction);
                let nanos = u64::from(frame.ts_sec) * 1_000_000_000 + fraction;
                self.frame(nanos, self.link, frame.data, frame.origlen, each);
            }
            PcapBlockOwned::NG(Block::SectionHeader(section)) => {
                self.interfaces.clear();
                (self.blocks, self.big_endian) = (true, section.big_endian());
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                if self.interfaces.len() == INTERFACES_MAX {
                    return Err(self.damaged("comes after too many interfaces"));
                }
                self.interfaces.push(Interface::of(interface));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(frame)) => self.enhanced(frame, each),
            PcapBlockOwned::NG(Block::SimplePacket(frame)) => {
                let interface = self.interfaces.first();
                // Its length is not told, only the smaller of both limits.
                let most = interface.map_or(u32::MAX, |i| i.snaplen).min(frame.origlen);
                let bytes = frame.packet_data();
                let bytes = &bytes[..bytes.len().min(most as usize)];
                let link = interface.map(|interface| interface.link);
                self.frame(self.last, link, bytes, frame.origlen, each);
            }
            PcapBlockOwned::NG(Block::Custom(block)) => {
                if let Some(text) = custom_text(block) {
                    each(Item::Mark { after: self.frames, place: Place::Comment, text });
                }
            }
            PcapBlockOwned::NG(_) => {}
        }
        Ok(())
    }

    fn enhanced(&mut self, frame: &EnhancedPacketBlock<'_>, each: &mut impl FnMut(Item<'_>)) {
        let interface = self.interfaces.get(frame.if_id as usize).copied();
        let place = interface.map_or(Place::Comment, |interface| interface.place);
        for option in &frame.options {
            if option.code == OptionCode::Comment
                && let Ok(text) = option.as_str()
                && text.len() <= MARK_MAX
            {
                each(Item::Mark { after: self.frames, place, text });
            }
        }
        let units = u64::from(frame.ts_high) << 32 | u64::from(frame.ts_low);
        let nanos = interface.map_or(self.last, |interface| interface.nanos(units));
        let link = interface.map(|interface| interface.link);
        self.frame(nanos, link, frame.packet_data(), frame.origlen, each);
    }

    fn frame(
        &mut self,
        nanos: u64,
        link: Option<i32>,
        bytes: &[u8],
        length: u32,
        each: &mut impl FnMut(Item<'_>),
    ) {
        self.frames += 1;
        self.last = nanos;
        let length = length.max(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        each(Item::Frame(Frame { number: self.frames, nanos, link, bytes, length }));
    }
}

impl Interface {
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Self {
        // These two have no packets; an interface of such a name with packets is another's.
        let place = match block.if_name() {
            Some(Ok("standin")) if block.linktype.0 == MARKS => Place::Mark,
            Some(Ok("replication")) if block.linktype.0 == MARKS => Place::Replication,
            _ => Place::Comment,
        };
        Self {
            place,
            link: block.linktype.0,
            units: block.ts_resolution().unwrap_or(1_000_000).max(1),
            offset: block.ts_offset(),
            snaplen: if block.snaplen == 0 { u32::MAX } else { block.snaplen },
        }
    }

    fn nanos(self, units: u64) -> u64 {
        let nanos = u128::from(units) * 1_000_000_000 / u128::from(self.units);
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let offset = i128::from(self.offset) * 1_000_000_000;
        u64::try_from(nanos.saturating_add(offset).max(0)).unwrap_or(u64::MAX)
    }
}

/// The text of a custom block that holds nothing else.
fn custom_text<'a>(block: &CustomBlock<'a>) -> Option<&'a str> {
    let text = std::str::from_utf8(block.data.get(..block.data.len().min(MARK_MAX))?).ok()?;
    let text = text.trim_end_matches('\0');
    (!text.is_empty() && !text.contains(char::is_control)).then_some(text)
}
