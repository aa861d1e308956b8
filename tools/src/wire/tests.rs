//! The link's decisions, on a clock of the test's own.

use std::time::Duration;

use super::{Bursts, Counts, Impairments, Path, Share};

const FRAME: usize = 1514;

fn share(share: f64) -> Share {
    Share::new(share).unwrap()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A frame that carries its number behind its Ethernet header.
fn frame(number: u32) -> Vec<u8> {
    let mut frame = vec![0; FRAME];
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

/// What arrives of `count` frames offered `every`: when, and which.
fn carry(path: &mut Path, count: u32, every: Duration) -> Vec<(Duration, u32)> {
    let mut arrived = Vec::new();
    let mut now = Duration::ZERO;
    for number in 0..count {
        path.offer(now, &mut frame(number));
        now += every;
    }
    while let Some(at) = path.deadline() {
        if let Some(before) = at.checked_sub(Duration::from_nanos(1)) {
            assert_eq!(path.poll(before), None, "nothing arrives early");
        }
        let frame = path.poll(at).unwrap();
        arrived.push((at, u32::from_be_bytes(frame[14..18].try_into().unwrap())));
        path.reuse(frame);
    }
    arrived
}

fn numbers(arrived: &[(Duration, u32)]) -> Vec<u32> {
    arrived.iter().map(|&(_, number)| number).collect()
}

#[test]
fn a_plain_link_delays_and_does_nothing_else() {
    let mut path = Path::new(Impairments { delay: ms(10), ..Impairments::default() }, 1);
    let arrived = carry(&mut path, 3, ms(1));
    assert_eq!(arrived, [(ms(10), 0), (ms(11), 1), (ms(12), 2)]);
    let expected =
        Counts { offered: 3, delivered: 3, bytes: 3 * FRAME as u64, ..Counts::default() };
    assert_eq!(path.counts(), expected);
}

#[test]
fn jitter_spreads_arrivals_and_keeps_their_order() {
    let settings = Impairments { delay: ms(10), jitter: ms(5), ..Impairments::default() };
    let arrived = carry(&mut Path::new(settings, 1), 1000, ms(10));
    assert_eq!(numbers(&arrived), (0..1000).collect::<Vec<_>>());
    let delays: Vec<_> = arrived.iter().map(|&(at, number)| at - ms(10) * number).collect();
    assert!(delays.iter().all(|delay| (ms(5)..=ms(15)).contains(delay)));
    let mean = delays.iter().sum::<Duration>() / 1000;
    assert!((ms(9)..ms(11)).contains(&mean), "{mean:?}");
}

#[test]
fn loss_takes_the_share_that_was_asked_for() {
    let mut path = Path::new(Impairments { loss: share(0.1), ..Impairments::default() }, 7);
    let arrived = carry(&mut path, 10_000, ms(1));
    assert!((8800..9200).contains(&arrived.len()), "{}", arrived.len());
    assert_eq!(path.counts().lost + path.counts().delivered, 10_000);
}

#[test]
fn bursts_take_frames_in_a_row_of_the_mean_length() {
    let bursts = Bursts { begin: share(0.01), length: 8.0 };
    let settings = Impairments { bursts: Some(bursts), ..Impairments::default() };
    let arrived = numbers(&carry(&mut Path::new(settings, 3), 100_000, ms(1)));
    let gaps: Vec<u32> =
        arrived.windows(2).map(|pair| pair[1] - pair[0] - 1).filter(|&lost| lost > 0).collect();
    let mean = f64::from(gaps.iter().sum::<u32>()) / gaps.len() as f64;
    assert!((7.0..9.0).contains(&mean), "{mean} frames a burst");
    assert!((800..1100).contains(&gaps.len()), "{} bursts", gaps.len());
}

#[test]
fn a_frame_held_back_is_overtaken() {
    let settings = Impairments {
        delay: ms(1),
        reorder: share(0.1),
        reorder_by: ms(3),
        ..Impairments::default()
    };
    let mut path = Path::new(settings, 1);
    let arrived = numbers(&carry(&mut path, 1000, ms(1)));
    let mut sorted = arrived.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>(), "all arrive");
    let overtaken = arrived.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    assert!(overtaken > 50 && path.counts().reordered >= overtaken);
}

#[test]
fn a_duplicate_is_the_same_frame() {
    let settings = Impairments { duplicate: share(1.0), ..Impairments::default() };
    assert_eq!(numbers(&carry(&mut Path::new(settings, 1), 2, ms(1))), [0, 0, 1, 1]);
}

#[test]
fn corruption_flips_one_bit_behind_the_ethernet_header() {
    let settings = Impairments { corrupt: share(1.0), ..Impairments::default() };
    let mut path = Path::new(settings, 1);
    for _ in 0..100 {
        path.offer(Duration::ZERO, &mut vec![0; 60]);
        let frame = path.poll(Duration::ZERO).unwrap();
        assert_eq!(frame.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        assert!(frame[..14].iter().all(|&byte| byte == 0));
    }
    path.offer(Duration::ZERO, &mut vec![0; 14]);
    assert_eq!(path.poll(Duration::ZERO).unwrap(), [0; 14], "nothing behind the header");
}

#[test]
fn a_rate_spaces_frames_and_its_queue_is_bounded() {
    // (1514 + 24) bytes at 12.304 Mbit/s take a millisecond.
    let settings =
        Impairments { rate: Some(12_304_000), queue: 3 * (FRAME + 24), ..Impairments::default() };
    let mut path = Path::new(settings, 1);
    let arrived = carry(&mut path, 10, Duration::ZERO);
    let times: Vec<_> = arrived.iter().map(|&(at, _)| at).collect();
    assert_eq!(times, [ms(1), ms(2), ms(3)], "as long as the queue has room");
    assert_eq!(path.counts().dropped, 7);
    let mut slow = Path::new(Impairments { queue: 0, ..settings }, 1);
    assert_eq!(carry(&mut slow, 5, ms(1)).len(), 5, "an idle wire takes any frame");
}

#[test]
fn the_same_seed_is_the_same_fate() {
    let settings = Impairments {
        delay: ms(5),
        jitter: ms(2),
        loss: share(0.1),
        reorder: share(0.1),
        reorder_by: ms(3),
        duplicate: share(0.1),
        ..Impairments::default()
    };
    let fate = |seed| carry(&mut Path::new(settings, seed), 1000, ms(1));
    assert_eq!(fate(1), fate(1));
    assert_ne!(fate(1), fate(2));
}

#[test]
fn a_share_is_between_nothing_and_all() {
    assert!(Share::new(-0.1).is_none());
    assert!(Share::new(1.1).is_none());
    assert!(Share::new(f64::NAN).is_none());
}
