//! One client connection: which part of a volume it sees, as whom it acts, what it has open and what it has moved.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicU8, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};
use std::sync::{Arc, Mutex, OnceLock};

use serde::{Deserialize, Serialize};

use crate::identity::{self, Identity};
use crate::inode::Inode;
use crate::meter::{Class, Meter};
use crate::pacing;
use crate::shards::Shards;
use crate::sys::file::{self, Stat};
use crate::sys::Errno;
use crate::throttle::Pace;
use crate::volume::Volume;

/// The number by which a client knows the root of its mount.
pub const ROOT: u64 = 1;

/// An inode that the client knows, and how often it was told of it.
#[derive(Debug)]
struct Known {
    inode: Arc<Inode>,
    lookups: u64,
}

/// A file that the client has open.
#[derive(Debug)]
pub struct OpenFile {
    /// For attributes; for data too, unless it is `path_only` ([`OpenFile::data`]).
    pub fd: Arc<OwnedFd>,
    /// `fd` is an O_PATH descriptor: the client may read, and does so past the server.
    pub path_only: bool,
    /// One to read by, opened when it is wanted all the same.
    pub reading: OnceLock<OwnedFd>,
    pub inode: Arc<Inode>,
    pub writable: bool,
    pub readable: bool,
    /// Reads and writes go past the server.
    pub passthrough: bool,
    /// The client's kernel may cache what it reads: it does at once, or once somebody reads as a map does.
    pub cached: AtomicBool,
    /// It may be mapped shared, though it is not cached.
    pub mappable: bool,
    /// Size when it was opened, for the estimate of what went past.
    pub size_at_open: u64,
    /// Likewise, of a file that may be written.
    pub mtime_at_open: Option<file::Time>,
}

/// A directory that the client is reading.
#[derive(Debug)]
pub struct OpenDir {
    pub fd: OwnedFd,
    pub inode: Arc<Inode>,
    pub stream: Mutex<Stream>,
}

/// Where a directory descriptor stands, and records that were read and did not fit the last answer.
#[derive(Debug, Default)]
pub struct Stream {
    /// The offset of the next record to hand out.
    pub position: u64,
    pub records: Vec<u8>,
    /// Bytes of `records` handed out.
    pub used: usize,
}

/// What the client may do with the file system, whatever POSIX says of its files: IAM's part. Changes live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    /// No `ClientWrite`: changes fail with EROFS.
    pub read_only: bool,
    /// No `ClientRootAccess`: root's ids act as nobody's.
    pub root_squash: bool,
    /// No `ClientMount` any more: everything fails with EACCES.
    pub denied: bool,
}

const READ_ONLY: u8 = 1;
const ROOT_SQUASH: u8 = 2;
const DENIED: u8 = 4;

impl Permissions {
    fn bits(self) -> u8 {
        let bit = |set, bit| if set { bit } else { 0 };
        bit(self.read_only, READ_ONLY)
            | bit(self.root_squash, ROOT_SQUASH)
            | bit(self.denied, DENIED)
    }
}

#[derive(Debug)]
pub struct Mount {
    /// The supervisor's name for it.
    pub name: String,
    /// Unique in this process; names the client in the lock table.
    pub number: u64,
    pub volume: Arc<Volume>,
    identity: Identity,
    squashed: Identity,
    permissions: AtomicU8,
    pub root: Arc<Inode>,
    pub root_mode: u32,
    /// The client asked for a read-only mount: its own kernel refuses changes.
    pub read_only: bool,
    pub meter: Meter,
    /// This client's own rate, beside the volume's.
    pace: Mutex<Pace>,
    known: Shards<u64, Known>,
    files: Shards<u64, Arc<OpenFile>>,
    dirs: Shards<u64, Arc<OpenDir>>,
    next_handle: AtomicU64,
    ended: AtomicBool,
    opened: AtomicUsize,
    passing: AtomicUsize,
    passing_writers: AtomicUsize,
}

impl OpenFile {
    /// A descriptor to read, seek, synchronise and copy by. What the client may do was decided when it opened the file.
    pub fn data(&self, volume: &Volume) -> Result<RawFd, Errno> {
        if !self.path_only {
            return Ok(self.fd.as_raw_fd());
        }
        if let Some(fd) = self.reading.get() {
            return Ok(fd.as_raw_fd());
        }
        let reopen = || file::reopen(&volume.proc, self.fd.as_raw_fd(), libc::O_RDONLY);
        let fd = identity::with_capabilities(|| volume.with_descriptors(reopen))?;
        Ok(self.reading.get_or_init(|| fd).as_raw_fd())
    }

    /// Pages of a mappable file are read. From here on every change of the file is told to this client before it is answered.
    pub fn pages_read(&self) {
        let begins = self.mappable && !self.cached.load(SeqCst) && self.inode.cached_reader_comes();
        if begins && self.cached.swap(true, SeqCst) {
            self.inode.cached_reader_goes();
        }
    }
}

