//! How a peer can break the protocol. Each ends the session; none is worth a retry.

use crate::ids::{Epoch, Lsn};

/// A peer broke the replication protocol: what was found, and what was expected instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// Something ended in the middle.
    #[error("{what} is cut short: {needs} more bytes expected, {has} left")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes the next field takes.
        needs: usize,
        /// Bytes there were.
        has: usize,
    },
    /// Something goes on after its last field.
    #[error("{what} should have ended, but goes on for {extra} bytes")]
    Trailing {
        /// What was being read.
        what: &'static str,
        /// Bytes too many.
        extra: usize,
    },
    /// A length that is refused before anything is read or stored.
    #[error("{what} of {length} bytes, expected {min} to {max}")]
    Length {
        /// What has that length.
        what: &'static str,
        /// Its length in bytes.
        length: u64,
        /// The shortest allowed.
        min: u64,
        /// The longest allowed.
        max: u64,
    },
    /// A field holds what it cannot hold.
    #[error("{what} is {value}, expected {expected}")]
    Value {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// What it may hold.
        expected: &'static str,
    },
    /// A text that could not be shown to a person as it is.
    #[error("{what} is not printable text")]
    Text {
        /// Which text.
        what: &'static str,
    },
    /// The stream does not start as ours do.
    #[error("the hello does not start with the protocol's name: not a standin engine")]
    NotStandin,
    /// A hello names a part of the configuration twice.
    #[error("the hello names part {index} of the configuration twice")]
    PartTwice {
        /// Which part, counted from 0: the second mention.
        index: usize,
    },
    /// A batch does not start where the one before ended.
    #[error("the log goes on at record {found}, expected {expected}", found = found.0, expected = expected.0)]
    Gap {
        /// The next record that is missing here.
        expected: Lsn,
        /// The first record of the batch.
        found: Lsn,
    },
    /// A batch from an ownership that has been superseded.
    #[error("the log is of epoch {found}, expected {expected} or later")]
    StaleEpoch {
        /// The newest epoch heard of.
        expected: Epoch,
        /// The epoch of the batch.
        found: Epoch,
    },
    /// A record that has no place at this point of the log.
    #[error("record {lsn} is {found}, expected {expected}", lsn = lsn.0)]
    OutOfPlace {
        /// Its position.
        lsn: Lsn,
        /// What it is.
        found: &'static str,
        /// What may stand here.
        expected: &'static str,
    },
    /// A record that decodes and cannot be true.
    #[error("record {lsn} contradicts the log: {why}", lsn = lsn.0)]
    Contradiction {
        /// Its position.
        lsn: Lsn,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The standby confirms what it was never sent.
    #[error("the standby confirms record {confirmed}, expected at most {sent}, the last one sent", confirmed = confirmed.0, sent = sent.0)]
    ConfirmedUnsent {
        /// What it confirms.
        confirmed: Lsn,
        /// The last record that was sent.
        sent: Lsn,
    },
    /// The standby takes a confirmation back.
    #[error("the standby confirms record {confirmed}, expected at least {before}, which it confirmed before", confirmed = confirmed.0, before = before.0)]
    ConfirmedLess {
        /// What it confirms.
        confirmed: Lsn,
        /// What it had confirmed.
        before: Lsn,
    },
}
