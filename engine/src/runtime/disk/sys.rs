//! The few system calls that the standard library does not offer: opening beneath a directory, and
//! reading only what is in memory.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileExt as _;

/// How far a lookup may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effort {
    /// Only what the kernel has in its caches, of this file system alone: never waits, `EAGAIN`
    /// otherwise, or `EXDEV`. Linux 5.12.
    Cached,
    /// To the disk.
    Full,
}

const OPEN_FLAGS: i32 = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;

/// Opens `path` beneath `root` with `openat2`: no symbolic link, no `..` and no mount trick leads
/// out of it. Links that stay inside are followed. Linux 5.6.
#[expect(unsafe_code, reason = "the standard library has no openat2")]
pub(super) fn open_beneath(root: &File, path: &str, effort: Effort) -> io::Result<File> {
    #[cfg(test)]
    count();
    let path = CString::new(path)?;
    // SAFETY: `open_how` is a plain structure of integers, for which zero is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = OPEN_FLAGS as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    if effort == Effort::Cached {
        how.resolve |= libc::RESOLVE_CACHED | libc::RESOLVE_NO_XDEV;
    }
    // SAFETY: `path` is a terminated string and `how` a structure of the size given; the kernel
    // only reads both, during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    };
    owned(result)
}

/// Opens `path` beneath `root` one component at a time, following no symbolic link at all. For
/// kernels and sandboxes without `openat2`.
#[expect(unsafe_code, reason = "the standard library has no openat")]
pub(super) fn open_walking(root: &File, path: &str) -> io::Result<File> {
    #[cfg(test)]
    count();
    let mut at = root.try_clone()?;
    for component in path.split('/') {
        if component == ".." {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        let name = CString::new(component)?;
        // SAFETY: `name` is a terminated string that outlives the call.
        let result =
            unsafe { libc::openat(at.as_raw_fd(), name.as_ptr(), OPEN_FLAGS | libc::O_NOFOLLOW) };
        at = owned(result.into())?;
    }
    Ok(at)
}

/// Reads only what the page cache holds: `EAGAIN` if that is nothing, `EOPNOTSUPP` if the file
/// system cannot say. Linux 4.14.
#[expect(unsafe_code, reason = "the standard library has no preadv2")]
pub(super) fn read_cached(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    #[cfg(test)]
    count();
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let vector = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: `vector` describes `into`, which is valid for writes and exclusively borrowed.
    let result =
        unsafe { libc::preadv2(file.as_raw_fd(), &raw const vector, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Reads, however long that takes.
pub(super) fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(test)]
    count();
    file.read_at(into, offset)
}

/// Asks what a file is like now: on a local file system that is in memory while it is open.
pub(super) fn facts(file: &File) -> io::Result<Metadata> {
    #[cfg(test)]
    count();
    file.metadata()
}

#[cfg(test)]
thread_local! {
    /// Calls of this thread that may wait for whoever serves the file system.
    pub(super) static CALLS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
fn count() {
    CALLS.set(CALLS.get() + 1);
}

/// Asks the kernel to start reading a range; it may or may not.
#[expect(unsafe_code, reason = "the standard library has no posix_fadvise")]
pub(super) fn read_ahead(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: no memory is passed; the descriptor is open.
    let _ =
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, length, libc::POSIX_FADV_WILLNEED) };
}

/// Whose files are ours.
#[expect(unsafe_code, reason = "the standard library has no geteuid")]
pub(super) fn user() -> u32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes the calling thread one that runs, and reads, when nobody else wants to.
#[expect(unsafe_code, reason = "the standard library has no priorities")]
pub(super) fn lower_priority() {
    /// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_IDLE` of `linux/ioprio.h`.
    const WHO_THREAD: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: numbers alone are passed; 0 is the calling thread. That it may fail does not matter.
    let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    // SAFETY: the same.
    let _ = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_THREAD, 0, IDLE) };
}

/// What kind of file system this is on, as `linux/magic.h` counts them.
#[expect(unsafe_code, reason = "the standard library has no fstatfs")]
fn kind(file: &File) -> Option<u32> {
    // SAFETY: `statfs` is a plain structure of integers, for which zero is a valid value.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `about` is valid, and exclusively borrowed for the call.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) };
    // The type is 32 bits of a wider field on some machines.
    (result == 0).then_some(about.f_type as u32)
}

const TMPFS: u32 = 0x0102_1994;
const RAMFS: u32 = 0x8584_58f6;

/// Whether all of it is in memory.
pub(super) fn is_memory(file: &File) -> bool {
    matches!(kind(file), Some(TMPFS | RAMFS))
}

/// Whether this kernel serves the file system from a disk of its own, or from memory, so that nobody
/// else can keep waiting whoever asks for what is in its caches. An overlay is taken for what lies
/// below it nearly always.
pub(super) fn is_near(file: &File) -> bool {
    /// ext2 to ext4, XFS, Btrfs, ZFS, F2FS, bcachefs, overlayfs, SquashFS, EROFS, ISO 9660, UDF, FAT,
    /// exFAT, JFS, NILFS2, ReiserFS.
    const NEAR: [u32; 16] = [
        0xef53,
        0x5846_5342,
        0x9123_683e,
        0x2fc1_2fc1,
        0xf2f5_2010,
        0xca45_1a4e,
        0x794c_7630,
        0x7371_7368,
        0xe0f5_e1e2,
        0x9660,
        0x1501_3346,
        0x4d44,
        0x2011_bab0,
        0x3153_464a,
        0x3434,
        0x5265_4973,
    ];
    kind(file).is_some_and(|kind| matches!(kind, TMPFS | RAMFS) || NEAR.contains(&kind))
}

/// Whether changes to this directory may come from other hosts, or from a process, of which the
/// kernel here tells nobody.
pub(super) fn is_remote(directory: &File) -> bool {
    /// `linux/magic.h` and the file systems' own: NFS, FUSE, CIFS, SMB2, 9P, Ceph, AFS (two), GFS2,
    /// OCFS2, Lustre, GPFS, coda, vboxsf.
    const REMOTE: [u32; 14] = [
        0x6969,
        0x6573_5546,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
        0x00c3_6400,
        0x5346_414f,
        0x6b41_4653,
        0x0116_1970,
        0x7461_636f,
        0x0bd0_0bd0,
        0x4750_4653,
        0x7375_7245,
        0x786f_4256,
    ];
    kind(directory).is_none_or(|kind| REMOTE.contains(&kind))
}

/// The descriptor that a system call returned.
#[expect(unsafe_code, reason = "a descriptor from a system call has to be claimed once")]
fn owned(result: i64) -> io::Result<File> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us; nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into()),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
