//! What both algorithms do with a window, and how they differ.

use super::*;

const MSS: u32 = 1000;
const T0: Instant = Instant::from_millis(1000);

fn acked(now: Instant, bytes: u64) -> Acked {
    let (srtt, limited) = (Duration::from_millis(100), Limited::ByCongestion);
    Acked { now, bytes, mss: MSS, srtt, limited, growth: Growth::Whole }
}

fn fresh(algorithm: Algorithm) -> Congestion {
    Congestion::new(algorithm, 10 * MSS)
}

/// A whole window is acknowledged in segments, spread over a round trip from `now` on.
fn round(c: &mut Congestion, now: Instant, rtt: Duration) {
    let segments = (c.window() / MSS).max(1);
    for i in 0..segments {
        let at = now + rtt * i / segments;
        c.control().on_ack(Acked { srtt: rtt, ..acked(at, MSS.into()) });
    }
}

/// The window, in segments, after each of `rounds` round trips that follow a loss at `peak`.
fn after_loss(algorithm: Algorithm, peak: u32, rtt: Duration, rounds: u32) -> Vec<u32> {
    let mut c = Congestion::new(algorithm, peak * MSS);
    c.control().on_loss((peak * MSS).into(), MSS);
    let mut windows = Vec::new();
    for i in 0..rounds {
        round(&mut c, T0 + rtt * i, rtt);
        windows.push(c.window() / MSS);
    }
    windows
}

#[test]
fn slow_start_doubles_a_round() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = fresh(algorithm);
        c.control().on_ack(acked(T0, 10_000));
        assert_eq!(c.window(), 20 * MSS, "{algorithm:?}");
    }
}

#[test]
fn an_unused_window_does_not_grow() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = fresh(algorithm);
        c.control().on_ack(Acked { limited: Limited::ByOther, ..acked(T0, 10_000) });
        assert_eq!(c.window(), 10 * MSS, "{algorithm:?}");
    }
}

#[test]
fn a_loss_halves_reno_and_takes_three_tenths_of_cubic() {
    for (algorithm, kept) in [(Algorithm::NewReno, 5 * MSS), (Algorithm::Cubic, 7 * MSS)] {
        let mut c = fresh(algorithm);
        c.control().on_loss(10_000, MSS);
        assert_eq!((c.window(), c.control().threshold()), (kept, kept));
        c.control().on_loss(0, MSS);
        assert_eq!(c.window(), 2 * MSS, "never below two segments");
    }
}

/// With SACK more may be out than the window says.
#[test]
fn a_loss_never_widens_the_window() {
    for algorithm in [Algorithm::NewReno, Algorithm::Cubic] {
        let mut c = fresh(algorithm);
        c.control().on_loss(30_000, MSS);
        assert!(c.window() <= 7 * MSS, "{algorithm:?}");
        let mut c = fresh(algorithm);
        c.control().on_timeout(30_000, MSS);
        assert!(c.control().threshold() <= 7 * MSS, "{algorithm:?}");
    }
}

#[test]
fn a_timeout_restarts_from_one_segment_and_remembers_a_part() {
    for (algorithm, kept) in [(Algorithm::NewReno, 5 * MSS), (Algorithm::Cubic, 7 * MSS)] {
        let mut c = fresh(algorithm);
        c.control().on_timeout(10_000, MSS);
        assert_eq!((c.window(), c.control().threshold()), (MSS, kept));
        c.control().on_ack(acked(T0, 1000));
        c.control().on_timeout_again(MSS);
        assert_eq!((c.window(), c.control().threshold()), (MSS, kept));
        c.control().on_ack(acked(T0, 50_000));
        assert_eq!(c.window(), kept, "slow start ends at ssthresh");
    }
}

#[test]
fn reno_adds_one_segment_a_round() {
    let windows = after_loss(Algorithm::NewReno, 100, Duration::from_millis(100), 4);
    assert_eq!(windows, [51, 52, 53, 54]);
}

