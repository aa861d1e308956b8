//! What can happen in a connection's story, and how it reads.

use std::fmt;

use serde::Serialize;

use crate::replay::Side;

/// Bytes of a stream, counted from its first byte; the end is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Span {
    pub(crate) const fn length(self) -> i64 {
        self.end - self.start
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// What one side offers in its SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Offer {
    pub(crate) mss: Option<u16>,
    pub(crate) window_scale: Option<u8>,
    pub(crate) sack: bool,
    pub(crate) timestamps: bool,
    pub(crate) window: u16,
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mss {
            Some(mss) => write!(f, "MSS {mss}")?,
            None => write!(f, "no MSS")?,
        }
        match self.window_scale {
            Some(scale) => write!(f, ", window {} (scale {scale})", self.window)?,
            None => write!(f, ", window {}, no scaling", self.window)?,
        }
        f.write_str(if self.sack { ", SACK" } else { ", no SACK" })?;
        f.write_str(if self.timestamps { ", timestamps" } else { ", no timestamps" })
    }
}

/// Why bytes were sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Again {
    /// Nobody answered for a timeout.
    Timeout,
    /// Duplicate acknowledgments or SACK told of a loss.
    Fast,
    /// Sooner than a timeout and without a sign of loss: a tail loss probe (RFC 8985 §7).
    TailProbe,
    /// The new owner of the address goes on from what it knows to be acknowledged.
    Takeover,
    /// The other side had acknowledged the bytes already.
    Needless,
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "after a timeout",
            Self::Fast => "fast retransmission",
            Self::TailProbe => "tail loss probe",
            Self::Takeover => "by the new owner of the address",
            Self::Needless => "needless: acknowledged before",
        })
    }
}

/// Why a connection stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "side")]
pub(crate) enum Cause {
    /// The service address changed its host.
    Takeover,
    /// The SYN, or the answer to it, was lost.
    LostSyn,
    /// The answer to a SYN, or the last step of the handshake, took its time.
    SlowHandshake,
    /// The application on this side does not read: its window is shut, or too full for a segment.
    FullWindow(Side),
    /// This side's data or its acknowledgment was lost, and only its timer noticed.
    Timeout(Side),
    /// Nothing came from this side, though the other sent again and again.
    Silent(Side),
    /// This side was busy sending again what was lost.
    Repair(Side),
    /// This side's acknowledgment, or what it acknowledges, was long under way.
    SlowAnswer(Side),
    /// Nobody owed anything until this side's application had something to say.
    Application(Side),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Takeover => f.write_str("takeover of the service address"),
            Self::LostSyn => f.write_str("a SYN or its answer was lost"),
            Self::SlowHandshake => f.write_str("the handshake was slow"),
            Self::FullWindow(side) => {
                write!(f, "no room in the {side}'s window: its application does not read")
            }
            Self::Timeout(side) => write!(f, "retransmission timeout of the {side}"),
            Self::Silent(side) => {
                write!(f, "nothing came from the {side}: it or the way to it was gone")
            }
            Self::Repair(side) => write!(f, "the {side} repairs losses"),
            Self::SlowAnswer(side) => write!(f, "the {side}'s acknowledgment came late"),
            Self::Application(side) => write!(f, "waiting for the {side}'s application"),
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "what", content = "of")]
pub(crate) enum What {
    /// SYN.
    Syn(Offer),
    /// SYN of the server.
    SynAck(Offer),
    /// A SYN again.
    SynAgain,
    /// The handshake is complete, so many nanoseconds after the SYN.
    Established { after: u64 },
    /// The capture begins in the middle.
    Midway,
    /// New data.
    Data { span: Span, segments: u32, until: u64 },
    /// Data again.
    Again { span: Span, why: Again },
    /// Data that arrived here behind later data.
    Reordered { span: Span },
    /// Bytes that were never captured, though later ones were.
    Missing { span: Span },
    /// Selective acknowledgment: the other side's data up to `from` and this span arrived.
    Sack { from: i64, held: Span },
    /// The other side's bytes came twice (RFC 2883): what was sent again was needless.
    Duplicate { span: Span },
    /// So many duplicate acknowledgments for one offset.
    DuplicateAcks { at: i64 },
    /// This side takes no more data.
    WindowShut,
    /// It takes data again, up to this offset.
    WindowOpen { edge: i64 },
    /// The right edge of its window went back.
    WindowShrank { from: i64, to: i64 },
    /// A probe of a shut window.
    WindowProbe,
    /// A keepalive probe.
    Keepalive,
    /// The service address has another host.
    Takeover { how: String, silence: Option<u64> },
    /// The first answer of the new owner, so long after the last of the old one.
    TakenOver { silence: u64 },
    /// No progress for so long.
    Stall { length: u64, cause: Cause },
    /// This side has no more to say, at this offset.
    Fin { at: i64 },
    /// The FIN again.
    FinAgain,
    /// Everything of the other side, its FIN included, is acknowledged.
    FinAcknowledged,
    /// Reset.
    Reset,
    /// A remark in the capture.
    Remark(String),
}

