//! Bodies: finding the end of one, and what of its bytes is payload.
//!
//! A body that is measured wrongly turns its rest into a message (request smuggling). So there is
//! one measure or none: `Content-Length` once and in digits, or `Transfer-Encoding: chunked` alone,
//! RFC 9112 §6.3; everything else is refused. Chunked framing is read with CR LF exactly, one state per
//! place where the input may be cut:
//!
//! ```text
//!   5;x=y CR LF  hello  CR LF   0 CR LF   Name: value CR LF   CR LF
//!   ─ Framing ── Data ─ Framing ───────   Trailer ─────────   End
//! ```

use super::Refusal;
use super::fields::is_token_byte;
use crate::codec::{Reader, put_number};

/// How much of a body is still to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, RFC 9112 §7.1.
    Chunked(Place),
    /// Everything up to the connection's end. Only its sender knows whether that was the body's end: it is
    /// not after a reset.
    UntilEnd,
}

/// What the front of some input is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The next so many bytes, at least one, are payload.
    Data(usize),
    /// The next so many bytes, at least one, are the chunked coding's own.
    Framing(usize),
    /// The next so many bytes, at least one, are of the trailer section, but not of its final empty line.
    Trailer(usize),
    /// The body is over behind the next so many bytes, which are the coding's own; perhaps none.
    End(usize),
    /// All input has been read, and more is to come.
    More,
}

/// Where in the chunked coding the next byte stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(At);

/// See [`Place`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
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
    /// In the trailers, after `total` bytes of them; `line` is false at the beginning of a line, and true in
    /// a field's value.
    Trailer { total: u16, line: bool },
    /// In a trailer field's name.
    TrailerName { total: u16, name: Name },
    /// At the LF that ends a trailer line.
    TrailerEnd { total: u16 },
    /// At the very last LF.
    LastLf,
}

/// What is known of a name of which only the beginning may have come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Name {
    /// How long it is so far; no more is counted than [`FORBIDDEN`] could need.
    length: u8,
    /// One bit for each of [`FORBIDDEN`] that it may become.
    suspects: u8,
}

/// What does not belong into a trailer section (RFC 9110 §6.5.1), as it measures or routes the message or is
/// the connection's: a reader that merges it with the head would see another message.
const FORBIDDEN: [&str; 4] = ["content-length", "transfer-encoding", "host", "connection"];

/// The longest extensions of one chunk that are read over.
const EXTENSION_MAX: u16 = 1 << 10;
/// The longest trailers that are read over.
const TRAILER_MAX: u16 = 16 << 10;
/// The most digits of a chunk's size. Fifteen are 2⁶⁰ bytes: nobody means that, and it cannot overflow.
const DIGITS_MAX: u8 = 15;

impl Framing {
    /// The beginning of a chunked body.
    pub const CHUNKED: Self = Self::Chunked(Place(At::START));

    /// Says what the front of `input` is, and goes on behind that. A chunked body that is over has
    /// become one of no length.
    ///
    /// # Errors
    /// When it is not what it claims to be; no byte from the front of `input` on can be understood.
    pub fn next(&mut self, input: &[u8]) -> Result<Part, Refusal> {
        match self {
            Self::Length(0) => Ok(Part::End(0)),
            _ if input.is_empty() => Ok(Part::More),
            Self::Length(rest) => Ok(Part::Data(count_down(rest, input))),
            Self::Chunked(place) => {
                let part = place.next(input)?;
                if matches!(part, Part::End(_)) {
                    *self = Self::Length(0);
                }
                Ok(part)
            }
            Self::UntilEnd => Ok(Part::Data(input.len())),
        }
    }

    /// Bytes of payload that are still to come of the chunk that has begun; 0 outside of one.
    #[must_use]
    pub const fn chunk_left(&self) -> u64 {
        match self {
            Self::Chunked(Place(At::Data { rest })) => *rest,
            Self::Chunked(_) | Self::Length(_) | Self::UntilEnd => 0,
        }
    }

