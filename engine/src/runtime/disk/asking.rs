//! What the loop does not know: found out by the helpers, a bounded number of questions at a time.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use super::DiskStore;
use super::contents::Reading;
use super::helper::{FETCH, Found, HashJob, Job, Opened, Outcome};
use super::names::BELIEVED_FAR;
use super::questions::{About, Helper, JOBS_MAX};
use super::stamp::Stamp;
use super::sys::{self, Effort};
use super::watch::Spot;
use crate::service::{ContentId, Read};
use crate::time::Instant;

/// After so many fetches that did not help, the file system is one that never has anything in
/// memory where the loop could read it.
pub(super) const FETCHES_MAX: u8 = 3;
/// Answers without a file that are kept for others.
const ABSENT_MAX: usize = 256;

/// What a helper has found at a path.
#[derive(Debug)]
pub(super) struct Answer {
    spot: Spot,
    opened: Opened,
    at: Instant,
}

/// What a path led to.
pub(super) enum Place {
    Content(usize),
    Directory,
    NotFound,
    Forbidden,
    Pending,
}

impl DiskStore {
    /// Takes in what the helpers found out.
    pub(super) fn absorb(&mut self) {
        while let Ok(outcome) = self.helpers.outcomes.try_recv() {
            match outcome {
                Outcome::Opened { helper, spot, opened } => {
                    self.questions.on_returned(helper, &About::Place(spot.clone()));
                    self.answers.push_back(Answer { spot, opened, at: self.now });
                }
                Outcome::Fetched { content, piece, result } => {
                    self.questions.on_returned(Helper::Disk, &About::Piece(content, piece));
                    if let (Some(key), Err(())) = (self.contents.key(content), result) {
                        self.contents[key].failed = true;
                    }
                }
                Outcome::Block { content, number, block } => {
                    self.on_block(content, number, block);
                    self.questions.on_returned(Helper::Far, &About::Piece(content, number));
                }
                Outcome::Hashed { stamp } => {
                    self.questions.on_returned(Helper::Hash, &About::Hash(stamp));
                }
                Outcome::Learnt(spot) => self.questions.answer(&About::Copy(spot)),
            }
        }
        self.dispatch();
    }

    /// Gives the helpers what they have room for. Answers that nobody has come for yet take room as well.
    pub(super) fn dispatch(&mut self) {
        for helper in [Helper::Disk, Helper::Far, Helper::Hash] {
            while (helper == Helper::Hash || self.answers.len() < JOBS_MAX)
                && let Some((about, content, offset)) = self.questions.next(helper)
            {
                if !self.send(helper, &about, content, offset) {
                    // Its file was closed while it waited: whoever asks anew has it open.
                    self.questions.on_returned(helper, &about);
                    break;
                }
            }
        }
    }

    /// Gives a question to a helper. Returns whether that could be done.
    fn send(&self, helper: Helper, about: &About, content: ContentId, offset: u64) -> bool {
        let job = match about {
            About::Place(spot) => self.roots.get(usize::from(spot.0)).map(|root| {
                let root = root.clone();
                Job::Open { root, spot: spot.clone() }
            }),
            About::Piece(..) => self.open_file(content).map(|file| match helper {
                Helper::Far => Job::Block { content, file, offset },
                Helper::Disk | Helper::Hash => Job::Fetch { content, file, offset },
            }),
            About::Hash(stamp) => {
                return self.open_file(content).is_some_and(|file| {
                    self.helpers.hash_jobs.try_send(HashJob { stamp: *stamp, file }).is_ok()
                });
            }
            About::Copy(_) => None,
        };
        let jobs = if helper == Helper::Far { &self.helpers.far_jobs } else { &self.helpers.jobs };
        job.is_some_and(|job| jobs.try_send(job).is_ok())
    }

    fn open_file(&self, content: ContentId) -> Option<Arc<File>> {
        self.contents[self.contents.key(content)?].file.clone()
    }

    /// Opens a path, from the helper's answer or the kernel's caches; asks the helper otherwise.
    fn open_path(&mut self, root: u16, path: &str) -> Option<Opened> {
        let is_it = |answer: &Answer| (answer.spot.0, &*answer.spot.1) == (root, path);
        if let Some(answer) =
            self.answers.iter().position(is_it).and_then(|at| self.answers.remove(at))
        {
            return Some(self.take(answer));
        }
        let Some(home) = self.roots.get(usize::from(root)) else {
            return Some(Opened::NotFound);
        };
        if home.near && self.cached_lookups {
            let result = sys::open_beneath(&home.directory, path, Effort::Cached);
            // What is mounted below may be anything, and only opening it tells.
            let crosses = result.as_ref().is_err_and(|e| e.raw_os_error() == Some(libc::EXDEV));
            if !crosses && let Some(opened) = Opened::from_result(home, result) {
                return Some(opened);
            }
        }
        if let Some(answer) = self.absent.iter().find(|answer| is_it(answer)) {
            return answer.opened.again();
        }
        let helper = if home.near { Helper::Disk } else { Helper::Far };
        let about = About::Place((root, path.into()));
        if self.questions.ask(helper, about, (ContentId(0), 0)) {
            self.dispatch();
        }
        None
    }

