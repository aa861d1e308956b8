//! What the application on a client does: what it says, what it must hear, and when it is content.
//!
//! Every byte is a function of the connection and the offset, in both directions. So one wrong,
//! lost or repeated byte is seen the moment it is delivered, whatever TCP lies below.

use std::sync::Arc;

use super::content::{self, Content};
use super::http::{Asker, Desk};
use super::plan::{ClientPlan, Job, Request};

/// The application's side of one connection. TCP below it is another's.
#[derive(Debug)]
pub(super) struct Script {
    id: u16,
    job: Job,
    content: Arc<Content>,
    /// Requests as they are sent.
    asked: Vec<u8>,
    /// Fetch: the answer at hand.
    answer: Answer,
    /// Fetch: answers that are complete.
    answered: usize,
    /// Talk: messages said, and when the next is due.
    said: u32,
    next_say: u64,
    received: u64,
    peer_finished: bool,
    read: Reader,
    /// Speaks for [`Job::Http`].
    asker: Option<Asker>,
}

/// How fast the application takes what arrived.
#[derive(Debug)]
struct Reader {
    /// Bytes per millisecond; 0 is at once.
    rate: u64,
    taken: u64,
    /// Since when `taken` has been counted at that rate.
    since: u64,
}

/// An HTTP answer that is arriving.
#[derive(Debug)]
enum Answer {
    Head(Vec<u8>),
    Body { at: u64, end: u64 },
}

/// The longest head that a client takes.
const HEAD_MAX: usize = 4096;
/// How often a slow reader reads.
const READ_EVERY: u64 = 3_000_000;

impl Script {
    pub(super) fn new(now: u64, plan: &ClientPlan, content: &Arc<Content>, desk: &Desk) -> Self {
        let asker = match &plan.job {
            Job::Http { asks, pipelined, half_close, .. } => {
                Some(Asker::new(plan.id, (asks, *pipelined, *half_close), desk.clone()))
            }
            _ => None,
        };
        let mut script = Self {
            id: plan.id,
            job: task(&plan.job),
            content: Arc::clone(content),
            asked: Vec::new(),
            answer: Answer::Head(Vec::new()),
            answered: 0,
            said: 0,
            next_say: now,
            received: 0,
            peer_finished: false,
            read: Reader { rate: plan.reads, taken: 0, since: now },
            asker,
        };
        script.ask();
        script.tick(now);
        script
    }

    /// How much has been said so far.
    pub(super) fn output_end(&self) -> u64 {
        match self.job {
            Job::Echo { bytes, .. } | Job::Upload { bytes } => bytes,
            Job::Abort { bytes } => bytes.saturating_mul(2) + 1000,
            Job::Chargen { .. } => 0,
            Job::Fetch { .. } | Job::Burst { .. } => self.asked.len() as u64,
            Job::Dawdle { .. } => self.said.into(),
            Job::Http { .. } => self.asker.as_ref().map_or(0, Asker::output_end),
            Job::Talk { bytes, .. } => u64::from(self.said) * bytes,
        }
    }

    /// Nothing more will be said.
    pub(super) fn finished(&self) -> bool {
        match &self.job {
            Job::Echo { bytes, early } => *early || self.received >= *bytes,
            Job::Upload { .. } => true,
            Job::Abort { .. } | Job::Chargen { .. } => false,
            Job::Fetch { requests, half_close, pipelined } => {
                let all_asked = *pipelined || self.answered + 1 >= requests.len();
                (*half_close && all_asked) || self.peer_finished
            }
            Job::Burst { .. } | Job::Dawdle { .. } => self.peer_finished,
            Job::Http { .. } => {
                self.asker.as_ref().is_none_or(|asker| asker.finished(self.peer_finished))
            }
            Job::Talk { messages, .. } => {
                self.said == *messages && self.received == self.output_end()
            }
        }
    }

