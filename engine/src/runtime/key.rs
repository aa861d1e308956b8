//! The pair's secret: one file, the same on both nodes.
//!
//! The file holds 32 random bytes as 64 hexadecimal characters. It is never used itself: every use
//! has its own key, derived with HKDF-SHA-256 (RFC 5869) under its own label, so that what one use
//! leaks tells nothing about another. Both nodes derive the same, which is what lets a standby go
//! on with the primary's initial sequence numbers and SYN cookies (I4).
//!
//! Secrets are wiped where they are given back, as far as they are ours (the ciphers of `ring` and
//! `snow` keep copies of what they were made of), and the process leaves no core dump:
//! [`sys::forbid_core_dumps`](super::sys::forbid_core_dumps).

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ring::hkdf;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::ids::Node;

/// Length of the secret and of everything derived from it, in bytes.
pub const KEY_LEN: usize = 32;

/// The secret that the two nodes share.
#[derive(Clone, PartialEq, Eq)]
pub struct PairKey(Zeroizing<[u8; KEY_LEN]>);

impl core::fmt::Debug for PairKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PairKey(..)")
    }
}

/// What a derived key is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The pre-shared key of the replication stream's handshake.
    Link,
    /// Datagrams sent by one run of one node.
    Beats {
        /// The sender.
        node: Node,
        /// Which run of it.
        boot: u64,
    },
    /// Initial sequence numbers, RFC 6528.
    Isn,
    /// The pair's name at the arbiter, which is no secret.
    Name,
}

impl Purpose {
    /// The HKDF `info`: distinct for distinct purposes.
    fn label(self) -> Vec<u8> {
        match self {
            Self::Link => b"link".to_vec(),
            Self::Beats { node, boot } => {
                let mut label = b"beats ".to_vec();
                label.push(node_letter(node));
                label.extend_from_slice(&boot.to_be_bytes());
                label
            }
            Self::Isn => b"isn".to_vec(),
            Self::Name => b"name".to_vec(),
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The contents have another length.
    #[error("a key is {} hexadecimal characters, this has {found}", 2 * KEY_LEN)]
    Length {
        /// Characters found, white space at the ends not counted.
        found: usize,
    },
    /// A character is no hexadecimal digit.
    #[error("character {position} of the key is not a hexadecimal digit")]
    Digit {
        /// Which one, counted from 1.
        position: usize,
    },
    /// The system's random source failed.
    #[error("the system gives no random numbers")]
    Random,
}

/// A key file as read, with what is odd about it.
#[derive(Debug)]
pub struct KeyFile {
    /// The secret.
    pub key: PairKey,
    /// The permission bits, if they let others than the owner in.
    pub loose_mode: Option<u32>,
}

impl PairKey {
    /// A fresh secret.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| KeyError::Random)?;
        Ok(Self(bytes))
    }

    /// Reads a key file.
    pub fn read(path: &Path) -> Result<KeyFile, KeyError> {
        let file_error = |error| KeyError::File { path: path.to_owned(), error };
        let file = File::open(path).map_err(file_error)?;
        let mode = file.metadata().map_err(file_error)?.permissions().mode() & 0o777;
        // A bound, should the path lead to a device or somebody's film; and room for all of it, since
        // what grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(2048));
        file.take(1024).read_to_end(&mut text).map_err(file_error)?;
        let key = Self::parse(text.trim_ascii())?;
        Ok(KeyFile { key, loose_mode: (mode & 0o077 != 0).then_some(mode) })
    }

    /// The key that `digits` spell.
    pub fn parse(digits: &[u8]) -> Result<Self, KeyError> {
        if digits.len() != 2 * KEY_LEN {
            return Err(KeyError::Length { found: digits.len() });
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (index, &digit) in digits.iter().enumerate() {
            let value = char::from(digit).to_digit(16);
            let Some(value) = value.and_then(|value| u8::try_from(value).ok()) else {
                return Err(KeyError::Digit { position: index + 1 });
            };
            key[index / 2] = key[index / 2] << 4 | value;
        }
        Ok(Self(key))
    }

    /// Writes a new key file that only its owner can read, in a directory that is made, for its owner
    /// alone, if there is none. An existing file is left alone: the peer
    /// may be running on it.
    pub fn write_new(&self, path: &Path) -> Result<(), KeyError> {
        let file_error = |error| KeyError::File { path: path.to_owned(), error };
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN + 1));
        for byte in self.0.iter() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty())
        {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(file_error)?;
        }
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(path).map_err(file_error)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)
    }

    /// The key for one purpose.
    #[must_use]
    pub fn derive(&self, purpose: Purpose) -> Zeroizing<[u8; KEY_LEN]> {
        let label = purpose.label();
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"standin 1");
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let filled = salt
            .extract(self.0.as_slice())
            .expand(&[&label], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()));
        assert!(filled.is_ok(), "RFC 5869 allows 255 blocks, and one is asked for");
        key
    }
}

