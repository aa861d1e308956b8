//! What servers and clients note, for the world to judge.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::plan::Stage;

/// Something noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A server has the head of a request.
    Seen { backend: usize, client: u16, index: u16, key: Option<String> },
    /// A server has all of a request.
    Heard { client: u16, index: u16 },
    /// A server was told something wrong.
    Wrong(String),
    /// A server is where it was to die.
    Falls { backend: usize, orderly: bool, restart_us: u64 },
    /// A client was told that it gets no reply.
    Refused { client: u16, index: u16, status: u16 },
    /// A client has a whole reply.
    Answered { client: u16, index: u16 },
}

/// What lets a server's process die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Fuse {
    /// Requests that are spared.
    pub(in crate::sim) requests: u32,
    pub(in crate::sim) stage: Stage,
    /// Whether its connections end as if it had said all.
    pub(in crate::sim) orderly: bool,
    pub(in crate::sim) restart_us: u64,
}

#[derive(Debug, Default)]
struct Notes {
    news: VecDeque<News>,
    fuses: [Option<Fuse>; 2],
    editions: Vec<u8>,
}

/// Shared by all of one world.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Desk(Rc<RefCell<Notes>>);

impl Desk {
    /// What servers may have, where they have these.
    pub(in crate::sim) fn new(editions: impl Iterator<Item = u8>) -> Self {
        let mut editions: Vec<u8> = editions.collect();
        editions.sort_unstable();
        editions.dedup();
        Self(Rc::new(RefCell::new(Notes { editions, ..Notes::default() })))
    }

    pub(super) fn editions(&self) -> Vec<u8> {
        self.0.borrow().editions.clone()
    }

    pub(super) fn note(&self, news: News) {
        self.0.borrow_mut().news.push_back(news);
    }

    pub(super) fn next(&self) -> Option<News> {
        self.0.borrow_mut().news.pop_front()
    }

    /// A server is to die at such a moment.
    pub(in crate::sim) fn lay(&self, backend: usize, fuse: Fuse) {
        if let Some(place) = self.0.borrow_mut().fuses.get_mut(backend) {
            *place = Some(fuse);
        }
    }

    pub(in crate::sim) fn clear_fuses(&self) {
        self.0.borrow_mut().fuses = [None; 2];
    }

    /// A server has begun with another request: what lets it die in this one.
    pub(super) fn take_fuse(&self, backend: usize) -> Option<Fuse> {
        let place = &mut self.0.borrow_mut().fuses[backend];
        let fuse = place.as_mut()?;
        if fuse.requests > 0 {
            fuse.requests -= 1;
            return None;
        }
        place.take()
    }
}
