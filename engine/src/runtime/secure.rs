//! The encrypted stream between the engines: bytes in, bytes out, no socket.
//!
//! ```text
//!   dialler                                 listener
//!      preamble ──────────►◄────────── preamble        in clear: "STANDIN\n", versions, node
//!      e, boot  ──────────►                            Noise_NNpsk0_25519_AESGCM_SHA256
//!               ◄────────── e, boot
//!      (empty)  ──────────►                            proof that the dialler holds the key *now*
//!      messages ◄─────────► messages                   u16 length, AES-256-GCM
//! ```
//!
//! The preambles are in clear so that three misfortunes can be told apart: the peer is something
//! else, the peer is another version, the peer has another key. They are the handshake's prologue,
//! so nobody can alter them unnoticed. The listener counts the stream as open only at the empty
//! message: everything before it could be a recording of an earlier dial played again.
//!
//! A side that gives up says why in clear (a zero length and a reason), for the log of the other
//! operator. Nothing is decided on it that closing the connection would not decide as well.

use snow::{Builder, HandshakeState, TransportState};

use zeroize::Zeroizing;

use super::key::{KEY_LEN, node_letter};
use crate::ids::Node;

/// The oldest version of this layer that is understood.
const VERSION_MIN: u16 = 1;
/// The version of this layer.
const VERSION_MAX: u16 = 1;
const MAGIC: &[u8; 8] = b"STANDIN\n";
const PREAMBLE_LEN: usize = 16;
const LENGTH_LEN: usize = 2;
const TAG_LEN: usize = 16;
/// The largest Noise message.
const MESSAGE_MAX: usize = 65535;
/// The largest plaintext of one message.
pub const PLAIN_MAX: usize = MESSAGE_MAX - TAG_LEN;
/// A handshake message: 32 bytes of public key, 8 of boot id, a tag; no other length is right.
const HANDSHAKE_LEN: usize = 32 + 8 + TAG_LEN;
/// Messages after which each direction takes its next key: at most 16 GiB under one, well below
/// the limits of AES-GCM.
const REKEY_AFTER: u32 = 1 << 18;
const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";

/// Why two ends cannot talk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Incompatible {
    /// The first bytes are not ours.
    #[error("the other end is not Standin")]
    NotStandin,
    /// No version that both understand.
    #[error(
        "the other end speaks versions {min} to {max} of the link, this one {VERSION_MIN} to {VERSION_MAX}"
    )]
    Version {
        /// The oldest that it understands.
        min: u16,
        /// Its newest.
        max: u16,
    },
    /// Both ends were started as the same node.
    #[error("the other end also says that it is node {0}")]
    SameNode(Node),
    /// The handshake does not authenticate.
    #[error("the other end has another key")]
    Key,
    /// A message of the open stream does not authenticate, or has no valid length.
    #[error("the stream is corrupt")]
    Corrupt,
    /// The other end gave up and said why.
    #[error("the other end refused: {0}")]
    Refused(Refusal),
    /// The cipher of this end failed.
    #[error("encryption failed")]
    Local,
}

/// The reason that travels in clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The keys differ.
    Key,
    /// Anything else, by its number.
    Other(u8),
}

impl Refusal {
    const KEY: u8 = 1;

    const fn from_byte(byte: u8) -> Self {
        if byte == Self::KEY { Self::Key } else { Self::Other(byte) }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Key => f.write_str("it has another key"),
            Self::Other(reason) => write!(f, "reason {reason}"),
        }
    }
}

/// What this end says and proves that it is.
#[derive(Clone)]
pub struct Identity {
    /// The key of [`Purpose::Link`](super::key::Purpose::Link).
    pub key: Zeroizing<[u8; KEY_LEN]>,
    /// Which node this is.
    pub node: Node,
    /// Which run of it.
    pub boot: u64,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Identity({}, {:x})", self.node, self.boot)
    }
}

/// Which end this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The one that connected: speaks first.
    Dialler,
    /// The one that accepted.
    Listener,
}

/// One end of one stream.
#[derive(Debug)]
pub struct Secure {
    state: State,
    end: End,
    identity: Identity,
    peer_boot: u64,
    rekey_after: u32,
}

