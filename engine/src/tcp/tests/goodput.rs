//! How much a sender takes of a bad link: not less than it may, and not more.
//!
//! What a loss has to cost is known: RFC 9438 has the windows that a chance of loss leaves, in its
//! Reno-friendly region and on the cubic curve. A sender that gets clearly more keeps its window
//! through losses that were real, and is unfair; one that gets clearly less slows down for nothing.

use super::link::{Download, Link, MSS, Outcome};
use crate::tcp::Settings;
use crate::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn lossy(rtt: u64, loss: u64, seed: u64) -> Link {
    Link { rtt: ms(rtt), loss, seed, late: ms(rtt) / 4, ..Link::default() }
}

/// The goodput in Mbit/s that losing `loss` of 100,000 segments leaves: RFC 9438 §4.3 with the
/// window of Reno with its α and β, and equation 6.
fn response(rtt: u64, loss: u64) -> f64 {
    let (p, rtt) = (loss as f64 / 100_000.0, rtt as f64 / 1000.0);
    let (alpha, beta) = (9.0 / 17.0, 0.7);
    let reno = (alpha * (1.0 + beta) / (2.0 * (1.0 - beta) * p)).sqrt();
    let cubic = 1.054 * (rtt / p).powf(0.75);
    reno.max(cubic) * MSS as f64 * 8.0 / rtt / 1e6
}

/// Where nothing is late, whatever is taken for lost is lost.
#[test]
fn real_losses_are_never_taken_back() {
    for (rtt, time) in [(1, 2000), (20, 4000), (80, 8000)] {
        for loss in [100, 1000, 3000] {
            for seed in 1..4 {
                let outcome = Download::run(lossy(rtt, loss, seed), ms(time));
                let Outcome { undone, spurious, resent, lost, dropped, reductions, .. } = outcome;
                let what = format!("{rtt} ms, {loss}, seed {seed}: {outcome:?}");
                assert_eq!((undone, spurious), (0, 0), "{what}");
                assert!(resent <= lost + dropped && reductions > 0, "{what}");
            }
        }
    }
}

/// An acknowledgment that comes late tells of what is acknowledged by now; that is no D-SACK.
#[test]
fn late_acknowledgments_prove_nothing() {
    for rtt in [1, 20, 80] {
        for seed in 1..4 {
            let link = Link { ack_reorder: 3000, ack_loss: 1000, ..lossy(rtt, 1000, seed) };
            let outcome = Download::run(link, ms(100 * rtt));
            assert_eq!(outcome.undone, 0, "{rtt} ms, seed {seed}: {outcome:?}");
        }
    }
}

#[test]
fn what_the_network_doubled_proves_nothing() {
    for rtt in [1, 20, 80] {
        for seed in 1..4 {
            let link = Link { duplicate: 2000, ..lossy(rtt, 1000, seed) };
            let outcome = Download::run(link, ms(100 * rtt));
            assert_eq!(outcome.undone, 0, "{rtt} ms, seed {seed}: {outcome:?}");
        }
    }
}

/// The mean of three seeds, once slow start is forgotten, in Mbit/s.
fn steady(link: impl Fn(u64) -> Link, time: u64) -> f64 {
    let one = |seed| Download::settled(link(seed), ms(time / 2), ms(time)).mbit();
    (1..4).map(one).sum::<f64>() / 3.0
}

#[test]
fn goodput_is_what_the_response_functions_say() {
    for (rtt, loss, time) in [
        (1, 1000, 4000),
        (1, 100, 4000),
        (20, 1000, 60_000),
        (20, 100, 60_000),
        (80, 1000, 400_000),
        (80, 100, 200_000),
    ] {
        let ratio = steady(|seed| lossy(rtt, loss, seed), time) / response(rtt, loss);
        assert!((0.85..1.25).contains(&ratio), "{rtt} ms, {loss}: {ratio:.2} of the function");
    }
}

/// Reordering makes some losses doubtful, but those that were real are paid for all the same.
#[test]
fn reordering_is_no_excuse_for_losses() {
    for (rtt, time) in [(1, 4000), (20, 60_000)] {
        let link = |seed| Link { reorder: 1000, ..lossy(rtt, 1000, seed) };
        let ratio = steady(link, time) / response(rtt, 1000);
        assert!((0.85..1.25).contains(&ratio), "{rtt} ms: {ratio:.2} of the function");
    }
}

/// Nothing is lost, and the receiver's window keeps the queue empty.
#[test]
fn reordering_alone_costs_nothing() {
    for seed in 1..4 {
        let link = Link { reorder: 1000, buffer: 1 << 18, ..lossy(20, 0, seed) };
        let outcome = Download::run(link, ms(10_000));
        let Outcome { reductions, undone, spurious, sent, timeouts, .. } = outcome;
        assert_eq!((reductions - undone, timeouts), (0, 0), "{outcome:?}");
        assert!(spurious < sent / 1000, "{outcome:?}");
        assert!(outcome.mbit() > 90.0, "a window each round trip is 105: {outcome:?}");
    }
}