/// K is 9.09 s for a window of 1000 segments, whatever the round trip.
#[test]
fn cubic_is_back_at_its_old_window_after_k() {
    for millis in [50, 100, 200] {
        let rounds = 9086 / millis;
        let rtt = Duration::from_millis(millis.into());
        let windows = after_loss(Algorithm::Cubic, 1000, rtt, 2 * rounds);
        let at = |round: u32| windows[round as usize];
        assert!((995..=1001).contains(&at(rounds)), "{millis} ms: {}", at(rounds));
        assert!((950..=970).contains(&at(rounds / 2)), "{millis} ms: {}", at(rounds / 2));
        let last = 2 * rounds - 1;
        let (flat, later) = (at(rounds) - at(rounds - 5), at(last) - at(last - 5));
        assert!(later > flat, "convex after that: {flat} and {later}");
    }
}

/// W(t) = 0.4·(t − K)³ + W_max, by floating point.
#[test]
fn cubic_follows_its_curve() {
    let (rtt, peak) = (Duration::from_millis(100), 1000.0_f64);
    let windows = after_loss(Algorithm::Cubic, 1000, rtt, 200);
    let k = (peak * 0.3 / 0.4).cbrt();
    for (round, window) in (1..).zip(windows) {
        let t = f64::from(round) * 0.1;
        let curve = 0.4 * (t - k).powi(3) + peak;
        let off = (f64::from(window) - curve).abs() / curve;
        assert!(off < 0.03, "after {t:.1} s: {window}, and the curve says {curve:.0}");
    }
}

/// RFC 9438 §4.3: on a short path the cubic curve is slower than Reno, and Reno's growth is used.
#[test]
fn cubic_is_no_worse_than_reno_on_a_short_path() {
    let rtt = Duration::from_millis(1);
    let (cubic, reno) =
        (after_loss(Algorithm::Cubic, 20, rtt, 200), after_loss(Algorithm::NewReno, 20, rtt, 200));
    let sum = |windows: &[u32]| windows.iter().sum::<u32>();
    // It starts higher and grows slower up to the old window; at equal loss both come to the same.
    assert!(sum(&cubic) * 100 >= sum(&reno) * 95, "{} and {}", sum(&cubic), sum(&reno));
    let gained = cubic[199] - cubic[150];
    assert!((47..=50).contains(&gained), "one segment a round beyond the old window: {gained}");
}

#[test]
fn a_second_loss_below_the_old_window_leaves_room() {
    let mut c = Congestion::new(Algorithm::Cubic, 1000 * MSS);
    c.control().on_loss(1_000_000, MSS);
    c.control().on_loss(700_000, MSS);
    for i in 0..64 {
        round(&mut c, T0 + Duration::from_millis(100) * i, Duration::from_millis(100));
    }
    // Without fast convergence the curve would be flat at 700; it is at 595.
    assert!((590..=600).contains(&(c.window() / MSS)), "{}", c.window());
}

#[test]
fn after_a_timeout_the_window_is_found_again_and_not_by_the_curve() {
    let mut c = Congestion::new(Algorithm::Cubic, 100 * MSS);
    c.control().on_timeout(100_000, MSS);
    c.control().on_ack(acked(T0, 200_000));
    assert_eq!(c.window(), 70 * MSS);
    for i in 0..10 {
        round(&mut c, T0 + Duration::from_millis(100) * i, Duration::from_millis(100));
    }
    // 0.4·1³ segments by the curve, 5 by Reno's estimate (α = 9/17); 1.05¹⁰ is 1.63.
    assert!((112..=114).contains(&(c.window() / MSS)), "{}", c.window());
}

#[test]
fn time_in_which_the_window_was_not_used_does_not_count() {
    let rtt = Duration::from_millis(100);
    let mut c = Congestion::new(Algorithm::Cubic, 1000 * MSS);
    c.control().on_loss(1_000_000, MSS);
    round(&mut c, T0, rtt);
    let mut now = T0;
    let unused: [fn(&mut Congestion, Instant); 2] = [
        |c, now| c.control().on_ack(Acked { limited: Limited::ByOther, ..acked(now, 1000) }),
        |c, now| c.control().on_pause(now),
    ];
    for pass in unused {
        let before = c.window();
        now = now + Duration::from_secs(100);
        pass(&mut c, now);
        round(&mut c, now, rtt);
        now = now + rtt;
        // It would be half as much again if the time had counted.
        assert!(c.window() - before < 20 * MSS, "{before} -> {}", c.window());
    }
}

