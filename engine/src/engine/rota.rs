//! Who is to send next: everybody who has something gets a share, whatever the others have.
//!
//! ```text
//!     answers ─► relays ─► connections ─► those that are only glad ─► questions ─┐
//!        ▲                                                                       │
//!        └─────────── whoever has nothing, or has had its share, is passed ◄─────┘
//! ```
//!
//! A share is counted in what packets cost: a small one is a unit, a super-segment as much as the
//! copy of it takes. So a flood of small packets and saturating downloads leave each other a part of
//! the time, and not as many packets.

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Rota {
    /// The place in [`SHARES`] of whoever sends now.
    at: usize,
    /// What is left of its share.
    left: u32,
}

/// Who may have something to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The [`Outbox`](super::outbox::Outbox).
    Loose,
    /// Relays, of their own.
    Relays,
    /// Connections with something to say.
    Ready,
    /// Connections that only have to say that the path is good.
    Quiet,
    /// Questions to the ends of connections that were dropped.
    Questions,
}

/// Everybody, and how much each may send before it is the next one's turn.
const SHARES: [(Sender, u32); 5] = [
    (Sender::Loose, 32),
    (Sender::Relays, 32),
    (Sender::Ready, 64),
    (Sender::Quiet, 16),
    (Sender::Questions, 16),
];
/// Bytes of a packet whose copy costs as much as what every packet costs.
const UNIT: usize = 4096;

impl Rota {
    /// How often at most [`Self::sender`] has to be asked to find whoever has something.
    pub(super) const SENDERS: usize = SHARES.len() + 1;

    /// Whose turn it is.
    pub(super) const fn sender(&self) -> Sender {
        SHARES[self.at].0
    }

    /// It has sent a packet of so many bytes.
    pub(super) const fn note_sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(1 + (bytes / UNIT) as u32);
        if self.left == 0 {
            self.pass();
        }
    }

    /// It has nothing to send, or has had its share: the next one.
    pub(super) const fn pass(&mut self) {
        self.at = (self.at + 1) % SHARES.len();
        self.left = SHARES[self.at].1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packets that senders with nothing but work get in a hundred turns of `count` packets.
    fn shares(work: &[(Sender, usize)]) -> Vec<usize> {
        let mut rota = Rota::default();
        let mut sent = vec![0; work.len()];
        for _ in 0..6400 {
            let found = (0..Rota::SENDERS).find_map(|_| {
                let busy = work.iter().position(|(sender, _)| *sender == rota.sender());
                if busy.is_none() {
                    rota.pass();
                }
                busy
            });
            let index = found.expect("somebody has work");
            sent[index] += 1;
            rota.note_sent(work[index].1);
        }
        sent
    }

    #[test]
    fn everybody_has_a_share_and_nobody_waits_for_who_has_nothing() {
        assert_eq!(shares(&[(Sender::Quiet, 60)]), [6400], "alone, all of it");
        let sent = shares(&[(Sender::Loose, 60), (Sender::Ready, 65_000)]);
        assert!(sent[0] > 6 * sent[1] && sent[1] > 640, "small ones beside large ones: {sent:?}");
        let all = SHARES.map(|(sender, _)| (sender, 60));
        let sent = shares(&all);
        assert!(sent.iter().all(|sent| *sent >= 600), "{sent:?}");
    }
}