/// A sender alone fills its path, and what the queue drops costs no timeout and nothing twice.
#[test]
fn a_full_queue_is_no_catastrophe() {
    for (rtt, queue) in [(1, 50_000), (20, 30_000), (20, 250_000), (80, 1_000_000), (80, 200_000)] {
        let link = Link { rate: 100_000_000, queue, ..lossy(rtt, 0, 1) };
        let outcome = Download::settled(link, ms(5000), ms(20_000));
        let Outcome { spurious, timeouts, silence, dropped, .. } = outcome;
        assert_eq!((spurious, timeouts), (0, 0), "{rtt} ms, {queue}: {outcome:?}");
        assert!(dropped > 0 && silence < 4 * rtt + 50, "{rtt} ms, {queue}: {outcome:?}");
        assert!(outcome.mbit() > 75.0, "{rtt} ms, {queue}: {outcome:?}");
    }
}

/// Nothing passes for six tenths of a second. The window that the path carries is found again in a
/// few round trips, and not by a curve that is flat for seconds.
#[test]
fn an_outage_is_made_good() {
    let link = Link { rate: 100_000_000, queue: 200_000, ..lossy(80, 0, 1) };
    let mut download = Download::established(link, Settings::default());
    download.sender().set_output_end(1 << 61);
    download.run_for(ms(6000));
    download.link.loss = 100_000;
    download.run_for(ms(600));
    download.link.loss = 0;
    download.run_for(ms(2000));
    download.forget();
    download.run_for(ms(5000));
    assert!(download.outcome.mbit() > 85.0, "{:?}", download.outcome);
}

/// HyStart++: the queue is deep enough, with six round trips of data, to be noticed first.
#[test]
fn slow_start_ends_before_the_queue_is_full() {
    for rtt in [20, 80] {
        let link = Link { rate: 100_000_000, queue: 80_000 * rtt, ..lossy(rtt, 0, 1) };
        let outcome = Download::run(link, ms(20 * rtt));
        assert_eq!(outcome.dropped, 0, "{rtt} ms: {outcome:?}");
        assert!(outcome.queued > 10_000 && outcome.mbit() > 60.0, "{rtt} ms: {outcome:?}");
    }
}

/// Proportional rate reduction: no silence of three tenths of a round trip, and no burst.
#[test]
fn one_loss_interrupts_nothing() {
    let link = Link { rate: 100_000_000, queue: 4_000_000, ..lossy(40, 0, 1) };
    let mut download = Download::established(link, Settings::default());
    download.sender().set_output_end(1 << 61);
    download.run_for(ms(2000));
    download.forget();
    download.link.lost.push(10);
    download.run_for(ms(400));
    let Outcome { reductions, undone, resent, pause, .. } = download.outcome;
    assert_eq!((reductions, undone, resent), (1, 0, 1), "{:?}", download.outcome);
    assert!(pause < 3000, "{:?}", download.outcome);
}

/// Pacing: what slow start sends for a round trip does not stand in the queue all at once.
#[test]
fn slow_start_on_a_long_path_leaves_no_burst() {
    let mut download = Download::established(lossy(80, 0, 1), Settings::default());
    download.sender().set_output_end(1 << 61);
    download.run_for(ms(450));
    let window = u64::from(download.sender().congestion_window());
    assert!(window > 300 * MSS, "{window}");
    assert!(download.outcome.queued < window / 5, "{:?}", download.outcome);
}

/// Pacing: after a pause shorter than a timeout the window is whole, but does not leave at once.
#[test]
fn after_a_pause_a_window_is_spread_over_the_round_trip() {
    let mut download = Download::established(lossy(80, 0, 1), Settings::default());
    download.sender().set_output_end(2_000_000);
    download.run_until_acked(2_000_000);
    download.forget();
    download.sender().set_output_end(2_300_000);
    download.run_for(ms(1));
    let at_once = download.outcome.sent;
    assert!((10..=60).contains(&at_once), "{at_once} segments at once");
    download.run_for(ms(79));
    assert!(download.outcome.sent * MSS >= 300_000, "{:?}", download.outcome);
}

/// On a LAN the window goes as it is.
#[test]
fn a_short_path_is_not_paced() {
    let mut download = Download::established(lossy(2, 0, 1), Settings::default());
    download.sender().set_output_end(200_000);
    download.run_for(ms(100));
    download.forget();
    download.sender().set_output_end(300_000);
    download.run_for(Duration::from_micros(1));
    assert_eq!(download.outcome.sent, 100_000_u64.div_ceil(MSS));
}
