//! What the two ends of a splice can have said: their sequence numbers, as what passed shows them.
//!
//! Anybody can send a segment under the name of an end, and it goes on, as the other end is its judge.
//! Here only what that judge would believe counts (RFC 9293 §3.10.7.4, RFC 5961 §5): its text lies in
//! the window, and what it acknowledges was sent and is not yet acknowledged.
//!
//! ```text
//!    una ──────────── nxt ──────────── edge      of what one side sends
//!     │ sent, not      │ not sent,      │ beyond the
//!     │ acknowledged   │ in the window  │ other's window
//! ```
//!
//! Every segment between the ends passes here. So an end can have acknowledged, and sent, no more than
//! is known here, as long as it was known from the SYN on: whoever takes over does not know, and
//! has none of this for the splices that it was left.

use super::splice::Side;
use crate::wire::{Flags, Segment, SeqNum};

/// RFC 7323 §2.3.
const SCALE_MAX: u8 = 14;

/// What one side sends, in its own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Way {
    /// Before this the other side has acknowledged.
    una: SeqNum,
    /// Behind the last that was sent.
    nxt: SeqNum,
    /// The farthest edge of the other side's window.
    edge: SeqNum,
    /// The largest of those windows.
    most: u32,
    /// By how much the other side's windows are to be shifted.
    scale: u8,
}

impl Way {
    /// From the first number on; a window in a SYN is never scaled (RFC 7323 §2.2).
    const fn new(first: SeqNum, window: u16, scale: u8) -> Self {
        let window = window as u32;
        Self { una: first, nxt: first, edge: first.add(window), most: window, scale }
    }

    /// Whether the other side may take text, or nothing, between these numbers: the byte behind the
    /// window is one that asks whether it is still shut.
    const fn admits(&self, start: SeqNum, end: SeqNum) -> bool {
        let room = self.edge.since(self.una) + 1;
        let (from, to) = (start.since(self.una), end.since(self.una));
        // What begins before the window may end in it.
        to <= room && (from <= to || (to > 0 && start.before(self.una)))
    }

    /// The other side has acknowledged all before `ack`, and has room for `window` from there.
    fn acknowledge(&mut self, ack: SeqNum, window: u32) {
        self.una = ack;
        self.most = self.most.max(window);
        for edge in [ack, ack.add(window)] {
            if edge.after(self.edge) {
                self.edge = edge;
            }
        }
    }
}

/// A SYN or SYN-ACK, as far as its sender's numbers go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Greeting {
    pub(super) seq: SeqNum,
    pub(super) window: u16,
    pub(super) scale: Option<u8>,
}

/// What the end at which a segment is aimed makes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Belief {
    /// It cannot be of this connection.
    Never,
    /// Its text is looked at, and what it acknowledges is an old story.
    Late,
    /// All of it.
    Whole,
}

/// The numbers of a splice whose SYN and SYN-ACK passed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Track {
    /// What the client sends, and what the backend sends.
    ways: [Way; 2],
}

impl Track {
    /// The client's SYN was answered; each in its sender's own numbers.
    pub(super) fn new(client: Greeting, backend: Greeting) -> Self {
        let both = client.scale.is_some() && backend.scale.is_some();
        let scale = |of: Option<u8>| if both { of.unwrap_or(0).min(SCALE_MAX) } else { 0 };
        let way =
            |from: Greeting, to: Greeting| Way::new(from.seq.add(1), to.window, scale(to.scale));
        Self { ways: [way(client, backend), way(backend, client)] }
    }

    /// `side` says `segment`; `ack` is what it acknowledges, in the other's own numbers.
    pub(super) fn on_segment(&mut self, side: Side, segment: &Segment<'_>, ack: SeqNum) -> Belief {
        let (start, end) = (segment.seq, segment.seq.add(segment.len()));
        let flags = segment.flags;
        if !flags.contains(Flags::ACK)
            || flags.intersects(Flags::SYN | Flags::RST)
            || !self.ways[side as usize].admits(start, end)
        {
            return Belief::Never;
        }
        let heard = &mut self.ways[side.other() as usize];
        let belief = if ack.since(heard.una) <= heard.nxt.since(heard.una) {
            heard.acknowledge(ack, u32::from(segment.window) << heard.scale);
            Belief::Whole
        } else if heard.una.since(ack) <= heard.most {
            Belief::Late
        } else {
            return Belief::Never;
        };
        let way = &mut self.ways[side as usize];
        if end.after(way.nxt) {
            way.nxt = end;
        }
        belief
    }

