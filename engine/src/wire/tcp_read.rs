//! A TCP header to a [`Segment`]: RFC 9293 §3.1.

use super::checksum;
use super::ip::{ECN_CE, IpPacket, protocol};
use super::{DropReason, Flags, SackBlock, Segment, SeqNum, TcpOptions, Timestamps};

/// Length of a TCP header without options.
pub(super) const TCP_LEN: usize = 20;

/// Option kinds, RFC 9293 §3.2, RFC 7323, RFC 2018.
pub(super) mod kind {
    pub(in super::super) const END: u8 = 0;
    pub(in super::super) const NO_OPERATION: u8 = 1;
    pub(in super::super) const MSS: u8 = 2;
    pub(in super::super) const WINDOW_SCALE: u8 = 3;
    pub(in super::super) const SACK_PERMITTED: u8 = 4;
    pub(in super::super) const SACK: u8 = 5;
    pub(in super::super) const TIMESTAMPS: u8 = 8;
}

/// What is known about a received packet's TCP checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChecksumState {
    /// Nothing: it is verified here.
    Verify,
    /// The device has verified it, or the packet never crossed a wire and the field is partial.
    Trusted,
}

/// Reads the TCP segment in a whole IP packet: source port, destination port, segment.
///
/// The segment's local end is the packet's destination.
pub fn parse_tcp<'a>(
    ip: &IpPacket<'a>,
    check: ChecksumState,
) -> Result<(u16, u16, Segment<'a>), DropReason> {
    check_carries_tcp(ip)?;
    let bytes = ip.payload;
    let (header, _) = bytes.split_first_chunk::<TCP_LEN>().ok_or(DropReason::Truncated)?;
    let header_len = usize::from(header[12] >> 4) * 4;
    if header_len < TCP_LEN {
        return Err(DropReason::BadHeaderLength);
    }
    let options = bytes.get(TCP_LEN..header_len).ok_or(DropReason::BadHeaderLength)?;
    if check == ChecksumState::Verify && !is_intact(ip) {
        return Err(DropReason::BadChecksum);
    }
    let source = u16::from_be_bytes([header[0], header[1]]);
    let destination = u16::from_be_bytes([header[2], header[3]]);
    if source == 0 || destination == 0 {
        return Err(DropReason::BadPort);
    }
    let segment = Segment {
        seq: SeqNum(u32::from_be_bytes([header[4], header[5], header[6], header[7]])),
        ack: SeqNum(u32::from_be_bytes([header[8], header[9], header[10], header[11]])),
        flags: Flags::from_bits_retain(header[13]),
        window: u16::from_be_bytes([header[14], header[15]]),
        options: parse_options(options),
        marked: ip.ecn == ECN_CE,
        payload: &bytes[header_len..],
    };
    Ok((source, destination, segment))
}

fn check_carries_tcp(ip: &IpPacket<'_>) -> Result<(), DropReason> {
    if ip.fragment.is_some() {
        return Err(DropReason::UnexpectedFragment);
    }
    if ip.protocol != protocol::TCP {
        return Err(DropReason::NotForUs);
    }
    Ok(())
}

fn is_intact(ip: &IpPacket<'_>) -> bool {
    // A payload is at most 65,535 bytes, the largest length an IP header can state.
    let length = ip.payload.len() as u32;
    checksum::pseudo_header(ip.src, ip.dst, ip.protocol, length).add_bytes(ip.payload).is_intact()
}

/// Reads an option list, as far as it makes sense.
///
/// Unknown options are skipped, known ones of a wrong length are taken for unknown. A length that
/// cannot be right ends the list; the segment itself is still good, and dropping it would let one
/// broken middlebox kill connections that could live without the option.
fn parse_options(bytes: &[u8]) -> TcpOptions {
    let mut options = TcpOptions::default();
    // The layout of RFC 7323 appendix A, which nearly every segment of a connection has.
    if let &[kind::NO_OPERATION, kind::NO_OPERATION, kind::TIMESTAMPS, 10, ref value @ ..] = bytes
        && let Some(timestamps) = parse_timestamps(value)
        && value.len() == 8
    {
        options.timestamps = Some(timestamps);
        return options;
    }
    let mut rest = bytes;
    while let Some((&option, after)) = rest.split_first() {
        match option {
            kind::END => break,
            kind::NO_OPERATION => rest = after,
            _ => {
                let Some((value, after)) = split_value(after) else { break };
                take_option(&mut options, option, value);
                rest = after;
            }
        }
    }
    options
}

/// Splits the list after an option's kind into the option's value and what follows it.
fn split_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length).checked_sub(2)?)
}

fn take_option(options: &mut TcpOptions, option: u8, value: &[u8]) {
    match (option, value) {
        (kind::MSS, &[high, low]) => options.mss = Some(u16::from_be_bytes([high, low])),
        (kind::WINDOW_SCALE, &[shift]) => options.window_scale = Some(shift),
        (kind::SACK_PERMITTED, []) => options.sack_permitted = true,
        (kind::TIMESTAMPS, value) if value.len() == 8 => {
            options.timestamps = parse_timestamps(value);
        }
        (kind::SACK, value) if !value.is_empty() => {
            if let (blocks, []) = value.as_chunks::<8>() {
                options.sack = blocks.iter().take(4).map(parse_sack_block).collect();
            }
        }
        _ => {}
    }
}

