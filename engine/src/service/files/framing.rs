//! Request bodies: nobody wants them, and all of them have to be found the end of.
//!
//! A body that is measured wrongly turns its rest into a request (request smuggling). So there is
//! one measure or none: `Content-Length` once and in digits, or `Transfer-Encoding: chunked` alone,
//! RFC 9112 §6.3; everything else is refused and the connection closed. Chunked framing is read
//! with CR LF exactly, one state per place where the input may be cut.

/// How much of the current request's body is still to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// So many bytes, never 0.
    Length(u64),
    /// Chunks, RFC 9112 §7.1.
    Chunked(Place),
}

/// Where in the chunked coding the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the hexadecimal size, after `digits` of them.
    Size { value: u64, digits: u8 },
    /// In the extensions after the size, after `length` bytes of them.
    Extension { value: u64, length: u16 },
    /// At the LF that ends the size line.
    SizeEnd { value: u64 },
    /// In the data; so many bytes to come, never 0.
    Data { rest: u64 },
    /// At the CR after the data.
    DataCr,
    /// At the LF after the data.
    DataLf,
    /// In the trailers, after `total` bytes of them; `line` is false at the beginning of a line.
    Trailer { total: u16, line: bool },
    /// At the LF that ends a trailer line.
    TrailerEnd { total: u16 },
    /// At the very last LF.
    LastLf,
}

/// The longest extensions of one chunk that are read over.
const EXTENSION_MAX: u16 = 1 << 10;
/// The longest trailers that are read over.
const TRAILER_MAX: u16 = 16 << 10;

/// What became of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Discard {
    /// All input was part of it and more is to come.
    More(Framing),
    /// It ended after so many bytes.
    Done(usize),
    /// It is not what it claims to be; no byte after it can be understood.
    Broken,
}

impl Framing {
    /// The beginning of a chunked body.
    pub(crate) const CHUNKED: Self = Self::Chunked(Place::Size { value: 0, digits: 0 });

    /// Reads over `input`.
    pub(crate) fn discard(self, input: &[u8]) -> Discard {
        match self {
            Self::Length(rest) => match usize::try_from(rest) {
                Ok(rest) if rest <= input.len() => Discard::Done(rest),
                _ => Discard::More(Self::Length(rest - input.len() as u64)),
            },
            Self::Chunked(place) => discard_chunks(place, input),
        }
    }
}

fn discard_chunks(mut place: Place, input: &[u8]) -> Discard {
    let mut at = 0;
    while at < input.len() {
        if let Place::Data { rest } = place {
            let count = rest.min((input.len() - at) as u64);
            at += count as usize;
            place = if rest == count { Place::DataCr } else { Place::Data { rest: rest - count } };
            continue;
        }
        match step(place, input[at]) {
            Some(Next::Place(next)) => (place, at) = (next, at + 1),
            Some(Next::End) => return Discard::Done(at + 1),
            None => return Discard::Broken,
        }
    }
    Discard::More(Framing::Chunked(place))
}

enum Next {
    Place(Place),
    End,
}

/// One byte of the chunked coding that is not data; `None` where it must not stand.
fn step(place: Place, byte: u8) -> Option<Next> {
    let next = match (place, byte) {
        (Place::Size { value, digits: 1.. }, _) if !byte.is_ascii_hexdigit() => {
            after_size(value, byte)?
        }
        (Place::Size { value, digits }, _) => {
            // Fifteen digits are 2⁶⁰ bytes: nobody means that, and it cannot overflow.
            let digit = (byte as char).to_digit(16).filter(|_| digits < 15)?;
            Place::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
        }
        (Place::Extension { value, .. }, b'\r') => Place::SizeEnd { value },
        (Place::Extension { value, length }, _) if is_text(byte) && length < EXTENSION_MAX => {
            Place::Extension { value, length: length + 1 }
        }
        (Place::SizeEnd { value: 0 }, b'\n') => Place::Trailer { total: 0, line: false },
        (Place::SizeEnd { value }, b'\n') => Place::Data { rest: value },
        (Place::DataCr, b'\r') => Place::DataLf,
        (Place::DataLf, b'\n') => Place::Size { value: 0, digits: 0 },
        (Place::Trailer { line: false, .. }, b'\r') => Place::LastLf,
        (Place::Trailer { total, line: true }, b'\r') => Place::TrailerEnd { total },
        (Place::Trailer { total, .. }, _) if is_text(byte) && total < TRAILER_MAX => {
            Place::Trailer { total: total + 1, line: true }
        }
        (Place::TrailerEnd { total }, b'\n') => Place::Trailer { total, line: false },
        (Place::LastLf, b'\n') => return Some(Next::End),
        _ => return None,
    };
    Some(Next::Place(next))
}

