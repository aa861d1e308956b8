//! A head with some fields left out and some added.

/// Appends `head` to `out`: without the field lines of which `drop` says so (it is told the name and the
/// value, white space around that removed), and with `add` as the last ones. Everything else goes over byte
/// for byte.
pub fn rewrite(
    head: &[u8],
    mut drop: impl FnMut(&str, &[u8]) -> bool,
    add: &[(&str, &[u8])],
    out: &mut Vec<u8>,
) {
    for (number, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match split(line) {
            _ if number == 0 => {}
            Some((name, value)) if drop(name, value.trim_ascii()) => continue,
            Some(_) => {}
            None => put(add, out),
        }
        out.extend_from_slice(line);
    }
}

fn put(add: &[(&str, &[u8])], out: &mut Vec<u8>) {
    for (name, value) in add {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// A field line's name and value; the empty line has none.
fn split(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = core::str::from_utf8(&line[..colon]).ok()?;
    Some((name, &line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Fields, RequestHead, is_hop_by_hop};

    fn rewritten(
        head: &str,
        drop: impl FnMut(&str, &[u8]) -> bool,
        add: &[(&str, &[u8])],
    ) -> String {
        let mut out = b"before".to_vec();
        rewrite(head.as_bytes(), drop, add, &mut out);
        let out = String::from_utf8(out).expect("text");
        out.strip_prefix("before").expect("appended").to_owned()
    }

    const HEAD: &str = "GET http://h/a:b HTTP/1.1\r\nHost:h\r\nx:  1 \r\nX: 2\r\nY:\r\n\r\n";

    #[test]
    fn what_is_not_asked_for_stays_as_it_is() {
        assert_eq!(rewritten(HEAD, |_, _| false, &[]), HEAD);
        assert_eq!(rewritten("", |_, _| true, &[("A", b"b")]), "");
    }

    #[test]
    fn fields_are_left_out_and_added() {
        let mut seen = Vec::new();
        let drop = |name: &str, value: &[u8]| {
            seen.push(format!("{name}={}", String::from_utf8_lossy(value)));
            name.eq_ignore_ascii_case("x")
        };
        assert_eq!(
            rewritten(HEAD, drop, &[("Via", b"1.1 pair"), ("Z", b"")]),
            "GET http://h/a:b HTTP/1.1\r\nHost:h\r\nY:\r\nVia: 1.1 pair\r\nZ: \r\n\r\n"
        );
        assert_eq!(seen, ["Host=h", "x=1", "X=2", "Y="]);
    }

    #[test]
    fn what_is_of_one_hop_is_known() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: X, close,content-length , host\r\nTE: trailers\r\n\
                    x: 1\r\nKeep-Alive: 5\r\nProxy-Connection: y\r\nUpgrade: z\r\nTransfer-Encoding: chunked\r\n\
                    Trailer: t\r\n\r\n";
        let fields: Fields<'_> = RequestHead::parse(head.as_bytes()).expect("sound").fields;
        let left = rewritten(head, |name, _| is_hop_by_hop(&fields, name), &[]);
        assert_eq!(
            left,
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: t\r\n\r\n"
        );
    }
}
