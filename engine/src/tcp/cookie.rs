//! SYN cookies: a half-open connection that is remembered by the peer.
//!
//! Under a SYN flood the SYN-ACK carries all there is to know, and the ACK brings it back:
//!
//! ```text
//!     ISS     31     27 26  24 23                     0        64 s of the pair's clock,
//!            +---------+------+-----------+------------+       an entry of the MSS table,
//!            |  clock  | mss  |   place   |   number   |       keyed hashes over tuple, clock, mss
//!            +---------+------+-----------+------------+       and, on the right, the peer's IRS
//!     TSval  31                  6    5     4 3         0
//!            +-------------------+-----+-----+----------+      only if the SYN had timestamps:
//!            | clock, rounded    | ecn | sack| scale|15 |      window scale, or 15 for none
//!            +-------------------+-----+-----+----------+
//! ```
//!
//! Only the first segment that comes back has the number that the right half is made of. The left
//! half tells of any other whether it may be of such a handshake, and has only come early.
//!
//! The key is shared by the pair, so a handshake in flight across a takeover still completes.
//! Without timestamps there is no room for options, and the connection has none.

use super::isn::{Secret, Use};
use super::settings::Settings;
use super::transmit::{MSS_DEFAULT_V4, Transmit, mss_for, syn_window};
use crate::time::Instant;
use crate::wire::{Flags, FourTuple, Segment, SeqNum, TcpOptions, Timestamps};

/// What a cookie brought back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Our initial sequence number: the cookie.
    pub iss: SeqNum,
    /// The peer's initial sequence number.
    pub irs: SeqNum,
    /// The peer's MSS, rounded down to the table.
    pub mss: u16,
    /// The peer's window scale.
    pub window_scale: Option<u8>,
    /// The peer takes SACK.
    pub sack: bool,
    /// The SYN asked for ECN.
    pub ecn: bool,
    /// The peer's latest TSval, if it sends timestamps.
    pub ts_recent: Option<u32>,
}

impl Facts {
    /// The SYN as it must have been, with the window of the ACK that came back.
    pub(super) fn syn(&self, ack: &Segment<'_>) -> Segment<'static> {
        Segment {
            seq: self.irs,
            ack: SeqNum(0),
            flags: Flags::SYN | if self.ecn { Flags::ECE | Flags::CWR } else { Flags::empty() },
            window: ack.window,
            options: TcpOptions {
                mss: Some(self.mss),
                window_scale: self.window_scale,
                sack_permitted: self.sack,
                timestamps: self.ts_recent.map(|val| Timestamps { val, ecr: 0 }),
                ..TcpOptions::default()
            },
            marked: false,
            payload: &[],
        }
    }
}

/// What the 24 bits of hash are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// Two halves, as the picture shows.
    #[default]
    Halves,
    /// One hash over all of it: what peers before version 4 of the protocol make and read.
    Whole,
}

/// The cookie for a SYN: the ISS of its SYN-ACK.
pub fn encode(
    secret: &Secret,
    tuple: &FourTuple,
    irs: SeqNum,
    mss: u16,
    clock: Instant,
    layout: Layout,
) -> SeqNum {
    let entry = MSS_TABLE.iter().rposition(|known| *known <= mss).unwrap_or(0) as u32;
    cookie(secret, tuple, irs, minute(clock), entry, layout)
}

/// The TSval that carries the options of a SYN: at most `TSval now`, and above it never.
pub fn encode_timestamp(syn: &Segment<'_>, settings: &Settings, ts_now: u32) -> u32 {
    let options = &syn.options;
    let ecn = u32::from(settings.ecn.answer(syn) == Flags::ECE) << 5;
    let scale = options.window_scale.map_or(SCALE_NONE, |scale| u32::from(scale.min(14)));
    let sack = u32::from(options.sack_permitted && settings.sack) << 4;
    // One round back, so that what we say next is not older.
    (ts_now & !OPTIONS_MASK).wrapping_sub(OPTIONS_MASK + 1) | ecn | sack | scale
}

