//! Authorities and request targets, RFC 9112 §3.2 and RFC 3986 §3.2.
//!
//! Nothing is looked up and nothing is taken apart here: it is only said what looks like one. A target
//! that does not is read as a path by one server and as a host by another.

/// Is `target` of one of the forms that `method` has?
pub(super) fn is_target(method: &str, target: &str) -> bool {
    match (method, target) {
        ("CONNECT", _) => has_port(target) && is_authority(target.as_bytes()),
        ("OPTIONS", "*") => true,
        _ if target.starts_with('/') => true,
        _ => is_absolute(target),
    }
}

/// `scheme://authority`, and whatever follows.
fn is_absolute(target: &str) -> bool {
    let Some((scheme, rest)) = target.split_once("://") else { return false };
    let mut letters = scheme.bytes();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && user.bytes().all(|byte| is_name(byte) || byte == b':')
        && !host.is_empty()
        && is_authority(host.as_bytes())
}

/// Does a port, which is not empty, end it?
fn has_port(authority: &str) -> bool {
    let port = authority.rsplit_once(':').map(|(_, port)| port.as_bytes());
    port.is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit))
}

/// `host [ ":" port ]`, RFC 3986 §3.2; the host may be empty.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let port = match text.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            let (address, port) = (&literal[..end], &literal[end + 1..]);
            let sound = |byte: &u8| is_name(*byte) || *byte == b':';
            if address.is_empty() || !address.iter().all(sound) {
                return false;
            }
            port
        }
        None => &text[text.iter().take_while(|byte| is_name(**byte)).count()..],
    };
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// What a reg-name is made of.
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_a_host_and_perhaps_a_port() {
        for sound in ["", "h", "h:", "h:80", "[::1]", "[::1]:443", "0.0.0.0=5000", "a_b", "%41"] {
            assert!(is_authority(sound.as_bytes()), "{sound}");
        }
        for not in ["]", "[", "[]", "[::1", "[::1]x", "a:b", "a:1:2", "a/b", "u@h", "a b", "é"] {
            assert!(!is_authority(not.as_bytes()), "{not}");
        }
    }

    #[test]
    fn each_method_has_its_targets() {
        for (method, target, sound) in [
            ("GET", "/", true),
            ("GET", "//x", true),
            ("GET", "/a?b#c", true),
            ("GET", "http://h", true),
            ("GET", "http://h?q", true),
            ("GET", "https://u:p@[::1]:80/a", true),
            ("GET", "*", false),
            ("GET", "a", false),
            ("GET", "h:80", false),
            ("GET", "http:/a", false),
            ("GET", "http:///a", false),
            ("GET", "http://u@/a", false),
            ("GET", "://h/", false),
            ("GET", "1://h/", false),
            ("GET", "s://]ufd/:", false),
            ("OPTIONS", "*", true),
            ("OPTIONS", "/", true),
            ("OPTIONS", "**", false),
            ("CONNECT", "h:443", true),
            ("CONNECT", "[::1]:443", true),
            ("CONNECT", "h", false),
            ("CONNECT", "h:", false),
            ("CONNECT", "/", false),
            ("CONNECT", "http://h:1", false),
        ] {
            assert_eq!(is_target(method, target), sound, "{method} {target}");
        }
    }
}
