//! A body in chunks, read byte by byte.

/// The longest line.
const LINE_MAX: usize = 200;

/// What a byte was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Byte {
    /// One of the body's.
    Body,
    /// One of those between.
    Between,
    /// The last one of all.
    Last,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) enum Chunks {
    Size(Vec<u8>),
    Data(u64),
    /// The line's end behind a chunk.
    End(u8),
    /// Fields behind the last chunk.
    Trailer(Vec<u8>),
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self::Size(Vec::new())
    }

    /// Takes the next byte.
    pub(super) fn take(&mut self, byte: u8) -> Result<Byte, String> {
        match self {
            Self::Size(line) => {
                line.push(byte);
                if line.len() > LINE_MAX {
                    return Err("a chunk's size line has no end".to_owned());
                }
                if let Some(text) = line.strip_suffix(b"\r\n") {
                    let text = String::from_utf8_lossy(text).into_owned();
                    let digits = text.split(';').next().unwrap_or_default();
                    let size = u64::from_str_radix(digits, 16)
                        .map_err(|_| format!("a chunk of size {text:?}"))?;
                    *self = if size == 0 { Self::Trailer(Vec::new()) } else { Self::Data(size) };
                }
                Ok(Byte::Between)
            }
            Self::Data(left) => {
                *left -= 1;
                if *left == 0 {
                    *self = Self::End(b'\r');
                }
                Ok(Byte::Body)
            }
            Self::End(wanted) => {
                if byte != *wanted {
                    return Err(format!("{byte:#04x} behind a chunk"));
                }
                *self = if byte == b'\r' { Self::End(b'\n') } else { Self::new() };
                Ok(Byte::Between)
            }
            Self::Trailer(lines) => {
                lines.push(byte);
                if lines.len() > LINE_MAX {
                    return Err("trailers have no end".to_owned());
                }
                let ended = lines == b"\r\n" || lines.ends_with(b"\r\n\r\n");
                Ok(if ended { Byte::Last } else { Byte::Between })
            }
        }
    }

    /// What stands behind the last chunk.
    pub(super) fn trailers(&self) -> &[u8] {
        match self {
            Self::Trailer(lines) => lines,
            Self::Size(_) | Self::Data(_) | Self::End(_) => &[],
        }
    }
}

/// Writes a chunk.
pub(super) fn put_chunk(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}