/// RFC 9438 §4.2: the window is to be on the curve a round trip later.
#[test]
fn cubic_aims_at_where_the_curve_is_after_a_round_trip() {
    let mut c = Congestion::new(Algorithm::Cubic, 1000 * MSS);
    c.control().on_loss(1_000_000, MSS);
    c.control().on_ack(acked(T0, 1));
    let srtt = Duration::from_secs(1);
    c.control().on_ack(Acked { srtt, ..acked(T0 + srtt, 700_000) });
    // 1000 − 0.4·(9.086 − 2)³ = 857.7.
    assert!((856..=858).contains(&(c.window() / MSS)), "{}", c.window());
}

/// On a curve that has run for a while: what begins after that begins at its time zero.
fn on_the_curve() -> (Congestion, Instant) {
    let (mut c, rtt) = (Congestion::new(Algorithm::Cubic, 1000 * MSS), Duration::from_millis(100));
    c.control().on_loss(1_000_000, MSS);
    for i in 0..50 {
        round(&mut c, T0 + rtt * i, rtt);
    }
    (c, T0 + rtt * 50)
}

/// How much of `ssthresh` is gained by a round trip that begins there.
fn gained_beyond_slow_start(c: &mut Congestion, now: Instant) -> u32 {
    c.control().on_ack(acked(now, 2_000_000));
    let start = c.window();
    assert_eq!(start, c.threshold());
    round(c, now, Duration::from_millis(100));
    (c.window() - start) * 100 / start
}

#[test]
fn every_interruption_begins_a_curve() {
    let (mut c, now) = on_the_curve();
    c.control().on_idle(1, MSS);
    // 1000 − 0.4·(8.7 − 0.1)³ from 735 on; five seconds on the old curve were 973.
    assert!((0..=2).contains(&gained_beyond_slow_start(&mut c, now)), "{c:?}");
    let (mut c, now) = on_the_curve();
    c.control().on_timeout_again(MSS);
    assert!((4..=5).contains(&gained_beyond_slow_start(&mut c, now)), "no window to return to");
    let mut c = Congestion::new(Algorithm::Cubic, 1000 * MSS);
    c.control().on_loss(1_000_000, MSS);
    c.control().on_pause(T0);
    round(&mut c, T0, Duration::from_millis(100));
    assert!((700..=715).contains(&(c.window() / MSS)), "a pause begins none: {}", c.window());
}

/// RFC 9438 §4.9: the place on the curve is what it was, too.
#[test]
fn the_time_of_a_mistake_does_not_count() {
    let (mut c, now) = on_the_curve();
    let (window, later) = (c.window(), now + Duration::from_secs(100));
    c.control().on_undo(later, 0);
    round(&mut c, later, Duration::from_millis(100));
    assert!(c.window() - window < 20 * MSS, "{window} -> {}", c.window());
}

/// Acknowledgments of little, as of a terminal's keys, add up.
#[test]
fn what_is_less_than_a_byte_counts_later() {
    let mut c = Congestion::new(Algorithm::Cubic, 100 * MSS);
    c.control().on_timeout(100_000, MSS);
    c.control().on_ack(acked(T0, 200_000));
    assert_eq!(c.window(), 70 * MSS);
    for _ in 0..1000 {
        c.control().on_ack(acked(T0, 19));
    }
    // A twentieth of what was acknowledged.
    assert!((945..=951).contains(&(c.window() - 70 * MSS)), "{}", c.window());
}

#[test]
fn a_pause_lets_the_window_decay_and_keeps_ssthresh() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = Congestion::new(algorithm, 100 * MSS);
        c.control().on_loss(200_000, MSS);
        let full = c.window();
        c.control().on_idle(1, 10 * MSS);
        assert_eq!(c.window(), full / 2, "{algorithm:?}");
        assert_eq!(c.control().threshold(), full);
        c.control().on_idle(40, 10 * MSS);
        assert_eq!(c.window(), 10 * MSS, "{algorithm:?}: not below the initial window");
    }
}

