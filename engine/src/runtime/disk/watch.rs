//! What the kernel tells of changes below the document roots (inotify).
//!
//! A watch is of one directory and not of what is below it, so there is one for each; they are set
//! as directories are listed, before their entries are read, so that nothing is missed in between.
//! Where no watch can be had (too many, or a file system of which the kernel sees only its own
//! changes) the watcher is *blind*, and whoever wants to know has to look now and then.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustc_hash::FxHashMap;

use super::sys;
use crate::time::Duration;

/// Room for the events that are read at a time.
const BUFFER: usize = 64 << 10;

/// A document root's number, and a path below it; empty for the root itself.
pub(super) type Spot = (u16, Box<str>);

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// A directory is new, or has come from elsewhere.
    Directory(Spot),
    /// A file is new, was written to, or was touched.
    File(Spot),
    /// So much that the kernel could not keep it all.
    TooMuch,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<Inotify>,
    poll: Option<Poll>,
    events: Events,
    watched: FxHashMap<WatchDescriptor, Spot>,
    buffer: Vec<u8>,
    /// Why not everything is watched, once that was so.
    blind: Option<String>,
}

impl Watcher {
    pub(super) fn new() -> Self {
        let mut watcher = Self {
            inotify: None,
            poll: None,
            events: Events::with_capacity(4),
            watched: FxHashMap::default(),
            buffer: vec![0; BUFFER],
            blind: None,
        };
        if let Err(error) = watcher.open() {
            watcher.blind = Some(format!("inotify: {error}"));
        }
        watcher
    }

    fn open(&mut self) -> io::Result<()> {
        let (inotify, poll) = (Inotify::init()?, Poll::new()?);
        let fd = inotify.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
        (self.inotify, self.poll) = (Some(inotify), Some(poll));
        Ok(())
    }

    /// Why there may be changes that nobody tells of; `None`: there are none.
    pub(super) fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// Watches a directory. One that is watched already may have another name now.
    pub(super) fn watch(&mut self, directory: &File, spot: Spot) {
        let Some(inotify) = &mut self.inotify else { return };
        if sys::is_remote(directory) {
            self.blind.get_or_insert_with(|| "a file system of another host, or of FUSE".into());
        }
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ONLYDIR;
        // By way of the descriptor: whatever its name leads to by now.
        match inotify.watches().add(format!("/proc/self/fd/{}", directory.as_raw_fd()), mask) {
            Ok(watch) => {
                self.watched.insert(watch, spot);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                self.blind.get_or_insert_with(|| {
                    "no more watches are to be had (fs.inotify.max_user_watches)".into()
                });
            }
            Err(error) => {
                self.blind.get_or_insert_with(|| format!("a directory cannot be watched: {error}"));
            }
        }
    }

    /// Waits for something to happen, for so long at most.
    pub(super) fn wait(&mut self, time: Duration) {
        match &mut self.poll {
            Some(poll) => {
                // An interruption is as good as a timeout.
                let _ = poll.poll(&mut self.events, Some(time));
            }
            None => std::thread::sleep(time),
        }
    }

    /// Everything that has happened since the last time.
    pub(super) fn read(&mut self, happened: &mut Vec<Happened>) {
        let Some(inotify) = &mut self.inotify else { return };
        let (mut ended, mut left) = (Vec::new(), Vec::new());
        while let Ok(events) = inotify.read_events(&mut self.buffer) {
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    happened.push(Happened::TooMuch);
                } else if event.mask.contains(EventMask::IGNORED) {
                    ended.push(event.wd);
                } else if let Some(spot) = self.watched.get(&event.wd)
                    && let Some(spot) = below(spot, event.name)
                {
                    match (event.mask.contains(EventMask::ISDIR), event.mask) {
                        (true, mask) if mask.contains(EventMask::MOVED_FROM) => left.push(spot),
                        (true, mask) if mask.contains(EventMask::ATTRIB) => {}
                        (true, _) => happened.push(Happened::Directory(spot)),
                        (false, mask) if mask.contains(EventMask::MOVED_FROM) => {}
                        (false, _) => happened.push(Happened::File(spot)),
                    }
                }
            }
        }
        for watch in ended {
            self.watched.remove(&watch);
        }
        for spot in left {
            self.forget(&spot);
        }
    }

    /// A directory has gone elsewhere. Where it is below a root still, it is listed anew.
    fn forget(&mut self, gone: &Spot) {
        let Some(inotify) = &mut self.inotify else { return };
        let is_below = |(root, path): &Spot| {
            let rest = path.strip_prefix(&*gone.1);
            *root == gone.0 && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.watched.retain(|watch, spot| {
            let goes = is_below(spot);
            if goes {
                // It may be gone for good, and then it says so.
                let _ = inotify.watches().remove(watch.clone());
            }
            !goes
        });
    }
}

/// What is in a directory by this name; `None` for a name that nobody can ask for.
pub(super) fn below((root, path): &Spot, name: Option<&OsStr>) -> Option<Spot> {
    let name = name?.to_str()?;
    let path = if path.is_empty() { name.into() } else { format!("{path}/{name}") };
    Some((*root, path.into()))
}
