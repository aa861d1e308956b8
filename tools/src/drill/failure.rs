//! Why a connection did not end as it should.

use std::io;

use thiserror::Error;

/// What a client saw that it must never see. Each ends its connection and fails the drill.
#[derive(Debug, Error)]
pub enum Failure {
    /// The connection could not be opened.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The kernel reported an error on an open connection, a reset as a rule.
    #[error("lost at {sent} bytes sent, {received} received: {error}")]
    Lost {
        /// What the kernel said.
        error: io::Error,
        /// Bytes handed to the kernel until then.
        sent: u64,
        /// Bytes received until then.
        received: u64,
    },
    /// A byte is not the one that belongs at its offset.
    #[error("wrong byte at offset {offset}: {found:#04x} instead of {expected:#04x}")]
    WrongByte {
        /// Offset in the stream (in the body, for files).
        offset: u64,
        /// The byte that belongs there.
        expected: u8,
        /// The byte that came.
        found: u8,
    },
    /// More came than the service had to say.
    #[error("unexpected bytes after offset {0}, where the stream should end")]
    Excess(u64),
    /// The peer closed before everything had come.
    #[error("closed by the peer after {received} bytes, {missing} short")]
    Short {
        /// Bytes received.
        received: u64,
        /// What is missing, for a person.
        missing: String,
    },
    /// The bytes of a body are not the expected ones as a whole.
    #[error("body differs: SHA-256 {found} instead of {expected}")]
    Digest {
        /// Hexadecimal digest of what came.
        found: String,
        /// Hexadecimal digest of what should have come.
        expected: String,
    },
    /// An HTTP reply that the drill cannot accept.
    #[error("bad HTTP reply: {0}")]
    Http(String),
    /// The reference file of a download cannot be read.
    #[error("cannot read the reference file: {0}")]
    Reference(io::Error),
    /// Nothing moved for as long as the plan allows.
    #[error("no progress for {seconds:.1} s ({state}, {sent} bytes sent, {received} received)")]
    Stalled {
        /// How long the client waited.
        seconds: f64,
        /// What it was doing.
        state: &'static str,
        /// Bytes handed to the kernel until then.
        sent: u64,
        /// Bytes received until then.
        received: u64,
    },
    /// The drill was told twice to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// Whether the peer's bytes were wrong, as opposed to missing.
    pub fn is_wrong_content(&self) -> bool {
        matches!(self, Self::WrongByte { .. } | Self::Excess(_) | Self::Digest { .. })
    }
}
