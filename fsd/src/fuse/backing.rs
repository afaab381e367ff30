//! Files registered with a connection, so that the kernel reads and writes them without asking (FUSE passthrough).
//!
//! All open files of one inode in one mount must share one registration. It outlives the last of them for a while, because
//! the next open of the same file is likely.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sys::{file, Errno};
use std::sync::Arc;

/// Registrations without an open file that a mount keeps.
const IDLE: usize = 256;

#[derive(Debug)]
struct Backing {
    id: i32,
    opens: u32,
    /// The file has no name any more: do not keep it beyond the last close.
    unlinked: bool,
}

/// The registrations of one connection, by inode id.
#[derive(Debug, Default)]
pub struct Backings {
    by_inode: HashMap<u64, Backing>,
    /// May name inodes that are open again or gone.
    idle: VecDeque<u64>,
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
        if backing.opens > 0 {
            return;
        }
        if backing.unlinked {
            self.drop_idle(device, inode);
            return;
        }
        self.idle.push_back(inode);
        while self.idle.len() > IDLE {
            if let Some(oldest) = self.idle.pop_front() {
                self.drop_idle(device, oldest);
            }
        }
    }

    /// The file's last name is gone.
    pub fn unlinked(&mut self, device: RawFd, inode: u64) {
        if let Some(backing) = self.by_inode.get_mut(&inode) {
            backing.unlinked = true;
            self.drop_idle(device, inode);
        }
    }

    fn drop_idle(&mut self, device: RawFd, inode: u64) {
        let idle = self
            .by_inode
            .get(&inode)
            .is_some_and(|backing| backing.opens == 0);
        if !idle {
            return;
        }
        if let Some(backing) = self.by_inode.remove(&inode) {
            file::backing_close(device, backing.id);
        }
    }
}