/// RFC 2861 §3.1: three quarters of what was in use are a good guess, where ssthresh knows of less.
#[test]
fn a_pause_remembers_three_quarters_of_a_window_that_had_grown() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = fresh(algorithm);
        c.control().on_loss(10_000, MSS);
        let rtt = Duration::from_millis(10);
        for i in 0..100 {
            round(&mut c, T0 + rtt * i, rtt);
        }
        let (window, before) = (c.window(), c.threshold());
        assert!(window / 2 > before, "{algorithm:?}: {window}");
        c.control().on_idle(1, MSS);
        assert_eq!((c.window(), c.threshold()), (window / 2, window / 4 * 3), "{algorithm:?}");
    }
}

/// RFC 3465 §2.1: a window's worth of bytes is one segment more, however it is acknowledged.
#[test]
fn reno_counts_bytes_and_forgets_none() {
    let mut c = fresh(Algorithm::NewReno);
    c.control().on_loss(10_000, MSS);
    let mut grows = |pieces: &[u64]| {
        let before = c.window();
        pieces.iter().for_each(|bytes| c.control().on_ack(acked(T0, *bytes)));
        (c.window() - before) / MSS
    };
    assert_eq!(grows(&[500; 9]), 0);
    assert_eq!(grows(&[500]), 1, "5 segments");
    assert_eq!(grows(&[9000]), 1, "6 segments, and 3 that count for the next");
    assert_eq!(grows(&[3000]), 0);
    assert_eq!(grows(&[1000]), 1, "7 segments");
    grows(&[7000]);
    c.control().on_loss(8000, MSS);
    c.control().on_ack(acked(T0, 1000));
    assert_eq!(c.window(), 4 * MSS, "what counted before a loss counts no more");
}

/// HyStart++: what the path can carry is known without a loss.
#[test]
fn a_search_ends_where_the_window_is() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = fresh(algorithm);
        assert!(c.searching() && c.in_slow_start());
        c.control().end_search();
        assert_eq!((c.window(), c.threshold()), (10 * MSS, 10 * MSS), "{algorithm:?}");
        assert!(!c.searching() && !c.in_slow_start(), "{algorithm:?}");
    }
}

#[test]
fn what_is_taken_back_is_the_larger_window() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        for (window, after) in [(7 * MSS, 10 * MSS), (12 * MSS, 12 * MSS)] {
            let mut c = fresh(algorithm);
            c.control().on_undo(T0, window);
            assert_eq!(c.window(), after, "{algorithm:?}");
        }
    }
}

#[test]
fn a_window_is_at_least_a_segment_whatever_that_is() {
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = fresh(algorithm);
        c.control().on_timeout(10_000, 500);
        c.control().on_mss(800);
        assert_eq!(c.window(), 800, "{algorithm:?}");
    }
}

#[test]
fn windows_stay_within_bounds_whatever_happens() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut any = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    for algorithm in [Algorithm::Cubic, Algorithm::NewReno] {
        let mut c = fresh(algorithm);
        let mut now = T0;
        for _ in 0..20_000 {
            let (time, size) = (1 << any(24), 1 << any(40));
            now = now + Duration::from_millis(any(time));
            let bytes = any(size);
            match any(12) {
                0 => c.control().on_loss(bytes, MSS),
                1 => c.control().on_timeout(bytes, MSS),
                2 => c.control().on_timeout_again(MSS),
                3 => c.control().on_idle(any(40) as u32, 10 * MSS),
                4 => c.control().on_pause(now),
                5 => c.control().on_mss(1 + any(65_000) as u32),
                _ => c.control().on_ack(Acked {
                    srtt: Duration::from_micros(any(1 << 31)),
                    ..acked(now, bytes)
                }),
            }
            assert!((MSS..=WINDOW_MAX).contains(&c.window()), "{c:?}");
        }
    }
}