    /// An answer is one asker's. That there is no file others may ask for, too, each of whom would
    /// need a helper of his own.
    fn take(&mut self, answer: Answer) -> Opened {
        let near = self.roots.get(usize::from(answer.spot.0)).is_some_and(|root| root.near);
        if let (false, Some(opened)) = (near, answer.opened.again()) {
            if self.absent.len() >= ABSENT_MAX {
                self.absent.pop_front();
            }
            self.absent.push_back(Answer { opened, ..answer });
        }
        answer.opened
    }

    /// Lets go of answers that nobody has come for, or that are not believed any more.
    pub(super) fn forget_old_answers(&mut self) {
        for answers in [&mut self.answers, &mut self.absent] {
            while answers.front().is_some_and(|answer| self.now.since(answer.at) >= BELIEVED_FAR) {
                answers.pop_front();
            }
        }
    }

    pub(super) fn find(&mut self, root: u16, path: &str) -> Place {
        self.absorb();
        if let Some(key) = self.recall(root, path) {
            return Place::Content(key);
        }
        match self.open_path(root, path) {
            None => Place::Pending,
            Some(Opened::Directory) => Place::Directory,
            Some(Opened::NotFound) => Place::NotFound,
            Some(Opened::Forbidden) => Place::Forbidden,
            Some(Opened::File(found)) => {
                let key = self.contents.admit(self.now, (root, path), found);
                let id = self.contents.hold(key);
                self.names.add(self.now, root, path, id);
                self.forget_stale_names();
                Place::Content(key)
            }
        }
    }

    /// What the path led to a moment ago, if its descriptor says that it is that file still, and
    /// that no other has replaced it.
    fn recall(&mut self, root: u16, path: &str) -> Option<usize> {
        let id = self.names.get(root, path)?;
        let key = self.contents.key(id)?;
        let content = &self.contents[key];
        if content.seen_at == self.now {
            return Some(key);
        }
        let is_current =
            |metadata: Metadata| metadata.nlink() > 0 && Stamp::of(&metadata) == content.stamp;
        let is_it = match &content.file {
            // Until it has settled it may have been written to, and say so nowhere.
            _ if !content.near => content.settled,
            Some(file) => sys::facts(file).is_ok_and(is_current),
            None => false,
        };
        if is_it {
            self.contents[key].seen_at = self.now;
            return Some(key);
        }
        self.names.remove(root, path);
        self.contents.release(id);
        None
    }

    pub(super) fn forget_stale_names(&mut self) {
        while let Some(id) = self.names.next_stale(self.now) {
            self.contents.release(id);
        }
    }

    /// The content's descriptor, opened again if it was closed meanwhile.
    pub(super) fn file(&mut self, key: usize) -> Result<Arc<File>, Read> {
        if let Some(file) = &self.contents[key].file {
            return Ok(Arc::clone(file));
        }
        let (root, path) = (self.contents[key].root, self.contents[key].path.clone());
        match self.open_path(root, &path) {
            None => Err(Read::Pending),
            Some(Opened::File(Found { file, stamp, .. }))
                if self.contents[key].stamp.is_version(&stamp) =>
            {
                self.contents.give_file(key, Arc::clone(&file));
                Ok(file)
            }
            Some(_) => Err(Read::Gone),
        }
    }

    /// Nothing at `offset` is in memory: have it brought there.
    pub(super) fn fetch(&mut self, key: usize, offset: u64) -> Read {
        let id = self.contents.id(key);
        let about = About::Piece(id, offset / FETCH);
        if self.questions.ask(Helper::Disk, about, (id, offset)) {
            let content = &mut self.contents[key];
            if content.fetched_at == offset {
                content.fetches += 1;
            } else {
                (content.fetched_at, content.fetches) = (offset, 0);
            }
            if content.fetches >= FETCHES_MAX {
                content.reading = Reading::Blocks;
            }
            self.dispatch();
        }
        Read::Pending
    }
}
