//! Parking: a connection at rest, in less than half the room.
//!
//! An idle connection waits for nobody: all it said is acknowledged, all it heard is answered, and
//! no timer runs but the keepalive's. Then most of a [`Tcb`] says "nothing", and what does not is
//! put into a [`Parked`]. Nothing is forgotten. What comes back speaks as if it had never been
//! away, so it does not matter who is parked, nor when.
//!
//! ```text
//!     Tcb ── park, if at rest ──► Parked ── unpark, before anything happens to it ──► Tcb
//! ```
//!
//! Distances from SND.UNA and RCV.NXT take the place of offsets, as far as 32 bits say them.

use super::challenge::Limit;
use super::congestion::{Congestion, Limited};
use super::rack::Order;
use super::receive::{AckDue, Room};
use super::rtt::Rtt;
use super::settings::Settings;
use super::tcb::{Phase, Receiving, Sending, Timers};
use super::timer::Alarm;
use super::undo::Undo;
use super::{Horizon, State, Tcb};
use crate::time::Instant;
use crate::wire::SeqNum;
use std::sync::Arc;

/// An established connection at rest. Names are those of the [`Tcb`]'s fields.
#[derive(Debug)]
pub struct Parked {
    settings: Arc<Settings>,
    iss: SeqNum,
    irs: SeqNum,
    mtu: u16,
    peer_mss: u16,
    snd_scale: u8,
    rcv_scale: u8,
    sack: bool,
    ecn: bool,
    timestamps: bool,
    ipv6: bool,
    active_open: bool,
    ts_offset: u32,
    challenge: Limit,

    una: u64,
    /// From SND.UNA; zero for none, as in [`Sending`].
    leap: u32,
    /// From SND.UNA. What lies before it means the same as SND.UNA does.
    recover: u32,
    wnd: u32,
    wnd_max: u32,
    wl1: SeqNum,
    wl2: SeqNum,
    duplicates: u16,
    limited: Limited,
    order: Order,
    alarm: Alarm,
    cwr_due: bool,
    tail_resent: bool,
    /// Whether a tail probe is not settled: it ended at SND.UNA.
    tail_open: bool,
    window: u32,
    threshold: u32,
    lossy: Option<Box<Lossy>>,
    rtt: Rtt,
    backoff: u8,
    keepalives: u8,
    syn_timed: bool,
    busy_at: Instant,

    received: u64,
    /// From RCV.NXT.
    edge: u32,
    /// How far the application is behind RCV.NXT.
    unconsumed: u32,
    echo: bool,
    peer_segment: u16,
    ts_recent: u32,
    ts_recent_at: Instant,
    heard_at: Instant,
    room: Room,

    /// The keepalive's deadline.
    idle: Instant,
}

/// What is left of losses.
#[derive(Debug)]
struct Lossy {
    /// It knows more than window and threshold.
    congestion: Congestion,
    undo: Option<Box<Undo>>,
}

impl Tcb {
    /// What there is of a connection at rest; the rest of it is spent. `None`, and nothing happens,
    /// if it is not at rest.
    pub fn park(&mut self) -> Option<Parked> {
        if !self.at_rest() {
            return None;
        }
        let Sending { una, leap, recover, tail_end, congestion, .. } = self.snd;
        let Receiving { nxt, edge, consumed, .. } = self.rcv;
        let leap = u32::try_from(leap.saturating_sub(una)).ok()?;
        let recover = u32::try_from(recover.saturating_sub(una)).ok()?;
        let edge = u32::try_from(edge.checked_sub(nxt)?).ok()?;
        let unconsumed = u32::try_from(nxt - consumed).ok()?;
        let (window, threshold) = (congestion.window(), congestion.threshold());
        let plain = Congestion::plain(self.settings.congestion, window, threshold);
        let lossy = plain != congestion || self.snd.undo.is_some();
        Some(Parked {
            settings: Arc::clone(&self.settings),
            iss: self.iss,
            irs: self.irs,
            mtu: self.mtu,
            peer_mss: self.peer_mss,
            snd_scale: self.snd_scale,
            rcv_scale: self.rcv_scale,
            sack: self.sack,
            ecn: self.ecn,
            timestamps: self.timestamps,
            ipv6: self.ipv6,
            active_open: self.active_open,
            ts_offset: self.ts_offset,
            challenge: self.challenge,
            una,
            leap,
            recover,
            wnd: self.snd.wnd,
            wnd_max: self.snd.wnd_max,
            wl1: self.snd.wl1,
            wl2: self.snd.wl2,
            duplicates: self.snd.duplicates,
            limited: self.snd.limited,
            order: self.snd.order,
            alarm: self.snd.alarm,
            cwr_due: self.snd.cwr_due,
            tail_resent: self.snd.tail_resent,
            tail_open: tail_end != 0,
            window,
            threshold,
            lossy: lossy.then(|| Box::new(Lossy { congestion, undo: self.snd.undo.take() })),
            rtt: self.snd.rtt,
            backoff: self.snd.backoff,
            keepalives: self.snd.keepalives,
            syn_timed: self.snd.syn_timed,
            busy_at: self.snd.busy_at,
            received: nxt,
            edge,
            unconsumed,
            echo: self.rcv.echo,
            peer_segment: self.rcv.mss,
            ts_recent: self.rcv.ts_recent,
            ts_recent_at: self.rcv.ts_recent_at,
            heard_at: self.rcv.heard_at,
            room: self.rcv.room,
            idle: self.timers.idle,
        })
    }

