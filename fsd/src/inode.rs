//! The files that mounts know: found again by file handle, so that a million of them need no descriptor.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::lot::Lot;
use crate::sys::file::{Handle, Stat};

/// What makes two descriptors the same file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// The file system gives handles: the inode can be closed and opened again.
    Handle(Handle),
    /// No handle, or another file system beneath the volume: the inode stays open while it is known.
    Pinned { dev: u64, ino: u64 },
}

/// The mounts that hold a reference to an inode. Nearly always one.
#[derive(Debug, Default)]
pub enum Watchers {
    #[default]
    Nobody,
    One(u64),
    Several(Vec<u64>),
}

impl Watchers {
    fn add(&mut self, mount: u64) {
        match self {
            Watchers::Nobody => *self = Watchers::One(mount),
            Watchers::One(one) if *one != mount => *self = Watchers::Several(vec![*one, mount]),
            Watchers::One(_) => {}
            Watchers::Several(all) => {
                if !all.contains(&mount) {
                    all.push(mount);
                }
            }
        }
    }

    fn remove(&mut self, mount: u64) {
        match self {
            Watchers::One(one) if *one == mount => *self = Watchers::Nobody,
            Watchers::Several(all) => {
                all.retain(|one| *one != mount);
                if let [one] = all[..] {
                    *self = Watchers::One(one);
                }
            }
            _ => {}
        }
    }

    /// Those other than `mount`.
    fn others(&self, mount: u64) -> Vec<u64> {
        match self {
            Watchers::Nobody => Vec::new(),
            Watchers::One(one) if *one == mount => Vec::new(),
            Watchers::One(one) => vec![*one],
            Watchers::Several(all) => all.iter().copied().filter(|one| *one != mount).collect(),
        }
    }
}

/// A descriptor for every open file of one identity with the same flags: reads and writes name their offsets, so nothing
/// but the kernel's table of descriptors knows the difference.
#[derive(Debug)]
struct Shared {
    flags: i32,
    identity: u64,
    fd: Weak<OwnedFd>,
}

/// What of an inode changes.
#[derive(Debug, Default)]
pub struct State {
    /// An O_PATH descriptor of the file. Without one, an open file's will do ([`State::any_fd`]).
    pub fd: Option<Arc<OwnedFd>>,
    /// Used since the descriptor cache last came by.
    pub recent: bool,
    /// Open files.
    pub opens: u32,
    /// Open files that may write.
    pub write_opens: u32,
    /// Bytes that the volume's usage counts for this file, while somebody may change them unseen.
    pub charged: Option<u64>,
    /// Size of a regular file when it was last seen, as long as nobody may change it unseen.
    pub size: Option<u64>,
    /// Its last name is gone, and so is its part of the usage.
    pub unlinked: bool,
    pub watchers: Watchers,
    /// Descriptors that clients' open files share.
    shared: Vec<Shared>,
    /// References of mounts and of requests under way; changed under the table's lock alone.
    pub interest: u32,
}

impl State {
    /// A descriptor for `*at` calls, attributes and reopening.
    pub fn any_fd(&mut self) -> Option<Arc<OwnedFd>> {
        if let Some(fd) = &self.fd {
            self.recent = true;
            return Some(Arc::clone(fd));
        }
        self.shared.iter().find_map(|shared| shared.fd.upgrade())
    }
}

/// One file, directory, link or special file of a volume.
#[derive(Debug)]
pub struct Inode {
    /// Unique in the volume, never used again.
    pub id: u64,
    pub key: Key,
    state: Mutex<State>,
    /// Above 0: open files through which data may change without the server seeing it. Below 0: open files whose data a
    /// client's kernel caches. There are never both.
    modes: AtomicI32,
    /// A client wrote pages of a map back since that was last waited for.
    pub wrote_back: AtomicBool,
    /// A lock was taken on it at some time: closing has to look.
    pub locked: AtomicBool,
    /// Of a directory: held while a name in it is changed in more than one step.
    naming: Mutex<()>,
    /// Of a directory: how far below the volume's root it lies.
    pub depth: crate::depth::Known,
}

