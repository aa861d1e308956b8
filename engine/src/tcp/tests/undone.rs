//! What proves that a reduction was a mistake, and what does not: `tcp::undo`.

use super::pair::{Pair, SERVER, Start, pattern};
use super::waits::{answers, hears, hears_of, ms, says, times_out};
use crate::tcp::Settings;
use crate::tcp::rack::Echo;
use crate::tcp::tcb::Phase;
use crate::time::Instant;

const WIDE: u64 = 1 << 17;

/// A pair without timestamps: what is proven is proven by D-SACK, or by F-RTO. And its segment size.
fn plain() -> (Pair, u64) {
    let server = Settings { timestamps: false, ..Settings::default() };
    let pair = Pair::established_with(Start { server, ..Start::default() });
    let size = pair.ends[SERVER].tcb.mss().into();
    (pair, size)
}

fn window(pair: &Pair) -> u32 {
    pair.ends[SERVER].tcb.congestion_window()
}

/// Of ten segments the first and the sixth seem lost, and are sent again.
fn two_sent_again() -> (Pair, u64, u32) {
    let (mut pair, size) = plain();
    let before = window(&pair);
    says(&mut pair, 10 * size as usize);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    hears(&mut pair, 0, WIDE, &[(size, 5 * size)]);
    hears(&mut pair, 0, WIDE, &[(6 * size, 10 * size), (size, 5 * size)]);
    let again: Vec<u64> = answers(&mut pair).into_iter().map(|(at, _)| at).collect();
    assert_eq!(again, [0, 5 * size]);
    assert!(window(&pair) < before);
    pair.now = pair.now + ms(10);
    (pair, size, before)
}

#[test]
fn everything_sent_again_has_to_have_come_twice() {
    let (mut pair, size, before) = two_sent_again();
    hears(&mut pair, 10 * size, WIDE, &[(0, size)]);
    assert!(window(&pair) < before, "one of two");
    hears(&mut pair, 10 * size, WIDE, &[(5 * size, 6 * size)]);
    assert!(window(&pair) >= before, "both");
    // The path reorders, then: three segments behind a gap are no loss yet.
    says(&mut pair, 10 * size as usize);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    hears(&mut pair, 10 * size, WIDE, &[(11 * size, 14 * size)]);
    assert!(window(&pair) >= before);
}

#[test]
fn proof_may_come_until_something_later_is_acknowledged() {
    let (mut pair, size, before) = two_sent_again();
    hears(&mut pair, 10 * size, WIDE, &[]);
    says(&mut pair, 2 * size as usize);
    hears(&mut pair, 12 * size, WIDE, &[]);
    hears(&mut pair, 12 * size, WIDE, &[(0, size)]);
    hears(&mut pair, 12 * size, WIDE, &[(5 * size, 6 * size)]);
    assert!(window(&pair) < before);
}

/// The network has doubled something before anything was sent again.
#[test]
fn what_came_twice_and_was_sent_once_proves_nothing() {
    let (mut pair, size) = plain();
    says(&mut pair, 2 * size as usize);
    pair.now = pair.now + ms(10);
    hears(&mut pair, 2 * size, WIDE, &[]);
    let before = window(&pair);
    says(&mut pair, 10 * size as usize);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    for _ in 0..2 {
        hears(&mut pair, 2 * size, WIDE, &[(0, size), (3 * size, 9 * size)]);
    }
    assert!(window(&pair) < before);
}

/// A timeout with ten segments out and more to say; the first is sent again. And the window before.
fn timed_out(sack: bool) -> (Pair, u64, u32) {
    let settings = || Settings { timestamps: false, sack, ..Settings::default() };
    let start = Start { client: settings(), server: settings(), ..Start::default() };
    let mut pair = Pair::established_with(start);
    let (size, before) = (u64::from(pair.ends[SERVER].tcb.mss()), window(&pair));
    pair.server().write(&pattern(20 * size as usize, 1));
    pair.flush();
    pair.wire.clear();
    times_out(&mut pair);
    assert_eq!(answers(&mut pair), [(0, size as usize)]);
    pair.now = pair.now + ms(10);
    (pair, size, before)
}

