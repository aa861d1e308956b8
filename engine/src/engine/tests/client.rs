//! A client: our own TCP as an active opener, and a checker of every byte.

use std::sync::Arc;

use crate::tcp::{Ecn, Settings, State, Tcb};
use crate::time::{Duration, Instant};
use crate::wire::{ChecksumState, FourTuple, Offload, SeqNum, VnetHeader, parse_ip, parse_tcp};

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Sends so many bytes and expects them back, then closes.
    Echo(u64),
    /// Sends so many bytes, then closes.
    Upload(u64),
    /// Receives so many bytes of a pattern, then is content.
    Chargen(u64),
    /// Fetches `big.bin` and closes.
    Fetch,
    /// The same, but closes its side as soon as it has asked.
    FetchHalfClosed,
    /// Asks so often for the head of `big.bin`, all at once, and closes when it has that many.
    Heads(u64),
    /// Says what it is told to, and expects it back.
    Talk,
    /// Says so much of a text as it is told to, keeps what it hears, and closes when it hears the end.
    Speak(&'static [u8]),
}

const REQUEST: &[u8] = b"GET /big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

const HEAD: &[u8] = b"HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\n";

#[derive(Debug)]
pub(super) struct Client {
    tuple: FourTuple,
    tcb: Tcb,
    mode: Mode,
    received: u64,
    wrong: Option<u64>,
    head: Vec<u8>,
    said: u64,
    /// It leaves unread what comes.
    pub(super) hoards: bool,
    pub(super) last_progress: Instant,
    pub(super) longest_gap: Duration,
}

/// Byte `offset` of the stream that the client on `port` sends.
fn byte(port: u16, offset: u64) -> u8 {
    let mixed = (offset + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ u64::from(port));
    (mixed >> 32) as u8
}

/// RFC 864: lines of 72 characters, each beginning one later.
fn chargen(offset: u64) -> u8 {
    let (line, column) = (offset / 74, offset % 74);
    match column {
        72 => b'\r',
        73 => b'\n',
        _ => b' ' + ((line + column) % 95) as u8,
    }
}

impl Client {
    pub(super) fn new(now: Instant, index: usize, tuple: FourTuple, mode: Mode) -> Self {
        // Every other one asks for ECN.
        let ecn = if index.is_multiple_of(2) { Ecn::Offer } else { Ecn::Never };
        let settings = Arc::new(Settings { ecn, ..Settings::default() });
        let mut tcb = Tcb::connect(
            &settings,
            now,
            SeqNum(u32::MAX - 5000 + index as u32),
            77,
            1500,
            tuple.is_ipv6(),
        );
        match mode {
            Mode::Echo(total) | Mode::Upload(total) => {
                tcb.set_output_end(total);
                tcb.finish();
            }
            Mode::Fetch => tcb.set_output_end(REQUEST.len() as u64),
            Mode::FetchHalfClosed => {
                tcb.set_output_end(REQUEST.len() as u64);
                tcb.finish();
            }
            Mode::Heads(count) => tcb.set_output_end(count * HEAD.len() as u64),
            Mode::Chargen(_) | Mode::Talk | Mode::Speak(_) => {}
        }
        Self {
            tuple,
            tcb,
            mode,
            received: 0,
            wrong: None,
            head: Vec::new(),
            said: 0,
            hoards: false,
            last_progress: now,
            longest_gap: Duration::ZERO,
        }
    }

    /// Says `bytes` more, and closes its side if that was the last of it.
    pub(super) fn say(&mut self, bytes: u64, last: bool) {
        self.said += bytes;
        self.tcb.set_output_end(self.said);
        if last {
            self.tcb.finish();
        }
    }

    /// Reads what it has left unread.
    pub(super) fn read_on(&mut self) {
        self.hoards = false;
        self.tcb.set_consumed(self.received);
    }

    pub(super) fn deadline(&self) -> Instant {
        self.tcb.deadline().unwrap_or(Instant::NEVER)
    }

    pub(super) fn on_timer(&mut self, now: Instant) {
        self.tcb.on_timer(now);
    }

    /// Whether the packet was for this client.
    pub(super) fn on_packet(&mut self, now: Instant, packet: &[u8]) -> bool {
        let ip = parse_ip(packet).expect("IP");
        let (_, port, segment) = parse_tcp(&ip, ChecksumState::Trusted).expect("TCP");
        if port != self.tuple.local.port() {
            return false;
        }
        let before = (self.received, self.tcb.acked());
        let Self { tcb, received, wrong, mode, head, tuple, hoards, .. } = self;
        tcb.on_segment(now, &segment, &mut |bytes| {
            for &byte in bytes {
                if !expected(*mode, tuple.local.port(), *received, byte, head) && wrong.is_none() {
                    *wrong = Some(*received);
                }
                *received += 1;
            }
        });
        // A content reader of an endless stream stops reading, and the window closes.
        if !matches!(*mode, Mode::Chargen(total) if *received >= total) && !*hoards {
            tcb.set_consumed(*received);
        }
        let has_all = matches!(*mode, Mode::Heads(count) if *received == count * head.len() as u64);
        if (tcb.peer_finished() && matches!(*mode, Mode::Fetch | Mode::Speak(_))) || has_all {
            tcb.finish();
        }
        if (self.received, self.tcb.acked()) != before {
            self.longest_gap = self.longest_gap.max(now.since(self.last_progress));
            self.last_progress = now;
        }
        true
    }

