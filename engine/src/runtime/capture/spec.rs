//! What is to be captured where: `FILE[,SIZE][,RING]`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytesize::ByteSize;

/// The smallest file, bytes: it has to hold a few of the largest packets.
const SIZE_MIN: u64 = 1 << 20;
/// The largest file, bytes.
const SIZE_MAX: u64 = 1 << 40;
/// How large one file becomes that nobody gave a size.
const SIZE_DEFAULT: u64 = 1 << 30;
/// The most files of a ring.
const RING_MAX: u32 = 1000;

/// Where a capture goes and how much of it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureSpec {
    file: PathBuf,
    size: u64,
    ring: u32,
}

impl CaptureSpec {
    /// A capture into `file` of at most `size` bytes (1 MiB to 1 TiB, 1 GiB if not given), of
    /// which the last `ring` files are kept (1 to 1000, 1 if not given). The error says what is
    /// out of range.
    pub fn new(file: PathBuf, size: Option<u64>, ring: Option<u32>) -> Result<Self, String> {
        let (size, ring) = (size.unwrap_or(SIZE_DEFAULT), ring.unwrap_or(1));
        if file.file_name().is_none() {
            return Err(format!("'{}' does not name a file", file.display()));
        }
        if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
            return Err(format!(
                "a capture file has {} to {}, not {}",
                ByteSize(SIZE_MIN).display().iec(),
                ByteSize(SIZE_MAX).display().iec(),
                ByteSize(size).display().iec(),
            ));
        }
        if !(1..=RING_MAX).contains(&ring) {
            return Err(format!("a ring has 1 to {RING_MAX} files, not {ring}"));
        }
        Ok(Self { file, size, ring })
    }

    /// The file that is written.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The most bytes of one file.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// How many files are kept; with one, the capture ends when that is full.
    #[must_use]
    pub const fn ring(&self) -> u32 {
        self.ring
    }

    /// File number `age` of the ring: 0 is the one that is written, 1 the one before it, and so on.
    pub(super) fn aged(&self, age: u32) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        if age > 0 {
            name.push(format!(".{age}"));
        }
        name.into()
    }
}

impl FromStr for CaptureSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let file = parts.next().unwrap_or_default();
        let size = parts.next().map(|size| size.parse::<ByteSize>()).transpose();
        let size = size.map_err(|error| format!("the size, such as 64MiB: {error}"))?;
        let ring = parts.next().map(str::parse::<u32>).transpose();
        let ring = ring.map_err(|error| format!("the number of files in the ring: {error}"))?;
        if parts.next().is_some() {
            return Err("more than FILE,SIZE,RING (a name with a comma cannot be given)".into());
        }
        Self::new(file.into(), size.map(|size| size.as_u64()), ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, u64, u32), String> {
        let spec: CaptureSpec = text.parse()?;
        Ok((spec.file.display().to_string(), spec.size, spec.ring))
    }

    #[test]
    fn size_and_ring_may_be_left_out() {
        assert_eq!(parse("a.pcapng"), Ok(("a.pcapng".into(), 1 << 30, 1)));
        assert_eq!(parse("/x/a,64MiB"), Ok(("/x/a".into(), 64 << 20, 1)));
        assert_eq!(parse("a,1MiB,1000"), Ok(("a".into(), 1 << 20, 1000)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, why) in [
            ("", "does not name a file"),
            (",1MiB", "does not name a file"),
            ("/", "does not name a file"),
            ("a,", "the size, such as 64MiB"),
            ("a,3", "a capture file has 1.0 MiB to 1.0 TiB, not 3 B"),
            ("a,2TiB", "not 2.0 TiB"),
            ("a,much", "the size, such as 64MiB"),
            ("a,1MiB,", "the number of files in the ring"),
            ("a,1MiB,0", "a ring has 1 to 1000 files, not 0"),
            ("a,1MiB,-1", "the number of files in the ring"),
            ("a,1MiB,1001", "not 1001"),
            ("a,1MiB,2,3", "more than FILE,SIZE,RING"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn older_files_of_a_ring_are_numbered() {
        let spec: CaptureSpec = "/x/a.pcapng,1MiB,3".parse().unwrap();
        assert_eq!(spec.aged(0), Path::new("/x/a.pcapng"));
        assert_eq!(spec.aged(2), Path::new("/x/a.pcapng.2"));
    }
}
