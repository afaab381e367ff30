//! What the kernel says of a file, and of the file system it lies on.

use std::ffi::CStr;
use std::os::fd::RawFd;

use super::EMPTY;
use crate::sys::{check, Errno};

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