    pub(super) fn poll_packet(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (port, mode) = (self.tuple.local.port(), self.mode);
        let mut payload = Vec::new();
        let transmit = self.tcb.poll_transmit(now, &mut |range| {
            payload = range
                .map(|offset| match mode {
                    Mode::Fetch | Mode::FetchHalfClosed => REQUEST[offset as usize],
                    Mode::Heads(_) => HEAD[offset as usize % HEAD.len()],
                    Mode::Speak(text) => text[offset as usize],
                    Mode::Echo(_) | Mode::Upload(_) | Mode::Chargen(_) | Mode::Talk => {
                        byte(port, offset)
                    }
                })
                .collect();
            payload.len()
        })?;
        let header = transmit.header(self.tuple, 0);
        let mut packet = vec![0; header.len()];
        packet.extend_from_slice(&payload[..transmit.payload]);
        let _: VnetHeader =
            header.write(&mut packet, transmit.payload, Offload::Partial { mss: transmit.mss });
        Some(packet)
    }

    pub(super) fn port(&self) -> u16 {
        self.tuple.local.port()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.tcb.state(), State::TimeWait | State::Closed)
    }

    /// Whether its connection was reset: those that end in order linger.
    pub(super) fn was_reset(&self) -> bool {
        self.tcb.state() == State::Closed
    }

    pub(super) fn is_done(&self) -> bool {
        match self.mode {
            Mode::Chargen(total) => self.received >= total,
            Mode::Echo(_)
            | Mode::Upload(_)
            | Mode::Fetch
            | Mode::FetchHalfClosed
            | Mode::Heads(_)
            | Mode::Speak(_)
            | Mode::Talk => self.has_ended(),
        }
    }

    pub(super) fn assert_good(&self) {
        assert_eq!(self.wrong, None, "a wrong byte: {}", self.story());
        match self.mode {
            Mode::Echo(total) => assert_eq!(self.received, total, "{}", self.story()),
            Mode::Upload(total) => {
                assert_eq!((self.received, self.tcb.acked()), (0, total), "{}", self.story())
            }
            Mode::Talk => assert_eq!(self.received, self.said, "{}", self.story()),
            Mode::Heads(count) => {
                assert!(self.head.starts_with(b"HTTP/1.1 200 "), "{}", self.story());
                assert_eq!(self.received, count * self.head.len() as u64, "{}", self.story());
            }
            Mode::Chargen(total) => assert!(self.received >= total),
            Mode::Speak(_) => {}
            Mode::Fetch | Mode::FetchHalfClosed => {
                let body = self
                    .head
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n")
                    .map(|at| at as u64 + 4);
                assert!(
                    self.head.starts_with(b"HTTP/1.1 200 "),
                    "{:?}",
                    String::from_utf8_lossy(&self.head)
                );
                assert_eq!(self.received - body.expect("a head"), 3_000_000);
            }
        }
    }

    /// Where it stands, for a failure's message.
    pub(super) fn story(&self) -> String {
        let Self { tuple, tcb, mode, received, .. } = self;
        // A text may be long.
        let mode = format!("{mode:?}");
        let mode = mode.get(..40).unwrap_or(&mode);
        format!("{tuple:?} {mode}: {:?}, received {received}, acked {}", tcb.state(), tcb.acked())
    }

    /// Where it received a byte that does not belong there.
    pub(super) fn wrong(&self) -> Option<u64> {
        self.wrong
    }

    /// What it has heard, of a text.
    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.head).into_owned()
    }

    /// Bytes received so far.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the service acknowledged.
    pub(super) fn acked(&self) -> u64 {
        self.tcb.acked()
    }
}

/// Whether `byte` may stand at `offset` of what the service sends.
fn expected(mode: Mode, port: u16, offset: u64, value: u8, head: &mut Vec<u8>) -> bool {
    match mode {
        Mode::Echo(_) | Mode::Talk => value == byte(port, offset),
        Mode::Upload(_) => false,
        Mode::Chargen(_) => value == chargen(offset),
        // Every head is as the first one.
        Mode::Heads(_) if head.ends_with(b"\r\n\r\n") => {
            value == head[(offset % head.len() as u64) as usize]
        }
        Mode::Speak(_) => {
            head.push(value);
            true
        }
        Mode::Fetch | Mode::FetchHalfClosed | Mode::Heads(_) => {
            if !head.ends_with(b"\r\n\r\n") {
                head.push(value);
                return true;
            }
            let i = (offset - head.len() as u64) as u32;
            value == (i.wrapping_mul(2_654_435_761) >> 24) as u8
        }
    }
}
