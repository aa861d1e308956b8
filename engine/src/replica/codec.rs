//! Fields to bytes and back. Integers are little-endian and of fixed width: a record's cost is in
//! its payload, and a fixed layout is read with one bounds check per field and no branches.

use crate::wire::Endpoint;
use core::net::IpAddr;

use super::{MAX_LSN, MAX_OFFSET, Violation};
use crate::ids::{Lsn, Node};

/// Bytes still to be read, and the name of what is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    /// What has not been read yet.
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading: nothing may be left.
    pub(super) const fn end(self) -> Result<(), Violation> {
        match self.rest.len() {
            0 => Ok(()),
            extra => Err(Violation::Trailing { what: self.what, extra }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let Some((array, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(N));
        };
        self.rest = rest;
        Ok(*array)
    }

    const fn truncated(&self, needs: usize) -> Violation {
        Violation::Truncated { what: self.what, needs, has: self.rest.len() }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(count));
        };
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Violation> {
        self.array().map(u64::from_le_bytes)
    }

    /// A run of bytes with its length before it.
    pub(super) fn run(&mut self) -> Result<&'a [u8], Violation> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A stream offset, at most [`MAX_OFFSET`].
    pub(super) fn offset(&mut self, what: &'static str) -> Result<u64, Violation> {
        check_offset(what, self.u64()?)
    }

    /// A log position, at most [`MAX_LSN`].
    pub(super) fn lsn(&mut self) -> Result<Lsn, Violation> {
        match self.u64()? {
            lsn @ 0..=MAX_LSN => Ok(Lsn(lsn)),
            value => {
                Err(Violation::Value { what: "a log position", value, expected: "at most 2^62" })
            }
        }
    }

    pub(super) fn node(&mut self) -> Result<Node, Violation> {
        match self.u8()? {
            0 => Ok(Node::A),
            1 => Ok(Node::B),
            value => {
                Err(Violation::Value { what: "a node", value: value.into(), expected: "0 or 1" })
            }
        }
    }

    /// A number for which there is room, and of which this version knows only 0.
    pub(super) fn only_zero(&mut self, what: &'static str) -> Result<(), Violation> {
        match self.u16()? {
            0 => Ok(()),
            value => Err(Violation::Value { what, value: value.into(), expected: "0" }),
        }
    }

    /// A byte of which only the bits in `known` have a meaning.
    pub(super) fn flags(&mut self, what: &'static str, known: u8) -> Result<u8, Violation> {
        let flags = self.u8()?;
        if flags & !known == 0 {
            return Ok(flags);
        }
        Err(Violation::Value { what, value: flags.into(), expected: "only flags that are known" })
    }

    pub(super) fn address(&mut self) -> Result<Endpoint, Violation> {
        let ip = match self.u8()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            value => {
                let what = "an address family";
                return Err(Violation::Value { what, value: value.into(), expected: "4 or 6" });
            }
        };
        Ok(Endpoint::new(ip, self.u16()?))
    }
}

/// A stream offset that later sums can rely on.
pub(super) const fn check_offset(what: &'static str, offset: u64) -> Result<u64, Violation> {
    if offset <= MAX_OFFSET {
        return Ok(offset);
    }
    Err(Violation::Value { what, value: offset, expected: "a stream offset of at most 2^62" })
}

/// The code of a node, as [`Fields::node`] reads it.
pub(super) const fn node_code(node: Node) -> u8 {
    match node {
        Node::A => 0,
        Node::B => 1,
    }
}

/// Appends a run of bytes, its length before it. A length that does not fit has been refused
/// before: no caller's bound is above [`super::MAX_FRAME`].
pub(super) fn put_run(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Appends an address as [`Fields::address`] reads it. Flow label and scope do not travel: no
/// connection of ours is told apart by them.
pub(super) fn put_address(out: &mut Vec<u8>, address: Endpoint) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_le_bytes());
}

/// How many bytes [`put_address`] appends.
pub(super) const fn address_len(address: Endpoint) -> usize {
    match address.ip() {
        IpAddr::V4(_) => 1 + 4 + 2,
        IpAddr::V6(_) => 1 + 16 + 2,
    }
}
