//! Watches what the service address sends, knowing nothing of the engine: invariant I4.

use std::collections::BTreeMap;

use crate::time::Instant;
use crate::wire::{ChecksumState, Flags, SeqNum, parse_ip, parse_tcp};

/// What was last seen of one connection.
#[derive(Debug, Default)]
struct Seen {
    ack: Option<SeqNum>,
    edge: Option<SeqNum>,
    scale: u8,
    timestamp: Option<u32>,
    /// The client has seen the end of both streams.
    ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct Observer {
    seen: BTreeMap<u16, Seen>,
    complaints: Vec<String>,
}

impl Observer {
    /// The client at `port` is in TIME-WAIT or beyond: what it still acknowledges may be
    /// answered by a reset, which nobody is left to notice.
    pub(super) fn ended(&mut self, port: u16) {
        self.seen.entry(port).or_default().ended = true;
    }

    pub(super) fn watch(&mut self, now: Instant, packet: &[u8]) {
        let ip = parse_ip(packet).expect("the engine writes IP packets");
        let (_, port, segment) =
            parse_tcp(&ip, ChecksumState::Trusted).expect("the engine writes TCP");
        let seen = self.seen.entry(port).or_default();
        let mut complain = |what: &str| {
            self.complaints.push(format!(
                "{now:?} port {port}: {what}: {segment:?}",
                segment = (segment.seq, segment.ack, segment.flags, segment.window)
            ))
        };
        if segment.flags.contains(Flags::RST) {
            if !seen.ended {
                complain("reset");
            }
            return;
        }
        if segment.flags.contains(Flags::SYN) {
            seen.scale = segment.options.window_scale.unwrap_or(0);
            return;
        }
        if seen.ack.is_some_and(|ack| segment.ack.before(ack)) {
            complain("acknowledgment went back");
        }
        let edge = segment.ack.add(u32::from(segment.window) << seen.scale);
        // By less than a unit of the field it may, RFC 7323 §2.4: see `tcp::receive`.
        let unit = 1 << seen.scale;
        if seen.edge.is_some_and(|known| !edge.add(unit).after(known)) {
            complain("window shrank");
        }
        if let (Some(timestamps), Some(last)) = (segment.options.timestamps, seen.timestamp)
            && (timestamps.val.wrapping_sub(last) as i32) < 0
        {
            complain("timestamp went back");
        }
        seen.ack = Some(segment.ack);
        if seen.edge.is_none_or(|known| edge.after(known)) {
            seen.edge = Some(edge);
        }
        seen.timestamp = segment.options.timestamps.map(|timestamps| timestamps.val);
    }

    pub(super) fn assert_quiet(&self) {
        assert!(self.complaints.is_empty(), "I4:\n{}", self.complaints.join("\n"));
    }
}
