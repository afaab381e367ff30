//! A file system: a backing directory, the inodes that mounts know of it, its locks and its size.
//!
//! Knows nothing of the door a request came through; doors watch it through [`Observer`].

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::depth::Depths;
use crate::identity;
use crate::inode::{metered_bytes, DescriptorCache, Inode, Key};
use crate::meter::Meter;
use crate::pacing::Pacing;
use crate::shards::Shards;
use crate::spreading::{Spreader, Telling};
use crate::sys::file::{self, Stat};
use crate::sys::Errno;
use crate::usage::Usage;
use crate::waiting::Locks;

/// A mount that may have cached something. Called before the request that made the change is answered, on the thread that
/// made it: nothing here may wait for a client.
pub trait Observer: Send + Sync {
    /// Size, times, mode, owner or links of a file changed.
    fn attributes_changed(&self, inode: u64);
    /// Content of a file changed. Waits until the client's kernel has dropped its pages; called by the volume's own thread.
    fn content_changed(&self, inode: u64);
    /// Names in a directory, or the right to search it, changed.
    fn names_changed(&self, directory: u64);
    /// The file's last name is gone: keep nothing open for speed alone.
    fn unlinked(&self, inode: u64);
}

pub struct Volume {
    pub name: String,
    pub backing: PathBuf,
    /// Whether files opened from now on may go past the server to the backing file, where the kernel can.
    pub passthrough: AtomicBool,
    pub pacing: Pacing,
    pub usage: Usage,
    pub meter: Meter,
    /// `/proc/self/fd`.
    pub proc: OwnedFd,
    root: OwnedFd,
    dev: u64,
    inodes: Shards<Key, Arc<Inode>>,
    next_inode: AtomicU64,
    descriptors: Arc<DescriptorCache>,
    pub locks: Locks,
    observers: RwLock<HashMap<u64, Arc<dyn Observer>>>,
    /// Connections of doors that observe nothing.
    pub visitors: AtomicUsize,
    spreader: Spreader,
    pub depths: Depths,
    /// Creating a root directory, and counting links, one at a time.
    exclusive: Mutex<()>,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Volume({})", self.name)
    }
}

impl Volume {
    pub fn open(
        name: &str,
        backing: &Path,
        passthrough: bool,
        descriptors: Arc<DescriptorCache>,
    ) -> Result<Volume, Errno> {
        let path = CString::new(backing.as_os_str().as_encoded_bytes())
            .map_err(|_| Errno(libc::EINVAL))?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let root = file::open_at(libc::AT_FDCWD, &path, flags, 0)?;
        let stat = file::stat_of(root.as_raw_fd())?;
        let usage = Usage::open(backing);
        Ok(Volume {
            name: name.to_owned(),
            backing: backing.to_owned(),
            passthrough: AtomicBool::new(passthrough),
            pacing: Pacing::default(),
            depths: Depths::new(usage.deep()),
            usage,
            meter: Meter::new(),
            proc: file::proc_fd_dir()?,
            root,
            dev: stat.dev(),
            inodes: Shards::default(),
            next_inode: AtomicU64::new(2),
            descriptors,
            locks: Locks::default(),
            observers: RwLock::default(),
            visitors: AtomicUsize::new(0),
            spreader: Spreader::default(),
            exclusive: Mutex::default(),
        })
    }

    /// A descriptor of the backing directory itself.
    pub fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Held while something is checked and then done that two clients may want at once.
    pub fn exclusively(&self) -> MutexGuard<'_, ()> {
        self.exclusive
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub fn known_inodes(&self) -> usize {
        self.inodes.len()
    }

    /// Does `act`, which takes up space; when there is none left, once more without what removed files still hold for speed.
    pub fn with_space<T>(&self, act: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match act() {
            Err(Errno(libc::ENOSPC | libc::EDQUOT)) => {
                self.descriptors.let_nameless_go();
                act()
            }
            other => other,
        }
    }

    /// Does `act`, which opens something; when descriptors have run out, once more without those kept for speed.
    pub fn with_descriptors<T>(&self, act: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match act() {
            Err(Errno(libc::EMFILE)) => {
                self.descriptors.empty();
                act()
            }
            other => other,
        }
    }

