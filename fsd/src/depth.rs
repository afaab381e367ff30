//! How deep directories lie in a volume, and that none lies deeper than EFS allows.
//!
//! A directory's depth is found by going up from it, and remembered until some directory of the volume moves.
//! <https://docs.aws.amazon.com/efs/latest/ug/limits.html>

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::identity;
use crate::inode::Inode;
use crate::sys::file::{self, Stat};
use crate::sys::Errno;
use crate::volume::Volume;

/// Directories below one another, the volume's own root not counted.
pub const DEEPEST: u64 = 1000;
/// While no directory lies deeper than this, what moves to a place no deeper than this needs no look inside.
const HALF: u64 = DEEPEST / 2;

/// A depth that holds until a directory moves.
#[derive(Debug, Default)]
pub struct Known(AtomicU64);

impl Known {
    fn get(&self, moves: u64) -> Option<u64> {
        let packed = self.0.load(Relaxed);
        (packed >> 16 == moves + 1).then_some(packed & 0xffff)
    }

    fn set(&self, moves: u64, depth: u64) {
        self.0.store((moves + 1) << 16 | depth, Relaxed);
    }
}

/// Of one volume.
#[derive(Debug)]
pub struct Depths {
    /// How often a directory changed its place.
    moves: AtomicU64,
    /// A directory may lie deeper than [`HALF`].
    deep: AtomicBool,
}

impl Depths {
    /// `deep`: nobody knows that there is no deep directory in it.
    pub fn new(deep: bool) -> Depths {
        Depths {
            moves: AtomicU64::new(0),
            deep: AtomicBool::new(deep),
        }
    }

    pub fn deep(&self) -> bool {
        self.deep.load(Relaxed)
    }

    /// The whole tree was looked at while nobody could change it.
    pub fn found(&self, deepest: u64) {
        self.deep.store(deepest > HALF, Relaxed);
    }

    fn seen(&self, depth: u64) {
        if depth > HALF {
            self.deep.store(true, Relaxed);
        }
    }
}

impl Volume {
    /// The depth of a directory.
    fn depth(&self, directory: &Inode, fd: RawFd) -> Result<u64, Errno> {
        let moves = self.depths.moves.load(SeqCst);
        if let Some(depth) = directory.depth.get(moves) {
            return Ok(depth);
        }
        let depth = identity::with_capabilities(|| self.way_up(fd))?;
        directory.depth.set(moves, depth);
        self.depths.seen(depth);
        Ok(depth)
    }

    fn way_up(&self, fd: RawFd) -> Result<u64, Errno> {
        let top = file::stat_of(self.root().as_raw_fd())?;
        let is_top = |stat: &Stat| stat.ino() == top.ino() && stat.dev() == top.dev();
        let mut depth = 0;
        let mut here: Option<OwnedFd> = None;
        loop {
            let at = here.as_ref().map_or(fd, AsRawFd::as_raw_fd);
            // More than that is refused anyway; a way that does not end here was moved out of the volume meanwhile.
            if is_top(&file::stat_of(at)?) || depth > 2 * DEEPEST {
                return Ok(depth);
            }
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            here = Some(self.with_descriptors(|| file::open_at(at, c"..", flags, 0))?);
            depth += 1;
        }
    }

    /// Whether a directory may be made in this one.
    ///
    /// # Errors
    /// ENAMETOOLONG where it would lie too deep: EFS's answer to a path that exceeds its quota.
    pub fn admit_directory(&self, parent: &Inode, fd: RawFd) -> Result<(), Errno> {
        let depth = self.depth(parent, fd)? + 1;
        self.depths.seen(depth);
        if depth > DEEPEST {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        Ok(())
    }

    /// The same for one that moves here with all that is in it. `name` in `from` is what moves.
    pub fn admit_moved(
        &self,
        from: (&Inode, RawFd),
        name: &CStr,
        to: (&Inode, RawFd),
    ) -> Result<(), Errno> {
        let before = self.depth(from.0, from.1)? + 1;
        let after = self.depth(to.0, to.1)? + 1;
        if after <= before || (after <= HALF && !self.depths.deep()) {
            return Ok(());
        }
        let height = identity::with_capabilities(|| {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            let moved = self.with_descriptors(|| file::open_at(from.1, name, flags, 0))?;
            height(moved, DEEPEST.saturating_sub(after))
        })?;
        if after + height > DEEPEST {
            return Err(Errno(libc::ENAMETOOLONG));
        }
        self.depths.seen(after + height);
        Ok(())
    }

    /// A directory has changed its place: with it have all below it.
    pub fn directory_moved(&self) {
        self.depths.moves.fetch_add(1, SeqCst);
    }
}

/// How many directories lie below one another in `top`; looks no deeper than `most` + 1.
fn height(top: OwnedFd, most: u64) -> Result<u64, Errno> {
    let mut highest = 0;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    // Named, and opened when it is their turn: a directory may have more of them than there are descriptors.
    let mut pending = vec![(Rc::new(top), c".".to_owned(), 0)];
    let mut buffer = vec![0u8; 32 << 10];
    while let Some((parent, name, level)) = pending.pop() {
        let dir = match file::open_at(parent.as_raw_fd(), &name, flags, 0) {
            Ok(dir) => Rc::new(dir),
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => continue,
            Err(errno) => return Err(errno),
        };
        highest = highest.max(level);
        if highest > most {
            return Ok(highest);
        }
        loop {
            let n = file::read_dir(dir.as_raw_fd(), &mut buffer)?;
            if n == 0 {
                break;
            }
            let mut rest = &buffer[..n];
            while let Some(record) = file::dir_record(rest) {
                rest = rest.get(record.len..).unwrap_or_default();
                let inside = !matches!(record.name.to_bytes(), b"." | b"..");
                if inside && record.kind == libc::DT_DIR {
                    pending.push((Rc::clone(&dir), record.name.to_owned(), level + 1));
                }
            }
        }
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_depth_holds_until_a_directory_moves() {
        let known = Known::default();
        assert_eq!(known.get(0), None);
        known.set(0, 1000);
        assert_eq!(known.get(0), Some(1000));
        assert_eq!(known.get(1), None);
    }

    #[test]
    fn the_height_of_a_tree_is_that_of_its_deepest_directory() {
        let top = std::env::temp_dir().join(format!("fsd-height-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&top);
        std::fs::create_dir_all(top.join("a/b/c/d")).expect("directories");
        std::fs::create_dir_all(top.join("e/f")).expect("directories");
        std::fs::write(top.join("a/b/file"), b"").expect("a file");
        let open = || OwnedFd::from(std::fs::File::open(&top).expect("open"));
        assert_eq!(height(open(), 100).expect("height"), 4);
        assert!(height(open(), 1).expect("height") > 1);
        let _ = std::fs::remove_dir_all(&top);
    }
}