/// What happened, when, and where in the capture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event {
    /// Nanoseconds since the capture's first frame.
    pub(crate) at: u64,
    /// The frame that shows it.
    pub(crate) frame: u64,
    /// The end that did it.
    pub(crate) from: Option<Side>,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// Nanoseconds for people.
pub(crate) fn time(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{} µs", nanos / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syn(offer) => write!(f, "SYN: {offer}"),
            Self::SynAck(offer) => write!(f, "SYN-ACK: {offer}"),
            Self::SynAgain => f.write_str("SYN again"),
            Self::Established { after } => write!(f, "established, {} after the SYN", time(*after)),
            Self::Midway => f.write_str("(the capture begins in the middle of this connection)"),
            Self::Data { span, segments: 1, .. } => {
                write!(f, "data {span}: {} bytes", span.length())
            }
            Self::Data { span, segments, until } => write!(
                f,
                "data {span}: {} bytes in {segments} segments over {}",
                span.length(),
                time(*until)
            ),
            Self::Again { span, why } => write!(f, "AGAIN {span}: {why}"),
            Self::Reordered { span } => write!(f, "data {span}, behind later data: reordered"),
            Self::Missing { span } => write!(f, "bytes {span} are not in the capture"),
            Self::Sack { from, held } => write!(f, "SACK: has up to {from} and {held}"),
            Self::Duplicate { span } => {
                write!(f, "D-SACK: {span} came twice, sent again needlessly")
            }
            Self::DuplicateAcks { at } => write!(f, "third duplicate acknowledgment of {at}"),
            Self::WindowShut => f.write_str("zero window"),
            Self::WindowOpen { edge } => write!(f, "window opens up to {edge}"),
            Self::WindowShrank { from, to } => {
                write!(f, "WINDOW SHRANK from {from} to {to}: no host may do that")
            }
            Self::WindowProbe => f.write_str("probe of the shut window"),
            Self::Keepalive => f.write_str("keepalive probe"),
            Self::Takeover { how, silence: None } => write!(f, "TAKEOVER: {how}"),
            Self::Takeover { how, silence: Some(silence) } => {
                write!(f, "TAKEOVER: {how}; the server had been silent for {}", time(*silence))
            }
            Self::TakenOver { silence } => {
                write!(
                    f,
                    "first word of the new owner, {} after the last of the old",
                    time(*silence)
                )
            }
            Self::Stall { length, cause } => write!(f, "STALL of {}: {cause}", time(*length)),
            Self::Fin { at } => write!(f, "FIN at {at}"),
            Self::FinAgain => f.write_str("FIN again"),
            Self::FinAcknowledged => f.write_str("FIN acknowledged"),
            Self::Reset => f.write_str("RESET"),
            Self::Remark(text) => write!(f, "\"{text}\""),
        }
    }
}
