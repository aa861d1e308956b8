//! What the engines changed on this host, how it was before, and which of them live on it.
//!
//! Several pairs may share a host, and they need the same settings. So what was changed is noted once
//! for the host, each engine says which settings it needs, and the last one that needs a setting
//! restores it. A directory, one for each network namespace, holds it:
//!
//! ```text
//! lock                 held while anything below is changed
//! settings             standin-settings 1 <boot id> <network namespace>
//!                      setting  ipv4 eth0  0  1  /proc/sys/net/ipv4/conf/eth0/forwarding
//! standin0.user        standin-user 1 <boot id> <network namespace>
//!                      address  10.77.0.100
//!                      needs    ipv4 eth0
//! ```
//!
//! (fields are separated by tabs; a setting's are the group by which it is needed, its old value, its
//! new value and its path). A user's file is named after its TUN device and locked while the engine
//! lives: the kernel lets go of the lock when a process dies, however it dies. What the dead left
//! counts for nothing, except that it tells what else is to be cleaned up.
//!
//! Everything is written *before* the change it tells of, so a crash at any point leaves enough to
//! restore the original values. The first line ties a file to one boot and one network namespace:
//! elsewhere the changes it tells of do not exist, and it is void. A setting that has another value
//! than the new one was changed by somebody since, or not yet by us, and is left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::sys::{self, OsError};
use super::sysctl;

/// Settings live here, and a journal that names other files is not followed.
const SETTINGS_ROOT: &str = "/proc/sys/net/";
/// More than this was not written by us (there are some ten settings and a few addresses).
const ENTRIES_MAX: usize = 4096;
/// The lock is held for the time of a few dozen system calls. Who holds it longer stands still.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_POLL: Duration = Duration::from_millis(5);
/// The end of the name of a user's file.
const USER: &str = ".user";

/// One changed setting: the one at `path` was `old` and is to be `new` while anybody needs `group`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    group: String,
    old: String,
    new: String,
    path: PathBuf,
}

/// What one engine says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct User {
    /// The name of its TUN device.
    pub(super) name: String,
    /// The addresses for which it has routes and rules.
    pub(super) addresses: Vec<IpAddr>,
    needs: Vec<String>,
}

/// The journal of this host, in the hands of one engine.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    own: User,
    /// The own file, locked; none when there is nothing to be undone.
    claim: Option<File>,
    /// While [`Self::lock`] is held: the lock, and what `settings` says.
    session: Option<(File, Vec<Entry>)>,
}

