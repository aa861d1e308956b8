//! From a request target to a path below the document root, RFC 9112 §3.2 and RFC 3986.
//!
//! The path is decoded once and then only ever taken apart, never decoded again. What could leave
//! the root, or be read differently by anyone else, is refused rather than repaired: `..` however
//! encoded, NUL, a backslash, an encoded slash, a stray `%`, bytes that are not UTF-8.

use super::status::Status;
use crate::service::output::PATH_LIMIT;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;

/// What a target names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// Normal components joined by single slashes; empty for the root itself.
    path: String,
    /// The target ended in a slash: it means a directory.
    pub(crate) directory: bool,
}

/// All that need not be encoded in a path segment (RFC 3986 §3.3: pchar) stays readable.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

impl Target {
    /// Reads an origin-form or absolute-form target. A query is ignored.
    pub(crate) fn parse(target: &str) -> Result<Self, Status> {
        let target = target.split('?').next().unwrap_or_default();
        let raw = if target.starts_with('/') { target } else { strip_authority(target)? };
        if raw.contains('#') {
            return Err(Status::BadRequest);
        }
        let mut path = String::with_capacity(raw.len());
        for segment in raw.split('/') {
            push_segment(&mut path, segment)?;
        }
        // Room for the index file's name.
        if path.len() > PATH_LIMIT - 64 {
            return Err(Status::UriTooLong);
        }
        // A final "." names the directory it stands in.
        let directory = raw.is_empty() || raw.ends_with('/') || raw.ends_with("/.");
        Ok(Self { path, directory })
    }

    /// The file to be looked up: for a directory, its index.
    pub(crate) fn file(&self) -> Cow<'_, str> {
        match (self.directory, self.path.is_empty()) {
            (false, _) => (&self.path).into(),
            (true, true) => "index.html".into(),
            (true, false) => format!("{}/index.html", self.path).into(),
        }
    }

    /// The target with the slash that it lacks, for a redirect. Built anew from the decoded
    /// components, so it can neither name another host nor break the head.
    pub(crate) fn with_slash(&self) -> String {
        format!("/{}/", utf8_percent_encode(&self.path, SEGMENT))
    }
}

/// Absolute-form: `http://authority/path`. The authority is not looked at, every name is served.
fn strip_authority(target: &str) -> Result<&str, Status> {
    let (scheme, rest) = target.split_once("://").ok_or(Status::BadRequest)?;
    let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if known && !authority.is_empty() { Ok(path) } else { Err(Status::BadRequest) }
}

/// Decodes one segment and appends it, leaving out empty ones and single dots.
fn push_segment(path: &mut String, segment: &str) -> Result<(), Status> {
    if !well_encoded(segment.as_bytes()) {
        return Err(Status::BadRequest);
    }
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| Status::BadRequest)?;
    match decoded.as_ref() {
        "" | "." => Ok(()),
        part if is_normal_part(part) => {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            Ok(())
        }
        _ => Err(Status::BadRequest),
    }
}

/// Is every `%` followed by two hexadecimal digits?
fn well_encoded(segment: &[u8]) -> bool {
    segment.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(at, _)| {
        segment.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

fn is_normal_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(['/', '\\', '\0'])
}

/// Is this a path as [`Target::file`] gives it?
pub(crate) fn is_normal(path: &str) -> bool {
    path.len() <= PATH_LIMIT && path.split('/').all(is_normal_part)
}

/// Does a component of this path (as `Target::file` gives it) begin with a dot? What does is kept
/// out of listings, and mostly out of the public: `.git`, `.htpasswd`, `.env`. `.well-known` at the
/// top is there for the public alone (RFC 8615), and is not hidden; what is below it may be.
pub fn is_hidden(path: &str) -> bool {
    let rest = match path.strip_prefix(".well-known") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    };
    rest.split('/').any(|part| part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(target: &str) -> Result<String, Status> {
        Target::parse(target).map(|target| target.file().into_owned())
    }

    #[test]
    fn targets_become_paths() {
        for (target, path) in [
            ("/", "index.html"),
            ("/a.txt", "a.txt"),
            ("/a/b/", "a/b/index.html"),
            ("/a//b/./c", "a/b/c"),
            ("//a", "a"),
            ("/a/.", "a/index.html"),
            ("/a%20b/%C3%A9?x=/../y", "a b/é"),
            ("/...", "..."),
            ("http://host/a", "a"),
            ("HTTPS://host:81?q", "index.html"),
        ] {
            assert_eq!(file(target), Ok(path.to_owned()), "{target}");
        }
    }

    #[test]
    fn nothing_leads_out_of_the_root() {
        for target in [
            "/..",
            "/../etc/passwd",
            "/a/../../b",
            "/%2e%2e/x",
            "/.%2E/x",
            "/%2e./x",
            "/a/..",
            "/a\\..\\b",
            "/a%5cb",
            "/a%2fb",
            "/..%2f..%2fx",
            "/%00",
            "/a%00.txt",
            "/%",
            "/%4",
            "/%zz",
            "/%c0%ae%c0%ae/x",
            "/%ff",
            "",
            "*",
            "a",
            "ftp://h/a",
            "http:///a",
            "host:80",
            "/a#b",
            "/%252e%252e/../x",
        ] {
            assert_eq!(file(target), Err(Status::BadRequest), "{target}");
        }
        assert_eq!(file("/%252e%252e/x"), Ok("%2e%2e/x".to_owned()), "decoded once");
        assert_eq!(file(&format!("/{}", "x".repeat(5000))), Err(Status::UriTooLong));
    }

    #[test]
    fn a_path_leaves_room_for_an_index() {
        let path = |length| "x".repeat(length);
        let longest = PATH_LIMIT - 64;
        assert_eq!(file(&format!("/{}", path(longest))), Ok(path(longest)));
        assert_eq!(file(&format!("/{}", path(longest + 1))), Err(Status::UriTooLong));
    }

    #[test]
    fn what_begins_with_a_dot_is_hidden_however_it_is_written() {
        for (target, hidden) in [
            ("/.htpasswd", true),
            ("/%2ehtpasswd", true),
            ("/%2E%67it/config", true),
            ("/a/.git/config", true),
            ("/.git", true),
            ("/.git/", true),
            ("/...", true),
            ("/.well-known/security.txt", false),
            ("/.well-known/", false),
            ("/%2Ewell-known/acme-challenge/x", false),
            ("/.well-known/.x", true),
            ("/.well-known-not/x", true),
            ("/a/.well-known/x", true),
            ("/a.b/c.d.", false),
            ("/./a", false),
            ("/", false),
        ] {
            assert_eq!(file(target).map(|file| is_hidden(&file)), Ok(hidden), "{target}");
        }
    }

    #[test]
    fn a_redirect_stays_on_this_host_and_in_its_line() {
        let slash = |target| Target::parse(target).map(|target| target.with_slash());
        assert_eq!(slash("//evil.example/x"), Ok("/evil.example/x/".to_owned()));
        assert_eq!(slash("/a%0d%0ab%20%25"), Ok("/a%0D%0Ab%20%25/".to_owned()));
    }
}