    /// Whether everything that [`Parked`] does not have says "nothing". All fields are named here,
    /// so that a new one asks which of both it is.
    pub(super) fn at_rest(&self) -> bool {
        let Self {
            settings: _,
            state,
            iss: _,
            irs: _,
            mtu: _,
            peer_mss: _,
            snd_scale: _,
            rcv_scale: _,
            sack: _,
            ecn: _,
            timestamps: _,
            ipv6: _,
            active_open: _,
            syn_due,
            reset_due,
            stray,
            ts_offset: _,
            horizon,
            snd,
            rcv,
            timers,
            challenge: _,
        } = self;
        let Timers { resend, ack, idle: _, wait } = timers;
        *state == State::Established
            && !(*syn_due || *reset_due)
            && stray.is_none()
            && *horizon == Horizon::OPEN
            && [resend, ack, wait] == [&Instant::NEVER; 3]
            && snd.at_rest()
            && rcv.at_rest()
    }
}

impl Sending {
    fn at_rest(&self) -> bool {
        let Self {
            una,
            nxt,
            end,
            leap: _,
            finish,
            wnd: _,
            wnd_max: _,
            wl1: _,
            wl2: _,
            phase,
            recover: _,
            duplicates: _,
            resend_now,
            blocked,
            probe_due,
            keepalive_due,
            limited: _,
            flight,
            order: _,
            alarm: _,
            undo: _,
            cwr_due: _,
            tail_due,
            tail_resent: _,
            tail_end,
            congestion: _,
            rtt: _,
            backoff: _,
            repeats,
            keepalives: _,
            syn_timed: _,
            busy_at: _,
            progress_at: _,
        } = self;
        let due = [finish, resend_now, blocked, probe_due, keepalive_due, tail_due];
        (una, una) == (nxt, end)
            && due == [&false; 6]
            && *phase == Phase::Open
            && flight.is_none()
            && *repeats == 0
            && (*tail_end == 0 || tail_end == una)
    }
}

impl Receiving {
    fn at_rest(&self) -> bool {
        let Self {
            nxt,
            edge: _,
            consumed,
            acked,
            fin,
            assembler,
            duplicate,
            due,
            echo: _,
            forced,
            mss: _,
            ts_recent: _,
            ts_recent_at: _,
            heard_at: _,
            room,
        } = self;
        nxt == acked
            && matches!(room, Room::Buffer | Room::Head)
            && consumed <= nxt
            && fin.is_none()
            && assembler.is_none()
            && duplicate.is_none()
            && *due == AckDue::No
            && *forced == 0
    }
}

impl Parked {
    /// The connection as it was. What is left is spent.
    pub fn unpark(&mut self) -> Tcb {
        let (congestion, undo) = match self.lossy.take() {
            Some(lossy) => (lossy.congestion, lossy.undo),
            None => {
                (Congestion::plain(self.settings.congestion, self.window, self.threshold), None)
            }
        };
        Tcb {
            settings: Arc::clone(&self.settings),
            state: State::Established,
            iss: self.iss,
            irs: self.irs,
            mtu: self.mtu,
            peer_mss: self.peer_mss,
            snd_scale: self.snd_scale,
            rcv_scale: self.rcv_scale,
            sack: self.sack,
            ecn: self.ecn,
            timestamps: self.timestamps,
            ipv6: self.ipv6,
            active_open: self.active_open,
            syn_due: false,
            reset_due: false,
            stray: None,
            ts_offset: self.ts_offset,
            horizon: Horizon::OPEN,
            snd: Sending {
                una: self.una,
                nxt: self.una,
                end: self.una,
                leap: if self.leap == 0 { 0 } else { self.una + u64::from(self.leap) },
                finish: false,
                wnd: self.wnd,
                wnd_max: self.wnd_max,
                wl1: self.wl1,
                wl2: self.wl2,
                phase: Phase::Open,
                recover: self.una + u64::from(self.recover),
                duplicates: self.duplicates,
                resend_now: false,
                blocked: false,
                probe_due: false,
                keepalive_due: false,
                limited: self.limited,
                flight: None,
                order: self.order,
                alarm: self.alarm,
                undo,
                cwr_due: self.cwr_due,
                tail_due: false,
                tail_resent: self.tail_resent,
                tail_end: if self.tail_open { self.una } else { 0 },
                congestion,
                rtt: self.rtt,
                backoff: self.backoff,
                repeats: 0,
                keepalives: self.keepalives,
                syn_timed: self.syn_timed,
                busy_at: self.busy_at,
                // There was nothing to acknowledge: whoever sends next takes the time anew.
                progress_at: self.heard_at,
            },
            rcv: Receiving {
                nxt: self.received,
                edge: self.received + u64::from(self.edge),
                consumed: self.received - u64::from(self.unconsumed),
                acked: self.received,
                fin: None,
                assembler: None,
                duplicate: None,
                due: AckDue::No,
                echo: self.echo,
                forced: 0,
                mss: self.peer_segment,
                ts_recent: self.ts_recent,
                ts_recent_at: self.ts_recent_at,
                heard_at: self.heard_at,
                room: self.room,
            },
            timers: Timers {
                resend: Instant::NEVER,
                ack: Instant::NEVER,
                idle: self.idle,
                wait: Instant::NEVER,
            },
            challenge: self.challenge,
        }
    }
}
