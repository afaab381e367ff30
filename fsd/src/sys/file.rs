//! Files by descriptor, by name in a directory and by handle.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::{check, check_long, Errno};

const EMPTY: &CStr = c"";

/// What `statx(2)` says of one file.
#[derive(Clone, Copy)]
pub struct Stat(libc::statx);

impl std::fmt::Debug for Stat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stat(ino {}, mode {:o})", self.ino(), self.mode())
    }
}

/// Seconds and nanoseconds of one time stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Stat {
    /// What is known of a file that was not asked: its number, and its mode or at least its kind.
    pub fn of_entry(ino: u64, mode: u32) -> Stat {
        // SAFETY: statx is a struct of integers.
        let mut stat: libc::statx = unsafe { std::mem::zeroed() };
        stat.stx_ino = ino;
        stat.stx_mode = mode as u16;
        stat.stx_nlink = 1;
        Stat(stat)
    }

    pub fn ino(&self) -> u64 {
        self.0.stx_ino
    }
    /// (major, minor) as one number.
    pub fn dev(&self) -> u64 {
        (u64::from(self.0.stx_dev_major) << 32) | u64::from(self.0.stx_dev_minor)
    }
    pub fn size(&self) -> u64 {
        self.0.stx_size
    }
    /// 512-byte blocks in use.
    pub fn blocks(&self) -> u64 {
        self.0.stx_blocks
    }
    pub fn mode(&self) -> u32 {
        u32::from(self.0.stx_mode)
    }
    pub fn nlink(&self) -> u32 {
        self.0.stx_nlink
    }
    pub fn uid(&self) -> u32 {
        self.0.stx_uid
    }
    pub fn gid(&self) -> u32 {
        self.0.stx_gid
    }
    pub fn blksize(&self) -> u32 {
        self.0.stx_blksize
    }
    pub fn atime(&self) -> Time {
        time(&self.0.stx_atime)
    }
    pub fn mtime(&self) -> Time {
        time(&self.0.stx_mtime)
    }
    pub fn ctime(&self) -> Time {
        time(&self.0.stx_ctime)
    }
    /// Birth, where the file system keeps it.
    pub fn btime(&self) -> Option<Time> {
        (self.0.stx_mask & libc::STATX_BTIME != 0).then(|| time(&self.0.stx_btime))
    }
    pub fn kind(&self) -> u32 {
        self.mode() & libc::S_IFMT
    }
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }
}

fn time(stamp: &libc::statx_timestamp) -> Time {
    Time {
        seconds: stamp.tv_sec,
        nanoseconds: stamp.tv_nsec,
    }
}

/// A file's identity on its file system for as long as that exists (`name_to_handle_at`); costs no descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle {
    kind: i32,
    len: u8,
    bytes: [u8; Handle::ROOM],
}

impl Handle {
    pub const ROOM: usize = 24;
    /// `FILEID_INO32_GEN`: the inode number leads, in host order.
    const INO32_GEN: i32 = 1;

    /// A handle from what [`Handle::kind`] and [`Handle::bytes`] told once.
    pub fn from_parts(kind: i32, inner: &[u8]) -> Option<Handle> {
        let mut bytes = [0; Handle::ROOM];
        bytes.get_mut(..inner.len())?.copy_from_slice(inner);
        Some(Handle {
            kind,
            len: inner.len() as u8,
            bytes,
        })
    }

