//! Sealed datagrams: what keeps a heartbeat from being forged, diverted or repeated.
//!
//! ```text
//!   "SIHB" version path | sender's boot | receiver's boot | counter | AES-256-GCM(heartbeat)
//!     4       1     1           8                8              8         n + 16
//! ```
//!
//! A heartbeat can move the role, so a recorded one must be worth nothing. Within a run the counter
//! only grows. Across runs the key differs, since it is derived from the sender's boot id; that is
//! also why a nonce, the counter, can never be used twice.
//!
//! Whether a *run* is to be believed is not decided here. What opens was said by some run of the
//! peer, perhaps one that ended long ago; the role machine believes whoever has just answered this
//! run (`role/peer/word.rs`), and the heartbeat itself tells. So runs are opened side by side, a few at a
//! time, and no recording can shut a living one out: there is nothing to be pinned to.
//!
//! The receiver's boot in the header is what engines of the release before this one go by.

use arrayvec::ArrayVec;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::key::{PairKey, Purpose};
use crate::ids::Node;
use crate::role::Path;

const MAGIC: &[u8; 4] = b"SIHB";
const VERSION: u8 = 1;
const HEADER_LEN: usize = 30;
const TAG_LEN: usize = 16;
/// The largest plaintext: one Ethernet frame holds the datagram with room to spare.
pub const BEAT_MAX: usize = 1024;
/// Bytes that sealing adds.
pub const SEAL_OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Runs of the peer whose counters are remembered. Beyond that the one goes that was heard the longest
/// ago, of those first that never named this run: they may be recordings of any age.
pub const RUNS_MAX: usize = 8;

/// Both ways between the nodes.
pub const PATHS: [Path; 2] = [Path::Replication, Path::Lan];

/// The place of `path` in [`PATHS`] and in what is kept for each.
#[must_use]
pub const fn path_index(path: Path) -> usize {
    match path {
        Path::Replication => 0,
        Path::Lan => 1,
    }
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotBelieved {
    /// Not one of ours at all.
    #[error("not a heartbeat of Standin")]
    NotStandin,
    /// Ours, of another version.
    #[error("a heartbeat of version {0}")]
    Version(u8),
    /// Sealed for the other path.
    #[error("a heartbeat of the other path")]
    OtherPath,
    /// Altered, or sealed with another key.
    #[error("a heartbeat under another key")]
    Forged,
    /// Heard before, or overtaken by a later one.
    #[error("a heartbeat out of its time")]
    Late,
}

/// Seals what this node sends and opens what its peer sent.
pub struct Seal {
    key: PairKey,
    node: Node,
    boot: u64,
    sealing: LessSafeKey,
    counter: u64,
    runs: ArrayVec<Run, RUNS_MAX>,
    /// Datagrams opened; tells which run was heard the longest ago.
    opened: u64,
}

impl core::fmt::Debug for Seal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Seal").field("node", &self.node).field("boot", &self.boot).finish()
    }
}

/// One run of the peer.
struct Run {
    boot: u64,
    opening: LessSafeKey,
    /// The highest counter heard on each path.
    last: [u64; 2],
    /// It has named this run: it was alive when this one was.
    named: bool,
    /// What `opened` was when it was heard last.
    heard: u64,
}

struct Header {
    path: u8,
    from: u64,
    to: u64,
    counter: u64,
}

impl Seal {
    /// `boot` is this run's number, from [`random_boot`](super::key::random_boot).
    #[must_use]
    pub fn new(key: PairKey, node: Node, boot: u64) -> Self {
        let sealing = cipher(&key, node, boot);
        Self { key, node, boot, sealing, counter: 0, runs: ArrayVec::new(), opened: 0 }
    }

