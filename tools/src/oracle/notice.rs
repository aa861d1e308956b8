//! I4: what a client would notice of a segment of ours, whoever sends it.
//!
//! * The ACK field and the timestamp never go back; the right edge of the window does not either,
//!   but for the rounding of a scaled window (RFC 7323 §2.4).
//! * Options keep the meaning that the handshake gave them. Timestamps are there always or never;
//!   SACK blocks only where they were permitted, about bytes that came, inside the window; nothing
//!   of a handshake outside of it.
//! * No segment is larger than the client's MSS allows, unless it is to be cut below the tap.
//! * A sequence number is one of this connection's output.
//!
//! A SND.NXT that goes back on an empty segment is none of these: the new owner starts at what it
//! knows to be acknowledged, and clients take such a segment for a probe (RFC 9293 §3.8.4).

use super::connection::Connection;
use super::packet::{Segment, before};
use super::sight::{Facts, NodeId};
use super::violation::{Complaints, Invariant};

/// Output that a closed write gate may have swallowed, at most; and the keepalive's step back.
const LEAP_MAX: i64 = 1 << 24;
/// A client that offers less than this gets it all the same.
const MSS_LEAST: usize = 64;

/// Judges `segment` of an open connection, no SYN and no RST. Returns the offsets that its ACK
/// field and its end stand for; `None` if they mean nothing.
pub(super) fn judge(
    connection: &mut Connection,
    node: NodeId,
    segment: &Segment<'_>,
    facts: &Facts,
    complaints: &mut Complaints,
) -> Option<(u64, u64)> {
    let pair = connection.pair;
    let mut say = |text: String| complaints.say(Invariant::I4, format!("{pair}: {text}"));
    for text in options(connection, segment) {
        say(text);
    }
    if let Some(text) = size(connection, segment, facts) {
        say(text);
    }
    let at = connection.output_offset(segment.seq);
    if at < -1 || at > connection.output.end() as i64 + LEAP_MAX {
        say(format!("sequence number {at} of the output is none of this connection's"));
        return None;
    }
    let Some(field) = segment.ack else {
        say("no ACK field".to_owned());
        return None;
    };
    let ack = acknowledgment(connection, node, field, complaints)?;
    window(connection, ack, segment, complaints);
    timestamp(connection, segment, complaints);
    let end = u64::try_from(at).unwrap_or(0) + segment.payload.len() as u64;
    Some((ack, end))
}

fn options(connection: &Connection, segment: &Segment<'_>) -> Vec<String> {
    let (agreed, options) = (connection.agreed, &segment.options);
    let mut wrong = Vec::new();
    if options.timestamps.is_some() != agreed.timestamps {
        let there = if agreed.timestamps { "missing" } else { "there, not negotiated" };
        wrong.push(format!("timestamps are {there}"));
    }
    if options.mss.is_some() || options.window_scale.is_some() || options.sack_permitted {
        wrong.push("options of a SYN behind it".to_owned());
    }
    if !agreed.sack && !options.sack.is_empty() {
        wrong.push("SACK, not negotiated".to_owned());
    }
    for (index, &(left, right)) in options.sack.iter().enumerate() {
        if let Some(text) = block(connection, segment, index, left, right) {
            wrong.push(text);
        }
    }
    wrong
}

/// A SACK block: about bytes that came, above the ACK field. The first may repeat what is below
/// it (RFC 2883).
fn block(
    connection: &Connection,
    segment: &Segment<'_>,
    index: usize,
    left: u32,
    right: u32,
) -> Option<String> {
    let (from, to) = (connection.input_offset(left), connection.input_offset(right));
    let ack = segment.ack.map_or(0, |ack| connection.input_offset(ack));
    let repeated = index == 0 && to <= ack;
    let came = connection.input.end() as i64 + i64::from(connection.input_fin.is_some());
    let sound = from >= 0 && from < to && to <= came && (from >= ack || repeated);
    (!sound).then(|| format!("SACK block {from}..{to}, ACK {ack}, and {came} bytes came"))
}

fn size(connection: &Connection, segment: &Segment<'_>, facts: &Facts) -> Option<String> {
    if facts.offload {
        return None;
    }
    let Segment { payload, options, .. } = segment;
    let ip = if connection.pair.service.is_ipv6() { 40 } else { 20 };
    let (most, has) =
        (usize::from(connection.agreed.mss).max(MSS_LEAST), payload.len() + options.length);
    let too_large = !payload.is_empty() && has > most;
    let too_long = ip + 20 + has > usize::from(facts.mtu);
    (too_large || too_long)
        .then(|| format!("a segment of {has} bytes with options; MSS {most}, MTU {}", facts.mtu))
}

/// The ACK field: no way back, nothing that never came. Lost input (I1) if another node said
/// more before.
fn acknowledgment(
    connection: &mut Connection,
    node: NodeId,
    field: u32,
    complaints: &mut Complaints,
) -> Option<u64> {
    let pair = connection.pair;
    let Ok(ack) = u64::try_from(connection.input_offset(field)) else {
        complaints.say(Invariant::I4, format!("{pair}: an ACK field before the first byte"));
        return None;
    };
    let shown = connection.ack;
    if ack < shown && node != connection.spoken_by {
        let text = format!(
            "{pair}: {} acknowledges {ack}, {} had acknowledged {shown}",
            node.name(),
            connection.spoken_by.name()
        );
        complaints.say(Invariant::I1, text);
    } else if ack < shown {
        complaints.say(Invariant::I4, format!("{pair}: ACK {ack} after {shown}"));
    }
    let came = connection.received();
    if ack > came {
        complaints.say(Invariant::I1, format!("{pair}: acknowledges {ack}, and {came} came"));
    }
    connection.ack = shown.max(ack);
    Some(ack)
}

fn window(
    connection: &mut Connection,
    ack: u64,
    segment: &Segment<'_>,
    complaints: &mut Complaints,
) {
    let unit = 1u64 << connection.agreed.scale;
    let edge = ack + (u64::from(segment.window) << connection.agreed.scale);
    if edge + unit <= connection.edge {
        let (pair, known) = (connection.pair, connection.edge);
        complaints.say(Invariant::I4, format!("{pair}: window shrinks from {known} to {edge}"));
    }
    connection.edge = connection.edge.max(edge);
}

fn timestamp(connection: &mut Connection, segment: &Segment<'_>, complaints: &mut Complaints) {
    let Some((value, _)) = segment.options.timestamps else { return };
    if let Some(latest) = connection.tsval
        && before(value, latest)
    {
        let pair = connection.pair;
        complaints.say(Invariant::I4, format!("{pair}: timestamp {value} after {latest}"));
        return;
    }
    connection.tsval = Some(value);
}
