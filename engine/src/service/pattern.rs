//! The chargen stream, RFC 864, as a function of the offset.
//!
//! Line *n* is 72 of the 95 printable characters of ASCII, beginning with character *n* mod 95 and
//! going round, then CR LF. After 95 lines everything repeats, so one period is kept as a table and
//! any piece of the endless stream is a few copies out of it:
//!
//! ```text
//!  !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg
//! !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh
//! "#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefghi
//! ```

/// Printable characters of ASCII, from space to tilde.
const PRINTABLE: usize = 95;
/// Characters of a line before its CR LF.
const WIDTH: usize = 72;
/// Bytes after which the stream repeats.
const PERIOD: usize = PRINTABLE * (WIDTH + 2);

static TABLE: [u8; PERIOD] = table();

const fn table() -> [u8; PERIOD] {
    let mut table = [0; PERIOD];
    let mut at = 0;
    while at < PERIOD {
        let (line, column) = (at / (WIDTH + 2), at % (WIDTH + 2));
        table[at] = match column {
            WIDTH => b'\r',
            c if c > WIDTH => b'\n',
            _ => b' ' + ((line + column) % PRINTABLE) as u8,
        };
        at += 1;
    }
    table
}

/// Fills `into` with the stream's bytes from `offset` on.
pub fn fill(offset: u64, into: &mut [u8]) {
    let mut from = (offset % PERIOD as u64) as usize;
    let mut rest = into;
    while !rest.is_empty() {
        let count = rest.len().min(PERIOD - from);
        let (now, later) = rest.split_at_mut(count);
        now.copy_from_slice(&TABLE[from..from + count]);
        (from, rest) = (0, later);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        fill(offset, &mut bytes);
        bytes
    }

    #[test]
    fn lines_rotate_through_the_printable_characters() {
        let bytes = at(0, PERIOD + 74);
        let lines: Vec<_> = bytes.chunks(74).collect();
        assert!(lines[0].starts_with(b" !\"#$%") && lines[0].ends_with(b"defg\r\n"));
        assert!(lines[1].starts_with(b"!\"#$%&") && lines[1].ends_with(b"efgh\r\n"));
        assert!(lines[94].starts_with(b"~ !\"#$") && lines[94].ends_with(b"cdef\r\n"));
        assert_eq!(lines[95], lines[0]);
    }

    #[test]
    fn any_piece_equals_the_same_piece_of_the_whole() {
        let whole = at(0, 3 * PERIOD);
        for (from, count) in [(0, 1), (73, 2), (PERIOD - 1, 3), (5000, 9000), (PERIOD, PERIOD)] {
            assert_eq!(at(from as u64, count), whole[from..from + count], "{from}+{count}");
        }
        let far = (1u64 << 62) / PERIOD as u64 * PERIOD as u64;
        assert_eq!(at(far, 300), whole[..300]);
    }
}
