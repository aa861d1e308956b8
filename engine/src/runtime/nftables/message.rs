//! nf_tables messages as the kernel reads them: attributes, expressions, batches.
//!
//! Just what [`super::Rules`] needs, from `linux/netfilter/nf_tables.h`. Numbers in attributes are
//! big-endian there, values in registers as the packet or the kernel has them. A rule is a list of
//! expressions over registers; this one works on register 1 alone:
//!
//! ```text
//! payload load TTL ─► cmp ≤ 15 ─► lookup in map ─► payload write TTL
//! ```

use std::net::IpAddr;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// The number of nf_tables among the kernel's netfilter parts.
const SUBSYSTEM: u16 = 10;
const NESTED: u16 = 0x8000;

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
pub(super) const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
pub(super) const DELETE_RULE: u16 = 8;
pub(super) const NEW_SET: u16 = 9;
pub(super) const GET_SET: u16 = 10;
pub(super) const NEW_ELEMENTS: u16 = 12;
pub(super) const GET_ELEMENTS: u16 = 13;

/// The family of tables for IPv4 and IPv6 alike.
pub(super) const INET: u8 = 1;
const UNSPEC: u8 = 0;

/// The map that raises a TTL by one, and the sets of addresses.
pub(super) const RAISED: &str = "raised";
pub(super) const ADDRESSES: [(Family, &str); 2] =
    [(Family::V4, "addresses4"), (Family::V6, "addresses6")];

/// Which IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    pub(super) const fn address_len(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where the destination is in the header.
    const fn destination_at(self) -> u32 {
        match self {
            Self::V4 => 16,
            Self::V6 => 24,
        }
    }

    /// Where TTL or hop limit is.
    const fn ttl_at(self) -> u32 {
        match self {
            Self::V4 => 8,
            Self::V6 => 7,
        }
    }
}

/// What a register is compared for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Is {
    Equal = 0,
    NotEqual = 1,
    AtMost = 3,
    AtLeast = 5,
}

/// What is known of a packet besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meta {
    InInterface = 4,
    InName = 6,
    OutName = 7,
    Family = 15,
    InGroup = 21,
    OutGroup = 22,
}

/// How a packet's way through the rules ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
}

/// Attributes, nested to any depth.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (4 + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub(super) fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// The expressions of one rule.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Expressions(Attributes);

/// `NFT_REG_1`.
const REGISTER: u32 = 1;

impl Expressions {
    fn add(self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::default().text(1, name).nest(2, data);
        Self(self.0.nest(1, &expression))
    }

    fn compare(self, is: Is, value: &[u8]) -> Self {
        let value = Attributes::default().bytes(1, value);
        let data = Attributes::default().number(1, REGISTER).number(2, is as u32);
        self.add("cmp", &data.nest(3, &value))
    }

    pub(super) fn meta(self, key: Meta, is: Is, value: &[u8]) -> Self {
        self.add("meta", &Attributes::default().number(1, REGISTER).number(2, key as u32))
            .compare(is, value)
    }

    pub(super) fn family(self, family: Family) -> Self {
        self.meta(Meta::Family, Is::Equal, &[family.number()])
    }

    fn load(self, at: u32, len: u32) -> Self {
        const NETWORK_HEADER: u32 = 1;
        let data = Attributes::default().number(1, REGISTER).number(2, NETWORK_HEADER);
        self.add("payload", &data.number(3, at).number(4, len))
    }

    /// The destination is in the family's set of [`ADDRESSES`].
    pub(super) fn bound_for(self, family: Family, set: &str) -> Self {
        self.load(family.destination_at(), family.address_len())
            .add("lookup", &Attributes::default().text(1, set).number(2, REGISTER))
    }

    pub(super) fn ttl(self, family: Family, is: Is, ttl: u8) -> Self {
        self.load(family.ttl_at(), 1).compare(is, &[ttl])
    }

    /// The packet's route leads to the interface `name`.
    pub(super) fn routed_to(self, name: &str) -> Self {
        const OUT_NAME: u32 = 2;
        const BY_DESTINATION: u32 = 2;
        let data = Attributes::default().number(1, REGISTER).number(2, OUT_NAME);
        self.add("fib", &data.number(3, BY_DESTINATION)).compare(Is::Equal, &interface(name))
    }

    /// Raises the TTL by one, and carries the header's checksum over.
    pub(super) fn raise_ttl(self, family: Family) -> Self {
        const NETWORK_HEADER: u32 = 1;
        const CHECKSUM_AT: u32 = 10;
        let map = Attributes::default().text(1, RAISED).number(2, REGISTER).number(3, REGISTER);
        let mut write = Attributes::default()
            .number(5, REGISTER)
            .number(2, NETWORK_HEADER)
            .number(3, family.ttl_at())
            .number(4, 1);
        if family == Family::V4 {
            write = write.number(6, 1).number(7, CHECKSUM_AT);
        }
        self.load(family.ttl_at(), 1).add("lookup", &map).add("payload", &write)
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        const VERDICT_REGISTER: u32 = 0;
        let code = Attributes::default().number(1, verdict as u32);
        let data = Attributes::default().nest(2, &code);
        self.add("immediate", &Attributes::default().number(1, VERDICT_REGISTER).nest(2, &data))
    }

