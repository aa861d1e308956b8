//! The observer's view of a `files` connection: which reply belongs to which request, and what its
//! body has to be.
//!
//! Requests are read from the client's input, replies from the output, both in order. A body is
//! held against every version of its file that any host has ever had; each byte leaves fewer of
//! them, and none left is a wrong byte. Where a request or a reply is beyond this reader (chunked
//! bodies, percent-encoded paths), it stops judging rather than guess.

use super::content::wrong;
use super::sight::File;
use super::stream::Stream;

/// Heads longer than this are not waited for.
const HEAD_MAX: usize = 32 * 1024;

/// What answers a request that has begun and does not end.
const TOO_LATE: u16 = 408;

/// One request.
#[derive(Debug)]
struct Request {
    /// The input offset behind its head.
    end: u64,
    /// Whether its reply has no body.
    head_only: bool,
    /// Its path; `None` where it is not a plain one.
    path: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Http {
    requests: Vec<Request>,
    /// The input offset where the next request begins.
    requests_at: u64,
    /// A request has begun and not ended: that may take too long, and is answered as it is.
    begun: bool,
    /// The rest of the input is not understood.
    requests_blind: bool,
    /// Where each reply begins in the output.
    starts: Vec<u64>,
    /// The output offset that has been read so far.
    replies_at: u64,
    /// Where the reply begins whose interim reply was read.
    interim: Option<u64>,
    body: Option<Body>,
    /// The rest of the output is not understood.
    replies_blind: bool,
}

/// A reply's body, under way.
#[derive(Debug)]
struct Body {
    rest: u64,
    /// The offset in the file of its next byte.
    at: usize,
    /// Which versions it can still be: indexes of the files. `None`: not judged.
    candidates: Option<Vec<usize>>,
}

/// What a head leads to.
enum Step {
    Wait,
    Blind,
    Wrong(String),
    Went,
}

impl Http {
    /// Reads on in both directions.
    pub(super) fn judge(
        &mut self,
        output: &Stream,
        input: &Stream,
        files: &[File],
    ) -> Result<(), String> {
        self.read_requests(input);
        while !self.replies_blind && self.replies_at < output.next() {
            let step = match self.body.take() {
                Some(body) => self.read_body(body, output, files),
                None => self.read_reply(output, files),
            };
            match step {
                Step::Went => {}
                Step::Wait => break,
                Step::Blind => self.replies_blind = true,
                Step::Wrong(why) => {
                    self.replies_blind = true;
                    return Err(why);
                }
            }
        }
        Ok(())
    }

    /// Reads the requests that have come.
    pub(super) fn read_requests(&mut self, input: &Stream) {
        self.begun = false;
        while !self.requests_blind && self.requests_at < input.next() {
            let Some(bytes) = gather(input, self.requests_at) else {
                self.requests_blind = true;
                return;
            };
            let mut headers = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut headers);
            match request.parse(&bytes) {
                Ok(httparse::Status::Complete(length)) => {
                    let end = self.requests_at + length as u64;
                    let body = body_of_request(request.headers);
                    self.requests.push(Request {
                        end,
                        head_only: request.method == Some("HEAD"),
                        path: request.path.and_then(plain_path),
                    });
                    self.requests_blind = body.is_none();
                    self.requests_at = end + body.unwrap_or(0);
                }
                Ok(httparse::Status::Partial) => {
                    self.begun = true;
                    return;
                }
                Err(_) => self.requests_blind = true,
            }
        }
    }

    /// The index of the reply that the output byte at `offset` belongs to, and the end of its
    /// request's head. `None` where that is not known.
    pub(super) fn reply_at(&self, offset: u64) -> Option<(u64, u64)> {
        let index = if offset >= self.replies_at {
            // Of the reply under way, or of the one whose head is not whole yet.
            if self.replies_blind {
                return None;
            }
            self.starts.len() - usize::from(self.body.is_some())
        } else {
            self.starts.partition_point(|start| *start <= offset).checked_sub(1)?
        };
        Some((index as u64, self.requests.get(index)?.end))
    }

    /// How many requests end within the first `consumed` bytes of input.
    pub(super) fn requests_within(&self, consumed: u64) -> u64 {
        self.requests.partition_point(|request| request.end <= consumed) as u64
    }

