//! Files by handle: named for as long as they exist, at the cost of no descriptor.

use std::ffi::CStr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::EMPTY;
use crate::sys::{check_long, Errno};

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