    /// The rule that these make in `chain` of `table`.
    pub(super) fn rule(&self, table: &str, chain: &str) -> Attributes {
        Attributes::default().text(1, table).text(2, chain).nest(4, &self.0)
    }
}

/// An interface name as registers hold it.
pub(super) fn interface(name: &str) -> [u8; 16] {
    let mut field = [0; 16];
    // The last byte stays zero: the kernel's names have at most 15.
    for (to, from) in field[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    field
}

/// The elements of the set `set`: keys, and with a map what they lead to.
pub(super) fn elements(table: &str, set: &str, pairs: &[(Vec<u8>, Option<u8>)]) -> Attributes {
    let mut list = Attributes::default();
    for (key, data) in pairs {
        let value = |bytes: &[u8]| Attributes::default().bytes(1, bytes);
        let mut element = Attributes::default().nest(1, &value(key));
        if let Some(data) = data {
            element = element.nest(2, &value(&[*data]));
        }
        list = list.nest(1, &element);
    }
    Attributes::default().text(1, table).text(2, set).nest(3, &list)
}

/// The bytes of an address.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// Messages that are carried out together or not at all. The last one is acknowledged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Batch {
    messages: Vec<(u16, Attributes)>,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self { messages: Vec::new() }
    }

    pub(super) fn push(&mut self, kind: u16, attributes: Attributes) {
        self.messages.push((kind, attributes));
    }

    /// The number of the message that is acknowledged: they are numbered from 1, which begins.
    pub(super) fn last(&self) -> u32 {
        self.messages.len() as u32 + 1
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let frame = |kind, number| {
            message(kind, NLM_F_REQUEST, number, UNSPEC, SUBSYSTEM, &Attributes::default())
        };
        let mut bytes = frame(BATCH_BEGIN, 1);
        for (index, (kind, attributes)) in self.messages.iter().enumerate() {
            let number = index as u32 + 2;
            let mut flags = NLM_F_REQUEST | NLM_F_CREATE;
            if *kind == NEW_RULE {
                flags |= NLM_F_APPEND;
            }
            if number == self.last() {
                flags |= NLM_F_ACK;
            }
            bytes.extend(message(SUBSYSTEM << 8 | kind, flags, number, INET, 0, attributes));
        }
        bytes.extend(frame(BATCH_END, self.last() + 1));
        bytes
    }
}

/// The request for all objects of one kind, of one family or of every one (0).
pub(super) fn dump(kind: u16, family: u8, of: &Attributes) -> Vec<u8> {
    message(SUBSYSTEM << 8 | kind, NLM_F_REQUEST | NLM_F_DUMP, 1, family, 0, of)
}

fn message(
    kind: u16,
    flags: u16,
    number: u32,
    family: u8,
    resource: u16,
    attributes: &Attributes,
) -> Vec<u8> {
    const HEADERS: u32 = 16 + 4;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(HEADERS + attributes.0.len() as u32).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&number.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(&[family, 0]);
    bytes.extend_from_slice(&resource.to_be_bytes());
    bytes.extend_from_slice(&attributes.0);
    bytes
}

/// Splits a datagram of the kernel into type, number and body of its messages.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header = datagram.first_chunk::<16>()?;
        let word = |at: usize| {
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let length = word(0) as usize;
        let body = datagram.get(16..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[4], header[5]]), word(8), body))
    })
}

/// The attributes in `bytes`, as type and value.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & !NESTED, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let inner = Attributes::default().text(1, "abc").number(2, 7);
        let bytes = Attributes::default().nest(4, &inner).bytes(5, &[1]).0;
        assert_eq!(bytes.len() % 4, 0);
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read[1], (5, &[1][..]));
        let nested: Vec<_> = attributes(read[0].1).collect();
        assert_eq!(nested, [(1, &b"abc\0"[..]), (2, &[0, 0, 0, 7][..])]);
    }

    #[test]
    fn a_batch_is_framed_and_its_last_message_acknowledged() {
        let mut batch = Batch::new();
        batch.push(NEW_TABLE, Attributes::default().text(1, "t"));
        batch.push(NEW_RULE, Expressions::default().verdict(Verdict::Drop).rule("t", "c"));
        let bytes = batch.to_bytes();
        let kinds: Vec<_> = messages(&bytes).map(|(kind, number, _)| (kind, number)).collect();
        assert_eq!(kinds, [(0x10, 1), (0xa00, 2), (0xa06, 3), (0x11, 4)]);
        assert_eq!(batch.last(), 3);
    }

    #[test]
    fn what_is_cut_short_is_harmless() {
        let mut batch = Batch::new();
        batch.push(NEW_TABLE, Attributes::default().text(1, "t").nest(2, &Attributes::default()));
        let bytes = batch.to_bytes();
        for len in 0..bytes.len() {
            for (_, _, body) in messages(&bytes[..len]) {
                attributes(body).for_each(drop);
            }
        }
        assert_eq!(attributes(&[0, 0, 0, 0]).count(), 0, "a length below its own header");
    }
}
