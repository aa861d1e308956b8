//! What a node says of its host: what must fit that of the peer's for a takeover to work, and what
//! would make one fail.
//!
//! Said on the stream when the two meet and whenever it changes, from version 4 on. A later version
//! may add fields behind the last one, which earlier ones skip.

use super::Violation;
use super::codec::Fields;

/// The longest release name, and the longest text of what is in the way, bytes.
pub(super) const RELEASE_MAX: usize = 32;
pub(super) const OBSTACLES_MAX: usize = 2048;

/// The body without texts, and the longest: as much again is for fields yet to come.
pub(super) const HOST_MIN: usize = 2 + 1 + 1 + 2;
pub(super) const HOST_MAX: usize = 2 * (HOST_MIN + RELEASE_MAX + OBSTACLES_MAX);

const FLAG_IPV4: u8 = 1;
const FLAG_IPV6: u8 = 2;
const FLAG_OFFLOAD: u8 = 4;

/// What is true of a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostFacts {
    /// The LAN's MTU in bytes.
    pub mtu: u16,
    /// It serves IPv4 addresses.
    pub ipv4: bool,
    /// It serves IPv6 addresses.
    pub ipv6: bool,
    /// Its kernel takes and gives super-segments.
    pub offload: bool,
}

/// The whole word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostWord<'a> {
    /// What is true of the host.
    pub facts: HostFacts,
    /// The engine's release; at most 32 bytes of printable text.
    pub release: &'a str,
    /// What would make a takeover by it fail, for a person; empty if nothing would. At most 2048
    /// bytes of printable text.
    pub obstacles: &'a str,
}

impl<'a> HostWord<'a> {
    /// Appends the body of the frame. Texts are shortened and made printable.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { facts: HostFacts { mtu, ipv4, ipv6, offload }, release, obstacles } = self;
        let flags = if *ipv4 { FLAG_IPV4 } else { 0 }
            | if *ipv6 { FLAG_IPV6 } else { 0 }
            | if *offload { FLAG_OFFLOAD } else { 0 };
        out.extend_from_slice(&mtu.to_le_bytes());
        out.extend_from_slice(&[flags, 0]);
        let start = out.len();
        super::frame::put_text(out, release, RELEASE_MAX);
        out[start - 1] = u8::try_from(out.len() - start).unwrap_or(0);
        out.extend_from_slice(&[0; 2]);
        let start = out.len();
        super::frame::put_text(out, obstacles, OBSTACLES_MAX);
        let length = u16::try_from(out.len() - start).unwrap_or(0);
        out[start - 2..start].copy_from_slice(&length.to_le_bytes());
    }

    /// Reads the body of the frame. Flags and fields of a later version are skipped.
    pub(super) fn decode(mut fields: Fields<'a>) -> Result<Self, Violation> {
        let (mtu, flags) = (fields.u16()?, fields.u8()?);
        let facts = HostFacts {
            mtu,
            ipv4: flags & FLAG_IPV4 != 0,
            ipv6: flags & FLAG_IPV6 != 0,
            offload: flags & FLAG_OFFLOAD != 0,
        };
        let length = fields.u8()?.into();
        let release = super::frame::text(fields.bytes(length)?, "the release of the peer")?;
        let length = fields.u16()?.into();
        let obstacles =
            super::frame::text(fields.bytes(length)?, "what the peer says is in its way")?;
        Ok(Self { facts, release, obstacles })
    }
}