impl Mount {
    /// `root` is an O_PATH descriptor of the directory that the client will see as `/`.
    pub fn new(
        name: &str,
        number: u64,
        volume: Arc<Volume>,
        identity: Identity,
        root: OwnedFd,
        read_only: bool,
    ) -> Result<Mount, Errno> {
        let stat = file::stat_of(root.as_raw_fd())?;
        let root = volume.intern(root, &stat);
        root.watch(number);
        Ok(Mount {
            name: name.to_owned(),
            number,
            volume,
            squashed: identity.squashed(),
            identity,
            permissions: AtomicU8::new(0),
            root,
            root_mode: stat.mode(),
            read_only,
            meter: Meter::new(),
            pace: Mutex::default(),
            known: Shards::default(),
            files: Shards::default(),
            dirs: Shards::default(),
            next_handle: AtomicU64::new(1),
            ended: AtomicBool::new(false),
            opened: AtomicUsize::new(0),
            passing: AtomicUsize::new(0),
            passing_writers: AtomicUsize::new(0),
        })
    }

    // ---- who it is and what it may

    /// Whom its requests act as now.
    pub fn identity(&self) -> &Identity {
        if self.permissions.load(Relaxed) & ROOT_SQUASH == 0 {
            &self.identity
        } else {
            &self.squashed
        }
    }

    /// From the next request on. What is under way may still be done.
    pub fn permit(&self, permissions: Permissions) {
        self.permissions.store(permissions.bits(), SeqCst);
    }

    pub fn permissions(&self) -> Permissions {
        let bits = self.permissions.load(Relaxed);
        Permissions {
            read_only: bits & READ_ONLY != 0,
            root_squash: bits & ROOT_SQUASH != 0,
            denied: bits & DENIED != 0,
        }
    }

    /// # Errors
    /// EACCES where the client may do nothing at all any more.
    pub fn may_read(&self) -> Result<(), Errno> {
        if self.permissions.load(Relaxed) & DENIED == 0 {
            Ok(())
        } else {
            Err(Errno(libc::EACCES))
        }
    }

    /// # Errors
    /// EROFS where the client may not change anything, as EFS answers.
    pub fn may_change(&self) -> Result<(), Errno> {
        self.may_read()?;
        if self.permissions.load(Relaxed) & READ_ONLY == 0 {
            Ok(())
        } else {
            Err(Errno(libc::EROFS))
        }
    }

    /// Open files whose data goes past the server, so that what `permissions` forbid cannot be stopped there.
    pub fn bypassing(&self, permissions: Permissions) -> usize {
        if permissions.denied {
            self.passing.load(Relaxed)
        } else if permissions.read_only {
            self.passing_writers.load(Relaxed)
        } else {
            0
        }
    }

    pub fn count(&self, class: Class, bytes: u64) {
        self.meter.record(class, bytes);
        self.volume.meter.record(class, bytes);
        self.volume.pacing.charge(&self.pace, class, bytes);
    }

    // ---- inodes

    pub fn inode(&self, node: u64) -> Result<Arc<Inode>, Errno> {
        if node == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        let piece = self.known.piece(&node);
        match piece.get(&node) {
            Some(known) => Ok(Arc::clone(&known.inode)),
            None => Err(Errno(libc::ESTALE)),
        }
    }

    pub fn fd(&self, node: u64) -> Result<(Arc<Inode>, Arc<OwnedFd>), Errno> {
        let inode = self.inode(node)?;
        let fd = self.volume.fd(&inode)?;
        Ok((inode, fd))
    }

    /// The client's number of an inode.
    pub fn node_of(&self, inode: &Inode) -> u64 {
        if inode.id == self.root.id {
            ROOT
        } else {
            inode.id
        }
    }

    /// The client is told of `inode`, whose interest passes to this mount. True when it did not know it before.
    pub fn remember(&self, inode: &Arc<Inode>) -> bool {
        if inode.id == self.root.id {
            self.volume.put(inode);
            return false;
        }
        let mut piece = self.known.piece(&inode.id);
        if let Some(known) = piece.get_mut(&inode.id) {
            known.lookups += 1;
            drop(piece);
            self.volume.put(inode);
            return false;
        }
        if self.ended.load(SeqCst) {
            drop(piece);
            self.volume.put(inode);
            return false;
        }
        inode.watch(self.number);
        let known = Known {
            inode: Arc::clone(inode),
            lookups: 1,
        };
        piece.insert(inode.id, known);
        true
    }

    /// The client dropped `lookups` of its references.
    pub fn forget(&self, node: u64, lookups: u64) {
        if node == ROOT {
            return;
        }
        let mut piece = self.known.piece(&node);
        let Some(known) = piece.get_mut(&node) else {
            return;
        };
        known.lookups = known.lookups.saturating_sub(lookups);
        if known.lookups > 0 {
            return;
        }
        let Some(known) = piece.remove(&node) else {
            return;
        };
        known.inode.unwatch(self.number);
        drop(piece);
        self.volume.put(&known.inode);
    }

