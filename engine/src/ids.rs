//! Names that more than one module uses: a connection, a log position, an epoch, a node.

use core::fmt;

/// One connection for its whole life, on both nodes and in the log. Never reused within an epoch
/// line: the low half names a slot, the high half tells its tenants apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}", self.0)
    }
}

/// One splice for its whole life, on both nodes and in the log. The halves mean what those of a
/// [`ConnId`] mean; the two kinds of names have nothing to do with each other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpliceId(pub u64);

impl fmt::Debug for SpliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{:x}", self.0)
    }
}

/// One session of several connections for its whole life, on both nodes and in the log. The halves mean
/// what those of a [`ConnId`] mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "j{:x}", self.0)
    }
}

/// The name of a service, as records carry it: what it is called stays when others come and go. A number
/// made of the name in the configuration, where no two may have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceName(pub u32);

/// A position in the replicated log: the number of the last record included. 0 is "nothing".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Self = Self(0);

    /// The position after one more record.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// One of the two nodes of a pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Node {
    /// Node `a`.
    A,
    /// Node `b`.
    B,
}

impl Node {
    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "a",
            Self::B => "b",
        })
    }
}

/// The number of an ownership of the service address; grows with every change of owner (§7).
///
/// Node `a` claims even epochs and node `b` odd ones, so two nodes that claim without hearing of
/// each other can never hold the same one: the higher wins when they meet. 0 is "none yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// No ownership yet.
    pub const NONE: Self = Self(0);

    /// The next epoch that `node` may claim after this one.
    #[must_use]
    pub const fn next_for(self, node: Node) -> Self {
        let parity = match node {
            Node::A => 0,
            Node::B => 1,
        };
        let next = self.0 + 1;
        if next % 2 == parity { Self(next) } else { Self(next + 1) }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_nodes_never_claim_the_same_epoch() {
        for n in 0..10 {
            let (a, b) = (Epoch(n).next_for(Node::A), Epoch(n).next_for(Node::B));
            assert!(a > Epoch(n) && b > Epoch(n) && a != b);
        }
    }
}