/// The SYN-ACK for a SYN that is not remembered. Nothing is kept.
#[expect(clippy::too_many_arguments, reason = "all that the answer to a SYN is made of")]
pub fn syn_ack(
    settings: &Settings,
    secret: &Secret,
    tuple: &FourTuple,
    syn: &Segment<'_>,
    clock: Instant,
    ts_offset: u32,
    mtu: u16,
    layout: Layout,
) -> Transmit {
    let ours = mss_for(mtu, tuple.is_ipv6());
    let theirs = syn.options.mss.unwrap_or(MSS_DEFAULT_V4);
    let iss = encode(secret, tuple, syn.seq, theirs, clock, layout);
    let ts_now = ts_offset.wrapping_add(clock.as_millis() as u32);
    let timestamps = syn
        .options
        .timestamps
        .filter(|_| settings.timestamps)
        .map(|ts| Timestamps { val: encode_timestamp(syn, settings, ts_now), ecr: ts.val });
    let with = timestamps.is_some();
    let scale = syn.options.window_scale.filter(|_| with).map(|_| settings.window_scale());
    Transmit {
        seq: iss,
        ack: syn.seq.add(1),
        flags: Flags::SYN
            | Flags::ACK
            | if with { settings.ecn.answer(syn) } else { Flags::empty() },
        window: syn_window(settings),
        options: TcpOptions {
            mss: Some(ours),
            window_scale: scale,
            sack_permitted: with && settings.sack && syn.options.sack_permitted,
            timestamps,
            ..TcpOptions::default()
        },
        payload: 0,
        mss: ours,
        ecn: 0,
    }
}

/// Reads the cookie that an ACK brings back. `None`: it is none of ours, or older than two
/// minutes.
pub fn decode(
    secret: &Secret,
    tuple: &FourTuple,
    ack: &Segment<'_>,
    clock: Instant,
    layout: Layout,
) -> Option<Facts> {
    let (iss, irs) = (ack.ack.sub(1), ack.seq.sub(1));
    let now = minute(clock);
    let age = now.wrapping_sub(iss.0 >> 27) & MINUTE_MASK;
    let entry = iss.0 >> 24 & 7;
    let mss = *MSS_TABLE.get(usize::try_from(entry).ok()?)?;
    if age > AGE_MAX || cookie(secret, tuple, irs, now.wrapping_sub(age), entry, layout) != iss {
        return None;
    }
    let echo = timestamps_of(ack).map(|ts| ts.ecr);
    Some(Facts {
        iss,
        irs,
        mss,
        window_scale: echo.map(|echo| echo & 15).filter(|s| *s != SCALE_NONE).map(|s| s as u8),
        sack: echo.is_some_and(|echo| echo >> 4 & 1 == 1),
        ecn: echo.is_some_and(|echo| echo >> 5 & 1 == 1),
        ts_recent: timestamps_of(ack).map(|ts| ts.val),
    })
}

/// Whether an ACK that brings back no cookie may still be of a handshake that was answered by one:
/// a segment that has overtaken the first, or came when that was lost. Only the first has the
/// sequence number that the cookie is made of, and the peer will send it again.
///
/// Of segments with another ACK field one in 65,536 looks like it too; of cookies that are
/// [`Layout::Whole`] nothing but the clock can be told, and it is one in sixteen.
pub fn may_follow(
    secret: &Secret,
    tuple: &FourTuple,
    ack: &Segment<'_>,
    clock: Instant,
    layout: Layout,
) -> bool {
    let SeqNum(iss) = ack.ack.sub(1);
    let minute = iss >> 27;
    let recent = self::minute(clock).wrapping_sub(minute) & MINUTE_MASK <= AGE_MAX;
    let place = || place(secret, tuple, minute, iss >> 24 & 7) == iss >> NUMBER_BITS & NUMBER_MASK;
    recent && (layout == Layout::Whole || place())
}

/// The timestamps of a segment.
pub(super) const fn timestamps_of(segment: &Segment<'_>) -> Option<Timestamps> {
    segment.options.timestamps
}

fn cookie(
    secret: &Secret,
    tuple: &FourTuple,
    irs: SeqNum,
    minute: u32,
    entry: u32,
    layout: Layout,
) -> SeqNum {
    let minute = minute & MINUTE_MASK;
    let hash = secret.hash(Use::Cookie, tuple, &[irs.0, minute, entry]) as u32;
    let hash = match layout {
        Layout::Whole => hash & 0x00ff_ffff,
        Layout::Halves => place(secret, tuple, minute, entry) << NUMBER_BITS | hash & NUMBER_MASK,
    };
    SeqNum(minute << 27 | entry << 24 | hash)
}