    /// Appends a tag from 2 on and two numbers. A tag is never used for another place.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (tag, a, b) = match self {
            Self::Length(rest) => (2, *rest, 0),
            Self::Chunked(Place(at)) => match *at {
                At::Size { value, digits } => (3, value, u64::from(digits)),
                At::Extension { value, length } => (4, value, u64::from(length)),
                At::SizeEnd { value } => (5, value, 0),
                At::Data { rest } => (6, rest, 0),
                At::DataCr => (7, 0, 0),
                At::DataLf => (8, 0, 0),
                At::Trailer { total, line } => (9, u64::from(total), u64::from(line)),
                At::TrailerEnd { total } => (10, u64::from(total), 0),
                At::LastLf => (11, 0, 0),
                At::TrailerName { total, name: Name { length, suspects } } => {
                    (13, u64::from(total), u64::from(length) << 8 | u64::from(suspects))
                }
            },
            Self::UntilEnd => (12, 0, 0),
        };
        out.push(tag);
        put_number(out, a);
        put_number(out, b);
    }

    /// Reads what [`Framing::encode`] wrote.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (tag, a, b) = (reader.byte()?, reader.number()?, reader.number()?);
        let short = |number: u64| u16::try_from(number).ok();
        let at = match tag {
            2 => return Some(Self::Length(a)),
            3 if b <= DIGITS_MAX.into() => At::Size { value: a, digits: b as u8 },
            4 => At::Extension { value: a, length: short(b)? },
            5 => At::SizeEnd { value: a },
            6 if a > 0 => At::Data { rest: a },
            7 => At::DataCr,
            8 => At::DataLf,
            9 if b <= 1 => At::Trailer { total: short(a)?, line: b == 1 },
            10 => At::TrailerEnd { total: short(a)? },
            11 => At::LastLf,
            12 => return Some(Self::UntilEnd),
            13 => {
                let [length, suspects] = short(b)?.to_be_bytes();
                At::TrailerName { total: short(a)?, name: Name { length, suspects } }
            }
            _ => return None,
        };
        Some(Self::Chunked(Place(at)))
    }
}

/// How much of `input` the `rest` takes, which is not 0.
fn count_down(rest: &mut u64, input: &[u8]) -> usize {
    let count = usize::try_from(*rest).unwrap_or(usize::MAX).min(input.len());
    *rest -= count as u64;
    count
}

/// What the bytes at some places are in common.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Framing,
    Trailer,
    Last,
}

impl Place {
    /// The front of `input`, which is not empty.
    fn next(&mut self, input: &[u8]) -> Result<Part, Refusal> {
        if let At::Data { rest } = &mut self.0 {
            let count = count_down(rest, input);
            if *rest == 0 {
                self.0 = At::DataCr;
            }
            return Ok(Part::Data(count));
        }
        let kind = self.0.kind(input[0]);
        let (mut at, mut count) = (self.0, 0);
        while let Some(&byte) = input.get(count)
            && at.kind(byte) == kind
        {
            match at.step(byte) {
                Ok(Some(next)) => at = next,
                Ok(None) => return Ok(Part::End(count + 1)),
                Err(refusal) if count == 0 => return Err(refusal),
                // What stands before it is sound.
                Err(_) => break,
            }
            count += 1;
        }
        self.0 = at;
        match kind {
            Kind::Trailer => Ok(Part::Trailer(count)),
            Kind::Data | Kind::Framing | Kind::Last => Ok(Part::Framing(count)),
        }
    }
}

impl At {
    /// Before a chunk.
    const START: Self = Self::Size { value: 0, digits: 0 };

    /// What `byte`, which is the next one, is.
    #[inline]
    const fn kind(self, byte: u8) -> Kind {
        match self {
            Self::Data { .. } => Kind::Data,
            Self::Size { .. }
            | Self::Extension { .. }
            | Self::SizeEnd { .. }
            | Self::DataCr
            | Self::DataLf => Kind::Framing,
            Self::Trailer { line: false, .. } if byte == b'\r' => Kind::Last,
            Self::Trailer { .. } | Self::TrailerName { .. } | Self::TrailerEnd { .. } => {
                Kind::Trailer
            }
            Self::LastLf => Kind::Last,
        }
    }

