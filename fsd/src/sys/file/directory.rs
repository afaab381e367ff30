//! Records of a directory.

use std::ffi::CStr;
use std::os::fd::RawFd;

use crate::sys::Errno;

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
#[cfg(test)]
mod tests {
    use super::*;

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
