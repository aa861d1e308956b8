//! The requests to the kernel that no safe wrapper makes.
#![expect(
    unsafe_code,
    reason = "SIOCOUTQ, IP_BIND_ADDRESS_NO_PORT and O_NONBLOCK on any descriptor have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes written to a TCP socket that its peer has not acknowledged yet (`SIOCOUTQ`, tcp(7)).
/// A FIN that was sent and not acknowledged counts as one.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed and so open; SIOCOUTQ (the same number as TIOCOUTQ)
    // writes one int, to which the pointer leads.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::try_from(bytes).unwrap_or(0)) }
}

/// Leaves the choice of the port to connect(), where it need be unique only per target, so that
/// one source address serves more than 28,000 connections (`IP_BIND_ADDRESS_NO_PORT`, ip(7); it
/// holds for IPv6 sockets too).
pub(crate) fn choose_port_late(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and so open; the option takes one int, to which the
    // pointer leads and whose size is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes reads and writes return at once (`O_NONBLOCK`, fcntl(2)).
pub(crate) fn set_nonblocking(descriptor: &impl AsRawFd) -> io::Result<()> {
    let raw = descriptor.as_raw_fd();
    // SAFETY: the descriptor is borrowed and so open; this command takes no argument.
    let flags = unsafe { libc::fcntl(raw, libc::F_GETFL) };
    // SAFETY: the descriptor is borrowed and so open; this command takes an int.
    if flags < 0 || unsafe { libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
