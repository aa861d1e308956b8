//! What is said in the world: functions of the connection and the offset.

use super::plan::Request;

/// Byte `offset` of what client `id` sends.
pub(super) fn said(id: u16, offset: u64) -> u8 {
    let mixed = (offset + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ u64::from(id));
    (mixed >> 32) as u8
}

/// RFC 864: lines of 72 characters, each beginning one later.
pub(super) fn chargen(offset: u64) -> u8 {
    let (line, column) = (offset / 74, offset % 74);
    match column {
        72 => b'\r',
        73 => b'\n',
        _ => b' ' + ((line + column) % 95) as u8,
    }
}

/// How long the files are.
pub(super) const LENGTHS: [u64; 4] = [0, 700, 40_000, 250_000];

/// The files of both hosts.
#[derive(Debug)]
pub(super) struct Content {
    files: Vec<Vec<u8>>,
}

impl Content {
    pub(super) fn new() -> Self {
        let file = |(number, length): (u64, u64)| {
            (0..length).map(|at| (at.wrapping_mul(2_654_435_761 + number) >> 24) as u8).collect()
        };
        Self { files: (0..).zip(LENGTHS).map(file).collect() }
    }

    /// All files: name and content.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, &[u8])> {
        self.files.iter().enumerate().map(|(number, bytes)| (name(number), bytes.as_slice()))
    }

    /// Byte `offset` of a file.
    pub(super) fn byte(&self, file: u8, offset: u64) -> u8 {
        self.file(file).get(offset as usize).copied().unwrap_or(0)
    }

    fn file(&self, file: u8) -> &[u8] {
        &self.files[usize::from(file) % self.files.len()]
    }

    /// The bytes that answer a request: from, and up to.
    pub(super) fn extent(&self, request: &Request) -> (u64, u64) {
        let length = self.file(request.file).len() as u64;
        request.range.map_or((0, length), |(from, last)| (from, length.min(last + 1)))
    }
}

/// What a request that never ends is answered with.
pub(super) const TOO_LATE: &[u8] = b"HTTP/1.1 408 ";

/// Byte `offset` of such a request.
pub(super) fn endless_request(offset: u64) -> u8 {
    const BEGINNING: &[u8] = b"GET /file1.bin HTTP/1.1\r\nHost: sim\r\nX: ";
    BEGINNING.get(offset as usize).copied().unwrap_or(b'x')
}

fn name(number: usize) -> String {
    format!("file{number}.bin")
}

/// A request as it is sent.
pub(super) fn request(request: &Request, last: bool) -> String {
    let name = name(usize::from(request.file) % LENGTHS.len());
    let range =
        request.range.map_or(String::new(), |(from, to)| format!("Range: bytes={from}-{to}\r\n"));
    let close = if last { "Connection: close\r\n" } else { "" };
    format!("GET /{name} HTTP/1.1\r\nHost: sim\r\n{range}{close}\r\n")
}
