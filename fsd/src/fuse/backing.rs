//! Files registered with a connection, so that the kernel reads and writes them without asking (FUSE passthrough).
//!
//! All open files of one inode in one mount must share one registration. It outlives the last of them for a while, because
//! the next open of the same file is likely. Which one goes then is drawn by lot, as with descriptors ([`crate::inode`]):
//! of a tree that is too big the oldest is what comes next.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

use crate::lot::Lot;
use crate::shards::Piece;
use crate::sys::{file, Errno};

/// Registrations without an open file that every mount may keep,
const IDLE: usize = 256;
/// that a mount may keep while there are few in all,
const MOST_IDLE: usize = 8192;
/// and how many are few. Each keeps its file in the kernel's memory: some 2 KiB.
const FEW: usize = 16_384;

/// Registrations without an open file, of all mounts.
static ALL_IDLE: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Backing {
    id: i32,
    opens: u32,
    /// Where it stands in `idle`.
    place: Option<usize>,
    /// The file has no name any more: do not keep it beyond the last close.
    unlinked: bool,
}

/// The registrations of one connection, by inode id.
#[derive(Debug, Default)]
pub struct Backings {
    by_inode: Piece<u64, Backing>,
    /// Those without an open file, and some that are open again.
    idle: Vec<u64>,
    lot: Lot,
}

impl Backings {
    /// The registration for one more open file of `inode`. `path` gives an O_PATH descriptor of it.
    pub fn open(
        &mut self,
        device: RawFd,
        inode: u64,
        path: impl FnOnce() -> Result<Arc<OwnedFd>, Errno>,
    ) -> Result<i32, Errno> {
        if let Some(backing) = self.by_inode.get_mut(&inode) {
            backing.opens += 1;
            return Ok(backing.id);
        }
        let id = file::backing_open(device, path()?.as_raw_fd())?;
        let backing = Backing {
            id,
            opens: 1,
            place: None,
            unlinked: false,
        };
        self.by_inode.insert(inode, backing);
        Ok(id)
    }

    /// One open file fewer.
    pub fn close(&mut self, device: RawFd, inode: u64) {
        let Some(backing) = self.by_inode.get_mut(&inode) else {
            return;
        };
        backing.opens = backing.opens.saturating_sub(1);
        if backing.opens > 0 || backing.place.is_some() {
            return;
        }
        if backing.unlinked {
            self.remove(device, inode);
            return;
        }
        backing.place = Some(self.idle.len());
        self.idle.push(inode);
        ALL_IDLE.fetch_add(1, Relaxed);
        while self.too_many() {
            let drawn = self.lot.draw(self.idle.len());
            self.unlist(device, drawn);
        }
    }

    /// The file's last name is gone.
    pub fn unlinked(&mut self, device: RawFd, inode: u64) {
        let Some(backing) = self.by_inode.get_mut(&inode) else {
            return;
        };
        backing.unlinked = true;
        if let Some(place) = backing.place {
            self.unlist(device, place);
        }
    }

    fn too_many(&self) -> bool {
        let kept = self.idle.len();
        kept > MOST_IDLE || (kept > IDLE && ALL_IDLE.load(Relaxed) > FEW)
    }

    /// Takes what stands at `place` from the idle ones, and ends it unless it is open again.
    fn unlist(&mut self, device: RawFd, place: usize) {
        let inode = self.idle.swap_remove(place);
        ALL_IDLE.fetch_sub(1, Relaxed);
        let moved = self.idle.get(place);
        if let Some(backing) = moved.and_then(|moved| self.by_inode.get_mut(moved)) {
            backing.place = Some(place);
        }
        if let Some(backing) = self.by_inode.get_mut(&inode) {
            backing.place = None;
            if backing.opens == 0 {
                self.remove(device, inode);
            }
        }
    }

    fn remove(&mut self, device: RawFd, inode: u64) {
        if let Some(backing) = self.by_inode.remove(&inode) {
            file::backing_close(device, backing.id);
        }
    }
}

impl Drop for Backings {
    fn drop(&mut self) {
        ALL_IDLE.fetch_sub(self.idle.len(), Relaxed);
    }
}