    fn read_reply(&mut self, output: &Stream, files: &[File]) -> Step {
        let Some(bytes) = gather(output, self.replies_at) else { return Step::Blind };
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut reply = httparse::Response::new(&mut headers);
        let length = match reply.parse(&bytes) {
            Ok(httparse::Status::Complete(length)) => length as u64,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Step::Wait,
            Ok(httparse::Status::Partial) => return Step::Wrong("an endless head".to_owned()),
            Err(error) => return Step::Wrong(format!("no HTTP reply: {error}")),
        };
        let start = self.interim.take().unwrap_or(self.replies_at);
        self.replies_at += length;
        if reply.code == Some(100) {
            self.interim = Some(start);
            return Step::Went;
        }
        let Some(request) = self.requests.get(self.starts.len()) else {
            // A request that cannot be read is refused without having been one.
            let begun = self.begun && reply.code == Some(TOO_LATE);
            return match self.requests_blind || begun {
                true => Step::Blind,
                false => Step::Wrong("a reply to no request".to_owned()),
            };
        };
        self.starts.push(start);
        match body_of_reply(request, &reply, files) {
            Ok(body) => {
                self.body = body;
                Step::Went
            }
            Err(step) => step,
        }
    }

    fn read_body(&mut self, mut body: Body, output: &Stream, files: &[File]) -> Step {
        let until = output.next().min(self.replies_at + body.rest);
        for offset in self.replies_at..until {
            let Some(found) = output.byte(offset) else { return Step::Blind };
            if let Some(candidates) = &mut body.candidates {
                let first = candidates.first().and_then(|index| byte_of(files, *index, body.at));
                candidates.retain(|index| byte_of(files, *index, body.at) == Some(found));
                if candidates.is_empty() {
                    return Step::Wrong(wrong(offset, first.unwrap_or(0), found));
                }
            }
            body.at += 1;
        }
        body.rest -= until - self.replies_at;
        self.replies_at = until;
        if body.rest > 0 {
            self.body = Some(body);
        }
        Step::Went
    }
}

fn byte_of(files: &[File], index: usize, at: usize) -> Option<u8> {
    files.get(index)?.content.get(at).copied()
}

/// The bytes of `stream` from `offset` on, as far as a head can reach. `None`: not kept any more.
fn gather(stream: &Stream, offset: u64) -> Option<Vec<u8>> {
    let end = stream.next().min(offset + HEAD_MAX as u64);
    (offset..end).map(|at| stream.byte(at)).collect()
}

fn header<'a>(headers: &'a [httparse::Header<'_>], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    str::from_utf8(header.value).ok().map(str::trim)
}

/// The length of a request's body; `None`: not understood.
fn body_of_request(headers: &[httparse::Header<'_>]) -> Option<u64> {
    if header(headers, "transfer-encoding").is_some() {
        return None;
    }
    header(headers, "content-length").map_or(Some(0), |length| length.parse().ok())
}

fn plain_path(target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    (path.starts_with('/') && !path.contains('%')).then(|| path.to_owned())
}

/// The body that a reply's head promises.
fn body_of_reply(
    request: &Request,
    reply: &httparse::Response<'_, '_>,
    files: &[File],
) -> Result<Option<Body>, Step> {
    let status = reply.code.unwrap_or_default();
    if request.head_only || status == 304 {
        return Ok(None);
    }
    let length = header(reply.headers, "content-length").and_then(|text| text.parse().ok());
    let Some(rest) = length else { return Err(Step::Blind) };
    let (at, whole) = match status {
        200 => (0, rest),
        206 => header(reply.headers, "content-range").and_then(range_of).ok_or(Step::Blind)?,
        _ => return Ok((rest > 0).then_some(Body { rest, at: 0, candidates: None })),
    };
    let versions = request.path.as_ref().map(|path| versions(files, path)).unwrap_or_default();
    let fitting: Vec<usize> =
        versions.iter().copied().filter(|i| files[*i].content.len() as u64 == whole).collect();
    if fitting.is_empty() && !versions.is_empty() {
        return Err(Step::Wrong(format!("a body of {whole} bytes, and no version is that long")));
    }
    let candidates = (!fitting.is_empty()).then_some(fitting);
    Ok((rest > 0).then_some(Body { rest, at: at as usize, candidates }))
}

fn versions(files: &[File], path: &str) -> Vec<usize> {
    let named = files.iter().enumerate().filter(|(_, file)| file.path == path);
    named.map(|(index, _)| index).collect()
}

/// First byte and whole length of `bytes 5-9/10`.
fn range_of(text: &str) -> Option<(u64, u64)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, whole.parse().ok()?))
}
