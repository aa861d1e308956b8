//! Hello: whether two engines may work together, said before anything else.
//!
//! The versions make a pair that is being upgraded one node at a time work on. The configuration
//! travels as a list of parts, each a name and a digest of what it holds: two engines that would
//! answer a client differently must not be a pair, and the operator is told where they differ.
//!
//! The layout of a hello is for ever. A later version may add fields behind the last one, which
//! earlier ones skip. Version 4 did: behind the digests by which version 3 compares configurations are
//! those by which it does, and two engines compare what both of them can.

use core::fmt;

use arrayvec::ArrayString;

use super::codec::{Fields, node_code};
use super::{VERSION, VERSION_MIN, Violation};
use crate::ids::{Epoch, Node};

/// What every hello starts with.
const NAME: [u8; 8] = *b"standin\n";
/// The longest name of a part, bytes.
const PART_NAME_MAX: usize = 32;
/// The most parts of a configuration.
const PARTS_MAX: usize = 64;
/// The body of a hello without parts.
pub(super) const HELLO_MIN: usize = 8 + 2 + 2 + 1 + 1 + 8 + 8 + 1;
/// The longest body of a hello: all parts twice, in which version 4 has used up what version 3 left for
/// fields yet to come. Configurations have seven parts.
pub(super) const HELLO_MAX: usize = 2 * (HELLO_MIN + PARTS_MAX * (1 + PART_NAME_MAX + 8));
/// From this version on configurations are compared as they are encoded.
const VERSION_ENCODED: u16 = 4;

/// The versions an engine speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Versions {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl Versions {
    /// What this engine speaks.
    pub const OURS: Self = Self { min: VERSION_MIN, max: VERSION };

    /// The newest version that both speak.
    pub const fn common(self, other: Self) -> Option<u16> {
        let min = if self.min > other.min { self.min } else { other.min };
        let max = if self.max < other.max { self.max } else { other.max };
        if min <= max { Some(max) } else { None }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            return write!(f, "{}", self.max);
        }
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// One part of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    name: ArrayString<PART_NAME_MAX>,
    digest: u64,
}

impl Part {
    /// The part `name` (1 to 32 printable ASCII characters), with a digest of what it says.
    pub fn new(name: &str, digest: u64) -> Self {
        let part = checked_name(name.as_bytes());
        assert!(part.is_some(), "a part's name is 1 to 32 printable ASCII characters");
        Self { name: part.unwrap_or_default(), digest }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Digest of what it says.
    pub const fn digest(&self) -> u64 {
        self.digest
    }
}

/// The process that speaks, and its configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    /// The versions it speaks.
    pub versions: Versions,
    /// Which of the two nodes it is.
    pub node: Node,
    /// A number drawn when the process started: tells a restarted engine from the one before.
    pub boot: u64,
    /// Its role, as the engine numbers it.
    pub role: u8,
    /// The newest epoch it knows.
    pub epoch: Epoch,
    /// The parts of its configuration that a pair must share: at most 64, no name twice. Empty of one
    /// that speaks nothing later than version 3.
    pub config: Vec<Part>,
    /// The same as version 3 digests them.
    pub config_3: Vec<Part>,
}

/// Which of two configurations has a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Only ours.
    Ours,
    /// Only the peer's.
    Theirs,
    /// Both, but it says different things.
    Both,
}

/// A part in which two configurations differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The name of the part.
    pub part: ArrayString<PART_NAME_MAX>,
    /// Which of the two has it.
    pub side: Side,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Side::Ours => write!(f, "{} (only here)", self.part),
            Side::Theirs => write!(f, "{} (only there)", self.part),
            Side::Both => f.write_str(&self.part),
        }
    }
}

/// Why two engines may not be a pair.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Mismatch {
    /// No version that both speak.
    #[error("the peer speaks version {theirs}, this engine {ours}: upgrade the older one first")]
    Version {
        /// What we speak.
        ours: Versions,
        /// What the peer speaks.
        theirs: Versions,
    },
    /// Both are the same node of the pair.
    #[error("the peer says it is node {0} too")]
    SameNode(Node),
    /// Their configurations differ.
    #[error("the configurations differ in: {}", list(.0))]
    Config(Vec<Difference>),
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join(", ")
}

impl Hello {
    /// Whether the two may work together: the version to speak, or everything that is in the way.
    pub fn compare(&self, peer: &Self) -> Result<u16, Mismatch> {
        let (ours, theirs) = (self.versions, peer.versions);
        let version = ours.common(theirs).ok_or(Mismatch::Version { ours, theirs })?;
        if self.node == peer.node {
            return Err(Mismatch::SameNode(peer.node));
        }
        let differences = if version < VERSION_ENCODED {
            differences(&self.config_3, &peer.config_3)
        } else {
            differences(&self.config, &peer.config)
        };
        if differences.is_empty() { Ok(version) } else { Err(Mismatch::Config(differences)) }
    }