    /// What it says: the bytes from `offset` on.
    pub(super) fn speak(&self, offset: u64, into: &mut [u8]) {
        if let Some(asker) = &self.asker {
            return asker.speak(offset, into);
        }
        for (byte, at) in into.iter_mut().zip(offset..) {
            *byte = match self.job {
                Job::Fetch { .. } => self.asked.get(at as usize).copied().unwrap_or(0),
                Job::Echo { .. }
                | Job::Upload { .. }
                | Job::Chargen { .. }
                | Job::Talk { .. }
                | Job::Burst { .. }
                | Job::Http { .. }
                | Job::Abort { .. } => content::said(self.id, at),
                Job::Dawdle { .. } => content::endless_request(at),
            };
        }
    }

    /// What it hears, in order. The error is for the timeline.
    pub(super) fn hear(&mut self, now: u64, bytes: &[u8]) -> Result<(), String> {
        let content = Arc::clone(&self.content);
        for &byte in bytes {
            self.check(&content, byte)?;
            self.received += 1;
        }
        self.tick(now);
        Ok(())
    }

    fn check(&mut self, content: &Content, byte: u8) -> Result<(), String> {
        if let Some(asker) = &mut self.asker {
            return asker.hear(byte);
        }
        let at = self.received;
        let expected = match self.job {
            Job::Echo { .. } | Job::Talk { .. } | Job::Abort { .. } if at >= self.output_end() => {
                return Err(format!("byte {at} came back and was never sent"));
            }
            Job::Echo { .. } | Job::Talk { .. } | Job::Abort { .. } => content::said(self.id, at),
            Job::Upload { .. } => return Err(format!("discard says {byte:#04x}")),
            Job::Chargen { .. } => content::chargen(at),
            Job::Fetch { .. } | Job::Burst { .. } | Job::Http { .. } => {
                return self.check_answer(content, byte);
            }
            Job::Dawdle { .. } => content::TOO_LATE.get(at as usize).copied().unwrap_or(byte),
        };
        if byte == expected {
            Ok(())
        } else {
            Err(format!("byte {at} is {byte:#04x}, not {expected:#04x}"))
        }
    }

    fn check_answer(&mut self, content: &Content, byte: u8) -> Result<(), String> {
        let Job::Fetch { requests, .. } = &self.job else { return Ok(()) };
        let at = self.received;
        let Some(request) = requests.get(self.answered) else {
            return Err(format!("byte {at} follows the last answer"));
        };
        match &mut self.answer {
            Answer::Head(head) => {
                head.push(byte);
                if head.len() > HEAD_MAX {
                    return Err(format!("no end of head by byte {at}"));
                }
                if head.ends_with(b"\r\n\r\n") {
                    let (from, to) = content.extent(request);
                    check_head(head, content, request)?;
                    self.answer = Answer::Body { at: from, end: to };
                    self.close_answer();
                }
            }
            Answer::Body { at: offset, .. } => {
                let expected = content.byte(request.file, *offset);
                if byte != expected {
                    return Err(format!(
                        "byte {at} of the stream, {offset} of file {}, is {byte:#04x}, not \
                         {expected:#04x}",
                        request.file
                    ));
                }
                *offset += 1;
                self.close_answer();
            }
        }
        Ok(())
    }

    /// The answer at hand may be complete.
    fn close_answer(&mut self) {
        if matches!(self.answer, Answer::Body { at, end } if at == end) {
            self.answer = Answer::Head(Vec::new());
            self.answered += 1;
            self.ask();
        }
    }

    /// Writes the requests that are due.
    fn ask(&mut self) {
        let Job::Fetch { requests, pipelined, .. } = &self.job else { return };
        let due = if *pipelined { 0..requests.len() } else { self.answered..self.answered + 1 };
        if *pipelined && !self.asked.is_empty() {
            return;
        }
        for index in due {
            let Some(request) = requests.get(index) else { return };
            let last = index + 1 == requests.len();
            self.asked.extend(content::request(request, last).into_bytes());
        }
    }