    /// The datagram that carries `plain` on `path` to the peer's run `to`, 0 if none is known, written
    /// over `out`.
    pub fn seal(&mut self, path: Path, to: u64, plain: &[u8], out: &mut Vec<u8>) {
        assert!(plain.len() <= BEAT_MAX, "a heartbeat fits one frame");
        self.counter += 1;
        out.clear();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, path_index(path) as u8]);
        out.extend_from_slice(&self.boot.to_be_bytes());
        out.extend_from_slice(&to.to_be_bytes());
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(plain);
        let (header, body) = out.split_at_mut(HEADER_LEN);
        let tag =
            self.sealing.seal_in_place_separate_tag(nonce(self.counter), Aad::from(&*header), body);
        match tag {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            // Only a plaintext of many gigabytes can fail; a datagram cut short is not believed.
            Err(_) => out.clear(),
        }
    }

    /// Opens `datagram` in its place and returns the plaintext, if a run of the peer said it and it has
    /// not been heard before.
    pub fn open<'a>(
        &mut self,
        path: Path,
        datagram: &'a mut [u8],
    ) -> Result<&'a [u8], NotBelieved> {
        let header = parse(datagram)?;
        if usize::from(header.path) != path_index(path) {
            return Err(NotBelieved::OtherPath);
        }
        let known = self.runs.iter().position(|run| run.boot == header.from);
        if known.is_some_and(|at| header.counter <= self.runs[at].last[path_index(path)]) {
            return Err(NotBelieved::Late);
        }
        let (aad, body) = datagram.split_at_mut(HEADER_LEN);
        let plain = match known {
            Some(at) => open_in_place(&self.runs[at].opening, header.counter, aad, body)?,
            None => {
                let opening = cipher(&self.key, self.node.peer(), header.from);
                let plain = open_in_place(&opening, header.counter, aad, body)?;
                self.meet(header.from, opening);
                plain
            }
        };
        self.note(path, &header);
        Ok(plain)
    }

    /// A run that is not known has proved to hold the key, at some time.
    fn meet(&mut self, boot: u64, opening: LessSafeKey) {
        if self.runs.is_full() {
            let oldest = (0..self.runs.len())
                .min_by_key(|&at| (self.runs[at].named, self.runs[at].heard))
                .unwrap_or(0);
            self.runs.swap_remove(oldest);
        }
        self.runs.push(Run { boot, opening, last: [0; 2], named: false, heard: 0 });
    }

    fn note(&mut self, path: Path, header: &Header) {
        self.opened += 1;
        let Some(run) = self.runs.iter_mut().find(|run| run.boot == header.from) else { return };
        run.last[path_index(path)] = header.counter;
        run.named |= header.to == self.boot;
        run.heard = self.opened;
    }
}

fn cipher(key: &PairKey, node: Node, boot: u64) -> LessSafeKey {
    let bytes = key.derive(Purpose::Beats { node, boot });
    match UnboundKey::new(&AES_256_GCM, bytes.as_slice()) {
        Ok(key) => LessSafeKey::new(key),
        Err(_) => unreachable!("AES-256 takes 32 bytes"),
    }
}

/// One key per run and a counter that never repeats in it: unique.
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn open_in_place<'a>(
    key: &LessSafeKey,
    counter: u64,
    aad: &[u8],
    body: &'a mut [u8],
) -> Result<&'a [u8], NotBelieved> {
    match key.open_in_place(nonce(counter), Aad::from(aad), body) {
        Ok(plain) => Ok(plain),
        Err(_) => Err(NotBelieved::Forged),
    }
}

