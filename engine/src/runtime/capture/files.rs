//! The files of one capture: made, filled one after the other, closed with their statistics.
//!
//! ```text
//!   FILE       is being written            full: FILE.1 becomes FILE.2, FILE becomes FILE.1,
//!   FILE.1     the one before              and so on; the last of the ring is gone
//!   FILE.2     …
//! ```
//!
//! Nothing that is not a capture of ours is ever overwritten or renamed. A ring that an earlier run
//! left is continued, so that an engine that crashed and was started again by its supervisor neither
//! fails over its own file nor wipes out what led to the crash.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::pcapng::{self, Packet, Source, Statistics};
use super::spec::CaptureSpec;

/// Kept free at the end of each file for the statistics, bytes.
const TAIL: u64 = 1024;

/// What stands at the path of a file that is to be written.
enum Found {
    Nothing,
    Capture,
}

/// The present file and its predecessors.
#[derive(Debug)]
pub(super) struct Files {
    spec: CaptureSpec,
    file: File,
    /// Bytes in it that are whole blocks.
    length: u64,
    scratch: Vec<u8>,
}

/// What of a capture its last block tells.
pub(super) type Totals = [Statistics; Source::ALL.len()];

impl Files {
    /// Makes the first file. The error is for the person who asked.
    pub(super) fn create(spec: CaptureSpec) -> Result<Self, String> {
        for age in 1..spec.ring() {
            look(&spec.aged(age))?;
        }
        match (look(spec.file())?, spec.ring()) {
            (Found::Nothing, _) => {}
            (Found::Capture, 1) => {
                return Err(format!(
                    "{}: an earlier capture; take another name, or a ring to keep it in",
                    spec.file().display()
                ));
            }
            (Found::Capture, _) => {
                unused(spec.file())?;
                shift(&spec).map_err(|error| format!("{}: {error}", spec.file().display()))?;
            }
        }
        let failed = |error| format!("{}: {error}", spec.file().display());
        let file = create(spec.file()).map_err(failed)?;
        let mut files = Self { file, length: 0, scratch: Vec::new(), spec: spec.clone() };
        files.begin().map_err(failed)?;
        Ok(files)
    }

    /// Bytes that may still be written into the present file.
    pub(super) fn room(&self) -> u64 {
        self.spec.size().saturating_sub(self.length + TAIL)
    }

    /// Appends whole blocks. On an error none of them is there.
    pub(super) fn write(&mut self, blocks: &[u8]) -> io::Result<()> {
        let result = self.file.write_all(blocks);
        if result.is_ok() {
            self.length += blocks.len() as u64;
        } else {
            // A block that ends in its middle would make the file one that readers complain of.
            let _ = self.file.set_len(self.length);
        }
        result
    }

    /// Appends a mark.
    pub(super) fn mark(&mut self, at: u64, text: &str) -> io::Result<()> {
        let mut blocks = core::mem::take(&mut self.scratch);
        blocks.clear();
        pcapng::put_packet(&mut blocks, &mark(at, text));
        let result = self.write(&blocks);
        self.scratch = blocks;
        result
    }

    /// Closes the present file and begins the next; `false` if there is no ring.
    pub(super) fn rotate(&mut self, totals: &Totals) -> io::Result<bool> {
        if self.spec.ring() == 1 {
            return Ok(false);
        }
        self.finish(totals)?;
        shift(&self.spec)?;
        self.file = create(self.spec.file())?;
        self.begin()?;
        Ok(true)
    }

    /// The end of the present file.
    pub(super) fn finish(&mut self, totals: &Totals) -> io::Result<()> {
        let mut blocks = Vec::new();
        for statistics in totals {
            pcapng::put_statistics(&mut blocks, statistics);
        }
        self.write(&blocks)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.length = 0;
        let mut blocks = Vec::new();
        pcapng::put_header(&mut blocks);
        self.write(&blocks)
    }
}

/// A packet that stands for something that happened: no bytes, and the text as its comment. Its
/// length is the text's, since Wireshark takes a packet of no length for a broken one.
pub(super) fn mark(at: u64, text: &str) -> Packet<'_> {
    Packet {
        source: Source::Engine,
        at,
        bytes: &[],
        length: text.len().max(2),
        direction: None,
        lost: 0,
        comment: text,
    }
}

/// A new file that only its owner may read, locked against a second engine. Appended to, so that
/// after a write that failed half-way the next goes where the file was cut.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

/// What stands at `path`; an error if it is not to be touched.
fn look(path: &Path) -> Result<Found, String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let facts = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        other => other.map_err(failed)?,
    };
    let mut start = Vec::new();
    if facts.is_file() {
        let file = File::open(path).map_err(failed)?;
        file.take(64).read_to_end(&mut start).map_err(failed)?;
    }
    if pcapng::is_ours(&start) {
        Ok(Found::Capture)
    } else {
        Err(format!("{}: there is something else of that name", path.display()))
    }
}

