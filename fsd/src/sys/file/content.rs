//! What is in a file: reading, writing, seeking, copying.

use std::os::fd::RawFd;

use crate::sys::Errno;

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
