//! The one place where the tools read the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic time now.
#[expect(
    clippy::disallowed_methods,
    reason = "tools are shells around sockets; this is their clock"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, in milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a report says when its drill began")]
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
