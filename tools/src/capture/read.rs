//! Frames of a capture file.

use std::fs::File;
use std::io;
use std::path::Path;

use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};
use thiserror::Error;

/// A frame must fit; the kernel's largest is 64 KiB.
const BUFFER: usize = 1 << 20;

/// Why a capture cannot be read.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file cannot be opened.
    #[error("cannot open: {0}")]
    Open(#[from] io::Error),
    /// It is no capture, or broken.
    #[error("not a readable pcap or pcapng file: {0}")]
    Format(String),
    /// Its frames are of another kind.
    #[error("link type {0} instead of Ethernet: capture on an interface, not on 'any'")]
    LinkType(i32),
}

/// Calls `each` with the time, in nanoseconds, and the bytes of every frame.
pub(super) fn frames(path: &Path, mut each: impl FnMut(u64, &[u8])) -> Result<(), CaptureError> {
    let format = |error: PcapError<&[u8]>| CaptureError::Format(format!("{error:?}"));
    let mut reader = create_reader(BUFFER, File::open(path)?).map_err(format)?;
    let mut scale = Scale::default();
    loop {
        match reader.next() {
            Ok((used, block)) => {
                scale.block(&block, &mut each)?;
                drop(block);
                reader.consume(used);
            }
            // The second is a frame that was cut off, as a tcpdump leaves it that was stopped in
            // the middle of a write: not an error.
            Err(PcapError::Eof | PcapError::UnexpectedEof) => return Ok(()),
            Err(PcapError::Incomplete(_)) => reader.refill().map_err(format)?,
            Err(error) => return Err(format(error)),
        }
    }
}

/// How to read a file's time stamps.
#[derive(Debug)]
struct Scale {
    /// Nanoseconds of the fraction's unit, in a classic file.
    fraction: u64,
    /// Units per second and seconds to add, of the current pcapng interface.
    units: u64,
    offset: i64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { fraction: 1_000, units: 1_000_000, offset: 0 }
    }
}

impl Scale {
    fn block(
        &mut self,
        block: &PcapBlockOwned<'_>,
        each: &mut impl FnMut(u64, &[u8]),
    ) -> Result<(), CaptureError> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                ethernet(header.network)?;
                self.fraction = if header.is_nanosecond_precision() { 1 } else { 1_000 };
            }
            PcapBlockOwned::Legacy(frame) => {
                let fraction = u64::from(frame.ts_usec) * self.fraction;
                each(u64::from(frame.ts_sec) * 1_000_000_000 + fraction, frame.data);
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                ethernet(interface.linktype)?;
                self.units = interface.ts_resolution().unwrap_or(1_000_000);
                self.offset = interface.ts_offset();
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(frame)) => {
                let (seconds, fraction) = frame.decode_ts(self.offset as u64, self.units);
                let fraction = u128::from(fraction) * 1_000_000_000 / u128::from(self.units.max(1));
                let nanos = u64::from(seconds) * 1_000_000_000 + fraction as u64;
                each(nanos, frame.packet_data());
            }
            PcapBlockOwned::NG(Block::SimplePacket(frame)) => each(0, frame.packet_data()),
            PcapBlockOwned::NG(_) => {}
        }
        Ok(())
    }
}

fn ethernet(kind: Linktype) -> Result<(), CaptureError> {
    if kind == Linktype::ETHERNET { Ok(()) } else { Err(CaptureError::LinkType(kind.0)) }
}