    // ---- inodes

    fn key(&self, fd: RawFd, stat: &Stat) -> Key {
        let handle = if stat.dev() == self.dev {
            file::handle_of(fd).ok()
        } else {
            None
        };
        let (dev, ino) = (stat.dev(), stat.ino());
        handle.map_or(Key::Pinned { dev, ino }, Key::Handle)
    }

    /// The inode of an O_PATH descriptor, with one more interest in it: give it back with [`Volume::put`].
    pub fn intern(&self, fd: OwnedFd, stat: &Stat) -> Arc<Inode> {
        let key = self.key(fd.as_raw_fd(), stat);
        self.intern_key(key, Some(Arc::new(fd)))
    }

    /// The inode of a file that a client is opening as `fd`, likewise.
    pub fn intern_opened(&self, fd: &OwnedFd, stat: &Stat) -> Result<Arc<Inode>, Errno> {
        let key = self.key(fd.as_raw_fd(), stat);
        let own = match key {
            Key::Handle(_) => None,
            Key::Pinned { .. } => {
                let path = file::reopen(&self.proc, fd.as_raw_fd(), libc::O_PATH)?;
                Some(Arc::new(path))
            }
        };
        Ok(self.intern_key(key, own))
    }

    /// The inode of a name, without a descriptor left open where the file system gives handles.
    pub fn intern_name(&self, dir: RawFd, name: &CStr) -> Result<(Arc<Inode>, Stat), Errno> {
        let stat = file::stat_at(dir, name)?;
        if stat.dev() == self.dev {
            if let Ok(handle) = file::handle_at(dir, name) {
                // The name may have changed hands between the two calls; the inode number in the handle tells.
                if handle.ino() == Some(stat.ino()) {
                    return Ok((self.intern_key(Key::Handle(handle), None), stat));
                }
            }
        }
        self.lookup(dir, name)
    }

