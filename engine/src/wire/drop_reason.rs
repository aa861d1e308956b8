//! Why a packet went no further.

use core::fmt;

/// Why a packet or frame was dropped. Each has a counter, found by [`DropReason::index`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DropReason {
    /// Fewer bytes than a header promises or needs.
    Truncated,
    /// Neither IPv4 nor IPv6.
    BadVersion,
    /// A header length (IHL, data offset) below its minimum or beyond the packet.
    BadHeaderLength,
    /// The IPv4 header checksum is wrong.
    BadHeaderChecksum,
    /// The TCP or ICMP checksum is wrong.
    BadChecksum,
    /// A source address that no host may send from: multicast, broadcast, unspecified, loopback.
    BadAddress,
    /// A TCP port of zero.
    BadPort,
    /// IPv4 options that do not parse, or a source route.
    BadIpOptions,
    /// An IPv6 extension header that is misplaced, malformed, one too many, or demands to be
    /// understood and is not.
    BadExtension,
    /// An ARP, neighbour discovery or ICMP message with a field that its RFC does not allow.
    BadMessage,
    /// A neighbour discovery message that came through a router: hop limit below 255.
    BadHopLimit,
    /// Another protocol or address than the one asked for.
    NotForUs,
    /// A fragment where only a whole packet can be understood.
    UnexpectedFragment,
    /// A fragment that is empty, not a multiple of eight bytes, or ends beyond the largest packet.
    FragmentSize,
    /// A fragment of a datagram whose fragments overlap or contradict each other, RFC 5722.
    FragmentOverlap,
    /// A first IPv6 fragment without the whole header chain, RFC 8200 §4.5.
    FragmentHeaderChain,
    /// Fragments that disagree about congestion marks, RFC 3168 §5.3.
    FragmentEcn,
    /// No memory left for a fragment, or too many pieces.
    FragmentLimit,
    /// A packet to be passed on whose TTL or hop limit is 0.
    TtlExceeded,
}

impl DropReason {
    /// Every reason, in the order of [`DropReason::index`].
    pub const ALL: [Self; 19] = [
        Self::Truncated,
        Self::BadVersion,
        Self::BadHeaderLength,
        Self::BadHeaderChecksum,
        Self::BadChecksum,
        Self::BadAddress,
        Self::BadPort,
        Self::BadIpOptions,
        Self::BadExtension,
        Self::BadMessage,
        Self::BadHopLimit,
        Self::NotForUs,
        Self::UnexpectedFragment,
        Self::FragmentSize,
        Self::FragmentOverlap,
        Self::FragmentHeaderChain,
        Self::FragmentEcn,
        Self::FragmentLimit,
        Self::TtlExceeded,
    ];

    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// A number below [`DropReason::COUNT`], for an array of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// A short name in snake case, for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::BadVersion => "bad_version",
            Self::BadHeaderLength => "bad_header_length",
            Self::BadHeaderChecksum => "bad_header_checksum",
            Self::BadChecksum => "bad_checksum",
            Self::BadAddress => "bad_address",
            Self::BadPort => "bad_port",
            Self::BadIpOptions => "bad_ip_options",
            Self::BadExtension => "bad_extension",
            Self::BadMessage => "bad_message",
            Self::BadHopLimit => "bad_hop_limit",
            Self::NotForUs => "not_for_us",
            Self::UnexpectedFragment => "unexpected_fragment",
            Self::FragmentSize => "fragment_size",
            Self::FragmentOverlap => "fragment_overlap",
            Self::FragmentHeaderChain => "fragment_header_chain",
            Self::FragmentEcn => "fragment_ecn",
            Self::FragmentLimit => "fragment_limit",
            Self::TtlExceeded => "ttl_exceeded",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for DropReason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_index_and_name() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(DropReason::ALL.iter().filter(|r| r.name() == reason.name()).count(), 1);
        }
    }
}
