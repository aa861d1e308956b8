//! A TCP segment as a value: RFC 9293 §3.1, options of RFC 7323 and RFC 2018.

use super::SeqNum;

bitflags::bitflags! {
    /// The control bits, RFC 9293 §3.1.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Flags: u8 {
        /// No more data from the sender.
        const FIN = 0x01;
        /// Synchronise sequence numbers.
        const SYN = 0x02;
        /// Reset the connection.
        const RST = 0x04;
        /// Push.
        const PSH = 0x08;
        /// The acknowledgment field is significant.
        const ACK = 0x10;
        /// The urgent pointer is significant.
        const URG = 0x20;
        /// ECN echo, RFC 3168.
        const ECE = 0x40;
        /// Congestion window reduced, RFC 3168.
        const CWR = 0x80;
    }
}

/// The timestamps option, RFC 7323 §3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timestamps {
    /// TSval.
    pub val: u32,
    /// TSecr.
    pub ecr: u32,
}

/// One SACK block: `left` is the first sequence number of it, `right` the one after its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SackBlock {
    /// First sequence number held.
    pub left: SeqNum,
    /// First sequence number not held.
    pub right: SeqNum,
}

/// Up to four SACK blocks, RFC 2018 §3.
pub type SackBlocks = arrayvec::ArrayVec<SackBlock, 4>;

/// The options we know. Others are skipped on receipt and never sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TcpOptions {
    /// Maximum segment size, RFC 9293 §3.7.1.
    pub mss: Option<u16>,
    /// Window scale shift, RFC 7323 §2.2. As received, before the clamp to 14.
    pub window_scale: Option<u8>,
    /// SACK permitted, RFC 2018 §2.
    pub sack_permitted: bool,
    /// Timestamps, RFC 7323 §3.2.
    pub timestamps: Option<Timestamps>,
    /// SACK blocks, RFC 2018 §3.
    pub sack: SackBlocks,
}

/// A segment that arrived. A super-segment (receive offload) looks like one long segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment<'a> {
    /// SEG.SEQ.
    pub seq: SeqNum,
    /// SEG.ACK; meaningless without [`Flags::ACK`].
    pub ack: SeqNum,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND as on the wire, not scaled.
    pub window: u16,
    /// The options.
    pub options: TcpOptions,
    /// A router has marked the packet: its ECN codepoint is CE, RFC 3168.
    pub marked: bool,
    /// The text.
    pub payload: &'a [u8],
}

impl Segment<'_> {
    /// SEG.LEN: the text, and one each for SYN and FIN.
    pub fn len(&self) -> u32 {
        let text = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        text + u32::from(self.flags.contains(Flags::SYN))
            + u32::from(self.flags.contains(Flags::FIN))
    }

    /// Whether the segment occupies no sequence space.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