    pub fn known(&self) -> usize {
        self.known.len()
    }

    // ---- open files

    pub fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Relaxed)
    }

    pub fn add_file(&self, handle: u64, file: OpenFile) {
        file.inode.opened(file.writable);
        self.opened.fetch_add(1, Relaxed);
        self.passing
            .fetch_add(usize::from(file.passthrough), Relaxed);
        self.passing_writers
            .fetch_add(usize::from(file.passthrough && file.writable), Relaxed);
        let mut piece = self.files.piece(&handle);
        if self.ended.load(SeqCst) {
            drop(piece);
            self.close(&file);
            return;
        }
        piece.insert(handle, Arc::new(file));
    }

    pub fn file(&self, handle: u64) -> Result<Arc<OpenFile>, Errno> {
        let piece = self.files.piece(&handle);
        piece.get(&handle).cloned().ok_or(Errno(libc::EBADF))
    }

    /// Forgets an open file and brings the volume's size up to date.
    pub fn remove_file(&self, handle: u64) -> Result<Arc<OpenFile>, Errno> {
        let removed = self.files.piece(&handle).remove(&handle);
        let file = removed.ok_or(Errno(libc::EBADF))?;
        self.close(&file);
        Ok(file)
    }

    fn close(&self, file: &OpenFile) {
        self.opened.fetch_sub(1, Relaxed);
        let ends = file.inode.closed(file.writable);
        let after = file
            .writable
            .then(|| file::stat_of(file.fd.as_raw_fd()).ok())
            .flatten();
        if let Some(stat) = &after {
            self.volume.settle_at(&file.inode, stat, ends);
        }
        if file.cached.load(SeqCst) {
            file.inode.cached_reader_goes();
        }
        if file.passthrough {
            self.passing.fetch_sub(1, Relaxed);
            if file.writable {
                self.passing_writers.fetch_sub(1, Relaxed);
                file.inode.unseen_writer_goes();
            }
            self.estimate(file, after.as_ref());
        }
    }

    /// What went past the server is counted when the file is closed: a reader is taken to have read the file once, a writer
    /// to have written what it grew by, or all of it when it changed without growing.
    fn estimate(&self, file: &OpenFile, after: Option<&Stat>) {
        match after {
            Some(stat) if Some(stat.mtime()) != file.mtime_at_open => {
                let grown = stat.size().saturating_sub(file.size_at_open);
                let written = if grown > 0 { grown } else { stat.size() };
                self.count_in_requests(Class::Write, written);
            }
            _ if file.readable => self.count_in_requests(Class::Read, file.size_at_open),
            _ => {}
        }
        // Nobody is there to be held back for what is past.
        let _ = pacing::settle();
    }

    fn count_in_requests(&self, class: Class, bytes: u64) {
        const REQUEST: u64 = 1 << 20;
        for _ in 0..(bytes / REQUEST).min(1 << 16) {
            self.count(class, REQUEST);
        }
        if bytes % REQUEST > 0 {
            self.count(class, bytes % REQUEST);
        }
    }

    pub fn open_files(&self) -> usize {
        self.opened.load(Relaxed)
    }

    /// Open files whose data goes past the server.
    pub fn passthrough_files(&self) -> usize {
        self.passing.load(Relaxed)
    }

    /// The files that the client's kernel may have pages of because they are open.
    pub fn cached_files(&self) -> Vec<Arc<OpenFile>> {
        self.files
            .collect(|file| file.cached.load(SeqCst).then(|| Arc::clone(file)))
    }

    pub fn add_dir(&self, handle: u64, dir: OpenDir) {
        self.dirs.piece(&handle).insert(handle, Arc::new(dir));
    }

    pub fn dir(&self, handle: u64) -> Result<Arc<OpenDir>, Errno> {
        let piece = self.dirs.piece(&handle);
        piece.get(&handle).cloned().ok_or(Errno(libc::EBADF))
    }

    pub fn remove_dir(&self, handle: u64) {
        self.dirs.piece(&handle).remove(&handle);
    }

    /// The client is gone: everything it knew or had open goes.
    pub fn end(&self) {
        self.ended.store(true, SeqCst);
        for (_, file) in self.files.drain() {
            self.close(&file);
        }
        self.dirs.drain();
        for (_, known) in self.known.drain() {
            known.inode.unwatch(self.number);
            self.volume.put(&known.inode);
        }
        self.root.unwatch(self.number);
        self.volume.put(&self.root);
    }

    /// Attributes of an inode.
    pub fn stat(&self, node: u64) -> Result<(Arc<Inode>, Stat), Errno> {
        let (inode, fd) = self.fd(node)?;
        let stat = file::stat_of(fd.as_raw_fd())?;
        Ok((inode, stat))
    }
}
