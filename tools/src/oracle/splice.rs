//! One splice, as the LAN's tap shows it: two sides, and what each has said.
//!
//! ```text
//!   client    seq ───────────────► seq + delta   backend
//!             ack + delta, SACK ◄─ ack, SACK
//!             unchanged ◄───────── seq, TSval      and so back: ack and TSecr unchanged
//! ```
//!
//! The deltas are learnt from the two SYNs, and the two legs from the SYN-ACK, whose number passes
//! unchanged. From then on a relay has nothing to say of its own. Whatever it tells one side the
//! other has said: each byte (I2), each acknowledgment (I1), each window, stamp and block (I4). In
//! which order the networks brought it is no matter.

use core::net::SocketAddr;

use super::book::Joint;
use super::connection::Life;
use super::content::Content;
use super::packet::{Options, Pair, Segment, before, offset_of};
use super::sight::{Facts, Kind, NodeId};
use super::stream::Stream;
use super::violation::{Complaints, Invariant};

/// Nothing here has a window that large.
const WINDOW_MAX: i64 = 1 << 24;

/// A backend's address and port, and those of the service address that it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leg {
    pub(super) service: SocketAddr,
    pub(super) backend: SocketAddr,
}

impl core::fmt::Display for Leg {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} from {}", self.backend, self.service)
    }
}

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Backend,
}

impl End {
    const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Client => "the client",
            Self::Backend => "the backend",
        }
    }
}

/// One end, and what it has said so far.
#[derive(Debug)]
pub(super) struct Side {
    /// Its ISN, by its own count.
    pub(super) isn: u32,
    pub(super) said: Stream,
    pub(super) fin: Option<u64>,
    /// Of the other's stream: what it has acknowledged, and the farthest edge of its window.
    acked: u64,
    edge: u64,
    scale: u8,
    mss: u16,
    /// Its first and its latest TSval.
    stamps: Option<(u32, u32)>,
}

impl Side {
    pub(super) fn new(syn: &Hello, scaled: bool, ipv6: bool) -> Self {
        let mut side = Self {
            isn: syn.seq,
            said: Stream::default(),
            fin: None,
            acked: 0,
            // The window of a SYN is never scaled (RFC 7323 §2.2).
            edge: u64::from(syn.window),
            scale: syn.options.window_scale.filter(|_| scaled).unwrap_or(0),
            mss: syn.options.mss.unwrap_or(if ipv6 { 1220 } else { 536 }),
            stamps: None,
        };
        syn.stamps.iter().for_each(|(value, _)| side.stamp(*value));
        side
    }

    /// The offset of one of its sequence numbers, to which `delta` has been added.
    fn offset(&self, seq: u32, delta: u32) -> i64 {
        let first = self.isn.wrapping_add(delta).wrapping_add(1);
        offset_of(seq, first, self.said.next())
    }

    /// How far it has got, its FIN counted.
    fn end(&self) -> u64 {
        self.said.end() + u64::from(self.fin.is_some())
    }

    pub(super) fn stamp(&mut self, value: u32) {
        let (first, latest) = self.stamps.get_or_insert((value, value));
        if before(value, *first) {
            *first = value;
        } else if before(*latest, value) {
            *latest = value;
        }
    }

    fn has_stamped(&self, value: u32) -> bool {
        self.stamps.is_some_and(|(first, latest)| !before(value, first) && !before(latest, value))
    }
}

/// What matters of a SYN, or of a SYN-ACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) window: u16,
    pub(super) options: Options,
    /// TSval and TSecr of this and of its copies.
    pub(super) stamps: Vec<(u32, u32)>,
}

impl Hello {
    pub(super) fn of(segment: &Segment<'_>) -> Self {
        let Segment { seq, ack, window, ref options, .. } = *segment;
        let stamps = options.timestamps.into_iter().collect();
        Self { seq, ack, window, options: options.clone(), stamps }
    }
}

/// What was added to the client's timestamps: something that makes of each SYN that the backend got
/// one that the client said, and of the echo that its client is `given` one of the backend's.
fn stamp_delta(asked: &Hello, passed: &Hello, answer: &Hello, given: &Hello) -> Option<u32> {
    let (_, echo) = given.options.timestamps?;
    let first = passed.stamps.first()?.0;
    let has = |stamps: &[(u32, u32)], value| stamps.iter().any(|(known, _)| *known == value);
    let mut deltas = asked.stamps.iter().map(|(value, _)| first.wrapping_sub(*value));
    deltas.find(|delta| {
        let echoed = |(_, known): &(u32, u32)| *known == echo.wrapping_add(*delta);
        passed.stamps.iter().all(|(value, _)| has(&asked.stamps, value.wrapping_sub(*delta)))
            && answer.stamps.iter().any(echoed)
    })
}

