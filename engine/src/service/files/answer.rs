//! The reply to a request, as a pure function of the request and its pin.
//!
//! Nothing else may enter here: no clock, no store, no state of the connection. Both nodes compute
//! this, and what they compute has to be the same byte for byte (I2).

use super::condition::{Part, Validators, Verdict, date};
use super::request::Asked;
use super::status::Status;
use super::target::Target;
use crate::http::Persist;
use crate::service::pin::{Edition, Outcome, Pin};
use crate::service::store::Facts;
use core::fmt::Write;
use core::ops::Range;

/// A reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// Interim reply, head, and body where the body is not a file's.
    pub(crate) bytes: Vec<u8>,
    /// The part of the file that follows; not empty.
    pub(crate) body: Option<(Facts, Range<u64>)>,
}

/// Answers. `None` when the pin is another request's: the nodes have diverged.
pub(crate) fn answer(asked: &Asked<'_>, pin: &Pin) -> Option<Answer> {
    let mut head = Head::new(asked, pin);
    let body = match (&asked.want, pin.outcome) {
        (Err(status), Outcome::NotAsked) => head.refuse(*status),
        (Ok(target), Outcome::Found(facts)) => head.serve(target, &facts),
        (Ok(target), Outcome::Directory) if !target.directory => head.redirect(target),
        (Ok(_), Outcome::NotFound | Outcome::Directory) => head.refuse(Status::NotFound),
        (Ok(_), Outcome::Forbidden) => head.refuse(Status::Forbidden),
        (Ok(_), Outcome::NotAsked) | (Err(_), _) => return None,
    };
    Some(Answer { bytes: head.out.into_bytes(), body })
}

type Body = Option<(Facts, Range<u64>)>;

struct Head<'a> {
    asked: &'a Asked<'a>,
    wall: u64,
    edition: Edition,
    out: String,
}

impl<'a> Head<'a> {
    fn new(asked: &'a Asked<'a>, pin: &Pin) -> Self {
        let mut out = String::with_capacity(384);
        if asked.proceed {
            out.push_str("HTTP/1.1 100 Continue\r\n\r\n");
        }
        Self { asked, wall: pin.wall, edition: pin.edition, out }
    }

    fn field(&mut self, name: &str, value: impl core::fmt::Display) {
        self.out.push_str(name);
        // Writing to a string cannot fail.
        let _ = write!(self.out, ": {value}\r\n");
    }

    /// The same for what is text already, which most is.
    fn text(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\r\n"] {
            self.out.push_str(part);
        }
    }

    fn begin(&mut self, status: Status) {
        let _ = write!(self.out, "HTTP/1.1 {status}\r\n");
        self.field("Date", date(self.wall));
    }

    fn end(&mut self) {
        match self.asked.persist {
            Persist::Close => self.text("Connection", "close"),
            Persist::Keep => {}
            Persist::KeepAlive => self.text("Connection", "keep-alive"),
        }
        self.out.push_str("\r\n");
    }

    /// Ends the head with a line of text for a person as the body.
    fn end_with_text(&mut self, status: Status) -> Body {
        let text = format!("{status}\n");
        self.text("Content-Type", "text/plain; charset=utf-8");
        self.field("Content-Length", text.len());
        self.end();
        if !self.asked.head_only {
            self.out.push_str(&text);
        }
        None
    }

    fn refuse(&mut self, status: Status) -> Body {
        self.begin(status);
        if status == Status::MethodNotAllowed {
            self.text("Allow", "GET, HEAD");
        }
        self.end_with_text(status)
    }

    fn redirect(&mut self, target: &Target) -> Body {
        self.begin(Status::MovedPermanently);
        self.text("Location", &target.with_slash());
        self.end_with_text(Status::MovedPermanently)
    }

    fn serve(&mut self, target: &Target, facts: &Facts) -> Body {
        let validators = Validators::of(facts, self.wall, self.edition);
        let fields = &self.asked.fields;
        match validators.judge(fields) {
            Verdict::Failed => return self.refuse(Status::PreconditionFailed),
            Verdict::NotModified => return self.not_modified(&validators),
            Verdict::Proceed => {}
        }
        // Range is defined for GET alone (RFC 9110 §14.2).
        let part = match self.asked.head_only {
            true => Part::Whole,
            false => validators.part(fields, facts.length),
        };
        match part {
            Part::Whole => {
                self.file(Status::Ok, target, &validators, &(0..facts.length));
                self.end();
                self.body(facts, 0..facts.length)
            }
            Part::Range(range) => {
                self.file(Status::PartialContent, target, &validators, &range);
                let (first, last, length) = (range.start, range.end - 1, facts.length);
                self.field("Content-Range", format_args!("bytes {first}-{last}/{length}"));
                self.end();
                self.body(facts, range)
            }
            Part::Unsatisfiable => {
                self.begin(Status::RangeNotSatisfiable);
                self.field("Content-Range", format_args!("bytes */{}", facts.length));
                self.end_with_text(Status::RangeNotSatisfiable)
            }
        }
    }

    /// What a 200 would have said of validators, RFC 9110 §15.4.5.
    fn not_modified(&mut self, validators: &Validators) -> Body {
        self.begin(Status::NotModified);
        self.text("ETag", &validators.etag);
        self.field("Last-Modified", date(validators.modified));
        self.end();
        None
    }

    fn file(&mut self, status: Status, target: &Target, of: &Validators, range: &Range<u64>) {
        self.begin(status);
        self.text("Content-Type", content_type(&target.file()));
        self.field("Content-Length", range.end - range.start);
        self.text("ETag", &of.etag);
        self.field("Last-Modified", date(of.modified));
        self.text("Accept-Ranges", "bytes");
    }

    fn body(&self, facts: &Facts, range: Range<u64>) -> Body {
        (!self.asked.head_only && !range.is_empty()).then_some((*facts, range))
    }
}

/// The media type that goes with a file's extension.
fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is = |known: &&(&str, &str)| known.0.eq_ignore_ascii_case(extension);
    TYPES.iter().find(is).map_or("application/octet-stream", |known| known.1)
}

const TYPES: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/markdown; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("xml", "text/xml; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("wasm", "application/wasm"),
    ("pdf", "application/pdf"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tar", "application/x-tar"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("svg", "image/svg+xml"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("m3u8", "application/vnd.apple.mpegurl"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_the_last_extension() {
        assert_eq!(content_type("a/b.HTML"), "text/html; charset=utf-8");
        assert_eq!(content_type("a.tar.gz"), "application/gzip");
        assert_eq!(content_type("a.html/README"), "application/octet-stream");
    }
}
