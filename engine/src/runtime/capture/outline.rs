//! A frame of the replication stream in one line: what it is, but not what clients said.
//!
//! ```text
//!  log 41..44, epoch 4: opened 1, input 2 (1460 bytes), progress 1
//!  confirm 44, unprotected 0
//! ```

use core::fmt::Write as _;

use arrayvec::ArrayString;

use super::framing::Passed;
use super::pcapng::COMMENT_MAX;
use crate::ids::Lsn;
use crate::replica::{Frame, Record};

/// A line as long as a comment may be.
pub(super) type Line = ArrayString<COMMENT_MAX>;

/// What `passed` is.
pub(super) fn outline(passed: Passed<'_>) -> Line {
    let mut line = Line::new();
    let Passed { bytes, length } = passed;
    // The line has room for all of this: nothing in it is long but the text of a refusal, and what
    // does not fit is left out.
    let _ = if bytes.len() < length {
        write!(line, "a frame of {length} bytes, too long to be looked into")
    } else {
        match Frame::decode(bytes) {
            Ok(frame) => describe(&mut line, &frame),
            Err(why) => write!(line, "not a frame: {why}"),
        }
    };
    line
}

fn describe(line: &mut Line, frame: &Frame<'_>) -> core::fmt::Result {
    match frame {
        Frame::Hello(hello) => {
            write!(line, "hello of node {}, epoch {}", hello.node, hello.epoch.0)
        }
        Frame::Log { first, epoch, records, .. } => {
            let tally = Tally::of(records);
            let last = Lsn(first.0.saturating_add(tally.records.saturating_sub(1)));
            write!(line, "log {}..{}, epoch {}: {tally}", first.0, last.0, epoch.0)
        }
        Frame::Confirm { lsn, unprotected } => {
            write!(line, "confirm {}, unprotected {unprotected}", lsn.0)
        }
        Frame::Handover { epoch, lsn } => {
            write!(line, "handover of epoch {}, log {}", epoch.0, lsn.0)
        }
        Frame::Refuse { text, .. } => write!(line, "refuse: {text}"),
        Frame::Ping { .. } => write!(line, "ping"),
        Frame::Pong { .. } => write!(line, "pong"),
        Frame::Host(word) if word.obstacles.is_empty() => {
            write!(line, "host: MTU {}", word.facts.mtu)
        }
        Frame::Host(word) => {
            write!(line, "host: MTU {}, in its way: {}", word.facts.mtu, word.obstacles)
        }
    }
}

/// How many records of each kind a log frame has.
#[derive(Default)]
struct Tally {
    records: u64,
    opened: u64,
    input: u64,
    input_bytes: usize,
    peer_finished: u64,
    pin: u64,
    progress: u64,
    closed: u64,
    snapshot: u64,
    spliced: u64,
    unspliced: u64,
    broken: bool,
}

impl Tally {
    fn of(mut records: &[u8]) -> Self {
        let mut tally = Self::default();
        while !records.is_empty() {
            let Ok(record) = Record::decode(&mut records) else {
                tally.broken = true;
                break;
            };
            tally.records += 1;
            match record {
                Record::Opened { .. } => tally.opened += 1,
                Record::Input { bytes, .. } => {
                    tally.input += 1;
                    tally.input_bytes += bytes.len();
                }
                Record::PeerFinished { .. } => tally.peer_finished += 1,
                Record::Pin { .. } | Record::Tick { .. } | Record::Leave { .. } => tally.pin += 1,
                Record::Stood { .. } => tally.progress += 1,
                Record::Progress { .. } => tally.progress += 1,
                Record::Closed { .. } => tally.closed += 1,
                Record::SnapshotBegin { .. } | Record::SnapshotEnd => tally.snapshot += 1,
                Record::Spliced { .. } => tally.spliced += 1,
                Record::SpliceStage { .. }
                | Record::Backend { .. }
                | Record::BackendState { .. } => tally.progress += 1,
                Record::Unspliced { .. } => tally.unspliced += 1,
            }
        }
        tally
    }
}

impl core::fmt::Display for Tally {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut comma = "";
        for (name, count) in [
            ("snapshot", self.snapshot),
            ("spliced", self.spliced),
            ("unspliced", self.unspliced),
            ("opened", self.opened),
            ("input", self.input),
            ("peer finished", self.peer_finished),
            ("pin", self.pin),
            ("progress", self.progress),
            ("closed", self.closed),
        ] {
            if count > 0 {
                write!(f, "{comma}{name} {count}")?;
                comma = ", ";
                if name == "input" {
                    write!(f, " ({} bytes)", self.input_bytes)?;
                }
            }
        }
        if self.broken { write!(f, "{comma}and what is no record") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConnId, Epoch};
    use crate::replica::Refusal;

    fn line(frame: &Frame<'_>) -> String {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        outline(Passed { bytes: &bytes, length: bytes.len() }).to_string()
    }

    fn log(records: &[u8]) -> String {
        line(&Frame::Log { first: Lsn(41), epoch: Epoch(4), clock: 9, records })
    }

    #[test]
    fn a_log_frame_is_counted_and_its_contents_are_not_shown() {
        let conn = ConnId(7);
        let mut records = Vec::new();
        Record::Input { conn, offset: 0, ts_recent: 0, bytes: b"secret" }.encode(&mut records);
        Record::Input { conn, offset: 6, ts_recent: 0, bytes: b"more" }.encode(&mut records);
        Record::PeerFinished { conn, offset: 10 }.encode(&mut records);
        Record::Closed { conn, cause: 1 }.encode(&mut records);
        assert_eq!(
            log(&records),
            "log 41..44, epoch 4: input 2 (10 bytes), peer finished 1, closed 1"
        );
        records.push(99);
        assert!(log(&records).ends_with("closed 1, and what is no record"));
    }

    #[test]
    fn every_other_frame_is_named() {
        assert_eq!(
            line(&Frame::Confirm { lsn: Lsn(44), unprotected: 1 }),
            "confirm 44, unprotected 1"
        );
        assert_eq!(
            line(&Frame::Handover { epoch: Epoch(5), lsn: Lsn(44) }),
            "handover of epoch 5, log 44"
        );
        assert_eq!(line(&Frame::Refuse { reason: Refusal::Busy, text: "no" }), "refuse: no");
        assert_eq!(line(&Frame::Ping { token: 1 }), "ping");
        assert_eq!(line(&Frame::Pong { token: 1 }), "pong");
    }

    #[test]
    fn what_is_no_frame_is_told_as_that() {
        let told = |bytes: &[u8], length| outline(Passed { bytes, length }).to_string();
        assert!(told(&[0; 5], 5).starts_with("not a frame: "));
        assert_eq!(told(&[0; 9], 10), "a frame of 10 bytes, too long to be looked into");
    }
}