#[derive(Debug)]
pub(super) struct Splice {
    pub(super) pair: Pair,
    pub(super) leg: Leg,
    /// What is added to the client's sequence numbers and timestamps.
    pub(super) seq: u32,
    /// `None`: they are not agreed on, or were changed beyond recognition.
    pub(super) ts: Option<u32>,
    pub(super) client: Side,
    pub(super) backend: Side,
    timestamps: bool,
    pub(super) life: Life,
    pub(super) spoken_by: NodeId,
    /// The stream on which a standby followed, or had been told of it, when it began; `None`: there
    /// was none.
    pub(super) session: Option<u64>,
    content: Content,
}

impl Splice {
    /// `asked` was the client's SYN, `passed` what the backend got in its place, `answer` what it
    /// said.
    pub(super) fn new(
        (pair, leg): (Pair, Leg),
        node: NodeId,
        (asked, passed, answer): (&Hello, &Hello, &Hello),
        given: &Hello,
        kind: Option<Kind>,
    ) -> Self {
        let scaled = asked.options.window_scale.is_some() && answer.options.window_scale.is_some();
        let ipv6 = pair.client.is_ipv6();
        let ts = stamp_delta(asked, passed, answer, given);
        Self {
            pair,
            leg,
            seq: passed.seq.wrapping_sub(asked.seq),
            ts,
            client: Side::new(asked, scaled, ipv6),
            backend: Side::new(answer, scaled, ipv6),
            timestamps: given.options.timestamps.is_some(),
            life: Life::default(),
            spoken_by: node,
            session: None,
            content: Content::of(kind),
        }
    }

    fn sides(&mut self, end: End) -> (&mut Side, &mut Side) {
        match end {
            End::Client => (&mut self.client, &mut self.backend),
            End::Backend => (&mut self.backend, &mut self.client),
        }
    }

    /// What has been added to the numbers of `end` where the other reads them: sequence numbers
    /// and timestamps.
    fn deltas(&self, end: End) -> (u32, u32) {
        match end {
            End::Client => (self.seq, self.ts.unwrap_or(0)),
            End::Backend => (0, 0),
        }
    }

    /// Whether `segment`, the client's, can be one of this splice.
    pub(super) fn is_about(&self, segment: &Segment<'_>) -> bool {
        let Some(ack) = segment.ack else { return false };
        let at = self.client.offset(segment.seq, 0);
        let near = (at - self.client.said.next() as i64).abs() < WINDOW_MAX;
        let acked = self.backend.offset(ack, 0);
        near && at >= -1 && (0..=self.backend.end() as i64 + 1).contains(&acked)
    }

    /// A sound segment that `end` says.
    pub(super) fn hear(&mut self, end: End, segment: &Segment<'_>) {
        if segment.rst {
            self.life.over = true;
            return;
        }
        let (_, (delta, _)) = (self.deltas(end), self.deltas(end.other()));
        let (one, other) = self.sides(end);
        if let Some((value, _)) = segment.options.timestamps {
            one.stamp(value);
        }
        if let Some(acked) =
            segment.ack.and_then(|ack| u64::try_from(other.offset(ack, delta)).ok())
        {
            one.acked = one.acked.max(acked);
            let scale = if segment.syn { 0 } else { one.scale };
            one.edge = one.edge.max(acked + (u64::from(segment.window) << scale));
        }
        if !segment.syn
            && let Ok(at) = u64::try_from(one.offset(segment.seq, 0))
        {
            one.said.insert(at, segment.payload);
            if segment.fin {
                one.fin.get_or_insert(at + segment.payload.len() as u64);
            }
        }
        self.life.established |= end == End::Client && !segment.syn;
        let ended = |side: &Side, other: &Side| side.fin.is_some_and(|fin| other.acked > fin);
        self.life.over |= ended(&self.client, &self.backend) && ended(&self.backend, &self.client);
    }

    /// Whether a record of the log says of it what the wire shows.
    pub(super) fn is_as_told(&self, told: &Joint) -> bool {
        let stamps = self.ts.is_none_or(|ts| ts == told.ts);
        (self.leg, self.seq) == (told.leg, told.seq) && stamps
    }

