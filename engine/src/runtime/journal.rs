//! The undo journal: what the engine changed on this host, and how it was before.
//!
//! A small text file that is written *before* each change and removed after all are undone, so a
//! crash at any point leaves enough to restore the original values at the next start:
//!
//! ```text
//! standin-undo 1 <boot id> <network namespace>
//! address  10.77.0.100
//! setting  0  1  /proc/sys/net/ipv4/conf/eth0/forwarding
//! ```
//!
//! (fields are separated by tabs; a setting's are its old value, its new value and its path). The
//! first line ties the file to one boot and one network namespace: elsewhere the changes it tells
//! of do not exist, and it is void. A setting that has another value than the new one was changed
//! by somebody since, or not yet by us, and is left alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::sys::OsError;
use super::sysctl;

/// Settings live here, and a journal that names other files is not followed.
const SETTINGS_ROOT: &str = "/proc/sys/net/";
/// More than this was not written by us (there are some ten settings and a few addresses).
const ENTRIES_MAX: usize = 4096;

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Entry {
    /// Routes and rules for this address exist.
    Address(IpAddr),
    /// The setting at `path` was `old` and is to be `new`.
    Setting { old: String, new: String, path: PathBuf },
}

/// The journal of one engine.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    entries: Vec<Entry>,
    file: Option<File>,
}

impl Journal {
    /// Opens the journal at `path` with what a crash may have left in it.
    pub(super) fn open(path: &Path) -> Result<Self, OsError> {
        let entries = match fs::read_to_string(path) {
            Ok(text) => parse(&text, &identity()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read", path, error)),
        };
        Ok(Self { path: path.to_owned(), entries, file: None })
    }

    /// Nothing is to be undone.
    pub(super) const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The addresses that may have routes and rules of ours.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Address(address) => Some(*address),
            Entry::Setting { .. } => None,
        })
    }

    /// Remembers that routes and rules for `address` are about to be made.
    pub(super) fn note_address(&mut self, address: IpAddr) -> Result<(), OsError> {
        self.append(Entry::Address(address))
    }

    /// Changes a setting to `new` and remembers what it was. One that has the value already is
    /// not ours to undo.
    pub(super) fn set(&mut self, path: PathBuf, new: &str) -> Result<(), OsError> {
        let old = sysctl::read(&path)?;
        if old == new {
            return Ok(());
        }
        self.append(Entry::Setting { old, new: new.to_owned(), path: path.clone() })?;
        sysctl::write(&path, new)
    }

    /// Remembers a value that the next change will overwrite by side effect, and that undoing that
    /// change will leave at `new`.
    pub(super) fn note_own_value(&mut self, path: PathBuf, new: &str) -> Result<(), OsError> {
        let old = sysctl::read(&path)?;
        self.append(Entry::Setting { old, new: new.to_owned(), path })
    }

    /// Restores every setting, latest first, and removes the file. On an error the rest is still
    /// restored, and the file stays for another attempt.
    pub(super) fn undo(&mut self) -> Result<(), OsError> {
        let mut outcome = Ok(());
        for entry in self.entries.iter().rev() {
            if let Entry::Setting { old, new, path } = entry {
                outcome = outcome.and(restore(path, old, new));
            }
        }
        outcome?;
        self.entries.clear();
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &self.path, error))
            }
            _ => Ok(()),
        }
    }

    fn append(&mut self, entry: Entry) -> Result<(), OsError> {
        let line = to_line(&entry);
        let written = self.file().and_then(|mut file| file.write_all(line.as_bytes()));
        written.map_err(|error| failed("write", &self.path, error))?;
        self.entries.push(entry);
        Ok(())
    }

    /// The file, begun anew at the first change: what was in it has been undone by then.
    fn file(&mut self) -> io::Result<&File> {
        if self.file.is_none() {
            if let Some(directory) = self.path.parent() {
                fs::create_dir_all(directory)?;
            }
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(true).mode(0o600);
            let mut file = options.open(&self.path)?;
            let identity = identity().map_err(|error| error.source)?;
            file.write_all(format!("{identity}\n").as_bytes())?;
            self.file = Some(file);
        }
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The first line of a journal of this boot and this network namespace.
fn identity() -> Result<String, OsError> {
    let boot = sysctl::read(Path::new("/proc/sys/kernel/random/boot_id"))?;
    let namespace = Path::new("/proc/self/ns/net");
    let target = fs::read_link(namespace).map_err(|error| failed("read", namespace, error))?;
    Ok(format!("standin-undo 1 {boot} {}", target.display()))
}

fn to_line(entry: &Entry) -> String {
    match entry {
        Entry::Address(address) => format!("address\t{address}\n"),
        Entry::Setting { old, new, path } => {
            format!("setting\t{old}\t{new}\t{}\n", path.display())
        }
    }
}

/// The entries of a journal whose first line is `identity`; none if it is another's. A last line
/// without its end was being written when the engine died, and its change was not yet made.
fn parse(text: &str, identity: &str) -> Vec<Entry> {
    let Some(entries) = text.strip_prefix(identity).and_then(|rest| rest.strip_prefix('\n')) else {
        return Vec::new();
    };
    let lines = entries.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.filter_map(parse_line).take(ENTRIES_MAX).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut fields = line.split('\t');
    let entry = match fields.next()? {
        "address" => Entry::Address(fields.next()?.parse().ok()?),
        "setting" => {
            let (old, new) = (fields.next()?.to_owned(), fields.next()?.to_owned());
            let path = fields.next()?;
            let inside = path.starts_with(SETTINGS_ROOT) && !path.contains("..");
            Entry::Setting { old, new, path: inside.then(|| path.into())? }
        }
        _ => return None,
    };
    fields.next().is_none().then_some(entry)
}

/// Sets `path` from `new` back to `old`. It may be gone together with its interface.
fn restore(path: &Path, old: &str, new: &str) -> Result<(), OsError> {
    match sysctl::read(path) {
        Ok(current) if current == new => sysctl::write(path, old),
        Err(error) if error.source.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(verb: &str, path: &Path, error: io::Error) -> OsError {
    OsError::new(format!("{verb} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let path = "/proc/sys/net/ipv4/conf/eth0.10/forwarding".into();
        vec![
            Entry::Address("fd77::100".parse().unwrap()),
            Entry::Setting { old: "0".to_owned(), new: "1".to_owned(), path },
        ]
    }

    fn text(identity: &str) -> String {
        let lines: String = entries().iter().map(to_line).collect();
        format!("{identity}\n{lines}")
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(parse(&text("standin-undo 1 boot ns"), "standin-undo 1 boot ns"), entries());
    }

    #[test]
    fn a_journal_of_another_boot_or_namespace_is_void() {
        assert_eq!(parse(&text("standin-undo 1 boot ns"), "standin-undo 1 boot other"), []);
        assert_eq!(parse(&text("standin-undo 1 boot nsx"), "standin-undo 1 boot ns"), []);
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_passed_over() {
        let text = text("id");
        assert_eq!(parse(&text[..text.len() - 1], "id"), entries()[..1]);
    }

    #[test]
    fn files_that_are_no_network_settings_are_never_touched() {
        for path in ["/etc/passwd", "/proc/sys/net/../kernel/panic", "/proc/sys/vm/swappiness"] {
            assert_eq!(parse_line(&format!("setting\t0\t1\t{path}")), None, "{path}");
        }
    }
}