/// Whether no engine writes the capture at `path`.
fn unused(path: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    match File::open(path).map_err(failed)?.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(format!("{}: another engine writes it", path.display()))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Every file of the ring grows older by one.
fn shift(spec: &CaptureSpec) -> io::Result<()> {
    for age in (0..spec.ring() - 1).rev() {
        match fs::rename(spec.aged(age), spec.aged(age + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

    use super::super::readback::read_file;
    use super::*;

    const TOTALS: Totals = {
        let none = Statistics { source: Source::Tun, at: 9, since: 1, seen: 0, lost: 0 };
        [
            none,
            Statistics { source: Source::Replication, ..none },
            Statistics { source: Source::Engine, seen: 3, lost: 1, ..none },
        ]
    };

    fn directory(name: &str) -> PathBuf {
        let directory =
            std::env::temp_dir().join(format!("standin-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    fn spec(file: &Path, ring: u32) -> CaptureSpec {
        CaptureSpec::new(file.to_owned(), Some(1 << 20), Some(ring)).unwrap()
    }

    #[test]
    fn a_file_is_private_and_whole_at_its_end() {
        let file = directory("private").join("c.pcapng");
        let mut files = Files::create(spec(&file, 1)).unwrap();
        files.mark(5, "role: x").unwrap();
        assert_eq!(read_file(&file).marks(), ["role: x"], "readable while it is written");
        assert!(!files.rotate(&TOTALS).unwrap(), "there is no ring");
        files.finish(&TOTALS).unwrap();
        assert_eq!(read_file(&file).statistics, TOTALS);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_ring_keeps_the_last_files_each_whole() {
        let file = directory("ring").join("c");
        let mut files = Files::create(spec(&file, 3)).unwrap();
        for at in 0..5 {
            files.mark(at, &format!("{at}")).unwrap();
            assert!(files.rotate(&TOTALS).unwrap());
        }
        let aged = |age| read_file(&spec(&file, 3).aged(age));
        assert_eq!((aged(1).marks(), aged(2).marks()), (vec!["4"], vec!["3"]));
        assert_eq!((aged(1).statistics, aged(0).packets), (TOTALS.to_vec(), vec![]));
        assert!(!spec(&file, 3).aged(3).exists());
    }

    #[test]
    fn nothing_foreign_is_touched() {
        let directory = directory("foreign");
        let file = directory.join("c");
        let refused = |ring| Files::create(spec(&file, ring)).unwrap_err();
        fs::write(&file, "a diary").unwrap();
        assert!(refused(1).ends_with("c: there is something else of that name"));
        assert!(refused(3).ends_with("c: there is something else of that name"));
        fs::rename(&file, directory.join("c.2")).unwrap();
        assert!(refused(3).ends_with("c.2: there is something else of that name"));
        assert!(!file.exists());
        Files::create(spec(&file, 2)).unwrap();
        assert_eq!(fs::read(directory.join("c.2")).unwrap(), b"a diary");
        let link = directory.join("link");
        symlink(&file, &link).unwrap();
        assert!(Files::create(spec(&link, 2)).is_err(), "a link to a capture is not one");
        assert!(Files::create(spec(&directory, 2)).is_err());
        let nowhere = Files::create(spec(&directory.join("no/c"), 1)).unwrap_err();
        assert!(nowhere.contains("No such file or directory"), "{nowhere}");
    }

    #[test]
    fn an_earlier_capture_is_kept_in_the_ring_or_refused() {
        let file = directory("earlier").join("c");
        let mut first = Files::create(spec(&file, 2)).unwrap();
        first.mark(1, "before the crash").unwrap();
        let busy = Files::create(spec(&file, 2)).unwrap_err();
        assert!(busy.ends_with("c: another engine writes it"), "{busy}");
        drop(first);
        let refused = Files::create(spec(&file, 1)).unwrap_err();
        assert!(refused.contains("an earlier capture"), "{refused}");
        Files::create(spec(&file, 2)).unwrap();
        assert_eq!(read_file(&spec(&file, 2).aged(1)).marks(), ["before the crash"]);
    }

    #[test]
    fn a_write_that_fails_leaves_a_file_of_whole_blocks() {
        let file = directory("fails").join("c");
        let mut files = Files::create(spec(&file, 1)).unwrap();
        files.mark(1, "fits").unwrap();
        let good = core::mem::replace(&mut files.file, File::open(&file).unwrap());
        assert!(files.mark(2, "does not").is_err(), "not open for writing");
        files.file = good;
        files.mark(3, "fits again").unwrap();
        assert_eq!(read_file(&file).marks(), ["fits", "fits again"]);
    }
}