    pub fn kind(&self) -> i32 {
        self.kind
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The inode number inside the handle, where its kind tells one.
    pub fn ino(&self) -> Option<u64> {
        if self.kind != Handle::INO32_GEN {
            return None;
        }
        let bytes = self.bytes.first_chunk::<4>()?;
        Some(u64::from(u32::from_ne_bytes(*bytes)))
    }
}

#[repr(C)]
struct RawHandle {
    len: u32,
    kind: i32,
    bytes: [u8; Handle::ROOM],
}

fn raw_handle(dir: RawFd, name: &CStr, flags: i32) -> Result<Handle, Errno> {
    let mut raw = RawHandle {
        len: Handle::ROOM as u32,
        kind: 0,
        bytes: [0; Handle::ROOM],
    };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: the struct has the kernel's layout with `len` bytes of room; the name lives for the call.
    unsafe {
        check_long(libc::syscall(
            libc::SYS_name_to_handle_at,
            dir,
            name.as_ptr(),
            &mut raw,
            &mut mount_id,
            flags,
        ))?;
    }
    Ok(Handle {
        kind: raw.kind,
        len: raw.len as u8,
        bytes: raw.bytes,
    })
}

/// The handle of an open (or O_PATH) descriptor's file.
pub fn handle_of(fd: RawFd) -> Result<Handle, Errno> {
    raw_handle(fd, EMPTY, libc::AT_EMPTY_PATH)
}

/// The handle of a name in a directory (links are not followed).
pub fn handle_at(dir: RawFd, name: &CStr) -> Result<Handle, Errno> {
    raw_handle(dir, name, 0)
}

/// Opens by handle. `mount` is any real descriptor on the same file system. Needs CAP_DAC_READ_SEARCH.
pub fn open_by_handle(mount: RawFd, handle: &Handle, flags: i32) -> Result<OwnedFd, Errno> {
    let mut raw = RawHandle {
        len: u32::from(handle.len),
        kind: handle.kind,
        bytes: handle.bytes,
    };
    // SAFETY: the struct has the kernel's layout; a result is a descriptor of ours.
    unsafe {
        let fd = check_long(libc::syscall(
            libc::SYS_open_by_handle_at,
            mount,
            &mut raw,
            flags | libc::O_CLOEXEC,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

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

fn stat(dir: RawFd, name: &CStr, flags: i32) -> Result<Stat, Errno> {
    // SAFETY: statx fills the zeroed struct; the name lives for the call.
    unsafe {
        let mut out: libc::statx = std::mem::zeroed();
        check(libc::statx(
            dir,
            name.as_ptr(),
            flags | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT,
            libc::STATX_BASIC_STATS | libc::STATX_BTIME,
            &mut out,
        ))?;
        Ok(Stat(out))
    }
}

pub fn stat_of(fd: RawFd) -> Result<Stat, Errno> {
    stat(fd, EMPTY, libc::AT_EMPTY_PATH)
}

pub fn stat_at(dir: RawFd, name: &CStr) -> Result<Stat, Errno> {
    stat(dir, name, 0)
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

pub fn read_at(fd: RawFd, out: &mut [u8], offset: u64) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most out.len() bytes.
    let n = unsafe { libc::pread(fd, out.as_mut_ptr().cast(), out.len(), offset as i64) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// Appends at most `most` bytes of the file from `offset` on to `out`.
pub fn read_onto(fd: RawFd, out: &mut Vec<u8>, most: usize, offset: u64) -> Result<usize, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno(libc::EINVAL))?;
    out.reserve(most);
    let spare = out.spare_capacity_mut();
    let room = spare.len().min(most);
    // SAFETY: the kernel writes at most `room` bytes into the spare capacity, and as many are initialised then.
    unsafe {
        let n = libc::pread(fd, spare.as_mut_ptr().cast(), room, offset);
        let n = usize::try_from(n).map_err(|_| Errno::last())?;
        out.set_len(out.len() + n);
        Ok(n)
    }
}

/// Likewise what a socket has, without waiting (EAGAIN).
pub fn receive_onto(fd: RawFd, out: &mut Vec<u8>, most: usize) -> Result<usize, Errno> {
    out.reserve(most);
    let spare = out.spare_capacity_mut();
    let room = spare.len().min(most);
    // SAFETY: as in read_onto.
    unsafe {
        let n = libc::recv(fd, spare.as_mut_ptr().cast(), room, libc::MSG_DONTWAIT);
        let n = usize::try_from(n).map_err(|_| Errno::last())?;
        out.set_len(out.len() + n);
        Ok(n)
    }
}

/// Like [`read_at`], but EAGAIN rather than a wait for the disk.
pub fn read_cached_at(fd: RawFd, out: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let part = libc::iovec {
        iov_base: out.as_mut_ptr().cast(),
        iov_len: out.len(),
    };
    // SAFETY: one iovec that describes `out`.
    let n = unsafe { libc::preadv2(fd, &part, 1, offset as i64, libc::RWF_NOWAIT) };
    usize::try_from(n).map_err(|_| Errno::last())
}

pub fn write_at(fd: RawFd, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    // SAFETY: the kernel reads bytes.len() bytes.
    let n = unsafe { libc::pwrite(fd, bytes.as_ptr().cast(), bytes.len(), offset as i64) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// Writes at the end of the file, wherever that is by then.
pub fn append(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    let part = libc::iovec {
        iov_base: bytes.as_ptr() as *mut libc::c_void,
        iov_len: bytes.len(),
    };
    // SAFETY: one iovec that describes `bytes`, which the kernel only reads.
    let n = unsafe { libc::pwritev2(fd, &part, 1, 0, libc::RWF_APPEND) };
    usize::try_from(n).map_err(|_| Errno::last())
}

pub fn seek(fd: RawFd, offset: i64, whence: i32) -> Result<u64, Errno> {
    // SAFETY: integers only.
    let at = unsafe { libc::lseek(fd, offset, whence) };
    u64::try_from(at).map_err(|_| Errno::last())
}

pub fn copy_range(
    from: RawFd,
    from_offset: u64,
    to: RawFd,
    to_offset: u64,
    len: usize,
) -> Result<usize, Errno> {
    let mut source = from_offset as i64;
    let mut target = to_offset as i64;
    // SAFETY: the offsets live on the stack.
    let n = unsafe { libc::copy_file_range(from, &mut source, to, &mut target, len, 0) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// Raw directory records (`struct linux_dirent64`) from the descriptor's position; 0 at the end.
pub fn read_dir(fd: RawFd, out: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most out.len() bytes.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, fd, out.as_mut_ptr(), out.len()) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// One record of [`read_dir`].
#[derive(Debug)]
pub struct DirRecord<'a> {
    pub ino: u64,
    /// The position after this record, for `lseek`.
    pub next: u64,
    pub kind: u8,
    /// With its terminating zero.
    pub name: &'a CStr,
    /// Bytes this record takes.
    pub len: usize,
}

/// The first record of what [`read_dir`] wrote.
pub fn dir_record(bytes: &[u8]) -> Option<DirRecord<'_>> {
    let ino = u64::from_ne_bytes(*bytes.first_chunk::<8>()?);
    let next = u64::from_ne_bytes(*bytes.get(8..)?.first_chunk::<8>()?);
    let len = usize::from(u16::from_ne_bytes(*bytes.get(16..)?.first_chunk::<2>()?));
    let kind = *bytes.get(18)?;
    let name = CStr::from_bytes_until_nul(bytes.get(19..len)?).ok()?;
    Some(DirRecord {
        ino,
        next,
        kind,
        name,
        len,
    })
}

/// Reads once from a device-like descriptor.
pub fn read(fd: RawFd, out: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most out.len() bytes.
    let n = unsafe { libc::read(fd, out.as_mut_ptr().cast(), out.len()) };
    usize::try_from(n).map_err(|_| Errno::last())
}

/// Writes two parts as one message.
pub fn write_pair(fd: RawFd, head: &[u8], body: &[u8]) -> Result<usize, Errno> {
    let parts = [
        libc::iovec {
            iov_base: head.as_ptr() as *mut libc::c_void,
            iov_len: head.len(),
        },
        libc::iovec {
            iov_base: body.as_ptr() as *mut libc::c_void,
            iov_len: body.len(),
        },
    ];
    let count = if body.is_empty() { 1 } else { 2 };
    // SAFETY: the iovecs describe live slices, which writev only reads.
    let n = unsafe { libc::writev(fd, parts.as_ptr(), count) };
    usize::try_from(n).map_err(|_| Errno::last())
}

#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// `_IOW(229, 1, struct fuse_backing_map)` and `_IOW(229, 2, uint32_t)`.
const BACKING_OPEN: libc::c_ulong = 0x4010_e501;
const BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

/// Registers `file` with the connection so that opens of it may bypass the server; the thread's credentials are kept with it.
pub fn backing_open(device: RawFd, file: RawFd) -> Result<i32, Errno> {
    let map = BackingMap {
        fd: file,
        flags: 0,
        padding: 0,
    };
    // SAFETY: the ioctl reads the struct.
    unsafe { check(libc::ioctl(device, BACKING_OPEN, &map)) }
}

pub fn backing_close(device: RawFd, id: i32) {
    let id = id as u32;
    // SAFETY: the ioctl reads the integer.
    unsafe {
        libc::ioctl(device, BACKING_CLOSE, &id);
    }
}

/// Bytes free and in all on the file system of `fd`.
pub fn space(fd: RawFd) -> Result<(u64, u64), Errno> {
    // SAFETY: fstatfs fills the struct on the stack.
    unsafe {
        let mut out: libc::statfs = std::mem::zeroed();
        check(libc::fstatfs(fd, &mut out))?;
        let unit = out.f_bsize as u64;
        Ok((
            out.f_bavail.saturating_mul(unit),
            out.f_blocks.saturating_mul(unit),
        ))
    }
}

/// Whether `fd` lies on overlayfs, which takes up one level of file system stacking.
pub fn is_stacked(fd: RawFd) -> bool {
    const OVERLAYFS_MAGIC: i64 = 0x794c_7630;
    // SAFETY: as in `space`.
    unsafe {
        let mut out: libc::statfs = std::mem::zeroed();
        libc::fstatfs(fd, &mut out) == 0 && out.f_type == OVERLAYFS_MAGIC
    }
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

    #[test]
    fn a_short_directory_record_is_none() {
        assert!(dir_record(&[0; 18]).is_none());
        let mut record = [0u8; 24];
        record[16] = 24;
        record[19..22].copy_from_slice(b"abc");
        assert_eq!(
            dir_record(&record).map(|r| r.name.to_owned()),
            Some(c"abc".to_owned())
        );
        record[22..24].copy_from_slice(b"de");
        assert!(dir_record(&record).is_none(), "a name without its end");
    }
}
