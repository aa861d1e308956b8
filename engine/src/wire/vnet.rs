//! What the kernel and the engine tell each other about a packet beside its bytes.
//!
//! A TUN device opened with `IFF_VNET_HDR` puts ten bytes before every packet, in both directions:
//! `struct virtio_net_hdr` of Linux's `virtio_net.h`. They let one read or write carry a
//! super-packet of up to 64 KiB, and let either side leave a checksum to the other:
//!
//! ```text
//!  0      1         2           4          6            8             10
//!  | flags | gso_type | header_len | gso_size | csum_start | csum_offset |   host byte order
//! ```
//!
//! `NEEDS_CSUM` says that the checksum field holds only the folded pseudo-header sum and the rest
//! is still to be added. Such a packet never crossed a wire in this form, so there is nothing that
//! could have been damaged and nothing to verify.

use super::ChecksumState;

/// The ten bytes before a packet on a TUN device with `IFF_VNET_HDR`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VnetHeader {
    /// [`VnetHeader::NEEDS_CSUM`], [`VnetHeader::DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_…` kinds, with [`VnetHeader::GSO_ECN`] perhaps.
    pub gso_type: u8,
    /// Length of all headers of a super-packet, in bytes. A hint.
    pub header_len: u16,
    /// Payload bytes of each segment to cut the packet into.
    pub gso_size: u16,
    /// Where summing starts, in bytes from the IP header. With `NEEDS_CSUM` only.
    pub csum_start: u16,
    /// Where the checksum goes, in bytes from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Its length in bytes.
    pub const LEN: usize = 10;
    /// Flag: the checksum is partial, see `csum_start`.
    pub const NEEDS_CSUM: u8 = 1;
    /// Flag: the checksum has been verified already.
    pub const DATA_VALID: u8 = 2;
    /// Not a super-packet.
    pub const GSO_NONE: u8 = 0;
    /// A TCP super-packet over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// A TCP super-packet over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// Bit of `gso_type`: CWR is set, and belongs on the first segment only.
    pub const GSO_ECN: u8 = 0x80;
    /// A plain packet, complete as it is.
    pub const PLAIN: Self = Self {
        flags: 0,
        gso_type: Self::GSO_NONE,
        header_len: 0,
        gso_size: 0,
        csum_start: 0,
        csum_offset: 0,
    };

    /// Reads the header at the start of `bytes`; `None` if they are too few.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<{ Self::LEN }>()?;
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Some(Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// Writes the header.
    pub fn write(&self, bytes: &mut [u8; Self::LEN]) {
        let Self { flags, gso_type, header_len, gso_size, csum_start, csum_offset } = *self;
        bytes[0] = flags;
        bytes[1] = gso_type;
        bytes[2..4].copy_from_slice(&header_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&csum_offset.to_ne_bytes());
    }

    /// Whether the checksum field holds only the pseudo-header sum.
    pub const fn needs_csum(&self) -> bool {
        self.flags & Self::NEEDS_CSUM != 0
    }

    /// Whether the kernel or the device has verified the checksum.
    pub const fn data_valid(&self) -> bool {
        self.flags & Self::DATA_VALID != 0
    }

    /// Whether the packet is to be cut into segments of `gso_size`.
    pub const fn is_gso(&self) -> bool {
        self.gso_type & !Self::GSO_ECN != Self::GSO_NONE
    }

    /// What there is to verify about a received TCP checksum.
    pub const fn checksum_state(&self) -> ChecksumState {
        if self.needs_csum() || self.data_valid() {
            ChecksumState::Trusted
        } else {
            ChecksumState::Verify
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_TCPV6 | VnetHeader::GSO_ECN,
            header_len: 72,
            gso_size: 1428,
            csum_start: 40,
            csum_offset: 16,
        };
        let mut bytes = [0; VnetHeader::LEN];
        header.write(&mut bytes);
        assert_eq!(VnetHeader::parse(&bytes), Some(header));
        assert_eq!(VnetHeader::parse(&bytes[..9]), None);
        assert!(header.is_gso() && header.needs_csum() && !header.data_valid());
        assert!(!VnetHeader { gso_type: VnetHeader::GSO_ECN, ..VnetHeader::PLAIN }.is_gso());
    }

    #[test]
    fn only_an_offload_makes_a_checksum_trusted() {
        let with = |flags| VnetHeader { flags, ..VnetHeader::PLAIN }.checksum_state();
        assert_eq!(with(0), ChecksumState::Verify);
        assert_eq!(with(VnetHeader::NEEDS_CSUM), ChecksumState::Trusted);
        assert_eq!(with(VnetHeader::DATA_VALID), ChecksumState::Trusted);
    }
}