/// A random number that no other run of any engine has: the boot id.
pub fn random_boot() -> Result<u64, KeyError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    // Zero means "nobody heard yet" on the wire.
    Ok(u64::from_ne_bytes(bytes).max(1))
}

/// How a node is written in one byte.
#[must_use]
pub const fn node_letter(node: Node) -> u8 {
    match node {
        Node::A => b'a',
        Node::B => b'b',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("standin-key-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_written_key_reads_back_and_is_private() {
        let file = directory("back").join("made/for/it/key");
        let key = PairKey::generate().unwrap();
        key.write_new(&file).unwrap();
        let read = PairKey::read(&file).unwrap();
        assert_eq!((read.key, read.loose_mode), (key.clone(), None));
        let made = std::fs::metadata(file.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(made & 0o777, 0o700, "and so is its directory");
        assert!(key.write_new(&file).is_err(), "an existing key is never overwritten");
    }

    #[test]
    fn loose_permissions_are_told() {
        let file = directory("loose").join("key");
        PairKey::generate().unwrap().write_new(&file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(PairKey::read(&file).unwrap().loose_mode, Some(0o640));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let text = |bytes: &[u8]| PairKey::parse(bytes).unwrap_err().to_string();
        assert_eq!(text(b"abc"), "a key is 64 hexadecimal characters, this has 3");
        let mut digits = [b'f'; 64];
        digits[10] = b'g';
        assert_eq!(text(&digits), "character 11 of the key is not a hexadecimal digit");
        assert_eq!(
            PairKey::read(Path::new("/nowhere/key")).unwrap_err().to_string(),
            "/nowhere/key: No such file or directory (os error 2)"
        );
    }

    /// Both nodes derive the same, whatever their versions.
    #[test]
    fn keys_are_derived_as_ever() {
        let key = PairKey::parse(&b"4".repeat(64)).unwrap();
        let derived = |purpose| -> String {
            key.derive(purpose).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(
            derived(Purpose::Link),
            "a3ddb8c7857d45544828a2a9f52b3fdf0bf911b86f4cba19a72de26f48104a97"
        );
        assert_eq!(
            derived(Purpose::Beats { node: Node::A, boot: 0x0102 }),
            "a4a691ff19dc1e2fdac8008f538c3b9061035379f919c3a0bad22e67b0549385"
        );
        assert_eq!(
            derived(Purpose::Isn),
            "e659b265cbaaba7550f836199d13e63eb79e86f919bf5506b4132e25c1df8eb8"
        );
        assert_eq!(
            derived(Purpose::Name),
            "23ae44595f3933f05f644caf8c4e01c2bde53ceaaca6d311bc9a8a37258ea9a8"
        );
    }

    #[test]
    fn every_purpose_has_its_own_key() {
        let key = PairKey([7; KEY_LEN].into());
        let purposes = [
            Purpose::Link,
            Purpose::Isn,
            Purpose::Beats { node: Node::A, boot: 1 },
            Purpose::Beats { node: Node::B, boot: 1 },
            Purpose::Beats { node: Node::A, boot: 2 },
        ];
        for (index, &one) in purposes.iter().enumerate() {
            assert_eq!(key.derive(one), key.derive(one), "both nodes derive the same");
            assert_ne!(key.derive(one), PairKey([8; KEY_LEN].into()).derive(one));
            for &other in &purposes[..index] {
                assert_ne!(key.derive(one), key.derive(other), "{one:?} {other:?}");
            }
        }
    }
}