    /// Appends the body of the frame.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Self { versions, node, boot, role, epoch, config, config_3 } = self;
        out.extend_from_slice(&NAME);
        out.extend_from_slice(&versions.min.to_le_bytes());
        out.extend_from_slice(&versions.max.to_le_bytes());
        out.extend_from_slice(&[node_code(*node), *role]);
        out.extend_from_slice(&boot.to_le_bytes());
        out.extend_from_slice(&epoch.0.to_le_bytes());
        encode_parts(config_3, out);
        if versions.max >= VERSION_ENCODED {
            encode_parts(config, out);
        }
    }

    /// Reads the body of the frame.
    pub(super) fn decode(mut fields: Fields<'_>) -> Result<Self, Violation> {
        if fields.bytes(NAME.len())? != NAME {
            return Err(Violation::NotStandin);
        }
        let versions = Versions { min: fields.u16()?, max: fields.u16()? };
        if versions.min > versions.max {
            let (what, value) = ("the oldest version of the peer", versions.min.into());
            return Err(Violation::Value { what, value, expected: "at most its newest" });
        }
        let (node, role) = (fields.node()?, fields.u8()?);
        let (boot, epoch) = (fields.u64()?, Epoch(fields.u64()?));
        let config_3 = decode_parts(&mut fields)?;
        let config = match versions.max >= VERSION_ENCODED {
            true => decode_parts(&mut fields)?,
            false => Vec::new(),
        };
        Ok(Self { versions, node, boot, role, epoch, config, config_3 })
    }
}

/// What two configurations differ in, in the order of ours, then what only the peer has. The order of
/// parts means nothing.
fn differences(ours: &[Part], theirs: &[Part]) -> Vec<Difference> {
    let only_or_other = ours.iter().filter_map(|part| {
        let side = match theirs.iter().find(|other| other.name == part.name) {
            None => Side::Ours,
            Some(other) if other.digest != part.digest => Side::Both,
            Some(_) => return None,
        };
        Some(Difference { part: part.name, side })
    });
    let only_theirs = theirs.iter().filter(|part| !ours.iter().any(|our| our.name == part.name));
    let only_theirs = only_theirs.map(|part| Difference { part: part.name, side: Side::Theirs });
    only_or_other.chain(only_theirs).collect()
}