fn after_size(value: u64, byte: u8) -> Option<Place> {
    match byte {
        b'\r' => Some(Place::SizeEnd { value }),
        b';' | b' ' | b'\t' => Some(Place::Extension { value, length: 1 }),
        _ => None,
    }
}

const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `size`; the body's length, or `None` when it is broken.
    fn chunked(input: &[u8], size: usize) -> Option<usize> {
        let (mut framing, mut before) = (Framing::CHUNKED, 0);
        for piece in input.chunks(size) {
            match framing.discard(piece) {
                Discard::More(next) => (framing, before) = (next, before + piece.len()),
                Discard::Done(count) => return Some(before + count),
                Discard::Broken => return None,
            }
        }
        panic!("{framing:?} wants more");
    }

    #[test]
    fn chunks_end_where_they_say() {
        for (body, rest) in [
            ("0\r\n\r\n", "GET"),
            ("5\r\nhello\r\n0\r\n\r\n", "GET"),
            ("A;x=\"y\"\r\n0123456789\r\n00\r\nT: v\r\nU: w\r\n\r\n", "0\r\n\r\n"),
        ] {
            let input = [body, rest].concat();
            for size in 1..=input.len() {
                assert_eq!(chunked(input.as_bytes(), size), Some(body.len()), "{body:?} by {size}");
            }
        }
    }

    #[test]
    fn anything_ambiguous_is_broken() {
        for body in [
            "\r\n",
            "x\r\n",
            "5\nhello",
            "5\r\nhello0\r\n",
            "5\r\nhello\n0",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1000000000000000\r\n",
            "5 \rx",
            "0\r\n\n",
            "0\r\nT: v\n\n",
            "5;\u{1}\r\n",
            "0\r\n\rx",
            ";\r\n",
        ] {
            assert_eq!(chunked(body.as_bytes(), 1), None, "{body:?}");
        }
    }

    #[test]
    fn trailers_are_bounded_all_together() {
        let limit = usize::from(TRAILER_MAX);
        // Each line is far shorter than what all of them may be.
        let lines = |total: usize| {
            let (full, rest) = (total / 100, total % 100);
            let mut lines = format!("{}\r\n", "t".repeat(100)).repeat(full);
            lines.push_str(&"t".repeat(rest));
            lines.push_str(if rest > 0 { "\r\n" } else { "" });
            format!("0\r\n{lines}\r\n")
        };
        let (taken, refused) = (lines(limit), lines(limit + 1));
        for size in [1, 7, taken.len()] {
            assert_eq!(chunked(taken.as_bytes(), size), Some(taken.len()));
            assert_eq!(chunked(refused.as_bytes(), size), None);
        }
    }

    #[test]
    fn extensions_are_bounded() {
        // The semicolon counts.
        let extended = |length: u16| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(length.into()));
        let (taken, refused) = (extended(EXTENSION_MAX - 1), extended(EXTENSION_MAX));
        for size in [1, 7, taken.len()] {
            assert_eq!(chunked(taken.as_bytes(), size), Some(taken.len()));
            assert_eq!(chunked(refused.as_bytes(), size), None);
        }
        // Of one chunk, not of all.
        let two = format!("1;{0}\r\nx\r\n1;{0}\r\nx\r\n0\r\n\r\n", "e".repeat(1000));
        assert_eq!(chunked(two.as_bytes(), 1), Some(two.len()));
    }

    #[test]
    fn a_length_is_counted_down() {
        assert_eq!(Framing::Length(5).discard(b"abc"), Discard::More(Framing::Length(2)));
        assert_eq!(Framing::Length(2).discard(b"abc"), Discard::Done(2));
        let huge = Framing::Length(u64::MAX).discard(b"abc");
        assert_eq!(huge, Discard::More(Framing::Length(u64::MAX - 3)));
    }
}
