//! What becomes of whole streams, however they are cut.

mod cuts;
mod heads;
mod replies;
mod requests;

use super::{Asked, Framing, Part, Persist, Refusal, ReplyHead, RequestHead, Scan, scan};

/// Which way a stream goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Requests,
    /// Each reply is one to this.
    Replies(Asked),
}

/// One message, as far as it has come.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Message {
    head: Vec<u8>,
    body: Vec<u8>,
    trailer: Vec<u8>,
    /// Its last byte has been read.
    complete: bool,
}

/// What was learnt from a stream. It depends on the bytes alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Story {
    messages: Vec<Message>,
    /// Behind how many bytes the rest could not be understood any more, and why.
    refused: Option<(usize, Refusal)>,
    /// The last message was one behind which nothing of the kind comes.
    closed: bool,
}

/// Where the next byte stands.
#[derive(Clone, Copy)]
enum At {
    Head {
        scanned: usize,
    },
    Body(Framing, Persist),
    /// Behind the last message that is read.
    End,
}

/// Reads one stream in pieces, and keeps what a relay would keep: what it has not understood yet.
struct Stream {
    way: Way,
    at: At,
    unread: Vec<u8>,
    used: usize,
    story: Story,
}

impl Stream {
    fn new(way: Way) -> Self {
        let at = At::Head { scanned: 0 };
        Self { way, at, unread: Vec::new(), used: 0, story: Story::default() }
    }

    /// All of `pieces`, one by one.
    fn read<'a>(way: Way, pieces: impl IntoIterator<Item = &'a [u8]>) -> Story {
        let mut stream = Self::new(way);
        for piece in pieces {
            stream.unread.extend_from_slice(piece);
            while stream.step() {}
        }
        stream.story
    }

    /// One step; false if there is none without more bytes.
    fn step(&mut self) -> bool {
        match self.at {
            At::End => false,
            At::Head { scanned } => match scan(&self.unread, scanned) {
                Scan::More(scanned) => {
                    self.at = At::Head { scanned };
                    false
                }
                Scan::Blank(length) if matches!(self.way, Way::Requests) => {
                    self.take(length);
                    self.at = At::Head { scanned: 0 };
                    true
                }
                Scan::Blank(_) => self.refuse(Refusal::StatusLine),
                Scan::Head(length) => self.head(length),
                Scan::Bad(refusal) => self.refuse(refusal),
            },
            At::Body(mut framing, persist) => {
                let part = framing.next(&self.unread);
                self.at = At::Body(framing, persist);
                match part {
                    Ok(Part::More) => {
                        assert!(self.unread.is_empty(), "all of it has been read");
                        return false;
                    }
                    Ok(Part::Data(count)) => {
                        let data = self.take_some(count);
                        self.message().body.extend(data);
                    }
                    Ok(Part::Trailer(count)) => {
                        let trailer = self.take_some(count);
                        self.message().trailer.extend(trailer);
                    }
                    Ok(Part::Framing(count)) => drop(self.take_some(count)),
                    Ok(Part::End(count)) => {
                        self.take(count);
                        self.message().complete = true;
                        self.go_on(persist);
                    }
                    Err(refusal) => return self.refuse(refusal),
                }
                true
            }
        }
    }

    fn head(&mut self, length: usize) -> bool {
        let head = self.take(length);
        let read = match self.way {
            Way::Requests => RequestHead::parse(&head).map(|head| {
                let close = head.upgrade && head.method == "CONNECT";
                (head.body, if close { Persist::Close } else { head.persist })
            }),
            Way::Replies(asked) => {
                ReplyHead::parse(&head, asked).map(|head| (head.body, head.persist))
            }
        };
        match read {
            Ok((body, persist)) => {
                let complete = body.is_none();
                self.story.messages.push(Message { head, complete, ..Message::default() });
                match body {
                    Some(framing) => self.at = At::Body(framing, persist),
                    None => self.go_on(persist),
                }
                true
            }
            Err(refusal) => {
                self.used -= length;
                self.refuse(refusal)
            }
        }
    }

    fn go_on(&mut self, persist: Persist) {
        self.at = match persist {
            Persist::Close => At::End,
            Persist::Keep | Persist::KeepAlive => At::Head { scanned: 0 },
        };
        self.story.closed = persist == Persist::Close;
    }

    fn refuse(&mut self, refusal: Refusal) -> bool {
        self.story.refused = Some((self.used, refusal));
        self.at = At::End;
        false
    }

    fn message(&mut self) -> &mut Message {
        self.story.messages.last_mut().expect("its head was read")
    }

    fn take_some(&mut self, count: usize) -> Vec<u8> {
        assert!(count > 0, "there is progress");
        self.take(count)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.used += count;
        self.unread.drain(..count).collect()
    }
}
