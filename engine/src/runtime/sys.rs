//! The system calls that no crate offers safely: the only `unsafe` of the engine.
//!
//! Each function wraps one call, takes and returns owned values, and reports `errno` as
//! [`io::Error`]. What the calls are *for* is told where they are used: [`super::tun`],
//! [`super::lan`] and `super::journal`. [`OsError`] is how those modules say what failed and what to do about it.
#![expect(unsafe_code, reason = "ioctl, fcntl and AF_PACKET addresses have no safe wrapper")]

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use socket2::{SockAddr, SockAddrStorage, Socket};

use crate::wire::MacAddr;

/// A system call that failed: what was attempted, why it failed, and what to do.
#[derive(Debug, thiserror::Error)]
pub struct OsError {
    /// What was attempted, as a clause: "open TUN device standin0".
    pub operation: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
    /// What usually helps, where that is known.
    pub advice: Option<&'static str>,
}

impl OsError {
    /// `operation` failed with `source`; missing privileges are explained.
    pub fn new(operation: impl Into<String>, source: io::Error) -> Self {
        let advice = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Some("needs CAP_NET_ADMIN and CAP_NET_RAW: run as root or grant both")
            }
            _ => None,
        };
        Self { operation: operation.into(), source, advice }
    }

    /// The same with `advice`, unless missing privileges already explain the failure.
    #[must_use]
    pub fn advise(mut self, advice: &'static str) -> Self {
        self.advice.get_or_insert(advice);
        self
    }

    /// Why, and what to do, without what was attempted.
    pub fn reason(&self) -> String {
        match self.advice {
            Some(advice) => format!("{} ({advice})", self.source),
            None => self.source.to_string(),
        }
    }

    /// The `errno` behind it, if it came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.reason())
    }
}

/// No core dump of this process is written, nor handed to whoever collects them: it would hold the
/// pair's secret and what clients said. Unlike a limit of zero, this also keeps a `core_pattern` that
/// is a pipe from getting one, and other processes of the same user from reading its memory.
pub fn forbid_core_dumps() -> io::Result<()> {
    let off: libc::c_ulong = 0;
    // SAFETY: the option takes one number and touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, off, off, off, off) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Memory comes in small pages: to clear a huge one takes milliseconds, in the middle of a turn.
pub fn forbid_huge_pages() -> io::Result<()> {
    let (on, off): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the option takes one number and touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, off, off, off) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// When a dying process closes a descriptor, relative to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closes {
    /// Before everything else.
    First = 768,
    /// After those, before the rest.
    Early = 512,
}

/// Moves `fd` to a number that says when the kernel closes it for a process that was killed.
///
/// It closes the highest number first (each close is pushed on the task's work list, which is run
/// from its head), and closing a TUN or a packet socket waits for grace periods, 10 to 50 ms. The
/// listener has to go before the replication stream, and that before those: the end of the stream
/// and the refusal of a new one are what tell the standby.
pub(super) fn closes(fd: OwnedFd, when: Closes) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC reads an integer and touches no memory of ours.
    let moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, when as libc::c_int) };
    if moved < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// `TUNSETIFF`: attaches `fd` (an open `/dev/net/tun`) to the device `name`, creating it if need
/// be, and returns the name that the kernel gave it. `flags` are `IFF_TUN` and friends.
pub(super) fn tun_attach(fd: impl AsFd, name: &str, flags: libc::c_int) -> io::Result<String> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "interface names have 1 to 15 bytes",
        ));
    }
    // SAFETY: ifreq is a plain C structure for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let flags = libc::c_short::try_from(flags)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "flags beyond 16 bits"))?;
    request.ifr_ifru.ifru_flags = flags;
    // SAFETY: the descriptor is open for the duration of the call, and TUNSETIFF reads and writes
    // one ifreq, which `request` is.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    // SAFETY: the array outlives the borrow, and its last byte is zero: at most 15 bytes were
    // written above, and the kernel terminates what it puts there (strscpy).
    let given = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    Ok(given.to_string_lossy().into_owned())
}

/// `TUNSETVNETHDRSZ`: every packet of the device starts with a header of `bytes` bytes.
pub(super) fn tun_set_header_len(fd: impl AsFd, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open during the call, and the ioctl reads one int.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
}

/// `TUNSETOFFLOAD`: which unfinished packets (`TUN_F_*`) the reader of the device takes.
pub(super) fn tun_set_offload(fd: impl AsFd, features: libc::c_uint) -> io::Result<()> {
    let features = libc::c_ulong::from(features);
    // SAFETY: the descriptor is open during the call; the argument is a number, not a pointer.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD, features) })
}

/// Sets `O_NONBLOCK`.
pub(super) fn set_nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: `fd` is borrowed from its owner and therefore open; F_GETFL takes no argument.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    check(flags)?;
    // SAFETY: as above; F_SETFL takes an int.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// The `AF_PACKET` address of all protocols on the interface with number `index`.
pub(super) fn packet_address(index: u32) -> io::Result<SockAddr> {
    let index = libc::c_int::try_from(index)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "interface index out of range"))?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the platform's address types, smaller than the storage, and
    // all zeros is a valid value of it.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let len = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the family and the length are those of the sockaddr_ll just written.
    Ok(unsafe { SockAddr::new(storage, len) })
}

/// The same, to send an IP packet to the host with `mac`.
pub(super) fn packet_address_to(index: u32, mac: MacAddr, ipv6: bool) -> io::Result<SockAddr> {
    let index = libc::c_int::try_from(index)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "interface index out of range"))?;
    let protocol = if ipv6 { libc::ETH_P_IPV6 } else { libc::ETH_P_IP };
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: as in `packet_address`.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = (protocol as u16).to_be();
    address.sll_ifindex = index;
    address.sll_halen = mac.0.len() as libc::c_uchar;
    address.sll_addr[..mac.0.len()].copy_from_slice(&mac.0);
    let len = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the family and the length are those of the sockaddr_ll just written.
    Ok(unsafe { SockAddr::new(storage, len) })
}

/// `PACKET_IGNORE_OUTGOING`: a packet socket does not see what this host sends (Linux 4.20).
pub(super) fn ignore_outgoing(socket: &Socket) -> io::Result<()> {
    const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
    let on: libc::c_int = 1;
    // SAFETY: the socket is open, and the option is an int, whose address and size are passed.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    })
}

/// `SO_NETNS_COOKIE` (Linux 5.14): a number that no other network namespace of this boot has or had.
pub(super) fn namespace_cookie() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut cookie: u64 = 0;
    let mut len = mem::size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel writes at most the eight bytes of `cookie`.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    })?;
    Ok(cookie)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_privileges_are_explained() {
        let error = OsError::new("open it", io::Error::from_raw_os_error(libc::EPERM));
        let text = error.advise("is it in use?").to_string();
        assert!(text.starts_with("cannot open it: "), "{text}");
        assert!(text.contains("CAP_NET_ADMIN") && !text.contains("in use"), "{text}");
    }

    #[test]
    fn a_name_that_is_no_interface_name_is_refused_before_the_kernel_sees_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        for name in ["", "sixteen-bytes-xx", "a\0b"] {
            let error = tun_attach(&file, name, 0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }
}
