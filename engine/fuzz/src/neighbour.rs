//! ARP and neighbour discovery: the frames, and the machine that answers them.
//!
//! An input is a list of frames, each behind an order byte that says what the role machine does
//! first and how much time passes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use standin::neighbour::{Neighbour, Settings};
use standin::time::{Duration, Instant};
use standin::wire::checksum::pseudo_header;
use standin::wire::{ETHERNET_HEADER_LEN, Frame, MacAddr, NeighbourFrame, parse_ip, protocol};

use crate::pieces::Pieces;
use crate::segments::put_sum_right;

/// Order bit: mend the checksum.
const REPAIR: u8 = 8;

/// More frames than one event can cause: a probe or two announcements for each address, and the
/// answers that may wait.
const FRAMES_MAX: usize = 64 + 2 * 2 + 1;

/// Reads each frame and writes it again, hands it to a machine, and looks at all that it sends.
pub fn run(data: &[u8]) {
    let mut pieces = Pieces::new(data);
    let mut now = Instant::from_millis(1);
    let mut machine = Neighbour::new(Settings {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        addresses: vec![
            IpAddr::V4(Ipv4Addr::new(10, 77, 0, 100)),
            IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100)),
        ],
        router: true,
    });
    let mut owner = false;
    while let Some(order) = pieces.next() {
        now = now + Duration::from_millis(u64::from(order >> 4) * 20);
        match order & 7 {
            0 => {
                owner = true;
                machine.announce(now);
            }
            1 => {
                owner = false;
                machine.silence();
            }
            2 if !owner => machine.probe(now),
            _ => {}
        }
        let mut frame = pieces.run().to_vec();
        if order & REPAIR != 0 {
            repair(&mut frame);
        }
        check_frame(&frame);
        let silent = !owner && machine.deadline().is_none();
        machine.on_frame(now, &frame, owner);
        let sent = drain(&mut machine, now);
        assert!(sent == 0 || !silent, "who does not own the address says nothing");
        machine.on_timer(now);
        assert!(machine.deadline().is_none_or(|at| at > now), "what is due has been done");
    }
}

/// Puts the checksum of a neighbour discovery message right, which random bytes never do.
fn repair(frame: &mut [u8]) {
    const HEADERS: usize = ETHERNET_HEADER_LEN + 40;
    let Ok(ip) = parse_ip(frame.get(ETHERNET_HEADER_LEN..).unwrap_or_default()) else { return };
    let sum = pseudo_header(ip.src, ip.dst, protocol::ICMPV6, ip.payload.len() as u32);
    let length = ip.payload.len();
    if ip.src.is_ipv6() && frame.len() >= HEADERS + length {
        put_sum_right(&mut frame[HEADERS..HEADERS + length], 2, sum);
    }
}

fn check_frame(bytes: &[u8]) {
    let Ok(frame) = NeighbourFrame::parse(bytes) else { return };
    let written = match &frame {
        NeighbourFrame::Arp(arp) => arp.to_frame(),
        NeighbourFrame::Solicitation(solicitation) => solicitation.to_frame(),
        NeighbourFrame::Advertisement(advertisement) => advertisement.to_frame(),
        NeighbourFrame::Other => return,
    };
    assert_eq!(NeighbourFrame::parse(&written), Ok(frame), "written as read");
}

/// Takes all frames; each must be sound, and of a kind that the LAN understands.
fn drain(machine: &mut Neighbour, now: Instant) -> usize {
    let mut count = 0;
    while let Some(frame) = machine.poll_frame(now) {
        assert_sound(&frame);
        count += 1;
        assert!(count <= FRAMES_MAX, "a bounded number of frames");
    }
    count
}

fn assert_sound(frame: &Frame) {
    let read = NeighbourFrame::parse(frame).expect("our own frame");
    assert!(read != NeighbourFrame::Other);
}
