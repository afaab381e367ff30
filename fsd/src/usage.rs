//! How big a file system is: counted as it changes, kept in a side file beside the directory.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::inode::metered_bytes;
use crate::sys::{file, Errno};

/// Size of one file system. `bytes` as EFS meters them, `files` of any kind without the root.
#[derive(Debug)]
pub struct Usage {
    bytes: AtomicI64,
    files: AtomicI64,
    /// The first count is done (or was on disk).
    known: AtomicBool,
    /// A directory may lie deep in the tree, as far as was recorded.
    deep: bool,
    record: PathBuf,
}

/// The side file. `settled` is false while a server has the volume open: after a crash the tree is counted again.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    bytes: i64,
    files: i64,
    settled: bool,
    #[serde(default = "unknown_is_deep")]
    deep: bool,
}

fn unknown_is_deep() -> bool {
    true
}

impl Usage {
    /// Reads what was recorded for `backing` and marks it as in use.
    pub fn open(backing: &Path) -> Usage {
        let mut name = std::ffi::OsString::from(".");
        name.push(backing.file_name().unwrap_or_default());
        name.push(".usage");
        let record = backing.with_file_name(name);
        let stored = std::fs::read(&record)
            .ok()
            .and_then(|text| serde_json::from_slice::<Record>(&text).ok())
            .filter(|stored| stored.settled);
        let usage = Usage {
            bytes: AtomicI64::new(stored.as_ref().map_or(0, |stored| stored.bytes)),
            files: AtomicI64::new(stored.as_ref().map_or(0, |stored| stored.files)),
            known: AtomicBool::new(stored.is_some()),
            deep: stored.as_ref().is_none_or(|stored| stored.deep),
            record,
        };
        usage.store(false, true);
        usage
    }

    pub fn known(&self) -> bool {
        self.known.load(Relaxed)
    }

    pub fn add(&self, bytes: i64, files: i64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.files.fetch_add(files, Relaxed);
    }

    pub fn bytes(&self) -> u64 {
        u64::try_from(self.bytes.load(Relaxed)).unwrap_or(0)
    }

    pub fn files(&self) -> u64 {
        u64::try_from(self.files.load(Relaxed)).unwrap_or(0)
    }

    /// Starts over for an emptied tree.
    pub fn clear(&self) {
        self.bytes.store(0, Relaxed);
        self.files.store(0, Relaxed);
        self.known.store(true, Relaxed);
    }

    /// Counts the tree from `walk` on, for at most `most` files; true when it is done. Run it before the first mount where
    /// that is quick: beside requests, a file that changes while the walk comes by may be counted twice.
    pub fn count(&self, walk: &mut Walk, most: u64) -> Result<bool, Errno> {
        if !walk.go_on(most)? {
            return Ok(false);
        }
        self.add(walk.bytes as i64, walk.files as i64);
        self.known.store(true, Relaxed);
        Ok(true)
    }

    /// Whether a directory may lie deep in the tree (see [`crate::depth`]), as the last life left it.
    pub fn deep(&self) -> bool {
        self.deep
    }

    /// The volume is closed in order: the figures are final.
    pub fn close(&self, deep: bool) {
        if self.known() {
            self.store(true, deep);
        }
    }

    /// Takes the side file away with its volume.
    pub fn forget(&self) {
        let _ = std::fs::remove_file(&self.record);
    }

    fn store(&self, settled: bool, deep: bool) {
        let record = Record {
            bytes: self.bytes.load(Relaxed),
            files: self.files.load(Relaxed),
            settled,
            deep,
        };
        let part = self.record.with_extension("usage.part");
        let written = serde_json::to_vec(&record)
            .map_err(std::io::Error::from)
            .and_then(|text| write_private(&part, &text))
            .and_then(|()| std::fs::rename(&part, &self.record));
        if let Err(error) = written {
            tracing::warn!(%error, record = %self.record.display(), "usage not recorded; the tree is counted again at the next start");
        }
    }
}

fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(text)
}

/// A walk over a tree that can pause.
#[derive(Debug)]
pub struct Walk {
    /// Directories to visit, with their depth.
    pending: Vec<(OwnedFd, u64)>,
    deepest: u64,
    linked: HashSet<(u64, u64)>,
    bytes: u64,
    files: u64,
}

impl Walk {
    pub fn new(root: &OwnedFd) -> Result<Walk, Errno> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let top = file::open_beneath(root.as_raw_fd(), c".", flags)?;
        Ok(Walk {
            bytes: metered_bytes(&file::stat_of(top.as_raw_fd())?),
            files: 0,
            pending: vec![(top, 0)],
            deepest: 0,
            linked: HashSet::new(),
        })
    }

    /// Visits whole directories until it has seen `most` files more; true when nothing is left.
    fn go_on(&mut self, most: u64) -> Result<bool, Errno> {
        let stop = self.files.saturating_add(most);
        let mut buffer = vec![0u8; 64 << 10];
        while let Some((dir, depth)) = self.pending.pop() {
            self.deepest = self.deepest.max(depth);
            self.visit(&dir, depth, &mut buffer)?;
            if self.files >= stop {
                break;
            }
        }
        Ok(self.pending.is_empty())
    }

    /// How deep the directories visited lie.
    pub fn deepest(&self) -> u64 {
        self.deepest
    }

    fn visit(&mut self, dir: &OwnedFd, depth: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        loop {
            let n = file::read_dir(dir.as_raw_fd(), buffer)?;
            if n == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..n];
            while let Some(record) = file::dir_record(rest) {
                rest = rest.get(record.len..).unwrap_or_default();
                if !matches!(record.name.to_bytes(), b"." | b"..") {
                    self.add(dir, depth, record.name)?;
                }
            }
        }
    }

    fn add(&mut self, dir: &OwnedFd, depth: u64, name: &CStr) -> Result<(), Errno> {
        let Ok(stat) = file::stat_at(dir.as_raw_fd(), name) else {
            return Ok(());
        };
        let more_names = !stat.is_dir() && stat.nlink() > 1;
        if more_names && !self.linked.insert((stat.dev(), stat.ino())) {
            return Ok(());
        }
        self.bytes += metered_bytes(&stat);
        self.files += 1;
        if stat.is_dir() {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            match file::open_at(dir.as_raw_fd(), name, flags, 0) {
                Ok(child) => self.pending.push((child, depth + 1)),
                Err(Errno(libc::ENOENT)) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fsd-usage-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("volume/sub")).expect("a directory");
        path.join("volume")
    }

    #[test]
    fn a_tree_is_counted_once_and_remembered_when_closed() {
        let volume = directory("remember");
        std::fs::write(volume.join("sub/file"), vec![1u8; 10_000]).expect("a file");
        std::fs::hard_link(volume.join("sub/file"), volume.join("again")).expect("a link");
        let root = OwnedFd::from(std::fs::File::open(&volume).expect("open"));
        let usage = Usage::open(&volume);
        assert!(!usage.known());
        let mut walk = Walk::new(&root).expect("walk");
        assert!(!usage.count(&mut walk, 1).expect("count"), "paused");
        assert!(usage.count(&mut walk, u64::MAX).expect("count"));
        assert_eq!(usage.files(), 2);
        assert_eq!(usage.bytes(), 4096 + 4096 + 12_288);
        assert_eq!(walk.deepest(), 1);
        usage.close(false);
        let again = Usage::open(&volume);
        assert!(again.known() && !again.deep());
        assert_eq!((again.bytes(), again.files()), (usage.bytes(), 2));
        let after_crash = Usage::open(&volume);
        assert!(
            !after_crash.known() && after_crash.deep(),
            "opened and never closed"
        );
        let _ = std::fs::remove_dir_all(volume.parent().expect("parent"));
    }
}