    /// Where `byte`, which is not data, leads to; `None` at the end of the body.
    #[inline]
    fn step(self, byte: u8) -> Result<Option<Self>, Refusal> {
        let next = match (self, byte) {
            (Self::Size { value, digits: 1.. }, b'\r') => Self::SizeEnd { value },
            // Not behind white space, which RFC 9112 §7.1.1 would have us tolerate: what else ignores it
            // there may read another number.
            (Self::Size { value, digits: 1.. }, b';') => Self::Extension { value, length: 1 },
            (Self::Size { value, digits: digits @ 0..DIGITS_MAX }, _) => {
                let digit = (byte as char).to_digit(16).ok_or(Refusal::ChunkSize)?;
                Self::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { .. }, _) => return Err(Refusal::ChunkSize),
            (Self::Extension { value, .. }, b'\r') => Self::SizeEnd { value },
            (Self::Extension { value, length: length @ 0..EXTENSION_MAX }, _) => {
                text(byte, Self::Extension { value, length: length + 1 })?
            }
            (Self::Extension { .. }, _) => return Err(Refusal::ChunkExtension),
            (Self::SizeEnd { value: 0 }, b'\n') => Self::Trailer { total: 0, line: false },
            (Self::SizeEnd { value }, b'\n') => Self::Data { rest: value },
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::DataCr | Self::DataLf | Self::Data { .. }, _) => return Err(Refusal::ChunkEnd),
            (Self::Trailer { line: false, .. }, b'\r') => Self::LastLf,
            (Self::Trailer { line: true, total }, b'\r') => Self::TrailerEnd { total },
            (Self::TrailerEnd { total }, b'\n') => Self::Trailer { total, line: false },
            (Self::LastLf, b'\n') => return Ok(None),
            (Self::SizeEnd { .. } | Self::TrailerEnd { .. } | Self::LastLf, _) => {
                return Err(Refusal::BareCr);
            }
            (
                Self::Trailer { total: TRAILER_MAX.., .. }
                | Self::TrailerName { total: TRAILER_MAX.., .. },
                _,
            ) => {
                return Err(Refusal::TrailerTooLong);
            }
            (Self::Trailer { line: true, total }, _) => {
                text(byte, Self::Trailer { line: true, total: total + 1 })?
            }
            (Self::Trailer { line: false, .. }, b' ' | b'\t') => return Err(Refusal::Fold),
            (Self::Trailer { line: false, total }, _) => {
                Self::TrailerName { total: total + 1, name: Name::NEW.with(byte)? }
            }
            (Self::TrailerName { name, .. }, b':') if name.is_forbidden() => {
                return Err(Refusal::TrailerField);
            }
            (Self::TrailerName { total, .. }, b':') => {
                Self::Trailer { line: true, total: total + 1 }
            }
            (Self::TrailerName { total, name }, _) => {
                Self::TrailerName { total: total + 1, name: name.with(byte)? }
            }
        };
        Ok(Some(next))
    }
}

impl Name {
    /// Nothing of it has come.
    const NEW: Self = Self { length: 0, suspects: (1 << FORBIDDEN.len()) - 1 };

    /// It goes on with `byte`.
    fn with(self, byte: u8) -> Result<Self, Refusal> {
        match byte {
            b' ' | b'\t' => return Err(Refusal::SpaceBeforeColon),
            _ if !is_token_byte(byte) => return Err(Refusal::FieldName),
            _ => {}
        }
        let mut suspects = self.suspects;
        for (bit, name) in FORBIDDEN.iter().enumerate() {
            if name.as_bytes().get(usize::from(self.length)) != Some(&byte.to_ascii_lowercase()) {
                suspects &= !(1 << bit);
            }
        }
        Ok(Self { length: self.length.saturating_add(1), suspects })
    }

    /// Is it one of [`FORBIDDEN`], if it ends here?
    fn is_forbidden(self) -> bool {
        let whole = |(bit, name): (usize, &&str)| {
            self.suspects >> bit & 1 == 1 && name.len() == usize::from(self.length)
        };
        FORBIDDEN.iter().enumerate().any(whole)
    }
}

