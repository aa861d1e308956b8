//! Heartbeats: one small datagram each way every few milliseconds, on both networks.
//!
//! They say that a process turns, what role it has and how far it is. `echo` is the primary's
//! lease (rule 2 of `docs/ownership.md`): it shows which of its own heartbeats the peer has heard.
//! Encryption is the runtime's; what is read here has been authenticated, and is checked all the
//! same.

use super::Violation;
use super::codec::{Fields, node_code};
use crate::ids::{Epoch, Lsn, Node};

/// The layout below. A later version adds fields behind the last and keeps this number.
const FORMAT: u8 = 1;

const FLAG_SYNCED: u8 = 1;
const FLAG_LAN_OK: u8 = 2;
/// The odd way round: a pair without an arbiter says what it always said.
const FLAG_NO_ARBITER: u8 = 4;

/// What version 4 says behind the fields that version 3 has: a byte of flags, the number of the group
/// of addresses that it is about, u16, and of the shard, u16. There is one of each: number 0.
const MORE_LEN: usize = 1 + 2 + 2;
/// Those flags. The odd way round again: what is not said is as it should be.
const MORE_UNFIT: u8 = 1;
const MORE_DEAF_LAN: u8 = 2;

/// One heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sender.
    pub node: Node,
    /// The sender's role, as the engine numbers it.
    pub role: u8,
    /// The standby has the whole snapshot; the primary believes that it has.
    pub synced: bool,
    /// The sender's interface on the service LAN has a carrier.
    pub lan_ok: bool,
    /// The sender's arbiter answers, or it has none.
    pub arbiter_ok: bool,
    /// A number drawn when the process started.
    pub boot: u64,
    /// The newest epoch the sender knows.
    pub epoch: Epoch,
    /// Grows by one with each heartbeat of this process on this path.
    pub sequence: u64,
    /// The sender's own monotonic clock, nanoseconds.
    pub sent: u64,
    /// The latest `sent` of the receiver's that the sender has heard; 0 is none.
    pub echo: u64,
    /// The receiver's process whose clock `echo` is of.
    pub echo_boot: u64,
    /// Standby: the last record applied. Primary: the last one appended. For reports only: what
    /// commits is the confirmation on the stream.
    pub applied: Lsn,
    /// The pair's clock, nanoseconds.
    pub clock: u64,
    /// Connections that a takeover right now would lose.
    pub unprotected: u32,
    /// Nothing on the sender's host would make a takeover fail.
    pub fit: bool,
    /// The sender hears the receiver's heartbeats on the service LAN.
    pub hears_lan: bool,
}

impl Heartbeat {
    /// Length of an encoded heartbeat, bytes.
    pub const LEN: usize = Self::LEN_3 + MORE_LEN;
    /// The same up to version 3: of a node of that version this is all.
    pub const LEN_3: usize = 4 + 8 * 8 + 4;

    /// The datagram's plain text.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let Self {
            node,
            role,
            synced,
            lan_ok,
            arbiter_ok,
            boot,
            epoch,
            sequence,
            sent,
            echo,
            echo_boot,
            applied,
            clock,
            unprotected,
            fit,
            hears_lan,
        } = *self;
        let flags = if synced { FLAG_SYNCED } else { 0 }
            | if lan_ok { FLAG_LAN_OK } else { 0 }
            | if arbiter_ok { 0 } else { FLAG_NO_ARBITER };
        let mut bytes = [0; Self::LEN];
        bytes[..4].copy_from_slice(&[FORMAT, node_code(node), role, flags]);
        let numbers = [boot, epoch.0, sequence, sent, echo, echo_boot, applied.0, clock];
        for (place, number) in bytes[4..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes[Self::LEN_3 - 4..Self::LEN_3].copy_from_slice(&unprotected.to_le_bytes());
        bytes[Self::LEN_3] =
            if fit { 0 } else { MORE_UNFIT } | if hears_lan { 0 } else { MORE_DEAF_LAN };
        bytes
    }

    /// Reads a datagram's plain text. What a later version says behind it is skipped.
    pub fn decode(bytes: &[u8]) -> Result<Self, Violation> {
        let mut fields = Fields::new("a heartbeat", bytes);
        match fields.u8()? {
            FORMAT => {}
            other => {
                let (what, value) = ("the format of a heartbeat", other.into());
                return Err(Violation::Value { what, value, expected: "1" });
            }
        }
        let (node, role) = (fields.node()?, fields.u8()?);
        let known = FLAG_SYNCED | FLAG_LAN_OK | FLAG_NO_ARBITER;
        let flags = fields.flags("the flags of a heartbeat", known)?;
        let mut heartbeat = Self {
            node,
            role,
            synced: flags & FLAG_SYNCED != 0,
            lan_ok: flags & FLAG_LAN_OK != 0,
            arbiter_ok: flags & FLAG_NO_ARBITER == 0,
            boot: fields.u64()?,
            epoch: Epoch(fields.u64()?),
            sequence: fields.u64()?,
            sent: fields.u64()?,
            echo: fields.u64()?,
            echo_boot: fields.u64()?,
            applied: fields.lsn()?,
            clock: fields.u64()?,
            unprotected: fields.u32()?,
            fit: true,
            hears_lan: true,
        };
        if !fields.rest().is_empty() {
            let more = fields.u8()?;
            heartbeat.fit = more & MORE_UNFIT == 0;
            heartbeat.hears_lan = more & MORE_DEAF_LAN == 0;
            fields.only_zero("the group of a heartbeat")?;
            fields.only_zero("the shard of a heartbeat")?;
        }
        Ok(heartbeat)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::replica::strategies::heartbeat;

    proptest! {
        #[test]
        fn every_heartbeat_comes_back_as_it_went(heartbeat in heartbeat(), behind: Vec<u8>) {
            let mut bytes = heartbeat.encode().to_vec();
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(Heartbeat::decode(&bytes), Ok(heartbeat));
        }

        #[test]
        fn any_bytes_are_a_heartbeat_or_a_violation(mut bytes: Vec<u8>) {
            let _ = Heartbeat::decode(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            let _ = Heartbeat::decode(&bytes);
        }

        #[test]
        fn a_heartbeat_of_another_format_is_refused(heartbeat in heartbeat(), format: u8) {
            let mut bytes = heartbeat.encode();
            bytes[0] = format;
            prop_assert_eq!(Heartbeat::decode(&bytes).is_ok(), format == FORMAT);
        }

        #[test]
        fn a_short_heartbeat_is_refused(heartbeat in heartbeat(), cut in 0..Heartbeat::LEN_3) {
            prop_assert!(Heartbeat::decode(&heartbeat.encode()[..cut]).is_err());
        }
    }
}
