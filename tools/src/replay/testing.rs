//! Captures made for tests: every format, and segments written in the order of a tcpdump line.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use etherparse::{PacketBuilder, TcpOptionElement};

pub(crate) const CLIENT: [u8; 4] = [10, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 100];
pub(crate) const CLIENT_PORT: u16 = 40_000;
pub(crate) const CLIENT_ISS: u32 = 0xffff_ff00;
pub(crate) const SERVER_ISS: u32 = 5_000;

/// A segment. Numbers are offsets: 0 is the first byte after the SYN.
#[derive(Clone, Copy)]
pub(crate) struct Seg<'a> {
    pub(crate) seq: i64,
    pub(crate) ack: i64,
    pub(crate) window: u16,
    pub(crate) flags: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) sack: Option<(i64, i64)>,
}

pub(crate) const ACK: Seg<'_> =
    Seg { seq: 0, ack: 0, window: 1_000, flags: ".", payload: b"", sack: None };

/// A capture in the making.
pub(crate) struct Capture {
    pub(crate) frames: Vec<(u64, Vec<u8>)>,
    /// The last byte of the server's hardware address.
    pub(crate) host: u8,
    pub(crate) port: u16,
    pub(crate) client_port: u16,
}

impl Capture {
    pub(crate) fn new(port: u16) -> Self {
        Self { frames: Vec::new(), host: 1, port, client_port: CLIENT_PORT }
    }

    /// One with the handshake done in two milliseconds.
    pub(crate) fn established(port: u16) -> Self {
        let mut capture = Self::new(port);
        capture.handshake(0);
        capture
    }

    pub(crate) fn handshake(&mut self, ms: u64) {
        self.client(ms, Seg { seq: -1, flags: "S", ..ACK });
        self.server(ms + 1, Seg { seq: -1, flags: "S.", ..ACK });
        self.client(ms + 2, ACK);
    }

    pub(crate) fn client(&mut self, ms: u64, seg: Seg<'_>) {
        self.push(ms, false, seg);
    }

    pub(crate) fn server(&mut self, ms: u64, seg: Seg<'_>) {
        self.push(ms, true, seg);
    }

    fn push(&mut self, ms: u64, from_server: bool, seg: Seg<'_>) {
        let number = |iss: u32, offset: i64| iss.wrapping_add(1).wrapping_add(offset as u32);
        let (own, other) =
            if from_server { (SERVER_ISS, CLIENT_ISS) } else { (CLIENT_ISS, SERVER_ISS) };
        let mac = [2, 0, 0, 0, 0, if from_server { self.host } else { 9 }];
        let builder = PacketBuilder::ethernet2(mac, [2; 6]);
        let builder = if from_server {
            builder.ipv4(SERVER, CLIENT, 64)
        } else {
            builder.ipv4(CLIENT, SERVER, 64)
        };
        let (source, target) =
            if from_server { (self.port, self.client_port) } else { (self.client_port, self.port) };
        let mut builder = builder.tcp(source, target, number(own, seg.seq), seg.window);
        // TSval is the time, TSecr what the other side would have said a millisecond ago.
        let mut options = vec![TcpOptionElement::Timestamp(1_000 + ms as u32, 999 + ms as u32)];
        for flag in seg.flags.chars() {
            builder = match flag {
                'S' => {
                    options.push(TcpOptionElement::MaximumSegmentSize(1_460));
                    options.push(TcpOptionElement::WindowScale(2));
                    options.push(TcpOptionElement::SelectiveAcknowledgementPermitted);
                    builder.syn()
                }
                'F' => builder.fin(),
                'R' => builder.rst(),
                'P' => builder.psh(),
                _ => builder.ack(number(other, seg.ack)),
            };
        }
        if let Some((left, right)) = seg.sack {
            let block = (number(other, left), number(other, right));
            options.push(TcpOptionElement::SelectiveAcknowledgement(block, [None; 3]));
        }
        let mut bytes = Vec::new();
        let builder = builder.options(&options).expect("options fit");
        builder.write(&mut bytes, seg.payload).expect("a vector takes all");
        self.frames.push((ms * 1_000_000, bytes));
    }

    /// A gratuitous ARP for the service address from the server's present host.
    pub(crate) fn announce(&mut self, ms: u64) {
        let mac = [2, 0, 0, 0, 0, self.host];
        let mut frame = [[0xff; 6], mac].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend([&mac[..], &SERVER, &[0; 6], &SERVER].concat());
        self.frames.push((ms * 1_000_000, frame));
    }

    /// The frames as a classic file of microseconds.
    pub(crate) fn pcap(&self) -> Vec<u8> {
        classic(1, false, false, &self.frames)
    }

    pub(crate) fn file(&self) -> Temporary {
        Temporary::of(&self.pcap())
    }
}

/// A classic file.
pub(crate) fn classic(
    link: u32,
    big_endian: bool,
    nanoseconds: bool,
    frames: &[(u64, Vec<u8>)],
) -> Vec<u8> {
    let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
    let mut file = word(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 }).to_vec();
    file.extend([half(2), half(4)].concat());
    file.extend([word(0), word(0), word(65_535), word(link)].concat());
    for (nanos, frame) in frames {
        let unit = if nanoseconds { 1 } else { 1_000 };
        let length = frame.len() as u32;
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000 / unit);
        let head = [word(seconds as u32), word(rest as u32), word(length), word(length)];
        file.extend(head.concat());
        file.extend_from_slice(frame);
    }
    file
}

/// A pcapng file with one interface of nanoseconds; each frame may have a comment.
pub(crate) fn pcapng(
    link: u16,
    big_endian: bool,
    frames: &[(u64, Vec<u8>)],
    comments: &[(usize, &str)],
) -> Vec<u8> {
    let word = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let half = |half: u16| if big_endian { half.to_be_bytes() } else { half.to_le_bytes() };
    let option = |code: u16, value: &[u8]| {
        let mut option = [half(code), half(value.len() as u16)].concat();
        option.extend_from_slice(value);
        option.resize(option.len().next_multiple_of(4), 0);
        option
    };
    let block = |kind: u32, body: &[u8]| {
        let length = word(body.len() as u32 + 12);
        [&word(kind)[..], &length, body, &length].concat()
    };
    let section = [&word(0x1a2b_3c4d)[..], &half(1), &half(0), &[0xff; 8]].concat();
    let resolution = option(9, &[9]);
    let interface = [&half(link)[..], &half(0), &word(0), &resolution, &option(0, &[])].concat();
    let mut file = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for (index, (nanos, frame)) in frames.iter().enumerate() {
        let length = frame.len() as u32;
        let mut body =
            [word(0), word((nanos >> 32) as u32), word(*nanos as u32), word(length), word(length)]
                .concat();
        body.extend_from_slice(frame);
        body.resize(body.len().next_multiple_of(4), 0);
        for (_, text) in comments.iter().filter(|(at, _)| *at == index) {
            body.extend(option(1, text.as_bytes()));
        }
        file.extend(block(6, &body));
    }
    file
}

/// A file that goes when it is no longer needed.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("standin-replay-{process}-{number}"));
        std::fs::write(&path, bytes).expect("the temporary directory takes a file");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