/// `next`, if `byte` is text.
const fn text(byte: u8, next: At) -> Result<At, Refusal> {
    match byte {
        b'\t' | b' '..=b'~' | 0x80.. => Ok(next),
        b'\n' => Err(Refusal::BareLf),
        _ => Err(Refusal::Control),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is payload, what is of the trailer section, and where the body ended.
    #[derive(PartialEq, Eq, Debug, Default)]
    struct Read {
        data: String,
        trailer: String,
        length: usize,
    }

    /// Feeds `input` in pieces of `size`; `Err` when the body is broken.
    fn read(mut framing: Framing, input: &str, size: usize) -> Result<Read, Refusal> {
        let mut read = Read::default();
        let put = |text: &mut String, piece: &[u8]| {
            text.push_str(core::str::from_utf8(piece).expect("text"));
        };
        for piece in input.as_bytes().chunks(size) {
            let mut rest = piece;
            loop {
                let count = match framing.next(rest)? {
                    Part::Data(count) => {
                        put(&mut read.data, &rest[..count]);
                        count
                    }
                    Part::Framing(count) => count,
                    Part::Trailer(count) => {
                        put(&mut read.trailer, &rest[..count]);
                        count
                    }
                    Part::End(count) => {
                        read.length += count;
                        assert_eq!(framing.next(b"more"), Ok(Part::End(0)), "it stays over");
                        return Ok(read);
                    }
                    Part::More => break,
                };
                assert!(count > 0);
                read.length += count;
                rest = &rest[count..];
            }
            assert!(rest.is_empty());
        }
        panic!("{framing:?} wants more");
    }

    /// The body's length, or `None` when it is broken.
    fn chunked(input: &str, size: usize) -> Option<usize> {
        read(Framing::CHUNKED, input, size).ok().map(|read| read.length)
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
                assert_eq!(chunked(&input, size), Some(body.len()), "{body:?} by {size}");
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
            "5 \r\nhello",
            "5 ;x\r\nhello",
            "5\t;x\r\nhello",
            "0\r\n\n",
            "0\r\nT: v\n\n",
            "5;\u{1}\r\n",
            "0\r\n\rx",
            ";\r\n",
        ] {
            assert_eq!(chunked(body, 1), None, "{body:?}");
        }
    }

    #[test]
    fn trailers_are_bounded_all_together() {
        let limit = usize::from(TRAILER_MAX);
        // Each line is far shorter than what all of them may be.
        let lines = |total: usize| {
            let (full, rest) = (total / 100, total % 100);
            let mut lines = format!("t:{}\r\n", "t".repeat(98)).repeat(full);
            lines.push_str(if rest > 0 { "t:" } else { "" });
            lines.push_str(&"t".repeat(rest.saturating_sub(2)));
            lines.push_str(if rest > 0 { "\r\n" } else { "" });
            format!("0\r\n{lines}\r\n")
        };
        let (taken, refused) = (lines(limit), lines(limit + 1));
        for size in [1, 7, taken.len()] {
            assert_eq!(chunked(&taken, size), Some(taken.len()));
            assert_eq!(chunked(&refused, size), None);
        }
    }

    #[test]
    fn extensions_are_bounded() {
        // The semicolon counts.
        let extended = |length: u16| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(length.into()));
        let (taken, refused) = (extended(EXTENSION_MAX - 1), extended(EXTENSION_MAX));
        for size in [1, 7, taken.len()] {
            assert_eq!(chunked(&taken, size), Some(taken.len()));
            assert_eq!(chunked(&refused, size), None);
        }
        // Of one chunk, not of all.
        let two = format!("1;{0}\r\nx\r\n1;{0}\r\nx\r\n0\r\n\r\n", "e".repeat(1000));
        assert_eq!(chunked(&two, 1), Some(two.len()));
    }

    #[test]
    fn a_length_is_counted_down() {
        let mut framing = Framing::Length(5);
        assert_eq!(framing.next(b""), Ok(Part::More));
        assert_eq!((framing.next(b"abc"), framing), (Ok(Part::Data(3)), Framing::Length(2)));
        assert_eq!((framing.next(b"abc"), framing), (Ok(Part::Data(2)), Framing::Length(0)));
        assert_eq!(framing.next(b"c"), Ok(Part::End(0)));
        assert_eq!(framing.next(b""), Ok(Part::End(0)));
        let mut huge = Framing::Length(u64::MAX);
        assert_eq!((huge.next(b"abc"), huge), (Ok(Part::Data(3)), Framing::Length(u64::MAX - 3)));
    }

    #[test]
    fn what_ends_with_the_connection_has_no_end_of_its_own() {
        let mut framing = Framing::UntilEnd;
        assert_eq!(
            (framing.next(b"0\r\n\r\n"), framing.next(b"")),
            (Ok(Part::Data(5)), Ok(Part::More))
        );
        assert_eq!(framing, Framing::UntilEnd);
    }

    #[test]
    fn payload_and_trailers_are_told_from_the_coding() {
        let body = "5;x\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\nC:\r\n\r\nGET";
        let expected = Read {
            data: "hello world".to_owned(),
            trailer: "A: b\r\nC:\r\n".to_owned(),
            length: body.len() - 3,
        };
        for size in 1..=body.len() {
            assert_eq!(read(Framing::CHUNKED, body, size).as_ref(), Ok(&expected), "by {size}");
        }
        let (mut framing, mut parts, mut rest) = (Framing::CHUNKED, Vec::new(), body.as_bytes());
        while !rest.starts_with(b"GET") {
            parts.push(framing.next(rest).expect("sound"));
            let (Part::Data(count)
            | Part::Framing(count)
            | Part::Trailer(count)
            | Part::End(count)) = parts[parts.len() - 1]
            else {
                panic!("{parts:?}");
            };
            rest = &rest[count..];
        }
        assert_eq!(
            parts,
            [
                Part::Framing(5),
                Part::Data(5),
                Part::Framing(5),
                Part::Data(6),
                Part::Framing(5),
                Part::Trailer(10),
                Part::End(2)
            ]
        );
    }

    /// RFC 9110 §6.5.1.
    #[test]
    fn a_trailer_that_measures_or_routes_is_refused() {
        let tried = |line: &str| read(Framing::CHUNKED, &format!("0\r\nA: b\r\n{line}\r\n\r\n"), 1);
        for name in FORBIDDEN {
            for name in [name.to_owned(), name.to_uppercase()] {
                assert_eq!(tried(&format!("{name}: 1")), Err(Refusal::TrailerField), "{name}");
                for other in
                    [&name[1..], &name[..name.len() - 1], &format!("{name}s"), &format!("x{name}")]
                {
                    assert!(tried(&format!("{other}: 1")).is_ok(), "{other}");
                }
            }
        }
        let long = "x".repeat(256) + "host";
        for (line, refusal) in [
            (" folded", Refusal::Fold),
            ("\tfolded", Refusal::Fold),
            ("a : b", Refusal::SpaceBeforeColon),
            ("a", Refusal::FieldName),
            (": b", Refusal::FieldName),
            ("a\u{e9}: b", Refusal::FieldName),
            ("a: \0", Refusal::Control),
            ("a: b\nc: d", Refusal::BareLf),
            ("a: b\rc: d", Refusal::BareCr),
        ] {
            assert_eq!(tried(line), Err(refusal), "{line:?}");
        }
        assert!(tried(&format!("{long}: 1")).is_ok());
    }

    #[test]
    fn every_place_is_written_as_it_is_read() {
        let body = "5;x\r\nhello\r\n0\r\nHos: b\r\n\r\n";
        let mut framing = Framing::CHUNKED;
        let mut tags = std::collections::BTreeSet::new();
        let mut check = |framing: &Framing| {
            let mut bytes = Vec::new();
            framing.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(
                (Framing::decode(&mut reader).as_ref(), reader.end()),
                (Some(framing), Some(()))
            );
            tags.insert(bytes[0]);
        };
        for byte in body.as_bytes() {
            check(&framing);
            framing.next(core::slice::from_ref(byte)).expect("sound");
        }
        check(&Framing::UntilEnd);
        check(&Framing::Length(7));
        assert!(tags.iter().copied().eq(2..=13), "{tags:?}");
        for wrong in [[0, 0, 0], [1, 0, 0], [3, 0, 16], [6, 0, 0], [9, 0, 2], [14, 0, 0]] {
            assert_eq!(Framing::decode(&mut Reader::new(&wrong)), None, "{wrong:?}");
        }
    }

    /// What is sound before a mistake is told, and the mistake for ever after.
    #[test]
    fn a_mistake_is_found_where_it_stands() {
        let mut framing = Framing::CHUNKED;
        assert_eq!(framing.next(b"5\r\nhellox"), Ok(Part::Framing(3)));
        assert_eq!(framing.next(b"hellox"), Ok(Part::Data(5)));
        assert_eq!(framing.next(b"x"), Err(Refusal::ChunkEnd));
        assert_eq!(framing.next(b"\r\n"), Ok(Part::Framing(2)), "nothing was read");
    }
}
