//! Solicitations and advertisements.

use super::*;
use crate::wire::NeighbourFrame;

const ME: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const YOU: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100);
const CLIENT: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x10);

/// The frame with `bytes` at `at`, its checksum set right again.
fn changed(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut frame);
    frame
}

fn seal(frame: &mut [u8]) {
    let address =
        |at: usize| IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap()));
    let length = (frame.len() - 54) as u32;
    let pseudo = checksum::pseudo_header(address(22), address(38), protocol::ICMPV6, length);
    frame[56..58].fill(0);
    let sum = pseudo.add_bytes(&frame[54..]).checksum();
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
}

/// A frame with `more` appended, lengths and checksum set right.
fn extended(frame: &[u8], more: &[u8]) -> Vec<u8> {
    let mut frame = [frame, more].concat();
    let length = (frame.len() - 54) as u16;
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    seal(&mut frame);
    frame
}

#[test]
fn group_of_an_address_is_that_of_rfc_4291() {
    let (group, mac) = solicited_node("4037::1:800:200e:8c6c".parse().unwrap());
    assert_eq!(group, "ff02::1:ff0e:8c6c".parse::<Ipv6Addr>().unwrap());
    assert_eq!(mac, MacAddr([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
}

#[test]
fn question_goes_to_the_group_and_is_read_back() {
    let request = NeighbourSolicitation::request(YOU, CLIENT, SERVICE);
    let frame = request.to_frame();
    assert_eq!(frame.len(), 86);
    assert_eq!(NeighbourFrame::parse(&frame), Ok(NeighbourFrame::Solicitation(request)));
    assert_eq!((request.destination, request.destination_mac), solicited_node(SERVICE));
    assert!(!request.is_probe());
}

#[test]
fn answer_goes_to_the_asker() {
    let request = NeighbourSolicitation::request(YOU, CLIENT, SERVICE);
    let reply = NeighbourAdvertisement::reply(&request, ME, false);
    let expected = NeighbourAdvertisement {
        source_mac: ME,
        destination_mac: YOU,
        source: SERVICE,
        destination: CLIENT,
        target: SERVICE,
        target_link: Some(ME),
        flags: NaFlags { router: false, solicited: true, override_: true },
    };
    assert_eq!(reply, expected);
    let read = NeighbourFrame::parse(&reply.to_frame());
    assert_eq!(read, Ok(NeighbourFrame::Advertisement(expected)));
}

#[test]
fn probe_is_answered_to_everybody() {
    let probe = NeighbourSolicitation::probe(YOU, SERVICE);
    let frame = probe.to_frame();
    assert_eq!(frame.len(), 78);
    assert_eq!(NeighbourSolicitation::parse(&frame), Ok(probe));
    assert!(probe.is_probe());
    let reply = NeighbourAdvertisement::reply(&probe, ME, true);
    let expected = NeighbourAdvertisement {
        source_mac: ME,
        destination_mac: MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        source: SERVICE,
        destination: "ff02::1".parse().unwrap(),
        target: SERVICE,
        target_link: Some(ME),
        flags: NaFlags { router: true, solicited: false, override_: true },
    };
    assert_eq!(reply, expected);
    assert_eq!(NeighbourAdvertisement::parse(&reply.to_frame()), Ok(expected));
}

#[test]
fn every_flag_is_kept() {
    for bits in 0..8_u8 {
        let mut packet = NeighbourAdvertisement::announcement(ME, SERVICE, bits & 1 != 0);
        packet.flags.solicited = bits & 2 != 0;
        packet.flags.override_ = bits & 4 != 0;
        packet.destination = CLIENT;
        packet.target_link = None;
        assert_eq!(NeighbourAdvertisement::parse(&packet.to_frame()), Ok(packet));
    }
}

#[test]
fn message_from_beyond_the_link_is_refused() {
    let mut frame = NeighbourSolicitation::request(YOU, CLIENT, SERVICE).to_frame();
    frame[21] = 254;
    assert_eq!(NeighbourFrame::parse(&frame), Err(DropReason::BadHopLimit));
}

#[test]
fn damaged_message_is_refused() {
    let mut frame = NeighbourSolicitation::request(YOU, CLIENT, SERVICE).to_frame();
    frame[85] ^= 1;
    assert_eq!(NeighbourFrame::parse(&frame), Err(DropReason::BadChecksum));
    assert_eq!(NeighbourFrame::parse(&frame[..85]), Err(DropReason::Truncated));
    assert_eq!(NeighbourFrame::parse(&frame[..53]), Ok(NeighbourFrame::Other));
}

#[test]
fn solicitation_is_checked_as_rfc_4861_says() {
    let frame = NeighbourSolicitation::request(YOU, CLIENT, SERVICE).to_frame();
    let read = |frame: &[u8]| NeighbourSolicitation::parse(frame);
    assert_eq!(read(&changed(&frame, 55, &[1])), Err(DropReason::BadMessage)); // code
    assert_eq!(read(&changed(&frame, 62, &[0xff])), Err(DropReason::BadMessage)); // target group
    assert_eq!(read(&changed(&frame, 79, &[0])), Err(DropReason::BadMessage)); // option length 0
    assert_eq!(read(&changed(&frame, 79, &[2])), Err(DropReason::BadMessage)); // option too long
    assert_eq!(read(&changed(&frame, 80, &[0xff])), Err(DropReason::BadAddress)); // to a group
    assert_eq!(read(&changed(&frame, 6, &[0xff])), Err(DropReason::BadAddress)); // from a group
    assert_eq!(read(&changed(&frame, 22, &[0xff])), Err(DropReason::BadAddress));
    let advertisement = NeighbourAdvertisement::announcement(ME, SERVICE, false).to_frame();
    assert_eq!(read(&advertisement), Err(DropReason::NotForUs));
}

#[test]
fn probe_is_checked_as_rfc_4861_says() {
    let probe = NeighbourSolicitation::probe(YOU, SERVICE);
    let with_link = NeighbourSolicitation { source_link: Some(YOU), ..probe };
    let parse = NeighbourSolicitation::parse;
    assert_eq!(parse(&with_link.to_frame()), Err(DropReason::BadMessage));
    let to_target = NeighbourSolicitation { destination: SERVICE, ..probe };
    assert_eq!(parse(&to_target.to_frame()), Err(DropReason::BadMessage));
}

#[test]
fn advertisement_is_checked_as_rfc_4861_says() {
    let sound = NeighbourAdvertisement::announcement(ME, SERVICE, false);
    let solicited = NaFlags { solicited: true, ..sound.flags };
    let to_all = NeighbourAdvertisement { flags: solicited, ..sound };
    let parse = NeighbourAdvertisement::parse;
    assert_eq!(parse(&to_all.to_frame()), Err(DropReason::BadMessage));
    let from_nobody = NeighbourAdvertisement { source: Ipv6Addr::UNSPECIFIED, ..sound };
    assert_eq!(parse(&from_nobody.to_frame()), Err(DropReason::BadMessage));
}

#[test]
fn options_of_other_kinds_are_skipped_and_must_be_sound() {
    let probe = NeighbourSolicitation::probe(YOU, SERVICE);
    let frame = probe.to_frame();
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    assert_eq!(NeighbourSolicitation::parse(&extended(&frame, &nonce)), Ok(probe));
    for rest in [&[14_u8][..], &[14, 0, 0, 0, 0, 0, 0, 0], &[14, 2, 0, 0, 0, 0, 0, 0]] {
        let parsed = NeighbourSolicitation::parse(&extended(&frame, rest));
        assert_eq!(parsed, Err(DropReason::BadMessage));
    }
}
