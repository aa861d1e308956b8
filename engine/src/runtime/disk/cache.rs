//! What is known of contents, on disk, so that a node that was restarted need not read everything
//! again.
//!
//! ```text
//!   "standin digests\n" | version 4 | count 4 | count × entry | BLAKE3 of all that 32
//!   entry: device 8, inode 8, length 8, modified 8, changed 8, hash 32; little-endian
//! ```
//!
//! A writer of this file decides what counts as compared. So a file that others than the
//! engine's user may write to is not read; nor is one that is cut short, or damaged. All that
//! follows is that contents are hashed again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::digests::{DIGESTS_MAX, Digests, Hash};
use super::stamp::Stamp;
use super::sys;

const NAME: &[u8; 16] = b"standin digests\n";
const VERSION: u32 = 1;
const HEAD: usize = 16 + 4 + 4;
const ENTRY: usize = 5 * 8 + 32;
const SUM: usize = 32;

/// Reads what an earlier run has written. Returns how many hashes that were.
pub(super) fn load(path: &Path, digests: &Digests) -> io::Result<usize> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.uid() != sys::user() || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it"));
    }
    let mut bytes = Vec::new();
    file.take(longest() as u64 + 1).read_to_end(&mut bytes)?;
    let entries = decode(&bytes).ok_or_else(|| io::Error::other("it is damaged"))?;
    let count = entries.len();
    for (stamp, hash) in entries {
        digests.learn(stamp, Some(hash));
    }
    Ok(count)
}

/// Writes everything that is known in place of what was there.
pub(super) fn save(path: &Path, digests: &Digests) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(&encode(&digests.all()))?;
    drop(file);
    fs::rename(new, path)
}

const fn longest() -> usize {
    HEAD + DIGESTS_MAX * ENTRY + SUM
}

fn encode(entries: &[(Stamp, Hash)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + entries.len() * ENTRY + SUM);
    bytes.extend_from_slice(NAME);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (Stamp { device, inode, length, modified, changed }, hash) in entries {
        for number in [device, inode, length, modified, changed] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(hash);
    }
    let sum = blake3::hash(&bytes);
    bytes.extend_from_slice(sum.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<(Stamp, Hash)>> {
    let (said, sum) = bytes.split_last_chunk::<SUM>()?;
    let rest = said.strip_prefix(NAME)?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(*count) as usize;
    let sound = u32::from_le_bytes(*version) == VERSION
        && count <= DIGESTS_MAX
        && rest.len() == count * ENTRY
        && blake3::hash(said).as_bytes() == sum;
    if !sound {
        return None;
    }
    rest.chunks_exact(ENTRY).map(entry).collect()
}

fn entry(bytes: &[u8]) -> Option<(Stamp, Hash)> {
    let (numbers, hash) = bytes.split_last_chunk::<32>()?;
    let mut numbers = numbers.chunks_exact(8).map(|number| {
        number.first_chunk().map_or(0, |number: &[u8; 8]| u64::from_le_bytes(*number))
    });
    let mut next = || numbers.next();
    let stamp = Stamp {
        device: next()?,
        inode: next()?,
        length: next()?,
        modified: next()?,
        changed: next()?,
    };
    Some((stamp, *hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    fn some() -> Digests {
        let digests = Digests::default();
        for n in 0..100 {
            let stamp =
                Stamp { device: n, inode: n << 40, length: 3, modified: u64::MAX, changed: 5 };
            digests.learn(stamp, Some([n as u8; 32]));
        }
        digests
    }

    fn place(name: &str) -> PathBuf {
        let name = format!("standin-cache-{}-{name}", std::process::id());
        let place = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        place.join("a.digests")
    }

    fn loaded(path: &Path) -> io::Result<usize> {
        load(path, &Digests::default())
    }

    #[test]
    fn what_was_known_is_known_again() {
        let (path, known) = (place("again"), some());
        assert_eq!(loaded(&path).unwrap(), 0, "the first time");
        save(&path, &known).unwrap();
        save(&path, &known).unwrap();
        let again = Digests::default();
        assert_eq!(load(&path, &again).unwrap(), 100);
        let sorted = |digests: &Digests| {
            let mut all = digests.all();
            all.sort_by_key(|(stamp, _)| stamp.device);
            all
        };
        assert_eq!(sorted(&again), sorted(&known));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let (path, sound) = (place("damaged"), encode(&some().all()));
        let huge = {
            let mut bytes = sound[..sound.len() - SUM].to_vec();
            bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
            let sum = blake3::hash(&bytes);
            bytes.extend_from_slice(sum.as_bytes());
            bytes
        };
        let mut flipped = Vec::new();
        for at in [0, 16, 20, 24, 60, 100, sound.len() - 1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            flipped.push(bytes);
        }
        let cut =
            [0, 1, 16, 24, 55, 56, 100, sound.len() - 1].map(|length| sound[..length].to_vec());
        let longer = [&sound[..], &[0]].concat();
        for bytes in flipped.into_iter().chain(cut).chain([longer, huge, vec![0xff; 10_000]]) {
            fs::write(&path, &bytes).unwrap();
            let error = loaded(&path).expect_err("not believed");
            assert_eq!(error.to_string(), "it is damaged");
        }
    }

    #[test]
    fn what_others_may_have_written_is_not_read() {
        let path = place("others");
        save(&path, &some()).unwrap();
        for mode in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(loaded(&path).is_err(), "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(loaded(&path).unwrap(), 100);
        let link = path.with_extension("link");
        symlink(&path, &link).unwrap();
        assert!(loaded(&link).is_err(), "nor where a link leads");
        assert!(loaded(path.parent().unwrap()).is_err(), "nor a directory");
    }
}
