//! One end of the link: an interface of this host.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::sys::{self, BATCH, Taken};

/// A packet socket on an interface.
#[derive(Debug)]
pub struct Port {
    name: String,
    socket: OwnedFd,
    longest: usize,
    frames: Vec<Vec<u8>>,
    /// Frames that were not as a wire would carry them.
    pub(super) unfit: u64,
    /// Frames that the interface did not take.
    pub(super) refused: u64,
}

impl Port {
    /// Takes every frame that arrives at interface `name` from now on. Needs `CAP_NET_RAW`.
    pub fn open(name: &str) -> io::Result<Self> {
        let (socket, longest) = sys::open(name)?;
        let frames = vec![Vec::new(); BATCH];
        Ok(Self { name: name.to_owned(), socket, longest, frames, unfit: 0, refused: 0 })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands what has arrived to `take`, at most one batch. Returns whether there may be more.
    pub(super) fn receive(&mut self, take: &mut dyn FnMut(&mut Vec<u8>)) -> io::Result<bool> {
        let (taken, count) = match sys::receive(self.socket.as_fd(), self.longest, &mut self.frames)
        {
            Err(error) if is_transient(&error) => return Ok(false),
            received => received?,
        };
        for (at, taken) in taken.into_iter().enumerate().take(count) {
            match taken {
                Taken::Whole => take(&mut self.frames[at]),
                Taken::Oversized => self.complain("larger than its MTU", "tso off gso off gro off"),
                Taken::Unfinished => self.complain("without a checksum", "tx off"),
            }
        }
        Ok(count == BATCH)
    }

    /// Sends a batch. What the interface does not take now is lost, as on any wire that is down.
    pub(super) fn send(&mut self, mut frames: &[Vec<u8>]) -> io::Result<()> {
        while !frames.is_empty() {
            match sys::send(self.socket.as_fd(), frames) {
                Ok(sent) => frames = &frames[sent.max(1)..],
                Err(error) if is_transient(&error) => {
                    self.refused += 1;
                    frames = &frames[1..];
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn complain(&mut self, what: &str, cure: &str) {
        self.unfit += 1;
        if self.unfit == 1 {
            log::warn!(
                "{}: dropping frames {what}: the host that sent them leaves that work to its \
                 interface; there, run: ethtool -K INTERFACE {cure}",
                self.name
            );
        }
    }
}

/// Full queues, an interface that is down for a while, a frame too long for the other side's MTU.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::EINTR
                | libc::ENOBUFS
                | libc::ENETDOWN
                | libc::EMSGSIZE
                | libc::ENXIO
        )
    )
}