/// The half of a cookie that any segment of its connection can be held against.
fn place(secret: &Secret, tuple: &FourTuple, minute: u32, entry: u32) -> u32 {
    secret.hash(Use::Place, tuple, &[minute, entry]) as u32 & NUMBER_MASK
}

/// The clock in 64 s, modulo 32.
const fn minute(clock: Instant) -> u32 {
    (clock.as_millis() / 64_000) as u32 & MINUTE_MASK
}

const MINUTE_MASK: u32 = 31;
const NUMBER_BITS: u32 = 12;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;
/// A cookie is good in the period of its making and the next.
const AGE_MAX: u32 = 1;
const OPTIONS_MASK: u32 = 63;
const SCALE_NONE: u32 = 15;
/// What peers offer: from tiny links over tunnels to Ethernet and jumbo frames.
const MSS_TABLE: [u16; 8] = [536, 1220, 1300, 1360, 1400, 1440, 1460, 8940];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;

    fn tuple() -> FourTuple {
        FourTuple { local: ([10, 77, 0, 100], 80).into(), remote: ([10, 77, 0, 10], 4321).into() }
    }

    fn syn() -> Segment<'static> {
        Segment {
            seq: SeqNum(77),
            ack: SeqNum(0),
            flags: Flags::SYN | Flags::ECE | Flags::CWR,
            window: 64_000,
            options: TcpOptions {
                mss: Some(1450),
                window_scale: Some(7),
                sack_permitted: true,
                timestamps: Some(Timestamps { val: 5, ecr: 0 }),
                ..TcpOptions::default()
            },
            marked: false,
            payload: &[],
        }
    }

    fn answer(syn_ack: &Transmit) -> Segment<'static> {
        Segment {
            seq: syn_ack.ack,
            ack: syn_ack.seq.add(1),
            flags: Flags::ACK,
            window: 500,
            options: TcpOptions {
                timestamps: syn_ack.options.timestamps.map(|ts| Timestamps { val: 9, ecr: ts.val }),
                ..TcpOptions::default()
            },
            marked: false,
            payload: &[],
        }
    }

    #[test]
    fn a_cookie_brings_back_what_the_syn_said() {
        let (secret, settings) = (Secret { key: [7; 16] }, Settings::default());
        let t0 = Instant::from_millis(1_000_000);
        let sent = syn_ack(&settings, &secret, &tuple(), &syn(), t0, 1000, 1500, Layout::Halves);
        let facts =
            decode(&secret, &tuple(), &answer(&sent), t0 + Duration::from_secs(60), Layout::Halves);
        let expected = Facts {
            iss: sent.seq,
            irs: SeqNum(77),
            mss: 1440,
            window_scale: Some(7),
            sack: true,
            ecn: true,
            ts_recent: Some(9),
        };
        assert_eq!(facts, Some(expected));
        let val = sent.options.timestamps.unwrap().val;
        assert!(sent.flags.contains(Flags::ECE), "ECN is agreed on");
        assert!(1_001_000 - val < 200, "close to the clock and not above it");
    }

    #[test]
    fn each_option_comes_back_from_a_bit_of_its_own() {
        let (secret, settings) = (Secret { key: [7; 16] }, Settings::default());
        for (sack, ecn, scale) in [
            (true, false, Some(0)),
            (false, true, Some(14)),
            (false, false, Some(7)),
            (true, true, None),
        ] {
            let mut syn = syn();
            syn.options.sack_permitted = sack;
            syn.options.window_scale = scale;
            if !ecn {
                syn.flags -= Flags::ECE | Flags::CWR;
            }
            let (now, layout) = (Instant::ZERO, Layout::Halves);
            let sent = syn_ack(&settings, &secret, &tuple(), &syn, now, 0, 1500, layout);
            let facts = decode(&secret, &tuple(), &answer(&sent), now, layout).unwrap();
            assert_eq!((facts.sack, facts.ecn, facts.window_scale), (sack, ecn, scale));
            assert_eq!(sent.options.sack_permitted, sack);
            assert_eq!(sent.flags.contains(Flags::ECE), ecn);
        }
    }

    #[test]
    fn without_timestamps_there_are_no_options() {
        let (secret, settings) = (Secret { key: [7; 16] }, Settings::default());
        let mut syn = syn();
        syn.options.timestamps = None;
        let sent =
            syn_ack(&settings, &secret, &tuple(), &syn, Instant::ZERO, 0, 1500, Layout::Halves);
        let options = TcpOptions { mss: Some(1460), ..TcpOptions::default() };
        assert_eq!(sent.options, options);
        assert!(!sent.flags.contains(Flags::ECE));
        let facts =
            decode(&secret, &tuple(), &answer(&sent), Instant::ZERO, Layout::Halves).unwrap();
        let Facts { window_scale, sack, ecn, ts_recent, .. } = facts;
        assert_eq!((window_scale, sack, ecn, ts_recent), (None, false, false, None));
    }

    #[test]
    fn forged_and_stale_cookies_are_refused() {
        let secret = Secret { key: [7; 16] };
        let t0 = Instant::from_millis(1_000_000);
        let sent =
            syn_ack(&Settings::default(), &secret, &tuple(), &syn(), t0, 0, 1500, Layout::Halves);
        let ack = answer(&sent);
        let late = t0 + Duration::from_secs(129);
        assert_eq!(decode(&secret, &tuple(), &ack, late, Layout::Halves), None, "stale");
        let forged = Segment { ack: ack.ack.add(1), ..ack.clone() };
        assert_eq!(decode(&secret, &tuple(), &forged, t0, Layout::Halves), None, "another number");
        let moved = Segment { seq: ack.seq.add(1), ..ack.clone() };
        assert_eq!(decode(&secret, &tuple(), &moved, t0, Layout::Halves), None, "another IRS");
        assert_eq!(
            decode(&Secret { key: [8; 16] }, &tuple(), &ack, t0, Layout::Halves),
            None,
            "another key"
        );
        let follows = |segment, at| may_follow(&secret, &tuple(), segment, at, Layout::Halves);
        assert!(follows(&moved, t0) && !follows(&moved, late), "a later segment of the peer");
    }

    /// Segments of nothing are refused, and what has overtaken the answer to a cookie is not.
    #[test]
    fn what_may_follow_a_cookie_is_told_from_what_may_not() {
        let secret = Secret { key: [7; 16] };
        let (mut taken, mut state) = (0, 88_172_645_463_325_252_u64);
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 16) as u32
        };
        for round in 0..1 << 17 {
            let t0 = Instant::from_millis(1_000_000 + 977 * round);
            let stray = Segment { seq: SeqNum(random()), ack: SeqNum(random()), ..syn() };
            taken += u32::from(may_follow(&secret, &tuple(), &stray, t0, Layout::Halves));
            if round % 64 == 0 {
                let syn = Segment { seq: SeqNum(random()), ..syn() };
                let sent = syn_ack(
                    &Settings::default(),
                    &secret,
                    &tuple(),
                    &syn,
                    t0,
                    0,
                    1500,
                    Layout::Halves,
                );
                let later = Segment { seq: SeqNum(random()), ..answer(&sent) };
                let soon = t0 + Duration::from_secs(60);
                assert!(may_follow(&secret, &tuple(), &later, soon, Layout::Halves));
            }
        }
        assert!(taken <= 12, "{taken} of 131,072 look like it; two are to be expected");
    }

    /// What the version before makes is read, and the other way round.
    #[test]
    fn layouts_are_told_apart() {
        let (secret, settings) = (Secret { key: [7; 16] }, Settings::default());
        let t0 = Instant::from_millis(1_000_000);
        for layout in [Layout::Halves, Layout::Whole] {
            let sent = syn_ack(&settings, &secret, &tuple(), &syn(), t0, 0, 1500, layout);
            let read = |layout| decode(&secret, &tuple(), &answer(&sent), t0, layout).is_some();
            assert_eq!(
                (read(Layout::Halves), read(Layout::Whole)),
                (layout == Layout::Halves, layout == Layout::Whole)
            );
        }
    }
}