/// RFC 5682 §3.1 step 3: that new data arrives proves nothing. The old data is to arrive.
#[test]
fn an_answer_to_the_question_alone_is_no_proof() {
    let (mut pair, size, before) = timed_out(true);
    hears(&mut pair, size, WIDE, &[]);
    let asked = answers(&mut pair).first().map(|(at, _)| *at);
    assert!(asked >= Some(10 * size), "new data goes first: {asked:?}");
    pair.now = pair.now + ms(10);
    hears(&mut pair, size, WIDE, &[(10 * size, 11 * size)]);
    assert!(window(&pair) < before);
    assert_eq!(answers(&mut pair).first().map(|(at, _)| *at), Some(size), "it is lost");
}

/// RFC 5682 §3.1 step 2a.
#[test]
fn a_duplicate_after_a_timeout_ends_the_question() {
    let (mut pair, size, before) = timed_out(true);
    hears(&mut pair, 0, WIDE, &[(3 * size, 4 * size)]);
    hears(&mut pair, 0, WIDE, &[(3 * size, 5 * size)]);
    assert!(window(&pair) < before);
}

/// Without SACK there is no F-RTO: what is lost goes first.
#[test]
fn without_sack_nothing_is_asked() {
    let (mut pair, size, _) = timed_out(false);
    hears(&mut pair, size, WIDE, &[]);
    assert_eq!(answers(&mut pair).first().map(|(at, _)| *at), Some(size));
}

/// RFC 3522 §3.2: the time is that of the first retransmission, and the answer is about that alone.
#[test]
fn an_original_is_answered_before_anything_was_sent_again() {
    let mut pair = Pair::established();
    says(&mut pair, 5000);
    let (start, tcb) = (pair.now, &mut pair.ends[SERVER].tcb);
    let echo = |at: Instant| Some(Echo { ecr: at.as_millis() as u32, ts_offset: 0 });
    tcb.remember(false);
    tcb.note_resent(start + ms(20), 0..1448);
    tcb.note_resent(start + ms(40), 0..1448);
    assert!(tcb.answers_original(echo(start)));
    assert!(!tcb.answers_original(echo(start + ms(30))), "that was the second sending");
    tcb.snd.una = 1448;
    assert!(!tcb.answers_original(echo(start)), "another word about something else");
}

/// In the midst of a recovery: nothing is lost, and nothing of it is left.
#[test]
fn a_recovery_that_was_a_mistake_is_over() {
    let mut pair = Pair::established();
    let (start, before) = (pair.now, window(&pair));
    says(&mut pair, 10 * 1448);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    for end in [3, 4, 5] {
        hears_of(&mut pair, start, 0, WIDE, &[(2 * 1448, end * 1448)]);
    }
    assert_eq!(answers(&mut pair).first().map(|(at, _)| *at), Some(0));
    pair.now = pair.now + ms(5);
    hears_of(&mut pair, start, 1448, WIDE, &[(2 * 1448, 5 * 1448)]);
    let tcb = &pair.ends[SERVER].tcb;
    assert_eq!((tcb.snd.phase, tcb.snd.duplicates), (Phase::Open, 0));
    assert_eq!(tcb.pipe(), 6 * 1448, "the second segment, too, is on its way");
    assert!(window(&pair) >= before);
}

/// RFC 9937 §5: a step forward that tells of no further loss is worth a segment more.
#[test]
fn only_a_safe_step_forward_is_worth_a_segment_more() {
    let mut pair = Pair::established();
    says(&mut pair, 10 * 1448);
    pair.wire.clear();
    pair.now = pair.now + ms(10);
    hears(&mut pair, 0, WIDE, &[(6 * 1448, 10 * 1448)]);
    answers(&mut pair);
    let tcb = &mut pair.ends[SERVER].tcb;
    assert_eq!(tcb.snd.phase, Phase::Fast);
    let mut room = |fresh, worse| {
        tcb.reduce_in_proportion(tcb.delivered(), fresh, worse);
        tcb.prr_room().expect("in recovery")
    };
    let least = room(false, false);
    assert_eq!([room(true, true), room(false, true)], [least; 2]);
    assert_eq!(room(true, false), least + 1448);
}
