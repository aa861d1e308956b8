//! Which SYN cookies may come back, and what they look like.

use crate::tcp::cookie::Layout;
use crate::time::{Duration, Instant};

/// How long after the last SYN cookie one may come back: a client's longest wait to resend. After a
/// takeover nobody knows whether the dead primary had sent any.
const LIFETIME: Duration = Duration::from_secs(120);

/// The first version of the protocol whose nodes read [`Layout::Halves`].
const HALVES_SINCE: u16 = 4;

/// What is known of the cookies that this pair has sent.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    until: Instant,
    /// The peer reads nothing newer than [`Layout::Whole`].
    old_peer: bool,
    /// When the last of that layout may come back, once the peer reads others.
    old_until: Instant,
}

impl Cookies {
    /// One was sent, or may have been.
    pub(super) fn note_sent(&mut self, now: Instant) {
        self.until = now + LIFETIME;
    }

    /// The peer and we agreed on `version`.
    pub(super) fn note_version(&mut self, now: Instant, version: u16) {
        let old = version < HALVES_SINCE;
        if self.old_peer && !old {
            self.old_until = now + LIFETIME;
        }
        self.old_peer = old;
    }

    /// Whether one can come back.
    pub(super) fn valid(&self, now: Instant) -> bool {
        now < self.until
    }

    /// How the next is made: so that the peer can read it after a takeover.
    pub(super) const fn layout(&self) -> Layout {
        if self.old_peer { Layout::Whole } else { Layout::Halves }
    }

    /// How those that come back may have been made.
    pub(super) fn accepted(&self, now: Instant) -> impl Iterator<Item = Layout> {
        let old = self.old_peer || now < self.old_until;
        [Layout::Halves].into_iter().chain(old.then_some(Layout::Whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_what_the_peer_can_read() {
        let (mut cookies, now) = (Cookies::default(), Instant::from_millis(10));
        let accepted = |cookies: &Cookies, at| cookies.accepted(at).collect::<Vec<_>>();
        assert_eq!(cookies.layout(), Layout::Halves);
        assert_eq!(accepted(&cookies, now), [Layout::Halves]);
        cookies.note_version(now, HALVES_SINCE - 1);
        assert_eq!(cookies.layout(), Layout::Whole);
        assert_eq!(accepted(&cookies, now), [Layout::Halves, Layout::Whole]);
        cookies.note_version(now, HALVES_SINCE);
        assert_eq!(cookies.layout(), Layout::Halves);
        assert_eq!(accepted(&cookies, now), [Layout::Halves, Layout::Whole], "one is under way");
        assert_eq!(accepted(&cookies, now + LIFETIME), [Layout::Halves]);
    }
}