fn encode_parts(parts: &[Part], out: &mut Vec<u8>) {
    assert!(parts.len() <= PARTS_MAX, "a configuration has at most 64 parts");
    out.push(u8::try_from(parts.len()).unwrap_or(u8::MAX));
    for part in parts {
        out.push(u8::try_from(part.name.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(part.name.as_bytes());
        out.extend_from_slice(&part.digest.to_le_bytes());
    }
}

fn decode_parts(fields: &mut Fields<'_>) -> Result<Vec<Part>, Violation> {
    let count = usize::from(fields.u8()?);
    if count > PARTS_MAX {
        let (what, value) = ("the number of configuration parts", count as u64);
        return Err(Violation::Value { what, value, expected: "at most 64" });
    }
    let mut parts: Vec<Part> = Vec::with_capacity(count);
    for index in 0..count {
        let length = fields.u8()?.into();
        let name = checked_name(fields.bytes(length)?);
        let name = name.ok_or(Violation::Text { what: "the name of a configuration part" })?;
        if parts.iter().any(|part| part.name == name) {
            return Err(Violation::PartTwice { index });
        }
        parts.push(Part { name, digest: fields.u64()? });
    }
    Ok(parts)
}

/// A name that can be shown to the operator: it ends up in logs.
fn checked_name(name: &[u8]) -> Option<ArrayString<PART_NAME_MAX>> {
    let printable = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    let name = str::from_utf8(name).ok().filter(|_| printable)?;
    ArrayString::from(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: Node, config: &[(&str, u64)]) -> Hello {
        let config: Vec<_> = config.iter().map(|&(name, digest)| Part::new(name, digest)).collect();
        let config_3 = Vec::new();
        Hello {
            versions: Versions::OURS,
            node,
            boot: 7,
            role: 1,
            epoch: Epoch(4),
            config,
            config_3,
        }
    }

    /// As one of version 3 says it.
    fn hello_3(node: Node, config: &[(&str, u64)]) -> Hello {
        let hello = hello(node, config);
        let versions = Versions { min: 2, max: 3 };
        Hello { versions, config: Vec::new(), config_3: hello.config, ..hello }
    }

    #[test]
    fn configurations_are_compared_by_the_digests_that_both_know() {
        let before = hello_3(Node::B, &[("ports", 1)]);
        let mut ours = hello(Node::A, &[("ports", 9)]);
        ours.config_3 = vec![Part::new("ports", 1)];
        assert_eq!((ours.compare(&before), before.compare(&ours)), (Ok(3), Ok(3)));
        let same_text = Hello { config: vec![Part::new("ports", 8)], ..ours.clone() };
        let peer = Hello { node: Node::B, ..same_text };
        let side = Side::Both;
        let part = ArrayString::from("ports").unwrap();
        assert_eq!(
            ours.compare(&peer),
            Err(Mismatch::Config(vec![Difference { part, side }])),
            "two of version 4 go by the encoding alone"
        );
        let other = hello_3(Node::B, &[("ports", 2)]);
        assert!(ours.compare(&other).is_err() && other.compare(&ours).is_err());
    }

    #[test]
    fn the_same_configuration_in_any_order_is_a_pair() {
        let a = hello(Node::A, &[("ports", 1), ("limits", 2)]);
        let b = hello(Node::B, &[("limits", 2), ("ports", 1)]);
        assert_eq!(a.compare(&b), Ok(VERSION));
        assert_eq!(b.compare(&a), Ok(VERSION));
    }

    #[test]
    fn every_part_that_differs_is_named() {
        let a = hello(Node::A, &[("ports", 1), ("limits", 2), ("address", 3)]);
        let b = hello(Node::B, &[("address", 3), ("limits", 5), ("timing", 6)]);
        assert_eq!(
            a.compare(&b).map_err(|mismatch| mismatch.to_string()),
            Err("the configurations differ in: ports (only here), limits, timing (only there)"
                .into())
        );
    }

    #[test]
    fn a_node_is_no_pair_with_itself() {
        let a = hello(Node::A, &[]);
        assert_eq!(a.compare(&a), Err(Mismatch::SameNode(Node::A)));
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        let at = |min, max| Versions { min, max };
        assert_eq!(at(1, 2).common(at(2, 3)), Some(2), "one release apart");
        assert_eq!(at(2, 3).common(at(1, 2)), Some(2));
        assert_eq!(at(1, 3).common(at(2, 3)), Some(3));
        assert_eq!(at(1, 1).common(at(2, 3)), None);

        let a = hello(Node::A, &[]);
        let b = Hello { versions: at(VERSION + 1, VERSION + 2), ..hello(Node::B, &[]) };
        assert_eq!(
            a.compare(&b),
            Err(Mismatch::Version { ours: Versions::OURS, theirs: b.versions })
        );
    }

    #[test]
    fn fields_of_a_later_version_are_skipped() {
        for hello in [hello(Node::A, &[("ports", 1)]), hello_3(Node::A, &[("ports", 1)])] {
            let mut bytes = Vec::new();
            hello.encode(&mut bytes);
            bytes.extend_from_slice(b"more to say");
            assert_eq!(Hello::decode(Fields::new("a hello", &bytes)), Ok(hello));
        }
    }

    #[test]
    fn what_is_no_hello_of_ours_is_refused_by_name() {
        let mut good = Vec::new();
        hello_3(Node::A, &[("ports", 1), ("limit", 2)]).encode(&mut good);
        let refused = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            Hello::decode(Fields::new("a hello", &bytes)).map_err(|violation| violation.to_string())
        };
        assert_eq!(refused(&|bytes| bytes[0] = b'G'), Err(Violation::NotStandin.to_string()));
        assert_eq!(
            refused(&|bytes| bytes[8] = 9),
            Err("the oldest version of the peer is 9, expected at most its newest".into())
        );
        assert_eq!(refused(&|bytes| bytes[12] = 2), Err("a node is 2, expected 0 or 1".into()));
        assert_eq!(
            refused(&|bytes| bytes[30] = 65),
            Err("the number of configuration parts is 65, expected at most 64".into())
        );
        assert_eq!(
            refused(&|bytes| bytes[32] = b'\n'),
            Err("the name of a configuration part is not printable text".into())
        );
        assert_eq!(
            refused(&|bytes| bytes[46..51].copy_from_slice(b"ports")),
            Err(Violation::PartTwice { index: 1 }.to_string())
        );
    }

    #[test]
    #[should_panic(expected = "a part's name is 1 to 32")]
    fn a_part_needs_a_name() {
        let _ = Part::new("", 1);
    }
}