fn parse(datagram: &[u8]) -> Result<Header, NotBelieved> {
    let number = |at: usize| {
        let bytes = datagram.get(at..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
    };
    if datagram.get(..4) != Some(MAGIC) || datagram.len() < SEAL_OVERHEAD {
        return Err(NotBelieved::NotStandin);
    }
    if datagram[4] != VERSION {
        return Err(NotBelieved::Version(datagram[4]));
    }
    Ok(Header { path: datagram[5], from: number(6), to: number(14), counter: number(22) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: &[u8; 1]) -> PairKey {
        PairKey::parse(&digit.repeat(64)).unwrap()
    }

    fn node(node: Node, boot: u64) -> Seal {
        Seal::new(key(b"4"), node, boot)
    }

    fn sealed(from: &mut Seal, path: Path, plain: &[u8]) -> Vec<u8> {
        sealed_to(from, 2, path, plain)
    }

    fn sealed_to(from: &mut Seal, to: u64, path: Path, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        from.seal(path, to, plain, &mut out);
        out
    }

    fn hears(to: &mut Seal, path: Path, datagram: &[u8]) -> Result<Vec<u8>, NotBelieved> {
        to.open(path, &mut datagram.to_vec()).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_datagram_is_sealed_as_ever() {
        let mut a = node(Node::A, 0x0102);
        let datagram = sealed_to(&mut a, 0x0304, Path::Lan, b"tick");
        let digits: String = datagram.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "53494842 01 01 0000000000000102 0000000000000304 0000000000000001 \
                      74b73ee0 fdbf2cde40fd1b9aabc20e9a71e6d856";
        assert_eq!(digits, golden.replace(' ', ""));
    }

    #[test]
    fn beats_pass_on_both_paths() {
        let (mut a, mut b) = (node(Node::A, 1), node(Node::B, 2));
        for path in PATHS {
            let beat = sealed(&mut a, path, b"tick");
            assert_eq!(beat.len(), 4 + SEAL_OVERHEAD);
            assert_eq!(hears(&mut b, path, &beat), Ok(b"tick".to_vec()));
        }
        let answer = sealed(&mut b, Path::Lan, b"tock");
        assert_eq!(hears(&mut a, Path::Lan, &answer), Ok(b"tock".to_vec()));
    }

    #[test]
    fn repeated_and_late_beats_are_not_believed() {
        let (mut a, mut b) = (node(Node::A, 1), node(Node::B, 2));
        let first = sealed(&mut a, Path::Lan, b"1");
        let second = sealed(&mut a, Path::Lan, b"2");
        assert!(hears(&mut b, Path::Lan, &second).is_ok());
        assert_eq!(hears(&mut b, Path::Lan, &second), Err(NotBelieved::Late));
        assert_eq!(hears(&mut b, Path::Lan, &first), Err(NotBelieved::Late));
    }

    #[test]
    fn reflected_diverted_and_altered_beats_are_not_believed() {
        let (mut a, mut b) = (node(Node::A, 1), node(Node::B, 2));
        let beat = sealed(&mut a, Path::Lan, b"tick");
        assert_eq!(hears(&mut a, Path::Lan, &beat), Err(NotBelieved::Forged), "its own");
        assert_eq!(hears(&mut b, Path::Replication, &beat), Err(NotBelieved::OtherPath));
        for at in 5..beat.len() {
            let mut altered = beat.clone();
            altered[at] ^= 1;
            assert!(hears(&mut b, Path::Lan, &altered).is_err(), "byte {at}");
        }
        let mut stranger = Seal::new(key(b"5"), Node::A, 1);
        let other = sealed(&mut stranger, Path::Lan, b"tick");
        assert_eq!(hears(&mut b, Path::Lan, &other), Err(NotBelieved::Forged));
        assert_eq!(hears(&mut b, Path::Lan, b"hello"), Err(NotBelieved::NotStandin));
        let mut future = beat.clone();
        future[4] = 9;
        assert_eq!(hears(&mut b, Path::Lan, &future), Err(NotBelieved::Version(9)));
        assert!(hears(&mut b, Path::Lan, &beat).is_ok(), "and none of it did harm");
    }

    /// Which of them is to be believed, the role machine decides.
    #[test]
    fn runs_are_opened_side_by_side_and_none_shuts_another_out() {
        let (mut old, mut new, mut b) = (node(Node::A, 1), node(Node::A, 3), node(Node::B, 2));
        let recorded = sealed_to(&mut old, 77, Path::Lan, b"old");
        let later = sealed_to(&mut old, 77, Path::Lan, b"old, later");
        assert!(hears(&mut b, Path::Lan, &recorded).is_ok());
        for said in [b"1", b"2"] {
            let beat = sealed(&mut new, Path::Lan, said);
            assert_eq!(hears(&mut b, Path::Lan, &beat), Ok(said.to_vec()));
        }
        assert!(hears(&mut b, Path::Lan, &later).is_ok());
        assert_eq!(hears(&mut b, Path::Lan, &recorded), Err(NotBelieved::Late));
    }

    #[test]
    fn recordings_of_many_runs_do_not_make_a_living_one_repeatable() {
        let (mut a, mut b) = (node(Node::A, 1), node(Node::B, 2));
        let beat = sealed(&mut a, Path::Lan, b"tick");
        assert!(hears(&mut b, Path::Lan, &beat).is_ok());
        for boot in 100..100 + 3 * RUNS_MAX as u64 {
            let mut former = node(Node::A, boot);
            let recorded = sealed_to(&mut former, 77, Path::Lan, b"old");
            assert!(hears(&mut b, Path::Lan, &recorded).is_ok());
            assert_eq!(hears(&mut b, Path::Lan, &beat), Err(NotBelieved::Late), "{boot}");
        }
        assert_eq!(b.runs.len(), RUNS_MAX, "and they take no room");
    }
}
