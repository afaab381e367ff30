//! Files by descriptor, by name in a directory and by handle.

mod backing;
mod content;
mod directory;
mod handle;
mod stat;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{check, check_long, Errno};

pub use backing::{backing_close, backing_open};
pub use content::{
    append, copy_range, read, read_at, read_cached_at, read_onto, receive_onto, seek, write_at,
    write_pair,
};
pub use directory::{dir_record, read_dir, DirRecord};
pub use handle::{handle_at, handle_of, open_by_handle, Handle};
pub use stat::{is_stacked, space, stat_at, stat_of, Stat, Time};

const EMPTY: &CStr = c"";

pub fn open_at(dir: RawFd, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the name lives for the call; a result is a descriptor of ours.
    unsafe {
        let fd = check(libc::openat(
            dir,
            name.as_ptr(),
            flags | libc::O_CLOEXEC,
            mode,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// `openat2` that cannot leave `dir`, follow a link or cross into another mount.
pub fn open_beneath(dir: RawFd, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: open_how is zeroed integers; the path lives for the call; a result is a descriptor of ours.
    unsafe {
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = (flags | libc::O_CLOEXEC) as u64;
        how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
        let fd = check_long(libc::syscall(
            libc::SYS_openat2,
            dir,
            path.as_ptr(),
            &how,
            std::mem::size_of::<libc::open_how>(),
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// May the thread's credentials do `mask` (R_OK, W_OK, X_OK) with the descriptor's file?
pub fn access(fd: RawFd, mask: i32) -> Result<(), Errno> {
    // SAFETY: only integers and a static string.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_faccessat2,
            fd,
            EMPTY.as_ptr(),
            mask,
            libc::AT_EACCESS | libc::AT_EMPTY_PATH,
        ))?;
    }
    Ok(())
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) => $call:expr) => {
        $(#[$doc])*
        pub fn $name($($arg: $kind),*) -> Result<(), Errno> {
            // SAFETY: integers and strings that live for the call.
            unsafe {
                check($call)?;
            }
            Ok(())
        }
    };
}

named!(make_dir(dir: RawFd, name: &CStr, mode: u32) => libc::mkdirat(dir, name.as_ptr(), mode));
named!(make_node(dir: RawFd, name: &CStr, mode: u32) => libc::mknodat(dir, name.as_ptr(), mode, 0));
named!(make_symlink(dir: RawFd, name: &CStr, target: &CStr) => libc::symlinkat(target.as_ptr(), dir, name.as_ptr()));
named!(unlink(dir: RawFd, name: &CStr) => libc::unlinkat(dir, name.as_ptr(), 0));
named!(remove_dir(dir: RawFd, name: &CStr) => libc::unlinkat(dir, name.as_ptr(), libc::AT_REMOVEDIR));
named!(
    /// `source` is a name in `proc` (`/proc/self/fd`), followed to the file it stands for.
    link(proc: RawFd, source: &CStr, dir: RawFd, name: &CStr)
        => libc::linkat(proc, source.as_ptr(), dir, name.as_ptr(), libc::AT_SYMLINK_FOLLOW)
);
named!(chmod_at(proc: RawFd, name: &CStr, mode: u32) => libc::fchmodat(proc, name.as_ptr(), mode, 0));
named!(chmod_of(fd: RawFd, mode: u32) => libc::fchmod(fd, mode));
named!(
    /// An id of `u32::MAX` is left as it is.
    chown_of(fd: RawFd, uid: u32, gid: u32)
        => libc::fchownat(fd, EMPTY.as_ptr(), uid, gid, libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW)
);
named!(truncate(fd: RawFd, size: i64) => libc::ftruncate(fd, size));
named!(sync(fd: RawFd) => libc::fsync(fd));
named!(sync_content(fd: RawFd) => libc::fdatasync(fd));
named!(allocate(fd: RawFd, mode: i32, offset: i64, len: i64) => libc::fallocate(fd, mode, offset, len));

pub fn rename(
    from: RawFd,
    name: &CStr,
    to: RawFd,
    new_name: &CStr,
    flags: u32,
) -> Result<(), Errno> {
    // SAFETY: integers and strings that live for the call.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_renameat2,
            from,
            name.as_ptr(),
            to,
            new_name.as_ptr(),
            flags,
        ))?;
    }
    Ok(())
}

/// What one of the two times of `utimensat` becomes.
#[derive(Clone, Copy, Debug)]
pub enum NewTime {
    Keep,
    Now,
    At(Time),
}

impl NewTime {
    fn raw(self) -> libc::timespec {
        match self {
            NewTime::Keep => libc::timespec {
                tv_sec: 0,
                tv_nsec: libc::UTIME_OMIT,
            },
            NewTime::Now => libc::timespec {
                tv_sec: 0,
                tv_nsec: libc::UTIME_NOW,
            },
            NewTime::At(time) => libc::timespec {
                tv_sec: time.seconds,
                tv_nsec: i64::from(time.nanoseconds),
            },
        }
    }
}

pub fn set_times(fd: RawFd, atime: NewTime, mtime: NewTime) -> Result<(), Errno> {
    let times = [atime.raw(), mtime.raw()];
    // SAFETY: two timespecs on the stack. The raw call, because libc's futimens refuses O_PATH descriptors.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_utimensat,
            fd,
            EMPTY.as_ptr(),
            times.as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW,
        ))?;
    }
    Ok(())
}

/// The target of a symbolic link by its O_PATH descriptor; bytes written to `out`.
pub fn read_link(fd: RawFd, out: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most out.len() bytes.
    let n = unsafe {
        libc::readlinkat(
            fd,
            EMPTY.as_ptr(),
            out.as_mut_ptr().cast::<libc::c_char>(),
            out.len(),
        )
    };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// A descriptor's name in `/proc/self/fd`, without allocation.
#[derive(Debug)]
pub struct FdName([u8; 12]);

impl FdName {
    pub fn new(fd: RawFd) -> FdName {
        let mut digits = [0u8; 12];
        let mut value = fd.unsigned_abs();
        let mut at = digits.len() - 1;
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        digits.copy_within(at.., 0);
        FdName(digits)
    }

    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(EMPTY)
    }
}

/// A new descriptor of `/proc/self/fd`.
pub fn proc_fd_dir() -> Result<OwnedFd, Errno> {
    open_at(
        libc::AT_FDCWD,
        c"/proc/self/fd",
        libc::O_PATH | libc::O_DIRECTORY,
        0,
    )
}

/// Opens what `fd` (O_PATH) stands for with `flags`; permissions are checked again, as the thread's credentials.
pub fn reopen(proc: &OwnedFd, fd: RawFd, flags: i32) -> Result<OwnedFd, Errno> {
    open_at(proc.as_raw_fd(), FdName::new(fd).as_cstr(), flags, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_names() {
        assert_eq!(FdName::new(0).as_cstr(), c"0");
        assert_eq!(FdName::new(19_999).as_cstr(), c"19999");
        assert_eq!(FdName::new(i32::MAX).as_cstr(), c"2147483647");
    }
}