fn parse_timestamps(value: &[u8]) -> Option<Timestamps> {
    let &[a, b, c, d, e, f, g, h] = value.first_chunk::<8>()?;
    Some(Timestamps {
        val: u32::from_be_bytes([a, b, c, d]),
        ecr: u32::from_be_bytes([e, f, g, h]),
    })
}

fn parse_sack_block(&[a, b, c, d, e, f, g, h]: &[u8; 8]) -> SackBlock {
    SackBlock {
        left: SeqNum(u32::from_be_bytes([a, b, c, d])),
        right: SeqNum(u32::from_be_bytes([e, f, g, h])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    const STAMPS: Timestamps = Timestamps { val: 0x0102_0304, ecr: 0x0506_0708 };

    fn packet(payload: &[u8]) -> IpPacket<'_> {
        IpPacket {
            src: IpAddr::from([10, 77, 0, 10]),
            dst: IpAddr::from([10, 77, 0, 100]),
            protocol: protocol::TCP,
            ttl: 64,
            ecn: 0,
            fragment: None,
            payload,
        }
    }

    fn header(data_offset: u8) -> [u8; TCP_LEN] {
        let mut header = [0; TCP_LEN];
        header[1] = 9;
        header[3] = 7;
        header[12] = data_offset << 4;
        header
    }

    fn read(payload: &[u8]) -> Result<(u16, u16, Segment<'_>), DropReason> {
        parse_tcp(&packet(payload), ChecksumState::Trusted)
    }

    #[test]
    fn header_lengths_that_lie_are_refused() {
        assert_eq!(read(&header(5)[..19]), Err(DropReason::Truncated));
        assert_eq!(read(&header(4)), Err(DropReason::BadHeaderLength));
        assert_eq!(read(&header(6)), Err(DropReason::BadHeaderLength));
        assert_eq!(read(&header(15)), Err(DropReason::BadHeaderLength));
        assert!(read(&header(5)).is_ok());
    }

    #[test]
    fn only_whole_tcp_packets_are_read() {
        let bytes = header(5);
        let udp = IpPacket { protocol: protocol::UDP, ..packet(&bytes) };
        assert_eq!(parse_tcp(&udp, ChecksumState::Trusted), Err(DropReason::NotForUs));
        let fragment = Some(super::super::FragmentInfo { id: 1, offset: 0, more: true });
        let fragment = IpPacket { fragment, ..packet(&bytes) };
        let refused = Err(DropReason::UnexpectedFragment);
        assert_eq!(parse_tcp(&fragment, ChecksumState::Trusted), refused);
    }

    #[test]
    fn port_zero_is_nobodys() {
        for at in [1, 3] {
            let mut bytes = header(5);
            bytes[at] = 0;
            assert_eq!(read(&bytes), Err(DropReason::BadPort));
        }
    }

    #[test]
    fn checksum_is_verified_unless_trusted() {
        let bytes = header(5);
        let verified = parse_tcp(&packet(&bytes), ChecksumState::Verify);
        assert_eq!(verified, Err(DropReason::BadChecksum));
        assert!(read(&bytes).is_ok());
    }

    #[test]
    fn all_options_are_read() {
        let bytes = [
            2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7, //
            5, 10, 0, 0, 0, 9, 0, 0, 0, 12, 0, 99, 99,
        ];
        let block = SackBlock { left: SeqNum(9), right: SeqNum(12) };
        let options = TcpOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: Some(STAMPS),
            sack: [block].into_iter().collect(),
        };
        assert_eq!(parse_options(&bytes), options);
    }

    #[test]
    fn nothing_behind_the_end_of_the_list_is_read() {
        let options = TcpOptions { window_scale: Some(7), ..TcpOptions::default() };
        assert_eq!(parse_options(&[3, 3, 7, 0, 2, 4, 0x05, 0xb4]), options);
        assert_eq!(parse_options(&[0, 3, 3, 7]), TcpOptions::default());
    }

    #[test]
    fn unknown_options_and_wrong_lengths_are_skipped() {
        let bytes = [253, 4, 1, 2, 2, 3, 5, 8, 4, 1, 1, 5, 2, 5, 9, 0, 0, 0, 0, 0, 0, 0, 3, 3, 9];
        let options = TcpOptions { window_scale: Some(9), ..TcpOptions::default() };
        assert_eq!(parse_options(&bytes), options);
    }

    #[test]
    fn impossible_length_ends_the_list() {
        let before = TcpOptions { window_scale: Some(9), ..TcpOptions::default() };
        for rest in [&[8, 0, 1, 1][..], &[8, 1], &[8, 11, 0, 0], &[8], &[2, 255, 5, 0xb4]] {
            let bytes = [&[3, 3, 9], rest, &[3, 3, 1]].concat();
            let bytes = if rest == [8] { &bytes[..4] } else { &bytes[..] };
            assert_eq!(parse_options(bytes), before, "{bytes:?}");
        }
    }

    #[test]
    fn common_layout_is_read_as_the_loop_would() {
        let mut bytes = vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let mut options = TcpOptions { timestamps: Some(STAMPS), ..TcpOptions::default() };
        assert_eq!(parse_options(&bytes), options);
        bytes.extend([3, 3, 2, 1]);
        options.window_scale = Some(2);
        assert_eq!(parse_options(&bytes), options);
        assert_eq!(parse_options(&bytes[..11]), TcpOptions::default());
    }
}