    /// Whether its client relies on it, and the pair may not fail it.
    pub(super) fn must_go_on(&self) -> bool {
        let Life { established, accepted, over, excused, forsaken, .. } = self.life;
        established && accepted && !over && !excused && !forsaken
    }

    /// Judges what is said to `to`: no SYN, no RST.
    pub(super) fn judge(
        &mut self,
        to: End,
        segment: &Segment<'_>,
        facts: &Facts,
        complaints: &mut Complaints,
    ) {
        let (pair, from) = (self.pair, to.other());
        let mut say =
            |invariant, text: String| complaints.say(invariant, format!("{pair}, {text}"));
        let (seq, ts) = self.deltas(from);
        let timestamps = self.timestamps;
        let ipv6 = pair.client.is_ipv6();
        let (hears, speaks) = self.sides(to);
        let (hears, speaks) = (&*hears, &*speaks);
        let (name, other) = (to.name(), from.name());

        let at = speaks.offset(segment.seq, seq);
        let end = at + segment.payload.len() as i64;
        if at < -1 || end > speaks.end() as i64 {
            let text = format!("to {name}: {at} to {end} where {other} has said {}", speaks.end());
            return say(Invariant::I2, text);
        }
        if let Ok(at) = u64::try_from(at)
            && let Some(difference) = speaks.said.differs(at, segment.payload)
        {
            let (offset, first, again) = (difference.offset, difference.first, difference.again);
            let text =
                format!("to {name}: byte {offset} is {again:#04x}, and {other} said {first:#04x}");
            say(Invariant::I2, text);
        }
        if segment.fin && speaks.fin != u64::try_from(end).ok() {
            let text = format!("to {name}: the end at {end}, {other} ended at {:?}", speaks.fin);
            say(Invariant::I2, text);
        }
        let Some(ack) = segment.ack.map(|ack| hears.offset(ack, 0)) else {
            return say(Invariant::I4, format!("to {name}: no ACK field"));
        };
        if ack < 0 || ack > speaks.acked as i64 {
            let text = format!("to {name}: acknowledges {ack}, {other} {}", speaks.acked);
            return say(Invariant::I1, text);
        }
        let edge = ack as u64 + (u64::from(segment.window) << speaks.scale);
        if edge > speaks.edge {
            let text =
                format!("to {name}: a window up to {edge}, {other} has one to {}", speaks.edge);
            say(Invariant::I4, text);
        }
        for &(left, right) in &segment.options.sack {
            let (left, right) = (hears.offset(left, 0), hears.offset(right, 0));
            if left < 0 || left >= right || right > hears.end() as i64 {
                let text = format!("to {name}: SACK {left}..{right}, it has said {}", hears.end());
                say(Invariant::I4, text);
            }
        }
        match segment.options.timestamps {
            Some((value, echo)) if timestamps => {
                if !speaks.has_stamped(value.wrapping_sub(ts)) || !hears.has_stamped(echo) {
                    let text = format!("to {name}: timestamps {value} {echo} that nobody gave");
                    say(Invariant::I4, text);
                }
            }
            None if !timestamps => {}
            Some(_) | None => {
                let text = format!("to {name}: timestamps are there, or not, as never agreed");
                say(Invariant::I4, text);
            }
        }
        let length = segment.payload.len() + segment.options.length;
        let most = usize::from(facts.mtu) - if ipv6 { 60 } else { 40 };
        let most = most.min(usize::from(hears.mss).max(64));
        if !facts.offload && !segment.payload.is_empty() && length > most {
            say(Invariant::I4, format!("to {name}: a segment of {length} bytes, it takes {most}"));
        }
        if to == End::Client && at >= 0 {
            self.judge_content(at as u64, segment, complaints);
        }
    }

    /// I6: what the servers may say, whatever relays them.
    fn judge_content(&mut self, at: u64, segment: &Segment<'_>, complaints: &mut Complaints) {
        let Self { content, client, backend, pair, .. } = self;
        let judged = content.judge(at, segment.payload, &backend.said, &client.said, &[]);
        let end = at + segment.payload.len() as u64;
        let ended = if segment.fin { content.judge_end(end, client.fin) } else { Ok(()) };
        if let Err(text) = judged.and(ended) {
            complaints.say(Invariant::I6, format!("{pair}: {text}"));
        }
    }
}