    /// The service has closed its side.
    pub(super) fn hear_end(&mut self, now: u64) -> Result<(), String> {
        self.peer_finished = true;
        self.tick(now);
        if let Some(asker) = &mut self.asker {
            return asker.hear_end();
        }
        let complete = match &self.job {
            Job::Echo { bytes, .. } => self.received == *bytes,
            Job::Upload { .. } => true,
            Job::Fetch { requests, .. } => self.answered == requests.len(),
            Job::Talk { .. } => self.finished(),
            Job::Dawdle { .. } => self.received > content::TOO_LATE.len() as u64,
            Job::Burst { .. } | Job::Chargen { .. } | Job::Abort { .. } | Job::Http { .. } => false,
        };
        let received = self.received;
        if complete { Ok(()) } else { Err(format!("the stream ends early, at {received}")) }
    }

    /// Whether the connection is to be reset now.
    pub(super) fn aborts(&self) -> bool {
        match self.job {
            Job::Chargen { bytes } | Job::Abort { bytes } => self.received >= bytes,
            Job::Echo { .. }
            | Job::Upload { .. }
            | Job::Fetch { .. }
            | Job::Burst { .. }
            | Job::Dawdle { .. }
            | Job::Http { .. }
            | Job::Talk { .. } => false,
        }
    }

    /// Everything was heard that had to be, the end too.
    pub(super) fn is_content(&self) -> bool {
        self.aborts() || (self.peer_finished && self.finished())
    }

    /// Time has passed: more is said, more is read.
    pub(super) fn tick(&mut self, now: u64) {
        if let Job::Talk { messages, bytes, pause_us } = self.job {
            if self.said == 0 {
                self.said = 1;
            } else if self.received == u64::from(self.said) * bytes && self.said < messages {
                if self.next_say == 0 {
                    self.next_say = now + pause_us * 1000;
                }
                if now >= self.next_say {
                    self.said += 1;
                    self.next_say = 0;
                }
            } else {
                self.next_say = 0;
            }
        }
        if let Job::Dawdle { pause_us } = self.job
            && !self.peer_finished
            && now >= self.next_say
        {
            self.said += 1;
            self.next_say = now + pause_us * 1000;
        }
        self.take(now);
    }

    fn take(&mut self, now: u64) {
        let Reader { rate, taken, since } = &mut self.read;
        if *rate == 0 {
            *taken = self.received;
        } else if now >= *since + READ_EVERY || *taken == self.received {
            let room = if *taken == self.received { 0 } else { (now - *since) * *rate / 1_000_000 };
            *taken = (*taken + room).min(self.received);
            *since = now;
        }
    }

    /// How much of what was heard the application has taken.
    pub(super) const fn taken(&self) -> u64 {
        self.read.taken
    }

    /// How much was heard.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// When [`Script::tick`] has something to do.
    pub(super) fn deadline(&self) -> u64 {
        let say = match self.job {
            Job::Talk { messages, bytes, .. }
                if self.said < messages && self.received == u64::from(self.said) * bytes =>
            {
                self.next_say
            }
            Job::Dawdle { .. } if !self.peer_finished => self.next_say,
            _ => u64::MAX,
        };
        let read =
            if self.read.taken < self.received { self.read.since + READ_EVERY } else { u64::MAX };
        say.min(read)
    }
}

/// A burst is a fetch of the same thing again and again.
fn task(job: &Job) -> Job {
    let Job::Burst { requests } = *job else { return job.clone() };
    let request = Request { file: 0, range: None };
    Job::Fetch { requests: vec![request; requests as usize], pipelined: true, half_close: false }
}

fn check_head(head: &[u8], content: &Content, request: &Request) -> Result<(), String> {
    let text = || String::from_utf8_lossy(head).into_owned();
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    if !matches!(answer.parse(head), Ok(httparse::Status::Complete(_))) {
        return Err(format!("not an HTTP head: {}", text()));
    }
    let wanted = if request.range.is_some() { 206 } else { 200 };
    let (from, to) = content.extent(request);
    let length = answer
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| core::str::from_utf8(header.value).ok()?.parse::<u64>().ok());
    if answer.code != Some(wanted) || length != Some(to - from) {
        return Err(format!("wanted {wanted} with {} bytes: {}", to - from, text()));
    }
    Ok(())
}