impl Journal {
    /// The journal below `base` for the engine whose TUN device is called `name`.
    pub(super) fn open(base: &Path, name: &str) -> Result<Self, OsError> {
        let directory = base.join(format!("net-{}", namespace()?));
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&directory).map_err(|error| failed("create", &directory, error))?;
        let own = User { name: name.to_owned(), ..User::default() };
        Ok(Self { directory, own, claim: None, session: None })
    }

    /// Waits until no other engine changes anything, and keeps them off until [`Self::unlock`].
    pub(super) fn lock(&mut self) -> Result<(), OsError> {
        let path = self.directory.join("lock");
        let file = open(&path).map_err(|error| failed("open", &path, error))?;
        let mut waited = Duration::ZERO;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if waited < LOCK_PATIENCE => {
                    thread::sleep(LOCK_POLL);
                    waited += LOCK_POLL;
                }
                Err(error) => {
                    return Err(failed("lock", &path, error.into())
                        .advise("another engine on this host holds it and stands still"));
                }
            }
        }
        let entries = read(&self.directory.join("settings"), &identity("settings")?, to_entry)?;
        self.session = Some((file, entries));
        Ok(())
    }

    /// Lets the others change things.
    pub(super) fn unlock(&mut self) {
        self.session = None;
    }

    /// Becomes a user of this host, and returns what an engine of this name that died left behind.
    pub(super) fn begin(&mut self) -> Result<Option<User>, OsError> {
        let path = self.user_path(&self.own.name);
        let left = read_user(&path, &self.own.name)?;
        let mut file = open(&path).map_err(|error| failed("open", &path, error))?;
        file.try_lock().map_err(|error| {
            failed("lock", &path, error.into()).advise("another engine uses that TUN device")
        })?;
        let line = format!("{}\n", identity("user")?);
        file.set_len(0)
            .and_then(|()| file.write_all(line.as_bytes()))
            .map_err(|error| failed("write", &path, error))?;
        self.claim = Some(file);
        Ok(left)
    }

    /// Whether there is something to be undone.
    pub(super) const fn is_begun(&self) -> bool {
        self.claim.is_some()
    }

    /// The other engines: those that live, and those that died and left something.
    pub(super) fn others(&self) -> Result<(Vec<User>, Vec<User>), OsError> {
        let listed = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for file in fs::read_dir(&self.directory)? {
                names.extend(file?.file_name().into_string());
            }
            names.sort();
            Ok(names)
        };
        let names = listed().map_err(|error| failed("list", &self.directory, error))?;
        let (mut live, mut dead) = (Vec::new(), Vec::new());
        for name in names.iter().filter_map(|name| name.strip_suffix(USER)) {
            if name == self.own.name {
                continue;
            }
            let path = self.user_path(name);
            let Some(user) = read_user(&path, name)? else { continue };
            let file = File::open(&path).map_err(|error| failed("open", &path, error))?;
            let held = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if held { live.push(user) } else { dead.push(user) }
        }
        Ok((live, dead))
    }

    /// Remembers that routes and rules for `address` are about to be made.
    pub(super) fn note_address(&mut self, address: IpAddr) -> Result<(), OsError> {
        self.say(&format!("address\t{address}\n"))?;
        self.own.addresses.push(address);
        Ok(())
    }

    /// Says that the settings of `group` must stay as they are to be.
    pub(super) fn need(&mut self, group: &str) -> Result<(), OsError> {
        if !self.own.needs.iter().any(|own| own == group) {
            self.say(&format!("needs\t{group}\n"))?;
            self.own.needs.push(group.to_owned());
        }
        Ok(())
    }

    /// Changes a setting to `new` while anybody needs `group`, and remembers what it was. One that
    /// has the value already, and not from an engine, is nobody's to undo.
    pub(super) fn set(&mut self, group: &str, path: PathBuf, new: &str) -> Result<(), OsError> {
        self.need(group)?;
        let old = sysctl::read(&path)?;
        if old == new {
            return Ok(());
        }
        if !self.has(&path) {
            self.append(Entry {
                group: group.to_owned(),
                old,
                new: new.to_owned(),
                path: path.clone(),
            })?;
        }
        sysctl::write(&path, new)
    }

    /// Remembers a value that the next change will overwrite by side effect, and that undoing that
    /// change will leave at `new`.
    pub(super) fn note_own_value(
        &mut self,
        group: &str,
        path: PathBuf,
        new: &str,
    ) -> Result<(), OsError> {
        if self.has(&path) {
            return Ok(());
        }
        let old = sysctl::read(&path)?;
        self.append(Entry { group: group.to_owned(), old, new: new.to_owned(), path })
    }

    /// Whether an engine, this or another, has changed the setting at `path`.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.entries().iter().any(|entry| entry.path == path)
    }

    /// Restores what nobody who lives needs any more, latest first. On an error the rest is still
    /// restored, and what could not be is kept for another attempt.
    pub(super) fn restore_unneeded(&mut self) -> Result<(), OsError> {
        let (live, _) = self.others()?;
        let needed = |group: &String| {
            self.own.needs.contains(group) || live.iter().any(|user| user.needs.contains(group))
        };
        let mut outcome = Ok(());
        let mut kept = Vec::new();
        for entry in self.entries().iter().rev() {
            if needed(&entry.group) {
                kept.push(entry.clone());
            } else if self.is_overruled(entry) {
                log::info!("{} stays on: all interfaces forward now", sysctl::name(&entry.path));
            } else if let Err(error) = restore(entry) {
                kept.push(entry.clone());
                outcome = outcome.and(Err(error));
            }
        }
        kept.reverse();
        if kept.len() < self.entries().len() {
            self.replace(kept)?;
        }
        outcome
    }

    /// Whether somebody has since switched on for all interfaces what was noted to be off for all, and
    /// what the engines had switched on for one: it is one of all.
    fn is_overruled(&self, entry: &Entry) -> bool {
        let all = sysctl::ipv4("all", "forwarding");
        let is_one = entry.path != all
            && entry.path.starts_with("/proc/sys/net/ipv4/conf")
            && entry.path.ends_with("forwarding");
        is_one
            && self.entries().iter().any(|noted| noted.path == all && noted.old == "0")
            && sysctl::read(&all).is_ok_and(|value| value == entry.new)
    }

    /// Is no user of this host any more: what it alone needed is restored. The own file goes when
    /// all is done.
    pub(super) fn end(&mut self) -> Result<(), OsError> {
        self.own.needs.clear();
        self.restore_unneeded()?;
        self.forget(&self.own.name)?;
        self.own.addresses.clear();
        self.claim = None;
        Ok(())
    }

    /// Forgets an engine that died, when what it left is gone.
    pub(super) fn forget(&self, name: &str) -> Result<(), OsError> {
        remove(&self.user_path(name))
    }

    fn user_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{USER}"))
    }

    fn entries(&self) -> &[Entry] {
        self.session.as_ref().map_or(&[], |(_, entries)| entries)
    }

    /// Adds a line to the own file.
    fn say(&self, line: &str) -> Result<(), OsError> {
        let path = self.user_path(&self.own.name);
        let mut file = self
            .claim
            .as_ref()
            .ok_or_else(|| failed("write", &path, io::ErrorKind::NotFound.into()))?;
        file.write_all(line.as_bytes()).map_err(|error| failed("write", &path, error))
    }

    fn append(&mut self, entry: Entry) -> Result<(), OsError> {
        let mut entries = self.entries().to_vec();
        entries.push(entry);
        self.replace(entries)
    }

    /// Writes the settings anew, whole or not at all.
    fn replace(&mut self, entries: Vec<Entry>) -> Result<(), OsError> {
        let path = self.directory.join("settings");
        if entries.is_empty() {
            remove(&path)?;
        } else {
            let mut text = format!("{}\n", identity("settings")?);
            text.extend(entries.iter().map(to_line));
            let draft = self.directory.join("settings.new");
            let mut options = OpenOptions::new();
            options.create(true).write(true).truncate(true).mode(0o600);
            options
                .open(&draft)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .and_then(|()| fs::rename(&draft, &path))
                .map_err(|error| failed("write", &path, error))?;
        }
        if let Some((_, current)) = &mut self.session {
            *current = entries;
        }
        Ok(())
    }
}

