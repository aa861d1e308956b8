//! Kernel settings under `/proc/sys/net`, of the network namespace that the engine runs in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sys::OsError;

/// What to do about settings that cannot be written here.
const READ_ONLY: &str = "/proc/sys cannot be written here: give it that value from outside, with sysctl \
     on the host or the container's sysctl option";

/// The setting `key` of IPv4 on `interface` (`all` and `default` are interfaces here).
pub(super) fn ipv4(interface: &str, key: &str) -> PathBuf {
    path("ipv4/conf", interface, key)
}

/// The setting `key` of IPv6 on `interface`.
pub(super) fn ipv6(interface: &str, key: &str) -> PathBuf {
    path("ipv6/conf", interface, key)
}

/// How many bytes of packets the kernel keeps for each neighbour on `interface` while it asks for its
/// MAC address.
pub(super) fn unresolved_bytes(family: &str, interface: &str) -> PathBuf {
    path(&format!("{family}/neigh"), interface, "unres_qlen_bytes")
}

/// Path by path component: interface names may contain dots (`eth0.10`), which the dotted
/// notation of sysctl(8) would split.
fn path(table: &str, interface: &str, key: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(table).join(interface).join(key)
}

/// Reads a setting, without its line end.
pub(super) fn read(path: &Path) -> Result<String, OsError> {
    match fs::read_to_string(path) {
        Ok(value) => Ok(value.trim_end().to_owned()),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Sees to it that a setting has `value`, and writes it only if it has another: where settings are
/// read-only, as in containers, they may have been given the right ones from outside.
pub(super) fn write(path: &Path, value: &str) -> Result<(), OsError> {
    let current = read(path)?;
    if current == value {
        return Ok(());
    }
    fs::write(path, value).map_err(|error| {
        let name = name(path);
        let operation = format!("set {name} to {value} (it is {current})");
        let mut failed = OsError::new(operation, error);
        if matches!(failed.errno(), Some(libc::EROFS | libc::EACCES | libc::EPERM)) {
            // Root has this refused, too, where /proc/sys is mounted read-only.
            failed.advice = Some(READ_ONLY);
        }
        failed
    })
}

/// The setting as sysctl(8) and the options of container managers name it.
pub(super) fn name(path: &Path) -> String {
    let inside = path.strip_prefix("/proc/sys").unwrap_or(path).to_string_lossy().into_owned();
    if inside.contains('.') { inside } else { inside.replace('/', ".") }
}

/// The interfaces that have IPv6 settings, without `all` and `default`, sorted.
pub(super) fn ipv6_interfaces() -> Result<Vec<String>, OsError> {
    let directory = Path::new("/proc/sys/net/ipv6/conf");
    let listed = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string());
        }
        names.retain(|name| name != "all" && name != "default");
        names.sort();
        Ok(names)
    };
    listed().map_err(|error| {
        failed("list", directory, error)
            .advise("is IPv6 disabled? an IPv6 service address needs it")
    })
}

fn failed(verb: &str, path: &Path, error: io::Error) -> OsError {
    OsError::new(format!("{verb} {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_with_a_dot_stays_one_component() {
        let path = ipv6("eth0.10", "accept_ra");
        assert_eq!(path, Path::new("/proc/sys/net/ipv6/conf/eth0.10/accept_ra"));
    }

    #[test]
    fn settings_are_called_what_sysctl_calls_them() {
        assert_eq!(name(&ipv4("eth0", "forwarding")), "net.ipv4.conf.eth0.forwarding");
        assert_eq!(name(&ipv4("eth0.10", "forwarding")), "net/ipv4/conf/eth0.10/forwarding");
    }

    #[test]
    fn a_missing_setting_is_named() {
        let error = read(&ipv4("no-such-interface", "forwarding")).unwrap_err();
        assert!(error.to_string().contains("conf/no-such-interface/forwarding"), "{error}");
    }
}
