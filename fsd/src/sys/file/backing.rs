//! Files that a FUSE connection reads and writes past its server.

use std::os::fd::RawFd;

use crate::sys::{check, Errno};

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