/// Opens a file for reading and appending; it is made if it is not there.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

/// What tells this network namespace from every other of this boot. The number of its file may be
/// given anew when it is gone; its cookie (Linux 5.14) is not.
fn namespace() -> Result<String, OsError> {
    let link = Path::new("/proc/self/ns/net");
    let target = fs::read_link(link).map_err(|error| failed("read", link, error))?;
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let number = digits(&target.to_string_lossy());
    Ok(match sys::namespace_cookie() {
        Ok(cookie) => format!("{number}-{cookie}"),
        Err(_) => number,
    })
}

/// The first line of a file of this boot and this network namespace.
fn identity(kind: &str) -> Result<String, OsError> {
    let boot = sysctl::read(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(format!("standin-{kind} 1 {boot} {}", namespace()?))
}

fn read<T>(
    path: &Path,
    identity: &str,
    parse_line: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, OsError> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(parse(&text, identity, parse_line)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// What the file at `path` says of the engine `name`; none if there is no such file of this boot
/// and namespace.
fn read_user(path: &Path, name: &str) -> Result<Option<User>, OsError> {
    let lines = read(path, &identity("user")?, |line| Some(line.to_owned()))?;
    if lines.is_empty() {
        return Ok(None);
    }
    let mut user = User { name: name.to_owned(), ..User::default() };
    for line in lines {
        match line.split_once('\t') {
            Some(("address", address)) => user.addresses.extend(address.parse::<IpAddr>()),
            Some(("needs", group)) => user.needs.push(group.to_owned()),
            _ => {}
        }
    }
    Ok(Some(user))
}

/// The lines of a file whose first one is `identity`; none if it is another's. A last line without
/// its end was being written when the engine died, and its change was not yet made.
fn parse<T>(text: &str, identity: &str, parse_line: impl Fn(&str) -> Option<T>) -> Vec<T> {
    let Some(entries) = text.strip_prefix(identity).and_then(|rest| rest.strip_prefix('\n')) else {
        return Vec::new();
    };
    let lines = entries.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.filter_map(parse_line).take(ENTRIES_MAX).collect()
}

fn to_line(entry: &Entry) -> String {
    let Entry { group, old, new, path } = entry;
    format!("setting\t{group}\t{old}\t{new}\t{}\n", path.display())
}

fn to_entry(line: &str) -> Option<Entry> {
    let mut fields = line.split('\t').map(str::to_owned);
    if fields.next()? != "setting" {
        return None;
    }
    let (group, old, new) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.next()?;
    let inside = path.starts_with(SETTINGS_ROOT) && !path.contains("..");
    let entry = Entry { group, old, new, path: inside.then(|| path.into())? };
    fields.next().is_none().then_some(entry)
}

/// Sets a setting back. It may be gone together with its interface.
fn restore(entry: &Entry) -> Result<(), OsError> {
    match sysctl::read(&entry.path) {
        Ok(current) if current == entry.new => sysctl::write(&entry.path, &entry.old),
        Err(error) if error.source.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), OsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn failed(verb: &str, path: &Path, error: io::Error) -> OsError {
    OsError::new(format!("{verb} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let path = "/proc/sys/net/ipv4/conf/eth0.10/forwarding".into();
        Entry { group: "ipv4 eth0.10".to_owned(), old: "0".to_owned(), new: "1".to_owned(), path }
    }

    fn text(identity: &str) -> String {
        format!("{identity}\n{0}{0}", to_line(&entry()))
    }

    #[test]
    fn what_was_written_is_read_back() {
        let identity = "standin-settings 1 boot ns";
        assert_eq!(parse(&text(identity), identity, to_entry), [entry(), entry()]);
    }

    #[test]
    fn a_journal_of_another_boot_or_namespace_is_void() {
        let void = |theirs, ours| parse(&text(theirs), ours, to_entry).is_empty();
        assert!(void("standin-settings 1 boot ns", "standin-settings 1 boot other"));
        assert!(void("standin-settings 1 boot nsx", "standin-settings 1 boot ns"));
    }

    #[test]
    fn a_line_cut_short_by_a_crash_is_passed_over() {
        let text = text("id");
        assert_eq!(parse(&text[..text.len() - 1], "id", to_entry), [entry()]);
    }

    #[test]
    fn files_that_are_no_network_settings_are_never_touched() {
        for path in ["/etc/passwd", "/proc/sys/net/../kernel/panic", "/proc/sys/vm/swappiness"] {
            assert_eq!(to_entry(&format!("setting\tgroup\t0\t1\t{path}")), None, "{path}");
        }
    }
}
