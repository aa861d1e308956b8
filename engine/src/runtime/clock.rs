//! Where time comes from. Nothing else in the program reads a clock.
//!
//! The monotonic clock of the leases is `CLOCK_BOOTTIME`, not `CLOCK_MONOTONIC`: it goes on while
//! the host is suspended. A primary that slept through its lease must find the lease expired when
//! it wakes (I3), and a clock that slept with it would say otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::time::Instant;

/// The host's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Now, on the clock that counts suspended time too. Never goes back.
    #[must_use]
    pub fn now(self) -> Instant {
        Instant::from_nanos(read(libc::CLOCK_BOOTTIME))
    }

    /// Wall clock, whole seconds since 1970; zero if the host believes to be before that. Only for
    /// what people read, such as a `Date` header: it may jump.
    #[must_use]
    pub fn wall(self) -> u64 {
        self.wall_nanos() / 1_000_000_000
    }

    /// Wall clock, nanoseconds since 1970: to compare with the times of files.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock's home")]
    pub fn wall_nanos(self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Reads one clock, in nanoseconds.
#[expect(unsafe_code, reason = "no dependency offers CLOCK_BOOTTIME")]
fn read(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, exclusively borrowed timespec for the length of the call.
    let result = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert!(result == 0, "CLOCK_BOOTTIME exists since Linux 2.6.39");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_forward() {
        let first = Clock.now();
        let second = Clock.now();
        assert!(first > Instant::ZERO);
        assert!(second >= first);
        assert!(Clock.wall() > 1_700_000_000);
    }
}
