//! Finding where a head ends, RFC 9112 §2.
//!
//! The end is looked for byte by byte and only once, however slowly a peer sends: the position
//! reached is kept between calls.

use super::Refusal;

/// The longest head that is taken, its final empty line included.
pub const HEAD_MAX: usize = 16 << 10;

/// What [`scan`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// No end yet; go on from here when there are more bytes.
    More(usize),
    /// An empty line before a head, of so many bytes: to be ignored before a request (§2.2), and nothing
    /// that a reply begins with.
    Blank(usize),
    /// The head's length.
    Head(usize),
    /// This is not, or will not become, a head that is taken.
    Bad(Refusal),
}

/// What a line's end without a CR is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoneLf {
    Refused,
    EndsLine,
}

/// Looks for the end of the head that starts at `input[0]`, from `from` on.
///
/// A CR or LF without the other, and any control character but the tab, is refused on the spot: that is
/// what other protocols begin with.
#[must_use]
pub fn scan(input: &[u8], from: usize) -> Scan {
    scan_by(input, from, LoneLf::Refused)
}

/// The same, but a lone LF ends a line, so that everybody finds the same end; whether such a head is taken
/// is not decided here ([`has_lone_lf`]). `files` did so before log version 4.
pub(crate) fn scan_leniently(input: &[u8], from: usize) -> Scan {
    scan_by(input, from, LoneLf::EndsLine)
}

fn scan_by(input: &[u8], from: usize, lone: LoneLf) -> Scan {
    let mut at = from;
    while let Some(&byte) = input.get(at) {
        if at >= HEAD_MAX {
            return Scan::Bad(Refusal::HeadTooLong);
        }
        match byte {
            b'\n' if lone == LoneLf::Refused && !input[..at].ends_with(b"\r") => {
                return Scan::Bad(Refusal::BareLf);
            }
            b'\n' if ends_empty_line(&input[..at]) => return ended(input, at + 1),
            b'\r' => match input.get(at + 1) {
                Some(b'\n') => {}
                Some(_) => return Scan::Bad(Refusal::BareCr),
                None => return Scan::More(at),
            },
            b'\n' | b'\t' | b' '..=b'~' | 0x80.. => {}
            _ => return Scan::Bad(Refusal::Control),
        }
        at += 1;
    }
    Scan::More(at)
}

/// Does a line end with an LF alone? §2.2 lets a server take it for a line's end, and two servers
/// that differ in it see different requests in the same bytes (request smuggling): it is refused.
pub(crate) fn has_lone_lf(head: &[u8]) -> bool {
    // No head has a CR without its LF, so there is one LF for each, and every other one is alone. Two counts
    // are quicker than a look at each pair.
    let count = |wanted| head.iter().filter(|byte| **byte == wanted).count();
    count(b'\n') > count(b'\r')
}

/// Is there nothing between the LF before `line`'s end (or the beginning) and the end?
fn ends_empty_line(before: &[u8]) -> bool {
    let line = before.strip_suffix(b"\r").unwrap_or(before);
    line.is_empty() || line.ends_with(b"\n")
}

fn ended(input: &[u8], length: usize) -> Scan {
    match input[..length] {
        [b'\n'] | [b'\r', b'\n'] => Scan::Blank(length),
        _ => Scan::Head(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\r\nGET", 0), Scan::Head(24));
        assert_eq!(scan_leniently(b"GET / HTTP/1.0\n\nrest", 0), Scan::Head(16));
        assert_eq!(scan_leniently(b"GET / HTTP/1.0\n\r\nrest", 0), Scan::Head(17));
        assert_eq!(scan(b"\r\nGET", 0), Scan::Blank(2));
        assert_eq!(scan_leniently(b"\nGET", 0), Scan::Blank(1));
        assert_eq!(scan(b"GET / HTTP/1.1\r", 0), Scan::More(14));
        assert_eq!(scan(b"", 0), Scan::More(0));
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_byte() {
        assert_eq!(scan(&[0x16, 3, 1, 2, 0], 0), Scan::Bad(Refusal::Control));
        assert_eq!(scan(b"GET\rX", 0), Scan::Bad(Refusal::BareCr));
    }

    /// However much of it has come, and whatever follows.
    #[test]
    fn a_lone_line_feed_is_refused_where_it_stands() {
        for head in
            ["GET / HTTP/1.1\n", "\n", "GET / HTTP/1.1\r\n\n", "GET / HTTP/1.1\r\nA: b\nC: d"]
        {
            assert_eq!(scan(head.as_bytes(), 0), Scan::Bad(Refusal::BareLf), "{head:?}");
        }
    }

    #[test]
    fn a_line_feed_is_alone_without_a_carriage_return_right_before_it() {
        for (head, alone) in [
            ("GET / HTTP/1.1\r\nA: b\r\n\r\n", false),
            ("GET / HTTP/1.1\nA: b\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nA: b\n\r\n", true),
            ("GET / HTTP/1.1\r\nA: b\r\n\n", true),
            ("\n", true),
            ("\r\n", false),
            ("", false),
        ] {
            assert_eq!(has_lone_lf(head.as_bytes()), alone, "{head:?}");
        }
    }

    #[test]
    fn a_head_of_the_limit_is_taken_and_one_byte_more_is_not() {
        let mut head = vec![b'x'; HEAD_MAX - 2];
        head.extend_from_slice(b"\n\n");
        assert_eq!(scan_leniently(&head, 0), Scan::Head(HEAD_MAX));
        head.insert(0, b'x');
        assert_eq!(scan_leniently(&head, 0), Scan::Bad(Refusal::HeadTooLong));
        assert_eq!(scan_leniently(&head[..HEAD_MAX], 0), Scan::More(HEAD_MAX));
        let mut head = vec![b'x'; HEAD_MAX - 4];
        head.extend_from_slice(b"\r\n\r\n");
        assert_eq!(scan(&head, 0), Scan::Head(HEAD_MAX));
        head.insert(0, b'x');
        assert_eq!(scan(&head, 0), Scan::Bad(Refusal::HeadTooLong));
    }
}