    /// The inode of a name, with a descriptor kept for what comes next.
    pub fn lookup(&self, dir: RawFd, name: &CStr) -> Result<(Arc<Inode>, Stat), Errno> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = self.with_descriptors(|| file::open_at(dir, name, flags, 0))?;
        let stat = file::stat_of(fd.as_raw_fd())?;
        Ok((self.intern(fd, &stat), stat))
    }

    /// The inode of a key that a door kept, with one more interest; `None` for one that only an open descriptor names.
    /// Whether the file still exists shows when a descriptor is wanted (ESTALE).
    pub fn intern_handle(&self, key: &Key) -> Option<Arc<Inode>> {
        matches!(key, Key::Handle(_)).then(|| self.intern_key(*key, None))
    }

    fn intern_key(&self, key: Key, fd: Option<Arc<OwnedFd>>) -> Arc<Inode> {
        let mut piece = self.inodes.piece(&key);
        let mut admit = false;
        let inode = match piece.get(&key) {
            Some(inode) => {
                let mut state = inode.state();
                state.interest += 1;
                if state.fd.is_none() && !state.unlinked {
                    admit = fd.is_some();
                    state.fd = fd;
                }
                drop(state);
                Arc::clone(inode)
            }
            None => {
                let id = self.next_inode.fetch_add(1, Relaxed);
                admit = fd.is_some() && matches!(key, Key::Handle(_));
                let inode = Arc::new(Inode::new(id, key, fd));
                inode.state().interest = 1;
                piece.insert(key, Arc::clone(&inode));
                inode
            }
        };
        drop(piece);
        if admit {
            self.descriptors.admit(&inode);
        }
        inode
    }

    /// Gives back one interest; an inode that nobody is interested in is forgotten.
    pub fn put(&self, inode: &Arc<Inode>) {
        let mut piece = self.inodes.piece(&inode.key);
        let mut state = inode.state();
        state.interest = state.interest.saturating_sub(1);
        if state.interest == 0 {
            drop(state);
            piece.remove(&inode.key);
        }
    }

    /// An O_PATH descriptor of the inode that is open as `fd`, kept for what comes next.
    pub fn path_fd(&self, inode: &Arc<Inode>, fd: RawFd) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(path) = &inode.state().fd {
            return Ok(Arc::clone(path));
        }
        let reopen = || file::reopen(&self.proc, fd, libc::O_PATH);
        let path = Arc::new(self.with_descriptors(reopen)?);
        let mut state = inode.state();
        if state.fd.is_none() && !state.unlinked {
            state.fd = Some(Arc::clone(&path));
            state.recent = true;
            drop(state);
            self.descriptors.admit(inode);
        }
        Ok(path)
    }

    /// Any descriptor of the inode: good for `*at` calls, attributes and reopening.
    pub fn fd(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>, Errno> {
        {
            let mut state = inode.state();
            if let Some(fd) = state.any_fd() {
                return Ok(fd);
            }
        }
        let Key::Handle(handle) = &inode.key else {
            return Err(Errno(libc::ESTALE));
        };
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let opened = identity::with_capabilities(|| {
            self.with_descriptors(|| file::open_by_handle(self.root.as_raw_fd(), handle, flags))
        })?;
        let fd = Arc::new(opened);
        {
            let mut state = inode.state();
            if let Some(other) = &state.fd {
                return Ok(Arc::clone(other));
            }
            if state.unlinked {
                return Ok(fd);
            }
            state.fd = Some(Arc::clone(&fd));
            state.recent = true;
        }
        self.descriptors.admit(inode);
        Ok(fd)
    }

    // ---- coherence

    pub fn observe(&self, mount: u64, observer: Arc<dyn Observer>) {
        self.observers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(mount, observer);
    }

    pub fn stop_observing(&self, mount: u64) {
        self.observers
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&mount);
    }

    pub fn mounts(&self) -> usize {
        self.observers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Clients of every kind.
    pub fn connections(&self) -> usize {
        self.mounts() + self.visitors.load(Relaxed)
    }

    fn tell(&self, mounts: &[u64], what: impl Fn(&dyn Observer)) {
        if mounts.is_empty() {
            return;
        }
        let observers = self
            .observers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for mount in mounts {
            if let Some(observer) = observers.get(mount) {
                what(observer.as_ref());
            }
        }
    }

    /// Mount `by` changed the inode's attributes.
    pub fn attributes_changed(&self, inode: &Inode, by: u64) {
        let others = inode.other_watchers(by);
        self.tell(&others, |observer| observer.attributes_changed(inode.id));
    }

    /// Calls `answer` once no client has pages of `inodes`, which have just changed, any more.
    pub fn content_changed(self: &Arc<Volume>, inodes: Vec<Arc<Inode>>, answer: Telling) {
        let volume = Arc::downgrade(self);
        self.spreader.spread(Box::new(move || {
            if let Some(volume) = volume.upgrade() {
                for inode in inodes {
                    volume.tell_of_content(&inode, u64::MAX);
                }
            }
            answer();
        }));
    }

    /// Mount `by` changed the content of a file, and nobody waits until the others have heard of it.
    pub fn content_written_back(self: &Arc<Volume>, inode: &Arc<Inode>, by: u64) {
        let volume = Arc::downgrade(self);
        let inode = Arc::clone(inode);
        self.spreader.spread(Box::new(move || {
            if let Some(volume) = volume.upgrade() {
                volume.tell_of_content(&inode, by);
            }
        }));
    }

    fn tell_of_content(&self, inode: &Inode, by: u64) {
        // Not under the lock of the observers: this waits, and they come and go meanwhile.
        let observers: Vec<Arc<dyn Observer>> = {
            let known = self
                .observers
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            let everyone = inode.other_watchers(by);
            let found = everyone.iter().filter_map(|mount| known.get(mount));
            found.cloned().collect()
        };
        for observer in observers {
            observer.content_changed(inode.id);
        }
    }

    /// Mount `by` changed names in a directory (and with them its times).
    pub fn names_changed(&self, directory: &Inode, by: u64) {
        let others = directory.other_watchers(by);
        self.tell(&others, |observer| {
            observer.names_changed(directory.id);
            observer.attributes_changed(directory.id);
        });
    }

    /// Names changed in a place where no client can be told apart from another.
    pub fn tell_everyone_of_names(&self) {
        let observers = self
            .observers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        for observer in observers.values() {
            observer.names_changed(0);
        }
    }

    /// The inode that is going to lose a name, if any mount knows it. Give it back with [`Volume::put`].
    pub fn known_at(&self, dir: RawFd, name: &CStr, stat: &Stat) -> Option<Arc<Inode>> {
        let handle = file::handle_at(dir, name).ok();
        let key = match handle {
            Some(handle) if stat.dev() == self.dev => Key::Handle(handle),
            _ => Key::Pinned {
                dev: stat.dev(),
                ino: stat.ino(),
            },
        };
        let piece = self.inodes.piece(&key);
        let inode = piece.get(&key)?;
        inode.state().interest += 1;
        Some(Arc::clone(inode))
    }

    /// A name of a file that had `stat` before is gone.
    pub fn name_removed(&self, inode: Option<&Arc<Inode>>, stat: &Stat, by: u64) {
        let last = stat.is_dir() || stat.nlink() <= 1;
        if !last {
            if let Some(inode) = inode {
                self.attributes_changed(inode, by);
            }
            return;
        }
        let Some(inode) = inode else {
            self.usage.add(-(metered_bytes(stat) as i64), -1);
            return;
        };
        let charged = {
            let mut state = inode.state();
            if state.unlinked {
                return;
            }
            state.unlinked = true;
            state.charged.take().unwrap_or(metered_bytes(stat))
        };
        self.usage.add(-(charged as i64), -1);
        if !stat.is_dir() {
            self.descriptors
                .bury(inode, stat.blocks().saturating_mul(512));
        }
        let everyone = inode.other_watchers(u64::MAX);
        self.tell(&everyone, |observer| observer.unlinked(inode.id));
        self.attributes_changed(inode, by);
    }

    // ---- size

    /// A file with these attributes came into being.
    pub fn created(&self, stat: &Stat) {
        self.usage.add(metered_bytes(stat) as i64, 1);
    }

    /// From now on the file may grow unseen: remember what is counted for it.
    pub fn writing_begins(&self, inode: &Inode, stat: &Stat) {
        let mut state = inode.state();
        state.size = None;
        if state.charged.is_none() && !state.unlinked {
            state.charged = Some(metered_bytes(stat));
        }
    }

    /// Brings the usage up to date with the file's present size; `ends` when nobody writes any more.
    pub fn settle(&self, inode: &Inode, fd: RawFd, ends: bool) {
        if let Ok(stat) = file::stat_of(fd) {
            self.settle_at(inode, &stat, ends);
        }
    }

    /// The same where its attributes have just been asked for.
    pub fn settle_at(&self, inode: &Inode, stat: &Stat, ends: bool) {
        let now = metered_bytes(stat);
        let mut state = inode.state();
        let quiet = state.write_opens == 0 && stat.is_file();
        state.size = quiet.then(|| stat.size());
        let Some(before) = state.charged else {
            return;
        };
        state.charged = (!ends || state.write_opens > 0).then_some(now);
        drop(state);
        self.usage.add(now as i64 - before as i64, 0);
    }

    /// The size changed from `before` to `after` in one step that was seen.
    pub fn resized(&self, inode: &Inode, before: &Stat, after: &Stat) {
        let now = metered_bytes(after);
        let mut state = inode.state();
        state.size = None;
        if state.unlinked {
            return;
        }
        let counted = state.charged.unwrap_or(metered_bytes(before));
        if state.charged.is_some() {
            state.charged = Some(now);
        }
        drop(state);
        self.usage.add(now as i64 - counted as i64, 0);
    }

    /// Removes everything in the backing directory. No mount may be left.
    pub fn empty(&self) -> Result<(), Errno> {
        for entry in std::fs::read_dir(&self.backing)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        self.usage.clear();
        let own = file::stat_of(self.root.as_raw_fd())?;
        self.usage.add(metered_bytes(&own) as i64, 0);
        Ok(())
    }
}