#[derive(Debug)]
enum State {
    /// The peer's preamble is awaited.
    Preamble,
    /// A handshake message is awaited.
    Handshake(Box<HandshakeState>),
    /// Listener: the handshake is complete, the dialler's proof is awaited.
    Unproven(Box<Transport>),
    Open(Box<Transport>),
    Failed(Incompatible),
}

#[derive(Debug)]
struct Transport {
    noise: TransportState,
    sealed: u32,
    opened: u32,
}

impl Secure {
    /// Starts one end; `out` gets the first bytes to send.
    pub fn new(end: End, identity: Identity, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&preamble(identity.node));
        let rekey_after = REKEY_AFTER;
        Self { state: State::Preamble, end, identity, peer_boot: 0, rekey_after }
    }

    /// Whether both ends have proved the key.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Which run of the peer this is; zero before the handshake told.
    #[must_use]
    pub const fn peer_boot(&self) -> u64 {
        self.peer_boot
    }

    /// Takes received bytes. What must be answered is appended to `reply`, what the peer said to
    /// `plain`. Returns how many bytes were used; the rest is to be given again with more behind.
    pub fn receive(
        &mut self,
        input: &[u8],
        reply: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<usize, Incompatible> {
        let mut used = 0;
        loop {
            match self.step(&input[used..], reply, plain) {
                Ok(0) => return Ok(used),
                Ok(step) => used += step,
                Err(why) => {
                    self.state = State::Failed(why);
                    return Err(why);
                }
            }
        }
    }

    /// Encrypts `plain` and appends it to `out`, straight into its place. Refused before the stream
    /// is open.
    pub fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Incompatible> {
        let State::Open(transport) = &mut self.state else { return Err(Incompatible::Local) };
        for chunk in plain.chunks(PLAIN_MAX) {
            transport.seal(chunk, self.rekey_after, out)?;
        }
        Ok(())
    }

    /// One unit of input: returns its length, or zero if it is not complete.
    fn step(
        &mut self,
        input: &[u8],
        reply: &mut Vec<u8>,
        plain: &mut Vec<u8>,
    ) -> Result<usize, Incompatible> {
        match &mut self.state {
            State::Preamble => self.take_preamble(input, reply),
            State::Handshake(_) => self.take_handshake(input, reply),
            State::Unproven(transport) => {
                let used = transport.open(input, self.rekey_after, plain)?;
                if used != 0 {
                    self.prove();
                }
                Ok(used)
            }
            State::Open(transport) => transport.open(input, self.rekey_after, plain),
            State::Failed(why) => Err(*why),
        }
    }

    /// The dialler's first message authenticated: it holds the key and took part just now.
    fn prove(&mut self) {
        let state = core::mem::replace(&mut self.state, State::Preamble);
        self.state = match state {
            State::Unproven(transport) => State::Open(transport),
            State::Preamble | State::Handshake(_) | State::Open(_) | State::Failed(_) => state,
        };
    }

    fn take_preamble(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<usize, Incompatible> {
        // What is wrong at the first byte need not wait for the sixteenth.
        let magic = input.len().min(MAGIC.len());
        if input[..magic] != MAGIC[..magic] {
            return Err(Incompatible::NotStandin);
        }
        let Some(theirs) = input.first_chunk::<PREAMBLE_LEN>() else { return Ok(0) };
        self.check_preamble(theirs)?;
        let ours = preamble(self.identity.node);
        let (first, second) = match self.end {
            End::Dialler => (&ours, theirs),
            End::Listener => (theirs, &ours),
        };
        let mut noise = self.start(&[*first, *second].concat())?;
        if self.end == End::Dialler {
            write_handshake(&mut noise, self.identity.boot, reply)?;
        }
        self.state = State::Handshake(Box::new(noise));
        Ok(PREAMBLE_LEN)
    }

    fn check_preamble(&self, theirs: &[u8; PREAMBLE_LEN]) -> Result<(), Incompatible> {
        let (min, max) = (be16(theirs, 8), be16(theirs, 10));
        if min > VERSION_MAX || max < VERSION_MIN {
            return Err(Incompatible::Version { min, max });
        }
        if theirs[12] == node_letter(self.identity.node) {
            return Err(Incompatible::SameNode(self.identity.node));
        }
        Ok(())
    }

    fn start(&self, prologue: &[u8]) -> Result<HandshakeState, Incompatible> {
        let parameters = PATTERN.parse().map_err(|_| Incompatible::Local)?;
        let builder = Builder::new(parameters)
            .prologue(prologue)
            .and_then(|builder| builder.psk(0, &self.identity.key))
            .map_err(|_| Incompatible::Local)?;
        match self.end {
            End::Dialler => builder.build_initiator(),
            End::Listener => builder.build_responder(),
        }
        .map_err(|_| Incompatible::Local)
    }

    fn take_handshake(&mut self, input: &[u8], reply: &mut Vec<u8>) -> Result<usize, Incompatible> {
        let Some(length) = input.first_chunk::<LENGTH_LEN>() else { return Ok(0) };
        match usize::from(u16::from_be_bytes(*length)) {
            0 => match input.get(LENGTH_LEN) {
                None => Ok(0),
                Some(&reason) => Err(Incompatible::Refused(Refusal::from_byte(reason))),
            },
            HANDSHAKE_LEN => match input.get(LENGTH_LEN..LENGTH_LEN + HANDSHAKE_LEN) {
                None => Ok(0),
                Some(message) => self.shake(message, reply),
            },
            _ => Err(Incompatible::NotStandin),
        }
    }

    /// The peer's handshake message is here: check it, answer it, and move on.
    fn shake(&mut self, message: &[u8], reply: &mut Vec<u8>) -> Result<usize, Incompatible> {
        let State::Handshake(mut noise) =
            core::mem::replace(&mut self.state, State::Failed(Incompatible::Key))
        else {
            return Err(Incompatible::Local);
        };
        let mut boot = [0; HANDSHAKE_LEN];
        match noise.read_message(message, &mut boot) {
            Ok(8) => self.peer_boot = u64::from_be_bytes(boot[..8].try_into().unwrap_or_default()),
            Ok(_) | Err(_) => {
                // Not sealed, so the other operator's log can name the reason.
                reply.extend_from_slice(&[0, 0, Refusal::KEY]);
                return Err(Incompatible::Key);
            }
        }
        if self.end == End::Listener {
            write_handshake(&mut noise, self.identity.boot, reply)?;
        }
        let noise = noise.into_transport_mode().map_err(|_| Incompatible::Local)?;
        let mut transport = Box::new(Transport { noise, sealed: 0, opened: 0 });
        self.state = match self.end {
            End::Dialler => {
                transport.seal(&[], self.rekey_after, reply)?;
                State::Open(transport)
            }
            End::Listener => State::Unproven(transport),
        };
        Ok(LENGTH_LEN + HANDSHAKE_LEN)
    }
}

impl Transport {
    /// Appends one message.
    fn seal(
        &mut self,
        plain: &[u8],
        rekey_after: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Incompatible> {
        assert!(plain.len() <= PLAIN_MAX, "a message is at most 65535 bytes");
        let start = out.len();
        let sealed = plain.len() + TAG_LEN;
        out.resize(start + LENGTH_LEN + sealed, 0);
        let (length, body) = out[start..].split_at_mut(LENGTH_LEN);
        length.copy_from_slice(&u16::try_from(sealed).unwrap_or(u16::MAX).to_be_bytes());
        self.noise.write_message(plain, body).map_err(|_| Incompatible::Local)?;
        self.sealed += 1;
        if self.sealed == rekey_after {
            self.noise.rekey_outgoing();
            self.sealed = 0;
        }
        Ok(())
    }

    /// Decrypts one message onto the end of `plain`: returns its length, or zero if it is not
    /// complete.
    fn open(
        &mut self,
        input: &[u8],
        rekey_after: u32,
        plain: &mut Vec<u8>,
    ) -> Result<usize, Incompatible> {
        let Some(length) = input.first_chunk::<LENGTH_LEN>() else { return Ok(0) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length < TAG_LEN {
            return Err(Incompatible::Corrupt);
        }
        let Some(message) = input.get(LENGTH_LEN..LENGTH_LEN + length) else { return Ok(0) };
        let start = plain.len();
        // Room for the tag as well: the cipher works in place and wants it.
        plain.resize(start + length, 0);
        let read = self.noise.read_message(message, &mut plain[start..]);
        plain.truncate(start + length - TAG_LEN);
        if read.is_err() {
            plain.truncate(start);
            return Err(Incompatible::Corrupt);
        }
        self.opened += 1;
        if self.opened == rekey_after {
            self.noise.rekey_incoming();
            self.opened = 0;
        }
        Ok(LENGTH_LEN + length)
    }
}

/// The clear words in front: magic, oldest and newest version, node, three bytes to spare.
fn preamble(node: Node) -> [u8; PREAMBLE_LEN] {
    let mut bytes = [0; PREAMBLE_LEN];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION_MIN.to_be_bytes());
    bytes[10..12].copy_from_slice(&VERSION_MAX.to_be_bytes());
    bytes[12] = node_letter(node);
    bytes
}

const fn be16(bytes: &[u8; PREAMBLE_LEN], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn write_handshake(
    noise: &mut HandshakeState,
    boot: u64,
    out: &mut Vec<u8>,
) -> Result<(), Incompatible> {
    let mut message = [0; HANDSHAKE_LEN];
    let length =
        noise.write_message(&boot.to_be_bytes(), &mut message).map_err(|_| Incompatible::Local)?;
    assert!(length == HANDSHAKE_LEN, "a public key, a boot id and a tag");
    out.extend_from_slice(&[0, HANDSHAKE_LEN as u8]);
    out.extend_from_slice(&message);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; KEY_LEN] = [5; KEY_LEN];

    /// An end with what it wants to send and what it heard.
    struct Party {
        secure: Secure,
        out: Vec<u8>,
        heard: Vec<u8>,
    }

    impl Party {
        fn new(end: End, node: Node, key: [u8; KEY_LEN]) -> Self {
            let mut out = Vec::new();
            let boot = u64::from(node_letter(node));
            let secure = Secure::new(end, Identity { key: key.into(), node, boot }, &mut out);
            Self { secure, out, heard: Vec::new() }
        }

        /// Gives `bytes` in pieces of `size`, as a socket might.
        fn hear(&mut self, bytes: &[u8], size: usize) -> Result<(), Incompatible> {
            let mut waiting = Vec::new();
            for piece in bytes.chunks(size) {
                waiting.extend_from_slice(piece);
                let used = self.secure.receive(&waiting, &mut self.out, &mut self.heard)?;
                waiting.drain(..used);
            }
            assert!(waiting.is_empty(), "whole messages were given");
            Ok(())
        }
    }

    fn parties(key: [u8; KEY_LEN]) -> (Party, Party) {
        (Party::new(End::Dialler, Node::A, KEY), Party::new(End::Listener, Node::B, key))
    }

    /// Carries bytes both ways until both are quiet or one fails.
    fn talk(a: &mut Party, b: &mut Party, size: usize) -> Result<(), Incompatible> {
        while !(a.out.is_empty() && b.out.is_empty()) {
            let (to_b, to_a) = (core::mem::take(&mut a.out), core::mem::take(&mut b.out));
            b.hear(&to_b, size)?;
            a.hear(&to_a, size)?;
        }
        Ok(())
    }

    #[test]
    fn a_preamble_reads_as_ever() {
        assert_eq!(preamble(Node::A), *b"STANDIN\n\0\x01\0\x01a\0\0\0");
        assert_eq!(preamble(Node::B), *b"STANDIN\n\0\x01\0\x01b\0\0\0");
    }

    #[test]
    fn equal_keys_open_and_carry_bytes_both_ways() {
        for size in [1, 7, 100_000] {
            let (mut a, mut b) = parties(KEY);
            talk(&mut a, &mut b, size).unwrap();
            assert!(a.secure.is_open() && b.secure.is_open());
            assert_eq!((a.secure.peer_boot(), b.secure.peer_boot()), (0x62, 0x61));
            let long: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
            a.secure.seal(&long, &mut a.out).unwrap();
            b.secure.seal(b"short", &mut b.out).unwrap();
            let clear = a.out.windows(16).any(|window| window == &long[..16]);
            assert!(!clear, "nothing travels in clear");
            talk(&mut a, &mut b, size).unwrap();
            assert!(b.heard == long);
            assert_eq!(a.heard, b"short");
        }
    }

    #[test]
    fn another_key_is_named_on_both_sides() {
        let (mut a, mut b) = parties([6; KEY_LEN]);
        assert_eq!(talk(&mut a, &mut b, 100), Err(Incompatible::Key));
        assert!(!b.secure.is_open());

        let (mut a, mut b) = parties([6; KEY_LEN]);
        let first = core::mem::take(&mut b.out);
        a.hear(&first, 100).unwrap();
        let both = core::mem::take(&mut a.out);
        assert_eq!(b.hear(&both, 1000), Err(Incompatible::Key));
        let why = a.hear(&b.out, 1000).unwrap_err();
        assert_eq!(why.to_string(), "the other end refused: it has another key");
        assert_eq!(
            b.secure.receive(b"x", &mut Vec::new(), &mut Vec::new()),
            Err(Incompatible::Key)
        );
    }

    #[test]
    fn another_version_is_told_from_another_program() {
        let (mut a, _) = parties(KEY);
        let mut future = preamble(Node::B);
        future[8..12].copy_from_slice(&[0, 7, 0, 9]);
        assert_eq!(
            a.hear(&future, 100).unwrap_err().to_string(),
            "the other end speaks versions 7 to 9 of the link, this one 1 to 1"
        );
        let (mut a, _) = parties(KEY);
        assert_eq!(a.hear(b"SSH-2.0-", 1), Err(Incompatible::NotStandin));
        let (mut a, _) = parties(KEY);
        let twin = preamble(Node::A);
        assert_eq!(a.hear(&twin, 100), Err(Incompatible::SameNode(Node::A)));
    }

    #[test]
    fn altered_preamble_fails_the_handshake() {
        let (mut a, mut b) = parties(KEY);
        b.out[15] ^= 1; // one of the spare bytes: accepted by itself
        assert_eq!(talk(&mut a, &mut b, 100), Err(Incompatible::Key));
    }

    #[test]
    fn recorded_dial_played_again_does_not_open() {
        let (mut a, mut b) = parties(KEY);
        let mut recording = a.out.clone();
        let hello = core::mem::take(&mut b.out);
        a.hear(&hello, 100).unwrap();
        recording.clone_from(&a.out);
        b.hear(&recording, 1000).unwrap();
        assert!(!b.secure.is_open(), "the key exchange alone proves nothing");

        talk(&mut Party { out: Vec::new(), ..a }, &mut b, 100).unwrap();
        assert!(b.secure.is_open());
        let mut again = Party::new(End::Listener, Node::B, KEY);
        again.hear(&recording, 1000).unwrap();
        assert!(!again.secure.is_open());
    }

    #[test]
    fn corruption_ends_the_stream() {
        let (mut a, mut b) = parties(KEY);
        talk(&mut a, &mut b, 100).unwrap();
        a.secure.seal(b"hello", &mut a.out).unwrap();
        a.out[4] ^= 0x40;
        let bytes = core::mem::take(&mut a.out);
        assert_eq!(b.hear(&bytes, 1000), Err(Incompatible::Corrupt));
        assert!(b.heard.is_empty());
        let mut short = Party::new(End::Dialler, Node::A, KEY);
        talk(&mut short, &mut Party::new(End::Listener, Node::B, KEY), 50).unwrap();
        assert_eq!(short.hear(&[0, 3, 1, 2, 3], 5), Err(Incompatible::Corrupt));
    }

    #[test]
    fn keys_change_in_step() {
        let (mut a, mut b) = parties(KEY);
        a.secure.rekey_after = 3;
        b.secure.rekey_after = 3;
        talk(&mut a, &mut b, 100).unwrap();
        for n in 0..20u8 {
            a.secure.seal(&[n], &mut a.out).unwrap();
            b.secure.seal(&[n, n], &mut b.out).unwrap();
            talk(&mut a, &mut b, 100).unwrap();
        }
        assert_eq!((a.heard.len(), b.heard.len()), (40, 20));
        b.secure.rekey_after = 4;
        let mut failed = false;
        for n in 0..20u8 {
            a.secure.seal(&[n], &mut a.out).unwrap();
            failed |= talk(&mut a, &mut b, 100).is_err();
        }
        assert!(failed, "the count is what keeps the keys in step");
    }

    #[test]
    fn garbage_never_panics() {
        let mut seed = 0x9e37_79b9_u32;
        for round in 0..100 {
            let (mut a, mut b) = parties(KEY);
            if round % 2 == 0 {
                talk(&mut a, &mut b, 100).unwrap();
            }
            let mut bytes = if round % 3 == 0 { preamble(Node::B).to_vec() } else { Vec::new() };
            for _ in 0..200 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.push((seed >> 24) as u8);
            }
            let _ = a.secure.receive(&bytes, &mut Vec::new(), &mut Vec::new());
            assert!(a.heard.is_empty());
        }
    }
}
