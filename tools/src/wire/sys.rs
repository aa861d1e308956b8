//! The requests to the kernel that no safe wrapper makes: packet sockets, and frames in batches.
#![expect(unsafe_code, reason = "packet sockets and the mmsg calls have no safe wrapper")]

use std::ffi::CString;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Frames moved by one call.
pub(super) const BATCH: usize = 64;
/// Ethernet header and a VLAN tag.
const HEADERS: usize = 14 + 4;
/// Receive buffer asked of the kernel: some milliseconds of a gigabit, should this program wait.
const SOCKET_BUFFER: libc::c_int = 8 << 20;

/// What the kernel said about a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// A frame as it would be on a wire.
    Whole,
    /// Longer than the interface's MTU: several segments that the interface was to cut.
    Oversized,
    /// Its checksum was left for the interface to compute.
    Unfinished,
}

/// A packet socket that sees every frame arriving at interface `name`, and the length of the
/// longest such frame.
pub(super) fn open(name: &str) -> io::Result<(OwnedFd, usize)> {
    // SAFETY: no pointers are passed.
    let socket = unsafe {
        // Protocol 0: nothing is queued before the socket is bound to the interface.
        libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0)
    };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let raw = socket.as_raw_fd();
    let index = interface_index(name)?;
    set(raw, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    set(raw, libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
    // Without the right to exceed the limit the kernel's own bound holds.
    if set(raw, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &SOCKET_BUFFER).is_err() {
        set(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, &SOCKET_BUFFER)?;
    }
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut membership: libc::packet_mreq = unsafe { zeroed() };
    membership.mr_ifindex = index;
    membership.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
    set(raw, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
    bind(raw, index)?;
    Ok((socket, mtu(raw, name)? + HEADERS))
}

fn interface_index(name: &str) -> io::Result<libc::c_int> {
    let name = CString::new(name)?;
    // SAFETY: the string ends with a zero and lives as long as the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    match libc::c_int::try_from(index) {
        Ok(index) if index != 0 => Ok(index),
        _ => Err(io::Error::last_os_error()),
    }
}

fn bind(socket: libc::c_int, index: libc::c_int) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    // SAFETY: pointer and length describe `address`, which lives as long as the call.
    let answer = unsafe {
        libc::bind(socket, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn mtu(socket: libc::c_int, name: &str) -> io::Result<usize> {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // The index was found by this name, so it fits.
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFMTU reads the name and writes an int into the request, which outlives the call.
    let answer = unsafe { libc::ioctl(socket, libc::SIOCGIFMTU as _, &raw mut request) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this member of the union was written.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    usize::try_from(mtu).map_err(io::Error::other)
}

fn set<T>(socket: libc::c_int, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, a plain struct or int that the option takes.
    let answer = unsafe {
        libc::setsockopt(
            socket,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Room for the one control message that [`libc::PACKET_AUXDATA`] brings, aligned as it must be.
type Control = [u64; 8];

/// Reads up to [`BATCH`] frames into `frames`, each of at most `longest` bytes, and says what each
/// is. The buffers are cleared first and grow to what is needed once.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    longest: usize,
    frames: &mut [Vec<u8>],
) -> io::Result<([Taken; BATCH], usize)> {
    let count = frames.len().min(BATCH);
    // SAFETY: all-zero is a valid value of these plain structs.
    let (mut headers, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
        unsafe { (zeroed(), zeroed()) };
    let mut controls = [Control::default(); BATCH];
    for (at, frame) in frames.iter_mut().enumerate().take(count) {
        frame.clear();
        frame.reserve(longest);
        vectors[at] = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: longest };
        let header = &mut headers[at].msg_hdr;
        header.msg_iov = &raw mut vectors[at];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[at]).cast();
        header.msg_controllen = size_of::<Control>() as _;
    }
    // SAFETY: every header points at a vector and a control buffer of this frame of the stack, every
    // vector at `longest` bytes that its Vec has reserved; all outlive the call.
    let answer = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            count as libc::c_uint,
            libc::MSG_TRUNC as _,
            std::ptr::null_mut(),
        )
    };
    let received = usize::try_from(answer).map_err(|_| io::Error::last_os_error())?;
    let mut taken = [Taken::Whole; BATCH];
    for at in 0..received {
        // With MSG_TRUNC this is the frame's true length, which may be more than was stored.
        let length = headers[at].msg_len as usize;
        // SAFETY: the kernel has written the first min(length, longest) bytes.
        unsafe { frames[at].set_len(length.min(longest)) };
        taken[at] = if length > longest {
            Taken::Oversized
        } else if checksum_missing(&headers[at].msg_hdr) {
            Taken::Unfinished
        } else {
            Taken::Whole
        };
    }
    Ok((taken, received))
}

fn checksum_missing(header: &libc::msghdr) -> bool {
    // SAFETY: the kernel filled the header's control buffer, whose length is in the header; the
    // macros stay within it, and the data of this message type is a tpacket_auxdata.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        if message.is_null()
            || (*message).cmsg_level != libc::SOL_PACKET
            || (*message).cmsg_type != libc::PACKET_AUXDATA
        {
            return false;
        }
        let data = libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned();
        data.tp_status & libc::TP_STATUS_CSUMNOTREADY != 0
    }
}

/// Sends the frames as far as the kernel takes them, at most [`BATCH`]; returns how many it took.
pub(super) fn send(socket: BorrowedFd<'_>, frames: &[Vec<u8>]) -> io::Result<usize> {
    let count = frames.len().min(BATCH);
    // SAFETY: all-zero is a valid value of these plain structs.
    let (mut headers, mut vectors): ([libc::mmsghdr; BATCH], [libc::iovec; BATCH]) =
        unsafe { (zeroed(), zeroed()) };
    for (at, frame) in frames.iter().enumerate().take(count) {
        vectors[at] =
            libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        headers[at].msg_hdr.msg_iov = &raw mut vectors[at];
        headers[at].msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: every header points at a vector of this frame of the stack, every vector at the bytes
    // of a borrowed Vec, which the kernel only reads; all outlive the call.
    let answer = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0)
    };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Waits until one of the sockets has a frame, or for `timeout`. A signal ends the wait as well.
pub(super) fn wait(sockets: [BorrowedFd<'_>; 2], timeout: Option<Duration>) -> io::Result<()> {
    let mut polls = sockets.map(|socket| libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    let time = timeout.map(|time| libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let time = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the pointers lead to two pollfd and, if not null, a timespec, which outlive the call.
    let answer = unsafe { libc::ppoll(polls.as_mut_ptr(), 2, time, std::ptr::null()) };
    match answer {
        0.. => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            error => Err(error),
        },
    }
}