impl Inode {
    pub fn new(id: u64, key: Key, fd: Option<Arc<OwnedFd>>) -> Inode {
        let state = State {
            fd,
            ..State::default()
        };
        Inode {
            id,
            key,
            state: Mutex::new(state),
            modes: AtomicI32::new(0),
            wrote_back: AtomicBool::new(false),
            locked: AtomicBool::new(false),
            naming: Mutex::default(),
            depth: crate::depth::Known::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody else changes names in this directory meanwhile, through any mount.
    pub fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same of two directories (or of one twice).
    pub fn naming_both<'a>(
        &'a self,
        other: &'a Inode,
    ) -> (MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>) {
        match self.id.cmp(&other.id) {
            std::cmp::Ordering::Equal => (self.naming(), None),
            std::cmp::Ordering::Less => {
                let first = self.naming();
                (first, Some(other.naming()))
            }
            std::cmp::Ordering::Greater => {
                let first = other.naming();
                (first, Some(self.naming()))
            }
        }
    }

    pub fn watch(&self, mount: u64) {
        self.state().watchers.add(mount);
    }

    pub fn unwatch(&self, mount: u64) {
        self.state().watchers.remove(mount);
    }

    /// The mounts other than `mount` that know this inode.
    pub fn other_watchers(&self, mount: u64) -> Vec<u64> {
        self.state().watchers.others(mount)
    }

    /// False when some client caches the file: then it must not be written unseen.
    pub fn unseen_writer_comes(&self) -> bool {
        let more = |modes: i32| (modes >= 0).then(|| modes + 1);
        self.modes.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    pub fn unseen_writer_goes(&self) {
        self.modes.fetch_sub(1, SeqCst);
    }

    /// False when somebody may write the file unseen: then nobody may cache it.
    pub fn cached_reader_comes(&self) -> bool {
        let more = |modes: i32| (modes <= 0).then(|| modes - 1);
        self.modes.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    pub fn cached_reader_goes(&self) {
        self.modes.fetch_add(1, SeqCst);
    }

    /// Whether a client's kernel may have pages of the file.
    pub fn cached_somewhere(&self) -> bool {
        self.modes.load(SeqCst) < 0
    }

    /// Whether attributes may change without the server seeing it; nobody may cache them then.
    pub fn changes_unseen(&self) -> bool {
        self.modes.load(SeqCst) > 0
    }

    /// Closes the descriptor that is kept for speed.
    fn let_go(&self) {
        self.state().fd = None;
    }

    /// The descriptor that open files of `identity` with `flags` have in common; `fd`, just opened (and so permitted), is
    /// it if there is none yet.
    pub fn share(&self, fd: OwnedFd, flags: i32, identity: u64) -> Arc<OwnedFd> {
        let mut state = self.state();
        state.shared.retain(|shared| shared.fd.strong_count() > 0);
        let common = state
            .shared
            .iter()
            .filter(|shared| shared.flags == flags && shared.identity == identity)
            .find_map(|shared| shared.fd.upgrade());
        if let Some(common) = common {
            return common;
        }
        let fd = Arc::new(fd);
        state.shared.push(Shared {
            flags,
            identity,
            fd: Arc::downgrade(&fd),
        });
        fd
    }

    /// An open file does with `path`, an O_PATH descriptor of the inode: found again as long as one of them has it.
    pub fn hold(&self, path: &Arc<OwnedFd>) {
        let mut state = self.state();
        state.shared.retain(|shared| shared.fd.strong_count() > 0);
        let held = |shared: &Shared| std::ptr::eq(shared.fd.as_ptr(), Arc::as_ptr(path));
        if !state.shared.iter().any(held) {
            state.shared.push(Shared {
                flags: libc::O_PATH,
                identity: 0,
                fd: Arc::downgrade(path),
            });
        }
    }

    /// The size of a regular file that nobody may change unseen, where it is known.
    pub fn size(&self) -> Option<u64> {
        self.state().size
    }

    /// The file had `stat` a moment ago.
    pub fn seen(&self, stat: &Stat) {
        let mut state = self.state();
        if state.charged.is_none() {
            state.size = stat.is_file().then(|| stat.size());
        }
    }

    /// A client opened the file.
    pub fn opened(&self, writable: bool) {
        let mut state = self.state();
        state.opens += 1;
        state.write_opens += u32::from(writable);
    }

    /// A client's open file is closed. True when it was the last one that may write.
    pub fn closed(&self, writable: bool) -> bool {
        let mut state = self.state();
        state.opens = state.opens.saturating_sub(1);
        state.write_opens = state.write_opens.saturating_sub(u32::from(writable));
        writable && state.write_opens == 0
    }
}

/// Keeps the number of descriptors that are open for speed alone below a bound. Which one goes is drawn by lot: clients walk
/// through trees in order, and of a tree that is too big the oldest is what they come to next.
#[derive(Debug)]
pub struct DescriptorCache {
    kept: Mutex<Kept>,
    most: usize,
    /// Files without a name that a client may be about to open or ask about.
    nameless: Mutex<VecDeque<Weak<Inode>>>,
}

#[derive(Debug)]
struct Kept {
    inodes: Vec<Weak<Inode>>,
    bound: usize,
    lot: Lot,
}

/// What is left of the bound when descriptors have run out again and again.
const LEAST: usize = 64;
/// One of so many evictions raises a lowered bound by one.
const RECOVERY: u64 = 64;

/// How many small nameless files keep their descriptor for the clients that found them a moment ago.
const NAMELESS: usize = 256;
/// What "small" is: the disk space that waits is bounded by the product. Larger ones answer ESTALE, upon which the client's
/// kernel looks the name up again.
const SMALL: u64 = 128 << 10;

impl DescriptorCache {
    /// Keeps at most `most`.
    pub fn new(most: usize) -> DescriptorCache {
        DescriptorCache {
            kept: Mutex::new(Kept {
                inodes: Vec::new(),
                bound: most,
                lot: Lot::default(),
            }),
            most,
            nameless: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last name of `inode`, a file of `bytes`, is gone.
    pub fn bury(&self, inode: &Arc<Inode>, bytes: u64) {
        if !matches!(inode.key, Key::Handle(_)) {
            return;
        }
        if bytes > SMALL {
            inode.let_go();
            return;
        }
        let mut nameless = self.nameless.lock().unwrap_or_else(PoisonError::into_inner);
        nameless.push_back(Arc::downgrade(inode));
        if nameless.len() > NAMELESS {
            let oldest = nameless.pop_front().and_then(|oldest| oldest.upgrade());
            drop(nameless);
            if let Some(oldest) = oldest {
                oldest.let_go();
            }
        }
    }

    /// The disk is full: files without a name are not kept for anybody.
    pub fn let_nameless_go(&self) {
        let mut nameless = self.nameless.lock().unwrap_or_else(PoisonError::into_inner);
        let all = std::mem::take(&mut *nameless);
        drop(nameless);
        for inode in all.iter().filter_map(Weak::upgrade) {
            inode.let_go();
        }
    }

    /// The process runs out of descriptors: closes all that no client has open, and keeps fewer for a while.
    pub fn empty(&self) {
        let all = {
            let mut kept = self.kept();
            kept.bound = (kept.inodes.len() / 2).max(LEAST).min(self.most);
            std::mem::take(&mut kept.inodes)
        };
        for inode in all.iter().filter_map(Weak::upgrade) {
            if matches!(inode.key, Key::Handle(_)) {
                inode.let_go();
            }
        }
    }

    /// `inode` has just been given a descriptor.
    pub fn admit(&self, inode: &Arc<Inode>) {
        let mut kept = self.kept();
        kept.inodes.push(Arc::downgrade(inode));
        let mut second_chances = 0;
        while kept.inodes.len() > kept.bound {
            let among = kept.inodes.len();
            let drawn = kept.lot.draw(among);
            let Some(victim) = kept.inodes[drawn].upgrade() else {
                kept.inodes.swap_remove(drawn);
                continue;
            };
            let mut state = victim.state();
            if state.recent && second_chances < 8 {
                second_chances += 1;
                state.recent = false;
                continue;
            }
            state.fd = None;
            drop(state);
            kept.inodes.swap_remove(drawn);
            if kept.bound < self.most && kept.lot.one_in(RECOVERY) {
                kept.bound += 1;
            }
        }
    }
}

/// Bytes that a file counts for in its file system's size: a regular file its size in steps of 4 KiB, less its holes;
/// anything else 4 KiB. <https://docs.aws.amazon.com/efs/latest/ug/metered-sizes.html>
pub fn metered_bytes(stat: &Stat) -> u64 {
    const STEP: u64 = 4096;
    if stat.is_file() {
        let logical = stat.size().div_ceil(STEP).saturating_mul(STEP);
        logical.min(stat.blocks().saturating_mul(512))
    } else {
        STEP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode() -> Inode {
        Inode::new(2, Key::Pinned { dev: 1, ino: 2 }, None)
    }

    #[test]
    fn nobody_caches_what_somebody_writes_unseen() {
        let inode = inode();
        assert!(inode.unseen_writer_comes() && inode.unseen_writer_comes());
        assert!(inode.changes_unseen() && !inode.cached_reader_comes());
        inode.unseen_writer_goes();
        inode.unseen_writer_goes();
        assert!(inode.cached_reader_comes() && inode.cached_somewhere());
        assert!(!inode.unseen_writer_comes());
        inode.cached_reader_goes();
        assert!(!inode.cached_somewhere() && inode.unseen_writer_comes());
    }

    #[test]
    fn open_files_share_a_descriptor_by_identity_and_flags() {
        let inode = inode();
        let open = || OwnedFd::from(std::fs::File::open("/dev/null").expect("/dev/null"));
        let first = inode.share(open(), libc::O_RDONLY, 1);
        assert!(Arc::ptr_eq(&first, &inode.share(open(), libc::O_RDONLY, 1)));
        assert!(!Arc::ptr_eq(
            &first,
            &inode.share(open(), libc::O_RDONLY, 2)
        ));
        assert!(!Arc::ptr_eq(&first, &inode.share(open(), libc::O_RDWR, 1)));
        drop(first);
        assert!(
            inode.state().any_fd().is_none(),
            "closed with its last user"
        );
    }

    #[test]
    fn a_part_of_a_tree_too_big_stays_open_while_it_is_walked_again_and_again() {
        let cache = DescriptorCache::new(50);
        let null = Arc::new(OwnedFd::from(
            std::fs::File::open("/dev/null").expect("/dev/null"),
        ));
        let inodes: Vec<Arc<Inode>> = (0..100).map(|_| Arc::new(inode())).collect();
        let open = || {
            let has = |inode: &&Arc<Inode>| inode.state().fd.is_some();
            inodes.iter().filter(has).count()
        };
        let mut found = 0;
        for _ in 0..20 {
            for inode in &inodes {
                if inode.state().any_fd().is_some() {
                    found += 1;
                    continue;
                }
                inode.state().fd = Some(Arc::clone(&null));
                cache.admit(inode);
                assert!(open() <= 50);
            }
        }
        assert!(found > 300, "{found} of 2,000");
        cache.empty();
        assert!(
            open() > 0,
            "what has no handle stays open as long as it is known"
        );
    }

    #[test]
    fn what_has_no_name_is_kept_until_its_space_is_wanted() {
        let cache = DescriptorCache::new(50);
        let handle = Handle::from_parts(1, &[7; 8]).expect("a handle");
        let null = OwnedFd::from(std::fs::File::open("/dev/null").expect("/dev/null"));
        let small = Arc::new(Inode::new(2, Key::Handle(handle), Some(Arc::new(null))));
        cache.bury(&small, 4096);
        assert!(small.state().fd.is_some());
        cache.let_nameless_go();
        assert!(small.state().fd.is_none());
    }

    #[test]
    fn watchers_shrink_back() {
        let mut watchers = Watchers::default();
        for mount in [3, 3, 5, 7] {
            watchers.add(mount);
        }
        assert_eq!(watchers.others(3), [5, 7]);
        watchers.remove(5);
        watchers.remove(9);
        watchers.remove(3);
        assert!(matches!(watchers, Watchers::One(7)));
        assert!(watchers.others(7).is_empty());
    }
}
