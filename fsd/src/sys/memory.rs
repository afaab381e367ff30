//! Anonymous memory that costs nothing until it is touched.

use super::Errno;

/// A private anonymous mapping, unmapped on drop.
#[derive(Debug)]
pub struct Region {
    start: *mut u8,
    len: usize,
}

// SAFETY: the region is plain memory owned by this value; access goes through &self/&mut self or, for ring entries, is
// ordered by the kernel's hand-over of the entry.
unsafe impl Send for Region {}
// SAFETY: as above; shared references only hand out raw pointers.
unsafe impl Sync for Region {}

impl Region {
    /// `len` bytes, rounded up to pages by the kernel, zero and not yet resident.
    pub fn reserve(len: usize) -> Result<Region, Errno> {
        // SAFETY: an anonymous mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // Huge pages would make an idle connection's first small request cost 2 MiB.
        // SAFETY: the range is the mapping just made.
        unsafe {
            libc::madvise(start, len, libc::MADV_NOHUGEPAGE);
        }
        Ok(Region {
            start: start.cast(),
            len,
        })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn address(&self) -> usize {
        self.start as usize
    }

    /// Gives the pages of a range back to the kernel; the next read finds zeros.
    pub fn release(&self, offset: usize, len: usize) {
        if offset % 4096 != 0 || offset.saturating_add(len) > self.len {
            return;
        }
        // SAFETY: the range lies inside this mapping.
        unsafe {
            libc::madvise(self.start.add(offset).cast(), len, libc::MADV_DONTNEED);
        }
    }

    /// The bytes of a range.
    ///
    /// # Safety
    /// Nobody else (thread or kernel) may access the range while the slice lives.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, offset: usize, len: usize) -> &mut [u8] {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        std::slice::from_raw_parts_mut(self.start.add(offset), len)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no reference into it outlives this value.
        unsafe {
            libc::munmap(self.start.cast(), self.len);
        }
    }
}