    /// Whether a reset of `side`'s with this number is believed at the other end: it is the very one
    /// that is expected there (RFC 5961 §3), if all that was sent has come there, or nothing that is
    /// not acknowledged. Another number is only perhaps the right one.
    pub(super) fn resets(&self, side: Side, seq: SeqNum) -> bool {
        let way = &self.ways[side as usize];
        seq == way.una || seq == way.nxt
    }

    /// Whether `seq` of `side`'s is on its way, and not acknowledged: what an error about it has to
    /// quote (RFC 5927 §4.1).
    pub(super) const fn is_outstanding(&self, side: Side, seq: SeqNum) -> bool {
        let way = &self.ways[side as usize];
        seq.since(way.una) < way.nxt.since(way.una)
    }

    /// The number that `side` has to go on with, as the other has acknowledged last.
    pub(super) const fn acknowledged(&self, side: Side) -> SeqNum {
        self.ways[side as usize].una
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::TcpOptions;

    fn greeting(seq: u32, window: u16, scale: Option<u8>) -> Greeting {
        Greeting { seq: SeqNum(seq), window, scale }
    }

    /// The client's numbers begin at 1000, the backend's at 5000; each has room for 100.
    fn track() -> Track {
        Track::new(greeting(999, 100, None), greeting(4999, 100, None))
    }

    fn says(track: &mut Track, side: Side, seq: u32, ack: u32, window: u16) -> Belief {
        let segment = Segment {
            seq: SeqNum(seq),
            ack: SeqNum(ack),
            flags: Flags::ACK,
            window,
            options: TcpOptions::default(),
            marked: false,
            payload: &[0; 50],
        };
        track.on_segment(side, &segment, segment.ack)
    }

    #[test]
    fn what_lies_in_the_window_may_be_taken() {
        let way = Way::new(SeqNum(1000), 100, 0);
        for (start, end, taken) in [
            (1000, 1000, true),
            (1050, 1060, true),
            (1000, 1101, true),
            (1101, 1101, true),
            (1000, 1102, false),
            (1102, 1102, false),
            (990, 1010, true),
            (990, 1000, false),
            (990, 990, false),
            (1200, 1010, false),
        ] {
            assert_eq!(way.admits(SeqNum(start), SeqNum(end)), taken, "{start} to {end}");
        }
    }

    #[test]
    fn no_window_takes_back_what_another_has_given() {
        let mut way = Way::new(SeqNum(1000), 100, 0);
        way.acknowledge(SeqNum(1000), 500);
        way.acknowledge(SeqNum(1010), 50);
        assert_eq!((way.una, way.edge, way.most), (SeqNum(1010), SeqNum(1500), 500));
        way.acknowledge(SeqNum(1600), 0);
        assert_eq!(way.edge, SeqNum(1600), "nor what was taken");
    }

    /// RFC 7323 §2.2 and §2.3.
    #[test]
    fn windows_are_scaled_if_both_can() {
        for (client, backend, scales) in [
            (Some(7), Some(3), [3, 7]),
            (Some(7), None, [0, 0]),
            (None, Some(3), [0, 0]),
            (Some(20), Some(15), [14, 14]),
        ] {
            let track = Track::new(greeting(999, 1, client), greeting(4999, 1, backend));
            assert_eq!(track.ways.map(|way| way.scale), scales, "{client:?}, {backend:?}");
        }
    }

    #[test]
    fn an_acknowledgment_is_new_or_old_or_a_guess() {
        let mut track = track();
        assert_eq!(says(&mut track, Side::Client, 1000, 5000, 100), Belief::Whole);
        assert_eq!(says(&mut track, Side::Backend, 5000, 1050, 100), Belief::Whole);
        for (ack, belief) in [
            (4999, Belief::Late),
            (4900, Belief::Late),
            (4899, Belief::Never),
            (5051, Belief::Never),
        ] {
            assert_eq!(says(&mut track, Side::Client, 1050, ack, 100), belief, "{ack}");
        }
        assert_eq!(track.ways[0].nxt, SeqNum(1100), "the text of an old word counts");
        for (seq, exact) in [(1050, true), (1100, true), (1075, false), (1101, false)] {
            assert_eq!(track.resets(Side::Client, SeqNum(seq)), exact, "{seq}");
        }
        for (seq, is) in [(1049, false), (1050, true), (1099, true), (1100, false)] {
            assert_eq!(track.is_outstanding(Side::Client, SeqNum(seq)), is, "{seq}");
        }
    }
}
